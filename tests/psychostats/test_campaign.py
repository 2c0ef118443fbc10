"""A campaign keeps each result once: what is damaged is made again, and no end of any kind loses what is done."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from labour import large, square

from psychostats.campaign import Campaign, Task
from psychostats.errors import InputError
from psychostats.executors import Local, Stopped
from psychostats.locks import held_alone
from psychostats.outlook import MANY, Outlook, look_ahead
from psychostats.progress import shown_progress, told

HERE = Path(__file__).parent


def campaign(folder: Path, **changed: Any) -> Campaign:
    return Campaign(folder, square, changed.pop("shared", 1.0), {"data": "abc", "seed": 1} | changed)


def tasks(number: int) -> list[Task]:
    return [Task(f"part{x % 3}/{x}", {"x": x}) for x in range(number)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- Results -----------------------------------------------------------------------------------------------------------


def test_results_are_those_of_the_tasks_in_their_order_and_files_the_same_whoever_makes_them(tmp_path: Path) -> None:
    one, two = campaign(tmp_path / "one"), campaign(tmp_path / "two")
    assert one.run(tasks(12), Local(1)) == 12 and two.run(reversed(tasks(12)), Local(2)) == 12
    assert [(task.name, found["x"]) for task, found in one.results(tasks(12))] == [
        (f"part{x % 3}/{x}", x * x + 1.0) for x in range(12)
    ]
    assert files(tmp_path / "one") == files(tmp_path / "two")
    held = json.loads((tmp_path / "one" / "part1" / "4.json").read_text())
    assert held["task"] == {"name": "part1/4", "x": 4} and held["result"] == {"x": 17.0}


def test_only_what_is_missing_is_done(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = campaign(tmp_path)
    assert made.run(tasks(5), Local(1)) == 5
    before = files(tmp_path)
    assert made.run(tasks(9), Local(1), progress=lambda done, total, left: seen.append((done, total))) == 4
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert made.run(tasks(9), Local(1)) == 0 and made.missing(tasks(9)) == []
    assert {name: content for name, content in files(tmp_path).items() if name in before} == before


def test_a_nan_is_none_and_text_of_any_kind_comes_back(tmp_path: Path) -> None:
    made = Campaign(tmp_path, _odd, None, {})
    one = [Task("ä b", {"text": "é\n\ud800"})]
    made.run(one, Local(1))
    ((_, found),) = made.results(one)
    assert found == {"nan": None, "text": "é\n\ud800", "list": [1, None]}


def _odd(shared: Any, values: Any) -> dict[str, Any]:
    return {"nan": float("nan"), "text": values["text"], "list": (1, float("inf"))}


# -- What is damaged or other ------------------------------------------------------------------------------------------


def damage(content: bytes) -> Iterator[bytes]:
    """Give what may become of a file: cut anywhere, a changed letter, nothing, zeros, another file's content."""
    yield from (content[:n] for n in range(0, len(content), 7))
    for n in range(0, len(content), 5):
        yield content[:n] + bytes([content[n] ^ 1]) + content[n + 1 :]
    yield from (b"\0" * len(content), content + b"x", b"{}", b"null", b"[]")


def test_every_damage_is_found_and_made_good(tmp_path: Path) -> None:
    made, one = campaign(tmp_path), [Task("a", {"x": 3})]
    made.run(one, Local(1))
    path = tmp_path / "a.json"
    content = path.read_bytes()
    for bad in damage(content):
        path.write_bytes(bad)
        assert made.look(one).damaged == 1 and list(made.results(one)) == [], bad
    said: list[str] = []
    assert made.run(one, Local(1), say=said.append) == 1 and path.read_bytes() == content
    assert said == [f"1 result was damaged or half-written in {tmp_path}, and made again"]


def test_a_result_of_another_task_or_campaign_does_not_count(tmp_path: Path) -> None:
    made = campaign(tmp_path / "one")
    made.run([Task("a", {"x": 3})], Local(1))
    assert [task.name for task in made.missing([Task("a", {"x": 4})])] == ["a"]
    other = campaign(tmp_path / "two", seed=2)
    other.run([Task("b", {"x": 1})], Local(1))
    shutil.copy(tmp_path / "one" / "a.json", tmp_path / "two" / "a.json")
    assert other.look([Task("a", {"x": 3})]).damaged == 1


def test_a_folder_of_other_work_is_emptied_only_where_that_is_asked_for(tmp_path: Path) -> None:
    campaign(tmp_path).run(tasks(2), Local(1))
    before, other = files(tmp_path), campaign(tmp_path, seed=2)
    campaign(tmp_path).claim(True)  # its own results stay
    with pytest.raises(InputError, match=r"results of other work \(seed\); give another folder, or --overwrite\.$"):
        other.claim(False)
    assert files(tmp_path) == before
    other.claim(True)
    assert not tmp_path.exists()
    tmp_path.mkdir()
    (tmp_path / "campaign.json").write_text("no campaign's")
    with pytest.raises(InputError, match="cannot be used"):
        other.claim(True)
    assert (tmp_path / "campaign.json").read_text() == "no campaign's"


