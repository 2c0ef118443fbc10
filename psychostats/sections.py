"""The sections of the report: an `Analysis` and its figures into the blocks of one neutral document.

In: tables and figures.  Out: headings, prose, tables and figures in their order.  Computes no statistic; knows neither
HTML nor PDF.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from psychostats import accounts, tables
from psychostats.algebra import describe_model
from psychostats.analysis import Analysis, shared_features
from psychostats.checks import PREDICTIVE_DRAWS
from psychostats.document import (
    Block,
    BulletList,
    Code,
    CodeBlock,
    Document,
    Figure,
    Heading,
    Link,
    Paragraph,
    Strong,
    Words,
    prose,
)
from psychostats.effects import ROPE_LOGIT, ROPE_PROBABILITY
from psychostats.joint_section import describe_joint
from psychostats.opening import notices, summary_sentences
from psychostats.predictor import describe_target, plural
from psychostats.results import ITEMS
from psychostats.sentences import ROPE_DECISIVE, number, points, say_calibration

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
        notices=notices(analysis),
        banner="Simulated participants" if study.simulated else "",
        blocks=(
            *_summary(analysis),
            *_data(analysis),
            *_design(analysis),
            *_raw(analysis, figures),
            *describe_model(analysis, figures),
            *_effects(analysis, figures),
            *describe_joint(analysis, figures),
            *_opinions(analysis, figures),
            *_estimates(analysis),
            *_groups(analysis, figures),
            *_checks(analysis, figures),
            *_limits(analysis),
            *_reading(analysis),
            *_provenance(analysis, command),
        ),
    )


def _summary(analysis: Analysis) -> list[Block]:
    several = len(analysis.experiments) > 1
    simulated = " (simulated participants)" if analysis.study.study.simulated else ""
    return [
        Heading(f"Summary{simulated}", 1, "summary"),
        BulletList(tuple(summary_sentences(analysis))),
        Paragraph(
            prose(
                "Accuracies, differences and odds ratios are of the population: {0}{1}. Intervals are the {2}; "
                "differences are computed before rounding. {3} gives the same for the typical participant, {4} says "
                "how to read each number, and {5} what was not examined."
                + (
                    " Experiments were fitted apart: a count of them does not show that they differ." if several else ""
                ),
                describe_target("population", _groups_of(analysis)),
                f", with {analysis.moderator} at its mean where no value is named" if analysis.moderator else "",
                analysis.study.effects.as_interval().label,
                Link("effects"),
                Link("reading"),
                Link("limits"),
            )
        ),
    ]


def _groups_of(analysis: Analysis) -> list[str]:
    """Return the grouping factors of the main model."""
    return list(dict.fromkeys(block.group for block in analysis.main[0].fit.design.blocks))


def _data(analysis: Analysis) -> list[Block]:
    flow, study = analysis.excluded.flow, analysis.study
    whole, kept = (flow[flow["step"] == flow["step"].iloc[place]] for place in (0, -1))
    several = len(analysis.experiments) > 1
    filters = " and ".join(
        f"{name} is {' or '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in study.filter.items()
    )
    blocks: list[Block] = [
        Heading("Data and exclusions", 1, "data"),
        Paragraph(
            prose(
                (
                    "The file {0} has {1} rows, of which the filter ({2}) keeps {3}: "
                    if filters
                    else "The file {0} holds "
                )
                + "{4} trials of {5} participants{6}; {7} trials of {8} participants were analysed. "
                "Rules run in the order of the table; a participant whom a rule removes is gone for all later ones. "
                "Participants are judged within an experiment; times are sums of response times over main and catch "
                "trials.",
                Code(analysis.source["file"]),
                analysis.trials.n_rows,
                filters,
                analysis.trials.n_rows - analysis.trials.n_filtered,
                int(whole["trials_left"].sum()),
                analysis.trials.frame["participant"].nunique(),
                f" in {len(analysis.experiments)} experiments" if several else "",
                int(kept["trials_left"].sum()),
                analysis.excluded.kept["participant"].nunique(),
            )
        ),
        *accounts.tabulate_exclusions(analysis),
    ]
    if len(analysis.catch_accuracy):
        blocks.append(accounts.tabulate_catch(analysis))
    if study.columns or any(isinstance(levels, dict) for levels in study.levels.values()):
        blocks.append(accounts.tabulate_reading(study))
    return blocks


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
        accounts.tabulate_design(analysis),
        *map(Paragraph, _cautions(analysis)),
    ]
    if study.sources:
        where = "{0} says which settings come from the paper, from a predecessor, or are assumed."
        blocks.append(Paragraph(prose(where, Link("table-sources"))))
    return blocks


def _cautions(analysis: Analysis) -> Iterator[Words]:
    """Say what the design cannot tell apart, and what the model leaves out of it."""
    kept, groups = analysis.excluded.kept, _groups_of(analysis)
    items = [name for name in ITEMS if name in kept.columns]
    shown = items and not any(set(group.split(":")) & set(items) for group in groups)
    if shown:
        yield (
            f"The model has no effects of {' or '.join(items)}, although the trials name them: its intervals hold for "
            f"these {kept[items[0]].nunique()} {plural(items[0])} only and are too narrow for new ones."
        )
    if analysis.study.report.group not in groups:
        yield (
            f"The model has no effects of {analysis.study.report.group}: its intervals hold for these people only and "
            "are too narrow for new ones."
        )
    if {"feature", "stimulus"} <= set(kept.columns):
        apart = ["experiment", "feature"] if "experiment" in kept.columns else ["feature"]
        if kept.groupby(apart, observed=True)["stimulus"].nunique().max() == 1:
            yield (
                "Each feature was shown by one stimulus, so differences between features include differences between "
                "stimuli."
            )
    shared = shared_features(kept)
    if shared:
        named = ", ".join(shared[:5]) + (f" and {len(shared) - 5} more" if len(shared) > 5 else "")
        done = (
            "the model therefore has effects of feature too."
            if "feature" in groups
            else ("the model has no (1 | feature), so it takes their answers for more independent than they are.")
        )
        yield f"Several pairs share a feature ({named}): {done}"


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


def _effects(analysis: Analysis, figures: Figures) -> list[Block]:
    factor, moderator = analysis.study.effects.factor, analysis.moderator
    blocks: list[Block] = [
        Heading("Effects", 1, "effects"),
        Paragraph(
            prose(
                "Marginal means and contrasts of the main model. {0}: {1}. {2}: {3}; not the mean, since probability "
                "is not linear in the predictor. In brackets: {4}.",
                Strong("Population"),
                describe_target("population", _groups_of(analysis)),
                Strong("Typical"),
                describe_target("typical", _groups_of(analysis)),
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


def _opinions(analysis: Analysis, figures: Figures) -> list[Block]:
    if not analysis.opinions:
        return []
    main, taken = analysis.main[0].fit.spec.formula, {}
    for opinion in analysis.opinions:
        taken[opinion.asked.words] = (
            "correct trials" if opinion.asked.takes == "correct" else "all trials with an answer"
        )
    return [
        Heading("Other responses to the same trials", 1, "opinions"),
        Paragraph(
            prose(
                "The predictors of the main model, {0}, on {1}: each with a family, priors and a scale of its own, "
                "fitted apart. They are second and third opinions on the same people and trials, not new evidence: "
                "where they agree, the finding does not hang on the choice of accuracy; where they do not, {2} says "
                "what was found of accuracy, and nothing is averaged.",
                Code(main.text.partition("~")[2].strip()),
                " and ".join(f"{words} ({trials})" for words, trials in taken.items()),
                Link("effects"),
            )
        ),
        Figure(
            figures["opinions"],
            "The contrast on every response: accuracy, and what else was recorded.",
            "Intervals by experiment, one panel a response.",
            "figure-opinions",
        ),
        tables.tabulate_opinions(analysis),
    ]


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
        tables.tabulate_terms(
            analysis,
            ("b", "family"),
            f"Fixed effects{' and lapse rate' if family.estimated else ''}: posterior mean and interval.",
            "table-fixed",
        ),
    ]
    truth = tables.tabulate_truth(analysis)
    return [*blocks, truth] if truth else blocks


def _groups(analysis: Analysis, figures: Figures) -> list[Block]:
    if "groups" not in figures:
        return []
    return [
        Heading("Differences within groups", 1, "groups"),
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
            "Rank histograms of the fixed effects, and of the SD or correlation that mixed worst.",
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
    if "items" in figures:
        item = next(str(result.items.columns[0]) for result in analysis.main if result.items is not None)
        blocks.append(
            Figure(
                figures["items"],
                f"Observed accuracy of each {item} and its posterior predictive interval.",
                "Sorted accuracies over predictive intervals.",
                "figure-items",
            )
        )
    if "features" in figures:
        blocks.append(
            Figure(
                figures["features"],
                "Observed accuracy of each feature and its posterior predictive interval.",
                "Sorted accuracies over predictive intervals.",
                "figure-features",
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
    return [
        *blocks,
        Heading("Are its probabilities those observed?", 2, "calibration"),
        Paragraph(say_calibration(_groups_of(analysis))),
        Figure(
            figures["calibration"],
            "Observed share of correct answers along the predicted probability.",
            "Isotonic share of correct answers against the predicted probability, with a band around the diagonal.",
            "figure-calibration",
        ),
    ]


def _reading(analysis: Analysis) -> list[Block]:
    family = analysis.main[0].fit.spec.family
    items: list[Words] = [
        prose(
            "{0}: given the model, its priors and the data, the quantity lies inside with this probability. Every "
            "estimate is the posterior mean.",
            Strong(analysis.study.effects.as_interval().label),
        ),
        prose(
            "{0} (pd): the share of the posterior on the side of zero where most of it lies; near 0.5 the sign is "
            "open, near 1 nearly all draws agree on it.",
            Strong("Probability of direction"),
        ),
        prose(
            "{0}: differences too small to matter, {1} to {2} percentage points (in the tables of effects also {3} to "
            "{4} logits), assumed by this software and not taken from a paper. With {5} of the posterior inside, two "
            "accuracies are called practically equal, even where the interval excludes zero.",
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
            "{0} is what a study of many new levels of all groups would find on average; {1} is the level in the "
            "middle of each. They differ because probability is not linear in the predictor.",
            Strong("Population"),
            Strong("typical"),
        ),
        prose(
            "{0}: an interval that includes zero shows neither that there is an effect nor that there is none.",
            Strong("Remains open"),
        ),
        prose(
            "{0}: R-hat compares the chains with one another (1 where they agree); the effective sample size (ESS) is "
            "how many independent draws the draws are worth, in the bulk and in the tails; a divergent transition is a "
            "step that the sampler could not follow, so that a part of the posterior may be missing.",
            Strong("Convergence"),
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


def _limits(analysis: Analysis) -> list[Block]:
    several = len(analysis.experiments) > 1
    rates = "guess rates" if analysis.main[0].fit.spec.family.estimated else "guess and lapse rates"
    items: list[Words] = [
        f"Other priors, other {rates}, other exclusions, and a curved course along a numeric predictor "
        "were not examined; estimates could move with any of them.",
        "Why this number of participants was recruited, the study file does not say.",
    ]
    if several and analysis.joint is None:
        items.append("Experiments were fitted on their own, so differences between them were not estimated.")
    return [Heading("Limits of this analysis", 1, "limits"), BulletList(tuple(items))]


def _provenance(analysis: Analysis, command: str) -> list[Block]:
    blocks: list[Block] = [Heading("Provenance", 1, "provenance")]
    if command:
        blocks += [Paragraph("The command that made this report:"), CodeBlock(command)]
    blocks.append(accounts.tabulate_provenance(analysis))
    if analysis.study.sources:
        blocks.append(accounts.tabulate_sources(analysis))
    return [*blocks, Heading("Appendix: time", 1, "appendix"), accounts.tabulate_seconds(analysis)]
