"""The likelihood of a linear mixed model, exact, with the fixed effects and the residual SD profiled out.

In: a `Mixed` whose response is a measurement, and theta, the relative covariance factors.  Out: half the deviance, or
half the REML criterion, with its gradient, and the fixed effects, modes and residual SD that go with theta (Bates et
al. 2015, sections 3 and 5).  Knows no optimiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from psychostats.arrow import Cross, Factor
from psychostats.mixed import Mixed

Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Solution:
    """What goes with theta.

    Parameters
    ----------
    beta, u
        Scaled fixed effects, and spherical effects of each group, shape ``(levels, terms)``.
    residual
        Of each row.
    penalised
        Residual sum of squares plus that of u.
    factor
        Of H, with the fixed columns.
    """

    beta: Array
    u: tuple[Array, ...]
    residual: Array
    penalised: float
    factor: Factor


class Gaussian:
    """Half the deviance of a linear mixed model, or half its REML criterion.

    Parameters
    ----------
    mixed
        The data.
    reml
        Restricted maximum likelihood.
    """

    def __init__(self, mixed: Mixed, *, reml: bool = False):
        self.mixed, self.reml = mixed, reml
        self.cross = mixed.arrow.cross(np.ones(len(mixed.X)), fixed=True)
        y = mixed.design.successes - mixed.design.offset
        self._y = y
        self._products = [group.collect(y) for group in mixed.groups]
        self._fixed = mixed.X.T @ y
        self.freedom = len(y) - (mixed.X.shape[1] if reml else 0)

    def solve(self, theta: Array) -> Solution:
        """Return the penalised least squares solution at theta."""
        mixed = self.mixed
        Lambda = mixed.factors(theta)
        factor = Factor(mixed.arrow, self.cross, Lambda)
        products = [product @ L for product, L in zip(self._products, Lambda, strict=True)]
        u, beta = mixed.arrow.split(*factor.solve(*mixed.arrow.join(products, self._fixed)))
        # By rows: the difference of two large sums of squares would lose the small one between them.
        residual = self._y - mixed.X @ beta - mixed.push(Lambda, u)
        penalised = float(residual @ residual) + sum(float(np.sum(values**2)) for values in u)
        return Solution(beta, u, residual, penalised, factor)

    def sigma(self, solution: Solution) -> float:
        """Return the residual SD that maximises the criterion."""
        return float(np.sqrt(solution.penalised / self.freedom))

    def value(self, theta: Array) -> float:
        """Return half the criterion."""
        solution = self.solve(theta)
        return self._criterion(solution)

    def gradient(self, theta: Array) -> tuple[float, Array]:
        """Return half the criterion and its gradient by theta."""
        solution = self.solve(theta)
        return self._criterion(solution), self._slope(solution, solution.penalised / self.freedom)

    def free_gradient(self, parameters: Array) -> tuple[float, Array]:
        """Return half the deviance and its gradient by ``(theta, log sigma)``, the residual SD not profiled out."""
        theta, sigma = parameters[:-1], float(np.exp(parameters[-1]))
        solution = self.solve(theta)
        n, share = self.freedom, solution.penalised / sigma**2
        value = 0.5 * (solution.factor.log_determinant + n * np.log(2.0 * np.pi * sigma**2) + share)
        return float(value), np.append(self._slope(solution, sigma**2), n - share)

    def slope_at(self, theta: Array, sigma: float) -> Array:
        """Return the gradient of half the criterion by theta with the residual SD held, not profiled out."""
        return self._slope(self.solve(theta), sigma**2)

    def penalty_slope(self, solution: Solution) -> Array:
        """Return the gradient of the penalised sum of squares by theta."""
        pairs = zip(self.mixed.groups, solution.u, strict=True)
        return self.mixed.pick([-2.0 * group.collect(solution.residual).T @ u for group, u in pairs])

    def random_factor(self, factor: Factor) -> Factor:
        """Return the factor of the random effects' part of H alone."""
        D, C, S, kept = self.cross.D, self.cross.C, self.cross.S, factor.rest
        return Factor(self.mixed.arrow, Cross(D, C[:, :, :kept], S[:kept, :kept]), factor.Lambda)

    def _slope(self, solution: Solution, variance: float) -> Array:
        factor = solution.factor if self.reml else self.random_factor(solution.factor)
        traces = self.mixed.pick(factor.trace_gradients())
        return np.asarray(traces + 0.5 * self.penalty_slope(solution) / variance)

    def _criterion(self, solution: Solution) -> float:
        n = self.freedom
        total = solution.factor.log_determinant + n * (1.0 + np.log(2.0 * np.pi * solution.penalised / n))
        if self.reml:
            # Of the design's own fixed columns, as lme4 counts it.
            root = np.log(np.diag(solution.factor.fixed_root)).sum() + np.log(np.diag(self.mixed.root)).sum()
            total += 2.0 * float(root)
        return 0.5 * float(total)
