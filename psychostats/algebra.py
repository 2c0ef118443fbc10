"""The model in words and algebra: the section of the report that says what was fitted, under which priors.

In: an `Analysis` and its figures.  Out: blocks of the document.  Computes nothing but quantiles of prior draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from psychostats import tables
from psychostats.analysis import Analysis
from psychostats.checks import PRIOR_DRAWS
from psychostats.document import (
    Block,
    BulletList,
    Code,
    CodeBlock,
    Equation,
    Figure,
    Heading,
    Inline,
    Link,
    Maths,
    Paragraph,
    Strong,
    Text,
    Words,
    prose,
)
from psychostats.intervals import Interval
from psychostats.measure import percent, points
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
            prose(
                "In words: trial i is answered correctly with probability p; the family is {0}. F is the {1}, g the "
                "guess rate {2} and l the lapse rate {3}, so that p runs from {2} to {4}. The predictors add up in η; "
                "every level of a group has its own effects, which come from a normal distribution whose standard "
                "deviations and correlations make up Σ and are estimated.",
                family.describe(),
                "logistic function" if family.link == "logit" else "standard normal distribution function",
                f"{family.guess:g}",
                "to be estimated" if family.estimated else f"{family.lapse:g}",
                "1 − l" if family.estimated else f"{1 - family.lapse:g}",
            )
        ),
        equation,
        Paragraph((*legend, Text(f" {coding[:1].upper()}{coding[1:]}."))),
    ]
    if main.fit.design.blocks:
        blocks.append(tables.tabulate_covariance(main))
    blocks += [
        tables.tabulate_priors(analysis),
        Paragraph(
            prose(
                "{0} shows what these priors alone say, in {1} draws: accuracy and its difference in the population"
                + (f", at mean {analysis.moderator}" if analysis.moderator else "")
                + ", before any trial was seen.",
                Link("figure-prior"),
                PRIOR_DRAWS,
            )
        ),
        Figure(
            figures["prior"],
            "Prior predictive accuracy by level, and the difference between levels.",
            "Histograms of accuracy drawn from the priors.",
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
    main = analysis.main[0]
    factor, probability = analysis.study.effects.factor, analysis.study.effects.probability
    wide = main.prior.pivot_table(index="draw", columns=factor, values="accuracy", observed=True)
    first, second = main.fit.coding.levels[factor][:2]
    low, high = Interval("eti", probability).of_draws(wide[second] - wide[first])
    least, most = Interval("eti", probability).of_draws(wide[first])
    words = prose(
        "Before the data, {0} of the accuracy at {1} lies between {2} and {3}, and {0} of the difference {4} − {1} "
        "between {5} and {6} percentage points.",
        f"{100 * probability:g} %",
        first,
        percent(float(least)),
        percent(float(most)),
        second,
        points(float(low)),
        points(float(high)),
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

    fixed = [times(f"β_{i}", term) for i, term in enumerate(design.names)]
    letters = [*"uvwacd", *(f"u^({place})" for place in range(7, 7 + len(design.blocks)))]
    blocks = list(zip(design.blocks, letters, strict=False))
    known = ["o_i"] if result.fit.spec.formula.offsets else []
    lines = [
        "y_i ∼ Binomial(n_i, p_i)" if result.fit.spec.formula.response.counts else "y_i ∼ Bernoulli(p_i)",
        "p_i = g + (1 − g − l) F(η_i)" if result.fit.spec.family.has_asymptotes else "p_i = F(η_i)",
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
