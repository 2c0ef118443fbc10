"""Several processes share one run: which of them this is, and the words they leave each other in the run's folder.

In: the environment that torchrun or a SLURM array gives; the run's folder.  Out: a `Crew`, this process's number among
all, and its `Seat`, by which it speaks and waits.  Knows no stage by name, no array and no network.

Neither NCCL nor gloo is needed. Which process does which shard follows from the shard's number alone, and the results
meet on disk anyway, so the independent jobs of a SLURM array, which share nothing but a file system, work together as
the processes of torchrun do. Process 0 leads: it does all that is no shard. Each process keeps a word in
``processes/RANK.json`` and writes it anew every few seconds. The lead reads all words, the others read the lead's.
A word that stays the same for `Crew.patience` seconds, by the reader's own clock, is that of a lost process. The lead's
word names those it has met, so that nobody follows the word of a run that was killed. The words go when the run ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from featurecompute.errors import CrewError, InputError, RunError
from featurecompute.files import read_json, write_json

try:
    import fcntl
except ImportError:  # Windows: heartbeats alone tell whether a run is alive.
    fcntl = None  # type: ignore[assignment]

PROCESSES = "processes"
_LONGEST_PAUSE = 0.5
_ATTEMPTS = 10

Word: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Crew:
    """Which of how many processes this is.

    Parameters
    ----------
    rank, world
        Number of this process, from 0, and of all.
    local
        Number on its own machine, by which it takes a GPU.
    patience
        Seconds without a sign of life after which a process is lost.
    arrival
        Seconds that a process is waited for which has not begun.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    patience: float = 60.0
    arrival: float = 600.0

    @property
    def lead(self) -> bool:
        """Whether this process does what is no shard, and speaks to the user."""
        return self.rank == 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Crew:
        """Read torchrun's RANK and WORLD_SIZE, or the variables of a SLURM array; one process where there are none.

        Raises
        ------
        InputError
            If they are no numbers, or do not number processes from 0 without gaps.
        """
        if "RANK" in environment and "WORLD_SIZE" in environment:
            rank, world = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
            if not 0 <= rank < world:
                raise InputError(f"RANK is {rank} and WORLD_SIZE {world}; RANK must be from 0 to WORLD_SIZE - 1.")
        elif "SLURM_ARRAY_TASK_ID" in environment and "SLURM_ARRAY_TASK_COUNT" in environment:
            task, world = _number(environment, "SLURM_ARRAY_TASK_ID"), _number(environment, "SLURM_ARRAY_TASK_COUNT")
            first = _number(environment, "SLURM_ARRAY_TASK_MIN")
            step = _number(environment, "SLURM_ARRAY_TASK_STEP") if "SLURM_ARRAY_TASK_STEP" in environment else 1
            rank, rest = divmod(task - first, max(step, 1))
            if rest or not 0 <= rank < world:
                raise InputError(
                    f"task {task} of the SLURM array is none of {world} in even steps from {first}; give the array as "
                    f"a range: --array=0-{world - 1}."
                )
        else:
            return cls()
        return cls(rank, world, _number(environment, "LOCAL_RANK") if "LOCAL_RANK" in environment else rank)


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    try:
        return int(text)
    except ValueError:
        raise InputError(f"the environment has {name} = '{text}'; it must be a whole number.") from None


