"""Limits of convergence exactly as the contracts state them, on tables made by hand."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from psychostats.convergence import Check, check_convergence, converged, explain

GOOD: dict[str, Any] = {"class": "b", "rhat": 1.0, "ess_bulk": 2000.0, "ess_tail": 2000.0}


def judge(*rows: dict[str, Any], divergences: int = 0, treedepth_hits: int = 0, draws: int = 4000) -> tuple[Check, ...]:
    """Check a table of terms; each row changes `GOOD`."""
    table = pd.DataFrame([GOOD | {"term": f"t{i}"} | row for i, row in enumerate(rows)])
    return check_convergence(table, divergences, treedepth_hits, draws)


def failed(checks: tuple[Check, ...]) -> list[tuple[str, str | None]]:
    return [(check.name, check.term) for check in checks if check.verdict == "fail"]


@pytest.mark.parametrize("kind", ["b", "sd", "cor", "family"])
@pytest.mark.parametrize(
    ("name", "last_good", "first_bad"),
    [
        ("rhat", 1.01, math.nextafter(1.01, 2)),
        ("ess_bulk", 400.0, math.nextafter(400.0, 0)),
        ("ess_tail", 400.0, math.nextafter(400.0, 0)),
    ],
)
def test_limits_of_main_terms_belong_to_what_passes(kind: str, name: str, last_good: float, first_bad: float) -> None:
    assert converged(judge({"class": kind, name: last_good}))
    assert failed(judge({}, {"class": kind, name: first_bad})) == [(name, "t1")]


def test_single_levels_have_a_wider_limit_and_no_ess() -> None:
    assert converged(judge({}, {"class": "r", "rhat": 1.05, "ess_bulk": 10.0, "ess_tail": 10.0}))
    assert failed(judge({}, {"class": "r", "rhat": 1.02}, {"class": "r", "rhat": 1.0501})) == [("rhat", "t2")]


@pytest.mark.parametrize("name", ["rhat", "ess_bulk", "ess_tail"])
def test_a_figure_that_is_no_number_fails(name: str) -> None:
    assert failed(judge({name: math.nan})) == [(name, "t0")]


def test_a_level_without_r_hat_fails_though_others_are_worse_numbers() -> None:
    checks = judge({}, {"class": "r", "rhat": 1.04}, {"class": "r", "rhat": math.nan})
    assert failed(checks) == [("rhat", "t2")]


@pytest.mark.parametrize(
    ("divergences", "draws", "verdict"),
    [(0, 4000, "pass"), (1, 4000, "warning"), (4, 4000, "warning"), (5, 4000, "fail"), (1, 999, "fail")],
)
def test_divergences_up_to_one_in_a_thousand_are_a_warning(divergences: int, draws: int, verdict: str) -> None:
    (check,) = (c for c in judge({}, divergences=divergences, draws=draws) if c.name == "divergences")
    assert check.verdict == verdict
    assert check.term is None and check.value == divergences


def test_one_in_a_thousand_is_not_lost_to_rounding() -> None:
    for thousands in range(1, 300):
        assert converged(judge({}, divergences=thousands, draws=1000 * thousands))
        assert not converged(judge({}, divergences=thousands + 1, draws=1000 * thousands))


def test_tree_depth_is_a_warning_only() -> None:
    checks = judge({}, treedepth_hits=3)
    assert converged(checks)
    assert [check.name for check in checks if check.verdict == "warning"] == ["treedepth_hits"]


def test_there_is_a_check_for_every_figure_of_every_main_term() -> None:
    checks = judge({}, {"class": "sd"}, {"class": "r"}, {"class": "r"})
    names = [(check.name, check.term) for check in checks]
    assert names == [
        ("rhat", "t0"),
        ("rhat", "t1"),
        ("ess_bulk", "t0"),
        ("ess_bulk", "t1"),
        ("ess_tail", "t0"),
        ("ess_tail", "t1"),
        ("rhat", "t2"),
        ("divergences", None),
        ("treedepth_hits", None),
    ]
    assert checks[0].row() == {"name": "rhat", "term": "t0", "value": 1.0, "limit": 1.01, "verdict": "pass"}


def test_all_well_needs_no_words() -> None:
    assert explain(judge({}, {"class": "r"})) == []


def test_sentences_name_the_worst_of_each_kind_and_how_many_more() -> None:
    checks = judge(
        {"rhat": 1.02, "ess_bulk": 390.0},
        {"rhat": 1.2, "ess_bulk": 90.4},
        {"rhat": 1.03},
        {"class": "r", "rhat": 1.3},
        divergences=7,
        treedepth_hits=2,
    )
    assert explain(checks) == [
        "R-hat of t3 is 1.300 (at most 1.05) and 3 more: the chains disagree; draw longer (tune, draws).",
        "Bulk ESS of t1 is 90 (at least 400) and 1 more: draw longer (draws).",
        "7 divergent transitions (at most 4): the posterior has corners the sampler cannot enter; simplify the group "
        "effects or use tighter priors on sd.",
        "2 transitions hit the greatest tree depth: slow, not wrong; ESS says whether to draw longer.",
    ]


def test_a_missing_figure_is_the_worst() -> None:
    (sentence,) = explain(judge({"rhat": math.nan}, {"rhat": 3.0}))
    assert sentence == "R-hat of t0 and 1 more cannot be computed: it needs several chains whose draws vary."


def test_a_warning_alone_is_explained_too() -> None:
    checks = judge({}, divergences=2)
    assert converged(checks)
    assert len(explain(checks)) == 1


def test_numbers_just_past_a_limit_do_not_read_as_the_limit() -> None:
    (sentence,) = explain(judge({"rhat": 1.0101}))
    assert "is 1.010 (at most 1.01)" not in sentence
    (sentence,) = explain(judge({"ess_tail": 399.7}))
    assert "is 400 (at least 400)" not in sentence
