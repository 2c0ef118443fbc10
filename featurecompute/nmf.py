"""Non-negative matrix factorisation: rows of activations as sparse, non-negative sums of unit atoms.

In: rows (n x d) as a tensor, a rank, a seed.  Out: `Factors`, and the codes of further rows.  Knows no layer and no
file.

Minimised is ½‖A − Z D‖² + penalty · ΣZ over codes Z >= 0 and unit atoms D (>= 0, or signed), one column of Z and one
row of D at a time, each to its exact minimum (HALS: Cichocki & Phan, 2009, IEICE E92-A; Gillis & Glineur, 2012, Neural
Computation 24), so the objective never grows. Codes are kept transposed: a column's update is one product and one
clamp over contiguous memory. Rows pass in blocks that stay in cache, and each gives its part of Z'A and Z'Z in one
reading.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from featurecompute.errors import DictionaryError
from featurecompute.sweeps import fused, prepare, sweep_atoms, sweep_codes

Progress: TypeAlias = Callable[[int, int], None]

# Rows at once. On a processor a block's codes should stay in the second cache; on a GPU launches are what costs.
BLOCK_CPU, BLOCK_GPU = 4096, 262_144
# Codes of a row are done when a sweep moves none of them by more than this share of the row's norm.
ENCODE_TOLERANCE = 1e-6
ENCODE_SWEEPS = 2000
# Solving costs as much as some twenty sweeps, and most rows end before.
_SOLVE_AFTER = 32
_CHECK = 5
_RESEEDINGS = 20
_WARM_ITERATIONS, _WARM_TOLERANCE = 200, 3e-4


@dataclass(frozen=True)
class Settings:
    """How long to go on.

    Parameters
    ----------
    iterations
        At most.
    tolerance
        Done when the objective falls by less than this share of itself an iteration, over five iterations.
    sweeps
        Passes over the columns of the codes, and over the atoms, within an iteration.
    warm
        Share of the rows that a first descent is made on; 0 or 1: none.
    """

    iterations: int = 500
    tolerance: float = 1e-5
    sweeps: int = 2
    warm: float = 0.1


@dataclass(frozen=True)
class Factors:
    """A factorisation.

    Parameters
    ----------
    atoms
        Unit rows (rank x d).
    codes
        Codes of the rows (n x rank), >= 0.
    penalty
        Price of a unit of code, in the rows' own units.
    objective
        ½‖A − Z D‖² + penalty · ΣZ after each check, on all rows.
    error
        ‖A − Z D‖ / ‖A‖.
    iterations
        Made on all rows.
    converged
        Whether the tolerance was met.
    """

    atoms: Tensor
    codes: Tensor
    penalty: float
    objective: tuple[float, ...]
    error: float
    iterations: int
    converged: bool


@torch.no_grad()
def factorise(
    rows: Tensor,
    rank: int,
    *,
    sparsity: float = 0.0,
    signed: bool = False,
    seed: int = 0,
    start: Tensor | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Factors:
    """Factorise rows.

    Parameters
    ----------
    rows
        Activations (n x d), float32 or float64, on any device; >= 0 unless `signed`.
    rank
        Number of atoms.
    sparsity
        Penalty on the codes in units of the rows' mean norm.
    signed
        Let atoms have either sign (semi-NMF: Ding, Li & Jordan, 2010, IEEE TPAMI 32); codes stay >= 0.
    seed
        Seed of the first atoms and of the rows of the first descent.
    start
        First atoms (rank x d), instead of drawn ones.
    settings
        How long to go on.
    progress
        Called with iterations done and the most there can be.

    Raises
    ------
    DictionaryError
        If rows are negative without `signed`, or all zero.
    """
    settings = settings or Settings()
    if not signed and bool((rows < 0).any()):
        raise DictionaryError("NMF needs activations of at least 0; negative ones can be factorised with signed atoms.")
    norms = rows.norm(dim=1)
    penalty = sparsity * float(norms.mean(dtype=torch.float64))
    if not float(norms.max()) > 0:
        raise DictionaryError("every row of activations is zero: there is nothing to factorise.")
    generator = torch.Generator().manual_seed(seed)
    few = warm_rows(len(rows), rank, settings)
    warm = few < len(rows)
    first = rows
    if warm:
        first = rows[torch.randperm(len(rows), generator=generator)[:few].sort().values.to(rows.device)]
    if start is None:
        start = draw_atoms(first, rank, generator)
    if warm:
        start = warm_atoms(first, start, penalty, signed, settings)
    last = Descent(rows, penalty, signed)
    last.begin(start)
    converged = last.run(settings.iterations, settings, progress)
    codes = last.codes.T.contiguous()
    return Factors(last.atoms, codes, penalty, tuple(last.trace), last.relative_error(), last.iterations, converged)


def warm_rows(count: int, rank: int, settings: Settings) -> int:
    """Return how many rows the first descent is made on; all of them if there is none."""
    few = max(int(settings.warm * count), 20 * rank)
    return few if settings.warm > 0 and 2 * few < count else count


def warm_atoms(rows: Tensor, start: Tensor, penalty: float, signed: bool, settings: Settings) -> Tensor:
    """Return the atoms that a first descent on few rows ends with.

    It only has to show the way: full precision comes with all rows.
    """
    first = Descent(rows, penalty, signed)
    first.begin(start)
    first.run(_WARM_ITERATIONS, replace(settings, tolerance=_WARM_TOLERANCE), None)
    return first.atoms


def draw_atoms(rows: Tensor, rank: int, generator: torch.Generator) -> Tensor:
    """Return first atoms (rank x d), drawn by `first_atoms` from a sample of the rows."""
    pool = torch.randperm(len(rows), generator=generator)[: 10 * rank + 500]
    return first_atoms(rows[pool.to(rows.device)], rank, generator)


def first_atoms(rows: Tensor, rank: int, generator: torch.Generator) -> Tensor:
    """Return unit rows (rank x d), drawn one after another by what the earlier ones leave of each row.

    As k-means++ chooses centres (Arthur & Vassilvitskii, 2007), but by lines: with a probability in proportion to the
    squared part of a row that is orthogonal to those chosen. When nothing is left (rank above width), rows come in
    proportion to their squared norm.
    """
    energy = rows.square().sum(1)
    rest, left = rows, energy
    silent = energy.max() * 1e-6
    chosen = []
    for _ in range(rank):
        weights = torch.where(left > silent, left, 0)
        spent = not bool(weights.any())
        edges = (energy if spent else weights).double().cumsum(0).cpu()
        draw = torch.rand((), generator=generator, dtype=torch.float64) * edges[-1]
        place = min(int(torch.searchsorted(edges, draw, right=True)), len(rows) - 1)
        chosen.append(rows[place])
        if not spent:
            direction = rest[place] / rest[place].norm()
            rest = torch.addr(rest, rest @ direction, direction, alpha=-1)
            left = rest.square().sum(1)
    return unit(torch.stack(chosen))


class Descent:
    """Atoms and codes on their way down: one object, so that a caller may stop between iterations.

    Parameters
    ----------
    rows
        Activations (n x d).
    penalty, signed
        As of `factorise`.
    """

    rows: Tensor
    codes: Tensor

    def __init__(self, rows: Tensor, penalty: float, signed: bool) -> None:
        # Fetched together: on a device each number by itself would wait for all before it.
        parts = [block.double().square().sum() for block in torch.split(rows, BLOCK_CPU * 4)]
        self._set(penalty, signed, len(rows), math.fsum(torch.stack(parts).tolist()))
        self.rows = rows

    def _set(self, penalty: float, signed: bool, count: int, energy: float) -> None:
        self.penalty, self.signed, self.count, self.energy = penalty, signed, count, energy
        self.trace: list[float] = []
        self.iterations = 0

    def begin(self, atoms: Tensor) -> None:
        """Take first atoms; codes begin at zero and are swept more often the first time."""
        self.atoms = unit(atoms.to(self.rows, copy=True))
        self.codes = self.rows.new_zeros(len(atoms), len(self.rows))

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Give blocks of rows (b x d) with their codes (rank x b), which may be changed before the next is taken."""
        start = 0
        for block in torch.split(self.rows, block_rows(self.rows)):
            part = self.codes[:, start : start + len(block)]
            # A copy costs little beside its sweeps, which it makes contiguous; kernels need none.
            codes = part if fused(part) else part.contiguous()
            yield block, codes
            part.copy_(codes)
            start += len(block)

    def scale(self, factors: Tensor) -> None:
        """Multiply each atom's codes by its factor (rank)."""
        self.codes *= factors[:, None]

    def run(self, iterations: int, settings: Settings, progress: Progress | None) -> bool:
        """Descend; return whether the tolerance was met."""
        reseeded = 0
        for iteration in range(iterations):
            self._codes(4 * settings.sweeps if iteration == 0 else settings.sweeps)
            self._atoms(settings.sweeps)
            self.iterations = iteration + 1
            if progress is not None:
                progress(self.iterations, iterations)
            if iteration % _CHECK:
                continue
            self.trace.append(self.objective())
            dead = (self.gram.diagonal() <= 0).nonzero().flatten()
            if len(dead) and reseeded < _RESEEDINGS and self._reseed(dead):
                reseeded += 1
            elif len(self.trace) > 1:
                fall = self.trace[-2] - self.trace[-1]
                if fall <= settings.tolerance * _CHECK * abs(self.trace[-1]):
                    return True
        return False

    def _codes(self, sweeps: int) -> None:
        """Update the codes block by block; gather Z'A, Z'Z and ΣZ, summed over blocks in fp64."""
        rank, width = self.atoms.shape
        self.cross = self.atoms.new_zeros(rank, width, dtype=torch.float64)
        self.gram = self.atoms.new_zeros(rank, rank, dtype=torch.float64)
        self.total = self.atoms.new_zeros((), dtype=torch.float64)
        pull, inward, shift = prepare(self.atoms, self.penalty)
        for block, codes in self.blocks():
            sweep_codes(codes, torch.addmm(shift, inward, block.T), pull, sweeps)
            self.cross += codes @ block
            self.gram += codes @ codes.T
            if self.penalty:
                self.total += codes.sum(dtype=torch.float64)

    def _atoms(self, sweeps: int) -> None:
        """Update the atoms, each to the best unit vector given the others.

        With ‖d‖ = 1 the objective is linear in d, so the minimum is the (positive part of the) residual's direction; an
        atom without codes stays as it is, and one that would vanish too, so that none is lost for good.
        """
        cross, gram = self.cross.to(self.atoms), self.gram.to(self.atoms)
        free = self.penalty == 0
        sweep_atoms(self.atoms, cross, gram, sweeps, signed=self.signed, free=free)
        if free:
            # Without a penalty the norm is free, and following it is faster; the codes take it over.
            norms = self.atoms.norm(dim=1)
            self.atoms /= norms[:, None]
            self.scale(norms)
            self.cross *= norms[:, None]
            self.gram *= norms[:, None] * norms

    def squared_error(self) -> float:
        """Return ‖A − Z D‖² = ‖A‖² − 2⟨Z'A, D⟩ + ⟨Z'Z, DD'⟩, scalars in fp64: in fp32 the difference is noise."""
        atoms = self.atoms.double()
        return self.energy - 2 * float((self.cross * atoms).sum()) + float((self.gram * (atoms @ atoms.T)).sum())

    def relative_error(self) -> float:
        """Return ‖A − Z D‖ / ‖A‖."""
        return math.sqrt(max(self.squared_error(), 0.0) / self.energy)

    def objective(self) -> float:
        """Return ½‖A − Z D‖² + penalty · ΣZ."""
        return 0.5 * self.squared_error() + self.penalty * float(self.total)

    def _reseed(self, dead: Tensor) -> bool:
        """Give atoms without codes the directions that the worst rows still lack; return whether there were any.

        Their codes are zero, so the objective stays as it is. Each direction is taken out of the rows that wait before
        the next is chosen. A direction that would not pay its penalty is not taken: such an atom stays dead.
        """
        wanted = min(8 * len(dead), self.count)
        errors, rows, columns = self.atoms.new_empty(0), self.atoms[:0], self.atoms[:, :0]
        for block, codes in self.blocks():
            errors = torch.cat([errors, (block - codes.T @ self.atoms).square().sum(1)])
            worst = errors.topk(min(wanted, len(errors)))
            errors = worst.values
            rows = torch.cat([rows, block])[worst.indices]
            columns = torch.cat([columns, codes], dim=1)[:, worst.indices]
        rest = rows - columns.T @ self.atoms
        found = False
        for k in dead.tolist():
            gains = rest if self.signed else rest.clamp_min(0)
            norms = gains.norm(dim=1)
            place = int(norms.argmax())
            if not float(norms[place]) > max(self.penalty, 1e-6 * math.sqrt(self.energy / self.count)):
                break
            self.atoms[k] = gains[place] / norms[place]
            rest = rest - torch.outer((rest @ self.atoms[k]).clamp_min(0), self.atoms[k])
            found = True
        return found


