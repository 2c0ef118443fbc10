"""Laplace's mode of the posterior: where sampling starts, and how far the posterior reaches around it.

In: cells, a family and priors.  Out: `Goal`, minus the logarithm of Laplace's posterior with its gradient, and its
minimum.  The effects of levels are integrated out by Laplace's approximation, all other parameters are not.  Knows no
coordinates of a sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from psychostats.design import Block
from psychostats.family import Array, Derivatives, Family
from psychostats.laplace import Laplace, NoMode
from psychostats.measurements import Gaussian
from psychostats.mixed import Mixed
from psychostats.optimum import minimise
from psychostats.priors import KINDS, Distribution, Prior, constants, correlation_cholesky, partial_correlation_shapes

_STEP = 1e-4  # in log sigma, for the derivative by differences
_FAR = 30.0  # log SDs and artanh of correlations beyond which there is nothing to look for


@dataclass(frozen=True)
class Parameter:
    """One unconstrained parameter of the covariances, or sigma.

    Parameters
    ----------
    law
        Prior of an SD or of sigma; None of a correlation.
    shape
        Of a canonical partial correlation c: (c + 1) / 2 has the law beta(shape, shape).
    """

    law: Distribution | None
    shape: float = 1.0

    @property
    def typical(self) -> float:
        """A typical size of an SD, by its prior."""
        return self.law.scale() if self.law is not None else 1.0


@dataclass(frozen=True)
class Means(Gaussian):
    """Cells of measurements, summed, with normal errors of a given SD."""

    def derivatives(self, response: Array, trials: Array, eta: Array) -> Derivatives:
        """Return the log-density of cells, without what eta does not change, and its derivatives by eta."""
        precision = trials / self.sigma**2
        away = response / trials - eta
        return Derivatives(-0.5 * precision * away**2, precision * away, precision, 0.0 * away, precision)


def parameters(mixed: Mixed, priors: Sequence[Prior], *, sigma: bool) -> tuple[Parameter, ...]:
    """Return theta's parameters in order: for each block SDs, then partial correlations by rows; then sigma."""
    of = {prior.name: prior.distribution for prior in priors}
    found = []
    for block in mixed.design.blocks:
        found += [Parameter(of[f"sd_{block.group}__{term}"]) for term in block.terms]
        if block.structure == "correlated":
            eta = of[f"cor_{block.group}"].args[0]
            found += [Parameter(None, shape) for shape in partial_correlation_shapes(len(block.terms), eta)]
    return (*found, *([Parameter(of["sigma"])] if sigma else []))


