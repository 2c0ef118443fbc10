"""Formulas taken apart as lme4 does, and everything that is no formula refused where it stands."""

import builtins
import string
import time

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psychostats.design import code
from psychostats.errors import FormulaError
from psychostats.formula import ALLOWED_CALLS, Bar, Response, parse_formula


def bars(text):
    return [(bar.terms.replace("`", ""), bar.group, bar.correlated) for bar in parse_formula(text).bars]


def test_the_default_analysis():
    text = "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | pair)"
    formula = parse_formula(text)
    assert formula.text == text
    assert formula.response == Response("correct")
    assert formula.fixed == "`representation` * `depth`"
    assert formula.bars == (
        Bar("1 + `representation`", ("participant",), True),
        Bar("1 + `representation`", ("pair",), True),
    )
    assert formula.groups == ("participant", "pair")
    assert formula.variables == ("correct", "representation", "depth", "participant", "pair")
    assert [str(bar) for bar in formula.bars] == ["(1 + representation | participant)", "(1 + representation | pair)"]


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ("(1 | g)", [("1", "g", True)]),
        ("(x || g)", [("x", "g", False)]),
        ("(0 + x | g)", [("0 + x", "g", True)]),
        ("(-1 + x | g)", [("-1 + x", "g", True)]),
        ("(1 | g) + (0 + x | g)", [("1", "g", True), ("0 + x", "g", True)]),
        ("(1 | a/b)", [("1", "a", True), ("1", "a:b", True)]),
        ("(x || a/b/c)", [("x", "a", False), ("x", "a:b", False), ("x", "a:b:c", False)]),
        ("(1 | a:b)", [("1", "a:b", True)]),
        ("(1 | a:b/c)", [("1", "a:b", True), ("1", "a:b:c", True)]),
        ("(1 | a/b:c)", [("1", "a", True), ("1", "a:b:c", True)]),
        ("(1 | (g))", [("1", "g", True)]),
        ("(x * f | g)", [("x * f", "g", True)]),
        ("(1 | `who is it`)", [("1", "who is it", True)]),
        ("(1 | log)", [("1", "log", True)]),
    ],
)
def test_group_effects(right, expected):
    assert bars(f"y ~ {right}") == expected
    assert parse_formula(f"y ~ {right}").fixed == "1"


def test_the_order_of_fixed_and_group_effects_does_not_matter():
    one, two = parse_formula("y ~ a + (1 | g) - 1 + b"), parse_formula("y ~ (1 | g) + a - 1 + b")
    assert one.fixed == two.fixed == "`a` - 1 + `b`"
    assert one.bars == two.bars


@pytest.mark.parametrize(
    ("left", "expected", "counts"),
    [
        ("y", Response("y"), False),
        ("`is right`", Response("is right"), False),
        ("cbind(s, f)", Response("s", failures="f"), True),
        ("s | trials(n)", Response("s", trials="n"), True),
    ],
)
def test_responses(left, expected, counts):
    formula = parse_formula(f"{left} ~ x")
    assert formula.response == expected
    assert formula.response.counts is counts
    assert formula.variables == (*expected.columns, "x")


@pytest.mark.parametrize(
    "left", ["log(y)", "y + z", "cbind(s)", "cbind(s, n - s)", "s | n", "trials(n)", "s | trials(n, m)", "1", "(y)"]
)
def test_other_responses_are_refused(left):
    with pytest.raises(FormulaError):
        parse_formula(f"{left} ~ x")


def test_offsets_stand_apart_and_are_one_column_each():
    formula = parse_formula("y ~ x + offset(log(n)) + offset(2 * z - w)")
    assert formula.fixed == "`x`"
    assert formula.offsets == ("I(log(`n`))", "I(2.0 * `z` - `w`)")
    assert formula.variables == ("y", "x", "n", "z", "w")


def test_power_within_a_call_is_written_as_pythons():
    assert parse_formula("y ~ I(x^2) + (a + b)^2").fixed == "I(`x`**2.0) + (`a` + `b`)**2"


