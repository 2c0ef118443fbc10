"""A model at its maximum likelihood, fitted by statsmodels, as effects are taken from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm

from psychostats.design import Coding, code
from psychostats.intervals import Interval
from psychostats.predictor import Parameters
from psychostats.spec import ModelSpec, specify
from psychostats.uncertainty import Delta, points


@dataclass(frozen=True)
class Maximum:
    """A generalised linear model, or any estimate with a covariance; `result` is statsmodels' own."""

    spec: ModelSpec
    data: pd.DataFrame
    coding: Coding
    estimate: np.ndarray
    cov: np.ndarray
    result: Any = None

    interval = Interval("wald")
    uncertainty = Delta()

    def parameters(self) -> Parameters:
        """Give the points around the maximum: b, then a log SD for every column of every (independent) block."""
        rows = points(self.estimate, self.cov, self.uncertainty.step)
        at = len(self.coding.names)
        covariance = []
        for block in self.coding.random(self.data):
            q = len(block.terms)
            covariance.append(np.exp(2 * rows[:, at : at + q, np.newaxis]) * np.eye(q))
            at += q
        return Parameters(rows[:, : len(self.coding.names)], tuple(covariance))


def maximum(formula: str, data: pd.DataFrame, link: str = "logit") -> Maximum:
    """Fit a model without group effects."""
    spec = specify(formula, link=link)
    rows = data[list(spec.formula.variables)]
    coding = code(spec.formula, rows)
    design = coding.design(rows)
    links = {"logit": sm.families.links.Logit(), "probit": sm.families.links.Probit()}
    result = sm.GLM(design.successes, design.X, sm.families.Binomial(links[link])).fit(tol=1e-12)
    return Maximum(spec, rows, coding, np.asarray(result.params), np.asarray(result.cov_params()), result)


def supposed(formula: str, data: pd.DataFrame, estimate: Any, cov: Any, **family: Any) -> Maximum:
    """Suppose an estimate: b, then a log SD for each column of each block."""
    spec = specify(formula, **family)
    rows = data[list(spec.formula.variables)]
    return Maximum(spec, rows, code(spec.formula, rows), np.asarray(estimate, float), np.asarray(cov, float))


def three_levels(n: int = 240) -> pd.DataFrame:
    """Give answers of three conditions in two bases over a range of depths, unbalanced, with every cell filled."""
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(
        {
            "condition": np.array(["easy", "hard", "medium"])[rng.choice(3, n, p=[0.5, 0.2, 0.3])],
            "basis": np.where(rng.random(n) < 0.65, "local", "distributed"),
            "depth": np.round(rng.uniform(0, 1, n), 2),
        }
    )
    eta = 0.8 - 1.1 * (frame["condition"] == "hard") + 0.6 * (frame["basis"] == "local") - 0.9 * frame["depth"]
    return frame.assign(correct=rng.binomial(1, 1 / (1 + np.exp(-eta))))
