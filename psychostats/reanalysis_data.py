"""The data of a reanalysis: who took part in each study, how they were read, and who was left out.

In: a `Reanalysis` and its figures.  Out: blocks of the document.  Rounds and arranges; computes no statistic.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from psychostats.demographics import describe_demographics, summarise_demographics
from psychostats.document import Block, Code, Column, Figure, Heading, Paragraph, Table, prose
from psychostats.exclusion_section import describe_recordings
from psychostats.measure import points_interval
from psychostats.reanalysis import Reanalysis, Side
from psychostats.settings import DemographicsTable
from psychostats.terminal import count_dropped

Figures = Mapping[str, Path]


def describe_data(found: Reanalysis, figures: Figures) -> list[Block]:
    """Say of each study what was recorded, what its rules removed and whether its result depends on them."""
    blocks: list[Block] = [Heading("Data and exclusions", 1, "data"), *_side_by_side(found)]
    for side, key in ((found.old, "old"), (found.new, "new")):
        blocks.append(Heading(side.name.capitalize(), 2, f"data-{key}"))
        blocks += _side(found, side, key, figures)
    stacked, (old, new) = found.stacked, found.names
    if found.new.returning:
        blocks.append(
            Paragraph(
                f"{len(found.new.returning)} people of {new} took part in {old}, as their pseudonyms say; their new "
                "trials were left out before anything was fitted."
            )
        )
    if stacked.namesakes:
        blocks.append(
            Paragraph(
                f"{stacked.namesakes} ids occur in both studies. They are no pseudonyms, so they were taken for "
                "different people; with pseudonymize = true in the study file an id is a person."
            )
        )
    if found.apart:
        blocks.append(
            Paragraph(f"Only one of the studies has {', '.join(found.apart)}, which was therefore not compared.")
        )
    return blocks


def _side(found: Reanalysis, side: Side, key: str, figures: Figures) -> list[Block]:
    if side.excluded is None or side.examined is None:
        rows = len(side.kept)
        return [
            Paragraph(
                f"Known by its fit, which holds {rows:,} trials as they were analysed; it does not say what was "
                "excluded before."
            )
        ]
    flow = side.excluded.flow
    whole, kept = (flow[flow["step"] == flow["step"].iloc[place]] for place in (0, -1))
    blocks: list[Block] = [
        Paragraph(
            prose(
                "{0}: {1}{2} trials were recorded, {3} trials of {4} participants analysed{5}.",
                Code(side.source.get("file", side.name)),
                f"of {side.examined.n_rows:,} rows the filter keeps {side.examined.n_rows - left_aside:,}; "
                if (left_aside := side.examined.n_filtered)
                else "",
                int(whole["trials_left"].sum()),
                int(kept["trials_left"].sum()),
                int(side.kept[found.study.report.group].nunique()),
                f"; {count_dropped(dropped, side.examined.n_infinite)} had been dropped before"
                if (dropped := side.examined.n_dropped)
                else "",
            )
        )
    ]
    blocks += describe_recordings(side.examined, level=3, anchor=f"recordings-{key}")
    if (joined := side.examined.demographics) is not None:
        asked = found.study.demographics or DemographicsTable()
        joined = joined.of(side.kept["participant"].astype(str).unique())
        summary = summarise_demographics(joined.people, asked.columns, asked.smallest)
        blocks += describe_demographics(summary, joined, asked.smallest)
    if f"flow_{key}" in figures:
        blocks.append(
            Figure(
                figures[f"flow_{key}"],
                f"Participants and trials of {side.name}, from what was recorded to what was analysed.",
                "Boxes from recorded to analysed; beside each step what it removed.",
                f"figure-flow-{key}",
            )
        )
    lacking = side.excluded.not_applied
    if lacking:
        rules = "; ".join(f"{rule} (no {' and no '.join(columns)})" for rule, columns in lacking.items())
        blocks.append(Paragraph(f"Rules of the predecessor that these trials could not be judged by: {rules}."))
    if len(side.robustness):
        blocks.append(_tabulate_robustness(found, side, key))
    return blocks


def _side_by_side(found: Reanalysis) -> list[Block]:
    """Lay what the rules removed from each study side by side, experiments added up."""
    sides = [(side.name, side.excluded.flow) for side in (found.old, found.new) if side.excluded is not None]
    counted = ["participants_left", "trials_left", "participants_removed", "trials_removed"]
    sums = {name: flow.groupby("step", sort=False)[counted].sum().to_dict("index") for name, flow in sides}
    steps: list[str] = []
    for table in sums.values():  # a step that only one study has stands after the one before it there
        before = 0
        for step in map(str, table):
            if step not in steps:
                steps.insert(before, step)
            before = steps.index(step) + 1
    rows = []
    for step in steps:
        row = {"step": step}
        for name, table in sums.items():
            if step not in table:
                continue
            for what in ("participants", "trials"):
                left, gone = (int(table[step][f"{what}_{how}"]) for how in ("left", "removed"))
                row[f"{name} {what}"] = f"{left:,}" + (f" (−{gone:,})" if gone else "")
        rows.append(row)
    columns = [
        Column(f"{name} {what}", f"{name.capitalize()}: {what}", align="right")
        for name in sums
        for what in ("participants", "trials")
    ]
    return [
        Table(
            (Column("step", "Step"), *columns),
            pd.DataFrame(rows),
            "Participants and trials left after each step, the studies side by side; in brackets, how many the step "
            "removed.",
            "Experiments are added up; the figures below, and tables/EXPERIMENT_exclusions.csv, have each by itself.",
            "table-exclusions",
        )
    ]


def _tabulate_robustness(found: Reanalysis, side: Side, key: str) -> Table:
    """The contrast of one study with and without exclusions."""
    table = side.robustness
    rows = table.assign(
        contrast=table["contrast"].str.replace(" - ", " − ", regex=False),
        difference=[row["reason"] or points_interval(row) for row in table.to_dict("records")],
    )
    return Table(
        (
            *((Column("experiment", "Experiment"),) if table["experiment"].nunique() > 1 else ()),
            Column("exclusions", "Exclusions"),
            Column("contrast", "Contrast"),
            Column("participants", "Participants", "integer"),
            Column("trials", "Trials", "integer"),
            Column("difference", "Difference", align="right"),
            Column("conclusion", "Interval"),
        ),
        rows,
        f"Results of {side.name} with and without exclusions, in percentage points.",
        "By maximum likelihood without priors, so compare these with one another. None: all main trials that have an "
        "answer. Open: the interval holds 0.",
        f"table-robustness-{key}",
    )
