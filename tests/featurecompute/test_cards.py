"""A network's card says what its layers are, whoever made it, and looking leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from featurecompute import hooks  # noqa: E402
from featurecompute.cards import Layer, Network, Preprocessing, describe_network  # noqa: E402
from featurecompute.errors import NetworkError  # noqa: E402

Require = Callable[[str], ModuleType]
SMALL = Preprocessing(32, 36)


class Block(nn.Module):
    """Two convolutions around a sum that is made in place, and a rectifier that runs twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.second(self.relu(self.first(x)))
        out += x
        return self.relu(out).relu_()


class Odd(nn.Module):
    """A network with a layer that never runs, one that gives a table, and one that gives a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.block = Block(8)
        self.table = Gives(lambda x: {"x": x})
        self.pair = Gives(lambda x: (None, x))
        self.volume = Gives(lambda x: x[:, :, :, :, None])
        self.unused = nn.Linear(8, 8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.stem(x))
        self.volume(x)
        x = self.table(x)["x"]
        _, x = self.pair(x)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class Gives(nn.Module):
    """Gives a function of its input."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def described(module: nn.Module, *layers: str, size: int = 32, layout: str = "auto") -> Network:
    """Return the network of a module."""
    return describe_network(module, Preprocessing(size, size), id="it", source="test", layers=layers, layout=layout)  # type: ignore[arg-type]


def hooks_of(module: nn.Module) -> int:
    """Return the number of hooks in a network."""
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_depth_counts_weighted_layers_in_the_order_they_run() -> None:
    """A block has the depth of its last convolution; the order is that of execution, not of the names."""
    network = described(Odd(), "fc", "block", "stem", "block.second", "pair")
    assert [(layer.name, layer.index) for layer in network.layers] == [
        ("stem", 0),
        ("block.second", 2),
        ("block", 2),
        ("pair", 2),
        ("fc", 3),
    ]
    assert [layer.depth for layer in network.layers] == [0, 2 / 3, 2 / 3, 2 / 3, 1]
    assert network.layer("block") == Layer("block", 2, 2 / 3, 8, False, "bchw", (8, 15, 15))
    assert network.layer("stem").signed
    assert (network.head, network.classes) == ("fc", 5)


def test_network_is_made_ready() -> None:
    """Evaluation mode, no gradients, nothing in place; other networks of the class stay as they are."""
    other = Odd().train()
    module = described(Odd().train(), "block").module
    assert not module.training and not any(p.requires_grad for p in module.parameters())
    assert not any(getattr(part, "inplace", False) for part in module.modules())
    assert other.training and other.block.relu.inplace and nn.ReLU(inplace=True).inplace
    assert hooks_of(module) == 0


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("block.relu", r"'block.relu' runs 2 times in one pass; .* such as 'block'"),
        ("blok", r"no layer 'blok' \(did you mean 'block'"),
        ("unused", r"'unused' does not run"),
        ("table", r"'table' gives a dict; a layer must give a tensor"),
        ("volume", r"'volume' gives a tensor of 5 axes"),
    ],
)
def test_layer_that_cannot_be_looked_into_is_named(layer: str, said: str) -> None:
    """The message names what is wrong and, where there is one, what would do."""
    module = Odd()
    with pytest.raises(NetworkError, match=said):
        described(module, layer)
    assert hooks_of(module) == 0


def test_no_hook_is_left_after_a_failure() -> None:
    """Whether a pass over random images or an action fails, no hook stays, and nothing is slower afterwards."""
    module = Odd()
    module.fc = nn.Linear(9, 5)
    with pytest.raises(NetworkError, match=r"'it' cannot be applied to images of 3 x 32 x 32: mat1"):
        described(module, "block")
    assert hooks_of(module) == 0

    def fails(_output: Tensor) -> None:
        raise KeyError

    with pytest.raises(KeyError), hooks.watch(module, {"block": fails, "stem": fails}):
        module(torch.zeros(1, 3, 32, 32))
    assert hooks_of(module) == 0


