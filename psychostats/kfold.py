"""How well a model predicts what it has not seen, by fitting again: K-fold cross-validation.

In: a `Fit` that holds draws, what is left out, and how many folds.  Out: `Folded`, the log predictive density of every
unit by the fit that has not seen its fold.  Knows no other fit; what a unit's density is, is `psychostats.loo`'s.

Nothing is importance-sampled, so it holds where Pareto's k does not.  Every refit keeps the whole design (its columns,
levels and priors) and leaves out rows, so that one compiled model serves all folds.  A level without rows is drawn from
its normal law, as a new one would be; where it belongs to one unit alone it is integrated instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from psychostats.convergence import converged
from psychostats.design import Design
from psychostats.draws import Draws
from psychostats.engines import resolve_engine, run
from psychostats.errors import InputError
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
from psychostats.sampling import Settings

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
    progress: Callable[[int, int], None] = lambda fold, folds: None,
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
        Called with the fold, from 1, and their number before each refit.

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
    design, chains = fit.design, fit.draws_table.posterior.sizes["chain"]
    everything = fit.parameters()
    if unit == TRIAL:
        outcomes, (rows, place) = distinct(design, fit.spec.family)
        order = np.arange(len(rows)) if position is None else np.argsort(position[rows], kind="stable")
        fold = np.empty(len(rows), dtype=np.int64)
        fold[order] = assign(len(rows), folds, seed, unit)
        given_all = _by_outcome(design, fit.spec.family, outcomes, everything)[place]
        elpd, used, failed = np.empty(len(rows)), len(everything.b), []
        for number in range(1, folds + 1):
            held = fold == number
            progress(number, folds)
            parameters, good = _refit(fit, _without(design, rows[held], outcomes.value[place[held]]))
            failed += [] if good else [number]
            some, back = np.unique(place[held], return_inverse=True)
            elpd[held] = _by_outcome(design, fit.spec.family, outcomes.take(some), parameters)[back]
        nothing = np.full(len(rows), np.nan)
        return Folded(unit, (), rows, elpd, given_all - elpd, nothing, used, False, fold, folds, seed, tuple(failed))
    names, code = unit_codes(fit, unit, labels)
    fold = assign(len(names), folds, seed, unit)
    own = [own_levels(block, code) for block in design.blocks]

    def densities(rows: Index, parameters: Parameters) -> list[tuple[float, int]]:
        """Return the log-density of every unit of these rows, and how many effects were integrated."""
        piece, mine = take_rows(design, rows), np.unique(code[rows], return_inverse=True)[1]
        few = thin(parameters, chains, INTEGRATED_DRAWS)
        found = unit_densities(piece, fit.spec.family, mine, own, few)
        return [(_log_mean(density), effects) for density, effects in found]

    whole, used = densities(np.arange(len(code)), everything), len(thin(everything, chains, INTEGRATED_DRAWS).b)
    elpd, failed = np.empty(len(names)), []
    for number in range(1, folds + 1):
        out = fold[code] == number
        progress(number, folds)
        parameters, good = _refit(fit, (take_rows(design, np.flatnonzero(~out)), ~out))
        failed += [] if good else [number]
        elpd[fold == number] = [density for density, _ in densities(np.flatnonzero(out), parameters)]
    given_all = np.array([density for density, _ in whole])
    laplace = max(effects for _, effects in whole) > len(NODES)
    nothing, no_rows = np.full(len(names), np.nan), np.zeros(0, dtype=np.int64)
    return Folded(
        unit, tuple(names), no_rows, elpd, given_all - elpd, nothing, used, laplace, fold, folds, seed, tuple(failed)
    )


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


def _refit(fit: Fit, kept: tuple[Design, npt.NDArray[np.bool_]]) -> tuple[Parameters, bool]:
    """Fit to what is kept, with all columns, levels and priors of the fit; return the draws, and if they converged."""
    design, rows = kept
    assert isinstance(fit.settings, Settings)
    if fit.spec.family.ordinal and len(np.unique(design.successes)) < len(np.unique(fit.design.successes)):
        raise InputError("a fold holds every trial of one rating, so the others know nothing of it; use fewer folds.")
    engine, _ = resolve_engine(fit.provenance["engine"], fit.spec)
    result, checks = run(
        engine, fit.settings, design, fit.spec, fit.priors, fit.data[rows], progress=False, clock=lambda stage: None
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
