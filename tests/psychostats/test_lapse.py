"""A lapse rate that is estimated: known truth comes back, and every prediction knows it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import special
from studies import SMALL, make_report

from psychostats import comparisons, emmeans, fit, load_fit, predictions, read_study
from psychostats.checks import draw_priors, predictive_accuracy
from psychostats.errors import InputError
from psychostats.loo import loo
from psychostats.profiled import fit_rates
from psychostats.simulation import write_simulation
from psychostats.spec import specify

TRUTH = {"Intercept": 0.5, "x": 6.0, "lapse": 0.08}


def trials(people=12, each=120, seed=5):
    """Give forced choices whose strongest signals are missed by lapses alone."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "participant": np.repeat([f"p{i:02d}" for i in range(people)], each),
            "x": rng.uniform(-1, 1, people * each),
        }
    )
    own = rng.normal(0, 0.4, people)
    eta = TRUTH["Intercept"] + TRUTH["x"] * frame["x"] + np.repeat(own, each)
    p = 0.5 + (0.5 - TRUTH["lapse"]) * special.expit(eta)
    return frame.assign(correct=(rng.uniform(size=len(frame)) < p).astype(int))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    made = fit(
        "correct ~ x + (1 | participant)",
        trials(),
        family="afc",
        lapse="estimate",
        priors=["b_x ~ normal(0, 5)"],
        out=tmp_path_factory.mktemp("lapse") / "fit",
    )
    assert made.converged
    return made


def test_the_truth_comes_back_and_a_fixed_rate_of_zero_would_miss_it(fitted):
    terms = fitted.terms().set_index("term")
    lapse = terms.loc["lapse"]
    assert lapse["class"] == "family" and np.isfinite(lapse["rhat"])
    for term, truth in (("lapse", TRUTH["lapse"]), ("b_x", TRUTH["x"]), ("b_Intercept", TRUTH["Intercept"])):
        assert terms.loc[term, "conf_low"] < truth < terms.loc[term, "conf_high"]
    assert lapse["sd"] < 0.03
    none = fit("correct ~ x + (1 | participant)", trials(), family="afc", priors=["b_x ~ normal(0, 5)"])
    assert none.terms().set_index("term").loc["b_x", "conf_high"] < TRUTH["x"]


def test_maximum_likelihood_says_the_same_as_the_posterior(fitted):
    """The posterior's prior for the lapse rate, beta(1, 10), is nearly flat over so narrow a likelihood."""
    made = fit_rates(specify("correct ~ x + (1 | participant)", family="afc"), trials())
    posterior = fitted.terms().set_index("term")
    lapse, sd = posterior.loc["lapse", "estimate"], posterior.loc["lapse", "sd"]
    assert made.rates["lapse"] == pytest.approx(lapse, abs=0.4 * sd)
    assert made.rate_sds()["lapse"] == pytest.approx(sd, rel=0.2)
    b, se = made.estimates.maximum.b, np.sqrt(np.diag(made.estimates.maximum.covariance))
    for place, term in enumerate(("b_Intercept", "b_x")):
        assert b[place] == pytest.approx(posterior.loc[term, "estimate"], abs=0.4 * posterior.loc[term, "sd"])
        assert se[place] == pytest.approx(posterior.loc[term, "sd"], rel=0.2)


def test_what_was_written_is_read_again(fitted):
    again = load_fit(fitted.path)
    assert again.spec == fitted.spec and again.spec.family.estimated == ("lapse",)
    pd.testing.assert_frame_equal(again.terms(), fitted.terms())
    assert fitted.summary()["fit"]["lapse"] == "estimate"
    assert [row for row in fitted.summary()["priors"] if row["class"] == "lapse"] == [
        {"class": "lapse", "group": None, "coef": None, "prior": "beta(1, 10)", "source": "default"}
    ]


