"""NMF over tiles of rows: what `nmf.factorise` does, with more rows than memory holds.

In: tiles of rows (n_i x d) that can be gone through again and again, a rank, a seed.  Out: `TiledFactors`.  Knows no
layer; of files, only the nameless one that it keeps codes in.

The descent is that of `nmf.Descent`: sweeps of the codes given the atoms, then of the atoms given Z'A and Z'Z. These
two, and the sum of the codes, are sums over rows, so a tile gives its part and can go; they are summed in float64, in
the order of the tiles, and sums over parts of the rows add up to those over all. In memory are a tile or two, a block's
codes, and matrices of rank x d and rank x rank. A row's codes begin where the last iteration left them, as in memory;
they lie in a file, at rank numbers a row.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import torch
from torch import Tensor

from featurecompute.errors import DictionaryError
from featurecompute.nmf import (
    Descent,
    Progress,
    Settings,
    block_rows,
    draw_atoms,
    first_atoms,
    unit,
    warm_atoms,
    warm_rows,
)

Tiles: TypeAlias = Iterable[Tensor]
"""Tiles of rows (n_i x d), the same at each pass."""


@dataclass(frozen=True)
class TiledFactors:
    """A factorisation whose codes are not kept.

    Parameters
    ----------
    atoms
        Unit rows (rank x d).
    penalty, objective, error, iterations, converged
        As of `nmf.Factors`.
    """

    atoms: Tensor
    penalty: float
    objective: tuple[float, ...]
    error: float
    iterations: int
    converged: bool


@dataclass(frozen=True)
class Survey:
    """What one pass over the tiles tells of the rows.

    Parameters
    ----------
    count, width, longest
        Rows, their channels, and rows of the longest tile.
    busy
        Rows that are not zero.
    finite, alike
        Whether every number is finite; whether every row is the same.
    norm
        Mean norm of a row.
    energy, below
        Sum of squares, and of those of negative numbers.
    """

    count: int
    width: int
    longest: int
    busy: int
    finite: bool
    alike: bool
    norm: float
    energy: float
    below: float


def survey(tiles: Tiles) -> Survey:
    """Look at all rows once.

    Raises
    ------
    DictionaryError
        If there are none.
    """
    count = longest = busy = 0
    finite = alike = True
    norms, energies, below = [], [], []
    first: Tensor | None = None
    for tile in tiles:
        first = tile[:1].clone() if first is None and len(tile) else first
        count, longest = count + len(tile), max(longest, len(tile))
        for block in torch.split(tile, block_rows(tile)):
            finite = finite and bool(torch.isfinite(block).all())
            alike = alike and first is not None and bool((block == first).all())
            lengths = block.norm(dim=1)
            busy += int((lengths > 0).sum())
            norms.append(float(lengths.sum(dtype=torch.float64)))
            energies.append(float(block.double().square().sum()))
            below.append(float(block.clamp_max(0).double().square().sum()))
    if first is None:
        raise DictionaryError("there are no rows of activations to factorise.")
    sums = [math.fsum(part) for part in (norms, energies, below)] if finite else [math.nan] * 3
    return Survey(count, first.shape[1], longest, busy, finite, alike, sums[0] / count, sums[1], sums[2])


@dataclass(frozen=True)
class Part:
    """Some of the rows of tiles, as tiles.

    Parameters
    ----------
    tiles
        The tiles.
    chosen
        Whether a row is among them (n,), bool, in the order of the tiles.
    rectified
        Give the positive part of each row.
    """

    tiles: Tiles
    chosen: Tensor
    rectified: bool = False

    def __iter__(self) -> Iterator[Tensor]:
        start = 0
        for tile in self.tiles:
            rows = tile[self.chosen[start : start + len(tile)].to(tile.device)]
            yield rows.clamp_min_(0) if self.rectified else rows
            start += len(tile)


@torch.no_grad()
def factorise_tiles(
    tiles: Tiles,
    rank: int,
    *,
    sparsity: float = 0.0,
    signed: bool = False,
    seed: int = 0,
    start: Tensor | None = None,
    settings: Settings | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> TiledFactors:
    """Factorise rows tile by tile, with the result of `nmf.factorise` but for the rounding of sums.

    Where a tenth of the rows, on which the first descent is made, is more than a tile, it is made on as many rows as
    the longest tile has, and so ends elsewhere than in memory.

    Parameters
    ----------
    tiles
        Rows, float32 or float64.
    rank, sparsity, signed, seed, start, settings, progress
        As of `nmf.factorise`.
    folder
        Where the file of codes lies, which has no name and goes with the process; None: the system's for such files.

    Raises
    ------
    DictionaryError
        If there are no rows, all are zero, or some are negative without `signed`.
    """
    settings = settings or Settings()
    found = survey(tiles)
    if not signed and found.below > 0:
        raise DictionaryError("NMF needs activations of at least 0; negative ones can be factorised with signed atoms.")
    if not found.busy:
        raise DictionaryError("every row of activations is zero: there is nothing to factorise.")
    penalty = sparsity * found.norm
    generator = torch.Generator().manual_seed(seed)
    few = warm_rows(found.count, rank, settings)
    if few < found.count:
        few = max(min(few, found.longest), 20 * rank)
        rows = _pick(tiles, torch.randperm(found.count, generator=generator)[:few].sort().values)
        start = draw_atoms(rows, rank, generator) if start is None else start
        start = warm_atoms(rows, start, penalty, signed, settings)
    elif start is None:
        pool = torch.randperm(found.count, generator=generator)[: 10 * rank + 500]
        start = first_atoms(_pick(tiles, pool), rank, generator)
    with tempfile.TemporaryFile(dir=folder) as file:
        descent = _TiledDescent(tiles, found, penalty, signed, file)
        descent.begin(start)
        converged = descent.run(settings.iterations, settings, progress)
    trace = tuple(descent.trace)
    return TiledFactors(descent.atoms, penalty, trace, descent.relative_error(), descent.iterations, converged)


def _pick(tiles: Tiles, places: Tensor) -> Tensor:
    """Return the rows of these numbers, in their order."""
    ordered, back = places.sort()
    parts, start = [], 0
    for tile in tiles:
        first, last = torch.searchsorted(ordered, torch.tensor([start, start + len(tile)])).tolist()
        parts.append(tile[(ordered[first:last] - start).to(tile.device)])
        start += len(tile)
    rows = torch.cat(parts)
    return rows[back.argsort().to(rows.device)]


class _TiledDescent(Descent):
    """A descent whose rows come in tiles, and whose codes lie in a file."""

    def __init__(self, tiles: Tiles, found: Survey, penalty: float, signed: bool, file: IO[bytes]) -> None:
        self._set(penalty, signed, found.count, found.energy)
        self.tiles, self.file = tiles, file

    def begin(self, atoms: Tensor) -> None:
        """Take first atoms; codes begin at zero."""
        like = next(iter(self.tiles))
        self.atoms = unit(atoms.to(like, copy=True))
        self.fresh, self.factors = True, self.atoms.new_ones(len(atoms))

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Give blocks of rows with their codes."""
        place, rank = 0, len(self.atoms)
        for tile in self.tiles:
            for block in torch.split(tile, block_rows(tile)):
                codes = block.new_zeros(rank, len(block))
                if not self.fresh:
                    self.file.seek(place)
                    kept = np.frombuffer(self.file.read(codes.nbytes), codes.cpu().numpy().dtype)
                    codes = torch.tensor(kept, device=block.device).reshape(codes.shape) * self.factors[:, None]
                yield block, codes
                self.file.seek(place)
                self.file.write(codes.cpu().numpy().tobytes())
                place += codes.nbytes
        self.fresh, self.factors = False, torch.ones_like(self.factors)

    def scale(self, factors: Tensor) -> None:
        """Multiply each atom's codes by its factor, when they are read next."""
        self.factors = self.factors * factors
