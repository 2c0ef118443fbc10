"""All trials in this folder are simulated, by this script from fixed seeds: no person answered them.

In: nothing.  Out: one small CSV a class of model, in the folder it is run in.  Knows nothing of psychostats, so that a
fault there cannot hide in its own test data.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

HERE = Path(__file__).parent
BASES = np.array(["local", "distributed"])


def correlated(rng: np.random.Generator, levels: int, sd: list[float], cor: float) -> np.ndarray:
    """Draw effects of shape (levels, terms), every pair of terms correlated by `cor`."""
    R = np.full((len(sd), len(sd)), cor) + (1 - cor) * np.eye(len(sd))
    return rng.normal(size=(levels, len(sd))) @ np.linalg.cholesky(R).T * sd


def ids(prefix: str, index: np.ndarray) -> list[str]:
    """Name levels p01, p02, ..."""
    return [f"{prefix}{i + 1:02d}" for i in index]


def afc() -> pd.DataFrame:
    """Two-alternative forced choice, crossed correlated slopes: 16 participants, 20 pairs, 480 trials."""
    rng = np.random.default_rng(101)
    person, trial = (a.ravel() for a in np.meshgrid(np.arange(16), np.arange(30), indexing="ij"))
    pair = rng.integers(20, size=person.size)
    basis = rng.integers(2, size=person.size)
    depth = (rng.permutation(20) / 19)[pair].round(3)
    u, v = correlated(rng, 16, [0.8, 0.6], 0.3), correlated(rng, 20, [0.7, 0.6], -0.4)
    eta = 0.8 + 0.7 * basis + 0.2 * depth + 0.6 * basis * depth
    eta += u[person, 0] + u[person, 1] * basis + v[pair, 0] + v[pair, 1] * basis
    correct = rng.binomial(1, 0.5 + 0.5 * special.expit(eta))
    return pd.DataFrame(
        {
            "participant": ids("p", person),
            "trial": trial + 1,
            "representation": BASES[basis],
            "depth": depth,
            "pair": ids("f", pair),
            "correct": correct,
        }
    )


def crossed() -> pd.DataFrame:
    """Yes or no, crossed intercepts: 12 participants, 36 items, 432 trials."""
    rng = np.random.default_rng(102)
    person, item = (a.ravel() for a in np.meshgrid(np.arange(12), np.arange(36), indexing="ij"))
    basis = (person + item) % 2
    depth = (rng.permutation(36) / 35)[item].round(3)
    eta = 0.3 + 0.6 * basis - 0.4 * depth + 0.5 * basis * depth
    eta += rng.normal(0, 0.7, 12)[person] + rng.normal(0, 0.5, 36)[item]
    return pd.DataFrame(
        {
            "participant": ids("p", person),
            "item": ids("i", item),
            "representation": BASES[basis],
            "depth": depth,
            "correct": rng.binomial(1, special.expit(eta)),
        }
    )


def nested() -> pd.DataFrame:
    """Casks within batches, cask names used again in every batch: 10 batches of 4 casks, 400 trials."""
    rng = np.random.default_rng(103)
    batch, cask, _ = (a.ravel() for a in np.meshgrid(np.arange(10), np.arange(4), np.arange(10), indexing="ij"))
    basis = rng.integers(2, size=batch.size)
    depth = rng.uniform(size=batch.size).round(3)
    eta = 0.5 * basis + 0.5 * depth + rng.normal(0, 0.6, 10)[batch] + rng.normal(0, 0.8, (10, 4))[batch, cask]
    return pd.DataFrame(
        {
            "batch": np.array(list("ABCDEFGHIJ"))[batch],
            "cask": np.array(list("abcd"))[cask],
            "representation": BASES[basis],
            "depth": depth,
            "correct": rng.binomial(1, special.expit(eta)),
        }
    )


def uncorrelated() -> pd.DataFrame:
    """Three conditions, independent slopes: 20 participants, 480 trials."""
    rng = np.random.default_rng(104)
    person, trial = (a.ravel() for a in np.meshgrid(np.arange(20), np.arange(24), indexing="ij"))
    condition = trial % 3
    effects = np.column_stack([rng.normal(0, s, 20) for s in (0.6, 0.5, 0.9)])
    fixed = np.array([0.2, 0.9, -0.5])
    slope = np.where(condition > 0, effects[person, condition], 0.0)
    eta = fixed[0] + np.where(condition > 0, fixed[condition], 0.0) + effects[person, 0] + slope
    return pd.DataFrame(
        {
            "participant": ids("p", person),
            "condition": np.array(["easy", "medium", "hard"])[condition],
            "correct": rng.binomial(1, special.expit(eta)),
        }
    )


def counts() -> pd.DataFrame:
    """Counts of right and wrong answers at six contrasts, probit: 10 observers, 60 rows."""
    rng = np.random.default_rng(105)
    person, level = (a.ravel() for a in np.meshgrid(np.arange(10), np.arange(6), indexing="ij"))
    contrast = np.linspace(-1, 1, 6)[level]
    total = rng.integers(8, 16, size=person.size)
    right = rng.binomial(total, special.ndtr(0.3 + 1.1 * contrast + rng.normal(0, 0.5, 10)[person]))
    return pd.DataFrame(
        {"observer": ids("o", person), "contrast": contrast.round(1), "right": right, "wrong": total - right}
    )


def three_terms() -> pd.DataFrame:
    """Two numeric predictors, a block of three correlated effects: 24 participants, 480 trials."""
    rng = np.random.default_rng(106)
    person = np.repeat(np.arange(24), 20)
    speed, load = rng.uniform(-1, 1, (2, person.size)).round(3)
    u = correlated(rng, 24, [0.7, 0.9, 0.6], 0.4)[person]
    eta = 0.4 + 0.5 * speed - 0.8 * load + u[:, 0] + u[:, 1] * speed + u[:, 2] * load
    return pd.DataFrame(
        {
            "participant": ids("p", person),
            "speed": speed,
            "load": load,
            "correct": rng.binomial(1, special.expit(eta)),
        }
    )


if __name__ == "__main__":
    for make in (afc, crossed, nested, uncorrelated, counts, three_terms):
        make().to_csv(HERE / f"{make.__name__}.csv", index=False)
