"""The trials that the samplers are timed on: simulated ones of given seeds, and real ones where they are found.

In: how many people, trials and factors.  Out: a table of trials and the model that is fitted to it.  Knows no tool.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from psychostats.simulate import People, answer_trials
from psychostats.spec import specify

FIXED = "correct ~ representation * depth"
#: Grouping factors in the order in which a model takes them up, and what of them is true.
FACTORS = {
    "(1 + representation | participant)": {
        "sd_participant__Intercept": 0.6,
        "sd_participant__representationdistributed": 0.45,
        "cor_participant__Intercept__representationdistributed": -0.3,
    },
    "(1 | unit)": {"sd_unit__Intercept": 0.5},
    "(1 | batch)": {"sd_batch__Intercept": 0.3},
    "(1 | lab)": {"sd_lab__Intercept": 0.3},
}
BATCHES, LABS = 15, 12
_TRUE_B = {
    "b_Intercept": 0.6,
    "b_representationdistributed": -0.3,
    "b_depth": 0.5,
    "b_representationdistributed:depth": 0.4,
}
#: The same in every tool that has priors; what a tool cannot be told stands in README.md.
PRIORS = ("b ~ normal(0, 2.5)", "b_Intercept ~ normal(0, 2.5)", "sd ~ normal(0, 1)", "cor ~ lkj(2)")
REAL = "exp1"


@dataclass(frozen=True)
class Size:
    """Trials to time a fit on.

    Parameters
    ----------
    people, each, units
        Participants, trials of each, and units of the network that they are about; with ``each`` a multiple of twice
        ``units`` everyone sees each unit equally often in either representation.
    factors
        How many of `FACTORS` the model has.
    """

    people: int
    each: int
    units: int
    factors: int = 2

    @property
    def formula(self) -> str:
        """What is fitted, and true."""
        return " + ".join([FIXED, *list(FACTORS)[: self.factors]])


@dataclass(frozen=True)
class Data:
    """Trials as every tool is given them.

    Parameters
    ----------
    trials
        A row a trial.
    formula
        The model, in lme4's notation.
    levels
        Levels of ``representation``, the reference first.
    simulated
        Whether the people are.
    """

    trials: pd.DataFrame
    formula: str
    levels: tuple[str, str]
    simulated: bool = True


def simulate(size: Size, seed: int) -> Data:
    """Draw trials from a known model: everyone sees the units in turn, in alternating representation.

    Two calls with one seed agree.
    """
    rng = np.random.default_rng([seed, size.people, size.each])
    person, trial = np.divmod(np.arange(size.people * size.each), size.each)
    unit = (trial + rng.integers(size.units, size=size.people)[person]) % size.units
    distributed = (trial + person + trial // size.units) % 2
    lists = pd.DataFrame(
        {
            "participant": _names("P", size.people)[person],
            "unit": _names("unit", size.units)[unit],
            "batch": _names("batch", BATCHES)[(7 * trial + person) % BATCHES],
            "lab": _names("lab", LABS)[person % LABS],
            "representation": pd.Categorical.from_codes(distributed.tolist(), pd.Index(["local", "distributed"])),
            "depth": np.round(unit % 10 / 9, 4),
            # What trial lists of an experiment have besides.
            "experiment": "simulated",
            "trial": trial + 1,
            "phase": "main",
            "catch": False,
            "target_side": "left",
        }
    )
    truth = _TRUE_B | {name: value for part in list(FACTORS.values())[: size.factors] for name, value in part.items()}
    answered = answer_trials(People(specify(size.formula), truth), lists, seed)
    columns = ["participant", "unit", "batch", "lab", "representation", "depth"]
    trials = lists[columns].assign(correct=answered["correct"].astype(int))
    return Data(trials, size.formula, ("local", "distributed"))


def read_real() -> Data | None:
    """Read the real trials, Borowski et al. 2021 (arXiv 2010.12606), Experiment I; None where they are not found.

    They carry no licence, so they are no part of this repository.
    """
    path = Path(os.environ.get("PSYCHOSTATS_REFERENCE", ""), "exp1.csv")
    if not path.is_file():
        return None
    trials = pd.read_csv(path).rename(columns={"instr_type": "representation", "subject": "participant"})
    columns = ["participant", "unit", "representation", "depth", "correct"]
    formula = " + ".join([FIXED, *list(FACTORS)[:2]])
    return Data(trials[columns], formula, ("natural", "optimized"), simulated=False)


def _names(stem: str, count: int) -> np.ndarray:
    """Return names that sort as they count."""
    width = len(str(count))
    return np.array([f"{stem}{i + 1:0{width}d}" for i in range(count)], dtype=object)
