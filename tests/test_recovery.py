"""The committed recovery study holds what calibrated intervals must hold; `benchmarks/recovery.py` made it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from psychostats.study import read_study

ROOT = Path(__file__).resolve().parents[1]
TABLE = pd.read_csv(ROOT / "tests" / "benchmarks" / "recovery.csv")
FIXED = TABLE[TABLE["term"].str.startswith("b_")]


def inside(table: pd.DataFrame) -> pd.Series:
    return (table["conf_low"] <= table["true"]) & (table["true"] <= table["conf_high"])


def test_it_is_the_embedded_study_with_seeds_1_to_20() -> None:
    truth = read_study(ROOT / "data" / "studies" / "colin2024.toml").plan().truth
    assert sorted(TABLE["seed"].unique()) == list(range(1, 21))
    assert len(TABLE) == 20 * sum(len(terms) for terms in truth.values())
    for row in TABLE.itertuples():
        assert row.true == truth[row.experiment][row.term]


@pytest.mark.parametrize("term", sorted(FIXED["term"].unique()))
def test_intervals_of_fixed_effects_hold_the_truth_as_often_as_they_say(term: str) -> None:
    """60 intervals of 95 %: outside the central 99.8 % of a binomial only if something is wrong."""
    held = inside(FIXED[FIXED["term"] == term])
    low, high = stats.binom.ppf([0.001, 0.999], len(held), 0.95)
    assert low <= held.sum() <= high


def test_fixed_effects_are_not_biased_or_overconfident_together() -> None:
    """Each z is near standard normal; terms of one fit are correlated, so limits are those of 60 fits, not of 240."""
    z = (FIXED["estimate"] - FIXED["true"]) / FIXED["sd"]
    for term, values in z.groupby(FIXED["term"]):
        assert abs(values.mean()) < 4 / 60**0.5, term
        assert 0.7 < values.std() < 1.3, term


def test_no_fit_of_the_study_failed_badly() -> None:
    assert TABLE["rhat"].max() < 1.1
