"""The sections of the report: an `Analysis` and its figures into the blocks of one neutral document.

In: tables and figures.  Out: headings, prose, tables and figures in their order.  Computes no statistic; knows neither
HTML nor PDF.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from psychostats import tables
from psychostats.analysis import Analysis, Result
from psychostats.checks import PREDICTIVE_DRAWS, PRIOR_DRAWS
from psychostats.document import (
    Block,
    BulletList,
    Callout,
    Code,
    CodeBlock,
    Document,
    Equation,
    Figure,
    Heading,
    Link,
    Paragraph,
    Strong,
    Words,
    prose,
)
from psychostats.effects import ROPE_LOGIT, ROPE_PROBABILITY
from psychostats.sentences import ROPE_DECISIVE, number, points
from psychostats.summary import summary_sentences

Figures = Mapping[str, Path]


def compose(analysis: Analysis, figures: Figures, command: str) -> Document:
    """Compose the whole report.

    Parameters
    ----------
    analysis
        What was found.
    figures
        SVG files by name, as `psychostats.report.draw_figures` names them.
    command
        The command that made the report.
    """
    study = analysis.study.study
    subtitle = [study.name, *(["simulated participants"] if study.simulated else [])]
    return Document(
        title=study.title,
        subtitle=" · ".join([*subtitle, *([f"after {study.reference}"] if study.reference else [])]),
        authors=analysis.study.report.authors,
        blocks=(
            *_notices(analysis),
            *_summary(analysis),
            *_data(analysis),
            *_design(analysis),
            *_raw(analysis, figures),
            *_model(analysis, figures),
            *_effects(analysis, figures),
            *_estimates(analysis),
            *_groups(analysis, figures),
            *_checks(analysis, figures),
            *_reading(analysis),
            *_provenance(analysis, command),
        ),
    )


def _notices(analysis: Analysis) -> list[Block]:
    blocks: list[Block] = []
    failed = [result for result in analysis.results if not result.fit.converged]
    if failed:
        items = [
            prose("{0}: {1}", Strong(f"{result.model.name}, {result.experiment}"), " ".join(result.fit.warnings))
            for result in failed
        ]
        limits = Paragraph(prose("What each limit means stands in {0}.", Link("checks")))
        title = "Not converged: the numbers of these fits may not be read"
        blocks.append(Callout("danger", title, (BulletList(tuple(items)), limits)))
    if analysis.study.study.simulated:
        words = (
            "No participant in this report is a person. The trials were simulated from true values that we chose, "
            "under a "
            "study file whose settings are partly assumed. The estimates differ from the true values by chance, and "
            "neither "
            "says anything about people."
        )
        blocks.append(Callout("warning", "Simulated participants", (Paragraph(words),)))
    return blocks


def _summary(analysis: Analysis) -> list[Block]:
    several = len(analysis.experiments) > 1
    return [
        Heading("Summary", 1, "summary"),
        BulletList(tuple(summary_sentences(analysis))),
        Paragraph(
            prose(
                "All numbers are population averages, over new participants and new features{0}; intervals are the "
                "{1}; differences are computed before rounding. {2} gives the same for the typical participant and "
                "feature, "
                "{3} says how to read each number."
                + (
                    " Experiments were fitted apart: a count of them does not show that they differ." if several else ""
                ),
                f", with {analysis.moderator} at its mean where no value is named" if analysis.moderator else "",
                analysis.study.effects.as_interval().label,
                Link("effects"),
                Link("reading"),
            )
        ),
    ]


def _data(analysis: Analysis) -> list[Block]:
    flow = analysis.excluded.flow
    whole, kept = (flow[flow["step"] == flow["step"].iloc[place]] for place in (0, -1))
    several = len(analysis.experiments) > 1
    blocks: list[Block] = [
        Heading("Data and exclusions", 1, "data"),
        Paragraph(
            prose(
                "The file {0} holds {1} trials of {2} participants{3}; {4} trials of {5} participants were analysed. "
                "Rules run in the order of the table; a participant whom a rule removes is gone for all later ones.",
                Code(analysis.source["file"]),
                int(whole["trials_left"].sum()),
                int(whole["participants_left"].sum()),
                f" in {len(analysis.experiments)} experiments" if several else "",
                int(kept["trials_left"].sum()),
                int(kept["participants_left"].sum()),
            )
        ),
        *tables.tabulate_exclusions(analysis),
    ]
    return [*blocks, tables.tabulate_catch(analysis)] if len(analysis.catch_accuracy) else blocks


def _design(analysis: Analysis) -> list[Block]:
    study = analysis.study
    factor = study.effects.factor
    assignment = {
        "within": f"every participant saw each {factor}",
        "between": f"each participant saw one {factor}",
        None: f"the study file does not say whether a participant saw one {factor} or each",
    }[study.design.assignment]
    about = f"{study.study.description} " if study.study.description else ""
    blocks: list[Block] = [
        Heading("Design", 1, "design"),
        Paragraph(f"{about}In this design {assignment}."),
        tables.tabulate_design(analysis),
        *(Paragraph(sentence) for sentence in _cautions(analysis)),
    ]
    if study.sources:
        where = "{0} says which settings come from the paper, from a predecessor, or are assumed."
        blocks.append(Paragraph(prose(where, Link("table-sources"))))
    return blocks


def _cautions(analysis: Analysis) -> list[str]:
    """Say what the design cannot tell apart."""
    kept = analysis.excluded.kept
    if not {"feature", "stimulus"} <= set(kept.columns):
        return []
    apart = ["experiment", "feature"] if "experiment" in kept.columns else ["feature"]
    if kept.groupby(apart, observed=True)["stimulus"].nunique().max() > 1:
        return []
    return [
        "Each feature was shown by one stimulus, so differences between features include differences between stimuli."
    ]


def _raw(analysis: Analysis, figures: Figures) -> list[Block]:
    return [
        Heading("Raw accuracy", 1, "raw"),
        Paragraph(
            "Before any model: the share of correct answers. The figure's means weigh every participant alike, the "
            "table's shares every trial."
        ),
        Figure(
            figures["accuracy"],
            "Raw accuracy of each participant, and the mean over participants.",
            "Points of participants' accuracies by level, with means and intervals.",
            "figure-accuracy",
        ),
        tables.tabulate_accuracy(analysis),
    ]


def _model(analysis: Analysis, figures: Figures) -> list[Block]:
    main = analysis.main[0]
    family, codings = main.fit.spec.family, main.fit.coding.describe()
    coding = "; ".join(f"{name}: {words}" for name, words in codings.items())
    each = ", fitted to each experiment on its own," if len(analysis.experiments) > 1 else ","
    blocks: list[Block] = [
        Heading("Model", 1, "model"),
        Paragraph(f"The main model of this report{each} in the notation of lme4 and brms:"),
        CodeBlock(main.fit.spec.formula.text),
        Paragraph(
            prose(
                "In words: trial i is answered correctly with probability p; the family is {0}. F is the {1}, g the "
                "guess rate {2} and l the lapse rate {3}, so that p runs from {2} to {4}. The predictors add up in η; "
                "every level of a group has its own effects, which come from a normal distribution whose spread is "
                "estimated.",
                family.describe(),
                "logistic function" if family.link == "logit" else "standard normal distribution function",
                f"{family.guess:g}",
                f"{family.lapse:g}",
                f"{1 - family.lapse:g}",
            )
        ),
        _equation(main),
        Paragraph(f"Coding of factors: {coding}." if codings else "All predictors are numbers."),
    ]
    if main.fit.design.blocks:
        blocks.append(tables.tabulate_covariance(main))
    blocks += [
        tables.tabulate_priors(main),
        Paragraph(
            prose(
                "{0} shows what these priors alone say, in {1} draws: accuracy and its difference, population average, "
                "before any trial was seen.",
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
    others = [
        prose("{0}: {1}, {2}", Strong(model.name), Code(model.formula), model.spec().family.describe())
        for model in analysis.study.models[1:]
    ]
    if others:
        blocks += [Paragraph("Fitted beside it, as a check on this choice:"), BulletList(tuple(others))]
    return blocks


def _equation(result: Result) -> Equation:
    """Write the model in algebra; names from data are values, never markup."""
    design, names = result.fit.design, list[str]()

    def name(text: str) -> str:
        names.append(text)
        return f"{{{len(names) - 1}}}"

    fixed = ["β_0" if term == "Intercept" else f"β_{i} {name(term)}_i" for i, term in enumerate(design.names)]
    blocks = list(zip(design.blocks, "uvwacd", strict=False))
    lines = [
        "y_i ∼ Bernoulli(p_i)",
        "p_i = g + (1 − g − l) F(η_i)" if result.fit.spec.family.has_asymptotes else "p_i = F(η_i)",
        "η_i = " + " + ".join([*fixed, *(f"{letter}_i" for _, letter in blocks)]),
    ]
    for block, letter in blocks:
        group = name(block.group)
        parts = [
            f"{letter}_({j}, {group}[i])" + ("" if term == "Intercept" else f" {name(term)}_i")
            for j, term in enumerate(block.terms)
        ]
        lines.append(f"{letter}_i = " + " + ".join(parts))
        own = [f"{letter}_({j}, {group})" for j in range(len(block.terms))]
        vector = own[0] if len(own) == 1 else f"({', '.join(own)})"
        lines.append(f"{vector} ∼ Normal(0, Σ_{group})")
    return Equation(tuple(lines), tuple(names), "equation-model")


def _effects(analysis: Analysis, figures: Figures) -> list[Block]:
    factor, moderator = analysis.study.effects.factor, analysis.moderator
    blocks: list[Block] = [
        Heading("Effects", 1, "effects"),
        Paragraph(
            prose(
                "Marginal means and contrasts of the main model. {0} averages over new participants and new features "
                "jointly; {1} sets all their effects to zero, which is the median person and feature, not the mean. "
                "In brackets: {2}.",
                Strong("Population"),
                Strong("typical"),
                analysis.study.effects.as_interval().label,
            )
        ),
    ]
    if "curve" in figures:
        blocks.append(
            Figure(
                figures["curve"],
                f"Accuracy along {moderator}: raw shares, and the model.",
                f"Accuracy against {moderator} by {factor}, one panel an experiment.",
                "figure-curve",
            )
        )
    blocks += [
        Figure(
            figures["contrasts"],
            f"Differences in accuracy between the levels of {factor}.",
            "Forest plot of probability differences with intervals.",
            "figure-contrasts",
        ),
        tables.tabulate_contrasts(analysis),
        tables.tabulate_means(analysis),
    ]
    if moderator:
        blocks += [tables.tabulate_interaction(analysis), tables.tabulate_slopes(analysis)]
    if len(analysis.study.models) > 1:
        blocks.append(tables.tabulate_models(analysis))
    return blocks


def _estimates(analysis: Analysis) -> list[Block]:
    family = analysis.main[0].fit.spec.family
    scale = f"On the {family.link} scale" + (", above guessing" if family.has_asymptotes else "")
    blocks: list[Block] = [
        Heading("Estimates", 1, "estimates"),
        Paragraph(
            prose(
                "{0}. The coefficient of a factor is its contrast where every other predictor is 0, so the headline is "
                "taken from {1}, not from here.",
                scale,
                Link("effects"),
            )
        ),
        tables.tabulate_terms(analysis, ("b",), "Fixed effects: posterior mean and interval.", "table-fixed"),
    ]
    truth = tables.tabulate_truth(analysis)
    return [*blocks, truth] if truth else blocks


def _groups(analysis: Analysis, figures: Figures) -> list[Block]:
    if "groups" not in figures:
        return []
    return [
        Heading("Differences between people and features", 1, "groups"),
        Paragraph(
            "Standard deviations of the group effects on the link scale, and the correlations of intercepts and "
            "slopes. "
            "A correlation that the data say little about stays near its prior, which is wide and centred on 0."
        ),
        Figure(
            figures["groups"],
            "Standard deviations and correlations of the group effects.",
            "Forest plot of standard deviations and correlations by experiment.",
            "figure-groups",
        ),
        tables.tabulate_terms(analysis, ("sd", "cor"), "Group effects: posterior mean and interval.", "table-groups"),
    ]


def _checks(analysis: Analysis, figures: Figures) -> list[Block]:
    blocks: list[Block] = [
        Heading("Checks", 1, "checks"),
        Heading("Did the sampler converge?", 2, "convergence"),
        tables.tabulate_convergence(analysis),
        Figure(
            figures["convergence"],
            "R-hat and effective sample sizes of all fixed effects, SDs and correlations of the main model.",
            "Strips of R-hat and effective sample sizes with their limits.",
            "figure-convergence",
        ),
        Figure(
            figures["ranks"],
            "Rank histograms of the fixed effects.",
            "Rank histograms by chain, close to flat where chains agree.",
            "figure-ranks",
        ),
        Heading("Does the model fit?", 2, "predictive"),
        Paragraph(
            f"Accuracy replicated from {PREDICTIVE_DRAWS} draws of the posterior, against what was observed. The same "
            "trials "
            f"made the fit, so more than {100 * analysis.study.effects.probability:g} % of groups should lie inside "
            "their "
            "interval; clearly fewer would say that the model misses something. The check is lenient: it cannot show "
            "that "
            "the intervals above are right."
        ),
        tables.tabulate_predictive(analysis),
    ]
    if "cells" in figures:
        blocks.append(
            Figure(
                figures["cells"],
                "Observed accuracy and its posterior predictive interval, by level and layer.",
                "Observed accuracies over predictive intervals.",
                "figure-cells",
            )
        )
    blocks.append(
        Figure(
            figures["participants"],
            f"Observed accuracy of each {analysis.study.report.group} and its posterior predictive interval.",
            "Sorted accuracies over predictive intervals.",
            "figure-participants",
        )
    )
    return blocks


def _reading(analysis: Analysis) -> list[Block]:
    family = analysis.main[0].fit.spec.family
    items: list[Words] = [
        prose(
            "{0}: given the model and the data, the quantity lies inside with this probability. Every estimate is the "
            "posterior mean.",
            Strong(analysis.study.effects.as_interval().label),
        ),
        prose(
            "{0} (pd): the share of the posterior on the side of zero where most of it lies; 0.5 says nothing about "
            "the "
            "sign, 1 is certain.",
            Strong("Probability of direction"),
        ),
        prose(
            "{0}: differences too small to matter, {1} to {2} percentage points and {3} to {4} logits, assumed by this "
            "software and not taken from a paper. With {5} of the posterior inside, two accuracies are called "
            "practically equal.",
            Strong("ROPE, the region of practical equivalence"),
            points(ROPE_PROBABILITY.low),
            points(ROPE_PROBABILITY.high),
            number(ROPE_LOGIT.low),
            number(ROPE_LOGIT.high),
            f"{100 * ROPE_DECISIVE:g} %",
        ),
        prose(
            "{0}: the odds of a correct answer at one level over the odds at the other, always of the probability "
            "itself.",
            Strong("Odds ratio"),
        ),
        prose(
            "{0} is what a study of many new participants and features would find on average; {1} is the person and "
            "feature in the middle. They differ because probability is not linear in the predictor.",
            Strong("Population"),
            Strong("typical"),
        ),
        prose(
            "{0}: an interval that includes zero shows neither that there is an effect nor that there is none.",
            Strong("Remains open"),
        ),
    ]
    if family.has_asymptotes:
        items.append(
            prose(
                "{0}: with a guess rate of {1}, a contrast on the link scale is about the part above guessing; its "
                "exponential is an odds ratio above guessing, not an odds ratio of being correct.",
                Strong("Link scale"),
                f"{family.guess:g}",
            )
        )
    return [Heading("How to read this report", 1, "reading"), BulletList(tuple(items))]


def _provenance(analysis: Analysis, command: str) -> list[Block]:
    blocks: list[Block] = [Heading("Provenance", 1, "provenance")]
    if command:
        blocks += [Paragraph("The command that made this report:"), CodeBlock(command)]
    blocks.append(tables.tabulate_provenance(analysis))
    if analysis.study.sources:
        blocks.append(tables.tabulate_sources(analysis))
    blocks.append(
        Paragraph(
            "Not examined here: other priors, other guess and lapse rates, a curved course along a numeric predictor, "
            "and "
            "other exclusions. Estimates could move with any of them."
        )
    )
    return [*blocks, Heading("Appendix: time", 1, "appendix"), tables.tabulate_seconds(analysis)]
