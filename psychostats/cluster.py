"""Work on a Dask cluster that is there already.

In: a scheduler's address, and what `psychostats.executors.Executor` takes.  Out: results, each once, whichever workers
come and go.  The only room that knows distributed; knows no fit, and keeps nothing.

A worker must be as this process is in all that can change a number (`psychostats.environment`): those that are there
are asked before anything is sent to them, and one that comes later when it takes its first task.  A worker that is lost
is the scheduler's business: it gives what that worker was doing, and what all tasks share, to another one.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from psychostats.environment import differences, environment, versions
from psychostats.errors import InputError
from psychostats.executors import AHEAD, Result, Stopped, Task, name_of
from psychostats.threads import one_thread

#: Seconds that a connection may take, and that the scheduler may be without workers.
CONNECT, PATIENCE = 10.0, 60.0

_LOOK = 2.0  # seconds between two looks at who is there
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+]*://)?(?:\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):(\d{1,5})")


@dataclass(frozen=True)
class Dask:
    """The workers of a Dask scheduler, one task a worker at a time.

    Parameters
    ----------
    address
        Of the scheduler: ``tcp://host:8786``, or ``host:8786``.
    patience
        Seconds that there may be no worker before this gives up.

    Raises
    ------
    InputError
        If that is no address, or distributed is not installed.
    """

    address: str
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        found = _ADDRESS.fullmatch(self.address)
        if found is None or not 0 < int(found[1]) < 65536:
            raise InputError(
                f"the scheduler's address '{self.address}' cannot be read; write what the scheduler prints, for "
                "example tcp://host:8786."
            )
        try:
            import distributed  # noqa: F401
        except ImportError as error:
            raise InputError(
                "the Dask cluster needs the library distributed, which is not installed; pip install '.[cluster]'."
            ) from error

    def describe(self) -> str:
        """Return where work is done, in words."""
        return f"the Dask cluster at {self.address}"

    @property
    def workers(self) -> int:
        """How many workers are there now.

        Raises
        ------
        InputError
            If there are none, or nobody answers at the address.
        """
        with self._connected() as client:
            return self._workers(client)

    def run(
        self, work: Callable[[Any, Task], Result], shared: Any, tasks: Iterable[Task]
    ) -> Generator[tuple[Task, Result], None, None]:
        """Do every task once; see `psychostats.executors.Executor.run`."""
        with self._connected() as client:
            number = self._workers(client)
            here = _require_alike(self.address, client)
            run = uuid.uuid4().hex
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
                # A task, not scattered data: what is lost with a worker can be made again.
                held = client.submit(_hold, (work, shared), key=f"psychostats-shared-{run}")
            source, done, sent = iter(tasks), queue.SimpleQueue[Any](), 0
            flying: dict[Any, tuple[Any, Task]] = {}
            looked = there = time.monotonic()
            spread = False
            while True:
                while len(flying) < AHEAD * max(number, 1):
                    try:
                        task = next(source)
                    except StopIteration:
                        break
                    sent += 1
                    key = (f"psychostats-task-{run}", sent)
                    try:
                        future = client.submit(_do, held, here, task, key=key)
                    except Exception as error:
                        if client.status != "running":
                            raise self._away() from error
                        raise
                    flying[key] = (future, task)
                    future.add_done_callback(done.put)
                if not flying:
                    return
                try:
                    future = done.get(timeout=_LOOK)
                except queue.Empty:
                    future = None
                if future is not None:
                    task = flying.pop(future.key)[1]
                    result = self._result(client, future, task, flying.values())
                    future.release()
                    if not spread:  # it was made where it is first needed
                        spread = _spread(client, held)
                    yield task, result
                now = time.monotonic()
                if now - looked > _LOOK or future is None:
                    number, looked = self._count(client), now
                    there = now if number else there
                    if now - there > self.patience:
                        raise Stopped(
                            f"the scheduler at {self.address} has had no workers for {self.patience:.0f} s; start some."
                        )

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        """Give a client; what distributed would say on stderr is said by what is raised."""
        from distributed import Client

        with _hushed():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of other versions, which are compared below
                try:
                    client: Any = Client(self.address, timeout=CONNECT, set_as_default=False)  # type: ignore[no-untyped-call]
                except (OSError, ValueError, ImportError) as error:
                    raise InputError(
                        f"no Dask scheduler answers at {self.address} within {CONNECT:.0f} s; start one with 'dask "
                        "scheduler', and give the address that it prints."
                    ) from error
            try:
                yield client
            finally:
                # What is under way is given up: the scheduler forgets what no client wants.
                with contextlib.suppress(Exception):
                    client.close(timeout=CONNECT)

    def _workers(self, client: Any) -> int:
        number = self._count(client)
        if not number:
            raise InputError(
                f"the scheduler at {self.address} has no workers; start some with 'dask worker {self.address} "
                "--nthreads 1'."
            )
        return number

    def _count(self, client: Any) -> int:
        try:
            return len(client.nthreads())
        except Exception as error:
            raise self._away() from error

    def _away(self) -> Stopped:
        return Stopped(f"the scheduler at {self.address} went away, or gave up what it was asked.")

    def _result(self, client: Any, future: Any, task: object, flying: Iterable[tuple[Any, Any]]) -> Any:
        """Return a task's result, or raise why there is none; `flying` are those under way."""
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        try:
            result = future.result(timeout=None)
        except KilledWorker as error:
            last = getattr(error.last_worker, "address", error.last_worker)
            guilty = _first_killed(future, task, flying)
            what = f"the task {name_of(guilty)}" if error.task == future.key else "what all tasks share"
            raise Stopped(
                f"{what} ended {error.allowed_failures + 1} workers (killed from outside, or out of memory), the last "
                f"of them {last}."
            ) from error
        except (CancelledError, TimeoutError) as error:
            raise self._away() from error
        except (ImportError, AttributeError):
            if client.status == "running":
                _require_alike(self.address, client)  # a worker that came later may lack what is needed
            raise
        except Exception as error:
            if future.status != "error":  # no fault of the task: its result could not be fetched
                raise self._away() from error
            raise
        if isinstance(result, _Refused):
            raise Stopped(_say_other(result.worker, result.differs))
        return result.value


