"""Power by simulation: many simulated studies of each design, analysed, kept and summarised.

In: a `Question`, a folder, and who does the work.  Out: a `Power`: tables by design, the null, the sampler beside
maximum likelihood, and which design is recommended.  Knows no figures, no words and no command.

What was simulated before is kept, so a run that was stopped goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from psychostats.campaign import Campaign, Task
from psychostats.characteristics import (
    Curve,
    Simulated,
    characterise,
    cheapest,
    compare_engines,
    fit_curve,
    judge,
    more_simulations,
)
from psychostats.errors import InputError
from psychostats.executors import Executor
from psychostats.planning import Question, Size
from psychostats.power_simulations import (
    Values,
    campaign_of,
    number_of,
    run_of,
    simulation_task,
    size_of,
    tasks_of,
    why_failed,
)
from psychostats.replications import true_values

#: Runs as tables name them; "null" is what many readers of CSV take for a missing cell.
RUNS = {"power": "power", "null": "no_difference", "nuts": "nuts"}
Progress = Callable[[str], AbstractContextManager[Callable[[int, int, float], None]]]

#: Simulations of each design that are made first: where all of them are refused, the rest would be as well.
PILOTS = 3


@dataclass(frozen=True)
class Power:
    """What the simulations say.

    Parameters
    ----------
    question
        What was asked.
    campaign, tasks
        Where every simulation lies, and all of them in order.
    designs
        A row a design and quantity: `Size`, ``quantity, kind, cost``, what `psychostats.characteristics.characterise`
        gives, ``analysed`` (mean share of the participants left by the exclusions), ``failed, singular``, ``verdict``
        (of the quantity that the wish is about, else empty).
    null
        The same of a truth without differences; ``power`` is the false-positive rate.
    calibration
        A row a design and quantity: `psychostats.characteristics.compare_engines`.
    failures
        ``run`` (``power``, ``null``, ``nuts``), ``participants, main, pairs, reason, simulations``.
    curves
        By quantity, how precision grows with the design; none where there are too few designs.
    shown
        For the figures: estimates, limits and truth of single simulations of one design.
    pairs
        For the figures: both engines' estimates of the same studies.
    """

    question: Question
    campaign: Campaign
    tasks: tuple[Task, ...]
    designs: pd.DataFrame
    null: pd.DataFrame
    calibration: pd.DataFrame
    failures: pd.DataFrame
    curves: Mapping[str, Curve]
    shown: pd.DataFrame
    pairs: pd.DataFrame

    @property
    def wished(self) -> pd.DataFrame:
        """The rows of the quantity that the wish is about."""
        return self.designs[self.designs["quantity"] == self.question.wished].reset_index(drop=True)

    @property
    def recommended(self) -> dict[str, Any] | None:
        """The cheapest design that meets the wish beyond Monte Carlo doubt."""
        return _row(self.wished, cheapest(self.wished, "met"))

    @property
    def open(self) -> list[dict[str, Any]]:
        """Designs of which the simulations do not tell whether they meet the wish, the cheapest first.

        Those that cost as much as the recommended one, or more, are left out.
        """
        rows = self.wished[self.wished["verdict"] == "open"].sort_values(["cost", "participants"], kind="stable")
        best = self.recommended
        return [row for row in _rows(rows) if best is None or row["cost"] < best["cost"]]

    @property
    def unmet(self) -> bool:
        """Whether every design misses the wish beyond Monte Carlo doubt."""
        return bool((self.wished["verdict"] == "missed").all())

    @property
    def own(self) -> dict[str, Any] | None:
        """The study's own design, where it is one of the grid."""
        own = self.question.own
        return next((dict(row) for row in _rows(self.wished) if size_of(row) == own), None)

    @property
    def best(self) -> dict[str, Any]:
        """The design nearest to the wish where none meets it: the highest power, or the best precision."""
        by = ("power", False) if self.question.power is not None else ("half_width", True)
        rows = self.wished.sort_values([by[0], "cost"], ascending=[by[1], True], kind="stable")
        return _rows(rows)[0]

    def more(self, row: Values) -> int | None:
        """Return about how many more simulations would tell whether an open design meets the wish."""
        return more_simulations(row, power=self.question.power, precision=self.question.precision)

    def needed(self, size: Size) -> int | None:
        """Return about how many participants would meet the wish, all else as in a design; None where none would."""
        curve = self.curves.get(self.question.wished)
        if curve is None:
            return None
        power, precision = self.question.power, self.question.precision
        return curve.participants(size.main, size.pairs, power=power, precision=precision)


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _row(table: pd.DataFrame, place: int | None) -> dict[str, Any] | None:
    return None if place is None else _rows(table.loc[[place]])[0]


