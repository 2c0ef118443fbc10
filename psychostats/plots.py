"""Figures from tidy tables alone, all in one colour-blind-safe style.

In: data frames with the columns each function names.  Out: plotnine figures laid out for a column of 160 mm.
Knows nothing of trials, models, fits or reports.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np
import pandas as pd
from mizani.breaks import breaks_extended
from plotnine import ggplot

from psychostats.figures import (
    ALARM,
    BAND,
    FAINT,
    GREYS,
    HORIZONTAL,
    INK,
    LINES,
    PALETTE,
    SHAPES,
    VERTICAL,
    accuracy_limits,
    bars,
    caption,
    chance_line,
    colours,
    crowded,
    cycle,
    facets,
    histogram,
    in_rows,
    label_of,
    legend_columns,
    levels_of,
    lines_needed,
    named_axis,
    p9,
    panel_rows,
    panels_of,
    require,
    save_figure,
    side_by_side,
    signed,
    style,
    term_labels,
    tidy,
    title_of,
)
from psychostats.intervals import Rope

__all__ = [
    "plot_accuracy",
    "plot_accuracy_by_depth",
    "plot_contrasts",
    "plot_predictive_accuracy",
    "plot_predictive_groups",
    "plot_prior_predictive",
    "plot_terms",
    "save_figure",
]


def plot_accuracy(
    participants: pd.DataFrame,
    summary: pd.DataFrame,
    *,
    factor: str,
    interval_label: str,
    chance: float | None = 0.5,
    quantity: str = "Accuracy",
    shares: bool = True,
) -> ggplot:
    """Draw raw accuracy by level: each participant a faint point, the mean with its interval on top.

    Parameters
    ----------
    participants
        One row a participant and level: ``experiment, <factor>, participant, n, accuracy``.
    summary
        One row a level: ``experiment, <factor>, estimate, conf_low, conf_high``.
    factor
        Column of the levels on the horizontal axis.
    interval_label
        What the bars are, for example ``Interval(...).label``.
    chance
        Accuracy of a guesser, between 0 and 1; None where it is not known.
    quantity, shares
        What stands in the columns ``accuracy``, with its unit, and whether it is a share, which 1 ends.
    """
    texts = {"experiment": "experiment", "level": factor}
    points = tidy(participants, "participants", texts, ["n", "accuracy"]).dropna(subset="accuracy")
    means = tidy(summary, "summary", texts, ["estimate", "conf_low", "conf_high"], like=points)
    levels = levels_of(means, "level")
    crowd = points.groupby(["experiment", "level"], observed=True).size().max()
    dots = float(np.clip(8 / np.sqrt(crowd), 1.0, 2.4))  # few people must not vanish, many must not clot
    note = f"Small points: participants. Large points: means; bars: {interval_label}."
    return (
        p9.ggplot(means, p9.aes("level", "estimate"))
        + chance_line(chance)
        + p9.geom_point(
            p9.aes(y="accuracy", color="level"),
            points,
            position=p9.position_jitter(width=0.22, height=0, random_state=1),
            size=dots,
            alpha=0.3 if dots < 2 else 0.6,
            stroke=0,
        )
        + bars(means, p9.geom_errorbar, VERTICAL, size=0.8, width=0.22, color=INK)
        + p9.geom_point(p9.aes(fill="level", shape="level"), means.dropna(subset="estimate"), size=1.9, color=INK)
        + colours(levels, factor)
        + p9.coord_cartesian(ylim=accuracy_limits(chance, points["accuracy"], means["conf_low"]) if shares else None)
        + p9.labs(x="", y=quantity, caption=caption(note))
        + facets(means)
        + style(35 + 40 * panel_rows(means), grid="y", legend="none", turned=crowded(levels, means))
    )


def plot_accuracy_by_depth(
    raw: pd.DataFrame,
    fitted: pd.DataFrame,
    *,
    factor: str,
    by: str = "depth",
    interval_label: str,
    chance: float | None = 0.5,
    items: pd.DataFrame | None = None,
    item: str = "item",
    quantity: str = "Accuracy",
    shares: bool = True,
) -> ggplot:
    """Draw accuracy along depth or layers: raw shares as points, the model as lines.

    Parameters
    ----------
    raw
        ``experiment, <factor>, <by>, n, accuracy``: one row a level and a depth, or a bin of depths.
    fitted
        ``experiment, <factor>, <by>, target, estimate, conf_low, conf_high``; target ``population`` is a strong line
        with its interval, ``typical`` a faint one without.
    factor, by
        Columns of the coloured levels and of the horizontal axis; a numeric `by` is drawn to scale.
    interval_label, chance
        As in `plot_accuracy`.
    items, item
        Raw accuracy of each thing shown, ``experiment, <factor>, <by>, n, accuracy`` with a numeric `by`, as faint
        points, and what such a thing is called.
    quantity, shares
        As in `plot_accuracy`.
    """
    mean = "accuracy" if quantity == "Accuracy" else "mean"
    to_scale = by in raw and pd.api.types.is_numeric_dtype(raw[by])
    texts = {"experiment": "experiment", "level": factor} | ({} if to_scale else {"along": by})
    scale = {"along": by} if to_scale else {}
    points = tidy(raw, "raw", texts, ["n", "accuracy"], scale=scale).dropna(subset="accuracy")
    estimates = ["estimate", "conf_low", "conf_high"]
    lines = tidy(fitted, "fitted", texts | {"target": "target"}, estimates, scale=scale, like=points)
    lines = lines.dropna(subset="estimate")
    levels, places = list(lines["level"].cat.categories), [] if to_scale else list(lines["along"].cat.categories)
    points, lines = (side_by_side(table, levels, places) for table in (points, lines))
    points["dot"] = 2.6 * np.sqrt(points["n"] / points["n"].max())
    lines["curve"] = lines["level"].astype(str) + "\n" + lines["target"].astype(str)
    several = lines.groupby(["experiment", "curve"], observed=True)["at"].transform("nunique") > 1
    population = lines["target"] == "population"
    columns = 1 if len(places) > 12 else 3
    tall = (55 if to_scale else 65) * panel_rows(points) if columns == 3 else 38 * panels_of(points)
    stacked = len(levels) > 4 or legend_columns(levels) < len(levels)
    colour, linked = {"color": "level"}, to_scale & several
    note = (
        f"Points: raw {mean}{'' if to_scale else ' at each place'}, their area in proportion to trials. Strong lines "
        f"and {'ribbons' if to_scale else 'bars'}: population, {interval_label}. Faint lines: typical."
    )
    faint, lowest = [], [points["accuracy"], lines["conf_low"]]
    if items is not None and to_scale and len(items):
        each = tidy(items, "items", texts, ["n", "accuracy"], scale=scale, like=points).dropna(subset="accuracy")
        spread = 0.012 * float(np.ptp(each["along"])) / max(len(levels) - 1, 1)
        place = each["level"].astype(str).map({level: i for i, level in enumerate(levels)}).astype(float)
        each = each.assign(at=each["along"] + spread * (2 * place - len(levels) + 1))  # levels beside each other
        faint = [p9.geom_point(p9.aes(y="accuracy", color="level", shape="level"), each, size=0.9, alpha=0.3, stroke=0)]
        note += f" Small faint points: the raw {mean} of each {item}."
        lowest.append(each["accuracy"])
    return (
        p9.ggplot(points, p9.aes("at"))
        + chance_line(chance)
        + faint
        + bars(lines[population & linked], p9.geom_ribbon, VERTICAL | {"fill": "level"}, alpha=0.2, show_legend=False)
        + bars(
            lines[population & ~linked], p9.geom_linerange, VERTICAL | colour, size=2.2, alpha=0.35, show_legend=False
        )
        + p9.geom_line(
            p9.aes(y="estimate", color="level", linetype="level", alpha="target", group="curve"),
            lines[several],
            size=0.8,
        )
        + p9.geom_point(p9.aes(y="accuracy", color="level", shape="level", size="dot"), alpha=0.8, stroke=0)
        + ([named_axis(places)] if places else [])
        + p9.scale_size_identity(guide=None)
        + p9.scale_alpha_manual({"population": 1.0, "typical": 0.35}, guide=None)
        + p9.scale_linetype_manual(cycle(levels, LINES), name=title_of(factor))
        + colours(levels, factor)
        + p9.coord_cartesian(ylim=accuracy_limits(chance, *lowest) if shares else None)
        + p9.labs(x=title_of(by), y=quantity, caption=caption(note))
        + facets(points, columns)
        + style(35 + tall, grid="y", turned=crowded(places, points, columns), stacked=stacked)
    )


def plot_contrasts(
    effects: pd.DataFrame, *, null: float = 0.0, rope: Rope | None = None, x_label: str, interval_label: str
) -> ggplot:
    """Draw a forest of contrasts: one row a contrast, one panel an experiment, both targets.

    Parameters
    ----------
    effects
        ``experiment, label, target, estimate, conf_low, conf_high``; target ``population`` is a filled disc,
        ``typical`` an open square.
    null
        The value of no effect, a vertical line.
    rope
        Region of practical equivalence in the units of the axis, a shaded band.
    x_label, interval_label
        Words for the horizontal axis and for the bars.
    """
    estimates = ["estimate", "conf_low", "conf_high"]
    texts = {"experiment": "experiment", "label": "label", "target": "target"}
    rows = tidy(effects, "effects", texts, estimates, wrap=34).dropna(subset="estimate")
    rows, axis = in_rows(rows, "label", apart="target")
    note = f"Bars: {interval_label}." + (
        f" Shaded: region of practical equivalence, {' to '.join(signed([rope.low, rope.high]))} on this axis."
        if rope
        else ""
    )
    shaded = [p9.annotate("rect", xmin=rope.low, xmax=rope.high, ymin=-np.inf, ymax=np.inf, fill=BAND)] if rope else []
    per_panel = lines_needed(levels_of(rows, "label"))
    return (
        p9.ggplot(rows, p9.aes("estimate", "row"))
        + shaded
        + p9.geom_vline(xintercept=null, color=FAINT, size=0.5)
        + bars(rows, p9.geom_segment, HORIZONTAL, size=0.7, color=INK)
        + p9.geom_point(p9.aes(shape="target", fill="target"), size=2.3, color=INK, stroke=0.6)
        + p9.scale_shape_manual({"population": "o", "typical": "s"}, name="Target")
        + p9.scale_fill_manual({"population": INK, "typical": "white"}, name="Target")
        + axis
        + p9.scale_x_continuous(labels=signed)
        + p9.labs(x=x_label, y="", caption=caption(note))
        + facets(rows, columns=1)
        + style(30 + panels_of(rows) * (8 + 4.5 * per_panel), grid="x")
    )


def plot_terms(terms: pd.DataFrame, *, interval_label: str) -> ggplot:
    """Draw the standard deviations and correlations of the random effects, experiments side by side.

    Parameters
    ----------
    terms
        ``experiment, term, group, estimate, conf_low, conf_high``; only ``sd_`` and ``cor_`` terms are drawn.
    interval_label
        What the bars are.
    """
    require(terms, "terms", ["experiment", "term", "group", "estimate", "conf_low", "conf_high"])
    names = {"sd": "Standard deviation", "cor": "Correlation"}
    prefix = terms["term"].astype(str).str.partition("_")[0]
    kept = terms.assign(kind=prefix.map(names), label=term_labels(terms))[prefix.isin(list(names))]
    kept = kept.assign(kind=pd.Categorical(kept["kind"], [n for n in names.values() if n in set(kept["kind"])]))
    texts = {"experiment": "experiment", "label": "label", "kind": "kind"}
    rows = tidy(kept, "terms", texts, ["estimate", "conf_low", "conf_high"], wrap=27).dropna(subset="estimate")
    # One running number over both kinds: with a free axis each panel then shows only its own rows.
    rows, axis = in_rows(rows.sort_values("kind", kind="stable"), "label", apart="experiment", within="kind")
    experiments = levels_of(rows, "experiment")
    most = max(lines_needed(list(part["label"].unique())) for _, part in rows.groupby("kind", observed=True))
    whole = pd.DataFrame({"kind": [names["sd"], names["cor"], names["cor"]], "estimate": [0.0, -1.0, 1.0]})
    whole = whole[whole["kind"].isin(levels_of(rows, "kind"))]
    whole["kind"] = pd.Categorical(whole["kind"], levels_of(rows, "kind"), ordered=True)
    legend = "bottom" if len(experiments) > 1 else "none"
    return (
        p9.ggplot(rows, p9.aes("estimate", "row", color="experiment", shape="experiment"))
        + bars(rows, p9.geom_segment, HORIZONTAL, size=0.7)
        + p9.geom_point(size=2)
        + p9.geom_blank(p9.aes("estimate"), whole, inherit_aes=False)
        + p9.scale_x_continuous(labels=signed)
        + p9.scale_color_manual(cycle(experiments, GREYS), name="Experiment")
        + p9.scale_shape_manual(cycle(experiments, SHAPES), name="Experiment")
        + axis
        + p9.facet_wrap("kind", scales="free", ncol=2)
        + p9.labs(x="", y="", caption=caption(f"Bars: {interval_label}."))
        + style(30 + most * max(5.0, 3.2 * len(experiments)), grid="x", legend=legend)
    )


def plot_predictive_accuracy(
    check: pd.DataFrame, *, factor: str, by: str, interval_label: str, quantity: str = "Accuracy"
) -> ggplot:
    """Draw observed accuracy against its posterior predictive interval, by level and layer.

    Parameters
    ----------
    check
        ``experiment, <factor>, <by>, observed, conf_low, conf_high``; `by` is read as categories.
    factor, by
        Columns of the coloured levels and of the rows.
    interval_label
        What the bars are, for example ``95 % posterior predictive interval``.
    quantity
        What is on the axis, with its unit.
    """
    texts = {"experiment": "experiment", "level": factor, "along": by}
    rows = tidy(check, "check", texts, ["observed", "conf_low", "conf_high"]).dropna(subset="observed")
    rows["outside"] = (rows["observed"] < rows["conf_low"]) | (rows["observed"] > rows["conf_high"])
    rows, axis = in_rows(rows, "along", apart="level")
    levels, places = levels_of(rows, "level"), levels_of(rows, "along")
    missed = rows[rows["outside"]]
    ring = (
        [p9.geom_point(shape="o", size=4.2, fill="none", color=ALARM, stroke=0.7, data=missed)] if len(missed) else []
    )
    note = f"Points: observed. Bars: {interval_label}." + (
        f" Ringed: outside ({len(missed)} of {len(rows)})." if len(missed) else ""
    )
    tall = lines_needed(places) * max(4.5, 2.6 * len(levels)) * panel_rows(rows)
    return (
        p9.ggplot(rows, p9.aes("observed", "row"))
        + bars(
            rows,
            p9.geom_segment,
            HORIZONTAL | {"color": "level"},
            size=1.8,
            alpha=0.35,
            show_legend=False,
        )
        + ring
        + p9.geom_point(p9.aes(color="level", shape="level"), size=1.9, stroke=0)
        + colours(levels, factor)
        + axis
        + p9.labs(x=quantity, y=title_of(by), caption=caption(note))
        + facets(rows)
        + style(35 + tall, grid="x")
    )


def plot_predictive_groups(
    check: pd.DataFrame, *, group: str, interval_label: str, quantity: str = "Accuracy"
) -> ggplot:
    """Draw each participant's (or pair's) observed accuracy over its posterior predictive interval, in order.

    Parameters
    ----------
    check
        ``experiment, <group>, observed, conf_low, conf_high``.
    group
        Column that names who or what was observed.
    interval_label
        What the bars are.
    quantity
        What is on the axis, with its unit.
    """
    value = "accuracy" if quantity == "Accuracy" else "mean"
    texts = {"experiment": "experiment", "name": group}
    rows = tidy(check, "check", texts, ["observed", "conf_low", "conf_high"]).dropna(subset="observed")
    rows = rows.sort_values(["observed", "conf_low", "name"], kind="stable")
    rows["rank"] = rows.groupby("experiment", observed=True).cumcount() + 1.0
    low, high = rows["conf_low"], rows["conf_high"]
    rows["place"] = np.where((rows["observed"] < low) | (rows["observed"] > high), "outside", "inside")
    share = f"{(rows['place'] == 'outside').sum()} of {len(rows)}"
    crowd = int(rows["rank"].max())
    return (
        p9.ggplot(rows, p9.aes("rank", "observed"))
        + bars(rows, p9.geom_linerange, VERTICAL, size=float(np.clip(90 / crowd, 0.5, 3.0)), color="#C9C9C9")
        + p9.geom_point(p9.aes(color="place", shape="place", size="place"), stroke=0)
        + p9.scale_color_manual({"inside": INK, "outside": ALARM})
        + p9.scale_shape_manual({"inside": "o", "outside": "D"})
        + p9.scale_size_manual({"inside": float(np.clip(60 / crowd, 0.6, 1.8)), "outside": 2.2})
        + p9.scale_x_continuous(labels=lambda at: [f"{x:g}" if x == int(x) else "" for x in at])
        + p9.labs(
            x=f"Each {label_of(group, 40)}, sorted by observed {value}",
            y=quantity,
            caption=caption(f"Points: observed. Bars: {interval_label}. Coloured diamonds: outside ({share})."),
        )
        + facets(rows)
        + style(35 + 40 * panel_rows(rows), grid="y", legend="none")
    )


def plot_prior_predictive(
    draws: pd.DataFrame,
    *,
    factor: str,
    chance: float | None = 0.5,
    quantity: str = "Accuracy",
    shares: bool = True,
) -> ggplot:
    """Draw what the priors alone say of accuracy at each level, and of its differences from the first level.

    Parameters
    ----------
    draws
        ``<factor>, draw, accuracy`` and, where there are several, ``experiment``: one row a prior draw and level.
    factor
        Column of the levels; the first is the reference of the differences.
    chance
        Accuracy of a guesser, between 0 and 1.
    quantity, shares
        As in `plot_accuracy`. What is no share may have draws far out, of which the outermost are not drawn.
    """
    several = "experiment" in draws and len(draws["experiment"].unique()) > 1
    named = draws if several else draws.assign(experiment="all")
    rows = tidy(named, "draws", {"experiment": "experiment", "level": factor}, ["draw", "accuracy"])
    levels = levels_of(rows, "level")
    wide = rows.pivot_table(index=["experiment", "draw"], columns="level", values="accuracy", observed=True)
    cut = "" if shares else f" The outermost {100 * _OUTER:g} % of draws at either end are not drawn."
    words = "" if chance is None else f"chance ({chance:g}), or "
    heading = label_of(quantity, 24)
    panels = [(f"{heading}\n{level}", level, wide[level], chance) for level in levels]
    panels += [(f"Difference\n{x} − {levels[0]}", x, wide[x] - wide[levels[0]], 0.0) for x in levels[1:]]
    parts = [
        histogram(values.xs(experiment) if shares else _inner(values.xs(experiment))).assign(
            panel=f"{experiment}\n{panel}" if several else panel, level=level, at=at
        )
        for experiment in wide.index.unique("experiment")
        for panel, level, values, at in panels
    ]
    boxes = pd.concat(parts, ignore_index=True)
    boxes["at"] = boxes["at"].astype(float)
    boxes["panel"] = pd.Categorical(boxes["panel"], list(boxes["panel"].unique()))
    return (
        p9.ggplot(boxes)
        + p9.geom_rect(p9.aes(xmin="low", xmax="high", ymin=0, ymax="share", fill="level"), alpha=0.8)
        + p9.geom_vline(p9.aes(xintercept="at"), boxes.dropna(subset="at"), linetype="dashed", color=FAINT, size=0.5)
        + p9.scale_fill_manual(cycle(levels, PALETTE))
        + p9.facet_wrap("panel", scales="free_x", ncol=3)
        + p9.scale_x_continuous(labels=signed, breaks=breaks_extended(n=4))
        + p9.labs(x="", y="Share of prior draws", caption=caption(f"Dashed: {words}no difference.{cut}"))
        + style(30 + 42 * -(-len(parts) // 3), grid="y", legend="none")
    )


# Share of prior draws at either end that is not drawn, of times and scores: a few lie so far out that nothing shows.
_OUTER = 0.1


def _inner(values: pd.Series[float]) -> pd.Series[float]:
    low, high = values.quantile([_OUTER, 1.0 - _OUTER])
    return values[values.between(low, high)]
