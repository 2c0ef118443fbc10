"""All experiments in one model: what they say together, and where they differ.

In: the analysed trials of every experiment and a study that asks for it (``[joint]``).  Out: a `Joint`: two fits, with
and without the factor's change along the moderator, and what follows.  A pair is the same pair in every experiment, so
its effects are shared.  Knows no words and no figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from psychostats.compare import compare
from psychostats.effects import contrasts, discriminability, interactions, marginal_means
from psychostats.errors import InputError
from psychostats.fit import Fit, fit
from psychostats.results import ALL
from psychostats.settings import ModelTable
from psychostats.study import Study

EACH = "experiment"
"""The column that tells experiments apart."""


@dataclass(frozen=True)
class Joint:
    """One model of all experiments, and what follows.

    Parameters
    ----------
    fit, without
        With and without the factor's change along the moderator.
    means, contrasts
        Tables of `psychostats.effects`, averaged over experiments with equal weight (``experiment`` None) and in each;
        the moderator at its mean (``.at`` is ``mean``) and, averaged over experiments, at the values of the study
        (``value``).
    interaction
        The change of the contrast from the first value of the moderator to the last.
    between
        The change of the contrast from one experiment to another, for every two.
    dprime
        d' by experiment and level, and the differences; empty where answers are no two-alternative forced choice.
    predicted
        The two models by what they predict (PSIS-LOO by trial).
    maxima
        The two models by maximum likelihood: AIC, and the likelihood-ratio test.
    trials
        Of all experiments.
    """

    fit: Fit
    without: Fit
    means: pd.DataFrame
    contrasts: pd.DataFrame
    interaction: pd.DataFrame
    between: pd.DataFrame
    dprime: pd.DataFrame
    predicted: pd.DataFrame
    maxima: pd.DataFrame
    trials: int

    @property
    def headline(self) -> pd.DataFrame:
        """The contrast over all experiments, the moderator at its mean."""
        rows = self.contrasts
        return rows[(rows[".at"] == "mean") & rows[EACH].isna()]


def fit_jointly(
    study: Study, kept: pd.DataFrame, fit_to: Callable[[ModelTable, str, pd.DataFrame], Fit]
) -> Joint | None:
    """Fit all experiments in one model, where the study asks for it and there are several.

    Parameters
    ----------
    study
        The study file, read.
    kept
        The analysed trials.
    fit_to
        Fits a model to the trials of the experiment named.
    """
    if study.joint is None or EACH not in kept or kept[EACH].nunique() < 2:
        return None
    table = study.effects
    if table.moderator is None:
        raise InputError("[joint] compares models with and without the moderator's effect; [effects] names none.")
    factor, moderator, interval = table.factor, table.moderator, table.as_interval()
    both, without = study.joint.as_models(study.models[0])
    kept = kept.assign(**{EACH: kept[EACH].astype("category").cat.remove_unused_categories()})
    made = {model.name: fit_to(model, ALL, kept) for model in (both, without)}
    one = made[both.name]
    levels = list(one.coding.levels[EACH])
    at: dict[str, Any] = {moderator: list(table.places)}
    each: dict[str, Any] = {EACH: levels}

    def stack(parts: list[pd.DataFrame]) -> pd.DataFrame:
        filled = [part.assign(**{name: None for name in (EACH, moderator) if name not in part}) for part in parts]
        return pd.concat(filled, ignore_index=True)

    means = stack(
        [marginal_means(one, factor, by=by, interval=interval) for by in (None, each, at, each | at)],
    )
    differences = [
        contrasts(one, factor, by=by, interval=interval).assign(**{".at": kind})
        for by, kind in ((None, "mean"), (each, "mean"), (at, "value"), (each | at, "value"))
    ]
    between = [interactions(one, factor, EACH, [a, b], interval=interval) for a, b in combinations(levels, 2)]
    forced = one.spec.family.guess == 0.5
    dprime = [discriminability(one, factor, by=by, interval=interval) for by in (None, each)] if forced else []
    maxima = {
        model.name: fit(
            _maximum(model).spec(), kept.dropna(subset=list(model.spec().formula.variables)), engine="laplace"
        )
        for model in (without, both)
    }
    return Joint(
        one,
        made[without.name],
        means,
        stack(differences),
        interactions(one, factor, moderator, [table.places[0], table.places[-1]], interval=interval),
        pd.concat(between, ignore_index=True),
        stack(dprime) if dprime else pd.DataFrame(),
        compare(made),
        compare(maxima),
        len(kept),
    )


def _maximum(model: ModelTable) -> ModelTable:
    """Return the model without priors, which maximum likelihood has none of; an estimated lapse is set to 0."""
    return model.model_copy(update={"priors": (), "lapse": None if model.lapse == "estimate" else model.lapse})
