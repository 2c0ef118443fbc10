"""The model in words and algebra: the section of the report that says what was fitted, under which priors.

In: an `Analysis` and its figures.  Out: blocks of the document.  Computes nothing but quantiles of prior draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from psychostats.analysis import Analysis
from psychostats.checks import PRIOR_DRAWS
from psychostats.document import (
    Block,
    BulletList,
    Code,
    CodeBlock,
    Column,
    Equation,
    Figure,
    Heading,
    Inline,
    Link,
    Maths,
    Paragraph,
    Strong,
    Table,
    Text,
    Words,
    prose,
)
from psychostats.fit import Fit
from psychostats.intervals import Interval
from psychostats.measure import number
from psychostats.results import Result


def describe_model(analysis: Analysis, figures: Mapping[str, Path]) -> list[Block]:
    """Return the section on the model: words, algebra, covariance, priors, and what the priors alone say."""
    main = analysis.main[0]
    family, codings = main.fit.spec.family, main.fit.coding.describe()
    each = ", fitted to each experiment on its own," if len(analysis.experiments) > 1 else ","
    equation, legend = _equation(main)
    coding = "; ".join(f"{name} is coded as {words}" for name, words in codings.items()) or "all predictors are numbers"
    blocks: list[Block] = [
        Heading("Model", 1, "model"),
        Paragraph(f"The main model of this report{each} in the notation of lme4 and brms:"),
        CodeBlock(main.fit.spec.formula.text),
        Paragraph(
            f"In words: {family.narrate(analysis.measure.column)} The predictors add up in η; every level of a group "
            "has its own effects, which come from a normal distribution whose standard deviations and correlations "
            "make up Σ and are estimated."
        ),
        equation,
        Paragraph((*legend, Text(f" {coding[:1].upper()}{coding[1:]}."))),
    ]
    if main.fit.design.blocks:
        blocks.append(tabulate_covariance(main))
    blocks += [
        tabulate_priors(analysis),
        Paragraph(
            prose(
                "{0} shows what these priors alone say, in {1} draws: {2} and its difference in the population"
                + (f", at mean {analysis.moderator}" if analysis.moderator else "")
                + ", before any trial was seen.",
                Link("figure-prior"),
                PRIOR_DRAWS,
                analysis.measure.noun,
            )
        ),
        Figure(
            figures["prior"],
            f"Prior predictive {analysis.measure.bare} by level, and the difference between levels.",
            f"Histograms of {analysis.measure.noun} drawn from the priors.",
            "figure-prior",
        ),
    ]
    blocks.append(_prior_words(analysis))
    others = [
        prose("{0}: {1}, {2}", Strong(model.name), Code(model.formula), model.spec().family.describe())
        for model in analysis.study.models[1:]
    ]
    if others:
        blocks += [Paragraph("Fitted beside it, as a check on this choice:"), BulletList(tuple(others))]
    return blocks


def _prior_words(analysis: Analysis) -> Paragraph:
    """Say what the priors imply, in numbers of the prior predictive draws."""
    main, measure = analysis.main[0], analysis.measure
    factor, probability = analysis.study.effects.factor, analysis.study.effects.probability
    wide = main.prior.pivot_table(index="draw", columns=factor, values="accuracy", observed=True)
    first, second = main.fit.coding.levels[factor][:2]
    low, high = Interval("eti", probability).of_draws(wide[second] - wide[first])
    least, most = Interval("eti", probability).of_draws(wide[first])
    words = prose(
        "Before the data, {0} of {7} at {1} lies between {2} and {3}, and {0} of the difference {4} − {1} "
        "between {5} and {6} {8}.",
        f"{100 * probability:g} %",
        first,
        measure.value(float(least)),
        measure.value(float(most)),
        second,
        measure.difference(float(low)),
        measure.difference(float(high)),
        "the accuracy" if measure.is_accuracy else measure.noun,
        measure.units,
    )
    return Paragraph(words)


def _equation(result: Result) -> tuple[Equation, Words]:
    """Write the model in algebra, with a legend; names from data are values, never markup."""
    design = result.fit.design
    columns = list(dict.fromkeys([*design.names, *(term for block in design.blocks for term in block.terms)]))
    columns = [name for name in columns if name != "Intercept"]
    groups: list[str] = []

    def times(coefficient: str, term: str) -> str:
        return coefficient if term == "Intercept" else f"{coefficient} x_({columns.index(term) + 1}, i)"

    first = int(result.fit.spec.family.ordinal)  # thresholds are there in the intercept's place
    fixed = [times(f"β_{i}", term) for i, term in enumerate(design.names, first)]
    letters = [*"uvwacd", *(f"u^({place})" for place in range(7, 7 + len(design.blocks)))]
    blocks = list(zip(design.blocks, letters, strict=False))
    known = ["o_i"] if result.fit.spec.formula.offsets else []
    lines = [
        *result.fit.spec.family.equations(counts=result.fit.spec.formula.response.counts),
        "η_i = " + " + ".join([*known, *fixed, *(f"{letter}_i" for _, letter in blocks)]),
    ]
    for block, letter in blocks:
        groups.append(block.group)
        group = f"{{{len(groups) - 1}}}"
        parts = [times(f"{letter}_({j}, {group}[i])", term) for j, term in enumerate(block.terms)]
        lines.append(f"{letter}_i = " + " + ".join(parts))
        own = [f"{letter}_({j}, {group})" for j in range(len(block.terms))]
        vector = own[0] if len(own) == 1 else f"({', '.join(own)})"
        lines.append(f"{vector} ∼ Normal(0, Σ_({letter}))")
    named = [(f"x_{place}", name) for place, name in enumerate(columns, 1)]
    named += [("o", " + ".join(result.fit.spec.formula.offsets).replace("`", ""))] if known else []
    legend: list[Inline] = [Text("Here ")] if named else []
    for symbol, name in named:
        legend += [Maths(symbol), Text(" is "), Code(name), Text(", " if (symbol, name) != named[-1] else ".")]
    return Equation(tuple(lines), tuple(groups), "equation-model"), tuple(legend)


def tabulate_covariance(result: Result) -> Table:
    """Group effects, as they were fitted."""
    rows = [{**row, "terms": ", ".join(row["terms"])} for row in result.fit.covariance()]
    columns = (Column("group", "Group"), Column("terms", "Terms"), Column("structure", "Covariance as fitted"))
    frame = pd.DataFrame(rows, columns=["group", "terms", "structure"])
    return Table(columns, frame, "Group effects as they were fitted.", anchor="table-covariance")


def tabulate_priors(analysis: Analysis) -> Table:
    """Priors in use: a column for each experiment where they differ, as ranges of predictors may."""
    rows: dict[str, dict[str, str]] = {}
    for result in analysis.main:
        for prior in result.fit.priors:
            row = rows.setdefault(prior.name, {"name": prior.name, "source": prior.source})
            row[result.experiment] = str(prior.distribution)
    frame = pd.DataFrame(list(rows.values()))
    names = analysis.experiments
    same = (frame[names].nunique(axis=1) == 1).all()
    columns = [Column(name, "Prior" if same else name) for name in (names[:1] if same else names)]
    return Table(
        (Column("name", "Parameter", "code"), *columns, Column("source", "Source")),
        frame,
        "Priors in use, on the link scale.",
        _default_priors(analysis.main[0].fit),
        "table-priors",
    )


def _default_priors(made: Fit) -> str:
    """Say what the default priors are, in the unit of the response where that has one."""
    family = made.spec.family
    centre, unit = family.location(made.design.successes)
    by = f" times {number(unit)}, the SD of the response" if unit != 1.0 else ""
    first = f"intercept normal({number(centre)}, {number(1.5 * unit)})" if not family.ordinal else "no intercept"
    if family.binary:
        first = "intercept normal(0, 1.5)"
    thresholds = "; thresholds student_t(3, 0, 2.5)" if family.ordinal else ""
    little = ", and put little weight on differences of more than 2 logits" if family.binary else ""
    return (
        f"Defaults: {first} where all predictors are 0{thresholds}; each other coefficient normal(0, 1){by} over its "
        f"predictor's range; SDs exponential with {'rate 2 (mean 0.5)' if not by else 'mean 0.5' + by}; correlations "
        f"lkj(2). They are proper{',' if little else ' and'} centred on no effect{little}."
    )
