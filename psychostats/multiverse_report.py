"""The report of a multiverse: a folder of results, tables, figures, one HTML file and one PDF, as a study's report is.

In: a plan and who does its fits.  Out: the folder.  Text and numbers come from the rooms below; here they are put on
disk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from psychostats.executors import Executor
from psychostats.figures import add_note, label_of, save_figure
from psychostats.multiverse import Multiverse, run_multiverse
from psychostats.multiverse_figures import plot_choices, plot_dimensions, plot_specifications
from psychostats.multiverse_plan import Plan
from psychostats.multiverse_section import compose_multiverse, interval_label, works_of
from psychostats.multiverse_sentences import WORDS, name_part, tabulate_measures, tabulate_summary
from psychostats.outlook import MANY, look_ahead
from psychostats.report import part_of, put_report, require_report_folder, write_documents
from psychostats.terminal import count

#: Where the fits' results lie within the folder of a report.
RESULTS = "results"
_PERCENT = ("share", "changed_share")


def describe_plan(plan: Plan) -> str:
    """Return what a multiverse is made of, in lines for a terminal."""
    lines = [f"{one.name}: {', '.join([f'{one.labels[0]} (own)', *one.labels[1:]])}" for one in plan.dimensions]
    return "\n".join([*lines, say_size(plan)])


def say_size(plan: Plan) -> str:
    """Say how many specifications and fits there are."""
    what = f"{count(len(plan.specifications), 'specification')} of {count(len(plan.experiments), 'experiment')}"
    return f"{what}, {count(len(plan.tasks), 'fit')} that differ"


def write_multiverse(
    plan: Plan,
    out: Path,
    executor: Executor,
    *,
    yes: bool = False,
    overwrite: bool = False,
    command: str = "",
    progress: Callable[[int, int, float], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Multiverse:
    """Fit every specification and write the report.

    Parameters
    ----------
    plan
        What is to be fitted.
    out
        Folder: ``report.html, report.pdf, report.docx, references.bib, figures/, tables/, results/``.  Results that are
        there already are used again.
    executor
        Who does the fits.
    yes
        Whether more than `psychostats.outlook.MANY` fits are meant.
    overwrite
        Remove results of other trials or versions.
    command
        What to print as the command that made it.
    progress
        As for `psychostats.campaign.Campaign.run`.
    say
        Called with a line as each step begins.

    Raises
    ------
    InputError
        If there are too many fits, or `out` holds something that is no report.
    """
    require_report_folder(out)
    results = out / RESULTS
    campaign = plan.campaign(results)
    campaign.claim(overwrite)
    missing = len(campaign.missing(plan.tasks))
    if missing > MANY and not yes:
        look_ahead(campaign, plan.tasks, executor, f"fits ({say_size(plan)})").require_meant(yes)
    say(f"{say_size(plan)}; {missing:,} to do by {executor.describe()}")
    found = run_multiverse(plan, results, executor, progress=progress)
    with part_of(out) as part:
        say("drawing figures")
        write_multiverse_tables(found, part / "tables")
        figures = draw_multiverse(found, part / "figures")
        write_documents(compose_multiverse(found, figures, command), works_of(found), part, say)
        put_report(part, out)
    say(f"{out / 'report.html'} and {out / 'report.pdf'} written")
    return found


def write_multiverse_tables(found: Multiverse, folder: Path) -> Path:
    """Write ``specifications, choices, dimensions, summary`` as CSV; return the folder."""
    folder.mkdir(parents=True)
    choices, dimensions = tabulate_measures(found)
    tables = {
        "specifications": found.table,
        "choices": choices,
        "dimensions": dimensions,
        "summary": tabulate_summary(found),
    }
    for name, frame in tables.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return folder


def draw_multiverse(found: Multiverse, folder: Path) -> dict[str, Path]:
    """Draw every figure of a multiverse; return SVG files by name."""
    folder.mkdir(parents=True)
    plots: dict[str, Any] = {}
    measure = found.plan.study.measure
    titles = {
        "share": "Share of variance (%)",
        "spread": f"Moves by ({measure.short})",
        "changed_share": "Conclusion changes (%)",
    }
    (choices, dimensions), summary = tabulate_measures(found), tabulate_summary(found)
    for number, (question, contrast, experiment, rows) in enumerate(found.parts(), start=1):
        once = rows[rows["same_as"] == rows["specification"]]
        if once["estimate"].notna().any():
            plots[f"specifications_{number}"] = plot_specifications(
                _scaled(once, measure.factor, "estimate", "conf_low", "conf_high"),
                found.plan.choices,
                WORDS,
                y_label=f"{name_part(found, question, contrast, experiment)} ({measure.short})",
                interval_label=interval_label(found),
            )
    pairs = list(dict.fromkeys((question, contrast) for question, contrast, _, _ in found.parts()))
    for number, (question, contrast) in enumerate(pairs, start=1):
        mine = [one[(one["question"] == question) & (one["contrast"] == contrast)] for one in (choices, dimensions)]
        if mine[0]["mean"].notna().any():
            label = f"{label_of(name_part(found, question, contrast), 80)} ({measure.units})"
            own = summary[(summary["question"] == question) & (summary["contrast"] == contrast)]
            plots[f"choices_{number}"] = plot_choices(
                _scaled(mine[0], measure.factor, "mean", "lowest", "highest"),
                WORDS,
                own={str(one["experiment"]): measure.factor * float(one["estimate"]) for one in own.to_dict("records")},
                x_label=label,
            )
            measured = _scaled(_scaled(mine[1], 100.0, *_PERCENT), measure.factor, "spread")
            plots[f"dimensions_{number}"] = plot_dimensions(measured, WORDS, titles)
    note = "Simulated participants." if found.plan.study.study.simulated else ""
    return {name: save_figure(add_note(plot, note), folder / name, png=True) for name, plot in plots.items()}


def _scaled(rows: pd.DataFrame, factor: float, *names: str) -> pd.DataFrame:
    return rows.assign(**{name: factor * rows[name].astype(float) for name in names})
