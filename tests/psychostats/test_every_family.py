"""One walk over every family: the mean is that of draws, the density SciPy's, derivatives are those of the density."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from psychostats.errors import InputError
from psychostats.families import ANSWERS, FAMILIES, resolve_family
from psychostats.priors import Distribution

LOGISTIC, NORMAL = stats.logistic(), stats.norm()
TAU = np.array([-1.2, 0.1, 0.4, 2.5])


def rating_law(cdf, disc=1.0):
    """Return the law of a rating at eta, from SciPy's distribution function alone."""

    def law(eta):
        below = np.concatenate([[0.0], cdf(disc * (TAU - eta)), [1.0]])
        return stats.rv_discrete(values=(np.arange(1, 6), np.diff(below)))

    return law


def answer_law(family, cdf):
    return lambda eta: stats.bernoulli(family.guess + (1 - family.guess - family.lapse) * cdf(eta))


def filled(name, **words):
    own = {"sigma": 0.7, "ndt": 0.25, "thresholds": TAU, "disc": 0.6}
    family = resolve_family(name, **words)
    return replace(family, **{field: own[field] for field in family.estimated})


ANSWER_CASES = [
    (filled(name, link=link, **words), cdf)
    for link, cdf in (("logit", LOGISTIC.cdf), ("probit", NORMAL.cdf))
    for name, words in (
        ("bernoulli", {}),
        ("binomial", {"lapse": 0.02}),
        ("afc", {}),
        ("afc", {"guess": 1 / 3, "lapse": 0.05}),
    )
]
CASES = [
    *((family, answer_law(family, cdf), False) for family, cdf in ANSWER_CASES),
    (filled("cumulative"), rating_law(LOGISTIC.cdf), False),
    (filled("cumulative", link="probit"), rating_law(NORMAL.cdf), False),
    (filled("cumulative", unequal=True), rating_law(LOGISTIC.cdf, 0.6), False),
    (replace(filled("cumulative", link="probit"), disc=1.7), rating_law(NORMAL.cdf, 1.7), False),
    (filled("gaussian"), lambda eta: stats.norm(eta, 0.7), True),
    (filled("lognormal"), lambda eta: stats.lognorm(0.7, scale=np.exp(eta)), True),
    (filled("shifted_lognormal"), lambda eta: stats.lognorm(0.7, loc=0.25, scale=np.exp(eta)), True),
]
every = pytest.mark.parametrize(
    ("family", "law", "continuous"), CASES, ids=[case[0].describe() + f" {i}" for i, case in enumerate(CASES)]
)
ETA = np.array([-3.0, -0.7, 0.0, 0.4, 2.2])
# From where a rare answer has a probability of 1e-13, so close to a guess rate or to 1 - lapse, to where it has.
EDGES = np.array([-30.0, -8.0, -2.0, 0.0, 2.0, 8.0, 30.0])


def values(family, law, eta, continuous):
    """Return responses worth asking about: all there are, or quantiles far into both tails."""
    if continuous:
        return law(eta).ppf([1e-12, 1e-3, 0.2, 0.5, 0.9, 1 - 1e-9])
    return np.arange(1.0, 6.0) if family.ordinal else np.array([0.0, 1.0])


def test_no_family_is_left_out():
    assert {case[0].name for case in CASES} == set(FAMILIES)


@every
def test_the_mean_is_scipys_and_that_of_draws(family, law, continuous):
    expected = np.array([law(eta).mean() for eta in ETA])
    np.testing.assert_allclose(family.mean(ETA), expected, rtol=1e-10)
    draws = family.draw(np.random.default_rng(11), np.ones((40_000, 1)), np.broadcast_to(ETA, (40_000, len(ETA))))
    z = (draws.mean(axis=0) - expected) / (draws.std(axis=0, ddof=1) / np.sqrt(len(draws)))
    assert np.abs(z).max() < 4.5
    for j, eta in enumerate(ETA):  # not the mean alone: the whole law
        if continuous:
            assert stats.kstest(draws[:, j], law(eta).cdf).pvalue > 1e-4
        else:
            seen = [np.mean(draws[:, j] == value) for value in values(family, law, eta, False)]
            p = law(eta).pmf(values(family, law, eta, False))
            assert np.all(np.abs(seen - p) < 4.5 * np.sqrt(p * (1 - p) / len(draws)) + 1e-12)