def unit(atoms: Tensor) -> Tensor:
    """Return atoms with unit rows; zero rows stay zero."""
    norms = atoms.norm(dim=1, keepdim=True)
    return torch.where(norms > 0, atoms / norms, 0)


def block_rows(rows: Tensor) -> int:
    """Return how many rows to work on at once."""
    return BLOCK_CPU if rows.device.type == "cpu" else BLOCK_GPU


@torch.no_grad()
def encode_nmf(rows: Tensor, atoms: Tensor, penalty: float = 0.0) -> Tensor:
    """Return the codes of rows: argmin over z >= 0 of ½‖a − zD‖² + penalty · Σz, for each row a alone.

    Sweeps begin at zero and go on, for each row, until one moves no code by more than `ENCODE_TOLERANCE` of the row's
    norm, or solving for the codes above zero gives the minimum, at most `ENCODE_SWEEPS`; rows that are done leave. So a
    row's codes do not depend on the rows beside it.

    Parameters
    ----------
    rows
        Activations (n x d), of either sign.
    atoms
        Atoms (k x d), of either sign; a zero atom's codes are zero.
    penalty
        Price of a unit of code, in the rows' units.

    Returns
    -------
    Tensor
        Codes (n x k), on the rows' device and of their type.
    """
    atoms = atoms.to(rows)
    pull, inward, shift = prepare(atoms, penalty)
    codes = rows.new_empty(len(rows), len(atoms))
    start = 0
    for block in torch.split(rows, block_rows(rows)):
        codes[start : start + len(block)] = _encode_block(torch.addmm(shift, inward, block.T), block, pull)
        start += len(block)
    return codes


