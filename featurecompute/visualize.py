"""Images synthesised for neurons and directions: pictures that climb until they drive their feature.

In: a network, features, what the user's images are made of.  Out: `Synthesised`: pixels, transparency, a table.
Knows no file, no study but ``[visualize]``, and how no direction was learned.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from featurecompute.activations import Pooling, Reader, device_of, name_of, numerics, rows_of
from featurecompute.bases import Basis
from featurecompute.canvas import Box, Canvas, Crops, Fourier, Maco
from featurecompute.cards import Layer, Network
from featurecompute.errors import InputError, NetworkError
from featurecompute.files import hash_json
from featurecompute.hooks import reach
from featurecompute.optimiser import Optimiser
from featurecompute.spectrum import Spectrum
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


@dataclass(frozen=True, eq=False)
class Synthesised:
    """Synthesised images, in the order in which they were asked for.

    Parameters
    ----------
    pixels
        n x side x side x 3, uint8, of the size of the network's input; black where an image failed.
    transparency
        n x side x side, float32, 0 to 1: where the picture mattered. The absolute gradient by its pixels, summed over
        colours and steps, over its largest value (Fel et al. 2023).
    table
        A row an image: the columns of ``synthesised.parquet`` but for ``natural``.
    """

    pixels: np.ndarray = field(repr=False)
    transparency: np.ndarray = field(repr=False)
    table: pd.DataFrame = field(repr=False)


def canvas_size(network: Network, table: VisualizeTable) -> int:
    """Return the pixels to a side of the canvas: what the study asks for, or twice the network's input."""
    return table.size or 2 * network.preprocessing.size


def synthesise(
    network: Network,
    wanted: Sequence[Wanted],
    spectrum: Spectrum | None,
    table: VisualizeTable,
    *,
    pooling: Pooling = "mean",
    batch: int = 64,
    together: int | None = None,
    progress: Callable[[int, int], None] = lambda done, all_: None,
    device: str | torch.device | None = None,
) -> Synthesised:
    """Synthesise images.

    An image depends on the network, its feature, end and number, and the settings: not on the other images, nor on
    their order. With ``diversity`` it also depends on the feature's own images, which must all be asked for at once.

    Parameters
    ----------
    network
        Network.
    wanted
        Images, of any features and layers.
    spectrum
        Of the user's images, of the size of the canvas (`spectrum.magnitude_spectrum`, `canvas_size`); MACO needs it.
    table
        ``[visualize]``.
    pooling, batch
        Of the pass over natural images, ``[features]``: finished images are read as those are.
    together
        Images optimised at once; None: the table's ``batch`` on an accelerator, and one on a CPU, where more at once
        take as long and need more memory. Rounding may depend on it, but on no other image.
    progress
        Called with (images done, all).
    device
        Where to compute; None: where the network is.

    Raises
    ------
    NetworkError
        If a layer is unknown or not run, ``end`` is min where nothing is below zero, or with ``faulty = "error"`` an
        image fails.
    InputError
        If an image is asked for twice, a unit is not there, the spectrum is missing or of another size, or a feature's
        images are incomplete with ``diversity``.

    Notes
    -----
    Of Horama 0.3.0 are NAdam with rate 1, six crops a step, noise of SD 0.05 and the squared cosine; it takes 1,000
    steps on a canvas of 1,280 pixels. Fewer steps, a smaller canvas, larger crops, an early stop, seeds and batches are
    ours; so is that crops are as large as they are said to be (Horama draws sides from [max, 2 max − min]), and that
    the pass goes no further than the layer, both ways. A start from which the gradient is zero, since a ReLU lets
    nothing through, is drawn again, up to `STARTS` times.
    """
    _check(network, wanted, spectrum, table)
    if device is not None:
        network.module.to(device)
    # Whoever calls may have turned gradients off, and what is made in inference mode can have none.
    with torch.inference_mode(False), torch.enable_grad():
        made = _climb(network, wanted, spectrum, table, together, progress)
    return _gather(network, made, table, pooling, batch)


