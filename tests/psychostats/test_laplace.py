"""Likelihoods against brute force: dense algebra, numerical integrals, the multivariate normal density, differences."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, linalg, optimize, special, stats

from psychostats.arrow import Arrow, Factor, Group
from psychostats.design import Design, code
from psychostats.families import resolve_family
from psychostats.family import Family
from psychostats.formula import parse_formula
from psychostats.gaussian import Gaussian
from psychostats.laplace import Laplace
from psychostats.maximum import Maximum, Method, log_likelihood
from psychostats.mixed import free, prepare
from psychostats.optimum import inverse as inverse_of
from psychostats.optimum import minimise
from psychostats.quadrature import Quadrature

FAMILIES = {
    "logit": resolve_family("bernoulli"),
    "probit": resolve_family("bernoulli", link="probit"),
    "afc": resolve_family("afc"),
    "afc probit": resolve_family("afc", link="probit", guess=1 / 3),
    "lapse": resolve_family("afc", lapse=0.03),
    "lapse only": resolve_family("bernoulli", lapse=0.02, link="probit"),
}
STRUCTURES = {
    "none": "y ~ x",
    "scalar": "y ~ x + (1 | a)",
    "correlated": "y ~ x + (1 + x | a)",
    "independent": "y ~ x + (1 + x || a)",
    "nested": "y ~ x + (1 | a / b)",
    "slopes of the smaller": "y ~ x + (1 | a) + (1 + x | c)",
    "three": "y ~ x * f + (1 + f + x | a) + (1 + x || b) + (0 + x | c)",
}


def _trials(*, counts: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    n = 60
    frame = pd.DataFrame({"x": rng.normal(1.0, 1.0, n), "f": rng.choice(["u", "v"], n)})
    for name, levels in (("a", 5), ("b", 4), ("c", 3)):
        frame[name] = [f"{name}{i}" for i in rng.integers(0, levels, n)]
    frame["y"] = rng.normal(frame["x"], 1.0) if not counts else (rng.random(n) < 0.6).astype(int)
    return frame


def _design(formula: str, *, continuous: bool = False) -> Design:
    frame = _trials(counts=not continuous)
    return code(parse_formula(formula), frame).design(frame, "number" if continuous else "answers")


def _some_factors(design: Design) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(3)
    factors = []
    for block in design.blocks:
        L = np.zeros((len(block.terms), len(block.terms)))
        L[free(block)] = rng.normal(0.0, 0.6, len(free(block)[0]))
        np.fill_diagonal(L, np.abs(np.diag(L)) + 0.2)
        factors.append(L)
    return tuple(factors)


def _at(design: Design, b: np.ndarray, factors: tuple[np.ndarray, ...], sigma: float | None = None) -> Maximum:
    return Maximum(b, factors, sigma, np.zeros((0, 0)), 0.0, (), (), 0, 0)


def _dense(design: Design, factors: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the whole Z, and the covariance of all effects."""
    columns, covariances = [], []
    for block, L in zip(design.blocks, factors, strict=True):
        for level in range(len(block.levels)):
            columns.append(block.Z * (block.index == level)[:, np.newaxis])
            covariances.append(L @ L.T)
    return np.concatenate(columns, axis=1), linalg.block_diag(*covariances)


def _by_differences(function: Callable[[np.ndarray], float], x: np.ndarray, step: float = 2e-4) -> np.ndarray:
    near, far = (
        np.array([(function(x + k * h) - function(x - k * h)) / (2 * k * step) for h in step * np.eye(len(x))])
        for k in (1, 2)
    )
    return (4 * near - far) / 3  # without the error in step^2


# -- Laplace ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "structure"), list(itertools.product(FAMILIES, STRUCTURES)))
def test_the_gradient_is_that_of_the_value(family: str, structure: str) -> None:
    laplace = Laplace(prepare(_design(STRUCTURES[structure])), FAMILIES[family])
    mixed = laplace.mixed
    rng = np.random.default_rng(5)
    for _ in range(2):
        phi = rng.normal(0.3, 0.5, len(mixed.elements) + mixed.X.shape[1])
        value, gradient = laplace.gradient(phi)
        assert value == pytest.approx(laplace.value(phi), abs=1e-10)
        np.testing.assert_allclose(gradient, _by_differences(laplace.value, phi), rtol=1e-6, atol=1e-6)


