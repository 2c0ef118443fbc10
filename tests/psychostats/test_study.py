"""Study files: every table is read, and every fault is named in a sentence, all at once."""

import dataclasses
import tomllib

import pytest
from studies import DATA, ODD, ROOT, SMALL, study_of

from psychostats import nuts
from psychostats.errors import InputError, StudyError
from psychostats.exclusions import Exclusions
from psychostats.intervals import Interval
from psychostats.parts import Reading
from psychostats.sampling import Settings
from psychostats.settings import DEFAULT_FORMULA
from psychostats.spec import specify
from psychostats.study import read_study
from psychostats.study_faults import TABLES

# What a model that the fast sampler covers gets where the file says nothing.
OURS = Settings(1000, 200, 4, 1, 0.85) if nuts.available() else Settings(1000, 1000, 4, 1, 0.8)

EVERYTHING = """
description = "About it."
reference = "a paper"
simulated = true
pseudonymize = true
trials = "trials.csv"

[columns]
participant = "subject"

[levels]
representation = { n = "neuron", d = "dictionary" }
experiment = ["one", "two"]

[filter]
phase = ["main", "practice"]

[exclusions]
rt_max = 60.0
missing_response = "drop"

[design]
assignment = "between"
participants = { one = 3, two = 4 }
layers = ["x", "y"]
pairs = 6
main = 5
catch = 2
practice = 0

[simulate]
seed = 9
formula = "correct ~ representation"
family = "afc"
link = "probit"
guess = 0.25
lapse = 0.02
careless = 1
catch_accuracy = 0.9
practice_accuracy = 0.8
missing_rate = 0.1
rt_median = 2.5
rt_sigma = 0.3
truth.all = { b_Intercept = 0.1, b_representationdictionary = 0.2 }
truth.two = { b_Intercept = 0.7 }

[[models]]
name = "first"
formula = "correct ~ representation + (1 | participant)"
family = "afc"
link = "probit"
guess = 0.25
lapse = 0.02
priors = ["b ~ normal(0, 2)"]
draws = 11
tune = 12
chains = 3
seed = 13
target_accept = 0.9

[[models]]
name = "second"
formula = "correct ~ representation * depth"
family = "bernoulli"

[effects]
factor = "representation"
moderator = ""
at = [0.0, 2.0]
interval = "hdi"
probability = 0.9

[report]
authors = ["A", "B"]
depth_bins = 3
group = "pair"

[sources]
"design.main" = "paper: section 3"
"models.first.guess" = "predecessor"
"simulate.truth" = "assumed: ours: all of it"
"network.id" = "paper"

[network]
id = "resnet50"
whatever = [1, 2]
"""


def test_every_table_is_read(tmp_path):
    study = study_of(tmp_path, EVERYTHING)
    about = study.study
    assert (about.name, about.title, about.description, about.reference) == ("s", "S", "About it.", "a paper")
    assert (about.simulated, about.pseudonymize, about.trials) == (True, True, "trials.csv")
    assert study.models[0].settings() == Settings(11, 12, 3, 13, 0.9)
    assert study.models[0].spec() == specify(
        "correct ~ representation + (1 | participant)",
        family="afc",
        link="probit",
        guess=0.25,
        lapse=0.02,
        priors=["b ~ normal(0, 2)"],
    )
    assert study.models[1].settings() == OURS
    assert study.models[1].spec().family.name == "bernoulli"
    assert study.effects.as_interval() == Interval("hdi", 0.9)
    assert (study.report.authors, study.report.depth_bins, study.report.group) == (("A", "B"), 3, "pair")
    assert study.rules().to_table() == {"rt_max": 60.0, "missing_response": "drop"}
    assert study.source_of("design.main") == ("paper", "section 3")
    assert study.source_of("models.first.guess") == ("predecessor", "")
    assert study.source_of("simulate.truth") == ("assumed", "ours: all of it")
    assert study.source_of("design.pairs") == ("assumed", "")


