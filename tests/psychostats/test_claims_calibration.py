"""The claims are made falsely as often as they may be: in stored studies of people who were shown a features run."""

from __future__ import annotations

import pandas as pd
import pytest
from claims import OUT, SEEDS, STUDY, SWAPPED, band_of, summarise, summarise_swaps, swap, without_effects
from runs import make_run

from psychostats.features import read_run
from psychostats.study import read_study


@pytest.fixture(scope="module")
def stored():
    return summarise(pd.read_csv(OUT, comment="#")).set_index(["engine", "planted", "claim"])


@pytest.mark.parametrize("claim", ["i", "ii"])
def test_with_nothing_planted_a_claim_is_made_as_often_as_it_may_be(stored, claim):
    row = stored.loc[("laplace", "nothing", claim)]
    assert row["studies"] == SEEDS
    assert row["least"] <= row["made"] <= row["most"]


@pytest.mark.parametrize("claim", ["i", "ii"])
def test_with_the_default_effects_planted_the_claims_are_found(stored, claim):
    row = stored.loc[("laplace", "default", claim)]
    assert row["studies"] == SEEDS and row["above"] > 0.8 and row["above"] == row["made"]


def test_sampled_studies_say_what_the_maxima_say():
    table = pd.read_csv(OUT, comment="#")
    drawn = table[table["engine"] == "pymc"].set_index("seed")
    maxima = table[(table["engine"] == "laplace") & (table["planted"] == "default")].set_index("seed").loc[drawn.index]
    assert len(drawn) == 10 and (drawn["planted"] == "default").all()
    for claim in ("i", "ii"):
        width = maxima[f"{claim}_conf_high"] - maxima[f"{claim}_conf_low"]
        assert ((drawn[f"{claim}_estimate"] - maxima[f"{claim}_estimate"]).abs() < 0.25 * width).all()
        assert ((drawn[f"{claim}_conf_low"] > 0) == (maxima[f"{claim}_conf_low"] > 0)).sum() >= 9


def test_the_third_claim_is_made_of_swapped_bases_as_often_as_it_may_be():
    table = summarise_swaps(pd.read_csv(SWAPPED, comment="#")).set_index("measure")
    assert (table["studies"] == SEEDS).all()
    for measure in ("size_subtract", "size_reconstruct"):
        assert table.loc[measure, "least"] <= table.loc[measure, "made"] <= table.loc[measure, "most"]


def test_the_band_is_the_central_one():
    least, most = band_of(200)
    assert (least, most) == (3 / 200, 19 / 200)


def test_nothing_planted_leaves_what_is_no_claim():
    study = read_study(STUDY)
    before, after = study.simulate.shown.truth, without_effects(study).simulate.shown.truth
    zeroed = {term for term in before if before[term] != after[term]}
    assert zeroed == {
        "b_representationdistributed",
        "b_depth",
        "b_representationdistributed:depth",
        "b_evidence_elements",
    }
    assert all(after[term] == 0 for term in zeroed)


def test_swapping_makes_the_bases_exchangeable(tmp_path):
    """In the small run every direction drops the logit by one more: swapped, the difference has either sign."""
    run = read_run(make_run(tmp_path / "run"))
    found = pd.DataFrame([swap(run, seed) for seed in range(6)])["size_subtract_estimate"]
    assert found.min() < 0 < found.max() and found.abs().max() < 1
