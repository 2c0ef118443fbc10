"""What every response family is: a frozen record of how a linear predictor becomes the law of a response.

In: nothing.  Out: `Family`, whose kinds are in `answers`, `measurements` and `ratings`; `Own`, a parameter of a
family's own; `Maths`.  Mean and log-density are written once, over the small set of functions `Maths`, so that the
sampler's graph and every prediction are the same text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from psychostats.levels import ResponseKind

Array: TypeAlias = npt.NDArray[np.float64]
LinkName: TypeAlias = Literal["logit", "probit", "identity", "log"]
#: Where a parameter may lie: between two ends, above zero, or several on the line in rising order.
Support: TypeAlias = Literal["interval", "positive", "ordered"]

# Keeps a logarithm finite where a probability underflows, far beyond any plausible linear predictor.
TINY = 1e-300


class Maths(Protocol):
    """The functions a family is written in; NumPy's version is `NUMPY`, the sampler brings its own."""

    def expit(self, x: Any) -> Any:
        """Return the inverse logit."""

    def ndtr(self, x: Any) -> Any:
        """Return the standard normal distribution function."""

    def exp(self, x: Any) -> Any:
        """Return the exponential."""

    def log(self, x: Any) -> Any:
        """Return the natural logarithm."""

    def log1p(self, x: Any) -> Any:
        """Return log(1 + x)."""

    def softplus(self, x: Any) -> Any:
        """Return log(1 + exp(x))."""

    def maximum(self, x: Any, y: Any) -> Any:
        """Return the larger, elementwise."""

    def minimum(self, x: Any, y: Any) -> Any:
        """Return the smaller, elementwise."""

    def where(self, which: Any, x: Any, y: Any) -> Any:
        """Return x where the condition holds, else y."""

    def between(self, values: Any, index: Any, beyond: float) -> Any:
        """Return, of ordered values along the last axis, that at `index` from 1; `beyond` and its negative outside."""


class NumpyMaths:
    """`Maths` on arrays."""

    ndtr = staticmethod(special.ndtr)
    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    log1p = staticmethod(np.log1p)
    maximum = staticmethod(np.maximum)
    minimum = staticmethod(np.minimum)
    where = staticmethod(np.where)

    @staticmethod
    def expit(x: Any) -> Any:
        return special.expit(x)

    @staticmethod
    def softplus(x: Any) -> Any:
        return np.logaddexp(0.0, x)

    @staticmethod
    def between(values: Any, index: Any, beyond: float) -> Any:
        ends = np.full((*np.shape(values)[:-1], 1), beyond)
        padded = np.concatenate([-ends, values, ends], axis=-1)
        return np.take(padded, np.asarray(index, dtype=np.int64), axis=-1)


NUMPY: Maths = NumpyMaths()


@dataclass(frozen=True)
class Compiled:
    """A likelihood that compiled code knows.

    Parameters
    ----------
    kind
        ``logistic``; ``asymptotes``, logistic between a guess and a lapse rate; ``probit``, with both; ``normal``.
    guess, lapse
        Where it has them.
    """

    kind: Literal["logistic", "asymptotes", "probit", "normal"]
    guess: float = 0.0
    lapse: float = 0.0


@dataclass(frozen=True)
class Derivatives:
    """The log-density of each row and its derivatives by the linear predictor.

    Parameters
    ----------
    value, score
        Log-density (as `Family.log_density`) and its first derivative.
    information, change
        Minus its second derivative, and the derivative of that (NaN for families without maximum likelihood).
    expected
        Expectation of `information` over the response: never negative, so steps by it always climb.
    """

    value: Array
    score: Array
    information: Array
    change: Array
    expected: Array


@dataclass(frozen=True)
class RateDerivatives:
    """Derivatives by a guess or lapse rate, elementwise, the linear predictor held.

    Parameters
    ----------
    value, score, information
        Of what `Derivatives` calls so.
    """

    value: Array
    score: Array
    information: Array


@dataclass(frozen=True)
class Own:
    """A parameter of a family's own, as the responses at hand make it.

    Parameters
    ----------
    name
        The family's field.
    labels
        Names of its elements in tables: one, or as many as it has.
    support
        Where it may lie.
    law
        Its default prior: name and arguments, in Stan's parameterisation.
    low, high
        Ends of its range.
    start
        Where the search for it begins; needed of ordered ones, shape ``(elements,)``.
    """

    name: str
    labels: tuple[str, ...]
    support: Support
    law: tuple[str, tuple[float, ...]]
    low: float = -np.inf
    high: float = np.inf
    start: tuple[float, ...] = ()


