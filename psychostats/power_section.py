"""The chapters of a power analysis: a `Power` into the blocks of one neutral document.

In: tables.  Out: chapters with their figures, and the document.  Rounds and arranges; computes no statistic; knows
neither HTML nor PDF.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from psychostats.bibliography import cite, to_blocks
from psychostats.chapters import Chapter
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
    Table,
    Words,
    prose,
)
from psychostats.figures import add_note
from psychostats.measure import number, percent
from psychostats.planning import Question
from psychostats.power import Power
from psychostats.power_assumptions import describe_assumptions
from psychostats.power_checks import chapter_calibration, chapter_null, chapter_studies
from psychostats.power_figures import plot_over_sizes
from psychostats.power_sentences import (
    BARS,
    BRACKETS,
    NOTE,
    name_shape,
    name_size,
    say_coverage,
    say_failed,
    say_own,
    say_quantity,
    say_recommendation,
    say_wish,
    times,
    width,
    within,
)
from psychostats.power_simulations import size_of
from psychostats.works import Entry

Figures = Mapping[str, Path]


def compose_power(power: Power, chapters: Sequence[Chapter], figures: Figures, command: str) -> Document:
    """Compose the report of a power analysis.

    Parameters
    ----------
    power
        What was found.
    chapters
        Those of `chapters_of`, and what others add.
    figures
        SVG files by name.
    command
        The command that made the report.
    """
    study = power.question.study.study
    return Document(
        title=f"Planning: {study.title}",
        subtitle=f"simulated participants · {study.name} · experiment {power.question.experiment}",
        authors=power.question.study.report.authors,
        notices=(_simulated(power), *([_unmet(power)] if power.unmet else [])),
        banner="Simulated participants",
        blocks=(
            *_summary(power, chapters),
            *(block for chapter in chapters for block in chapter.compose(figures)),
            *describe_assumptions(power.question),
            *_limits(power),
            *_provenance(power, command),
            *to_blocks(works_of(power)),
        ),
    )


def works_of(power: Power) -> tuple[Entry, ...]:
    """Return the works that this report follows."""
    keys = ["gelman2014", "green2016", "westfall2014", "wilson1927", "bates2015", "lenth2016"]
    keys += ["psychostats", "pandas", "numpy", "scipy", "plotnine", "matplotlib"]
    return cite([*keys, *(["hoffman2014"] if power.question.sampler is not None else [])])


def chapters_of(power: Power) -> list[Chapter]:
    """Return the chapters of a power analysis, in their order."""
    made = [_designs(power), _errors(power)]
    if len(power.null):
        made.append(chapter_null(power))
    return [*made, chapter_calibration(power), chapter_studies(power)]


def _simulated(power: Power) -> Callout:
    return Callout(
        "note",
        "Simulated participants",
        (
            Paragraph(
                "Everything here is said of simulated studies, in which what is true was set beforehand "
                f"({power.question.truth.words}). It is no evidence about people, and as good as what was assumed."
            ),
        ),
    )


def _unmet(power: Power) -> Callout:
    words = say_recommendation(power)
    return Callout("warning", "No design meets the wish", tuple(Paragraph(line) for line in words))


def _summary(power: Power, chapters: Sequence[Chapter]) -> list[Block]:
    more = tuple(words for chapter in chapters for words in chapter.summary)
    return [
        Heading("Summary (simulated participants)", 1, "summary"),
        Paragraph(f"Wished: {say_wish(power.question)}."),
        BulletList((*say_recommendation(power), *say_own(power), *more, say_failed(power))),
        Paragraph(
            prose(
                "Power is the share of all simulated studies whose interval excludes zero; {0}. {1} has what was "
                "assumed.",
                BRACKETS,
                Link("assumed"),
            )
        ),
    ]


# Chapters --------------------------------------------------------------------------------------------------------


def _long(power: Power, figure: str, scale: float = 100.0) -> pd.DataFrame:
    """Return one figure of all designs, a panel a quantity and number of items."""
    rows = power.designs
    several = rows["pairs"].nunique() > 1
    names = rows["quantity"].map(say_quantity)
    panel = names + ", " + rows["pairs"].astype(str) + f" {power.question.items}" if several else names
    ends = {"estimate": figure, "conf_low": f"{figure}_low", "conf_high": f"{figure}_high"}
    values = {name: scale * rows[source] for name, source in ends.items()}
    return rows[["participants", "main"]].assign(experiment=panel, **values)


def _designs(power: Power) -> Chapter:
    question = power.question
    name, measure = say_quantity(question.wished), question.measure
    wish = (name, 100 * question.power) if question.power is not None else None
    goal = (name, measure.factor * question.precision) if question.precision is not None else None
    plots: dict[str, Any] = {}
    if _are_a_curve(power):
        plots["power"] = plot_over_sizes(
            _long(power, "power"),
            y_label="Power (%)",
            note=BARS + (" Dashed: the wish." if wish is not None else "") + f" {NOTE}",
            wish=wish,
        )
        plots["precision"] = plot_over_sizes(
            _long(power, "half_width", measure.factor),
            y_label=f"Mean half width of the interval\n({measure.units})",
            note=BARS + (" Dashed: the wish." if goal is not None else "") + f" {NOTE}",
            wish=goal,
        )

    def compose(figures: Figures) -> list[Block]:
        level = f"{100 * question.asked.probability:g} %"
        every = f"Each of {len(question.sizes)} designs" if len(question.sizes) > 1 else "The design"
        return [
            Heading("Designs", 1, "designs"),
            Paragraph(
                f"{every} was simulated {question.settings.simulations:,} times and analysed as the study file says, "
                f"by maximum likelihood, with {level} intervals. Quantities are differences of {measure.noun} in the "
                "population, averaged over new participants"
                + (f" and new {question.items}" if question.items else "")
                + (
                    f", the contrast with {question.asked.moderator} at {number(question.asked.centre or 0.0)}"
                    if question.asked.moderator
                    else ""
                )
                + "."
            ),
            *_left_out(question),
            *(_tabulate(power, name, i) for i, name in enumerate(question.quantities)),
            *_few_analysed(power),
            *(
                Figure(
                    figures[key],
                    f"{words} over the number of participants.",
                    f"{words} against the number of participants: " + "; ".join(_spoken(power, figure)) + ".",
                    f"figure-{key}",
                )
                for key, figure, words in (
                    ("power", "power", "Power"),
                    ("precision", "half_width", "Mean half width of the interval"),
                )
                if key in plots
            ),
            *_tabulate_failures(power),
        ]

    return Chapter(compose, (), {"designs": power.designs, "failures": power.failures}, plots)


def _are_a_curve(power: Power) -> bool:
    """Whether there is anything to draw over the number of participants."""
    return len(power.question.sizes) > 1


def _spoken(power: Power, figure: str) -> list[str]:
    def shown(row: Mapping[Any, Any]) -> str:
        return within(row, figure) if figure == "power" else width(power.question, row, figure)

    rows = power.designs.to_dict("records")
    return [f"{say_quantity(row['quantity'])}, {name_size(size_of(row))}: {shown(row)}" for row in rows]


def _left_out(question: Question) -> list[Block]:
    if not question.left_out:
        return []
    return [
        Paragraph(
            "Not simulated: " + "; ".join(f"{question.say(size)} ({why})" for size, why in question.left_out) + "."
        )
    ]


def _few_analysed(power: Power) -> list[Block]:
    """Say of which designs the exclusions leave few."""
    rows = power.wished[power.wished["analysed"] < 0.9].to_dict("records")
    if not rows:
        return []
    lines = tuple(
        f"{power.question.say(size_of(row))}: {percent(row['analysed'])} of the participants are left" for row in rows
    )
    title = "The exclusions of the study file leave out many people of some designs"
    why = "Its rules were applied as they are written; a least total time, for one, is too long where trials are few."
    return [Callout("warning", title, (BulletList(lines), Paragraph(why)))]


def _tabulate(power: Power, name: str, place: int) -> Table:
    question = power.question
    rows = power.designs[power.designs["quantity"] == name]
    shown = [
        {
            "participants": row["participants"],
            "main": row["main"],
            "pairs": row["pairs"],
            "cost": row["cost"],
            "power": within(row, "power"),
            "half": width(question, row, "half_width"),
            "most": width(question, row, "half_width_90"),
            "precise": within(row, "precise"),
            "failed": row["failed"],
            "singular": row["singular"],
            "verdict": row["verdict"],
        }
        for row in rows.to_dict("records")
    ]
    precise = (Column("precise", "As narrow as wished", align="right"),) if question.precision is not None else ()
    wished = (Column("verdict", "Wish"),) if name == question.wished else ()
    measure = question.measure
    true = measure.width(float(rows["true"].iloc[0]))
    return Table(
        (
            *_size_columns(question),
            Column("cost", "Cost", "number", 1),
            Column("power", "Power", align="right"),
            Column("half", "Half width", align="right"),
            Column("most", "90th percentile", align="right"),
            *precise,
            Column("failed", "Failed", "integer"),
            Column("singular", "Singular", "integer"),
            *wished,
        ),
        pd.DataFrame(shown),
        f"Simulated studies: {say_quantity(name)}, whose true size is {true} {measure.units}.",
        f"Half width: mean, and 90th percentile of the studies, in {measure.units}; {BRACKETS}. Failed (not detected), "
        f"singular: of {question.settings.simulations:,} simulated studies of each design."
        + (" Wish: met or missed beyond Monte Carlo doubt; open otherwise." if wished else ""),
        f"table-designs-{place + 1}",
    )


def _size_columns(question: Question) -> tuple[Column, ...]:
    """Return the columns of a design's size."""
    items = question.items
    return (
        Column("participants", "People", "integer"),
        Column("main", "Trials", "integer"),
        *((Column("pairs", items[:1].upper() + items[1:], "integer"),) if items else ()),
    )


