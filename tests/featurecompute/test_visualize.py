"""Synthesised images show what a feature is made to answer to, depend on nothing but themselves, and fail alone."""

import math

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from featurecompute import visualize  # noqa: E402
from featurecompute.activations import Reader  # noqa: E402
from featurecompute.bases import NeuronBasis  # noqa: E402
from featurecompute.cards import Preprocessing, describe_network  # noqa: E402
from featurecompute.dictionary import Dictionary  # noqa: E402
from featurecompute.errors import InputError, NetworkError  # noqa: E402
from featurecompute.manifest import SYNTHESISED  # noqa: E402
from featurecompute.spectrum import magnitude_spectrum  # noqa: E402
from featurecompute.study import VisualizeTable  # noqa: E402
from featurecompute.visualize import STARTS, Wanted, canvas_size, synthesise  # noqa: E402

SIDE = 16
QUICK = {"steps": 4, "crops": 2, "size": 20, "images": 2}


class Tokens(nn.Module):
    """A layer that gives images x tokens x channels first in a tuple."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(6, 6)

    def forward(self, x):
        return self.mix(x.flatten(2).transpose(1, 2)), None


class Last(nn.Module):
    """Channels last."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1)


class Small(nn.Module):
    """A layer of every layout; batch norm, and a ReLU in place after a layer."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.last = Last()
        self.tokens = Tokens()
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.second(self.relu(self.norm(self.first(x)))).relu_()
        x = self.last(x).permute(0, 3, 1, 2)
        return self.head(self.tokens(x)[0].mean(1))


LAYERS = ("first", "relu", "second", "last", "tokens", "head")


def describe(module, layers=(), side=SIDE, **options):
    card = Preprocessing(side, side, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return describe_network(module, card, id="small", source="test", layers=layers, **options)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return describe(Small(), LAYERS)


def images(count=40, side=SIDE, seed=0):
    """Smooth coloured images."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.random((count, 3, side // 4, side // 4)))
    fine = nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)
    return (fine * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


PIXELS = images()


def make(network, wanted, together=None, progress=lambda done, all_: None, **settings):
    table = VisualizeTable(**{**QUICK, **settings})
    spectrum = magnitude_spectrum(PIXELS, canvas_size(network, table)) if table.method == "maco" else None
    return synthesise(network, wanted, spectrum, table, together=together, progress=progress)


def neuron(layer, channel, width=6, **options):
    return Wanted(f"small/{layer}:{channel}", NeuronBasis(layer, width), channel, **options)


def directions(layer, atoms, method="nmf", **options):
    atoms = nn.functional.normalize(torch.tensor(atoms, dtype=torch.float32))
    return Dictionary(layer, method, atoms, parameters={"penalty": 0.01}, **options)


def read(network, basis, pixels):
    """Activations of a basis by the pass over natural images."""
    found = Reader(network, {basis.layer: [basis]}, "mean", 8, "fp32", None).read(pixels, np.arange(len(pixels)))
    return next(iter(found.values()))[0].numpy()


def several():
    atoms = directions("relu", np.eye(6)[:2] + np.eye(6)[2:4])
    return [
        neuron("relu", 1),
        Wanted("small/relu:nmf:1", atoms, 1, number=1),
        neuron("relu", 1, number=1),
        neuron("relu", 4),
        Wanted("small/relu:nmf:0", atoms, 0),
    ]


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


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layout_is_driven_beyond_all_natural_images(network, layer):
    basis = NeuronBasis(layer, 4 if layer == "head" else 6)
    natural = read(network, basis, PIXELS)
    unit = int(natural.std(0).argmax())
    ends = ("max", "min") if network.layer(layer).signed else ("max",)
    wanted = [neuron(layer, unit, basis.size, end=end) for end in ends]
    found = make(network, wanted, steps=40, method="fourier", rate=0.2, objective="dot", crop=(0.8, 1.0))
    assert found.table["activation"][0] > natural[:, unit].max()
    if len(ends) == 2:
        assert found.table["activation"][1] < natural[:, unit].min()
    np.testing.assert_array_equal(found.table["activation"], read(network, basis, found.pixels)[:, unit])


def test_macos_pictures_drive_units_for_shapes_beyond_all_natural_images():
    torch.manual_seed(1)
    module = Small()
    for part in (module.first, module.second):
        part.weight.data -= part.weight.data.mean((2, 3), keepdim=True)  # blind to colours that are the same everywhere
    network = describe(module, LAYERS)
    basis = NeuronBasis("last", 6)
    natural = read(network, basis, PIXELS)
    wanted = [neuron("last", unit) for unit in range(6) if natural[:, unit].any()]
    found = make(network, wanted, steps=60, objective="dot", crop=(0.8, 1.0), size=SIDE)
    assert len(wanted) > 2 and (found.table["activation"] > natural[:, [each.index for each in wanted]].max(0)).all()


def test_a_direction_raises_the_channels_that_it_mixes_and_no_other():
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * SIDE**2, 2))
    module[0].weight.data = torch.eye(3)[:, :, None, None]  # red, green and blue
    network = describe(module, ["1"])
    natural = read(network, NeuronBasis("1", 3), PIXELS)
    basis = directions("1", [[0, 0, 1], [1, 1, 0]])
    found = make(network, [Wanted("yellow", basis, 1)], steps=40, method="fourier", rate=0.3)
    raised = read(network, NeuronBasis("1", 3), found.pixels)[0]
    assert (raised[:2] > natural[:, :2].max(0)).all() and raised[2] < np.median(natural[:, 2])
    assert found.table["activation"][0] == read(network, basis, found.pixels)[0, 1]


