"""Before many tasks are begun: how many there are, how long they take, and whether so many were meant.

In: a campaign, its tasks, who does them, and seconds a task.  Out: numbers and a sentence, or a refusal.  Knows neither
what a task means nor where it is done.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psychostats.campaign import Campaign, Task
from psychostats.errors import InputError
from psychostats.executors import Executor, Local
from psychostats.timing import duration

#: Tasks that are begun without being asked for twice (assumed: about an hour of the embedded study's on two cores).
MANY = 8000

_BRIEF = 2.0  # a first task that took less is timed again, without its imports


@dataclass(frozen=True)
class Outlook:
    """What is to be done.

    Parameters
    ----------
    what
        What a task is called, for several: ``fits``.
    folder
        Where results are kept.
    tasks, missing, damaged
        How many there are, how many have no result, and how many of these have a damaged one.
    seconds
        That one task takes; None where nothing is missing.
    workers
        How many are done at once.
    where
        In words.
    """

    what: str
    folder: Path
    tasks: int
    missing: int
    damaged: int
    seconds: float | None
    workers: int
    where: str

    @property
    def seconds_left(self) -> float:
        """Seconds that the rest takes: whole rounds of all workers."""
        return 0.0 if self.seconds is None else self.seconds * -(-self.missing // self.workers)

    def describe(self) -> str:
        """Return all of it as a sentence."""
        done = self.tasks - self.missing
        said = f"{self.tasks:,} {self.what}, of which {done:,} are done and lie in {self.folder}"
        if self.damaged:
            said += f" (and {self.damaged:,} damaged, to be made again)"
        if self.seconds is None:
            return f"{said}; nothing is left to do."
        return (
            f"{said}; the other {self.missing:,} take about {duration(self.seconds_left)} on {self.where} "
            f"({duration(self.seconds)} each)."
        )

    def row(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "tasks": self.tasks,
            "done": self.tasks - self.missing,
            "missing": self.missing,
            "damaged": self.damaged,
            "seconds_each": self.seconds,
            "seconds_left": self.seconds_left,
            "workers": self.workers,
            "where": self.where,
        }

    def require_meant(self, yes: bool, *, most: int = MANY) -> None:
        """Refuse more tasks than anyone asks for lightly.

        Parameters
        ----------
        yes
            Whether they were asked for twice.
        most
            How many need no second word.

        Raises
        ------
        InputError
            If more are missing.
        """
        if self.missing > most and not yes:
            raise InputError(
                f"{self.missing:,} {self.what} are to be done, about {duration(self.seconds_left)} on {self.where}; "
                f"more than {most:,} are not begun without being asked for: add --yes, or --dry-run to look first."
            )


def look_ahead(
    campaign: Campaign, tasks: Sequence[Task], executor: Executor, what: str, *, seconds: float | None = None
) -> Outlook:
    """Return what is to be done; nothing is kept of it.

    Parameters
    ----------
    campaign, tasks, executor
        What would be run, and by whom.
    what
        What tasks are called: ``fits``.
    seconds
        That one task takes; if it is not known, the first one that is missing is done here and timed.
    """
    standing = campaign.look(tasks)
    missing = len(standing.missing)
    if not missing:
        seconds = None
    elif seconds is None:
        seconds = time_task(campaign, standing.missing[0])
    workers = min(executor.workers, max(missing, 1))
    return Outlook(
        what, campaign.folder, standing.tasks, missing, standing.damaged, seconds, workers, executor.describe()
    )


def time_task(campaign: Campaign, task: Task) -> float:
    """Return the seconds that a task takes in this process."""
    spent = _BRIEF
    for _ in range(2):
        began = time.perf_counter()
        for _done in Local(1).run(campaign.work, campaign.shared, [task.values]):
            pass
        spent = time.perf_counter() - began
        if spent > _BRIEF:
            break
    return spent
