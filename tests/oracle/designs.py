"""Simulated data on which the two engines must agree: one table of models, their truth and their seeds.

In: nothing.  Out: `DESIGNS`, and the trials of each, the same at every call.  Knows no sampler, nor the package's own
predictor: trials are simulated from the columns of `Design` alone, so that a fault of the package's is not shared.

Everything here is SIMULATED: nothing was measured on anyone. Another design is another entry of `DESIGNS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from psychostats.design import Block, Design, code
from psychostats.formula import Formula
from psychostats.spec import specify

Array = np.ndarray


def crossed(rng: np.random.Generator, people: int, items: int, each: int = 1) -> pd.DataFrame:
    """Show every item to everyone so many times, its representation in turn; depth is the item's."""
    person, item, time = (axis.ravel() for axis in np.indices((people, items, each)))
    n = len(person)
    return pd.DataFrame(
        {
            "participant": [f"p{i + 1:02d}" for i in person],
            "item": [f"i{i + 1:02d}" for i in item],
            "image": [f"m{i + 1:02d}" for i in rng.integers(0, 12, n)],
            # Batches of four people, whose seats have the same names in every batch.
            "batch": [f"k{i // 4 + 1:02d}" for i in person],
            "seat": ["abcd"[i % 4] for i in person],
            "representation": pd.Categorical.from_codes((person + item + time) % 2, ["local", "distributed"]),
            "condition": np.array(["mixed", "natural", "optimized"])[(person + item + time) % 3],
            "depth": np.round(item / max(items - 1, 1), 3),
            "x": np.round(rng.uniform(-1.0, 1.0, n), 3),
            "known": np.round(rng.normal(0.0, 0.4, n), 3),
            "total": rng.integers(3, 16, n),
        }
    )


def unbalanced(rng: np.random.Generator, people: int, items: int, each: int) -> pd.DataFrame:
    """Lose trials of a crossed design, more of later people (down to a few each) and of later items."""
    whole = crossed(rng, people, items, each)
    person, item = pd.factorize(whole["participant"])[0], pd.factorize(whole["item"])[0]
    kept = rng.uniform(size=len(whole)) < 0.95 * 0.8**person * 0.95**item + 0.02
    return whole[kept].reset_index(drop=True)


@dataclass(frozen=True)
class Simulated:
    """A model, what is true of it, and the trials it is fitted to.

    Parameters
    ----------
    formula
        Its columns are those of `crossed`, and the response.
    truth
        True values under the names of `psychostats summary`; 0 where not given.
    trials
        Makes the trials, without the response.
    seed
        Of the simulation.
    family
        Words of `psychostats.spec.specify`.
    priors
        Overrides.
    target_accept
        Of the oracle's sampler.
    """

    formula: str
    truth: Mapping[str, float]
    trials: Callable[[np.random.Generator], pd.DataFrame]
    seed: int
    family: Mapping[str, Any] = field(default_factory=dict)
    priors: tuple[str, ...] = ()
    target_accept: float = 0.9

    def data(self) -> pd.DataFrame:
        """Return the columns of the trials that the formula names, the response from the truth."""
        rng = np.random.default_rng(self.seed)
        trials = self.trials(rng)
        spec = specify(self.formula, priors=self.priors, **self.family)
        response = spec.formula.response
        blank = trials.assign(**{name: 1 for name in response.columns if name not in trials})
        design = code(spec.formula, blank).design(blank)
        b = np.array([self.truth.get(f"b_{name}", 0.0) for name in design.names])
        eta = design.X @ b + design.offset
        for block in design.blocks:
            eta = eta + (block.Z * self._levels(rng, block)[block.index]).sum(axis=1)
        return _answered(trials, spec.formula, self._respond(rng, design, eta, spec.family))

    def _levels(self, rng: np.random.Generator, block: Block) -> Array:
        """Draw the effects of a block's levels, shape ``(levels, terms)``.

        By Cholesky, not by eigenvectors, whose signs are another with every version of LAPACK.
        """
        sd = np.array([self.truth.get(f"sd_{block.group}__{term}", 0.0) for term in block.terms])
        R = np.eye(len(sd))
        for j, later in enumerate(block.terms):
            for k, earlier in enumerate(block.terms[:j]):
                R[j, k] = R[k, j] = self.truth.get(f"cor_{block.group}__{earlier}__{later}", 0.0)
        return rng.standard_normal((len(block.levels), len(sd))) @ np.linalg.cholesky(R).T * sd

    def _respond(self, rng: np.random.Generator, design: Design, eta: Array, family: Any) -> Array:
        """Draw the response, a value a row."""
        if family.name == "gaussian":
            return np.round(eta + self.truth["sigma"] * rng.standard_normal(len(eta)), 3)
        if family.name == "lognormal":
            return np.round(np.exp(eta + self.truth["sigma"] * rng.standard_normal(len(eta))), 4)
        F = special.ndtr(eta) if family.link == "probit" else special.expit(eta)
        p = family.guess + (1.0 - family.guess - family.lapse) * F
        n = design.trials.astype(int) if family.name == "binomial" else np.ones(len(eta), dtype=int)
        return np.array([int((rng.uniform(size=k) < q).sum()) for k, q in zip(n, p, strict=True)])


