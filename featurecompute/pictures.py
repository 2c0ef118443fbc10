"""The pictures that people are shown, as files in the run: each image once, whole or not at all.

In: images' ids and pixels.  Out: files, the table that names them, and their bytes again, checked.
Knows no trial, and not how a picture came about.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from PIL import Image

from featurecompute.errors import RunError
from featurecompute.files import whole
from featurecompute.manifest import PICTURES, Run

Kind: TypeAlias = Literal["png", "jpeg"]

SUFFIX: dict[Kind, str] = {"png": ".png", "jpeg": ".jpg"}
QUALITY = 95
"""Of JPEG, from 1 to 100; colours are kept at full resolution (4:4:4)."""


@dataclass(frozen=True)
class Picture:
    """A picture of a run.

    Parameters
    ----------
    path
        The file.
    file
        Its name from the run's folder.
    sha256
        Hash of the file that was written.
    """

    path: Path
    file: str
    sha256: str

    @property
    def kind(self) -> Kind:
        """In which form the file is."""
        return "png" if self.path.suffix == SUFFIX["png"] else "jpeg"

    def read(self, kind: Kind | None = None) -> bytes:
        """Return the file's bytes, those of another form if one is asked for.

        Raises
        ------
        RunError
            If the file is missing, or is not the one that was written.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise RunError(f"the picture {self.path} cannot be read: {error.strerror}.") from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise RunError(f"the picture {self.path} is not the file that was written.")
        if kind in (None, self.kind):
            return content
        with Image.open(io.BytesIO(content)) as image:
            return encode_picture(np.asarray(image.convert("RGB")), kind)


def encode_picture(pixels: np.ndarray, kind: Kind, quality: int = QUALITY) -> bytes:
    """Return pixels (height x width x 3, uint8) as a file's bytes; equal pixels make equal bytes."""
    held = io.BytesIO()
    if kind == "png":
        Image.fromarray(pixels).save(held, "PNG")
    else:
        Image.fromarray(pixels).save(held, "JPEG", quality=quality, subsampling=0)
    return held.getvalue()


def write_pictures(
    folder: Path, pixels: Iterable[tuple[str, np.ndarray]], kind: Kind, *, quality: int = QUALITY
) -> list[Path]:
    """Write images as numbered files, and the table of them.

    Parameters
    ----------
    folder
        The run's; the files lie below it in ``pictures``, numbered from 0.
    pixels
        Id and pixels (height x width x 3, uint8) of each image, one at a time; files are numbered in this order.
    kind
        png, which loses nothing, or jpeg.
    quality
        Of JPEG, from 1 to 100.

    Returns
    -------
    list of Path
        The pictures, then the table.

    Raises
    ------
    RunError
        If a file cannot be written, or an image comes twice.
    """
    paths, rows = [], []
    for number, (image, values) in enumerate(pixels):
        file = f"pictures/{number:06}{SUFFIX[kind]}"
        content = encode_picture(values, kind, quality)
        with whole(folder / file) as part:
            part.write_bytes(content)
        paths.append(folder / file)
        rows.append({"image": image, "file": file, "sha256": hashlib.sha256(content).hexdigest()})
    return [*paths, PICTURES.write(folder, pd.DataFrame(rows, columns=list(PICTURES.columns)))]


def find_pictures(run: Run, images: Iterable[str]) -> dict[str, Picture]:
    """Return the pictures of these images by id, in this order.

    Raises
    ------
    RunError
        If an image has no picture.
    """
    rows = run.table(PICTURES.name).set_index("image")
    wanted = list(dict.fromkeys(images))
    missing = [image for image in wanted if image not in rows.index]
    if missing:
        raise RunError(f"{run.path / 'pictures.parquet'} names no picture of the image {missing[0]}.")
    chosen = rows.loc[wanted]
    return {
        image: Picture(run.path / file, file, sha256)
        for image, file, sha256 in zip(wanted, chosen["file"], chosen["sha256"], strict=True)
    }
