"""The minimum of a smooth function of some ten parameters, with its Hessian; exact enough to be differentiated again.

In: a function that returns its value and gradient, a start, and a guess of the Hessian.  Out: `Optimum`.  BFGS with
backtracking, which lets the function be infinite where it has no value, then Newton's steps with the Hessian taken by
central differences of the gradient, which standard errors need in any case.  Knows no statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Function: TypeAlias = Callable[[Array], tuple[float, Array]]

_ROUNDS, _STEPS, _HALVINGS = 6, 300, 30
# The decrement g' H^-1 g is twice what is still to be gained: with this the value is within 1e-10 of the minimum, and
# each parameter within 1e-5 of its standard error.
_DECREMENT = 1e-10
# Where the walk down ends: within 3e-6 standard errors. A Hessian taken there gives the minimum's own standard errors
# to 1e-6, from wherever the walk began; 1e-9 left 1e-5, and up to 1e-4 where an SD is small.
_NEAR = 1e-11
# Parameters are of order one, so a curvature below the first, or a share of it below the second, is none: rounding
# in the differences leaves some 1e-7.
_CURVED, _FLAT = 1e-2, 1e-5
# A slope along a flat direction that is rounding: a step of one unit would gain as much.
_LEVEL = 1e-5


@dataclass(frozen=True)
class Optimum:
    """Where a function is smallest.

    Parameters
    ----------
    x, value, gradient, hessian
        There.
    converged
        Whether a minimum was reached: the gradient vanishes and no direction leads down.
    evaluations
        How often the function was called.
    """

    x: Array
    value: float
    gradient: Array
    hessian: Array
    converged: bool
    evaluations: int

    def curved(self, parameters: slice) -> bool:
        """Whether the function curves upwards in every direction of some parameters, the others held."""
        held = self.hessian[parameters, parameters]
        if not np.isfinite(held).all():  # a place beside it has no value
            return False
        values, _ = _eigen(held)
        return bool((values > _FLAT).all())


def inverse(hessian: Array) -> Array:
    """Return the inverse of a Hessian; along flat directions, which the data do not know, it is zero."""
    values, vectors = _eigen(hessian)
    kept = values > _FLAT
    root = vectors[:, kept] * _scale(hessian)[:, np.newaxis] / np.sqrt(values[kept])
    return np.asarray(root @ root.T)


def minimise(function: Function, start: Array, hessian: Array, *, limit: float = 3.0) -> Optimum:
    """Find the minimum.

    Parameters
    ----------
    function
        Returns value and gradient; an infinite value where it has none.
    start, hessian
        Where to begin, and a positive definite guess of the Hessian there.
    limit
        The longest step in any parameter.
    """
    if not len(start):
        value, gradient = function(start)
        return Optimum(start, value, gradient, np.zeros((0, 0)), np.isfinite(value), 1)
    calls = 0

    def counted(x: Array) -> tuple[float, Array]:
        nonlocal calls
        calls += 1
        return function(x)

    x = np.array(start, dtype=float)
    value, gradient = counted(x)
    for _ in range(_ROUNDS):
        if not np.isfinite(value):
            break
        x, value, gradient, hessian = descend(counted, x, value, gradient, hessian, limit)
        hessian = second_derivatives(counted, x, hessian)
        if not np.isfinite(hessian).all():
            break
        values, vectors = _eigen(hessian)
        if values.min() < -1e-4 * values.max():
            # A ridge between two valleys, such as an SD of zero where a larger one fits better: leave it downwards.
            scale = _scale(hessian)
            down = vectors[:, 0] * scale
            moved = _leave(counted, x, value, down / np.abs(down).max())
            hessian = np.asarray((vectors * np.maximum(np.abs(values), 1e-4)) @ vectors.T) / np.outer(scale, scale)
            if moved is not None:
                x, value, gradient = moved
                continue
        x, value, gradient, near = _polish(counted, x, value, gradient, hessian)
        if near:
            return Optimum(x, value, gradient, hessian, True, calls)
        hessian = positive(hessian)
    return Optimum(x, value, gradient, hessian, False, calls)


def descend(
    function: Function, x: Array, value: float, gradient: Array, hessian: Array, limit: float
) -> tuple[Array, float, Array, Array]:
    """Walk down by BFGS until the decrement is small or no step helps."""
    for _ in range(_STEPS):
        if np.diag(hessian).min() < _FLAT * _FLAT:  # down a slope that never bends
            break
        step = -np.linalg.solve(hessian, gradient)
        decrement = -float(gradient @ step)
        if not decrement > _NEAR:
            break
        step *= min(1.0, limit / np.abs(step).max())
        for halving in range(_HALVINGS):
            part = 0.5**halving * step
            new_value, new_gradient = function(x + part)
            if new_value <= value + 1e-4 * float(gradient @ part):
                break
        else:
            break
        change = new_gradient - gradient
        x, value, gradient = x + part, new_value, new_gradient
        # Powell's damping keeps the approximation positive where the function is not convex.
        curved = hessian @ part
        size, bend = float(part @ curved), float(part @ change)
        if not (np.isfinite(change).all() and size > 0):  # beyond what numbers hold, as on a slope that never bends
            break
        if bend < 0.2 * size:
            share = 0.8 * size / (size - bend)
            change = share * change + (1.0 - share) * curved
            bend = float(part @ change)
        hessian = hessian - np.outer(curved, curved) / size + np.outer(change, change) / bend
    return x, value, gradient, hessian


def second_derivatives(function: Function, x: Array, hessian: Array) -> Array:
    """Return the Hessian by central differences of the gradient, steps a thousandth of a standard error."""
    steps = np.maximum(1e-3 * _scale(hessian), 1e-6)
    rows = []
    for k, h in enumerate(steps):
        move = np.zeros(len(x))
        move[k] = h
        above, below = function(x + move), function(x - move)
        if not (np.isfinite(above[0]) and np.isfinite(below[0])):
            return np.full((len(x), len(x)), np.nan)
        rows.append((above[1] - below[1]) / (2.0 * h))
    return np.asarray(0.5 * (np.array(rows) + np.array(rows).T))


def _polish(
    function: Function, x: Array, value: float, gradient: Array, hessian: Array
) -> tuple[Array, float, Array, bool]:
    """Take Newton's steps with one Hessian; say whether they end at the minimum close by."""
    begin, last = x, np.inf
    values, vectors = _eigen(hessian)
    kept = values > _FLAT
    basis = vectors[:, kept] * _scale(hessian)[:, np.newaxis]
    for _ in range(10):
        along = basis.T @ gradient
        step = -(basis / values[kept]) @ along
        decrement = float(along @ (along / values[kept]))
        # The Hessian must be the minimum's own: of where the steps began, if they led no further than 1 % of an SE.
        moved = x - begin
        if decrement < _DECREMENT:
            near = float(moved @ hessian @ moved) < 1e-4 and not _slopes(vectors[:, ~kept], hessian, gradient)
            last_value, last_gradient = function(x + step)  # the last step costs little and squares the distance
            if last_value <= value + 1e-12 * abs(value):
                x, value, gradient = x + step, last_value, last_gradient
            return x, value, gradient, near
        if decrement > 0.5 * last:
            break
        new_value, new_gradient = function(x + step)
        if not new_value <= value + 1e-7:  # far from quadratic
            break
        x, value, gradient, last = x + step, new_value, new_gradient, decrement
    return x, value, gradient, False