def test_a_folder_of_other_work_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    campaign(tmp_path / "one").run(tasks(2), Local(1))
    before = files(tmp_path)
    for call in (lambda made: made.run(tasks(2), Local(1)), lambda made: made.look(tasks(2))):
        with pytest.raises(InputError, match=r"one holds results of other work \(seed\); give another folder\.$"):
            call(campaign(tmp_path / "one", seed=2))
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"two is not empty and holds no results; give another folder\.$"):
        campaign(tmp_path / "two").run(tasks(2), Local(1))
    (tmp_path / "three").mkdir()
    for text in ("{", "[]", "null", ""):
        (tmp_path / "three" / "campaign.json").write_text(text)
        with pytest.raises(InputError, match="three cannot be used"):
            campaign(tmp_path / "three").run(tasks(2), Local(1))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file cannot be used|file cannot be made"):
        campaign(tmp_path / "file").run(tasks(2), Local(1))
    assert {name: content for name, content in files(tmp_path).items() if name in before} == before
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["thesis.txt"]


def test_one_process_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    made = campaign(tmp_path)
    made.run(tasks(2), Local(1))
    with held_alone(tmp_path, "at work in"):
        with pytest.raises(InputError, match=r"another process is at work in .*; try again when it is done"):
            made.run(tasks(3), Local(1))
        assert len(made.missing(tasks(3))) == 1 and made.run(tasks(2), Local(1)) == 0  # to look needs no lock
    assert made.run(tasks(3), Local(1)) == 1


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    made = campaign(tmp_path)
    made.run(tasks(2), Local(1))
    (tmp_path / ".part-abcd").write_text("half")
    made.run(tasks(3), Local(1))
    assert not list(tmp_path.glob(".part-*"))


# -- When it cannot go on ----------------------------------------------------------------------------------------------


class Breaking:
    """An executor that does three tasks and then cannot go on."""

    workers = 1

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.closed = False

    def describe(self) -> str:
        return "nowhere"

    def run(self, work: Any, shared: Any, todo: Any) -> Any:
        try:
            for task in list(todo)[:3]:
                yield task, work(shared, task)
            raise self.error
        finally:
            self.closed = True


def test_what_is_done_is_told_when_the_workers_are_gone(tmp_path: Path) -> None:
    made = campaign(tmp_path)
    made.run(tasks(2), Local(1))
    last = f"5 of 10 are done and lie in {tmp_path}, and the same command goes on."
    with pytest.raises(Stopped) as stopped:
        made.run(tasks(10), Breaking(Stopped("the scheduler went away.")))
    assert str(stopped.value) == f"the scheduler went away; {last}"
    with pytest.raises(KeyboardInterrupt) as interrupted:
        made.run(tasks(10), Breaking(KeyboardInterrupt()))
    assert str(interrupted.value) == f"interrupted; {last.replace('5', '8', 1)}"
    assert made.run(tasks(10), Local(1)) == 2


