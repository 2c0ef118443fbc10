"""One process at a time in a folder.

In: a folder.  Out: it is held while a block of code runs.  Knows not what is done there.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from psychostats.errors import InputError

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"


@contextlib.contextmanager
def held_alone(folder: Path, doing: str) -> Iterator[None]:
    """Make the folder if there is none, and hold it against other processes; the lock of a killed one is free.

    Parameters
    ----------
    folder
        Its parent is there.
    doing
        What another process would be doing there, in words: ``adding to``.

    Raises
    ------
    InputError
        If another process holds it, or it cannot be written.
    """
    lock = folder / LOCK
    try:
        folder.mkdir(exist_ok=True)
        file = lock.open("a+b")
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be written: {error.strerror}.") from error
    with file:
        if sys.platform != "win32":  # where there is no such lock; there a file that is open cannot be replaced either
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone = os.path.samestat(os.fstat(file.fileno()), lock.stat())  # not one that was just given up
            except OSError:
                alone = False
            if not alone:
                raise InputError(f"another process is {doing} {folder}; try again when it is done.")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()
                folder.rmdir()  # only where it is empty, since nothing was added
