"""Would other priors, or more or fewer data, have moved the posterior? Power-scaling, without fitting again.

In: a `Fit` that holds draws.  Out: a table, one row a term.  Knows no sampler.

The prior, or the likelihood, is raised to a power near 1 by importance weights of the draws, and the distance between
each term's distribution before and after is measured (Kallioinen, Paananen, Bürkner and Vehtari 2024, as in their R
package priorsense). A term that moves with the prior and not with the likelihood is the prior's; one that moves with
both is where they disagree.  The law of group effects given their SDs is part of the model, no prior that is scaled.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.errors import InputError
from psychostats.fit import Fit
from psychostats.integral import Fast
from psychostats.pareto import importance
from psychostats.predictor import linear_predictor, row_parts, take_rows
from psychostats.priors import Prior
from psychostats.threads import in_threads

Array: TypeAlias = npt.NDArray[np.float64]

#: Powers that the prior and the likelihood are raised to.
POWERS = (0.99, 1.01)
#: Distance for a doubling of the power, above which a term counts as sensitive (the authors' own).
SENSITIVE = 0.05
#: Pareto's k above which weights, and so distances, are not to be relied on.
K_MAX = 0.7
# Numbers that are worked on at once, few enough to stay near the processor.
_AT_ONCE = 500_000

SENSITIVITY_COLUMNS = ("term", "prior", "likelihood", "diagnosis")
_CONFLICT, _STRONG, _NOTHING = "prior and data may disagree", "strong prior or weak data", ""


def prior_sensitivity(fit: Fit) -> pd.DataFrame:
    """Measure how much each term would move with another prior or other data.

    Parameters
    ----------
    fit
        A fit that holds draws.

    Returns
    -------
    DataFrame
        ``term``; ``prior`` and ``likelihood``, the distance (0 to 1) that the term's distribution moves for a doubling
        of that power, at powers near 1; ``diagnosis``: *prior and data may disagree* where both are `SENSITIVE` or
        more, *strong prior or weak data* where the prior alone is, else empty. ``attrs["pareto_k"]`` is the largest
        Pareto's k of the weights.

    Raises
    ------
    InputError
        If the fit is a maximum of the likelihood.
    """
    if fit.is_maximum:
        raise InputError("a maximum of the likelihood has no prior; fit with --engine pymc to ask how it matters.")
    posterior = fit.draws_table.posterior
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    flat = fit.draws_table.flat()
    terms = [str(name) for name in flat.columns if not str(name).startswith(".")]
    scaled = {"prior": log_prior(fit, flat), "likelihood": log_likelihood(fit)}
    found, worst = {}, 0.0
    for part, log_density in scaled.items():
        moved = np.zeros(len(terms))
        for power in POWERS:
            weights, k = importance((1.0 - power) * log_density.reshape(*shape, 1))
            worst = max(worst, float(k[0]))
            moved += [distance(flat[term].to_numpy(), np.exp(weights[:, 0])) for term in terms]
        found[part] = moved / np.log2(POWERS[1] / POWERS[0])
    table = pd.DataFrame({"term": terms, **found})
    strong, told = table["prior"] >= SENSITIVE, table["likelihood"] >= SENSITIVE
    table["diagnosis"] = np.select([strong & told, strong], [_CONFLICT, _STRONG], _NOTHING)
    table.attrs["pareto_k"] = worst
    return table[list(SENSITIVITY_COLUMNS)]


def log_prior(fit: Fit, flat: pd.DataFrame) -> Array:
    """Return the log-density of the priors in each draw, shape ``(draws,)``, up to a constant.

    Parameters
    ----------
    fit
        Whose priors are meant.
    flat
        Its draws, a column a term.
    """
    total = np.zeros(len(flat))
    parameters = fit.parameters()
    for prior in fit.priors:
        if prior.klass == "cor":
            total += _log_lkj(fit, prior, parameters.covariance)
        elif prior.klass == "simo":
            shares = [flat[name] for name in flat.columns if name.startswith(f"{prior.name}[")]
            total += (prior.distribution.args[0] - 1.0) * np.log(np.stack(shares)).sum(axis=0)
        else:
            total += prior.distribution.log_density(flat[prior.name].to_numpy())
    return total


def log_likelihood(fit: Fit) -> Array:
    """Return the log-density of the answers in each draw, shape ``(draws,)``, without binomial coefficients."""
    parameters = fit.parameters()
    # Outcomes of a row that were seen: of a single answer one of two.
    row, value, count = fit.spec.family.outcomes(fit.design.successes, fit.design.trials)
    parameters = parameters.by_level()

    def density(part: slice) -> Array:
        piece = take_rows(fit.design, row[part])
        family = fit.spec.family.at(parameters.family, piece.scale)
        return np.asarray(
            family.outcome_density(value[part], linear_predictor(piece, parameters), Fast()) @ count[part]
        )

    parts = row_parts(len(row), len(parameters.b), _AT_ONCE)
    return np.asarray(sum(in_threads(density, parts), np.zeros(len(parameters.b))))


def _log_lkj(fit: Fit, prior: Prior, covariance: tuple[Array, ...]) -> Array:
    """Return (eta - 1) log det of a group's correlation matrices in each draw."""
    total = np.zeros(len(covariance[0]))
    for block, S in zip(fit.design.blocks, covariance, strict=True):
        if block.group == prior.group and block.structure == "correlated":
            variances = np.log(np.diagonal(S, axis1=1, axis2=2)).sum(axis=1)
            total += (prior.distribution.args[0] - 1.0) * (np.linalg.slogdet(S)[1] - variances)
    return total


def distance(values: Array, weights: Array) -> float:
    """Return how far weights move a sample: the cumulative Jensen-Shannon distance, 0 to 1.

    Parameters
    ----------
    values
        Draws, shape ``(draws,)``.
    weights
        Their weights, which need not sum to 1; without them all draws count alike.

    Returns
    -------
    float
        The larger one of `values` and of their mirror image. Source: Nguyen and Vreeken (2015), normed as in
        priorsense.
    """
    order = np.argsort(values, kind="stable")
    x, moved = values[order], weights[order] / weights.sum()
    width = np.diff(x)
    if not width.any():
        return 0.0
    still = np.arange(1, len(x)) / len(x)
    below = np.cumsum(moved)[:-1]
    # Above a value is below it in the mirror image.
    return max(_divergence(width, still, below), _divergence(width, 1.0 - still, 1.0 - below))


def _divergence(width: Array, p: Array, q: Array) -> float:
    p, q = np.clip(p, 0.0, 1.0), np.clip(q, 0.0, 1.0)
    middle = 0.5 * (p + q)

    def integral(one: Array) -> float:
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(width @ np.where(one > 0, one * np.log2(one / middle), 0.0))

    # The terms in the difference of the two areas cancel between one direction and the other.
    return float(np.sqrt(max(integral(p) + integral(q), 0.0) / (width @ (p + q))))
