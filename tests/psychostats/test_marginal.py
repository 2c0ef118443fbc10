"""Predictions, comparisons and slopes at the trials against statsmodels' margins, sums written out, and brute force."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from likelihood import maximum, supposed, three_levels
from scipy import special, stats
from studies import known_fit

from psychostats import gather
from psychostats.effects import EFFECT_COLUMNS
from psychostats.errors import InputError
from psychostats.marginal import avg_slopes, comparisons, predictions

Z = stats.norm.ppf(0.975)
FORMULA = "correct ~ condition * basis + depth + I(depth^2)"


@pytest.fixture(scope="module")
def frame():
    return three_levels()


@pytest.fixture(scope="module")
def fit(frame):
    return maximum(FORMULA, frame)


@pytest.fixture(scope="module")
def draws(frame):
    """Give draws without group effects, of the size of the maximum's own spread."""
    rng = np.random.default_rng(3)
    names = maximum("correct ~ condition + depth", frame).coding.names
    return known_fit(
        "correct ~ condition + depth", frame, {name: rng.normal(0.3, 0.4, 400) for name in names}, draws=400
    )


def spread(gradient, fit):
    """Give the delta method's standard error of a gradient in b."""
    return np.sqrt(gradient @ fit.cov @ gradient)


def test_a_prediction_a_row_is_statsmodels_own(fit, frame):
    table = predictions(fit)
    theirs = fit.result.get_prediction(fit.coding.fixed(frame))
    assert table.columns.tolist() == ["row", "condition", "basis", "depth", *EFFECT_COLUMNS]
    assert table["row"].tolist() == list(range(len(frame)))
    pd.testing.assert_frame_equal(table[["condition", "basis", "depth"]], frame[["condition", "basis", "depth"]])
    np.testing.assert_allclose(table["estimate"], theirs.predicted, rtol=1e-9)
    np.testing.assert_allclose(table["sd"], theirs.se, rtol=1e-6)
    np.testing.assert_allclose(table[["conf_low", "conf_high"]], theirs.conf_int(), rtol=1e-6)


def test_an_average_is_of_the_rows_as_they_are(fit, frame):
    X = fit.coding.fixed(frame)
    p = special.expit(X @ fit.estimate)
    whole = predictions(fit, by=True).iloc[0]
    se = spread((p * (1 - p)) @ X / len(X), fit)
    assert whole["estimate"] == pytest.approx(p.mean()) and whole["sd"] == pytest.approx(se, rel=1e-7)
    # At a logistic maximum with an intercept the mean prediction is the share of right answers.
    assert whole["estimate"] == pytest.approx(frame["correct"].mean())
    eta, width = special.logit(p.mean()), Z * se / (p.mean() * (1 - p.mean()))
    assert whole["conf_low"] == pytest.approx(special.expit(eta - width), rel=1e-6)
    table = predictions(fit, by=["basis", "condition"])
    assert table.columns.tolist() == ["basis", "condition", *EFFECT_COLUMNS]
    shares = frame.groupby(["basis", "condition"])["correct"].mean()
    np.testing.assert_allclose(table["estimate"], shares)
    assert list(table[["basis", "condition"]].itertuples(index=False, name=None)) == list(shares.index)


def test_counterfactual_rows_have_another_value_each(fit, frame):
    table = predictions(fit, variables={"condition": ["easy", "hard"]})
    for level, row in zip(["easy", "hard"], table.to_dict("records"), strict=True):
        X = fit.coding.fixed(frame.assign(condition=level))
        assert row["condition"] == level
        assert row["estimate"] == pytest.approx(special.expit(X @ fit.estimate).mean())
    link = predictions(fit, variables={"depth": [0, 1]}, by="basis", scale="link")
    assert link.columns.tolist()[:2] == ["depth", "basis"] and len(link) == 4
    assert len(predictions(fit, variables={"depth": [0, 1]}, by=False)) == 2 * len(frame)


def test_a_grid_and_a_frame_can_be_asked(fit):
    grid = predictions(fit, "grid")
    assert len(grid) == 6 and grid["depth"].nunique() == 1
    rows = pd.DataFrame({"depth": [0.5, 0.2], "basis": "local", "condition": ["hard", "easy"]}, index=[7, 9])
    table = predictions(fit, rows, scale="link")
    np.testing.assert_allclose(table["estimate"], fit.coding.fixed(rows) @ fit.estimate)
    np.testing.assert_allclose(table["sd"], [spread(x, fit) for x in fit.coding.fixed(rows)], rtol=1e-7)


