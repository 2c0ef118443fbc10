"""Processes share a run: who they are, what they hear of each other, and the same bytes however many died."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featurecompute.crew import Crew, Seat
from featurecompute.errors import CrewError, InputError, RunError
from featurecompute.files import read_json, write_json

# At once: when tests run, a network of that name may stand in the way.
TINY = importlib.import_module("tiny") if importlib.util.find_spec("torch") else None
SLURM = {"SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "3"}


@pytest.mark.parametrize(
    "environment, wanted",
    [
        ({}, (0, 1, 0)),
        ({"RANK": "2"}, (0, 1, 0)),  # of no use alone, and set by others for other ends
        ({"RANK": "2", "WORLD_SIZE": "4"}, (2, 4, 2)),
        ({"RANK": "6", "WORLD_SIZE": "8", "LOCAL_RANK": "2"}, (6, 8, 2)),
        ({**SLURM, "SLURM_ARRAY_TASK_ID": "5"}, (2, 4, 2)),
        ({**SLURM, "SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_STEP": "2"}, (3, 4, 3)),
        ({**SLURM, "SLURM_ARRAY_TASK_ID": "5", "RANK": "0", "WORLD_SIZE": "2"}, (0, 2, 0)),
    ],
)
def test_a_process_knows_its_number_from_the_environment(environment, wanted):
    crew = Crew.from_environment(environment)
    assert (crew.rank, crew.world, crew.local) == wanted
    assert crew.lead == (wanted[0] == 0)


@pytest.mark.parametrize(
    "environment, said",
    [
        ({"RANK": "4", "WORLD_SIZE": "4"}, "RANK must be from 0 to WORLD_SIZE - 1"),
        ({"RANK": "-1", "WORLD_SIZE": "4"}, "RANK is -1"),
        ({"RANK": "one", "WORLD_SIZE": "4"}, "RANK = 'one'; it must be a whole number"),
        ({**SLURM, "SLURM_ARRAY_TASK_ID": "7"}, "task 7 of the SLURM array is none of 4 in even steps from 3"),
        ({**SLURM, "SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_STEP": "2"}, "give the array as a range"),
        ({"SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_ID": "4"}, "SLURM_ARRAY_TASK_MIN = ''"),
    ],
)
def test_numbers_that_number_nothing_are_refused(environment, said):
    with pytest.raises(InputError, match=said):
        Crew.from_environment(environment)


def seat(path, rank=0, world=2, patience=5.0, arrival=5.0):
    return Seat(path / "run", Crew(rank, world, patience=patience, arrival=arrival))


def word_of(path, rank=1, **changes):
    """Write the word of a process that is not there."""
    word = {"rank": rank, "world": 2, "host": socket.gethostname(), "pid": 7, "mark": "x", "time": time.time()}
    word |= {"doing": "", "told": {}, "met": {}, "failed": ""} | changes
    write_json(path / "run" / "processes" / f"{rank}.json", word)


def test_processes_hear_the_first_and_meet(tmp_path):
    def one(rank):
        mine, order = seat(tmp_path, rank, 3), []
        mine.take()
        assert mine.agree("value", {"a": rank}) == {"a": 0}
        mine.begin("scan")
        time.sleep(0.1 * rank)
        mine.tell("so far", rank)
        mine.meet("there", lambda: order.append(1))
        told = [read_json(mine.folder / f"{other}.json")["told"].get("so far") for other in range(3)]
        assert told == [0, 1, 2]
        mine.agree("told", True)
        mine.meet("read", lambda: None)
        mine.leave()
        return bool(order)

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(one, range(3))) == [True, False, False]
    assert list((tmp_path / "run").iterdir()) == []


def test_a_process_that_falls_silent_is_named(tmp_path):
    lead = seat(tmp_path, patience=0.4)
    lead.take()
    word_of(tmp_path, host="node7", pid=4711, doing="neurons")
    lead.begin("neurons", lambda rank: 3 * rank)
    since = time.monotonic()
    with pytest.raises(CrewError) as said:
        lead.meet("there", lambda: None)
    assert 0.4 <= time.monotonic() - since < 2
    assert str(said.value) == (
        "process 1 of 2 (node7, pid 4711) is lost at 'neurons' with 3 of its shards missing: it gave no sign of life "
        "for 0.4 s; start the run again with --resume."
    )
    lead.leave(said.value)


def test_a_process_that_beats_is_not_lost(tmp_path):
    lead, other = seat(tmp_path, patience=0.4), seat(tmp_path, 1, patience=0.4)
    lead.take()
    other.take()
    time.sleep(1)
    lead.check()
    other.check()
    with ThreadPoolExecutor(1) as pool:  # the lead waits for the others
        ended = pool.submit(lead.leave)
        time.sleep(0.1)
        assert not ended.done()
        other.leave()
        ended.result()
    assert not lead.folder.exists()


def test_a_lead_with_nothing_to_share_waits_for_who_comes_late(tmp_path):
    lead, other = seat(tmp_path), seat(tmp_path, 1)
    lead.take()
    lead.tell("all")
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(lead.leave)
        time.sleep(0.2)
        assert not ended.done()
        other.take()
        assert other.hear("all") is True
        other.leave()
        ended.result()
    assert not lead.folder.exists()


def test_a_lead_goes_without_who_is_lost_or_never_came(tmp_path):
    lead = seat(tmp_path, world=3, patience=0.4)
    lead.take()
    word_of(tmp_path, 1)
    since = time.monotonic()
    lead.leave()
    assert 0.4 <= time.monotonic() - since < 3
    assert not lead.folder.exists()


def test_a_word_that_is_being_written_is_left_alone(tmp_path):
    part = tmp_path / "run" / "processes" / ".1.json.part-x1.json"
    part.parent.mkdir(parents=True)
    part.write_text("{")
    lead = seat(tmp_path)
    lead.take()
    assert part.read_text() == "{"
    lead.leave(CrewError("over."))


def test_a_process_that_never_comes_is_named(tmp_path):
    lead = seat(tmp_path, arrival=0.2)
    lead.take()
    lead.check()  # it may still come
    with pytest.raises(CrewError, match=r"process 1 of 2 has not begun within 0\.2 s .* unset SLURM_ARRAY_TASK_ID"):
        lead.meet("there", lambda: None)
    lead.leave(CrewError("over."))
    with pytest.raises(CrewError, match="process 0 of 2 has not begun"):
        seat(tmp_path, 1, arrival=0.2).take()
    assert not lead.folder.exists()


def test_a_process_does_not_follow_the_words_of_a_run_that_was_killed(tmp_path):
    word_of(tmp_path, 0, told={"value": "old"}, met={"1": "mark of old"}, failed="old.")
    word_of(tmp_path, 1, told={"there": True}, met={"0": "x"})
    with ThreadPoolExecutor(1) as pool:
        other = seat(tmp_path, 1)
        taken = pool.submit(other.take)
        time.sleep(0.2)
        assert not taken.done()
        lead = seat(tmp_path)
        lead.take()
        taken.result()
        lead.tell("value", "new")
        assert other.hear("value") == "new"
        other.leave()
    lead.leave()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_seat_has_room_for_one(tmp_path, rank):
    lead = seat(tmp_path)
    lead.take()
    other = seat(tmp_path, 1)
    other.take()
    with pytest.raises(RunError, match=rf"run is being computed by another process \(.*, pid {os.getpid()}\)"):
        seat(tmp_path, rank).take()
    other.leave()
    lead.leave()


def test_a_run_on_another_machine_is_known_by_its_heartbeat(tmp_path):
    word_of(tmp_path, 0, host="node7")
    with pytest.raises(RunError, match=r"is being computed by another process \(node7, pid 7\)"):
        seat(tmp_path).take()
    assert read_json(tmp_path / "run" / "processes" / "0.json")["host"] == "node7"
    word_of(tmp_path, 0, host="node7", time=time.time() - 6)
    word_of(tmp_path, 1, host="node7", met={"0": "x"})  # its lead is gone, and it has not noticed
    with pytest.raises(RunError, match="pid 7"):
        seat(tmp_path).take()
    word_of(tmp_path, 1, host="node7", met={"0": "x"}, time=time.time() - 6)
    lead = seat(tmp_path)
    lead.take()
    lead.leave(CrewError("over."))
    assert not lead.folder.exists()


def test_a_run_of_another_number_of_processes_is_refused(tmp_path):
    lead = seat(tmp_path, world=3)
    lead.take()
    with pytest.raises(RunError, match=r"process 1 of 2 \(.*\) meets a run of 3 processes"):
        seat(tmp_path, 1, world=2).take()
    with pytest.raises(CrewError, match="meets a run of 3 processes"):
        lead.check()
    lead.leave(CrewError("over."))


# Whole runs, by processes as a user starts them.

COMMAND = """
import os, signal, sys
from dataclasses import replace
from featurecompute import cli, stages
from featurecompute.crew import Crew

