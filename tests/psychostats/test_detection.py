"""d' and criterion are those of the observed rates, and of the true model where that is known."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from scipy.special import ndtri
from studies import ROOT, known_fit, study_of

from psychostats.design import code
from psychostats.detection import detection
from psychostats.errors import InputError, StudyError
from psychostats.fit import fit
from psychostats.intervals import Interval
from psychostats.results import Known, summarise_fit
from psychostats.simulate import simulate_trials, true_parameters
from psychostats.spec import specify
from psychostats.study import read_study
from psychostats.tables import _true_detection


def counts(hits: int, false_alarms: int, each: int = 100) -> pd.DataFrame:
    answers = [1] * hits + [0] * (each - hits) + [1] * false_alarms + [0] * (each - false_alarms)
    signal = pd.Categorical(["present"] * each + ["absent"] * each, ["absent", "present"])
    return pd.DataFrame({"said_yes": answers, "signal": signal})


def test_without_people_they_are_z_of_the_observed_rates():
    made = fit(specify("said_yes ~ signal", family="bernoulli", link="probit"), counts(69, 16), engine="laplace")
    found = detection(made, "signal").set_index("scale")["estimate"]
    assert found["dprime"] == pytest.approx(ndtri(0.69) - ndtri(0.16), abs=1e-6)
    assert found["criterion"] == pytest.approx(-0.5 * (ndtri(0.69) + ndtri(0.16)), abs=1e-6)
    assert found["criterion"] > 0  # fewer than half of the answers are yes


def test_of_a_known_model_they_are_its_coefficients():
    plan = replace(read_study(ROOT / "data" / "studies" / "detection.toml").plan(), participants={"lab": 4})
    trials = simulate_trials(plan, 1)
    coding = code(plan.spec.formula, trials)
    truth = true_parameters(coding, coding.random(trials), plan.truth["lab"])
    known = Known(plan.spec, coding, Interval("eti", 0.95), truth)
    found = detection(known, "signal", by={"strength": [2.0, 8.0]}).set_index(["scale", "strength"])["estimate"]
    for strength in (2.0, 8.0):
        assert found["dprime", strength] == pytest.approx(0.2 + 0.25 * strength)
        assert found["criterion", strength] == pytest.approx(0.8 - 0.5 * (0.2 + 0.25 * strength))


def test_a_simulated_study_shows_the_true_values_beside_the_estimates():
    study = read_study(ROOT / "data" / "studies" / "detection.toml")
    study = study.model_copy(update={"effects": study.effects.model_copy(update={"at": (2.0, 4.0, 6.0, 8.0)})})
    rows = simulate_trials(study.plan(), 1)
    b = {"Intercept": -0.8, "signalpresent": 0.5, "strength": 0.0, "signalpresent:strength": 0.25}
    sd = {"participant": [0.35, 0.4]}
    model = study.models[0]
    made = known_fit(model.formula, rows, b, sd=sd, noise=0.01, family=model.family, link=model.link)
    found = list(_true_detection(summarise_fit(study, "lab", model, made, rows), "strength"))
    assert [name for name, *_ in found[:4]] == [
        f"{what} at {at}" for at in ("mean strength (5.00)", "strength 2") for what in ("d′", "criterion c")
    ]
    assert len(found) == 2 * (1 + len(study.effects.places))
    for place, at in enumerate((5.0, *study.effects.places)):
        (_, true, row), (_, true_criterion, criterion) = found[2 * place : 2 * place + 2]
        assert true == pytest.approx(0.2 + 0.25 * at)
        assert true_criterion == pytest.approx(0.8 - 0.5 * true)
        assert row["estimate"] == pytest.approx(true + 0.3, abs=0.02)
        assert criterion["estimate"] == pytest.approx(true_criterion - 0.15, abs=0.02)


def test_other_models_are_refused():
    made = fit(specify("said_yes ~ signal", family="bernoulli"), counts(60, 30), engine="laplace")
    with pytest.raises(InputError, match="of answers yes and no with the link probit"):
        detection(made, "signal")


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_a_study_of_detection_needs_the_probit_link(tmp_path, link):
    text = f"""
[[models]]
name = "main"
formula = "said_yes ~ signal + (1 | participant)"
family = "bernoulli"
link = "{link}"
[effects]
factor = "signal"
detection = true
"""
    if link == "probit":
        assert study_of(tmp_path, text).effects.detection
        return
    with pytest.raises(StudyError, match="detection needs answers yes or no with the link probit"):
        study_of(tmp_path, text)
