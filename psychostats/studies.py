"""The commands about whole studies, from check to multiverse. Thin words over the rooms below, as in cli.py.

In: what a user typed.  Out: data on stdout, talk on stderr, an exit code.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from psychostats.arguments import read_filters, read_mapping
from psychostats.errors import InputError
from psychostats.options import (
    Demographics,
    DryRun,
    Filters,
    Json,
    Key,
    Maps,
    Missing,
    Quiet,
    Runs,
    Scheduler,
    SkipBad,
    StudyFile,
    Trials,
    Workers,
    Yes,
    choose_executor,
)
from psychostats.terminal import count, count_dropped, print_data, print_json, say

if TYPE_CHECKING:
    from psychostats.parts import LeftOut
    from psychostats.study import Study
    from psychostats.trials import TrialTable

NOT_CONVERGED = 3


def check(
    trials: Trials,
    study: Annotated[Path | None, typer.Option("--study", help="Study file (TOML).")] = None,
    formula: Annotated[str | None, typer.Option("--formula", help="Formula whose columns are needed.")] = None,
    maps: Maps = None,
    filters: Filters = None,
    missing: Missing = "error",
    runs: Runs = None,
    key: Key = None,
    skip_bad: SkipBad = False,
    privacy: Annotated[
        bool, typer.Option("--privacy", help="Instead: list the columns that could identify people.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List every fault of a trial table: errors, warnings."""
    from psychostats.features import examine_joined, read_run
    from psychostats.formula import parse_formula
    from psychostats.pseudonyms import find_key
    from psychostats.recordings import hide_source
    from psychostats.study import read_study
    from psychostats.trials import examine_trials

    if study is not None and formula is not None:
        raise InputError("give --study or --formula, not both.")
    if privacy:
        _list_identifying(trials, read_study(study) if study else None, maps or [], as_json, quiet)
        return
    run = read_run(*runs) if runs else None
    options: dict[str, Any] = read_study(study).read_options(run) if study else {}
    if formula is not None:
        variables = parse_formula(formula).variables
        options["needed"] = run.lacking(variables) if run else variables
    if maps:
        options["columns"] = {**(options.get("columns") or {}), **read_mapping(maps)}
    if filters:
        options["filters"] = {**(options.get("filters") or {}), **read_filters(filters)}
    if missing not in ("error", "drop"):
        raise InputError(f"--missing is '{missing}'; allowed are error and drop.")
    if missing == "drop":
        options["missing"] = "drop"
    options |= {"skip_bad": skip_bad, "say": lambda line: say(line, quiet)}
    options["key"] = find_key(key, say=options["say"])
    table = examine_joined(trials, run, **options) if run else examine_trials(trials, **options)
    errors, warnings, name = table.errors, table.warnings, hide_source(trials)
    if as_json:
        print_json({"file": name, "errors": len(errors), "warnings": len(warnings), **_findings(table)})
    else:
        for fault in table.faults:
            print_data(f"{fault.severity}: {fault.message}")
        for note in table.notes:
            print_data(f"note: {note}")
        for left in table.left_out:
            print_data(f"left out: {count_left_out(left)}")
    people = f" of {count(table.frame['participant'].nunique(), 'participant')}" if "participant" in table.frame else ""
    held = f"{count(len(table.frame), 'trial')}{people}, " if not errors else ""
    held += f"{count_dropped(table.n_dropped, table.n_infinite)} dropped, " if table.n_dropped else ""
    held += f"{count(len(table.sources), 'file')}, " if len(table.sources) > 1 else ""
    say(f"{name}: {held}{count(len(errors), 'error')}, {count(len(warnings), 'warning')}.", quiet)
    if errors:
        raise typer.Exit(2)


def _list_identifying(trials: str, study: Study | None, maps: list[str], as_json: bool, quiet: bool) -> None:
    """Print which columns could identify people; findings are warnings, so they end with exit code 0."""
    from psychostats.errors import DataError
    from psychostats.privacy import describe_findings, find_identifying
    from psychostats.recordings import PLAIN, hide_source, read_recordings

    columns = {**(study.columns if study else {}), **read_mapping(maps)}
    raw = read_recordings(trials, columns=columns, reading=study.reading() if study else PLAIN)
    if not raw.rows:
        raise DataError(raw.faults)
    found, name = find_identifying(raw, participant=columns.get("participant")), hide_source(trials)
    if as_json:
        print_json({"file": name, "findings": [asdict(one) for one in found]})
    elif found:
        print_data(describe_findings(found))
    say(f"{name}: {count(len(found), 'column')} that could identify people.", quiet)


