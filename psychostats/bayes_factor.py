"""How much the data speak for a coefficient of zero: the Savage-Dickey Bayes factor, never without its prior's width.

In: a `Fit` that holds draws, and the name of a fixed effect.  Out: a table of three rows, the prior's scale halved, as
it is, and doubled.  Knows no sampler.

BF01 is the posterior density at 0 over the prior density at 0 (Dickey 1971): how much more likely the data are with the
coefficient at 0 than with its prior, all else being the same.  For another scale nothing is fitted again:
BF01' = BF01 / E[p'(b) / p(b)], p and p' the two priors and the mean over the posterior of p, taken with
Pareto-smoothed weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from psychostats.errors import InputError, nearest
from psychostats.fit import Fit
from psychostats.mixing import diagnose
from psychostats.pareto import importance
from psychostats.priors import Distribution, Prior
from psychostats.sensitivity import K_MAX
from psychostats.sentences import say_bayes_factor

Array: TypeAlias = npt.NDArray[np.float64]

BAYES_FACTOR_COLUMNS = ("term", "scale", "prior", "bf01", "bf10", "mc_error", "bf01_normal", "pareto_k", "note")

#: What the prior's scale is multiplied by.
SCALES = {"halved": 0.5, "as it is": 1.0, "doubled": 2.0}
#: Distributions of a coefficient, all with their scale last.
_SCALED = ("normal", "student_t", "cauchy")
#: Notes of a row.
BOUND, UNRELIABLE = "upper bound", "unreliable"

# Parts of the chains that the jackknife leaves out in turn; each must be far longer than draws remember.
_PARTS = 20
# Quantiles at which the spline has its knots. With 1,000 independent draws the bias of the log-density stays below 0.1
# (skewed and long-tailed laws: 0.2) up to the outermost 0.5 % of the draws; a kernel's is 0.1 to 0.5 there.
_KNOTS = (0.0, 0.05, 0.5, 0.95, 1.0)
# Where the density is integrated, in SDs from the mean.
_GRID = np.linspace(-20.0, 20.0, 4001)


def bayes_factor(fit: Fit, term: str) -> pd.DataFrame:
    """Compare a coefficient of zero with the coefficient's prior.

    Parameters
    ----------
    fit
        A fit that holds draws.
    term
        A fixed effect, ``b_...`` or ``bsp_...``, whose prior is normal, Student's t or Cauchy.

    Returns
    -------
    DataFrame
        Columns `BAYES_FACTOR_COLUMNS`, a row for the prior with its scale halved, as it is, and doubled. ``bf01`` is
        how many times as likely the data are with the term at 0 as with that prior, ``bf10`` its inverse, ``mc_error``
        the relative Monte Carlo standard error of both (delete-a-block jackknife over the draws),
        ``bf01_normal`` the same with a normal density in place of the log-spline; ``pareto_k`` of the weights, NaN
        where there are none. ``note``: *upper bound* where 0 lies beyond all draws, so that their density there is not
        known: then ``bf01`` is the largest value (95 %) that a density falling towards 0 allows, ``bf10`` the least,
        and ``mc_error`` NaN; *unreliable* where Pareto's k is above `psychostats.sensitivity.K_MAX`.
        ``attrs["notes"]`` says it in sentences.

    Raises
    ------
    InputError
        If the fit is a maximum of the likelihood, or the term is no such fixed effect.
    """
    if fit.is_maximum:
        raise InputError("a maximum of the likelihood has no prior, so no Bayes factor; fit with --engine pymc.")
    prior = _prior(fit, term)
    law, drawn = prior.distribution, fit.draws_table
    draws = drawn.flat()[term].to_numpy(dtype=float).reshape(drawn.posterior.sizes["chain"], -1)
    at_zero = float(law.log_density(np.zeros(1))[0])
    _, bulk, tail = diagnose(draws[:, :, np.newaxis])
    beyond = bool(draws.min() > 0.0 or draws.max() < 0.0)
    density = _bound(draws, float(np.fmin(bulk[0], tail[0]))) if beyond else log_density(draws.ravel(), 0.0)
    normal = float(stats.norm(draws.mean(), draws.std()).logpdf(0.0))
    rows = []
    for scale, factor in SCALES.items():
        other = replace(prior, distribution=Distribution(law.name, (*law.args[:-1], factor * law.args[-1])))
        change, k = (0.0, float("nan")) if factor == 1.0 else _change(draws, law, other.distribution)
        log_bf, log_normal = density - at_zero - change, normal - at_zero - change
        with np.errstate(over="ignore"):  # beyond the largest number it is infinite
            bf01, bf10, by_normal = (float(np.exp(value)) for value in (log_bf, -log_bf, log_normal))
        note = ", ".join([BOUND] * beyond + [UNRELIABLE] * (k > K_MAX))
        rows.append(
            {
                "term": term,
                "scale": scale,
                "prior": str(other.distribution),
                "bf01": bf01,
                "bf10": bf10,
                "mc_error": float("nan") if beyond else _error(draws, law, other.distribution),
                "bf01_normal": by_normal,
                "pareto_k": k,
                "note": note,
            }
        )
    table = pd.DataFrame(rows, columns=list(BAYES_FACTOR_COLUMNS))
    coefficient = term.removeprefix("b_")
    parts = [(f"b_{name}", name.split(":")) for name in fit.design.names if name != coefficient]
    products = [name for name, factors in parts if coefficient in factors]
    table.attrs["notes"] = say_bayes_factor(rows, products)
    return table


def log_density(draws: Array, at: float) -> float:
    """Estimate the log-density of draws at a point between the least and the largest of them.

    The normal density of the draws' mean and SD, times the exponential of a natural cubic spline that maximises the
    likelihood of the draws.  Sources: Kooperberg and Stone (1992), log-splines; Efron and Tibshirani (1996), the
    normal as what the spline changes, so that the log-density of normal draws is a spline without curvature.

    Parameters
    ----------
    draws
        Shape ``(draws,)``, not all the same.
    at
        The point.
    """
    return float(_fit_density(draws, draws[np.newaxis], at)[0])


def _fit_density(draws: Array, samples: Array, at: float) -> Array:
    """Return the log-density at a point of each of some samples, with the knots of all draws together."""
    mean, sd = draws.mean(), draws.std()
    knots = (np.quantile(draws, _KNOTS) - mean) / sd
    on_grid, there = _spline(_GRID, knots), _spline(np.array([(at - mean) / sd]), knots)[0]
    base, step = stats.norm.logpdf(_GRID), _GRID[1] - _GRID[0]

    def law(theta: Array) -> tuple[float, Array]:
        """Return the log of the integral, and the probabilities of the grid."""
        height = base + on_grid @ theta
        top = height.max()
        weight = np.exp(height - top)
        return float(top + np.log(weight.sum() * step)), weight / weight.sum()

    found = np.empty(len(samples))
    theta = np.zeros(len(there))
    for i, sample in enumerate(samples):
        wanted = _spline((sample - mean) / sd, knots).mean(axis=0)
        size, p = law(theta)
        for _ in range(200):  # concave: Newton's steps, halved until they climb
            expected = p @ on_grid
            centred = on_grid - expected
            slope = wanted - expected
            move = np.linalg.solve(centred.T @ (centred * p[:, np.newaxis]) + 1e-12 * np.eye(len(theta)), slope)
            if slope @ move < 1e-12:
                break
            share, now = 1.0, wanted @ theta - size
            while share > 1e-6:
                size, p = law(theta + share * move)
                if wanted @ (theta + share * move) - size >= now:
                    break
                share *= 0.5
            theta = theta + share * move
        found[i] = stats.norm.logpdf((at - mean) / sd) + there @ theta - size - np.log(sd)
    return found


def _spline(x: Array, knots: Array) -> Array:
    """Return the basis of natural cubic splines without the constant, shape ``(points, knots - 1)``."""
    wide = knots[-1] - knots[0]

    def bent(j: int) -> Array:
        cubes = np.maximum(x - knots[j], 0.0) ** 3 - np.maximum(x - knots[-1], 0.0) ** 3
        return np.asarray(cubes / ((knots[-1] - knots[j]) * wide))

    last = bent(len(knots) - 2)
    return np.stack([x, *(bent(j) - last for j in range(len(knots) - 2))], axis=1)


def _bound(draws: Array, effective: float) -> float:
    """Return the largest log-density at 0, beyond all draws, that a density which falls towards 0 allows.

    Below the nearest draw, at a distance d, lies a share of the posterior of at most log(20) / n (95 %, n effective
    draws); the density at 0 is no more than the mean density between, so than that share over d.
    """
    effective = effective if effective > 0 else float(draws.size)
    return float(np.log(np.log(20.0) / effective) - np.log(np.abs(draws).min()))


def _change(draws: Array, law: Distribution, other: Distribution) -> tuple[float, float]:
    """Return the log of the mean of other / law over the draws, smoothed, and Pareto's k."""
    ratio = other.log_density(draws) - law.log_density(draws)
    # Leaving out what has the density law / other is weighing by other / law.
    weights, k = importance(-ratio[:, :, np.newaxis])
    flat = ratio.ravel()
    # Only the largest weights are smoothed, so the smallest one tells what they were divided by.
    least = int(np.argmin(flat))
    return float(flat[least] - weights[least, 0] - np.log(flat.size)), float(k[0])


