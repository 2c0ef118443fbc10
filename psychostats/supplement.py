"""The supplement of the report: estimates, differences within groups, checks, limits, how to read it, what went in.

In: an `Analysis` and its figures.  Out: blocks of the document.  Computes no statistic; knows neither HTML nor PDF.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from psychostats import accounts, tables
from psychostats.analysis import Analysis
from psychostats.bibliography import cite, to_blocks
from psychostats.checks import PREDICTIVE_DRAWS
from psychostats.document import (
    Block,
    BulletList,
    CodeBlock,
    Figure,
    Heading,
    Link,
    Paragraph,
    Strong,
    Words,
    prose,
)
from psychostats.effects import ROPE_LOGIT, ROPE_PROBABILITY
from psychostats.exhibits import show_features
from psychostats.measure import Measure, number, points
from psychostats.opening import groups_of, sources_of
from psychostats.rules import predecessor_sources
from psychostats.sentences import ROPE_DECISIVE, say_calibration
from psychostats.works import Entry

Figures = Mapping[str, Path]


def supplement(analysis: Analysis, figures: Figures, command: str) -> list[Block]:
    """Return all blocks of the supplement; arguments as of `psychostats.sections.compose`."""
    return [
        *_estimates(analysis),
        *_groups(analysis, figures),
        *_checks(analysis, figures),
        *_every_feature(analysis),
        *_limits(analysis),
        *_reading(analysis),
        *_provenance(analysis, command),
        *to_blocks(works_of(analysis)),
    ]


def works_of(analysis: Analysis) -> tuple[Entry, ...]:
    """Return the works that this report follows: the study, its predecessors, methods and software that were used."""
    family = analysis.main[0].fit.spec.family
    keys = ["hoffman2014", "vehtari2021", "lewandowski2009", "kruschke2018", "burkner2017", "lenth2016"]
    keys += ["dimitriadis2021"] if family.binary else []  # the reliability diagram
    if "2411.03993" in analysis.study.study.reference:
        keys += ["colin2024", "borowski2021", "zimmermann2021", "zimmermann2023"]
    if predecessor_sources(analysis.study.exclusions):
        keys += ["zimmermann2023"]
    if analysis.joint:
        keys += ["vehtari2017", "bates2015"]
    if analysis.run:
        keys += ["bates2015", "searle1980"]
        bases = set(analysis.run.table("features")["basis"].dropna())
        keys += ["fel2023craft"] if "nmf" in bases else []
        kinds = set(analysis.run.table("stimuli")["reference_kind"].dropna())
        keys += ["fel2023maco"] if kinds & {"mixed", "synthetic"} else []
    rated = family.ordinal or any(opinion.model.family == "cumulative" for opinion in analysis.opinions)
    if rated or "mo(" in str(family):
        keys += ["burkner2020"]
    keys += ["psychostats", "pandas", "numpy", "scipy", "xarray", "plotnine", "matplotlib"]
    made: dict[str, str] = {}
    for fit in analysis.fits:
        made |= {name: str(version) for name, version in fit.provenance["versions"].items()}
    keys += [name for name in ("pymc", "nutpie") if name in made]
    return cite(list(dict.fromkeys(keys)), made)


def _estimates(analysis: Analysis) -> list[Block]:
    family = analysis.main[0].fit.spec.family
    scale = f"On the {family.link} scale" + (", above guessing" if family.has_asymptotes else "")
    blocks: list[Block] = [
        Heading("Supplement: estimates", 1, "estimates"),
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
            f"Fixed effects{_own_words(analysis)}: posterior mean and interval.",
            "table-fixed",
        ),
    ]
    truth = tables.tabulate_truth(analysis)
    return [*blocks, truth] if truth else blocks


def _own_words(analysis: Analysis) -> str:
    """Name the parameters of the family's own that stand among the fixed effects."""
    family = analysis.main[0].fit.spec.family
    words = {"lapse": "lapse rate", "sigma": "residual SD (sigma)", "ndt": "shift (ndt)", "disc": "log disc"}
    named = [words.get(name, name) for name in family.estimated]
    return f" and {' and '.join(named)}" if named else ""


def _groups(analysis: Analysis, figures: Figures) -> list[Block]:
    if "groups" not in figures:
        return []
    return [
        Heading("Supplement: differences within groups", 1, "groups"),
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
    measure = analysis.measure
    blocks: list[Block] = [
        Heading("Supplement: checks", 1, "checks"),
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
            f"{measure.title} replicated from {PREDICTIVE_DRAWS} draws of the posterior, against what was observed. "
            "The same trials "
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
                f"Observed {measure.bare} and its posterior predictive interval, by level and {_along(analysis)}.",
                "Observed means over predictive intervals.",
                "figure-cells",
            )
        )
    if "items" in figures:
        item = next(str(result.items.columns[0]) for result in analysis.main if result.items is not None)
        blocks.append(
            Figure(
                figures["items"],
                f"Observed {measure.bare} of each {item} and its posterior predictive interval.",
                "Sorted means over predictive intervals.",
                "figure-items",
            )
        )
    if "feature_checks" in figures:
        blocks.append(
            Figure(
                figures["feature_checks"],
                f"Observed {measure.bare} of each feature and its posterior predictive interval.",
                "Sorted means over predictive intervals.",
                "figure-feature-checks",
            )
        )
    blocks.append(
        Figure(
            figures["participants"],
            f"Observed {measure.bare} of each {analysis.study.report.group} and its posterior predictive interval.",
            "Sorted means over predictive intervals.",
            "figure-participants",
        )
    )
    if "calibration" not in figures:
        return blocks
    share = "share of correct answers" if measure.is_accuracy else f"share of {measure.column} = 1"
    return [
        *blocks,
        Heading("Are its probabilities those observed?", 2, "calibration"),
        Paragraph(say_calibration(groups_of(analysis), measure)),
        Figure(
            figures["calibration"],
            f"Observed {share} along the predicted probability.",
            f"Isotonic {share} against the predicted probability, with a band around the diagonal.",
            "figure-calibration",
        ),
    ]


