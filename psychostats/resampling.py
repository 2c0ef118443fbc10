"""Means, medians and slopes over units and images, with the same of resampled units and images beside them.

In: an array of one value a unit and image, and which units belong together.  Out: arrays whose first row is the
estimate and whose other rows are bootstrap replicates of it.  Knows nothing of networks, and makes no interval.

Units are resampled by cluster, within strata, and images apart from them, and a cell counts as often as both were
drawn: the pigeonhole bootstrap (Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics 1, 386-411), which
is mildly conservative, since it counts what belongs to single cells more than once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Weights:
    """How often each unit and each image was drawn.

    Parameters
    ----------
    units, images
        Shapes ``(1 + replicates, units)`` and ``(1 + replicates, images)``; the first row is one throughout.
    """

    units: Array
    images: Array


def clusters_of(*sides: Sequence[str]) -> Places:
    """Number the clusters of units that share something on any side, ``(units,)``; sharing reaches over others.

    Examples
    --------
    >>> clusters_of(["a", "b", "c"], ["x", "y", "x"]).tolist()
    [0, 1, 0]
    """
    count = len(sides[0])
    rows, columns, start = [], [], count
    for side in sides:
        names = {name: start + place for place, name in enumerate(dict.fromkeys(side))}
        rows += list(range(count))
        columns += [names[name] for name in side]
        start += len(names)
    links = coo_array((np.ones(len(rows)), (rows, columns)), shape=(start, start))
    found = connected_components(links, directed=False)[1][:count]
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def draw_weights(clusters: Places | None, strata: Sequence[str], images: int, *, replicates: int, seed: int) -> Weights:
    """Draw clusters of units within strata, and images, with replacement; without `clusters`, units stay as they are.

    Of n clusters of a stratum n - 1 are drawn, each to count n / (n - 1) times, so that the variance of a mean is not
    too small by that factor, which matters where clusters are few (Rao and Wu 1988, Resampling inference with complex
    survey data, Journal of the American Statistical Association 83, 231-241). A cluster alone in its stratum stays.

    Parameters
    ----------
    clusters
        Number of each unit's cluster, shape ``(units,)``; a cluster lies in one stratum.
    strata
        What each unit belongs to by design and not by chance, shape ``(units,)``: its layer.
    images
        How many there are.
    replicates, seed
        Of the bootstrap.
    """
    generator = np.random.default_rng(seed)
    units = np.ones((replicates + 1, len(strata)))
    if clusters is not None:
        held = np.asarray(strata)
        for stratum in dict.fromkeys(strata):
            inside = held == stratum
            found, place = np.unique(clusters[inside], return_inverse=True)
            n = len(found)
            if n > 1:
                drawn = generator.multinomial(n - 1, np.full(n, 1.0 / n), size=replicates) * (n / (n - 1))
                units[1:, inside] = drawn[:, place]
    of_images = generator.multinomial(images, np.full(images, 1.0 / images), size=replicates).astype(float)
    return Weights(units, np.vstack([np.ones(images), of_images]))


def over_images(values: Array, weights: Weights) -> Array:
    """Average ``(units, images)`` over images, ``(1 + replicates, units)``; a NaN is no value."""
    known = np.isfinite(values)
    total = weights.images @ np.where(known, values, 0.0).T
    return _divide(total, weights.images @ known.T.astype(float))


def over_units(values: Array, weights: Weights, which: npt.NDArray[np.bool_] | None = None) -> Array:
    """Average ``(1 + replicates, units)`` over the units asked for, ``(1 + replicates,)``."""
    w = _known(values, weights, which)
    return _divide((w * np.nan_to_num(values)).sum(1), w.sum(1))


def median_over_units(values: Array, weights: Weights, which: npt.NDArray[np.bool_] | None = None) -> Array:
    """Return medians of ``(units,)`` over the units asked for, each as often as it was drawn, ``(1 + replicates,)``."""
    order = np.argsort(values, kind="stable")  # NaN, which weighs nothing, last
    w = _known(np.broadcast_to(values, weights.units.shape), weights, which)[:, order]
    reached, half = w.cumsum(1), w.sum(1, keepdims=True) / 2
    # The middle value, or the mean of the two beside the middle.
    low, high = (np.minimum(at.argmax(1), len(values) - 1) for at in (reached >= half, reached > half))
    middle = (values[order][low] + values[order][high]) / 2
    return np.where(half[:, 0] > 0, middle, np.nan)


def change_over(values: Array, at: Array, weights: Array) -> Array:
    """Return how much the least-squares line through values of units changes between the least and the greatest `at`.

    Parameters
    ----------
    values, weights
        Shape ``(1 + replicates, units)``; a NaN is no value.
    at
        Where on the line each unit stands, shape ``(units,)``.
    """
    w = np.where(np.isfinite(values), weights, 0.0)
    y = np.nan_to_num(values)
    total = w.sum(1, keepdims=True)
    x = at - _divide(w @ at[:, None], total)
    spread = (w * x * x).sum(1)
    known = spread > 1e-9 * np.nan_to_num(total[:, 0])  # units at one place have no slope
    slope = _divide((w * x * y).sum(1), np.where(known, spread, 0.0))
    return np.asarray(slope * (at.max() - at.min()))


def _known(values: Array, weights: Weights, which: npt.NDArray[np.bool_] | None) -> Array:
    used = np.isfinite(values) if which is None else np.isfinite(values) & which
    return np.where(used, weights.units, 0.0)


def _divide(a: Array, b: Array) -> Array:
    return np.asarray(np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 0))
