"""Cells: what a file or a data frame holds, as text and values that remember their rows.

In: cells by column, and how the columns are to be named, recoded, filtered and parsed.  Out: columns of values, and the
faults met on the way.  Knows no file and no rule of the trial table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.errors import Fault, nearest
from psychostats.parts import Source

Kind: TypeAlias = Literal["text", "number", "integer", "binary", "flag"]
Cells: TypeAlias = list[Any]
Bools: TypeAlias = npt.NDArray[np.bool_]

_BLANK = frozenset({"", "NA", "NaN", "nan", "null"})
_FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_NAMED = 5  # rows, participants or values that one message lists before it counts the rest
_TYPOS = 0.05  # a column with at most this share of cells that are no numbers is a numeric one with typing errors


# What was read ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raw:
    """Cells as they stand in the file, by column.

    Parameters
    ----------
    cells
        Column -> its cells, None where a Parquet file or a frame holds nothing.
    rows
        Their row numbers: the line in a text file, the header being 1; in Parquet and frames the first row is 1.
    faults
        What could not be read; where it is the whole file, there are no rows.
    words
        The columns that the source stores as text, numerals or not (a CSV file does not say).
    orders
        The categories of a data frame's categorical columns.
    sources
        The files, where recordings were read; then `rows` number all trials from 1.
    origins
        Of each row the place of its file among `sources`, and its row in that file.
    notes
        What a reader converted or set aside, a sentence each.
    """

    cells: dict[str, Cells] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    faults: tuple[Fault, ...] = ()
    words: frozenset[str] = frozenset()
    orders: dict[str, list[str]] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    origins: tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.integer[Any]]] | None = None
    notes: tuple[str, ...] = ()


def columns_of_text(cells: Mapping[str, Cells]) -> frozenset[str]:
    """Return the columns whose every cell that is not blank is text; ``NA`` among numbers makes no text of them."""

    def is_text(column: Cells) -> bool:
        held = [cell for cell in column if not is_blank(cell)]
        return bool(held) and all(isinstance(cell, str) for cell in held)

    return frozenset(name for name, column in cells.items() if is_text(column))


def doubled_names(names: Sequence[str]) -> tuple[Fault, ...]:
    """Return a fault for every name that a header holds more than once."""
    doubled = sorted({name for name in names if names.count(name) > 1})
    return tuple(
        Fault(f"Column '{name}' stands {names.count(name)} times in the header.", column=name) for name in doubled
    )


# Mapping, recoding, filtering ------------------------------------------------------------------------------------


def map_columns(cells: Mapping[str, Cells], columns: Mapping[str, str]) -> tuple[dict[str, Cells], list[Fault]]:
    """Rename columns by a table new -> old, with a fault for every old name there is not.

    One old name may serve two new ones; a new name replaces a column of that name.
    """
    mapped = {name: cells[name] for name in cells if name not in columns and name not in columns.values()}
    faults = []
    for new, old in columns.items():
        if old in cells:
            mapped[new] = cells[old]
        else:
            faults.append(lacking_column(f"Column '{old}' is to be read as '{new}'", old, cells, new))
    return mapped, faults


def recode_cells(cells: Cells, table: Mapping[str, str]) -> Cells:
    """Replace the cells that a table old -> new holds, and leave the others; a blank cell is looked up as ''."""
    words = {str(old): str(new) for old, new in table.items()}
    return [words.get(parse_text(cell) or "", cell) for cell in cells]


def filter_rows(
    cells: Mapping[str, Cells], filters: Mapping[str, Any], kinds: Mapping[str, Kind]
) -> tuple[Bools, list[Fault]]:
    """Return which rows hold the values asked for, with a fault for a column or a value that there is not.

    Parameters
    ----------
    cells
        Column -> its cells, at least one column.
    filters
        Column -> value or values to keep; a row must pass all filters.
    kinds
        Column -> how its cells are compared; others are compared as the value's type asks.
    """
    keep = np.ones(len(next(iter(cells.values()))), dtype=bool)
    faults = []
    for name, wanted in filters.items():
        if name not in cells:
            faults.append(lacking_column(f"The filter names column '{name}'", name, cells))
            continue
        found = np.zeros(len(keep), dtype=bool)
        for value in [wanted] if isinstance(wanted, str) or not isinstance(wanted, Collection) else wanted:
            hits = _matches(cells[name], value, kinds.get(name))
            if not hits.any():
                held = sorted({parse_text(cell) or "" for cell in cells[name]} - {""})
                message = f"The filter on '{name}' asks for '{value}', which no row holds{_near(str(value), held)}"
                faults.append(Fault(f"{message}; the column holds {name_some(held, quote=True)}.", "warning", name))
            found |= hits
        keep &= found
    if not keep.any():
        asked = name_some(list(filters), quote=True)
        faults.append(Fault(f"The filter on {asked} keeps none of the {len(keep)} rows."))
    return keep, faults


def _matches(cells: Cells, value: Any, kind: Kind | None) -> Bools:
    guess: Kind = "flag" if isinstance(value, bool) else "number" if isinstance(value, int | float) else "text"
    parse = _PARSERS[kind or guess]
    try:
        target = parse(value)
    except ValueError:
        return np.zeros(len(cells), dtype=bool)
    return np.array([value == target for value in _parse(cells, parse, text=False).cells], dtype=bool)


# Parsing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parsed:
    """A column as values.

    Parameters
    ----------
    cells
        The values, None where blank or bad.
    blank
        Which cells hold nothing.
    bad
        Positions and cells that could not be read as the rest.
    text
        Whether the values are text rather than numbers.
    """

    cells: Cells
    blank: Bools
    bad: list[tuple[int, Any]]
    text: bool

    @property
    def infinite(self) -> Bools:
        """Which of the bad cells are infinite numbers."""
        found = np.zeros(len(self.cells), dtype=bool)
        found[[position for position, cell in self.bad if self.cells[position] is None and is_infinite(cell)]] = True
        return found

    def series(self) -> pd.Series[Any]:
        """Return the column as text or, numbers and booleans alike, as float."""
        if self.text:
            return pd.Series(self.cells, dtype=object if self.blank.all() else None)
        return pd.Series(np.array(self.cells, dtype=float))


def parse_column(cells: Cells, kind: Kind | None, levels: Sequence[str] = (), *, text: bool = False) -> Parsed:
    """Parse a column's cells by its kind.

    Parameters
    ----------
    cells
        The cells; blank ones, ``NA``, ``NaN`` and ``null`` are missing, and spaces around a cell are ignored.
    kind
        What the cells are to be.  None: numbers if all are and none would lose digits as one, else text, in which a
        few cells that are no numbers count as bad.  Infinite cells among numbers are bad, and make no text of them.
    levels
        The words allowed in a column of text; none allow any.
    text
        Whether the source stores the column as text, so that an unknown `kind` is text.

    Returns
    -------
    Parsed
        As long as `cells`.
    """
    if kind == "text" or (kind is None and levels):
        return _parse(cells, _level_parser(levels) if levels else parse_text, text=True)
    if kind is not None:
        return _parse(cells, _PARSERS[kind], text=False)
    numbers = _parse(cells, _code, text=False)
    some = any(cell is not None for cell in numbers.cells)
    if all(some and is_infinite(cell) for _, cell in numbers.bad):
        if not text:
            return numbers
        words = _parse(cells, parse_text, text=True)
        left = [None if lost else word for word, lost in zip(words.cells, numbers.infinite, strict=True)]
        return Parsed(left, words.blank, numbers.bad, text=True)
    if text:
        return _parse(cells, parse_text, text=True)
    typos = numbers.bad if len(numbers.bad) <= _TYPOS * len(cells) else []
    words = _parse(cells, parse_text, text=True)
    return Parsed(words.cells, words.blank, typos, text=True)


def parse_text(cell: Any) -> str | None:
    """Return a cell as text without spaces around it, whole numbers without a point, and None where it is blank."""
    if is_blank(cell):
        return None
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def read_times(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Read dates and times in ISO 8601, NaT where there is none; those without a zone are taken to be of UTC."""
    return pd.to_datetime(cells.astype(object), format="ISO8601", utc=True, errors="coerce")


