"""No hook outlives its block, maps are copies in one layout, and what takes an output's place is what goes on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from featurecompute.errors import NetworkError  # noqa: E402
from featurecompute.hooks import from_map, gather, gather_input, logits_of, reach, to_map, watch  # noqa: E402


class InPlace(nn.Module):
    """A convolution whose output is rectified and added to in place, by no module that a hook could see."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, images):
        x = self.conv(images)
        torch.relu_(x)
        x += 7
        return self.head(x.mean((2, 3)))


class Pair(nn.Module):
    """Gives a tuple whose first part is no tensor."""

    def forward(self, x):
        return None, x * 2, x * 3


class WithPair(nn.Module):
    def __init__(self):
        super().__init__()
        self.pair = Pair()

    def forward(self, x):
        _, doubled, tripled = self.pair(x)
        return doubled + tripled


def hooks_of(module):
    return [hook for part in module.modules() for hook in part._forward_hooks]


@pytest.fixture
def images():
    return torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_hooks_are_removed_also_after_a_failure(images):
    network = InPlace()

    def fail(output):
        raise KeyboardInterrupt

    with watch(network, {"conv": lambda output: None}):
        assert len(hooks_of(network)) == 1
    assert hooks_of(network) == []
    with pytest.raises(KeyboardInterrupt), watch(network, {"conv": fail, "head": fail}):
        network(images)
    assert hooks_of(network) == []
    with pytest.raises(ZeroDivisionError), watch(network, {"conv": lambda output: None}):
        1 / 0  # noqa: B018
    assert hooks_of(network) == []


def test_hooks_are_removed_where_a_later_layer_does_not_exist():
    network = InPlace()
    with pytest.raises(NetworkError, match=r"no layer 'hed' \(did you mean 'head'\?\)"):  # noqa: SIM117
        with watch(network, {"conv": lambda output: None, "hed": lambda output: None}):
            pass
    assert hooks_of(network) == []


def test_what_an_action_returns_takes_the_outputs_place(images):
    network = InPlace()
    plain = network(images)
    with watch(network, {"conv": lambda output: None}):
        assert torch.equal(network(images), plain)
    with watch(network, {"conv": lambda output: torch.full_like(output, 2.0)}):
        changed = network(images)
    assert torch.allclose(changed, network.head(torch.full((5, 4), 9.0)))
    assert torch.equal(network(images), plain)


def test_the_first_tensor_of_a_tuple_is_the_output():
    network, x = WithPair(), torch.ones(2, 3)
    seen = []
    with watch(network, {"pair": seen.append}):
        network(x)
    assert torch.equal(seen[0], x * 2)
    with watch(network, {"pair": lambda output: output * 0}):
        assert torch.equal(network(x), x * 3)


@pytest.mark.parametrize(("output", "kind"), [({"a": 1}, "dict"), ((None, 1), "tuple"), ([torch.ones(2)], "list")])
def test_a_layer_without_a_tensor_is_named(output, kind):
    layer = nn.Identity()
    layer.forward = lambda x: output
    network = nn.Sequential(layer)
    with pytest.raises(NetworkError, match=rf"layer '0' gives a {kind}; a layer must"), watch(network, {"0": id}):
        network(torch.ones(1))
    assert hooks_of(network) == []


SHAPES = {"bchw": (2, 3, 4, 5), "bhwc": (2, 4, 5, 3), "btc": (2, 20, 3), "bc": (2, 3)}


def outputs(layout):
    """Yield outputs of a layout, of one or more channels and positions, in several orders of memory."""
    size = SHAPES[layout]
    ones = {size, *(tuple(1 if place == i else n for place, n in enumerate(size)) for i in range(len(size)))}
    for shape in sorted(ones):
        plain = torch.randn(shape, generator=torch.Generator().manual_seed(3))
        yield plain
        yield plain.flip(0).transpose(0, -1).contiguous().transpose(0, -1)
        if len(shape) == 4:
            yield plain.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", SHAPES)
