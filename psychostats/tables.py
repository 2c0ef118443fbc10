"""The tables of findings: an `Analysis` into blocks whose cells are already as they print.

In: frames of numbers.  Out: `Table` blocks.  Rounds and arranges; computes no statistic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from psychostats.analysis import Analysis
from psychostats.checks import MISFIT_CHANCE
from psychostats.convergence import DIVERGENT_SHARE_MAX, ESS_MIN, RHAT_MAX, RHAT_MAX_LEVELS
from psychostats.document import Column, Table
from psychostats.effects import ROPE_PROBABILITY
from psychostats.fit import Fit
from psychostats.measure import number, percent, points
from psychostats.results import ALL, Result
from psychostats.sentences import Row, estimate, share


def tabulate_accuracy(analysis: Analysis) -> Table:
    """Raw accuracy over trials, or the mean of another response."""
    factor, measure = analysis.study.effects.factor, analysis.measure
    ones = (Column("correct", "Correct" if measure.is_accuracy else f"With {measure.column} = 1", "integer"),)
    columns = (
        Column(factor, factor.capitalize()),
        Column("n", "Trials", "integer"),
        *(ones if measure.is_share else ()),
        Column("accuracy", measure.axis, "number", 3 if measure.is_share else measure.digits),
    )
    caption = f"Raw {measure.bare} over analysed trials."
    return by_experiment(analysis, columns, analysis.accuracy, caption, anchor="table-accuracy")


def tabulate_means(analysis: Analysis) -> Table:
    """Marginal means, both targets side by side."""
    factor, moderator = analysis.study.effects.factor, analysis.moderator
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for result in analysis.main:
        for row in result.means.to_dict("records"):
            at = _at(row, result, moderator)
            cell = rows.setdefault(
                (result.label, at, str(row[factor])),
                {"experiment": result.label, "at": at, factor: str(row[factor])},
            )
            cell[row["target"]] = analysis.measure.value_interval(row)
    columns = (
        *_moderator_column(analysis),
        Column(factor, factor.capitalize()),
        Column("population", "Population", align="right"),
        Column("typical", "Typical", align="right"),
    )
    return by_experiment(
        analysis,
        columns,
        pd.DataFrame(list(rows.values())),
        f"Marginal means: {analysis.measure.axis[:1].lower()}{analysis.measure.axis[1:]} by {factor}.",
        anchor="table-means",
    )


def tabulate_contrasts(analysis: Analysis) -> Table:
    """Contrasts of the main model: differences for both targets, the rest for the population."""
    measure = analysis.measure
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for result in analysis.main:
        for row in result.contrasts.to_dict("records"):
            if row["scale"] == "link":
                continue
            at, name = (
                _at(row, result, analysis.moderator),
                str(row["contrast"]).replace(" / ", " − ").replace(" - ", " − "),
            )
            cell = rows.setdefault((result.label, at, name), {"experiment": result.label, "at": at, "contrast": name})
            if row["scale"] == "odds_ratio":
                cell[f"ratio_{row['target']}"] = estimate(row)
                continue
            cell[row["target"]] = measure.interval(row)
            if row["target"] == "population":
                cell |= {"pd": share(row["pd"]), "rope": percent(row["rope_share"]) if measure.is_share else ""}
    low, high = points(ROPE_PROBABILITY.low), points(ROPE_PROBABILITY.high)
    one = len({row["contrast"] for row in rows.values()}) == 1
    columns = (
        *(() if one else (Column("contrast", "Contrast"),)),
        *_moderator_column(analysis),
        Column("population", "Population", align="right"),
        Column("typical", "Typical", align="right"),
        *((Column("ratio_population", "Odds ratio", align="right"),) if measure.is_share else ()),
        Column("pd", "pd", align="right"),
        *((Column("rope", "In ROPE", align="right"),) if measure.is_share else ()),
    )
    name = f": {next(iter(rows.values()))['contrast']}" if one else ""
    return by_experiment(
        analysis,
        columns,
        pd.DataFrame(list(rows.values())),
        f"Contrasts of {measure.noun}, in {measure.units}{name}.",
        "Odds ratio, pd and ROPE are of the population. pd: probability of direction; in ROPE: share of the "
        f"posterior of the difference between {low} and {high} percentage points (assumed)."
        if measure.is_share
        else "pd, the probability of direction, is of the population.",
        "table-contrasts",
    )


def tabulate_detection(analysis: Analysis) -> Table:
    """d' and criterion."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for result in analysis.main:
        for row in result.detection.to_dict("records"):
            at = _at(row, result, analysis.moderator)
            cell = rows.setdefault((result.label, at), {"experiment": result.label, "at": at})
            cell[str(row["scale"])] = estimate(row)
    columns = (
        *_moderator_column(analysis),
        Column("dprime", "d′", align="right"),
        Column("criterion", "Criterion c", align="right"),
    )
    return by_experiment(
        analysis,
        columns,
        pd.DataFrame(list(rows.values())),
        "Signal detection: d′ and criterion of the typical participant, in SDs of the noise.",
        "d′ = z(hits) − z(false alarms), c = −(z(hits) + z(false alarms))/2, z the normal quantile, for equal variance "
        "with and without the signal. They are read off the model's probit scale, so that people are not pooled.",
        "table-detection",
    )


