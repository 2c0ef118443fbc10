"""What of a process can change a number: the versions of Python, of this package's code and of the libraries.

In: nothing.  Out: their names and versions, and in words how those of another process differ.  Knows no process but
its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

#: Libraries whose version can change a number of any fit, and of one engine's.
LIBRARIES = ("psychostats", "formulaic", "numpy", "scipy", "pandas")
OWN_LIBRARIES = {"pymc": ("pymc", "pytensor", "nutpie", "numba")}

_OWN = "psychostats"


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those libraries that are installed."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@cache
def environment() -> dict[str, str]:
    """Return what of this process can change a number, by name.

    The code is digested once, when it is first asked for: of a process that goes on for days, it is the code that the
    process has loaded, whatever was changed on disk since.

    Returns
    -------
    dict
        ``python`` (``3.11``), ``psychostats`` (``0.1.0 (code 3fa2c19d)``), ``compiled sampler`` (``yes`` or ``no``),
        and the libraries.
    """
    found = versions(dict.fromkeys((*LIBRARIES, *(name for own in OWN_LIBRARIES.values() for name in own))))
    version = found.pop(_OWN, "")
    compiled = importlib.util.find_spec(f"{_OWN}._native") is not None
    return {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        _OWN: f"{version} (code {_digest(Path(__file__).parent)[:8]})".strip(),
        "compiled sampler": "yes" if compiled else "no",
        **found,
    }


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Say how another process differs, ``numpy 1.26.0 where this process has 2.1.3``; nothing where it does not."""
    return ", ".join(
        f"{name} {there[name]} where this process has {here.get(name, 'none')}"
        if name in there
        else f"no {name} where this process has {here[name]}"
        for name in {**here, **there}
        if there.get(name) != here.get(name)
    )


def _digest(folder: Path) -> str:
    """Return the hash of a package's Python code."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        found.update(f"{path.name} {len(content)}\n".encode() + content)
    return found.hexdigest()
