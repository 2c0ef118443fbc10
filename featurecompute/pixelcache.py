"""Decoded pixels on disk: made once, block by block, found again by what they were made from.

In: entries of an image source, and the recipe of the preparation.  Out: a folder with ``pixels.npy`` (or ``kept.npy``)
and ``index.json``, whole or not there.  Knows no network and no table of a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featurecompute.decoding import FaultyError, prepare
from featurecompute.errors import ImageError, RunError
from featurecompute.files import hash_arrays, hash_json, read_json, whole, write_json
from featurecompute.images import Entry, Reader

try:
    import fcntl
except ImportError:  # Windows: two processes that begin at once both decode, and the second finds the first's folder.
    fcntl = None  # type: ignore[assignment]

BLOCK = 256
"""Images decoded at once, and lost at most when a run is killed."""
_SCHEMA = "featurecompute-pixels/1"
_CHECKED = 256 * 2**20  # bytes compared with their checksums whenever a set is opened: about a tenth of a second


@dataclass(frozen=True)
class Recipe:
    """What is done to every image: see `decoding.Preparation`."""

    size: int
    resize: int
    interpolation: str


@dataclass(frozen=True)
class Kept:
    """A set of decoded images on disk.

    Parameters
    ----------
    pixels
        File of the array (kept, size, size, 3), uint8.
    faults
        (position among all entries, reason) of those that are not in it.
    """

    pixels: Path
    faults: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class _Job:
    number: int
    kind: str
    entries: tuple[Entry, ...]
    hashes: tuple[str, ...]
    recipe: Recipe
    file: str
    offset: int  # of the block's first byte in the file
    on_device: bool


def digest(content: bytes | np.ndarray) -> str:
    """Return the sha256 of an image's bytes, or of an array's type, shape and values."""
    return hash_arrays(content) if isinstance(content, np.ndarray) else hashlib.sha256(content).hexdigest()


_readers: dict[str, Reader] = {}  # a process keeps its container open from one block to the next


def _reader(kind: str) -> Reader:
    return _readers.setdefault(kind, Reader(kind))


def _close_readers() -> None:
    while _readers:
        _readers.popitem()[1].close()


def _decode_block(job: _Job) -> dict[str, Any]:
    """Decode a block into its place in the file, and return its checksum and faults."""
    size = job.recipe.size
    rows = np.zeros((len(job.entries), size, size, 3), dtype=np.uint8)
    faults: list[tuple[int, str]] = []
    readable: dict[int, bytes | np.ndarray] = {}
    for i, (content, reason) in enumerate(_reader(job.kind).read_all(job.entries)):
        if content is None:
            faults.append((i, reason))
            continue
        if digest(content) != job.hashes[i]:
            raise ImageError(f"{job.entries[i].path} was changed while the images were read; start again.")
        if job.on_device:
            readable[i] = content
            continue
        try:
            rows[i] = prepare(content, job.recipe)
        except FaultyError as error:
            faults.append((i, str(error)))
    for i, image in zip(readable, _prepare_on_device(list(readable.values()), job.recipe), strict=True):
        if isinstance(image, str):
            faults.append((i, image))
        else:
            rows[i] = image
    faults.sort()
    # A plain write: with a full disk it is an error, where writing to a memory map would end the process.
    with Path(job.file).open("r+b") as file:
        file.seek(job.offset)
        file.write(content := rows.tobytes())
    return {"block": job.number, "crc32": zlib.crc32(content), "faults": faults}


def _prepare_on_device(contents: Sequence[bytes | np.ndarray], recipe: Recipe) -> list[np.ndarray | str]:
    if not contents:
        return []
    from featurecompute import nvjpeg  # it needs torch, and this room does without

    return nvjpeg.prepare_all(contents, recipe, nvjpeg.decode_jpegs)


def _follow_parent() -> None:
    """End this process when the one that started it ends, even by SIGKILL."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run(jobs: Sequence[_Job], workers: int, say: Callable[[str], None]) -> Generator[dict[str, Any], None, None]:
    """Decode blocks here or in several processes; which, changes nothing but the order they end in."""
    done: set[int] = set()
    if workers > 1 and len(jobs) > 1:
        # Spawned, not forked: the caller may have threads (torch's) whose locks a fork would copy in any state.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(workers, len(jobs)), context, _follow_parent)
        try:
            for future in as_completed([pool.submit(_decode_block, job) for job in jobs]):
                record = future.result()
                done.add(record["block"])
                yield record
        except BrokenProcessPool:
            say("the processes that decode images ended early; going on in one process.")
        finally:
            pool.shutdown(cancel_futures=True)
    try:
        for job in jobs:
            if job.number not in done:
                yield _decode_block(job)
    finally:
        _close_readers()