def _first_killed(future: Any, task: Any, flying: Iterable[tuple[Any, Any]]) -> Any:
    """Return the task that ended a worker: Dask also blames those that waited there, in the order they were sent."""
    from distributed import KilledWorker

    def died(other: Any) -> Any:
        error = other.exception(timeout=CONNECT) if other.status == "error" else None
        return str(getattr(error.last_worker, "address", "")) if isinstance(error, KilledWorker) else None

    time.sleep(_LOOK)  # until all of them are heard of
    there = died(future)
    earlier = [(other.key, its) for other, its in flying if other.key < future.key and died(other) == there]
    return min(earlier, key=lambda one: one[0], default=(future.key, task))[1]


@dataclass(frozen=True)
class _Made:
    """A task's result."""

    value: Any


@dataclass(frozen=True)
class _Refused:
    """A worker that did not do its task, and how it differs."""

    worker: str
    differs: str


def _say_other(worker: str, differs: str) -> str:
    return (
        f"the worker {worker} has {differs}; all must be alike, so that numbers are: install the same there, or end it."
    )


def _require_alike(address: str, client: Any) -> dict[str, str]:
    """Refuse workers that differ from this process, by name; return what this process is."""
    here = environment() | versions(["distributed"])

    def ask() -> tuple[str, dict[str, str]]:
        """Sent as it stands, since a worker may have another psychostats, or none."""
        try:
            from psychostats.environment import environment
        except ImportError as error:
            return str(error), {}
        return "", environment()

    try:
        known = client.get_versions()["workers"]
        theirs = {name: _known(info) for name, info in known.items()}
        # One of another Python could not read the function.
        answers = client.run(ask, workers=[name for name in theirs if theirs[name]["python"] == here["python"]])
    except (OSError, TimeoutError) as error:
        raise Stopped(f"the scheduler at {address} went away.") from error
    for name, found in theirs.items():
        lacking, more = answers.get(name, ("", {}))
        if lacking:
            raise InputError(
                f"the worker {name} has no psychostats, or an older one ({lacking}); install there what this process "
                "has."
            )
        compared = here if more else {part: here[part] for part in found}
        differs = differences(found | more, compared)
        if differs:
            raise InputError(_say_other(name, differs))
    return environment()


def _known(info: Mapping[str, Any]) -> dict[str, str]:
    """Return what a worker tells of itself to whoever asks."""
    packages = info["packages"]
    return {"python": ".".join(packages["python"].split(".")[:2]), "distributed": packages["distributed"]}


def _spread(client: Any, held: Any) -> bool:
    """Send what all tasks share to every worker there is; one that comes later fetches it from another."""
    with contextlib.suppress(Exception):  # it only saves time
        client.replicate([held])
    return True


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keep distributed from telling its log to stderr."""
    import distributed  # noqa: F401  (which makes its loggers)

    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("distributed", "tornado")]
    before = {name: logging.getLogger(name).disabled for name in names}
    for name in names:
        logging.getLogger(name).disabled = True
    try:
        yield
    finally:
        for name, disabled in before.items():
            logging.getLogger(name).disabled = disabled


# In a worker --------------------------------------------------------------------------------------------------------

#: One task at a time, also where a worker has several threads: warnings and BLAS are of the whole process.
_alone = threading.Lock()


def _hold(shared: Any) -> Any:
    return shared


def _do(held: tuple[Callable[[Any, Any], Any], Any], here: Mapping[str, str], task: Any) -> _Made | _Refused:
    differs = differences(environment(), here)
    if differs:
        from distributed import get_worker

        return _Refused(get_worker().address, differs)
    work, shared = held
    with _alone, one_thread():
        return _Made(work(shared, task))
