"""Group effects that trials cannot show, named before anything is fitted."""

import numpy as np
import pandas as pd

from psychostats.design import code
from psychostats.formula import parse_formula
from psychostats.groups import group_faults


def faults(text, data):
    return group_faults(code(parse_formula(text), data).design(data))


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
        "error",
        "group 'pair' has more random effects than observations: 20 levels x 3 terms = 60, and 40 trials; leave out "
        "slopes, or the group.",
    )
    ((severity, sentence),) = faults("y ~ x + (x | pair)", trials().iloc[:-1])  # one trial fewer than effects
    assert severity == "error" and "20 levels x 2 terms = 40, and 39 trials" in sentence
    assert faults("cbind(y, n) ~ x + (x + z | pair)", trials()) == []  # a row of counts is many observations


def test_one_observation_a_level_is_an_error_and_for_counts_a_warning():
    text = "every level of item has one observation only, so that its effect is "
    assert faults("y ~ x + (1 | person) + (1 | item)", trials()) == [
        ("error", text + "the chance of a single trial; leave the group out.")
    ]
    assert faults("y | trials(n) ~ x + (1 | item)", trials()) == [
        ("warning", text + "overdispersion; read it as that.")
    ]
    assert faults("y ~ x + (1 | item)", pd.concat([trials(), trials().iloc[:1]])) == []
    ((severity, sentence),) = faults("y ~ x + (1 | person / item)", trials())
    assert severity == "error" and "person:item" in sentence
