"""Chapters on whether a power analysis can be relied on: the null, the sampler beside it, single simulated studies.

In: a `Power`.  Out: chapters with their figures.  Rounds and arranges; computes no statistic.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from psychostats.chapters import Chapter
from psychostats.document import Block, Code, Column, Figure, Heading, Paragraph, Table, prose
from psychostats.measure import percent
from psychostats.power import Power
from psychostats.power_figures import plot_engines, plot_null, plot_studies
from psychostats.power_sentences import (
    BARS,
    BRACKETS,
    NOTE,
    judge_calibration,
    name_shape,
    name_size,
    say_calibration,
    say_null,
    say_quantity,
    times,
    width,
    within,
)
from psychostats.power_simulations import size_of

Figures = Mapping[str, Path]


def chapter_null(power: Power) -> Chapter:
    """Return the chapter about what is found where there is nothing to find."""
    nominal = 1.0 - power.question.asked.probability
    rows = power.null.to_dict("records")
    table = pd.DataFrame(
        [
            {
                "label": f"{say_quantity(row['quantity'])}, {name_size(size_of(row))}",
                **{name: 100 * row[key] for name, key in _RATE.items()},
            }
            for row in rows
        ]
    )
    note = f"{BARS} Dashed: the rate that is meant. {NOTE}"
    plot = plot_null(table, nominal=100 * nominal, note=note)

    def compose(figures: Figures) -> list[Block]:
        shown = [
            {
                "quantity": say_quantity(row["quantity"]),
                "size": name_size(size_of(row)),
                "detected": row["detected"],
                "rate": within(row, "power"),
                "nominal": "yes" if row["power_low"] <= nominal <= row["power_high"] else "no",
                "bias": width(power.question, row, "bias"),
                "failed": row["failed"],
            }
            for row in rows
        ]
        question = power.question
        factor, items = question.asked.factor, question.items
        vary = f"people and {items}" if items else "people"
        return [
            Heading("Without differences", 1, "null"),
            Paragraph(
                f"The study's own design, where the grid has it, and the one recommended or nearest to the wish, in a "
                f"truth in which no level of {factor} is better than another: its effects, and "
                f"how much {vary} vary, are averaged over all ways to relabel its levels. Levels still "
                f"differ between single {vary}; in the population every contrast is exactly zero."
            ),
            Table(
                (
                    Column("quantity", "Quantity"),
                    Column("size", "Design"),
                    Column("detected", "Detected", "integer"),
                    Column("rate", "False positives", align="right"),
                    Column("nominal", f"{percent(nominal)} inside"),
                    Column("bias", "Mean estimate", align="right"),
                    Column("failed", "Failed", "integer"),
                ),
                pd.DataFrame(shown),
                "False positives in simulated studies without differences.",
                f"Design: {name_shape(question)}. Mean estimate in {question.measure.units}; {BRACKETS}.",
                "table-null",
            ),
            Figure(
                figures["null"],
                "How often a difference is found where there is none.",
                "False-positive rates. " + " ".join(say_null(power)),
                "figure-null",
            ),
        ]

    return Chapter(compose, tuple(say_null(power)), {"null": power.null}, {"null": plot})


_RATE = {"estimate": "power", "conf_low": "power_low", "conf_high": "power_high"}


def chapter_calibration(power: Power) -> Chapter:
    """Return the chapter about the sampler beside maximum likelihood."""
    tables = {"calibration": power.calibration} if len(power.calibration) else {}
    plots = {}
    if len(power.pairs):
        measure = power.question.measure
        rows = power.pairs.assign(half=measure.factor * (power.pairs["conf_high"] - power.pairs["conf_low"]) / 2)
        keys = ["quantity", "participants", "main", "pairs", "simulation"]
        wide = rows.pivot_table("half", keys, "engine", observed=True).reset_index()
        order = list(power.question.quantities)
        wide = wide.sort_values("quantity", key=lambda names: names.map(order.index), kind="stable")
        sizes = [name_size(size_of(row)) for row in wide.to_dict("records")]
        panel = wide["quantity"].map(say_quantity) + ", " + pd.Series(sizes, index=wide.index)
        data = pd.DataFrame({"first": wide["laplace"], "second": wide["nuts"], "experiment": panel})
        note = f"A point is a simulated study that both engines have fitted; on the line they agree. {NOTE}"
        plots["engines"] = plot_engines(data, label=f"Half width ({measure.units})", note=note)

    def compose(figures: Figures) -> list[Block]:
        blocks: list[Block] = [
            Heading("Does maximum likelihood stand for the sampler?", 1, "calibration"),
            Paragraph(
                prose(
                    "Power is that of an analysis by maximum likelihood, which takes a fraction of a second a study. "
                    "{0} analyses some of the same simulated studies as well, with the priors of the study file, where "
                    "that is asked for. {1}",
                    Code("nuts"),
                    " ".join(judge_calibration(power)),
                )
            ),
        ]
        if power.calibration.empty:
            return blocks
        shown = [
            {
                "quantity": say_quantity(row["quantity"]),
                "size": name_size(size_of(row)),
                "studies": row["studies"],
                "agree": f"{row['both'] + row['neither']} of {row['studies']}",
                "first": row["first_only"],
                "second": row["second_only"],
                "width": times(row, "width_ratio"),
                "shift": times(row, "shift"),
                "not_converged": row["not_converged"],
            }
            for row in power.calibration.to_dict("records")
        ]
        return [
            *blocks,
            Table(
                (
                    Column("quantity", "Quantity"),
                    Column("size", "Design"),
                    Column("agree", "Agree", align="right"),
                    Column("first", "Only likelihood", "integer"),
                    Column("second", "Only nuts", "integer"),
                    Column("width", "Width, ratio", align="right"),
                    Column("shift", "Shift (SDs)", align="right"),
                    Column("not_converged", "Not converged", "integer"),
                ),
                pd.DataFrame(shown),
                "The same simulated studies by both engines.",
                "Agree: on whether the interval excludes zero; only: but one does. Width: of the intervals, nuts over "
                "maximum likelihood, "
                "geometric mean. Shift: mean difference of the estimates, nuts minus maximum likelihood; "
                f"{BRACKETS}. Not converged: fits by nuts that missed a check of convergence; they count all the same.",
                "table-calibration",
            ),
            Figure(
                figures["engines"],
                "Half widths of the same simulated studies by both engines.",
                "Half widths by nuts against those by maximum likelihood: " + " ".join(say_calibration(power)),
                "figure-engines",
            ),
        ]

    return Chapter(compose, tuple(judge_calibration(power)), tables, plots)


def chapter_studies(power: Power) -> Chapter:
    """Return the chapter about single simulated studies."""
    rows = power.shown
    if rows.empty:
        return Chapter(lambda figures: [])
    measure = power.question.measure
    parts = {name: measure.factor * rows[name] for name in ("estimate", "conf_low", "conf_high", "true")}
    data = pd.DataFrame(parts).assign(experiment=rows["quantity"].map(say_quantity))
    size = size_of(rows.iloc[0].to_dict())
    note = f"Dashed: the truth. {NOTE}"
    plot = plot_studies(data, y_label=f"Estimate and interval\n({measure.units})", note=note)
    count = int(rows["simulation"].nunique())
    counts = " ".join(_count_studies(name, part) for name, part in rows.groupby("quantity", sort=False))

    def compose(figures: Figures) -> list[Block]:
        return [
            Heading("Single simulated studies", 1, "studies"),
            Paragraph(
                f"The first {count} simulated studies of {power.question.say(size)} that have a fit: a lab that runs "
                "this design once gets one of them."
            ),
            Figure(
                figures["singles"],
                f"Estimates and intervals of single simulated studies. {counts}",
                "Intervals sorted by their estimate, those that exclude zero and those that miss the truth marked. "
                + counts,
                "figure-singles",
            ),
        ]

    return Chapter(compose, plots={"singles": plot})


def _count_studies(name: object, rows: pd.DataFrame) -> str:
    """Say how many studies detect a quantity, and how many intervals miss its truth."""
    found = int(((rows["conf_low"] > 0) | (rows["conf_high"] < 0)).sum())
    missed = int(((rows["conf_low"] > rows["true"]) | (rows["conf_high"] < rows["true"])).sum())
    return f"{say_quantity(str(name))}: {found} of {len(rows)} exclude zero, {missed} miss the truth."
