"""Features one by one: closed forms, shares, recovery of known features, and invariance."""

import numpy as np
import pandas as pd
import pytest
from feature_trials import FORMULA, answer, features_of, true_accuracy
from scipy import integrate, optimize, special, stats
from studies import known_fit

from psychostats.errors import InputError
from psychostats.fit import fit
from psychostats.interpretability import (
    Features,
    depth_thirds,
    draw_features,
    feature_accuracy,
    rank_features,
    share_above,
)
from psychostats.intervals import Interval

PLAIN = "correct ~ representation + (1 + representation | pair)"
B = {"Intercept": 0.3, "representationdistributed": 0.5}


def small(pairs=4, people=6, experiments=("one",)):
    """Give trials of every feature; who is right does not matter where the draws are known."""
    rows = [
        {"experiment": e, "participant": f"p{p}", "pair": f"pair{i}", "representation": basis, "feature": f"{basis}{i}"}
        for e in experiments
        for p in range(people)
        for i in range(pairs)
        for basis in ("local", "distributed")
    ]
    trials = pd.DataFrame(rows)
    trials["correct"] = (np.arange(len(trials)) % 3 > 0).astype(int)
    trials["representation"] = pd.Categorical(trials["representation"], ["local", "distributed"])
    return trials


def afc(eta):
    return 0.5 + 0.5 * special.expit(eta)


def test_with_all_effects_at_zero_accuracy_is_the_inverse_link():
    table = feature_accuracy(known_fit(PLAIN, small(), B, family="afc"))
    assert table["estimate"].to_numpy() == pytest.approx([afc(0.3)] * 4 + [afc(0.8)] * 4)
    assert list(table["pair"]) == ["pair0", "pair1", "pair2", "pair3"] * 2
    assert list(table["representation"]) == ["local"] * 4 + ["distributed"] * 4
    assert (table["conf_high"] - table["conf_low"]).max() < 1e-12


def test_a_feature_has_its_pairs_own_effects():
    r = np.array([[0.4, -0.2], [-1.0, 0.3], [2.0, 0.0], [0.0, 1.5]])
    table = feature_accuracy(known_fit(PLAIN, small(), B, family="afc", r={"pair": r}, sd={"pair": [1.0, 1.0]}))
    expected = np.concatenate([afc(0.3 + r[:, 0]), afc(0.8 + r.sum(axis=1))])
    assert table["estimate"].to_numpy() == pytest.approx(expected)


def test_participants_are_averaged_over_and_without_spread_change_nothing():
    formula = f"{PLAIN} + (1 + representation | participant)"
    r = np.array([[0.4, -0.2], [-1.0, 0.3], [2.0, 0.0], [0.0, 1.5]])
    apart = np.random.default_rng(0).normal(size=(6, 2))  # of those who took part: they do not matter
    given = {"family": "afc", "r": {"pair": r, "participant": apart}}
    none = feature_accuracy(known_fit(formula, small(), B, **given, sd={"participant": [0.0, 0.0]}))
    assert none["estimate"][1] == pytest.approx(afc(0.3 - 1.0))
    some = feature_accuracy(known_fit(formula, small(), B, **given, sd={"participant": [0.8, 0.6]}))
    for place, eta, sd in ((1, 0.3 - 1.0, 0.8), (5, 0.8 - 0.7, 1.0)):
        expected = integrate.quad(lambda u, e=eta, s=sd: afc(e + s * u) * stats.norm.pdf(u), -12, 12)[0]
        assert some["estimate"][place] == pytest.approx(expected, abs=1e-9)


def test_stimuli_of_a_feature_are_averaged_over_and_one_stimulus_is_the_features_own():
    trials = small()
    trials["stimulus"] = trials["feature"] + "/" + (trials["participant"] > "p2").astype(int).astype(str)
    formula = "correct ~ representation + (1 | pair) + (1 | stimulus)"
    many = known_fit(formula, trials, B, family="afc", sd={"stimulus": [1.0]}, r={"stimulus": np.ones((16, 1))})
    expected = integrate.quad(lambda u: afc(0.3 + u) * stats.norm.pdf(u), -12, 12)[0]
    assert feature_accuracy(many)["estimate"][0] == pytest.approx(expected, abs=1e-9)
    single = trials.assign(stimulus=trials["feature"])
    one = known_fit(formula, single, B, family="afc", sd={"stimulus": [1.0]}, r={"stimulus": np.ones((8, 1))})
    assert feature_accuracy(one)["estimate"][0] == pytest.approx(afc(1.3))


