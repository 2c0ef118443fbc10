"""Maximum likelihood where a lapse or guess rate is estimated too: what planning fits where nobody knows the rate.

In: a model and trials, and what else is known of the rate.  Out: `Profiled`, estimates whose standard errors know that
the rates were estimated, for `psychostats.effects`.  Knows no file, no interval and no simulation.

From the same trials (`fit_rates`), the likelihood is maximised over phi and the rates together.  With H the joint
Hessian, the phi part of its inverse is that of the fixed rates plus d S d', d = -H_pp^-1 H_pl = d phi / d rate along
the profile and S the inverse curvature of the profile: the profile's adjustment.  A rate has an end at 0.  Where the
profile falls from there the maximum lies at that end, and everything is as with a rate fixed at 0, the standard errors
too: they do not know that the rate might have been larger.

Laplace's approximation falls short of the likelihood by more the larger the rate, where levels have few binary trials
and large effects, and so draws the rate towards 0; of a level's hundreds of trials it says the right thing.
`tests/psychostats/test_profiled.py` holds both against quadrature.  Hence `fit_known`: the rate comes from elsewhere,
such as catch trials, with a standard error s, and phi's covariance is that of the rate fixed there plus d s^2 d'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.columns import order_levels
from psychostats.design import Coding, Design, code
from psychostats.errors import InputError, NoMaximumError
from psychostats.estimates import Estimates, label_maximum
from psychostats.family import Family
from psychostats.intervals import Interval
from psychostats.laplace import Laplace
from psychostats.maximum import (
    Maximum,
    Method,
    back_of,
    conclude,
    maximise_mixed,
    objective,
    phi_of,
    settle,
)
from psychostats.mixed import Mixed, prepare
from psychostats.optimum import Function, minimise, positive
from psychostats.predictor import Parameters
from psychostats.rows import select_rows
from psychostats.spec import ModelSpec
from psychostats.threads import one_thread
from psychostats.uncertainty import Delta

Array: TypeAlias = npt.NDArray[np.float64]

#: The rates that can be estimated.
RATES = ("guess", "lapse")
#: A rate below this is 0: differences for its curvature would reach beyond the end.
EDGE = 1e-4
# Of the difference that begins the search, and how often rates may be set free or held.
_STEP, _ROUNDS = 1e-3, 5


@dataclass(frozen=True)
class RatesMaximum:
    """Where the likelihood is largest over a model's parameters and rates of its family.

    Parameters
    ----------
    maximum
        The covariance holds the rates last, in the order of `rates`; zero for one at its end.
    rates
        By name.
    at_end
        Those of them that are 0, the end of their range.
    """

    maximum: Maximum
    rates: Mapping[str, float]
    at_end: tuple[str, ...]


@dataclass(frozen=True)
class Profiled:
    """A model fitted by maximum likelihood with rates of its own, as `psychostats.effects` take it.

    Parameters
    ----------
    spec
        The model; a rate that was estimated is None.
    coding, data
        How the trials were coded, and their columns.
    estimates
        Labelled, as of the model with the rates given.
    rates, at_end
        As of `RatesMaximum`.
    """

    spec: ModelSpec
    coding: Coding
    data: pd.DataFrame
    estimates: Estimates
    rates: Mapping[str, float]
    at_end: tuple[str, ...]

    @property
    def interval(self) -> Interval:
        """The intervals of its tables."""
        return Interval("wald")

    @property
    def uncertainty(self) -> Delta:
        """What the rows of `parameters` are."""
        return self.estimates.uncertainty

    def parameters(self) -> Parameters:
        """Return the estimate and the points around it, rates among them."""
        return self.estimates.parameters(self.rates)

    def rate_sds(self) -> dict[str, float]:
        """Return the standard errors of the rates; NaN at the end of their range."""
        last = np.diag(self.estimates.maximum.covariance)[-len(self.rates) :]
        return {
            name: np.nan if name in self.at_end else float(np.sqrt(variance))
            for name, variance in zip(self.rates, last, strict=True)
        }


def fit_rates(
    spec: ModelSpec, trials: pd.DataFrame, rates: Sequence[str] = ("lapse",), *, start: Maximum | None = None
) -> Profiled:
    """Fit a model by maximum likelihood, and rates of its family with it.

    Parameters
    ----------
    spec
        Its priors are not used; a rate that is not estimated is as given.
    trials
        One row a trial, all of which are analysed.
    rates
        ``lapse``, ``guess`` or both.
    start
        The maximum of the same model on the same trials at a lapse rate of 0 and the guess rate that it has, if known.

    Raises
    ------
    InputError
        If the family has no such rate, or the trials cannot be used.
    NoMaximumError
        If the likelihood has no maximum.
    """
    rows, coding, design = _coded(spec, trials)
    return _label(spec, coding, rows, design, maximise_rates(design, spec.family, rates, start=start))


def fit_known(
    spec: ModelSpec, trials: pd.DataFrame, lapse: float, sd: float, *, start: Maximum | None = None
) -> Profiled:
    """Fit a model by maximum likelihood at a lapse rate that other trials gave, with a standard error.

    Parameters
    ----------
    spec, trials
        As of `fit_rates`.
    lapse, sd
        The rate and its standard error; other trials than these gave it.
    start
        The maximum of the same model on the same trials at another rate.

    Raises
    ------
    InputError
        If the family has no such rate, or the trials cannot be used.
    NoMaximumError
        If the likelihood has no maximum at that rate.
    """
    rows, coding, design = _coded(spec, trials)
    _require_rates(spec.family, ["lapse"])
    family = replace(spec.family, lapse=lapse)
    Method().require(family)
    with one_thread():
        mixed = prepare(design)
        best = maximise_mixed(mixed, family, Method(), start=start)
        search = _Search(mixed, family, ("lapse",))
        phi, hessian = phi_of(mixed, best)
        cross = search.curvature(np.array([lapse]), [0], phi, hessian)[:-1, -1]
        moved = back_of(mixed) @ -np.linalg.solve(hessian, cross)  # d (b, elements) / d rate
    size = len(moved)
    covariance = np.zeros((size + 1, size + 1))
    covariance[:size, :size] = best.covariance[:size, :size] + sd**2 * np.outer(moved, moved)
    covariance[size, :size] = covariance[:size, size] = sd**2 * moved
    covariance[size, size] = sd**2
    made = RatesMaximum(replace(best, covariance=covariance), {"lapse": lapse}, () if sd > 0 else ("lapse",))
    return _label(spec, coding, rows, design, made)


def _coded(spec: ModelSpec, trials: pd.DataFrame) -> tuple[pd.DataFrame, Coding, Design]:
    rows, _ = select_rows(spec, order_levels(trials))
    coding = code(spec.formula, rows)
    return rows, coding, coding.design(rows, spec.family.response)


def _label(spec: ModelSpec, coding: Coding, rows: pd.DataFrame, design: Design, found: RatesMaximum) -> Profiled:
    unknown: dict[str, Any] = dict.fromkeys(found.rates)
    open_spec = replace(spec, family=replace(spec.family, **unknown), priors=())
    estimates = label_maximum(found.maximum, design, rows)
    return Profiled(open_spec, coding, rows.reset_index(drop=True), estimates, found.rates, found.at_end)


def _require_rates(family: Family, rates: Sequence[str]) -> None:
    if not family.binary:
        raise InputError(f"the family {family.name} has no guess or lapse rate to estimate.")
    if not rates or len(set(rates)) < len(rates) or set(rates) - set(RATES):
        raise InputError(f"rates to estimate are {', '.join(RATES)} or both; {', '.join(rates) or 'none'} were given.")


def maximise_rates(
    design: Design, family: Family, rates: Sequence[str] = ("lapse",), *, start: Maximum | None = None
) -> RatesMaximum:
    """Maximise the likelihood over a model's parameters and rates of its family.

    Parameters
    ----------
    design
        Coded trials.
    family
        Of answers. The search begins at the guess rate that it has and a lapse rate of 0.
    rates
        ``lapse``, ``guess`` or both.
    start
        The maximum where the search begins, if known.

    Raises
    ------
    InputError
        If the family has no rates, or others are asked for.
    NoMaximumError
        If the likelihood has no maximum, with the rates where the search begins or where they lead.
    """
    _require_rates(family, rates)
    begin = np.array([0.0 if name == "lapse" else float(family.guess or 0.0) for name in rates])
    given = replace(family, **dict(zip(rates, begin.tolist(), strict=True)))
    if "lapse" not in rates:
        Method().require(given)
    with one_thread():
        mixed = prepare(design)
        first = start or maximise_mixed(mixed, given, Method())
        return _Search(mixed, given, tuple(rates)).run(first, begin)


class _Search:
    """The search for rates, those at their end held there; one object serves one fit."""

    def __init__(self, mixed: Mixed, family: Family, names: tuple[str, ...]):
        self.mixed, self.family, self.names = mixed, family, names
        self.laplace: Laplace = objective(mixed, family, Method())
        self.evaluations = 0

    def run(self, first: Maximum, begin: Array) -> RatesMaximum:
        """Search from the maximum at the rates where the search begins."""
        phi, hessian = phi_of(self.mixed, first)
        rates, held, best = begin, set[int](), first
        every = list(range(len(rates)))
        slopes = self._function(rates, every)(np.concatenate([phi, rates]))[1][len(phi) :]
        # Where the likelihood falls from 0, the rate is 0.
        held = {i for i in every if rates[i] < EDGE and slopes[i] >= 0}
        for _ in range(_ROUNDS):
            free = [i for i in every if i not in held]
            if not free:
                return self._result(replace(best, evaluations=best.evaluations + self.evaluations), rates, free)
            function = self._function(rates, free)
            x = np.concatenate([phi, rates[free]])
            begin = positive(self.curvature(rates, free, phi, hessian))
            found = settle(function, minimise(function, x, begin), self.mixed)
            ends = [i for i, rate in zip(free, found.x[len(phi) :], strict=True) if rate < EDGE]
            if ends:  # it climbed from there, but by less than differences can tell
                held |= set(ends)
                rates = rates.copy()
                rates[ends] = 0.0
                self.laplace.family = self._family(rates)
                best = maximise_mixed(self.mixed, self.laplace.family, Method(), start=best)
                phi, hessian = phi_of(self.mixed, best)
                continue
            rates = rates.copy()
            rates[free] = found.x[len(phi) :]
            self.laplace.family = self._family(rates)
            made = conclude(self.mixed, self.laplace, found, len(free))
            phi = found.x[: len(phi)]
            slopes = self._function(rates, every)(np.concatenate([phi, rates]))[1][len(phi) :]
            loose = {i for i in held if slopes[i] < -1e-6}
            if not loose:
                return self._result(replace(made, evaluations=first.evaluations + self.evaluations), rates, free)
            held -= loose
            hessian = found.hessian[: len(phi), : len(phi)]
        raise NoMaximumError(f"no maximum of the likelihood was found over the rates {', '.join(self.names)}.")

    def _family(self, rates: Array) -> Family:
        return replace(self.family, **dict(zip(self.names, rates.tolist(), strict=True)))

    def _function(self, rates: Array, free: list[int]) -> Function:
        """Return minus the log-likelihood and its gradient, of phi and the free rates."""
        names = [self.names[i] for i in free]

        def function(x: Array) -> tuple[float, Array]:
            self.evaluations += 1
            k = len(x) - len(free)
            here = rates.copy()
            here[free] = x[k:]
            family = self._family(here)
            if (here < 0).any() or family.guess + family.lapse >= 1:
                return np.inf, np.zeros(len(x))
            self.laplace.family = family
            return self.laplace.gradient(x[:k], names)

        return function

    def curvature(self, rates: Array, free: list[int], phi: Array, hessian: Array) -> Array:
        """Return the Hessian of phi and the free rates, that of phi known, by a difference in each rate."""
        k, function = len(phi), self._function(rates, free)
        joint = np.zeros((k + len(free), k + len(free)))
        joint[:k, :k] = hessian
        x = np.concatenate([phi, rates[free]])
        here = function(x)[1]
        for i in range(k, len(x)):
            move = np.zeros(len(x))
            move[i] = _STEP
            above, below, step = function(x + move)[1], here, _STEP
            if x[i] > 2.0 * _STEP:
                below, step = function(x - move)[1], 2.0 * _STEP
            joint[i] = joint[:, i] = (above - below) / step
        return joint

    def _result(self, made: Maximum, rates: Array, free: list[int]) -> RatesMaximum:
        """Give every rate its place in the covariance, those at their end without variance."""
        size = len(made.covariance) - len(free)
        places = [*range(size), *(size + i for i in free)]
        covariance = np.zeros((size + len(rates), size + len(rates)))
        covariance[np.ix_(places, places)] = made.covariance
        ends = tuple(name for i, name in enumerate(self.names) if i not in free)
        return RatesMaximum(
            replace(made, covariance=covariance), dict(zip(self.names, rates.tolist(), strict=True)), ends
        )
