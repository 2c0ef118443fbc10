"""All experiments in one model: its averages are those of the fit, and the comparison is of the two models it says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from runs import make_run
from studies import SMALL

from psychostats.analysis import analyse, contributions_of, with_feature_effects
from psychostats.design import code
from psychostats.effects import contrasts, interactions
from psychostats.errors import InputError, StudyError
from psychostats.features import examine_joined, read_run
from psychostats.fit import fit
from psychostats.joint import true_accuracy
from psychostats.predictor import linear_predictor
from psychostats.report import write_report
from psychostats.sentences import say_predicted_change
from psychostats.simulate import answer_trials, draw_levels, true_parameters
from psychostats.simulation import describe_simulation, write_simulation
from psychostats.study import read_study

GROUPS = "(1 + representation | participant) + (1 + representation | pair)"
SHOWN = f"""
[simulate.shown]
formula = "correct ~ experiment + representation * depth + evidence_elements + {GROUPS}"

[simulate.shown.truth]
b_Intercept = 0.4
b_experimentsecond = -0.1
b_representationdistributed = 0.5
b_depth = -0.2
"b_representationdistributed:depth" = 0.4
b_evidence_elements = 0.3
sd_participant__Intercept = 0.5
sd_participant__representationdistributed = 0.3
sd_pair__Intercept = 0.5
sd_pair__representationdistributed = 0.4

