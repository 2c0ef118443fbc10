"""A fit needs no C compiler: PyTensor runs in numba mode, with no program on the path and empty caches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TRIALS = Path(__file__).parent / "psychostats" / "data" / "crossed.csv"


def test_a_fit_runs_where_no_program_is_on_the_path(tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    environment = {
        "PATH": str(empty),
        "HOME": str(tmp_path),
        "PYTENSOR_FLAGS": f"base_compiledir={tmp_path / 'pytensor'}",
        "NUMBA_CACHE_DIR": str(tmp_path / "numba"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "psychostats.cli", "fit", str(TRIALS), "--out", str(tmp_path / "fit")]
    command += ["--formula", "correct ~ 1 + (1 | participant)", "--engine", "pymc"]
    command += ["--draws", "50", "--tune", "50", "--chains", "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr  # so short a fit need not converge
    assert (tmp_path / "fit" / "draws.nc").exists()
    assert "Warning" not in done.stderr and "compiler" not in done.stderr
