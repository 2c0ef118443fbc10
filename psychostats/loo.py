"""How well a model predicts what it has not seen: leave-one-out, by trial, or by participant or any other group.

In: a `Fit` that holds draws, and what is left out.  Out: `Loo`, the log predictive density of every unit given all the
others, without fitting again.  Knows no other fit and no sampler; the smoothing itself is in `psychostats.pareto`.

A unit is one trial, also where rows are counts; or all trials of one level of a group. The latter asks about *another*
participant, whose effects no trial has shown: so they are integrated over their normal law in every draw
(`psychostats.integral`), and with them the effects of every level that occurs in this unit alone. Effects that other
units share (pairs, say) are as drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from psychostats.design import Block, Design
from psychostats.errors import InputError, nearest
from psychostats.family import Family
from psychostats.fit import Fit
from psychostats.integral import NODES, Outcomes, log_integral
from psychostats.pareto import leave_out
from psychostats.predictor import (
    Parameters,
    fixed_predictor,
    group_predictor,
    linear_predictor,
    row_parts,
    take_rows,
)
from psychostats.threads import in_threads

Array: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.int64]

#: The unit that is one answer; any other is the name of a grouping factor.
TRIAL = "trial"
#: Draws, about evenly spaced, for which a unit's effects are integrated. (By trial all draws are used.)
INTEGRATED_DRAWS = 1000
# Numbers that are in the memory at once, draws times answers or draws times squared effects; few enough to stay near
# the processor.
_AT_ONCE = 500_000


@dataclass(frozen=True)
class Loo:
    """The predictive density of every unit given all the others.

    Parameters
    ----------
    unit
        ``trial``, or the grouping factor whose levels were left out.
    labels
        Names of the levels, sorted; none for trials.
    rows
        For trials, the row of the data that each is of; in a row of counts the right answers go first.
    elpd_i
        Log predictive density of each unit given the others.
    p_i
        How much higher it is given all, itself included: effective parameters.
    k
        Pareto's k of each unit.
    draws
        Draws that were used.
    laplace
        Whether an integral was taken by Laplace's approximation.
    """

    unit: str
    labels: tuple[str, ...]
    rows: Index
    elpd_i: Array
    p_i: Array
    k: Array
    draws: int
    laplace: bool = False

    @property
    def elpd(self) -> float:
        """Expected log predictive density of as many new units, the sum."""
        return float(self.elpd_i.sum())

    @property
    def se(self) -> float:
        """Its standard error over units; NaN for one unit."""
        return standard_error(self.elpd_i)

    @property
    def p_loo(self) -> float:
        """Effective number of parameters."""
        return float(self.p_i.sum())

    @property
    def threshold(self) -> float:
        """Pareto's k above which a unit's value may be wrong: min(1 - 1 / log10(draws), 0.7)."""
        return float(min(1.0 - 1.0 / np.log10(max(self.draws, 2)), 0.7))

    @property
    def bad(self) -> npt.NDArray[np.bool_]:
        """Which units have a k above the threshold, or none."""
        return ~(self.k <= self.threshold)


def standard_error(pointwise: Array) -> float:
    """Return sqrt(n var), the standard error of the sum of independent values."""
    n = len(pointwise)
    return float(np.sqrt(n * pointwise.var(ddof=1))) if n > 1 else float("nan")


def loo(fit: Fit, unit: str = TRIAL, *, labels: npt.ArrayLike | None = None, at_once: int = _AT_ONCE) -> Loo:
    """Leave out every unit in turn, by Pareto-smoothed importance sampling (PSIS).

    Parameters
    ----------
    fit
        A fit that holds draws.
    unit
        ``trial``, or a grouping factor of the model.
    labels
        For a grouping factor, its level in each row of the fit; needed where the model has no effect of it, and then a
        unit's trials are simply taken together.
    at_once
        How many numbers may be in the memory at once; changes no result.

    Returns
    -------
    Loo

    Raises
    ------
    InputError
        If the fit is a maximum of the likelihood, or the unit is unknown.
    """
    parameters, chains = _parameters(fit)
    if unit == TRIAL:
        outcomes, (rows, place) = distinct(fit.design, fit.spec.family)
        values = [np.zeros(len(outcomes.row)) for _ in range(3)]
        parameters = parameters.by_level()

        def left_out(part: slice) -> tuple[Array, Array, Array]:
            return _left_out(outcome_density(fit.design, fit.spec.family, outcomes, parameters, part), chains)

        parts = list(row_parts(len(outcomes.row), len(parameters.b), at_once))
        for part, found in zip(parts, in_threads(left_out, parts), strict=True):
            for value, figures in zip(values, found, strict=True):
                value[part] = figures
        elpd, p, k = (value[place] for value in values)
        return Loo(unit, (), rows, elpd, p, k, len(parameters.b))
    names, code = unit_codes(fit, unit, labels)
    parameters = thin(parameters, chains, INTEGRATED_DRAWS)
    own = [own_levels(block, code) for block in fit.design.blocks]
    columns, most = [], 0
    for density, effects in unit_densities(fit.design, fit.spec.family, code, own, parameters, at_once):
        columns.append(density)
        most = max(most, effects)
    elpd, p, k = _left_out(np.stack(columns, axis=1), chains)
    nothing = np.zeros(0, dtype=np.int64)
    return Loo(unit, tuple(names), nothing, elpd, p, k, len(parameters.b), most > len(NODES))


def unit_labels(fit: Fit, unit: str) -> npt.NDArray[np.str_]:
    """Return the level of a grouping factor in each row of a fit, as text.

    Raises
    ------
    InputError
        If the model has no effect of it.
    """
    for block in fit.design.blocks:
        if block.group == unit:
            return np.asarray(block.levels, dtype=str)[block.index]
    raise unknown_unit(unit, [block.group for block in fit.design.blocks])


def unit_codes(fit: Fit, unit: str, labels: npt.ArrayLike | None = None) -> tuple[npt.NDArray[np.str_], Index]:
    """Return the names of a unit's levels, sorted, and which of them each row of a fit is of.

    Parameters
    ----------
    fit, unit, labels
        As for `loo`.

    Raises
    ------
    InputError
        If the unit is unknown, or all rows are of one level.
    """
    if labels is None:
        labels = unit_labels(fit, unit)
    names, code = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    if len(names) < 2:
        raise InputError(f"all trials are of one {unit}; leaving one out needs two at least.")
    return names, code


def unknown_unit(unit: str, groups: Sequence[str]) -> InputError:
    """Return the error of a unit that no model has."""
    units = [TRIAL, *dict.fromkeys(groups)]
    return InputError(
        f"the unit '{unit}' is no group of the models{nearest(unit, units)}; allowed are {', '.join(units)}."
    )


def distinct(design: Design, family: Family) -> tuple[Outcomes, tuple[Index, Index]]:
    """Find the outcomes that are not the same in every draw.

    Parameters
    ----------
    design
        Of rows that are trials or counts.
    family
        Of the response.

    Returns
    -------
    tuple
        The outcomes, each with how often it was seen; and for each trial, in the order of the rows and the right ones
        of a row first, its row and its outcome's place.
    """
    row, value, count = family.outcomes(design.successes, design.trials)
    parts: list[npt.NDArray[Any]] = [design.X, design.offset[:, np.newaxis]]
    parts += [part for block in design.blocks for part in (block.Z, block.index[:, np.newaxis])]
    parts += [] if design.scale is None else [design.scale]
    table = np.column_stack([np.concatenate(parts, axis=1)[row], value])
    _, first, place = np.unique(table, axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    times = np.rint(count).astype(np.int64)
    outcomes = Outcomes(row[first], value[first], np.bincount(place, count, len(first)).astype(float))
    return outcomes, (np.repeat(row, times), np.repeat(place, times))


def _parameters(fit: Fit) -> tuple[Parameters, int]:
    """Return all draws, chain after chain, and how many chains there are."""
    chains = fit.draws_table.posterior.sizes["chain"]
    return fit.parameters(), chains


def thin(parameters: Parameters, chains: int, most: int) -> Parameters:
    """Keep every so-manieth draw of each chain."""
    total = len(parameters.b)
    each = total // chains
    keep = np.arange(total).reshape(chains, each)[:, :: -(-total // most)].ravel()
    return parameters.take(keep)


def _left_out(density: Array, chains: int) -> tuple[Array, Array, Array]:
    """Return elpd, effective parameters and k of units from their log-density, shape ``(draws, units)``."""
    elpd, given_all, k = leave_out(density, chains)
    return elpd, given_all - elpd, k


def outcome_densities(
    design: Design, family: Family, outcomes: Outcomes, parameters: Parameters, at_once: int = _AT_ONCE
) -> Iterator[tuple[slice, Array]]:
    """Yield parts of the outcomes of a design with their log-density in every draw, shape ``(draws, outcomes)``."""
    parameters = parameters.by_level()
    for part in row_parts(len(outcomes.row), len(parameters.b), at_once):
        yield part, outcome_density(design, family, outcomes, parameters, part)


def outcome_density(design: Design, family: Family, outcomes: Outcomes, parameters: Parameters, part: slice) -> Array:
    """Return the log-density of a part of the outcomes in every draw, shape ``(draws, outcomes)``."""
    some = outcomes.take(part)
    piece = take_rows(design, some.row)
    return some.log_density(family.at(parameters.family, piece.scale), linear_predictor(piece, parameters))


def unit_densities(
    design: Design,
    family: Family,
    code: Index,
    own: Sequence[npt.NDArray[np.bool_]],
    parameters: Parameters,
    at_once: int = _AT_ONCE,
) -> Iterator[tuple[Array, int]]:
    """Yield each unit's log-density in every draw, its own effects integrated, and how many they are.

    Parameters
    ----------
    design, family
        Of the rows of these units.
    code
        The unit of each row, from 0, none of them empty.
    own
        For each block, which levels belong to one unit alone (`own_levels`, of all the rows there are).
    parameters
        Draws.
    at_once
        As for `loo`.
    """
    roots = [_root(covariance) for covariance in parameters.covariance]
    parameters = parameters.by_level()

    def density_of(rows: Index) -> tuple[Array, int]:
        piece = take_rows(design, rows)
        outcomes, _ = distinct(piece, family)
        piece = take_rows(piece, outcomes.row)
        Z, blocks = [np.zeros((len(outcomes.row), 0))], []
        known = fixed_predictor(piece.X, piece.offset, parameters.b)
        for block, alone, root, r in zip(piece.blocks, own, roots, parameters.r, strict=True):
            mine = alone[block.index]
            index = np.where(mine, -1, block.index)
            known = known + group_predictor(
                Block(block.group, block.terms, block.correlated, block.levels, block.Z, index), r
            )
            for level in np.unique(block.index[mine]):
                Z.append(block.Z * (block.index == level)[:, np.newaxis])
                blocks.append(root)
        columns = np.concatenate(Z, axis=1)
        effects = columns.shape[1]
        step = max(1, at_once // max(1, effects**2, len(outcomes.row)))
        found = []
        for start in range(0, len(parameters.b), step):
            part = slice(start, start + step)
            root = _diagonal([b[part] for b in blocks], effects)
            at = family.at(parameters.take(part).family, piece.scale)
            found.append(log_integral(at, outcomes, known[part], columns, root))
        return np.concatenate(found), effects

    order = np.argsort(code, kind="stable")
    yield from in_threads(density_of, np.split(order, np.searchsorted(code[order], np.arange(1, code.max() + 1))))


def own_levels(block: Block, code: Index) -> npt.NDArray[np.bool_]:
    """Return which levels of a block occur in one unit alone."""
    low, high = np.full(len(block.levels), np.iinfo(np.int64).max), np.full(len(block.levels), -1)
    np.minimum.at(low, block.index, code)
    np.maximum.at(high, block.index, code)
    return np.asarray(low == high)


def _root(covariance: Array) -> Array:
    """Return the symmetric root of each covariance matrix, also of one that is singular."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))[:, np.newaxis, :]) @ np.swapaxes(vectors, 1, 2))


def _diagonal(blocks: Sequence[Array], effects: int) -> Array:
    """Put matrices, a batch each, along a diagonal."""
    if not blocks:
        return np.zeros((0, 0, 0))
    out, at = np.zeros((len(blocks[0]), effects, effects)), 0
    for block in blocks:
        out[:, at : at + block.shape[1], at : at + block.shape[1]] = block
        at += block.shape[1]
    return out
