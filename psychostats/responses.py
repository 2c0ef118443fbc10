"""The response of each row as numbers: answers and counts of them, measurements, times, ratings.

In: a formula's response, a data frame and the kind that a family takes.  Out: two arrays; or one clear sentence on the
first value that cannot be one.  Knows no family.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.errors import InputError
from psychostats.formula import Response
from psychostats.levels import ResponseKind, factor_levels

Array: TypeAlias = npt.NDArray[np.float64]

_NEEDED = {"answers": "0 and 1, or counts", "rating": "whole numbers, or levels in a declared order"}
#: More levels than this are no scale that anyone rates on, but a measurement.
MOST_RATINGS = 100


def read_response(response: Response, data: pd.DataFrame, kind: ResponseKind) -> tuple[Array, Array]:
    """Return the response of each row, and of how many trials it is.

    Parameters
    ----------
    response
        Its columns.
    data
        Rows without missing values there.
    kind
        ``answers``: 0/1 or counts. ``number``: any finite number. ``positive``: one above zero. ``rating``: whole
        numbers in a row, or a categorical column; its levels become 1, 2, ... in their order.

    Raises
    ------
    InputError
        If a value cannot be one, or a scale has a level that was never used.
    """
    if kind == "rating":
        return _ratings(response.successes, data[response.successes]), np.ones(len(data))
    for name in response.columns:
        if not (pd.api.types.is_numeric_dtype(data[name]) or pd.api.types.is_bool_dtype(data[name])):
            raise InputError(f"the response column '{name}' holds text; it needs {_NEEDED.get(kind, 'numbers')}.")
    values = data[response.successes].to_numpy(dtype=float)
    if kind != "answers":
        if not np.isfinite(values).all():
            raise InputError(f"the response column '{response.successes}' holds values that are not finite.")
        if kind == "positive":
            _refuse_below_zero(response.successes, values, data.index)
        return values, np.ones(len(data))
    if response.failures:
        trials = values + data[response.failures].to_numpy(dtype=float)
    elif response.trials:
        trials = data[response.trials].to_numpy(dtype=float)
    else:
        trials = np.ones(len(data))
    whole = (values == np.round(values)) & (trials == np.round(trials))
    wrong = ~(whole & (values >= 0) & (values <= trials))
    if wrong.any():
        row = data.index[int(np.argmax(wrong))]
        allowed = "whole numbers of successes from 0 to their total" if response.counts else "0 and 1"
        raise InputError(
            f"the response '{response.successes}' is {values[wrong][0]:g} in row {row}; allowed are {allowed}."
        )
    if not trials.any():
        raise InputError("the response counts no trials: every total is 0.")
    return values, trials


def _refuse_below_zero(name: str, values: Array, index: pd.Index[Any]) -> None:
    wrong = values <= 0
    if wrong.any():
        more = int(wrong.sum()) - 1
        beside = f" (and {more:,} more row{'s are' if more > 1 else ' is'} at or below zero)" if more else ""
        raise InputError(
            f"the response '{name}' is {values[wrong][0]:g} in row {index[int(np.argmax(wrong))]}{beside}; a lognormal "
            "family takes times above zero: exclude these rows, or correct them."
        )


def _ratings(name: str, column: pd.Series[Any]) -> Array:
    """Return ratings from 1, refusing what is no scale or has a level that nobody used."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        declared = [str(level) for level in column.cat.categories]
        used = set(factor_levels(column))
        unused = [level for level in declared if level not in used]
        codes = column.cat.codes.to_numpy()
    elif pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(dtype=float)
        fraction = values != np.round(values)
        if fraction.any():
            raise InputError(
                f"the response '{name}' is {values[fraction][0]:g} in row {column.index[int(np.argmax(fraction))]}; "
                f"ratings are {_NEEDED['rating']}."
            )
        low, high = int(values.min()), int(values.max())
        if high - low >= MOST_RATINGS:
            raise InputError(
                f"the response '{name}' runs from {low} to {high}; ratings have at most {MOST_RATINGS} levels, so bin "
                "it, or take it as a measurement (family gaussian)."
            )
        declared = [str(level) for level in range(low, high + 1)]
        unused = [level for level in declared if not (values == int(level)).any()]
        codes = values - low
    else:
        raise InputError(f"the response column '{name}' holds text; it needs {_NEEDED['rating']}.")
    if unused:
        levels = f"level{'s' if len(unused) > 1 else ''} {', '.join(unused[:5])}{' ...' if len(unused) > 5 else ''}"
        raise InputError(
            f"the rating scale '{name}' has {levels} that no row uses, so the thresholds around "
            f"{'them' if len(unused) > 1 else 'it'} cannot be told apart; merge levels, or renumber the scale."
        )
    if len(declared) < 2:
        raise InputError(f"the response '{name}' is '{declared[0]}' in every row; a rating needs two levels at least.")
    return np.asarray(codes, dtype=float) + 1.0