def test_every_prediction_uses_each_draws_own_rate(fitted):
    draws = fitted.result.flat()
    eta = draws["b_Intercept"] + 1.0 * draws["b_x"]
    p = 0.5 + (0.5 - draws["lapse"]) * special.expit(eta)
    found = [
        predictions(fitted, pd.DataFrame({"x": [1.0]}))["estimate"],
        emmeans(fitted, "x", at={"x": [1.0]}, scale="response").table()["prob"],
    ]
    np.testing.assert_allclose(np.concatenate(found), p.mean(), rtol=1e-12)
    # Odds ratios are of p, and so are bounded by the lapses.
    low = 0.5 + (0.5 - draws["lapse"]) * special.expit(draws["b_Intercept"])
    ratio = comparisons(fitted, {"x": [0.0, 1.0]}, pd.DataFrame({"x": [0.3]}), comparison="lnor")["estimate"]
    np.testing.assert_allclose(ratio, (special.logit(p) - special.logit(low)).mean(), rtol=1e-9)


def test_replicated_answers_lapse_too(fitted):
    top = pd.DataFrame({"top": np.where(fitted.data["x"] > 0.7, "top", "rest")})
    table = predictive_accuracy(fitted, top).set_index("top")
    assert table["inside"].all()
    assert table.loc["top", "estimate"] < 1 - 0.5 * TRUTH["lapse"]


def test_leaving_out_uses_each_draws_own_rate(fitted):
    """By trial against the weights of the densities themselves; by participant against one that the rate is told."""
    found = loo(fitted)
    draws = fitted.result.flat(random=True)
    place = int(np.flatnonzero((fitted.data["correct"] == 0) & (fitted.data["x"] > 0.8))[0])
    row = fitted.data.iloc[place]
    own = draws[f"r_participant[{row['participant']},Intercept]"]
    eta = draws["b_Intercept"] + own + row["x"] * draws["b_x"]
    density = 1 - (0.5 + (0.5 - draws["lapse"]) * special.expit(eta))
    # PSIS of a well-behaved trial is the plain harmonic mean but for the smoothed tail.
    assert found.k[found.rows == place] < 0.5
    harmonic = -np.log((1 / density).mean())
    np.testing.assert_allclose(found.elpd_i[found.rows == place], harmonic, atol=0.01)
    assert not loo(fitted, "participant").bad.any()
    still = dataclasses.replace(fitted.spec.family, lapse=TRUTH["lapse"])
    told = dataclasses.replace(fitted, spec=dataclasses.replace(fitted.spec, family=still))
    assert abs(loo(fitted, "participant").elpd - loo(told, "participant").elpd) < 2


def test_prior_draws_have_a_rate(fitted):
    drawn = draw_priors(np.random.default_rng(1), fitted.priors, fitted.design.names, fitted.design.blocks, 400)
    assert drawn.family["lapse"].shape == (400,)
    assert 0 < drawn.family["lapse"].min() < drawn.family["lapse"].max() < 0.5


def test_maximum_likelihood_says_that_it_cannot():
    with pytest.raises(InputError, match="maximum likelihood cannot estimate the lapse rate"):
        fit("correct ~ x", trials(2, 20), family="afc", lapse="estimate", engine="laplace")


def test_the_report_says_what_the_rate_is(tmp_path):
    text = SMALL.read_text(encoding="utf-8")
    place = text.index("[[models]]")
    model = text[place:].split("\n\n", 1)[0]
    short = "\n".join(line for line in model.splitlines() if not line.startswith(("draws", "tune", "chains")))
    asked = f'{short}\nlapse = "estimate"\ndraws = 100\ntune = 100\nchains = 2'
    (tmp_path / "study.toml").write_text(text.replace(model, asked, 1), encoding="utf-8")
    write_simulation(read_study(tmp_path / "study.toml"), tmp_path / "trials.csv")
    made = make_report(tmp_path / "study.toml", tmp_path / "trials.csv", tmp_path / "report")
    html = (made.out / "report.html").read_text(encoding="utf-8")
    assert "l the lapse rate to be estimated, so that p runs from 0.5 to 1 − l" in html
    assert "Fixed effects and lapse rate: posterior mean and interval." in html
    assert html.count('<td class="left code">lapse</td>') == 2  # its prior, and its estimate
    assert "beta(1, 10)" in html
    assert "other guess rates, other exclusions" in html
