"""Rates estimated by maximum likelihood: dense grids, quadrature, an explicit likelihood, and intervals that cover."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special

from psychostats.design import code
from psychostats.effects import contrasts, marginal_means
from psychostats.errors import InputError, NoMaximumError
from psychostats.families import resolve_family
from psychostats.fit import fit
from psychostats.intervals import Interval
from psychostats.maximum import Method, maximise, objective, phi_of
from psychostats.mixed import prepare
from psychostats.profiled import fit_known, fit_rates, maximise_rates
from psychostats.spec import specify

pytestmark = pytest.mark.once

FORMULA = "correct ~ condition * x + (1 | participant)"
B = {"Intercept": 1.0, "condition": 0.6, "x": 2.5}


def trials(seed, people=20, each=210, lapse=0.06, sd=0.5, guess=0.5):
    """Give forced choices at seven strengths, the largest missed by lapses alone."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "participant": np.repeat([f"p{i:03d}" for i in range(people)], each),
            "condition": pd.Categorical(np.tile(["a", "b"], people * each // 2), ["a", "b"]),
            "x": np.resize(np.linspace(-2, 2, 7), people * each),
        }
    )
    eta = B["Intercept"] + B["condition"] * (frame["condition"] == "b") + B["x"] * frame["x"]
    eta = eta + np.repeat(rng.normal(0, sd, people), each)
    p = guess + (1 - guess - lapse) * special.expit(eta)
    return frame.assign(correct=(rng.uniform(size=len(frame)) < p).astype(int))


def spec(formula=FORMULA, **family):
    return specify(formula, family="afc", **family)


def design_of(frame, formula=FORMULA):
    return code(spec(formula).formula, frame).design(frame, "answers")


def at(lapse, frame, formula=FORMULA):
    return maximise(design_of(frame, formula), spec(formula, lapse=lapse).family, Method())


@pytest.mark.parametrize("link", ["logit", "probit"])
@pytest.mark.parametrize(("guess", "lapse"), [(0.5, 0.05), (0.2, 0.1)])
@pytest.mark.parametrize("rate", ["guess", "lapse"])
def test_derivatives_by_a_rate_are_numeric_ones(link, guess, lapse, rate):
    family, step = resolve_family("afc", link=link, guess=guess, lapse=lapse), 1e-6
    eta, n = np.linspace(-6, 6, 25), np.full(25, 3.0)
    y = np.resize([0.0, 1.0, 2.0, 3.0], 25)
    made = family.rate_derivatives(rate, y, n, eta)
    above, below = (
        replace(family, **{rate: getattr(family, rate) + sign * step}).derivatives(y, n, eta) for sign in (1, -1)
    )
    for name in ("value", "score", "information"):
        expected = (getattr(above, name) - getattr(below, name)) / (2 * step)
        np.testing.assert_allclose(getattr(made, name), expected, rtol=1e-6, atol=1e-7)


def test_the_likelihoods_gradient_by_rates_is_a_numeric_one():
    frame = trials(1, people=8, each=70)
    mixed = prepare(design_of(frame))
    family = resolve_family("afc", guess=0.4, lapse=0.05)
    phi, _ = phi_of(mixed, maximise(design_of(frame), family, Method()))
    phi = phi + 0.05
    _, gradient = objective(mixed, family, Method()).gradient(phi, ("guess", "lapse"))
    for place, rate in ((-2, "guess"), (-1, "lapse")):
        moved = [replace(family, **{rate: getattr(family, rate) + sign * 1e-5}) for sign in (1, -1)]
        above, below = (objective(mixed, one, Method()).value(phi) for one in moved)
        assert gradient[place] == pytest.approx((above - below) / 2e-5, rel=1e-6)