_WHICH = (Column("quantity", "Quantity"), Column("size", "Design"))


def _tabulate_failures(power: Power) -> list[Block]:
    if power.failures.empty:
        return []
    runs = {"power": "power", "null": "without differences", "nuts": "sampled"}
    shown = power.failures.assign(run=power.failures["run"].map(runs))
    return [
        Table(
            (
                Column("run", "Run"),
                *_size_columns(power.question),
                Column("reason", "Why there is no estimate"),
                Column("simulations", "Simulated studies", "integer"),
            ),
            shown,
            "Simulated studies without a fit.",
            "They count as not detected. Counts and names within a reason are left out, so that like reasons are one.",
            "table-failures",
        )
    ]


def _errors(power: Power) -> Chapter:
    plots = {}
    for key, figure, scale, words in (
        ("sign", "type_s", 100.0, "Wrong sign among the detected (%)"),
        ("magnitude", "type_m", 1.0, "Overstatement of the detected\n(times the true size)"),
    ):
        rows = _long(power, figure, scale)
        if rows["estimate"].notna().any() and _are_a_curve(power):
            reference = 1.0 if figure == "type_m" else None
            note = f"{BARS} {NOTE}"
            plots[key] = plot_over_sizes(rows, y_label=words, note=note, reference=reference, free=figure == "type_m")

    def compose(figures: Figures) -> list[Block]:
        shown = [
            {
                "quantity": say_quantity(row["quantity"]),
                "size": name_size(size_of(row)),
                "detected": row["detected"],
                "type_s": within(row, "type_s"),
                "type_m": times(row, "type_m"),
                "bias": width(power.question, row, "bias"),
                "rmse": width(power.question, row, "rmse"),
                "coverage": within(row, "coverage"),
            }
            for row in power.designs.to_dict("records")
        ]
        captions = {
            "sign": (
                "Type S errors over the number of participants.",
                "How often a detected effect has the wrong sign",
            ),
            "magnitude": ("Type M errors over the number of participants.", "How much detected effects are overstated"),
        }
        return [
            Heading("What a detected effect would look like", 1, "errors"),
            Paragraph(
                "Studies of low power that detect an effect overstate it, and may get its sign wrong (Gelman and "
                "Carlin 2014). Type S: the share of the detected whose sign is wrong. Type M: the mean size of the "
                "detected estimates over the true size."
            ),
            Table(
                (
                    *_WHICH,
                    Column("detected", "Detected", "integer"),
                    Column("type_s", "Type S", align="right"),
                    Column("type_m", "Type M", align="right"),
                ),
                pd.DataFrame(shown),
                "Errors of sign and magnitude among the simulated studies that detect an effect.",
                f"Design: {name_shape(power.question)}; {BRACKETS}.",
                "table-errors",
            ),
            Table(
                (
                    *_WHICH,
                    Column("bias", "Bias", align="right"),
                    Column("rmse", "RMSE", align="right"),
                    Column("coverage", "Coverage", align="right"),
                ),
                pd.DataFrame(shown),
                "How far estimates lie from the truth, and how often intervals hold it, over all fits.",
                f"Bias and root mean squared error in {power.question.measure.units}; {BRACKETS}.",
                "table-accuracy",
            ),
            *(
                Figure(figures[key], words, f"{alt} against the number of participants.", f"figure-{key}")
                for key, (words, alt) in captions.items()
                if key in plots
            ),
        ]

    return Chapter(compose, tuple(say_coverage(power)), plots=plots)


