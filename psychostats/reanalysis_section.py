"""The sections of a reanalysis: a `Reanalysis` and its figures into the blocks of one neutral document.

In: tables and figures.  Out: headings, prose, tables and figures in their order.  Rounds and arranges; computes no
statistic; knows neither HTML nor PDF.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from psychostats.bibliography import cite, to_blocks
from psychostats.conclusions import conclude, say_conclusions
from psychostats.document import (
    Block,
    BulletList,
    Callout,
    Code,
    CodeBlock,
    Column,
    Document,
    Figure,
    Heading,
    Link,
    Paragraph,
    Strong,
    Table,
    Words,
    prose,
)
from psychostats.fit import Fit
from psychostats.measure import percent, points_interval
from psychostats.pooled import POOLED, STUDY, interval_of
from psychostats.predictor import describe_target
from psychostats.reanalysis import Reanalysis
from psychostats.reanalysis_data import describe_data
from psychostats.results import ALL
from psychostats.sentences import estimate, share
from psychostats.tables import tabulate_fits
from psychostats.works import Entry

Figures = Mapping[str, Path]
_SAID = {"higher": "higher", "lower": "lower", "equal": "practically equal", "open": "open", None: None}


def compose_reanalysis(found: Reanalysis, figures: Figures, command: str) -> Document:
    """Compose the report of a reanalysis.

    Parameters
    ----------
    found
        What was found.
    figures
        SVG files by name, as `psychostats.reanalysis_report.draw_reanalysis` names them.
    command
        The command that made the report.
    """
    study = found.study.study
    judged = conclude(found)
    return Document(
        title=study.title,
        subtitle=" · ".join(["new participants", study.name, *(["simulated participants"] if study.simulated else [])]),
        authors=found.study.report.authors,
        notices=tuple(box for box in (_failed(found), _simulated(found), _checked(found)) if box),
        banner="Simulated participants" if study.simulated else "",
        blocks=(
            *_summary(found, judged),
            *describe_data(found, figures),
            *_effects(found, figures),
            *_differences(found),
            *_conclusions(judged),
            *_accumulation(found, figures),
            *_models(found),
            *_limits(found),
            *_provenance(found, command),
            *to_blocks(works_of(found)),
        ),
    )


def works_of(found: Reanalysis) -> tuple[Entry, ...]:
    """Return the works that this report follows."""
    keys = [
        "bates2015",
        "lenth2016",
        "kruschke2018",
        "psychostats",
        "pandas",
        "numpy",
        "scipy",
        "plotnine",
        "matplotlib",
    ]
    first = next(iter(found.fits.values()))
    if not first.is_maximum:
        keys += ["hoffman2014", "vehtari2021", "lewandowski2009", "burkner2017", "xarray"]
        keys += [name for name in ("pymc", "nutpie") if name in first.provenance["versions"]]
    if "2411.03993" in found.study.study.reference:
        keys += ["colin2024", "borowski2021", "zimmermann2021", "zimmermann2023"]
    return cite(keys, {name: str(version) for name, version in first.provenance["versions"].items()})


# Before anything else --------------------------------------------------------------------------------------------


def _failed(found: Reanalysis) -> Callout | None:
    failed = [(_fit_name(key), made) for key, made in found.fits.items() if not made.converged]
    if not failed:
        return None
    items = [prose("{0}: {1}", Strong(name), " ".join(made.warnings)) for name, made in failed]
    return Callout(
        "danger",
        "Not converged: the numbers of these fits may not be read",
        (
            BulletList(tuple(items)),
            Paragraph(prose("{0} lists every figure and its limit.", Link("table-convergence"))),
        ),
    )


def _simulated(found: Reanalysis) -> Callout | None:
    if not found.study.study.simulated:
        return None
    old, new = found.names
    words = (
        f"The study file says that its participants are simulated: those of {old} are no people, and whatever is said "
        f"of {new} beside them is no evidence about people."
    )
    return Callout("warning", "Simulated participants", (Paragraph(words),))


def _checked(found: Reanalysis) -> Callout | None:
    items = tuple(
        prose("{0}: {1}", Strong(side.name), fault.message)
        for side in (found.old, found.new)
        for fault in (side.examined.warnings if side.examined else ())
    )
    items += tuple(prose("{0}", line) for line in found.warnings)
    return Callout("warning", "The check of the trials warns", (BulletList(items),)) if items else None


def _fit_name(key: tuple[str, str]) -> str:
    experiment, name = key
    return name if experiment == ALL else f"{name}, {experiment}"


def _summary(found: Reanalysis, judged: pd.DataFrame) -> list[Block]:
    old, new = found.names
    who = [
        f"{_fit_name((one.experiment, name))}: {one.participants[name]:,} participants and {one.trials[name]:,} trials"
        for one in found.comparisons
        for name in found.names
    ]
    simulated = " (simulated participants)" if found.study.study.simulated else ""
    first = next(iter(found.fits.values()))
    return [
        Heading(f"Summary{simulated}", 1, "summary"),
        BulletList(("Analysed: " + "; ".join(who) + ".", *say_conclusions(found, judged))),
        Paragraph(
            prose(
                "Differences are in percentage points of accuracy in the population{0}, later level minus earlier; in "
                "brackets the {1}. A study says higher or lower where that interval excludes zero. Both together: one "
                "model of {2} and {3} with the study as a factor, its contrasts averaged with each study weighed by "
                "its trials. {4} has the rule by which a conclusion is judged.",
                f", with {found.moderator} at its mean where no value is named" if found.moderator else "",
                interval_of(first, found.study.effects).label,
                old,
                new,
                Link("conclusions"),
            )
        ),
    ]


# Effects ---------------------------------------------------------------------------------------------------------


def _effects(found: Reanalysis, figures: Figures) -> list[Block]:
    factor = found.study.effects.factor
    first = next(iter(found.fits.values()))
    groups = list(dict.fromkeys(block.group for block in first.design.blocks))
    return [
        Heading("Old and new side by side", 1, "effects"),
        Paragraph(
            prose(
                "{0}: {1}. {2}: {3}.",
                Strong("Population"),
                describe_target("population", groups),
                Strong("Typical"),
                describe_target("typical", groups),
            )
        ),
        Figure(
            figures["studies"],
            f"The contrast of {factor} in each study and in both together.",
            "Forest plot of differences in percentage points: " + "; ".join(_spoken(found)) + ".",
            "figure-studies",
        ),
        *([_tabulate_accuracy(found)] if len(found.accuracy) else []),
        _tabulate_contrasts(found),
    ]


def _spoken(found: Reanalysis) -> list[str]:
    return [
        f"{_fit_name((one.experiment, str(row[STUDY])))} {points_interval(row)}"
        for one in found.comparisons
        for row in one.contrasts.to_dict("records")
        if (row[".at"], row["target"], row["scale"]) == ("mean", "population", "difference")
    ]


def _tabulate_accuracy(found: Reanalysis) -> Table:
    """Raw accuracy of each study by level."""
    factor = found.study.effects.factor
    order = [one.experiment for one in found.comparisons]
    table = found.accuracy.assign(experiment=lambda rows: pd.Categorical(rows["experiment"], order))
    return Table(
        (
            *((Column("experiment", "Experiment"),) if len(found.comparisons) > 1 else ()),
            Column(factor, factor.capitalize()),
            Column(STUDY, "Study"),
            Column("n", "Trials", "integer"),
            Column("correct", "Correct", "integer"),
            Column("accuracy", "Accuracy", "percent", 1),
        ),
        table.sort_values(["experiment", factor, STUDY], kind="stable"),
        "Raw accuracy, before any model.",
        anchor="table-accuracy",
    )


def _tabulate_contrasts(found: Reanalysis) -> Table:
    """Contrasts by study, at the moderator's mean and values, and the change along it."""
    rows: list[dict[str, Any]] = []
    for one in found.comparisons:
        cells: dict[tuple[str, str, str], dict[str, Any]] = {}
        stacked = pd.concat([one.contrasts, one.interaction.assign(**{".at": "change"})], ignore_index=True)
        for row in stacked.to_dict("records"):
            if row["scale"] == "link":
                continue
            at = f"{float(row[found.moderator]):.3g}" if row[".at"] == "value" and found.moderator else row[".at"]
            name = str(row["contrast"]).replace(" / ", " - ").replace(" over ", " minus ")
            key = (name, at, str(row[STUDY]))
            cell = cells.setdefault(
                key, {"experiment": one.experiment, "contrast": name.replace(" - ", " − "), "at": at, STUDY: key[2]}
            )
            if row["scale"] == "odds_ratio":
                cell |= {"ratio": estimate(row)} if row["target"] == "population" else {}
                continue
            cell[row["target"]] = points_interval(row)
            if row["target"] == "population":
                cell["pd"] = share(row["pd"])
        rows += [
            cells[key] for key in sorted(cells, key=lambda key: list(cells).index((key[0], key[1], found.old.name)))
        ]
    return Table(
        (
            *((Column("experiment", "Experiment"),) if len(found.comparisons) > 1 else ()),
            Column("contrast", "Contrast"),
            *((Column("at", found.moderator.capitalize()),) if found.moderator else ()),
            Column(STUDY, "Study"),
            Column("population", "Population", align="right"),
            Column("typical", "Typical", align="right"),
            Column("ratio", "Odds ratio", align="right"),
            *_of_draws(found, Column("pd", "pd", align="right")),
        ),
        pd.DataFrame(rows),
        "Contrasts of the old study, the new one, and both together, in percentage points.",
        "Odds ratio: of the population; of a change, the ratio of two odds ratios."
        + ("" if _is_maximum(found) else " pd: the probability of direction."),
        "table-studies",
    )


