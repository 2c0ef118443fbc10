"""Figures of the sampler: whether its chains agree, and how many draws its draws are worth.

In: tidy tables of terms and of draws.  Out: plotnine figures in the one style.  Knows no fit.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from mizani.breaks import breaks_extended
from plotnine import ggplot

from psychostats.figures import (
    ALARM,
    BAND,
    FAINT,
    FONT,
    INK,
    LINES,
    PALETTE,
    caption,
    cycle,
    label_of,
    levels_of,
    p9,
    panels_of,
    shorten,
    signed,
    style,
    tidy,
)


def plot_convergence(terms: pd.DataFrame, *, limits: Mapping[str, float]) -> ggplot:
    """Draw R-hat and effective sample sizes as strips of terms, with their limits; the worst failures are named.

    Parameters
    ----------
    terms
        ``experiment, term, rhat, ess_bulk, ess_tail``.
    limits
        Greatest ``rhat`` and least ``ess_bulk`` and ``ess_tail`` of a converged term.
    """
    measures = {"rhat": "R-hat", "ess_bulk": "Bulk ESS", "ess_tail": "Tail ESS"}
    wide = tidy(terms, "terms", {"experiment": "experiment", "term": "term"}, list(measures), wrap=60)
    experiments = levels_of(wide, "experiment")
    rows = wide.melt(["experiment", "term"], list(measures), "measure", "value").dropna(subset="value")
    rows["at"] = rows["measure"].map(dict(limits))
    rows["excess"] = np.where(rows["measure"] == "rhat", rows["value"] / rows["at"], rows["at"] / rows["value"])
    rows["place"] = np.where(rows["excess"] > 1, "failed", "met")
    rows["measure"] = pd.Categorical(rows["measure"].map(measures), list(measures.values()))
    # The golden ratio spreads neighbours evenly over the row, so equal values stay apart without chance deciding.
    order = rows.groupby(["experiment", "measure"], observed=True).cumcount()
    middle = pd.Series(len(experiments) - 1.0 - rows["experiment"].cat.codes, index=rows.index)
    rows["row"] = middle + (order * 0.618034 % 1 - 0.5) * 0.4
    failed = rows[rows["place"] == "failed"].sort_values("excess", ascending=False, kind="stable")
    worst = failed.groupby(["experiment", "measure"], observed=True).head(1)
    worst = worst.assign(row=middle.loc[worst.index] + 0.38, term=worst["term"].astype(str).map(shorten))
    # Failing R-hats lie at the right edge of their panel, failing sizes at the left one: names run inwards.
    label = [
        p9.geom_text(p9.aes(label="term"), part, size=6, color=ALARM, ha=side, family=FONT)
        for side, part in (
            ("right", worst[worst["measure"] == measures["rhat"]]),
            ("left", worst[worst["measure"] != measures["rhat"]]),
        )
        if len(part)
    ]
    return (
        p9.ggplot(rows, p9.aes("value", "row"))
        + p9.geom_vline(p9.aes(xintercept="at"), linetype="dashed", color=FAINT, size=0.5)
        + p9.geom_point(p9.aes(color="place", shape="place"), size=1.7, alpha=0.8, stroke=0)
        + label
        + p9.scale_color_manual({"met": INK, "failed": ALARM})
        + p9.scale_shape_manual({"met": "o", "failed": "D"})
        + p9.scale_y_continuous(
            breaks=list(range(len(experiments)))[::-1], labels=experiments, limits=(-0.5, len(experiments) - 0.4)
        )
        + p9.scale_x_continuous(labels=signed, breaks=breaks_extended(n=4))
        + p9.facet_wrap("measure", scales="free_x", nrow=1)
        + p9.labs(x="", y="", caption=caption(f"Dashed: limits. {len(failed)} of {len(rows)} values fail."))
        + style(32 + 16 * len(experiments), grid="x", legend="none")
    )


def plot_ranks(draws: pd.DataFrame, *, bins: int = 20) -> ggplot:
    """Draw rank histograms, one panel a term and one line a chain; flat lines are chains that agree.

    Ranks are taken over all chains together (Vehtari et al. 2021, Bayesian Analysis 16, 667-718); the band holds
    about 95 % of the bins of independent draws.

    Parameters
    ----------
    draws
        ``experiment, term, chain, draw, value``.
    bins
        Number of bins of the ranks.
    """
    texts = {"experiment": "experiment", "term": "term", "chain": "chain"}
    several = len(draws["experiment"].unique()) > 1
    broken = draws.assign(term=draws["term"].astype(str).str.replace(":", ": "))  # a place to break a long name
    rows = tidy(broken, "draws", texts, ["value"], wrap=27 if several else 30)
    wide = max(7, 54 // panels_of(rows))  # letters that fit above a column of panels
    rows["experiment"] = rows["experiment"].cat.rename_categories(lambda name: label_of(name, wide))
    panel = ["experiment", "term"]
    place = rows.groupby(panel, observed=True)["value"].rank(method="average", pct=True)
    rows["bin"] = np.ceil(place * bins).astype(int) - 1
    chains = levels_of(rows, "chain")
    counts = pd.crosstab([rows[c] for c in (*panel, "chain")], rows["bin"]).reindex(columns=range(bins), fill_value=0)
    length = counts.sum(axis=1)
    shares = (
        counts.div(length / bins, axis=0)
        .reset_index()
        .melt([*panel, "chain"], value_name="share")
        .astype({"bin": float})
    )
    # Both edges of each bin, so that a plain line draws the steps.
    edges = pd.concat([shares.assign(at=shares["bin"] / bins), shares.assign(at=(shares["bin"] + 1) / bins)])
    edges = edges.sort_values([*panel, "chain", "bin", "at"], kind="stable")
    spread = 1.96 * float(np.sqrt(bins / length.min() * (1 - 1 / bins)))
    terms = levels_of(rows, "term")
    grid: Any = p9.facet_grid("term", "experiment") if several else p9.facet_wrap("term", ncol=3)
    deep = len(terms) if several else -(-len(terms) // 3)
    note = "Ranks over all chains; 1 is a flat histogram. Shaded: about 95 % of bins of independent draws."
    return (
        p9.ggplot(edges, p9.aes("at", "share"))
        + p9.annotate("rect", xmin=0, xmax=1, ymin=1 - spread, ymax=1 + spread, fill=BAND)
        + p9.geom_line(p9.aes(color="chain", linetype="chain", group="chain"), size=0.5)
        + p9.scale_color_manual(cycle(chains, PALETTE), name="Chain")
        + p9.scale_x_continuous(breaks=[0, 0.5, 1])
        + grid
        + p9.labs(x="Rank among all draws (share)", y="Share of draws / expected", caption=caption(note))
        + style(35 + 26 * deep, grid="y")
        + p9.scale_linetype_manual(cycle(chains, LINES), name="Chain")
        + p9.theme(strip_text=p9.element_text(size=7), strip_text_y=p9.element_text(rotation=0))
    )