def _encode_block(target: Tensor, block: Tensor, pull: Tensor) -> Tensor:
    """Return the codes (n x k) of one block of rows, given their targets (k x n).

    Sweeps find soon which codes are zero, and long only how large the others are, where atoms are nearly dependent. So
    between sweeps the others are solved for, and a row whose solution is a minimum is done.
    """
    done = torch.zeros_like(target)
    codes, waiting, norms = torch.zeros_like(target), torch.arange(len(block), device=block.device), block.norm(dim=1)
    system = torch.eye(len(pull)).to(pull) - pull
    made = 0
    while made < ENCODE_SWEEPS and len(waiting):
        # Few sweeps between looks at first, when most rows end, then more; the same for every row, whoever else waits.
        step = max(4, made // 2)
        sweep_codes(codes, target, pull, step - 1)
        before = codes.clone()
        sweep_codes(codes, target, pull, 1)
        made += step
        moved = (codes - before).abs_().amax(0)
        going = moved > ENCODE_TOLERANCE * torch.maximum(norms, codes.amax(0))
        if made >= _SOLVE_AFTER and bool(going.any()):
            unsettled = going.nonzero()[:, 0]
            solved, minimum = _solve(codes[:, unsettled], target[:, unsettled], system, norms[unsettled])
            codes[:, unsettled[minimum]] = solved[:, minimum]
            going[unsettled[minimum]] = False
        if made < ENCODE_SWEEPS and bool(going.all()):
            continue
        done[:, waiting] = codes
        waiting, norms = waiting[going], norms[going]
        codes, target = codes[:, going].contiguous(), target[:, going].contiguous()
    return done.T


def _solve(codes: Tensor, target: Tensor, system: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
    """Solve for the codes (k x n) that are not zero, the others staying so; and say which rows are then at a minimum.

    A minimum has no negative code, and no zero code that would gain by rising (Karush, Kuhn and Tucker).
    """
    width = int((codes > 0).sum(0).max())
    if not width:
        return codes, torch.zeros(codes.shape[1], dtype=torch.bool, device=codes.device)
    values, places = codes.T.topk(width, dim=1)
    live = values > 0
    matrix = system[places[:, :, None], places[:, None, :]] * (live[:, :, None] & live[:, None, :])
    matrix = matrix + torch.diag_embed((~live).to(codes))
    aims = torch.where(live, target.T.gather(1, places), 0)
    found, failed = torch.linalg.solve_ex(matrix, aims)
    solved = torch.zeros_like(codes.T).scatter_(1, places, torch.where(live, found, 0)).T
    slack = ENCODE_TOLERANCE * torch.maximum(norms, solved.amax(0))
    gain = torch.where(solved > 0, 0, target - system @ solved)
    minimum = (failed == 0) & (solved >= 0).all(0) & (gain <= slack).all(0)
    left = torch.where(solved > 0, target - system @ solved, 0).abs().amax(0)  # a nearly singular system
    return solved, minimum & (left <= slack)