def test_experiments_count_alike_whatever_their_trials():
    trials = small(experiments=("one", "two"))
    trials = trials[(trials["experiment"] == "one") | (trials["participant"] == "p0")]
    b = {"Intercept": 0.0, "experimenttwo": 1.0, "representationdistributed": 0.5}
    made = known_fit("correct ~ representation + experiment + (1 | pair)", trials, b, family="afc")
    table = feature_accuracy(made)
    assert table["estimate"][0] == pytest.approx((afc(0.0) + afc(1.0)) / 2)
    assert (table["trials"] == 7).all()


def test_shares_of_studied_features_are_counted_draw_by_draw():
    rng = np.random.default_rng(3)
    r = np.stack([rng.normal(size=(4, 2)) for _ in range(400)])
    made = known_fit(PLAIN, small(), B, family="afc", sd={"pair": [0.5, 0.5]})
    made.result.posterior["r_pair"].values = r.reshape(2, 200, 4, 2)
    table = share_above(made, 0.75, interval=Interval("eti", 0.9))
    local, distributed = afc(0.3 + r[:, :, 0]) > 0.75, afc(0.8 + r.sum(axis=2)) > 0.75
    studied = table[table["target"] == "studied"]
    assert list(studied["features"]) == [4, 4, 8]
    expected = [local.mean(), distributed.mean(), distributed.mean() - local.mean()]
    assert studied["estimate"].to_numpy() == pytest.approx(expected)
    difference = distributed.mean(axis=1) - local.mean(axis=1)
    assert studied["conf_low"].iloc[2] == pytest.approx(np.quantile(difference, 0.05))
    assert studied["pd"].iloc[2] == pytest.approx(max((difference > 0).mean(), (difference < 0).mean()))
    above = feature_accuracy(made)["above"].to_numpy()
    assert above == pytest.approx(np.concatenate([local.mean(axis=0), distributed.mean(axis=0)]))


def test_the_share_of_new_features_is_the_normal_laws():
    made = known_fit(PLAIN, small(), B, family="afc", sd={"pair": [0.8, 0.6]})
    new = share_above(made, 0.8).query("target == 'new'")["estimate"].to_numpy()
    at = special.logit(0.6)  # (0.8 - 0.5) / 0.5
    expected = [stats.norm.cdf((0.3 - at) / 0.8), stats.norm.cdf((0.8 - at) / 1.0)]
    assert new == pytest.approx([*expected, expected[1] - expected[0]], abs=1e-6)


def test_the_share_of_new_features_solves_for_the_mean_over_participants():
    formula = f"{PLAIN} + (1 | participant)"
    made = known_fit(formula, small(), B, family="afc", sd={"pair": [0.8, 0.6], "participant": [1.2]})

    def over(x):
        return integrate.quad(lambda u: afc(x + 1.2 * u) * stats.norm.pdf(u), -12, 12)[0] - 0.8

    at = optimize.brentq(over, -10, 10)
    new = share_above(made, 0.8).query("target == 'new'")["estimate"].to_numpy()
    assert new[:2] == pytest.approx([stats.norm.cdf((0.3 - at) / 0.8), stats.norm.cdf(0.8 - at)], abs=1e-6)


@pytest.mark.parametrize(("threshold", "expected"), [(0.4, 1.0), (0.97, 0.0)])
def test_thresholds_that_no_feature_can_miss_or_reach(threshold, expected):
    made = known_fit(PLAIN, small(), B, family="afc", lapse=0.05, sd={"pair": [0.8, 0.6]})
    table = share_above(made, threshold)
    assert table[table["contrast"].isna()]["estimate"].to_numpy() == pytest.approx(expected, abs=1e-9)


def test_effects_that_differ_between_experiments_have_no_new_features():
    trials = small(experiments=("one", "two"))
    made = known_fit("correct ~ representation + (1 | pair:experiment)", trials, B, family="afc")
    assert set(share_above(made)["target"]) == {"studied"}


def test_places_come_after_all_and_in_their_order():
    trials = small().assign(depth=lambda x: x["pair"].str[-1].astype(float) / 3)
    trials["layer"] = pd.Categorical(np.where(trials["depth"] < 0.5, "second", "first"), ["second", "first"])
    found = draw_features(known_fit(PLAIN, trials, B, family="afc"), trials)
    assert {"feature", "layer", "depth"} <= set(found.table) and "participant" not in found.table
    places = share_above(found, by="layer")["layer"]
    assert list(places[places.notna()].unique()) == ["second", "first"] and places[:6].isna().all()
    assert list(depth_thirds(found.table)) == ["early", "middle", "middle", "late"] * 2


