"""Several comparisons at once: critical values and p-values that hold for a family of estimates together.

In: z-ratios, their correlation and the name of an adjustment.  Out: one critical value, or p-values.  All are for
estimates that are normal with a known covariance, so with infinitely many degrees of freedom; names and rules are those
of R's emmeans.  Knows no model.
"""

from __future__ import annotations

import functools
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from psychostats.errors import InputError, nearest

Array: TypeAlias = npt.NDArray[np.float64]

#: Those that give both a critical value and p-values.
SINGLE_STEP = ("none", "tukey", "scheffe", "sidak", "bonferroni", "dunnettx", "mvt")
#: Those that order the p-values; emmeans' limits beside them are Bonferroni's.
STEPWISE = ("holm", "hochberg", "BH", "fdr", "BY")
ADJUSTMENTS = (*SINGLE_STEP, *STEPWISE)

_POINTS = 1 << 15


def resolve_adjustment(adjust: str, estimates: int, means: int | None) -> str:
    """Return the adjustment that is made where `adjust` is asked for, as emmeans decides it.

    Parameters
    ----------
    adjust
        One of `ADJUSTMENTS`.
    estimates
        How many there are; a single one is not adjusted (but by Scheffe's method, which knows its rank).
    means
        Number of means of which these are all pairwise differences; None if they are something else, and then Tukey's
        method does not apply and Sidak's is made.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if adjust not in ADJUSTMENTS:
        raise InputError(
            f"the adjustment '{adjust}' is unknown{nearest(adjust, ADJUSTMENTS)}; allowed are {', '.join(ADJUSTMENTS)}."
        )
    if estimates == 1 and adjust != "scheffe":
        return "none"
    return "sidak" if adjust == "tukey" and means is None else adjust


def critical_value(adjust: str, probability: float, correlation: Array, means: int | None = None) -> float:
    """Return c such that estimate -+ c se holds for the whole family with this probability.

    Parameters
    ----------
    adjust, means
        See `resolve_adjustment`; a stepwise method has Bonferroni's limits, as in emmeans.
    probability
        Of all limits together.
    correlation
        Of the estimates, shape ``(k, k)``; may be singular.

    Returns
    -------
    float
        Sources: Tukey, the studentized range over sqrt(2); Scheffe, the root of a chi-squared quantile whose degrees
        of freedom are the rank; dunnettx, emmeans' mixture of Tukey and Sidak; mvt, see `largest`.
    """
    k = len(correlation)
    adjust = resolve_adjustment(adjust, k, means)
    if adjust == "scheffe":
        return float(np.sqrt(special.chdtri(_factor(correlation).shape[1], 1.0 - probability)))
    if adjust == "none":
        return float(-special.ndtri((1.0 - probability) / 2.0))
    if adjust == "sidak":
        return float(-special.ndtri((1.0 - probability ** (1.0 / k)) / 2.0))
    bonferroni = float(-special.ndtri((1.0 - probability) / (2.0 * k)))
    if adjust == "bonferroni" or adjust in STEPWISE:
        return bonferroni

    def excess(c: float) -> float:
        return float(_beyond(adjust, np.array([c]), correlation, means)[0]) - (1.0 - probability)

    from scipy import optimize  # here, as below, since few ask for what takes long to import

    # Bonferroni's bound is above every one of these but Tukey's method for estimates it was not made for.
    return float(optimize.brentq(excess, 1e-6, bonferroni + 1.0, xtol=1e-10))


def p_values(adjust: str, z: npt.ArrayLike, correlation: Array, means: int | None = None) -> Array:
    """Return two-sided p-values of a family of z-ratios, shape ``(k,)``; arguments as for `critical_value`."""
    ratios = np.abs(np.asarray(z, dtype=float))
    k = len(ratios)
    adjust = resolve_adjustment(adjust, k, means)
    single = 2.0 * special.ndtr(-ratios)
    if adjust == "none":
        return np.asarray(single)
    if adjust == "sidak":
        return np.asarray(-np.expm1(k * np.log1p(-single)))
    if adjust == "bonferroni":
        return np.asarray(np.minimum(1.0, k * single))
    if adjust == "scheffe":
        return np.asarray(special.chdtrc(_factor(correlation).shape[1], ratios**2))
    if adjust in STEPWISE:
        return _stepwise(adjust, single)
    return _beyond(adjust, ratios, correlation, means)


def largest(c: npt.ArrayLike, correlation: Array) -> Array:
    """Return the probability that the largest of k correlated normal deviates, in absolute value, is beyond c.

    Parameters
    ----------
    c
        Positive values, any shape.
    correlation
        Shape ``(k, k)``; may be singular.

    Returns
    -------
    ndarray
        The shape of `c`. A normal vector of rank r is a direction times a length whose square is chi-squared with r
        degrees of freedom, and along a direction the largest deviate is proportional to the length: so only
        directions, on the sphere, are averaged over, by a fixed set of points (Monahan and Genz 1997). The result is
        smooth in c, the same every time, and right in relative terms far in the tail.
    """
    factor = _factor(correlation)
    rank = factor.shape[1]
    reach = np.abs(_directions(rank) @ factor.T).max(axis=1)
    values = np.asarray(c, dtype=float)
    with np.errstate(divide="ignore"):
        lengths = values[..., np.newaxis] / reach
    return np.asarray(special.chdtrc(rank, lengths**2).mean(axis=-1))


def _beyond(adjust: str, c: Array, correlation: Array, means: int | None) -> Array:
    """Return the probability that a family's largest z-ratio is beyond c, for methods that know its distribution."""
    if adjust == "tukey":
        assert means is not None
        return _studentized_range(np.sqrt(2.0) * c, float(means))
    if adjust == "dunnettx":
        k = len(correlation)
        tukey = _studentized_range(np.sqrt(2.0) * c, (1.0 + np.sqrt(1.0 + 8.0 * k)) / 2.0)
        sidak = -np.expm1(k * np.log1p(-2.0 * special.ndtr(-c)))
        return np.asarray((k - 1) / k * tukey + sidak / k)
    return largest(c, correlation)


