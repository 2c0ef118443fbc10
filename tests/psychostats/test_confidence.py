"""Profile and bootstrap intervals against roots that R found, closed forms of Gaussian models, and the boundary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from deviations import FOLDER, load, maximum, trials
from scipy import optimize, stats

import psychostats as ps
from psychostats.confidence import confidence_intervals
from psychostats.draws import TERM_COLUMNS
from psychostats.errors import FitError, InputError
from psychostats.fit import Fit

PROFILES = load("tests")["profile"]
CHI = stats.chi2.ppf(0.95, 1)
SIMULATED = ("nested", "nested_offset", "few_intercept", "slopes3_intercept")


def own_name(name: str) -> str:
    """Give this package's name of R's parameter."""
    words, _, group = name.replace("(Intercept)", "Intercept").partition("|")
    group = ":".join(reversed(group.split(":")))
    if words == "sigma":
        return words
    if not group:
        return f"b_{words}"
    kind, _, rest = words.partition("_")
    later, _, earlier = rest.rpartition(".")
    return f"{kind}_{group}__{f'{earlier}__{later}' if kind == 'cor' else rest}"


def require_roots(name: str, fit: Fit) -> None:
    golden = PROFILES[name]
    table = confidence_intervals(fit, "profile").set_index("term")
    assert sorted(table.index) == sorted(map(own_name, golden["root"]))
    for parameter, limits in golden["root"].items():
        row = table.loc[own_name(parameter)]
        for side in ("low", "high"):
            size = max(1.0, abs(limits[side]))
            assert row[f"conf_{side}"] == pytest.approx(limits[side], rel=0, abs=1e-5 * size), (parameter, side)
        if limits["low"] == 0:
            assert row["conf_low"] == 0
        assert row["estimate"] == pytest.approx(golden["estimate"][parameter], rel=1e-5)


# -- R's roots ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIMULATED)
def test_profile_limits_are_the_roots_that_r_finds(name: str) -> None:
    golden = PROFILES[name]
    family = "binomial" if "cbind" in golden["formula"] else "bernoulli"
    require_roots(name, maximum(golden["formula"], trials(FOLDER / "data" / golden["data"]), family=family))


def test_profile_limits_of_real_counts_and_measurements(reference: Path) -> None:
    cbpp = trials(reference / "cbpp.csv", text=["herd", "period"])
    cbpp["others"] = cbpp["size"] - cbpp["incidence"]
    require_roots("cbpp", maximum("cbind(incidence, others) ~ period + (1 | herd)", cbpp, family="binomial"))
    sleep = trials(reference / "sleepstudy.csv", text=["Subject"])
    require_roots("sleepstudy", maximum(PROFILES["sleepstudy"]["formula"], sleep, family="gaussian"))


def test_every_profile_of_r_is_tested() -> None:
    assert set(PROFILES) == {*SIMULATED, "cbpp", "sleepstudy"}


# -- Closed forms ------------------------------------------------------------------------------------------------------


def test_profiles_of_a_linear_model_are_closed_forms() -> None:
    data = trials(FOLDER / "data" / "gaussian.csv").iloc[:60]
    fit = maximum("y ~ x", data, family="gaussian")
    table = confidence_intervals(fit).set_index("term")
    n, best = len(data), fit.estimates.maximum
    # Twice the loss is n log(1 + t^2 / n), t the distance in standard errors.
    reach = np.sqrt(n * np.expm1(CHI / n)) * np.sqrt(np.diag(best.covariance)[:2])
    np.testing.assert_allclose(table["conf_low"].iloc[:2], best.b - reach, rtol=1e-6)
    np.testing.assert_allclose(table["conf_high"].iloc[:2], best.b + reach, rtol=1e-6)

    def loss(ratio: float) -> float:
        return n * (2 * np.log(ratio) + 1 / ratio**2 - 1) - CHI

    ratios = np.array([optimize.brentq(loss, 0.5, 1), optimize.brentq(loss, 1, 2)])
    limits = table.loc["sigma", ["conf_low", "conf_high"]].to_numpy(float)
    np.testing.assert_allclose(limits, best.sigma * ratios, rtol=1e-6)


def test_a_profile_of_the_only_coefficient_is_that_of_a_proportion() -> None:
    data = pd.DataFrame({"y": np.arange(40) < 13})
    low, high = confidence_intervals(maximum("y ~ 1", data.astype(int)))[["conf_low", "conf_high"]].to_numpy()[0]

    def loss(eta: float) -> float:
        p = 1 / (1 + np.exp(-eta))
        return 2 * (13 * np.log(13 / 40 / p) + 27 * np.log(27 / 40 / (1 - p))) - CHI

    assert (loss(low), loss(high)) == pytest.approx((0, 0), abs=1e-5)
    assert low < np.log(13 / 27) < high


def one_way(groups: int = 25, size: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(groups), size)
    return pd.DataFrame(
        {"g": [f"g{i:02d}" for i in g], "y": 3 + 1.5 * rng.normal(size=groups)[g] + rng.normal(size=len(g))}
    )


def test_bootstrap_limits_follow_the_known_laws_of_one_way_data() -> None:
    data, groups, size = one_way(), 25, 6
    fit = maximum("y ~ 1 + (1 | g)", data, family="gaussian")
    table = confidence_intervals(fit, "bootstrap", replicates=500, seed=3).set_index("term")
    best = fit.estimates.maximum
    between = float(best.factors[0][0, 0])
    # The mean of balanced data is normal; the residual variance a chi-squared over its degrees of freedom.
    se = np.sqrt(between**2 / groups + best.sigma**2 / (groups * size))
    assert table.loc["b_Intercept", "sd"] == pytest.approx(se, rel=0.1)
    mean = table.loc["b_Intercept", ["conf_low", "conf_high"]].to_numpy(float)
    np.testing.assert_allclose((mean - best.b[0]) / se, stats.norm.ppf([0.025, 0.975]), atol=0.3)
    freedom = groups * (size - 1)
    law = best.sigma * np.sqrt(stats.chi2.ppf([0.025, 0.975], freedom) / freedom)
    np.testing.assert_allclose(table.loc["sigma", ["conf_low", "conf_high"]].to_numpy(float), law, rtol=0.03)
    for term, truth in (("b_Intercept", 3), ("sd_g__Intercept", 1.5), ("sigma", 1)):
        assert table.loc[term, "conf_low"] < truth < table.loc[term, "conf_high"]
    assert set(table["interval"]) == {"bootstrap"} and table["conf_level"].eq(0.95).all()


def test_the_three_kinds_agree_where_data_are_many() -> None:
    fit = maximum("y ~ 1 + (1 | g)", one_way(80, 8), family="gaussian")
    wald, profile = (confidence_intervals(fit, kind) for kind in ("wald", "profile"))
    bootstrap = confidence_intervals(fit, "bootstrap", replicates=300)
    se = wald["sd"].to_numpy()
    for other, most in ((profile, 0.15), (bootstrap, 0.4)):
        for side in ("conf_low", "conf_high"):
            assert (np.abs(other[side] - wald[side]) / se).max() < most, side
    assert list(profile.columns) == list(TERM_COLUMNS)
    np.testing.assert_array_equal(profile["sd"], wald["sd"])


def test_a_bootstrap_has_as_many_replicates_as_were_asked_for() -> None:
    steps: list[tuple[int, int]] = []
    fit = maximum("y ~ 1 + (1 | g)", one_way(6, 4), family="gaussian")
    confidence_intervals(fit, "bootstrap", replicates=30, progress=lambda *done: steps.append(done))
    assert steps == [(done, 30) for done in range(1, 31)]


def test_the_same_seed_gives_the_same_numbers() -> None:
    fit = maximum("correct ~ depth + (1 | participant)", trials(FOLDER / "data" / "few.csv"))
    one, same, other = (confidence_intervals(fit, "bootstrap", replicates=25, seed=seed) for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(one, same)
    assert not np.allclose(one["conf_low"], other["conf_low"])
    # A term alone has the limits that it has among all.
    alone = confidence_intervals(fit, "bootstrap", replicates=25, seed=5, terms=["b_depth"])
    pd.testing.assert_frame_equal(alone, one[one["term"] == "b_depth"].reset_index(drop=True))


def test_restricted_fits_have_bootstrap_intervals_of_their_own() -> None:
    data = one_way(8, 4)
    reml, ml = (maximum("y ~ 1 + (1 | g)", data, family="gaussian", reml=reml) for reml in (True, False))
    a, b = (confidence_intervals(fit, "bootstrap", replicates=100).set_index("term") for fit in (reml, ml))
    assert a.loc["sd_g__Intercept", "conf_high"] > b.loc["sd_g__Intercept", "conf_high"]


def test_a_probability_other_than_95_and_progress_are_heeded() -> None:
    fit = maximum("correct ~ depth + (1 | participant)", trials(FOLDER / "data" / "few.csv"))
    steps: list[tuple[int, int]] = []
    wide = confidence_intervals(fit, terms=["b_depth"], progress=lambda *done: steps.append(done))
    narrow = confidence_intervals(fit, terms=["b_depth"], probability=0.5)
    assert steps == [(1, 1)]
    assert narrow["conf_level"].tolist() == [0.5]
    assert (
        wide["conf_low"].iloc[0] < narrow["conf_low"].iloc[0] < narrow["conf_high"].iloc[0] < wide["conf_high"].iloc[0]
    )


# -- The boundary ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def singular() -> Fit:
    """Give a fit whose block does nothing: its SD is 0."""
    return maximum("correct ~ f + (1 | participant) + (1 | block)", trials(FOLDER / "data" / "terms.csv"))


def test_an_sd_of_zero_has_the_limit_zero(singular: Fit) -> None:
    row = confidence_intervals(singular, terms=["sd_block__Intercept"]).iloc[0]
    assert row["estimate"] == 0 and row["conf_low"] == 0
    assert 0 < row["conf_high"] < 1
    made = confidence_intervals(singular, "bootstrap", replicates=40, terms=["sd_block__Intercept"]).iloc[0]
    assert made["conf_low"] == 0 and made["conf_high"] >= 0


def test_the_other_terms_of_a_singular_fit_are_those_without_it(singular: Fit) -> None:
    without = maximum("correct ~ f + (1 | participant)", trials(FOLDER / "data" / "terms.csv"))
    terms = ["b_fb", "sd_participant__Intercept"]
    one, two = (confidence_intervals(fit, terms=terms) for fit in (singular, without))
    # Where the block's SD may grow as the other parameter moves, limits can only be wider.
    assert (one["conf_low"] <= two["conf_low"] + 1e-5).all() and (one["conf_high"] >= two["conf_high"] - 1e-5).all()
    np.testing.assert_allclose(one["conf_low"], two["conf_low"], atol=0.02)


def test_correlations_have_limits_within_their_range() -> None:
    data = trials(FOLDER / "data" / "terms.csv")
    fit = maximum("correct ~ x + (1 + x | participant)", data)
    row = confidence_intervals(fit, terms=["cor_participant__Intercept__x"]).iloc[0]
    assert -1 <= row["conf_low"] < row["estimate"] < row["conf_high"] <= 1
    # Where 0 is within the limits, it is not rejected by the likelihood-ratio test, and the other way round.
    uncorrelated = maximum("correct ~ x + (1 + x || participant)", data)
    chisq = 2 * (fit.likelihood["logLik"] - uncorrelated.likelihood["logLik"])
    assert (row["conf_low"] <= 0 <= row["conf_high"]) == (chisq <= CHI)
    level = stats.chi2.cdf(chisq, 1)
    limits = confidence_intervals(fit, probability=level, terms=["cor_participant__Intercept__x"]).iloc[0]
    assert min(abs(limits["conf_low"]), abs(limits["conf_high"])) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("kind", ["profile", "bootstrap"])
def test_a_correlation_with_an_sd_of_zero_is_anything(kind: Literal["profile", "bootstrap"]) -> None:
    data = trials(FOLDER / "data" / "terms.csv")
    order = np.random.default_rng(1).permutation(len(data))  # a block that means nothing
    data["block"] = [f"k{i}" for i in order % 8]
    fit = maximum("correct ~ x + (1 | participant) + (1 + x | block)", data)
    assert fit.likelihood["singular_terms"] == ["sd_block__Intercept", "sd_block__x"]
    table = confidence_intervals(fit, kind, replicates=20).set_index("term")
    row = table.loc["cor_block__Intercept__x"]
    assert np.isnan(row["estimate"]) and (row["conf_low"], row["conf_high"]) == (-1, 1)
    assert table.loc["sd_block__x", "conf_low"] == table.loc["sd_block__Intercept", "conf_low"] == 0
    assert 0 < table.loc["sd_block__x", "conf_high"] < 1


def test_a_covariance_of_lower_rank_has_limits_at_the_ends() -> None:
    fit = maximum("correct ~ depth + (1 + depth | participant)", trials(FOLDER / "data" / "few.csv"))
    table = confidence_intervals(fit).set_index("term")
    assert (table["conf_low"] <= table["estimate"]).all() and (table["estimate"] <= table["conf_high"]).all()
    assert table[["conf_low", "conf_high"]].notna().all(axis=None)


# -- What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "eti"}, "a eti interval is of draws; allowed here are wald, profile and bootstrap"),
        ({"kind": "hdi"}, "interval is of draws"),
        ({"terms": ["b_dept"]}, "the fit has no term 'b_dept'.*its terms are b_Intercept, b_depth"),
        ({"kind": "bootstrap", "replicates": 5}, "5 replicates are asked for; limits need 20 at least"),
        ({"probability": 1.0}, "1"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments: dict, words: str) -> None:
    fit = maximum("correct ~ depth + (1 | participant)", trials(FOLDER / "data" / "few.csv"))
    with pytest.raises(InputError, match=words):
        confidence_intervals(fit, **arguments)


def test_a_restricted_likelihood_has_no_profile() -> None:
    fit = maximum("y ~ 1 + (1 | g)", one_way(), family="gaussian", reml=True)
    with pytest.raises(InputError, match="of the likelihood, not of the restricted one; fit without --reml"):
        confidence_intervals(fit)


def test_draws_have_no_profile(fitted: Callable[[str], Fit]) -> None:
    for kind in ("profile", "bootstrap"):
        with pytest.raises(InputError, match="this fit holds draws from a posterior"):
            confidence_intervals(fitted("uncorrelated"), kind)


def test_replicates_that_mostly_have_no_maximum_are_refused() -> None:
    data = pd.DataFrame({"y": [1] * 9 + [0] + [1] * 6 + [0] * 4, "x": ["a"] * 10 + ["b"] * 10})
    with pytest.raises(FitError, match=r"\d+ of 60 bootstrap replicates have no maximum"):
        confidence_intervals(maximum("y ~ x", data), "bootstrap", replicates=60)


# -- The command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("confidence") / "fit"
    maximum("correct ~ depth + (1 | participant)", trials(FOLDER / "data" / "few.csv"), out=path)
    return path


@pytest.mark.parametrize("kind", ["wald", "profile", "bootstrap"])
def test_the_summary_has_the_intervals_that_were_asked_for(kind: str, directory: Path, run) -> None:
    answer = run("summary", directory, "--interval", kind, "--replicates", "30", "--seed", "7", "--json")
    assert (answer.code, answer.err) == (0, "")
    made = confidence_intervals(ps.load_fit(directory), kind, replicates=30, seed=7)
    assert answer.data["interval"]["kind"] == kind
    assert [row["term"] for row in answer.data["terms"]] == made["term"].tolist()
    for column in ("estimate", "sd", "conf_low", "conf_high"):
        assert [row[column] for row in answer.data["terms"]] == made[column].tolist()
    assert {row["interval"] for row in answer.data["terms"]} == {kind}
    text = run("summary", directory, "--interval", kind, "--replicates", "30").out
    assert f"95 % {made['interval'].iloc[0].replace('wald', 'Wald')}" in text


def test_levels_keep_their_conditional_intervals(directory: Path, run) -> None:
    rows = run("summary", directory, "--interval", "profile", "--random", "--json").data["terms"]
    assert {row["interval"] for row in rows if row["class"] == "r"} == {"wald"}
    assert {row["interval"] for row in rows if row["class"] != "r"} == {"profile"}


@pytest.mark.parametrize("kind", ["eti", "hdi", "exact"])
def test_intervals_of_draws_are_exit_2(kind: str, directory: Path, run) -> None:
    answer = run("summary", directory, "--interval", kind)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ") and kind in answer.err
