"""Figures of single features: their distribution, the share above a threshold, what predicts them, and balance.

In: tidy tables.  Out: plotnine figures in the style of the others.  Knows nothing of trials, models, fits or reports.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np
import pandas as pd
from mizani.breaks import breaks_extended
from plotnine import ggplot

from psychostats.figures import (
    BAND,
    FAINT,
    INK,
    VERTICAL,
    accuracy_limits,
    bars,
    caption,
    chance_line,
    colours,
    cycle,
    in_rows,
    label_of,
    levels_of,
    lines_needed,
    named_axis,
    p9,
    panel_rows,
    panels_of,
    side_by_side,
    signed,
    style,
    tidy,
    title_of,
)

_ESTIMATES = ["estimate", "conf_low", "conf_high"]


def plot_features(
    features: pd.DataFrame,
    *,
    factor: str,
    interval_label: str,
    threshold: float,
    chance: float | None = 0.5,
    item: str = "feature",
) -> ggplot:
    """Draw every feature's interpretability with its interval, in order, one panel a basis; raw accuracy as crosses.

    Parameters
    ----------
    features
        ``<factor>, raw, estimate, conf_low, conf_high``, a row a feature.
    factor
        Column of the bases.
    interval_label
        What the bars are.
    threshold
        Accuracy from which a feature is called interpretable: a line.
    chance
        Accuracy of a guesser; None where it is not known.
    item
        What one row is called.
    """
    rows = tidy(features, "features", {"level": factor}, [*_ESTIMATES, "raw"]).dropna(subset="estimate")
    levels = levels_of(rows, "level")
    by = ["level", "estimate", "conf_low", "raw"]
    rows = rows.sort_values(by, ascending=[True, False, False, False], kind="stable")
    rows["rank"] = rows.groupby("level", observed=True).cumcount() + 1.0
    count = rows.groupby("level", observed=True)["rank"].max()
    over = rows[rows["estimate"] > threshold].groupby("level", observed=True).size()
    names = {
        level: f"{level}: {int(over.get(level, 0))} of {int(count[level])} estimates above {threshold:g}"
        for level in levels
    }
    rows["panel"] = rows["level"].cat.rename_categories(names)
    crowd = float(count.max())
    note = (
        f"Each {item} once, the best first. Large points: posterior mean, shrunk; bars: {interval_label}. "
        f"Crosses: raw accuracy. Solid line: the threshold, {threshold:g}."
    )
    return (
        p9.ggplot(rows, p9.aes("rank", "estimate"))
        + chance_line(chance)
        + p9.geom_hline(yintercept=threshold, color=INK, size=0.5)
        + bars(
            rows,
            p9.geom_linerange,
            VERTICAL | {"color": "level"},
            size=float(np.clip(130 / crowd, 0.9, 2.6)),
            alpha=0.35,
        )
        + p9.geom_point(p9.aes(y="raw"), rows.dropna(subset="raw"), shape="x", size=1.3, color=FAINT, stroke=0.4)
        + p9.geom_point(p9.aes(color="level", shape="level"), size=float(np.clip(120 / crowd, 1.2, 2.2)), stroke=0)
        + colours(levels, factor)
        + p9.facet_wrap("panel", ncol=1)
        + p9.scale_x_continuous(
            labels=lambda at: [f"{x:g}" if x >= 1 and x == int(x) else "" for x in at], expand=(0.015, 0)
        )
        + p9.coord_cartesian(ylim=accuracy_limits(chance, rows["raw"], rows["conf_low"]))
        + p9.labs(x=f"Rank of the {label_of(item, 40)}", y="Interpretability", caption=caption(note))
        + style(28 + 46 * len(levels), grid="y", legend="none")
    )


def plot_shares(shares: pd.DataFrame, *, factor: str, by: str | None, threshold: float, interval_label: str) -> ggplot:
    """Draw the share of features above a threshold in each basis, over all and within the levels of a column.

    Parameters
    ----------
    shares
        Of `psychostats.interpretability.share_above`: ``<factor>, target, <by>, estimate, conf_low, conf_high``; rows
        of differences are left out. Target ``studied`` is filled, ``new`` open.
    factor, by
        Columns of the bases and of the places; without `by` there is one place.
    threshold, interval_label
        As in `plot_features`.
    """
    kept = shares[shares["contrast"].isna()]
    whole = "all"
    place = kept[by].astype(object).where(kept[by].notna(), whole) if by else pd.Series(whole, index=kept.index)
    levels = list(dict.fromkeys(kept[factor]))
    named = kept.assign(
        label=place.astype(str), **{factor: pd.Categorical(kept[factor], levels)}, kind=kept["target"].map(str)
    )
    rows = tidy(named, "shares", {"level": factor, "along": "label", "kind": "kind"}, _ESTIMATES, wrap=12)
    order = list(dict.fromkeys(rows["along"].astype(str)))
    rows["along"] = pd.Categorical(rows["along"].astype(str), order, ordered=True)
    levels, kinds = levels_of(rows, "level"), levels_of(rows, "kind")
    rows["which"] = rows["level"].astype(str) + ", " + rows["kind"].astype(str)
    which = [f"{level}, {kind}" for level in levels for kind in kinds]
    rows["level_only"], rows["level"] = rows["level"], pd.Categorical(rows["which"], which)
    rows = side_by_side(rows, which, order)
    rows["level"] = rows["level_only"]
    open_too = " Filled: the studied features; open: new features at the same depths." if len(kinds) > 1 else ""
    note = f"Share of features whose interpretability is above {threshold:g}. Bars: {interval_label}.{open_too}"
    old, new = (rows[rows["kind"] == kind] for kind in ("studied", "new"))
    return (
        p9.ggplot(rows, p9.aes("at", "estimate"))
        + bars(rows, p9.geom_linerange, VERTICAL | {"color": "level"}, size=1.6, alpha=0.45, show_legend=False)
        + ([p9.geom_point(p9.aes(color="level", shape="level", fill="level"), old, size=2.4)] if len(old) else [])
        + (
            [
                p9.geom_point(
                    p9.aes(color="level", shape="level"), new, fill="white", size=2.4, stroke=0.6, show_legend=False
                )
            ]
            if len(new)
            else []
        )
        + colours(levels, factor)
        + named_axis(order)
        + p9.scale_y_continuous(labels=lambda at: [f"{100 * y:.0f} %" for y in at])
        + p9.coord_cartesian(ylim=(-0.02, 1.02))
        + p9.labs(x=title_of(by) if by else "", y="Share of features", caption=caption(note))
        + style(75, grid="y", turned=order if len(order) * (max(map(len, order)) + 2) > 95 else ())
    )


def plot_along(
    features: pd.DataFrame,
    line: pd.DataFrame,
    *,
    factor: str,
    covariate: str,
    x_label: str,
    interval_label: str,
    line_label: str,
    chance: float | None = 0.5,
) -> ggplot:
    """Draw features' interpretability against a covariate, and the line of a model with it, one panel a basis.

    Parameters
    ----------
    features
        ``<factor>, <covariate>, estimate, conf_low, conf_high``, a row a feature.
    line
        ``<factor>, value, estimate, conf_low, conf_high``: accuracy along the covariate.
    factor, covariate
        Columns of the bases and of the horizontal axis.
    x_label, interval_label, line_label
        Words for the axis, for the bars and for the ribbon.
    chance
        As in `plot_features`.
    """
    points = tidy(features, "features", {"level": factor}, _ESTIMATES, scale={"at": covariate})
    curve = tidy(line, "line", {"level": factor}, _ESTIMATES, scale={"at": "value"}, like=points)
    points, levels = points.dropna(subset=["estimate", "at"]), levels_of(points, "level")
    # Each basis only as far as its own features reach: the line beyond would be a guess.
    ends = points.groupby("level", observed=True)["at"].agg(["min", "max"])
    low, high = (curve["level"].astype(str).map(ends[name]).astype(float) for name in ("min", "max"))
    curve = curve[(curve["at"] >= low - 1e-9) & (curve["at"] <= high + 1e-9)]
    curve = curve[curve.groupby("level", observed=True)["at"].transform("size") > 1]
    note = (
        f"Points: features, from the main model; bars: {interval_label}. Lines: a model with the covariate; ribbons: "
        f"{line_label}, of the population, other "
        "predictors at their means."
    )
    return (
        p9.ggplot(points, p9.aes("at", "estimate"))
        + chance_line(chance)
        + bars(curve, p9.geom_ribbon, VERTICAL | {"fill": "level"}, alpha=0.2)
        + ([p9.geom_line(p9.aes(color="level", linetype="level"), curve, size=0.9)] if len(curve) else [])
        + bars(points, p9.geom_linerange, VERTICAL | {"color": "level"}, size=0.5, alpha=0.45)
        + p9.geom_point(p9.aes(color="level", shape="level"), size=1.7, stroke=0, alpha=0.9)
        + p9.scale_linetype_manual(cycle(levels, ("solid", "dashed")))
        + colours(levels, factor)
        + p9.scale_x_continuous(labels=signed, breaks=breaks_extended(n=5))
        + p9.facet_wrap("level", ncol=min(2, len(levels)))
        + p9.coord_cartesian(ylim=accuracy_limits(chance, points["conf_low"], curve["conf_low"]))
        + p9.labs(x=x_label, y="Interpretability", caption=caption(note))
        + style(32 + 55 * -(-len(levels) // 2), grid="y", legend="none")
    )


def plot_balance(balance: pd.DataFrame, *, by: str | None, contrast: str, limit: float) -> ggplot:
    """Draw standardised differences of covariates between two bases, before and after matching (a Love plot).

    Parameters
    ----------
    balance
        ``covariate, sample, smd`` and `by`; a row of `by` that is missing stands for all together.
    by
        Column of the panels, None for one.
    contrast
        The difference in words, ``distributed − local``.
    limit
        Difference from which a covariate is called out of balance: the edges of the band.
    """
    place = (
        balance[by].astype(object).where(balance[by].notna(), "all") if by else pd.Series("all", index=balance.index)
    )
    panels = list(dict.fromkeys(place.astype(str)))
    words = {"all": "all trials", "matched": "matched"}
    named = balance.assign(
        experiment=pd.Categorical(place.astype(str), panels),
        label=balance["covariate"].str.replace("_", " "),
        kind=balance["sample"].map(lambda one: words.get(one, one)),
    )
    texts = {"experiment": "experiment", "label": "label", "kind": "kind"}
    rows = tidy(named, "balance", texts, ["smd"], wrap=20).dropna(subset="smd")
    rows, axis = in_rows(rows, "label", apart="kind")
    kinds, columns = levels_of(rows, "kind"), min(4, panels_of(rows))
    note = (
        f"Difference of means, {contrast}, each stimulus once, in SDs before matching. Shaded: within ±{limit:g}. No "
        "bars: a property of these stimuli, not an estimate."
    )
    return (
        p9.ggplot(rows, p9.aes("smd", "row"))
        + p9.annotate("rect", xmin=-limit, xmax=limit, ymin=-np.inf, ymax=np.inf, fill=BAND)
        + p9.geom_vline(xintercept=0.0, color=FAINT, size=0.5)
        + p9.geom_point(p9.aes(shape="kind", fill="kind"), size=2.1, color=INK, stroke=0.6)
        + p9.scale_shape_manual(cycle(kinds, ("s", "o")), name="Stimuli")
        + p9.scale_fill_manual(cycle(kinds, ("white", INK)), name="Stimuli")
        + axis
        + p9.scale_x_continuous(labels=signed, breaks=breaks_extended(n=4))
        + ([p9.facet_wrap("experiment", ncol=columns)] if panels_of(rows) > 1 else [])
        + p9.labs(x="Standardised difference", y="", caption=caption(note))
        + style(32 + panel_rows(rows, columns) * (8 + 7 * lines_needed(levels_of(rows, "label"))), grid="x")
    )
