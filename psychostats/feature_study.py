"""All that is asked of single features, in order: one record of tables, and its figures.

In: the main fit, and its trials with what was attached to them.  Out: `FeatureStudy`, and figures.  Writes no
sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from psychostats.errors import InputError, NoMaximumError
from psychostats.explanations import (
    COMPLEXITY,
    Complexity,
    Contribution,
    is_covariate,
    study_complexity,
    study_contribution,
)
from psychostats.feature_panels import plot_along, plot_balance, plot_features, plot_shares
from psychostats.fit import Fit
from psychostats.interpretability import (
    THRESHOLD,
    depth_thirds,
    draw_features,
    draws_interval,
    feature_accuracy,
    rank_features,
    share_above,
)
from psychostats.intervals import Interval
from psychostats.matching import BALANCED, CALIPER, REACH

#: Contributions of a features run, and what the report calls them.
CONTRIBUTIONS = {
    "contribution_subtract": "contribution (feature subtracted)",
    "contribution_reconstruct": "contribution (layer rebuilt without it)",
}


@dataclass(frozen=True)
class FeatureStudy:
    """What was found of single features.

    Parameters
    ----------
    factor, item
        Columns that make a feature.
    threshold
        Accuracy from which a feature is called interpretable.
    interval
        Of the features and shares.
    approximate
        Whether their draws are those of the normal approximation around a maximum.
    features, shares, ranked
        See `psychostats.interpretability`; `features` also holds the standardised contributions.
    by
        Column of the places of `shares`, None where there is one place.
    contributions
        By covariate, those that the trials have.
    complexity
        None where the trials have no covariates of stimuli.
    missing
        What could not be asked, in sentences.
    """

    factor: str
    item: str
    threshold: float
    interval: Interval
    approximate: bool
    features: pd.DataFrame
    shares: pd.DataFrame
    ranked: pd.DataFrame
    by: str | None
    contributions: dict[str, Contribution]
    complexity: Complexity | None
    missing: tuple[str, ...] = ()

    @property
    def levels(self) -> tuple[str, ...]:
        """The bases, in their order."""
        return tuple(str(level) for level in self.features[self.factor].cat.categories)


def study_features(
    main: Fit,
    trials: pd.DataFrame,
    *,
    factor: str = "representation",
    item: str = "pair",
    threshold: float = THRESHOLD,
    extremes: int = 5,
    contributions: Sequence[str] = tuple(CONTRIBUTIONS),
    covariates: Sequence[str] = COMPLEXITY,
    caliper: float = CALIPER,
    reach: float = REACH,
    engine: str = "laplace",
    seed: int = 1,
    say: Callable[[str], None] = lambda _: None,
    **sampling: Any,
) -> FeatureStudy:
    """Ask everything of single features that the trials allow.

    Parameters
    ----------
    main, trials
        The main fit, and its trials; what `trials` has of `contributions` and `covariates` is asked about.
    factor, item, threshold
        See `psychostats.interpretability`.
    extremes
        How many of the best and the worst features of each basis are listed.
    contributions, covariates, caliper, reach
        See `psychostats.explanations`.
    engine, sampling
        Of the refits.
    seed
        Of a maximum's draws, and of the refits.
    say
        Called with a line as each step begins.

    Returns
    -------
    FeatureStudy

    Raises
    ------
    InputError
        If the model knows nothing of single features. A refit without a maximum is not an error: it is named in
        `missing`.
    """
    say("features")
    found = draw_features(main, trials, factor=factor, item=item, seed=seed)
    by = None
    if "depth" in found.table and found.table["depth"].nunique() > 2:
        found.table["depth_third"], by = depth_thirds(found.table), "depth_third"
    interval = draws_interval(main)
    features = feature_accuracy(found, interval=interval, threshold=threshold)
    shares = share_above(found, threshold, by=by, interval=interval)
    refits = {"engine": engine} | ({} if engine == "laplace" else {"seed": seed}) | sampling
    made: dict[str, Contribution] = {}
    missing = []
    for name in contributions:
        if not is_covariate(trials, name):
            missing.append(f"The trials have no numbers {name}, so it was not asked whether it predicts anything.")
            continue
        say(name)
        try:
            made[name] = study_contribution(main, trials, name, factor=factor, item=item, **refits)
        except (NoMaximumError, InputError) as error:
            missing.append(f"With {name} in the model: {error}")
            continue
        column = made[name].scaling.column
        held = made[name].fit.data.drop_duplicates([item, factor])
        value = dict(zip(zip(held[item].astype(str), held[factor].astype(str), strict=True), held[column], strict=True))
        key = zip(features[item].astype(str), features[factor].astype(str), strict=True)
        features[column] = [value[one] for one in key]
    complexity, usable = None, [name for name in covariates if is_covariate(trials, name)]
    if usable and "stimulus" in trials:
        try:
            complexity = study_complexity(
                main, trials, usable, factor=factor, caliper=caliper, reach=reach, say=say, **refits
            )
        except (NoMaximumError, InputError) as error:
            missing.append(f"Adjusted for complexity, or on matched stimuli: {error}")
    else:
        missing.append("The trials say nothing of their stimuli's complexity, so nothing could be adjusted for it.")
    ranked = rank_features(features, extremes, factor=factor)
    approximate = main.is_maximum
    return FeatureStudy(
        factor, item, threshold, interval, approximate, features, shares, ranked, by, made, complexity, tuple(missing)
    )


def draw_feature_figures(study: FeatureStudy, *, chance: float | None = 0.5) -> dict[str, Any]:
    """Draw the figures of a study of features (plotnine), by the names that `feature_blocks` looks for.

    Parameters
    ----------
    study
        What was found.
    chance
        Accuracy of a guesser; None where it is not known.
    """
    label = study.interval.label
    common = {"factor": study.factor, "interval_label": label}
    plots: dict[str, Any] = {
        "features": plot_features(study.features, threshold=study.threshold, chance=chance, **common),
        "shares": plot_shares(study.shares, by=study.by, threshold=study.threshold, **common),
    }
    for name, found in study.contributions.items():
        log = f"log |{name.replace('_', ' ')}|" if found.scaling.transform == "log" else name.replace("_", " ")
        plots[name] = plot_along(
            study.features,
            found.line,
            covariate=found.scaling.column,
            x_label=f"{log}, in SDs within the basis",
            line_label=found.fit.interval.label,
            chance=chance,
            **common,
        )
    if study.complexity is not None:
        balance = study.complexity.balance
        by = next((name for name in ("layer", "depth") if name in balance), None)
        contrast = f"{study.levels[1]} − {study.levels[0]}"
        plots["balance"] = plot_balance(balance, by=by, contrast=contrast, limit=BALANCED)
    return plots
