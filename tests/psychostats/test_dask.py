"""A Dask cluster: a real scheduler and real workers on loopback, some of which are killed, late, or other ones."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Answer
from labour import fail, record, square
from studies import DATA

from psychostats.campaign import Campaign, Task
from psychostats.environment import differences, environment
from psychostats.errors import InputError
from psychostats.executors import Local, Stopped
from psychostats.options import choose_executor

if os.environ.get("CI") != "true":
    pytest.importorskip("distributed")

from daskers import HERE, LONG, ROOT, Cluster, cluster

from psychostats.cluster import Dask

pytestmark = [
    pytest.mark.once,
    # What distributed leaves behind of connections that were cut.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give a cluster of two workers, which no test may end."""
    with cluster(tmp_path_factory.mktemp("two")) as made:
        made.add("one")
        made.add("other")
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """Give a cluster without workers that a test may do with as it likes."""
    (tmp_path / "cluster").mkdir()
    with cluster(tmp_path / "cluster") as made:
        yield made


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Give a folder in which tasks note who does them."""
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


def wait_for(true: Callable[[], object], what: str) -> None:
    until = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < until, f"it was waited for in vain that {what}"
        time.sleep(0.05)


def recording(folder: Path, notes: Path) -> Campaign:
    return Campaign(folder, record, str(notes), {"what": "notes"})


# -- All is well -------------------------------------------------------------------------------------------------------


def test_every_task_is_done_once_and_files_are_those_of_this_machine(two: Cluster, tmp_path: Path) -> None:
    tasks = [Task(f"{x}", {"x": x}) for x in range(60)]
    by_dask, here = (Campaign(tmp_path / name, square, 0.5, {"a": 1}) for name in ("dask", "here"))
    seen: list[int] = []
    assert by_dask.run(tasks, Dask(two.address), progress=lambda done, total, left: seen.append(done)) == 60
    here.run(tasks, Local(1))
    assert seen == list(range(1, 61))
    for task in tasks:
        assert (tmp_path / "dask" / f"{task.name}.json").read_bytes() == (
            tmp_path / "here" / f"{task.name}.json"
        ).read_bytes()
    assert list(Dask(two.address).run(square, 0.5, [])) == []


def test_power_by_a_cluster_is_that_of_one_process(two: Cluster, tmp_path: Path, run: Callable[..., Answer]) -> None:
    """The command, with fits in it: the same numbers to the last digit, and the same bytes of every simulation."""
    asked = ("--study", DATA / "plain.toml", "--participants", "8", "--simulations", "12", "--nuts", "2")
    answers, kept = [], []
    for name, who in (("dask", ("--scheduler", two.address)), ("here", ("--workers", "1"))):
        answers.append(run("power", *asked, *who, "--out", tmp_path / name))
        folder = tmp_path / name / "simulations"
        kept.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.json")})
    (by_dask, here), (files, own_files) = answers, kept
    # 8 people are too few for the wish, and a report is written all the same.
    assert by_dask.code == here.code == 2 and "the Dask cluster at" in by_dask.err
    assert files == own_files and len(files) == 1 + 12 + 12 + 2
    assert (tmp_path / "dask" / "report.html").is_file()
    names = {path.name for path in (tmp_path / "dask" / "tables").iterdir()}
    assert len(names) == 5
    for name in names:
        one, other = (tmp_path / folder / "tables" / name for folder in ("dask", "here"))
        assert one.read_bytes() == other.read_bytes(), name


def test_it_says_who_works(two: Cluster) -> None:
    made = choose_executor(None, two.address)
    assert (made.workers, made.describe()) == (2, f"the Dask cluster at {two.address}")
    assert Dask(two.address.removeprefix("tcp://")).workers == 2


def test_both_workers_work_one_task_at_a_time_on_one_thread(two: Cluster, notes: Path) -> None:
    found = [result for _, result in Dask(two.address).run(_threads, None, range(40))]
    assert {one["threads"] for one in found} == {1}
    assert len({one["process"] for one in found}) == 2


def _threads(shared: Any, number: int) -> dict[str, Any]:
    from threadpoolctl import threadpool_info

    time.sleep(0.02)
    return {"process": os.getpid(), "threads": max(pool["num_threads"] for pool in threadpool_info())}


def test_tasks_are_sent_as_workers_become_free_and_forgotten_when_done(two: Cluster) -> None:
    taken = 0

    def tasks() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for x in range(100):
            taken += 1
            yield {"x": x}

    for done, _ in enumerate(Dask(two.address).run(square, 0, tasks()), start=1):
        assert taken <= done + 4
    assert done == taken == 100


def test_a_fault_in_a_task_is_raised_as_it_is(two: Cluster) -> None:
    with pytest.raises(ValueError, match="task 7 is at fault"):
        list(Dask(two.address).run(fail, None, [{"x": 7}]))


# -- Workers that are lost ---------------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_in_the_middle_loses_nothing(own: Cluster, tmp_path: Path, notes: Path) -> None:
    """Two workers are at work when one is killed; the other does everything, and every result is there once."""
    own.add("one")
    own.add("other")
    made, tasks = recording(tmp_path / "kept", notes), [Task(str(x), {"x": x, "wait": x >= 6}) for x in range(20)]

    def kill() -> None:
        wait_for(
            lambda: (
                len({path.name.split("-")[1] for path in notes.glob("*-*-*") if int(path.name.split("-")[0]) >= 6}) == 2
            ),
            "both workers wait",
        )
        own.kill("one")
        (notes / "go").touch()

    killer = threading.Thread(target=kill)
    killer.start()
    seen: list[int] = []
    assert made.run(tasks, Dask(own.address), progress=lambda done, total, left: seen.append(done)) == 20
    killer.join()
    assert seen == list(range(1, 21))
    assert Counter(result["x"] for _, result in made.results(tasks)) == Counter(range(20))
    begun = Counter(int(path.name.split("-")[0]) for path in notes.glob("*-*-*"))
    assert max(begun.values()) == 2  # what the killed worker had begun was begun again


def test_all_workers_are_lost_and_another_comes(own: Cluster, tmp_path: Path, notes: Path) -> None:
    """What all tasks share was on the lost worker alone; it is made again on the new one."""
    own.add("one")
    made, tasks = recording(tmp_path / "kept", notes), [Task(str(x), {"x": x, "wait": x >= 3}) for x in range(8)]

    def replace() -> None:
        wait_for(lambda: list(notes.glob("3-*")) or list(notes.glob("4-*")), "a task waits")
        own.kill("one")
        (notes / "go").touch()
        own.add("two")

    other = threading.Thread(target=replace)
    other.start()
    assert made.run(tasks, Dask(own.address, patience=LONG)) == 8
    other.join()


def test_a_task_that_ends_every_worker_is_named(own: Cluster, tmp_path: Path, notes: Path) -> None:
    own.add("one", nanny=True)  # which starts its worker again
    tasks = [Task(f"fit/{x}", {"x": x, "die": x == 2}) for x in range(5)]
    with pytest.raises(
        Stopped, match=r"^the task fit/2 ended 2 workers \(.*\), the last of them tcp://.*; \d of 5 are"
    ):
        recording(tmp_path / "kept", notes).run(tasks, Dask(own.address, patience=LONG))


# -- Workers that are other ones ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of the package with another line in one room."""
    folder = tmp_path_factory.mktemp("changed")
    shutil.copytree(ROOT / "psychostats", folder / "psychostats", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "psychostats" / "laplace.py").open("a") as file:
        file.write("\n# another line\n")
    return folder


