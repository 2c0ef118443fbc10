"""A design made ready for maximum likelihood: like rows summed into cells, columns orthonormal, groups in order.

In: a `Design`.  Out: a frozen `Mixed`: the cells, the pattern of their cross-products, and the way between the free
elements theta of the covariance factors and the factors themselves.  Knows no likelihood and no optimiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import linalg, special

from psychostats.arrow import Arrow, Group
from psychostats.design import Block, Design
from psychostats.errors import InputError

Array: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.int64]

# Numbers of the dense part of the arrowhead, 8 bytes each, of which a handful of copies live at once.
_LARGEST = 100_000_000
# Of a column's length, beside the others of its block, below which it follows from them. The design refuses numbers
# that vary by less than 1e-9 of their size, so what is left here is rounding.
_DEPENDENT = 1e-12


@dataclass(frozen=True)
class Element:
    """A free element of a covariance factor: its group's place, and its row and column within the factor."""

    group: int
    row: int
    column: int

    @property
    def diagonal(self) -> bool:
        """Whether it stands on the diagonal."""
        return self.row == self.column


@dataclass(frozen=True)
class Mixed:
    """A mixed model's data.

    Parameters
    ----------
    design
        Of the cells: like rows of the trials summed into one, or the rows themselves where the response is continuous.
    arrow
        The pattern of the cross-products of its columns, made harmless: `X`, the fixed ones, orthonormal over the
        trials but for a factor; of each group, the one with the most effects first, those of a correlated block
        likewise, those of an independent one with a root mean square of 1.
    root
        Upper triangular; the design's own fixed columns are ``X root``, and its coefficients ``root^-1 beta``.
    roots
        For each group, lower triangular; the design's own columns are ``Z root``, so that their covariance factor is
        ``root^-1 Lambda``, lower triangular too.
    parts
        For each block of the design, the place of its group and of its terms within the group's columns.
    elements
        What theta holds, in order: for each block by rows of the lower triangle, its diagonal alone where independent.
    constant
        Sum of the logarithms of the binomial coefficients, which no parameter changes.
    cell
        Of each of the design's rows the place of its cell, shape ``(rows,)``.
    """

    design: Design
    arrow: Arrow
    root: Array
    roots: tuple[Array, ...]
    parts: tuple[tuple[int, slice], ...]
    elements: tuple[Element, ...]
    constant: float
    cell: Index

    @property
    def X(self) -> Array:
        """Fixed columns, shape ``(cells, columns)``."""
        return self.arrow.X

    @property
    def groups(self) -> tuple[Group, ...]:
        """Grouping factors, the one with the most effects first."""
        return self.arrow.groups

    def push(self, Lambda: Sequence[Array], u: Sequence[Array]) -> Array:
        """Return Z Lambda u by cell."""
        total = np.zeros(len(self.X))
        for group, L, values in zip(self.groups, Lambda, u, strict=True):
            total += group.expand(values @ L.T)
        return total

    def factors(self, theta: Array) -> list[Array]:
        """Return the covariance factor Lambda of each group, lower triangular."""
        Lambda = [np.zeros((group.terms, group.terms)) for group in self.groups]
        for element, value in zip(self.elements, theta, strict=True):
            Lambda[element.group][element.row, element.column] = value
        return Lambda

    def pick(self, matrices: Sequence[Array]) -> Array:
        """Return the free elements of one matrix a group, in theta's order."""
        return np.array([matrices[e.group][e.row, e.column] for e in self.elements])

    def with_response(self, successes: Array) -> Mixed:
        """Return the same design with another response: bootstrap replicates need no new pattern."""
        return replace(self, design=replace(self.design, successes=successes))


