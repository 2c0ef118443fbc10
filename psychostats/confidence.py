"""Profile and bootstrap confidence intervals of a maximum of the likelihood.

In: a `Fit` of engine laplace.  Out: its table of terms with limits of either kind.  Knows the likelihood only as a
function of its parameters.

A profile limit is where the likelihood, maximised over all other parameters, has fallen so far that a likelihood-ratio
test rejects the value; it follows the likelihood's own shape, and an SD's lower limit may be 0.  A bootstrap limit is a
quantile of the estimates from data simulated by the fitted model.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, stats

from psychostats.design import Design
from psychostats.errors import FitError, InputError, NoMaximumError
from psychostats.estimates import Estimates
from psychostats.fit import Fit
from psychostats.gaussian import Gaussian
from psychostats.intervals import Interval
from psychostats.maximum import Maximum, Method, maximise, maximise_mixed, objective, theta_of, units
from psychostats.mixed import Mixed, prepare
from psychostats.optimum import Function, descend, positive, second_derivatives
from psychostats.threads import one_thread

Array: TypeAlias = npt.NDArray[np.float64]
Kind: TypeAlias = Literal["wald", "profile", "bootstrap"]

#: Bootstrap replicates; with 500 a 95 % limit has a Monte Carlo error of some tenth of a standard error.
REPLICATES = 500
# Share of replicates without a maximum above which the others speak of a selection.
_FAILED = 0.1


def confidence_intervals(
    fit: Fit,
    kind: Kind = "profile",
    *,
    probability: float = 0.95,
    terms: Sequence[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 1,
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> pd.DataFrame:
    """Return the table of terms with confidence intervals.

    Parameters
    ----------
    fit
        A maximum of the likelihood; one by REML only for ``wald`` and ``bootstrap``.
    kind
        ``wald``, ``profile`` or ``bootstrap``.
    probability
        Of the intervals.
    terms
        Those asked for, as `Fit.terms` names them; all by default.
    replicates, seed
        Of the bootstrap. The same seed gives the same limits.
    progress
        Called with how many of how many steps are done.

    Returns
    -------
    DataFrame
        Columns `psychostats.draws.TERM_COLUMNS`; ``sd`` is the Wald standard error, for ``bootstrap`` the SD of the
        replicates. A limit that the data do not give (an SD's at 0, a correlation's at -1 or 1) is that boundary.

    Raises
    ------
    InputError
        If the fit holds draws, a term is unknown, or the kind is not allowed.
    FitError
        If more than a tenth of the bootstrap replicates have no maximum.
    """
    interval = Interval(kind, probability)
    wald = Interval("wald", probability)
    table = fit.estimates.terms(wald)
    if terms is not None:
        unknown = next((term for term in terms if term not in set(table["term"])), None)
        if unknown is not None:
            raise InputError(f"the fit has no term '{unknown}'; its terms are {', '.join(table['term'])}.")
        table = table[table["term"].isin(list(terms))].reset_index(drop=True)
    if kind == "wald":
        return table
    assert isinstance(fit.settings, Method)
    with one_thread():
        if kind == "bootstrap":
            return _bootstrap(fit, table, interval, replicates, seed, progress)
        if kind != "profile":
            raise InputError(f"a {kind} interval is of draws; allowed here are wald, profile and bootstrap.")
        if fit.settings.reml:
            raise InputError("a profile is of the likelihood, not of the restricted one; fit without --reml.")
        limits = []
        for done, term in enumerate(table["term"]):
            limits.append(_profile(fit, term, probability))
            progress(done + 1, len(table))
    low, high = np.array(limits).T if limits else (np.zeros(0), np.zeros(0))
    return table.assign(conf_low=low, conf_high=high, interval=kind)


def _profile(fit: Fit, term: str, probability: float) -> tuple[float, float]:
    if term.startswith("b_"):
        return _FixedEffect(fit, term[2:]).limits(probability)
    profile = _Spread(fit, term)
    # A correlation with an SD of zero does not exist: the data say nothing of it.
    return (-1.0, 1.0) if np.isnan(profile.estimate) else profile.limits(probability)


class _Profile(ABC):
    """One parameter's profile: what is lost in log-likelihood where it is held at a value."""

    #: Where the parameter is estimated, its range, and a first guess of how far a limit is.
    estimate: float
    low, high = -np.inf, np.inf
    width: float

    @abstractmethod
    def loss(self, value: float) -> float:
        """Return the largest log-likelihood less the largest with the parameter held at `value`."""

    def limits(self, probability: float) -> tuple[float, float]:
        """Return where twice the loss is the chi-squared quantile, on either side."""
        most = float(stats.chi2.ppf(probability, 1))
        return self._limit(most, -1.0), self._limit(most, 1.0)

    def _limit(self, most: float, side: float) -> float:
        end = self.high if side > 0 else self.low
        target = float(np.sqrt(most))

        def short(value: float) -> float:
            return float(np.sqrt(max(0.0, 2.0 * self.loss(value)))) - target

        inside, reach = self.estimate, self.width * side
        for _ in range(60):
            outside = self.estimate + reach
            if (outside - end) * side >= 0:
                if short(end) < 0:
                    return float(end)
                outside = end
            if short(outside) >= 0:
                break
            inside, reach = outside, 1.6 * reach
        else:
            return float(side * np.inf)
        return float(optimize.brentq(short, inside, outside, xtol=1e-7 * abs(reach), rtol=1e-10, maxiter=60))


