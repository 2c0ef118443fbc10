"""One image's bytes made into the pixels that a network is shown, or the reason why they cannot be.

In: encoded bytes, or an array.  Out: size x size x 3 uint8.  Knows no file, no set and no cache.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Protocol

import numpy as np
import PIL
from PIL import Image, ImageFile, UnidentifiedImageError, features

from featurecompute.errors import ImageError

DECODER = "Pillow"
RECIPE = 1
"""Raised whenever equal bytes would give other pixels, so that pixels kept by an older version are not taken."""
MOST_PIXELS = 89_478_485
"""An image of more pixels is taken for a decompression bomb; it is the number that Pillow warns at."""

_UNEQUAL = 100  # sides in a proportion above this are left to `prepare`, which may refuse them

# EXIF 2.32, tag 0x0112: what undoes each orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class Preparation(Protocol):
    """What is needed of a network's preprocessing: ``models.Preprocessing`` has it."""

    @property
    def size(self) -> int:
        """Pixels of a side of the prepared image."""

    @property
    def resize(self) -> int:
        """Pixels that the shorter side is resized to before the crop."""

    @property
    def interpolation(self) -> str:
        """Bilinear or bicubic."""


class FaultyError(Exception):
    """An image that cannot be decoded; the text is the reason, without the image's name."""


def decoder_version() -> str:
    """Return the versions of all that turns bytes into pixels, as run.json records them."""
    parts = [PIL.__version__]
    turbo = features.version_feature("libjpeg_turbo") if features.check_feature("libjpeg_turbo") else None
    parts.append(f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version_codec('jpg')}")
    for title, name, version in (
        ("libwebp", "webp", features.version_module),
        ("libtiff", "libtiff", features.version_codec),
    ):
        if features.check(name):
            parts.append(f"{title} {version(name)}")
    return " / ".join(parts)


def check_preparation(preparation: Preparation) -> None:
    """Refuse a crop that is larger than what it is cut from.

    Raises
    ------
    ImageError
    """
    if preparation.interpolation not in _FILTERS:
        raise ImageError(
            f"images cannot be resized by '{preparation.interpolation}'; allowed are {', '.join(_FILTERS)}."
        )
    if not 1 <= preparation.size <= preparation.resize:
        raise ImageError(
            f"images cannot be resized to {preparation.resize} and cropped to {preparation.size} pixels: "
            "resize must be size or more."
        )


def prepare(content: bytes | np.ndarray, preparation: Preparation) -> np.ndarray:
    """Decode, turn upright, resize and crop one image.

    The steps are those of torchvision's ``Resize`` and ``CenterCrop`` on Pillow images: the shorter side becomes
    `resize` (the longer one cut to whole pixels), antialiased, smaller images enlarged; the crop's corner is half of
    what is left, rounded half to even. EXIF orientation is applied, transparency laid on white, 16 bits scaled to 8,
    grey and CMYK made RGB; of an animation the first frame is taken. Colour profiles are ignored.

    Parameters
    ----------
    content
        Encoded bytes, or an array (H, W, 3) of uint8 or of floats from 0 to 1.
    preparation
        Size, resize and interpolation.

    Returns
    -------
    numpy.ndarray
        (size, size, 3), uint8.

    Raises
    ------
    FaultyError
        If it is no image, is truncated, or has too many pixels.
    """
    image = _from_array(content) if isinstance(content, np.ndarray) else _decode(content)
    shape = scaled_size(*image.size, preparation)
    if min(image.size) != preparation.resize:
        image = image.resize(shape, _FILTERS[preparation.interpolation])
    left = round((image.width - preparation.size) / 2)
    top = round((image.height - preparation.size) / 2)
    if image.size != (preparation.size, preparation.size):
        image = image.crop((left, top, left + preparation.size, top + preparation.size))
    return np.asarray(image)


def scaled_size(width: int, height: int, preparation: Preparation) -> tuple[int, int]:
    """Return width and height after resizing.

    Raises
    ------
    FaultyError
        If that has too many pixels.
    """
    scaled = int(preparation.resize * max(width, height) / min(width, height))
    if preparation.resize * scaled > MOST_PIXELS:
        raise FaultyError(f"its sides, {width} x {height} pixels, are too unequal to be resized")
    return (preparation.resize, scaled) if width <= height else (scaled, preparation.resize)


def is_plain_jpeg(content: bytes) -> bool:
    """Tell, by header and last bytes, whether this is a whole JPEG, grey or of three colours, and not too large."""
    if not content.startswith(b"\xff\xd8\xff") or not content.endswith(b"\xff\xd9"):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as image:
                usual = image.format == "JPEG" and image.mode in {"L", "RGB"} and 0 not in image.size
                sides = max(image.size) / min(image.size) if usual else 0
                return usual and image.width * image.height <= MOST_PIXELS and sides < _UNEQUAL
    except Exception:  # whatever a header makes Pillow raise: it will say so when it decodes
        return False


def _from_array(values: np.ndarray) -> Image.Image:
    if values.dtype != np.uint8:
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise FaultyError("it has values outside 0 to 1")
        values = np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(values))


def _decode(content: bytes) -> Image.Image:
    """Return an upright RGB image."""
    if not content:
        raise FaultyError("the file is empty")
    tolerant, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, which changes no pixel, and of size, which is checked here.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise FaultyError(
                        f"it has {image.width} x {image.height} pixels, more than the {MOST_PIXELS:,} that are decoded"
                    )
                image.load()
                if 0 in image.size:
                    raise FaultyError("it has no pixels")
                turned = _UPRIGHT.get(_orientation(image))
                found = _to_rgb(image)
            return found if turned is None else found.transpose(turned)
    except FaultyError:
        raise
    except Image.DecompressionBombError as error:
        raise FaultyError(f"it has more pixels than the {MOST_PIXELS:,} that are decoded") from error
    except UnidentifiedImageError as error:
        raise FaultyError("it is no image in a form that can be read") from error
    # What Pillow's decoders raise on damaged bytes; struct and the rest come from its readers of headers.
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise FaultyError(_reason(error)) from error
    except (struct.error, zlib.error, MemoryError, OverflowError, RuntimeError, NotImplementedError) as error:
        raise FaultyError(_reason(error)) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = tolerant


def _reason(error: Exception) -> str:
    return f"it cannot be decoded: {str(error).rstrip('.') or type(error).__name__}"


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 where there is none or it is damaged."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # Pillow lets many kinds of error through here, and none of them is about the pixels.
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return three channels of 8 bits."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    # A copy even where nothing is to be done: the image itself is closed.
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Scale grey levels of 16 bits (0 to 65535), or floats from 0 to 1, to 0 to 255, rounded.

    Pillow's own conversion cuts every level above 255 to 255.
    """
    if np.issubdtype(values.dtype, np.floating):
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise FaultyError("it has values outside 0 to 1")
        return np.asarray(np.rint(values.astype(np.float64) * 255).astype(np.uint8))
    if values.min() < 0 or values.max() > 65535:
        raise FaultyError("it has grey levels outside 0 to 65535")
    return ((values.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8)
