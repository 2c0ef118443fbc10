"""The options that several commands share: their names, their places and their help.

In: nothing.  Out: types that typer reads, and who does the work that they ask for.  Knows no command.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from psychostats.executors import Executor

Trials = Annotated[
    str,
    typer.Argument(
        metavar="TRIALS",
        help="Trials: a table or recording, a folder or .zip of them, FILE#TABLE, or a database's address.",
        show_default=False,
    ),
]
FitDir = Annotated[
    Path, typer.Argument(metavar="DIR", help="Directory that 'psychostats fit' wrote.", show_default=False)
]
StudyFile = Annotated[Path, typer.Option("--study", help="Study file (TOML).", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, full precision.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No talk on stderr.")]
Maps = Annotated[
    list[str] | None, typer.Option("--map", metavar="NEW=OLD", help="Our column name and the file's; repeatable.")
]
Filters = Annotated[
    list[str] | None, typer.Option("--filter", metavar="NAME=VALUE,VALUE", help="Rows to keep; repeatable.")
]
Runs = Annotated[
    list[Path] | None,
    typer.Option(
        "--run", metavar="RUN", help="Features run that the stimuli come from; repeatable.", show_default=False
    ),
]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave out files and sessions with faults, count them, and read the good ones."),
]
Missing = Annotated[
    str, typer.Option("--missing", help="Rows whose needed value is lacking or infinite: error, or drop.")
]
Key = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="Key of pseudonyms that are the same in any file, made where there is none; or PSYCHOSTATS_KEY.",
        show_default=False,
    ),
]
Demographics = Annotated[
    Path | None,
    typer.Option(
        "--demographics",
        metavar="FILE",
        help="A platform's demographic export, of which summaries are printed.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", help="Processes of this machine; as many as cores by default."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Instead: a Dask cluster that is there, tcp://host:8786.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say how much there is to do and how long it takes, and end.")]
Yes = Annotated[bool, typer.Option("--yes", help="Begin also what is very much.")]


def choose_executor(workers: int | None, scheduler: str | None, *, default: int | None = None) -> Executor:
    """Return who does the work that the options ask for.

    Parameters
    ----------
    workers, scheduler
        What was typed.
    default
        Processes where neither was; as many as cores otherwise.

    Raises
    ------
    InputError
        If both are given, or one cannot be.
    """
    from psychostats.cluster import Dask
    from psychostats.errors import InputError
    from psychostats.executors import PER_CORE, Local
    from psychostats.terminal import count
    from psychostats.threads import cores

    if scheduler is not None:
        if workers is not None:
            raise InputError("give --workers or --scheduler, not both: a cluster has as many workers as it has.")
        return Dask(scheduler)
    if workers is None:
        return Local(default or cores())
    most = PER_CORE * cores()
    if not 1 <= workers <= most:
        raise InputError(
            f"--workers is {workers:,}; this machine has {count(cores(), 'core')}, so allowed are 1 to {most:,}; more "
            "machines work together with --scheduler."
        )
    return Local(workers)
