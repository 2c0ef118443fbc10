"""The trial table: columns, units, checks.

In: a CSV, TSV or Parquet file (or a data frame) and what the study says of its columns.  Out: a clean data frame whose
index holds the file's row numbers, or every fault at once.  Knows nothing of formulas, models or exclusion rules.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, get_args

import numpy as np
import pandas as pd
from scipy import stats

from psychostats.cells import (
    Bools,
    Kind,
    Parsed,
    filter_rows,
    lacking_column,
    map_columns,
    missing_columns,
    name_some,
    parse_column,
    parse_text,
    read_raw,
    recode_cells,
)
from psychostats.columns import COLUMNS, analysed, order_levels, person_keys
from psychostats.demographics import Export, Joined, join_demographics
from psychostats.errors import DataError, Fault, InputError
from psychostats.identity import pseudonymize, redact
from psychostats.lettering import visible
from psychostats.parts import LeftOut, Reading, Source

Assignment: TypeAlias = Literal["within", "between"]
Levels: TypeAlias = Sequence[str] | Mapping[str, str]


PLAIN = Reading()
"""Recordings are read as each file asks to be."""

_KINDS: Mapping[str, Kind] = {column.name: column.kind for column in COLUMNS.values()}

# These decide whose row it is and whether it is analysed, so a bad cell in them is always an error.
_STEERING = ("participant", "phase", "catch")
_KEY = ("participant", "experiment", "session", "phase", "block", "trial")
_OWN_IDS = ("stimulus", "feature", "pair", "layer")  # these have ids of their own, which may look like people's
_MILLISECONDS = 100.0  # a median response time above this many "seconds" is taken for milliseconds


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
    demographics: Joined | None = None

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
    missing: Literal["error", "drop"]
    unanswered: Literal["error", "keep"]
    pseudonymize: bool
    reading: Reading
    skip_bad: bool
    key: bytes | None
    export: Export | None


def read_trials(source: str | Path | pd.DataFrame, **options: Unpack[ReadOptions]) -> pd.DataFrame:
    """Read a trial table and return its clean frame.

    Parameters
    ----------
    source
        A ``.csv``, ``.tsv`` or ``.parquet`` file, or a data frame.
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


def check_trials(source: str | Path | pd.DataFrame, **options: Unpack[ReadOptions]) -> tuple[Fault, ...]:
    """Return every error and warning of a trial table, errors first; takes what `read_trials` takes."""
    return examine_trials(source, **options).faults


