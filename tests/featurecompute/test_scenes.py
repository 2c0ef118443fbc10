"""Scenes: the same image whoever makes it, one complete class, and a truth that agrees with what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from featurecompute import scenes, strokes
from featurecompute.errors import ImageError


@pytest.fixture(scope="module")
def made() -> scenes.Scenes:
    return scenes.generate(400, 7)


def test_an_image_is_the_same_however_many_are_made_and_from_where(made: scenes.Scenes) -> None:
    fewer = scenes.generate(40, 7)
    later = scenes.generate(150, 7, start=200)
    assert np.array_equal(fewer.pixels, made.pixels[:40])
    assert np.array_equal(later.pixels, made.pixels[200:350])
    assert np.array_equal(later.labels, made.labels[200:350])
    assert np.array_equal(later.truth.cells, made.truth.cells[200:350])


def test_seeds_and_purposes_give_other_images(made: scenes.Scenes) -> None:
    for other in (scenes.generate(20, 8), scenes.generate(20, 7, purpose=1)):
        assert not any(np.array_equal(a, b) for a, b in zip(other.pixels, made.pixels[:20], strict=True))


def test_batches_give_the_same_images(made: scenes.Scenes) -> None:
    pieces = list(scenes.batches(100, 7, batch=33))
    assert np.array_equal(np.concatenate([piece.pixels for piece in pieces]), made.pixels[:100])


def test_each_image_has_its_class_and_no_other(made: scenes.Scenes) -> None:
    objects = made.truth.presence[:, made.truth.kinds == "object"]
    complete = np.stack([objects[:, a] & objects[:, b] for a, b in scenes.CLASSES], axis=1)
    assert np.array_equal(complete, made.labels[:, None] == np.arange(len(scenes.CLASSES)))
    assert set(objects.sum(axis=1)) == {3, 4}
    assert len(np.unique(made.labels)) == len(scenes.CLASSES)


def test_no_object_gives_a_class_away_and_no_part_an_object() -> None:
    assert (np.bincount(np.ravel(scenes.CLASSES), minlength=24) == 3).all()
    assert len(set(map(frozenset, scenes.CLASSES))) == 36
    uses = np.bincount([part for thing in strokes.OBJECTS for part in (thing.first, thing.second)])
    assert (uses == 4).all() and len(uses) == len(strokes.PARTS)
    for first, second in scenes.CLASSES:
        a, b = strokes.OBJECTS[first], strokes.OBJECTS[second]
        assert not {a.first, a.second} & {b.first, b.second}


def test_parts_are_where_their_objects_are(made: scenes.Scenes) -> None:
    kinds, presence = made.truth.kinds, made.truth.presence
    parts = presence[:, kinds == "part"]
    wanted = np.zeros_like(parts)
    for index, thing in enumerate(strokes.OBJECTS):
        here = presence[:, kinds == "object"][:, index]
        wanted[here, thing.first] = wanted[here, thing.second] = True
    assert np.array_equal(parts, wanted)
    # A part's cells are its object's, but for cells that it fills most and its object not by a third.
    inside = made.truth.cells[:, kinds == "part"].any(1) & ~made.truth.cells[:, kinds == "object"].any(1)
    assert inside.mean() < 0.005


def test_the_truth_agrees_with_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise and grating, objects' cells hold nearly all that is drawn, and edges are where strokes are."""
    plan = scenes._plan

    def bare(words: np.ndarray, size: int) -> scenes._Plan:
        found = plan(words, size)
        found.noise[:], found.contrasts[:] = 0, 0
        return found

    monkeypatch.setattr(scenes, "_plan", bare)
    clean = scenes.generate(60, 3)
    ground = np.median(clean.pixels.reshape(60, -1, 3), axis=1)[:, None, None]
    ink = (np.abs(clean.pixels - ground).sum(axis=-1) > 60).reshape(60, 8, 8, 8, 8).sum(axis=(2, 4))
    cells, kinds = clean.truth.cells, clean.truth.kinds
    objects, edges = cells[:, kinds == "object"].any(1), cells[:, kinds == "edge"].any(1)
    assert ink[objects].mean() > 5 * ink[~objects].mean()
    assert (ink[edges] >= 3).mean() > 0.99
    near = np.pad(objects, ((0, 0), (1, 1), (1, 1)))
    near = np.lib.stride_tricks.sliding_window_view(near, (3, 3), axis=(1, 2)).any(axis=(3, 4))
    assert ink[~near].max() == 0


@pytest.mark.parametrize(("part", "bins"), [("stripes", {0}), ("cross", {0, 4}), ("saltire", {2, 6})])
def test_a_part_has_the_edges_it_is_made_of(part: str, bins: set[int]) -> None:
    shape = strokes.part_shape(strokes.PARTS.index(part))
    turned = np.round(shape.angles * strokes.ORIENTATIONS / np.pi).astype(int) % strokes.ORIENTATIONS
    assert set(turned[shape.lengths > 0]) == bins


def test_another_size_shows_the_same_scene() -> None:
    small, large = scenes.generate(30, 5), scenes.generate(30, 5, size=128)
    assert large.pixels.shape == (30, 128, 128, 3)
    assert np.array_equal(small.labels, large.labels)
    assert (small.truth.cells != large.truth.cells).mean() < 1e-3
    halved = large.pixels.reshape(30, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - small.pixels).mean() < 20


@pytest.mark.parametrize("wrong", [{"size": 60}, {"size": 24}, {"seed": -1}, {"start": -2}])
def test_what_is_not_allowed_is_said(wrong: dict[str, int]) -> None:
    with pytest.raises(ImageError, match=f"{next(iter(wrong.values()))}.*must be"):
        scenes.generate(**({"count": 2, "seed": 1} | wrong))
