"""Receptive fields against arithmetic and brute force; crops and heat maps of patches whose place is known."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from featurecompute.bases import NeuronBasis  # noqa: E402
from featurecompute.cards import Network, Preprocessing, describe_network  # noqa: E402
from featurecompute.errors import NetworkError  # noqa: E402
from featurecompute.receptive import (  # noqa: E402
    DIM,
    ReceptiveField,
    crop_to_field,
    heat_map,
    overlay,
    receptive_field,
    unit_maps,
)
from featurecompute.training import SceneNetwork  # noqa: E402

SIDE = 40


def network(*body: nn.Module, side: int = SIDE) -> Network:
    """Return a network with random weights; its layers are those of the body, ``0.0`` and so on."""
    torch.manual_seed(1)
    channels = nn.Sequential(*body)(torch.zeros(2, 3, side, side)).shape[1]
    whole = nn.Sequential(nn.Sequential(*body), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))
    return describe(whole, *(f"0.{place}" for place in range(len(body))), side=side)


def describe(module: nn.Module, *layers: str, side: int = SIDE) -> Network:
    preprocessing = Preprocessing(size=side, resize=side, mean=(0.5, 0.5, 0.5), sd=(0.25, 0.25, 0.25))
    return describe_network(module, preprocessing, id="it", source="test", layers=layers)


class Skip(nn.Module):
    """A sum of two paths, as residual networks have it."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.one(images) + self.other(images))


class Tokens(nn.Module):
    """Patches of 8 pixels, a class token before them, attention over all, with places for 25 patches alone."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.names = nn.Identity()
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 26, 16))
        self.joined = nn.Identity()
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2:] != (SIDE, SIDE):
            raise AssertionError("another size")
        patches = self.names(self.patches(images).flatten(2).transpose(1, 2))
        joined = self.joined(torch.cat([self.token.expand(len(images), -1, -1), patches], 1) + self.places)
        return self.head(self.block(joined)[:, 0])


def arithmetic(stack: list[tuple[int, int, int, int]]) -> tuple[int, int, float]:
    """Return size, stride and centre of the first field of layers (kernel, stride, padding, dilation).

    Araujo, Norris & Sim 2019, Computing receptive fields of convolutional neural networks.
    """
    size, stride, centre = 1, 1, 0.5
    for kernel, step, padding, dilation in stack:
        reach = dilation * (kernel - 1)
        size += reach * stride
        centre += (reach / 2 - padding) * stride
        stride *= step
    return size, stride, centre


def ends(stack: list[tuple[int, int, int, int]]) -> list[tuple[int, int]]:
    """Return the first pixel that each position along an axis sees, and the one after the last, pixel by pixel."""
    seen = [{pixel} for pixel in range(SIDE)]
    for kernel, step, padding, dilation in stack:
        count = (len(seen) + 2 * padding - dilation * (kernel - 1) - 1) // step + 1
        taps = [[place * step - padding + tap * dilation for tap in range(kernel)] for place in range(count)]
        seen = [set().union(*(seen[tap] for tap in row if 0 <= tap < len(seen))) for row in taps]
    return [(min(pixels), max(pixels) + 1) for pixels in seen]


def brute_force(net: Network, layer: str) -> np.ndarray:
    """Return every position's box from gradients of a network without negative weights, so that none of them cancel."""
    for parameter in net.module.parameters():
        parameter.data = parameter.data.abs() + 0.01
    images = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)).requires_grad_()
    found: list[Tensor] = []
    handle = net.module.get_submodule(layer).register_forward_hook(lambda _m, _i, output: found.append(output))
    net.module(images)
    handle.remove()
    sums = found[0].sum(1).flatten()
    boxes = []
    for position in range(len(sums)):
        (gradient,) = torch.autograd.grad(sums[position], images, retain_graph=True)
        rows, columns = (gradient[0].sum(0) > 0).nonzero().T.tolist()
        boxes.append([min(rows), min(columns), max(rows) + 1, max(columns) + 1])
    return np.array(boxes)


# Fields

