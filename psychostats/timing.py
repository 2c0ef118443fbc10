"""Seconds: by stage, for timings.json and the report's appendix, and in words.  Knows no stage by name."""

from __future__ import annotations

import contextlib
import math
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


def duration(seconds: float) -> str:
    """Return seconds in words, to two digits at most: ``0.3 s``, ``12 s``, ``4 min``, ``2.5 h``."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{_rounded(seconds / size)} {unit}"
    return f"{_rounded(seconds)} s"


def _rounded(value: float) -> str:
    """Return two significant digits, without an exponent or zeros that say nothing."""
    digits = 1 - math.floor(math.log10(value)) if value > 0.0 else 0
    text = f"{round(value, digits):.{max(digits, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
