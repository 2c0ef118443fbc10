"""The door for recordings: whatever an experiment wrote, as cells that remember their files.

In: a file, a folder, an archive, or a table of a workbook or a database, and the study's names of columns.  Out: the
cells of all trials, the files they came from, what was converted, and what is wrong.  Knows no rule of the trial table.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from psychostats.archives import ARCHIVES, Blob, open_blobs
from psychostats.cells import Cells, Raw, is_blank
from psychostats.databases import hide_password, read_server, read_sqlite, split_source
from psychostats.dialects import DIALECTS, recognise, translate
from psychostats.documents import Record
from psychostats.errors import DataError, Fault
from psychostats.identity import redact
from psychostats.jspsych import is_jspsych, read_json, read_results, translate_table
from psychostats.metadata import join_metadata
from psychostats.parts import Part, Reading, Source
from psychostats.spreadsheets import read_workbook
from psychostats.tabular import TABLES, read_raw, read_table
from psychostats.wide import lengthen, wide_pattern

PLAIN = Reading()
"""Recordings are read as each file asks to be."""

_JSON = (".json", ".jsonl", ".ndjson", ".txt")
_BOOKS = (".xlsx", ".xlsm", ".xls")
_DATABASES = (".sqlite", ".sqlite3", ".db")
_KINDS = (*TABLES, *_JSON, *_BOOKS, *_DATABASES, *ARCHIVES)
_PAUSE = 3.0  # s between lines of progress
_ENOUGH = 3  # answers whose times agree to the last digit are a session's copy, not chance
_NUMBER = re.compile(r"\d[\d,]*")


def read_recordings(
    source: str | Path | pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    reading: Reading = PLAIN,
    say: Callable[[str], None] = lambda line: None,
) -> Raw:
    """Read trials from what an experiment wrote; whatever is wrong becomes a fault.

    Parameters
    ----------
    source
        A data frame; a file (``.csv .tsv .parquet .json .jsonl .txt .xlsx .sqlite``); ``FILE#TABLE``, of a workbook or
        a database; a database's address (``postgresql://user@host/database#table``); a folder, which is searched with
        what is below it; or an archive (``.zip .jzip``).
    columns
        Our name -> the file's name, as the study says.
    reading
        Which tool wrote them, and what joins them.
    say
        Called with a line of progress every few seconds.

    Returns
    -------
    Raw
        Of one file, rows are numbered as in it.  Of a folder or an archive they are numbered from 1, and `origins`
        knows their files.  A plain table is read as it stands.
    """
    if isinstance(source, pd.DataFrame):
        return read_raw(source)
    raw = _open(str(source), columns or {}, reading, say)
    return raw if reading.metadata is None else join_metadata(_without_folders(raw, reading), reading)


def _without_folders(raw: Raw, reading: Reading) -> Raw:
    """Return trials without the folders that stand for stimuli where a task and its trial name them in what joins."""
    names = ("stimulus", "task", "task_trial")
    if not all(name in raw.cells for name in names) or "stimulus" in reading.by:
        return raw
    rows = zip(*(raw.cells[name] for name in names), strict=True)
    left = [None if shown == f"{task}/trials/trial_{trial}" else shown for shown, task, trial in rows]
    return replace(raw, cells={**raw.cells, "stimulus": left})


def _open(source: str, columns: Mapping[str, str], reading: Reading, say: Callable[[str], None]) -> Raw:
    """Read what was given, without what joins it."""
    place, table = split_source(source)
    if "://" in place:
        return _read_server(place, table, columns, reading)
    path = Path(place)
    suffix = path.suffix.lower()
    if table is not None and suffix not in (*_BOOKS, *_DATABASES):
        return Raw(faults=(Fault(f"File '{path}' has no tables, so none is named by '#{table}'."),))
    if not path.exists() or not (path.is_dir() or suffix in _KINDS):
        return Raw(faults=(_unreadable(path, suffix),))
    if path.is_dir() or suffix in ARCHIVES:
        return _read_many(path, columns, reading, say)
    return _read_one(path, suffix, table, columns, reading)


def wanted(name: str) -> bool:
    """Whether a file's name says that it may hold trials; a text may where JATOS calls it so."""
    suffix = Path(name).suffix.lower()
    return suffix in (*TABLES, *_JSON, *_BOOKS, *_DATABASES)


