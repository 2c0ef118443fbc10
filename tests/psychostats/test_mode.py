"""Laplace's mode of the posterior: its gradient, where it lies, and models in which it is the posterior's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats
from test_nuts import CASES, made

from psychostats.design import Design
from psychostats.mixed import prepare as into_cells
from psychostats.mode import Goal, parameters, search
from psychostats.threads import one_thread


def goal(case: str) -> Goal:
    design, family, priors = made(case)
    measured = family.compiled.kind == "normal"
    response = family.normal_response(design.successes) if measured else design.successes
    cells = Design(design.names, design.X, design.offset, design.blocks, response, design.trials)
    mixed = into_cells(cells)
    of = {prior.name: prior.distribution for prior in priors}
    laws = [of[f"b_{name}"] for name in design.names]
    return Goal(mixed, family, parameters(mixed, priors, sigma=measured), laws, response)


@pytest.mark.parametrize("case", CASES)
def test_gradient_is_that_of_differences_and_vanishes_at_the_mode(case: str) -> None:
    with one_thread():
        function = goal(case)
        start, _ = function.start()
        h = 1e-5
        for x in (start, start + np.random.default_rng(0).normal(0, 0.2, len(start))):
            gradient = function(x)[1]
            differences = [(function(x + e)[0] - function(x - e)[0]) / (2 * h) for e in h * np.eye(len(x))]
            np.testing.assert_allclose(gradient, differences, atol=2e-5 * max(1.0, np.abs(gradient).max()))
        best, hessian, found = search(function)
        assert found
        assert np.abs(function(best)[1]).max() < 1e-3
        assert np.linalg.eigvalsh(hessian).min() > 0


def test_without_groups_it_is_the_mode_of_the_posterior() -> None:
    """Beside SciPy's minimum of minus the log posterior, written by hand."""
    design, family, priors = made("no group")
    laws = [stats.norm(*prior.distribution.args) for prior in priors]

    def minus(b: Any) -> float:
        eta = design.X @ b
        return float(
            -np.sum(family.log_density(design.successes, design.trials, eta))
            - sum(law.logpdf(value) for law, value in zip(laws, b, strict=True))
        )

    expected = optimize.minimize(minus, np.zeros(len(laws)), tol=1e-10).x
    with one_thread():
        function = goal("no group")
        best, _, _ = search(function)
    np.testing.assert_allclose(function.b(best), expected, atol=1e-5)


def test_where_it_cannot_be_found_there_is_a_plain_start() -> None:
    """An offset that is not a number has no likelihood anywhere; the sampler says so, not the search."""
    design, family, priors = made("crossed")
    broken = Design(
        design.names, design.X, np.full(len(design.X), np.nan), design.blocks, design.successes, design.trials
    )
    mixed = into_cells(broken)
    of = {prior.name: prior.distribution for prior in priors}
    with one_thread():
        function = Goal(
            mixed, family, parameters(mixed, priors, sigma=False), [of[f"b_{n}"] for n in design.names], design.trials
        )
        x, hessian, found = search(function)
    assert not found
    assert np.isfinite(x).all()
    assert np.linalg.eigvalsh(hessian).min() > 0
