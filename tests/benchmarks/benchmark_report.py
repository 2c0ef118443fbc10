"""What `make report` takes, set-up apart: wall time, peak memory and time by stage, with empty caches.

Run as ``python tests/benchmarks/benchmark_report.py``. The job runs in a fresh process with a fresh cache folder and an
empty output folder. Limits: 300 s on two cores, 4 GB.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SECONDS_MAX = 300.0
BYTES_MAX = 4e9

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Report:
    """What one report took.

    Parameters
    ----------
    code
        The command's exit code.
    seconds, cpu
        By the wall and of the processor.
    peak
        Bytes.
    stages
        Seconds by stage, as the report itself tells them.
    """

    code: int
    seconds: float
    cpu: float
    peak: float
    stages: tuple[tuple[str, str], ...]


def measure(root: Path = ROOT) -> Report:
    """Make the embedded study's report once, in a fresh process with empty caches."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "PYTENSOR_FLAGS": f"base_compiledir={folder}/pytensor",
            "NUMBA_CACHE_DIR": f"{folder}/numba",
            "MPLCONFIGDIR": f"{folder}/matplotlib",
        }
        command = [sys.executable, "-m", "psychostats.cli", "report", "data/colin2024_simulated/trials.csv"]
        command += ["--study", "data/studies/colin2024.toml", "--out", f"{folder}/report"]
        began = time.perf_counter()
        running = subprocess.Popen(command, cwd=root, env=environment)
        # Of this process and those it started, not of others that ended before it.
        _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        page = Path(folder, "report", "report.html")
        stages = re.findall(
            r"<td[^>]*>([^<]+)</td>\s*<td[^>]*>([\d.]+)</td>",
            page.read_text(encoding="utf-8").partition('id="table-seconds"')[2] if page.exists() else "",
        )
    return Report(running.returncode, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, tuple(stages))


def main() -> int:
    """Run the job once and print its figures; return 0 if it kept to its limits."""
    made = measure()
    print(f"exit code {made.code}")
    print(f"wall time {made.seconds:.0f} s (at most {SECONDS_MAX:.0f}), CPU time {made.cpu:.0f} s")
    print(f"peak memory {made.peak / 1e9:.2f} GB (below {BYTES_MAX / 1e9:.0f})")
    for stage, value in made.stages:
        print(f"  {stage}: {value} s")
    return int(made.code != 0 or made.seconds > SECONDS_MAX or made.peak >= BYTES_MAX)


if __name__ == "__main__":
    sys.exit(main())
