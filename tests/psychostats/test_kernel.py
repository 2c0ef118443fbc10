"""The compiled likelihood against the families in NumPy, far out too, and its scores against differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from posterior import full_frame, prepare
from scipy import special, stats

from psychostats.family import Compiled
from psychostats.kernel import Table, Tables, tabulate
from psychostats.mixed import prepare as into_cells

Array = np.ndarray


def alone(compiled: Compiled, value: Array, weight: Array) -> Tables:
    """Return cells whose linear predictors are the entries themselves."""
    n = len(value)
    own = Table(np.arange(n, dtype=np.int32), np.ones((1, n)), np.zeros(n))
    return Tables(compiled, value, weight, own, (), float(weight.sum()), 0.0)


ETA = np.concatenate([np.linspace(-700, 700, 2801), np.linspace(-6, 6, 2001), [0.0, 1e-300, -1e-300]])
KINDS = {
    "logistic": Compiled("logistic"),
    "guess": Compiled("asymptotes", 0.5, 0.0),
    "guess and lapse": Compiled("asymptotes", 0.25, 0.03),
    "lapse": Compiled("asymptotes", 0.0, 0.02),
    "probit": Compiled("probit", 0.0, 0.0),
    "probit between": Compiled("probit", 0.5, 0.01),
}


def reference(compiled: Compiled, right: bool, eta: Array) -> tuple[Array, Array]:
    """Return log-probabilities of a right (or wrong) answer and their slopes, with all digits that doubles have."""
    floor = compiled.guess if right else compiled.lapse
    span, x = 1 - compiled.guess - compiled.lapse, eta if right else -eta
    if compiled.kind == "probit":
        log_share, log_slope = special.log_ndtr(x), stats.norm.logpdf(x)
    else:
        log_share, log_slope = special.log_expit(x), special.log_expit(x) + special.log_expit(-x)
    with np.errstate(divide="ignore"):
        value = np.logaddexp(np.log(floor), np.log(span) + log_share)
    if compiled.kind == "probit" and floor == 0:  # Mills' ratio: far out the difference of the logarithms has no digits
        return value, (1 if right else -1) * np.sqrt(2 / np.pi) / special.erfcx(-x / np.sqrt(2))
    return value, (1 if right else -1) * np.exp(np.log(span) + log_slope - value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("right", [True, False])
def test_a_cell_has_its_log_probability_and_score_with_all_digits(kind: str, right: bool) -> None:
    compiled = KINDS[kind]
    eta = ETA if compiled.kind != "probit" else ETA[np.abs(ETA) < 1e4]
    expected, slope = reference(compiled, right, eta)
    values, scores = np.empty(len(eta)), np.empty(len(eta))
    for i, x in enumerate(eta):
        tables = alone(compiled, np.array([float(right)]), np.ones(1))
        values[i], scores[i : i + 1], _ = tables.log_likelihood(np.array([x]))
    np.testing.assert_allclose(values, expected, rtol=2e-14, atol=3e-14)
    np.testing.assert_allclose(scores, slope, rtol=1e-11, atol=3e-14)


@pytest.mark.parametrize("n", [1, 255, 256, 257, 1000])
def test_cells_are_summed_whatever_their_number(n: int) -> None:
    """Blocks of cells, whole and broken, and counts."""
    rng = np.random.default_rng(n)
    trials = rng.integers(1, 30, n).astype(float)
    right = rng.binomial(trials.astype(int), 0.6).astype(float)
    eta = rng.normal(size=n)
    value, scores, _ = alone(Compiled("logistic"), right, trials).log_likelihood(eta)
    p = special.expit(eta)
    assert value == pytest.approx(np.sum(right * np.log(p) + (trials - right) * np.log1p(-p)), rel=1e-13)
    np.testing.assert_allclose(scores, right - trials * p, atol=1e-12)


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "crossed with slopes": ("correct ~ x * f + offset(o) + (1 + f | g) + (1 | h)", {"family": "afc", "lapse": 0.02}),
    "counts": ("cbind(right, wrong) ~ f + (1 | g)", {"family": "binomial"}),
    "measurements": ("w ~ f + (1 + x | g)", {"family": "gaussian"}),
    "no group": ("correct ~ f", {"family": "bernoulli"}),
}


@pytest.mark.parametrize("name", MODELS)
def test_tables_make_up_the_linear_predictor(name: str) -> None:
    """Entries made from b and r give each row's density; scores collected by slot are the derivatives by both."""
    formula, arguments = MODELS[name]
    frame = pd.concat([full_frame(3), full_frame(3).assign(correct=1, right=2, wrong=1, w=0.1)])  # like rows meet
    design, family, _ = prepare(frame, formula, **arguments)
    compiled = family.compiled
    mixed = into_cells(design)
    if compiled.kind == "normal":
        mixed = into_cells(
            type(design)(design.names, design.X, design.offset, design.blocks, design.successes, design.trials)
        )
    tables = tabulate(mixed, compiled, design.successes)
    rng = np.random.default_rng(1)
    b = rng.normal(size=design.X.shape[1])
    r = [rng.normal(size=(len(block.levels), len(block.terms))) for block in design.blocks]
    own = {"sigma": np.float64(0.7)} if compiled.kind == "normal" else {}
    filled = family.at({name: np.array([value]) for name, value in own.items()})

    def total(b: Array, r: list[Array]) -> float:
        eta = design.X @ b + design.offset
        for block, effects in zip(design.blocks, r, strict=True):
            eta = eta + np.sum(effects[block.index] * block.Z, axis=1)
        return float(np.sum(filled.log_density(design.successes, design.trials, eta)))

    entries = [tables.fixed.columns.T @ b + tables.fixed.extra]
    for g, table in enumerate(tables.groups):
        effects = np.concatenate([r[i] for i, (at, _) in enumerate(mixed.parts) if at == g], axis=1)
        entries.append(np.sum(effects[table.extra] * table.columns.T, axis=1))
    sigma = 0.7 if own else 1.0
    value, scores, by_log_sigma = tables.log_likelihood(np.concatenate(entries), sigma)
    constant = -0.5 * len(design.X) * np.log(2 * np.pi) if own else 0.0
    assert value + constant == pytest.approx(total(b, r), rel=1e-12)
    by_b = tables.fixed.columns @ scores[: tables.fixed.slots]
    h = 1e-6
    for k, step in enumerate(h * np.eye(len(b))):
        assert by_b[k] == pytest.approx((total(b + step, r) - total(b - step, r)) / (2 * h), rel=1e-5, abs=1e-5)
    if own:
        ends = [tables.log_likelihood(np.concatenate(entries), sigma * np.exp(e))[0] for e in (h, -h)]
        assert by_log_sigma == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)
    assert len(tables.value) < len(design.X) or name in ("crossed with slopes", "measurements")


def test_a_table_has_a_slot_for_each_distinct_row() -> None:
    frame = full_frame(3)
    design, family, _ = prepare(frame, "correct ~ f + (1 + f | g)")
    tables = tabulate(into_cells(design), family.compiled, design.successes)
    assert tables.fixed.slots == 3
    pairs = frame.groupby(["g", "f"]).ngroups
    assert (tables.groups[0].slots, len(tables.value)) == (pairs, pairs)
