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

from psychostats.figures import FAINT, INK, caption, facets, p9, panel_rows, signed, style, tidy

__all__ = ["plot_calibration"]

# Share of trials at either end that is not drawn: there the band is all that there is room for.
_ENDS = 0.02
_BARS = 40
_BAND = "#D6D6D6"  # a line and a dashed one lie upon it


def plot_calibration(
    check: pd.DataFrame, *, interval_label: str, outcome: str = "a correct answer", share: str = "correct"
) -> ggplot:
    """Draw the observed share of correct answers over the predicted probability, one panel an experiment.

    Parameters
    ----------
    check
        ``experiment, predicted, n, observed, conf_low, conf_high``: one row a cell of trials.
    interval_label
        What the band is, for example ``95 % band of data drawn from these predictions``.
    outcome, share
        Of what the probability is, and of what the share.
    """
    numbers = ["predicted", "n", "observed", "conf_low", "conf_high"]
    rows = tidy(check, "check", {"experiment": "experiment"}, numbers)
    rows = rows.sort_values(["experiment", "predicted"], kind="stable").reset_index(drop=True)
    groups = rows.groupby("experiment", observed=True)["n"]
    middle = (groups.cumsum() - 0.5 * rows["n"]) / groups.transform("sum")
    ends = rows["predicted"].groupby(rows["experiment"], observed=True)
    whole = ends.transform("nunique") < 20  # few predictions have no tails to leave out
    rows = rows[whole | middle.between(_ENDS, 1.0 - _ENDS)]
    left, right = float(rows["predicted"].min()), float(rows["predicted"].max())
    left, right = (left, right) if right > left else (left - 0.05, right + 0.05)
    low = float(min(rows["observed"].min(), rows["conf_low"].min(), left))
    high = float(max(rows["observed"].max(), rows["conf_high"].max(), right))
    bars = _bars(rows, (left, right), (low, high))
    single = ends.transform("nunique").loc[rows.index] == 1
    trimmed = "" if whole.all() else f" The outermost {100 * _ENDS:g} % of trials at either end are not drawn."
    note = (
        "Line: observed share, isotonic in the prediction. Dashed: what a calibrated model gives. "
        f"Band: {interval_label}. Bars below: how many trials have that prediction.{trimmed}"
    )
    return (
        p9.ggplot(rows, p9.aes("predicted"))
        + p9.geom_rect(
            p9.aes(xmin="start", xmax="end", ymin="bottom", ymax="top"), bars, inherit_aes=False, fill="#B5B5B5"
        )
        + p9.geom_ribbon(p9.aes(ymin="conf_low", ymax="conf_high"), rows[~single], fill=_BAND)
        + p9.geom_linerange(p9.aes(ymin="conf_low", ymax="conf_high"), rows[single], color=_BAND, size=1.5)
        + p9.annotate("segment", x=left, xend=right, y=left, yend=right, linetype="dashed", color=FAINT, size=0.5)
        + p9.geom_line(p9.aes(y="observed"), rows[~single], color=INK, size=0.7)
        + p9.geom_point(p9.aes(y="observed"), rows[single], color=INK, size=1.8, stroke=0)
        + p9.scale_x_continuous(labels=signed, breaks=breaks_extended(n=4))
        + p9.scale_y_continuous(labels=signed, breaks=breaks_extended(n=5))
        + p9.coord_cartesian(xlim=(left, right), ylim=(low - 0.16 * (high - low), high))
        + p9.labs(x=f"Predicted probability of {outcome}", y=f"Observed share {share}", caption=caption(note))
        + facets(rows)
        + style(30 + 52 * panel_rows(rows), grid="y", legend="none")
    )


def _bars(rows: pd.DataFrame, wide: tuple[float, float], tall: tuple[float, float]) -> pd.DataFrame:
    """Return a histogram of the predictions of each experiment, in a strip below a diagram so wide and tall."""
    edges = np.linspace(*wide, _BARS + 1)
    height = tall[1] - tall[0]
    bottom = tall[0] - 0.15 * height
    parts = []
    for experiment, part in rows.groupby("experiment", observed=True):
        counts, _ = np.histogram(part["predicted"], edges, weights=part["n"])
        top = bottom + 0.1 * height * counts / counts.max()
        bars = pd.DataFrame({"start": edges[:-1], "end": edges[1:], "bottom": bottom, "top": top})
        parts.append(bars[counts > 0].assign(experiment=experiment))
    table = pd.concat(parts, ignore_index=True)
    table["experiment"] = pd.Categorical(table["experiment"], rows["experiment"].cat.categories, ordered=True)
    return table
