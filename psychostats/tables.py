"""The tables of the report: an `Analysis` into blocks whose cells are already as they print.

In: frames of numbers.  Out: `Table` blocks.  Rounds and arranges; computes no statistic.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from psychostats.analysis import ALL, Analysis, Result
from psychostats.convergence import DIVERGENT_SHARE_MAX, ESS_MIN, RHAT_MAX, RHAT_MAX_LEVELS
from psychostats.document import Column, Table
from psychostats.effects import ROPE_PROBABILITY
from psychostats.sentences import estimate, number, percent, points, points_interval, share

_PLURALS = {
    "participant": "Participants",
    "pair": "Pairs",
    "feature": "Features",
    "stimulus": "Stimuli",
    "layer": "Layers",
}


def tabulate_exclusions(analysis: Analysis) -> list[Table]:
    """Participants left after each step, and trials left, experiments side by side."""
    flow = analysis.excluded.flow.assign(experiment=lambda table: table["experiment"].astype(str))
    names = list(dict.fromkeys(flow["experiment"]))
    tables = []
    for key in ("participants", "trials"):
        wide = pd.DataFrame({"step": flow.loc[flow["experiment"] == names[0], "step"].to_numpy()})
        for name in names:
            rows = flow[flow["experiment"] == name]
            wide[name] = [
                f"{left:,}" + (f" (−{gone:,})" if gone else "")
                for gone, left in zip(rows[f"{key}_removed"], rows[f"{key}_left"], strict=True)
            ]
        headers = [Column(name, key.capitalize() if len(names) == 1 else name, align="right") for name in names]
        caption = f"{key.capitalize()} left after each step; in brackets, how many the step removed."
        tables.append(Table((Column("step", "Step"), *headers), wide, caption, anchor=f"table-{key}"))
    return tables


def tabulate_catch(analysis: Analysis) -> Table:
    """Accuracy on catch trials."""
    columns = (Column("n", "Catch trials", "integer"), Column("accuracy", "Accuracy", "number", 3))
    return Table(
        experiment_column(analysis) + columns,
        analysis.catch_accuracy,
        "Catch trials, before any exclusion.",
        anchor="table-catch",
    )


def tabulate_design(analysis: Analysis) -> Table:
    """What was analysed: trials and how many of everything."""
    kept = analysis.excluded.kept
    counted = [name for name in _PLURALS if name in kept.columns]
    rows = []
    for name, part in kept.groupby("experiment", observed=True) if "experiment" in kept.columns else [(ALL, kept)]:
        row: dict[str, Any] = {"experiment": str(name), "trials": len(part)}
        row |= {column: int(part[column].nunique()) for column in counted}
        each = part.groupby(analysis.study.report.group, observed=True).size()
        rows.append(row | {"median": float(each.median())})
    columns = (
        Column("trials", "Trials", "integer"),
        *(Column(name, _PLURALS[name], "integer") for name in counted),
        Column("median", f"Trials a {analysis.study.report.group} (median)", "integer"),
    )
    return Table(experiment_column(analysis) + columns, pd.DataFrame(rows), "What was analysed.", anchor="table-design")


def tabulate_accuracy(analysis: Analysis) -> Table:
    """Raw accuracy over trials."""
    factor = analysis.study.effects.factor
    columns = (
        Column(factor, factor.capitalize()),
        Column("n", "Trials", "integer"),
        Column("correct", "Correct", "integer"),
        Column("accuracy", "Accuracy", "number", 3),
    )
    return Table(
        experiment_column(analysis) + columns,
        analysis.accuracy,
        "Raw accuracy over analysed trials.",
        anchor="table-accuracy",
    )


def tabulate_covariance(result: Result) -> Table:
    """Group effects, as they were fitted."""
    rows = [{**row, "terms": ", ".join(row["terms"])} for row in result.fit.covariance()]
    columns = (Column("group", "Group"), Column("terms", "Terms"), Column("structure", "Covariance as fitted"))
    frame = pd.DataFrame(rows, columns=["group", "terms", "structure"])
    return Table(columns, frame, "Group effects as they were fitted.", anchor="table-covariance")


def tabulate_priors(result: Result) -> Table:
    """Priors in use."""
    return Table(
        (Column("name", "Parameter", "code"), Column("prior", "Prior"), Column("source", "Source")),
        pd.DataFrame([{**prior.row(), "name": prior.name} for prior in result.fit.priors]),
        "Priors in use, on the link scale.",
        "Defaults: intercept normal(0, 1.5) where all predictors are 0; each other coefficient normal(0, 1) over its "
        "predictor's range; SDs exponential(2); correlations lkj(2).",
        "table-priors",
    )


def tabulate_means(analysis: Analysis) -> Table:
    """Marginal means, both targets side by side."""
    factor, moderator = analysis.study.effects.factor, analysis.moderator
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for result in analysis.main:
        for row in result.means.to_dict("records"):
            at = _at(row, moderator)
            cell = rows.setdefault(
                (result.experiment, at, str(row[factor])),
                {"experiment": result.experiment, "at": at, factor: str(row[factor])},
            )
            cell[row["target"]] = (
                f"{percent(row['estimate'])} [{percent(row['conf_low'])}, {percent(row['conf_high'])}]"
            )
    columns = (
        *_moderator_column(analysis),
        Column(factor, factor.capitalize()),
        Column("population", "Population", align="right"),
        Column("typical", "Typical", align="right"),
    )
    return Table(
        experiment_column(analysis) + columns,
        pd.DataFrame(list(rows.values())),
        f"Marginal means: accuracy by {factor}.",
        anchor="table-means",
    )


def tabulate_contrasts(analysis: Analysis) -> Table:
    """Contrasts of the main model: differences for both targets, the rest for the population."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for result in analysis.main:
        for row in result.contrasts.to_dict("records"):
            if row["scale"] == "link":
                continue
            at, name = _at(row, analysis.moderator), str(row["contrast"]).replace(" / ", " − ").replace(" - ", " − ")
            cell = rows.setdefault(
                (result.experiment, at, name), {"experiment": result.experiment, "at": at, "contrast": name}
            )
            if row["scale"] == "odds_ratio":
                cell[f"ratio_{row['target']}"] = estimate(row)
                continue
            cell[row["target"]] = points_interval(row)
            if row["target"] == "population":
                cell |= {"pd": share(row["pd"]), "rope": percent(row["rope_share"])}
    low, high = points(ROPE_PROBABILITY.low), points(ROPE_PROBABILITY.high)
    one = len({row["contrast"] for row in rows.values()}) == 1
    columns = (
        *(() if one else (Column("contrast", "Contrast"),)),
        *_moderator_column(analysis),
        Column("population", "Population", align="right"),
        Column("typical", "Typical", align="right"),
        Column("ratio_population", "Odds ratio", align="right"),
        Column("pd", "pd", align="right"),
        Column("rope", "In ROPE", align="right"),
    )
    name = f": {next(iter(rows.values()))['contrast']}" if one else ""
    return Table(
        experiment_column(analysis) + columns,
        pd.DataFrame(list(rows.values())),
        f"Contrasts of accuracy, in percentage points{name}.",
        "Odds ratio, pd and ROPE are of the population. pd: probability of direction; in ROPE: share of the "
        "posterior of the "
        f"difference between {low} and {high} percentage points (assumed).",
        "table-contrasts",
    )