def test_ranks_do_not_depend_on_the_order_of_rows_and_no_feature_is_both_best_and_worst():
    table = pd.DataFrame(
        {
            "pair": list("abcdef"),
            "representation": ["local"] * 5 + ["distributed"],
            "estimate": [0.7, 0.9, 0.7, 0.5, 0.7, 0.6],
            "conf_low": [0.6, 0.8, 0.65, 0.4, 0.6, 0.5],
        }
    )
    ranked = rank_features(table, 2)
    shuffled = rank_features(table.sample(frac=1, random_state=1), 2)
    pd.testing.assert_frame_equal(ranked, shuffled)
    local = ranked[ranked["representation"] == "local"]
    assert local["pair"].tolist() == ["b", "c", "d", "e"]
    assert local["end"].tolist() == ["best", "best", "worst", "worst"] and local["rank"].tolist() == [1, 2, 1, 2]
    assert rank_features(table, 9).query("representation == 'local'")["pair"].is_unique
    with pytest.raises(InputError, match="the 0 best features"):
        rank_features(table, 0)


@pytest.fixture(scope="module")
def recovered():
    """Give features, what is true of them, and what two simulated studies say of them."""
    out = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        features = features_of(48, rng)
        trials = answer(features, rng, people=70)
        made = fit(FORMULA, trials, family="afc", engine="laplace")
        truth = features.assign(truth=true_accuracy(features))[["pair", "representation", "truth"]]
        found = draw_features(made, trials)
        out.append((feature_accuracy(found).merge(truth, on=["pair", "representation"]), found, made, trials))
    return out


def test_shrunk_estimates_are_nearer_to_the_truth_than_raw_accuracy(recovered):
    for table, *_ in recovered:
        shrunk, raw = ((table[name] - table["truth"]).pow(2).mean() ** 0.5 for name in ("estimate", "raw"))
        assert shrunk < 0.85 * raw


def test_intervals_cover_known_features(recovered):
    tables = pd.concat([table for table, *_ in recovered])
    covered = ((tables["conf_low"] <= tables["truth"]) & (tables["truth"] <= tables["conf_high"])).mean()
    assert 0.89 <= covered <= 0.99  # 192 features: 0.95 -+ 3.8 standard errors, down to what normality costs


def test_the_share_above_covers_the_true_share(recovered):
    for table, found, *_ in recovered:
        shares = share_above(found).query("target == 'studied'")
        for level in ("local", "distributed"):
            true = (table.loc[table["representation"] == level, "truth"] > 0.75).mean()
            row = shares[shares["representation"] == level].iloc[0]
            assert row["conf_low"] - 0.02 <= true <= row["conf_high"] + 0.02


def test_the_order_of_rows_changes_nothing(recovered):
    table, _, _, trials = recovered[0]
    shuffled = trials.sample(frac=1, random_state=3)
    again = feature_accuracy(draw_features(fit(FORMULA, shuffled, family="afc", engine="laplace"), shuffled))
    assert list(again["feature"]) == list(table["feature"])
    assert again["estimate"].to_numpy() == pytest.approx(table["estimate"].to_numpy(), abs=1e-6)


def test_a_maximum_and_a_posterior_say_nearly_the_same(fitted, trials, model):
    sampled = feature_accuracy(fitted("afc"))
    maximum = feature_accuracy(fit(trials=trials("afc"), engine="laplace", **model("afc")))
    assert (sampled["estimate"] - maximum["estimate"]).abs().mean() < 0.02
    assert np.corrcoef(sampled["estimate"], maximum["estimate"])[0, 1] > 0.95
    assert set(maximum["interval"]) == {"eti"}


def test_bad_calls_are_refused_in_a_sentence():
    trials = small()
    with pytest.raises(
        InputError, match=r"has no effects of pair, .* of participant. Add \(1 \+ representation \| pair"
    ):
        draw_features(known_fit("correct ~ representation + (1 | participant)", trials, B, family="afc"))
    with pytest.raises(InputError, match="'basis' is no factor of the model"):
        draw_features(known_fit(PLAIN, trials, B, family="afc"), factor="basis")
    with pytest.raises(InputError, match="the same in all trials of a feature"):
        draw_features(known_fit("correct ~ representation + (1 | pair:participant)", trials, B, family="afc"))
    made = known_fit(PLAIN, trials, B, family="afc")
    with pytest.raises(InputError, match="no accuracy between 0 and 1"):
        share_above(made, 1.0)
    with pytest.raises(InputError, match="'layer' is no column of the features"):
        share_above(made, by="layer")
    with pytest.raises(InputError, match="the features lack the column 'pair'"):
        draw_features(made, trials.drop(columns="pair"))
    with pytest.raises(InputError, match="the features lack pair 'pair0' in representation 'local'"):
        draw_features(made, trials[trials["pair"] != "pair0"])
    scores = trials.assign(correct=np.random.default_rng(1).normal(size=len(trials)))
    with pytest.raises(InputError, match="which the family gaussian has not"):
        draw_features(fit(PLAIN, scores, family="gaussian", engine="laplace"))
    assert isinstance(draw_features(made), Features)
