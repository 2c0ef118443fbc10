"""Scores of units that are not nulled one by one: gradient x activation, integrated gradients, Sobol's total index.

In: a network split at a layer, its maps as terms of a basis, and target classes.  Out: scores (images x units).
Knows no table and no name of a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from featurecompute.errors import InputError
from featurecompute.replay import Suffix
from featurecompute.terms import Terms


def target_logits(suffix: Suffix, maps: Tensor, which: Tensor, targets: Tensor) -> Tensor:
    """Return the target's logit (n) of maps (n x channels x positions); `targets` (B) has each image's class."""
    return suffix(maps, which).gather(1, targets[which][:, None])[:, 0]


def gradients(suffix: Suffix, targets: Tensor, *, scale: float = 1.0, batch: int = 32) -> Tensor:
    """Return the gradient of the target's logit (B x channels x positions) at the layer's maps times `scale`."""
    if suffix.linear is not None:
        weights, _ = suffix.linear
        positions = suffix.maps.shape[2]
        return (weights[targets] / positions)[:, :, None].expand(-1, -1, positions)
    found = []
    for which in torch.arange(len(targets), device=suffix.maps.device).split(batch):  # type: ignore[no-untyped-call]
        with torch.enable_grad():
            maps = (suffix.maps[which] * scale).requires_grad_()
            logits = target_logits(suffix, maps, which, targets)
            found.append(torch.autograd.grad(logits.sum(), maps)[0])
    return torch.cat(found)


def gradient_x_activation(suffix: Suffix, terms: Terms, targets: Tensor, *, batch: int = 32) -> Tensor:
    """Return <gradient, u_k v_k>, the first-order estimate of the drop when u_k v_k is subtracted (B x units).

    For neurons it is the gradient times the activation, summed over positions (Shrikumar et al. 2016,
    arXiv:1605.01713).
    """
    return terms.project(gradients(suffix, targets, batch=batch))


def integrated_gradients(
    suffix: Suffix, terms: Terms, targets: Tensor, *, steps: int = 20, batch: int = 32
) -> tuple[Tensor, Tensor]:
    """Integrate the gradient along the maps times t, t from 0 to 1 (Sundararajan, Taly & Yan 2017, arXiv:1703.01365).

    Parameters
    ----------
    suffix, terms, targets
        Network split at the layer, its maps as terms, class of each image (B).
    steps
        Points of the Gauss-Legendre rule.
    batch
        Maps at once.

    Returns
    -------
    scores : Tensor
        <integrated gradient, u_k v_k> (B x units). What a dictionary leaves over has a share of its own:
        <integrated gradient, A - sum of terms>.
    incompleteness : Tensor
        logit(A) - logit(0) - <integrated gradient, A> (B): zero for an exact integral.
    """
    points, weights = np.polynomial.legendre.leggauss(steps)
    mean = torch.zeros_like(suffix.maps)
    for point, weight in zip((1 + points) / 2, weights / 2, strict=True):
        mean += float(weight) * gradients(suffix, targets, scale=float(point), batch=batch)
        if suffix.linear is not None:  # the gradient is the same everywhere
            mean /= float(weight)
            break
    which = torch.arange(len(targets), device=suffix.maps.device)
    with torch.no_grad():
        start = torch.cat(
            [
                target_logits(suffix, torch.zeros_like(suffix.maps[part]), part, targets)
                for part in which.split(batch)  # type: ignore[no-untyped-call]
            ]
        )
    change = suffix.logits.gather(1, targets[:, None])[:, 0] - start
    return terms.project(mean), change - (mean * suffix.maps).sum((1, 2))


def total_indices(
    function: Callable[[Tensor], Tensor],
    size: int,
    units: Sequence[int],
    *,
    designs: int,
    seed: int,
    device: str = "cpu",
) -> Tensor:
    """Estimate Sobol's total index of some of a function's arguments, uniform on [0, 1], with Jansen's estimator.

    ``ST_i = sum_j (f(A_j) - f(AB_ij))^2 / (2 n Var f)`` (Jansen 1999, doi:10.1016/S0010-4655(98)00154-4), A and B two
    designs, AB_i the design A with column i of B. As in CRAFT the variance is that of f(A); f(B) is not needed.

    Parameters
    ----------
    function
        Of arguments (n x size), giving values (n).
    size
        Number of arguments.
    units
        Arguments whose index is wanted.
    designs
        Rows n of a design: the first of a scrambled Sobol sequence. The function is called with n (1 + units) rows.
    seed
        Of the scrambling; the same seed gives the same designs.

    Returns
    -------
    Tensor
        Total indices (units), float64; zero where the function is constant.
    """
    if 2 * size > qmc.Sobol.MAXDIM:
        raise InputError(f"Sobol indices allow at most {qmc.Sobol.MAXDIM // 2} units a layer; this one has {size}.")
    sampler = qmc.Sobol(2 * size, scramble=True, seed=np.random.default_rng(seed))
    # A whole power of two is drawn, because SciPy warns of any other number; the first rows are the same.
    points = sampler.random_base2(int(np.ceil(np.log2(max(designs, 2)))))[:designs]
    first, second = torch.from_numpy(points).float().to(device).split(size, dim=1)  # type: ignore[no-untyped-call]
    base = function(first).double()
    spread = base.var()
    found = torch.zeros(len(units), dtype=torch.float64, device=device)
    for place, unit in enumerate(units):
        mixed = first.clone()
        mixed[:, unit] = second[:, unit]
        found[place] = (base - function(mixed).double()).square().sum()
    # A spread of rounding size is none.
    still = bool(spread <= (1e-6 * base.abs().max()) ** 2)
    return found * 0 if still else found / (2 * designs * spread)


def sobol(
    suffix: Suffix,
    terms: Terms,
    targets: Tensor,
    units: Sequence[int],
    *,
    designs: int = 32,
    seed: int = 1,
    batch: int = 32,
) -> Tensor:
    """Return Sobol's total index of units for the target's logit, as CRAFT does (Fel et al. 2023, arXiv:2211.10154).

    In each image every unit's code is multiplied by a mask in [0, 1], the same at all positions, and the codes are
    decoded; what the dictionary leaves over is left out. All images have the same designs.

    Returns
    -------
    Tensor
        Total indices (B x units asked for): shares of the logit's variance over masks, not logits.
    """
    found = []
    for image in range(len(targets)):

        def function(masks: Tensor, image: int = image) -> Tensor:
            values = []
            for part in masks.split(batch):  # type: ignore[no-untyped-call]
                which = torch.full((len(part),), image, device=part.device)
                with torch.no_grad():
                    maps = terms.masked(which, part, rest=False)
                    values.append(target_logits(suffix, maps, which, targets))
            return torch.cat(values)

        device = str(suffix.maps.device)
        found.append(total_indices(function, terms.size, units, designs=designs, seed=seed, device=device))
    return torch.stack(found)