@dataclass(frozen=True)
class Family(ABC):
    """How the linear predictor eta becomes the law of a response.

    A field that is None is a parameter to be estimated, of all rows together unless the family says otherwise; `at`
    fills it in.

    Parameters
    ----------
    name
        As the user writes it.
    link
        What eta is the link of.
    guess, lapse
        Lower asymptote g, and distance l of the upper one from 1; 0 where a response is no answer.
    """

    name: str
    link: LinkName = "logit"
    guess: Any = 0.0
    lapse: Any = 0.0

    #: What a response may be.
    response: ClassVar[ResponseKind] = "answers"
    #: Whether an answer is right or wrong, so that the mean is a probability and has odds.
    binary: ClassVar[bool] = False
    #: Whether thresholds take the intercept's place.
    ordinal: ClassVar[bool] = False
    #: Whether the likelihood can be maximised.
    maximisable: ClassVar[bool] = False
    #: What the mean of a response is, where tables of effects give it.
    quantity: ClassVar[str] = "the mean"

    @property
    def estimated(self) -> tuple[str, ...]:
        """Names of its own parameters that are to be estimated."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is None)

    def at(self, values: Mapping[str, Array], scale: Array | None = None) -> Family:
        """Return the family with its estimated parameters filled in, so that it broadcasts with ``(draws, rows)``.

        Parameters
        ----------
        values
            For each estimated parameter its draws, shape ``(draws,)``, or ``(draws, elements)`` where it has several.
        scale
            What a parameter that differs between rows depends on, shape ``(rows, elements)``; without it such a
            parameter stays None, so that nothing can be computed as if all rows were alike.
        """
        filled: dict[str, Any] = {
            name: values[name][:, np.newaxis] if np.ndim(values[name]) == 1 else values[name]
            for name in self.estimated
            if name in values
        }
        return replace(self, **filled) if filled else self

    def averaged(self, weights: Array) -> Family:
        """Return the family at weighted means of the rows it was filled in for; `weights` ``(means, rows)``."""
        return self

    @property
    def lapse_asked(self) -> float | str:
        """The lapse rate as it was asked for: a number, or ``estimate``."""
        return "estimate" if self.lapse is None else float(self.lapse)

    @property
    def constants(self) -> dict[str, float]:
        """The numbers it was given, by field: what a compiled model is handed, so that one serves them all."""
        return {}

    @property
    def canonical(self) -> bool:
        """Whether observed and expected information are the same for every response."""
        return False

    @property
    def has_asymptotes(self) -> bool:
        """Whether p stays away from 0 or 1, so that a link contrast is no log odds ratio of p."""
        return False

    @property
    def compiled(self) -> Compiled | None:
        """Its likelihood as compiled code knows it; None where it does not."""
        return None

    def normal_response(self, response: Array) -> Array:
        """Return what is normally distributed around eta; of a family whose compiled likelihood is ``normal``."""
        raise TypeError(f"{self.name} has no normal errors")  # whoever asks has to ask `compiled` first

    @property
    @abstractmethod
    def latent_variance(self) -> Any:
        """Variance of the response on the link that no effect explains."""

    def own(self, response: Array) -> tuple[Own, ...]:
        """Return its parameters that are to be estimated from these responses."""
        return ()

    def location(self, response: Array) -> tuple[float, float]:
        """Return the centre and the unit of default priors on the link scale."""
        return 0.0, 1.0

    @abstractmethod
    def mean(self, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the mean of the response, elementwise."""

    def miss(self, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the probability of a wrong answer, elementwise; of a binary family."""
        raise TypeError(f"{self.name} has no wrong answers")  # whoever asks has to ask `binary` first

    @abstractmethod
    def log_density(self, response: Any, trials: Any, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the log-density of each row's response, elementwise."""

    @abstractmethod
    def derivatives(self, response: Array, trials: Array, eta: Array) -> Derivatives:
        """Return the log-density and its derivatives by eta, elementwise."""

    def rate_derivatives(self, rate: str, response: Array, trials: Array, eta: Array) -> RateDerivatives:
        """Return derivatives by ``guess`` or ``lapse``; of a binary family."""
        raise TypeError(f"{self.name} has no {rate} rate")  # whoever asks has to ask `binary` first

    def outcomes(self, response: Array, trials: Array) -> tuple[npt.NDArray[np.int64], Array, Array]:
        """Return single outcomes: the row of each, its value, and how often it was seen; those of a row together."""
        return np.arange(len(response)), response, np.ones(len(response))

    def outcome_density(self, value: Any, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the log-density of single outcomes, elementwise."""
        return self.log_density(value, 1.0, eta, maths)

    @abstractmethod
    def slope(self, eta: npt.ArrayLike) -> Array:
        """Return the derivative of the mean by eta, elementwise."""

    @abstractmethod
    def linear_predictor(self, mean: npt.ArrayLike) -> Array:
        """Return eta with this mean, infinite at and beyond the ends of its range."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, trials: npt.ArrayLike, eta: npt.ArrayLike) -> Array:
        """Draw responses; numbers of right answers out of `trials`."""

    @abstractmethod
    def narrate(self, response: str) -> str:
        """Return in words how the response, by its column's name, follows from eta, for the report's model section."""

    @abstractmethod
    def equations(self, *, counts: bool = False) -> tuple[str, ...]:
        """Return the same as lines of algebra, in the signs of `psychostats.document.Equation`."""

    @abstractmethod
    def describe(self) -> str:
        """Return the family in words, for tables and the report."""


def symmetric_inverse_link(link: LinkName, x: Any, maths: Maths = NUMPY) -> Any:
    """Return F(x), the distribution function of the logistic or of the standard normal law, elementwise."""
    return maths.expit(x) if link == "logit" else maths.ndtr(x)


def symmetric_density(link: LinkName, x: Array) -> Array:
    """Return f(x), the derivative of F, elementwise."""
    if link == "logit":
        return np.asarray(special.expit(x) * special.expit(-x))
    return np.asarray(np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi))


#: Variance of the law whose distribution function F is.
LINK_VARIANCE = {"logit": np.pi**2 / 3.0, "probit": 1.0}
