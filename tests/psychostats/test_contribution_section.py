"""Sentences are no stronger than the table of verdicts, and figures and tables show what they are made of."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from nulling_tables import make_tables

from psychostats.contribution_measures import MEASURES
from psychostats.contribution_section import (
    CLAIM,
    describe_contributions,
    draw_contributions,
    say_contributions,
)
from psychostats.contributions import Contributions, compare_contributions
from psychostats.document import Document, Figure, Link, Table, Words
from psychostats.figures import save_figure
from psychostats.rendering import render_html


def plain(words: Words) -> str:
    if isinstance(words, str):
        return words
    return "".join(run.text for run in words if not isinstance(run, Link) and hasattr(run, "text"))


def verdicts(**says: str) -> pd.DataFrame:
    """One row a measure and method, named ``measure_method``, the same for the change."""
    rows = []
    for name, said in says.items():
        measure, _, method = name.rpartition("_")
        words, unit, over = MEASURES[measure]
        row: dict[str, Any] = {"measure": measure, "words": words, "method": method, "unit": unit, "over": over}
        row |= {"estimate": 0.5, "conf_low": 0.1, "conf_high": 0.9, "conf_level": 0.95, "interval": "wald"}
        row |= {"label": "95 % Wald confidence interval", "says": said, "says_change": said}
        rows.append(row | {"change": 0.5, "change_low": 0.1, "change_high": 0.9})
    return pd.DataFrame(rows)


OPENINGS = {
    frozenset({"higher"}): "All measures agree with",
    frozenset({"lower"}): "All measures contradict the",
    frozenset({"open"}): "It is open by every measure",
    frozenset({"unknown"}): "No measure has an interval",
    frozenset({"higher", "open"}): "Some measures agree and none contradicts",
    frozenset({"lower", "open"}): "Some measures contradict and none supports",
    frozenset({"higher", "lower"}): "The measures disagree",
}


def test_the_opening_is_never_stronger_than_the_table() -> None:
    for sides in itertools.product(("higher", "lower", "open", "unknown"), repeat=3):
        known = frozenset(sides) - {"unknown"} or frozenset({"unknown"})
        expected = OPENINGS[known if not {"higher", "lower"} <= known else frozenset({"higher", "lower"})]
        table = verdicts(signed_subtract=sides[0], ratio_subtract=sides[1], selectivity_reconstruct=sides[2])
        said = plain(say_contributions(table)[0])
        assert said.startswith(expected) and CLAIM in said


def test_every_measure_is_named_on_its_side() -> None:
    table = verdicts(
        size_subtract="higher", ratio_subtract="lower", signed_reconstruct="open", ratio_reconstruct="open"
    )
    said = plain(say_contributions(table)[0])
    assert (
        "Nulled by subtract, of 2 measures 1 says so (size of the drop), 1 says the opposite (size, as a ratio)."
        in said
    )
    assert "Nulled by reconstruct, all 2 measures leave it open." in said


def test_a_larger_norm_and_the_dictionarys_error_are_said_beside_a_measure_that_they_explain() -> None:
    norm = "norm that is removed: at equal norm no measure says that they contribute "
    for side, more in (("higher", "more"), ("lower", "less")):
        said = plain(say_contributions(verdicts(size_subtract=side, matched_subtract="open"))[-1])
        assert norm + more in said and ("larger" in said) == (side == "higher")
        for table in (
            verdicts(size_subtract=side, matched_subtract="open", regression_subtract=side),
            verdicts(size_subtract=side),
            verdicts(size_subtract="open", matched_subtract="open"),
        ):
            assert not any(norm in plain(words) for words in say_contributions(table))
    error = "Only reconstruction charges the dictionary's error"
    charged = say_contributions(verdicts(size_reconstruct="higher", within_reconstruct="open"))
    assert any(error in plain(words) for words in charged)
    other = verdicts(size_reconstruct="lower", within_reconstruct="lower", most_active_reconstruct="higher")
    assert any(error in plain(words) for words in say_contributions(other))
    same = say_contributions(verdicts(size_reconstruct="higher", within_reconstruct="higher"))
    assert not any(error in plain(words) for words in same)


@pytest.fixture(scope="module")
def found() -> Contributions:
    return compare_contributions(**make_tables(difference=1.0, error=0.5, share=True, images=12), replicates=200)


def test_the_section_renders_with_every_figure_described(found: Contributions, tmp_path: Path) -> None:
    figures = {name: save_figure(plot, tmp_path / name) for name, plot in draw_contributions(found).items()}
    blocks = describe_contributions(found, figures)
    drawn = [block for block in blocks if isinstance(block, Figure)]
    assert len(drawn) == 2 and all(len(figure.alt) > 80 for figure in drawn)
    page = render_html(Document("Contributions", tuple(blocks)), tmp_path / "page.html").read_text(encoding="utf-8")
    assert "9 directions are distinct" in page
    tables = [block for block in blocks if isinstance(block, Table)]
    assert len(tables) == 5 and len(tables[0].frame) == len(found.verdicts)
    assert not [block for block in describe_contributions(found, {}) if isinstance(block, Figure)]


def test_figures_say_what_their_bars_are_and_show_every_raw_point(found: Contributions) -> None:
    depth, forest = draw_contributions(found).values()
    said = " ".join(str(depth.labels.caption).split())
    assert "bars: 95 % bootstrap confidence interval over pairs" in said and "Small points: means over images" in said
    assert len(found.by_pair) in [len(layer._data) for layer in depth.layers if isinstance(layer._data, pd.DataFrame)]
    said = " ".join(str(forest.labels.caption).split())
    for label, over in zip(found.verdicts["label"], found.verdicts["over"], strict=True):
        assert f"{label} over {over}" in said


def test_one_layer_one_definition_and_few_tables_still_make_a_section(tmp_path: Path) -> None:
    tables = make_tables(layers=1, pairs=4, images=6)
    rows = tables["contributions"]
    tables["contributions"] = rows[(rows["method"] == "reconstruct") & (rows["selection"] == "fixed")]
    known = {name: tables[name] for name in ("contributions", "features", "pairs")}
    few = compare_contributions(**known, replicates=100)
    figures = {name: save_figure(plot, tmp_path / name) for name, plot in draw_contributions(few).items()}
    assert render_html(Document("Few", tuple(describe_contributions(few, figures))), tmp_path / "page.html").exists()
    assert "with depth" not in plain(say_contributions(few.verdicts)[-1])
