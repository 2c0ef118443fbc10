"""JSON documents: what a browser's experiment sent, as lists of records that say where they stood.

In: the bytes of a JSON file, of JSON lines, or of several documents one after another.  Out: runs of records, or what
is wrong with them.  Knows no column of the trial table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from psychostats.errors import DataError, Fault
from psychostats.tabular import decode_text

Record: TypeAlias = dict[str, Any]

# Under which key a document keeps its trials; what is sent twice is read from the first that is there.
_LISTS = ("raw_data", "rawData", "main_data", "mainData", "trials", "data", "results")
_SPACE = re.compile(r"[ \t\r\n\x1e]*")


@dataclass(frozen=True)
class Run:
    """The records of one document.

    Parameters
    ----------
    records
        In their order.
    rows
        Their numbers in the file, from 1.
    constants
        What the document says beside them, which holds for each.
    posted
        Whether it holds them under a key, as what a page posts does.
    """

    records: list[Record]
    rows: list[int]
    constants: Record
    posted: bool = False


class _Doubled(ValueError):
    """A key that stands twice in one object."""


def _object(pairs: list[tuple[str, Any]]) -> Record:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Doubled(next(name for name in names if names.count(name) > 1))
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def read_runs(data: bytes, name: str) -> list[Run]:
    """Read a JSON file as runs of records.

    A list of records is one run, and so is each list of a list, each document that holds one under a key (such as
    ``{main_data, raw_data, task_id}``), and each document of several; records that stand one after another, a line
    each, are one run together.

    Raises
    ------
    DataError
        If it is no JSON, is cut off, or holds no records; the fault names the line or the record.
    """
    text = decode_text(data, name)
    try:
        documents = _documents(text, name)
        runs = [run for document in documents for run in _runs(document, name)]
    except RecursionError:
        raise _fault(name, "is nested too deeply to be trials") from None
    if "\\ud" in text or "\\uD" in text:  # what JSON can write, and no text can hold
        _require_text(runs, name)
    single = [run for run in runs if run.rows == [0]]
    if single:
        merged = Run([run.records[0] for run in single], [0] * len(single), {})
        runs = [*(run for run in runs if run.rows != [0]), merged]
    placed, start = [], 1
    for run in runs:
        placed.append(Run(run.records, list(range(start, start + len(run.records))), run.constants, run.posted))
        start += len(run.records)
    return placed


def _documents(text: str, name: str) -> list[Any]:
    found, at = [], _skip(text, 0)
    if at == len(text):
        raise _fault(name, "holds only blanks")
    while at < len(text):
        try:
            value, at = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            line, column = error.lineno, error.colno
            where = f"in line {line}, column {column}"
            if not text[error.pos :].strip() or error.msg.startswith("Unterminated string"):
                raise _fault(name, f"is cut off: its JSON ends unfinished {where}", line) from None
            raise _fault(name, f"is not JSON: {error.msg[0].lower()}{error.msg[1:]} {where}", line) from None
        except _Doubled as error:
            raise _fault(name, f"has the key '{error}' twice in one record, of which only one can be read") from None
        except ValueError:  # of an integer with more digits than Python reads
            raise _fault(name, "holds a number with thousands of digits") from None
        found.append(value)
        at = _skip(text, at)
    return found


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _runs(document: Any, name: str) -> Iterator[Run]:
    if isinstance(document, dict):
        yield _of_object(document, name)
    elif isinstance(document, list):
        if document and all(isinstance(one, list) or _holds_list(one) for one in document):
            for one in document:
                yield from _runs(one, name)
            return
        for number, one in enumerate(document, 1):
            if not isinstance(one, dict):
                raise _fault(name, f"holds {_kind(one)} where record {number} of a list of trials should be", number)
        yield Run(document, [], {})
    else:
        raise _fault(name, f"holds {_kind(document)}, where a list of trials should be")


def _holds_list(document: Any) -> bool:
    """Whether a document is one that a page posts, rather than a record."""
    return isinstance(document, dict) and any(
        isinstance(document.get(key), list) or (isinstance(document.get(key), str) and document[key].startswith("["))
        for key in _LISTS
    )


def _of_object(document: Record, name: str) -> Run:
    for key in _LISTS:
        held = document.get(key)
        if isinstance(held, str) and held.lstrip().startswith("["):
            held = _documents(held, f"{name}, {key}")[0]
        if isinstance(held, list) and held and all(isinstance(one, dict) for one in held):
            scalars = {
                name: one
                for name, one in document.items()
                if name not in _LISTS and isinstance(one, str | int | float | bool)
            }
            return Run(held, [], scalars, posted=True)
    return Run([document], [0], {})  # perhaps one of several, a line each


def _require_text(runs: list[Run], name: str) -> None:
    for run in runs:
        for number, record in enumerate(run.records, 1):
            try:
                json.dumps(record, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                raise _fault(name, f"holds half of a surrogate pair in record {number}, which is no text") from None


def _kind(value: Any) -> str:
    for kind, word in ((bool, "true or false"), (int | float, "a number"), (str, "text"), (list, "a list")):
        if isinstance(value, kind):
            return word
    return "nothing (null)" if value is None else "an object"


def _fault(name: str, problem: str, row: int | None = None) -> DataError:
    return DataError([Fault(f"File '{name}' {problem}.", row=row)])
