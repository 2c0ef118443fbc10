"""The summary of the report: an `Analysis` into sentences.

In: tables of effects.  Out: one sentence a finding, experiment by experiment, and before them what they have in common.
Picks the rows; the words are of sentences.py.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pandas as pd

from psychostats.analysis import ALL, Analysis
from psychostats.document import Words
from psychostats.sentences import say_difference, say_interaction, say_overall


def summary_sentences(analysis: Analysis) -> list[Words]:
    """Return the sentences of the summary; every number in them is a cell of the effects tables, rounded."""
    study = analysis.study.effects
    sentences: list[Words] = []
    differences: dict[str, list[dict[str, Any]]] = {}
    changes: dict[str, list[dict[str, Any]]] = {}
    for result in analysis.main:
        name = "" if result.experiment == ALL else result.experiment
        rows = _population(result.headline)
        means = _population(result.means)
        if analysis.moderator:
            means = means[means[analysis.moderator].isna()]
        for first, second in combinations(result.fit.coding.levels[study.factor], 2):
            pair, levels = f"{second} - {first}", (first, second)
            difference = _one(rows, scale="difference", contrast=pair)
            ratio = _one(rows, scale="odds_ratio", contrast=f"{second} / {first}")
            both = (_one(means, **{study.factor: first}), _one(means, **{study.factor: second}))
            differences.setdefault(pair, []).append(difference)
            sentences.append(say_difference(name, levels, both, difference, ratio))
            if analysis.moderator is None:
                continue
            at = _population(result.contrasts).dropna(subset=[analysis.moderator])
            ends = (study.at[0], study.at[-1])
            low, high = (_one(at, scale="difference", contrast=pair, **{analysis.moderator: end}) for end in ends)
            moved = _population(result.interaction)
            change = _one(moved[moved["contrast"].str.startswith(f"({pair})")], scale="difference")
            changes.setdefault(pair, []).append(change)
            sentences.append(say_interaction(name, levels, analysis.moderator, ends, (low, high), change))
    overall = []
    for pair, rows_of_pair in differences.items() if len(analysis.main) > 1 else ():
        name = pair.replace(" - ", " − ")
        overall.append(say_overall(rows_of_pair, f"the difference in accuracy, {name},"))
        if pair in changes:
            overall.append(say_overall(changes[pair], f"its change with {analysis.moderator}"))
    return [*overall, *sentences]


def _population(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["target"] == "population"]


def _one(rows: pd.DataFrame, **wanted: Any) -> dict[str, Any]:
    """Return the one row with the wanted values."""
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    found = rows.to_dict("records")
    assert len(found) == 1, f"{len(found)} rows for {wanted}"
    return {str(key): value for key, value in found[0].items()}
