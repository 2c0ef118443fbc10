"""What the id of a shown image stands for: an image of the set, one that was synthesised, or a part of either.

In: ids.  Out: pixels.  Knows no feature and no stimulus.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from featurecompute.pixels import Images
from featurecompute.receptive import Box, crop_to_field

_BLOCK = 256  # images whose pixels are held at once


def crop_id(image: str, box: Box) -> str:
    """Return the id of an image's part: ``IMAGE@TOP,LEFT,BOTTOM,RIGHT``, in pixels of the prepared image."""
    return f"{image}@{','.join(map(str, box))}"


@dataclass(frozen=True, eq=False)
class Views:
    """Pixels by id.

    Parameters
    ----------
    images
        The image set.
    made
        Id of each synthesised image to its pixels (height x width x 3, uint8).
    """

    images: Images
    made: Mapping[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Id of each image of the set to its number."""
        return {image: place for place, image in enumerate(self.images.table["image"])}

    def pixels(self, image: str) -> np.ndarray:
        """Return an image's pixels (height x width x 3, uint8).

        Raises
        ------
        KeyError
            If there is no such image.
        """
        if image in self.numbers:
            return np.asarray(self.images.pixels[self.numbers[image]])
        if image in self.made:
            return self.made[image]
        whole, _, box = image.rpartition("@")
        top, left, bottom, right = map(int, box.split(","))
        pixels = self.pixels(whole)
        return crop_to_field(pixels, (top, left, bottom, right), len(pixels))

    def blocks(self, images: Sequence[str]) -> Iterator[np.ndarray]:
        """Give the pixels of images in order, some at a time (n x height x width x 3): all together may be too many."""
        for start in range(0, len(images), _BLOCK):
            yield np.stack([self.pixels(image) for image in images[start : start + _BLOCK]])
