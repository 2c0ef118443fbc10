"""Before a power analysis is begun: how many fits it has, how many are kept already, and how long the rest takes.

In: what is asked, and the folders of simulations.  Out: a `Forecast`.  Knows no words and no command.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from psychostats.campaign import Campaign, Task
from psychostats.lapses import Question as Lapses
from psychostats.lapses import campaign_of as lapses_of
from psychostats.lapses import lapse_tasks
from psychostats.outlook import time_task
from psychostats.planning import Question, Size
from psychostats.power_simulations import campaign_of, tasks_of


@dataclass(frozen=True)
class Batch:
    """Simulations that cost about the same.

    Parameters
    ----------
    campaign, example
        Where they lie, and one of them.
    simulations, kept
        How many there are at most, and how many of them lie there.
    fits
        Of each.
    """

    campaign: Campaign
    example: Task
    simulations: int
    kept: int
    fits: int = 1

    @property
    def left(self) -> int:
        """How many simulations are left to do."""
        return max(0, self.simulations - self.kept)


@dataclass(frozen=True)
class Forecast:
    """All batches of a power analysis."""

    batches: tuple[Batch, ...]

    @property
    def fits(self) -> int:
        """How many fits there are at most: for which two designs the null and the sampler run is not known before."""
        return sum(batch.simulations * batch.fits for batch in self.batches)

    @property
    def left(self) -> int:
        """How many of them are left to do."""
        return sum(batch.left * batch.fits for batch in self.batches)

    def seconds(self) -> float:
        """Return about how many seconds of one core the rest takes: one of each batch is done, not kept."""
        return sum(batch.left * time_task(batch.campaign, batch.example) for batch in self.batches if batch.left)


def forecast(question: Question, folder: Path, lapses: Lapses | None, lapses_folder: Path, *, anew: bool) -> Forecast:
    """Return what a power analysis takes.

    Parameters
    ----------
    question, folder
        What is asked, and where its simulations lie.
    lapses, lapses_folder
        The same of scenarios of lapses, where they are asked for too.
    anew
        Whether simulations that lie there will be replaced, and so do not count.
    """
    batches = list(_of_designs(question, campaign_of(question, folder)))
    if lapses is not None:
        batches += _of_lapses(lapses, lapses_of(lapses, lapses_folder))
    if anew:
        batches = [replace(one, kept=0) for one in batches]
    return Forecast(tuple(batches))


def _of_designs(question: Question, campaign: Campaign) -> Iterator[Batch]:
    s, sizes = question.settings, question.sizes

    def example(run: str, size: Size) -> Task:
        return tasks_of(question, run, [size], 1)[0]

    for size in sizes:
        kept = _kept(campaign, f"power/{size.name}", s.simulations)
        yield Batch(campaign, example("power", size), s.simulations, kept)
    # The largest stands for the two designs, which are not known yet.
    largest, two = max(sizes, key=lambda size: size.participants * size.main), min(2, len(sizes))
    for run, each in (("null", s.simulations if s.null else 0), ("nuts", question.sampled)):
        yield Batch(campaign, example(run, largest), two * each, _kept(campaign, f"{run}/*", each))


def _of_lapses(lapses: Lapses, campaign: Campaign) -> Iterator[Batch]:
    """Yield a batch a lapse rate: analyses take longer where there is more to estimate."""
    examples: dict[float, Task] = {}
    for task in lapse_tasks(lapses)[: len(lapses.scenarios)]:
        examples.setdefault(float(task.values["lapse"]), task)
    ways = lapses.fits // (lapses.simulations * len(lapses.scenarios))
    for rate, example in examples.items():
        kept = _kept(campaign, f"lapses/rate-{rate:g}-careless-*", lapses.simulations)
        yield Batch(campaign, example, lapses.simulations * len(lapses.careless), kept, ways)


def _kept(campaign: Campaign, pattern: str, each: int) -> int:
    """Return how many results lie in a campaign's folders, of the first `each` of every folder."""
    return sum(int(path.stem) < each for path in campaign.folder.glob(f"{pattern}/*.json"))
