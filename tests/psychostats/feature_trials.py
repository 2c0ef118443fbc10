"""Trials of features whose interpretability is known, for what is asked of single features."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

FORMULA = "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | pair)"


def features_of(pairs: int, rng: np.random.Generator, *, sd: tuple[float, float] = (0.9, 0.7)) -> pd.DataFrame:
    """Give a feature a row: its depth and the effect it adds to the linear predictor."""
    at = np.arange(pairs)
    effects = rng.standard_normal((pairs, 2)) * sd
    rows = []
    for i in at:
        for k, basis in enumerate(["local", "distributed"]):
            rows.append(
                {
                    "pair": f"pair{i:02d}",
                    "representation": basis,
                    "feature": f"{basis[0]}{i:02d}",
                    "layer": f"block{i * 4 // pairs}",
                    "depth": (i * 4 // pairs) / 3,
                    "effect": effects[i, 0] + k * effects[i, 1],
                }
            )
    return pd.DataFrame(rows)


def answer(
    features: pd.DataFrame,
    rng: np.random.Generator,
    *,
    people: int = 80,
    base: float = 0.6,
    gain: float = 0.4,
    person: float = 0.5,
    stimuli: int = 3,
    extra: str | None = None,
) -> pd.DataFrame:
    """Let each person answer each pair once, in one basis; `extra` names a column that adds to the linear predictor."""
    pairs = list(dict.fromkeys(features["pair"]))
    frames = []
    keyed = features.set_index(["pair", "representation"])
    for p in range(people):
        u = person * rng.standard_normal()
        basis = np.where((np.arange(len(pairs)) + p) % 2 == 0, "local", "distributed")
        rows = keyed.loc[list(zip(pairs, basis, strict=True))].reset_index()
        rows["participant"] = f"p{p:03d}"
        rows["stimulus"] = rows["feature"] + "/" + str(p % stimuli)
        rows["eta"] = base + gain * (rows["representation"] == "distributed") + rows["effect"] + u
        frames.append(rows)
    trials = pd.concat(frames, ignore_index=True)
    if extra is not None:
        trials["eta"] += trials[extra]
    trials["correct"] = rng.binomial(1, 0.5 + 0.5 * special.expit(trials["eta"]))
    trials["representation"] = pd.Categorical(trials["representation"], ["local", "distributed"])
    return trials.drop(columns=["eta"])


def true_accuracy(features: pd.DataFrame, *, base: float = 0.6, gain: float = 0.4, person: float = 0.5) -> np.ndarray:
    """Give each feature's probability of a right answer, participants averaged over."""
    eta = base + gain * (features["representation"] == "distributed") + features["effect"]
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    return 0.5 + 0.5 * special.expit(eta.to_numpy()[:, None] + person * nodes) @ weights
