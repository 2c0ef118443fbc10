"""Files, folders and archives, one file at a time, so that no more than one need be in memory.

In: the path of a file, a folder or a ZIP archive.  Out: its files' names and bytes in the order of their names, and
what is wrong with them.  Knows no format but ZIP.
"""

from __future__ import annotations

import io
import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from psychostats.errors import DataError, Fault

ARCHIVES = (".zip", ".jzip")
#: The most bytes that an archive may hold, unpacked, and one file of it.
MOST_BYTES = 8 << 30
MOST_BYTES_OF_ONE = 1 << 30
#: The most bytes that a byte of an archive may become, once a file is larger than `SMALL`: recordings that repeat the
#: paths of their images reach about 60, a bomb 1,000.
MOST_RATIO = 250
SMALL = 4 << 20

_CHUNK = 1 << 20
_DRIVE = re.compile(r"^[A-Za-z]:")
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, struct.error)


@dataclass(frozen=True)
class Blob:
    """One file of what was given.

    Parameters
    ----------
    name
        Where it lies, from the folder or archive that was given; of a single file its name.
    data
        Its bytes; none where it has a `fault` or was passed over.
    fault
        Why it could not be read.
    passed
        Whether it is of a kind that nobody reads.
    path
        The file itself, where it lies in no archive.
    """

    name: str
    data: bytes = b""
    fault: Fault | None = None
    passed: bool = False
    path: Path | None = None


def open_blobs(source: Path, wanted: Callable[[str], bool]) -> Iterator[Blob]:
    """Yield every file of a file, a folder or an archive, in the order of their names.

    Hidden files and those of ``__MACOSX`` are no files.  A folder is searched with what is below it, and an archive in
    it, or in an archive, is opened; one within that is not.

    Parameters
    ----------
    source
        What was given; it exists.
    wanted
        Says of a file's name whether anybody reads it; the others are passed over, unread.
    """
    if source.is_dir():
        yield from _folder(source, wanted)
    elif source.suffix.lower() in ARCHIVES:
        yield from _archive(source, "", wanted, nested=False)
    else:
        yield _file(source, source.name)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _file(path: Path, name: str) -> Blob:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return Blob(name, fault=_fault(name, "is no regular file (a pipe or a device)"))
        data = path.read_bytes()
    except OSError as error:
        return Blob(name, fault=_fault(name, f"cannot be read: {error.strerror or error}"))
    return Blob(name, data, path=path) if data else Blob(name, fault=_fault(name, "is empty (0 bytes)"))


def _folder(root: Path, wanted: Callable[[str], bool]) -> Iterator[Blob]:
    names = []
    for folder, below, files in os.walk(root):
        # Links to folders are not followed by os.walk; they are named so that nothing is lost silently.
        links = [one for one in below if Path(folder, one).is_symlink()]
        names += [Path(folder, one).relative_to(root).as_posix() for one in (*files, *links)]
    inside = root.resolve()
    for name in sorted(name for name in names if not _hidden(name)):
        path = root / name
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            yield Blob(name, fault=_fault(name, "is a link that leaves the folder, which is not followed"))
        elif path.is_dir() or not (wanted(name) or path.suffix.lower() in ARCHIVES):
            yield Blob(name, passed=True)
        elif path.suffix.lower() in ARCHIVES and path.exists() and path.stat().st_size:
            yield from _archive(path, f"{name}/", wanted, nested=False)
        else:
            yield _file(path, name)


class _Budget:
    """What may still be unpacked of one archive and those in it."""

    def __init__(self) -> None:
        self.left = MOST_BYTES


def _archive(
    source: Path | io.BytesIO,
    prefix: str,
    wanted: Callable[[str], bool],
    *,
    nested: bool,
    called: str = "",
    budget: _Budget | None = None,
) -> Iterator[Blob]:
    called = called or prefix.rstrip("/") or (source.name if isinstance(source, Path) else "")
    budget = budget or _Budget()
    try:
        archive = zipfile.ZipFile(source)
    except (*_DAMAGED, NotImplementedError) as error:
        yield Blob(called, fault=_fault(called, f"cannot be read as a ZIP archive: {_reason(error)}"))
        return
    with archive:
        seen: set[str] = set()
        for info in sorted(archive.infolist(), key=lambda one: one.filename):
            name = prefix + info.filename
            if problem := _refused(info):
                yield Blob(name, fault=_fault(name, problem))
                continue
            if info.is_dir() or _hidden(info.filename):
                continue
            inner = Path(info.filename).suffix.lower() in ARCHIVES
            if not (wanted(info.filename) or (inner and not nested)):
                yield Blob(name, passed=True)
                continue
            if info.filename in seen:
                yield Blob(name, fault=_fault(name, "stands twice in its archive"))
                continue
            seen.add(info.filename)
            try:
                data = _unpack(archive, info, name, budget)
            except DataError as error:
                yield Blob(name, fault=error.faults[0])
                if budget.left <= 0:
                    return
                continue
            if not data:
                yield Blob(name, fault=_fault(name, "is empty (0 bytes)"))
            elif inner:
                more = io.BytesIO(data)
                yield from _archive(more, f"{name}/", wanted, nested=True, called=name, budget=budget)
            else:
                yield Blob(name, data)


def _refused(info: zipfile.ZipInfo) -> str | None:
    """Say why a member of an archive is not even looked at."""
    name = info.orig_filename
    if name.startswith("/") or "\\" in name or _DRIVE.match(name) or ".." in name.split("/"):
        return "leaves its archive (its path is absolute, or holds '..', a backslash or a drive)"
    if "\0" in name:
        return "has a NUL byte in its name"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link, which is not followed"
    if info.flag_bits & 0x1:
        return "is encrypted; take it out of its archive first"
    return None


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, budget: _Budget) -> bytes:
    """Return the bytes of a member, counted while they come, as what its header says may be wrong."""
    most = min(MOST_BYTES_OF_ONE, budget.left, max(SMALL, MOST_RATIO * info.compress_size))
    parts, size = [], 0
    try:
        with archive.open(info) as file:
            while part := file.read(_CHUNK):
                size += len(part)
                budget.left -= len(part)
                if size > most:
                    message = (
                        f"unpacks to more than {most:,} bytes from {info.compress_size:,}, which looks like a ZIP "
                        "bomb; take it out of its archive if it is not"
                    )
                    raise DataError([_fault(name, message)])
                parts.append(part)
    except (*_DAMAGED, NotImplementedError, RuntimeError) as error:
        raise DataError([_fault(name, f"cannot be unpacked: {_reason(error)}")]) from error
    return b"".join(parts)


def _fault(name: str, problem: str) -> Fault:
    return Fault(f"File '{name}' {problem}.", file=name)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
