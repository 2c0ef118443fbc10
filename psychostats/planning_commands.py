"""The command about the next study: power. Thin words over the rooms below, as in cli.py.

In: what a user typed.  Out: data on stdout, talk on stderr, an exit code.
"""

from __future__ import annotations

import time
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
    from psychostats.lapses import Question as Lapses
    from psychostats.planning import Question
    from psychostats.power import Power
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
    if _forecast(question, beside, executor, dry_run, yes, quiet, as_json):
        return
    folder = out / SIMULATIONS
    campaign_of(question, folder).claim(overwrite)
    if beside is not None:
        lapses_of(beside, out / LAPSES).claim(overwrite)

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


def _forecast(
    question: Question,
    beside: Lapses | None,
    executor: Executor,
    dry_run: bool,
    yes: bool,
    quiet: bool,
    as_json: bool,
) -> bool:
    """Say what will be done; refuse what is too much to be meant; return whether that was all that was asked for."""
    from psychostats.lapses import campaign_of as lapses_of
    from psychostats.lapses import lapse_tasks
    from psychostats.outlook import MANY, time_task
    from psychostats.power import fits_of
    from psychostats.timing import duration

    if dry_run:
        say("timing a simulated study of each design", quiet)
    fits = fits_of(question) + (beside.fits if beside else 0)
    for size, why in question.left_out:
        say(f"left out: {question.say(size)}: {why}", quiet)
    if not dry_run and (fits <= MANY or yes):
        return False
    seconds, where = _seconds(question), executor.describe()
    if beside is not None:
        seconds += (
            beside.simulations * len(beside.scenarios) * time_task(lapses_of(beside, Path()), lapse_tasks(beside)[0])
        )
    seconds /= executor.workers
    said = f"{count(fits, 'fit')} of {count(len(question.sizes), 'design')}, about {duration(seconds)} on {where}"
    if not dry_run:
        raise InputError(f"{said}; add --yes if that is meant, or ask for fewer.")
    if as_json:
        sizes = [vars(size) for size in question.sizes]
        print_json({"simulated": True, "fits": fits, "seconds": seconds, "where": where, "designs": sizes})
    else:
        print_data(
            "\n".join(f"{question.say(size)}: {question.settings.simulations:,} simulations" for size in question.sizes)
        )
        say(f"{said}; nothing was simulated.", quiet)
    return True


def _seconds(question: Question) -> float:
    """Return about how many seconds of one core a question takes, by simulating a study of each design once."""
    from psychostats.power_simulations import campaign_of, simulate_once, tasks_of
    from psychostats.threads import one_thread

    job, took = campaign_of(question, Path()).shared, dict[Any, float]()
    with one_thread():
        simulate_once(job, tasks_of(question, "power", question.sizes[:1], 1)[0].values)  # what is imported first
        for size in question.sizes:
            began = time.perf_counter()
            simulate_once(job, tasks_of(question, "power", [size], 1)[0].values)
            took[size] = time.perf_counter() - began
        largest = max(took, key=lambda size: took[size])
        s, sampled = question.settings, 0.0
        if question.sampler is not None:
            began = time.perf_counter()
            simulate_once(job, tasks_of(question, "nuts", [largest], 1)[0].values)
            sampled = 2 * min(s.nuts, s.simulations) * (time.perf_counter() - began)
    return s.simulations * (sum(took.values()) + 2 * s.null * took[largest]) + sampled


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
        "calibrated": judge_calibration(found),
        "failures": records(found.failures),
        "said": say_recommendation(found),
        "html": str(out / "report.html"),
        "pdf": str(out / "report.pdf"),
    }