def _along(analysis: Analysis) -> str:
    """Name what splits the predictive check beside the factor."""
    columns = analysis.main[0].cells.columns
    return next((name for name in columns if name in ("layer", analysis.study.effects.moderator)), "layer")


def _limits(analysis: Analysis) -> list[Block]:
    several = len(analysis.experiments) > 1
    family = analysis.main[0].fit.spec.family
    rates = "guess rates" if family.estimated else "guess and lapse rates"
    others = f"other {rates}" if family.binary else "other families of responses"
    items: list[Words] = [
        f"Other priors, {others}, other exclusions, and a curved course along a numeric predictor "
        "were not examined; estimates could move with any of them.",
        "Why there are this many participants, the study file does not say.",
    ]
    kept = analysis.excluded.kept
    unused = [name for name in ("rt", "confidence") if name in kept and kept[name].notna().any()]
    unused = [name for name in unused if name != analysis.measure.column]
    unused = [name for name in unused if name not in {opinion.asked.response for opinion in analysis.opinions}]
    if unused:
        items.append(
            f"{' and '.join(unused)} were recorded and not analysed; [[opinions]] in the study file asks for them."
        )
    if analysis.run is not None:
        networks = len(analysis.run.paths)
        items.append(
            f"{'One network was' if networks == 1 else f'{networks} networks were'} looked into, trained once, with "
            "one dictionary a layer, and neurons were sampled once; another network, seed or sample may say something "
            "else."
        )
    if several and analysis.joint is None:
        items.append("Experiments were fitted on their own, so differences between them were not estimated.")
    return [Heading("Limits of this analysis", 1, "limits"), BulletList(tuple(items))]


def _every_feature(analysis: Analysis) -> list[Block]:
    """Every feature with its images, the best of each basis first."""
    found = analysis.features
    if found is None:
        return []
    ranked = found.features.sort_values([found.factor, "estimate"], ascending=[True, False], kind="stable")
    grid = show_features(
        analysis,
        ranked,
        caption="Every feature with the images that drive it most, as one stimulus shows them, the best of each basis "
        f"first. Accuracy: posterior mean and {found.interval.label}, in percent.",
        anchor="figure-every-feature",
    )
    return [Heading("Supplement: every feature", 1, "every-feature"), *grid] if grid else []


def _of_shares(measure: Measure) -> list[Words]:
    """Say how to read what only probabilities have."""
    if not measure.is_share:
        return []
    return [
        prose(
            "{0}: differences too small to matter, {1} to {2} percentage points (in the tables of effects also {3} to "
            "{4} logits), assumed by this software and not taken from a paper. With {5} of the posterior inside, two "
            "{6} are called practically equal, even where the interval excludes zero.",
            Strong("ROPE, the region of practical equivalence"),
            points(ROPE_PROBABILITY.low),
            points(ROPE_PROBABILITY.high),
            number(ROPE_LOGIT.low),
            number(ROPE_LOGIT.high),
            f"{100 * ROPE_DECISIVE:g} %",
            "accuracies" if measure.is_accuracy else "shares",
        ),
        prose(
            "{0}: the odds of {1} at one level over the odds at the other, always of the probability itself.",
            Strong("Odds ratio"),
            "a correct answer" if measure.is_accuracy else f"{measure.column} = 1",
        ),
    ]


def _reading(analysis: Analysis) -> list[Block]:
    family, measure = analysis.main[0].fit.spec.family, analysis.measure
    linear = "probability" if measure.is_share else "the response"
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
        *_of_shares(measure),
        prose(
            "{0} is what a study of many new levels of all groups would find on average; {1} is the level in the "
            "middle of each. "
            + ("Here they are one, since {2} is" if family.link == "identity" else "They differ because {2} is not")
            + " linear in the predictor.",
            Strong("Population"),
            Strong("typical"),
            linear,
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


def _provenance(analysis: Analysis, command: str) -> list[Block]:
    blocks: list[Block] = [Heading("Provenance", 1, "provenance")]
    if command:
        blocks += [Paragraph("The command that made this report:"), CodeBlock(command)]
    blocks.append(accounts.tabulate_provenance(analysis))
    if sources_of(analysis):
        blocks.append(accounts.tabulate_sources(analysis))
    return [*blocks, Heading("Appendix: time", 1, "appendix"), accounts.tabulate_seconds(analysis)]
