"""Sweeps of the factorisation on a CUDA device: all columns of a tile of rows in one launch, written in Triton.

In: codes or atoms, their targets and pulls, as tensors.  Out: the same, updated in place.  Knows no rows and no
objective.

`sweeps` has the mathematics and the same as columns, one after another. There each column reads all codes again:
at rank 300 some 300 readings a sweep. Here a program holds a tile of rows and goes through the columns in bands. What
the other bands pull is one small product a band, by the codes as they stand, and within the band column follows
column; so every update is the one that `sweeps` makes, in the same order, and differs by rounding alone.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

# The least side of a product in Triton, and the columns that follow one another within a program.
BAND = 16
# Rows of a program's tile of codes; channels of an atom in hand at once.
TILE, CHUNK = 128, 1024
_WARPS = {"codes": 4, "atoms": 8}

tl: Any = None
"""``triton.language``, which the kernels look for here, from the first launch on."""


def available(device: torch.device) -> bool:
    """Tell whether kernels can be built for a device: NVIDIA's from Ampere on, where triton is installed."""
    return (
        device.type == "cuda"
        and torch.version.hip is None
        and torch.cuda.get_device_capability(device) >= (8, 0)
        and importlib.util.find_spec("triton") is not None
    )


def sweep_codes(codes: Tensor, target: Tensor, pull: Tensor, sweeps: int) -> None:
    """Update codes in place, a column of the factorisation after another.

    Parameters
    ----------
    codes
        Codes (rank x n), float32, >= 0; the rows of a larger matrix may lie further apart.
    target
        What each code would be without the others (rank x n), contiguous.
    pull
        What a unit of another code changes in it (rank x rank), contiguous; see `sweeps.prepare`.
    sweeps
        Times that all columns are gone through.
    """
    rank, count = codes.shape
    if not rank or not count:
        return
    _launch(
        "codes", -(-count // TILE), codes, target, pull, rank, count, codes.stride(0), target.stride(0), sweeps, TILE
    )


def sweep_atoms(atoms: Tensor, cross: Tensor, gram: Tensor, sweeps: int, *, signed: bool, free: bool) -> None:
    """Update atoms in place, each to the best given the others.

    Parameters
    ----------
    atoms
        Atoms (rank x d), float32, contiguous.
    cross, gram
        Z'A (rank x d) and Z'Z (rank x rank), float32, contiguous. An atom without codes stays as it is.
    sweeps
        Times that all atoms are gone through.
    signed
        Whether atoms may be negative.
    free
        Whether the norm is left as it comes, or made 1.
    """
    rank, width = atoms.shape
    bands = torch.arange(rank, device=atoms.device) // BAND
    outside = torch.where(bands[:, None] == bands, 0, gram)
    for _ in range(sweeps):
        for start in range(0, rank, BAND):
            stop = min(start + BAND, rank)
            aim = torch.addmm(cross[start:stop], outside[start:stop], atoms, alpha=-1)
            _launch("atoms", 1, atoms, aim, gram, rank, width, start, stop - start, signed, free, CHUNK)


def _launch(which: str, programs: int, *arguments: Any) -> None:
    """Run a kernel on the tensors' own device, which need not be the current one."""
    device = arguments[0].device
    with torch.cuda.device(device) if device.type == "cuda" else torch.no_grad():
        _compiled()[which][(programs,)](*arguments, BAND, num_warps=_WARPS[which], num_stages=1, enable_fp_fusion=True)


@functools.cache
def _compiled() -> dict[str, Any]:
    """Return the kernels, triton imported now, so that what needs none of them does without it."""
    global tl
    import triton
    import triton.language

    tl = triton.language
    return {"codes": triton.jit(_codes), "atoms": triton.jit(_atoms)}


# What is annotated as a tensor is one of float32, named by its address, or a number.


def _codes(
    codes: tl.tensor,
    target: tl.tensor,
    pull: tl.tensor,
    rank: tl.tensor,
    count: tl.tensor,
    apart: tl.tensor,
    across: tl.tensor,
    sweeps: tl.tensor,
    TILE: tl.constexpr,
    BAND: tl.constexpr,
) -> None:
    rows = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = (rows < count)[None, :]
    band = tl.arange(0, BAND)
    for _ in range(sweeps):
        for start in range(0, rank, BAND):
            mine = start + band
            here = (mine < rank)[:, None] & inside
            # 64 bits: a rank of some thousands times a block of rows passes 2^31.
            places = mine.to(tl.int64)[:, None] * apart + rows[None, :]
            aim = tl.load(target + mine.to(tl.int64)[:, None] * across + rows[None, :], mask=here, other=0.0)
            for begin in range(0, rank, BAND):
                others = begin + band
                known = (mine < rank)[:, None] & ((others < rank) & (others != mine))[None, :]
                pulls = tl.load(pull + mine[:, None] * rank + others[None, :], mask=known, other=0.0)
                there = (others < rank)[:, None] & inside
                values = tl.load(codes + others.to(tl.int64)[:, None] * apart + rows[None, :], mask=there, other=0.0)
                # Three products of TF32 give about the digits of fp32, on units that are many times faster.
                aim = tl.dot(pulls, values, aim, input_precision="tf32x3")
            own = tl.load(codes + places, mask=here, other=0.0)
            for step in range(BAND):
                known = (mine < rank) & (mine - band + step < rank)
                row = tl.load(pull + (start + step) * rank + mine, mask=known, other=0.0)
                now = band[:, None] == step
                best = tl.sum(row[:, None] * own + tl.where(now, aim, 0.0), axis=0)
                own = tl.where(now, tl.maximum(best, 0.0)[None, :], own)
            # What one thread of the program writes, others of it read for the next band.
            tl.debug_barrier()
            tl.store(codes + places, own, mask=here)
            tl.debug_barrier()


def _atoms(
    atoms: tl.tensor,
    aim: tl.tensor,
    gram: tl.tensor,
    rank: tl.tensor,
    width: tl.tensor,
    start: tl.tensor,
    size: tl.tensor,
    signed: tl.constexpr,
    free: tl.constexpr,
    CHUNK: tl.constexpr,
    BAND: tl.constexpr,
) -> None:
    # One program: an atom needs its norm before the next is known, and programs cannot wait for one another.
    band = tl.arange(0, BAND)
    for step in range(size):
        weight = tl.load(gram + (start + step) * rank + start + step)
        known = (band < size) & (band != step)
        row = tl.load(gram + (start + step) * rank + start + band, mask=known, other=0.0)
        squares = tl.zeros([CHUNK], dtype=tl.float32)
        for begin in range(0, width, CHUNK):
            channels = begin + tl.arange(0, CHUNK)
            there = (band < size)[:, None] & (channels < width)[None, :]
            others = tl.load(atoms + (start + band)[:, None] * width + channels[None, :], mask=there, other=0.0)
            best = tl.load(aim + step * width + channels, mask=channels < width, other=0.0)
            best -= tl.sum(row[:, None] * others, axis=0)
            if not signed:
                best = tl.maximum(best, 0.0)
            if free:
                best /= tl.where(weight > 0, weight, 1.0)
            squares += best * best
            tl.store(aim + step * width + channels, best, mask=channels < width)
        norm = tl.sqrt(tl.sum(squares, axis=0))
        scale = 1.0 if free else tl.where(norm > 0, norm, 1.0)
        # An atom without codes stays as it is, and so does one that would vanish.
        moved = tl.where(norm > 0, tl.where(weight > 0, width, 0), 0)
        tl.debug_barrier()
        for begin in range(0, width, CHUNK):
            channels = begin + tl.arange(0, CHUNK)
            best = tl.load(aim + step * width + channels, mask=channels < width, other=0.0)
            tl.store(atoms + (start + step) * width + channels, best / scale, mask=channels < moved)
        tl.debug_barrier()
