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
from psychostats.claims import say_claims
from psychostats.contribution_section import describe_contributions
from psychostats.demographics import describe_demographics, summarise_demographics
from psychostats.document import (
    Block,
    BulletList,
    Code,
    Document,
    Figure,
    Heading,
    Link,
    Paragraph,
    Strong,
    Words,
    prose,
)
from psychostats.exclusion_section import describe_exclusions, describe_recordings
from psychostats.exhibits import show_features, show_trials
from psychostats.feature_section import feature_blocks
from psychostats.joint_section import describe_joint
from psychostats.methods import describe_features
from psychostats.opening import groups_of, notices, sources_of, summary_sentences
from psychostats.predictor import describe_target, plural
from psychostats.results import ITEMS
from psychostats.settings import DemographicsTable
from psychostats.supplement import supplement

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
            *show_trials(analysis),
            *_data(analysis, figures),
            *_design(analysis),
            *_raw(analysis, figures),
            *describe_model(analysis, figures),
            *_effects(analysis, figures),
            *describe_joint(analysis, figures),
            *_features(analysis, figures),
            *(describe_contributions(analysis.contributions, figures) if analysis.contributions else ()),
            *_opinions(analysis, figures),
            *supplement(analysis, figures, command),
        ),
    )


def _summary(analysis: Analysis) -> list[Block]:
    several = len(analysis.experiments) > 1
    simulated = " (simulated participants)" if analysis.study.study.simulated else ""
    summary = summary_sentences(analysis)
    return [
        Heading(f"Summary{simulated}", 1, "summary"),
        BulletList((*summary[:1], *say_claims(analysis), *summary[1:])),
        Paragraph(
            prose(
                f"{_numbers(analysis)} are of the population: {{0}}{{1}}. Intervals are the {{2}}; "
                "differences are computed before rounding. {3} gives the same for the typical participant, {4} says "
                "how to read each number, and {5} what was not examined."
                + (
                    " Experiments were fitted apart: a count of them does not show that they differ." if several else ""
                ),
                describe_target("population", groups_of(analysis)),
                f", with {analysis.moderator} at its mean where no value is named" if analysis.moderator else "",
                analysis.study.effects.as_interval().label,
                Link("effects"),
                Link("reading"),
                Link("limits"),
            )
        ),
    ]


def _numbers(analysis: Analysis) -> str:
    """Name the numbers of the summary."""
    if analysis.measure.is_accuracy:
        return "Accuracies, differences and odds ratios"
    return "Means, differences and odds ratios" if analysis.measure.is_share else "Means and differences"


def _data(analysis: Analysis, figures: Figures) -> list[Block]:
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
                ("{0} has {1} rows, of which the filter ({2}) keeps {3}: " if filters else "{0} holds ")
                + "{4} trials of {5} participants{6}; {7} trials of {8} participants were analysed. "
                "Rules run in the order of the table; a participant whom a rule removes is gone for all later ones. "
                "Participants are judged within an experiment{9}; times are sums of response times over main and catch "
                "trials.",
                Code(analysis.source["file"]),
                analysis.trials.n_rows,
                filters,
                analysis.trials.n_rows - analysis.trials.n_filtered,
                int(whole["trials_left"].sum()),
                analysis.recorded,
                f" in {len(analysis.experiments)} experiments" if several else "",
                int(kept["trials_left"].sum()),
                analysis.excluded.kept["participant"].nunique(),
                ", and each of their sessions by itself" if "session" in analysis.trials.frame else "",
            )
        ),
        *describe_exclusions(analysis, figures),
    ]
    if len(analysis.catch_accuracy):
        blocks.append(accounts.tabulate_catch(analysis))
    if (joined := analysis.trials.demographics) is not None:
        asked = study.demographics or DemographicsTable()
        joined = joined.of(analysis.excluded.kept["participant"].astype(str).unique())
        summary = summarise_demographics(joined.people, asked.columns, asked.smallest)
        blocks += describe_demographics(summary, joined, asked.smallest)
    if study.columns or any(isinstance(levels, dict) for levels in study.levels.values()):
        blocks.append(accounts.tabulate_reading(study))
    return [*blocks, *describe_recordings(analysis.trials)]


def _design(analysis: Analysis) -> list[Block]:
    study = analysis.study
    factor = study.effects.factor
    each, one = f"had trials at each level of {factor}", f"had one level of {factor}"
    if study.condition == "representation":
        each, one = f"saw each {factor}", f"saw one {factor}"
    assignment = {
        "within": f"every participant {each}",
        "between": f"each participant {one}",
        None: f"the study file does not say whether a participant {one} or each",
    }[study.design.assignment]
    about = f"{study.study.description} " if study.study.description else ""
    blocks: list[Block] = [
        Heading("Design", 1, "design"),
        Paragraph(f"{about}In this design {assignment}."),
        accounts.tabulate_design(analysis),
        *map(Paragraph, _cautions(analysis)),
    ]
    blocks += describe_features(analysis)
    if sources_of(analysis):
        where = "{0} says which settings come from the paper, from a predecessor, or are assumed."
        blocks.append(Paragraph(prose(where, Link("table-sources"))))
    return blocks


