"""The one pass over images: every layer, and every basis of it, in one forward, of which little is kept.

In: a network, bases of its layers, pixels.  Out: arrays of a shard of images.  Knows no file, no table and no scan as
a whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from featurecompute.bases import Basis, NeuronBasis
from featurecompute.errors import InputError, NetworkError
from featurecompute.extremes import Extremes, Moments, check_numbers
from featurecompute.hooks import Layout, watch
from featurecompute.sampling import draw_positions

Pooling: TypeAlias = Literal["mean", "max"]
Precision: TypeAlias = Literal["fp32", "bf16"]
Key: TypeAlias = tuple[str, str]
"""Layer and the name of one of its bases, as `name_of` gives it."""

CANDIDATES = 4
"""bf16: images kept at each end, in multiples of `top`, to be scored anew. The fp32 top 100 lay inside the bf16 top 200
for all of 512 units with many near-ties (measured: notes on peers, 2a)."""
BLOCK = 1024
"""Images whose pooled activations are held at once; fixed, so that rounded sums do not depend on the batch."""
ABOUT = "scan||about"
"""Name of the array that says what a shard is: start, stop, top, whether it was fp32, whether pooled by the mean."""


class LayerLike(Protocol):
    """What is needed of a layer's card."""

    @property
    def name(self) -> str:
        """Its name in the module."""

    @property
    def layout(self) -> Layout:
        """Axes of its output."""


class NetworkLike(Protocol):
    """What is needed of a network."""

    @property
    def module(self) -> nn.Module:
        """The module, in evaluation mode."""

    def layer(self, name: str) -> LayerLike:
        """Return a layer's card."""

    def normalise(self, pixels: np.ndarray) -> Tensor:
        """Return pixels (batch x height x width x 3, uint8) as the network's input, on the module's device."""


def name_of(basis: Basis) -> str:
    """Return the name of a basis among those of its layer: its method and, but for neurons, part of its hash."""
    return basis.method if isinstance(basis, NeuronBasis) else f"{basis.method}:{basis.sha256[:16]}"


def refuse_windows(precision: Precision, windows: Sequence[object]) -> None:
    """Refuse windows of ranks of a scan that is not exact.

    Raises
    ------
    InputError
    """
    if windows and precision != "fp32":
        raise InputError(
            'a window of ranks needs the exact order of all images, which a bf16 scan does not know: set scan = "fp32" '
            "in [features], or leave out windows."
        )


