"""Makes what experiments write from a trial table, so that readers can be tried on files whose answers are known.

The people are simulated, and so are their ids, which look like a recruiting platform's.  The same table and seed give
the same bytes.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SERVER = "https://example.org/tasks"
_DESIGN = ("representation", "layer", "depth", "feature", "pair")


@dataclass(frozen=True)
class Export:
    """What was written.

    Parameters
    ----------
    files
        The files, in the order of their people.
    ids
        Participant of the table -> the id in the files.
    key
        Of the layout of 2023: what each derived `stimulus` shows, which the files do not say.
    """

    files: tuple[Path, ...]
    ids: dict[str, str]
    key: pd.DataFrame | None = None


# Zimmermann et al. (2023) -----------------------------------------------------------------------------------------


def to_zimmermann(frame: pd.DataFrame, folder: Path, seed: int = 1, references: int = 9) -> Export:
    """Write one posted file a person, ``{main_data, raw_data, task_id}``, and the key of the tasks.

    Parameters
    ----------
    frame
        Clean trials with `participant`, `correct` and `rt` (s); of one experiment a person.
    folder
        Where the files ``<id>.json`` are written, and nothing else; it is made.
    seed
        Of ids, screens, and what the table does not say (sides, confidence).
    references
        Images a side.

    Returns
    -------
    Export
        Its key has a row for each `stimulus`, ``NAMESPACE/task_I/trials/trial_J`` or ``demo_NAMESPACE/trials/trial_J``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ids = prolific_ids(frame, rng)
    files, shown = [], {}
    tasks: dict[str, int] = {}
    demos: dict[str, dict[tuple[Any, ...], int]] = {}
    for person, trials in _people(frame):
        space = str(trials[0].get("experiment") or "main")
        task = tasks[space] = tasks.get(space, 0) + 1
        rows = _opening(rng, ids[person])
        main = 0
        for one in trials:
            design = {name: one[name] for name in ("experiment", *_DESIGN) if name in one}
            demo = one.get("phase") == "practice"
            if demo:
                held = demos.setdefault(space, {})
                number = held.setdefault((one.get("stimulus"), *design.values()), len(held) + 1)
                place = f"demo_{space}/trials/trial_{number}"
            else:
                main += 1
                place = f"{space}/task_{task}/trials/trial_{main}"
            shown[place] = {"stimulus": place, "item": one.get("stimulus"), **design}
            rows.append(_choice(one, f"{SERVER}/colin/{place}", references, rng, ids[person]))
        _number(rows, rng)
        content = {
            "main_data": [row for row in rows if row.get("is_demo") is False],
            "raw_data": rows,
            "task_id": f"{space}/task_{task}",
        }
        files.append(_write(folder / f"{ids[person]}.json", json.dumps(content, separators=(",", ":"))))
    return Export(tuple(files), ids, pd.DataFrame(list(shown.values())))


def _choice(one: dict[str, Any], place: str, references: int, rng: np.random.Generator, who: str) -> dict[str, Any]:
    """Return a trial as the page sends it: query a is the right one, and its side is drawn."""
    correct, confidence = one.get("correct"), one.get("confidence")
    upper = one["response"] in ("left", "upper") if one.get("response") else bool(rng.integers(2))
    sure = int(confidence) if confidence else int(rng.integers(1, 4))
    answered = correct is not None
    right = bool(correct)
    return {
        "rt": _ms(one.get("rt")) if answered else None,
        "button_pressed": str((0 if upper else 3) + sure - 1) if answered else None,
        "switched_queries": upper != right,
        "confidence": sure if answered else None,
        "choice": ("a" if right else "b") if answered else None,
        "correct": right if answered else None,
        "catch_trial": bool(one.get("catch")),
        "is_demo": one.get("phase") == "practice",
        "max_query": [f"{place}/queries/max.png"],
        "min_query": [f"{place}/queries/min.png"],
        "max_references": [f"{place}/references/max_{n}.png" for n in reversed(range(references))],
        "min_references": [f"{place}/references/min_{n}.png" for n in reversed(range(references))],
        "trial_type": "2afc-image-confidence-response",
        "prolific_pid": who,
    }


# jsPsych and JATOS ------------------------------------------------------------------------------------------------