def test_the_plan_is_what_the_file_says(tmp_path):
    plan = study_of(tmp_path, EVERYTHING).plan()
    assert plan.truth == {
        "one": {"b_Intercept": 0.1, "b_representationdictionary": 0.2},
        "two": {"b_Intercept": 0.7, "b_representationdictionary": 0.2},
    }
    assert plan.representations == ("neuron", "dictionary")  # the new names, in the order of the table
    assert (plan.participants, plan.layers, plan.within) == ({"one": 3, "two": 4}, ("x", "y"), False)
    assert (plan.pairs, plan.main, plan.catch, plan.practice, plan.careless) == (6, 5, 2, 0, 1)
    assert (plan.catch_accuracy, plan.practice_accuracy, plan.missing_rate) == (0.9, 0.8, 0.1)
    assert (plan.rt_median, plan.rt_sigma) == (2.5, 0.3)
    assert plan.spec.family.describe() == "forced choice, probit link, guess rate 0.25, lapse rate 0.02"
    trials = study_of(tmp_path, EVERYTHING).simulated_trials()
    assert trials.equals(study_of(tmp_path, EVERYTHING).simulated_trials(9))
    assert trials["participant"].nunique() == 7


def test_a_study_says_how_its_trials_are_read(tmp_path):
    study = study_of(tmp_path, EVERYTHING)
    assert study.read_options() == {
        "columns": {"participant": "subject"},
        "levels": {"representation": {"n": "neuron", "d": "dictionary"}, "experiment": ["one", "two"]},
        "filters": {"phase": ["main", "practice"]},
        "needed": study.needed(),
        "assignment": "between",
        "assigned": "representation",
        "unanswered": "keep",
        "pseudonymize": True,
        "reading": Reading(),
    }
    assert set(study.needed()) == {"correct", "representation", "participant", "depth", "rt", "pair", "experiment"}
    assert study_of(tmp_path, "").read_options()["unanswered"] == "error"


def test_without_models_the_default_analysis_is_made(tmp_path):
    models = study_of(tmp_path, "").models
    assert [model.name for model in models] == ["main", "plain"]
    assert [model.spec().formula.text for model in models] == [DEFAULT_FORMULA] * 2
    assert DEFAULT_FORMULA == (
        "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | pair)"
    )
    forced, plain = (model.spec().family for model in models)
    assert (forced.name, forced.guess, forced.link) == ("afc", 0.5, "logit")
    assert (plain.name, plain.guess, plain.link) == ("bernoulli", 0.0, "logit")
    assert models[0].settings() == OURS
    effects = study_of(tmp_path, "").effects
    assert (effects.factor, effects.moderator, effects.at) == ("representation", "depth", (0.0, 0.5, 1.0))
    assert effects.as_interval() == Interval("eti", 0.95)


@pytest.mark.parametrize("path", [SMALL, ODD, DATA / "borowski.toml", ROOT / "data" / "studies" / "colin2024.toml"])
def test_the_study_files_of_this_project_can_be_read(path):
    study = read_study(path)
    assert study.path == path
    assert len(study.sha256) == 64
    assert study.study.title == tomllib.loads(path.read_text(encoding="utf-8"))["study"]["title"]


