"""What a response may be, and what is said of one that cannot be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from psychostats import fit
from psychostats.design import code
from psychostats.errors import InputError, PriorError
from psychostats.families import resolve_family
from psychostats.formula import parse_formula
from psychostats.priors import resolve_priors
from psychostats.responses import read_response
from psychostats.spec import specify


def trials(**columns):
    frame = pd.DataFrame(
        {
            "participant": np.repeat(["p1", "p2", "p3", "p4"], 6),
            "x": np.tile(np.linspace(-1, 1, 6), 4),
            "layer": np.tile(["a", "b", "c"], 8),
            "correct": np.tile([0, 1, 1], 8),
            "confidence": np.tile([1, 2, 3, 4], 6),
            "rt": np.linspace(0.4, 2.0, 24),
        }
    )
    return frame.assign(**columns)


def read(name, kind, frame):
    return read_response(parse_formula(f"{name} ~ 1").response, frame, kind)[0]


def test_ratings_are_counted_from_one_in_their_order():
    assert read("confidence", "rating", trials()).tolist() == [1, 2, 3, 4] * 6
    assert read("confidence", "rating", trials(confidence=np.tile([-2, -1, 0, 1], 6))).tolist() == [1, 2, 3, 4] * 6
    words = pd.Categorical(np.tile(["low", "high", "mid"], 8), ["low", "mid", "high"])
    assert read("confidence", "rating", trials(confidence=words)).tolist() == [1, 3, 2] * 8


@pytest.mark.parametrize(
    ("name", "kind", "values", "message"),
    [
        ("rt", "positive", {3: 0.0}, "the response 'rt' is 0 in row 3; a lognormal family takes times above zero"),
        ("rt", "positive", {3: -0.2, 5: 0.0}, r"is -0.2 in row 3 \(and 1 more row is at or below zero\)"),
        ("confidence", "rating", {0: 2.5}, "is 2.5 in row 0; ratings are whole numbers"),
        ("confidence", "rating", {0: 400}, "runs from 1 to 400; ratings have at most 100 levels"),
        ("correct", "answers", {4: 2}, "the response 'correct' is 2 in row 4; allowed are 0 and 1"),
    ],
)
def test_a_value_that_cannot_be_one_is_named(name, kind, values, message):
    column = trials()[name].astype(float)
    column.loc[list(values)] = list(values.values())
    with pytest.raises(InputError, match=message):
        read(name, kind, trials(**{name: column}))


def test_a_level_that_nobody_used_is_named_not_dropped():
    with pytest.raises(InputError, match="the rating scale 'confidence' has level 3 that no row uses"):
        read("confidence", "rating", trials(confidence=np.tile([1, 2, 4], 8)))
    words = pd.Categorical(np.tile(["low", "high"], 12), ["low", "mid", "high"])
    with pytest.raises(InputError, match="has level mid that no row uses"):
        fit("confidence ~ x", trials(confidence=words), family="cumulative")
    with pytest.raises(InputError, match="is '2' in every row; a rating needs two levels"):
        read("confidence", "rating", trials(confidence=2))
    with pytest.raises(InputError, match="holds text; it needs whole numbers, or levels in a declared order"):
        read("confidence", "rating", trials(confidence="sure"))


@pytest.mark.parametrize(
    ("formula", "words", "message"),
    [
        (
            "correct ~ x + (1 | participant)",
            {"family": "cumulative", "engine": "laplace"},
            "cannot fit the family cumul",
        ),
        ("rt ~ x + (1 | participant)", {"family": "lognormal", "engine": "laplace"}, "cannot fit the family lognormal"),
        ("correct ~ mo(layer)", {"engine": "laplace"}, "cannot fit a monotonic effect"),
        ("correct ~ mo(layer)", {}, r"mo\(layer\) needs an order, and 'layer' holds text in none"),
        ("correct ~ mo(x)", {}, r"mo\(x\) needs whole numbers or ordered levels; 'x' holds fractions"),
        ("correct ~ mo(layer, 2)", {}, "mo.. takes one column"),
        (
            "correct ~ mo(confidence) * mo(grade)",
            {},
            r"mo\(confidence\) and mo\(grade\) are multiplied with each other",
        ),
        ("correct ~ mo(confidence) + confidence", {}, "both as a number and in mo"),
        ("correct ~ x + (1 + mo(confidence) | participant)", {}, "mo.. stands in the fixed part alone"),
        ("confidence ~ 0 + x", {"family": "cumulative"}, "thresholds take the intercept's place"),
        ("cbind(correct, confidence) ~ x", {"family": "cumulative"}, "takes one number a row"),
        ("rt ~ x", {"family": "shifted_lognormal", "priors": ["ndt ~ uniform(0.1, 0.9)"]}, "reaches outside 0 to 0.4"),
        ("rt ~ x", {"family": "shifted_lognormal", "priors": ["ndt ~ normal(9, 0.1)"]}, "no weight between 0 and 0.4"),
        (
            "correct ~ x",
            {"family": "afc", "lapse": "estimate", "priors": ["lapse ~ uniform(0, 2)"]},
            "outside 0 to 0.5",
        ),
        (
            "correct ~ x",
            {"family": "afc", "lapse": "estimate", "priors": ["lapse ~ normal(0, 1)"]},
            "cannot serve lapse",
        ),
        ("rt ~ x", {"family": "lognormal", "priors": ["ndt ~ uniform(0, 0.1)"]}, "matches no parameter"),
        (
            "correct ~ x",
            {"family": "gaussian", "priors": ["sigma ~ normal(-9, 0.1)"]},
            "no weight above 0, where sigma",
        ),
        ("correct ~ x + (1 | one)", {}, "group 'one' has one level only"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(formula, words, message):
    with pytest.raises(InputError, match=message):
        fit(formula, trials(one="p1", grade=np.repeat([1, 2, 3], 8)), **words)


def test_a_column_whose_own_name_holds_the_letters_calls_nothing():
    frame = trials(**{"demo(x": np.linspace(0, 1, 24)})
    made = fit("confidence ~ `demo(x` + (1 | participant)", frame, family="gaussian", engine="laplace")
    assert "b_demo(x" in set(made.terms()["term"]) and not made.spec.formula.monotonic


def test_no_trials_are_no_fit():
    frame = trials(right=0, total=0)
    with pytest.raises(InputError, match="the response counts no trials"):
        fit("right | trials(total) ~ x", frame, family="binomial")


def prior_names(formula, frame, overrides=(), **words):
    spec = specify(formula, **words)
    design = code(spec.formula, frame, thresholds=spec.family.ordinal).design(frame, spec.family.response)
    return {prior.name: str(prior.distribution) for prior in resolve_priors(design, overrides, spec.family)}


def test_default_priors_follow_the_response():
    frame = trials(score=trials()["rt"] * 100 + 300)
    centre, sd = frame["score"].mean(), frame["score"].std()
    assert prior_names("score ~ x + (1 | participant)", frame, family="gaussian") == {
        "b_Intercept": f"normal({centre:g}, {1.5 * sd:g})",
        "b_x": f"normal(0, {sd / 2:g})",
        "sd_participant__Intercept": f"exponential({2 / sd:g})",
        "sigma": f"exponential({1 / sd:g})",
    }
    assert prior_names("rt ~ x", frame, family="shifted_lognormal") == {
        "b_Intercept": f"normal({np.log(frame['rt']).mean():g}, 1.5)",
        "b_x": "normal(0, 0.5)",
        "sigma": "exponential(1)",
        "ndt": "uniform(0, 0.4)",
    }
    some = ["b_Intercept ~ normal(0, 1)", "b_Intercept[2] ~ normal(0, 2)"]
    assert prior_names("confidence ~ x", frame, some, family="cumulative") == {
        "b_Intercept[1]": "normal(0, 1)",
        "b_Intercept[2]": "normal(0, 2)",
        "b_Intercept[3]": "normal(0, 1)",
        "b_x": "normal(0, 0.5)",
    }
    way = np.ptp(frame["x"] * (frame["confidence"] - 1))
    assert prior_names("correct ~ x * mo(confidence)", frame, ["simo ~ dirichlet(2)"]) == {
        "b_Intercept": "normal(0, 1.5)",
        "b_x": "normal(0, 0.5)",
        "bsp_moconfidence": "normal(0, 0.333333)",  # one over the whole way of three steps
        "bsp_moconfidence:x": f"normal(0, {1 / way:g})",
        "simo_moconfidence1": "dirichlet(2)",
        "simo_moconfidence:x1": "dirichlet(2)",
    }
    with pytest.raises(PriorError, match=r"dirichlet in .* cannot serve b"):
        prior_names("correct ~ x", frame, ["b ~ dirichlet(1)"])


def test_a_monotonic_effect_is_coded_in_steps():
    levels = pd.Categorical(trials()["layer"], ["c", "a", "b"])
    frame = trials(layer=levels)
    coding = code(parse_formula("correct ~ x * mo(layer)"), frame)
    assert coding.names == ("Intercept", "x", "mo(layer)1", "mo(layer)2", "x:mo(layer)1", "x:mo(layer)2")
    design = coding.design(frame)
    step = frame["layer"].cat.codes.to_numpy()
    np.testing.assert_array_equal(design.X[:, 2:4], step[:, np.newaxis] >= [1, 2])
    np.testing.assert_allclose(design.X[:, 4:], design.X[:, 2:4] * frame[["x"]].to_numpy())
    assert [(effect.term, effect.columns) for effect in design.monotonic] == [
        ("bsp_molayer", (2, 3)),
        ("bsp_molayer:x", (4, 5)),
    ]
    assert design.coefficients == ("Intercept", "x")
    assert coding.describe()["layer"] == "monotonic, from c to b"
    new = coding.fixed(pd.DataFrame({"x": [1.0], "layer": ["b"]}))
    assert new.tolist() == [[1, 1, 1, 1, 1, 1]]


def test_thresholds_take_the_place_of_the_intercept():
    coding = code(parse_formula("confidence ~ x + layer"), trials(), thresholds=True)
    assert coding.names == ("x", "layerb", "layerc")
    assert coding.fixed(trials()).shape == (24, 3)
    assert resolve_family("cumulative").ordinal
