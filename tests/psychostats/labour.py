"""Work for the tests of executors: functions that workers import, in other processes too."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def square(shared: float, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a number that depends on the task and on what all tasks share."""
    return {"x": values["x"] ** 2 + shared}


def large(shared: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return many numbers."""
    return {"x": [float(values["x"] + k) for k in range(shared)]}


def fail(shared: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Raise what a fault in a task raises."""
    raise ValueError(f"task {values['x']} is at fault")


def record(shared: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Note in a folder which process begins which task, do what the task asks for, and return the process.

    ``die`` kills the process, ``once`` only the first time, ``wait`` waits until the folder holds the file ``go``.
    """
    folder, x = Path(shared), values["x"]
    before = list(folder.glob(f"{x}-*"))
    (folder / f"{x}-{os.getpid()}-{len(before)}").touch()
    if values.get("die") or (values.get("once") and not before):
        os.kill(os.getpid(), signal.SIGKILL)
    while values.get("wait") and not (folder / "go").exists():
        time.sleep(0.02)
    time.sleep(values.get("seconds", 0.0))
    return {"x": x, "process": os.getpid()}
