"""A fit's directory: written at once or not at all, verified when it is read, and never put in place of anything else.

In: a spec's table, a summary, draws, provenance and timings.  Out: five files, no pickles, and the same things again.
Knows what the files are called and whether they are whole; it knows no model.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w
import xarray as xr

from psychostats import netcdf
from psychostats.errors import FitError

SCHEMA = "psychostats-fit/1"
# Files whose hashes provenance.json holds; timings differ from run to run, so they are left out.
_HASHED = ("spec.toml", "summary.csv", "draws.nc")
_FILES = (*_HASHED, "timings.json", "provenance.json")


@dataclass(frozen=True)
class Stored:
    """What a fit's directory holds.

    Parameters
    ----------
    spec
        The table in spec.toml: the model, and how it was sampled.
    groups
        Labelled draws or estimates, with the trials they belong to.
    provenance, timings
        Where the fit comes from, and seconds by stage.
    """

    spec: dict[str, Any]
    groups: Mapping[str, xr.Dataset]
    provenance: dict[str, Any]
    timings: dict[str, float]


def held_key(path: Path) -> str | None:
    """Return the key of the fit that `path` holds, or None if the place is free.

    Raises
    ------
    FitError
        If `path` holds anything that is not a fit's.
    """
    try:
        if not path.exists():
            return None
        if not path.is_dir():
            raise FitError(f"{path} is a file; give a directory for the fit.")
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        raise FitError(f"{path} cannot be looked into: {error.strerror}.") from error
    if not names:
        return None
    if "provenance.json" not in names:
        raise FitError(f"{path} is not empty and holds no fit; give another directory, so that nothing is lost.")
    key = str(_parse_provenance(path).get("key"))
    foreign = next((name for name in names if name not in _FILES), None)
    if foreign is not None:
        raise FitError(f"{path} holds '{foreign}' beside its fit; move it, or give another directory.")
    return key


def require_writable(path: Path) -> None:
    """Refuse a place that cannot be written to, before any time is spent on it.

    Raises
    ------
    FitError
        If a parent is a file, the place is a mount point, or it may not be written to.
    """
    above = next(parent for parent in path.parents if os.path.lexists(parent))
    if not above.is_dir():
        raise FitError(f"{path} cannot be written: {above} is no directory.")
    if os.path.ismount(path):
        raise FitError(f"{path} is where a disk is mounted and cannot be replaced; give a directory within it.")
    part = _beside(above / path.name, "part")
    try:
        # What writing will do later: make a directory of a longer name beside the place, and rename the place itself.
        try:
            part.mkdir(mode=0o700)
        finally:
            if part.exists():
                part.rmdir()
        if path.exists() and not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"no permission to write in {path}")
    except PermissionError as error:
        where = error.strerror if error.filename is None else f"no permission to write in {above}"
        raise FitError(f"{path} cannot be written: {where}.") from error
    except OSError as error:
        raise FitError(f"{path} cannot be written: {error.strerror}.") from error


def _require_space(groups: Mapping[str, xr.Dataset], folder: Path) -> None:
    """Refuse a disk without room for the draws: the library that writes them would end the process."""
    needed = sum(group.nbytes for group in groups.values()) + 1_000_000
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"no space left: {needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free")


def write(path: Path, stored: Stored, summary: pd.DataFrame, *, overwrite: bool = False) -> dict[str, Any]:
    """Write a fit.

    Parameters
    ----------
    path
        Directory; its parents are made.
    stored
        What to write; its provenance needs a ``key``.
    summary
        Table of terms; it follows from the draws and is there for other readers.
    overwrite
        Replace another fit. The same fit is replaced in any case, anything else in none.

    Returns
    -------
    dict
        The provenance as it was written, with the hashes of the files.

    Raises
    ------
    FitError
        If `path` holds something that must not be replaced, or cannot be written.
    """
    if held_key(path) not in (None, stored.provenance["key"]) and not overwrite:
        raise another_fit(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = _beside(path, "part")
        try:
            part.mkdir(mode=0o700)
            _write_text(part / "spec.toml", tomli_w.dumps(stored.spec))
            summary.to_csv(part / "summary.csv", index=False)
            _require_space(stored.groups, part)
            netcdf.write(stored.groups, part / "draws.nc")
            provenance = plain(stored.provenance | {"files": {name: _file_hash(part / name) for name in _HASHED}})
            provenance["seal"] = _seal(provenance)
            _write_json(part / "timings.json", stored.timings)
            _write_json(part / "provenance.json", provenance)
            part.chmod(0o755)
            _replace_directory(part, path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    except OSError as error:
        raise FitError(f"{path} cannot be written: {error.strerror or error}.") from error
    return dict(provenance)


def read(path: Path) -> Stored:
    """Read a fit and verify that its files are those that were written.

    Raises
    ------
    FitError
        If the directory holds no fit, or a file is missing, was changed or is damaged.
    """
    if not (path / "provenance.json").is_file():
        raise FitError(
            f"{path} is no fit: it has no provenance.json. A fit is a directory that 'psychostats fit' wrote."
        )
    provenance = _parse_provenance(path)
    if provenance["schema"] != SCHEMA:
        raise FitError(
            f"{path} was written in the form {provenance['schema']}; this version reads {SCHEMA}. Fit again with "
            "--overwrite."
        )
    if provenance.get("seal") != _seal(provenance):
        raise _damaged(path, "provenance.json")
    for name in _FILES:
        if not (path / name).is_file():
            raise FitError(f"{path} is damaged: {name} is missing. Fit again with --overwrite.")
        if name in _HASHED and _file_hash(path / name) != provenance.get("files", {}).get(name):
            raise _damaged(path, name)
    try:
        timings = json.loads((path / "timings.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, "timings.json") from error
    return Stored(
        spec=tomllib.loads((path / "spec.toml").read_text(encoding="utf-8")),
        groups=netcdf.read(path / "draws.nc"),
        provenance=provenance,
        timings=timings,
    )


def another_fit(path: Path) -> FitError:
    """Return the error of a directory that holds a fit which was not asked for."""
    return FitError(
        f"{path} holds another fit (other data, formula, settings or versions); give another directory, or --overwrite."
    )


def plain(value: Any) -> Any:
    """Return nested values ready for JSON: NumPy scalars as Python's, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table ready for JSON: plain values, None where a cell is missing."""
    rows: list[dict[str, Any]] = plain(table.astype(object).where(table.notna(), None).to_dict(orient="records"))
    return rows


