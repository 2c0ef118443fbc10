"""A truth without differences is one: on every scale, for any coding and number of levels, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from studies import SMALL

from psychostats.design import code
from psychostats.errors import InputError
from psychostats.exchangeable import exchange
from psychostats.predictor import random_variance
from psychostats.replications import Asked, learn, true_values
from psychostats.simulate import Plan, true_parameters
from psychostats.spec import specify
from psychostats.study import read_study

ASKED = Asked("representation", 0.95, "depth", 0.4, (0.0, 1.0))
FORMULAS = {
    "treatment": "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | pair)",
    "sum to zero": "correct ~ C(representation, sum) * depth + (1 + C(representation, sum) || pair)",
    "differences": "correct ~ C(representation, sdif) * depth + (1 + C(representation, sdif) | pair)",
    "means": "correct ~ 0 + representation + representation:depth + (0 + representation | pair)",
    "curved": "correct ~ representation * (depth + I(depth^2)) + (1 + representation + depth | pair)",
}


def plan_of(formula: str, levels: tuple[str, ...] = ("local", "distributed", "other")) -> Plan:
    """Return a plan with arbitrary true values of every term."""
    base = replace(read_study(SMALL).plan(), participants={"first": 24}, representations=levels)
    _, main = learn(
        replace(base, spec=specify("correct ~ depth"), truth={"first": {"b_Intercept": 0.0, "b_depth": 0.0}})
    )
    plan = replace(base, spec=specify(formula, family="afc"))
    coding = code(plan.spec.formula, main)
    rng = np.random.default_rng(len(formula) + len(levels))
    truth = {f"b_{name}": float(rng.normal()) for name in coding.names}
    for block in coding.random(main):
        truth |= {f"sd_{block.group}__{term}": float(rng.uniform(0.2, 1.0)) for term in block.terms}
        if block.structure == "correlated":
            later, earlier = block.terms[1], block.terms[0]
            truth[f"cor_{block.group}__{earlier}__{later}"] = 0.4
    return replace(plan, truth={"first": truth})


@pytest.mark.parametrize("levels", [("local", "distributed"), ("local", "distributed", "other")], ids=len)
@pytest.mark.parametrize("name", FORMULAS)
def test_every_contrast_is_zero(name: str, levels: tuple[str, ...]) -> None:
    plan = plan_of(FORMULAS[name], levels)
    before = true_values(plan, ASKED)
    coding, main = learn(plan)
    try:
        truth = exchange(plan.truth["first"], coding, main, "representation")
    except InputError:
        assert "||" in FORMULAS[name] and len(levels) > 2
        return
    after = true_values(replace(plan, truth={"first": truth}), ASKED)
    assert max(map(abs, before.values())) > 0.01
    assert max(map(abs, after.values())) < 1e-12


def test_levels_still_vary_and_the_average_stays() -> None:
    plan = plan_of(FORMULAS["treatment"])
    coding, main = learn(plan)
    rows = main.drop_duplicates(["representation", "depth"])
    old = plan.truth["first"]
    new = exchange(old, coding, main, "representation")
    blocks = coding.random(rows)
    eta, variance = {}, {}
    for key, truth in (("old", old), ("new", new)):
        known = true_parameters(coding, blocks, truth)
        eta[key] = coding.fixed(rows) @ known.b[0]
        variance[key] = random_variance(blocks, known.covariance)[0]
    for depth, places in rows.reset_index(drop=True).groupby("depth").indices.items():
        for held in (
            eta,
            variance,
        ):  # of the linear predictor and of the random part: at any depth the mean over levels
            np.testing.assert_allclose(held["new"][places], held["old"][places].mean(), atol=1e-12, err_msg=str(depth))
    assert new["sd_pair__representationdistributed"] > 0.1


def test_it_changes_nothing_where_levels_are_alike() -> None:
    plan = plan_of(FORMULAS["treatment"])
    coding, main = learn(plan)
    once = exchange(plan.truth["first"], coding, main, "representation")
    assert exchange(once, coding, main, "representation") == pytest.approx(once, abs=1e-12)


def test_a_model_without_the_factor_is_left_as_it_is() -> None:
    plan = plan_of("correct ~ depth + (1 | pair)")
    coding, main = learn(plan)
    assert exchange(plan.truth["first"], coding, main, "representation") == pytest.approx(plan.truth["first"])


def test_what_has_no_such_truth_is_refused_by_name() -> None:
    plan = plan_of("correct ~ representation + (1 + representation || pair)")
    coding, main = learn(plan)
    with pytest.raises(InputError, match=r"effects of pair are uncorrelated; write \(\.\.\. \| pair\)"):
        exchange(plan.truth["first"], coding, main, "representation")
