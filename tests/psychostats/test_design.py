"""Design matrices against R's model.matrix and lme4's fits, and the coding as something learned once."""

import decimal
import json
import operator
import os
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from psychostats.design import code, factor_levels
from psychostats.errors import FormulaError, InputError
from psychostats.formula import parse_formula

GOLDEN = json.loads(Path(__file__).parents[1].joinpath("golden", "model_matrix.json").read_text("utf-8"))


def learn(text, data):
    return code(parse_formula(text), data)


@pytest.fixture
def trials():
    rng = np.random.default_rng(7)
    n = 80
    return pd.DataFrame(
        {
            "correct": rng.integers(0, 2, n),
            "representation": pd.Categorical(
                rng.choice(["local", "distributed"], n), categories=["local", "distributed", "unused"]
            ),
            "depth": np.tile([0.0, 0.25, 0.5, 1.0], n // 4),
            "size": rng.normal(50.0, 10.0, n),
            "flag": rng.random(n) < 0.5,
            "participant": rng.choice(["p10", "p9", "P1"], n),
            "number": rng.choice([10, 9, 2], n),
            "batch": np.repeat(["A", "B"], n // 2),
            "cask": np.tile(["a", "b"], n // 2),
        }
    )


# --- R


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=[case["formula"] for case in GOLDEN["cases"]])
def test_names_and_contents_are_those_of_r(case):
    data, new = pd.DataFrame(GOLDEN["data"]).assign(y=1), pd.DataFrame(GOLDEN["new"])
    coding = learn(f"y {case['formula']}", data)
    assert coding.names == tuple(name.replace("(Intercept)", "Intercept") for name in case["names"])
    np.testing.assert_allclose(coding.fixed(data), case["rows"], atol=1e-13, rtol=1e-13)
    np.testing.assert_allclose(coding.fixed(new), case["new"], atol=1e-13, rtol=1e-13)


def test_group_effects_are_coded_as_fixed_ones():
    data = pd.DataFrame(GOLDEN["data"]).assign(y=1, g=list("stuv") * 3)
    for case in GOLDEN["cases"]:
        coding = learn(f"y ~ 1 + ({case['formula'].strip('~ ')} | g)", data)
        (block,) = coding.random(data)
        assert block.terms == tuple(name.replace("(Intercept)", "Intercept") for name in case["names"])
        np.testing.assert_allclose(block.Z, case["rows"], atol=1e-13, rtol=1e-13)


def reference(name):
    folder = os.environ.get("PSYCHOSTATS_REFERENCE")
    if not folder:
        pytest.skip("PSYCHOSTATS_REFERENCE names no folder with the reference data")
    return Path(folder, name)


@pytest.mark.parametrize(
    ("case", "data", "model", "text", "groups"),
    [
        ("C_sleepstudy", "sleepstudy", "correlated", None, {"Subject": ["Subject"]}),
        ("C_sleepstudy", "sleepstudy", "uncorrelated", None, {"Subject": ["Subject", "Subject.1"]}),
        ("C_sleepstudy", "sleepstudy", "intercept_only", None, {"Subject": ["Subject"]}),
        ("C_pastes", "pastes", "nested_syntax", None, {"batch": ["batch"], "batch:cask": ["cask:batch"]}),
        ("C_pastes", "pastes", "batch_sample", None, {"batch": ["batch"], "sample": ["sample"]}),
    ],
)
def test_lme4s_fixed_effects_follow_from_its_variances(case, data, model, text, groups):
    """With lme4's variances the fixed effects are generalised least squares, and the modes follow in closed form."""
    truth = json.loads(reference(f"{case}.json").read_text())["models"][model]
    fit, rows = truth["REML"], pd.read_csv(reference(f"{data}.csv"), dtype={"Subject": str})
    coding = learn(truth["formula"], rows)
    X, y = coding.fixed(rows), rows[truth["formula"].split(" ~ ")[0]].to_numpy()
    assert coding.names == tuple(name.replace("(Intercept)", "Intercept") for name in fit["fixef"])
    Z, D = [], []
    for block in coding.random(rows):
        parts = [fit["VarCorr"][name] for name in groups[block.group]]
        sigma = np.array(parts[0]["cov"]) if "cov" in parts[0] else np.diag([part["var"][0] for part in parts])
        whole = np.zeros((len(rows), len(block.levels), len(block.terms)))
        whole[np.arange(len(rows)), block.index] = block.Z
        Z.append(whole.reshape(len(rows), -1))
        D.append(np.kron(np.eye(len(block.levels)), sigma))
    Z, D = np.hstack(Z), scipy.linalg.block_diag(*D)
    V = Z @ D @ Z.T + fit["sigma"] ** 2 * np.eye(len(rows))
    b = np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, y))
    np.testing.assert_allclose(b, list(fit["fixef"].values()), rtol=1e-5)
    # Conditional modes, level by level under lme4's own names.
    modes, at = D @ Z.T @ np.linalg.solve(V, y - X @ b), 0
    for block in coding.random(rows):
        found = modes[at : at + len(block.levels) * len(block.terms)].reshape(len(block.levels), -1)
        at += found.size
        stored = fit["ranef"][groups[block.group][0]]["mode"]
        flipped = [":".join(reversed(level.split(":"))) for level in block.levels]
        names = flipped if ":" in block.group else block.levels
        for j, term in enumerate(block.terms):
            expected = stored["(Intercept)" if term == "Intercept" else term]
            np.testing.assert_allclose(found[:, j], [expected[name] for name in names], rtol=2e-3, atol=2e-3)


