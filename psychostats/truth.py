"""True values: numbers under the names that a summary gives them, arranged as the parameters of a model.

In: a coding, its group effects, and a value for every term.  Out: `Parameters` of one draw, and effects of levels drawn
from them.  Knows no plan and no trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from psychostats.design import Block, Coding
from psychostats.errors import InputError, nearest
from psychostats.family import Family
from psychostats.predictor import Parameters


def true_parameters(
    coding: Coding, blocks: tuple[Block, ...], truth: Mapping[str, float], family: Family | None = None
) -> Parameters:
    """Arrange true values for a coding, one draw, without effects of levels.

    Parameters
    ----------
    coding, blocks
        Of the model.
    truth
        The value of every term.
    family
        Whose own parameters `truth` holds too: those that the model would estimate.

    Raises
    ------
    InputError
        If a value is missing, unknown, or cannot be: correlations that are no correlation matrix, a scale of zero,
        thresholds that do not rise.
    """
    left, known = dict(truth), list[str]()

    def take(name: str, default: float | None = None) -> float:
        known.append(name)
        if name not in left and default is None:
            raise InputError(f"the true value of {name} is missing; given are {', '.join(truth)}.")
        value = float(left.pop(name, default if default is not None else 0.0))
        if not np.isfinite(value):
            raise InputError(f"the true value of {name} is {value}; it must be a finite number.")
        return value

    b = np.array([[take(f"b_{name}") for name in coding.names]])
    own = {name: np.array([_own_values(name, coding, truth, take)]) for name in (family.estimated if family else ())}
    covariance = []
    for block in blocks:
        sd = np.array([take(f"sd_{block.group}__{term}") for term in block.terms])
        correlation = np.eye(len(sd))
        for j, later in enumerate(block.terms if block.structure == "correlated" else ()):
            for k, earlier in enumerate(block.terms[:j]):
                correlation[j, k] = correlation[k, j] = take(f"cor_{block.group}__{earlier}__{later}", 0.0)
        if (sd < 0).any() or np.linalg.eigvalsh(correlation).min() < -1e-12:
            raise InputError(f"the true SDs and correlations of {block.group} are no covariance matrix.")
        covariance.append((sd[:, np.newaxis] * correlation * sd)[np.newaxis])
    if left:
        name = next(iter(left))
        raise InputError(f"the true value {name} is no term of the model{nearest(name, known)}.")
    # A parameter of one element is a number a draw, as a fit's draws are.
    scalars = {name: values[:, 0] if name not in ("thresholds", "disc") else values for name, values in own.items()}
    return Parameters(b, tuple(covariance), family=scalars)


def _own_values(name: str, coding: Coding, truth: Mapping[str, float], take: Callable[[str], float]) -> list[float]:
    """Return the true values of a family's own parameter, which bears the names that `summary` gives it."""
    if name == "thresholds":
        count = 1
        while f"b_Intercept[{count + 1}]" in truth:
            count += 1
        values = [take(f"b_Intercept[{k}]") for k in range(1, count + 1)]
        if not all(low < high for low, high in pairwise(values)):
            raise InputError(f"the true thresholds are {_listed(values)}; each must be above the last.")
        return values
    if name == "disc":
        return [take(f"b_{term}") for term in coding.scale_names]
    value = take(name)
    if value < 0.0 or (name == "sigma" and value == 0.0):
        raise InputError(f"the true value of {name} is {value:g}; it must be above 0.")
    return [value]


def draw_levels(rng: np.random.Generator, parameters: Parameters, blocks: tuple[Block, ...]) -> Parameters:
    """Draw the effects of every level of every block from its covariance."""
    r = []
    for block, covariance in zip(blocks, parameters.covariance, strict=True):
        # The symmetric root, since a true SD may be 0, where Cholesky fails.
        values, vectors = np.linalg.eigh(covariance[0])
        root = vectors * np.sqrt(np.clip(values, 0.0, None))
        r.append((rng.standard_normal((len(block.levels), len(block.terms))) @ root.T)[np.newaxis])
    return replace(parameters, r=tuple(r))


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
