"""Canvases keep what they promise; crops are those of Pillow."""

import math

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from featurecompute.canvas import Crops, Fourier, Maco  # noqa: E402
from featurecompute.spectrum import Spectrum, magnitude_spectrum  # noqa: E402

CPU = torch.device("cpu")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def spectrum(size, contrast=0.02):
    """A spectrum whose magnitudes fall, with little contrast, so that nothing is cut off."""
    pixels = np.random.default_rng(2).integers(0, 256, (10, 12, 12, 3), dtype=np.uint8)
    found = magnitude_spectrum(pixels, size)
    fall = 1 / (1 + np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * size)
    return Spectrum((found.magnitudes * contrast * fall).astype(np.float32), found.axes, found.mean)


@pytest.mark.parametrize("size", [16, 17, 2, 3])
def test_maco_keeps_the_magnitudes_whatever_the_phases(size):
    given = spectrum(size)
    canvas = Maco(given, CPU)
    phases = torch.stack([canvas.start(seeded(seed)) * (1 + 5 * seed) for seed in range(3)])
    pictures = canvas.render(phases)
    assert pictures.shape == (3, 3, size, size)
    colours = (pictures.double().permute(0, 2, 3, 1) - torch.from_numpy(given.mean)) @ torch.from_numpy(
        given.axes
    ).double()
    found = torch.fft.rfft2(colours.permute(0, 3, 1, 2), norm="ortho").abs()
    expected = torch.from_numpy(given.magnitudes).double().clone()
    # The mean colour alone, which has no phase, is free within its magnitude.
    mean = colours.mean((1, 2)) * size
    torch.testing.assert_close(mean, expected[:, 0, 0] * phases[:, :, 0, 0].double().cos(), rtol=1e-3, atol=2e-6)
    expected = expected.expand_as(found).clone()
    expected[..., 0, 0] = mean.abs()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-6)
    assert size == 2 or (pictures[0] - pictures[1]).abs().max() > 1e-3  # of two pixels, all frequencies are their own


def test_maco_begins_with_phases_uniform_on_the_circle_and_cuts_off_beyond_black_and_white():
    canvas = Maco(spectrum(32, contrast=50.0), CPU)
    phases = canvas.start(seeded(1))
    assert float(phases.min()) == pytest.approx(-math.pi, abs=0.02)
    assert float(phases.max()) == pytest.approx(math.pi, abs=0.02)
    assert float(phases.std()) == pytest.approx(2 * math.pi / 12**0.5, rel=0.05)
    assert torch.equal(phases, canvas.start(seeded(1))) and not torch.equal(phases, canvas.start(seeded(2)))
    picture = canvas.render(phases[None])
    assert float(picture.min()) == 0 and float(picture.max()) == 1


def test_fourier_weighs_by_frequency_in_lucids_colours():
    size = 8
    canvas = Fourier(size, CPU)
    values = torch.zeros(1, 3, size, size // 2 + 1, 2)
    values[0, 1, 2, 1, 0] = 3.0
    found = torch.logit(canvas.render(values).double())[0]
    y, x = np.mgrid[:size, :size]
    frequency = math.hypot(2 / size, 1 / size)
    # irfft2 divides by size² and counts a column twice; lucid then scales by size / frequency and divides by four.
    wave = 3.0 * (size / frequency) / size**2 * 2 * np.cos(2 * np.pi * (2 * y + x) / size) / 4
    colours = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    longest = np.linalg.norm(colours, axis=0).max()
    expected = wave[None] * (colours[:, 1] / longest)[:, None, None]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    start = Fourier(64, CPU).start(seeded(0))
    assert float(start.std()) == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("box", [(20.0, 0.0, 0.0), (13.0, 4.0, 7.0), (9.3, 2.25, 10.6), (5.5, 14.5, 0.0)])
@pytest.mark.parametrize("out", [8, 12])
def test_a_crop_is_what_pillow_resizes(box, out):
    picture = np.random.default_rng(4).random((20, 20)).astype(np.float32)
    side, top, left = box
    expected = Image.fromarray(picture).resize(
        (out, out), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
    )
    for largest in (side, 20.0):
        crops = Crops(20, out, largest)
        found = crops.take(torch.from_numpy(picture)[None, None], [[box]])
        np.testing.assert_allclose(found[0, 0].numpy(), np.asarray(expected), atol=1e-4)
    assert Crops(20, out, side).window <= 20


def test_crops_of_several_pictures_stand_in_their_order_and_lead_back():
    pictures = torch.rand(2, 3, 24, 24, generator=seeded(1), requires_grad=True)
    boxes = [[(10.0, 1.0, 2.0), (12.5, 3.5, 0.0)], [(11.0, 0.0, 13.0), (10.0, 14.0, 14.0)]]
    crops = Crops(24, 8, 12.5)
    found = crops.take(pictures, boxes)
    assert found.shape == (4, 3, 8, 8) and crops.window < 24
    for number in range(4):
        picture, box = pictures[number // 2], boxes[number // 2][number % 2]
        # Sums of products may be taken in another order for another number of pictures, as the processor has it.
        torch.testing.assert_close(crops.take(picture[None], [[box]])[0], found[number], rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(found[1].sum(), pictures)
    # Each pixel of a crop is a weighted mean; the picture beside it, and what lies far from the box, do not matter.
    assert float(gradient[0].sum()) == pytest.approx(3 * 64, rel=1e-5)
    assert (gradient[1] == 0).all() and (gradient[0, :, 19:] == 0).all() and (gradient[0, :, :, 16:] == 0).all()