def test_the_anchor_experiment_has_lme4s_names_and_levels():
    truth = json.loads(reference("B_glmer.json").read_text())["models"]["full"]
    rows = pd.read_csv(reference("exp1.csv"))
    coding = learn(truth["formula"], rows)
    assert coding.names == tuple(name.replace("(Intercept)", "Intercept") for name in truth["tight"]["fixef"])
    for block in coding.random(rows):
        assert len(block.levels) == truth["tight"]["ngrps"][block.group]
        assert set(block.levels) == set(truth["tight"]["ranef"][block.group]["mode"]["(Intercept)"])


# --- levels and names


def test_levels_stand_verbatim_in_names():
    words = ["a:b", "a b", "a[T.x]", "a, b", "L0", "V0", "(1 | g)", "`x`", "C(a)", "été", "日本", "b\\", "x^2", ""]
    data = pd.DataFrame({"y": 1, "odd one (1)": words * 3, "x": np.arange(3.0 * len(words)) ** 2})
    coding = learn("y ~ `odd one (1)` * x", data)
    rest = sorted(words)[1:]
    assert coding.levels == {"odd one (1)": tuple(sorted(words))}
    assert coding.names == (
        "Intercept",
        *(f"odd one (1){word}" for word in rest),
        "x",
        *(f"odd one (1){word}:x" for word in rest),
    )


def test_text_sorts_by_code_point_and_numbers_by_size():
    assert factor_levels(pd.Series(["b", "a", "Z", "é", "10", "9", None])) == ("10", "9", "Z", "a", "b", "é")
    assert factor_levels(pd.Series([10, 9, 2])) == ("2", "9", "10")
    assert factor_levels(pd.Series([10.0, 2.0, np.nan, 0.5])) == ("0.5", "2", "10")
    assert factor_levels(pd.Series([True, False])) == ("False", "True")


def test_a_categorical_keeps_its_order_and_loses_unused_levels(trials):
    coding = learn("correct ~ representation", trials)
    assert coding.levels == {"representation": ("local", "distributed")}
    assert coding.names == ("Intercept", "representationdistributed")
    backwards = trials.assign(
        representation=trials["representation"].cat.reorder_categories(["unused", "distributed", "local"])
    )
    assert learn("correct ~ representation", backwards).names == ("Intercept", "representationlocal")


def test_a_declared_order_does_not_ask_for_polynomials(trials):
    ordered = trials.assign(representation=trials["representation"].cat.as_ordered())
    np.testing.assert_array_equal(
        learn("correct ~ representation", ordered).fixed(ordered),
        learn("correct ~ representation", trials).fixed(trials),
    )


def test_a_boolean_predictor_is_a_factor(trials):
    coding = learn("correct ~ flag * depth", trials)
    assert coding.names == ("Intercept", "flagTrue", "depth", "flagTrue:depth")
    np.testing.assert_array_equal(coding.fixed(trials)[:, 1], trials["flag"])


def test_a_number_in_c_is_a_factor_named_as_r_names_it(trials):
    coding = learn("correct ~ C(number)", trials)
    assert coding.names == ("Intercept", "C(number)9", "C(number)10")
    floats = trials.assign(number=trials["number"].astype(float))
    assert learn("correct ~ C(number)", floats).names == coding.names
    np.testing.assert_array_equal(coding.fixed(floats), coding.fixed(trials))


