"""Recordings of jsPsych, and what JATOS or a page's own server kept of them, as trials.

In: the records of a JSON file, or the cells of a CSV file, and the study's names of columns.  Out: a `Part` whose rows
are the answers, named and in the units of the trial table.  Knows no folder and no archive.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from psychostats.cells import Cells, is_blank
from psychostats.documents import Record, Run, read_runs
from psychostats.errors import Fault
from psychostats.parts import Part

_MARKS = frozenset({"trial_type", "trial_index", "time_elapsed", "internal_node_id"})
_PEOPLE = (
    "participant", "participant_id", "participantId", "participantID", "subject", "subject_id", "subjectId",
    "subjectID", "PROLIFIC_PID", "prolific_pid", "prolificId", "prolificID", "workerId", "worker_id", "workerID",
)  # fmt: skip
_STARTS = ("started", "start_time", "startTime", "start_date", "startDate", "datetime", "date", "timestamp")
_MILLISECONDS = ("rt", "time_elapsed")
_CATCH = ("catch_trial", "is_catch", "catchTrial", "isCatch")
_PRACTICE = ("is_demo", "is_practice", "isPractice", "practice")
_QUERIES = ("max_query", "min_query", "max_references", "min_references")
_YES = frozenset({"true", "1", "1.0", "yes"})
_LONG = 200  # a list of more signs than that is no cell of a table

# Zimmermann et al. (2023): <experiment>/<namespace>/task_<i>/trials/trial_<j>/queries/max.png; practice has no task.
_TASK = re.compile(r"([^/]+/task_[^/]+|demo_[^/]+)/trials/trial_(\d+)/")
_HOST = re.compile(r"^[a-z][a-z0-9+.-]*://[^/]*/")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?$")
_JATOS = re.compile(r"(?:^|/)(study_result_\d+)/(comp-result_\d+)/")


def is_jspsych(columns: Collection[str]) -> bool:
    """Whether these are names of a table that jsPsych wrote."""
    return len(_MARKS & set(columns)) >= 2


def read_json(
    data: bytes,
    name: str,
    columns: Mapping[str, str] | None = None,
    *,
    tool: str = "auto",
    results: Mapping[str, Record] | None = None,
) -> Part:
    """Read a JSON file: jsPsych's own, of JATOS, of a page that posts ``{main_data, raw_data}``, or plain records.

    Parameters
    ----------
    data, name
        The file.
    columns
        Our name -> the file's name, as the study says; these win over what jsPsych's names are taken for.
    tool
        ``table`` reads plain records, whose units are the trial table's; ``jspsych`` whatever they look like.
    results
        What JATOS says of its results, as `read_results` returns it.

    Returns
    -------
    Part
        Rows count the records of the file from 1.

    Raises
    ------
    DataError
        If it holds no records.
    """
    runs = read_runs(data, name)
    jatos = _JATOS.search(f"/{name}")
    if jatos and results and (said := results.get(jatos[1])):
        runs = [replace(run, constants=said | run.constants) for run in runs]
    marked = any(run.posted or _MARKS & run.records[0].keys() for run in runs if run.records)
    if tool == "jspsych" or (tool == "auto" and marked):
        return _trials(runs, name, columns or {})
    records = [run.constants | record for run in runs for record in run.records]
    names = dict.fromkeys(chain.from_iterable(records))
    if not names or (len(records) == 1 and tool == "auto" and jatos):
        if jatos:
            return Part(tool="JATOS", notes=(_NO_ANSWER,))
        return Part(faults=(Fault(f"File '{name}' holds no trials: its records are empty."),))
    cells = {one: [record.get(one) for record in records] for one in names}
    flat, dropped = _flat(cells)
    rows = [row for run in runs for row in run.rows]
    return Part(flat, rows, "JSON records", notes=_dropped_note(dropped), words=_words(flat))


def read_results(data: bytes) -> dict[str, Record]:
    """Return what the metadata of a JATOS archive say of each study result: when it began, and whose it is.

    Parameters
    ----------
    data
        Of its ``metadata.json``; what cannot be read of it says nothing.

    Returns
    -------
    dict
        Such as ``study_result_7`` -> `started`, and `participant` where the address of the study held an id.
    """
    try:
        studies = json.loads(data)["data"]
        results = [result for study in studies for result in study["studyResults"]]
        found = {}
        for result in results:
            address = result.get("urlQueryParameters") or {}
            said = {
                "started": _date(result.get("startDate")),
                "participant": next((address[name] for name in _PEOPLE if not is_blank(address.get(name))), None),
            }
            found[f"study_result_{result['id']}"] = {name: one for name, one in said.items() if one is not None}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return found


def translate_table(part: Part, name: str, columns: Mapping[str, str] | None = None) -> Part:
    """Return the trials of a table that jsPsych wrote, whose blank cells say nothing."""
    names = list(part.cells)
    records = [
        {key: cell for key, cell in zip(names, row, strict=True) if not is_blank(cell)}
        for row in zip(*part.cells.values(), strict=True)
    ]
    made = _trials([Run(records, list(part.rows), {})], name, columns or {})
    return Part(made.cells, made.rows, "jsPsych", (*part.faults, *made.faults), (*part.notes, *made.notes))


# Sessions --------------------------------------------------------------------------------------------------------

_NO_ANSWER = "files that hold screens but no answer: 1"


@dataclass
class _Session:
    """The records of one person's one run through the experiment; `rows` are their numbers in the file."""

    records: list[Record]
    rows: list[int]
    constants: Record
    person: Any = None
    name: str = ""


