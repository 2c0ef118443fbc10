"""Penalised normal equations whose matrix is an arrowhead: blocks for the largest group, all else dense.

In: group indices, their columns, the fixed columns and weights.  Out: the cross-products A'WA, their Cholesky factor
under a relative covariance factor, solutions, the log-determinant, and the inverse where rows need it.  Knows no
likelihood.

With spherical effects u, r = Lambda u, the matrix is H = Lambda' Z'WZ Lambda + I.  The levels of one group never meet
in a row, so their part of H is a block a level; it is eliminated first, and what is left (the other groups, and the
fixed columns where they are estimated jointly) is dense.  Cost grows with rows, plus levels of the largest group times
the square of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

Array: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """All effects of one grouping factor.

    Parameters
    ----------
    index
        Level of each row, shape ``(rows,)``.
    Z
        Columns, shape ``(rows, terms)``.
    levels
        Number of levels.
    """

    index: Index
    Z: Array
    levels: int

    @property
    def terms(self) -> int:
        """Number of columns of `Z`."""
        return int(self.Z.shape[1])

    def expand(self, r: Array) -> Array:
        """Return Z r by row, of effects of shape ``(levels, terms)``."""
        return np.asarray(self._matrix @ r.ravel())

    def collect(self, values: Array) -> Array:
        """Return Z' values by level, shape ``(levels, terms)``."""
        return np.asarray(self._transposed @ values).reshape(self.levels, self.terms)

    @cached_property
    def _matrix(self) -> sparse.csr_array:
        """Z with a column for each effect: one pass over the rows, whatever the number of terms."""
        return self._transposed.T

    @cached_property
    def _transposed(self) -> sparse.csc_array:
        places = [self.index * self.terms + a for a in range(self.terms)]
        return _columns(places, list(self.Z.T), (self.levels * self.terms, len(self.Z)))


@dataclass(frozen=True)
class Cross:
    """Cross-products A'WA of the unscaled columns A = [Z_first | Z_others | X], in the parts of an arrowhead.

    Parameters
    ----------
    D
        Of the first group with itself, shape ``(levels, terms, terms)``.
    C
        Of the first group with the rest, shape ``(levels, terms, rest)``.
    S
        Of the rest with itself, shape ``(rest, rest)``; the fixed columns, if they are in it, come last.
    """

    D: Array
    C: Array
    S: Array


