"""Decoding on a device: what it makes of pixels is what Pillow makes, and what it cannot take goes to Pillow."""

from __future__ import annotations

import importlib.util
import io
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402 - what needs torch is imported when it is known to be there

from PIL import Image

from featurecompute import nvjpeg
from featurecompute.decoding import FaultyError, is_plain_jpeg, prepare
from featurecompute.errors import ImageError
from featurecompute.pixels import prepare_images
from featurecompute.study import ImagesTable

WITH_DEVICE = pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("torchcodec") is None,
    reason="no CUDA device, or torchcodec is not installed",
)


def preparation(size=32, resize=40, interpolation="bilinear"):
    return SimpleNamespace(size=size, resize=resize, interpolation=interpolation)


def smooth(height, width, seed=1):
    """A picture without sharp edges, whose pixels no decoder has to guess."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encode(picture, kind="JPEG", **options):
    buffer = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def by_pillow(contents):
    """What a device would give, decoded by Pillow."""
    return [torch.from_numpy(np.array(Image.open(io.BytesIO(c)).convert("RGB"))).permute(2, 0, 1) for c in contents]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(97, 64), (64, 131), (40, 40), (40, 55), (21, 30)])
def test_pixels_are_resized_and_cropped_as_pillow_does(shape, interpolation):
    # Pillow cuts what passes 0 to 255 after each of two directions, torch at the end; here nothing does.
    picture = np.random.default_rng(2).integers(96, 160, (*shape, 3), dtype=np.uint8)
    wanted = preparation(interpolation=interpolation)
    found = nvjpeg.resize_and_crop(torch.from_numpy(picture).permute(2, 0, 1), wanted).numpy()
    expected = prepare(picture, wanted)
    assert found.shape == expected.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1  # Pillow also rounds twice
    assert np.abs(found.astype(int) - expected).mean() < 0.3


def test_only_whole_usual_jpegs_go_to_the_device():
    picture = smooth(50, 60)
    usual = encode(picture)
    assert is_plain_jpeg(usual)
    assert is_plain_jpeg(encode(Image.fromarray(picture).convert("L")))
    others = [usual[:-40], usual + b"more", encode(picture, "PNG"), encode(Image.fromarray(picture).convert("CMYK"))]
    others += [b"", b"\xff\xd8\xff\xff\xd9", encode(smooth(2, 400))]
    assert [is_plain_jpeg(content) for content in others] == [False] * len(others)


def test_a_set_is_what_pillow_makes_of_it_whatever_the_device_takes():
    given = []

    def decode(contents):
        given.append(len(contents))
        if any(content == bad for content in contents):
            raise RuntimeError("nvJPEG cannot")
        return by_pillow(contents)

    wanted = preparation()
    bad = encode(smooth(44, 80, 3))
    contents = [encode(smooth(50, 60)), bad, encode(smooth(70, 45), "PNG"), encode(smooth(60, 60))[:-9], smooth(50, 50)]
    found = nvjpeg.prepare_all(contents, wanted, decode)
    for content, image in zip(contents, found, strict=True):
        try:
            expected = prepare(content, wanted)
        except FaultyError as error:
            assert image == str(error)
        else:
            assert np.abs(image.astype(int) - expected).max() <= 1
    assert isinstance(found[3], str)
    assert given == [2, 1, 1]  # together, then each alone


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "one.jpg").write_bytes(encode(smooth(50, 60)))
    table = ImagesTable(source="folder", path=str(tmp_path), cache=str(tmp_path / "cache"), decoder="nvjpeg")
    with pytest.raises(ImageError, match=r'decoder is "nvjpeg", but torch sees no CUDA device here; set decoder'):
        prepare_images(table, tmp_path, preparation())


@pytest.mark.gpu
@WITH_DEVICE
def test_a_device_decodes_nearly_as_pillow_does(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.jpg").write_bytes(encode(smooth(50 + i, 60, i), quality=95))
    (tmp_path / "last.png").write_bytes(encode(smooth(50, 60), "PNG"))
    sets = [
        prepare_images(
            ImagesTable(source="folder", path=str(tmp_path), cache=str(tmp_path / "cache"), decoder=decoder),
            tmp_path,
            preparation(),
        )
        for decoder in ("pillow", "nvjpeg")
    ]
    assert (sets[1].decoder, sets[1].sha256) == ("nvJPEG", sets[0].sha256)
    assert sets[1].decoder_version != sets[0].decoder_version
    assert np.abs(sets[1].pixels.astype(int) - sets[0].pixels).mean() < 2
