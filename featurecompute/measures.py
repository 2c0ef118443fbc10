"""What an image is like without any network: its entropy, its edges, and how far it can be compressed.

In: prepared pixels.  Out: a table, a row an image.  Knows no file, no network and no feature.
"""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from PIL import Image

EDGE_THRESHOLD = 128
"""A pixel is on an edge where its Sobel gradient is longer than this: that of a step of 32 of 255 grey levels."""
PNG_LEVEL = 6
_BLOCK = 64  # images at once: what is held is about 20 bytes a pixel


def grey_levels(pixels: np.ndarray) -> np.ndarray:
    """Return luma of ITU-R BT.601, (299 R + 587 G + 114 B) / 1000, in Pillow's own integer form.

    Parameters
    ----------
    pixels
        (N, H, W, 3), uint8.

    Returns
    -------
    numpy.ndarray
        (N, H, W), uint8: equal to ``Image.convert("L")``.
    """
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)  # times 65536
    return np.asarray((pixels @ weights + np.uint32(0x8000)) >> np.uint32(16), dtype=np.uint8)


def entropy(grey: np.ndarray) -> np.ndarray:
    """Return the Shannon entropy of each image's 256-bin histogram, bits a pixel.

    Parameters
    ----------
    grey
        (N, H, W), uint8.

    Returns
    -------
    numpy.ndarray
        (N,), from 0 (one level) to 8 (all levels equally frequent).
    """
    number = len(grey)
    place = grey.reshape(number, -1) + 256 * np.arange(number)[:, None]
    share = np.bincount(place.ravel(), minlength=256 * number).reshape(number, 256) / max(place.shape[1], 1)
    # Adding 1 where the share is 0 makes its logarithm 0 without a warning; the last term keeps -0 out of tables.
    return np.asarray(-(share * np.log2(share + (share == 0))).sum(axis=1) + 0.0, dtype=np.float64)


def edge_density(grey: np.ndarray) -> np.ndarray:
    """Return the share of pixels whose Sobel gradient is longer than `EDGE_THRESHOLD`.

    The gradient is that of the 3 x 3 Sobel operator with weights 1, 2, 1, not divided; beyond its border an image goes
    on with its outermost pixels, so that the border itself is no edge.

    Parameters
    ----------
    grey
        (N, H, W), uint8.

    Returns
    -------
    numpy.ndarray
        (N,), from 0 to 1.
    """
    wide = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge").astype(np.int16)  # the longest is 4 x 255 a side
    down = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    across = wide[:, :, :-2] + 2 * wide[:, :, 1:-1] + wide[:, :, 2:]
    horizontal = (down[:, :, 2:] - down[:, :, :-2]).astype(np.int32)
    vertical = (across[:, 2:] - across[:, :-2]).astype(np.int32)
    edges = horizontal * horizontal + vertical * vertical > EDGE_THRESHOLD**2
    return np.asarray(edges.mean(axis=(1, 2)), dtype=np.float64)


def compressed_bytes(image: np.ndarray) -> int:
    """Return the length of an image (H, W, 3; uint8) as a PNG of Pillow, zlib's level 6, without metadata.

    It depends on the zlib that Pillow was built with, a little, and not on the machine.
    """
    held = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(held, "PNG", compress_level=PNG_LEVEL)
    return held.tell()


def measure_images(pixels: np.ndarray) -> pd.DataFrame:
    """Measure every image of a set.

    Parameters
    ----------
    pixels
        (N, H, W, 3), uint8; a memory map is read in blocks.

    Returns
    -------
    pandas.DataFrame
        N rows: ``entropy`` (bits a pixel of the grey levels), ``edge_density`` (share of pixels on an edge),
        ``compressed_bytes`` (of the image as PNG).
    """
    bits, density, sizes = [np.zeros(0)], [np.zeros(0)], [np.zeros(0, np.int64)]
    for start in range(0, len(pixels), _BLOCK):
        block = np.asarray(pixels[start : start + _BLOCK])
        grey = grey_levels(block)
        bits.append(entropy(grey))
        density.append(edge_density(grey))
        sizes.append(np.array([compressed_bytes(image) for image in block], dtype=np.int64))
    return pd.DataFrame(
        {
            "entropy": np.concatenate(bits),
            "edge_density": np.concatenate(density),
            "compressed_bytes": np.concatenate(sizes),
        }
    )
