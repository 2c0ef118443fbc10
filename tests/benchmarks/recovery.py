"""Recovery of the embedded study: coverage of the true values over simulated replications, seeds 1 to 20.

Run as ``python tests/benchmarks/recovery.py`` (about a quarter of an hour on two cores); it writes recovery.csv beside
itself, a row a seed, experiment and term, and prints the coverage with its Monte Carlo error. Fits are short: 500 draws
after 500 in each of 4 chains. `tests/test_recovery.py` holds the committed figures to what they should be.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pandas as pd

from psychostats.exclusions import apply_exclusions
from psychostats.fit import fit
from psychostats.simulate import write_trials
from psychostats.study import read_study

HERE = Path(__file__).resolve().parent
STUDY = HERE.parents[1] / "data" / "studies" / "colin2024.toml"
OUT = HERE / "recovery.csv"


def main(seeds: range) -> None:
    """Fit the main model to every experiment of every replication, but for seeds that the file has already."""
    study = read_study(STUDY)
    truth = study.plan().truth
    rows = pd.read_csv(OUT).to_dict("records") if OUT.exists() else []
    done = {row["seed"] for row in rows}
    for seed in seeds:
        if seed in done:
            continue
        with tempfile.TemporaryDirectory() as folder:
            trials_file = Path(folder) / "trials.csv"
            write_trials(study.simulated_trials(seed), trials_file)
            kept = apply_exclusions(study.read(trials_file), study.rules()).kept
        for experiment, trials in kept.groupby("experiment", observed=True):
            made = fit(study.models[0].spec(), trials, draws=500, tune=500, seed=seed, progress=False)
            terms = made.terms().set_index("term")
            for term, true in truth[str(experiment)].items():
                row = terms.loc[term]
                rows.append(
                    {
                        "seed": seed,
                        "experiment": experiment,
                        "term": term,
                        "true": true,
                        "estimate": round(float(row["estimate"]), 5),
                        "sd": round(float(row["sd"]), 5),
                        "conf_low": round(float(row["conf_low"]), 5),
                        "conf_high": round(float(row["conf_high"]), 5),
                        "rhat": round(float(row["rhat"]), 4),
                    }
                )
        pd.DataFrame(rows).to_csv(OUT, index=False)
        print(f"seed {seed} done", file=sys.stderr, flush=True)
    print(coverage(pd.DataFrame(rows)).to_string())


def coverage(table: pd.DataFrame) -> pd.DataFrame:
    """Return, by term, the share of 95 % intervals that hold the true value, its Monte Carlo error, and the mean z."""
    inside = (table["conf_low"] <= table["true"]) & (table["true"] <= table["conf_high"])
    z = (table["estimate"] - table["true"]) / table["sd"]
    by = pd.DataFrame({"term": table["term"], "inside": inside, "z": z}).groupby("term", sort=False)
    found = by.agg(fits=("inside", "size"), coverage=("inside", "mean"), mean_z=("z", "mean"), sd_z=("z", "std"))
    found["mc_error"] = (found["coverage"] * (1 - found["coverage"]) / found["fits"]) ** 0.5
    return found.round(3)


if __name__ == "__main__":
    main(range(1, 21))
