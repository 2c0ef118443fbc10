"""Where a command's words go: data to stdout, talk to stderr; and where its libraries keep their caches.

In: text and values.  Out: nothing.  Knows no command.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def say(line: str, quiet: bool = False) -> None:
    """Say a line on stderr."""
    if not quiet:
        with contextlib.suppress(BrokenPipeError):
            print(line, file=sys.stderr, flush=True)


def print_data(text: str) -> None:
    """Print data; a reader that has seen enough (``| head``) is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def count(number: int, what: str) -> str:
    """Return ``3 trials``, ``1 trial``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def count_dropped(rows: int, infinite: int) -> str:
    """Return how many rows were dropped, those that lack a value apart from those with an infinite one."""
    lacking = rows - infinite
    parts = [f"{count(lacking, 'row')} that lack{'s' * (lacking == 1)} a value"] if lacking else []
    if infinite:
        parts.append(f"{count(infinite, 'row')} with an infinite one")
    return " and ".join(parts)


def counter(what: str, shown: bool) -> Callable[[int, int], None]:
    """Return what shows on one line of stderr how many are done of how many; nothing where it is not to be shown."""

    def show(done: int, every: int) -> None:
        if shown:
            print(f"\r{what}: {done} of {every}", end="" if done < every else "\n", file=sys.stderr, flush=True)

    return show


def print_json(value: Any) -> None:
    """Print a nested value as JSON, full precision."""
    print_data(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def find_cache() -> None:
    """Give the libraries below a place for their caches where the user's home cannot be written to: they would fail."""
    home = Path("~").expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    above = next(path for path in (cache, *cache.parents) if path.exists())
    if os.access(above, os.W_OK) and os.access(home, os.W_OK):
        return
    folder = tempfile.mkdtemp(prefix="psychostats-cache-")
    os.environ["XDG_CACHE_HOME"] = folder
    os.environ.setdefault("MPLCONFIGDIR", folder)
    flags = os.environ.get("PYTENSOR_FLAGS", "")
    if "base_compiledir" not in flags:
        os.environ["PYTENSOR_FLAGS"] = ",".join([*filter(None, [flags]), f"base_compiledir={folder}/pytensor"])