class _FixedEffect(_Profile):
    """A fixed effect's profile: the model without its column, whose product with the value is an offset."""

    def __init__(self, fit: Fit, name: str):
        self._fit, self._place = fit, fit.design.names.index(name)
        best = fit.estimates.maximum
        self.estimate = float(best.b[self._place])
        self.width = 2.0 * float(np.sqrt(best.covariance[self._place, self._place]))
        kept = np.arange(len(best.b)) != self._place
        self._start = replace(best, b=best.b[kept])
        self._kept = kept

    def loss(self, value: float) -> float:
        design, fit = self._fit.design, self._fit
        assert isinstance(fit.settings, Method)
        held = replace(
            design,
            names=tuple(np.array(design.names)[self._kept]),
            X=design.X[:, self._kept],
            offset=design.offset + value * design.X[:, self._place],
        )
        found = maximise(held, fit.spec.family, fit.settings, start=self._start)
        return fit.estimates.maximum.log_likelihood - found.log_likelihood


class _Spread(_Profile):
    """The profile of an SD, a correlation, or the residual SD: one coordinate of the covariance factors is held."""

    def __init__(self, fit: Fit, term: str):
        design, best, family = fit.design, fit.estimates.maximum, fit.spec.family
        assert isinstance(fit.settings, Method)
        self._mixed = prepare(design, continuous=not family.binary)
        self._units, self._sigma = units(self._mixed), best.sigma
        theta = theta_of(self._mixed, best)
        self._function: Function
        if best.sigma is None:
            self._function = objective(self._mixed, family, fit.settings).gradient
            self._best = np.concatenate([theta, self._mixed.root @ best.b])
        else:
            self._function = Gaussian(self._mixed).free_gradient
            self._best = np.append(theta, np.log(best.sigma))
        self._value = self._function(self._best)[0]
        self._hessian = positive(second_derivatives(self._function, self._best, np.eye(len(self._best))))
        terms = fit.estimates.terms(Interval("wald"))
        self.estimate, se = terms.loc[terms["term"] == term, ["estimate", "sd"]].to_numpy(dtype=float)[0]
        self.width = 1.5 * se if se > 0 else 0.3
        self._rows = self._places(design, term)
        if len(self._rows) == 2:
            self.low, self.high = -1.0, 1.0
        else:
            self.low = 0.0
        self._found: dict[float, tuple[float, Array]] = {self.estimate: (0.0, self._best)}

    def loss(self, value: float) -> float:
        """See `_Profile.loss`; each value is searched for once, from the nearest that was found before."""
        if value not in self._found:
            start = self._found[min(self._found, key=lambda known: abs(known - value))][1]

            def held(x: Array) -> tuple[float, Array]:
                height, gradient = self._function(self._hold(x, value))
                return height - self._value, self._slopes(x, value).T @ gradient

            begin = self._hold(start, value)
            x, height, *_ = descend(held, begin, *held(begin), self._hessian, 3.0)
            self._found[value] = max(0.0, height), self._hold(x, value)
        return self._found[value][0]

    def _places(self, design: Design, term: str) -> list[list[int]]:
        """Return the places within theta of the rows that the term is made of; none for the residual SD."""
        wanted: list[tuple[int, int]] = []
        for block, (g, part) in zip(design.blocks, self._mixed.parts, strict=True):
            for i, name in enumerate(block.terms):
                if term == f"sd_{block.group}__{name}":
                    wanted = [(g, part.start + i)]
                for j, later in enumerate(block.terms):
                    if term == f"cor_{block.group}__{name}__{later}":
                        wanted = [(g, part.start + i), (g, part.start + j)]
        return [[k for k, e in enumerate(self._mixed.elements) if (e.group, e.row) == key] for key in wanted]

    def _hold(self, x: Array, value: float) -> Array:
        """Return x with the parameter at `value`: rows keep their direction, or their length, as they can."""
        out = x.copy()
        if not self._rows:
            out[-1] = np.log(value)
            return out
        k = len(self._units)
        own = self._units @ x[:k]
        if len(self._rows) == 1:
            row = self._rows[0]
            size = float(np.linalg.norm(own[row]))
            sigma = float(np.exp(x[-1])) if self._sigma is not None else 1.0
            own[row] = value / sigma * (own[row] / size if size > 0 else np.eye(len(row))[-1])
        else:
            one, two = self._rows
            along, first = np.zeros(len(two)), float(np.linalg.norm(own[one]))
            along[: len(one)] = own[one] / first if first > 0 else np.eye(len(one))[-1]
            across = own[two] - (own[two] @ along) * along
            size = float(np.linalg.norm(across))
            # A correlation of -1 or 1 has lost its direction across: any will do to leave it.
            across = across / size if size > 1e-12 else np.eye(len(two))[-1]
            own[two] = np.linalg.norm(own[two]) * (value * along + np.sqrt(max(0.0, 1.0 - value**2)) * across)
        out[:k] = np.linalg.solve(self._units, own)
        return out

    def _slopes(self, x: Array, value: float) -> Array:
        """Return the derivative of `_hold`, by differences: it costs no likelihood."""
        step = 1e-6
        moves = step * np.eye(len(x))
        columns = [(self._hold(x + move, value) - self._hold(x - move, value)) / (2.0 * step) for move in moves]
        return np.array(columns).T