def _slopes(flat: Array, hessian: Array, gradient: Array) -> bool:
    """Whether the function still falls along directions in which it has no curvature."""
    return bool((np.abs(flat.T @ (_scale(hessian) * gradient)) > _LEVEL).any())


def _leave(function: Function, x: Array, value: float, direction: Array) -> tuple[Array, float, Array] | None:
    """Return a lower place along a direction, or None."""
    for size in (0.3, -0.3, 0.1, -0.1, 0.03, -0.03, 0.01, -0.01):
        new_value, gradient = function(x + size * direction)
        if new_value < value - 1e-9:
            return x + size * direction, new_value, gradient
    return None


def _scale(hessian: Array) -> Array:
    """Return one over the root of the curvature in each parameter."""
    return np.asarray(1.0 / np.sqrt(np.maximum(np.abs(np.diag(hessian)), _CURVED)))


def _eigen(hessian: Array) -> tuple[Array, Array]:
    """Return eigenvalues and vectors of the Hessian over its diagonal, so that units do not matter."""
    scale = _scale(hessian)
    values, vectors = np.linalg.eigh(hessian * np.outer(scale, scale))
    return values, vectors


def positive(hessian: Array) -> Array:
    """Return a Hessian with its curvatures made positive."""
    values, vectors = np.linalg.eigh(hessian)
    return np.asarray((vectors * np.maximum(np.abs(values), 1e-6 * np.abs(values).max())) @ vectors.T)
