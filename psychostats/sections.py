"""The sections of the report: an `Analysis` and its figures into the blocks of one neutral document.

In: tables and figures.  Out: headings, prose, tables and figures in their order.  Computes no statistic; knows neither HTML
nor PDF.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from psychostats.analysis import ALL, Analysis, Result
from psychostats.convergence import DIVERGENT_SHARE_MAX, ESS_MIN, RHAT_MAX, RHAT_MAX_LEVELS
from psychostats.document import (
    Block,
    BulletList,
    Callout,
    Code,
    CodeBlock,
    Column,
    Document,
    Equation,
    Figure,
    Heading,
    Link,
    Paragraph,
    Strong,
    Table,
    Words,
    prose,
)
from psychostats.effects import ROPE_LOGIT, ROPE_PROBABILITY
from psychostats.sentences import estimate, number, percent, points, say_difference, say_interaction, say_overall, share

Figures = Mapping[str, Path]


def compose(analysis: Analysis, figures: Figures, command: str) -> Document:
    """Compose the whole report.

    Parameters
    ----------
    analysis
        What was found.
    figures
        SVG files by name, see `psychostats.report`.
    command
        The command that made the report.
    """
    study = analysis.study.study
    sections: tuple[Callable[[], list[Block]], ...] = (
        lambda: _notices(analysis),
        lambda: _summary(analysis),
        lambda: _data(analysis),
        lambda: _design(analysis),
        lambda: _raw(analysis, figures),
        lambda: _model(analysis, figures),
        lambda: _effects(analysis, figures),
        lambda: _estimates(analysis),
        lambda: _groups(analysis, figures),
        lambda: _checks(analysis, figures),
        lambda: _reading(analysis),
        lambda: _provenance(analysis, command),
    )
    subtitle = study.name + (" · simulated participants" if study.simulated else "")
    return Document(
        title=study.title,
        subtitle=f"{subtitle} · after {study.reference}" if study.reference else subtitle,
        authors=analysis.study.report.authors,
        blocks=tuple(block for section in sections for block in section()),
    )


def summary_sentences(analysis: Analysis) -> list[Words]:
    """Return the sentences of the summary; every number in them is a cell of the effects tables, rounded."""
    sentences: list[Words] = []
    differences, changes = [], []
    for result in analysis.main:
        name = "" if result.experiment == ALL else result.experiment
        levels = result.fit.coding.levels[analysis.study.effects.factor]
        rows = result.headline[result.headline["target"] == "population"]
        for first, second in combinations(levels, 2):
            difference = _one(rows, scale="difference", contrast=f"{second} - {first}")
            ratio = _one(rows, scale="odds_ratio", contrast=f"{second} / {first}")
            differences.append(difference)
            means = (_mean_row(result, first), _mean_row(result, second))
            sentences.append(say_difference(name, (first, second), means, difference, ratio))
            if len(result.interaction):
                effects = analysis.study.effects
                ends = (effects.at[0], effects.at[-1])
                at = result.contrasts[result.contrasts["at"] == "value"]
                at = at[(at["target"] == "population") & (at["scale"] == "difference")]
                pair = tuple(
                    _one(at[at[effects.moderator] == end], contrast=f"{second} - {first}") for end in ends
                )
                change = _one(
                    result.interaction[
                        result.interaction["contrast"].str.startswith(f"({second} - {first})")
                    ],
                    scale="difference",
                    target="population",
                )
                changes.append(change)
                sentences.append(
                    say_interaction(name, (first, second), str(effects.moderator), ends, (pair[0], pair[1]), change)
                )
    overall = [say_overall(differences, "the difference in accuracy")]
    if changes:
        overall.append(say_overall(changes, "its change", f" with {analysis.study.effects.moderator}"))
    return [*(text for text in overall if text), *sentences]


def _notices(analysis: Analysis) -> list[Block]:
    blocks: list[Block] = []
    failed = [result for result in analysis.results if not result.fit.converged]
    if failed:
        items = tuple(
            prose("{0}: {1}", Strong(f"{result.model.name}, {result.experiment}"), " ".join(result.fit.warnings))
            for result in failed
        )
        blocks.append(
            Callout(
                "danger",
                "Not converged: the numbers of these fits may not be read",
                (BulletList(items), Paragraph(prose("What each limit means stands in {0}.", Link("checks")))),
            )
        )
    if analysis.study.study.simulated:
        blocks.append(
            Callout(
                "warning",
                "Simulated participants",
                (
                    Paragraph(
                        "No participant in this report is a person. The trials were simulated from a study file whose "
                        "settings are partly assumed; the effects found here are the effects that were put in, and say "
                        "nothing about people."
                    ),
                ),
            )
        )
    return blocks


def _summary(analysis: Analysis) -> list[Block]:
    factor = analysis.study.effects
    held = f", with {factor.moderator} at its mean" if analysis.main[0].slopes.size else ""
    return [
        Heading("Summary", 1, "summary"),
        BulletList(tuple(summary_sentences(analysis))),
        Paragraph(
            prose(
                "All numbers are population averages, over new participants and new features{0}; intervals are the "
                "{1}. {2} gives the same for the typical participant and feature, {3} says how to read each number.",
                held,
                factor.as_interval().label,
                Link("effects"),
                Link("reading"),
            )
        ),
    ]


def _data(analysis: Analysis) -> list[Block]:
    flow = analysis.excluded.flow
    first, last = flow["step"].iloc[0], flow["step"].iloc[-1]
    whole, kept = flow[flow["step"] == first], flow[flow["step"] == last]
    blocks: list[Block] = [
        Heading("Data and exclusions", 1, "data"),
        Paragraph(
            prose(
                "The file {0} holds {1} trials of {2} participants"
                + (" in {5} experiments" if len(analysis.experiments) > 1 else "")
                + "; {3} trials of {4} participants were analysed. Rules run in the order of the table; a participant "
                "whom a rule removes is gone for all later ones.",
                Code(analysis.source["file"]),
                int(whole["trials_left"].sum()),
                int(whole["participants_left"].sum()),
                int(kept["trials_left"].sum()),
                int(kept["participants_left"].sum()),
                len(analysis.experiments),
            )
        ),
    ]
    blocks += _flow_tables(analysis)
    catch = analysis.catch_accuracy
    if len(catch):
        blocks.append(
            Table(
                (
                    *_experiment_column(analysis),
                    Column("n", "Catch trials", "integer"),
                    Column("accuracy", "Accuracy", "number", 3),
                ),
                catch,
                "Catch trials, before any exclusion.",
                anchor="table-catch",
            )
        )
    return blocks


def _flow_tables(analysis: Analysis) -> list[Block]:
    flow = analysis.excluded.flow
    names = list(dict.fromkeys(flow["experiment"].astype(str)))
    together = len(names) <= 3
    tables: list[Block] = []
    for group in [names] if together else [[name] for name in names]:
        wide = pd.DataFrame({"step": flow[flow["experiment"].astype(str) == group[0]]["step"].to_numpy()})
        columns = [Column("step", "Step")]
        for name in group:
            rows = flow[flow["experiment"].astype(str) == name]
            for key, header in (("participants", "Participants"), ("trials", "Trials")):
                removed, left = rows[f"{key}_removed"], rows[f"{key}_left"]
                wide[f"{name}_{key}"] = [
                    f"{kept:,}" + (f" (−{gone:,})" if gone else "") for gone, kept in zip(removed, left, strict=True)
                ]
                title = header if len(names) == 1 else f"{name}: {header.lower()}"
                columns.append(Column(f"{name}_{key}", title, align="right"))
        suffix = "" if together else f" Experiment {group[0]}."
        tables.append(
            Table(
                tuple(columns),
                wide,
                f"Participants and trials left after each step; in brackets, how many the step removed.{suffix}",
                anchor="" if not together else "table-exclusions",
            )
        )
    return tables


def _design(analysis: Analysis) -> list[Block]:
    study, kept = analysis.study, analysis.excluded.kept
    factor = study.effects.factor
    assignment = {
        "within": f"every participant saw each {factor}",
        "between": f"each participant saw one {factor}",
        None: f"the study file does not say whether a participant saw one {factor} or each",
    }[study.design.assignment]
    counted = [name for name in ("participant", "pair", "feature", "stimulus", "layer") if name in kept.columns]
    rows = []
    groups = kept.groupby("experiment", observed=True) if "experiment" in kept.columns else [(ALL, kept)]
    for name, part in groups:
        row: dict[str, Any] = {"experiment": str(name), "trials": len(part)}
        row |= {column: int(part[column].nunique()) for column in counted}
        person = part.groupby("participant", observed=True).size() if "participant" in part.columns else pd.Series([0])
        rows.append(row | {"median": float(person.median())})
    plural = {"participant": "Participants", "pair": "Pairs", "feature": "Features", "stimulus": "Stimuli"}
    blocks: list[Block] = [
        Heading("Design", 1, "design"),
        Paragraph((study.study.description + " " if study.study.description else "") + f"In this design {assignment}."),
        Table(
            (
                *_experiment_column(analysis),
                Column("trials", "Trials", "integer"),
                *(Column(name, plural.get(name, "Layers"), "integer") for name in counted),
                Column("median", "Trials a participant (median)", "integer"),
            ),
            pd.DataFrame(rows),
            "What was analysed.",
            anchor="table-design",
        ),
    ]
    if study.sources:
        blocks.append(
            Paragraph(
                prose("Which settings come from the paper, from a predecessor, or are assumed: {0}.", Link("table-sources"))
            )
        )
    return blocks


def _raw(analysis: Analysis, figures: Figures) -> list[Block]:
    factor = analysis.study.effects.factor
    blocks: list[Block] = [
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
        Table(
            (
                *_experiment_column(analysis),
                Column(factor, factor.capitalize()),
                Column("n", "Trials", "integer"),
                Column("correct", "Correct", "integer"),
                Column("accuracy", "Accuracy", "number", 3),
            ),
            analysis.accuracy,
            "Raw accuracy over analysed trials.",
            anchor="table-accuracy",
        ),
    ]
    return blocks


def _model(analysis: Analysis, figures: Figures) -> list[Block]:
    main = analysis.main[0].fit
    family = main.spec.family
    priors = pd.DataFrame([{**prior.row(), "name": prior.name} for prior in main.priors])
    F = "logistic function" if family.link == "logit" else "standard normal distribution function"
    codings = main.coding.describe()
    blocks: list[Block] = [
        Heading("Model", 1, "model"),
        Paragraph(
            prose("The model of this report, fitted to each experiment on its own, in the notation of lme4 and brms:")
        ),
        CodeBlock(main.spec.formula.text),
        Paragraph(
            prose(
                "In words: a trial i is answered correctly with probability p; the family is {0}. F is the {1}, g the "
                "guess rate {2} and l the lapse rate {3}, so that p runs from {2} to {4}. The predictors add up in η; "
                "every level of a group has its own effects, which come from a normal distribution whose spread is "
                "estimated.",
                family.describe(),
                F,
                f"{family.guess:g}",
                f"{family.lapse:g}",
                f"{1 - family.lapse:g}",
            )
        ),
        _equation(analysis.main[0]),
        Paragraph("Coding of factors: " + "; ".join(f"{name}: {words}" for name, words in codings.items()) + ".")
        if codings
        else Paragraph("All predictors are numbers."),
        Table(
            (
                Column("group", "Group"),
                Column("terms", "Terms"),
                Column("structure", "Covariance as fitted"),
            ),
            pd.DataFrame(
                [{**row, "terms": ", ".join(row["terms"])} for row in main.covariance()],
                columns=["group", "terms", "structure"],
            ),
            "Group effects as they were fitted.",
            anchor="table-covariance",
        ),
        Table(
            (
                Column("name", "Parameter", "code"),
                Column("prior", "Prior"),
                Column("source", "Source"),
            ),
            priors,
            "Priors in use, on the link scale.",
            "Defaults: intercept normal(0, 1.5) where all predictors are 0; each other coefficient normal(0, 1) over "
            "its predictor's range; SDs exponential(2); correlations lkj(2).",
            "table-priors",
        ),
        Paragraph(
            prose(
                "{0} shows what these priors alone say: accuracy and its difference, population average, before any "
                "trial was seen.",
                Link("figure-prior"),
            )
        ),
        Figure(
            figures["prior"],
            "Prior predictive accuracy by level, and the difference between levels.",
            "Histograms of accuracy drawn from the priors.",
            "figure-prior",
        ),
    ]
    if len(analysis.study.models) > 1:
        others = [
            prose("{0}: {1}, {2}", Strong(model.name), Code(model.formula), model.spec().family.describe())
            for model in analysis.study.models[1:]
        ]
        blocks += [Paragraph("Fitted beside it, as a check on this choice:"), BulletList(tuple(others))]
    return blocks


def _equation(result: Result) -> Equation:
    """Write the model in algebra; names from data are values, never markup."""
    made = result.fit
    names: list[str] = []

    def name(text: str) -> str:
        names.append(text)
        return f"{{{len(names) - 1}}}"

    fixed = ["β_0" if term == "Intercept" else f"β_{i} {name(term)}_i" for i, term in enumerate(made.design.names)]
    letters = ("u", "v", "w", "a", "c", "d")
    blocks = list(zip(made.design.blocks, letters, strict=False))
    effects = [f"{letter}_i" for _, letter in blocks]
    lines = ["y_i ∼ {Bernoulli}(p_i)".replace("{Bernoulli}", "Bernoulli")]
    lines.append("p_i = g + (1 − g − l) F(η_i)" if made.spec.family.has_asymptotes else "p_i = F(η_i)")
    lines.append("η_i = " + " + ".join([*fixed, *effects]))
    for block, letter in blocks:
        group = name(block.group)
        parts = [
            f"{letter}_({j}, {group}[i])" + ("" if term == "Intercept" else f" {name(term)}_i")
            for j, term in enumerate(block.terms)
        ]
        lines.append(f"{letter}_i = " + " + ".join(parts))
    return Equation(tuple(lines), tuple(names), "equation-model")


def _effects(analysis: Analysis, figures: Figures) -> list[Block]:
    effects = analysis.study.effects
    factor, moderator = effects.factor, effects.moderator
    label = effects.as_interval().label
    moderated = bool(analysis.main[0].slopes.size)
    means = _all(analysis.main, "means", [factor, *([str(moderator)] if moderated else [])])
    blocks: list[Block] = [
        Heading("Effects", 1, "effects"),
        Paragraph(
            prose(
                "Marginal means and contrasts of the main model. {0} averages over new participants and new features "
                "jointly; {1} sets all their effects to zero, which is the median person and feature, not the mean.",
                Strong("Population"),
                Strong("typical"),
            )
        ),
    ]
    if moderated:
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
        _means_table(analysis, means, moderated),
        _contrast_table(analysis, moderated),
    ]
    if moderated:
        blocks += [_interaction_table(analysis), _slope_table(analysis)]
    others = analysis.study.models[1:]
    if others:
        blocks.append(_comparison_table(analysis))
    blocks.append(
        Paragraph(
            f"Intervals are the {label}. Differences are in percentage points, odds ratios always of the probability "
            "of a correct answer."
        )
    )
    return blocks


def _means_table(analysis: Analysis, means: pd.DataFrame, moderated: bool) -> Block:
    factor, moderator = analysis.study.effects.factor, analysis.study.effects.moderator
    table = means.copy()
    table["cell"] = [
        f"{percent(row['estimate'])} [{percent(row['conf_low'])}, {percent(row['conf_high'])}]"
        for row in table.to_dict("records")
    ]
    columns = [*_experiment_column(analysis)]
    keys = ["experiment"]
    if moderated:
        table["at"] = [("mean" if pd.isna(value) else f"{value:g}") for value in table[moderator]]
        keys.append("at")
        columns.append(Column("at", str(moderator).capitalize()))
    keys.append(factor)
    columns.append(Column(factor, factor.capitalize()))
    wide = table.pivot_table(index=keys, columns="target", values="cell", aggfunc="first", sort=False, observed=True)
    columns += [Column("population", "Population", align="right"), Column("typical", "Typical", align="right")]
    return Table(tuple(columns), wide.reset_index(), f"Marginal means: accuracy by {factor}.", anchor="table-means")


def _contrast_table(analysis: Analysis, moderated: bool) -> Block:
    moderator = analysis.study.effects.moderator
    rows = []
    for result in analysis.main:
        table = result.contrasts
        table = table[table["scale"] == "difference"]
        ratios = result.contrasts[result.contrasts["scale"] == "odds_ratio"].reset_index(drop=True)
        for place, row in enumerate(table.to_dict("records")):
            ratio = ratios.iloc[place]
            rows.append(
                {
                    "experiment": result.experiment,
                    "contrast": str(row["contrast"]).replace(" - ", " − "),
                    "at": "" if not moderated else "mean" if row["at"] == "mean" else f"{row[moderator]:g}",
                    "target": row["target"],
                    "difference": f"{points(row['estimate'])} [{points(row['conf_low'])}, {points(row['conf_high'])}]",
                    "ratio": estimate(ratio),
                    "pd": share(row["pd"]),
                    "rope": percent(row["rope_share"]),
                }
            )
    low, high = points(ROPE_PROBABILITY.low), points(ROPE_PROBABILITY.high)
    columns = [*_experiment_column(analysis), Column("contrast", "Contrast")]
    columns += [Column("at", str(moderator).capitalize())] if moderated else []
    columns += [
        Column("target", "Target"),
        Column("difference", "Difference (points)", align="right"),
        Column("ratio", "Odds ratio", align="right"),
        Column("pd", "pd", align="right"),
        Column("rope", "In ROPE", align="right"),
    ]
    return Table(
        tuple(columns),
        pd.DataFrame(rows),
        "Contrasts.",
        f"pd: probability of direction. In ROPE: share of the posterior of the difference between {low} and {high} "
        "percentage points (assumed).",
        "table-contrasts",
    )


def _interaction_table(analysis: Analysis) -> Block:
    table = _all(analysis.main, "interaction", [])
    names = {"difference": "difference (points)", "odds_ratio": "ratio of odds ratios", "link": "link"}
    rows = [
        {
            "experiment": row["experiment"],
            "contrast": str(row["contrast"]).replace(" - ", " − "),
            "target": row["target"],
            "scale": names[row["scale"]],
            "value": f"{points(row['estimate'])} [{points(row['conf_low'])}, {points(row['conf_high'])}]"
            if row["scale"] == "difference"
            else estimate(row),
            "pd": share(row["pd"]),
            "rope": percent(row["rope_share"]),
        }
        for row in table.to_dict("records")
    ]
    return Table(
        (
            *_experiment_column(analysis),
            Column("contrast", "Change of the contrast"),
            Column("target", "Target"),
            Column("scale", "Scale"),
            Column("value", "Estimate", align="right"),
            Column("pd", "pd", align="right"),
            Column("rope", "In ROPE", align="right"),
        ),
        pd.DataFrame(rows),
        "Interaction: how the contrast changes between the two ends of the moderator.",
        anchor="table-interaction",
    )


def _slope_table(analysis: Analysis) -> Block:
    factor, moderator = analysis.study.effects.factor, analysis.study.effects.moderator
    table = _all(analysis.main, "slopes", [factor])
    table = table[table["scale"] == "difference"]
    table = table.assign(
        value=[f"{points(r['estimate'])} [{points(r['conf_low'])}, {points(r['conf_high'])}]" for r in table.to_dict("records")],
        direction=table["pd"].map(share),
    )
    return Table(
        (
            *_experiment_column(analysis),
            Column(factor, factor.capitalize()),
            Column("target", "Target"),
            Column("value", f"Points per unit of {moderator}", align="right"),
            Column("direction", "pd", align="right"),
        ),
        table,
        f"Slopes: change of accuracy over the range of {moderator}, per unit.",
        anchor="table-slopes",
    )


def _comparison_table(analysis: Analysis) -> Block:
    rows = []
    for result in analysis.results:
        table = result.headline
        for row in table[(table["target"] == "population") & (table["scale"] == "difference")].to_dict("records"):
            rows.append(
                {
                    "experiment": result.experiment,
                    "model": result.model.name,
                    "family": result.fit.spec.family.describe(),
                    "contrast": str(row["contrast"]).replace(" - ", " − "),
                    "value": f"{points(row['estimate'])} [{points(row['conf_low'])}, {points(row['conf_high'])}]",
                    "pd": share(row["pd"]),
                }
            )
    order = {name: place for place, name in enumerate(analysis.experiments)}
    frame = pd.DataFrame(rows).sort_values("experiment", key=lambda column: column.map(order), kind="stable")
    return Table(
        (
            *_experiment_column(analysis),
            Column("model", "Model"),
            Column("family", "Family"),
            Column("contrast", "Contrast"),
            Column("value", "Difference (points), population", align="right"),
            Column("pd", "pd", align="right"),
        ),
        frame,
        "The headline contrast under each model.",
        anchor="table-models",
    )


def _estimates(analysis: Analysis) -> list[Block]:
    main = analysis.main[0].fit
    family = main.spec.family
    scale = f"On the {family.link} scale" + (", above guessing" if family.has_asymptotes else "")
    return [
        Heading("Estimates", 1, "estimates"),
        Paragraph(
            prose(
                "{0}. The coefficient of a factor is its contrast where every other predictor is 0, so the headline is "
                "taken from {1}, not from here.",
                scale,
                Link("effects"),
            )
        ),
        _terms_table(analysis, ("b",), "Fixed effects: posterior mean and interval.", "table-fixed"),
    ]


def _groups(analysis: Analysis, figures: Figures) -> list[Block]:
    if not analysis.main[0].fit.design.blocks:
        return []
    return [
        Heading("Differences between participants and features", 1, "groups"),
        Paragraph(
            "Standard deviations of the group effects on the link scale, and the correlations of intercepts and slopes. "
            "A correlation that the data say little about stays near its prior, which is wide and centred on 0."
        ),
        Figure(
            figures["groups"],
            "Standard deviations and correlations of the group effects.",
            "Forest plot of standard deviations and correlations by experiment.",
            "figure-groups",
        ),
        _terms_table(analysis, ("sd", "cor"), "Group effects: posterior mean and interval.", "table-groups"),
    ]


def _terms_table(analysis: Analysis, classes: tuple[str, ...], caption: str, anchor: str) -> Block:
    wide: dict[str, dict[str, str]] = {}
    for result in analysis.main:
        terms = result.fit.terms(interval=analysis.study.effects.as_interval())
        for row in terms[terms["class"].isin(classes)].to_dict("records"):
            wide.setdefault(str(row["term"]), {})[result.experiment] = estimate(row)
    frame = pd.DataFrame([{"term": term, **cells} for term, cells in wide.items()])
    columns = (
        Column("term", "Term", "code"),
        *(
            Column(name, "Estimate" if name == ALL else name, align="right")
            for name in analysis.experiments
        ),
    )
    return Table(columns, frame, caption, f"Intervals: {analysis.study.effects.as_interval().label}.", anchor)


def _checks(analysis: Analysis, figures: Figures) -> list[Block]:
    rows = []
    for result in analysis.results:
        checks = pd.DataFrame([check.row() for check in result.fit.checks])
        value = checks.groupby("name")["value"]
        levels = checks[(checks["name"] == "rhat") & checks["term"].fillna("").str.startswith("r_")]["value"]
        main = checks[(checks["name"] == "rhat") & ~checks["term"].fillna("").str.startswith("r_")]["value"]
        rows.append(
            {
                "experiment": result.experiment,
                "model": result.model.name,
                "rhat": main.max(),
                "rhat_levels": levels.max() if len(levels) else None,
                "bulk": value.min()["ess_bulk"],
                "tail": value.min()["ess_tail"],
                "divergences": value.max()["divergences"],
                "depth": value.max()["treedepth_hits"],
                "verdict": "may be read" if result.fit.converged else "NOT converged",
            }
        )
    inside = []
    for result in analysis.main:
        for name, table in (("cells", result.cells), ("participants", result.participants)):
            inside.append(
                {
                    "experiment": result.experiment,
                    "what": "level and layer" if name == "cells" else "participant",
                    "groups": len(table),
                    "inside": int(table["inside"].sum()),
                    "share": float(table["inside"].mean()),
                }
            )
    draws = analysis.main[0].fit.settings
    probability = analysis.study.effects.probability
    blocks: list[Block] = [
        Heading("Checks", 1, "checks"),
        Heading("May it be read?", 2, "convergence"),
        Table(
            (
                *_experiment_column(analysis),
                Column("model", "Model"),
                Column("rhat", "Worst R-hat", "number", 3),
                Column("rhat_levels", "… of levels", "number", 3),
                Column("bulk", "Least bulk ESS", "integer"),
                Column("tail", "Least tail ESS", "integer"),
                Column("divergences", "Divergences", "integer"),
                Column("depth", "Tree depth hits", "integer"),
                Column("verdict", "Verdict"),
            ),
            pd.DataFrame(rows),
            "Convergence of every fit.",
            f"Limits: R-hat at most {RHAT_MAX:g} (of single levels {RHAT_MAX_LEVELS:g}), ESS at least {ESS_MIN:.0f}, "
            f"divergences at most {DIVERGENT_SHARE_MAX:.1%} of {draws.chains} chains of {draws.draws:,} draws.",
            "table-convergence",
        ),
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
            f"Accuracy replicated from the posterior, against what was observed. About {probability:.0%} of groups "
            "should lie inside their interval; fewer say that the model misses something, more that it is cautious."
        ),
        Table(
            (
                *_experiment_column(analysis),
                Column("what", "Groups by"),
                Column("groups", "Groups", "integer"),
                Column("inside", "Inside", "integer"),
                Column("share", "Share", "percent", 0),
            ),
            pd.DataFrame(inside),
            "Groups whose observed accuracy lies in the posterior predictive interval.",
            anchor="table-predictive",
        ),
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
            "Observed accuracy of each participant and its posterior predictive interval.",
            "Sorted participants' accuracies over predictive intervals.",
            "figure-participants",
        )
    )
    return blocks


def _reading(analysis: Analysis) -> list[Block]:
    family = analysis.main[0].fit.spec.family
    interval = analysis.study.effects.as_interval()
    items: list[Words] = [
        prose(
            "{0}: given the model and the data, the quantity lies inside with this probability. Every estimate is the "
            "posterior mean.",
            Strong(interval.label),
        ),
        prose(
            "{0}: the share of the posterior on the side of zero where most of it lies; 0.5 says nothing about the "
            "sign, 1 is certain.",
            Strong("Probability of direction"),
        ),
        prose(
            "{0}: differences too small to matter, {1} to {2} percentage points and {3} to {4} logits, assumed by this "
            "software and not taken from a paper. {5} of the posterior inside is called practically equal.",
            Strong("ROPE"),
            points(ROPE_PROBABILITY.low),
            points(ROPE_PROBABILITY.high),
            number(ROPE_LOGIT.low),
            number(ROPE_LOGIT.high),
            "95 %",
        ),
        prose(
            "{0}: the odds of a correct answer at one level over the odds at the other, always from the probability "
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
                "{0}: with a guess rate of {1}, a contrast on the link scale is about knowing rather than guessing; its "
                "exponential is an odds ratio above guessing, not an odds ratio of being correct.",
                Strong("Link scale"),
                f"{family.guess:g}",
            )
        )
    return [Heading("How to read this report", 1, "reading"), BulletList(tuple(items))]


def _provenance(analysis: Analysis, command: str) -> list[Block]:
    study = analysis.study
    made = analysis.main[0].fit
    versions = made.provenance["versions"]
    settings = made.settings
    facts = [
        ("Trials", f"{analysis.source['file']}, SHA-256 {analysis.source['file_sha256']}"),
        ("Study file", f"{study.path.name}, SHA-256 {study.sha256}"),
        *(
            (f"Data of {result.experiment}", f"SHA-256 {result.fit.provenance['data']['sha256']}")
            for result in analysis.main
        ),
        ("Engine", f"{made.provenance['engine']} ({made.provenance['engine_reason']})"),
        (
            "Sampler",
            f"{settings.chains} chains of {settings.draws} draws after {settings.tune}, seed {settings.seed}, target "
            f"acceptance {settings.target_accept:g}",
        ),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    blocks: list[Block] = [
        Heading("Provenance", 1, "provenance"),
        Paragraph("The command that made this report:"),
        CodeBlock(command),
        Table(
            (Column("what", "What"), Column("value", "Value")),
            pd.DataFrame(facts, columns=["what", "value"]),
            "What went in.",
            anchor="table-provenance",
        ),
    ]
    if study.sources:
        rows = [{"key": key, "source": study.source_of(key)[0], "note": study.source_of(key)[1]} for key in study.sources]
        blocks.append(
            Table(
                (Column("key", "Setting", "code"), Column("source", "Source"), Column("note", "Note")),
                pd.DataFrame(rows),
                "Where the settings of the study file come from.",
                "paper: stated there. predecessor: an earlier study of the same line. assumed: ours. A setting that is "
                "not listed is assumed.",
                "table-sources",
            )
        )
    seconds = pd.DataFrame(
        [{"stage": stage, "seconds": value} for stage, value in analysis.seconds.items() if value >= 0.005]
    )
    blocks += [
        Heading("Appendix: time", 1, "appendix"),
        Table(
            (Column("stage", "Stage"), Column("seconds", "Seconds", "number", 1)),
            seconds,
            "Time of each stage of this run; a fit that was answered from disk takes none.",
            anchor="table-seconds",
        ),
    ]
    return blocks


def _experiment_column(analysis: Analysis) -> tuple[Column, ...]:
    """Return the column that names the experiment, where there are several."""
    return (Column("experiment", "Experiment"),) if len(analysis.experiments) > 1 else ()


def _all(results: tuple[Result, ...], table: str, columns: list[str]) -> pd.DataFrame:
    """Stack one table of every result, with its experiment."""
    parts = [getattr(result, table).assign(experiment=result.experiment) for result in results]
    stacked = pd.concat(parts, ignore_index=True)
    for name in columns:
        if name not in stacked:
            stacked[name] = None
    return stacked


def _one(rows: pd.DataFrame, **wanted: str) -> dict[str, Any]:
    """Return the one row with the wanted values."""
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    found = rows.to_dict("records")
    assert len(found) == 1, f"{len(found)} rows for {wanted}"
    return {str(key): value for key, value in found[0].items()}


def _mean_row(result: Result, level: str) -> dict[str, Any]:
    """Return the population mean of a level with the moderator at its mean."""
    factor = next(name for name, levels in result.fit.coding.levels.items() if level in levels)
    means = result.means[result.means["target"] == "population"]
    moderator = [name for name in result.fit.coding.ranges if name in means.columns]
    if moderator:
        means = means[means[moderator[0]].isna()]
    return _one(means, **{factor: level})