def estimate_power(
    question: Question,
    folder: Path,
    executor: Executor,
    *,
    progress: Progress = lambda what: contextlib.nullcontext(lambda done, total, left: None),
    say: Callable[[str], None] = lambda line: None,
) -> Power:
    """Simulate and analyse every design.

    Parameters
    ----------
    question
        What is asked.
    folder
        Where the simulations are kept; what is there already is not made again.
    executor
        Who does the work.
    progress
        Called with what is under way; gives, for as long, what `psychostats.campaign.Campaign.run` calls.
    say
        Called with a line as each step begins.

    Raises
    ------
    InputError
        If the folder holds the simulations of another question, or no design can be fitted.
    """
    campaign, settings = campaign_of(question, folder), question.settings
    pilots = tasks_of(question, "power", question.sizes, min(PILOTS, settings.simulations))
    say(f"simulating {len(pilots)} studies on {executor.describe()} to see whether the designs can be fitted")
    with progress("pilot simulations") as show:
        campaign.run(pilots, executor, progress=show, say=say)
    refused = [str(found["failed"]) for _, found in campaign.results(pilots) if found["failed"] is not None]
    if len(refused) == len(pilots):
        raise InputError(
            f"no design can be fitted: of {len(pilots)} simulated studies of {len(question.sizes)} designs all were "
            f"refused; plan more people or trials, or a simpler model. The first was refused since {refused[0]}"
        )
    tasks = tasks_of(question, "power", question.sizes, settings.simulations)
    say(f"simulating {settings.simulations:,} studies of {_each(len(question.sizes))}")
    with progress("simulations") as show:
        campaign.run(tasks, executor, progress=show, say=say)
    made = _assemble(question, campaign, {"power": tasks})
    few = list(dict.fromkeys(size_of(row) for row in (made.own, made.recommended or made.best) if row))
    every = {"power": tasks}
    if settings.null:
        every["null"] = tasks_of(question, "null", few, settings.simulations)
        say(f"simulating {settings.simulations:,} studies without differences of {_each(len(few))}")
        with progress("null simulations") as show:
            campaign.run(every["null"], executor, progress=show, say=say)
    if question.sampled:
        every["nuts"] = tasks_of(question, "nuts", few, question.sampled)
        say(f"sampling {len(every['nuts'])} of the studies with nuts")
        with progress("sampled") as show:
            campaign.run(every["nuts"], executor, progress=show, say=say)
    return _assemble(question, campaign, every)


def _each(designs: int) -> str:
    return f"each of {designs} designs" if designs > 1 else "the design"


