"""Balance and matching: closed forms, what must not matter, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from psychostats.errors import InputError
from psychostats.matching import balance, match

C = ["entropy", "edges"]


def stimuli(n=60, shift=0.8, seed=1):
    """Give trials of n stimuli a basis in three layers, two trials each; those of distributed are busier."""
    rng = np.random.default_rng(seed)
    rows = []
    for basis, by in (("local", 0.0), ("distributed", shift)):
        for i in range(n):
            x = rng.standard_normal(2) + by * np.array([1.0, -0.5])
            rows.append(
                {
                    "stimulus": f"{basis[0]}{i:02d}",
                    "representation": basis,
                    "layer": f"block{i % 3}",
                    "entropy": 5 + 0.3 * x[0],
                    "edges": 0.1 + 0.02 * x[1],
                    "correct": int(rng.uniform() < 0.7),
                }
            )
    frame = pd.DataFrame(rows)
    frame["representation"] = pd.Categorical(frame["representation"], ["local", "distributed"])
    return pd.concat([frame, frame], ignore_index=True)


def test_the_standardised_difference_is_cohens_of_units_not_trials():
    frame = pd.DataFrame(
        {
            "stimulus": ["a", "b", "c", "d", "a"],
            "representation": ["local", "local", "distributed", "distributed", "local"],
            "entropy": [1.0, 3.0, 4.0, 8.0, 1.0],
        }
    )
    frame["representation"] = pd.Categorical(frame["representation"], ["local", "distributed"])
    row = balance(frame, ["entropy"]).iloc[0]
    assert (row["mean_local"], row["mean_distributed"], row["units"]) == (2.0, 6.0, 4)
    assert row["smd"] == pytest.approx(4.0 / np.sqrt((2.0 + 8.0) / 2))


def test_places_are_in_units_of_all_stimuli_and_matched_ones_in_those_before():
    trials = stimuli()
    whole = balance(trials, C, by="layer")
    assert whole["layer"].isna().sum() == 2 and len(whole) == 8
    sd = np.sqrt(trials.groupby("representation", observed=True)["entropy"].var(ddof=1).mean())
    block = trials[trials["layer"] == "block1"].groupby("representation", observed=True)["entropy"].mean()
    smd = whole[(whole["layer"] == "block1") & (whole["covariate"] == "entropy")]["smd"].iloc[0]
    assert smd == pytest.approx((block["distributed"] - block["local"]) / sd, rel=0.01)
    few = match(trials, C).trials
    narrow = balance(few, C)["smd"] / balance(few, C, like=trials)["smd"]
    assert (narrow != 1).all()


def test_matching_brings_the_bases_together_one_to_one_within_strata_and_caliper():
    trials = stimuli()
    found = match(trials, C, reach=0.6)
    before, after = (balance(x, C, like=trials)["smd"].abs() for x in (trials, found.trials))
    assert (before > 0.3).all() and (after < 0.3 * before).all()
    pairs = found.pairs
    assert pairs["local"].is_unique and pairs["distributed"].is_unique and (pairs["distance"] <= 0.6).all()
    layer = trials.drop_duplicates("stimulus").set_index("stimulus")["layer"]
    assert (layer[pairs["local"]].to_numpy() == pairs["layer"]).all()
    assert (layer[pairs["distributed"]].to_numpy() == pairs["layer"]).all()
    assert set(found.trials["stimulus"]) == {*pairs["local"], *pairs["distributed"]}
    assert len(found.trials) == 4 * len(pairs)
    assert found.units[["units", "matched"]].to_numpy().tolist() == [[60, len(pairs)]] * 2


def test_the_distance_is_the_root_mean_square_in_sds_once_independent():
    trials = stimuli()
    found = match(trials, C, within=(), caliper=np.inf, reach=np.inf)
    units = trials.drop_duplicates("stimulus").set_index("stimulus")
    centred = units[C] - units.groupby("representation", observed=True)[C].transform("mean")
    S = centred.T @ centred / (len(units) - 2)
    pair = found.pairs.iloc[3]
    gap = (units.loc[pair["local"], C] - units.loc[pair["distributed"], C]).to_numpy(dtype=float)
    assert pair["distance"] == pytest.approx(np.sqrt(gap @ np.linalg.inv(S.to_numpy()) @ gap / 2))
    assert len(found.pairs) == 60  # without a caliper all are paired


def test_the_caliper_holds_along_the_direction_in_which_the_bases_differ():
    trials = stimuli(n=120, shift=1.2)
    units = trials.drop_duplicates("stimulus").set_index("stimulus")
    mean = units.groupby("representation", observed=True)[C].mean()
    centred = units[C] - units.groupby("representation", observed=True)[C].transform("mean")
    S = (centred.T @ centred / (len(units) - 2)).to_numpy()
    shift = (mean.loc["distributed"] - mean.loc["local"]).to_numpy()
    direction = np.linalg.solve(S, shift)
    pairs = match(trials, C, within=(), caliper=0.3, reach=np.inf).pairs
    gap = units.loc[pairs["local"], C].to_numpy() - units.loc[pairs["distributed"], C].to_numpy()
    assert (np.abs(gap @ direction) <= 0.3 * np.sqrt(shift @ direction) + 1e-12).all() and len(pairs) > 20
    wide = match(trials, C, within=(), caliper=np.inf, reach=np.inf).pairs
    gap = units.loc[wide["local"], C].to_numpy() - units.loc[wide["distributed"], C].to_numpy()
    assert (np.abs(gap @ direction) > 0.3 * np.sqrt(shift @ direction)).any()


def test_as_many_as_possible_are_paired_then_as_near_as_possible():
    frame = pd.DataFrame(
        {
            "stimulus": list("abcd"),
            "representation": pd.Categorical(["local"] * 2 + ["distributed"] * 2, ["local", "distributed"]),
            "entropy": [0.0, 1.0, 0.9, 1.9],
        }
    )
    # Taking the nearest first, b with c, would leave a and d too far apart.
    found = match(frame, ["entropy"], within=(), caliper=np.inf, reach=1.5)
    assert found.pairs[["local", "distributed"]].to_numpy().tolist() == [["a", "c"], ["b", "d"]]


def test_neither_order_nor_answers_nor_units_of_measurement_decide():
    trials = stimuli()
    one = match(trials, C)
    other = trials.sample(frac=1, random_state=2).assign(correct=0)
    other[C] = other[C] * [1000.0, -3.0] + [5.0, 2.0]
    two = match(other, C)
    pd.testing.assert_frame_equal(one.pairs, two.pairs, rtol=1e-8)
    assert set(two.trials.index) == set(one.trials.index)


def test_features_can_be_matched_as_well_as_stimuli():
    trials = stimuli().assign(pair=lambda x: "pair" + x["stimulus"].str[1:])
    found = match(trials, C, unit="pair")
    kept = set(zip(found.pairs["local"], ["local"] * 99, strict=False)) | set(
        zip(found.pairs["distributed"], ["distributed"] * 99, strict=False)
    )
    assert set(zip(found.trials["pair"], found.trials["representation"].astype(str), strict=True)) == kept


def test_bad_calls_are_refused_in_a_sentence():
    trials = stimuli()
    with pytest.raises(InputError, match="'entropi' is no column of the trials"):
        balance(trials, ["entropi"])
    with pytest.raises(InputError, match="no covariate is named"):
        match(trials, [])
    with pytest.raises(InputError, match="the covariate 'layer' holds no numbers"):
        match(trials, ["layer"])
    with pytest.raises(InputError, match="'entropy' is missing or infinite in some trials"):
        match(trials.assign(entropy=np.nan), C)
    with pytest.raises(InputError, match="covariates of stimulus 'l00' differ between its trials"):
        match(trials.assign(entropy=np.arange(240.0)), C)
    with pytest.raises(InputError, match="there are 1: local"):
        match(trials[trials["representation"] == "local"], C)
    with pytest.raises(InputError, match="the caliper of 0 SDs is not above 0"):
        match(trials, C, caliper=0)
    with pytest.raises(InputError, match="determine one another"):
        match(trials.assign(twice=trials["entropy"] * 2), ["entropy", "twice"])
    with pytest.raises(InputError, match="'flat' does not vary"):
        match(trials.assign(flat=1.0), ["entropy", "flat"])
    with pytest.raises(InputError, match="no unit of local has a like one of distributed"):
        match(trials, C, caliper=1e-9)
