"""A fit's parameters as draws, the effects of its single levels among them, whatever it was made by.

In: a `Fit`.  Out: `Parameters` whose rows are draws: those of the posterior, or of a maximum those of the normal
approximation around it.  Knows no feature and no table.

Of a maximum, `Fit.parameters` gives the points that the delta method needs; the effects of levels stay at their modes
there, as if they were known.  Here they are drawn, jointly with all else: with phi = (b, theta) normal around its
estimate with the covariance V that the fit reports,

    r = r^(phi) + e,    e ~ normal(0, Lambda H^-1 Lambda'),

r^ the mode of the effects given phi, taken as linear in phi around the estimate (Kass and Steffey 1989; TMB's joint
precision is the same).  So an effect's spread is its conditional one plus what the uncertainty of phi adds.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import linalg

from psychostats.errors import InputError
from psychostats.fit import Fit
from psychostats.laplace import Laplace, Mode
from psychostats.maximum import theta_of, units
from psychostats.mixed import Mixed, free, prepare
from psychostats.predictor import Parameters
from psychostats.threads import one_thread
from psychostats.uncertainty import points

Array: TypeAlias = npt.NDArray[np.float64]

#: Draws from the normal approximation around a maximum; as many as the default posterior has.
DRAWS = 4000
#: Half the distance of the differences by which the modes' slopes are taken, in standard errors.
_STEP = 1e-3


def level_draws(fit: Fit, *, draws: int = DRAWS, seed: int = 1) -> Parameters:
    """Return all parameters of a fit as draws, effects of levels included.

    Parameters
    ----------
    fit
        A fit of right and wrong answers.
    draws, seed
        Of the normal approximation around a maximum; a posterior has draws of its own and needs neither.

    Returns
    -------
    Parameters
        Every array with one row a draw.

    Raises
    ------
    InputError
        If `draws` is below 2, or the fit is a maximum of another family.
    """
    if not fit.is_maximum:
        return fit.parameters()
    if draws < 2:
        raise InputError(f"{draws} draws of the effects of levels are asked for; at least 2 are needed.")
    if not fit.spec.family.binary:
        raise InputError(f"effects of levels are drawn for right and wrong answers, not for {fit.spec.family.name}.")
    with one_thread():
        return _around(fit, draws, np.random.default_rng(seed))


def _around(fit: Fit, draws: int, rng: np.random.Generator) -> Parameters:
    """Draw from the normal approximation around a maximum."""
    best, p = fit.estimates.maximum, len(fit.design.names)
    mixed = prepare(fit.design)
    laplace, to_own = Laplace(mixed, fit.spec.family), units(mixed)
    elements = [L[free(block)] for block, L in zip(fit.design.blocks, best.factors, strict=True)]
    centre = np.concatenate([best.b, *elements])
    around = points(centre, best.covariance[: len(centre), : len(centre)], _STEP)
    m = len(around) // 2
    columns = (around[1 : m + 1] - around[m + 1 :]) / (2.0 * _STEP)  # of a square root of the covariance, as rows

    mode = laplace.mode(theta_of(mixed, best), mixed.root @ best.b)
    slopes = []
    for row in columns:
        ends = []
        for sign in (1.0, -1.0):
            moved = centre + sign * _STEP * row
            at = laplace.mode(np.linalg.solve(to_own, moved[p:]), mixed.root @ moved[:p])
            ends.append(_in_own_units(mixed, at, [u[np.newaxis] for u in at.u]))
        slopes.append([(above - below)[0] / (2.0 * _STEP) for above, below in zip(*ends, strict=True)])

    z = rng.standard_normal((draws, m))
    phi = centre + z @ columns
    noise = _in_own_units(mixed, mode, _spherical(mixed, mode, draws, rng))
    r, covariance, start = [], [], p
    for i, block in enumerate(fit.design.blocks):
        drift = np.tensordot(z, np.array([part[i] for part in slopes]), axes=1) if m else 0.0
        r.append(best.r[i] + drift + noise[i])
        at_free = free(block)
        L = np.zeros((draws, len(block.terms), len(block.terms)))
        L[:, at_free[0], at_free[1]] = phi[:, start : start + len(at_free[0])]
        start += len(at_free[0])
        covariance.append(L @ np.swapaxes(L, 1, 2))
    return Parameters(phi[:, :p], tuple(covariance), tuple(r))


def _spherical(mixed: Mixed, mode: Mode, draws: int, rng: np.random.Generator) -> list[Array]:
    """Draw spherical effects from normal(0, H^-1), one array ``(draws, levels, terms)`` a group.

    With H = R R', R the arrowhead's Cholesky factor, x = R'^-1 e: the dense rest first, then each level of the first
    group given it.
    """
    factor, arrow = mode.factor, mixed.arrow
    if not factor.Lambda:
        return []
    first, rest = arrow.first, rng.standard_normal((draws, arrow.rest))
    e = rng.standard_normal((draws, first.levels, first.terms))
    if arrow.rest:
        rest = linalg.solve_triangular(factor.dense, rest.T, lower=True, trans="T", check_finite=False).T
        V = factor.V.reshape(-1, arrow.rest)
        e = e - (factor.apply(rest, transposed=True) @ V.T).reshape(e.shape)
    parts, start = [np.einsum("lba,slb->sla", factor.root_inverse, e)], 0
    for group in arrow.others:
        size = group.levels * group.terms
        parts.append(rest[:, start : start + size].reshape(draws, group.levels, group.terms))
        start += size
    return parts


def _in_own_units(mixed: Mixed, mode: Mode, u: list[Array]) -> list[Array]:
    """Turn spherical effects ``(draws, levels, terms)`` of each group into those of each block of the design."""
    out = []
    for g, part in mixed.parts:
        L = linalg.solve_triangular(mixed.roots[g], mode.factor.Lambda[g], lower=True, check_finite=False)
        out.append((u[g] @ L.T)[:, :, part])
    return out