def _log_density(family: Family, y: np.ndarray, eta: np.ndarray) -> np.ndarray:
    law = stats.logistic if family.link == "logit" else stats.norm
    p = family.guess + (1 - family.guess - family.lapse) * law.cdf(eta)
    q = family.lapse + (1 - family.guess - family.lapse) * law.sf(eta)
    return np.log(np.where(y == 1, p, q))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("structure", [name for name in STRUCTURES if name != "none"])
def test_the_value_is_the_dense_formula(family: str, structure: str) -> None:
    """log p(y, r) at its maximum in r, plus log sqrt((2 pi)^k / |-d2 log p|), everything dense."""
    design, law = _design(STRUCTURES[structure]), FAMILIES[family]
    b, factors = np.linspace(0.6, -0.4, len(design.names)), _some_factors(design)
    Z, S = _dense(design, factors)
    root = np.linalg.cholesky(S)  # r = root v, so that the search is in units of one

    def minus(v: np.ndarray) -> float:
        return 0.5 * v @ v - _log_density(law, design.successes, design.X @ b + Z @ root @ v).sum()

    def curvature(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = {k: _log_density(law, design.successes, design.X @ b + A @ v + k * h) for k in (-2, -1, 0, 1, 2)}
        first = (at[-2] - 8 * at[-1] + 8 * at[1] - at[2]) / (12 * h)
        second = (-at[-2] + 16 * at[-1] - 30 * at[0] + 16 * at[1] - at[2]) / (12 * h**2)
        return A.T @ first - v, np.eye(len(S)) - A.T @ (A * second[:, np.newaxis])

    A, h = Z @ root, 1e-3
    v = optimize.minimize(minus, np.zeros(len(S)), method="BFGS", options={"gtol": 1e-4}).x
    for _ in range(3):
        slope, H = curvature(v)
        v = v + np.linalg.solve(H, slope)
    expected = -minus(v) - 0.5 * np.linalg.slogdet(curvature(v)[1])[1]
    assert log_likelihood(design, law, Method(), _at(design, b, factors)) == pytest.approx(expected, abs=1e-6)


def test_without_groups_it_is_the_log_density() -> None:
    design, law = _design("y ~ x * f"), FAMILIES["lapse"]
    b = np.array([0.5, 1.0, -0.3, 0.2])
    expected = _log_density(law, design.successes, design.X @ b).sum()
    assert log_likelihood(design, law, Method(), _at(design, b, ())) == pytest.approx(expected, abs=1e-10)


# -- Quadrature -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sd", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_many_nodes_give_the_integral(family: str, sd: float) -> None:
    design, law = _design("y ~ x + (1 | a)"), FAMILIES[family]
    b, (block,) = np.array([0.4, 0.3]), design.blocks

    def of_level(level: int) -> float:
        rows = block.index == level

        def density(u: float) -> float:
            eta = design.X[rows] @ b + sd * u
            return float(np.exp(_log_density(law, design.successes[rows], eta).sum())) * stats.norm.pdf(u)

        return integrate.quad(density, -9, 9, epsabs=0, epsrel=1e-11, limit=400, points=[-3, 0, 3])[0]

    expected = sum(np.log(of_level(level)) for level in range(len(block.levels)))
    at = _at(design, b, (np.array([[sd]]),))
    # With a guess or lapse rate and a large SD the integrand has a shoulder beside its peak, which takes more nodes.
    limit = 1e-2 if law.link == "probit" and law.has_asymptotes and sd > 1 else 3e-6
    assert log_likelihood(design, law, Method(quadrature=100), at) == pytest.approx(expected, abs=limit)
    one = Quadrature(prepare(design), law, 1)
    phi = np.concatenate([[sd], one.mixed.root @ b])
    assert one.value(phi) == pytest.approx(Laplace(prepare(design), law).value(phi), abs=1e-10)


# -- Gaussian ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_gaussian_likelihood_is_the_density_of_all_responses(structure: str, reml: bool) -> None:
    design = _design(STRUCTURES[structure], continuous=True)
    factors = _some_factors(design)
    X, y, n, p = design.X, design.successes, *design.X.shape
    W = np.eye(n)
    if design.blocks:
        Z, S = _dense(design, factors)
        W = W + Z @ S @ Z.T
    inverse = np.linalg.inv(W)
    b = np.linalg.solve(X.T @ inverse @ X, X.T @ inverse @ y)
    freedom = n - p if reml else n
    variance = (y - X @ b) @ inverse @ (y - X @ b) / freedom
    expected = stats.multivariate_normal(X @ b, variance * W).logpdf(y)
    if reml:  # Harville's (1974), without log|X'X|, as lme4 has it
        expected += 0.5 * p * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(X.T @ inverse @ X / variance)[1]
    sigma = np.sqrt(variance)
    at = _at(design, b, tuple(sigma * L for L in factors), sigma)
    found = log_likelihood(design, resolve_family("gaussian"), Method(reml=reml), at)
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("structure", [name for name in STRUCTURES if name != "none"])
def test_the_gaussian_gradient_is_that_of_the_value(structure: str, reml: bool) -> None:
    gaussian = Gaussian(prepare(_design(STRUCTURES[structure], continuous=True), continuous=True), reml=reml)
    theta = np.random.default_rng(2).normal(0.5, 0.5, len(gaussian.mixed.elements))
    value, gradient = gaussian.gradient(theta)
    assert value == gaussian.value(theta)
    np.testing.assert_allclose(gradient, _by_differences(gaussian.value, theta), rtol=1e-6, atol=1e-7)


# -- The arrowhead ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [(), (2,), (1, 1), (3, 1, 2)], ids=str)
@pytest.mark.parametrize("fixed", [False, True])
def test_the_factor_is_that_of_the_dense_matrix(terms: tuple[int, ...], fixed: bool) -> None:
    rng = np.random.default_rng(4)
    n, levels = 50, (6, 4, 3)
    groups = [Group(rng.integers(0, k, n), rng.normal(size=(n, q)), k) for k, q in zip(levels, terms, strict=False)]
    X, weights = rng.normal(size=(n, 2)), rng.uniform(0.1, 2.0, n)
    Lambda = [np.tril(rng.normal(size=(q, q))) for q in terms]
    arrow = Arrow(X, groups)
    factor = Factor(arrow, arrow.cross(weights, fixed=fixed), Lambda)

    columns = [
        (group.Z @ L) * (group.index == level)[:, np.newaxis]
        for group, L in zip(groups, Lambda, strict=True)
        for level in range(group.levels)
    ]
    A = np.concatenate([np.zeros((n, 0)), *columns, *([X] if fixed else [])], axis=1)
    k = A.shape[1] - (2 if fixed else 0)
    H = A.T @ (A * weights[:, np.newaxis]) + np.diag([1.0] * k + [0.0] * (A.shape[1] - k))
    inverse = np.linalg.inv(H)
    first = arrow.first.levels * arrow.first.terms

    assert factor.log_determinant == pytest.approx(np.linalg.slogdet(H[:k, :k])[1], abs=1e-10)
    right = rng.normal(size=len(H))
    solved = factor.solve(right[:first].reshape(arrow.first.levels, arrow.first.terms), right[first:])
    np.testing.assert_allclose(np.concatenate([part.ravel() for part in solved]), inverse @ right, atol=1e-10)
    np.testing.assert_allclose(factor.inverse.S, inverse[first:, first:], atol=1e-10)
    across = -factor.apply(inverse[:first, first:], transposed=True)
    np.testing.assert_allclose(factor.inverse.Q.reshape(first, len(H) - first), across, atol=1e-10)
    for level, block in enumerate(factor.inverse.D):
        at = slice(level * arrow.first.terms, (level + 1) * arrow.first.terms)
        np.testing.assert_allclose(block, inverse[at, at], atol=1e-10)
    if fixed:
        np.testing.assert_allclose(factor.fixed_root @ factor.fixed_root.T, np.linalg.inv(inverse[k:, k:]), atol=1e-9)
    elif terms:
        np.testing.assert_allclose(arrow.leverage(factor), np.einsum("nk,kl,nl->n", A, inverse, A), atol=1e-10)

    def half_log_determinant(flat: np.ndarray) -> float:
        parts = np.split(flat, np.cumsum([q * q for q in terms])[:-1])
        moved = [part.reshape(q, q) for part, q in zip(parts, terms, strict=True)]
        new = Factor(arrow, arrow.cross(weights, fixed=fixed), moved)
        return 0.5 * new.log_determinant + (np.log(np.diag(new.fixed_root)).sum() if fixed else 0.0)

    if terms:
        flat = np.concatenate([L.ravel() for L in Lambda])
        traces = np.concatenate([trace.ravel() for trace in factor.trace_gradients()])
        np.testing.assert_allclose(traces, _by_differences(half_log_determinant, flat), atol=1e-7)


# -- Derivatives of the families --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("successes", [0.0, 2.0, 5.0])
def test_each_derivative_is_that_of_the_one_before(family: Family, successes: float) -> None:
    eta, trials, h = np.array([-30.0, -12.0, -5.0, -1.3, 0.0, 0.4, 2.0, 6.0, 12.0, 30.0]), np.full(10, 5.0), 1e-4
    y = np.full(10, successes)
    at = family.derivatives(y, trials, eta)
    above, below = family.derivatives(y, trials, eta + h), family.derivatives(y, trials, eta - h)
    np.testing.assert_allclose(at.value, family.log_density(y, trials, eta), rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose((above.value - below.value) / (2 * h), at.score, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose((below.score - above.score) / (2 * h), at.information, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose((above.information - below.information) / (2 * h), at.change, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_expected_information_is_the_mean_of_the_observed(family: Family) -> None:
    eta = np.linspace(-8, 8, 17)
    p, one = family.mean(eta), np.ones(17)
    observed = [family.derivatives(y * one, one, eta).information for y in (1.0, 0.0)]
    expected = family.derivatives(one, one, eta).expected
    np.testing.assert_allclose(expected, p * observed[0] + family.miss(eta) * observed[1], rtol=1e-8, atol=1e-12)


def test_the_probit_keeps_its_digits_in_the_far_tail() -> None:
    """By the asymptotic series of Mills' ratio: -log Phi(-x) has slope x + 1/x - 2/x^3 + ..., curvature 1 - 1/x^2."""
    x = np.array([40.0, 1e3, 1e4])
    found = FAMILIES["probit"].derivatives(np.ones(3), np.ones(3), -x)
    np.testing.assert_allclose(found.score, x + 1 / x - 2 / x**3, rtol=1e-6)
    np.testing.assert_allclose(found.information, 1 - 1 / x**2 + 6 / x**4, rtol=1e-6)
    assert found.value == pytest.approx(special.log_ndtr(-x))


# -- The optimiser ----------------------------------------------------------------------------------------------------


def test_rosenbrocks_valley_is_walked_to_its_end() -> None:
    def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
        return optimize.rosen(x), optimize.rosen_der(x)

    best = minimise(rosenbrock, np.array([-1.2, 1.0, -0.5, 0.8]), np.eye(4))
    assert best.converged
    np.testing.assert_allclose(best.x, 1.0, atol=1e-8)
    np.testing.assert_allclose(best.hessian, optimize.rosen_hess(np.ones(4)), rtol=1e-4, atol=1e-2)


def test_a_saddle_is_left() -> None:
    def saddle(x: np.ndarray) -> tuple[float, np.ndarray]:  # minima at (0, 1) and (0, -1)
        return x[0] ** 2 - 2 * x[1] ** 2 + x[1] ** 4, np.array([2 * x[0], -4 * x[1] + 4 * x[1] ** 3])

    best = minimise(saddle, np.array([1.0, 0.0]), np.eye(2))
    assert best.converged
    np.testing.assert_allclose(np.abs(best.x), [0.0, 1.0], atol=1e-6)


def test_a_flat_direction_has_no_variance_and_is_told_from_a_curved_one() -> None:
    def valley(x: np.ndarray) -> tuple[float, np.ndarray]:
        return 2.0 * (x[0] - 1.0) ** 2, np.array([4.0 * (x[0] - 1.0), 0.0])

    best = minimise(valley, np.array([3.0, 0.7]), np.eye(2))
    assert best.converged
    assert best.x[1] == pytest.approx(0.7, abs=1e-6)
    np.testing.assert_allclose(inverse_of(best.hessian), [[0.25, 0.0], [0.0, 0.0]], atol=1e-8)
    assert (best.curved(slice(0, 1)), best.curved(slice(1, 2))) == (True, False)
    assert not dataclasses.replace(best, hessian=np.full((2, 2), np.nan)).curved(slice(None))


def test_where_there_is_no_value_is_walked_around_and_no_minimum_is_none() -> None:
    def bounded(x: np.ndarray) -> tuple[float, np.ndarray]:  # minimum at 0.01, none below 0
        if x[0] <= 0:
            return np.inf, np.zeros(1)
        return 100.0 * x[0] - np.log(x[0]), 100.0 - 1.0 / x

    best = minimise(bounded, np.array([1.0]), np.eye(1))
    assert best.converged
    assert best.x == pytest.approx([0.01], rel=1e-6)

    def falling(x: np.ndarray) -> tuple[float, np.ndarray]:
        return -x[0], -np.ones(1)

    assert not minimise(falling, np.zeros(1), np.eye(1)).converged
