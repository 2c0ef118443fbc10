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
        return np.asarray(np.einsum("nq,nq->n", self.Z, r[self.index]))

    def collect(self, values: Array) -> Array:
        """Return Z' values by level, shape ``(levels, terms)``."""
        sums = [np.bincount(self.index, weights=column * values, minlength=self.levels) for column in self.Z.T]
        return np.stack(sums, axis=1)


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
        self._random, self._mixed = self._scatter()

    @property
    def effects(self) -> int:
        """Number of random effects."""
        return self.first.levels * self.first.terms + self.rest

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

    def _scatter(self) -> tuple[sparse.csc_array, sparse.csc_array]:
        """Return the matrices that turn weights into the random, and the random-by-fixed, cross-products."""
        first, (place, value) = self.first, self._positions()
        q, k, p = first.terms, place.shape[1], self.X.shape[1]
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
        random = _columns(at, products, (in_s + self.rest**2, len(self.X)))
        at, products = [], []
        fixed_s = first.levels * q * p
        for j in range(p):
            for a in range(q):
                at.append(own[:, a] * p + j)
                products.append(first.Z[:, a] * self.X[:, j])
            for i in range(k):
                at.append(fixed_s + place[:, i] * p + j)
                products.append(value[:, i] * self.X[:, j])
        return random, _columns(at, products, (fixed_s + self.rest * p, len(self.X)))

    def cross(self, weights: Array, *, fixed: bool) -> Cross:
        """Return the cross-products under weights of shape ``(rows,)``, with the fixed columns if `fixed`."""
        flat = self._random @ weights
        size_d, size_c = int(np.prod(self._d)), int(np.prod(self._c))
        D = _mirrored(flat[:size_d].reshape(self._d))
        C = flat[size_d : size_d + size_c].reshape(self._c)
        S = _mirrored(flat[size_d + size_c :].reshape(self.rest, self.rest))
        if not fixed:
            return Cross(D, C, S)
        p = self.X.shape[1]
        mixed = self._mixed @ weights
        split = self.first.levels * self.first.terms * p
        corner = self.X.T @ (self.X * weights[:, np.newaxis])
        below = mixed[split:].reshape(self.rest, p)
        return Cross(
            D,
            np.concatenate([C, mixed[:split].reshape(*self._c[:2], p)], axis=2),
            np.block([[S, below], [below.T, corner]]),
        )

    def leverage(self, factor: Factor) -> Array:
        """Return a' H^-1 a of each row, a = Lambda' z, shape ``(rows,)``; for a factor without the fixed columns."""
        inverse = factor.inverse
        L, apply = factor.Lambda, factor.apply
        D = L[0] @ inverse.D @ L[0].T if L else inverse.D
        C = apply(L[0] @ inverse.C if L else inverse.C, transposed=True)
        S = apply(apply(inverse.S, transposed=True).T, transposed=True)
        # Off-diagonal products stand once in the pattern and count twice.
        flat = np.concatenate([_doubled(D).ravel(), 2.0 * C.ravel(), _doubled(S).ravel()])
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
    matrix = sparse.csc_array((data.ravel(), indices.ravel(), starts), shape=shape, copy=False)
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
    """

    def __init__(self, arrow: Arrow, cross: Cross, Lambda: Sequence[Array]):
        self.arrow, self.cross, self.Lambda = arrow, cross, tuple(Lambda)
        self.rest = arrow.rest
        q = arrow.first.terms
        L = self.Lambda[0] if self.Lambda else np.zeros((0, 0))
        D = L.T @ cross.D @ L + np.eye(q)
        S = self.apply(self.apply(cross.S).T)
        S[np.arange(self.rest), np.arange(self.rest)] += 1.0
        # Small triangles: their explicit inverse costs less than so many solutions, and H >= I keeps it accurate.
        self.root = np.linalg.cholesky(D)
        self.root_inverse = np.linalg.inv(self.root)
        self.V = self.root_inverse @ (L.T @ self.apply(cross.C))
        flat = _flat(self.V)
        self.dense = linalg.cholesky(S - flat.T @ flat, lower=True, check_finite=False) if len(S) else S

    def apply(self, columns: Array, *, transposed: bool = False) -> Array:
        """Multiply the rest's columns, the last axis, by Lambda (or its transpose); fixed columns stay."""
        if not self.rest:
            return columns.copy()
        parts, start = [], 0
        for group, L in zip(self.arrow.others, self.Lambda[1:], strict=True):
            size = group.levels * group.terms
            part = columns[..., start : start + size].reshape(-1, group.terms)
            parts.append((part @ (L.T if transposed else L)).reshape(*columns.shape[:-1], size))
            start += size
        return np.concatenate([*parts, columns[..., start:]], axis=-1)

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
        z = rest - np.einsum("par,pa->r", self.V, y)
        x = linalg.cho_solve((self.dense, True), z, check_finite=False) if len(z) else z
        return np.einsum("pba,pb->pa", self.root_inverse, y - self.V @ x), x

    @property
    def inverse(self) -> Cross:
        """H^-1 on the pattern of the arrowhead, in the same parts as the cross-products; computed once."""
        if not hasattr(self, "_inverse"):
            n = len(self.dense)
            S = linalg.cho_solve((self.dense, True), np.eye(n), check_finite=False) if n else self.dense
            U = np.swapaxes(self.root_inverse, 1, 2) @ self.V
            C = -(_flat(U) @ S).reshape(U.shape)
            D = np.swapaxes(self.root_inverse, 1, 2) @ self.root_inverse - C @ np.swapaxes(U, 1, 2)
            self._inverse = Cross(D, C, S)
        return self._inverse

    def trace_gradients(self) -> tuple[Array, ...]:
        """Return for each group the derivative of half the log-determinant by its Lambda, weights fixed.

        The sum over levels of the diagonal blocks of A'WA Lambda H^-1, shape ``(terms, terms)``.  With the fixed
        columns in H it is that of the joint determinant, as restricted likelihood needs it.
        """
        if not self.Lambda:
            return ()
        G, inverse, L = self.cross, self.inverse, self.Lambda[0]
        q = len(L)
        C = self.apply(inverse.C, transposed=True)  # Lambda_rest H^-1, the rest by the first group
        own = G.D.reshape(-1, q).T @ (L @ inverse.D).reshape(-1, q)
        for a in range(q):
            for b in range(q):
                own[a, b] += np.einsum("pr,pr->", G.C[:, a], C[:, b])
        gradients = [own]
        C, S = L @ inverse.C, self.apply(inverse.S.T, transposed=True).T
        start = 0
        for group in self.arrow.others:
            part = slice(start, start + group.levels * group.terms)
            k = group.terms
            gradients.append(
                G.C[..., part].reshape(-1, k).T @ C[..., part].reshape(-1, k)
                + G.S[:, part].reshape(-1, k).T @ S[:, part].reshape(-1, k)
            )
            start = part.stop
        return tuple(gradients)
