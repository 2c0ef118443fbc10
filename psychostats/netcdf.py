"""Labelled tables in one netCDF file: groups of datasets, and the trials they belong to.

In: datasets by group name.  Out: a file that ArviZ of either kind can read, and the same datasets again.  Knows nothing
of what they hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from psychostats.errors import FitError

# What stands in the file for a slash in a column's name, which netCDF takes for a path, and for the sign that marks it.
_ESCAPES = (("%", "%25"), ("/", "%2F"))


def write(groups: Mapping[str, xr.Dataset], path: Path) -> None:
    """Write netCDF, one group a table."""
    for i, (name, named) in enumerate(groups.items()):
        group = escape(named)
        floats = [key for key, variable in group.data_vars.items() if variable.dtype.kind == "f" and variable.ndim]
        group.to_netcdf(
            path,
            group=name,
            mode="w" if i == 0 else "a",
            engine="h5netcdf",
            encoding={key: {"zlib": True, "complevel": 1} for key in floats},
        )


def read(path: Path) -> dict[str, xr.Dataset]:
    """Read every group that `write` wrote.

    Raises
    ------
    FitError
        If the file is not such a one.
    """
    groups = {}
    try:
        with h5py.File(path, "r") as file:
            names = [name for name, item in file.items() if isinstance(item, h5py.Group)]
        for name in names:
            with xr.open_dataset(path, group=name, engine="h5netcdf") as group:
                groups[name] = _unescape(group.load())
    except (OSError, KeyError, ValueError) as error:
        raise FitError(f"{path} cannot be read as a fit's numbers: {str(error).splitlines()[0]}.") from error
    return groups


def constant(data: pd.DataFrame) -> xr.Dataset:
    """Return the columns of the trials as a dataset."""
    # A number keeps its type: 3 read back as 3.0 would name another level.
    columns = {}
    for name in data.columns:
        number = pd.api.types.is_numeric_dtype(data[name])
        columns[str(name)] = ("trial_row", data[name].to_numpy() if number else texts(data[name]))
    return xr.Dataset(columns)


def texts(values: Any) -> npt.NDArray[Any]:
    """Return values as an array of text."""
    return np.array([str(value) for value in values], dtype=object)


def escape(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset whose names hold no slash, which would be a path."""
    for old, new in _ESCAPES:
        dataset = _rename(dataset, old, new)
    return dataset


def _unescape(dataset: xr.Dataset) -> xr.Dataset:
    for old, new in reversed(_ESCAPES):
        dataset = _rename(dataset, new, old)
    return dataset


def _rename(dataset: xr.Dataset, old: str, new: str) -> xr.Dataset:
    names = {name: str(name).replace(old, new) for name in {*dataset.variables, *dataset.dims} if old in str(name)}
    return dataset.rename(names)
