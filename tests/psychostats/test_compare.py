"""Comparison of maxima of the likelihood: R's anova(), what is nested in what, and what does not compare.

Of draws: test_loo.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from deviations import FOLDER, load, maximum, trials
from scipy import stats
from studies import SMALL

import psychostats as ps
from psychostats.columns import analysed
from psychostats.compare import COMPARISON_COLUMNS, compare
from psychostats.errors import InputError
from psychostats.fit import Fit
from psychostats.simulation import write_simulation
from psychostats.study import read_study

LRT = load("tests")["lrt"]


@pytest.fixture(scope="module")
def slopes() -> pd.DataFrame:
    return trials(FOLDER / "data" / "slopes3.csv")


@pytest.fixture(scope="module")
def few() -> pd.DataFrame:
    return trials(FOLDER / "data" / "few.csv")


@pytest.fixture(scope="module")
def gaussian() -> pd.DataFrame:
    return trials(FOLDER / "data" / "gaussian.csv")


# -- R's numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LRT)
def test_the_test_is_that_of_r_s_anova(name: str) -> None:
    golden = LRT[name]
    data = trials(FOLDER / "data" / golden["data"])
    fits = {size: maximum(golden[f"formula_{size}"], data) for size in ("large", "small")}
    table = compare(fits)
    assert table.columns.tolist() == list(COMPARISON_COLUMNS)
    assert table["model"].tolist() == ["small", "large"]
    assert table["formula"].tolist() == [golden["formula_small"], golden["formula_large"]]
    for column in ("df", "logLik", "AIC", "BIC"):
        if column in golden:
            np.testing.assert_allclose(table[column], golden[column], rtol=0, atol=2e-6, err_msg=column)
    small, large = table.to_dict("records")
    assert small["against"] is np.nan or small["against"] is None
    assert np.isnan(small["chisq"]) and np.isnan(small["p_value"])
    assert (large["against"], large["chisq_df"]) == ("small", golden["Df"])
    assert large["chisq"] == pytest.approx(golden["Chisq"], abs=2e-6)
    assert large["p_value"] == pytest.approx(golden["p"], rel=2e-6)
    if golden.get("p_mixture") is not None:
        assert large["p_boundary"] == pytest.approx(golden["p_mixture"], rel=2e-6)
    weights = np.exp(-0.5 * (table["AIC"] - table["AIC"].min()))
    np.testing.assert_allclose(table["weight_AIC"], weights / weights.sum(), rtol=1e-12)
    assert table["delta_AIC"].min() == 0
    assert table["delta_AIC"].max() == pytest.approx(abs(np.diff(table["AIC"])[0]))


@pytest.mark.parametrize(
    ("name", "boundary"),
    [
        ("interaction", None),
        ("correlation", None),
        ("random_slope", "sd_participant__representationdistributed"),
        ("random_slopes_of_three", "sd_participant__conditionnatural, sd_participant__conditionoptimized"),
        ("variance_at_zero", "sd_block__Intercept"),
        ("only_variance", "sd_participant__Intercept"),
    ],
)
def test_sds_that_the_smaller_model_fixes_at_zero_are_named(name: str, boundary: str | None) -> None:
    golden = LRT[name]
    data = trials(FOLDER / "data" / golden["data"])
    row = compare({size: maximum(golden[f"formula_{size}"], data) for size in ("small", "large")}).iloc[1]
    assert (None if pd.isna(row["boundary"]) else row["boundary"]) == boundary
    single = boundary is not None and "," not in boundary
    assert pd.notna(row["p_boundary"]) == single
    if single and row["chisq"] > 1e-6:  # Stram and Lee: half of df - 1, half of df
        tails = [stats.chi2.sf(row["chisq"], df) if df else 0.0 for df in (row["chisq_df"] - 1, row["chisq_df"])]
        assert row["p_boundary"] == pytest.approx(np.mean(tails), rel=1e-9)
        assert row["p_boundary"] < row["p_value"]


# -- What is nested in what --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("smaller", "larger", "df"),
    [
        # The span of the columns counts, not their names nor their coding.
        ("correct ~ depth", "correct ~ poly(depth, 2)", 1),
        ("correct ~ representation", "correct ~ C(representation, sum) * depth", 2),
        ("correct ~ I(2 * depth)", "correct ~ representation + depth", 1),
        ("correct ~ depth", "correct ~ 0 + representation + depth", 1),
        ("correct ~ depth", "correct ~ representation + log(1 + depth)", None),
        ("correct ~ depth + offset(depth)", "correct ~ representation + depth", None),
        # A covariance left free holds every smaller one.
        ("correct ~ 1 + (1 | participant)", "correct ~ depth + (1 | participant)", 1),
        ("correct ~ 1 + (1 | participant)", "correct ~ 1 + (1 + representation || participant)", 1),
        ("correct ~ 1 + (1 + depth || participant)", "correct ~ 1 + (1 + depth | participant)", 1),
        ("correct ~ 1 + (0 + depth | participant)", "correct ~ 1 + (1 + depth | participant)", 2),
        ("correct ~ 1 + (1 | participant)", "correct ~ 1 + (1 + I(depth - 3) | participant)", 2),
        ("correct ~ 1 + (1 | participant)", "correct ~ representation + (0 + depth | participant)", None),
        ("correct ~ representation", "correct ~ depth + (1 | participant)", None),
    ],
)
def test_a_special_case_is_known_by_what_it_spans(smaller: str, larger: str, df: int | None, few: pd.DataFrame) -> None:
    table = compare({"a": maximum(larger, few), "b": maximum(smaller, few)})
    assert table["model"].tolist() == ["b", "a"]
    if df is None:
        assert table["against"].isna().all() and table["chisq"].isna().all()
    else:
        assert table["against"].tolist()[1] == "b" and table["chisq_df"].tolist()[1] == df
        assert table["chisq"].iloc[1] >= 0


def test_other_links_compare_and_are_not_nested(few: pd.DataFrame) -> None:
    fits = {
        "logit": maximum("correct ~ depth", few),
        "probit": maximum("correct ~ depth + representation", few, link="probit"),
    }
    table = compare(fits)
    assert table["against"].isna().all()
    assert table["weight_AIC"].sum() == pytest.approx(1)


def test_an_sd_is_named_only_where_the_smaller_model_has_it_at_zero(few: pd.DataFrame) -> None:
    # One effect of all kinds is two effects that agree: a correlation of 1, and no SD of 0.
    smaller = maximum("correct ~ depth + (1 | participant)", few)
    larger = maximum("correct ~ depth + (0 + representation | participant)", few)
    row = compare({"a": smaller, "b": larger}).iloc[1]
    assert row["against"] == "a" and row["chisq_df"] == 2
    assert pd.isna(row["boundary"]) and pd.isna(row["p_boundary"])
    apart = maximum("correct ~ depth + (1 | participant) + (0 + representation | participant)", few)
    assert compare({"a": smaller, "b": apart}).iloc[1]["boundary"].split(", ") == [
        "sd_participant__representationdistributed",
        "sd_participant__representationlocal",
    ]


def test_levels_in_another_order_are_the_same_group(few: pd.DataFrame) -> None:
    turned = few.assign(participant=pd.Categorical(few["participant"], sorted(set(few["participant"]))[::-1]))
    fits = {
        "a": maximum("correct ~ depth + (1 | participant)", turned),
        "b": maximum("correct ~ depth + representation + (1 | participant)", few),
    }
    assert compare(fits)["against"].iloc[1] == "a"


def test_a_gain_within_the_optimisers_tolerance_is_none() -> None:
    data = trials(FOLDER / "data" / "terms.csv")
    small, large = (
        "correct ~ C(f, sum) + x + (1 | participant)",
        "correct ~ C(f, sum) + x + (1 | participant) + (1 | block)",
    )
    row = compare({"a": maximum(small, data), "b": maximum(large, data)}).iloc[1]
    assert row["boundary"] == "sd_block__Intercept"
    assert (row["chisq"], row["p_value"], row["p_boundary"]) == (0.0, 1.0, 1.0)


def test_each_model_is_tested_against_the_one_before(few: pd.DataFrame) -> None:
    fits = {
        "crossed": maximum("correct ~ representation * depth", few),
        "null": maximum("correct ~ 1", few),
        "both": maximum("correct ~ representation + depth", few),
        "depth": maximum("correct ~ depth", few),
    }
    table = compare(fits)
    assert table["model"].tolist() == ["null", "depth", "both", "crossed"]
    assert table["against"].tolist()[1:] == ["null", "depth", "both"]
    assert table["chisq"].iloc[1:].sum() == pytest.approx(2 * (table["logLik"].iloc[3] - table["logLik"].iloc[0]))


def test_shuffled_rows_are_the_same_rows(few: pd.DataFrame) -> None:
    small, large = "correct ~ depth + (1 | participant)", "correct ~ representation + depth + (1 | participant)"
    plain = compare({"a": maximum(small, few), "b": maximum(large, few)})
    shuffled = few.sample(frac=1, random_state=2)
    mixed = compare({"a": maximum(small, shuffled), "b": maximum(large, few)})
    assert mixed["against"].iloc[1] == "a"
    for name in ("logLik", "AIC", "BIC", "chisq", "p_value", "weight_AIC"):
        np.testing.assert_allclose(mixed[name], plain[name], rtol=1e-6, err_msg=name)


def test_every_pair_must_compare_not_each_with_the_first_alone(few: pd.DataFrame) -> None:
    turned = few.assign(depth=few["depth"].to_numpy()[::-1])
    fits = {"null": maximum("correct ~ 1", few), "a": maximum("correct ~ depth", few)}
    with pytest.raises(InputError, match=r"^a and b cannot be compared: .*\(their columns correct, depth differ\)"):
        compare(fits | {"b": maximum("correct ~ representation + depth", turned)})


def test_restricted_likelihoods_compare_where_fixed_parts_agree(gaussian: pd.DataFrame) -> None:
    small, large = (f"y ~ f + x + {random}" for random in ("(1 | participant)", "(1 | participant) + (1 | item)"))
    table = compare(
        {name: maximum(f, gaussian, family="gaussian", reml=True) for name, f in (("s", small), ("l", large))}
    )
    assert table["boundary"].iloc[1] == "sd_item__Intercept"
    assert table["p_boundary"].iloc[1] == pytest.approx(table["p_value"].iloc[1] / 2)


# -- What does not compare ---------------------------------------------------------------------------------------------


def _counts(few: pd.DataFrame) -> pd.DataFrame:
    groups = few.groupby(["participant", "representation"], observed=True, as_index=False)["correct"]
    return groups.agg(["sum", "count"]).assign(correct=lambda t: t["sum"], wrong=lambda t: t["count"] - t["sum"])


ONE = "correct ~ representation + (1 | participant)"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda d: maximum(ONE, d.iloc[:-1]), "fitted to 480 and 479 rows; a comparison is of the same trials"),
        (lambda d: maximum(ONE, d.assign(correct=d["correct"].to_numpy()[::-1])), "fitted to other trials"),
        (
            lambda d: maximum("right ~ 1 + (1 | participant)", d.assign(right=d["correct"])),
            "they model other responses, correct and right",
        ),
        (
            lambda d: maximum("cbind(correct, wrong) ~ 1 + (1 | participant)", _counts(d), family="binomial"),
            "one models single trials and the other counts",
        ),
        (lambda d: maximum(ONE, d, family="gaussian"), "one models answers and the other measurements"),
        (lambda d: maximum(ONE, d, quadrature=5), "by Laplace's approximation and the other by 5 nodes"),
    ],
)
def test_fits_that_do_not_compare_are_refused(other: Callable[[pd.DataFrame], Fit], words: str, few) -> None:
    one = maximum(ONE, few)
    with pytest.raises(InputError, match=rf"^one and two cannot be compared: .*({words})"):
        compare({"one": one, "two": other(few)})


def test_restricted_likelihoods_of_other_data_are_refused(gaussian: pd.DataFrame) -> None:
    def fitted(formula: str, reml: bool) -> Fit:
        return maximum(formula, gaussian, family="gaussian", reml=reml)

    one = fitted("y ~ x + (1 | participant)", True)
    with pytest.raises(InputError, match="their fixed parts differ, and REML likelihoods are of other data then"):
        compare({"one": one, "two": fitted("y ~ f + x + (1 | participant)", True)})
    with pytest.raises(InputError, match="one was fitted by REML and the other by maximum likelihood"):
        compare({"one": one, "two": fitted("y ~ x + (1 | participant)", False)})


def test_draws_are_on_another_scale(fitted: Callable[[str], Fit], trials: Callable[[str], pd.DataFrame]) -> None:
    drawn = fitted("uncorrelated")
    best = maximum("correct ~ condition + (1 | participant)", trials("uncorrelated"))
    with pytest.raises(InputError, match=r"^drawn holds draws from a posterior and best a maximum .* LOO of the one"):
        compare({"best": best, "drawn": drawn})


def test_one_fit_is_no_comparison(few: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="needs two fits at least"):
        compare({"one": maximum("correct ~ 1", few)})


# -- The command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory):
    """Give the directories of two models of a simulated study: with and without the change of the effect with depth."""
    folder = tmp_path_factory.mktemp("study")
    write_simulation(read_study(SMALL), folder / "trials.csv")
    rows = ps.read_trials(folder / "trials.csv", missing="drop", needed=["correct"])
    rows = rows[analysed(rows)]
    rows["representation"] = pd.Categorical(rows["representation"], ["local", "distributed"])
    for name, operator in (("with", "*"), ("without", "+")):
        formula = f"correct ~ representation {operator} depth + (1 | participant) + (1 | pair)"
        maximum(formula, rows, family="afc", out=folder / name)
    return folder


def test_does_the_effect_change_with_depth(study, run) -> None:
    answer = run("compare", study / "with", study / "without", "--json")
    assert (answer.code, answer.err) == (0, "")
    smaller, larger = answer.data
    assert list(larger) == list(COMPARISON_COLUMNS)
    assert (smaller["model"], larger["model"], larger["against"]) == ("without", "with", "without")
    assert smaller["chisq"] is None and larger["boundary"] is None and larger["p_boundary"] is None
    fits = {name: ps.load_fit(study / name) for name in ("without", "with")}
    chisq = 2 * (fits["with"].likelihood["logLik"] - fits["without"].likelihood["logLik"])
    assert larger["chisq"] == pytest.approx(chisq) and larger["chisq_df"] == 1
    assert larger["p_value"] == pytest.approx(stats.chi2.sf(chisq, 1))
    # One coefficient: the likelihood-ratio test and Wald's agree to first order.
    wald = fits["with"].estimates.wald_tests().set_index("term").loc["b_representationdistributed:depth"]
    assert np.sqrt(chisq) == pytest.approx(abs(wald["z"]), rel=0.1, abs=0.1)
    text = run("compare", study / "with", study / "without").out
    assert "chisq: likelihood-ratio test against the model named" in text
    assert fits["with"].spec.formula.text in text


def test_the_text_says_what_a_boundary_does(few: pd.DataFrame, tmp_path, run) -> None:
    maximum("correct ~ depth", few, out=tmp_path / "a" / "fit")
    maximum("correct ~ depth + (1 | participant)", few, out=tmp_path / "b" / "fit")
    answer = run("compare", tmp_path / "a" / "fit", tmp_path / "b" / "fit")
    assert answer.code == 0
    assert "sd_participant__Intercept is 0 in the smaller model, the end of its range" in answer.out
    assert f"{tmp_path / 'b' / 'fit'} against {tmp_path / 'a' / 'fit'}" in answer.out  # one name is not enough


def test_bad_comparisons_are_exit_2(study, tmp_path, run) -> None:
    same = run("compare", study / "with", study / "without" / ".." / "with")
    assert (same.code, same.out) == (2, "") and "a directory is given twice" in same.err
    alone = run("compare", study / "with")
    assert alone.code == 2 and "needs two fits at least" in alone.err
    none = run("compare", study / "with", tmp_path)
    assert none.code == 2 and "is no fit" in none.err


def test_json_has_full_precision(study, run) -> None:
    rows = json.loads(run("compare", study / "with", study / "without", "--json", "--quiet").out)
    table = compare({name: ps.load_fit(study / name) for name in ("with", "without")})
    assert [row["logLik"] for row in rows] == table["logLik"].tolist()
    assert [row["weight_AIC"] for row in rows] == table["weight_AIC"].tolist()
