"""How well a model predicts what it has not seen, by fitting again: K-fold cross-validation.

In: a `Fit` that holds draws, what is left out, and how many folds.  Out: `Folded`, the log predictive density of every
unit by the fit that has not seen its fold.  Knows no other fit; what a unit's density is, is `psychostats.loo`'s.

Nothing is importance-sampled, so it holds where Pareto's k does not.  Every refit keeps the whole design (its columns,
levels and priors) and leaves out rows, so that one compiled model serves all folds.  A refit is a pure function of the
fit and the fold's number, so it does not matter who does it (`psychostats.executors`).  A level without rows is drawn
from its normal law, as a new one would be; where it belongs to one unit alone it is integrated instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from psychostats.convergence import converged
from psychostats.design import Design
from psychostats.draws import Draws
from psychostats.engines import resolve_engine, run
from psychostats.errors import InputError
from psychostats.executors import Executor, Local
from psychostats.family import Family
from psychostats.fit import Fit
from psychostats.integral import NODES, Outcomes
from psychostats.loo import (
    INTEGRATED_DRAWS,
    TRIAL,
    Loo,
    distinct,
    outcome_densities,
    own_levels,
    thin,
    unit_codes,
    unit_densities,
)
from psychostats.predictor import Parameters, plural, take_rows
from psychostats.priors import Prior
from psychostats.sampling import Settings
from psychostats.spec import ModelSpec

Array: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.int64]

#: Folds, as the R package loo has them.
FOLDS = 10


@dataclass(frozen=True)
class Folded(Loo):
    """The predictive density of every unit given the other folds.

    `Loo`'s fields mean the same here: ``p_i`` is how much higher the density of a unit is given all trials, and ``k``
    is NaN, since nothing was importance-sampled.

    Parameters
    ----------
    fold
        Which fold each unit was left out with, from 1.
    folds, seed
        How many there are, and the seed by which units were put into them.
    failed
        Folds whose refit did not converge.
    """

    fold: Index = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    folds: int = 0
    seed: int = 0
    failed: tuple[int, ...] = ()

    @property
    def bad(self) -> npt.NDArray[np.bool_]:
        """Which units have a k above the threshold: none, since there is no k."""
        return np.zeros(len(self.elpd_i), dtype=bool)


def kfold(
    fit: Fit,
    unit: str = TRIAL,
    folds: int = FOLDS,
    *,
    seed: int = 1,
    labels: npt.ArrayLike | None = None,
    position: Index | None = None,
    progress: Callable[[int, int], None] = lambda done, folds: None,
    executor: Executor | None = None,
) -> Folded:
    """Leave out every fold in turn and fit again.

    Parameters
    ----------
    fit
        A fit that holds draws; it is fitted again with its own priors and settings.
    unit
        ``trial``, or a grouping factor of the model, whose levels are left out whole.
    folds
        How many, from 2 to the number of units; as many as there are units leaves out one at a time. Their sizes
        differ by one unit at most.
    seed
        Of the folds.
    labels
        As for `psychostats.loo.loo`.
    position
        For trials, the place of each row of the fit in an order that several fits share, so that all get the same
        folds; the order of the rows by default.
    progress
        Called with how many folds are done, and their number, after each refit.
    executor
        Who fits again, `psychostats.executors`; this process by default. Numbers do not depend on it.

    Returns
    -------
    Folded
        Source: Vehtari, Gelman and Gabry (2017), section 2.3; each refit's density is averaged over its draws.

    Raises
    ------
    InputError
        If the fit is a maximum of the likelihood, the unit is unknown, or there are too few or too many folds.
    """
    if fit.is_maximum:
        raise InputError("a maximum of the likelihood has no draws to predict with; fit with --engine pymc.")
    executor = executor or Local(1)
    design, chains = fit.design, fit.draws_table.posterior.sizes["chain"]
    everything, model = fit.parameters(), Refitted.of(fit)
    if unit == TRIAL:
        outcomes, (rows, place) = distinct(design, fit.spec.family)
        order = np.arange(len(rows)) if position is None else np.argsort(position[rows], kind="stable")
        fold = np.empty(len(rows), dtype=np.int64)
        fold[order] = assign(len(rows), folds, seed, unit)
        given_all = _by_outcome(design, fit.spec.family, outcomes, everything)[place]
        elpd, failed = _every_fold(executor, _leave_trials, (model, outcomes, rows, place, fold), fold, folds, progress)
        nothing, used = np.full(len(rows), np.nan), len(everything.b)
        return Folded(unit, (), rows, elpd, given_all - elpd, nothing, used, False, fold, folds, seed, failed)
    names, code = unit_codes(fit, unit, labels)
    fold = assign(len(names), folds, seed, unit)
    own = tuple(own_levels(block, code) for block in design.blocks)
    units = _Units(code, own, chains)
    whole = units.densities(model, np.arange(len(code)), everything)
    elpd, failed = _every_fold(executor, _leave_units, (model, units, fold), fold, folds, progress)
    given_all = np.array([density for density, _ in whole])
    laplace = max(effects for _, effects in whole) > len(NODES)
    nothing, no_rows = np.full(len(names), np.nan), np.zeros(0, dtype=np.int64)
    used = len(thin(everything, chains, INTEGRATED_DRAWS).b)
    return Folded(
        unit, tuple(names), no_rows, elpd, given_all - elpd, nothing, used, laplace, fold, folds, seed, failed
    )


@dataclass(frozen=True)
class Refitted:
    """What is fitted again without a fold: all of a fit but its draws, so that it can be sent to whoever does it.

    Parameters
    ----------
    spec, design, priors, settings, data
        As the fit has them.
    engine
        That made it, and makes it again.
    """

    spec: ModelSpec
    design: Design
    priors: tuple[Prior, ...]
    settings: Settings
    data: pd.DataFrame
    engine: str

    @classmethod
    def of(cls, fit: Fit) -> Refitted:
        assert isinstance(fit.settings, Settings)
        return cls(fit.spec, fit.design, fit.priors, fit.settings, fit.data, fit.provenance["engine"])


@dataclass(frozen=True)
class _Units:
    """Levels of a group that are left out whole: the unit of each row, effects of its own, chains of the fit."""

    code: Index
    own: tuple[Any, ...]
    chains: int

    def densities(self, model: Refitted, rows: Index, parameters: Parameters) -> list[tuple[float, int]]:
        """Return the log-density of every unit of these rows, and how many effects were integrated."""
        piece, mine = take_rows(model.design, rows), np.unique(self.code[rows], return_inverse=True)[1]
        few = thin(parameters, self.chains, INTEGRATED_DRAWS)
        found = unit_densities(piece, model.spec.family, mine, list(self.own), few)
        return [(_log_mean(density), effects) for density, effects in found]


def _every_fold(
    executor: Executor,
    leave: Callable[[Any, int], tuple[Array, bool]],
    shared: Any,
    fold: Index,
    folds: int,
    progress: Callable[[int, int], None],
) -> tuple[Array, tuple[int, ...]]:
    """Fit without each fold; return the density of every unit, and the folds whose refit did not converge."""
    elpd, failed = np.empty(len(fold)), []
    with contextlib.closing(executor.run(leave, shared, range(1, folds + 1))) as results:
        for done, (number, (density, good)) in enumerate(results, start=1):
            elpd[fold == number] = density
            failed += [] if good else [number]
            progress(done, folds)
    return elpd, tuple(sorted(failed))


def _leave_trials(shared: tuple[Refitted, Outcomes, Index, Index, Index], number: int) -> tuple[Array, bool]:
    """Fit without a fold of trials; return the log-density of each of them."""
    model, outcomes, rows, place, fold = shared
    held = fold == number
    parameters, good = _refit(model, _without(model.design, rows[held], outcomes.value[place[held]]))
    some, back = np.unique(place[held], return_inverse=True)
    return _by_outcome(model.design, model.spec.family, outcomes.take(some), parameters)[back], good


def _leave_units(shared: tuple[Refitted, _Units, Index], number: int) -> tuple[Array, bool]:
    """Fit without a fold of units; return the log-density of each of them."""
    model, units, fold = shared
    out = fold[units.code] == number
    parameters, good = _refit(model, (take_rows(model.design, np.flatnonzero(~out)), ~out))
    densities = units.densities(model, np.flatnonzero(out), parameters)
    return np.array([density for density, _ in densities]), good


def assign(units: int, folds: int, seed: int, unit: str = TRIAL) -> Index:
    """Put units into folds at random, shape ``(units,)``, from 1.

    Raises
    ------
    InputError
        If there are fewer than two folds, or more than units; or the seed is negative.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be at least 0.")
    if folds < 2:
        raise InputError(f"{folds} folds were asked for; cross-validation needs 2 at least.")
    if folds > units:
        raise InputError(f"{folds} folds were asked for; there are {units:,} {plural(unit)}, so {units} at most.")
    return np.asarray(1 + np.random.default_rng(seed).permutation(units) % folds, dtype=np.int64)


