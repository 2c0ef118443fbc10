"""Vectors of images against what they must be by hand."""

from __future__ import annotations

import numpy as np
import pytest

from featurecompute import measures
from featurecompute.errors import ImageError
from featurecompute.spaces import GRID, _areas, _low_level, element_vectors, low_level_vectors, pixel_vectors


def noise(number: int, side: int = 32, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (number, side, side, 3), dtype=np.uint8)


def grating(side: int, cycles: float, degrees: float) -> np.ndarray:
    """Return a grey sine whose gradient points to `degrees`, from across to down."""
    rows, columns = np.indices((side, side)) / side
    angle = np.deg2rad(degrees)
    wave = 128 + 100 * np.sin(2 * np.pi * cycles * (columns * np.cos(angle) + rows * np.sin(angle)))
    return np.repeat(wave.round().astype(np.uint8)[:, :, None], 3, axis=2)


def test_pixels_are_means_of_areas_less_the_mean_image() -> None:
    pixels = noise(5, 2 * GRID)
    cells = pixels.reshape(5, GRID, 2, GRID, 2, 3).mean((2, 4)) / 255
    wanted = (cells - cells.mean(0)).reshape(5, -1)
    found = pixel_vectors(pixels)
    assert found.shape == (5, 3 * GRID**2) and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(("old", "new"), [(24, 16), (7, 3), (10, 16), (5, 5), (1, 2)])
def test_areas_share_out_every_pixel(old: int, new: int) -> None:
    """Cells are means, pixels count alike, and a finer grid shows that a fraction of a pixel is a fraction."""
    matrix = _areas(old, new)
    np.testing.assert_allclose(matrix.sum(1), 1)
    np.testing.assert_allclose(matrix.sum(0), new / old)
    fine = np.repeat(np.random.default_rng(0).normal(size=old), new)  # both grids are whole parts of it
    np.testing.assert_allclose(matrix @ fine[::new], fine.reshape(new, old).mean(1))


def test_blocks_and_a_memory_map_change_nothing(tmp_path) -> None:
    pixels = noise(70, 16)
    np.save(tmp_path / "pixels.npy", pixels)
    held = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    for vectors in (pixel_vectors, low_level_vectors):
        np.testing.assert_array_equal(vectors(pixels), vectors(held))
        order = np.random.default_rng(2).permutation(70)
        np.testing.assert_allclose(vectors(pixels[order]), vectors(pixels)[order], atol=2e-5)


def test_low_level_vectors_are_standardised() -> None:
    found = low_level_vectors(noise(40))
    assert found.shape == (40, 25) and found.dtype == np.float32
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(0), 1, atol=1e-5)


def test_what_all_images_share_is_zero() -> None:
    """Grey images have no colour at all, and equal images no dimension in which they differ, but for rounding."""
    grey = np.repeat(noise(9)[..., :1], 3, axis=3)
    found = low_level_vectors(grey)
    assert not found[:, 2:6].any() and found[:, :2].any()
    assert not low_level_vectors(np.repeat(noise(1), 5, axis=0)).any()
    assert not low_level_vectors(np.full((3, 8, 8, 3), 77, np.uint8)).any()


def test_colours_are_opponent() -> None:
    """One image half red, half black, by hand."""
    image = np.zeros((1, 16, 16, 3), np.uint8)
    image[:, :8, :, 0] = 255
    red = 76 / 255  # the luma of red in 8 bits
    np.testing.assert_allclose(_low_level(image)[0, :6], [red / 2, red / 2, 0.5, 0.5, 0.25, 0.25])


