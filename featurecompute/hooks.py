"""Hooks that are always removed: to see what a layer gives, or to give something else in its place.

In: a torch module and names of layers.  Out: their outputs, as maps of batch x channels x positions.  Knows no image.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from featurecompute.errors import NetworkError, nearest

Layout: TypeAlias = Literal["bchw", "bhwc", "btc", "bc"]


@contextlib.contextmanager
def watch(module: nn.Module, actions: Mapping[str, Callable[[Tensor], Tensor | None]]) -> Iterator[None]:
    """Call an action with each named layer's output while the block runs; what it returns takes the output's place.

    A tuple's first tensor counts as the output. An action that keeps the tensor must copy it, as `to_map` does: blocks
    add or rectify in place (``x += identity``) also where no module says so.

    Parameters
    ----------
    module
        Network.
    actions
        Layer to a function of its output that returns None or a replacement of the same shape.

    Raises
    ------
    NetworkError
        If there is no such layer, or it gives no tensor.
    """
    handles = []
    try:
        for name, action in actions.items():
            try:
                layer = module.get_submodule(name)
            except AttributeError:
                known = dict(module.named_modules())
                raise NetworkError(f"the network has no layer '{name}'{nearest(name, known)}.") from None
            handles.append(layer.register_forward_hook(_hook(name, action)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(name: str, action: Callable[[Tensor], Tensor | None]) -> Callable[[nn.Module, Any, Any], Any]:
    def call(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        place = 0
        if isinstance(output, tuple):
            place = next((i for i, part in enumerate(output) if isinstance(part, Tensor)), -1)
        found = output[place] if isinstance(output, tuple) and place >= 0 else output
        if not isinstance(found, Tensor):
            raise NetworkError(
                f"layer '{name}' gives a {type(output).__name__}; a layer must give a tensor, or a tuple with one."
            )
        replacement = action(found)
        if replacement is None:
            return None
        if isinstance(output, tuple):
            return (*output[:place], replacement, *output[place + 1 :])
        return replacement

    return call


class _Reached(Exception):
    """Ends a forward pass at the layer that was asked for."""


def reach(module: nn.Module, layer: str, images: Tensor) -> Tensor:
    """Run images through the network as far as a layer and return its output as it gave it; nothing after it is run.

    Raises
    ------
    NetworkError
        If there is no such layer, it gives no tensor, or it is not run.
    """
    found: list[Tensor] = []

    def stop(output: Tensor) -> None:
        found.append(output)
        raise _Reached

    with watch(module, {layer: stop}), contextlib.suppress(_Reached):
        module(images)
    if not found:
        raise NetworkError(f"layer '{layer}' is not run when images go through the network.")
    return found[0]


def to_map(output: Tensor, layout: Layout, *, copy: bool = True) -> Tensor:
    """Return a layer's output as batch x channels x positions, in one piece of memory.

    Parameters
    ----------
    output
        What the layer gave.
    layout
        Its axes.
    copy
        Whether the map has memory of its own. Without, it may share the output's, which a later layer may overwrite:
        enough for what is read at once.
    """
    if layout == "bchw":
        values = output.flatten(2)
    elif layout == "bhwc":
        values = output.flatten(1, -2).transpose(1, 2)
    elif layout == "btc":
        values = output.transpose(1, 2)
    else:
        values = output[:, :, None]
    # `contiguous` gives the same memory back where it is in order already.
    return values.clone() if copy and values.is_contiguous() else values.contiguous()


def from_map(values: Tensor, layout: Layout, like: tuple[int, ...]) -> Tensor:
    """Return a map (batch x channels x positions) in the layer's own layout; `like` is its shape, batch aside."""
    batch = values.shape[0]
    if layout == "bchw":
        return values.reshape(batch, *like)
    if layout == "bhwc":
        return values.transpose(1, 2).reshape(batch, *like)
    if layout == "btc":
        return values.transpose(1, 2).contiguous()
    return values[:, :, 0]


def gather(module: nn.Module, layouts: Mapping[str, Layout], images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Run images through the network once and return every named layer's map, and the network's output (logits)."""
    maps: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[Tensor], None]:
        def action(output: Tensor) -> None:
            maps[name] = to_map(output, layouts[name])

        return action

    with watch(module, {name: keep(name) for name in layouts}):
        output = module(images)
    return maps, logits_of(output)


def logits_of(output: Any) -> Tensor:
    """Return the logits of what a network gives: a tensor, a tuple's first, or an object's ``logits``.

    Raises
    ------
    NetworkError
        If there are none.
    """
    found = getattr(output, "logits", output)
    if isinstance(found, tuple | list) and found:
        found = found[0]
    if not isinstance(found, torch.Tensor) or found.ndim != 2:
        raise NetworkError("the network gives no logits: its output must be images x classes.")
    return found


def gather_input(module: nn.Module, name: str, images: Tensor) -> Tensor:
    """Run images through the network and return what a layer is given (batch x features), its mean over positions.

    Raises
    ------
    NetworkError
        If the layer is not run, or is given no tensor.
    """
    found: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.extend(part for part in inputs[:1] if isinstance(part, Tensor))

    handle = module.get_submodule(name).register_forward_pre_hook(keep)
    try:
        module(images)
    finally:
        handle.remove()
    if not found:
        raise NetworkError(f"layer '{name}' is given no tensor in a forward pass of the network.")
    values = found[-1].float()
    if values.ndim == 4:
        return values.mean((2, 3))
    return values.flatten(1, -2).mean(1) if values.ndim > 2 else values
