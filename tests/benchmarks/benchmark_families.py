"""Seconds of every family at the embedded study's size, each in a process of its own: nothing is compiled yet.

Responses are drawn from known values (simulated people), since the study's own times and ratings know no effects:
about 5,000 trials of 187 participants and 80 pairs, the default formula, four chains of 1,000 draws.  Run from the
repository: ``python tests/benchmarks/benchmark_families.py`` (about ten minutes); it rewrites ``families.csv``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
RIGHT = "representation * depth + (1 + representation | participant) + (1 + representation | pair)"
FAMILIES = {
    "afc": {"family": "afc"},
    "afc, lapse estimated": {"family": "afc", "lapse": "estimate"},
    "cumulative": {"family": "cumulative"},
    "cumulative, probit": {"family": "cumulative", "link": "probit"},
    "lognormal": {"family": "lognormal"},
    "shifted_lognormal": {"family": "shifted_lognormal"},
    "gaussian": {"family": "gaussian"},
}


def simulate(seed: int = 3) -> pd.DataFrame:
    """Return the embedded study's trials of one experiment with responses of every kind."""
    from psychostats import read_trials

    rng = np.random.default_rng(seed)
    filters = {"experiment": "natural", "phase": "main", "catch": False}
    trials = read_trials(ROOT / "data/colin2024_simulated/trials.csv", filters=filters, unanswered="keep").copy()
    person, pair = (pd.factorize(trials[name])[0] for name in ("participant", "pair"))
    shown, depth = (trials["representation"] == "distributed").to_numpy(float), trials["depth"].to_numpy(float)
    of_person = rng.multivariate_normal([0, 0], [[0.25, 0.05], [0.05, 0.09]], person.max() + 1)[person]
    of_pair = rng.normal(0, [0.5, 0.4], (pair.max() + 1, 2))[pair]
    eta = 0.3 * shown + 0.4 * shown * depth - 0.5 * depth
    eta += of_person[:, 0] + of_pair[:, 0] + shown * (of_person[:, 1] + of_pair[:, 1])
    right = rng.uniform(size=len(eta)) < 0.5 + 0.48 / (1 + np.exp(-0.5 - eta))
    latent = 2 * eta + rng.logistic(size=len(eta))
    return trials.assign(
        correct=right.astype(int),
        confidence=1 + (latent[:, np.newaxis] > [-1.5, 0.0, 1.2]).sum(axis=1),
        rt=0.3 + np.exp(0.2 - 0.3 * eta + 0.5 * rng.normal(size=len(eta))),
        score=100 + 15 * (eta + rng.normal(size=len(eta))),
    )


def measure(name: str) -> dict[str, object]:
    """Fit one family and leave out every trial, then every participant."""
    begun = time.perf_counter()
    import psychostats as ps
    from psychostats.checks import predictive_accuracy
    from psychostats.loo import loo

    words = FAMILIES[name]
    response = {"cumulative": "confidence", "gaussian": "score"}.get(words["family"], "rt")
    response = "correct" if words["family"] == "afc" else response
    trials = simulate()
    started = time.perf_counter()
    fit = ps.fit(f"{response} ~ {RIGHT}", trials, progress=False, **words)
    seconds = {"import_and_read": started - begun, "fit": time.perf_counter() - started}
    seconds |= {stage: fit.timings[stage] for stage in ("compile", "sample")}
    for label, work in {
        "loo_trial": lambda: loo(fit),
        "loo_participant": lambda: loo(fit, "participant"),
        "checks": lambda: [predictive_accuracy(fit, trials[[by]]) for by in ("participant", "pair", "layer")],
    }.items():
        since = time.perf_counter()
        work()
        seconds[label] = time.perf_counter() - since
    terms = fit.terms()
    figures = {key: round(value, 1) for key, value in seconds.items()}
    worst = {"rhat": round(terms["rhat"].max(), 3), "ess": round(terms[["ess_bulk", "ess_tail"]].min().min())}
    return {"family": name, "trials": len(trials), **figures, **worst, "converged": fit.converged}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        row = measure(sys.argv[1])
        print(",".join(map(str, row)), ",".join(f'"{value}"' for value in row.values()), sep="\n")
    else:
        lines: list[str] = []
        for one in FAMILIES:
            done = subprocess.run([sys.executable, __file__, one], capture_output=True, text=True, check=True, cwd=ROOT)
            head, figures = done.stdout.splitlines()[-2:]
            lines = lines or [head]
            lines.append(figures)
            print(figures, flush=True)
        (HERE / "families.csv").write_text("\n".join(lines) + "\n")