def _assemble(question: Question, campaign: Campaign, every: Mapping[str, Sequence[Task]]) -> Power:
    """Make the tables of all results that are there."""
    designs: list[dict[str, Any]] = []
    null: list[dict[str, Any]] = []
    compared: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    parts: list[pd.DataFrame] = []
    shown = pd.DataFrame()
    spreads: dict[str, list[tuple[Size, float]]] = {}
    truths: dict[str, np.ndarray[Any, Any]] = {}
    for size in question.sizes:
        for kind, rows in (("power", designs), ("null", null)):
            mine = [task for task in every.get(kind, ()) if size_of(task.values) == size]
            if not mine:
                continue
            read = _read(question, campaign, mine, size)
            rows += _characterised(question, size, read, kind)
            failures += _failures(kind, size, read.reasons)
            if kind == "power":
                for name in question.quantities:
                    sd = read.numbers[name]["sd"]
                    if len(sd):
                        spreads.setdefault(name, []).append((size, float(np.sqrt(np.mean(sd**2)))))
                        truths[name] = read.numbers[name]["true"]
                if size == (question.own if question.own in question.sizes else question.sizes[-1]):
                    shown = _singles(question, size, read)
        sampled = [task for task in every.get("nuts", ()) if size_of(task.values) == size]
        if sampled:
            rows, pairs, reasons = _calibrated(question, campaign, size, sampled)
            compared += rows
            parts.append(pairs)
            failures += _failures("nuts", size, reasons)
    curves = {}
    for name, spread in spreads.items():
        sizes = [(size.participants, size.main, size.pairs) for size, _ in spread]
        true = truths[name] if question.truth.drawn else truths[name][:1]
        of_it = [row for row in designs if row["quantity"] == name]
        fitted = sum(row["fitted"] for row in of_it) / sum(row["simulations"] for row in of_it)
        curve = fit_curve(sizes, [sd for _, sd in spread], true, question.asked.probability, fitted=fitted)
        if curve is not None:
            curves[name] = curve
    columns = ["run", "participants", "main", "pairs", "reason", "simulations"]
    return Power(
        question,
        campaign,
        tuple(task for tasks in every.values() for task in tasks),
        pd.DataFrame(designs),
        pd.DataFrame(null),
        pd.DataFrame(compared),
        pd.DataFrame(failures, columns=columns),
        curves,
        shown,
        pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(),
    )


@dataclass(frozen=True)
class _Read:
    """Results of one design: numbers by quantity and column, and counts."""

    numbers: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]
    simulations: int
    reasons: Mapping[str, int]
    singular: int
    analysed: float


def _read(question: Question, campaign: Campaign, tasks: Sequence[Task], size: Size) -> _Read:
    """Read the results of one design, of which numbers alone are kept."""
    columns = ("estimate", "sd", "conf_low", "conf_high", "true", "simulation")
    found: dict[str, dict[str, list[float]]] = {name: {c: [] for c in columns} for name in question.quantities}
    null = bool(tasks) and run_of(tasks[0].values) == "null"
    true = dict.fromkeys(question.quantities, 0.0)
    if not null and not question.truth.drawn:
        true = true_values(question.plan(size, question.truth.sets[0]), question.asked)
    reasons: dict[str, int] = {}
    count, singular, analysed = 0, 0, 0.0
    for task, result in campaign.results(tasks):
        count += 1
        reason = why_failed(result, question.quantities)
        if reason is not None:
            reasons[reason] = reasons.get(reason, 0) + 1
            continue
        singular += bool(result["singular"])
        analysed += result["participants"] / size.participants
        for name, rows in found.items():
            own = result["quantities"][name]
            for column in columns[:4]:
                rows[column].append(own[column])
            rows["true"].append((result.get("true") or true)[name])
            rows["simulation"].append(float(number_of(task.values)))
    arrays = {name: {c: np.array(values) for c, values in rows.items()} for name, rows in found.items()}
    fitted = count - sum(reasons.values())
    return _Read(arrays, count, reasons, singular, analysed / fitted if fitted else np.nan)


def _characterised(question: Question, size: Size, read: _Read, kind: str) -> list[dict[str, Any]]:
    """Return a design's rows."""
    rows = []
    for name, which in question.quantities.items():
        v = read.numbers[name]
        found = Simulated(v["estimate"], v["conf_low"], v["conf_high"], v["true"], read.simulations)
        row: dict[str, Any] = vars(size) | {"quantity": name, "kind": which, "cost": question.cost(size)}
        row |= characterise(found, question.precision)
        row |= {"analysed": read.analysed, "failed": sum(read.reasons.values()), "singular": read.singular}
        wished = kind == "power" and name == question.wished
        row["verdict"] = judge(row, power=question.power, precision=question.precision) if wished else ""
        rows.append(row)
    return rows


