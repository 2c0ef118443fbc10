"""Files that are there whole or not at all, and the hashes they are known by.

In: bytes, JSON values, NumPy arrays.  Out: files and hashes.  Knows no table and no run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save, save_file

from featurecompute.errors import RunError


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a name to write to; the file takes its own name when the block ends well, and vanishes when it does not.

    Raises
    ------
    RunError
        If the place cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.part-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}.") from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a folder to write in; it takes its own name when the block ends well, and vanishes when it does not.

    Parameters
    ----------
    path
        The name, which must be free or an empty folder's.

    Raises
    ------
    RunError
        If the place, or a file in the folder, cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.part-", dir=path.parent))
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        yield part
        part.chmod(0o755)
        part.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.") from error
    except RunError as error:  # of a file within, which is told by the name that it was to have
        raise RunError(str(error).replace(str(part), str(path))) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """Return the sha256 of a nested value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def hash_arrays(*arrays: np.ndarray) -> str:
    """Return the sha256 of arrays: their types, shapes and bytes."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def plain(value: Any) -> Any:
    """Return nested values ready for JSON: NumPy scalars as Python's, NaN and infinities as None, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def write_json(path: Path, value: Any) -> None:
    """Write a nested value as JSON."""
    with whole(path) as part:
        part.write_text(json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises
    ------
    RunError
        If the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not valid JSON'}."
        ) from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays as safetensors, in the order of their names, so that equal arrays make equal bytes.

    Raises
    ------
    RunError
        If the place cannot be written to, or the disk is full.
    """
    ordered = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    with whole(path) as part:
        if metadata:
            part.write_bytes(_with_metadata(save(ordered), metadata))
        else:
            try:
                save_file(ordered, part)
            except SafetensorError as error:  # the library's own, also where the disk is full
                reason = str(error).rpartition("I/O error: ")[2].partition(" (os error")[0]
                raise RunError(f"{path} cannot be written: {reason}.") from error


def _with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of safetensors with metadata; the library itself writes its keys in an order left to chance."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(content[8:start])}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays stay aligned
    return len(text).to_bytes(8, "little") + text + content[start:]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read named arrays.

    Raises
    ------
    RunError
        If the file is missing or damaged.
    """
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be read: {error}.") from error
