"""A campaign: many pieces of work, such as fits, each done once and kept.

In: tasks, the function that does one, and who does them.  Out: a folder with a file for every task that is done, so
that the same campaign goes on where it was stopped.  Knows neither what a task means nor where it is done.

A result is a pure function of the campaign's identity and the task, so it does not matter who made it, when, or in
which order.  Workers return results and this process writes them, so workers need no common disk and a killed one
leaves nothing behind.  One process at a time works in a folder; where a disk has no locks, two would only do the same
work twice, since a file is put in its place whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from psychostats.errors import InputError
from psychostats.executors import Executor, Stopped
from psychostats.locks import held_alone
from psychostats.store import digest, plain

SCHEMA = 1
_MARK = "campaign.json"
_PART = ".part-"  # files that are being written
# The end of every result: the hash of all bytes before it, so that a damaged one is found without reading its numbers.
_SEAL = b', "seal": "%s"}\n'
_SEAL_LENGTH = len(_SEAL % (b"0" * 64))


class OtherWork(InputError):
    """A folder holds results of another campaign."""


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Parameters
    ----------
    name
        What it is called within the campaign and, with ``/`` between folders, where its result lies.
    values
        What the function is called with, plain values.
    """

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """How far a campaign is.

    Parameters
    ----------
    missing
        The tasks that have no whole result.
    done
        How many have one.
    damaged
        How many of those missing have a file that is not whole, or is of another task.
    """

    missing: list[Task]
    done: int
    damaged: int

    @property
    def tasks(self) -> int:
        """How many there are."""
        return self.done + len(self.missing)


