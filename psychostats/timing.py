"""Seconds by stage, for timings.json and the report's appendix.  Knows no stage by name."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Seconds by stage; starting a stage ends the one before."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._stage: str | None = None
        self._since = 0.0

    def start(self, stage: str) -> None:
        """Begin a stage."""
        self.stop()
        self._stage, self._since = stage, time.perf_counter()

    def stop(self) -> dict[str, float]:
        """End the stage under way and return all seconds so far."""
        if self._stage is not None:
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + time.perf_counter() - self._since
            self._stage = None
        return dict(self._seconds)

    @contextlib.contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Time a block of code."""
        self.start(stage)
        try:
            yield
        finally:
            self.stop()
