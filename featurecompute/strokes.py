"""Shapes made of strokes: parts, objects that pair two parts, and how far every point is from their strokes.

In: nothing; the shapes are fixed.  Out: their names, points along their strokes, and maps of distance to draw them by.
Knows no image, no class and no network.

Lengths are in units of half a part's side; x points right and y down, as in images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats: TypeAlias = NDArray[np.float64]
Arrangement: TypeAlias = Literal["beside", "over"]

ORIENTATIONS = 8
"""Bins of a stroke's orientation, 180/8 degrees each; bin 0 is centred on horizontal."""
OFFSET = 1.2
"""From an object's centre to its parts' centres: twice that, less a part's side, is the gap between them."""
REACH = 2.8
"""Half a side of an object's map of distances."""
_STEP = 0.05  # between points along a stroke, about a quarter of a pixel where a part is 11 pixels wide
_GRID = 224  # of a map of distances: a step is 1/40 unit, less than a seventh of a pixel


def _curve(x: float, y: float, radius: float, start: float, end: float) -> Floats:
    """Return points along a circle, from one angle to another (degrees, clockwise from the right)."""
    count = max(2, round(abs(np.radians(end - start)) * radius / _STEP) + 1)
    angles = np.radians(np.linspace(start, end, count))
    return np.column_stack([x + radius * np.cos(angles), y + radius * np.sin(angles)])


def _line(*corners: tuple[float, float]) -> list[Floats]:
    """Return points along each straight stroke of a line with corners."""
    strokes = []
    for start, end in pairwise(corners):
        count = max(2, round(float(np.hypot(end[0] - start[0], end[1] - start[1])) / _STEP) + 1)
        strokes.append(np.linspace(start, end, count))
    return strokes


def _parts() -> dict[str, tuple[list[Floats], list[Floats]]]:
    """Return each part's straight and curved strokes."""
    return {
        "corner": (_line((-0.9, -0.9), (-0.9, 0.9), (0.9, 0.9)), []),
        "tee": (_line((-1, -0.9), (1, -0.9)) + _line((0, -0.9), (0, 1)), []),
        "cross": (_line((-1, 0), (1, 0)) + _line((0, -1), (0, 1)), []),
        "saltire": (_line((-0.9, -0.9), (0.9, 0.9)) + _line((-0.9, 0.9), (0.9, -0.9)), []),
        "ring": ([], [_curve(0, 0, 0.9, 0, 360)]),
        "arc": ([], [_curve(0, 0.5, 1, 180, 360)]),
        "stripes": (_line((-1, -0.8), (1, -0.8)) + _line((-1, 0), (1, 0)) + _line((-1, 0.8), (1, 0.8)), []),
        "zigzag": (_line((0.8, -1), (-0.8, -0.5), (0.8, 0), (-0.8, 0.5), (0.8, 1)), []),
        "triangle": (_line((0, -0.95), (0.95, 0.8), (-0.95, 0.8), (0, -0.95)), []),
        "wave": ([], [_curve(-0.5, 0, 0.5, 180, 360), _curve(0.5, 0, 0.5, 180, 0)]),
        "fork": (_line((-0.9, -0.9), (0, 0), (0.9, -0.9)) + _line((0, 0), (0, 1)), []),
        "dots": ([], [_curve(-0.55, -0.55, 0.12, 0, 360), _curve(0.55, 0.55, 0.12, 0, 360)]),
    }


PARTS: tuple[str, ...] = tuple(_parts())


@dataclass(frozen=True)
class Shape:
    """Strokes as points.

    Parameters
    ----------
    points
        Points along the strokes (n x 2).
    angles
        Direction of the stroke at each point (n), radians.
    lengths
        Length of stroke that each point stands for (n); 0 for dots, which have no direction.
    curved
        Whether the point is on a curved stroke (n).
    """

    points: Floats = field(hash=False)
    angles: Floats = field(hash=False)
    lengths: Floats = field(hash=False)
    curved: NDArray[np.bool_] = field(hash=False)


@dataclass(frozen=True)
class Object:
    """Two parts in an arrangement.

    Parameters
    ----------
    first, second
        Parts, as indices: the left one and the right one, or the upper one and the lower one.
    arrangement
        beside or over.
    """

    first: int
    second: int
    arrangement: Arrangement

    @property
    def name(self) -> str:
        """Return its name: ring-over-cross."""
        return f"{PARTS[self.first]}-{self.arrangement}-{PARTS[self.second]}"

    @property
    def centres(self) -> Floats:
        """Return the centres of its parts (2 x 2)."""
        return np.array([(-OFFSET, 0), (OFFSET, 0)] if self.arrangement == "beside" else [(0, -OFFSET), (0, OFFSET)])


def _objects() -> tuple[Object, ...]:
    """Pair every part with the part after it, and with the one five on: 24 objects, each part in four.

    Every part is in the first place twice and in the second place twice, so neither a part nor its place gives an
    object away. Which arrangement a pair has alternates.
    """
    count = len(PARTS)
    pairs = [(part, (part + step) % count) for step in (1, 5) for part in range(count)]
    return tuple(
        Object(first, second, "beside" if (index + index // count) % 2 else "over")
        for index, (first, second) in enumerate(pairs)
    )


OBJECTS: tuple[Object, ...] = _objects()


@cache
def part_shape(part: int) -> Shape:
    """Return the strokes of a part about its own centre."""
    straight, curved = _parts()[PARTS[part]]
    points, angles, lengths, bends = [], [], [], []
    for strokes, bent in ((straight, False), (curved, True)):
        for stroke in strokes:
            ways = np.diff(stroke, axis=0)
            sizes = np.hypot(*ways.T)
            points.append((stroke[:-1] + stroke[1:]) / 2)
            angles.append(np.arctan2(ways[:, 1], ways[:, 0]))
            lengths.append(sizes * (PARTS[part] != "dots"))
            bends.append(np.full(len(ways), bent))
    return Shape(np.concatenate(points), np.concatenate(angles), np.concatenate(lengths), np.concatenate(bends))


@cache
def object_shape(index: int) -> Shape:
    """Return the strokes of an object about its own centre."""
    thing = OBJECTS[index]
    shapes = [part_shape(thing.first), part_shape(thing.second)]
    return Shape(
        np.concatenate([shape.points + centre for shape, centre in zip(shapes, thing.centres, strict=True)]),
        np.concatenate([shape.angles for shape in shapes]),
        np.concatenate([shape.lengths for shape in shapes]),
        np.concatenate([shape.curved for shape in shapes]),
    )


@cache
def distances() -> NDArray[np.float32]:
    """Return every object's map of the distance to its nearest stroke (objects x 224 x 224; row y, column x).

    The maps reach `REACH` units to each side of the centre. A shape of any size, turn and pen is drawn by looking up
    distances in them, which is exact anti-aliasing and needs no supersampling.
    """
    axis = (np.arange(_GRID) + 0.5) / _GRID * 2 * REACH - REACH
    places = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    maps = [cKDTree(object_shape(index).points).query(places)[0] for index in range(len(OBJECTS))]
    return np.stack(maps).reshape(len(OBJECTS), _GRID, _GRID).astype(np.float32)