# The rest --------------------------------------------------------------------------------------------------------


def _limits(power: Power) -> list[Block]:
    taken = power.question.items
    items: list[Words] = [
        f"A power is as good as the truth that it assumes: an effect half as large, or {taken or 'people'} that vary "
        "twice as much, need another design."
        + ("" if power.question.truth.drawn else " --from a fit of draws takes the uncertainty of an estimate along."),
        "The analysis is by maximum likelihood; what a prior adds is in the comparison with the sampler, of few "
        "studies.",
        "The best of several designs is chosen by simulations that also estimate its power, which flatters it a little "
        "where several are near the wish.",
        f"Costs are linear in people{f', trials and {taken}' if taken else ' and trials'}, and the same for everybody.",
        "One experiment at a time; a study of several needs people for each.",
    ]
    if power.question.truth.drawn:
        items.append(
            "Each simulated study has a truth of its own, so power is an average over what the fit leaves open."
        )
    return [Heading("Limits of this analysis", 1, "limits"), BulletList(tuple(items))]


def _provenance(power: Power, command: str) -> list[Block]:
    question = power.question
    facts = [
        ("Study", f"{question.study.path.name}, SHA-256 {question.study.sha256}"),
        ("Truth", question.truth.words + (f", key {question.truth.key}" if question.truth.key else "")),
        ("Simulations", f"key {power.campaign.key}"),
        ("Seed", str(question.settings.seed)),
    ]
    return [
        Heading("Provenance", 1, "provenance"),
        *((Paragraph("The command that made this report:"), CodeBlock(command)) if command else ()),
        Table(
            (Column("what", "What"), Column("value", "Value")),
            pd.DataFrame(facts, columns=["what", "value"]),
            "What went in.",
            anchor="table-provenance",
        ),
    ]


def with_note(plot: Any) -> Any:
    """Return a figure that says itself that its participants are simulated, where it does not yet."""
    return plot if NOTE in str(plot.labels.caption or "").replace("\n", " ") else add_note(plot, NOTE)
