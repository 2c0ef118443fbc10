"""Power-scaling against refits with scaled priors, against integrals, and where prior and data truly disagree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special, stats

from psychostats import fit, prior_sensitivity
from psychostats.design import code
from psychostats.draws import label
from psychostats.errors import InputError
from psychostats.fit import Fit
from psychostats.pareto import importance
from psychostats.priors import resolve_priors
from psychostats.sampling import Sample, Settings
from psychostats.sensitivity import distance, log_likelihood, log_prior
from psychostats.spec import specify

FORMULA = "correct ~ x + (1 + x | participant)"
SHORT = {"draws": 1000, "tune": 1000, "chains": 2}


def trials(people=8, each=30, seed=3):
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), each)
    x = rng.uniform(-1, 1, len(who))
    eta = 0.5 + 1.0 * x + rng.normal(0, 0.5, people)[who]
    return pd.DataFrame({"participant": who.astype(str), "x": x, "correct": rng.binomial(1, special.expit(eta))})


@pytest.fixture(scope="module")
def weak():
    return fit(FORMULA, trials(), priors=["b ~ normal(0, 10)", "b_Intercept ~ normal(0, 10)"], **SHORT)


@pytest.fixture(scope="module")
def against():
    """Give a fit whose prior of x says the opposite of the trials, and whose prior of an SD says all there is."""
    priors = ["b_x ~ normal(-1, 0.2)", "sd_participant__x ~ normal(2, 0.05)"]
    return fit(FORMULA, trials(), priors=priors, lapse="estimate", **SHORT)


def test_the_log_prior_and_likelihood_are_scipys(weak, against):
    for made in (weak, against):
        flat = made.draws_table.flat()
        law = {prior.name: prior.distribution.frozen() for prior in made.priors if prior.klass != "cor"}
        expected = sum(law[name].logpdf(flat[name]) for name in law)
        expected = expected + np.log1p(-(flat["cor_participant__Intercept__x"] ** 2))  # lkj(2): det to the power of 1
        gap = log_prior(made, flat) - expected
        np.testing.assert_allclose(gap - gap.mean(), 0.0, atol=1e-8)
    # lp of the sampler is likelihood and prior in its own coordinates; here the likelihood from its definition.
    made, flat = against, against.draws_table.flat(random=True)
    rows = made.data
    eta = flat[["b_Intercept"]].to_numpy() + flat[["b_x"]].to_numpy() * rows["x"].to_numpy()
    own = [[f"r_participant[{who},{term}]" for who in rows["participant"]] for term in ("Intercept", "x")]
    eta = eta + flat[own[0]].to_numpy() + flat[own[1]].to_numpy() * rows["x"].to_numpy()
    p = (1 - flat[["lapse"]].to_numpy()) * special.expit(eta)
    expected = stats.bernoulli.logpmf(rows["correct"].to_numpy(), p).sum(axis=1)
    np.testing.assert_allclose(log_likelihood(made), expected, rtol=1e-10)


def test_the_log_prior_of_given_draws_is_scipys():
    """Correlations and simplexes too; log_prior is a function of draws, so these need not come from a sampler."""
    rows = trials().assign(level=pd.Categorical(np.tile(["low", "mid", "high"], 80), ["low", "mid", "high"]))
    spec = specify(
        "correct ~ mo(level) + (1 + x | participant)",
        priors=["simo ~ dirichlet(3)", "cor ~ lkj(4)", "sd ~ gamma(2, 3)"],
    )
    coding = code(spec.formula, rows)
    design = coding.design(rows)
    rng = np.random.default_rng(1)
    b, bsp = rng.normal(size=(2, 50, 1)), rng.normal(size=(2, 50, 1))
    sd, cor, shares = rng.gamma(2, 0.3, (2, 50, 2)), rng.uniform(-0.9, 0.9, (2, 50, 1)), rng.dirichlet([1, 2], (2, 50))
    r = np.zeros((2, 50, 8, 2))
    drawn = label(Sample(b, (sd,), (cor,), (r,), {"diverging": b[..., 0] > 9}, bsp=bsp, simo=(shares,)), design, rows)
    priors = resolve_priors(design, spec.priors, spec.family)
    made = Fit(spec, rows, coding, design, priors, drawn, Settings(50, 1, 2), (), {}, {})
    expected = (
        stats.norm(0, 1.5).logpdf(b[..., 0])
        + stats.norm(0, 0.5).logpdf(bsp[..., 0])  # one over the whole way of two steps
        + stats.gamma(2, scale=1 / 3).logpdf(sd).sum(axis=-1)
        + 3 * np.log1p(-(cor[..., 0] ** 2))  # det to the power of eta - 1
        + 2 * np.log(shares).sum(axis=-1)
    ).ravel()
    gap = log_prior(made, drawn.flat()) - expected
    np.testing.assert_allclose(gap - gap.mean(), 0.0, atol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.3, 2.0])
def test_the_distance_is_that_of_the_integral(shift):
    """A normal reweighted into one that is shifted, against the integral of their distribution functions."""
    draws = stats.norm.ppf((np.arange(40_000) + 0.5) / 40_000)
    weights = np.exp(shift * draws)

    def found(sign):
        P, Q = (lambda t: stats.norm.cdf(sign * t)), (lambda t: stats.norm.cdf(sign * (t - shift)))

        def kernel(t):
            p, q = P(t), Q(t)
            m = (p + q) / 2
            return p * np.log2(p / m) + q * np.log2(q / m)

        # Over the range of the draws, as the sum is; beyond, both functions are 0, or 1 and the same.
        low, high = draws[0], draws[-1]
        top = integrate.quad(kernel, low, high, limit=200)[0]
        return np.sqrt(top / integrate.quad(lambda t: P(t) + Q(t), low, high, limit=200)[0])

    expected = max(found(1), found(-1)) if shift else 0.0
    assert distance(draws, weights) == pytest.approx(expected, rel=0.01, abs=1e-8)
    assert distance(-draws, weights) == pytest.approx(distance(draws, weights))
    assert distance(10 * draws + 3, weights) == pytest.approx(distance(draws, weights))


def test_weights_move_the_posterior_as_a_refit_does(against):
    """A normal prior to the power of a is one with its SD divided by the root of a."""
    power = 0.8
    flat = against.draws_table.flat()
    law = {prior.name: prior for prior in against.priors}
    scaled = []
    for prior in law.values():
        args = prior.distribution.args
        text = {
            "normal": lambda a: f"normal({a[0]}, {a[1] / np.sqrt(power)})",
            "exponential": lambda a: f"exponential({a[0] * power})",
            "lkj": lambda a: f"lkj({1 + (a[0] - 1) * power})",
            "beta": lambda a: f"beta({1 + (a[0] - 1) * power}, {1 + (a[1] - 1) * power})",
        }[prior.distribution.name](args)
        scaled.append(f"{prior.name} ~ {text}")
    again = fit(FORMULA, trials(), priors=scaled, lapse="estimate", seed=2, **SHORT).draws_table.flat()
    shape = (2, 1000, 1)
    weights, k = importance((1 - power) * log_prior(against, flat).reshape(shape))
    assert k[0] < 0.7
    weight = np.exp(weights[:, 0])
    for term in ("b_x", "sd_participant__x", "b_Intercept"):
        moved, refit = weight @ flat[term], again[term].mean()
        error = 5 * flat[term].std() * np.sqrt(2 / 400)
        assert abs(moved - refit) < error
    assert weight @ flat["b_x"] - flat["b_x"].mean() > 0.02  # a weaker prior gives way to the trials


def test_disagreement_and_a_prior_that_decides_are_named():
    wide = ["b ~ normal(0, 10)", "b_Intercept ~ normal(0, 10)"]
    calm = prior_sensitivity(fit("correct ~ x", trials(), priors=wide, **SHORT)).set_index("term")
    assert (calm["diagnosis"] == "").all() and (calm["prior"] < 0.02).all() and (calm["likelihood"] > 0.05).all()
    table = prior_sensitivity(fit("correct ~ x", trials(), priors=["b_x ~ normal(-1, 0.3)"], **SHORT))
    assert table.set_index("term").loc["b_x", "diagnosis"] == "prior and data may disagree"
    assert table.attrs["pareto_k"] < 0.7
    alone = prior_sensitivity(fit("correct ~ 1", trials(1, 4), priors=["b_Intercept ~ normal(0, 0.05)"], **SHORT))
    assert alone["diagnosis"].tolist() == ["strong prior or weak data"]


@pytest.mark.parametrize("prior_sd", [0.3, 1.0, 10.0])
def test_the_measure_of_a_conjugate_posterior_is_the_exact_one(prior_sd):
    """A normal mean of 3 from 20 values with SD 1: prior and likelihood to any power leave it normal."""
    n, mean, powers = 20, 3.0, (0.99, 1.01)

    def posterior(prior_power, power):
        precision = prior_power / prior_sd**2 + power * n
        return stats.norm(power * n * mean / precision, precision**-0.5)

    start = posterior(1.0, 1.0)
    draws = start.ppf((np.arange(20_000) + 0.5) / 20_000)

    def exact(P, Q):
        low, high = draws[0], draws[-1]  # the measure is normed by areas over the range of the draws

        def one(sign):
            p, q = (lambda t: (P.cdf(t), P.sf(t))[sign]), (lambda t: (Q.cdf(t), Q.sf(t))[sign])
            middle = lambda t: (p(t) + q(t)) / 2  # noqa: E731
            top = integrate.quad(
                lambda t: special.rel_entr(p(t), middle(t)) + special.rel_entr(q(t), middle(t)), low, high, epsabs=1e-12
            )[0]
            return np.sqrt(top / np.log(2) / integrate.quad(lambda t: p(t) + q(t), low, high)[0])

        return max(one(0), one(1))

    for scaled, log_density in (
        ("prior", stats.norm(0, prior_sd).logpdf(draws)),
        ("likelihood", -0.5 * n * (draws - mean) ** 2),
    ):
        found = expected = 0.0
        for power in powers:
            weights = np.exp((power - 1) * log_density)
            found += distance(draws, weights)
            expected += exact(start, posterior(power, 1.0) if scaled == "prior" else posterior(1.0, power))
        assert found == pytest.approx(expected, rel=0.02, abs=2e-6)


def test_a_maximum_has_no_prior():
    with pytest.raises(InputError, match="a maximum of the likelihood has no prior"):
        prior_sensitivity(fit("correct ~ x", trials(), engine="laplace"))


def test_the_command_prints_the_table(against, tmp_path, run):
    against.write(tmp_path / "fit")
    shown = run("summary", tmp_path / "fit", "--sensitivity")
    assert "strong prior or weak data" in shown.out and "doubling of the power" in shown.out
    found = run("summary", tmp_path / "fit", "--sensitivity", "--json").data
    table = prior_sensitivity(against)
    assert [row["term"] for row in found["rows"]] == table["term"].tolist()
    assert found["pareto_k"] == table.attrs["pareto_k"]
    fit("correct ~ x", trials(), engine="laplace", out=tmp_path / "ml")
    assert run("summary", tmp_path / "ml", "--sensitivity").code == 2
