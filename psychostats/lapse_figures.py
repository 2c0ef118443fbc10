"""Figures of what lapses and careless people do to a study: power and error, and what a rule about catch trials gives.

In: tidy tables of `psychostats.lapse_tables`.  Out: plotnine figures laid out for a column of 160 mm.  Knows nothing of
simulations, fits or reports.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import pandas as pd
from plotnine import ggplot

from psychostats.figures import (
    FAINT,
    FONT,
    INK,
    VERTICAL,
    bars,
    caption,
    colours,
    levels_of,
    p9,
    signed,
    style,
    tidy,
)

#: What each treatment of the lapse rate is called, in the order of legends.
TREATMENTS: Mapping[str, str] = {
    "ignored": "lapses ignored",
    "known": "rate known",
    "estimated": "rate from main trials",
    "catch": "rate from catch trials",
}
_WORDS = {
    "power": ("Power", 1.0),
    "rmse": ("RMSE (percentage points)", 100.0),
    "expected": ("Expected error (percentage points)", 100.0),
    "half_width": ("Half width (percentage points)", 100.0),
    "bias": ("Bias (percentage points)", 100.0),
}
_Z = 1.959963984540054


def name_rule(least: float, catch: int) -> str:
    """Say what a rule asks for: ``2 of 3 right``."""
    if least <= 0:
        return "no rule"
    need = next(count for count in range(catch + 1) if count / catch >= least)
    return f"{need} of {catch} right"


def plot_lapses(
    performance: pd.DataFrame, *, measures: tuple[str, ...] = ("power", "rmse"), careless: Mapping[float, str]
) -> ggplot:
    """Draw power and error against the true lapse rate, a line a treatment of it; a panel a measure and scenario.

    Parameters
    ----------
    performance
        Of `psychostats.lapse_tables.performance`, of one rule and one quantity.
    measures
        ``power``, ``rmse``, ``half_width`` or ``bias``.
    careless
        The shares of careless people to draw, and what each is called.
    """
    parts = []
    for measure in measures:
        word, unit = _WORDS[measure]
        for share, name in careless.items():
            rows = performance[performance["careless"] == share]
            value, error = unit * rows[measure], unit * _Z * rows[f"{measure}_se"]
            parts.append(
                pd.DataFrame(
                    {
                        "lapse": 100.0 * rows["lapse"],
                        "treatment": pd.Categorical(rows["treatment"].map(TREATMENTS), list(TREATMENTS.values())),
                        "kind": word,
                        "experiment": name,
                        "estimate": value,
                        "conf_low": value - error,
                        "conf_high": value + error,
                    }
                )
            )
    frame = tidy(
        pd.concat(parts),
        "performance",
        {"experiment": "experiment", "kind": "kind", "level": "treatment"},
        ["lapse", "estimate", "conf_low", "conf_high"],
        wrap=44,
    ).dropna(subset="estimate")
    levels = levels_of(frame, "level")
    step = 0.018 * max(float(np.ptp(frame["lapse"])), 1.0)
    frame["at"] = frame["lapse"] + step * (frame["level"].cat.codes - (len(levels) - 1) / 2)
    single = len(careless) == 1
    panels = (
        [p9.facet_wrap("kind", scales="free_y")] if single else [p9.facet_grid("kind ~ experiment", scales="free_y")]
    )
    note = "Bars: 95 % Monte Carlo intervals. Simulated participants."
    note += " Points of one rate are set apart." if len(levels) > 1 else ""
    return (
        p9.ggplot(frame, p9.aes("at", "estimate", color="level"))
        + p9.geom_line(size=0.5)
        + bars(frame, p9.geom_linerange, VERTICAL, size=0.5)
        + p9.geom_point(p9.aes(fill="level", shape="level"), color=INK, size=1.9, stroke=0.4)
        + colours(levels, "in the analysis")
        + p9.scale_x_continuous(breaks=sorted(frame["lapse"].unique()), labels=_plain)
        + p9.scale_y_continuous(labels=signed)
        + panels
        + p9.labs(x="True lapse rate (%)", y="", caption=caption(note))
        + style(38 + 46 * (1 if single else len(measures)), grid="y")
        + p9.theme(strip_text_y=p9.element_text(rotation=270, size=8, weight="bold", color=INK, ha="center"))
    )


def plot_rules(
    differences: pd.DataFrame, break_even: pd.DataFrame, *, measure: Literal["expected", "rmse", "power"], catch: int
) -> ggplot:
    """Draw what each rule changes against the share of careless people, a panel a lapse rate.

    Parameters
    ----------
    differences, break_even
        Of `psychostats.lapse_tables`, of one treatment and one quantity.
    measure
        ``expected`` error, ``rmse`` or ``power``, the rule minus none.
    catch
        Catch trials a person.
    """
    unit = _WORDS[measure][1]
    value, error = unit * differences[measure], unit * _Z * differences[f"{measure}_se"]

    def named(table: pd.DataFrame) -> pd.DataFrame:
        rules = [name_rule(one, catch) for one in sorted(differences["rule"].unique())]
        panels = [f"Lapse rate {100 * one:g} %" for one in sorted(differences["lapse"].unique())]
        return table.assign(
            rule=pd.Categorical([name_rule(one, catch) for one in table["rule"]], rules),
            experiment=pd.Categorical([f"Lapse rate {100 * one:g} %" for one in table["lapse"]], panels),
            careless=100.0 * table["careless"],
        )

    texts, numbers = {"experiment": "experiment", "level": "rule"}, ["careless", "estimate", "conf_low", "conf_high"]
    frame = named(differences.assign(estimate=value, conf_low=value - error, conf_high=value + error))
    frame = tidy(frame, "differences", texts, numbers, wrap=30)
    found = break_even[(break_even["measure"] == measure) & (break_even["verdict"] == "from")]
    levels = levels_of(frame, "level")
    better = f"{'above' if measure == 'power' else 'below'} 0 the rule gives more than it costs"
    note = (
        f"Bands: 95 % Monte Carlo intervals of paired differences; {better}. "
        + ("Rings: break-even, with 95 % intervals. " if len(found) else "")
        + "Simulated participants."
    )
    what = {
        "expected": "Change in error (percentage points)",
        "rmse": "Change in RMSE (percentage points)",
        "power": "Change in power",
    }[measure]
    plot = (
        p9.ggplot(frame, p9.aes("careless", "estimate", color="level"))
        + p9.geom_hline(yintercept=0.0, color=FAINT, size=0.5)
        + bars(frame, p9.geom_ribbon, VERTICAL | {"fill": "level"}, alpha=0.18, color="none")
        + p9.geom_line(size=0.7)
        + p9.geom_point(p9.aes(shape="level", fill="level"), color=INK, size=1.9, stroke=0.4)
    )
    if len(found):
        rings = named(found.assign(estimate=0.0, conf_low=np.nan, conf_high=np.nan))
        rings = tidy(rings, "break_even", texts, ["careless", "estimate"], like=frame, wrap=30)
        reach = 100.0 * _Z * found["careless_se"].to_numpy(dtype=float)
        edge = float(frame["careless"].max())
        rings["low"], rings["high"] = (
            (rings["careless"] - reach).clip(0.0),
            (rings["careless"] + reach).clip(upper=edge),
        )
        plot = (
            plot
            + p9.geom_segment(p9.aes(x="low", xend="high", y="estimate", yend="estimate"), rings, size=1.2)
            + p9.geom_point(p9.aes("careless", "estimate"), rings, shape="o", fill="white", color=INK, size=3.0)
            + p9.geom_text(
                p9.aes("careless", "estimate", label="[f'{x:.1f} %' for x in careless]"),
                rings,
                va="bottom",
                nudge_y=0.04 * float(frame["conf_high"].max() - frame["conf_low"].min()),
                size=6.5,
                family=FONT,
                color=INK,
                show_legend=False,
            )
        )
    return (
        plot
        + colours(levels, "catch trials asked for")
        + p9.scale_x_continuous(breaks=sorted(frame["careless"].unique()), labels=_plain)
        + p9.scale_y_continuous(labels=signed)
        + p9.facet_wrap("experiment", ncol=3)
        + p9.labs(x="Careless people (%)", y=what, caption=caption(note))
        + style(90, grid="y")
    )


def _plain(breaks: Iterable[float]) -> list[str]:
    return [f"{one:g}" for one in breaks]
