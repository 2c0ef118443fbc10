"""Tables of a run come back as they were written, faulty ones are refused by name, and a run is what it says it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurecompute.errors import RunError
from featurecompute.files import hash_file, write_json
from featurecompute.manifest import EXTREMES, FEATURES, SCHEMA, TABLES, load_run


def filled(table, n=3, whole=2**60):
    """Return n rows of a table, with other cells in each; `whole` is near its whole numbers."""
    cells = {
        "string": lambda i: f"é{i}",
        "int64": lambda i: whole + i,
        "double": lambda i: (i + 1) / 3,
        "bool": lambda i: i % 2 == 0,
        "list<item: string>": lambda i: [f"é{j}" for j in range(i)],
    }
    return pd.DataFrame({name: [cells[str(kind)](i) for i in range(n)] for name, kind in table.columns.items()})


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_a_table_comes_back_exactly(tmp_path, table):
    rows = filled(table)
    path = table.write(tmp_path, rows[list(reversed(rows.columns))])
    assert path == tmp_path / f"{table.name}.parquet"
    pd.testing.assert_frame_equal(table.read(tmp_path), rows, check_exact=True)
    held = pq.read_schema(path)
    assert dict(zip(held.names, held.types, strict=True)) == dict(table.columns)
    assert [name for name in held.names if not held.field(name).nullable] == [k for k in held.names if k in table.key]
    before = hash_file(path)
    table.write(tmp_path, table.read(tmp_path))
    assert hash_file(path) == before


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_nulls_stay_nulls_and_a_column_that_is_lacking_is_null(tmp_path, table):
    rows = filled(table, whole=7)  # with nulls, whole numbers are reals in a data frame, which would round 2^60
    others = [name for name in table.columns if name not in table.key]
    holed = rows.copy()
    for name in others:
        holed[name] = holed[name].astype(object).where([True, False, True], None)
    for written, nulls in ((holed, 1), (rows[list(table.key)], 3)):
        path = table.write(tmp_path, written)
        assert all(pq.read_table(path)[name].null_count == nulls for name in others)
        back = table.read(tmp_path)
        assert list(back.columns) == list(table.columns)
        assert (back[others].isna().sum() == nulls).all()
        before = hash_file(path)
        table.write(tmp_path, back)
        assert hash_file(path) == before


def test_not_a_number_is_null(tmp_path):
    FEATURES.write(tmp_path, filled(FEATURES).assign(mean=[np.nan, 1.0, -np.inf]))
    column = pq.read_table(tmp_path / "features.parquet")["mean"]
    assert column.to_pylist() == [None, 1.0, -np.inf]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows.assign(rank=1, side="top", feature="f"),
            r"extremes\.parquet names f, top, 1 more than once",
        ),
        (lambda rows: rows.assign(side=[None, "a", "b"]), r"extremes\.parquet has a row without feature and side and"),
        (lambda rows: rows.drop(columns="rank"), r"extremes\.parquet has a row without"),
        (lambda rows: rows.assign(ranks=1), r"extremes\.parquet has ranks, which does not belong there"),
    ],
)
def test_faulty_rows_are_not_written(tmp_path, change, message):
    with pytest.raises(RunError, match=message):
        EXTREMES.write(tmp_path, change(filled(EXTREMES)))
    assert list(tmp_path.iterdir()) == []


def test_a_table_with_other_columns_is_not_read(tmp_path):
    path = tmp_path / "extremes.parquet"
    rows = filled(EXTREMES)
    pq.write_table(pa.Table.from_pandas(rows.rename(columns={"rank": "place"})), path)
    with pytest.raises(RunError, match="lacks rank, has place, which does not belong there"):
        EXTREMES.read(tmp_path)
    pq.write_table(pa.Table.from_pandas(rows[list(reversed(rows.columns))]), path)
    assert list(EXTREMES.read(tmp_path).columns) == list(EXTREMES.columns)


def test_a_table_that_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(RunError, match=r"features\.parquet cannot be read"):
        FEATURES.read(tmp_path)
    path = FEATURES.write(tmp_path, filled(FEATURES))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(RunError, match=r"features\.parquet cannot be read"):
        FEATURES.read(tmp_path)


@pytest.fixture
def run(tmp_path):
    """Return the folder of a run with one table."""
    path = FEATURES.write(tmp_path / "run", filled(FEATURES))
    outputs = [{"path": path.name, "sha256": hash_file(path)}]
    write_json(path.parent / "run.json", {"schema": SCHEMA, "stages": [{"name": "features", "outputs": outputs}]})
    return path.parent


def test_a_whole_run_is_read(run):
    found = load_run(str(run))
    assert found.path == run and found.record["schema"] == SCHEMA
    pd.testing.assert_frame_equal(found.table("features"), filled(FEATURES))


def test_a_file_that_was_changed_or_removed_is_found(run):
    FEATURES.write(run, filled(FEATURES, 2))
    with pytest.raises(RunError, match=r"features\.parquet is not the file that was written"):
        load_run(run)
    assert len(load_run(run, verify=False).table("features")) == 2
    (run / "features.parquet").unlink()
    with pytest.raises(RunError, match=r"features\.parquet is missing"):
        load_run(run)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"schema": "featurecompute-run/0", "stages": []}, "in the form featurecompute-run/0; this version reads"),
        ([], "in the form None"),
        ({"schema": SCHEMA}, r"its run\.json does not say which files"),
        ({"schema": SCHEMA, "stages": [{"outputs": [{"path": "x"}]}]}, r"its run\.json does not say which files"),
    ],
)
def test_a_record_of_another_form_is_refused(run, record, message):
    write_json(run / "run.json", record)
    with pytest.raises(RunError, match=message):
        load_run(run)


def test_a_run_that_has_not_ended_is_refused(run):
    (run / "run.json").unlink()
    with pytest.raises(RunError, match="holds no complete run"):
        load_run(run)
