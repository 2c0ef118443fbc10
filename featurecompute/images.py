"""Ordered sets of images: which there are, what they are called, and the bytes of each.

In: a folder, tar shards, Parquet files or an array.  Out: an `ImageSource` of entries in a fixed order, and a `Reader`
of their bytes.  Knows no decoder, no cache and no network.
"""

from __future__ import annotations

import glob
import gzip
import json
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurecompute import study
from featurecompute.errors import ImageError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
SHARDS = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a set, and where its bytes are.

    Parameters
    ----------
    image
        Id, once in the set: the path in the folder; ``SHARD/MEMBER``; ``FILE#ROW`` or the column ``id``; ``000123``.
    path
        Where a person finds it, beginning with the study file's own ``path``.
    label
        Class, if it has one.
    file
        File that holds the bytes.
    start, length
        Shards: place of the bytes in the unpacked tar. Parquet: row group, and row in it. Arrays: row, and 0.
        Folders: -1 and 0.
    """

    image: str
    path: str
    label: str | None
    file: str
    start: int = -1
    length: int = 0


@dataclass(frozen=True)
class ImageSource:
    """An ordered set of images, not yet decoded.

    Parameters
    ----------
    kind
        folder, shards, parquet or arrays.
    root
        Where it was found.
    entries
        Images in order.
    ignored
        Files or members that are hidden or no images; labels of shards are not counted.
    """

    kind: str
    root: Path
    entries: tuple[Entry, ...]
    ignored: int = 0


def open_images(table: study.ImagesTable, base: Path) -> ImageSource:
    """List the images of a set in their fixed order.

    Parameters
    ----------
    table
        ``[images]`` of the study file. ``folder``: every image below it, ordered by the code points of the path;
        its label is the first folder of that path. ``shards``: a tar file (``.tar``, ``.tar.gz``), a folder of them or
        a pattern such as ``train-*.tar``, in the order of their names, then of their members; a member of the same
        basename ending in ``.cls``, or ``.json`` with a key ``label``, gives the label. ``parquet``: a file or a
        folder of them with a column ``image`` of bytes, or of structs with ``bytes`` and ``path``; ``label``, ``id``
        and ``path`` are optional. ``arrays``: an ``.npy`` of shape (N, H, W, 3), or an ``.npz`` with ``images`` and,
        optionally, ``labels``; uint8, or floats from 0 to 1.
    base
        Folder of the study file.

    Raises
    ------
    ImageError
        If there is no such file or folder, it is not of that form, holds no image, or gives two images one id.
    """
    if not table.path:
        raise ImageError(f"[images] source '{table.source}' needs a path: the folder or file that holds the images.")
    root = base / Path(table.path).expanduser()
    makers = {"folder": _folder, "shards": _shards, "parquet": _parquet, "arrays": _arrays}
    if table.source not in makers:
        raise ImageError(f"[images] source '{table.source}' is not read from files; allowed are {', '.join(makers)}.")
    try:
        entries, ignored = makers[table.source](root, table.path)
    except OSError as error:
        raise ImageError(f"{error.filename or root} cannot be read: {error.strerror or error}.") from error
    if not entries:
        passed = f" ({ignored} other or hidden files were passed over)" if ignored else ""
        allowed = f"; images end in {', '.join(sorted(EXTENSIONS))}" if table.source in {"folder", "shards"} else ""
        raise ImageError(f"{root} holds no images{passed}{allowed}.")
    seen: dict[str, Entry] = {}
    for entry in entries:
        if seen.setdefault(entry.image, entry) is not entry:
            raise ImageError(f"{root} has two images with the id '{entry.image}'; ids must be unique.")
    return ImageSource(table.source, root, tuple(entries), ignored)


def _text(name: str) -> str:
    """Return a name that can be written as UTF-8; bytes that are not appear as ``\\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def _folder(root: Path, given: str) -> tuple[list[Entry], int]:
    """Walk a folder. Links are followed, but not into a folder that the path already runs through."""
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ImageError(f"[images] path: the folder {root} {what}; source 'folder' takes a folder of images.")
    found: list[Entry] = []
    ignored = 0
    above = root.stat()
    waiting: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(str(root), "", ((above.st_dev, above.st_ino),))]
    while waiting:
        folder, prefix, ancestors = waiting.pop()
        with os.scandir(folder) as items:
            for item in items:
                relative = f"{prefix}{item.name}"
                hidden = item.name.startswith(".")
                if item.is_dir():
                    stat = Path(item.path).stat()
                    mark = (stat.st_dev, stat.st_ino)
                    if not hidden and mark not in ancestors:
                        waiting.append((item.path, f"{relative}/", (*ancestors, mark)))
                elif hidden or not _is_image(item.name):
                    ignored += 1
                else:
                    name = _text(relative)
                    label = name.split("/", 1)[0] if "/" in name else None
                    found.append(Entry(name, f"{_text(given).rstrip('/')}/{name}", label, item.path))
    return sorted(found, key=lambda entry: entry.image), ignored


