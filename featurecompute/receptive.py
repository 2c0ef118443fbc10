"""Where in an image a layer's positions look, and where a unit is active.

In: a network, one of its layers, pixels.  Out: receptive fields, crops, heat maps.  Knows no file and no stimulus.

A field is the theoretical one: all pixels on which a position can depend. It is found by poisoning. Whatever is
computed from a number that is NaN is NaN, also by a weight of zero and behind a ReLU that is shut, so a pixel that is
NaN makes NaN of exactly those positions whose field holds it. Rows and columns are poisoned one at a time; where a
field has holes (dilation), the box around it is given.

A box is cut at the image's border. What it is without the border follows from two neighbours on a canvas so large that
neither of them reaches its border, and counts only if it agrees with every box of the image itself.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from featurecompute.activations import encode, rows_of
from featurecompute.bases import Basis
from featurecompute.cards import Layer, Network
from featurecompute.errors import NetworkError
from featurecompute.hooks import watch

Box: TypeAlias = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels; the last two are the first that are outside."""

Rule: TypeAlias = tuple[int, float, float]
"""Size, stride and offset of fields along an axis."""

DIM = 0.35
"""Brightness, as a share of the image's own, where a heat map is 0."""

_BATCH = 32
_CANVASES = (2, 8)  # by how many sides a canvas is longer than the image; the second is for the deepest networks
_STEP = 192  # a canvas is longer by a multiple of this, so that strides divide it and padding falls as on the image


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """Where the positions of a layer look; pairs are of rows, then columns.

    Parameters
    ----------
    size
        Pixels of a field, as if the image had no border. Where a position sees the whole image however large it is
        (attention, global pooling), or no rule holds for all positions: of the largest box.
    stride
        Pixels between the centres of neighbouring fields.
    offset
        Centre of the first position's field: 0 is the outer edge of the first pixel, 0.5 its middle.
    grid
        Rows and columns of positions; tokens before the last square number of them (class, registers) are not in it.
    boxes
        Box of every position (positions x 4), row by row, cut at the image's border: top, left, bottom, right.
    """

    size: tuple[int, int]
    stride: tuple[float, float]
    offset: tuple[float, float]
    grid: tuple[int, int]
    boxes: np.ndarray

    def box_of(self, position: int) -> Box:
        """Return the box of a position, cut at the image's border."""
        top, left, bottom, right = self.boxes[position].tolist()
        return top, left, bottom, right


@torch.inference_mode()
def receptive_field(network: Network, layer: str) -> ReceptiveField:
    """Find the receptive fields of a layer's positions.

    The cost is one pass of the network, up to the layer, for each row and each column of an image, or four passes where
    all positions see the whole; and some fifty on longer images, for each axis.

    Parameters
    ----------
    network
        Network, which takes images of ``preprocessing.size`` pixels to a side.
    layer
        One of its layers.

    Raises
    ------
    NetworkError
        If the network is not looked into there, does not run the layer, or passes on no NaN.
    """
    side, grid = network.preprocessing.size, _grid(network.layer(layer))
    place = np.indices(grid).reshape(2, -1)
    found, edges = [], []
    with _exact():
        for axis in (0, 1):
            first, last = _edges(network, layer, axis, side)
            edges += [first, last]
            rule = _rule(network, layer, axis, side, grid)
            if rule is None or not _holds(rule, place[axis], side, first, last):
                step = side / grid[axis]
                rule = int((last - first).max()), step, step / 2
            found.append(rule)
    size, stride, offset = zip(*found, strict=True)
    return ReceptiveField(size, stride, offset, grid, np.stack([edges[part] for part in (0, 2, 1, 3)], axis=1))


def _grid(layer: Layer) -> tuple[int, int]:
    """Return the rows and columns of a layer's positions; tokens are taken for a square."""
    if layer.layout == "bc":
        return 1, 1
    if layer.layout == "btc":
        return math.isqrt(layer.shape[0]), math.isqrt(layer.shape[0])
    height, width = layer.shape[1:] if layer.layout == "bchw" else layer.shape[:2]
    return height, width


