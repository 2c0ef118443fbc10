"""Pictures made small: the raster images that a document shows by the hundred.

In: the bytes of a PNG or JPEG.  Out: bytes with no more pixels than are shown, the same each time.  Knows no document.
"""

from __future__ import annotations

import io
from typing import Literal, TypeAlias

from PIL import Image, ImageOps, UnidentifiedImageError

from psychostats.errors import ReportError

Kind: TypeAlias = Literal["png", "jpg", "svg"]

QUALITY = 85
"""Of JPEG, from 1 to 100."""

_UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError)
_DEEP = ("I", "F")  # more than 8 bits a pixel: what is black and what is white is not said


def kind_of(image: bytes) -> Kind | None:
    """Return what kind of image the bytes are, or None for one that no document shows."""
    if image.startswith(b"\x89PNG"):
        return "png"
    if image.startswith(b"\xff\xd8\xff"):
        return "jpg"
    return "svg" if b"<svg" in image[:2000] else None


def size_of(image: bytes) -> tuple[int, int]:
    """Return width and height of a PNG or JPEG, in pixels.

    Raises
    ------
    ReportError
        If it cannot be read.
    """
    try:
        with Image.open(io.BytesIO(image), formats=("PNG", "JPEG")) as opened:
            return opened.size
    except _UNREADABLE as error:
        raise _unreadable(error) from error


def shrink(image: bytes, side: int) -> bytes:
    """Return a picture with at most `side` pixels a side.

    A larger one becomes a JPEG, as does a PNG that is smaller as one; what is transparent becomes white.  What a camera
    wrote into the file (place, time) is left out, and a picture that it says to turn is turned.

    Parameters
    ----------
    image
        A PNG or JPEG.
    side
        Pixels of the longer side, at most.

    Raises
    ------
    ReportError
        If the bytes are no such picture, or have more than 8 bits a channel.
    """
    try:
        with Image.open(io.BytesIO(image), formats=("PNG", "JPEG")) as opened:
            bare = len(opened.getexif()) == 0
            if bare and opened.format == "JPEG" and max(opened.size) <= side:
                return image
            if opened.mode.startswith(_DEEP):
                raise ReportError("a picture of the document has more than 8 bits a channel; give one that has 8.")
            keep = bare and max(opened.size) <= side
            pixels = _flat(ImageOps.exif_transpose(opened))
    except _UNREADABLE as error:
        raise _unreadable(error) from error
    pixels.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=None)
    held = io.BytesIO()
    pixels.save(held, "JPEG", quality=QUALITY)
    return image if keep and len(image) <= held.tell() else held.getvalue()


def _unreadable(error: Exception) -> ReportError:
    return ReportError(f"a picture of the document cannot be read as PNG or JPEG: {error}.")


def _flat(image: Image.Image) -> Image.Image:
    """Return a copy in red, green and blue on white."""
    if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA"):
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")
