"""A small network that learns scenes, with narrow recorded layers from early to late.

In: the study's table of the network.  Out: a trained network.
Knows no image but scenes, which it makes itself, from a seed of their own; no dictionary and no run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from featurecompute import scenes
from featurecompute.errors import NetworkError
from featurecompute.strokes import OBJECTS
from featurecompute.study import NetworkTable

SIZE = scenes.SIZE
MEAN = (0.5, 0.5, 0.5)
SD = (0.25, 0.25, 0.25)
IMAGES = 12_000
"""Images to train on; epochs go through them anew."""
LAYERS: tuple[str, ...] = ("block1", "block2", "block3", "block4", "block5", "block6")
"""Recorded layers; all have the same channels, so that depth does not come with width."""

_INNER = (24, 32, 48, 64, 96, 96)  # channels inside each block
_STRIDES = (2, 2, 1, 2, 1, 1)  # maps of 32, 16, 16, 8, 8 and 8 pixels to a side
_HEAD = 128
_LOCAL = LAYERS[4:]  # on the grid of the truth's cells, and deep enough to see an object whole
_BATCH = 128
_RATE = 4e-3
_SHIFT = 3  # pixels by which a batch is shifted, each way
_PURPOSE = 1  # of the training images' seed: none of them is an image to study
_WEIGHT = 4.0  # of the error of a forced code, beside the loss of the classes


def _unit(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Return a convolution, batch norm and ReLU; the last not in place, since its output is recorded."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class SceneNetwork(nn.Module):
    """Six blocks of a wide and a narrow convolution, then a head; block1 to block6 give what is recorded.

    Parameters
    ----------
    width
        Channels of each block's output: what 45 elements must share.
    """

    layers: tuple[str, ...] = LAYERS

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        inputs = 3
        for name, inner, stride in zip(LAYERS, _INNER, _STRIDES, strict=True):
            self.add_module(name, nn.Sequential(_unit(inputs, inner, stride), _unit(inner, width)))
            inputs = width
        self.last = _unit(width, _HEAD, kernel=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(_HEAD, len(scenes.CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (images x classes) of normalised images (images x 3 x 64 x 64)."""
        return self.finish(self.record(images)[-1])

    def record(self, images: Tensor) -> list[Tensor]:
        """Return the outputs of the blocks."""
        maps = []
        for name in LAYERS:
            images = self.get_submodule(name)(images)
            maps.append(images)
        return maps

    def finish(self, values: Tensor) -> Tensor:
        """Return logits from the last block's output."""
        found: Tensor = self.head(self.pool(self.last(values)).flatten(1))
        return found


