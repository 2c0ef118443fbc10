"""Predictive checks against closed forms: binomial bounds, coverage under the truth, and priors by brute force."""

import numpy as np
import pandas as pd
import pytest
from deviations import maximum
from scipy import special, stats
from studies import known_fit

from psychostats.checks import (
    CALIBRATION_CELLS,
    MISFIT_CHANCE,
    _isotonic,
    below_guess,
    calibration,
    draw_priors,
    most_outside,
    predictive_accuracy,
    prior_predictive_accuracy,
)
from psychostats.errors import InputError
from psychostats.intervals import Interval
from psychostats.predictor import random_variance
from psychostats.priors import parse_prior


def trials(rows=600, people=12, seed=1):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "x": pd.Categorical(np.array(["a", "b"])[np.arange(rows) % 2]),
            "g": [f"g{i:03d}" for i in np.arange(rows) * people // rows],
            "z": rng.normal(size=rows),
            "correct": rng.binomial(1, 0.7, size=rows),
        }
    )


def test_observed_is_the_raw_share_of_every_group():
    rows = trials()
    fit = known_fit("correct ~ x + (1 | g)", rows, {"Intercept": 0.3, "xb": 0.1}, family="afc")
    table = predictive_accuracy(fit, rows[["x", "g"]])
    raw = rows.groupby(["x", "g"], observed=True)["correct"].agg(["size", "mean"]).reset_index()
    assert table[["x", "g"]].astype(str).equals(raw[["x", "g"]].astype(str))
    assert table["n"].tolist() == raw["size"].tolist()
    np.testing.assert_allclose(table["observed"], raw["mean"])
    assert table["inside"].tolist() == table["observed"].between(table["conf_low"], table["conf_high"]).tolist()
    assert (table["conf_level"] == 0.95).all() and (table["interval"] == "eti").all()


@pytest.mark.parametrize("probability", [0.5, 0.95])
def test_with_known_parameters_the_interval_is_the_binomials(probability):
    rows = trials(rows=4000)
    r = np.linspace(-1, 1, 12).reshape(12, 1)
    fit = known_fit("correct ~ x + (1 | g)", rows, {"Intercept": 0.3, "xb": 0.8}, r={"g": r}, family="afc", draws=4000)
    table = predictive_accuracy(fit, rows[["g", "x"]], draws=4000, interval=Interval("eti", probability))
    place = table["g"].str[1:].astype(int).to_numpy()
    p = 0.5 + 0.5 * special.expit(0.3 + 0.8 * (table["x"] == "b").to_numpy() + r[place, 0])
    n = table["n"].to_numpy()
    np.testing.assert_allclose(table["estimate"], p, atol=4 * np.sqrt(0.25 / n.min() / 4000))
    for bound, tail in (("conf_low", (1 - probability) / 2), ("conf_high", (1 + probability) / 2)):
        np.testing.assert_allclose(table[bound] * n, stats.binom.ppf(tail, n, p), atol=1)


def test_counts_weigh_by_their_trials():
    rows = pd.DataFrame({"right": [9, 1], "wrong": [1, 89], "x": ["a", "b"], "all": "one"})
    fit = known_fit("cbind(right, wrong) ~ x", rows, {"Intercept": 2.2, "xb": -6.0}, family="binomial")
    table = predictive_accuracy(fit, rows[["all"]])
    assert table["n"].tolist() == [100]
    assert table["observed"].tolist() == [0.1]
    p = (10 * special.expit(2.2) + 90 * special.expit(-3.8)) / 100
    assert table["estimate"].iloc[0] == pytest.approx(p, abs=4 * 0.02 / np.sqrt(400))


def test_under_the_truth_groups_lie_inside_and_under_a_wrong_model_they_do_not():
    rows = trials(rows=40_000, people=400)  # 400 draws: more than one block of rows
    effect = np.random.default_rng(2).normal(0, 1.5, size=(400, 1))
    eta = 0.2 + effect[rows["g"].str[1:].astype(int), 0]
    rows["correct"] = np.random.default_rng(3).binomial(1, 0.5 + 0.5 * special.expit(eta))
    b = {"Intercept": 0.2}
    true = known_fit("correct ~ 1 + (1 | g)", rows, b, r={"g": effect}, family="afc")
    inside = predictive_accuracy(true, rows[["g"]])["inside"].mean()
    assert 0.925 < inside < 0.99  # 95 % and a little, since shares of 100 answers are discrete; its SE is 1.1 points
    alike = known_fit("correct ~ 1 + (1 | g)", rows, b, family="afc")
    assert predictive_accuracy(alike, rows[["g"]])["inside"].mean() < 0.75


