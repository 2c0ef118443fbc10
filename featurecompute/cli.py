"""The commands: thin words over the rooms below.

Data goes to stdout, talk to stderr. Exit codes: 0 good, 1 internal error, 2 bad input or usage, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, cast

import typer
import typer.core

from featurecompute.errors import FeaturecomputeError


class _Commands(typer.core.TyperGroup):
    """The commands; an interruption says that what is done is kept, and ends as the shell expects."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            goes_on = "what was finished is kept, and --resume goes on with it"
            _say(f"\ninterrupted; {goes_on if ctx.invoked_subcommand == 'compute' else 'nothing was written'}.")
            exec("")  # had it gone through an exec, Python would end by the signal; executing source text resets that
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    help="From a network and images to features, their images, and what they do to the decision.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"featurecompute {importlib.metadata.version('psychostats')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Compute, inspect, and hand on to an experiment."""


@app.command()
def compute(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Study file (TOML).", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder of the run.", show_default=False)],
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    network: Annotated[
        str | None,
        typer.Option("--network", metavar="NAME", help="One of the study's [networks]; default [network]."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, max=2**63 - 1, help="Replace every seed of the study but the images'.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print run.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No talk on stderr.")] = False,
) -> None:
    """Compute features, pairs and contributions of a study.

    Started alike by torchrun (--no-python) or as the tasks of a SLURM array, several processes share the run.
    """
    _require_torch()
    from featurecompute.crew import Crew
    from featurecompute.pipeline import compute_study
    from featurecompute.study import read_study

    crew = Crew.from_environment(os.environ)
    quiet = quiet or not crew.lead
    with _progress(quiet) as progress:
        run = compute_study(
            read_study(study).choose(network).reseeded(seed),
            out,
            device=device,
            resume=resume,
            command=["featurecompute", *sys.argv[1:]],
            crew=crew,
            say=lambda line: _say(line, quiet),
            progress=progress,
        )
    if not crew.lead:
        return
    if as_json:
        print(json.dumps(run.record, indent=2, ensure_ascii=False))
        return
    for warning in run.record["warnings"]:
        _say(f"Warning: {warning}", quiet)
    balance = run.table("balance") if (run.path / "balance.parquet").is_file() else None
    if balance is not None and len(balance):
        _say("Balance of the trial lists:", quiet)
        _say(balance.to_string(index=False, float_format=lambda value: f"{value:.4g}"), quiet)
    print(run.path)


@app.command()
def inspect(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that 'featurecompute compute' wrote.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page; default RUN/inspect.html.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No talk on stderr.")] = False,
) -> None:
    """Write one HTML page with every feature's images and scores."""
    from featurecompute.inspection import write_inspection
    from featurecompute.manifest import load_run

    page = write_inspection(load_run(run), out or run / "inspect.html")
    _say("open it in a browser; it needs no network.", quiet)
    print(page)


@app.command()
def preview(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that 'featurecompute compute' wrote.")],
    experiment: Annotated[
        str | None, typer.Option("--experiment", help="natural, semantic or mixed; default the first.")
    ] = None,
    participant: Annotated[
        str | None, typer.Option("--participant", help="A participant of the trial lists; default the first.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page; default RUN/preview.html.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No talk on stderr.")] = False,
) -> None:
    """Write one participant's session as an HTML page to click through."""
    from featurecompute.manifest import load_run
    from featurecompute.trial_page import write_trial_page

    page = write_trial_page(load_run(run), out or run / "preview.html", experiment=experiment, participant=participant)
    _say("open it in a browser; it needs no network.", quiet)
    print(page)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that 'featurecompute compute' wrote.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.", show_default=False)],
    layout: Annotated[str, typer.Option("--layout", help="tables or zimmermann2023.")] = "tables",
    picture: Annotated[
        str | None, typer.Option("--picture", help="png or jpeg; default as in the run.", show_default=False)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No talk on stderr.")] = False,
) -> None:
    """Write the stimuli and trial lists for an experiment."""
    from featurecompute.export import export_run
    from featurecompute.manifest import load_run

    folder = export_run(load_run(run), out, layout=cast(Any, layout), picture=cast(Any, picture))
    _say("README.md there says what each file holds.", quiet)
    print(folder)


def _require_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        from featurecompute.errors import InputError

        raise InputError(f"computing features needs torch ({error}): pip install 'psychostats[features]'.") from None


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Any]:
    """Show a bar for each stage on a terminal, and nothing elsewhere."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=quiet or not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def progress(stage: str, done: int, every: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=every)
            bars.update(tasks[stage], completed=done, total=every)

        yield progress


def _say(line: str, quiet: bool = False) -> None:
    """Say a line on stderr."""
    if not quiet:
        with contextlib.suppress(BrokenPipeError):
            print(line, file=sys.stderr, flush=True)


def _stop(signal_number: int, frame: Any) -> None:
    """End as an interruption does, so that nothing half-written is left."""
    raise KeyboardInterrupt


def main() -> None:
    """Run a command; every failure becomes a sentence and an exit code."""
    signal.signal(signal.SIGTERM, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to fail
    try:
        app(standalone_mode=True)
    except FeaturecomputeError as error:
        _say("\n".join(f"error: {line}" for line in str(error).splitlines()))
        sys.exit(error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(f"error: {where}{error.strerror or error}.")
        sys.exit(2)
    except Exception as error:
        if os.environ.get("PSYCHOSTATS_DEBUG"):
            traceback.print_exc()
        _say(
            f"internal error: {type(error).__name__}: {error} (set PSYCHOSTATS_DEBUG=1 to see where; please report it)"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
