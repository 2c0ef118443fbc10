"""Unequal variance of ratings, disc: what it may be, and that everything which reads a fit takes it into account."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from psychostats import fit, load_fit
from psychostats.checks import predictive_accuracy, prior_predictive_accuracy
from psychostats.compare import compare
from psychostats.design import code
from psychostats.draws import label
from psychostats.effects import contrasts, marginal_means
from psychostats.emmeans import emmeans
from psychostats.errors import FormulaError, InputError, PriorError
from psychostats.fit import Fit, recompute
from psychostats.loo import loo
from psychostats.marginal import avg_slopes, comparisons, predictions
from psychostats.pareto import importance
from psychostats.priors import resolve_priors
from psychostats.sampling import Sample, Settings
from psychostats.sensitivity import log_likelihood, log_prior, prior_sensitivity
from psychostats.spec import ModelSpec, specify
from psychostats.variance import variance_shares

CHAINS, DRAWS = 2, 30
FORMULA = "rating ~ x + (1 | participant)"
DISC = "kind + depth"


def trials(**changed: Any) -> pd.DataFrame:
    """Return 120 ratings of six people; kind and depth stand in disc alone."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "participant": np.repeat([f"p{i}" for i in range(6)], 20),
            "x": rng.choice([-1.0, 0.0, 1.5], 120),
            "kind": pd.Categorical(rng.choice(["plain", "dotted"], 120), ["plain", "dotted"]),
            "depth": rng.choice([0.0, 0.5, 1.0], 120),
            "rating": np.resize([1, 2, 3, 4], 120),
        }
    )
    return frame.assign(**changed)


@pytest.fixture(scope="module")
def made() -> Fit:
    """Give a fit of draws that are made up: what follows from draws is the same whatever drew them."""
    rng = np.random.default_rng(1)
    spec = specify(FORMULA, family="cumulative", link="probit", disc=DISC)
    data = trials()[list(spec.formula.variables)]
    coding = code(spec.formula, data, thresholds=True)
    design = coding.design(data, "rating")
    shape = (CHAINS, DRAWS)
    sample = Sample(
        b=rng.normal(0.5, 0.2, (*shape, 1)),
        sd=(np.exp(rng.normal(-0.5, 0.2, (*shape, 1))),),
        cor=(np.empty((*shape, 0)),),
        r=(rng.normal(0, 0.4, (*shape, 6, 1)),),
        stats={name: np.zeros(shape) for name in ("diverging", "maxdepth_reached")},
        family={
            "thresholds": np.sort(rng.normal([-1.0, 0.1, 0.9], 0.1, (*shape, 3)), axis=-1),
            "disc": rng.normal([0.7, -0.9], 0.2, (*shape, 2)),
        },
    )
    priors = resolve_priors(design, (), spec.family)
    draws = label(sample, design, data)
    return Fit(spec, data, coding, design, priors, draws, Settings(DRAWS, 1, CHAINS), (), {}, {})


def terms(made: Fit) -> dict[str, np.ndarray]:
    return {str(name): column.to_numpy() for name, column in made.draws_table.flat(random=True).items()}


