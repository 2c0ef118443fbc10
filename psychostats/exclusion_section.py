"""What the report says of who was left out: the recordings, the flow, and results with and without exclusions.

In: an `Analysis` and its figures.  Out: blocks of the section *Data and exclusions*.  Computes no statistic; knows
neither HTML nor PDF.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from psychostats.accounts import tabulate_exclusions
from psychostats.analysis import Analysis
from psychostats.document import Block, BulletList, Column, Figure, Heading, Inline, Link, Paragraph, Table, prose
from psychostats.results import ALL
from psychostats.robustness import EVERY
from psychostats.tables import by_experiment
from psychostats.trials import TrialTable

_NAMED = 50  # files that were left out, by name; the file files.csv has all


def describe_recordings(trials: TrialTable, *, level: Literal[2, 3] = 2, anchor: str = "recordings") -> list[Block]:
    """Say which files were read, which were not and why, and what was converted; nothing of a plain table."""
    sources, notes = trials.recordings, trials.notes
    blocks: list[Block] = []
    if sources or notes:
        blocks.append(Heading("How the recordings were read", level, anchor))
    if sources:
        files = [{"tool": one.tool or "unknown", "status": one.status, "rows": one.rows} for one in sources]
        frame = pd.DataFrame(files)
        counted = frame.groupby(["tool", "status"], sort=True)["rows"].agg(["size", "sum"]).reset_index()
        counts = (Column("size", "Files", "integer"), Column("sum", "Trials", "integer"))
        columns = (Column("tool", "Tool"), Column("status", "Status"), *counts)
        blocks.append(Table(columns, counted, "Files by the tool that wrote them.", anchor=f"table-{anchor}"))
        left_out = [one for one in sources if one.status != "read"]
        if left_out:
            rows = [{"name": one.name, "why": one.reason or one.status} for one in left_out[:_NAMED]]
            more = len(left_out) - len(rows)
            note = f"{more:,} more are named in the file tables/files.csv." if more else ""
            named = (Column("name", "File", "code"), Column("why", "Reason"))
            blocks.append(
                Table(named, pd.DataFrame(rows), "Files that were not used.", note, anchor=f"table-{anchor}-left-out")
            )
    if notes:
        blocks.append(BulletList(notes))
    return blocks


def describe_exclusions(analysis: Analysis, figures: Mapping[str, Path]) -> list[Block]:
    """Show who was left out, which rules did not apply, and whether the headline depends on it."""
    blocks: list[Block] = [
        Figure(
            figures["flow"],
            "The flow of participants and trials, from what was recorded to what was analysed.",
            "Boxes from all recorded down to analysed, beside them what each step removed, one column an experiment.",
            "figure-flow",
        ),
        *tabulate_exclusions(analysis),
    ]
    lacking = analysis.excluded.not_applied
    if lacking:
        rules = "; ".join(f"{rule} (no {' and no '.join(columns)})" for rule, columns in lacking.items())
        blocks.append(Paragraph(f"Rules of the predecessor that these trials could not be judged by: {rules}."))
    if len(analysis.robustness):
        blocks += [
            Paragraph((*_say_conclusion(analysis.robustness), *prose(" See {0}.", Link("table-robustness")))),
            tabulate_robustness(analysis),
        ]
    else:
        blocks.append(
            Paragraph(
                "Results with and without exclusions are compared by maximum likelihood, which this software does not "
                "have for the main model; so they were not compared."
            )
        )
    return blocks


def tabulate_robustness(analysis: Analysis) -> Table:
    """The headline with all exclusions, by the posterior and by maximum likelihood; with none, and without each."""
    table, measure = analysis.robustness, analysis.study.measure
    several = table["contrast"].replace("", None).nunique() > 1
    rows: list[dict[str, Any]] = []
    for result in analysis.main:
        here = table[table["experiment"] == result.experiment]
        first = here.iloc[0]
        headline = result.headline
        headline = headline[(headline["target"] == "population") & (headline["scale"] == "difference")]
        counts = {name: int(first[name]) for name in ("participants", "trials")}
        for row in headline.to_dict("records"):
            value = measure.interval(row) if result.fit.converged else "not converged"
            rows.append(
                {"experiment": result.experiment, "exclusions": EVERY, "method": "posterior", "difference": value}
                | {"contrast": row["contrast"]}
                | counts
            )
        rows += [
            {
                "experiment": result.experiment,
                "method": "likelihood",
                "difference": "–" if row["reason"] else measure.interval(row),
                **{name: row[name] for name in ("exclusions", "contrast", "participants", "trials", "conclusion")},
            }
            for row in here.to_dict("records")
        ]
    frame = pd.DataFrame(rows).assign(contrast=lambda made: made["contrast"].str.replace(" - ", " − "))
    contrasts = list(dict.fromkeys(frame.loc[frame["contrast"] != "", "contrast"]))
    columns = (
        Column("exclusions", "Exclusions"),
        Column("method", "By"),
        *((Column("contrast", "Contrast"),) if several else ()),
        Column("participants", "Participants", "integer"),
        Column("trials", "Trials", "integer"),
        Column("difference", "Difference", align="right"),
        Column("conclusion", "Interval"),
    )
    failed = [
        f" No estimate{_where(row['experiment'])}, exclusions {row['exclusions']}: {row['reason'].rstrip('.')}."
        for row in table[table["reason"] != ""].to_dict("records")
    ]
    probability = f"{100 * analysis.study.effects.probability:g} %"
    return by_experiment(
        analysis,
        columns,
        frame.fillna({"conclusion": ""}),
        f"Results with and without exclusions: the difference in {measure.noun} in the population, in {measure.units}"
        + (f": {contrasts[0]}." if len(contrasts) == 1 else "."),
        "By the posterior: what this report is about. By likelihood: the same model without priors, fitted again by "
        f"maximum likelihood to other trials, with {probability} Wald intervals; compare these with one another. None: "
        "all main trials that have an answer. Open: the interval holds 0." + "".join(failed),
        "table-robustness",
    )


def _say_conclusion(table: pd.DataFrame) -> tuple[Inline, ...]:
    """Say whether the conclusion, sign and whether the interval leaves 0 out, is the same with and without."""
    known = table[table["reason"] == ""]
    changed, compared = [], 0
    for (experiment, contrast), rows in known.groupby(["experiment", "contrast"], sort=False):
        by = dict(zip(rows["exclusions"], rows["conclusion"], strict=True))
        if EVERY not in by or len(by) < 2:
            continue
        compared += 1
        others: dict[str, list[str]] = {}
        for which, conclusion in by.items():
            if conclusion != by[EVERY]:
                others.setdefault(conclusion, []).append(f"with {which}")
        if others:
            of = f" ({str(contrast).replace(' - ', ' − ')})" if known["contrast"].nunique() > 1 else ""
            said = "; ".join(f"{conclusion} {' and '.join(which)}" for conclusion, which in others.items())
            changed.append(f"{_where(experiment)}{of}: {by[EVERY]} with all exclusions, {said}")
    if not compared:
        return prose("With and without exclusions the results cannot be compared: a likelihood has no maximum.")
    conclusion = "Whether the interval of the difference holds 0, and else on which side of 0 it lies, "
    if changed:
        return prose("{0}", f"{conclusion}depends on the exclusions{'; and'.join(changed)}.")
    every = ", in every experiment" if known["experiment"].nunique() > 1 else ""
    return prose(
        "{0}is the same with all exclusions, with none, and without each that removed something{1}.",
        conclusion,
        every,
    )


def _where(experiment: object) -> str:
    return "" if experiment == ALL else f" in {experiment}"
