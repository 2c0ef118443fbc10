"""The network split at a layer gives what the whole network gives, whatever crosses the layer, and leaves no trace."""

# ruff: noqa: E402

import re

import pytest

torch = pytest.importorskip("torch")

from split_networks import Dense, Residual, Transformer, make, pictures, whole
from torch import nn

from featurecompute.errors import NetworkError
from featurecompute.hooks import logits_of, to_map, watch
from featurecompute.removal import Removal
from featurecompute.replay import split

CASES = [
    (Residual, "stem", "bchw", False),
    (Residual, "block1", "bchw", False),
    (Residual, "block2.conv1", "bchw", True),
    (Residual, "block2.relu", "bchw", False),
    (Residual, "block2.bn2", "bchw", True),
    (Residual, "down", "bchw", False),
    (Residual, "block3", "bchw", False),
    (Residual, "head", "bc", False),
    (Dense, "layers.0", "bchw", True),
    (Dense, "layers.2", "bchw", True),
    (Transformer, "blocks.0.attention", "btc", True),
    (Transformer, "blocks.1.mlp", "btc", True),
    (Transformer, "blocks.1.mlp.1", "btc", True),
    (Transformer, "norm", "bc", False),
]


def traces(module):
    """Hooks and instance-level forwards that are on a module."""
    return [
        name
        for name, part in module.named_modules()
        if "forward" in part.__dict__ or part._forward_hooks or part._forward_pre_hooks
    ]


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize(("kind", "layer", "layout", "crosses"), CASES)
def test_a_replay_is_the_whole_network(kind, layer, layout, crosses, batch):
    module, images = make(kind), pictures(batch)
    suffix = split(module, layer, layout, images)
    torch.testing.assert_close(suffix.logits, logits_of(module(images)), rtol=0, atol=1e-6)
    assert (suffix.crossing > 0) is crosses
    which = torch.tensor([0, batch - 1, 0, batch // 2, batch - 1])
    noise = torch.randn(5, *suffix.maps.shape[1:], generator=torch.Generator().manual_seed(1))
    maps = suffix.maps[which] + noise
    before = maps.clone()
    expected = whole(module, layer, layout, images[which], maps)
    torch.testing.assert_close(suffix(maps, which), expected, rtol=0, atol=1e-5)
    assert torch.equal(maps, before)
    assert traces(module) == []


@pytest.mark.parametrize(("kind", "layer", "layout", "crosses"), CASES)
def test_only_what_crosses_is_kept(kind, layer, layout, crosses):
    suffix = split(make(kind), layer, layout, pictures(2))
    kept = sum(held.value is not None for held in suffix._all_held() if held.rows)
    assert (kept > 0) is crosses


def test_the_skip_alone_is_kept_of_a_long_prefix():
    suffix = split(make(Residual), "block2.conv1", "bchw", pictures(2))
    # The images, the stem and block1 were recorded; of them only block1's output crosses.
    assert [held.value is not None for held in suffix._all_held()] == [False, False, True, False]


@pytest.mark.parametrize(("kind", "layer", "layout", "crosses"), CASES[:4] + CASES[9:12])
def test_gradients_are_those_of_the_whole_network(kind, layer, layout, crosses):
    module, images = make(kind), pictures(2)
    suffix = split(module, layer, layout, images)
    maps = suffix.maps.clone().requires_grad_()
    (found,) = torch.autograd.grad(suffix(maps, torch.arange(2))[:, 1].sum(), maps)
    other = suffix.maps.clone().requires_grad_()
    (true,) = torch.autograd.grad(whole(module, layer, layout, images, other)[:, 1].sum(), other)
    torch.testing.assert_close(found, true, rtol=0, atol=1e-5)


def test_a_recording_that_is_worked_on_in_place_is_copied():
    module, images = make(Residual), pictures(3)
    # The block adds to what bn2 gave, after it was recorded and before its last rectifier ends.
    suffix = split(module, "block2.relu", "bchw", images)
    assert torch.equal(suffix.maps, to_map(block2(module, images), "bchw"))


def block2(module, images):
    found = []
    with watch(module, {"block2": lambda output: found.append(output.clone())}):
        module(images)
    return found[0]


def test_closed_form_is_the_replay():
    module, images = make(Residual), pictures(2)
    suffix = split(module, "block3", "bchw", images)
    weights, constant = suffix.linear
    maps = torch.randn(3, *suffix.maps.shape[1:])
    expected = suffix(maps, torch.tensor([0, 1, 1]))
    torch.testing.assert_close(maps.mean(2) @ weights.T + constant, expected, rtol=0, atol=1e-5)
    assert split(module, "down", "bchw", images).linear is None


class Head(nn.Module):
    """Pooling and what a test puts behind it."""

    def __init__(self, tail):
        super().__init__()
        self.conv, self.tail = nn.Conv2d(3, 6, 3), tail

    def forward(self, x):
        return self.tail(self.conv(x))


def pooled(*after, before=()):
    return Head(nn.Sequential(*before, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *after))


def test_closed_form_is_probed_where_no_single_head_tells():
    torch.manual_seed(0)
    module = pooled(nn.Linear(6, 4), nn.Linear(4, 3)).eval()
    suffix = split(module, "conv", "bchw", pictures(2))
    weights, constant = suffix.linear
    torch.testing.assert_close(suffix.maps.mean(2) @ weights.T + constant, suffix.logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(weights, module.tail[3].weight @ module.tail[2].weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "module",
    [
        pooled(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)),
        pooled(nn.Linear(6, 3), before=[nn.ReLU()]),
        pooled(nn.LayerNorm(6), nn.Linear(6, 3)),
        Head(nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 3))),
        Head(nn.Sequential(nn.Flatten(), nn.Linear(6 * 36, 3))),
    ],
)
def test_no_closed_form_where_the_suffix_is_not_linear_in_the_mean(module):
    assert split(module.eval(), "conv", "bchw", pictures(2)).linear is None


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.fail = False

    def forward(self, x):
        if self.fail:
            raise ValueError("on purpose")
        return x


