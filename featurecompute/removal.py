"""Maps less one term each, and what a linear module makes of them without being run.

In: maps, codes and vectors.  Out: `Removal`.  Knows no network and no basis.

A convolution is linear: W * (A - u v) = W * A - (W v) * u. The first part is computed once an image; the second is a
convolution of the single map u, which costs one channel instead of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Removal:
    """Maps base[which] - u v, one term u v each.

    Parameters
    ----------
    base
        Maps the terms are taken from (B x channels x positions).
    which
        Which of them each is (n).
    codes
        u (n x positions).
    units
        Number of each unit (n).
    atoms
        v of every unit (units x channels); None where a unit is a channel of the base, and u what stands there.
    """

    base: Tensor
    which: Tensor
    codes: Tensor
    units: Tensor
    atoms: Tensor | None

    def maps(self) -> Tensor:
        """Return the maps (n x channels x positions)."""
        found = self.base.index_select(0, self.which)  # a copy, faster than by indexing
        if self.atoms is None:
            found[torch.arange(len(self.units), device=found.device), self.units] = 0
            return found
        return found.baddbmm_(self.atoms[self.units][:, :, None], self.codes[:, None, :], alpha=-1)

    def through(self, module: nn.Module, whole: Tensor, size: tuple[int, int]) -> Tensor:
        """Return what a module that `is_linear` gives for the maps.

        Parameters
        ----------
        module
            Convolution, or pooling by the mean over all positions.
        whole
            What it gives for the base (B x channels out x height out x width out).
        size
            Height and width of the maps.
        """
        given = whole.index_select(0, self.which)
        if not isinstance(module, nn.Conv2d):
            return given.sub_(self._vectors(self.codes.mean(1, keepdim=True), given.shape[1]))
        weights = module.weight.flatten(2)  # channels out x channels x places of the kernel
        if self.atoms is None:
            kernel = weights.index_select(1, self.units).transpose(0, 1)
        else:
            kernel = torch.einsum("nc,ock->nok", self.atoms[self.units], weights)
        code = self.codes.reshape(-1, 1, *size)
        seen = F.unfold(code, module.kernel_size, module.dilation, module.padding, module.stride)  # type: ignore[arg-type]
        shape = given.shape
        return given.flatten(2).baddbmm_(kernel, seen, alpha=-1).reshape(shape)

    def _vectors(self, codes: Tensor, channels: int) -> Tensor:
        """Return codes (n x 1) times their vectors (n x channels x 1 x 1)."""
        if self.atoms is not None:
            return (codes * self.atoms[self.units])[:, :, None, None]
        found = codes.new_zeros(len(codes), channels)
        return found.scatter_(1, self.units[:, None], codes)[:, :, None, None]


def is_linear(module: nn.Module) -> bool:
    """Say whether a module's own forward is linear in a map, plus a constant, in a way that `Removal.through` knows."""
    if module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__:
        return False
    if type(module) is nn.AdaptiveAvgPool2d:
        return module.output_size in (1, (1, 1))
    return (
        type(module) is nn.Conv2d  # a parametrised one is of another class
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and module.weight.dtype == torch.float32
    )
