"""What a stream of activations leaves behind: the images at both ends of every unit's order, and its moments.

In: activations (images x units) with the numbers of their images.  Out: exact top and bottom images, and moments.
Knows no network, no map and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from featurecompute.errors import InputError

_EMPTY = torch.iinfo(torch.int64).min
_LAST_IMAGE = 2**32 - 1


@dataclass(frozen=True)
class Ranked:
    """Images at one end of every unit's order, the most extreme first.

    Parameters
    ----------
    scores
        Activations (k x units), float32; NaN where there are fewer than k images.
    images
        Numbers of the images (k x units), int64; -1 where there are fewer.
    positions
        Position of the map's maximum in that image (k x units), int32; -1 where there are fewer.
    """

    scores: np.ndarray
    images: np.ndarray
    positions: np.ndarray


class _Side:
    """The k largest of what was offered, for every unit, in a total order: score, then the lower image.

    Both are packed into one int64 (the float's bits as an integer of the same order, then the image counted backwards),
    so that no two entries are equal and the result cannot depend on when something was offered.
    """

    def __init__(self, units: int, k: int, device: torch.device) -> None:
        self.keys = torch.full((units, k), _EMPTY, dtype=torch.int64, device=device)
        self.positions = torch.full((units, k), -1, dtype=torch.int32, device=device)

    def offer(self, scores: Tensor, images: Tensor, positions: Tensor) -> None:
        """Take scores (units x m) of images (m) into account; positions (units x m) go along."""
        units, width = scores.shape
        last = self.keys[:, -1]
        if bool((last == _EMPTY).any()):
            return self._merge(slice(None), _pack(scores, images), positions)
        # Most scores lie below the k-th best by far, and comparing costs least. An equal score enters only with a lower
        # image than the k-th's, which in a scan, where images count upwards, never happens.
        threshold, image = _unpack(last)
        above = torch.nextafter(threshold, torch.full_like(threshold, torch.inf))
        threshold = torch.where(image < images.min(), above, threshold)
        rows, columns = torch.nonzero(scores >= threshold[:, None], as_tuple=True)
        if len(rows) * 4 > units * width:
            return self._merge(slice(None), _pack(scores, images), positions)
        if not len(rows):
            return None
        active, row, counts = torch.unique_consecutive(rows, return_inverse=True, return_counts=True)
        column = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[row]
        keys = self.keys.new_full((len(active), int(counts.max())), _EMPTY)
        places = self.positions.new_full(keys.shape, -1)
        keys[row, column] = _pack(scores[rows, columns], images[columns])
        places[row, column] = positions[rows, columns]
        return self._merge(active, keys, places)

    def _merge(self, units: Tensor | slice, keys: Tensor, positions: Tensor) -> None:
        keys = torch.cat([self.keys[units], keys], 1)
        positions = torch.cat([self.positions[units], positions], 1)
        best, which = keys.topk(self.keys.shape[1], 1)
        self.keys[units] = best
        self.positions[units] = positions.gather(1, which)

    def merge(self, other: _Side) -> None:
        """Take another side's entries into account."""
        self._merge(slice(None), other.keys.to(self.keys.device), other.positions.to(self.keys.device))

    def ranked(self, sign: int) -> Ranked:
        """Return the entries, their scores times `sign`."""
        scores, images = _unpack(self.keys)
        missing = self.keys == _EMPTY
        found = (
            (scores * sign + 0.0).masked_fill(missing, torch.nan),  # + 0.0: there is no negative zero
            images.masked_fill(missing, -1),
            self.positions,
        )
        return Ranked(*(np.ascontiguousarray(part.T.cpu().numpy()) for part in found))

    def read(self, ranked: Ranked, sign: int) -> None:
        """Take the entries of `ranked`, as `ranked` gave them."""
        device = self.keys.device
        scores = torch.tensor(ranked.scores.T, dtype=torch.float32, device=device) * sign
        images = torch.tensor(ranked.images.T, dtype=torch.int64, device=device)
        keys = _pack(scores, images.clamp(min=0)).masked_fill(images < 0, _EMPTY)
        self._merge(slice(None), keys, torch.tensor(ranked.positions.T, dtype=torch.int32, device=device))


def _pack(scores: Tensor, images: Tensor) -> Tensor:
    """Return int64 keys that order as score, then the lower image; adding zero makes -0.0 equal to 0.0."""
    bits = (scores + 0.0).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) + (_LAST_IMAGE - images)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores and images of keys."""
    ordered = (keys >> 32).int()
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32), _LAST_IMAGE - (keys & _LAST_IMAGE)


class Extremes:
    """The k most and the k least activating images of every unit, exact, from a stream of images.

    Equal activations are ordered by the lower image, so batches, their order, and how parts are merged make no
    difference. Memory is units x (2 k + about 1,000), however many images there are.

    Parameters
    ----------
    units
        Number of units.
    k
        Images kept at each end.
    name
        What the units are called in an error: ``layer 'layer3' (neuron)``.
    device
        Where the store lives.

    Raises
    ------
    InputError
        If k is below 1.
    """

    def __init__(self, units: int, k: int, name: str = "", device: str | torch.device = "cpu") -> None:
        if k < 1:
            raise InputError(f"{k} images were asked for at each end; at least 1 must be kept.")
        self.units, self.k, self.name = units, k, name
        self.device = torch.device(device)
        self._top = _Side(units, k, self.device)
        self._bottom = _Side(units, k, self.device)
        # Scores wait here, channel by channel, until there are enough to be worth a merge.
        self._room = max(128, min(1024, 2**22 // max(units, 1)))
        self._scores = torch.empty(units, self._room, device=self.device)
        self._positions = torch.empty(units, self._room, dtype=torch.int32, device=self.device)
        self._images = torch.empty(self._room, dtype=torch.int64, device=self.device)
        self._waiting = 0

    def update(self, scores: Tensor, images: Tensor, positions: Tensor) -> None:
        """Take a batch into account.

        Parameters
        ----------
        scores
            Activations (batch x units).
        images
            Numbers of the images (batch), from 0 to 2^32 - 1, each given once in a stream.
        positions
            Position of the map's maximum (batch x units).

        Raises
        ------
        InputError
            If an activation is not a number.
        """
        check_numbers(scores, images, self.name)
        done = 0
        while done < len(scores):
            take = min(len(scores) - done, self._room - self._waiting)
            here, there = slice(self._waiting, self._waiting + take), slice(done, done + take)
            self._scores[:, here] = scores[there].T
            self._positions[:, here] = positions[there].T
            self._images[here] = images[there]
            self._waiting += take
            done += take
            if self._waiting == self._room:
                self._flush()

    def _flush(self) -> None:
        if self._waiting:
            scores, positions = self._scores[:, : self._waiting], self._positions[:, : self._waiting]
            images = self._images[: self._waiting]
            self._top.offer(scores, images, positions)
            self._bottom.offer(-scores, images, positions)
            self._waiting = 0

    def merge(self, other: Extremes) -> None:
        """Take another part of the stream into account.

        Raises
        ------
        InputError
            If it has other units, or keeps another number of images.
        """
        if (self.units, self.k) != (other.units, other.k):
            raise InputError(
                f"parts with {self.units} units x {self.k} images and {other.units} x {other.k} cannot be merged; "
                "both numbers must be the same."
            )
        self._flush()
        other._flush()
        self._top.merge(other._top)
        self._bottom.merge(other._bottom)

    @property
    def top(self) -> Ranked:
        """The most activating images, the strongest first."""
        self._flush()
        return self._top.ranked(1)

    @property
    def bottom(self) -> Ranked:
        """The least activating images, the weakest first."""
        self._flush()
        return self._bottom.ranked(-1)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return both ends as arrays (k x units): top_scores, top_images, top_positions, and the same for bottom."""
        return {
            f"{end}_{part}": getattr(ranked, part)
            for end, ranked in (("top", self.top), ("bottom", self.bottom))
            for part in ("scores", "images", "positions")
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], name: str = "") -> Extremes:
        """Return the store that `arrays` came from, ready to be merged or to go on."""
        k, units = arrays["top_scores"].shape
        found = cls(units, k, name)
        for side, end, sign in ((found._top, "top", 1), (found._bottom, "bottom", -1)):
            side.read(Ranked(*(arrays[f"{end}_{part}"] for part in ("scores", "images", "positions"))), sign)
        return found


