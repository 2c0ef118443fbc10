"""An interruption that is heard wherever it falls, and ends a command as the shell expects.

In: nothing.  Out: KeyboardInterrupt in the main thread.  Knows no command.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

AGAIN = 0.05
"""Seconds after which an interruption is repeated that compiled code has swallowed."""

_asked = False


def listen() -> None:
    """Let SIGTERM end a command as SIGINT does, and repeat an interruption that was swallowed.

    Python drops what is raised in a callback of compiled code (LLVM has such for every function that it compiles) and
    only tells `sys.unraisablehook`: the command would go on as if nobody had asked it to stop.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    told = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            # Not at once: it would be raised in this hook, which is a callback too.
            again = threading.Timer(AGAIN, _interrupt)
            again.daemon = True
            again.start()
        else:
            told(unraisable)

    sys.unraisablehook = hook


def settle() -> None:
    """Forget that an interruption went through an ``exec``: Python would end by the signal, whatever exit is asked for.

    It is reset whenever source text is executed.
    """
    exec("")


def heed() -> None:
    """Raise what an interruption raised, if somebody has swallowed it since.

    A library that catches every exception while it compiles goes on as if nobody had asked; long work calls this before
    it begins.
    """
    if _asked:
        raise KeyboardInterrupt


def _interrupt() -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # wakes it where it waits
    else:
        signal.raise_signal(signal.SIGINT)


def _stop(signal_number: int, frame: Any) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt
