"""Maximum likelihood: a design and a family to the estimates, their covariance, and whether there is a maximum at all.

In: a `Design`, a `Family`, and whether restricted likelihood or quadrature is asked for.  Out: a frozen `Maximum` in
the design's own units.  Knows no names of terms, no file and no interval.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import linalg

from psychostats.arrow import Factor
from psychostats.design import Design
from psychostats.errors import InputError, NoMaximumError
from psychostats.family import Family
from psychostats.gaussian import Gaussian
from psychostats.laplace import Laplace, NoMode
from psychostats.mixed import Mixed, free, prepare
from psychostats.optimum import Function, Optimum, inverse, minimise
from psychostats.quadrature import NODES_MAX, Quadrature
from psychostats.separation import separated, uniform_groups
from psychostats.threads import one_thread

Array: TypeAlias = npt.NDArray[np.float64]

# A relative SD, or a share of a term's variance, below which it is taken as zero; lme4's isSingular has the same.
SINGULAR = 1e-4
# Where theta begins: each group's columns over their root mean square, so half a logit.
_START = 0.5
# Of central differences in theta.
_STEP = 1e-4
# Rounds of the EM algorithm before the walk down, and the relative SD that counts where one is smaller.
_ROUNDS, _SMALL = 2, 0.2
# How many times as long as the first step all of them take: measured 8 to 19 on one or two factors with and without
# slopes, 700 to 60,000 rows.
_STEPS_AHEAD = 12.0
# A linear predictor beyond which a maximum, if it is one, deserves a second look.
_FAR = 9.0


@dataclass(frozen=True)
class Method:
    """How the likelihood is taken.

    Parameters
    ----------
    reml
        Restricted maximum likelihood, of a Gaussian model.
    quadrature
        Nodes of adaptive Gauss-Hermite quadrature; 1 is Laplace's approximation.
    """

    reml: bool = False
    quadrature: int = 1

    def require(self, family: Family) -> None:
        """Refuse what does not go together.

        Raises
        ------
        InputError
            If REML is asked of a family that is not Gaussian, quadrature of one that is, or too many nodes.
        """
        if not family.maximisable:
            raise InputError(f"maximum likelihood cannot fit the family {family.name}; use --engine pymc.")
        if family.lapse is None:
            raise InputError(
                "maximum likelihood cannot estimate the lapse rate; give it as a number, or use --engine pymc."
            )
        if self.reml and family.binary:
            raise InputError(f"REML is for the family gaussian; '{family.name}' is fitted by maximum likelihood.")
        if not 1 <= self.quadrature <= NODES_MAX:
            raise InputError(f"{self.quadrature} nodes of quadrature are asked for; allowed are 1 to {NODES_MAX}.")
        if self.quadrature > 1 and not family.binary:
            raise InputError("the likelihood of the family gaussian is exact; leave out --quadrature.")


@dataclass(frozen=True)
class Maximum:
    """Where the likelihood is largest.

    Parameters
    ----------
    b
        Fixed effects, shape ``(columns,)``.
    factors
        For each block of the design, the lower triangular factor of its covariance, shape ``(terms, terms)``.
    sigma
        Residual SD; None where the family has none.
    covariance
        Of ``(b, elements of the factors, log sigma or estimated rates)``; zero in directions that the data do not know,
        as of an SD that is zero. For a family that is not Gaussian the inverse of the joint Hessian, so that the fixed
        effects' part carries the uncertainty of the group effects' SDs.
    log_likelihood
        With binomial coefficients; of REML, the restricted one.
    r, r_sd
        For each block, conditional modes of its levels' effects and their SDs, shape ``(levels, terms)``; the SDs are
        conditional on all other parameters.
    parameters
        Number of parameters that were estimated.
    evaluations
        How often the likelihood was called.
    """

    b: Array
    factors: tuple[Array, ...]
    sigma: float | None
    covariance: Array
    log_likelihood: float
    r: tuple[Array, ...]
    r_sd: tuple[Array, ...]
    parameters: int
    evaluations: int


def maximise(design: Design, family: Family, method: Method, *, start: Maximum | None = None) -> Maximum:
    """Fit a design by maximum likelihood.

    Parameters
    ----------
    design
        Coded trials.
    family, method
        What is fitted, and how.
    start
        Where to begin, for refits of like data.

    Raises
    ------
    InputError
        If family and method do not go together, or the model is too large.
    NoMaximumError
        If the likelihood has no maximum: it rises for ever, as for answers that a predictor separates.
    """
    method.require(family)
    with one_thread():
        return maximise_mixed(prepare(design, continuous=not family.binary), family, method, start=start)


def forecast(design: Design, family: Family) -> float:
    """Return about how many seconds `maximise` would take: the first step is timed.

    Raises
    ------
    NoMaximumError
        If not even that can be taken.
    """
    began = time.perf_counter()
    with one_thread():
        mixed = prepare(design, continuous=not family.binary)
        theta = np.array([float(element.diagonal) for element in mixed.elements])
        if family.binary:
            function, theta = objective(mixed, family, Method()), _START * theta
            try:
                mode = function.mode(theta, np.zeros(mixed.X.shape[1]), joint=True)
                function.gradient(np.concatenate([theta, mode.beta]))
            except (NoMode, np.linalg.LinAlgError) as error:
                raise _no_maximum(mixed, family, None) from error
        else:
            Gaussian(mixed, reml=False).gradient(theta)
    return _STEPS_AHEAD * (time.perf_counter() - began)


def maximise_mixed(mixed: Mixed, family: Family, method: Method, *, start: Maximum | None = None) -> Maximum:
    """Do the same for a design that was prepared before; see `maximise`. To be called on `one_thread`."""
    return _binary(mixed, family, method, start) if family.binary else _gaussian(mixed, method)


def _binary(mixed: Mixed, family: Family, method: Method, start: Maximum | None) -> Maximum:
    function = objective(mixed, family, method)
    theta = np.array([_START * element.diagonal for element in mixed.elements])
    beta = np.zeros(mixed.X.shape[1])
    if start is not None:
        theta, beta = theta_of(mixed, start), mixed.root @ start.b
    try:
        begin = _begin(function, theta, beta, _ROUNDS if start is None else 0)
        best = settle(function.gradient, minimise(function.gradient, *begin), mixed)
    except (NoMode, np.linalg.LinAlgError) as error:
        raise _no_maximum(mixed, family, None) from error
    return conclude(mixed, function, best)


def conclude(mixed: Mixed, function: Laplace, best: Optimum, rates: int = 0) -> Maximum:
    """Take what was found as the maximum, or say why it is none.

    Parameters
    ----------
    mixed, function
        Data and likelihood.
    best
        Where the search over phi, and behind it so many `rates` of the family, ended; settled by `settle`.
    rates
        Their covariance stands behind that of the factors.

    Raises
    ------
    NoMaximumError
    """
    family, last = function.family, len(best.x) - rates
    theta, beta = function.split(best.x[:last])
    far = float(np.abs(mixed.X @ beta).max(initial=0.0)) > _FAR or float(np.abs(theta).max(initial=0.0)) > _FAR
    # Far below the guess rate the likelihood is level, which is no maximum.
    level = not best.curved(slice(len(theta), None))
    if not best.converged or level or (far and separated(mixed.design)):
        raise _no_maximum(mixed, family, best)
    alike = uniform_groups(mixed.design) if float(np.abs(theta).max(initial=0.0)) > _FAR else ()
    if alike:
        raise NoMaximumError(
            f"the likelihood has no maximum: all answers within a level of {alike[0]} are alike, in every level, so it "
            f"rises for ever as sd_{alike[0]}__Intercept grows; leave the group out, or use --engine pymc, whose "
            "priors hold it."
        )
    try:
        mode = function.mode(theta, beta)
    except NoMode as error:
        raise _no_maximum(mixed, family, best) from error
    k, p = len(theta), len(beta)
    back = np.eye(k + p + rates)
    back[: k + p, : k + p] = back_of(mixed)
    factors, modes, sds = _effects(mixed, mode.factor.Lambda, 1.0, mode.u, mode.factor)
    return Maximum(
        b=_inverse_root(mixed) @ beta,
        factors=factors,
        sigma=None,
        covariance=back @ inverse(best.hessian) @ back.T,
        log_likelihood=mixed.constant - best.value,
        r=modes,
        r_sd=sds,
        parameters=k + p + rates,
        evaluations=best.evaluations,
    )


def _gaussian(mixed: Mixed, method: Method) -> Maximum:
    gaussian = Gaussian(mixed, reml=method.reml)
    spread = float(np.std(mixed.design.successes))
    k, p = len(mixed.elements), mixed.X.shape[1]
    if spread == 0:
        raise InputError("the response does not vary.")
    if gaussian.freedom <= 0:
        raise InputError(f"{len(mixed.X)} rows cannot tell {p} fixed effects apart.")
    theta = np.array([float(element.diagonal) for element in mixed.elements])
    reliable = np.maximum(1.0, [0.2 * mixed.groups[e.group].levels for e in mixed.elements])
    best = minimise(gaussian.gradient, theta, np.diag(np.asarray(reliable, dtype=float)))
    best = settle(gaussian.gradient, best, mixed)
    solution = gaussian.solve(best.x)
    sigma = gaussian.sigma(solution)
    if not best.converged or not np.isfinite(sigma) or sigma < 1e-10 * spread:
        raise NoMaximumError(
            "the likelihood has no maximum: it rises for ever as the residual SD goes to 0, since the model fits every "
            "measurement; leave out effects."
        )
    # Of (theta, log sigma) with sigma not profiled out: the information is exact but for differences in theta.
    joint = np.zeros((k + 1, k + 1))
    for i, move in enumerate(_STEP * np.eye(k)):
        above, below = gaussian.slope_at(best.x + move, sigma), gaussian.slope_at(best.x - move, sigma)
        joint[i, :k] = (above - below) / (2.0 * _STEP)
    joint[:k, :k] = 0.5 * (joint[:k, :k] + joint[:k, :k].T)
    joint[k, :k] = joint[:k, k] = -gaussian.penalty_slope(solution) / sigma**2
    joint[k, k] = 2.0 * gaussian.freedom
    own = units(mixed)
    jacobian = np.zeros((k + 1, k + 1))
    jacobian[:k, :k], jacobian[:k, k], jacobian[k, k] = sigma * own, sigma * own @ best.x, 1.0
    covariance = np.zeros((p + k + 1, p + k + 1))
    root = linalg.solve_triangular(solution.factor.fixed_root, np.eye(p), lower=True).T
    fixed = sigma * _inverse_root(mixed) @ root
    covariance[:p, :p] = fixed @ fixed.T
    covariance[p:, p:] = jacobian @ inverse(joint) @ jacobian.T
    # The effects' SDs are conditional on the fixed effects too, as lme4 has them: H without the fixed columns.
    factors, modes, sds = _effects(
        mixed, solution.factor.Lambda, sigma, solution.u, gaussian.random_factor(solution.factor)
    )
    return Maximum(
        b=_inverse_root(mixed) @ solution.beta,
        factors=factors,
        sigma=sigma,
        covariance=covariance,
        log_likelihood=-best.value,
        r=modes,
        r_sd=sds,
        parameters=k + p + 1,
        evaluations=best.evaluations,
    )


def log_likelihood(design: Design, family: Family, method: Method, maximum: Maximum) -> float:
    """Evaluate the log-likelihood anew at estimates that were stored."""
    with one_thread():
        mixed = prepare(design, continuous=not family.binary)
        theta = theta_of(mixed, maximum)
        if not family.binary:
            return -Gaussian(mixed, reml=method.reml).value(theta)
        phi = np.concatenate([theta, mixed.root @ maximum.b])
        return mixed.constant - objective(mixed, family, method).value(phi)


def objective(mixed: Mixed, family: Family, method: Method) -> Laplace:
    """Return the likelihood of a binary family as a function of phi."""
    return Laplace(mixed, family) if method.quadrature == 1 else Quadrature(mixed, family, method.quadrature)


def theta_of(mixed: Mixed, maximum: Maximum) -> Array:
    """Return theta of estimates in the design's own units."""
    parts = [L[free(block)] for block, L in zip(mixed.design.blocks, maximum.factors, strict=True)]
    return np.linalg.solve(units(mixed), np.concatenate([np.zeros(0), *parts])) / (maximum.sigma or 1.0)


def back_of(mixed: Mixed) -> Array:
    """Return the matrix that turns phi into the fixed effects and the free elements of the factors, in that order."""
    p, k = mixed.X.shape[1], len(mixed.elements)
    back = np.zeros((k + p, k + p))
    back[:p, k:] = _inverse_root(mixed)
    back[p:, :k] = units(mixed)
    return back


def phi_of(mixed: Mixed, maximum: Maximum) -> tuple[Array, Array]:
    """Return phi of estimates in the design's own units, and the Hessian there; one along what the data do not know."""
    ahead = np.linalg.inv(back_of(mixed))
    size = len(ahead)
    covariance = ahead @ maximum.covariance[:size, :size] @ ahead.T
    hessian = np.linalg.pinv(covariance, hermitian=True, rcond=1e-10)
    unknown = np.eye(size) - hessian @ covariance
    phi = np.concatenate([theta_of(mixed, maximum), mixed.root @ maximum.b])
    return phi, hessian + 0.5 * (unknown + unknown.T)


def units(mixed: Mixed) -> Array:
    """Return the matrix that turns theta into the free elements of the factors in the design's own units."""
    inverses = [np.linalg.inv(root) for root in mixed.roots]
    matrix = np.zeros((len(mixed.elements), len(mixed.elements)))
    for i, a in enumerate(mixed.elements):
        for j, b in enumerate(mixed.elements):
            if (a.group, a.column) == (b.group, b.column):
                matrix[i, j] = inverses[a.group][a.row, b.row]
    return matrix