@pytest.mark.parametrize(
    "columns",
    [
        ["log", "I", "C", "poly", "np", "contr", "sqrt"],  # names of calls and of what the library knows
        ["lambda", "class", "None", "True", "L0", "V1", "a.b"],
        ["a:b", "x ** 2", "[T.a]", "1", "it's", "=", "V0"],
    ],
)
def test_a_column_may_have_any_name(columns):
    rng = np.random.default_rng(3)
    data = pd.DataFrame(rng.uniform(1, 2, (30, len(columns))), columns=columns).assign(y=1)
    text = " + ".join(f"log(`{name}`) + I(`{name}`^2)" for name in columns)
    coding = learn(f"y ~ {text} + `{columns[0]}`:`{columns[1]}`", data)
    assert len(coding.names) == 2 + 2 * len(columns)
    assert coding.names[1:3] == (f"log({columns[0]})", f"I({columns[0]}^2)")
    assert coding.names[-1] == f"{columns[0]}:{columns[1]}"
    np.testing.assert_allclose(coding.fixed(data)[:, 1], np.log(data[columns[0]]))
    np.testing.assert_allclose(coding.fixed(data)[:, -1], data[columns[0]] * data[columns[1]])


def test_the_coding_is_told_in_words(trials):
    coding = learn(
        "correct ~ C(representation, sum) * depth + C(number, sdif) + flag + (1 + batch | participant)", trials
    )
    assert coding.describe() == {
        "representation": "sum to zero",
        "number": "successive differences",
        "flag": "treatment, reference False",
        "batch": "treatment, reference A",
    }
    assert learn("correct ~ 0 + flag", trials).describe() == {"flag": "a column for each level"}
    mixed = learn("correct ~ flag + (C(flag, sum) | participant)", trials)
    assert mixed.describe() == {"flag": "treatment, reference False"}


# --- group effects


def test_blocks_hold_names_levels_and_structure(trials):
    coding = learn(
        "correct ~ depth + (1 + representation | participant) + (depth || number) + (1 | batch/cask) "
        "+ (0 + depth | batch)",
        trials,
    )
    blocks = coding.random(trials)
    assert [(b.group, b.terms, b.structure, b.levels) for b in blocks] == [
        ("participant", ("Intercept", "representationdistributed"), "correlated", ("P1", "p10", "p9")),
        ("number", ("Intercept", "depth"), "independent", ("2", "9", "10")),
        ("batch", ("Intercept",), "single", ("A", "B")),
        ("batch:cask", ("Intercept",), "single", ("A:a", "A:b", "B:a", "B:b")),
        ("batch", ("depth",), "single", ("A", "B")),
    ]
    for block in blocks[:3]:
        named = np.array(block.levels)[block.index]
        np.testing.assert_array_equal(named, trials[block.group].astype(str))
    nested = np.array(blocks[3].levels)[blocks[3].index]
    np.testing.assert_array_equal(nested, trials["batch"] + ":" + trials["cask"])


def test_two_bars_uncorrelate_factors_too(trials):
    (block,) = learn("correct ~ 1 + (representation * depth || participant)", trials).random(trials)
    assert block.terms == ("Intercept", "representationdistributed", "depth", "representationdistributed:depth")
    assert block.structure == "independent"


def test_a_group_may_be_a_predictor_as_well(trials):
    coding = learn("correct ~ batch + number + (1 + flag | number) + (1 | batch)", trials)
    assert coding.levels == {"batch": ("A", "B"), "flag": ("False", "True")}
    assert list(coding.ranges) == ["number"]
    assert [block.levels for block in coding.random(trials)] == [("2", "9", "10"), ("A", "B")]


def test_an_unseen_or_missing_level_has_no_place(trials):
    coding = learn("correct ~ depth + (1 | participant) + (1 | batch:cask) + (1 | number)", trials)
    new = trials.iloc[:4].copy()
    new["participant"] = ["p9", "new", None, "P1"]
    new["batch"] = ["A", "A", "B", "C"]
    new["cask"] = ["b", None, "a", "a"]
    new["number"] = [2.0, np.nan, 3.0, 10.0]  # whole numbers, stored otherwise
    people, casks, numbers = coding.random(new)
    assert people.index.tolist() == [2, -1, -1, 0]
    assert casks.index.tolist() == [1, -1, 2, -1]
    assert numbers.index.tolist() == [0, -1, -1, 2]
    for block in coding.random(new[["depth"]]):
        assert block.index.tolist() == [-1] * 4


