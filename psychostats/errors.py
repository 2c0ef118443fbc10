"""The errors a user can meet; each message says what is wrong, where, and what is allowed.

In: what a room found wrong.  Out: an exception with the exit code the command line gives.
Knows nothing of trials, models or files.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


class PsychostatsError(Exception):
    """Anything psychostats raises on purpose; ``exit_code`` is what a command ends with."""

    exit_code = 1


class InputError(PsychostatsError):
    """Something the user gave cannot be used; the message is one clear sentence."""

    exit_code = 2


class FormulaError(InputError):
    """A formula that cannot be read or coded.

    Parameters
    ----------
    message
        What is wrong and what is allowed.
    formula, position
        With both, the formula is quoted and the character at `position` marked.
    """

    def __init__(self, message: str, formula: str | None = None, position: int | None = None):
        if formula is not None and position is not None:
            message = f"{message}\n  {formula}\n  {' ' * position}^"
        super().__init__(message)


class PriorError(InputError):
    """A prior that cannot be read or that matches no parameter of the model."""


class StudyError(InputError):
    """A study file that cannot be read."""


class FitError(InputError):
    """A fit directory that is missing, damaged, or holds another fit."""


class NoMaximumError(PsychostatsError):
    """A likelihood that rises for ever, so that no estimate exists; nothing is written."""

    exit_code = 3


class OverBudget(InputError):
    """A posterior that would take longer to sample than was allowed; nothing is sampled.

    Parameters
    ----------
    seconds_needed
        What it would take.
    message
        One sentence; a sampler, which knows neither what was allowed nor what else there is, leaves it out.
    """

    def __init__(self, seconds_needed: float, message: str | None = None):
        self.seconds_needed = seconds_needed
        super().__init__(message or f"sampling would take about {seconds_needed:.3g} s, longer than was allowed.")


class Interrupted(KeyboardInterrupt):
    """A fit that was interrupted when it had draws enough to be kept; no `PsychostatsError`, so that loops end too.

    Parameters
    ----------
    fit
        The `psychostats.fit.Fit` of the draws made so far.
    kept, asked
        Draws a chain that it holds, and that were asked for.
    path
        Where it was written, if it was.
    """

    def __init__(self, fit: object, kept: int, asked: int, path: object = None):
        self.fit = fit
        where = f" in {path}" if path is not None else ""
        super().__init__(
            f"interrupted; {kept:,} of {asked:,} draws a chain are kept{where}, and the same call draws all of them."
        )


class ReportError(PsychostatsError):
    """A report that could not be rendered although its input was good."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a trial table.

    Parameters
    ----------
    message
        One sentence: what, where (column and row), what is allowed.
    severity
        ``"error"`` stops the analysis, ``"warning"`` does not.
    column
        Name of the column at fault, if one is.
    row
        First row at fault, counted as in the file: the header is row 1.
    rows
        Every row at fault, where it is rows that are.
    file
        The file at fault, where recordings of several were read.
    """

    message: str
    severity: Literal["error", "warning"] = "error"
    column: str | None = None
    row: int | None = None
    rows: tuple[int, ...] = ()
    file: str | None = None


class DataError(InputError):
    """Trials that cannot be analysed; ``faults`` holds every reason, not just the first."""

    def __init__(self, faults: Iterable[Fault]):
        self.faults = tuple(faults)
        super().__init__("\n".join(fault.message for fault in self.faults))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name closest to `name`, or nothing."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{match[0]}'?)" if match else ""
