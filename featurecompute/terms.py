"""A layer's maps as sums of terms, one for each unit of a basis, and what no unit accounts for.

In: maps (batch x channels x positions) and a basis.  Out: `Terms`: maps without units, their norms, and projections.
Knows no network and no table.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from featurecompute.bases import Basis, NeuronBasis
from featurecompute.errors import DictionaryError
from featurecompute.removal import Removal


@dataclass(frozen=True, eq=False)
class Terms:
    """Maps A = sum over units k of u_k v_k, plus a constant and a rest.

    Parameters
    ----------
    maps
        The layer's maps A (B x channels x positions).
    codes
        How active each unit is at each position, u (B x units x positions).
    atoms
        What a unit stands for, v (units x channels); None for neurons, whose term is their own channel.
    kept
        A with all units kept, decode(codes) (B x channels x positions); for neurons A itself.
    """

    maps: Tensor
    codes: Tensor
    atoms: Tensor | None
    kept: Tensor

    @property
    def size(self) -> int:
        """Number of units."""
        return self.codes.shape[1]

    def without(self, which: Tensor, units: Tensor, *, rest: bool) -> Removal:
        """Return maps without one unit each.

        Parameters
        ----------
        which
            Image of each (n).
        units
            Unit of each (n).
        rest
            Keep what the units do not account for (A - u_k v_k), or not (decode(codes without k)).
        """
        return Removal(self.maps if rest else self.kept, which, self.codes[which, units], units, self.atoms)

    def masked(self, which: Tensor, masks: Tensor, *, rest: bool) -> Tensor:
        """Return maps (n x channels x positions) whose units are multiplied by masks (n x units)."""
        if self.atoms is None:
            return self.maps.index_select(0, which) * masks[:, :, None]
        change = torch.matmul(self.atoms.T, self.codes.index_select(0, which) * (masks - 1)[:, :, None])
        return change.add_((self.maps if rest else self.kept).index_select(0, which))

    def norms(self, *, rest: bool) -> Tensor:
        """Return the L2 norm of what nulling each unit removes, ||A - nulled|| (B x units), in float64.

        With the rest kept it is ||u_k|| ||v_k||; without it what is removed is R + u_k v_k, R the rest, and
        ||R + u_k v_k||^2 = ||R||^2 + 2 <R v_k, u_k> + ||u_k||^2 ||v_k||^2.
        """
        squared = self.codes.double().square().sum(2)
        if self.atoms is None:
            return squared.sqrt()
        squared = squared * self.atoms.double().square().sum(1)
        if not rest:
            left = self.maps - self.kept
            squared = squared + left.double().square().sum((1, 2))[:, None] + 2 * self.project(left).double()
        return squared.clamp_min(0).sqrt()

    def project(self, values: Tensor) -> Tensor:
        """Return <values, u_k v_k> (B x units) of maps of values (B x channels x positions)."""
        along = values if self.atoms is None else torch.matmul(self.atoms, values)
        return (along * self.codes).sum(2)


def terms_of(maps: Tensor, basis: Basis) -> Terms:
    """Read maps in a basis.

    Parameters
    ----------
    maps
        A layer's maps (B x channels x positions).
    basis
        Its `decode` must be linear in the codes, plus at most a constant.

    Raises
    ------
    DictionaryError
        If `decode` is not.
    """
    if isinstance(basis, NeuronBasis):
        return Terms(maps, maps, None, maps)
    batch, channels, positions = maps.shape
    with torch.no_grad():
        rows = maps.transpose(1, 2).reshape(-1, channels)
        codes = basis.encode(rows).to(maps)
        kept = basis.decode(codes).to(maps)
        nothing = basis.decode(torch.zeros_like(codes[:1])).to(maps)
        atoms = basis.decode(torch.eye(basis.size, dtype=maps.dtype, device=maps.device)).to(maps) - nothing
        linear = codes @ atoms + nothing
        scale = float(kept.abs().max())
        if not float((linear - kept).abs().max()) <= 1e-4 * scale + 1e-12:
            raise DictionaryError(
                f"the dictionary of layer '{basis.layer}' ({basis.method}) does not decode linearly; what a unit adds "
                "must be its code times one vector."
            )
    return Terms(
        maps,
        codes.reshape(batch, positions, -1).transpose(1, 2).contiguous(),
        atoms,
        kept.reshape(batch, positions, -1).transpose(1, 2).contiguous(),
    )
