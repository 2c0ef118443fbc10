"""What is known of stimuli, joined to trials by id: many trials to one row, never by position.

In: cells of trials, and a table (CSV, TSV, Parquet, Excel, or the JSON of tasks of Zimmermann et al. 2023) with its
key.  Out: the cells with the table's columns, or every id that does not join.  Knows no tool.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from psychostats.cells import Cells, Raw, lacking_column, name_some, parse_column, parse_text
from psychostats.columns import COLUMNS
from psychostats.errors import Fault
from psychostats.parts import Part, Reading
from psychostats.spreadsheets import read_workbook
from psychostats.tabular import read_raw

Key: TypeAlias = tuple[str, ...]

_TABLES = (".csv", ".tsv", ".parquet")
_BOOKS = (".xlsx", ".xlsm")
# Whose trial it is and when: what the recording says stands, as a table of tasks may hold only whom it was meant for.
_RECORDED = ("participant", "session", "started", "trial")
# Where the tasks of 2023 find their pictures: MODEL/LAYER/channel_N/natural_images/batch_K.
_UNIT = re.compile(r"(?:.*/)?(?P<layer>[^/]+)/channel_(?P<channel>[^/]+)/[^/]+(?:/batch_(?P<batch>[^/]+))?/?")
_TASK = re.compile(r"(?:(?P<space>.*)/)?(?P<task>task_[0-9]+)")


def join_metadata(raw: Raw, reading: Reading) -> Raw:
    """Join the table ``reading.metadata`` to trials by the columns ``reading.by``.

    Parameters
    ----------
    raw
        Cells of trials.
    reading
        With `metadata`, the table's file, and `by`, its key: a column, or several separated by commas such as
        ``task, task_trial``.

    Returns
    -------
    Raw
        With the table's other columns; whose trial it is and when stays as recorded.  Where both have a column, a
        blank cell takes the other's value, and different values are a fault, as are a doubled key in the table and an
        id that it does not have.  Trials without an id are left as they are and counted in a note.
    """
    if reading.metadata is None or not raw.rows:
        return raw
    path = Path(reading.metadata)
    by = [name.strip() for name in reading.by.split(",") if name.strip()]
    table, tasks = _read_table(path)
    if not by:
        return _with(raw, [Fault(f"No column is named by which '{path.name}' joins; allowed are names with commas.")])
    faults = list(table.faults)
    if table.rows:
        for cells, where in ((table.cells, f"the metadata '{path.name}'"), (raw.cells, "the trials")):
            lacking = [name for name in by if name not in cells]
            faults += [lacking_column(f"Column '{name}' is to join {where}", name, list(cells)) for name in lacking]
    if _stops(faults) or not table.rows:
        return _with(raw, faults)

    ours, theirs = _keys(raw.cells, by), _keys(table.cells, by)
    if tasks:
        faults += _shorten_tasks(ours, by)
    faults += _doubled_keys(theirs, table.rows, by, path.name)
    place = {key: row for row, key in enumerate(theirs) if key is not None}
    unknown = [row for row, key in enumerate(ours) if key is not None and key not in place]
    if unknown:
        faults.append(_unknown_ids(raw, ours, unknown, by, path.name))
    if _stops(faults):
        return _with(raw, faults)

    found = [None if key is None else place[key] for key in ours]
    joined, notes = dict(raw.cells), [*table.notes, f"'{path.name}' is joined by {name_some(by, quote=True)}."]
    kept = [name for name in table.cells if name in _RECORDED and name in raw.cells and name not in by]
    for name, column in table.cells.items():
        if name in by or name in kept:
            continue
        looked_up = [None if row is None else column[row] for row in found]
        if name in joined:
            faults += _differences(raw, name, joined[name], looked_up, path.name)
            pairs = zip(joined[name], looked_up, strict=True)
            looked_up = [other if parse_text(own) is None else own for own, other in pairs]
        joined[name] = looked_up
    if kept:
        notes.append(
            f"{name_some(kept, quote=True)} of '{path.name}' are not taken: the recording says whose trials are whose."
        )
    if alone := sum(row is None for row in found):
        notes.append(f"Trials without {_joined(by)} are left as they were: {alone}.")
    words = raw.words | {name for name in table.words if name not in raw.cells}
    orders = {**table.orders, **raw.orders}
    return _with(replace(raw, cells=joined, words=words, orders=orders, notes=(*raw.notes, *notes)), faults)


def _stops(faults: Sequence[Fault]) -> bool:
    return any(fault.severity == "error" for fault in faults)


def _with(raw: Raw, faults: Sequence[Fault]) -> Raw:
    return replace(raw, faults=(*raw.faults, *faults)) if faults else raw


# The table -------------------------------------------------------------------------------------------------------


def _read_table(path: Path) -> tuple[Raw, bool]:
    """Return the table, and whether it is the structure of tasks of 2023."""
    suffix = path.suffix.lower()
    if suffix not in (*_TABLES, *_BOOKS, ".json"):
        allowed = name_some([*_TABLES, *_BOOKS, ".json"], limit=9)
        return Raw(faults=(Fault(f"Metadata '{path}' ends in '{path.suffix}'; allowed are {allowed}."),)), False
    if suffix in _TABLES:
        return read_raw(path), False
    try:
        data = path.read_bytes()
    except OSError as error:
        return Raw(faults=(Fault(f"Metadata '{path}' cannot be read: {error.strerror}."),)), False
    part = read_workbook(data, path.name) if suffix in _BOOKS else _read_tasks(data, path.name)
    return Raw(part.cells, part.rows, part.faults, part.words, notes=part.notes), suffix == ".json"


def _read_tasks(data: bytes, name: str) -> Part:
    """Read the structure of tasks: one row a trial, keyed by `task` (``task_I``) and `task_trial` (from 1).

    `raw_trials` are the same trials before they were shuffled, and are not read.
    """
    try:
        structure = json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        return Part(faults=(Fault(f"Metadata '{name}' cannot be read as JSON: {reason}."),))
    tasks = structure.get("tasks") if isinstance(structure, dict) else None
    rows: list[dict[str, Any]] = []
    try:
        for task in tasks or ():
            for number, trial in enumerate(task["trials"], 1):
                rows.append({"task": f"task_{int(task['index'])}", "task_trial": number, **_described(trial)})
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
        rows = []
    if not rows:
        shape = '{"tasks": [{"index": 1, "trials": [{"mode": ..., "queries": ..., "references": ...}]}]}'
        return Part(faults=(Fault(f"Metadata '{name}' is no structure of tasks; one looks like {shape}."),))
    columns = {column: [row.get(column) for row in rows] for column in rows[0]}
    return Part(columns, list(range(1, len(rows) + 1)), "JSON")


def _described(trial: dict[str, Any]) -> dict[str, Any]:
    """Return what a trial of the structure says: whose stimuli it shows, by the folders of its pictures."""
    queries = trial["queries"] if isinstance(trial["queries"], str) else ""
    unit = _UNIT.fullmatch(queries.replace("\\", "/"))
    layer, channel, batch = unit.group("layer", "channel", "batch") if unit else (None, None, None)
    catch = trial["mode"] == "catch_trial"
    feature = None if unit is None else f"{layer}__{channel}"  # as the units of 2023 are named
    return {
        "mode": str(trial["mode"]),
        "catch": catch,
        "layer": layer,
        "channel": channel,
        "feature": feature,
        "batch": batch,
    }


# Keys ------------------------------------------------------------------------------------------------------------


def _keys(cells: dict[str, Cells], by: Sequence[str]) -> list[Key | None]:
    """Return each row's key, None where a part of it is blank."""
    columns = [[parse_text(cell) for cell in cells[name]] for name in by]
    return [None if None in key else key for key in zip(*columns, strict=True)]


