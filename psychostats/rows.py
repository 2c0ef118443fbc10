"""The rows and columns of a data frame that a formula is fitted to.

In: trials and a model's formula.  Out: its columns without the rows that lack a number, and how many those were; what
a fit's record says of them, and the same columns again from it.  Knows no coding and no sampler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from psychostats.cells import Bools, is_infinite
from psychostats.errors import InputError, nearest
from psychostats.spec import ModelSpec

Missing: TypeAlias = Literal["error", "drop"]


def select_rows(spec: ModelSpec, trials: pd.DataFrame, missing: Missing = "error") -> tuple[pd.DataFrame, int]:
    """Return the formula's columns without rows that lack a finite value, and how many were dropped.

    What is neither number nor boolean becomes text, so that a fit reads back the very columns it was made from; numbers
    that pandas stores as objects become numbers, as they would be factors otherwise.

    Raises
    ------
    InputError
        If a column is missing, or values are missing or infinite and `missing` is ``error``.
    """
    if missing not in ("error", "drop"):
        raise InputError(f"missing is '{missing}'; allowed are error and drop.")
    for name in spec.formula.variables:
        if name not in trials.columns:
            raise InputError(
                f"the formula names '{name}', which is no column of the trials"
                f"{nearest(name, map(str, trials.columns))}; columns are {', '.join(map(str, trials.columns))}."
            )
    rows = trials[list(spec.formula.variables)]
    for name in rows.columns:
        if str(name) == "." or "\0" in str(name):
            raise InputError(f"the column {str(name)!r} cannot be stored under this name; rename it.")
        if rows[name].dtype.kind not in "biuf" and rows[name].astype(str).str.contains("\0", regex=False).any():
            raise InputError(f"column '{name}' holds text with a NUL character, which cannot be stored; remove it.")
    lost = np.zeros(len(rows), dtype=bool)
    faults = []
    for name in rows.columns:
        for wrong, what in ((rows[name].isna().to_numpy(), "missing"), (_infinite(rows[name]), "infinite")):
            lost |= wrong
            if wrong.any():
                first, count = rows.index[int(np.argmax(wrong))], int(wrong.sum())
                where = f"row {first}" if count == 1 else f"{count:,} rows, the first row {first}"
                faults.append(f"'{name}' is {what} in {where}")
    if faults and missing == "error":
        number = int(lost.sum())
        raise InputError(
            f"{number:,} row{'s lack' if number > 1 else ' lacks'} a finite value that the formula needs: "
            f"{', '.join(faults)}; complete them, or drop them with --missing drop."
        )
    kept = rows.loc[~lost].copy()
    for name in kept.columns:
        column = kept[name].infer_objects()
        if isinstance(column.dtype, pd.CategoricalDtype):
            # A level of a rating scale that nobody used is a fault, which must not vanish here.
            used = column if name in spec.formula.response.columns else column.cat.remove_unused_categories()
            kept[name] = used.cat.rename_categories(str)
        elif pd.api.types.is_numeric_dtype(column):
            kept[name] = column
        else:
            kept[name] = column.astype(str)
    return kept, int(lost.sum())


def describe_columns(rows: pd.DataFrame) -> dict[str, Any]:
    """Return what `stored_rows` must know of selected rows beside their values: columns in order, and categories."""
    return {
        "columns": list(rows.columns),
        "categories": {
            name: list(rows[name].cat.categories)
            for name in rows.columns
            if isinstance(rows[name].dtype, pd.CategoricalDtype)
        },
    }


def stored_rows(constant: xr.Dataset, recorded: Mapping[str, Any]) -> pd.DataFrame:
    """Return selected rows from the values that a fit stores and what `describe_columns` recorded."""
    rows = pd.DataFrame({name: constant[name].to_numpy() for name in recorded["columns"]})
    for name, levels in recorded["categories"].items():
        rows[name] = pd.Categorical(rows[name], categories=levels)
    return rows


def _infinite(column: pd.Series[Any]) -> Bools:
    """Return which values are infinite, among numbers or text that is all numerals; a declared level may be."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return np.zeros(len(column), dtype=bool)
    if pd.api.types.is_numeric_dtype(column):
        return np.asarray(np.isinf(column.to_numpy(dtype=float, na_value=np.nan)))
    text = column.astype(str)
    held = text[column.notna()].unique()
    endless = [value for value in held if is_infinite(value)]
    if not 0 < len(endless) < len(held) or not all(map(_is_numeral, held)):
        endless = []
    return (text.isin(endless) & column.notna()).to_numpy()


def _is_numeral(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
