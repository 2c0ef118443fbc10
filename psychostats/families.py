"""Response families as frozen records: how a linear predictor becomes the mean, for answers their probability.

In: names and numbers, resolved once by `resolve_family`.  Out: a `Family` with its mean, log-density, slope and draws.
p = g + (1 - g - l) F(eta), g the guess rate, l the lapse rate, F the inverse link.  The mean and the log-density are
written once, over a small set of functions `Maths`, so the sampler's graph and every prediction are the same text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from psychostats.errors import InputError, nearest

Array: TypeAlias = npt.NDArray[np.float64]
LinkName: TypeAlias = Literal["logit", "probit", "identity"]

# Keeps a logarithm finite where a probability underflows, far beyond any plausible linear predictor.
_TINY = 1e-300


class Maths(Protocol):
    """The functions a family is written in; NumPy's version is `NUMPY`, the sampler brings its own."""

    def expit(self, x: Any) -> Any:
        """Return the inverse logit."""

    def ndtr(self, x: Any) -> Any:
        """Return the standard normal distribution function."""

    def log(self, x: Any) -> Any:
        """Return the natural logarithm."""

    def maximum(self, x: Any, y: Any) -> Any:
        """Return the larger, elementwise."""


class _Numpy:
    expit = staticmethod(special.expit)
    ndtr = staticmethod(special.ndtr)
    log = staticmethod(np.log)
    maximum = staticmethod(np.maximum)


NUMPY: Maths = _Numpy()


@dataclass(frozen=True)
class Derivatives:
    """The log-density of each row and its derivatives by the linear predictor.

    Parameters
    ----------
    value, score
        Log-density (as `Family.log_density`) and its first derivative.
    information, change
        Minus its second derivative, and the derivative of that.
    expected
        Expectation of `information` over the response: never negative, so steps by it always climb.
    """

    value: Array
    score: Array
    information: Array
    change: Array
    expected: Array