read, write, left = Crew.from_environment, stages.write_arrays, [int(os.environ.get("SHARDS", 1000))]
Crew.from_environment = lambda environment: replace(read(environment), patience=float(os.environ["PATIENCE"]))

def deadly(path, arrays):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, arrays)

stages.write_arrays = deadly
cli.main()
"""


def start(study, out, *more, **environment):
    """Start a process that computes a study; it is killed when it has done as many shards as SHARDS says."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "compute", str(study), "--out", str(out), *more],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PATIENCE": "60"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends(processes):
    """Return each process's exit code, what it printed and what it said."""
    said = [process.communicate(timeout=120) for process in processes]
    return [(process.returncode, *both) for process, both in zip(processes, said, strict=True)]


@pytest.fixture(scope="module")
def tiny():
    pytest.importorskip("torch")
    return TINY


@pytest.fixture(scope="module")
def study(tiny, tmp_path_factory):
    path = tiny.write_study(
        tmp_path_factory.mktemp("crew"), contributions='methods = ["subtract"]\nmost_active = false'
    )
    path.write_text(path.read_text().replace("curves = 10", "curves = 2"))
    return path


@pytest.fixture(scope="module")
def alone(tiny, study):
    """Compute the study in one process; return what is the same in every run of it."""
    return compute(tiny, study, study.parent / "alone")