def test_a_worker_with_other_code_is_refused_by_name(own: Cluster, changed: Path) -> None:
    own.add("good")
    before = set(own.there())
    own.add("bad", path=(changed, HERE))
    (bad,) = set(own.there()) - before
    code = environment()["psychostats"]
    with pytest.raises(InputError, match=r"; all must be alike, so that numbers are") as refused:
        list(Dask(own.address).run(square, 0, [{"x": 1}]))
    assert str(refused.value).startswith(f"the worker {bad} has psychostats 0.1.0 (code ")
    assert f"where this process has {code};" in str(refused.value)


def test_a_worker_with_other_code_that_comes_late_is_refused_by_name(
    own: Cluster, changed: Path, tmp_path: Path, notes: Path
) -> None:
    own.add("good")
    made, tasks = recording(tmp_path / "kept", notes), [Task(str(x), {"x": x, "wait": x == 3}) for x in range(200)]

    def add() -> None:
        wait_for(lambda: list(notes.glob("3-*")), "a task waits")
        own.add("bad", path=(changed, HERE))
        (notes / "go").touch()

    other = threading.Thread(target=add)
    other.start()
    with pytest.raises(Stopped, match=r"^the worker tcp://\S+ has psychostats 0.1.0 \(code .* of 200 are done"):
        made.run([*tasks[:4], *(Task(t.name, t.values | {"seconds": 0.05}) for t in tasks[4:])], Dask(own.address))
    other.join()
    done = len(list(made.results(tasks)))
    assert done >= 3