def test_the_maximum_is_that_of_a_dense_grid_and_its_errors_are_the_profiles():
    frame = trials(2)
    found = fit_rates(spec(), frame)
    rate, sd = found.rates["lapse"], found.rate_sds()["lapse"]
    assert found.at_end == () and 0.03 < rate < 0.09
    grid = [at(lapse, frame).log_likelihood for lapse in np.linspace(0.0, 0.12, 25)]
    best = found.estimates.maximum
    assert best.log_likelihood >= max(grid) and np.argmax(grid) == round(rate / 0.005)
    below, middle, above = (at(rate + move, frame) for move in (-0.002, 0.0, 0.002))
    assert middle.log_likelihood == pytest.approx(best.log_likelihood, abs=1e-8)
    np.testing.assert_allclose(best.b, middle.b, atol=1e-5)
    curvature = (2 * middle.log_likelihood - below.log_likelihood - above.log_likelihood) / 0.002**2
    assert sd == pytest.approx(curvature**-0.5, rel=1e-3)
    # The covariance is that of the fixed rate plus the profile's adjustment.
    slope = (above.b - below.b) / 0.004
    adjusted = middle.covariance[:4, :4] + sd**2 * np.outer(slope, slope)
    np.testing.assert_allclose(best.covariance[:4, :4], adjusted, rtol=1e-3, atol=1e-6)


def test_where_the_profile_falls_from_0_everything_is_as_with_none():
    frame = trials(4, lapse=0.0)
    found, none = fit_rates(spec(), frame), at(0.0, frame)
    assert found.rates == {"lapse": 0.0} and found.at_end == ("lapse",)
    assert np.isnan(found.rate_sds()["lapse"])
    size = len(none.covariance)
    np.testing.assert_array_equal(found.estimates.maximum.b, none.b)
    np.testing.assert_array_equal(found.estimates.maximum.covariance[:size, :size], none.covariance)
    fixed = fit(spec(), frame, engine="laplace")
    columns = ["estimate", "sd", "conf_low", "conf_high"]
    np.testing.assert_allclose(
        contrasts(found, "condition")[columns].astype(float), contrasts(fixed, "condition")[columns].astype(float)
    )
    assert at(0.01, frame).log_likelihood < none.log_likelihood


def test_quadrature_agrees_where_levels_have_many_trials_and_shows_what_laplace_lacks_where_they_have_few():
    def rise(frame, formula, lapse, nodes):
        given = spec(formula, lapse=lapse)
        made = (fit(one, frame, engine="laplace", quadrature=nodes) for one in (given, spec(formula)))
        return float(np.subtract(*(one.likelihood["logLik"] for one in made)))

    many, few = trials(5), trials(5, people=120, each=28, sd=1.3)
    rate = fit_rates(spec(), many).rates["lapse"]
    assert rise(many, FORMULA, rate, 1) == pytest.approx(rise(many, FORMULA, rate, 21), abs=0.1)
    assert rise(few, FORMULA, 0.1, 21) - rise(few, FORMULA, 0.1, 1) > 1.0


def test_two_rates_are_those_of_the_explicit_likelihood():
    frame = trials(6, people=20, each=280, sd=0.0, guess=0.3, lapse=0.08)
    formula = "correct ~ x"
    found = maximise_rates(design_of(frame, formula), resolve_family("afc", guess=0.25), ("guess", "lapse"))
    counts = frame.groupby("x")["correct"].agg(["sum", "size"])
    x, y, n = counts.index.to_numpy(), counts["sum"].to_numpy(), counts["size"].to_numpy()

    def minus(at):
        p = at[2] + (1 - at[2] - at[3]) * special.expit(at[0] + at[1] * x)
        return -np.sum(y * np.log(p) + (n - y) * np.log1p(-p))

    given = optimize.minimize(
        minus, [1.0, 4.0, 0.3, 0.05], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}
    )
    made = [*found.maximum.b, found.rates["guess"], found.rates["lapse"]]
    np.testing.assert_allclose(made, given.x, rtol=1e-4)
    assert found.maximum.log_likelihood == pytest.approx(-given.fun, abs=1e-6)
    steps = 1e-3 * np.eye(4)
    hessian = [
        [(minus(made + a + b) - minus(made + a - b) - minus(made - a + b) + minus(made - a - b)) / 4e-6 for b in steps]
        for a in steps
    ]
    np.testing.assert_allclose(np.diag(found.maximum.covariance), np.diag(np.linalg.inv(hessian)), rtol=5e-3)
    only = maximise_rates(design_of(frame, formula), resolve_family("afc", guess=0.25, lapse=0.08), ("guess",))
    assert only.rates["guess"] == pytest.approx(0.3, abs=0.08)
    # No guess rate is below 0, where the lapse rate still is what it is.
    none = trials(7, people=20, each=280, sd=0.0, guess=0.0, lapse=0.08)
    ended = maximise_rates(design_of(none, formula), resolve_family("afc", guess=0.0), ("guess", "lapse"))
    assert ended.rates["lapse"] == pytest.approx(0.08, abs=0.03)
    if ended.rates["guess"] == 0:
        assert ended.at_end == ("guess",) and ended.maximum.covariance[-2, -2] == 0


