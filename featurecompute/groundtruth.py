"""How well units match known elements: areas under the curve, on images that the match was not made on.

In: maps of units on 8 x 8 cells, and which element covers which cell.  Out: areas, matches and floors as tidy tables.
Knows no network, no torch and no pixel.

A unit tells an element as well as a cell with the element (or an image with it) has a higher activation than one
without, in a random pair: the area under the receiver operating characteristic curve, AUROC. It does not change when
activations are transformed monotonically, so that units of any scale and skew can be compared; 0.5 is chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from featurecompute.errors import DictionaryError
from featurecompute.scenes import GRID, Truth

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]
Values = NDArray[Any]

CLEAR = 0.9
"""AUROC above which a unit counts as telling an element."""


def to_cells(maps: Values, shape: tuple[int, int]) -> Values:
    """Return maps on 8 x 8 cells: a cell's greatest value; a coarser map's values are repeated.

    Parameters
    ----------
    maps
        Images x units x positions, positions row-major over height x width.
    shape
        Height and width of the map.

    Returns
    -------
    array
        Images x units x 8 x 8.

    Raises
    ------
    DictionaryError
        If 8 x 8 cells do not fit the map, as those of 7 x 7 positions do not.
    """
    height, width = shape
    grid = maps.reshape(*maps.shape[:2], height, width)
    for axis, side in ((2, height), (3, width)):
        if side % GRID and GRID % side:
            raise DictionaryError(
                f"a map of {height} x {width} positions has no {GRID} x {GRID} cells: each side must be a multiple or "
                f"a divisor of {GRID}."
            )
        if side < GRID:
            grid = np.repeat(grid, GRID // side, axis=axis)
    tall, wide = max(1, height // GRID), max(1, width // GRID)
    cells: Values = grid.reshape(*maps.shape[:2], GRID, tall, GRID, wide).max(axis=(3, 5))
    return cells


def auroc(values: Values, truths: Truths) -> Floats:
    """Return how well each unit's values tell each element (units x elements).

    The Mann-Whitney statistic from mid-ranks, so that ties count half: with ranks summing to R over m items that have
    the element, and n that have not, AUROC = (R - m (m + 1) / 2) / (m n). Ranks are taken once a unit; all elements
    then cost one matrix product. NaN where all items have the element, or none has.

    Parameters
    ----------
    values
        Items x units.
    truths
        Items x elements.
    """
    ranks = np.stack([rankdata(unit) for unit in values.T], axis=1)
    ranks -= (len(values) + 1) / 2  # about zero, so that sums of a million ranks keep their last digits
    with_ = truths.sum(axis=0).astype(np.float64)
    pairs = with_ * (len(truths) - with_)
    with np.errstate(invalid="ignore"):
        found: Floats = 0.5 + (ranks.T @ truths.astype(np.float64)) / np.where(pairs > 0, pairs, np.nan)
    # Of centred ranks, R - m (N + 1) / 2 = m n (AUROC - 1/2), by m (m + 1) / 2 + m n / 2 = m (N + 1) / 2.
    return found


def element_scores(activations: Values, cells: Truths) -> Floats:
    """Return how well each unit tells, cell by cell, where each element is (units x elements, AUROC).

    Parameters
    ----------
    activations
        Images x units x 8 x 8.
    cells
        Whether an element covers a cell (images x elements x 8 x 8).
    """
    return auroc(
        np.moveaxis(activations, 1, -1).reshape(-1, activations.shape[1]),
        np.moveaxis(cells, 1, -1).reshape(-1, cells.shape[1]),
    )


def image_scores(activations: Values, presence: Truths) -> Floats:
    """Return how well each unit's maximum over an image tells whether an element is in it (units x elements, AUROC).

    Parameters
    ----------
    activations
        Images x units x 8 x 8.
    presence
        Images x elements.
    """
    return auroc(activations.max(axis=(2, 3)), presence)


def purity(activations: Values, cells: Truths, elements: Sequence[int] | NDArray[np.int64]) -> Floats:
    """Return the largest share that one of some elements has of a unit's mean activation in their cells (units).

    1 where a unit answers to a single element; one over the number of elements where it answers to all alike. Only for
    units without negative values; those of a unit that never answers are NaN.

    Parameters
    ----------
    activations
        Images x units x 8 x 8.
    cells
        Images x elements x 8 x 8.
    elements
        Elements to compare: those of one kind, as an object's cells are also its parts' cells.
    """
    values = np.maximum(np.moveaxis(activations, 1, -1).reshape(-1, activations.shape[1]), 0).astype(np.float64)
    inside = np.moveaxis(cells[:, elements], 1, -1).reshape(-1, len(elements)).astype(np.float64)
    means = values.T @ inside / np.maximum(inside.sum(axis=0), 1)
    totals = means.sum(axis=1)
    found: Floats = np.divide(means.max(axis=1), totals, out=np.full(len(totals), np.nan), where=totals > 0)
    return found


def thresholded(activations: Values, sparsity: float) -> Values:
    """Return activations less a threshold, one a unit, so that a share `sparsity` of them is zero.

    The floor for directions that are sparse: what cutting off the low answers of neurons gains by itself.

    Parameters
    ----------
    activations
        Images x units x 8 x 8.
    sparsity
        Share of zeros.
    """
    limits = np.quantile(activations, np.clip(sparsity, 0, 1), axis=(0, 2, 3))
    found: Values = np.maximum(activations - limits[:, None, None], 0)
    return found


def permuted(cells: Truths, seed: int) -> Truths:
    """Return the truth of the images in another order: the floor that choosing the best of many elements has."""
    return cells[np.random.default_rng(seed).permutation(len(cells))]


def random_directions(channels: int, count: int, seed: int, *, negative: bool = False) -> Floats:
    """Return random unit vectors (count x channels): the floor of a dictionary that was not learned.

    Parameters
    ----------
    channels
        Channels of the layer.
    count
        Directions.
    seed
        Seed.
    negative
        Whether a direction may have negative entries; without, they are like those of non-negative atoms.
    """
    found = np.random.default_rng(seed).standard_normal((count, channels))
    if not negative:
        found = np.abs(found)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def subsample(units: int, count: int, seed: int) -> NDArray[np.int64]:
    """Return which of a basis' units are compared, so that two bases compete with equally many (sorted)."""
    chosen = np.random.default_rng(seed).permutation(units)[: min(count, units)]
    return np.sort(chosen)


