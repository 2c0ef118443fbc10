"""Where work is done: in processes of this machine, or on a Dask cluster that is there already.

In: a function, what all its calls share, and tasks one after the other.  Out: their results, in the order in which they
are done.  Knows no fit, and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from psychostats.threads import cores, one_thread

Task = TypeVar("Task")
Result = TypeVar("Result")

#: Tasks handed out ahead of each worker, so that none waits; few, so that memory does not grow with their number.
AHEAD = 2


class Executor(Protocol):
    """What does work."""

    @property
    def workers(self) -> int:
        """How many tasks are done at once."""

    def describe(self) -> str:
        """Return where work is done, in words: ``2 processes on this machine``."""

    def run(
        self, work: Callable[[Any, Task], Result], shared: Any, tasks: Iterable[Task]
    ) -> Iterator[tuple[Task, Result]]:
        """Do every task once.

        Parameters
        ----------
        work
            A function of a module, called with `shared` and a task; one thread each.
        shared
            What all calls share; it can be pickled.
        tasks
            Taken one by one, as workers become free.

        Yields
        ------
        tuple
            A task and its result, as soon as it is done.

        Raises
        ------
        InputError
            If there is nobody to do it, or a worker dies again and again of one task.
        """


@dataclass(frozen=True)
class Local:
    """Processes of this machine, each on one thread.

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
    ) -> Iterator[tuple[Task, Result]]:
        """Do every task once; see `Executor.run`."""
        if self.workers == 1:
            with one_thread():
                for task in tasks:
                    yield task, work(shared, task)
            return
        from joblib import Parallel, delayed, parallel_config

        with parallel_config(backend="loky", inner_max_num_threads=1):
            parallel = Parallel(
                n_jobs=self.workers, return_as="generator_unordered", pre_dispatch=AHEAD * self.workers, batch_size=1
            )
            yield from parallel(delayed(_do)(work, shared, task) for task in tasks)


def _do(work: Callable[[Any, Task], Result], shared: Any, task: Task) -> tuple[Task, Result]:
    return task, work(shared, task)
