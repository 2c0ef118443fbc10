"""The likelihood of a model with one scalar group effect by adaptive Gauss-Hermite quadrature.

In: a `Mixed` with one group of one term, a family, and phi = (theta, beta).  Out: minus the log-likelihood and its
gradient, the integral over each level's effect taken with nodes around its mode, scaled by its conditional SD (Pinheiro
and Bates 1995).  One node is Laplace's approximation.  Knows no optimiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from psychostats.errors import InputError
from psychostats.family import Family
from psychostats.laplace import Laplace, NoMode
from psychostats.mixed import Mixed

Array: TypeAlias = npt.NDArray[np.float64]

#: The most nodes; 25 agree with 100 to rounding wherever 25 are not far too few.
NODES_MAX = 100
# Of a central difference, in units where a parameter's SE is some tenths.
_STEP = 1e-5


class Quadrature(Laplace):
    """Minus the log-likelihood by adaptive quadrature.

    Parameters
    ----------
    mixed, family
        As for `Laplace`.
    nodes
        Number of nodes a level.

    Raises
    ------
    InputError
        If the model has more than one scalar group effect, or `nodes` is out of range.
    """

    def __init__(self, mixed: Mixed, family: Family, nodes: int):
        super().__init__(mixed, family)
        if len(mixed.groups) != 1 or mixed.groups[0].terms != 1:
            raise InputError(
                "adaptive quadrature is for one group effect with one term, as (1 | participant); this model has "
                f"{sum(group.terms for group in mixed.groups)} (groups: {len(mixed.groups)}). Leave out --quadrature "
                "for Laplace's approximation."
            )
        x, weight = np.polynomial.hermite_e.hermegauss(nodes)
        self._nodes, self._log_weights = x, np.log(weight) - 0.5 * np.log(2.0 * np.pi) + 0.5 * x**2

    def value(self, phi: Array) -> float:
        """Return minus the log-likelihood, without the binomial coefficients; infinite where there is no mode."""
        theta, beta = self.split(phi)
        try:
            mode = self.mode(theta, beta)
        except NoMode:
            return np.inf
        group, (L,) = self.mixed.groups[0], mode.factor.Lambda
        u = mode.u[0][:, 0]
        sd = mode.factor.root_inverse[:, 0, 0]
        design = self.mixed.design
        known = self.mixed.X @ beta + design.offset
        logs = []
        for x, weight in zip(self._nodes, self._log_weights, strict=True):
            at = u + sd * x
            eta = known + group.Z[:, 0] * (L[0, 0] * at)[group.index]
            density = self.family.log_density(design.successes, design.trials, eta)
            logs.append(weight + np.bincount(group.index, density, minlength=group.levels) - 0.5 * at**2)
        return float(-np.sum(np.log(sd) + special.logsumexp(logs, axis=0)))

    def gradient(self, phi: Array, rates: Sequence[str] = ()) -> tuple[float, Array]:
        """Return minus the log-likelihood and its gradient by phi, by central differences; by no rate."""
        assert not rates, "rates are estimated by Laplace's approximation"
        steps = _STEP * np.eye(len(phi))
        slopes = [(self.value(phi + step) - self.value(phi - step)) / (2.0 * _STEP) for step in steps]
        return self.value(phi), np.array(slopes)
