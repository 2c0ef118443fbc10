"""What a multiverse says: its tables of specifications and choices, and sentences whose every number is a cell of them.

In: a `Multiverse`.  Out: tidy tables, and words for a document or a terminal.  Knows no document's layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from psychostats.document import Strong, Words, prose
from psychostats.measure import Measure, percent
from psychostats.multiverse import Multiverse
from psychostats.multiverse_measures import TOGETHER, measure_choices, measure_dimensions, summarise_estimates
from psychostats.results import ALL

WORDS = {
    "exclusions": "exclusions",
    "fixed": "predictors",
    "codings": "coding",
    "families": "family and link",
    "groups": "group effects",
    TOGETHER: "in combination",
}
"""What dimensions are called."""


def tabulate_summary(found: Multiverse) -> pd.DataFrame:
    """Return a row a question, contrast and experiment: `summarise_estimates` of each model once."""
    return pd.DataFrame(
        [
            {"question": question, "contrast": contrast, "experiment": experiment}
            | summarise_estimates(rows[rows["same_as"] == rows["specification"]])
            for question, contrast, experiment, rows in found.parts()
        ]
    )


def tabulate_measures(found: Multiverse) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `measure_choices` and `measure_dimensions` of every question, contrast and experiment."""
    choices, dimensions = [], []
    for question, contrast, experiment, rows in found.parts():
        what = {"question": question, "contrast": contrast, "experiment": experiment}
        choices.append(measure_choices(rows, found.plan.choices).assign(**what))
        dimensions.append(measure_dimensions(rows, found.plan.choices).assign(**what))
    tables = [pd.concat(parts, ignore_index=True) for parts in (choices, dimensions)]
    first, second = (one[[*what, *(name for name in one if name not in what)]] for one in tables)
    return first, second


def name_part(found: Multiverse, question: str, contrast: str, experiment: str = ALL) -> str:
    """Return what a question of an experiment is called: ``natural: distributed − local, change with depth``."""
    where = "" if experiment == ALL else f"{experiment}: "
    change = f", change with {found.plan.study.effects.moderator}" if question == "change" else ""
    return f"{where}{contrast.replace(' - ', ' − ')}{change}"


def say_multiverse(found: Multiverse) -> list[Words]:
    """Return a sentence or three a question and experiment: what the specifications say, and what moves them."""
    summary, (_, dimensions) = tabulate_summary(found), tabulate_measures(found)
    measure = found.plan.study.measure
    sentences: list[Words] = []
    for row in summary.to_dict("records"):
        keys = ("question", "contrast", "experiment")
        mine = dimensions[(dimensions[list(keys)] == [row[key] for key in keys]).all(axis=1)]
        name = Strong(name_part(found, row["question"], row["contrast"], row["experiment"]))
        if not row["estimated"]:
            sentences.append(prose("{0}: none of {1} specifications has an estimate.", name, row["specifications"]))
            continue
        words = prose(
            "{0}: {1}. Estimates run from {2} to {3}, median {4}. {5}",
            name,
            _say_count(row),
            measure.difference(row["lowest"]),
            measure.difference(row["highest"]),
            measure.difference(row["median"]),
            _say_own(row, measure),
        )
        sentences.append((*words, *prose(" {0}{1}", _say_matter(mine), _say_failed(row))))
    return sentences


def _say_count(row: Mapping[Any, Any]) -> str:
    """Say how many intervals lie where."""
    for key, words in (("above", "lies above 0"), ("open", "holds 0"), ("below", "lies below 0")):
        if row[key] == row["estimated"]:
            return f"the interval {words} in all {row['estimated']:,} specifications"
    return (
        f"of {row['estimated']:,} specifications the interval lies above 0 in {row['above']:,} "
        f"({percent(row['share_above'])}), holds 0 in {row['open']:,} and lies below 0 in {row['below']:,}"
    )


def _say_own(row: Mapping[Any, Any], measure: Measure) -> str:
    if pd.isna(row["estimate"]):
        return "The study's own specification has no estimate."
    own = f"{measure.interval(row)} ({row['conclusion']})"
    return f"The study's own, {own}, is number {row['rank']:g} from the smallest."


def _say_matter(dimensions: pd.DataFrame) -> str:
    """Say what moves the estimates most, and what the conclusion hangs on."""
    mine = dimensions[dimensions["dimension"] != TOGETHER]
    most = max(mine.to_dict("records"), key=lambda one: float(one["share"]))
    if not most["share"] > 0:
        together = float(dimensions.loc[dimensions["dimension"] == TOGETHER, "share"].fillna(0.0).sum())
        return (
            "No single choice moves the estimates; choices together do." if together > 0 else "All estimates are alike."
        )
    first = f"Estimates differ most by {WORDS[most['dimension']]} ({percent(most['share'])} of their variance)"
    changed = mine[mine["changed"].fillna(0) > 0].sort_values("changed_share", ascending=False)
    if not len(changed):
        return f"{first}; no single choice changes the conclusion."
    hangs = [
        f"{WORDS[one['dimension']]} in {one['changed']:,} of {one['pairs']:,} pairs"
        for one in changed.to_dict("records")
    ]
    return f"{first}. The conclusion changes with {', '.join(hangs)} that differ in nothing else."


def _say_failed(row: Mapping[Any, Any]) -> str:
    return f" {row['failed']:,} of {row['specifications']:,} have no estimate." if row["failed"] else ""


def describe_multiverse(found: Multiverse) -> str:
    """Return the sentences of `say_multiverse` as lines for a terminal."""
    lines = [
        words if isinstance(words, str) else "".join(str(getattr(run, "text", "")) for run in words)
        for words in say_multiverse(found)
    ]
    if found.plan.study.study.simulated:
        lines.insert(0, "Participants are simulated.")
    return "\n".join(lines)
