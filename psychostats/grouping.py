"""The levels of grouping factors: which there are, which row belongs to which, and whether a slope can vary in them.

In: a group effect of a formula and a data frame.  Out: names of levels; or one clear sentence.  Codes no matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.errors import FormulaError
from psychostats.formula import Bar
from psychostats.levels import factor_levels, level_names


def refuse_constant_slopes(
    bar: Bar, data: pd.DataFrame, labels: npt.NDArray[Any], levels: dict[str, tuple[str, ...]]
) -> None:
    """Refuse a slope on a factor that does not vary within any level of the group."""
    for name in levels:
        if f"`{name}`" in bar.terms:
            most = pd.Series(level_names(data[name])).groupby(labels).nunique().max()
            if most < 2:
                raise FormulaError(
                    f"{bar} asks for a slope on '{name}', but every level of {bar.group} has one level of {name} only; "
                    f"write (1 | {bar.group})."
                )


def group_labels(data: pd.DataFrame, bar: Bar) -> npt.NDArray[Any]:
    """Return the level of each row; those of nested factors joined by colons."""
    labels = level_names(data[bar.factors[0]])
    for name in bar.factors[1:]:
        labels = labels + ":" + level_names(data[name])
    return np.asarray(labels, dtype=object)


def group_levels(data: pd.DataFrame, bar: Bar, labels: npt.NDArray[Any]) -> tuple[str, ...]:
    """Return the levels that occur, refusing names that joining makes alike, and a group of one level."""
    if len(bar.factors) == 1:
        levels = factor_levels(data[bar.group])
    else:
        levels = tuple(sorted(set(labels)))
        if len(levels) < len(set(zip(*(level_names(data[name]) for name in bar.factors), strict=True))):
            raise FormulaError(f"colons in the levels of {', '.join(bar.factors)} make levels of {bar.group} alike.")
    if len(levels) < 2:
        raise FormulaError(f"group '{bar.group}' has one level only ('{levels[0]}'), so it cannot vary.")
    return levels
