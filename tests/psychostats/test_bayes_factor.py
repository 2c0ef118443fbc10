"""Savage-Dickey: conjugate posteriors, marginal likelihoods by integration, refits with other priors, and its words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from studies import known_fit

import psychostats as ps
from psychostats.bayes_factor import _KNOTS, BAYES_FACTOR_COLUMNS, SCALES, _bound, _change, _error, log_density
from psychostats.errors import InputError
from psychostats.fit import Fit
from psychostats.priors import Distribution
from psychostats.sentences import factor

SHORT = {"draws": 2000, "tune": 500, "chains": 2, "progress": False}
UNIT = Distribution("normal", (0.0, 1.0))


def trials(effect: float, n: int = 160, seed: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = np.tile([-0.5, 0.5], n // 2)
    return pd.DataFrame({"x": x, "correct": rng.binomial(1, special.expit(0.4 + effect * x))})


def exact(data: pd.DataFrame, law: Any) -> float:
    """Return BF01 of x by integration of both marginal likelihoods; the intercept's prior is normal(0, 1.5)."""
    a, b = np.linspace(-4, 4, 401), np.linspace(-12, 12, 2401)

    def likelihood(a: Any, b: Any) -> Any:
        total = 0.0
        for x, part in data.groupby("x")["correct"]:
            eta = a + b * x
            total = total + part.sum() * special.log_expit(eta) + (len(part) - part.sum()) * special.log_expit(-eta)
        return total

    of_a = stats.norm.logpdf(a, 0, 1.5)
    null = special.logsumexp(likelihood(a, 0.0) + of_a) + np.log(a[1] - a[0])
    both = likelihood(a[:, np.newaxis], b) + of_a[:, np.newaxis] + law.logpdf(b)
    return float(np.exp(null - special.logsumexp(both) - np.log((a[1] - a[0]) * (b[1] - b[0]))))


# -- The density -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "near"),
    [(stats.norm(2, 3), 0.08), (stats.gamma(40), 0.2), (stats.t(20), 0.2), (stats.skewnorm(4), 0.3)],
    ids=["normal", "gamma", "t", "skew"],
)
def test_the_density_of_even_draws_is_the_laws_own(law: Any, near: float) -> None:
    draws = law.ppf((np.arange(4000) + 0.5) / 4000)
    for q in (0.001, 0.02, 0.3, 0.5, 0.9, 0.999):
        assert log_density(draws, law.ppf(q)) == pytest.approx(law.logpdf(law.ppf(q)), abs=near)
    # Nothing depends on where the draws lie, how they are scaled or mirrored.
    at = law.ppf(0.05)
    assert log_density(10 * draws + 3, 10 * at + 3) == pytest.approx(log_density(draws, at) - np.log(10), abs=1e-6)
    assert log_density(-draws, -at) == pytest.approx(log_density(draws, at), abs=1e-4)
    assert _KNOTS[0] == 0 and _KNOTS[-1] == 1  # no draw lies where the spline has no shape


# -- Known truth -------------------------------------------------------------------------------------------------------


def conjugate(mean: float, sd: float, prior_sd: float) -> float:
    """Return BF01 where the posterior is normal(mean, sd) under a normal(0, 1) prior, for another prior's SD."""
    precision = 1 / sd**2 - 1
    estimate, error = mean / sd**2 / precision, precision**-0.5
    return float(stats.norm.pdf(0, estimate, error) / stats.norm.pdf(0, estimate, np.hypot(error, prior_sd)))


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 0.3), (0.6, 0.3), (0.3, 0.7), (-0.75, 0.3)])
def test_a_conjugate_posterior_gives_the_exact_factor_for_every_scale(mean: float, sd: float) -> None:
    """Normal data of known error: the posterior is normal, and so is every marginal likelihood."""
    data = trials(0.0).assign(x=lambda frame: 2 * frame["x"])  # prior of x: normal(0, 1 / range), here given
    rng = np.random.default_rng(1)
    b = {"Intercept": rng.normal(size=8000), "x": mean + sd * rng.standard_normal(8000)}
    fit = known_fit("correct ~ x", data, b, draws=8000, priors=["b_x ~ normal(0, 1)"])
    table = ps.bayes_factor(fit, "b_x")
    assert table.columns.tolist() == list(BAYES_FACTOR_COLUMNS) and table["scale"].tolist() == list(SCALES)
    assert table["prior"].tolist() == ["normal(0, 0.5)", "normal(0, 1)", "normal(0, 2)"]
    for row, scale in zip(table.to_dict("records"), SCALES.values(), strict=True):
        gap = np.log(row["bf01"] / conjugate(mean, sd, scale))
        assert abs(gap) < 4 * row["mc_error"] + 0.01 and row["mc_error"] < 0.15
        assert row["bf10"] == pytest.approx(1 / row["bf01"]) and row["note"] == ""
        assert row["bf01_normal"] == pytest.approx(conjugate(mean, sd, scale), rel=0.15)  # normal draws, here
    assert np.isnan(table["pareto_k"][1]) and (table["pareto_k"].drop(1) < 0.7).all()


