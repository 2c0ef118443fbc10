"""A network's card: how images are made ready for it, and which of its layers are looked into.

In: a torch module and its preprocessing.  Out: a `Network`, ready to be hooked.  Knows no library and no file.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from featurecompute.errors import NetworkError, nearest
from featurecompute.hooks import Layout
from featurecompute.tracing import Trace, choose_layers, trace
from featurecompute.weights import hash_state

Interpolation: TypeAlias = Literal["bilinear", "bicubic"]
Triple: TypeAlias = tuple[float, float, float]

# Of ImageNet's training images, as every library gives them (Krizhevsky et al. 2012; torchvision's references).
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_SD: Triple = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How an image is made ready: its shorter side resized, its centre cropped, its channels standardised.

    Parameters
    ----------
    size
        Side of the square that the network sees, in pixels.
    resize
        Shorter side before the crop, in pixels; at least `size`.
    interpolation
        Filter of the resizing.
    mean, sd
        Of red, green and blue, in units of 0 to 1.

    Raises
    ------
    NetworkError
        If the crop is larger than the image, or an sd not above 0.
    """

    size: int = 224
    resize: int = 256
    interpolation: Interpolation = "bilinear"
    mean: Triple = IMAGENET_MEAN
    sd: Triple = IMAGENET_SD

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.resize:
            raise NetworkError(
                f"a network's images are resized to {self.resize} and cropped to {self.size} pixels;"
                " size must be at least 1 and resize at least size."
            )
        if self.interpolation not in ("bilinear", "bicubic"):
            raise NetworkError(f"interpolation is {self.interpolation!r}; allowed are bilinear and bicubic.")
        for name, values in (("mean", self.mean), ("sd", self.sd)):
            if len(values) != 3 or not np.isfinite(values).all() or (name == "sd" and min(values) <= 0):
                raise NetworkError(f"{name} is {values}; it must be three numbers{', each above 0' * (name == 'sd')}.")

    def override(self, given: Mapping[str, Any]) -> Preprocessing:
        """Return this with some values replaced; a `size` without a `resize` keeps the share that the crop takes.

        Raises
        ------
        NetworkError
            If there is no such value.
        """
        given = {key: value for key, value in given.items() if value is not None}
        strange = sorted(set(given) - set(asdict(self)))
        if strange:
            raise NetworkError(f"preprocessing has no '{strange[0]}'{nearest(strange[0], asdict(self))}.")
        if "size" in given and "resize" not in given:
            given["resize"] = round(self.resize * int(given["size"]) / self.size)
        for key in ("mean", "sd"):
            if key in given:
                given[key] = tuple(float(value) for value in given[key])
        return replace(self, **given)