@pytest.mark.parametrize("layer", ["first", "second"])
@pytest.mark.parametrize("last", [False, True])
def test_kept_map_is_never_overwritten(layer: str, last: bool) -> None:
    """A later sum or rectifier in place leaves the map as the layer gave it, in either order of memory."""
    module = described(Odd(), "block").module
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    if last:
        images = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        x = module.stem(images)
        wanted = module.block.first(x)
        wanted = wanted if layer == "first" else module.block.second(wanted.relu())
        wanted = wanted.clone().flatten(2)
        maps, logits = hooks.gather(module, {f"block.{layer}": "bchw"}, images)
    assert (wanted < 0).any()
    torch.testing.assert_close(maps[f"block.{layer}"], wanted)
    assert maps[f"block.{layer}"].is_contiguous() and logits.shape == (2, 5)


@pytest.mark.parametrize("layout", ["bchw", "bhwc", "btc", "bc"])
def test_maps_have_memory_of_their_own_and_go_back(layout: hooks.Layout) -> None:
    """There and back is the same, and nothing is shared, unless it may be."""
    shape = {"bchw": (2, 3, 4, 5), "bhwc": (2, 4, 5, 3), "btc": (2, 4, 3), "bc": (2, 3)}[layout]
    output = torch.arange(float(np.prod(shape))).reshape(shape)
    values = hooks.to_map(output, layout)
    assert values.shape[:2] == (2, 3) and values.ndim == 3 and values.is_contiguous()
    assert values.data_ptr() != output.data_ptr()
    torch.testing.assert_close(values, hooks.to_map(output, layout, copy=False))
    torch.testing.assert_close(hooks.from_map(values, layout, shape[1:]), output)


def test_layout_is_read_from_the_shape_or_given() -> None:
    """Square maps have their channels where the other axes are not; the study may say otherwise."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), Gives(lambda x: x.permute(0, 2, 3, 1)), Gives(lambda x: x.mean((1, 2))), nn.Linear(8, 5)
    )
    found = described(net, "0", "1", "2", size=16)
    assert [(layer.layout, layer.channels) for layer in found.layers] == [("bchw", 8), ("bhwc", 8), ("bc", 8)]
    cube = nn.Sequential(nn.Conv2d(3, 4, 4, 4), Gives(lambda x: x.permute(0, 2, 3, 1)), nn.Flatten(1), nn.Linear(64, 5))
    assert described(cube, "1", size=16).layers[0].layout == "bchw"
    assert described(cube, "1", size=16, layout="bhwc").layers[0].layout == "bhwc"


def test_attention_that_uses_weights_without_running_them_has_its_depth() -> None:
    """torch's attention applies its projections by itself; both count, and the block ends after its feed-forward."""
    encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 8, 8), Gives(lambda x: x.flatten(2).transpose(1, 2)), encoder, nn.Flatten(1), nn.Linear(256, 3)
    )
    found = described(net, "0", "2", "4")
    assert [layer.index for layer in found.layers] == [0, 4, 5]  # two projections, two linear maps
    assert found.layers[1].layout == "btc" and found.layers[1].channels == 16


