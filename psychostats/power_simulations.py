"""The simulations of a power analysis: each as a task of a campaign, its seed, and what is done for it.

In: a `Question`.  Out: tasks and the campaign that does them; of each a plain result.  Knows nothing of what follows.

A simulation depends on the question, its design and its number alone, so more designs or simulations change none that
is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from psychostats.campaign import Campaign, Task
from psychostats.planning import Question, Size, null_of, plan_of
from psychostats.replications import Asked, Procedure, replicate, true_values
from psychostats.simulate import Plan
from psychostats.spec import ModelSpec

Values = Mapping[Any, Any]

_SEEDS = {"power": 0, "nuts": 0, "null": 1}  # the sampler sees the trials that maximum likelihood saw
_NUMBERS = ("estimate", "sd", "conf_low", "conf_high")


@dataclass(frozen=True)
class Job:
    """What all simulations share.

    Parameters
    ----------
    base
        The study's own plan.
    null
        Its truth without differences; None where each simulation has a truth of its own.
    experiment, spec
        Its one experiment, and the true model.
    procedure, sampler
        How a simulated study is analysed.
    asked
        Which quantities.
    seed
        Of all simulations.
    """

    base: Plan
    null: Mapping[str, float] | None
    experiment: str
    spec: ModelSpec
    procedure: Procedure
    sampler: Procedure | None
    asked: Asked
    seed: int


def size_of(row: Values) -> Size:
    """Return the size of a row's design."""
    return Size(int(row["participants"]), int(row["main"]), int(row["pairs"]))


def run_of(values: Values) -> str:
    """Return which run a simulation is of: ``power``, ``null`` or ``nuts``."""
    return str(values["run"])


def number_of(values: Values) -> int:
    """Return which of its design's simulations it is."""
    return int(values["simulation"])


def simulation_task(question: Question, kind: str, size: Size, number: int, order: Sequence[int]) -> Task:
    """Return one simulation as a task.

    Parameters
    ----------
    question
        The question.
    kind
        ``power``, ``null`` or ``nuts``.
    size, number
        The design, and which of its simulations.
    order
        `Truth.order`.
    """
    values: dict[str, Any] = {"run": kind, **vars(size), "simulation": number}
    if question.truth.drawn:
        values["truth"] = dict(question.truth.sets[order[number % len(order)]])
    return Task(f"{kind}/{size.name}/{number:06d}", values)


def seed_of(seed: int, kind: str, size: Size, number: int) -> int:
    """Return the seed of a simulation: of its own design and number alone."""
    entropy = [seed, _SEEDS[kind], size.participants, size.main, size.pairs, number]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def simulate_once(job: Job, values: Values) -> dict[str, Any]:
    """Simulate a study and analyse it; what a campaign does.

    Parameters
    ----------
    job
        What all share.
    values
        Of `simulation_task`.

    Returns
    -------
    dict
        As `psychostats.replications.replicate` gives of one procedure, and ``true``: the true values, where they are
        of this simulation alone.
    """
    kind, size = run_of(values), size_of(values)
    truth = values.get("truth") or job.base.truth[job.experiment]
    if kind == "null":
        own = job.null if "truth" not in values else None
        truth = own or null_of(job.base, job.experiment, truth, job.spec, job.asked.factor)
    plan = plan_of(job.base, job.experiment, size, truth, job.spec)
    procedure = job.sampler if kind == "nuts" else job.procedure
    assert procedure is not None, "the sampler was asked for"
    found = replicate(plan, seed_of(job.seed, kind, size, number_of(values)), [procedure], job.asked)
    result = dict(found[procedure.name])
    if "truth" in values and kind != "null":
        result["true"] = true_values(plan, job.asked)
    return result


def campaign_of(question: Question, folder: Path) -> Campaign:
    """Return the campaign of a question, whose results lie in `folder`."""
    fixed = question.settings.null and not question.truth.drawn
    job = Job(
        question.base,
        question.null(question.truth.sets[0]) if fixed else None,
        question.experiment,
        question.truth.spec,
        question.procedure,
        question.sampler,
        question.asked,
        question.settings.seed,
    )
    return Campaign(folder, simulate_once, job, question.identity)


def tasks_of(question: Question, kind: str, sizes: Sequence[Size], count: int) -> tuple[Task, ...]:
    """Return the simulations of some designs, the first of each design first: so that time left can be told."""
    order = question.truth.order(question.settings.seed)
    return tuple(simulation_task(question, kind, size, number, order) for number in range(count) for size in sizes)


def why_failed(result: Values, quantities: Mapping[str, str]) -> str | None:
    """Return why a simulated study gave no interval, in general words; None where it gave one."""
    if result["failed"] is not None:
        # What differs between studies, such as counts and which terms, would make a reason of each.
        return re.sub(r"\d[\d,.]*", "…", str(result["failed"]).partition(":")[0]).rstrip(".")
    for name in quantities:
        numbers = result["quantities"].get(name, {})
        if any(numbers.get(column) is None for column in _NUMBERS):
            return f"the fit gives no interval of {name}"
    return None
