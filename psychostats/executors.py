"""Where work is done: what an executor is, and processes of this machine.

In: a function, what all its calls share, and tasks one after the other.  Out: their results, in the order in which they
are done.  Knows no fit, and keeps nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from psychostats.errors import InputError
from psychostats.threads import cores, one_thread

Task = TypeVar("Task")
Result = TypeVar("Result")

#: Tasks handed out for each worker, so that none waits; few, so that memory does not grow with their number.
AHEAD = 2
#: Workers that a task may end before it is named.
DEATHS = 3
#: Processes of this machine for each core, at most: more only take memory.
PER_CORE = 8

_LOOK = 1.0  # seconds between two looks of a worker at who started it
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1")


class Stopped(InputError):
    """Whoever does the work cannot go on; what was done before is not lost."""


class Executor(Protocol):
    """What does work."""

    @property
    def workers(self) -> int:
        """How many tasks are done at once."""

    def describe(self) -> str:
        """Return where work is done, in words: ``2 processes on this machine``."""

    def run(
        self, work: Callable[[Any, Task], Result], shared: Any, tasks: Iterable[Task]
    ) -> Generator[tuple[Task, Result], None, None]:
        """Do every task once.

        Parameters
        ----------
        work
            A function of a module, called with `shared` and a task; one thread each.
        shared
            What all calls share; it can be pickled, and is sent to each worker once.
        tasks
            Taken one by one, as workers become free.

        Yields
        ------
        tuple
            A task and its result, as soon as it is done; to be closed where not all are taken, since workers go on.

        Raises
        ------
        InputError
            If there is nobody to do it.
        Stopped
            If those who do it go away, or a task ends its worker again and again.
        """


@dataclass(frozen=True)
class Local:
    """Processes of this machine, each on one thread.

    A process that dies (killed, or out of memory) is replaced, and what it was doing is done again; a task that is
    there when `DEATHS` of them die, the last time alone, is named.

    Parameters
    ----------
    workers
        How many; one works in this process.
    """

    workers: int = cores()

    def describe(self) -> str:
        """Return where work is done, in words."""
        return "this process" if self.workers == 1 else f"{self.workers} processes on this machine"

    def run(
        self, work: Callable[[Any, Task], Result], shared: Any, tasks: Iterable[Task]
    ) -> Generator[tuple[Task, Result], None, None]:
        """Do every task once; see `Executor.run`."""
        if self.workers == 1:
            for task in tasks:
                with one_thread():
                    result = work(shared, task)
                yield task, result
            return
        source, open_ones = iter(tasks), deque[_Open[Task]]()
        while True:
            # Who ended a worker is not known; one that was there twice is done alone, so that no other is blamed.
            suspect = next((one for one in open_ones if one.deaths >= DEATHS - 1), None)
            if suspect is not None:
                open_ones.remove(suspect)
                yield from _in_processes(1, work, shared, iter([suspect]), open_ones)
            elif (yield from _in_processes(self.workers, work, shared, _drain(open_ones, source), open_ones)):
                return


@dataclass
class _Open(Generic[Task]):
    """A task that is to be done, and how many workers died while it was."""

    task: Task
    deaths: int = 0


def name_of(task: object) -> str:
    """Return what a task is called."""
    return str(getattr(task, "name", task))


def _drain(open_ones: deque[_Open[Task]], source: Iterator[Task]) -> Iterator[_Open[Task]]:
    """Take what is to be done again, then what was never begun."""
    while open_ones:
        yield open_ones.popleft()
    for task in source:
        yield _Open(task)


def _in_processes(
    workers: int,
    work: Callable[[Any, Task], Result],
    shared: Any,
    todo: Iterator[_Open[Task]],
    open_ones: deque[_Open[Task]],
) -> Generator[tuple[Task, Result], None, bool]:
    """Do tasks until there are no more, or a process dies; then what was under way is put back.

    Returns
    -------
    bool
        Whether all went well.
    """
    from concurrent.futures import FIRST_COMPLETED, Future, wait

    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.cloudpickle_wrapper import dumps
    from joblib.externals.loky.process_executor import BrokenProcessPool

    # Pickled here, so that it is done once, and read by the first task, so that what is wrong with it is told.
    given = (dumps((work, shared)), os.getpid())
    pool = ProcessPoolExecutor(workers, initializer=_begin, initargs=given, env=_ONE_THREAD)
    flying: dict[Future[Result], _Open[Task]] = {}
    whole = True
    try:
        while True:
            while whole and len(flying) < AHEAD * workers:
                one = next(todo, None)
                if one is None:
                    break
                try:
                    with _unheard():
                        flying[pool.submit(_do, one.task)] = one
                except BrokenProcessPool:
                    whole = False
                    open_ones.append(one)
            if not flying:
                return whole
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                one = flying.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool as error:
                    whole = False
                    one.deaths += 1
                    if one.deaths >= DEATHS:
                        raise Stopped(
                            f"the task {name_of(one.task)} ended {DEATHS} processes, the last one alone (killed from "
                            "outside, or out of memory)."
                        ) from error
                    open_ones.append(one)
                else:
                    yield one.task, result
    finally:
        pool.shutdown(kill_workers=True)


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Start processes that do not hear Ctrl-C: a terminal sends it to all of them, and this one ends the others."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# In a process that works --------------------------------------------------------------------------------------------

_given: list[bytes] = []
_held: list[tuple[Callable[[Any, Any], Any], Any]] = []


def _begin(given: bytes, parent: int) -> None:
    """Keep what all tasks share, and end when the process is gone that started this one, however it ended."""
    _given[:] = [given]
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        os._exit(1)

    if os.getppid() == parent:  # not where a process has no parent of its own, as on Windows
        threading.Thread(target=watch, daemon=True).start()


def _do(task: Any) -> Any:
    from joblib.externals.loky.cloudpickle_wrapper import loads

    if not _held:
        _held.append(loads(_given[0]))
        _given.clear()
    work, shared = _held[0]
    with one_thread():
        return work(shared, task)
