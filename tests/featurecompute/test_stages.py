"""Stages and shards resume by the hash of their inputs, and a folder is taken by one run only."""

from __future__ import annotations

import numpy as np
import pytest

from featurecompute.errors import RunError
from featurecompute.files import hash_file, hash_json, read_json, write_json
from featurecompute.stages import Folder, read_shards


@pytest.fixture
def folder(tmp_path):
    """Give a folder of a run, and what it says."""
    said = []
    found = Folder(tmp_path / "run", said.append, lambda *part: said.append(part))
    found.said = said
    return found


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
