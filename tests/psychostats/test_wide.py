"""Wide tables: one row a participant becomes one row a trial."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psychostats.parts import Part
from psychostats.wide import lengthen, wide_pattern

WIDE = Part(
    {
        "participant": ["p1", "p2"],
        "age": ["30", "41"],
        "correct_1": ["1", "0"],
        "rt_1": ["0.5", "0.75"],
        "correct_2": ["0", ""],
        "rt_2": ["1.5", "NA"],
        "correct_10": ["1", "1"],
        "rt_10": ["", "2.5"],
        "score_1": ["9", "8"],
        "score_2": ["7", "6"],
    },
    rows=[2, 4],
    words=frozenset({"participant", "correct_1", "correct_2", "correct_10", "rt_1"}),
)


def said(part: Part) -> str:
    assert part.rows == []
    (fault,) = part.faults
    return fault.message


def test_one_row_a_participant_becomes_one_row_a_trial() -> None:
    part = lengthen(WIDE)
    assert part.rows == [2, 2, 2, 4, 4]
    assert part.cells == {
        "participant": ["p1", "p1", "p1", "p2", "p2"],
        "age": ["30", "30", "30", "41", "41"],
        "score_1": ["9", "9", "9", "8", "8"],  # numbered otherwise than correct, and not known
        "score_2": ["7", "7", "7", "6", "6"],
        "trial": [1, 2, 10, 1, 10],
        "correct": ["1", "0", "1", "0", "1"],
        "rt": ["0.5", "1.5", "", "0.75", "2.5"],
    }
    assert part.words == {"participant", "correct"}
    assert part.notes == ("One row a participant: 2 rows are read as 5 trials; 1 more are wholly blank, and none.",)


def test_a_pattern_takes_apart_all_that_matches_or_what_is_named() -> None:
    every = lengthen(WIDE, "{column}_{trial}")
    assert every.cells["score"] == ["9", "7", None, "8", "6", None]
    named = lengthen(WIDE, "{column}_{trial}", ["correct", "rt"])
    assert named.cells == lengthen(WIDE).cells
    assert "Column 'corect' is to be taken apart" in said(lengthen(WIDE, "{column}_{trial}", ["corect"]))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{column}_{trial}", ["correct_1", "correct_2"]),
        ("t{trial}.{column}", ["t1.correct", "t02.correct"]),
        ("{column}{trial}", ["correct1", "correct2"]),
        ("{trial}-{column}", ["1-correct", "2-correct"]),
        ("{column} (trial {trial})", ["correct (trial 1)", "correct (trial 2)"]),
        ("[{column}|{trial}]*", ["[correct|1]*", "[correct|2]*"]),
    ],
)
def test_patterns_are_text_and_nothing_else(pattern: str, names: list[str]) -> None:
    part = lengthen(Part({"participant": ["p"], names[0]: [1], names[1]: [0]}, rows=[2]), pattern)
    assert part.faults == ()
    assert (part.cells["trial"], part.cells["correct"]) == ([1, 2], [1, 0])


@pytest.mark.parametrize(
    ("columns", "pattern"),
    [
        (["participant", "correct_1", "correct_2"], "{column}_{trial}"),
        (["correct.1", "correct.2"], "{column}.{trial}"),
        (["correct 1", "correct 2"], "{column} {trial}"),
        (["correct1", "correct2"], "{column}{trial}"),
        (["correct", "correct_1", "correct_2"], None),
        (["correct_1", "rt_1", "rt_2"], None),
        (["correct_1", "correct.2"], None),
        (["participant", "trial", "rt"], None),
        ([], None),
    ],
)
def test_wide_tables_are_known_by_two_numbered_columns_of_correct(columns: list[str], pattern: str | None) -> None:
    assert wide_pattern(columns) == pattern


@pytest.mark.parametrize("pattern", ["", "{column}", "{trial}", "{column}{column}{trial}", "{colum}_{trial}", "{0}"])
def test_bad_patterns_are_one_sentence(pattern: str) -> None:
    assert "each once" in said(lengthen(WIDE, pattern))


def test_what_does_not_fit_is_one_sentence() -> None:
    assert "No columns are called '{column}-{trial}' for two trials" in said(lengthen(WIDE, "{column}-{trial}"))
    assert "no wide one" in said(lengthen(Part({"correct": [1]}, rows=[2])))
    cells: dict[str, list[Any]] = {**WIDE.cells, "correct_01": ["1", "1"]}
    assert "'correct_1', 'correct_01' are all 'correct' of trial 1" in said(lengthen(replace(WIDE, cells=cells)))
    cells = {**WIDE.cells, "rt": ["1", "1"]}
    assert "has a column 'rt' beside 'rt_1'" in said(lengthen(replace(WIDE, cells=cells)))
    cells = {**WIDE.cells, "trial": ["1", "1"]}
    assert "has a column 'trial' although" in said(lengthen(replace(WIDE, cells=cells)))
    blank = Part({"participant": ["p"], "correct_1": [""], "correct_2": [None]}, rows=[2])
    assert "Every trial of the wide table is blank" in said(lengthen(blank))


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(["correct", "rt", "trial", "x"]).flatmap(lambda a: st.text("_. 019", max_size=4).map(a.__add__))
    ),
    st.none() | st.text(max_size=20) | st.just("{column}_{trial}"),
    st.integers(0, 3),
)
def test_no_table_and_no_pattern_is_an_exception(names: list[str], pattern: str | None, n_rows: int) -> None:
    part = lengthen(Part({name: [None, 1, "a"][:n_rows] for name in names}, rows=list(range(n_rows))), pattern)
    assert all(len(column) == len(part.rows) for column in part.cells.values())


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["0", "1", ""]), min_size=3, max_size=3), min_size=1, max_size=6))
def test_no_answer_is_lost_or_made(answers: list[list[str]]) -> None:
    cells: dict[str, list[Any]] = {"participant": [f"p{n}" for n in range(len(answers))]}
    for trial in range(3):
        cells[f"correct_{trial + 1}"] = [row[trial] for row in answers]
    part = lengthen(Part(cells, rows=list(range(2, len(answers) + 2))))
    found = list(zip(part.rows, part.cells.get("trial", ()), part.cells.get("correct", ()), strict=True))
    truth = [(n + 2, t + 1, cell) for n, row in enumerate(answers) for t, cell in enumerate(row) if cell]
    assert found == truth
