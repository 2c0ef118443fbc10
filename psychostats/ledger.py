"""The ledger of a study that grows: which file came when, with its hash.

In: a study file, and rows about files.  Out: the ledger in a folder beside the study file, checked, and whether a file
came before.  Knows no trial, no model and no report.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from psychostats.errors import InputError
from psychostats.parts import Source
from psychostats.study import Study, read_study

LEDGER = (
    "batch", "added", "file", "sha256", "size", "tool", "rows", "participants", "status", "stored", "stored_sha256",
    "study_sha256", "key_fingerprint",
)  # fmt: skip
_COUNTS = ("batch", "size", "rows", "participants")
_OF_BATCH = ("added", "participants", "stored", "stored_sha256", "study_sha256", "key_fingerprint")

# What may stand in a cell; others are text.
_HASH = re.compile(r"[0-9a-f]{64}")
_ALLOWED: dict[str, tuple[Callable[[str], Any], str]] = {
    **{name: (re.compile(r"\d{1,15}").fullmatch, "a whole number from 0") for name in _COUNTS},
    **dict.fromkeys(("sha256", "stored_sha256", "study_sha256"), (_HASH.fullmatch, "64 hex digits")),
    "added": (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").fullmatch, "a time such as 2026-01-31T12:00:00Z"),
    "status": (("added", "skipped").__contains__, "added and skipped"),
}

# A spreadsheet takes a cell that begins so for a formula (OWASP, "CSV Injection"). An apostrophe before it shows that
# it is text; one goes before an apostrophe too, so that it can be undone.
_EVALUATED = ("=", "+", "-", "@", "\t", "\r", "'")


@dataclass(frozen=True)
class Ledger:
    """Which files a study was extended by.

    Parameters
    ----------
    path
        The file ``NAME.additions/ledger.csv`` beside the study file ``NAME.toml``; absent while nothing was added.
    rows
        One row a file in the order they came, with the columns `LEDGER`: number of the addition (from 1), time (UTC),
        the file's name, hash, size (bytes), tool and trials, the participants of its addition, ``added`` or
        ``skipped``, the stored table and its hash, the hash of the study file, and the fingerprint of the pseudonyms'
        key.
    own
        The study's own trials, as ``[study] trials`` names them, by hash.
    """

    path: Path
    rows: pd.DataFrame
    own: tuple[Source, ...] = ()

    @property
    def batches(self) -> int:
        """How many additions there are."""
        return int(self.rows["batch"].max()) if len(self.rows) else 0

    @property
    def _added(self) -> pd.DataFrame:
        """The rows of files that were read; one that was skipped may come again."""
        return self.rows[self.rows["status"] == "added"]

    @property
    def hashes(self) -> frozenset[str]:
        """The hashes of all files that came before."""
        return frozenset(self._added["sha256"]) | {one.sha256 for one in self.own}

    def known(self, sources: Sequence[Source]) -> list[tuple[Source, int, str]]:
        """Return which of these files came before, whatever they are called.

        Parameters
        ----------
        sources
            Files with the hashes of their bytes.

        Returns
        -------
        list of tuple
            The file, the addition it came with (0: the study's own trials) and when (empty for the study's own).  One
            that was skipped may come again, since it may be readable by then.
        """
        came = {one.sha256: (0, "") for one in self.own}
        added = self._added
        for sha256, batch, when in zip(added["sha256"], added["batch"], added["added"], strict=True):
            came.setdefault(sha256, (int(batch), when))
        return [(source, *came[source.sha256]) for source in sources if source.sha256 in came]


# Reading ---------------------------------------------------------------------------------------------------------


def read_ledger(study: Study | str | Path) -> Ledger:
    """Read the ledger of a study, and check that the tables it names are there and unchanged.

    Parameters
    ----------
    study
        The study, or its file.

    Returns
    -------
    Ledger
        Without rows where nothing was added.

    Raises
    ------
    InputError
        If the ledger is damaged, naming the line, or a stored table is missing or has another hash, naming it.
    """
    study = study if isinstance(study, Study) else read_study(study)
    path = study.path.with_suffix(".additions") / "ledger.csv"
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        rows = pd.DataFrame({name: pd.Series(dtype="int64" if name in _COUNTS else "str") for name in LEDGER})
        return Ledger(path, rows, _own(study))
    except OSError as error:
        raise InputError(f"the ledger {path} cannot be read: {error.strerror}.") from error
    rows = _parse(path, content)
    for name, expected in dict(zip(rows["stored"], rows["stored_sha256"], strict=True)).items():
        try:
            found = _sha256(path.with_name(name))
        except OSError as error:
            raise InputError(
                f"the table {path.with_name(name)}, which the ledger names, cannot be read: {error.strerror}."
            ) from error
        if found != expected:
            raise InputError(
                f"the table {path.with_name(name)} is not the one that was stored: its sha256 is {found[:12]}..., the "
                f"ledger's is {expected[:12]}...; put the stored one back."
            )
    return Ledger(path, rows, _own(study))


def _own(study: Study) -> tuple[Source, ...]:
    """Return the files of ``[study] trials``, or none where they are not there."""
    place = study.path.parent / study.study.trials
    if not study.study.trials or not place.exists():
        return ()
    files = sorted(one for one in place.rglob("*") if one.is_file()) if place.is_dir() else [place]
    try:
        return tuple(Source(one.name, _sha256(one), one.stat().st_size) for one in files)
    except OSError as error:
        raise InputError(f"the study's trials {place} cannot be read: {error.strerror}.") from error


def _parse(path: Path, content: bytes) -> pd.DataFrame:
    """Turn the ledger's text into rows; what a spreadsheet's user or a full disk may have done to it is named."""
    rows: list[dict[str, str]] = []
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        header = next(reader, [])
        if tuple(header) != LEDGER:
            raise InputError(f"the ledger {path} is damaged in line 1: its columns must be {', '.join(LEDGER)}.")
        line = reader.line_num + 1
        for cells in reader:
            where = f"the ledger {path} is damaged in line {line}"
            if len(cells) != len(LEDGER):
                raise InputError(f"{where}: it has {len(cells)} cells; allowed are {len(LEDGER)}.")
            row = {name: _shown(cell) for name, cell in zip(LEDGER, cells, strict=True)}
            _check_row(where, row, rows)
            rows.append(row)
            line = reader.line_num + 1
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"the ledger {path} is damaged in line {line}: it is not UTF-8.") from error
    except csv.Error as error:
        raise InputError(f"the ledger {path} is damaged in line {line}: {error}.") from error
    if not rows or not content.endswith(b"\n"):
        raise InputError(f"the ledger {path} is damaged in line {line - bool(rows)}: it ends too early.")
    frame = pd.DataFrame(rows, columns=list(LEDGER), dtype="str")
    return frame.astype(dict.fromkeys(_COUNTS, "int64"))


def _check_row(where: str, row: dict[str, str], before: Sequence[dict[str, str]]) -> None:
    for name, (fits, allowed) in _ALLOWED.items():
        if not fits(row[name]):
            raise InputError(f"{where}: {name} is '{row[name]}'; allowed is {allowed}.")
    last, batch = int(before[-1]["batch"]) if before else 0, int(row["batch"])
    if batch == 0 or batch not in (last, last + 1):
        raise InputError(f"{where}: batch is {batch} after {last}; additions are numbered 1, 2, ... in order.")
    if row["stored"] != table_name(batch):
        raise InputError(f"{where}: stored is '{row['stored']}'; that of addition {batch} is {table_name(batch)}.")
    for name in _OF_BATCH:
        if batch == last and row[name] != before[-1][name]:
            raise InputError(f"{where}: {name} is not that of the line before, which is of the same addition.")


# Writing ---------------------------------------------------------------------------------------------------------


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """Replace a ledger by one with these rows."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")  # else a carriage return in a cell is not quoted
    writer.writerow(LEDGER)
    writer.writerows([_hidden(str(cell)) for cell in row] for row in rows[list(LEDGER)].itertuples(index=False))
    write_durably(path, text.getvalue().encode("utf-8", "backslashreplace"))


def _hidden(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_EVALUATED) else cell


def _shown(cell: str) -> str:
    return cell.removeprefix("'")


def table_name(batch: int) -> str:
    return f"{batch:04d}_trials.parquet"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_durably(path: Path, content: bytes) -> None:
    """Write a file that is there wholly or not at all, also after a power cut."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
