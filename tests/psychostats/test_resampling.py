"""Weighted means, medians and slopes are those of the units and images as often as they were drawn."""

from __future__ import annotations

import numpy as np
import pytest

from psychostats.resampling import (
    Weights,
    change_over,
    clusters_of,
    draw_weights,
    median_over_units,
    over_images,
    over_units,
)

RNG = np.random.default_rng(5)
VALUES = RNG.normal(size=(7, 9))
WEIGHTS = draw_weights(None, ["one"] * 7, 9, replicates=30, seed=1)
# Seven units as often as they were drawn, in whole numbers.
DRAWN = Weights(np.vstack([np.ones(7), RNG.multinomial(7, np.full(7, 1 / 7), size=30)]), WEIGHTS.images)


def test_clusters_reach_over_others() -> None:
    assert clusters_of(["a", "b", "c", "d"], ["x", "y", "y", "z"]).tolist() == [0, 1, 1, 2]
    # a and c have nothing in common but b.
    assert len(set(clusters_of(["1", "1", "2"], ["x", "y", "y"]).tolist())) == 1
    # One name on both sides is two things.
    assert len(set(clusters_of(["a", "b"], ["b", "a"]).tolist())) == 2


def test_clusters_are_drawn_whole_within_strata_and_the_first_row_is_the_table_itself() -> None:
    strata = ["a", "a", "a", "a", "b", "b", "c"]
    weights = draw_weights(np.array([0, 1, 0, 2, 3, 4, 5]), strata, 6, replicates=50, seed=3)
    assert weights.units[0].tolist() == [1] * 7 and weights.images[0].tolist() == [1] * 6
    np.testing.assert_array_equal(weights.units[:, 0], weights.units[:, 2])
    assert (weights.images.sum(1) == 6).all()
    # Two of three count one and a half times, one of two twice; what is alone stays.
    np.testing.assert_allclose(weights.units[:, [0, 1, 3]].sum(1), 3)
    assert set(weights.units[1:, 0]) == {0.0, 1.5, 3.0} and set(weights.units[1:, 4]) == {0.0, 2.0}
    assert (weights.units[:, [4, 5]].sum(1) == 2).all() and (weights.units[:, 6] == 1).all()


def test_means_are_those_of_repeated_images_and_units() -> None:
    holed = VALUES.copy()
    holed[2, 3] = np.nan
    means = over_images(holed, WEIGHTS)
    which = np.array([True] * 5 + [False] * 2)
    total = over_units(means, DRAWN, which)
    for row in range(31):
        repeated = np.repeat(holed, WEIGHTS.images[row].astype(int), axis=1)
        np.testing.assert_allclose(means[row], np.nanmean(repeated, axis=1))
        units = np.repeat(means[row], (DRAWN.units[row] * which).astype(int))
        assert total[row] == pytest.approx(units.mean())


def test_medians_are_those_of_repeated_units() -> None:
    values = VALUES[:, 0].copy()
    values[1] = np.nan
    found = median_over_units(values, DRAWN)
    expected = [np.nanmedian(np.repeat(values, row.astype(int))) for row in DRAWN.units]
    np.testing.assert_allclose(found, expected)
    assert np.isnan(median_over_units(np.full(7, np.nan), DRAWN)).all()


def test_changes_are_those_of_least_squares() -> None:
    at = np.array([0.1, 0.1, 0.3, 0.3, 0.5, 0.7, 0.7])
    means = over_images(VALUES, WEIGHTS)
    means[:, 2] = np.nan
    found = change_over(means, at, DRAWN.units)
    for row in range(31):
        w = np.where(np.isnan(means[row]), 0, DRAWN.units[row])
        slope = np.polyfit(at[w > 0], means[row][w > 0], 1, w=np.sqrt(w[w > 0]))[0]
        assert found[row] == pytest.approx(0.6 * slope)
    assert np.isnan(change_over(means, np.full(7, 0.4), DRAWN.units)).all()


def test_the_bootstrap_of_a_plain_mean_has_the_textbooks_standard_error_with_few_units() -> None:
    values = RNG.normal(size=(5, 1))
    weights = draw_weights(np.arange(5), ["one"] * 5, 1, replicates=8000, seed=1)
    spread = over_units(over_images(values, weights), weights)[1:].std()
    assert spread == pytest.approx(values.std(ddof=1) / np.sqrt(5), rel=0.03)
