"""Shares of variance against lme4's own variance components, against definitions, and at their ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import special
from studies import known_fit

from psychostats import fit, variance_shares


def reference(name):
    folder = os.environ.get("PSYCHOSTATS_REFERENCE")
    if not folder:
        pytest.skip("PSYCHOSTATS_REFERENCE names no folder with the reference data")
    return Path(folder, name)


def shares(made):
    table = variance_shares(made)
    return {(row.quantity, row.group): row.estimate for row in table.itertuples()}


def test_a_maximum_has_the_shares_of_lme4s_components():
    """cbpp: from lme4's estimates alone, by the formulas of Nakagawa et al. (2017)."""
    theirs = json.loads(reference("C_cbpp.json").read_text())["models"]["main"]["tight"]
    rows = pd.read_csv(reference("cbpp.csv"), dtype={"period": str, "herd": str})
    made = fit("incidence | trials(size) ~ period + (1 | herd)", rows, family="binomial", engine="laplace")
    b = np.array([theirs["fixef"][name] for name in ("(Intercept)", "period2", "period3", "period4")])
    X = np.column_stack([np.ones(len(rows)), *((rows["period"] == level) for level in "234")])
    fixed, herd, residual = np.var(X @ b, ddof=1), made.estimates.sds()["sd_herd__Intercept"] ** 2, np.pi**2 / 3
    found = shares(made)
    assert found["r2_marginal", ""] == pytest.approx(fixed / (fixed + herd + residual), rel=1e-4)
    assert found["r2_conditional", ""] == pytest.approx((fixed + herd) / (fixed + herd + residual), rel=1e-4)
    assert found["icc", "herd"] == found["icc", ""] == pytest.approx(herd / (herd + residual), rel=1e-12)


def test_slopes_count_at_the_trials_as_they_are():
    """sleepstudy: z' Sigma z averaged over days, beside the residual variance."""
    rows = pd.read_csv(reference("sleepstudy.csv"), dtype={"Subject": str})
    made = fit("Reaction ~ Days + (1 + Days | Subject)", rows, family="gaussian", engine="laplace")
    sd = made.estimates.sds()
    cor = made.terms().set_index("term").loc["cor_Subject__Intercept__Days", "estimate"]
    a, c = sd["sd_Subject__Intercept"], sd["sd_Subject__Days"]
    days = rows["Days"].to_numpy()
    person = np.mean(a**2 + 2 * cor * a * c * days + c**2 * days**2)
    assert shares(made)["icc", "Subject"] == pytest.approx(person / (person + made.estimates.maximum.sigma**2))
    table = variance_shares(made).set_index("quantity")
    assert (table["conf_low"] < table["estimate"]).all() and (table["estimate"] < table["conf_high"]).all()


def test_draws_recover_known_shares_and_have_their_intervals():
    rng = np.random.default_rng(4)
    people, each = 40, 40
    who = np.repeat(np.arange(people), each)
    x = rng.normal(size=len(who))
    own = rng.normal(size=people)
    eta = 0.8 * x + 0.9 * ((own - own.mean()) / own.std(ddof=1))[who]  # forty people with just this SD
    rows = pd.DataFrame({"p": who.astype(str), "x": x, "y": rng.binomial(1, special.expit(eta))})
    made = fit("y ~ x + (1 | p)", rows, chains=2)
    table = variance_shares(made).set_index(["quantity", "group"])
    fixed, random, residual = 0.8**2 * np.var(x), 0.9**2, np.pi**2 / 3
    truth = {
        ("r2_marginal", ""): fixed / (fixed + random + residual),
        ("r2_conditional", ""): (fixed + random) / (fixed + random + residual),
        ("icc", "p"): random / (random + residual),
    }
    for key, value in truth.items():
        assert abs(table.loc[key, "estimate"] - value) < 3 * table.loc[key, "sd"] < 0.12
    flat = made.draws_table.flat()
    icc = flat["sd_p__Intercept"] ** 2 / (flat["sd_p__Intercept"] ** 2 + residual)
    assert table.loc[("icc", "p"), "estimate"] == pytest.approx(icc.mean(), rel=1e-12)
    assert table.loc[("icc", "p"), "conf_low"] == pytest.approx(np.quantile(icc, 0.025), rel=1e-12)


def test_known_draws_have_the_shares_of_their_definitions():
    rng = np.random.default_rng(6)
    x = rng.normal(1.0, 0.8, 240)
    rows = pd.DataFrame({"g": np.arange(240) % 12, "h": np.arange(240) % 5, "x": x, "y": rng.integers(0, 2, 240)})
    rows = rows.astype({"g": str, "h": str})
    made = known_fit(
        "y ~ x + (1 + x | g) + (1 | h)", rows, {"Intercept": 0.2, "x": 0.7}, sd={"g": [0.9, 0.4], "h": [0.6]}
    )
    fixed, g, h = 0.7**2 * np.var(x, ddof=1), 0.9**2 + 0.4**2 * np.mean(x**2), 0.6**2
    residual = np.pi**2 / 3
    assert shares(made) == {
        ("r2_marginal", ""): pytest.approx(fixed / (fixed + g + h + residual)),
        ("r2_conditional", ""): pytest.approx((fixed + g + h) / (fixed + g + h + residual)),
        ("icc", ""): pytest.approx((g + h) / (g + h + residual)),
        ("icc", "g"): pytest.approx(g / (g + h + residual)),
        ("icc", "h"): pytest.approx(h / (g + h + residual)),
    }


def test_a_measurement_s_residual_is_the_variance_of_its_errors():
    rng = np.random.default_rng(7)
    g = np.arange(200) % 20
    rows = pd.DataFrame({"g": g.astype(str), "y": 5.0 + 3.0 * rng.normal(size=20)[g] + 2.0 * rng.normal(size=200)})
    made = fit("y ~ 1 + (1 | g)", rows, family="gaussian", engine="laplace")
    between, within = made.estimates.sds()["sd_g__Intercept"] ** 2, made.estimates.maximum.sigma**2
    assert shares(made)["icc", "g"] == pytest.approx(between / (between + within))
    assert 0.4 < between / (between + within) < 0.9


def test_without_groups_there_is_no_icc_and_a_probit_has_its_own_residual():
    rng = np.random.default_rng(2)
    x = rng.normal(size=400)
    rows = pd.DataFrame({"x": x, "y": rng.binomial(1, special.ndtr(x))})
    made = fit("y ~ x", rows, link="probit", engine="laplace")
    b = made.estimates.maximum.b[1]
    explained = b**2 * np.var(x, ddof=1)
    assert shares(made) == {
        ("r2_marginal", ""): pytest.approx(explained / (explained + 1)),
        ("r2_conditional", ""): pytest.approx(explained / (explained + 1)),
    }
