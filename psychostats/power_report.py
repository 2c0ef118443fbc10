"""The report of a power analysis: a folder of simulations, tables, figures, one HTML file and one PDF.

In: a `Power` and the chapters about it.  Out: the folder.  Text and numbers come from the rooms below; here they are
put on disk.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from psychostats.chapters import Chapter
from psychostats.figures import save_figure
from psychostats.power import Power, single_rows
from psychostats.power_section import chapters_of, compose_power, with_note, works_of
from psychostats.report import part_of, put_report, write_documents

#: Where the simulations lie within the folder of a report.
SIMULATIONS = "simulations"
#: And those of lapses and careless people.
LAPSES = "lapses"


def write_power(
    power: Power,
    out: Path,
    *,
    more: Sequence[Chapter] = (),
    command: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Write the report of a power analysis.

    Parameters
    ----------
    power
        What was found; its simulations lie in ``out/simulations`` already.
    out
        Folder: ``report.html, report.pdf, report.docx, references.bib, figures/, tables/``.
    more
        Chapters of others, which stand behind those of the power analysis.
    command
        What to print as the command that made it.
    say
        Called with a line as each step begins.
    """
    chapters = [*chapters_of(power), *more]
    with part_of(out) as part:
        say("drawing figures")
        (part / "tables").mkdir()
        (part / "figures").mkdir()
        figures = {}
        for chapter in chapters:
            for name, table in chapter.tables.items():
                _write_table(table, part / "tables" / f"{name}.csv")
            for name, plot in chapter.plots.items():
                figures[name] = save_figure(with_note(plot), part / "figures" / name, png=True)
        write_simulations(power, part / "tables" / "simulations.csv")
        write_documents(compose_power(power, chapters, figures, command), works_of(power), part, say)
        put_report(part, out)
    say(f"{out / 'report.html'} and {out / 'report.pdf'} written")


def _write_table(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, lineterminator="\n")


def write_simulations(power: Power, path: Path) -> None:
    """Write a row a simulated study and quantity, one after the other: memory does not grow with their number."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = None
        for row in single_rows(power):
            if writer is None:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