def match(
    activations: Values,
    truth: Truth,
    *,
    split_seed: int = 1,
    level: str = "cell",
    kinds: Sequence[str] = ("edge", "part", "object", "any"),
    permute: bool = False,
) -> pd.DataFrame:
    """Match each unit with its best element on half the images, and score it on the other half.

    Parameters
    ----------
    activations
        Images x units x 8 x 8.
    truth
        Where the elements are in these images.
    split_seed
        Seed of the split into halves.
    level
        cell: where the element is counts; image: only whether it is in the image, of the unit's maximum.
    kinds
        For each kind a unit is matched with its best element of that kind; "any": of all elements.
    permute
        Permute the images' truth, for the floor.

    Returns
    -------
    DataFrame
        One row a unit and kind: unit, kind, element, element_kind, auroc (held-out images), auroc_match (those it was
        matched on), second (best held-out area among the kind's other elements), gap (auroc less second), purity (of
        the held-out images, over the kind's elements; NaN for any).
    """
    cells = permuted(truth.cells, split_seed) if permute else truth.cells
    order = np.random.default_rng(split_seed).permutation(len(activations))
    halves = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    if level == "image":
        presence = np.asarray(cells.any(axis=(2, 3)))
        fitted, held = (image_scores(activations[half], presence[half]) for half in halves)
    else:
        fitted, held = (element_scores(activations[half], cells[half]) for half in halves)
    tables = []
    names = np.array([element.name for element in truth.elements])
    for kind in kinds:
        among = np.arange(len(names)) if kind == "any" else np.flatnonzero(truth.kinds == kind)
        # An element that a half never has cannot be matched, nor scored.
        usable = among[np.isfinite(fitted[0, among]) & np.isfinite(held[0, among])]
        best = usable[fitted[:, usable].argmax(axis=1)]
        units = np.arange(len(best))
        others = held[:, usable].copy()
        others[usable[None, :] == best[:, None]] = -np.inf
        pure = np.full(len(best), np.nan)
        if kind != "any":
            pure = purity(activations[halves[1]], cells[halves[1]], usable)
        tables.append(
            pd.DataFrame(
                {
                    "unit": units,
                    "kind": kind,
                    "element": names[best],
                    "element_kind": truth.kinds[best],
                    "auroc": held[units, best],
                    "auroc_match": fitted[units, best],
                    "second": others.max(axis=1),
                    "purity": pure,
                }
            ).assign(gap=lambda rows: rows["auroc"] - rows["second"])
        )
    return pd.concat(tables, ignore_index=True)


