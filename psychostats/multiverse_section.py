"""The sections of a multiverse: a `Multiverse` and its figures into the blocks of one neutral document.

In: tables and figures.  Out: headings, prose, tables and figures in their order.  Rounds and arranges; computes no
statistic; knows neither HTML nor PDF.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from psychostats.bibliography import cite, to_blocks
from psychostats.document import (
    Block,
    BulletList,
    Callout,
    CodeBlock,
    Column,
    Document,
    Figure,
    Heading,
    Link,
    Paragraph,
    Strong,
    Table,
    Words,
    prose,
)
from psychostats.intervals import Interval
from psychostats.multiverse import Multiverse
from psychostats.multiverse_sentences import WORDS, name_part, say_multiverse, tabulate_measures, tabulate_summary
from psychostats.predictor import plural
from psychostats.results import ALL
from psychostats.works import Entry

Figures = Mapping[str, Path]
_NAMED = 30  # specifications without an estimate, by name; the table specifications.csv has all
_FAMILIAR = {"laplace": "maximum likelihood by Laplace's approximation", "nuts": "draws from the posterior"}


def compose_multiverse(found: Multiverse, figures: Figures, command: str) -> Document:
    """Compose the report of a multiverse.

    Parameters
    ----------
    found
        What was found.
    figures
        SVG files by name, as `psychostats.multiverse_report.draw_multiverse` names them.
    command
        The command that made the report.
    """
    study = found.plan.study.study
    return Document(
        title=study.title,
        subtitle=" · ".join(["multiverse", study.name, *(["simulated participants"] if study.simulated else [])]),
        authors=found.plan.study.report.authors,
        notices=tuple(box for box in (_failed(found), _simulated(found)) if box),
        banner="Simulated participants" if study.simulated else "",
        blocks=(
            *_summary(found),
            *_varied(found),
            *_curves(found, figures),
            *_matter(found, figures),
            *_troubles(found),
            *_limits(found),
            *_provenance(found, command),
            *to_blocks(works_of(found)),
        ),
    )


def works_of(found: Multiverse) -> tuple[Entry, ...]:
    """Return the works that this report follows."""
    keys = ["steegen2016", "simonsohn2020", "delgiudice2021", "psychostats", "pandas", "numpy", "scipy", "plotnine"]
    keys += ["matplotlib", "bates2015" if found.plan.engine == "laplace" else "hoffman2014"]
    if "2411.03993" in found.plan.study.study.reference:
        keys += ["colin2024", "borowski2021", "zimmermann2021", "zimmermann2023"]
    return cite(keys)


def _failed(found: Multiverse) -> Callout | None:
    own = found.table[found.table["headline"] & (found.table["reason"] != "")]
    if not len(own):
        return None
    items = [
        prose("{0}: {1}", Strong(name_part(found, one["question"], one["contrast"], one["experiment"])), one["reason"])
        for one in own.to_dict("records")
    ]
    return Callout("danger", "The study's own specification has no estimate", (BulletList(tuple(items)),))


def _simulated(found: Multiverse) -> Callout | None:
    if not found.plan.study.study.simulated:
        return None
    words = "The study file says that its participants are simulated: nothing here is evidence about people."
    return Callout("warning", "Simulated participants", (Paragraph(words),))


def _summary(found: Multiverse) -> list[Block]:
    plan, effects, measure = found.plan, found.plan.study.effects, found.plan.study.measure
    simulated = " (simulated participants)" if plan.study.study.simulated else ""
    return [
        Heading(f"Summary{simulated}", 1, "summary"),
        BulletList(tuple(say_multiverse(found))),
        Paragraph(
            prose(
                "Differences are in {5} in the population{0}, later level minus earlier, by {1}, with {2}s. Each "
                "model of the same rows counts once here. {3} says what was varied, and {4} what a multiverse is not.",
                f", with {effects.moderator} at its mean over the trials that the study's own exclusions leave"
                if effects.moderator
                else "",
                _FAMILIAR[plan.engine],
                interval_label(found),
                Link("varied"),
                Link("limits"),
                f"{measure.units} of {measure.noun}" if measure.is_share else f"{measure.noun} ({measure.units})",
            )
        ),
        _tabulate_summary(found),
    ]


def _tabulate_summary(found: Multiverse) -> Table:
    frame, measure = tabulate_summary(found), found.plan.study.measure

    def shown(value: float) -> str:
        return "–" if pd.isna(value) else measure.difference(value)

    said = frame.assign(
        part=[name_part(found, *key) for key in frame[["question", "contrast", "experiment"]].itertuples(index=False)],
        median=frame["median"].map(shown),
        range=[f"{shown(a)} to {shown(b)}" for a, b in zip(frame["lowest"], frame["highest"], strict=True)],
        own=[measure.interval(row) if pd.notna(row["estimate"]) else "–" for row in frame.to_dict("records")],
    )
    return Table(
        (
            Column("part", "Question"),
            Column("specifications", "Specifications", "integer"),
            Column("failed", "No estimate", "integer"),
            Column("above", "Above 0", "integer"),
            Column("open", "Open", "integer"),
            Column("below", "Below 0", "integer"),
            Column("median", "Median", align="right"),
            Column("range", "Range", align="right"),
            Column("own", "The study's own", align="right"),
        ),
        said,
        f"What the specifications say, each model of the same rows once, in {measure.units}.",
        "Above 0, open, below 0: where the interval lies; open holds 0. The change is asked only of specifications "
        "whose predictors let the contrast change.",
        "table-summary",
    )


def _varied(found: Multiverse) -> list[Block]:
    plan = found.plan
    rows = [
        {"dimension": WORDS[one.name] if place == 0 else "", "choice": choice.label, "words": choice.words}
        for one in plan.dimensions
        for place, choice in enumerate(one.choices)
    ]
    given = [WORDS[one.name] for one in plan.dimensions if getattr(plan.study.multiverse, one.name) is not None]
    source = (
        f"The study file names the alternatives of {' and '.join(given)}; the others are defaults, which are assumed."
        if given
        else "The study file names no alternatives; these are defaults, which are assumed."
    )
    count = len(plan.experiments)
    experiments = f"{count} experiment{'' if count == 1 else 's'}"
    blocks: list[Block] = [
        Heading("What was varied", 1, "varied"),
        Paragraph(
            f"Every combination of these choices is a specification: {len(plan.specifications):,}, each of "
            f"{experiments}. Those that are the same model of the same rows are fitted once, which leaves "
            f"{len(plan.tasks):,} fits. The first choice of each kind is the study's own. {source}"
        ),
        Table(
            (Column("dimension", "What"), Column("choice", "Choice"), Column("words", "It says")),
            pd.DataFrame(rows),
            "The choices, the study's own first.",
            anchor="table-varied",
        ),
    ]
    if plan.engine == "laplace" and len(plan.choices["codings"]) > 1:
        blocks.append(
            Paragraph(
                "Coding a factor in another way makes another model only where its slopes are uncorrelated (||): "
                "elsewhere estimates of the population are the same to rounding, and the model is fitted once."
            )
        )
    if plan.study.multiverse.without:
        pairs = "; ".join(" with ".join(pair) for pair in plan.study.multiverse.without)
        blocks.append(Paragraph(f"Left out, as the study file asks: {pairs}."))
    return blocks


def _curves(found: Multiverse, figures: Figures) -> list[Block]:
    blocks: list[Block] = [
        Heading("Specification curves", 1, "curves"),
        Paragraph(
            "Each vertical line is a specification: its estimate and interval above, its choices below. Where one "
            "colour gathers in a row of choices, that choice goes with that conclusion."
        ),
    ]
    for number, (question, contrast, experiment, rows) in enumerate(found.parts(), start=1):
        if f"specifications_{number}" in figures:
            known = int(rows.loc[rows["same_as"] == rows["specification"], "estimate"].notna().sum())
            name = name_part(found, question, contrast, experiment)
            blocks.append(
                Figure(
                    figures[f"specifications_{number}"],
                    f"Specification curve of {name}.",
                    f"{known} estimates in rising order with intervals, and below them marks of each one's choices.",
                    f"figure-specifications-{number}",
                )
            )
    return blocks


def _matter(found: Multiverse, figures: Figures) -> list[Block]:
    (_, dimensions), measure = tabulate_measures(found), found.plan.study.measure
    digits = 2 if measure.is_share else measure.digits
    frame = dimensions.assign(
        part=[
            name_part(found, *key) for key in dimensions[["question", "contrast", "experiment"]].itertuples(index=False)
        ],
        what=dimensions["dimension"].map(WORDS),
        spread=[_number(value, digits) for value in measure.factor * dimensions["spread"]],
        pairs=[
            "–" if pd.isna(b) else f"{a:,} of {b:,}"
            for a, b in zip(dimensions["changed"], dimensions["pairs"], strict=True)
        ],
    )
    frame = frame[frame["choices"].ne(1).fillna(True)].reset_index(drop=True)
    frame["part"] = frame["part"].where(~frame["part"].duplicated(), "")
    blocks: list[Block] = [
        Heading("Which choices matter", 1, "matter"),
        Paragraph(
            "Three measures, of the whole grid. How far a choice moves the estimate: the largest minus the smallest "
            "mean over its alternatives. How much of the variance of the estimates it makes: the sum of squares "
            "between them, as a share of the whole; what no kind of choice makes alone is said to come of their "
            "combination. How often it decides: of all pairs of specifications that differ in that choice alone, those "
            "whose intervals say something else (above 0, open, below 0)."
        ),
    ]
    for number, (question, contrast) in enumerate(_questions(found), start=1):
        name = name_part(found, question, contrast)
        for kind, words, alt in (
            ("dimensions", "Which choices matter", "Bars for each kind of choice, a panel a measure"),
            ("choices", "What each choice gives on average", "Points and ranges for each choice"),
        ):
            if f"{kind}_{number}" in figures:
                source = figures[f"{kind}_{number}"]
                blocks.append(Figure(source, f"{words}: {name}.", f"{alt}: {name}.", f"figure-{kind}-{number}"))
    unbalanced = bool((found.table["reason"] != "").any()) or bool(found.plan.study.multiverse.without)
    return [
        *blocks,
        Table(
            (
                Column("part", "Question"),
                Column("what", "Choice of"),
                Column("choices", "Tried", "integer"),
                Column("spread", f"Moves by ({measure.short})", align="right"),
                Column("share", "Share of variance", "percent", 1),
                Column("pairs", "Pairs changed", align="right"),
                Column("changed_share", "", "percent", 1),
            ),
            frame,
            "Which choices matter.",
            (
                "Not every combination has an estimate, so kinds of choices overlap: shares are those by which a model "
                "of all main effects worsens without each (type II) and need not add to 100 %."
                if unbalanced
                else "Every combination has an estimate, so that shares add to 100 %."
            ),
            "table-matter",
        ),
    ]


def _questions(found: Multiverse) -> list[tuple[str, str]]:
    return list(dict.fromkeys((question, contrast) for question, contrast, _, _ in found.parts()))


def _troubles(found: Multiverse) -> list[Block]:
    """List what has no estimate, and count singular fits."""
    rows = found.distinct[found.distinct["question"] == "contrast"]
    rows = rows.drop_duplicates(["experiment", "specification"])
    failed, singular = rows[rows["reason"] != ""], rows[rows["singular"] != ""]
    blocks: list[Block] = [
        Heading("Fits without an estimate, and singular fits", 1, "troubles"),
        Paragraph(
            f"Of {len(rows):,} fits, {len(failed):,} have no estimate and {len(singular):,} are singular: a variance "
            "of 0 or a correlation of 1 or −1, which says that the data do not support that group effect. A singular "
            "fit has an estimate, and counts; one without an estimate is left out of every figure, and counts nowhere "
            "else."
        ),
    ]
    if len(singular):
        counted = rows.assign(singular=rows["singular"] != "").groupby(["groups", "experiment"], sort=False)
        frame = counted["singular"].agg(["sum", "size"]).reset_index()
        frame["said"] = [f"{a:,} of {b:,}" for a, b in zip(frame["sum"], frame["size"], strict=True)]
        wide = frame.pivot_table(index="groups", columns="experiment", values="said", aggfunc="first", sort=False)
        columns = tuple(
            Column(name, "Singular" if name == ALL else name, align="right") for name in found.plan.experiments
        )
        table = wide.reset_index()
        caption = "Singular fits by group effects."
        blocks.append(Table((Column("groups", "Group effects"), *columns), table, caption, anchor="table-singular"))
    if len(failed):
        shown = failed.head(_NAMED)
        more = len(failed) - len(shown)
        names = [name for name, labels in found.plan.choices.items() if len(labels) > 1]
        listed = shown.assign(
            choices=["; ".join(str(row[name]) for name in names) for row in shown.to_dict("records")],
        )
        several = len(found.plan.experiments) > 1
        blocks.append(
            Table(
                (
                    *((Column("experiment", "Experiment"),) if several else ()),
                    Column("specification", "Number", "integer"),
                    Column("choices", "Choices"),
                    Column("reason", "Reason"),
                ),
                listed,
                "Fits without an estimate.",
                f"{more:,} more stand in the file tables/specifications.csv." if more else "",
                "table-failed",
            )
        )
    return blocks


def _limits(found: Multiverse) -> list[Block]:
    study = found.plan.study
    named = study.design.item in study.models[0].spec().formula.variables
    who = f"people or {plural(study.design.item)}" if named else "people"
    items: list[Words] = [
        "Specifications are not independent: all of them read the same answers. The share of intervals above 0 is no "
        "p-value and no probability that there is an effect, and nothing is tested here.",
        "Whoever chooses the grid chooses the answer. Every choice counts alike, whether it is as good as the others "
        "or not, and choices that nobody thought of are missing. A choice that is wrong, not merely another, does not "
        "belong in it.",
        "The range of the estimates is what choices do; what chance does is in the intervals. Neither holds the other.",
        "Leaving out a predictor or a group effect also changes what is estimated or how certain it is said to be: "
        f"intervals without the slopes of {who} are too narrow for new ones.",
    ]
    if found.plan.engine == "laplace":
        items.append(
            "Fits are by maximum likelihood, with no priors and Wald intervals; compare them with one another. A "
            "report of the study by its posterior gives other numbers for the same specification."
        )
    return [Heading("What a multiverse is not", 1, "limits"), BulletList(tuple(items))]


def _provenance(found: Multiverse, command: str) -> list[Block]:
    plan = found.plan
    facts = [("Trials", f"{plan.source['file']}, SHA-256 {plan.source['file_sha256']}")]
    facts.append(("Study", f"{plan.study.path.name}, SHA-256 {plan.study.sha256}"))
    versions = plan.campaign(Path()).identity["versions"]
    facts.append(("Versions", ", ".join(f"{name} {text}" for name, text in versions.items())))
    columns = (Column("what", "What"), Column("value", "Value"))
    return [
        Heading("Provenance", 1, "provenance"),
        *((Paragraph("The command that made this report:"), CodeBlock(command)) if command else ()),
        Table(columns, pd.DataFrame(facts, columns=["what", "value"]), "What went in.", anchor="table-provenance"),
    ]


def interval_label(found: Multiverse) -> str:
    """Return what the intervals are."""
    kind: Any = found.table["interval"].iloc[0]
    return Interval(kind, float(found.table["conf_level"].iloc[0])).label


def _number(value: float, digits: int) -> str:
    return "–" if pd.isna(value) else f"{value:.{digits}f}"
