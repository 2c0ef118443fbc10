"""Additions: a study and what it was extended by are one table, and nothing is added twice, by halves or by two."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from grown import STUDY, full_disk, growing_study, new_people, source
from studies import SMALL, contents, study_of

from psychostats.additions import BATCH, append, read_additions, read_extended
from psychostats.errors import DataError, InputError
from psychostats.ledger import read_ledger
from psychostats.simulation import write_simulation
from psychostats.study import read_study


@pytest.fixture
def study(tmp_path):
    return growing_study(tmp_path)


def add(study, trials, *names, key="", **more):
    return append(read_ledger(study), trials, [source(name) for name in names], study, key, **more)


# Reading ---------------------------------------------------------------------------------------------------------


def test_stored_trials_come_back_as_they_were(study):
    trials = new_people(["Größe, Ünï", "=1+1", 'two\nlines "x"']).assign(
        note=[None, "007", "", "=1+1", "a,b", "NA"] * 3,
        score=[1.5, np.nan, -0.0, 1e300, 0.1, 2] * 3,
        nothing=None,
        catch=[True, False] * 9,
        phase=pd.Categorical(["practice", "main", None] * 6, ["practice", "main"]),
    )
    back = read_additions(add(study, trials, "d.csv"))
    expected = trials.copy()
    for name in ("representation", "layer", "phase"):  # categories are text, whose order the study knows
        expected[name] = expected[name].astype(object)
    expected.index = pd.Index(range(1, len(trials) + 1), name="row")
    assert back.pop(BATCH).tolist() == [1] * 18
    assert {n: str(back[n].dtype) for n in ("trial", "depth", "correct", "rt", "score", "catch")} == {
        "trial": "int64", "depth": "float64", "correct": "int8", "rt": "float64", "score": "float64", "catch": "bool",
    }  # fmt: skip
    pd.testing.assert_frame_equal(back, expected, check_dtype=False)
    assert back["note"].isna().tolist() == trials["note"].isna().tolist()
    assert back["note"].dropna().tolist() == trials["note"].dropna().tolist()


def test_the_same_trials_are_the_same_bytes(study, tmp_path):
    (tmp_path / "other").mkdir()
    other = growing_study(tmp_path / "other")
    first, second = (add(one, new_people(["d", "e"]), "d.csv") for one in (study, other))
    assert first.rows["stored_sha256"].tolist() == second.rows["stored_sha256"].tolist()


def test_nothing_added_is_an_empty_table(study):
    back = read_additions(read_ledger(study))
    assert len(back) == 0
    assert list(back) == [BATCH]


def test_additions_with_other_columns_stand_under_each_other(study):
    add(study, new_people(["d"]), "d.csv")
    catch = [True, False, False, False, False, False]
    ledger = add(study, new_people(["e"]).assign(catch=catch, phase="repeat", confidence=2.0), "e.csv")
    back = read_additions(ledger)
    assert back["catch"].tolist() == [False] * 6 + catch
    assert back["catch"].dtype == bool
    assert back["phase"].tolist() == ["main"] * 6 + ["repeat"] * 6
    assert back["confidence"].isna().tolist() == [True] * 6 + [False] * 6
    assert back[BATCH].tolist() == [1] * 6 + [2] * 6


def test_a_study_without_additions_is_its_own_trials(study, tmp_path):
    whole = read_extended(study)
    own = study.examine(tmp_path / "trials.csv")
    assert whole.frame.pop(BATCH).tolist() == [0] * 18
    pd.testing.assert_frame_equal(whole.frame, own.frame)
    assert whole.faults == own.faults


def test_the_whole_is_what_one_file_of_all_would_be(study, tmp_path):
    """The study's file, coded its own way, and two additions are read as the same trials in one canonical file."""
    own = study.examine(tmp_path / "trials.csv").frame
    parts = [own, new_people(["d", "e"], seed=2), new_people(["f"], seed=3)]
    add(study, parts[1], "d.csv")
    add(study, parts[2], "f.csv")
    whole = read_extended(study)
    assert not whole.errors
    assert whole.n_rows == 36
    assert whole.frame.pop(BATCH).tolist() == [0] * 18 + [1] * 12 + [2] * 6
    assert whole.frame.index.tolist() == list(range(2, 38))
    assert whole.frame["representation"].cat.categories.tolist() == ["local", "distributed"]
    assert whole.frame["layer"].cat.categories.tolist() == ["b", "a"]  # by depth
    together = pd.concat([part.astype({"layer": str, "representation": str}) for part in parts])
    together.to_csv(tmp_path / "all.csv", index=False)
    plain = study_of(tmp_path, STUDY.partition("[columns]")[0] + STUDY[STUDY.index("[design]") :])
    expected = plain.examine(tmp_path / "all.csv").frame
    pd.testing.assert_frame_equal(whole.frame, expected, check_like=True)


