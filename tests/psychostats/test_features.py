"""Trials meet a features run by id: what is joined is what the run says, and what does not fit is named."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from runs import make_run, replace_table

from psychostats.errors import DataError, InputError
from psychostats.features import attach_features, examine_joined, read_run
from psychostats.fit import fit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def known(folder):
    return read_run(folder)


@pytest.fixture
def bare(known):
    """Trials that say only who saw which stimulus."""
    lists = known.table("trial_lists")
    return lists[["participant", "trial", "stimulus"]].assign(correct=1)


def refused(trials, known, **options):
    with pytest.raises(DataError) as error:
        attach_features(trials, known, **options)
    return str(error.value)


def test_every_trial_gets_what_the_run_says_of_its_stimulus_and_feature(bare, known):
    joined = attach_features(bare, known)
    stimuli = known.table("stimuli").set_index("stimulus")
    features = known.table("features").set_index("feature")
    assert joined.index.equals(bare.index) and joined["stimulus"].equals(bare["stimulus"])
    for row in joined.sample(50, random_state=1).to_dict("records"):
        stimulus = stimuli.loc[row["stimulus"]]
        assert row["entropy"] == stimulus["entropy"] and row["batch"] == stimulus["batch"]
        if stimulus["phase"] == "practice":
            assert pd.isna(row["feature"]) and pd.isna(row["contribution_subtract"])
            continue
        feature = features.loc[stimulus["feature"]]
        assert (row["feature"], row["pair"], row["layer"]) == (stimulus["feature"], stimulus["pair"], feature["layer"])
        assert row["contribution_subtract"] == feature["contribution_subtract"]
        assert row["representation"] == feature["representation"]


def test_evidence_is_in_units_of_the_observers_noise(bare, known):
    joined = attach_features(bare, known)
    observed = known.table("observed").set_index(["observer", "stimulus"])
    some = joined.iloc[7]
    row = observed.loc[("pixel", some["stimulus"])]
    assert some["evidence_pixel"] == pytest.approx(row["d"] / row["noise_sd"])


def test_the_join_is_by_id_not_by_place(bare, known):
    mixed = bare.sample(frac=1, random_state=2)
    stimuli = known.table("stimuli").sample(frac=1, random_state=3)
    features = known.table("features").sample(frac=1, random_state=4)
    one, other = attach_features(mixed, stimuli, features).sort_index(), attach_features(bare, known)
    pd.testing.assert_frame_equal(one[["entropy", "feature", "sparsity"]], other[["entropy", "feature", "sparsity"]])


def test_levels_have_their_declared_orders(bare, known):
    joined = attach_features(bare, known)
    assert list(joined["representation"].cat.categories) == ["local", "distributed"]
    assert list(joined["layer"].cat.categories) == ["a", "b", "c", "d"]


def test_the_runs_words_are_recoded_as_the_study_recodes_the_trials(bare, known):
    levels = {"representation": {"local": "neuron", "distributed": "dictionary"}}
    joined = attach_features(bare, known, levels=levels)
    assert list(joined["representation"].cat.categories) == ["neuron", "dictionary"]


def test_blank_cells_are_filled_and_cells_that_say_so_too_are_fine(bare, known):
    full = attach_features(bare, known)
    half = bare.assign(layer=full["layer"].astype(object).where(full.index % 2 == 0, None), depth=full["depth"])
    joined = attach_features(half, known)
    assert joined["layer"].astype(object).equals(full["layer"].astype(object))


def test_columns_of_features_are_predictors_and_pairs_groups(bare, known):
    rng = np.random.default_rng(1)
    joined = attach_features(bare, known)
    main = joined[(joined["phase"] == "main") & ~joined["catch"]]
    main = main.assign(correct=(rng.uniform(size=len(main)) < 0.7).astype(int))
    made = fit("correct ~ sparsity + entropy + (1 | feature) + (1 | pair)", main, engine="laplace")
    assert {"b_sparsity", "b_entropy", "sd_feature__Intercept"} <= set(made.terms()["term"])


# What does not fit ------------------------------------------------------------------------------------------------


def test_unknown_stimuli_are_named(bare, known):
    name = bare["stimulus"].iloc[5]
    said = refused(bare.assign(stimulus=bare["stimulus"].replace(name, f"{name}x")), known)
    assert f"'{name}x'" in said and "features run" in said and f"'{name}'" in said  # and the nearest


def test_a_trial_without_a_stimulus_is_named_by_its_row(bare, known):
    said = refused(bare.assign(stimulus=bare["stimulus"].where(bare.index != 9, None)), known)
    assert "row 9" in said


def test_another_version_is_named_with_both(known):
    lists = known.table("trial_lists").assign(correct=1)
    shown = lists["stimulus"].iloc[20]
    said = refused(lists.assign(version=lists["version"].where(lists["stimulus"] != shown, "feedfacefeedface")), known)
    assert f"'{shown}'" in said and "feedfacefeedface" in said and lists["version"].iloc[20] in said
    attach_features(lists, known)  # the right ones are not refused


@pytest.mark.parametrize("table, key", [("stimuli", "stimulus"), ("features", "feature")])
def test_ids_that_are_named_twice_are_refused(bare, known, table, key):
    tables = {name: known.table(name) for name in ("stimuli", "features")}
    tables[table] = pd.concat([tables[table], tables[table].iloc[[3]]])
    assert f"'{tables[table][key].iloc[3]}'" in refused(bare, tables["stimuli"], features=tables["features"])


def test_stimuli_of_unknown_features_are_refused(bare, known):
    lacking = known.table("features").iloc[1:]
    assert known.table("features")["feature"].iloc[0] in refused(bare, known.table("stimuli"), features=lacking)


@pytest.mark.parametrize("name, wrong", [("depth", 0.123), ("layer", "z"), ("feature", "other"), ("pair", "p9")])
def test_trials_that_say_otherwise_are_refused(bare, known, name, wrong):
    full = attach_features(bare, known)
    cells = full[name].astype(object)
    row = int(full.index[full["feature"].notna()][4])
    said = refused(bare.assign(**{name: cells.where(cells.index != row, wrong)}), known)
    assert f"row {row}" in said and str(wrong) in said


def test_a_column_of_the_run_may_not_be_in_the_trials_too(bare, known):
    assert "'entropy'" in refused(bare.assign(entropy=1.0), known)


def test_trials_without_a_column_of_stimuli_are_refused(bare, known):
    assert "stimulus" in refused(bare.drop(columns="stimulus"), known)


def test_every_fault_of_file_and_run_is_told_at_once(bare, known):
    trials = bare.assign(correct=bare["correct"].where(bare.index != 2, 7))
    table = examine_joined(trials, known, needed=("correct", "participant", "stimulus"))
    assert "7" in table.errors[0].message
    table = examine_joined(bare.drop(columns="trial").assign(version="x"), known, needed=("correct",))
    assert any("another version" in fault.message for fault in table.errors)


def test_the_assignment_is_judged_where_only_the_run_knows_the_representation(bare, known):
    table = examine_joined(bare, known, needed=("correct", "participant", "stimulus"), assignment="between")
    assert any("'between'" in fault.message for fault in table.errors)


# Runs on disk -----------------------------------------------------------------------------------------------------


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"run\.json is missing"):
        read_run(tmp_path)


def test_a_file_that_was_changed_is_refused(tmp_path):
    folder = make_run(tmp_path / "run")
    rows = pd.read_parquet(folder / "features.parquet")
    rows.assign(sparsity=0.0).to_parquet(folder / "features.parquet", index=False)
    with pytest.raises(InputError, match=r"features\.parquet is not the file that was written"):
        read_run(folder).table("features")


def test_another_form_is_refused(tmp_path):
    folder = make_run(tmp_path / "run")
    (folder / "run.json").write_text('{"schema": "featurecompute-run/9"}')
    with pytest.raises(InputError, match="featurecompute-run/9"):
        read_run(folder)


def test_a_run_without_stimuli_says_what_makes_them(tmp_path):
    folder = make_run(tmp_path / "run")
    record = (folder / "run.json").read_text().replace("stimuli.parquet", "others.parquet")
    (folder / "run.json").write_text(record)
    with pytest.raises(InputError, match=r"\[stimuli\]"):
        read_run(folder).table("stimuli")


def test_two_networks_are_two_runs_and_one_table(tmp_path):
    one, other = make_run(tmp_path / "one"), make_run(tmp_path / "two", network="vgg", seed=6)
    both = read_run(one, other)
    assert set(both.table("features")["network"]) == {"net", "vgg"}
    trials = pd.concat([read_run(path).table("trial_lists") for path in (one, other)], ignore_index=True)
    joined = attach_features(trials.assign(correct=1), both)
    assert set(joined["network"].dropna()) == {"net", "vgg"}


def test_two_runs_that_say_different_things_of_one_id_are_refused(tmp_path):
    one, other = make_run(tmp_path / "one"), make_run(tmp_path / "two", seed=6)
    with pytest.raises(InputError, match="more than once"):
        read_run(one, other).table("features")


def test_commands_join_a_run(tmp_path, folder, run):
    trials = tmp_path / "trials.csv"
    lists = read_run(folder).table("trial_lists")
    rng = np.random.default_rng(2)
    lists[["participant", "trial", "phase", "catch", "stimulus", "version"]].assign(
        correct=(rng.uniform(size=len(lists)) < 0.7).astype(int)
    ).to_csv(trials, index=False)
    formula = "correct ~ representation + sparsity + (1 | pair)"
    assert run("check", str(trials), "--formula", formula).code == 2  # the file alone lacks them
    assert run("check", str(trials), "--formula", formula, "--run", str(folder)).code == 0
    out = tmp_path / "fit"
    made = run("fit", str(trials), "--formula", formula, "--engine", "laplace", "--run", str(folder), "--out", str(out))
    assert made.code == 0 and "sparsity" in made.out
    assert run("check", str(trials), "--formula", formula, "--run", str(tmp_path)).code == 2


def test_a_run_of_another_version_is_exit_2_and_names_it(tmp_path, folder, run):
    other = make_run(tmp_path / "run")
    stimuli = pd.read_parquet(other / "stimuli.parquet")
    replace_table(other, "stimuli", stimuli.assign(version="0" * 16))
    trials = tmp_path / "trials.csv"
    read_run(folder).table("trial_lists").drop(columns="target_side").assign(correct=1).to_csv(trials, index=False)
    said = run("check", str(trials), "--formula", "correct ~ 1", "--run", str(other))
    assert said.code == 2 and "another version" in said.out


# What only the run knows ------------------------------------------------------------------------------------------


def test_levels_and_filters_may_be_of_columns_that_only_the_run_has(bare, known):
    levels = {"representation": {"local": "neuron", "distributed": "dictionary"}, "layer": ["a", "b", "c", "d"]}
    table = examine_joined(bare, known, needed=("stimulus",), levels=levels, filters={"layer": ["a", "b"]})
    assert not table.errors
    assert set(table.frame["layer"].dropna()) == {"a", "b"} and table.n_filtered == len(bare) - len(table.frame)
    assert set(table.frame["representation"].dropna()) == {"neuron", "dictionary"}
    nothing = examine_joined(bare, known, needed=("stimulus",), filters={"layer": "z"})
    assert "No trial is left" in nothing.errors[0].message


def test_a_level_of_the_run_that_the_study_does_not_allow_is_named(bare, known):
    assert "'distributed'" in refused(bare, known, levels={"representation": ["local"]})


def test_a_repeated_trial_shows_a_main_stimulus(bare, known):
    full = attach_features(bare, known)
    phase = full["phase"].astype(object)
    row = full.index[(phase == "main") & ~full["catch"]][3]
    joined = attach_features(bare.assign(phase=phase.where(phase.index != row, "repeat")), known)
    assert joined.loc[row, "phase"] == "repeat"


def test_a_depth_that_the_file_rounds_is_the_runs(bare, known):
    full = attach_features(bare, known)
    joined = attach_features(bare.assign(depth=full["depth"].round(2)), known)
    pd.testing.assert_series_equal(joined["depth"], full["depth"])


def test_faults_are_told_in_a_table_whose_index_repeats(bare, known):
    full = attach_features(bare, known)
    wrong = bare.assign(layer="z").set_axis([0] * len(bare))
    said = refused(wrong, known)
    assert len(said) < 500 and "'z'" in said and str(full["layer"].dropna().iloc[0])


@pytest.mark.parametrize("gone", ["stages", "run_id", "network"])
def test_a_damaged_record_is_one_sentence(tmp_path, gone):
    folder = make_run(tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    record.pop(gone)
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="is damaged"):
        read_run(folder)
