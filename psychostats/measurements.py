"""Measurements: scores with normal errors, and response times that are lognormal, from zero or from a shift.

In: a link.  Out: `Gaussian`, `Lognormal` and `ShiftedLognormal`, families with their mean, log-density, derivatives and
draws.  The linear predictor is the mean of the response, or of the logarithm of the time beyond the shift; names are
brms's: sigma, and ndt (non-decision time) for the shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from psychostats.family import NUMPY, Array, Compiled, Derivatives, Family, Maths, Own
from psychostats.levels import ResponseKind

_LOG_ROOT_2PI = 0.5 * np.log(2.0 * np.pi)


@dataclass(frozen=True)
class Gaussian(Family):
    """A measurement with normal errors.

    Parameters
    ----------
    sigma
        Residual SD; None to be estimated.
    """

    sigma: Any = None

    response: ClassVar[ResponseKind] = "number"
    maximisable: ClassVar[bool] = True

    @property
    def compiled(self) -> Compiled | None:
        """Its likelihood as compiled code knows it."""
        return Compiled("normal")

    def normal_response(self, response: Array) -> Array:
        """Return the response itself."""
        return response

    @property
    def latent_variance(self) -> Any:
        """The errors' variance."""
        return self.sigma**2

    def own(self, response: Array) -> tuple[Own, ...]:
        """Return sigma; its prior has the mean SD of the response on the link."""
        return (Own("sigma", ("sigma",), "positive", ("exponential", (1.0 / self.location(response)[1],)), 0.0),)

    def location(self, response: Array) -> tuple[float, float]:
        """Return the mean and SD of the response, so that no prior depends on the unit or the zero of a scale."""
        spread = float(np.std(response, ddof=1)) if len(response) > 1 else 0.0
        return float(np.mean(response)), spread or 1.0

    def mean(self, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return eta itself."""
        return eta

    def log_density(self, response: Any, trials: Any, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the normal log-density, elementwise."""
        z = (response - eta) / self.sigma
        return -0.5 * z * z - maths.log(self.sigma) - _LOG_ROOT_2PI

    def derivatives(self, response: Array, trials: Array, eta: Array) -> Derivatives:
        """Return the log-density and its derivatives by eta, elementwise."""
        return self._derivatives(response, eta, self.log_density(response, trials, eta))

    def _derivatives(self, normal: Array, eta: Array, value: Array) -> Derivatives:
        """Return derivatives where `normal` is normally distributed around eta."""
        information = np.broadcast_to(1.0 / np.square(self.sigma), value.shape)
        return Derivatives(value, (normal - eta) * information, information, np.zeros_like(value), information)

    def slope(self, eta: npt.ArrayLike) -> Array:
        """Return 1, elementwise."""
        return np.ones_like(np.asarray(eta, dtype=float))

    def linear_predictor(self, mean: npt.ArrayLike) -> Array:
        """Return the mean itself."""
        return np.asarray(mean, dtype=float)

    def draw(self, rng: np.random.Generator, trials: npt.ArrayLike, eta: npt.ArrayLike) -> Array:
        """Draw measurements."""
        return np.asarray(rng.normal(np.asarray(eta, dtype=float), self.sigma))

    def narrate(self, response: str) -> str:
        """Return in words how the response follows from eta."""
        return f"{response} of trial i is normally distributed around η, with a standard deviation σ that is estimated."

    def equations(self, *, counts: bool = False) -> tuple[str, ...]:
        """Return the same as a line of algebra."""
        return ("y_i ∼ Normal(η_i, σ^2)",)

    def describe(self) -> str:
        """Return the family in words, for tables and the report."""
        return "Gaussian, identity link"


@dataclass(frozen=True)
class Lognormal(Gaussian):
    """A time, or another measurement above zero, whose logarithm has normal errors; eta is the log of its median."""

    response: ClassVar[ResponseKind] = "positive"
    maximisable: ClassVar[bool] = False
    quantity: ClassVar[str] = "the mean (of lognormal times above the median)"

    def location(self, response: Array) -> tuple[float, float]:
        """Return the mean logarithm; a logarithm has no unit, so that there is no other to bring in."""
        return float(np.mean(np.log(response))), 1.0

    def normal_response(self, response: Array) -> Array:
        """Return the logarithm."""
        return np.log(response)

    def mean(self, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return exp(eta + sigma^2 / 2), elementwise."""
        return maths.exp(eta + 0.5 * self.sigma * self.sigma)

    def log_density(self, response: Any, trials: Any, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the lognormal log-density, elementwise."""
        log = maths.log(response)
        return super().log_density(log, trials, eta, maths) - log

    def derivatives(self, response: Array, trials: Array, eta: Array) -> Derivatives:
        """Return the log-density and its derivatives by eta, elementwise."""
        return self._derivatives(np.log(response), eta, self.log_density(response, trials, eta))

    def slope(self, eta: npt.ArrayLike) -> Array:
        """Return the derivative of the mean by eta, elementwise."""
        return np.asarray(Lognormal.mean(self, np.asarray(eta, dtype=float)))

    def linear_predictor(self, mean: npt.ArrayLike) -> Array:
        """Return eta with this mean; minus infinity at zero and below."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.maximum(mean, 0.0)) - 0.5 * np.square(self.sigma))

    def draw(self, rng: np.random.Generator, trials: npt.ArrayLike, eta: npt.ArrayLike) -> Array:
        """Draw measurements."""
        return np.exp(super().draw(rng, trials, eta))

    def narrate(self, response: str) -> str:
        """Return in words how the response follows from eta."""
        return (
            f"the logarithm of {response} of trial i is normally distributed around η, with a standard deviation σ "
            "that is estimated. So exp(η) is the median, and the mean, exp(η + σ²/2), lies above it."
        )

    def equations(self, *, counts: bool = False) -> tuple[str, ...]:
        """Return the same as a line of algebra."""
        return ("log(y_i) ∼ Normal(η_i, σ^2)",)

    def describe(self) -> str:
        """Return the family in words, for tables and the report."""
        return "lognormal, eta the logarithm of the median"


@dataclass(frozen=True)
class ShiftedLognormal(Lognormal):
    """A response time that is lognormal beyond a shift, the time that no decision is faster than.

    Parameters
    ----------
    ndt
        The shift, in the unit of the response; None to be estimated.
    """

    ndt: Any = None

    @property
    def compiled(self) -> Compiled | None:
        """None: what is normally distributed depends on the shift."""
        return None

    def own(self, response: Array) -> tuple[Own, ...]:
        """Return sigma and the shift, which lies between zero and the fastest response."""
        fastest = float(np.min(response))
        return (*super().own(response), Own("ndt", ("ndt",), "interval", ("uniform", (0.0, fastest)), 0.0, fastest))

    def mean(self, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the shift + exp(eta + sigma^2 / 2), elementwise."""
        return self.ndt + super().mean(eta, maths)

    def log_density(self, response: Any, trials: Any, eta: Any, maths: Maths = NUMPY) -> Any:
        """Return the lognormal log-density of the time beyond the shift, elementwise."""
        return super().log_density(response - self.ndt, trials, eta, maths)

    def derivatives(self, response: Array, trials: Array, eta: Array) -> Derivatives:
        """Return the log-density and its derivatives by eta, elementwise."""
        return self._derivatives(np.log(response - self.ndt), eta, self.log_density(response, trials, eta))

    def linear_predictor(self, mean: npt.ArrayLike) -> Array:
        """Return eta with this mean; minus infinity at the shift and below."""
        return super().linear_predictor(np.asarray(mean, dtype=float) - self.ndt)

    def draw(self, rng: np.random.Generator, trials: npt.ArrayLike, eta: npt.ArrayLike) -> Array:
        """Draw response times."""
        return np.asarray(self.ndt + super().draw(rng, trials, eta))

    def narrate(self, response: str) -> str:
        """Return in words how the response follows from eta."""
        return (
            f"{response} of trial i is a shift t (ndt, the time that no response is faster than) and a time beyond it, "
            "whose logarithm is normally distributed around η with a standard deviation σ; both are estimated. So "
            "t + exp(η) is the median, and the mean, t + exp(η + σ²/2), lies above it."
        )

    def equations(self, *, counts: bool = False) -> tuple[str, ...]:
        """Return the same as a line of algebra."""
        return ("log(y_i − t) ∼ Normal(η_i, σ^2)",)

    def describe(self) -> str:
        """Return the family in words, for tables and the report."""
        return "shifted lognormal, eta the logarithm of the median beyond the shift"
