"""Tables with one row a participant, made into tables with one row a trial.

In: a part whose columns are called after trials, such as ``correct_1``.  Out: a part with one row a trial.  Knows no
tool and no files.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from psychostats.cells import Cells, lacking_column, name_some, parse_text
from psychostats.columns import COLUMNS
from psychostats.errors import Fault
from psychostats.parts import Part

_SEPARATED = re.compile(r"correct([_. ]?)0*[0-9]+")
_COLUMN, _TRIAL = "{column}", "{trial}"


def wide_pattern(columns: Collection[str]) -> str | None:
    """Return how the columns of a table are called after trials, or None for a table with one row a trial.

    A table is taken for wide only if it has no column `correct`, and at least two such as ``correct_1`` and
    ``correct_2``, ``correct.1``, ``correct 1`` or ``correct1``.
    """
    if "correct" in columns:
        return None
    marks = [found[1] for name in columns if (found := _SEPARATED.fullmatch(name))]
    mark = next((mark for mark in marks if marks.count(mark) > 1), None)
    return None if mark is None else f"{_COLUMN}{mark}{_TRIAL}"


def lengthen(part: Part, pattern: str | None = None, columns: Collection[str] = ()) -> Part:
    """Make one row a trial of a table with one row a participant.

    Parameters
    ----------
    part
        The wide table.
    pattern
        How columns are called: text with ``{column}`` and ``{trial}`` in it, each once, such as ``{column}_{trial}``
        or ``t{trial}.{column}``.  Without one it is asked of the columns (`wide_pattern`); then only columns that the
        trial table knows are taken apart, and those that are numbered as ``correct`` is.
    columns
        Which columns are to be taken apart; none are all that match for at least two trials.

    Returns
    -------
    Part
        With a column `trial`, numbered as the names are; rows keep the number of the participant's row, and columns
        without a trial number are repeated.  A trial whose cells are all blank is none.  A pattern that does not fit
        is a fault.
    """
    asked = pattern is not None
    pattern = pattern if pattern is not None else wide_pattern(part.cells)
    if pattern is None:
        fault = Fault(
            "The table is no wide one: it has a column 'correct', or no columns such as 'correct_1' and 'correct_2'; "
            "say in [recordings] wide how its columns are called, such as '{column}_{trial}'."
        )
        return _refused(part, fault)
    if pattern.count(_COLUMN) != 1 or pattern.count(_TRIAL) != 1:
        return _refused(
            part,
            Fault(
                f"The pattern of wide columns is '{pattern}'; allowed is text with {{column}} and {{trial}}, each once."
            ),
        )
    if not part.rows:
        return part
    stems = _numbered_columns(part.cells, pattern)
    if not columns and not asked:
        like = set(stems.get("correct", {}))
        stems = {stem: table for stem, table in stems.items() if stem in COLUMNS or set(table) == like}
    chosen = {stem: table for stem, table in stems.items() if (stem in columns if columns else len(table) > 1)}
    faults = [
        lacking_column(f"Column '{name}' is to be taken apart by '{pattern}'", name, list(stems))
        for name in columns
        if name not in stems
    ]
    faults += _clashes(part.cells, chosen)
    if not chosen and not faults:
        held = name_some(list(part.cells), limit=30)
        faults = [Fault(f"No columns are called '{pattern}' for two trials or more; the columns are {held}.")]
    return (
        _refused(part, *faults)
        if faults
        else _long(part, {stem: {n: names[0] for n, names in table.items()} for stem, table in chosen.items()})
    )


def _refused(part: Part, *faults: Fault) -> Part:
    return replace(part, cells={}, rows=[], tool="wide", faults=(*part.faults, *faults))


def _numbered_columns(names: Collection[str], pattern: str) -> dict[str, dict[int, list[str]]]:
    """Return column -> trial -> the names that mean it."""
    whole = re.escape(pattern)
    for mark, group in ((_COLUMN, "(?P<column>.+?)"), (_TRIAL, "(?P<trial>[0-9]{1,9})")):
        whole = whole.replace(re.escape(mark), group)
    stems: defaultdict[str, defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in names:
        if found := re.fullmatch(whole, name):
            stems[found["column"].strip()][int(found["trial"])].append(name)
    return {stem: dict(table) for stem, table in stems.items()}


def _clashes(cells: Mapping[str, Cells], chosen: Mapping[str, Mapping[int, list[str]]]) -> list[Fault]:
    faults = []
    for stem, table in chosen.items():
        for trial, names in table.items():
            if len(names) > 1:
                faults.append(
                    Fault(
                        f"Columns {name_some(names, quote=True)} are all '{stem}' of trial {trial}; keep one.",
                        column=stem,
                    )
                )
        if stem in cells:
            first = next(iter(table.values()))[0]
            faults.append(Fault(f"The table has a column '{stem}' beside '{first}'; rename one of them.", column=stem))
    if chosen and "trial" in [*cells, *chosen]:
        faults.append(
            Fault(
                "The table has a column 'trial' although its columns are numbered by trial; rename it.", column="trial"
            )
        )
    return faults


def _long(part: Part, chosen: Mapping[str, Mapping[int, str]]) -> Part:
    trials = sorted({trial for table in chosen.values() for trial in table})
    apart = {name for table in chosen.values() for name in table.values()}
    kept: list[tuple[int, int]] = []
    blank = 0
    for row in range(len(part.rows)):
        for trial in trials:
            held = (part.cells[table[trial]][row] for table in chosen.values() if trial in table)
            if any(parse_text(cell) is not None for cell in held):
                kept.append((row, trial))
            else:
                blank += 1
    cells: dict[str, list[Any]] = {
        name: [column[row] for row, _ in kept] for name, column in part.cells.items() if name not in apart
    }
    cells["trial"] = [trial for _, trial in kept]
    for stem, table in chosen.items():
        cells[stem] = [part.cells[table[trial]][row] if trial in table else None for row, trial in kept]
    note = f"One row a participant: {len(part.rows)} rows are read as {len(kept)} trials"
    note += f"; {blank} more are wholly blank, and none" if blank else ""
    words = {stem for stem, table in chosen.items() if set(table.values()) <= part.words}
    faults = part.faults if kept else (*part.faults, Fault("Every trial of the wide table is blank."))
    return Part(
        cells=cells,
        rows=[part.rows[row] for row, _ in kept],
        tool="wide",
        faults=faults,
        notes=(*part.notes, f"{note}."),
        words=(part.words - apart) | frozenset(words),
    )