def _unreadable(path: Path, suffix: str) -> Fault:
    if not path.exists():
        return Fault(f"File '{path}' does not exist.")
    kinds = f"{', '.join(_KINDS[:-1])} and {_KINDS[-1]}"
    return Fault(f"File '{path}' ends in '{suffix}'; trials are read from {kinds} files, and from folders of them.")


# One file --------------------------------------------------------------------------------------------------------


def _read_one(path: Path, suffix: str, table: str | None, columns: Mapping[str, str], reading: Reading) -> Raw:
    if suffix in TABLES:
        raw = read_raw(path)
        if not raw.rows:
            return raw
        part = Part(raw.cells, raw.rows, faults=raw.faults, words=raw.words)
        made = _translated(part, path.name, columns, reading)
    else:
        (blob,) = open_blobs(path, wanted)
        if blob.fault:
            return Raw(faults=(replace(blob.fault, file=None),))
        made = _read(blob, columns, reading, table)
        if not made.rows and not made.faults:
            made = replace(
                made,
                faults=(
                    Fault(
                        f"File '{path.name}' holds no answers, which are records that have "
                        f"'{columns.get('correct', 'correct')}'."
                    ),
                ),
            )
    data = path.read_bytes()
    source = Source(_shown(path.name, 1), hashlib.sha256(data).hexdigest(), len(data), made.tool, len(made.rows))
    notes = tuple(_said(Counter(made.notes)))
    faults = (*made.faults, *_copies(made, path.name, columns, {}))
    return Raw(made.cells, made.rows, faults, made.words, sources=(source,), notes=notes)


def _read(
    blob: Blob,
    columns: Mapping[str, str],
    reading: Reading,
    table: str | None = None,
    results: Mapping[str, Record] | None = None,
) -> Part:
    """Ask the reader of a file's kind for its trials."""
    suffix = Path(blob.name).suffix.lower()
    try:
        if suffix in _JSON:
            return read_json(blob.data, blob.name, columns, tool=reading.tool, results=results)
        if suffix in _BOOKS:
            part = read_workbook(blob.data, blob.name, table)
        elif suffix in _DATABASES:
            if blob.path is None:
                why = "is a database in an archive; take it out of its archive"
                return Part(faults=(Fault(f"File '{blob.name}' {why}."),))
            part = read_sqlite(blob.path, table)
        else:
            raw = read_table(blob.data, blob.name, suffix)
            part = Part(raw.cells, raw.rows, faults=raw.faults, words=raw.words)
        return _translated(part, blob.name, columns, reading) if part.rows else part
    except DataError as error:
        return Part(faults=error.faults)


def _translated(part: Part, name: str, columns: Mapping[str, str], reading: Reading) -> Part:
    """Return a table in the words of the trial table, where a tool wrote it."""
    tool = reading.tool
    if tool == "jspsych" or (tool == "auto" and is_jspsych(part.cells)):
        return translate_table(part, name, columns)
    dialect = recognise(part.cells) if tool == "auto" else next((one for one in DIALECTS if one.name == tool), None)
    if dialect:
        return translate(part, dialect)
    if tool == "wide" or reading.wide or (tool == "auto" and wide_pattern(part.cells)):
        return lengthen(part, reading.wide)
    return part


def _read_server(url: str, table: str | None, columns: Mapping[str, str], reading: Reading) -> Raw:
    part = read_server(url, table)
    if part.rows:
        part = _translated(part, name_source(url), columns, reading)
    digest = hashlib.sha256(repr([(name, part.cells[name]) for name in sorted(part.cells)]).encode()).hexdigest()
    source = Source(name_source(f"{url}#{table}" if table else url), digest, 0, part.tool, len(part.rows))
    return Raw(
        part.cells, part.rows, part.faults, part.words, sources=(source,), notes=tuple(_said(Counter(part.notes)))
    )


def name_source(source: str | Path) -> str:
    """Return what was given without folders, passwords and platforms' ids, as a report may say it."""
    text = str(source)
    return hide_source(text if "://" in text else Path(text).name or text)


def hide_source(source: str | Path) -> str:
    """Return what was given without passwords and platforms' ids."""
    text = str(source)
    return redact(hide_password(text) if "://" in text else text)


