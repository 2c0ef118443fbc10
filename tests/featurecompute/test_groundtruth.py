"""Areas under the curve against counting pairs, planted units, and the floors."""

from __future__ import annotations

import numpy as np
import pytest

from featurecompute import groundtruth, scenes
from featurecompute.errors import DictionaryError


@pytest.fixture(scope="module")
def truth() -> scenes.Truth:
    return scenes.generate(600, 11).truth


def test_auroc_is_the_share_of_pairs_in_order_with_ties_as_half() -> None:
    generator = np.random.default_rng(1)
    values = generator.integers(0, 5, (60, 4)).astype(float)
    truths = generator.random((60, 3)) < 0.3
    for unit in range(4):
        for element in range(3):
            with_, without = values[truths[:, element], unit], values[~truths[:, element], unit]
            pairs = np.sign(with_[:, None] - without[None, :])
            expected = (pairs + 1).mean() / 2
            assert groundtruth.auroc(values, truths)[unit, element] == pytest.approx(expected, abs=1e-12)


def test_auroc_of_monotone_values_and_of_absent_elements() -> None:
    values = np.random.default_rng(2).standard_normal((50, 2))
    truths = np.column_stack([values[:, 0] > 0.5, np.zeros(50, bool), np.ones(50, bool)])
    found = groundtruth.auroc(values, truths)
    assert found[0, 0] == 1
    assert np.isnan(found[:, 1:]).all()
    assert np.array_equal(groundtruth.auroc(np.exp(values), truths)[:, 0], found[:, 0])
    assert groundtruth.auroc(-values, truths)[0, 0] == 0


def test_planted_units_are_found_and_the_permuted_truth_is_at_chance(truth: scenes.Truth) -> None:
    planted = [3, 12, 30, 44]
    generator = np.random.default_rng(3)
    values = np.concatenate([truth.cells[:, planted].astype(float), generator.random((600, 3, 8, 8))], axis=1)
    found = groundtruth.match(values, truth, kinds=("any",))
    assert list(found["element"][:4]) == [scenes.ELEMENTS[e].name for e in planted]
    assert (found["auroc"][:4] == 1).all()
    assert found["auroc"][4:].to_numpy() == pytest.approx(0.5, abs=0.04)
    floor = groundtruth.match(generator.random((600, 7, 8, 8)), truth, permute=True)
    assert floor["auroc"].mean() == pytest.approx(0.5, abs=0.01)
    # A planted unit keeps only what the layout of scenes gives away: objects are in the middles of quarters.
    floor = groundtruth.match(values[:, :4], truth, kinds=("any",), permute=True)
    assert (floor["auroc"] < 0.75).all()


def test_a_unit_of_one_object_is_pure_and_one_of_all_is_not(truth: scenes.Truth) -> None:
    objects = np.flatnonzero(truth.kinds == "object")
    values = np.stack([truth.cells[:, objects[2]], truth.cells[:, objects].any(1), np.zeros((600, 8, 8))], axis=1)
    found = groundtruth.purity(values, truth.cells, objects)
    # Objects never share a cell that both fill; a cell that one fills most may be another's.
    assert found[0] > 0.99
    assert found[1] == pytest.approx(1 / 24, abs=1e-6)
    assert np.isnan(found[2])


def test_images_are_scored_by_the_maximum(truth: scenes.Truth) -> None:
    values = truth.cells[:, [20]] * 1.0
    assert groundtruth.image_scores(values, truth.presence)[0, 20] == 1
    assert groundtruth.match(values, truth, level="image", kinds=("any",))["auroc"][0] == 1


def test_readings_compete_with_equally_many_units(truth: scenes.Truth) -> None:
    generator = np.random.default_rng(4)
    readings = {
        ("local", "neuron"): generator.random((600, 3, 8, 8)),
        ("distributed", "nmf"): truth.cells[:, 21:31].astype(float),
    }
    rows = groundtruth.compare(readings, truth, layer="block4", depth=0.5)
    assert (rows.groupby("condition")["unit"].nunique() == 3).all()
    assert (rows["candidates"] == 3).all()
    counts = groundtruth.covered(rows).set_index(["condition", "kind"])["covered"]
    assert counts["nmf", "object"] == 3
    assert counts["neuron", "object"] == counts["nmf, permuted", "object"] == 0
    every = groundtruth.compare(readings, truth, layer="block4", depth=0.5, equal=False)
    assert groundtruth.covered(every).set_index(["condition", "kind"])["covered"]["nmf", "object"] == 10


def test_maps_of_any_resolution_come_to_cells() -> None:
    maps = np.arange(2 * 3 * 256, dtype=float).reshape(2, 3, 256)
    cells = groundtruth.to_cells(maps, (16, 16))
    assert cells.shape == (2, 3, 8, 8)
    assert cells[0, 0, 0, 0] == 17  # the last of the first two rows and columns
    coarse = groundtruth.to_cells(np.arange(16.0).reshape(1, 1, 16), (4, 4))
    assert coarse[0, 0, 0, 0] == coarse[0, 0, 1, 1] == 0 and coarse[0, 0, 2, 0] == 4
    with pytest.raises(DictionaryError, match="7 x 7"):
        groundtruth.to_cells(np.zeros((1, 1, 49)), (7, 7))


def test_thresholds_and_random_directions() -> None:
    values = np.random.default_rng(5).random((100, 3, 8, 8))
    assert (groundtruth.thresholded(values, 0.9) == 0).mean() == pytest.approx(0.9, abs=0.001)
    found = groundtruth.random_directions(12, 24, 1)
    assert found.shape == (24, 12) and (found >= 0).all()
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)
    assert np.array_equal(found, groundtruth.random_directions(12, 24, 1))
    assert (groundtruth.random_directions(12, 24, 1, negative=True) < 0).any()
