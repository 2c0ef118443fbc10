"""Priors: the defaults of the contract, who overrides whom, and draws with the densities they are named after."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from psychostats.design import code
from psychostats.errors import PriorError
from psychostats.families import resolve_family
from psychostats.formula import parse_formula
from psychostats.priors import (
    Distribution,
    correlation_cholesky,
    default_priors,
    parse_prior,
    partial_correlation_shapes,
    resolve_priors,
)


def design(right, n=48):
    rng = np.random.default_rng(9)
    data = pd.DataFrame(
        {
            "y": rng.integers(0, 2, n),
            "depth": np.linspace(4.0, 0.0, n),
            "f": np.tile(["local", "distributed"], n // 2),
            "person": np.repeat(list("abcd"), n // 4),
            "pair": np.tile(["u", "u", "v", "v", "w", "w"], n // 6),
        }
    )
    return code(parse_formula(f"y ~ {right}"), data).design(data)


FULL = "f * depth + (1 + f | person) + (1 + depth | pair) + (1 || f:pair)"


def table(priors):
    return {prior.name: str(prior.distribution) for prior in priors}


def test_the_defaults_are_the_contracts():
    assert table(default_priors(design(FULL))) == {
        "b_Intercept": "normal(0, 1.5)",
        "b_flocal": "normal(0, 1)",
        "b_depth": "normal(0, 0.25)",
        "b_flocal:depth": "normal(0, 0.25)",
        "sd_person__Intercept": "exponential(2)",
        "sd_person__flocal": "exponential(2)",
        "sd_pair__Intercept": "exponential(2)",
        "sd_pair__depth": "exponential(2)",
        "sd_f:pair__Intercept": "exponential(2)",
        "cor_person": "lkj(2)",
        "cor_pair": "lkj(2)",
    }
    assert all(prior.source == "default" for prior in default_priors(design(FULL)))


@pytest.mark.parametrize("right", ["scale(depth)", "I(1000 * depth)", "poly(depth, 2)", "C(f, sum)", "0 + f + depth"])
def test_a_slope_spans_one_over_its_columns_range(right):
    made = design(right)
    for name, column, prior in zip(made.names, made.X.T, default_priors(made), strict=True):
        if name != "Intercept":
            assert prior.distribution.args == (0.0, pytest.approx(1 / np.ptp(column)))


def test_a_column_without_range_is_measured_by_its_size():
    made = design("0 + I(0 * depth + 5)")
    assert table(default_priors(made)) == {"b_I(0 * depth + 5)": "normal(0, 0.2)"}


def test_independent_and_single_effects_have_no_correlation():
    assert not [name for name in table(default_priors(design("1 + (f || person) + (1 | pair)"))) if "cor" in name]


def test_two_bars_of_one_group_share_its_prior_of_correlations():
    priors = default_priors(design("1 + (1 + f | person) + (0 + depth + I(depth^2) | person)"))
    assert [prior.name for prior in priors if prior.klass == "sd"] == [
        "sd_person__Intercept",
        "sd_person__flocal",
        "sd_person__depth",
        "sd_person__I(depth^2)",
    ]
    assert [prior.name for prior in priors if prior.klass == "cor"] == ["cor_person"]


def test_the_narrowest_override_wins_whatever_the_order():
    texts = [
        "sd_person__flocal ~ exponential(9)",
        "sd ~ normal(0, 1)",
        "sd_person ~ gamma(2, 4)",
        "b_depth ~ student_t(3, 0, 2.5)",
        "b ~ normal(0, 7)",
        "cor_pair ~ lkj(4)",
        "cor ~ lkj(1)",
    ]
    expected = {
        "b_Intercept": "normal(0, 1.5)",  # b is all but the intercept
        "b_flocal": "normal(0, 7)",
        "b_depth": "student_t(3, 0, 2.5)",
        "b_flocal:depth": "normal(0, 7)",
        "sd_person__Intercept": "gamma(2, 4)",
        "sd_person__flocal": "exponential(9)",
        "sd_pair__Intercept": "normal(0, 1)",
        "sd_pair__depth": "normal(0, 1)",
        "sd_f:pair__Intercept": "normal(0, 1)",
        "cor_person": "lkj(1)",
        "cor_pair": "lkj(4)",
    }
    for order in (texts, texts[::-1]):
        priors = resolve_priors(design(FULL), order)
        assert table(priors) == expected
        assert {prior.name: prior.source for prior in priors}["b_depth"] == "b_depth ~ student_t(3, 0, 2.5)"


def test_among_equals_the_last_wins():
    assert table(resolve_priors(design("1"), ["Intercept ~ normal(1, 1)", "b_Intercept ~ normal(2, 1)"])) == {
        "b_Intercept": "normal(2, 1)"
    }


def test_a_row_of_the_table_says_where_a_prior_comes_from():
    (prior,) = resolve_priors(design("1"), ["  Intercept   ~ normal( 0.5 ,2)"])
    assert prior.row() == {
        "class": "b",
        "group": None,
        "coef": "Intercept",
        "prior": "normal(0.5, 2)",
        "source": "Intercept ~ normal( 0.5 ,2)",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b_dept ~ normal(0, 1)", r"matches no parameter of the model \(did you mean 'b_depth'\?\)"),
        ("sd_who ~ exponential(1)", "matches no parameter"),
        ("lapse ~ normal(0, 1)", "matches no parameter"),
        ("b ~ exponential(1)", "exponential in .* cannot serve b; allowed there are normal, student_t, cauchy"),
        ("b_Intercept ~ lkj(2)", "cannot serve b_Intercept"),
        ("sd ~ lkj(2)", "allowed there are normal, student_t, cauchy, exponential, gamma"),
        ("cor ~ normal(0, 1)", "allowed there are lkj"),
        ("b ~ norml(0, 1)", r"'norml' .* is unknown \(did you mean 'normal'\?\)"),
        ("b ~ normal(0)", r"gives 1 arguments; normal takes \(mean, sd\)"),
        ("b ~ normal()", "gives 0 arguments"),
        ("b ~ normal(0, one)", "arguments of .* are no numbers"),
        ("b ~ normal(0, 0)", "the sd 0 .* must be finite and above 0"),
        ("b ~ normal(inf, 1)", "the mean inf .* must be finite"),
        ("sd ~ exponential(-1)", "the rate -1"),
        ("b ~ normal(0, inf)", "the sd inf .* must be finite and above 0"),
        ("b ~ normal(0, nan)", "the sd nan"),
        ("b = normal(0, 1)", "cannot be read; write for example"),
        ("normal(0, 1)", "cannot be read"),
        ("b ~ normal(0, 1) + 1", "cannot be read"),
    ],
)
def test_a_prior_that_cannot_be_used_is_bad_input(text, message):
    with pytest.raises(PriorError, match=message) as caught:
        resolve_priors(design(FULL), [text])
    assert caught.value.exit_code == 2


def test_a_target_may_hold_any_column_name():
    assert parse_prior("b_poly(x, 2)1:fé ~ normal(0, 1e-3)") == (
        "b_poly(x, 2)1:fé",
        Distribution("normal", (0.0, 1e-3)),
    )
    assert table(resolve_priors(design("poly(depth, 2)"), ["b_poly(depth, 2)2 ~ normal(0, 3)"]))[
        "b_poly(depth, 2)2"
    ] == ("normal(0, 3)")


LAWS = {
    "normal(1, 2)": stats.norm(1, 2),
    "student_t(3, 0, 2.5)": stats.t(3, 0, 2.5),
    "cauchy(-1, 2)": stats.cauchy(-1, 2),
    "exponential(2)": stats.expon(scale=0.5),
    "gamma(2, 4)": stats.gamma(2, scale=0.25),
}


@pytest.mark.parametrize("text", LAWS)
@pytest.mark.parametrize("positive", [False, True])
def test_draws_follow_the_named_law(text, positive):
    _, distribution = parse_prior(f"sd ~ {text}")
    law = LAWS[text]
    below = law.cdf(0.0) if positive else 0.0
    low = 0.0 if positive else -np.inf
    draws = distribution.draw(np.random.default_rng(3), 5000, low=low)
    assert stats.kstest(draws, lambda x: (law.cdf(x) - below) / (1 - below)).pvalue > 1e-3
    assert not positive or draws.min() >= 0
    np.testing.assert_array_equal(draws, distribution.draw(np.random.default_rng(3), 5000, low=low))


def test_a_half_distribution_far_below_zero_still_draws():
    draws = Distribution("normal", (-12.0, 1.0)).draw(np.random.default_rng(1), 1000, low=0.0)
    assert np.isfinite(draws).all()
    assert 0 <= draws.min() < draws.max() < 1


def test_a_lapse_rate_has_a_prior_where_it_is_estimated():
    family = resolve_family("afc", lapse="estimate")
    assert table(resolve_priors(design("1"), [], family))["lapse"] == "beta(1, 10)"
    assert table(resolve_priors(design("1"), ["lapse ~ uniform(0, 0.1)"], family))["lapse"] == "uniform(0, 0.1)"
    for text, message in {
        "lapse ~ uniform(0, 1.2)": "reaches outside 0 to 0.5, where the lapse rate lies",
        "lapse ~ uniform(-0.1, 0.2)": "reaches outside 0 to 0.5",
        "lapse ~ uniform(0.3, 0.2)": "its low end comes first",
        "lapse ~ normal(0, 1)": "normal .* cannot serve lapse; allowed there are beta, uniform",
        "lapse ~ beta(0, 1)": "the a 0 .* must be finite and above 0",
        "b_Intercept ~ beta(1, 1)": "beta .* cannot serve b_Intercept",
    }.items():
        with pytest.raises(PriorError, match=message):
            resolve_priors(design("1"), [text], family)
    (prior,) = [prior for prior in default_priors(design("1"), family) if prior.klass == "lapse"]
    law = stats.beta(1, 10)
    draws = prior.draw(np.random.default_rng(2), 5000)
    assert 0 < draws.min() < draws.max() < 0.5
    assert stats.kstest(draws, lambda x: law.cdf(x) / law.cdf(0.5)).pvalue > 1e-3


def test_the_scale_is_the_median_above_zero():
    assert Distribution("normal", (0.0, 2.0)).scale() == pytest.approx(stats.halfnorm(scale=2).median())
    assert Distribution("cauchy", (0.0, 2.0)).scale() == pytest.approx(2.0)
    assert Distribution("exponential", (2.0,)).scale() == pytest.approx(np.log(2) / 2)
    assert Distribution("gamma", (2.0, 4.0)).scale() == pytest.approx(stats.gamma(2, scale=0.25).median())
    for law in (Distribution("student_t", (3.0, 0.5, 2.0)), Distribution("cauchy", (-1.0, 0.3))):
        frozen = law.frozen()
        assert law.scale() == pytest.approx(frozen.isf(0.5 * frozen.sf(0.0)))
    assert Distribution("normal", (1.0, 2.0)).scale() == pytest.approx(stats.truncnorm(-0.5, np.inf, 1, 2).median())


def correlations(q, eta, n=4000):
    shapes = partial_correlation_shapes(q, eta)
    partial = 2 * np.random.default_rng(q).beta(shapes, shapes, size=(n, len(shapes))) - 1
    return correlation_cholesky(partial)


@pytest.mark.parametrize("q", [2, 3, 4])
@pytest.mark.parametrize("eta", [0.7, 1.0, 2.0, 5.0])
def test_every_correlation_has_the_lkj_marginal(q, eta):
    """Each correlation is Beta(a, a) on (-1, 1), a = eta - 1 + q/2 (Lewandowski, Kurowicka and Joe 2009)."""
    L = correlations(q, eta)
    R = L @ np.swapaxes(L, -1, -2)
    law = stats.beta(eta - 1 + q / 2, eta - 1 + q / 2, loc=-1, scale=2)
    for j in range(q):
        for k in range(j):
            assert stats.kstest(R[:, j, k], law.cdf).pvalue > 1e-3


def test_the_density_is_a_power_of_the_determinant():
    """LKJ(eta) over LKJ(1) is det R ^ (eta - 1): weighted by it, draws of the flat law have the other's moments."""
    flat, tight = correlations(3, 1.0, 100_000), correlations(3, 3.0, 100_000)
    weight = np.prod(np.diagonal(flat, axis1=1, axis2=2), axis=1) ** 4  # det R = prod(diag L)^2
    R, S = flat @ np.swapaxes(flat, 1, 2), tight @ np.swapaxes(tight, 1, 2)
    for f in (lambda m: m[:, 1, 0] ** 2, lambda m: m[:, 1, 0] * m[:, 2, 0] * m[:, 2, 1], lambda m: np.linalg.det(m)):
        assert np.average(f(R), weights=weight) == pytest.approx(f(S).mean(), abs=0.004)


def test_correlation_matrices_are_ones():
    L = correlations(4, 2.0)
    np.testing.assert_array_equal(np.triu(L, 1), 0)
    assert (np.diagonal(L, axis1=1, axis2=2) > 0).all()
    R = L @ np.swapaxes(L, -1, -2)
    np.testing.assert_allclose(np.diagonal(R, axis1=1, axis2=2), 1.0, atol=1e-12)
    assert np.linalg.eigvalsh(R).min() > 0


def test_a_cholesky_factor_by_hand():
    # Partial correlations r21, r31 and r32 given 1.
    L = correlation_cholesky(np.array([0.6, 0.5, -0.4]))
    third = -0.4 * np.sqrt(1 - 0.25)
    np.testing.assert_allclose(L, [[1, 0, 0], [0.6, 0.8, 0], [0.5, third, np.sqrt(0.75 * (1 - 0.16))]])
    np.testing.assert_array_equal(correlation_cholesky(np.empty((2, 0))), np.ones((2, 1, 1)))


def test_a_prior_on_an_sd_without_weight_above_zero_is_refused():
    with pytest.raises(PriorError, match="no weight above 0, where an sd lies"):
        resolve_priors(design("1 + (1 | person)"), ["sd ~ normal(-1e9, 1)"])
