"""JPEGs decoded, resized and cropped on a CUDA device, many at once.

In: encoded bytes.  Out: size x size x 3 uint8 for each, or the reason why not.  Knows no file, no set and no cache.

The pixels differ from Pillow's: another inverse transform, another upsampling of colour, and a resizing that rounds
once. What is no JPEG that a device decodes safely goes to Pillow: other formats, four channels, and files without their
end, of which Pillow knows whether they are damaged.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from featurecompute import decoding
from featurecompute.decoding import FaultyError, Preparation, is_plain_jpeg, prepare, scaled_size
from featurecompute.errors import ImageError

DECODER = "nvJPEG"
LIBRARY = "torchcodec"
RECIPE = 1
"""Raised whenever equal bytes would give other pixels, as `decoding.RECIPE`."""
AT_ONCE = 64
"""Images decoded in one call: their pixels are all in the device's memory."""


def check_device() -> None:
    """Refuse a machine that cannot decode so.

    Raises
    ------
    ImageError
    """
    lack = "torch sees no CUDA device here" if not torch.cuda.is_available() else ""
    if not lack and importlib.util.find_spec(LIBRARY) is None:
        lack = f"the package {LIBRARY} is not installed"
    if lack:
        raise ImageError(f'[images] decoder is "nvjpeg", but {lack}; set decoder = "pillow", or leave it out.')


def decoder_version() -> str:
    """Return the versions of all that turns bytes into pixels, Pillow's for what it decodes, as run.json records it."""
    parts = [f"{LIBRARY} {version(LIBRARY)}", f"torch {torch.__version__}", torch.cuda.get_device_name()]
    return " / ".join([*parts, str(RECIPE), f"{decoding.DECODER} {decoding.decoder_version()}"])


def prepare_all(
    contents: Sequence[bytes | np.ndarray], preparation: Preparation, decode: Callable[[list[bytes]], list[Tensor]]
) -> list[np.ndarray | str]:
    """Decode, turn upright, resize and crop images, as `decoding.prepare` does one.

    Parameters
    ----------
    contents
        Encoded bytes, or arrays, which Pillow takes.
    preparation
        Size, resize and interpolation.
    decode
        Gives the pixels (3 x H x W, uint8) of JPEGs; see `decode_jpegs`.

    Returns
    -------
    list
        For each, (size, size, 3) uint8, or the reason why it is faulty.
    """
    found: list[np.ndarray | str] = [""] * len(contents)
    plain = [
        (i, content) for i, content in enumerate(contents) if isinstance(content, bytes) and is_plain_jpeg(content)
    ]
    for start in range(0, len(plain), AT_ONCE):
        places, encoded = zip(*plain[start : start + AT_ONCE], strict=True)
        for i, image in zip(places, _decoded(list(encoded), decode), strict=True):
            if image is not None:
                found[i] = resize_and_crop(image, preparation).cpu().numpy()
    for i, content in enumerate(contents):
        if isinstance(found[i], str):
            try:
                found[i] = prepare(content, preparation)
            except FaultyError as error:
                found[i] = str(error)
    return found


def decode_jpegs(contents: list[bytes]) -> list[Tensor]:
    """Return the pixels (3 x H x W, uint8) of JPEGs, upright, on the device."""
    from torchcodec.decoders import decode_jpeg

    return list(decode_jpeg(contents, mode="RGB", device="cuda"))


def _decoded(contents: list[bytes], decode: Callable[[list[bytes]], list[Tensor]]) -> Sequence[Tensor | None]:
    """Return pixels, None where they cannot be had; one bad image must not take the others with it."""
    try:
        return decode(contents)
    except RuntimeError:
        if len(contents) == 1:
            return [None]
        return [image for content in contents for image in _decoded([content], decode)]


def resize_and_crop(image: Tensor, preparation: Preparation) -> Tensor:
    """Return the centre (size x size x 3, uint8) of an image (3 x H x W, uint8), its shorter side resized.

    Sides, filter and corner are those of `decoding.prepare`.
    """
    height, width = image.shape[1:]
    if min(height, width) != preparation.resize:
        size = scaled_size(width, height, preparation)[::-1]
        values = interpolate(image[None].float(), size, mode=preparation.interpolation, antialias=True)
        image = values[0].round_().clamp_(0, 255).to(torch.uint8)
    top, left = (round((side - preparation.size) / 2) for side in image.shape[1:])
    return image[:, top : top + preparation.size, left : left + preparation.size].permute(1, 2, 0).contiguous()
