"""A document as plain values: numbers, shared pictures, and what is refused before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import SVG, encoded, noise, picture, ranking, sample, trial

from psychostats import tree as room
from psychostats.document import Block, Callout, Document, Equation, Figure, Grid, Panel, Picture
from psychostats.errors import ReportError
from psychostats.tree import build_tree, pictures, walk


def built(*blocks: Block) -> dict[str, Any]:
    return build_tree(Document("t", blocks), str)


def test_grids_are_counted_with_figures() -> None:
    tree = built(Figure(SVG, "c", "alt"), trial(), Equation(("x",)), Figure(noise(1), "c", "a JPEG"), ranking(2))
    assert [(block["kind"], block["number"]) for block in tree["blocks"]] == [
        ("figure", "1"),
        ("grid", "2"),
        ("equation", "1"),
        ("figure", "3"),
        ("grid", "4"),
    ]
    assert tree["blocks"][3]["suffix"] == "jpg"


def test_a_column_of_cells_is_as_wide_as_its_widest_panel() -> None:
    tree = built(trial(), ranking(3))
    assert [column["pictures"] for column in tree["blocks"][0]["columns"]] == [3, 1, 3]
    assert [(c["head"], c["pictures"], c["align"]) for c in tree["blocks"][1]["columns"]] == [
        ("Feature", 0, "left"),
        ("Images", 9, "left"),
        ("Accuracy", 0, "right"),
    ]
    few = built(Grid(((Panel((picture(1),), 5),),), "c", "alt"))
    assert few["blocks"][0]["columns"][0]["pictures"] == 1
    assert not few["blocks"][0]["headed"]


def test_all_that_holds_an_image_is_found_in_its_order() -> None:
    inside = Callout("note", "t", (Figure(SVG, "c", "inside"), Grid(((Panel((picture(5),), 1), "x"),), "c", "alt")))
    found = [one["alt"] for one in pictures(built(inside, trial())["blocks"])]
    assert found == ["inside", "picture 5", *(f"picture {k}" for k in (*range(9), 18, 19, *range(9, 18)))]
    assert sum(1 for _ in walk(built(inside)["blocks"])) == 3


def test_a_picture_that_is_shown_often_is_made_small_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(encoded(np.zeros((300, 300, 3), np.uint8)))
    asked = []
    monkeypatch.setattr(room, "shrink", lambda image, side: asked.append(side) or image)
    panel = Panel(tuple(Picture(path, f"alt {k}") for k in range(9)), 3)
    built(Grid(((panel, panel),), "c", "alt"), Grid(((panel,),), "c", "alt"), Grid(((panel,),), "c", "alt", side=64))
    assert asked == [128, 64]


def test_a_figure_says_where_its_png_would_be() -> None:
    tree = build_tree(sample(), str)
    assert {block["beside"] for block in tree["blocks"] if block["kind"] == "figure"} == {""}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (Figure(SVG, "c", ""), r"figure '' has no alternative text"),
        (Figure(SVG, "c", " \n", "x"), r"figure 'x' has no alternative text"),
        (Grid(((Panel((picture(1),), 1),),), "c", "", anchor="g"), "grid 'g' has no alternative text"),
        (Grid(((Panel((Picture(noise(1), ""),), 1),),), "c", "a", anchor="g"), "grid 'g' has no alternative text"),
        (Grid((), "c", "a"), "grid 'a' of the document needs rows"),
        (Grid(((),), "c", "a"), "needs rows"),
        (Grid((("x",), ("x", "y")), "c", "a"), "all with as many cells"),
        (Grid((("x", "y"),), "c", "a", ("one",)), "has 2 columns; it needs as many heads"),
        (Grid((("x", "y"),), "c", "a", aligns=("left",)), "has 2 columns"),
        (Grid(((Panel((), 1),),), "c", "a"), "a panel of the grid 'a' has no pictures"),
        (Grid(((Panel((picture(1),), 0),),), "c", "a"), "or no columns"),
        (Grid(((Panel((picture(1),), 1),),), "c", "a", side=8), "keeps 8 pixels a side; 16 to 1024"),
        (Grid(((Panel((Picture(b"GIF89a", "x"),), 1),),), "c", "a"), "cannot be read as PNG or JPEG"),
        (Grid(((Panel((Picture(Path("missing.png"), "x"),), 1),),), "c", "a"), "cannot be read: .*missing.png"),
        (Figure(b"", "c", "alt"), "no SVG, PNG or JPEG"),
    ],
)
def test_what_cannot_be_shown_is_refused_by_name(block: Block, message: str) -> None:
    with pytest.raises(ReportError, match=message):
        built(block)