def test_comparisons_of_levels_are_average_effects(fit, frame):
    table = comparisons(fit, "condition")
    assert table.columns.tolist() == ["term", "contrast", *EFFECT_COLUMNS]
    assert table["contrast"].tolist() == ["hard - easy", "medium - easy"]
    at = {level: fit.coding.fixed(frame.assign(condition=level)) for level in ("easy", "hard")}
    p = {level: special.expit(X @ fit.estimate) for level, X in at.items()}
    gradient = {level: (p[level] * (1 - p[level])) @ X / len(X) for level, X in at.items()}
    row = table.iloc[0]
    se = spread(gradient["hard"] - gradient["easy"], fit)
    assert row["estimate"] == pytest.approx(p["hard"].mean() - p["easy"].mean())
    assert row["sd"] == pytest.approx(se, rel=1e-6)
    assert row["conf_high"] == pytest.approx(row["estimate"] + Z * se, rel=1e-6)
    means = {level: values.mean() for level, values in p.items()}
    ratio = comparisons(fit, "condition", comparison="ratio").iloc[0]
    assert ratio["contrast"] == "hard / easy" and ratio["estimate"] == pytest.approx(means["hard"] / means["easy"])
    log = comparisons(fit, "condition", comparison="lnratio").iloc[0]
    assert log["estimate"] == pytest.approx(np.log(ratio["estimate"]))
    np.testing.assert_allclose(
        np.exp(log[["conf_low", "conf_high"]].astype(float)), ratio[["conf_low", "conf_high"]].astype(float)
    )
    odds = comparisons(fit, "condition", comparison="lnor").iloc[0]
    assert odds["estimate"] == pytest.approx(special.logit(means["hard"]) - special.logit(means["easy"]))
    link = comparisons(fit, {"condition": "pairwise"}, scale="link", by="basis")
    assert len(link) == 6 and set(link["scale"]) == {"link"}


def test_every_way_to_change_a_number(fit, frame):
    depth = frame["depth"]
    ways = {
        0.1: (depth, depth + 0.1, "+0.1"),
        "minmax": (depth.min(), depth.max(), f"{depth.max():g} - {depth.min():g}"),
        "sd": (depth - depth.std() / 2, depth + depth.std() / 2, "+1 sd"),
        "iqr": (depth.quantile(0.25), depth.quantile(0.75), None),
        (0.2, 0.9): (0.2, 0.9, "0.9 - 0.2"),
    }
    for how, (low, high, label) in ways.items():
        row = comparisons(fit, {"depth": how}).iloc[0]
        a, b = (special.expit(fit.coding.fixed(frame.assign(depth=x)) @ fit.estimate).mean() for x in (low, high))
        assert row["estimate"] == pytest.approx(b - a), how
        assert label is None or row["contrast"] == label
    assert comparisons(fit, {"depth": None})["contrast"].item() == "+1"
    assert comparisons(fit)["term"].tolist() == ["condition", "condition", "basis", "depth"]
    assert comparisons(fit, {"condition": "sequential"})["contrast"].tolist() == ["hard - easy", "medium - hard"]
    assert comparisons(fit, {"condition": ("medium", "hard")})["contrast"].tolist() == ["hard - medium"]


def test_slopes_are_statsmodels_margins(frame):
    fit = maximum("correct ~ condition + depth", frame)
    theirs = fit.result.get_margeff(at="overall")
    row = avg_slopes(fit).iloc[0]
    at = list(fit.coding.names).index("depth") - 1  # theirs leave the intercept out
    assert row["term"] == "depth" and row["contrast"] == "dY/dX" and row["scale"] == "difference"
    assert row["estimate"] == pytest.approx(theirs.margeff[at], rel=1e-8)
    assert row["sd"] == pytest.approx(theirs.margeff_se[at], rel=1e-6)


def test_slopes_of_curved_formulas_are_derivatives(fit, frame):
    X = fit.coding.fixed(frame)
    names = list(fit.coding.names)
    b = dict(zip(names, fit.estimate, strict=True))
    inner = b["depth"] + 2 * b["I(depth^2)"] * frame["depth"].to_numpy()
    p = special.expit(X @ fit.estimate)
    rows = avg_slopes(fit, "depth", by=False)
    np.testing.assert_allclose(rows["estimate"], p * (1 - p) * inner, rtol=1e-8, atol=1e-11)
    link = avg_slopes(fit, "depth", by=False, scale="link")
    np.testing.assert_allclose(link["estimate"], inner, rtol=1e-9, atol=1e-10)
    assert avg_slopes(fit).iloc[0]["estimate"] == pytest.approx((p * (1 - p) * inner).mean(), rel=1e-8)