def test_a_missing_level_is_not_the_empty_one(trials):
    data = trials.assign(participant=trials["participant"].replace("p9", ""))
    coding = learn("correct ~ depth + (1 | participant)", data)
    (block,) = coding.random(data.iloc[:3].assign(participant=["", None, "P1"]))
    assert block.levels == ("", "P1", "p10")
    assert block.index.tolist() == [0, -1, 1]


def test_levels_that_colons_make_alike_are_refused():
    data = pd.DataFrame({"y": 1, "a": ["x:y", "x"] * 2, "b": ["z", "y:z"] * 2})
    with pytest.raises(FormulaError, match="colons in the levels of a, b"):
        learn("y ~ 1 + (1 | a:b)", data)


@pytest.mark.parametrize(
    "bar", ["(1 + batch | cask)", "(batch * depth | cask)", "(0 + batch || cask)", "(depth:batch | cask)"]
)
def test_a_slope_that_no_level_varies_in_is_refused_by_name(trials, bar):
    data = trials.assign(cask=trials["batch"] + trials["cask"])
    with pytest.raises(FormulaError, match=r"slope on 'batch'.*every level of cask has one level.*write \(1 \| cask\)"):
        learn(f"correct ~ depth + {bar}", data)
    data.loc[0, "batch"] = "B"  # now one level of the group sees both
    learn(f"correct ~ depth + {bar}", data)


def test_one_level_is_no_factor_and_no_group(trials):
    with pytest.raises(FormulaError, match=r"factor 'batch' has one level only \('A'\) in these 40 trials"):
        learn("correct ~ batch", trials[trials["batch"] == "A"])
    with pytest.raises(FormulaError, match=r"group 'batch' has one level only \('A'\)"):
        learn("correct ~ 1 + (1 | batch)", trials[trials["batch"] == "A"])


def test_a_term_twice_in_one_group_is_refused(trials):
    with pytest.raises(FormulaError, match="group 'batch' has the term 'Intercept' twice"):
        learn("correct ~ 1 + (1 | batch) + (depth | batch)", trials)


