"""Ratings: answers on a scale of ordered categories, such as confidence.

In: a link.  Out: `Cumulative`, a family with its mean, log-density, derivatives and draws.

P(y <= k) = F(disc (tau_k - eta)) with thresholds tau_1 < ... < tau_(K-1), as brms's cumulative family: the thresholds
take the intercept's place, and a larger eta means higher ratings.  disc is 1, or differs between rows: the latent
response is then less variable where it is larger (unequal variance, as of signal detection).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy import special

from psychostats.errors import InputError
from psychostats.family import (
    LINK_VARIANCE,
    NUMPY,
    TINY,
    Array,
    Derivatives,
    Family,
    Maths,
    Own,
    symmetric_density,
    symmetric_inverse_link,
)
from psychostats.levels import ResponseKind

# Where the thresholds before the first and behind the last category lie: beyond any linear predictor, also times disc.
_BEYOND = 1e12
_HALVINGS = 80


@dataclass(frozen=True)
class Cumulative(Family):
    """A rating from 1 to K by thresholds on a latent scale.

    Parameters
    ----------
    thresholds
        In rising order along the last axis, shape ``(..., K - 1)``; None to be estimated.
    disc
        Reciprocal of the latent response's scale: 1, or of each row, broadcast with eta; None to be estimated, exp(X g)
        with the draws of g as its values.
    """

    thresholds: Any = None
    disc: Any = 1.0

    response: ClassVar[ResponseKind] = "rating"
    ordinal: ClassVar[bool] = True
    quantity: ClassVar[str] = "the mean rating, from 1 to the number of levels"

    def at(self, values: Mapping[str, Array], scale: Array | None = None) -> Family:
        """Return the family with its thresholds filled in, and disc of each row of `scale`."""
        made = super().at({name: drawn for name, drawn in values.items() if name != "disc"})
        if self.disc is not None or scale is None or "disc" not in values:
            return made
        filled: dict[str, Any] = {"disc": np.exp(values["disc"] @ scale.T)}
        return replace(made, **filled)

    def averaged(self, weights: Array) -> Family:
        """Return the family at weighted means of the rows: log disc is averaged, as the linear predictor is."""
        return self if np.ndim(self.disc) == 0 else replace(self, disc=np.exp(np.log(self.disc) @ weights.T))

    @property
    def latent_variance(self) -> Any:
        """Variance of the law whose distribution function F is, over disc squared."""
        return LINK_VARIANCE[self.link] / self.disc**2

    def own(self, response: Array) -> tuple[Own, ...]:
        """Return the thresholds, to be searched from where the shares of the ratings put them."""
        categories = int(np.max(response))
        if self.disc is None and categories < 3:
            raise InputError("disc needs ratings of three levels at least: two cannot tell variance from location.")
        below = np.array([(response <= k).mean() for k in range(1, categories)])
        start = special.logit(below) if self.link == "logit" else special.ndtri(below)
        labels = tuple(f"b_Intercept[{k}]" for k in range(1, categories))
        return (Own("thresholds", labels, "ordered", ("student_t", (3.0, 0.0, 2.5)), start=tuple(start.tolist())),)

    def mean(self, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the mean rating, 1 + the sum over thresholds of P(y > k), elementwise."""
        tau = self.thresholds
        return 1.0 + sum(
            symmetric_inverse_link(self.link, self.disc * (eta - tau[..., k, np.newaxis]), maths)
            for k in range(tau.shape[-1])
        )

    def log_density(self, response: Any, trials: Any, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the log-probability of each rating, elementwise, with its digits in both tails."""
        upper = self.disc * (maths.between(self.thresholds, response, _BEYOND) - eta)
        lower = self.disc * (maths.between(self.thresholds, response - 1.0, _BEYOND) - eta)
        if self.link == "logit":
            # F(a) - F(b) = F(a) F(-b) (1 - exp(b - a))
            narrow = maths.log1p(-maths.exp(maths.minimum(lower - upper, -TINY)))
            return narrow - maths.softplus(-upper) - maths.softplus(lower)
        # Both ends on the side where F is small, so that their difference loses no digits.
        flip = maths.where(upper + lower > 0.0, -1.0, 1.0)
        high, low = maths.ndtr(flip * upper), maths.ndtr(flip * lower)
        return maths.log(maths.maximum(flip * (high - low), TINY))

    def derivatives(self, response: Array, trials: Array, eta: Array) -> Derivatives:
        """Return the log-density and its derivatives by eta, elementwise."""
        value = self.log_density(response, trials, eta)
        density, bend = self._jumps(response, eta)
        score = -density / np.exp(value)
        information = score**2 - bend / np.exp(value)
        expected = np.zeros(np.shape(value))
        for k in range(1, self.thresholds.shape[-1] + 2):
            every = np.full(np.shape(response), float(k))
            expected += self._jumps(every, eta)[0] ** 2 / np.exp(self.log_density(every, trials, eta))
        return Derivatives(value, score, information, np.full_like(value, np.nan), expected)

    def _jumps(self, response: Array, eta: Array) -> tuple[Array, Array]:
        """Return disc (f(a) - f(b)) and disc^2 (f'(a) - f'(b)), a and b the ends of the rating's interval."""
        ends = [self.disc * (NUMPY.between(self.thresholds, end, _BEYOND) - eta) for end in (response, response - 1.0)]
        upper, lower = (symmetric_density(self.link, x) for x in ends)
        bend = _logistic if self.link == "logit" else _normal
        return self.disc * (upper - lower), self.disc**2 * (upper * bend(ends[0]) - lower * bend(ends[1]))

    def slope(self, eta: npt.ArrayLike) -> Array:
        """Return the derivative of the mean rating by eta, elementwise."""
        x, tau = np.asarray(eta, dtype=float), self.thresholds
        return np.asarray(
            sum(
                self.disc * symmetric_density(self.link, self.disc * (x - tau[..., k, np.newaxis]))
                for k in range(tau.shape[-1])
            )
        )

    def linear_predictor(self, mean: npt.ArrayLike) -> Array:
        """Return eta with this mean rating, by halving; infinite at 1 and at K."""
        goal = np.asarray(mean, dtype=float)
        tau = np.asarray(self.thresholds)
        shape = np.broadcast_shapes(goal.shape, (*tau.shape[:-1], 1) if tau.ndim > 1 else (), np.shape(self.disc))
        reach = 40.0 / np.broadcast_to(self.disc, shape)
        low, high = tau.min() - reach, tau.max() + reach
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            above = self.mean(middle) > goal
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        inside = np.where(goal <= 1.0, -np.inf, 0.5 * (low + high))
        return np.asarray(np.where(goal >= tau.shape[-1] + 1.0, np.inf, inside))

    def draw(self, rng: np.random.Generator, trials: npt.ArrayLike, eta: npt.ArrayLike) -> Array:
        """Draw ratings."""
        x = np.asarray(eta, dtype=float)
        u = rng.uniform(size=np.broadcast_shapes(x.shape, np.shape(trials)))
        tau = np.asarray(self.thresholds)
        below = [
            symmetric_inverse_link(self.link, self.disc * (tau[..., k, np.newaxis] - x)) for k in range(tau.shape[-1])
        ]
        above = [u > p for p in below]
        return np.asarray(1.0 + np.sum(above, axis=0, dtype=float))

    def narrate(self, response: str) -> str:
        """Return in words how the response follows from eta."""
        law = "logistic" if self.link == "logit" else "standard normal"
        spread = "" if isinstance(self.disc, float) else ", of a spread 1/d that differs between trials,"
        return (
            f"{response} of trial i, counted from 1 to K, is k where a latent response{spread} lies between threshold "
            "k − 1 and threshold k; the thresholds τ are estimated and take the intercept's place. The latent response "
            f"is distributed around η; F is its {law} distribution function, and a larger η means higher ratings."
        )

    def equations(self, *, counts: bool = False) -> tuple[str, ...]:
        """Return the same as lines of algebra."""
        upper, lower = "τ_k − η_i", "τ_(k−1) − η_i"
        if not isinstance(self.disc, float):
            upper, lower = "d_i (τ_k − η_i)", "d_i (τ_(k−1) − η_i)"
        return ("y_i ∼ Categorical(p_(1, i) … p_(K, i))", f"p_(k, i) = F({upper}) − F({lower})")

    def describe(self) -> str:
        """Return the family in words, for tables and the report."""
        unequal = "" if isinstance(self.disc, float) else ", unequal variance"
        return f"cumulative, {self.link} link{unequal}"


def _logistic(x: Array) -> Array:
    """Return f'(x) / f(x) of the logistic law, 1 - 2 F(x)."""
    return np.asarray(special.expit(-x) - special.expit(x))


def _normal(x: Array) -> Array:
    """Return f'(x) / f(x) of the standard normal law."""
    return -x