def test_a_rate_from_elsewhere_widens_by_what_it_moves():
    frame, rate, sd = trials(8), 0.05, 0.02
    found = fit_known(spec(), frame, rate, sd)
    below, middle, above = (at(rate + move, frame) for move in (-0.002, 0.0, 0.002))
    slope = (above.b - below.b) / 0.004
    np.testing.assert_allclose(found.estimates.maximum.b, middle.b, atol=1e-6)
    adjusted = middle.covariance[:4, :4] + sd**2 * np.outer(slope, slope)
    np.testing.assert_allclose(found.estimates.maximum.covariance[:4, :4], adjusted, rtol=2e-3, atol=5e-5)
    sure = fit_known(spec(), frame, rate, 0.0)
    np.testing.assert_allclose(sure.estimates.maximum.covariance[:-1, :-1], middle.covariance, rtol=1e-6, atol=1e-9)
    again = fit_known(spec(), frame, rate, sd, start=at(0.0, frame))
    np.testing.assert_allclose(again.estimates.maximum.b, middle.b, atol=1e-5)


def test_effects_carry_the_rates_uncertainty():
    frame = trials(9)
    found = fit_rates(spec(), frame)
    made = contrasts(found, "condition", interval=Interval("wald"))
    made = made[made["scale"] == "difference"].set_index("target")
    fixed = fit(spec(lapse=found.rates["lapse"]), frame, engine="laplace")
    plain = contrasts(fixed, "condition")
    plain = plain[plain["scale"] == "difference"].set_index("target")
    for target in ("typical", "population"):
        assert made.loc[target, "estimate"] == pytest.approx(plain.loc[target, "estimate"], abs=1e-6)
        assert made.loc[target, "sd"] >= plain.loc[target, "sd"] * (1 - 1e-6)
    # At the strongest signal the mean is 1 - l, so its error is the rate's own.
    means = marginal_means(found, "condition", by={"x": [6.0]}, interval=Interval("wald"))
    assert means["sd"].to_numpy(dtype=float) == pytest.approx(found.rate_sds()["lapse"], rel=0.02)
    assert (means["conf_high"] < 1).all() and (means["conf_low"] < 1 - found.rates["lapse"]).all()


def test_intervals_cover_with_the_rate_estimated_and_not_with_it_ignored():
    covered = {"estimated": 0, "ignored": 0, "rate": 0}
    many, truth, z, steps = 60, 0.06, 1.96, 0
    for seed in range(many):
        frame = trials(100 + seed, people=10, each=210)
        try:
            found = fit_rates(spec(), frame)
        except NoMaximumError:  # seven strengths cannot tell a steep slope from a step
            steps += 1
            continue
        for name, best in (("estimated", found.estimates.maximum), ("ignored", at(0.0, frame))):
            place = 2  # b_x
            covered[name] += abs(best.b[place] - B["x"]) < z * np.sqrt(best.covariance[place, place])
        covered["rate"] += abs(found.rates["lapse"] - truth) < z * found.rate_sds()["lapse"]
    many -= steps
    assert steps <= 3
    assert 0.88 <= covered["estimated"] / many <= 0.99
    assert 0.88 <= covered["rate"] / many <= 0.99
    assert covered["ignored"] / many < 0.6


@pytest.mark.parametrize(
    ("family", "rates", "words"),
    [
        ("gaussian", ("lapse",), "the family gaussian has no guess or lapse rate"),
        ("afc", ("lapse", "bias"), "rates to estimate are guess, lapse or both; lapse, bias were given"),
        ("afc", (), "none were given"),
        ("afc", ("lapse", "lapse"), "lapse, lapse were given"),
    ],
)
def test_what_cannot_be_estimated_is_refused(family, rates, words):
    frame = trials(1, people=4, each=14)
    with pytest.raises(InputError, match=words):
        fit_rates(specify(FORMULA, family=family), frame, rates)


def test_the_engine_laplace_goes_on_refusing_an_estimated_rate():
    with pytest.raises(InputError, match="cannot estimate the lapse rate"):
        fit(spec(lapse="estimate"), trials(1, people=4, each=14), engine="laplace")
