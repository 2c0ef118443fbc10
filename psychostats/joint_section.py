"""The section on all experiments together: one contrast, where it differs, and whether its change is worth a term.

In: an `Analysis` whose study asks for it.  Out: sentences, tables and figures' rows.  Rounds and arranges; computes no
statistic.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from psychostats.analysis import Analysis
from psychostats.document import (
    Block,
    Code,
    Column,
    Figure,
    Heading,
    Inline,
    Paragraph,
    Table,
    Words,
    prose,
)
from psychostats.effects import ROPE_PROBABILITY
from psychostats.intervals import Rope
from psychostats.joint import EACH, Joint
from psychostats.measure import number, percent, points, points_interval
from psychostats.plots import plot_contrasts
from psychostats.sentences import estimate, say_aic_limits, say_difference, say_interaction, say_predicted_change, share

TOGETHER = "all experiments together"


def describe_joint(analysis: Analysis, figures: Mapping[str, Path]) -> list[Block]:
    """Return the section's blocks; none where experiments were fitted apart only."""
    joint = analysis.joint
    if joint is None:
        return []
    factor, moderator = analysis.study.effects.factor, str(analysis.study.effects.moderator)
    blocks: list[Block] = [
        Heading("All experiments together", 1, "joint"),
        Paragraph(
            prose(
                "One model of all {0} trials, {1}: a pair is the same pair in every experiment, so its effects are "
                "shared, and experiments can be compared with one another. Averages over experiments give each the "
                "same weight.",
                joint.trials,
                Code(joint.fit.spec.formula.text),
            )
        ),
        *map(Paragraph, say_joint(analysis)),
        Figure(
            figures["joint"],
            f"The contrast of {factor} in each experiment and over all, by the joint model.",
            f"Forest plot of the differences between the levels of {factor} in percentage points: "
            + "; ".join(_spoken(joint))
            + ".",
            "figure-joint",
        ),
        _tabulate_contrasts(analysis, joint),
        _tabulate_between(joint),
        *((_tabulate_models(joint, moderator),) if len(joint.maxima) else ()),
    ]
    if len(joint.dprime):
        blocks.append(_tabulate_dprime(analysis, joint))
    if len(joint.truth):
        blocks.append(_tabulate_truth(joint, moderator))
    return blocks


def say_joint(analysis: Analysis) -> list[Words]:
    """Return the sentences on the contrast, its change, and the models: what the summary repeats."""
    joint, study = analysis.joint, analysis.study.effects
    assert joint is not None
    if not joint.fit.converged:
        return [f"The model of {TOGETHER} did not converge: nothing is concluded from it."]
    levels = joint.fit.coding.levels[study.factor]
    moderator, sentences = str(study.moderator), list[Words]()
    if len(levels) != 2:
        return ["With more than two levels, the tables below say how they differ."]
    first, second = levels
    noun = "features" if {first, second} <= {"local", "distributed", "neuron", "dictionary"} else ""
    rows = _population(joint.headline)
    means = _population(joint.means)
    means = means[means[EACH].isna() & means[moderator].isna()].set_index("term")
    both = (means.loc[f"{study.factor}{first}"].to_dict(), means.loc[f"{study.factor}{second}"].to_dict())
    difference, ratio = (rows[rows["scale"] == scale].iloc[0].to_dict() for scale in ("difference", "odds_ratio"))
    sentences.append(say_difference(TOGETHER, (first, second), both, difference, ratio, noun))
    ends = (study.places[0], study.places[-1])
    at = _population(joint.contrasts)
    at = at[(at[".at"] == "value") & at[EACH].isna() & (at["scale"] == "difference")]
    low, high = (at[at[moderator] == end].iloc[0].to_dict() for end in ends)
    moved = _population(joint.interaction)
    change = moved[moved["scale"] == "difference"].iloc[0].to_dict()
    sentences.append(say_interaction(TOGETHER, (first, second), moderator, ends, (low, high), change))
    sentences.append(_say_models(joint, f"the change of {second} − {first} with {moderator}"))
    return sentences


def _spoken(joint: Joint) -> list[str]:
    """Return what the forest shows, in words."""
    rows = _population(joint.contrasts)
    rows = rows[(rows["scale"] == "difference") & (rows[".at"] == "mean")]
    return [
        f"{TOGETHER if pd.isna(row[EACH]) else row[EACH]} {points_interval(row)}" for row in rows.to_dict("records")
    ]


