"""What images are like to an eye: vectors of their colours, of low-level statistics, and of what is drawn in them.

In: pixels of all images that are shown, or what is known of them.  Out: vectors (n x dimensions).  Knows no file, no
network and no stimulus.
"""

from __future__ import annotations

import numpy as np

from featurecompute.errors import ImageError
from featurecompute.measures import edge_density, entropy, grey_levels

GRID = 16
"""Pixels: cells to a side, each the mean colour of its area."""
ORIENTATIONS = 4
"""Low level: orientations of the gradient: 0, 45, 90 and 135 degrees."""
SCALES = 3
"""Low level: scales of the gradient, each half as fine as the one before."""
BANDS = ((1, 2), (2, 4), (4, 8), (8, 16))
"""Low level: octaves of the power spectrum, in cycles an image, from the first (inclusive) to the second."""

_LEAST = 8  # pixels to a side that three scales need
_BLOCK = 64  # images at once
_FLOOR = (1 / 255) ** 2  # energy and power of a single grey level: keeps the logarithm of a plain image finite


def pixel_vectors(pixels: np.ndarray) -> np.ndarray:
    """Return images as colours on a grid of `GRID` x `GRID` cells, less the mean of the images given.

    Parameters
    ----------
    pixels
        Images (n x H x W x 3), uint8: all that are shown, at once, since the mean is taken over them.

    Returns
    -------
    ndarray
        n x 768, float32, in units of 0 to 1: red, green and blue of each cell, row by row, each the mean of its area.

    Raises
    ------
    ImageError
        If they are no images.
    """
    _check_pixels(pixels, 1)
    down, across = (_areas(side, GRID) for side in pixels.shape[1:3])
    found = np.empty((len(pixels), GRID, GRID, 3), np.float32)
    for start in range(0, len(pixels), _BLOCK):
        block = np.asarray(pixels[start : start + _BLOCK], np.float32) / 255
        found[start : start + _BLOCK] = np.einsum("gh,nhwc,kw->ngkc", down, block, across, optimize=True)
    vectors = found.reshape(len(pixels), -1)
    return np.asarray(vectors - vectors.mean(0, dtype=np.float64), np.float32)


def low_level_vectors(pixels: np.ndarray) -> np.ndarray:
    """Return what images are like without their content, each dimension standardised over the images given.

    Parameters
    ----------
    pixels
        Images (n x H x W x 3), uint8, of one size: all that are shown, at once.

    Returns
    -------
    ndarray
        n x 25, float32, with mean 0 and SD 1 in each dimension, or 0 throughout where all images are alike:

        - mean and SD of three opponent channels: luma, red - green, and (red + green) / 2 - blue (Hasler & Suesstrunk
          2003, Measuring colourfulness in natural images);
        - for each of three scales, log10 of the mean squared gradient of the luma at four orientations; a gradient
          between two orientations is shared by them in proportion (as in Dalal & Triggs 2005, Histograms of oriented
          gradients for human detection);
        - log10 of the luma's mean power in four octaves of spatial frequency, and the slope of log power on log
          frequency (Field 1987: near -2 for natural scenes);
        - entropy and edge density, as `measures` defines them.

    Raises
    ------
    ImageError
        If they are no images, or have fewer than 8 pixels to a side.
    """
    _check_pixels(pixels, _LEAST)
    parts = [_low_level(np.asarray(pixels[start : start + _BLOCK])) for start in range(0, len(pixels), _BLOCK)]
    found = np.concatenate(parts)
    sd = found.std(0)
    same = np.ptp(found, axis=0) < 1e-9 * np.maximum(np.abs(found).max(0), 1)  # what is left then is rounding
    return np.asarray(np.where(same, 0, (found - found.mean(0)) / np.where(same, 1, sd)), np.float32)


