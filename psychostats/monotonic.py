"""Monotonic effects, mo(x): a predictor of ordered levels whose steps all go one way (Bürkner and Charpentier 2020).

In: names of columns.  Out: the coding of mo(), and which columns of a design one effect moves along.  A level x of
D + 1 adds b D (simplex_1 + ... + simplex_x) to the linear predictor: b is the mean step, the simplex says how the steps
share the way, as in brms. So mo(x) is coded as D columns that are 1 from their step on, whose coefficients are
b D simplex_i; whoever knows those coefficients needs no more than the columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.errors import FormulaError
from psychostats.levels import is_number

Array: TypeAlias = npt.NDArray[np.float64]

_STEP = re.compile(r"mo\((.*)\)(\d+)")


@dataclass(frozen=True)
class Monotonic:
    """A monotonic effect, or the product of one with other predictors.

    Parameters
    ----------
    name
        As brms names it without ``bsp_``: ``molayer``, ``molayer:depth``.
    columns
        Places of its steps among the columns of the design, in the order of the levels.
    """

    name: str
    columns: tuple[int, ...]

    @property
    def term(self) -> str:
        """Name of its coefficient, the mean step."""
        return f"bsp_{self.name}"

    @property
    def simplex(self) -> str:
        """Name of its simplex."""
        return f"simo_{self.name}1"

    @property
    def shares(self) -> tuple[str, ...]:
        """Names of the simplex's elements."""
        return tuple(f"{self.simplex}[{i}]" for i in range(1, len(self.columns) + 1))


def steps(levels: Any) -> pd.DataFrame:
    """Code mo() of a categorical column: one column a step, 1 from there on."""
    column = pd.Series(levels)
    places = np.arange(1, len(column.cat.categories))
    return pd.DataFrame(
        (column.cat.codes.to_numpy()[:, np.newaxis] >= places).astype(float), columns=[str(i) for i in places]
    )


def require_ordered(name: str, column: pd.Series[Any]) -> None:
    """Refuse a monotonic effect of what has no order: fractions, or text whose levels were not declared."""
    if is_number(column):
        values = column.to_numpy(dtype=float)
        if not (values == np.round(values)).all():
            raise FormulaError(f"mo({name}) needs whole numbers or ordered levels; '{name}' holds fractions.")
    elif not isinstance(column.dtype, pd.CategoricalDtype):
        raise FormulaError(
            f"mo({name}) needs an order, and '{name}' holds text in none; declare its levels, or number them."
        )


def find_monotonic(names: Sequence[str]) -> tuple[Monotonic, ...]:
    """Find the monotonic effects among the columns of a design, by their names.

    Raises
    ------
    FormulaError
        If one is multiplied with another: along which steps the product goes, a single simplex cannot say.
    """
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        pieces = name.split(":")
        steps = [match for match in map(_STEP.fullmatch, pieces) if match]
        if len(steps) > 1:
            both = " and ".join(f"mo({match[1]})" for match in steps)
            raise FormulaError(f"{both} are multiplied with each other, which cannot be fitted; add them.")
        if steps:
            rest = [piece for piece in pieces if not _STEP.fullmatch(piece)]
            found.setdefault(":".join([f"mo{steps[0][1]}", *rest]), []).append(place)
    return tuple(Monotonic(name, tuple(places)) for name, places in found.items())


def expand(b: Array, bsp: Array, shares: Sequence[Array], effects: Sequence[Monotonic], columns: int) -> Array:
    """Return the coefficients of all columns of a design.

    Parameters
    ----------
    b
        Coefficients of the columns that are no steps, in their order, shape ``(draws, plain)``.
    bsp
        Mean steps, shape ``(draws, effects)``.
    shares
        For each effect its simplex, shape ``(draws, steps)``.
    effects
        Which columns they move along.
    columns
        How many columns the design has.

    Returns
    -------
    ndarray
        Shape ``(draws, columns)``.
    """
    out = np.zeros((len(b), columns))
    out[:, plain_columns(effects, columns)] = b
    for effect, mean_step, share in zip(effects, bsp.T, shares, strict=True):
        out[:, list(effect.columns)] = mean_step[:, np.newaxis] * len(effect.columns) * share
    return out


def plain_columns(effects: Sequence[Monotonic], columns: int) -> list[int]:
    """Return the places of the columns that are no steps of a monotonic effect."""
    taken = {place for effect in effects for place in effect.columns}
    return [place for place in range(columns) if place not in taken]
