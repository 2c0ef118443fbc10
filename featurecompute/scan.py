"""Shards made one: the extremes and moments of all images, their rows, windows of ranks, and candidates scored anew.

In: arrays of shards, in order.  Out: a scan.  Knows no table; of files, only that a shard's arrays can be read one at
a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from featurecompute.activations import (
    ABOUT,
    Key,
    NetworkLike,
    Pooling,
    Precision,
    Reader,
    describe,
    refuse_windows,
)
from featurecompute.bases import Basis
from featurecompute.errors import InputError, RunError
from featurecompute.extremes import Extremes, Moments, Ranked
from featurecompute.windows import select_window


class ShardFile(Mapping[str, np.ndarray]):
    """A shard's arrays in a file that `files.write_arrays` wrote, each read when it is asked for.

    Raises
    ------
    RunError
        If the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with safe_open(path, "numpy") as file:
                self._names = sorted(file.keys())
        except (OSError, SafetensorError) as error:
            raise RunError(f"{path} cannot be read: {error}.") from error

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        with safe_open(self.path, "numpy") as file:
            return np.asarray(file.get_tensor(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Found:
    """What is known of the units of one layer and basis.

    Parameters
    ----------
    top, bottom
        Images at both ends (k x units). After `rescore`, units that were not asked for have none.
    moments
        Of the pooled activations over images, at the scan's precision.
    certain
        After `rescore`: whether no image outside the candidates can belong to a unit's top or bottom, if bf16 erred on
        none of them by more than on its worst candidate (units); None: all are exact.
    """

    top: Ranked
    bottom: Ranked
    moments: Moments
    certain: np.ndarray | None = None


@dataclass(frozen=True)
class Rows:
    """Rows of a layer's maps, in the order of images, then positions.

    Parameters
    ----------
    values
        Activations (n x channels), float32.
    images, positions
        Where each is from (n).
    """

    values: np.ndarray
    images: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class Scan:
    """All images as every layer and basis sees them.

    Parameters
    ----------
    start, stop
        Images start to stop - 1.
    top
        Images asked for at each end; a bf16 scan holds more, until `rescore`.
    pooling, precision
        As of `activations.scan_shard`.
    found
        Layer and basis to what is known of its units.
    shards
        The arrays, in order.
    """

    start: int
    stop: int
    top: int
    pooling: Pooling
    precision: Precision
    found: Mapping[Key, Found]
    shards: Sequence[Mapping[str, np.ndarray]]

    def rows(self, layer: str) -> Rows:
        """Return a layer's sampled rows.

        Raises
        ------
        RunError
            If none were sampled.
        """
        self._refuse_unsampled(layer)
        parts = [
            [shard[f"{layer}||{name}"] for shard in self.shards] for name in ("rows", "row_images", "row_positions")
        ]
        return Rows(*(np.concatenate(part) for part in parts))

    def rows_by_shard(self, layer: str) -> Iterator[np.ndarray]:
        """Give the values of a layer's sampled rows, shard by shard.

        Raises
        ------
        RunError
            If none were sampled.
        """
        self._refuse_unsampled(layer)
        for shard in self.shards:
            yield shard[f"{layer}||rows"]

    def _refuse_unsampled(self, layer: str) -> None:
        if f"{layer}||rows" not in self.shards[0]:
            raise RunError(f"no rows of layer '{layer}' were sampled; the scan must be made with a sample.")

    def pooled(self, key: Key, units: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Give every image's activation (images x units), shard by shard; `units` picks columns.

        Raises
        ------
        RunError
            If they were not kept.
        """
        name = "|".join((*key, "pooled"))
        for shard in self.shards:
            if name not in shard:
                raise RunError(f"the activations of {describe(key)} were not kept; the scan must keep pooled ones.")
            yield shard[name] if units is None else shard[name][:, units]

    def window(self, key: Key, lo: float, hi: float, units: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the images, and their scores, from share `lo` to share `hi` of each unit's order (ranks x units).

        Ranks are floor(lo n) to floor(hi n) - 1 of n images, and at least one; rank 0 is the most activating image.

        Raises
        ------
        InputError
            If the scan was made in bf16.
        """
        refuse_windows(self.precision, [(lo, hi)])
        n = self.stop - self.start
        # Shares such as 0.29 are no binary numbers: 0.29 * 100 is 28.999….
        first = min(int(lo * n + 1e-9), n - 1)
        images, scores = select_window(lambda: self.pooled(key, units), first, max(int(hi * n + 1e-9), first + 1))
        return images + self.start, scores


@dataclass(frozen=True)
class RowTiles:
    """A layer's sampled rows in tiles, in the order of `Scan.rows`, read from the shards anew at each pass.

    At once in memory are a tile and one shard's rows, and the tile before while its reader holds on to it.

    Parameters
    ----------
    scan, layer
        Whose rows.
    size
        Rows of a tile; the last has what is left.
    device
        Where tiles are wanted.
    """

    scan: Scan
    layer: str
    size: int
    device: torch.device

    def __iter__(self) -> Iterator[torch.Tensor]:
        tile, filled = np.empty((0, 0), np.float32), 0
        for rows in self.scan.rows_by_shard(self.layer):
            while len(rows):
                if not filled:
                    tile = np.empty((self.size, rows.shape[1]), np.float32)
                part = rows[: self.size - filled]
                tile[filled : filled + len(part)] = part
                filled, rows = filled + len(part), rows[len(part) :]
                if filled == self.size:
                    yield torch.from_numpy(tile).to(self.device)
                    filled = 0
        if filled:
            yield torch.from_numpy(tile[:filled]).to(self.device)


def reduce_shards(shards: Sequence[Mapping[str, np.ndarray]]) -> Scan:
    """Make one scan of shards.

    Parameters
    ----------
    shards
        What `scan_shard` returned, or `ShardFile`, in the order of images.

    Raises
    ------
    RunError
        If there are none, if images are missing between them, or if they are not of one scan.
    """
    if not shards:
        raise RunError("there is no shard to make a scan of.")
    about = np.stack([shard[ABOUT] for shard in shards])
    for i in range(1, len(shards)):
        if about[i, 0] != about[i - 1, 1]:
            raise RunError(
                f"shard {i} begins with image {about[i, 0]}; after the one before it must be {about[i - 1, 1]}."
            )
        if (about[i, 2:] != about[0, 2:]).any() or set(shards[i]) != set(shards[0]):
            raise RunError(f"shard {i} was made with other settings, layers or bases than the first.")
    keys = [(name.split("|")[0], name.split("|")[1]) for name in shards[0] if name.endswith("|top_scores")]
    start, top = int(about[0, 0]), int(about[0, 2])
    return Scan(
        start,
        int(about[-1, 1]),
        top,
        "mean" if about[0, 4] else "max",
        "fp32" if about[0, 3] else "bf16",
        {key: _reduce(key, shards) for key in sorted(keys)},
        tuple(shards),
    )


def _reduce(key: Key, shards: Sequence[Mapping[str, np.ndarray]]) -> Found:
    ends = ("top_scores", "top_images", "top_positions", "bottom_scores", "bottom_images", "bottom_positions")
    store: Extremes | None = None
    moments: Moments | None = None
    for shard in shards:
        part = Extremes.from_arrays({name: shard["|".join((*key, name))] for name in ends}, describe(key))
        more = Moments.from_arrays({name: shard["|".join((*key, name))] for name in Moments.__dataclass_fields__})
        if store is None or moments is None:
            store, moments = part, more
        else:
            store.merge(part)
            moments = moments.merge(more)
    assert store is not None and moments is not None
    return Found(store.top, store.bottom, moments)


def rescore(
    network: NetworkLike,
    bases: Mapping[str, Sequence[Basis]],
    pixels: np.ndarray,
    scan: Scan,
    *,
    batch: int = 64,
    units: Mapping[Key, np.ndarray] | None = None,
    device: str | torch.device | None = None,
) -> Scan:
    """Run the candidates of a bf16 scan through the network in fp32 and keep the exact top and bottom of them.

    Only a unit's own candidates count for it, so that its answer does not depend on which others are asked for.

    Parameters
    ----------
    network, bases, pixels, batch, device
        As of `activations.scan_shard`.
    scan
        The scan; one in fp32 is returned as it is.
    units
        Layer and basis to the units wanted; None: all. What it costs is the number of images that are a candidate of
        any of them, so with many units among few images it is a second pass over all images.

    Returns
    -------
    Scan
        With `top` images at each end; its precision stays bf16, since moments and pooled activations do.

    Raises
    ------
    InputError
        If a unit is not in the scan.
    """
    if scan.precision == "fp32":
        return scan
    wanted = (
        {key: np.arange(found.top.images.shape[1]) for key, found in scan.found.items()} if units is None else units
    )
    sides = {}
    for key, chosen in wanted.items():
        if key not in scan.found:
            raise InputError(f"{describe(key)} is not in the scan.")
        found = scan.found[key]
        sides[key] = [_Side(ranked, np.asarray(chosen), sign) for ranked, sign in ((found.top, 1), (found.bottom, -1))]
    candidates = [side.images.ravel() for both in sides.values() for side in both]
    union = np.unique(np.concatenate([np.empty(0, np.int64), *candidates]))
    union = union[union >= 0]
    layers = {key[0] for key in wanted}
    kept = {layer: found for layer, found in bases.items() if layer in layers}
    reader = Reader(network, kept, scan.pooling, batch, "fp32", device)
    for images, block in reader.read_blocks(pixels, union, batch):
        for key, (scores, positions) in block.items():
            for side in sides.get(key, ()):
                side.take(images, scores.cpu().numpy(), positions.cpu().numpy())
    exact = {key: _exact(scan.found[key], both, scan.top) for key, both in sides.items()}
    return replace(scan, found={**{key: scan.found[key] for key in scan.found if key not in exact}, **exact})


class _Side:
    """The candidates (k x units) of chosen units at one end, and what they score in fp32 (times `sign`)."""

    def __init__(self, ranked: Ranked, units: np.ndarray, sign: int) -> None:
        self.units, self.sign = units, sign
        self.images = ranked.images[:, units]
        self.rough = ranked.scores[:, units] * np.float32(sign)
        self.scores = np.full(self.images.shape, -np.inf, np.float32)
        self.positions = np.full(self.images.shape, -1, np.int32)
        order = self.images.ravel().argsort(kind="stable")
        self._order, self._sorted = order, self.images.ravel()[order]

    def take(self, images: np.ndarray, scores: np.ndarray, positions: np.ndarray) -> None:
        """Note the scores (images x all units) of images, which ascend."""
        first, last = (
            np.searchsorted(self._sorted, images[0], "left"),
            np.searchsorted(self._sorted, images[-1], "right"),
        )
        places = self._order[first:last]
        row = np.searchsorted(images, self._sorted[first:last])
        column = self.units[places % max(len(self.units), 1)]
        self.scores.ravel()[places] = scores[row, column] * np.float32(self.sign)
        self.positions.ravel()[places] = positions[row, column]

    def best(self, top: int, width: int) -> Ranked:
        """Return the `top` first of them, equal ones by the lower image, among `width` units."""
        order = np.lexsort((self.images, -self.scores), axis=0)[:top]
        parts = []
        for values, none in (
            (self.scores * np.float32(self.sign) + 0, np.nan),
            (self.images, -1),
            (self.positions, -1),
        ):
            full = np.full((len(order), width), none, values.dtype)
            full[:, self.units] = np.take_along_axis(values, order, 0)
            parts.append(full)
        parts[0][parts[1] < 0] = np.nan
        return Ranked(*parts)

    def certain(self, top: int) -> np.ndarray:
        """Return whether nothing outside the candidates can score as high as the last of the first `top`."""
        there = self.images >= 0
        error = np.where(there, np.abs(self.scores - self.rough), 0).max(0)
        last = -np.sort(-self.scores, axis=0)[min(top, len(self.scores)) - 1]
        # Where a place is empty, every image is a candidate.
        return np.asarray(~there[-1] | (last > self.rough[-1] + error))


def _exact(found: Found, sides: Sequence[_Side], top: int) -> Found:
    width = found.top.images.shape[1]
    certain = np.zeros(width, bool)
    certain[sides[0].units] = sides[0].certain(top) & sides[1].certain(top)
    best = [side.best(top, width) for side in sides]
    return Found(best[0], best[1], found.moments, certain)
