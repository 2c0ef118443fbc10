"""The command about other machines: cluster. Thin words over the rooms below, as in cli.py.

In: what a user typed.  Out: a file, talk on stderr, an exit code.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from psychostats.errors import InputError
from psychostats.options import Quiet
from psychostats.terminal import say


def cluster(
    out: Annotated[Path, typer.Option("--out", help="Python script to write, for example slurm.py.")],
    workers: Annotated[int, typer.Option("--workers", help="Processes of one thread, of all jobs together.")] = 20,
    cores: Annotated[int, typer.Option("--cores", help="Of a job, each with one worker.")] = 1,
    memory: Annotated[str, typer.Option("--memory", help="Of a worker.")] = "4GB",
    walltime: Annotated[str, typer.Option("--walltime", help="Of a job; when it ends, another takes its place.")] = (
        "02:00:00"
    ),
    partition: Annotated[str, typer.Option("--partition", metavar="NAME", help="SLURM's own by default.")] = "",
    account: Annotated[str, typer.Option("--account", metavar="NAME", help="SLURM's own by default.")] = "",
    interface: Annotated[
        str, typer.Option("--interface", metavar="NAME", help="Network between the nodes, such as ib0.")
    ] = "",
    python: Annotated[
        str | None,
        typer.Option("--python", metavar="PATH", help="Python with psychostats on the nodes; this one by default."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file in --out.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a script that starts a Dask cluster under SLURM, for commands with --scheduler."""
    from psychostats.slurm import Slurm

    asked = Slurm(
        workers=workers,
        cores=cores,
        memory=memory,
        walltime=walltime,
        partition=partition,
        account=account,
        interface=interface,
        python=sys.executable if python is None else python,
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w" if overwrite else "x", encoding="utf-8") as file:
            file.write(asked.script())
    except FileExistsError as error:
        raise InputError(f"{out} is there already; give another file, or --overwrite.") from error
    say(f"written to {out}: {asked.jobs:,} jobs of {cores} cores under SLURM", quiet)
    say(f"run it where sbatch works: {asked.python} {out}  (--show prints the job script instead)", quiet)
    say("and beside it, with the address that it prints: psychostats compare ... --kfold 10 --scheduler ADDRESS", quiet)
