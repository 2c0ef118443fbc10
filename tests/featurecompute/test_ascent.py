"""An image on its way up depends on nothing but itself, stops where it should, and fails alone."""

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from climbers import LAYERS, QUICK, SIDE, Small, describe, grating, hooks, make, neuron, several  # noqa: E402
from torch import nn  # noqa: E402

from featurecompute import ascent, visualize  # noqa: E402
from featurecompute.ascent import STARTS  # noqa: E402
from featurecompute.canvas import Maco  # noqa: E402
from featurecompute.errors import NetworkError  # noqa: E402


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return describe(Small(), LAYERS)


@pytest.mark.parametrize("method", ["maco", "fourier"])
@pytest.mark.parametrize("together", [1, 3])
def test_an_image_does_not_depend_on_those_beside_it(network, method, together):
    wanted = several()
    found = make(network, wanted, together, method=method)
    back = make(network, wanted[::-1], together, method=method)
    np.testing.assert_array_equal(found.pixels, back.pixels[::-1])
    np.testing.assert_array_equal(found.transparency, back.transparency[::-1])
    for place in (0, 3):
        alone = make(network, wanted[place : place + 1], together, method=method)
        np.testing.assert_array_equal(alone.pixels[0], found.pixels[place])
        np.testing.assert_array_equal(alone.transparency[0], found.transparency[place])
        pd.testing.assert_series_equal(alone.table.iloc[0], found.table.iloc[place], check_names=False)
        assert not alone.table["failed"][0]
    # Images of a number, of an end and of a feature each have a seed of their own.
    assert len({image.tobytes() for image in found.pixels}) == len(wanted)


def test_images_at_once_change_no_more_than_rounding(network):
    one, three = (make(network, several(), together) for together in (1, 3))
    assert np.abs(one.pixels.astype(int) - three.pixels.astype(int)).max() <= 1


def test_the_seed_is_all_that_chance_has(network):
    torch.manual_seed(1)
    first = make(network, several()[:1])
    torch.manual_seed(2)
    np.testing.assert_array_equal(first.pixels, make(network, several()[:1]).pixels)
    assert (first.pixels != make(network, several()[:1], seed=2).pixels).any()
    plain = [make(network, several()[:1], seed=seed, noise=0.0).pixels for seed in (1, 1)]
    np.testing.assert_array_equal(*plain)
    assert (plain[0] != first.pixels).any()


def test_no_layer_after_the_target_is_run_and_no_weight_has_a_gradient(network, monkeypatch):
    calls = []
    for name in ("second", "relu", "head"):
        part = network.module.get_submodule(name)
        own = part.forward
        monkeypatch.setattr(part, "forward", lambda *a, own=own, name=name: calls.append(name) or own(*a))
    monkeypatch.setattr(visualize, "_gather", lambda *_: None)
    make(network, several()[:1])
    assert calls == ["relu"] * QUICK["steps"]
    assert all(p.grad is None and not p.requires_grad for p in network.module.parameters())


