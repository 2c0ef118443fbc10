"""What a layer may be read in: its neurons, or directions; one promise for both.

In: rows of activations (n x channels).  Out: codes (n x units) and back.  Knows no network, no image and how no
dictionary was learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from torch import Tensor

Representation: TypeAlias = Literal["local", "distributed"]


class Basis(Protocol):
    """Units that a layer's activations are read in.

    Codes of a row must not depend on the rows beside it, so that images can be read in any batch.
    """

    @property
    def layer(self) -> str:
        """Layer it belongs to."""

    @property
    def representation(self) -> Representation:
        """Whether its units are neurons or directions."""

    @property
    def method(self) -> str:
        """Name: neuron, or what a dictionary was learned by."""

    @property
    def size(self) -> int:
        """Number of units k."""

    @property
    def sha256(self) -> str:
        """Hash of what defines it."""

    def encode(self, rows: Tensor) -> Tensor:
        """Return the codes (n x k) of rows (n x channels)."""

    def decode(self, codes: Tensor) -> Tensor:
        """Return the rows (n x channels) that codes (n x k) stand for: linear in the codes, plus at most a constant."""


@dataclass(frozen=True)
class NeuronBasis:
    """A layer's channels as they are.

    Parameters
    ----------
    layer
        Layer.
    size
        Channels.
    """

    layer: str
    size: int

    representation: Representation = "local"
    method: str = "neuron"

    @property
    def sha256(self) -> str:
        """Neurons are defined by the network alone."""
        return "neuron"

    def encode(self, rows: Tensor) -> Tensor:
        """Return rows as they are."""
        return rows

    def decode(self, codes: Tensor) -> Tensor:
        """Return codes as they are."""
        return codes
