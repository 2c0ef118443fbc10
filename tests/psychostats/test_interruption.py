"""An interruption that somebody swallows is heard all the same."""

import subprocess
import sys
import textwrap

SWALLOWED = """
    import signal
    from psychostats.interruption import heed, listen

    listen()
    heed()
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException:
        pass  # as a library does that falls back where compiling fails
    print("goes on")
    heed()
    print("never")
"""


def test_an_interruption_that_a_library_catches_is_raised_before_long_work() -> None:
    answer = subprocess.run([sys.executable, "-c", textwrap.dedent(SWALLOWED)], capture_output=True, encoding="utf-8")
    assert answer.stdout == "goes on\n"
    assert "KeyboardInterrupt" in answer.stderr