@pytest.mark.parametrize("degrees", [0, 45, 90, 135])
def test_a_grating_has_its_energy_at_its_orientation_and_frequency(degrees: int) -> None:
    """The gradient's energy is the closed form's: a sine's mean squared slope, of central differences."""
    side, cycles = 128, 6.0
    found = _low_level(grating(side, cycles, degrees)[None])[0]
    step = 2 * np.pi * cycles / side
    angle = np.deg2rad(degrees)
    differences = [np.sin(step * part) for part in (np.cos(angle), np.sin(angle))]
    wanted = (100 / 255) ** 2 / 2 * np.square(differences).sum()
    energy = 10 ** found[6:10] - (1 / 255) ** 2
    assert energy.argmax() == degrees // 45
    # Interior columns alone follow central differences; the rounding to grey levels does the rest.
    np.testing.assert_allclose(energy[degrees // 45], wanted, rtol=0.03)
    assert energy.sum() < 1.05 * energy.max()
    bands = found[18:22]
    assert bands.argmax() == 2 and bands[2] > bands[[0, 1, 3]].max() + 0.5  # 4 to 8 cycles an image


def test_an_orientation_between_two_is_shared() -> None:
    found = 10 ** _low_level(grating(128, 6, 22.5)[None])[0, 6:10] - (1 / 255) ** 2
    np.testing.assert_allclose(found[0] / found[:2].sum(), 0.5, atol=0.02)
    assert found[2:].sum() < 0.05 * found.sum()


def test_scales_are_halves() -> None:
    """An image twice as large, each pixel doubled, has at the second scale what the small one has at the first."""
    small = noise(3, 32)
    large = small.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(_low_level(large)[:, 10:18], _low_level(small)[:, 6:14], atol=1e-9)


def test_slope_of_known_spectra() -> None:
    """Power falls with frequency to the power planted."""
    random = np.random.default_rng(3)
    radius = np.hypot(np.fft.fftfreq(128, 1 / 128)[:, None], np.fft.fftfreq(128, 1 / 128))
    for slope in (0.0, -2.0):
        waves = np.fft.fft2(random.normal(size=(24, 128, 128))) * np.maximum(radius, 1) ** (slope / 2)
        images = np.fft.ifft2(waves).real
        images = 128 + 35 * (images - images.mean((1, 2), keepdims=True)) / images.std((1, 2), keepdims=True)
        pixels = np.repeat(images.clip(0, 255).round().astype(np.uint8)[..., None], 3, axis=3)
        assert _low_level(pixels)[:, 22].mean() == pytest.approx(slope, abs=0.15)


def test_entropy_and_edges_are_those_of_the_measures() -> None:
    pixels = noise(4)
    found, wanted = _low_level(pixels), measures.measure_images(pixels)
    np.testing.assert_allclose(found[:, 23:], wanted[["entropy", "edge_density"]].to_numpy())


@pytest.mark.parametrize("vectors", [pixel_vectors, low_level_vectors])
def test_what_are_no_images_is_refused(vectors) -> None:
    with pytest.raises(ImageError, match=r"images that are float64 \(1, 16, 16, 3\); they must be uint8"):
        vectors(np.zeros((1, 16, 16, 3)))
    with pytest.raises(ImageError, match=r"uint8 \(0, 16, 16, 3\)"):
        vectors(np.zeros((0, 16, 16, 3), np.uint8))


def test_small_images() -> None:
    """Low-level vectors need eight pixels to a side; colours do not."""
    assert np.isfinite(low_level_vectors(noise(5, 8))).all()
    with pytest.raises(ImageError, match="images of 7 x 7 pixels; low-level vectors need at least 8 to a side"):
        low_level_vectors(noise(5, 7))
    assert pixel_vectors(noise(5, 3)).shape == (5, 768)


def test_elements_of_images_of_which_nothing_is_known() -> None:
    """Those known as they are, in the order shown; the others the mean of the known ones that are shown."""
    presence = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], bool)
    found = element_vectors(presence, np.array([1, -1, 0, -1]))
    np.testing.assert_array_equal(found, [[1, 1, 0], [1, 0.5, 0], [1, 0, 0], [1, 0.5, 0]])
    with pytest.raises(ImageError, match="of which no element is known"):
        element_vectors(presence, np.array([-1, -1]))
