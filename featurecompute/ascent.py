"""Pictures on their way up: step by step each drives its feature further, until it stops or fails.

In: a layer of a network, a canvas, images that are wanted.  Out: each image when it has ended.
Knows no table of results, no file, and how no direction was learned.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from featurecompute.activations import device_of, numerics, rows_of
from featurecompute.bases import Basis
from featurecompute.canvas import Box, Canvas, Crops
from featurecompute.cards import Layer, Network
from featurecompute.errors import NetworkError
from featurecompute.files import hash_json
from featurecompute.hooks import reach
from featurecompute.optimiser import Optimiser
from featurecompute.study import VisualizeTable

STARTS = 32
"""Starts that an image may draw before its feature counts as one that no picture moves."""
_LEAST_COSINE = 0.1  # as lucid and Horama: where the cosine is less, the gradient still points to the direction


@dataclass(frozen=True)
class Wanted:
    """An image to synthesise.

    Parameters
    ----------
    feature
        Id of the feature.
    basis, index
        Its basis and its place there: the direction is what the unit alone decodes to, for a neuron its channel.
    end
        Whether the feature is driven up or down.
    number
        Of the image among those of the feature and end, from 0.
    """

    feature: str
    basis: Basis
    index: int
    end: Literal["max", "min"] = "max"
    number: int = 0

    @property
    def image(self) -> str:
        """Id of the image."""
        return f"synthesised/{self.feature}/{self.end}-{self.number}"


@dataclass(eq=False)
class Image:
    """An image in the making. Starts and boxes are drawn on the CPU, so that they are the same on every device."""

    place: int
    wanted: Wanted
    seed: int
    steps: int = 0
    starts: int = 0
    stopped: str = ""
    failed: bool = False
    scores: list[float] = field(default_factory=list)
    finished: tuple[np.ndarray, np.ndarray] | None = None

    def __post_init__(self) -> None:
        about = [self.seed, self.wanted.feature, self.wanted.end, self.wanted.number]
        self.own = int(hash_json(about)[:15], 16)
        self.draws = torch.Generator().manual_seed(self.own)

    def flat(self, tolerance: float, patience: int) -> bool:
        """Tell whether the mean score of the last steps is hardly above that of as many before; asked every so often,
        since a noisy score that is asked at every step soon says yes."""
        if self.steps % patience or self.steps < 2 * patience:
            return False
        late, early = np.mean(self.scores[-patience:]), np.mean(self.scores[-2 * patience : -patience])
        return bool(late - early < tolerance * abs(early))


Group: TypeAlias = list[Image]
"""Images that are optimised together: one, or with diversity those of a feature and end."""


def group_images(images: Sequence[Image], table: VisualizeTable) -> list[Group]:
    found: dict[object, Group] = {}
    for image in images:
        each = image.wanted
        found.setdefault((each.feature, each.end) if table.diversity else each.image, []).append(image)
    return [sorted(group, key=lambda image: image.wanted.number) for group in found.values()]


class Climb:
    """The images of one layer on their way up, so many at a time; one that has ended makes room for the next.

    All tensors have the same shape in every step, empty places included: kernels are chosen by shape, and another
    kernel rounds otherwise.
    """

    def __init__(self, network: Network, layer: Layer, canvas: Canvas, table: VisualizeTable, together: int) -> None:
        self.network, self.layer, self.canvas, self.table = network, layer, canvas, table
        self.device = device_of(network.module)
        self.group = table.images if table.diversity else 1
        self.lanes = max(1, together // self.group)
        count = self.lanes * self.group
        start = canvas.start(torch.Generator().manual_seed(0), 1)
        rate = canvas.rate if table.rate is None else table.rate
        self.optimiser = Optimiser(torch.zeros(count, *start.shape, device=self.device), rate, canvas.nesterov)
        self.seen = torch.zeros(count, 1, canvas.size, canvas.size, device=self.device)
        self.directions, self.offsets = torch.zeros(2, count, layer.channels, device=self.device)
        self.images: list[Image | None] = [None] * count
        self.noise = [torch.Generator(self.device) for _ in range(count)]
        self.crops = Crops(canvas.size, network.preprocessing.size, table.crop[1] * canvas.size)
        self.whole = Crops(canvas.size, network.preprocessing.size, canvas.size)

    def run(self, groups: Sequence[Group]) -> Iterator[Image]:
        """Give every image when it has ended."""
        waiting = deque(groups)
        while True:
            for lane in range(self.lanes):
                if waiting and self.images[lane * self.group] is None:
                    self._enter(lane * self.group, waiting.popleft())
            if not any(self.images):
                return
            with numerics(self.device):
                self._step()
            for lane in range(self.lanes):
                yield from self._leave(range(lane * self.group, (lane + 1) * self.group))

    def _enter(self, first: int, group: Group) -> None:
        for number, image in enumerate(group, first):
            each = image.wanted
            self.images[number] = image
            self.noise[number].manual_seed(image.own)
            self._start(number, image)
            units = torch.zeros(2, each.basis.size)
            units[0, each.index] = 1
            alone, nothing = each.basis.decode(units).to(self.device)
            direction = alone - nothing
            sign = 1 if each.end == "max" else -1
            self.directions[number] = sign * direction / direction.norm().clamp_min(torch.finfo(torch.float32).tiny)
            self.offsets[number] = nothing

    def _start(self, number: int, image: Image) -> None:
        image.starts += 1
        self.seen[number] = 0
        self.optimiser.place(number, self.canvas.start(image.draws, image.starts).to(self.device))

    def _step(self) -> None:
        """Take a step with every image that can."""
        values = self.optimiser.numbers.clone().requires_grad_()
        pictures = self.canvas.render(values)
        leaf = pictures.detach().requires_grad_()
        scores, loss = self._score(leaf)
        (by_pixel,) = torch.autograd.grad(loss, leaf)
        (gradient,) = torch.autograd.grad(pictures, values, by_pixel)
        size = gradient.flatten(1).abs().amax(1)
        sizes, raised = torch.stack([size, scores.detach()]).tolist()
        moving = [False] * len(self.images)
        for lane in range(self.lanes):
            numbers = range(lane * self.group, (lane + 1) * self.group)
            ready = [self._ready(number, sizes[number], raised[number]) for number in numbers]
            alive = [self._alive(number) is not None for number in numbers]
            if ready == alive:  # the images of a group set out together
                moving[numbers.start : numbers.stop] = alive
        with torch.no_grad():
            self.optimiser.step(gradient, moving)
            self.seen += by_pixel.abs().sum(1, keepdim=True)
        for number, image in enumerate(self.images):
            if image is not None and moving[number]:
                image.steps += 1
                image.scores.append(raised[number])

    def _score(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far each picture drives its feature (images), and the sum that is raised.

        The score is the mean over crops and positions of <a, v>, or of <a, v> max(cos(a, v), 0.1)² (lucid, Horama),
        with unit direction v and activations a less the basis's offset.
        """
        count, crops, side = len(self.images), self.table.crops, self.network.preprocessing.size
        boxes = [self._boxes(image) for image in self.images]
        inputs = self.network.standardise(self.crops.take(pictures, boxes))
        if self.table.noise:
            noise = [torch.randn(crops, 3, side, side, generator=each, device=self.device) for each in self.noise]
            inputs = inputs + self.table.noise * torch.cat(noise)
        output = reach(self.network.module, self.layer.name, inputs)
        rows = rows_of(output, self.layer.layout).float()
        rows = rows.reshape(count, -1, rows.shape[2]) - self.offsets[:, None]
        dot = (rows @ self.directions[:, :, None]).squeeze(2)
        raised = dot
        if self.table.objective == "dot_cosine":
            norm = (rows.square().sum(2) + 1e-12).sqrt()  # whose gradient is a number at zero too
            raised = dot * (dot / norm).clamp_min(_LEAST_COSINE).square()
        scores = raised.mean(1)
        if not self.table.diversity or self.group == 1:
            return scores, scores.sum()
        return scores, scores.sum() - self.table.diversity * self._alike(rows, scores.detach().abs())

    def _alike(self, rows: Tensor, scales: Tensor) -> Tensor:
        """Return the sum over images of score times mean cosine with the group's others (lucid's ``diversity``, which
        does not weigh by the score): of the Gram matrices of activations over crops and positions."""
        alive = torch.tensor([self._alive(n) is not None for n in range(len(scales))], device=self.device)
        alive &= scales.isfinite()
        # Masked before anything is multiplied: zero times what is no number is none, in gradients too.
        rows, scales = torch.where(alive[:, None, None], rows, 0), torch.where(alive, scales, 0)
        grams = (rows.mT @ rows).flatten(1)
        grams = grams / (grams.square().sum(1, keepdim=True) + 1e-24).sqrt()
        grams, scales, alive = (each.reshape(self.lanes, self.group, -1) for each in (grams, scales, alive))
        pairs = (alive & alive.mT) & ~torch.eye(self.group, dtype=torch.bool, device=self.device)
        others = pairs.sum(2).clamp_min(1)
        return (scales[..., 0] * torch.where(pairs, grams @ grams.mT, 0).sum(2) / others).sum()

    def _boxes(self, image: Image | None) -> list[Box]:
        """Return the boxes of a step: sides uniform between the bounds, places uniform where they fit."""
        size = self.canvas.size
        if image is None:
            return [(self.crops.largest, 0.0, 0.0)] * self.table.crops
        smallest = self.table.crop[0] * size
        drawn = torch.rand(self.table.crops, 3, generator=image.draws, dtype=torch.float64).tolist()
        sides = [smallest + (self.crops.largest - smallest) * share for share, _, _ in drawn]
        return [(s, (size - s) * top, (size - s) * left) for s, (_, top, left) in zip(sides, drawn, strict=True)]

    def _alive(self, number: int) -> Image | None:
        image = self.images[number]
        return None if image is None or image.failed else image

    def _ready(self, number: int, size: float, score: float) -> bool:
        """Tell whether an image can take its step; if not, it has failed or begun anew."""
        image = self._alive(number)
        if image is None:
            return False
        if not math.isfinite(size) or not math.isfinite(score):
            what = "objective" if not math.isfinite(score) else "gradient"
            self._fail(number, image, f"its {what} was no finite number in step {image.steps + 1}")
            return False
        if size == 0 and image.steps == 0:
            if image.starts < STARTS:
                self._start(number, image)
            else:
                self._fail(number, image, f"its feature was moved by none of {STARTS} starts: every gradient was zero")
            return False
        return True

    def _fail(self, number: int, image: Image, why: str) -> None:
        image.failed, image.stopped = True, why
        self.optimiser.place(number, torch.zeros_like(self.optimiser.numbers[number]))
        if self.table.faulty == "error":
            raise NetworkError(
                f"the image '{image.wanted.image}' cannot be synthesised: {why}; leave the feature out, or set "
                '[visualize] faulty = "skip" to list it and go on.'
            )

    def _leave(self, numbers: range) -> Iterator[Image]:
        """Give the images of a group that has ended, and empty their places."""
        alive = [image for image in map(self._alive, numbers) if image is not None]
        over = all(image.steps == self.table.steps for image in alive)
        if not over and not all(image.flat(self.table.tolerance, self.table.patience) for image in alive):
            return
        for number in numbers:
            image = self.images[number]
            if image is None:
                continue
            if not image.failed:
                image.stopped = "steps" if over else "flat"
                self._finish(number, image)
            self.images[number] = None
            yield image

    @torch.no_grad()
    def _finish(self, number: int, image: Image) -> None:
        """Render an image and where it mattered, at the size of the network's input."""
        box = [[(float(self.canvas.size), 0.0, 0.0)]]
        picture = self.whole.take(self.canvas.render(self.optimiser.numbers[number : number + 1]), box)[0]
        pixels = (picture.permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8)
        seen = self.whole.take(self.seen[number : number + 1], box)[0, 0]
        image.finished = pixels.cpu().numpy(), (seen / seen.max()).cpu().numpy()