def _trials(runs: list[Run], name: str, columns: Mapping[str, str]) -> Part:
    answer = columns.get("correct", "correct")
    people = tuple(dict.fromkeys([columns.get("participant", "participant"), *_PEOPLE]))
    sessions = [one for run in runs for one in _split(_unnested(run), people)]
    answered = [one for one in sessions if any(answer in record for record in one.records)]
    if not answered:
        if any(one.records for one in sessions):
            return Part(tool="jsPsych", notes=(_NO_ANSWER,))
        return Part(tool="jsPsych", faults=(Fault(f"File '{name}' holds an empty list, and no trials."),))
    jatos = _JATOS.search(f"/{name}")
    place = jatos[1] if jatos else name
    stem = jatos[1] if jatos else re.sub(r"\.[^./]*$", "", name)
    notes: list[str] = []
    made: list[dict[str, Cells]] = []
    rows: list[int] = []
    screens = unnamed = 0
    for number, session in enumerate(answered, 1):
        several = len(answered) > 1 and not jatos
        session.name = f"{place}:{number}" if several else place
        if session.person is None:
            session.person = f"{stem}:{number}" if several else stem
            unnamed += 1
        kept = [position for position, record in enumerate(session.records) if answer in record]
        screens += len(session.records) - len(kept)
        cells, said = _session_cells(session, kept, columns)
        if jatos and "block" not in cells:
            cells["block"] = [jatos[2]] * len(kept)
        made.append(cells)
        notes += said
        rows += [session.rows[position] for position in kept]
    if screens:
        notes.append(f"screens that are no answers (instructions, pauses, forms), set aside: {screens}")
    if unnamed:
        notes.append(f"sessions that name no participant, who is called as the file is: {unnamed}")
    return Part(_joined(made), rows, "JATOS" if jatos else "jsPsych", notes=tuple(dict.fromkeys(notes)))


def _unnested(run: Run) -> Run:
    """Lift what stands in an object `data` of a record beside its other keys."""
    if not any(isinstance(record.get("data"), dict) for record in run.records):
        return run
    records = []
    for record in run.records:
        inner = record.get("data")
        if isinstance(inner, dict):
            outer = {key: value for key, value in record.items() if key != "data"}
            record = outer | {key if key not in outer else f"data.{key}": value for key, value in inner.items()}
        records.append(record)
    return Run(records, run.rows, run.constants, run.posted)


def _split(run: Run, people: tuple[str, ...]) -> Iterator[_Session]:
    """Split a run by whose records they are, and where the numbering of a person's records starts again."""
    constants = run.constants
    column = next((key for key in people if any(key in record for record in run.records)), None)
    if column is None:
        person = next((constants[key] for key in people if not is_blank(constants.get(key))), None)
        groups = {None: list(range(len(run.records)))}
        named = {None: person}
    else:
        held = [record.get(column) for record in run.records]
        known = list(dict.fromkeys(str(one) for one in held if not is_blank(one)))
        single = known[0] if len(known) == 1 else None
        groups, named = {}, {}
        for position, one in enumerate(held):
            key: Any = single if is_blank(one) else str(one)
            groups.setdefault(key, []).append(position)
            named[key] = key
    for key, positions in groups.items():
        for part in _restarts(run.records, positions):
            records = [run.records[position] for position in part]
            yield _Session(records, [run.rows[position] for position in part], constants, named[key])


