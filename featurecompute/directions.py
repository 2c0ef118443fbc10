"""Directions by plain means: principal components and centres of clusters.

In: rows of activations (n x d) as a tensor.  Out: unit atoms (k x d) and what codes need.  Knows no layer and no file.
"""

from __future__ import annotations

import torch
from torch import Tensor

from featurecompute.errors import DictionaryError
from featurecompute.nmf import block_rows, unit

_ITERATIONS = 100


@torch.no_grad()
def principal_components(rows: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the first principal components (k x d), unit rows, and the mean (d,).

    From the eigenvectors of the covariance in fp64. A component's sign is such that its largest entry (the first, of
    equals) is positive.

    Raises
    ------
    DictionaryError
        If there are fewer directions than `rank`.
    """
    if rank > min(rows.shape[1], len(rows) - 1):
        raise DictionaryError(
            f"PCA of {len(rows)} rows of {rows.shape[1]} channels has at most {min(rows.shape[1], len(rows) - 1)} "
            f"components, but rank is {rank}."
        )
    mean = rows.mean(0, dtype=torch.float64)
    covariance = rows.new_zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for block in torch.split(rows, block_rows(rows)):
        centred = block.double() - mean
        covariance += centred.T @ centred
    atoms = torch.linalg.eigh(covariance).eigenvectors.T.flip(0)[:rank]
    # Rounding before the comparison: entries that are equal but for noise must not let the sign hang on the noise.
    place = (atoms.abs() * 1e6).round().argmax(1, keepdim=True)
    atoms = atoms * atoms.gather(1, place).sign()
    return atoms.to(rows).contiguous(), mean.to(rows)


@torch.no_grad()
def cluster_centres(rows: Tensor, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the directions of k-means' centres (k x d), unit rows, and the centres' norms (k,).

    Lloyd's algorithm from k-means++ centres (Arthur & Vassilvitskii, 2007); an empty cluster takes the row that is
    farthest from its centre.
    """
    generator = torch.Generator().manual_seed(seed)
    pick = int(torch.randint(len(rows), (), generator=generator))
    centres = rows[pick : pick + 1]
    distance = (rows - centres).square().sum(1)
    while len(centres) < rank:
        edges = distance.double().cumsum(0).cpu()
        draw = torch.rand((), generator=generator, dtype=torch.float64) * edges[-1]
        pick = min(int(torch.searchsorted(edges, draw, right=True)), len(rows) - 1)
        centres = torch.cat([centres, rows[pick : pick + 1]])
        distance = torch.minimum(distance, (rows - centres[-1]).square().sum(1))
    owner = torch.full((len(rows),), -1, device=rows.device)
    for _ in range(_ITERATIONS):
        atoms, norms = unit(centres), centres.norm(dim=1)
        found = nearest_centre(rows, atoms, norms)
        if bool((found == owner).all()):
            break
        owner = found
        counts = torch.bincount(owner, minlength=rank)
        # A product with the membership, not index_add, whose order of summing is not fixed on a GPU.
        member = torch.nn.functional.one_hot(owner, rank).to(rows)
        centres = (member.T @ rows) / counts.clamp_min(1)[:, None]
        empty = (counts == 0).nonzero().flatten()
        if len(empty):
            far = (rows - centres[owner]).square().sum(1).topk(len(empty)).indices
            centres[empty] = rows[far]
    return unit(centres), centres.norm(dim=1)


def nearest_centre(rows: Tensor, atoms: Tensor, norms: Tensor) -> Tensor:
    """Return the index of each row's nearest centre; centres are `atoms` times `norms`.

    ‖a − c‖² is least where ⟨a, c⟩ − ½‖c‖² is largest.
    """
    return torch.addmm(-0.5 * norms.square(), rows, (atoms * norms[:, None]).T).argmax(1)


def encode_centres(rows: Tensor, atoms: Tensor, norms: Tensor) -> Tensor:
    """Return codes (n x k): the non-negative projection on the nearest centre's direction, all others zero."""
    owner = nearest_centre(rows, atoms, norms)[:, None]
    projection = (rows @ atoms.T).clamp_min(0)
    return torch.zeros_like(projection).scatter_(1, owner, projection.gather(1, owner))
