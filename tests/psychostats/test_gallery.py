"""The worked studies: each is simulated as its plan says, and what is true of it can be recovered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from scipy.special import expit, logit
from studies import ROOT, study_of

from psychostats.errors import InputError, StudyError
from psychostats.fit import fit
from psychostats.measurements import ShiftedLognormal
from psychostats.ratings import Cumulative
from psychostats.simulate import Plan, simulate_trials
from psychostats.simulation import write_simulation
from psychostats.spec import specify
from psychostats.study import Study, read_study

NAMES = ("colin2024", "detection", "groups", "confidence", "response_time")


def worked(name: str) -> Study:
    return read_study(ROOT / "data" / "studies" / f"{name}.toml")


def enlarged(name: str, people: int, **truth: float) -> Plan:
    """A worked study with more people, and with other values of some terms; every SD is 0 unless it is given."""
    plan = worked(name).plan()
    (experiment, known), *_ = plan.truth.items()
    known = {term: 0.0 if term.startswith(("sd_", "cor_")) else value for term, value in known.items()} | truth
    return replace(plan, participants={experiment: people}, truth={experiment: known}, careless=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_worked_study_is_simulated_without_a_fault_and_says_so(tmp_path, name):
    study = worked(name)
    count, readme = write_simulation(study, tmp_path / "trials.csv")
    found = study.examine(tmp_path / "trials.csv")
    assert found.errors == ()
    assert len(found.frame) == count
    assert found.frame["participant"].nunique() == sum(study.design.participants.values())
    assert study.study.simulated
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("**Simulated data")
    answers = study.measure.column == "correct"
    assert ("are right on" in text, "sides and confidence" in text) == (answers, answers)
    assert ("pairs of features" in text) == (name == "colin2024")


def test_detection_crosses_signal_and_strength_within_each_person():
    trials = simulate_trials(worked("detection").plan(), 1)
    assert list(trials) == ["participant", "experiment", "trial", "phase", "signal", "strength", "said_yes", "rt"]
    each = trials.groupby(["participant", "signal", "strength"], observed=True).size()
    assert len(each) == 32 * 2 * 4
    assert set(each) == {10}
    assert set(trials["said_yes"]) == {0.0, 1.0}


def test_items_of_another_name_come_round_in_each_condition():
    trials = simulate_trials(worked("confidence").plan(), 1)
    assert not trials.duplicated(["participant", "picture"]).any()
    seen = trials.groupby(["picture", "feedback"], observed=True).size()
    assert (len(seen), np.ptp(seen)) == (120, 0)


def test_between_people_each_has_one_level():
    trials = simulate_trials(worked("groups").plan(), 1)
    levels = trials[["participant", "expertise"]].drop_duplicates()
    assert levels["expertise"].value_counts().to_dict() == {"student": 30, "radiologist": 30}


def test_assignment_is_judged_of_the_studys_own_factor(tmp_path):
    study = worked("groups")
    trials = simulate_trials(study.plan(), 1)
    trials.loc[trials["participant"] == "P001", "expertise"] = "student"
    one = trials.index[(trials["participant"] == "P001") & (trials["phase"] == "main")][0]
    trials.loc[one, "expertise"] = "radiologist"
    trials.to_csv(tmp_path / "trials.csv", index=False)
    said = [fault.message for fault in study.examine(tmp_path / "trials.csv").errors]
    assert len(said) == 1
    assert "some participants have several levels of 'expertise': " in said[0]
    assert "P001" in said[0]


def test_times_have_the_quantiles_of_a_shifted_lognormal():
    plan = enlarged("response_time", 300)
    trials = simulate_trials(plan, 2)
    for level, eta in (("few", -0.4), ("many", -0.4 + 0.35)):
        found = trials.loc[trials["distractors"] == level, "rt"] - 0.25
        assert stats.kstest(found, stats.lognorm(0.45, scale=np.exp(eta)).cdf).pvalue > 0.001
    with_people = simulate_trials(enlarged("response_time", 900, sd_participant__Intercept=0.5), 2)
    logs = np.log(with_people.loc[with_people["distractors"] == "few", "rt"] - 0.25)
    between = logs.groupby(with_people["participant"]).mean().var() - 0.45**2 / 30
    assert between == pytest.approx(0.25, rel=4 * np.sqrt(2 / 900))


def test_times_and_shift_are_recovered_by_their_likelihood():
    trials = simulate_trials(enlarged("response_time", 200), 3)
    many, time = (trials["distractors"] == "many").to_numpy(dtype=float), trials["rt"].to_numpy()

    def cost(theta: np.ndarray) -> float:
        family = ShiftedLognormal("shifted_lognormal", "log", sigma=np.exp(theta[2]), ndt=time.min() * expit(theta[3]))
        return -float(family.log_density(time, 1.0, theta[0] + theta[1] * many).mean())

    found = optimize.minimize(
        cost, [0.0, 0.0, 0.0, 0.0], method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-6}
    )
    b0, b1, sigma, ndt = *found.x[:2], np.exp(found.x[2]), time.min() * expit(found.x[3])
    assert [b0, b1, sigma, ndt] == pytest.approx([-0.4, 0.35, 0.45, 0.25], abs=0.05)


def test_ratings_have_the_shares_that_thresholds_give_them():
    plan = enlarged("confidence", 400)
    trials = simulate_trials(plan, 2)
    tau = np.array([-1.6, -0.2, 1.4])
    for level, eta in (("without", 0.0), ("with", 0.6)):
        share = np.diff(np.concatenate([[0.0], expit(tau - eta), [1.0]]))
        counts = trials.loc[trials["feedback"] == level, "confidence"].value_counts().sort_index()
        assert stats.chisquare(counts, share * counts.sum()).pvalue > 0.001
    # Under a probit link the average over people is again a probit, flatter by their spread.
    spread = replace(
        enlarged("confidence", 2000, sd_participant__Intercept=1.0),
        spec=specify(plan.spec.formula.text, family="cumulative", link="probit"),
    )
    rows = simulate_trials(replace(spread, main=12), 5)
    below = (rows.loc[rows["feedback"] == "without", "confidence"] <= 1).mean()
    assert below == pytest.approx(stats.norm.cdf(-1.6 / np.sqrt(2.0)), abs=0.02)


def test_thresholds_are_recovered_by_their_likelihood():
    trials = simulate_trials(enlarged("confidence", 200), 4)
    given, rated = (trials["feedback"] == "with").to_numpy(dtype=float), trials["confidence"].to_numpy()

    def cost(theta: np.ndarray) -> float:
        family = Cumulative("cumulative", "logit", thresholds=np.sort(theta[:3]))
        return -float(family.log_density(rated, 1.0, theta[3] * given).mean())

    start = [*logit([0.25, 0.5, 0.75]), 0.0]
    found = optimize.minimize(cost, start, method="Nelder-Mead", options={"maxiter": 4000})
    assert found.x == pytest.approx([-1.6, -0.2, 1.4, 0.6], abs=0.12)


def test_scores_have_their_mean_and_sigma(tmp_path):
    study = study_of(tmp_path, SCORES)
    trials = simulate_trials(replace(study.plan(), participants={"lab": 800}), 1)
    for level, mean in (("old", 50.0), ("new", 53.0)):
        part = trials.loc[trials["method"] == level, "score"]
        assert part.mean() == pytest.approx(mean, abs=4 * 8.0 / np.sqrt(len(part)))
        assert part.std() == pytest.approx(8.0, rel=4 / np.sqrt(2 * len(part)))


def test_what_detection_hides_is_found_again():
    """d' and its rise with strength, by maximum likelihood with more people than the study has."""
    plan = worked("detection").plan()
    trials = simulate_trials(replace(plan, participants={"lab": 120}), 7)
    made = fit(plan.spec, trials, engine="laplace")
    terms = made.terms().set_index("term")
    for name, true in plan.truth["lab"].items():
        if name.startswith("b_"):
            assert abs(terms.loc[name, "estimate"] - true) < 3.5 * terms.loc[name, "sd"], name
    assert terms.loc["sd_participant__signalpresent", "estimate"] == pytest.approx(0.4, abs=0.15)


