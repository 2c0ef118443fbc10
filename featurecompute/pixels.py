"""The images of a run as pixels: decoded once, then read from a memory map.

In: ``[images]`` of a study file, and how the network wants its input.  Out: `Images`, with a hash of the ordered set.
Knows no network and no activation.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from featurecompute import scenes, study
from featurecompute.decoding import DECODER, RECIPE, Preparation, check_preparation, decoder_version, prepare
from featurecompute.errors import ImageError, RunError
from featurecompute.files import hash_arrays, hash_json, whole
from featurecompute.images import Entry, ImageSource, Reader, open_images
from featurecompute.pixelcache import Kept, Recipe, digest, keep

_NAMED = 5  # faulty images that an error names
_SETTLED = 2_000_000_000  # ns; a file changed since then could change again within one tick of its time stamp
_UNREADABLE = "unreadable"

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Images:
    """Prepared images in their fixed order.

    Parameters
    ----------
    table
        A row an image: ``image`` (id), ``path``, ``sha256`` (of its bytes), ``kind`` (natural or generated) and
        ``label``, as the first five columns of ``images.parquet``.
    pixels
        (N, size, size, 3), uint8, resized and cropped but not normalised; a read-only memory map unless generated.
    sha256
        Of the ordered set: ids, sha256 of the bytes, labels, and the preparation. The decoder's version is not in it.
    skipped
        (path, reason) of the images left out.
    decoder, decoder_version
        What decoded them.
    truth
        Where the elements of generated scenes are; None of other images, and where a margin was cut off.
    """

    table: pd.DataFrame
    pixels: np.ndarray
    sha256: str
    skipped: tuple[tuple[str, str], ...]
    decoder: str
    decoder_version: str
    truth: scenes.Truth | None = None


def cache_folder(table: study.ImagesTable, base: Path) -> Path:
    """Return the folder of decoded pixels: ``[images] cache``, ``$FEATURECOMPUTE_CACHE``, or the user's cache."""
    if table.cache:
        return base / Path(table.cache).expanduser()
    named = os.environ.get("FEATURECOMPUTE_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "featurecompute" / "pixels"


def prepare_images(
    table: study.ImagesTable,
    base: Path,
    preprocessing: Preparation,
    *,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, all_: None,
    workers: int | None = None,
) -> Images:
    """Return the images of a set as pixels, decoded now or found decoded.

    Parameters
    ----------
    table
        ``[images]`` of the study file.
    base
        Folder of the study file.
    preprocessing
        Anything with ``size``, ``resize`` and ``interpolation``: what `decoding.prepare` does.
    say
        Takes lines for the user.
    progress
        Takes (images decoded, all images).
    workers
        Processes that decode; the result does not depend on it. By default one a core where that is faster.

    Raises
    ------
    ImageError
        If there are no images, some are faulty (with ``faulty = "error"``, after all were looked at), or the decoded
        ones cannot be written.
    """
    check_preparation(preprocessing)
    recipe = Recipe(int(preprocessing.size), int(preprocessing.resize), str(preprocessing.interpolation))
    if table.source == "scenes":
        return _scenes(table, recipe)
    source = open_images(table, base)
    if source.ignored:
        say(f"{source.root}: {source.ignored:,} other or hidden files are passed over.")
    folder = cache_folder(table, base)
    hashes = _hash_all(source, folder, say)
    on_device = table.decoder == "nvjpeg"
    name, version = _device_decoder() if on_device else (DECODER, decoder_version())
    skip = table.faulty == "skip"
    decoder = f"{name} {version} / {RECIPE}"
    kept = keep(
        folder,
        source.kind,
        source.entries,
        hashes,
        recipe,
        decoder,
        skip=skip,
        on_device=on_device,
        workers=workers,
        say=say,
        progress=progress,
    )
    skipped = tuple((source.entries[place].path, reason) for place, reason in kept.faults)
    if skipped and (not skip or len(skipped) == len(source.entries)):
        raise ImageError(_complaint(skipped, len(source.entries), skip))
    return _images(source, hashes, kept, recipe, skipped, (name, version))


def _device_decoder() -> tuple[str, str]:
    """Return the name and version of what decodes on a device, after a look at whether it can."""
    from featurecompute import nvjpeg  # it needs torch, and this room does without

    nvjpeg.check_device()
    return nvjpeg.DECODER, nvjpeg.decoder_version()


def _images(
    source: ImageSource,
    hashes: Sequence[str],
    kept: Kept,
    recipe: Recipe,
    skipped: tuple[tuple[str, str], ...],
    decoder: tuple[str, str],
) -> Images:
    faulty = {place for place, _ in kept.faults}
    rows = [
        (entry.image, entry.path, sha, "natural", entry.label)
        for place, (entry, sha) in enumerate(zip(source.entries, hashes, strict=True))
        if place not in faulty
    ]
    return Images(
        pd.DataFrame(rows, columns=["image", "path", "sha256", "kind", "label"]),
        np.load(kept.pixels, mmap_mode="r"),
        hash_json([[[image, sha, label] for image, _, sha, _, label in rows], vars(recipe)]),
        skipped,
        *decoder,
    )


def _complaint(faults: Sequence[tuple[str, str]], total: int, skip: bool) -> str:
    """Return the one sentence on faulty images: how many, the first few, and what can be done."""
    named = "; ".join(f"{path}: {reason}" for path, reason in faults[:_NAMED])
    more = f"; and {len(faults) - _NAMED:,} more" if len(faults) > _NAMED else ""
    rest = "no image is left." if skip else 'mend or remove them, or set [images] faulty = "skip" to leave them out.'
    return f"{len(faults):,} of {total:,} images cannot be decoded ({named}{more}); {rest}"


def _scenes(table: study.ImagesTable, recipe: Recipe) -> Images:
    """Return generated scenes; they are not kept on disk, since what is true of them is made along with them."""
    made = scenes.generate(table.count, table.seed)
    pixels: np.ndarray = made.pixels
    rows = {
        "image": [f"{i:06d}" for i in range(len(pixels))],
        "path": [f"scenes:{table.seed}#{i}" for i in range(len(pixels))],
        "sha256": [hash_arrays(image) for image in pixels],
        "kind": "generated",
        "label": [str(label) for label in np.asarray(made.labels).tolist()],
    }
    if (recipe.size, recipe.resize) != (pixels.shape[1], pixels.shape[1]):
        pixels = np.stack([prepare(image, recipe) for image in pixels])
    return Images(
        pd.DataFrame(rows),
        pixels,
        hash_json([list(zip(rows["image"], rows["sha256"], rows["label"], strict=True)), vars(recipe)]),
        (),
        DECODER,
        decoder_version(),
        # Where a margin is cut off, elements no longer lie in the cells that the truth names.
        made.truth if recipe.resize == recipe.size else None,
    )


def _stamp(file: str, known: dict[str, Stamp | None]) -> Stamp | None:
    """Return (size, time of last change, time of last change of the record) of a file, looked up once."""
    if file not in known:
        try:
            found = Path(file).stat()
            known[file] = (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        except OSError:
            known[file] = None
    return known[file]


def _hash_all(source: ImageSource, folder: Path, say: Callable[[str], None]) -> list[str]:
    """Return the sha256 of every entry's bytes; files that are as they were are not read again."""
    memory = folder / "hashes" / f"{hash_json([source.kind, str(source.root.resolve())])[:32]}.parquet"
    known = _remembered(memory)
    stamps: dict[str, Stamp | None] = {}
    now = time.time_ns()
    hashes: list[str] = []
    unknown: list[int] = []
    for place, entry in enumerate(source.entries):
        stamp = _stamp(entry.file, stamps)
        held = known.get((entry.file, entry.start, entry.length))
        hashes.append(held[1] if held and held[0] == stamp else "")
        if not hashes[-1]:
            unknown.append(place)
    if not unknown:
        return hashes
    say(f"{len(unknown):,} of {len(source.entries):,} images are read to see which they are.")
    try:
        for place, sha in zip(unknown, _digests(source, [source.entries[i] for i in unknown]), strict=True):
            hashes[place] = sha
    finally:
        # Also after an interruption; a cache that cannot be written is complained of where pixels are.
        with contextlib.suppress(RunError, pa.ArrowException):
            _remember(memory, source.entries, hashes, stamps, now)
    return hashes


def _digests(source: ImageSource, entries: Sequence[Entry]) -> Any:
    """Give the sha256 of each entry's bytes in turn. Files of a folder are read several at once, which disks like."""

    def one(entry: Entry) -> str:
        with Reader(source.kind) as reader:
            content, _ = next(reader.read_all([entry]))
        return _UNREADABLE if content is None else digest(content)

    if source.kind == "folder":
        with ThreadPoolExecutor(8) as pool:
            for start in range(0, len(entries), 4096):
                yield from pool.map(one, entries[start : start + 4096])
        return
    with Reader(source.kind) as reader:
        for content, _ in reader.read_all(entries):
            yield _UNREADABLE if content is None else digest(content)


_COLUMNS = ("file", "start", "length", "size", "mtime_ns", "ctime_ns", "sha256")


def _remembered(memory: Path) -> dict[tuple[str, int, int], tuple[Stamp, str]]:
    """Return what is known of files from earlier; a damaged memory is none."""
    try:
        held = pq.read_table(memory, columns=list(_COLUMNS)).to_pydict()
    except (OSError, pa.ArrowException, KeyError):
        return {}
    rows = zip(*(held[column] for column in _COLUMNS), strict=True)
    return {
        (os.fsdecode(file), start, length): ((size, mtime, ctime), sha)
        for file, start, length, size, mtime, ctime, sha in rows
    }


def _remember(
    memory: Path, entries: Sequence[Entry], hashes: Sequence[str], stamps: dict[str, Stamp | None], now: int
) -> None:
    """Write what is known, but for files changed so lately that another change might leave the same time stamp."""
    rows = []
    for entry, sha in zip(entries, hashes, strict=True):
        stamp = stamps[entry.file]
        if stamp and sha not in {"", _UNREADABLE} and stamp[1] < now - _SETTLED:
            rows.append((os.fsencode(entry.file), entry.start, entry.length, *stamp, sha))
    columns = list(zip(*rows, strict=True)) or [()] * len(_COLUMNS)
    kinds = [pa.binary(), *[pa.int64()] * 5, pa.string()]
    with whole(memory) as part:
        pq.write_table(
            pa.table(
                [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], names=list(_COLUMNS)
            ),
            part,
        )
