"""The flow figure: every count that the table has and nothing else, and no word outside the page or over another."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from psychostats.errors import InputError
from psychostats.exclusions import Exclusions, apply_exclusions
from psychostats.flow import plot_flow
from psychostats.parts import LeftOut

LONG = "participants with a long list of things that they did, or did not do, as the instructions asked of them"


def flow_of(experiments: list[str], steps: int = 12, start: int = 12_480) -> pd.DataFrame:
    """A flow that removes some in every step, people in every second one, and whose words are long."""
    rows: list[tuple[Any, ...]] = []
    for place, experiment in enumerate(experiments):
        people, trials = start, 40 * start
        rows.append((experiment, "all recorded", "", 0, 0, people, trials))
        for step in range(steps):
            gone, lost = (10 * step + place + 1) * (step % 2), 1000 + step
            people, trials = people - gone, trials - lost
            words = "catch set aside" if step == 8 else f"{LONG if step % 3 else 'trials slower than'} {step}"
            rows.append((experiment, words, "" if step == 8 else "rule", gone, lost, people, trials))
        rows.append((experiment, "analysed", "", 0, 0, people, trials))
    names = ["experiment", "step", "rule", "participants_removed", "trials_removed", "participants_left", "trials_left"]
    return pd.DataFrame(rows, columns=names)


def words_of(flow: pd.DataFrame) -> list[str]:
    """Return every text of the figure but its caption, unwrapped."""
    with mpl.rc_context():
        figure = plot_flow(flow).draw()
        words = [text.get_text().replace("\n", " ") for text in figure.axes[0].texts]
        mpl.pyplot.close(figure)
    return words


def test_every_count_of_the_table_is_drawn():
    flow = flow_of(["natural", "mixed"])
    words = words_of(flow)
    for _, part in flow.groupby("experiment"):
        for end in (0, -1):
            row = part.iloc[end]
            assert f"{row['participants_left']:,} participants {row['trials_left']:,} trials" in words
        for row in part.iloc[1:-1].itertuples():
            people = f"{row.participants_removed} participant{'s' * (row.participants_removed != 1)} "
            assert f"{people if row.participants_removed else ''}{row.trials_removed:,} trials" in words
    assert {"natural", "mixed", "All recorded", "Analysed", "Catch set aside"} <= set(words)


def test_a_single_experiment_has_no_title_and_singular_is_singular():
    flow = flow_of(["all"], steps=2, start=1)
    flow.loc[2, ["participants_removed", "trials_removed"]] = 1
    words = words_of(flow)
    assert "all" not in words and "1 participant 1 trial" in words


def test_what_removed_nothing_is_named_below_and_what_is_unknown_in_its_place():
    trials = pd.DataFrame(
        {
            "participant": np.repeat(["a", "b"], 4),
            "experiment": np.repeat(["x", "y"], 4),
            "correct": 1,
            "rt": [1.0, 99.0, *[1.0] * 6],
        }
    )
    rules = Exclusions(rt_min=0.5, rt_max=60.0, trials_min=2)
    flow = apply_exclusions(trials, rules, [LeftOut("files that could not be read (2)")]).flow
    words, said = words_of(flow), str(plot_flow(flow).labels.caption).replace("\n", " ")
    assert "Removed nothing: trials faster than 0.5 s; participants with fewer than 2 trials left." in said
    assert [text for text in words if text.startswith(("Trials", "Files"))] == [
        "Files that could not be read (2)",
        "Trials slower than 60 s",
    ]
    assert words.count("number unknown") == 2  # in either experiment
    assert words.count("1 trial") == 1 and words.count("none") == 1
    assert "Dashed" not in said


def test_a_table_that_was_read_from_a_file_gives_the_same_figure(tmp_path):
    flow = flow_of(["natural", "mixed"], steps=9)
    flow.to_csv(tmp_path / "flow.csv", index=False)
    assert words_of(pd.read_csv(tmp_path / "flow.csv")) == words_of(flow)


@pytest.mark.parametrize("experiments", [1, 4, 7])
def test_nothing_is_cut_off_and_no_text_lies_over_another_or_leaves_its_box(experiments):
    names = ["natural", "a control experiment with a rather long name", "mixed", "fourth", "5", "6", "7"][:experiments]
    with mpl.rc_context():
        figure = plot_flow(flow_of(names)).draw()
        figure.canvas.draw()
        page, axes = figure.bbox, figure.axes[0]
        texts = [text for text in axes.texts if text.get_text()]
        placed = [text.get_window_extent() for text in texts]
        boxes = [patch.get_window_extent() for group in axes.collections for patch in _rectangles(group, axes)]
        mpl.pyplot.close(figure)
    assert len(texts) > 14 * experiments and len(boxes) == 14 * experiments
    for one in placed:
        assert page.x0 <= one.x0 and one.x1 <= page.x1 and page.y0 <= one.y0 and one.y1 <= page.y1
    for i, one in enumerate(placed):
        assert not any(one.overlaps(other) for other in placed[i + 1 :]), texts[i].get_text()
    for text, one in zip(texts, placed, strict=True):
        for box in boxes:
            if one.overlaps(box):
                assert box.x0 <= one.x0 and one.x1 <= box.x1 and box.y0 <= one.y0 and one.y1 <= box.y1, text.get_text()


def test_lines_below_the_figure_do_not_touch():
    flow = flow_of(["natural"])
    flow[["participants_removed", "trials_removed"]] = 0  # all of these steps are named below
    with mpl.rc_context():
        figure = plot_flow(flow).draw()
        figure.canvas.draw()
        (caption,) = [text for text in figure.texts if text.get_text().startswith(("Grey boxes", "Removed nothing"))]
        lines = caption.get_text().count("\n") + 1
        high = caption.get_window_extent().height / (caption.get_fontsize() * figure.dpi / 72)
        mpl.pyplot.close(figure)
    assert lines > 1 and high > 1.15 * (lines - 1) + 0.7


def _rectangles(group: Any, axes: Any) -> list[Any]:
    """Return the rectangles of a collection of polygons, as things that have an extent on the page."""

    class Rectangle:
        def __init__(self, path: Any) -> None:
            self.path = path

        def get_window_extent(self) -> Any:
            return self.path.get_extents(axes.transData)

    return [Rectangle(path) for path in group.get_paths() if len(path.vertices) == 5]


def test_a_table_without_its_columns_is_refused():
    with pytest.raises(InputError, match="lacks the column 'rule'"):
        plot_flow(flow_of(["x"]).drop(columns="rule"))