def test_codings_and_keywords_are_no_columns():
    formula = parse_formula("y ~ C(f, sum) + poly(x, degree = 2) + bs(z, 4) + (C(f, sdif) | g)")
    assert formula.variables == ("y", "f", "x", "z", "g")
    assert formula.fixed == "C(`f`, contr.sum) + poly(`x`, degree = 2) + bs(`z`, 4)"
    assert formula.bars[0].terms == "C(`f`, contr.diff)"


# What is wrong, and the text that starts where the mark must point.
FAULTS = {
    "y ~ f'x'": "'x'",
    "y ~ x[0]": "[0]",
    "y ~ {x}": "{x}",
    "y ~ I(x > 0)": "> 0",
    "y ~ x; z": "; z",
    "y ~ @x": "@x",
    "y ~ a %in% b": "%in%",
    "y ~ a \\ b": "\\ b",
    "y ~ np.log(x)": "np.log",
    "y ~ I(abs(x))": "abs",
    "y ~ eval(x)": "eval",
    "y ~ \uff4c\uff4f\uff47(x)": "\uff4c\uff4f\uff47",  # full-width letters, which Python would read as log
    "y ~ l\u043eg(x)": "l\u043eg",  # a Cyrillic o
    "y ~ C(x, sum(1))": "sum(1)",
    "y ~ log(x)(z)": "(z)",
    "y ~ `a`(x)": "(x)",
    "y ~ (a)(b)": "(b)",
    "y ~ I(a bs(x))": "bs(x)",  # run together it would be abs(x)
    "y ~ x z": "z",
    "y ~ I(x if z else w)": "if z",
    "y ~ (x := 1)": "= 1",
    "y ~ I(lambda: x)": ": x",
    "y ~ log(*x)": "*x",
    "y ~ log(x, **z)": "**z",
    "y ~ log(x, z)": "log(x, z)",  # NumPy would write the logarithm into z
    "y ~ log(x = z)": "x = z",
    "y ~ exp(2)": "2)",
    "y ~ poly(x, z)": "poly",
    "y ~ poly(x, 2, 3)": "poly",
    "y ~ poly(x, degree = z)": "poly",
    "y ~ poly(x, 0)": "poly",
    "y ~ bs(x, df = 4, df = 4)": "bs",
    "y ~ bs(x, knots = 4)": "bs",
    "y ~ bs(x, 2)": "bs",
    "y ~ bs(x, df = 4, degree = 5)": "bs",
    "y ~ scale(poly(x, 2))": "poly",
    "y ~ x * 1": "1",
    "y ~ 1:x": "1:x",
    "y ~ (1 + x) * z": "1 + x",
    "y ~ 0 * x": "0 * x",
    "y ~ z + (1 * x | g)": "1 * x",
    "y ~ log(C(f))": "C(f)",
    "y ~ C(log(x))": "C(log",
    "y ~ C(x, helmert)": "helmert",
    "y ~ C(x, sum, sdif)": "C(x",
    "y ~ C(x, levels = z)": "levels",
    "y ~ mo(x + z)": "mo(x",
    "y ~ I(mo(x))": "mo(x",
    "y ~ offset(x) * z": "offset",
    "y ~ x:offset(z)": "offset",
    "y ~ log(offset(z))": "offset",
    "y ~ offset(x, z)": "offset",
    "y ~ x - offset(z)": "offset",
    "y ~ cbind(a, b)": "cbind",
    "y ~ trials(n)": "trials",
    "y ~ I()": ")",
    "y ~ ()": ")",
    "y ~ (x": "(x",
    "y ~ x) + (z": ") + (z",
    "y ~ * x": "* x",
    "y ~ x +": "+",
    "y ~ x + + z": "+ z",
    "y ~ --x": "-x",
    "y ~ x::z": ":z",
    "y ~ a, b": ", b",
    "y ~ a = b": "= b",
    "y ~ 2": "2",
    "y ~ x + 1e3": "1e3",
    "y ~ x^z": "z",
    "y ~ (a + b)^0": "0",
    "y ~ x | g": "| g",
    "y ~ (x | g) * z": "| g",
    "y ~ z + (x | g | h)": "| h",
    "y ~ ((1 | g) | h)": "| g",
    "y ~ (1 | g + h)": "+ h",
    "y ~ (1 | 1)": "1)",
    "y ~ (1 | log(g))": "(g)",
    "y ~ (| g)": "| g",
    "y ~ (1 | )": ")",
    "y ~ z - (1 | g)": "(1 | g)",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_fault_is_marked_where_it_stands(text):
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    message, quoted, mark = str(caught.value).split("\n")
    assert message
    assert quoted == f"  {text}"
    assert text[mark.index("^") - 2 :].startswith(FAULTS[text])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "one response, one '~'"),
        ("y", "one response, one '~'"),
        ("~ x", "one response, one '~'"),
        ("y ~ x ~ z", "one response, one '~'"),
        ("y ~", "nothing stands right"),
        ("y ~ x + (1 | g) + (1 | g)", r"\(1 \| g\) stands twice"),
        ("y ~ x + y", "the response 'y' stands right"),
        ("s | trials(n) ~ n", "the response 'n' stands right"),
        ("y ~ (1 | y)", "the response 'y' stands right"),
        ("y ~ lgo(x)", "did you mean 'log'"),
        ("y ~ mo(x, z)", "takes one column"),
        ("y ~ C(x, helmert)", "allowed are treatment, sum, sdif"),
    ],
)
def test_a_fault_of_the_whole_is_named(text, message):
    with pytest.raises(FormulaError, match=message):
        parse_formula(text)