def prepare(design: Design, *, continuous: bool = False) -> Mixed:
    """Make a design ready.

    Parameters
    ----------
    design
        Coded trials, every level seen.
    continuous
        Whether the response is a measurement, so that rows are not summed into cells.

    Raises
    ------
    InputError
        If the groups have more effects than a dense factor can hold.
    """
    names = list(dict.fromkeys(block.group for block in design.blocks))
    of_group = {name: [block for block in design.blocks if block.group == name] for name in names}
    names.sort(key=lambda name: -len(of_group[name][0].levels) * sum(len(block.terms) for block in of_group[name]))
    _refuse_large(design)
    order, starts = (np.arange(len(design.X)),) * 2 if continuous else _cells(design, [of_group[n][0] for n in names])
    first = order[starts]
    cells = Design(
        design.names,
        design.X[first],
        design.offset[first],
        tuple(replace(block, Z=block.Z[first], index=block.index[first]) for block in design.blocks),
        np.add.reduceat(design.successes[order], starts),
        np.add.reduceat(design.trials[order], starts),
    )
    root = _root(design.X[order])
    X = linalg.solve_triangular(root, cells.X.T, trans="T", check_finite=False).T
    groups, roots, parts = [], [], {}
    elements: list[Element] = []
    for g, name in enumerate(names):
        Z = np.concatenate([block.Z[first] for block in of_group[name]], axis=1)
        roots.append(linalg.block_diag(*(_block_root(block, block.Z[order]) for block in of_group[name])))
        Z = linalg.solve_triangular(roots[-1], Z.T, lower=True, trans="T", check_finite=False).T
        groups.append(Group(of_group[name][0].index[first], Z, len(of_group[name][0].levels)))
        start = 0
        for block in of_group[name]:
            parts[id(block)] = (g, slice(start, start + len(block.terms)))
            start += len(block.terms)
    for block in design.blocks:
        g, part = parts[id(block)]
        elements += [Element(g, part.start + int(i), part.start + int(j)) for i, j in zip(*free(block), strict=True)]
    cell = np.empty(len(order), dtype=np.int64)
    cell[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
    constant = 0.0 if continuous else float(_log_coefficients(design.successes, design.trials))
    return Mixed(
        design=cells,
        arrow=Arrow(X, groups),
        root=root,
        roots=tuple(roots),
        parts=tuple(parts[id(block)] for block in design.blocks),
        elements=tuple(elements),
        constant=constant,
        cell=cell,
    )


def free(block: Block) -> tuple[Index, Index]:
    """Return rows and columns of the free elements of a block's covariance factor, in theta's order."""
    rows, columns = (np.tril_indices if block.structure == "correlated" else np.diag_indices)(len(block.terms))
    return np.asarray(rows), np.asarray(columns)


def _cells(design: Design, blocks: Sequence[Block]) -> tuple[Index, Index]:
    """Return the rows sorted into cells that no parameter can tell apart, and where each cell starts.

    The order depends on the values alone, not on that of the rows, so shuffled trials give the same numbers to the
    last digit.
    """
    columns: list[npt.NDArray[Any]] = [block.index for block in blocks]
    columns += [column for block in design.blocks for column in block.Z.T]
    code = number_rows([*columns, *design.X.T, design.offset])
    # Within a cell the order is free: sums of whole numbers are exact.
    order = np.argsort(code, kind="stable")
    ordered = code[order]
    return order, np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def number_rows(columns: Sequence[npt.NDArray[Any]]) -> Index:
    """Number the rows of some columns, equal ones alike, rising with the first column, then the second, and so on."""
    code, size = np.zeros(len(columns[0]), dtype=np.int64), 1
    for column in columns:
        values, unique = pd.factorize(column, sort=True)
        if len(unique) < 2:
            continue
        if size * len(unique) > 2**62:
            code, held = pd.factorize(code, sort=True)
            size = len(held)
        code = code * len(unique) + values
        size *= len(unique)
    return code


def _rms(columns: Array) -> Array:
    """Return the root mean square of each column, 1 where it is zero."""
    largest = np.abs(columns).max(axis=0, initial=0.0)
    largest[largest == 0] = 1.0
    size = largest * np.sqrt(np.mean((columns / largest) ** 2, axis=0))  # without overflow at 1e200
    return np.where(size > 0, size, 1.0)


def _root(X: Array) -> Array:
    """Return R of X = Q R with Q'Q the number of rows: columns that nearly depend on one another become harmless.

    Where some do depend, as in a fold that leaves out all of a factor's level, columns keep their directions.
    """
    scale = _rms(X)
    R = np.asarray(np.linalg.qr(X / scale, mode="r"))
    if R.shape[0] < R.shape[1] or np.abs(np.diag(R)).min(initial=1.0) <= _DEPENDENT * np.abs(R).max(initial=0.0):
        return np.diag(scale)
    signs = np.where(np.diag(R) < 0, -1.0, 1.0)
    return np.asarray(signs[:, np.newaxis] * R * scale / np.sqrt(len(X)))


def _block_root(block: Block, Z: Array) -> Array:
    """Return R, lower triangular, of Z = Q R: a slope's column far from 0 (a year, say) is nearly the intercept's.

    Independent effects stay as they are but for their scale: their model depends on where a column has its zero.
    """
    scale = _rms(Z)
    if block.structure == "correlated" and len(block.terms) > 1:
        R = np.asarray(np.linalg.qr((Z / scale)[:, ::-1], mode="r"))[::-1, ::-1]
        if R.shape[0] == R.shape[1] and np.abs(np.diag(R)).min() > _DEPENDENT * np.abs(R).max():
            signs = np.where(np.diag(R) < 0, -1.0, 1.0)
            return np.asarray(signs[:, np.newaxis] * R * scale / np.sqrt(len(Z)))
    return np.diag(scale)


def _log_coefficients(successes: Array, trials: Array) -> float:
    counted = trials > 1
    s, n = successes[counted], trials[counted]
    return float(np.sum(special.gammaln(n + 1) - special.gammaln(s + 1) - special.gammaln(n - s + 1)))


def effects(design: Design) -> dict[str, int]:
    """Return the number of effects of each group, the one with the most first."""
    counts: dict[str, int] = {}
    for block in design.blocks:
        counts[block.group] = counts.get(block.group, 0) + len(block.levels) * len(block.terms)
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def is_too_large(design: Design) -> bool:
    """Whether the groups have more effects than a dense factor can hold."""
    first, *others = [*effects(design).values(), 0]
    rest = sum(others) + design.X.shape[1]
    return first > 0 and first * rest + rest**2 > _LARGEST


def _refuse_large(design: Design) -> None:
    if is_too_large(design):
        sizes = ", ".join(f"{name} {count:,}" for name, count in effects(design).items())
        raise InputError(
            f"the groups have too many effects for maximum likelihood on one machine ({sizes}): the largest times all "
            f"the others may be {_LARGEST:,} at most; leave out a group's slopes, or use --engine pymc."
        )