# --- columns that cannot be told apart


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("depth + twice", "twice follows from Intercept, depth; leave it"),
        ("twice + depth", "depth follows from Intercept, twice; leave it"),
        ("depth + size + I(depth - 3 * size)", r"I\(depth - 3 \* size\) follows from depth, size; leave it"),
        ("one + depth", "one is 5 in every trial; leave it"),
        ("depth * nought", "nought is 0 in every trial; depth:nought is 0 in every trial; leave them"),
        ("depth + twice + one + size", "twice follows from Intercept, depth; one is 5 in every trial; leave them"),
        ("batch + copy", "copyB follows from batchB; leave it"),
        ("0 + batch + one", "one follows from batchA, batchB; leave it"),
        ("depth + flag:I(one - 5)", r"flagFalse:I\(one - 5\) is 0 in every trial; flagTrue:.* leave them"),
    ],
)
def test_dependent_columns_are_refused_with_what_they_follow_from(trials, text, why):
    data = trials.assign(twice=3 - 2 * trials["depth"], one=5.0, copy=trials["batch"], nought=0.0)
    with pytest.raises(FormulaError, match=f"^these trials cannot tell all fixed effects apart: {why} .*out of the"):
        learn(f"correct ~ {text}", data)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("batch * holes", "batch x holes has no trials in the cell batch B, holes v, so batchB:holesv cannot be "),
        ("holes * batch", "holes x batch has no trials in the cell holes v, batch B, so holesv:batchB cannot be "),
        ("0 + batch:holes", "batch x holes has no trials in the cell batch B, holes v, so batchB:holesv cannot be "),
        ("C(batch, sum) * holes", r"batch x holes has no trials in the cell batch B, holes v, so C\(batch, sum\)1:h"),
        ("depth * batch * holes", "batch x holes .* so batchB:holesv, depth:batchB:holesv cannot be estimated; leave "),
        (
            "batch * flag * holes",
            "batch x holes has no trials in the cell batch B, holes v, so batchB:holesv, batchB:flagTrue",
        ),
        ("C(kind) * holes", "kind x holes has no trials in the cells kind 2, holes v | kind 4, holes u, so C"),
        (
            "C(row) * C(twin)",
            r"row x twin has no trials in the cells (row 0, twin \d+ \| ){4}row 0, twin 5 and 85 more",
        ),
    ],
)
def test_empty_cells_are_named(trials, text, why):
    n = len(trials)
    data = trials.assign(kind=np.tile([1, 2, 3, 4], n // 4), row=np.arange(n) % 10)
    data["twin"] = data["row"]
    data["holes"] = np.where((data["batch"] == "A") & data["flag"], "v", "u")  # no 'v' in batch B
    if "kind" in text:
        data["holes"] = np.where(data["kind"] == 4, "v", np.where((data["kind"] == 2) | data["flag"], "u", "v"))
    why = why if "\\" in why else why.replace("|", "[|]")
    with pytest.raises(FormulaError, match=why) as caught:
        learn(f"correct ~ {text}", data)
    assert "\n" not in str(caught.value)
    learn("correct ~ batch + holes + depth", data)  # a sum needs no cell


def test_a_group_effect_of_a_constant_is_refused(trials):
    data = trials.assign(one=5.0)
    for bar, name in (
        ("(one | participant)", "one"),
        ("(depth + I(one - 5) || participant)", r"I\(one - 5\)"),
        ("(0 + I(0 * one) | participant)", r"I\(0 \* one\)"),
    ):
        with pytest.raises(FormulaError, match=f"asks for an effect of '{name}', which is [05] in every trial; leave"):
            learn(f"correct ~ depth + {bar}", data)
    assert learn("correct ~ depth + (0 + one | participant)", data).random(data)[0].terms == ("one",)


def test_more_columns_than_trials_are_refused(trials):
    with pytest.raises(FormulaError, match="apart: 4 are fewer than the 6 fixed effects; leave them out"):
        learn("correct ~ poly(size, 2) * depth", trials.iloc[:4])
    many = pd.DataFrame({"y": [0, 1] * 50, "a": np.arange(100), "b": np.arange(100)})
    start = time.perf_counter()
    with pytest.raises(FormulaError, match="10,000 columns or more for 100 trials; ask for fewer"):
        learn("y ~ C(a) * C(b)", many)
    assert time.perf_counter() - start < 1


def exactly(x, degree):
    """Centre, standardise and orthogonalise in 60 digits, as `center`, `scale` and `poly` should."""
    with decimal.localcontext(prec=60):
        values = [decimal.Decimal(float(one)) for one in x]
        mean = sum(values) / len(values)
        centred = [one - mean for one in values]
        sd = (sum(one * one for one in centred) / (len(values) - 1)).sqrt()
        basis = [[decimal.Decimal(1)] * len(values)]
        for power in range(1, degree + 1):
            column = [one**power for one in centred]
            for other in basis:
                share = sum(map(operator.mul, column, other)) / sum(one * one for one in other)
                column = [one - share * two for one, two in zip(column, other, strict=True)]
            basis.append(column)
        lengths = [sum(one * one for one in column).sqrt() for column in basis]
        poly = [[float(one / size) for one in column] for column, size in zip(basis, lengths, strict=True)][1:]
        return np.array([[*map(float, centred)], [float(one / sd) for one in centred], *poly]).T


@pytest.mark.parametrize(
    ("factor", "shift", "right"),
    [(1e12, 0, 1e-13), (1e-12, 0, 1e-13), (1e12, 1e12, 1e-13), (1, 1e6, 1e-9), (1, 1e8, 1e-7), (1e29, 0, 1e-13)],
)
def test_calls_are_right_for_numbers_of_any_size(factor, shift, right):
    x = np.random.default_rng(3).normal(size=50) * factor + shift
    data = pd.DataFrame({"y": [0, 1] * 25, "x": x})
    coding = learn("y ~ center(x)", data), learn("y ~ scale(x) + I(scale(x)^2)", data), learn("y ~ poly(x, 2)", data)
    made = np.column_stack([coding[0].fixed(data)[:, 1], coding[1].fixed(data)[:, 1], coding[2].fixed(data)[:, 1:]])
    expected = exactly(x, 2)
    np.testing.assert_allclose(made / np.abs(expected).max(axis=0), expected / np.abs(expected).max(axis=0), atol=right)
    np.testing.assert_array_equal(learn("y ~ x", data).fixed(data)[:, 1], x)


@pytest.mark.parametrize("call", ["x", "scale(x)", "center(x)", "poly(x, 2)", "bs(x)", "I(x - 1)", "offset(x)"])
def test_numbers_whose_digits_are_spent_are_refused(call):
    x = np.random.default_rng(3).normal(size=50)
    for values, why in (
        (x + 1e12, r"column 'x' varies by 6\.\d+ around 1e\+12, which leaves too few of the 16 digits"),
        (-1e16 + 3 * x, "column 'x' varies by"),
        (x * 1e200, r"column 'x' reaches 3\.\d+e\+200; sizes from 1e-30 to 1e\+30 can be analysed, so rescale"),
        (x * 1e-200, "column 'x' reaches 3.*e-200"),
        (np.where(x > 0, np.inf, x), "'x' takes finite numbers"),
    ):
        with pytest.raises(InputError, match=why):
            learn(f"y ~ 1 + {call}", pd.DataFrame({"y": [0, 1] * 25, "x": values}))


def test_large_squares_are_no_constant():
    x = np.random.default_rng(3).normal(size=50) * 1e25  # the square of the power is no number
    assert learn("y ~ x + I(x^8)", pd.DataFrame({"y": [0, 1] * 25, "x": x})).names == ("Intercept", "x", "I(x^8)")


@pytest.mark.parametrize("n", [40, 100_000])
def test_a_narrow_predictor_far_from_zero_is_no_constant(n):
    data = pd.DataFrame({"y": 1, "year": 2026.0 + np.linspace(0, 1e-4, n)})
    assert learn("y ~ year", data).names == ("Intercept", "year")


# --- bad input


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("correct ~ deep", r"names 'deep', which is no column of the trials \(did you mean 'depth'\?\)"),
        ("correct ~ depth + (1 | who)", "names 'who'"),
        ("right ~ depth", "names 'right'"),
        ("correct ~ depth + offset(none)", "names 'none'"),
        ("correct ~ log(depth)", r"'log\(depth\)' in .* is not finite"),
        ("correct ~ 1 + (log(depth) | batch)", r"'log\(depth\)' in .* is not finite"),
        ("correct ~ offset(log(depth))", "is not finite"),
        ("correct ~ I(batch)", "a factor stands where a number is needed"),
        ("correct ~ log(batch)", "a factor stands where a number is needed"),
        ("correct ~ scale(flag)", "a factor stands where a number is needed"),
        ("correct ~ I(depth * batch)", "a factor stands where a number is needed"),
        ("correct ~ offset(batch)", "a factor stands where a number is needed"),
        ("correct ~ number + (1 + C(number) | batch)", r"'number' stands .* both as a number and in C\(\)"),
        ("correct ~ 0", "leaves no column"),
        ("correct ~ 0 + (1 | batch)", "leaves no column"),
        ("correct ~ depth + (0 | batch)", "leaves no column"),
        ("correct ~ Intercept", "two columns .* would both be called 'Intercept'"),
        ("correct ~ 0 + poly(depth, 4)", r"poly\(\) needs more values than its degree, and there are only 4 of depth"),
        ("correct ~ 1 + (poly(log(size), 80) | batch)", "there are only 80 of size"),
        ("correct ~ poly(batch)", r"a factor stands where a number is needed \('batch'\)"),
        ("correct ~ 1 + (bs(flag) | batch)", r"a factor stands where a number is needed \('flag'\)"),
        ("correct ~ I(size + 1 / 0)", r"'I\(size \+ 1/0\)' in .* cannot be coded: a number is divided by zero\.$"),
        ("correct ~ I(size + 9^9^9^9)", r"'I\(size \+ 9\^9\^9\^9\)' in .* cannot be coded: a number in it is too"),
        ("correct ~ bs(center(log(-size)))", "is not finite in 80 of 80 trials"),
        ("correct ~ log(depth)", "is not finite in 20 of 80 trials"),
    ],
)
def test_a_formula_that_does_not_fit_its_trials_is_refused(trials, text, message):
    with pytest.raises(InputError, match=message) as caught:
        learn(text, trials.assign(Intercept=trials["size"]))
    assert not re.search(r"\b[VL]\d\b", str(caught.value))  # the inner names stay inside


