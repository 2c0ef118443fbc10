"""The folders of 2023 are those that its page asks for, and read back they are the trial lists, picture by picture."""

import json
import shutil

import pytest
from stimulus_tables import write_stimulus_run

from featurecompute.errors import RunError
from featurecompute.pictures import find_pictures
from featurecompute.sessions import read_sessions
from featurecompute.tasks import read_tasks, write_tasks


def write(run, folder, hard=1):
    stimuli, pictures = run.table("stimuli"), find_pictures(run, run.table("pictures")["image"])
    practice = stimuli[stimuli["phase"] == "practice"]
    return write_tasks(folder, read_sessions(run), practice, hard, lambda image: pictures[image].read("png"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Give a run, its tasks, and their key; no test may change them."""
    folder = tmp_path_factory.mktemp("tasks")
    run = write_stimulus_run(folder / "run", participants=11, pairs=2, references=(3, 3), catch=2)
    return run, folder / "tasks", write(run, folder / "tasks")


def shown(rows, role, end):
    held = rows[(rows["role"] == role) & (rows["end"] == end)]
    assert list(held["number"]) == list(range(len(held)))
    return list(held["sha256"])


def test_what_is_read_back_are_the_stimuli_of_the_lists_in_order(made):
    run, folder, _ = made
    sha256 = run.table("pictures").set_index("image")["sha256"]
    tasks = read_tasks(folder)
    main = read_sessions(run).query("phase != 'practice'")
    names = {"natural": "natural", "semantic": "semantic_natural", "mixed": "mixed"}
    seen = []
    for experiment, held in main.groupby("experiment", sort=False):
        for number, (_, trials) in enumerate(held.groupby("participant", sort=False), 1):
            task = f"{names[experiment]}/task_{number}"
            seen.append(task)
            rows = tasks[tasks["task"] == task]
            assert set(rows["trial"]) == set(range(1, len(trials) + 1))
            for trial, row in enumerate(trials.itertuples(), 1):
                own = rows[rows["trial"] == trial]
                assert set(own["catch"]) == {row.catch}
                assert shown(own, "query", "max") == [sha256[row.query_target]]
                assert shown(own, "query", "min") == [sha256[row.query_distractor]]
                assert shown(own, "reference", "max") == list(sha256[row.references_max])
                assert shown(own, "reference", "min") == list(sha256[row.references_min])
    assert list(tasks["task"].drop_duplicates())[: len(seen)] == sorted(
        seen, key=lambda task: (task.split("/")[0], int(task.rpartition("_")[2]))
    )
    assert main["catch"].sum() == 2 * 3 * 11


def test_names_and_numbers_are_those_the_page_asks_for(made):
    _, folder, _ = made
    assert {path.name for path in folder.iterdir()} == {
        *("natural", "demo_natural", "semantic_natural", "demo_semantic_natural", "mixed", "demo_mixed")
    }
    assert {path.name for path in (folder / "natural").iterdir()} == {f"task_{i}" for i in range(1, 12)}
    task = folder / "natural" / "task_11"
    index = json.loads((task / "index.json").read_text())
    assert set(index) == {"task_name", "n_reference_images", "n_trials", "catch_trial_idxs"}
    assert (index["task_name"], index["n_reference_images"], index["n_trials"]) == ("natural/task_11", 3, 4)
    assert {path.name for path in (task / "trials").iterdir()} == {f"trial_{j}" for j in range(1, 5)}
    # Their loader counts down from 8, and so do the files.
    wanted = {"queries/max.png", "queries/min.png"}
    wanted |= {f"references/{end}_{k}.png" for end in ("max", "min") for k in (8, 7, 6)}
    trial = task / "trials" / "trial_4"
    assert {path.relative_to(trial).as_posix() for path in trial.rglob("*.png")} == wanted
    demo = json.loads((folder / "demo_mixed" / "index.json").read_text())
    assert demo == {
        "task_name": "demo_mixed",
        "n_reference_images": 3,
        "n_trials": 3,
        "catch_trial_idxs": [],
        "n_obvious_trials": 2,
    }


def test_catch_trials_count_from_1(made):
    run, folder, _ = made
    rows = read_sessions(run).query("participant == 'natural-002' and phase == 'main'").reset_index(drop=True)
    index = json.loads((folder / "natural" / "task_2" / "index.json").read_text())
    assert index["catch_trial_idxs"] == [i + 1 for i in rows.index if rows["catch"][i]]
    assert len(index["catch_trial_idxs"]) == 2


def test_practice_is_that_of_the_stimuli_the_easier_first(made):
    run, folder, _ = made
    tasks, sha256 = read_tasks(folder), run.table("pictures").set_index("image")["sha256"]
    stimuli = run.table("stimuli").query("experiment == 'mixed' and phase == 'practice'")
    rows = tasks[(tasks["task"] == "demo_mixed") & (tasks["role"] == "query") & (tasks["end"] == "max")]
    assert list(rows["sha256"]) == list(sha256[stimuli["query_target"]])


def test_the_key_tells_whose_trial_an_answer_belongs_to(made):
    run, _, key = made
    main = read_sessions(run).query("phase == 'main'")
    assert not key.duplicated(["task", "task_trial"]).any() and len(key) == len(main)
    same = ["experiment", "participant", "trial", "stimulus", "feature"]
    assert key[same].reset_index(drop=True).equals(main[same].reset_index(drop=True))
    assert (key["task_trial"] == key["trial"] - 3).all()  # three are practice


def test_nine_references_count_down_to_0_and_a_run_may_do_without_practice(tmp_path):
    run = write_stimulus_run(tmp_path / "run", experiments=("mixed",), participants=1, pairs=1, practice=0)
    write(run, tmp_path / "tasks")
    files = set(read_tasks(tmp_path / "tasks").query("role == 'reference' and end == 'min' and trial == 1")["file"])
    assert files == {f"mixed/task_1/trials/trial_1/references/min_{k}.png" for k in range(9)}
    assert json.loads((tmp_path / "tasks" / "demo_mixed" / "index.json").read_text())["n_trials"] == 0


@pytest.mark.parametrize(
    ("references", "sentence"),
    [
        ((9, 3), "natural/task_1 shows 9 maximal and 3 minimal references; .* so export it as tables."),
        ((10, 10), "natural/task_1 shows 10 references at each end; .* shows 9, so export it as tables."),
    ],
)
def test_references_that_the_page_cannot_show_are_refused(tmp_path, references, sentence):
    run = write_stimulus_run(tmp_path / "run", experiments=("natural",), participants=1, pairs=1, references=references)
    with pytest.raises(RunError, match=sentence):
        write(run, tmp_path / "tasks")


def test_folders_of_their_own_script_are_read(made, tmp_path):
    # It writes the number of references as text, and no catch trials for practice.
    task = tmp_path / "resnet50_natural" / "task_1"
    shutil.copytree(made[1] / "natural" / "task_1", task)
    (task / "index.json").write_text(
        '{"task_name": "resnet50_natural/task_1", "n_reference_images": "3", "n_trials": 2}'
    )
    rows = read_tasks(tmp_path)
    assert len(rows) == 2 * (2 + 6) and not rows["catch"].any()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda task: (task / "index.json").write_text("{}"), "no index of a task"),
        (lambda task: (task / "index.json").write_text("[]"), "no index of a task"),
        (lambda task: (task / "index.json").write_text("{"), "not valid JSON"),
        (lambda task: (task / "trials" / "trial_2" / "queries" / "min.png").unlink(), "trial_2/queries/min.png cannot"),
        (lambda task: task.rename(task.parent / "task_2"), "says that it is natural/task_1"),
        (lambda task: shutil.rmtree(task), "holds no tasks"),
    ],
)
def test_damage_is_a_sentence(made, tmp_path, damage, sentence):
    shutil.copytree(made[1] / "natural" / "task_1", tmp_path / "natural" / "task_1")
    damage(tmp_path / "natural" / "task_1")
    with pytest.raises(RunError, match=sentence):
        read_tasks(tmp_path)