class Arrow:
    """The pattern of the cross-products, found once for a set of rows.

    Parameters
    ----------
    X
        Fixed columns, shape ``(rows, columns)``.
    groups
        Grouping factors, the one with the most effects first.
    """

    def __init__(self, X: Array, groups: Sequence[Group]):
        self.X = X
        self.groups = tuple(groups)
        first = self.groups[0] if groups else Group(np.zeros(len(X), dtype=np.int64), np.zeros((len(X), 0)), 0)
        self.first = first
        self.others = self.groups[1:]
        self.rest = sum(group.levels * group.terms for group in self.others)
        self._d = (first.levels, first.terms, first.terms)
        self._c = (first.levels, first.terms, self.rest)
        self._random = self._scatter()

    @property
    def effects(self) -> int:
        """Number of random effects."""
        return self.first.levels * self.first.terms + self.rest

    def split(self, first: Array, rest: Array) -> tuple[tuple[Array, ...], Array]:
        """Take a vector apart: effects of each group, shape ``(levels, terms)``, and what stands for fixed columns."""
        parts, start = [first] if self.groups else [], 0
        for group in self.others:
            size = group.levels * group.terms
            parts.append(rest[start : start + size].reshape(group.levels, group.terms))
            start += size
        return tuple(parts), rest[start:]

    def join(self, parts: Sequence[Array], fixed: Array | None = None) -> tuple[Array, Array]:
        """Put a vector together: what `split` takes apart."""
        first = parts[0] if parts else np.zeros((0, 0))
        return first, np.concatenate([*(part.ravel() for part in parts[1:]), np.zeros(0) if fixed is None else fixed])

    def _positions(self) -> tuple[Index, Array]:
        """Return for each row the places of its columns among the rest, and their values."""
        places, values, start = [], [], 0
        for group in self.others:
            places.append(start + group.index[:, np.newaxis] * group.terms + np.arange(group.terms))
            values.append(group.Z)
            start += group.levels * group.terms
        n = len(self.X)
        none: list[Any] = [np.zeros((n, 0))]
        return np.concatenate(places or none, axis=1).astype(np.int64), np.concatenate(values or none, axis=1)

    def _scatter(self) -> sparse.csc_array:
        """Return the matrix that turns weights into the cross-products of the random effects."""
        first, (place, value) = self.first, self._positions()
        q, k = first.terms, place.shape[1]
        in_c, in_s = int(np.prod(self._d)), int(np.prod(self._d)) + int(np.prod(self._c))
        own = first.index[:, np.newaxis] * q + np.arange(q)  # row of each column of the first group among its effects
        at: list[Index] = []
        products: list[Array] = []
        for a in range(q):
            for b in range(a + 1):
                at.append(own[:, a] * q + b)
                products.append(first.Z[:, a] * first.Z[:, b])
            for j in range(k):
                at.append(in_c + own[:, a] * self.rest + place[:, j])
                products.append(first.Z[:, a] * value[:, j])
        for i in range(k):
            for j in range(i + 1):
                at.append(in_s + place[:, i] * self.rest + place[:, j])
                products.append(value[:, i] * value[:, j])
        return _columns(at, products, (in_s + self.rest**2, len(self.X)))

    def cross(self, weights: Array, *, fixed: bool) -> Cross:
        """Return the cross-products under weights of shape ``(rows,)``, with the fixed columns if `fixed`."""
        flat = self._random @ weights
        size_d, size_c = int(np.prod(self._d)), int(np.prod(self._c))
        D = _mirrored(flat[:size_d].reshape(self._d))
        C = flat[size_d : size_d + size_c].reshape(self._c)
        S = _mirrored(flat[size_d + size_c :].reshape(self.rest, self.rest))
        if not fixed or not self.X.shape[1]:
            return Cross(D, C, S)
        weighted = self.X * weights[:, np.newaxis]
        own = [self.first.collect(column) for column in weighted.T]
        below = np.concatenate(
            [np.zeros((0, self.X.shape[1]))]
            + [np.stack([group.collect(column).ravel() for column in weighted.T], axis=1) for group in self.others]
        )
        return Cross(
            D,
            np.concatenate([C, np.stack(own, axis=2)], axis=2),
            np.block([[S, below], [below.T, self.X.T @ weighted]]),
        )

    def leverage(self, factor: Factor) -> Array:
        """Return a' H^-1 a of each row, a = Lambda' z, shape ``(rows,)``; for a factor without the fixed columns."""
        inverse = factor.inverse
        size_d, size_c = int(np.prod(self._d)), int(np.prod(self._c))
        flat = np.empty(size_d + size_c + self.rest**2)
        if factor.Lambda:
            L = factor.Lambda[0]
            flat[:size_d] = _doubled(L @ inverse.D @ L.T).ravel()
            # Off-diagonal products stand once in the pattern and count twice.
            np.matmul(-2.0 * L, inverse.Q, out=flat[size_d : size_d + size_c].reshape(self._c))
        flat[size_d + size_c :] = _doubled(inverse.P).ravel()
        return np.asarray(self._random.T @ flat)


def _columns(at: list[Index], products: list[Array], shape: tuple[int, int]) -> sparse.csc_array:
    """Return the matrix with `products` in the rows `at`, a column for each weight."""
    n, k = shape[1], len(at)
    kind = np.int32 if max(shape[0], n * k) < np.iinfo(np.int32).max else np.int64
    indices, data = np.empty((n, k), dtype=kind), np.empty((n, k))
    for j in range(k):
        indices[:, j], data[:, j] = at[j], products[j]
    at.clear()
    products.clear()
    starts = np.arange(n + 1, dtype=kind) * k
    parts: Any = (data.ravel(), indices.ravel(), starts)
    matrix = sparse.csc_array(parts, shape=shape, copy=False)
    matrix.eliminate_zeros()  # half of a dummy variable's products
    return matrix


def _flat(blocks: Array) -> Array:
    """Return matrices one below another."""
    return blocks.reshape(blocks.shape[0] * blocks.shape[1], blocks.shape[2])


def _mirrored(lower: Array) -> Array:
    """Fill the upper triangles of matrices of which the lower ones are given."""
    return np.asarray(lower + np.swapaxes(np.tril(lower, -1), -1, -2))


def _doubled(full: Array) -> Array:
    """Double the elements off the diagonal."""
    twice = 2.0 * full
    diagonal = np.arange(full.shape[-1])
    twice[..., diagonal, diagonal] *= 0.5
    return twice


@dataclass(frozen=True)
class Inverse:
    """What of H^-1 rows and traces need; with Lambda of the rest, but not that of the first group, multiplied in.

    Parameters
    ----------
    D
        Of the first group with itself, shape ``(levels, terms, terms)``.
    Q
        Minus that of the first group with the rest, times Lambda' of the rest, shape ``(levels, terms, rest)``.
    S, P
        Of the rest with itself, and between Lambda and Lambda', shape ``(rest, rest)``.
    """

    D: Array
    Q: Array
    S: Array
    P: Array


