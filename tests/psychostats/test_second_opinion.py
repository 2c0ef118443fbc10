"""The second opinion against statsmodels called by hand, against known truth, and where there is no estimate."""

import time

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import expit, logit

from psychostats.design import code
from psychostats.errors import InputError
from psychostats.formula import parse_formula
from psychostats.second_opinion import fit_gee, fit_robust

BOTH = pytest.mark.parametrize("fit", [fit_gee, fit_robust])


def simulate(groups=60, size=20, sd=1.2, seed=1):
    """Give trials with a random intercept; the predictor varies within groups and the arm between them."""
    rng = np.random.default_rng(seed)
    n = groups * size
    data = pd.DataFrame(
        {
            "g": np.repeat([f"g{i}" for i in range(groups)], size),
            "x": rng.normal(size=n),
            "kind": rng.choice(["a", "b"], n),
            "arm": np.repeat(np.arange(groups) % 2, size),
        }
    )
    eta = -0.3 + 1.0 * (data["kind"] == "b") + np.repeat(rng.normal(0, sd, groups), size)
    return data.assign(y=(rng.random(n) < expit(eta)).astype(int))


def design(text, data):
    return code(parse_formula(text), data).design(data)


def gee_by_hand(formula, data):
    model = smf.gee(formula, "g", data, cov_struct=sm.cov_struct.Exchangeable(), family=sm.families.Binomial())
    return model.fit(ctol=1e-8)


def glm_by_hand(formula, data):
    groups = pd.factorize(data["g"])[0]
    return smf.glm(formula, data, family=sm.families.Binomial()).fit(cov_type="cluster", cov_kwds={"groups": groups})