def _findings(table: TrialTable) -> dict[str, Any]:
    """Return what was found as JSON holds it."""
    return {
        "faults": [asdict(fault) | {"rows": list(fault.rows)} for fault in table.faults],
        "notes": list(table.notes),
        "sources": [asdict(source) for source in table.sources],
        "left_out": [asdict(left) for left in table.left_out],
    }


def count_left_out(left: LeftOut) -> str:
    """Return what was left out, and how many that are."""
    where = f" of {left.experiment}" if left.experiment else ""
    return f"{left.step}{where}: {count(left.participants, 'participant')}, {count(left.trials, 'trial')}"


def simulate(
    study: StudyFile,
    out: Annotated[Path, typer.Option("--out", help="Trial table to write: .csv or .parquet.")],
    seed: Annotated[int | None, typer.Option("--seed", help="Seed; the study file's own by default.")] = None,
    runs: Runs = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a study's participants.

    With --run they are shown the stimuli of a features run. A README beside the trials says that they are simulated,
    and what is true of them.
    """
    from psychostats.features import read_run
    from psychostats.simulation import write_simulation
    from psychostats.study import read_study

    run = read_run(*runs) if runs else None
    rows, readme = write_simulation(read_study(study), out, seed=seed, run=run)
    say(f"{rows:,} simulated trials written to {out}, and what is true of them to {readme}", quiet)
    if as_json:
        print_json({"trials": str(out), "readme": str(readme), "rows": rows, "simulated": True})


def report(
    trials: Trials,
    study: StudyFile,
    out: Annotated[Path, typer.Option("--out", help="Folder for the report.")],
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of every model instead of its own.")] = None,
    runs: Runs = None,
    key: Key = None,
    demographics: Demographics = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Analyse a study and write report.html and .pdf.

    With --run the features and stimuli of that run are part of it: contributions, single features, images.
    """
    from psychostats.features import read_run
    from psychostats.pseudonyms import find_key
    from psychostats.report import write_report
    from psychostats.study import read_study

    good = write_report(
        read_study(study).reseeded(seed),
        trials,
        out,
        run=read_run(*runs) if runs else None,
        key=find_key(key, [out], lambda line: say(line, quiet)),
        export=demographics,
        skip_bad=skip_bad,
        command=typed(),
        progress=False if quiet else None,
        say=lambda line: say(line, quiet),
    )
    if as_json:
        print_json({"html": str(out / "report.html"), "pdf": str(out / "report.pdf"), "converged": good})
    end(good)


def reanalyze(
    new: Annotated[
        str,
        typer.Argument(metavar="NEW", help="New trials: a file, folder, archive or database.", show_default=False),
    ],
    like: Annotated[
        Path, typer.Option("--like", help="Study file whose analysis is made again, or a fit.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the report.")],
    old: Annotated[
        Path | None,
        typer.Option("--old", metavar="REPORT", help="The old study's report, whose fits are used unless it changed."),
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Extend the study by the new trials.")] = False,
    skip_bad: SkipBad = False,
    maps: Maps = None,
    filters: Filters = None,
    missing: Annotated[
        str | None,
        typer.Option("--missing", help="New rows that lack a needed value: error, or drop; as the fit did, with one."),
    ] = None,
    runs: Runs = None,
    key: Key = None,
    demographics: Demographics = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of every model instead of its own.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Lay new participants beside a study and write report.html and .pdf.

    The old study, the new one, both together, what differs, and whether the conclusion changed. Participants' ids of
    recruiting platforms become pseudonyms under a key, which is made on first use; the same person is the same in
    every file.
    """
    from psychostats.conclusions import conclude, describe_conclusions
    from psychostats.features import read_run
    from psychostats.pseudonyms import read_key
    from psychostats.reanalysis_report import Asked, report_reanalysis
    from psychostats.store import records

    if missing not in (None, "error", "drop"):
        raise InputError(f"--missing is '{missing}'; allowed are error and drop.")
    asked = Asked(
        names=read_mapping(maps or []),
        filters=read_filters(filters or []),
        run=read_run(*runs) if runs else None,
        report=old,
        export=demographics,
        key=read_key(key, [out], lambda line: say(line, quiet)),
        append=append,
        skip_bad=skip_bad,
        missing=missing,
        seed=seed,
    )
    found = report_reanalysis(
        new, like, out, asked, command=typed(), progress=False if quiet else None, say=lambda line: say(line, quiet)
    )
    judged = conclude(found)
    if as_json:
        made = {"html": str(out / "report.html"), "pdf": str(out / "report.pdf"), "converged": found.converged}
        print_json(made | {"conclusions": records(judged)})
    else:
        print_data(describe_conclusions(found, judged))
    end(found.converged)


def multiverse(
    study: StudyFile,
    out: Annotated[Path, typer.Option("--out", help="Folder for the report and every fit.", show_default=False)],
    trials: Annotated[
        str | None,
        typer.Argument(metavar="[TRIALS]", help="Trials; those of the study file by default.", show_default=False),
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="What fits: laplace, or nuts.")] = "laplace",
    workers: Workers = None,
    scheduler: Scheduler = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of other trials.")] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of every model instead of its own.")] = None,
    runs: Runs = None,
    key: Key = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit every defensible analysis of a study and write report.html and .pdf.

    Exclusions, predictors, codings, families and group effects, each as the study has them and otherwise ([multiverse]
    of the study file, or defaults): the specification curve, and which choices matter. Fits that are done are kept, so
    an interrupted run goes on.
    """
    from typing import get_args

    from psychostats.features import read_run
    from psychostats.multiverse_plan import Engine, plan_multiverse
    from psychostats.multiverse_report import RESULTS, describe_plan, write_multiverse
    from psychostats.multiverse_sentences import describe_multiverse, tabulate_measures, tabulate_summary
    from psychostats.outlook import look_ahead
    from psychostats.progress import shown_progress
    from psychostats.pseudonyms import find_key
    from psychostats.store import plain, records
    from psychostats.study import read_study

    if engine not in get_args(Engine):
        raise InputError(f"--engine is '{engine}'; a multiverse is fitted by {' or '.join(get_args(Engine))}.")
    executor = choose_executor(workers, scheduler)
    asked: Any = engine
    plan = plan_multiverse(
        read_study(study).reseeded(seed),
        trials,
        engine=asked,
        run=read_run(*runs) if runs else None,
        key=find_key(key, [out], lambda line: say(line, quiet)),
        skip_bad=skip_bad,
        say=lambda line: say(line, quiet),
    )
    if dry_run:
        outlook = look_ahead(plan.campaign(out / RESULTS), plan.tasks, executor, "fits")
        if as_json:
            size = {"specifications": len(plan.specifications), "fits": len(plan.tasks)}
            print_json(size | outlook.row() | {"choices": plain(plan.choices)})
        else:
            print_data(f"{describe_plan(plan)}\n{outlook.describe()}")
        return
    with shown_progress("fits", lambda line: say(line, quiet), bar=False if quiet else None) as progress:
        found = write_multiverse(
            plan,
            out,
            executor,
            yes=yes,
            overwrite=overwrite,
            command=typed(),
            progress=progress,
            say=lambda line: say(line, quiet),
        )
    if as_json:
        choices, dimensions = tabulate_measures(found)
        tables = {"summary": tabulate_summary(found), "dimensions": dimensions, "choices": choices}
        made = {"html": str(out / "report.html"), "pdf": str(out / "report.pdf"), "converged": found.converged}
        print_json(made | {name: records(table) for name, table in tables.items()})
    else:
        print_data(describe_multiverse(found))
    end(found.converged)


def typed() -> str:
    """Return the command as it was typed, without platforms' ids and passwords."""
    from psychostats.databases import hide_password
    from psychostats.identity import redact

    words = (hide_password(word) if "://" in word else word for word in sys.argv[1:])
    return redact(shlex.join(["psychostats", *words]))


def end(good: bool) -> None:
    """End with exit code 3 where a fit may not be read."""
    if not good:
        raise typer.Exit(NOT_CONVERGED)
