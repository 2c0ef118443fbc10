"""What the rows of a quantity are, and what they say of it: draws of a posterior, or a maximum and its surroundings.

In: quantities evaluated at every row of a fit's parameters, shape ``(rows, k)``.  Out: estimates, covariances, limits
and tests.  So any function of the parameters is evaluated row by row, once, whatever the fit was made by.  Knows no
model.

`Sampled` rows are draws.  `Delta` rows are the maximum of the likelihood and the points around it at which the delta
method takes its differences; `points` makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from psychostats.errors import InputError
from psychostats.intervals import Interval, Rope, row_of, summarise
from psychostats.multiplicity import critical_value, p_values, resolve_adjustment

Array: TypeAlias = npt.NDArray[np.float64]

#: Half the distance of the delta method's differences, in standard errors. A linear quantity loses some five digits of
#: sixteen to rounding, and a curved one errs by about the square: both below 1e-8 of its standard error.
STEP = 1e-4


@dataclass(frozen=True)
class Through:
    """The scale on which a quantity is nearly normal, where its limits are made.

    Parameters
    ----------
    inner
        The quantity on that scale, shape ``(rows,)``, or several, ``(rows, k)``: eta of a probability, the logarithm of
        a ratio. Given as values, not as a function of the quantity, since a probability that rounds to 1 no longer
        knows its eta.
    back
        Carries limits back, elementwise and increasing.
    """

    inner: Array
    back: Callable[[Array], Array]


def _same(values: Array) -> Array:
    return values


@dataclass(frozen=True)
class Sampled:
    """Rows are draws from a posterior (or one known truth, which has no spread)."""

    #: Whether marginal means average the linear predictor and are then carried to the response, as emmeans does;
    #: draws average on the scale that is asked for.
    on_link: ClassVar[bool] = False
    #: Degrees of freedom of tests.
    df: ClassVar[float] = np.nan

    def estimate(self, values: Array) -> Array:
        """Return the means, shape ``(k,)``."""
        return np.asarray(values.mean(axis=0))

    def covariance(self, values: Array) -> Array:
        """Return the covariance of the quantities, shape ``(k, k)``; NaN for a single row."""
        if len(values) < 2:
            return np.full((values.shape[1],) * 2, np.nan)
        centred = values - values.mean(axis=0)
        return np.asarray(centred.T @ centred / (len(values) - 1))

    def sd(self, values: Array) -> Array:
        """Return the standard deviations, shape ``(k,)``; NaN for a single row."""
        return np.asarray(values.std(axis=0, ddof=1)) if len(values) > 1 else np.full(values.shape[1], np.nan)

    def summarise(
        self,
        values: Array,
        interval: Interval,
        *,
        null: float | None = None,
        rope: Rope | None = None,
        through: Through | None = None,
    ) -> dict[str, Any]:
        """Summarise one quantity, shape ``(rows,)``; see `psychostats.intervals.summarise`. Draws need no `through`."""
        return summarise(values, interval, null=null, rope=rope)

    def limits(
        self,
        values: Array,
        interval: Interval,
        *,
        adjust: str = "none",
        means: int | None = None,
        through: Through | None = None,
    ) -> tuple[Array, Array]:
        """Return lower and upper limits, each of shape ``(k,)``.

        Parameters
        ----------
        values
            Shape ``(rows, k)``.
        interval
            Kind and probability.
        adjust
            ``none``, or ``mvt``: simultaneous limits, mean -+ c sd, with c such that this share of draws lies inside
            all of them (Ruppert, Wand and Carroll 2003, section 6.5); they replace the interval's kind.
        means
            Not used.
        through
            Where simultaneous limits are made; the interval's own need no other scale.

        Raises
        ------
        InputError
            If the interval is none of draws, or the adjustment is one of tests.
        """
        self.adjustment(adjust)
        low, high = interval.of_draws(values)
        if adjust == "none" or values.shape[1] < 2 or len(values) < 2:
            return low, high
        on = through or Through(values, _same)
        mean, sd = on.inner.mean(axis=0), on.inner.std(axis=0, ddof=1)
        moving = sd > 0
        most = (np.abs(on.inner - mean)[:, moving] / sd[moving]).max(axis=1, initial=0.0)
        c = np.quantile(most, interval.probability)
        return on.back(mean - c * sd), on.back(mean + c * sd)

    def tests(self, values: Array, *, adjust: str = "none", means: int | None = None) -> dict[str, Array]:
        """Return ``pd``, the share of draws on the larger side of zero, of each quantity, shape ``(k,)``."""
        return {"pd": np.maximum((values > 0).mean(axis=0), (values < 0).mean(axis=0))}

    def adjustment(self, asked: str | None, default: str = "none") -> str:
        """Return the adjustment that was asked for, by default none, or refuse one that draws do not have."""
        if asked not in (None, "none", "mvt"):
            raise InputError(
                f"the adjustment '{asked}' is of p-values, which draws do not have; allowed are none and mvt "
                "(simultaneous limits)."
            )
        return asked or "none"


@dataclass(frozen=True)
class Delta:
    """Rows are the maximum of the likelihood and the points around it that `points` made.

    Row 0 is the estimate; rows 1 to m are the estimate plus `step` times a column of L, rows m + 1 to 2 m minus it,
    where L L' is the covariance of all parameters. In these coordinates the parameters are independent with standard
    deviation 1, so a quantity's gradient is all its covariance needs.

    Parameters
    ----------
    step
        Of the differences, in standard errors.
    """

    step: float = STEP
    on_link: ClassVar[bool] = True
    df: ClassVar[float] = np.inf

    def gradient(self, values: Array) -> Array:
        """Return the quantities' gradient along the columns of L, shape ``(m, k)``."""
        if len(values) % 2 == 0:
            raise ValueError(f"{len(values)} rows are no estimate with pairs of points around it")
        m = len(values) // 2
        return np.asarray((values[1 : 1 + m] - values[1 + m :]) / (2.0 * self.step))

    def estimate(self, values: Array) -> Array:
        """Return the quantities at the maximum, shape ``(k,)``."""
        return np.asarray(values[0])

    def covariance(self, values: Array) -> Array:
        """Return the covariance of the quantities by the delta method, shape ``(k, k)``."""
        J = self.gradient(values)
        return np.asarray(J.T @ J)

    def sd(self, values: Array) -> Array:
        """Return the standard errors by the delta method, shape ``(k,)``."""
        return np.asarray(np.linalg.norm(self.gradient(values), axis=0))

    def summarise(
        self,
        values: Array,
        interval: Interval,
        *,
        null: float | None = None,
        rope: Rope | None = None,
        through: Through | None = None,
    ) -> dict[str, Any]:
        """Summarise one quantity as a row of a table of effects.

        Parameters
        ----------
        values
            Shape ``(rows,)``.
        interval
            Of kind ``wald``.
        null, rope
            Of draws; not used, and what draws say of them is NaN.
        through
            Where the limits are made; by default on the quantity's own scale.

        Returns
        -------
        dict
            See `psychostats.intervals.row_of`; ``sd`` is the standard error on the quantity's own scale.

        Raises
        ------
        InputError
            If the interval is no Wald interval.
        """
        columns = values[:, np.newaxis]
        inner = through and Through(through.inner[:, np.newaxis], through.back)
        low, high = self.limits(columns, interval, through=inner)
        return row_of(float(values[0]), float(self.sd(columns)[0]), (float(low[0]), float(high[0])), interval)

    def limits(
        self,
        values: Array,
        interval: Interval,
        *,
        adjust: str = "none",
        means: int | None = None,
        through: Through | None = None,
    ) -> tuple[Array, Array]:
        """Return Wald limits, each of shape ``(k,)``, adjusted for the family of all k quantities.

        Parameters
        ----------
        values
            Shape ``(rows, k)``.
        interval
            Of kind ``wald``.
        adjust, means
            See `psychostats.multiplicity.critical_value`.
        through
            Where the limits are made; by default on the quantities' own scale.

        Raises
        ------
        InputError
            If the interval is no Wald interval, or the adjustment is unknown.
        """
        on = through or Through(values, _same)
        estimate, se = self.estimate(on.inner), self.sd(on.inner)
        low, high = interval.of_estimate(estimate, se)
        if adjust != "none":
            c = critical_value(adjust, interval.probability, self.correlation(on.inner), means)
            low, high = estimate - c * se, estimate + c * se
        return on.back(low), on.back(high)

    def tests(self, values: Array, *, adjust: str = "none", means: int | None = None) -> dict[str, Array]:
        """Return ``z_ratio`` and the two-sided ``p_value`` of each quantity against zero, shape ``(k,)``.

        Both are NaN where nothing varies: rounding leaves differences of the order of eps / step, which are no errors.
        """
        estimate, se = self.estimate(values), self.sd(values)
        constant = se <= 1e-8 * np.maximum(1.0, np.abs(values).max(axis=0))
        z = np.where(constant, np.nan, estimate / np.where(constant, 1.0, se))
        return {"z_ratio": z, "p_value": p_values(adjust, z, self.correlation(values), means)}

    def adjustment(self, asked: str | None, default: str = "none") -> str:
        """Return the adjustment that was asked for, or refuse one that is unknown."""
        if asked is not None:
            resolve_adjustment(asked, 1, None)
        return asked or default

    def correlation(self, values: Array) -> Array:
        """Return the correlation of the quantities, shape ``(k, k)``; that of a constant with others is 0."""
        J = self.gradient(values)
        J = J / np.maximum(np.linalg.norm(J, axis=0), np.finfo(float).tiny)
        out = J.T @ J
        np.fill_diagonal(out, 1.0)
        return np.asarray(out)