def test_a_simulated_study_grows_by_half_of_itself(tmp_path):
    """Practice, catch and unanswered trials come back: the whole, split into two, is the whole again."""
    shutil.copy(SMALL, tmp_path / "small.toml")
    study = read_study(tmp_path / "small.toml")
    write_simulation(study, tmp_path / "all.csv")
    everyone = study.examine(tmp_path / "all.csv").frame
    late = everyone["participant"].isin(sorted(everyone["participant"].unique())[20:])
    raw = pd.read_csv(tmp_path / "all.csv", dtype=str, keep_default_na=False)
    raw[~late.to_numpy()].to_csv(tmp_path / "old.csv", index=False)
    add(study, everyone[late], "new.csv")
    whole = read_extended(study, tmp_path / "old.csv").frame
    assert whole.pop(BATCH).sum() == late.sum() > 0
    key = ["experiment", "participant", "trial", "phase"]
    sort = [frame.sort_values(key).reset_index(drop=True) for frame in (whole, everyone)]
    pd.testing.assert_frame_equal(sort[0], sort[1], check_like=True)


def test_the_whole_is_judged_again(study, tmp_path):
    add(study, new_people(["d"]), "d.csv")
    path = tmp_path / "study.toml"
    text = path.read_text()
    path.write_text(text.replace('"within"', '"between"'))
    assert "Assignment is 'between'" in read_extended(read_study(path)).errors[0].message
    # A level that the study did not have when the trials came, and does now, or the other way round.
    path.write_text(text + '\n[levels.layer]\na = "a"\nb = "b"\n')
    add(read_study(path), new_people(["e"]).assign(layer=["b", "b", "a"] * 2), "e.csv")
    assert not read_extended(read_study(path)).errors
    trials = pd.read_csv(tmp_path / "trials.csv").assign(layer="a", depth=1.0)
    trials.to_csv(tmp_path / "trials.csv", index=False)
    path.write_text(text.replace("[levels]", '[levels]\nlayer = ["a"]'))
    assert "Column 'layer' holds 'b'" in read_extended(read_study(path)).errors[0].message


def test_trials_that_stand_in_two_additions_are_a_fault(study):
    """Only a table that was put there by hand can hold them, since `append` refuses them."""
    ledger = add(study, new_people(["d"]), "d.csv")
    second = add(study, new_people(["e"]), "e.csv")
    shutil.copy(ledger.path.with_name("0001_trials.parquet"), ledger.path.with_name("0002_trials.parquet"))
    hashes = [rows["stored_sha256"].iloc[-1] for rows in (ledger.rows, second.rows)]
    ledger.path.write_text(ledger.path.read_text().replace(hashes[1], hashes[0]))
    (error,) = read_extended(study).errors
    assert error.message.startswith("Column 'trial' repeats in row 26 (and 5 more rows) what row 20 has (participant d")


def test_a_studys_own_trials_may_lie_in_a_database(tmp_path):
    address = "postgresql://lab:secret@127.0.0.1:1/db#trials"
    study = study_of(tmp_path, STUDY.replace('trials = "trials.csv"', f'trials = "{address}"'))
    assert study.study.trials == address
    (fault,) = read_extended(study).errors  # nobody listens there
    assert fault.message.startswith("Database 'postgresql://lab:***@127.0.0.1:1/db' cannot be read")


def test_faults_of_the_studys_own_file_are_returned(study, tmp_path):
    add(study, new_people(["d"]), "d.csv")
    (tmp_path / "trials.csv").write_text("subject,trial\na,1\n")
    assert "Column 'correct' is needed" in " ".join(fault.message for fault in read_extended(study).errors)
    assert "does not exist" in read_extended(study, tmp_path / "no.csv").errors[0].message
    nowhere = study.model_copy(update={"study": study.study.model_copy(update={"trials": ""})})
    with pytest.raises(InputError, match="does not say where its trials are"):
        read_extended(nowhere)


# Adding ----------------------------------------------------------------------------------------------------------


