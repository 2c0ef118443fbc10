"""How well chains have mixed: rank-normalised split R-hat and effective sample sizes, of many quantities at once.

In: draws, shape ``(chains, draws, quantities)``.  Out: a figure a quantity, ArviZ's to rounding.  Knows no names, no
model and no limit that a figure must pass.

Symbols are those of Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021): each chain is cut in two, of n draws, so
there are M = 2 chains; S = M n.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import fft, special

from psychostats.threads import in_threads

Array: TypeAlias = npt.NDArray[np.float64]

#: Draws of a chain below which there is nothing to say.
FEWEST_DRAWS = 4
#: The tails whose quantiles have an ESS.
TAILS = (0.05, 0.95)
# Values that are worked on at once, so that a block's arrays stay near the processor however many quantities there are.
_AT_ONCE = 2**17


def diagnose(values: Array) -> tuple[Array, Array, Array]:
    """Return rank-normalised split R-hat, bulk ESS and tail ESS of each quantity.

    Parameters
    ----------
    values
        Shape ``(chains, draws, quantities)``.

    Returns
    -------
    tuple of ndarray
        Each of shape ``(quantities,)``. All are NaN below four draws a chain and where a draw is NaN, R-hat also for
        one chain and where draws do not vary; these count in full for ESS. Source: Vehtari et al. (2021), as ArviZ has
        it: R-hat is the larger of that of the ranks and of the folded ranks, the tail the smaller ESS of the 5 % and
        95 % quantiles.
    """
    chains, draws, quantities = values.shape
    rhat, bulk, tail = (np.full(quantities, np.nan) for _ in range(3))
    if draws < FEWEST_DRAWS:
        return rhat, bulk, tail

    def work(part: slice) -> None:
        x = _side_by_side(values, part)
        split = _split(x)
        z, ordered = _normal_scores(split)
        bulk[part] = _ess(z)
        everything = ordered if draws % 2 == 0 else np.sort(x.reshape(len(x), -1), axis=1)
        low, high = (_ess(_split(x <= _quantile(everything, share))) for share in TAILS)
        tail[part] = np.minimum(low, high)
        if chains > 1:
            # The mean of the two in the middle, which then lie equally far from it, and share a rank.
            half = ordered.shape[1] // 2
            centre = ordered[:, half - 1 : half + 1].mean(axis=1)[:, np.newaxis, np.newaxis]
            of_ranks, of_folded = _rhat(z), _rhat(_normal_scores(np.abs(split - centre))[0])
            # Folded draws may be constant where draws are not; they have no R-hat then.
            rhat[part] = np.where(of_folded > of_ranks, of_folded, of_ranks)

    with np.errstate(all="ignore"):
        for _ in in_threads(work, _parts(values)):
            pass
    unknown = np.isnan(values).any(axis=(0, 1))
    for figure in (rhat, bulk, tail):
        figure[unknown] = np.nan
    return rhat, bulk, tail


def relative_efficiency(values: Array) -> Array:
    """Return the ESS of each quantity's mean, divided by the number of draws.

    Parameters
    ----------
    values
        Shape ``(chains, draws, quantities)``, four draws a chain at least.

    Returns
    -------
    ndarray
        Shape ``(quantities,)``; NaN where a draw is, and 1 where draws do not vary.
    """
    found = np.full(values.shape[2], np.nan)
    with np.errstate(all="ignore"):
        for part in _parts(values):
            split = _split(_side_by_side(values, part))
            found[part] = _ess(split) / split[0].size
    return found


def _parts(values: Array) -> Iterator[slice]:
    chains, draws, quantities = values.shape
    step = max(1, _AT_ONCE // (chains * draws))
    for start in range(0, quantities, step):
        yield slice(start, min(start + step, quantities))


def _side_by_side(values: Array, part: slice) -> Array:
    """Return quantities with their draws side by side, shape ``(quantities, chains, draws)``."""
    return np.ascontiguousarray(np.moveaxis(values[:, :, part], 2, 0))


def _split(x: npt.NDArray[np.generic]) -> Array:
    """Return first and second halves as chains, shape ``(quantities, M, n)``; of an odd number the middle is left out.

    The order of chains changes no figure.
    """
    n = x.shape[2] // 2
    return np.concatenate([x[:, :, :n], x[:, :, -n:]], axis=1, dtype=np.float64)


def _quantile(ordered: Array, probability: float) -> Array:
    """Return the quantile (type 7 of Hyndman and Fan) of rows in rising order, shape ``(quantities, 1, 1)``."""
    place = probability * (ordered.shape[1] - 1)
    below = int(place)
    low, high = ordered[:, below], ordered[:, min(below + 1, ordered.shape[1] - 1)]
    return np.asarray((low + (high - low) * (place - below))[:, np.newaxis, np.newaxis])


def _normal_scores(split: Array) -> tuple[Array, Array]:
    """Return normal scores of the ranks over all chains, equal draws sharing the mean of their ranks; and draws sorted.

    Blom's (rank - 3/8) / (S + 1/4).
    """
    rows = split.reshape(len(split), -1)
    S = rows.shape[1]
    order = np.argsort(rows, axis=1)
    ordered = np.take_along_axis(rows, order, axis=1)
    first = np.ones(rows.shape, dtype=bool)  # of those that are equal
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=first[:, 1:])
    starts = np.flatnonzero(first)
    equal = np.diff(starts, append=rows.size)
    # Mean ranks are whole or half, so their scores are looked up.
    double = 2 * (starts % S) + equal - 1
    table = special.ndtri((np.arange(2 * S - 1) / 2.0 + 1.0 - 0.375) / (S + 0.25))
    z = np.empty(rows.shape)
    np.put_along_axis(z, order, np.repeat(table[double], equal).reshape(rows.shape), axis=1)
    return z.reshape(split.shape), ordered


def _rhat(split: Array) -> Array:
    n = split.shape[2]
    within = split.var(axis=2, ddof=1).mean(axis=1)
    between = n * split.mean(axis=2).var(axis=1, ddof=1)
    return np.asarray(np.sqrt((between / within + n - 1.0) / n))


def _constant(split: Array) -> npt.NDArray[np.bool_]:
    return np.asarray(np.ptp(split, axis=(1, 2)) < np.finfo(np.float64).resolution)


def _ess(split: Array) -> Array:
    """Return the ESS of means: S / tau, tau the sum of autocorrelations by Geyer's (1992) monotone sequence.

    At most S log10 S, which only antithetic draws reach.
    """
    quantities, M, n = split.shape
    S = M * n
    mean = split.mean(axis=2, keepdims=True)
    size = fft.next_fast_len(2 * n, real=True)
    spectrum = fft.rfft(split - mean, n=size, axis=2)
    # The mean over chains comes before the way back, which is then one transform instead of M.
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=1)
    covariance = fft.irfft(power, n=size, axis=1)[:, :n] / n
    within = covariance[:, 0] * n / (n - 1.0)
    plus = covariance[:, 0] + mean[:, :, 0].var(axis=1, ddof=1) if M > 1 else covariance[:, 0]
    rho = 1.0 - (within[:, np.newaxis] - covariance) / plus[:, np.newaxis]
    rho[:, 0] = 1.0
    pairs = rho[:, 0 : 2 * (n // 2) : 2] + rho[:, 1::2]
    # Sums of pairs up to the first that is not positive, or the last that can be told; each at most the one before.
    last = max((n - 3) // 2, 0)
    ends = ~(pairs[:, : last + 1] > 0.0)
    ends[:, -1] = True
    k = ends.argmax(axis=1)
    falling = np.minimum.accumulate(pairs[:, : last + 1], axis=1)
    sums = np.where(np.arange(last + 1) < k[:, np.newaxis], falling, 0.0).sum(axis=1)
    each = np.arange(quantities)
    even = rho[each, 2 * k]
    # Of the last pair the even lag counts once, where it is positive: a better estimate for antithetic draws.
    rest = np.where((even > 0.0) | (pairs[each, k] >= 0.0), even, 0.0)
    tau = np.maximum(-1.0 + 2.0 * sums + rest, 1.0 / np.log10(S))
    ess = np.where(np.isnan(pairs[:, 0]), np.nan, S / tau)
    return np.where(_constant(split), float(S), ess)