def tabulate_interaction(analysis: Analysis) -> Table:
    """How each contrast changes between the ends of the moderator."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for result in analysis.main:
        for row in result.interaction.to_dict("records"):
            pair = str(row["contrast"]).rpartition(f") at {analysis.moderator} ")[0][1:]
            pair = pair.replace(" / ", " − ").replace(" - ", " − ")
            cell = rows.setdefault((result.label, pair), {"experiment": result.label, "pair": pair})
            if row["scale"] == "difference":
                cell[row["target"]] = analysis.measure.interval(row)
                if row["target"] == "population":
                    cell["pd"] = share(row["pd"])
            elif row["scale"] == "link":
                cell["link"] = estimate(row)
    at = analysis.study.effects.places
    one = len({row["pair"] for row in rows.values()}) == 1
    columns = (
        *(() if one else (Column("pair", "Contrast"),)),
        Column("population", "Population", align="right"),
        Column("typical", "Typical", align="right"),
        Column("link", "Link scale", align="right"),
        Column("pd", "pd", align="right"),
    )
    return by_experiment(
        analysis,
        columns,
        pd.DataFrame(list(rows.values())),
        f"Interaction: the contrast at {analysis.moderator} {at[-1]:.3g} minus the contrast at {at[0]:.3g}, in "
        f"{analysis.measure.units}.",
        f"pd is of the population's change in {analysis.measure.units}."
        + (
            " The region of practical equivalence was set for a contrast, not for a difference of contrasts, so none "
            "is given here."
            if analysis.measure.is_share
            else ""
        ),
        "table-interaction",
    )


def tabulate_slopes(analysis: Analysis) -> Table:
    """Average slopes along the moderator, by level."""
    factor = analysis.study.effects.factor
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for result in analysis.main:
        for row in result.slopes[result.slopes["scale"] == "difference"].to_dict("records"):
            cell = rows.setdefault(
                (result.label, str(row[factor])), {"experiment": result.label, factor: str(row[factor])}
            )
            cell[row["target"]] = analysis.measure.interval(row)
            if row["target"] == "population":
                cell["pd"] = share(row["pd"])
    columns = (
        Column(factor, factor.capitalize()),
        Column("population", "Population", align="right"),
        Column("typical", "Typical", align="right"),
        Column("pd", "pd", align="right"),
    )
    return by_experiment(
        analysis,
        columns,
        pd.DataFrame(list(rows.values())),
        f"Slopes: average change of {analysis.measure.noun} per unit of {analysis.moderator}, in "
        f"{analysis.measure.units}.",
        anchor="table-slopes",
    )


def tabulate_pattern(analysis: Analysis) -> Table:
    """Two factors crossed: each one's contrast at the levels of the other, and the change."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for result in analysis.main:
        for row in result.pattern.to_dict("records"):
            at = "" if pd.isna(row["at"]) else str(row["at"])
            name = str(row["contrast"]).replace(" - ", " − ")
            cell = rows.setdefault((result.label, name, at), {"experiment": result.label, "contrast": name, "at": at})
            cell[row["target"]] = analysis.measure.interval(row)
            if row["target"] == "population":
                cell["pd"] = share(row["pd"])
    columns = (
        Column("contrast", "Contrast"),
        Column("at", "At"),
        Column("population", "Population", align="right"),
        Column("typical", "Typical", align="right"),
        Column("pd", "pd", align="right"),
    )
    effects = analysis.study.effects
    return by_experiment(
        analysis,
        columns,
        pd.DataFrame(list(rows.values())),
        f"{effects.factor.capitalize()} by {effects.by}: each one's contrast at the levels of the other, and how it "
        f"changes, in {analysis.measure.units}.",
        "A change is the same number read either way; intervals are not adjusted for their number.",
        "table-pattern",
    )