@every
def test_the_density_is_scipys_up_to_the_edges(family, law, continuous):
    for eta in ETA if continuous else EDGES[1:-1]:
        y = values(family, law, eta, continuous)
        with np.errstate(divide="ignore"):
            expected = law(eta).logpdf(y) if continuous else np.log(law(eta).pmf(y))
        known = np.isfinite(expected) & (expected > -25)  # below, SciPy's difference of probabilities has no digits
        assert known.any()
        found = family.log_density(y, 1.0, np.full(len(y), eta))
        np.testing.assert_allclose(found[known], expected[known], rtol=1e-7, atol=1e-9)
    if not continuous:
        y = values(family, law, 0.0, False)[:, np.newaxis]
        table = family.log_density(y, 1.0, np.broadcast_to(EDGES, (len(y), len(EDGES))))
        assert np.isfinite(table).all()
        np.testing.assert_allclose(special.logsumexp(table, axis=0), 0.0, atol=1e-12)


def test_a_rating_keeps_its_digits_far_out():
    for link, log_cdf in (("logit", LOGISTIC.logcdf), ("probit", NORMAL.logcdf)):
        family = filled("cumulative", link=link)
        for eta in (-12.0, 12.0, 30.0):
            ends = [log_cdf(TAU[k] - eta) if eta > 0 else log_cdf(eta - TAU[k]) for k in (0, 1)]
            expected = max(ends) + np.log1p(-np.exp(min(ends) - max(ends)))
            assert family.log_density(np.array([2.0]), 1.0, np.array([eta]))[0] == pytest.approx(expected, rel=1e-9)


@every
def test_derivatives_are_numeric_ones(family, law, continuous):
    step = 1e-5
    for eta in ETA:
        y = values(family, law, eta, continuous)
        at = np.full(len(y), eta)
        slopes = family.derivatives(y, np.ones(len(y)), at)
        np.testing.assert_allclose(slopes.value, family.log_density(y, 1.0, at), rtol=1e-12)
        above, below = (family.log_density(y, 1.0, at + sign * step) for sign in (1, -1))
        np.testing.assert_allclose(slopes.score, (above - below) / (2 * step), rtol=1e-5, atol=1e-5)
        above, below = (family.derivatives(y, np.ones(len(y)), at + sign * step).score for sign in (1, -1))
        np.testing.assert_allclose(slopes.information, -(above - below) / (2 * step), rtol=1e-5, atol=1e-5)
        if not continuous:
            p = law(eta).pmf(y)
            np.testing.assert_allclose(slopes.expected, p @ slopes.information, rtol=1e-8)
        above, below = (family.mean(at + sign * step) for sign in (1, -1))
        np.testing.assert_allclose(family.slope(at), (above - below) / (2 * step), rtol=1e-6, atol=1e-9)


@every
def test_the_linear_predictor_undoes_the_mean(family, law, continuous):
    np.testing.assert_allclose(family.linear_predictor(family.mean(ETA)), ETA, atol=1e-7)
    lowest = {"number": -np.inf, "positive": getattr(family, "ndt", 0.0), "rating": 1.0, "answers": family.guess}
    if family.response != "number":
        assert family.linear_predictor(np.array([lowest[family.response]])) == -np.inf


