"""What trials cannot tell apart, in words: empty cells, constant predictors, columns that follow from others.

In: coded columns with their names, and the levels of the factors behind them.  Out: nothing, or a FormulaError that
names what is at fault.  Knows no formula and no library that codes it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from psychostats.errors import FormulaError, InputError

_LOST = 1e-10  # share of a column's length that must be left beside the columns before it; rounding leaves some 1e-15
# A double has 16 digits. Where all but 7 are spent on a constant, centred values and their polynomials still are right
# to 7 (measured); beyond, they would be plausible and wrong.
_NARROW = 1e-9
_SMALLEST, _LARGEST = 1e-30, 1e30  # sums of high powers of numbers beyond are no longer numbers
_NAMED = 5  # columns, cells or reasons that a sentence names before it counts the rest


@dataclass(frozen=True)
class Crossed:
    """The factors behind a design matrix.

    Parameters
    ----------
    levels
        Levels by factor.
    codes
        For each trial the place of its level, by factor, each of shape ``(rows,)``.
    columns
        For each column of the matrix the factors that it crosses.
    """

    levels: Mapping[str, tuple[str, ...]]
    codes: Mapping[str, npt.NDArray[Any]]
    columns: tuple[tuple[str, ...], ...]


def check_range(name: str, low: float, high: float) -> None:
    """Refuse numbers that lose their digits when they are centred, squared or multiplied.

    Raises
    ------
    InputError
        If numbers from `low` to `high` differ by less than 1e-9 of their size, or are beyond 1e-30 to 1e30.
    """
    size, spread = max(abs(low), abs(high)), high - low
    if size > _LARGEST or 0 < size < _SMALLEST:
        raise InputError(
            f"column '{name}' reaches {size:.3g}; sizes from {_SMALLEST:g} to {_LARGEST:g} can be analysed, so rescale "
            "it."
        )
    if 0 < spread < _NARROW * size:
        raise InputError(
            f"column '{name}' varies by {spread:.3g} around {high:.3g}, which leaves too few of the 16 digits of a "
            "number; record its difference from a constant."
        )


def refuse_constant(bar: str, Z: npt.NDArray[np.float64], terms: Sequence[str]) -> None:
    """Refuse a group effect of a column that has one value only: it is the intercept's, or nobody's.

    Raises
    ------
    FormulaError
        Naming the column.
    """
    for name, column in zip(terms, Z.T, strict=True):
        if name != "Intercept" and column.min() == column.max() and ("Intercept" in terms or column[0] == 0):
            raise FormulaError(
                f"{bar} asks for an effect of '{name}', which is {column[0]:g} in every trial; leave it out."
            )


def refuse_dependent(X: npt.NDArray[np.float64], names: Sequence[str], crossed: Crossed) -> None:
    """Refuse columns that are linear combinations of earlier ones: the data cannot tell them apart.

    Parameters
    ----------
    X, names
        Fixed part, shape ``(rows, columns)``, and the names of its columns.
    crossed
        The factors behind them.

    Raises
    ------
    FormulaError
        With the reason for each column: the cells of a crossing that have no trials, the value of a constant, or the
        columns it follows from.
    """
    scaled = X / np.maximum(np.abs(X).max(axis=0), np.finfo(float).tiny)  # first: squares of large numbers overflow
    scaled /= np.maximum(np.linalg.norm(scaled, axis=0), np.finfo(float).tiny)
    left = np.zeros(len(names))
    left[: len(X)] = np.abs(np.diag(np.linalg.qr(scaled, mode="r")))
    lost = np.flatnonzero(left < _LOST)
    if not len(lost):
        return
    reasons = list(_reasons(X, scaled, names, crossed, lost))
    if len(X) < len(names) and not any("no trials" in reason for reason in reasons):
        reasons = [f"{len(X)} are fewer than the {len(names)} fixed effects"]
    raise FormulaError(
        f"these trials cannot tell all fixed effects apart: {_some(reasons, '; ')}; leave "
        f"{'it' if len(lost) == 1 else 'them'} out of the formula."
    )


def _reasons(
    X: npt.NDArray[np.float64],
    scaled: npt.NDArray[np.float64],
    names: Sequence[str],
    crossed: Crossed,
    lost: npt.NDArray[np.int64],
) -> Iterator[str]:
    """Say of each lost column why, those of one empty crossing together."""
    empty: dict[str, list[str]] = {}
    rest = []
    for place in lost:
        why = _empty_cells(crossed, crossed.columns[place])
        if why:
            empty.setdefault(why, []).append(names[place])
        else:
            rest.append(place)
    for why, columns in empty.items():
        yield f"{why}, so {_some(columns)} cannot be estimated"
    kept = np.setdiff1d(np.arange(len(names)), lost)
    for place in rest:
        column, before = X[:, place], kept[kept < place]
        if column.min() == column.max() and (column[0] == 0 or "Intercept" in names):
            yield f"{names[place]} is {column[0]:g} in every trial"
            continue
        weights = np.linalg.lstsq(scaled[:, before], scaled[:, place], rcond=None)[0]
        sources = [names[i] for i, weight in zip(before, weights, strict=True) if abs(weight) > 1e-6]
        yield f"{names[place]} follows from {_some(sources)}"


def _empty_cells(crossed: Crossed, factors: tuple[str, ...]) -> str:
    """Name the cells without trials of the smallest crossing of `factors` that has any, or nothing."""
    for size in range(2, len(factors) + 1):
        for some in itertools.combinations(factors, size):
            held = set(zip(*(crossed.codes[name].tolist() for name in some), strict=True))
            counts = [len(crossed.levels[name]) for name in some]
            cells = math.prod(counts)
            if len(held) == cells:
                continue
            every = itertools.product(*map(range, counts))  # walked as far as needed: there may be millions
            found = itertools.islice((cell for cell in every if cell not in held), _NAMED)
            words = [
                ", ".join(f"{name} {crossed.levels[name][code]}" for name, code in zip(some, cell, strict=True))
                for cell in found
            ]
            more = cells - len(held) - len(words)
            listed = " | ".join(words) + (f" and {more:,} more" if more else "")
            return f"{' x '.join(some)} has no trials in the cell{'s' * (len(words) > 1)} {listed}"
    return ""


def _some(words: Sequence[str], joint: str = ", ") -> str:
    """List the first words and count the rest."""
    more = len(words) - _NAMED
    return joint.join(words[:_NAMED]) + (f" and {more} more" if more > 0 else "")
