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


def test_one_observation_a_level_is_a_warning_for_answers_and_an_error_for_measurements():
    text = "every level of item has one observation only, so that its effect is "
    answers = (
        text + "overdispersion of counts, or the chance of a single trial; read it as that, or leave the group out."
    )
    assert faults("y ~ x + (1 | person) + (1 | item)", trials()) == [("warning", answers)]
    assert faults("y | trials(n) ~ x + (1 | item)", trials()) == [("warning", answers)]
    design = code(parse_formula("y ~ x + (1 | item)"), trials()).design(trials())
    assert group_faults(design, continuous=True) == [("error", text + "the residual; leave the group out.")]
    assert faults("y ~ x + (1 | item)", pd.concat([trials(), trials().iloc[:1]])) == []
    ((severity, sentence),) = faults("y ~ x + (1 | person / item)", trials())
    assert severity == "warning" and "person:item" in sentence


def test_two_groups_that_divide_the_trials_alike_are_an_error():
    data = trials().assign(same=lambda rows: "s" + rows["pair"].astype(str))
    ((severity, sentence),) = faults("y ~ x + (1 | pair) + (1 + x | same)", data)
    assert severity == "error" and sentence.startswith("pair and same divide the trials alike")
    assert sentence.endswith("leave out (1 + x | same).")
    assert faults("y ~ x + (1 | pair) + (0 + x | same)", data) == []