def test_only_what_is_allowed_can_be_called():
    for name in {*dir(builtins), "open", "np", "hashed", "lag", "contr", "treatment"} - set(ALLOWED_CALLS):
        with pytest.raises(FormulaError, match="is not allowed"):
            parse_formula(f"y ~ {name}(x)")


@pytest.mark.parametrize(
    "name",
    ["__import__('os').system('touch evaluated')", "x.__class__", "lambda: 1", "{open}", "log(", "print(1)", "1+1"],
)
def test_a_column_in_backticks_is_a_name_whatever_it_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = pd.DataFrame({"y": [0, 1, 0, 1], "x": [1.0, 2.0, 4.0, 8.0], name: [3.0, 1.0, 2.0, 5.0]})
    coding = code(parse_formula(f"y ~ `{name}` + I(x * `{name}`)"), data)
    assert coding.fixed(data).tolist() == [[1, 3, 3], [1, 1, 2], [1, 2, 8], [1, 5, 40]]
    with pytest.raises(FormulaError, match="no column of the trials"):
        code(parse_formula(f"y ~ `{name}`"), data[["y", "x"]])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["__import__", "x.__class__", "exit", "lambda", "None", "np", "log"])
def test_a_bare_name_is_only_ever_a_column(name):
    with pytest.raises(FormulaError, match=f"names '{name}', which is no column"):
        code(parse_formula(f"y ~ {name} + I({name})"), pd.DataFrame({"y": [0, 1]}))


@settings(max_examples=300, deadline=None)
@given(st.text(string.ascii_letters + string.digits + " _.~+-*/:^|()[]{}<>=!,;@#$%&?'\"\\`\n\té☃", max_size=40))
def test_any_text_is_a_formula_or_refused(text):
    try:
        formula = parse_formula(f"y ~ {text}")
    except FormulaError:
        return
    assert parse_formula(formula.text) == formula


NAMES = st.sampled_from(["a", "b1", "c.d", "log", "_x", "é", "`two words`", "`C(x)`", "`a:b`"])
LEAVES = st.one_of(
    NAMES,
    st.builds("I({}^{})".format, NAMES, st.integers(2, 3)),
    st.builds("log({} + {})".format, NAMES, NAMES),
    st.builds("C({}, {})".format, NAMES, st.sampled_from(["sum", "sdif", "treatment"])),
    st.builds("poly({}, {})".format, NAMES, st.integers(1, 4)),
)
TERMS = st.one_of(LEAVES, st.builds("{}{}{}".format, LEAVES, st.sampled_from([":", " * ", "*", " / "]), LEAVES))
SUMS = st.builds(
    lambda start, terms: " + ".join([*start, *terms]),
    st.sampled_from([[], ["1"], ["0"], ["-1"]]),
    st.lists(TERMS, min_size=1, max_size=3),
)
GROUPS = st.lists(NAMES, min_size=1, max_size=3, unique=True)


