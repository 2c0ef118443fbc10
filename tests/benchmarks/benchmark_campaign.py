"""Many fits by two workers against one: one experiment of the embedded study, SIMULATED and fitted by laplace.

Run as ``python tests/benchmarks/benchmark_campaign.py [--fits 24] [--runs 3] [--no-dask]``; it prints a table, writes
campaign.csv beside itself and the table of this folder's README. A fit is what planning repeats: 187 participants with
27 trials each and slopes of pairs are simulated, and their default analysis fitted by maximum likelihood. Ways take
turns, every run has fresh workers of one thread each, and figures are medians. Seconds of the *campaign* are those from
the call to the last result, with the start of processes and their imports; those *after the start* begin when each
worker has done one, which is what many fits approach. Goal: two workers of this machine in at most 1 / 1.7 of the
seconds of one, after the start; the same by a Dask cluster on loopback. Needs two idle cores.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from psychostats.campaign import Campaign, Task
from psychostats.cluster import Dask
from psychostats.executors import Executor, Local, _in_processes, _Open
from psychostats.fit import fit
from psychostats.simulate import Plan, simulate_trials
from psychostats.study import read_study

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT, README = HERE / "campaign.csv", HERE / "README.md"
MARK = "<!-- campaign: generated from campaign.csv -->"
END = "<!-- campaign: end -->"
STUDY = ROOT / "data" / "studies" / "colin2024.toml"
FORMULA = "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | pair)"
EXPERIMENT = "natural"
GOAL = 1.7
WAYS = ("1 process", "2 processes", "1 Dask worker", "2 Dask workers")


def simulate_and_fit(plan: Plan, values: Mapping[str, Any]) -> dict[str, Any]:
    """Simulate the experiment and fit it."""
    rows = simulate_trials(plan, seed=values["seed"])
    rows = rows[(rows["phase"] == "main") & ~rows["catch"]]
    made = fit(FORMULA, rows, family="afc", engine="laplace", missing="drop", progress=False)
    return {"logLik": made.likelihood["logLik"]}


def time_campaign(executor: Executor, workers: int, plan: Plan, fits: int) -> tuple[float, float, list[float]]:
    """Return the seconds of all fits, those of as many after the start, and the log-likelihoods."""
    ends: list[float] = []
    tasks = [Task(str(seed), {"seed": seed}) for seed in range(1, fits + 1)]
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder, "kept"), simulate_and_fit, plan, {"benchmark": 1})
        began = time.perf_counter()
        campaign.run(tasks, executor, progress=lambda done, total, left: ends.append(time.perf_counter()))
        found = [result["logLik"] for _, result in campaign.results(tasks)]
    # From when each worker has done one, about: what is done then is not counted.
    after = (ends[-1] - ends[workers - 1]) * fits / (fits - workers)
    return ends[-1] - began, after, found


@contextmanager
def dask_cluster(workers: int) -> Iterator[str]:
    """Start a scheduler and workers of one thread on loopback; give the scheduler's address."""
    started = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "scheduler.json")

        def start(what: str, *words: str) -> None:
            command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *words, "--host", "127.0.0.1"]
            path = os.pathsep.join([str(ROOT), str(HERE)])
            quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            started.append(subprocess.Popen([*command, "--no-dashboard"], env=environment, cwd=folder, **quiet))

        try:
            start("scheduler", "--port", "0", "--scheduler-file", str(file))
            while not file.exists() or not file.read_text():
                time.sleep(0.05)
            address = json.loads(file.read_text())["address"]
            for _ in range(workers):
                start("worker", address, "--nthreads", "1", "--no-nanny", "--local-directory", folder)
            from distributed import Client

            with Client(address, set_as_default=False) as client:
                client.wait_for_workers(workers)
            yield address
        finally:
            for process in started:
                process.kill()
                process.wait()


def measure(way: str, plan: Plan, fits: int) -> tuple[float, float, list[float]]:
    """Time one way, with fresh workers."""
    workers = int(way.split()[0])
    if "Dask" in way:
        with dask_cluster(workers) as address:
            return time_campaign(Dask(address), workers, plan, fits)
    # One worker is a process of its own too: this one has imported and cached everything.
    executor: Executor = Local(workers) if workers > 1 else Single()
    return time_campaign(executor, workers, plan, fits)


