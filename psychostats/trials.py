"""The trial table: columns, units, checks.

In: a CSV, TSV or Parquet file (or a data frame) and what the study says of its columns.  Out: a clean data frame whose
index holds the file's row numbers, or every fault at once.  Knows nothing of formulas, models or exclusion rules.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import compress
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import stats

from psychostats.errors import DataError, Fault, InputError, nearest

Kind: TypeAlias = Literal["text", "number", "integer", "binary", "flag"]
Assignment: TypeAlias = Literal["within", "between"]
Levels: TypeAlias = Sequence[str] | Mapping[str, str]
Cells: TypeAlias = list[Any]
Bools: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Column:
    """A column of the trial table: its kind, what its cells may be (in words), and its levels where they are fixed."""

    name: str
    kind: Kind
    allowed: str = "text"
    levels: tuple[str, ...] = ()


_PHASES = ("practice", "main", "repeat")

#: The columns the trial table knows, by name; files may hold others, which are kept.
COLUMNS: Mapping[str, Column] = {
    column.name: column
    for column in (
        Column("participant", "text"),
        Column("experiment", "text"),
        Column("block", "text"),
        Column("trial", "integer", "whole numbers from 1"),
        Column("representation", "text"),
        Column("layer", "text"),
        Column("depth", "number", "finite numbers from 0 (first layer) to 1 (last)"),
        Column("feature", "text"),
        Column("pair", "text"),
        Column("stimulus", "text"),
        Column("response", "text"),
        Column("correct", "binary", "0 and 1 (or False and True)"),
        Column("rt", "number", "finite numbers (seconds)"),
        Column("confidence", "number", "finite numbers"),
        Column("catch", "flag", "true and false (or 1 and 0)"),
        Column("phase", "text", "'practice', 'main' and 'repeat'", _PHASES),
    )
}

# These decide whose row it is and whether it is analysed, so a bad cell in them is always an error.
_STEERING = ("participant", "phase", "catch")
_KEY = ("participant", "experiment", "phase", "block", "trial")
_REPRESENTATIONS = (("local", "distributed"), ("neuron", "dictionary"))
_SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas"}
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_BLANK = frozenset({"", "NA", "NaN", "nan", "null"})
_FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_PLATFORM_ID = re.compile(r"[0-9a-f]{24}|A[0-9A-Z]{12,14}")
_NAMED = 5  # rows, participants or values that one message lists before it counts the rest
_TYPOS = 0.05  # a column with at most this share of cells that are no numbers is a numeric one with typing errors
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
    n_dropped
        Rows left out because a needed cell was blank (``missing="drop"``).
    """

    frame: pd.DataFrame
    faults: tuple[Fault, ...] = ()
    n_dropped: int = 0

    @property
    def errors(self) -> tuple[Fault, ...]:
        """The faults that stop an analysis."""
        return tuple(fault for fault in self.faults if fault.severity == "error")


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
) -> TrialTable:
    """Read a trial table and judge it: map, recode, filter, convert, then check the rows that are left.

    Blank cells, ``NA``, ``NaN`` and ``null`` are missing; spaces around a cell are ignored.

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
        What to do with analysed rows where a needed cell is blank.
    unanswered
        ``"keep"`` leaves rows with a blank `correct` in the frame (as NaN) for an exclusion rule to remove.
    pseudonymize
        Replace participants' ids even if they match no platform's pattern.

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
    raw = _read_raw(source)
    faults = list(raw.faults)
    if not raw.rows:
        return TrialTable(pd.DataFrame(), tuple(faults))

    cells = _map_columns(raw.cells, columns, faults)
    for name in needed:
        if name not in cells and name not in columns:
            faults.append(_lacking(f"Column '{name}' is needed", name, cells))
    for name, declared in levels.items():
        if name not in cells:
            faults.append(_lacking(f"Levels are declared for '{name}'", name, cells))
        elif isinstance(declared, Mapping):
            cells[name] = _recode(cells[name], declared)
    keep = _filter({**raw.cells, **cells}, filters or {}, faults)
    rows = list(compress(raw.rows, keep))
    if not rows:
        return TrialTable(pd.DataFrame(), _errors_first(faults))

    vital = {*needed, *_STEERING} & cells.keys()
    sources = {name: columns.get(name, name) for name in cells}
    parsed = {}
    for name in cells:
        kept_cells = list(compress(cells[name], keep))
        parsed[name] = _parse_column(name, kept_cells, levels.get(name), text=sources[name] in raw.words)
        faults += _cell_faults(name, parsed[name], rows, levels.get(name), name in vital, name in needed)
    frame = pd.DataFrame({name: column.series() for name, column in parsed.items()})
    frame.index = pd.Index(rows, name="row")

    blank = {name: parsed[name].blank for name in sorted(vital)}
    complete = _judge_blanks(frame, blank, missing, unanswered, faults)
    orders = {name: raw.orders[old] for name, old in sources.items() if old in raw.orders}
    orders |= {name: _new_levels(declared) for name, declared in levels.items() if name != "phase"}
    frame = _settle(frame[complete], orders, pseudonymize)
    if frame.empty:
        faults.append(Fault(f"No trial is left: every one of the {len(rows)} rows lacks a needed cell."))
    faults += _range_faults(frame, vital)
    faults += _duplicate_faults(frame)
    faults += _accuracy_faults(frame)
    faults += _assignment_faults(frame, _new_levels(levels.get("representation")), assignment)
    return TrialTable(frame, _errors_first(faults), int((~complete).sum()))


def analysed(frame: pd.DataFrame) -> Bools:
    """Return which rows are main trials and not catch trials; a table without these columns has nothing else."""
    rows = np.ones(len(frame), dtype=bool)
    if "phase" in frame:
        rows &= (frame["phase"] == "main").to_numpy(dtype=bool)
    if "catch" in frame:
        rows &= (frame["catch"] != 1).to_numpy(dtype=bool)
    return rows


def person_keys(frame: pd.DataFrame) -> list[str]:
    """Return the columns that tell participations apart: `participant`, and `experiment` if there is one."""
    return [name for name in ("experiment", "participant") if name in frame]


def require_columns(frame: pd.DataFrame, needed: Collection[str]) -> None:
    """Raise DataError that names every column of `needed` the frame lacks, with the nearest it has."""
    held = [str(name) for name in frame.columns]
    lacking = [_lacking(f"Column '{name}' is needed", name, held) for name in needed if name not in frame]
    if lacking:
        raise DataError(lacking)


def data_hash(frame: pd.DataFrame, columns: Collection[str]) -> str:
    """Return the sha256 of the named columns' values in the frame's row order, as 64 hex digits.

    Numbers and booleans are hashed as little-endian float64, text as UTF-8 behind the length of each cell, so that
    neither storage (categorical, int, index) nor pandas' version matters, nor the order in which columns are named.
    """
    require_columns(frame, columns)
    digest = hashlib.sha256(len(frame).to_bytes(8, "little"))
    for name in sorted(set(columns)):
        cells = frame[name].astype(object).where(frame[name].notna(), None).tolist()
        digest.update(_prefixed([name.encode()]))
        if all(isinstance(cell, int | float | np.number | np.bool_ | None) for cell in cells):
            digest.update(b"f8" + (np.array(cells, dtype="<f8") + 0.0).tobytes())  # adding 0.0 turns -0.0 into 0.0
        else:
            digest.update(b"text" + _prefixed([None if cell is None else str(cell).encode() for cell in cells]))
    return digest.hexdigest()


def pseudonymize(frame: pd.DataFrame, *, force: bool = False) -> pd.DataFrame:
    """Replace participants' ids by P001, P002, ... in order of first appearance, where privacy asks for it.

    Parameters
    ----------
    frame
        Trials.  Without a `participant` column only the other text columns are searched.
    force
        Replace whatever the ids look like.  Otherwise all are replaced if any is a Prolific id (24 hex digits) or an
        MTurk id (``A`` and 12 to 14 capitals or digits).

    Returns
    -------
    pandas.DataFrame
        A copy.  Platform ids in columns the trial table does not know are replaced too: a participant's by the
        pseudonym, any other by the column's name and a number.
    """
    frame = frame.copy()
    pseudonyms: dict[str, str] = {}
    if "participant" in frame:
        ids = _distinct(frame["participant"])
        if force or any(_PLATFORM_ID.fullmatch(one) for one in ids):
            width = max(3, len(str(len(ids))))
            pseudonyms = {one: f"P{number:0{width}d}" for number, one in enumerate(ids, 1)}
            frame["participant"] = [pseudonyms.get(str(one)) for one in frame["participant"]]
    for name in frame.columns.difference(list(COLUMNS)):
        if pd.api.types.is_numeric_dtype(frame[name]):
            continue
        found = [one for one in _distinct(frame[name]) if _PLATFORM_ID.fullmatch(one)]
        if found:
            table = {one: pseudonyms.get(one, f"{name}{number:03d}") for number, one in enumerate(found, 1)}
            frame[name] = [table.get(one, one) for one in frame[name]]
    return frame


# Reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Raw:
    """Cells as they stand in the file, by column.

    `rows` are their row numbers; `words` the columns that the source stores as text, numerals or not (a CSV file does
    not say); `orders` the categories of a data frame.
    """

    cells: dict[str, Cells] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    faults: tuple[Fault, ...] = ()
    words: frozenset[str] = frozenset()
    orders: dict[str, list[str]] = field(default_factory=dict)


def _read_raw(source: str | Path | pd.DataFrame) -> _Raw:
    if isinstance(source, pd.DataFrame):
        return _read_frame(source)
    path = Path(source)
    suffix = path.suffix.lower()
    if not path.exists():
        problem = "does not exist"
    elif path.is_dir():
        problem = "is a folder; give one .csv, .tsv or .parquet file"
    elif suffix not in {*_DELIMITERS, ".parquet"}:
        problem = f"ends in '{path.suffix}'; trials are read from .csv, .tsv and .parquet files"
    elif not os.access(path, os.R_OK):
        problem = "may not be read by this user"
    elif path.stat().st_size == 0:
        problem = "is empty (0 bytes)"
    else:
        return _read_parquet(path) if suffix == ".parquet" else _read_text(path, _DELIMITERS[suffix])
    return _Raw(faults=(Fault(f"File '{path}' {problem}."),))


def _read_frame(frame: pd.DataFrame) -> _Raw:
    if frame.empty:
        return _Raw(faults=(Fault("The table has no rows."),))
    numbered = frame.index.name == "row"
    categorical = {str(name): column.cat.categories for name, column in frame.items() if hasattr(column, "cat")}
    rows = [int(row) for row in frame.index] if numbered else list(range(1, len(frame) + 1))
    cells = {str(name): column.astype(object).where(column.notna(), None).tolist() for name, column in frame.items()}
    orders = {name: [str(level) for level in order] for name, order in categorical.items()}
    return _Raw(_scalars(cells), rows, words=_stored_as_text(cells), orders=orders)


def _stored_as_text(cells: Mapping[str, Cells]) -> frozenset[str]:
    return frozenset(name for name, column in cells.items() if any(isinstance(cell, str) for cell in column))


def _scalars(cells: Mapping[str, Cells]) -> dict[str, Cells]:
    """Write out what is neither text nor number, such as a date or a list."""
    plain = (str, int, float, np.generic, type(None))
    return {name: [cell if isinstance(cell, plain) else str(cell) for cell in column] for name, column in cells.items()}


def _read_parquet(path: Path) -> _Raw:
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        return _Raw(faults=(Fault(f"File '{path}' cannot be read as Parquet: {reason}."),))
    if table.num_rows == 0:
        return _Raw(faults=(Fault(f"File '{path}' has columns but no rows."),))
    cells = {name: column.to_pylist() for name, column in zip(table.column_names, table.columns, strict=True)}
    rows = list(range(1, table.num_rows + 1))
    return _Raw(_scalars(cells), rows, _doubled_names(table.column_names), _stored_as_text(cells))


def _read_text(path: Path, delimiter: str) -> _Raw:
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        at = f"byte 0x{data[error.start]:02x} at offset {error.start} (line {line})"
        return _Raw(faults=(Fault(f"File '{path}' is not UTF-8: {at} cannot be decoded; save it as UTF-8.", row=line),))
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        return _Raw(faults=(Fault(f"File '{path}' holds a NUL byte in line {line}; it is not plain text.", row=line),))

    first_line = text.lstrip("\r\n").partition("\n")[0]
    if delimiter not in first_line and (other := next((mark for mark in _SEPARATORS if mark in first_line), None)):
        advice = f"'{path.suffix}' files are separated by {_SEPARATORS[delimiter]}"
        return _Raw(faults=(Fault(f"File '{path}' is separated by {_SEPARATORS[other]}, but {advice}; save it so."),))

    records: list[list[str]] = []
    starts: list[int] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start = 1
    try:
        for record in reader:
            if any(record):  # a line with nothing in it, or only delimiters, is no trial
                records.append(record)
                starts.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        reason = f"cannot be split into cells ({error}); look for a stray or unclosed quote."
        return _Raw(faults=(Fault(f"Row {start} of file '{path}' {reason}", row=start),))
    if not records:
        return _Raw(faults=(Fault(f"File '{path}' holds only blank lines."),))

    header = [name.strip() or f"unnamed_{number}" for number, name in enumerate(records[0], 1)]
    faults = list(_doubled_names(header))
    ragged = [(line, len(record)) for line, record in zip(starts, records, strict=True) if len(record) != len(header)]
    if ragged:
        which = _some([f"{line} ({width} cells)" for line, width in ragged])
        message = f"Rows that do not have the header's {len(header)} cells: {which}."
        faults.append(Fault(message, row=ragged[0][0]))
    good = [n for n in range(1, len(records)) if len(records[n]) == len(header)]
    if len(records) == 1:
        faults.append(Fault(f"File '{path}' has a header but no rows."))
    columns = zip(*(records[n] for n in good), strict=True)
    cells = {name: list(column) for name, column in zip(header, columns, strict=False)}
    return _Raw(cells, [starts[n] for n in good], tuple(faults))


def _doubled_names(names: Sequence[str]) -> tuple[Fault, ...]:
    doubled = sorted({name for name in names if names.count(name) > 1})
    return tuple(
        Fault(f"Column '{name}' stands {names.count(name)} times in the header.", column=name) for name in doubled
    )


# Mapping, recoding, filtering ------------------------------------------------------------------------------------


def _map_columns(cells: Mapping[str, Cells], columns: Mapping[str, str], faults: list[Fault]) -> dict[str, Cells]:
    mapped = {name: cells[name] for name in cells if name not in columns and name not in columns.values()}
    for new, old in columns.items():
        if old in cells:
            mapped[new] = cells[old]
        else:
            faults.append(_lacking(f"Column '{old}' is to be read as '{new}'", old, cells, new))
    return mapped


def _recode(cells: Cells, table: Mapping[str, str]) -> Cells:
    """Replace what the table holds; a blank cell is looked up as ''.  What it does not hold is judged as a level."""
    words = {str(old): str(new) for old, new in table.items()}
    return [words.get(_text(cell) or "", cell) for cell in cells]


def _filter(cells: Mapping[str, Cells], filters: Mapping[str, Any], faults: list[Fault]) -> Bools:
    keep = np.ones(len(next(iter(cells.values()))), dtype=bool)
    for name, wanted in filters.items():
        if name not in cells:
            faults.append(_lacking(f"The filter names column '{name}'", name, cells))
            continue
        found = np.zeros(len(keep), dtype=bool)
        for value in [wanted] if isinstance(wanted, str) or not isinstance(wanted, Collection) else wanted:
            hits = _matches(name, cells[name], value)
            if not hits.any():
                held = sorted({_text(cell) or "" for cell in cells[name]} - {""})
                message = f"The filter on '{name}' asks for '{value}', which no row holds{_near(str(value), held)}"
                faults.append(Fault(f"{message}; the column holds {_some(held, quote=True)}.", "warning", name))
            found |= hits
        keep &= found
    if not keep.any():
        faults.append(Fault(f"The filter on {_some(list(filters), quote=True)} keeps none of the {len(keep)} rows."))
    return keep


def _matches(name: str, cells: Cells, value: Any) -> Bools:
    guess: Kind = "flag" if isinstance(value, bool) else "number" if isinstance(value, int | float) else "text"
    parse = _PARSERS[COLUMNS[name].kind if name in COLUMNS else guess]
    try:
        target = parse(value)
    except ValueError:
        return np.zeros(len(cells), dtype=bool)
    return np.array([value == target for value in _parse(cells, parse, text=False).cells], dtype=bool)


# Cells -----------------------------------------------------------------------------------------------------------


def _is_blank(cell: Any) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and cell.strip() in _BLANK)


def _text(cell: Any) -> str | None:
    if _is_blank(cell):
        return None
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _number(cell: Any) -> float:
    if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell):  # Python reads '1_000' as a number
        raise ValueError
    try:
        number = float(cell)
    except OverflowError as error:  # an integer beyond what a float can hold
        raise ValueError from error
    if not math.isfinite(number):
        raise ValueError
    return number


def _whole(cell: Any) -> float:
    number = _number(cell)
    if not number.is_integer():
        raise ValueError
    return number


def _code(cell: Any) -> float:
    """Parse a cell of a column the trial table does not know: a number unless writing it as one would lose digits."""
    number = _number(cell)
    if abs(number) >= 2**53 or (isinstance(cell, str) and re.match(r"\s*0\d", cell)):
        raise ValueError
    return number


def _flag(cell: Any) -> bool:
    word = str(cell).strip().lower()
    if word not in _FLAGS:
        raise ValueError
    return _FLAGS[word]


_PARSERS: dict[Kind, Callable[[Any], Any]] = {
    "text": _text, "number": _number, "integer": _whole, "binary": _flag, "flag": _flag,
}  # fmt: skip


@dataclass(frozen=True)
class _Parsed:
    """A column as values: None where `blank`; `bad` are the positions and cells that could not be read as the rest."""

    cells: Cells
    blank: Bools
    bad: list[tuple[int, Any]]
    text: bool

    def series(self) -> pd.Series[Any]:
        if self.text:
            return pd.Series(self.cells, dtype=object if self.blank.all() else None)
        return pd.Series(np.array(self.cells, dtype=float))


def _parse_column(name: str, cells: Cells, declared: Levels | None, *, text: bool) -> _Parsed:
    """Parse by the column's kind; an unknown column not stored as text is a number if all its cells are."""
    known = COLUMNS.get(name)
    levels = list(known.levels) if known and known.levels else _new_levels(declared)
    if known and known.kind != "text":
        return _parse(cells, _PARSERS[known.kind], text=False)
    if known or levels or text:
        return _parse(cells, _level_parser(levels) if levels else _text, text=True)
    numbers = _parse(cells, _code, text=False)
    if not numbers.bad:
        return numbers
    typos = numbers.bad if len(numbers.bad) <= _TYPOS * len(cells) else []
    words = _parse(cells, _text, text=True)
    return _Parsed(words.cells, words.blank, typos, text=True)


