"""The probability of some trials with their own effects integrated over, for every draw of the other parameters.

In: the answers of one unit (a participant, say), what is known of their linear predictor in each draw, and the normal
law of the unit's own effects in that draw.  Out: the log of the integral, one number a draw.  Knows no fit and no file.

For each draw, log of the integral over v ~ N(0, I) of the product over trials of p(answer | known + Z root v), taken
with Gauss-Hermite nodes around the mode of the integrand, scaled by its curvature there (Pinheiro and Bates 1995), all
draws at once.  With more than three effects the nodes would be too many: Laplace's approximation instead, which is the
same with one node.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from psychostats.family import Array, Family, NumpyMaths

#: Nodes for each effect of a unit that has one, two or three; Laplace's approximation (one node) for more.
NODES = (15, 7, 4)


class Fast(NumpyMaths):
    """The functions of a family, at a third of the time: this is where all of it goes."""

    @staticmethod
    def expit(x: Any) -> Any:
        out = np.asarray(np.negative(x))
        with np.errstate(over="ignore"):  # 1 / infinity is the limit
            np.exp(out, out=out)
        out += 1.0
        return np.reciprocal(out, out=out)


# The nodes need the mode to a fraction of its SD alone; Laplace's approximation errs by the square of what is left.
_NEAR = 1e-2
_STEPS = 50


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of which those of a row and value are one, seen so many times.

    Parameters
    ----------
    row
        Row of the design, shape ``(outcomes,)``.
    value
        What was seen: 1 for a right answer, 0 for a wrong one; a measurement; a rating.
    count
        How many trials they stand for.
    """

    row: npt.NDArray[np.int64]
    value: Array
    count: Array

    def log_density(self, family: Family, eta: Array) -> Array:
        """Return the log-density of one such outcome; `eta` has the outcomes last, as the result."""
        return np.asarray(family.outcome_density(self.value, eta, Fast()))

    def take(self, places: npt.NDArray[np.int64] | slice) -> Outcomes:
        """Return some of them."""
        return Outcomes(self.row[places], self.value[places], self.count[places])


def log_integral(
    family: Family, outcomes: Outcomes, known: Array, Z: Array, root: Array, *, nodes: int | None = None
) -> Array:
    """Integrate the effects of one unit out of the probability of its outcomes.

    Parameters
    ----------
    family
        Response family, its estimated parameters filled in.
    outcomes
        Of the unit.
    known
        Linear predictor without the unit's own effects, shape ``(draws, outcomes)``.
    Z
        What each effect adds to it, shape ``(outcomes, effects)``.
    root
        A root of the effects' covariance, Sigma = root root', shape ``(draws, effects, effects)``.
    nodes
        For each effect; `NODES` by default.

    Returns
    -------
    ndarray
        Log of the integral, shape ``(draws,)``.
    """
    effects = Z.shape[1]
    if not effects:
        return outcomes.log_density(family, known) @ outcomes.count
    nodes = nodes or (NODES[effects - 1] if effects <= len(NODES) else 1)
    v, factor = _mode(family, outcomes, known, Z, root)
    x, weight = np.polynomial.hermite_e.hermegauss(nodes)
    log_weight = np.log(weight) - 0.5 * np.log(2.0 * np.pi) + 0.5 * x**2
    logs = []
    for place in product(range(nodes), repeat=effects):
        at = v + _times(factor, np.broadcast_to(x[list(place)], v.shape))
        height = outcomes.log_density(family, known + _times(root, at) @ Z.T) @ outcomes.count
        logs.append(height - 0.5 * (at**2).sum(axis=1) + log_weight[list(place)].sum())
    log_size = np.log(np.abs(np.linalg.det(factor)))
    return np.asarray(special.logsumexp(logs, axis=0) + log_size)


def _mode(family: Family, outcomes: Outcomes, known: Array, Z: Array, root: Array) -> tuple[Array, Array]:
    """Return the mode of each draw's integrand, and a root of its inverse curvature there."""
    draws, effects = len(known), Z.shape[1]
    identity = np.eye(effects)
    squares = (Z[:, :, np.newaxis] * Z[:, np.newaxis, :]).reshape(len(Z), -1)

    def curvature(information: Array) -> Array:
        inner = ((outcomes.count * information) @ squares).reshape(draws, effects, effects)
        return np.asarray(identity + np.swapaxes(root, 1, 2) @ inner @ root)

    v = np.zeros((draws, effects))

    def height(at: Array) -> Array:
        eta = known + _times(root, at) @ Z.T
        return np.asarray(outcomes.log_density(family, eta) @ outcomes.count - 0.5 * (at**2).sum(axis=1))

    now, moving = height(v), np.ones(draws, dtype=bool)
    for _ in range(_STEPS):
        slopes = family.derivatives(outcomes.value, np.ones(1), known + _times(root, v) @ Z.T)
        slope = _times(np.swapaxes(root, 1, 2), (outcomes.count * slopes.score) @ Z) - v
        # Expected information is never negative, so that every step climbs if it is short enough.
        step = np.linalg.solve(curvature(slopes.expected), slope[:, :, np.newaxis])[:, :, 0]
        # Each draw stops by itself, so that its integral does not depend on what it is taken with.
        moving &= np.abs(step).max(axis=1) >= _NEAR
        if not moving.any():
            break
        step *= moving[:, np.newaxis]
        share = np.ones(draws)
        for _ in range(_STEPS):
            then = height(v + share[:, np.newaxis] * step)
            falls = then < now - 1e-9
            if not falls.any():
                break
            share[falls] *= 0.5
        v = v + share[:, np.newaxis] * step
        now = then
    seen = curvature(slopes.information)
    # With a guess rate the observed curvature can be flat or negative in some direction.
    values, vectors = np.linalg.eigh(seen)
    flat = values[:, 0] < 0.1
    if flat.any():
        values[flat], vectors[flat] = np.linalg.eigh(curvature(slopes.expected)[flat])
    return v, vectors / np.sqrt(values)[:, np.newaxis, :]


def _times(matrices: Array, vectors: Array) -> Array:
    """Multiply a matrix and a vector for each draw."""
    return np.asarray(np.einsum("sij,sj->si", matrices, vectors))
