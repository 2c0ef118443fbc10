"""The one pass over images: every layer, and every basis of it, in one forward, of which little is kept.

In: a network, bases of its layers, pixels.  Out: arrays of a shard of images.  Knows no file, no table and no scan as
a whole.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from featurecompute.bases import Basis, NeuronBasis
from featurecompute.compilation import Compiled, Take, Taken
from featurecompute.errors import InputError, NetworkError
from featurecompute.extremes import Extremes, Moments, check_numbers
from featurecompute.hooks import Layout, watch
from featurecompute.sampling import draw_positions
from featurecompute.uploading import place, upload

Pooling: TypeAlias = Literal["mean", "max"]
Precision: TypeAlias = Literal["fp32", "bf16"]
Key: TypeAlias = tuple[str, str]
"""Layer and the name of one of its bases, as `name_of` gives it."""

CANDIDATES = 4
"""bf16: images kept at each end, in multiples of `top`, to be scored anew. The fp32 top 100 lay inside the bf16 top 200
for all of 512 units with many near-ties (measured: notes on peers, 2a)."""
BLOCK = 1024
"""Images whose pooled activations are held at once; fixed, so that rounded sums do not depend on the batch."""
COMPILED_FROM = 1_000_000
"""Images of a set from which on a bf16 scan on a CUDA device is compiled (assumed): compiling takes about a minute, and
at the bounds of ResNet50 on an H200, 28,000 images a second and 78,000 when operations are fused, 23 s are saved in a
million images."""
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

    def normalise(self, pixels: np.ndarray | Tensor) -> Tensor:
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
    compiled: bool | None = None,
    warn: Callable[[str], None] = lambda line: None,
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
    compiled
        Whether the network is compiled; None: in a bf16 scan on a CUDA device of `COMPILED_FROM` images or more.
    warn
        Takes a sentence where compiling fails; the network is then run as it is.

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
    if compiled is None:
        compiled = precision == "bf16" and reader.device.type == "cuda" and len(pixels) >= COMPILED_FROM
    if compiled:
        reader.compile(warn)
    kept = top * (CANDIDATES if precision == "bf16" else 1)
    stores: dict[Key, Extremes] = {}
    moments: dict[Key, Moments] = {}
    pooled: dict[Key, list[np.ndarray]] = {key: [] for key in reader.keys}
    for images, block in reader.read_blocks(pixels, np.arange(start, stop), BLOCK):
        numbers = torch.from_numpy(images).to(reader.device)
        for key, (scores, positions) in block.items():
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
        self._rows: dict[str, list[tuple[Tensor, np.ndarray, np.ndarray]]] = {layer: [] for layer in bases}
        self._compiled: Compiled | None = None
        self._warn: Callable[[str], None] = lambda line: None

    def compile(self, warn: Callable[[str], None]) -> None:
        """Run the network compiled from here on, or as it is where that fails, which `warn` is told."""
        needs = {layer: self._needs(layer) for layer in self.bases}
        # A shard has a reader of its own; a network is compiled once.
        kept = _COMPILED.setdefault(self.network.module, {})
        key = (str(self.device), self.precision, self.pooling, self.batch, *needs.items())
        if key not in kept:
            takes = {layer: _take(layer, self.batch, self.pooling, *need) for layer, need in needs.items()}
            kept[key] = Compiled(self.network.module, takes)
        self._compiled, self._warn = kept[key], warn

    def _needs(self, layer: str) -> tuple[Layout, bool, bool]:
        """Return a layer's axes, whether its neurons are pooled, and whether its maps are needed besides."""
        neurons = [isinstance(basis, NeuronBasis) for basis in self.bases[layer]]
        return self.network.layer(layer).layout, any(neurons), bool(self.sample) or not all(neurons)

    def read(self, pixels: np.ndarray, images: np.ndarray) -> dict[Key, tuple[Tensor, Tensor]]:
        """Return, for every layer and basis, the activations (images x units) and positions of maxima, int32.

        Raises
        ------
        InputError, NetworkError
            As `scan_shard`.
        """
        ((_, found),) = self.read_blocks(pixels, images, len(images))
        return found

    def read_blocks(
        self, pixels: np.ndarray, images: np.ndarray, size: int
    ) -> Iterator[tuple[np.ndarray, dict[Key, tuple[Tensor, Tensor]]]]:
        """Yield blocks of `size` images, each with what `read` returns of them.

        Raises
        ------
        InputError, NetworkError
            As `scan_shard`.
        """
        blocks = [images[begin : begin + size] for begin in range(0, len(images), size)]
        batches = [
            [block[begin : begin + self.batch] for begin in range(0, len(block), self.batch)] for block in blocks
        ]
        # Kernels are chosen by shape, and another kernel rounds otherwise: a short batch is filled up.
        filled = [
            np.concatenate([here, np.repeat(here[-1:], self.batch - len(here))]) for part in batches for here in part
        ]
        with contextlib.closing(upload(pixels, filled, self.device)) as coming:
            for block, part in zip(blocks, batches, strict=True):
                yield block, self._read_block(block, part, coming)

    def _read_block(
        self, block: np.ndarray, batches: Sequence[np.ndarray], coming: Iterator[np.ndarray | Tensor]
    ) -> dict[Key, tuple[Tensor, Tensor]]:
        scores: dict[Key, Tensor] = {}
        places: dict[Key, Tensor] = {}
        begin = 0
        with torch.inference_mode():
            for here in batches:
                for key, (values, where) in self._forward(next(coming), here).items():
                    if key not in scores:
                        scores[key] = values.new_empty(len(block), values.shape[1])
                        places[key] = where.new_empty(scores[key].shape)
                    scores[key][begin : begin + len(here)] = values[: len(here)]
                    places[key][begin : begin + len(here)] = where[: len(here)]
                begin += len(here)
        # They stand in the order of execution, so that the first layer that went wrong is named.
        numbers = torch.from_numpy(block).to(self.device)
        for key, values in scores.items():
            check_numbers(values, numbers, describe(key))
        return {key: (scores[key], places[key]) for key in scores}

    def _forward(self, pixels: np.ndarray | Tensor, images: np.ndarray) -> dict[Key, tuple[Tensor, Tensor]]:
        values = self.network.normalise(pixels)
        if self.precision == "bf16" and values.ndim == 4:
            values = values.contiguous(memory_format=torch.channels_last)
        found: dict[Key, tuple[Tensor, Tensor]] = {}
        rows: dict[str, tuple[Tensor, np.ndarray, np.ndarray]] = {}
        run: set[str] = set()

        def note(layer: str, maps: Tensor | None, pooled: tuple[Tensor, Tensor] | None = None) -> None:
            """Keep what is wanted of a layer's maps; the neurons may be pooled already."""
            run.add(layer)
            for basis in self.bases[layer]:
                if pooled is not None and isinstance(basis, NeuronBasis):
                    found[layer, name_of(basis)] = pooled
                else:
                    assert maps is not None
                    found[layer, name_of(basis)] = pool(encode(basis, maps), self.pooling)
            if self.sample:
                assert maps is not None
                which, position = draw_positions(images, maps.shape[1], self.sample, self.seed, layer)
                index = place(np.stack([which, position]), maps.device)
                rows[layer] = (maps[index[0], index[1]].float(), images[which], position)

        # All is done inside the hook: no map outlives its layer, and none can be overwritten by what follows.
        def action(layer: str) -> Callable[[Tensor], None]:
            layout = self.network.layer(layer).layout
            return lambda output: note(layer, _maps_of(layer, output, layout, self.batch))

        if self._compiled is None:
            with (
                numerics(self.device, self.precision),
                watch(self.network.module, {layer: action(layer) for layer in self.bases}),
            ):
                self.network.module(values)
        else:
            with numerics(self.device, self.precision):
                for layer, parts in self._run_compiled(self._compiled, values).items():
                    _, neurons, whole = self._needs(layer)
                    note(layer, parts[-1] if whole else None, (parts[0], parts[1]) if neurons else None)
        for layer in self.bases:
            if layer not in run:
                raise NetworkError(f"layer '{layer}' is not run when images go through the network.")
        for layer, part in rows.items():
            self._rows[layer].append(part)
        return found

    def _run_compiled(self, compiled: Compiled, values: Tensor) -> Taken:
        before = compiled.fault
        taken = compiled(values)
        if compiled.fault != before:
            self._warn(
                f"the network could not be compiled for the pass over images ({compiled.fault}); it was run as it is, "
                "which takes longer."
            )
        return taken

    def samples(self) -> dict[str, np.ndarray]:
        """Return the rows that were drawn, their images and positions."""
        arrays: dict[str, np.ndarray] = {}
        for layer, parts in self._rows.items():
            if parts:
                values, images, positions = zip(*parts, strict=True)
                arrays[f"{layer}||rows"] = torch.cat(values).cpu().numpy()
                arrays[f"{layer}||row_images"] = np.concatenate(images).astype(np.int64)
                arrays[f"{layer}||row_positions"] = np.concatenate(positions).astype(np.int32)
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