def examine_trials(
    source: str | Path | pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    levels: Mapping[str, Levels] | None = None,
    needed: Collection[str] = (),
    filters: Mapping[str, Any] | None = None,
    assignment: Assignment | None = None,
    missing: Literal["error", "drop"] = "error",
    unanswered: Literal["error", "keep"] = "error",
    pseudonymize: bool = False,
    reading: Reading = PLAIN,
    skip_bad: bool = False,
    key: bytes | None = None,
    export: Export | None = None,
) -> TrialTable:
    """Read a trial table and judge it: map, recode, filter, convert, then check the rows that are left.

    Blank cells, ``NA``, ``NaN`` and ``null`` are missing, and infinite numbers are judged as they are; spaces around a
    cell are ignored.

    Parameters
    ----------
    source
        A ``.csv``, ``.tsv`` or ``.parquet`` file, or a data frame.
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
        Leave out files that cannot be read and sessions with faults, and count them, instead of stopping.
    key
        The key of participants' pseudonyms, which are then the same in any file; without it they are P001, P002, ...
    export
        A platform's demographic export, which joins the participants before their ids are replaced.

    Returns
    -------
    TrialTable
        Its frame has the index ``row`` (line in the file, the header being 1; in Parquet and frames the first row is
        1), text as str, `correct` as int8 (float with NaN if some are missing), `trial` as int64 (likewise), `catch`
        as bool, `depth`, `rt` (s) and `confidence` as float; other columns are numbers if all their cells are.

    Raises
    ------
    InputError
        If a keyword is not one of its options.  Faults of the data are never raised.
    """
    _require_option("assignment", assignment, (None, *get_args(Assignment)))
    _require_option("missing", missing, ("error", "drop"))
    _require_option("unanswered", unanswered, ("error", "keep"))
    columns, levels = columns or {}, levels or {}
    raw = read_raw(source)
    faults = list(raw.faults)
    if not raw.rows:
        return TrialTable(pd.DataFrame(), errors_first(faults))

    cells, unmapped = map_columns(raw.cells, columns)
    faults += unmapped
    faults += missing_columns([name for name in needed if name not in columns], cells)
    for name, declared in levels.items():
        if name not in cells:
            faults.append(lacking_column(f"Levels are declared for '{name}'", name, cells))
        elif isinstance(declared, Mapping):
            cells[name] = recode_cells(cells[name], declared)
    keep, unmatched = filter_rows({**raw.cells, **cells}, filters or {}, _KINDS)
    faults += unmatched
    rows = list(compress(raw.rows, keep))
    if not rows:
        return TrialTable(pd.DataFrame(), errors_first(faults))

    vital = {*needed, *_STEERING} & cells.keys()
    sources = {name: columns.get(name, name) for name in cells}
    parsed, infinite = {}, {}
    for name in cells:
        kept_cells = list(compress(cells[name], keep))
        known = COLUMNS.get(name)
        allowed = known.levels if known and known.levels else _new_levels(levels.get(name))
        parsed[name] = parse_column(kept_cells, _KINDS.get(name), allowed, text=sources[name] in raw.words)
        # A column with levels holds words, of which one that looks infinite is as wrong as any other.
        endless = name not in _STEERING and not levels.get(name)
        infinite[name] = parsed[name].infinite if endless else np.zeros(len(rows), dtype=bool)
        faults += _cell_faults(
            name, parsed[name], infinite[name], rows, levels.get(name), name in vital, name in needed
        )
    frame = pd.DataFrame({name: column.series() for name, column in parsed.items()})
    frame.index = pd.Index(rows, name="row")

    complete, dropped_infinite = _judge_lacking(
        frame, {name: (parsed[name], infinite[name]) for name in sorted(vital)}, missing, unanswered, faults
    )
    orders = {name: raw.orders[old] for name, old in sources.items() if old in raw.orders}
    orders |= {name: _new_levels(declared) for name, declared in levels.items() if name != "phase"}
    ids = frame.loc[complete, "participant"].dropna() if "participant" in frame else ()
    frame = _settle(frame[complete], orders, pseudonymize, key)
    joined = None
    if export is not None and "participant" in frame:
        joined = join_demographics(export, dict(zip(ids, frame["participant"].dropna(), strict=True)), key)
    if frame.empty:
        faults.append(Fault(f"No trial is left: every one of the {len(rows)} rows lacks a needed cell."))
    faults += _range_faults(frame, vital)
    faults += _duplicate_faults(frame)
    faults += _unmarked_faults(frame, {*raw.cells} & {*columns.values()})
    faults += _accuracy_faults(frame)
    faults += assignment_faults(frame, _new_levels(levels.get("representation")), assignment)
    return TrialTable(
        frame,
        errors_first(faults),
        int((~complete).sum()),
        len(raw.rows),
        len(raw.rows) - len(rows),
        dropped_infinite,
        demographics=joined,
    )


def require_columns(frame: pd.DataFrame, needed: Collection[str]) -> None:
    """Raise DataError that names every column of `needed` the frame lacks, with the nearest it has."""
    if faults := missing_columns(needed, frame.columns):
        raise DataError(faults)


# Cells -----------------------------------------------------------------------------------------------------------


def _new_levels(declared: Levels | None) -> list[str]:
    listed = declared.values() if isinstance(declared, Mapping) else declared or ()
    return list(dict.fromkeys(str(level) for level in listed))


def _cell_faults(
    name: str,
    parsed: Parsed,
    infinite: Bools,
    rows: Sequence[int],
    declared: Levels | None,
    vital: bool,
    needed: bool,
) -> Iterator[Fault]:
    known = COLUMNS.get(name)
    if known and known.kind != "text" and declared and not isinstance(declared, Mapping):
        yield Fault(
            f"Levels are listed for '{name}', whose cells are {known.allowed}; give a table old = new.", column=name
        )
    if infinite.any() and not needed:
        allowed = known.allowed if known else "finite numbers"
        at = [rows[position] for position in np.flatnonzero(infinite).tolist()]
        message = f"Column '{name}' is infinite in {_rows(at)}, read as missing as nothing needs it"
        yield Fault(f"{message}; allowed are {allowed}.", "warning", name, at[0])
    bad = [(position, cell) for position, cell in parsed.bad if not infinite[position]]
    if not bad:
        return
    at = [rows[position] for position, _ in bad]
    what = f"Column '{name}' holds '{bad[0][1]}' in {_rows(at)}"
    listed = name_some([str(level) for level in declared or ()], limit=20, quote=True)
    if known is None and not declared:
        if needed:
            yield Fault(f"{what} and numbers elsewhere, so it is read as text.", "warning", name, at[0])
        return
    if known and (known.levels or known.kind != "text"):
        allowed = known.allowed + (f", or what its levels recode ({listed})" if declared else "")
    else:
        allowed = listed
    if vital or declared:
        yield Fault(f"{what}; allowed are {allowed}.", "error", name, at[0])
    else:
        yield Fault(f"{what}, read as missing as nothing needs it; allowed are {allowed}.", "warning", name, at[0])


