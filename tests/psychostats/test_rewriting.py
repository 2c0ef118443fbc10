"""Formulas rewritten: parts as they were written, other codings, fewer terms."""

from __future__ import annotations

import pytest

from psychostats.errors import FormulaError
from psychostats.rewriting import (
    Group,
    names_in,
    read_fixed,
    read_groups,
    recode,
    take_apart,
    without_column,
    without_interaction,
)


def test_a_formula_comes_apart_and_together():
    parts = take_apart("correct~a*b+(1+a|participant)+ (1||batch/cask) + offset(x) - 1")
    assert parts.response == "correct" and parts.fixed == "a * b + offset(x) - 1"
    assert parts.groups == (Group("1 + a", "|", "participant"), Group("1", "||", "batch / cask"))
    assert parts.text == "correct ~ a * b + offset(x) - 1 + (1 + a | participant) + (1 || batch / cask)"
    assert take_apart("y ~ (1 | g)").fixed == "1"
    assert take_apart("y ~ `my col` * b").fixed == "`my col` * b"
    assert [group.has_slopes for group in parts.groups] == [True, False] and parts.groups[0].names("a")


def test_what_is_given_apart_is_read_apart():
    assert read_groups("(1|a)  + (1 + x || b)") == (Group("1", "|", "a"), Group("1 + x", "||", "b"))
    assert read_groups(" ") == () and read_fixed("a*b") == "a * b"
    for read, text in ((read_groups, "x + (1 | a)"), (read_groups, "x"), (read_fixed, "x + (1 | a)")):
        with pytest.raises(FormulaError):
            read(text)


def test_codings_are_replaced_where_a_column_stands():
    codings = {"a": "sum", "my col": "sdif"}
    assert recode("a * x + a:x + log(z)", codings) == "C(a, sum) * x + C(a, sum):x + log(z)"
    assert recode("C(a, sdif) + C(a) + ab", codings) == "C(a, sum) + C(a, sum) + ab"
    assert recode("C(a, sum) * x", {"a": "treatment"}) == "a * x"
    assert recode("`my col` + 1", codings) == "C(`my col`, sdif) + 1"
    with pytest.raises(FormulaError, match="stands in a call"):
        recode("log(a)", codings)


@pytest.mark.parametrize(
    ("fixed", "apart", "gone"),
    [
        ("a * d", "a + d", "a"),
        ("a * b * d + z", "a * b + d + z", "a * b + z"),
        ("a + d + a:d", "a + d", "a"),
        ("poly(d, 2) * a", "a + poly(d, 2)", "a"),
        ("a + d", None, "a"),
        ("a", None, None),
        ("d", None, None),
        ("(a + d)^2", None, None),
        ("a / d", None, None),
        ("a * d - 1", None, None),
    ],
)
def test_a_column_leaves_its_products_or_the_formula(fixed, apart, gone):
    assert without_interaction(fixed, "d") == apart
    assert without_column(fixed, "d") == gone


def test_names_are_columns_alone():
    assert names_in("C(a, sum) * log(b) + bs(c, df = 3) + `d e`") == ("a", "b", "c", "d e")
