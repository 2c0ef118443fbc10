"""Measures of images against what they must be by hand."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featurecompute.measures import EDGE_THRESHOLD, edge_density, entropy, grey_levels, measure_images


def plain(level: int, side: int = 8) -> np.ndarray:
    return np.full((side, side, 3), level, np.uint8)


def test_closed_forms() -> None:
    half = plain(0)
    half[:, 4:] = 255
    checker = np.indices((8, 8)).sum(axis=0) % 2 * 255
    all_levels = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    found = measure_images(np.stack([plain(9), half, np.repeat(checker[:, :, None], 3, axis=2).astype(np.uint8)]))
    np.testing.assert_allclose(found["entropy"], [0, 1, 1], atol=1e-12)
    assert not np.signbit(found["entropy"]).any()
    # The step is seen by the two columns beside it. A checkerboard's neighbours cancel in Sobel's sums, except in the
    # corners, where a pixel's neighbours beyond the border are the pixel itself.
    np.testing.assert_allclose(found["edge_density"], [0, 2 / 8, 4 / 64])
    assert measure_images(all_levels[None])["entropy"][0] == pytest.approx(8)


@pytest.mark.parametrize(("step", "wanted"), [(32, 0.0), (33, 0.25)])
def test_the_threshold_is_a_step_of_32_levels(step: int, wanted: float) -> None:
    image = plain(100)
    image[:, 4:] += np.uint8(step)
    assert EDGE_THRESHOLD == 4 * 32
    assert edge_density(grey_levels(image[None]))[0] == wanted


def test_gradients_are_those_of_the_operator_written_out() -> None:
    grey = np.random.default_rng(1).integers(0, 256, (1, 9, 7)).astype(np.uint8)
    wide = np.pad(grey[0].astype(float), 1, mode="edge")
    weights = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    edges = 0
    for y in range(9):
        for x in range(7):
            patch = wide[y : y + 3, x : x + 3]
            edges += np.hypot((patch * weights).sum(), (patch * weights.T).sum()) > EDGE_THRESHOLD
    assert edge_density(grey)[0] == edges / 63


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 70))
def test_grey_is_pillows_and_blocks_change_nothing(seed: int, number: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (number, 6, 5, 3), dtype=np.uint8)
    grey = grey_levels(pixels)
    assert (grey[0] == np.asarray(Image.fromarray(pixels[0]).convert("L"))).all()
    bits = entropy(grey)
    assert (bits >= 0).all()
    assert (bits <= np.log2(30) + 1e-9).all()
    whole = measure_images(pixels)
    alone = measure_images(pixels[-1:])
    assert whole.iloc[-1].tolist() == alone.iloc[0].tolist()


def test_compressed_bytes_are_a_whole_png_of_the_image() -> None:
    image = np.random.default_rng(2).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    size = measure_images(image[None])["compressed_bytes"][0]
    held = io.BytesIO()
    Image.fromarray(image).save(held, "PNG", compress_level=6)
    assert size == len(held.getvalue())
    # Noise cannot be compressed: header, IHDR, IDAT and IEND around zlib's stored bytes, a filter byte a row.
    raw = 16 * (1 + 16 * 3)
    assert size == pytest.approx(8 + 25 + 12 + len(zlib.compress(bytes(raw), 0)) + 12, abs=8)
    assert struct.unpack(">II", held.getvalue()[16:24]) == (16, 16)


def test_no_images_are_no_rows() -> None:
    assert len(measure_images(np.zeros((0, 4, 4, 3), np.uint8))) == 0
