"""One sweep over the columns of a factorisation: codes given atoms, atoms given codes, each to its exact minimum.

In: codes, atoms, and the products that they meet in.  Out: the same, updated in place.  Knows no rows, no objective
and no end.
"""

from __future__ import annotations

import functools
import warnings

import torch
from torch import Tensor

from featurecompute import kernels

_AGREEMENT = 1e-4


def prepare(atoms: Tensor, penalty: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return what sweeps over codes need: each atom's pull on the others, and the map from rows to targets.

    A column's minimum is max(0, (⟨a, d_k⟩ − penalty − Σ_j≠k B_kj z_j) / B_kk), B = DD' (Cichocki & Phan, 2009, IEICE
    E92-A); all is divided by B_kk here. A zero atom has no minimum: its code pulls itself by 1 and nothing else does,
    so it stays what it is.

    Parameters
    ----------
    atoms
        Atoms (k x d), of any norm.
    penalty
        Price of a unit of code, in the rows' units.

    Returns
    -------
    pull, inward, shift
        k x k, k x d and k x 1: the targets of rows A are ``inward @ A.T + shift``.
    """
    gram = atoms @ atoms.T
    diagonal = gram.diagonal().clone()
    alive = diagonal > 0
    safe = torch.where(alive, diagonal, 1)
    pull = -gram / safe[:, None]
    pull.diagonal().copy_(torch.where(alive, 0, 1))
    return pull, atoms / safe[:, None], torch.where(alive, -penalty / safe, 0)[:, None]


def sweep_codes(codes: Tensor, target: Tensor, pull: Tensor, sweeps: int) -> None:
    """Update codes (k x n, >= 0) in place, a column of the factorisation after another, `sweeps` times.

    Parameters
    ----------
    codes
        To be updated.
    target
        What each would be without the others (k x n), contiguous; see `prepare`.
    pull
        Of `prepare`.
    sweeps
        Times that all columns are gone through.
    """
    if fused(codes):
        kernels.sweep_codes(codes, target, pull, sweeps)
    else:
        _codes(codes, target, pull, sweeps)


def sweep_atoms(atoms: Tensor, cross: Tensor, gram: Tensor, sweeps: int, *, signed: bool, free: bool) -> None:
    """Update atoms (k x d) in place, each to the best given the others; one without codes stays as it is.

    Parameters
    ----------
    atoms
        To be updated.
    cross, gram
        Z'A (k x d) and Z'Z (k x k).
    sweeps
        Times that all atoms are gone through.
    signed
        Whether atoms may be negative.
    free
        Whether the norm is left as it comes, or made 1.
    """
    sweep = kernels.sweep_atoms if fused(atoms) else _atoms
    sweep(atoms, cross, gram, sweeps, signed=signed, free=free)


def fused(values: Tensor) -> bool:
    """Tell whether sweeps over these are made by `kernels`: on a device that can, in float32."""
    return values.dtype == torch.float32 and kernels.available(values.device) and _agree(values.device)


def _codes(codes: Tensor, target: Tensor, pull: Tensor, sweeps: int) -> None:
    across, buffer = codes.T, torch.empty_like(codes[0])
    alive = (pull.diagonal() == 0).tolist()
    columns, targets, pulls = codes.unbind(), target.unbind(), pull.unbind()
    for _ in range(sweeps):
        for k, column in enumerate(columns):
            if alive[k]:
                torch.addmv(targets[k], across, pulls[k], out=buffer)
                torch.clamp_min(buffer, 0, out=column)


def _atoms(atoms: Tensor, cross: Tensor, gram: Tensor, sweeps: int, *, signed: bool, free: bool) -> None:
    inner = gram.clone().fill_diagonal_(0)
    used = (gram.diagonal() > 0).tolist()
    for _ in range(sweeps):
        for k, atom in enumerate(atoms):
            if not used[k]:
                continue
            best = torch.addmv(cross[k], atoms.T, inner[k], alpha=-1)
            if not signed:
                best.clamp_min_(0)
            if free:
                best /= gram[k, k]
            norm = best.norm()
            atom.copy_(torch.where(norm > 0, best if free else best / norm, atom))


@functools.cache
def _agree(device: torch.device) -> bool:
    """Tell whether kernels give on a device what columns one after another give there; a compiler may fail, or err."""
    try:
        fault = "" if disagreement(device) < _AGREEMENT else "their results differ"
    except Exception as error:  # whatever a compiler raises: the columns are there
        fault = str(error).strip().split("\n")[0] or type(error).__name__
    if fault:
        warnings.warn(
            f"the kernels of NMF cannot be used on {device} ({fault}); it takes longer without them.", stacklevel=2
        )
    return not fault


def disagreement(device: torch.device) -> float:
    """Return the largest difference that kernels make on a small problem, as a share of the largest value.

    The problem has a zero atom and one without codes, and fills neither tile nor band.
    """
    generator = torch.Generator().manual_seed(0)
    atoms = torch.rand(kernels.BAND + 5, kernels.CHUNK + 40, generator=generator).to(device)
    codes = torch.rand(len(atoms), kernels.TILE + 9, generator=generator).to(device)
    atoms[3] = 0
    codes[7] = 0
    pull, inward, shift = prepare(atoms, 0.1)
    target = torch.addmm(shift, inward, (codes.T @ atoms).T)
    cross, gram = codes @ (codes.T @ atoms), codes @ codes.T
    differences = []
    plain, other = codes * 0.5, codes * 0.5
    _codes(plain, target, pull, 2)
    kernels.sweep_codes(other, target, pull, 2)
    differences.append((plain - other).abs().max() / plain.max())
    for signed in (False, True):
        plain, other = atoms.flip(1).contiguous(), atoms.flip(1).contiguous()
        _atoms(plain, cross, gram, 2, signed=signed, free=not signed)
        kernels.sweep_atoms(other, cross, gram, 2, signed=signed, free=not signed)
        differences.append((plain - other).abs().max() / plain.abs().max())
    return float(torch.stack(differences).max())