class Seat:
    """A process's place in a run's folder: what it says there, and what it hears from others.

    A seat that is not taken is that of a process which works alone and says nothing.

    Parameters
    ----------
    run
        The run's folder.
    crew
        Which process this is.
    """

    def __init__(self, run: Path, crew: Crew) -> None:
        self.folder, self._crew = run / PROCESSES, crew
        host, pid = socket.gethostname(), os.getpid()
        self._word: Word = {
            "rank": crew.rank,
            "world": crew.world,
            "host": host,
            "pid": pid,
            "mark": f"{host} {pid} {time.time_ns()}",
            "time": 0.0,
            "doing": "",
            "told": {},
            "met": {},
            "failed": "",
        }
        self._heard: dict[int, tuple[Word, float]] = {}
        self._looked = time.monotonic()
        self._missing: Callable[[int], int] = lambda rank: 0
        self._guard = threading.RLock()
        self._ended = threading.Event()
        self._lock: int | None = None
        self.taken = False

    @property
    def crew(self) -> Crew:
        """This process's number; alone while the seat is not taken."""
        return self._crew if self.taken else Crew()

    # Taking and leaving

    def take(self) -> None:
        """Take the seat; all but the lead wait until the lead has met them.

        Raises
        ------
        RunError
            If another process sits there, so that two runs would write into one folder.
        CrewError
            If the lead does not come.
        """
        if self.taken:
            return
        lead = self._crew.lead
        try:
            if lead:
                self.folder.mkdir(parents=True, exist_ok=True)
            else:
                self._wait(lambda: self.folder.is_dir() or None)
            self._lock = self._sit(self._crew.rank)
            if lead:
                self._clear()
        except OSError as error:
            raise RunError(f"{self.folder} cannot be written: {error.strerror}.") from error
        except RunError:
            self._unlock()
            raise
        self.taken, self._word["failed"] = True, ""
        self._ended.clear()
        self._write()
        threading.Thread(target=self._beat, daemon=True).start()
        if lead:
            return
        try:
            world = self._wait(self._met)
            if world != self._crew.world:
                raise RunError(f"{self._name(self._word)} meets a run of {world} processes; start all processes alike.")
        except BaseException as error:
            self.leave(error)
            raise

    def _met(self) -> int | None:
        """Return how many processes the lead that has met this one reckons with."""
        if not (self.folder / f"{self._crew.rank}.json").is_file():
            self._write()  # the lead took it for a word left over
        return self._heard[0][0]["world"] if 0 in self._heard else None

    def _sit(self, rank: int) -> int:
        """Return the handle of a seat's lock, which goes with the process, however that ends; refuse a seat in use."""
        path = self.folder / f"{rank}.lock"
        for attempt in range(_ATTEMPTS):
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            locked = _try_lock(handle)
            with contextlib.suppress(FileNotFoundError):
                # The file may have been removed by its last owner meanwhile, or be held by a lead that only looks.
                held = locked is not False and path.stat().st_ino == os.fstat(handle).st_ino
                if held or attempt == _ATTEMPTS - 1:
                    break
            os.close(handle)
            time.sleep(0.05)
        word = self._read(rank)
        # A lock is sure on one machine only; of others the heartbeat tells.
        far = word is not None and (locked is None or word["host"] != self._word["host"])
        fresh = word is not None and not word["failed"] and abs(time.time() - word["time"]) < self._crew.patience
        if locked is False or (far and fresh):
            os.close(handle)
            who = "another process" if word is None else f"another process ({word['host']}, pid {word['pid']})"
            raise RunError(
                f"{self.folder.parent} is being computed by {who}, and two runs cannot share a folder; wait until that "
                f"one has ended (one that was killed is forgotten after {self._crew.patience:g} s), or give another "
                "folder."
            )
        return handle

    def _clear(self) -> None:
        """Remove the words of a run that was killed, unless some of its processes are still at work."""
        # A word that is being written has a hidden name, and its writer still needs it.
        for path in sorted(path for path in self.folder.glob("*.json") if path.stem.isdecimal()):
            rank = int(path.stem)
            word = self._read(rank)
            if rank and word is not None and word["met"] and not word["failed"]:
                os.close(self._sit(rank))
            path.unlink(missing_ok=True)

    def leave(self, error: BaseException | None = None) -> None:
        """Leave the seat; the lead goes last, and takes the words with it.

        Parameters
        ----------
        error
            Why, if it is not because the run is complete: the others are told.
        """
        if not self.taken:
            return
        with self._guard:
            self._look()
            if error is not None:
                self._word["failed"] = self._describe(error)
            with contextlib.suppress(RunError):
                self._write()
        alone = False
        if self._crew.lead and error is None:
            # Also those that have not come yet, who would wait for a lead that is gone where all stages were kept.
            self._see_off(self._crew.patience, range(1, self._crew.world))
            alone = True
        elif self._crew.lead:
            alone = self._see_off(self._crew.patience / 20, range(0))
        self._ended.set()
        with self._guard:
            self.taken = False
            (self.folder / f"{self._crew.rank}.lock").unlink(missing_ok=True)
            if error is None:
                (self.folder / f"{self._crew.rank}.json").unlink(missing_ok=True)
        if alone:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def _see_off(self, seconds: float, awaited: range) -> bool:
        """Wait until all that are awaited have come, and all that came have left; return whether none is left."""
        until = time.monotonic() + seconds
        while True:
            self._look()
            words = [self._read(rank) for rank in self._heard]
            gone = all(word is None or word["failed"] for word in words)
            if (gone and all(rank in self._heard for rank in awaited)) or time.monotonic() > until:
                return gone
            time.sleep(0.02)

    def _describe(self, error: BaseException) -> str:
        if isinstance(error, CrewError):
            return str(error)
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        return f"{self._name(self._word)} failed{self._place(self._word)}: {reason}"

    # Speaking and hearing

    def begin(self, doing: str, missing: Callable[[int], int] = lambda rank: 0) -> None:
        """Say what this process is about to do; `missing` gives how many shards of it a process still has to do."""
        with self._guard:
            self._word["doing"], self._missing = doing, missing
            if self.taken:
                self._write()  # if it is lost there, this is what the others know

    def tell(self, name: str, value: Any = True) -> None:
        """Say something to whoever waits for it: a JSON value by name."""
        with self._guard:
            self._word["told"][name] = value
            if self.taken:
                self._write()

    def hear(self, name: str) -> Any:
        """Return what the lead tells by this name, waiting for it.

        Raises
        ------
        CrewError
            If a process has failed or is lost.
        """
        return self._wait(lambda: self._heard[0][0]["told"].get(name) if 0 in self._heard else None)

    def agree(self, name: str, value: Any) -> Any:
        """Return the lead's value, which must not be None, in every process."""
        if not self.crew.lead:
            return self.hear(name)
        self.tell(name, value)
        return value

    def meet(self, name: str, show: Callable[[], None]) -> None:
        """Wait until every process has come this far; `show` is called now and then meanwhile.

        Raises
        ------
        CrewError
            If a process has failed or is lost.
        """
        if self.crew.world == 1:
            return
        if not self.crew.lead:
            self.tell(name)
            self.hear(name)
            return

        def all_here() -> bool | None:
            show()
            others = range(1, self.crew.world)
            return all(rank in self._heard and name in self._heard[rank][0]["told"] for rank in others) or None

        self._wait(all_here)
        self.tell(name)

    def check(self) -> None:
        """Look whether the others that have come are well.

        Raises
        ------
        CrewError
            If one has failed or is lost; the sentence names it.
        """
        self._look()
        self._judge(None)

    def _judge(self, since: float | None) -> None:
        """Complain of the others; `since` is when this process began to wait for those that have not come."""
        now = time.monotonic()
        for rank in self._others():
            if rank not in self._heard:
                if since is not None and now - since > self._crew.arrival:
                    raise CrewError(
                        f"process {rank} of {self._crew.world} has not begun within {self._crew.arrival:g} s in "
                        f"{self.folder.parent}; start all processes at the same time, with --resume if some have "
                        "worked already (where each task of an array is a run of its own, unset SLURM_ARRAY_TASK_ID)."
                    )
                continue
            word, when = self._heard[rank]
            if word["failed"]:
                raise CrewError(word["failed"])
            if now - when > self._crew.patience:
                missing = self._missing(rank)
                left = f" with {missing} of its shards missing" if missing else ""
                raise CrewError(
                    f"{self._name(word)} is lost{self._place(word)}{left}: it gave no sign of life for "
                    f"{self._crew.patience:g} s; start the run again with --resume."
                )

    def _wait(self, ready: Callable[[], Any]) -> Any:
        """Return what `ready` gives when it is not None."""
        since, pause = time.monotonic(), 0.01
        while True:
            self._look()
            found = ready()
            if found is not None:
                return found
            self._judge(since)
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)

    def _others(self) -> range:
        """Return whose words this process reads."""
        return range(1, self._crew.world) if self._crew.lead else range(1)

    def _look(self) -> None:
        with self._guard:
            now = time.monotonic()
            if now - self._looked > self._crew.patience / 2:
                # This process was stopped itself, and the others perhaps with it, so their silence says nothing.
                self._heard = {rank: (word, now) for rank, (word, _) in self._heard.items()}
            self._looked = now
            for rank in self._others():
                word = self._read(rank)
                # The word of a lead that has not met this process may be left over from another run.
                if word is None or not (self._crew.lead or word["met"].get(str(self._crew.rank)) == self._word["mark"]):
                    continue
                if rank not in self._heard or word != self._heard[rank][0]:
                    self._heard[rank] = (word, now)
            if self.taken and self._word["met"] != self._marks():
                self._write()  # whoever has just come waits for this

    def _read(self, rank: int) -> Word | None:
        try:
            word: Word = read_json(self.folder / f"{rank}.json")
            return word if word.keys() == self._word.keys() else None
        except (RunError, AttributeError):
            return None

    def _write(self) -> None:
        with self._guard:
            if self._ended.is_set() or not self.folder.is_dir():
                return
            self._word["met"] = self._marks()
            self._word["time"] = time.time()
            write_json(self.folder / f"{self._crew.rank}.json", self._word)

    def _marks(self) -> dict[str, str]:
        return {str(rank): word["mark"] for rank, (word, _) in self._heard.items()}

    def _beat(self) -> None:
        while not self._ended.wait(self._crew.patience / 12):
            with contextlib.suppress(RunError):  # a full disk is said by what needs it
                self._look()
                self._write()

    def _name(self, word: Word) -> str:
        return f"process {word['rank']} of {self._crew.world} ({word['host']}, pid {word['pid']})"

    def _place(self, word: Word) -> str:
        return f" at '{word['doing']}'" if word["doing"] else ""


def _try_lock(handle: int) -> bool | None:
    """Lock a file; return whether it was free, or None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