def normalise(pixels: np.ndarray) -> Tensor:
    """Return bytes (B x H x W x 3) as the network takes them (B x 3 x H x W)."""
    values = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).to(torch.float32)
    return (values / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(SD)[:, None, None]


def build_network(table: NetworkTable) -> SceneNetwork:
    """Return the network untrained, in evaluation mode.

    Parameters
    ----------
    table
        ``[network]``: its width, seed and code count.

    Raises
    ------
    NetworkError
        If a forced code has fewer channels than objects.
    """
    objects = len(OBJECTS)
    if table.code == "local" and table.width < objects:
        raise NetworkError(
            f'[network] width is {table.width}, but code = "local" gives each of the {objects} objects a channel of '
            f"its own: it must be {objects} or more."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(table.seed)
        return SceneNetwork(table.width).eval()


def train_network(
    table: NetworkTable,
    *,
    progress: Callable[[int, int, float], None] | None = None,
    images: int = IMAGES,
    threads: int | None = None,
) -> SceneNetwork:
    """Train the network on scenes.

    The loss sees classes alone, so that nobody tells the network which elements there are; with ``code = "local"`` it
    also asks each of the deeper layers for object e in channel e, at the object's cells, and for silence elsewhere.

    Parameters
    ----------
    table
        ``[network]``: width, seed, code and epochs count.
    progress
        Called with epochs done, epochs in all, and the mean loss of the last epoch.
    images
        Images to train on.
    threads
        Threads of torch meanwhile; None: as they are. Weights are the same only for the same number of threads.

    Returns
    -------
    SceneNetwork
        In evaluation mode.

    Raises
    ------
    NetworkError
        If a forced code has fewer channels than objects.
    """
    network = build_network(table)
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        _fit(network, table, images, progress)
    finally:
        torch.set_num_threads(before)
    return network.eval()


def _fit(
    network: SceneNetwork, table: NetworkTable, images: int, progress: Callable[[int, int, float], None] | None
) -> None:
    made = scenes.generate(images, table.seed, purpose=_PURPOSE)
    labels = torch.from_numpy(made.labels)
    local = table.code == "local"
    cells = torch.from_numpy(made.truth.cells[:, made.truth.kinds == "object"]) if local else None
    # Channels last is a third faster for narrow layers on a CPU.
    _layout(network.train(), torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.01)
    batches = max(1, images // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=table.epochs * batches)
    generator = np.random.default_rng([table.seed, _PURPOSE])
    for epoch in range(table.epochs):
        total = 0.0
        for rows in _batches(images, generator):
            pixels = _vary(made.pixels[rows], generator, shift=not local)
            maps = network.record(normalise(pixels).contiguous(memory_format=torch.channels_last))
            loss = functional.cross_entropy(network.finish(maps[-1]), labels[rows], label_smoothing=0.02)
            if cells is not None:
                loss = loss + _WEIGHT * _code_error(maps, cells[rows].to(torch.float32))
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        if progress is not None:
            progress(epoch + 1, table.epochs, total / batches)
    _layout(network, torch.contiguous_format)


def _layout(network: nn.Module, order: torch.memory_format) -> None:
    """Store the convolutions' weights in another order, which changes no result but by rounding."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=order)


def _batches(images: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Give the images in a new order, in whole batches; the few left over wait for another epoch."""
    order = generator.permutation(images)
    for start in range(0, max(1, images // _BATCH) * _BATCH, _BATCH):
        yield order[start : start + _BATCH]


def _vary(pixels: np.ndarray, generator: np.random.Generator, *, shift: bool) -> np.ndarray:
    """Return images with their colours exchanged or inverted, and shifted: as likely as they were, and never seen.

    No shift where a forced code is taught, since cells would not fit.
    """
    pixels = pixels[..., generator.permutation(3)]
    if generator.random() < 0.5:
        pixels = 255 - pixels
    if shift:
        across, down = generator.integers(-_SHIFT, _SHIFT + 1, 2)
        pixels = np.roll(pixels, (int(down), int(across)), axis=(1, 2))
    return pixels


def _code_error(maps: list[Tensor], cells: Tensor) -> Tensor:
    """Return how far the deepest layers are from object e in channel e and nothing else.

    The mean squared error where an object is and that where it is not count alike: objects cover one cell in a hundred,
    so that a plain mean is least for a network that has fallen silent, from which a ReLU does not come back.
    """
    width = maps[0].shape[1]
    wanted = functional.pad(cells, (0, 0, 0, 0, 0, width - cells.shape[1]))
    there = wanted > 0
    errors = []
    for name, values in zip(LAYERS, maps, strict=True):
        if name in _LOCAL:
            squared = (values - wanted).square()
            errors.append(squared[there].mean() + squared[~there].mean())
    return torch.stack(errors).sum()


@torch.inference_mode()
def accuracy(network: nn.Module, made: scenes.Scenes, batch: int = 250) -> float:
    """Return the share of scenes whose class a network finds."""
    found = [
        network(normalise(made.pixels[start : start + batch])).argmax(1) for start in range(0, len(made.labels), batch)
    ]
    return float((torch.cat(found).numpy() == made.labels).mean())