def compute(tiny, study, out):
    from featurecompute.pipeline import compute_study
    from featurecompute.study import read_study

    return tiny.contents(compute_study(read_study(study), out, resume=True).path)


@pytest.fixture(scope="module")
def killed(study, alone):
    """Kill one of two processes in the middle of a stage; return the folder and how both ended."""
    out = study.parent / "killed"
    both = [("0", "1000"), ("1", "1")]
    processes = [start(study, out, RANK=rank, WORLD_SIZE="2", SHARDS=n, PATIENCE="3") for rank, n in both]
    return out, ends(processes), processes[1].pid


def test_a_killed_process_is_noticed_and_named(killed):
    out, ((code, printed, said), (signalled, _, _)), pid = killed
    assert signalled == -9
    assert (code, printed) == (2, "")
    (sentence,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert f"process 1 of 2 ({socket.gethostname()}, pid {pid}) is lost at 'neurons' with 1 of its shards" in sentence
    assert sentence.endswith("start the run again with --resume.")
    assert len(list((out / "shards").rglob("*.safetensors"))) == 3


@pytest.fixture
def resumed(killed, tmp_path):
    """Give a copy of the run that lost a process; what was finished there must stay as it is."""
    out = tmp_path / "run"
    shutil.copytree(killed[0], out)
    kept = {path: path.stat().st_mtime_ns for path in (out / "shards").rglob("*.safetensors")}
    yield out
    assert kept and {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not (out / "processes").exists()


def test_a_run_that_lost_a_process_goes_on_with_one(tiny, study, alone, resumed):
    assert compute(tiny, study, resumed) == alone


def test_a_run_that_lost_a_process_goes_on_by_torchrun(tiny, study, alone, resumed):
    torchrun = Path(sys.executable).with_name("torchrun")
    if not torchrun.is_file():
        pytest.skip("torchrun is not beside Python")
    command = [torchrun, "--nproc-per-node", "2", "--no-python", sys.executable, "-c", COMMAND]
    command += ["compute", study, "--out", resumed, "--resume"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATIENCE": "60"}
    done = subprocess.run(command, timeout=120, check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, f"{resumed}\n"), done.stderr
    assert tiny.contents(resumed) == alone


def test_a_run_that_lost_a_process_goes_on_in_three_tasks_of_an_array(tiny, study, alone, resumed):
    array = {"SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_STEP": "2"}
    first, *others = ends([start(study, resumed, "--resume", SLURM_ARRAY_TASK_ID=task, **array) for task in "246"])
    assert first[:2] == (0, f"{resumed}\n") and "Warning" in first[2]
    assert others == [(0, "", "")] * 2  # one talks
    assert tiny.contents(resumed) == alone
