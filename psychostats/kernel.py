"""Cells of a model as tables and indices, for compiled code, and the records in which compiled code takes them.

In: a `Mixed` and a family's compiled likelihood.  Out: `Tables`, arrays by slot, and ctypes records that point to them;
the library itself, where the package was installed with a C compiler.  Knows no prior, no start and no sampler.

eta of a cell is a sum of table entries: one table for the fixed part, with a slot for each distinct row of X and
offset, and one a group, with a slot for each pair of a level and a distinct row of Z.  So a cell costs an index a
table, whatever the number of columns, and multiplications are done once a slot.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from psychostats.family import Compiled
from psychostats.mixed import Mixed, number_rows

Array: TypeAlias = npt.NDArray[np.float64]
Slots: TypeAlias = npt.NDArray[np.int32]

#: Terms that one group may have at most (`TERMS_MOST` of native.h).
TERMS_MOST = 16
_KINDS = {"logistic": 0, "asymptotes": 1, "probit": 2, "normal": 3}
# Neighbouring cells of one slot, on average, from which adding them up in a register pays.
_RUN = 2.0

_double, _int = ctypes.c_double, ctypes.c_int64
_pointer = ctypes.c_void_p


class CellsRecord(ctypes.Structure):
    """`Cells` of native.h."""

    _fields_ = [
        *((name, _int) for name in ("cells", "kind", "tables")),
        *((name, _double) for name in ("guess", "lapse", "count", "squares")),
        *((name, _pointer) for name in ("value", "weight", "first", "runs", "index")),
    ]


class GroupRecord(ctypes.Structure):
    """`Group` of native.h."""

    _fields_ = [
        *((name, _int) for name in ("levels", "terms", "slots")),
        *((name, _pointer) for name in ("level", "Z", "information", "pull")),
    ]


class BlockRecord(ctypes.Structure):
    """`Block` of native.h."""

    _fields_ = [(name, _int) for name in ("group", "start", "terms", "correlated", "theta")]


class PosteriorRecord(ctypes.Structure):
    """`Posterior` of native.h."""

    _fields_ = [
        ("cells", CellsRecord),
        *((name, _int) for name in ("dimension", "expanded", "fixed", "thetas", "groups", "blocks", "coupled", "rest")),
        *((name, _pointer) for name in ("group", "block", "X", "offset", "theta_centre", "theta_map", "softness")),
        *((name, _pointer) for name in ("theta_prior", "b_centre", "b_prior", "rest_map")),
        *((name, _pointer) for name in ("coupling_start", "coupling_column", "coupling")),
    ]


class SamplingRecord(ctypes.Structure):
    """`Sampling` of native.h."""

    _fields_ = [
        *((name, _int) for name in ("draws", "tune", "depth_most")),
        ("seed", ctypes.c_uint64),
        ("chain", ctypes.c_uint64),
        ("target_accept", _double),
    ]


@cache
def native() -> ctypes.CDLL | None:
    """Load the compiled library; None where the package was installed without a C compiler."""
    here = Path(__file__).parent
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = here / f"_native{suffix}"
        if path.is_file():
            loaded = ctypes.CDLL(str(path))
            loaded.log_likelihood.restype = _double
            loaded.log_likelihood.argtypes = [_pointer, _pointer, _double, _pointer, _pointer]
            loaded.run_chain.restype = _int
            loaded.run_chain.argtypes = [_pointer] * 6
            loaded.evaluate.restype = _int
            loaded.evaluate.argtypes = [_pointer, _pointer, _pointer, _pointer, _int]
            loaded.naturalise.restype = _int
            loaded.naturalise.argtypes = [_pointer] * 3
            return loaded
    return None


@dataclass(frozen=True)
class Table:
    """One table of the linear predictor.

    Parameters
    ----------
    index
        Slot of each cell, shape ``(cells,)``.
    columns
        Columns by slot, shape ``(columns, slots)``.
    extra
        Of the fixed part the offset, of a group the level, shape ``(slots,)``.
    """

    index: Slots
    columns: Array
    extra: npt.NDArray[Any]

    @property
    def slots(self) -> int:
        """Number of slots."""
        return int(self.columns.shape[1])


@dataclass(frozen=True)
class Tables:
    """The cells of a model.

    Parameters
    ----------
    compiled
        The likelihood.
    value, weight
        Right answers out of so many, or the mean of so many measurements, shape ``(cells,)``.
    fixed
        Table of the fixed part.
    groups
        Tables of the grouping factors, in the order of `Mixed`.
    count, squares
        Of measurements: how many, and their squares about the means of their cells.
    """

    compiled: Compiled
    value: Array
    weight: Array
    fixed: Table
    groups: tuple[Table, ...]
    count: float
    squares: float

    @property
    def first(self) -> npt.NDArray[np.int64]:
        """Where each table's entries begin, and their number."""
        return np.cumsum([0, self.fixed.slots, *(table.slots for table in self.groups)], dtype=np.int64)

    def record(self, held: list[Any]) -> CellsRecord:
        """Return the cells for compiled code; what the record points to is appended to `held` and must outlive it."""
        tables = (self.fixed, *self.groups)
        indices = (_pointer * len(tables))(*(address(table.index, held) for table in tables))
        held.append(indices)
        runs = [len(t.index) > _RUN * (1 + np.count_nonzero(np.diff(t.index))) for t in tables]
        return CellsRecord(
            len(self.value),
            _KINDS[self.compiled.kind],
            len(tables),
            self.compiled.guess,
            self.compiled.lapse,
            self.count,
            self.squares,
            address(self.value, held),
            address(self.weight, held),
            address(self.first, held),
            address(np.array(runs, dtype=np.int64), held),
            ctypes.addressof(indices),
        )

    def log_likelihood(self, entries: Array, sigma: float = 1.0) -> tuple[float, Array, float]:
        """Evaluate the likelihood at table entries.

        Parameters
        ----------
        entries
            Of all tables, one behind the other, shape ``(slots of all,)``.
        sigma
            Residual SD, of measurements.

        Returns
        -------
        tuple
            The log-likelihood without binomial coefficients and powers of 2 pi; its derivatives by `entries`; and that
            by log sigma.
        """
        compiled = native()
        assert compiled is not None
        held: list[Any] = []
        record, scores, by_log_sigma = self.record(held), np.empty(len(entries)), np.zeros(1)
        value = compiled.log_likelihood(
            ctypes.byref(record), address(entries, held), sigma, address(scores, held), address(by_log_sigma, held)
        )
        return float(value), scores, float(by_log_sigma[0])


