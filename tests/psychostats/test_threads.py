"""Work in threads: in order, with what the caller asked of NumPy, and failures that are heard."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from psychostats.threads import cores, in_threads


def test_results_come_in_the_order_of_the_parts() -> None:
    late = threading.Event()

    def work(part: int) -> int:
        if part == 0 and cores() > 1:
            assert late.wait(10.0)  # by another thread
        late.set()
        return part**2

    assert list(in_threads(work, range(20))) == [n**2 for n in range(20)]


def test_what_was_asked_of_numpy_holds_in_threads() -> None:
    with np.errstate(divide="ignore"):
        assert list(in_threads(lambda x: float(1.0 / np.float64(x)), [0.0])) == [np.inf]
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        list(in_threads(lambda x: float(1.0 / np.float64(x)), [0.0]))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_ends_what_has_not_begun(error: type[BaseException]) -> None:
    begun = []

    def work(part: int) -> None:
        begun.append(part)
        if part == 0:
            raise error
        time.sleep(0.01)  # the whole of it would take minutes: time enough to hear of the failure

    before = threading.active_count()
    with pytest.raises(error):
        list(in_threads(work, range(50_000)))
    assert len(begun) < 50_000
    assert threading.active_count() == before