Uncertainty: TypeAlias = Sampled | Delta


def points(estimate: npt.ArrayLike, covariance: npt.ArrayLike, step: float = STEP) -> Array:
    """Return the points at which `Delta` needs every quantity.

    Parameters
    ----------
    estimate
        All parameters at the maximum, shape ``(n,)``.
    covariance
        Their covariance, shape ``(n, n)``; it may be singular (a parameter that is fixed, a variance of zero):
        directions without variance are left out.
    step
        See `Delta`.

    Returns
    -------
    ndarray
        Shape ``(2 m + 1, n)``, m the rank of the covariance.

    Raises
    ------
    InputError
        If the covariance holds something else than finite numbers, or is no covariance: the maximum was not found.
    """
    centre, matrix = np.asarray(estimate, dtype=float), np.asarray(covariance, dtype=float)
    if not (np.isfinite(centre).all() and np.isfinite(matrix).all()):
        raise InputError("the estimates have no finite covariance, so there are no standard errors.")
    # Of the correlations, so that what counts as no variance does not depend on the parameters' units.
    sd = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    unit = np.where(sd > 0, sd, 1.0)
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T) / np.outer(unit, unit))
    if (values < -1e-6).any():
        raise InputError("the estimates' covariance has a negative variance, so no maximum was found.")
    kept = values > 1e-10 * max(values.max(initial=0.0), np.finfo(float).tiny)
    L = unit[:, np.newaxis] * vectors[:, kept] * np.sqrt(values[kept])
    return np.vstack([centre, centre + step * L.T, centre - step * L.T])