def test_a_derivative_does_not_leave_the_range():
    rows = pd.DataFrame({"x": np.linspace(0.001, 1, 60), "correct": [0, 1] * 30})
    fit = supposed("correct ~ log(x)", rows, [0.1, 0.7], np.diag([0.1, 0.1]))
    table = avg_slopes(fit, "x", by=False, scale="link").iloc[[10, 59]]
    np.testing.assert_allclose(table["estimate"], 0.7 / rows["x"].iloc[[10, 59]], rtol=1e-8)


def test_draws_are_averaged_per_draw(draws, frame):
    b, X = draws.parameters().b, draws.coding.fixed(frame)
    p = special.expit(b @ X.T)
    row = predictions(draws, by=True).iloc[0]
    assert row["estimate"] == pytest.approx(p.mean()) and row["sd"] == pytest.approx(p.mean(axis=1).std(ddof=1))
    assert (row["conf_low"], row["conf_high"]) == pytest.approx(tuple(np.quantile(p.mean(axis=1), [0.025, 0.975])))
    pair = comparisons(draws, {"condition": ["easy", "hard"]}, comparison="ratio").iloc[0]
    a, c = (
        special.expit(b @ draws.coding.fixed(frame.assign(condition=level)).T).mean(axis=1)
        for level in ("easy", "hard")
    )
    assert pair["estimate"] == pytest.approx((c / a).mean())
    assert pair["pd"] == max((c > a).mean(), (c < a).mean())
    difference = comparisons(draws, {"condition": ["easy", "hard"]}).iloc[0]
    assert difference["rope_share"] == (np.abs(c - a) <= 0.02).mean()


def test_the_population_averages_over_new_people(frame):
    data = frame.assign(person=np.arange(len(frame)) % 12)
    fit = known_fit("correct ~ depth + (1 | person)", data, {"Intercept": 0.4, "depth": 1.0}, sd={"person": [1.3]})
    new = np.random.default_rng(1).normal(0, 1.3, 200_000)
    shares = data["depth"].value_counts()
    expected = np.average([special.expit(0.4 + x + new).mean() for x in shares.index], weights=shares)
    row = predictions(fit, by=True, target="population").iloc[0]
    assert row["estimate"] == pytest.approx(expected, abs=1e-3)
    assert avg_slopes(fit, target="population")["estimate"].item() < avg_slopes(fit)["estimate"].item()


def test_blocks_change_nothing(draws, monkeypatch):
    calls = [
        lambda: predictions(draws),
        lambda: predictions(draws, by="condition"),
        lambda: comparisons(draws, comparison="lnor"),
        lambda: avg_slopes(draws, by="condition"),
    ]
    whole = [call() for call in calls]
    monkeypatch.setattr(gather, "AT_ONCE", 7 * 400)
    for call, table in zip(calls, whole, strict=True):
        pd.testing.assert_frame_equal(call(), table, rtol=1e-12)


def test_columns_that_are_no_predictors_can_group(draws, frame):
    rows = frame.assign(person=["b", "a"] * 120, term=1)
    assert predictions(draws, rows, by="person")["person"].tolist() == ["a", "b"]
    assert "by_term" in predictions(draws, rows, by="term").columns


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: predictions(f, "gird"), "allowed are grid"),
        (lambda f: predictions(f, by="conditoin"), "did you mean 'condition'"),
        (lambda f: predictions(f, variables={"dept": [1]}), "did you mean 'depth'"),
        (lambda f: predictions(f, variables={"depth": ["deep"]}), "numeric predictor"),
        (lambda f: predictions(f, pd.DataFrame({"depth": [0.1]})), "'condition' is missing"),
        (lambda f: predictions(f, f.data.iloc[:0]), "no rows are given"),
        (lambda f: predictions(f, scale="odds"), "allowed are response and link"),
        (lambda f: predictions(f, target="me"), "allowed are typical, population"),
        (lambda f: predictions(f, target="population", scale="link"), "averaged on the response"),
        (lambda f: comparisons(f, "dept"), "did you mean 'depth'"),
        (lambda f: comparisons(f, []), "no predictor is named"),
        (lambda f: comparisons(f, comparison="odds"), "allowed are difference"),
        (lambda f: comparisons(f, comparison="ratio", scale="link"), "differences are compared"),
        (lambda f: comparisons(f, {"condition": "minmax"}), "allowed are reference"),
        (lambda f: comparisons(f, {"condition": ["easy", "odd"]}), "no level of condition"),
        (lambda f: comparisons(f, {"depth": "reference"}), "allowed are a step"),
        (lambda f: comparisons(f, {"depth": np.inf}), "numeric predictor"),
        (lambda f: avg_slopes(f, "condition"), "no numeric predictor"),
    ],
)
def test_bad_input_is_refused_by_name(call, words, draws):
    with pytest.raises(InputError, match=words):
        call(draws)
