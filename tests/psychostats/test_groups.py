"""Group effects that trials cannot show, named before anything is fitted."""

import numpy as np
import pandas as pd
import pytest

import psychostats as ps
from psychostats.design import code
from psychostats.errors import InputError
from psychostats.formula import parse_formula
from psychostats.groups import group_faults, single_rows


def faults(text, data, continuous=False):
    design = code(parse_formula(text), data).design(data, "number" if continuous else "answers")
    return group_faults(design, continuous=continuous)


def singles(text, data):
    return [single_rows(block) for block in code(parse_formula(text), data).random(data)]


def trials(n=40):
    rng = np.random.default_rng(2)
    return pd.DataFrame(
        {
            "y": np.arange(n) % 2,
            "n": 6,
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "item": np.arange(n),
            "pair": np.arange(n) // 2,
            "person": np.arange(n) % 4,
        }
    )


def test_groups_with_enough_trials_have_no_fault():
    assert faults("y ~ x + (x | person) + (1 | pair)", trials()) == []
    assert faults("y ~ x", trials()) == []
    assert faults("y ~ x + (x | pair)", trials()) == []  # 20 levels x 2 terms are 40 trials, and no more


def test_more_random_effects_than_observations_are_an_error_with_their_number():
    (fault,) = faults("y ~ x + (x + z | pair) + (1 | person)", trials())
    assert fault == (
        "group 'pair' has more random effects than observations: 20 levels x 3 terms = 60, and 40 trials; leave out "
        "slopes, or the group."
    )
    (sentence,) = faults("y ~ x + (x | pair)", trials().iloc[:-1])  # one trial fewer than effects
    assert "20 levels x 2 terms = 40, and 39 trials" in sentence
    assert faults("cbind(y, n) ~ x + (x + z | pair)", trials()) == []  # a row of counts is many observations


def test_one_row_a_level_is_an_error_for_measurements_and_told_of_answers():
    data = trials()
    residual = "every level of item has one observation only, so that its effect is the residual; leave the group out."
    assert faults("z ~ x + (1 | person) + (1 | item)", data, continuous=True) == [residual]
    assert faults("y ~ x + (1 | person) + (1 | item)", data) == faults("y | trials(n) ~ x + (1 | item)", data) == []
    assert singles("y ~ x + (1 | person) + (1 | item)", data) == [False, True]
    assert singles("y | trials(n) ~ x + (1 | item)", data) == [True]
    assert singles("y ~ x + (1 | person / item)", data) == [False, True]
    again = pd.concat([data, data.iloc[:1]])
    assert singles("y ~ x + (1 | item)", again) == [False]
    assert faults("z ~ x + (1 | item)", again, continuous=True) == []


def test_more_effects_than_rows_are_counted_in_rows_where_there_are_no_trials():
    (sentence,) = faults("z ~ x + (x | item)", trials(), continuous=True)
    assert "40 levels x 2 terms = 80, and 40 rows" in sentence


def test_groups_that_divide_the_trials_alike_are_an_error():
    data = trials().assign(seat=lambda d: "s" + d["person"].astype(str))
    (sentence,) = faults("y ~ x + (1 | person) + (1 | seat)", data)
    assert sentence == (
        "person and seat divide the trials alike, so that their SDs cannot be told apart; leave out (1 | seat)."
    )
    (sentence,) = faults("y ~ x + (1 | person) + (1 + x | seat)", data)
    assert sentence.endswith("leave out (1 + x | seat).")
    # Alike they are only where every row agrees, and where a column is shared.
    data.loc[0, "seat"] = "s1"
    assert faults("y ~ x + (1 | person) + (1 | seat)", data) == []
    assert faults("y ~ x + (1 | person) + (0 + x | person)", trials()) == []
    assert faults("y ~ x + (1 | person) + (0 + x | seat)", trials().assign(seat=trials()["person"] + 7)) == []


@pytest.mark.parametrize("family", ["bernoulli", "gaussian"])
def test_the_engine_refuses_what_cannot_be_told_apart(family):
    data = trials().assign(seat=lambda d: "s" + d["person"].astype(str))
    formula = f"{'y' if family == 'bernoulli' else 'z'} ~ x + (1 | person) + (1 | seat)"
    with pytest.raises(InputError, match="person and seat divide the trials alike"):
        ps.fit(formula, data, family=family, engine="laplace", progress=False)


def test_slopes_that_follow_from_one_another_are_an_error_with_their_name():
    table = trials().assign(w=lambda frame: 2.0 * frame["x"], far=lambda frame: 1e8 + frame["x"])
    for bars in ("x + w | person", "x + w || person"):
        (sentence,) = faults(f"y ~ x + ({bars})", table)
        assert "effect of w within person follows from those of Intercept, x" in sentence
    assert faults("y ~ x + (x + far || person)", table) == []
    assert faults("y ~ x + (far | person)", table) == []
    (sentence,) = faults("y ~ x + (x + far | person)", table)
    assert "effect of far" in sentence
