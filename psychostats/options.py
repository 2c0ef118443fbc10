"""The options that several commands share: their names, their places and their help.

In: nothing.  Out: types that typer reads.  Knows no command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
