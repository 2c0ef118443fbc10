"""The tables of account: what went into an analysis, what was left out, and how and when it was made.

In: an `Analysis` or its study.  Out: `Table` blocks.  Counts and arranges; knows no effect.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from psychostats.analysis import Analysis
from psychostats.document import Column, Table
from psychostats.opening import groups_of, sources_of
from psychostats.predictor import plural
from psychostats.results import ALL
from psychostats.sampling import Settings
from psychostats.study import Study
from psychostats.tables import by_experiment

_COUNTED = ("participant", "pair", "feature", "stimulus", "layer")


def tabulate_exclusions(analysis: Analysis) -> list[Table]:
    """Participants left after each step, and trials left, experiments side by side."""
    return tabulate_flow(analysis.excluded.flow)


def tabulate_flow(flow: pd.DataFrame, of: str = "", anchor: str = "table") -> list[Table]:
    """The same of a table of what rules removed, `of` a study that is named; its anchors begin with `anchor`."""
    flow = flow.assign(experiment=lambda table: table["experiment"].astype(str))
    names = list(dict.fromkeys(flow["experiment"]))
    tables = []
    for key in ("participants", "trials"):
        # Trials that are set aside seldom take a participant along; where none did, the step says nothing here.
        removed = flow.groupby("step")[f"{key}_removed"].transform("sum")
        shown = flow[~flow["step"].str.endswith("set aside") | (removed > 0)]
        wide = pd.DataFrame({"step": shown.loc[shown["experiment"] == names[0], "step"].to_numpy()})
        for name in names:
            rows = shown[shown["experiment"] == name]
            wide[name] = [
                f"{left:,}" + (f" (−{gone:,})" if gone else "")
                for gone, left in zip(rows[f"{key}_removed"], rows[f"{key}_left"], strict=True)
            ]
        headers = [Column(name, key.capitalize() if len(names) == 1 else name, align="right") for name in names]
        whose = f"{key.capitalize()} of {of}" if of else key.capitalize()
        caption = f"{whose} left after each step; in brackets, how many the step removed."
        tables.append(Table((Column("step", "Step"), *headers), wide, caption, anchor=f"{anchor}-{key}"))
    return tables


def tabulate_catch(analysis: Analysis) -> Table:
    """Accuracy on catch trials."""
    columns = (Column("n", "Catch trials", "integer"), Column("accuracy", "Accuracy", "number", 3))
    return by_experiment(
        analysis,
        columns,
        analysis.catch_accuracy,
        "Catch trials, before any exclusion.",
        anchor="table-catch",
    )


def tabulate_reading(study: Study) -> Table:
    """How the columns of the file were renamed, and its levels recoded."""
    recoded = {name: levels for name, levels in study.levels.items() if isinstance(levels, dict)}
    rows = [
        {
            "name": name,
            "file": study.columns.get(name, name),
            "levels": ", ".join(f"{new} from {old or 'blank'}" for old, new in recoded.get(name, {}).items()),
        }
        for name in dict.fromkeys([*study.columns, *recoded])
    ]
    columns = (
        Column("name", "Column here", "code"),
        Column("file", "In the file", "code"),
        Column("levels", "Recoded"),
    )
    return Table(columns, pd.DataFrame(rows), "How the file was read.", anchor="table-reading")


def tabulate_design(analysis: Analysis) -> Table:
    """What was analysed: trials and how many of everything."""
    kept, factor, group = analysis.excluded.kept, analysis.study.effects.factor, analysis.study.report.group
    levels = analysis.main[0].fit.coding.levels[factor] if analysis.study.design.assignment == "between" else ()
    counted = [
        name
        for name in dict.fromkeys([*_COUNTED, *groups_of(analysis)])
        if name in kept.columns and kept[name].notna().any()
    ]
    who = "who saw" if analysis.study.condition == "representation" else f"{plural(group).capitalize()},"
    rows = []
    for name, part in kept.groupby("experiment", observed=True) if "experiment" in kept.columns else [(ALL, kept)]:
        row: dict[str, Any] = {"experiment": str(name), "trials": len(part)}
        row |= {column: int(part[column].nunique()) for column in counted}
        people = part.groupby(factor, observed=True)[group].nunique()
        row |= {f"of {level}": int(number) for level, number in people.items()}
        each = part.groupby(group, observed=True).size()
        rows.append(row | {"median": f"{each.median():g}"})
    columns = (
        Column("trials", "Trials", "integer"),
        *(Column(name, plural(name).capitalize(), "integer") for name in counted),
        *(Column(f"of {level}", f"{who} {level}", "integer") for level in levels),
        Column("median", f"Trials per {group} (median)", align="right"),
    )
    return by_experiment(analysis, columns, pd.DataFrame(rows), "What was analysed.", anchor="table-design")


def tabulate_provenance(analysis: Analysis) -> Table:
    """What went in, with hashes and versions."""
    study, fits = analysis.study, analysis.fits
    settings = {
        f"{s.chains} chains of {s.draws:,} draws after {s.tune:,}, seed {s.seed}, target acceptance {s.target_accept:g}"
        for s in (fit.settings for fit in fits)
        if isinstance(s, Settings)
    }
    # Models may differ in it: of another response, or with an estimated lapse rate.
    engines = dict.fromkeys(f"{fit.provenance['engine']} ({fit.provenance['engine_reason']})" for fit in fits)
    versions = {name: version for fit in fits for name, version in fit.provenance["versions"].items()}
    facts = [
        ("Trials", f"{analysis.source['file']}, SHA-256 {analysis.source['file_sha256']}"),
        ("Study file", f"{study.path.name}, SHA-256 {study.sha256}"),
        *((("Features run", analysis.run.identity),) if analysis.run else ()),
        *(
            (
                "Analysed data" if result.experiment == ALL else f"Data of {result.experiment}",
                f"SHA-256 {result.fit.provenance['data']['sha256']}",
            )
            for result in analysis.main
        ),
        ("Engine", "; ".join(engines)),
        ("Sampler", "; ".join(sorted(settings))),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    frame = pd.DataFrame(facts, columns=["what", "value"])
    return Table((Column("what", "What"), Column("value", "Value")), frame, "What went in.", anchor="table-provenance")


def tabulate_sources(analysis: Analysis) -> Table:
    """Where the settings of the study file come from."""
    rows = [{"key": key, "source": kind, "note": note} for key, (kind, note) in sources_of(analysis).items()]
    return Table(
        (Column("key", "Setting", "code"), Column("source", "Source"), Column("note", "Note")),
        pd.DataFrame(rows, columns=["key", "source", "note"]),
        "Where the settings of the study file come from.",
        "paper: stated there, or quoted from it by its published reviews, as the note says. predecessor: an earlier "
        "study of the same line. assumed: ours. A setting that is not listed is assumed.",
        "table-sources",
    )


def tabulate_seconds(analysis: Analysis) -> Table:
    """Time of each stage."""
    rows = [{"stage": stage, "seconds": value} for stage, value in analysis.seconds.items() if value >= 0.05]
    return Table(
        (Column("stage", "Stage"), Column("seconds", "Seconds", "number", 1)),
        pd.DataFrame(rows, columns=["stage", "seconds"]),
        "Time of each stage of this run.",
        "A fit that was answered from disk takes no sampling. Writing the documents is not in the table.",
        "table-seconds",
    )