@settings(max_examples=200, deadline=None)
@given(
    SUMS,
    st.lists(
        st.tuples(SUMS, GROUPS, st.sampled_from(["|", "||"])), max_size=3, unique_by=lambda bar: (bar[0], *bar[1])
    ),
)
def test_any_formula_gives_back_its_group_effects(fixed, written):
    text = "y ~ " + " + ".join([fixed, *(f"({terms} {bar} {'/'.join(groups)})" for terms, groups, bar in written)])
    plain = parse_formula(f"y ~ {fixed}").fixed
    expected = [
        Bar(parse_formula(f"y ~ {terms}").fixed, factors[: n + 1], bar == "|")
        for terms, groups, bar in written
        for factors in [tuple(name.strip("`") for name in groups)]
        for n in range(len(factors))
    ]
    if len(set(expected)) < len(expected):
        return  # (1 | a/b) + (1 | a/c) ask for (1 | a) twice, which is refused
    formula = parse_formula(text)
    assert formula.fixed == plain
    assert list(formula.bars) == expected
    assert parse_formula(formula.text) == formula


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("y ~ (0 + x)", "0 + `x`"),
        ("y ~ (x - 1)", "`x` - 1"),
        ("y ~ x + (z + (-1))", "`x` + `z` - 1"),
        ("y ~ ((x))", "`x`"),
        ("y ~ x + (I(z - 1))", "`x` + I(`z` - 1.0)"),
        ("y ~ (x + z):w", "(`x` + `z`):`w`"),
    ],
)
def test_parentheses_around_a_sum_change_nothing(text, fixed):
    assert parse_formula(text).fixed == fixed


def test_parentheses_within_a_bar_are_opened_too():
    assert parse_formula("y ~ 1 + (x + (z - 1) | g)").bars[0].terms == "`x` + `z` - 1"


@pytest.mark.parametrize("text", ["y ~ (x - 1) * z", "y ~ (0 + x):z", "y ~ x - (z - w)", "y ~ x + ((z - 1) * w | g)"])
def test_nothing_can_be_removed_within_parentheses_that_are_multiplied(text):
    with pytest.raises(FormulaError, match="can be removed only outside parentheses"):
        parse_formula(text)


def test_products_that_would_run_for_hours_are_refused_at_once():
    names = [f"x{i}" for i in range(20)]
    start = time.perf_counter()
    for right in (
        "*".join(names),
        f"({'+'.join(names[:5])})^9",
        f"({'+'.join(names)})^2 * ({'+'.join(names)})^2",
        "(" * 12 + "a + b" + ")^9" * 12,
        f"1 + ({'*'.join(names)} | g)",
        f"({'+'.join(names)}):({'+'.join(names)}):({'+'.join(names)})",
    ):
        with pytest.raises(FormulaError, match=r"multiplied out, .* has more than 2,000 terms; ask for fewer"):
            parse_formula(f"y ~ {right}")
    assert time.perf_counter() - start < 1
    for right in ("*".join(names[:10]), f"({'+'.join(names)})^2", "(a + b)^9", "a^9^9^9", "a/b/c + (a*b*c | g)"):
        parse_formula(f"y ~ {right}")


def test_messages_write_a_formula_as_its_user_did():
    (bar,) = parse_formula("y ~ 1 + (C(f, sum) + I(x^2) + (a + b)^2 | g)").bars
    assert str(bar) == "(C(f, sum) + I(x^2) + (a + b)^2 | g)"


def test_formulas_that_no_parser_survives_are_refused():
    with pytest.raises(FormulaError, match="letters; 5,000 are the most"):
        parse_formula("y ~ " + " + ".join(f"x{i}" for i in range(2000)))
    with pytest.raises(FormulaError, match="more than 50 parentheses"):
        parse_formula("y ~ " + "(" * 60 + "x" + ")" * 60)


def test_powers_of_powers_do_not_run_for_ever():
    frame = pd.DataFrame({"y": [0, 1, 0], "x": [1.0, 2.0, 4.0]})
    with pytest.raises(FormulaError, match="cannot be coded"):
        code(parse_formula("y ~ I(9^9^9^9^9 * x)"), frame)
    assert code(parse_formula("y ~ I(x^2) + I(2^x)"), frame).names == ("Intercept", "I(x^2)", "I(2^x)")