def _files(root: Path, endings: tuple[str, ...], what: str) -> list[tuple[str, Path]]:
    """Return (name, file) of the containers that a path means: itself, those in its folder, or those of a pattern."""
    if root.is_file():
        return [(root.name, root)]
    if root.is_dir():
        files = [file for file in root.rglob("*") if file.is_file()]
        top = root
    else:
        files = [Path(name) for name in glob.glob(str(root), recursive=True) if Path(name).is_file()]  # noqa: PTH207
        plain = list(root.parts[:-1])
        first = next((i for i, part in enumerate(plain) if glob.has_magic(part)), len(plain))
        top = Path(*plain[:first]) if first else Path()
    named = [(_text(file.relative_to(top).as_posix()), file) for file in files]
    named = [(name, file) for name, file in named if name.lower().endswith(endings) and "/." not in f"/{name}"]
    if not named:
        missing = "holds" if root.is_dir() else "does not exist, and names as a pattern"
        raise ImageError(f"[images] path: {root} {missing} no {what} ({', '.join(endings)}).")
    return sorted(named)


def _inside(root: Path, given: str, name: str) -> str:
    """Return the path of a container, beginning as the study file gives it."""
    if root.is_dir():
        return f"{_text(given).rstrip('/')}/{name}"
    fixed = list(PurePosixPath(given).parts[:-1])
    first = next((i for i, part in enumerate(fixed) if glob.has_magic(part)), len(fixed))
    return PurePosixPath(*fixed[:first], name).as_posix()


def _shards(root: Path, given: str) -> tuple[list[Entry], int]:
    found: list[Entry] = []
    ignored = 0
    for name, file in _files(root, SHARDS, "tar files"):
        images: list[tarfile.TarInfo] = []
        labels: dict[str, str] = {}
        try:
            with _unpacked(file) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in tar:
                    if not member.isreg():
                        continue
                    stem, _, ending = member.name.rpartition(".")
                    if PurePosixPath(member.name).name.startswith("."):
                        ignored += 1
                    elif _is_image(member.name):
                        images.append(member)
                    elif ending in {"cls", "json"}:
                        content = tar.extractfile(member)
                        label = _label(content.read() if content else b"", ending)
                        if label is not None and (ending == "cls" or stem not in labels):
                            labels[stem] = label
                    else:
                        ignored += 1
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ImageError(f"{file} is no readable tar file: {error}.") from error
        where = _inside(root, given, name)
        for member in images:
            inner = _text(member.name.removeprefix("./"))
            # Shards made by webdataset cut names at the first dot, others at the last.
            parent, _, base = member.name.rpartition("/")
            first = f"{parent}/{base.split('.', 1)[0]}" if parent else base.split(".", 1)[0]
            label = labels.get(member.name.rpartition(".")[0], labels.get(first))
            found.append(
                Entry(f"{name}/{inner}", f"{where}/{inner}", label, str(file), member.offset_data, member.size)
            )
    return found, ignored


def _label(content: bytes, ending: str) -> str | None:
    """Return the label that a shard's ``.cls`` or ``.json`` member gives, if it gives one."""
    try:
        text = content.decode("utf-8").strip()
        value = text if ending == "cls" else json.loads(text)
    except ValueError:
        return None
    if isinstance(value, dict):
        value = value.get("label")
    return str(value) if isinstance(value, str | int) and value != "" else None


def _unpacked(file: Path) -> IO[bytes]:
    """Open a tar file's own bytes, unpacked where it is packed."""
    with file.open("rb") as start:
        packed = start.read(2) == b"\x1f\x8b"
    return gzip.open(file, "rb") if packed else file.open("rb")  # type: ignore[return-value]  # GzipFile reads the same


def _parquet(root: Path, given: str) -> tuple[list[Entry], int]:
    found: list[Entry] = []
    for name, file in _files(root, (".parquet", ".pq"), "Parquet files"):
        try:
            with pq.ParquetFile(file) as parquet:
                schema = parquet.schema_arrow
                nested = _image_column(file, schema)
                columns = [column for column in ("label", "id", "path") if column in schema.names]
                columns += ["image.path"] if nested and schema.field("image").type.get_field_index("path") >= 0 else []
                rows = [parquet.metadata.row_group(i).num_rows for i in range(parquet.metadata.num_row_groups)]
                columns_read = parquet.read(columns=columns).to_pydict() if columns else {}
        except (pa.ArrowException, OSError) as error:
            raise ImageError(f"{file} is no readable Parquet file: {error}.") from error
        names = _class_names(schema)
        total = sum(rows)
        labels = columns_read.get("label", [None] * total)
        ids = columns_read.get("id", [None] * total)
        paths = columns_read.get("path", [image and image.get("path") for image in columns_read.get("image", [])])
        where = _inside(root, given, name)
        row = 0
        for group, count in enumerate(rows):
            for within in range(count):
                own = paths[row] if paths else None
                found.append(
                    Entry(
                        f"{name}#{row}" if ids[row] is None else str(ids[row]),
                        str(own) if own else f"{where}#{row}",
                        _class(labels[row], names),
                        str(file),
                        group,
                        within,
                    )
                )
                row += 1
    return found, 0


