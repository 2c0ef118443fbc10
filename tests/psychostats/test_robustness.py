"""Results with and without exclusions: each row fits the trials that it names, and the planted people matter."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from studies import study_of

from psychostats.effects import contrasts
from psychostats.exclusions import Excluded, apply_exclusions
from psychostats.fit import fit
from psychostats.robustness import COLUMNS, with_and_without
from psychostats.study import Study
from psychostats.trials import TrialTable

FORMULA = "correct ~ condition * depth + (1 | participant)"
STUDY = f"""
[exclusions]
catch_accuracy_min = 0.6
rt_max = 30.0
missing_response = "drop"
[effects]
factor = "condition"
[[models]]
name = "main"
formula = "{FORMULA}"
family = "bernoulli"
priors = ["b ~ normal(0, 0.01)"]
"""


def simulate(experiments: tuple[str, ...] = ("one",), seed: int = 3) -> pd.DataFrame:
    """Sixteen people an experiment, four of whom answer at random and are wrong in half of the catch trials."""
    rng = np.random.default_rng(seed)
    parts = []
    for experiment in experiments:
        for i in range(16):
            careless = i < 4
            catch = np.arange(44) >= 40
            condition = np.where(np.arange(44) % 2, "b", "a")
            p = np.where(catch, 1.0, np.where(condition == "b", 0.9, 0.6))
            correct = rng.binomial(1, np.full(44, 0.5) if careless else p).astype(float)
            correct[40:] = [0, 0, 1, 1] if careless else 1
            parts.append(
                pd.DataFrame(
                    {
                        "participant": f"{experiment}{i}",
                        "experiment": experiment,
                        "condition": condition,
                        "depth": rng.uniform(size=44).round(2),
                        "catch": catch,
                        "correct": correct,
                        "rt": 2.0,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def found(study: Study, frame: pd.DataFrame) -> tuple[pd.DataFrame, Excluded]:
    excluded = apply_exclusions(frame, study.rules())
    return with_and_without(study, TrialTable(frame), excluded), excluded


def difference(trials: pd.DataFrame, depth: float) -> pd.DataFrame:
    rows = contrasts(fit(FORMULA, trials, engine="laplace"), "condition", by={"depth": [depth]})
    return rows[(rows["scale"] == "difference") & (rows["target"] == "population")]


def test_each_row_is_the_fit_of_the_trials_that_it_names(tmp_path):
    study, frame = study_of(tmp_path, STUDY), simulate(("one", "two"))
    frame.loc[[25, 26], "rt"] = 90.0  # of a careless person
    frame.loc[900, "correct"] = np.nan
    table, excluded = found(study, frame)
    assert list(table) == list(COLUMNS)
    assert table[["experiment", "exclusions"]].to_numpy().tolist() == [
        ["one", "all"],
        ["one", "none"],
        ["one", "all but catch_accuracy_min"],
        ["two", "all"],
        ["two", "none"],
        ["two", "all but catch_accuracy_min"],
    ]
    main = frame[~frame["catch"]]
    one = main[main["experiment"] == "one"]
    depth = excluded.kept.loc[excluded.kept["experiment"] == "one", "depth"].mean()
    for row, trials in (
        (0, one[~one["participant"].isin([f"one{i}" for i in range(4)])]),
        (1, one),
        (2, one[one["rt"] < 30]),
    ):
        wanted = difference(trials, depth)
        assert table.loc[row, ["participants", "trials"]].tolist() == [trials["participant"].nunique(), len(trials)]
        for column in ("estimate", "conf_low", "conf_high"):
            assert table.loc[row, column] == pytest.approx(wanted[column].iloc[0], abs=1e-6)
    assert table.loc[4, "trials"] == 639  # one has no answer, and without one nothing can be fitted
    assert set(table["interval"]) == {"wald"} and set(table["conf_level"]) == {0.95}
    assert (table["estimate"].iloc[[0, 3]].to_numpy() > table["estimate"].iloc[[1, 4]].to_numpy()).all()
    assert (table["conclusion"] == "above 0").all() and (table["reason"] == "").all()


def test_without_any_offence_all_and_none_are_the_same(tmp_path):
    frame = simulate()
    blameless = frame[~frame["participant"].isin([f"one{i}" for i in range(4)])].drop(columns="experiment")
    table, _ = found(study_of(tmp_path, STUDY), blameless)
    assert table["exclusions"].tolist() == ["all", "none"] and set(table["experiment"]) == {"all"}
    assert table.loc[0].drop("exclusions").equals(table.loc[1].drop("exclusions"))


def test_a_conclusion_that_hangs_on_the_exclusions_shows(tmp_path):
    """Those who fail the catch trials answer with the labels swapped, and outnumber the others' difference."""
    frame = simulate()
    careless = frame["participant"].isin([f"one{i}" for i in range(4)]) & ~frame["catch"]
    frame.loc[careless, "correct"] = (frame.loc[careless, "condition"] == "a").astype(float)
    frame.loc[careless & (frame.index % 10 == 0), "correct"] = 0.0
    table, _ = found(study_of(tmp_path, STUDY), frame)
    assert table["conclusion"].iloc[0] == "above 0"
    assert table["conclusion"].iloc[1] != "above 0"


def test_a_likelihood_without_a_maximum_is_a_row_that_says_so(tmp_path):
    frame = simulate()
    careless = frame["participant"].isin([f"one{i}" for i in range(4)])
    frame.loc[~careless & ~frame["catch"] & (frame["condition"] == "b"), "correct"] = 1.0  # separated, but for them
    table, _ = found(study_of(tmp_path, STUDY), frame)
    bad, good = table.iloc[0], table.iloc[1]
    assert np.isnan(bad["estimate"]) and "maximum" in bad["reason"] and bad["conclusion"] == ""
    assert bad["participants"] == 12 and bad["trials"] == 480
    assert good["estimate"] > 0 and good["reason"] == ""