# Many files ------------------------------------------------------------------------------------------------------


@dataclass
class _Gathered:
    """What has been read so far: columns that grow, and whose rows they are."""

    cells: dict[str, Cells] = field(default_factory=dict)
    files: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    words: dict[str, bool] = field(default_factory=dict)
    pool: dict[str, str] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)
    absent: dict[str, object] = field(default_factory=dict)
    """What the cells of a file are that lacks the column; nothing, for those that are not named."""

    def add(self, part: Part) -> None:
        """Add the rows of a file, the last of `sources`; columns it lacks are filled when next they grow."""
        size = len(self.rows)
        pool = self.pool
        for name, cells in part.cells.items():
            column = self.cells.setdefault(name, [])
            if len(column) < size:
                column.extend([self.absent.get(name)] * (size - len(column)))
            kinds = set(map(type, cells))
            # A text that returns is kept once: paths and ids of a million trials are few.
            column.extend(
                [pool.setdefault(cell, cell) if type(cell) is str else cell for cell in cells]
                if str in kinds
                else cells
            )
            self.words[name] = self.words.get(name, True) and name in part.words
        self.files.extend([len(self.sources) - 1] * len(part.rows))
        self.rows.extend(part.rows)

    def raw(self) -> Raw:
        """Return all that was read."""
        size = len(self.rows)
        for name, column in self.cells.items():
            column.extend([self.absent.get(name)] * (size - len(column)))
        self.pool.clear()
        origins = np.array(self.files, dtype=np.int32), np.array(self.rows, dtype=np.int64)
        return Raw(
            self.cells,
            list(range(1, size + 1)),
            tuple(self.faults),
            frozenset(name for name, text in self.words.items() if text),
            sources=tuple(self.sources),
            origins=origins,
            notes=tuple(_said(self.notes)),
        )


def _read_many(path: Path, columns: Mapping[str, str], reading: Reading, say: Callable[[str], None]) -> Raw:
    # A recording that marks no catch trials and no practice has none, whatever the others have.
    absent = {columns.get("catch", "catch"): False, columns.get("phase", "phase"): "main"}
    found = _Gathered(absent=absent)
    hashes: dict[str, str] = {}
    sessions: dict[int, str] = {}
    results: dict[str, Record] = {}
    last, size = time.monotonic(), 0
    for blob in open_blobs(path, wanted):
        if _is_metadata(blob):
            results |= read_results(blob.data)
        if blob.passed or _is_metadata(blob) or _is_talk(blob):
            found.passed[Path(blob.name).suffix.lower() or "no suffix"] += 1
            continue
        number = len(found.sources) + 1
        shown = _shown(blob.name, number)
        digest = hashlib.sha256(blob.data).hexdigest()
        if digest in reading.known:
            came = Source(shown, digest, len(blob.data), status="known", reason="it came before")
            found.sources.append(came)
            continue
        faults = [blob.fault] if blob.fault else []
        part = Part()
        if digest in hashes and blob.data:
            same = f"File '{blob.name}' holds the same bytes as '{hashes[digest]}'; one of them is enough."
            faults.append(Fault(same, column="session"))
        elif not faults:
            part = _read(blob, columns, reading, results=results)
            if part.rows:  # forms that nobody filled in are alike, and no matter
                hashes[digest] = shown
            faults += part.faults
            faults += _copies(part, shown, columns, sessions)
        broken = any(fault.severity == "error" for fault in faults) and not part.rows
        reason = faults[0].message if broken else ""
        status: Literal["read", "skipped"] = "skipped" if broken else "read"
        tool = "" if broken and part.tool == Part.tool else part.tool  # of what cannot be read, nobody knows
        found.sources.append(
            Source(shown, digest, len(blob.data), tool, len(part.rows), status, _renamed(reason, blob.name, shown))
        )
        found.faults += [_placed(fault, blob.name, shown) for fault in faults]
        found.notes.update(part.notes)
        found.add(part)
        size += len(blob.data)
        if time.monotonic() - last > _PAUSE:
            last = time.monotonic()
            say(f"  read {number:,} files ({size / 1e6:,.0f} MB), {len(found.rows):,} trials")
    if found.passed:
        kinds = ", ".join(f"{kind} {count}" for kind, count in found.passed.most_common(5))
        found.notes[f"files of kinds that hold no trials, passed over ({kinds}): {found.passed.total()}"] += 1
    if any(one.name.endswith(f" (file {number})") for number, one in enumerate(found.sources, 1)):
        found.notes["files whose names hold ids are told by their number, in the order of their names"] += 1
    if not found.rows and not found.faults:
        what = (
            f"none of its {len(found.sources)} files holds answers" if found.sources else "it holds no file of trials"
        )
        found.faults.append(Fault(f"Nothing can be read from '{path.name or path}': {what}."))
    return found.raw()