def digest(value: Any) -> str:
    """Return the sha256 of a nested value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _parse_provenance(path: Path) -> dict[str, Any]:
    try:
        found = json.loads((path / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FitError(
            f"{path} is damaged: provenance.json cannot be read. Fit again in another directory, or remove this one."
        ) from error
    if not isinstance(found, dict) or not str(found.get("schema")).startswith(SCHEMA.partition("/")[0]):
        raise FitError(f"{path} is no fit: its provenance.json is not of psychostats.")
    return found


def _seal(provenance: Mapping[str, Any]) -> str:
    """Return the hash of everything else in provenance.json, so that a change there shows."""
    return digest({key: value for key, value in provenance.items() if key != "seal"})


def _damaged(path: Path, name: str) -> FitError:
    return FitError(f"{path} is damaged: {name} is not the file that was written. Fit again with --overwrite.")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _write_json(path: Path, value: Any) -> None:
    _write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _replace_directory(new: Path, old: Path) -> None:
    """Put `new` where `old` is; on failure `old` is put back, and a crash between leaves both whole beside it."""
    if not old.exists():
        new.rename(old)
        return
    aside = _beside(old, "old")
    aside.mkdir(mode=0o700)
    old.rename(aside / "fit")
    try:
        new.rename(old)
    except BaseException:
        (aside / "fit").rename(old)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _beside(path: Path, what: str) -> Path:
    """Return a name beside `path` that nothing has; known before it is made, so that no interruption leaves it."""
    return path.with_name(f".{path.name}.{what}-{secrets.token_hex(4)}")


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
