"""Rows about features into plain sentences: how many are interpretable, what predicts it, what adjustment leaves.

In: rows that `psychostats.interpretability` and `psychostats.explanations` made.  Out: words whose every number is a
cell of those rows, rounded, or a count of them.  Knows no document layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from psychostats.document import Inline, Strong, format_value, prose
from psychostats.intervals import Interval
from psychostats.measure import number, percent, points_interval
from psychostats.sentences import estimate, verdict

Row: TypeAlias = Mapping[Any, Any]


def say_distribution(features: pd.DataFrame, level: str, factor: str) -> tuple[Inline, ...]:
    """Say of one basis how its features are spread, and of how many their interval decides."""
    rows = features[features[factor] == level]
    threshold = float(rows["threshold"].iloc[0])
    over, under = int((rows["conf_low"] > threshold).sum()), int((rows["conf_high"] < threshold).sum())
    low, middle, high = rows["estimate"].quantile([0.25, 0.5, 0.75])
    return prose(
        "{level}: the middle half of {n} features lies between {low} and {high} (median {middle}). The interval of "
        "{over} lies above {threshold}, that of {under} below it; {rest} are undecided.",
        level=Strong(level),
        n=len(rows),
        low=percent(float(low)),
        high=percent(float(high)),
        middle=percent(float(middle)),
        over=over,
        under=under,
        rest=len(rows) - over - under,
        threshold=percent(threshold),
    )


def say_shares(shares: Sequence[Row], difference: Row, factor: str, threshold: float) -> tuple[Inline, ...]:
    """Say what share of the features of two bases lies above the threshold, and whether the shares differ.

    Parameters
    ----------
    shares, difference
        Rows of `psychostats.interpretability.share_above` of one target and place: two levels, and their contrast.
    factor
        Column of the levels.
    threshold
        Accuracy from which a feature is called interpretable.
    """
    first, second = shares
    judged = verdict(difference, negligible=False)
    words = {
        "higher": "a larger share of {b} than of {a} features is above {threshold}",
        "lower": "a smaller share of {b} than of {a} features is above {threshold}",
    }.get(judged, "whether the shares of {b} and {a} features above {threshold} differ remains open")
    which = {"studied": "Of the studied features", "new": "For new features at the same depths"}[difference["target"]]
    return prose(
        which + ", " + words + ": {p} against {q}, a difference of {diff} percentage points ({label}).",
        a=first[factor],
        b=second[factor],
        threshold=percent(threshold),
        p=_share_interval(second),
        q=_share_interval(first),
        diff=Strong(points_interval(difference)),
        label=_interval(difference),
    )


def say_slope(slope: Row, link: Row, level: str, what: str) -> tuple[Inline, ...]:
    """Say whether features with more of something are more interpretable within a basis.

    Parameters
    ----------
    slope, link
        Rows of `psychostats.explanations.covariate_slopes`: the population's on the scale ``difference``, and the
        linear predictor's, which decides (it is the same wherever other predictors are held).
    level
        The basis.
    what
        The covariate in words.
    """
    words = {
        "higher": "among {level} features, those with more {what} are more interpretable",
        "lower": "among {level} features, those with more {what} are less interpretable",
        "equal": "among {level} features, interpretability practically does not change with {what}",
        "open": "whether {what} predicts interpretability among {level} features remains open",
    }[verdict(link)]
    return prose(
        words[0].upper() + words[1:] + ": {link} an SD on the link scale ({label}), or {points} percentage points.",
        level=Strong(level),
        what=what,
        link=estimate(link),
        points=points_interval(slope),
        label=_interval(link),
    )


def say_slopes_differ(change: Row, levels: tuple[str, str], what: str) -> tuple[Inline, ...]:
    """Say whether the slope differs between two bases; the row is the link's."""
    judged = verdict(change, negligible=False)
    first, second = levels
    words = {"higher": "is steeper for {b} than for {a}", "lower": "is less steep for {b} than for {a}"}.get(
        judged, "differs between {b} and {a} features: that remains open"
    )
    start = "Whether the slope on {what} " if judged not in ("higher", "lower") else "The slope on {what} "
    return prose(
        start + words + " ({change} an SD on the link scale).", what=what, a=first, b=second, change=estimate(change)
    )


