"""One pass of a network, recorded: what every call gave that had ended when a layer ended.

In: a module, one of its layers and images.  Out: `Record`; and what the calls gave, held to be given again.  Knows no
basis and no image file.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from featurecompute.hooks import Layout, logits_of, to_map, watch
from featurecompute.removal import is_linear


class Held:
    """A tensor that a call gave: its values, or only its form, to be given again for any number of images."""

    def __init__(self, value: Tensor, rows: int, certain: bool) -> None:
        self.value: Tensor | None = None if value.is_meta else value
        self.rows = rows
        """Rows for each image along the first axis; 0 for a tensor that does not depend on the images."""
        self.certain = certain
        self.shape, self.dtype = value.shape, value.dtype
        self.replaced = False

    @property
    def poisonable(self) -> bool:
        return self.rows > 0 and self.dtype.is_floating_point

    def give(self, which: Tensor, true: bool, dense: bool) -> Tensor:
        if not self.poisonable or (true and not self.replaced):
            assert self.value is not None
            if not self.rows:
                return self.value.clone()  # the network may work in place
            parts = self.value.reshape(-1, self.rows, *self.shape[1:]).index_select(0, which)
            return parts.flatten(0, 1)
        shape = (which.shape[0] * self.rows, *self.shape[1:])
        if dense:
            return torch.full(shape, torch.nan, dtype=self.dtype, device=which.device)
        return torch.full((), torch.nan, dtype=self.dtype, device=which.device).expand(shape)


@dataclasses.dataclass
class Call:
    module: nn.Module | None
    """None: not a call, but the images themselves."""
    output: Any


def map_leaves(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to the leaves of what a call gave; the fields of a dataclass are leaves' places too."""
    if isinstance(value, Tensor | Held):  # most calls; the general way costs as much as a small layer
        return function(value)

    def leaf(part: Any) -> Any:
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            fields = [field.name for field in dataclasses.fields(part) if field.init]
            return dataclasses.replace(part, **{name: map_leaves(getattr(part, name), function) for name in fields})
        return function(part)

    return pytree.tree_map(leaf, value)


def tensors_of(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    map_leaves(value, lambda part: found.append(part) if isinstance(part, Tensor) else None)
    return found


def reads(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor, version: int) -> bool:
    """Say whether a call is handed just the layer's output, as the layer gave it."""
    return len(args) == 1 and not kwargs and args[0] is output and output._version == version


@contextlib.contextmanager
def patched(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Put other forwards on modules while the block runs; each has its own again afterwards, whatever happens."""
    before: list[tuple[nn.Module, bool, Any]] = []
    try:
        for module, forward in forwards.items():
            before.append((module, "forward" in module.__dict__, module.__dict__.get("forward")))
            module.__dict__["forward"] = forward
        yield
    finally:
        for module, had, forward in reversed(before):
            if had:
                module.__dict__["forward"] = forward
            else:
                module.__dict__.pop("forward", None)


class Record:
    """One pass of the whole network: what the calls gave that had ended when the layer's last call ended.

    Parameters
    ----------
    module, layer, layout, images
        As of `replay.split`.
    forms
        Keep of what depends on the images the form alone, a tensor without memory, instead of a copy: the memory that
        a network writes to anew with every pass costs a tenth of the pass.
    """

    def __init__(self, module: nn.Module, layer: str, layout: Layout, images: Tensor, forms: bool) -> None:
        self.target = module.get_submodule(layer)
        self.forms = forms
        self.batch = len(images)
        parts = layer.split(".")
        # Only calls made by modules that are still running when the layer ends are wanted. As a rule these are the
        # modules that the layer lies in; what others call is not held, so that its memory is free at once.
        self.keeps = {module.get_submodule(".".join(parts[:depth])) for depth in range(len(parts))}
        self._run(module, layer, layout, images)
        if self.lost:
            self.keeps = set(module.modules())
            self._run(module, layer, layout, images)

    def _run(self, module: nn.Module, layer: str, layout: Layout, images: Tensor) -> None:
        self.frames: list[list[Call] | None] = [[]]
        self.calls: list[Call] = []
        self.after: list[nn.Module] = []
        self.found: list[tuple[Tensor, Tensor, int]] = []
        self.readers: list[nn.Module] = []
        self.lost = False

        def keep(output: Tensor) -> None:
            # A copy: what comes after may work in place on it.
            self.found = [(to_map(output.detach(), layout).float().clone(), output, output._version)]

        linear = {part for part in module.modules() if is_linear(part)}
        forwards = {part: self._forward(part, part in linear) for part in module.modules() if part is not module}
        with torch.no_grad(), patched(forwards), watch(module, {layer: keep}):
            self.logits = logits_of(module(images)).float()
        self.calls.insert(0, Call(None, images))

    def _forward(self, module: nn.Module, linear: bool) -> Callable[..., Any]:
        own = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if linear and self.found and reads(args, kwargs, *self.found[0][1:]):
                self.readers.append(module)
            outer = self.frames[-1]
            self.frames.append([] if module in self.keeps else None)
            try:
                output = own(*args, **kwargs)
            finally:
                # Calls inside this one are not needed: it will give its output without calling them.
                self.frames.pop()
            if outer is not None:
                outer.append(Call(module, map_leaves(output, self._keep)))
            if module is self.target:
                self.after, self.readers = [], []
                self.lost = None in self.frames
                self.calls = [call for frame in self.frames for call in frame or ()]
            elif any(part is not None for part in module._parameters.values()):
                self.after.append(module)
            return output

        return forward

    def _keep(self, part: Any) -> Any:
        if not isinstance(part, Tensor):
            return part
        rows = part.shape[0] if part.ndim else 0
        if self.forms and rows and rows % self.batch == 0 and part.is_floating_point():
            return torch.empty(part.shape, dtype=part.dtype, device="meta")
        return part.detach().clone()  # what comes after may work in place on it
