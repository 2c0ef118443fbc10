"""Neurons are drawn uniformly, directions matched as a count by hand says, and ids stay what they are."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from featurecompute.errors import StudyError
from featurecompute.features import (
    Match,
    Neuron,
    choose_neurons,
    distributed_id,
    local_id,
    match_correlated,
    match_most_active,
    scales_of,
    settle,
)
from featurecompute.study import FeaturesTable

layer_sizes = st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any)


@given(layer_sizes, st.data())
def test_a_sample_holds_as_many_living_neurons_as_asked_in_order_of_depth(sizes, data):
    # Names whose alphabetical order is not that of depth.
    alive = {
        f"layer{9 - i}": np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
        for i, n in enumerate(sizes)
    }
    there = sum(int(units.sum()) for units in alive.values())
    if there == 0:
        return
    wanted = data.draw(st.integers(1, there))
    seed = data.draw(st.integers(0, 2**32))
    chosen = choose_neurons(alive, FeaturesTable(neurons=wanted, seed=seed))
    assert len(set(chosen)) == len(chosen) == wanted
    assert all(alive[neuron.layer][neuron.channel] for neuron in chosen)
    places = [(list(alive).index(neuron.layer), neuron.channel) for neuron in chosen]
    assert places == sorted(places)
    assert chosen == choose_neurons(alive, FeaturesTable(neurons=wanted, seed=seed))


def test_a_sample_is_uniform_over_layers_then_over_their_channels():
    alive = {"wide": np.ones(40, bool), "narrow": np.ones(4, bool), "dead": np.zeros(5, bool)}
    alive["wide"][::2] = False
    found = Counter(
        neuron for seed in range(4000) for neuron in choose_neurons(alive, FeaturesTable(neurons=1, seed=seed))
    )
    layers = Counter(neuron.layer for neuron in found.elements())
    assert set(layers) == {"wide", "narrow"}
    assert chisquare(list(layers.values())).pvalue > 1e-3
    for layer, units in alive.items():
        counts = [found[Neuron(layer, int(channel))] for channel in np.flatnonzero(units)]
        assert not counts or chisquare(counts).pvalue > 1e-3


def test_a_layer_without_neurons_left_gives_its_turns_to_the_others():
    alive = {"wide": np.ones(50, bool), "narrow": np.ones(2, bool)}
    layers = Counter(neuron.layer for neuron in choose_neurons(alive, FeaturesTable(neurons=30)))
    assert layers == {"narrow": 2, "wide": 28}


def test_listed_neurons_are_taken_once_in_order_of_depth_even_dead():
    alive = {"z:1": np.zeros(4, bool), "a": np.ones(3, bool)}
    chosen = choose_neurons(alive, FeaturesTable(neurons=("a:2", "z:1:3", "a:0", "a:2")))
    assert chosen == [Neuron("z:1", 3), Neuron("a", 0), Neuron("a", 2)]


@pytest.mark.parametrize(
    ("neurons", "message"),
    [
        (("layer1:4",), r"names 'layer1:4'; the channels of layer1 are 0 to 3"),
        (("layer1:-1",), r"names 'layer1:-1'; the channels of layer1 are 0 to 3"),
        (("layer1:",), r"the channels of layer1 are 0 to 3"),
        (("layer3:0",), r"whose layer is not looked into \(did you mean 'layer1'\?\); .* LAYER:CHANNEL, .* layer1\."),
        (("layer1",), r"whose layer is not looked into"),
        (5, r"neurons is 5, but the layers have 3 channels that are active and tell images apart"),
    ],
)
def test_neurons_that_are_not_there_are_named(neurons, message):
    with pytest.raises(StudyError, match=rf"^\[features\] .*{message}"):
        choose_neurons({"layer1": np.array([True, True, True, False])}, FeaturesTable(neurons=neurons))


def test_ids_are_what_they_were():
    """Trials hold these ids for years: a change here cuts them off from their features."""
    assert local_id("resnet50-1a2b", "layer3.2", 17) == "resnet50-1a2b/layer3.2:17"
    assert distributed_id("resnet50-1a2b", "layer3.2", "nmf", "0123456789abcdef", 3) == (
        "resnet50-1a2b/layer3.2:nmf-01234567:3"
    )


def test_units_are_scaled_by_what_is_asked_and_dead_ones_never_win():
    mean, sd, largest = np.array([1.0, 2.0, 0.0, 5.0]), np.array([0.5, 4.0, 0.0, 0.0]), np.array([3.0, -1.0, 0.0, 5.0])
    assert scales_of(mean, sd, largest, "sd").tolist() == [0.5, 4.0, np.inf, np.inf]
    assert scales_of(mean, sd, largest, "max").tolist() == [3.0, np.inf, np.inf, np.inf]
    assert scales_of(mean, sd, largest, "none").tolist() == [1.0, 1.0, np.inf, np.inf]


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 5))
def test_the_most_active_is_what_a_count_by_hand_says(seed, n, k):
    random = np.random.default_rng(seed)
    codes = random.integers(0, 3, (n, k)).astype(float)
    scales = random.choice([0.5, 1.0, 2.0, np.inf], k)
    share, ties = match_most_active(codes, scales)
    wins = [0] * k
    for row in codes:
        scaled = [code / scale for code, scale in zip(row, scales, strict=True)]
        if max(scaled) > 0:
            wins[scaled.index(max(scaled))] += 1
    assert share.tolist() == [count / n for count in wins]
    np.testing.assert_allclose(ties, [np.mean([row[j] / scales[j] for row in codes]) for j in range(k)])


def test_where_no_direction_is_active_none_wins():
    share, _ = match_most_active(np.array([[0.0, 0.0], [0.0, 1.0], [0.0, -1.0], [9.0, 0.0]]), np.array([np.inf, 1.0]))
    assert share.tolist() == [0, 0.25]


@given(st.integers(0, 2**32), st.integers(3, 40))
def test_a_correlation_is_pearsons(seed, n):
    random = np.random.default_rng(seed)
    neuron, directions = random.normal(size=n), random.normal(3, 10, (n, 4))
    directions[:, 0] = 2 * neuron + 1
    found, ties = match_correlated(neuron, directions)
    np.testing.assert_allclose(found, [np.corrcoef(neuron, column)[0, 1] for column in directions.T], atol=1e-12)
    assert found[0] == pytest.approx(1) and ties.tolist() == [0] * 4


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e9 / 7])
def test_a_constant_correlates_with_nothing(value):
    constant, varied = np.full(1001, value), np.random.default_rng(1).normal(size=1001)
    assert match_correlated(varied, constant[:, None])[0].tolist() == [0]
    assert match_correlated(constant, np.stack([varied, constant], 1))[0].tolist() == [0, 0]


def neurons(n, layer="a"):
    return [Neuron(layer, channel) for channel in range(n)]


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_each_neuron_has_its_best_direction_or_all_together_have_the_best_sum(seed, n, k, one_to_one):
    random = np.random.default_rng(seed)
    shares = random.integers(0, 11, (n, k)) / 10
    tie = random.integers(0, 3, (n, k)).astype(float)
    scores = {neuron: (shares[i], tie[i]) for i, neuron in enumerate(neurons(n))}
    groups = dict.fromkeys(scores, "a")
    if one_to_one and n > k:
        with pytest.raises(StudyError, match=rf"a has {n} neurons and {k} directions; raise \[dictionary\] rank"):
            settle(scores, groups, one_to_one)
        return
    found = settle(scores, groups, one_to_one)
    chosen = [found[neuron].direction for neuron in scores]
    assert [found[neuron].share for neuron in scores] == [shares[i, j] for i, j in enumerate(chosen)]
    if one_to_one:
        assert len(set(chosen)) == n
        every = [list(enumerate(way)) for way in permutations(range(k), n)]
        best = max((sum(shares[c] for c in way), sum(tie[c] for c in way)) for way in every)
        assert sum(shares[i, j] for i, j in enumerate(chosen)) == pytest.approx(best[0])
    else:
        best = [min(range(k), key=lambda j, i=i: (-shares[i, j], -tie[i, j], j)) for i in range(n)]
        assert chosen == best


def test_ties_go_to_the_larger_mean_code_then_to_the_lower_index():
    scores = {
        Neuron("a", 0): (np.array([0.1, 0.5, 0.5]), np.array([9.0, 1.0, 2.0])),
        Neuron("a", 1): (np.array([0.1, 0.1 + 1e-15, 0.1]), np.zeros(3)),
    }
    found = settle(scores, dict.fromkeys(scores, "a"), False)
    assert found[Neuron("a", 0)] == Match(2, 0.5)
    assert found[Neuron("a", 1)].direction == 0


def test_among_equal_sums_one_to_one_takes_the_larger_mean_codes():
    scores = {
        neuron: (np.array([0.5, 0.5]), codes)
        for neuron, codes in zip(neurons(2), np.array([[0.0, 1.0], [1.0, 0.0]]), strict=True)
    }
    found = settle(scores, dict.fromkeys(scores, "a"), True)
    assert [match.direction for match in found.values()] == [1, 0]


def test_directions_are_shared_between_dictionaries_only_by_number():
    scores = {neuron: (np.array([1.0, 0.0]), np.zeros(2)) for neuron in [Neuron("a", 0), Neuron("b", 0)]}
    found = settle(scores, {neuron: neuron.layer for neuron in scores}, True)
    assert [match.direction for match in found.values()] == [0, 0]


def test_dictionaries_may_have_different_ranks():
    scores = {
        Neuron("a", 0): (np.array([0.0, 1.0]), np.zeros(2)),
        Neuron("b", 0): (np.array([0.0, 0.0, 1.0]), np.zeros(3)),
    }
    found = settle(scores, {neuron: neuron.layer for neuron in scores}, False)
    assert [match.direction for match in found.values()] == [1, 2]
