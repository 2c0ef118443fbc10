"""Figures of a reanalysis: the effect as participants were added.

In: tidy tables.  Out: plotnine figures laid out for a column of 160 mm.  Knows nothing of trials, fits or reports.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import pandas as pd
from plotnine import ggplot

from psychostats.figures import (
    FAINT,
    INK,
    PALETTE,
    SHAPES,
    VERTICAL,
    bars,
    caption,
    facets,
    levels_of,
    p9,
    panel_rows,
    signed,
    style,
    tidy,
)


def plot_accumulation(steps: pd.DataFrame, *, study: str, y_label: str, interval_label: str) -> ggplot:
    """Draw a contrast at rising numbers of participants, one panel an experiment.

    Parameters
    ----------
    steps
        ``experiment, participants, estimate, conf_low, conf_high`` in the units of the axis, and the column `study`,
        whose levels in order are the study that the last person belongs to. Rows without an estimate are left out.
    study
        That column.
    y_label, interval_label
        Words for the vertical axis and for the bars.
    """
    texts = {"experiment": "experiment", "study": study}
    rows = tidy(steps, "steps", texts, ["participants", "estimate", "conf_low", "conf_high"]).dropna(subset="estimate")
    levels = levels_of(rows, "study")
    ends = rows[rows["study"] == levels[0]].groupby("experiment", observed=True)["participants"].max().reset_index()
    note = f"Bars: {interval_label}. Dotted line: where the new participants begin."
    return (
        p9.ggplot(rows, p9.aes("participants", "estimate"))
        + p9.geom_hline(yintercept=0.0, color=FAINT, size=0.5)
        + p9.geom_vline(p9.aes(xintercept="participants"), ends, color=INK, size=0.5, linetype="dotted")
        + p9.geom_line(color=FAINT, size=0.5)
        + bars(rows, p9.geom_linerange, VERTICAL, size=0.6, color=INK)
        + p9.geom_point(p9.aes(fill="study", shape="study"), size=2.2, color=INK, stroke=0.5)
        + p9.scale_fill_manual(dict(zip(levels, PALETTE[1::-1], strict=False)), name="Last participant of")
        + p9.scale_shape_manual(dict(zip(levels, SHAPES, strict=False)), name="Last participant of")
        + p9.scale_y_continuous(labels=signed)
        + p9.expand_limits(x=0)
        + p9.labs(x="Participants", y=y_label, caption=caption(note))
        + facets(rows)
        + style(35 + 45 * panel_rows(rows), grid="y")
    )