def element_vectors(presence: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return which known elements are in each image that is shown, all kinds alike.

    Parameters
    ----------
    presence
        Whether an element is in an image of the set (images x elements), as `scenes.Truth.presence`.
    numbers
        Number in the set of each image shown (n); -1 for one of which nothing is known, such as a synthesised one.

    Returns
    -------
    ndarray
        n x elements, float32: 1 where the element is there, 0 where it is not. An image of which nothing is known has
        the mean of those known, so that it speaks neither for an element nor against it.

    Raises
    ------
    ImageError
        If nothing is known of any image.
    """
    known = numbers >= 0
    if not known.any():
        raise ImageError("vectors of elements were asked of images of which no element is known.")
    found = presence[np.where(known, numbers, 0)].astype(np.float64)
    found[~known] = found[known].mean(axis=0)
    return np.asarray(found, np.float32)


def _low_level(block: np.ndarray) -> np.ndarray:
    """Return the raw values of a block of images (n x 25)."""
    grey = grey_levels(block)
    luma = grey / 255
    red, green, blue = np.moveaxis(block / 255, 3, 0)
    found: list[np.ndarray] = []
    for channel in (luma, red - green, (red + green) / 2 - blue):
        found += [channel.mean((1, 2)), channel.std((1, 2))]
    here = luma
    for scale in range(SCALES):
        if scale:
            down, across = (_areas(side, side // 2) for side in here.shape[1:])
            here = np.einsum("gh,nhw,kw->ngk", down, here, across, optimize=True)
        found += list(_oriented(here).T)
    found += list(_spectrum(luma).T)
    return np.stack([*found, entropy(grey), edge_density(grey)], axis=1)


def _oriented(luma: np.ndarray) -> np.ndarray:
    """Return log10 of the energy at each orientation (n x `ORIENTATIONS`) of central differences."""
    down, across = np.gradient(luma, axis=(1, 2))
    energy = down**2 + across**2
    place = np.arctan2(down, across) % np.pi * (ORIENTATIONS / np.pi)
    share = place % 1
    lower = place.astype(int) % ORIENTATIONS
    total = np.zeros((len(luma), ORIENTATIONS))
    for bin in range(ORIENTATIONS):
        weight = (1 - share) * (lower == bin) + share * (lower == (bin - 1) % ORIENTATIONS)
        total[:, bin] = (energy * weight).mean((1, 2))
    return np.asarray(np.log10(total + _FLOOR))


def _spectrum(luma: np.ndarray) -> np.ndarray:
    """Return log10 of the power in each of `BANDS`, and the slope of log power on log frequency (n x 5).

    A Hann window keeps the border's step, which is no part of the image, out of the spectrum.
    """
    height, width = luma.shape[1:]
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    window /= np.sqrt((window**2).mean())
    mean = (luma * window).sum((1, 2), keepdims=True) / window.sum()
    power = np.abs(np.fft.fft2((luma - mean) * window)) ** 2 / (height * width)
    rows, columns = np.fft.fftfreq(height, 1 / height), np.fft.fftfreq(width, 1 / width)
    radius = np.hypot(rows[:, None], columns)
    bands = [power[:, (first <= radius) & (radius < last)].mean(1) for first, last in BANDS if first <= radius.max()]
    bands += [np.zeros(len(luma))] * (len(BANDS) - len(bands))  # beyond what so few pixels can show
    whole = radius.round().astype(int)
    rings = np.stack([power[:, whole == ring].mean(1) for ring in range(1, min(height, width) // 2)], axis=1)
    logs = np.log10(rings + _FLOOR)
    frequency = np.log10(np.arange(1, rings.shape[1] + 1))
    centred = frequency - frequency.mean()
    slope = (logs - logs.mean(1, keepdims=True)) @ centred / (centred**2).sum()
    return np.stack([*(np.log10(band + _FLOOR) for band in bands), slope], axis=1)


def _areas(old: int, new: int) -> np.ndarray:
    """Return the matrix (new x old) that takes the mean over areas: the overlap of each new cell with each old one."""
    edges = np.arange(new + 1) * (old / new)
    cells = np.arange(old)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return np.asarray(np.clip(overlap, 0, None) * (new / old))


def _check_pixels(pixels: np.ndarray, least: int) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or not len(pixels):
        raise ImageError(
            f"vectors were asked of images that are {pixels.dtype} {pixels.shape}; they must be uint8, n x H x W x 3, "
            "with n at least 1."
        )
    if min(pixels.shape[1:3]) < least:
        raise ImageError(
            f"vectors were asked of images of {pixels.shape[1]} x {pixels.shape[2]} pixels; low-level vectors need "
            f"at least {least} to a side."
        )
