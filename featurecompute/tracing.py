"""What every module of a network gives, seen in one pass over random images, and the layers worth looking into.

In: a torch module.  Out: for each module its order, depth, shape and sign.  Knows no library and no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from featurecompute.errors import NetworkError
from featurecompute.hooks import logits_of
from featurecompute.libraries import first_line

MANY = 6  # layers a network is looked into where neither the study nor its family names them
_STAGES = ("layer1", "layer2", "layer3", "layer4")
# Functions that ask a weight for its form without using it.
_ASKING = frozenset({"__get__", "__len__", "size", "dim", "numel", "stride", "is_contiguous", "is_floating_point"})


@dataclass
class Seen:
    """What a module gave.

    Parameters
    ----------
    calls
        How often it ran in one pass.
    order
        Its place among outputs.
    index
        Index of the last weighted layer used up to its output.
    shape
        Of its output, batch aside; None if it gives no tensor.
    lowest
        Smallest value over all passes.
    kind
        Type of its output.
    """

    calls: int = 0
    order: int = -1
    index: int = 0
    shape: tuple[int, ...] | None = None
    lowest: float = 0.0
    kind: str = ""

    @property
    def usable(self) -> bool:
        """Whether a layer like this can be looked into."""
        return self.calls == 1 and self.shape is not None and 1 <= len(self.shape) <= 3


@dataclass(frozen=True)
class Trace:
    """What a network did with random images.

    Parameters
    ----------
    seen
        Module to what it gave; the network itself is not among them.
    weighted
        Weighted layers in the order of their first use: modules that own a weight of two or more axes, so
        convolutions, linear maps, and attention with its own projections, but no normalisation.
    classes
        Number of logits.
    """

    seen: Mapping[str, Seen] = field(hash=False)
    weighted: tuple[str, ...]
    classes: int

    def depth(self, index: int) -> float:
        """Return the depth of a weighted layer: 0 the first, 1 the last."""
        return index / max(len(self.weighted) - 1, 1)

    @property
    def head(self) -> str:
        """The last weighted layer that gives as many channels as there are classes."""
        for name in reversed(self.weighted):
            shape = self.seen[name].shape
            if shape and self.classes in (shape[0], shape[-1]):
                return name
        return self.weighted[-1]


def random_images(size: int, device: torch.device) -> list[Tensor]:
    """Return two batches of two normalised images (2 x 3 x size x size): noise and coarse noise, weak and strong."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([1.0, 4.0])[:, None, None, None]
    fine = torch.randn(2, 3, size, size, generator=generator)
    coarse = torch.randn(2, 3, 4, 4, generator=generator)
    coarse = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return [(fine * scales).to(device), (coarse * scales).to(device)]


def trace(module: nn.Module, size: int, name: str) -> Trace:
    """Run a network on random images and note what every module gives.

    Parameters
    ----------
    module
        Network in evaluation mode.
    size
        Pixels of a side of its images.
    name
        Its name, for errors.

    Raises
    ------
    NetworkError
        If the network does not take such images, gives no logits, or has no weighted layer.
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    modules = {name: part for name, part in module.named_modules() if name}
    seen = {name: Seen() for name in modules}
    owners = {id(weight): name for name, part in modules.items() for weight in _own_weights(part)}
    linear = {name for name, part in modules.items() if isinstance(part, nn.Linear | nn.modules.conv._ConvNd)}
    used: dict[str, None] = {}
    first, outputs = True, count()

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            about = seen[name]
            found = output
            if isinstance(output, tuple):
                found = next((part for part in output if isinstance(part, Tensor)), None)
            if first:
                if name in linear:  # its weight may be the result of a parametrisation, which no one owns
                    used.setdefault(name)
                about.calls += 1
                about.order = next(outputs)
                about.index = max(len(used) - 1, 0)
                about.kind = type(output).__name__
                about.shape = tuple(found.shape[1:]) if isinstance(found, Tensor) else None
            if isinstance(found, Tensor) and found.is_floating_point() and found.numel():
                about.lowest = min(about.lowest, float(found.min()))

        return hook

    handles = []
    classes = 0
    try:
        for part in modules:
            handles.append(modules[part].register_forward_hook(note(part)))
        with torch.inference_mode():
            for images in random_images(size, device):
                with _Uses(owners, used):
                    output = module(images)
                classes = logits_of(output).shape[1]
                first = False
    except NetworkError:
        raise
    except Exception as error:
        raise NetworkError(
            f"network '{name}' cannot be applied to images of 3 x {size} x {size}: {first_line(error)}."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if not used:
        raise NetworkError(f"network '{name}' has no layer with weights.")
    return Trace(seen, tuple(used), classes)


class _Uses(TorchFunctionMode):
    """Notes the order in which weights are used, also where a block uses its parts' weights without running them."""

    def __init__(self, owners: Mapping[int, str], used: dict[str, None]) -> None:
        super().__init__()
        self.owners = owners
        self.used = used

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") not in _ASKING:
            for value in (*args, *kwargs.values()):
                owner = self.owners.get(id(value))
                if owner is not None:
                    self.used.setdefault(owner)
        return func(*args, **kwargs)


