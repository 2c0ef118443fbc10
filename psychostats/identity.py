"""Hashes and pseudonyms: what tells tables apart, and what keeps people from being told apart.

In: a data frame.  Out: a hash of its values, or a copy without platforms' ids.  Knows nothing of files or models.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from psychostats.cells import missing_columns
from psychostats.errors import DataError

# Within longer text too, as in Prolific's <id>@email.prolific.com.
_PLATFORM_ID = re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-f]{24}|A[0-9A-Z]{12,14})(?![0-9A-Za-z])")
# Outside the participants' column, what reads like a word is one, as ADVERTISEMENT and ARCHITECTURE1 do.
_WORD = re.compile(r"A[A-Z]{9,}\d{0,3}")


def data_hash(frame: pd.DataFrame, columns: Collection[str]) -> str:
    """Return the sha256 of the named columns' values in the frame's row order, as 64 hex digits.

    Numbers and booleans are hashed as little-endian float64 (as text where one is an integer too long for that), text
    as UTF-8 behind the length of each cell, so that
    neither storage (categorical, int, index) nor pandas' version matters, nor the order in which columns are named.
    """
    if faults := missing_columns(columns, frame.columns):
        raise DataError(faults)
    digest = hashlib.sha256(len(frame).to_bytes(8, "little"))
    for name in sorted(set(columns)):
        cells = frame[name].astype(object).where(frame[name].notna(), None).tolist()
        digest.update(_prefixed([name.encode()]))
        numbers = all(isinstance(cell, int | float | np.number | np.bool_ | None) for cell in cells)
        if numbers and not any(isinstance(cell, int | np.integer) and abs(int(cell)) > 2**53 for cell in cells):
            digest.update(b"f8" + (np.array(cells, dtype="<f8") + 0.0).tobytes())  # adding 0.0 turns -0.0 into 0.0
        else:
            digest.update(b"text" + _prefixed([None if cell is None else str(cell).encode() for cell in cells]))
    return digest.hexdigest()


def pseudonymize(frame: pd.DataFrame, *, force: bool = False, spared: Collection[str] = ()) -> pd.DataFrame:
    """Replace participants' ids by P001, P002, ... in order of first appearance, where privacy asks for it.

    Parameters
    ----------
    frame
        A table.  Without a `participant` column only the other text columns are searched.
    force
        Replace whatever the ids look like.  Otherwise all are replaced if any holds a Prolific id (24 hex digits) or
        an MTurk id (``A`` and 12 to 14 capitals or digits).
    spared
        Other columns that are not searched, such as those whose meaning is known.

    Returns
    -------
    pandas.DataFrame
        A copy.  Platform ids in columns that are not spared are replaced too: a participant's by the pseudonym, any
        other by the column's name and a number.
    """
    frame = frame.copy()
    pseudonyms: dict[str, str] = {}
    if "participant" in frame:
        ids = _distinct(frame["participant"])
        if force or any(_PLATFORM_ID.search(one) for one in ids):
            width = max(3, len(str(len(ids))))
            pseudonyms = {one: f"P{number:0{width}d}" for number, one in enumerate(ids, 1)}
            frame["participant"] = _replaced(frame["participant"], pseudonyms)
    for name in frame.columns.difference([*spared, "participant"]):
        if pd.api.types.is_numeric_dtype(frame[name]):
            continue
        held = [one for one in _distinct(frame[name]) if _PLATFORM_ID.search(one)]
        found = [one for one in held if one in pseudonyms or not _WORD.fullmatch(one)]
        if found:
            table = {one: pseudonyms.get(one, f"{name}{number:03d}") for number, one in enumerate(found, 1)}
            frame[name] = _replaced(frame[name], table)
    return frame


def redact(text: str) -> str:
    """Put ``[id]`` in place of every platform's id in a message, a file's name or a command."""
    return _PLATFORM_ID.sub(lambda found: found[0] if _WORD.fullmatch(found[0]) else "[id]", text)


def _replaced(column: pd.Series[Any], table: dict[str, str]) -> pd.Series[Any]:
    """Replace cells by a table, and levels where the column has them in an order."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.rename_categories({level: table.get(str(level), level) for level in column.cat.categories})
    return pd.Series([table.get(str(one), one) for one in column], index=column.index, name=column.name)


def _distinct(column: pd.Series[Any]) -> list[str]:
    return [str(one) for one in column.dropna().unique()]


def _prefixed(cells: Sequence[bytes | None]) -> bytes:
    """Join cells behind their lengths, -1 for a missing one, so that no two lists of cells join to the same bytes."""
    lengths = np.array([len(cells), *(-1 if cell is None else len(cell) for cell in cells)], dtype="<i8")
    return lengths.tobytes() + b"".join(cell for cell in cells if cell is not None)
