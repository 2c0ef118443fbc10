"""The command about the next study: power. Thin words over the rooms below, as in cli.py.

In: what a user typed.  Out: data on stdout, talk on stderr, an exit code.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from psychostats.arguments import read_counts
from psychostats.errors import InputError
from psychostats.options import DryRun, Json, Quiet, Scheduler, StudyFile, Workers, Yes, choose_executor
from psychostats.studies import typed
from psychostats.terminal import count, print_data, print_json, say

if TYPE_CHECKING:
    from psychostats.executors import Executor
    from psychostats.planning import Question
    from psychostats.power import Power
    from psychostats.power_forecast import Forecast
    from psychostats.progress import Show


def power(
    study: StudyFile,
    out: Annotated[Path, typer.Option("--out", help="Folder for the report and every simulation.")],
    fit: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FITDIR", help="Take a fit's draws, or estimates, for true.", show_default=False
        ),
    ] = None,
    experiment: Annotated[str | None, typer.Option("--experiment", help="Which one; the first by default.")] = None,
    participants: Annotated[
        str | None, typer.Option("--participants", metavar="N,N", help="Numbers of people.", show_default=False)
    ] = None,
    main: Annotated[
        str | None, typer.Option("--main", metavar="N,N", help="Numbers of main trials a person.", show_default=False)
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option("--pairs", metavar="N,N", help="Numbers of features (pairs) or other items.", show_default=False),
    ] = None,
    simulations: Annotated[
        int | None, typer.Option("--simulations", help="Simulated studies of each design.", show_default="500")
    ] = None,
    wished: Annotated[
        float | None, typer.Option("--power", help="Wished probability to detect.", show_default="0.8")
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option("--precision", help="Wished half width of the interval, as 0.03.", show_default=False),
    ] = None,
    quantity: Annotated[
        str | None, typer.Option("--quantity", help="Wish about contrast or change.", show_default="contrast")
    ] = None,
    null: Annotated[
        bool | None, typer.Option("--null/--no-null", help="Also count false positives.", show_default="null")
    ] = None,
    nuts: Annotated[
        int | None, typer.Option("--nuts", help="Simulated studies to sample as well.", show_default="20")
    ] = None,
    lapses: Annotated[
        bool, typer.Option("--lapses", help="Also ask what lapses and rules about catch trials do ([lapses]).")
    ] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of all simulations.", show_default="1")] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the simulations of another question in --out.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say how many participants, trials and features the next study needs.

    Simulates studies of several sizes, analyses each as the study file says and counts: precision, power, errors of
    sign and size, false positives, all with their Monte Carlo error; recommends the cheapest design that meets the
    wish. What was simulated is kept, so a run that was stopped goes on. Exit code 2 where no design meets the wish.
    """
    from psychostats.lapse_section import chapter_lapses
    from psychostats.lapse_tables import summarise
    from psychostats.lapses import ask_lapses, run_lapses
    from psychostats.lapses import campaign_of as lapses_of
    from psychostats.planning import ask
    from psychostats.power import estimate_power
    from psychostats.power_forecast import forecast
    from psychostats.power_report import LAPSES, SIMULATIONS, write_power
    from psychostats.power_sentences import describe_designs, say_unmet
    from psychostats.power_simulations import campaign_of
    from psychostats.progress import shown_progress
    from psychostats.report import require_report_folder
    from psychostats.study import read_study

    if quantity not in (None, "contrast", "change"):
        raise InputError(f"the quantity '{quantity}' is unknown; allowed are contrast and change.")
    executor = choose_executor(workers, scheduler)
    require_report_folder(out)
    given = {
        "experiment": experiment,
        "participants": read_counts("--participants", participants),
        "main": read_counts("--main", main),
        "pairs": read_counts("--pairs", pairs),
        "simulations": simulations,
        "power": wished,
        "precision": precision,
        "quantity": quantity,
        "null": null,
        "nuts": nuts,
        "seed": seed,
    }
    read = read_study(study)
    question = ask(read, {name: value for name, value in given.items() if value is not None}, fit)
    beside = ask_lapses(read) if lapses else None
    folder = out / SIMULATIONS
    campaigns = [campaign_of(question, folder), *([lapses_of(beside, out / LAPSES)] if beside else [])]
    for campaign in () if overwrite else campaigns:
        campaign.claim(False)
    ahead = forecast(question, folder, beside, out / LAPSES, anew=overwrite)
    if _foretell(question, ahead, executor, dry_run, yes, quiet, as_json):
        return
    for campaign in campaigns if overwrite else ():
        campaign.claim(True)

    def progress(what: str) -> AbstractContextManager[Show]:
        return shown_progress(what, lambda line: say(line, quiet), bar=False if quiet else None)

    found = estimate_power(question, folder, executor, progress=progress, say=lambda line: say(line, quiet))
    more = []
    if beside is not None:
        say(f"simulating {beside.simulations:,} studies of each of {len(beside.scenarios)} scenarios of lapses", quiet)
        with progress("scenarios of lapses") as show:
            runs = run_lapses(beside, out / LAPSES, executor, progress=show)
        more.append(chapter_lapses(beside, summarise(beside, runs)))
    write_power(found, out, more=more, command=typed(), say=lambda line: say(line, quiet))
    if as_json:
        print_json(_as_json(found, out))
    else:
        print_data(describe_designs(found))
    if found.unmet:
        raise InputError(say_unmet(found))


