"""Images whose elements are known for every image and place: edges, parts and objects on a noisy ground.

In: a count and a seed.  Out: pixels, class labels, and which element covers which of 8 x 8 cells.
Knows no network; image i of a seed is the same however many are made, and whoever makes them.

A scene has three or four objects, each in its own quarter. An object is two parts beside or over each other, a part is
made of strokes (`strokes`). A class is a pair of objects; every object serves three classes, so that no object gives
a class away, as no part gives an object away. One pair is complete in each image; no second one ever is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, permutations
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from featurecompute.errors import ImageError
from featurecompute.strokes import (
    OBJECTS,
    ORIENTATIONS,
    PARTS,
    REACH,
    distances,
    object_shape,
)

Kind: TypeAlias = Literal["edge", "part", "object"]
Floats: TypeAlias = NDArray[np.float64]
Whole: TypeAlias = NDArray[np.int64]
Truths: TypeAlias = NDArray[np.bool_]

SIZE = 64
GRID = 8
"""Cells to a side: truth is known for GRID x GRID cells."""
CLASSES: tuple[tuple[int, int], ...] = tuple(
    (first, 12 + (first + step) % 12) for first in range(12) for step in (2, 5, 9)
)
"""The pair of objects of each class. The steps are those whose pairs share no part and whose graph has no short
cycles, so that knowing an object leaves three classes that have nothing else in common."""

_PART = 5.25  # half a part's side, in pixels of a 64-pixel image; an object is then about 23 x 11
_JITTER = 3.5  # of an object's centre within its quarter, each way: even the largest stays in the image
_TURN = np.radians(12)  # of an object, each way: less would be a template, more would make edges of one part another's
_WORDS = 64  # of 64 random bits an image for all that is not noise
_CHUNK = 128  # images drawn at once; their canvas fits the cache
_LEAST = 3.0  # pixels of stroke in an 8-pixel cell from which an edge covers it
_SHARE = 1 / 3  # of a cell's area, from which a part covers it; a part amid four cells fills 0.4 of each
_BOX = 8  # points to a side that stand for a part's area


@dataclass(frozen=True)
class Element:
    """A visual element.

    Parameters
    ----------
    name
        Name, such as edge-045, ring, or ring-over-arc.
    kind
        edge, part or object.
    """

    name: str
    kind: Kind


ELEMENTS: tuple[Element, ...] = (
    *(Element(f"edge-{bin_ * 180 / ORIENTATIONS:05.1f}", "edge") for bin_ in range(ORIENTATIONS)),
    Element("edge-curved", "edge"),
    *(Element(name, "part") for name in PARTS),
    *(Element(thing.name, "object") for thing in OBJECTS),
)
_EDGES = ORIENTATIONS + 1
_FIRST_OBJECT = _EDGES + len(PARTS)


@dataclass(frozen=True)
class Truth:
    """Where every element is.

    Parameters
    ----------
    elements
        The E elements.
    cells
        Whether an element covers a cell (images x E x 8 x 8). An edge does with at least 3 pixels (of a 64-pixel image)
        of strokes of its orientation, whatever their sign; the curved edge with as much of curved strokes. A part does
        where its square fills at least a third of the cell, and always in the cell that it fills most; an object where
        its two parts' squares together do.
    """

    elements: tuple[Element, ...]
    cells: Truths = field(hash=False)

    @property
    def presence(self) -> Truths:
        """Whether an element is anywhere in an image (images x E)."""
        return np.asarray(self.cells.any(axis=(2, 3)))

    @property
    def kinds(self) -> NDArray[np.str_]:
        """Kind of each element (E)."""
        return np.array([element.kind for element in self.elements])


@dataclass(frozen=True)
class Scenes:
    """Generated images.

    Parameters
    ----------
    pixels
        Bytes (images x size x size x 3).
    labels
        Class of each image, an index into `CLASSES`.
    truth
        Where every element is.
    """

    pixels: NDArray[np.uint8] = field(hash=False)
    labels: Whole = field(hash=False)
    truth: Truth = field(hash=False)


@dataclass(frozen=True)
class _Plan:
    """What is drawn where in n images: 4 objects each, the last of them perhaps absent (-1); lengths in pixels."""

    labels: Whole  # n
    objects: Whole  # n x 4
    centres: Floats  # n x 4 x 2
    turns: Floats  # n x 4, radians
    units: Floats  # n x 4, pixels to a unit of length of `strokes`
    pens: Floats  # n x 4, half the width of a stroke
    colours: Floats  # n x 4 x 3
    ground: Floats  # n x 3, mean colour
    waves: Floats  # n x 2, cycles a pixel, x and y
    phases: Floats  # n
    contrasts: Floats  # n x 3, of the grating
    noise: Floats  # n, SD


def generate(count: int, seed: int, size: int = SIZE, start: int = 0, *, purpose: int = 0) -> Scenes:
    """Make images ``start`` to ``start + count - 1`` of a seed.

    Parameters
    ----------
    count
        Images.
    seed
        Seed; an image depends on it, on its own number, `size` and `purpose` alone.
    size
        Pixels to a side, a multiple of 8 from 32 to 512.
    start
        Number of the first image.
    purpose
        0 for images to study; other numbers give other images from the same seed, such as those to train on.

    Returns
    -------
    Scenes

    Raises
    ------
    ImageError
        If the size, the count, the seed or the start is not allowed.
    """
    if size % GRID or not 32 <= size <= 512:
        raise ImageError(f"scenes of {size} pixels cannot be made: the size must be a multiple of {GRID}, 32 to 512.")
    for name, value in (("count", count), ("seed", seed), ("start", start), ("purpose", purpose)):
        if not 0 <= value < 2**62:
            raise ImageError(f"the {name} of scenes is {value}: it must be 0 or more, and less than 2^62.")
    pixels = np.empty((count, size, size, 3), np.uint8)
    labels = np.empty(count, np.int64)
    cells = np.zeros((count, len(ELEMENTS), GRID, GRID), bool)
    for first in range(0, count, _CHUNK):
        rows = slice(first, min(first + _CHUNK, count))
        here = rows.stop - first, start + first, seed, purpose
        plan = _plan(_words(*here, each=_WORDS), size)
        labels[rows] = plan.labels
        # Two bytes of noise for every value of a pixel.
        pixels[rows] = _draw(plan, _words(*here, each=size * size * 3 * 2 // 8, noise=True), size)
        cells[rows] = _cells(plan, size)
    return Scenes(pixels, labels, Truth(ELEMENTS, cells))


def _words(count: int, start: int, seed: int, purpose: int, *, each: int, noise: bool = False) -> NDArray[np.uint64]:
    """Return each image's random bits, one row an image.

    Philox (Salmon et al. 2011) is a function of a key and a counter: an image's bits begin at its own counter, so they
    need no image before it. A count of the counter gives four words. Noise has a stream of its own, so that a scene is
    laid out alike in every size.
    """
    stream = np.random.Philox(key=seed + (2 * purpose + noise << 64), counter=start * (each // 4))
    return stream.random_raw(count * each).reshape(count, each)


@cache
def _distractors() -> tuple[Whole, Whole]:
    """Return for each class the one or two objects that may be beside its pair (classes x choices x 2), and how many
    choices it has; half of them are of one object (the other is -1)."""
    joined = {frozenset(pair) for pair in CLASSES}
    tables = []
    for pair in CLASSES:
        free = [
            thing
            for thing in range(len(OBJECTS))
            if thing not in pair and not any(frozenset((thing, member)) in joined for member in pair)
        ]
        twos = [two for two in combinations(free, 2) if frozenset(two) not in joined]
        ones = [(free[i % len(free)], -1) for i in range(len(twos) - len(twos) % len(free))]
        tables.append(ones + twos)
    longest = max(map(len, tables))
    padded = np.array([table + [(-1, -1)] * (longest - len(table)) for table in tables])
    return padded, np.array([len(table) for table in tables])


def _plan(words: NDArray[np.uint64], size: int) -> _Plan:
    """Turn random bits (n x 64) into what is drawn where."""
    uniform = iter(((words >> np.uint64(11)) * 2.0**-53).T)

    def take(*shape: int) -> Floats:
        """Return uniform numbers, n x shape; each is taken once."""
        taken = np.stack([next(uniform) for _ in range(int(np.prod(shape)))], axis=-1)
        return taken.reshape(-1, *shape)

    def between(low: float, high: float, *shape: int) -> Floats:
        return low + (high - low) * take(*shape)

    scale = size / SIZE
    labels = (next(uniform) * len(CLASSES)).astype(np.int64)
    tables, choices = _distractors()
    distractors = tables[labels, (next(uniform) * choices[labels]).astype(np.int64)]
    objects = np.concatenate([np.array(CLASSES)[labels], distractors], axis=1)
    orders = np.array(list(permutations(range(4))))
    quarters = orders[(next(uniform) * len(orders)).astype(np.int64)]
    centres = (np.stack([quarters % 2, quarters // 2], axis=-1) + 0.5) * size / 2
    ground = between(0.3, 0.7, 3)
    # A colour a fixed way from the ground in a random direction: darker, lighter or of another hue, always visible.
    ways = between(-1, 1, 4, 3)
    ways *= between(0.55, 0.8, 4, 1) / np.maximum(np.linalg.norm(ways, axis=-1, keepdims=True), 1e-9)
    angles, periods = next(uniform) * np.pi, between(10, 32, 1)[:, 0] * scale
    return _Plan(
        labels=labels,
        objects=objects,
        centres=centres + between(-_JITTER, _JITTER, 4, 2) * scale,
        turns=between(-_TURN, _TURN, 4),
        units=_PART * scale * between(0.88, 1.12, 4),
        pens=between(0.6, 1.0, 4) * scale,
        colours=np.clip(ground[:, None] + ways, 0, 1),
        ground=ground,
        waves=np.stack([np.cos(angles), np.sin(angles)], axis=-1) / periods[:, None],
        phases=next(uniform) * 2 * np.pi,
        contrasts=between(-0.1, 0.1, 3),
        noise=between(0.02, 0.08, 1)[:, 0],
    )


def _draw(plan: _Plan, noise: NDArray[np.uint64], size: int) -> NDArray[np.uint8]:
    """Draw n images from their plan and the random bits of their noise."""
    count, margin = len(plan.labels), size // 4
    canvas = np.zeros((count, size + 2 * margin, size + 2 * margin, 3), np.float32)
    inner = canvas[:, margin:-margin, margin:-margin]
    # A grating of x and y is a sum of two products of a function of x and one of y.
    turns = 2 * np.pi * np.arange(size) * plan.waves[:, :, None]
    across, down = turns[:, 0] + plan.phases[:, None], turns[:, 1]
    waves = (
        np.sin(across)[:, None, :] * np.cos(down)[:, :, None] + np.cos(across)[:, None, :] * np.sin(down)[:, :, None]
    )
    inner[:] = plan.ground[:, None, None] + waves[..., None].astype(np.float32) * plan.contrasts[:, None, None].astype(
        np.float32
    )
    for place in range(4):
        _paste(canvas, plan, place, margin, size)
    # The sum of two uniform bytes: a triangle of mean 255 and SD 104.5.
    bytes_ = noise.view(np.uint8).reshape(count, 2, size, size, 3)
    grains = np.subtract(bytes_[:, 0].astype(np.int16) + bytes_[:, 1], 255, dtype=np.float32)
    np.multiply(grains, (plan.noise / 104.5).astype(np.float32)[:, None, None, None], out=grains)
    np.add(grains, inner, out=grains)
    np.multiply(grains, np.float32(255), out=grains)
    np.add(grains, np.float32(0.5), out=grains)
    np.clip(grains, 0, 255, out=grains)
    return np.asarray(grains, dtype=np.uint8)


def _paste(canvas: NDArray[np.float32], plan: _Plan, place: int, margin: int, size: int) -> None:
    """Draw one object of each image that has it."""
    rows = np.flatnonzero(plan.objects[:, place] >= 0)
    things, centres = plan.objects[rows, place], plan.centres[rows, place]
    units, pens, turns = (
        values[rows, place].astype(np.float32)[:, None, None] for values in (plan.units, plan.pens, plan.turns)
    )
    half = size // 4  # half a patch: more than half of the largest object's diagonal, and at most the margin
    corners = np.floor(centres).astype(np.int64) - half
    steps = np.arange(2 * half)
    across = (corners[:, :1] + steps + 0.5 - centres[:, :1]).astype(np.float32)[:, None, :]
    down = (corners[:, 1:] + steps + 0.5 - centres[:, 1:]).astype(np.float32)[:, :, None]
    maps = distances()
    side = maps.shape[1]
    cosine, sine = np.cos(turns) / units, np.sin(turns) / units
    # From pixels to the object's own turned units, and on to columns and rows of its map of distances.
    grid = np.float32(side / (2 * REACH))
    columns = (across * (cosine * grid) + (down * (sine * grid) + np.float32(side / 2))).astype(np.int32)
    lines = (down * (cosine * grid) + (np.float32(side / 2) - across * (sine * grid))).astype(np.int32)
    np.clip(columns, 0, side - 1, out=columns)
    np.clip(lines, 0, side - 1, out=lines)
    places = lines * np.int32(side)
    places += columns
    places += (things * side * side).astype(np.int32)[:, None, None]
    cover = maps.reshape(-1)[places] * units
    cover = np.clip(pens + np.float32(0.5) - cover, 0, 1)[..., None]
    at = (
        rows[:, None, None],
        (corners[:, 1:] + steps + margin)[:, :, None],
        (corners[:, :1] + steps + margin)[:, None, :],
    )
    patch = canvas[at]
    patch += cover * (plan.colours[rows, place].astype(np.float32)[:, None, None] - patch)
    canvas[at] = patch


@cache
def _points() -> tuple[Floats, Floats, Floats, Truths]:
    """Return each object's points along its strokes, padded to one length: places (objects x points x 2), directions
    before any turn, lengths (0 where padded), and whether the stroke is curved (each objects x points)."""
    shapes = [object_shape(index) for index in range(len(OBJECTS))]
    longest = max(len(shape.points) for shape in shapes)
    places = np.zeros((len(OBJECTS), longest, 2))
    angles = np.zeros((len(OBJECTS), longest))
    lengths, curved = np.zeros_like(angles), np.zeros(angles.shape, bool)
    for index, shape in enumerate(shapes):
        here = slice(len(shape.points))
        places[index, here], angles[index, here] = shape.points, shape.angles
        lengths[index, here], curved[index, here] = shape.lengths, shape.curved
    return places, angles, lengths, curved


def _cells(plan: _Plan, size: int) -> Truths:
    """Return which element covers which cell (n x E x 8 x 8)."""
    count = len(plan.labels)
    images, places = np.nonzero(plan.objects >= 0)
    things = plan.objects[images, places]
    units, turns, centres = plan.units[images, places], plan.turns[images, places], plan.centres[images, places]
    cosine, sine = (np.cos(turns) * units)[:, None], (np.sin(turns) * units)[:, None]
    cell = size / GRID

    def locate(points: Floats) -> tuple[Whole, Truths]:
        """Return the cell of points in objects' own units (instances x points x 2), and whether it is in the image."""
        x = points[..., 0] * cosine - points[..., 1] * sine + centres[:, :1]
        y = points[..., 0] * sine + points[..., 1] * cosine + centres[:, 1:]
        column, line = np.floor(x / cell).astype(np.int64), np.floor(y / cell).astype(np.int64)
        inside = (column >= 0) & (column < GRID) & (line >= 0) & (line < GRID)
        return images[:, None] * GRID**2 + np.where(inside, line * GRID + column, 0), inside

    cells = np.zeros((len(ELEMENTS), count * GRID**2), bool)
    points, angles, lengths, curved = _points()
    angles, lengths, curved = angles[things], lengths[things], curved[things]
    where, inside = locate(points[things])
    ink = lengths * units[:, None] * inside
    turned = np.round((angles + turns[:, None]) * (ORIENTATIONS / np.pi)).astype(np.int64) % ORIENTATIONS
    total = count * GRID**2
    drawn = np.bincount((turned * total + where).ravel(), ink.ravel(), ORIENTATIONS * total)
    cells[:ORIENTATIONS] = drawn.reshape(ORIENTATIONS, total) >= _LEAST * size / SIZE
    cells[ORIENTATIONS] = np.bincount(where[curved], ink[curved], total) >= _LEAST * size / SIZE

    axis = (np.arange(_BOX) + 0.5) / _BOX * 2 - 1
    square = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(1, -1, 2)
    middles = np.stack([thing.centres for thing in OBJECTS])[things]
    area = (2 * units[:, None] / _BOX) ** 2 / cell**2
    filled = []
    for member in (0, 1):
        where, inside = locate(square + middles[:, member, None])
        here = _fill(where, area * inside, images, total)
        filled.append(here)
        parts = np.array([(thing.first, thing.second)[member] for thing in OBJECTS])[things]
        _mark(cells, _EDGES + parts, images, _covered(here))
    _mark(cells, _FIRST_OBJECT + things, images, _covered(filled[0] + filled[1]))
    return np.ascontiguousarray(cells.reshape(len(ELEMENTS), count, GRID, GRID).transpose(1, 0, 2, 3))


def _fill(where: Whole, area: Floats, images: Whole, total: int) -> Floats:
    """Return the share of each cell of its image that an instance fills (instances x 64)."""
    own = where % GRID**2 + np.arange(len(images))[:, None] * GRID**2
    return np.bincount(own.ravel(), area.ravel(), len(images) * GRID**2).reshape(-1, GRID**2).astype(np.float64)


def _covered(share: Floats) -> Truths:
    """Return the cells that are filled by a third, and always the one that is filled most (instances x 64)."""
    covered = share >= _SHARE
    covered[np.arange(len(share)), share.argmax(axis=1)] = True
    return covered


def _mark(cells: Truths, elements: Whole, images: Whole, covered: Truths) -> None:
    """Note in which cells of which images elements are; two parts of a kind in an image add to each other."""
    instance, cell = np.nonzero(covered)
    cells[elements[instance], images[instance] * GRID**2 + cell] = True


def batches(count: int, seed: int, size: int = SIZE, *, batch: int = 1024, purpose: int = 0) -> Iterator[Scenes]:
    """Make images in pieces, for sets that do not fit in memory."""
    for start in range(0, count, batch):
        yield generate(min(batch, count - start), seed, size, start, purpose=purpose)
