"""A folded network gives what the network gave, under the same names."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from featurecompute import hooks  # noqa: E402
from featurecompute.cards import Network, Preprocessing, describe_network  # noqa: E402
from featurecompute.folding import optimised  # noqa: E402

Require = Callable[[str], ModuleType]


class Net(nn.Module):
    """Pairs that fold, one whose convolution is used twice, and one whose rescaling is large."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.bn2 = nn.BatchNorm2d(8)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 1))
        self.bn3 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        twice = self.conv2(x)
        x = self.bn2(twice).relu() + twice
        return self.fc(self.bn3(self.body(x)).relu().mean((2, 3)))  # type: ignore[no-any-return]


class Branching(Net):
    """Decides by what it sees, so cannot be traced by symbols."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.mean() > -1e9 else -x)


def network_of(module: nn.Module, *layers: str, size: int = 32) -> Network:
    """Return a network whose normalisations have statistics of their own."""
    generator = torch.Generator().manual_seed(5)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.copy_(torch.randn(part.num_features, generator=generator) / 4)
            part.running_var.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
            part.weight.data.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
            part.bias.data.copy_(torch.randn(part.num_features, generator=generator) / 4)
    return describe_network(module, Preprocessing(size, size), id="it", source="test", layers=layers)


def assert_same(one: Network, other: Network) -> None:
    """Logits and recorded layers agree to 1e-4 of their largest value."""
    size = one.preprocessing.size
    pixels = np.random.default_rng(1).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    layouts = {layer.name: layer.layout for layer in one.layers}
    with torch.inference_mode():
        maps, logits = hooks.gather(one.module, layouts, one.normalise(pixels))
        others, folded = hooks.gather(other.module, layouts, other.normalise(pixels))
    for wanted, found in [(logits, folded), *((maps[name], others[name]) for name in layouts)]:
        assert float((wanted - found).abs().max()) < 1e-4 * float(wanted.abs().max())


def norms(module: nn.Module) -> list[str]:
    """Return the normalisations that are left."""
    return [name for name, part in module.named_modules() if isinstance(part, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    ("layers", "left"),
    [
        (("bn1", "bn3", "fc"), ["bn2"]),  # a normalisation's output is the folded convolution's
        (("conv1",), ["bn1", "bn2"]),
        (("body",), ["bn2", "bn3"]),  # its last convolution is folded nowhere else
        (("conv2", "body.0"), ["bn2", "bn3"]),
    ],
)
def test_folding_keeps_what_is_recorded(layers: tuple[str, ...], left: list[str]) -> None:
    """Whatever would show the folded convolution is left alone, and so is one whose output goes elsewhere too."""
    network = network_of(Net(), *layers)
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    faster = optimised(network)
    assert norms(faster.module) == left
    assert_same(network, faster)
    assert norms(network.module) == ["bn1", "bn2", "bn3"]  # the network itself is as it was
    for name, value in network.module.state_dict().items():
        assert torch.equal(value, before[name])
    assert [name for name, _ in faster.module.named_modules()] == [name for name, _ in network.module.named_modules()]
    assert faster.layers == network.layers and faster.weights_sha256 == network.weights_sha256
    assert not any(parameter.requires_grad for parameter in faster.module.parameters())


def test_channels_are_last_in_memory() -> None:
    """Of the weights and of the images."""
    faster = optimised(network_of(Net(), "bn1"))
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    assert faster.normalise(pixels).is_contiguous(memory_format=torch.channels_last)
    assert faster.module.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_network_that_cannot_be_traced_stays_unfolded() -> None:
    """And gives the same."""
    network = network_of(Branching(), "bn1")
    faster = optimised(network)
    assert norms(faster.module) == ["bn1", "bn2", "bn3"]
    assert_same(network, faster)


def test_fused_network_that_would_differ_is_not_taken() -> None:
    """A convolution of another kind, here with weights standardised as it runs, is no torch convolution."""

    class Standardised(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return self._conv_forward(input, self.weight / self.weight.std(), self.bias)

    module = Net()
    module.conv1 = Standardised(3, 8, 3)
    network = network_of(module, "bn3")
    faster = optimised(network)
    assert norms(faster.module) == ["bn1", "bn2"]
    assert_same(network, faster)


def test_torchvision_and_timm_networks_fold(require: Require) -> None:
    """ResNets wholly; timm's normalisation with its activation leaves the activation under its name."""
    network = network_of(require("torchvision").models.resnet18(weights=None), size=64)
    faster = optimised(network)
    assert not norms(faster.module)
    assert_same(network, faster)
    network = network_of(
        require("timm").create_model("mobilenetv3_small_050", pretrained=False), "conv_stem", "bn1.act"
    )
    faster = optimised(network)
    assert norms(faster.module) == ["bn1"]
    assert_same(network, faster)
    network = network_of(network.module, "bn1.act", "blocks.3")
    faster = optimised(network)
    assert not norms(faster.module)
    assert_same(network, faster)