def _foretell(
    question: Question, ahead: Forecast, executor: Executor, dry_run: bool, yes: bool, quiet: bool, as_json: bool
) -> bool:
    """Say what is left to do; refuse what is too much to be meant; return whether that was all that was asked for."""
    from psychostats.outlook import MANY
    from psychostats.timing import duration

    for size, why in question.left_out:
        say(f"left out: {question.say(size)}: {why}", quiet)
    if not dry_run and (ahead.left <= MANY or yes):
        return False
    if dry_run:
        say("timing a simulated study of each design", quiet)
    seconds, where = ahead.seconds() / executor.workers, executor.describe()
    done = f", of which {ahead.fits - ahead.left:,} are done; the rest takes" if ahead.fits > ahead.left else ","
    what = f"{count(ahead.fits, 'fit')} of {count(len(question.sizes), 'design')}"
    said = f"{what}{done} about {duration(seconds)} on {where}"
    if not dry_run:
        raise InputError(f"{said}; add --yes if that is meant, or ask for fewer.")
    if as_json:
        told = {"fits": ahead.fits, "done": ahead.fits - ahead.left, "seconds": seconds, "where": where}
        print_json({"simulated": True} | told | {"designs": [vars(size) for size in question.sizes]})
    else:
        print_data(
            "\n".join(f"{question.say(size)}: {question.settings.simulations:,} simulations" for size in question.sizes)
        )
        say(f"{said}; nothing was simulated.", quiet)
    return True


def _as_json(found: Power, out: Path) -> dict[str, Any]:
    """Return everything as JSON holds it, full precision."""
    from psychostats.power_sentences import judge_calibration, say_recommendation
    from psychostats.power_simulations import size_of
    from psychostats.store import plain, records

    question = found.question

    needed = found.needed(size_of(found.best))
    return {
        "simulated": True,
        "experiment": question.experiment,
        "truth": question.truth.words,
        "wish": {"quantity": question.wished, "power": question.power, "precision": question.precision},
        "probability": question.asked.probability,
        "simulations": question.settings.simulations,
        "seed": question.settings.seed,
        "met": None if not found.unmet and found.recommended is None else found.recommended is not None,
        "recommended": plain(found.recommended),
        "open": plain([row | {"more_simulations": found.more(row)} for row in found.open]),
        "extrapolated_participants": needed if found.recommended is None else None,
        "designs": records(found.designs),
        "null": records(found.null),
        "calibration": records(found.calibration),
        "calibrated": " ".join(judge_calibration(found)),
        "failures": records(found.failures),
        "said": say_recommendation(found),
        "html": str(out / "report.html"),
        "pdf": str(out / "report.pdf"),
    }