FAULTS = [
    ("[exclusion]\nrt_max = 3\n", r"unknown table \[exclusion\] \(did you mean 'exclusions'\?\); allowed are study"),
    ("[network2]\nx = 1\n", r"unknown table \[network2\] \(did you mean 'network'\?\)"),
    ("[path]\nx = 1\n", r"unknown table \[path\]"),
    ("[design]\nparticipant = {a = 3}\n", r"unknown key 'participant' in \[design\] \(did you mean 'participants'\?\)"),
    ("[[models]]\nname = 'm'\ndraw = 3\n", r"unknown key 'draw' in \[models\] \(did you mean 'draws'\?\)"),
    ("[exclusions]\nrt_maxx = 3\n", r"Exclusion 'rt_maxx' is unknown \(did you mean 'rt_max'\?\)"),
    ("[reanalysis]\nnames = ['a', 'a']\n", r"\[reanalysis\] names must be two different words, neither"),
    ("[reanalysis]\nnames = ['Pooled', 'b']\n", r"\[reanalysis\] names must be two different words, neither"),
    ("[reanalysis]\nsteps = 1\n", r"\[reanalysis\] steps is 1: input should be greater than or equal to 2"),
    ("[report]\ndepth_bins = 0\n", r"\[report\] depth_bins is 0: input should be greater than or equal to 1"),
    ("[report]\nauthors = 'me'\n", r"\[report\] authors is 'me': input should be a valid tuple"),
    ("simulated = 'perhaps'\n", r"\[study\] simulated is 'perhaps': input should be a valid boolean"),
    ("[[models]]\nformula = 'correct ~ 1'\n", r"\[models\] lacks '0.name'"),
    ("[levels]\nexperiment = 3\n", r"\[levels\] experiment is 3: input should be a valid"),
    ("[design]\nassignment = 'mixed'\n", r"\[design\] assignment is 'mixed': input should be 'within' or 'between'"),
    (
        "[design]\nparticipants = {a = 0}\n",
        r"\[design\] participants.a is 0: input should be greater than or equal to 1",
    ),
    ("[design]\nparticipants = {a = 2.5}\n", r"\[design\] participants.a is 2.5: input should be a valid integer"),
    ("[simulate]\nmissing_rate = 2.0\n[simulate.truth]\n", r"\[simulate\] missing_rate is 2.0: input should be less"),
    (
        "[simulate]\nrt_median = 0.0\n[simulate.truth]\n",
        r"\[simulate\] rt_median is 0.0: input should be greater than 0",
    ),
    ("[simulate]\nseed = 3\n", r"\[simulate\] lacks 'truth'"),
    (
        "[simulate]\nfamily = 'acf'\n[simulate.truth]\n",
        r"\[simulate\]: the family 'acf' is unknown \(did you mean 'afc'",
    ),
    (
        "[design]\nparticipants = {natural = 3}\n[simulate.truth.natrual]\nb_x = 1\n",
        r"\[simulate.truth\] names 'natrual', which is no experiment .* \(did you mean 'natural'\?\)",
    ),
    ("[effects]\ninterval = 'wald'\n", r"\[effects\] interval is 'wald': input should be 'eti' or 'hdi'"),
    ("[effects]\nprobability = 95\n", r"interval probability 95.0 is not between 0 and 1"),
    ("[effects]\nat = [0.5]\n", r"\[effects\] at is \[0.5\]; it needs two values of the moderator or more"),
    ("[effects]\nat = [1.0, 0.0]\n", r"\[effects\] at is \[1.0, 0.0\]; .* each above the last"),
    ("[effects]\nat = [0.0, 0.0, 1.0]\n", r"each above the last"),
    ("[effects]\nat = [0.0, inf]\n", r"each above the last"),
    ("[effects]\nat = [0.0, nan]\n", r"each above the last"),
    (
        "[effects]\nfactor = 'representatio'\n",
        r"factor is 'representatio', which model 'main' does not have \(did you mean 'representation'\?\); its "
        r"predictors are representation, depth\.",
    ),
    ("[effects]\nfactor = 'participant'\n", r"factor is 'participant', which model 'main' does not have"),
    (
        "[effects]\nmoderator = 'dept'\n",
        r"moderator is 'dept', which model 'main' does not have \(did you mean 'depth'",
    ),
    ("[[models]]\nname = 'a/b'\n", r"the model name 'a/b' cannot name a folder"),
    ("[[models]]\nname = ''\n", r"the model name '' cannot name a folder"),
    ("[[models]]\nname = 'm'\n[[models]]\nname = 'm'\n", r"two models have the same name"),
    ("[[models]]\nname = 'm'\nformula = 'correct ~'\n", r"model 'm': "),
    ("[[models]]\nname = 'm'\nfamily = 'gamma'\n", r"model 'm': the family 'gamma' is unknown"),
    ("[[models]]\nname = 'm'\nfamily = 'bernoulli'\nguess = 0.5\n", r"model 'm': a guess rate is for the family afc"),
    ("[[models]]\nname = 'm'\npriors = ['b normal']\n", r"model 'm': the prior 'b normal' cannot be read"),
    ("[[models]]\nname = 'm'\ndraws = 0\n", r"model 'm': draws is 0; it must be at least 1"),
    ("[sources]\n'design.main' = 'paper'\n", r"\[sources\] names 'design.main', which the file does not set"),
    (
        "[design]\npairs = 3\n[sources]\n'design.pair' = 'paper'\n",
        r"names 'design.pair', which the file does not set \(did you mean 'design.pairs'\?\)",
    ),
    (
        "[design]\npairs = 3\n[sources]\n'design.pairs' = 'paperback: no'\n",
        r"the source of design.pairs is 'paperback: no'; it must begin with paper, predecessor, assumed",
    ),
]


