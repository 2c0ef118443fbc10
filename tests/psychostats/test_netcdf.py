"""Labelled tables through a file and back, whatever their names and types."""

from __future__ import annotations

from pathlib import Path

import arviz
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from psychostats.errors import FitError
from psychostats.netcdf import constant, escape, read, texts, write


@pytest.fixture
def tables() -> dict[str, xr.Dataset]:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 5, 3))
    values[0, 0, 0] = np.nan
    names = texts(["Intercept", "a/b", "100 %", "50%2F", "\u03b2"])[:3]
    posterior = xr.Dataset(
        {"b": (("chain", "draw", "term"), values), "cor_g/h": (("chain",), rng.normal(size=2)), "n%2F": 3},
        {"chain": [0, 1], "draw": np.arange(5), "term": names},
        {"seed": 7, "log_likelihood": -12.345678901234567},
    )
    rows = constant(
        pd.DataFrame({"who": ["p/1", "p%2F", "p3"], "x": [0.1, 2.0, np.inf], "n": [1, 2, 3], "ok": [True, False, True]})
    )
    return {"posterior": posterior, "constant_data": rows}


def test_what_was_written_is_read(tables: dict[str, xr.Dataset], tmp_path: Path) -> None:
    write(tables, tmp_path / "a.nc")
    found = read(tmp_path / "a.nc")
    assert sorted(found) == sorted(tables)
    for name, table in tables.items():
        xr.testing.assert_identical(found[name].drop_attrs(), table.drop_attrs())
        assert {key: found[name].attrs[key] for key in table.attrs} == table.attrs
    assert found["constant_data"]["n"].dtype.kind == "i" and found["constant_data"]["ok"].dtype.kind == "b"
    assert found["constant_data"]["who"].to_numpy().tolist() == ["p/1", "p%2F", "p3"]


def test_the_same_tables_are_the_same_bytes(tables: dict[str, xr.Dataset], tmp_path: Path) -> None:
    for name in ("a.nc", "b.nc"):
        write(tables, tmp_path / name)
    assert (tmp_path / "a.nc").read_bytes() == (tmp_path / "b.nc").read_bytes()


def test_arviz_reads_the_file(tables: dict[str, xr.Dataset], tmp_path: Path) -> None:
    write(tables, tmp_path / "a.nc")
    found = arviz.from_netcdf(str(tmp_path / "a.nc"))
    np.testing.assert_array_equal(found["posterior"]["b"], tables["posterior"]["b"])


def test_names_with_slashes_and_their_signs_stay_apart() -> None:
    names = ["a/b", "a%2Fb", "a%252Fb", "a%b", "plain"]
    escaped = escape(xr.Dataset({name: (f"of_{name}", [i]) for i, name in enumerate(names)}))
    assert len(escaped.data_vars) == len(names) and not any(
        "/" in str(name) for name in [*escaped.variables, *escaped.dims]
    )
    assert int(escaped["plain"][0]) == 4


@pytest.mark.parametrize("content", [b"", b"no netCDF", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_what_is_no_such_file_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    path.write_bytes(content)
    with pytest.raises(FitError, match=r"a\.nc cannot be read as a fit's numbers: .*") as error:
        read(path)
    assert "\n" not in str(error.value)
    with pytest.raises(FitError, match="cannot be read"):
        read(tmp_path / "none.nc")


def test_a_file_that_was_cut_short_is_refused(tables: dict[str, xr.Dataset], tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    write(tables, path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(FitError, match="cannot be read"):
        read(path)
