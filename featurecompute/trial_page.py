"""What a participant sees: one session of one experiment as a page that can be clicked through.

In: a run with stimuli and trial lists.  Out: an HTML file that needs nothing else, whose answers are a trial table.
Knows no torch and no answer of anyone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from featurecompute.errors import RunError, nearest
from featurecompute.files import plain, whole
from featurecompute.manifest import Run
from featurecompute.pages import data_url, render
from featurecompute.pictures import find_pictures
from featurecompute.sessions import REFERENCES, read_sessions
from featurecompute.stimuli import images_of

_KEPT = ["trial", "phase", "catch", "representation", "layer", "depth", "feature", "pair", "stimulus", "target_side"]


def write_trial_page(run: Run, path: Path, *, experiment: str | None = None, participant: str | None = None) -> Path:
    """Write the session of a participant as a page.

    Parameters
    ----------
    run
        A run with stimuli and trial lists.
    path
        File to write.
    experiment
        None: the first of the lists.
    participant
        A place in its lists; None: the first.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    RunError
        If there are no trial lists, or not these, or the file cannot be written.
    """
    sessions = read_sessions(run)
    trials = _choose(sessions, "experiment", experiment)
    trials = _choose(trials, "participant", participant)
    pictures = find_pictures(run, sorted(images_of(trials)))
    places = {image: place for place, image in enumerate(pictures)}
    first = trials.iloc[0]
    session = {
        "experiment": first["experiment"],
        "participant": first["participant"],
        "pictures": [data_url(picture.read(), f"image/{picture.kind}") for picture in pictures.values()],
        "trials": [_trial(row, places) for row in trials.to_dict("records")],
    }
    text = render("trials.html", session=plain(session))
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _choose(trials: pd.DataFrame, column: str, name: str | None) -> pd.DataFrame:
    known = trials[column].unique()
    if name is None:
        name = known[0]
    if name not in known:
        some = ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
        raise RunError(f"--{column} is '{name}', which has no trial list{nearest(name, known)}; there are {some}.")
    return trials[trials[column] == name]


def _trial(row: Mapping[Any, Any], places: Mapping[str, int]) -> dict[str, Any]:
    kept = {name: None if pd.isna(row[name]) else row[name] for name in _KEPT}
    queries = {side: places[row[side]] for side in ("left", "right")}
    return kept | queries | {name: [places[image] for image in row[name]] for name in REFERENCES}