def test_blocks_are_chosen_evenly_and_end_with_the_last() -> None:
    """Of nine blocks six are taken; a lone convolution counts with what follows it."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), *(Block(4) for _ in range(8)), nn.AdaptiveAvgPool2d(1))
    net = nn.Sequential(net, nn.Flatten(1), nn.Linear(4, 2))
    assert [layer.name for layer in described(net).layers] == ["0.1", "0.2", "0.3", "0.5", "0.7", "0.8"]
    chain = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(1), nn.Linear(3136, 2)
    )
    assert [layer.name for layer in described(chain).layers] == ["1", "3"]
    with pytest.raises(NetworkError, match="no blocks to choose layers from"):
        described(nn.Sequential(nn.Flatten(1), nn.Linear(3072, 2)))


def test_network_without_weights_or_logits_is_refused() -> None:
    """Both in a sentence."""
    with pytest.raises(NetworkError, match="no layer with weights"):
        described(nn.Sequential(nn.Flatten(1)))
    with pytest.raises(NetworkError, match="gives no logits"):
        described(nn.Sequential(nn.Conv2d(3, 4, 3)))


def test_card_is_plain_and_hash_follows_the_weights() -> None:
    """The card has the keys of the contract; one changed weight changes the hash."""
    torch.manual_seed(1)
    module = Odd()
    network = described(module, "block")
    card = network.card()
    assert list(card) == ["id", "source", "weights_sha256", "preprocessing", "layers"]
    assert card["layers"] == [{"name": "block", "index": 2, "depth": 2 / 3, "channels": 8, "signed": False}]
    assert card["preprocessing"]["size"] == 32
    assert described(module, "block").weights_sha256 == network.weights_sha256
    module.fc.weight[0, 0] += 1
    assert described(module, "block").weights_sha256 != network.weights_sha256
    with pytest.raises(NetworkError, match=r"not looked into at 'blok' \(did you mean 'block'\?\); it is at block"):
        network.layer("blok")


def test_images_are_normalised_as_torchvision_does() -> None:
    """(value / 255 - mean) / sd, channels first, from pixels that may be read-only."""
    network = described(Odd(), "block")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    found = network.normalise(pixels)
    mean, sd = (np.array(each, np.float32) for each in (network.preprocessing.mean, network.preprocessing.sd))
    wanted = ((pixels.astype(np.float32) / 255 - mean) / sd).transpose(0, 3, 1, 2)
    assert found.dtype == torch.float32 and found.is_contiguous()
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6, atol=1e-6)
    values = torch.from_numpy(pixels.astype(np.float32) / 255).permute(0, 3, 1, 2).requires_grad_()
    again = network.standardise(values)
    torch.testing.assert_close(again, found)
    (gradient,) = torch.autograd.grad(again.sum(), values)
    np.testing.assert_allclose(gradient[1, :, 5, 7].numpy(), 1 / sd, rtol=1e-6)
    with pytest.raises(NetworkError, match="must be uint8"):
        network.normalise(pixels.astype(np.float32))


def test_preprocessing_is_checked_and_overridden() -> None:
    """A size alone keeps the share of the crop; nonsense is refused."""
    assert Preprocessing().override({"size": 64, "mean": None}) == Preprocessing(64, 73)
    assert Preprocessing().override({"sd": [1, 1, 1]}).sd == (1.0, 1.0, 1.0)
    for given, said in [
        ({"size": 64, "resize": 32}, "resized to 32 and cropped to 64"),
        ({"sd": (0, 1, 1)}, "each above 0"),
        ({"interpolation": "nearest"}, "allowed are bilinear and bicubic"),
        ({"sizes": 3}, r"no 'sizes' \(did you mean 'size'"),
    ]:
        with pytest.raises(NetworkError, match=said):
            Preprocessing().override(given)


def test_depths_of_known_networks(require: Require) -> None:
    """Counts of convolutions and linear layers as published: 21 in ResNet-18 with its shortcuts, 54 in ResNet-50."""
    models = require("torchvision").models
    for name, wanted in (("resnet18", [4, 9, 14, 19]), ("resnet50", [10, 23, 42, 52])):
        network = described(models.get_model(name, weights=None), size=64)
        assert [layer.name for layer in network.layers] == ["layer1", "layer2", "layer3", "layer4"]
        assert [layer.index for layer in network.layers] == wanted
        last = {"resnet18": 20, "resnet50": 53}[name]
        assert [layer.depth for layer in network.layers] == [index / last for index in wanted]
        assert not any(layer.signed for layer in network.layers) and network.head == "fc"
        with pytest.raises(NetworkError, match=r"'layer1.1.relu' runs . times .* such as 'layer1.1'"):
            described(network.module, "layer1.1.relu", size=64)


def test_vgg_is_looked_into_before_each_pooling(require: Require) -> None:
    """Five rectifiers, each after the convolutions of its stage."""
    features = require("torchvision").models.vgg11(weights=None).features
    network = described(nn.Sequential(features, nn.Flatten(1), nn.Linear(512 * 4, 10)), size=64)
    assert [layer.name for layer in network.layers] == [f"0.{place}" for place in (1, 4, 9, 14, 19)]
    assert [layer.index for layer in network.layers] == [0, 1, 3, 5, 7]