@dataclass(frozen=True)
class Campaign:
    """Work that is done once.

    Parameters
    ----------
    folder
        Where results are kept; made where there is none.
    work
        A function of a module, called with `shared` and a task's values; returns plain values (text, numbers, None,
        lists, dicts). It is a pure function, and what can go wrong with the data is a result.
    shared
        What all tasks share, such as a study and its trials.
    identity
        What, beside a task, determines its result, as plain values: hashes of the study and the data, versions.
    """

    folder: Path
    work: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]
    shared: Any
    identity: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """The hash of the identity."""
        return digest(plain(dict(self.identity)))

    def look(self, tasks: Iterable[Task]) -> Standing:
        """Return how far the campaign is; nothing is written.

        Raises
        ------
        InputError
            If the folder holds results of another campaign, or cannot be read.
        """
        self.require_own(mark=False)
        missing, done, damaged = [], 0, 0
        for task in tasks:
            content = self._content(task)
            if content and self._is_whole(task, content):
                done += 1
            else:
                missing.append(task)
                damaged += content is not None
        return Standing(missing, done, damaged)

    def missing(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the tasks that have no whole result yet."""
        return self.look(tasks).missing

    def run(
        self,
        tasks: Iterable[Task],
        executor: Executor,
        *,
        progress: Callable[[int, int, float], None] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> int:
        """Do what is missing of the tasks and keep every result as soon as it is there.

        Parameters
        ----------
        tasks
            With names of their own.
        executor
            Who does them.
        progress
            Called with how many are done, of how many that were missing, and the seconds that the rest will take.
        say
            Called with a sentence if results were found damaged.

        Returns
        -------
        int
            How many were done now.

        Raises
        ------
        InputError
            If the folder holds results of another campaign or cannot be written to, another process works there, or
            whoever does the tasks cannot go on; the sentence says how many are done.
        KeyboardInterrupt
            If it was interrupted, with the same sentence.
        """
        standing = self.look(tasks)
        if standing.damaged:
            what = "result was" if standing.damaged == 1 else "results were"
            say(f"{standing.damaged:,} {what} damaged or half-written in {self.folder}, and made again")
        if not standing.missing:
            return 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder} cannot be made: {error.strerror or error}.") from error
        with held_alone(self.folder, "at work in"):
            self.require_own()
            self._tidy()
            return self._run(standing, executor, progress)

    def _run(self, standing: Standing, executor: Executor, progress: Callable[[int, int, float], None] | None) -> int:
        began, total, done = time.monotonic(), len(standing.missing), 0

        def kept() -> str:
            """Say what there is."""
            return (
                f"{standing.done + done:,} of {standing.tasks:,} are done and lie in {self.folder}, and the same "
                "command goes on"
            )

        # Closed at once where it is not used up: it has workers, which would go on.
        with contextlib.closing(executor.run(_work, (self.work, self.shared), standing.missing)) as results:
            try:
                for task, result in results:
                    try:
                        self._write(task, result)
                    except OSError as error:
                        what = f"{self.folder} cannot be written: {error.strerror or error}"
                        raise InputError(f"{what}; {kept()}.") from error
                    done += 1
                    if progress is not None:
                        progress(done, total, (time.monotonic() - began) * (total - done) / done)
            except Stopped as error:
                raise Stopped(f"{str(error).rstrip('.')}; {kept()}.") from error
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"interrupted; {kept()}.") from None
        return done

    def results(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, dict[str, Any]]]:
        """Yield the result of every task that has one, in the order of the tasks and one at a time."""
        for task in tasks:
            content = self._content(task)
            if content and self._is_whole(task, content):
                yield task, json.loads(content)["result"]

    def claim(self, overwrite: bool) -> None:
        """Refuse a folder that holds results of another campaign, or empty it where that was asked for.

        Raises
        ------
        InputError
            If it is refused, or holds what no campaign made.
        """
        try:
            self.require_own(mark=False)
        except OtherWork as error:
            if not overwrite:
                raise OtherWork(f"{str(error).rstrip('.')}, or --overwrite.") from error
            shutil.rmtree(self.folder)

    def require_own(self, *, mark: bool = True) -> None:
        """Refuse a folder that holds results of another campaign.

        Parameters
        ----------
        mark
            Mark it as this one's.

        Raises
        ------
        InputError
        """
        path = self.folder / _MARK
        try:
            if path.exists():
                held = json.loads(path.read_text(encoding="utf-8"))
                if held.get("key") != self.key:
                    raise OtherWork(
                        f"{self.folder} holds results of other work ({self._differs(held)}); give another folder."
                    )
                return
            if self.folder.exists() and any(not one.name.startswith(".") for one in self.folder.iterdir()):
                raise InputError(f"{self.folder} is not empty and holds no results; give another folder.")
            if mark:
                self.folder.mkdir(parents=True, exist_ok=True)
                identity = {"schema": SCHEMA, "key": self.key, "identity": plain(dict(self.identity))}
                self._put(path, json.dumps(identity, allow_nan=False).encode())
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"{self.folder} cannot be used: {error}.") from error

    def _differs(self, held: Mapping[str, Any]) -> str:
        """Say which parts of the identity are others."""
        was = held.get("identity") or {}
        now = plain(dict(self.identity))
        return ", ".join(name for name in {**now, **was} if now.get(name) != was.get(name)) or "another schema"

    def _path(self, task: Task) -> Path:
        return self.folder / f"{task.name}.json"

    def _content(self, task: Task) -> bytes | None:
        """Return the bytes of a task's file, none of which are promised to be good; None where there is no file."""
        try:
            return self._path(task).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return b""

    def _is_whole(self, task: Task, content: bytes) -> bool:
        """Whether a file is as it was written, and of this task: all but the result is known beforehand."""
        body = content[:-_SEAL_LENGTH]
        return content[-_SEAL_LENGTH:] == _seal(body) and body.startswith(self._head(task))

    def _head(self, task: Task) -> bytes:
        """Return how a task's file begins."""
        label = {"campaign": self.key, "task": plain({"name": task.name, **task.values})}
        return json.dumps(label, allow_nan=False).encode()[:-1] + b', "result": '

    def _write(self, task: Task, result: Mapping[str, Any]) -> None:
        body = self._head(task) + json.dumps(plain(dict(result)), allow_nan=False).encode()
        path = self._path(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._put(path, body + _seal(body))

    def _put(self, path: Path, content: bytes) -> None:
        """Write a file whole or not at all."""
        handle, name = tempfile.mkstemp(prefix=_PART, dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _tidy(self) -> None:
        """Remove what a killed process was writing; nobody else is here."""
        for path in self.folder.glob(f"{_PART}*"):
            path.unlink(missing_ok=True)


def _seal(body: bytes) -> bytes:
    return _SEAL % hashlib.sha256(body).hexdigest().encode()


def _work(shared: tuple[Callable[..., Mapping[str, Any]], Any], task: Task) -> Mapping[str, Any]:
    """Do one task."""
    work, rest = shared
    return work(rest, task.values)
