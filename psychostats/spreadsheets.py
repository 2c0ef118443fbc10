"""Excel workbooks: one sheet as columns of values.

In: the bytes of an .xlsx or .xlsm file, and which sheet.  Out: a part with the sheet's rows, and a fault for every cell
that is not what was typed, such as a date in a column of ids.  Runs no formula and knows no tool.
"""

from __future__ import annotations

import io
import warnings
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from psychostats.cells import Cells, columns_of_text, doubled_names, name_some, parse_text
from psychostats.columns import COLUMNS
from psychostats.errors import Fault, nearest
from psychostats.parts import Part

LARGEST = 1 << 30
"""Bytes that a workbook may unpack to; a million trials of 20 columns take about half."""

_MOST_MEMBERS = 10_000
_MOST_ROWS = 1_048_576  # of a sheet, as Excel allows
_MOST_CELLS = 100_000_000
_CHUNK = 1 << 20
_OLD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
# No workbook of Excel declares a document type; one may define entities that grow without bound.
_DECLARATIONS = tuple("<!DOCTYPE".encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be"))
_FORMULAS = (b"<f>", b"<f ", b"<f/>")
_NOT_AVAILABLE = "#N/A"
_ERRORS = frozenset({"#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!", "#SPILL!", "#CALC!", "#GETTING_DATA"})
_EXACT = 10**15  # Excel keeps 15 digits
_DATES = (datetime, date, time, timedelta)


def read_workbook(data: bytes, name: str, sheet: str | None = None) -> Part:
    """Read one sheet of a workbook; whatever is wrong with it becomes a fault.

    The first row that is not blank is the header, and blank rows are passed over.

    Parameters
    ----------
    data
        The file's bytes.
    name
        What messages call it.
    sheet
        Which sheet; None takes the only one that is not empty.

    Returns
    -------
    Part
        Its `rows` are those of the sheet, the first being 1.  Cells are text, numbers, booleans or None; dates are
        text as ISO 8601 has it, and faults in columns that the trial table knows, other than `started`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl warns of charts and styles that it does not read
            problem, formulas = _looked_over(data)
            return _refused(name, problem) if problem else _read(data, name, sheet, formulas)
    except Exception as error:  # openpyxl meets broken files with exceptions of a dozen kinds
        reason = str(error).strip().splitlines()
        return _refused(name, f"cannot be read as an Excel workbook ({reason[0] if reason else type(error).__name__})")


def _refused(name: str, problem: str) -> Part:
    return Part(tool="Excel", faults=(Fault(f"File '{name}' {problem}.", file=name),))


def _looked_over(data: bytes) -> tuple[str, bool]:
    """Return why a file is not to be parsed, or nothing, and whether it holds formulas."""
    if not data:
        return "is empty (0 bytes)", False
    if data.startswith(_OLD):
        if _ENCRYPTED in data:
            return "is encrypted; save it without a password", False
        return "is an old Excel workbook (.xls); save it as .xlsx or CSV", False
    formulas = False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > _MOST_MEMBERS or sum(member.file_size for member in members) > LARGEST:
                return f"unpacks to more than {LARGEST >> 20} MiB, which no workbook of trials needs", False
            for member in members:
                if member.flag_bits & 1:
                    return "is encrypted; save it without a password", False
                declares, computes = _searched(archive, member)
                if declares:
                    return "declares a document type, which no workbook of Excel does", False
                formulas |= computes and "worksheets/" in member.filename
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError, zlib.error) as error:
        return f"is no Excel workbook, or a damaged one ({str(error).rstrip('.') or 'it ends early'})", False
    return "", formulas


def _searched(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[bool, bool]:
    """Return whether a member of the archive declares a document type, and whether it holds formulas."""
    computes, tail = False, b""
    with archive.open(member) as file:  # gives no more bytes than its header says
        while chunk := file.read(_CHUNK):
            chunk = tail + chunk
            if any(mark in chunk for mark in _DECLARATIONS):
                return True, computes
            computes = computes or any(mark in chunk for mark in _FORMULAS)
            tail = chunk[-32:]
    return False, computes


def _read(data: bytes, name: str, sheet: str | None, formulas: bool) -> Part:
    import openpyxl  # here, as below, since most who read trials read no workbook

    workbook = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    sheets = {one.title: one for one in workbook.worksheets}
    if not sheets:
        return _refused(name, "has no sheet of cells")
    if sheet is None:
        held = [one.title for one in sheets.values() if any(_typed(row) for _, row in _rows(one))]
        shown = [title for title in held if sheets[title].sheet_state == "visible"] or held
        if len(shown) > 1:
            advice = f"say which, such as '{name}#{shown[0]}'"
            return _refused(name, f"has {len(shown)} sheets ({name_some(shown, limit=20, quote=True)}); {advice}")
        sheet = shown[0] if shown else next(iter(sheets))
    if sheet not in sheets:
        there = name_some(list(sheets), limit=20, quote=True)
        return _refused(name, f"has no sheet '{sheet}'{nearest(sheet, sheets)}; it has {there}")
    rows = [(number, row) for number, row in _rows(sheets[sheet]) if _typed(row)]
    if not rows:
        return _refused(name, f"has nothing in sheet '{sheet}'")
    part = _columns(rows, name, sheet)
    if formulas:
        computed = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=False, keep_links=False)
        if fault := _uncalculated(dict(rows), _rows(computed[sheet]), name, sheet):
            return Part(part.cells, part.rows, part.tool, (*part.faults, fault), part.notes, part.words)
    return part


def _rows(sheet: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
    sheet.reset_dimensions()  # a workbook may declare fewer cells than it holds
    n_cells = 0
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
        n_cells += len(row)
        if number > _MOST_ROWS or n_cells > _MOST_CELLS:
            raise ValueError(f"sheet '{sheet.title}' has more rows or cells than Excel allows")
        yield number, row


def _typed(row: Sequence[Any]) -> bool:
    return any(parse_text(cell) is not None for cell in row)


def _columns(rows: list[tuple[int, tuple[Any, ...]]], name: str, sheet: str) -> Part:
    from openpyxl.utils import get_column_letter

    (_, top), *body = rows
    width = max(len(row) for _, row in rows)
    header = [parse_text(cell) or f"unnamed_{number}" for number, cell in enumerate([*top, *[None] * width][:width], 1)]
    numbers = [number for number, _ in body]
    columns = [[row[place] if place < len(row) else None for _, row in body] for place in range(width)]
    used = [
        place
        for place in range(width)
        if (place < len(top) and parse_text(top[place]) is not None)
        or any(parse_text(cell) is not None for cell in columns[place])
    ]
    faults = [*doubled_names([header[place] for place in used])]
    if not body:
        faults.append(Fault(f"Sheet '{sheet}' of '{name}' has a header but no rows.", file=name))
    cells, notes = {}, []
    for place in used:
        judged = _Judged(header[place], get_column_letter(place + 1), sheet, name)
        cells[header[place]] = [judged.cell(cell, number) for cell, number in zip(columns[place], numbers, strict=True)]
        faults += judged.faults(cells[header[place]])
        if judged.absent:
            notes.append(f"Column '{header[place]}': {judged.absent} cells of {_NOT_AVAILABLE} are read as blank.")
    return Part(cells, numbers, "Excel", tuple(faults), tuple(notes), columns_of_text(cells))


class _Judged:
    """One column of a sheet, cell by cell: what each is read as, and the rows of those that are not to be trusted."""

    def __init__(self, column: str, letter: str, sheet: str, file: str):
        self.column, self.letter, self.sheet, self.file = column, letter, sheet, file
        self.absent = 0
        self.bad: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)

    def cell(self, cell: Any, row: int) -> Any:
        if isinstance(cell, _DATES):
            text = str(cell) if isinstance(cell, timedelta) else cell.isoformat()
            text = text.removesuffix("T00:00:00")
            self.bad["date"].append((row, text))
            return text
        if cell == _NOT_AVAILABLE:
            self.absent += 1
            return None
        if isinstance(cell, str) and cell in _ERRORS:
            self.bad["error"].append((row, cell))
            return None
        if isinstance(cell, int | float) and abs(cell) >= _EXACT and self.column in COLUMNS:
            self.bad["digits"].append((row, f"{cell:g}"))
        return cell

    def faults(self, cells: Cells) -> Iterator[Fault]:
        """Yield what is wrong with the column, each fault with all its rows."""
        known = self.column in COLUMNS and self.column != "started"
        mixed = len(self.bad["date"]) < sum(parse_text(cell) is not None for cell in cells)
        if self.bad["date"] and (known or (mixed and self.column != "started")):
            why = "Excel takes what looks like one, such as '1-2' or 'MAR1', for a date"
            advice = "format the column as text and enter it again, or export it as CSV from the source"
            yield self._fault("date", "holds the date", f"{why}; {advice}", "error" if known else "warning")
        if self.bad["error"]:
            yield self._fault("error", "holds the error", "correct or empty it", "error")
        if self.bad["digits"]:
            why = "Excel keeps 15 digits, so an id as long as that is lost; format the column as text, enter it again"
            yield self._fault("digits", "holds the number", why, "error")

    def _fault(self, kind: str, holds: str, advice: str, severity: Any) -> Fault:
        (row, text), *more = self.bad[kind]
        others = f" (and {len(more)} more cell{'s' * (len(more) > 1)})" if more else ""
        at = f"Cell {self.letter}{row} of sheet '{self.sheet}' in '{self.file}'"
        message = f"{at} {holds} {text} in column '{self.column}'{others}: {advice}."
        return Fault(message, severity, self.column, row, tuple(one for one, _ in self.bad[kind]), self.file)


def _uncalculated(
    values: dict[int, tuple[Any, ...]], formulas: Iterator[tuple[int, tuple[Any, ...]]], name: str, sheet: str
) -> Fault | None:
    """Return the fault of formulas whose values the workbook does not hold, as programs write that cannot compute."""
    from openpyxl.utils import get_column_letter

    found = [
        (f"{get_column_letter(place + 1)}{number}", number)
        for number, row in formulas
        for place, formula in enumerate(row)
        if formula is not None
        and (not isinstance(formula, str) or formula.startswith("="))
        and not isinstance(formula, int | float | bool | datetime | date | time | timedelta)
        and (place >= len(values.get(number, ())) or values[number][place] is None)
    ]
    if not found:
        return None
    at = name_some([cell for cell, _ in found])
    message = f"Sheet '{sheet}' of '{name}' holds formulas without a value ({at}); open it in Excel and save it again."
    rows = tuple(dict.fromkeys(row for _, row in found))
    return Fault(message, row=rows[0], rows=rows, file=name)