def _restarts(records: list[Record], positions: list[int]) -> Iterator[list[int]]:
    part: list[int] = []
    last = -1.0
    for position in positions:
        index = _number(records[position].get("trial_index"))
        if index is not None:
            if index <= last and part:
                yield part
                part = []
            last = index
        part.append(position)
    yield part


def _session_cells(
    session: _Session, kept: list[int], columns: Mapping[str, str]
) -> tuple[dict[str, Cells], list[str]]:
    """Return the cells of a session's answers, named and converted, and what is to be said of it."""
    answers = [session.records[position] for position in kept]
    names = dict.fromkeys(chain.from_iterable(answers))
    cells, dropped = _flat({name: [record.get(name) for record in answers] for name in names})
    size = len(kept)
    for name, value in session.constants.items():
        cells.setdefault(name, [value] * size)
    notes = list(_dropped_note(dropped))
    person = [session.person] * size
    cells["participant"] = person
    if (mapped := columns.get("participant")) is not None:
        cells[mapped] = person
    cells["session"] = [session.name] * size
    converted = [name for name in _MILLISECONDS if name in cells]
    for name in converted:
        cells[name] = [_seconds(cell) for cell in cells[name]]
    if converted:
        notes.append(f"{' and '.join(converted)}: milliseconds are converted to seconds")
    if "trial" not in cells:
        index = cells.get("trial_index") or list(range(size))
        cells["trial"] = [_next(cell) for cell in index]
    _marks(cells, size)
    _places(cells, answers)
    _response(cells)
    cells |= {name: [value] * size for name, value in _of_session(session, kept, cells).items()}
    return cells, notes


def _marks(cells: dict[str, Cells], size: int) -> None:
    """Say which trials are catch trials and which are practice, where the recording does."""
    if "catch" not in cells and (name := next((one for one in _CATCH if one in cells), None)):
        cells["catch"] = [False if is_blank(cell) else cell for cell in cells[name]]
    if "phase" not in cells and (name := next((one for one in _PRACTICE if one in cells), None)):
        cells["phase"] = ["practice" if str(cell).strip().lower() in _YES else "main" for cell in cells[name]]


def _response(cells: dict[str, Cells]) -> None:
    """Name the response: the row of a choice whose sides were drawn (so that one row alone is seen), or the choice."""
    if "response" in cells:
        return
    if "choice" in cells and "switched_queries" in cells:
        rows = {("a", "false"): "upper", ("b", "true"): "upper", ("b", "false"): "lower", ("a", "true"): "lower"}
        pairs = zip(cells["choice"], cells["switched_queries"], strict=True)
        cells["response"] = [rows.get((str(one), str(switched).lower())) for one, switched in pairs]
        return
    for name in ("choice", "button_pressed", "button", "key_press"):
        if name in cells:
            cells["response"] = cells[name]
            return


def _places(cells: dict[str, Cells], answers: list[Record]) -> None:
    """Name the stimulus by the folder its images lie in, where the recording has no name for it."""
    if "stimulus" in cells and any(not is_blank(cell) for cell in cells["stimulus"]):
        return
    paths = [_path(record) for record in answers]
    if not any(paths):
        return
    found = [_TASK.search(path) if path else None for path in paths]
    if any(found):
        # Practice is of no task; what is shown in it is not in the key that joins the others.
        tasks = [one if one and not one[1].startswith("demo_") else None for one in found]
        cells["task"] = [one[1] if one else None for one in tasks]
        cells["task_trial"] = [int(one[2]) if one else None for one in tasks]
    folders = [one[0].rstrip("/") if one else _folder(path) for one, path in zip(found, paths, strict=True)]
    cells["stimulus"] = folders
    for name in _QUERIES:
        cells.pop(name, None)


def _path(record: Record) -> str | None:
    for name in (*_QUERIES, *record):
        held = record.get(name)
        if name in _QUERIES and isinstance(held, str) and "/" in held:
            return held
        if isinstance(held, list) and held and _is_path(held[0]):
            return str(held[0])
    return None


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and "/" in value


def _folder(path: str | None) -> str | None:
    return _HOST.sub("", path).rpartition("/")[0] if path else None


