"""A run's folder while it is made: stages that resume by the hash of their inputs, shards that are kept as they end.

In: names, inputs, and work that writes files.  Out: the files, stamps that say what they were made from, seconds.
Knows no stage by name and no network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featurecompute.errors import RunError
from featurecompute.files import hash_file, hash_json, read_arrays, read_json, write_arrays, write_json

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]

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
    """

    path: Path
    say: Say
    progress: Progress
    stages: list[dict[str, Any]] = field(default_factory=list)
    _made: bool = False

    def claim(self, key: str, *, resume: bool) -> None:
        """Take the folder for a run, or go on with what was begun there.

        Parameters
        ----------
        key
            Hash of the settings and versions of the run.
        resume
            Whether an unfinished run may be gone on with.

        Raises
        ------
        RunError
            If the folder holds something else, another run, or an unfinished one without `resume`.
        """
        claim = self.path / _CLAIM
        try:
            self._made = not self.path.exists()
            held = [] if self._made else sorted(entry.name for entry in self.path.iterdir())
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be looked into: {error.strerror}; give a folder for the run."
            ) from error
        # A file that was being written when a run was killed has a hidden name.
        if not [name for name in held if not name.startswith(".")]:
            write_json(claim, {"key": key})
            return
        if _CLAIM not in held:
            raise RunError(f"{self.path} is not empty and holds no run; give another folder, so that nothing is lost.")
        owner = read_json(claim).get("key")
        if owner is None:
            write_json(claim, {"key": key})
            return
        if owner != key:
            raise RunError(
                f"{self.path} holds a run of other settings, files or versions; give another folder, or remove this "
                "one."
            )
        if not resume and "run.json" not in held:
            raise RunError(f"{self.path} holds an unfinished run of this study; go on with it by --resume.")

    def release(self) -> None:
        """Give the folder up after a fault in what the user gave: it is as it was, or keeps stages that are whole.

        These serve whatever study takes the folder next, as far as their inputs are the same.
        """
        claim = self.path / _CLAIM
        if [entry for entry in self.path.iterdir() if entry != claim]:
            write_json(claim, {"key": None})
            return
        claim.unlink(missing_ok=True)
        if self._made:
            self.path.rmdir()

    def stage(self, name: str, inputs: Mapping[str, Any], work: Callable[[], Sequence[Path]]) -> None:
        """Do a stage, unless its stamp says that it was done from the same inputs and its files are whole.

        Parameters
        ----------
        name
            Of the stage.
        inputs
            All that the outputs depend on.
        work
            Does it, and returns the paths of what it wrote.
        """
        key = hash_json(inputs)
        stamp = self.path / "stages" / f"{name}.json"
        done = self._stamped(stamp, key)
        if done is None:
            since = time.perf_counter()
            outputs = [{"path": path.relative_to(self.path).as_posix(), "sha256": hash_file(path)} for path in work()]
            done = {"name": name, "inputs_sha256": key, "status": "done", "outputs": outputs}
            write_json(stamp, done)
            self._time(name, time.perf_counter() - since)
        else:
            self.say(f"{name}: kept from the run so far.")
        self.stages.append(done)

    def shards(
        self,
        name: str,
        inputs: Mapping[str, Any],
        count: int,
        size: int,
        work: Callable[[int, int], dict[str, np.ndarray]],
    ) -> list[Path]:
        """Do the shards of a stage that are not yet there; any number of processes would write the same bytes.

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
        """
        folder = self.path / "shards" / f"{name}-{hash_json(inputs)[:12]}"
        starts = range(0, count, size)
        paths = []
        for number, start in enumerate(starts):
            path = folder / f"{number:05d}.safetensors"
            if not _readable(path):
                write_arrays(path, work(start, min(start + size, count)))
            paths.append(path)
            self.progress(name, number + 1, len(starts))
        return paths

    def seal(self, record: Mapping[str, Any]) -> None:
        """Write run.json, which says that the run is complete."""
        write_json(self.path / "run.json", {**record, "stages": self.stages})

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
