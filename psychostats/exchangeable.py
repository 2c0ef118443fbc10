"""A truth in which the levels of a factor are exchangeable, so that every contrast of them is exactly zero.

In: true values by term, how the true model is coded, and a factor.  Out: true values under the same names.  Knows
neither simulations nor fits.

Relabelling the levels of a factor turns a design row x into another row, and where the formula treats all levels
alike that is a linear map of the terms: x' = x A. Averaged over all relabellings, the fixed effects, mean of A b, and
each group's covariance, mean of A Sigma A', give every level the same linear predictor and the same random variance at
any value of the other predictors: levels still vary between people and features, but no level is better than another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.design import Coding
from psychostats.errors import InputError
from psychostats.simulate import true_parameters

Array: TypeAlias = npt.NDArray[np.float64]

#: Levels up to which all relabellings are averaged; with more of them the rotations, which make levels alike as well.
MOST = 5
_TOLERANCE = 1e-8


def exchange(truth: Mapping[str, float], coding: Coding, rows: pd.DataFrame, factor: str) -> dict[str, float]:
    """Return the truth with the levels of a factor made alike.

    Parameters
    ----------
    truth
        True value of every term, as `psychostats.simulate.Plan` has them.
    coding
        Of the true model.
    rows
        Trials in which every level of the factor occurs, with the columns that the model names.
    factor
        Whose levels become alike. A model that lacks it has alike levels already.

    Returns
    -------
    dict
        Every term of the model; correlations of effects that do not vary are 0.

    Raises
    ------
    InputError
        If relabelled levels cannot be written by the model's terms, or uncorrelated group effects would have to be
        correlated.
    """
    blocks = coding.random(rows)
    parameters = true_parameters(coding, blocks, truth)
    found = {f"b_{name}": float(value) for name, value in zip(coding.names, parameters.b[0], strict=True)}
    covariances = [covariance[0] for covariance in parameters.covariance]
    if factor in coding.levels:
        own = (coding.fixed(rows), *(block.Z for block in blocks))
        b, sums, count = np.zeros_like(parameters.b[0]), [np.zeros_like(one) for one in covariances], 0
        for relabelled in _relabellings(rows, factor, coding.levels[factor]):
            other = (coding.fixed(relabelled), *(block.Z for block in coding.random(relabelled)))
            A, *maps = (_map(X, Y, factor, coding) for X, Y in zip(own, other, strict=True))
            b += A @ parameters.b[0]
            sums = [total + M @ S @ M.T for total, M, S in zip(sums, maps, covariances, strict=True)]
            count += 1
        found = {f"b_{name}": float(value) for name, value in zip(coding.names, b / count, strict=True)}
        covariances = [total / count for total in sums]
    for block, covariance in zip(blocks, covariances, strict=True):
        sd = np.sqrt(np.clip(np.diag(covariance), 0.0, None))
        found |= {f"sd_{block.group}__{term}": float(value) for term, value in zip(block.terms, sd, strict=True)}
        for j, later in enumerate(block.terms):
            for k, earlier in enumerate(block.terms[:j]):
                scale = sd[j] * sd[k]
                correlation = float(covariance[j, k] / scale) if scale > 0 else 0.0
                if block.structure == "correlated":
                    found[f"cor_{block.group}__{earlier}__{later}"] = min(1.0, max(-1.0, correlation))
                elif abs(correlation) > _TOLERANCE:
                    raise InputError(
                        f"the levels of {factor} cannot be made alike while the effects of {block.group} are "
                        f"uncorrelated; write (... | {block.group}) in the true model, or leave out the null run."
                    )
    return found


def _relabellings(rows: pd.DataFrame, factor: str, levels: tuple[str, ...]) -> Iterator[pd.DataFrame]:
    """Yield the rows with the levels of a factor relabelled in each way."""
    words = list(map(str, levels))
    rotations = [tuple(words[i:] + words[:i]) for i in range(len(words))]
    for order in permutations(words) if len(words) <= MOST else rotations:
        other = rows[factor].astype(str).map(dict(zip(words, order, strict=True)))
        yield rows.assign(**{factor: pd.Categorical(other, categories=words)})


def _map(X: Array, Y: Array, factor: str, coding: Coding) -> Array:
    """Return A of Y = X A."""
    A = np.linalg.lstsq(X, Y, rcond=None)[0]
    if np.abs(X @ A - Y).max(initial=0.0) > _TOLERANCE * max(1.0, np.abs(X).max(initial=0.0)):
        raise InputError(
            f"'{coding.formula.text}' does not treat the levels of {factor} alike, so there is no truth in which they "
            "are; leave out the null run."
        )
    return np.asarray(A)