def tabulate_interaction(analysis: Analysis) -> Table:
    """How each contrast changes between the ends of the moderator."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for result in analysis.main:
        for row in result.interaction.to_dict("records"):
            pair = str(row["contrast"]).partition(")")[0].strip("(").replace(" / ", " − ").replace(" - ", " − ")
            cell = rows.setdefault((result.experiment, pair), {"experiment": result.experiment, "pair": pair})
            if row["scale"] == "difference":
                cell[row["target"]] = points_interval(row)
                if row["target"] == "population":
                    cell |= {"pd": share(row["pd"]), "rope": percent(row["rope_share"])}
            elif row["scale"] == "link":
                cell["link"] = estimate(row)
    at = analysis.study.effects.at
    one = len({row["pair"] for row in rows.values()}) == 1
    columns = (
        *(() if one else (Column("pair", "Contrast"),)),
        Column("population", "Population", align="right"),
        Column("typical", "Typical", align="right"),
        Column("link", "Link scale", align="right"),
        Column("pd", "pd", align="right"),
        Column("rope", "In ROPE", align="right"),
    )
    return Table(
        experiment_column(analysis) + columns,
        pd.DataFrame(list(rows.values())),
        f"Interaction: the contrast at {analysis.moderator} {at[-1]:g} minus the contrast at {at[0]:g}, in percentage "
        "points.",
        "pd and ROPE are of the population's change in percentage points; the limits of the ROPE were set for a "
        "contrast, not "
        "for a difference of contrasts.",
        "table-interaction",
    )


def tabulate_slopes(analysis: Analysis) -> Table:
    """Average slopes along the moderator, by level."""
    factor = analysis.study.effects.factor
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for result in analysis.main:
        for row in result.slopes[result.slopes["scale"] == "difference"].to_dict("records"):
            cell = rows.setdefault(
                (result.experiment, str(row[factor])), {"experiment": result.experiment, factor: str(row[factor])}
            )
            cell[row["target"]] = points_interval(row)
            if row["target"] == "population":
                cell["pd"] = share(row["pd"])
    columns = (
        Column(factor, factor.capitalize()),
        Column("population", "Population", align="right"),
        Column("typical", "Typical", align="right"),
        Column("pd", "pd", align="right"),
    )
    return Table(
        experiment_column(analysis) + columns,
        pd.DataFrame(list(rows.values())),
        f"Slopes: average change of accuracy per unit of {analysis.moderator}, in percentage points.",
        anchor="table-slopes",
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
                        "experiment": experiment,
                        "model": result.model.name,
                        "family": result.fit.spec.family.describe(),
                        "contrast": str(row["contrast"]).replace(" - ", " − "),
                        "value": points_interval(row),
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
    return Table(
        experiment_column(analysis) + columns,
        pd.DataFrame(rows),
        "The headline contrast under each model, in percentage points.",
        anchor="table-models",
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
    if not study.study.simulated or study.simulate is None:
        return None
    truth = study.plan().truth
    rows: dict[str, dict[str, str]] = {}
    for result in analysis.main:
        terms = result.fit.terms(interval=study.effects.as_interval()).set_index("term")
        for term, value in truth.get(result.experiment, {}).items():
            if term in terms.index:
                row = terms.loc[term].to_dict()
                missed = "" if row["conf_low"] <= value <= row["conf_high"] else " *"
                rows.setdefault(term, {"term": term})[result.experiment] = f"{number(value)}: {estimate(row)}{missed}"
    if not rows:
        return None
    return Table(
        (
            Column("term", "Term", "code"),
            *(Column(name, f"{name}: truth, estimate", align="right") for name in analysis.experiments),
        ),
        pd.DataFrame(list(rows.values())),
        f"What was true in the simulation (seed {study.simulate.seed}), and what was estimated.",
        f"A star marks a true value outside its interval. {study.simulate.careless} participants in each experiment "
        "were "
        "simulated as careless. The table holds only if these trials are the ones simulated from this study file.",
        "table-truth",
    )


def tabulate_convergence(analysis: Analysis) -> Table:
    """Whether each fit may be read, by its worst figures."""
    rows = []
    for result in analysis.results:
        checks = pd.DataFrame([check.row() for check in result.fit.checks])
        of_level = checks["term"].fillna("").str.startswith("r_")
        values = {name: checks.loc[(checks["name"] == name) & ~of_level, "value"] for name in checks["name"].unique()}
        levels = checks.loc[of_level, "value"]
        rows.append(
            {
                "experiment": result.experiment,
                "model": result.model.name,
                "rhat": values["rhat"].max(),
                "levels": levels.max() if len(levels) else None,
                "bulk": values["ess_bulk"].min(),
                "tail": values["ess_tail"].min(),
                "divergences": values["divergences"].max(),
                "depth": values["treedepth_hits"].max(),
                "verdict": "converged" if result.fit.converged else "NOT converged",
            }
        )
    columns = (
        Column("model", "Model"),
        Column("rhat", "Worst R-hat", "number", 3),
        Column("levels", "R-hat, levels", "number", 3),
        Column("bulk", "Bulk ESS", "integer"),
        Column("tail", "Tail ESS", "integer"),
        Column("divergences", "Divergences", "integer"),
        Column("depth", "Tree limit", "integer"),
        Column("verdict", "Verdict"),
    )
    return Table(
        experiment_column(analysis) + columns,
        pd.DataFrame(rows),
        "Convergence of every fit: the worst R-hat and the least effective sample size (ESS) of its terms, the worst "
        "R-hat "
        "of single levels, divergent transitions, and transitions that reached the limit of the tree.",
        f"Limits: R-hat at most {RHAT_MAX:g} (of single levels {RHAT_MAX_LEVELS:g}), ESS at least {ESS_MIN:.0f}, "
        f"divergences at most {DIVERGENT_SHARE_MAX:.1%} of the draws.",
        "table-convergence",
    )


def tabulate_predictive(analysis: Analysis) -> Table:
    """How many groups lie inside their posterior predictive interval."""
    study, rows = analysis.study, []
    for result in analysis.main:
        split = [name for name in result.cells.columns if name in (study.effects.factor, "layer", analysis.moderator)]
        for what, table in ((" and ".join(split), result.cells), (study.report.group, result.participants)):
            rows.append(
                {
                    "experiment": result.experiment,
                    "what": what,
                    "groups": len(table),
                    "inside": int(table["inside"].sum()),
                    "share": float(table["inside"].mean()),
                }
            )
    columns = (
        Column("what", "Groups by"),
        Column("groups", "Groups", "integer"),
        Column("inside", "Inside", "integer"),
        Column("share", "Share", "percent", 0),
    )
    return Table(
        experiment_column(analysis) + columns,
        pd.DataFrame(rows),
        "Groups whose observed accuracy lies in the posterior predictive interval.",
        anchor="table-predictive",
    )


def tabulate_provenance(analysis: Analysis) -> Table:
    """What went in, with hashes and versions."""
    study, made = analysis.study, analysis.main[0].fit
    settings = {
        f"{s.chains} chains of {s.draws:,} draws after {s.tune:,}, seed {s.seed}, target acceptance {s.target_accept:g}"
        for s in (result.fit.settings for result in analysis.results)
    }
    facts = [
        ("Trials", f"{analysis.source['file']}, SHA-256 {analysis.source['file_sha256']}"),
        ("Study file", f"{study.path.name}, SHA-256 {study.sha256}"),
        *(
            (
                "Analysed data" if result.experiment == ALL else f"Data of {result.experiment}",
                f"SHA-256 {result.fit.provenance['data']['sha256']}",
            )
            for result in analysis.main
        ),
        ("Engine", f"{made.provenance['engine']} ({made.provenance['engine_reason']})"),
        ("Sampler", "; ".join(sorted(settings))),
        ("Versions", ", ".join(f"{name} {version}" for name, version in made.provenance["versions"].items())),
    ]
    frame = pd.DataFrame(facts, columns=["what", "value"])
    return Table((Column("what", "What"), Column("value", "Value")), frame, "What went in.", anchor="table-provenance")


def tabulate_sources(analysis: Analysis) -> Table:
    """Where the settings of the study file come from."""
    study = analysis.study
    rows = [{"key": key, "source": study.source_of(key)[0], "note": study.source_of(key)[1]} for key in study.sources]
    return Table(
        (Column("key", "Setting", "code"), Column("source", "Source"), Column("note", "Note")),
        pd.DataFrame(rows),
        "Where the settings of the study file come from.",
        "paper: stated there. predecessor: an earlier study of the same line. assumed: ours. A setting that is not "
        "listed is assumed.",
        "table-sources",
    )


def tabulate_seconds(analysis: Analysis) -> Table:
    """Time of each stage."""
    rows = [{"stage": stage, "seconds": value} for stage, value in analysis.seconds.items() if value >= 0.05]
    return Table(
        (Column("stage", "Stage"), Column("seconds", "Seconds", "number", 1)),
        pd.DataFrame(rows, columns=["stage", "seconds"]),
        "Time of each stage of this run.",
        "A fit that was answered from disk takes no sampling. Writing the two documents is not in the table.",
        "table-seconds",
    )


def experiment_column(analysis: Analysis) -> tuple[Column, ...]:
    """Return the column that names the experiment, where there are several."""
    return (Column("experiment", "Experiment"),) if len(analysis.experiments) > 1 else ()


def _moderator_column(analysis: Analysis) -> tuple[Column, ...]:
    return (Column("at", analysis.moderator.capitalize()),) if analysis.moderator else ()


def _at(row: dict[Any, Any], moderator: str | None) -> str:
    """Return at which value of the moderator a row holds, as text."""
    if moderator is None:
        return ""
    value = row.get(moderator)
    return "mean" if value is None or pd.isna(value) else f"{value:g}"