def refused(study, said, trials, *sources, error=InputError, **more):
    """Adding must fail with these words and leave every file as it was."""
    ledger = read_ledger(study)
    before = contents(ledger.path.parents[1])
    with pytest.raises(error, match=said) as caught:
        append(ledger, trials, sources or [source("new.csv")], study, **more)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert contents(ledger.path.parents[1]) == before
    assert ledger.path.parent.exists() == any(name.startswith("study.additions") for name in before)


def test_participants_who_are_in_the_study_already_are_refused(study, tmp_path):
    trials = new_people(["d", "e"])
    add(study, trials, "d.csv")
    own = study.examine(tmp_path / "trials.csv").frame
    same = "The study has the same answers of"
    refused(study, f"{same} 2 participants already", trials, error=DataError)
    refused(study, f"{same} 1 participant already", trials[6:8], error=DataError)
    refused(study, f"{same} 3 participants already", own, own=own, error=DataError)
    shuffled = trials.sample(frac=1, random_state=1)[sorted(trials, reverse=True)]
    refused(study, f"{same} 2 participants already", shuffled, error=DataError)


def test_other_answers_under_the_same_numbers_are_refused_and_another_session_is_not(study):
    trials = new_people(["d"])
    add(study, trials, "d.csv")
    again = trials.assign(correct=1 - trials["correct"], rt=trials["rt"] + 1)
    refused(study, "other answers to trials of the same number of 1 participant already", again, error=DataError)
    ledger = add(study, again.assign(trial=again["trial"] + 6), "d2.csv")
    ledger = append(ledger, new_people(["e"]).assign(session="1"), [source("e.csv")], study)
    assert append(ledger, new_people(["e"], 2).assign(session="2"), [source("e2.csv")], study).batches == 4


def test_who_takes_part_again_is_added_though_the_file_is_called_the_same(study):
    first = new_people(["d", "e"]).assign(session=lambda table: table["participant"] + ".json")
    later = new_people(["d", "f"], 2).assign(session=lambda table: table["participant"] + ".json")
    append(append(read_ledger(study), first, [source("first")], study), later, [source("later")], study)
    added = read_additions(read_ledger(study))
    named = added.groupby(["participant", "addition"])["session"].unique().map(list).to_dict()
    assert named == {
        ("d", 1): ["d.json"],
        ("e", 1): ["e.json"],
        ("d", 2): ["d.json:2"],
        ("f", 2): ["f.json"],
    }


def test_sessions_that_somebody_numbered_are_taken_at_their_word(study):
    append(read_ledger(study), new_people(["g"]).assign(session=1), [source("g")], study)
    refused(
        study, "other answers to trials of the same number", new_people(["g"], 2).assign(session=1), error=DataError
    )


def test_a_recording_that_was_saved_again_is_noticed_though_its_session_is_another(study):
    first, later = new_people(["d"], trials=12).assign(session="d.json"), new_people(["d"], 2, 12)
    add(study, first[:8], "d.csv")  # saved before the end
    refused(study, "the same answers of 1 participant already", first.assign(session="d (1).json"), error=DataError)
    ledger = add(study, later.assign(session="d2.json"), "d2.csv")
    # Without times, the same answers to most trials are no proof; the same answers to all are.
    plain = [frame.drop(columns="rt") for frame in (first.assign(session="3"), first.assign(session="4"))]
    plain[0] = plain[0].assign(participant="g")
    ledger = append(ledger, plain[0], [source("g.csv")], study)
    wrong = plain[1].assign(participant="g", correct=[1 - plain[1]["correct"].iloc[0], *plain[1]["correct"].iloc[1:]])
    refused(study, "the same answers of 1 participant already", plain[0].assign(session="5"), error=DataError)
    assert append(ledger, wrong, [source("g2.csv")], study).batches == 4


def test_trials_without_numbers_are_compared_by_their_answers(study):
    trials = new_people(["d", "e"]).drop(columns="trial")
    add(study, trials, "d.csv")
    refused(study, "the same answers of 1 participant already", trials[6:], error=DataError)
    assert add(study, new_people(["f"], 3).drop(columns="trial"), "f.csv").batches == 2
    again = pd.concat([trials[6:9], new_people(["e"], 5).drop(columns="trial")])  # took part again, alike in a few
    assert add(study, again, "e.csv").batches == 3


