"""Figures of a multiverse: the specification curve, what each choice gives, and which choices matter.

In: tidy tables.  Out: plotnine figures laid out for a column of 160 mm.  Computes no statistic; knows nothing of
trials, fits or reports.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from mizani.breaks import breaks_extended
from plotnine import ggplot

from psychostats.figures import (
    FAINT,
    GREYS,
    INK,
    PALETTE,
    SHAPES,
    caption,
    cycle,
    label_of,
    levels_of,
    lines_needed,
    p9,
    require,
    signed,
    style,
)

Choices = Mapping[str, Sequence[str]]

COLOURS = {"above 0": PALETTE[1], "open": PALETTE[7], "below 0": PALETTE[0]}
_FAR = 1e6  # from which on a place on the vertical axis stands for a choice
_MM = 3.9  # of a line of a choice
_CURVE = 62.0  # mm of the estimates
_LEAST = 5.0  # percent that an axis reaches at least
_WRAP = 27  # letters of a choice's label in a line


def plot_specifications(
    rows: pd.DataFrame, choices: Choices, words: Mapping[str, str], *, y_label: str, interval_label: str
) -> ggplot:
    """Draw the specification curve: estimates in rising order, and below each the choices that made it.

    Parameters
    ----------
    rows
        Specifications of one experiment and question, each model of the same rows once: a column a dimension and
        ``estimate, conf_low, conf_high`` in the units of the axis, ``conclusion, headline``.  Those without an estimate
        are left out.
    choices
        Dimension -> its choices; of those that none of the rows has, nothing is drawn.
    words
        What dimensions are called.
    y_label, interval_label
        Words for the panel of estimates and for the bars.
    """
    require(rows, "rows", [*choices, "estimate", "conf_low", "conf_high", "conclusion", "headline"])
    known = rows[rows["estimate"].notna()].sort_values("estimate", kind="stable").reset_index(drop=True)
    require(known, "rows with an estimate", ["estimate"])
    known = known.assign(place=np.arange(1.0, len(known) + 1))
    shown = {name: [one for one in labels if (known[name] == one).any()] for name, labels in choices.items()}
    first = label_of(y_label, 17)
    panels = [first, *(words[name] for name in shown)]
    names: dict[float, str] = {}
    marks = []
    for far, (name, labels) in enumerate(shown.items(), start=1):
        for place, label in enumerate(labels):
            at = _FAR * far + len(labels) - 1 - place
            names[at] = label_of(label, _WRAP)
            mine = known[known[name] == label]
            marks.append(
                pd.DataFrame({"place": mine["place"], "said": mine["conclusion"], "at": at, "panel": words[name]})
            )
    marked = pd.concat(marks, ignore_index=True)
    said = [one for one in COLOURS if (known["conclusion"] == one).any()]
    curve = known[["place", "estimate", "conf_low", "conf_high", "headline"]].assign(
        said=known["conclusion"], panel=first
    )
    for frame in (curve, marked):
        frame["panel"] = pd.Categorical(frame["panel"], panels)
        frame["said"] = pd.Categorical(frame["said"], said)
    own = curve[curve["headline"]]
    mine = marked[marked["place"].isin(own["place"])]
    thin = float(np.clip(90.0 / len(known), 0.12, 0.7))
    heights = [_CURVE, *(_MM * (0.6 + lines_needed([label_of(one, _WRAP) for one in shown[name]])) for name in shown)]
    note = (
        f"Bars: {interval_label}. Diamond, dashed line and black marks: the study's own specification."
        if len(own)
        else (f"Bars: {interval_label}. The study's own specification has no estimate.")
    )
    # The zero line, and room above and below the marks of each panel.
    zero = pd.DataFrame({"at": [0.0], "panel": pd.Categorical([first], panels)})
    room = pd.DataFrame(
        [
            {"place": 1.0, "at": _FAR * far + edge, "panel": words[name]}
            for far, name in enumerate(shown, start=1)
            for edge in (-0.6, len(shown[name]) - 0.4)
        ]
    )
    room["panel"] = pd.Categorical(room["panel"], panels)
    legend = p9.guide_legend(title="Interval", override_aes={"size": 2})
    return (
        p9.ggplot(curve, p9.aes("place", "estimate"))
        + p9.geom_blank(p9.aes("place", "at"), room)
        + p9.geom_hline(p9.aes(yintercept="at"), zero, color=FAINT, size=0.5)
        + p9.geom_linerange(
            p9.aes(ymin="conf_low", ymax="conf_high", color="said"), size=thin, alpha=0.45, show_legend=False
        )
        + p9.geom_point(p9.aes(color="said"), size=min(1.0, 1.4 * thin + 0.2), stroke=0)
        + p9.geom_segment(
            p9.aes("place", "at - 0.36", xend="place", yend="at + 0.36", color="said"),
            marked,
            size=thin,
            show_legend=False,
        )
        + p9.geom_segment(p9.aes("place", "at - 0.4", xend="place", yend="at + 0.4"), mine, size=1.1, color=INK)
        + p9.geom_vline(p9.aes(xintercept="place"), own.drop(columns="panel"), color=INK, size=0.4, linetype="dashed")
        + p9.geom_point(data=own, shape="D", size=2.2, color=INK, fill="white", stroke=0.6)
        + p9.scale_color_manual({one: COLOURS[one] for one in said})
        + p9.scale_y_continuous(breaks=_breaks(names), labels=_labels(names), minor_breaks=[], expand=(0.02, 0))
        + p9.scale_x_continuous(expand=(0.01, 0), minor_breaks=[])
        + p9.guides(color=legend)
        + p9.facet_grid(rows="panel", scales="free_y", space={"x": [1], "y": heights})
        + p9.labs(x="Specifications, each model of the same rows once, by their estimate", y="", caption=caption(note))
        + style(38 + sum(heights), grid="y")
        + p9.theme(
            strip_text_y=p9.element_text(rotation=0, ha="left", size=7),
            axis_text_y=p9.element_text(size=6.3, ma="right", linespacing=1.05),
            panel_spacing=0.012,
        )
    )


def _breaks(names: Mapping[float, str]) -> Callable[[tuple[float, float]], list[float]]:
    """Return the places of an axis: every choice of a panel of choices, round numbers elsewhere."""
    numbers = breaks_extended(n=5)

    def breaks(limits: tuple[float, float]) -> list[float]:
        if limits[0] < _FAR / 2:
            return [float(one) for one in numbers(limits)]
        return [at for at in names if limits[0] <= at <= limits[1]]

    return breaks


def _labels(names: Mapping[float, str]) -> Callable[[Sequence[float]], list[str]]:
    def labels(breaks: Sequence[float]) -> list[str]:
        return [names[at] for at in breaks] if all(at in names for at in breaks) else signed(breaks)

    return labels


def plot_choices(table: pd.DataFrame, words: Mapping[str, str], *, own: Mapping[str, float], x_label: str) -> ggplot:
    """Draw what the specifications of each choice give on average, and their range.

    Parameters
    ----------
    table
        ``experiment, dimension, choice, own, mean, lowest, highest`` in the units of the axis.
    words
        What dimensions are called.
    own
        Experiment -> the estimate of the study's own specification; NaN where it has none.
    x_label
        Words for the horizontal axis.
    """
    require(table, "choices", ["experiment", "dimension", "choice", "own", "mean", "lowest", "highest"])
    rows = table.dropna(subset=["mean"]).reset_index(drop=True)
    keys = list(dict.fromkeys(zip(rows["dimension"], rows["choice"], strict=True)))
    labels = [label_of(choice, 34) for _, choice in keys]
    at = {key: float(len(keys) - 1 - place) for place, key in enumerate(keys)}
    experiments = list(dict.fromkeys(rows["experiment"].astype(str)))
    rows = rows.assign(
        row=[at[key] for key in zip(rows["dimension"], rows["choice"], strict=True)],
        dimension=pd.Categorical(rows["dimension"].map(words), list(dict.fromkeys(rows["dimension"].map(words)))),
        experiment=pd.Categorical(rows["experiment"].astype(str), experiments),
        whose=np.where(rows["own"], "the study's own", "another"),
    )
    lines = pd.DataFrame({"experiment": experiments, "at": [float(own[name]) for name in experiments]}).dropna()
    lines["experiment"] = pd.Categorical(lines["experiment"], experiments)
    several = len(experiments) > 1
    note = (
        "Points: means over all specifications with that choice that have an estimate; lines: from the smallest to the "
        "largest of their estimates, no intervals. Dotted line: the study's own specification. Axes need not begin at "
        "0."
    )
    facets = p9.facet_grid(rows="dimension", cols="experiment" if several else None, scales="free", space="free_y")
    return (
        p9.ggplot(rows, p9.aes("mean", "row"))
        + p9.geom_vline(p9.aes(xintercept="at"), lines, color=INK, size=0.5, linetype="dotted")
        + p9.geom_segment(p9.aes("lowest", "row", xend="highest", yend="row"), size=0.6, color=GREYS[3])
        + p9.geom_point(p9.aes(fill="whose", shape="whose"), size=2.0, color=INK, stroke=0.5)
        + p9.scale_fill_manual({"the study's own": "white", "another": GREYS[1]}, name="Choice")
        + p9.scale_shape_manual({"the study's own": "D", "another": "o"}, name="Choice")
        + p9.scale_y_continuous(breaks=list(at.values()), labels=labels, minor_breaks=[], expand=(0, 0.6))
        + p9.scale_x_continuous(labels=signed, breaks=breaks_extended(n=4))
        + facets
        + p9.labs(x=x_label, y="", caption=caption(note))
        + style(36 + 5.0 * lines_needed(labels) + 3.0 * rows["dimension"].nunique(), grid="x")
        + p9.theme(strip_text_y=p9.element_text(rotation=0, ha="left", size=7))
    )


def plot_dimensions(table: pd.DataFrame, words: Mapping[str, str], measures: Mapping[str, str]) -> ggplot:
    """Draw which choices matter, one panel a measure.

    Parameters
    ----------
    table
        ``experiment, dimension`` and a column a measure, in the units of its panel.
    words
        What dimensions are called, top first.
    measures
        Column -> title of its panel.
    """
    require(table, "dimensions", ["experiment", "dimension", *measures])
    long = table.melt(["experiment", "dimension"], list(measures), "measure", "value").dropna(subset=["value"])
    names = [name for name in words if (long["dimension"] == name).any()]
    experiments = list(dict.fromkeys(table["experiment"].astype(str)))
    step = min(0.24, 0.7 / len(experiments))
    aside = {name: (place - (len(experiments) - 1) / 2) * step for place, name in enumerate(experiments)}
    long = long.assign(
        row=[
            len(names) - 1 - names.index(one) - aside[str(experiment)]
            for one, experiment in zip(long["dimension"], long["experiment"], strict=True)
        ],
        measure=pd.Categorical(long["measure"].map(measures), list(measures.values())),
        experiment=pd.Categorical(long["experiment"].astype(str), experiments),
        zero=0.0,
    )
    most = long.groupby("measure", observed=True)["value"].max()
    ends = pd.DataFrame(
        {"value": [max(at, _LEAST if str(name).endswith("(%)") else 1e-6) for name, at in most.items()], "row": 0.0}
    )
    ends["measure"] = pd.Categorical(most.index.astype(str), list(measures.values()))
    levels = levels_of(long, "experiment")
    colours = cycle(levels, PALETTE[2:]) if len(levels) > 1 else {levels[0]: INK}
    legend: Any = "bottom" if len(levels) > 1 else "none"
    return (
        p9.ggplot(long, p9.aes("value", "row", color="experiment", shape="experiment"))
        + p9.geom_segment(p9.aes("zero", "row", xend="value", yend="row"), size=0.6, show_legend=False)
        + p9.geom_blank(p9.aes("value", "row"), ends, inherit_aes=False)
        + p9.geom_point(size=2.0)
        + p9.scale_color_manual(colours, name="Experiment")
        + p9.scale_shape_manual(cycle(levels, SHAPES), name="Experiment")
        + p9.scale_y_continuous(
            breaks=[float(len(names) - 1 - place) for place in range(len(names))],
            labels=[label_of(words[name], 24) for name in names],
            minor_breaks=[],
            expand=(0, 0.5),
        )
        + p9.scale_x_continuous(labels=signed, breaks=breaks_extended(n=4))
        + p9.expand_limits(x=0)
        + p9.facet_wrap("measure", ncol=len(measures), scales="free_x")
        + p9.labs(x="", y="")
        + style(34 + 9.0 * len(names), grid="x", legend=legend)
    )
