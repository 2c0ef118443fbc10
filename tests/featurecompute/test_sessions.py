"""A session shows what its trial list says, each query on its side."""

import pytest
from stimulus_tables import write_stimulus_run

from featurecompute.errors import RunError
from featurecompute.manifest import STIMULI, TRIAL_LISTS
from featurecompute.sessions import read_sessions


@pytest.fixture
def run(tmp_path):
    return write_stimulus_run(tmp_path / "run", participants=3, pairs=2, references=(4, 2))


def test_every_trial_is_there_with_its_images(run):
    sessions = read_sessions(run)
    lists, stimuli = run.table("trial_lists"), run.table("stimuli").set_index("stimulus")
    assert sessions[list(TRIAL_LISTS.columns)].equals(lists)
    assert set(sessions["target_side"]) == {"left", "right"}
    for row in sessions.itertuples():
        made = stimuli.loc[row.stimulus]
        other = {"left": "right", "right": "left"}[row.target_side]
        assert getattr(row, row.target_side) == row.query_target == made["query_target"]
        assert getattr(row, other) == row.query_distractor == made["query_distractor"]
        assert row.references_max == list(made["references_max"]) and len(row.references_max) == 4
        assert row.references_min == list(made["references_min"]) and len(row.references_min) == 2


def test_a_shuffled_table_makes_the_same_sessions_but_for_the_order_of_participants(run):
    before = read_sessions(run)
    TRIAL_LISTS.write(run.path, run.table("trial_lists").sample(frac=1, random_state=1))
    after = read_sessions(run)
    assert not after.equals(before)
    for (_, one), (_, other) in zip(
        before.groupby(["experiment", "participant"]), after.groupby(["experiment", "participant"]), strict=True
    ):
        assert one.reset_index(drop=True).equals(other.reset_index(drop=True))
    # Together, not scattered.
    assert (after["participant"] != after["participant"].shift()).sum() == after["participant"].nunique()


@pytest.mark.parametrize("table", [STIMULI, TRIAL_LISTS], ids=lambda table: table.name)
@pytest.mark.parametrize("empty", [False, True])
def test_a_run_without_them_is_a_sentence(run, table, empty):
    if empty:
        table.write(run.path, run.table(table.name).iloc[:0])
    else:
        (run.path / f"{table.name}.parquet").unlink()
    with pytest.raises(RunError, match=rf"run has no {table.name.replace('_', ' ')}: .*\[(stimuli|design)\].*\."):
        read_sessions(run)


@pytest.mark.parametrize("change", ["version", "stimulus"])
def test_a_list_that_does_not_fit_is_refused(run, change):
    lists = run.table("trial_lists")
    lists.loc[4, change] = "other"
    TRIAL_LISTS.write(run.path, lists)
    trial, stimulus = lists.loc[4, ["trial", "stimulus"]]
    with pytest.raises(RunError, match=rf"trial {trial} of natural-001 shows the stimulus {stimulus}, which"):
        read_sessions(run)