def latent(made: Fit, rows: pd.DataFrame, effect: Any = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return eta, disc (draws, rows) and thresholds (draws, 3), from the columns of the draws alone."""
    of = terms(made)
    eta = np.outer(of["b_x"], rows["x"]) + effect
    disc = np.exp(
        np.outer(of["b_disc_kinddotted"], (rows["kind"] == "dotted").astype(float))
        + np.outer(of["b_disc_depth"], rows["depth"])
    )
    return eta, disc, np.stack([of[f"b_Intercept[{k}]"] for k in (1, 2, 3)], axis=1)


def probabilities(eta: np.ndarray, disc: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """Return P(y = k), shape (draws, rows, 4)."""
    below = stats.norm.cdf(disc[..., np.newaxis] * (tau[:, np.newaxis] - eta[..., np.newaxis]))
    return np.diff(below, axis=-1, prepend=0.0, append=1.0)


def mean_rating(eta: np.ndarray, disc: np.ndarray, tau: np.ndarray) -> np.ndarray:
    return np.asarray(probabilities(eta, disc, tau) @ np.arange(1.0, 5.0))


def effects_of_people(made: Fit) -> np.ndarray:
    of = terms(made)
    return np.stack([of[f"r_participant[{name},Intercept]"] for name in made.data["participant"]], axis=1)


def densities(made: Fit) -> np.ndarray:
    """Return the log-density of every trial in every draw."""
    p = probabilities(*latent(made, made.data, effects_of_people(made)))
    return np.log(p[:, np.arange(120), made.data["rating"].to_numpy() - 1])


def test_the_terms_stand_with_the_fixed_effects_and_their_priors_are_reached_by_name(made):
    table = made.terms()
    assert list(table[table["class"] == "b"]["term"]) == [
        *(f"b_Intercept[{k}]" for k in (1, 2, 3)),
        *("b_x", "b_disc_kinddotted", "b_disc_depth"),
    ]

    def laws(*overrides):
        return {p.name: str(p.distribution) for p in resolve_priors(made.design, overrides, made.spec.family)}

    assert laws()["b_disc_kinddotted"] == laws()["b_disc_depth"] == "normal(0, 1)"
    everything = laws("b ~ normal(0, 9)", "b_disc ~ normal(0, 0.3)", "b_disc_depth ~ cauchy(0, 2)")
    assert everything["b_x"] == "normal(0, 9)"
    assert (everything["b_disc_kinddotted"], everything["b_disc_depth"]) == ("normal(0, 0.3)", "cauchy(0, 2)")
    wide = code(made.spec.formula, trials(depth=trials()["depth"] * 4), thresholds=True)
    law = {p.name: str(p.distribution) for p in resolve_priors(wide.design(trials(), "rating"), (), made.spec.family)}
    assert law["b_disc_depth"] == "normal(0, 1)"  # over the range of the rows that are fitted
    with pytest.raises(PriorError, match="b_disc_kinddotted"):
        laws("b_disc_kind ~ normal(0, 1)")


def test_a_disc_term_does_not_take_the_name_of_a_fixed_effect():
    spec = specify("rating ~ disc_x", family="cumulative", disc="x")
    with pytest.raises(FormulaError, match="bears the name of an effect on disc"):
        code(spec.formula, trials(disc_x=trials()["depth"]), thresholds=True)
    plain = specify("rating ~ disc_x", family="cumulative")
    frame = trials(disc_x=trials()["depth"])
    design = code(plain.formula, frame, thresholds=True).design(frame, "rating")
    (law,) = (p for p in resolve_priors(design, ["b ~ normal(0, 7)"], plain.family) if p.coef == "disc_x")
    assert str(law.distribution) == "normal(0, 7)"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"family": "bernoulli"}, "disc is of the family cumulative; bernoulli has none"),
        ({"family": "lognormal"}, "disc is of the family cumulative; lognormal has none"),
        ({"engine": "laplace"}, "maximum likelihood cannot fit the family cumulative"),
        ({"disc": "kinds"}, "'kinds', which is no column of the trials .did you mean 'kind'"),
        ({"disc": ""}, "nothing stands right of '~' in 'disc ~"),
        ({"disc": "1"}, "disc names no column in '1'"),
        ({"disc": "kind - kind"}, "disc names no column in 'kind - kind'"),
        ({"disc": "0 + kind"}, "disc is 1 at the reference; leave out the 0 in '0 \\+ kind'"),
        ({"disc": "kind + (1 | participant)"}, "disc takes columns without group effects"),
        ({"disc": "mo(depth)"}, "disc takes columns without group effects"),
        ({"disc": "offset(depth)"}, "disc takes columns without group effects"),
        ({"disc": "rating"}, "the response 'rating' cannot be what disc depends on"),
        ({"disc": "depth + kind +"}, "a term is missing after this sign"),
        ({"disc": "x + half"}, "half"),
        ({"disc": "log(depth)"}, "'log.depth.' in 'rating ~ .*; disc ~ log.depth.' is not finite"),
        ({"two": True}, "disc needs ratings of three levels at least"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(words, message):
    frame = trials(half=trials()["x"] / 2)
    if words.pop("two", False):
        frame["rating"] = np.resize([1, 2], 120)
    with pytest.raises(InputError, match=message):
        fit(FORMULA, frame, **({"family": "cumulative", "disc": DISC} | words))


def test_the_key_is_written_only_where_it_was_set():
    spec = specify(FORMULA, family="cumulative", disc="kind+depth")
    assert spec.to_table()["disc"] == DISC
    assert ModelSpec.from_table(spec.to_table()) == spec
    assert "disc" not in specify(FORMULA, family="cumulative").to_table()
    assert set(spec.formula.variables) == {"rating", "x", "participant", "kind", "depth"}
    assert spec.formula.text == FORMULA
    odd = specify("rating ~ x", family="cumulative", disc="`my kind` * C(kind, sum)")
    assert ModelSpec.from_table(odd.to_table()) == odd


def test_the_likelihood_of_every_trial_has_its_own_disc(made):
    np.testing.assert_allclose(log_likelihood(made), densities(made).sum(axis=1))
    middle = {name: values.mean() for name, values in terms(made).items()}
    data = made.data
    eta = middle["b_x"] * data["x"] + [middle[f"r_participant[{name},Intercept]"] for name in data["participant"]]
    g = middle["b_disc_kinddotted"] * (data["kind"] == "dotted") + middle["b_disc_depth"] * data["depth"]
    tau = np.array([[middle[f"b_Intercept[{k}]"] for k in (1, 2, 3)]])
    p = probabilities(eta.to_numpy()[np.newaxis], np.exp(g.to_numpy())[np.newaxis], tau)[0]
    expected = np.log(p[np.arange(120), data["rating"].to_numpy() - 1]).sum()
    assert recompute(made.spec, made.design, made.result, made.settings) == pytest.approx(expected)


def test_sensitivity_scales_its_prior(made):
    flat = made.draws_table.flat()
    without = [prior for prior in made.priors if prior.part != "disc"]
    part = log_prior(made, flat) - log_prior(Fit(**{**vars(made), "priors": tuple(without)}), flat)
    expected = sum(stats.norm.logpdf(flat[name]) for name in ("b_disc_kinddotted", "b_disc_depth"))
    np.testing.assert_allclose(part, expected)
    assert "b_disc_depth" in set(prior_sensitivity(made)["term"])


def test_leaving_out_a_trial_or_a_person_uses_it(made):
    trial = densities(made)
    weights, _ = importance(trial.reshape(CHAINS, DRAWS, 120))
    expected = np.log(np.exp(trial + weights).sum(axis=0))
    for at_once in (200, 10**6):
        np.testing.assert_allclose(loo(made, at_once=at_once).elpd_i, expected)
    # A person's own effect integrated by SciPy, which takes the integrand as it stands.
    of, data = terms(made), made.data
    unit = np.zeros((CHAINS * DRAWS, 6))
    for i in range(6):
        rows = data[data["participant"] == f"p{i}"]
        chosen = rows["rating"].to_numpy() - 1
        eta, disc, tau = latent(made, rows)
        for s in range(CHAINS * DRAWS):

            def height(
                v: float, s: int = s, eta: Any = eta, disc: Any = disc, tau: Any = tau, k: Any = chosen
            ) -> float:
                p = probabilities(eta[[s]] + v * of["sd_participant__Intercept"][s], disc[[s]], tau[[s]])[0]
                return float(np.prod(p[np.arange(len(k)), k]) * stats.norm.pdf(v))

            unit[s, i] = np.log(integrate.quad(height, -8, 8, points=[-1, 0, 1], epsabs=0, epsrel=1e-8)[0])
    weights, _ = importance(unit.reshape(CHAINS, DRAWS, 6))
    found = loo(made, "participant")
    np.testing.assert_allclose(found.elpd_i, np.log(np.exp(unit + weights).sum(axis=0)), rtol=1e-5)


def test_replicates_have_it(made):
    table = predictive_accuracy(made, made.data[["kind"]], draws=CHAINS * DRAWS)
    expected = mean_rating(*latent(made, made.data, effects_of_people(made)))
    for row in table.itertuples():
        here = (made.data["kind"] == row.kind).to_numpy()
        error = expected[:, here].std() / np.sqrt(here.sum() * CHAINS * DRAWS) * 4
        assert row.estimate == pytest.approx(expected[:, here].mean(), abs=4 * error + 0.02)
    prior = prior_predictive_accuracy(made, "kind", draws=4000).groupby("kind", observed=True)["accuracy"]
    assert prior.mean().max() == pytest.approx(2.5, abs=0.1)
    assert prior.std()["dotted"] != prior.std()["plain"]


GRID = pd.DataFrame({"x": 0.0, "kind": ["plain", "dotted"]})


def test_effects_on_a_grid_are_of_its_rows(made):
    x, depth = made.data["x"].mean(), made.data["depth"].mean()
    means = mean_rating(*latent(made, GRID.assign(x=x, depth=depth)))
    table = marginal_means(made, "kind")
    assert set(table["scale"]) == {"response"}
    np.testing.assert_allclose(table[table["target"] == "typical"]["estimate"], means.mean(axis=0))
    compared = contrasts(made, "kind")
    typical = compared[compared["target"] == "typical"]
    np.testing.assert_allclose(typical["estimate"], [(means[:, 1] - means[:, 0]).mean()])
    # The population: over a normal effect inside disc, by nodes of another rule.
    of, (eta, disc, tau) = terms(made), latent(made, GRID.assign(x=x, depth=depth))
    z = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)[::20]
    at = [mean_rating(eta + v * of["sd_participant__Intercept"][:, np.newaxis], disc, tau) for v in z]
    found = table[table["target"] == "population"]["estimate"]
    np.testing.assert_allclose(found, np.mean(at, axis=0).mean(axis=0), atol=0.01)
    sd = of["sd_participant__Intercept"][:, np.newaxis, np.newaxis]
    scaled = disc[..., np.newaxis] * (tau[:, np.newaxis] - eta[..., np.newaxis])
    exact = 4.0 - stats.norm.cdf(scaled / np.sqrt(1.0 + (disc[..., np.newaxis] * sd) ** 2)).sum(axis=-1)
    np.testing.assert_allclose(found, exact.mean(axis=0), rtol=1e-9)


def test_emmeans_average_it_on_its_logarithm(made):
    of, depth = terms(made), made.data["depth"].mean()
    table = emmeans(made, "x", at={"x": [0.0, 1.0]}, scale="response").table()
    rows = pd.DataFrame({"x": [0.0, 1.0]})
    g = (0.5 * of["b_disc_kinddotted"] + of["b_disc_depth"] * depth)[:, np.newaxis]
    eta = np.outer(of["b_x"], rows["x"])
    tau = latent(made, GRID.assign(depth=depth))[2]
    np.testing.assert_allclose(table["response"], mean_rating(eta, np.exp(g) * np.ones(2), tau).mean(axis=0))
    for words in ({"regrid": "response"}, {"target": "population", "scale": "response"}):
        both = pd.concat([GRID.assign(x=at, depth=depth) for at in (0.0, 1.0)])
        eta, disc, tau = latent(made, both)
        if "target" in words:
            sd = of["sd_participant__Intercept"][:, np.newaxis]
            disc, eta = disc / np.sqrt(1 + (disc * sd) ** 2), eta
        p = mean_rating(eta, disc, tau).reshape(-1, 2, 2).mean(axis=2)
        found = emmeans(made, "x", at={"x": [0.0, 1.0]}, **words).table()
        np.testing.assert_allclose(found["response"], p.mean(axis=0), rtol=1e-8)
    # Simultaneous limits need a way back to the response that every draw shares, which there is not.
    limits = emmeans(made, "kind", scale="response", adjust="mvt").table()
    assert (limits["lower_CL"] < limits["response"]).all()


def test_averages_over_trials_are_of_each_trial(made):
    np.testing.assert_allclose(
        predictions(made, by=False)["estimate"], mean_rating(*latent(made, made.data)).mean(axis=0)
    )
    plain, dotted = (mean_rating(*latent(made, made.data.assign(kind=kind))) for kind in ("plain", "dotted"))
    found = comparisons(made, "kind")
    np.testing.assert_allclose(found["estimate"], [(dotted - plain).mean()])
    h = 1e-5
    up, down = (mean_rating(*latent(made, made.data.assign(depth=made.data["depth"] + d))) for d in (h, -h))
    np.testing.assert_allclose(avg_slopes(made, "depth")["estimate"], [((up - down) / (2 * h)).mean()], rtol=1e-6)


def test_a_share_of_variance_counts_each_trials_own(made):
    of, (_, disc, _) = terms(made), latent(made, made.data)
    fixed = of["b_x"] ** 2 * made.data["x"].var()
    group, own = of["sd_participant__Intercept"] ** 2, (1.0 / disc**2).mean(axis=1)
    table = variance_shares(made).set_index(["quantity", "group"])["estimate"]
    assert table["r2_marginal", ""] == pytest.approx((fixed / (fixed + group + own)).mean())
    assert table["icc", ""] == pytest.approx((group / (group + own)).mean())


def test_a_fit_is_written_read_and_told_apart(tmp_path, run):
    frame = trials()
    frame["trial"] = np.arange(120)
    frame.to_csv(tmp_path / "trials.csv", index=False)
    command = ["fit", tmp_path / "trials.csv", "--formula", FORMULA, "--family", "cumulative", "--draws", "60"]
    command += ["--tune", "100", "--chains", "2", "--out", tmp_path / "unequal", "--disc", "kind + depth", "--json"]
    answer = run(*command, "--prior", "b_disc ~ normal(0, 0.5)")
    summary = json.loads(answer.out)
    assert summary["fit"]["disc"] == DISC and summary["fit"]["formula"] == FORMULA
    # Text has the order of its letters: dotted is the reference here.
    assert {"b_disc_kindplain", "b_disc_depth"} <= {row["term"] for row in summary["terms"]}
    assert 'disc = "kind + depth"' in (tmp_path / "unequal" / "spec.toml").read_text()
    again = load_fit(tmp_path / "unequal")
    assert again.spec.formula.disc == DISC and again.design.scale is not None
    assert "disc ~ kind + depth" in repr(again)
    told = run("summary", tmp_path / "unequal")
    assert f"Formula: {FORMULA}; disc ~ kind + depth" in told.out and "unequal variance" in told.out
    text = pd.read_csv(tmp_path / "trials.csv")
    plain = fit(FORMULA, text, family="cumulative", draws=60, tune=100, chains=2, progress=False)
    assert "disc" not in plain.summary()["fit"] and plain.design.scale is None
    assert set(compare({"plain": plain, "unequal": again})["formula"]) == {FORMULA, f"{FORMULA}; disc ~ {DISC}"}
