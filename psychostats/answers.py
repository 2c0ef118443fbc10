"""Answers that are right or wrong: single trials, counts, and forced choice with guess and lapse rates.

In: rates and a link.  Out: `Answers`, a family with its mean, log-density, derivatives and draws.

p = g + (1 - g - l) F(eta), g the guess rate, l the lapse rate, F the inverse link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy import special

from psychostats.family import (
    LINK_VARIANCE,
    NUMPY,
    TINY,
    Array,
    Compiled,
    Derivatives,
    Family,
    Maths,
    Own,
    RateDerivatives,
    symmetric_density,
    symmetric_inverse_link,
)
from psychostats.levels import ResponseKind


@dataclass(frozen=True)
class Answers(Family):
    """Right or wrong answers, one or so many a row.

    Parameters
    ----------
    name
        ``bernoulli``, ``binomial`` or ``afc``.
    link
        ``logit`` or ``probit``, both symmetric: 1 - F(eta) = F(-eta).
    guess, lapse
        Lower asymptote g, and distance l of the upper one from 1; a lapse rate of None is to be estimated.
    """

    response: ClassVar[ResponseKind] = "answers"
    binary: ClassVar[bool] = True
    maximisable: ClassVar[bool] = True
    quantity: ClassVar[str] = "the probability of a correct answer"

    @property
    def constants(self) -> dict[str, float]:
        """The rates that are given, by field."""
        return {name: value for name, value in (("guess", self.guess), ("lapse", self.lapse)) if value is not None}

    @property
    def canonical(self) -> bool:
        """Whether observed and expected information are the same for every response."""
        return self.link != "probit" and not self.has_asymptotes

    @property
    def span(self) -> Any:
        """Height of the psychometric function, 1 - g - l."""
        return 1.0 - self.guess - self.lapse

    @property
    def has_asymptotes(self) -> bool:
        """Whether p stays away from 0 or 1, so that a link contrast is no log odds ratio of p."""
        rates = (self.guess, self.lapse)
        return any(rate is None or bool(np.any(np.asarray(rate) > 0)) for rate in rates)

    @property
    def compiled(self) -> Compiled | None:
        """Its likelihood as compiled code knows it, with every rate given."""
        if self.estimated:
            return None
        if self.canonical:
            return Compiled("logistic")
        return Compiled("probit" if self.link == "probit" else "asymptotes", self.guess, self.lapse)

    @property
    def latent_variance(self) -> float:
        """Variance of the law whose distribution function F is."""
        return LINK_VARIANCE[self.link]

    def own(self, response: Array) -> tuple[Own, ...]:
        """Return the lapse rate, if it is to be estimated, with psignifit 4's prior."""
        if self.lapse is not None:
            return ()
        return (Own("lapse", ("lapse",), "interval", ("beta", (1.0, 10.0)), 0.0, 1.0 - self.guess),)

    def inverse_link(self, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return F(eta), elementwise."""
        return symmetric_inverse_link(self.link, eta, maths)

    def mean(self, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the probability p of a correct answer, elementwise."""
        return psychometric(self.inverse_link(eta, maths), self.guess, self.lapse)

    def miss(self, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the probability 1 - p of a wrong answer, elementwise, with all its digits where p is near 1."""
        return psychometric(self.inverse_link(-eta, maths), self.lapse, self.guess)

    def log_density(self, successes: Any, trials: Any, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return log p(successes | eta) without the binomial coefficient, which no parameter changes."""
        right, wrong = self.outcome_density(1.0, eta, maths), self.outcome_density(0.0, eta, maths)
        return successes * right + (trials - successes) * wrong

    def outcomes(self, successes: Array, trials: Array) -> tuple[npt.NDArray[np.int64], Array, Array]:
        """Return the right answers of each row (value 1) and its wrong ones (0), as far as there are any.

        A 0/1 row has one of the two, so that its likelihood takes one inverse link and one logarithm instead of two.
        """
        count = np.stack([successes, trials - successes], axis=1).ravel()
        row, value = np.repeat(np.arange(len(successes)), 2), np.tile([1.0, 0.0], len(successes))
        return row[count > 0], value[count > 0], count[count > 0]

    def outcome_density(self, value: Any, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the log-probability of an answer that is right (1) or wrong (0), elementwise.

        A wrong answer is log(l + span F(-eta)): not log of 1 - p, which would lose its digits near p = 1.
        """
        floor = self.lapse + value * (self.guess - self.lapse)
        share = floor + self.span * self.inverse_link((2.0 * value - 1.0) * eta, maths)
        return maths.log(maths.maximum(share, TINY))

    def derivatives(self, successes: Array, trials: Array, eta: Array) -> Derivatives:
        """Return the log-density and its derivatives by eta, elementwise.

        With A = log(g + span F(eta)), k = F'/F and rho = span F / (g + span F): A' = rho k, and rho' = rho (1 - rho) k.
        A wrong answer is the same with -eta and l. None loses digits in either tail.
        """
        if self.link == "logit" and not self.has_asymptotes:
            p, size = special.expit(eta), np.abs(eta)
            information = trials * p * special.expit(-eta)
            value = successes * eta - trials * (0.5 * (eta + size) + np.log1p(np.exp(-size)))
            return Derivatives(value, successes - trials * p, information, information * (1.0 - 2.0 * p), information)
        a0, a1, a2, a3 = self._log_share_derivatives(eta, self.guess)
        b0, b1, b2, b3 = self._log_share_derivatives(-eta, self.lapse)
        wrong = trials - successes
        return Derivatives(
            value=successes * a0 + wrong * b0,
            score=successes * a1 - wrong * b1,
            information=-(successes * a2 + wrong * b2),
            change=-(successes * a3 - wrong * b3),
            # n p'^2 / (p (1 - p)) with p' = p A' and p'^2 = (p A') ((1 - p) B')
            expected=trials * a1 * b1,
        )

    def _log_share_derivatives(self, eta: Array, floor: float | Array) -> tuple[Array, Array, Array, Array]:
        """Return log(floor + span F(eta)) and its first three derivatives."""
        F = self.inverse_link(eta)
        if self.link == "logit":
            k = special.expit(-eta)
            k1 = -k * F
            k2 = k1 * (k - F)
        else:
            k = np.sqrt(2.0 / np.pi) / special.erfcx(
                -eta / np.sqrt(2.0)
            )  # Mills' ratio, with all its digits at -1e4 too
            k1 = -k * (eta + k)
            k2 = -k1 * (eta + k) - k * (1.0 + k1)
        if not np.any(floor):
            log_share = -np.logaddexp(0.0, -eta) if self.link == "logit" else special.log_ndtr(eta)
            return log_share + np.log(self.span), k, k1, k2
        share = floor + self.span * F
        rho = self.span * F / share
        rho1 = rho * (1.0 - rho) * k
        rho2 = rho1 * (1.0 - 2.0 * rho) * k + rho * (1.0 - rho) * k1
        return np.log(share), rho * k, rho1 * k + rho * k1, rho2 * k + 2.0 * rho1 * k1 + rho * k2

    def rate_derivatives(self, rate: str, successes: Array, trials: Array, eta: Array) -> RateDerivatives:
        """Return the derivatives of log-density, score and information by ``guess`` or ``lapse``, elementwise.

        An outcome has probability s = f + (1 - f - o) F, f the rate it cannot fall below, o the other: of a right
        answer f = g and o = l, of a wrong one the reverse, with -eta. By f, log s has the derivative (1 - F) / s, and
        its derivative by eta has -(1 - o) F' / s^2; by o, -F / s and -f F' / s^2.
        """
        right = self._log_share_by_rate(eta, self.guess, self.lapse, own=rate == "guess")
        wrong = self._log_share_by_rate(-eta, self.lapse, self.guess, own=rate == "lapse")
        missed = trials - successes
        return RateDerivatives(
            value=successes * right[0] + missed * wrong[0],
            score=successes * right[1] - missed * wrong[1],
            information=-(successes * right[2] + missed * wrong[2]),
        )

    def _log_share_by_rate(self, eta: Array, floor: float, other: float, *, own: bool) -> tuple[Array, Array, Array]:
        """Return the derivatives by a rate of log(floor + span F(eta)) and of its first two derivatives by eta."""
        F, density = self.inverse_link(eta), symmetric_density(self.link, eta)
        bend = density * (1.0 - 2.0 * F if self.link == "logit" else -eta)  # F''
        share = np.maximum(floor + self.span * F, TINY)
        by_share = self.inverse_link(-eta) / share if own else -F / share
        factor = -(1.0 - other if own else floor) / share**2
        return by_share, factor * density, factor * (bend - 2.0 * self.span * density**2 / share)

    def slope(self, eta: npt.ArrayLike) -> Array:
        """Return dp/deta, elementwise."""
        return np.asarray(self.span * symmetric_density(self.link, np.asarray(eta, dtype=float)))

    def linear_predictor(self, p: npt.ArrayLike) -> Array:
        """Return eta with mean `p`, infinite at and beyond the asymptotes."""
        right = np.asarray(p, dtype=float) - self.guess
        wrong = 1.0 - self.lapse - np.asarray(p, dtype=float)
        share = np.clip(right / (right + wrong), 0.0, 1.0)  # exactly 1 at 1 - l, which a division by the span can miss
        return np.asarray(special.logit(share) if self.link == "logit" else special.ndtri(share))

    def draw(self, rng: np.random.Generator, trials: npt.ArrayLike, eta: npt.ArrayLike) -> Array:
        """Draw numbers of correct answers out of `trials`, broadcast with `eta`."""
        return rng.binomial(np.asarray(trials, dtype=np.int64), self.mean(np.asarray(eta, dtype=float))).astype(float)

    def narrate(self, response: str) -> str:
        """Return in words how the response follows from eta."""
        happens = "is answered correctly" if response == "correct" else f"has {response} = 1"
        curve = "logistic function" if self.link == "logit" else "standard normal distribution function"
        lapse, top = ("to be estimated", "1 − l") if self.estimated else (f"{self.lapse:g}", f"{1 - self.lapse:g}")
        return (
            f"trial i {happens} with probability p; the family is {self.describe()}. F is the {curve}, g the guess "
            f"rate {self.guess:g} and l the lapse rate {lapse}, so that p runs from {self.guess:g} to {top}."
        )

    def equations(self, *, counts: bool = False) -> tuple[str, ...]:
        """Return the same as lines of algebra."""
        return (
            "y_i ∼ Binomial(n_i, p_i)" if counts else "y_i ∼ Bernoulli(p_i)",
            "p_i = g + (1 − g − l) F(η_i)" if self.has_asymptotes else "p_i = F(η_i)",
        )

    def describe(self) -> str:
        """Return the family in words, for tables and the report."""
        words = {"afc": "forced choice", "bernoulli": "Bernoulli"}.get(self.name, self.name)
        parts = [f"{words}, {self.link} link"]
        if self.guess is None:
            parts.append("guess rate estimated")
        elif self.guess:
            parts.append(f"guess rate {self.guess:g}")
        if self.lapse is None:
            parts.append("lapse rate estimated")
        elif self.lapse:
            parts.append(f"lapse rate {self.lapse:g}")
        return ", ".join(parts)


def psychometric(inverse_link: Any, guess: Any, lapse: Any) -> Any:
    """Return g + (1 - g - l) F, for numbers and for the sampler's symbols alike."""
    return guess + (1.0 - guess - lapse) * inverse_link
