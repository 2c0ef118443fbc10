"""A real Dask scheduler and real workers on loopback, as processes of their own, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LONG = 120.0  # seconds that nothing here takes, also on a busy machine
# A task is given up when it has ended two workers, not four, which take long to start.
_SETTINGS = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1", "PYTHONWARNINGS": "ignore"}


class Cluster:
    """A scheduler, and workers that come and go.

    Parameters
    ----------
    folder
        For its files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        file = folder / "scheduler.json"
        quiet = ("--host", "127.0.0.1", "--no-dashboard")
        self.scheduler = self._start("scheduler", *quiet, "--port", "0", "--scheduler-file", str(file))
        self.address = str(self._read(file)["address"])

    def add(self, name: str, *, path: tuple[Path, ...] = (ROOT, HERE), nanny: bool = False, threads: int = 1) -> str:
        """Start a worker that finds modules in some folders; return its name once it is there."""
        how = ("--nanny" if nanny else "--no-nanny", "--nthreads", str(threads), "--no-dashboard", "--name", name)
        place = ("--local-directory", str(self.folder / name), "--host", "127.0.0.1")
        before = self.there()
        self.workers[name] = self._start("worker", self.address, *how, *place, path=path)
        until = time.monotonic() + LONG
        while len(self.there()) <= len(before):
            assert time.monotonic() < until and self.workers[name].poll() is None, self.log(name)
            time.sleep(0.1)
        return name

    def there(self) -> Mapping[str, int]:
        """Return the addresses of the workers and their threads."""
        from distributed import Client

        with Client(self.address, timeout=LONG, set_as_default=False) as client:
            return dict(client.nthreads())

    def log(self, name: str) -> str:
        """Return what a process wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def kill(self, name: str) -> None:
        """End a worker as a machine that fails does."""
        self.workers[name].kill()
        self.workers.pop(name).wait()

    def end(self) -> None:
        """End all of it."""
        for process in (*self.workers.values(), self.scheduler):
            process.kill()
            process.wait()

    def _start(self, what: str, *arguments: str, path: tuple[Path, ...] = (ROOT, HERE)) -> subprocess.Popen[bytes]:
        name = arguments[arguments.index("--name") + 1] if "--name" in arguments else what
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), **_SETTINGS},
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def _read(self, file: Path) -> dict[str, object]:
        until = time.monotonic() + LONG
        while time.monotonic() < until and self.scheduler.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                return dict(json.loads(file.read_text()))
            time.sleep(0.05)
        raise AssertionError(self.log("scheduler"))


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Give a cluster without workers."""
    made = Cluster(folder)
    try:
        yield made
    finally:
        made.end()