def _differences(found: Reanalysis) -> list[Block]:
    old, new = found.names
    rows = []
    for one in found.comparisons:
        table = one.between
        for row in table[table["scale"] == "difference"].to_dict("records"):
            rows.append(
                {
                    "experiment": one.experiment,
                    "contrast": str(row["contrast"]).split(" at ")[0].strip("()").replace(" - ", " − "),
                    "target": row["target"],
                    "change": points_interval(row),
                    "pd": share(row["pd"]),
                    "rope": percent(row["rope_share"]) if pd.notna(row["rope_share"]) else None,
                }
            )
    return [
        Heading("Do the studies differ?", 1, "between"),
        Paragraph(
            f"The contrast in {new} minus the contrast in {old}, by the model of both, in which everything in it may "
            "differ between the studies, and what was shown in both is the same. A difference may come from the "
            "people, from how they were recruited, or from the apparatus; this does not tell which."
        ),
        Table(
            (
                *((Column("experiment", "Experiment"),) if len(found.comparisons) > 1 else ()),
                Column("contrast", "Contrast"),
                Column("target", "Target"),
                Column("change", f"{new.capitalize()} minus {old}", align="right"),
                *_of_draws(found, Column("pd", "pd", align="right"), Column("rope", "In ROPE", align="right")),
            ),
            pd.DataFrame(rows),
            "How the contrast differs between the studies, in percentage points.",
            anchor="table-between-studies",
        ),
    ]