def tabulate(mixed: Mixed, compiled: Compiled, response: Array) -> Tables:
    """Turn cells into tables.

    Parameters
    ----------
    mixed
        Cells and their groups; of a normal likelihood, cells hold sums of what is normally distributed.
    compiled
        The likelihood.
    response
        What is normally distributed, or the right answers, of every row, shape ``(rows,)``.
    """
    design = mixed.design
    value, squares = design.successes, 0.0
    if compiled.kind == "normal":
        value = design.successes / design.trials
        squares = float(np.sum((response - value[mixed.cell]) ** 2))
    first = {g: [i for i, (group, _) in enumerate(mixed.parts) if group == g] for g in range(len(mixed.groups))}
    groups = []
    for places in first.values():
        blocks = [design.blocks[i] for i in places]
        groups.append(_table(blocks[0].index, np.concatenate([block.Z for block in blocks], axis=1)))
    return Tables(
        compiled=compiled,
        value=np.ascontiguousarray(value),
        weight=np.ascontiguousarray(design.trials),
        fixed=_table(design.offset, design.X),
        groups=tuple(groups),
        count=float(design.trials.sum()),
        squares=squares,
    )


def address(array: npt.NDArray[Any], held: list[Any]) -> int:
    """Return where an array's numbers lie, by rows; the array is appended to `held` and must outlive the address."""
    solid = np.ascontiguousarray(array)
    held.append(solid)
    return int(solid.ctypes.data)


def _table(extra: npt.NDArray[Any], columns: Array) -> Table:
    """Find the distinct rows of some columns and of what goes with them."""
    code = number_rows([extra, *columns.T])
    _, first, index = np.unique(code, return_index=True, return_inverse=True)
    kind = np.int32 if extra.dtype.kind == "i" else np.float64
    return Table(
        index.astype(np.int32), np.ascontiguousarray(columns[first].T), np.ascontiguousarray(extra[first].astype(kind))
    )
