"""Studies are said to differ as often as they may be: in stored simulated studies, one of them made anew."""

from __future__ import annotations

import pandas as pd
import pytest
from claims import SEEDS
from reanalyses import OUT, compare, summarise


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(OUT, comment="#")


def test_studies_of_the_same_people_and_pairs_differ_as_seldom_as_they_may(table):
    row = summarise(table).set_index("pairs").loc["same"]
    assert row["studies"] == SEEDS
    assert row["least"] <= row["differ"] <= row["most"]


def test_both_together_hold_the_truth(table):
    row = summarise(table).set_index("pairs").loc["same"]
    assert row["held"] >= 0.90  # Laplace's intervals are somewhat narrow under a guess rate


def test_other_pairs_under_the_same_names_look_like_a_difference_between_studies(table):
    found = summarise(table).set_index("pairs")["differ"]
    assert found["others"] > found["same"]


def test_a_stored_study_is_made_anew(table):
    stored = table[(table["pairs"] == "same") & (table["seed"] == 3)].iloc[0]
    for name, value in compare("same", 3).items():
        assert value == pytest.approx(stored[name], abs=2e-4), name
