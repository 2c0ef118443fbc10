"""The tables of other tools, PsychoPy, Pavlovia and Gorilla, in the words of the trial table.

In: a part whose columns one of these tools named.  Out: the same part with our columns beside the tool's, its answers
only, and notes of what was converted and set aside.  Knows no files.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from psychostats.cells import Cells, name_some, parse_text
from psychostats.columns import COLUMNS
from psychostats.errors import Fault
from psychostats.parts import Part, Tool

_LOOP = re.compile(r"(.+)\.this(?:N|TrialN|RepN)")
_ISO_LIKE = re.compile(r"(\d{4})-(\d\d)-(\d\d)[_ ](\d\d)h(\d\d)(?:\.(\d\d))?(?:\.\d+)?(?: ?([+-]\d\d):?(\d\d))?")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NAMED = re.compile(r"(\d{4})_([A-Z][a-z]{2})_(\d\d)_(\d\d)(\d\d)(?:\.\d+)?")
_LIST_OF_ONE = re.compile(r"\[\s*(['\"]?)([^,\[\]]*?)\1\s*\]")
_LATEST = 253402300799999  # the last millisecond that datetime knows

# What the same thing is called, by version of the tool.
_PEOPLE = ("participant", "Participant", "participant ID", "Participant ID", "__participant", "PROLIFIC_PID", "id")
_ANSWERS = ("keys", "clicked_name", "response", "choice")
_TIMES = ("rt", "time")
_DISPLAYS = ("display", "Display", "Spreadsheet: display")
_SCREENS = ("Screen Name", "Screen ID", "Screen")
_MILLISECONDS = ("Reaction Time", "Reaction Time (ms)")
_TIMED_OUT = frozenset({"timed out", "timedout", "timeout"})


@dataclass(frozen=True)
class Dialect:
    """How a tool is known by its columns.

    Parameters
    ----------
    name, title
        As the study file and as people write it.
    signature
        Columns that every one of its tables has.
    marks
        Columns of which it has at least one; none asks for none.
    pattern
        What at least one column is to match in full.
    """

    name: Tool
    title: str
    signature: frozenset[str]
    marks: frozenset[str] = frozenset()
    pattern: re.Pattern[str] = field(default=re.compile(""))

    def wrote(self, columns: Collection[str]) -> bool:
        """Whether a table with these columns is one of the tool's."""
        names = set(columns)
        marked = not self.marks or bool(self.marks & names)
        matched = not self.pattern.pattern or any(self.pattern.fullmatch(name) for name in names)
        return self.signature <= names and marked and matched


_BUILDER = frozenset({"expName", "date"})  # PsychoPy's Builder adds both to every row
_ONLINE = frozenset({"OS", "__datetime", "__participant", "__session", "__pilotToken"})  # PsychoJS, Pavlovia's database

#: The tools that are recognised, the narrower before the wider.
DIALECTS = (
    Dialect("pavlovia", "Pavlovia", _BUILDER, _ONLINE, _LOOP),
    Dialect("psychopy", "PsychoPy", _BUILDER, pattern=_LOOP),
    Dialect(
        "gorilla",
        "Gorilla",
        frozenset({"Event Index", "Participant Private ID", "Response"}),
        frozenset({"Zone Type", "Response Type"}),
        re.compile("|".join(re.escape(name) for name in _MILLISECONDS)),
    ),
)


def recognise(columns: Collection[str]) -> Dialect | None:
    """Return the tool whose columns these are, or None for a plain table."""
    return next((dialect for dialect in DIALECTS if dialect.wrote(columns)), None)


def translate(part: Part, dialect: Dialect) -> Part:
    """Add our columns beside the tool's, and set aside the rows that are no trials.

    A column that the file has itself under one of our names stays as it is; only PsychoPy's `session`, which is ``001``
    for most people's every visit, becomes `session_label`.

    Parameters
    ----------
    part
        A table of the tool.
    dialect
        Which tool, as `recognise` returns it.

    Returns
    -------
    Part
        With `participant, trial, response, correct, rt` (s) and, where they are evident, `started, phase, catch,
        instruction_time` (s) and `experiment`.  Trials are numbered from 1 in each session, in the order of the file.
        A file without any answer is a fault.
    """
    if not part.rows or not part.cells:
        return replace(part, tool=dialect.title)
    finding = _read_gorilla(part.cells) if dialect.name == "gorilla" else _read_psychopy(part.cells)
    if not finding.kept:
        fault = Fault(f"The table of {dialect.title} holds no answers: {finding.lacking}.")
        return replace(part, tool=dialect.title, cells={}, rows=[], faults=(*part.faults, fault))
    kept = finding.kept
    cells = {name: [column[row] for row in kept] for name, column in part.cells.items()}
    notes = [f"{dialect.title}: {note}." for note in finding.notes]
    own = []
    for name, column in finding.columns.items():
        ours = [column[row] for row in kept]
        if name in finding.labels:
            cells[f"{name}_label"] = cells.pop(name)
        if name in cells and any(parse_text(cell) is not None for cell in cells[name]):
            own += [name] if list(map(parse_text, cells[name])) != list(map(parse_text, ours)) else []
        elif any(parse_text(cell) is not None for cell in ours):
            cells[name] = ours
    if own:
        notes.append(
            f"{dialect.title}: the file has its own {_columns(own)}, read as it is; where the tool's is meant, map it."
        )
    return replace(
        part,
        cells=cells,
        rows=[part.rows[row] for row in kept],
        tool=dialect.title,
        faults=(*part.faults, *finding.faults),
        notes=(*part.notes, *notes),
    )


