"""Marginal means, contrasts and trends against R's emmeans, closed forms, and the draws themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from likelihood import maximum, supposed, three_levels
from scipy import special, stats
from studies import known_fit

from psychostats.coefficients import coefficients, level_label
from psychostats.emmeans import contrast, emmeans, emtrends, pairs
from psychostats.errors import InputError
from psychostats.fit import Fit
from psychostats.intervals import Interval

Z = stats.norm.ppf(0.975)

# emmeans 1.8.4.1 of glm(correct ~ condition * basis + depth + condition:depth, binomial) on `three_levels()`. Limits
# and p-values that R finds by searching or by random points have fewer digits there.
MEANS = [0.65195718, -0.084602438, 0.89991936]
SES = [0.20975812, 0.33965724, 0.27296304]
PAIRS = [0.73655962, -0.24796218, -0.9845218]
PAIR_SES = [0.3992061, 0.34424888, 0.43574747]


@pytest.fixture(scope="module")
def frame():
    return three_levels()


@pytest.fixture(scope="module")
def fit(frame):
    return maximum("correct ~ condition * basis + depth + condition:depth", frame)


@pytest.fixture(scope="module")
def means(fit):
    return emmeans(fit, "condition")


def close(table, tolerance=2e-7, **columns):
    for name, values in columns.items():
        np.testing.assert_allclose(table[name], values, rtol=tolerance, atol=tolerance / 10, err_msg=name)


# --- R's numbers ------------------------------------------------------------------------------------------------------


def test_means_on_the_link_are_r_s(means):
    table = means.table()
    assert table.columns.tolist() == ["condition", "emmean", "SE", "df", "lower_CL", "upper_CL"]
    close(
        table,
        emmean=MEANS,
        SE=SES,
        lower_CL=[0.24083881, -0.7503184, 0.36492164],
        upper_CL=[1.0630755, 0.58111352, 1.4349171],
    )
    assert np.isinf(table["df"]).all()


def test_means_on_the_response_are_carried_back(fit):
    close(
        emmeans(fit, "condition", scale="response").table(),
        prob=[0.65745137, 0.478862, 0.71093293],
        SE=[0.047239431, 0.084762546, 0.056095896],
        lower_CL=[0.55992035, 0.32075193, 0.5902313],
        upper_CL=[0.74327785, 0.64132359, 0.8076663],
    )
    close(
        emmeans(fit, "condition", regrid="response").table(),
        prob=[0.65093585, 0.47887331, 0.70947039],
        SE=[0.048254738, 0.084750466, 0.05712834],
        lower_CL=[0.5563583, 0.31276545, 0.5975009],
        upper_CL=[0.7455134, 0.64498117, 0.82143988],
    )


def test_weights_are_r_s(fit, frame):
    by_r = {
        "cells": ([0.85557582, -0.093867047, 0.95616082], [0.1973556, 0.33289406, 0.26478157]),
        "proportional": ([0.81485209, -0.10197358, 0.96894297], [0.1959209, 0.33826972, 0.26665637]),
        "outer": ([0.81485209, -0.10197358, 0.96894297], [0.1959209, 0.33826972, 0.26665637]),
        "flat": (MEANS, SES),
    }
    for weights, (estimates, errors) in by_r.items():
        close(emmeans(fit, "condition", weights=weights).table(), emmean=estimates, SE=errors)
    # With one factor in the model there is nothing to weight.
    alone = maximum("correct ~ condition + depth", frame)
    pd.testing.assert_frame_equal(
        emmeans(alone, "condition").table(), emmeans(alone, "condition", weights="cells").table()
    )


def test_pairs_are_r_s_with_tukey_s_adjustment(means):
    table = pairs(means).table()
    columns = ["contrast", "estimate", "SE", "df", "null", "z_ratio", "p_value", "lower_CL", "upper_CL"]
    assert table.columns.tolist() == columns
    assert table["contrast"].tolist() == ["easy - hard", "easy - medium", "hard - medium"]
    close(table, estimate=PAIRS, SE=PAIR_SES, z_ratio=[1.845061, -0.72029916, -2.2593861])
    close(
        table,
        2e-6,
        p_value=[0.15506016, 0.75146185, 0.061663768],
        lower_CL=[-0.19905996, -1.0547785, -2.0057834],
        upper_CL=[1.6721792, 0.55885412, 0.036739811],
    )
    assert (table["null"] == 0).all()


def test_odds_ratios_within_groups_are_r_s(fit):
    table = pairs(emmeans(fit, "~ condition | basis", scale="response")).table()
    assert table.columns.tolist()[:3] == ["contrast", "basis", "odds_ratio"]
    assert table["contrast"].tolist() == ["easy / hard", "easy / medium", "hard / medium"] * 2
    assert table["basis"].tolist() == ["distributed"] * 3 + ["local"] * 3 and (table["null"] == 1).all()
    close(
        table,
        2e-6,
        odds_ratio=[1.2915592, 0.60757136, 0.47041697, 3.3779502, 1.0023641, 0.29673737],
        SE=[0.81418755, 0.33801777, 0.32107346, 1.662205, 0.41371797, 0.16211429],
        lower_CL=[0.29475873, 0.16493795, 0.095009293, 1.0660844, 0.38098973, 0.08246972],
        upper_CL=[5.6592897, 2.2380716, 2.329163, 10.703231, 2.6371676, 1.0677018],
        z_ratio=[0.40585932, -0.89564547, -1.1049131, 2.4737468, 0.0057209838, -2.2237925],
        p_value=[0.91321464, 0.64305618, 0.51100779, 0.035664033, 0.99998196, 0.067221049],
    )


def test_other_contrasts_and_adjustments_are_r_s(fit, means):
    response = emmeans(fit, "condition", scale="response")
    eff = contrast(response, "eff").table()
    assert eff["contrast"].tolist() == ["easy effect", "hard effect", "medium effect"]
    close(
        eff,
        odds_ratio=[1.1768788, 0.56344035, 1.5080659],
        SE=[0.23728688, 0.14303144, 0.33997543],
        lower_CL=[0.72628142, 0.3068444, 0.87909165],
        p_value=[0.41922276, 0.071475216, 0.10260186],
    )
    close(
        contrast(means, "pairwise", adjust="scheffe").table(),
        p_value=[0.18229572, 0.77150244, 0.077893494],
        lower_CL=[-0.24059585, -1.0905963, -2.0511213],
    )
    close(
        pairs(means, adjust="holm").table(),
        p_value=[0.13005732, 0.47134082, 0.071578129],
        lower_CL=[-0.21913173, -1.072087, -2.0276924],
    )
    control = contrast(means, "trt.vs.ctrl").table()
    assert control["contrast"].tolist() == ["hard - easy", "medium - easy"]
    close(control, 2e-6, p_value=[0.11988267, 0.68576238])
    close(control, 5e-4, lower_CL=[-1.6235204, -0.516894])
    close(contrast(means, "consec").table(), 2e-3, p_value=[0.10924053, 0.041856027], upper_CL=[0.13680256, 1.9378273])
    # Means are no pairwise comparisons, so Tukey's method becomes Sidak's there.
    close(
        emmeans(fit, "condition", adjust="tukey").table(),
        lower_CL=[0.15110976, -0.8956149, 0.24815518],
        upper_CL=[1.1528046, 0.72641002, 1.5516835],
    )


def test_differences_of_probability_are_r_s(means):
    table = pairs(means.regrid()).table()
    close(table, estimate=[0.17858938, -0.053481558, -0.23207093], SE=[0.09703738, 0.073336985, 0.10164369])
    close(table, 2e-6, p_value=[0.15651002, 0.74611274, 0.058164388], upper_CL=[0.40601594, 0.11839838, 0.0061514318])


def test_trends_are_r_s(fit):
    trends = emtrends(fit, "condition", "depth")
    close(
        trends.table(),
        depth_trend=[-0.48666678, -2.3219417, -0.52201809],
        SE=[0.71337501, 1.2387287, 0.99926812],
        lower_CL=[-1.8848561, -4.7498053, -2.4805476],
        upper_CL=[0.91152254, 0.10592199, 1.4365114],
    )
    table = pairs(trends).table()
    close(
        table,
        2e-6,
        estimate=[1.8352749, 0.035351308, -1.7999236],
        SE=[1.4294589, 1.2277788, 1.5915356],
        p_value=[0.40425785, 0.99954304, 0.49495818],
        lower_CL=[-1.5149488, -2.8421945, -5.5300065],
    )


# --- Closed forms -----------------------------------------------------------------------------------------------------


def test_a_trend_of_a_curve_is_its_derivative(frame):
    fit = maximum("correct ~ basis * (depth + I(depth^2) + I(depth^3))", frame)
    b = dict(zip(fit.coding.names, fit.estimate, strict=True))
    values = [0.0, 0.3, 1.0]
    table = emtrends(fit, ["basis", "depth"], "depth", at={"depth": values}).table()
    assert table["basis"].tolist() == ["distributed", "local"] * 3
    names = ["depth", "I(depth^2)", "I(depth^3)"]
    for row in table.to_dict("records"):
        x = row["depth"]
        gradient = dict(zip(names, [1, 2 * x, 3 * x**2], strict=True))
        if row["basis"] == "local":
            gradient |= {f"basislocal:{name}": g for name, g in gradient.items()}
        g = np.array([gradient.get(name, 0.0) for name in fit.coding.names])
        assert row["depth_trend"] == pytest.approx(sum(b[name] * v for name, v in gradient.items()), rel=1e-8)
        assert row["SE"] == pytest.approx(np.sqrt(g @ fit.cov @ g), rel=1e-7)


def test_a_trend_on_the_response_is_the_slope_of_the_probability(frame):
    fit = maximum("correct ~ basis + depth", frame)
    table = emtrends(fit, "basis", "depth", scale="response", at={"depth": [0.5]}).table()
    b0, local, slope = fit.estimate
    p = special.expit(b0 + np.array([0, local]) + 0.5 * slope)
    np.testing.assert_allclose(table["depth_trend"], slope * p * (1 - p), rtol=1e-9)


def test_forced_choice_has_odds_ratios_of_p(frame):
    fit = supposed("correct ~ basis", frame, [0.3, 0.8], np.diag([0.04, 0.09]), family="afc")
    row = pairs(emmeans(fit, "basis", scale="response")).table().iloc[0]

    def log_odds(b):
        p, q = 0.5 + 0.5 * special.expit(b[0]), 0.5 + 0.5 * special.expit(b[0] + b[1])
        return special.logit(p) - special.logit(q)

    h = 1e-5
    gradient = [(log_odds([0.3 + h, 0.8]) - log_odds([0.3 - h, 0.8])) / (2 * h)]
    gradient.append((log_odds([0.3, 0.8 + h]) - log_odds([0.3, 0.8 - h])) / (2 * h))
    se = np.sqrt(np.array(gradient) ** 2 @ [0.04, 0.09])
    centre = log_odds([0.3, 0.8])
    assert row["odds_ratio"] == pytest.approx(np.exp(centre)) and row["z_ratio"] == pytest.approx(centre / se, rel=1e-7)
    assert row["lower_CL"] == pytest.approx(np.exp(centre - Z * se), rel=1e-7)
    assert "above guessing" in repr(pairs(emmeans(fit, "basis")))


def test_a_probit_contrast_stays_on_its_scale_as_in_emmeans(frame):
    fit = maximum("correct ~ condition + depth", frame, link="probit")
    made = pairs(emmeans(fit, "condition", scale="response"))
    assert "estimate" in made.table() and "Contrasts are still on the probit scale." in repr(made)
    np.testing.assert_allclose(made.table()["estimate"].iloc[0], -fit.estimate[1])


def test_all_pairs_of_two_factors(fit):
    table = pairs(emmeans(fit, ["condition", "basis"])).table()
    assert len(table) == 15
    assert table["contrast"].iloc[0] == "easy distributed - hard distributed"
    apart = pairs(emmeans(fit, ["condition", "basis"]), by="basis").table()
    pd.testing.assert_frame_equal(apart, pairs(emmeans(fit, "condition", by="basis")).table())
    joined = pairs(emmeans(fit, "condition", by="basis"), by=()).table()
    pd.testing.assert_frame_equal(joined, table)
    reverse = pairs(emmeans(fit, "condition"), reverse=True).table()
    assert reverse["contrast"].tolist() == ["hard - easy", "medium - easy", "medium - hard"]


def test_a_contrast_of_nothing_has_no_test(frame):
    fit = maximum("correct ~ condition + basis * depth", frame)
    table = pairs(emtrends(fit, "condition", "depth")).table()
    np.testing.assert_allclose(table["estimate"], 0, atol=1e-10)
    assert table[["z_ratio", "p_value"]].isna().all(axis=None)


# --- Draws ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def draws(frame):
    rng = np.random.default_rng(5)
    data = frame.assign(person=np.arange(len(frame)) % 12)
    b = {name: rng.normal(m, 0.3, 400) for name, m in zip(["Intercept", "conditionhard"], [0.5, -0.9], strict=True)}
    b |= {name: rng.normal(0.2, 0.3, 400) for name in ("conditionmedium", "basislocal")}
    return known_fit("correct ~ condition + basis + (1 | person)", data, b, sd={"person": [1.2]})


def test_draws_average_the_link_and_are_carried_back_one_by_one(draws):
    b = draws.parameters().b
    eta = {"easy": b[:, 0] + b[:, 3] / 2, "hard": b[:, 0] + b[:, 1] + b[:, 3] / 2}
    table = emmeans(draws, "condition", scale="response").table().set_index("condition")
    for level, values in eta.items():
        p = special.expit(values)
        assert table.loc[level, "prob"] == pytest.approx(p.mean())
        assert table.loc[level, "SE"] == pytest.approx(p.std(ddof=1))
        assert table.loc[level, "upper_CL"] == pytest.approx(np.quantile(p, 0.975))
    assert table["df"].isna().all()
    row = pairs(emmeans(draws, "condition", scale="response")).table().iloc[0]
    ratio = np.exp(eta["easy"] - eta["hard"])
    assert row["odds_ratio"] == pytest.approx(ratio.mean()) and row["pd"] == (ratio > 1).mean()
    assert "p_value" not in row.index
    shortest = emmeans(draws, "condition", scale="response", interval=Interval("hdi", 0.8)).table()
    low, high = Interval("hdi", 0.8).of_draws(special.expit(eta["easy"]))
    assert (shortest["lower_CL"].iloc[0], shortest["upper_CL"].iloc[0]) == pytest.approx((float(low), float(high)))


def test_simultaneous_limits_hold_all_contrasts_of_most_draws(draws):
    made = pairs(emmeans(draws, "condition"), adjust="mvt")
    b, table = draws.parameters().b, made.table()
    values = np.column_stack([-b[:, 1], -b[:, 2], b[:, 1] - b[:, 2]])
    inside = (values >= table["lower_CL"].to_numpy()) & (values <= table["upper_CL"].to_numpy())
    assert inside.all(axis=1).mean() == pytest.approx(0.95, abs=0.005)
    assert "simultaneous" in repr(made)


def test_the_population_has_averages_and_their_odds(draws):
    b, new = draws.parameters().b, np.random.default_rng(2).normal(0, 1.2, 20_000)
    p = np.mean([special.expit(row[0] + k * row[3] + new).mean() for row in b for k in (0, 1)])
    table = emmeans(draws, "condition", scale="response", target="population").table()
    assert table["prob"].iloc[0] == pytest.approx(p, abs=3e-3)
    typical = pairs(emmeans(draws, "condition", scale="response")).table()["odds_ratio"].iloc[0]
    everyone = pairs(emmeans(draws, "condition", scale="response", target="population")).table()["odds_ratio"].iloc[0]
    assert 1 < everyone < typical


def test_a_sampled_fit_answers_in_the_same_words(fitted: Callable[[str], Fit]):
    fit = fitted("uncorrelated")
    table = pairs(emmeans(fit, "condition")).table()
    b = fit.parameters().b
    np.testing.assert_allclose(table["estimate"], [-b[:, 1].mean(), -b[:, 2].mean(), (b[:, 1] - b[:, 2]).mean()])
    assert "averaged over new participants" in repr(emmeans(fit, "condition", scale="response", target="population"))


# --- Words ------------------------------------------------------------------------------------------------------------


def test_what_is_printed_says_how_it_was_made(fit, means):
    assert repr(means).splitlines()[-4:] == [
        "Results are averaged over basis.",
        "Held at depth = 0.4825.",
        "Results are given on the logit (not the response) scale.",
        "Limits: 95 % Wald confidence interval.",
    ]
    text = repr(pairs(emmeans(fit, "condition", by="basis", scale="response")))
    assert "basis = distributed:" in text and "basis = local:" in text
    assert "P value adjustment: tukey method for comparing a family of 3 estimates." in text
    assert "Tests are performed on the log odds ratio scale." in text
    assert "back-transformed from the logit scale" in repr(emmeans(fit, "condition", scale="response"))
    assert "basis, cells weights" in repr(emmeans(fit, "condition", weights="cells"))


def test_columns_can_have_r_s_names(fit, draws, means):
    assert means.table(names="R").columns.tolist() == ["condition", "emmean", "SE", "df", "asymp.LCL", "asymp.UCL"]
    odds = pairs(emmeans(fit, "condition", scale="response")).table(names="R")
    assert {"odds.ratio", "z.ratio", "p.value", "asymp.LCL"} <= set(odds)
    assert "depth.trend" in emtrends(fit, "condition", "depth").table(names="R")
    shortest = emmeans(draws, "condition", interval=Interval("hdi"))
    assert {"lower.HPD", "upper.HPD"} <= set(shortest.table(names="R"))


def test_levels_are_named_as_emmeans_names_them():
    assert level_label({"x": "a"}) == "a"
    assert level_label({"x": "a", "depth": 0.5}) == "a depth0.5"
    assert level_label({"depth": -0.5}) == "(depth-0.5)"
    assert level_label({"x": "a-b"}) == "(a-b)"
    assert level_label({"x": "2"}) == "x2"


@pytest.mark.parametrize(
    ("method", "labels", "matrix"),
    [
        ("revpairwise", ["b - a", "c - a", "c - b"], [[-1, 1, 0], [-1, 0, 1], [0, -1, 1]]),
        ("trt.vs.ctrlk", ["a - c", "b - c"], [[1, 0, -1], [0, 1, -1]]),
        ("consec", ["b - a", "c - b"], [[-1, 1, 0], [0, -1, 1]]),
        ("mean_chg", ["a|b", "b|c"], [[-1, 0.5, 0.5], [-0.5, -0.5, 1]]),
        ("del.eff", ["a effect", "b effect", "c effect"], [[1, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1]]),
        ("poly", ["linear", "quadratic"], [[-1, 0, 1], [1, -2, 1]]),
    ],
)
def test_coefficients_are_r_s(method, labels, matrix):
    made = coefficients(method, ["a", "b", "c"])
    assert list(made.labels) == labels
    np.testing.assert_allclose(made.matrix, matrix, atol=1e-12)


def test_polynomials_of_many_levels_are_r_s():
    """poly.emmc(1:8), its cubic and quintic."""
    made = coefficients("poly", list("abcdefgh"))
    assert made.labels[-1] == "degree 6" and len(made.labels) == 6
    np.testing.assert_allclose(made.matrix[2], [-7, 5, 7, 3, -3, -7, -5, 7])
    np.testing.assert_allclose(made.matrix[4], [-7, 23, -17, -15, 15, 17, -23, 7])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: emmeans(f, "conditoin"), "did you mean 'condition'"),
        (lambda f: emmeans(f, "condition", by="bsis"), "did you mean 'basis'"),
        (lambda f: emmeans(f, "condition", by={"depth": [0]}), "give their values with at"),
        (lambda f: emmeans(f, "condition", at={"dept": [0]}), "did you mean 'depth'"),
        (lambda f: emmeans(f, "condition", at={"basis": ["odd"]}), "no level of basis"),
        (lambda f: emmeans(f, []), "name one at least"),
        (lambda f: emmeans(f, "pairwise ~ condition"), "asks for contrasts"),
        (lambda f: emmeans(f, "condition", scale="odds"), "allowed are link, response"),
        (lambda f: emmeans(f, "condition", target="me"), "allowed are typical, population"),
        (lambda f: emmeans(f, "condition", target="population"), "use scale='response'"),
        (lambda f: emmeans(f, "condition", weights="prop"), "allowed are equal"),
        (lambda f: emmeans(f, "condition", regrid="log"), "allowed is response"),
        (lambda f: emmeans(f, "condition", adjust="tuky"), "did you mean 'tukey'"),
        (lambda f: emmeans(f, "condition", interval=Interval("eti")), "use wald"),
        (lambda f: emtrends(f, "condition", "basis"), "no numeric predictor"),
        (lambda f: emtrends(f, "condition", "depth", target="population"), "use scale='response'"),
        (lambda f: emtrends(f, "condition", "depth").regrid(), "no other scale"),
        (lambda f: pairs(emmeans(f, "condition"), by="depth"), "no factor of these means"),
        (lambda f: pairs(emmeans(f, "condition", at={"condition": ["easy"]})), "there is easy alone"),
        (lambda f: contrast(emmeans(f, "condition"), "pairwize"), "did you mean 'pairwise'"),
        (lambda f: contrast(emmeans(f, "condition"), {"a": [1, -1]}), "needs 3 finite coefficients"),
        (lambda f: contrast(emmeans(f, "condition"), {}), "no contrast is given"),
        (lambda f: contrast(emmeans(f, "condition", scale="response"), {"a": [1, 0, 0]}), "sum to 1"),
        (lambda f: contrast(emmeans(f, "condition"), adjust="none").table(names="S"), "allowed are python and R"),
    ],
)
def test_bad_input_is_refused_by_name(call, words, fit):
    with pytest.raises(InputError, match=words):
        call(fit)


def test_draws_have_no_p_values_to_adjust(draws):
    with pytest.raises(InputError, match="allowed are none and mvt"):
        pairs(emmeans(draws, "condition"), adjust="tukey")
    with pytest.raises(InputError, match="not made from draws"):
        emmeans(draws, "condition", interval=Interval("wald"))


def test_a_cell_without_trials_has_no_weights(frame):
    data = frame[~((frame["condition"] == "hard") & (frame["basis"] == "local"))]
    fit = maximum("correct ~ condition + basis", data)
    assert len(emmeans(fit, "condition", weights="cells").table()) == 3
    with pytest.raises(InputError, match="no trial is at condition hard"):
        emmeans(fit, "condition", at={"basis": ["local"]}, weights="cells")