class Single(Local):
    """One process that is not this one."""

    def __init__(self) -> None:
        super().__init__(1)

    def run(self, work: Any, shared: Any, tasks: Any) -> Any:
        yield from _in_processes(1, work, shared, map(_Open, tasks), deque())


def tabulate(table: pd.DataFrame) -> pd.DataFrame:
    """Return the medians of each way, and how many times faster than one worker of its kind."""
    rows = table.groupby("way", sort=False)[["campaign_s", "after_start_s"]].median()
    rows["fits"] = table.groupby("way", sort=False)["fits"].first()
    rows["runs"] = table.groupby("way", sort=False).size()
    rows["s_a_fit"] = rows["after_start_s"] / rows["fits"]
    for way in rows.index:
        one = f"1 {'Dask worker' if 'Dask' in way else 'process'}"
        rows.loc[way, "times"] = rows.loc[one, "after_start_s"] / rows.loc[way, "after_start_s"]
        rows.loc[way, "times_campaign"] = rows.loc[one, "campaign_s"] / rows.loc[way, "campaign_s"]
    return rows


def describe(rows: pd.DataFrame, machine: str) -> str:
    """Return the README's table."""
    lines = ["| workers | runs of fits | campaign, s | after the start, s | s a fit | times one | of the campaign |  |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for way, row in rows.iterrows():
        verdict = "" if str(way).startswith("1") else "met" if row["times"] >= GOAL else "**missed**"
        seconds = f"{row['campaign_s']:.1f} | {row['after_start_s']:.1f} | {row['s_a_fit']:.2f}"
        times = f"{row['times']:.2f} | {row['times_campaign']:.2f} | {verdict}"
        lines.append(f"| {way} | {row['runs']:.0f} of {row['fits']:.0f} | {seconds} | {times} |")
    thousand = rows["s_a_fit"].get("2 processes")
    said = f"\n{machine} Goal: at least {GOAL} times one worker, after the start."
    if thousand is not None:
        said += f" 1,000 such fits by 2 processes take {thousand * 1000 / 60:.0f} minutes at this speed."
    return "\n".join(lines) + "\n" + said


def write_readme(text: str) -> None:
    """Put the table into the README, between its marks."""
    before, _, rest = README.read_text(encoding="utf-8").partition(MARK)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{MARK}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> int:
    """Time all ways in turn; return 0 if two workers meet the goal."""
    parser = argparse.ArgumentParser(description="Many fits by two workers against one.")
    parser.add_argument("--fits", type=int, default=40, help="of each run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-dask", action="store_true")
    parser.add_argument("--try-out", action="store_true", help="write nothing")
    asked = parser.parse_args()
    with_dask = not asked.no_dask and importlib.util.find_spec("distributed") is not None
    ways = [way for way in WAYS if with_dask or "Dask" not in way]
    whole = read_study(STUDY).plan()
    only = {
        "participants": {EXPERIMENT: whole.participants[EXPERIMENT]},
        "truth": {EXPERIMENT: whole.truth[EXPERIMENT]},
    }
    plan = replace(whole, **only)
    found, numbers = [], {}
    for run in range(asked.runs):
        for way in ways if run % 2 == 0 else ways[::-1]:
            campaign, after, made = measure(way, plan, asked.fits)
            numbers.setdefault("all", made)
            assert np.array_equal(made, numbers["all"]), f"{way} gives other numbers"
            found.append({"way": way, "run": run, "fits": asked.fits, "campaign_s": campaign, "after_start_s": after})
            print(f"{way}: {campaign:.1f} s, {after:.1f} s after the start", file=sys.stderr, flush=True)
    table = pd.DataFrame(found)
    table = table.sort_values(["way", "run"], key=lambda v: v.map(WAYS.index) if v.name == "way" else v)
    rows = tabulate(table)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}."
    print("SIMULATED trials; medians.")
    print(describe(rows, machine))
    if not asked.try_out:
        table.round(3).assign(data="simulated").to_csv(OUT, index=False)
        write_readme(describe(rows, machine))
    return int(any(rows["times"].get(way, GOAL) < GOAL for way in ways if way.startswith("2")))


if __name__ == "__main__":
    sys.exit(main())