def scan_shard(
    network: NetworkLike,
    bases: Mapping[str, Sequence[Basis]],
    pixels: np.ndarray,
    start: int,
    stop: int,
    *,
    pooling: Pooling = "mean",
    top: int = 100,
    batch: int = 64,
    sample: float = 0.0,
    seed: int = 1,
    precision: Precision = "fp32",
    keep_pooled: bool = False,
    device: str | torch.device | None = None,
) -> dict[str, np.ndarray]:
    """Run a shard of images through the network once and return what is kept of every layer and basis.

    Parameters
    ----------
    network
        Network; its module is moved to `device`.
    bases
        Layer to the bases that it is read in. A layer without a basis gives sampled rows alone.
    pixels
        All images (N x height x width x 3), uint8, prepared.
    start, stop
        The shard: images start to stop - 1.
    pooling
        How a map becomes an image's activation: mean or max over positions.
    top
        Images kept at each end for every unit; a bf16 scan keeps `CANDIDATES` times as many.
    batch
        Images a forward. The last batch is filled up with its last image, so that every forward has the same shape.
    sample
        Rows of each layer kept an image: positions drawn by `sampling.draw_positions`. For n rows of N images, n / N.
    seed
        Of the sample.
    precision
        bf16: autocast, channels last.
    keep_pooled
        Whether to return every image's activation.
    device
        Where to compute; None: where the module is. Bases must take rows that are there.

    Returns
    -------
    dict
        ``LAYER|BASIS|NAME`` to an array. top_scores, top_images, top_positions and the same for bottom (k x units);
        n, total, squares, maximum, minimum, positive (units; of `extremes.Moments`); pooled (images x units, float32).
        Per layer, ``LAYER||rows`` (n x channels, float32), ``LAYER||row_images``, ``LAYER||row_positions``. `ABOUT`.

    Raises
    ------
    InputError
        If the shard has no image, or an activation is not a finite number.
    NetworkError
        If a layer is not run, or its output does not begin with the batch.
    """
    if not 0 <= start < stop <= len(pixels):
        raise InputError(
            f"images {start} to {stop} were asked for; of {len(pixels)} images there are 0 to {len(pixels)}."
        )
    reader = Reader(network, bases, pooling, batch, precision, device, sample, seed)
    kept = top * (CANDIDATES if precision == "bf16" else 1)
    stores: dict[Key, Extremes] = {}
    moments: dict[Key, Moments] = {}
    pooled: dict[Key, list[np.ndarray]] = {key: [] for key in reader.keys}
    for begin in range(start, stop, BLOCK):
        images = np.arange(begin, min(begin + BLOCK, stop))
        numbers = torch.from_numpy(images).to(reader.device)
        for key, (scores, positions) in reader.read(pixels, images).items():
            if key not in stores:
                stores[key] = Extremes(scores.shape[1], kept, describe(key), reader.device)
            stores[key].update(scores, numbers, positions)
            found = Moments.of(scores)
            moments[key] = moments[key].merge(found) if key in moments else found
            if keep_pooled:
                pooled[key].append(scores.cpu().numpy())
    arrays = {ABOUT: np.array([start, stop, top, precision == "fp32", pooling == "mean"], np.int64)} | reader.samples()
    for key, store in stores.items():
        parts = store.arrays() | moments[key].arrays()
        if keep_pooled:
            parts["pooled"] = np.concatenate(pooled[key])
        arrays |= {"|".join((*key, name)): values for name, values in parts.items()}
    return arrays


def describe(key: Key) -> str:
    """Return what a layer and a basis are called in an error."""
    return f"layer '{key[0]}' ({key[1]})"