def test_one_seed_gives_one_table():
    rows = trials()
    fit = known_fit("correct ~ x", rows, {"Intercept": 0.3, "xb": 0.1}, noise=0.2)
    one, again, other = (predictive_accuracy(fit, rows[["g"]], seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, again)
    assert not one["estimate"].equals(other["estimate"])


def test_labels_that_do_not_belong_to_the_rows_are_refused():
    rows = trials()
    fit = known_fit("correct ~ x", rows, {"Intercept": 0.3, "xb": 0.1})
    with pytest.raises(InputError, match="599 labels were given for the fit's 600 rows"):
        predictive_accuracy(fit, rows[["g"]].iloc[1:])
    with pytest.raises(InputError, match="the labels g are blank in some rows"):
        predictive_accuracy(fit, rows[["g"]].replace("g003", None))


@pytest.mark.parametrize(("family", "centre"), [("bernoulli", 0.5), ("afc", 0.75)])
def test_default_priors_favour_no_level_and_centre_between_guessing_and_certainty(family, centre):
    rows = trials()
    fit = known_fit("correct ~ x + z + (1 + x | g)", rows, {"Intercept": 0, "xb": 0, "z": 0}, family=family)
    table = prior_predictive_accuracy(fit, "x", draws=4000)
    assert table.columns.tolist() == ["draw", "x", "accuracy"]
    assert table["x"].cat.categories.tolist() == ["a", "b"]
    wide = table.pivot_table(index="draw", columns="x", values="accuracy", observed=True)
    assert len(wide) == 4000
    assert table["accuracy"].between(2 * centre - 1, 1).all()
    for values, middle in ((wide["a"], centre), (wide["b"], centre), (wide["b"] - wide["a"], 0.0)):
        assert values.mean() == pytest.approx(middle, abs=4 * values.std() / np.sqrt(4000))
    difference = wide["b"] - wide["a"]
    assert stats.ks_2samp(difference, -difference).pvalue > 1e-4


def test_prior_accuracy_is_that_of_people_simulated_one_by_one():
    rows = trials()
    priors = ["Intercept ~ normal(0.5, 1)", "b_xb ~ normal(1, 0.5)", "sd_g__Intercept ~ gamma(4, 2)"]
    fit = known_fit("correct ~ x + (1 | g)", rows, {"Intercept": 0, "xb": 0}, family="afc", priors=priors)
    table = prior_predictive_accuracy(fit, "x", draws=4000)
    rng = np.random.default_rng(11)
    a, d = rng.normal(0.5, 1, size=4000), rng.normal(1, 0.5, size=4000)
    people = rng.gamma(4, 1 / 2, size=(4000, 1)) * rng.normal(size=(4000, 1000))
    for level, eta in (("a", a), ("b", a + d)):
        brute = (0.5 + 0.5 * special.expit(eta[:, np.newaxis] + people)).mean(axis=1)
        ours = table.loc[table["x"] == level, "accuracy"]
        at = [0.05, 0.25, 0.5, 0.75, 0.95]
        np.testing.assert_allclose(np.quantile(ours, at), np.quantile(brute, at), atol=0.015)


def test_prior_draws_follow_their_laws():
    rows = trials().assign(w=lambda frame: frame["z"] ** 2)
    b = {"Intercept": 0, "z": 0, "w": 0}
    fit = known_fit("correct ~ z + w + (1 + z + w | g)", rows, b, priors=["cor ~ lkj(3)", "sd_g__w ~ normal(1, 2)"])
    drawn = draw_priors(np.random.default_rng(1), fit.priors, fit.design.names, fit.design.blocks, 8000)
    reach = np.ptp(rows["z"])
    for column, scale in ((0, 1.5), (1, 1 / reach)):
        assert stats.kstest(drawn.b[:, column], stats.norm(0, scale).cdf).pvalue > 1e-4
    covariance = drawn.covariance[0]
    sd = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    assert stats.kstest(sd[:, 0], stats.expon(scale=0.5).cdf).pvalue > 1e-4
    assert stats.kstest(sd[:, 2], stats.truncnorm(-0.5, np.inf, loc=1, scale=2).cdf).pvalue > 1e-4
    # Each correlation of an LKJ(eta) matrix of q terms is beta(eta - 1 + q/2) on (-1, 1).
    for j, k in ((1, 0), (2, 0), (2, 1)):
        r = covariance[:, j, k] / (sd[:, j] * sd[:, k])
        assert stats.kstest((r + 1) / 2, stats.beta(3.5, 3.5).cdf).pvalue > 1e-4


def test_prior_draws_of_uncorrelated_effects_have_none():
    rows = trials()
    fit = known_fit("correct ~ z + (1 + z || g)", rows, {"Intercept": 0, "z": 0})
    drawn = draw_priors(np.random.default_rng(1), fit.priors, fit.design.names, fit.design.blocks, 50)
    for block, covariance in zip(fit.design.blocks, drawn.covariance, strict=True):
        off = covariance * (1 - np.eye(len(block.terms)))
        np.testing.assert_array_equal(off, 0)
    assert (random_variance(fit.design.blocks, drawn.covariance) > 0).all()


def test_the_test_priors_read_as_they_should():
    assert str(parse_prior("sd_g__Intercept ~ gamma(4, 2)")[1]) == "gamma(4, 2)"


def test_a_misfit_is_what_chance_hardly_makes():
    assert [most_outside(n, 0.95) for n in (1, 32, 180)] == [1, 6, 19]
    rng = np.random.default_rng(1)
    outside = (rng.uniform(size=(20_000, 32)) > 0.95).sum(axis=1)
    assert (outside > most_outside(32, 0.95)).mean() <= MISFIT_CHANCE


def test_accuracy_below_guessing_by_more_than_chance_is_found():
    table = pd.DataFrame({"level": ["a", "b", "c"], "n": [100, 100, 4], "correct": [30, 45, 0]})
    table["accuracy"] = table["correct"] / table["n"]
    assert below_guess(table, 0.5)["level"].tolist() == ["a"]
    assert below_guess(table, 0.0).empty


# -- Calibration -------------------------------------------------------------------------------------------------------


def people_of(seed, people=100, each=40):
    """Give people whose accuracies follow a beta law, much alike, and draws of their posterior, which is one too."""
    rng = np.random.default_rng(seed)
    right = rng.binomial(each, rng.beta(60, 30, people))
    rows = pd.DataFrame(
        {
            "g": np.repeat([f"g{i:03d}" for i in range(people)], each),
            "correct": (np.arange(each) < right[:, np.newaxis]).astype(int).ravel(),
        }
    )
    p = rng.beta(60 + right, 30 + each - right, (400, people))
    b = {f"g{g}": special.logit(p[:, i]) for i, g in enumerate(rows["g"].unique())}
    return known_fit("correct ~ 0 + g", rows, b, draws=400), right


def inside(table):
    return float(table["n"] @ table["inside"] / table["n"].sum())


def test_a_trial_is_predicted_from_all_others():
    # One probability with a beta(1, 1) prior: Laplace's rule of succession without the trial itself.
    right, n = 27, 40
    p = np.random.default_rng(1).beta(1 + right, 1 + n - right, 200_000)
    rows = pd.DataFrame({"correct": np.arange(n) < right}).astype(int)
    fit = known_fit("correct ~ 1", rows, {"Intercept": special.logit(p)}, draws=200_000)
    table = calibration(fit, draws=200_000)
    expected = [(right - 1 + 1) / (n - 1 + 2), (right + 1) / (n - 1 + 2)]  # of right answers, and of wrong ones
    np.testing.assert_allclose(table["predicted"], expected, atol=1e-3)
    assert table["n"].tolist() == [right, n - right]
    np.testing.assert_allclose(table["observed"], right / n)  # rising with the prediction, they are one
    assert table["inside"].all()


def test_the_observed_curve_is_the_isotonic_one():
    rows = trials(rows=400, people=4)
    z = np.sort(rows["z"].to_numpy())
    rows["z"] = z
    fit = known_fit("correct ~ z", rows, {"Intercept": 0.5, "z": 0.8})
    table = calibration(fit)
    np.testing.assert_allclose(table["predicted"], special.expit(0.5 + 0.8 * z))  # one draw's worth of parameters
    y = rows["correct"].to_numpy().astype(float)
    # The isotonic fit is the largest of the least means: max over starts of min over ends (Robertson et al. 1988).
    sums = np.concatenate([[0.0], np.cumsum(y)])
    means = np.array(
        [[(sums[b + 1] - sums[a]) / (b + 1 - a) if b >= a else np.inf for b in range(400)] for a in range(400)]
    )
    least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
    exact = [least[: i + 1, i].max() for i in range(400)]
    np.testing.assert_allclose(table["observed"], exact, atol=1e-12)
    assert (np.diff(table["observed"]) > -1e-12).all() and (table["conf_low"] <= table["conf_high"]).all()


def test_under_a_true_model_the_curve_leaves_the_band_less_than_if_trials_predicted_themselves():
    """One group alone and strong shrinkage, the worst case: neither band is wide enough, but this one far less so."""
    share, naive = [], []
    for seed in range(6):
        fit, right = people_of(seed)
        table = calibration(fit)
        share.append(inside(table))
        # What the usual diagram does: observed shares over predictions of the same answers.
        p = fit.parameters(most=400)
        mean = special.expit(p.b).mean(axis=0)
        order = np.argsort(mean)
        observed = _isotonic((right / 40)[order], np.full(100, 40.0))
        drawn = np.random.default_rng(1).binomial(40, special.expit(p.b)[:, order]) / 40
        low, high = np.quantile([_isotonic(row, np.full(100, 40.0)) for row in drawn], [0.025, 0.975], axis=0)
        naive.append(((observed >= low) & (observed <= high)).mean())
    assert np.mean(naive) < 0.55 and np.mean(share) > np.mean(naive) + 0.2


def test_a_model_of_the_wrong_form_leaves_the_band():
    rng = np.random.default_rng(4)
    z = rng.uniform(-4, 4, 4000)
    rows = pd.DataFrame({"z": z, "correct": rng.binomial(1, 0.85 * special.expit(1.5 * z))})
    b = {"Intercept": -0.35, "z": 0.95}  # about the best that a model without a lapse rate can do
    wrong = calibration(known_fit("correct ~ z", rows, b))
    right = calibration(known_fit("correct ~ z", rows, {"Intercept": 0.0, "z": 1.5}, lapse=0.15))
    assert inside(wrong) < 0.6 and inside(right) > 0.9
    top = wrong[wrong["predicted"] > 0.95]
    assert (top["observed"] < top["conf_low"]).mean() > 0.9  # people lapse where the model is sure


def test_counts_are_as_many_trials_and_many_predictions_are_put_together():
    rows = pd.DataFrame({"x": [0.0, 1.0, 2.0], "right": [3, 10, 4], "wrong": [5, 4, 0]})
    single = rows.loc[np.repeat(np.arange(3), [8, 14, 4])].assign(
        correct=np.concatenate([np.repeat([1, 0], [r, w]) for r, w in zip(rows["right"], rows["wrong"], strict=True)])
    )
    b, kind = {"Intercept": -0.5, "x": 1.0}, {"noise": 0.2}
    counts = calibration(known_fit("cbind(right, wrong) ~ x", rows, b, family="binomial", **kind))
    each = calibration(known_fit("correct ~ x", single, b, **kind))
    pd.testing.assert_frame_equal(counts, each)
    assert counts["n"].sum() == 26
    many = trials(rows=5000)
    table = calibration(known_fit("correct ~ z", many, {"Intercept": 0.5, "z": 0.8}))
    assert len(table) == CALIBRATION_CELLS and table["n"].tolist() == [5] * CALIBRATION_CELLS
    assert (np.diff(table["predicted"]) > 0).all()


def test_what_has_no_calibration_is_refused():
    rows = trials()
    with pytest.raises(InputError, match="calibration leaves trials out by weighing draws"):
        calibration(maximum("correct ~ x", rows))
    with pytest.raises(InputError, match="answers that are right or wrong; gaussian has none"):
        calibration(maximum("z ~ x", rows, family="gaussian"))