@every
def test_single_outcomes_make_up_the_rows(family, law, continuous):
    rng = np.random.default_rng(3)
    trials = np.array([1.0, 1, 1, 1, 1]) if family.name != "binomial" else np.array([4.0, 1, 7, 2, 3])
    response = family.draw(rng, trials, ETA)
    row, value, count = family.outcomes(response, trials)
    apart = np.bincount(row, count * family.outcome_density(value, ETA[row]), len(ETA))
    np.testing.assert_allclose(apart, family.log_density(response, trials, ETA), rtol=1e-12)
    assert np.all(np.diff(row) >= 0)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_to_be_estimated_is_declared_with_a_proper_prior(name):
    family = resolve_family(name, **({"lapse": "estimate"} if name in ANSWERS else {}))
    response = np.array([1.0, 2, 3, 3, 2, 1, 4]) if name not in ANSWERS else np.array([0.0, 1, 1])
    own = family.own(response)
    assert tuple(one.name for one in own) == family.estimated != ()
    rng = np.random.default_rng(1)
    drawn = {}
    for one in own:
        x = np.stack([Distribution(*one.law).draw(rng, 500, low=one.low, high=one.high) for _ in one.labels], axis=1)
        assert np.isfinite(x).all() and (x >= one.low).all() and (x <= one.high).all()
        drawn[one.name] = np.sort(x, axis=1) if one.support == "ordered" else x[:, 0]
    at = family.at(drawn)
    assert at.estimated == () and at.at(drawn) == at
    eta = rng.normal(size=(500, 7)) * 0.1
    assert at.mean(eta).shape == at.log_density(np.resize(response, 7), 1.0, eta).shape == (500, 7)
    centre, unit = family.location(response)
    assert np.isfinite(centre) and unit > 0


def test_disc_is_of_each_row_and_averaged_on_its_logarithm():
    family = resolve_family("cumulative", unequal=True)
    rng = np.random.default_rng(4)
    tau, g = np.sort(rng.normal(size=(5, 3)), axis=1), rng.normal(size=(5, 2))
    scale, eta = rng.normal(size=(7, 2)), rng.normal(size=(5, 7))
    values = {"thresholds": tau, "disc": g}
    made = family.at(values, scale)
    assert made.estimated == () and made.at(values, scale) == made
    for row in range(7):
        for draw in range(5):
            alone = replace(family, thresholds=tau[draw], disc=float(np.exp(scale[row] @ g[draw])))
            assert made.mean(eta)[draw, row] == pytest.approx(float(alone.mean(eta[draw, row : row + 1])[0]))
    np.testing.assert_allclose(made.linear_predictor(made.mean(eta)), eta, atol=1e-7)
    weights = rng.dirichlet(np.ones(7), size=3)
    np.testing.assert_allclose(made.averaged(weights).disc, family.at(values, weights @ scale).disc)
    np.testing.assert_allclose(made.latent_variance, np.pi**2 / 3 / np.exp(g @ scale.T) ** 2)
    assert resolve_family("cumulative").averaged(weights) == resolve_family("cumulative")
    with pytest.raises(TypeError):  # without rows there is no mean, rather than that of equal variance
        family.at(values).mean(eta)


def test_disc_needs_three_levels():
    with pytest.raises(InputError, match="disc needs ratings of three levels at least"):
        resolve_family("cumulative", unequal=True).own(np.array([1.0, 2.0, 2.0]))


def test_measurements_bring_their_unit_to_their_priors():
    y = np.array([3.0, 5.0, 10.0])
    for factor in (1.0, 1000.0):
        centre, unit = resolve_family("gaussian").location(factor * y)
        assert (centre, unit) == pytest.approx((6 * factor, np.std(y, ddof=1) * factor))
        (sigma,) = resolve_family("gaussian").own(factor * y)
        assert Distribution(*sigma.law).frozen().mean() == pytest.approx(unit)
        centre, unit = resolve_family("lognormal").location(factor * y)
        assert (centre, unit) == (pytest.approx(np.log(factor * y).mean()), 1.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"name": "lognormal", "link": "identity"}, "the link of the family lognormal is log"),
        ({"name": "gaussian", "link": "logit"}, "the link of the family gaussian is identity"),
        ({"name": "cumulative", "link": "log"}, "'log' is unknown .*allowed are logit, probit"),
        ({"name": "cumulative", "guess": 0.5}, "cumulative has none"),
        ({"name": "shifted_lognormal", "lapse": "estimate"}, "shifted_lognormal has none"),
        ({"name": "bernoulli", "unequal": True}, "disc is of the family cumulative; bernoulli has none"),
        ({"name": "gaussian", "unequal": True}, "disc is of the family cumulative; gaussian has none"),
        ({"name": "shifted_lognorm"}, "did you mean 'shifted_lognormal'"),
    ],
)
def test_words_that_do_not_go_together_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        resolve_family(**words)