class Reader:
    """Activations of images, batch by batch, for every layer and basis; parameters as of `scan_shard`."""

    def __init__(
        self,
        network: NetworkLike,
        bases: Mapping[str, Sequence[Basis]],
        pooling: Pooling,
        batch: int,
        precision: Precision,
        device: str | torch.device | None,
        sample: float = 0.0,
        seed: int = 1,
    ) -> None:
        if device is not None:
            network.module.to(device)
        self.network, self.bases = network, bases
        self.pooling, self.batch, self.precision = pooling, batch, precision
        self.device = device_of(network.module)
        self.sample, self.seed = sample, seed
        self.keys = [(layer, name_of(basis)) for layer, found in bases.items() for basis in found]
        self._rows: dict[str, list[tuple[np.ndarray, ...]]] = {layer: [] for layer in bases}

    def read(self, pixels: np.ndarray, images: np.ndarray) -> dict[Key, tuple[Tensor, Tensor]]:
        """Return, for every layer and basis, the activations (images x units) and positions of maxima, int32.

        Raises
        ------
        InputError, NetworkError
            As `scan_shard`.
        """
        scores: dict[Key, Tensor] = {}
        places: dict[Key, Tensor] = {}
        with torch.inference_mode():
            for begin in range(0, len(images), self.batch):
                here = images[begin : begin + self.batch]
                for key, (values, where) in self._forward(pixels, here).items():
                    if key not in scores:
                        scores[key] = values.new_empty(len(images), values.shape[1])
                        places[key] = where.new_empty(scores[key].shape)
                    scores[key][begin : begin + len(here)] = values[: len(here)]
                    places[key][begin : begin + len(here)] = where[: len(here)]
        # They stand in the order of execution, so that the first layer that went wrong is named.
        numbers = torch.from_numpy(images).to(self.device)
        for key, values in scores.items():
            check_numbers(values, numbers, describe(key))
        return {key: (scores[key], places[key]) for key in scores}

    def _forward(self, pixels: np.ndarray, images: np.ndarray) -> dict[Key, tuple[Tensor, Tensor]]:
        # Kernels are chosen by shape, and another kernel rounds otherwise: a short batch is filled up.
        filled = np.concatenate([images, np.repeat(images[-1:], self.batch - len(images))])
        values = self.network.normalise(np.ascontiguousarray(pixels[filled]))
        if self.precision == "bf16" and values.ndim == 4:
            values = values.contiguous(memory_format=torch.channels_last)
        found: dict[Key, tuple[Tensor, Tensor]] = {}
        rows: dict[str, tuple[np.ndarray, ...]] = {}
        run: set[str] = set()

        # All is done inside the hook: no map outlives its layer, and none can be overwritten by what follows.
        def action(layer: str) -> Callable[[Tensor], None]:
            layout = self.network.layer(layer).layout

            def act(output: Tensor) -> None:
                if output.ndim < 2 or len(output) != self.batch:
                    raise NetworkError(
                        f"layer '{layer}' gives an output of shape {tuple(output.shape)} for {self.batch} images; "
                        "its first axis must be the images."
                    )
                run.add(layer)
                maps = rows_of(output, layout)
                for basis in self.bases[layer]:
                    found[layer, name_of(basis)] = self._pool(encode(basis, maps))
                if self.sample:
                    which, position = draw_positions(images, maps.shape[1], self.sample, self.seed, layer)
                    index = torch.from_numpy(np.stack([which, position])).to(maps.device)
                    rows[layer] = (maps[index[0], index[1]].float().cpu().numpy(), images[which], position)

            return act

        with (
            numerics(self.device, self.precision),
            watch(self.network.module, {layer: action(layer) for layer in self.bases}),
        ):
            self.network.module(values)
        for layer in self.bases:
            if layer not in run:
                raise NetworkError(f"layer '{layer}' is not run when images go through the network.")
        for layer, part in rows.items():
            self._rows[layer].append(part)
        return found

    def _pool(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return pooled activations (images x units) of maps (images x positions x units), and where they peak."""
        largest, where = maps.max(1)
        values = largest.float() if self.pooling == "max" else maps.mean(1, dtype=torch.float32)
        return values, where.int()

    def samples(self) -> dict[str, np.ndarray]:
        """Return the rows that were drawn, their images and positions."""
        arrays: dict[str, np.ndarray] = {}
        for layer, parts in self._rows.items():
            if parts:
                values, images, positions = (np.concatenate(part) for part in zip(*parts, strict=True))
                arrays[f"{layer}||rows"] = values
                arrays[f"{layer}||row_images"] = images.astype(np.int64)
                arrays[f"{layer}||row_positions"] = positions.astype(np.int32)
        return arrays


@contextlib.contextmanager
def numerics(device: torch.device, precision: Precision = "fp32") -> Iterator[None]:
    """Compute as `precision` says: fp32 without TF32's shorter products, by algorithms that repeat themselves."""
    if device.type == "cpu":
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            yield
        return
    matmul = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's numbers are."""
    return next((part.device for part in (*module.parameters(), *module.buffers())), torch.device("cpu"))


def rows_of(output: Tensor, layout: Layout) -> Tensor:
    """Return a layer's output as images x positions x channels: a view, whatever its order in memory."""
    if layout == "bchw":
        return output.flatten(2).transpose(1, 2)
    if layout == "bhwc":
        return output.flatten(1, -2)
    return output if layout == "btc" else output[:, None, :]


def encode(basis: Basis, maps: Tensor) -> Tensor:
    """Return the codes (images x positions x units) of maps (images x positions x channels)."""
    if isinstance(basis, NeuronBasis):
        return maps
    # The solver of a code may need more digits than bf16 has, and costs little beside the network.
    with torch.autocast(maps.device.type, enabled=False):
        codes = basis.encode(maps.reshape(-1, maps.shape[2]).float())
    return codes.reshape(*maps.shape[:2], codes.shape[1])