class Factor:
    """Cholesky factor of H = Lambda' A'WA Lambda + I; fixed columns, where there, carry no penalty.

    Parameters
    ----------
    arrow, cross
        The pattern, and its cross-products under some weights.
    Lambda
        Relative covariance factor of each group, lower triangular, shape ``(terms, terms)``.

    Raises
    ------
    numpy.linalg.LinAlgError
        If H is not positive definite.

    Notes
    -----
    Lambda of the rest multiplies small matrices and vectors only, never the products of the first group with the rest,
    which are by far the largest part.
    """

    def __init__(self, arrow: Arrow, cross: Cross, Lambda: Sequence[Array]):
        self.arrow, self.cross, self.Lambda = arrow, cross, tuple(Lambda)
        self.rest = arrow.rest
        L = self.Lambda[0] if self.Lambda else np.zeros((0, 0))
        # Small triangles: their explicit inverse costs less than so many solutions, and H >= I keeps it accurate.
        self.root = np.linalg.cholesky(L.T @ cross.D @ L + np.eye(len(L)))
        self.root_inverse = np.linalg.inv(self.root)
        self.V = (self.root_inverse @ L.T) @ cross.C
        flat = _flat(self.V)
        self.left = cross.S - flat.T @ flat  # of the rest, the first group eliminated
        S = self.apply(self.apply(self.left).T)
        S[np.arange(self.rest), np.arange(self.rest)] += 1.0
        self.dense = linalg.cholesky(S, lower=True, check_finite=False) if len(S) else S

    def apply(self, columns: Array, *, transposed: bool = False) -> Array:
        """Multiply the rest's columns, the last axis, by Lambda (or its transpose); fixed columns stay."""
        out, start = columns.copy(), 0
        for group, L in zip(self.arrow.others, self.Lambda[1:], strict=True):
            part = slice(start, start + group.levels * group.terms)
            values = columns[..., part].reshape(-1, group.terms) @ (L.T if transposed else L)
            out[..., part] = values.reshape(*columns.shape[:-1], -1)
            start = part.stop
        return out

    @property
    def log_determinant(self) -> float:
        """Log-determinant of the random effects' part of H."""
        blocks = np.diagonal(self.root, axis1=1, axis2=2)
        return float(2.0 * np.log(blocks).sum() + 2.0 * np.log(np.diagonal(self.dense)[: self.rest]).sum())

    @property
    def fixed_root(self) -> Array:
        """Cholesky factor of the fixed columns' precision, the random effects integrated out: X' V^-1 X."""
        return np.asarray(self.dense[self.rest :, self.rest :])

    def solve(self, first: Array, rest: Array) -> tuple[Array, Array]:
        """Solve H x = (first, rest), shapes ``(levels, terms)`` and ``(rest,)``."""
        y = np.einsum("pab,pb->pa", self.root_inverse, first)
        if len(rest):
            rest = rest - self.apply(y.ravel() @ _flat(self.V))
            rest = linalg.cho_solve((self.dense, True), rest, check_finite=False)
            y -= (_flat(self.V) @ self.apply(rest, transposed=True)).reshape(y.shape)
        return np.einsum("pba,pb->pa", self.root_inverse, y), rest

    @cached_property
    def inverse(self) -> Inverse:
        """Parts of H^-1; computed once."""
        n = len(self.dense)
        S = linalg.cho_solve((self.dense, True), np.eye(n), check_finite=False) if n else self.dense
        P = self.apply(self.apply(S, transposed=True).T, transposed=True)
        upper = np.swapaxes(self.root_inverse, 1, 2)
        U = upper @ self.V
        Q = (_flat(U) @ P).reshape(U.shape)
        return Inverse(upper @ self.root_inverse + Q @ np.swapaxes(U, 1, 2), Q, S, P)

    def levels(self) -> tuple[Array, ...]:
        """Return H^-1 of each level with itself, for each group, shape ``(levels, terms, terms)``."""
        return (self.inverse.D, *self._diagonal(self.inverse.S)) if self.Lambda else ()

    def _diagonal(self, square: Array) -> list[Array]:
        """Return the blocks of each level with itself, for each group of the rest."""
        blocks, start = [], 0
        for group in self.arrow.others:
            at = np.arange(start, start + group.levels * group.terms).reshape(group.levels, group.terms)
            blocks.append(square[at[:, :, np.newaxis], at[:, np.newaxis, :]])
            start += at.size
        return blocks

    def trace_gradients(self) -> tuple[Array, ...]:
        """Return for each group the derivative of half the log-determinant by its Lambda, weights fixed.

        The sum over levels of the diagonal blocks of A'WA Lambda H^-1, shape ``(terms, terms)``.  With the fixed
        columns in H it is that of the joint determinant, as restricted likelihood needs it.
        """
        if not self.Lambda:
            return ()
        G, inverse, L = self.cross, self.inverse, self.Lambda[0]
        own = (G.D @ L @ inverse.D).sum(axis=0) - np.einsum("par,pbr->ab", G.C, inverse.Q)
        rest = self._diagonal(self.left @ self.apply(inverse.S, transposed=True).T)
        return (own, *(blocks.sum(axis=0) for blocks in rest))
