"""Does the model fit, and were its priors sensible? Posterior and prior predictive accuracy, as tidy tables.

In: a `Fit` and labels of its trials.  Out: data frames of observed against predicted accuracy, and of what the priors
alone would predict.  Whether a fit may be read at all is `psychostats.convergence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse, stats

from psychostats.design import Block
from psychostats.errors import InputError
from psychostats.fit import Fit
from psychostats.intervals import Interval
from psychostats.predictor import Parameters, probability, row_blocks
from psychostats.priors import Prior, correlation_cholesky, partial_correlation_shapes

Array: TypeAlias = npt.NDArray[np.float64]

PREDICTIVE_DRAWS = 500
PRIOR_DRAWS = 2000

#: The chance, at most, that a model which is true is called a misfit by one of the rules below.
MISFIT_CHANCE = 0.001


def predictive_accuracy(
    fit: Fit,
    labels: pd.DataFrame,
    *,
    draws: int = PREDICTIVE_DRAWS,
    seed: int = 1,
    interval: Interval | None = None,
) -> pd.DataFrame:
    """Compare observed accuracy with accuracy of data replicated from the posterior, group by group.

    Parameters
    ----------
    fit
        A fit.
    labels
        Columns that make the groups, one row for each analysed trial, in the fit's order.
    draws
        Posterior draws to replicate, evenly spaced.
    seed
        Of the replicates.
    interval
        Kind and probability of the predictive interval.

    Returns
    -------
    DataFrame
        The label columns, then ``n`` (trials), ``observed``, ``estimate`` (mean of the replicates), ``conf_low``,
        ``conf_high``, ``conf_level``, ``interval`` and ``inside`` (whether the observed value lies in the interval).
    """
    design = fit.design
    if len(labels) != len(design.X):
        raise InputError(f"{len(labels)} labels were given for the fit's {len(design.X)} rows.")
    if labels.isna().any(axis=None):
        raise InputError(f"the labels {', '.join(map(str, labels.columns))} are blank in some rows; complete them.")
    interval = interval or fit.interval
    group = labels.groupby(list(labels.columns), observed=True, sort=True).ngroup().to_numpy()
    groups = int(group.max()) + 1
    rng = np.random.default_rng(seed)
    parameters = fit.parameters(most=draws)
    family = fit.spec.family.at(parameters.family)
    replicated = np.zeros((len(parameters.b), groups))
    for rows, eta in row_blocks(design, parameters):
        answers = family.draw(rng, design.trials[rows], eta)
        here = group[rows]
        belongs = sparse.csr_array((np.ones(len(here)), (np.arange(len(here)), here)), shape=(len(here), groups))
        replicated += np.asarray(answers @ belongs)
    trials = np.bincount(group, weights=design.trials, minlength=groups)
    observed = np.bincount(group, weights=design.successes, minlength=groups) / trials
    accuracy = replicated / trials
    low, high = interval.of_draws(accuracy)
    first = labels.groupby(list(labels.columns), observed=True, sort=True).size().index
    table = first.to_frame(index=False)
    return table.assign(
        n=trials.astype(int),
        observed=observed,
        estimate=accuracy.mean(axis=0),
        conf_low=low,
        conf_high=high,
        conf_level=interval.probability,
        interval=interval.kind,
        inside=(observed >= low) & (observed <= high),
    )


def most_outside(groups: int, probability: float) -> int:
    """Return how many of so many groups may lie outside their predictive interval before the model is a misfit.

    The count for a true model whose parameters are known is binomial; here the same trials made the fit, so that fewer
    groups lie outside, and the rule is lenient.
    """
    return int(stats.binom.ppf(1.0 - MISFIT_CHANCE, groups, 1.0 - probability))


def below_guess(accuracy: pd.DataFrame, guess: float) -> pd.DataFrame:
    """Return the rows of ``n, correct, accuracy`` whose accuracy lies below the guess rate by more than chance."""
    few = stats.binom.cdf(accuracy["correct"], accuracy["n"], guess) < MISFIT_CHANCE
    return accuracy.loc[np.asarray(few, dtype=bool), :]


def prior_predictive_accuracy(fit: Fit, factor: str, *, draws: int = PRIOR_DRAWS, seed: int = 1) -> pd.DataFrame:
    """Return the population accuracy at each level of a factor that the priors alone predict.

    Other predictors are held at their mean.

    Parameters
    ----------
    fit
        A fit; only its design and priors are used, not its draws.
    factor
        Factor of the model.
    draws
        Draws from the prior.
    seed
        Of the draws.

    Returns
    -------
    DataFrame
        ``draw``, `factor` and ``accuracy``, one row a draw and level.
    """
    coding = fit.coding
    grid = coding.grid({factor: coding.levels[factor]} if factor in coding.levels else {})
    parameters = draw_priors(np.random.default_rng(seed), fit.priors, fit.design.names, fit.design.blocks, draws)
    p = probability(
        fit.spec.family, coding.fixed(grid), coding.offset(grid), coding.random(grid), parameters, "population"
    )
    levels = list(dict.fromkeys(grid[factor]))
    means = np.stack([p[:, (grid[factor] == level).to_numpy()].mean(axis=1) for level in levels], axis=1)
    return pd.DataFrame(
        {
            "draw": np.repeat(np.arange(draws), len(levels)),
            factor: pd.Categorical(np.tile(levels, draws), categories=levels),
            "accuracy": means.ravel(),
        }
    )


def draw_priors(
    rng: np.random.Generator, priors: Sequence[Prior], names: Sequence[str], blocks: Sequence[Block], size: int
) -> Parameters:
    """Draw fixed effects, covariances and the family's parameters from the priors, without effects of levels."""
    law = {prior.name: prior for prior in priors}
    b = np.stack([law[f"b_{name}"].draw(rng, size) for name in names], axis=1)
    covariance = []
    for block in blocks:
        sd = np.stack([law[f"sd_{block.group}__{term}"].draw(rng, size) for term in block.terms], axis=1)
        q = len(block.terms)
        L = np.broadcast_to(np.eye(q), (size, q, q))
        if block.structure == "correlated":
            shapes = partial_correlation_shapes(q, law[f"cor_{block.group}"].distribution.args[0])
            L = correlation_cholesky(2.0 * rng.beta(shapes, shapes, size=(size, len(shapes))) - 1.0)
        scaled = sd[:, :, np.newaxis] * L
        covariance.append(scaled @ np.swapaxes(scaled, -1, -2))
    family = {name: law[name].draw(rng, size) for name in law if law[name].klass == name}
    thresholds = [prior for prior in priors if prior.name.startswith("b_Intercept[")]
    if thresholds:  # independent laws, cut to where they are in order
        family["thresholds"] = np.sort(np.stack([prior.draw(rng, size) for prior in thresholds], axis=1), axis=1)
    return Parameters(b, tuple(covariance), family=family)