def _shorten_tasks(keys: list[Key | None], by: Sequence[str]) -> list[Fault]:
    """Write tasks as the structure does: ``task_3`` for ``NAMESPACE/task_3`` and for ``3``, of one namespace."""
    if "task" not in by:
        return []
    at = by.index("task")
    spaces = set()
    for row, key in enumerate(keys):
        if key is None:
            continue
        if found := _TASK.fullmatch(key[at]):
            spaces.add(found["space"])
        task = found["task"] if found else f"task_{key[at]}" if key[at].isdecimal() else key[at]
        keys[row] = (*key[:at], task, *key[at + 1 :])
    if len(spaces) < 2:
        return []
    named = name_some(sorted(str(space) for space in spaces), quote=True)
    return [
        Fault(
            f"The trials are of tasks of {len(spaces)} experiments ({named}), the structure knows one.", column="task"
        )
    ]


def _doubled_keys(keys: Sequence[Key | None], rows: Sequence[int], by: Sequence[str], name: str) -> Iterator[Fault]:
    counts = Counter(key for key in keys if key is not None)
    doubled = [key for key, count in counts.items() if count > 1]
    if doubled:
        at = tuple(row for row, key in zip(rows, keys, strict=True) if key == doubled[0])
        which = name_some([_said(key) for key in doubled], quote=True)
        message = f"Metadata '{name}' has several rows of one {_joined(by)}: {which}"
        yield Fault(
            f"{message} (rows {name_some([str(row) for row in at])}); keep one of each.",
            column=by[0],
            row=at[0],
            rows=at,
            file=name,
        )
    blank = [row for row, key in zip(rows, keys, strict=True) if key is None]
    if blank:
        message = f"Metadata '{name}' has no {_joined(by)} in row {blank[0]} ({len(blank)} in all); fill or remove it."
        yield Fault(message, column=by[0], row=blank[0], rows=tuple(blank), file=name)


