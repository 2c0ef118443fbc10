"""Where sampling starts, and in which coordinates: Laplace's mode of the posterior, and what of it stays fixed.

In: a design, a family that compiled code knows, and priors.  Out: a frozen `Whitening`: centres and maps, and for each
level the information and the pull of its answers.  They are numbers that the sampler takes as they are: the posterior
that is sampled is exact whatever they are, and near them it is nearly standard normal.  Knows no sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from psychostats.family import Array, Family
from psychostats.mixed import Mixed
from psychostats.mode import Goal, Parameter, curvature, search
from psychostats.priors import Distribution

Index: TypeAlias = npt.NDArray[np.int64]

# The softness of an SD is its standard error, as a share of the SD within these: the tail towards zero is then about as
# long as the bulk, whether or not the data know the SD.
_SOFTEST, _HARDEST = 1.0, 0.1
# The least curvature in log SDs and inverse hyperbolic tangents: what data do not know, priors bound about so.
_LEAST_CURVATURE = 0.25
# Effects of groups but the largest that are whitened together, which costs their square a gradient; the cells' own cost
# grows with their number.
_REST, _REST_A_CELL = 256, 16


@dataclass(frozen=True)
class Coupling:
    """How the first group's effects are moved by the rest; a level's columns are in order, and the same for its terms.

    Parameters
    ----------
    start
        Where each level's columns begin, and their number, shape ``(levels + 1,)``.
    column
        Place in the rest, shape ``(start[-1],)``.
    values
        A row of columns for each term, level by level, shape ``(terms * start[-1],)``; single precision, since any
        numbers would do.
    """

    start: Index
    column: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Whitening:
    """Fixed numbers of the sampler's coordinates; see MODEL.md for the symbols.

    Parameters
    ----------
    theta, theta_map, softness
        Centre of theta, shape ``(thetas,)``, the map to it, ``(thetas, thetas)``, and a of each positive parameter, 0
        of a correlation.
    b
        Centre of the fixed effects, shape ``(fixed,)``.
    information, pull
        For each group I_j, lower triangles by rows, ``(levels, triangle)``, and h_j, ``(levels, terms)``.
    coupled
        How many groups after the first are whitened together with b.
    rest_map
        Upper triangular map to their z and to b, shape ``(rest, rest)``.
    coupling
        Of the first group with the rest.
    found
        Whether Laplace's mode was found; else the numbers are of a plain guess, and sampling is slower.
    """

    theta: Array
    theta_map: Array
    softness: Array
    b: Array
    information: tuple[Array, ...]
    pull: tuple[Array, ...]
    coupled: int
    rest_map: Array
    coupling: Coupling
    found: bool


def whiten(
    mixed: Mixed, family: Family, theta: Sequence[Parameter], b_priors: Sequence[Distribution], response: Array
) -> Whitening:
    """Find Laplace's mode of the posterior and the coordinates around it.  To be called on one thread.

    Parameters
    ----------
    mixed
        Cells; of measurements, sums of what is normally distributed.
    family
        What compiled code knows.
    theta, b_priors
        The parameters with their priors.
    response
        What is normally distributed in every row; of answers it is not looked at.
    """
    goal = Goal(mixed, family, theta, b_priors, response)
    x, hessian, found = search(goal)
    eta, factors, r = goal.place(x)
    weights = goal.derivatives(x, eta).expected
    groups = _Arrow(mixed, weights, factors)
    curved = hessian[: len(theta), : len(theta)] if len(theta) else np.zeros((0, 0))
    if found and len(theta):
        across = hessian[: len(theta), len(theta) :]
        curved = curved - across @ np.linalg.pinv(hessian[len(theta) :, len(theta) :], hermitian=True) @ across.T
    values, vectors = np.linalg.eigh(0.5 * (curved + curved.T))
    root = vectors / np.sqrt(np.maximum(values, _LEAST_CURVATURE))
    centre, slope, softness = x[: len(theta)].copy(), np.ones(len(theta)), np.zeros(len(theta))
    for k, parameter in enumerate(theta):
        if parameter.law is None:
            continue
        error = float(np.sqrt(np.sum(root[k] ** 2)))
        s = float(np.exp(x[k]))
        softness[k] = s * min(max(error, _HARDEST), _SOFTEST)
        u = s / softness[k]
        centre[k] = softness[k] * np.log(np.expm1(u))
        slope[k] = -s / np.expm1(-u)
    b = goal.b(x)
    precision = np.array([_precision(law) for law in b_priors])
    rest_map, coupling, coupled = groups.whiten(precision)
    return Whitening(
        theta=centre,
        theta_map=slope[:, np.newaxis] * root,
        softness=softness,
        b=b,
        information=tuple(_triangles(known) for known in groups.information),
        pull=tuple(
            np.einsum("jab,jb->ja", known + Q, effects)
            for known, Q, effects in zip(groups.information, groups.precision, r, strict=True)
        ),
        coupled=coupled,
        rest_map=rest_map,
        coupling=coupling,
        found=found,
    )


class _Arrow:
    """Precision of all effects at the mode: I_j and Q of each group, and what couples them."""

    def __init__(self, mixed: Mixed, weights: Array, factors: Sequence[Array]):
        self.mixed, self.weights = mixed, weights
        design = mixed.design
        self.Z = []
        for g, group in enumerate(mixed.groups):
            blocks = [block.Z for block, (at, _) in zip(design.blocks, mixed.parts, strict=True) if at == g]
            self.Z.append(np.concatenate(blocks, axis=1) if blocks else np.zeros((len(weights), group.terms)))
        self.precision, self.information, self.roots = [], [], []
        for group, Z, L in zip(mixed.groups, self.Z, factors, strict=True):
            M = linalg.solve_triangular(L, np.eye(len(L)), lower=True)
            information = np.empty((group.levels, group.terms, group.terms))
            for a in range(group.terms):
                for c in range(a + 1):
                    sums = np.bincount(group.index, weights * Z[:, a] * Z[:, c], minlength=group.levels)
                    information[:, a, c] = information[:, c, a] = sums
            self.precision.append(M.T @ M)
            self.information.append(information)
            self.roots.append(np.linalg.cholesky(information + M.T @ M))

    def whiten(self, prior: Array) -> tuple[Array, Coupling, int]:
        """Return the map of the rest, the coupling of the first group with it, and how many groups the rest holds."""
        groups = self.mixed.groups
        most = max(_REST, int(np.sqrt(_REST_A_CELL * len(self.weights))))
        sizes = [group.levels * group.terms for group in groups]
        coupled, size = 0, self.mixed.design.X.shape[1]
        for extra in sizes[1:]:
            if size + extra > most:
                break
            coupled, size = coupled + 1, size + extra
        columns, values = self._rest_columns(coupled)
        matrix = sparse.csr_array(
            (values.ravel(), columns.ravel(), np.arange(len(columns) + 1) * columns.shape[1]), (len(columns), size)
        )
        S = (matrix.T @ (matrix * self.weights[:, np.newaxis])).toarray()
        scale, start = np.zeros((size, size)), 0  # Cholesky factors of the groups' own precisions, transposed
        for g in range(1, coupled + 1):
            for j in range(groups[g].levels):
                part = slice(start, start + groups[g].terms)
                S[part, part] += self.precision[g]
                scale[part, part] = self.roots[g][j].T
                start = part.stop
        p = len(prior)
        scale[size - p :, size - p :] = np.eye(p)
        S[size - p :, size - p :] += np.diag(prior)
        coupling, product = self._couple(columns, values, size, coupled)
        root = linalg.cholesky(_positive(S - product), lower=True)
        return (
            np.ascontiguousarray(scale @ linalg.solve_triangular(root, np.eye(size), lower=True).T),
            coupling,
            coupled,
        )

    def _rest_columns(self, coupled: int) -> tuple[Index, Array]:
        """Return for each cell its columns of the rest, in order, and their values, shape ``(cells, columns)``."""
        columns, values, start = [], [], 0
        for group, Z in list(zip(self.mixed.groups, self.Z, strict=True))[1 : coupled + 1]:
            columns += [start + group.index * group.terms + a for a in range(group.terms)]
            values += list(Z.T)
            start += group.levels * group.terms
        X = self.mixed.design.X
        columns += [np.full(len(X), start + k) for k in range(X.shape[1])]
        values += list(X.T)
        return np.array(columns).T.reshape(len(X), -1), np.array(values).T.reshape(len(X), -1)

    def _couple(self, columns: Index, values: Array, size: int, coupled: int) -> tuple[Coupling, Array]:
        """Return C^-1 times the cross-products of the first group with the rest, and their own product."""
        none = Coupling(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))
        if not self.mixed.groups:
            return none, np.zeros((size, size))
        group, Z, root = self.mixed.groups[0], self.Z[0], self.roots[0]
        q = group.terms
        code = group.index[:, np.newaxis] * size + columns
        pairs, place = np.unique(code.ravel(), return_inverse=True)
        level, column = pairs // size, pairs % size
        cross = np.empty((len(pairs), q))
        for a in range(q):
            weighted = (self.weights * Z[:, a])[:, np.newaxis] * values
            cross[:, a] = np.bincount(place, weighted.ravel(), minlength=len(pairs))
        inverse = np.linalg.inv(root)
        V = np.einsum("nab,nb->na", inverse[level], cross)
        product = np.zeros((size, size))
        starts = np.searchsorted(level, np.arange(group.levels + 1))
        for a in range(q):
            matrix = sparse.csr_array((V[:, a], column, starts), (group.levels, size))
            product += (matrix.T @ matrix).toarray()
        # The rest is handed over as z of its groups, r = C'^-1 z at the mode.
        at = 0
        for other, own in list(zip(self.mixed.groups, self.roots, strict=True))[1 : coupled + 1]:
            width = other.levels * other.terms
            within = np.flatnonzero((column >= at) & (column < at + width)).reshape(-1, other.terms)
            inverses = np.linalg.inv(own)[(column[within[:, 0]] - at) // other.terms]
            V[within] = np.einsum("nba,nak->nbk", inverses, V[within])
            at += width
        n = np.diff(starts)
        inside = np.arange(len(pairs)) - starts[level]
        laid = np.empty(q * len(pairs), dtype=np.float32)
        for a in range(q):
            laid[q * starts[level] + a * n[level] + inside] = V[:, a]
        return Coupling(starts.astype(np.int64), column.astype(np.int32), laid), product


def _precision(law: Distribution) -> float:
    return curvature(np.array(law.constants()))


def _positive(S: Array) -> Array:
    """Return a matrix with a little added to its diagonal, so that rounding cannot make it indefinite."""
    diagonal = np.diag(S).max(initial=0.0)
    return np.asarray(S + 1e-10 * diagonal * np.eye(len(S)))


def _triangles(square: Array) -> Array:
    """Return lower triangles by rows, shape ``(levels, triangle)``, of square matrices."""
    rows, columns = np.tril_indices(square.shape[-1])
    return np.ascontiguousarray(square[:, rows, columns])