def say_balance(balance: pd.DataFrame, by: str | None, limit: float) -> tuple[Inline, ...]:
    """Say how unlike the stimuli of two bases are, over all and within the places of `by`, and after matching."""
    whole = balance[balance[by].isna()] if by else balance
    inside = balance[balance[by].notna()] if by else balance.iloc[:0]

    def largest(rows: pd.DataFrame, sample: str) -> str:
        return number(float(rows.loc[rows["sample"] == sample, "smd"].abs().max()))

    def mean(sample: str) -> str:
        return number(float(inside.loc[inside["sample"] == sample, "smd"].abs().mean()))

    words = "Over all stimuli the largest standardised difference is {a}, on matched ones {b} (up to {limit} is usual)."
    if len(inside):
        words += (
            " Differences of opposite sign at different depths cancel there: within a {by} the mean absolute "
            "difference is {c}, on matched stimuli {d}; the largest that matching leaves is {e}, of {f} in {g}."
        )
    worst = inside[inside["sample"] == "matched"] if by else inside
    ranked = worst.dropna(subset="smd").sort_values("smd", key=abs, kind="stable").to_dict("records")
    place = ranked[-1] if ranked else {}
    return prose(
        words,
        a=largest(whole, "all"),
        b=largest(whole, "matched"),
        limit=number(limit, 1),
        **({"by": by or "", "c": mean("all"), "d": mean("matched")} if len(inside) else {}),
        **(
            {
                "e": number(abs(place["smd"])) if place else "unknown",
                "f": str(place.get("covariate", "")).replace("_", " "),
                "g": str(place.get(str(by), "")),
            }
            if len(inside)
            else {}
        ),
    )


def say_complexity(rows: Mapping[str, Row], levels: tuple[str, str], covariates: Sequence[str]) -> list[Any]:
    """Say what is left of the difference between two bases once complexity is held equal.

    Never that complexity accounts for it while the intervals overlap, and a share of it only where there is a
    difference to take a share of.

    Parameters
    ----------
    rows
        Of `psychostats.explanations.Complexity.contrasts`, by analysis; one place each.
    levels
        The earlier and the later.
    covariates
        In words.
    """
    before, adjusted, matched = (rows[name] for name in ("unadjusted", "adjusted", "matched"))
    said: list[Any] = [
        prose(
            "The difference {pair} is {a} percentage points; adjusted for {what} it is {b}; on matched stimuli ({n} of "
            "{whole} trials) it is {c} ({label}).",
            pair=f"{levels[1]} − {levels[0]}",
            a=Strong(points_interval(before)),
            b=Strong(points_interval(adjusted)),
            c=Strong(points_interval(matched)),
            what=_listed(covariates),
            n=int(matched["trials"]),
            whole=int(before["trials"]),
            label=_interval(before),
        ),
        "All three rest on the same answers, so whether two of these intervals overlap is no test of a change.",
    ]
    if verdict(before, negligible=False) == "open":
        return [*said, "Unadjusted, the interval includes zero: there is no clear difference to be accounted for."]
    said.append(
        f"Of the unadjusted estimate, {_remains(before, adjusted)} after adjustment and {_remains(before, matched)} on "
        "matched stimuli."
    )
    for row, how in ((adjusted, "adjusted"), (matched, "on matched stimuli")):
        if verdict(row, negligible=False) == "open":
            said.append(
                f"The interval {how} includes zero: whether a difference is left is open, which is not to say that "
                "there is none."
            )
        elif row["estimate"] * before["estimate"] < 0:
            said.append(f"The difference {how} has the opposite sign.")
        if not _overlap(before, row) and abs(row["estimate"]) < abs(before["estimate"]):
            said.append(
                f"The interval {how} lies wholly apart from the unadjusted one, nearer to zero or beyond it: "
                "complexity accounts for part of the difference."
            )
    return said


def _remains(before: Row, after: Row) -> str:
    """Say what share of an estimate is left."""
    left = after["estimate"] / before["estimate"]
    return "none remains" if left <= 0 else f"{format_value(left, 'percent', 0)} remains"


def _overlap(one: Row, other: Row) -> bool:
    return bool(one["conf_low"] <= other["conf_high"] and other["conf_low"] <= one["conf_high"])


def _share_interval(row: Row) -> str:
    low, high = (format_value(row[name], "percent", 1) for name in ("conf_low", "conf_high"))
    return f"{percent(row['estimate'])} [{low}, {high}]"


def _interval(row: Row) -> str:
    return Interval(row["interval"], row["conf_level"]).label


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
