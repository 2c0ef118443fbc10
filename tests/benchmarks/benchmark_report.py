"""What `make report` takes, set-up apart: wall time, peak memory and time by stage, with empty caches.

Run as ``python tests/benchmarks/benchmark_report.py``. The job runs in a fresh process with a fresh cache folder and an
empty output folder. Limits: 300 s on two cores, 4 GB.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECONDS_MAX = 300.0
BYTES_MAX = 4e9

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run the job once and print its figures; return 0 if it kept to its limits."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "PYTENSOR_FLAGS": f"base_compiledir={folder}/pytensor",
            "NUMBA_CACHE_DIR": f"{folder}/numba",
            "MPLCONFIGDIR": f"{folder}/matplotlib",
        }
        command = [sys.executable, "-m", "psychostats.cli", "report", "data/colin2024_simulated/trials.csv"]
        command += ["--study", "data/studies/colin2024.toml", "--out", f"{folder}/report"]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        seconds = time.perf_counter() - began
        stages = re.findall(
            r"<td[^>]*>([^<]+)</td>\s*<td[^>]*>([\d.]+)</td>",
            Path(folder, "report", "report.html").read_text(encoding="utf-8").partition('id="table-seconds"')[2],
        )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = used.ru_maxrss * 1024
    print(f"exit code {done.returncode}")
    print(f"wall time {seconds:.0f} s (at most {SECONDS_MAX:.0f}), CPU time {used.ru_utime + used.ru_stime:.0f} s")
    print(f"peak memory {peak / 1e9:.2f} GB (below {BYTES_MAX / 1e9:.0f})")
    for stage, value in stages:
        print(f"  {stage}: {value} s")
    return int(done.returncode != 0 or seconds > SECONDS_MAX or peak >= BYTES_MAX)


if __name__ == "__main__":
    sys.exit(main())
