"""Decoding images beside reading decoded ones: images a second of one process, on generated 500 x 375 JPEGs.

Run as ``python tests/benchmarks/benchmark_images.py``; it prints a table and writes images.csv beside itself. Rows:
``pillow`` decodes, resizes (256) and crops (224) as a loader would; ``first`` is the first preparation of a set, hashes
and writing included; ``again`` is opening it a second time (images a second of the set, its file names and stamps
looked at); ``read`` copies every image out of the map in batches of 64, the file in the page cache; ``measure`` is
`measure_images`. Figures are medians over runs.  There is no limit: rates follow
the machine's memory and what else runs on it.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from featurecompute.decoding import decoder_version, prepare
from featurecompute.measures import measure_images
from featurecompute.pixels import prepare_images
from featurecompute.study import ImagesTable

OUT = Path(__file__).resolve().parent / "images.csv"


@dataclass(frozen=True)
class Recipe:
    """ImageNet's usual preparation."""

    size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"


def make(folder: Path, count: int) -> None:
    """Write JPEGs of about 60 KiB: smooth fields and noise, as photographs have."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(count):
        smooth = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375), Image.BICUBIC)
        noisy = np.asarray(smooth) + rng.normal(0, 9, (375, 500, 1))
        held = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(held, "JPEG", quality=90)
        path = folder / f"{i:05d}.jpg"
        path.write_bytes(held.getvalue())
        os.utime(path, ns=(10**18, 10**18))


def seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in ("pillow", "first", "again", "read", "measure")}
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        make(base / "set", asked.count)
        files = sorted((base / "set").iterdir())
        size = sum(file.stat().st_size for file in files) / len(files) / 1024
        for run in range(asked.runs):
            table = ImagesTable(source="folder", path="set", cache=f"cache-{run}")

            def prepared(table: ImagesTable = table) -> np.ndarray:
                return prepare_images(table, base, Recipe(), workers=1).pixels

            times["pillow"].append(seconds(lambda: [prepare(file.read_bytes(), Recipe()) for file in files]))
            times["first"].append(seconds(prepared))
            times["again"].append(seconds(prepared))
            pixels = prepared()
            times["read"].append(
                seconds(lambda held=pixels: [np.array(held[i : i + 64]) for i in range(0, len(held), 64)])
            )
            times["measure"].append(seconds(lambda held=pixels: measure_images(held[:200])))
    counts = dict.fromkeys(times, asked.count) | {"measure": min(200, asked.count)}
    rates = {row: counts[row] / statistics.median(times[row]) for row in times}
    rows = pd.DataFrame(
        {
            "row": list(rates),
            "images_per_second": [round(rate, 1) for rate in rates.values()],
            "times_pillow": [round(rate / rates["pillow"], 2) for rate in rates.values()],
            "images": [counts[row] for row in rates],
            "kib_per_image": round(size, 1),
            "runs": asked.runs,
            "decoder": f"Pillow {decoder_version()}",
        }
    )
    print(rows.to_string(index=False))
    rows.to_csv(OUT, index=False)


if __name__ == "__main__":
    main()
