"""The sections on single features: a `FeatureStudy` and its figures into blocks of the report.

In: tables and figures.  Out: headings, prose, tables and figures in their order.  Computes no statistic; knows neither
HTML nor PDF.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from psychostats.document import (
    Block,
    BulletList,
    Column,
    Figure,
    Heading,
    Inline,
    Link,
    Paragraph,
    Strong,
    Table,
    format_value,
    prose,
)
from psychostats.explanations import Complexity, Contribution
from psychostats.feature_sentences import (
    say_balance,
    say_complexity,
    say_distribution,
    say_shares,
    say_slope,
    say_slopes_differ,
)
from psychostats.feature_study import CONTRIBUTIONS, FeatureStudy
from psychostats.interpretability import THRESHOLD
from psychostats.intervals import Interval
from psychostats.matching import BALANCED
from psychostats.measure import number, percent, points_interval
from psychostats.predictor import plural
from psychostats.sentences import estimate

Figures = Mapping[str, Path]
_LIMITS = ("conf_low", "conf_high")


def feature_blocks(
    study: FeatureStudy, figures: Figures, *, images: Sequence[Block] = (), model: str = "main model"
) -> list[Block]:
    """Compose the sections on single features.

    Parameters
    ----------
    study, figures
        Of `psychostats.feature_study`.
    images
        Blocks that show the best and the worst features; they follow the table that ranks them.
    model
        What the report calls the model that features are taken from.
    """
    return [
        *_one_by_one(study, figures, images, model),
        *_contributions(study, figures, model),
        *_complexity(study, figures),
        *([BulletList(study.missing)] if study.missing else []),
    ]


def _one_by_one(study: FeatureStudy, figures: Figures, images: Sequence[Block], model: str) -> list[Block]:
    how = (
        " The main fit is a maximum of the likelihood: the draws are those of the normal approximation around it, the "
        "features' effects among them."
        if study.approximate
        else ""
    )
    said = [say_distribution(study.features, level, study.factor) for level in study.levels]
    count = study.features["feature"].nunique() if "feature" in study.features else len(study.features)
    if count < len(study.features):
        how += (
            f" Features that several {plural(study.item)} share count once for each {study.item}: {count} features are "
            f"{len(study.features)} here."
        )
    return [
        Heading("Features, one by one", 1, "features"),
        Paragraph(
            prose(
                "A feature's interpretability is the probability that a new participant is right about it. It is "
                "estimated from the {model}, the feature's own effects included and participants averaged over, and so "
                "it is {shrunk}: drawn towards what other features of its basis and depth are, the more so the less "
                "was seen of it. Raw accuracy, of {trials} trials a feature, spreads features too far, and its best "
                "feature is partly the luckiest. A feature is called interpretable above {limit} (assumed; {why})."
                "{how}",
                model=model,
                shrunk=Strong("shrunk"),
                trials=f"{study.features['trials'].min():.0f} to {study.features['trials'].max():.0f}",
                limit=percent(study.threshold),
                why="half-way between chance and perfect" if study.threshold == THRESHOLD else "as the study has it",
                how=how,
            )
        ),
        BulletList((*said, *_share_sentences(study))),
        Figure(
            figures["features"],
            "Every feature's interpretability, the best first.",
            "Features in order of their estimate with intervals, raw accuracy as crosses, one panel a basis.",
            "figure-features",
        ),
        Figure(
            figures["shares"],
            f"The share of features above {percent(study.threshold)}.",
            "Shares with intervals by basis and depth.",
            "figure-shares",
        ),
        tabulate_shares(study),
        tabulate_ranks(study),
        *images,
    ]


def _share_sentences(study: FeatureStudy) -> Iterable[tuple[Inline, ...]]:
    shares = study.shares
    whole = shares[shares[study.by].isna()] if study.by else shares
    for target in dict.fromkeys(whole["target"]):
        rows = whole[whole["target"] == target]
        pair, difference = rows[rows["contrast"].isna()], rows[rows["contrast"].notna()]
        if len(pair) == 2:
            first = difference.to_dict("records")[0]
            yield say_shares(pair.to_dict("records"), first, study.factor, study.threshold)


def _contributions(study: FeatureStudy, figures: Figures, model: str) -> list[Block]:
    if not study.contributions:
        return []
    blocks: list[Block] = [
        Heading("Does contribution predict interpretability?", 1, "contribution"),
        Paragraph(
            prose(
                "The {1}, fitted again with the contribution of each feature to the network's decision (the "
                "logarithm of its absolute value, in SDs over the features of its basis) and its product with {0}. The "
                "slopes are within a basis, beside what depth predicts as its formula has it (where depth acts "
                "in another way, part of a slope may be depth's); beyond them, features differ by effects of their "
                "own, so what is not known of each feature is in the intervals. A slope says what goes with what, "
                "not what causes what. In the figures points are features as they are, at their own depths, and the "
                "line holds depth at its mean: where contribution and interpretability both grow with depth, points "
                "rise along contribution more than the line.",
                study.factor,
                model,
            )
        ),
    ]
    for name, found in study.contributions.items():
        what = CONTRIBUTIONS.get(name, name.replace("_", " "))
        blocks += [
            BulletList(tuple(_slope_sentences(study, found, what))),
            Figure(
                figures[name],
                f"Interpretability against {what}.",
                "Features as points with intervals, and the model's line, one panel a basis.",
                f"figure-{name.replace('_', '-')}",
            ),
        ]
    return [*blocks, tabulate_slopes(study)]


def _slope_sentences(study: FeatureStudy, found: Contribution, what: str) -> Iterable[tuple[Inline, ...]]:
    rows = found.slopes
    link = rows[rows["scale"] == "link"]
    points = rows[(rows["scale"] == "difference") & (rows["target"] == "population")]
    for level in study.levels:
        one, other = (part[part[study.factor] == level].to_dict("records")[0] for part in (points, link))
        yield say_slope(one, other, level, what)
    change = link[link[study.factor].isna()].to_dict("records")
    if len(study.levels) == 2 and change:
        yield say_slopes_differ(change[0], (study.levels[0], study.levels[1]), what)


def _complexity(study: FeatureStudy, figures: Figures) -> list[Block]:
    found = study.complexity
    if found is None:
        return []
    by = next((name for name in ("layer", "depth") if name in found.balance), None)
    whole = found.contrasts.drop_duplicates("analysis").set_index("analysis", drop=False)
    rows = {str(name): row for name, row in whole.to_dict("index").items()}
    words = [str(name).replace("_", " ") for name in dict.fromkeys(found.balance["covariate"])]
    said = say_complexity(rows, (study.levels[0], study.levels[1]), words)
    return [
        Heading("Is it stimulus complexity?", 1, "complexity"),
        Paragraph(
            prose(
                "Reference images of one basis may be busier than those of the other. {0} shows how alike they are. "
                "The model was then fitted again with these covariates as further predictors (adjusted: their effect "
                "is taken as linear, and the same in both bases and at every depth), and on stimuli that were matched, "
                "one to one within layer and experiment, no further apart than {1} SDs where the bases differ and {2} "
                "SDs altogether (matched: nothing is assumed of the effect, but only stimuli with a like one count). "
                "Matching does not look at answers.",
                Link("figure-balance"),
                number(found.matched.caliper),
                number(found.matched.reach),
            )
        ),
        BulletList((say_balance(found.balance, by, BALANCED), *said)),
        Figure(
            figures["balance"],
            "How alike the stimuli of both bases are, before and after matching.",
            "Standardised differences of covariates, one panel a layer.",
            "figure-balance",
        ),
        tabulate_complexity(found),
        tabulate_balance(found, by),
    ]


def tabulate_shares(study: FeatureStudy) -> Table:
    """Shares of features above the threshold, and their differences."""

    def cell(row: Mapping[Any, Any]) -> str:
        if pd.notna(row["contrast"]):
            return points_interval(row)
        return f"{number(100 * row['estimate'], 1)} [{', '.join(number(100 * row[end], 1) for end in _LIMITS)}]"

    shares, rows = study.shares, []
    places = shares[study.by].astype(object).where(shares[study.by].notna(), "all") if study.by else "all"
    for (place, target), part in shares.assign(place=places).groupby(["place", "target"], sort=False):
        records = part.to_dict("records")
        names = {row["contrast"] if pd.notna(row["contrast"]) else row[study.factor]: cell(row) for row in records}
        rows.append({"place": place, "target": target, "features": max(row["features"] for row in records)} | names)
    frame = pd.DataFrame(rows)
    columns = (
        *((Column("place", "Depth"),) if study.by else ()),
        Column("target", "Target"),
        Column("features", "Features", "integer"),
        *(Column(name, name.replace(" - ", " − "), align="right") for name in frame.columns[3:]),
    )
    return Table(
        columns,
        frame,
        f"Share of features above {percent(study.threshold)} in %, and differences in percentage points.",
        f"In brackets: {study.interval.label}. Target studied: of these features; new: the probability for a new "
        "feature at the same depths.",
        "table-shares",
    )


def tabulate_ranks(study: FeatureStudy) -> Table:
    """The best and the worst features of each basis."""
    rows = study.ranked
    low, high = rows["conf_low"], rows["conf_high"]
    frame = rows.assign(
        name=rows["feature"] if "feature" in rows else rows[study.item],
        inside=[f"[{number(100 * a, 1)}, {number(100 * b, 1)}]" for a, b in zip(low, high, strict=True)],
    )
    place = next((name for name in ("layer", "depth") if name in rows), None)
    columns = (
        Column(study.factor, study.factor.capitalize()),
        Column("end", "End"),
        Column("rank", "Rank", "integer"),
        Column("name", "Feature", "code"),
        *((Column(place, place.capitalize()),) if place else ()),
        Column("estimate", "Estimate", "percent", 1),
        Column("inside", "Interval, %", align="right"),
        Column("above", "P(above)", "number", 2),
        Column("raw", "Raw", "percent", 1),
        Column("trials", "Trials", "integer"),
    )
    return Table(
        columns,
        frame,
        "The best and the worst features of each basis by their posterior mean.",
        f"Interval: {study.interval.label}. P(above): posterior probability of an interpretability above "
        f"{percent(study.threshold)}. Features next to each other in rank are rarely told apart.",
        "table-ranks",
    )


def tabulate_slopes(study: FeatureStudy) -> Table:
    """Slopes on contributions, in logits and percentage points."""
    rows, label = [], ""
    for name, found in study.contributions.items():
        label = label or found.fit.interval.label
        slopes = found.slopes
        for level in [*study.levels, None]:
            here = slopes[slopes[study.factor].isna() if level is None else slopes[study.factor] == level]
            link = here[here["scale"] == "link"].to_dict("records")
            points = here[(here["scale"] == "difference") & (here["target"] == "population")].to_dict("records")
            if link and points:
                logit = link[0]
                rows.append(
                    {
                        "covariate": name.replace("_", " "),
                        "level": level or f"{study.levels[1]} − {study.levels[0]}",
                        "link": estimate(logit),
                        "points": points_interval(points[0]),
                    }
                )
    columns = (
        Column("covariate", "Covariate"),
        Column("level", study.factor.capitalize()),
        Column("link", "Link, per SD", align="right"),
        Column("points", "Points, per SD", align="right"),
    )
    note = f"In brackets: {label}. Points: of the population, averaged over the covariate's range, at the mean depth."
    return Table(columns, pd.DataFrame(rows), "Slopes of accuracy on contribution.", note, "table-slopes-contribution")


def tabulate_complexity(found: Complexity) -> Table:
    """The contrast of the bases as it is, adjusted, and on matched stimuli."""
    rows = found.contrasts.to_dict("records")
    frame = pd.DataFrame(
        {
            "analysis": [row["analysis"] for row in rows],
            "contrast": [str(row["contrast"]).replace(" - ", " − ") for row in rows],
            "trials": [row["trials"] for row in rows],
            "points": [points_interval(row) for row in rows],
        }
    )
    columns = (
        Column("analysis", "Analysis"),
        Column("contrast", "Contrast"),
        Column("trials", "Trials", "integer"),
        Column("points", "Percentage points", align="right"),
    )
    units = found.matched.units
    kept = " and ".join(f"{row[0]} {row[2]} of {row[1]}" for row in units.itertuples(index=False))
    label = Interval(rows[0]["interval"], rows[0]["conf_level"]).label
    note = f"Of the population. In brackets: {label}. All analyses use the same answers. Matched stimuli: {kept}."
    return Table(columns, frame, "The difference between the bases, complexity held equal.", note, "table-complexity")


def tabulate_balance(found: Complexity, by: str | None) -> Table:
    """Standardised differences of covariates, before and after matching."""
    balance = found.balance
    place = balance[by].astype(object).where(balance[by].notna(), "all") if by else pd.Series("all", balance.index)
    rows = balance.assign(place=place.astype(str), covariate=balance["covariate"].str.replace("_", " "))
    names = list(dict.fromkeys(rows["covariate"]))
    wide = rows.pivot_table(index="place", columns=["covariate", "sample"], values="smd", dropna=False, sort=False)
    frame = pd.DataFrame({"place": wide.index.astype(str)})
    for name in names:
        both = zip(wide[name, "all"], wide[name, "matched"], strict=True)
        frame[name] = [" → ".join(format_value(float(one), "number", 2) for one in pair) for pair in both]
    columns = (
        *((Column("place", (by or "").capitalize()),) if by else ()),
        *(Column(name, name.capitalize(), align="right") for name in names),
    )
    note = "In SDs before matching (the root of the mean variance of both bases), each stimulus counted once."
    return Table(
        columns,
        frame,
        "Standardised differences of the stimuli's covariates, before and after matching.",
        note,
        "table-balance",
    )
