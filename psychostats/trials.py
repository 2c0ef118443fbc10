"""The trial table: columns, units, checks.

In: a trial table or recordings (or a data frame) and what the study says of its columns.  Out: a clean data frame whose
index holds the file's row numbers, or every fault at once.  Knows nothing of formulas, models or exclusion rules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, get_args

import numpy as np
import pandas as pd

from psychostats.cells import (
    Bools,
    Kind,
    Raw,
    filter_rows,
    lacking_column,
    map_columns,
    missing_columns,
    parse_column,
    recode_cells,
)
from psychostats.columns import COLUMNS, order_levels
from psychostats.demographics import Export, Joined, join_demographics
from psychostats.errors import DataError, Fault, InputError
from psychostats.identity import pseudonymize
from psychostats.judging import (
    STEERING,
    Assignment,
    Levels,
    accuracy_faults,
    assignment_faults,
    cell_faults,
    comma_faults,
    duplicate_faults,
    errors_first,
    judge_lacking,
    range_faults,
    unmarked_faults,
)
from psychostats.parts import LeftOut, Reading, Source
from psychostats.places import Places
from psychostats.pseudonyms import pseudonym
from psychostats.recordings import PLAIN, read_recordings
from psychostats.salvage import added_up, leave_out, people_lost

Given: TypeAlias = str | Path | pd.DataFrame | Raw

_KINDS: Mapping[str, Kind] = {column.name: column.kind for column in COLUMNS.values()}

_OWN_IDS = ("stimulus", "feature", "pair", "layer")  # these have ids of their own, which may look like people's


@dataclass(frozen=True)
class TrialTable:
    """What `examine_trials` found.

    Parameters
    ----------
    frame
        The clean rows; not to be analysed where `errors` is not empty.
    faults
        Every fault, errors first.
    n_dropped, n_infinite
        Rows left out because a needed cell was blank or infinite (``missing="drop"``), and how many of them held an
        infinite one.
    n_rows, n_filtered
        Rows of the file, and how many of them the filters set aside.
    sources
        The files, where recordings were read.
    notes
        What their reader converted or set aside, a sentence each.
    left_out
        Files and sessions with faults that ``skip_bad`` left out.
    n_lost
        People of whom nothing is left for it.
    demographics
        The participants' demographic data, where an export was given.
    """

    frame: pd.DataFrame
    faults: tuple[Fault, ...] = ()
    n_dropped: int = 0
    n_rows: int = 0
    n_filtered: int = 0
    n_infinite: int = 0
    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    n_lost: int = 0
    demographics: Joined | None = None

    @property
    def recordings(self) -> tuple[Source, ...]:
        """The files, but for a plain table, of which there is nothing to say."""
        plain = len(self.sources) == 1 and self.sources[0].tool == "table" and self.sources[0].status == "read"
        return () if plain else self.sources

    @property
    def errors(self) -> tuple[Fault, ...]:
        """The faults that stop an analysis."""
        return tuple(fault for fault in self.faults if fault.severity == "error")

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """The faults that an analysis goes on with, and a reader should know."""
        return tuple(fault for fault in self.faults if fault.severity == "warning")


class ReadOptions(TypedDict, total=False):
    """Keywords of `read_trials`, `check_trials` and `examine_trials`, which documents them."""

    columns: Mapping[str, str] | None
    levels: Mapping[str, Levels] | None
    needed: Collection[str]
    filters: Mapping[str, Any] | None
    assignment: Assignment | None
    assigned: str
    missing: Literal["error", "drop"]
    unanswered: Literal["error", "keep"]
    pseudonymize: bool
    reading: Reading
    skip_bad: bool
    key: bytes | None
    export: Export | None
    say: Callable[[str], None]


def read_trials(source: Given, **options: Unpack[ReadOptions]) -> pd.DataFrame:
    """Read a trial table and return its clean frame.

    Parameters
    ----------
    source
        What `psychostats.recordings.read_recordings` reads, or a data frame.
    **options
        The keywords of `examine_trials`.

    Returns
    -------
    pandas.DataFrame
        See `examine_trials`.

    Raises
    ------
    DataError
        With every fault of severity ``"error"``; warnings come from `check_trials` or `examine_trials`.
    """
    table = examine_trials(source, **options)
    if table.errors:
        raise DataError(table.errors)
    return table.frame


def check_trials(source: Given, **options: Unpack[ReadOptions]) -> tuple[Fault, ...]:
    """Return every error and warning of a trial table, errors first; takes what `read_trials` takes."""
    return examine_trials(source, **options).faults


def examine_trials(
    source: Given,
    *,
    columns: Mapping[str, str] | None = None,
    levels: Mapping[str, Levels] | None = None,
    needed: Collection[str] = (),
    filters: Mapping[str, Any] | None = None,
    assignment: Assignment | None = None,
    assigned: str = "representation",
    missing: Literal["error", "drop"] = "error",
    unanswered: Literal["error", "keep"] = "error",
    pseudonymize: bool = False,
    reading: Reading = PLAIN,
    skip_bad: bool = False,
    key: bytes | None = None,
    export: Export | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> TrialTable:
    """Read a trial table and judge it: map, recode, filter, convert, then check the rows that are left.

    Blank cells, ``NA``, ``NaN`` and ``null`` are missing, and infinite numbers are judged as they are; spaces around a
    cell are ignored.

    Parameters
    ----------
    source
        What `psychostats.recordings.read_recordings` reads, a data frame, or what was read of it.
    columns
        Our name -> the file's name.  One source may serve two names; a mapped name replaces a column of that name.
    levels
        Column -> its levels in order, or a table old -> new that recodes (the order of its new values is the level
        order).  The column becomes an unordered categorical.  Without: `representation` is local < distributed or
        neuron < dictionary where these are its values, `layer` is ordered by mean depth, the rest by code point.
    needed
        Columns that the analysis uses.  Faults in the others are warnings, and their unreadable cells go missing.
        Blank cells are judged in analysed rows (`analysed`) only: practice and catch trials may lack a pair.
    filters
        Column -> value or values to keep, compared after mapping and recoding.  A name that `columns` replaced may
        still be used, and is compared as it stands in the file.
    assigned
        The column that `assignment` is about.
    assignment
        ``"within"``: every participant has all representations; ``"between"``: exactly one.  Else is an error.
    missing
        What to do with analysed rows where a needed cell is blank or infinite.
    unanswered
        ``"keep"`` leaves rows with a blank `correct` in the frame (as NaN) for an exclusion rule to remove.
    pseudonymize
        Replace participants' ids even if they match no platform's pattern.
    reading
        How recordings of experiments are read; a plain table needs none of it.
    skip_bad
        Leave out files that cannot be read and sessions with faults, and count them, instead of stopping.  What was
        wrong with them stays listed as warnings.
    key
        The key of participants' pseudonyms, which are then the same in any file; without it they are P001, P002, ...
    export
        A platform's demographic export, which joins the participants before their ids are replaced.
    say
        Called with a line of progress now and then, where many files are read.

    Returns
    -------
    TrialTable
        Its frame has the index ``row`` (line in the file, the header being 1; in Parquet and frames the first row is
        1; of several files, all rows are numbered from 1), text as str, `correct` as int8 (float with NaN if some are
        missing), `trial` as int64 (likewise), `catch` as bool, `depth`, `rt` (s) and `confidence` as float; other
        columns are numbers if all their cells are.

    Raises
    ------
    InputError
        If a keyword is not one of its options.  Faults of the data are never raised.
    """
    _require_option("assignment", assignment, (None, *get_args(Assignment)))
    _require_option("missing", missing, ("error", "drop"))
    _require_option("unanswered", unanswered, ("error", "keep"))
    judge = partial(
        _judge,
        columns=columns or {},
        levels=levels or {},
        needed=needed,
        filters=filters or {},
        assignment=assignment,
        assigned=assigned,
        missing=missing,
        unanswered=unanswered,
        pseudonymized=pseudonymize,
        key=key,
        export=export,
    )
    raw = source if isinstance(source, Raw) else read_recordings(source, columns=columns, reading=reading, say=say)
    table = judge(raw)
    if not skip_bad:
        return table
    whole = raw
    left: list[LeftOut] = []
    skipped: list[Fault] = []
    while table.errors and (rest := leave_out(raw, table.errors, columns or {})):
        left += rest.left_out
        skipped += rest.skipped
        raw = rest.raw
        table = judge(raw)
    return replace(
        table,
        faults=errors_first([*table.faults, *skipped]),
        n_rows=len(whole.rows),
        left_out=added_up(left),
        n_lost=people_lost(whole, raw, columns or {}),
    )


def _judge(
    raw: Raw,
    *,
    columns: Mapping[str, str],
    levels: Mapping[str, Levels],
    needed: Collection[str],
    filters: Mapping[str, Any],
    assignment: Assignment | None,
    assigned: str,
    missing: str,
    unanswered: str,
    pseudonymized: bool,
    key: bytes | None,
    export: Export | None,
) -> TrialTable:
    """Make a trial table of cells, with every fault; the keywords are those of `examine_trials`."""
    faults, places = list(raw.faults), Places.of(raw)
    nothing = TrialTable(pd.DataFrame(), sources=raw.sources, notes=raw.notes)
    if not raw.rows:
        return replace(nothing, faults=errors_first(faults))

    cells, unmapped = map_columns(raw.cells, columns)
    faults += unmapped
    faults += missing_columns([name for name in needed if name not in columns], cells)
    for name, declared in levels.items():
        if name not in cells:
            faults.append(lacking_column(f"Levels are declared for '{name}'", name, cells))
        elif isinstance(declared, Mapping):
            cells[name] = recode_cells(cells[name], declared)
    keep, unmatched = filter_rows({**raw.cells, **cells}, filters, _KINDS)
    faults += unmatched
    rows = list(compress(raw.rows, keep))
    if not rows:
        return replace(nothing, faults=errors_first(faults))

    vital = {*needed, *STEERING} & cells.keys()
    sources = {name: columns.get(name, name) for name in cells}
    series: dict[str, pd.Series[Any]] = {}
    lacking: dict[str, tuple[Bools, Bools]] = {}
    for name in cells:
        kept_cells = cells[name] if keep.all() else list(compress(cells[name], keep))
        known = COLUMNS.get(name)
        allowed = known.levels if known and known.levels else _new_levels(levels.get(name))
        parsed = parse_column(kept_cells, _KINDS.get(name), allowed, text=sources[name] in raw.words)
        # A column with levels holds words, of which one that looks infinite is as wrong as any other.
        endless = name not in STEERING and not levels.get(name)
        infinite = parsed.infinite if endless else np.zeros(len(rows), dtype=bool)
        faults += cell_faults(name, parsed, infinite, rows, levels.get(name), name in vital, name in needed, places)
        if name in needed and known is None and not levels.get(name):
            faults += comma_faults(name, parsed, rows, places)
        series[name] = parsed.series()
        if name in vital:
            lacking[name] = parsed.blank, infinite
    frame = pd.DataFrame(series)
    frame.index = pd.Index(rows, name="row")

    complete, dropped_infinite = judge_lacking(
        frame, {name: lacking[name] for name in sorted(vital)}, missing, unanswered, faults, places
    )
    orders = {name: raw.orders[old] for name, old in sources.items() if old in raw.orders}
    orders |= {name: _new_levels(declared) for name, declared in levels.items() if name != "phase"}
    ids = frame.loc[complete, "participant"].dropna() if "participant" in frame else ()
    frame = _settle(frame if complete.all() else frame[complete], orders, pseudonymized, key)
    joined = None
    if export is not None and "participant" in frame:
        joined = join_demographics(export, dict(zip(ids, frame["participant"].dropna(), strict=True)), key)
    if frame.empty:
        faults.append(Fault(f"No trial is left: every one of the {len(rows)} rows lacks a needed cell."))
    faults += range_faults(frame, vital, places)
    faults += duplicate_faults(frame, places)
    faults += unmarked_faults(frame, {*raw.cells} & {*columns.values()})
    faults += accuracy_faults(frame)
    faults += assignment_faults(frame, _new_levels(levels.get(assigned)), assignment, places, assigned)
    return TrialTable(
        frame,
        errors_first(faults),
        int((~complete).sum()),
        len(raw.rows),
        len(raw.rows) - len(rows),
        dropped_infinite,
        raw.sources,
        raw.notes,
        demographics=joined,
    )


def require_columns(frame: pd.DataFrame, needed: Collection[str]) -> None:
    """Raise DataError that names every column of `needed` the frame lacks, with the nearest it has."""
    if faults := missing_columns(needed, frame.columns):
        raise DataError(faults)


def _new_levels(declared: Levels | None) -> list[str]:
    listed = declared.values() if isinstance(declared, Mapping) else declared or ()
    return list(dict.fromkeys(str(level) for level in listed))


def _settle(frame: pd.DataFrame, orders: Mapping[str, Sequence[str]], force: bool, key: bytes | None) -> pd.DataFrame:
    """Give columns their final types and level orders, and participants their pseudonyms."""
    frame = frame.copy()
    whole: dict[str, type] = {"integer": np.int64, "binary": np.int8, "flag": bool}
    for name, column in frame.items():
        known = COLUMNS.get(str(name))
        if not pd.api.types.is_numeric_dtype(column):
            if name in orders:
                frame[name] = pd.Categorical(column, list(orders[str(name)]))
        elif column.notna().all():
            if known and known.kind in whole:
                frame[name] = column.astype(whole[known.kind])
            elif known is None and (column % 1 == 0).all():
                frame[name] = column.astype(np.int64)
    # A session is called as its file is, and that often as the participant.
    if force and "session" in frame:
        held = [str(one) for one in frame["session"].dropna().unique()]
        names = {one: f"S{pseudonym(one, key)[1:] if key else f'{n:03d}'}" for n, one in enumerate(held, 1)}
        frame["session"] = frame["session"].map(names)
    return pseudonymize(order_levels(frame), force=force, spared=_OWN_IDS, key=key)


def _require_option(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is '{value}'; allowed are {', '.join(str(option) for option in allowed)}.")
