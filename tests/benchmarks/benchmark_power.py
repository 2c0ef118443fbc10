"""Time the simulations behind a power analysis: the embedded study's experiment, by one worker and by two.

In: nothing.  Out: seconds a simulated study, and what 1,000 of them take, on stdout.  Each number of workers works on
as many studies of its own, in turns, and the median of the turns is given. Run as ``python
tests/benchmarks/benchmark_power.py [STUDIES] [TURNS]``; nothing else should run on the machine.

For scale: a user of simr (Green and MacLeod 2016), which simulates and refits in R by lme4, reports weeks for the
result of a logistic model with all slopes of people and items (four sizes, 5,000 simulations each; its issue 149); see
also `benchmark_laplace.py`, beside glmer on the same trials.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from psychostats.executors import Local
from psychostats.planning import ask
from psychostats.power_simulations import campaign_of, tasks_of
from psychostats.study import read_study

STUDY = Path(__file__).parents[2] / "data" / "studies" / "colin2024.toml"


def main(studies: int = 40, turns: int = 3) -> None:
    """Print the table."""
    question = ask(read_study(STUDY), {"null": False, "nuts": 0})
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(turns):
        for workers, took in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                campaign = campaign_of(question, Path(folder))
                executor = Local(workers)
                began = 0.0
                tasks = tasks_of(question, "power", [question.own], studies + workers)
                for done, _ in enumerate(executor.run(_work, (campaign.work, campaign.shared), tasks), start=1):
                    if done == workers:  # processes are there, and have imported what they need
                        began = time.perf_counter()
                took.append((time.perf_counter() - began) / studies)
    print(f"{question.own}: {studies} simulated studies, median of {turns} turns")
    for workers, took in seconds.items():
        each = statistics.median(took)
        print(f"{workers} worker{'s' * (workers > 1)}: {each:.3f} s a study, 1,000 in {1000 * each / 60:.1f} min")
    print(f"two workers are {statistics.median(seconds[1]) / statistics.median(seconds[2]):.2f} times as fast as one")


def _work(shared, task):
    work, rest = shared
    return work(rest, task.values)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
