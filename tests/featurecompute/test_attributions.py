"""Attributions are those of their papers: beside captum, by completeness, and where there is a closed form."""

# ruff: noqa: E402

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from planted import planted
from split_networks import Dense, Residual, loud, pictures, whole
from torch import nn

from featurecompute.attributions import (
    gradient_x_activation,
    gradients,
    integrated_gradients,
    sobol,
    target_logits,
    total_indices,
)
from featurecompute.bases import NeuronBasis
from featurecompute.contributions import null
from featurecompute.errors import InputError
from featurecompute.replay import split
from featurecompute.terms import terms_of


def scene(kind, layer, batch=3):
    """Return a network whose biases before the layer are zero, so that the layer's map is zero for black images."""
    module, images = loud(kind), pictures(batch)
    if kind is Dense:
        for part in module.layers:
            nn.init.zeros_(part.bias)
    suffix = split(module, layer, "bchw", images)
    return module, images, suffix, suffix.logits.argmax(1)


def neurons(suffix):
    return terms_of(suffix.maps, NeuronBasis(suffix.layer, suffix.maps.shape[1]))


def directions(suffix):
    return terms_of(suffix.maps, planted(suffix.layer, suffix.maps.shape[1]))


CASES = [(Residual, "stem"), (Dense, "layers.0"), (Dense, "layers.2")]


@pytest.mark.filterwarnings("ignore")  # captum's own
@pytest.mark.parametrize(("kind", "layer"), [*CASES, (Residual, "block2.conv1"), (Residual, "block3")])
def test_gradient_x_activation_is_captums(kind, layer):
    attr = pytest.importorskip("captum.attr", reason="captum is not installed (extra 'benchmark')")
    module, images, suffix, targets = scene(kind, layer)
    found = attr.LayerGradientXActivation(module, dict(module.named_modules())[layer])
    expected = found.attribute(images, target=targets).flatten(2).sum(2).detach()
    scores = gradient_x_activation(suffix, neurons(suffix), targets)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)
    assert float(expected.abs().max()) > 1e-2


@pytest.mark.filterwarnings("ignore")  # captum's own
@pytest.mark.parametrize(("kind", "layer"), CASES)
@pytest.mark.parametrize("steps", [5, 20])
def test_integrated_gradients_are_captums(kind, layer, steps):
    attr = pytest.importorskip("captum.attr", reason="captum is not installed (extra 'benchmark')")
    module, images, suffix, targets = scene(kind, layer)
    # captum's path begins at the map of the baseline image, ours at zero.
    assert not split(module, layer, "bchw", torch.zeros_like(images)).maps.any()
    found = attr.LayerIntegratedGradients(module, dict(module.named_modules())[layer])
    expected = found.attribute(images, baselines=0, target=targets, n_steps=steps, method="gausslegendre")
    scores, _ = integrated_gradients(suffix, neurons(suffix), targets, steps=steps)
    torch.testing.assert_close(scores, expected.flatten(2).sum(2).detach(), rtol=1e-4, atol=1e-4)
    assert float(scores.abs().max()) > 1e-2