def _answered(trials: pd.DataFrame, formula: Formula, answers: Array) -> pd.DataFrame:
    """Put the response among the trials, and return the columns that the formula names."""
    return trials.assign(**{formula.response.successes: answers})[list(formula.variables)]


SLOPES = "correct ~ representation * depth + (1 + representation | participant) + (1 | item)"
BASIS = "representationdistributed"
USUAL = {
    "b_Intercept": 0.6,
    f"b_{BASIS}": 0.5,
    "b_depth": 0.4,
    f"b_{BASIS}:depth": -0.8,
    "sd_participant__Intercept": 0.7,
    f"sd_participant__{BASIS}": 0.5,
    f"cor_participant__Intercept__{BASIS}": -0.4,
    "sd_item__Intercept": 0.5,
}
LINE = {"b_Intercept": 0.3, "b_x": 0.7, "sd_participant__Intercept": 0.8, "sd_participant__x": 0.6}

DESIGNS = {
    "crossed": Simulated(SLOPES, USUAL, lambda rng: crossed(rng, 16, 12, 4), 101),
    # Where the prototype of the fast sampler had divergent transitions.
    "large": Simulated(
        SLOPES,
        USUAL | {"sd_participant__Intercept": 1.2, f"sd_participant__{BASIS}": 1.1, "sd_item__Intercept": 1.0},
        lambda rng: crossed(rng, 23, 20, 8),
        102,
    ),
    "zero": Simulated(
        SLOPES,
        {name: value for name, value in USUAL.items() if not name.startswith(("sd_", "cor_"))},
        lambda rng: crossed(rng, 12, 10, 4),
        103,
        target_accept=0.95,
    ),
    "eight": Simulated(SLOPES, USUAL, lambda rng: crossed(rng, 8, 10, 4), 104, target_accept=0.95),
    "unbalanced": Simulated(SLOPES, USUAL, lambda rng: unbalanced(rng, 20, 12, 6), 105, target_accept=0.95),
    "afc": Simulated(
        "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | item)",
        USUAL | {"b_Intercept": 1.2, f"sd_item__{BASIS}": 0.5},
        lambda rng: crossed(rng, 14, 12, 5),
        106,
        {"family": "afc", "guess": 0.5, "lapse": 0.02},
        target_accept=0.95,
    ),
    "gaussian": Simulated(
        "score ~ x + representation + (1 + x | participant) + (1 | item)",
        {
            "b_Intercept": 20.0,
            "b_x": 3.0,
            f"b_{BASIS}": -1.0,
            "sd_participant__Intercept": 4.0,
            "sd_participant__x": 2.0,
            "cor_participant__Intercept__x": 0.5,
            "sd_item__Intercept": 2.0,
            "sigma": 5.0,
        },
        lambda rng: crossed(rng, 18, 10, 2),
        107,
        {"family": "gaussian"},
    ),
    "lognormal": Simulated(
        "rt ~ representation * depth + (1 | participant) + (1 | item)",
        {
            "b_Intercept": -0.3,
            f"b_{BASIS}": 0.15,
            "b_depth": -0.2,
            "sd_participant__Intercept": 0.3,
            "sd_item__Intercept": 0.15,
            "sigma": 0.5,
        },
        lambda rng: crossed(rng, 15, 12, 2),
        108,
        {"family": "lognormal"},
        ("sigma ~ student_t(4, 0, 0.5)", "b_Intercept ~ student_t(5, 0, 1)"),
    ),
    "counts": Simulated(
        "right | trials(total) ~ x + (1 + x | participant) + offset(known)",
        LINE | {"cor_participant__Intercept__x": 0.3},
        lambda rng: crossed(rng, 20, 6),
        109,
        {"family": "binomial"},
    ),
    "probit": Simulated(
        "correct ~ x + (1 + x | participant) + (1 | item)",
        {name: 0.6 * value for name, value in LINE.items()} | {"sd_item__Intercept": 0.3},
        lambda rng: crossed(rng, 16, 10, 3),
        110,
        {"link": "probit"},
    ),
    "three": Simulated(
        "correct ~ representation + (1 | participant) + (1 | item) + (1 | image)",
        USUAL | {"sd_image__Intercept": 0.6},
        lambda rng: crossed(rng, 15, 10, 5),
        111,
    ),
    "triple": Simulated(
        "correct ~ condition + (1 + condition | participant)",
        {
            "b_Intercept": 0.4,
            "b_conditionnatural": 0.6,
            "b_conditionoptimized": -0.2,
            "sd_participant__Intercept": 0.8,
            "sd_participant__conditionnatural": 0.7,
            "sd_participant__conditionoptimized": 0.5,
            "cor_participant__Intercept__conditionnatural": -0.4,
            "cor_participant__Intercept__conditionoptimized": -0.2,
            "cor_participant__conditionnatural__conditionoptimized": 0.3,
        },
        lambda rng: crossed(rng, 20, 12, 3),
        112,
    ),
    "independent": Simulated("correct ~ x + (x || participant)", LINE, lambda rng: crossed(rng, 18, 10, 3), 113),
    "blocks": Simulated(
        "correct ~ x + (1 | participant) + (0 + x | participant)", LINE, lambda rng: crossed(rng, 14, 10, 3), 114
    ),
    "nested": Simulated(
        "correct ~ x + (1 | batch/seat)",
        {"b_Intercept": 0.5, "b_x": 0.6, "sd_batch__Intercept": 0.7, "sd_batch:seat__Intercept": 0.6},
        lambda rng: crossed(rng, 36, 12),
        115,
        target_accept=0.95,
    ),
    "plain": Simulated(
        "correct ~ representation * x",
        {"b_Intercept": 0.4, f"b_{BASIS}": 0.5, "b_x": 0.8},
        lambda rng: crossed(rng, 10, 12),
        116,
    ),
    "priors": Simulated(
        "correct ~ x + representation + (1 + x | participant) + (1 | item)",
        LINE | {f"b_{BASIS}": 0.8, "cor_participant__Intercept__x": 0.5, "sd_item__Intercept": 0.5},
        lambda rng: crossed(rng, 12, 10, 3),
        117,
        priors=(
            "b ~ student_t(3, 0.2, 0.3)",
            "b_x ~ cauchy(0, 0.25)",
            "b_Intercept ~ normal(0.5, 0.3)",
            "sd_participant__Intercept ~ gamma(2, 4)",
            "sd_participant__x ~ normal(0.3, 0.3)",
            "sd_item ~ student_t(3, 0, 0.5)",
            "cor ~ lkj(1)",
        ),
    ),
    "priors_tight": Simulated(
        "correct ~ x + representation + (1 + x | participant) + (1 | item)",
        LINE | {f"b_{BASIS}": 0.8, "cor_participant__Intercept__x": 0.5, "sd_item__Intercept": 0.5},
        lambda rng: crossed(rng, 12, 10, 3),
        118,
        priors=(
            "b_Intercept ~ cauchy(0, 0.5)",
            f"b_{BASIS} ~ student_t(2, 0, 0.4)",
            "sd ~ exponential(4)",
            "sd_item ~ cauchy(0, 0.3)",
            "sd_participant__x ~ gamma(3, 6)",
            "cor ~ lkj(4)",
        ),
    ),
    # A guess rate and a probit link at once, where the information is farthest from the logistic's.
    "afc_probit": Simulated(
        "correct ~ representation + (1 + representation | participant) + (1 | item)",
        {name: 0.6 * value for name, value in USUAL.items()} | {"b_Intercept": 0.8},
        lambda rng: crossed(rng, 12, 10, 6),
        119,
        {"family": "afc", "guess": 0.25, "link": "probit"},
        target_accept=0.95,
    ),
}
