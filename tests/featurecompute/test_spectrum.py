"""The spectrum of images: pictures whose spectrum is known, brute force, and what a change of size must keep."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featurecompute.errors import ImageError  # noqa: E402
from featurecompute.spectrum import Spectrum, magnitude_spectrum  # noqa: E402


def noise(count=20, side=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_a_grey_grating_has_one_frequency_on_one_axis_of_colour():
    side, amplitude = 16, 100
    wave = 128 + amplitude * np.cos(2 * np.pi * 3 * np.arange(side) / side)
    pixels = np.broadcast_to(np.round(wave)[None, None, :, None], (4, side, side, 3)).astype(np.uint8)
    found = magnitude_spectrum(pixels, side)
    # Along (1, 1, 1)/√3 a grey of amplitude a is a wave of √3 a; its orthonormal transform is half that times the side.
    assert found.magnitudes[0, 0, 3] == pytest.approx(np.sqrt(3) * amplitude / 255 / 2 * side, rel=0.01)
    assert found.magnitudes[1:].max() < 1e-5
    rest = found.magnitudes[0].copy()
    rest[0, 3] = 0
    assert rest.max() < 0.02 * found.magnitudes[0, 0, 3]
    np.testing.assert_allclose(np.abs(found.axes[:, 0]), 3**-0.5, atol=1e-6)
    np.testing.assert_allclose(found.mean, pixels.mean((0, 1, 2)) / 255, atol=1e-6)


def test_it_is_the_mean_over_the_sampled_images_and_the_sample_has_a_seed():
    pixels = noise(count=150)
    found = magnitude_spectrum(pixels, 16, count=150)
    values = (pixels / 255 - pixels.mean((0, 1, 2)) / 255) @ found.axes.astype(float)
    expected = np.mean([[np.abs(np.fft.rfft2(one[..., c])) / 16 for c in range(3)] for one in values], axis=0)
    np.testing.assert_allclose(found.magnitudes, expected, atol=1e-5)
    some = [magnitude_spectrum(pixels, 16, count=10, seed=seed).magnitudes for seed in (1, 1, 2)]
    np.testing.assert_array_equal(some[0], some[1])
    assert np.abs(some[0] - some[2]).max() > 0.01
    chosen = np.random.default_rng(1).choice(150, 10, replace=False)
    np.testing.assert_allclose(some[0], magnitude_spectrum(pixels[chosen], 16).magnitudes, atol=1e-6)


def test_axes_decorrelate_the_colours_and_are_orthonormal():
    pixels = noise()
    pixels[..., 1] = (pixels[..., 0].astype(int) * 3 + pixels[..., 1]) // 4
    axes = magnitude_spectrum(pixels, 16).axes.astype(float)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    covariance = np.cov((pixels.reshape(-1, 3) @ axes).T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3 * covariance.max()
    assert list(np.diag(covariance)) == sorted(np.diag(covariance), reverse=True)


@pytest.mark.parametrize("side", [16, 15])
@pytest.mark.parametrize("size", [16, 15, 32, 33, 8])
def test_another_size_keeps_wavelengths_and_contrast(side, size):
    # Smooth images whose magnitudes are linear in neither direction, so that places matter.
    random = np.random.default_rng(3)
    waves = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.rfftfreq(side)[None] ** 2
    spectra = np.fft.rfft2(random.normal(size=(200, 3, side, side))) * np.exp(-waves * 10)
    values = np.fft.irfft2(spectra, s=(side, side))
    pixels = np.clip(128 + 60 * values.transpose(0, 2, 3, 1) / values.std(), 0, 255).astype(np.uint8)
    here, there = magnitude_spectrum(pixels, side).magnitudes, magnitude_spectrum(pixels, size).magnitudes
    assert there.shape == (3, size, size // 2 + 1) and there.dtype == np.float32
    across = np.interp(np.fft.rfftfreq(size), np.fft.rfftfreq(side), here[0, 0])
    np.testing.assert_allclose(there[0, 0], across, rtol=1e-4)
    known = np.arange((side - 1) // 2 + 1) / side  # frequencies up and down, each once
    wanted = np.fft.fftfreq(size)
    for sign in (1, -1):
        inside = (sign * wanted > 0) & (np.abs(wanted) <= known[-1])
        down = np.interp(np.abs(wanted[inside]), known, here[0, sign * np.arange(len(known)), 0])
        np.testing.assert_allclose(there[0, inside, 0], down, rtol=1e-4)


def test_what_is_no_image_is_refused():
    with pytest.raises(ImageError, match=r"images are float64 \(2, 4, 4, 3\)"):
        magnitude_spectrum(np.zeros((2, 4, 4, 3)), 4)
    with pytest.raises(ImageError, match=r"they must be uint8, n x side x side x 3\."):
        magnitude_spectrum(np.zeros((2, 4, 5, 3), np.uint8), 4)
    with pytest.raises(ImageError, match="no image whose spectrum"):
        magnitude_spectrum(np.zeros((0, 4, 4, 3), np.uint8), 4)


def test_its_arrays_make_it_again():
    found = magnitude_spectrum(noise(), 20)
    again = Spectrum(**found.arrays())
    assert again.size == 20
    for name, values in found.arrays().items():
        np.testing.assert_array_equal(values, again.arrays()[name])