@pytest.mark.parametrize(("text", "said"), FAULTS, ids=[text.strip().replace("\n", " ")[:60] for text, _ in FAULTS])
def test_what_is_wrong_is_said_with_its_place(tmp_path, text, said):
    with pytest.raises(StudyError, match=said) as caught:
        study_of(tmp_path, text)
    assert all(line.startswith((str(tmp_path), "  ")) for line in str(caught.value).splitlines())
    assert caught.value.exit_code == 2


def test_every_fault_is_said_at_once(tmp_path):
    with pytest.raises(StudyError) as caught:
        study_of(
            tmp_path,
            "[design]\nmain = 0\npears = 3\n[report]\ncolour = 'red'\n[levels]\nexperiment = 3\n",
        )
    assert len(str(caught.value).splitlines()) == 5  # the levels may be a list or a table, and are neither
    with pytest.raises(StudyError) as caught:
        study_of(
            tmp_path,
            "[[models]]\nname = 'a'\nfamily = 'x'\n[[models]]\nname = 'b'\ndraws = 0\n"
            "[exclusions]\nrt_max = 'x'\n[effects]\nat = []\nprobability = 2.0\n[sources]\n'x' = 'y'\n",
        )
    assert len(str(caught.value).splitlines()) == 7


def test_a_table_that_is_no_table_and_one_that_is_missing(tmp_path):
    path = tmp_path / "study.toml"
    for text, said in (
        ("study = 3\n", r"\[study\] is 3; it must be a table"),
        ("", r"the table \[study\] is missing"),
        ("[study]\nname = 's'\n", r"\[study\] lacks 'title'"),
        ("[study]\nname = 3\ntitle = 'x'\n", r"\[study\] name is 3: input should be a valid string"),
        ("[study]\nname = 's'\ntitle = 'x'\n[[design]]\nmain = 3\n", r"\[design\] is .*; it must be a table"),
        (
            "[study]\nname = 's'\ntitle = 'x'\n[columns]\nrt = 3\n",
            r"\[columns\] rt is 3: input should be a valid string",
        ),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(StudyError, match=said):
            read_study(path)


def test_what_is_no_study_file(tmp_path):
    with pytest.raises(StudyError, match=r"the study file .*nothing.toml cannot be read: No such file"):
        read_study(tmp_path / "nothing.toml")
    with pytest.raises(StudyError, match="cannot be read: Is a directory"):
        read_study(tmp_path)
    path = tmp_path / "study.toml"
    path.write_bytes(b"[study\nname = ")
    with pytest.raises(StudyError, match=r"study.toml is not valid TOML: .*line 1"):
        read_study(path)
    path.write_bytes('[study]\nname = "é"'.encode("latin-1"))
    with pytest.raises(StudyError, match="is not valid TOML: 'utf-8' codec"):
        read_study(path)
    path.write_bytes(b'\xef\xbb\xbf[study]\nname = "s"\ntitle = "T"\n')
    assert read_study(path).study.title == "T"  # a byte order mark is not the user's fault


def test_a_second_model_need_not_have_the_moderator(tmp_path):
    text = (
        "[[models]]\nname = 'm'\n[[models]]\nname = 'few'\nformula = 'correct ~ representation'\n"
        "[effects]\nmoderator = 'depth'\n"
    )
    assert study_of(tmp_path, text).models[1].name == "few"


@pytest.mark.parametrize("key", ["participants", "layers", "pairs", "main", "catch", "practice"])
def test_a_simulation_needs_its_design(tmp_path, key):
    design = {
        "participants": "{ a = 3 }",
        "layers": "['x']",
        "pairs": "4",
        "main": "3",
        "catch": "0",
        "practice": "0",
    }
    start = "[simulate]\nformula = 'correct ~ 1'\ntruth.all = { b_Intercept = 0.0 }\n[design]\n"
    whole = start + "\n".join(f"{name} = {value}" for name, value in design.items())
    assert len(study_of(tmp_path, whole).simulated_trials()) == 9
    del design[key]
    study = study_of(tmp_path, start + "\n".join(f"{name} = {value}" for name, value in design.items()))
    with pytest.raises(StudyError, match=rf"lacks \[design\] {key}, which a simulation needs"):
        study.plan()


def test_a_study_without_a_truth_cannot_be_simulated(tmp_path):
    with pytest.raises(InputError, match=r"study.toml has no \[simulate\] table"):
        study_of(tmp_path, "").plan()


def test_thresholds_of_the_predecessor_bring_their_source(tmp_path):
    study = study_of(
        tmp_path,
        '[exclusions]\ndefaults = "predecessor"\ncatch_accuracy_min = "predecessor"\npractice_attempts_max = false\n'
        'response_count_min = 2\n[sources]\n"exclusions.catch_accuracy_min" = "paper: page 3"\n',
    )
    assert study.rules().catch_accuracy_min == 0.8 and study.rules().response_count_min == 2
    assert study.source_of("exclusions.instruction_time_min") == ("predecessor", "Zimmermann et al. 2023")
    assert study.source_of("exclusions.catch_accuracy_min") == ("paper", "page 3")  # what the file says, stands
    for own in ("practice_attempts_max", "response_count_min"):
        assert study.source_of(f"exclusions.{own}") == ("assumed", "")
    assert not {"session", "instruction_time"} & set(study.needed())  # defaults ask for no column
    assert study.read_options()["unanswered"] == "error"
    off = study_of(tmp_path, "[exclusions]\nmissing_response = false\n")
    assert off.read_options()["unanswered"] == "error"


def test_every_key_stands_in_the_documentation():
    """What a user cannot look up does not exist; and an exclusion rule is a key too."""
    text = (ROOT / "data" / "studies" / "README.md").read_text(encoding="utf-8")
    rules = [field.name for field in dataclasses.fields(Exclusions)]
    for table, model in TABLES.items():
        assert f"[{table}]" in text
        assert [key for key in model.model_fields if f"`{key}`" not in text and f"`[{table}.{key}" not in text] == []
    assert [rule for rule in rules if f"`{rule}`" not in text] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[filter]\ntrial = 2020-01-01\n", "[filter] trial is"),
        ("[levels]\nrepresentation = []\n", "lists no level"),
        ("[report]\ngroup = 'representation'\n", "[report] group is 'representation'"),
        ("[[models]]\nname = 'm'\n[[models]]\nname = 'M'\n", "the same name, but for capitals"),
        ("[[models]]\nname = 'm'\ndraws = 3\n", "draws is 3"),
        ("[[models]]\nname = 'm'\ndraws = true\n", "draws is True"),
        ("[[models]]\nname = 'm'\nformula = 'correct ~ size'\n[effects]\nfactor = 'size'\n", "rename the column"),
        ("x = " + "[" * 5000 + "]" * 5000, "nests lists or tables too deeply"),
    ],
)
def test_what_would_only_fail_later_is_refused_at_once(tmp_path, text, words):
    with pytest.raises(StudyError) as caught:
        study_of(tmp_path, text)
    assert words in str(caught.value)


