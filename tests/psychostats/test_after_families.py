"""What follows from fits of ratings, times, scores and monotonic effects, where the draws are known: closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special, stats
from studies import known_fit

import psychostats as ps
from psychostats.checks import draw_priors, predictive_accuracy
from psychostats.loo import loo, own_levels, unit_codes, unit_densities
from psychostats.sensitivity import log_likelihood, log_prior

TAU = [-1.0, 0.2, 1.5]
SD, SIGMA, NDT = 0.6, 0.5, 0.2
OWN = {
    "gaussian": {"sigma": SIGMA},
    "lognormal": {"sigma": SIGMA},
    "shifted_lognormal": {"sigma": SIGMA, "ndt": NDT},
    "cumulative": {"thresholds": TAU},
}
RESPONSE = {"gaussian": "score", "lognormal": "rt", "shifted_lognormal": "rt", "cumulative": "confidence"}
B = {"Intercept": 0.4, "x": -0.7}


def trials(people=6, each=10):
    rng = np.random.default_rng(8)
    n = people * each
    x = rng.uniform(-1, 1, n)
    return pd.DataFrame(
        {
            "participant": np.repeat([f"p{i}" for i in range(people)], each),
            "x": x,
            "score": rng.normal(size=n),
            "rt": 0.25 + rng.lognormal(0, 0.5, n),
            "confidence": np.r_[1, 2, 3, 4, rng.integers(1, 5, n - 4)],
            "level": pd.Categorical(np.resize(["low", "mid", "high"], n), ["low", "mid", "high"]),
            "correct": rng.integers(0, 2, n),
        }
    )


def fitted(family, **words):
    b = {name: value for name, value in B.items() if name != "Intercept" or family != "cumulative"}
    r = np.linspace(-1, 1, 6)[:, np.newaxis] * SD
    return known_fit(
        f"{RESPONSE[family]} ~ x + (1 | participant)",
        trials(),
        b,
        sd={"participant": [SD]},
        r={"participant": r},
        own=OWN[family],
        family=family,
        draws=8,
        **words,
    )


def law(family, eta):
    """Return SciPy's law of a response."""
    if family == "gaussian":
        return stats.norm(eta, SIGMA)
    if family == "cumulative":
        below = special.expit(np.r_[-np.inf, TAU, np.inf] - eta)
        return stats.rv_discrete(values=(np.arange(1, 5), np.diff(below)))
    return stats.lognorm(SIGMA, loc=NDT if family == "shifted_lognormal" else 0.0, scale=np.exp(eta))


def log_density(family, y, eta):
    law_ = law(family, eta)
    return law_.logpmf(y) if family == "cumulative" else law_.logpdf(y)


every = pytest.mark.parametrize("family", list(OWN))


@every
def test_leaving_out_a_trial_and_the_likelihood_are_scipys(family):
    fit = fitted(family)
    frame = fit.data
    intercept = 0.0 if family == "cumulative" else B["Intercept"]
    own = dict(zip(sorted(frame["participant"].unique()), np.linspace(-1, 1, 6) * SD, strict=True))
    eta = intercept + B["x"] * frame["x"] + frame["participant"].map(own)
    expected = [log_density(family, y, e) for y, e in zip(frame[RESPONSE[family]], eta, strict=True)]
    np.testing.assert_allclose(log_likelihood(fit), sum(expected), rtol=1e-9)
    # The draws are all alike, so that every weight is the same and leaving a trial out changes nothing.
    np.testing.assert_allclose(loo(fit).elpd_i, expected, rtol=1e-9)


@every
def test_leaving_out_a_participant_integrates_their_effect(family):
    fit = fitted(family)
    names, code = unit_codes(fit, "participant")
    own = [own_levels(block, code) for block in fit.design.blocks]
    parameters = fit.parameters()
    found = np.array([one[0] for one, _ in unit_densities(fit.design, fit.spec.family, code, own, parameters)])
    intercept = 0.0 if family == "cumulative" else B["Intercept"]
    for place, name in enumerate(names):
        rows = fit.data[fit.data["participant"] == name]
        y, eta = rows[RESPONSE[family]].to_numpy(), intercept + B["x"] * rows["x"].to_numpy()
        if family == "gaussian":
            covariance = SIGMA**2 * np.eye(len(y)) + SD**2
            exact = stats.multivariate_normal(eta, covariance).logpdf(y)
        else:

            def joint(v, y=y, eta=eta):
                total = sum(log_density(family, one, at + v) for one, at in zip(y, eta, strict=True))
                return np.exp(total + 20.0) * stats.norm.pdf(v, 0, SD)

            exact = np.log(integrate.quad(joint, -6, 6, epsabs=0, epsrel=1e-9, limit=200)[0]) - 20.0
        assert found[place] == pytest.approx(exact, abs=2e-4)