def test_the_monte_carlo_error_is_how_much_it_varies() -> None:
    rng = np.random.default_rng(3)
    wide = Distribution("normal", (0.0, 2.0))
    found, errors = [], []
    for _ in range(40):
        noise = rng.standard_normal((2, 1000))
        for t in range(1, 1000):  # draws that remember: an autocorrelation of 0.5
            noise[:, t] = 0.5 * noise[:, t - 1] + np.sqrt(0.75) * noise[:, t]
        draws = 0.5 + 0.3 * noise
        found.append(log_density(draws.ravel(), 0.0) - _change(draws, UNIT, wide)[0])
        errors.append(_error(draws, UNIT, wide))
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.35)


@pytest.mark.parametrize("effect", [0.0, 0.9], ids=["null", "effect"])
def test_sampled_it_is_the_ratio_of_marginal_likelihoods(effect: float) -> None:
    data = trials(effect)
    table = ps.bayes_factor(ps.fit("correct ~ x", data, **SHORT), "b_x")
    truth = [exact(data, stats.norm(0, scale)) for scale in SCALES.values()]
    gap = np.log(table["bf01"] / truth)
    assert (gap.abs() < 4 * table["mc_error"] + 0.02).all()
    if effect == 0:  # the null is favoured, the more the wider the prior
        assert table["bf01"].is_monotonic_increasing and table["bf01"][1] > 2
        assert "times as likely with b_x = 0 as with its prior normal(0, 1)" in table.attrs["notes"][0]
    else:
        assert table["bf01"][1] < 0.5
        assert "times as likely with the prior normal(0, 1) of b_x as with b_x = 0" in table.attrs["notes"][0]


@pytest.mark.parametrize(
    ("prior", "law"),
    [
        ("student_t(3, 0, 0.5)", lambda scale: stats.t(3, 0, 0.5 * scale)),
        ("cauchy(0, 0.7)", lambda scale: stats.cauchy(0, 0.7 * scale)),
        ("normal(0.5, 0.6)", lambda scale: stats.norm(0.5, 0.6 * scale)),
    ],
)
def test_other_priors_are_scaled_about_their_own_centre(prior: str, law: Any) -> None:
    data = trials(0.3, n=80)
    table = ps.bayes_factor(ps.fit("correct ~ x", data, priors=[f"b_x ~ {prior}"], **SHORT), "b_x")
    truth = np.array([exact(data, law(scale)) for scale in SCALES.values()])
    assert (np.log(table["bf01"] / truth).abs() < 4 * table["mc_error"] + 0.02).all()


# -- Where it cannot be known ------------------------------------------------------------------------------------------


def test_beyond_all_draws_there_is_only_a_bound() -> None:
    data = trials(0.0)
    b = {"Intercept": 0.0, "x": stats.norm(3.0, 0.4).ppf((np.arange(4000) + 0.5) / 4000)}
    b["x"] = np.random.default_rng(2).permutation(b["x"])
    table = ps.bayes_factor(known_fit("correct ~ x", data, b, draws=4000), "b_x")
    # With half the scale the posterior would lie where there are hardly any draws, which is said too.
    assert table["note"].tolist() == ["upper bound, unreliable", "upper bound", "upper bound"]
    assert table["mc_error"].isna().all()
    truth = [conjugate(3.0, 0.4, scale) for scale in SCALES.values()]
    assert (table["bf01"] > truth)[1:].all() and (table["bf01"] < 0.05)[1:].all()
    first, second, third = table.attrs["notes"]
    assert first.startswith(f"The data are at least {factor(table['bf10'][1])} times as likely with the prior")
    assert "only a bound can be given" in first and "at most" in second
    assert third.startswith("Not to be relied on with the scale halved")
    # Where the density does not fall at all, the bound holds as often as it says: a uniform one is 1 at its edge.
    rng = np.random.default_rng(4)
    edge = [_bound(rng.uniform(0.0, 1.0, (2, 200)), 400.0) >= 0.0 for _ in range(400)]
    assert np.mean(edge) == pytest.approx(0.95, abs=0.04)


def test_weights_that_fail_are_named() -> None:
    """A posterior wider than what its prior allows: twice the scale asks for draws that are not there."""
    x = np.random.default_rng(5).standard_t(2, 4000)
    fit = known_fit("correct ~ x", trials(0.0), {"Intercept": 0.0, "x": x}, draws=4000, priors=["b_x ~ normal(0, 0.8)"])
    table = ps.bayes_factor(fit, "b_x")
    assert table["note"].tolist()[2] == "unreliable" and table["pareto_k"][2] > 0.7
    assert "Not to be relied on with the scale doubled (Pareto's k" in table.attrs["notes"][-1]


# -- Words -------------------------------------------------------------------------------------------------------------


