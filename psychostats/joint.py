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

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.compare import compare
from psychostats.design import code
from psychostats.effects import contrasts, discriminability, interactions, marginal_means
from psychostats.errors import InputError, NoMaximumError
from psychostats.fit import Fit, fit
from psychostats.marginal import comparisons
from psychostats.predictor import probability
from psychostats.results import ALL
from psychostats.settings import ModelTable
from psychostats.simulate import true_parameters
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
        The two models by maximum likelihood: AIC, and the likelihood-ratio test; empty where there is no maximum.
    truth
        In a simulated study whose people were shown a features run: ``depth`` (NaN over all), ``true``, the difference
        of the true accuracies at the trials shown, and the estimate with its interval; empty elsewhere.
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
    truth: pd.DataFrame
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
    try:
        maxima = compare(
            {
                model.name: fit(
                    model.as_maximum().spec(),
                    kept.dropna(subset=list(model.spec().formula.variables)),
                    engine="laplace",
                )
                for model in (without, both)
            }
        )
    except NoMaximumError:  # a posterior there is all the same
        maxima = pd.DataFrame()
    return Joint(
        one,
        made[without.name],
        means,
        stack(differences),
        interactions(one, factor, moderator, [table.places[0], table.places[-1]], interval=interval),
        pd.concat(between, ignore_index=True),
        stack(dprime) if dprime else pd.DataFrame(),
        compare(made),
        maxima,
        _true_differences(study, kept, one),
        len(kept),
    )


def true_accuracy(study: Study, rows: pd.DataFrame) -> npt.NDArray[np.float64] | None:
    """Return the true accuracy at each trial shown, averaged over new participants and pairs.

    Parameters
    ----------
    study
        The study file, read; ``[simulate.shown]`` says what is true.
    rows
        Analysed trials with what a features run knows of them.

    Returns
    -------
    ndarray or None
        Shape ``(rows,)``; None where the study is not simulated, or the trials are not of a run.
    """
    people = study.simulate.people() if study.study.simulated and study.simulate else None
    if people is None:
        return None
    needed = people.spec.formula.variables
    if not set(needed) <= set(rows.columns):
        return None
    answered = rows.assign(**dict.fromkeys(people.spec.formula.response.columns, 0))
    coding = code(people.spec.formula, answered)
    try:
        known = true_parameters(coding, coding.random(answered), people.truth)
    except InputError:  # its terms bear other names: the trials were not made from this file
        return None
    design = coding.design(answered)
    shown = probability(people.spec.family, design.X, design.offset, design.blocks, known, "population")
    return np.asarray(shown[0])


def _true_differences(study: Study, kept: pd.DataFrame, made: Fit) -> pd.DataFrame:
    """Compare the estimated differences, over all depths and at each, with the true ones of the trials shown."""
    factor, moderator, interval = study.effects.factor, str(study.effects.moderator), study.effects.as_interval()
    p = true_accuracy(study, kept)
    levels = list(made.coding.levels[factor])
    if p is None or len(levels) != 2:
        return pd.DataFrame()
    cells = kept.assign(p=p).pivot_table("p", [EACH, moderator], factor, observed=True).reindex(columns=levels)
    differences = (cells[levels[1]] - cells[levels[0]]).dropna()
    each = differences.groupby(level=moderator).mean()
    depths = [float(depth) for depth in each.index]
    # Over all, experiments and depths count alike, in the truth and in the estimate.
    places = kept.drop_duplicates([EACH, factor, moderator])
    overall = comparisons(made, factor, places, target="population", interval=interval)
    rows = pd.concat(
        [
            overall.assign(**{moderator: np.nan}),
            contrasts(made, factor, by={moderator: depths}, interval=interval),
        ],
        ignore_index=True,
    )
    rows = rows[(rows["scale"] == "difference") & (rows["target"] == "population")]
    return rows.assign(true=[differences.mean(), *each]).rename(columns={moderator: "depth"}).reset_index(drop=True)