def test_what_groups_differ_by_is_found_again():
    plan = worked("groups").plan()
    trials = simulate_trials(replace(plan, participants={"clinic": 200}, careless=0), 1)
    made = fit(plan.spec, trials[(trials["phase"] == "main") & ~trials["catch"]], engine="laplace")
    terms = made.terms().set_index("term")
    for name in ("b_Intercept", "b_expertiseradiologist"):
        assert abs(terms.loc[name, "estimate"] - plan.truth["clinic"][name]) < 3.5 * terms.loc[name, "sd"], name


SCORES = """
[levels]
method = ["old", "new"]
[design]
participants = { lab = 20 }
main = 10
[simulate]
formula = "score ~ method + (1 | participant)"
family = "gaussian"
[simulate.truth.lab]
b_Intercept = 50.0
b_methodnew = 3.0
sigma = 8.0
sd_participant__Intercept = 0.0
[[models]]
name = "main"
formula = "score ~ method + (1 | participant)"
family = "gaussian"
[effects]
factor = "method"
"""


@pytest.mark.parametrize("family", ["answers", "rating", "positive"])
def test_careless_people_answer_without_the_condition(family):
    name = {"answers": "detection", "rating": "confidence", "positive": "response_time"}[family]
    plan = replace(enlarged(name, 150), careless=150)
    trials = simulate_trials(plan, 1)
    response = trials[plan.response]
    assert (
        stats.ttest_ind(*(part for _, part in response.groupby(trials[plan.condition], observed=True))).pvalue > 0.001
    )
    if family == "positive":
        usual = simulate_trials(replace(plan, careless=0), 1)["rt"]
        assert response.median() == pytest.approx(usual.median() / 4, rel=0.05)
    else:
        shares = response.value_counts(normalize=True)
        assert shares.to_numpy() == pytest.approx(np.full(len(shares), 1 / len(shares)), abs=0.02)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sigma": 0.0}, "the true value of sigma is 0; it must be above 0"),
        ({"ndt": -0.1}, "the true value of ndt is -0.1"),
        ({"ndt": None}, "the true value of ndt is missing"),
        ({"sigm": 0.4}, r"sigm is no term of the model \(did you mean 'sigma'\?\)"),
    ],
)
def test_a_familys_own_true_values_must_be_some(change, said):
    plan = worked("response_time").plan()
    terms = {name: value for name, value in (plan.truth["lab"] | change).items() if value is not None}
    with pytest.raises(InputError, match=said):
        simulate_trials(replace(plan, truth={"lab": terms}), 1)


