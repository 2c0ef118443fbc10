"""The script for SLURM: it compiles, asks for what was asked for, and dask-jobqueue makes a job of it."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from psychostats.errors import InputError
from psychostats.slurm import Slurm

PYTHON = "/opt/the lab's/bin/python"


def options(script: str) -> dict[str, Any]:
    """Return what the script gives to dask-jobqueue."""
    compile(script, "slurm.py", "exec")
    found = next(
        node for node in ast.parse(script).body if isinstance(node, ast.Assign) and node.targets[0].id == "OPTIONS"
    )  # type: ignore[attr-defined]
    return dict(ast.literal_eval(found.value))


@pytest.mark.parametrize(
    ("workers", "cores", "jobs", "memory"),
    [(20, 1, 20, "4GB"), (20, 4, 5, "16GB"), (21, 4, 6, "16GB"), (1, 8, 1, "32GB")],
)
def test_workers_are_dealt_to_jobs_with_a_core_each(workers: int, cores: int, jobs: int, memory: str) -> None:
    asked = Slurm(workers, PYTHON, cores=cores, partition="normal")
    found = options(asked.script())
    assert asked.jobs == jobs and f"JOBS = {jobs} " in asked.script()
    assert found["cores"] == found["processes"] == cores  # so that each process has one thread
    assert (found["memory"], found["queue"], found["python"]) == (memory, "normal", shlex.quote(PYTHON))
    assert "account" not in found and "interface" not in found


@pytest.mark.parametrize(("walltime", "seconds"), [("02:00:00", 7200), ("1-00:00:30", 86430), ("100:10:00", 360600)])
def test_workers_end_themselves_before_their_job(walltime: str, seconds: int) -> None:
    asked = Slurm(1, PYTHON, walltime=walltime)
    lifetime, spread = asked.lifetime
    assert asked.seconds == seconds and 0.85 * seconds < lifetime + spread < seconds
    assert options(asked.script())["worker_extra_args"] == [
        "--lifetime",
        f"{lifetime}s",
        "--lifetime-stagger",
        f"{spread}s",
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"workers": 0}, "--workers is 0; allowed are 1 to 10,000."),
        ({"workers": 100_000}, "--workers is 100,000; allowed are 1 to 10,000."),
        ({"cores": 1000}, "--cores is 1,000; allowed are 1 to 512."),
        ({"memory": "4"}, "--memory '4' cannot be read; write the memory of one worker, such as 4GB."),
        ({"memory": "0GB"}, "--memory '0GB' cannot be read; write the memory of one worker, such as 4GB."),
        ({"walltime": "2h"}, "--walltime '2h' cannot be read; write HH:MM:SS or D-HH:MM:SS."),
        ({"walltime": "00:01:00"}, "--walltime is 00:01:00; it must be at least 00:10:00, since workers start slowly."),
        ({"partition": "a b"}, "--partition 'a b' is no name of SLURM's: letters, digits and . , @ : + - _ alone."),
        ({"account": 'x"\n'}, "--account 'x\"\n' is no name of SLURM's: letters, digits and . , @ : + - _ alone."),
        ({"python": ""}, "--python must be the path of a Python on the nodes."),
    ],
)
def test_what_slurm_would_not_take_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        Slurm(**({"workers": 20, "python": PYTHON} | changed))


def test_the_command_writes_it_and_says_what_to_run(tmp_path: Path, run: Callable[..., Any]) -> None:
    out = tmp_path / "there" / "slurm.py"
    answer = run("cluster", "--out", out, "--workers", "8", "--cores", "4", "--walltime", "01:00:00")
    assert (answer.code, answer.out) == (0, "")
    assert options(out.read_text())["python"] == sys.executable
    assert answer.err.splitlines() == [
        f"written to {out}: 2 jobs of 4 cores under SLURM",
        f"run it where sbatch works: {sys.executable} {out}  (--show prints the job script instead)",
        "and beside it, with the address that it prints: psychostats compare ... --kfold 10 --scheduler ADDRESS",
    ]
    again = run("cluster", "--out", out)
    assert again.code == 2 and again.err == f"error: {out} is there already; give another file, or --overwrite.\n"
    assert run("cluster", "--out", out, "--overwrite", "--quiet").code == 0
    refused = run("cluster", "--out", tmp_path / "no.py", "--memory", "much")
    assert refused.code == 2 and not (tmp_path / "no.py").exists()


def test_dask_jobqueue_makes_a_job_of_it(tmp_path: Path) -> None:
    if os.environ.get("CI") != "true":
        pytest.importorskip("dask_jobqueue")
    script = tmp_path / "slurm.py"
    asked = Slurm(6, PYTHON, cores=3, memory="2GiB", walltime="01:00:00", partition="long", account="lab")
    script.write_text(asked.script(), encoding="utf-8")
    command = [sys.executable, str(script), "--show"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    for line in ("-J psychostats", "-p long", "-A lab", "-n 1", "--cpus-per-task=3", "--mem=6G", "-t 01:00:00"):
        assert f"#SBATCH {line}\n" in done.stdout
    (worker,) = [line for line in done.stdout.splitlines() if "distributed.cli.dask_worker" in line]
    assert worker.startswith(shlex.quote(PYTHON)) and "--nthreads 1 " in worker and "--nworkers 3 " in worker
    assert worker.endswith("--lifetime 3240s --lifetime-stagger 180s")