def _failures(kind: str, size: Size, reasons: Mapping[str, int]) -> list[dict[str, Any]]:
    most = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return [{"run": RUNS[kind], **vars(size), "reason": reason, "simulations": count} for reason, count in most]


def _singles(question: Question, size: Size, read: _Read) -> pd.DataFrame:
    """Return single simulations of the first hundred, of every quantity."""
    parts = []
    for name, which in question.quantities.items():
        frame = pd.DataFrame(dict(read.numbers[name]))
        parts.append(frame[frame["simulation"] < 100].assign(quantity=name, kind=which, **vars(size)))
    return pd.concat(parts, ignore_index=True)


def _calibrated(
    question: Question, campaign: Campaign, size: Size, tasks: Sequence[Task]
) -> tuple[list[dict[str, Any]], pd.DataFrame, dict[str, int]]:
    """Compare the sampler with maximum likelihood on the same trials of one design."""
    order = question.truth.order(question.settings.seed)
    both: list[tuple[int, Values, Values]] = []
    reasons: dict[str, int] = {}
    flagged, compared = 0, 0
    for task, sampled in campaign.results(tasks):
        number = number_of(task.values)
        twin = simulation_task(question, "power", size, number, order)
        maximum = next((found for _, found in campaign.results([twin])), None)
        reason = why_failed(sampled, question.quantities)
        if reason is not None:
            reasons[reason] = reasons.get(reason, 0) + 1
        elif maximum is not None and why_failed(maximum, question.quantities) is None:
            compared += 1
            flagged += bool(sampled["singular"])
            both.append((number, maximum["quantities"], sampled["quantities"]))
    rows, parts = [], []
    for name, which in question.quantities.items() if both else ():
        told = compare_engines((first[name], second[name]) for _, first, second in both)
        head = vars(size) | {"quantity": name, "kind": which, "not_converged": flagged}
        rows.append(head | told)
        for engine, place in (("laplace", 1), ("nuts", 2)):
            numbers = [{"simulation": entry[0], **entry[place][name]} for entry in both]  # type: ignore[index]
            parts.append(pd.DataFrame(numbers).assign(engine=engine, quantity=name, kind=which, **vars(size)))
    return rows, pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(), reasons


def single_rows(power: Power) -> Iterator[dict[str, Any]]:
    """Yield a row a simulation and quantity, one at a time: all that was found of it, and why it failed."""
    question = power.question
    true: dict[tuple[str, Size], Mapping[str, float]] = {}
    for task, result in power.campaign.results(power.tasks):
        kind, size = run_of(task.values), size_of(task.values)
        if (kind, size) not in true:
            plan = question.plan(size, question.truth.sets[0])
            zero = dict.fromkeys(question.quantities, 0.0)
            drawn = question.truth.drawn
            true[kind, size] = zero if kind == "null" else {} if drawn else true_values(plan, question.asked)
        failed = why_failed(result, question.quantities)
        for name in question.quantities:
            numbers = {} if failed else result["quantities"][name]
            yield {
                "run": RUNS[kind],
                **vars(size),
                "simulation": number_of(task.values),
                "engine": "nuts" if kind == "nuts" else "laplace",
                "quantity": name,
                "true": (result.get("true") or true[kind, size]).get(name),
                **{column: numbers.get(column) for column in ("estimate", "sd", "conf_low", "conf_high")},
                "detected": None if failed else int(numbers["conf_low"] > 0 or numbers["conf_high"] < 0),
                "analysed": result["participants"],
                "singular": int(result["singular"]),
                "failed": failed,
            }