def _is_talk(blob: Blob) -> bool:
    """Whether a file is text for people."""
    name = Path(blob.name)
    text = name.suffix.lower() == ".txt" and name.name != "data.txt" and not blob.fault
    return text and blob.data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"[", b"{")


def _is_metadata(blob: Blob) -> bool:
    """Whether a file is what JATOS says of its results, which stands before them in the order of names."""
    return Path(blob.name).name == "metadata.json" and b'"studyResults"' in blob.data


def _shown(name: str, number: int) -> str:
    """Return a file's name without platforms' ids; then its number, in the order of names, tells which it is."""
    said = redact(name)
    return said if said == name else f"{said} (file {number})"


def _renamed(message: str, name: str, shown: str) -> str:
    return message if name == shown else message.replace(name, shown)


def _placed(fault: Fault, name: str, shown: str) -> Fault:
    """Return a reader's fault as one of this file among others."""
    message = fault.message if name in fault.message else f"{fault.message.rstrip('.')} (file '{name}')."
    rows = fault.rows or ((fault.row,) if fault.row is not None else ())
    return replace(fault, message=_renamed(message, name, shown), file=shown, rows=rows)


def _copies(part: Part, shown: str, columns: Mapping[str, str], seen: dict[int, str]) -> list[Fault]:
    """Return a fault for every session that was read before: the same person's same answers in the same times.

    `seen` holds the sessions met so far, and grows.
    """
    named = [columns.get(name, name) for name in ("participant", "session", "rt", "correct", "response", "trial")]
    held = [part.cells.get(name) for name in named]
    people, sessions, times = held[:3]
    if times is None:
        return []
    blank: Cells = [None] * len(part.rows)
    groups: dict[tuple[object, object], list[int]] = {}
    for position, key in enumerate(zip(people or blank, sessions or blank, strict=True)):
        groups.setdefault(key, []).append(position)
    answers = [column for column in held[2:] if column is not None]
    faults = []
    for (person, session), at in groups.items():
        if sum(not is_blank(times[position]) for position in at) < _ENOUGH:
            continue
        # A person who is called as the file is has no name that could agree.
        who = None if str(session).startswith(str(person)) else person
        answered = hash(
            (str(who), tuple(tuple(str(column[position]).lower() for position in at) for column in answers))
        )
        if answered in seen:
            where = f"'{seen[answered]}' holds" if seen[answered] != shown else "it holds elsewhere"
            name = "" if who is None else f" of participant {who}"
            message = (
                f"File '{shown}' records again a session{name} that {where}: the same {len(at)} answers and times."
            )
            faults.append(Fault(message, "error", "session", part.rows[at[0]], tuple(part.rows[one] for one in at)))
        else:
            seen[answered] = shown
    return faults


def _said(notes: Mapping[str, int]) -> list[str]:
    """Return notes of many files as few sentences: what differs in one number is added up."""
    groups: dict[str, list[tuple[str, int]]] = {}
    for note, files in notes.items():
        groups.setdefault(_NUMBER.sub("#", note), []).append((note, files))
    said = []
    for kind, members in groups.items():
        files = sum(count for _, count in members)
        note = members[0][0]
        if kind.count("#") == 1:
            total = sum(int(_NUMBER.findall(one)[0].replace(",", "")) * count for one, count in members)
            note = _NUMBER.sub(f"{total:,}", note)
        said.append(note if files == 1 else f"{note} (in {files:,} files)")
    return said


def hash_sources(sources: Sequence[Source]) -> str:
    """Return the SHA-256 of what was given: of one file its own, of several that of their sorted hashes."""
    if len(sources) == 1:
        return sources[0].sha256
    return hashlib.sha256("\n".join(sorted(source.sha256 for source in sources)).encode()).hexdigest()