def _conclusions(judged: pd.DataFrame) -> list[Block]:
    shown = judged.assign(
        contrast=judged["contrast"].str.replace(" - ", " − ", regex=False),
        contradicted=judged["contradicted"].map({True: "yes", False: "no"}),
        **{name: judged[name].map(lambda one: _SAID.get(one)) for name in ("old", "new", "pooled", "between")},
    )
    several = judged["experiment"].nunique() > 1
    return [
        Heading("Did the new data change the conclusion?", 1, "conclusions"),
        Paragraph(
            "A conclusion is what the interval of the population's difference says: higher or lower where it excludes "
            "zero, practically equal where 95 % of the posterior lies within the region of practical equivalence, open "
            "otherwise. It stands where both together say what the old study said, if that said anything; what was "
            "open is settled where both together say something; what was said is reopened where both together leave it "
            "open; it has changed where both together say something else."
        ),
        Table(
            (
                *((Column("experiment", "Experiment"),) if several else ()),
                Column("contrast", "Question"),
                Column("old", "Old"),
                Column("new", "New"),
                Column("pooled", "Together"),
                Column("between", "New minus old"),
                Column("contradicted", "Opposed"),
                Column("outcome", "The conclusion"),
            ),
            shown,
            "What each study says, and what became of the conclusion.",
            "Opposed: each study by itself says the opposite of the other.",
            "table-conclusions",
        ),
    ]