def _climb(
    network: Network,
    wanted: Sequence[Wanted],
    spectrum: Spectrum | None,
    table: VisualizeTable,
    together: int | None,
    progress: Callable[[int, int], None],
) -> list[_Image]:
    """Return the images, in the order in which they were asked for, when all have ended."""
    place = device_of(network.module)
    canvas: Canvas = Fourier(canvas_size(network, table), place)
    if table.method == "maco":
        assert spectrum is not None  # it was checked
        canvas = Maco(spectrum, place)
    together = together or (1 if place.type == "cpu" else table.batch)
    made: dict[int, _Image] = {}
    for layer in dict.fromkeys(each.basis.layer for each in wanted):
        images = [_Image(n, each, table.seed) for n, each in enumerate(wanted) if each.basis.layer == layer]
        for image in _Climb(network, network.layer(layer), canvas, table, together).run(_groups(images, table)):
            made[image.place] = image
            progress(len(made), len(wanted))
    return [made[n] for n in range(len(wanted))]


def _check(network: Network, wanted: Sequence[Wanted], spectrum: Spectrum | None, table: VisualizeTable) -> None:
    seen: set[str] = set()
    for each in wanted:
        layer = network.layer(each.basis.layer)
        if each.image in seen:
            raise InputError(f"the image '{each.image}' is asked for twice.")
        seen.add(each.image)
        if not 0 <= each.index < each.basis.size:
            raise InputError(
                f"feature '{each.feature}' is unit {each.index} of layer '{layer.name}' ({each.basis.method}), whose "
                f"units are 0 to {each.basis.size - 1}."
            )
        if each.end == "min" and not layer.signed:
            raise NetworkError(
                f"no image can be synthesised for the lower end of feature '{each.feature}': the activations of layer "
                f"'{layer.name}' are never below zero, and at zero no gradient leads further."
            )
    if table.diversity:
        for feature, end in dict.fromkeys((each.feature, each.end) for each in wanted):
            numbers = sorted(each.number for each in wanted if (each.feature, each.end) == (feature, end))
            if numbers != list(range(table.images)):
                raise InputError(
                    f"with [visualize] diversity above 0 the images of a feature are optimised together: of feature "
                    f"'{feature}' ({end}) the numbers {numbers} are asked for; it must be 0 to {table.images - 1}."
                )
    size = canvas_size(network, table)
    if table.method == "maco" and (spectrum is None or spectrum.size != size):
        found = "none was given" if spectrum is None else f"one of {spectrum.size} was given"
        raise InputError(f"MACO needs the images' spectrum for a canvas of {size} pixels; {found}.")


@dataclass(eq=False)
class _Image:
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


_Group = list[_Image]
"""Images that are optimised together: one, or with diversity those of a feature and end."""


def _groups(images: Sequence[_Image], table: VisualizeTable) -> list[_Group]:
    found: dict[object, _Group] = {}
    for image in images:
        each = image.wanted
        found.setdefault((each.feature, each.end) if table.diversity else each.image, []).append(image)
    return [sorted(group, key=lambda image: image.wanted.number) for group in found.values()]


