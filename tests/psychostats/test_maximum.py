"""Maximum likelihood: what may not change its numbers, what must change them exactly, and where there is no maximum."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import special

import psychostats as ps
from psychostats.errors import InputError


def _simulate(seed: int = 1, people: int = 16, trials: int = 30, guess: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), trials)
    frame = pd.DataFrame({"p": [f"p{i:02d}" for i in person], "x": rng.normal(0.5, 1.0, len(person))})
    frame["f"] = rng.choice(["a", "b", "c"], len(person))
    frame["item"] = [f"i{i}" for i in rng.integers(0, 8, len(person))]
    shift = rng.normal(0, 0.8, (people, 3))
    slope = 0.6 + rng.normal(0, 0.5, people)
    eta = 0.3 + shift[person, pd.factorize(frame["f"], sort=True)[0]] + slope[person] * frame["x"]
    frame["y"] = (rng.random(len(person)) < guess + (1 - guess) * special.expit(eta)).astype(int)
    frame["z"] = eta + rng.normal(0, 0.7, len(person))
    return frame


def _fit(formula: str, frame: pd.DataFrame, **how: Any) -> ps.Fit:
    return ps.fit(formula, frame, engine="laplace", progress=False, **how)


def _numbers(fit: ps.Fit) -> pd.Series:
    terms = fit.terms().set_index("term")
    return pd.concat([terms["estimate"], terms["sd"].add_prefix("se_"), pd.Series({"ll": fit.likelihood["logLik"]})])


SLOPES = "y ~ x * f + (1 + x | p) + (1 | item)"
MODELS: dict[str, dict[str, Any]] = {
    "logit": {"formula": SLOPES},
    "afc": {"formula": "y ~ x + (1 + x | p)", "family": "afc", "lapse": 0.01},
    "gaussian": {"formula": "z ~ x * f + (1 + x | p) + (1 | item)", "family": "gaussian", "reml": True},
    "quadrature": {"formula": "y ~ x + (1 | p)", "quadrature": 9},
}


def _frame(name: str) -> pd.DataFrame:
    return _simulate(2, guess=0.5) if name == "afc" else _simulate()


# -- What must not matter ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    frame = _frame(name)
    found = [_numbers(_fit(frame=data, **MODELS[name])) for data in (frame, frame.sample(frac=1, random_state=3))]
    # Quadrature's Hessian is made of differences of differences.
    pd.testing.assert_series_equal(*found, rtol=1e-6 if name == "quadrature" else 1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_the_names_of_levels_do_not_matter(name: str) -> None:
    frame = _frame(name)
    rng = np.random.default_rng(1)
    names = dict(zip(sorted(set(frame["p"])), [f"q{i}" for i in rng.permutation(100)[:16]], strict=True))
    first = _fit(frame=frame, **MODELS[name])
    second = _fit(frame=frame.assign(p=frame["p"].map(names)), **MODELS[name])
    pd.testing.assert_series_equal(_numbers(first), _numbers(second), rtol=1e-6)
    modes = [fit.estimates.modes().query("group == 'p'").set_index(["level", "term"]) for fit in (first, second)]
    for (level, term), row in modes[0].iterrows():
        assert row["estimate"] == pytest.approx(modes[1].loc[(names[level], term), "estimate"], abs=1e-6)


def test_counts_say_what_their_trials_say() -> None:
    frame = _simulate().assign(n=1)
    counts = frame.groupby(["p", "f"], as_index=False).agg(right=("y", "sum"), n=("n", "sum"))
    counts["wrong"] = counts["n"] - counts["right"]
    trials, counted = (
        _fit("y ~ f + (1 | p)", frame),
        _fit("cbind(right, wrong) ~ f + (1 | p)", counts, family="binomial"),
    )
    pd.testing.assert_series_equal(_numbers(trials).drop("ll"), _numbers(counted).drop("ll"), rtol=1e-9)
    coefficients = np.log(special.comb(counts["n"], counts["right"])).sum()
    gain = counted.likelihood["logLik"] - trials.likelihood["logLik"]
    assert gain == pytest.approx(coefficients, abs=1e-9)


@pytest.mark.parametrize("family", ["bernoulli", "gaussian"])
def test_the_coding_changes_no_prediction(family: str) -> None:
    response = "z" if family == "gaussian" else "y"
    fits = [
        _fit(f"{response} ~ x * {factor} + (1 + x | p)", frame, family=family)
        for factor in ("f", "C(f, sum)", "C(f, sdif)")
        for frame in (_simulate(),)
    ]
    frame = _simulate()
    frame["f"] = pd.Categorical(frame["f"], ["c", "a", "b"])  # another reference
    fits.append(_fit(f"{response} ~ x * f + (1 + x | p)", frame, family=family))
    means = []
    for fit in fits:
        assert fit.likelihood["logLik"] == pytest.approx(fits[0].likelihood["logLik"], abs=1e-9)
        table = ps.marginal_means(fit, "f").sort_values(["target", "term"])
        means.append(table[["estimate", "sd", "conf_low", "conf_high"]].to_numpy())
    for other in means[1:]:
        np.testing.assert_allclose(other, means[0], rtol=1e-5)


@pytest.mark.parametrize("name", ["logit", "gaussian"])
@pytest.mark.parametrize("shift", [-0.5, 100.0, 2e4])
def test_where_a_predictor_has_its_zero_moves_the_intercept_alone(name: str, shift: float) -> None:
    """Correlated slopes do not know where x is zero; a year is 10,000 SDs from it."""
    formula = MODELS[name]["formula"].replace("x * f", "x")
    how = {key: value for key, value in MODELS[name].items() if key not in ("formula", "reml")}
    frame = _simulate()
    near, far = _fit(formula, frame, **how), _fit(formula, frame.assign(x=frame["x"] + shift), **how)
    assert far.likelihood["logLik"] == pytest.approx(near.likelihood["logLik"], abs=1e-6)
    assert far.likelihood["singular"] == near.likelihood["singular"]
    first, second = _numbers(near), _numbers(far)
    for term in ("b_x", "se_b_x", "sd_p__x", "se_sd_p__x", "sd_item__Intercept"):
        assert second[term] == pytest.approx(first[term], rel=1e-4), term
    assert second["b_Intercept"] == pytest.approx(first["b_Intercept"] - shift * first["b_x"], rel=1e-4)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_units_of_a_predictor_are_units_of_its_effects(scale: float) -> None:
    frame = _simulate()
    first, second = _fit(SLOPES, frame), _fit(SLOPES, frame.assign(x=frame["x"] * scale))
    a, b = first.terms().set_index("term"), second.terms().set_index("term")
    per_x = a.index.str.contains("x") & ~a.index.str.startswith("cor")
    for column in ("estimate", "sd"):
        np.testing.assert_allclose(b[column], np.where(per_x, a[column] / scale, a[column]), rtol=1e-5)
    assert second.likelihood["logLik"] == pytest.approx(first.likelihood["logLik"], abs=1e-9)


def test_a_gaussian_response_has_its_units() -> None:
    frame = _simulate()
    one, many = (_fit(**MODELS["gaussian"], frame=frame.assign(z=frame["z"] * k)) for k in (1.0, 1e6))
    a, b = one.terms().set_index("term"), many.terms().set_index("term")
    spread = ~a.index.str.startswith("cor")
    np.testing.assert_allclose(b["estimate"], np.where(spread, 1e6, 1.0) * a["estimate"], rtol=1e-5)
    freedom = len(frame) - len(one.design.names)
    drop = one.likelihood["logLik"] - many.likelihood["logLik"]
    assert drop == pytest.approx(freedom * np.log(1e6), abs=1e-6)


def test_an_offset_is_taken_off() -> None:
    frame = _simulate().assign(known=lambda d: 0.7 * d["x"])
    with_offset, without = _fit("y ~ x + offset(known) + (1 | p)", frame), _fit("y ~ x + (1 | p)", frame)
    a, b = _numbers(with_offset), _numbers(without)
    b["b_x"] -= 0.7
    pd.testing.assert_series_equal(a, b, rtol=1e-6)


def test_a_guess_rate_of_zero_is_plain() -> None:
    frame = _simulate()
    plain, none = _fit(SLOPES, frame), _fit(SLOPES, frame, family="afc", guess=0.0)
    pd.testing.assert_series_equal(_numbers(plain), _numbers(none), rtol=1e-12)


def test_independent_effects_of_a_factor_are_those_of_its_columns() -> None:
    frame = _simulate().assign(fb=lambda d: (d["f"] == "b") * 1.0, fc=lambda d: (d["f"] == "c") * 1.0)
    factor, columns = _fit("y ~ f + (1 + f || p)", frame), _fit("y ~ fb + fc + (1 + fb + fc || p)", frame)
    assert list(factor.terms()["term"]) == list(columns.terms()["term"])
    pd.testing.assert_series_equal(_numbers(factor), _numbers(columns), rtol=1e-9)
    assert not factor.terms()["class"].eq("cor").any()


def test_the_order_of_levels_is_kept() -> None:
    frame = _simulate()
    frame["f"] = pd.Categorical(frame["f"], ["zz", "b", "c", "a"])  # one of them unused
    assert list(_fit("y ~ f + (1 | p)", frame).design.names) == ["Intercept", "fc", "fa"]


def test_without_groups_it_is_a_generalised_linear_model() -> None:
    frame = _simulate()
    for family, law, response in (
        ({"family": "bernoulli"}, sm.families.Binomial(), "y"),
        ({"link": "probit"}, sm.families.Binomial(sm.families.links.Probit()), "y"),
    ):
        fit = _fit(f"{response} ~ x * f", frame, **family)
        other = sm.GLM(frame[response], fit.design.X, family=law).fit(tol=1e-13)
        np.testing.assert_allclose(fit.estimates.maximum.b, other.params, rtol=1e-7)
        assert fit.likelihood["logLik"] == pytest.approx(other.llf, abs=1e-9)
        # statsmodels has the expected information, which is the observed one for the logit alone.
        observed = np.linalg.inv(-other.model.hessian(np.asarray(other.params), observed=True))
        np.testing.assert_allclose(fit.estimates.maximum.covariance, observed, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("reml", [False, True])
def test_without_groups_a_gaussian_one_is_least_squares(reml: bool) -> None:
    frame = _simulate()
    fit = _fit("z ~ x * f", frame, family="gaussian", reml=reml)
    other = sm.OLS(frame["z"], fit.design.X).fit()
    best, n, p = fit.estimates.maximum, *fit.design.X.shape
    variance = other.mse_resid if reml else other.ssr / n
    np.testing.assert_allclose(best.b, other.params, rtol=1e-9)
    assert best.sigma == pytest.approx(np.sqrt(variance), rel=1e-9)
    se = np.asarray(other.bse) * np.sqrt(variance / other.mse_resid)
    np.testing.assert_allclose(np.sqrt(np.diag(best.covariance)[:p]), se, rtol=1e-7)
    if not reml:
        assert fit.likelihood["logLik"] == pytest.approx(other.llf, abs=1e-9)


def test_the_number_of_threads_does_not_matter(tmp_path: Path) -> None:
    frame = tmp_path / "trials.csv"
    _simulate(3, people=40).to_csv(frame, index=False)
    script = (
        "import json, sys, pandas as pd, psychostats as ps\n"
        f"fit = ps.fit({SLOPES!r}, pd.read_csv(sys.argv[1]), engine='laplace', progress=False)\n"
        "best = fit.estimates.maximum\n"
        "print(json.dumps([best.log_likelihood, best.b.tolist(), best.covariance.tolist()]))"
    )

    def run(threads: int) -> Any:
        env = os.environ | dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))
        done = subprocess.run([sys.executable, "-c", script, str(frame)], env=env, capture_output=True, check=True)
        return json.loads(done.stdout)

    assert run(1) == run(2)


def test_a_fit_is_read_back_answers_again_and_is_verified(tmp_path: Path) -> None:
    frame, out = _simulate(), tmp_path / "fit"
    made = _fit(SLOPES, frame, out=out)
    read = ps.load_fit(out)
    pd.testing.assert_frame_equal(read.terms(random=True), made.terms(random=True))
    pd.testing.assert_frame_equal(read.estimates.wald_tests(), made.estimates.wald_tests())
    assert read.likelihood == made.likelihood
    assert (made.reused, _fit(SLOPES, frame, out=out).reused) == (False, True)
    with pytest.raises(InputError, match="another fit"):
        _fit(SLOPES, frame, out=out, quadrature=1, link="probit")
    stored = out / "summary.csv"
    stored.write_text(stored.read_text("utf-8").replace("0.", "0.1", 1), "utf-8")
    with pytest.raises(InputError, match=r"summary\.csv"):
        ps.load_fit(out)


@pytest.mark.parametrize("shift", [1e6, 1e8, 1e9])
def test_correlated_slopes_far_from_zero_have_the_same_maximum(shift):
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"g": [f"g{i % 20:02d}" for i in range(600)], "x": rng.normal(size=600)})
    slope = rng.normal(0.6, 0.7, 20)[np.arange(600) % 20]
    data["y"] = (rng.random(600) < 1 / (1 + np.exp(-slope * data["x"]))).astype(int)
    near = ps.fit("y ~ x + (x | g)", data, engine="laplace", progress=False)
    far = ps.fit("y ~ x + (x | g)", data.assign(x=data["x"] + shift), engine="laplace", progress=False)
    assert far.likelihood["logLik"] == pytest.approx(near.likelihood["logLik"], abs=1e-6)
    columns = ["estimate", "sd"]
    one, other = (fit.terms().set_index("term").loc[["b_x", "sd_g__x"], columns] for fit in (near, far))
    np.testing.assert_allclose(other, one, rtol=1e-5)