def _say_models(joint: Joint, what: str) -> tuple[Inline, ...]:
    maxima = {row["model"]: row for row in joint.maxima.to_dict("records")}
    if not maxima:
        return prose("Is {0} worth its terms? The likelihood has no maximum, so AIC does not say.", what)
    predicted = {row["model"]: row for row in joint.predicted.to_dict("records")}
    one, other = "joint", "joint_without"
    return say_predicted_change(
        what,
        maxima[other]["AIC"] - maxima[one]["AIC"],
        predicted[one]["elpd"] - predicted[other]["elpd"],
        max(row["se_diff"] for row in predicted.values()),
        maxima[one]["p_value"],
    )


def rows_of_forest(analysis: Analysis) -> pd.DataFrame:
    """Return what the figure of this section draws: differences in percentage points, all experiments last."""
    joint = analysis.joint
    assert joint is not None
    table = joint.contrasts[(joint.contrasts["scale"] == "difference") & (joint.contrasts[".at"] == "mean")]
    table = table.assign(**{name: 100 * table[name] for name in ("estimate", "conf_low", "conf_high")})
    names = table[EACH].astype(object).where(table[EACH].notna(), TOGETHER)
    several = table["contrast"].nunique() > 1
    label = table["contrast"].str.replace(" - ", " − ") + ", " + names if several else names
    first = table[table[EACH].notna()].assign(label=label)
    return pd.concat([first, table[table[EACH].isna()].assign(label=label)]).assign(experiment="joint model")


def draw_joint(analysis: Analysis, x_label: str) -> Any:
    """Draw the forest of this section."""
    return plot_contrasts(
        rows_of_forest(analysis),
        rope=Rope(100 * ROPE_PROBABILITY.low, 100 * ROPE_PROBABILITY.high),
        x_label=x_label,
        interval_label=analysis.study.effects.as_interval().label,
    )


def _population(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["target"] == "population"]


def _tabulate_contrasts(analysis: Analysis, joint: Joint) -> Table:
    """The contrast over all experiments and in each, at the moderator's mean and values."""
    moderator = str(analysis.study.effects.moderator)
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in joint.contrasts.to_dict("records"):
        if row["scale"] == "link":
            continue
        where = TOGETHER if pd.isna(row[EACH]) else str(row[EACH])
        at = "mean" if row[".at"] == "mean" else f"{float(row[moderator]):.3g}"
        name = str(row["contrast"]).replace(" / ", " − ").replace(" - ", " − ")
        cell = rows.setdefault((where, at, name), {"experiment": where, "at": at, "contrast": name})
        if row["scale"] == "odds_ratio":
            cell[f"ratio_{row['target']}"] = estimate(row)
            continue
        cell[row["target"]] = points_interval(row)
        if row["target"] == "population":
            cell |= {"pd": share(row["pd"]), "rope": percent(row["rope_share"])}
    one = len({key[2] for key in rows}) == 1
    return Table(
        (
            Column("experiment", "Experiment"),
            *(() if one else (Column("contrast", "Contrast"),)),
            Column("at", moderator.capitalize()),
            Column("population", "Population", align="right"),
            Column("typical", "Typical", align="right"),
            Column("ratio_population", "Odds ratio", align="right"),
            Column("pd", "pd", align="right"),
            Column("rope", "In ROPE", align="right"),
        ),
        pd.DataFrame(list(rows.values())),
        "Contrasts of the joint model, in percentage points" + (f": {next(iter(rows))[2]}." if one else "."),
        "As in the table of each experiment's own model. Every interval is for its own comparison; none is adjusted "
        "for their number.",
        "table-joint",
    )


def _tabulate_between(joint: Joint) -> Table:
    """How the contrast differs between experiments."""
    rows = _population(joint.between)
    rows = rows[rows["scale"] == "difference"]
    shown = pd.DataFrame(
        {
            "what": rows["contrast"].str.replace(" - ", " − ", regex=False),
            "change": [points_interval(row) for row in rows.to_dict("records")],
            "pd": rows["pd"].map(share),
        }
    )
    return Table(
        (
            Column("what", "Contrast"),
            Column("change", "Change, population", align="right"),
            Column("pd", "pd", align="right"),
        ),
        shown,
        "How the contrast differs between experiments, every two compared, in percentage points.",
        anchor="table-between",
    )


