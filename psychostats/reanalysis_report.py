"""The report of a reanalysis: a folder of fits, tables, figures, one HTML file and one PDF, as a study's report has it.

In: a study (or a fit) and what an experiment wrote of new people.  Out: the folder, and the study extended where that
is asked for.  Text and numbers come from the rooms below; here they are put on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from psychostats.additions import append, read_extended, require_addable
from psychostats.analysis import file_name
from psychostats.conclusions import conclude
from psychostats.effects import ROPE_PROBABILITY
from psychostats.errors import DataError, InputError
from psychostats.features import FeaturesRun
from psychostats.figures import add_note, label_of, save_figure
from psychostats.flow import plot_flow
from psychostats.intervals import Interval, Rope
from psychostats.ledger import Ledger, read_ledger
from psychostats.parts import Source
from psychostats.plots import plot_contrasts
from psychostats.pooled import STUDY, interval_of
from psychostats.pseudonyms import fingerprint
from psychostats.reanalysis import PEOPLE, Reanalysis, exclude, leave_out_returning, reanalyse, study_of_fit
from psychostats.reanalysis_figures import plot_accumulation
from psychostats.reanalysis_section import compose_reanalysis, works_of
from psychostats.recordings import hash_sources, name_source
from psychostats.report import part_of, put_report, require_report_folder, write_documents
from psychostats.results import ALL
from psychostats.study import read_study
from psychostats.timing import Stopwatch


@dataclass(frozen=True)
class Asked:
    """What a reanalysis was asked for, beside the two studies.

    Parameters
    ----------
    names, filters
        Columns of the new trials (our name -> theirs) and the rows to keep, before what the study file says.
    run
        The features run that the stimuli come from.
    export
        A platform's demographic export of the new people, in place of the one that the study file names.
    report
        The old study's report, whose fits are taken where nothing changed.
    key
        The key of participants' pseudonyms.
    append
        Extend the study by the new trials, once the report is written.
    skip_bad
        Leave out files and sessions with faults, and count them.
    missing
        What to do with new rows that lack a needed cell, ``error`` or ``drop``; by default ``drop`` beside a fit that
        dropped some itself.
    seed
        Of every model, instead of its own.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    filters: Mapping[str, Any] = field(default_factory=dict)
    run: FeaturesRun | None = None
    export: Path | None = None
    report: Path | None = None
    key: bytes | None = None
    append: bool = False
    skip_bad: bool = False
    missing: str | None = None
    seed: int | None = None