def _error(draws: Array, law: Distribution, other: Distribution) -> float:
    """Return the standard error of the log of a Bayes factor: jackknife over stretches of the chains (Künsch 1989)."""
    parts = np.array_split(np.arange(draws.shape[1]), _PARTS)
    if draws.shape[1] < 2 * _PARTS:
        return float("nan")
    left = [np.delete(draws, part, axis=1) for part in parts]
    whole = draws.ravel()
    values = np.array([_fit_density(whole, one.reshape(1, -1), 0.0)[0] for one in left])
    if other != law:
        values = values - [_change(one, law, other)[0] for one in left]
    return float(np.sqrt((_PARTS - 1) / _PARTS * ((values - values.mean()) ** 2).sum()))


def _prior(fit: Fit, term: str) -> Prior:
    """Return the prior of a fixed effect; refuse other terms.

    A threshold's prior is cut to where the thresholds are in order, so that its own density at 0 is not what it says.
    """
    known = {prior.name: prior for prior in fit.priors if prior.klass == "b" and prior.part != "Intercept"}
    if term not in known:
        names = list(known)
        raise InputError(
            f"'{term}' is no fixed effect of the model{nearest(term, names)}; a Bayes factor can be had of "
            f"{', '.join(names)}."
        )
    if known[term].distribution.name not in _SCALED:
        raise InputError(
            f"the prior of {term}, {known[term].distribution}, is not among those a Bayes factor can be had of: "
            f"{', '.join(_SCALED)}."
        )
    return known[term]
