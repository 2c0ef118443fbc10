"""How likely a new feature lies above a threshold: the normal law of features' effects, solved for the threshold.

In: design rows, draws, and which blocks are a feature's own.  Out: a probability a draw and place.  Knows no fit and no
table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from psychostats.design import Block, Design
from psychostats.family import Family
from psychostats.grid import link_of
from psychostats.predictor import Parameters, average, fixed_predictor, group_predictor, random_variance, take_rows

Array: TypeAlias = npt.NDArray[np.float64]

#: Linear predictor beyond which no threshold lies, and halvings of that range: to 5e-6.
_FAR, _HALVINGS = 40.0, 24
#: Steps by secants, and how near to the threshold on the link's scale is near enough.
_SECANTS, _NEAR = 12, 1e-6


@dataclass(frozen=True)
class NewFeatures:
    """The probability that a new feature lies above a threshold.

    A new feature's effects add one normal number with the variance v of z' Sigma z to its linear predictor. Accuracy
    rises with it, so it is above the threshold where that number is above some x, found by halving; the probability is
    that of the normal law, F(-x / sqrt(v)).

    Parameters
    ----------
    rows
        Design of the places at which features are asked.
    parameters, family
        Draws, and the family with its own filled in.
    share
        Weight of each row in each feature, shape ``(rows, features)``.
    new, others, kept
        Places of the blocks whose levels a new feature has of its own, of those that are averaged over, and of those
        whose levels stay as drawn (a layer's).
    """

    rows: Design
    parameters: Parameters
    family: Family
    share: Array
    new: list[int]
    others: list[int]
    kept: list[int]

    def __call__(self, threshold: float) -> Array:
        """Return it for a new feature at the place of each feature, shape ``(draws, features)``."""
        draws, count = len(self.parameters.b), self.share.shape[1]
        out = np.empty((draws, count))
        for at in range(count):
            alike = next((j for j in range(at) if self._same(j, at)), None)
            if alike is not None:
                out[:, at] = out[:, alike]
                continue
            mine = np.flatnonzero(self.share[:, at])
            piece, weight = take_rows(self.rows, mine), self.share[mine, at]
            eta = fixed_predictor(piece.X, piece.offset, self.parameters.b)
            for k in self.kept:
                eta = eta + group_predictor(piece.blocks[k], self.parameters.r[k])
            variance = variance_of(piece.blocks, self.parameters, self.others)
            spread = np.sqrt(variance_of(piece.blocks, self.parameters, self.new)[:, 0])
            out[:, at] = self._solve(eta, variance, spread, weight, threshold)
        return out

    def _same(self, one: int, other: int) -> bool:
        """Whether two features have the same rows but for their own effects, as those of one depth have."""
        a, b = np.flatnonzero(self.share[:, one]), np.flatnonzero(self.share[:, other])
        if len(a) != len(b) or not np.array_equal(self.share[a, one], self.share[b, other]):
            return False
        blocks = [self.rows.blocks[k] for k in (*self.new, *self.others)]
        same = all(np.array_equal(block.Z[a], block.Z[b]) for block in blocks)
        inner = all(np.array_equal(self.rows.blocks[k].index[a], self.rows.blocks[k].index[b]) for k in self.kept)
        X, offset = self.rows.X, self.rows.offset
        return same and inner and np.array_equal(X[a], X[b]) and np.array_equal(offset[a], offset[b])

    def _solve(self, eta: Array, variance: Array, spread: Array, weight: Array, threshold: float) -> Array:
        def accuracy(x: Array) -> Array:
            return np.asarray(average(self.family.mean, eta + x[:, np.newaxis], variance) @ weight)

        high = self._secant(accuracy, threshold)
        if high is None:
            low, high = np.full(len(eta), -_FAR), np.full(len(eta), _FAR)
            for _ in range(_HALVINGS):
                middle = 0.5 * (low + high)
                over = accuracy(middle) > threshold
                low, high = np.where(over, low, middle), np.where(over, middle, high)
        with np.errstate(divide="ignore"):
            return np.asarray(special.ndtr(-high / spread))

    def _secant(self, accuracy: Callable[[Array], Array], threshold: float) -> Array | None:
        """Find where accuracy meets the threshold; None where these steps do not settle.

        On the link's scale an average over participants is close to a line, so a few secants are enough.
        """
        draws = len(self.parameters.b)

        def height(x: Array) -> Array:
            return link_of(self.family, accuracy(x)[:, np.newaxis])[:, 0] - wanted

        wanted = link_of(self.family, np.full((draws, 1), threshold))[:, 0]
        with np.errstate(invalid="ignore", divide="ignore"):
            before, x = np.zeros(draws), np.zeros(draws)
            last = height(before)
            x = np.clip(-last, -_FAR, _FAR)
            for _ in range(_SECANTS):
                now = height(x)
                if np.abs(now).max() < _NEAR:
                    return x
                step = np.where(now == last, 0.0, now * (x - before) / (now - last))
                before, last, x = x, now, x - step
        return None


def variance_of(blocks: Sequence[Block], parameters: Parameters, which: Sequence[int]) -> Array:
    """Return the variance that some blocks add at each row, shape ``(draws, rows)`` or one that spreads to it."""
    return random_variance([blocks[k] for k in which], [parameters.covariance[k] for k in which])