def _tabulate_models(joint: Joint, moderator: str) -> Table:
    """The two models, by maximum likelihood and by prediction."""
    predicted = {row["model"]: row for row in joint.predicted.to_dict("records")}
    rows = []
    for row in joint.maxima.to_dict("records"):
        one = predicted[row["model"]]
        tested = pd.notna(row["chisq"])
        rows.append(
            {
                "model": f"with the change with {moderator}" if row["model"] == "joint" else "without it",
                "df": row["df"],
                "aic": row["AIC"],
                "delta": row["delta_AIC"],
                "test": f"{number(row['chisq'], 1)}, {row['chisq_df']:.0f} df" if tested else None,
                "p": row["p_value"] if tested else None,
                "elpd": one["elpd"],
                "elpd_diff": f"{number(one['elpd_diff'], 1)} ({number(one['se_diff'], 1)})",
            }
        )
    return Table(
        (
            Column("model", "Joint model"),
            Column("df", "Parameters", "integer"),
            Column("aic", "AIC", "number", 1),
            Column("delta", "ΔAIC", "number", 1),
            Column("test", "χ²", align="right"),
            Column("p", "p", "p", 3),
            Column("elpd", "elpd", "number", 1),
            Column("elpd_diff", "Difference (SE)", align="right"),
        ),
        pd.DataFrame(rows),
        f"Is the change of the contrast with {moderator} worth its terms?",
        "AIC and the likelihood-ratio test of the larger model against the smaller are of maximum likelihood "
        "(Laplace's approximation); elpd is the expected log predictive density of another trial, by PSIS-LOO, of the "
        f"posterior. The test is of the change and of its differences between experiments at once. {say_aic_limits()} "
        + " ".join(str(note) for note in joint.predicted.attrs.get("notes", [])[-1:]),
        "table-interaction-models",
    )


def _tabulate_dprime(analysis: Analysis, joint: Joint) -> Table:
    """d' of each level and the difference, over all experiments and in each."""
    factor = analysis.study.effects.factor
    rows: dict[str, dict[str, Any]] = {}
    for row in _population(joint.dprime).to_dict("records"):
        where = TOGETHER if pd.isna(row[EACH]) else str(row[EACH])
        cell = rows.setdefault(where, {"experiment": where})
        name = str(row["term"])[len(factor) :] if row["scale"] == "dprime" else str(row["contrast"])
        cell[name] = estimate(row)
    names = list(dict.fromkeys(name for cell in rows.values() for name in cell if name != "experiment"))
    return Table(
        (
            Column("experiment", "Experiment"),
            *(Column(name, name.replace(" - ", " − "), align="right") for name in names),
        ),
        pd.DataFrame(list(rows.values())),
        "d' of the population: how far apart the two alternatives are, in units of the noise.",
        f"d' = √2 z(p) for two alternatives without a bias to a side, p the population's accuracy. In brackets: "
        f"{analysis.study.effects.as_interval().label}.",
        "table-dprime",
    )


def _tabulate_truth(joint: Joint, moderator: str) -> Table:
    """The true differences of the trials shown beside the estimates."""
    rows = []
    for row in joint.truth.to_dict("records"):
        missed = not row["conf_low"] <= row["true"] <= row["conf_high"]
        rows.append(
            {
                "at": "over all" if pd.isna(row["depth"]) else number(row["depth"]),
                "true": points(row["true"]),
                "estimate": points_interval(row) + (" *" if missed else ""),
            }
        )
    return Table(
        (
            Column("at", moderator.capitalize()),
            Column("true", "True", align="right"),
            Column("estimate", "Estimated, population", align="right"),
        ),
        pd.DataFrame(rows),
        "What was true of these simulated people, and what was estimated: differences in percentage points.",
        "True: the accuracies of the true model, averaged over new people and pairs, at the very trials shown; over "
        "all, experiments and depths count alike, in the truth and in the estimate. It follows what was measured of "
        f"each stimulus, so it need not run straight along {moderator}, as the model does. A star marks a true value "
        "outside the interval.",
        "table-joint-truth",
    )
