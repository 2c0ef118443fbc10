"""The multiverse: every defensible analysis of a study, each fitted once, and what all of them say of the headline.

In: a plan, who does the fits, and a folder for their results.  Out: a `Multiverse`, a table with a row a specification,
experiment and question.  Knows no words and no figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from psychostats.executors import Executor
from psychostats.multiverse_plan import NUMBERS, QUESTIONS, Plan, Question
from psychostats.spec import specify


@dataclass(frozen=True)
class Multiverse:
    """What was found.

    Parameters
    ----------
    plan
        What was fitted.
    table
        A row an experiment, question, contrast and specification: ``experiment, question, contrast, specification,
        exclusions, fixed, codings, families, groups, headline, same_as, participants, trials, formula, family,
        estimate, conf_low, conf_high, conf_level, interval, conclusion, singular, reason``.  Differences are in
        probability, in the population; `same_as` is the first specification that is the same model of the same rows,
        itself where there is none before.  Without an estimate numbers are NaN and `reason` says why.  A specification
        whose formula fixes the change along the moderator says nothing of that question and has no row there.
    """

    plan: Plan
    table: pd.DataFrame

    @property
    def distinct(self) -> pd.DataFrame:
        """The rows of the table with each model of the same rows once."""
        return self.table[self.table["same_as"] == self.table["specification"]]

    @property
    def converged(self) -> bool:
        """Whether the study's own specification has an estimate in every experiment."""
        return bool((self.table.loc[self.table["headline"], "reason"] == "").all())

    def parts(self) -> Iterator[tuple[Question, str, str, pd.DataFrame]]:
        """Yield question, contrast, experiment and the rows of each, questions in their order."""
        for question in QUESTIONS:
            mine = self.table[self.table["question"] == question]
            for contrast in mine["contrast"].unique():
                for experiment in self.plan.experiments:
                    rows = mine[(mine["contrast"] == contrast) & (mine["experiment"] == experiment)]
                    if len(rows):
                        yield question, str(contrast), experiment, rows


def run_multiverse(
    plan: Plan,
    folder: Path,
    executor: Executor,
    *,
    progress: Callable[[int, int, float], None] | None = None,
) -> Multiverse:
    """Fit what has no result yet, and lay all results side by side.

    Parameters
    ----------
    plan
        As `plan_multiverse` gives it.
    folder
        For results; those already there are used again.
    executor
        Who does the fits.
    progress
        As for `psychostats.campaign.Campaign.run`.
    """
    campaign = plan.campaign(folder)
    campaign.run(plan.tasks, executor, progress=progress)
    results = {task.name: result for task, result in campaign.results(plan.tasks)}
    return Multiverse(plan, _lay_out(plan, results))


def _lay_out(plan: Plan, results: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return the table of `Multiverse`."""
    values = {one.name: one.values for one in plan.tasks}  # noqa: PD011, no pandas
    people = {}
    for sha, at in plan.shared.rows.items():
        part = plan.examined.frame.iloc[at]
        people[sha] = {"participants": int(part["participant"].nunique()), "trials": len(part)}
    asked = _questions(plan, results)
    out: list[dict[str, Any]] = []
    for experiment in plan.experiments:
        first: dict[str, int] = {}
        for one in plan.specifications:
            name = plan.fits[experiment, one.number]
            result, task = results[name], values[name]
            what = {
                "experiment": experiment,
                "specification": one.number,
                **one.labels,
                "headline": one.number == 1,
                "same_as": first.setdefault(name, one.number),
                **people[task["rows"]],
                "formula": one.formula,
                "family": specify(one.formula, **one.family).family.describe(),
                "conf_level": task["interval"][1],
                "interval": task["interval"][0],
                "singular": ", ".join(result["singular"]),
                "reason": result["reason"],
            }
            for question, contrast in asked[experiment, one.labels["fixed"]]:
                numbers: Mapping[str, Any] = next(
                    (row for row in result["found"] if (row["question"], row["contrast"]) == (question, contrast)), {}
                )
                found = {key: numbers.get(key) for key in NUMBERS}
                out.append(what | {"question": question, "contrast": contrast} | found)
    table = pd.DataFrame(out)
    table[list(NUMBERS)] = table[list(NUMBERS)].astype(float)
    unsaid = table["estimate"].isna() & (table["reason"] == "")
    table.loc[unsaid, "reason"] = "this contrast is not in the trials that are left."
    table["conclusion"] = np.select(
        [table["estimate"].isna(), table["conf_low"] > 0, table["conf_high"] < 0], ["", "above 0", "below 0"], "open"
    )
    order = ["experiment", "question", "contrast", "specification", *plan.choices, "headline", "same_as"]
    order += ["participants", "trials", "formula", "family", *NUMBERS, "conf_level", "interval", "conclusion"]
    table["question"] = pd.Categorical(table["question"], list(QUESTIONS))
    table["experiment"] = pd.Categorical(table["experiment"], list(plan.experiments))
    table = table.sort_values(["question", "contrast", "experiment", "specification"], kind="stable")
    table = table.astype({"question": str, "experiment": str}).reset_index(drop=True)
    return table[[*order, "singular", "reason"]]


def _questions(plan: Plan, results: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Return what each experiment and fixed part is asked: what any of its specifications answers.

    Where none has an estimate, what others of the fixed part answer, or else others at all.
    """
    told: dict[tuple[str, str], dict[tuple[str, str], None]] = {
        (experiment, label): {} for experiment in plan.experiments for label in plan.choices["fixed"]
    }
    for experiment in plan.experiments:
        for one in plan.specifications:
            for row in results[plan.fits[experiment, one.number]]["found"]:
                told[experiment, one.labels["fixed"]][row["question"], row["contrast"]] = None
    asked = {}
    for (experiment, label), mine in told.items():
        alike = dict.fromkeys(pair for (_, other), pairs in told.items() if other == label for pair in pairs)
        every = dict.fromkeys(pair for pairs in told.values() for pair in pairs)
        asked[experiment, label] = list(mine or alike or every or {("contrast", ""): None})
    return asked
