"""The images that a run's pages show, small, kept in the run so that it can be looked at without the image set.

In: which images, their pixels.  Out: one file, and the same pixels again.  Knows no feature.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from featurecompute.files import read_arrays, write_arrays
from featurecompute.pixels import Images

SHOWN = 9
"""Images shown at each end of a feature's order."""
SIDE = 96
"""Pixels at most."""


def write_thumbnails(folder: Path, extremes: pd.DataFrame, images: Images) -> Path:
    """Write the first images at each end of every feature's order.

    Parameters
    ----------
    folder
        The run's.
    extremes
        Rows of the table of extremes.
    images
        The image set.
    """
    names = set(extremes.loc[(extremes["rank"] <= SHOWN), "image"])
    numbers = np.flatnonzero(images.table["image"].isin(names).to_numpy())
    pixels = np.stack([shrink(np.asarray(images.pixels[number])) for number in numbers])
    path = folder / "thumbnails.safetensors"
    write_arrays(path, {"numbers": numbers, "pixels": pixels})
    return path


def shrink(image: np.ndarray) -> np.ndarray:
    """Return an image (side x side x 3, uint8) with `SIDE` pixels to a side, or as it is if it has no more."""
    if len(image) <= SIDE:
        return image
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def read_thumbnails(folder: Path, ids: pd.Series) -> dict[str, np.ndarray]:
    """Return the small images (side x side x 3, uint8) by id; `ids` are those of images.parquet, in its order."""
    arrays = read_arrays(folder / "thumbnails.safetensors")
    return dict(zip(ids.iloc[arrays["numbers"]], arrays["pixels"], strict=True))
