"""Intervals against distributions whose quantiles are known, and their words and refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from psychostats.errors import InputError
from psychostats.intervals import Interval, Rope, summarise

# Draws without noise: the quantiles of the middle of n equal shares.
N = 20_001
SHARES = (np.arange(N) + 0.5) / N


@pytest.mark.parametrize("probability", [0.5, 0.89, 0.95])
@pytest.mark.parametrize(
    "law", [stats.norm(2, 3), stats.expon(), stats.beta(2, 5)], ids=["normal", "exponential", "beta"]
)
def test_equal_tails_are_quantiles(law, probability):
    low, high = Interval("eti", probability).of_draws(law.ppf(SHARES))
    np.testing.assert_allclose([low, high], law.interval(probability), atol=1e-3 * law.std())


@pytest.mark.parametrize("probability", [0.5, 0.89, 0.95])
def test_highest_density_of_an_exponential_starts_at_zero(probability):
    low, high = Interval("hdi", probability).of_draws(stats.expon().ppf(SHARES))
    assert low == pytest.approx(0, abs=1e-4)
    assert high == pytest.approx(-np.log(1 - probability), rel=1e-3)


def test_highest_density_of_a_skewed_law_is_its_shortest_interval():
    law = stats.beta(2, 5)
    start = optimize.minimize_scalar(lambda p: law.ppf(p + 0.9) - law.ppf(p), bounds=(0, 0.1), method="bounded").x
    low, high = Interval("hdi", 0.9).of_draws(law.ppf(SHARES))
    np.testing.assert_allclose([low, high], [law.ppf(start), law.ppf(start + 0.9)], atol=2e-3)
    assert high - low < np.diff(law.interval(0.9))[0] - 0.005


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(10, 400), st.floats(0.05, 0.99), st.floats(0.1, 10), st.floats(-5, 5))
def test_highest_density_holds_its_mass_and_follows_units(seed, n, probability, scale, shift):
    draws = np.random.default_rng(seed).gamma(2.0, size=n)
    interval = Interval("hdi", probability)
    low, high = interval.of_draws(draws)
    assert ((draws >= low) & (draws <= high)).mean() >= min(probability, 1 - 1 / n)
    np.testing.assert_allclose(interval.of_draws(scale * draws + shift), (scale * low + shift, scale * high + shift))


@pytest.mark.parametrize("kind", ["eti", "hdi"])
def test_many_quantities_at_once_are_each_alone(kind):
    draws = np.random.default_rng(1).normal(size=(500, 2, 3))
    low, high = Interval(kind).of_draws(draws)
    assert low.shape == high.shape == (2, 3)
    for i in np.ndindex(2, 3):
        np.testing.assert_array_equal(Interval(kind).of_draws(draws[:, *i]), (low[i], high[i]))


def test_one_draw_is_its_own_interval():
    assert Interval("hdi").of_draws([3.0]) == Interval("eti").of_draws([3.0]) == (3.0, 3.0)


def test_wald_bounds_are_those_of_a_normal():
    low, high = Interval("wald", 0.9).of_estimate([1.0, -2.0], [0.5, 3.0])
    np.testing.assert_allclose((low, high), stats.norm.interval(0.9, [1.0, -2.0], [0.5, 3.0]))


def test_bounds_come_only_from_what_the_kind_is_made_of():
    for kind in ("wald", "profile", "bootstrap"):
        with pytest.raises(InputError, match=f"{kind} interval is not made from draws"):
            Interval(kind).of_draws([1.0, 2.0])
        with pytest.raises(InputError, match=f"{kind} interval is not made from draws"):
            summarise([1.0, 2.0], Interval(kind))
    for kind in ("eti", "hdi", "profile"):
        with pytest.raises(InputError, match=f"{kind} interval is not made from a standard error"):
            Interval(kind).of_estimate(0.0, 1.0)


def test_the_label_says_kind_and_probability():
    assert Interval().label == "95 % equal-tailed credible interval"
    assert Interval("hdi", 0.89).label == "89 % highest-density credible interval"
    assert Interval("wald", 0.999).label == "99.9 % Wald confidence interval"
    kinds = ("eti", "hdi", "wald", "profile", "bootstrap")
    assert len({Interval(kind).label for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("arguments", [("hpd", 0.95), ("eti", 0.0), ("eti", 1.0), ("eti", 95), ("eti", float("nan"))])
def test_an_interval_that_is_none_is_refused(arguments):
    with pytest.raises(
        InputError, match="unknown; allowed are eti, hdi" if arguments[0] == "hpd" else "between 0 and 1"
    ):
        Interval(*arguments)


def test_a_summary_counts_draws():
    draws = [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    row = summarise(draws, Interval("eti", 0.5), null=0.0, rope=Rope(-1.0, 1.0))
    assert row["estimate"] == 2.5
    assert row["sd"] == pytest.approx(np.sqrt(6.0))
    assert (row["conf_low"], row["conf_high"]) == (0.75, 4.25)
    assert (row["conf_level"], row["interval"]) == (0.5, "eti")
    assert row["pd"] == 6 / 8  # 0 is on neither side
    assert row["rope_share"] == 3 / 8  # of all draws, bounds included
    assert (row["rope_low"], row["rope_high"]) == (-1.0, 1.0)


def test_the_direction_is_that_of_more_draws():
    assert summarise([-3.0, -2.0, -1.0, 1.0], Interval(), null=0.0)["pd"] == 0.75
    assert summarise([0.5, 0.8, 0.9, 1.1], Interval(), null=1.0)["pd"] == 0.75


def test_what_was_not_asked_for_is_not_a_number():
    row = summarise([1.0, 2.0], Interval())
    assert all(np.isnan(row[name]) for name in ("pd", "rope_low", "rope_high", "rope_share"))


def test_a_rope_upside_down_is_refused():
    with pytest.raises(InputError, match="low comes first"):
        Rope(0.02, -0.02)


def test_replicates_have_percentiles_and_those_without_an_estimate_count_as_none() -> None:
    estimates = np.column_stack([np.arange(101.0), np.full(101, np.nan)])
    estimates[0, 0] = np.nan
    low, high = Interval("bootstrap", 0.9).of_replicates(estimates)
    np.testing.assert_allclose((low[0], high[0]), np.quantile(np.arange(1.0, 101.0), [0.05, 0.95]))
    assert np.isnan(low[1]) and np.isnan(high[1])
    with pytest.raises(InputError, match="not made from replicates; use bootstrap"):
        Interval("eti").of_replicates(estimates)
    with pytest.raises(InputError, match="not made from draws"):
        Interval("bootstrap").of_draws(estimates)
