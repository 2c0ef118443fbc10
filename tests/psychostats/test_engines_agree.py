"""The engines agree: the same posterior from both, on every family and on designs that are hard to sample.

PyMC's side is stored (`tests/oracle/oracle.py` made it, 50,000 draws a design); the other engine runs here. Every
summary must be within 4 combined Monte Carlo standard errors. Of the 725 of b, sd, cor, the family's parameters and the
log-likelihood, one goes beyond that in one of 22 studies of equal posteriors; of the effects of single levels there are
3,685, so 5 is allowed there, which one exceeds in one of 470. The seed is fixed: what passes, passes again.
"""

from __future__ import annotations

import functools
import os
from dataclasses import replace

import arviz as az
import numpy as np
import pandas as pd
import pytest
from designs import DESIGNS
from oracle import quantities, read_posterior, run, stored
from scipy import stats
from summaries import MEASURES, QUANTILES, distances, effective, summarise

from psychostats.draws import diagnose
from psychostats.identity import data_hash

pytestmark = pytest.mark.once

#: The engine that is held to the oracle. PyMC's own, with the seed below, must pass as well: that proves the test.
ENGINE = os.environ.get("PSYCHOSTATS_ENGINE", "nuts")
SETTINGS = {"draws": 5_000, "tune": 1_000, "chains": 4, "seed": 3}
MOST, MOST_OF_LEVELS = 4.0, 5.0
#: Divergent transitions of 20,000: a fifth of what a fit may have. Two designs have any, at correlations near 1.
DIVERGENT = 4
FAMILIES = {"bernoulli", "binomial", "afc", "gaussian", "lognormal"}


def apart(name: str, ours: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return how far a design's summaries are from the oracle's, of the model's terms and of single levels."""
    table = distances(ours, read_posterior(name)[1])
    levels = table.index.str.startswith("r_")
    return {"terms": table[~levels], "levels": table[levels]}


def worst(table: pd.DataFrame) -> float:
    return float(table.abs().to_numpy().max(initial=0.0))


def said(table: pd.DataFrame) -> str:
    """Return the rows that are farthest, for a failure's message."""
    return table.loc[table.abs().max(axis=1).sort_values(ascending=False).index[:5]].round(1).to_string()


# --- The oracle, and how exact summaries are --------------------------------------------------------------------------


def test_the_oracle_covers_every_family_and_all_designs_asked_for() -> None:
    assert {design.family.get("family", "bernoulli") for design in DESIGNS.values()} == FAMILIES
    assert sorted(path.stem for path in stored("plain").parent.glob("*.csv")) == sorted(DESIGNS)
    assert len({design.seed for design in DESIGNS.values()}) == len(DESIGNS)


@pytest.mark.parametrize("name", list(DESIGNS))
def test_a_stored_posterior_is_whole_and_of_these_data(name: str) -> None:
    """From 50,000 draws that converged; and simulating again gives the data that it is the posterior of."""
    told, table = read_posterior(name)
    data = DESIGNS[name].data()
    assert told["data"] == data_hash(data, list(data.columns))
    assert told["engine"] == "pymc" and told["chains"] * told["draws"] >= 50_000
    assert told["divergences"] == 0
    assert (table["rhat"] < 1.01).all() and (table["ess_bulk"] > 4_000).all() and (table["ess_tail"] > 4_000).all()
    assert table.notna().all(axis=None) and (table[[f"mcse_{measure}" for measure in MEASURES]] > 0).all(axis=None)


def autoregressive(rng: np.random.Generator, chains: int, draws: int, rho: float, quantities: int) -> np.ndarray:
    """Return chains of known autocorrelation, standard normal each."""
    x = rng.standard_normal((chains, draws, quantities))
    for t in range(1, draws):
        x[:, t] = rho * x[:, t - 1] + np.sqrt(1.0 - rho**2) * x[:, t]
    return x


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.6, 0.9])
def test_the_effective_size_is_that_of_closed_form_and_of_arviz(rho: float) -> None:
    """Autoregressive chains: n (1 - rho) / (1 + rho)."""
    x = autoregressive(np.random.default_rng(1), 4, 5_000, rho, 8)
    exact = 20_000 * (1.0 - rho) / (1.0 + rho)
    found = effective(x)
    assert found.mean() == pytest.approx(exact, rel=0.08)
    theirs = [float(az.ess(x[..., k], method="mean")) for k in range(x.shape[-1])]
    # Where the sequence ends, ArviZ keeps one autocorrelation more.
    np.testing.assert_allclose(found, theirs, rtol=0.05)
    # Chains that stand at different places are worth few draws, however many they are.
    assert (effective(x + np.arange(4.0)[:, np.newaxis, np.newaxis]) < 40).all()


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_monte_carlo_errors_are_those_that_summaries_make(rho: float) -> None:
    """Of 300 quantities whose law is known, the errors made are as large as they are said to be."""
    x = autoregressive(np.random.default_rng(2), 4, 2_000, rho, 300)
    table = summarise([str(k) for k in range(300)], x)
    truth = {"mean": 0.0, "sd": 1.0} | dict(zip(MEASURES[2:], stats.norm.ppf(QUANTILES), strict=True))
    for measure in MEASURES:
        z = (table[measure] - truth[measure]) / table[f"mcse_{measure}"]
        assert np.sqrt(np.square(z).mean()) == pytest.approx(1.0, abs=0.16), measure  # 4 standard errors: 4 / sqrt(600)
        assert abs(z.mean()) < 4.0 / np.sqrt(300), measure