def check_numbers(scores: Tensor, images: Tensor, name: str) -> None:
    """Refuse activations (batch x units) that are not numbers, or infinite, and say where the first one is.

    Raises
    ------
    InputError
    """
    # The sum of absolute values is not finite if one of them is not, and costs less than looking at each.
    if bool(torch.isfinite(scores.abs().sum(dtype=torch.float64))):
        return
    where = torch.nonzero(~torch.isfinite(scores))[0]
    row, unit = int(where[0]), int(where[1])
    value = float(scores[row, unit])
    raise InputError(
        f"unit {unit} of {name or 'the layer'} has the activation {value} in image {int(images[row])}; "
        "activations must be finite numbers."
    )


@dataclass(frozen=True)
class Moments:
    """Sums over images, for every unit (arrays of length units), from which the rest follows.

    Parameters
    ----------
    n
        Number of images.
    total, squares
        Sum of the activations and of their squares, float64.
    maximum, minimum
        Largest and smallest activation.
    positive
        Images with an activation above zero.
    """

    n: int
    total: np.ndarray
    squares: np.ndarray
    maximum: np.ndarray
    minimum: np.ndarray
    positive: np.ndarray

    @classmethod
    def of(cls, scores: Tensor) -> Moments:
        """Return the moments of activations (images x units), at least one image."""
        wide = scores.double()
        parts = (wide.sum(0), wide.square().sum(0), scores.amax(0), scores.amin(0), (scores > 0).sum(0))
        return cls(len(scores), *(part.cpu().numpy() for part in parts))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of images; to be done in a fixed order, since sums are rounded."""
        return Moments(
            self.n + other.n,
            self.total + other.total,
            self.squares + other.squares,
            np.maximum(self.maximum, other.maximum),
            np.minimum(self.minimum, other.minimum),
            self.positive + other.positive,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the parts as arrays by name."""
        return {name: np.atleast_1d(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Moments:
        """Return the moments that `arrays` came from."""
        parts = {name: arrays[name] for name in cls.__dataclass_fields__ if name != "n"}
        return cls(n=int(arrays["n"][0]), **parts)

    @property
    def mean(self) -> np.ndarray:
        """Mean over images."""
        return self.total / self.n

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation over images (divided by n: these images are the whole set); 0 for a constant unit."""
        spread = np.sqrt(np.maximum(self.squares / self.n - self.mean**2, 0))
        return np.where(self.maximum == self.minimum, 0.0, spread)

    @property
    def sparsity(self) -> np.ndarray:
        """Share of images with an activation of zero or below."""
        return 1 - self.positive / self.n

    @property
    def dead(self) -> np.ndarray:
        """Whether a unit is above zero in no image."""
        return np.asarray(self.positive == 0)