def _parse(cells: Cells, parse: Callable[[Any], Any], *, text: bool) -> _Parsed:
    unreadable = object()

    @lru_cache(maxsize=None, typed=True)  # columns repeat few cells; typed keeps True and 1 apart
    def read(cell: Any) -> Any:
        try:
            return None if _is_blank(cell) else parse(cell)
        except ValueError:
            return unreadable

    values = [read(cell) for cell in cells]
    blank = np.array([value is None for value in values], dtype=bool)
    bad = [(position, cells[position]) for position, value in enumerate(values) if value is unreadable]
    return _Parsed([None if value is unreadable else value for value in values], blank, bad, text)


def _new_levels(declared: Levels | None) -> list[str]:
    listed = declared.values() if isinstance(declared, Mapping) else declared or ()
    return list(dict.fromkeys(str(level) for level in listed))


def _level_parser(levels: Sequence[str]) -> Callable[[Any], str]:
    def parse(cell: Any) -> str:
        word = str(_text(cell))
        if word not in levels:
            raise ValueError
        return word

    return parse


def _cell_faults(
    name: str, parsed: _Parsed, rows: Sequence[int], declared: Levels | None, vital: bool, needed: bool
) -> Iterator[Fault]:
    known = COLUMNS.get(name)
    if known and known.kind != "text" and declared and not isinstance(declared, Mapping):
        yield Fault(
            f"Levels are listed for '{name}', whose cells are {known.allowed}; give a table old = new.", column=name
        )
    if not parsed.bad:
        return
    at = [rows[position] for position, _ in parsed.bad]
    what = f"Column '{name}' holds '{parsed.bad[0][1]}' in {_rows(at)}"
    listed = _some([str(level) for level in declared or ()], limit=20, quote=True)
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


