"""The commands: thin words over the rooms below.

Data goes to stdout, talk to stderr. Exit codes: 0 good, 1 internal error, 2 bad input or usage, 3 not converged, or no
maximum of the likelihood.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from psychostats import machines, planning_commands, studies
from psychostats.arguments import read_duration, read_filters, read_mapping, read_values, spread
from psychostats.errors import DataError, InputError, PsychostatsError
from psychostats.interruption import listen, settle
from psychostats.options import (
    Filters,
    FitDir,
    Json,
    Key,
    Maps,
    Missing,
    Quiet,
    Runs,
    Scheduler,
    SkipBad,
    Trials,
    choose_executor,
)
from psychostats.studies import end, typed
from psychostats.terminal import count, count_dropped, counter, find_cache, print_data, print_json, say


class _Commands(typer.core.TyperGroup):
    """The commands; an interruption says what is kept, nothing half-written, and ends as the shell expects."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stopped:
            kept = str(stopped) or "interrupted; nothing half-written is left."
            say(f"\n{kept}")  # below whatever progress was shown
            settle()
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    help="Hierarchical Bayesian psychophysics: from a trials file to a report that can be defended.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        import importlib.metadata

        print_data(f"psychostats {importlib.metadata.version('psychostats')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fit, check and report."""


app.command()(studies.check)


@app.command()
def fit(
    trials: Trials,
    formula: Annotated[str, typer.Option("--formula", help="For example 'correct ~ x + (1 | participant)'.")],
    out: Annotated[Path, typer.Option("--out", help="Directory for the fit.")],
    family: Annotated[
        str,
        typer.Option("--family", help="afc, bernoulli, binomial, cumulative, lognormal, shifted_lognormal, gaussian."),
    ] = "bernoulli",
    link: Annotated[str | None, typer.Option("--link", help="logit or probit, of answers and ratings.")] = None,
    guess: Annotated[float | None, typer.Option("--guess", help="Guess rate, for afc (default 0.5).")] = None,
    lapse: Annotated[str | None, typer.Option("--lapse", help="Lapse rate, a number (default 0), or estimate.")] = None,
    disc: Annotated[str | None, typer.Option("--disc", help="Columns the variance of ratings depends on.")] = None,
    prior: Annotated[list[str] | None, typer.Option("--prior", help="'CLASS ~ DIST', repeatable.")] = None,
    engine: Annotated[
        str,
        typer.Option(
            "--engine", help="nuts or pymc (draws), laplace (maximum likelihood); auto is nuts, or else pymc."
        ),
    ] = "auto",
    reml: Annotated[bool, typer.Option("--reml", help="Restricted likelihood, for gaussian and laplace.")] = False,
    quadrature: Annotated[
        int, typer.Option("--quadrature", help="Nodes of adaptive quadrature, for (1 | group) and laplace.")
    ] = 1,
    draws: Annotated[int, typer.Option("--draws", help="Draws a chain.")] = 1000,
    tune: Annotated[
        int | None,
        typer.Option("--tune", help="Warm-up draws a chain.", show_default="200 with nuts, 1000 with pymc"),
    ] = None,
    chains: Annotated[int, typer.Option("--chains", help="Chains.")] = 4,
    seed: Annotated[int, typer.Option("--seed", help="Seed.")] = 1,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Refuse what nuts would take longer to sample: 90s, 10m, 2h."),
    ] = None,
    maps: Maps = None,
    filters: Filters = None,
    missing: Missing = "error",
    runs: Runs = None,
    key: Key = None,
    skip_bad: SkipBad = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another fit in --out.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit a model and write it to a directory.

    Practice and repeated trials (column phase) and catch trials (column catch) are set aside.
    """
    from psychostats.columns import analysed
    from psychostats.console import describe_fit
    from psychostats.engines import resolve_engine
    from psychostats.features import examine_joined, read_run
    from psychostats.fit import fit as fit_model
    from psychostats.maximum import Method
    from psychostats.pseudonyms import find_key
    from psychostats.recordings import name_source
    from psychostats.spec import specify
    from psychostats.trials import examine_trials

    spec = specify(formula, family=family, link=link, guess=guess, lapse=lapse, disc=disc, priors=prior or [])
    allowed = None if budget is None else read_duration(budget)
    resolve_engine(engine, spec, Method(reml, quadrature), budget=allowed)  # what is refused is, before trials are read
    if missing not in ("error", "drop"):
        raise InputError(f"--missing is '{missing}'; allowed are error and drop.")
    run = read_run(*runs) if runs else None
    options: dict[str, Any] = {
        "columns": read_mapping(maps or []),
        "filters": read_filters(filters or []),
        "needed": run.lacking(spec.formula.variables) if run else spec.formula.variables,
        "missing": missing,
        "key": find_key(key, [out], lambda line: say(line, quiet)),
        "skip_bad": skip_bad,
        "say": lambda line: say(line, quiet),
    }
    table = examine_joined(trials, run, **options) if run else examine_trials(trials, **options)
    if table.errors:
        raise DataError(table.errors)
    for fault in table.faults:
        say(f"warning: {fault.message}", quiet)
    for note in table.notes:
        say(f"read: {note}", quiet)
    for left in table.left_out:
        say(f"left out: {studies.count_left_out(left)}", quiet)
    rows = table.frame[analysed(table.frame)]
    if "experiment" in rows and rows["experiment"].nunique() > 1 and "experiment" not in spec.formula.variables:
        names = ", ".join(map(str, rows["experiment"].unique()))
        advice = "--filter experiment=NAME takes one, and 'psychostats report' fits each"
        say(f"warning: the trials of several experiments ({names}) are pooled; {advice}", quiet)
    aside = len(table.frame) - len(rows)
    if aside:
        say(f"set aside: {count(aside, 'practice, repeated or catch trial')}", quiet)
    if table.n_dropped:
        say(f"dropped: {count_dropped(table.n_dropped, table.n_infinite)}", quiet)

    def begin(chosen: str, reason: str) -> None:
        what = f"fitting {spec.formula.whole} to {count(len(rows), 'row')}"
        compiled = "; the model is compiled first" if chosen == "pymc" else ""
        how = "by maximum likelihood" if chosen == "laplace" else f"by {chosen} ({reason}){compiled}"
        say(f"{what} {how}", quiet)

    made = fit_model(
        spec,
        rows,
        engine=engine,
        reml=reml,
        quadrature=quadrature,
        draws=draws,
        tune=tune,
        chains=chains,
        seed=seed,
        budget=allowed,
        out=out,
        overwrite=overwrite,
        progress=False if quiet else None,
        # The rows were dropped here, so the fit cannot count them.
        source={"file": name_source(trials), "command": typed(), "dropped": table.n_dropped},
        on_start=begin,
    )
    say(f"{out} already holds this fit; nothing was computed." if made.reused else f"written to {out}", quiet)
    _verdict(made, quiet, not as_json)
    if as_json:
        print_json(made.summary())
    else:
        print_data(describe_fit(made))
    end(made.converged)


@app.command()
def summary(
    directory: FitDir,
    random: Annotated[bool, typer.Option("--random", help="Also the effects of single levels.")] = False,
    interval: Annotated[
        str | None, typer.Option("--interval", help="eti or hdi; of a maximum wald, profile or bootstrap.")
    ] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Instead: how each term would move with other priors or more data.")
    ] = False,
    bayes_factor: Annotated[
        str | None, typer.Option("--bayes-factor", metavar="TERM", help="Instead: TERM at 0 against its prior.")
    ] = None,
    replicates: Annotated[int, typer.Option("--replicates", help="Of the bootstrap.")] = 500,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.")] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print the terms of a fit."""
    from psychostats.console import describe_bayes_factor, describe_fit, describe_sensitivity
    from psychostats.fit import load_fit

    made = load_fit(directory)
    _verdict(made, quiet, not as_json)
    if sensitivity:
        from psychostats.sensitivity import prior_sensitivity

        table = prior_sensitivity(made)
        _print_table(table, describe_sensitivity(made, table), as_json)
        end(made.converged)
        return
    if bayes_factor is not None:
        from psychostats.bayes_factor import bayes_factor as compare_with_zero

        table = compare_with_zero(made, bayes_factor)
        _print_table(table, describe_bayes_factor(made, table), as_json)
        end(made.converged)
        return
    if interval is not None:
        made = _with_intervals(made, interval, replicates, seed, quiet)
    if as_json:
        print_json(made.summary(random=random))
    else:
        print_data(describe_fit(made, random=random))
    end(made.converged)


@app.command()
def effects(
    directory: FitDir,
    factor: Annotated[
        str, typer.Argument(metavar="FACTOR", help="Predictor whose effect is asked for.", show_default=False)
    ],
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="NAME=VALUE,VALUE", help="Values of predictors; repeatable."),
    ] = None,
    scale: Annotated[str, typer.Option("--scale", help="response or link.")] = "response",
    contrast: Annotated[str | None, typer.Option("--contrast", help="pairwise: also all pairs of levels.")] = None,
    second_opinion: Annotated[
        bool, typer.Option("--second-opinion", help="The contrasts beside GEE and cluster-robust regression.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print marginal means, contrasts and slopes.

    --contrast pairwise adds differences and odds ratios of all pairs; for a number its slope is given too.
    """
    import pandas as pd

    from psychostats import effects as effect
    from psychostats.console import describe_effects, describe_opinions
    from psychostats.fit import load_fit
    from psychostats.store import records

    if contrast not in (None, "pairwise"):
        raise InputError(f"the contrast '{contrast}' is unknown; allowed is pairwise.")
    if scale not in ("response", "link"):
        raise InputError(f"the scale '{scale}' is unknown; allowed are response and link.")
    made = load_fit(directory)
    at = read_values(by or [], made.coding)
    chosen: Any = scale
    if second_opinion:
        from psychostats.agreement import second_opinions

        opinions = second_opinions(made, factor, by=at)
        _verdict(made, quiet, not as_json)
        _print_table(opinions, describe_opinions(made, opinions), as_json)
        end(made.converged)
        return
    parts = [effect.marginal_means(made, factor, by=at, scale=chosen)]
    if contrast:
        parts.append(effect.contrasts(made, factor, by=at, scale=chosen))
    if factor in made.coding.ranges and factor not in at:
        slope = effect.slopes(made, factor, by=at)
        parts.append(slope[(slope["scale"] == "link") == (scale == "link")])
    table = pd.concat([part.astype({"contrast": object}) for part in parts], ignore_index=True)
    _verdict(made, quiet, not as_json)
    if as_json:
        print_json(records(table))
    else:
        print_data(describe_effects(made, table, [factor, *at]))
    end(made.converged)


@app.command()
def compare(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR DIR ...", help="Fits, all by one engine.", show_default=False)
    ],
    unit: Annotated[
        str, typer.Option("--unit", help="For draws, what is left out: trial, or a group, as participant.")
    ] = "trial",
    kfold: Annotated[
        int | None, typer.Option("--kfold", metavar="K", help="Leave out K folds of units and fit again without each.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the folds.")] = 1,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", help="Processes that fit again; one by default, whose chains take all cores."
        ),
    ] = None,
    scheduler: Scheduler = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare fits of the same trials.

    Draws by how well they predict what is left out (PSIS-LOO, or --kfold, which fits again), maxima by AIC, BIC and
    likelihood-ratio tests.
    """
    from psychostats.compare import compare as compare_fits
    from psychostats.console import describe_comparison
    from psychostats.fit import load_fit
    from psychostats.store import records

    if kfold is None and (workers is not None or scheduler is not None):
        raise InputError("--workers and --scheduler are for fitting again; add --kfold.")
    executor = choose_executor(workers, scheduler, default=1)
    if len({path.resolve() for path in directories}) < len(directories):
        raise InputError("a directory is given twice; a comparison is of different fits.")
    # By the folder's own name where that tells them apart.
    short = len({path.name for path in directories}) == len(directories)
    fits = {path.name if short and path.name else str(path): load_fit(path) for path in directories}
    table = compare_fits(
        fits,
        unit=unit,
        folds=kfold,
        seed=seed,
        progress=lambda name, i, n: say(f"{name}: {i} of {count(n, 'fold')} done", quiet),
        executor=executor,
    )
    for name, made in fits.items():
        for line in made.warnings:
            say(f"{name}: {line}" if made.converged else f"NOT CONVERGED: {name}: {line}", quiet and made.converged)
    if as_json and not table.attrs:  # maxima, of which there is nothing to say
        print_json(records(table))
    else:
        _print_table(table, describe_comparison(table), as_json)
    refitted = table.attrs.get("kfold", {"not_converged": {}})["not_converged"]
    end(all(made.converged for made in fits.values()) and not any(refitted.values()))


app.command()(studies.simulate)
app.command()(studies.report)
app.command()(studies.reanalyze)
app.command()(machines.cluster)
app.command()(studies.multiverse)
app.command()(planning_commands.power)


def main() -> None:
    """Run a command; every failure becomes a sentence and an exit code."""
    listen()
    find_cache()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to fail
    try:
        app(args=spread(sys.argv[1:]), standalone_mode=True)
    except PsychostatsError as error:
        # A line that begins with a blank belongs to the one before: a formula, and where in it the fault is.
        lines = _redact(str(error)).splitlines()
        say("\n".join(line if line.startswith(" ") else f"error: {line}" for line in lines))
        sys.exit(error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(_redact(f"error: {where}{error.strerror or error}."))
        sys.exit(2)
    except Exception as error:
        if os.environ.get("PSYCHOSTATS_DEBUG"):
            traceback.print_exc()
        what = _redact(f"{type(error).__name__}: {error}")
        say(f"internal error: {what} (set PSYCHOSTATS_DEBUG=1 to see where; please report it)")
        sys.exit(1)


def _redact(text: str) -> str:
    """Take platforms' ids out of a message, by a room that whoever asks for help need not wait for."""
    from psychostats.identity import redact

    return redact(text)


def _print_table(table: Any, text: str, as_json: bool) -> None:
    """Print a table with what is said of it: as JSON, or the text that was made of it."""
    from psychostats.store import plain, records

    if as_json:
        print_json({"rows": records(table), **plain(table.attrs)})
    else:
        print_data(text)


def _with_intervals(made: Any, kind: str, replicates: int, seed: int, quiet: bool) -> Any:
    """Return the fit with its tables' intervals of another kind; those of a maximum may take a while."""
    from psychostats.confidence import confidence_intervals
    from psychostats.intervals import Interval

    asked: Any = kind
    if not made.is_maximum or kind in ("eti", "hdi", "wald"):
        made.terms(interval=Interval(asked))  # refuses the wrong kind
        return made.with_interval(Interval(asked))
    shown = counter(kind, not quiet and sys.stderr.isatty())
    table = confidence_intervals(made, asked, replicates=replicates, seed=seed, progress=shown)
    if table.attrs.get("failed"):
        say(f"{table.attrs['failed']} of {replicates} replicates had no maximum and are left out", quiet)
    return made.with_interval(Interval(asked), table)


def _verdict(made: Any, quiet: bool, printed: bool) -> None:
    """Say first, even when quiet, that a fit may not be read; not where the text `printed` says so to the same eyes."""
    if printed and sys.stdout.isatty():
        return
    for line in made.warnings:
        say(line if made.converged else f"NOT CONVERGED: {line}", quiet and made.converged)


if __name__ == "__main__":
    main()