def keep(
    folder: Path,
    kind: str,
    entries: Sequence[Entry],
    hashes: Sequence[str],
    recipe: Recipe,
    decoder: str,
    *,
    skip: bool,
    on_device: bool = False,
    workers: int | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> Kept:
    """Return the decoded set, made now if it is not there, continued if it was begun.

    Parameters
    ----------
    folder
        Of all sets.
    kind, entries, hashes
        Of the source; the sha256 of each entry's bytes.
    recipe, decoder
        What is done, and by which versions.
    skip
        Leave faulty images out; else a set with any is returned with `Kept.faults`, and its pixels are not there.
    on_device
        Whether JPEGs are decoded by `nvjpeg`, which takes one process; else by `decoding`.
    workers
        Processes; by default one for each core where it is worth it.

    Raises
    ------
    ImageError
        If the folder cannot be written to, or has too little space.
    """
    listed = [[entry.image, sha] for entry, sha in zip(entries, hashes, strict=True)]
    name = hash_json([_SCHEMA, listed, vars(recipe), decoder])[:32]
    final, part = folder / name, folder / f"{name}.part"
    found = _open(final, recipe, say)
    if found is not None:
        return found
    shape = (len(entries), recipe.size, recipe.size, 3)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f"{name}.lock", say):
            found = _open(final, recipe, say)  # another process may have ended while this one waited
            if found is not None:
                return found
            part.mkdir(exist_ok=True)
            records = _fill(
                part,
                shape,
                kind,
                entries,
                hashes,
                recipe,
                on_device=on_device,
                workers=1 if on_device else workers,
                say=say,
                progress=progress,
            )
            faults = [
                (BLOCK * number + i, reason) for number, record in records.items() for i, reason in record["faults"]
            ]
            if faults and not skip:
                return Kept(part / "pixels.npy", tuple(faults))
            _finish(part, shape, records, faults, recipe, decoder)
            part.replace(final)
    except OSError as error:
        raise ImageError(
            f"the cache of decoded images {folder} cannot be written: {error.strerror or error}. "
            "Name another folder with [images] cache or FEATURECOMPUTE_CACHE."
        ) from error
    except RunError as error:
        raise ImageError(str(error)) from error
    made = _open(final, recipe, say)
    if made is None:
        raise ImageError(f"the cache of decoded images {final} cannot be read back; its disk may be damaged.")
    return made


