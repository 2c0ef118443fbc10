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
from psychostats.family import Derivatives, Family
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
class _Place:
    """Spherical effects and scaled fixed effects, the log-density there, and its value less half the squares of u."""

    u: tuple[Array, ...]
    beta: Array
    derivatives: Derivatives
    height: float


@dataclass(frozen=True)
class Mode:
    """The mode of the spherical effects at some parameters.

    Parameters
    ----------
    u
        For each group, shape ``(levels, terms)``.
    beta
        Scaled fixed effects.
    derivatives
        Of the log-density there.
    factor
        Of H, under the observed information; with the fixed columns where they were sought too.
    """

    u: tuple[Array, ...]
    beta: Array
    derivatives: Derivatives
    factor: Factor

    @property
    def value(self) -> float:
        """Minus the log-likelihood, by Laplace's approximation and without the binomial coefficients."""
        return 0.5 * (self.factor.log_determinant + _squares(self.u)) - float(self.derivatives.value.sum())


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
        arrow, Lambda = self.mixed.arrow, self.mixed.factors(theta)
        place = self._place(Lambda, self._u, beta)
        if not np.isfinite(place.height):
            raise NoMode
        observed, last = True, np.inf
        # Steps by the factor of the mode before cost no new one; close by they lead nearly as far.
        held = None if joint else self._held
        for _ in range(_STEPS):
            found = place.derivatives
            factor = held or self._factor(found.information if observed else found.expected, Lambda, joint=joint)
            if factor is None:
                if not observed:
                    raise NoMode
                observed = False
                continue
            gradient = self._gradient(place, Lambda, joint=joint)
            step = factor.solve(*gradient)
            decrement = float(np.sum(gradient[0] * step[0]) + gradient[1] @ step[1])
            if decrement < _TOLERANCE * max(1, arrow.effects):
                if held is not None or not observed:
                    # Near a maximum the observed information is positive, whatever it was on the way.
                    factor = self._factor(found.information, Lambda, joint=joint)
                    if factor is None:
                        raise NoMode
                self._u, self._held = place.u, None if joint else factor
                return Mode(place.u, place.beta, found, factor)
            if held is not None and decrement > _GAIN * last:
                held = None
                continue
            higher, whole = self._climb(place, Lambda, step, 1 if held is not None else _HALVINGS)
            if higher is not None:
                # Expected weights converge but linearly: once a whole step climbs, try the observed ones.
                place, last, observed = higher, decrement, observed or whole
            elif held is not None:
                held = None
            elif observed and not self.family.canonical:
                observed = False
            else:
                raise NoMode
        raise NoMode

    def _place(self, Lambda: Sequence[Array], u: tuple[Array, ...], beta: Array) -> _Place:
        design = self.mixed.design
        eta = self.mixed.X @ beta + design.offset + self.mixed.push(Lambda, u)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            found = self.family.derivatives(design.successes, design.trials, eta)
        return _Place(u, beta, found, float(found.value.sum()) - 0.5 * _squares(u))

    def _climb(
        self, place: _Place, Lambda: Sequence[Array], step: tuple[Array, Array], halvings: int
    ) -> tuple[_Place | None, bool]:
        """Return a place that is no lower along a step, halved as often as it must be, and whether the whole step led
        there; None where no part of it does."""
        direction, slope = self.mixed.arrow.split(*step)
        for halving in range(halvings):
            size = 0.5**halving
            u = tuple(a + size * d for a, d in zip(place.u, direction, strict=True))
            higher = self._place(Lambda, u, place.beta + size * slope if len(slope) else place.beta)
            # Near the mode a step changes less than rounding can show.
            if higher.height >= place.height - 1e-12 * abs(place.height):
                return higher, halving == 0
        return None, False

    def value(self, phi: Array) -> float:
        """Return minus the log-likelihood, without the binomial coefficients; infinite where there is no mode."""
        try:
            mode = self.mode(*self.split(phi))
        except NoMode:
            return np.inf
        return mode.value

    def gradient(self, phi: Array, rates: Sequence[str] = ()) -> tuple[float, Array]:
        """Return minus the log-likelihood and its gradient by phi, and by rates of the family.

        By the implicit function theorem, with c = leverage * change / 2 and v = H^-1 A'c: the derivative by anything
        that moves eta is that of (c - score - w A v), taken at the mode. A rate moves the density itself: with its
        derivatives of the log-density, score and information in place of score, -w and change.

        Parameters
        ----------
        phi
            theta and beta.
        rates
            ``guess``, ``lapse``, both or neither.
        """
        try:
            mode = self.mode(*self.split(phi))
        except NoMode:
            return np.inf, np.zeros(len(phi) + len(rates))
        mixed, found, factor = self.mixed, mode.derivatives, mode.factor
        Lambda = factor.Lambda
        leverage = mixed.arrow.leverage(factor)
        c = 0.5 * leverage * found.change
        v, _ = mixed.arrow.split(*factor.solve(*self.pull(Lambda, c)))
        pushed = mixed.push(Lambda, v)
        moved = c - found.score - found.information * pushed
        traces = factor.trace_gradients()
        by_factor = [
            group.collect(moved).T @ u + group.collect(found.score).T @ w + trace
            for group, u, w, trace in zip(mixed.groups, mode.u, v, traces, strict=True)
        ]
        by_rate = []
        if rates:
            eta = mixed.X @ mode.beta + mixed.design.offset + mixed.push(Lambda, mode.u)
            for rate in rates:
                by = self.family.rate_derivatives(rate, mixed.design.successes, mixed.design.trials, eta)
                by_rate.append(float(np.sum(0.5 * leverage * by.information - by.value + by.score * pushed)))
        return mode.value, np.concatenate([mixed.pick(by_factor), mixed.X.T @ moved, by_rate])

    def pull(self, Lambda: Sequence[Array], values: Array) -> tuple[Array, Array]:
        """Return Lambda' Z' values, for the first group and for the rest."""
        parts = [group.collect(values) @ L for group, L in zip(self.mixed.groups, Lambda, strict=True)]
        return self.mixed.arrow.join(parts)

    def _factor(self, weights: Array, Lambda: Sequence[Array], *, joint: bool) -> Factor | None:
        if not np.isfinite(weights).all():
            return None
        try:
            return Factor(self.mixed.arrow, self.mixed.arrow.cross(weights, fixed=joint), Lambda)
        except np.linalg.LinAlgError:
            return None

    def _gradient(self, place: _Place, Lambda: Sequence[Array], *, joint: bool) -> tuple[Array, Array]:
        """Return the gradient of the height by u, with `joint` also by beta."""
        score, mixed = place.derivatives.score, self.mixed
        parts = [group.collect(score) @ L - u for group, L, u in zip(mixed.groups, Lambda, place.u, strict=True)]
        return mixed.arrow.join(parts, mixed.X.T @ score if joint else None)


def _squares(u: Sequence[Array]) -> float:
    return float(sum(np.sum(values**2) for values in u))
