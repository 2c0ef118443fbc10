"""The likelihood of a mixed model: its mode over random effects, Laplace's approximation, and exact gradients.

In: a `Mixed`, a family, and phi = (theta, beta).  Out: minus the log-likelihood and its gradient by phi.  Three named
steps, in the symbols of MODEL.md: the mode of the spherical effects u, the log-determinant there, their sum.  Knows no
optimiser.

The Laplace term takes the observed information, minus the second derivative of the log-density; the steps towards the
mode take the expected one where the observed fails, since that one always climbs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from psychostats.arrow import Factor
from psychostats.families import Derivatives, Family
from psychostats.mixed import Mixed

Array: TypeAlias = npt.NDArray[np.float64]

_STEPS, _HALVINGS = 200, 40
# Square of the last Newton step, in units of each effect's conditional SD, below which the mode is found; convergence
# is quadratic, so the mode itself is then far closer.
_TOLERANCE = 1e-22
# What a step by the factor of another mode must leave of that square, or it is time for a new factor.
_GAIN = 1e-2


class NoMode(ArithmeticError):
    """The mode of the random effects was not found at these parameters."""


@dataclass(frozen=True)
class Mode:
    """The mode of the spherical effects at some parameters.

    Parameters
    ----------
    u
        For each group, shape ``(levels, terms)``.
    beta
        Scaled fixed effects.
    eta
        Linear predictor, shape ``(cells,)``.
    derivatives
        Of the log-density there.
    factor
        Of H, under the observed information; with the fixed columns where they were sought too.
    """

    u: tuple[Array, ...]
    beta: Array
    eta: Array
    derivatives: Derivatives
    factor: Factor

    @property
    def penalised(self) -> float:
        """Log-density less half the sum of squares of u."""
        return float(self.derivatives.value.sum()) - 0.5 * _squares(self.u)


class Laplace:
    """Minus the log-likelihood by Laplace's approximation, with its gradient.

    Parameters
    ----------
    mixed
        The data.
    family
        A binary family.

    Notes
    -----
    The last mode is remembered as a start for the next, so one object serves one optimisation.
    """

    def __init__(self, mixed: Mixed, family: Family):
        self.mixed, self.family = mixed, family
        self._u: tuple[Array, ...] = tuple(np.zeros((group.levels, group.terms)) for group in mixed.groups)
        self._held: Factor | None = None

    def split(self, phi: Array) -> tuple[Array, Array]:
        """Return theta and beta."""
        k = len(self.mixed.elements)
        return phi[:k], phi[k:]

    def mode(self, theta: Array, beta: Array, *, joint: bool = False) -> Mode:
        """Find the mode of u at theta and beta; with `joint` that of u and beta, from `beta` on.

        Raises
        ------
        NoMode
            If no step climbs any more before the mode is reached.
        """
        mixed, family = self.mixed, self.family
        Lambda = mixed.factors(theta)
        u, known = self._u, mixed.X @ beta + mixed.offset
        eta = known + self.push(Lambda, u)
        found = self._derivatives(eta)
        height = found.value.sum() - 0.5 * _squares(u)
        if not np.isfinite(height):
            raise NoMode
        observed, last = True, np.inf
        # Steps by the factor of the mode before cost no new one; close by they lead nearly as far.
        held = None if joint else self._held
        for _ in range(_STEPS):
            factor = held or self._factor(found.information if observed else found.expected, Lambda, joint=joint)
            if factor is None:
                if not observed:
                    raise NoMode
                observed = False
                continue
            gradient = self._gradient(found, Lambda, u, joint=joint)
            step = factor.solve(*gradient)
            decrement = float(np.sum(gradient[0] * step[0]) + gradient[1] @ step[1])
            if decrement < _TOLERANCE * max(1, mixed.arrow.effects):
                if held is not None or not observed:
                    # Near a maximum the observed information is positive, whatever it was on the way.
                    here = self._factor(found.information, Lambda, joint=joint)
                    if here is None:
                        raise NoMode
                    factor = here
                self._u, self._held = u, None if joint else factor
                return Mode(u, beta, eta, found, factor)
            if held is not None and decrement > _GAIN * last:
                held = None
                continue
            direction, slope = self._directions(step, joint=joint)
            for halving in range(1 if held is not None else _HALVINGS):
                size = 0.5**halving
                new_u = tuple(a + size * d for a, d in zip(u, direction, strict=True))
                new_beta = beta + size * slope if joint else beta
                new_eta = (mixed.X @ new_beta + mixed.offset if joint else known) + self.push(Lambda, new_u)
                new_found = self._derivatives(new_eta)
                new_height = new_found.value.sum() - 0.5 * _squares(new_u)
                # Near the mode a step changes less than rounding can show.
                if new_height >= height - 1e-12 * abs(height):
                    break
            else:
                if held is not None:
                    held = None
                    continue
                if observed and not family.canonical:
                    observed = False
                    continue
                raise NoMode
            # Expected weights converge but linearly: once a whole step climbs, try the observed ones.
            observed = observed or halving == 0
            u, beta, eta, found, height, last = new_u, new_beta, new_eta, new_found, new_height, decrement
        raise NoMode

    def value(self, phi: Array) -> float:
        """Return minus the log-likelihood, without the binomial coefficients; infinite where there is no mode."""
        try:
            mode = self.mode(*self.split(phi))
        except NoMode:
            return np.inf
        return -mode.penalised + 0.5 * mode.factor.log_determinant

    def gradient(self, phi: Array) -> tuple[float, Array]:
        """Return minus the log-likelihood and its gradient by phi.

        By the implicit function theorem, with c = leverage * change / 2 and v = H^-1 A'c: the derivative by anything
        that moves eta is that of (c - score - w A v), taken at the mode.
        """
        try:
            mode = self.mode(*self.split(phi))
        except NoMode:
            return np.inf, np.zeros(len(phi))
        mixed, found, factor = self.mixed, mode.derivatives, mode.factor
        Lambda = factor.Lambda
        c = 0.5 * mixed.arrow.leverage(factor) * found.change
        v = self._directions(factor.solve(*self.pull(Lambda, c)), joint=False)[0]
        moved = c - found.score - found.information * self.push(Lambda, v)
        traces = factor.trace_gradients()
        by_factor = [
            group.collect(moved).T @ u + group.collect(found.score).T @ w + trace
            for group, u, w, trace in zip(mixed.groups, mode.u, v, traces, strict=True)
        ]
        value = -mode.penalised + 0.5 * factor.log_determinant
        return value, np.concatenate([mixed.pick(by_factor), mixed.X.T @ moved])

    def push(self, Lambda: Sequence[Array], u: Sequence[Array]) -> Array:
        """Return Z Lambda u by cell."""
        total = np.zeros(len(self.mixed.X))
        for group, L, values in zip(self.mixed.groups, Lambda, u, strict=True):
            total += group.expand(values @ L.T)
        return total

    def pull(self, Lambda: Sequence[Array], values: Array) -> tuple[Array, Array]:
        """Return Lambda' Z' values, for the first group and for the rest."""
        parts = [group.collect(values) @ L for group, L in zip(self.mixed.groups, Lambda, strict=True)]
        first = parts[0] if parts else np.zeros((0, 0))
        return first, np.concatenate([np.zeros(0), *(part.ravel() for part in parts[1:])])

    def _derivatives(self, eta: Array) -> Derivatives:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self.family.derivatives(self.mixed.successes, self.mixed.trials, eta)

    def _factor(self, weights: Array, Lambda: Sequence[Array], *, joint: bool) -> Factor | None:
        if not np.isfinite(weights).all():
            return None
        try:
            return Factor(self.mixed.arrow, self.mixed.arrow.cross(weights, fixed=joint), Lambda)
        except np.linalg.LinAlgError:
            return None

    def _gradient(
        self, found: Derivatives, Lambda: Sequence[Array], u: Sequence[Array], *, joint: bool
    ) -> tuple[Array, Array]:
        first, rest = self.pull(Lambda, found.score)
        if u:
            first = first - u[0]
            rest = rest - np.concatenate([np.zeros(0), *(values.ravel() for values in u[1:])])
        return first, np.concatenate([rest, self.mixed.X.T @ found.score]) if joint else rest

    def _directions(self, step: tuple[Array, Array], *, joint: bool) -> tuple[tuple[Array, ...], Array]:
        """Split a solution into one of each group, and that of the fixed effects."""
        first, rest = step
        parts, start = [first] if self.mixed.groups else [], 0
        for group in self.mixed.groups[1:]:
            size = group.levels * group.terms
            parts.append(rest[start : start + size].reshape(group.levels, group.terms))
            start += size
        return tuple(parts), rest[start:] if joint else np.zeros(self.mixed.X.shape[1])


def _squares(u: Sequence[Array]) -> float:
    return float(sum(np.sum(values**2) for values in u))
