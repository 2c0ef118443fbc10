"""Running extremes, moments and windows of ranks beside sorting everything at once."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as nps  # noqa: E402

from featurecompute.errors import InputError  # noqa: E402
from featurecompute.extremes import Extremes, Moments  # noqa: E402
from featurecompute.windows import select_window  # noqa: E402

# Few distinct values, so that ties are the rule; with both zeros, both signs, and the ends of float32.
VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.5, 1e-45, -1e-45, 3.4e38, -3.4e38]) | st.floats(-2, 2, width=32)
SCORES = nps.arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 4)), elements=VALUES)


def brute(scores, images, positions, k):
    """Return the top (scores, images, positions) of each unit by sorting all of them."""
    units = scores.shape[1]
    found = np.full((k, units), np.nan, np.float32), np.full((k, units), -1), np.full((k, units), -1)
    for unit in range(units):
        order = np.lexsort((images, -scores[:, unit]))[:k]
        for part, values in zip(found, (scores[:, unit] + 0.0, images, positions[:, unit]), strict=True):
            part[: len(order), unit] = values[order]
    return found


def feed(scores, images, positions, k, size):
    store = Extremes(scores.shape[1], k, "layer 'a'")
    for i in range(0, len(scores), size):
        part = slice(i, i + size)
        store.update(*(torch.tensor(values[part].copy()) for values in (scores, images, positions)))
    return store


def assert_ranked(ranked, expected):
    for part, values in zip((ranked.scores, ranked.images, ranked.positions), expected, strict=True):
        np.testing.assert_array_equal(part, values)
    assert not np.signbit(ranked.scores[ranked.scores == 0]).any()


@settings(max_examples=150, deadline=None)
@given(SCORES, st.integers(1, 12), st.integers(1, 50), st.randoms(use_true_random=False))
def test_extremes_are_those_of_sorting_whatever_the_order_and_the_batches(scores, k, size, random):
    images = np.array(random.sample(range(2**32), len(scores)))
    positions = np.arange(scores.size).reshape(scores.shape)
    store = feed(scores, images, positions, k, size)
    assert_ranked(store.top, brute(scores, images, positions, k))
    low = brute(-scores, images, positions, k)
    assert_ranked(store.bottom, (-low[0] + 0.0, *low[1:]))


@settings(max_examples=60, deadline=None)
@given(SCORES, st.integers(1, 12), st.integers(1, 39), st.booleans())
def test_parts_merge_in_any_order_also_through_arrays(scores, k, cut, swap):
    images, positions = np.arange(len(scores)), np.zeros(scores.shape, int)
    whole = feed(scores, images, positions, k, 7).arrays()
    parts = [feed(scores[part], images[part], positions[part], k, 5) for part in (slice(cut), slice(cut, None))]
    first, second = parts[::-1] if swap else parts
    first = Extremes.from_arrays(first.arrays())
    first.merge(second)
    for name, values in first.arrays().items():
        np.testing.assert_array_equal(values, whole[name], err_msg=name)
        assert values.dtype == whole[name].dtype


@pytest.mark.parametrize("order", ["rising", "falling", "shuffled", "constant", "coarse"])
def test_long_streams_go_through_every_path_of_the_store(order):
    rng = np.random.default_rng(1)
    n, units, k = 5000, 6, 20
    scores = rng.normal(size=(n, units)).astype(np.float32)
    images = np.arange(n)
    if order in ("rising", "falling"):
        scores = np.sort(scores, axis=0)[:: 1 if order == "rising" else -1]
    elif order == "shuffled":
        images = rng.permutation(n)
    elif order == "constant":
        scores[:, :3] = 0.5
        images = images[::-1]
    else:
        scores = np.round(scores)
        images = rng.permutation(n)
    positions = rng.integers(0, 49, scores.shape)
    store = feed(scores.copy(), images.copy(), positions, k, 333)
    assert_ranked(store.top, brute(scores, images, positions, k))
    assert feed(scores.copy(), images.copy(), positions, k, 5000).arrays().keys() == store.arrays().keys()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_by_its_place(value):
    scores = torch.zeros(4, 3)
    scores[2, 1] = value
    store = Extremes(3, 2, "layer 'conv' (neuron)")
    with pytest.raises(InputError, match=r"^unit 1 of layer 'conv' \(neuron\) has the activation .* in image 12;"):
        store.update(scores, torch.arange(10, 14), torch.zeros(4, 3, dtype=torch.int32))


def test_large_finite_activations_are_numbers():
    Extremes(3, 1).update(torch.full((100, 3), 3.4e38), torch.arange(100), torch.zeros(100, 3))


def test_stores_that_do_not_fit_together_and_an_empty_one_are_refused():
    with pytest.raises(InputError, match="at least 1"):
        Extremes(3, 0)
    with pytest.raises(InputError, match="3 units x 2 images and 3 x 4"):
        Extremes(3, 2).merge(Extremes(3, 4))


@settings(max_examples=60, deadline=None)
@given(nps.arrays(np.float32, (20, 3), elements=st.floats(-10, 10, width=32)), st.integers(1, 19))
def test_moments_are_numpys(scores, cut):
    parts = [Moments.of(torch.tensor(part)) for part in (scores[:cut], scores[cut:])]
    found = Moments.from_arrays(parts[0].merge(parts[1]).arrays())
    wide = scores.astype(float)
    np.testing.assert_allclose(found.mean, wide.mean(0), atol=1e-12)
    np.testing.assert_allclose(found.sd, wide.std(0), atol=1e-6)
    np.testing.assert_array_equal(found.maximum, scores.max(0))
    np.testing.assert_array_equal(found.sparsity, 1 - (scores > 0).mean(0))
    np.testing.assert_array_equal(found.dead, (scores <= 0).all(0))
    assert found.n == 20


def test_a_constant_unit_has_no_spread():
    assert Moments.of(torch.full((7, 1), 0.1)).sd[0] == 0


@settings(max_examples=100, deadline=None)
@given(SCORES, st.data())
def test_a_window_is_that_of_sorting(scores, data):
    n = len(scores)
    lo = data.draw(st.integers(0, n - 1))
    hi = data.draw(st.integers(lo + 1, n))
    size = data.draw(st.integers(1, n))
    images, found = select_window([scores[i : i + size] for i in range(0, n, size)], lo, hi)
    expected = brute(scores, np.arange(n), np.zeros(scores.shape), hi)
    np.testing.assert_array_equal(images, expected[1][lo:])
    np.testing.assert_array_equal(found, expected[0][lo:])


def test_a_window_starts_its_blocks_anew_and_names_ranks_that_are_not_there():
    scores = np.random.default_rng(2).normal(size=50_000).astype(np.float32)
    images, _ = select_window(lambda: iter(np.array_split(scores, 7)), 2500, 3000)
    np.testing.assert_array_equal(images[:, 0], np.argsort(-scores, kind="stable")[2500:3000])
    with pytest.raises(InputError, match="ranks 10 to 90001 were asked for; of 50000 images"):
        select_window([scores], 10, 90_001)
