"""One fit by bambi in a fresh process, under the peers' own Python: read a CSV, fit, take the draws.

In: one argument, JSON, and the CSV it names.  Out: a line of JSON with seconds, and the draws of b and sd in the file
it names, under psychostats's names.  Imports nothing of psychostats, which need not be installed there.

Everything is at bambi's defaults but the priors, which are those of `sampler_sizes.PRIORS`; bambi has no correlations
of group effects, so ``(1 + x | g)`` are two independent blocks, and the intercept's prior holds at mean predictors.
"""

from __future__ import annotations

import json
import logging
import platform
import sys
import time
import warnings
from importlib.metadata import version
from typing import Any


def main() -> int:
    """Fit what is asked for and say what it took."""
    warnings.simplefilter("ignore")
    asked = json.loads(sys.argv[1])
    import bambi
    import numpy as np
    import nutpie  # noqa: F401  (an import, so before the clock)
    import pandas as pd
    import pymc  # noqa: F401

    logging.getLogger("pymc").setLevel(logging.ERROR)
    imported = time.monotonic()
    trials = pd.read_csv(asked["trials"])
    trials["representation"] = pd.Categorical(trials["representation"], categories=asked["levels"])
    wide = bambi.Prior("Normal", mu=0, sigma=2.5)
    groups = bambi.Prior("Normal", mu=0, sigma=bambi.Prior("HalfNormal", sigma=1))
    priors = {"Intercept": wide, "common": wide, "group_specific": groups}
    model = bambi.Model(asked["formula"], trials, family="bernoulli", priors=priors)
    options: dict[str, Any] = {"draws": asked["draws"], "random_seed": asked["seed"], "progressbar": False}
    if asked["tune"] is not None:
        options["tune"] = asked["tune"]
    result = model.fit(inference_method=asked["engine"], chains=4, **options)
    posterior, stats = result.posterior, result.sample_stats
    b = [name for name in posterior.data_vars if "|" not in name]
    sd = [name for name in posterior.data_vars if name.endswith("_sigma")]
    names, parts = [], []
    for name in (*b, *sd):
        values = np.asarray(posterior[name])
        values = values.reshape(*values.shape[:2], -1)
        names += [name] * values.shape[-1]
        parts.append(values)
    done = time.monotonic()
    np.savez(asked["out"], names=np.array([rename(name) for name in names]), values=np.concatenate(parts, axis=-1))
    found = {
        "fit_s": done - imported,
        "fresh_s": done - asked["began"],
        "divergences": int(stats["diverging"].sum()),
        "steps": float(stats["n_steps"].mean()) if "n_steps" in stats else None,
        "versions": {name: version(name) for name in ("bambi", "pymc", "pytensor", "nutpie", "arviz", "numba")}
        | {"python": platform.python_version()},
    }
    print(json.dumps(found))
    return 0


def rename(name: str) -> str:
    """Return psychostats's class and a name: what is counted goes by the class."""
    return f"sd_{name}" if name.endswith("_sigma") else f"b_{name}"


if __name__ == "__main__":
    sys.exit(main())
