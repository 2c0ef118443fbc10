"""Predictors that separate right answers from wrong ones: exactly those, by what their columns span."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import psychostats as ps
from psychostats.design import Design, code
from psychostats.errors import NoMaximumError
from psychostats.formula import parse_formula
from psychostats.separation import separated, separating


def design(text: str, data: pd.DataFrame) -> Design:
    return code(parse_formula(text), data).design(data)


def answers(seed: int = 0, n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"y": rng.integers(0, 2, n), "x": rng.normal(size=n), "k": rng.choice(["a", "b", "c"], n)})


def test_answers_that_overlap_are_not_separated() -> None:
    assert separating(design("y ~ x * k", answers())) == ()
    assert separated(design("y ~ x * k", answers())) == ""


@pytest.mark.parametrize("seed", range(5))
def test_a_threshold_separates_and_one_answer_beyond_it_does_not(seed: int) -> None:
    data = answers(seed)
    data["y"] = (data["x"] > 0.2).astype(int)
    assert separating(design("y ~ x", data)) == ("Intercept", "x")
    # In other units, and from far away, too.
    assert "x" in separating(design("y ~ x", data.assign(x=1e6 + 1e3 * data["x"])))
    data.loc[data["x"].idxmax(), "y"] = 0
    assert separating(design("y ~ x", data)) == ()


def test_a_cell_of_equal_answers_is_quasi_complete_separation() -> None:
    data = answers()
    data["y"] = data["y"].where(data["k"] != "c", 1)
    assert separating(design("y ~ k", data)) == ("kc",)
    assert separated(design("y ~ k + x", data)).startswith(
        "the likelihood has no maximum: b_kc separates right answers from wrong ones"
    )
    # Only the interaction of two levels.
    data = answers(n=200).assign(g=lambda d: np.where(np.arange(len(d)) % 2, "u", "v"))
    data.loc[(data["k"] == "c") & (data["g"] == "v"), "y"] = 0
    assert separating(design("y ~ k + g", data)) == ()
    assert separating(design("y ~ k * g", data)) == ("kc:gv",)


def test_counts_separate_where_all_of_a_row_are_right() -> None:
    counts = pd.DataFrame({"right": [3, 5, 8], "wrong": [2, 4, 0], "k": ["a", "b", "c"]})
    assert separating(design("cbind(right, wrong) ~ k", counts)) == ("kc",)
    assert separating(design("cbind(right, wrong) ~ k", counts.assign(wrong=[2, 4, 1]))) == ()


@pytest.mark.parametrize(("value", "word"), [(1, "right"), (0, "wrong")])
def test_equal_answers_are_said_in_other_words(value: int, word: str) -> None:
    sentence = separated(design("y ~ x", answers().assign(y=value)))
    assert f"all answers are {word}, so b_Intercept" in sentence


def test_the_maximum_exists_where_nothing_separates_and_only_there() -> None:
    """Against what the optimiser finds: fits of few answers, a part of which are separated."""
    found = []
    for seed in range(40):
        data = answers(seed, 14)
        apart = bool(separated(design("y ~ x + k", data)))
        found.append(apart)
        if apart:
            with pytest.raises(NoMaximumError, match="the likelihood has no maximum"):
                ps.fit("y ~ x + k", data, engine="laplace", progress=False)
        else:
            fit = ps.fit("y ~ x + k", data, engine="laplace", progress=False)
            X = fit.design.X
            p = 1 / (1 + np.exp(-X @ fit.estimates.maximum.b))
            np.testing.assert_allclose(X.T @ (fit.design.successes - p), 0, atol=1e-5)
    assert 5 < sum(found) < 35