def test_what_must_not_be_stored_is_refused(study):
    trials = new_people(["d"])
    refused(study, "nothing to add", trials.iloc[:0])
    refused(study, "nothing to add", trials, source("d.csv", status="skipped"))
    refused(study, "Files 'd.csv' and 'e.csv' are the same", trials, source("d.csv"), source("e.csv", "d.csv"))
    refused(study, "Column 'participant' is needed", trials.drop(columns="participant"))
    refused(study, "Column 'addition' is what additions are numbered by", trials.assign(addition=1))
    for name in ("participant", "session", "url"):
        given = trials.assign(**{name: "x/5f3a9c2e1b7d4a6f8e0c1d2b.json"})
        refused(study, f"Column '{name}' holds ids of a recruiting platform", given)
    refused(study, "cannot be stored", trials.assign(odd=[1, "a", (2,), None, 3.5, {}]))
    add(study, trials, "d.csv", key="aaaa")
    refused(study, r"made with another key \(bbbb\)", new_people(["e"]), key_fingerprint="bbbb")
    assert add(study, new_people(["e"]), "e.csv", key="aaaa").batches == 2


def test_additions_of_a_process_that_was_killed_before_the_ledger_are_overwritten(study):
    """A kill between the two writes leaves a whole table that no ledger names; one within a write, a partial file."""
    for batch in (1, 2):
        ledger = read_ledger(study)
        ledger.path.parent.mkdir(exist_ok=True)
        table = ledger.path.with_name(f"{batch:04d}_trials.parquet")
        table.write_bytes(b"left")
        table.with_name(f".{table.name}.partial").write_bytes(b"half")
        (ledger.path.parent / ".ledger.csv.partial").write_bytes(b"half")
        assert read_ledger(study).batches == batch - 1
        person = "de"[batch - 1]
        assert set(read_additions(add(study, new_people([person]), f"{person}.csv"))["participant"]) == set(
            "de"[:batch]
        )
        assert len(list(ledger.path.parent.iterdir())) == batch + 1


APPEND = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from grown import new_people, source
from psychostats.additions import append
from psychostats.errors import InputError
from psychostats.ledger import read_ledger
from psychostats.study import read_study
study, name = read_study(sys.argv[2]), sys.argv[3]
trials = new_people([name])
ledger = read_ledger(study)
print("ready", flush=True)
sys.stdin.readline()
try:
    append(ledger, trials, [source(name)], study)
except InputError as error:
    sys.exit(str(error))
"""


def appending(study, name):
    arguments = [sys.executable, "-c", APPEND, str(Path(__file__).parent), str(study.path), name]
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_two_who_append_at_once_both_come_or_one_is_told(study):
    others = [appending(study, name) for name in ("d", "e")]
    for one in others:
        assert one.stdout.readline() == "ready\n"
    for one in others:
        one.stdin.write("\n")
        one.stdin.flush()
    said = [one.communicate()[1] for one in others]
    good = [name for name, one in zip("de", others, strict=True) if one.returncode == 0]
    assert good
    assert all("another process is adding to" in words for words in said if words)
    ledger = read_ledger(study)
    assert sorted(ledger.rows["file"]) == good
    assert ledger.rows["batch"].tolist() == list(range(1, len(good) + 1))
    assert sorted(read_additions(ledger)["participant"].unique()) == good
    assert len(list(ledger.path.parent.iterdir())) == len(good) + 1


@pytest.mark.parametrize(("before", "limit"), [(0, 100), (4, 20_000)])
def test_a_full_disk_leaves_everything_as_it_was(study, before, limit):
    ledger = read_ledger(study)
    for person in range(before):
        ledger = add(study, new_people([f"p{person}"]), *(f"{person}_{number}" for number in range(30)))
    if before:  # room for the table, none for the ledger
        assert ledger.path.stat().st_size > limit > ledger.path.with_name("0001_trials.parquet").stat().st_size
    held = contents(ledger.path.parents[1])
    said = re.escape(f"the addition cannot be written to {ledger.path.parent}: File too large.")
    with full_disk(limit), pytest.raises(InputError, match=said):
        add(study, new_people(["new"]), "new")
    assert contents(ledger.path.parents[1]) == held
    assert ledger.path.parent.exists() == bool(before)
    assert add(study, new_people(["new"]), "new").batches == before + 1


def test_a_folder_that_cannot_be_made_is_named(study, tmp_path):
    (tmp_path / "study.additions").write_text("a file")
    refused(study, "study.additions cannot be written: File exists", new_people(["d"]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(study, tmp_path):
    tmp_path.chmod(0o500)
    try:
        refused(study, "study.additions cannot be written: Permission denied", new_people(["d"]))
    finally:
        tmp_path.chmod(0o700)
