"""One figure of several responses: the same contrast on each of them, a panel a response with an axis of its own.

In: a tidy table.  Out: a plotnine figure in the style of the others.  Knows nothing of trials, models, fits or reports.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import pandas as pd
from mizani.breaks import breaks_extended
from plotnine import ggplot

from psychostats.figures import (
    FAINT,
    HORIZONTAL,
    INK,
    bars,
    caption,
    in_rows,
    levels_of,
    lines_needed,
    p9,
    signed,
    style,
    tidy,
)


def plot_responses(contrasts: pd.DataFrame, *, contrast: str, interval_label: str) -> ggplot:
    """Draw one contrast on several responses: one row an experiment, one panel a response.

    Parameters
    ----------
    contrasts
        ``response, experiment, converged, estimate, conf_low, conf_high``, in the unit that `response` names;
        ``converged`` is ``yes`` or ``no``, and then the point is open.
    contrast, interval_label
        Words for the horizontal axis and for the bars.
    """
    texts = {"response": "response", "experiment": "experiment", "converged": "converged"}
    rows = tidy(contrasts, "contrasts", texts, ["estimate", "conf_low", "conf_high"], wrap=26)
    rows = rows.dropna(subset="estimate")
    rows["one"] = pd.Categorical(["one"] * len(rows))  # nothing stands apart within a row
    rows, axis = in_rows(rows, "experiment", apart="one")
    note = f"Bars: {interval_label}. Each panel has its own unit."
    note += " Open: not converged, may not be read." if (rows["converged"] == "no").any() else ""
    tall = lines_needed(levels_of(rows, "experiment"))
    return (
        p9.ggplot(rows, p9.aes("estimate", "row"))
        + p9.geom_vline(xintercept=0.0, color=FAINT, size=0.5)
        + bars(rows, p9.geom_segment, HORIZONTAL, size=0.7, color=INK)
        + p9.geom_point(p9.aes(fill="converged"), size=2.3, color=INK, stroke=0.6, show_legend=False)
        + p9.scale_fill_manual({"yes": INK, "no": "white"})
        + axis
        + p9.scale_x_continuous(labels=signed, breaks=breaks_extended(n=4))
        + p9.labs(x=contrast, y="", caption=caption(note))
        + p9.facet_wrap("response", scales="free_x", ncol=3)
        + style(34 + 6 * tall * (1 + (rows["response"].nunique() - 1) // 3), grid="x")
    )