@dataclass(frozen=True)
class Layer:
    """A layer that is looked into.

    Parameters
    ----------
    name
        Module in the network.
    index
        Place among all weighted layers in the order of execution, from 0; of a module without weights or a block, that
        of the last weighted layer used up to its output.
    depth
        The same, first 0, last 1.
    channels
        Number of channels.
    signed
        Whether activations below 0 were seen.
    layout
        Axes of its output.
    shape
        Of its output, batch aside.
    """

    name: str
    index: int
    depth: float
    channels: int
    signed: bool
    layout: Layout
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Network:
    """A network that is ready: in evaluation mode, without gradients of its weights, no activation working in place.

    Parameters
    ----------
    id, source
        Its name, and where it is from.
    module
        The network.
    preprocessing
        How images are made ready.
    layers
        Layers looked into, in the order of execution.
    classes
        Number of logits.
    head
        Weighted layer that gives the logits.
    weights_sha256
        Hash of the file of weights, or of the tensors where there is none.
    channels_last
        Whether images are laid out with their channels last in memory.
    """

    id: str
    source: str
    module: nn.Module = field(repr=False)
    preprocessing: Preprocessing
    layers: tuple[Layer, ...]
    classes: int
    head: str
    weights_sha256: str
    channels_last: bool = False

    def layer(self, name: str) -> Layer:
        """Return a layer that is looked into.

        Raises
        ------
        NetworkError
            If there is none of that name.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in self.layers]
        raise NetworkError(
            f"network '{self.id}' is not looked into at '{name}'{nearest(name, names)}; it is at {', '.join(names)}."
        )

    def normalise(self, pixels: np.ndarray | Tensor) -> Tensor:
        """Return images ready for the network, on its device.

        Parameters
        ----------
        pixels
            Prepared images (batch x size x size x 3), uint8; a tensor may be on the device already.

        Returns
        -------
        Tensor
            batch x 3 x size x size, float32: (value / 255 - mean) / sd.
        """
        kind, shape = str(pixels.dtype).removeprefix("torch."), tuple(pixels.shape)
        if kind != "uint8" or len(shape) != 4 or shape[3] != 3:
            raise NetworkError(f"images are {kind} {shape}; they must be uint8, batch x H x W x 3.")
        device = next((parameter.device for parameter in self.module.parameters()), torch.device("cpu"))
        given = pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.array(pixels))
        images = given.to(device).permute(0, 3, 1, 2)
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        values = images.to(torch.float32).contiguous(memory_format=order).div_(255)
        mean, sd = self._colour(device)
        return values.sub_(mean).div_(sd)

    def standardise(self, images: Tensor) -> Tensor:
        """Return images (batch x 3 x size x size, 0 to 1) as `normalise` gives them, differentiably."""
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        mean, sd = self._colour(images.device)
        return ((images - mean) / sd).contiguous(memory_format=order)

    def _colour(self, device: torch.device) -> tuple[Tensor, Tensor]:
        return _constant(self.preprocessing.mean, device), _constant(self.preprocessing.sd, device)

    def card(self) -> dict[str, Any]:
        """Return what ``run.json`` says of the network."""
        kept = ("name", "index", "depth", "channels", "signed")
        return {
            "id": self.id,
            "source": self.source,
            "weights_sha256": self.weights_sha256,
            "preprocessing": asdict(self.preprocessing),
            "layers": [{key: getattr(layer, key) for key in kept} for layer in self.layers],
        }


@functools.lru_cache(maxsize=64)
def _constant(values: Triple, device: torch.device) -> Tensor:
    """Return a number a channel; kept, since putting it on a device waits for all work there."""
    with torch.inference_mode(False):  # gradients go through it elsewhere
        return torch.tensor(values, device=device)[:, None, None]


def describe_network(
    module: nn.Module,
    preprocessing: Preprocessing,
    *,
    id: str,
    source: str,
    layers: Sequence[str] = (),
    layout: Literal["auto", "bchw", "bhwc", "btc"] = "auto",
    weights_sha256: str | None = None,
) -> Network:
    """Make a network ready and write its card, from passes over two pairs of random images.

    Parameters
    ----------
    module
        Any network that gives logits; it is put in evaluation mode, its gradients and in-place activations are turned
        off.
    preprocessing
        How images are made ready.
    id, source
        Its name, and where it is from.
    layers
        Layers to look into; none: see `tracing.choose_layers`.
    layout
        Axes of outputs. ``auto`` reads four axes as channels first, unless the first two beside the batch are equal and
        the third differs (as in Swin); three as tokens x channels; two as channels. Anything else holds for the
        outputs that have as many axes.
    weights_sha256
        Hash of the weights' file; None: that of the tensors.

    Raises
    ------
    NetworkError
        If the network cannot be applied, or a layer is unknown, runs more or less than once, or gives no tensor.
    """
    module.eval().requires_grad_(False)
    for part in module.modules():
        if getattr(part, "inplace", False) is True:
            part.inplace = False  # type: ignore[assignment]  # a kept output would be overwritten
    found = trace(module, preprocessing.size, id)
    names = dict.fromkeys(layers or choose_layers(module, found))
    described = [_describe(name, found, layout) for name in names]
    return Network(
        id=id,
        source=source,
        module=module,
        preprocessing=preprocessing,
        layers=tuple(sorted(described, key=lambda layer: found.seen[layer.name].order)),
        classes=found.classes,
        head=found.head,
        weights_sha256=weights_sha256 or hash_state(module),
    )


def _describe(name: str, found: Trace, wanted: str) -> Layer:
    """Return a layer's card."""
    usable = [other for other, about in found.seen.items() if about.usable]
    if name not in found.seen:
        raise NetworkError(f"the network has no layer '{name}'{nearest(name, usable, 3)}.")
    about = found.seen[name]
    if about.calls > 1:
        raise NetworkError(
            f"layer '{name}' runs {about.calls} times in one pass; one that runs once is needed"
            f"{_enclosing(name, usable)}."
        )
    if about.calls == 0:
        raise NetworkError(
            f"layer '{name}' does not run when the network is applied; one that does is needed"
            f"{_enclosing(name, usable)}."
        )
    if about.shape is None:
        raise NetworkError(f"layer '{name}' gives a {about.kind}; a layer must give a tensor, or a tuple with one.")
    if not about.usable:
        raise NetworkError(
            f"layer '{name}' gives a tensor of {len(about.shape) + 1} axes; a layer must give two, three or four."
        )
    layout = _layout(about.shape, wanted)
    return Layer(
        name=name,
        index=about.index,
        depth=found.depth(about.index),
        channels=about.shape[0] if layout in ("bchw", "bc") else about.shape[-1],
        signed=about.lowest < 0,
        layout=layout,
        shape=about.shape,
    )


def _layout(shape: tuple[int, ...], wanted: str) -> Layout:
    """Return the axes of an output, given its shape without batch."""
    if len(shape) == 1:
        return "bc"
    if len(shape) == 2:
        return "btc"
    if wanted in ("bchw", "bhwc"):
        return "bhwc" if wanted == "bhwc" else "bchw"
    return "bhwc" if shape[0] == shape[1] != shape[2] else "bchw"


def _enclosing(name: str, usable: Sequence[str]) -> str:
    """Return `` such as 'x'``, x the smallest block around a layer that can be looked into, or the nearest name."""
    block = name
    while "." in block:
        block = block.rpartition(".")[0]
        if block in usable:
            return f", such as '{block}'"
    return nearest(name, usable)
