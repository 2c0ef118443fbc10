"""Smoothed importance weights: ArviZ's to rounding, and what they say of a unit against sums by logarithms."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import arviz as az
import numpy as np
import numpy.typing as npt
import pytest
from scipy import special

from psychostats.mixing import relative_efficiency
from psychostats.pareto import FEWEST_SMOOTHED, importance, leave_out

Array = npt.NDArray[np.float64]


def densities(chains: int, draws: int, units: int, seed: int) -> Array:
    """Return log-densities, shape ``(chains, draws, units)``, from even ones to such that one draw outweighs all."""
    rng = np.random.default_rng(seed)
    middle, spread = rng.normal(size=units), np.geomspace(0.05, 6.0, units)
    return np.asarray(-0.5 * (middle + spread * rng.normal(size=(chains, draws, units))) ** 2)


def of_arviz(row: Array, efficiency: float) -> tuple[Array, float]:
    """Return ArviZ's smoothed weights and k of one unit, with as many draws in the tail as in R's loo."""
    logging.getLogger("arviz").setLevel(logging.ERROR)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if "InferenceData" in vars(az):
            weights, k = az.psislw(-row, reff=efficiency)
            return np.asarray(weights), float(k)
        from arviz_stats.base import array_stats

        library: Any = array_stats
        size = int(np.ceil(min(len(row) / 5, 3 * np.sqrt(len(row) / efficiency))))
        weights, k = library._ps_tail(-row, len(row), size, smooth_draws=True, tail="right", log_weights=True)
        return np.asarray(weights), float(k)


@pytest.mark.parametrize(("chains", "draws"), [(1, 40), (1, 100), (2, 50), (3, 333), (4, 1000)])
def test_weights_and_k_are_those_of_arviz(chains: int, draws: int) -> None:
    log_density = densities(chains, draws, 130, seed=draws)  # more units than are fitted at once
    efficiency = np.clip(relative_efficiency(np.exp(log_density - log_density.max(axis=(0, 1)))), 0.0, 1.0)
    weights, k = importance(log_density)
    assert k.max() > 0.7 > k.min()
    for unit, row in enumerate(log_density.reshape(-1, 130).T):
        expected, shape = of_arviz(row, efficiency[unit])
        assert k[unit] == pytest.approx(shape, rel=1e-9, abs=1e-10)
        np.testing.assert_allclose(weights[:, unit], expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("chains", "draws"), [(1, 3), (1, 24), (2, 50), (4, 1000)])
@pytest.mark.parametrize("scale", [1.0, 30.0])  # at 30 densities lie further apart than numbers reach
def test_what_is_left_out_is_the_weighted_mean(chains: int, draws: int, scale: float) -> None:
    log_density = scale * densities(chains, draws, 40, seed=7)
    flat = log_density.reshape(-1, 40)
    assert scale == 1.0 or np.ptp(flat, axis=0).max() > 700
    weights, k = importance(log_density)
    others, every, again = leave_out(flat, chains)
    np.testing.assert_allclose(others, special.logsumexp(flat + weights, axis=0), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(every, special.logsumexp(flat, axis=0) - np.log(len(flat)), rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(k, again)


def test_weights_sum_to_one() -> None:
    weights, _ = importance(densities(4, 250, 20, seed=1))
    np.testing.assert_allclose(special.logsumexp(weights, axis=0), 0.0, atol=1e-12)


def test_few_draws_have_no_k_and_weights_as_they_are() -> None:
    log_density = densities(1, FEWEST_SMOOTHED - 1, 3, seed=2)
    weights, k = importance(log_density)
    assert np.isinf(k).all()
    np.testing.assert_allclose(weights, -log_density[0] - special.logsumexp(-log_density[0], axis=0), atol=1e-12)


def test_a_unit_that_no_draw_tells_apart_has_even_weights() -> None:
    weights, k = importance(np.full((2, 100, 1), -3.0))
    assert k[0] == 0.0
    np.testing.assert_allclose(np.exp(weights), 1 / 200)


def test_a_tail_of_equal_weights_is_left_as_it_is() -> None:
    log_density = np.zeros((1, 400, 1))
    log_density[0, :3, 0] = -2.0  # three draws alone weigh more: too few to fit anything to
    weights, k = importance(log_density)
    assert np.isinf(k[0])
    total = 397 + 3 * np.exp(2.0)
    np.testing.assert_allclose(np.exp(weights[[0, 5], 0]), [np.exp(2.0) / total, 1 / total])


def test_k_knows_the_tail_of_a_pareto_law() -> None:
    # Weights U^-k have a Pareto tail of shape k; the estimate leans to 1/2 as by ten draws in some 200.
    uniform = np.random.default_rng(4).uniform(size=(4, 1000, 200))
    for shape in (0.2, 0.5, 0.9):
        _, k = importance(shape * np.log(uniform))
        leaning = (190 * shape + 10 * 0.5) / 200
        assert k.mean() == pytest.approx(leaning, abs=0.05)
