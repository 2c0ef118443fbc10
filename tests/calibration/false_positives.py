"""How often the sampler finds a difference in simulated studies without any, beside maximum likelihood.

In: the folder of ``psychostats power`` with a null run of the study's own design.  Out: both rates, on stdout.  Run as
``python tests/calibration/false_positives.py STUDY OUT [WORKERS]``. Only studies whose estimate lies further from 0
than `NEAR` standard errors by maximum likelihood are sampled (about an eighth, 4 s each on a core); in the others the
sampler is taken to find nothing, so its rate is a lower bound, by little: its standard errors are nearly the same.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from psychostats.characteristics import wilson
from psychostats.executors import Local
from psychostats.planning import ask
from psychostats.power_simulations import campaign_of, plan_of, seed_of
from psychostats.replications import replicate
from psychostats.study import read_study

NEAR = 1.7


def sample_null(shared: Any, number: int) -> tuple[float, float]:
    """Return the sampler's interval of one study without differences."""
    job, size, name = shared
    plan = plan_of(job.base, job.experiment, size, job.null, job.spec)
    found = replicate(plan, seed_of(job.seed, "null", size, number), [job.sampler], job.asked)[job.sampler.name]
    return found["quantities"][name]["conf_low"], found["quantities"][name]["conf_high"]


def main(study: str, out: str, workers: int = 2) -> None:
    """Print both rates of the quantity that the wish is about."""
    question = ask(read_study(Path(study)), {})
    size, name = question.own, question.wished
    kept = sorted(Path(out, "simulations", "null", size.name).glob("*.json"))
    if not kept:
        sys.exit(f"{out} has no null run of {size.name}; run psychostats power with --null and the study's own design.")
    found = [json.loads(path.read_text(encoding="utf-8"))["result"]["quantities"][name] for path in kept]
    likely = [one["conf_low"] > 0 or one["conf_high"] < 0 for one in found]
    near = [i for i, one in enumerate(found) if abs(one["estimate"]) > NEAR * one["sd"]]
    shared = campaign_of(question, Path()).shared, size, name
    sampled = [low > 0 or high < 0 for _, (low, high) in Local(workers).run(sample_null, shared, near)]
    for what, count in (("maximum likelihood", sum(likely)), (f"nuts ({len(near)} sampled)", sum(sampled))):
        low, high = wilson(count, len(found))
        print(f"{what}: {count} of {len(found)}, {count / len(found):.1%} [{low:.1%}, {high:.1%}]")


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
