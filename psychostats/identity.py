"""Hashes and pseudonyms: what tells tables apart, and what keeps people from being told apart.

In: a data frame, and the key of pseudonyms if there is one.  Out: a hash of its values, or a copy without platforms'
ids.  Knows nothing of files or models.
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
from psychostats.pseudonyms import canonical, name_people, pseudonym

MAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w@])")
"""E-mail addresses."""
_BYTE = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_SERVER = re.compile(r"(?:://(?:[^\s/@]*@)?|\bserver at \"|\bhost \")$")  # what stands before a server's address
IPV4 = re.compile(rf"(?<![\w.]){_BYTE}(?:\.{_BYTE}){{3}}(?![\w.]*\w)")
"""Network addresses, not version numbers that go on."""
# Within longer text too, as in 'by A1B2C3D4E5F6G7'.
_PLATFORM = re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-f]{24}|A[0-9A-Z]{12,14})(?:@email\.prolific\.com)?(?![0-9A-Za-z])")
_PERSONAL = re.compile(f"{_PLATFORM.pattern}|{MAIL.pattern}")
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


def pseudonymize(
    frame: pd.DataFrame, *, force: bool = False, spared: Collection[str] = (), key: bytes | None = None
) -> pd.DataFrame:
    """Replace participants' ids by pseudonyms where privacy asks for it.

    Parameters
    ----------
    frame
        A table.  Without a `participant` column only the other text columns are searched.
    force
        Replace whatever the ids look like.  Otherwise all are replaced if any holds a Prolific id (24 hex digits), an
        MTurk id (``A`` and 12 to 14 capitals or digits) or an e-mail address.
    spared
        Other columns whose meaning is known, such as stimuli, whose ids may look like people's: there only the ids of
        the table's participants are replaced.
    key
        Pseudonyms are then as `psychostats.pseudonyms.pseudonym` makes them, the same in any file; without a key they
        are P001, P002, ... in order of first appearance.

    Returns
    -------
    pandas.DataFrame
        A copy.  Platform ids in other columns are replaced too: a participant's by the pseudonym, any other by its own
        under the key, or without one by the column's name and a number.  Of a text with words beside an id nothing is
        left but one pseudonym.

    Raises
    ------
    InputError
        If two people get one pseudonym under the key.
    """
    frame = frame.copy()
    pseudonyms: dict[str, str] = {}
    people = frame["participant"].astype(object) if "participant" in frame else None
    if people is not None:
        ids = _distinct(people)
        if force or _hold_ids(ids):
            width = max(3, len(str(len(ids))))
            pseudonyms = {one: f"P{number:0{width}d}" for number, one in enumerate(ids, 1)}
            if key is not None:
                pseudonyms = dict(name_people(ids, key))
            frame["participant"] = _replaced(frame["participant"], pseudonyms)
    whose: dict[str, str] = {}
    for one, pseudonym_of_one in pseudonyms.items():
        for part in (*_PERSONAL.findall(one), one):
            whose |= {part: pseudonym_of_one, canonical(part): pseudonym_of_one}
    for name in frame.columns.difference(["participant"]):
        if pd.api.types.is_numeric_dtype(frame[name]):
            continue
        if pseudonyms and people is not None and _is_copy(frame[name], people):
            frame[name] = _replaced(frame[name], pseudonyms)
            continue
        cells = _distinct(frame[name])
        if _hold_ids(cells) and (table := _column_names(str(name), cells, whose, name in spared, key)):
            frame[name] = _replaced(frame[name], table)
    return frame


def _column_names(
    name: str, cells: Sequence[str], whose: dict[str, str], spared: bool, key: bytes | None
) -> dict[str, str]:
    """Return what stands in place of a column's cells that hold ids."""
    table: dict[str, str] = {}
    for one in cells:
        found = _PERSONAL.findall(one)
        parts = [part for part in found if part in whose or not (spared or _WORD.fullmatch(part))]
        if not parts:
            continue
        alone = not re.search(r"[^\W\d_]", _PERSONAL.sub("", one))
        if one in whose:
            table[one] = whose[one]
        elif alone and (key is not None or all(part in whose for part in parts)):
            table[one] = one
            for part in parts:
                new = whose[part] if key is None or part in whose else pseudonym(part, key)
                table[one] = table[one].replace(part, new)
        else:  # words beside an id may be its owner's name, so nothing of them is left
            table[one] = f"{name}{len(table) + 1:03d}" if key is None else pseudonym(one, key)
    return table


def platform_ids(text: str) -> list[str]:
    """Return the ids of platforms that a text holds, without e-mail addresses."""
    return [part for part in _PLATFORM.findall(text) if not _WORD.fullmatch(part)]


def redact(text: str) -> str:
    """Put ``[id]`` for every platform's id, e-mail and IPv4 address in a message, a file's name or a command.

    The IPv4 address of a server stays: a person has none in ``postgresql://lab@127.0.0.1:5432/results``.
    """
    text = _PERSONAL.sub(lambda found: found[0] if _WORD.fullmatch(found[0]) else "[id]", text)
    return IPV4.sub(lambda found: found[0] if _SERVER.search(text, 0, found.start()) else "[id]", text)


def _hold_ids(cells: Sequence[str]) -> bool:
    """Whether any cell holds an id; one search of all, since a million cells one by one take a quarter of a minute."""
    whole = "\n".join(cells)
    return bool((_PERSONAL if "@" in whole else _PLATFORM).search(whole))


def _is_copy(column: pd.Series[Any], people: pd.Series[Any]) -> bool:
    """Whether a column holds each row's participant, so that its cells are ids whatever they look like."""
    start = column.iloc[:1].astype(object).fillna("").tolist() == people.iloc[:1].fillna("").tolist()
    return start and bool((column.astype(object).fillna("") == people.fillna("")).all())


def _replaced(column: pd.Series[Any], table: dict[str, str]) -> pd.Series[Any]:
    """Replace cells by a table, and levels where the column has them in an order."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = list(dict.fromkeys(table.get(str(level), level) for level in column.cat.categories))
        cells = [table.get(str(one), one) if pd.notna(one) else None for one in column]
        return pd.Series(pd.Categorical(cells, levels, ordered=column.cat.ordered), column.index, name=column.name)
    return pd.Series([table.get(str(one), one) for one in column.astype(object)], index=column.index, name=column.name)


def _distinct(column: pd.Series[Any]) -> list[str]:
    return [str(one) for one in column.dropna().unique()]


def _prefixed(cells: Sequence[bytes | None]) -> bytes:
    """Join cells behind their lengths, -1 for a missing one, so that no two lists of cells join to the same bytes."""
    lengths = np.array([len(cells), *(-1 if cell is None else len(cell) for cell in cells)], dtype="<i8")
    return lengths.tobytes() + b"".join(cell for cell in cells if cell is not None)
