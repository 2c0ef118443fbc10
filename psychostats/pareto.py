"""Pareto-smoothed importance sampling (PSIS): leaving units out of a posterior without fitting again.

In: the log-density of each unit in each draw.  Out: weights of the draws, or what they say of each unit, and Pareto's
k, which says how far they may be relied on.  Knows no unit, no model and no limit of k.

Source: Vehtari, Simpson, Gelman, Yao and Gabry (2024), as R's loo and ArviZ 0 have it (ArviZ 1 takes one draw less into
the tail).  The largest weights, M = min(S / 5, 3 sqrt(S / r)) of S with relative efficiency r, are replaced by the
quantiles of a generalised Pareto distribution, fitted as Zhang and Stephens (2009) do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from psychostats.mixing import FEWEST_DRAWS, relative_efficiency

Array: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.int64]

#: Draws below which there is no tail of five to smooth (a fifth of them), so that importance weights have no check.
FEWEST_SMOOTHED = 25
# Values of the tail that a distribution can be fitted to at all.
_FEWEST_IN_TAIL = 5
# Zhang and Stephens's prior of the scale, and the weight of a shape of 1/2 in draws.
_PRIOR_SCALE, _PRIOR_DRAWS = 3.0, 10.0
# Units whose tails are fitted at once, so that what is made of them stays near the processor.
_AT_ONCE = 64
# Factors whose product is taken before its logarithm.
_FACTORS = 8
# Logarithms of weights further apart than this cannot be told from each other once they are taken as numbers.
_RANGE = 600.0


@dataclass(frozen=True)
class _Tail:
    """The largest weights of units, in rising order.

    Parameters
    ----------
    places
        Which draws they are of, shape ``(units, most)``.
    raw, smoothed
        Their logarithms over the largest, shape ``(units, most)``; the same where nothing is smoothed.
    k
        Pareto's k, shape ``(units,)``.
    """

    places: Index
    raw: Array
    smoothed: Array
    k: Array


def importance(log_density: Array) -> tuple[Array, Array]:
    """Return the weights of draws that leave a unit out, and Pareto's k.

    Parameters
    ----------
    log_density
        Log-density of each unit in each draw, shape ``(chains, draws, units)``.

    Returns
    -------
    tuple of ndarray
        Log weights that sum to one over the draws of all chains, shape ``(chains * draws, units)``; and Pareto's k,
        shape ``(units,)``: infinite, and the weights as they are, with fewer than 25 draws, or where weights overflow.
    """
    chains, units = len(log_density), log_density.shape[2]
    rows = np.ascontiguousarray(log_density.reshape(-1, units).T)
    weights = rows.min(axis=1, keepdims=True) - rows
    tail = _smooth(weights, _efficiency(rows, chains))
    np.put_along_axis(weights, tail.places, tail.smoothed, axis=1)
    weights -= special.logsumexp(weights, axis=1, keepdims=True)
    return weights.T, tail.k


def leave_out(log_density: Array, chains: int) -> tuple[Array, Array, Array]:
    """Return what the draws of others say of each unit, and what all draws say.

    Parameters
    ----------
    log_density
        Log-density of each unit in each draw, chain after chain, shape ``(chains * draws, units)``; quickest where the
        draws of a unit lie side by side.
    chains
        How many there are.

    Returns
    -------
    tuple of ndarray
        Log predictive density of each unit given the others, by weights of `importance`; the same given all, the unit
        included; and Pareto's k; each of shape ``(units,)``.
    """
    rows = np.ascontiguousarray(log_density.T)
    S = rows.shape[1]
    low, high = rows.min(axis=1), rows.max(axis=1)
    density = np.exp(rows - high[:, np.newaxis])
    given_all = high + np.log(density.mean(axis=1))
    tail = _smooth(low[:, np.newaxis] - rows, _efficiency(rows, chains, density))
    # Density times weight is one number in every draw that is not of the tail, so only the tail is added up.
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        moved = S - tail.raw.shape[1] + np.exp(tail.smoothed - tail.raw).sum(axis=1)
        weights = np.divide(np.exp(low - high)[:, np.newaxis], density, out=density)
        np.put_along_axis(weights, tail.places, np.exp(tail.smoothed), axis=1)
        given_others = low + np.log(moved) - np.log(weights.sum(axis=1))
    # What is too far apart for that is added up by logarithms.
    for i in np.flatnonzero(~(high - low < _RANGE)):
        logs = low[i] - rows[i]
        logs[tail.places[i]] = tail.smoothed[i]
        given_others[i] = special.logsumexp(rows[i] + logs) - special.logsumexp(logs)
    return given_others, given_all, tail.k


def _efficiency(rows: Array, chains: int, density: Array | None = None) -> Array:
    """Return the relative ESS of each unit's density, at most 1; `rows` are its logarithms, ``(units, draws)``."""
    units, S = rows.shape
    if S // chains < FEWEST_DRAWS:
        return np.ones(units)
    if density is None:
        density = np.exp(rows - rows.max(axis=1, keepdims=True))
    found = relative_efficiency(np.moveaxis(density.reshape(units, chains, -1), 0, 2))
    # Antithetic draws are no reason for a shorter tail.
    return np.where(np.isfinite(found), np.clip(found, 1.0 / S, 1.0), 1.0)