FULL = """
import resource, sys
from pathlib import Path
from labour import large
from psychostats import cli
from psychostats.campaign import Campaign, Task
from psychostats.executors import Local

@cli.app.command()
def work(folder: Path, shared: int = 20000):
    made = Campaign(folder, large, shared, {})
    made.run([Task(str(x), {"x": x}) for x in range(50)], Local(2))

if __name__ == "__main__":
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    sys.argv = sys.argv[:3]
    cli.main()
"""


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])}


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "command.py").write_text(FULL)
    kept = tmp_path / "kept"
    command = [sys.executable, str(tmp_path / "command.py"), "work", str(kept), "limited"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    last = f"0 of 50 are done and lie in {kept}, and the same command goes on."
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {kept} cannot be written: {os.strerror(errno.EFBIG)}; {last}\n"
    assert [path.name for path in kept.iterdir()] == ["campaign.json"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a small disk")
def test_a_full_disk_keeps_what_is_done(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    script = f"mount -t tmpfs -o size=2m none {disk} && "
    if shutil.which("unshare") is None or subprocess.run([*mount, script + "true"], capture_output=True).returncode:
        pytest.skip("a disk of its own cannot be mounted here")
    (tmp_path / "command.py").write_text(FULL)
    script += (
        f"{sys.executable} {tmp_path / 'command.py'} work {disk / 'kept'}; code=$?; ls -A {disk / 'kept'}; exit $code"
    )
    done = subprocess.run([*mount, script], env=environment(), capture_output=True, text=True, timeout=120, check=False)
    there = done.stdout.split()
    results = len(there) - 1
    assert done.returncode == 2 and results >= 5 and all(name[0] != "." for name in there)
    assert done.stderr == (
        f"error: {disk / 'kept'} cannot be written: {os.strerror(errno.ENOSPC)}; {results} of 50 are done and lie in "
        f"{disk / 'kept'}, and the same command goes on.\n"
    )


# -- Size --------------------------------------------------------------------------------------------------------------


def test_many_finished_tasks_are_looked_at_quickly(tmp_path: Path) -> None:
    """A result is hashed, not read: 20,000 of them took 1.0 to 1.5 s of one core."""
    made = Campaign(tmp_path, square, 0, {})
    every = [Task(str(x), {"x": x}) for x in range(2000)]
    made.run(every, Local(1))
    began = time.process_time()
    assert made.missing(every) == []
    assert time.process_time() - began < 2.0


def test_memory_does_not_grow_with_the_number_of_results(tmp_path: Path) -> None:
    """Beyond the tasks themselves, which are given: 400 numbers a task are not kept."""
    peaks = []
    for number in (100, 400):
        made, every = Campaign(tmp_path / str(number), large, 400, {}), [Task(str(x), {"x": x}) for x in range(number)]
        made.run(every[:1], Local(1))  # what is imported and cached once
        tracemalloc.start()
        made.run(every, Local(1))
        for _ in made.results(every):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] and peaks[1] < 1e6, peaks  # 300 results more are 4 MB


# -- Outlook and progress ----------------------------------------------------------------------------------------------


def outlook(missing: int, seconds: float | None = 2.0, workers: int = 4) -> Outlook:
    return Outlook("fits", Path("out"), 10_000, missing, 0, seconds, workers, "4 processes on this machine")


def test_the_rest_takes_whole_rounds_of_all_workers() -> None:
    assert outlook(9).seconds_left == 6.0 and outlook(8).seconds_left == 4.0 and outlook(0, None).seconds_left == 0.0


def test_more_than_anyone_asks_for_lightly_needs_a_second_word() -> None:
    outlook(MANY).require_meant(False)
    outlook(MANY + 1).require_meant(True)
    with pytest.raises(InputError) as refused:
        outlook(10_000).require_meant(False)
    assert str(refused.value) == (
        f"10,000 fits are to be done, about 83 min on 4 processes on this machine; more than {MANY:,} are not begun "
        "without being asked for: add --yes, or --dry-run to look first."
    )


def test_a_dry_run_says_what_there_is_and_writes_nothing(tmp_path: Path) -> None:
    made = campaign(tmp_path / "kept")
    ahead = look_ahead(made, tasks(40), Local(2), "fits")
    assert not (tmp_path / "kept").exists() and ahead.seconds is not None and 0 < ahead.seconds < 1
    assert ahead.row() | {"seconds_each": 0, "seconds_left": 0} == {
        "tasks": 40, "done": 0, "missing": 40, "damaged": 0, "seconds_each": 0, "seconds_left": 0, "workers": 2,
        "where": "2 processes on this machine",
    }  # fmt: skip
    made.run(tasks(30), Local(1))
    (tmp_path / "kept" / "part0" / "0.json").write_text("{")
    assert look_ahead(made, tasks(40), Local(2), "fits", seconds=90.0).describe() == (
        f"40 fits, of which 29 are done and lie in {tmp_path / 'kept'} (and 1 damaged, to be made again); the other "
        "11 take about 9 min on 2 processes on this machine (1.5 min each)."
    )
    made.run(tasks(40), Local(1))
    assert look_ahead(made, tasks(40), Local(2), "fits").describe().endswith("; nothing is left to do.")


def test_lines_come_every_tenth_or_minute() -> None:
    said: list[str] = []
    now = 0.0
    show = told("fits", said.append, lambda: now)
    for done in range(1, 201):
        now += 1.0
        show(done, 200, 200.0 - done)
    assert said[0] == "fits: 20 of 200, about 3 min left" and said[-1] == "fits: 200 of 200" and len(said) == 10
    said.clear()
    show = told("fits", said.append, lambda: now)
    for done in range(1, 5):
        now += 40.0
        show(done, 1000, 40.0 * (1000 - done))
    assert said == ["fits: 2 of 1,000, about 11 h left", "fits: 4 of 1,000, about 11 h left"]


def test_a_bar_is_drawn_on_a_terminal_and_is_gone_after_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError), shown_progress("fits", print, bar=True) as show:
        show(3, 10, 5.0)
        raise InputError("no")
    err = capsys.readouterr().err
    assert "fits" in err and "3/10" in err
    with shown_progress("fits", print, bar=False) as show:
        show(10, 10, 0.0)
    assert capsys.readouterr().out == "fits: 10 of 10\n"
