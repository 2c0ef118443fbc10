"""The columns of the trial table: what each holds, which rows are analysed, and how levels are ordered.

In: a data frame of trials.  Out: its analysed rows, whose they are, and declared orders.  Judges nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from psychostats.cells import Bools, Kind

_REPRESENTATIONS = (("local", "distributed"), ("neuron", "dictionary"))


@dataclass(frozen=True)
class Column:
    """A column of the trial table: its kind, what its cells may be (in words), and its levels where they are fixed."""

    name: str
    kind: Kind
    allowed: str = "text"
    levels: tuple[str, ...] = ()


_PHASES = ("practice", "main", "repeat")

#: The columns the trial table knows, by name; files may hold others, which are kept.
COLUMNS: Mapping[str, Column] = {
    column.name: column
    for column in (
        Column("participant", "text"),
        Column("experiment", "text"),
        Column("session", "text"),
        Column("started", "text", "dates and times as ISO 8601 has them"),
        Column("block", "text"),
        Column("trial", "integer", "whole numbers from 1"),
        Column("representation", "text"),
        Column("layer", "text"),
        Column("depth", "number", "finite numbers from 0 (first layer) to 1 (last)"),
        Column("feature", "text"),
        Column("pair", "text"),
        Column("stimulus", "text"),
        Column("response", "text"),
        Column("correct", "binary", "0 and 1 (or False and True)"),
        Column("rt", "number", "finite numbers (seconds)"),
        Column("confidence", "number", "finite numbers"),
        Column("catch", "flag", "true and false (or 1 and 0)"),
        Column("phase", "text", "'practice', 'main' and 'repeat'", _PHASES),
        Column("instruction_time", "number", "finite numbers (seconds)"),
        Column("practice_attempts", "integer", "whole numbers from 1"),
    )
}


def analysed(frame: pd.DataFrame) -> Bools:
    """Return which rows are main trials and not catch trials; a table without these columns has nothing else."""
    rows = np.ones(len(frame), dtype=bool)
    if "phase" in frame:
        rows &= (frame["phase"] == "main").to_numpy(dtype=bool)
    if "catch" in frame:
        rows &= (frame["catch"] != 1).to_numpy(dtype=bool)
    return rows


def person_keys(frame: pd.DataFrame) -> list[str]:
    """Return the columns that tell participations apart: `participant`, and `experiment` if there is one."""
    return [name for name in ("experiment", "participant") if name in frame]


def order_levels(frame: pd.DataFrame) -> pd.DataFrame:
    """Give `representation` and `layer` their declared orders, where their columns have none yet.

    `representation` is local < distributed or neuron < dictionary where these are its values; `layer` is ordered by
    mean `depth`.
    """
    out = frame.copy(deep=False)

    def free(name: str) -> bool:
        return name in out and not isinstance(out[name].dtype, pd.CategoricalDtype)

    if free("representation"):
        held = {str(one) for one in out["representation"].dropna().unique()}
        order = next((pair for pair in _REPRESENTATIONS if held and held <= set(pair)), None)
        if order:
            out["representation"] = pd.Categorical(out["representation"], order)
    if free("layer") and "depth" in out and pd.api.types.is_numeric_dtype(out["depth"]) and out["depth"].notna().any():
        depth = out.groupby("layer", observed=True)["depth"].mean()
        layers = sorted(depth.index, key=lambda layer: (math.isnan(depth[layer]), depth[layer], layer))
        out["layer"] = pd.Categorical(out["layer"], layers)
    return out
