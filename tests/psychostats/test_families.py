"""Families against SciPy, numeric derivatives and lme4's likelihood, up to the edges of the psychometric function."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from psychostats.answers import Answers, psychometric
from psychostats.design import code
from psychostats.errors import InputError
from psychostats.families import FAMILIES, LINKS, resolve_family
from psychostats.formula import parse_formula

ETA = np.concatenate([np.linspace(-40, 40, 33), [-1e-9, 0.3]])
EVERY = [
    Answers("afc" if guess else "bernoulli", link, guess, lapse)
    for link, (guess, lapse) in itertools.product(
        LINKS, [(0, 0), (0, 0.02), (0.5, 0), (0.5, 0.02), (0.25, 0.1), (1 / 3, 0.0)]
    )
]
LAWS = {"logit": stats.logistic(), "probit": stats.norm()}
IDS = [family.describe() for family in EVERY]


@pytest.mark.parametrize("family", EVERY, ids=IDS)
def test_the_mean_runs_from_guess_to_one_minus_lapse(family):
    law = LAWS[family.link]
    expected = family.guess + (1 - family.guess - family.lapse) * law.cdf(ETA)
    np.testing.assert_allclose(family.mean(ETA), expected, rtol=1e-14)
    assert family.mean(-800.0) == family.guess
    assert family.mean(800.0) == pytest.approx(1 - family.lapse, abs=1e-16)
    assert family.mean(800.0) <= 1
    assert family.mean(0.0) == pytest.approx((1 + family.guess - family.lapse) / 2)


@pytest.mark.parametrize("family", EVERY, ids=IDS)
def test_a_wrong_answer_is_what_a_right_one_leaves(family):
    np.testing.assert_allclose(family.miss(ETA), 1 - family.mean(ETA), atol=1e-15)
    tail = family.lapse + family.span * LAWS[family.link].sf(ETA)  # with its digits where the mean rounds to 1
    np.testing.assert_allclose(family.miss(ETA), tail, rtol=1e-12)


@pytest.mark.parametrize("family", EVERY, ids=IDS)
def test_the_slope_is_the_means_derivative(family):
    eta = np.linspace(-6, 6, 25)
    step = 1e-5
    numeric = (family.mean(eta + step) - family.mean(eta - step)) / (2 * step)
    np.testing.assert_allclose(family.slope(eta), numeric, atol=1e-10)
    # Far out a difference of means is all rounding, but SciPy's density is not.
    np.testing.assert_allclose(family.slope(ETA), family.span * LAWS[family.link].pdf(ETA), rtol=1e-12)


@pytest.mark.parametrize("family", EVERY, ids=IDS)
def test_the_linear_predictor_undoes_the_mean(family):
    eta = np.linspace(-6, 6, 25)
    np.testing.assert_allclose(family.linear_predictor(family.mean(eta)), eta, atol=1e-6)
    upper = 1 - family.lapse
    beyond = family.linear_predictor([family.guess, family.guess - 0.1, upper, upper + 0.01])
    assert beyond.tolist() == [-np.inf, -np.inf, np.inf, np.inf]


@settings(max_examples=200)
@given(st.integers(0, 900), st.integers(0, 99))
def test_the_asymptotes_are_infinitely_far_for_any_rates(guess, lapse):
    family = Answers("afc", guess=guess / 1000, lapse=lapse / 1000)
    assert family.linear_predictor(family.guess) == -np.inf
    assert family.linear_predictor(1 - family.lapse) == np.inf
    assert 0 <= family.mean(-50.0) <= family.mean(50.0) <= 1


@pytest.mark.parametrize("family", EVERY, ids=IDS)
def test_the_log_density_is_scipys(family):
    # Where 1 - p keeps its digits SciPy's own formula is the reference.
    eta = np.linspace(-5, 5, 21)
    for successes in (0.0, 1.0):
        np.testing.assert_allclose(
            family.log_density(successes, 1.0, eta), stats.bernoulli.logpmf(successes, family.mean(eta)), rtol=1e-9
        )
    successes, trials = np.arange(8.0)[:, np.newaxis], 7.0
    np.testing.assert_allclose(
        family.log_density(successes, trials, eta) + np.log(special.comb(trials, successes)),
        stats.binom.logpmf(successes, trials, family.mean(eta)),
        rtol=1e-9,
    )


@pytest.mark.parametrize("family", EVERY, ids=IDS)
def test_the_log_density_keeps_its_digits_at_the_edges(family):
    law = LAWS[family.link]
    eta = np.linspace(-30, 30, 31)

    def logs(floor, tail):  # log(floor + span F), from SciPy's log of F
        return np.logaddexp(np.log(floor), np.log(family.span) + tail) if floor else np.log(family.span) + tail

    np.testing.assert_allclose(
        family.log_density(1.0, 1.0, eta), logs(family.guess, law.logcdf(eta)), rtol=1e-10, atol=2e-16
    )
    np.testing.assert_allclose(
        family.log_density(0.0, 1.0, eta), logs(family.lapse, law.logsf(eta)), rtol=1e-10, atol=2e-16
    )
    assert np.isfinite(family.log_density(1.0, 2.0, np.array([-1e4, -40.0, 40.0, 1e4]))).all()


@pytest.mark.parametrize("family", EVERY, ids=IDS)
def test_one_answer_or_the_other(family):
    both = np.exp(family.log_density(1.0, 1.0, ETA)) + np.exp(family.log_density(0.0, 1.0, ETA))
    np.testing.assert_allclose(both, 1.0, rtol=1e-13)


@pytest.mark.parametrize("family", EVERY, ids=IDS)
def test_the_score_is_the_log_densitys_derivative(family):
    eta, step = np.linspace(-4, 4, 17), 1e-6
    for successes, trials in [(0.0, 1.0), (1.0, 1.0), (3.0, 7.0)]:
        numeric = (
            family.log_density(successes, trials, eta + step) - family.log_density(successes, trials, eta - step)
        ) / (2 * step)
        p = family.mean(eta)
        np.testing.assert_allclose(
            numeric, family.slope(eta) * (successes / p - (trials - successes) / (1 - p)), rtol=1e-5, atol=1e-7
        )


def test_trials_one_by_one_or_counted_are_one_likelihood():
    family = resolve_family("afc", lapse=0.03)
    rng = np.random.default_rng(2)
    eta = rng.normal(1, 2, 9)
    trials = rng.integers(1, 12, 9)
    answers = [rng.integers(0, 2, n) for n in trials]
    apart = sum(family.log_density(y, 1.0, e).sum() for y, e in zip(answers, eta, strict=True))
    counted = family.log_density(np.array([y.sum() for y in answers]), trials, eta).sum()
    assert apart == pytest.approx(counted, rel=1e-13)


@pytest.mark.parametrize("link", LINKS)
def test_without_guessing_forced_choice_is_plain(link):
    plain, forced = Answers("bernoulli", link), resolve_family("afc", link=link, guess=0.0)
    np.testing.assert_array_equal(forced.mean(ETA), plain.mean(ETA))
    np.testing.assert_array_equal(forced.slope(ETA), plain.slope(ETA))
    np.testing.assert_array_equal(forced.log_density(1.0, 2.0, ETA), plain.log_density(1.0, 2.0, ETA))
    assert not forced.has_asymptotes


def test_two_alternatives_by_hand():
    family = resolve_family("afc")
    np.testing.assert_allclose(family.mean([0.0, np.log(3.0), -np.log(3.0)]), [0.75, 0.875, 0.625])
    assert family.has_asymptotes
    assert family.log_density(1.0, 1.0, 0.0) == pytest.approx(np.log(0.75))
    assert family.log_density(0.0, 1.0, 0.0) == pytest.approx(np.log(0.25))
    assert psychometric(0.5, 0.5, 0.02) == pytest.approx(0.74)


@pytest.mark.parametrize("family", EVERY, ids=IDS)
def test_draws_have_the_families_law(family):
    eta = np.array([-2.0, 0.0, 1.5])
    draws = family.draw(np.random.default_rng(4), np.full((20_000, 1), 5), eta)
    assert draws.shape == (20_000, 3)
    for j, p in enumerate(family.mean(eta)):
        counts = np.bincount(draws[:, j].astype(int), minlength=6)
        expected = stats.binom.pmf(range(6), 5, p) * len(draws)
        together = expected > 5
        observed = np.append(counts[together], counts[~together].sum())
        ideal = np.append(expected[together], expected[~together].sum())
        keep = ideal > 0
        assert stats.chisquare(observed[keep], ideal[keep], sum_check=False).pvalue > 1e-4
    again = family.draw(np.random.default_rng(4), np.full((20_000, 1), 5), eta)
    np.testing.assert_array_equal(draws, again)


def test_words_become_families():
    assert resolve_family() == Answers("bernoulli", "logit", 0.0, 0.0)
    assert resolve_family("binomial", link="probit") == Answers("binomial", "probit")
    assert resolve_family("afc") == Answers("afc", "logit", 0.5, 0.0)
    assert resolve_family("afc", guess=0.25, lapse="0.02") == Answers("afc", "logit", 0.25, 0.02)
    assert resolve_family("bernoulli", lapse=0.6).span == pytest.approx(0.4)
    assert resolve_family("afc", lapse=0.02).describe() == "forced choice, logit link, guess rate 0.5, lapse rate 0.02"
    assert len({resolve_family(name).describe() for name in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "bernouli"}, r"'bernouli' is unknown \(did you mean 'bernoulli'\?\); allowed are bernoulli"),
        ({"name": "gaussian", "link": "logit"}, "identity"),
        ({"name": "gaussian", "lapse": 0.1}, "gaussian has none"),
        ({"link": "cloglog"}, "'cloglog' is unknown; allowed are logit, probit"),
        ({"guess": 0.5}, "a guess rate is for the family afc"),
        ({"guess": 0.0}, "a guess rate is for the family afc"),
        ({"name": "binomial", "guess": 0.5}, "a guess rate is for the family afc"),
        ({"name": "afc", "guess": 1.0}, r"guess rate 1 is outside \[0, 1\)"),
        ({"name": "afc", "guess": -0.1}, "guess rate -0.1 is outside"),
        ({"name": "afc", "guess": float("nan")}, "guess rate nan is outside"),
        ({"name": "afc", "lapse": 0.5}, r"lapse rate 0.5 is outside \[0, 0.5\)"),
        ({"lapse": -0.01}, "lapse rate -0.01 is outside"),
        ({"lapse": float("nan")}, "lapse rate nan is outside"),
        ({"name": "gaussian", "lapse": "estimate"}, "gaussian has none"),
        ({"lapse": "little"}, "'little' is no number; give one"),
    ],
)
def test_words_that_make_no_family_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        resolve_family(**arguments)


def test_lme4s_binomial_likelihood_is_met():
    """With lme4's estimates the Laplace log-likelihood, and the score at each herd's mode, are lme4's own."""
    folder = os.environ.get("PSYCHOSTATS_REFERENCE")
    if not folder:
        pytest.skip("PSYCHOSTATS_REFERENCE names no folder with the reference data")
    fit = json.loads(Path(folder, "C_cbpp.json").read_text())["models"]["main"]["tight"]
    rows = pd.read_csv(Path(folder, "cbpp.csv"), dtype={"period": str, "herd": str})
    coding = code(parse_formula("incidence | trials(size) ~ period + (1 | herd)"), rows)
    design, family = coding.design(rows), resolve_family("binomial")
    (block,) = design.blocks
    mode = np.array([fit["ranef"]["herd"]["mode"]["(Intercept)"][herd] for herd in block.levels])
    variance = fit["VarCorr"]["herd"]["var"][0]
    eta = design.X @ np.array(list(fit["fixef"].values())) + mode[block.index]
    p = family.mean(eta)
    score = np.bincount(block.index, design.successes - design.trials * p) - mode / variance
    np.testing.assert_allclose(score, 0, atol=2e-4)
    curvature = np.bincount(block.index, design.trials * family.slope(eta)) + 1 / variance
    laplace = (
        family.log_density(design.successes, design.trials, eta).sum()
        + np.log(special.comb(design.trials, design.successes)).sum()
        - (mode**2 / variance + np.log(variance) + np.log(curvature)).sum() / 2
    )
    assert laplace == pytest.approx(fit["logLik"], abs=1e-4)