def test_a_worker_without_psychostats_is_refused_by_name(own: Cluster, tmp_path: Path) -> None:
    (tmp_path / "empty" / "psychostats").mkdir(parents=True)
    (tmp_path / "empty" / "psychostats" / "__init__.py").touch()
    (tmp_path / "empty" / "psychostats" / "environment.py").write_text("raise ImportError('no such room')\n")
    own.add("bare", path=(tmp_path / "empty", HERE))
    (name,) = own.there()
    with pytest.raises(InputError, match=f"^the worker {name} has no psychostats, or an older one .no such room.;"):
        list(Dask(own.address).run(square, 0, [{"x": 1}]))


def test_differences_are_said_by_name() -> None:
    here = {"python": "3.11", "numpy": "2.1.0"}
    assert differences(here, here) == ""
    assert differences({"python": "3.12", "numpy": "2.1.0"}, here) == "python 3.12 where this process has 3.11"
    assert differences({"python": "3.11"}, here) == "no numpy where this process has 2.1.0"
    assert differences(here | {"pymc": "5"}, here) == "pymc 5 where this process has none"


# -- Nobody there ------------------------------------------------------------------------------------------------------


def test_a_scheduler_that_is_killed_in_the_middle_loses_nothing(
    own: Cluster, tmp_path: Path, notes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own.add("one")
    own.add("other")
    made, tasks = recording(tmp_path / "kept", notes), [Task(str(x), {"x": x, "seconds": 0.02}) for x in range(300)]

    def kill(done: int, total: int, left: float) -> None:
        if done == 25:
            own.scheduler.kill()

    capfd.readouterr()
    with pytest.raises(Stopped) as stopped:
        made.run(tasks, Dask(own.address), progress=kill)
    done = len(list(made.results(tasks)))
    assert str(stopped.value) == (
        f"the scheduler at {own.address} went away, or gave up what it was asked; {done} of 300 are done and lie in "
        f"{tmp_path / 'kept'}, and the same command goes on."
    )
    assert 25 <= done < 300 and capfd.readouterr() == ("", "")
    assert made.run(tasks, Local(2)) == 300 - done


def test_a_scheduler_whose_workers_are_all_gone_is_given_up(own: Cluster, tmp_path: Path, notes: Path) -> None:
    own.add("one")
    tasks = [Task(str(x), {"x": x, "wait": x >= 3}) for x in range(10)]

    def kill() -> None:
        wait_for(lambda: list(notes.glob("3-*")), "a task waits")
        own.kill("one")

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(Stopped, match=r"has had no workers for 3 s; start some; 3 of 10 are done and lie in "):
        recording(tmp_path / "kept", notes).run(tasks, Dask(own.address, patience=3.0))
    killer.join()


def test_nobody_there_is_a_sentence(
    own: Cluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psychostats.cluster.CONNECT", 2.0)
    with pytest.raises(InputError, match=r"^the scheduler at \S+ has no workers; start some with 'dask worker "):
        list(Dask(own.address).run(square, 0, [{"x": 1}]))
    own.scheduler.kill()
    own.scheduler.wait()
    capfd.readouterr()
    with pytest.raises(InputError, match=r"^no Dask scheduler answers at \S+ within 2 s; start one with "):
        list(Dask(own.address).run(square, 0, [{"x": 1}]))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("address", ["", "host", "host:", "host:0", "host:99999", "host:a", "http://host", "a b:1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match=r"^the scheduler's address '.*' cannot be read; .* tcp://host:8786\.$"):
        choose_executor(None, address)
