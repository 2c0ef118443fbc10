"""A run's folder while it is made: stages that resume by the hash of their inputs, shards that are kept as they end.

In: names, inputs, and work that writes files.  Out: the files, stamps that say what they were made from, seconds.
Knows no stage by name and no network.

Where several processes share the run (`crew`), each does all in the same order. Process 0 does the stages, the others
wait for each and read its files; of shards, process r does those whose number leaves r when divided by the number of
processes. So the files are the same however many there are, as long as each computes with the same number of threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from featurecompute.crew import PROCESSES, Crew, Seat
from featurecompute.errors import CrewError, InputError, RunError
from featurecompute.files import hash_file, hash_json, read_arrays, read_json, write_arrays, write_json

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]
Found = TypeVar("Found")

_CLAIM = "claim.json"


@dataclass
class Folder:
    """The folder of a run under way.

    Parameters
    ----------
    path
        Where it is.
    say
        Takes one line of talk.
    progress
        Takes a stage, how many parts of it are done, and how many there are.
    crew
        Which process of the run this is.
    """

    path: Path
    say: Say
    progress: Progress
    crew: Crew = field(default_factory=Crew)
    stages: list[dict[str, Any]] = field(default_factory=list)
    seat: Seat = field(init=False)
    _made: bool = False

    def __post_init__(self) -> None:
        self.seat = Seat(self.path, self.crew)

    @contextmanager
    def working(self, key: str, *, resume: bool, threads: int = 1) -> Iterator[None]:
        """Hold the folder for a run, as `claim` takes it, and give it up again when the block ends.

        Raises
        ------
        RunError
            As `claim`.
        """
        self.claim(key, resume=resume, threads=threads)
        try:
            yield
        except BaseException as error:
            self.seat.leave(error)
            # The work of others is no fault in what the user gave.
            if isinstance(error, InputError) and not isinstance(error, CrewError) and self.crew.lead:
                self.release()
            raise
        self.seat.leave()

    def look(self, key: str) -> bool:
        """Return whether the folder holds the run of this key, unfinished or complete.

        Raises
        ------
        RunError
            If it holds something else.
        """
        try:
            held = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be looked into: {error.strerror}; give a folder for the run."
            ) from error
        # A file that was being written when a run was killed has a hidden name.
        if not [name for name in held if not name.startswith(".") and name != PROCESSES]:
            return False
        if _CLAIM not in held:
            raise RunError(f"{self.path} is not empty and holds no run; give another folder, so that nothing is lost.")
        owner = read_json(self.path / _CLAIM).get("key")
        if owner not in (key, None):
            raise RunError(
                f"{self.path} holds a run of other settings, files or versions (or of another network of the study); "
                "give another folder, or remove this one."
            )
        return owner is not None

    def claim(self, key: str, *, resume: bool, threads: int = 1) -> None:
        """Take the folder for a run, or go on with what was begun there; all but process 0 wait until it has.

        Parameters
        ----------
        key
            Hash of the settings and versions of the run.
        resume
            Whether an unfinished run may be gone on with.
        threads
            That this process computes with: as many as process 0, or last digits would differ.

        Raises
        ------
        RunError
            If the folder holds something else, another run, or an unfinished one without `resume`; if another run is
            at work there; or if the processes of this one are not alike.
        """
        made = not self.path.exists()
        begun = self.look(key)
        if not self.crew.lead and begun and not self.seat.folder.is_dir():
            self._refuse_unfinished(resume)  # as process 0 has done, and gone
        self.seat.take()
        try:
            if self.crew.lead:
                self._made = made
                if self.look(key):
                    self._refuse_unfinished(resume)
                else:
                    write_json(self.path / _CLAIM, {"key": key})
            self._compare(key, threads)
        except BaseException as error:
            self.seat.leave(error)
            raise

    def _refuse_unfinished(self, resume: bool) -> None:
        if not resume and not (self.path / "run.json").is_file():
            raise RunError(f"{self.path} holds an unfinished run of this study; go on with it by --resume.")

    def _compare(self, key: str, threads: int) -> None:
        """Refuse to go on beside a process 0 that computes something else, or with other numbers of threads."""
        led = self.seat.agree("claim", {"key": key, "threads": threads})
        who = f"process {self.crew.rank} of {self.crew.world}"
        if led["key"] != key:
            raise RunError(
                f"{who} has other settings, files, versions or another kind of device than process 0; start all "
                "processes alike."
            )
        if led["threads"] != threads:
            raise RunError(
                f"{who} computes with {threads} threads and process 0 with {led['threads']}, and results differ in "
                "their last digits; set OMP_NUM_THREADS to the same for all."
            )

    def release(self) -> None:
        """Give the folder up after a fault in what the user gave: it is as it was, or keeps stages that are whole.

        These serve whatever study takes the folder next, as far as their inputs are the same.
        """
        claim = self.path / _CLAIM
        if (self.path / "run.json").is_file():
            return
        if [entry for entry in self.path.iterdir() if entry != claim]:
            write_json(claim, {"key": None})
            return
        claim.unlink(missing_ok=True)
        if self._made:
            self.path.rmdir()

    def first(self, name: str, work: Callable[[], Found]) -> Found:
        """Do something in process 0, and in the others when it is done there, and so kept somewhere, say."""
        if not self.seat.crew.lead:
            self.seat.hear(name)
            return work()
        found = work()
        self.seat.tell(name)
        return found

    def stage(self, name: str, inputs: Mapping[str, Any], work: Callable[[], Sequence[Path]]) -> None:
        """Do a stage, unless its stamp says that it was done from the same inputs and its files are whole.

        Parameters
        ----------
        name
            Of the stage.
        inputs
            All that the outputs depend on.
        work
            Does it, and returns the paths of what it wrote; in process 0 alone.
        """
        self._settle(name, inputs, list, lambda _: work())

    def sharded(
        self,
        name: str,
        inputs: Mapping[str, Any],
        count: int,
        size: int,
        work: Callable[[int, int], dict[str, np.ndarray]],
        gather: Callable[[list[Path]], Sequence[Path]] = lambda paths: paths,
    ) -> list[Path]:
        """Do a stage whose work is shards, which all processes share, unless it was done, as `stage` says.

        Parameters
        ----------
        name, inputs, count, size, work
            As of `shards`.
        gather
            Makes the stage's files of the shards' and returns their paths, in process 0 alone; else they are the
            shards themselves.

        Returns
        -------
        list of Path
            The stage's files.
        """
        done = self._settle(name, inputs, lambda: self.shards(name, inputs, count, size, work), gather)
        return [self.path / output["path"] for output in done["outputs"]]

    def _settle(
        self,
        name: str,
        inputs: Mapping[str, Any],
        share: Callable[[], list[Path]],
        gather: Callable[[list[Path]], Sequence[Path]],
    ) -> dict[str, Any]:
        """Do a stage: all processes share in it, and process 0 gathers; return its stamp, and note it."""
        lead, key = self.seat.crew.lead, hash_json(inputs)
        stamp = self.path / "stages" / f"{name}.json"
        self.seat.begin(name)
        done = self._stamped(stamp, key) if lead else None
        if self.seat.agree(f"{name} is kept", done is not None):
            self.say(f"{name}: kept from the run so far.")
        else:
            since = time.perf_counter()
            parts = share()
            if lead:
                paths = gather(parts)
                outputs = [
                    {"path": path.relative_to(self.path).as_posix(), "sha256": hash_file(path)} for path in paths
                ]
                write_json(stamp, {"name": name, "inputs_sha256": key, "status": "done", "outputs": outputs})
                self._time(name, time.perf_counter() - since)
        self.seat.agree(f"{name} is done", True)
        done = done or dict(read_json(stamp))
        self.stages.append(done)
        return done

    def shards(
        self,
        name: str,
        inputs: Mapping[str, Any],
        count: int,
        size: int,
        work: Callable[[int, int], dict[str, np.ndarray]],
    ) -> list[Path]:
        """Do this process's shards that are not yet there, and wait for those of the others.

        Any number of processes writes the same bytes.

        Parameters
        ----------
        name
            Of the stage.
        inputs
            All that the shards depend on.
        count, size
            Items in all, and in a shard.
        work
            Gives the arrays of the items from a first to before a last.

        Returns
        -------
        list of Path
            The shards' files, in order.

        Raises
        ------
        CrewError
            If another process has failed or is lost.
        """
        folder = self.path / "shards" / f"{name}-{hash_json(inputs)[:12]}"
        starts = range(0, count, size)
        paths = [folder / f"{number:05d}.safetensors" for number in range(len(starts))]
        rank, world = self.seat.crew.rank, self.seat.crew.world
        mine = range(rank, len(paths), world)
        others = [path for number, path in enumerate(paths) if number not in mine]

        def show(left: int = 0) -> None:
            others[:] = [path for path in others if not path.is_file()]
            self.progress(name, len(paths) - left - len(others), len(paths))

        self.seat.begin(name, lambda which: sum(not path.is_file() for path in paths[which::world]))
        for done, number in enumerate(mine, 1):
            self.seat.check()
            if not _readable(paths[number]):
                write_arrays(paths[number], work(starts[number], min(starts[number] + size, count)))
            show(len(mine) - done)
        self.seat.meet(f"{name} has its shards", show)
        return paths

    def seal(self, record: Mapping[str, Any]) -> None:
        """Write run.json, which says that the run is complete."""
        if self.seat.crew.lead:
            write_json(self.path / "run.json", {**record, "stages": self.stages})
        self.seat.agree("run.json is written", True)

    def _stamped(self, stamp: Path, key: str) -> dict[str, Any] | None:
        if not stamp.is_file():
            return None
        try:
            done: dict[str, Any] = read_json(stamp)
        except RunError:  # a damaged stamp says nothing, so the stage is done again
            return None
        if done.get("inputs_sha256") != key:
            return None
        files = [(self.path / output["path"], output["sha256"]) for output in done["outputs"]]
        return done if all(path.is_file() and hash_file(path) == sha256 for path, sha256 in files) else None

    def _time(self, name: str, seconds: float) -> None:
        path = self.path / "timings.json"
        known = read_json(path) if path.is_file() else {}
        write_json(path, known | {name: round(seconds, 3)})


def read_shards(paths: Sequence[Path]) -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays of shards in their order."""
    for path in paths:
        yield read_arrays(path)


def _readable(path: Path) -> bool:
    """Tell whether a shard is there and whole; writing is atomic, so only a damaged disk would leave a broken one."""
    if not path.is_file():
        return False
    try:
        read_arrays(path)
    except RunError:
        return False
    return True
