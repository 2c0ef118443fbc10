"""Figures of planning: power, precision and errors over designs, the null, and single simulated studies.

In: tidy tables.  Out: plotnine figures laid out for a column of 160 mm.  Knows nothing of simulations, fits or reports.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from plotnine import ggplot

from psychostats.figures import (
    ALARM,
    FAINT,
    INK,
    PALETTE,
    VERTICAL,
    bars,
    caption,
    colours,
    facets,
    label_of,
    levels_of,
    p9,
    panel_rows,
    signed,
    style,
    tidy,
)

_LIMITS = ["estimate", "conf_low", "conf_high"]


def plot_over_sizes(
    sizes: pd.DataFrame,
    *,
    y_label: str,
    note: str,
    wish: tuple[str, float] | None = None,
    reference: float | None = None,
    free: bool = False,
) -> ggplot:
    """Draw a figure of designs over their number of participants.

    Parameters
    ----------
    sizes
        ``participants, main, estimate, conf_low, conf_high``, in the units of the axis, and ``experiment``, whose
        panels are drawn in the order given.
    y_label, note
        Words for the vertical axis, and the caption.
    wish
        A panel and what is wished there: a dashed line across it.
    reference
        What would be without error: a line across each panel.
    free
        Whether each panel has a vertical axis of its own.
    """
    rows = tidy(sizes, "sizes", {"experiment": "experiment", "main": "main"}, ["participants", *_LIMITS], wrap=44)
    rows = rows.dropna(subset="estimate")
    levels = levels_of(rows, "main")
    panels: list[Any] = facets(rows, 2)
    if panels and free:
        panels = [p9.facet_wrap("experiment", ncol=2, scales="free_y")]
    several = rows["participants"].nunique() > 1
    wide = float(rows["participants"].max() - rows["participants"].min()) or 1.0
    dodge = p9.position_dodge(0.05 * wide) if len(levels) > 1 else p9.position_identity()
    line: list[Any] = []
    if wish is not None:
        panel = label_of(wish[0], 44)
        there = [name for name in levels_of(rows, "experiment") if name == panel or name.startswith(f"{panel},")]
        names = pd.Categorical(there, list(rows["experiment"].cat.categories), ordered=True)
        data = pd.DataFrame({"experiment": names, "wish": wish[1]})
        line.append(p9.geom_hline(p9.aes(yintercept="wish"), data, color=ALARM, linetype="dashed", size=0.6))
    if reference is not None:
        line.append(p9.geom_hline(yintercept=reference, color=FAINT, size=0.5))
    return (
        p9.ggplot(rows, p9.aes("participants", "estimate", color="main", shape="main"))
        + line
        + ([p9.geom_line(p9.aes(group="main"), size=0.5, position=dodge)] if several else [])
        + bars(rows, p9.geom_linerange, VERTICAL, size=0.6, position=dodge)
        + p9.geom_point(size=1.8, position=dodge)
        + colours(levels, "Trials a person")
        + p9.scale_y_continuous(labels=signed)
        + (p9.expand_limits(x=0) if free else p9.expand_limits(x=0, y=0))
        + p9.labs(x="Participants", y=y_label, caption=caption(note))
        + panels
        + style(35 + 45 * panel_rows(rows, 2), grid="y", legend="bottom" if len(levels) > 1 else "none")
    )


def plot_null(rates: pd.DataFrame, *, nominal: float, note: str) -> ggplot:
    """Draw false-positive rates.

    Parameters
    ----------
    rates
        ``label`` (a row each, first on top), ``estimate, conf_low, conf_high`` in per cent.
    nominal
        The rate that was meant, in per cent.
    note
        The caption.
    """
    rows = tidy(rates, "rates", {"label": "label"}, _LIMITS, wrap=42)
    order = levels_of(rows, "label")[::-1]
    rows = rows.assign(label=pd.Categorical(rows["label"].astype(str), order, ordered=True))
    return (
        p9.ggplot(rows, p9.aes("label", "estimate"))
        + p9.geom_hline(yintercept=nominal, color=ALARM, linetype="dashed", size=0.6)
        + bars(rows, p9.geom_linerange, VERTICAL, size=0.7, color=INK)
        + p9.geom_point(size=2.0, color=INK)
        + p9.coord_flip()
        + p9.expand_limits(y=0)
        + p9.labs(x="", y="Simulated studies that find a difference where there is none (%)", caption=caption(note))
        + style(28 + 9 * len(order), grid="x")
    )


def plot_studies(studies: pd.DataFrame, *, y_label: str, note: str) -> ggplot:
    """Draw the intervals of single simulated studies, sorted by their estimate, beside the truth.

    Parameters
    ----------
    studies
        ``estimate, conf_low, conf_high, true`` in the units of the axis, and ``experiment``, a panel each.
    y_label, note
        Words for the vertical axis, and the caption.
    """
    rows = tidy(studies, "studies", {"experiment": "experiment"}, [*_LIMITS, "true"], wrap=44)
    rows = rows.sort_values(["experiment", "estimate"], kind="stable", ignore_index=True)
    rows["place"] = rows.groupby("experiment", observed=True).cumcount() + 1.0
    missed = (rows["conf_low"] > rows["true"]) | (rows["conf_high"] < rows["true"])
    found = (rows["conf_low"] > 0) | (rows["conf_high"] < 0)
    kinds, misses = ["includes zero", "excludes zero"], ["holds the truth", "misses the truth"]
    rows["kind"] = pd.Categorical(np.where(found, kinds[1], kinds[0]), kinds)
    rows["misses"] = pd.Categorical(np.where(missed, misses[1], misses[0]), misses)
    return (
        p9.ggplot(rows, p9.aes("place", "estimate", color="kind"))
        + p9.geom_hline(yintercept=0.0, color=FAINT, size=0.5)
        + p9.geom_linerange(p9.aes(ymin="conf_low", ymax="conf_high"), size=0.5)
        + p9.geom_point(p9.aes(shape="misses", size="misses"))
        + p9.geom_line(p9.aes(y="true", group="experiment"), color=INK, linetype="dashed", size=0.5)
        + p9.scale_color_manual(dict(zip(kinds, ("#9A9A9A", PALETTE[1]), strict=True)), name="Interval")
        + p9.scale_shape_manual(dict(zip(misses, ("o", "X"), strict=True)), name=" ")
        + p9.scale_size_manual(dict(zip(misses, (0.7, 2.2), strict=True)), name=" ")
        + p9.scale_y_continuous(labels=signed)
        + p9.labs(x="Simulated study, by its estimate", y=y_label, caption=caption(note))
        + facets(rows, 2)
        + style(35 + 50 * panel_rows(rows, 2), grid="y")
    )


def plot_engines(pairs: pd.DataFrame, *, label: str, note: str) -> ggplot:
    """Draw half the width of the interval by one engine against the other.

    Parameters
    ----------
    pairs
        ``first, second``, in the units of the axes, and ``experiment``, a panel each.
    label, note
        Words for both axes, and the caption.
    """
    rows = tidy(pairs, "pairs", {"experiment": "experiment"}, ["first", "second"], wrap=44)
    return (
        p9.ggplot(rows, p9.aes("first", "second"))
        + p9.geom_abline(intercept=0.0, slope=1.0, color=FAINT, size=0.5)
        + p9.geom_blank(p9.aes("second", "first"))  # both axes alike, so that the line is the diagonal
        + p9.geom_point(size=1.6, color=PALETTE[1], alpha=0.7)
        + p9.scale_x_continuous(labels=signed)
        + p9.scale_y_continuous(labels=signed)
        + p9.labs(x=f"{label} by maximum likelihood", y=f"{label} by nuts", caption=caption(note))
        + ([p9.facet_wrap("experiment", ncol=2, scales="free")] if len(levels_of(rows, "experiment")) > 1 else [])
        + style(35 + 50 * panel_rows(rows, 2), grid="y")
    )
