"""What lapses and careless people do to a study's power, asked by simulation: the question, its tasks, and their work.

In: a study with ``[simulate]`` and ``[lapses]``.  Out: tasks for a campaign, the function that does one, and all
estimates as one table.  Knows no summary and no figure.

In every scenario, a lapse rate and a share of careless people, the same simulated trials are analysed under every rule
about catch trials and with every treatment of the lapse rate; and the scenarios share their seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from psychostats.campaign import Campaign, Task
from psychostats.environment import LIBRARIES, versions
from psychostats.errors import StudyError, nearest
from psychostats.executors import Executor, Local
from psychostats.replications import Asked, LapseSource, Procedure, ask_effects, learn, replicate, true_values
from psychostats.rules import Exclusions
from psychostats.settings import Treatment
from psychostats.simulate import Plan
from psychostats.spec import ModelSpec
from psychostats.study import Study

#: Rules about single trials, and those that only say how missing answers are taken; others are about people.
_OF_TRIALS = ("missing_response", "rt_min", "rt_max")
_SOURCES: Mapping[Treatment, LapseSource] = {
    "ignored": "given",
    "known": "given",
    "estimated": "estimated",
    "catch": "catch",
}
NO_RULE = 0.0
"""The rule that keeps everybody."""


@dataclass(frozen=True)
class Question:
    """What is asked.

    Parameters
    ----------
    plan
        With one experiment, nobody careless and no lapses.
    spec
        The model of the analysis, its lapse rate 0.
    rules
        Applied beside the rule about catch trials.
    least
        Least shares of catch trials right, `NO_RULE` first.
    treatments
        Of the lapse rate.
    asked
        The quantities.
    rates, careless, spread
        The scenarios: lapse rates, shares of careless people, and the rates' SD between people over their mean.
    simulations, seed
        Of each scenario; and of them all.
    """

    plan: Plan
    spec: ModelSpec
    rules: Exclusions
    least: tuple[float, ...]
    treatments: tuple[Treatment, ...]
    asked: Asked
    rates: tuple[float, ...]
    careless: tuple[float, ...]
    spread: float
    simulations: int
    seed: int
    other_rules: bool = False

    @property
    def people(self) -> int:
        """Participants of the experiment."""
        return next(iter(self.plan.participants.values()))

    @property
    def scenarios(self) -> list[tuple[float, float]]:
        """Every lapse rate with every share of careless people."""
        return list(product(self.rates, self.careless))

    @property
    def fits(self) -> int:
        """How many fits there are at most."""
        return self.simulations * len(self.scenarios) * len(self.least) * len(self.treatments)

    def share_of(self, rate: float, share: float) -> float:
        """Return the share of careless people that a scenario has: of whole people."""
        return self.scenario(rate, share).careless / self.people

    def scenario(self, rate: float, share: float) -> Plan:
        """Return the plan of a scenario."""
        return replace(
            self.plan,
            spec=_lapsing(self.plan.spec, rate),
            lapse_sd=self.spread * rate,
            careless=round(share * self.people),
        )

    def procedures(self, rate: float) -> list[Procedure]:
        """Return every way of analysis where `rate` is the true one; `ignored` first, where others may begin."""
        made = []
        for least, treatment in product(self.least, self.treatments):
            rules = replace(self.rules, catch_accuracy_min=least if least > NO_RULE else None)
            spec = _lapsing(self.spec, rate) if treatment == "known" else self.spec
            source = _SOURCES[treatment]
            made.append(
                Procedure(f"{least:g} {treatment}", spec, rules, lapse=source, catch_accuracy=self.plan.catch_accuracy)
            )
        return made

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the results of tasks beside their values, as plain values; not how many there are."""
        return {
            "plan": repr(self.plan),
            "spec": self.spec.to_table(),
            "rules": self.rules.to_table(),
            "least": list(self.least),
            "treatments": list(self.treatments),
            "asked": repr(self.asked),
            "spread": self.spread,
            "seed": self.seed,
            "versions": versions(LIBRARIES),
        }


def ask_lapses(study: Study, simulations: int | None = None) -> Question:
    """Read the question of a study file.

    Parameters
    ----------
    study
        With ``[simulate]``; ``[lapses]`` may be absent.
    simulations
        Instead of the file's.

    Raises
    ------
    StudyError
        If the study cannot be simulated, the experiment is unknown, there are no catch trials, or a scenario is
        impossible.
    """
    table, plan = study.lapses, study.plan()
    experiment = table.experiment or next(iter(plan.participants))
    if experiment not in plan.participants:
        known = list(plan.participants)
        raise StudyError(
            f"{study.path}: [lapses] experiment is '{experiment}'{nearest(experiment, known)}; allowed are "
            f"{', '.join(known)}."
        )
    model = study.models[0].as_maximum().spec()
    if not model.family.binary or not plan.catch or plan.response != "correct":
        raise StudyError(
            f"{study.path}: [lapses] needs answers that are right or wrong, and catch trials ([design] catch)."
        )
    room = 1.0 - float(plan.spec.family.guess)
    if max(table.rates) >= min(room, 1.0 - float(model.family.guess)):
        raise StudyError(f"{study.path}: [lapses] rates holds {max(table.rates):g}; allowed are rates below {room:g}.")
    people = plan.participants[experiment]
    counts = {share: round(share * people) for share in table.careless}
    if len(set(counts.values())) < len(counts):
        alike = [f"{share:g}" for share in counts if list(counts.values()).count(counts[share]) > 1]
        raise StudyError(
            f"{study.path}: [lapses] careless holds {' and '.join(alike)}, which are as many of {people} participants; "
            "give shares that are further apart."
        )
    rules = study.rules()
    if not table.other_rules:
        rules = Exclusions(**{name: value for name, value in rules.to_table().items() if name in _OF_TRIALS})
    least = table.rules if table.rules is not None else (study.rules().catch_accuracy_min or None, 1.0)
    kept = dict.fromkeys(float(one) for one in least if one)
    base = replace(plan, participants={experiment: plan.participants[experiment]}, careless=0, lapse_sd=0.0)
    return Question(
        plan=replace(base, spec=_lapsing(base.spec, 0.0)),
        spec=_lapsing(model, 0.0),
        rules=replace(rules, catch_accuracy_min=None),
        least=(NO_RULE, *sorted(_apart(kept, plan.catch))),
        treatments=tuple(sorted(dict.fromkeys(table.treatments), key=lambda one: one != "ignored")),
        asked=ask_effects(study, learn(base)[1]),
        rates=tuple(sorted(set(table.rates))),
        careless=tuple(sorted(set(table.careless))),
        spread=table.spread,
        simulations=table.simulations if simulations is None else simulations,
        seed=table.seed,
        other_rules=table.other_rules,
    )