def is_blank(cell: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, or one of the words that stand for it."""
    return cell is None or cell != cell or (isinstance(cell, str) and cell.strip() in _BLANK)


def is_infinite(cell: Any) -> bool:
    """Whether a cell is an infinite number, written out or not."""
    try:
        return math.isinf(float(cell))
    except (TypeError, ValueError, OverflowError):  # an integer too long for a float is long, not infinite
        return False


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
    """Parse a cell of unknown kind: a number unless writing it as one would lose digits."""
    number = _number(cell)
    digits = isinstance(cell, int) or (isinstance(cell, str) and bool(re.fullmatch(r"\s*[+-]?\d+\s*", cell)))
    if (digits and abs(number) >= 2**53) or (isinstance(cell, str) and re.match(r"\s*0\d", cell)):
        raise ValueError
    return number


def _flag(cell: Any) -> bool:
    word = str(cell).strip().lower()
    if word not in _FLAGS:
        raise ValueError
    return _FLAGS[word]


_PARSERS: dict[Kind, Callable[[Any], Any]] = {
    "text": parse_text, "number": _number, "integer": _whole, "binary": _flag, "flag": _flag,
}  # fmt: skip


def _level_parser(levels: Sequence[str]) -> Callable[[Any], str]:
    def parse(cell: Any) -> str:
        word = str(parse_text(cell))
        if word not in levels:
            raise ValueError
        return word

    return parse


def _parse(cells: Cells, parse: Callable[[Any], Any], *, text: bool) -> Parsed:
    if not text and parse in (_number, _code) and set(map(type, cells)) == {float}:
        return _parse_floats(cells)
    unreadable = object()

    @lru_cache(maxsize=None, typed=True)  # columns repeat few cells; typed keeps True and 1 apart
    def read(cell: Any) -> Any:
        try:
            return None if is_blank(cell) else parse(cell)
        except ValueError:
            return unreadable

    values = [read(cell) for cell in cells]
    blank = np.array([value is None for value in values], dtype=bool)
    bad = [(position, cells[position]) for position, value in enumerate(values) if value is unreadable]
    if bad:
        values = [None if value is unreadable else value for value in values]
    return Parsed(values, blank, bad, text)


def _parse_floats(cells: Cells) -> Parsed:
    """As `_parse`, of cells that are all numbers with a point already: a million times differ, and need no memory."""
    numbers = np.array(cells)
    blank, finite = np.isnan(numbers), np.isfinite(numbers)
    values = cells if finite.all() else [cell if good else None for cell, good in zip(cells, finite, strict=True)]
    endless = np.flatnonzero(np.isinf(numbers)).tolist()
    return Parsed(values, blank, [(position, cells[position]) for position in endless], text=False)


# Words -----------------------------------------------------------------------------------------------------------


def missing_columns(needed: Collection[str], available: Collection[str]) -> list[Fault]:
    """Return a fault for every column of `needed` that is not available."""
    held = [str(name) for name in available]
    lacking = [name for name in needed if name not in available]
    return [lacking_column(f"Column '{name}' is needed", name, held, listed=name == lacking[0]) for name in lacking]


def lacking_column(
    what: str, name: str, available: Collection[str], new: str | None = None, *, listed: bool = True
) -> Fault:
    """Return the fault of asking for a column that is not there: who asks, the nearest name, and what there is.

    `new` is the column to blame where it is called otherwise than `name`; `listed` says what columns there are.
    """
    columns = f"; the columns are {name_some(list(available), limit=30)}" if listed else ""
    return Fault(f"{what}, but there is none{_near(name, available)}{columns}.", column=new or name)


def _near(name: str, known: Collection[str]) -> str:
    same = next((one for one in known if one.casefold() == name.casefold()), None)
    return f" (did you mean '{same}'?)" if same else nearest(name, known)


def name_some(words: Sequence[str], *, limit: int = _NAMED, quote: bool = False) -> str:
    """List the first words up to `limit` and count the rest."""
    named = ", ".join(f"'{word}'" if quote else word for word in words[:limit])
    return named if len(words) <= limit else f"{named} and {len(words) - limit} more"
