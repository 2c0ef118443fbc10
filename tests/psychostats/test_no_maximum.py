"""Where the likelihood has no maximum, or cannot tell its parameters apart: one clear sentence, never a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import psychostats as ps
from psychostats.design import code
from psychostats.errors import InputError, NoMaximumError
from psychostats.families import resolve_family
from psychostats.formula import parse_formula
from psychostats.maximum import Method, maximise_mixed
from psychostats.mixed import prepare
from psychostats.threads import one_thread


def _frame(people: int = 12, trials: int = 20) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"p": np.repeat([f"p{i:02d}" for i in range(people)], trials)})
    frame["x"], frame["c"] = rng.normal(size=len(frame)), np.tile(["a", "b"], len(frame) // 2)
    level = np.repeat(rng.normal(0.0, 0.8, people), trials)
    frame["z"] = level + 0.5 * frame["x"] + rng.normal(size=len(frame))
    frame["y"] = (frame["z"] + rng.normal(size=len(frame)) > -0.3).astype(int)
    return frame


def _fit(formula: str, frame: pd.DataFrame, **how: Any) -> ps.Fit:
    return ps.fit(formula, frame, engine="laplace", progress=False, **how)


def _answers(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    right = {
        "all right": np.ones(len(frame)),
        "all wrong": np.zeros(len(frame)),
        "separated by x": frame["x"] > 0.2,
        "all of a right": (frame["y"] == 1) | (frame["c"] == "a"),
        "below the guess rate": rng.random(len(frame)) < 0.3,
    }[kind]
    return frame.assign(y=np.asarray(right).astype(int))


@pytest.mark.parametrize("how", [{}, {"family": "afc"}, {"link": "probit"}, {"lapse": 0.02}], ids=str)
@pytest.mark.parametrize("effects", ["", " + (1 | p)"])
@pytest.mark.parametrize(
    ("kind", "formula", "words"),
    [
        ("all right", "y ~ x", "all answers are right"),
        ("all wrong", "y ~ x", "all answers are wrong"),
        ("separated by x", "y ~ x", "b_x separate"),
        ("all of a right", "y ~ c", "b_cb separate"),
        ("all of a right", "y ~ c * x", "b_cb, b_x, b_cb:x separate"),
    ],
)
def test_separated_answers_have_no_maximum(
    kind: str, formula: str, words: str, effects: str, how: dict[str, Any]
) -> None:
    with pytest.raises(NoMaximumError, match=words) as caught:
        _fit(formula + effects, _answers(_frame(), kind), **how)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("formula", ["y ~ 1", "y ~ x", "y ~ c + (1 | p)", "y ~ x + (1 + x | p)"])
def test_forced_choices_below_the_guess_rate_have_no_maximum(formula: str) -> None:
    """There the likelihood is level, and a level place is no maximum with standard errors of 0."""
    with pytest.raises(NoMaximumError, match="b_Intercept") as caught:
        _fit(formula, _answers(_frame(), "below the guess rate"), family="afc")
    assert caught.value.exit_code == 3


def test_a_level_with_all_answers_right_is_no_separation() -> None:
    frame = _frame()
    frame.loc[frame["p"] < "p04", "y"] = 1
    fit = _fit("y ~ x + (1 | p)", frame)
    assert 0.5 < fit.terms().set_index("term").loc["sd_p__Intercept", "estimate"] < 5
    assert np.isfinite(fit.terms()["sd"]).all()


def test_a_response_that_does_not_vary_is_refused() -> None:
    with pytest.raises(InputError, match="does not vary"):
        _fit("z ~ x + (1 | p)", _frame().assign(z=1.5), family="gaussian")


@pytest.mark.parametrize("formula", ["z ~ x", "z ~ x + (1 | p)"])
def test_a_response_without_residual_has_no_maximum(formula: str) -> None:
    with pytest.raises(NoMaximumError, match="residual SD"):
        _fit(formula, _frame().assign(z=lambda d: 2 * d["x"] + 1), family="gaussian")


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("effects", ["(1 | row)", "(1 + x | row)", "(1 + x || row)"])
def test_a_level_a_row_is_no_group_beside_a_residual(effects: str, reml: bool) -> None:
    frame = _frame(6).assign(row=lambda d: [f"r{i}" for i in range(len(d))])
    with pytest.raises(InputError, match=r"one observation only|more random effects than"):
        _fit(f"z ~ x + {effects}", frame, family="gaussian", reml=reml)


@pytest.mark.parametrize(("response", "family"), [("y", "bernoulli"), ("z", "gaussian")])
def test_two_groups_that_are_one_are_refused(response: str, family: str) -> None:
    frame = _frame().assign(q=lambda d: d["p"].str.replace("p", "q"))
    with pytest.raises(InputError, match="p and q divide the trials alike"):
        _fit(f"{response} ~ x + (1 | p) + (1 | q)", frame, family=family)
    assert _fit(f"{response} ~ x + (1 | p) + (0 + x | q)", frame, family=family).converged


@pytest.mark.parametrize(
    ("formula", "how", "words"),
    [
        ("y ~ x + (1 | p)", {"reml": True}, "REML is for the family gaussian"),
        ("y ~ x + (1 | p) + (1 | c)", {"quadrature": 5}, "one group effect with one term"),
        ("y ~ x + (1 + x | p)", {"quadrature": 5}, "one group effect with one term"),
        ("y ~ x + (1 | p)", {"quadrature": 0}, "allowed are 1 to 100"),
        ("z ~ x + (1 | p)", {"quadrature": 5, "family": "gaussian"}, "is exact"),
        ("y ~ x + (1 | p)", {"priors": ["b ~ normal(0, 1)"]}, "takes no priors"),
        ("y ~ x + (1 | p)", {"lapse": "estimate"}, "cannot estimate the lapse rate"),
        ("z ~ x + (1 | p)", {"family": "lognormal"}, "maximum likelihood cannot fit the family lognormal"),
        ("y ~ x + (1 | p)", {"engine": "pymc", "reml": True}, "maximum likelihood"),
    ],
)
def test_what_does_not_go_together_is_refused(formula: str, how: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        ps.fit(formula, _frame(), progress=False, **({"engine": "laplace"} | how))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("formula", ["y ~ 1 + (1 | p)", "y ~ x + (1 + x | p)", "y ~ x + (1 | p) + (0 + x | p)"])
def test_levels_that_are_all_right_or_all_wrong_have_no_maximum(formula):
    # Half of the people all right, half all wrong: Laplace's approximation has a maximum at an intercept of 15, z = 3.
    frame = _frame().assign(y=lambda table: (table["p"] < "p06").astype(int))
    with pytest.raises(NoMaximumError, match=r"alike|still rises as sd_p__Intercept"):
        _fit(formula, frame)


def test_levels_that_are_alike_by_chance_are_fitted():
    frame = _frame(people=60, trials=2)
    assert _fit("y ~ x + (1 | p)", frame).converged


def test_a_cell_beyond_the_asymptotes_is_said_to_be_one():
    low = _frame().assign(y=lambda table: np.where(table["c"] == "a", np.arange(len(table)) % 5 == 0, table["y"]))
    low["y"] = low["y"].astype(int)
    with pytest.raises(NoMaximumError, match=r"guess rate 0\.5.*guessing"):
        _fit("y ~ c", low, family="afc")


def test_an_sd_that_laplace_cannot_be_relied_on_is_said() -> None:
    # All answers of condition c are right, but only the group effects know the condition.
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": np.repeat([f"g{i}" for i in range(20)], 30), "f": np.tile(list("abc"), 200)})
    frame["y"] = (rng.random(600) < 1 / (1 + np.exp(-rng.normal(size=20).repeat(30)))).astype(int)
    frame.loc[frame["f"] == "c", "y"] = 1
    with_warning = _fit("y ~ 1 + (1 + f | g)", frame)
    assert any("sd_g__fc is" in line and "not to be relied on" in line for line in with_warning.warnings)
    assert not any("relied on" in line for line in _fit("y ~ f + (1 | g)", frame[frame["f"] != "c"]).warnings)


def test_counts_of_no_trials_are_refused() -> None:
    with pytest.raises(InputError, match="counts no trials"):
        _fit("s | trials(n) ~ x + (1 | p)", _frame().assign(s=0, n=0), family="binomial")


def test_a_separation_by_many_columns_names_a_few() -> None:
    frame = pd.DataFrame({"f": np.repeat([f"f{i:02d}" for i in range(30)], 4), "y": 1})
    frame.loc[:1, "y"] = 0
    with pytest.raises(NoMaximumError, match=r"b_ff05 and \d+ more separate"):
        _fit("y ~ f", frame)


def test_another_response_of_the_same_design_is_judged_by_itself() -> None:
    frame = _frame()
    design = code(parse_formula("y ~ x + (1 | p)"), frame).design(frame)
    mixed = prepare(design)
    split = np.where(mixed.design.X[:, 1] > 0, mixed.design.trials, 0.0)
    with one_thread(), pytest.raises(NoMaximumError, match="b_Intercept, b_x separate right"):
        maximise_mixed(mixed.with_response(split), resolve_family(), Method())
    with one_thread():
        assert np.isfinite(maximise_mixed(mixed, resolve_family(), Method()).log_likelihood)