def test_missing_values_and_no_trials_are_refused(trials):
    for name in ("correct", "depth", "representation", "participant"):
        holes = trials.copy()
        holes[name] = holes[name].astype(object)
        holes.loc[3, name] = None
        with pytest.raises(FormulaError, match=f"column '{name}' has missing values"):
            learn("correct ~ depth + representation + (1 | participant)", holes)
    with pytest.raises(InputError, match="no trials are left"):
        learn("correct ~ depth", trials.iloc[:0])


def test_new_rows_that_cannot_be_coded_are_refused(trials):
    coding = learn("correct ~ representation * bs(depth)", trials)
    new = trials.iloc[:3]
    with pytest.raises(InputError, match="'Local' is no level of representation; its levels are local, distributed"):
        coding.fixed(new.assign(representation="Local"))
    with pytest.raises(InputError, match="the predictor 'depth' is missing"):
        coding.fixed(new.drop(columns="depth"))
    with pytest.raises(InputError, match="column 'depth' has missing values"):
        coding.fixed(new.assign(depth=[0.0, np.nan, 1.0]))
    with pytest.raises(InputError, match="column 'representation' has missing values"):
        coding.fixed(new.assign(representation=["local", None, "local"]))
    for wrong in (["a", "b", "c"], [0.0, np.inf, 1.0], [True, False, True]):
        with pytest.raises(InputError, match="'depth' takes finite numbers"):
            coding.fixed(new.assign(depth=wrong))
    with pytest.raises(InputError, match=r"a spline reaches no further than the trials .* \(depth from 0 to 1\)\.$"):
        coding.fixed(new.assign(depth=[0.0, 0.5, 1.01]))  # beyond the splines' boundary knots