def _bootstrap(
    fit: Fit, table: pd.DataFrame, interval: Interval, replicates: int, seed: int, progress: Callable[[int, int], None]
) -> pd.DataFrame:
    if replicates < 20:
        raise InputError(f"{replicates} replicates are asked for; limits need 20 at least.")
    assert isinstance(fit.settings, Method)
    design, family, best = fit.design, fit.spec.family, fit.estimates.maximum
    mixed = prepare(design, continuous=not family.binary)
    found, failed = [], 0
    for done, draw in enumerate(_responses(fit, mixed, replicates, seed)):
        try:
            again = maximise_mixed(mixed.with_response(draw), family, fit.settings, start=best)
            found.append(_values(again, design, fit.data))
        except NoMaximumError:
            failed += 1
        progress(done + 1, replicates)
    if failed > _FAILED * replicates:
        raise FitError(
            f"{failed} of {replicates} bootstrap replicates have no maximum of the likelihood, so their limits would "
            "be of a selection; use profile intervals, or --engine pymc."
        )
    every = np.array(found)
    names = list(fit.estimates.terms(Interval("wald"))["term"])
    places = [names.index(term) for term in table["term"]]
    low, high = interval.of_replicates(every[:, places])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a correlation that exists in no replicate stays NaN
        sd = np.nanstd(every[:, places], axis=0, ddof=1)
    made = table.assign(sd=sd, conf_low=low, conf_high=high, interval=interval.kind)
    made.attrs["failed"] = failed
    return made


def _responses(fit: Fit, mixed: Mixed, replicates: int, seed: int) -> Iterator[Array]:
    """Simulate responses of new levels from the fitted model, each replicate from a stream of its own."""
    best, family = fit.estimates.maximum, fit.spec.family
    Lambda = mixed.factors(theta_of(mixed, best))
    known = mixed.X @ (mixed.root @ best.b) + mixed.design.offset
    for child in np.random.SeedSequence(seed).spawn(replicates):
        rng = np.random.default_rng(child)
        u = [rng.normal(size=(group.levels, group.terms)) for group in mixed.groups]
        eta = known + (best.sigma or 1.0) * mixed.push(Lambda, u)
        if best.sigma is not None:
            yield eta + best.sigma * rng.normal(size=len(eta))
        else:
            yield family.draw(rng, mixed.design.trials, eta)


def _values(maximum: Maximum, design: Design, data: pd.DataFrame) -> Array:
    table = Estimates(maximum, design.names, design.blocks, data).terms(Interval("wald"))
    return table["estimate"].to_numpy(dtype=float)