def lapse_tasks(question: Question) -> list[Task]:
    """Return a task for every simulation of every scenario."""
    return [
        Task(
            f"lapses/rate-{rate:g}-careless-{share:g}/{number:05d}",
            {"lapse": rate, "careless": share, "simulation": number},
        )
        for number in range(question.simulations)
        for rate, share in question.scenarios
    ]


def work(question: Question, values: Mapping[str, Any]) -> dict[str, Any]:
    """Do one task: simulate once, analyse in every way; see `psychostats.replications.replicate`."""
    rate, share = float(values["lapse"]), float(values["careless"])
    seed = int(np.random.SeedSequence([question.seed, int(values["simulation"])]).generate_state(1)[0])
    return replicate(question.scenario(rate, share), seed, question.procedures(rate), question.asked)


def true_contrasts(question: Question) -> pd.DataFrame:
    """Return the true value of every quantity at every lapse rate, among careful people: ``lapse, quantity, truth``."""
    rows = [
        {"lapse": rate, "quantity": name, "truth": value}
        for rate in question.rates
        for name, value in true_values(question.scenario(rate, 0.0), question.asked).items()
    ]
    return pd.DataFrame(rows)


def collect(question: Question, results: Iterable[tuple[Task, Mapping[str, Any]]]) -> pd.DataFrame:
    """Lay the results of tasks into one table.

    Returns
    -------
    DataFrame
        A row a simulation, rule, treatment and quantity: ``lapse, careless, simulation, rule, treatment, quantity,
        estimate, sd, conf_low, conf_high`` (NaN where there is no fit), ``truth, failed`` (why, or empty), ``singular,
        participants, trials, rate`` (estimated lapse rate, NaN where none was) and ``at_end`` (whether it is 0).
    """
    truths = true_contrasts(question)
    names = list(dict.fromkeys(truths["quantity"]))
    rows = [row for task, result in results for row in _rows(question, task.values, result, names)]
    table = pd.DataFrame(rows)
    return table.merge(truths, on=["lapse", "quantity"], how="left", validate="many_to_one") if rows else table


def campaign_of(question: Question, folder: Path) -> Campaign:
    """Return the campaign that keeps the results in a folder."""
    return Campaign(folder, work, question, question.identity)


def run_lapses(
    question: Question,
    folder: Path,
    executor: Executor | None = None,
    *,
    progress: Callable[[int, int, float], None] | None = None,
) -> pd.DataFrame:
    """Do all tasks in a folder, as far as they are not done there, and return their table; see `collect`."""
    tasks, campaign = lapse_tasks(question), campaign_of(question, folder)
    campaign.run(tasks, executor or Local(), progress=progress)
    return collect(question, campaign.results(tasks))


def _rows(
    question: Question, values: Mapping[str, Any], result: Mapping[str, Any], names: list[str]
) -> Iterator[dict[str, Any]]:
    for least, treatment in product(question.least, question.treatments):
        one = result[f"{least:g} {treatment}"]
        rate = one.get("lapse")
        shared = {
            **{name: values[name] for name in ("lapse", "careless", "simulation")},
            "rule": least,
            "treatment": treatment,
            "failed": one["failed"] or "",
            **{name: one[name] for name in ("singular", "participants", "trials")},
            "rate": math.nan if rate is None else rate,
            "at_end": rate is not None and one["lapse_sd"] is None,
        }
        for name in names:
            found = one["quantities"].get(name, {})
            numbers = {key: found.get(key, math.nan) for key in ("estimate", "sd", "conf_low", "conf_high")}
            yield shared | {"quantity": name} | numbers


def _apart(least: Iterable[float], catch: int) -> Iterator[float]:
    """Yield the rules that differ, of which some number of catch trials right fails one and passes the other."""
    seen = set()
    for one in sorted(least):
        passes = tuple(count / catch >= one for count in range(catch + 1))
        if passes not in seen and not all(passes):
            seen.add(passes)
            yield one


def _lapsing(spec: ModelSpec, rate: float) -> ModelSpec:
    return replace(spec, family=replace(spec.family, lapse=rate))
