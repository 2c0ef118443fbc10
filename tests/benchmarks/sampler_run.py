"""One fit by psychostats in a fresh process, as a user's script would do it: read a CSV, fit, take the draws.

In: one argument, JSON, and the CSV it names.  Out: a line of JSON with seconds and peak memory, and the draws of b, sd
and cor in the file it names.  Clocks are read before the draws are put away; effective sizes are counted elsewhere.

``began`` is the reading of the clock before this process was started, ``modules`` what is to be imported before the
clock of the fit starts: then ``fit_s`` leaves imports out, and ``fresh_s`` has them all.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any


def main() -> int:
    """Fit what is asked for and say what it took."""
    asked = json.loads(sys.argv[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in asked["modules"]:
            # Some can be imported only by others, or only once; those come with them.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    imported = time.monotonic()
    import pandas as pd

    import psychostats as ps

    trials = pd.read_csv(asked["trials"])
    trials["representation"] = pd.Categorical(trials["representation"], categories=asked["levels"])
    likelihood = asked["engine"] == "laplace"
    options: dict[str, Any] = {} if likelihood else {"draws": asked["draws"], "seed": asked["seed"]}
    if asked["tune"] is not None:
        options["tune"] = asked["tune"]
    fit = ps.fit(asked["formula"], trials, engine=asked["engine"], priors=asked["priors"], progress=False, **options)
    names, values = ([], None) if likelihood else take(fit)
    done = time.monotonic()
    found: dict[str, Any] = {"fit_s": done - imported, "fresh_s": done - asked["began"], "peak_mb": peak() / 1e6}
    found["stages"] = dict(fit.timings)
    if values is not None:
        import numpy as np

        np.savez(asked["out"], names=np.array(names), values=values)
        stats = fit.draws_table.groups["sample_stats"]
        found |= {"divergences": int(stats["diverging"].sum()), "steps": float(stats["n_steps"].mean())}
    if asked["tell_modules"]:
        found["modules"] = [name for name in sys.modules if not name.startswith("_")]
    print(json.dumps(found))
    return 0


def take(fit: Any) -> tuple[list[str], Any]:
    """Return names and draws of b, sd and cor, shape ``(chains, draws, terms)``."""
    flat = fit.draws_table.flat()
    names = [name for name in flat.columns if not name.startswith(".")]
    chains = int(flat[".chain"].max())
    return names, flat[names].to_numpy().reshape(chains, -1, len(names))


def peak() -> float:
    """Return the most bytes this process has held.

    Linux counts what a process inherits from the one that started it into ``ru_maxrss``, but not into ``VmHWM``.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


if __name__ == "__main__":
    sys.exit(main())
