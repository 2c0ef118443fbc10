"""The linear predictor eta = X b + Z u and the probabilities that follow from it.

In: design rows and parameter draws.  Out: eta, or probabilities of a correct answer, for the rows as observed, for the
typical participant and feature, or averaged over the population of both.  Knows no sampler and no file.

*Typical* sets every group effect to zero: the median person and feature.  *Population* averages p over new levels of
all groups jointly: at a design row the random part is normal with variance the sum over blocks of z' Sigma z, so one
dimension of Gauss-Hermite nodes is enough and nothing is simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from psychostats.design import Block, Design
from psychostats.family import Family

Array: TypeAlias = npt.NDArray[np.float64]
Target: TypeAlias = Literal["typical", "population"]
TARGETS: tuple[Target, ...] = ("typical", "population")

# 63 nodes, against adaptive integration (tests/psychostats/test_predictor.py): absolute error of a logistic- or
# probit-normal mean below 1e-13 up to a random SD of 1.5, 1e-10 at 2, 2e-7 at 3, 4e-4 at 5, 7e-3 at 8.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(63)
_WEIGHTS = _WEIGHTS / np.sqrt(2.0 * np.pi)


@dataclass(frozen=True)
class Parameters:
    """Draws of a model's parameters.

    Parameters
    ----------
    b
        Fixed effects, shape ``(draws, columns)``.
    covariance
        For each block, the covariance of its effects, shape ``(draws, terms, terms)``.
    r
        For each block, the effects of its levels, shape ``(draws, levels, terms)``; empty where levels do not matter.
    family
        For each parameter of the family that was estimated, its draws, shape ``(draws,)``, or ``(draws, elements)``.
    """

    b: Array
    covariance: tuple[Array, ...]
    r: tuple[Array, ...] = ()
    family: dict[str, Array] = field(default_factory=dict)

    def take(self, draws: slice | npt.NDArray[np.int64]) -> Parameters:
        """Return some of the draws."""
        covariance, r = (tuple(values[draws] for values in part) for part in (self.covariance, self.r))
        return Parameters(self.b[draws], covariance, r, {name: values[draws] for name, values in self.family.items()})

    def by_level(self) -> Parameters:
        """Return the same with the draws of a level side by side in the memory, as its rows want them."""
        return replace(self, r=tuple(np.ascontiguousarray(r.T).T for r in self.r))


def describe_target(target: Target, groups: Sequence[str]) -> str:
    """Say what a target is in a model with these groups, for tables and the report."""
    if not groups:
        return "the model has no group effects, so both targets are one"
    if target == "typical":
        return f"all group effects at zero, the median {_listed(list(groups))}"
    return f"averaged over {_listed([f'new {plural(group)}' for group in groups])}"


def plural(group: str) -> str:
    """Return the plural of a grouping factor's name."""
    irregular = {"stimulus": "stimuli", "person": "people"}
    return irregular.get(group, f"{group}s" if group.isalpha() and not group.endswith("s") else f"levels of {group}")


def _listed(words: Sequence[str]) -> str:
    """Join words by commas and a last *and*."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def fixed_predictor(X: Array, offset: Array, b: Array) -> Array:
    """Return X b + offset, shape ``(draws, rows)``."""
    return (X @ b.T + offset[:, np.newaxis]).T


def group_predictor(block: Block, r: Array) -> Array:
    """Return the random part of one block, shape ``(draws, rows)``; a level that was not seen adds zero."""
    seen = block.index >= 0
    index, Z = np.where(seen, block.index, 0), block.Z * seen[:, np.newaxis]
    out = np.zeros((len(index), len(r)))
    for q in range(Z.shape[1]):  # several times as fast as all at once, and the draws of a row side by side
        part = np.take(r.T[q], index, axis=0)
        part *= Z[:, q, np.newaxis]
        out += part
    return out.T


def linear_predictor(design: Design, parameters: Parameters) -> Array:
    """Return eta of the observed rows, random effects included, shape ``(draws, rows)``."""
    eta = fixed_predictor(design.X, design.offset, parameters.b)
    for block, r in zip(design.blocks, parameters.r, strict=True):
        eta = eta + group_predictor(block, r)
    return eta


def row_blocks(
    design: Design, parameters: Parameters, family: Family, at_once: int = 2_000_000
) -> Iterator[tuple[slice, Array, Family]]:
    """Yield slices of rows with their eta and the family there, so that draws times rows never fill the memory."""
    parameters = parameters.by_level()
    for part in row_parts(len(design.X), len(parameters.b), at_once):
        piece = take_rows(design, part)
        yield part, linear_predictor(piece, parameters), family.at(parameters.family, piece.scale)


def row_parts(rows: int, draws: int, at_once: int) -> Iterator[slice]:
    """Yield parts of so many rows that draws times rows are `at_once` at most."""
    step = max(1, at_once // max(1, draws))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def take_rows(design: Design, rows: slice | npt.NDArray[np.int64]) -> Design:
    """Return some rows of a design."""
    blocks = tuple(Block(k.group, k.terms, k.correlated, k.levels, k.Z[rows], k.index[rows]) for k in design.blocks)
    known = design.X[rows], design.offset[rows], blocks, design.successes[rows], design.trials[rows]
    return Design(design.names, *known, design.scale_names, None if design.scale is None else design.scale[rows])


def random_variance(blocks: Sequence[Block], covariance: Sequence[Array]) -> Array:
    """Return the variance of the random part at each row, summed over blocks, shape ``(draws, rows)``."""
    parts = [np.einsum("rq,sqp,rp->sr", block.Z, s, block.Z) for block, s in zip(blocks, covariance, strict=True)]
    # Effects that cancel, at a correlation of -1, leave a variance that rounding can put below zero.
    return np.maximum(np.sum(parts, axis=0), 0.0) if parts else np.zeros((1, 1))


def average(mean: Callable[[Array], Array], eta: Array, variance: Array) -> Array:
    """Average a function of the linear predictor over a normal random part.

    Parameters
    ----------
    mean
        The function, elementwise: a family's mean.
    eta
        Linear predictor at random effects zero, any shape.
    variance
        Variance of the random part, broadcast with `eta`.

    Returns
    -------
    ndarray
        Its mean, the shape of `eta`. Source: Gauss-Hermite quadrature.
    """
    sd = np.sqrt(variance)
    total = np.zeros(np.broadcast_shapes(eta.shape, sd.shape))
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        total += weight * mean(eta + sd * node)
    return total


def probability(
    family: Family,
    X: Array,
    offset: Array,
    blocks: Sequence[Block],
    parameters: Parameters,
    target: Target,
    *,
    wrong: bool = False,
) -> Array:
    """Return the probability of a correct answer at design rows, shape ``(draws, rows)``.

    Parameters
    ----------
    family
        Response family; where a parameter of it differs between rows, filled in for these.
    X, offset, blocks
        Design rows; of the blocks only their Z is used.
    parameters
        Draws; only `b` and `covariance` are used.
    target
        ``typical`` or ``population``.
    wrong
        Return the probability of a wrong answer, which 1 - p would lose where p rounds to 1.
    """
    eta = fixed_predictor(X, offset, parameters.b)
    family = family.at(parameters.family)
    mean = family.miss if wrong else family.mean
    if target == "typical" or not blocks:
        return np.asarray(mean(eta))
    return average(mean, eta, random_variance(blocks, parameters.covariance))
