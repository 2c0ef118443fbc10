"""The reliability diagram: the share of correct answers against the predicted probability, from a tidy table alone.

In: a data frame as `psychostats.checks.calibration` makes it, by experiment.  Out: a plotnine figure in the one style.
Knows nothing of trials, models, fits or reports.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np
import pandas as pd
from mizani.breaks import breaks_extended
from plotnine import ggplot

from psychostats.figures import BAND, FAINT, INK, caption, facets, p9, panel_rows, signed, style, tidy

__all__ = ["plot_calibration"]

# Share of trials at either end that is not drawn: there the band is all that there is room for.
_ENDS = 0.005
_BARS = 40


def plot_calibration(check: pd.DataFrame, *, interval_label: str) -> ggplot:
    """Draw the observed share of correct answers over the predicted probability, one panel an experiment.

    Parameters
    ----------
    check
        ``experiment, predicted, n, observed, conf_low, conf_high``: one row a cell of trials.
    interval_label
        What the band is, for example ``95 % band of data drawn from these predictions``.
    """
    numbers = ["predicted", "n", "observed", "conf_low", "conf_high"]
    rows = tidy(check, "check", {"experiment": "experiment"}, numbers)
    rows = rows.sort_values(["experiment", "predicted"], kind="stable").reset_index(drop=True)
    groups = rows.groupby("experiment", observed=True)["n"]
    middle = (groups.cumsum() - 0.5 * rows["n"]) / groups.transform("sum")
    ends = rows["predicted"].groupby(rows["experiment"], observed=True)
    whole = ends.transform("nunique") < 20  # few predictions have no tails to leave out
    rows = rows[whole | middle.between(_ENDS, 1.0 - _ENDS)]
    low = float(min(rows["predicted"].min(), rows["observed"].min(), rows["conf_low"].min()))
    high = float(max(rows["predicted"].max(), rows["observed"].max(), rows["conf_high"].max()))
    bars = _bars(rows, low, high)
    floor = low - 0.16 * (high - low)
    single = ends.transform("nunique").loc[rows.index] == 1
    note = (
        "Line: observed share, isotonic in the prediction. Diagonal: what a calibrated model gives. "
        f"Band: {interval_label}. Bars below: how many trials have that prediction."
    )
    return (
        p9.ggplot(rows, p9.aes("predicted"))
        + p9.geom_rect(
            p9.aes(xmin="start", xmax="end", ymin="bottom", ymax="top"), bars, inherit_aes=False, fill="#C9C9C9"
        )
        + p9.geom_ribbon(p9.aes(ymin="conf_low", ymax="conf_high"), rows[~single], fill=BAND)
        + p9.geom_linerange(p9.aes(ymin="conf_low", ymax="conf_high"), rows[single], color="#C9C9C9", size=1.5)
        + p9.annotate("segment", x=low, xend=high, y=low, yend=high, linetype="dashed", color=FAINT, size=0.5)
        + p9.geom_line(p9.aes(y="observed"), rows[~single], color=INK, size=0.7)
        + p9.geom_point(p9.aes(y="observed"), rows[single], color=INK, size=1.8, stroke=0)
        + p9.scale_x_continuous(labels=signed, breaks=breaks_extended(n=4))
        + p9.scale_y_continuous(labels=signed, breaks=breaks_extended(n=5))
        + p9.coord_cartesian(xlim=(low, high), ylim=(floor, high))
        + p9.labs(x="Predicted probability of a correct answer", y="Observed share correct", caption=caption(note))
        + facets(rows)
        + style(30 + 52 * panel_rows(rows), grid="y", legend="none")
    )


def _bars(rows: pd.DataFrame, low: float, high: float) -> pd.DataFrame:
    """Return a histogram of the predictions of each experiment, in a strip below the diagram."""
    edges = np.linspace(low, high, _BARS + 1)
    parts = []
    bottom = low - 0.15 * (high - low)
    for experiment, part in rows.groupby("experiment", observed=True):
        counts, _ = np.histogram(part["predicted"], edges, weights=part["n"])
        tall = bottom + 0.1 * (high - low) * counts / counts.max()
        bars = pd.DataFrame({"start": edges[:-1], "end": edges[1:], "bottom": bottom, "top": tall})
        parts.append(bars[counts > 0].assign(experiment=experiment))
    table = pd.concat(parts, ignore_index=True)
    table["experiment"] = pd.Categorical(table["experiment"], rows["experiment"].cat.categories, ordered=True)
    return table