def _own_weights(module: nn.Module) -> list[nn.Parameter]:
    """Return the weights of two or more axes that a module owns itself; tokens and embeddings of places are none."""
    return [
        parameter
        for name, parameter in module.named_parameters(recurse=False)
        if name.endswith("weight") and parameter.ndim >= 2
    ]


def choose_layers(module: nn.Module, found: Trace) -> tuple[str, ...]:
    """Return the layers to look into where a study names none.

    ResNets and their like: ``layer1`` to ``layer4``. VGG and its like: the activation before each max-pooling.
    Others: the blocks of the longest chain, at most six of them, evenly spread, the last among them.

    Raises
    ------
    NetworkError
        If there is nothing to choose from.
    """
    seen = found.seen
    if all(name in seen and seen[name].usable for name in _STAGES):
        return _STAGES
    pooled = _before_pooling(module, seen)
    if len(pooled) >= 3:
        return tuple(pooled)
    blocks = _blocks(module, found)
    if not blocks:
        raise NetworkError("the network has no blocks to choose layers from: name them in [network] layers.")
    many = min(MANY, len(blocks))
    return tuple(dict.fromkeys(blocks[round((place + 1) * len(blocks) / many) - 1] for place in range(many)))


def _before_pooling(module: nn.Module, seen: Mapping[str, Seen]) -> list[str]:
    """Return the layers that stand before a max-pooling in a chain."""
    found = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Sequential):
            chain = [(f"{name}.{child}".lstrip("."), each) for child, each in part.named_children()]
            for (before, activation), (_, pooling) in pairwise(chain):
                if isinstance(activation, nn.ReLU) and isinstance(pooling, nn.MaxPool2d) and seen[before].usable:
                    found.append(before)
    return found


def _blocks(module: nn.Module, found: Trace) -> list[str]:
    """Return the blocks of a network: the children of the module in which its weighted layers branch out."""

    def weights(name: str) -> int:
        return sum(owner == name or owner.startswith(f"{name}.") for owner in found.weighted)

    def children(name: str) -> list[str]:
        part = module.get_submodule(name)
        return [f"{name}.{child}".lstrip(".") for child, _ in part.named_children()]

    name, total = "", len(found.weighted)
    while True:
        held = {child: weights(child) for child in children(name)}
        if isinstance(module.get_submodule(name), nn.Sequential | nn.ModuleList) and sum(map(bool, held.values())) >= 3:
            break  # a chain, whose longest block is still a block
        largest = max(held, key=lambda child: held[child], default="")
        if not largest or held[largest] * 3 < total * 2 or not any(map(weights, children(largest))):
            break
        name, total = largest, held[largest]
    siblings, blocks = children(name), []
    for place, child in enumerate(siblings):
        if not weights(child) or child == found.head:
            continue
        # A lone convolution counts with the normalisation and activation that follow it.
        last = child
        for after in siblings[place + 1 :]:
            follows = child in found.seen and after in found.seen and found.seen[after].shape == found.seen[child].shape
            if weights(after) or not follows or found.seen[after].order < found.seen[last].order:
                break
            last = after
        blocks.append(last if last in found.seen and found.seen[last].usable else child)
    blocks = [block for block in blocks if block in found.seen and found.seen[block].usable]
    maps = [block for block in blocks if len(found.seen[block].shape or ()) > 1]
    return sorted(maps or blocks, key=lambda block: found.seen[block].order)
