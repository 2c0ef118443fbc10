"""Does the model fit, and were its priors sensible? Posterior and prior predictive accuracy, as tidy tables.

In: a `Fit` and labels of its trials.  Out: data frames of observed against predicted accuracy, by group or along the
predicted probability, and of what the priors alone would predict.  Whether a fit may be read at all is
`psychostats.convergence`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, sparse, stats

from psychostats.design import Block
from psychostats.errors import InputError
from psychostats.family import TINY
from psychostats.fit import Fit
from psychostats.intervals import Interval
from psychostats.monotonic import Monotonic, expand, find_monotonic, plain_columns
from psychostats.predictor import Parameters, probability, row_blocks
from psychostats.priors import Prior, correlation_cholesky, partial_correlation_shapes

Array: TypeAlias = npt.NDArray[np.float64]

PREDICTIVE_DRAWS = 500
PRIOR_DRAWS = 2000
CALIBRATION_DRAWS = 1000

#: Cells of neighbouring predictions that `calibration` makes at most; a curve of so many steps is one to the eye.
CALIBRATION_CELLS = 1000

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
    replicated = np.zeros((len(parameters.b), groups))
    for rows, eta, family in row_blocks(design, parameters, fit.spec.family):
        answers = family.draw(rng, design.trials[rows], eta)
        replicated += _sums(answers, group[rows], groups)
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


def calibration(
    fit: Fit, *, draws: int = CALIBRATION_DRAWS, seed: int = 1, interval: Interval | None = None
) -> pd.DataFrame:
    """Compare the share of correct answers with the predicted probability, over the range of predictions.

    Trials are sorted by their predicted probability, and the share of correct answers is made to rise with it by
    isotonic regression (pool adjacent violators), so that no bins have to be chosen.  The same is done to data drawn
    from these predictions, whose curves give the band.  Source: Dimitriadis, Gneiting and Jordan (2021), the CORP
    reliability diagram with its consistency band.

    A trial is predicted from all others (leave-one-out, by importance sampling), not from itself as well: people and
    items have few trials each, so that their effects are drawn towards the mean, and predictions of the very trials
    that made them look too even. Simulated, true models of 100 people with 40 trials each, crossed with 48 items: 39
    to 53 % of the curve lay outside a 95 % band of the posterior predictive; predicted from the others, 1 to 9 %.
    The band is that of independent answers. With effects of one group alone, whose levels' trials share their
    prediction, it is too narrow still: a fifth to a third of the curve lay outside.

    Parameters
    ----------
    fit
        A fit of answers that holds draws.
    draws
        Posterior draws to use, evenly spaced.
    seed
        Of the data that are drawn.
    interval
        Kind and probability of the band, at each prediction by itself.

    Returns
    -------
    DataFrame
        One row a cell of trials with (nearly) the same prediction, in their order: ``predicted``, ``n`` (trials),
        ``observed`` (the isotonic share), ``estimate`` (mean of the curves of the data drawn), ``conf_low``,
        ``conf_high``, ``conf_level``, ``interval`` and ``inside``.

    Raises
    ------
    InputError
        If answers are not right or wrong, or the fit is a maximum of the likelihood.
    """
    if not fit.spec.family.binary:
        raise InputError(f"calibration is of answers that are right or wrong; {fit.spec.family.name} has none.")
    if fit.is_maximum:
        raise InputError("calibration leaves trials out by weighing draws; fit with --engine pymc.")
    interval = interval or fit.interval
    predicted, right, count = _given_the_others(fit, draws)
    cell = _cells(predicted, count)
    n = np.bincount(cell, count).astype(float)
    at = np.clip(np.bincount(cell, count * predicted) / n, 0.0, 1.0)
    observed = _isotonic(np.bincount(cell, count * right) / n, n)
    rng = np.random.default_rng(seed)
    drawn = rng.binomial(n.astype(np.int64), at, (PREDICTIVE_DRAWS, len(n))) / n
    curves = np.stack([_isotonic(share, n) for share in drawn])
    low, high = interval.of_draws(curves)
    return pd.DataFrame(
        {
            "predicted": at,
            "n": n.astype(int),
            "observed": observed,
            "estimate": curves.mean(axis=0),
            "conf_low": low,
            "conf_high": high,
            "conf_level": interval.probability,
            "interval": interval.kind,
            # Pooled shares of the same trials differ by rounding.
            "inside": (observed >= low - 1e-12) & (observed <= high + 1e-12),
        }
    )


def _given_the_others(fit: Fit, draws: int) -> tuple[Array, Array, Array]:
    """Return the probability of a right answer given all other trials, whether the answer was right, and how often.

    One row for the right and one for the wrong answers of a row of the design.  The density of an answer given the
    others is the harmonic mean of its densities over the draws (Gelfand, Dey and Chang 1992): of a single answer,
    right or wrong, weights that vary little, so that they are not smoothed.
    """
    design, parameters = fit.design, fit.parameters(most=draws)
    right, wrong = np.empty(len(design.X)), np.empty(len(design.X))
    for rows, eta, family in row_blocks(design, parameters, fit.spec.family):
        right[rows] = 1.0 / np.mean(1.0 / np.maximum(family.mean(eta), TINY), axis=0)
        wrong[rows] = 1.0 - 1.0 / np.mean(1.0 / np.maximum(family.miss(eta), TINY), axis=0)
    count = np.concatenate([design.successes, design.trials - design.successes])
    given = count > 0
    was_right = np.repeat([1.0, 0.0], len(design.X))
    return np.concatenate([right, wrong])[given], was_right[given], count[given]


def _cells(predicted: Array, trials: Array) -> npt.NDArray[np.int64]:
    """Return the cell of each row: rows of one prediction, or `CALIBRATION_CELLS` of about as many trials each."""
    values, cell = np.unique(np.round(predicted, 12), return_inverse=True)
    if len(values) <= CALIBRATION_CELLS:
        return np.asarray(cell, dtype=np.int64)
    order = np.argsort(predicted, kind="stable")
    before = np.cumsum(trials[order]) - trials[order]
    place = np.floor(CALIBRATION_CELLS * before / trials.sum()).astype(np.int64)
    cell = np.empty(len(order), dtype=np.int64)
    cell[order] = np.unique(place, return_inverse=True)[1]
    return cell


def _sums(values: Array, group: npt.NDArray[Any], groups: int) -> Array:
    """Return the sums of columns by group, shape ``(draws, groups)``."""
    belongs = sparse.csr_array((np.ones(len(group)), (np.arange(len(group)), group)), shape=(len(group), groups))
    return np.asarray(values @ belongs)


def _isotonic(share: Array, n: Array) -> Array:
    return np.asarray(optimize.isotonic_regression(share, weights=n).x)


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
    family = fit.spec.family.at(parameters.family, coding.scale(grid))
    p = probability(family, coding.fixed(grid), coding.offset(grid), coding.random(grid), parameters, "population")
    levels = list(dict.fromkeys(grid[factor]))
    means = np.stack([p[:, (grid[factor] == level).to_numpy()].mean(axis=1) for level in levels], axis=1)
    return pd.DataFrame(
        {
            "draw": np.repeat(np.arange(draws), len(levels)),
            factor: pd.Categorical(np.tile(levels, draws), categories=levels),
            "accuracy": means.ravel(),
        }
    )


def _draw_shares(rng: np.random.Generator, law: Mapping[str, Prior], effect: Monotonic, size: int) -> Array:
    """Draw the simplex of a monotonic effect; that of a single step is the whole way."""
    steps = len(effect.columns)
    return (
        rng.dirichlet(np.full(steps, law[effect.simplex].distribution.args[0]), size)
        if steps > 1
        else np.ones((size, 1))
    )


def draw_priors(
    rng: np.random.Generator, priors: Sequence[Prior], names: Sequence[str], blocks: Sequence[Block], size: int
) -> Parameters:
    """Draw fixed effects, covariances and the family's parameters from the priors, without effects of levels."""
    law = {prior.name: prior for prior in priors}
    effects = find_monotonic(names)
    plain = [law[f"b_{names[place]}"].draw(rng, size) for place in plain_columns(effects, len(names))]
    b = np.stack(plain, axis=1) if plain else np.zeros((size, 0))
    if effects:
        bsp = np.stack([law[effect.term].draw(rng, size) for effect in effects], axis=1)
        b = expand(b, bsp, [_draw_shares(rng, law, effect, size) for effect in effects], effects, len(names))
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
    thresholds = [prior for prior in priors if prior.part == "Intercept"]
    if thresholds:  # independent laws, cut to where they are in order
        family["thresholds"] = np.sort(np.stack([prior.draw(rng, size) for prior in thresholds], axis=1), axis=1)
    scales = [prior for prior in priors if prior.part == "disc"]
    if scales:
        family["disc"] = np.stack([prior.draw(rng, size) for prior in scales], axis=1)
    return Parameters(b, tuple(covariance), family=family)