class _Climb:
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
        self.images: list[_Image | None] = [None] * count
        self.noise = [torch.Generator(self.device) for _ in range(count)]
        self.crops = Crops(canvas.size, network.preprocessing.size, table.crop[1] * canvas.size)
        self.whole = Crops(canvas.size, network.preprocessing.size, canvas.size)

    def run(self, groups: Sequence[_Group]) -> Iterator[_Image]:
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

    def _enter(self, first: int, group: _Group) -> None:
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

    def _start(self, number: int, image: _Image) -> None:
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
        grams = (rows.mT @ rows).flatten(1)
        grams = grams / (grams.square().sum(1, keepdim=True) + 1e-24).sqrt()
        grams = grams.reshape(self.lanes, self.group, -1)
        alive = torch.tensor([self._alive(n) is not None for n in range(len(scales))], device=self.device)
        alive = alive.reshape(self.lanes, self.group)
        pairs = alive[:, :, None] & alive[:, None] & ~torch.eye(self.group, dtype=torch.bool, device=self.device)
        # Not a product, since an image that failed may hold no numbers.
        cosines = torch.where(pairs, grams @ grams.mT, 0)
        others = pairs.sum(2).clamp_min(1)
        return (torch.where(alive, scales.reshape(alive.shape), 0) * cosines.sum(2) / others).sum()

    def _boxes(self, image: _Image | None) -> list[Box]:
        """Return the boxes of a step: sides uniform between the bounds, places uniform where they fit."""
        size = self.canvas.size
        if image is None:
            return [(self.crops.largest, 0.0, 0.0)] * self.table.crops
        smallest = self.table.crop[0] * size
        drawn = torch.rand(self.table.crops, 3, generator=image.draws, dtype=torch.float64).tolist()
        sides = [smallest + (self.crops.largest - smallest) * share for share, _, _ in drawn]
        return [(s, (size - s) * top, (size - s) * left) for s, (_, top, left) in zip(sides, drawn, strict=True)]

    def _alive(self, number: int) -> _Image | None:
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

    def _fail(self, number: int, image: _Image, why: str) -> None:
        image.failed, image.stopped = True, why
        self.optimiser.place(number, torch.zeros_like(self.optimiser.numbers[number]))
        if self.table.faulty == "error":
            raise NetworkError(
                f"the image '{image.wanted.image}' cannot be synthesised: {why}; leave the feature out, or set "
                '[visualize] faulty = "skip" to list it and go on.'
            )

    def _leave(self, numbers: range) -> Iterator[_Image]:
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
    def _finish(self, number: int, image: _Image) -> None:
        """Render an image and where it mattered, at the size of the network's input."""
        box = [[(float(self.canvas.size), 0.0, 0.0)]]
        picture = self.whole.take(self.canvas.render(self.optimiser.numbers[number : number + 1]), box)[0]
        pixels = (picture.permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8)
        seen = self.whole.take(self.seen[number : number + 1], box)[0, 0]
        image.finished = pixels.cpu().numpy(), (seen / seen.max()).cpu().numpy()


def _gather(
    network: Network, images: Sequence[_Image], table: VisualizeTable, pooling: Pooling, batch: int
) -> Synthesised:
    """Return the images together, with their activations."""
    side = network.preprocessing.size
    pixels = np.zeros((len(images), side, side, 3), np.uint8)
    transparency = np.zeros((len(images), side, side), np.float32)
    activations = np.full(len(images), np.nan)
    done = []
    bases: dict[str, dict[str, Basis]] = {}
    for n, image in enumerate(images):
        if image.finished is not None:
            done.append(n)
            pixels[n], transparency[n] = image.finished
            basis = image.wanted.basis
            bases.setdefault(basis.layer, {})[name_of(basis)] = basis
    if done:
        reader = Reader(
            network, {layer: list(own.values()) for layer, own in bases.items()}, pooling, batch, "fp32", None
        )
        found = reader.read(pixels, np.array(done))
        for row, n in enumerate(done):
            each = images[n].wanted
            activations[n] = float(found[each.basis.layer, name_of(each.basis)][0][row, each.index])
    rows = [
        {
            "image": image.wanted.image,
            "feature": image.wanted.feature,
            "end": image.wanted.end,
            "number": image.wanted.number,
            "method": table.method,
            "seed": table.seed,
            "steps": image.steps,
            "stopped": image.stopped,
            "failed": image.failed,
            "activation": activation,
        }
        for image, activation in zip(images, activations, strict=True)
    ]
    return Synthesised(pixels, transparency, pd.DataFrame(rows))