def _edges(network: Network, layer: str, axis: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first line along an axis that each position sees, and the one after the last."""
    lines = np.eye(side, dtype=bool)
    ends = _poison(network, layer, axis, lines[[0, -1]], side)
    if ends.all():
        return np.zeros(ends.shape[1], np.int64), np.full(ends.shape[1], side)
    hit = _poison(network, layer, axis, lines, side)
    if not hit.any():
        raise NetworkError(
            f"the receptive fields of layer '{layer}' cannot be found: no pixel that is NaN makes an output of it NaN."
        )
    return hit.argmax(0), side - hit[::-1].argmax(0)  # the whole for a token that no pixel reaches


def _rule(network: Network, layer: str, axis: int, side: int, grid: tuple[int, int]) -> Rule | None:
    """Return size, stride and offset along an axis, from two neighbours on a canvas; None where there are none such."""
    for sides in _CANVASES:
        length = side + _STEP * math.ceil(sides * side / _STEP)
        lines = np.arange(length)
        try:
            ends = _lines(_poison(network, layer, axis, lines == lines[[0, -1], None], side), axis, grid)
        except Exception:  # a network may refuse another size in any way it likes
            return None
        middle = ends.shape[1] // 2
        if ends.shape[1] <= grid[axis]:
            return None
        if ends[:, middle - 1 : middle + 1].any():
            continue
        # Bisection: the shortest run of lines from the start that reaches each of the two; and from the end.
        low, high = np.zeros(4, np.int64), np.full(4, length - 1)
        while (low < high).any():
            half = (low + high) // 2
            marks = lines <= half[:, None]
            marks[2:] = marks[2:, ::-1]
            reached = _lines(_poison(network, layer, axis, marks, side), axis, grid)
            hit = reached[np.arange(4), [middle - 1, middle, middle - 1, middle]]
            low, high = np.where(hit, low, half + 1), np.where(hit, half, high)
        (first, second), last = low[:2].tolist(), length - int(low[2])
        return last - first, second - first, (first + last) / 2 - (second - first) * (middle - 1)
    return None


def _holds(rule: Rule, place: np.ndarray, side: int, first: np.ndarray, last: np.ndarray) -> bool:
    """Say whether a rule agrees with every box: those inside the image are equal to its own, others no larger.

    At the border a box may be smaller than what the border leaves: holes of a dilated field, or pixels that a stride
    leaves over, may lie there.
    """
    size, stride, offset = rule
    start = offset + stride * place - size / 2
    stop = start + size
    first, last = first[-len(place) :], last[-len(place) :]  # tokens before the grid have no place
    inside = (start >= 0) & (stop <= side)
    equal = (first == start) & (last == stop)
    return bool(np.where(inside, equal, (first >= start) & (last <= stop)).all())


def _lines(hit: np.ndarray, axis: int, grid: tuple[int, int]) -> np.ndarray:
    """Return (n x positions along an axis) of a canvas (n x positions), in the middle of the other axis."""
    if axis == 0:
        return hit.reshape(len(hit), -1, grid[1])[:, :, grid[1] // 2]
    return hit.reshape(len(hit), grid[0], -1)[:, grid[0] // 2]


def _poison(network: Network, layer: str, axis: int, marks: np.ndarray, side: int) -> np.ndarray:
    """Return which positions (n x positions) see marked rows, or columns (n x length), of an image."""
    height, width = (marks.shape[1], side) if axis == 0 else (side, marks.shape[1])
    plain = network.normalise(np.zeros((1, height, width, 3), np.uint8))
    found = []
    for start in range(0, len(marks), _BATCH):
        part = torch.from_numpy(marks[start : start + _BATCH]).to(plain.device)
        part = part[:, None, :, None] if axis == 0 else part[:, None, None, :]
        values = torch.where(part, plain.new_full((), torch.nan), plain)
        found.append(_output(network, layer, values).isnan().any(2).cpu().numpy())
    return np.concatenate(found)


@contextlib.contextmanager
def _exact() -> Iterator[None]:
    """Compute convolutions as sums over their own window: Winograd's and Fourier's ways mix in the pixels beside it."""
    with torch.backends.cudnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False):
        yield


class _Reached(Exception):
    """A layer has run; what comes after it is of no interest."""


def _output(network: Network, layer: str, values: Tensor) -> Tensor:
    """Return what a layer gives (images x positions x channels) for normalised images; nothing after it is run."""
    layout, found = network.layer(layer).layout, []

    def action(output: Tensor) -> None:
        found.append(rows_of(output, layout))
        raise _Reached

    with contextlib.suppress(_Reached), watch(network.module, {layer: action}):
        network.module(values)
    if not found:
        raise NetworkError(f"layer '{layer}' is not run when images go through the network.")
    return found[0]


# Units -----------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def unit_maps(
    network: Network, basis: Basis, units: int | np.ndarray, pixels: np.ndarray, *, batch: int = 64
) -> np.ndarray:
    """Return where units of a basis are active in images.

    Parameters
    ----------
    network, basis
        Network, and the basis of one of its layers.
    units
        The unit looked at in all images, or in each (n).
    pixels
        Images (n x height x width x 3), uint8, prepared.
    batch
        Images at once.

    Returns
    -------
    ndarray
        n x positions, float32; the argmax of a row is the position of the maximum.
    """
    wanted = np.broadcast_to(np.asarray(units), len(pixels))
    found = []
    for start in range(0, len(pixels), batch):
        part = network.normalise(np.asarray(pixels[start : start + batch]))
        codes = encode(basis, _output(network, basis.layer, part)).float().cpu().numpy()
        found.append(codes[np.arange(len(codes)), :, wanted[start : start + batch]])
    return np.concatenate(found)


# Images ----------------------------------------------------------------------------------------------------------


def crop_to_field(image: np.ndarray, box: Box, side: int) -> np.ndarray:
    """Cut an image to a box and bring it to a size.

    A box that is no square, since the image's border cuts it, is widened inside the image to one, so that nothing is
    made up beyond the border and nothing is distorted.

    Parameters
    ----------
    image
        Image (height x width x 3), uint8.
    box
        Of `ReceptiveField.box_of`.
    side
        Pixels to a side of the result.

    Returns
    -------
    ndarray
        side x side x 3, uint8. Enlarged by a whole number, each pixel is repeated; else bilinear, with antialiasing.
    """
    top, left, bottom, right = box
    long = min(max(bottom - top, right - left), *image.shape[:2])
    top, left = (
        min(max((first + last - long) // 2, 0), limit - long)
        for first, last, limit in ((top, bottom, image.shape[0]), (left, right, image.shape[1]))
    )
    cut = image[top : top + long, left : left + long]
    if side % long == 0:
        return cut.repeat(side // long, axis=0).repeat(side // long, axis=1)
    values = torch.from_numpy(np.array(cut)).permute(2, 0, 1)[None].float()
    scaled = functional.interpolate(values, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    found: np.ndarray = scaled[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return found


def heat_map(activations: np.ndarray, field: ReceptiveField, side: int) -> np.ndarray:
    """Spread a unit's map over the image: each activation at the centre of its field, linear between them.

    Parameters
    ----------
    activations
        Of every position (positions), as a row of `unit_maps`.
    field
        Of the layer.
    side
        Pixels to a side of the image.

    Returns
    -------
    ndarray
        side x side, 0 where the unit is at zero or below, 1 where it is as active as at its maximum.
    """
    height, width = field.grid
    values = np.maximum(np.asarray(activations, np.float64)[-height * width :].reshape(height, width), 0)
    values /= values.max() or 1
    pixel = np.arange(side) + 0.5
    down, across = (
        np.stack([np.interp((pixel - start) / step, np.arange(number), row) for row in np.eye(number)], axis=1)
        for start, step, number in zip(field.offset, field.stride, field.grid, strict=True)
    )
    return np.asarray(down @ values @ across.T)


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Show a heat map on its image without any colour of its own: by light, and by a line.

    Parameters
    ----------
    image
        Image (height x width x 3), uint8.
    heat
        height x width, from 0 to 1.

    Returns
    -------
    ndarray
        height x width x 3, uint8: the image, darker to `DIM` where the heat is 0, and a line around what is above half
        of the maximum, white inside and black outside, which is seen on any ground, in grey and by colour-blind people.
    """
    found = (image * (DIM + (1 - DIM) * heat[..., None])).round().astype(np.uint8)
    hot = heat >= 0.5
    found[hot & ~ndimage.binary_erosion(hot, border_value=1)] = 255
    found[ndimage.binary_dilation(hot) & ~hot] = 0
    return found
