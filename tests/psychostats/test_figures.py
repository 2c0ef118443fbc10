"""The style and the files of figures: same bytes wherever they are made, nothing read as code or markup."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import plotnine as p9
import pytest
from PIL import Image

from psychostats.errors import InputError
from psychostats.figures import PALETTE, colours, save_figure, signed, style, tidy


def figure(label: str = "a") -> p9.ggplot:
    frame = pd.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0], "label": [label, "b"]})
    return p9.ggplot(frame, p9.aes("x", "y", color="label")) + p9.geom_point() + style(60, grid="y")


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    first = save_figure(figure(), tmp_path / "one").read_bytes()
    with mpl.rc_context({"font.size": 25, "lines.linewidth": 9, "svg.fonttype": "none", "axes.grid": True}):
        before = dict(mpl.rcParams)
        second = save_figure(figure(), tmp_path / "two").read_bytes()
        assert dict(mpl.rcParams) == before
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.svg", "two.svg"]


def test_letters_are_paths_and_the_size_is_as_asked(tmp_path: Path) -> None:
    svg = save_figure(figure(), tmp_path / "figure", width_mm=100, height_mm=50, png=True).read_text(encoding="utf-8")
    assert "<text" not in svg
    width, height = (float(re.search(rf'{side}="([\d.]+)pt"', svg)[1]) for side in ("width", "height"))  # type: ignore[index]
    assert (width, height) == pytest.approx((100 / 25.4 * 72, 50 / 25.4 * 72), abs=0.01)
    with Image.open(tmp_path / "figure.png") as image:
        assert image.size == pytest.approx((100 / 25.4 * 200, 50 / 25.4 * 200), abs=1)


def test_without_a_height_the_figure_keeps_its_own(tmp_path: Path) -> None:
    svg = save_figure(figure(), tmp_path / "figure").read_text(encoding="utf-8")
    assert f'height="{60 / 25.4 * 72:.4f}'.rstrip("0")[:14] in svg


def test_a_dollar_sign_is_no_mathematics(tmp_path: Path) -> None:
    # As mathematics this label could not be parsed, and drawing would fail.
    assert save_figure(figure(r"$\nonsense{$"), tmp_path / "figure").stat().st_size > 0


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"folder .*nowhere.* for figure 'x' does not exist"):
        save_figure(figure(), tmp_path / "nowhere" / "x")


def test_numbers_on_axes_have_a_true_minus_and_equal_decimals() -> None:
    assert signed([-0.5, 0.0, 0.25]) == ["−0.50", "0.00", "0.25"]
    assert signed([-1.0, 2.0]) == ["−1", "2"]


def test_levels_keep_declared_order_and_else_are_sorted() -> None:
    frame = pd.DataFrame({"f": pd.Categorical(["b", "a"], ["b", "z", "a"]), "g": ["b", "a"], "e": ["z", "y"]})
    out = tidy(frame, "frame", {"level": "f", "along": "g", "experiment": "e"}, [])
    assert [list(out[c].cat.categories) for c in ("level", "along", "experiment")] == [
        ["b", "a"],
        ["a", "b"],
        ["z", "y"],
    ]


def test_names_that_differ_only_in_white_space_stay_apart() -> None:
    out = tidy(pd.DataFrame({"f": ["a", "a ", "a"]}), "frame", {"level": "f"}, [])
    assert out["level"].nunique() == 2


def test_a_table_without_a_column_or_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match="table 'frame' to draw lacks the column 'f'; it has g"):
        tidy(pd.DataFrame({"g": [1]}), "frame", {"level": "f"}, [])
    with pytest.raises(InputError, match="table 'frame' to draw has no rows"):
        tidy(pd.DataFrame({"f": []}), "frame", {"level": "f"}, [])


def test_the_first_two_colours_can_be_told_apart_without_red_or_green_cones() -> None:
    """Viénot, Brettel and Mollon (1999): project linear RGB as a protanope or deuteranope sees it."""
    protan = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])
    deutan = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
    rgb = [np.array(mpl.colors.to_rgb(colour)) ** 2.2 for colour in PALETTE[:2]]
    for seen in (protan, deutan):
        assert np.linalg.norm(seen @ rgb[0] - seen @ rgb[1]) > 0.3


def test_more_levels_than_colours_differ_in_shape_or_colour() -> None:
    levels = [str(i) for i in range(8)]
    colour, _, shape, _ = colours(levels, "f")
    pairs = {(colour.palette(8)[level], shape.palette(8)[level]) for level in levels}
    assert len(pairs) == 8