# The rows that are left ------------------------------------------------------------------------------------------


def _judge_lacking(
    frame: pd.DataFrame,
    columns: Mapping[str, tuple[Parsed, Bools]],
    missing: str,
    unanswered: str,
    faults: list[Fault],
) -> tuple[Bools, int]:
    """Return which rows lack nothing needed, all unless ``missing="drop"``, and how many hold infinite numbers."""
    judged = analysed(frame)
    if unanswered == "keep" and "correct" in columns:
        judged &= ~columns["correct"][0].blank
    complete, endless = np.ones(len(frame), dtype=bool), np.zeros(len(frame), dtype=bool)
    for name, (parsed, infinite) in columns.items():
        lacking = parsed.blank if name in _STEERING else parsed.blank & judged
        infinite = infinite & judged
        if missing == "drop":
            complete &= ~(lacking | infinite)
            endless |= infinite
            continue
        for wrong, what, remedy in ((lacking, "blank", "fill"), (infinite, "infinite", "correct")):
            if wrong.any():
                at = frame.index[wrong].tolist()
                allowed = COLUMNS[name].allowed if name in COLUMNS else "finite numbers"
                only = f"; allowed are {allowed}" if what == "infinite" else ""
                study = ' (in a study file, [exclusions] missing_response = "drop")' * (
                    what == "blank" and name == "correct"
                )
                advice = f"{remedy} it, or drop such rows with --missing drop{study}"
                faults.append(Fault(f"Column '{name}' is {what} in {_rows(at)}{only}; {advice}.", "error", name, at[0]))
    return complete, int(endless.sum())


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
    return pseudonymize(order_levels(frame), force=force, spared=_OWN_IDS, key=key)


def _range_faults(frame: pd.DataFrame, vital: Collection[str]) -> Iterator[Fault]:
    """Numbers that can be read but should not be: kept, and an error only where the analysis would use them."""
    unused = "; nothing that was asked for uses it"
    for name, low, high, strict in (
        ("trial", 1.0, math.inf, True),
        ("depth", 0.0, 1.0, False),
        ("rt", 0.0, math.inf, True),
    ):
        if name not in frame:
            continue
        outside = frame.loc[(frame[name] < low) | (frame[name] > high), name]
        if len(outside):
            at = outside.index.tolist()
            what = f"Column '{name}' is {outside.iloc[0]:g} in {_rows(at)}"
            allowed = "finite numbers from 0 (seconds)" if name == "rt" else COLUMNS[name].allowed
            error = strict and name in vital
            tail = "" if name in vital else unused
            yield Fault(f"{what}; allowed are {allowed}{tail}.", "error" if error else "warning", name, at[0])
    if "rt" in frame and frame["rt"].median() > _MILLISECONDS:
        median = f"{frame['rt'].median():.0f}"
        yield Fault(
            f"Column 'rt' has a median of {median}, which looks like milliseconds; it is read as seconds.",
            "warning",
            "rt",
        )


def _duplicate_faults(frame: pd.DataFrame) -> Iterator[Fault]:
    if not {"participant", "trial"} <= set(frame):
        return
    key = [name for name in _KEY if name in frame]
    numbered = frame[frame["trial"].notna()]
    same = numbered.groupby(key, sort=False, observed=True, dropna=False).ngroup()
    copies = np.flatnonzero(same.duplicated())
    if len(copies):
        at = numbered.index[copies].tolist()
        first = numbered.index[(same == same.iloc[copies[0]]).to_numpy()][0]
        where = ", ".join(f"{name} {parse_text(numbered[name].iloc[copies[0]])}" for name in key)
        advice = "remove the copies, or map 'phase' or 'block' if the numbering starts again"
        yield Fault(
            f"Column 'trial' repeats in {_rows(at)} what row {first} has ({where}); {advice}.", "error", "trial", at[0]
        )


