"""A model's population effect beside methods that know no random effects: statsmodels by hand, known truth, words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from deviations import FOLDER, maximum, trials
from scipy import stats
from scipy.special import expit

from psychostats.agreement import second_opinions
from psychostats.effects import EFFECT_COLUMNS, contrasts
from psychostats.errors import InputError
from psychostats.fit import Fit
from psychostats.intervals import Interval
from psychostats.predictor import average

Z = stats.norm.ppf(0.975)


@pytest.fixture(scope="module")
def slopes() -> pd.DataFrame:
    return trials(FOLDER / "data" / "slopes3.csv")


@pytest.fixture(scope="module")
def fit(slopes: pd.DataFrame) -> Fit:
    return maximum("correct ~ condition + (1 | participant)", slopes)


def by_hand(method: str, data: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Give statsmodels' log-odds of each condition and their covariance; a column a condition."""
    X = pd.get_dummies(data["condition"]).astype(float).to_numpy()
    people = pd.factorize(data["participant"])[0]
    if method == "GEE":
        model = sm.GEE(
            data["correct"], X, people, family=sm.families.Binomial(), cov_struct=sm.cov_struct.Exchangeable()
        )
        found = model.fit(ctol=1e-9)
    else:
        model = sm.GLM(data["correct"], X, family=sm.families.Binomial())
        found = model.fit(cov_type="cluster", cov_kwds={"groups": people})
    return np.asarray(found.params), np.asarray(found.cov_params())


@pytest.mark.parametrize("method", ["GEE", "cluster-robust"])
def test_a_second_opinion_is_what_statsmodels_says_of_a_saturated_design(method: str, fit: Fit, slopes) -> None:
    b, V = by_hand(method, slopes)
    levels = sorted(slopes["condition"].unique())
    table = second_opinions(fit, "condition")
    rows = table[table["method"] == method].set_index(["contrast", "scale"])
    assert (rows["clusters"] == "participant").all() and (rows["interval"] == "wald").all()
    for j in range(3):
        for i in range(j):
            odds = rows.loc[f"{levels[j]} / {levels[i]}", "odds_ratio"]
            se = np.sqrt(V[i, i] + V[j, j] - 2 * V[i, j])
            np.testing.assert_allclose(odds["estimate"], np.exp(b[j] - b[i]), rtol=1e-6)
            np.testing.assert_allclose(odds["sd"], np.exp(b[j] - b[i]) * se, rtol=1e-5)
            limits = np.exp(b[j] - b[i] + np.array([-Z, Z]) * se)
            np.testing.assert_allclose(odds[["conf_low", "conf_high"]].to_numpy(float), limits, rtol=1e-5)
            p = expit(b)
            slope = np.zeros(3)
            slope[[i, j]] = -p[i] * (1 - p[i]), p[j] * (1 - p[j])
            difference = rows.loc[f"{levels[j]} - {levels[i]}", "difference"]
            assert difference["estimate"] == pytest.approx(p[j] - p[i], rel=1e-6)
            assert difference["sd"] == pytest.approx(np.sqrt(slope @ V @ slope), rel=1e-5)


def test_the_cluster_robust_difference_of_balanced_data_is_that_of_the_raw_shares(fit: Fit, slopes) -> None:
    raw = slopes.groupby("condition")["correct"].mean()
    table = second_opinions(fit, "condition")
    rows = table[(table["method"] == "cluster-robust") & (table["scale"] == "difference")].set_index("contrast")
    assert rows.loc["natural - mixed", "estimate"] == pytest.approx(raw["natural"] - raw["mixed"], abs=1e-9)


def test_the_model_s_rows_are_its_population_contrasts(fit: Fit) -> None:
    table = second_opinions(fit, "condition", probability=0.9)
    own = contrasts(fit, "condition", interval=Interval("wald", 0.9))
    own = own[own["target"] == "population"].reset_index(drop=True)
    rows = table[table["method"] == "model"]
    assert table.columns.tolist() == ["method", "clusters", "term", "contrast", *EFFECT_COLUMNS]
    pd.testing.assert_frame_equal(rows[list(own.columns)].reset_index(drop=True), own)
    assert set(table["target"]) == {"population"} and table["conf_level"].eq(0.9).all()
    assert list(dict.fromkeys(table["method"])) == ["model", "GEE", "cluster-robust"]


# -- Known truth -------------------------------------------------------------------------------------------------------


