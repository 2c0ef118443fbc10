"""A campaign: many pieces of work, such as fits, each done once and kept.

In: tasks, the function that does one, and who does them.  Out: a folder with a file for every task that is done, so
that the same campaign goes on where it was stopped.  Knows neither what a task means nor where it is done.

A result is a pure function of the campaign's identity and the task, so it does not matter who made it, when, or in
which order.  Workers return results and this process writes them, so workers need no common disk and a killed one
leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psychostats.errors import InputError
from psychostats.executors import Executor
from psychostats.store import digest, plain

SCHEMA = 1


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

    @property
    def key(self) -> str:
        """The hash of the identity."""
        return digest(plain(dict(self.identity)))

    def missing(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the tasks that have no whole result yet."""
        return [task for task in tasks if self._read(task) is None]

    def run(
        self, tasks: Iterable[Task], executor: Executor, *, progress: Callable[[int, int, float], None] | None = None
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

        Returns
        -------
        int
            How many were done now.

        Raises
        ------
        InputError
            If the folder holds results of another campaign, or cannot be written to.
        """
        self.require_own()
        missing = self.missing(tasks)
        began, total = time.monotonic(), len(missing)
        for done, (task, result) in enumerate(executor.run(_work, (self.work, self.shared), missing), start=1):
            self._write(task, result)
            if progress is not None:
                progress(done, total, (time.monotonic() - began) * (total - done) / done)
        return total

    def results(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, dict[str, Any]]]:
        """Yield the result of every task that has one, in the order of the tasks and one at a time."""
        for task in tasks:
            found = self._read(task)
            if found is not None:
                yield task, found

    def require_own(self) -> None:
        """Refuse a folder that holds results of another campaign; mark it as this one's.

        Raises
        ------
        InputError
        """
        mark = self.folder / "campaign.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if mark.exists():
                held = json.loads(mark.read_text(encoding="utf-8"))
                if held.get("key") != self.key:
                    raise InputError(
                        f"{self.folder} holds results of other work ({self._differs(held)}); give another folder."
                    )
                return
            if any(self.folder.iterdir()):
                raise InputError(f"{self.folder} is not empty and holds no results; give another folder.")
            _write_json(mark, {"schema": SCHEMA, "key": self.key, "identity": plain(dict(self.identity))})
        except (OSError, ValueError) as error:
            raise InputError(f"{self.folder} cannot be used: {error}.") from error

    def _differs(self, held: Mapping[str, Any]) -> str:
        """Say which parts of the identity are others."""
        was = held.get("identity") or {}
        now = plain(dict(self.identity))
        return ", ".join(name for name in {**now, **was} if now.get(name) != was.get(name)) or "another schema"

    def _path(self, task: Task) -> Path:
        return self.folder / f"{task.name}.json"

    def _read(self, task: Task) -> dict[str, Any] | None:
        """Return a task's result; None where there is none, it is not whole, or it is of another task."""
        try:
            held = json.loads(self._path(task).read_text(encoding="utf-8"))
            content = {name: held[name] for name in ("campaign", "task", "result")}
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if held.get("seal") != digest(content):
            return None
        return content["result"] if (content["campaign"], content["task"]) == self._label(task) else None

    def _write(self, task: Task, result: Mapping[str, Any]) -> None:
        key, values = self._label(task)
        content = {"campaign": key, "task": values, "result": plain(dict(result))}
        path = self._path(task)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_json(path, content | {"seal": digest(content)})
        except OSError as error:
            raise InputError(
                f"{path} cannot be written: {error.strerror or error}; what was done before lies there."
            ) from error

    def _label(self, task: Task) -> tuple[str, Any]:
        return self.key, plain({"name": task.name, **task.values})


def _work(shared: tuple[Callable[..., Mapping[str, Any]], Any], task: Task) -> Mapping[str, Any]:
    """Do one task."""
    work, rest = shared
    return work(rest, task.values)


def _write_json(path: Path, value: Any) -> None:
    """Write a file whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=".part-", suffix=".json", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, allow_nan=False)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