def _cautions(analysis: Analysis) -> Iterator[Words]:
    """Say what the design cannot tell apart, and what the model leaves out of it."""
    kept, groups = analysis.excluded.kept, groups_of(analysis)
    items = [name for name in ITEMS if name in kept.columns and kept[name].notna().any()]
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
    measure, shares = analysis.measure, analysis.measure.is_share
    what = "the share of correct answers" if measure.is_accuracy else measure.noun
    return [
        Heading(f"Raw {measure.bare}", 1, "raw"),
        Paragraph(
            f"Before any model: {what}. The figure's means weigh every participant alike, the table's "
            f"{'shares' if shares else 'means'} every trial."
        ),
        Figure(
            figures["accuracy"],
            f"Raw {measure.bare} of each participant, and the mean over participants.",
            f"Points of participants' {'accuracies' if measure.is_accuracy else 'means'} by level, with means and "
            "intervals.",
            "figure-accuracy",
        ),
        tables.tabulate_accuracy(analysis),
    ]


def _effects(analysis: Analysis, figures: Figures) -> list[Block]:
    factor, moderator, measure = analysis.study.effects.factor, analysis.moderator, analysis.measure
    blocks: list[Block] = [
        Heading("Effects", 1, "effects"),
        Paragraph(
            prose(
                "Marginal means and contrasts of the main model. {0}: {1}. {2}: {3}; "
                + _why_not_the_mean(analysis)
                + ". In brackets: {4}.",
                Strong("Population"),
                describe_target("population", groups_of(analysis)),
                Strong("Typical"),
                describe_target("typical", groups_of(analysis)),
                analysis.study.effects.as_interval().label,
            )
        ),
    ]
    if "curve" in figures:
        blocks.append(
            Figure(
                figures["curve"],
                f"{measure.title} along {moderator}: raw {'shares' if measure.is_share else 'means'}, and the model.",
                f"{measure.title} against {moderator} by {factor}, one panel an experiment.",
                "figure-curve",
            )
        )
    blocks += [
        Figure(
            figures["contrasts"],
            f"Differences in {measure.noun} between the levels of {factor}.",
            f"Forest plot of {'probability ' if measure.is_share else ''}differences with intervals.",
            "figure-contrasts",
        ),
        tables.tabulate_contrasts(analysis),
        tables.tabulate_means(analysis),
    ]
    if any(len(result.detection) for result in analysis.main):
        blocks.append(tables.tabulate_detection(analysis))
    if moderator:
        blocks += [tables.tabulate_interaction(analysis), tables.tabulate_slopes(analysis)]
    if any(len(result.pattern) for result in analysis.main):
        blocks.append(tables.tabulate_pattern(analysis))
    if len(analysis.study.models) > 1:
        blocks.append(tables.tabulate_models(analysis))
    return blocks


def _why_not_the_mean(analysis: Analysis) -> str:
    """Say how the typical level relates to the mean."""
    if analysis.measure.is_share:
        return "not the mean, since probability is not linear in the predictor"
    if analysis.main[0].fit.spec.family.link == "identity":
        return "the same as the mean, since the response is linear in the predictor"
    return "not the mean over people, since the response is not linear in the predictor"


def _features(analysis: Analysis, figures: Figures) -> list[Block]:
    """The sections on single features, with the images of the best and the worst; the supplement has all."""
    found = analysis.features
    if found is None:
        return []
    best = show_features(
        analysis,
        found.ranked,
        caption="The best and the worst features of each basis with the images that drive them most, as one stimulus "
        f"shows them. Accuracy: posterior mean and {found.interval.label}, in percent.",
        anchor="figure-best",
    )
    model = "model of all experiments" if analysis.joint else "main model"
    return feature_blocks(found, figures, images=best, model=model)


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
                "where they agree, the finding does not hang on the choice of {3}; where they do not, {2} says "
                "what was found of {3}, and nothing is averaged.",
                Code(main.text.partition("~")[2].strip()),
                " and ".join(f"{words} ({trials})" for words, trials in taken.items()),
                Link("effects"),
                analysis.measure.noun,
            )
        ),
        Figure(
            figures["opinions"],
            f"The contrast on every response: {analysis.measure.noun}, and what else was recorded.",
            "Intervals by experiment, one panel a response.",
            "figure-opinions",
        ),
        tables.tabulate_opinions(analysis),
    ]