@every
def test_effects_are_of_the_mean_typical_and_in_the_population(family):
    fit = fitted(family)
    means = ps.marginal_means(fit, "x", by=None)
    at = 1.0 * fit.data["x"].max()
    row = ps.predictions(fit, pd.DataFrame({"x": [at]}), target="typical")["estimate"].iloc[0]
    eta = (0.0 if family == "cumulative" else B["Intercept"]) + B["x"] * at
    assert row == pytest.approx(law(family, eta).mean(), rel=1e-9)
    population = ps.predictions(fit, pd.DataFrame({"x": [at]}), target="population")["estimate"].iloc[0]
    average = integrate.quad(lambda v: law(family, eta + v).mean() * stats.norm.pdf(v, 0, SD), -6, 6)[0]
    assert population == pytest.approx(average, rel=1e-6)
    assert set(means["scale"]) == {"response"}
    contrast = ps.contrasts(fit, "x")
    assert set(contrast["scale"]) == {"difference"}  # no odds, and no region of equivalence, of such a mean
    assert contrast["rope_low"].isna().all()


@every
def test_replicates_shares_of_variance_and_priors_know_the_family(family):
    fit = fitted(family)
    found = predictive_accuracy(fit, fit.data[["participant"]], draws=8)
    observed = fit.data.groupby("participant")[RESPONSE[family]].mean().to_numpy()
    np.testing.assert_allclose(found["observed"], observed, rtol=1e-12)
    shares = ps.variance_shares(fit).set_index(["quantity", "group"])["estimate"]
    residual = np.pi**2 / 3 if family == "cumulative" else SIGMA**2
    assert shares["icc", "participant"] == pytest.approx(SD**2 / (SD**2 + residual))
    drawn = draw_priors(np.random.default_rng(2), fit.priors, fit.design.coefficients, fit.design.blocks, 300)
    assert set(drawn.family) == set(fit.spec.family.estimated)
    if family == "cumulative":
        assert (np.diff(drawn.family["thresholds"], axis=1) > 0).all()
    flat = fit.draws_table.flat()
    expected = sum(
        prior.distribution.log_density(flat[prior.name].to_numpy()) for prior in fit.priors if prior.klass != "cor"
    )
    np.testing.assert_allclose(log_prior(fit, flat), expected)


def test_a_monotonic_effect_moves_as_brms_defines_it():
    shares = [0.25, 0.75]
    fit = known_fit(
        "correct ~ x * mo(level)",
        trials(),
        {"Intercept": 0.3, "x": 0.5, "bsp_molevel": 0.4, "bsp_molevel:x": -0.2},
        simo={"simo_molevel1": shares, "simo_molevel:x1": [0.5, 0.5]},
        draws=8,
    )
    drawn = draw_priors(np.random.default_rng(3), fit.priors, fit.design.names, (), 4000)
    whole = drawn.b[:, [2, 3]]  # the steps of mo(level): both one way, and together the mean step's law times two
    assert (np.sign(whole[:, 0]) == np.sign(whole[:, 1])).all()
    assert stats.kstest(whole.sum(axis=1), stats.norm(0, 1).cdf).pvalue > 1e-3
    assert stats.kstest(whole[:, 0] / whole.sum(axis=1), stats.uniform.cdf).pvalue > 1e-3
    table = fit.terms().set_index("term")["estimate"]
    assert table["bsp_molevel"] == pytest.approx(0.4) and table["simo_molevel1[2]"] == pytest.approx(0.75)
    grid = pd.DataFrame({"x": [0.5] * 3, "level": ["low", "mid", "high"]})
    found = ps.predictions(fit, grid, scale="link")["estimate"]
    steps = np.array([0.0, 2 * 0.25, 2 * (0.25 + 0.75)])
    halves = np.array([0.0, 1.0, 2.0])
    np.testing.assert_allclose(found, 0.3 + 0.5 * 0.5 + 0.4 * steps - 0.2 * halves * 0.5)
    drop = ps.contrasts(fit, "level", scale="link", by={"x": [0.0]})
    assert drop.loc[drop["contrast"] == "high - low", "estimate"].iloc[0] == pytest.approx(0.4 * 2)
    np.testing.assert_allclose(
        log_prior(fit, fit.draws_table.flat()),
        sum(
            prior.distribution.log_density(fit.draws_table.flat()[prior.name].to_numpy())
            for prior in fit.priors
            if prior.klass == "b"
        ),
    )
