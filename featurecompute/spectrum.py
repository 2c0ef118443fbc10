"""What a set of images is made of: the magnitudes of its frequencies, its mean colour and its axes of colour.

In: pixels.  Out: a `Spectrum`, of any size.  Knows no network and no feature.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from featurecompute.errors import ImageError

_BLOCK = 64  # images transformed at once


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Mean magnitudes of images in decorrelated colours.

    Parameters
    ----------
    magnitudes
        Mean |rfft2| (3 x size x size // 2 + 1, float32), orthonormal (1/size in both directions), of the images less
        their mean colour, along each axis of colour. Orthonormal, so that magnitudes do not grow with the size.
    axes
        Axes of colour as columns (3 x 3, float32): principal components of the images' red, green and blue. Along them
        colours are uncorrelated, so that phases that do not know of each other make no coloured noise.
    mean
        Mean red, green and blue (3, float32), 0 to 1.
    """

    magnitudes: np.ndarray = field(repr=False)
    axes: np.ndarray = field(repr=False)
    mean: np.ndarray

    @property
    def size(self) -> int:
        """Pixels to a side of the images that it describes."""
        return int(self.magnitudes.shape[1])

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what it holds by name; ``Spectrum(**arrays)`` is the same again."""
        return {"magnitudes": self.magnitudes, "axes": self.axes, "mean": self.mean}


def magnitude_spectrum(pixels: np.ndarray, size: int, count: int = 1000, seed: int = 1) -> Spectrum:
    """Return the mean magnitude spectrum of a seeded sample of images, stretched to another size.

    Parameters
    ----------
    pixels
        Images (n x side x side x 3), uint8.
    size
        Pixels to a side wanted. A frequency keeps its wavelength in pixels, so that a larger picture shows more, not
        larger, things; between the frequencies of the images, magnitudes are interpolated.
    count
        Images sampled; all where there are fewer.
    seed
        Of the sample.

    Raises
    ------
    ImageError
        If the pixels are no images, or there are none.

    Notes
    -----
    MACO (Fel et al. 2023, arXiv 2306.06805) takes the mean magnitudes of ImageNet, in ImageNet's decorrelated colours;
    Horama 0.3.0 downloads them. Here both are those of the images that are studied.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.shape[1] != pixels.shape[2]:
        raise ImageError(f"images are {pixels.dtype} {pixels.shape}; they must be uint8, n x side x side x 3.")
    if not len(pixels):
        raise ImageError("there is no image whose spectrum could be taken.")
    chosen = np.sort(np.random.default_rng(seed).choice(len(pixels), min(count, len(pixels)), replace=False))
    blocks = [chosen[start : start + _BLOCK] for start in range(0, len(chosen), _BLOCK)]
    mean, axes = _colours([pixels[block] for block in blocks])
    side = pixels.shape[1]
    total = np.zeros((3, side, side // 2 + 1))
    for block in blocks:
        values = (pixels[block] / 255 - mean) @ axes
        total += np.abs(np.fft.rfft2(values.transpose(0, 3, 1, 2), norm="ortho")).sum(0)
    return Spectrum(_stretch(total / len(chosen), size), axes.astype(np.float32), mean.astype(np.float32))


def _colours(blocks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean colour and the principal axes of colour, the widest first."""
    n, total, products = 0, np.zeros(3), np.zeros((3, 3))
    for block in blocks:
        values = block.reshape(-1, 3) / 255
        n, total, products = n + len(values), total + values.sum(0), products + values.T @ values
    mean = total / n
    axes = np.linalg.eigh(products / n - np.outer(mean, mean))[1][:, ::-1]
    # An axis has no sign of its own: its largest entry is above zero.
    return mean, axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(3)])


def _stretch(magnitudes: np.ndarray, size: int) -> np.ndarray:
    """Return magnitudes (3 x side x side // 2 + 1) at the frequencies of another size, interpolated linearly."""
    side = magnitudes.shape[1]
    if side == size:
        return magnitudes.astype(np.float32)
    # In order of frequency, from the lowest; the first row comes once more at the end, since frequencies are cyclic.
    rows = np.fft.fftshift(magnitudes, axes=1)
    rows = np.concatenate([rows, rows[:, :1]], axis=1)
    down = np.fft.fftfreq(size) * side + side // 2
    across = np.minimum(np.fft.rfftfreq(size) * side, magnitudes.shape[2] - 1)
    # grid_sample reads places from -1, the first sample, to 1, the last.
    y, x = 2 * down / (rows.shape[1] - 1) - 1, 2 * across / max(rows.shape[2] - 1, 1) - 1
    grid = torch.from_numpy(np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1))[None]
    found = functional.grid_sample(torch.from_numpy(rows)[None], grid, padding_mode="border", align_corners=True)
    return found[0].numpy().astype(np.float32)
