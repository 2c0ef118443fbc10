"""A column's levels: which there are, in which order, and what each is called.

In: a column of a data frame.  Out: names of levels.  Knows no formula.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

#: What a response may be: right and wrong answers or counts of them, any number, one above zero, or a rating.
ResponseKind: TypeAlias = Literal["answers", "number", "positive", "rating"]


def factor_levels(column: pd.Series[Any]) -> tuple[str, ...]:
    """Return the levels that occur: in a categorical's own order, else numbers by size and text by code point."""
    present = set(column.dropna().unique())
    if isinstance(column.dtype, pd.CategoricalDtype):
        ordered = [value for value in column.cat.categories if value in present]
    else:
        ordered = sorted(present, key=None if is_number(column) else label)
    return tuple(dict.fromkeys(map(label, ordered)))


def label(value: Any) -> str:
    """Return the name of a level; a number as R writes it, so that 2.0 and 2 are one level."""
    return f"{value:.15g}" if isinstance(value, float | np.floating) else str(value)


def level_names(column: pd.Series[Any]) -> npt.NDArray[Any]:
    """Return the name of each row's level, empty where the value is missing."""
    codes, values = pd.factorize(column)
    return np.array([*map(label, values), ""], dtype=object)[codes]


def is_number(column: pd.Series[Any]) -> bool:
    """Whether a column holds numbers, booleans not among them."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
