"""Threads: work on parts of arrays by as many as there are cores, and libraries that keep to one.

In: a function and the parts it is called with.  Out: what it returns, in the order of the parts.  Knows no work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from functools import cache
from typing import TypeVar, cast

from threadpoolctl import ThreadpoolController

Part = TypeVar("Part")
Result = TypeVar("Result")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
    """Yield ``work(part)`` of every part, in order; what is under way is ended before an interruption goes on.

    NumPy lets other threads run while it computes, so this serves work on arrays of some thousand numbers and more.
    How many threads there are changes no result, as long as no part changes what another one reads.
    """
    # A thread begins without what was asked of it, such as what NumPy does of a division by zero.
    context = copy_context()
    pool = ThreadPoolExecutor(cores())
    try:
        with one_thread():
            yield from pool.map(lambda part: context.copy().run(work, part), parts)
    finally:
        pool.shutdown(cancel_futures=True)


def one_thread() -> AbstractContextManager[object]:
    """Hold BLAS to one thread.

    Sums in one order give the same digits on any number of cores, and matrices this small gain nothing from more
    threads (on a busy machine threads that wait for one another cost ten times the work).
    """
    return cast("AbstractContextManager[object]", _threads().limit(limits=1))


@cache
def _threads() -> ThreadpoolController:
    """Find the libraries' threads, once: it takes some milliseconds."""
    import scipy.linalg  # noqa: F401  (SciPy brings a BLAS of its own, which must be there to be found)

    return ThreadpoolController()