@dataclass
class _Finding:
    """What a tool's table says: the positions of its answers, our columns over all its rows, and what to tell."""

    kept: list[int]
    lacking: str
    columns: dict[str, Cells] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)  # columns of the tool that give way to ours and are kept as labels
    notes: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


# PsychoPy and Pavlovia --------------------------------------------------------------------------------------------


def _read_psychopy(cells: dict[str, Cells]) -> _Finding:
    """Find the rows of loops in which a component was answered; PsychoPy writes times in seconds."""
    n_rows = len(next(iter(cells.values())))
    rows = range(n_rows)
    loops = {found[1]: name for name in cells if (found := _LOOP.fullmatch(name))}
    passed = [[loop for loop, name in loops.items() if _holds(cells[name][row])] for row in rows]
    inside = [row for row in rows if passed[row]]
    components = _components(cells, inside)
    answered = {
        row: [one for one, needed in components.items() if any(_holds(cells[name][row]) for name in needed)]
        for row in inside
    }
    kept = [row for row in inside if answered[row]]
    if not components:  # an experiment's own code may have judged the answers
        kept = [row for row in inside if _holds(cells.get("correct", [None] * n_rows)[row])]
    finding = _Finding(kept, "no row of a loop has a key, a click or a time of answer")
    if n_rows > len(kept):
        finding.notes.append(
            f"{_count(n_rows - len(kept), 'row')} without an answer, such as instructions and ends of loops, "
            f"{_are(n_rows - len(kept))} no trials"
        )

    people = _first(cells, _PEOPLE)
    labels = _first(cells, ("session", "__session"))
    sessions = [column for column in (labels, cells.get("date")) if column]
    keys = [(parse_text(people[row]) if people else None, *(parse_text(one[row]) for one in sessions)) for row in rows]
    ours = finding.columns
    ours["participant"] = people or [None] * n_rows
    ours["experiment"] = cells.get("expName", [None] * n_rows)
    ours["started"] = [_moment(cell) for cell in cells.get("expStart", cells.get("date", [None] * n_rows))]
    if labels and any(ours["started"][row] for row in kept):
        # Who takes part again is asked for a session, and leaves the '001' that stands there.
        finding.labels |= {"session"} & set(cells)
        pairs = zip(labels, ours["started"], strict=True)
        ours["session"] = [" ".join(filter(None, (parse_text(label), start))) or None for label, start in pairs]
        finding.notes.append("session is its label and when it began; the label alone stays beside it")
    ours["trial"] = _numbered(keys, kept)
    ours["instruction_time"] = _summed(keys, _instructions(cells, rows))
    if any("practi" in loop.lower() for row in kept for loop in passed[row]):
        ours["phase"] = [
            "practice" if any("practi" in loop.lower() for loop in passed[row]) else "main" for row in rows
        ]
    if any("catch" in loop.lower() for row in kept for loop in passed[row]):
        ours["catch"] = [any("catch" in loop.lower() for loop in passed[row]) for row in rows]

    doubled = [row for row in kept if len(answered[row]) > 1]
    if doubled:
        names = name_some(sorted({one for row in doubled for one in answered[row]}), quote=True)
        finding.faults.append(
            Fault(
                f"Several components were answered in one row ({names}), so that none is taken for the answer; map "
                "'correct', 'response' and 'rt' to the columns of the one that is meant.",
                "warning",
            )
        )
    elif components and kept:
        _take_answers(cells, {row: answered[row][0] for row in kept}, finding)
    return finding


def _components(cells: dict[str, Cells], inside: Sequence[int]) -> dict[str, list[str]]:
    """Return the components that take answers, and the columns that say of a row whether they took one.

    Those that judge their answers (``.corr``) come before those that only time them: the latter may advance a screen.
    """

    def used(ending: str) -> list[str]:
        names = [name[: -len(ending)] for name in cells if name.endswith(ending)]
        return [one for one in names if any(_holds(cells[one + ending][row]) for row in inside)]

    if judged := used(".corr"):
        return {one: [f"{one}.corr"] for one in judged}
    timed = {
        one: [name for ending in _ANSWERS + _TIMES if (name := f"{one}.{ending}") in cells]
        for one in dict.fromkeys(used(".rt") + used(".clicked_name"))
    }
    return {one: names for one, names in timed.items() if "instr" not in one.lower()}


