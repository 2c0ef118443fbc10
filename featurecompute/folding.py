"""The same network, faster: batch normalisation folded into the convolutions before it, channels last in memory.

In: a `Network`.  Out: another with equal results, its modules under the same names.  Knows no library.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from featurecompute.cards import Network
from featurecompute.errors import NetworkError
from featurecompute.hooks import gather
from featurecompute.tracing import random_images

TOLERANCE = 1e-4


def optimised(network: Network) -> Network:
    """Return a network that gives the same and takes less time.

    Batch normalisation that is all a convolution's output goes to is folded into it and leaves an identity under its
    name. A convolution that is looked into is left alone, and so is everything where the network cannot be traced
    symbolically. Weights and images have their channels last in memory.

    Parameters
    ----------
    network
        Left as it is.

    Returns
    -------
    Network
        Logits and recorded layers agree to a relative error of 1e-4 on random images; folding that would not is undone.
    """
    module = copy.deepcopy(network.module)
    folded = copy.deepcopy(network.module)
    pairs = _pairs(folded, [layer.name for layer in network.layers])
    for conv, norm in pairs:
        _fold(folded, conv, norm)
    if pairs and _agree(network, folded):
        module = folded
    # The type of `to` with a memory format alone is not in torch's stubs.
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return replace(network, module=module, channels_last=True)


class _Tracer(fx.Tracer):
    """Takes every convolution and normalisation as a whole, also those that libraries derive from torch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = isinstance(m, nn.Conv2d | nn.BatchNorm2d)
        return whole or super().is_leaf_module(m, module_qualified_name)


def _pairs(module: nn.Module, recorded: Iterable[str]) -> list[tuple[str, str]]:
    """Return the convolutions, each with the normalisation that alone takes its output."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of what it treats as constant
            graph = _Tracer().trace(module)
    except Exception:  # whatever a network does that symbols cannot do: it stays as it is
        return []
    parts = dict(module.named_modules())
    uses = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    found = []
    for node in graph.nodes:
        if node.op != "call_module" or not node.args or len(node.args) + len(node.kwargs) != 1:
            continue
        before: Any = node.args[0]
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        conv, norm = str(before.target), str(node.target)
        if uses[conv] == uses[norm] == 1 and _foldable(parts, conv, norm) and not _shown(conv, norm, recorded):
            found.append((conv, norm))
    return found


def _foldable(parts: Mapping[str, nn.Module], conv: str, norm: str) -> bool:
    """Tell whether the two are what torch knows them as, and the statistics are fixed."""
    first, second = parts[conv], parts[norm]
    return (
        isinstance(first, nn.Conv2d)
        and type(first).forward is nn.Conv2d.forward  # not one that standardises its weights or pads by itself
        and "weight" in first._parameters  # not parametrised
        and isinstance(second, nn.BatchNorm2d)
        and not isinstance(second, nn.SyncBatchNorm)
        and second.running_var is not None
        and _rest(second) is not None
        and not any(part._forward_hooks or part._forward_pre_hooks for part in (first, second))
    )


def _shown(conv: str, norm: str, recorded: Iterable[str]) -> bool:
    """Tell whether a recorded layer holds the convolution and not the normalisation, so would show the folded one."""
    return any(f"{conv}.".startswith(f"{layer}.") and not f"{norm}.".startswith(f"{layer}.") for layer in recorded)


def _rest(norm: nn.BatchNorm2d) -> nn.Module | None:
    """Return what is left of a normalisation that is folded: nothing, or the activation that timm puts into it."""
    if type(norm).forward is nn.BatchNorm2d.forward:
        return nn.Identity()
    names = [name for name, _ in norm.named_children()]
    if type(norm).__name__ == "BatchNormAct2d" and names == ["drop", "act"]:
        return nn.Sequential(OrderedDict(norm.named_children()))  # under the same names
    return None


def _fold(module: nn.Module, conv: str, norm: str) -> None:
    """Fold in double precision and put the results in the modules' places."""
    first, second = module.get_submodule(conv), module.get_submodule(norm)
    assert isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d)
    kind = first.weight.dtype
    rest = _rest(second)
    assert rest is not None
    folded = fuse_conv_bn_eval(first.double(), second.double()).to(kind).requires_grad_(False)
    for name, part in ((conv, folded), (norm, rest.to(kind).eval())):
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, part)


def _agree(network: Network, module: nn.Module) -> bool:
    """Tell whether a module gives what the network gives, on random images."""
    layouts = {layer.name: layer.layout for layer in network.layers}
    device = next(network.module.parameters()).device
    images = random_images(network.preprocessing.size, device)[0][:1]
    try:
        with torch.inference_mode():
            maps, logits = gather(network.module, layouts, images)
            others, other = gather(module, layouts, images)
    except (NetworkError, RuntimeError):
        return False
    return _close(logits, other) and all(_close(maps[name], others[name]) for name in maps)


def _close(one: Tensor, other: Tensor) -> bool:
    """Tell whether the largest difference is within the tolerance of the largest value."""
    return float((one - other).abs().max()) <= TOLERANCE * float(one.abs().max())