def to_jspsych(frame: pd.DataFrame, folder: Path, seed: int = 1, kind: str = "json", together: bool = False) -> Export:
    """Write jsPsych's own export, one file a person or one of all (`together`).

    Parameters
    ----------
    frame
        Clean trials; its columns are the trials' data, `rt` in ms.
    folder
        Where ``<id>.json`` or ``<id>.csv`` are written, or ``study.json`` or ``study.csv``; it is made.
    seed
        Of ids and screens.
    kind
        ``json`` or ``csv``, as ``jsPsych.data.get().json()`` and ``.csv()`` give them.
    together
        Whether one file holds all people.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids, recordings = _recordings(frame, seed)
    if together:
        recordings = [("study", [row for _, rows in recordings for row in rows])]
    files = []
    for name, rows in recordings:
        text = json.dumps(rows, separators=(",", ":")) if kind == "json" else _csv(rows)
        files.append(_write(folder / f"{name}.{kind}", text))
    return Export(tuple(files), ids)


def to_jatos_zip(frame: pd.DataFrame, path: Path, seed: int = 1) -> Export:
    """Write a bundle of results as JATOS exports it: ``study_result_N/comp-result_N/data.txt``, a JSON list each."""
    ids, recordings = _recordings(frame, seed)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for number, (_, rows) in enumerate(recordings, 101):
            # A date of its own, so that the same people are the same bytes.
            member = zipfile.ZipInfo(f"study_result_{number}/comp-result_{number}/data.txt", (2026, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            bundle.writestr(member, json.dumps(rows, separators=(",", ":")))
    path.write_bytes(buffer.getvalue())
    return Export((path,), ids)


def to_jatos_text(frame: pd.DataFrame, path: Path, seed: int = 1) -> Export:
    """Write results as JATOS exports them to one text: a JSON list a line, a person each."""
    ids, recordings = _recordings(frame, seed)
    return Export(
        (_write(path, "".join(json.dumps(rows, separators=(",", ":")) + "\n" for _, rows in recordings)),), ids
    )


def _recordings(frame: pd.DataFrame, seed: int) -> tuple[dict[str, str], list[tuple[str, list[dict[str, Any]]]]]:
    """Return each person's screens and trials under their id."""
    rng = np.random.default_rng(seed)
    ids = prolific_ids(frame, rng)
    recordings = []
    for person, trials in _people(frame):
        rows = _opening(rng, ids[person])
        for one in trials:
            data = {name: cell for name, cell in one.items() if name not in ("participant", "trial", "rt")}
            rt = _ms(one.get("rt"))
            rows.append(
                {"rt": rt, "trial_type": "image-button-response"}
                | data
                | {"trial": one.get("trial"), "prolific_pid": ids[person]}
            )
        _number(rows, rng)
        recordings.append((ids[person], rows))
    return ids, recordings


# What all have ----------------------------------------------------------------------------------------------------


def prolific_ids(frame: pd.DataFrame, rng: np.random.Generator) -> dict[str, str]:
    """Return an id of 24 hex digits for each participant, in order of first appearance."""
    people = [str(one) for one in frame["participant"].unique()]
    return {person: rng.bytes(12).hex() for person in people}


def _people(frame: pd.DataFrame) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield participants with their trials, each a table of plain cells, None where a cell holds nothing."""
    cells = {str(name): column.astype(object).where(column.notna(), None).tolist() for name, column in frame.items()}
    people: dict[str, list[dict[str, Any]]] = {}
    for row in zip(*cells.values(), strict=True):
        one = {
            name: cell.item() if isinstance(cell, np.generic) else cell for name, cell in zip(cells, row, strict=True)
        }
        people.setdefault(str(one["participant"]), []).append(one)
    yield from people.items()


def _opening(rng: np.random.Generator, who: str) -> list[dict[str, Any]]:
    """Return what comes before the trials: the browser check, the consent, and two pages of instructions."""
    pages = [int(1000 * seconds) for seconds in rng.gamma(4, 5, 3) + 8]
    shared = {"prolific_pid": who}
    return [
        {"trial_type": "browser-check", "width": 1440, "height": 900, "browser": "firefox", "mobile": False} | shared,
        {"trial_type": "html-button-response", "rt": pages[0], "stimulus": "<p>Agreed?</p>", "response": 0} | shared,
        *({"trial_type": "instructions", "rt": rt, "view_history": [{"page_index": 0, "viewing_time": rt}]} | shared
          for rt in pages[1:]),
    ]  # fmt: skip


def _number(rows: list[dict[str, Any]], rng: np.random.Generator) -> None:
    """Number the screens as jsPsych does, and let time pass."""
    elapsed = 0
    for index, row in enumerate(rows):
        elapsed += (row.get("rt") or 1000) + int(rng.integers(350, 1500))
        row |= {"trial_index": index, "time_elapsed": elapsed, "internal_node_id": f"0.0-{index}.0"}


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(1000 * seconds)


def _csv(rows: list[dict[str, Any]]) -> str:
    """Write rows as jsPsych does: every cell quoted, lists and objects as JSON, nothing where there is no value."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names]
    for row in rows:
        held = (row.get(name) for name in names)
        lines.append(["" if one is None else one if isinstance(one, str) else json.dumps(one) for one in held])
    return "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in line) + "\r\n" for line in lines)


def _write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8"))
    return path