def _of_session(session: _Session, kept: list[int], cells: Mapping[str, Cells]) -> Record:
    """Return what holds for a whole session: when it began, how long instructions were read, practice attempts."""
    found: Record = {}
    screens = session.records[: kept[0]]
    read = [_seconds(one.get("rt")) for one in screens if "instruction" in str(one.get("trial_type", "")).lower()]
    times = [one for one in read if isinstance(one, float)]
    if times and "instruction_time" not in cells:
        found["instruction_time"] = round(sum(times), 6)
    if "practice_attempts" not in cells and "phase" in cells and "stimulus" in cells:
        shown = Counter(
            stimulus
            for stimulus, phase in zip(cells["stimulus"], cells["phase"], strict=True)
            if phase == "practice" and stimulus is not None
        )
        if shown:
            found["practice_attempts"] = max(shown.values())
    if "started" not in cells or not all(map(_date, cells["started"])):
        for record in (session.constants, *session.records[:1], *session.records[kept[0] : kept[0] + 1]):
            if date := next((one for name in _STARTS if (one := _date(record.get(name)))), None):
                found["started"] = date
                break
    return found


# Cells -----------------------------------------------------------------------------------------------------------


def _date(value: Any) -> str | None:
    """Return a date as ISO 8601 has it: its own text, or that of milliseconds since 1970."""
    if isinstance(value, str) and _DATE.match(value.strip()):
        return value.strip()
    number = _number(value)
    if number is not None and 1e12 <= number < 1e13:
        return datetime.fromtimestamp(number / 1000, UTC).isoformat(timespec="seconds")
    return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or (isinstance(value, str) and "_" in value):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _seconds(value: Any) -> Any:
    """Return milliseconds as seconds, and what is no number as it is, which the judge of cells will name."""
    number = None if is_blank(value) else _number(value)
    return value if number is None else number / 1000


def _next(value: Any) -> Any:
    number = _number(value)
    return int(number) + 1 if number is not None and number.is_integer() and abs(number) < 2**53 else value


def _flat(cells: Mapping[str, Cells], depth: int = 3) -> tuple[dict[str, Cells], list[str]]:
    """Return columns without objects and lists, and the names of those that are no cells of a table.

    An object becomes a column a key, such as ``response.Q0``; a list becomes its JSON, or is dropped where that is
    long or it holds paths, which the stimulus stands for.
    """
    flat: dict[str, Cells] = {}
    dropped: list[str] = []
    for name, column in cells.items():
        kinds = set(map(type, column))
        if dict in kinds:
            inner = [one if isinstance(one, dict) else {} for one in column]
            keys = dict.fromkeys(chain.from_iterable(inner))
            rest: Cells = [None if isinstance(one, dict) else one for one in column]
            below = {f"{name}.{key}": [one.get(key) for one in inner] for key in keys}
            if depth:
                below, more = _flat(below, depth - 1)
                dropped += more
            else:
                below = {one: [_written(cell) for cell in held] for one, held in below.items()}
            flat |= {one: held for one, held in below.items() if one not in cells}
            if not kinds - {dict, type(None)}:
                continue
            column = rest
        if list in kinds:
            if any(type(one) is list and one and _is_path(one[0]) for one in column):
                dropped.append(name)
                continue
            texts = [_written(one) if isinstance(one, list) else one for one in column]
            if any(isinstance(one, str) and len(one) > _LONG for one in texts):
                dropped.append(name)
                continue
            column = texts
        flat[name] = column
    return flat, dropped


def _written(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if isinstance(value, list | dict) else value


def _dropped_note(names: list[str]) -> tuple[str, ...]:
    return (f"lists that are no cells of a table are dropped: {', '.join(names)}",) if names else ()


def _words(cells: Mapping[str, Cells]) -> frozenset[str]:
    return frozenset(name for name, column in cells.items() if any(isinstance(cell, str) for cell in column))


def _joined(parts: list[dict[str, Cells]]) -> dict[str, Cells]:
    """Join columns by name; where a part lacks one, its cells are blank."""
    if len(parts) == 1:
        return parts[0]
    sizes = [len(next(iter(part.values()))) for part in parts]
    names = dict.fromkeys(chain.from_iterable(parts))
    return {
        name: list(
            chain.from_iterable(part.get(name) or [None] * size for part, size in zip(parts, sizes, strict=True))
        )
        for name in names
    }
