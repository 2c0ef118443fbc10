"""Plain tables: CSV, TSV and Parquet files, and data frames, as cells.

In: a file's bytes and its name, or a data frame.  Out: its cells with their row numbers, or what is wrong with it.
Knows no column and no tool.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from psychostats.cells import Cells, Raw, doubled_names, name_some
from psychostats.errors import DataError, Fault

_SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas"}
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
#: The kinds of files that hold one table and nothing else.
TABLES = (*_DELIMITERS, ".parquet")
_PACKED = {
    b"PK\x03\x04": "an Excel workbook or a ZIP archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "compressed by gzip",
    b"PAR1": "a Parquet file",
}


def read_raw(source: str | Path | pd.DataFrame) -> Raw:
    """Read a ``.csv``, ``.tsv`` or ``.parquet`` file, or a data frame; whatever is wrong with it becomes a fault.

    Blank lines are passed over.  The index of a frame counts as its row numbers where it is named ``row``.
    """
    if isinstance(source, pd.DataFrame):
        return _read_frame(source)
    path = Path(source)
    suffix = path.suffix.lower()
    if not path.exists():
        problem = "does not exist"
    elif path.is_dir():
        problem = "is a folder; give one .csv, .tsv or .parquet file"
    elif suffix not in TABLES:
        problem = f"ends in '{path.suffix}'; trials are read from .csv, .tsv and .parquet files"
    elif not os.access(path, os.R_OK):
        problem = "may not be read by this user"
    else:
        return read_table(path.read_bytes(), str(path), suffix)
    return Raw(faults=(Fault(f"File '{path}' {problem}."),))


def read_table(data: bytes, name: str, suffix: str) -> Raw:
    """Read the bytes of a ``.csv``, ``.tsv`` or ``.parquet`` file that faults call by `name`."""
    if not data:
        return Raw(faults=(Fault(f"File '{name}' is empty (0 bytes)."),))
    return _read_parquet(data, name) if suffix == ".parquet" else _read_text(data, name, suffix)


def _read_frame(frame: pd.DataFrame) -> Raw:
    if frame.empty:
        return Raw(faults=(Fault("The table has no rows."),))
    numbered = frame.index.name == "row"
    categorical = {str(name): column.cat.categories for name, column in frame.items() if hasattr(column, "cat")}
    rows = [int(row) for row in frame.index] if numbered else list(range(1, len(frame) + 1))
    cells = {str(name): column.astype(object).where(column.notna(), None).tolist() for name, column in frame.items()}
    orders = {name: [str(level) for level in order] for name, order in categorical.items()}
    return Raw(_scalars(cells), rows, words=_stored_as_text(cells), orders=orders)


def _stored_as_text(cells: Mapping[str, Cells]) -> frozenset[str]:
    return frozenset(name for name, column in cells.items() if any(isinstance(cell, str) for cell in column))


def _scalars(cells: Mapping[str, Cells]) -> dict[str, Cells]:
    """Write out what is neither text nor number, such as a date or a list."""
    plain = (str, int, float, np.generic, type(None))

    def scalar(cell: Any) -> Any:
        if isinstance(cell, bytes):
            return cell.decode("utf-8", "replace")
        return cell if isinstance(cell, plain) else str(cell)

    return {name: [scalar(cell) for cell in column] for name, column in cells.items()}


def _read_parquet(data: bytes, name: str) -> Raw:
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        reason = _reason(error)
        return Raw(faults=(Fault(f"File '{name}' cannot be read as Parquet: {reason}."),))
    if table.num_rows == 0:
        return Raw(faults=(Fault(f"File '{name}' has columns but no rows."),))
    cells, faults = {}, []
    for column, held in zip(table.column_names, table.columns, strict=True):
        try:
            cells[column] = held.to_pylist()
        except (pa.ArrowException, ValueError, OverflowError) as error:
            reason = _reason(error)
            faults.append(Fault(f"Column '{column}' of file '{name}' cannot be read: {reason}.", column=column))
    if faults:
        return Raw(faults=tuple(faults))
    rows = list(range(1, table.num_rows + 1))
    return Raw(_scalars(cells), rows, doubled_names(table.column_names), _stored_as_text(cells))


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def decode_text(data: bytes, name: str) -> str:
    """Return the text of a file that is UTF-8, or UTF-16 with a byte order mark.

    Raises
    ------
    DataError
        If it is neither, or holds a NUL byte; the fault names the line.
    """
    packed = next((what for magic, what in _PACKED.items() if data.startswith(magic)), None)
    if packed:
        raise DataError([Fault(f"File '{name}' is {packed}, whatever its name says; save it as CSV.")])
    wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        at = f"byte 0x{data[error.start]:02x} at offset {error.start} (line {line})"
        called = "UTF-16, as its first bytes say" if wide else "UTF-8"
        message = f"File '{name}' is not {called}: {at} cannot be decoded; save it as UTF-8."
        raise DataError([Fault(message, row=line)]) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError([Fault(f"File '{name}' holds a NUL byte in line {line}; it is not plain text.", row=line)])
    return text


def _read_text(data: bytes, name: str, suffix: str) -> Raw:
    try:
        text = decode_text(data, name)
    except DataError as error:
        return Raw(faults=error.faults)
    delimiter = _DELIMITERS[suffix]
    first_line = text.lstrip("\r\n").partition("\n")[0]
    if delimiter not in first_line and (other := next((mark for mark in _SEPARATORS if mark in first_line), None)):
        advice = f"'{suffix}' files are separated by {_SEPARATORS[delimiter]}"
        return Raw(faults=(Fault(f"File '{name}' is separated by {_SEPARATORS[other]}, but {advice}; save it so."),))

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
        return Raw(faults=(Fault(f"Row {start} of file '{name}' {reason}", row=start),))
    if not records:
        return Raw(faults=(Fault(f"File '{name}' holds only blank lines."),))

    header = [label.strip() or f"unnamed_{number}" for number, label in enumerate(records[0], 1)]
    faults = list(doubled_names(header))
    ragged = [(line, len(record)) for line, record in zip(starts, records, strict=True) if len(record) != len(header)]
    if ragged:
        which = name_some([f"{line} ({width} cells)" for line, width in ragged])
        message = f"Rows that do not have the header's {len(header)} cells: {which}."
        faults.append(Fault(message, row=ragged[0][0]))
    good = [n for n in range(1, len(records)) if len(records[n]) == len(header)]
    if len(records) == 1:
        faults.append(Fault(f"File '{name}' has a header but no rows."))
    columns = zip(*(records[n] for n in good), strict=True)
    cells = {label: list(column) for label, column in zip(header, columns, strict=False)}
    return Raw(cells, [starts[n] for n in good], tuple(faults))