def covered(matches: pd.DataFrame, clear: float = CLEAR) -> pd.DataFrame:
    """Count, for each group of matches and kind, the elements that some unit tells clearly.

    Parameters
    ----------
    matches
        As `compare` gives them, or `match`.
    clear
        Held-out area that counts as clear.

    Returns
    -------
    DataFrame
        The groups' columns, kind, units, covered (elements matched by a unit with a held-out area above `clear`), and
        the means over units of auroc, gap and purity.
    """
    groups = [name for name in ("layer", "depth", "representation", "condition", "kind") if name in matches]
    found = matches.groupby(groups, sort=False, observed=True).agg(
        units=("unit", "size"), auroc=("auroc", "mean"), gap=("gap", "mean"), purity=("purity", "mean")
    )
    clear_ones = matches[matches["auroc"] > clear].groupby(groups, sort=False, observed=True)["element"].nunique()
    found["covered"] = clear_ones.reindex(found.index).fillna(0).astype(np.int64)
    return found.reset_index()


def compare(
    readings: Mapping[tuple[str, str], Values],
    truth: Truth,
    *,
    layer: str,
    depth: float,
    seed: int = 1,
    level: str = "cell",
    equal: bool = True,
) -> pd.DataFrame:
    """Match several readings of one layer, with equally many units each, and their floors.

    Parameters
    ----------
    readings
        (representation, condition) to activations (images x units x 8 x 8): ("local", "neuron"), ("distributed",
        "nmf"), ("local", "thresholded"), ("distributed", "random") and the like.
    truth
        Where the elements are in these images.
    layer, depth
        Written beside each row.
    seed
        Of the split, of the choice of units, and of the permutation.
    level
        As in `match`.
    equal
        Compare as many units of each reading as the smallest has, chosen at random; False: all units.

    Returns
    -------
    DataFrame
        layer, depth, representation, condition, candidates (units compared), and the columns of `match`; for every
        reading also condition "NAME, permuted". `unit` is the unit's index in its own reading.
    """
    fewest = min(values.shape[1] for values in readings.values())
    tables = []
    for (representation, condition), values in readings.items():
        chosen = subsample(values.shape[1], fewest if equal else values.shape[1], seed)
        for permute in (False, True):
            rows = match(values[:, chosen], truth, split_seed=seed, level=level, permute=permute)
            rows["unit"] = chosen[rows["unit"]]
            rows.insert(0, "candidates", len(chosen))
            rows.insert(0, "condition", f"{condition}, permuted" if permute else condition)
            rows.insert(0, "representation", representation)
            rows.insert(0, "depth", depth)
            rows.insert(0, "layer", layer)
            tables.append(rows)
    return pd.concat(tables, ignore_index=True)