def _inverse_root(mixed: Mixed) -> Array:
    """Return what turns beta into the coefficients of the design's own columns."""
    return np.asarray(linalg.solve_triangular(mixed.root, np.eye(len(mixed.root)), check_finite=False))


def _begin(laplace: Laplace, theta: Array, beta: Array, rounds: int) -> tuple[Array, Array]:
    """Return the start with beta at its joint mode, and the Hessian there as far as it is known without differences.

    A few rounds of the EM algorithm come first: slow near the maximum, they cover most of a long way to it cheaply.
    """
    mixed, k = laplace.mixed, len(theta)
    mode = laplace.mode(theta, beta, joint=True)
    levels = mode.factor.levels()
    for _ in range(rounds):
        # Each covariance becomes the mean over levels of what is expected of r r', as far as it is free.
        moments = [u.T @ u + block.sum(axis=0) for u, block in zip(mode.u, levels, strict=True)]
        covariances = [L @ m @ L.T / len(u) for L, m, u in zip(mode.factor.Lambda, moments, mode.u, strict=True)]
        lower = mixed.factors(mixed.pick(covariances))
        # Cholesky's factor is read from the lower triangle alone.
        theta = mixed.pick([np.asarray(np.linalg.cholesky(S), dtype=float) for S in lower])
        mode = laplace.mode(theta, mode.beta, joint=True)
        levels = mode.factor.levels()
    root = mode.factor.fixed_root
    hessian = np.zeros((k + len(beta), k + len(beta)))
    hessian[k:, k:] = root @ root.T
    hessian[:k, :k] = _information(mixed, mode.factor.Lambda, levels)
    return np.concatenate([theta, mode.beta]), hessian


