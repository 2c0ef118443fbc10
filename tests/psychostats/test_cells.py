"""Cells: how files and frames are read, and what cells become as values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from psychostats.cells import (
    Kind,
    filter_rows,
    lacking_column,
    map_columns,
    missing_columns,
    name_some,
    parse_column,
    parse_text,
    recode_cells,
)
from psychostats.errors import DataError
from psychostats.tabular import read_raw
from psychostats.trials import read_trials


def only(source: str | Path | pd.DataFrame) -> str:
    (fault,) = read_raw(source).faults
    return fault.message


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("none.csv", None, "does not exist"),
        ("trials.xlsx", b"PK", "'.xlsx'; trials are read from .csv, .tsv and .parquet"),
        ("trials.csv", b"", "is empty (0 bytes)"),
        ("trials.csv", b"\n\n", "only blank lines"),
        ("trials.csv", b"participant,correct\n", "a header but no rows"),
        ("trials.csv", "participant,correct\np1,1\nRené,0\n".encode("latin-1"), "byte 0xe9 at offset 28 (line 3)"),
        ("trials.csv", b"participant,correct\np1,\x001\n", "NUL byte in line 2"),
        ("trials.csv", b"participant;correct\np1;1\n", "separated by semicolons, but '.csv'"),
        ("trials.csv", b'"participant";"correct"\n"p1";1\n', "separated by semicolons, but '.csv'"),
        ("trials.tsv", b"participant,correct\np1,1\n", "separated by commas, but '.tsv'"),
        ("trials.csv", b'participant,correct\np1,1\np2,"0\np3,1\n', "Row 3 of file"),
        (
            "trials.csv",
            b"a,b\n1,2\n1,2,3\n1\n",
            "Rows that do not have the header's 2 cells: 3 (3 cells), 4 (1 cells).",
        ),
        ("trials.csv", b"a,b\n1,2\n" + 8 * b"1\n", "7 (1 cells) and 3 more."),
        ("trials.csv", b"a,b,a\n1,2,3\n", "Column 'a' stands 2 times in the header."),
        ("trials.parquet", b"PAR1 but not really", "cannot be read as Parquet"),
    ],
)
def test_unreadable_files_are_one_fault(tmp_path: Path, name: str, data: bytes | None, said: str) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    assert said in only(path)
    with pytest.raises(DataError):
        read_trials(path)


def test_a_folder_and_a_parquet_file_without_rows_are_refused(tmp_path: Path) -> None:
    assert "is a folder" in only(tmp_path)
    pd.DataFrame({"participant": []}).to_parquet(tmp_path / "none.parquet")
    assert "no rows" in only(tmp_path / "none.parquet")
    assert "no rows" in only(pd.DataFrame())


def test_cells_are_read_as_they_stand_with_the_lines_they_start_on(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'a, b ,\n1," x\ny ",NA\n\n,,\n007,True,z\n')
    raw = read_raw(str(path))
    assert raw.cells == {"a": ["1", "007"], "b": [" x\ny ", "True"], "unnamed_3": ["NA", "z"]}
    assert raw.rows == [2, 6]
    assert raw.words == frozenset()
    assert raw.faults == ()


def test_ragged_rows_are_left_out_and_named(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes(b"a\tb\n1\t2\n3\n4\t5\n")
    raw = read_raw(path)
    assert raw.cells == {"a": ["1", "4"], "b": ["2", "5"]}
    assert raw.rows == [2, 4]
    assert raw.faults[0].row == 3


def test_frames_and_parquet_say_what_they_store_as_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"zip": ["1", None], "count": [1, 2], "when": [pd.Timestamp("2024-01-01"), pd.NaT]})
    frame.to_parquet(tmp_path / "t.parquet")
    for raw in (read_raw(frame), read_raw(tmp_path / "t.parquet")):
        assert raw.words == {"zip"}
        assert raw.cells["zip"] == ["1", None]
        assert raw.cells["when"][0].startswith("2024-01-01")
        assert raw.rows == [1, 2]
    numbered = frame.set_index(pd.Index([4, 9], name="row")).assign(kind=pd.Categorical(["b", "a"], ["b", "a"]))
    assert read_raw(numbered).rows == [4, 9]
    assert read_raw(numbered).orders == {"kind": ["b", "a"]}


def test_columns_are_mapped_replaced_and_doubled() -> None:
    cells = {"id": ["1"], "pair": ["a"], "kind": ["b"]}
    mapped, faults = map_columns(cells, {"pair": "kind", "phase": "kind", "rt": "RT"})
    assert mapped == {"id": ["1"], "pair": ["b"], "phase": ["b"]}
    assert [fault.column for fault in faults] == ["rt"]
    assert "Column 'RT' is to be read as 'rt', but there is none; the columns are id, pair, kind." in faults[0].message


def test_recoding_looks_up_cells_as_text_and_blanks_as_nothing() -> None:
    table = {"1": "one", "": "none"}
    assert recode_cells([" 1", 1.0, "NA", None, "2", 2], table) == ["one", "one", "none", "none", "2", 2]


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({}, [True, True, True]),
        ({"size": 1}, [True, True, False]),
        ({"size": "1"}, [True, False, False]),
        ({"flag": True}, [True, False, True]),
        ({"flag": ["TRUE", "no"]}, [True, True, False]),
        ({"coded": "1"}, [True, False, True]),
        ({"size": 1, "flag": True}, [True, False, False]),
    ],
)
def test_rows_are_kept_by_value_and_kind(filters: dict[str, Any], kept: list[bool]) -> None:
    cells = {"size": ["1", "1.0", "2"], "flag": ["TRUE", "no", "1"], "coded": ["true", "0", "1.0"]}
    keep, faults = filter_rows(cells, filters, {"coded": "binary"})
    assert keep.tolist() == kept
    assert faults == []


def test_filters_that_find_nothing_say_so() -> None:
    keep, faults = filter_rows({"kind": ["test", "check"]}, {"kind": ["tset", "check"], "gone": 1}, {})
    assert keep.tolist() == [False, True]
    assert [fault.severity for fault in faults] == ["warning", "error"]
    assert "(did you mean 'test'?); the column holds 'check', 'test'." in faults[0].message
    keep, faults = filter_rows({"kind": ["test"]}, {"kind": "x"}, {})
    assert not keep.any()
    assert faults[-1].message == "The filter on 'kind' keeps none of the 1 rows."


@pytest.mark.parametrize(
    ("kind", "cells", "values", "bad"),
    [
        ("text", [" a ", 1.0, True, "NaN", 2], ["a", "1", "True", None, "2"], []),
        ("number", ["1e-3", "-2", "", "inf", "1_0", True, 10**400, "x"], [0.001, -2, *6 * [None]], [3, 4, 5, 6, 7]),
        ("integer", ["3", "3.0", 2.5, None], [3, 3, None, None], [2]),
        ("binary", [True, 1, 1.0, "TRUE", "0.0", False, "2", "yes"], [1, 1, 1, 1, 0, 0, None, None], [6, 7]),
        ("flag", [" False ", "1", np.True_, "null"], [False, True, True, None], []),
        (None, ["1", "2.5", "nan"], [1, 2.5, None], []),
        (None, ["1", "007"], ["1", "007"], []),
        (None, ["0.5", "0"], [0.5, 0], []),
        (None, ["1", str(2**53)], ["1", str(2**53)], []),
        (None, ["1.5e200", "-2e16", "12345678901234567.5"], [1.5e200, -2e16, 12345678901234567.5], []),
    ],
)
def test_each_kind_reads_its_cells_and_names_the_bad(
    kind: Kind | None, cells: list[Any], values: list[Any], bad: list[int]
) -> None:
    parsed = parse_column(cells, kind)
    assert parsed.cells == values
    assert [position for position, _ in parsed.bad] == bad
    assert parsed.blank.tolist() == [value is None and n not in bad for n, value in enumerate(values)]
    assert parsed.text == any(isinstance(value, str) for value in values)


def test_levels_and_storage_make_a_column_of_unknown_kind_text() -> None:
    assert parse_column(["1", "2"], None, text=True).cells == ["1", "2"]
    levelled = parse_column(["1", "3", ""], None, ["1", "2"])
    assert levelled.cells == ["1", None, None]
    assert levelled.bad == [(1, "3")]
    assert levelled.blank.tolist() == [False, False, True]


def test_a_few_cells_that_are_no_numbers_are_typing_errors_and_many_are_not() -> None:
    few = parse_column([*map(str, range(19)), "l9"], None)
    assert few.text
    assert few.cells[:2] == ["0", "1"]
    assert few.bad == [(19, "l9")]
    assert parse_column([*map(str, range(18)), "l8"], None).bad == []


def test_columns_become_float_or_text_series() -> None:
    assert parse_column([True, None], "flag").series().isna().tolist() == [False, True]
    assert parse_column([True, False], "flag").series().dtype == np.float64
    assert parse_column(["a", ""], "text").series().isna().tolist() == [False, True]
    assert parse_column(["", "NA"], "text").series().dtype == object


def test_text_is_trimmed_and_whole_numbers_lose_their_point() -> None:
    assert [parse_text(cell) for cell in (" a b ", 7.0, 7.5, "7.0", " NA ", float("nan"))] == [
        "a b", "7", "7.5", "7.0", None, None,
    ]  # fmt: skip


def test_missing_columns_are_named_with_the_nearest() -> None:
    fault, other = missing_columns(["rt", "correct", "pair"], ["RT", "corect", "pair"])
    assert fault.message == (
        "Column 'rt' is needed, but there is none (did you mean 'RT'?); the columns are RT, corect, pair."
    )
    assert (fault.column, other.column) == ("rt", "correct")
    assert "'corect'" in other.message
    assert lacking_column("Column 'old'", "old", ["a"], "new").column == "new"


def test_long_lists_are_counted() -> None:
    assert name_some(list("abcde")) == "a, b, c, d, e"
    assert name_some(list("abc"), limit=2, quote=True) == "'a', 'b' and 1 more"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"PK\x03\x04rest", "an Excel workbook or a ZIP archive"), (b"\x1f\x8b\x08", "compressed by gzip")],
)
def test_packed_files_are_called_what_they_are(tmp_path, content, words):
    (tmp_path / "trials.csv").write_bytes(content)
    (fault,) = read_raw(tmp_path / "trials.csv").faults
    assert words in fault.message


def test_binary_text_of_parquet_is_text(tmp_path):
    table = pa.table({"representation": pa.array([b"local", b"distributed"], pa.binary())})
    pq.write_table(table, tmp_path / "trials.parquet")
    assert read_raw(tmp_path / "trials.parquet").cells["representation"] == ["local", "distributed"]