def test_true_thresholds_must_rise():
    plan = worked("confidence").plan()
    terms = plan.truth["lab"] | {"b_Intercept[2]": -2.0}
    with pytest.raises(InputError, match=r"the true thresholds are -1\.6, -2, 1\.4; each must be above the last"):
        simulate_trials(replace(plan, truth={"lab": terms}), 1)


def test_plans_that_make_no_sense_are_refused(tmp_path):
    plan = worked("detection").plan()
    with pytest.raises(
        InputError, match="catch and practice trials are right or wrong, and the response here is 'said_yes'"
    ):
        simulate_trials(replace(plan, catch=2), 1)
    with pytest.raises(InputError, match="two signals or more"):
        simulate_trials(replace(plan, representations=("absent",)), 1)
    with pytest.raises(InputError, match="4 values of strength cannot go with 1 layers"):
        simulate_trials(replace(plan, layers=("one",)), 1)
    text = SCORES.replace('[levels]\nmethod = ["old", "new"]', "")
    with pytest.raises(StudyError, match=r"lacks \[levels\] method, the conditions that a simulation needs"):
        study_of(tmp_path, text).plan()


def test_lost_trials_lose_their_response_and_its_time():
    trials = simulate_trials(replace(worked("confidence").plan(), missing_rate=0.2), 1)
    lost = trials["confidence"].isna()
    assert lost.mean() == pytest.approx(0.2, abs=0.04)
    pd.testing.assert_series_equal(lost, trials["rt"].isna(), check_names=False)