def _information(mixed: Mixed, Lambda: Sequence[Array], levels: Sequence[Array]) -> Array:
    """Return Fisher's information on theta, but for what levels have in common: the sum of tr(K S K S') / 2.

    K is what is known of a level's spherical effects, the identity less its part of H^-1; S is how an element of theta
    changes their covariance, as seen from the present one.
    """
    known = [np.eye(block.shape[1]) - block for block in levels]
    inverses = [np.linalg.inv(L + np.diag(np.maximum(_SMALL - np.abs(np.diag(L)), 0.0))) for L in Lambda]
    parts = []
    for e in mixed.elements:
        change = np.zeros(Lambda[e.group].shape)
        change[:, e.column] = inverses[e.group][:, e.row]
        parts.append(known[e.group] @ (change + change.T))
    k = len(parts)
    information = 0.1 * np.eye(k)  # where the levels know nothing
    for i in range(k):
        for j in range(k):
            if mixed.elements[i].group == mixed.elements[j].group:
                information[i, j] += 0.5 * np.einsum("lab,lba->", parts[i], parts[j])
    return information


def settle(function: Function, best: Optimum, mixed: Mixed) -> Optimum:
    """Put the factors into their one form: diagonals not negative, and what is zero within rounding exactly zero.

    The likelihood knows only Lambda Lambda', so the signs of columns, and rotations where an SD is zero, are free.
    """
    k = len(mixed.elements)
    Lambda = mixed.factors(best.x[:k])
    signs = mixed.pick([np.where(np.diag(L) < 0, -1.0, 1.0) * np.ones_like(L) for L in Lambda])
    signs = np.concatenate([signs, np.ones(len(best.x) - k)])
    flipped = replace(
        best, x=signs * best.x, gradient=signs * best.gradient, hessian=signs[:, np.newaxis] * best.hessian * signs
    )
    x = np.concatenate([mixed.pick([_cholesky(L @ L.T) for L in Lambda]), best.x[k:]])
    if not best.converged:
        return flipped
    if np.abs(x - flipped.x).max(initial=0.0) < 1e-12:
        return replace(flipped, x=np.where(x == 0, 0.0, flipped.x))
    value, gradient = function(x)
    if not abs(value - best.value) <= 1e-7:  # what looked like zero is not
        return flipped
    if np.abs(x - flipped.x).max() < 10 * SINGULAR:
        return replace(flipped, x=x, value=value, gradient=gradient)
    return minimise(function, x, np.diag(np.maximum(np.abs(np.diag(best.hessian)), 0.1)))


