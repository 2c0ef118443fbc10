"""Figures of a run by layer, from its tables alone.

In: tables.  Out: figures as SVG text.  Knows no file and no page.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import pandas as pd
import plotnine

p9: Any = plotnine  # plotnine is typed only in part

# Okabe and Ito (2008), told apart by colour-blind readers too; as in the statistics' report, local is the first.
COLOURS = {
    "local": "#D55E00",
    "distributed": "#0072B2",
    "neurons": "#D55E00",
    "directions": "#0072B2",
    "thresholded neurons": "#E69F00",
    "random directions": "#56B4E9",
    "neurons, permuted truth": "#8C8C8C",
}
_KINDS = {"edge": "edges", "part": "parts", "object": "objects"}


def chart_matches(matches: pd.DataFrame, measure: str, label: str) -> Any:
    """Draw how well units match known elements over depth, a panel a kind of element.

    Parameters
    ----------
    matches
        Table ``matches`` of a run.
    measure
        ``auroc`` or ``purity``.
    label
        Of the vertical axis.
    """
    names = {"neuron": "neurons", "thresholded": "thresholded neurons", "random": "random directions"}
    names |= {"neuron, permuted": "neurons, permuted truth"}
    rows = matches[matches["kind"].isin(list(_KINDS))]
    learned = rows["condition"].eq(rows["condition"].str.partition(",")[0]) & ~rows["condition"].isin(list(names))
    rows = rows[learned | rows["condition"].isin(list(names))]
    rows = rows.assign(reading=rows["condition"].map(names).fillna("directions"), panel=rows["kind"].map(_KINDS))
    means = rows.groupby(["panel", "reading", "depth"], as_index=False, sort=False)[measure].mean()
    order = [name for name in COLOURS if name in set(means["reading"])]
    means["reading"] = pd.Categorical(means["reading"], order, ordered=True)
    means["panel"] = pd.Categorical(means["panel"], list(_KINDS.values()), ordered=True)
    return (
        p9.ggplot(means, p9.aes("depth", measure, colour="reading"))
        + p9.geom_line()
        + p9.geom_point()
        + p9.facet_wrap("panel", nrow=1)
        + p9.labs(x="depth of the layer (0 first, 1 last)", y=label, colour="")
        + _look(order, 9.0, 3.2)
    )


def chart_contributions(rows: pd.DataFrame) -> Any:
    """Draw each chosen feature's mean |drop| over depth, and the mean of each representation."""
    means = rows.groupby(["representation", "depth"], as_index=False)["change"].mean()
    order = [name for name in COLOURS if name in set(rows["representation"])]
    for table in (rows, means):
        table["representation"] = pd.Categorical(table["representation"], order, ordered=True)
    return (
        p9.ggplot(rows, p9.aes("depth", "change", colour="representation"))
        + p9.geom_jitter(width=0.012, height=0, alpha=0.4, size=1.2, random_state=1)
        + p9.geom_line(data=means)
        + p9.geom_point(data=means, size=2.6)
        + p9.labs(x="depth of the layer (0 first, 1 last)", y="mean |drop of the logit|", colour="")
        + _look(order, 4.6, 3.2)
    )


def chart_norm_matched(norms: pd.DataFrame) -> Any:
    """Draw the difference of |drop| at equal removed norm over depth, with its interval."""
    return (
        p9.ggplot(norms, p9.aes("depth", "estimate"))
        + p9.geom_hline(yintercept=0, colour="#888888", linetype="dashed")
        + p9.geom_pointrange(p9.aes(ymin="lower", ymax="upper"))
        + p9.labs(x="depth of the layer (0 first, 1 last)", y="|drop|, directions less neurons,\nat equal removed norm")
        + _look([], 4.4, 3.2)
    )


def chart_curves(curves: pd.DataFrame) -> Any:
    """Draw deletion and insertion curves, a panel a layer."""
    order = [name for name in COLOURS if name in set(curves["representation"])]
    layers = list(dict.fromkeys(curves.sort_values("depth")["layer"]))
    rows = curves.assign(
        representation=pd.Categorical(curves["representation"], order, ordered=True),
        layer=pd.Categorical(curves["layer"], layers, ordered=True),
    )
    wide = min(len(layers), 3)
    return (
        p9.ggplot(rows, p9.aes("share", "probability", colour="representation", linetype="curve"))
        + p9.geom_line()
        + p9.facet_wrap("layer", ncol=wide)
        + p9.labs(x="share of units nulled (deletion) or put back (insertion)", y="mean probability of the class")
        + p9.labs(colour="", linetype="")
        + _look(order, 3.0 * wide, 0.8 + 2.2 * -(-len(layers) // wide))
    )


def _look(order: list[str], width: float, height: float) -> list[Any]:
    colours = [p9.scale_colour_manual([COLOURS[name] for name in order])] if order else []
    return [
        *colours,
        p9.theme_bw(base_size=10),
        p9.theme(figure_size=(width, height), legend_position="bottom", panel_grid_minor=p9.element_blank()),
    ]


def to_svg(chart: plotnine.ggplot) -> bytes:
    """Return a figure as SVG; the same figure gives the same bytes."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": "featurecompute"}):
        warnings.simplefilter("ignore")  # plotnine's remarks on rows that have no value
        chart.save(buffer, format="svg", verbose=False, metadata={"Date": None})
    return buffer.getvalue()
