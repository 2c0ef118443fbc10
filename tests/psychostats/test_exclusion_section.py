"""What is said of exclusions agrees with the tables, whatever the experiments are called."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from studies import SMALL, known_fit

from psychostats.analysis import Analysis
from psychostats.document import BulletList, Heading, Paragraph, Table, Text
from psychostats.effects import contrasts
from psychostats.exclusion_section import describe_exclusions, describe_recordings, tabulate_robustness
from psychostats.exclusions import Excluded, Exclusions, apply_exclusions
from psychostats.parts import Source
from psychostats.robustness import COLUMNS
from psychostats.study import Study, read_study
from psychostats.trials import TrialTable

TRIALS = pd.DataFrame(
    {
        "participant": np.repeat([f"p{i}" for i in range(8)], 10),
        "representation": pd.Categorical(["local", "distributed"] * 40, ["local", "distributed"]),
        "correct": ([1, 1, 0, 1] * 20),
        "rt": 1.0,
    }
)


@dataclass
class _Analysis:
    """What this room reads of an analysis."""

    robustness: pd.DataFrame
    excluded: Excluded = field(
        default_factory=lambda: apply_exclusions(TRIALS, Exclusions(defaults="predecessor", total_time_min=False))
    )
    trials: TrialTable = field(default_factory=lambda: TrialTable(TRIALS))
    study: Study = field(default_factory=lambda: read_study(SMALL))

    @property
    def experiments(self) -> list[str]:
        return list(dict.fromkeys(self.robustness["experiment"]))

    @property
    def main(self) -> list[Any]:
        fit = known_fit(
            "correct ~ representation",
            TRIALS,
            {"Intercept": 0.0, "representationdistributed": 1.0},
            noise=0.01,
            draws=2000,
        )
        return [
            SimpleNamespace(experiment=name, fit=fit, headline=contrasts(fit, "representation"))
            for name in self.experiments
        ]


def rows(*given: tuple[str, str, float, float, str]) -> pd.DataFrame:
    """A table of `with_and_without`, of experiment, exclusions, limits, and reason."""
    made = []
    for experiment, exclusions, low, high, reason in given:
        side = "" if reason else "above 0" if low > 0 else "below 0" if high < 0 else "open"
        made.append(
            [
                *(experiment, exclusions, "" if reason else "distributed - local", 8, 80),
                *((low + high) / 2, low, high, 0.95, "wald", side, reason),
            ]
        )
    return pd.DataFrame(made, columns=list(COLUMNS))


def said(table: pd.DataFrame) -> str:
    blocks = describe_exclusions(as_analysis(_Analysis(table)), {"flow": SMALL})
    (words,) = [block.words for block in blocks if isinstance(block, Paragraph) and not isinstance(block.words, str)]
    return "".join(run.text for run in words if isinstance(run, Text))


def as_analysis(one: _Analysis) -> Analysis:
    found: Any = one
    return found  # type: ignore[no-any-return]


def test_the_sentence_says_whether_the_conclusion_is_the_same():
    same = rows(
        ("a", "all", 0.1, 0.2, ""), ("a", "none", 0.01, 0.2, ""), ("b", "all", -1, 1, ""), ("b", "none", -1, 1, "")
    )
    assert "is the same with all exclusions, with none, and" in said(same) and "in every experiment" in said(same)
    changed = rows(
        ("{0} & <b>", "all", 0.1, 0.2, ""),
        ("{0} & <b>", "none", -0.1, 0.2, ""),
        ("{0} & <b>", "all but rt_max", -0.2, -0.1, ""),
        ("b", "all", -1, 1, ""),
        ("b", "none", -1, 1, ""),
    )
    where = "depends on the exclusions in {0} & <b>: "
    assert f"{where}above 0 with all exclusions, open with none; below 0 with all but rt_max." in said(changed)
    assert "in every experiment" not in said(same[same["experiment"] == "a"])


def test_without_a_maximum_nothing_is_compared_and_the_table_says_why():
    nothing = rows(("a", "all", np.nan, np.nan, "no maximum."), ("a", "none", 0.1, 0.2, ""))
    assert "cannot be compared" in said(nothing)
    table = tabulate_robustness(as_analysis(_Analysis(nothing)))
    assert "No estimate in a, exclusions all: no maximum." in str(table.note)
    assert table.frame["difference"].tolist()[1:] == ["–", "+15.0 [+10.0, +20.0]"]


def test_the_table_begins_with_the_posterior_of_each_experiment():
    table = tabulate_robustness(as_analysis(_Analysis(rows(("a", "all", 0.1, 0.2, ""), ("a", "none", -0.1, 0.2, "")))))
    assert table.frame[["exclusions", "method", "conclusion"]].to_numpy().tolist() == [
        ["all", "posterior", ""],
        ["all", "likelihood", "above 0"],
        ["none", "likelihood", "open"],
    ]
    # logistic(1) - logistic(0), and the contrast in the caption, since there is but one
    assert table.frame["difference"].iloc[0].startswith("+23.") and "distributed − local" in str(table.caption)


def test_rules_that_could_not_be_applied_are_listed():
    blocks = describe_exclusions(as_analysis(_Analysis(rows(("a", "all", 0.1, 0.2, "")))), {"flow": SMALL})
    listed = [block.words for block in blocks if isinstance(block, Paragraph) and isinstance(block.words, str)]
    assert listed == [
        "Rules of the predecessor that these trials could not be judged by: repeat_participation (no session); "
        "instruction_time_min (no instruction_time); practice_attempts_max (no practice_attempts); "
        "catch_accuracy_min (no catch); response_count_min (no response)."
    ]


def test_files_are_counted_by_tool_and_those_left_out_are_named():
    sources = (
        *(Source(f"{i}.json", "0", 10, "jspsych", 40) for i in range(3)),
        Source("bad.json", "0", 0, "", 0, "skipped", "it is empty"),
        Source("old.json", "0", 9, "jspsych", 0, "known"),
    )
    table = TrialTable(TRIALS, sources=sources, notes=("rt was in ms.",))
    blocks = describe_recordings(table)
    heading, counts, named, notes = blocks
    assert isinstance(heading, Heading) and isinstance(counts, Table) and isinstance(named, Table)
    assert counts.frame.to_numpy().tolist() == [
        ["jspsych", "known", 1, 0],
        ["jspsych", "read", 3, 120],
        ["unknown", "skipped", 1, 0],
    ]
    assert named.frame.to_numpy().tolist() == [["bad.json", "it is empty"], ["old.json", "known"]]
    assert notes == BulletList(("rt was in ms.",))
    plain = TrialTable(TRIALS, sources=(Source("trials.csv", "0", 10, "table", 40),))
    assert describe_recordings(TrialTable(TRIALS)) == describe_recordings(plain) == []
    many = TrialTable(TRIALS, sources=tuple(Source(f"{i}", "0", 0, "", 0, "skipped", "empty") for i in range(60)))
    named = describe_recordings(many)[-1]
    assert isinstance(named, Table) and len(named.frame) == 50 and "10 more" in str(named.note)