def _judge_blanks(
    frame: pd.DataFrame, blank: Mapping[str, Bools], missing: str, unanswered: str, faults: list[Fault]
) -> Bools:
    """Return which rows lack nothing needed, all of them unless ``missing="drop"``."""
    judged = analysed(frame)
    if unanswered == "keep" and "correct" in frame:
        judged &= frame["correct"].notna().to_numpy()
    complete = np.ones(len(frame), dtype=bool)
    for name, empty in blank.items():
        lacking = empty if name in _STEERING else empty & judged
        if missing == "drop":
            complete &= ~lacking
        elif lacking.any():
            at = frame.index[lacking].tolist()
            message = f"Column '{name}' is blank in {_rows(at)}; fill it, or drop such rows with missing = drop."
            faults.append(Fault(message, "error", name, at[0]))
    return complete


def _settle(frame: pd.DataFrame, orders: Mapping[str, Sequence[str]], force: bool) -> pd.DataFrame:
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
    if "representation" in frame and "representation" not in orders:
        held = set(_distinct(frame["representation"]))
        order = next((pair for pair in _REPRESENTATIONS if held and held <= set(pair)), None)
        if order:
            frame["representation"] = pd.Categorical(frame["representation"], order)
    if {"layer", "depth"} <= set(frame) and "layer" not in orders and frame["depth"].notna().any():
        depth = frame.groupby("layer", observed=True)["depth"].mean()
        layers = sorted(depth.index, key=lambda layer: (math.isnan(depth[layer]), depth[layer], layer))
        frame["layer"] = pd.Categorical(frame["layer"], layers)
    return pseudonymize(frame, force=force)


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
            tail = "" if error or not strict else unused
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
        where = ", ".join(f"{name} {_text(numbered[name].iloc[copies[0]])}" for name in key)
        advice = "remove the copies, or map 'phase' or 'block' if the numbering starts again"
        yield Fault(
            f"Column 'trial' repeats in {_rows(at)} what row {first} has ({where}); {advice}.", "error", "trial", at[0]
        )


