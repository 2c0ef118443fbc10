"""Trials in the folders of Zimmermann et al.'s experiment of 2023, to be served to its page; and read back.

In: sessions, and the bytes of their pictures.  Out: one folder a participant, one for practice.  Knows no run.

As that page's loader has it (github.com/brendel-group/imi: mturk/2afc/task.js, and the script that made its folders,
tools/data_generation/create_task_structure_from_json.py):

- ``NAMESPACE/task_I/index.json``, I from 1: task_name is ``NAMESPACE/task_I``; catch_trial_idxs counts trials from 1;
- ``NAMESPACE/task_I/trials/trial_J``, J from 1: queries ``max.png`` (the one that belongs with the right-hand, maximal
  references) and ``min.png``; references ``max_K.png`` and ``min_K.png``, with K counted down from 8, so that
  ``max_8.png`` comes first and fewer than nine end above 0. Only nine are shown;
- ``demo_NAMESPACE``, whose index also says how many of its trials, the first, are obvious: four of these and one of the
  others are practised, chosen and ordered by the page;
- the page chooses the sides of the queries itself, and explains references that are all natural if the namespace's
  name holds the word natural.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from featurecompute.errors import RunError
from featurecompute.files import read_json

MOST = 9
"""References that the page shows at each end."""
_ENDS = ("max", "min")
_KEY = ["experiment", "participant", "trial", "phase", "catch", "representation", "layer", "depth", "feature", "pair"]


def write_tasks(
    folder: Path,
    sessions: pd.DataFrame,
    practice: pd.DataFrame,
    hard: int,
    read: Callable[[str], bytes],
) -> pd.DataFrame:
    """Write a namespace for each experiment, a task in it for each participant, and its practice.

    Parameters
    ----------
    folder
        Where they go: what the page calls an experiment.
    sessions
        Trials as `featurecompute.sessions.read_sessions` returns them.
    practice
        Stimuli of practice, the easier ones first.
    hard
        How many stimuli of an experiment's practice, the last, are harder.
    read
        Returns the bytes of an image as PNG.

    Returns
    -------
    pandas.DataFrame
        The key to the answers: `task` and `task_trial` as the page sends them, then whose trial it is and what it
        shows; `trial` is that of the trial lists, where practice counts too.

    Raises
    ------
    RunError
        If the ends differ in their number of references, or there are more than the page shows.
    """
    keys = []
    main = sessions[sessions["phase"] != "practice"]
    for experiment, trials in main.groupby("experiment", sort=False):
        namespace = _namespace(str(experiment), trials["reference_kind"])
        for number, (_, rows) in enumerate(trials.groupby("participant", sort=False), 1):
            name = f"{namespace}/task_{number}"
            _write_task(folder, name, rows, read)
            own = rows[[*_KEY, "stimulus", "version"]].reset_index(drop=True)
            keys.append(own.assign(task=name, task_trial=own.index + 1))
        demo = practice[practice["experiment"] == experiment]
        _write_task(folder, f"demo_{namespace}", demo, read, n_obvious_trials=max(len(demo) - hard, 0))
    return pd.concat(keys)[["task", "task_trial", *_KEY, "stimulus", "version"]]


def read_tasks(folder: Path) -> pd.DataFrame:
    """Read the tasks of a folder as the page would load them.

    Parameters
    ----------
    folder
        Holds namespaces and their practice.

    Returns
    -------
    pandas.DataFrame
        One row a picture: `task` (its name, practice after the tasks of its namespace), `trial` (from 1), `catch`,
        `role` (query, reference), `end` (max, min), `number` (from 0, in the order of the page's list), `file` (from
        `folder`), `sha256`.

    Raises
    ------
    RunError
        If there is no task, or an index or a picture is missing or damaged.
    """
    tasks = sorted(folder.glob("*/task_*/index.json"), key=lambda path: (path.parts[-3], len(path.parts[-2]), path))
    rows: list[dict[str, Any]] = []
    for index in [*tasks, *sorted(folder.glob("demo_*/index.json"))]:
        rows += _read_task(folder, index)
    if not rows:
        raise RunError(f"{folder} holds no tasks: none of its folders has a task_1/index.json.")
    return pd.DataFrame(rows)


def _namespace(experiment: str, kinds: pd.Series) -> str:
    natural = (kinds == "natural").all() and "natural" not in experiment
    return f"{experiment}_natural" if natural else experiment


def _write_task(folder: Path, name: str, rows: pd.DataFrame, read: Callable[[str], bytes], **more: int) -> None:
    count = _count_references(name, rows)
    for trial, row in enumerate(rows.to_dict("records"), 1):
        files = {"queries/max.png": row["query_target"], "queries/min.png": row["query_distractor"]}
        for end in _ENDS:
            files |= dict(zip(_references(end, count), row[f"references_{end}"], strict=True))
        for file, image in files.items():
            path = folder / name / "trials" / f"trial_{trial}" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read(image))
    index = {
        "task_name": name,
        "n_reference_images": count,
        "n_trials": len(rows),
        "catch_trial_idxs": [trial for trial, catch in enumerate(rows["catch"], 1) if catch],
        **more,
    }
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "index.json").write_text(json.dumps(index) + "\n", encoding="utf-8")


def _count_references(name: str, rows: pd.DataFrame) -> int:
    counts = {end: sorted({len(held) for held in rows[f"references_{end}"]}) for end in _ENDS}
    every = sorted({*counts["max"], *counts["min"]})
    if len(every) > 1:
        most, least = (" or ".join(map(str, counts[end])) for end in _ENDS)
        raise RunError(
            f"{name} shows {most} maximal and {least} minimal references; the layout zimmermann2023 has one number for "
            "both ends and all trials, so export it as tables."
        )
    if every and every[0] > MOST:
        raise RunError(
            f"{name} shows {every[0]} references at each end; the page of the layout zimmermann2023 shows {MOST}, so "
            "export it as tables."
        )
    return every[0] if every else 0


def _references(end: str, count: int) -> Sequence[str]:
    return [f"references/{end}_{MOST - 1 - number}.png" for number in range(count)]


def _read_task(folder: Path, path: Path) -> list[dict[str, Any]]:
    index = read_json(path)
    try:
        # Their own script writes the number of references as text.
        name, count, trials = index["task_name"], int(index["n_reference_images"]), int(index["n_trials"])
        catch = {int(trial) for trial in index.get("catch_trial_idxs", [])}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path} is no index of a task: it does not hold {error}.") from error
    if name != path.parent.relative_to(folder).as_posix():
        raise RunError(f"{path} says that it is {name}, so the page would look for its pictures elsewhere.")
    rows = []
    for trial in range(1, trials + 1):
        for end in _ENDS:
            for number, file in enumerate([f"queries/{end}.png", *_references(end, count)], -1):
                picture = path.parent / "trials" / f"trial_{trial}" / file
                try:
                    sha256 = hashlib.sha256(picture.read_bytes()).hexdigest()
                except OSError as error:
                    raise RunError(f"the picture {picture} cannot be read: {error.strerror}.") from error
                rows.append(
                    {
                        "task": name,
                        "trial": trial,
                        "catch": trial in catch,
                        "role": "query" if number < 0 else "reference",
                        "end": end,
                        "number": max(number, 0),
                        "file": picture.relative_to(folder).as_posix(),
                        "sha256": sha256,
                    }
                )
    return rows
