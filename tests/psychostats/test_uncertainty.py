"""The delta method against closed forms and statsmodels; families of comparisons against tables and R."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from likelihood import maximum, supposed, three_levels
from scipy import special, stats

from psychostats.effects import contrasts, interactions, marginal_means, slopes
from psychostats.errors import InputError
from psychostats.intervals import Interval, Rope
from psychostats.multiplicity import ADJUSTMENTS, critical_value, p_values
from psychostats.uncertainty import Delta, Sampled, Through, points

WALD = Interval("wald")
Z = stats.norm.ppf(0.975)


def covariance(seed, n, rank=None):
    """Give a covariance whose parameters have units of very different size."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, rank or n))
    units = 10.0 ** rng.uniform(-3, 3, n)
    return (A * units[:, np.newaxis]) @ (A * units[:, np.newaxis]).T


# --- Points around a maximum ------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_linear_quantities_have_their_exact_covariance(seed, n):
    rng = np.random.default_rng(seed)
    centre, cov, L = rng.normal(size=n), covariance(seed, n), rng.normal(size=(3, n))
    values = points(centre, cov) @ L.T
    exact = L @ cov @ L.T
    size = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    np.testing.assert_allclose(Delta().covariance(values) / size, exact / size, atol=1e-7)
    np.testing.assert_allclose(Delta().estimate(values), L @ centre, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(Delta().sd(values), np.sqrt(np.diag(exact)), rtol=1e-7)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_directions_without_variance_are_left_out(rank):
    cov = covariance(3, 4, rank)
    cov[0], cov[:, 0] = 0.0, 0.0  # a parameter that is fixed
    rows = points(np.arange(4.0), cov)
    assert len(rows) == 2 * rank + 1
    np.testing.assert_allclose(rows[:, 0], 0.0, atol=1e-18)
    sd = np.where(np.diag(cov) > 0, np.sqrt(np.diag(cov)), 1.0)
    size = np.outer(sd, sd)
    np.testing.assert_allclose(Delta().covariance(rows) / size, cov / size, atol=1e-7)
    assert len(points([1.0, 2.0], np.zeros((2, 2)))) == 1


def test_what_is_no_covariance_is_refused():
    with pytest.raises(InputError, match="no finite covariance"):
        points([0.0], [[np.nan]])
    with pytest.raises(InputError, match="no finite covariance"):
        points([np.inf], [[1.0]])
    with pytest.raises(InputError, match="negative variance"):
        points([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(InputError, match="negative variance"):
        points([0.0], [[-1.0]])


# --- One quantity -----------------------------------------------------------------------------------------------------


def test_a_probability_has_its_delta_error_and_limits_through_the_link():
    rows = points([1.2], [[0.16]])[:, 0]
    p = special.expit(rows)
    row = Delta().summarise(p, WALD, null=0.5, rope=Rope(-1, 1), through=Through(rows, special.expit))
    q = special.expit(1.2)
    assert row["estimate"] == pytest.approx(q, rel=1e-15)
    assert row["sd"] == pytest.approx(q * (1 - q) * 0.4, rel=1e-7)
    assert row["conf_low"] == pytest.approx(special.expit(1.2 - Z * 0.4), rel=1e-9)
    assert row["conf_high"] == pytest.approx(special.expit(1.2 + Z * 0.4), rel=1e-9)
    assert row["interval"] == "wald" and row["conf_level"] == 0.95
    assert all(np.isnan(row[name]) for name in ("pd", "rope_low", "rope_high", "rope_share"))
    plain = Delta().summarise(p, WALD)
    assert plain["conf_high"] == pytest.approx(q + Z * q * (1 - q) * 0.4, rel=1e-7)
    assert list(row) == list(Sampled().summarise(p, Interval()))


def test_each_has_its_own_intervals():
    with pytest.raises(InputError, match="not made from draws"):
        Sampled().summarise(np.arange(3.0), WALD)
    for kind in ("eti", "hdi", "profile", "bootstrap"):
        with pytest.raises(InputError, match="not made from a standard error; use wald"):
            Delta().summarise(np.arange(3.0), Interval(kind))
    with pytest.raises(ValueError, match="no estimate with pairs"):
        Delta().sd(np.zeros((2, 1)))


def test_draws_have_their_moments():
    draws = np.random.default_rng(2).normal(size=(500, 3)) @ np.array([[1, 0, 0], [0.5, 1, 0], [0, 0, 2.0]])
    np.testing.assert_allclose(Sampled().covariance(draws), np.cov(draws.T))
    np.testing.assert_allclose(Sampled().sd(draws), draws.std(axis=0, ddof=1))
    np.testing.assert_allclose(Sampled().estimate(draws), draws.mean(axis=0))
    assert np.isnan(Sampled().sd(draws[:1])).all() and np.isnan(Sampled().covariance(draws[:1])).all()


# --- Families ---------------------------------------------------------------------------------------------------------


def pairwise(k):
    """Give the contrasts of all pairs of k independent means, and their correlation."""
    D = np.array([np.eye(k)[i] - np.eye(k)[j] for i in range(k) for j in range(i + 1, k)])
    return D, D @ D.T / 2


@pytest.mark.parametrize(("k", "q"), [(3, 3.314493158), (4, 3.633159582), (5, 3.857655527), (6, 4.030092087)])
def test_tukey_is_the_studentized_range(k, q):
    """Quantiles at 0.95 and infinitely many degrees of freedom, from R's qtukey."""
    R = pairwise(k)[1]
    assert critical_value("tukey", 0.95, R, k) == pytest.approx(q / np.sqrt(2), abs=2e-6)
    # The multivariate normal of equally precise independent means is the same law.
    assert critical_value("mvt", 0.95, R) == pytest.approx(q / np.sqrt(2), abs=2e-4)


@pytest.mark.parametrize("k", [2, 3, 6])
def test_independent_estimates_make_sidak_of_the_multivariate_normal(k):
    exact = stats.norm.ppf(0.5 + 0.95 ** (1 / k) / 2)
    assert critical_value("sidak", 0.95, np.eye(k)) == pytest.approx(exact, rel=1e-12)
    assert critical_value("mvt", 0.95, np.eye(k)) == pytest.approx(exact, abs=1e-3)
    tail = p_values("mvt", np.full(k, 5.0), np.eye(k))
    np.testing.assert_allclose(tail, 1 - (1 - 2 * stats.norm.sf(5)) ** k, rtol=0.02)


@pytest.mark.parametrize("rho", [-0.7, 0.2, 0.9])
def test_two_correlated_estimates_are_the_bivariate_normal(rho):
    R = np.array([[1, rho], [rho, 1]])
    c = critical_value("mvt", 0.9, R)
    law = stats.multivariate_normal(cov=R)
    assert law.cdf([c, c], lower_limit=[-c, -c]) == pytest.approx(0.9, abs=1e-6)


def test_identical_estimates_need_no_adjustment_of_the_multivariate_normal():
    assert critical_value("mvt", 0.95, np.ones((4, 4))) == pytest.approx(Z, rel=1e-9)


def test_adjusted_p_values_are_those_of_r():
    """R 4: p.adjust(c(.01, .02, .03, .04)), and emmeans 1.8.4 for a logistic regression of warpbreaks."""
    p = np.array([0.01, 0.02, 0.03, 0.04])
    z, R = stats.norm.isf(p / 2), np.eye(4)
    expected = {
        "holm": [0.04, 0.06, 0.06, 0.06],
        "hochberg": [0.04] * 4,
        "bonferroni": [0.04, 0.08, 0.12, 0.16],
        "fdr": [0.04] * 4,
        "BH": [0.04] * 4,
        "BY": [1 / 12] * 4,
        "none": p,
    }
    for adjust, values in expected.items():
        np.testing.assert_allclose(p_values(adjust, z, R), values, rtol=1e-9, err_msg=adjust)
    ratios = [1.719, 3.073, 1.883]
    np.testing.assert_allclose(p_values("tukey", ratios, pairwise(3)[1], 3), [0.1979, 0.0060, 0.1436], atol=2e-4)
    np.testing.assert_allclose(p_values("dunnettx", [1.719, 3.073], np.eye(2)), [0.1555, 0.0042], atol=2e-4)
    assert critical_value("dunnettx", 0.95, np.eye(2)) == pytest.approx(2.221812, abs=5e-4)


def test_scheffe_goes_by_the_rank():
    R = pairwise(4)[1]
    assert critical_value("scheffe", 0.95, R) == pytest.approx(np.sqrt(stats.chi2.ppf(0.95, 3)))
    c = critical_value("scheffe", 0.95, R)
    np.testing.assert_allclose(p_values("scheffe", [c] * 6, R), 0.05)


@pytest.mark.parametrize("adjust", [a for a in ADJUSTMENTS if a in ("tukey", "mvt", "sidak", "bonferroni", "scheffe")])
def test_limits_and_p_values_agree(adjust):
    R = pairwise(3)[1]
    c = critical_value(adjust, 0.9, R, 3)
    np.testing.assert_allclose(p_values(adjust, [c, -c, c], R, 3), 0.1, rtol=1e-6)


def test_one_estimate_is_left_alone_and_tukey_is_for_pairs_only():
    assert critical_value("tukey", 0.95, np.eye(1), 2) == pytest.approx(Z)
    assert critical_value("tukey", 0.95, np.eye(3)) == critical_value("sidak", 0.95, np.eye(3))
    assert critical_value("holm", 0.95, np.eye(3)) == critical_value("bonferroni", 0.95, np.eye(3))
    with pytest.raises(InputError, match="did you mean 'tukey'"):
        critical_value("tuky", 0.95, np.eye(3))
    assert np.isnan(p_values("tukey", [np.nan, 1, 2], pairwise(3)[1], 3)).tolist() == [True, False, False]


def test_simultaneous_limits_hold_their_share_of_draws_together():
    rng = np.random.default_rng(5)
    D, _ = pairwise(3)
    draws = rng.normal(size=(40_000, 3)) @ D.T + 1.0
    low, high = Sampled().limits(draws, Interval("eti", 0.95), adjust="mvt")
    assert ((draws >= low) & (draws <= high)).all(axis=1).mean() == pytest.approx(0.95, abs=1e-4)
    np.testing.assert_allclose((high - low) / 2 / draws.std(axis=0), 2.3437, atol=0.03)
    np.testing.assert_allclose(Sampled().limits(draws, Interval())[0], np.quantile(draws, 0.025, axis=0))
    with pytest.raises(InputError, match="allowed are none and mvt"):
        Sampled().limits(draws, Interval(), adjust="tukey")


# --- Effects at a maximum ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frame():
    return three_levels()


@pytest.fixture(scope="module")
def fit(frame):
    return maximum("correct ~ condition * basis + depth", frame)


def mean_row(fit, **at):
    """Give the row of the design that averages the grid's rows with these values."""
    return fit.coding.fixed(fit.coding.grid({name: [value] for name, value in at.items()})).mean(axis=0)


def test_typical_means_average_the_linear_predictor(fit):
    table = marginal_means(fit, "condition")
    link = marginal_means(fit, "condition", scale="link")
    for level, row, inner in zip(
        ("easy", "hard", "medium"),
        table[table["target"] == "typical"].to_dict("records"),
        link.to_dict("records"),
        strict=True,
    ):
        x = mean_row(fit, condition=level)
        eta, se = x @ fit.estimate, np.sqrt(x @ fit.cov @ x)
        assert inner["estimate"] == pytest.approx(eta, rel=1e-12) and inner["sd"] == pytest.approx(se, rel=1e-8)
        p = special.expit(eta)
        assert row["estimate"] == pytest.approx(p) and row["sd"] == pytest.approx(p * (1 - p) * se, rel=1e-7)
        assert row["conf_low"] == pytest.approx(special.expit(eta - Z * se), rel=1e-8)
        assert row["conf_high"] == pytest.approx(special.expit(eta + Z * se), rel=1e-8)
    # Without group effects the population is the typical person.
    columns = ["term", "estimate", "sd", "conf_low", "conf_high"]
    pd.testing.assert_frame_equal(
        *(table.loc[table["target"] == target, columns].reset_index(drop=True) for target in ("typical", "population"))
    )
    assert set(table["interval"]) == {"wald"} and table["pd"].isna().all()


def test_one_cell_is_statsmodels_own_prediction(fit):
    table = marginal_means(fit, "depth", by={"condition": ["hard"], "basis": ["local"], "depth": [0.3]})
    x = mean_row(fit, condition="hard", basis="local", depth=0.3)
    theirs = fit.result.get_prediction(x[np.newaxis])
    row = table.iloc[0]
    assert row["estimate"] == pytest.approx(theirs.predicted[0])
    assert row["sd"] == pytest.approx(theirs.se[0], rel=1e-7)
    np.testing.assert_allclose(row[["conf_low", "conf_high"]].astype(float), theirs.conf_int()[0], rtol=1e-7)


def test_odds_ratios_are_exponentials_of_link_contrasts_without_asymptotes(fit):
    ours = contrasts(fit, "condition")
    link = contrasts(fit, "condition", scale="link")
    ratio = ours.query("scale == 'odds_ratio' and target == 'typical'")
    np.testing.assert_allclose(ratio["estimate"], np.exp(link["estimate"]))
    np.testing.assert_allclose(ratio["sd"], np.exp(link["estimate"]) * link["sd"], rtol=1e-6)
    np.testing.assert_allclose(ratio["conf_low"], np.exp(link["conf_low"]), rtol=1e-7)
    np.testing.assert_allclose(ratio["conf_high"], np.exp(link["conf_high"]), rtol=1e-7)
    x = mean_row(fit, condition="hard") - mean_row(fit, condition="easy")
    assert link["estimate"].iloc[0] == pytest.approx(x @ fit.estimate)
    assert link["sd"].iloc[0] == pytest.approx(np.sqrt(x @ fit.cov @ x), rel=1e-8)
    difference = ours.query("scale == 'difference' and target == 'typical'").iloc[0]
    a, b = (mean_row(fit, condition=level) for level in ("easy", "hard"))
    p, q = special.expit(a @ fit.estimate), special.expit(b @ fit.estimate)
    gradient = q * (1 - q) * b - p * (1 - p) * a
    se = np.sqrt(gradient @ fit.cov @ gradient)
    assert difference["estimate"] == pytest.approx(q - p) and difference["sd"] == pytest.approx(se, rel=1e-7)
    assert difference["conf_high"] == pytest.approx(q - p + Z * se, rel=1e-7)
    assert ours[["pd", "rope_low", "rope_high", "rope_share"]].isna().all(axis=None)


def test_slopes_and_interactions_at_a_maximum(frame):
    fit = maximum("correct ~ basis * depth", frame)
    table = slopes(fit, "depth", by={"basis": ["distributed", "local"]}).query("scale == 'link'")
    x = np.array([0.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(table["estimate"], [fit.estimate[2], x @ fit.estimate])
    np.testing.assert_allclose(table["sd"], np.sqrt([fit.cov[2, 2], x @ fit.cov @ x]), rtol=1e-7)
    change = interactions(fit, "basis", "depth", [0, 1]).query("target == 'typical'").set_index("scale")
    assert change.loc["link", "estimate"] == pytest.approx(fit.estimate[3])
    assert change.loc["odds_ratio", "estimate"] == pytest.approx(np.exp(fit.estimate[3]))
    limits = np.exp(fit.estimate[3] + np.array([-Z, Z]) * np.sqrt(fit.cov[3, 3]))
    np.testing.assert_allclose(change.loc["odds_ratio", ["conf_low", "conf_high"]].astype(float), limits, rtol=1e-6)


def test_the_population_s_error_holds_that_of_the_random_effects(frame):
    """A probit-normal mean has a closed form, and so has its gradient in the intercept and the log SD."""
    data = frame.assign(person=np.arange(len(frame)) % 12)
    b, log_sd, cov = 0.7, np.log(0.9), np.array([[0.04, 0.01], [0.01, 0.09]])
    fit = supposed("correct ~ 1 + (1 | person) + offset(depth)", data, [b, log_sd], cov, link="probit")
    table = marginal_means(fit, "depth", by={"depth": [0.5]}).set_index("target")
    v = np.exp(2 * log_sd)
    eta = (b + 0.5) / np.sqrt(1 + v)
    p = stats.norm.cdf(eta)
    gradient = stats.norm.pdf(eta) * np.array([1 / np.sqrt(1 + v), -(b + 0.5) * v / (1 + v) ** 1.5])
    se = np.sqrt(gradient @ cov @ gradient)
    row = table.loc["population"]
    assert row["estimate"] == pytest.approx(p, abs=1e-9) and row["sd"] == pytest.approx(se, rel=1e-6)
    width = Z * se / stats.norm.pdf(eta)
    np.testing.assert_allclose(
        row[["conf_low", "conf_high"]].astype(float), stats.norm.cdf([eta - width, eta + width]), rtol=1e-6
    )
    assert table.loc["typical", "estimate"] == pytest.approx(stats.norm.cdf(b + 0.5))


def test_far_out_on_the_link_all_digits_are_kept():
    rows = pd.DataFrame({"x": ["a", "b"] * 20, "correct": [0, 1] * 20})
    fit = supposed("correct ~ x", rows, [40.0, 5.0], np.diag([0.25, 0.25]))
    mean = marginal_means(fit, "x").iloc[0]
    assert mean["conf_high"] == 1.0 and mean["conf_low"] == pytest.approx(1.0)
    ratio = contrasts(fit, "x").query("scale == 'odds_ratio' and target == 'typical'").iloc[0]
    assert ratio["estimate"] == pytest.approx(np.exp(5)) and ratio["conf_low"] == pytest.approx(np.exp(5 - Z / 2))
    forced = supposed("correct ~ x", rows, [-20.0, 5.0], np.diag([0.25, 0.25]), family="afc")
    low = marginal_means(forced, "x").iloc[0]["conf_low"]
    assert low - 0.5 == pytest.approx(0.5 * special.expit(-20 - Z / 2), rel=1e-6)


def test_the_wrong_interval_is_refused(fit):
    with pytest.raises(InputError, match="use wald"):
        contrasts(fit, "condition", interval=Interval("hdi"))