def report_reanalysis(
    new: str,
    like: Path,
    out: Path,
    asked: Asked,
    *,
    command: str = "",
    progress: bool | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Reanalysis:
    """Reanalyse a study with new participants and write the report.

    Parameters
    ----------
    new
        What an experiment wrote: a file, folder, archive or database, as `psychostats.trials.examine_trials` takes it.
    like
        The study file whose analysis is made again, with ``[study] trials``; or the directory of a fit.
    out
        Folder for the report.
    asked
        What else was asked for.
    command
        What to print as the command that made it.
    progress
        Show the sampler's progress bar; by default on a terminal.
    say
        Called with a line as each step begins.

    Raises
    ------
    InputError
        If the trials cannot be analysed, nothing of them is new, or `out` holds something that is no report; nothing
        is added to the study then.
    """
    require_report_folder(out)
    given = like.is_dir()
    if given and asked.append:
        raise InputError(f"--append extends a study, and {like} is a fit; give the study file with --like.")
    study, old = study_of_fit(like) if given else (read_study(like).reseeded(asked.seed), None)
    names = dict(asked.names)
    person = study.report.group
    if given and person != "participant" and person.startswith(PEOPLE):
        # The people of a fit are those of its group, whatever it calls them; its formula needs them by that name too.
        names = {"participant": names.get(person, person), person: names.get(person, person)} | names
    reading = study.model_copy(
        update={"columns": {**study.columns, **names}, "filter": {**study.filter, **asked.filters}}
    )
    ledger = None if given else read_ledger(study)
    print_of = fingerprint(asked.key) if asked.key else ""
    dropped = old is not None and old.made is not None and old.made.provenance["data"]["dropped"] > 0
    options: dict[str, Any] = {"key": asked.key, "skip_bad": asked.skip_bad}
    options["missing"] = asked.missing or ("drop" if dropped else "error")
    options["export"] = study.export(asked.export)
    if ledger is not None:
        options["reading"] = replace(reading.reading(), known=ledger.hashes)
    name = name_source(new)
    say(f"reading {name}")
    examined = reading.examine(new, asked.run, **options, say=say)
    if ledger is not None:
        _require_new(ledger, examined.sources, asked.skip_bad, say)
    if examined.errors:
        raise DataError(examined.errors)
    if old is None:
        say(f"reading the trials of {like.name}")
        held = read_extended(study, run=asked.run, ledger=ledger, key=asked.key, skip_bad=asked.skip_bad)
        source = {"file": name_source(study.study.trials), "sha256": hash_sources(held.sources)}
        old = exclude(study, study.reanalysis.names[0], held, source)
        if asked.append and ledger is not None:
            require_addable(ledger, examined.frame, examined.sources, print_of, own=held.frame)
    for fault in examined.warnings:
        say(f"  warning: {fault.message}")
    source = {"file": name, "sha256": hash_sources(examined.sources)}
    apart, returning = leave_out_returning(examined, old, study.report.group)
    fresh = replace(exclude(reading, study.reanalysis.names[1], apart, source), returning=returning)
    found = reanalyse(study, old, fresh, out / "fits", reuse=asked.report, progress=progress, say=say)
    write_reanalysis(found, out, command=command, say=say)
    if asked.append and ledger is not None and old.examined is not None:
        ledger = append(ledger, examined.frame, examined.sources, study, print_of, own=old.examined.frame)
        say(f"the study was extended; {ledger.path} says by what")
    return found


def _require_new(ledger: Ledger, sources: Sequence[Source], skip_bad: bool, say: Callable[[str], None]) -> None:
    """Refuse new trials of which every file came before, and say how many of them did."""
    came, bad = ledger.known(sources), [one for one in sources if one.status == "skipped"]
    if came and len(came) < len(sources):
        say(f"{len(came)} of {len(sources)} files came before and are passed over; {ledger.path} says when")
    if came and bad and skip_bad and len(came) + len(bad) == len(sources):
        raise InputError(
            f"nothing is new: {len(came)} of {len(sources)} files came before, and no other can be read, such as "
            f"{bad[0].name}; 'psychostats check' says why."
        )
    if came and len(came) == len(sources):
        source, batch, when = came[0]
        place = f"was added on {when} (addition {batch})" if batch else "holds the study's own trials"
        more = f", and so with {len(came) - 1} more" if len(came) > 1 else ""
        raise InputError(f"nothing is new: the file {source.name} {place}{more}; give files that the study lacks.")


def write_reanalysis(
    found: Reanalysis, out: Path, *, command: str = "", say: Callable[[str], None] = lambda line: None
) -> None:
    """Write the report of a reanalysis.

    Parameters
    ----------
    found
        What was found; its fits lie in ``out/fits`` already.
    out
        Folder: ``report.html, report.pdf, report.docx, references.bib, fits/, figures/, tables/``.
    command
        What to print as the command that made it.
    say
        Called with a line as each step begins.
    """
    watch = Stopwatch()
    with part_of(out) as part:
        with watch.time("tables and figures"):
            say("drawing figures")
            write_reanalysis_tables(found, part / "tables")
            figures = draw_reanalysis(found, part / "figures")
        found.seconds.update(watch.stop())
        write_documents(compose_reanalysis(found, figures, command), works_of(found), part, say)
        put_report(part, out)
    say(f"{out / 'report.html'} and {out / 'report.pdf'} written in {sum(found.seconds.values()):.0f} s")


def write_reanalysis_tables(found: Reanalysis, folder: Path) -> Path:
    """Write the tables of a reanalysis; return the folder.

    For each experiment ``EXPERIMENT_{accuracy,effects,terms,checks}.csv`` and, where trials are known,
    ``_exclusions.csv``, each with the column ``study``; for all of them ``between, conclusions, accumulation``.
    """
    folder.mkdir(parents=True)
    for one in found.comparisons:
        parts = {
            "accuracy": _of(found.accuracy, one.experiment),
            "effects": pd.concat(
                [table.drop(columns=".at", errors="ignore") for table in (one.means, one.contrasts, one.interaction)],
                ignore_index=True,
            ),
            "terms": pd.concat(
                [
                    made.terms(interval=interval_of(made, found.study.effects)).assign(**{STUDY: name})
                    for name, made in one.fits.items()
                ],
                ignore_index=True,
            ),
            "checks": pd.concat(
                [
                    pd.DataFrame([check.row() for check in made.checks]).assign(**{STUDY: name})
                    for name, made in one.fits.items()
                ],
                ignore_index=True,
            ),
            "exclusions": _exclusions(found, one.experiment),
        }
        for kind, frame in parts.items():
            if len(frame):
                frame.to_csv(folder / f"{file_name(one.experiment)}_{kind}.csv", index=False)
    between = [one.between.assign(experiment=one.experiment) for one in found.comparisons]
    pd.concat(between, ignore_index=True).to_csv(folder / "between.csv", index=False)
    conclude(found).to_csv(folder / "conclusions.csv", index=False)
    found.accumulation.to_csv(folder / "accumulation.csv", index=False)
    files = [
        {STUDY: side.name, **{name: getattr(source, name) for name in source.__dataclass_fields__}}
        for side in (found.old, found.new)
        for source in (side.examined.sources if side.examined else ())
    ]
    if files:
        pd.DataFrame(files).to_csv(folder / "files.csv", index=False)
    robust = [side.robustness.assign(**{STUDY: side.name}) for side in (found.old, found.new) if len(side.robustness)]
    if robust:
        pd.concat(robust, ignore_index=True).to_csv(folder / "robustness.csv", index=False)
    return folder


def _of(table: pd.DataFrame, experiment: str) -> pd.DataFrame:
    return table[table["experiment"] == experiment] if len(table) else table


def _exclusions(found: Reanalysis, experiment: str) -> pd.DataFrame:
    flows = [(side.name, side.excluded.flow) for side in (found.old, found.new) if side.excluded is not None]
    parts = [
        (flow if experiment == ALL else flow[flow["experiment"].astype(str) == experiment]).assign(**{STUDY: name})
        for name, flow in flows
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def draw_reanalysis(found: Reanalysis, folder: Path) -> dict[str, Path]:
    """Draw every figure of a reanalysis; return SVG files by name."""
    folder.mkdir(parents=True)
    effects = found.study.effects
    first = next(iter(found.fits.values()))
    plots = {
        "studies": plot_contrasts(
            _forest(found),
            rope=Rope(100 * ROPE_PROBABILITY.low, 100 * ROPE_PROBABILITY.high),
            x_label=_axis(found),
            interval_label=interval_of(first, effects).label,
        )
    }
    for key, side in (("old", found.old), ("new", found.new)):
        if side.excluded is not None:
            plots[f"flow_{key}"] = plot_flow(side.excluded.flow)
    steps = found.accumulation
    if steps["estimate"].notna().any():
        contrast = steps["contrast"].dropna().iloc[0]
        rows = _in_points(steps[steps["contrast"].eq(contrast)])
        rows[STUDY] = pd.Categorical(rows[STUDY], list(found.names))
        plots["accumulation"] = plot_accumulation(
            rows,
            study=STUDY,
            y_label=f"{label_of(str(contrast).replace(' - ', ' − '), 40)}\n(percentage points)",
            interval_label=f"{Interval('wald', effects.probability).label}, maximum likelihood",
        )
    note = "Simulated participants." if found.study.study.simulated else ""
    return {name: save_figure(add_note(plot, note), folder / name, png=True) for name, plot in plots.items()}


def _forest(found: Reanalysis) -> pd.DataFrame:
    """Return the differences in percentage points, a row a study, a panel an experiment."""
    parts = []
    for one in found.comparisons:
        rows = one.contrasts[(one.contrasts["scale"] == "difference") & (one.contrasts[".at"] == "mean")]
        several = rows["contrast"].nunique() > 1
        names = rows[STUDY].map(lambda name: "both together" if name not in found.names else str(name))
        label = rows["contrast"].str.replace(" - ", " − ", regex=False) + ", " + names if several else names
        parts.append(_in_points(rows).assign(label=label, experiment=one.experiment))
    return pd.concat(parts, ignore_index=True)


def _in_points(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(**{name: 100 * rows[name] for name in ("estimate", "conf_low", "conf_high")})


def _axis(found: Reanalysis) -> str:
    contrasts = found.comparisons[0].contrasts["contrast"].str.replace(" / ", " - ", regex=False).unique()
    what = label_of(contrasts[0].replace(" - ", " − "), 90) if len(contrasts) == 1 else "Difference"
    return f"{what}: accuracy (percentage points)"
