"""Processes of this machine: every task once, whatever becomes of a process, and nothing is left running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labour import fail, record, square

from psychostats.campaign import Task
from psychostats.errors import InputError
from psychostats.executors import AHEAD, DEATHS, Local, Stopped, name_of
from psychostats.options import choose_executor
from psychostats.threads import cores

HERE = Path(__file__).parent
LONG = 120.0  # seconds that nothing here takes, also on a busy machine


def wait_for(true: Callable[[], object], what: str) -> None:
    """Wait until something is so."""
    until = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < until, f"it was waited for in vain that {what}"
        time.sleep(0.02)


def alive(process: int) -> bool:
    """Whether a process is there, and no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def processes(folder: Path) -> set[int]:
    """Return the processes that began a task."""
    return {int(path.name.split("-")[1]) for path in folder.glob("*-*-*")}


def numbers(workers: int, tasks: Any) -> list[tuple[Any, Any]]:
    return list(Local(workers).run(square, 0.5, tasks))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_task_is_done_once_and_by_any_number_of_workers_alike(workers: int) -> None:
    found = numbers(workers, ({"x": x} for x in range(30)))
    assert sorted(result["x"] for _, result in found) == [x * x + 0.5 for x in range(30)]
    assert all(result["x"] == task["x"] ** 2 + 0.5 for task, result in found)
    assert numbers(workers, []) == []


def test_tasks_are_taken_as_workers_become_free() -> None:
    """So that memory does not grow with their number: no more are taken than may be under way."""
    taken = 0

    def tasks() -> Any:
        nonlocal taken
        for x in range(200):
            taken += 1
            yield {"x": x}

    for done, _ in enumerate(Local(2).run(square, 0, tasks()), start=1):
        assert taken <= done + 2 * AHEAD
    assert done == taken == 200


def test_what_all_share_is_sent_once_a_worker_and_a_process_has_one_thread() -> None:
    big = np.zeros(2_000_000)  # 16 MB: a hundred times that would take long
    began = time.monotonic()
    found = dict(Local(2).run(_facts, big, range(100)))
    assert time.monotonic() - began < LONG
    assert {fact["threads"] for fact in found.values()} == {1}
    assert {fact["size"] for fact in found.values()} == {len(big)}
    assert len({fact["process"] for fact in found.values()}) == 2
    for process in {fact["process"] for fact in found.values()}:
        assert len({fact["identity"] for fact in found.values() if fact["process"] == process}) == 1


def _facts(shared: Any, number: int) -> dict[str, Any]:
    from threadpoolctl import threadpool_info

    most = max(pool["num_threads"] for pool in threadpool_info())
    return {"size": len(shared), "process": os.getpid(), "threads": most, "identity": id(shared)}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fault_in_a_task_is_raised_as_it_is(workers: int) -> None:
    with pytest.raises(ValueError, match="task 7 is at fault"):
        list(Local(workers).run(fail, None, [{"x": 7}]))


def test_a_process_that_is_killed_is_replaced_and_its_task_done_again(tmp_path: Path) -> None:
    tasks = [{"x": x, "once": x in (3, 11)} for x in range(20)]
    found = list(Local(2).run(record, str(tmp_path), tasks))
    assert Counter(result["x"] for _, result in found) == Counter(range(20))
    assert len(list(tmp_path.glob("3-*"))) >= 2 and len(list(tmp_path.glob("11-*"))) >= 2
    wait_for(lambda: not any(map(alive, processes(tmp_path))), "workers end")


def test_a_task_that_ends_every_process_is_named_and_no_other_is(tmp_path: Path) -> None:
    tasks = [Task(f"fit/{x}", {"x": x, "die": x == 4}) for x in range(8)]
    done = []
    with pytest.raises(Stopped, match=r"^the task fit/4 ended 3 processes, the last one alone \(killed from outside"):
        done += [result["x"] for _, result in Local(2).run(_values, (record, str(tmp_path)), tasks)]
    assert len(list(tmp_path.glob("4-*"))) == DEATHS


def _values(shared: Any, task: Task) -> Any:
    work, rest = shared
    return work(rest, task.values)


def test_what_is_not_taken_is_not_done(tmp_path: Path) -> None:
    """A generator that is closed ends its workers at once, whatever they are doing."""
    results = Local(2).run(record, str(tmp_path), [{"x": x, "wait": x > 0} for x in range(10)])
    assert next(results)[1]["x"] == 0
    results.close()
    wait_for(lambda: not any(map(alive, processes(tmp_path))), "workers end")
    assert len(list(tmp_path.glob("*-*-*"))) <= 1 + 2 * AHEAD


CAMPAIGN = """
import sys
from pathlib import Path
from labour import record
from psychostats import cli
from psychostats.campaign import Campaign, Task
from psychostats.executors import Local

@cli.app.command()
def work(folder: Path):
    tasks = [Task(str(x), {"x": x, "wait": x >= 4}) for x in range(40)]
    Campaign(folder / "kept", record, str(folder), {}).run(tasks, Local(2))

if __name__ == "__main__":
    cli.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "group", "code"),
    [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 130), (signal.SIGKILL, False, -signal.SIGKILL)],
)
def test_an_interruption_ends_workers_quietly_and_keeps_what_is_done(
    number: signal.Signals, group: bool, code: int, tmp_path: Path
) -> None:
    """Ctrl-C goes to every process of the terminal's group, SIGTERM and SIGKILL to the command alone."""
    (tmp_path / "command.py").write_text(CAMPAIGN)
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    command = subprocess.Popen(
        [sys.executable, str(tmp_path / "command.py"), "work", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    kept = tmp_path / "kept"
    wait_for(lambda: len(list(kept.glob("[0-3].json"))) == 4, "four tasks are done")
    (os.killpg if group else os.kill)(command.pid, number)
    out, said = command.communicate(timeout=LONG)
    assert (command.returncode, out) == (code, "")
    if code == 130:
        assert said == f"\ninterrupted; 4 of 40 are done and lie in {kept}, and the same command goes on.\n"
        assert sorted(path.name for path in kept.iterdir()) == ["0.json", "1.json", "2.json", "3.json", "campaign.json"]
    wait_for(lambda: not any(map(alive, processes(tmp_path))), "workers end")


# -- Options -----------------------------------------------------------------------------------------------------------


def test_options_choose_who_works() -> None:
    assert choose_executor(None, None) == Local(cores()) and choose_executor(None, None, default=1) == Local(1)
    assert choose_executor(2, None) == Local(2)
    assert Local(1).describe() == "this process" and Local(2).describe() == "2 processes on this machine"
    with pytest.raises(
        InputError, match=r"^--workers is 0; this machine has [\d,]+ cores?, so allowed are 1 to [\d,]+; "
    ):
        choose_executor(0, None)
    with pytest.raises(InputError, match=r"^--workers is 100,000; .* more machines work together with --scheduler\.$"):
        choose_executor(100_000, None)
    with pytest.raises(InputError, match="give --workers or --scheduler, not both"):
        choose_executor(2, "tcp://localhost:8786")


def test_a_task_is_called_by_its_name() -> None:
    assert name_of(Task("one/2")) == "one/2" and name_of(3) == "3"