def _studentized_range(q: Array, means: float) -> Array:
    """Return the probability that the range of some standard normal deviates is beyond q (df infinite), elementwise.

    k times the integral of phi(z) (Phi(z) - Phi(z - q))^(k - 1), z the largest deviate; k need not be whole. The
    integrand is smooth and vanishes at both ends, so equal steps are exact to rounding.
    """
    z = np.linspace(-9.0, 9.0 + float(np.nan_to_num(q).max(initial=0.0)), 4001)
    inside = special.ndtr(z) - special.ndtr(z - q[:, np.newaxis])
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    total = means * (density * inside ** (means - 1.0)).sum(axis=1) * (z[1] - z[0])
    return np.asarray(np.clip(1.0 - total, 0.0, 1.0))


def _factor(correlation: Array) -> Array:
    """Return A with A A' = correlation and as many columns as its rank.

    Cholesky's factor, row by row, without the columns of what follows from the rows before. Eigenvectors would do as
    well, but where eigenvalues are alike they are any of many, and the points of `largest` would lie elsewhere on
    another processor.
    """
    least = 1e-8 * max(np.abs(correlation).max(initial=0.0), 1e-300)
    columns = np.zeros_like(correlation, dtype=float)
    rank = 0
    for row in range(len(correlation)):
        left = correlation[row:, row] - columns[row:, :rank] @ columns[row, :rank]
        if left[0] > least:
            columns[row:, rank] = left / np.sqrt(left[0])
            rank += 1
    return columns[:, :rank]


@functools.lru_cache(maxsize=8)
def _directions(rank: int) -> Array:
    """Return points that cover the unit sphere evenly, shape ``(points, rank)``."""
    if rank == 1:
        return np.ones((1, 1))
    if rank == 2:
        angle = np.pi * (np.arange(_POINTS) + 0.5) / _POINTS  # half a turn: the other half has the same deviates
        return np.column_stack([np.cos(angle), np.sin(angle)])
    from scipy import stats

    cube = stats.qmc.Sobol(rank, scramble=False).random(_POINTS) + 0.5 / _POINTS
    normal = special.ndtri(cube)
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True))


def _stepwise(adjust: str, p: Array) -> Array:
    """Return p-values as R's p.adjust does; those that do not exist stay so and are not counted."""
    out = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    n = len(known)
    order = known[np.argsort(p[known])]
    rank = np.arange(1, n + 1)
    factors = {
        "holm": n - rank + 1.0,
        "hochberg": n - rank + 1.0,
        "BH": n / rank,
        "fdr": n / rank,
        "BY": n / rank * np.sum(1.0 / rank),
    }[adjust]
    raised = p[order] * factors
    raised = np.maximum.accumulate(raised) if adjust == "holm" else np.minimum.accumulate(raised[::-1])[::-1]
    out[order] = np.minimum(1.0, raised)
    return out