@dataclass(frozen=True)
class Family:
    """A family of binary or counted answers, or of measurements with normal errors.

    Parameters
    ----------
    name
        ``bernoulli``, ``binomial``, ``afc`` or ``gaussian``.
    link
        ``logit`` or ``probit``, both symmetric: 1 - F(eta) = F(-eta); ``identity`` for ``gaussian``.
    guess, lapse
        Lower asymptote g, and distance l of the upper one from 1.
    estimated
        Names of its own parameters that are to be estimated; their fields mean nothing until `at` has filled them in.
    """

    name: str
    link: LinkName = "logit"
    guess: float = 0.0
    lapse: float = 0.0
    estimated: tuple[str, ...] = ()

    def at(self, values: Mapping[str, Array]) -> Family:
        """Return the family with its estimated parameters filled in, so that it broadcasts with ``(draws, rows)``.

        Parameters
        ----------
        values
            For each estimated parameter its draws, shape ``(draws,)``.
        """
        if not self.estimated:
            return self
        filled: dict[str, Any] = {name: values[name][:, np.newaxis] for name in self.estimated}
        return replace(self, estimated=(), **filled)

    @property
    def lapse_asked(self) -> float | str:
        """The lapse rate as it was asked for: a number, or ``estimate``."""
        return "estimate" if "lapse" in self.estimated else self.lapse

    @property
    def binary(self) -> bool:
        """Whether an answer is right or wrong, so that the mean is a probability and has odds."""
        return self.link != "identity"

    @property
    def canonical(self) -> bool:
        """Whether observed and expected information are the same for every response."""
        return self.link != "probit" and not self.has_asymptotes

    @property
    def span(self) -> float:
        """Height of the psychometric function, 1 - g - l."""
        return 1.0 - self.guess - self.lapse

    @property
    def has_asymptotes(self) -> bool:
        """Whether p stays away from 0 or 1, so that a link contrast is no log odds ratio of p."""
        return self.guess > 0 or "lapse" in self.estimated or bool(np.any(np.asarray(self.lapse) > 0))

    @property
    def latent_variance(self) -> float | None:
        """Variance of the law whose distribution function F is; None of a Gaussian, whose own is estimated."""
        return {"logit": np.pi**2 / 3.0, "probit": 1.0}.get(self.link)

    def inverse_link(self, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return F(eta), elementwise."""
        if self.link == "identity":
            return eta
        return maths.expit(eta) if self.link == "logit" else maths.ndtr(eta)

    def mean(self, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the probability p of a correct answer, elementwise."""
        return psychometric(self.inverse_link(eta, maths), self.guess, self.lapse)

    def miss(self, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the probability 1 - p of a wrong answer, elementwise, with all its digits where p is near 1."""
        return psychometric(self.inverse_link(-eta, maths), self.lapse, self.guess)

    def log_density(self, successes: Any, trials: Any, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return log p(successes | eta) without the binomial coefficient, which no parameter changes."""
        right = log_share(self, eta, self.guess, self.span, maths)
        wrong = log_share(self, -eta, self.lapse, self.span, maths)
        return successes * right + (trials - successes) * wrong

    def derivatives(self, successes: Array, trials: Array, eta: Array) -> Derivatives:
        """Return the log-density and its derivatives by eta, elementwise; of a binary family.

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

    def slope(self, eta: npt.ArrayLike) -> Array:
        """Return dp/deta, elementwise."""
        x = np.asarray(eta, dtype=float)
        if self.link == "identity":
            return np.ones_like(x)
        if self.link == "logit":
            return np.asarray(self.span * special.expit(x) * special.expit(-x))
        return np.asarray(self.span * np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi))

    def linear_predictor(self, p: npt.ArrayLike) -> Array:
        """Return eta with mean `p`, infinite at and beyond the asymptotes."""
        if self.link == "identity":
            return np.asarray(p, dtype=float)
        right = np.asarray(p, dtype=float) - self.guess
        wrong = 1.0 - self.lapse - np.asarray(p, dtype=float)
        share = np.clip(right / (right + wrong), 0.0, 1.0)  # exactly 1 at 1 - l, which a division by the span can miss
        return np.asarray(special.logit(share) if self.link == "logit" else special.ndtri(share))

    def draw(self, rng: np.random.Generator, trials: npt.ArrayLike, eta: npt.ArrayLike) -> Array:
        """Draw numbers of correct answers out of `trials`, broadcast with `eta`."""
        return rng.binomial(np.asarray(trials, dtype=np.int64), self.mean(np.asarray(eta, dtype=float))).astype(float)

    def describe(self) -> str:
        """Return the family in words, for tables and the report."""
        words = {"afc": "forced choice", "gaussian": "Gaussian", "bernoulli": "Bernoulli"}.get(self.name, self.name)
        parts = [f"{words}, {self.link} link"]
        if self.guess:
            parts.append(f"guess rate {self.guess:g}")
        if self.estimated:
            parts.append("lapse rate estimated")
        elif self.lapse:
            parts.append(f"lapse rate {self.lapse:g}")
        return ", ".join(parts)


def psychometric(inverse_link: Any, guess: Any, lapse: Any) -> Any:
    """Return g + (1 - g - l) F, for numbers and for the sampler's symbols alike."""
    return guess + (1.0 - guess - lapse) * inverse_link


def log_share(family: Family, eta: Any, floor: Any, span: Any, maths: Maths = NUMPY) -> Any:
    """Return the log-probability of one kind of answer, log(floor + span F(eta)), elementwise.

    With eta and the guess rate as floor that is a right answer; with -eta and the lapse rate, a wrong one. (Not log of
    1 - p, which would lose its digits near p = 1.) Floor and span stand apart so that one compiled graph serves
    several families.
    """
    return maths.log(maths.maximum(floor + span * family.inverse_link(eta, maths), _TINY))


FAMILY_TERMS = ("lapse",)
"""Parameters of families' own that can be estimated."""
FAMILIES = ("bernoulli", "binomial", "afc", "gaussian")
LINKS = ("logit", "probit")
_LATER = ("cumulative", "lognormal", "shifted_lognormal")


def resolve_family(
    name: str = "bernoulli", *, link: str | None = None, guess: float | None = None, lapse: float | str | None = None
) -> Family:
    """Turn the user's words into a family.

    Parameters
    ----------
    name
        ``bernoulli`` (0/1), ``binomial`` (counts), ``afc`` (m-alternative forced choice) or ``gaussian``
        (measurements).
    link
        ``logit`` (default) or ``probit``; ``identity`` for ``gaussian``.
    guess
        Guess rate in [0, 1), for ``afc`` only; default 0.5, two alternatives.
    lapse
        Lapse rate in [0, 1 - guess), default 0; ``estimate`` makes it a parameter, of all participants together.

    Raises
    ------
    InputError
        If a name is unknown or a rate is outside its range.
    """
    if name in _LATER:
        raise InputError(f"the family '{name}' cannot be fitted by this version; allowed are {', '.join(FAMILIES)}.")
    if name not in FAMILIES:
        raise InputError(f"the family '{name}' is unknown{nearest(name, FAMILIES)}; allowed are {', '.join(FAMILIES)}.")
    if name == "gaussian":
        if link not in (None, "identity"):
            raise InputError(f"the link of the family gaussian is identity; '{link}' is not allowed.")
        if lapse not in (None, 0.0) or guess is not None:
            raise InputError("guess and lapse rates are for answers that are right or wrong; gaussian has none.")
        return Family(name=name, link="identity")
    if link is not None and link not in LINKS:
        raise InputError(f"the link '{link}' is unknown{nearest(link, LINKS)}; allowed are {', '.join(LINKS)}.")
    if guess is not None and name != "afc":
        raise InputError(f"a guess rate is for the family afc; '{name}' has none. Use family afc, or leave guess out.")
    estimated = ("lapse",) if lapse == "estimate" else ()
    if isinstance(lapse, str):
        try:
            lapse = 0.0 if lapse == "estimate" else float(lapse)
        except ValueError:
            raise InputError(
                f"the lapse rate '{lapse}' is no number; give one from 0 to below 1 - guess, or 'estimate'."
            ) from None
    g = (0.5 if name == "afc" else 0.0) if guess is None else float(guess)
    share = 0.0 if lapse is None else float(lapse)
    if not 0.0 <= g < 1.0:
        raise InputError(f"the guess rate {g:g} is outside [0, 1).")
    if not 0.0 <= share < 1.0 - g:
        raise InputError(f"the lapse rate {share:g} is outside [0, {1.0 - g:g}), the room above the guess rate.")
    return Family(name=name, link="probit" if link == "probit" else "logit", guess=g, lapse=share, estimated=estimated)
