"""Who took part: a platform's demographic export, joined to the participants by id, and nothing but summaries of it.

In: an export, and participants as their ids and their pseudonyms.  Out: counts in which nobody stands alone, and blocks
of a report that say them.  Knows no trials and no models.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from psychostats.cells import lacking_column, name_some, parse_text
from psychostats.document import Block, Column, Paragraph, Table
from psychostats.errors import DataError, Fault
from psychostats.identity import redact
from psychostats.pseudonyms import canonical, pseudonym
from psychostats.tabular import read_raw

NOT_GIVEN = "not given"
_WITHHELD = frozenset({"CONSENT_REVOKED", "DATA_EXPIRED", "Prefer not to say", ""})
_UNFINISHED = frozenset({"RETURNED", "REJECTED", "TIMED-OUT", "TIMED OUT", "SCREENED OUT"})
_MEDIAN_FROM = 20  # people, for of fewer a median says much of the one in the middle
_DECADE = 10


@dataclass(frozen=True)
class Export:
    """A platform's export.

    Parameters
    ----------
    people
        Its rows by canonical id: the columns that are to be summarised, None where they are not given.
    unfinished
        Ids whose every submission was returned, rejected or timed out.
    set_aside
        Such submissions of people who have another one.
    """

    people: pd.DataFrame
    unfinished: frozenset[str] = frozenset()
    set_aside: int = 0


@dataclass(frozen=True)
class Joined:
    """Who of the participants is in the export.

    Parameters
    ----------
    people
        One row a participant, by the name that the analysis has for them.
    without_row
        Participants who are not in the export.
    unfinished
        Participants of whom the export holds returned, rejected or timed-out submissions alone.
    not_in_data
        How many people of the export are no participants.
    set_aside
        How many submissions were returned, rejected or timed out by people who have another one.
    """

    people: pd.DataFrame
    without_row: frozenset[str]
    unfinished: frozenset[str]
    not_in_data: int
    set_aside: int

    def of(self, names: Collection[str]) -> Joined:
        """Return the same of some of the participants, such as those who were analysed."""
        people, some = self.people[self.people.index.isin(list(names))], frozenset(names)
        return replace(self, people=people, without_row=self.without_row & some, unfinished=self.unfinished & some)


def read_demographics(path: Path, key: str = "Participant id", columns: Sequence[str] = ("Age", "Sex")) -> Export:
    """Read a platform's demographic export.

    Parameters
    ----------
    path
        A file that `psychostats.tabular.read_raw` reads, such as Prolific's CSV.
    key
        Its column of ids.
    columns
        What is to be summarised.

    Raises
    ------
    DataError
        If it cannot be read, lacks a column, or has several rows of one person that differ.
    """
    raw = read_raw(path)
    faults = list(raw.faults)
    if raw.rows:
        faults += [
            lacking_column(f"Column '{name}' of '{path.name}' is needed", name, raw.cells, listed=name == key)
            for name in dict.fromkeys([key, *columns])
            if name not in raw.cells
        ]
    if faults:
        raise DataError([Fault(redact(fault.message), column=fault.column, row=fault.row) for fault in faults])
    table = pd.DataFrame({name: [_given(cell) for cell in raw.cells[name]] for name in columns}, dtype=object)
    ids = [canonical(parse_text(cell) or "") for cell in raw.cells[key]]
    blank = [row for row, one in zip(raw.rows, ids, strict=True) if not one]
    if blank:
        raise DataError([Fault(f"Column '{key}' of '{redact(path.name)}' is blank in row {blank[0]}.", row=blank[0])])
    table.index = pd.Index(ids, name=key)
    status = [(parse_text(cell) or "").upper() for cell in raw.cells.get("Status", [""] * len(ids))]
    finished = np.array([one not in _UNFINISHED for one in status], dtype=bool)
    held = set(table.index[finished])
    kept = finished | ~table.index.isin(held)
    rows = pd.Series(raw.rows, index=table.index)[kept]
    people = table[kept]
    same = pd.DataFrame({"id": people.index, **{name: people[name].to_numpy() for name in columns}}).fillna(NOT_GIVEN)
    differ = same.drop_duplicates()["id"].duplicated()
    if differ.any():
        at = name_some([str(rows.iloc[place]) for place in differ.index[differ]])
        raise DataError(
            [Fault(f"'{redact(path.name)}' has rows of one person that differ: row {at}; keep one of each person.")]
        )
    people = people[~people.index.duplicated()]
    return Export(people, frozenset(people.index.difference(list(held))), int((~kept).sum()))


def join_demographics(export: Export, names: Mapping[str, str], key: bytes | None = None) -> Joined:
    """Join an export to participants by id.

    Parameters
    ----------
    export
        What `read_demographics` gave.
    names
        Of each participant the id in the trial file and the name in the analysis, often a pseudonym.
    key
        With it, ids that are pseudonyms under this key already are found too.
    """
    known = {one: one for one in export.people.index}
    if key is not None:
        known |= {pseudonym(one, key): one for one in export.people.index}
    found = {name: known.get(canonical(one)) for one, name in names.items()}
    rows = export.people.reindex([one or "" for one in found.values()])
    rows.index = pd.Index(list(found), name="participant")
    return Joined(
        rows,
        frozenset(name for name, one in found.items() if one is None),
        frozenset(name for name, one in found.items() if one in export.unfinished),
        len(set(export.people.index) - set(found.values())),
        export.set_aside,
    )


def summarise_demographics(people: pd.DataFrame, columns: Sequence[str], smallest: int = 5) -> pd.DataFrame:
    """Count people by what a column says of them, so that no count is of fewer than `smallest`.

    Numbers are counted in bins of ten, and bins of few people are joined to a neighbour; where at least 20 gave one, so
    is the median. Small groups of words become ``other``. A small count that remains is not shown, and with it the
    smallest other one, without which it would follow from the total; neither says which it is. People who
    did not give an answer are counted whatever their number, since the total tells it.

    It is to be asked once of all people of a report: of a part beside the whole, the rest follows by subtraction.

    Parameters
    ----------
    people
        One row a person; None or NaN where nothing is given.
    columns
        What is summarised.
    smallest
        The smallest count that is shown.

    Returns
    -------
    pandas.DataFrame
        ``column, group, participants`` (NaN where it is not shown; of the median its value) and ``shown`` (text).
    """
    rows = [row for name in columns for row in _summarise(name, people[name], smallest)]
    table = pd.DataFrame(rows, columns=["column", "group", "participants", "shown"])
    return table.astype({"participants": float})


def describe_demographics(summary: pd.DataFrame, joined: Joined, smallest: int = 5) -> list[Block]:
    """Return the paragraph and the table that say who took part."""
    counts = (
        (len(joined.without_row), "has no row in it", "have no row in it"),
        (
            len(joined.unfinished),
            "has returned, rejected or timed-out submissions alone",
            "have returned, rejected or timed-out submissions alone",
        ),
    )
    parts = [f"{number} {one if number == 1 else several}" for number, one, several in counts if number]
    there = f"Of {len(joined.people)} analysed participants " + (" and ".join(parts) or "each has a row in it")
    others = f"; it holds {joined.not_in_data} other people" if joined.not_in_data else ""
    aside = f"; {joined.set_aside} unfinished submissions of people with another one were set aside"
    words = f"Who took part, from the platform's export. {there}{others}{aside if joined.set_aside else ''}."
    columns = (Column("column", ""), Column("group", "group"), Column("shown", "participants", align="right"))
    note = (
        f"Counts below {smallest} of people who answered are not shown, nor are those from which they would follow; "
        f"small groups are joined. '{NOT_GIVEN}' also counts people without a row, and is shown whatever it is."
    )
    return [Paragraph(words), Table(columns, summary, "Who took part.", note, "table-demographics")]


def _given(cell: object) -> str | None:
    word = (parse_text(cell) or "").strip()
    return None if word in _WITHHELD else word


def _summarise(name: str, cells: pd.Series[Any], smallest: int) -> Iterator[tuple[str, str, float, str]]:
    given = cells.dropna()
    numbers = pd.to_numeric(given, errors="coerce")
    numeric = len(given) > 0 and bool(np.isfinite(numbers.astype(float)).all())
    if len(given) < smallest:
        if len(given):
            yield name, "all who answered", math.nan, f"<{smallest}"
    elif numeric:
        yield from ((name, group, float(n), str(n)) for group, n in _bins(numbers.astype(float), smallest))
        if len(given) >= _MEDIAN_FROM:
            median = float(numbers.median())
            yield name, "median", median, f"{median:g}"
    else:
        groups = _join_small(given.astype(str).value_counts(), smallest)
        hidden = _hidden(groups, smallest)
        if hidden and not _is_open(groups, hidden, smallest):  # the total would tell what is hidden, though it is all
            groups, hidden = {"all who answered": len(given)}, set()
        # Those that are not shown stand last and by name, so that their order does not tell the small one.
        first = sorted(set(groups) - hidden, key=lambda group: (-groups[group], group))
        yield from ((name, group, float(groups[group]), str(groups[group])) for group in first)
        yield from ((name, group, math.nan, "not shown") for group in sorted(hidden))
    if len(cells) > len(given) >= smallest:
        yield name, NOT_GIVEN, float(len(cells) - len(given)), str(len(cells) - len(given))


def _bins(numbers: pd.Series[Any], smallest: int) -> list[tuple[str, int]]:
    """Count numbers in bins of ten; a bin of few is joined to the smaller of its neighbours."""
    decades = (numbers // _DECADE).astype(int).value_counts().sort_index()
    bins = [(low, low, n) for low, n in zip(decades.index.tolist(), decades.tolist(), strict=True)]
    while len(bins) > 1 and min(n for *_, n in bins) < smallest:
        at = min(range(len(bins)), key=lambda place: bins[place][2])
        beside = [place for place in (at - 1, at + 1) if 0 <= place < len(bins)]
        left = min(at, min(beside, key=lambda place: bins[place][2]))
        (low, _, n), (_, high, more) = bins[left : left + 2]
        bins[left : left + 2] = [(low, high, n + more)]
    return [(f"{low * _DECADE}–{high * _DECADE + _DECADE - 1}", n) for low, high, n in bins]


def _join_small(counts: pd.Series[Any], smallest: int) -> dict[str, int]:
    """Return group -> people; several small groups are one, ``other``, with the next larger until it is not small."""
    groups = {str(group): int(n) for group, n in counts.items()}
    small = [group for group, n in groups.items() if n < smallest]
    if len(small) < 2:
        return groups
    other = sum(groups.pop(group) for group in small)
    # Where each has as few or as many people as a small group can, who knows the groups knows the size of each.
    told = other in (len(small), len(small) * (smallest - 1))
    while (other < smallest or told) and groups:
        other += groups.pop(min(groups, key=lambda group: (groups[group], group)))
        told = False
    groups["other"] = groups.get("other", 0) + other
    return groups


def _hidden(groups: Mapping[str, int], smallest: int) -> set[str]:
    """Return the groups that are not shown: the small one, and the smallest other ones until it cannot be told.

    Whoever knows the total knows the sum of what is hidden, and nothing says which of them is the small one. More are
    hidden until even a reader who guesses which it is, and that the smallest others were taken, has two sizes left.
    """
    hidden = {group for group, n in groups.items() if n < smallest}
    for group in sorted(groups, key=lambda one: (groups[one], one)):
        if not hidden or _is_open(groups, hidden, smallest):
            break
        hidden.add(group)
    return hidden


def _is_open(groups: Mapping[str, int], hidden: Collection[str], smallest: int) -> bool:
    """Whether the one small group of those that are hidden may have had more than one size."""
    total, others = sum(groups[group] for group in hidden), len(hidden) - 1
    largest = min((n for group, n in groups.items() if group not in hidden), default=total)
    sizes = [size for size in range(1, smallest) if smallest * others <= total - size <= largest * others]
    return others > 0 and len(sizes) > 1