def tabulate_models(analysis: Analysis) -> Table:
    """The headline contrast under each model."""
    rows = []
    for experiment in analysis.experiments:
        for result in analysis.results:
            table = result.headline
            chosen = (table["target"] == "population") & (table["scale"] == "difference")
            for row in table[chosen].to_dict("records") if result.experiment == experiment else []:
                rows.append(
                    {
                        "experiment": result.label,
                        "model": result.model.name,
                        "family": result.fit.spec.family.describe(),
                        "contrast": str(row["contrast"]).replace(" - ", " − "),
                        "value": analysis.measure.interval(row),
                        "pd": share(row["pd"]),
                    }
                )
    columns = (
        Column("model", "Model"),
        Column("family", "Family"),
        Column("contrast", "Contrast"),
        Column("value", "Difference, population", align="right"),
        Column("pd", "pd", align="right"),
    )
    return by_experiment(
        analysis,
        columns,
        pd.DataFrame(rows),
        f"The headline contrast under each model, in {analysis.measure.units}.",
        anchor="table-models",
    )


def tabulate_opinions(analysis: Analysis) -> Table:
    """The contrast of the factor on every other response, at the moderator's mean."""
    rows = []
    for opinion in analysis.opinions:
        means = opinion.means[opinion.means["target"] == "population"]
        for row in opinion.headline.to_dict("records"):
            rows.append(
                {
                    "response": opinion.asked.words,
                    "experiment": opinion.experiment,
                    "family": opinion.model.family.replace("_", " "),
                    "n": opinion.trials,
                    "means": ", ".join(
                        f"{term.removeprefix(row['term'])} {number(value)}"
                        for term, value in zip(means["term"], means["estimate"], strict=True)
                    ),
                    "contrast": str(row["contrast"]).replace(" - ", " − "),
                    "difference": estimate(row),
                    "pd": share(row["pd"]),
                    "read": "yes" if opinion.fit.converged else "no, not converged",
                }
            )
    columns = (
        Column("response", "Response"),
        *((Column("experiment", "Experiment"),) if len(analysis.experiments) > 1 else ()),
        Column("family", "Family"),
        Column("n", "Trials", "integer"),
        Column("means", "Population means"),
        *(() if len({row["contrast"] for row in rows}) == 1 else (Column("contrast", "Contrast"),)),
        Column("difference", "Difference", align="right"),
        Column("pd", "pd", align="right"),
        Column("read", "Converged"),
    )
    names = {row["contrast"] for row in rows}
    named = f": {names.pop()}" if len(names) == 1 else ""
    return Table(
        columns,
        pd.DataFrame(rows),
        f"The contrast on other responses, each on its own scale{named}.",
        "Ratings are on the scale 1 to the number of their levels.",
        "table-opinions",
    )


def tabulate_terms(analysis: Analysis, classes: tuple[str, ...], caption: str, anchor: str) -> Table:
    """Terms of the given classes, experiments side by side."""
    interval = analysis.study.effects.as_interval()
    wide: dict[str, dict[str, str]] = {}
    for result in analysis.main:
        terms = result.fit.terms(interval=interval)
        for row in terms[terms["class"].isin(classes)].to_dict("records"):
            wide.setdefault(str(row["term"]), {})[result.experiment] = estimate(row)
    columns = (
        Column("term", "Term", "code"),
        *(Column(name, "Estimate" if name == ALL else name, align="right") for name in analysis.experiments),
    )
    frame = pd.DataFrame([{"term": term, **cells} for term, cells in wide.items()])
    return Table(columns, frame, caption, f"In brackets: {interval.label}.", anchor)


