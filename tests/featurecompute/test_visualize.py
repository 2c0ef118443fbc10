"""Synthesised images show what a feature is made to answer to; the table says how they came about."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from climbers import (  # noqa: E402
    LAYERS,
    PIXELS,
    QUICK,
    SIDE,
    Small,
    describe,
    directions,
    grating,
    images,
    make,
    neuron,
    read,
    several,
)
from torch import nn  # noqa: E402

from featurecompute.bases import NeuronBasis  # noqa: E402
from featurecompute.errors import InputError, NetworkError  # noqa: E402
from featurecompute.manifest import SYNTHESISED  # noqa: E402
from featurecompute.spectrum import magnitude_spectrum  # noqa: E402
from featurecompute.study import VisualizeTable  # noqa: E402
from featurecompute.visualize import Wanted, canvas_size, synthesise  # noqa: E402


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return describe(Small(), LAYERS)


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


def test_gradients_are_found_also_where_the_caller_turned_them_off(network):
    expected = make(network, several()[:1])
    with torch.no_grad():
        np.testing.assert_array_equal(make(network, several()[:1]).pixels, expected.pixels)
    with torch.inference_mode():
        np.testing.assert_array_equal(make(network, several()[:1]).pixels, expected.pixels)


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
    assert canvas_size(network, table) == 20 and canvas_size(network, VisualizeTable()) == SIDE