def _unknown_ids(raw: Raw, keys: Sequence[Key | None], unknown: Sequence[int], by: Sequence[str], name: str) -> Fault:
    ids = list(dict.fromkeys(_said(key) for row in unknown if (key := keys[row]) is not None))
    message = (
        f"Metadata '{name}' has no {_joined(by)} {name_some(ids, quote=True)}, which {_trials(len(unknown))}, the "
        f"first in {_place(raw, unknown[0])}; nothing is joined by position."
    )
    return _fault_at(raw, message, by[0], unknown)


def _differences(raw: Raw, name: str, ours: Cells, theirs: Cells, table: str) -> Iterator[Fault]:
    """Yield the fault of a column that trials and table both have with different values."""
    known = COLUMNS.get(name)
    kind = known.kind if known else None
    own, other = (parse_column(cells, kind) for cells in (ours, theirs))
    if own.text != other.text:
        own, other = (parse_column(cells, "text") for cells in (ours, theirs))
    pairs = enumerate(zip(own.cells, other.cells, strict=True))
    different = [row for row, (one, two) in pairs if one is not None and two is not None and one != two]
    if different:
        row = different[0]
        message = (
            f"Column '{name}' is '{parse_text(ours[row])}' in {_place(raw, row)} and '{parse_text(theirs[row])}' in "
            f"the metadata '{table}' ({len(different)} in all); remove or rename one of the columns."
        )
        yield _fault_at(raw, message, name, different)


# Words -----------------------------------------------------------------------------------------------------------


def _fault_at(raw: Raw, message: str, column: str, rows: Sequence[int]) -> Fault:
    file = raw.sources[raw.origins[0][rows[0]]].name if raw.origins and raw.sources else None
    return Fault(message, "error", column, raw.rows[rows[0]], tuple(raw.rows[row] for row in rows), file)


def _place(raw: Raw, row: int) -> str:
    if raw.origins and raw.sources:
        return f"row {raw.origins[1][row]} of '{raw.sources[raw.origins[0][row]].name}'"
    return f"row {raw.rows[row]}"


def _trials(number: int) -> str:
    return f"{number} trial{'s show' if number != 1 else ' shows'}"


def _joined(by: Sequence[str]) -> str:
    return f"'{', '.join(by)}'"


def _said(key: Key) -> str:
    return ", ".join(key)
