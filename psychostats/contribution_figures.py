"""Figures of what nulling does to the decision: by depth, and every measure of it side by side.

In: the tidy tables of a `psychostats.contributions.Contributions`.  Out: plotnine figures in the style of the others.
Computes no statistic; knows no run and no document.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np
import pandas as pd
from mizani.breaks import breaks_extended
from plotnine import ggplot

from psychostats.figures import (
    FAINT,
    GREYS,
    HORIZONTAL,
    INK,
    VERTICAL,
    bars,
    caption,
    colours,
    cycle,
    in_rows,
    levels_of,
    lines_needed,
    p9,
    require,
    signed,
    style,
    tidy,
)

LINES = ("solid", "dashed")


def plot_contributions(by_pair: pd.DataFrame, by_layer: pd.DataFrame, fitted: pd.DataFrame) -> ggplot:
    """Draw the size of the change of the logit by depth, one panel a definition of nulling.

    Parameters
    ----------
    by_pair
        ``method, representation, layer, depth, size``: one row a feature, a faint point.
    by_layer
        ``method, representation, layer, depth, estimate, conf_low, conf_high, label``: a large point and its bar.
    fitted
        ``method, representation, depth, estimate``: the model's straight line; may be empty.
    """
    keys = {"panel": "method", "level": "representation"}
    raw = tidy(_ordered(by_pair), "by_pair", keys, ["size"], scale={"along": "depth"})
    means = tidy(
        _ordered(by_layer), "by_layer", keys, ["estimate", "conf_low", "conf_high"], scale={"along": "depth"}, like=raw
    )
    require(by_layer, "by_layer", ["layer", "label"])
    places = by_layer[["layer", "depth"]].drop_duplicates().sort_values("depth")
    depths = places["depth"].to_numpy(dtype=float)
    gap = float(np.diff(depths).min()) if len(depths) > 1 else 1.0
    levels = levels_of(means, "level")
    aside = {level: (place - (len(levels) - 1) / 2) * 0.36 * gap for place, level in enumerate(levels)}
    raw, means = (one.assign(at=one["along"] + one["level"].astype(str).map(aside)) for one in (raw, means))
    line = []
    if len(fitted):
        lines = tidy(_ordered(fitted), "fitted", keys, ["estimate"], scale={"along": "depth"}, like=raw)
        lines = lines[lines["estimate"] >= 0]  # a straight line may pass below what a size can be
        line = [p9.geom_line(p9.aes("along", "estimate", color="level", linetype="level"), lines, size=0.6, alpha=0.8)]
    note = (
        "Small points: means over images, of one feature of one pair. Large points: means over pairs; bars: "
        f"{by_layer['label'].iloc[0]} over pairs (those that share a direction together) and images. "
        + ("Lines: the hierarchical model. " if line else "")
        + "The vertical axis is a square root."
    )
    return (
        p9.ggplot(means, p9.aes("at", "estimate"))
        + line
        + p9.geom_point(
            p9.aes(y="size", color="level", shape="level"),
            raw,
            position=p9.position_jitter(width=0.1 * gap, height=0, random_state=1),
            size=1.3,
            alpha=0.4,
            stroke=0,
        )
        + bars(means, p9.geom_errorbar, VERTICAL | {"color": "level"}, size=0.8, width=0.16 * gap, show_legend=False)
        + p9.geom_point(p9.aes(fill="level", shape="level"), means.dropna(subset="estimate"), size=2.4, color=INK)
        + colours(levels, "representation")
        + p9.scale_linetype_manual(cycle(levels, LINES), name="Representation")
        + p9.scale_x_continuous(
            breaks=list(depths),
            labels=[f"{name}\n{at:.2f}" for name, at in places.itertuples(index=False)],
            minor_breaks=[],
        )
        + p9.scale_y_continuous(trans="sqrt", labels=signed, breaks=breaks_extended(n=6))
        + p9.expand_limits(y=0)
        + p9.facet_wrap("panel", ncol=1)
        + p9.labs(x="Layer and depth", y="Size of the change of the logit", caption=caption(note))
        + style(35 + 62 * len(levels_of(means, "panel")), grid="y")
    )


def plot_verdicts(verdicts: pd.DataFrame) -> ggplot:
    """Draw every measure's difference between the bases, and how it changes with depth; logits above, ratios below.

    Parameters
    ----------
    verdicts
        As `psychostats.contributions.judge` returns it.
    """
    names = ["words", "method", "unit", "estimate", "conf_low", "conf_high", "change", "change_low", "change_high"]
    require(verdicts, "verdicts", [*names, "label", "over"])
    letters, said = interval_letters(verdicts)
    about = pd.DataFrame(
        {
            "label": [f"{words} {letter}" for words, letter in zip(verdicts["words"], letters, strict=True)],
            "method": verdicts["method"].to_numpy(),
            "unit": verdicts["unit"].to_numpy(),
        }
    )
    shown = ["estimate", "conf_low", "conf_high"]
    parts = [
        pd.concat([about, verdicts[columns].set_axis(shown, axis=1).reset_index(drop=True)], axis=1).assign(panel=panel)
        for panel, columns in {
            "Distributed − local": shown,
            "Its change with depth": ["change", "change_low", "change_high"],
        }.items()
    ]
    every = pd.concat(parts, ignore_index=True)
    for name in ("panel", "unit"):
        every[name] = pd.Categorical(every[name], list(dict.fromkeys(every[name])))
    texts = {"panel": "panel", "unit": "unit", "label": "label", "method": "method"}
    rows = tidy(_ordered(every), "verdicts", texts, shown, wrap=30)
    rows = rows.dropna(subset="estimate")
    rows, axis = in_rows(rows, "label", apart="method", within="unit")
    methods = levels_of(rows, "method")
    tall = sum(lines_needed(list(part["label"].unique())) for _, part in rows.groupby("unit", observed=True))
    note = f"Bars: {said}. Each group of rows has the unit at its right."
    return (
        p9.ggplot(rows, p9.aes("estimate", "row", color="method", shape="method"))
        + p9.geom_vline(xintercept=0.0, color=FAINT, size=0.5)
        + bars(rows, p9.geom_segment, HORIZONTAL, size=0.7, show_legend=False)
        + p9.geom_point(size=2)
        + p9.scale_color_manual(cycle(methods, GREYS), name="Nulled by")
        + p9.scale_shape_manual(cycle(methods, ("o", "D")), name="Nulled by")
        + axis
        + p9.scale_x_continuous(labels=signed, breaks=breaks_extended(n=4))
        + p9.facet_grid("unit", "panel", scales="free", space="free_y")
        + p9.labs(x="Right of zero: more for distributed features", y="", caption=caption(note))
        + style(42 + 6.5 * tall, grid="x")
        + p9.theme(strip_text_y=p9.element_text(rotation=-90))
    )


def interval_letters(verdicts: pd.DataFrame) -> tuple[list[str], str]:
    """Return a letter for what each row's interval is, ``(a)``, and what the letters mean."""
    each = list(zip(verdicts["label"], verdicts["over"], strict=True))
    letters = {kind: f"({chr(ord('a') + place)})" for place, kind in enumerate(dict.fromkeys(each))}
    said = "; ".join(f"{letter} {label} over {over}" for (label, over), letter in letters.items())
    return [letters[kind] for kind in each], said


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Give methods and representations the order of every table: subtract, reconstruct; local, distributed."""
    out = frame.copy(deep=False)
    for name, order in (("method", ("subtract", "reconstruct")), ("representation", ("local", "distributed"))):
        if name in out:
            held = set(out[name].astype(str))
            out[name] = pd.Categorical(out[name].astype(str), [level for level in order if level in held])
    return out