@contextlib.contextmanager
def _alone(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time fill a folder; the lock goes with the process, however that ends.

    The empty file stays: were it removed, one process could wait for the old file while another locks a new one.
    """
    if fcntl is None:
        yield
        return
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is decoding these images; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            say(f"{path.parent} lies on a file system without locks; only one process should decode there at a time.")
        yield


def _fill(
    part: Path,
    shape: tuple[int, ...],
    kind: str,
    entries: Sequence[Entry],
    hashes: Sequence[str],
    recipe: Recipe,
    *,
    on_device: bool,
    workers: int | None,
    say: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> dict[int, dict[str, Any]]:
    """Decode the blocks that are not there yet and return the record of every block, in order."""
    file = part / "pixels.npy"
    header = _create(file, shape, part.parent)
    row = int(np.prod(shape[1:]))
    records = _resume(part, file, shape, header)
    done = sum(min(BLOCK, shape[0] - BLOCK * number) for number in records)
    if done:
        say(f"{done:,} of {shape[0]:,} images were decoded before.")
    starts = range(0, shape[0], BLOCK)
    jobs = [
        _Job(
            number,
            kind,
            tuple(entries[start : start + BLOCK]),
            tuple(hashes[start : start + BLOCK]),
            recipe,
            str(file),
            header + row * start,
            on_device,
        )
        for number, start in enumerate(starts)
        if number not in records
    ]
    if workers is None:
        # A spawned process needs about a second to import what it decodes with: as long as some 400 images take.
        workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 32)
        workers = workers if len(jobs) >= 8 else 1
    with (
        (part / "blocks.jsonl").open("a", encoding="utf-8") as journal,
        contextlib.closing(_run(jobs, workers, say)) as made,
    ):
        journal.write("\n")  # a kill may have left half a line
        for record in made:
            journal.write(json.dumps(record) + "\n")
            journal.flush()
            records[record["block"]] = record
            done += min(BLOCK, shape[0] - BLOCK * record["block"])
            progress(done, shape[0])
    return dict(sorted(records.items()))


def _create(file: Path, shape: tuple[int, ...], folder: Path) -> int:
    """Make the file of an array of that shape unless it is there; return where its values begin."""
    if file.is_file():
        with contextlib.suppress(ValueError, EOFError):
            held = np.load(file, mmap_mode="r")
            if held.shape == shape and held.dtype == np.uint8:
                return int(held.offset)
    need, free = int(np.prod(shape)), shutil.disk_usage(folder).free
    if need > free:
        raise ImageError(
            f"the decoded images need {need / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB left. "
            "Name another folder with [images] cache or FEATURECOMPUTE_CACHE."
        )
    (file.parent / "blocks.jsonl").unlink(missing_ok=True)
    return int(np.lib.format.open_memmap(file, "w+", np.uint8, shape).offset)


def _resume(part: Path, file: Path, shape: tuple[int, ...], header: int) -> dict[int, dict[str, Any]]:
    """Return the records of the blocks that were ended and whose bytes are there."""
    journal = part / "blocks.jsonl"
    if not journal.is_file():
        return {}
    row = int(np.prod(shape[1:]))
    records: dict[int, dict[str, Any]] = {}
    with file.open("rb") as values:
        for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # the last line may be half
                record = json.loads(line)
                start = BLOCK * int(record["block"])
                values.seek(header + row * start)
                content = values.read(row * min(BLOCK, shape[0] - start))
                if zlib.crc32(content) == record["crc32"]:
                    records[int(record["block"])] = record
    return records


def _finish(
    part: Path,
    shape: tuple[int, ...],
    records: dict[int, dict[str, Any]],
    faults: list[tuple[int, str]],
    recipe: Recipe,
    decoder: str,
) -> None:
    """Leave the faulty images out and write the index, after which the folder is whole."""
    sums = [record["crc32"] for record in records.values()]
    name = "pixels.npy"
    if faults:
        name = "kept.npy"
        values = np.load(part / "pixels.npy", mmap_mode="r")
        rows = np.setdiff1d(np.arange(shape[0]), [place for place, _ in faults])
        sums = []
        with whole(part / name) as partial:
            held = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(rows), *shape[1:]))
            for start in range(0, len(rows), BLOCK):
                block = values[rows[start : start + BLOCK]]
                held[start : start + BLOCK] = block
                sums.append(zlib.crc32(block))
            held.flush()
    content = {"schema": _SCHEMA, "pixels": name, "bytes": (part / name).stat().st_size, "crc32": sums}
    content |= {"faults": faults, "recipe": vars(recipe), "decoder": decoder}
    write_json(part / "index.json", content | {"sha256": hash_json(content)})
    if faults:
        (part / "pixels.npy").unlink()
    (part / "blocks.jsonl").unlink(missing_ok=True)


def _open(final: Path, recipe: Recipe, say: Callable[[str], None]) -> Kept | None:
    """Return a finished set, or None where there is none; a damaged one is thrown away."""
    if not final.is_dir():
        return None
    try:
        index = read_json(final / "index.json")
        content = {key: value for key, value in index.items() if key != "sha256"}
        file = final / str(index["pixels"])
        whole_ = hash_json(content) == index["sha256"] and file.stat().st_size == index["bytes"]
        whole_ = whole_ and _sums_agree(file, index["crc32"], recipe)
        if whole_:
            return Kept(file, tuple((int(place), str(reason)) for place, reason in index["faults"]))
    except (RunError, OSError, KeyError, TypeError, ValueError, AttributeError):
        pass
    say(f"{final} is damaged; its images are decoded again.")
    aside = final.with_name(f"{final.name}.damaged-{os.getpid()}")
    try:
        final.replace(aside)
    except OSError as error:
        raise ImageError(f"{final} is damaged and cannot be removed: {error.strerror}.") from error
    shutil.rmtree(aside, ignore_errors=True)
    return None


def _sums_agree(file: Path, sums: Sequence[int], recipe: Recipe) -> bool:
    """Compare blocks with their checksums: all of a small set, evenly spread ones of a large one."""
    held = np.load(file, mmap_mode="r")
    step = max(1, -(-len(sums) * BLOCK * 3 * recipe.size**2 // _CHECKED))
    blocks: Iterable[int] = range(0, len(sums), step)
    return all(zlib.crc32(held[BLOCK * i : BLOCK * (i + 1)]) == sums[i] for i in blocks)
