"""Rows at which a fit is asked something: a reference grid, or trials, with everything that effects take from them.

In: a fit, or a model whose parameters are known, and rows of its predictors.  Out: the linear predictor and the mean of
the response at each row of the parameters.  Knows no table and no contrast.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.design import Block, Coding
from psychostats.errors import InputError, nearest
from psychostats.family import Family
from psychostats.intervals import Interval
from psychostats.levels import level_names
from psychostats.predictor import Parameters, Target, fixed_predictor, probability
from psychostats.spec import ModelSpec
from psychostats.uncertainty import Uncertainty

Array: TypeAlias = npt.NDArray[np.float64]


class Estimated(Protocol):
    """What effects are taken from: a `psychostats.fit.Fit`, or a model whose parameters are known."""

    @property
    def spec(self) -> ModelSpec:
        """The model."""

    @property
    def coding(self) -> Coding:
        """How its trials were coded."""

    @property
    def interval(self) -> Interval:
        """The intervals of its tables."""

    @property
    def uncertainty(self) -> Uncertainty:
        """What the rows of its parameters are, draws or points around a maximum."""

    def parameters(self) -> Parameters:
        """Return its parameters, a draw a row (or the one truth), or as `psychostats.uncertainty.points` lays them."""


@dataclass(frozen=True)
class Rows:
    """Coded rows of predictors, and the parameters they meet.

    Parameters
    ----------
    family
        Of the response, its estimated parameters filled in.
    X, offset, blocks
        Design of k rows.
    parameters
        With n rows.
    """

    family: Family
    X: Array
    offset: Array
    blocks: tuple[Block, ...]
    parameters: Parameters

    def eta(self) -> Array:
        """Return the linear predictor with group effects at zero, shape ``(n, k)``."""
        return fixed_predictor(self.X, self.offset, self.parameters.b)

    def mean(self, target: Target) -> Array:
        """Return the mean of the response, shape ``(n, k)``."""
        return probability(self.family, self.X, self.offset, self.blocks, self.parameters, target)

    def miss(self, target: Target) -> Array:
        """Return the probability of a wrong answer, shape ``(n, k)``, for odds."""
        return probability(self.family, self.X, self.offset, self.blocks, self.parameters, target, wrong=True)


def rows_of(fit: Estimated, frame: pd.DataFrame, parameters: Parameters | None = None) -> Rows:
    """Code rows of predictors; `parameters` spares reading those of the fit again."""
    coding = fit.coding
    parameters = fit.parameters() if parameters is None else parameters
    return Rows(
        fit.spec.family.at(parameters.family, coding.scale(frame)),
        coding.fixed(frame),
        coding.offset(frame),
        coding.random(frame),
        parameters,
    )


def link_of(family: Family, mean: Array) -> Array:
    """Return the linear predictor of a mean, infinite where it rounds to an asymptote."""
    with np.errstate(divide="ignore"):
        return family.linear_predictor(mean)


def log_odds(mean: Array, miss: Array) -> Array:
    """Return log p - log(1 - p), elementwise."""
    return np.asarray(np.log(mean) - np.log(miss))


def predictors(fit: Estimated) -> list[str]:
    """Return the names of a fit's predictors, factors first."""
    return [*fit.coding.levels, *fit.coding.ranges]


def require_predictors(fit: Estimated, names: Iterable[str]) -> None:
    """Refuse a name that is no predictor of the model."""
    known = predictors(fit)
    for name in names:
        if name not in known:
            raise InputError(
                f"'{name}' is no predictor of the model{nearest(name, known)}; its predictors are "
                f"{', '.join(known) or 'none'}."
            )


def require_number(fit: Estimated, name: str) -> None:
    """Refuse a name that is no numeric predictor of the model."""
    ranges = fit.coding.ranges
    if name not in ranges:
        raise InputError(
            f"'{name}' is no numeric predictor of the model{nearest(name, ranges)}; its numeric predictors are "
            f"{', '.join(ranges) or 'none'}."
        )


def values_at(fit: Estimated, name: str, values: Sequence[Any]) -> list[Any]:
    """Return values as a list, those of a numeric predictor as finite numbers."""
    if not len(values):
        raise InputError(f"no value of '{name}' is given; name one at least.")
    if name not in fit.coding.ranges:
        return list(values)
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = [np.nan]
    if not np.isfinite(numbers).all():
        raise InputError(f"'{name}' is a numeric predictor; it cannot be held at {', '.join(map(str, values))}.")
    return numbers


def observed(fit: Estimated) -> pd.DataFrame:
    """Return the trials that a fit was made from.

    Raises
    ------
    InputError
        If it has none.
    """
    data = getattr(fit, "data", None)
    if not isinstance(data, pd.DataFrame):
        raise InputError("this model was not fitted to trials, so nothing can be averaged over them.")
    return data


def weights(
    coding: Coding, trials: pd.DataFrame, grid: pd.DataFrame, named: Sequence[str], rest: Sequence[str], how: str
) -> Array:
    """Return the weight of each row of a grid among those it is averaged with, not normed, shape ``(rows,)``.

    Parameters
    ----------
    coding, trials
        Of a fit.
    grid
        Rows.
    named, rest
        Predictors that are asked for, and those that are averaged over; numbers among them do not count.
    how
        ``proportional``, ``outer``, ``cells`` or ``flat``; see `psychostats.emmeans.emmeans`.
    """

    def frequency(names: Sequence[str]) -> Array:
        factors = [name for name in names if name in coding.levels]
        if not factors:
            return np.ones(len(grid))
        seen, asked = (list(zip(*(level_names(x[name]) for name in factors), strict=True)) for x in (trials, grid))
        counts = Counter(seen)
        return np.array([counts[key] for key in asked], dtype=float)

    if how == "proportional":
        return frequency(rest)
    if how == "outer":
        return np.asarray(np.prod([frequency([name]) for name in rest], axis=0))
    beside = frequency([*named, *rest])
    return (beside > 0).astype(float) if how == "flat" else beside


def stencil(fit: Estimated, name: str, at: npt.ArrayLike) -> tuple[Array, Array]:
    """Return points around some values of a number, and their weights, for a derivative.

    Parameters
    ----------
    fit
        A fit.
    name
        Numeric predictor.
    at
        Values, shape ``(k,)``.

    Returns
    -------
    tuple of ndarray
        Points ``(k, 5)`` and weights ``(k, 5)``: the sum of weights times a function at the points is its derivative,
        exact for polynomials of degree 4. The points stay in the range of the trials where the value does, since a
        formula may not be defined outside (a logarithm, a spline).
    """
    low, _, high = fit.coding.ranges[name]
    x = np.asarray(at, dtype=float)
    h = 1e-3 * (high - low if high > low else 1.0)
    # Five points from one that is up to four steps below: shifted only as far as the range makes necessary.
    shift = np.full(x.shape, -2)
    inside = (x >= low) & (x <= high)
    shift = np.where(inside & (x - 2 * h < low), -np.floor((x - low) / h).astype(int), shift)
    shift = np.where(inside & (x + 2 * h > high), -4 + np.floor((high - x) / h).astype(int), shift)
    steps = shift[:, np.newaxis] + np.arange(5)
    powers = steps[:, np.newaxis, :].astype(float) ** np.arange(5)[:, np.newaxis]
    first = np.zeros((len(x), 5, 1))
    first[:, 1] = 1.0
    return x[:, np.newaxis] + h * steps, np.asarray(np.linalg.solve(powers, first)[..., 0] / h)