@pytest.mark.parametrize("layer", ["block2.conv1", "block3"])
def test_gradients_are_those_of_the_whole_network(layer):
    module, images, suffix, targets = scene(Residual, layer)
    maps = suffix.maps.clone().requires_grad_()
    logits = whole(module, layer, "bchw", images, maps).gather(1, targets[:, None])
    (true,) = torch.autograd.grad(logits.sum(), maps)
    torch.testing.assert_close(gradients(suffix, targets), true, rtol=1e-4, atol=1e-5)
    assert not gradients(suffix, targets).requires_grad
    # A direction's score is the derivative of the logit along its term.
    terms, place = directions(suffix), torch.arange(3)
    scores = gradient_x_activation(suffix, terms, targets)
    for unit in range(terms.size):
        term = suffix.maps - terms.without(place, torch.full((3,), unit), rest=True).maps()
        torch.testing.assert_close(scores[:, unit], (true * term).sum((1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_what_directions_get_and_what_is_left_over_sum_to_what_neurons_get(batch):
    _, _, suffix, targets = scene(Residual, "block2.conv1")
    terms = directions(suffix)
    gradient = gradients(suffix, targets)
    left = (gradient * (suffix.maps - torch.einsum("kc,bkp->bcp", terms.atoms, terms.codes))).sum((1, 2))
    together = gradient_x_activation(suffix, terms, targets, batch=batch).sum(1) + left
    alone = gradient_x_activation(suffix, neurons(suffix), targets, batch=batch).sum(1)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone, (gradient * suffix.maps).sum((1, 2)), rtol=1e-4, atol=1e-4)


class Smooth(nn.Module):
    """A skip crosses the layer, and what follows is an entire function of the map."""

    def __init__(self):
        super().__init__()
        self.conv, self.mix, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.mix(self.conv(x) * 2 + x.mean(1, keepdim=True))).mean((2, 3)))


def smooth():
    torch.manual_seed(0)
    module, images = Smooth().eval().requires_grad_(False), pictures(3)
    suffix = split(module, "conv", "bchw", images)
    assert suffix.crossing
    return module, images, suffix, torch.tensor([0, 2, 1])


def test_integrated_gradients_are_complete():
    module, images, suffix, targets = smooth()
    start = whole(module, "conv", "bchw", images, torch.zeros_like(suffix.maps))
    change = (suffix.logits - start).gather(1, targets[:, None])[:, 0]
    scores, incompleteness = integrated_gradients(suffix, neurons(suffix), targets)
    torch.testing.assert_close(scores.sum(1), change, rtol=0, atol=1e-5)
    assert float(incompleteness.abs().max()) < 1e-5
    assert float(change.abs().min()) > 1e-3
    # Few points leave something over, and it is said how much.
    coarse, rest = integrated_gradients(suffix, neurons(suffix), targets, steps=1)
    torch.testing.assert_close(coarse.sum(1) + rest, change, rtol=0, atol=1e-5)
    assert float(rest.abs().max()) > 1e-4
    # With directions, what they do not account for has its share.
    terms = directions(suffix)
    shares, same = integrated_gradients(suffix, terms, targets, batch=2)
    torch.testing.assert_close(same, incompleteness, rtol=0, atol=1e-6)
    everything = neurons(suffix)
    gradient = sum(
        weight / 2 * gradients(suffix, targets, scale=(1 + point) / 2)
        for point, weight in zip(*map(np.ndarray.tolist, np.polynomial.legendre.leggauss(20)), strict=True)
    )
    torch.testing.assert_close((gradient * everything.maps).sum(2), scores, rtol=1e-4, atol=1e-6)
    left = suffix.maps - torch.einsum("kc,bkp->bcp", terms.atoms, terms.codes)
    torch.testing.assert_close(shares.sum(1) + (gradient * left).sum((1, 2)), change, rtol=0, atol=1e-5)


@pytest.mark.parametrize("basis", [neurons, directions])
def test_for_a_linear_suffix_every_attribution_is_the_drop(basis):
    _, _, suffix, targets = scene(Residual, "block3")
    terms = basis(suffix)
    which = torch.arange(3).repeat_interleave(terms.size)
    units = torch.arange(terms.size).repeat(3)
    drop = suffix.logits.gather(1, targets[:, None]) - null(suffix, terms, which, units, targets).reshape(3, -1)
    for linear in (True, False):
        if not linear:
            suffix._linear = None
        torch.testing.assert_close(gradient_x_activation(suffix, terms, targets), drop, rtol=1e-4, atol=1e-4)
        scores, incompleteness = integrated_gradients(suffix, terms, targets, steps=3)
        torch.testing.assert_close(scores, drop, rtol=1e-4, atol=1e-4)
        assert float(incompleteness.abs().max()) < 1e-4