def test_the_engine_says_how_long_to_warm_up_where_the_file_does_not(tmp_path):
    """Each model by the engine that it gets, so that an opinion which PyMC samples has PyMC's default."""
    models = '[[models]]\nname = "main"\n[[models]]\nname = "lapsing"\nlapse = "estimate"\n'
    study = study_of(tmp_path, models + '[[opinions]]\nresponse = "rt"\n[joint]\ndraws = 500\n')
    assert [model.settings() for model in study.models] == [OURS, Settings(tune=1000)]
    assert study.opinions[0].as_model(study.models[0]).settings() == Settings(tune=1000)
    assert [model.settings() for model in study.joint.as_models(study.models[0])] == [
        dataclasses.replace(OURS, draws=500)
    ] * 2
    given = study_of(tmp_path, '[[models]]\nname = "main"\ntune = 77\ntarget_accept = 0.9\n[joint]\ntune = 66\n')
    assert given.models[0].settings() == Settings(tune=77, target_accept=0.9)
    assert given.joint.as_models(given.models[0])[0].settings() == Settings(tune=66, target_accept=0.9)
    # What is handed to a fit leaves it open, since a large design goes to PyMC whatever its model.
    assert (study.models[0].lengths()["tune"], study.models[0].lengths()["target_accept"]) == (None, None)
    assert (given.models[0].lengths()["tune"], given.models[0].lengths()["target_accept"]) == (77, 0.9)