def _without(design: Design, rows: Index, value: Array) -> tuple[Design, npt.NDArray[np.bool_]]:
    """Return a design without some of its trials, and which of its rows are left: a row of counts may lose a few."""
    trials = design.trials - np.bincount(rows, minlength=len(design.X))
    successes = design.successes - np.bincount(rows, value, len(design.X))
    left = trials > 0
    return take_rows(replace(design, successes=successes, trials=trials), np.flatnonzero(left)), left


def _refit(model: Refitted, kept: tuple[Design, npt.NDArray[np.bool_]]) -> tuple[Parameters, bool]:
    """Fit to what is kept, with all columns, levels and priors of the fit; return the draws, and if they converged."""
    design, rows = kept
    if model.spec.family.ordinal and len(np.unique(design.successes)) < len(np.unique(model.design.successes)):
        raise InputError("a fold holds every trial of one rating, so the others know nothing of it; use fewer folds.")
    engine, _ = resolve_engine(model.engine, model.spec)
    result, checks = run(
        engine,
        model.settings,
        design,
        model.spec,
        model.priors,
        model.data[rows],
        progress=False,
        clock=lambda stage: None,
    )
    assert isinstance(result, Draws)
    return result.parameters(design), converged(checks)


def _by_outcome(design: Design, family: Family, outcomes: Outcomes, parameters: Parameters) -> Array:
    """Return the log of each answer's density, averaged over the draws."""
    found = np.empty(len(outcomes.row))
    for part, density in outcome_densities(design, family, outcomes, parameters):
        found[part] = special.logsumexp(density, axis=0) - np.log(len(density))
    return found


def _log_mean(density: Array) -> float:
    return float(special.logsumexp(density) - np.log(len(density)))