STACKS = {
    "one pixel": [(1, 1, 0, 1)],
    "patches": [(8, 8, 0, 1)],
    "wide": [(3, 1, 1, 1)] * 4,
    "strides": [(7, 2, 3, 1), (3, 2, 1, 1), (3, 2, 1, 1)],
    "no padding": [(5, 2, 0, 1), (3, 3, 0, 1), (2, 1, 0, 1)],
    "dilated": [(3, 1, 2, 2), (3, 2, 0, 3), (2, 1, 1, 1)],
    "all clipped": [(3, 2, 1, 1), (5, 2, 2, 2), (5, 1, 2, 1), (5, 1, 4, 2)],
}


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("kind", ["convolution", "pooling"])
def test_fields_of_stacks_are_those_of_the_arithmetic(name: str, kind: str) -> None:
    """Size, stride, centre and every box; each last layer may be a pooling by the maximum."""
    stack = STACKS[name]
    body: list[nn.Module] = []
    channels = 3
    for number, (kernel, step, padding, dilation) in enumerate(stack):
        if kind == "pooling" and number == len(stack) - 1 and padding <= kernel // 2:
            body.append(nn.MaxPool2d(kernel, step, padding, dilation))
            continue
        body.append(nn.Conv2d(channels, 20, kernel, step, padding, dilation))
        channels = 20
        if number < len(stack) - 1:
            body += [nn.BatchNorm2d(20), nn.ReLU()]
    net = network(*body)
    field = receptive_field(net, f"0.{len(body) - 1}")
    size, stride, centre = arithmetic(stack)
    assert (field.size, field.stride, field.offset) == ((size, size), (stride, stride), (centre, centre))
    wanted = ends(stack)
    assert field.grid == (len(wanted), len(wanted))
    boxes = [(top, left, bottom, right) for top, bottom in wanted for left, right in wanted]
    assert [field.box_of(position) for position in range(len(boxes))] == boxes


def test_rows_and_columns_have_fields_of_their_own() -> None:
    net = network(nn.Conv2d(3, 8, (1, 7), (1, 2), (0, 3)), nn.Conv2d(8, 8, (3, 1), (3, 1)))
    field = receptive_field(net, "0.1")
    assert (field.size, field.stride, field.offset) == ((3, 7), (3, 2), (1.5, 0.5))
    assert field.box_of(field.grid[1] + 4) == (3, 5, 6, 12)


@pytest.mark.parametrize(
    ("body", "regular"),
    [
        ((Skip(nn.Conv2d(3, 8, 5, 2, 2), nn.Conv2d(3, 8, 1, 2)), nn.Conv2d(8, 8, 3, 1, 1)), True),
        ((nn.Conv2d(3, 8, 3, 2, 1), Skip(nn.Conv2d(8, 8, 3, padding=4, dilation=4), nn.AvgPool2d(3, 1, 1))), True),
        ((nn.Conv2d(3, 8, 3, 4), nn.AvgPool2d(3, 2, ceil_mode=True)), True),
        ((nn.Conv2d(3, 8, 3, 3), nn.AdaptiveAvgPool2d(5)), False),
        ((nn.Conv2d(3, 8, 4, 4), nn.Upsample(scale_factor=2), nn.Conv2d(8, 8, 3, padding=1)), False),
        ((nn.Conv2d(3, 8, 4, 4), nn.AdaptiveAvgPool2d(1)), False),
    ],
    ids=["residual", "dilated skip", "ceiling", "adaptive pooling", "upsampling", "global pooling"],
)
def test_boxes_are_those_of_brute_force(body: tuple[nn.Module, ...], regular: bool) -> None:
    """Also where fields follow no rule; then centres are spread evenly, and the size is that of the largest box."""
    net = network(*body)
    layer = f"0.{len(body) - 1}"
    field = receptive_field(net, layer)
    wanted = brute_force(net, layer)
    np.testing.assert_array_equal(field.boxes, wanted)
    if not regular:
        assert field.size == tuple((wanted[:, 2:] - wanted[:, :2]).max(0))
        assert field.stride == tuple(SIDE / number for number in field.grid)
        assert field.offset == tuple(SIDE / number / 2 for number in field.grid)


def test_attention_sees_the_whole_image_and_patches_do_not() -> None:
    """The places of tokens after attention are still those of their patches; the class token sees nothing, or all."""
    net = describe(Tokens(), "names", "joined", "block")
    patches, joined, block = (receptive_field(net, name) for name in ("names", "joined", "block"))
    assert patches.box_of(7) == joined.box_of(8) == (8, 16, 16, 24)
    assert patches.size == (8, 8) and len(joined.boxes) == 26 and joined.box_of(0) == (0, 0, SIDE, SIDE)
    assert (block.boxes == [0, 0, SIDE, SIDE]).all() and block.size == (SIDE, SIDE)
    for field in (patches, joined, block):
        assert (field.grid, field.stride, field.offset) == ((5, 5), (8, 8), (4, 4))


def test_a_network_that_takes_any_size_and_sees_all_of_it_has_no_smaller_field() -> None:
    """Normalisation over positions mixes them all."""
    field = receptive_field(network(nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(2, 8)), "0.1")
    assert field.size == (SIDE, SIDE) and field.stride == (2, 2)