class Goal:
    """Minus the logarithm of Laplace's posterior, by x: log SDs and artanh of correlations, log sigma, and scaled b."""

    def __init__(
        self,
        mixed: Mixed,
        family: Family,
        theta: Sequence[Parameter],
        b_priors: Sequence[Distribution],
        response: Array,
    ):
        self.mixed, self.family, self.theta = mixed, family, tuple(theta)
        self.laws = constants(b_priors)
        self.measured = not family.binary
        self.inverse_root = linalg.solve_triangular(mixed.root, np.eye(len(mixed.root)), check_finite=False)
        if self.measured:
            means = mixed.design.successes / mixed.design.trials
            self.count = float(mixed.design.trials.sum())
            self.squares = float(np.sum((response - means[mixed.cell]) ** 2))
        self.laplace = Laplace(mixed, self._family(1.0))

    def _family(self, sigma: float) -> Family:
        return Means("means", "identity", sigma=sigma) if self.measured else self.family

    def b(self, x: Array) -> Array:
        """Return the fixed effects in the design's own units."""
        return np.asarray(self.inverse_root @ x[len(self.theta) :])

    def factors(self, x: Array) -> list[Array]:
        """Return the Cholesky factor of each group's covariance in the design's own units."""
        out = [np.zeros((group.terms, group.terms)) for group in self.mixed.groups]
        for block, (g, part), at in self._blocks():
            q = len(block.terms)
            omega = self._omega(block, x, at)
            out[g][part, part] = np.exp(x[at : at + q])[:, np.newaxis] * omega
        return out

    def _blocks(self) -> list[tuple[Block, tuple[int, slice], int]]:
        found, at = [], 0
        for block, part in zip(self.mixed.design.blocks, self.mixed.parts, strict=True):
            found.append((block, part, at))
            q = len(block.terms)
            at += q + (q * (q - 1) // 2 if block.structure == "correlated" else 0)
        return found

    @staticmethod
    def _omega(block: Block, x: Array, at: int) -> Array:
        q = len(block.terms)
        if block.structure != "correlated":
            return np.eye(q)
        return correlation_cholesky(np.tanh(x[at + q : at + q + q * (q - 1) // 2]))

    def _phi(self, x: Array) -> Array:
        Lambda = [root @ L for root, L in zip(self.mixed.roots, self.factors(x), strict=True)]
        return np.concatenate([self.mixed.pick(Lambda), x[len(self.theta) :]])

    def sigma(self, x: Array) -> float:
        """Return the residual SD; 1 of answers."""
        return float(np.exp(x[len(self.theta) - 1])) if self.measured else 1.0

    def _likelihood(self, x: Array, log_sigma: float) -> float:
        sigma = float(np.exp(log_sigma))
        self.laplace.family = self._family(sigma)
        return self.laplace.value(self._phi(x)) + self.count * log_sigma + 0.5 * self.squares / sigma**2

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Return the value and the gradient; an infinite value where there is no mode."""
        if np.abs(x[: len(self.theta)]).max(initial=0.0) > _FAR:
            return np.inf, np.zeros(len(x))
        self.laplace.family = self._family(self.sigma(x))
        value, slope = self.laplace.gradient(self._phi(x))
        if not np.isfinite(value):
            return np.inf, np.zeros(len(x))
        m = len(self.theta)
        gradient = np.zeros(len(x))
        gradient[m:] = slope[len(self.mixed.elements) :]
        Lambda = self.mixed.factors(slope[: len(self.mixed.elements)])  # derivatives, in the places of the elements
        by_L = [root.T @ by for root, by in zip(self.mixed.roots, Lambda, strict=True)]
        for block, (g, part), at in self._blocks():
            self._back(block, by_L[g][part, part], x, at, gradient)
        if self.measured:
            at = x[m - 1]
            value += self.count * at + 0.5 * self.squares / np.exp(2.0 * at)
            ends = [self._likelihood(x, at + move) for move in (_STEP, -_STEP)]
            if not np.isfinite(ends).all():  # of fewer rows than coefficients sigma goes to 0, and on for ever
                return np.inf, np.zeros(len(x))
            gradient[m - 1] = (ends[0] - ends[1]) / (2.0 * _STEP)
        for k, parameter in enumerate(self.theta):
            if parameter.law is None:
                c = float(np.tanh(x[k]))
                value -= parameter.shape * float(np.log1p(-c * c))
                gradient[k] += 2.0 * parameter.shape * c
            else:
                s = float(np.exp(x[k]))
                law, by = _log_prior(np.array([parameter.law.constants()]), np.array([s]))
                value -= law + x[k]
                gradient[k] -= s * float(by[0]) + 1.0
        law, by = _log_prior(self.laws, self.b(x))
        gradient[m:] -= self.inverse_root.T @ by
        return value - law, gradient

    def _back(self, block: Block, by_L: Array, x: Array, at: int, gradient: Array) -> None:
        """Add the derivative by a block's log SDs and correlations to the gradient."""
        q = len(block.terms)
        sd, omega = np.exp(x[at : at + q]), self._omega(block, x, at)
        gradient[at : at + q] += np.sum(np.tril(by_L) * sd[:, np.newaxis] * omega, axis=1)
        if block.structure != "correlated":
            return
        row = at + q
        for i in range(1, q):
            c = np.tanh(x[row : row + i])
            tail = np.sqrt(1.0 - c * c)
            left = np.concatenate([[1.0], np.cumprod(tail)])
            by_left = sd[i] * by_L[i, i]
            for k in range(i - 1, -1, -1):
                by = sd[i] * by_L[i, k]
                gradient[row + k] += by * left[k] * tail[k] ** 2 - by_left * left[k] * tail[k] * c[k]
                by_left = by_left * tail[k] + by * c[k]
            row += i

    def place(self, x: Array) -> tuple[Array, list[Array], list[Array]]:
        """Return eta, the groups' covariance factors and their effects at the mode given x, in the design's units."""
        self.laplace.family = self._family(self.sigma(x))
        theta, beta = self.laplace.split(self._phi(x))
        try:
            u = self.laplace.mode(theta, beta).u
        except NoMode:
            u = tuple(np.zeros((group.levels, group.terms)) for group in self.mixed.groups)
        Lambda = self.mixed.factors(theta)
        eta = self.mixed.X @ beta + self.mixed.design.offset + self.mixed.push(Lambda, u)
        factors = self.factors(x)
        return eta, factors, [values @ L.T for values, L in zip(u, factors, strict=True)]

    def derivatives(self, x: Array, eta: Array) -> Derivatives:
        """Return the derivatives of the likelihood at eta."""
        design = self.mixed.design
        return self._family(self.sigma(x)).derivatives(design.successes, design.trials, eta)

    def start(self) -> tuple[Array, Array]:
        """Return where the search begins, and a guess of the Hessian there."""
        m, design = len(self.theta), self.mixed.design
        x = np.zeros(m + self.mixed.X.shape[1])
        reliable = np.ones(m)
        for block, (g, _), at in self._blocks():
            q = len(block.terms)
            x[at : at + q] = np.log([0.5 * self.theta[at + j].typical for j in range(q)])
            reliable[at : at + q] += 0.5 * self.mixed.groups[g].levels
        if self.measured:
            spread = float(np.std(design.successes / design.trials))
            x[m - 1] = np.log(spread if spread > 0 else 1.0)
            reliable[m - 1] = 2.0 * self.count
        hessian = np.zeros((len(x), len(x)))
        hessian[:m, :m] = np.diag(reliable)
        back = self.inverse_root
        prior = back.T @ (np.array([curvature(row) for row in self.laws])[:, np.newaxis] * back)
        hessian[m:, m:] = np.eye(len(back)) + prior
        self.laplace.family = self._family(self.sigma(x))
        try:
            mode = self.laplace.mode(*self.laplace.split(self._phi(x)), joint=True)
        except (NoMode, np.linalg.LinAlgError):
            return x, hessian
        x[m:] = mode.beta
        root = mode.factor.fixed_root
        hessian[m:, m:] = root @ root.T + prior
        return x, hessian


def search(goal: Goal) -> tuple[Array, Array, bool]:
    """Return the mode, the Hessian there, and whether it was found."""
    start, hessian = goal.start()
    try:
        best = minimise(goal, start, hessian)
    except np.linalg.LinAlgError:
        return start, hessian, False
    if np.isfinite(best.value) and np.isfinite(best.hessian).all() and len(best.x):
        return best.x, best.hessian, True
    return start, hessian, False


def _log_prior(rows: Array, x: Array) -> tuple[float, Array]:
    """Return the sum of log-densities, up to a constant, of x under rows of constants, and their derivatives."""
    kind, location, scale, shape = rows.T
    z = (x - location) / scale
    normal, heavy = kind == KINDS["normal"], kind == KINDS["student_t"]
    positive = np.where(normal | heavy, 1.0, z)
    value = np.where(
        normal,
        -0.5 * z**2,
        np.where(heavy, -0.5 * (shape + 1.0) * np.log1p(z**2 / shape), (shape - 1.0) * np.log(positive) - z),
    )
    slope = np.where(normal, -z, np.where(heavy, -(shape + 1.0) * z / (shape + z**2), (shape - 1.0) / positive - 1.0))
    return float(value.sum()), np.asarray(slope / scale)


def curvature(row: Array) -> float:
    """Return the curvature of a prior on the line at its centre."""
    kind, _, scale, shape = row
    return float((shape + 1.0) / shape / scale**2 if kind == KINDS["student_t"] else 1.0 / scale**2)