def _accumulation(found: Reanalysis, figures: Figures) -> list[Block]:
    failed = found.accumulation[found.accumulation["estimate"].isna()]
    blocks: list[Block] = [
        Heading("The effect as participants were added", 1, "accumulation"),
        Paragraph(
            "The same contrast after each share of the participants, in the order in which they came, the old study "
            "first; by maximum likelihood without priors, so that its last value is near the estimate above, not equal "
            "to it. It is for the eye: intervals are not adjusted for looking several times, and whoever stops when "
            "one excludes zero is wrong more often than they say."
        ),
    ]
    if "accumulation" in figures:
        blocks.append(
            Figure(
                figures["accumulation"],
                f"The contrast of {found.study.effects.factor} as participants were added.",
                "Estimates and intervals against the number of participants, which narrow as it grows.",
                "figure-accumulation",
            )
        )
    if len(failed):
        counts = ", ".join(str(one) for one in failed["participants"].unique())
        blocks.append(Paragraph(f"At {counts} participants there is no estimate: {failed['reason'].iloc[0]}"))
    return blocks


# The rest --------------------------------------------------------------------------------------------------------


def _models(found: Reanalysis) -> list[Block]:
    one = found.comparisons[0]
    family = one.fits[POOLED].spec.family.describe()
    fits = [(experiment, name, made) for (experiment, name), made in found.fits.items()]
    apart, together = (one.fits[name].spec.formula.text for name in (found.new.name, POOLED))
    return [
        Heading("Models", 1, "models"),
        Paragraph(
            prose(
                "Each study: {0}. Both together: {1}. Family: {2}. People of the two studies are different people; "
                "what was shown is the same in both where it bears the same name.",
                Code(apart),
                Code(together),
                family,
            )
        ),
        _said_of_maxima(fits)
        if _is_maximum(found)
        else tabulate_fits(fits, "Study", several=len(found.comparisons) > 1),
    ]


def _said_of_maxima(fits: Sequence[tuple[str, str, Fit]]) -> Block:
    """Say that the fits are maxima, and what their checks warn of."""
    warned = [f"{_fit_name((experiment, name))}: {line}" for experiment, name, made in fits for line in made.warnings]
    return Paragraph("All by maximum likelihood, as the fit that was given. " + (" ".join(warned) or "No check warns."))


def _is_maximum(found: Reanalysis) -> bool:
    return next(iter(found.fits.values())).is_maximum


def _of_draws(found: Reanalysis, *columns: Column) -> tuple[Column, ...]:
    """Return columns that draws alone have."""
    return () if _is_maximum(found) else columns


def _limits(found: Reanalysis) -> list[Block]:
    items: list[Words] = [
        "The first model of the study file was fitted, to each experiment by itself; other models, other responses and "
        "a model of all experiments were not.",
        "Studies were not assigned at random, so a difference between them has no single cause.",
        "Conclusions are by thresholds; an interval that just excludes zero and one that just includes it say nearly "
        "the same.",
    ]
    return [Heading("Limits of this analysis", 1, "limits"), BulletList(tuple(items))]


def _provenance(found: Reanalysis, command: str) -> list[Block]:
    facts = [
        (side.name.capitalize(), key, value) for side in (found.old, found.new) for key, value in side.source.items()
    ]
    facts += [("Study", "file", f"{found.study.path.name}, SHA-256 {found.study.sha256}")] if found.study.sha256 else []
    first = next(iter(found.fits.values()))
    facts.append(("Versions", "", ", ".join(f"{name} {text}" for name, text in first.provenance["versions"].items())))
    frame = pd.DataFrame(facts, columns=["what", "key", "value"])
    columns = (Column("what", "What"), Column("key", ""), Column("value", "Value"))
    seconds = [{"stage": stage, "seconds": value} for stage, value in found.seconds.items()]
    return [
        Heading("Provenance", 1, "provenance"),
        *((Paragraph("The command that made this report:"), CodeBlock(command)) if command else ()),
        Table(columns, frame, "What went in.", anchor="table-provenance"),
        Heading("Appendix: time", 1, "appendix"),
        Table(
            (Column("stage", "Stage"), Column("seconds", "Seconds", "number", 1)),
            pd.DataFrame(seconds),
            "Time of each stage of this run.",
            anchor="table-seconds",
        ),
    ]
