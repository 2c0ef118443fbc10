"""How well neurons and directions match known elements: networks narrow to wide, a forced local code, several seeds.

In: which networks (CODE:WIDTH:SEED ...).  Out: lines of elements.csv and decisions.csv beside this file, one a network,
layer, condition and kind; a network that they have is passed over. Each network is the embedded job's. Without
arguments: means and SDs over seeds of what the files have.

    python tests/benchmarks/benchmark_elements.py free:12:1 free:12:2 local:24:1
"""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path

import pandas as pd

from featurecompute import scenes, training
from featurecompute.groundtruth import covered
from featurecompute.manifest import load_run
from featurecompute.pipeline import compute_study
from featurecompute.study import Study, read_study
from featurecompute.weights import fill, read_weights

TABLE = Path(__file__).with_name("elements.csv")
RUNS = Path("build/elements")
"""Runs are kept there, so that one that was interrupted goes on."""
DECISIONS = Path(__file__).with_name("decisions.csv")
STUDY = """
[network]
code = "{code}"
width = {width}
seed = {seed}
{weights}
[images]
count = 2000
[features]
neurons = {neurons}
[contributions]
images = 100
curves = 0
methods = ["subtract", "reconstruct"]
"""


def study_of(code: str, width: int, seed: int, folder: Path, weights: str) -> Study:
    """Write and read the study of one network; neurons: at most as many as any network is sure to have."""
    path = folder / "study.toml"
    given = f'weights = "{Path(weights).resolve()}"' if weights else ""
    path.write_text(STUDY.format(code=code, width=width, seed=seed, weights=given, neurons=48))
    return read_study(path)


def run(name: str, weights: str = "") -> None:
    """Compute one network's job and append what it says."""
    code, width, seed = name.split(":")
    about = {"code": code, "width": int(width), "seed": int(seed)}
    if TABLE.exists() and not pd.read_csv(TABLE).merge(pd.DataFrame([about])).empty:
        return
    folder = RUNS / name.replace(":", "-")
    folder.mkdir(parents=True, exist_ok=True)
    study = study_of(code, int(width), int(seed), folder, weights)
    compute_study(study, folder / "run", resume=True, say=print)
    made = load_run(folder / "run")
    network = training.build_network(study.network)
    path = Path(weights) if weights else folder / "run" / "network.safetensors"
    fill(network, read_weights(path), path)
    about["accuracy"] = training.accuracy(network, scenes.generate(2000, seed=study.images.seed))
    _append(TABLE, covered(made.table("matches")), about)
    features = made.table("features").set_index("feature")
    norms = made.table("norm_matched")
    norms = norms[(norms["selection"] == "fixed") & (norms["way"] == "pairs")]
    chosen = made.table("selectivity").query("selection == 'fixed' and method == 'subtract'")
    chosen = chosen.join(features[["layer", "representation"]], on="feature")
    medians = chosen.groupby(["layer", "representation"])["selectivity"].median().reset_index()
    medians = medians.pivot_table("selectivity", "layer", "representation")
    _append(DECISIONS, norms.join(medians.add_prefix("selectivity_"), on="layer"), about)


def _append(path: Path, rows: pd.DataFrame, about: dict[str, object]) -> None:
    """Add rows to a table that another process may be adding to."""
    lines = rows.assign(**about)
    lines = lines[[*about, *rows.columns]].round(4)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines.to_csv(file, index=False, header=file.tell() == 0)


def summarise() -> None:
    """Print means and SDs over seeds, as tables for the README."""
    rows = pd.read_csv(TABLE)
    networks = rows.groupby(["code", "width"], sort=False)
    for (code, width), part in networks:
        seeds = part.drop_duplicates("seed")
        print(f"\n{code}, width {width}: {len(seeds)} seeds, accuracy {seeds['accuracy'].mean():.3f}")
        for measure in ("auroc", "purity", "gap"):
            shown = part[part["kind"].ne("any") & ~part["condition"].str.contains("permuted")]
            if measure == "auroc":
                shown = part[part["kind"].ne("any")]
            means = (
                shown.groupby(["kind", "condition", "layer"], sort=False)[measure].agg(["mean", "std"]).reset_index()
            )
            means["text"] = [f"{m:.2f} ± {s:.2f}" for m, s in zip(means["mean"], means["std"], strict=True)]
            table = means.pivot_table("text", ["kind", "condition"], "layer", aggfunc="first", sort=False)
            print(f"\n{measure}\n{table.to_string()}")
    decisions = pd.read_csv(DECISIONS)
    columns = ["estimate", "ratio", "selectivity_local", "selectivity_distributed"]
    found = decisions[decisions["method"] == "subtract"].groupby(["code", "width", "layer"], sort=False)[columns]
    print(f"\ncontributions at equal norm, and selectivity\n{found.agg(['mean', 'std']).round(2).to_string()}")


if __name__ == "__main__":
    if not sys.argv[1:]:
        summarise()
    for argument in sys.argv[1:]:
        print(argument, flush=True)
        run(*argument.split("=", 1))
