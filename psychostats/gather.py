"""Rows gathered by what a prediction depends on, so that each is evaluated once, and averaged within groups.

In: rows of predictors and the columns to average by.  Out: the distinct rows, their shares in each group, and summaries
of what a function says of them, in blocks.  Knows no family and no comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.effects import EFFECT_COLUMNS, by_column
from psychostats.errors import InputError, nearest
from psychostats.grid import Estimated, predictors
from psychostats.levels import level_names
from psychostats.predictor import Parameters

Array: TypeAlias = npt.NDArray[np.float64]
By: TypeAlias = bool | str | Sequence[str]
Evaluate: TypeAlias = Callable[[pd.DataFrame], tuple[Array, ...]]

#: Numbers held at once: rows of the parameters times rows of predictors.
AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Groups:
    """Rows gathered by what a prediction depends on, and the groups over which it is averaged.

    Parameters
    ----------
    unique
        One row for every combination of predictors.
    keys
        Columns of the table: of the groups, or of the rows where nothing is averaged.
    shares
        Share of each unique row in each group, shape ``(groups, unique)``; None where nothing is averaged.
    place
        Without averages, the unique row of every row.
    """

    unique: pd.DataFrame
    keys: pd.DataFrame
    shares: Array | None
    place: npt.NDArray[np.intp]

    def table(self, figures: list[dict[str, Any]], head: Mapping[str, str]) -> pd.DataFrame:
        """Put the keys before the figures."""
        frame = pd.DataFrame(figures)[list(EFFECT_COLUMNS)]
        if self.shares is None:
            frame = frame.iloc[self.place].reset_index(drop=True)
        keys = self.keys.rename(columns=by_column)
        start = pd.DataFrame({name: [value] * len(frame) for name, value in head.items()})
        return pd.concat([start, keys, frame], axis=1)


def group_rows(fit: Estimated, frame: pd.DataFrame, by: By) -> Groups:
    """Gather rows, and find the groups of `by`."""
    names = predictors(fit)
    for name in names:
        if name not in frame.columns:
            raise InputError(f"the predictor '{name}' is missing in these rows.")
    place = _codes(frame[names])
    first = np.unique(place, return_index=True)[1]
    unique = frame[names].iloc[first].reset_index(drop=True)
    if by is False:
        keys = pd.concat([pd.Series(range(len(frame)), name="row"), frame[names].reset_index(drop=True)], axis=1)
        return Groups(unique, keys, None, place)
    columns = names_of(by)
    for name in columns:
        if name not in frame.columns:
            raise InputError(f"'{name}' is no column of these rows{nearest(name, map(str, frame.columns))}.")
    ordered = pd.DataFrame({name: _ordered(fit, frame[name], name) for name in columns}, index=range(len(frame)))
    kinds = ordered.drop_duplicates().sort_values(columns) if columns else ordered.iloc[:1]
    at = dict(zip(kinds.itertuples(index=False, name=None), range(len(kinds)), strict=True))
    group = np.array([at[key] for key in ordered.itertuples(index=False, name=None)])
    shares = np.zeros((len(kinds), len(unique)))
    np.add.at(shares, (group, place), 1.0)
    keys = frame[columns].iloc[kinds.index.to_numpy()].reset_index(drop=True)
    return Groups(unique, keys, shares / shares.sum(axis=1, keepdims=True), place)


def _codes(frame: pd.DataFrame) -> npt.NDArray[np.intp]:
    """Number the distinct rows of a frame as they appear."""
    if frame.columns.empty:
        return np.zeros(len(frame), dtype=np.intp)
    return np.asarray(pd.factorize(pd.MultiIndex.from_frame(frame))[0])


def _ordered(fit: Estimated, column: pd.Series[Any], name: str) -> npt.NDArray[Any]:
    """Return numbers that sort a column: a factor's levels as declared, all else by value."""
    if name in fit.coding.levels:
        return np.asarray(pd.Index(fit.coding.levels[name]).get_indexer(pd.Index(level_names(column))))
    if pd.api.types.is_numeric_dtype(column):
        return np.unique(column.to_numpy(), return_inverse=True)[1]
    return np.unique(level_names(column).astype(str), return_inverse=True)[1]


def summaries(
    groups: Groups,
    parameters: Parameters,
    evaluate: Evaluate,
    summarise: Callable[[tuple[Array, ...], int], dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Evaluate the unique rows in blocks, average them within the groups, and summarise each average (or row)."""
    step = max(1, AT_ONCE // max(1, len(parameters.b)))
    totals: tuple[Array, ...] | None = None
    for start in range(0, len(groups.unique), step):
        part = slice(start, start + step)
        values = evaluate(groups.unique.iloc[part].reset_index(drop=True))
        if groups.shares is None:
            yield from (summarise(values, k) for k in range(values[0].shape[1]))
            continue
        sums = tuple(value @ groups.shares[:, part].T for value in values)
        totals = sums if totals is None else tuple(a + b for a, b in zip(totals, sums, strict=True))
    if totals is not None:
        yield from (summarise(totals, k) for k in range(totals[0].shape[1]))


def names_of(by: By | None) -> list[str]:
    """Return names as a list; none for True, False and None."""
    if by is None or isinstance(by, bool):
        return []
    return [by] if isinstance(by, str) else list(dict.fromkeys(by))
