"""Equations as plain lines: what each sign becomes, and what is refused."""

from __future__ import annotations

import pytest

from psychostats.errors import ReportError
from psychostats.notation import Symbol, read_line, read_symbols


def spell(symbols: list[Symbol]) -> str:
    """Write symbols back with explicit braces, so that the structure can be read."""
    out = ""
    for symbol in symbols:
        if symbol["kind"] == "scripts":
            sub, sup = (spell(symbol[key]) for key in ("sub", "sup"))
            out += spell(symbol["base"]) + (f"_{{{sub}}}" if sub else "") + (f"^{{{sup}}}" if sup else "")
        else:
            out += " " if symbol["kind"] == "space" else symbol["text"]
    return out


@pytest.mark.parametrize(
    ("source", "structure"),
    [
        ("β_0", "β_{0}"),
        ("u_(0, participant[i])", "u_{0,participant[i]}"),
        ("logit^(-1)(η_i)", "logit^{−1}(η_{i})"),
        ("β_k^2 <= 3", "β_{k}^{2}≤3"),
        ("x_((a) + b)", "x_{(a)+b}"),
        ("y ~ Normal(0, 1.5)", "y∼Normal(0,1.5)"),
        ("β_2 depth_i", "β_{2} depth_{i}"),
        ("a b", "ab"),
    ],
)
def test_lines_are_read_as_meant(source: str, structure: str) -> None:
    assert spell(read_symbols(source, ())) == structure


def test_letters_are_variables_and_words_are_upright() -> None:
    assert [s["kind"] for s in read_symbols("x ∈ Normal", ())] == ["variable", "relation", "word"]


def test_values_are_taken_as_they_are() -> None:
    symbols = read_symbols("β_1 {0}_i", ("a_b^c $x$ {0}",))
    assert spell(symbols) == "β_{1} a_b^c $x$ {0}_{i}"


def test_a_line_is_aligned_at_its_first_relation() -> None:
    line = read_line("p_i = g + (1 - g) F(η_i)", ())
    assert [spell(line[part]) for part in ("left", "relation", "right")] == ["p_{i}", "=", "g+(1−g)F(η_{i})"]
    assert spell(read_line("a + b", ())["right"]) == "a+b"


@pytest.mark.parametrize("source", ["_i", "x_", "x_(a", "{1}"])
def test_broken_lines_are_refused(source: str) -> None:
    with pytest.raises(ReportError, match="equation"):
        read_symbols(source, ("one",))