_COMPILED: weakref.WeakKeyDictionary[nn.Module, dict[tuple[object, ...], Compiled]] = weakref.WeakKeyDictionary()


def _take(layer: str, batch: int, pooling: Pooling, layout: Layout, neurons: bool, whole: bool) -> Take:
    """Return what makes of a layer's output its neurons' activations and positions, its maps, or both.

    It must not know the network, which is forgotten with all that was compiled of it.
    """

    def take(output: Tensor) -> tuple[Tensor, ...]:
        maps = _maps_of(layer, output, layout, batch)
        pooled = pool(maps, pooling) if neurons else ()
        return (*pooled, maps.clone()) if whole else pooled

    return take


def _maps_of(layer: str, output: Tensor, layout: Layout, batch: int) -> Tensor:
    """Return a layer's maps, after a look at whether they can be images'."""
    if output.ndim < 2 or len(output) != batch:
        raise NetworkError(
            f"layer '{layer}' gives an output of shape {tuple(output.shape)} for {batch} images; "
            "its first axis must be the images."
        )
    return rows_of(output, layout)


def pool(maps: Tensor, pooling: Pooling) -> tuple[Tensor, Tensor]:
    """Return pooled activations (images x units) of maps (images x positions x units), and where they peak."""
    largest, where = maps.max(1)
    values = largest.float() if pooling == "max" else maps.mean(1, dtype=torch.float32)
    return values, where.int()


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