def test_responses_become_counts(trials):
    n = len(trials)
    data = trials.assign(s=np.arange(n) % 4, f=2, n=5.0, yes=trials["correct"] == 1)
    for left, successes, total in [
        ("correct", data["correct"], np.ones(n)),
        ("yes", data["correct"], np.ones(n)),
        ("cbind(s, f)", data["s"], data["s"] + 2),
        ("s | trials(n)", data["s"], np.full(n, 5)),
    ]:
        design = learn(f"{left} ~ depth", data).design(data)
        np.testing.assert_array_equal(design.successes, successes)
        np.testing.assert_array_equal(design.trials, total)


@pytest.mark.parametrize(
    ("left", "column", "value", "message"),
    [
        ("correct", "correct", 2, "'correct' is 2 in row 3; allowed are 0 and 1"),
        ("correct", "correct", -1, "is -1 in row 3"),
        ("correct", "correct", 0.5, "is 0.5 in row 3"),
        ("s | trials(n)", "s", 6, "is 6 in row 3; allowed are whole numbers of successes from 0 to their total"),
        ("s | trials(n)", "n", 0.5, "in row 3"),
        ("cbind(s, n)", "n", -3, "in row 3"),
    ],
)
def test_an_impossible_response_is_refused_with_its_row(trials, left, column, value, message):
    data = trials.assign(s=1.0, n=5.0).astype({"correct": float})
    data.loc[3, column] = value
    with pytest.raises(InputError, match=message):
        learn(f"{left} ~ depth", data).design(data)


def test_a_response_of_words_is_refused(trials):
    data = trials.assign(correct="yes")
    with pytest.raises(InputError, match="'correct' holds text; it needs 0 and 1"):
        learn("correct ~ depth", data).design(data)


# --- what was learned is kept


def test_new_rows_are_coded_as_the_old_ones_were(trials):
    coding = learn(
        "correct ~ poly(depth, 2) + center(number) + bs(size, df = 5) + C(flag, sum) + offset(scale(size)) "
        "+ (scale(size) | participant)",
        trials,
    )
    few = trials.iloc[[5, 17, 40]]
    whole, part = coding.design(trials), coding.design(few)
    np.testing.assert_allclose(part.X, whole.X[[5, 17, 40]], rtol=1e-12)
    np.testing.assert_allclose(part.offset, whole.offset[[5, 17, 40]], rtol=1e-12)
    np.testing.assert_allclose(part.blocks[0].Z, whole.blocks[0].Z[[5, 17, 40]], rtol=1e-12)
    size = trials["size"]
    np.testing.assert_allclose(part.offset, ((few["size"] - size.mean()) / size.std()), rtol=1e-12)
    np.testing.assert_allclose(
        whole.X[:, coding.names.index("center(number)")], trials["number"] - trials["number"].mean(), atol=1e-12
    )


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(24)))
def test_shuffled_rows_shuffle_the_matrices(order):
    rng = np.random.default_rng(5)
    data = pd.DataFrame(
        {"y": rng.integers(0, 2, 24), "x": rng.normal(size=24), "f": list("cab") * 8, "g": list("stuv") * 6}
    )
    text = "y ~ f * poly(x, 2) + offset(x) + (1 + f | g)"
    one, two = learn(text, data), learn(text, data.iloc[order])
    assert one.names == two.names
    assert one.levels == two.levels
    first, second = one.design(data), two.design(data.iloc[order])
    np.testing.assert_allclose(second.X, first.X[order], atol=1e-12)
    np.testing.assert_array_equal(second.offset, first.offset[order])
    np.testing.assert_array_equal(second.successes, first.successes[order])
    assert second.blocks[0].levels == first.blocks[0].levels
    np.testing.assert_array_equal(second.blocks[0].index, first.blocks[0].index[order])
    np.testing.assert_array_equal(second.blocks[0].Z, first.blocks[0].Z[order])