[joint]
draws = 150
tune = 150
chains = 2
"""


def study_with(folder, text=SHOWN, drop_plain=True):
    path = folder / "study.toml"
    written = SMALL.read_text().replace("[[models]]", f"{text}\n[[models]]", 1)
    if drop_plain:
        before, _, after = written.partition('[[models]]\nname = "plain"')
        written = before + after[after.index("[sources]") :]
    path.write_text(written)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    study, run = study_with(folder), make_run(folder / "run")
    write_simulation(read_study(study), folder / "trials.csv", run=read_run(run))
    said = []
    write_report(
        read_study(study), folder / "trials.csv", folder / "report", run=read_run(run), progress=False, say=said.append
    )
    return folder, study, run


@pytest.fixture(scope="module")
def analysis(made):
    folder, study, run = made
    return analyse(read_study(study), folder / "trials.csv", folder / "report" / "fits", run=read_run(run))


def test_both_models_are_of_all_trials(analysis):
    joint = analysis.joint
    kept = analysis.excluded.kept
    assert joint.trials == len(kept) == len(joint.fit.data) == len(joint.without.data)
    assert set(joint.without.design.names) < set(joint.fit.design.names)
    gone = set(joint.fit.design.names) - set(joint.without.design.names)
    assert gone and all("representation" in name and "depth" in name for name in gone)
    assert joint.fit in analysis.fits and joint.without in analysis.fits


def test_the_average_over_experiments_weighs_them_alike(analysis):
    joint = analysis.joint
    rows = joint.contrasts[(joint.contrasts["scale"] == "difference") & (joint.contrasts["target"] == "population")]
    rows = rows[rows[".at"] == "mean"]
    overall = rows[rows["experiment"].isna()]["estimate"].item()
    assert overall == pytest.approx(rows[rows["experiment"].notna()]["estimate"].mean(), abs=1e-12)
    expected = contrasts(joint.fit, "representation", interval=analysis.study.effects.as_interval())
    one = expected[(expected["scale"] == "difference") & (expected["target"] == "population")]
    assert joint.headline[joint.headline["scale"] == "difference"].set_index("target").loc[
        "population", "conf_low"
    ] == pytest.approx(one["conf_low"].item())


def test_experiments_are_compared_with_one_another(analysis):
    joint = analysis.joint
    expected = interactions(joint.fit, "representation", "experiment", ["first", "second"])
    found = joint.between[joint.between["scale"] == "link"]["estimate"].item()
    assert found == pytest.approx(expected[expected["scale"] == "link"]["estimate"].item())


def test_the_interaction_is_judged_by_aic_and_by_loo(analysis):
    joint = analysis.joint
    kept = analysis.excluded.kept
    one, other = (
        fit(formula, kept, family="afc", engine="laplace").likelihood
        for formula in (joint.fit.spec.formula.text, joint.without.spec.formula.text)
    )
    table = joint.maxima.set_index("model")
    assert table.loc["joint", "AIC"] == pytest.approx(one["AIC"], abs=1e-6)
    assert table.loc["joint", "chisq"] == pytest.approx(2 * (one["logLik"] - other["logLik"]), abs=1e-4)
    assert set(joint.predicted["model"]) == {"joint", "joint_without"}


def test_dprime_is_of_the_populations_accuracy(analysis):
    joint = analysis.joint
    rows = joint.dprime[(joint.dprime["scale"] == "dprime") & joint.dprime["experiment"].isna()]
    assert len(rows) == 4 and (rows["estimate"] > 0).all()


def test_the_report_says_and_shows_it(made):
    folder, _, _ = made
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    for anchor in ("joint", "figure-joint", "table-joint", "table-between", "table-interaction-models", "table-dprime"):
        assert f'id="{anchor}"' in page
    assert "Experiments were fitted on their own" not in page


# The truth of what was shown --------------------------------------------------------------------------------------


def test_people_answer_as_the_measured_stimuli_make_them(made):
    """Against the true model written out: at each level of evidence the share correct is the mean probability."""
    _, study, run = made
    study, run = read_study(study), read_run(run)
    people = study.simulate.people()
    lists = examine_joined(run.table("trial_lists"), run, levels=study.levels, needed=("stimulus",)).frame
    main = (lists["phase"] == "main") & ~lists["catch"]
    quiet = {name: value for name, value in people.truth.items() if name.startswith("b_")} | {
        name: 0.0 for name in people.truth if name.startswith("sd_")
    }
    calm = type(people)(people.spec, quiet | {"b_evidence_elements": 1.0})
    correct = np.mean([answer_trials(calm, lists, seed)["correct"][main.to_numpy()] for seed in range(40)], axis=0)
    rows = lists[main]
    second = (rows["experiment"] == "second").to_numpy(dtype=float)
    distributed = (rows["representation"] == "distributed").to_numpy(dtype=float)
    depth = rows["depth"].to_numpy()
    eta = 0.4 - 0.1 * second + 0.5 * distributed - 0.2 * depth + 0.4 * distributed * depth + rows["evidence_elements"]
    p = 0.5 + 0.5 / (1 + np.exp(-eta.to_numpy()))
    z = (correct - p).sum() / np.sqrt((p * (1 - p)).sum() / 40)
    assert abs(z) < 4
    thirds = np.digitize(p, np.quantile(p, [1 / 3, 2 / 3]))
    for third in range(3):
        here = thirds == third
        error = np.sqrt((p * (1 - p))[here].sum() / 40) / here.sum()
        assert correct[here].mean() == pytest.approx(p[here].mean(), abs=4 * error)


def test_a_pairs_effects_are_the_same_in_every_experiment(made):
    _, study, run = made
    study, run = read_study(study), read_run(run)
    people = study.simulate.people()
    alone = dict.fromkeys(people.truth, 0.0) | {"b_Intercept": 0.0, "sd_pair__Intercept": 6.0}
    lists = examine_joined(run.table("trial_lists"), run, levels=study.levels, needed=("stimulus",)).frame
    answers = answer_trials(type(people)(people.spec, alone), lists, 3)
    main = answers[(answers["phase"] == "main") & ~answers["catch"]]
    share = main.pivot_table("correct", "pair", "experiment", observed=True)
    assert share.corr().iloc[0, 1] > 0.8


def test_sides_are_those_of_the_list(made):
    _, study, run = made
    lists = read_run(run).table("trial_lists")
    answers = read_study(study).simulated_trials(1, read_run(run))
    answered = answers["correct"].notna()
    target = lists["target_side"].to_numpy()[answered]
    assert ((answers["response"][answered] == target) == (answers["correct"][answered] == 1)).all()


def test_one_seed_gives_one_table_and_another_another(made):
    _, study, run = made
    study, run = read_study(study), read_run(run)
    pd.testing.assert_frame_equal(study.simulated_trials(1, run), study.simulated_trials(1, run))
    assert not study.simulated_trials(1, run)["correct"].equals(study.simulated_trials(2, run)["correct"])


def test_the_true_accuracy_of_a_trial_is_its_mean_over_new_people_and_pairs(made, analysis):
    """Against drawing the group effects anew many times."""
    _, study, _ = made
    study = read_study(study)
    rows = analysis.excluded.kept.iloc[:6]
    kept = analysis.excluded.kept
    found = true_accuracy(study, kept)[:6]
    people = study.simulate.people()
    answered = kept.assign(correct=0)
    coding = code(people.spec.formula, answered)
    blocks = coding.random(answered)
    rng = np.random.default_rng(1)
    design = coding.design(answered)
    total = np.zeros(len(rows))
    for _ in range(3000):
        drawn = draw_levels(rng, true_parameters(coding, blocks, people.truth), blocks)
        total += people.spec.family.mean(linear_predictor(design, drawn)[0][:6])
    assert found == pytest.approx(total / 3000, abs=0.01)


def test_true_differences_stand_beside_the_estimates(analysis):
    truth = analysis.joint.truth
    assert truth["depth"].isna().sum() == 1 and len(truth) == 1 + 4
    assert (truth["true"] > -0.05).all()  # planted upwards; what was measured of stimuli adds to it or takes from it
    assert analysis.joint.truth["estimate"].notna().all()


def test_the_readme_of_shown_people_says_what_is_true(made):
    folder, study, run = made
    study, run = read_study(study), read_run(run)
    text = describe_simulation(study, "t.csv", study.simulated_trials(1, run), None, run)
    assert run.identity in text and "| `b_evidence_elements` | 0.3 |" in text
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("**Simulated data")


def test_a_study_that_does_not_say_what_is_true_cannot_show_a_run(tmp_path, made):
    _, _, run = made
    path = study_with(tmp_path, "[joint]\n")
    with pytest.raises(StudyError, match=r"simulate\.shown"):
        read_study(path).simulated_trials(1, read_run(run))


def test_a_true_model_of_unknown_columns_is_refused(tmp_path, made):
    _, _, run = made
    path = study_with(tmp_path, SHOWN.replace("evidence_elements", "evidence_element"))
    with pytest.raises(InputError, match="evidence_elements"):
        read_study(path).simulated_trials(1, read_run(run))


def test_unknown_keys_name_the_nearest(tmp_path):
    for text, near in ((SHOWN.replace("formula =", "formulas =", 1), "formula"), ("[joint]\nwithou = 'x'", "without")):
        with pytest.raises(StudyError, match=near):
            read_study(study_with(tmp_path, text))


def test_a_joint_model_names_the_experiment(tmp_path):
    text = "[joint]\nformula = 'correct ~ representation * depth + (1 | pair)'"
    with pytest.raises(StudyError, match="'experiment'"):
        read_study(study_with(tmp_path, text))


@pytest.mark.parametrize(
    "text, said",
    [
        ("[joint]\ndraws = 2\n", "draws is 2"),
        (
            "[effects]\nmoderator = 'depth'\n[joint]\nwithout = 'correct ~ experiment * representation'\n",
            "does not name",
        ),
        ("[effects]\nby = 'representation'\n", "the factor or the moderator"),
        ("[effects]\nby = 'depth'\n", "the factor or the moderator"),
    ],
)
def test_faults_of_the_file_come_before_any_fit(tmp_path, text, said):
    with pytest.raises(StudyError, match=said):
        read_study(study_with(tmp_path, text))


def test_the_joint_model_takes_shared_directions_into_account(tmp_path, made):
    _, _, run = made
    lists = read_run(run).table("trial_lists")
    main = lists[(lists["phase"] == "main") & ~lists["catch"]]
    one, other = main.loc[main["representation"] == "distributed", "feature"].unique()[:2]
    shared = main.assign(feature=main["feature"].replace(other, one), correct=1)
    for text, grown in (
        ("[joint]\n", True),
        (f"[joint]\nformula = 'correct ~ experiment * depth + {GROUPS}'\n", False),
    ):
        path = study_with(tmp_path, text if grown else text.replace("* depth", "* representation * depth"))
        joint = with_feature_effects(read_study(path), shared).joint
        assert joint.formula.endswith("+ (1 | feature)") is grown and joint.without.endswith("+ (1 | feature)")


def test_contributions_of_several_networks_are_not_pooled(tmp_path):
    """Their logits and norms are on scales of their own."""
    one, other = make_run(tmp_path / "one"), make_run(tmp_path / "two", network="vgg", seed=6)
    said = []
    study = read_study(study_with(tmp_path, "[joint]\n"))
    assert contributions_of(study, read_run(one, other), said.append) is None
    assert "several networks" in said[0]
    assert contributions_of(study, read_run(one), said.append) is not None


@pytest.mark.parametrize(
    "aic, elpd, se, words",
    [
        (1.5, 0.4, 2.0, ("AIC does not tell the models apart", "cross-validation does not tell them apart")),
        (4.0, 1.0, 2.0, ("prefers the model with it, not decisively", "does not tell them apart")),
        (
            -4.0,
            -9.0,
            2.0,
            ("prefers the model without it, not decisively", "cross-validation prefers the model without"),
        ),
        (25.0, 12.0, 4.0, ("clearly prefers the model with it", "cross-validation prefers the model with it")),
        (25.0, 12.0, 8.0, ("clearly prefers the model with it", "does not tell them apart")),
    ],
)
def test_a_small_difference_of_models_is_called_small(aic, elpd, se, words):
    said = "".join(getattr(part, "text", "") for part in say_predicted_change("the change", aic, elpd, se, 0.2))
    assert all(word in said for word in words), said
    assert "p = 0.200" in said
