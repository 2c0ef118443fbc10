"""A network compiled as one graph, out of which comes what is kept of its layers.

In: a module, and what is made of the outputs of some of its layers.  Out: that, for images.  Knows no image and no
basis.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from featurecompute.hooks import watch

BACKEND = "inductor"
"""What `torch.compile` makes of the graph."""

TOLERANCE = 0.05
"""Largest difference of a compiled network in bf16, as a share of the largest value: what is fused rounds once."""

Taken: TypeAlias = dict[str, tuple[Tensor, ...]]
Take: TypeAlias = Callable[[Tensor], tuple[Tensor, ...]]


class Recorder(nn.Module):
    """A network that gives what is made of its layers' outputs instead of its own.

    What is made is part of the graph, so that a compiler can fuse it with the layers. The network is a copy that has
    the same weights in memory and keeps its hooks: a compiler may take no notice of hooks that come or go.

    Parameters
    ----------
    module
        Network.
    takes
        Layer to what is made of its output, in operations of torch; what is a view of the output must be cloned.

    Raises
    ------
    NetworkError
        If there is no such layer.
    """

    def __init__(self, module: nn.Module, takes: Mapping[str, Take]) -> None:
        super().__init__()
        shared = {id(part): part for part in (*module.parameters(), *module.buffers())}
        self.module = copy.deepcopy(module, shared)
        self._found: Taken = {}
        self._hooks = contextlib.ExitStack()  # as long as this lives
        self._hooks.enter_context(watch(self.module, {name: self._keep(name, take) for name, take in takes.items()}))

    def _keep(self, name: str, take: Take) -> Callable[[Tensor], None]:
        def action(output: Tensor) -> None:
            self._found[name] = take(output)

        return action

    def forward(self, images: Tensor) -> Taken:
        """Return, for each layer, what is made of its output."""
        self._found = {}
        self.module(images)
        return self._found


class Compiled:
    """A function of images that runs a network compiled, or as it is where that cannot be.

    The first call compiles, for images of one shape, and compares: what the compiled network gives must be what it
    gives otherwise, to bf16's digits.

    Parameters
    ----------
    module, takes
        As of `Recorder`.

    Attributes
    ----------
    fault
        Why the network is run as it is; empty: it is not.
    """

    def __init__(self, module: nn.Module, takes: Mapping[str, Take]) -> None:
        self.fault = ""
        self._plain = Recorder(module, takes).eval()
        self._compiled: Callable[[Tensor], Taken] = torch.compile(
            self._plain, backend=BACKEND, fullgraph=True, dynamic=False
        )
        self._compared = False

    def __call__(self, images: Tensor) -> Taken:
        """Return, for each layer that is run, what is made of its output."""
        if self._compared:
            return self._plain(images) if self.fault else self._compiled(images)
        expected: Taken = self._plain(images)
        self._compared = True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a compiler has much to say
                found = self._compiled(images)
        except Exception as error:  # whatever a compiler raises: the network is there
            inner = getattr(error, "inner_exception", error)  # what the compiler itself raised
            self.fault = str(inner).strip().split("\n")[0].rstrip(".") or type(inner).__name__
            return expected
        if not _agree(expected, found):
            self.fault = "its results would differ"
            return expected
        return found


def _agree(expected: Taken, found: Taken) -> bool:
    """Tell whether all numbers agree; positions of maxima may not, where several are nearly the same."""
    if list(expected) != list(found):
        return False
    pairs = [pair for name in expected for pair in zip(expected[name], found[name], strict=True)]
    return all(
        float((one - other).abs().max()) <= TOLERANCE * float(one.abs().max())
        for one, other in pairs
        if one.is_floating_point()
    )
