"""What may be wrong with the rows of a trial table: cells, ranges, numbering, accuracy, assignment.

In: parsed columns or a clean frame, and where its rows stand.  Out: faults.  Reads nothing and changes nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import special

from psychostats.cells import Bools, Parsed, name_some, parse_text
from psychostats.columns import COLUMNS, analysed, person_keys
from psychostats.errors import Fault
from psychostats.identity import redact
from psychostats.lettering import visible
from psychostats.places import Places

Assignment: TypeAlias = Literal["within", "between"]
Levels: TypeAlias = Sequence[str] | Mapping[str, str]

#: These decide whose row it is and whether it is analysed, so a bad cell in them is always an error.
STEERING = ("participant", "phase", "catch")

_KEY = ("participant", "experiment", "session", "phase", "block", "trial")
_MILLISECONDS = 100.0  # a median response time above this many "seconds" is taken for milliseconds
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")
_ONE_FILE = Places()


def cell_faults(
    name: str,
    parsed: Parsed,
    infinite: Bools,
    rows: Sequence[int],
    declared: Levels | None,
    vital: bool,
    needed: bool,
    places: Places = _ONE_FILE,
) -> Iterator[Fault]:
    """Yield the cells of a column that could not be read as the rest.

    Parameters
    ----------
    name, parsed, infinite, rows
        The column, its values, which of them are infinite, and its rows.
    declared
        The levels that the study declares.
    vital, needed
        Whether bad cells are errors, and whether the analysis names the column.
    places
        Where the rows stand.
    """
    known = COLUMNS.get(name)
    if known and known.kind != "text" and declared and not isinstance(declared, Mapping):
        yield Fault(
            f"Levels are listed for '{name}', whose cells are {known.allowed}; give a table old = new.", column=name
        )
    if infinite.any() and not needed:
        allowed = known.allowed if known else "finite numbers"
        at = [rows[position] for position in np.flatnonzero(infinite).tolist()]
        message = f"Column '{name}' is infinite in {places.words(at)}, read as missing as nothing needs it"
        yield from places.faults(at, lambda _, where: f"{message}; allowed are {allowed}.", "warning", name)
    bad = [(position, cell) for position, cell in parsed.bad if not infinite[position]]
    if not bad:
        return
    at = [rows[position] for position, _ in bad]
    listed = name_some([str(level) for level in declared or ()], limit=20, quote=True)

    def what(position: int, where: str) -> str:
        return f"Column '{name}' holds '{bad[position][1]}' in {where}"

    def comma(position: int) -> str:
        cell = str(bad[position][1]).strip()
        numbers = known is None or known.kind in ("number", "integer", "binary")
        looks = numbers and _DECIMAL_COMMA.fullmatch(cell)
        return f" ('{cell}' looks like a decimal comma; write {cell.replace(',', '.')})" if looks else ""

    if known is None and not declared:
        if needed:

            def as_text(position: int, where: str) -> str:
                return f"{what(position, where)} and numbers elsewhere, so it is read as text{comma(position)}."

            yield from places.faults(at, as_text, "warning", name)
        return
    if known and (known.levels or known.kind != "text"):
        allowed = known.allowed + (f", or what its levels recode ({listed})" if declared else "")
    else:
        allowed = listed
    error = vital or bool(declared)
    unused = "" if error else ", read as missing as nothing needs it"
    yield from places.faults(
        at,
        lambda position, where: f"{what(position, where)}{unused}; allowed are {allowed}{comma(position)}.",
        "error" if error else "warning",
        name,
    )


def comma_faults(name: str, parsed: Parsed, rows: Sequence[int], places: Places = _ONE_FILE) -> Iterator[Fault]:
    """Yield a column of no known kind that the analysis needs, if all its cells look like decimal commas."""
    held = [(row, cell) for row, cell in zip(rows, parsed.cells, strict=True) if cell is not None]
    if parsed.text and held and all(_DECIMAL_COMMA.fullmatch(str(cell)) for _, cell in held):
        cell = str(held[0][1])
        yield from places.faults(
            [row for row, _ in held],
            lambda position, where: (
                f"Column '{name}' holds '{held[position][1]}' in {where}, which looks like a decimal comma and would "
                f"be read as text; write {cell.replace(',', '.')}."
            ),
            "error",
            name,
        )


def judge_lacking(
    frame: pd.DataFrame,
    columns: Mapping[str, tuple[Bools, Bools]],
    missing: str,
    unanswered: str,
    faults: list[Fault],
    places: Places = _ONE_FILE,
) -> tuple[Bools, int]:
    """Return which rows lack nothing needed, all unless ``missing="drop"``, and how many hold infinite numbers.

    `columns` says which cells of each needed column are blank, and which are infinite; what is wrong is added to
    `faults`.
    """
    judged = analysed(frame)
    if unanswered == "keep" and "correct" in columns:
        judged &= ~columns["correct"][0]
    complete, endless = np.ones(len(frame), dtype=bool), np.zeros(len(frame), dtype=bool)
    for name, (blank, infinite) in columns.items():
        lacking = blank if name in STEERING else blank & judged
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
                said = f"{only}; {advice}."
                faults += places.faults(at, _saying(f"Column '{name}' is {what} in", said), "error", name)
    return complete, int(endless.sum())


def _saying(first: str, last: str) -> Callable[[int, str], str]:
    return lambda _, where: f"{first} {where}{last}"


def range_faults(frame: pd.DataFrame, vital: Collection[str], places: Places = _ONE_FILE) -> Iterator[Fault]:
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
            allowed = "finite numbers from 0 (seconds)" if name == "rt" else COLUMNS[name].allowed
            error = strict and name in vital
            tail = "" if name in vital else unused
            yield from places.faults(
                at,
                _valued(name, outside.tolist(), f"; allowed are {allowed}{tail}."),
                "error" if error else "warning",
                name,
            )
    if "rt" in frame and frame["rt"].median() > _MILLISECONDS:
        median = f"{frame['rt'].median():.0f}"
        yield Fault(
            f"Column 'rt' has a median of {median}, which looks like milliseconds; it is read as seconds.",
            "warning",
            "rt",
        )


def _valued(name: str, values: Sequence[float], last: str) -> Callable[[int, str], str]:
    return lambda position, where: f"Column '{name}' is {values[position]:g} in {where}{last}"


def duplicate_faults(frame: pd.DataFrame, places: Places = _ONE_FILE) -> Iterator[Fault]:
    """Yield trials whose number a trial of the same participant, session, phase and block has before them."""
    if not {"participant", "trial"} <= set(frame):
        return
    key = [name for name in _KEY if name in frame]
    numbered = frame[frame["trial"].notna()]
    same = numbered.groupby(key, sort=False, observed=True, dropna=False).ngroup()
    copies = np.flatnonzero(same.duplicated())
    if len(copies):
        advice = "remove the copies, or map 'phase' or 'block' if the numbering starts again"

        def say(position: int, where: str) -> str:
            copy = copies[position]
            first = numbered.index[(same == same.iloc[copy]).to_numpy()][0]
            what = ", ".join(f"{name} {parse_text(numbered[name].iloc[copy])}" for name in key)
            return f"Column 'trial' repeats in {where} what {places.word(first)} has ({what}); {advice}."

        yield from places.faults(numbered.index[copies].tolist(), say, "error", "trial")


def unmarked_faults(frame: pd.DataFrame, mapped: Collection[str]) -> Iterator[Fault]:
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


def accuracy_faults(frame: pd.DataFrame) -> Iterator[Fault]:
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
        below = people[special.bdtr(people["sum"], people["count"], 0.5) < 0.05 / max(len(people), 1)]
        if len(below):
            who = name_some(
                [f"{_person(key)} ({row['sum']:.0f} of {row['count']:.0f})" for key, row in below.iterrows()]
            )
            yield Fault(
                f"Participants answered below chance (0.5): {who}; check how 'correct' is coded.", "warning", "correct"
            )


def assignment_faults(
    frame: pd.DataFrame,
    levels: Sequence[str],
    assignment: Assignment | None,
    places: Places = _ONE_FILE,
    at: str = "representation",
) -> Iterator[Fault]:
    """Yield participants who saw other representations, or levels of another column `at`, than the assignment says."""
    if not {"participant", at} <= set(frame):
        return
    known = at == "representation"
    one, some = ("a representation", "representations") if known else (f"a level of '{at}'", f"levels of '{at}'")
    trials = frame[analysed(frame)]
    keys = person_keys(trials)
    counts = trials.groupby(keys, observed=True)[at].nunique()
    every = max(len(levels), trials[at].nunique())

    def said(wrong: pd.Series[bool], what: str) -> Iterator[Fault]:
        """Yield one fault for all, or, where there are several files, one a participant and file."""
        people = counts.index[wrong]
        message = f"Assignment is '{assignment}', but some participants {what}"
        if not places.names:
            rows = trials.index[_belong(trials, keys, people)].tolist()
            who = name_some([_person(key) for key in people])
            yield Fault(f"{message}: {who}.", "error", at, rows[0], tuple(rows))
            return
        for key in people:
            rows = trials.index[_belong(trials, keys, [key])].tolist()
            yield from places.faults(rows, _saying(f"{message}: {_person(key)} in", "."), "error", at)

    if assignment == "within" and (counts < every).any():
        yield from said(counts < every, f"lack {one}")
    elif assignment == "between" and (counts > 1).any():
        yield from said(counts > 1, f"have several {some}")
    elif assignment is None and (counts > 1).any() and (counts == 1).any():
        who = name_some([_person(key) for key in counts.index[counts == 1]])
        yield Fault(
            f"Some participants have {one.replace('a ', 'one ', 1)} while others have more: {who}.", "warning", at
        )


def _belong(trials: pd.DataFrame, keys: Sequence[str], people: Collection[Any]) -> Bools:
    """Return which trials are of these people."""
    if len(keys) == 1:
        return trials[keys[0]].isin(list(people)).to_numpy(dtype=bool)
    return pd.MultiIndex.from_frame(trials[list(keys)].astype(object)).isin(list(people))


def errors_first(faults: Collection[Fault]) -> tuple[Fault, ...]:
    """Sort faults, and make their words fit to print: one line each, nothing invisible, no platform's id."""
    said = [replace(fault, message=_printable(fault.message)) for fault in faults]
    return tuple(sorted(said, key=lambda fault: fault.severity != "error"))


def _printable(text: str) -> str:
    return redact(visible(text).replace("\n", "\\n"))


def _person(key: Any) -> str:
    return " ".join(str(part) for part in key) if isinstance(key, tuple) else str(key)