# --- The engines ------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def drawn(name: str) -> tuple[pd.DataFrame, int]:
    """Run the engine on a design; return its summaries with R-hat, and how many transitions diverged."""
    fitted = run(DESIGNS[name], ENGINE, **SETTINGS)
    assert fitted.provenance["engine"] == ENGINE
    names, values = quantities(fitted)
    table = summarise(names, values)
    table["rhat"] = diagnose(values)[0]
    return table, int(fitted.summary()["sampler"]["divergences"])


@pytest.mark.parametrize("name", list(DESIGNS))
def test_both_engines_draw_from_one_posterior(name: str) -> None:
    ours, divergences = drawn(name)
    assert divergences <= DIVERGENT
    assert (ours["rhat"] < 1.01).all(), ours["rhat"].nlargest(5).to_string()
    found = apart(name, ours)
    assert worst(found["terms"]) < MOST, said(found["terms"])
    assert worst(found["levels"]) < MOST_OF_LEVELS, said(found["levels"])
    # Their spread is that of noise, too: a bias too small for any one of them but shared by many would show here.
    assert np.sqrt(np.square(found["terms"]).to_numpy().mean()) < 1.6, said(found["terms"])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_large_and_well_known_sds_bring_no_divergence_at_defaults(seed: int) -> None:
    """23 people with an SD of 1.1 and 160 trials each; a prototype of the engine had 16 of 4,000 there."""
    fitted = run(DESIGNS["large"], "nuts", draws=1000, tune=None, chains=4, seed=seed)
    assert fitted.summary()["sampler"]["divergences"] == 0
    assert fitted.converged


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("afc", {"family": {"family": "afc", "guess": 0.45, "lapse": 0.02}}),
        ("afc", {"family": {"family": "afc", "guess": 0.5}}),
        ("eight", {"priors": ("sd ~ exponential(2.3)",)}),
        ("crossed", {"priors": ("cor ~ lkj(2.5)",)}),
        ("unbalanced", {"priors": ("b ~ normal(0, 0.8)",)}),
        ("plain", {"priors": ("b_Intercept ~ normal(0, 1)",)}),
    ],
    ids=["guess", "lapse", "sd", "cor", "b", "Intercept"],
)
def test_a_model_that_is_another_by_a_little_is_found_out(name: str, change: dict[str, object]) -> None:
    """The comparison can fail: a guess rate of 0.45, no lapse, somewhat narrower priors, each is too far away."""
    names, values = quantities(run(replace(DESIGNS[name], **change), ENGINE, **SETTINGS))
    assert worst(apart(name, summarise(names, values))["terms"]) > MOST + 1.0
