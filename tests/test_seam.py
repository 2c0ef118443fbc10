"""The two packages meet in files: what one writes, the other knows by the same names."""

import tomllib
from pathlib import Path

import pandas as pd
import pytest

from featurecompute import manifest
from featurecompute import study as features
from featurecompute.features import distributed_id, local_id
from psychostats import columns
from psychostats import study as statistics

STUDIES = Path(__file__).parents[1] / "data" / "studies"
EMBEDDED = STUDIES / "colin2024.toml"
REVISION = STUDIES / "colin2026.toml"

# What a trial says of the feature that it shows, and the kind of its cells in each package.
SHARED = {"feature": "text", "layer": "text", "depth": "number", "representation": "text", "pair": "text"}
ARROW = {"text": "string", "number": "double"}


@pytest.mark.parametrize("name", SHARED)
def test_a_trial_and_a_run_have_the_same_columns_for_a_feature(name):
    table = manifest.PAIRS if name == "pair" else manifest.FEATURES
    assert columns.COLUMNS[name].kind == SHARED[name]
    assert str(table.columns[name]) == ARROW[SHARED[name]]


def test_features_and_pairs_join_by_one_column_each():
    assert manifest.FEATURES.key == ("feature",) and manifest.PAIRS.key == ("pair",)
    assert {"local_feature", "distributed_feature"} <= set(manifest.PAIRS.columns)


def test_a_trial_list_has_the_columns_of_a_trial_before_it_is_answered():
    asked = set(manifest.TRIAL_LISTS.columns) - {"version", "target_side"}
    answered = {"response", "correct", "rt", "confidence", "block"}
    answered |= {"session", "started", "instruction_time", "practice_attempts"}
    assert asked | answered == set(columns.COLUMNS)
    assert set(manifest.STIMULI.columns) & set(columns.COLUMNS) == {
        "stimulus",
        "feature",
        "pair",
        "experiment",
        "phase",
        "catch",
    }


def features_table():
    """Return two features as a run describes them, the distributed one in the earlier layer of the two by name."""
    rows = pd.DataFrame(
        {
            "feature": [distributed_id("net", "b", "nmf", "0" * 64, 1), local_id("net", "a", 2)],
            "representation": ["distributed", "local"],
            "layer": ["b", "a"],
            "layer_index": [0, 1],
            "depth": [0.2, 0.7],
        }
    )
    return rows.reindex(columns=list(manifest.FEATURES.columns))


def test_representation_and_layer_have_their_declared_orders(tmp_path):
    manifest.FEATURES.write(tmp_path, features_table())
    ordered = columns.order_levels(manifest.FEATURES.read(tmp_path))
    assert list(ordered["representation"].cat.categories) == ["local", "distributed"]
    assert list(ordered["layer"].cat.categories) == ["b", "a"]


def test_ids_pass_through_a_trial_file(tmp_path):
    from psychostats.trials import read_trials

    written = features_table()[["feature", "representation", "layer", "depth"]]
    written = written.assign(participant=["p1", "p2"], trial=1, pair="p", correct=[0, 1])
    written.to_csv(tmp_path / "trials.csv", index=False)
    read = read_trials(tmp_path / "trials.csv", needed=("feature", "representation", "layer", "depth", "correct"))
    assert read["feature"].astype(str).tolist() == written["feature"].tolist()
    assert read["depth"].tolist() == written["depth"].tolist()


def test_each_package_leaves_the_others_tables_alone():
    # Trial lists follow the design that the statistics half checks: said once, read by both.
    known = [name for name in features.Study.model_fields if name not in ("path", "sha256", "design", "chosen")]
    assert [*statistics.FEATURE_TABLES, "sources"] == known
    known = [name for name in statistics.Study.model_fields if name not in ("path", "sha256")]
    assert set(features.STATISTICS_TABLES) == set(known)


@pytest.mark.parametrize("path", [EMBEDDED, REVISION], ids=lambda path: path.stem)
def test_a_study_is_read_by_both_and_every_source_belongs_to_one(path):
    one, other = statistics.read_study(path), features.read_study(path)
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    assert one.sha256 == other.sha256
    assert not set(one.sources) & set(other.sources)
    assert one.sources | other.sources == content["sources"]
    needless = {"visualize"} if path == REVISION else set()  # of natural images alone
    assert set(features.TABLES) - needless <= set(content)


def test_the_revision_gives_every_setting_a_source():
    content = tomllib.loads(REVISION.read_text(encoding="utf-8"))
    tables = {name: table for name, table in content.items() if name not in ("study", "sources", "models", "networks")}
    tables |= {f"networks.{name}": table for name, table in content["networks"].items()}
    tables |= {f"models.{model.pop('name')}": model for model in content["models"]}
    assert content["sources"].keys() == {f"{name}.{key}" for name, table in tables.items() for key in table}
    paper = {key for key, source in content["sources"].items() if source.startswith("paper")}
    assert all("v2" in content["sources"][key] for key in paper)
    assert not any("v1" in source for source in content["sources"].values())  # of version 1 nothing counts as known


def test_the_revisions_trials_are_read_in_the_words_of_a_run_and_of_the_paper(tmp_path):
    study, run = statistics.read_study(REVISION), features.read_study(REVISION)
    assert (study.study.name, study.study.simulated) == ("colin2026", False)
    assert sum(study.design.participants.values()) == 481 == sum(run.design.participants.values())
    networks = {"resnet50": run.choose("resnet50"), "vgg16": run.choose("vgg16")}
    rows = [
        {"network": network, "representation": word, "depth": 0.5, "pair": local_id(network, one.network.layers[0], 3)}
        for names, words in (
            (("resnet50", "vgg16"), ("local", "distributed")),
            (("ResNet50", "VGG16"), ("neuron", "dictionary")),
        )
        for network, one in zip(names, networks.values(), strict=True)
        for word in words
    ]
    trials = pd.DataFrame(rows).assign(participant="p1", experiment="natural", correct=1, rt=4.0, response="left")
    trials.assign(catch=False, phase="main", trial=range(1, 9)).to_csv(tmp_path / "trials.csv", index=False)
    read = study.read(tmp_path / "trials.csv")
    assert list(read["representation"].cat.categories) == ["neuron", "dictionary"]
    assert list(read["network"].cat.categories) == ["resnet50", "vgg16"]
    assert read.groupby(["network", "representation"], observed=True).size().eq(2).all()
    assert {model.name for model in study.models} == {"main", "plain"}
