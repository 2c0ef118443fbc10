"""How far long work is: a bar on a terminal, a line now and then elsewhere.

In: what is counted, and how many are done.  Out: nothing but what is shown on stderr.  Knows no work.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from psychostats.timing import duration

#: Lines where there is no terminal: after this share of the work, and after so many seconds.
EVERY, SECONDS = 0.1, 60.0

Show = Callable[[int, int, float], None]


@contextlib.contextmanager
def shown_progress(what: str, say: Callable[[str], None], *, bar: bool | None = None) -> Iterator[Show]:
    """Show how far work is while a block runs.

    Parameters
    ----------
    what
        What is counted: ``fits``.
    say
        Called with a line, where there is no bar: whenever another tenth is done, or a minute has gone by.
    bar
        Draw a bar; by default on a terminal.

    Yields
    ------
    callable
        What `psychostats.campaign.Campaign.run` takes as ``progress``: called with how many are done, of how many, and
        the seconds that the rest will take.
    """
    if sys.stderr.isatty() if bar is None else bar:
        with drawn_bar(what) as draw:
            yield lambda done, total, left: draw(done, total)
    else:
        yield told(what, say)


def told(what: str, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Show:
    """Return what says a line whenever another tenth is done or a minute has gone by; see `shown_progress`."""
    last, since = 0.0, clock()

    def show(done: int, total: int, left: float) -> None:
        nonlocal last, since
        share, now = done / total, clock()
        if done < total and share - last < EVERY - 1e-9 and now - since < SECONDS:
            return
        last, since = share, now
        rest = f", about {duration(left)} left" if done < total else ""
        say(f"{what}: {done:,} of {total:,}{rest}")

    return show


@contextlib.contextmanager
def drawn_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Draw a bar on stderr, with the time left; what it yields is called with how many are done, of how many."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # The speed of the last minutes, since a task may take as long as many others.
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=300.0) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