def g_function(coefficients):
    """Return Sobol's g function and its total indices (Saltelli et al. 2010, doi:10.1016/j.cpc.2009.09.018)."""
    partial = 1 / (3 * (1 + coefficients) ** 2)
    total = (1 + partial).prod()
    indices = partial * (total / (1 + partial)) / (total - 1)
    return lambda x: ((4 * x.double() - 2).abs().add(coefficients).div(1 + coefficients)).prod(1), indices


def test_total_indices_of_known_functions():
    coefficients = torch.tensor([0.0, 0.5, 3.0, 9.0, 99.0], dtype=torch.float64)
    function, true = g_function(coefficients)
    found = total_indices(function, 5, range(5), designs=16384, seed=1)
    torch.testing.assert_close(found, true, rtol=0.03, atol=1e-4)
    weights = torch.tensor([3.0, -2.0, 1.0, 0.0])
    found = total_indices(lambda x: x @ weights + 7, 4, [3, 0, 2], designs=4096, seed=2)
    torch.testing.assert_close(found, torch.tensor([0.0, 9 / 14, 1 / 14]).double(), rtol=0.02, atol=1e-9)
    # An interaction counts for both: (x - 1/2)(y - 1/2) has no main effects, and total indices of one.
    found = total_indices(lambda x: (x - 0.5).prod(1), 2, [0, 1], designs=4096, seed=3)
    torch.testing.assert_close(found, torch.ones(2).double(), rtol=0.03, atol=0)
    assert total_indices(lambda x: torch.full((len(x),), 3.7), 4, [0, 1], designs=32, seed=1).tolist() == [0, 0]


def test_seeds_designs_and_limits():
    function, _ = g_function(torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # also where the designs are no power of two
        found = [total_indices(function, 3, [0, 1, 2], designs=30, seed=seed) for seed in (1, 1, 2)]
        total_indices(function, 3, [0], designs=1024, seed=1)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    with pytest.raises(InputError, match="at most 10600 units a layer; this one has 10601"):
        total_indices(function, 10601, [0], designs=2, seed=1)


@pytest.mark.parametrize("basis", [neurons, directions])
@pytest.mark.parametrize("layer", ["block2.conv1", "block3"])
def test_sobol_is_that_of_the_whole_network_under_masks(layer, basis):
    module, images, suffix, targets = scene(Residual, layer, batch=2)
    terms = basis(suffix)
    found = sobol(suffix, terms, targets, [2, 0], designs=8, seed=5, batch=3)
    rows = suffix.maps.transpose(1, 2)
    direction = planted(layer, suffix.maps.shape[1])
    for image in range(2):

        def function(masks, image=image):
            values = []
            for mask in masks:
                if basis is neurons:
                    maps = rows[image] * mask
                else:
                    maps = direction.decode(direction.encode(rows[image]) * mask)
                logits = whole(module, layer, "bchw", images[image : image + 1], maps.T[None])
                values.append(logits[0, targets[image]])
            return torch.stack(values)

        true = total_indices(function, terms.size, [2, 0], designs=8, seed=5)
        torch.testing.assert_close(found[image], true, rtol=1e-3, atol=1e-6)
        assert float(true.max()) > 1e-3


def test_sobol_of_a_linear_suffix_is_known():
    _, _, suffix, targets = scene(Residual, "block3")
    terms = directions(suffix)
    found = sobol(suffix, terms, targets, range(terms.size), designs=2048, seed=1, batch=4096)
    weights, _ = suffix.linear
    effects = (weights[targets] @ terms.atoms.T * terms.codes.mean(2)).double().square()
    torch.testing.assert_close(found, effects / effects.sum(1, keepdim=True), rtol=0.03, atol=1e-3)


def test_target_logits_are_each_images_own():
    _, _, suffix, _ = scene(Residual, "block2.conv1")
    which, targets = torch.tensor([2, 0, 2]), torch.tensor([4, 1, 3])
    found = target_logits(suffix, suffix.maps[which], which, targets)
    torch.testing.assert_close(found, suffix.logits[which, targets[which]], rtol=0, atol=1e-4)
