"""Pictures made small: never larger than asked, never larger than they were, the same each time."""

from __future__ import annotations

import io

import numpy as np
import pytest
from documents import encoded, noise
from PIL import Image

from psychostats.errors import ReportError
from psychostats.rasters import kind_of, shrink, size_of


def ramp(width: int, height: int) -> np.ndarray:
    """A smooth picture: red grows to the right, green downwards."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width, dtype=np.uint8)
    pixels[..., 1] = np.linspace(0, 255, height, dtype=np.uint8)[:, None]
    return pixels


def opened(image: bytes) -> Image.Image:
    return Image.open(io.BytesIO(image))


@pytest.mark.parametrize(("size", "shown"), [((300, 300), (128, 128)), ((400, 200), (128, 64)), ((64, 256), (32, 128))])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_large_picture_becomes_a_small_jpeg_of_the_same_shape(
    size: tuple[int, int], shown: tuple[int, int], kind: str
) -> None:
    small = shrink(encoded(ramp(*size), kind), 128)
    assert kind_of(small) == "jpg"
    assert size_of(small) == shown
    pixels = np.asarray(opened(small)).astype(int)
    assert np.abs(pixels - ramp(*shown)).mean() < 4


def test_a_small_picture_stays_as_it_is_unless_it_is_smaller_as_a_jpeg() -> None:
    flat = encoded(np.full((64, 64, 3), 200, np.uint8))
    assert shrink(flat, 128) is flat
    jpeg = noise(1)
    assert shrink(jpeg, 128) is jpeg
    wild = encoded(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    small = shrink(wild, 128)
    assert kind_of(small) == "jpg" and len(small) < len(wild)
    assert size_of(small) == (64, 64)


def test_equal_pictures_give_equal_bytes() -> None:
    image = encoded(ramp(300, 200))
    assert shrink(image, 100) == shrink(bytes(image), 100)


def test_what_is_transparent_becomes_white() -> None:
    pixels = np.zeros((200, 200, 4), np.uint8)
    pixels[:, :100, 3] = 255  # black on the left, nothing on the right
    shown = np.asarray(opened(shrink(encoded(pixels), 100)))
    assert shown[:, :40].max() < 10 and shown[:, 60:].min() > 245
    palette = Image.fromarray(pixels).convert("P")
    held = io.BytesIO()
    palette.save(held, "PNG", transparency=palette.getpixel((150, 100)))
    assert np.asarray(opened(shrink(held.getvalue(), 100)))[:, 60:].min() > 245


def test_a_camera_s_notes_are_left_out_and_its_turn_is_made() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter to the right
    exif[0x010E] = "where I live"
    held = io.BytesIO()
    Image.fromarray(ramp(60, 30)).save(held, "JPEG", exif=exif.tobytes())
    small = shrink(held.getvalue(), 128)
    assert b"where I live" in held.getvalue() and b"where I live" not in small
    assert size_of(small) == (30, 60)


def test_grey_pictures_are_shown() -> None:
    small = shrink(encoded(np.full((200, 200), 90, np.uint8)), 64)
    assert opened(small).mode == "RGB" and abs(int(np.asarray(opened(small)).mean()) - 90) <= 1


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"GIF89a", "cannot be read as PNG or JPEG"),
        (b"\x89PNG\r\n\x1a\nbroken", "cannot be read as PNG or JPEG"),
        (encoded(np.zeros((99, 99, 3), np.uint8))[:-40], "cannot be read as PNG or JPEG"),
        (encoded(np.zeros((4, 4), np.uint16)), "more than 8 bits"),
    ],
)
def test_what_is_no_such_picture_is_refused(image: bytes, message: str) -> None:
    with pytest.raises(ReportError, match=message):
        shrink(image, 16)


def test_kinds_are_told_by_their_first_bytes() -> None:
    assert [kind_of(image) for image in (encoded(ramp(2, 2)), noise(0), b"<?xml?><svg>", b"GIF89a", b"")] == [
        "png",
        "jpg",
        "svg",
        None,
        None,
    ]
    with pytest.raises(ReportError, match="cannot be read"):
        size_of(b"<svg>")
