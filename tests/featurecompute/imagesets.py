"""Image sets for tests: small pictures, and the same ones in each form that a study may name."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from featurecompute.study import ImagesTable


@dataclass(frozen=True)
class Wanted:
    """A preparation."""

    size: int = 16
    resize: int = 18
    interpolation: str = "bilinear"


def picture(seed: int, height: int = 30, width: int = 40) -> np.ndarray:
    """Return a smooth picture, as JPEG likes them."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def encode(values: np.ndarray | Image.Image, form: str = "PNG", **options: object) -> bytes:
    """Return a picture in a file's form."""
    held = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(held, form, **options)
    return held.getvalue()


def write_folder(top: Path, files: dict[str, bytes]) -> Path:
    """Write files below a folder."""
    for name, content in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return top


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    """Write a tar file with these members in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_parquet(
    path: Path, columns: dict[str, object], metadata: dict[str, str] | None = None, rows: int = 4
) -> Path:
    """Write a Parquet file in groups of that many rows."""
    table = pa.table(columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=rows)
    return path


def images_table(source: str, path: str, **settings: object) -> ImagesTable:
    """Return ``[images]`` with its cache beside the images."""
    return ImagesTable.model_validate({"source": source, "path": path, "cache": "cache"} | settings)