def test_nothing_is_left_on_the_network_after_an_exception():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Failing(), nn.Flatten(), nn.Linear(144, 3)).eval()
    module[1].forward = own = module[1].forward  # an instance's own forward must come back too
    images = pictures(2)
    suffix = split(module, "0", "bchw", images)
    module[2].fail = True
    with pytest.raises(ValueError, match="on purpose"):
        suffix(suffix.maps, torch.arange(2))
    with pytest.raises(ValueError, match="on purpose"):
        split(module, "0", "bchw", images)
    assert module[1].__dict__.pop("forward") is own
    assert traces(module) == []


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.conv(x).mean((2, 3))) + torch.rand(1)


def test_a_network_that_cannot_be_split_is_refused():
    with pytest.raises(NetworkError, match=r"cannot be split at layer 'conv'.*evaluation mode"):
        split(Noisy().eval(), "conv", "bchw", pictures(2))
    with pytest.raises(NetworkError, match=r"no layer 'block' \(did you mean 'block"):
        split(make(Residual), "block", "bchw", pictures(2))
    unused = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()
    unused[1].spare = nn.Linear(2, 2)
    with pytest.raises(NetworkError, match=r"layer '1\.spare' is not run"):
        split(unused, "1.spare", "bc", pictures(2))
    with pytest.raises(NetworkError, match="gives 4 rows for 2 images"):
        split(make(Transformer), "window", "btc", pictures(2))


