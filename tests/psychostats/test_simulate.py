"""Simulated trials: who sees what is exact, and what they answer comes from the true parameters."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from psychostats.design import code
from psychostats.errors import InputError
from psychostats.simulate import RECORDED, Plan, draw_levels, simulate_trials, true_parameters, write_trials
from psychostats.spec import specify
from psychostats.trials import read_trials

FORMULA = "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | pair)"
B = {"b_Intercept": 0.4, "b_representationdistributed": 0.5, "b_depth": -0.6, "b_representationdistributed:depth": 0.9}
SD = {
    f"sd_{group}__{term}": 0.0
    for group in ("participant", "pair")
    for term in ("Intercept", "representationdistributed")
}


def plan(formula=FORMULA, terms=B | SD, people=24, family="afc", guess=None, **changes):
    participants = people if isinstance(people, dict) else {"only": people}
    settings = {
        "spec": specify(formula, family=family, guess=guess),
        "truth": dict.fromkeys(participants, terms),
        "participants": participants,
        "representations": ("local", "distributed"),
        "layers": ("a", "b", "c", "d"),
        "pairs": 16,
        "main": 12,
        "catch": 2,
        "practice": 3,
    }
    return Plan(**(settings | changes))


def main_trials(table):
    return table[(table["phase"] == "main") & ~table["catch"]]


def test_one_seed_gives_one_table_and_another_seed_another():
    pd.testing.assert_frame_equal(simulate_trials(plan(), 7), simulate_trials(plan(), 7))
    assert not simulate_trials(plan(), 7)["correct"].equals(simulate_trials(plan(), 8)["correct"])


def test_everyone_sees_the_trials_of_the_plan_in_one_count():
    table = simulate_trials(plan(people={"x": 5, "y": 4}), 1)
    assert tuple(table.columns) == RECORDED
    assert table.groupby("experiment", sort=False)["participant"].nunique().to_dict() == {"x": 5, "y": 4}
    assert table["participant"].nunique() == 9
    for _, person in table.groupby("participant"):
        assert person["trial"].tolist() == list(range(1, 18))
        assert (person["phase"] == "practice").tolist() == [True] * 3 + [False] * 14
        assert person["catch"].sum() == 2
        assert person.loc[person["phase"] == "practice", ["pair", "feature"]].isna().all(axis=None)
    assert main_trials(table)[["pair", "feature", "layer", "depth"]].notna().all(axis=None)


def test_the_embedded_studys_counts_come_out_balanced():
    trials = main_trials(simulate_trials(plan(people=187, pairs=80, main=27), 1))
    assert not trials.duplicated(["participant", "pair"]).any()
    split = pd.crosstab(trials["participant"], trials["representation"])
    assert set(map(tuple, np.sort(split.to_numpy(), axis=1).tolist())) == {(13, 14)}
    seen = trials.groupby(["pair", "representation"], observed=True).size()
    assert len(seen) == 160
    assert (seen.min(), seen.max()) == (187 * 27 // 160, 187 * 27 // 160 + 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.data())
def test_pairs_and_representations_are_dealt_evenly(people, pairs, data):
    main = data.draw(st.integers(1, pairs))
    simple = {"formula": "correct ~ 1", "terms": {"b_Intercept": 0.0}, "catch": 0, "practice": 0}
    trials = simulate_trials(plan(people=people, pairs=pairs, main=main, **simple), 1)
    assert not trials.duplicated(["participant", "pair"]).any()
    names = [f"pair{i + 1:02d}" for i in range(pairs)]
    seen = pd.crosstab(trials["pair"], trials["representation"], dropna=False).reindex(names, fill_value=0)
    assert np.ptp(seen.to_numpy()) <= 1
    split = pd.crosstab(trials["participant"], trials["representation"], dropna=False)
    assert np.ptp(split.to_numpy(), axis=1).max() <= 1


def test_between_participants_each_sees_one_representation():
    trials = main_trials(simulate_trials(plan("correct ~ 1", {"b_Intercept": 0.0}, 25, within=False), 1))
    each = trials[["participant", "representation"]].drop_duplicates()
    assert not each["participant"].duplicated().any()
    assert sorted(each["representation"].value_counts()) == [12, 13]


def test_depth_runs_from_first_to_last_layer_and_a_pair_keeps_its_layer():
    trials = main_trials(simulate_trials(plan(), 1))
    assert trials.groupby("layer", observed=True)["depth"].unique().map(list).to_dict() == {
        "a": [0.0],
        "b": [0.3333],
        "c": [0.6667],
        "d": [1.0],
    }
    assert trials.groupby("layer", observed=True)["pair"].nunique().tolist() == [4, 4, 4, 4]
    assert len(trials[["pair", "layer"]].drop_duplicates()) == 16


@pytest.mark.parametrize(("family", "guess"), [("afc", None), ("afc", 0.25), ("bernoulli", None)])
def test_without_group_effects_shares_are_the_familys_means(family, guess):
    made = plan(family=family, guess=guess, people=2000, catch=0, practice=0)
    trials = simulate_trials(made, 1)
    cells = trials.groupby(["representation", "depth"], observed=True)["correct"].agg(["mean", "size"]).reset_index()
    second = (cells["representation"] == "distributed").to_numpy()
    eta = 0.4 + 0.5 * second + (-0.6 + 0.9 * second) * cells["depth"].to_numpy()
    p = made.spec.family.mean(eta)
    z = (cells["mean"].to_numpy() - p) / np.sqrt(p * (1 - p) / cells["size"].to_numpy())
    assert len(z) == 8
    assert np.abs(z).max() < 4


def test_people_differ_by_the_true_sd():
    people, sd = 3000, 1.2
    terms = {"b_Intercept": 0.5, "sd_participant__Intercept": sd}
    made = plan("correct ~ 1 + (1 | participant)", terms, people, catch=0, practice=0)

    def moment(power):
        return integrate.quad(lambda z: made.spec.family.mean(0.5 + sd * z) ** power * stats.norm.pdf(z), -9, 9)[0]

    mean, square = moment(1), moment(2)
    # The variance of a share of 12 answers: between people, and binomial within.
    variance = square - mean**2 + (mean - square) / 12
    shares = simulate_trials(made, 2).groupby("participant")["correct"].mean()
    assert shares.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / people))
    assert shares.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / people))


def test_effects_of_levels_have_the_true_covariance():
    terms = (
        SD
        | B
        | {
            "sd_pair__Intercept": 0.7,
            "sd_pair__representationdistributed": 2.0,
            "cor_pair__Intercept__representationdistributed": -0.6,
        }
    )
    rows = pd.DataFrame(
        {
            "correct": 1,
            "representation": pd.Categorical(["local", "distributed"] * 4000, ["local", "distributed"]),
            "depth": np.linspace(0, 1, 8000),
            "participant": np.repeat(["p", "q"], 4000),
            "pair": np.repeat([f"f{i:04d}" for i in range(4000)], 2),
        }
    )
    coding = code(specify(FORMULA).formula, rows)
    blocks = coding.random(rows)
    parameters = true_parameters(coding, blocks, terms)
    covariance = {block.group: c[0] for block, c in zip(blocks, parameters.covariance, strict=True)}
    np.testing.assert_allclose(covariance["pair"], [[0.49, -0.84], [-0.84, 4.0]])
    np.testing.assert_array_equal(covariance["participant"], 0)
    assert parameters.b[0].tolist() == [B[f"b_{name}"] for name in coding.names]
    drawn = draw_levels(np.random.default_rng(1), parameters, blocks)
    r = {block.group: effects[0] for block, effects in zip(blocks, drawn.r, strict=True)}
    np.testing.assert_array_equal(r["participant"], 0)
    np.testing.assert_allclose(np.cov(r["pair"].T), covariance["pair"], atol=0.25)
    np.testing.assert_allclose(r["pair"].mean(axis=0), 0, atol=0.12)


@pytest.mark.parametrize(
    ("family", "guess", "chance"), [("afc", 0.5, 0.5), ("afc", 0.25, 0.25), ("bernoulli", None, 0.5)]
)
def test_careless_people_answer_at_chance_and_fast(family, guess, chance):
    terms = B | SD | {"b_Intercept": 9.0}
    made = plan(terms=terms, people={"x": 300, "y": 300}, family=family, guess=guess, careless=100, catch_accuracy=1.0)
    table = simulate_trials(made, 1)
    bad = table[table["catch"]].groupby(["experiment", "participant"])["correct"].mean() < 1
    assert 60 <= bad["x"].sum() <= 100  # at most those who are careless, but for a lucky few of them
    shares = table[~table["catch"] & (table["phase"] == "main")].groupby("participant")["correct"].mean()
    careless = shares.index[shares < 0.99]
    assert abs(len(careless) - 200) <= 2
    slow = table["participant"].isin(careless)
    n = int((slow & (table["phase"] == "main") & ~table["catch"]).sum())
    assert shares[careless].mean() == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / n))
    assert table.loc[slow, "rt"].median() / table.loc[~slow, "rt"].median() == pytest.approx(0.25, rel=0.1)
    assert table.loc[~slow, "rt"].median() == pytest.approx(6.0, rel=0.05)


def test_careful_people_meet_the_accuracies_of_side_trials():
    table = simulate_trials(plan(people=1500, catch_accuracy=0.9, practice_accuracy=0.7), 1)
    for rows, p in ((table["catch"], 0.9), (table["phase"] == "practice", 0.7)):
        assert table.loc[rows, "correct"].mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / rows.sum()))


def test_a_share_of_main_trials_alone_goes_missing_and_wholly():
    table = simulate_trials(plan(people=1000, missing_rate=0.1), 1)
    lost = table["correct"].isna()
    assert lost.equals(table["rt"].isna()) and lost.equals(table["response"].isna())
    assert lost.equals(table["confidence"].isna())
    assert not lost[table["catch"] | (table["phase"] == "practice")].any()
    n = len(main_trials(table))
    assert lost.sum() / n == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / n))


def test_either_side_is_right_half_of_the_time():
    table = simulate_trials(plan(people=1000), 1)
    right = (table["response"] == "right") == (table["correct"] == 1)  # whether the right side was correct
    for answer in (0, 1):
        part = right[table["correct"] == answer]
        assert part.mean() == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / len(part)))


@pytest.mark.parametrize("size", [11, 995])
def test_an_experiment_does_not_depend_on_the_size_of_another(size):
    """With 995 and 10 people, names reach four digits; they still sort as they count."""
    alone, beside = (
        simulate_trials(plan(terms=B | SD | {"sd_participant__Intercept": 1.0}, people={"x": n, "y": 10}), 4)
        for n in (9, size)
    )
    y = [
        table[table["experiment"] == "y"].drop(columns="participant").reset_index(drop=True)
        for table in (alone, beside)
    ]
    pd.testing.assert_frame_equal(*y)
    assert beside["participant"].drop_duplicates().is_monotonic_increasing


def test_a_stimulus_is_one_item_even_where_names_begin_alike():
    table = simulate_trials(
        plan(
            "correct ~ 1",
            {"b_Intercept": 0.0},
            {"natural": 24, "native": 24},
            representations=("dense", "distributed"),
        ),
        1,
    )
    items = table[["stimulus", "experiment", "pair", "representation", "catch"]].drop_duplicates()
    assert not items["stimulus"].duplicated().any()
    assert not items.drop(columns="stimulus").duplicated().any()
    usual = simulate_trials(plan(people={"natural": 2}), 1)["stimulus"]
    assert usual.str.fullmatch(r"nat-(pair\d\d|practice)-[ld](-catch)?").all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"b_depth": None}, "the true value of b_depth is missing; given are b_Intercept"),
        ({"b_dept": 1.0}, r"b_dept is no term of the model \(did you mean 'b_depth'\?\)"),
        (
            {"cor_pair__Intercept__representation": 0.5},
            r"did you mean 'cor_pair__Intercept__representationdistributed'\?",
        ),
        ({"sd_pair__Intercept": -0.1}, "the true SDs and correlations of pair are no covariance matrix"),
        ({"cor_pair__Intercept__representationdistributed": 1.2}, "of pair are no covariance matrix"),
    ],
)
def test_true_values_that_do_not_fit_the_model_are_refused(change, said):
    terms = {name: value for name, value in (B | SD | change).items() if value is not None}
    with pytest.raises(InputError, match=said):
        simulate_trials(plan(terms=terms), 1)


def test_plans_that_cannot_be_dealt_are_refused():
    with pytest.raises(InputError, match="17 main trials a person need as many pairs; there are 16"):
        simulate_trials(plan(main=17), 1)
    with pytest.raises(InputError, match="5 catch trials a person need as many main ones; there are 4"):
        simulate_trials(plan(main=4, catch=5), 1)
    with pytest.raises(InputError, match="13 practice trials"):
        simulate_trials(plan(practice=13), 1)
    with pytest.raises(InputError, match="experiment 'y' has no true values; given are x"):
        simulate_trials(plan(people={"x": 2, "y": 2}, truth={"x": B | SD}), 1)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_reads_back_to_the_same_trials(tmp_path, ending):
    table = simulate_trials(plan(missing_rate=0.05), 1)
    write_trials(table, tmp_path / f"trials.{ending}")
    read = read_trials(tmp_path / f"trials.{ending}", unanswered="keep", needed=["correct", "rt"], assignment="within")
    for name in RECORDED:
        ours, theirs = table[name].astype(object), read[name].astype(object).reset_index(drop=True)
        same = (ours == theirs) | (ours.isna() & theirs.isna())
        assert same.all(), name