def _smooth(weights: Array, efficiency: Array) -> _Tail:
    """Smooth the tails of log weights whose largest is 0, shape ``(units, S)``."""
    units, S = weights.shape
    k = np.full(units, np.inf)
    if S < FEWEST_SMOOTHED:
        nothing = np.zeros((units, 0))
        return _Tail(nothing.astype(np.int64), nothing, nothing, k)
    k[weights.min(axis=1) == 0.0] = 0.0
    size = np.ceil(np.minimum(S / 5.0, 3.0 * np.sqrt(S / efficiency))).astype(np.int64)
    most = int(size.max())
    # One more than the tail: the largest weight that is not of it.
    places = np.argpartition(weights, S - most - 1, axis=1)[:, S - most - 1 :]
    values = np.take_along_axis(weights, places, axis=1)
    order = np.argsort(values, axis=1)
    places, values = np.take_along_axis(places, order, axis=1), np.take_along_axis(values, order, axis=1)
    cutoff = np.maximum(values[np.arange(units), most - size], np.log(np.finfo(np.float64).tiny))
    smoothed = values.copy()
    length = (values > cutoff[:, np.newaxis]).sum(axis=1)
    # Tails of a like length are fitted together, since the longest says how much is computed for all.
    order = np.argsort(length, kind="stable")
    order = order[length[order] >= _FEWEST_IN_TAIL]
    for start in range(0, len(order), _AT_ONCE):
        some = order[start : start + _AT_ONCE]
        longest = int(length[some].max())
        tail, k[some] = _fit(values[some, -longest:], cutoff[some], length[some])
        smoothed[some, -longest:] = tail
    return _Tail(places[:, 1:], values[:, 1:], smoothed[:, 1:], k)


def _fit(values: Array, cutoff: Array, n: Index) -> tuple[Array, Array]:
    """Return the smoothed tails of units, and k.

    Parameters
    ----------
    values
        Logarithms in rising order, shape ``(units, longest)``; of a unit the last `n` are of its tail.
    cutoff
        Logarithm of the largest weight below.
    """
    longest = values.shape[1]
    base = np.exp(cutoff)[:, np.newaxis]
    rank = np.arange(longest) - (longest - n)[:, np.newaxis]
    # A zero adds nothing below, so that no tail needs to know how long the others are.
    x = np.where(rank >= 0, np.exp(values) - base, 0.0)
    with np.errstate(all="ignore"):
        k, sigma = _generalised_pareto(x, n)
        share = (np.maximum(rank, 0) + 0.5) / n[:, np.newaxis]
        shape, hazard = k[:, np.newaxis], np.log1p(-share)
        above = np.where(np.abs(shape) < np.finfo(np.float64).eps, -hazard, np.expm1(-shape * hazard) / shape)
        tail = np.minimum(np.log(sigma[:, np.newaxis] * above + base), 0.0)
    good = np.isfinite(k) & (sigma > 0.0)
    k = np.where(np.isfinite(k), k, np.inf)
    return np.where(good[:, np.newaxis] & (rank >= 0), tail, values), k


def _generalised_pareto(x: Array, n: Index) -> tuple[Array, Array]:
    """Return shape and scale of generalised Pareto distributions, each of shape ``(units,)``.

    Zhang and Stephens's (2009) quasi-Bayesian estimate over a grid of b = -k / sigma, as gpdfit in R's loo has it.

    Parameters
    ----------
    x
        Excesses in rising order, shape ``(units, longest)``; before the `n` of a unit there are zeros.
    """
    units, longest = x.shape
    points = 30 + np.sqrt(n).astype(np.int64)
    j = np.arange(1, points.max() + 1)
    counted = j <= points[:, np.newaxis]
    quartile = x[np.arange(units), longest - n + (n / 4.0 + 0.5).astype(np.int64) - 1]
    b = (1.0 - np.sqrt(points[:, np.newaxis] / (j - 0.5))) / (_PRIOR_SCALE * quartile[:, np.newaxis])
    b += 1.0 / x[:, -1:]
    k = _log_sum(b, x) / n[:, np.newaxis]
    log_profile = np.where(counted, n[:, np.newaxis] * (np.log(-b / k) - k - 1.0), -np.inf)
    weight = np.exp(log_profile - special.logsumexp(log_profile, axis=1, keepdims=True))
    weight = np.where(weight >= 10.0 * np.finfo(np.float64).eps, weight, 0.0)
    at = np.where(weight > 0.0, b * weight, 0.0).sum(axis=1) / weight.sum(axis=1)
    raw = np.log1p(-at[:, np.newaxis] * x).sum(axis=1) / n
    return (n * raw + _PRIOR_DRAWS * 0.5) / (n + _PRIOR_DRAWS), -raw / at


def _log_sum(b: Array, x: Array) -> Array:
    """Return the sum over a unit's x of log(1 - b x) for each of its b, shape ``(units, points)``."""
    extra = -x.shape[1] % _FACTORS
    padded = np.concatenate([np.zeros((len(x), extra)), x], axis=1)
    # The logarithm of a product of several: logarithms are what takes the time.
    product = np.ones((len(x), b.shape[1], padded.shape[1] // _FACTORS))
    part = np.empty_like(product)
    for first in range(_FACTORS):
        np.multiply(b[:, :, np.newaxis], padded[:, np.newaxis, first::_FACTORS], out=part)
        np.subtract(1.0, part, out=part)
        product *= part
    found = np.asarray(np.log(product, out=product).sum(axis=2))
    wild = ~np.isfinite(found)
    if wild.any():
        units = np.flatnonzero(wild.any(axis=1))
        found[units] = np.log1p(-b[units, :, np.newaxis] * x[units, np.newaxis, :]).sum(axis=2)
    return found