def simulated(people: int = 600, each: int = 20, sd: float = 1.5, guess: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(11)
    who = np.repeat(np.arange(people), each)
    kind = np.tile(np.arange(each) % 2, people)
    eta = -0.2 + 1.2 * kind + sd * rng.normal(size=people)[who]
    p = guess + (1 - guess) * expit(eta)
    names = [f"p{i:03d}" for i in who]
    return pd.DataFrame({"participant": names, "kind": np.where(kind, "b", "a"), "y": rng.binomial(1, p)})


@pytest.mark.parametrize(("family", "guess"), [("bernoulli", 0.0), ("afc", 0.5)])
def test_model_and_second_opinions_agree_on_the_odds_ratio_of_the_population(family: str, guess: float) -> None:
    # Laplace's approximation understates so large an SD from 20 answers (with a guess rate by a sixth).
    fit = maximum("y ~ kind + (1 | participant)", simulated(guess=guess), family=family, quadrature=15)
    a, b = average(fit.spec.family.mean, np.array([-0.2, 1.0]), np.array(1.5**2))
    truth = {"odds_ratio": b / (1 - b) / (a / (1 - a)), "difference": b - a}
    typical = [guess + (1 - guess) * expit(eta) for eta in (-0.2, 1.0)]
    typical_odds = typical[1] / (1 - typical[1]) / (typical[0] / (1 - typical[0]))
    table = second_opinions(fit, "kind")
    for scale, value in truth.items():
        rows = table[table["scale"] == scale].set_index("method")
        assert ((rows["estimate"] - value).abs() < 3 * rows["sd"]).all(), rows
        # They are about the same data, so they differ from each other by less than chance moves them.
        assert ((rows["estimate"] - rows.loc["model", "estimate"]).abs() < (1 if guess else 0.2) * rows["sd"]).all()
        assert (rows["sd"] / rows.loc["model", "sd"]).between(0.8, 1.25).all()
    odds = table[table["scale"] == "odds_ratio"].set_index("method")
    assert (odds["conf_high"] < typical_odds).all()  # the typical person's is another question
    notes = " ".join(table.attrs["notes"])
    assert ("guess rate 0.5) does not" in notes) == (guess > 0)
    assert "averaged over new participants" not in notes and "average answer over new participants" in notes


def test_values_of_other_predictors_are_held_alike() -> None:
    data = trials(FOLDER / "data" / "crossed3.csv")
    fit = maximum("correct ~ representation * depth + (1 | participant) + (1 | pair)", data)
    table = second_opinions(fit, "representation", by={"depth": [0, 1]})
    assert list(dict.fromkeys(zip(table["method"], table["clusters"], strict=True))) == [
        ("model", "participant and pair"),
        *((method, group) for group in ("participant", "pair") for method in ("GEE", "cluster-robust")),
    ]
    assert set(table["depth"]) == {0, 1}
    gee = smf.gee(
        "correct ~ representation * depth", "participant", data, family=sm.families.Binomial(),
        cov_struct=sm.cov_struct.Exchangeable(),
    ).fit()  # fmt: skip
    at = (table["method"] == "GEE") & (table["clusters"] == "participant") & (table["scale"] == "odds_ratio")
    expected = np.exp(gee.params.iloc[1] + np.array([0, 1]) * gee.params.iloc[3])
    np.testing.assert_allclose(table.loc[at, "estimate"], expected, rtol=1e-5)


# -- Where there is none -----------------------------------------------------------------------------------------------


def test_a_method_without_an_estimate_says_so_and_the_others_stand() -> None:
    data = trials(FOLDER / "data" / "few.csv")
    data["half"] = np.where(data["participant"] < "p05", "one", "two")
    fit = maximum("correct ~ representation * depth + (1 | participant) + (1 | half)", data)
    table = second_opinions(fit, "representation")
    assert set(table["clusters"]) == {"participant and half", "participant"}
    silent = [note for note in table.attrs["notes"] if "2 levels of half are too few" in note]
    assert len(silent) == 2 or len(silent) == len(set(silent)) == 1


def test_what_has_no_second_opinion_is_refused(slopes: pd.DataFrame, fit: Fit) -> None:
    with pytest.raises(InputError, match="a measurement has none"):
        second_opinions(maximum("correct ~ condition + (1 | participant)", slopes, family="gaussian"), "condition")
    with pytest.raises(InputError, match="no group effect, so that there is nothing"):
        second_opinions(maximum("correct ~ condition", slopes), "condition")
    with pytest.raises(InputError, match=r"no predictor of the model .did you mean 'condition'"):
        second_opinions(fit, "conditions")
    with pytest.raises(InputError, match="no level of condition"):
        second_opinions(fit, "condition", by={"condition": ["mixed", "none"]})


# -- Draws, and the command --------------------------------------------------------------------------------------------


def test_draws_have_second_opinions_too(fitted: Callable[[str], Fit]) -> None:
    fit = fitted("uncorrelated")
    table = second_opinions(fit, "condition")
    rows = table.set_index("method")
    assert set(rows.loc["model", "interval"]) == {"eti"} and rows.loc["model", "pd"].notna().all()
    for method in ("GEE", "cluster-robust"):
        assert set(rows.loc[method, "interval"]) == {"wald"} and rows.loc[method, "pd"].isna().all()
        both = rows.loc[["model", method]]
        gap = both.loc["model", "estimate"].to_numpy() - both.loc[method, "estimate"].to_numpy()
        assert (np.abs(gap) < 2 * both.loc[method, "sd"].to_numpy()).all()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, slopes: pd.DataFrame) -> Path:
    path = tmp_path_factory.mktemp("agreement") / "fit"
    maximum("correct ~ condition + (1 | participant)", slopes, out=path)
    return path


def test_the_command_prints_the_same_table(directory: Path, fit: Fit, run) -> None:
    table = second_opinions(fit, "condition")
    answer = run("effects", directory, "condition", "--second-opinion", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.data["notes"] == table.attrs["notes"]
    assert len(answer.data["rows"]) == len(table)
    for row, (_, expected) in zip(answer.data["rows"], table.iterrows(), strict=True):
        assert list(row) == list(table.columns)
        assert (row["method"], row["contrast"], row["estimate"]) == tuple(expected[["method", "contrast", "estimate"]])
        assert row["pd"] is None and row["rope_share"] is None
    text = run("effects", directory, "condition", "--second-opinion").out
    assert "cluster-robust" in text and "95 % Wald confidence interval" in text
    assert text.strip().endswith(table.attrs["notes"][-1])


def test_the_command_refuses_what_has_none(directory: Path, tmp_path: Path, slopes: pd.DataFrame, run) -> None:
    maximum("correct ~ condition", slopes, out=tmp_path / "plain")
    answer = run("effects", tmp_path / "plain", "condition", "--second-opinion")
    assert (answer.code, answer.out) == (2, "") and "no group effect" in answer.err
    wrong = run("effects", directory, "condition", "--second-opinion", "--by", "condition=none")
    assert (wrong.code, wrong.out) == (2, "") and "no level of condition" in wrong.err
