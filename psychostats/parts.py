"""What was given and what a reader makes of it: one file as columns that remember their rows.

In: nothing.  Out: the records that readers of recordings share.  Knows no format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from psychostats.errors import Fault

Tool: TypeAlias = Literal["auto", "table", "jspsych", "psychopy", "pavlovia", "gorilla", "wide"]


@dataclass(frozen=True)
class Reading:
    """How recordings are to be read.

    Parameters
    ----------
    tool
        Which tool wrote them; ``auto`` asks each file.
    wide
        Of tables with one row a participant: how a column's name is made, such as ``{column}_{trial}``.
    metadata
        A table that joins the trials by the column `by`, many to one.
    by
        Its key.
    known
        Hashes (SHA-256) of files of a folder or archive that came before, which are passed over.
    """

    tool: Tool = "auto"
    wide: str | None = None
    metadata: Path | None = None
    by: str = "stimulus"
    known: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Part:
    """One file as a reader gives it.

    Parameters
    ----------
    cells
        Column -> its cells, named as the trial table names them where the tool's meaning is known.
    rows
        Their places in the file, from 1: lines of a text file, records of a JSON list, rows of a sheet.
    tool
        Which tool wrote it, for people to read.
    faults
        What could not be read.
    notes
        What was converted or set aside, a sentence each: units, renamed columns, screens that are no trials.
    words
        Columns that the file stores as text, numerals or not.
    """

    cells: dict[str, list[Any]] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    tool: str = "table"
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Source:
    """One file of what was given, and what became of it.

    Parameters
    ----------
    name
        Where it lies, from the folder or archive that was given, without platforms' ids.
    sha256, size
        Of its bytes.
    tool
        Which tool wrote it.
    rows
        Trials read.
    status
        ``read``; ``skipped`` for a fault; ``known`` where a ledger holds it already.
    reason
        Why it was skipped.
    """

    name: str
    sha256: str
    size: int
    tool: str = ""
    rows: int = 0
    status: Literal["read", "skipped", "known"] = "read"
    reason: str = ""


@dataclass(frozen=True)
class LeftOut:
    """What ``--skip-bad`` left out before any rule ran: one row of the flow table.

    Parameters
    ----------
    step
        In words, such as ``files that could not be read (3)``.
    participants, trials
        How many are known to be lost; of a file that cannot be read, nobody knows.
    experiment
        Whose they were; None where that is unknown.
    """

    step: str
    participants: int = 0
    trials: int = 0
    experiment: str | None = None