def _cholesky(covariance: Array) -> Array:
    """Return the lower triangular factor of a covariance matrix that may be singular, zero where a pivot is."""
    n = len(covariance)
    L = np.zeros((n, n))
    for j in range(n):
        pivot = covariance[j, j] - L[j, :j] @ L[j, :j]
        if pivot > SINGULAR**2 * max(1.0, covariance[j, j]):
            L[j, j] = np.sqrt(pivot)
            L[j + 1 :, j] = (covariance[j + 1 :, j] - L[j + 1 :, :j] @ L[j, :j]) / L[j, j]
    return L


def _effects(
    mixed: Mixed, Lambda: Sequence[Array], sigma: float, u: Sequence[Array], factor: Factor
) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Array, ...]]:
    """Return covariance factors, modes and conditional SDs in the design's own units, one of each a block."""
    levels = factor.levels()
    factors, modes, sds = [], [], []
    for g, part in mixed.parts:
        L = linalg.solve_triangular(mixed.roots[g], Lambda[g], lower=True, check_finite=False)
        spread = sigma * np.sqrt(np.einsum("ab,lbc,ac->la", L, levels[g], L))
        factors.append(sigma * L[part, part])
        modes.append((u[g] @ L.T)[:, part])
        sds.append(spread[:, part])
    return tuple(factors), tuple(modes), tuple(sds)


def _no_maximum(mixed: Mixed, family: Family, best: Optimum | None) -> NoMaximumError:
    """Say why there is no maximum, naming the term."""
    design = mixed.design
    found = separated(design)
    if found:
        return NoMaximumError(found)
    if best is None and family.has_asymptotes:
        return NoMaximumError(
            f"no maximum of the likelihood was found: under {family.describe()} answers of some cell that are right no "
            "more often than by guessing, or more often than lapses allow, have none; use --engine pymc, whose priors "
            "hold it."
        )
    if best is None:
        return NoMaximumError("the likelihood could not be computed; simplify the group effects, or use --engine pymc.")
    k = len(mixed.elements)
    coefficients = best.x[k : k + mixed.X.shape[1]]
    theta, beta = np.abs(best.x[:k]), np.abs(coefficients)
    if theta.max(initial=0.0) > max(_FAR, beta.max(initial=0.0)):
        e = mixed.elements[int(np.argmax(theta))]
        name = next(
            f"sd_{block.group}__{block.terms[e.row - part.start]}"
            for block, (g, part) in zip(design.blocks, mixed.parts, strict=True)
            if g == e.group and part.start <= e.row < part.stop
        )
        return NoMaximumError(
            f"the likelihood has no maximum: it still rises as {name} grows; simplify the group effects, or use "
            "--engine pymc, whose priors hold it."
        )
    b = _inverse_root(mixed) @ coefficients
    reach = np.abs(b) * np.where(np.ptp(design.X, axis=0) > 0, np.ptp(design.X, axis=0), 1.0)
    name = design.names[int(np.argmax(reach))]
    return NoMaximumError(
        f"no maximum of the likelihood was found: it still changes with b_{name} (now {b[int(np.argmax(reach))]:.3g}); "
        "answers at or below the guess rate, or too few of them, can cause it. Use --engine pymc, whose priors hold it."
    )
