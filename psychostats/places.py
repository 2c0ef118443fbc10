"""Where a row stands, for people to read: ``row 7``, or ``row 7 of p12.json`` where there are several files.

In: numbers of rows, and which file each came from.  Out: words, and faults that name their file and rows.  Judges
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from psychostats.cells import Raw
from psychostats.errors import Fault


@dataclass(frozen=True)
class Places:
    """The files that rows came from; without any, rows are those of the one file there is.

    Parameters
    ----------
    names
        Of the files.
    files, rows
        Of every row of the table, numbered from 1, the place of its file among `names`, and its row there.
    """

    names: tuple[str, ...] = ()
    files: npt.NDArray[np.integer] | None = None
    rows: npt.NDArray[np.integer] | None = None

    @classmethod
    def of(cls, raw: Raw) -> Places:
        """Return the places of what was read."""
        if raw.origins is None:
            return cls()
        files, rows = (np.asarray(one) for one in raw.origins)
        return cls(tuple(source.name for source in raw.sources), files, rows)

    def local(self, at: Sequence[int]) -> list[int]:
        """Return rows as their own files number them."""
        return list(at) if self.rows is None else self.rows[np.asarray(at) - 1].tolist()

    def file(self, row: int) -> str | None:
        """Return the name of a row's file, where there are several."""
        return None if self.files is None else self.names[int(self.files[row - 1])]

    def word(self, row: int) -> str:
        """Return ``row 7``, or ``row 7 of p12.json``."""
        (number,), file = self.local([row]), self.file(row)
        return f"row {number}" + (f" of {file}" if file else "")

    def words(self, at: Sequence[int]) -> str:
        """Return the first row in words, and how many more there are."""
        more = len(at) - 1
        return self.word(at[0]) + (f" (and {more} more row{'s' * (more > 1)})" if more else "")

    def by_file(self, at: Sequence[int]) -> list[list[int]]:
        """Return positions in `at`, apart for each file."""
        if self.files is None:
            return [list(range(len(at)))]
        groups: dict[int, list[int]] = {}
        for position, file in enumerate(self.files[np.asarray(at) - 1].tolist()):
            groups.setdefault(file, []).append(position)
        return list(groups.values())

    def faults(
        self,
        at: Sequence[int],
        message: Callable[[int, str], str],
        severity: Literal["error", "warning"],
        column: str | None = None,
    ) -> Iterator[Fault]:
        """Yield a fault of rows: of errors one a file, so that none is lost; of warnings one.

        Parameters
        ----------
        at
            The rows, at least one.
        message
            Of the position in `at` of the first row that a fault is about, and of the rows in words.
        severity, column
            Of the fault.
        """
        for positions in self.by_file(at) if severity == "error" else [list(range(len(at)))]:
            rows = [at[position] for position in positions]
            local = self.local(rows)
            named = tuple(local) if severity == "error" else ()
            yield Fault(message(positions[0], self.words(rows)), severity, column, local[0], named, self.file(rows[0]))
