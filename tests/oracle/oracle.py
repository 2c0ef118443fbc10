"""The oracle: long runs of PyMC's sampler on the designs of `designs.py`, and what they say, one file a design.

Run as ``python tests/oracle/oracle.py [DESIGN ...]``, from the root; ``make oracle`` makes all (half an hour on two
idle cores). It writes ``posteriors/DESIGN.csv`` and goes on where it was interrupted; delete a file to make it anew.
Its first line is the command, its second the settings, what came of the run, and the versions.
`tests/psychostats/test_engines_agree.py` holds the other engine to these numbers.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from designs import DESIGNS, Simulated
from summaries import summarise

import psychostats as ps
from psychostats.draws import diagnose
from psychostats.identity import data_hash

HERE = Path(__file__).resolve().parent
DRAWS, TUNE, CHAINS, SEED = 12_500, 1_500, 4, 20_000
PIECE = 1_000  # draws whose rows' densities are in memory at once


def run(design: Simulated, engine: str, **settings: Any) -> ps.Fit:
    """Fit a design by an engine, through the package's door."""
    return ps.fit(
        design.formula, design.data(), priors=design.priors, engine=engine, progress=False, **design.family, **settings
    )


def quantities(fitted: ps.Fit) -> tuple[list[str], np.ndarray]:
    """Return names and draws of all terms, those of single levels too, and of the log-likelihood.

    The log-likelihood depends on all parameters together and so sees faults that no single one does.

    Returns
    -------
    tuple
        Names, and draws of shape ``(chains, draws, quantities)``.
    """
    table = fitted.draws_table.flat(random=True)
    chains = int(table[".chain"].max())
    names = [name for name in table if not name.startswith(".")]
    values = np.column_stack([table[names].to_numpy(), log_likelihood(fitted)])
    return [*names, "log_likelihood"], values.reshape(chains, -1, len(names) + 1)


def log_likelihood(fitted: ps.Fit) -> np.ndarray:
    """Return the log-density of all answers in each draw, from the matrices of the design and the draws alone."""
    design, drawn = fitted.design, fitted.parameters()
    out = []
    for start in range(0, len(drawn.b), PIECE):
        some = drawn.take(slice(start, start + PIECE))
        eta = some.b @ design.X.T + design.offset
        for block, r in zip(design.blocks, some.r, strict=True):
            eta += np.einsum("dnq,nq->dn", r[:, block.index], block.Z)
        family = fitted.spec.family.at(some.family)
        out.append(family.log_density(design.successes, design.trials, eta).sum(axis=1))
    return np.concatenate(out)


def make(name: str) -> None:
    """Run the oracle on one design, and keep what it says."""
    design, started = DESIGNS[name], time.perf_counter()
    fitted = run(design, "pymc", draws=DRAWS, tune=TUNE, chains=CHAINS, seed=SEED, target_accept=design.target_accept)
    terms, values = quantities(fitted)
    table = summarise(terms, values)
    table["rhat"], table["ess_bulk"], table["ess_tail"] = diagnose(values)
    summary = fitted.summary()["sampler"]
    told = {
        "design": name,
        "rows": len(fitted.data),
        "data": data_hash(fitted.data, list(fitted.data.columns)),
        "engine": fitted.provenance["engine"],
        **summary,
        "target_accept": design.target_accept,
        "rhat_max": round(float(table["rhat"].max()), 4),
        "ess_bulk_min": round(float(table["ess_bulk"].min())),
        "ess_tail_min": round(float(table["ess_tail"].min())),
        "seconds": round(time.perf_counter() - started),
        "versions": {"python": platform.python_version(), **fitted.provenance["versions"]},
    }
    text = table.to_csv(float_format="%.7g", lineterminator="\n")
    path = stored(name)
    path.parent.mkdir(exist_ok=True)
    # Whole or not at all: a killed run must leave no half table behind.
    part = path.with_suffix(".part")
    part.write_text(
        f"# SIMULATED data: python tests/oracle/oracle.py {name}\n# {json.dumps(told)}\n{text}", encoding="utf-8"
    )
    part.replace(path)


def stored(name: str) -> Path:
    """Return where a design's posterior is kept."""
    return HERE / "posteriors" / f"{name}.csv"


def read_posterior(name: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return how a stored posterior was made, and its table by term."""
    path = stored(name)
    with path.open(encoding="utf-8") as lines:
        next(lines)
        told = json.loads(next(lines).removeprefix("# "))
    return told, pd.read_csv(path, comment="#", index_col="term")


def main(names: list[str]) -> None:
    """Make the posteriors named, or all that are not there yet."""
    for name in names or list(DESIGNS):
        if not stored(name).exists():
            make(name)
        told, _ = read_posterior(name)
        print({key: value for key, value in told.items() if key not in ("data", "versions")}, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
