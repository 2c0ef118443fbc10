"""Dictionaries whose algebra is known, and one that is learned.

In: shapes and a seed.  Out: bases.  Knows no test.
"""

import dataclasses

import torch

from featurecompute.dictionaries import fit_dictionary
from featurecompute.study import DictionaryTable


@dataclasses.dataclass(frozen=True)
class Planted:
    """Codes are relu(rows E), rows are codes V + b: what is left over, and by how much atoms overlap, is arbitrary."""

    layer: str
    encoder: torch.Tensor
    atoms: torch.Tensor
    offset: torch.Tensor
    representation: str = "distributed"
    method: str = "planted"
    sha256: str = "planted"

    @property
    def size(self):
        return len(self.atoms)

    def encode(self, rows):
        return (rows @ self.encoder.to(rows)).relu()

    def decode(self, codes):
        return codes @ self.atoms.to(codes) + self.offset.to(codes)


def planted(layer, channels, size=5, seed=0, offset=True):
    """Return a basis of arbitrary directions."""
    draw = torch.Generator().manual_seed(seed)
    encoder = torch.randn(channels, size, generator=draw) / channels**0.5
    atoms = torch.randn(size, channels, generator=draw)
    return Planted(layer, encoder, atoms, torch.randn(channels, generator=draw) * offset)


def learned(maps, layer, rank=4, method="nmf", signed="semi_nmf"):
    """Return a dictionary learned from the positions of maps."""
    table = DictionaryTable(method=method, rank=rank, signed=signed, stability_seeds=0)
    return fit_dictionary(maps.transpose(1, 2).flatten(0, 1), table, layer)