def test_an_offset_is_the_sum_of_its_expressions(trials):
    coding = learn("correct ~ depth + offset(size / number - 2 * depth) + offset(log(size))", trials)
    expected = trials["size"] / trials["number"] - 2 * trials["depth"] + np.log(trials["size"])
    np.testing.assert_allclose(coding.offset(trials), expected)
    np.testing.assert_array_equal(learn("correct ~ depth", trials).offset(trials), np.zeros(len(trials)))


# --- the grid


def test_the_grid_crosses_factors_and_holds_numbers_at_their_mean(trials):
    coding = learn("correct ~ representation * depth + flag + offset(size) + (number | participant)", trials)
    grid = coding.grid({"depth": [0, 1], "representation": ["distributed"]})
    assert list(grid) == ["depth", "representation", "flag", "size", "number"]
    assert grid[["depth", "representation", "flag"]].to_numpy().tolist() == [
        [0, "distributed", "False"],
        [0, "distributed", "True"],
        [1, "distributed", "False"],
        [1, "distributed", "True"],
    ]
    assert set(grid["size"]) == {trials["size"].mean()}
    assert set(grid["number"]) == {trials["number"].mean()}
    X = coding.fixed(grid)
    np.testing.assert_array_equal(X[:, coding.names.index("representationdistributed:depth")], [0, 0, 1, 1])
    assert set(coding.grid({})["depth"]) == {trials["depth"].mean()}
    assert len(coding.grid({})) == 4
    assert all(block.index.tolist() == [-1] * 4 for block in coding.random(grid))


def test_the_grid_of_a_model_without_predictors_is_one_row(trials):
    coding = learn("correct ~ 1 + (1 | participant)", trials)
    np.testing.assert_array_equal(coding.fixed(coding.grid({})), [[1.0]])
    np.testing.assert_array_equal(coding.random(coding.grid({}))[0].Z, [[1.0]])


def test_the_grid_takes_a_level_as_the_trials_hold_it(trials):
    coding = learn("correct ~ C(number) + flag", trials)
    grid = coding.grid({"number": [2, 10.0], "flag": [True]})
    assert coding.fixed(grid).tolist() == [[1, 0, 0, 1], [1, 0, 1, 1]]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ({"dept": [0]}, r"'dept' is no predictor of the model \(did you mean 'depth'\?\)"),
        ({"participant": ["p9"]}, "'participant' is no predictor"),
        ({"representation": ["local", "both"]}, "'both' is no level of representation"),
        ({"depth": ["deep"]}, "'depth' takes finite numbers"),
        ({"depth": [np.inf]}, "'depth' takes finite numbers"),
        ({"depth": []}, "no values are given for depth"),
    ],
)
def test_a_grid_beyond_the_model_is_refused(trials, at, message):
    with pytest.raises(InputError, match=message):
        learn("correct ~ representation * depth + (1 | participant)", trials).grid(at)


def test_many_trials_take_seconds():
    rng = np.random.default_rng(1)
    n = 200_000
    data = pd.DataFrame(
        {
            "y": rng.integers(0, 2, n),
            "f": rng.choice(["local", "distributed"], n),
            "x": rng.random(n),
            "person": rng.integers(0, 1000, n).astype(str),
            "pair": rng.integers(0, 5000, n),
            "lab": rng.choice(list("abcdef"), n),
        }
    )
    start = time.perf_counter()
    design = learn("y ~ f * x + (1 + f | person) + (1 + f | pair) + (1 + x | lab/person)", data).design(data)
    assert time.perf_counter() - start < 10
    assert [len(block.levels) for block in design.blocks] == [1000, 5000, 6, len(set(data["lab"] + data["person"]))]
