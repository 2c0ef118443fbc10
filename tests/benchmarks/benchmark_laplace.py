"""Engine laplace beside lme4's glmer: seconds, peak memory and log-likelihood, on SIMULATED trials of fixed seeds.

Run as ``python tests/benchmarks/benchmark_laplace.py``; it prints a table and writes laplace.csv beside itself, a row a
size. Sizes: ``small`` and ``apart`` (23 participants; in ``apart`` no two trials are alike, so none can be summed into
cells), ``middle`` (560) and, on request only and ours alone, ``large`` (5,600) and ``huge`` (56,000): ``--sizes large
huge``. Runs of the two alternate, each in a fresh process of one BLAS thread, and figures are medians over runs; glmer
is left out where Rscript or lme4 is missing. Limits: not slower than glmer on ``small``, 10 s on ``middle``, 300 s and
4 GB on ``huge``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
OUT = HERE / "laplace.csv"
SEED = 1
_INTERCEPTS = "correct ~ representation * depth + (1 + representation | participant) + (1 | unit)"
_SLOPES = "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | unit)"


@dataclass(frozen=True)
class Size:
    """A study to simulate, and what it may cost.

    Parameters
    ----------
    people, each, units
        Participants, trials of each, and units of the network (or matched pairs) that they are about.
    formula
        What is fitted.
    runs
        How often.
    apart
        Whether depth differs from trial to trial, so that no two trials are alike.
    glmer
        Whether glmer runs too.
    ratio, seconds, memory
        The least ratio of glmer's seconds to ours, and the most seconds of a warm call and bytes.
    """

    people: int
    each: int
    units: int
    formula: str
    runs: int
    apart: bool = False
    glmer: bool = True
    ratio: float = 0.0
    seconds: float = np.inf
    memory: float = np.inf


SIZES = {
    "small": Size(23, 160, 20, _INTERCEPTS, runs=5, ratio=1.0),
    "apart": Size(23, 160, 20, _INTERCEPTS, runs=5, apart=True, ratio=1.0),
    "middle": Size(560, 27, 80, _SLOPES, runs=5, seconds=10.0),
    "large": Size(5_600, 30, 80, _SLOPES, runs=3, glmer=False),
    "huge": Size(56_000, 30, 80, _SLOPES, runs=1, glmer=False, seconds=300.0, memory=4e9),
}

# Both fits, then a line of JSON: seconds by the wall and of the processor, and log-likelihoods.
_GLMER = """
suppressPackageStartupMessages(library(lme4))
arguments <- commandArgs(TRUE)
d <- read.csv(arguments[1], stringsAsFactors = TRUE)
d$representation <- factor(d$representation, c("local", "distributed"))
timed <- function(...) {
  t <- system.time(m <- suppressMessages(suppressWarnings(glmer(as.formula(arguments[2]), d, binomial, ...))))
  c(t[["elapsed"]], t[["user.self"]] + t[["sys.self"]], as.numeric(logLik(m)))
}
default <- timed()
bobyqa <- timed(nAGQ = 1, control = glmerControl(optimizer = "bobyqa"))
cat(sprintf("[%s]\\n", paste(sprintf("%.10g", c(default, bobyqa)), collapse = ", ")))
"""


def simulate(size: Size) -> pd.DataFrame:
    """Draw trials from a known model: everyone sees each unit in turn, in either representation."""
    rng = np.random.default_rng([SEED, size.people])
    person, trial = np.divmod(np.arange(size.people * size.each), size.each)
    unit = (trial + rng.integers(size.units, size=size.people)[person]) % size.units
    distributed = (trial + person + trial // size.units) % 2
    depth = np.round(rng.uniform(size=len(unit)), 6) if size.apart else np.round(unit % 10 / 9, 4)
    people = rng.standard_normal((size.people, 2)) @ np.array([[0.7, 0.2], [0.0, 0.45]])
    units = rng.standard_normal((size.units, 2)) @ np.array([[0.5, 0.1], [0.0, 0.3]])
    if size.formula == _INTERCEPTS:
        units[:, 1] = 0.0
    eta = 0.6 - 0.3 * distributed + 0.5 * depth + 0.4 * distributed * depth
    for effects, index in ((people, person), (units, unit)):
        eta += effects[index, 0] + distributed * effects[index, 1]
    return pd.DataFrame(
        {
            "participant": pd.Series([f"P{i:05d}" for i in range(size.people)])[person].to_numpy(),
            "unit": pd.Series([f"unit{i:02d}" for i in range(size.units)])[unit].to_numpy(),
            "representation": np.where(distributed, "distributed", "local").astype(object),
            "depth": depth,
            "correct": (rng.uniform(size=len(eta)) < 1.0 / (1.0 + np.exp(-eta))).astype(int),
        }
    )


def measure(path: Path, formula: str, calls: int) -> dict[str, float]:
    """Fit in this process: a whole call of `psychostats.fit`, more of them, and the maximiser alone."""
    import psychostats as ps
    from psychostats.maximum import Method, maximise

    trials = pd.read_parquet(path)

    def timed(call: Any) -> tuple[Any, float, float]:
        began, cpu = time.perf_counter(), time.process_time()
        result = call()
        return result, time.perf_counter() - began, time.process_time() - cpu

    fit, first, _ = timed(lambda: ps.fit(formula, trials, engine="laplace"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    warm = [timed(lambda: ps.fit(formula, trials, engine="laplace"))[1:] for _ in range(calls)]
    design, family = fit.design, fit.spec.family
    alone = [timed(lambda: maximise(design, family, Method()))[1:] for _ in range(calls)]
    (seconds, cpu), (alone_seconds, alone_cpu) = np.median(warm, axis=0), np.median(alone, axis=0)
    return {
        "first": first,
        "warm": seconds,
        "warm_cpu": cpu,
        "alone": alone_seconds,
        "alone_cpu": alone_cpu,
        "peak": peak,
        "logLik": fit.likelihood["logLik"],
    }


def compare(name: str, runs: int, *, with_glmer: bool) -> dict[str, Any]:
    """Time one size; runs of ours and of glmer alternate."""
    size = SIZES[name]
    trials = simulate(size)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        trials.to_parquet(f"{folder}/trials.parquet")
        trials.to_csv(f"{folder}/trials.csv", index=False)
        Path(folder, "glmer.R").write_text(_GLMER, encoding="utf-8")
        own = [sys.executable, __file__, "--measure", f"{folder}/trials.parquet", size.formula]
        own += ["5" if len(trials) < 50_000 else "1"]
        for _ in range(runs):
            ours.append(json.loads(_output(own, environment)))
            if with_glmer and size.glmer:
                command = ["Rscript", f"{folder}/glmer.R", f"{folder}/trials.csv", size.formula]
                theirs.append(json.loads(_output(command, environment)))
    own_median = pd.DataFrame(ours).median()
    glmer = np.median(theirs, axis=0) if theirs else np.full(6, np.nan)
    return {
        "size": name,
        "rows": len(trials),
        "participants": size.people,
        "runs": runs,
        "glmer_default_s": glmer[0],
        "glmer_default_cpu_s": glmer[1],
        "glmer_bobyqa_s": glmer[3],
        "glmer_bobyqa_cpu_s": glmer[4],
        "first_s": own_median["first"],
        "warm_s": own_median["warm"],
        "warm_cpu_s": own_median["warm_cpu"],
        "maximise_s": own_median["alone"],
        "maximise_cpu_s": own_median["alone_cpu"],
        "ratio": min(glmer[0], glmer[3]) / own_median["warm"],
        "ratio_cpu": min(glmer[1], glmer[4]) / own_median["warm_cpu"],
        "peak_mb": own_median["peak"] / 1e6,
        "logLik_glmer_default": glmer[2],
        "logLik_glmer_bobyqa": glmer[5],
        "logLik": own_median["logLik"],
    }


def kept(row: dict[str, Any]) -> bool:
    """Return whether a size kept to its limits."""
    size = SIZES[row["size"]]
    slow = row["ratio"] < size.ratio or row["warm_s"] > size.seconds
    return not slow and row["peak_mb"] * 1e6 <= size.memory


def _record(table: pd.DataFrame) -> None:
    """Write the sizes that were timed, beside those that the file has already."""
    table = table.assign(data="simulated")
    if OUT.exists():
        held = pd.read_csv(OUT)
        held = held[~held["size"].isin(table["size"])]
        table = pd.concat([held, table]) if len(held) else table
    table = table.sort_values("size", key=lambda names: names.map(list(SIZES).index))
    table.round(4).to_csv(OUT, index=False)


def _output(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().splitlines()[-1]


def _has_glmer() -> bool:
    if shutil.which("Rscript") is None:
        return False
    asked = subprocess.run(["Rscript", "-e", "library(lme4)"], capture_output=True, check=False)
    return asked.returncode == 0


def main() -> int:
    """Time the sizes that are asked for; return 0 if all kept to their limits."""
    parser = argparse.ArgumentParser(description="Engine laplace beside lme4's glmer, on simulated trials.")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["small", "apart", "middle"])
    parser.add_argument("--runs", type=int, help="processes a size, instead of its own number")
    parser.add_argument("--no-glmer", action="store_true", help="ours alone")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        path, formula, calls = asked.measure
        print(json.dumps(measure(Path(path), formula, int(calls))))
        return 0
    with_glmer = not asked.no_glmer and _has_glmer()
    rows = []
    for name in asked.sizes:
        rows.append(compare(name, asked.runs or SIZES[name].runs, with_glmer=with_glmer))
        print(f"{name} done", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    if with_glmer or not any(SIZES[name].glmer for name in asked.sizes):  # the comparison is the file's point
        _record(table)
    print("SIMULATED trials; seconds are medians by the wall, _cpu of the processor.")
    print(table.round(3).set_index("size").T.to_string())
    return int(not all(map(kept, rows)))


if __name__ == "__main__":
    sys.exit(main())