def tabulate_truth(analysis: Analysis) -> Table | None:
    """Return true values beside estimates, for a simulated study whose file says what is true."""
    study = analysis.study
    if not study.study.simulated or study.simulate is None or not study.simulate.truth:
        return None
    truth, measure = study.plan().truth, analysis.measure
    rows: dict[str, dict[str, str]] = {}

    def add(term: str, result: Result, true: str, row: Row, missed: bool, shown: str) -> None:
        cell = rows.setdefault(term, {"term": term})
        cell |= {f"true {result.experiment}": true, result.experiment: shown + (" *" if missed else "")}

    for result in analysis.main:
        for name, true, row in _true_effects(result):
            missed = not row["conf_low"] <= true <= row["conf_high"]
            add(name, result, measure.difference(true), row, missed, measure.interval(row))
        for name, true, row in _true_detection(result, analysis.moderator):
            add(name, result, number(true), row, not row["conf_low"] <= true <= row["conf_high"], estimate(row))
    for result in analysis.main if rows else ():  # coefficients of another model mean something else
        terms = result.fit.terms(interval=study.effects.as_interval()).set_index("term")
        known = truth.get(result.experiment, {})
        for term in terms.index.intersection(list(known), sort=False):
            row = terms.loc[term].to_dict()
            missed = not row["conf_low"] <= known[term] <= row["conf_high"]
            add(term, result, number(known[term]), row, missed, estimate(row))
    if not rows:
        return None
    return Table(
        (
            Column("term", "Quantity", "code"),
            *(
                column
                for result in analysis.main
                for column in (
                    Column(f"true {result.experiment}", "True", align="right"),
                    Column(result.experiment, result.label, align="right"),
                )
            ),
        ),
        pd.DataFrame(list(rows.values())),
        f"What was true in the simulation (seed {study.simulate.seed}), and what was estimated.",
        f"The first rows are population differences in {measure.units}, the others "
        f"{'d′ and criterion of the typical participant, ' if study.effects.detection else ''}coefficients, SDs and "
        f"correlations. A star marks a true value outside its {study.effects.as_interval().label}. "
        f"{study.simulate.careless} participants in each experiment were simulated as careless. The table holds only "
        "if these trials are the ones simulated from this study file.",
        "table-truth",
    )


def _true_effects(result: Result) -> Iterator[tuple[str, float, Row]]:
    """Yield the name, the true value and the estimate's row of the population contrasts and their changes."""
    if result.truth.empty:
        return
    chosen = ["target", "scale", "contrast"]
    estimates = pd.concat([result.headline, result.interaction], ignore_index=True).set_index(chosen)
    for row in result.truth.to_dict("records"):
        if (row["target"], row["scale"]) == ("population", "difference"):
            name = str(row["contrast"]).replace(" - ", " − ")
            yield name, row["estimate"], estimates.loc[tuple(row[key] for key in chosen)].to_dict()


def _true_detection(result: Result, moderator: str | None) -> Iterator[tuple[str, float, Row]]:
    """Yield the name, the true value and the estimate's row of every d' and criterion."""
    if result.truth.empty:
        return
    known = result.truth.loc[result.truth["scale"].isin(["dprime", "criterion"]), "estimate"]
    for true, row in zip(known, result.detection.to_dict("records"), strict=True):
        at = f" at {moderator} {_at(row, result, moderator)}".replace(f"{moderator} mean", f"mean {moderator}")
        yield ("d′" if row["scale"] == "dprime" else "criterion c") + (at if moderator else ""), float(true), row


def tabulate_convergence(analysis: Analysis) -> Table:
    """Whether each fit may be read, by its worst figures."""
    fits = [(result.experiment, result.model.name, result.fit) for result in analysis.results]
    if analysis.joint:
        fits += [("all", "joint", analysis.joint.fit), ("all", "joint, without", analysis.joint.without)]
    return tabulate_fits(fits, "Model", several=len(analysis.experiments) > 1)


