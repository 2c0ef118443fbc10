"""Stages and shards resume by the hash of their inputs, and a folder is taken by one run only."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from featurecompute.crew import Crew
from featurecompute.errors import CrewError, InputError, RunError
from featurecompute.files import hash_file, hash_json, read_json, write_json
from featurecompute.stages import Folder, read_shards


@pytest.fixture
def folder(tmp_path):
    """Give a folder of a run, and what it says."""
    said = []
    found = Folder(tmp_path / "run", said.append, lambda *part: said.append(part))
    found.said = said
    yield found
    found.seat.leave()


def together(folder, world, work):
    """Do work in a folder as each process of a crew would, in threads; return what each gave or raised, in order."""

    def one(rank):
        found = Folder(folder.path, folder.say, folder.progress, Crew(rank, world, patience=60, arrival=60))
        try:
            with found.working("key", resume=True):
                return work(found)
        except InputError as error:
            return error

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(one, range(world)))


def again(folder):
    """Return the same folder as another process would open it."""
    return Folder(folder.path, folder.say, folder.progress)


def numbers(folder, value, name="numbers"):
    """Return work that writes two files, and what counts how often it was done."""
    done = []

    def work():
        done.append(value)
        for number in (1, 2):
            write_json(folder.path / f"{name}{number}.json", [value, number])
        return [folder.path / f"{name}{number}.json" for number in (1, 2)]

    return work, done


def test_a_stage_is_done_once_for_the_same_inputs(folder):
    work, done = numbers(folder, 1)
    for _ in range(3):
        folder = again(folder)
        folder.stage("numbers", {"a": 1, "b": [2]}, work)
    assert done == [1]
    (record,) = folder.stages
    assert record == {
        "name": "numbers",
        "inputs_sha256": hash_json({"b": [2], "a": 1}),
        "status": "done",
        "outputs": [
            {"path": f"numbers{number}.json", "sha256": hash_file(folder.path / f"numbers{number}.json")}
            for number in (1, 2)
        ],
    }
    assert read_json(folder.path / "timings.json").keys() == {"numbers"}


def test_other_inputs_are_another_stage(folder):
    work, done = numbers(folder, 1)
    for inputs in ({"a": 1}, {"a": 2}, {"a": 1}):
        folder.stage("numbers", inputs, work)
    assert done == [1, 1, 1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "numbers2.json").unlink(),
        lambda path: (path / "numbers2.json").write_text("[1, 3]\n"),
        lambda path: (path / "stages" / "numbers.json").write_text("{"),
        lambda path: (path / "stages" / "numbers.json").unlink(),
    ],
)
def test_what_was_damaged_is_done_again(folder, damage):
    work, done = numbers(folder, 1)
    folder.stage("numbers", {}, work)
    damage(folder.path)
    again(folder).stage("numbers", {}, work)
    assert done == [1, 1] and read_json(folder.path / "numbers2.json") == [1, 2]
    again(folder).stage("numbers", {}, work)
    assert done == [1, 1]


def test_a_stage_that_failed_leaves_no_stamp(folder):
    work, done = numbers(folder, 1)

    def fail():
        work()
        raise ValueError

    with pytest.raises(ValueError):
        folder.stage("numbers", {}, fail)
    folder.stage("numbers", {}, work)
    assert done == [1, 1]


def test_a_new_or_empty_folder_is_taken(folder):
    folder.claim("key", resume=False)
    assert read_json(folder.path / "claim.json") == {"key": "key"}


def test_what_was_half_written_does_not_fill_a_folder(folder):
    folder.path.mkdir()
    (folder.path / ".claim.json.part-1").write_text("")
    folder.claim("key", resume=False)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_something_else_is_refused(folder, resume):
    folder.path.mkdir()
    (folder.path / "thesis.tex").write_text("years")
    with pytest.raises(RunError, match="is not empty and holds no run"):
        folder.claim("key", resume=resume)
    assert [path.name for path in folder.path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_another_run_is_refused(folder, resume):
    folder.claim("key", resume=False)
    with pytest.raises(RunError, match="holds a run of other settings, files or versions"):
        folder.claim("other", resume=resume)


def test_an_unfinished_run_is_gone_on_with_only_when_asked(folder):
    folder.claim("key", resume=False)
    with pytest.raises(RunError, match="unfinished run of this study; go on with it by --resume"):
        folder.claim("key", resume=False)
    folder.claim("key", resume=True)
    folder.seal({"schema": "x"})
    folder.claim("key", resume=False)  # a finished one is answered from


def test_a_file_is_no_folder(folder):
    folder.path.write_text("")
    with pytest.raises(RunError, match="cannot be looked into"):
        folder.claim("key", resume=False)


def test_the_record_holds_the_stages_in_order(folder):
    for name in ("b", "a"):
        folder.stage(name, {}, numbers(folder, 1, name)[0])
    folder.seal({"schema": "x"})
    record = read_json(folder.path / "run.json")
    assert record["schema"] == "x" and [stage["name"] for stage in record["stages"]] == ["b", "a"]


def test_shards_are_kept_and_whole_ones_are_not_done_again(folder):
    done = []

    def work(first, last):
        done.append((first, last))
        if first == 8 and len(done) == 3:
            raise KeyboardInterrupt
        return {"x": np.arange(first, last)}

    with pytest.raises(KeyboardInterrupt):
        folder.shards("scan", {"a": 1}, 10, 4, work)
    paths = again(folder).shards("scan", {"a": 1}, 10, 4, work)
    assert done == [(0, 4), (4, 8), (8, 10), (8, 10)]
    assert np.concatenate([shard["x"] for shard in read_shards(paths)]).tolist() == list(range(10))
    assert folder.said[-3:] == [("scan", 1, 3), ("scan", 2, 3), ("scan", 3, 3)]

    before = [hash_file(path) for path in paths]
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    assert again(folder).shards("scan", {"a": 1}, 10, 4, work) == paths
    assert done[4:] == [(4, 8)] and [hash_file(path) for path in paths] == before

    assert not set(again(folder).shards("scan", {"a": 2}, 10, 4, work)) & set(paths)
    assert [hash_file(path) for path in paths] == before


def test_nothing_makes_no_shard(folder):
    assert folder.shards("scan", {}, 0, 4, lambda first, last: {}) == []


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_processes_do_their_shards_and_the_first_all_else(folder, world):
    done = []

    def run(found):
        rank = found.crew.rank

        def shard(first, last):
            done.append((rank, first))
            return {"x": np.arange(first, last)}

        def gather(paths):
            done.append((rank, "gather"))
            write_json(found.path / "sum.json", sum(int(shard["x"].sum()) for shard in read_shards(paths)))
            return [found.path / "sum.json"]

        def single():
            done.append((rank, "single"))
            write_json(found.path / "single.json", 1)
            return [found.path / "single.json"]

        found.stage("single", {}, single)
        parts = found.sharded("parts", {"a": 1}, 14, 4, shard)
        (total,) = found.sharded("sum", {"a": 1}, 14, 4, shard, gather)
        found.seal({"schema": "x"})
        return [path.name for path in parts], read_json(total), found.stages

    answers = together(folder, world, run)
    assert answers == [answers[0]] * world and answers[0][:2] == ([f"{n:05d}.safetensors" for n in range(4)], 91)
    wanted = [(n % world, 4 * n) for n in range(4)] * 2 + [(0, "gather"), (0, "single")]
    assert sorted(done, key=str) == sorted(wanted, key=str)
    assert not (folder.path / "processes").exists()
    assert read_json(folder.path / "run.json")["stages"] == answers[0][2]

    done.clear()  # a finished stage is kept by all, however many they are now
    assert together(folder, 2, run) == [answers[0]] * 2 and done == []


def test_what_is_done_first_is_done_in_the_first_process_before_the_others(folder):
    order = []

    def run(found):
        def work():
            time.sleep(0.05)
            order.append(found.crew.rank)
            return found.crew.rank

        return found.first("thing", work)

    assert together(folder, 3, run) == [0, 1, 2]
    assert order[0] == 0 and sorted(order) == [0, 1, 2]


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_fault_in_one_process_ends_all_with_its_reason(folder, rank):
    def run(found):
        def shard(first, last):
            if found.crew.rank == rank:
                raise InputError("the images are upside down.")
            return {"x": np.arange(first, last)}

        found.seat.meet("all are here", lambda: None)
        found.shards("scan", {}, 30, 2, shard)

    answers = together(folder, 3, run)
    assert type(answers[rank]) is InputError
    for other in {0, 1, 2} - {rank}:
        assert isinstance(answers[other], CrewError)
        assert f"process {rank} of 3 (" in str(answers[other])
        assert "failed at 'scan': the images are upside down." in str(answers[other])
    claim = folder.path / "claim.json"
    # Only what the user gave is a reason to give the folder up.
    assert (read_json(claim)["key"] if claim.is_file() else None) == ("key" if rank else None)


def test_processes_that_are_not_alike_are_refused(folder):
    def claim(key, rank, threads):
        found = Folder(folder.path, folder.say, folder.progress, Crew(rank, 2, patience=60, arrival=60))
        try:
            with found.working(key, resume=True, threads=threads):
                found.shards("scan", {}, 4, 1, lambda first, last: {"x": np.zeros(1)})
        except RunError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(claim, ["key", "key"], [0, 1], [1, 4])
    assert first.endswith(second) or second in first
    assert "process 1 of 2 computes with 4 threads and process 0 with 1" in second
    folder.claim("key", resume=True)
    assert "holds a run of other settings" in claim("other", 1, 1)


def test_a_second_run_is_refused_while_the_first_is_at_work(folder):
    with folder.working("key", resume=True):
        for resume in (False, True):
            with (
                pytest.raises(
                    RunError, match=r"is being computed by another process \(.*two runs cannot share a folder"
                ),
                again(folder).working("key", resume=resume),
            ):
                raise AssertionError
    with again(folder).working("key", resume=True):
        pass