def test_maps_hold_channels_and_positions_and_lead_back(layout):
    where = {"bchw": "bchw->bchw", "bhwc": "bhwc->bchw", "btc": "btc->bct", "bc": "bc->bc"}[layout]
    for output in outputs(layout):
        moved = torch.einsum(where, output)
        expected = moved.reshape(*moved.shape[:2], -1)
        for copy in (True, False):
            values = to_map(output, layout, copy=copy)
            assert values.is_contiguous() and torch.equal(values, expected)
            back = from_map(values, layout, tuple(output.shape[1:]))
            assert back.shape == output.shape and torch.equal(back, output)


@pytest.mark.parametrize("layout", SHAPES)
def test_a_map_is_not_overwritten_with_the_output(layout):
    for output in outputs(layout):
        values = to_map(output, layout)
        before = values.clone()
        output.add_(1)
        assert torch.equal(values, before)


def test_gathered_maps_are_what_the_layer_gave_before_anything_was_done_in_place(images):
    network = InPlace()
    maps, logits = gather(network, {"conv": "bchw", "head": "bc"}, images)
    assert torch.equal(maps["conv"], network.conv(images).flatten(2)) and bool((maps["conv"] < 0).any())
    assert torch.equal(logits, network(images)) and torch.equal(maps["head"][:, :, 0], logits)
    assert hooks_of(network) == []


def test_what_comes_after_a_reached_layer_is_not_run(images):
    network = InPlace()
    expected = network.conv(images)
    own = network.head.register_forward_hook(lambda *_: pytest.fail("it was run"))
    assert torch.equal(reach(network, "conv", images), expected)
    own.remove()
    assert hooks_of(network) == []
    assert torch.equal(reach(WithPair(), "pair", images), images * 2)
    network.idle = nn.Linear(1, 1)
    with pytest.raises(NetworkError, match=r"layer 'idle' is not run when images go through"):
        reach(network, "idle", images)
    with pytest.raises(NetworkError, match=r"no layer 'cnv' .did you mean 'conv'"):
        reach(network, "cnv", images)
    assert hooks_of(network) == []


def test_logits_are_found():
    logits = torch.ones(2, 3)
    for output in (
        logits,
        (logits, "more"),
        [logits],
        SimpleNamespace(logits=logits),
        SimpleNamespace(logits=(logits,)),
    ):
        assert logits_of(output) is logits


@pytest.mark.parametrize("output", [None, (), [1], {"a": 1}, "logits", SimpleNamespace(), (None,)])
def test_what_holds_no_logits_is_refused(output):
    with pytest.raises(NetworkError, match="gives no logits: its output must be images x classes"):
        logits_of(output)


def test_maps_are_no_logits():
    with pytest.raises(NetworkError, match="gives no logits"):
        logits_of(torch.ones(2, 3, 4))


@pytest.mark.parametrize(("shape", "axes"), [((4, 5), ()), ((4, 5, 2, 3), (2, 3)), ((4, 7, 5), (1,))])
def test_what_a_layer_is_given_is_averaged_over_positions(shape, axes):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    module = nn.Sequential(nn.Identity(), nn.Identity())
    found = gather_input(module, "1", values)
    wanted = values.mean(axes) if axes else values
    torch.testing.assert_close(found, wanted)
    assert not module[1]._forward_pre_hooks


def test_a_layer_that_is_not_run_is_given_nothing():
    module = InPlace()
    module.unused = nn.Linear(2, 2)
    with pytest.raises(NetworkError, match="layer 'unused' is given no tensor"):
        gather_input(module, "unused", torch.zeros(1, 3, 5, 5))
    assert not module.unused._forward_pre_hooks
    found = gather_input(module, "head", torch.zeros(2, 3, 5, 5))
    torch.testing.assert_close(module.head(found), module(torch.zeros(2, 3, 5, 5)))