def _unmarked_faults(frame: pd.DataFrame, mapped: Collection[str]) -> Iterator[Fault]:
    """Warn of columns that seem to mark catch or practice trials under another name: their trials are analysed."""
    for name in frame.columns.difference([*COLUMNS, *mapped]):
        held = {str(value).strip().lower() for value in frame[name].dropna().unique()[:50]}
        if "catch" not in frame and "catch" in name.lower() and held <= {"true", "false", "0", "1", "0.0", "1.0"}:
            what, ours = "catch", f"--map catch={name}"
        elif "phase" not in frame and "practice" in held:
            what, ours = "practice", f"--map phase={name} (a study file can recode its levels)"
        else:
            continue
        yield Fault(
            f"Column '{name}' seems to mark {what} trials, which are analysed like the others under this name; to set "
            f"them aside, use {ours}.",
            "warning",
            name,
        )


def _accuracy_faults(frame: pd.DataFrame) -> Iterator[Fault]:
    """Warn of accuracy below 0.5 or without a single error, and of people below it beyond chance.

    A participant is named where the exact binomial probability of so few correct answers, guessing with 0.5, is below
    0.05 divided by the number of participants (Bonferroni): reversed response coding, rather than bad luck.
    """
    if "correct" not in frame:
        return
    trials = frame[analysed(frame) & frame["correct"].notna().to_numpy()]
    accuracy = trials["correct"].mean()
    if accuracy < 0.5:
        advice = "below the 0.5 of guessing; check how 'correct' is coded"
        yield Fault(f"Accuracy is {accuracy:.3f} over {len(trials)} analysed trials, {advice}.", "warning", "correct")
    if accuracy == 1.0 and len(trials) >= 20:  # of fewer answers nobody expects more
        yield Fault(
            f"All {len(trials)} analysed answers are correct, so they say only that accuracy is near 1: how near, and "
            "every difference, is what the priors say.",
            "warning",
            "correct",
        )
    if "participant" in trials and trials["participant"].notna().any():
        people = trials.groupby(person_keys(trials), observed=True)["correct"].agg(["sum", "count"])
        # Nobody is left where no cell of their experiment is one of its levels, which is a fault of its own.
        below = people[stats.binom.cdf(people["sum"], people["count"], 0.5) < 0.05 / max(len(people), 1)]
        if len(below):
            who = name_some(
                [f"{_person(key)} ({row['sum']:.0f} of {row['count']:.0f})" for key, row in below.iterrows()]
            )
            yield Fault(
                f"Participants answered below chance (0.5): {who}; check how 'correct' is coded.", "warning", "correct"
            )


def assignment_faults(frame: pd.DataFrame, levels: Sequence[str], assignment: Assignment | None) -> Iterator[Fault]:
    """Yield participants who saw other representations than the assignment says."""
    if not {"participant", "representation"} <= set(frame):
        return
    trials = frame[analysed(frame)]
    counts = trials.groupby(person_keys(trials), observed=True)["representation"].nunique()
    every = max(len(levels), trials["representation"].nunique())
    at = "representation"
    if assignment == "within" and (counts < every).any():
        who = name_some([_person(key) for key in counts.index[counts < every]])
        yield Fault(f"Assignment is 'within', but some participants lack a representation: {who}.", "error", at)
    elif assignment == "between" and (counts > 1).any():
        who = name_some([_person(key) for key in counts.index[counts > 1]])
        yield Fault(f"Assignment is 'between', but some participants have several representations: {who}.", "error", at)
    elif assignment is None and (counts > 1).any() and (counts == 1).any():
        who = name_some([_person(key) for key in counts.index[counts == 1]])
        yield Fault(f"Some participants have one representation while others have more: {who}.", "warning", at)


# Words -----------------------------------------------------------------------------------------------------------


def _require_option(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is '{value}'; allowed are {', '.join(str(option) for option in allowed)}.")


def errors_first(faults: Collection[Fault]) -> tuple[Fault, ...]:
    """Sort faults, and make their words fit to print: one line each, nothing invisible, no platform's id."""
    said = [replace(fault, message=redact(visible(fault.message).replace("\n", "\\n"))) for fault in faults]
    return tuple(sorted(said, key=lambda fault: fault.severity != "error"))


def _rows(rows: Sequence[int]) -> str:
    more = len(rows) - 1
    return f"row {rows[0]}" + (f" (and {more} more row{'s' * (more > 1)})" if more else "")


def _person(key: Any) -> str:
    return " ".join(str(part) for part in key) if isinstance(key, tuple) else str(key)