def library(name, require):
    """Return a module of torchvision, timm or transformers with random weights, its layer and layout."""
    if name == "resnet18":
        models = require("torchvision").models
        return models.resnet18(weights=None), "layer3.1.conv1", "bchw"
    if name == "densenet":
        timm = require("timm")
        return timm.create_model("densenet121", pretrained=False), "features.denseblock4.denselayer3", "bchw"
    if name == "swin":
        timm = require("timm")
        module = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, img_size=64, window_size=2)
        return module, "layers.2.blocks.1.mlp", "bhwc"
    transformers = require("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(image_size=64, patch_size=16, num_labels=7, **sizes)
    module = transformers.ViTForImageClassification(config)
    return module, next(name for name, _ in module.named_modules() if re.search(r"layers?\.1$", name)), "btc"


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("name", ["resnet18", "densenet", "swin", "vit"])
def test_networks_of_libraries(name, require):
    torch.manual_seed(0)
    module, layer, layout = library(name, require)
    module.eval().requires_grad_(False)
    images = pictures(2, size=64)
    suffix = split(module, layer, layout, images)
    which = torch.tensor([1, 0, 1])
    maps = suffix.maps[which] * torch.tensor([0.5, 1.5, 0.0])[:, None, None]
    expected = whole(module, layer, layout, images[which], maps)
    scale = float(expected.abs().max())
    torch.testing.assert_close(suffix(maps, which), expected, rtol=0, atol=1e-5 * scale)
    assert not torch.allclose(expected[0], suffix.logits[1], rtol=0, atol=1e-3 * scale)
    assert traces(module) == []


def passes(module, layer, batch=2):
    """Return how often the first convolution of a network was computed while it was split, and the suffix."""
    own, runs = module.first.forward, []
    module.first.forward = lambda x: runs.append(1) or own(x)
    suffix = split(module, layer, "bchw", pictures(batch))
    del module.first.forward
    return len(runs), suffix


class InPlace(nn.Module):
    """Rectifies in place what a module gave: harmless to a record of it, unless it is read again beyond the layer."""

    def __init__(self, again, rectifier=None):
        super().__init__()
        self.again = again
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.relu = rectifier or torch.relu_

    def forward(self, x):
        x = self.norm(self.first(x))
        x = x.add_(1)
        late = self.second(self.relu(x)).relu()
        return self.head((late * x if self.again else late).mean((2, 3)))


@pytest.mark.parametrize(("again", "layer", "expected"), [(False, "second", 1), (True, "second", 2), (True, "norm", 1)])
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_one_pass_is_enough_where_nothing_crosses(again, layer, expected, batch):
    module, images = make(lambda: InPlace(again)), pictures(batch)
    runs, suffix = passes(module, layer, batch)
    maps = suffix.maps + torch.randn(suffix.maps.shape, generator=torch.Generator().manual_seed(0))
    true = whole(module, layer, "bchw", images, maps)
    torch.testing.assert_close(suffix(maps, torch.arange(batch)), true, rtol=0, atol=1e-5)
    assert runs == expected
    assert (suffix.crossing > 0) is (expected == 2)


def test_what_a_module_does_in_place_to_what_crosses_is_refused():
    # What a call does to its input is not repeated with it; networks are opened without such modules.
    with pytest.raises(NetworkError, match="cannot be split at layer 'second'"):
        split(make(lambda: InPlace(True, nn.ReLU(inplace=True))), "second", "bchw", pictures(2))


class Borrower(nn.Module):
    """Calls a layer that is another module's."""

    def __init__(self, layer):
        super().__init__()
        self.borrowed, self.own = [layer], nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.own(x) * self.borrowed[0](x).relu()


class Lender(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.borrower, self.head = Borrower(self.conv), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.borrower(x).mean((2, 3)))


def test_a_layer_may_be_run_by_a_module_that_it_does_not_lie_in():
    module, images = make(Lender), pictures(2)
    suffix = split(module, "conv", "bchw", images)
    assert suffix.crossing
    maps = suffix.maps + 1
    true = whole(module, "conv", "bchw", images, maps)
    torch.testing.assert_close(suffix(maps, torch.arange(2)), true, rtol=0, atol=1e-5)


class Readers(nn.Module):
    """A layer whose output is read by convolutions of every form, by pooling, and, if asked for, by others too."""

    def __init__(self, also=None, classes=5):
        super().__init__()
        self.also = also
        self.layer = nn.Conv2d(3, 6, 3, padding=1)
        self.reader1 = nn.Conv2d(6, 8, 1, stride=2, bias=False)
        self.reader2 = nn.Conv2d(6, 8, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(2, 1))
        self.grouped = nn.Conv2d(6, 6, 3, groups=3)
        self.mirrored = nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect")
        self.reader3 = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8 + 8 + 6 + 6, classes)

    def forward(self, images):
        x = self.layer(images)
        parts = [self.reader1(x).relu(), self.reader2(x).relu(), self.reader3(x)]
        if self.also in ("grouped", "mirrored"):
            x = getattr(self, self.also)(x)
        elif self.also == "in place":
            x.mul_(2)
        parts.append(x if self.also else self.reader3(x))
        return self.head(torch.cat([part.amax((2, 3)) for part in parts], 1))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("also", [None, "sum", "grouped", "mirrored", "in place"])
def test_a_removal_through_linear_readers_is_the_whole_network(also, batch):
    module = make(lambda: Readers(also))
    images = pictures(batch)
    suffix = split(module, "layer", "bchw", images)
    assert {id(part) for part in suffix._readers} == {id(getattr(module, f"reader{i}")) for i in (1, 2, 3)}
    draw = torch.Generator().manual_seed(2)
    which, units = torch.tensor([0, batch - 1, batch // 2, 0]), torch.tensor([5, 0, 3, 3])
    base = suffix.maps + torch.randn(suffix.maps.shape, generator=draw)
    atoms = torch.randn(7, 6, generator=draw)
    codes = torch.rand(4, base.shape[2], generator=draw)
    neurons = Removal(suffix.maps, which, suffix.maps[which, units], units, None)
    for removal in (
        neurons,
        Removal(suffix.maps, which, codes, units, atoms),
        Removal(base, which, codes, units, atoms),
    ):
        expected = whole(module, "layer", "bchw", images[which], removal.maps())
        assert (expected - suffix.logits[which]).abs().max() > 0.01
        torch.testing.assert_close(suffix.remove(removal), expected, rtol=0, atol=1e-5)
    assert suffix._only is (also is None)
    assert traces(module) == []


def test_readers_of_another_tensor_than_the_layers_are_run():
    """A convolution that is also called with something else, or that a hook watches, must not be passed over."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.next = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.head = nn.Linear(4, 5)

        def forward(self, images):
            x = self.layer(images)
            return self.head((self.next(x) + self.next(x.relu())).mean((2, 3)))

    module, images = make(Twice), pictures(2)
    units = torch.tensor([1, 2])
    for hooked in (False, True):
        if hooked:
            module.next.register_forward_pre_hook(lambda _m, args: (args[0] * 3,))
        suffix = split(module, "layer", "bchw", images)
        assert len(suffix._readers) == (not hooked)
        removal = Removal(suffix.maps, torch.arange(2), suffix.maps[torch.arange(2), units], units, None)
        expected = whole(module, "layer", "bchw", images, removal.maps())
        torch.testing.assert_close(suffix.remove(removal), expected, rtol=0, atol=1e-5)