def test_no_hook_survives_whatever_happens(network, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(network.module.norm, "forward", fail)
    with pytest.raises(KeyboardInterrupt):
        make(network, several()[:1])
    assert hooks(network.module) == 0
    monkeypatch.undo()
    make(network, several()[:1])
    assert hooks(network.module) == 0


class Apart(nn.Module):
    """A function of its input, which nothing reads."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Broken(nn.Module):
    """Channel 1 of the ReLU is never active; one layer gives no numbers, and another no gradient that is a number."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Linear(4, 2)
        self.nowhere, self.steep = Apart(lambda x: (-1 - x.abs()).sqrt()), Apart(lambda x: (x * 0).sqrt())

    def forward(self, x):
        x = self.conv(x)
        self.nowhere(x)
        self.steep(x)
        return self.head(self.relu(x - torch.tensor([0.0, 99.0, 0.0, 0.0])[:, None, None]).mean((2, 3)))


@pytest.fixture(scope="module")
def broken():
    torch.manual_seed(3)
    return describe(Broken(), ["relu", "nowhere", "steep"])


@pytest.mark.parametrize("together", [1, 4])
def test_what_fails_is_listed_and_the_rest_is_as_it_would_be_without(broken, together):
    wanted = [*(neuron("relu", channel, 4) for channel in (0, 1, 3)), neuron("nowhere", 2, 4), neuron("steep", 2, 4)]
    found = make(broken, wanted, together)
    assert list(found.table["failed"]) == [False, True, False, True, True]
    assert found.table["stopped"][1] == f"its feature was moved by none of {STARTS} starts: every gradient was zero"
    assert found.table["stopped"][3] == "its objective was no finite number in step 1"
    assert found.table["stopped"][4] == "its gradient was no finite number in step 1"
    assert list(found.table["steps"]) == [4, 0, 4, 0, 0]
    assert list(found.table["activation"].isna()) == list(found.table["failed"])
    assert (found.pixels[[1, 3]] == 0).all() and (found.transparency[[1, 3]] == 0).all()
    without = make(broken, [wanted[0], wanted[2]], together)
    np.testing.assert_array_equal(without.pixels, found.pixels[[0, 2]])
    with pytest.raises(NetworkError, match=r"'synthesised/small/relu:1/max-0' cannot .* zero; leave .*\"skip\""):
        make(broken, wanted, together, faulty="error")
    assert hooks(broken.module) == 0


def test_a_start_from_which_no_gradient_leads_is_drawn_again(monkeypatch):
    # The unit is active only where a picture is brighter than most starts are.
    module = nn.Sequential(nn.Conv2d(3, 1, SIDE), nn.ReLU(), nn.Flatten(), nn.Linear(1, 2))
    module[0].weight.data[:] = torch.from_numpy(grating(SIDE, 0.3, 2, (1, 1, 1))).float()
    module[0].bias.data.fill_(-50.0)
    network = describe(module, ["1"])
    starts = []
    own = Maco.start
    monkeypatch.setattr(Maco, "start", lambda self, g, n: starts.append(n) or own(self, g, n))
    found = make(network, [neuron("1", 0, 1, number=n) for n in range(6)], steps=10, crop=(0.9, 1.0), noise=0.0)
    assert not found.table["failed"].any() and (found.table["activation"] > 0).all()
    assert len(starts) > 1 + 6 and max(starts) > 1  # one is for the form alone


def test_it_stops_where_the_objective_is_flat(network):
    found = make(network, several()[:2], steps=200, patience=5, tolerance=1e6)
    assert list(found.table["steps"]) == [10, 10] and set(found.table["stopped"]) == {"flat"}
    found = make(network, several()[:2], steps=12, patience=6, tolerance=1e6)
    assert list(found.table["steps"]) == [12, 12]  # both at once: it took all steps
    assert set(found.table["stopped"]) == {"steps"}
    found = make(network, several()[:2], steps=40, patience=4, tolerance=0.05)
    assert (found.table["steps"] % 4 == 0).all() and (found.table["steps"] > 8).all()


def test_images_that_stop_make_room_for_others_that_are_as_they_are_alone(network):
    wanted = [*several(), *(neuron("relu", 2, number=n) for n in range(3))]
    settings = {"steps": 60, "patience": 3, "tolerance": 0.03}
    found = make(network, wanted, 2, **settings)
    assert found.table["steps"].nunique() > 2
    for place in (3, 6):
        alone = make(network, wanted[place : place + 1], 2, **settings)
        np.testing.assert_array_equal(alone.pixels[0], found.pixels[place])
        assert alone.table["steps"][0] == found.table["steps"][place]


def likeness(network, found, layer):
    """Mean cosine of the Gram matrices of images."""
    values = network.normalise(found.pixels)
    with torch.inference_mode():
        rows = ascent.rows_of(ascent.reach(network.module, layer, values), network.layer(layer).layout)
    grams = nn.functional.normalize((rows.mT @ rows).flatten(1))
    return float((grams @ grams.T).fill_diagonal_(0).sum() / (len(grams) * (len(grams) - 1)))


def test_diversity_makes_a_features_images_unlike_each_other(network):
    wanted = [neuron("relu", channel, number=n) for channel in (1, 4) for n in range(3)]
    alike = {}
    for weight in (0.0, 10.0):
        found = make(network, wanted[:3], images=3, steps=30, diversity=weight)
        alike[weight] = likeness(network, found, "relu")
    assert alike[10.0] < alike[0.0] - 0.05
    for together in (1, 6):
        both = make(network, wanted[::-1], together, images=3, diversity=1.0)
        own = make(network, wanted[3:], together, images=3, diversity=1.0)
        np.testing.assert_array_equal(both.pixels[::-1][3:], own.pixels)


def test_a_group_goes_on_without_those_that_fail(network, monkeypatch):
    wanted = [neuron("relu", channel, number=n) for channel in (1, 4) for n in range(3)]
    own, calls = ascent.rows_of, []

    def rows_of(output, layout):
        rows = own(output, layout)
        calls.append(1)
        if len(calls) != 3:
            return rows
        second = (torch.arange(len(rows)) // QUICK["crops"] == 1)[:, None, None]
        return torch.where(second, torch.nan, rows)

    whole = make(network, wanted, 6, images=3, diversity=1.0)
    monkeypatch.setattr(ascent, "rows_of", rows_of)
    found = make(network, wanted, 6, images=3, diversity=1.0)
    assert list(found.table["failed"]) == [False, True, False, False, False, False]
    assert list(found.table["steps"]) == [4, 2, 4, 4, 4, 4]
    assert found.table["stopped"][1] == "its objective was no finite number in step 3"
    assert not found.table["activation"][[0, 2]].isna().any()
    np.testing.assert_array_equal(found.pixels[3:], whole.pixels[3:])  # another group is not touched
