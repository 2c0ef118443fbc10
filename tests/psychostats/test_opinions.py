"""Second and third opinions: times and ratings by the main model's predictors, beside accuracy and never instead."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from studies import SMALL, make_report

from psychostats.errors import InputError
from psychostats.simulation import write_simulation
from psychostats.study import read_study

pytestmark = pytest.mark.once

OPINIONS = """
[[opinions]]
response = "rt"

[[opinions]]
response = "confidence"
link = "probit"
label = "how sure (1 to 4)"
priors = ["b ~ normal(0, 1)"]
"""
FASTER, SURER = -0.5, 1.0  # what distributed features do to the logarithm of time, and to the latent confidence


def study_with(folder, text=OPINIONS):
    path = folder / "study.toml"
    written = SMALL.read_text().replace("[sources]", f"{text}\n[sources]", 1)
    path.write_text(written)
    return path


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("opinions")
    study = study_with(folder)
    write_simulation(read_study(SMALL), folder / "trials.csv")
    trials = pd.read_csv(folder / "trials.csv")
    rng = np.random.default_rng(4)
    shown = (trials["representation"] == "distributed").to_numpy(dtype=float)
    trials["rt"] = 0.3 + np.exp(0.4 + FASTER * shown + 0.3 * rng.normal(size=len(trials)))
    latent = SURER * shown + rng.normal(size=len(trials))
    trials["confidence"] = 1 + (latent[:, np.newaxis] > [-0.5, 0.5, 1.5]).sum(axis=1)
    trials.to_csv(folder / "trials.csv", index=False)
    return make_report(study, folder / "trials.csv", folder / "report")


def test_every_opinion_is_fitted_on_its_own_trials(report):
    analysis = report.analysis
    assert [(one.model.name, one.experiment) for one in analysis.opinions] == [
        (response, experiment) for response in ("rt", "confidence") for experiment in ("first", "second")
    ]
    main = analysis.study.models[0].spec().formula.text.partition("~")[2]
    for one in analysis.opinions:
        assert one.fit.spec.formula.text.partition("~")[2] == main
        kept = analysis.excluded.kept
        mine = kept[kept["experiment"].astype(str) == one.experiment]
        expected = mine[mine["correct"] == 1] if one.model.name == "rt" else mine
        assert one.trials == len(one.fit.data) == len(expected)
        assert (report.out / "fits" / f"{one.model.name}_{one.experiment}" / "draws.nc").is_file()
    families = {one.model.name: one.fit.spec.family.describe() for one in analysis.opinions}
    assert families["confidence"] == "cumulative, probit link"
    assert families["rt"].startswith("shifted lognormal")
    assert [prior["prior"] for prior in analysis.opinions[2].fit.summary()["priors"] if prior["coef"] == "depth"] == [
        "normal(0, 1)"
    ]


def test_what_was_true_of_times_and_ratings_comes_back(report):
    for one in report.analysis.opinions:
        (row,) = one.headline.to_dict("records")
        slower = np.exp(0.4 + 0.3**2 / 2) * (np.exp(FASTER) - 1)
        truth = {"rt": slower, "confidence": None}[one.model.name]
        if truth is None:
            from scipy import stats

            truth = sum(stats.norm.sf(t - SURER) - stats.norm.sf(t) for t in (-0.5, 0.5, 1.5))
        assert abs(row["estimate"] - truth) < 4 * row["sd"]
        assert np.sign(row["conf_low"]) == np.sign(row["conf_high"]) == np.sign(truth)


def test_the_report_shows_them_beside_accuracy(report):
    html = report.html
    assert "Other responses to the same trials" in html and "how sure (1 to 4)" in html
    assert (report.out / "figures" / "opinions.svg").is_file()
    assert "not new evidence" in html
    effects = pd.read_csv(report.out / "tables" / "first_effects.csv")
    assert {"rt", "confidence"} <= set(effects["model"])
    terms = pd.read_csv(report.out / "tables" / "first_terms.csv")
    assert {"sigma", "ndt"} <= set(terms.loc[terms["model"] == "rt", "term"])
    # A later run answers from the fits and may replace what this one wrote.
    again = make_report(report.study, report.trials, report.out)
    assert again.good == report.good


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[opinions]]\nresponse = "rt"\n[[opinions]]\nresponse = "rt"', "two opinions are about the same response"),
        ('[[opinions]]\nresponse = "rt"\nfamily = "afc"', "answers are for ..models"),
        ('[[opinions]]\nresponse = "rt"\nfamily = "lognorm"', "opinion 'rt': the family 'lognorm' is unknown"),
        ('[[opinions]]\nresponse = "rt"\ntrials = "right"', r"\[opinions\] .*trials is 'right'"),
        ("[[opinions]]\nfamily = 'gaussian'", r"\[opinions\] lacks .*response"),
        ("[[opinions]]\nresponses = 'rt'", r"unknown key 'responses' in \[opinions\] .did you mean 'response'"),
        (
            '[[models]]\nname = "times"\nformula = "rt ~ representation * depth"\nfamily = "lognormal"',
            r"model 'times' is about another response than 'correct', .* in \[\[opinions\]\]",
        ),
    ],
)
def test_a_study_that_asks_wrongly_is_told(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_study(study_with(tmp_path, text))


def test_a_response_that_cannot_be_one_is_named(tmp_path):
    write_simulation(read_study(SMALL), tmp_path / "trials.csv")
    trials = pd.read_csv(tmp_path / "trials.csv")
    trials.loc[trials["phase"] == "main", "rt"] = 0.0
    trials.to_csv(tmp_path / "trials.csv", index=False)
    study = study_with(tmp_path, '[[opinions]]\nresponse = "rt"')
    with pytest.raises(InputError, match=r"the opinion .rt in first.: the response .rt. is 0 in row .* above zero"):
        make_report(study, tmp_path / "trials.csv", tmp_path / "report")
