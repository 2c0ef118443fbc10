"""A second opinion on the fixed part: population-averaged coefficients without any distribution of the random effects.

In: a `Design` and whose trials belong together.  Out: coefficients with a covariance that allows for the dependence,
from generalized estimating equations (GEE) and from logistic regression with a cluster-robust covariance.  Knows no
prior, and neither guess nor lapse rate: the link is the logit.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from psychostats.design import Array, Design
from psychostats.errors import InputError, nearest
from psychostats.separation import separating

_FAR = 10.0  # log-odds beyond which separation is looked for; where there is any, iterations end beyond 14
_ITERATIONS = 100


@dataclass(frozen=True)
class Marginal:
    """Population-averaged coefficients.

    Parameters
    ----------
    method
        ``GEE`` or ``cluster-robust``.
    names
        Of the coefficients, as in the design.
    b
        Log-odds averaged over the population, shape ``(columns,)``. Nearer to zero than those of a typical member: for
        a normal random intercept of standard deviation sd by about ``sqrt(1 + 0.346 sd^2)`` (Zeger, Liang and Albert
        1988, Biometrics 44, 1049-1060).
    covariance
        Shape ``(columns, columns)``; right for many clusters, too small for few (below some 40).
    correlation
        Of two trials of a cluster, as estimated for the exchangeable working correlation; None for ``cluster-robust``.
    group
        What the clusters are.
    """

    method: str
    names: tuple[str, ...]
    b: Array
    covariance: Array
    correlation: float | None
    group: str

    @property
    def se(self) -> Array:
        """Standard errors, shape ``(columns,)``."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))


def fit_gee(design: Design, group: str, clusters: npt.ArrayLike | None = None) -> Marginal:
    """Fit generalized estimating equations: binomial, logit, exchangeable working correlation, robust covariance.

    Liang and Zeger 1986, Biometrika 73, 13-22, without correction for few clusters.

    Parameters
    ----------
    design
        Its fixed part, offset and response are used; rows of counts are taken as single trials.
    group
        Name of the clusters: a group of the design, unless `clusters` are given.
    clusters
        For each row the cluster it belongs to, shape ``(rows,)``.

    Returns
    -------
    Marginal

    Raises
    ------
    InputError
        If the group is unknown, there are too few clusters, every one has one trial only, a combination of columns
        tells successes from failures without error (no estimate exists), or the equations were not solved.
    """
    trials = _expand(design, group, clusters)
    if len(np.unique(trials.clusters)) == len(trials.outcomes):
        raise InputError(f"every level of {group} has one trial only, so that no correlation within it can be seen.")

    def run(X: Array) -> Any:
        import statsmodels.api as sm  # here, since it takes a second to import and few ask for it

        model = sm.GEE(
            trials.outcomes, X, trials.clusters, family=sm.families.Binomial(), cov_struct=sm.cov_struct.Exchangeable(),
            offset=trials.offset,
        )  # fmt: skip
        return model.fit(maxiter=_ITERATIONS)

    result, b, covariance = _solve("GEE", run, trials, design)
    return Marginal("GEE", design.names, b, covariance, float(result.cov_struct.dep_params), group)


def fit_robust(design: Design, group: str, clusters: npt.ArrayLike | None = None) -> Marginal:
    """Fit a logistic regression whose covariance allows for dependence within clusters.

    With the usual factor G / (G - 1) * (N - 1) / (N - K) for G clusters, N trials and K columns.  Takes, returns and
    raises what `fit_gee` does, except that clusters may have one trial each.
    """
    trials = _expand(design, group, clusters)

    def run(X: Array) -> Any:
        import statsmodels.api as sm

        model = sm.GLM(trials.outcomes, X, family=sm.families.Binomial(), offset=trials.offset)
        return model.fit(maxiter=_ITERATIONS, cov_type="cluster", cov_kwds={"groups": trials.clusters})

    _, b, covariance = _solve("cluster-robust", run, trials, design)
    return Marginal("cluster-robust", design.names, b, covariance, None, group)


@dataclass(frozen=True)
class _Trials:
    """Single trials: for each its row of the design, outcome, offset and cluster, all of shape ``(trials,)``."""

    rows: npt.NDArray[np.int64]
    outcomes: Array
    offset: Array
    clusters: npt.NDArray[np.int64]


def _expand(design: Design, group: str, clusters: npt.ArrayLike | None) -> _Trials:
    """Take counts as single trials, and refuse clusters that say nothing of the covariance."""
    if clusters is None:
        index = next((block.index for block in design.blocks if block.group == group), None)
        if index is None:
            known = [block.group for block in design.blocks]
            raise InputError(
                f"'{group}' is no group of the model{nearest(group, known)}; its groups are "
                f"{', '.join(dict.fromkeys(known)) or 'none'}."
            )
    else:
        given = np.asarray(clusters)
        if given.shape != design.trials.shape:
            raise InputError(f"'{group}' has {given.size:,} values for {len(design.trials):,} rows; give one a row.")
        index = np.unique(given, return_inverse=True)[1]
    hits = design.successes.astype(np.int64)
    misses = design.trials.astype(np.int64) - hits
    rows = np.repeat(np.tile(np.arange(len(hits)), 2), np.concatenate([hits, misses]))
    outcomes = np.repeat([1.0, 0.0], [hits.sum(), misses.sum()])
    order = np.argsort(rows, kind="stable")
    rows, outcomes = rows[order], outcomes[order]
    held, columns = len(np.unique(index[rows])), len(design.names)
    if held <= columns:
        raise InputError(
            f"{held} level{'s' * (held != 1)} of {group} {'are' if held != 1 else 'is'} too few for a robust "
            f"covariance of {columns} coefficient{'s' * (columns > 1)}; there must be more levels than coefficients."
        )
    return _Trials(rows, outcomes, design.offset[rows], index[rows])


def _solve(
    method: str, run: Callable[[Array], Any], trials: _Trials, design: Design
) -> tuple[Any, Array, npt.NDArray[np.float64]]:
    """Run a method on columns of like size, and return its result with the coefficients of the columns as they are."""
    size = np.abs(design.X).max(axis=0)
    scaled = design.X / size
    result = None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # what they say is judged below, by the result
        with contextlib.suppress(np.linalg.LinAlgError, ValueError, ArithmeticError):
            result = run(scaled[trials.rows])
    solved = result is not None and bool(result.converged) and bool(np.isfinite(result.params).all())
    b = np.asarray(result.params) if result is not None and solved else np.full(len(size), np.inf)
    if not solved or np.abs(scaled @ b).max() > _FAR:
        _refuse_separation(design)
    covariance = np.asarray(result.cov_params()) if result is not None and solved else np.zeros((len(size), len(size)))
    if not np.isfinite(covariance).all() or (np.diag(covariance) <= 0).any():
        steps = f"it did not converge in {_ITERATIONS} steps"
        why = "its standard errors are not finite" if solved else steps if result is not None else "it is singular"
        raise InputError(f"the second opinion ({method}) found no estimate for {len(trials.outcomes):,} trials: {why}.")
    return result, b / size, covariance / np.outer(size, size)


def _refuse_separation(design: Design) -> None:
    """Refuse answers that the predictors separate: iterations stop at large numbers that look like estimates."""
    terms = separating(design)
    if terms:
        listed = ", ".join(terms[:5]) + (f" and {len(terms) - 5} more" if len(terms) > 5 else "")
        raise InputError(
            f"the second opinion has no estimate: {listed} tell{'s' * (len(terms) == 1)} some successes from "
            "failures without error (separation); a cell whose trials all have one outcome is the usual reason."
        )
