"""Which positions of which images are looked at: drawn by number, so that no batch and no shard can change the draw.

In: numbers of images, a seed and a key.  Out: places (image, position).  Knows no network and no file.
"""

from __future__ import annotations

import hashlib

import numpy as np


def draw_positions(
    images: np.ndarray, positions: int, rate: float, seed: int, key: str
) -> tuple[np.ndarray, np.ndarray]:
    """Draw positions of images, uniformly over both and without replacement.

    Every (seed, key, image, position) has its own random number, made by counting alone: an image has as many positions
    drawn as `rate` says (one more in a share of images, where it is no whole number), those with the lowest numbers.

    Parameters
    ----------
    images
        Numbers of images (n).
    positions
        Positions of a map P.
    rate
        Positions an image, at least 0; P or more takes all of them.
    seed, key
        What sets the draw apart from others; the key is a layer's name.

    Returns
    -------
    which, position
        Indices into `images` and positions, in the order of `images`, then of positions.
    """
    start = _mix(np.array([seed], np.int64).view(np.uint64) ^ _name(key))
    rows = _mix(start + np.asarray(images, np.uint64))
    whole = int(rate)
    # The last number of a row, after those of its positions, decides about the one that may come on top.
    extra = _numbers(rows, np.array([positions])) < np.uint64(min(int((rate - whole) * 2**64), 2**64 - 1))
    counts = np.minimum(whole + extra[:, 0], positions)
    chosen = np.flatnonzero(counts)
    most = int(counts.max(initial=0))
    if not most:
        return chosen, chosen
    numbers = _numbers(rows[chosen], np.arange(positions))
    lowest = np.argpartition(numbers, most - 1, 1)[:, :most]
    lowest = np.take_along_axis(lowest, np.take_along_axis(numbers, lowest, 1).argsort(1, kind="stable"), 1)
    row, place = np.nonzero(np.arange(most) < counts[chosen, None])
    position = lowest[row, place]
    order = np.lexsort((position, row))
    return chosen[row[order]], position[order]


def _numbers(rows: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Return the uint64 of each row (n) and counter (m), n x m."""
    return _mix(rows[:, None] + counters.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _name(key: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little"))


def _mix(value: np.ndarray) -> np.ndarray:
    """Return the finaliser of SplitMix64 (Steele, Lea & Flood 2014, Fast splittable pseudorandom number generators)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(value ^ (value >> np.uint64(31)))