@pytest.mark.parametrize(("fit", "by_hand"), [(fit_gee, gee_by_hand), (fit_robust, glm_by_hand)])
@pytest.mark.parametrize("shuffled", [False, True])
def test_it_is_what_statsmodels_gives_by_hand(fit, by_hand, shuffled):
    data = simulate()
    if shuffled:
        data = data.sample(frac=1, random_state=3).reset_index(drop=True)
    made, hand = fit(design("y ~ kind * x + arm + (1 + x | g)", data), "g"), by_hand("y ~ kind * x + arm", data)
    assert made.names == ("Intercept", "kindb", "x", "arm", "kindb:x")
    order = ["Intercept", "kind[T.b]", "x", "arm", "kind[T.b]:x"]
    np.testing.assert_allclose(made.b, hand.params[order], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(made.covariance, hand.cov_params().loc[order, order], rtol=1e-5, atol=1e-10)
    np.testing.assert_allclose(made.se, hand.bse[order], rtol=1e-5)
    if fit is fit_gee:
        np.testing.assert_allclose(made.correlation, hand.cov_struct.dep_params, rtol=1e-6)
        assert (made.method, made.group) == ("GEE", "g")
    else:
        assert (made.method, made.correlation) == ("cluster-robust", None)


@BOTH
def test_counts_are_the_trials_they_count(fit):
    data = simulate()
    counts = data.groupby(["g", "kind", "arm"], as_index=False)["y"].agg(["sum", "count"]).rename(columns={"sum": "s"})
    one = fit(design("y ~ kind + arm + (1 | g)", data), "g")
    two = fit(design("s | trials(count) ~ kind + arm + (1 | g)", counts), "g")
    np.testing.assert_allclose(two.b, one.b, rtol=1e-7)
    np.testing.assert_allclose(two.covariance, one.covariance, rtol=1e-6)


@BOTH
def test_clusters_may_be_given_and_offsets_and_units_are_heeded(fit):
    data = simulate()
    one = fit(design("y ~ x + (1 | g)", data), "g")
    given = fit(design("y ~ x", data), "people", data["g"])
    np.testing.assert_array_equal(given.b, one.b)
    assert given.group == "people"
    moved = fit(design("y ~ x + offset(2 * x) + (1 | g)", data), "g")
    np.testing.assert_allclose(moved.b, one.b - [0, 2], atol=1e-6)
    large = fit(design("y ~ x + (1 | g)", data.assign(x=data["x"] * 1e12)), "g")
    np.testing.assert_allclose(large.b * [1, 1e12], one.b, rtol=1e-6)
    np.testing.assert_allclose(large.se * [1, 1e12], one.se, rtol=1e-6)


@BOTH
@pytest.mark.parametrize("sd", [0.5, 1.2])
def test_it_finds_the_coefficients_of_the_population(fit, sd):
    data = simulate(groups=800, size=20, sd=sd, seed=5)
    nodes, weights = hermegauss(40)
    mean = [float(expit(eta + sd * nodes) @ weights / weights.sum()) for eta in (-0.3, 0.7)]
    truth = np.array([logit(mean[0]), logit(mean[1]) - logit(mean[0])])
    np.testing.assert_allclose(truth, np.array([-0.3, 1.0]) / np.sqrt(1 + 0.346 * sd**2), rtol=0.05)
    made = fit(design("y ~ kind + (1 | g)", data), "g")
    assert (np.abs(made.b - truth) < 3 * made.se).all()
    assert made.se[1] < 0.05
    assert abs(made.b[1] - 1.0) > (3 if sd > 1 else 0) * made.se[1]  # not the typical member's


@BOTH
def test_the_standard_errors_are_those_of_repetitions(fit):
    made = [fit(design("y ~ kind + arm + (1 | g)", simulate(50, 10, seed=seed)), "g") for seed in range(60)]
    spread = np.std([one.b for one in made], axis=0, ddof=1)
    ratio = np.mean([one.se for one in made], axis=0) / spread  # 60 repetitions know the spread to 9 %
    assert (np.abs(ratio - 1) < 0.27).all(), ratio
    naive = sm.GLM(simulate(50, 10)["y"], sm.add_constant(simulate(50, 10)["arm"]), family=sm.families.Binomial()).fit()
    assert made[1].se[2] > 1.3 * naive.bse["arm"]  # which a regression of independent trials would give


@BOTH
def test_where_there_is_no_estimate_that_is_said(fit):
    data = simulate()
    whole = data.assign(y=data["y"].where(data["kind"] == "a", 1))
    with pytest.raises(InputError, match=r"no estimate: kindb tells some successes from failures .*\(separation\)"):
        fit(design("y ~ kind + (1 | g)", whole), "g")
    with pytest.raises(InputError, match=r"no estimate: Intercept tells some"):
        fit(design("y ~ 1 + (1 | g)", data.assign(y=1)), "g")
    with pytest.raises(InputError, match=r"no estimate: .*x.* tell some successes"):
        fit(design("y ~ x + (1 | g)", data.assign(y=(data["x"] > 0.1).astype(int))), "g")
    with pytest.raises(InputError, match=r"^3 levels of g are too few for a robust covariance of 3 coefficients"):
        fit(design("y ~ kind + x + (1 | g)", data.iloc[:60]), "g")
    with pytest.raises(InputError, match=r"'gg' is no group of the model \(did you mean 'g'\?\)|'gg' is no group"):
        fit(design("y ~ kind + (1 | g)", data), "gg")
    with pytest.raises(InputError, match="'g' has 3 values for 1,200 rows; give one a row"):
        fit(design("y ~ kind", data), "g", [1, 2, 3])


def test_outcomes_that_nearly_separate_have_an_estimate():
    data = simulate()
    near = data.assign(y=(data["x"] > 0.1).astype(int))
    near.loc[near["x"].sub(0.1).abs() < 0.2, "y"] ^= 1  # on the wrong side, so that the estimate is finite and far
    made = fit_robust(design("y ~ x + (1 | g)", near), "g")
    np.testing.assert_allclose(made.b, glm_by_hand("y ~ x", near).params, rtol=1e-5)
    assert np.abs(made.b[0] + made.b[1] * near["x"]).max() > 10
    near.loc[near["x"].sub(0.1).abs() < 0.18, "y"] ^= 1  # so far that the library finds an estimate without errors
    with pytest.raises(
        InputError, match=r"\(cluster-robust\) found no estimate for 1,200 trials: its standard errors are"
    ):
        fit_robust(design("y ~ x + (1 | g)", near), "g")


def test_one_trial_a_cluster_has_no_correlation():
    data = simulate().assign(row=range(1200))
    with pytest.raises(InputError, match="every level of row has one trial only"):
        fit_gee(design("y ~ kind", data), "row", data["row"])
    fit_robust(design("y ~ kind", data), "row", data["row"])


def test_many_trials_take_seconds():
    data = simulate(groups=500, size=40)
    coded = design("y ~ kind * x + (1 | g)", data)
    start = time.perf_counter()
    fit_gee(coded, "g")
    fit_robust(coded, "g")
    assert time.perf_counter() - start < 10