def _image_column(file: Path, schema: pa.Schema) -> bool:
    """Check the column of images and return whether it is one of structs."""
    if "image" not in schema.names:
        raise ImageError(f"{file} has no column 'image'; its columns are {', '.join(schema.names)}.")
    kind = schema.field("image").type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return True
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return False
    raise ImageError(f"{file}: column 'image' holds {kind}; allowed are bytes, or structs with 'bytes' and 'path'.")


def _class_names(schema: pa.Schema) -> list[str]:
    """Return the names of classes that Hugging Face's datasets keep in a file's metadata, or none."""
    try:
        record = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return [str(name) for name in record["info"]["features"]["label"]["names"]]
    except (ValueError, KeyError, TypeError):
        return []


def _class(value: Any, names: list[str]) -> str | None:
    """Return a label as text. Hugging Face writes -1 where there is none."""
    if names and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None
    return None if value is None else str(value)


def _arrays(root: Path, given: str) -> tuple[list[Entry], int]:
    if not root.is_file():
        what = "is a folder" if root.is_dir() else "does not exist"
        raise ImageError(f"[images] path: {root} {what}; source 'arrays' takes an .npy or .npz file.")
    images = load_images(root)
    labels: list[Any] = [None] * len(images)
    if root.suffix.lower() == ".npz":
        with np.load(root, allow_pickle=False) as held:
            if "labels" in held.files:
                labels = held["labels"].tolist()
        if len(labels) != len(images):
            raise ImageError(f"{root} holds {len(images)} images, but {len(labels)} labels.")
    found = [
        Entry(f"{i:06d}", f"{_text(given)}#{i}", None if label is None else str(label), str(root), i)
        for i, label in enumerate(labels)
    ]
    return found, 0


def load_images(file: Path) -> np.ndarray:
    """Return the array of images in an .npy (memory-mapped) or .npz file: (N, H, W, 3), uint8 or floats.

    Raises
    ------
    ImageError
        If it is no such array.
    """
    try:
        if file.suffix.lower() == ".npz":
            with np.load(file, allow_pickle=False) as held:
                if "images" not in held.files:
                    raise ImageError(f"{file} has no array 'images'; it holds {', '.join(held.files) or 'none'}.")
                images: np.ndarray = held["images"]
        else:
            images = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{file} is no readable NumPy file: {reason}.") from error
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:3]:
        turned = images.ndim == 4 and images.shape[1] == 3
        hint = " (this one has its channels before its height: transpose it with (0, 2, 3, 1))" if turned else ""
        raise ImageError(f"{file} has shape {images.shape}; allowed is images x height x width x 3{hint}.")
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise ImageError(f"{file} holds {images.dtype}; allowed are uint8 (0 to 255) and floats from 0 to 1.")
    return images


class Reader:
    """Reads the bytes of entries, keeping the last container open: entries in order cost one pass over it.

    Parameters
    ----------
    kind
        Of the `ImageSource` that the entries are from.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._file = ""
        self._group = -1
        self._held: Any = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open."""
        if hasattr(self._held, "close"):
            self._held.close()
        self._file, self._group, self._held = "", -1, None

    def read(self, entry: Entry) -> bytes | np.ndarray:
        """Return an image's encoded bytes, or, for arrays, its pixels (H, W, 3).

        Raises
        ------
        OSError, ValueError
            If they cannot be read; the text says why.
        """
        if self.kind == "folder":
            return Path(entry.file).read_bytes()
        if self.kind == "shards":
            if self._file != entry.file:
                self.close()
                self._held, self._file = _unpacked(Path(entry.file)), entry.file
            self._held.seek(entry.start)
            content: bytes = self._held.read(entry.length)
            if len(content) < entry.length:
                raise ValueError("the shard ends before the image does")
            return content
        if self.kind == "arrays":
            if self._file != entry.file:
                self.close()
                self._held, self._file = load_images(Path(entry.file)), entry.file
            return np.asarray(self._held[entry.start])
        if (self._file, self._group) != (entry.file, entry.start):
            self.close()
            with pq.ParquetFile(entry.file) as parquet:
                self._held = parquet.read_row_group(entry.start, columns=["image"]).column("image")
            self._file, self._group = entry.file, entry.start
        value = self._held[entry.length].as_py()
        value = value.get("bytes") if isinstance(value, dict) else value
        if value is None:
            raise ValueError("the row holds no bytes")
        return bytes(value)

    def read_all(self, entries: Iterable[Entry]) -> Iterator[tuple[bytes | np.ndarray | None, str]]:
        """Give (bytes or pixels, "") of each entry in turn, or (None, why it cannot be read)."""
        for entry in entries:
            try:
                yield self.read(entry), ""
            except (OSError, ValueError, zlib.error, EOFError, pa.ArrowException) as error:
                yield None, getattr(error, "strerror", None) or str(error) or type(error).__name__