def grating(side, turn, waves, colour):
    """A wave across a square, with no mean: waves along the direction `turn`, in colours."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    wave = np.cos(2 * np.pi * waves * (x * math.cos(turn) + y * math.sin(turn)))
    return (wave - wave.mean())[None] * np.array(colour)[:, None, None]


@pytest.mark.parametrize("method", ["maco", "fourier"])
def test_a_linear_unit_gets_back_the_grating_it_looks_for(method):
    side = 24
    colours = np.array([(1, 1, 1), (1, -1, 0)])
    templates = np.stack([grating(side, 0.5, 3, colours[0]), grating(side, 2.0, 4, colours[1])])
    module = nn.Sequential(nn.Conv2d(3, 2, side, bias=False), nn.Flatten(), nn.Linear(2, 2))
    module[0].weight.data = torch.from_numpy(templates).float()
    network = describe(module, ["0"], side)
    settings = {"steps": 100, "size": side, "crops": 1, "crop": (0.999, 1.0), "objective": "dot", "noise": 0.0}
    table = VisualizeTable(method=method, rate=None if method == "maco" else 0.2, **settings)
    spectrum = magnitude_spectrum(images(side=side), side)
    found = synthesise(network, [neuron("0", unit, 2) for unit in range(2)], spectrum, table)
    pictures = found.pixels.transpose(0, 3, 1, 2) / 255.0
    if method == "fourier":
        for colour, picture, template in zip(colours, pictures, templates, strict=True):
            along, wanted = np.tensordot(colour, picture, 1), np.tensordot(colour, template, 1)
            assert np.corrcoef(along.ravel(), wanted.ravel())[0, 1] > 0.75
        return
    # With these magnitudes no picture can have a larger product with the template than one with all its phases.
    for picture, template in zip(pictures, templates, strict=True):
        own = np.abs(np.fft.fft2(np.tensordot(spectrum.axes.T, template, 1), norm="ortho"))
        mirrored = np.roll(spectrum.magnitudes[:, ::-1], 1, axis=1)[..., side // 2 - 1 : 0 : -1]
        whole = np.concatenate([spectrum.magnitudes, mirrored], axis=2)
        whole[:, 0, 0] = 0
        assert 0.9 < np.vdot(picture, template) / (own * whole).sum() < 1.02


def test_transparency_shows_where_a_unit_looks():
    module = nn.Sequential(nn.Conv2d(3, 2, SIDE, bias=False), nn.Flatten(), nn.Linear(2, 2))
    module[0].weight.data.zero_()
    module[0].weight.data[0, :, 3:7, 9:13] = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = make(describe(module, ["0"]), [neuron("0", 0, 2)], crop=(0.98, 1.0), size=SIDE, objective="dot")
    where = found.transparency[0]
    assert where.dtype == np.float32 and where.min() >= 0 and where.max() == 1
    assert where[2:8, 8:14].sum() > 0.99 * where.sum()


def test_the_cosine_asks_for_the_channel_alone():
    # Both channels answer to brightness, the second twice as much; only the first to a red edge too.
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2 * SIDE**2, 2))
    module[0].weight.data = torch.tensor([[1.0, 0.5, 0.0], [-0.5, 2.0, 0.0]])[:, :, None, None]
    module[0].bias.data.zero_()
    network = describe(module, ["0"])
    shares = {}
    for objective in ("dot", "dot_cosine"):
        found = make(network, [neuron("0", 0, 2)], steps=80, method="fourier", objective=objective)
        one, two = read(network, NeuronBasis("0", 2), found.pixels)[0]
        shares[objective] = one / math.hypot(one, two)
    assert shares["dot_cosine"] > 0.83 and shares["dot"] < 0.75


def test_a_direction_about_a_mean_is_driven_to_both_sides(network):
    natural = read(network, NeuronBasis("tokens", 6), PIXELS)
    basis = directions(
        "tokens", np.eye(6)[:1], "pca", coding="linear", offset=torch.from_numpy(natural.max(0) + 5.0)
    )  # far above: without its offset, the lower end would already be reached, and the cosine be stuck
    wanted = [Wanted("one", basis, 0, end) for end in ("max", "min")]
    found = make(network, wanted, steps=40, crop=(0.8, 1.0), method="fourier", rate=0.2)
    assert found.table["activation"][0] > natural[:, 0].max() - (natural[:, 0].max() + 5)
    assert found.table["activation"][1] < natural[:, 0].min() - (natural[:, 0].max() + 5)


def test_no_layer_after_the_target_is_run_and_no_weight_has_a_gradient(network, monkeypatch):
    calls = []
    for name in ("second", "relu", "head"):
        part = network.module.get_submodule(name)
        own = part.forward
        monkeypatch.setattr(part, "forward", lambda *a, own=own, name=name: calls.append(name) or own(*a))
    monkeypatch.setattr(visualize, "Reader", lambda *_: None)
    monkeypatch.setattr(visualize, "_gather", lambda *_: None)
    make(network, several()[:1])
    assert calls == ["relu"] * QUICK["steps"]
    assert all(p.grad is None and not p.requires_grad for p in network.module.parameters())


def test_gradients_are_found_also_where_the_caller_turned_them_off(network):
    expected = make(network, several()[:1])
    with torch.no_grad():
        np.testing.assert_array_equal(make(network, several()[:1]).pixels, expected.pixels)
    with torch.inference_mode():
        np.testing.assert_array_equal(make(network, several()[:1]).pixels, expected.pixels)


def hooks(module):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


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
    own = visualize.Maco.start
    monkeypatch.setattr(visualize.Maco, "start", lambda self, g, n: starts.append(n) or own(self, g, n))
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
        rows = visualize.rows_of(visualize.reach(network.module, layer, values), network.layer(layer).layout)
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
    wanted = [neuron("relu", 1, number=n) for n in range(3)]
    own = visualize._Climb._score

    def score(self, pictures):
        scores, loss = own(self, pictures)
        broken = torch.zeros_like(scores)
        if self.images[1].steps == 2:
            broken[1] = torch.nan
        return scores + broken, loss

    monkeypatch.setattr(visualize._Climb, "_score", score)
    found = make(network, wanted, images=3, diversity=1.0)
    assert list(found.table["failed"]) == [False, True, False]
    assert list(found.table["steps"]) == [4, 2, 4]
    assert found.table["stopped"][1] == "its objective was no finite number in step 3"


def test_the_table_fits_the_run(network, tmp_path):
    told = []
    wanted = [neuron("first", 2, end="min", number=1), *several()]
    found = make(network, wanted, progress=lambda done, all_: told.append((done, all_)))
    assert told == [(n + 1, 6) for n in range(6)]
    assert set(SYNTHESISED.columns) - set(found.table.columns) == {"natural"}
    assert found.table["image"][0] == "synthesised/small/first:2/min-1"
    assert found.table.loc[0, ["feature", "end", "number", "method", "seed", "steps", "stopped"]].tolist() == [
        *("small/first:2", "min", 1, "maco", 1, 4, "steps")
    ]
    assert found.pixels.shape == (6, SIDE, SIDE, 3) and found.pixels.dtype == np.uint8
    assert found.transparency.shape == (6, SIDE, SIDE)
    SYNTHESISED.write(tmp_path, found.table)
    assert len(SYNTHESISED.read(tmp_path)) == 6


def test_nothing_wanted_is_nothing_made(network):
    found = make(network, [])
    assert found.pixels.shape == (0, SIDE, SIDE, 3) and found.table.empty


def test_a_wish_that_cannot_be_met_is_refused_in_a_sentence(network):
    with pytest.raises(NetworkError, match=r"lower end of feature 'small/relu:1'.* layer 'relu' are never below zero"):
        make(network, [neuron("relu", 1, end="min")])
    with pytest.raises(NetworkError, match=r"not looked into at 'secnd' .did you mean 'second'"):
        make(network, [neuron("secnd", 1)])
    with pytest.raises(InputError, match="'synthesised/small/relu:1/max-0' is asked for twice"):
        make(network, [neuron("relu", 1)] * 2)
    with pytest.raises(InputError, match=r"unit 6 of layer 'relu' \(neuron\), whose units are 0 to 5\."):
        make(network, [neuron("relu", 6)])
    with pytest.raises(InputError, match=r"\(max\) the numbers \[1\] are asked for; it must be 0 to 1\."):
        make(network, [neuron("relu", 1, number=1)], diversity=1.0)
    table = VisualizeTable(**QUICK)
    with pytest.raises(InputError, match=r"a canvas of 20 pixels; none was given\."):
        synthesise(network, several(), None, table)
    with pytest.raises(InputError, match=r"a canvas of 20 pixels; one of 16 was given\."):
        synthesise(network, several(), magnitude_spectrum(PIXELS, 16), table)
    assert canvas_size(network, table) == 20 and canvas_size(network, VisualizeTable()) == 2 * SIDE
