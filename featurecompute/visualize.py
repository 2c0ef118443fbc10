"""Images synthesised for neurons and directions: pictures that climb until they drive their feature.

In: a network, features, what the user's images are made of.  Out: `Synthesised`: pixels, transparency, a table.
Knows no file, no study but ``[visualize]``, and how no direction was learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from featurecompute.activations import Pooling, Reader, device_of, name_of
from featurecompute.ascent import STARTS, Climb, Image, Wanted, group_images
from featurecompute.bases import Basis
from featurecompute.canvas import Canvas, Fourier, Maco
from featurecompute.cards import Network
from featurecompute.errors import InputError, NetworkError
from featurecompute.spectrum import Spectrum
from featurecompute.study import VisualizeTable

__all__ = ["STARTS", "Synthesised", "Wanted", "canvas_size", "synthesise"]


_PIXELS = 2**17
"""CPU: pixels of crops a step. Fewer leave the cores waiting for calls, more take as long and need more memory."""


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
    """Return the pixels to a side of the canvas: what the study asks for, or those of the network's input."""
    return table.size or network.preprocessing.size


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
        Images optimised at once; None: the table's ``batch`` on an accelerator, and on a CPU as many as make `_PIXELS`
        pixels of crops, one of the usual size. Rounding may depend on it, but on no other image.
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
    Of Horama 0.3.0 are NAdam, six crops a step, noise of SD 0.05 and the squared cosine; it takes 1,000 steps of rate 1
    on a canvas of 1,280 pixels, with crops of a fifth to a quarter. Steps, rate (`canvas.Maco`), early stop, seeds and
    batches are ours. So are a canvas of the network's size and crops of nearly all of it: participants see the whole
    picture at the size of the others, and one that is optimised in crops of half its side shows things at half the size
    that the feature answers to. Crops are as large as they are said to be (Horama draws sides from
    [max, 2 max − min]), and the pass goes no further than the layer, both ways. A start whose gradient is zero, since a
    ReLU lets nothing through, is drawn again, up to `STARTS` times.
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
) -> list[Image]:
    """Return the images, in the order in which they were asked for, when all have ended."""
    place = device_of(network.module)
    canvas: Canvas = Fourier(canvas_size(network, table), place)
    if table.method == "maco":
        assert spectrum is not None  # it was checked
        canvas = Maco(spectrum, place)
    if together is None:
        together = table.batch if place.type != "cpu" else _PIXELS // (table.crops * network.preprocessing.size**2)
        together = max(1, min(together, table.batch))
    made: dict[int, Image] = {}
    for layer in dict.fromkeys(each.basis.layer for each in wanted):
        images = [Image(n, each, table.seed) for n, each in enumerate(wanted) if each.basis.layer == layer]
        for image in Climb(network, network.layer(layer), canvas, table, together).run(group_images(images, table)):
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


def _gather(
    network: Network, images: Sequence[Image], table: VisualizeTable, pooling: Pooling, batch: int
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