def _take_answers(cells: dict[str, Cells], component: dict[int, str], finding: _Finding) -> None:
    n_rows = len(next(iter(cells.values())))

    def taken(endings: Iterable[str]) -> Cells:
        column: Cells = [None] * n_rows
        for row, one in component.items():
            names = (f"{one}.{ending}" for ending in endings)
            column[row] = next((_single(cells[name][row]) for name in names if name in cells), None)
        return column

    response, correct, times = taken(_ANSWERS), taken(("corr",)), taken(_TIMES)
    several = [row for row, cell in enumerate(times) if isinstance(cell, str) and cell.startswith("[")]
    for row in several:
        times[row] = None
    finding.columns.update(response=response, correct=correct, rt=times)
    names = name_some(list(dict.fromkeys(component.values())), quote=True)
    finding.notes.append(f"answers are those of {names}; rt is in seconds, as written")
    if several:
        finding.notes.append(f"rt is left blank in {_count(len(several), 'row')} with several times of one answer")


def _single(cell: Any) -> Any:
    """Return what a list of one holds, as PsychoPy writes where it keeps all keys or clicks; ``None`` is no answer."""
    if not isinstance(cell, str):
        return cell
    word = cell.strip()
    found = _LIST_OF_ONE.fullmatch(word)
    word = found[2] if found else word
    return None if word in ("", "None") else word


def _holds(cell: Any) -> bool:
    return parse_text(cell) is not None and _single(cell) is not None


def _instructions(cells: dict[str, Cells], rows: range) -> list[float | None]:
    """Return the seconds that each row spent with components named after instructions."""
    names = [name for name in cells if name.endswith(".rt") and "instr" in name.lower()]
    return [_added(_number(_single(cells[name][row])) for name in names) for row in rows]


def _moment(cell: Any) -> str | None:
    """Return a date as PsychoPy writes it (three ways, by version) as ISO 8601 does."""
    text = parse_text(cell) or ""
    if found := _ISO_LIKE.fullmatch(text):
        year, month, day, hour, minute, second, hours, minutes = found.groups()
        zone = f"{hours}:{minutes}" if hours else ""
        iso = f"{year}-{month}-{day}T{hour}:{minute}:{second or '00'}{zone}"
    elif (found := _MONTH_NAMED.fullmatch(text)) and found[2] in _MONTHS:
        iso = f"{found[1]}-{_MONTHS.index(found[2]) + 1:02d}-{found[3]}T{found[4]}:{found[5]}:00"
    else:
        iso = text
    try:
        datetime.fromisoformat(iso)
    except ValueError:
        return None
    return iso


# Gorilla ----------------------------------------------------------------------------------------------------------


def _read_gorilla(cells: dict[str, Cells]) -> _Finding:
    """Find the first answer on each screen that judges answers; Gorilla writes times in milliseconds."""
    n_rows = len(next(iter(cells.values())))
    rows = range(n_rows)
    nothing: Cells = [None] * n_rows

    def words(*names: str) -> list[str]:
        return [(parse_text(cell) or "").lower() for cell in _first(cells, names) or nothing]

    ended = [word == "end of file" for word in words("Event Index")]
    zone, kind, attempt = words("Zone Type"), words("Response Type"), words("Attempt")
    late, display, screen = words("Timed Out"), words(*_DISPLAYS), words(*_SCREENS)
    answer = [not ended[row] and (kind[row] or zone[row].partition("_")[0]) == "response" for row in rows]
    places = {(display[row], screen[row]) for row in rows if answer[row]}
    timeless = [
        not answer[row]
        and not ended[row]
        and (kind[row] in _TIMED_OUT or late[row] in ("1", "1.0", "true"))
        and (display[row], screen[row]) in places
        for row in rows
    ]
    good, bad = words("Correct"), words("Incorrect")
    correct = [_judged(good[row], bad[row]) if answer[row] else None for row in rows]

    again = [row for row in rows if answer[row] and attempt[row] not in ("", "0", "1", "1.0")]
    first = set(rows) - set(again)
    scored = any(correct[row] is not None for row in rows)
    unscored = [row for row in rows if row in first and answer[row] and scored and correct[row] is None]
    judging = {(display[row], screen[row]) for row in rows if correct[row] is not None}
    kept = [
        row
        for row in rows
        if (answer[row] and row in first and (correct[row] is not None or not scored))
        or (timeless[row] and (not scored or (display[row], screen[row]) in judging))
    ]
    finding = _Finding(kept, "no row is of a zone that takes responses")
    _note_gorilla(finding, n_rows, len(again), len(unscored), sum(timeless[row] for row in kept))
    if not any(ended):
        finding.faults.append(
            Fault("The last row of Gorilla's table is not 'END OF FILE', so the download may be cut off.", "warning")
        )

    keys = words("Participant Private ID")
    milliseconds = _first(cells, _MILLISECONDS) or nothing
    ours = finding.columns
    ours["participant"] = cells.get("Participant Private ID", nothing)
    ours["experiment"] = cells.get("Experiment ID", nothing)
    ours["started"] = _earliest(keys, cells.get("UTC Timestamp", nothing), ended)
    ours["trial"] = _numbered(keys, kept)
    ours["response"] = [None if timeless[row] else cells.get("Response", nothing)[row] for row in rows]
    ours["correct"] = list(correct)
    ours["rt"] = [None if timeless[row] else _seconds(milliseconds[row]) for row in rows]
    instructed = [("instr" in display[row] or "instr" in screen[row]) and not answer[row] for row in rows]
    spent = [_number(milliseconds[row]) if instructed[row] else None for row in rows]
    ours["instruction_time"] = _summed(keys, [None if one is None else one / 1000 for one in spent])
    if any("practi" in display[row] for row in kept):
        ours["phase"] = ["practice" if "practi" in word else "main" for word in display]
    if any("catch" in display[row] for row in kept):
        ours["catch"] = ["catch" in word for word in display]
    for name in COLUMNS:
        if f"Spreadsheet: {name}" in cells:
            ours[name] = cells[f"Spreadsheet: {name}"]
    return finding


