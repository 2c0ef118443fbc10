"""A chapter of a planning report: what it says first, its tables, its figures, and how they become blocks.

In: nothing.  Out: a frozen record that whoever has something to say of a plan fills.  Knows no report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from psychostats.document import Block, Words


@dataclass(frozen=True)
class Chapter:
    """One chapter.

    Parameters
    ----------
    compose
        Called with the files of the chapter's figures, by name; returns its blocks, the heading first.
    summary
        What it adds to the summary at the head of the report.
    tables
        Written as ``tables/NAME.csv``. The report's folder has to know the name: `psychostats.report.WHOLE`.
    plots
        Drawn as ``figures/NAME.svg``. The report's folder has to know the name: `psychostats.report.FIGURES`.
    """

    compose: Callable[[Mapping[str, Path]], Sequence[Block]]
    summary: tuple[Words, ...] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    plots: Mapping[str, Any] = field(default_factory=dict)
