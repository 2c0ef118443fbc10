"""What leaves a run for an experiment: a folder of pictures, stimuli and trial lists that needs nothing else.

In: a run with stimuli and trial lists.  Out: a folder, whole or not at all, with the hashes of all its files.
Knows no torch and no page.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd

from featurecompute.errors import InputError, RunError
from featurecompute.files import hash_file, read_json, whole_folder, write_json
from featurecompute.manifest import IMAGES, PICTURES, STIMULI, TRIAL_LISTS, Run
from featurecompute.pages import render
from featurecompute.pictures import SUFFIX, Kind, find_pictures
from featurecompute.sessions import REFERENCES, read_sessions
from featurecompute.stimuli import images_of
from featurecompute.tasks import write_tasks

Layout: TypeAlias = Literal["tables", "zimmermann2023"]

SCHEMA = "featurecompute-export/1"
_RECORD = "export.json"
_INPUTS = (STIMULI, TRIAL_LISTS, PICTURES, IMAGES)


def export_run(run: Run, out: Path, *, layout: Layout = "tables", picture: Kind | None = None) -> Path:
    """Write what an experiment needs.

    Parameters
    ----------
    run
        A run with stimuli and trial lists.
    out
        Folder to write, new or empty. One that holds this very export is the answer.
    layout
        tables: pictures, tables, and the trials as CSV, for a lab's own experiment; zimmermann2023: the folders that
        the page of Zimmermann et al. (2023) is served, see `featurecompute.tasks`.
    picture
        Form of the pictures; none: as they are in the run, or png where the layout wants it.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If a word is none of those allowed, the run has no stimuli or no trial lists, the layout cannot hold them, the
        folder holds something else, or it cannot be written; nothing half-written is left.
    """
    if layout not in _WRITERS:
        raise InputError(f"--layout is '{layout}'; allowed are {' and '.join(_WRITERS)}.")
    if picture not in (None, *SUFFIX):
        raise InputError(f"--picture is '{picture}'; allowed are {' and '.join(SUFFIX)}.")
    if layout == "zimmermann2023" and picture == "jpeg":
        raise InputError("--picture is 'jpeg', but the page of the layout zimmermann2023 asks for png.")
    sessions = read_sessions(run)
    record = {
        "schema": SCHEMA,
        "run_id": run.record["run_id"],
        "layout": layout,
        "picture": picture,
        "versions": {"run": run.record["versions"], "export": _versions()},
        "inputs": {table.name: hash_file(run.path / f"{table.name}.parquet") for table in _INPUTS},
    }
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        _require_same(out, record)
        return out
    with whole_folder(out) as part:
        _WRITERS[layout](run, part, sessions, picture)
        people = sessions.groupby("experiment", sort=False)["participant"].nunique().to_dict()
        text = render(f"{layout}.md", escape=False, record=record, people=people)
        (part / "README.md").write_text(text, encoding="utf-8")
        files = {path.relative_to(part).as_posix(): path for path in sorted(part.rglob("*")) if path.is_file()}
        listed = [{"path": name, "sha256": hash_file(path)} for name, path in files.items()]
        write_json(part / _RECORD, record | {"files": listed})
    return out


def _write_tables(run: Run, part: Path, sessions: pd.DataFrame, picture: Kind | None) -> None:
    stimuli, images = run.table("stimuli"), run.table("images")
    rows = []
    (part / "pictures").mkdir()
    # Numbered by their hashes, and not by ids, whose order may follow classes: a number tells nothing of a picture.
    found = sorted(find_pictures(run, images_of(stimuli)).items(), key=lambda pair: (pair[1].sha256, pair[0]))
    for number, (image, one) in enumerate(found):
        content = one.read(picture)
        file = f"pictures/{number:06}{SUFFIX[picture or one.kind]}"
        (part / file).write_bytes(content)
        rows.append({"image": image, "file": file, "sha256": hashlib.sha256(content).hexdigest()})
    pictures = pd.DataFrame(rows)
    PICTURES.write(part, pictures)
    STIMULI.write(part, stimuli)
    TRIAL_LISTS.write(part, run.table("trial_lists"))
    IMAGES.write(part, images[images["image"].isin(pictures["image"])])
    files = dict(zip(pictures["image"], pictures["file"], strict=True))
    trials = sessions[[*TRIAL_LISTS.columns, "left", "right", *REFERENCES]].copy()
    for name in ("left", "right"):
        trials[name] = trials[name].map(files)
    for name in REFERENCES:
        trials[name] = [";".join(files[image] for image in held) for held in trials[name]]
    trials.to_csv(part / "trials.csv", index=False, lineterminator="\n")


def _write_zimmermann2023(run: Run, part: Path, sessions: pd.DataFrame, picture: Kind | None) -> None:
    stimuli = run.table("stimuli")
    practice = stimuli[stimuli["phase"] == "practice"]
    pictures = find_pictures(run, images_of(pd.concat([sessions, practice])))

    # A picture is shown to many; it is read and converted once.
    @functools.cache
    def read(image: str) -> bytes:
        return pictures[image].read("png")

    hard = run.record["settings"]["stimuli"]["practice_hard"]
    key = write_tasks(part, sessions, practice, hard, read)
    key.to_csv(part / "key.csv", index=False, lineterminator="\n")


_WRITERS: dict[str, Callable[[Run, Path, pd.DataFrame, Kind | None], None]] = {
    "tables": _write_tables,
    "zimmermann2023": _write_zimmermann2023,
}


def _require_same(out: Path, record: dict[str, Any]) -> None:
    """Refuse a folder that holds anything but this export, every file as it was written."""
    held = read_json(out / _RECORD) if (out / _RECORD).is_file() else None
    if not isinstance(held, dict) or {name: held.get(name) for name in record} != record:
        raise RunError(f"{out} is there and does not hold this export; give --out a folder that is new or empty.")
    for file in held["files"]:
        path = out / file["path"]
        if not path.is_file() or hash_file(path) != file["sha256"]:
            raise RunError(f"{out} holds this export, but {file['path']} is missing or changed; remove it, and export.")


def _versions() -> dict[str, str]:
    return {"featurecompute": importlib.metadata.version("psychostats"), "pillow": importlib.metadata.version("pillow")}