def _note_gorilla(finding: _Finding, n_rows: int, again: int, unscored: int, timeless: int) -> None:
    others = n_rows - len(finding.kept) - again - unscored
    if others:
        finding.notes.append(
            f"{_count(others, 'row')} of other events, such as instructions and fixation, {_are(others)} no trials"
        )
    if again:
        finding.notes.append(f"{_count(again, 'further attempt')} at a trial {_are(again)} set aside")
    if unscored:
        finding.notes.append(f"{_count(unscored, 'answer')} neither Correct nor Incorrect {_are(unscored)} set aside")
    if timeless:
        finding.notes.append(f"{_count(timeless, 'trial')} that timed out {_are(timeless)} without an answer")
    finding.notes.append("'Reaction Time' in milliseconds is read as rt in seconds")


def _judged(good: str, bad: str) -> int | None:
    """Return 1 or 0; a screen without a right answer has neither a 1 in Correct nor in Incorrect."""
    yes = ("1", "1.0", "true")
    return 1 if good in yes else 0 if bad in yes or (good and not bad and good in ("0", "0.0", "false")) else None


def _seconds(cell: Any) -> Any:
    number = _number(cell)
    return cell if number is None else number / 1000


def _earliest(keys: Sequence[Hashable], stamps: Cells, ended: Sequence[bool]) -> Cells:
    """Return of each row when its participant began: the earliest UTC timestamp, in milliseconds since 1970."""
    first: dict[Hashable, float] = {}
    for key, cell, end in zip(keys, stamps, ended, strict=True):
        number = None if end else _number(cell)
        if number is not None and 0 < number <= _LATEST:
            first[key] = min(number, first.get(key, number))
    told = {
        key: datetime.fromtimestamp(stamp / 1000, UTC).isoformat(timespec="seconds") for key, stamp in first.items()
    }
    return [told.get(key) for key in keys]


# Both ------------------------------------------------------------------------------------------------------------


def _first(cells: dict[str, Cells], names: Iterable[str]) -> Cells | None:
    return next((cells[name] for name in names if name in cells), None)


def _numbered(keys: Sequence[Hashable], kept: Iterable[int]) -> Cells:
    """Number the kept rows of each session from 1."""
    numbers: Cells = [None] * len(keys)
    seen: defaultdict[Hashable, int] = defaultdict(int)
    for row in kept:
        seen[keys[row]] += 1
        numbers[row] = seen[keys[row]]
    return numbers


def _summed(keys: Sequence[Hashable], seconds: Sequence[float | None]) -> Cells:
    """Return of each row the sum over its session, and None where nothing was measured."""
    sums: dict[Hashable, float] = {}
    for key, one in zip(keys, seconds, strict=True):
        if one is not None:
            sums[key] = sums.get(key, 0.0) + one
    return [sums.get(key) for key in keys]


def _added(numbers: Iterable[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _number(cell: Any) -> float | None:
    try:
        return None if isinstance(cell, bool) or parse_text(cell) is None else float(cell)
    except (TypeError, ValueError, OverflowError):
        return None


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _columns(names: Sequence[str]) -> str:
    return f"column{'s' * (len(names) > 1)} {name_some(names, quote=True)}"
