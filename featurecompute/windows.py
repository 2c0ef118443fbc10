"""The images at given ranks of a unit's order, exact, from scores that are too many to be sorted at once.

In: blocks of scores (images x units).  Out: the images of a window of ranks.  Knows no network and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

from featurecompute.errors import InputError

Blocks: TypeAlias = Sequence[np.ndarray] | Callable[[], Iterable[np.ndarray]]

_DIGITS = 2**16


def select_window(blocks: Blocks, lo: int, hi: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of ranks lo to hi - 1, from the most to the least activating, equal ones by the lower image.

    The scores stay where they are: two passes count the upper and the lower 16 bits of the scores as integers of the
    same order (a radix selection), a third collects the window. Memory is a block, the window, and 65,536 counts a
    unit and end.

    Parameters
    ----------
    blocks
        Scores of successive images, float32, each block (images) or (images x units): a sequence, or a function that
        starts anew.
    lo, hi
        Ranks; the most activating image has rank 0.

    Returns
    -------
    images, scores
        Place of each image in the blocks one after another, int64, and its score, both (hi - lo x units).

    Raises
    ------
    InputError
        If there are no such ranks.
    """

    def start() -> Iterator[np.ndarray]:
        for block in blocks() if callable(blocks) else blocks:
            yield _ordered(block.reshape(len(block), -1))

    total, upper = _count(start())
    if not 0 <= lo < hi <= total:
        raise InputError(
            f"ranks {lo} to {hi} were asked for; of {total} images they go from 0 to {total}, the first below the last."
        )
    units = upper.shape[0]
    edges = np.empty((2, units), np.uint32)
    above = np.empty((2, units), np.int64)
    for end, rank in enumerate((lo, hi - 1)):
        high, over = _locate(upper, np.full(units, rank))
        low, rest = _locate(_count(start(), high)[1], rank - over)
        edges[end] = (high << 16) | low
        above[end] = over + rest
    return _collect(start(), edges, above, lo, hi)


def _ordered(scores: np.ndarray) -> np.ndarray:
    """Return float32 scores as uint32 of the same order; adding zero makes -0.0 equal to 0.0."""
    bits = (np.asarray(scores, np.float32) + np.float32(0)).view(np.int32)
    return np.asarray((bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.uint32) ^ np.uint32(2**31))


def _scores(keys: np.ndarray) -> np.ndarray:
    """Return the float32 scores of keys."""
    bits = (keys ^ np.uint32(2**31)).view(np.int32)
    return np.asarray((bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32))


def _count(blocks: Iterator[np.ndarray], high: np.ndarray | None = None) -> tuple[int, np.ndarray]:
    """Return the number of images, and how often each upper half occurs, or each lower half below the upper `high`."""
    counts, total = np.zeros((0, _DIGITS), np.int64), 0
    for keys in blocks:
        if not total:
            counts = np.zeros((keys.shape[1], _DIGITS), np.int64)
        total += len(keys)
        unit = np.broadcast_to(np.arange(keys.shape[1]), keys.shape)
        if high is None:
            np.add.at(counts, (unit.ravel(), (keys >> 16).ravel()), 1)
        else:
            here = keys >> 16 == high
            np.add.at(counts, (unit[here], keys[here] & (_DIGITS - 1)), 1)
    return total, counts


def _locate(counts: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for every unit, the digit of the score at a rank counted from above, and how many have a larger digit."""
    reached = counts[:, ::-1].cumsum(1)
    place = (reached <= rank[:, None]).sum(1)
    units = np.arange(len(counts))
    return _DIGITS - 1 - place, reached[units, place] - counts[units, _DIGITS - 1 - place]


def _collect(
    blocks: Iterator[np.ndarray], edges: np.ndarray, above: np.ndarray, lo: int, hi: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and scores between two edges; of scores equal to an edge, those whose ranks are inside."""
    found: list[tuple[np.ndarray, ...]] = []
    next_rank, begin = above.copy(), 0
    for keys in blocks:
        keep = (keys < edges[0]) & (keys > edges[1])
        for end in (0, 1):
            equal = keys == edges[end]
            rank = next_rank[end] + equal.cumsum(0) - 1
            keep |= equal & (lo <= rank) & (rank < hi)
            next_rank[end] += equal.sum(0)
        image, unit = np.nonzero(keep)
        found.append((unit, keys[image, unit], image + begin))
        begin += len(keys)
    unit, key, image = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((image, ~key, unit))
    shape = (edges.shape[1], hi - lo)
    return image[order].reshape(shape).T.copy(), _scores(key[order]).reshape(shape).T.copy()