def tabulate_fits(fits: Sequence[tuple[str, str, Fit]], name: str, *, several: bool) -> Table:
    """Whether each of some fits may be read: by experiment, and what else tells them apart, which `name` names."""
    rows = []
    for experiment, model, made in fits:
        checks = pd.DataFrame([check.row() for check in made.checks])
        of_level = checks["term"].fillna("").str.startswith("r_")
        values = {name: checks.loc[(checks["name"] == name) & ~of_level, "value"] for name in checks["name"].unique()}
        levels = checks.loc[of_level, "value"]
        none = pd.Series(dtype=float)  # a maximum of the likelihood has no chains
        rows.append(
            {
                "experiment": experiment,
                "model": model,
                "rhat": values.get("rhat", none).max(skipna=False),
                "levels": levels.max(skipna=False) if len(levels) else None,
                "bulk": values.get("ess_bulk", none).min(skipna=False),
                "tail": values.get("ess_tail", none).min(skipna=False),
                "divergences": values.get("divergences", none).max(),
                "depth": values.get("treedepth_hits", none).max(),
                "verdict": "converged" if made.converged else "NOT converged",
            }
        )
    columns = (
        *((Column("experiment", "Experiment"),) if several else ()),
        Column("model", name),
        Column("rhat", "Worst R-hat", "number", 3),
        Column("levels", "R-hat, levels", "number", 3),
        Column("bulk", "Bulk ESS", "integer"),
        Column("tail", "Tail ESS", "integer"),
        Column("divergences", "Divergences", "integer"),
        Column("depth", "Tree limit", "integer"),
        Column("verdict", "Verdict"),
    )
    return Table(
        columns,
        pd.DataFrame(rows),
        "Convergence of every fit: the worst R-hat and the least effective sample size (ESS) of its terms, the worst "
        "R-hat of single levels, divergent transitions, and transitions that reached the limit of the tree.",
        f"Limits: R-hat at most {RHAT_MAX:g} (of single levels {RHAT_MAX_LEVELS:g}), ESS at least {ESS_MIN:.0f}, "
        f"divergences at most {percent(DIVERGENT_SHARE_MAX)} of the draws.",
        "table-convergence",
    )


def tabulate_predictive(analysis: Analysis) -> Table:
    """How many groups lie inside their posterior predictive interval."""
    rows = pd.concat([result.predictive.assign(experiment=result.label) for result in analysis.main])
    rows["share"] = rows["inside"] / rows["groups"]
    rows["verdict"] = rows["misfit"].map({True: "does NOT fit", False: "no misfit seen"})
    columns = (
        Column("what", "Groups by"),
        Column("groups", "Groups", "integer"),
        Column("inside", "Inside", "integer"),
        Column("share", "Share", "percent", 0),
        Column("allowed", "May lie outside", "integer"),
        Column("verdict", "Verdict"),
    )
    return by_experiment(
        analysis,
        columns,
        rows,
        f"Groups whose observed {analysis.measure.bare} lies in the posterior predictive interval.",
        f"More outside than may be would happen to a true model in {percent(MISFIT_CHANCE)} of studies at most.",
        "table-predictive",
    )


def by_experiment(
    analysis: Analysis,
    columns: tuple[Column, ...],
    frame: pd.DataFrame,
    caption: str,
    note: str = "",
    anchor: str = "",
) -> Table:
    """Make a table whose first column names the experiment, where there are several."""
    first = (Column("experiment", "Experiment"),) if len(analysis.experiments) > 1 else ()
    return Table(first + columns, frame, caption, note, anchor)


def _moderator_column(analysis: Analysis) -> tuple[Column, ...]:
    return (Column("at", analysis.moderator.capitalize()),) if analysis.moderator else ()


def _at(row: dict[Any, Any], result: Result, moderator: str | None) -> str:
    """Return at which value of the moderator a row of a result holds, as text."""
    if moderator is None:
        return ""
    value = row.get(moderator)
    if value is None or pd.isna(value):
        return f"mean ({number(result.fit.coding.ranges[moderator][1])})"
    return f"{float(value):.3g}".replace("-", "−")