def test_a_rule_of_another_size_does_not_count() -> None:
    """A network that looks farther in longer images gives a rule that is too large for this one."""

    class Farther(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            kernel = 3 if images.shape[2:] == (SIDE // 2, SIDE // 2) else 5
            return nn.functional.avg_pool2d(images, kernel, 1, kernel // 2)

    field = receptive_field(network(nn.Conv2d(3, 8, 2, 2), Farther()), "0.1")
    assert field.size == (6, 6) and field.box_of(5 * 20 + 7) == (8, 12, 14, 18)


def test_channels_last_and_a_vector() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.turned, self.vector = nn.Conv2d(3, 8, 4, 4), nn.Identity(), nn.Linear(8, 6)
            self.head = nn.Linear(6, 5)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.vector(self.turned(self.conv(images).permute(0, 2, 3, 1)).mean((1, 2))))

    net = describe(Last(), "turned", "vector")
    field = receptive_field(net, "turned")
    assert (field.grid, field.size, field.offset, field.box_of(11)) == ((10, 10), (4, 4), (2, 2), (4, 4, 8, 8))
    vector = receptive_field(net, "vector")
    assert (vector.grid, vector.box_of(0)) == ((1, 1), (0, 0, SIDE, SIDE))


@pytest.mark.parametrize(
    "activation", [nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.ELU, nn.Sigmoid, nn.Hardtanh]
)
def test_activations_pass_poison_on(activation: type[nn.Module]) -> None:
    field = receptive_field(network(nn.Conv2d(3, 4, 3, 1, 1), activation(), nn.Conv2d(4, 4, 3, 1, 1)), "0.2")
    assert field.size == (5, 5)


def test_what_passes_no_poison_on_is_named() -> None:
    class Blind(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.nan_to_num()

    net = network(nn.Conv2d(3, 4, 3, 1, 1), Blind())
    with pytest.raises(NetworkError, match=r"fields of layer '0.1' cannot be found: no pixel that is NaN makes"):
        receptive_field(net, "0.1")
    with pytest.raises(NetworkError, match="not looked into at 'other'"):
        receptive_field(net, "other")


def test_scenes_network_and_nothing_left_behind() -> None:
    """The embedded study's network, whose deepest fields are larger than its images; few passes, no hook stays."""
    module = SceneNetwork()
    net = describe(module, *module.layers, side=64)
    flags, passes = torch.backends.cudnn.enabled, []
    counting = module.register_forward_pre_hook(lambda _module, inputs: passes.append(len(inputs[0])))
    found = {layer: receptive_field(net, layer) for layer in ("block1", "block4", "block6")}
    counting.remove()
    assert sum(passes) < 3 * (2 * 64 + 100) and len(passes) < 3 * 40
    stack: list[tuple[int, int, int, int]] = []
    for layer, step in zip(module.layers, (2, 2, 1, 2, 1, 1), strict=True):
        stack += [(3, step, 1, 1), (3, 1, 1, 1)]
        if layer in found:
            field = found[layer]
            assert (field.size[0], field.stride[0], field.offset[0]) == arithmetic(stack)
    assert found["block6"].size == (123, 123) and found["block6"].box_of(0) == (0, 0, 62, 62)
    assert torch.backends.cudnn.enabled == flags and not any(part._forward_hooks for part in module.modules())


# Units


def test_maps_are_those_of_the_network() -> None:
    net = network(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
    pixels = np.random.default_rng(1).integers(0, 256, (7, SIDE, SIDE, 3), dtype=np.uint8)
    with torch.inference_mode():
        wanted = net.module[0](net.normalise(pixels)).flatten(2).numpy()
    basis = NeuronBasis("0.1", 6)
    found = unit_maps(net, basis, 4, pixels, batch=3)
    assert found.shape == (7, 400) and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted[:, 4], atol=1e-6)
    units = np.array([0, 1, 2, 3, 4, 5, 0])
    np.testing.assert_allclose(unit_maps(net, basis, units, pixels, batch=3), wanted[np.arange(7), units], atol=1e-6)


def test_a_bright_patch_is_found_cropped_and_heated() -> None:
    """A unit that adds up light: its maximum's box holds the patch, and the heat map peaks on it."""
    net = network(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1))
    for parameter in net.module.parameters():
        parameter.data = parameter.data.abs()
    field = receptive_field(net, "0.2")
    assert field.size == (7, 7)
    random = np.random.default_rng(3)
    places = random.integers(0, SIDE - 3, (30, 2))
    pixels = random.integers(0, 60, (30, SIDE, SIDE, 3), dtype=np.uint8)
    for image, (row, column) in zip(pixels, places, strict=True):
        image[row : row + 3, column : column + 3] = 255
    maps = unit_maps(net, NeuronBasis("0.2", 4), 1, pixels)
    for image, activations, (row, column) in zip(pixels, maps, places, strict=True):
        box = field.box_of(int(activations.argmax()))
        top, left, bottom, right = box
        assert top < row + 3 and row < bottom and left < column + 3 and column < right
        crop = crop_to_field(image, box, SIDE)
        assert crop.shape == (SIDE, SIDE, 3) and crop.max() > 200
        heat = heat_map(activations, field, SIDE)
        peak = np.unravel_index(heat.argmax(), heat.shape)
        assert np.abs(np.array(peak) - (row + 1, column + 1)).max() <= 4  # a stride


# Images


def test_crops_are_whole_and_square() -> None:
    """Enlarged by repetition where that goes, else smoothly; cut boxes are widened inwards, never padded."""
    image = np.random.default_rng(4).integers(1, 256, (12, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(crop_to_field(image, (0, 0, 12, 12), 12), image)
    found = crop_to_field(image, (2, 3, 6, 7), 12)
    np.testing.assert_array_equal(found[::3, ::3], image[2:6, 3:7])
    np.testing.assert_array_equal(found[1::3, 2::3], image[2:6, 3:7])
    for box, square in {
        (0, 4, 3, 8): image[0:4, 4:8],
        (9, 4, 12, 8): image[8:12, 4:8],
        (0, 10, 6, 12): image[0:6, 6:12],
        (5, 5, 6, 6): image[5:6, 5:6],
        (6, 2, 7, 5): image[5:8, 2:5],
    }.items():
        times = 12 // len(square)
        np.testing.assert_array_equal(crop_to_field(image, box, 12)[::times, ::times], square)
    level = np.full((12, 12, 3), 77, np.uint8)
    assert (crop_to_field(level, (1, 1, 6, 6), 12) == 77).all()
    smooth = crop_to_field(image, (1, 1, 6, 6), 12)
    assert smooth.shape == (12, 12, 3) and smooth.dtype == np.uint8
    half = crop_to_field(image, (0, 0, 12, 12), 6).astype(float)
    assert abs(half.mean() - image.mean()) < 1


def test_crop_of_one_pixel_shows_it() -> None:
    field = receptive_field(network(nn.Conv2d(3, 4, 1)), "0.0")
    image = np.random.default_rng(5).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    found = crop_to_field(image, field.box_of(3 * SIDE + 17), SIDE)
    assert field.size == (1, 1) and (found == image[3, 17]).all()


def test_heat_is_at_the_centres_of_fields() -> None:
    """At a centre the heat is the activation; between, linear; beyond the last, as the last; below zero, none."""
    field = ReceptiveField((3, 3), (4.0, 2.0), (2.5, 1.5), (3, 4), np.zeros((12, 4), int))
    values = np.array([[0, 2, 0, 0], [-3, 4, 0, 1], [0, 0, 0, 0]], float)
    heat = heat_map(values.ravel(), field, 14)
    wanted = np.maximum(values, 0) / 4
    np.testing.assert_allclose(heat[2::4, 1::2][:3, :4], wanted)
    np.testing.assert_allclose(heat[6, 2], (0 + 1) / 2)
    np.testing.assert_allclose(heat[4, 3], (0.5 + 1) / 2)
    np.testing.assert_allclose(heat[:2], heat[[2, 2]])
    np.testing.assert_allclose(heat[6, 8:], 0.25)
    assert not heat_map(np.full(12, -1.0), field, 14).any()


def test_heat_is_not_just_stretched() -> None:
    """Layers that pad centre their fields on pixels 0, 4, 8, ...; stretching would be 1.5 pixels off."""
    field = receptive_field(network(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)), "0.1")
    heat = heat_map(np.eye(100)[34], field, SIDE)
    assert np.unravel_index(heat.argmax(), heat.shape) == (12, 16) and heat.max() == 1


def test_tokens_before_the_grid_are_left_out() -> None:
    field = receptive_field(describe(Tokens(), "block"), "block")
    activations = np.zeros(26)
    activations[[0, 1 + 5 * 2 + 3]] = 9, 1
    heat = heat_map(activations, field, SIDE)
    assert heat[19:21, 27:29].min() > 0.85 and heat[:8].max() == 0


def test_overlay_darkens_and_draws_a_line_on_any_ground() -> None:
    """Without heat the image is dark; a hot disc keeps its light within a line of white and black, also in grey."""
    rows, columns = np.indices((SIDE, SIDE)) - 20
    heat = (np.hypot(rows, columns) < 8).astype(float)
    for ground in (0, 90, 255):
        image = np.full((SIDE, SIDE, 3), ground, np.uint8)
        image[..., 1] //= 2
        found = overlay(image, heat)
        np.testing.assert_array_equal(found[20, 20], image[20, 20])
        np.testing.assert_array_equal(found[0, 0], np.round(image[0, 0] * DIM))
        assert found[20].min(axis=1).max() == 255 and found[20].max(axis=1).min() == 0
        line = found[20, :20].astype(int).mean(1)
        assert [line[12], line[13]] == [0, 255]
    assert (overlay(image, np.zeros((SIDE, SIDE))) == np.round(image * DIM)).all()