def test_it_is_never_said_without_the_width_of_the_prior() -> None:
    b = {"Intercept": 0.0, "x": np.random.default_rng(1).normal(0.2, 0.3, 4000)}
    table = ps.bayes_factor(known_fit("correct ~ x", trials(0.0), b, draws=4000), "b_x")
    sentence = table.attrs["notes"][1]
    for row in (0, 2):
        assert factor(table["bf01"][row]) in sentence
    assert "That depends on the prior's width" in sentence and "the headline is the estimate" in sentence


def test_an_effect_that_changes_is_said_to_be_that_where_the_other_predictor_is_zero() -> None:
    data = trials(0.0).assign(w=lambda frame: np.arange(len(frame)) % 7 / 6)
    b = {name: np.random.default_rng(1).normal(0.2, 0.3, 4000) for name in ("Intercept", "x", "w", "x:w")}
    fit = known_fit("correct ~ x * w", data, b, draws=4000)
    assert ps.bayes_factor(fit, "b_x").attrs["notes"][2] == (
        "b_x is the effect where what it is multiplied with (b_x:w) is 0."
    )
    assert len(ps.bayes_factor(fit, "b_x:w").attrs["notes"]) == 2


@pytest.mark.parametrize(
    ("value", "text"), [(3.2, "3.20"), (0.04167, "0.0417"), (1250.4, "1,250"), (2e-7, "2.0e−07"), (3.1e8, "3.1e+08")]
)
def test_factors_have_three_digits(value: float, text: str) -> None:
    assert factor(value) == text


def test_effects_that_do_not_stand_in_the_fixed_part_have_one_too() -> None:
    """A mean step and an effect on disc, as the coefficient with the same draws and prior; a threshold has none."""
    rng = np.random.default_rng(7)
    x = rng.normal(0.2, 0.3, 4000)
    data = trials(0.0).assign(
        level=lambda frame: pd.Categorical(np.resize(["low", "mid", "high"], len(frame)), ["low", "mid", "high"]),
        rating=lambda frame: np.resize([1, 2, 3], len(frame)),
    )
    law = {"draws": 4000, "priors": ["b_x ~ normal(0, 1)"]}
    expected = ps.bayes_factor(known_fit("correct ~ x", data, {"Intercept": 0.0, "x": x}, **law), "b_x")["bf01"]
    steps = known_fit(
        "correct ~ mo(level)",
        data,
        {"Intercept": 0.0, "bsp_molevel": x},
        draws=4000,
        priors=["bsp_molevel ~ normal(0, 1)"],
        simo={"simo_molevel1": [0.5, 0.5]},
    )
    np.testing.assert_allclose(ps.bayes_factor(steps, "bsp_molevel")["bf01"], expected)
    own = {"thresholds": [-1.0, 1.0], "disc": x[:, np.newaxis]}
    spread = known_fit("rating ~ x", data, {"x": 0.1}, own=own, family="cumulative", disc="x", draws=4000)
    prior = spread.priors[-1]
    assert prior.name == "b_disc_x" and str(prior.distribution) == "normal(0, 1)"
    np.testing.assert_allclose(ps.bayes_factor(spread, "b_disc_x")["bf01"], expected)
    with pytest.raises(InputError, match=r"'b_Intercept\[1\]' is no fixed effect"):
        ps.bayes_factor(spread, "b_Intercept[1]")


def test_what_has_none_is_refused() -> None:
    data = trials(0.0).assign(g=lambda frame: [f"g{i % 8}" for i in range(len(frame))])
    fit = known_fit("correct ~ x + (1 | g)", data, {"Intercept": 0.0, "x": 0.1}, noise=0.1)
    with pytest.raises(
        InputError, match=r"^'b_y' is no fixed effect .*\(did you mean 'b_x'\?\); .* b_Intercept, b_x\.$"
    ):
        ps.bayes_factor(fit, "b_y")
    with pytest.raises(InputError, match="'sd_g__Intercept' is no fixed effect"):
        ps.bayes_factor(fit, "sd_g__Intercept")
    with pytest.raises(InputError, match="a maximum of the likelihood has no prior"):
        ps.bayes_factor(ps.fit("correct ~ x", data, engine="laplace"), "b_x")


def test_the_command_prints_the_table_and_its_sentences(tmp_path, run) -> None:
    made: Fit = ps.fit("correct ~ x", trials(0.5), out=tmp_path / "fit", **SHORT)
    shown = run("summary", tmp_path / "fit", "--bayes-factor", "b_x")
    assert "That depends on the prior's width" in shown.out and "Savage-Dickey" in shown.out
    assert shown.out.splitlines()[0].split() == ["prior's", "scale", *BAYES_FACTOR_COLUMNS[2:-1]]
    found = run("summary", tmp_path / "fit", "--bayes-factor", "b_x", "--json").data
    table = ps.bayes_factor(made, "b_x")
    assert [row["bf01"] for row in found["rows"]] == table["bf01"].tolist()
    assert found["rows"][1]["pareto_k"] is None and found["notes"] == table.attrs["notes"]
    refused = run("summary", tmp_path / "fit", "--bayes-factor", "x")
    assert refused.code == 2 and "can be had of b_Intercept, b_x." in refused.err