def _accuracy_faults(frame: pd.DataFrame) -> Iterator[Fault]:
    """Warn of accuracy below 0.5, and of people below it beyond chance.

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
    if "participant" in trials and len(trials):
        people = trials.groupby(person_keys(trials), observed=True)["correct"].agg(["sum", "count"])
        below = people[stats.binom.cdf(people["sum"], people["count"], 0.5) < 0.05 / len(people)]
        if len(below):
            who = _some([f"{_person(key)} ({row['sum']:.0f} of {row['count']:.0f})" for key, row in below.iterrows()])
            yield Fault(
                f"Participants answered below chance (0.5): {who}; check how 'correct' is coded.", "warning", "correct"
            )


def _assignment_faults(frame: pd.DataFrame, levels: Sequence[str], assignment: Assignment | None) -> Iterator[Fault]:
    if not {"participant", "representation"} <= set(frame):
        return
    trials = frame[analysed(frame)]
    counts = trials.groupby(person_keys(trials), observed=True)["representation"].nunique()
    every = max(len(levels), trials["representation"].nunique())
    at = "representation"
    if assignment == "within" and (counts < every).any():
        who = _some([_person(key) for key in counts.index[counts < every]])
        yield Fault(f"Assignment is 'within', but some participants lack a representation: {who}.", "error", at)
    elif assignment == "between" and (counts > 1).any():
        who = _some([_person(key) for key in counts.index[counts > 1]])
        yield Fault(f"Assignment is 'between', but some participants have several representations: {who}.", "error", at)
    elif assignment is None and (counts > 1).any() and (counts == 1).any():
        who = _some([_person(key) for key in counts.index[counts == 1]])
        yield Fault(f"Some participants have one representation while others have more: {who}.", "warning", at)


# Words -----------------------------------------------------------------------------------------------------------


def _require_option(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is '{value}'; allowed are {', '.join(str(option) for option in allowed)}.")


def _errors_first(faults: Collection[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(faults, key=lambda fault: fault.severity != "error"))


def _lacking(what: str, name: str, available: Collection[str], new: str | None = None) -> Fault:
    message = f"{what}, but there is none{_near(name, available)}; the columns are {_some(list(available), limit=30)}."
    return Fault(message, column=new or name)


def _near(name: str, known: Collection[str]) -> str:
    same = next((one for one in known if one.casefold() == name.casefold()), None)
    return f" (did you mean '{same}'?)" if same else nearest(name, known)


def _some(words: Sequence[str], *, limit: int = _NAMED, quote: bool = False) -> str:
    named = ", ".join(f"'{word}'" if quote else word for word in words[:limit])
    return named if len(words) <= limit else f"{named} and {len(words) - limit} more"


def _rows(rows: Sequence[int]) -> str:
    more = len(rows) - 1
    return f"row {rows[0]}" + (f" (and {more} more row{'s' * (more > 1)})" if more else "")


def _person(key: Any) -> str:
    return " ".join(str(part) for part in key) if isinstance(key, tuple) else str(key)


def _distinct(column: pd.Series[Any]) -> list[str]:
    return [str(one) for one in column.dropna().unique()]


def _prefixed(cells: Sequence[bytes | None]) -> bytes:
    """Join cells behind their lengths, -1 for a missing one, so that no two lists of cells join to the same bytes."""
    lengths = np.array([len(cells), *(-1 if cell is None else len(cell) for cell in cells)], dtype="<i8")
    return lengths.tobytes() + b"".join(cell for cell in cells if cell is not None)
