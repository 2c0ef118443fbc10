"""Pictures are files of the pixels they were given, whole or not at all, and read back checked."""

import io
import resource
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image, JpegImagePlugin
from stimulus_tables import write_stimulus_run

from featurecompute.errors import RunError
from featurecompute.files import hash_file
from featurecompute.manifest import PICTURES, Run
from featurecompute.pictures import QUALITY, encode_picture, find_pictures, write_pictures


def draw(seed, height=20, width=30):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def decode(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_png_holds_the_pixels_in_files_numbered_as_they_came(tmp_path):
    pixels = {"b": draw(1), "a": draw(2, 8, 8), "<c>/x.jpg": draw(1)}
    paths = write_pictures(tmp_path, pixels.items(), "png")
    names = ["pictures/000000.png", "pictures/000001.png", "pictures/000002.png", "pictures.parquet"]
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == names
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(paths)
    table = PICTURES.read(tmp_path)
    assert list(table["image"]) == list(pixels) and list(table["file"]) == names[:3]
    for row in table.itertuples():
        np.testing.assert_array_equal(decode(tmp_path / row.file), pixels[row.image])
        assert hash_file(tmp_path / row.file) == row.sha256
    assert paths[0].read_bytes() == paths[2].read_bytes() != paths[1].read_bytes()
    again = write_pictures(tmp_path / "again", iter(pixels.items()), "png")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


@pytest.mark.parametrize("quality", [QUALITY, 60])
def test_jpeg_has_the_quality_and_all_its_colours(tmp_path, quality):
    ramp = np.zeros((32, 32, 3), np.uint8)
    ramp[..., 0] = np.arange(32) * 8
    ramp[..., 2] = 255 * (np.arange(32) % 2)  # what halved colour would blur
    path, _ = write_pictures(tmp_path, [("a", ramp)], "jpeg", quality=quality)
    assert path.suffix == ".jpg"
    held = io.BytesIO()
    Image.fromarray(ramp).save(held, "JPEG", quality=quality)
    with Image.open(path) as image, Image.open(held) as other:
        assert JpegImagePlugin.get_sampling(image) == 0 and image.quantization == other.quantization
    error = np.abs(decode(path).astype(int) - ramp).mean()
    assert error < (3 if quality == QUALITY else 30)


def test_an_image_that_comes_twice_is_refused(tmp_path):
    with pytest.raises(RunError, match="names a more than once"):
        write_pictures(tmp_path, [("a", draw(1)), ("a", draw(2))], "png")


def test_no_image_makes_an_empty_table(tmp_path):
    assert write_pictures(tmp_path, [], "png") == [tmp_path / "pictures.parquet"]
    assert PICTURES.read(tmp_path).empty


def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(tmp_path):
    code = """
import sys, numpy as np
from pathlib import Path
from featurecompute.errors import RunError
from featurecompute.pictures import write_pictures
noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
try:
    write_pictures(Path(sys.argv[1]), [("small", noise[:8, :8]), ("large", noise)], "png")
except RunError as error:
    print(error)
"""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, preexec_fn=limit, check=True
    )
    assert done.stdout == f"{tmp_path / 'pictures' / '000001.png'} cannot be written: File too large.\n"
    assert [path.name for path in tmp_path.rglob("*")] == ["pictures", "000000.png"]


def test_a_picture_is_read_as_it_is_or_in_another_form(tmp_path):
    pixels = draw(3)
    for kind, other in (("png", "jpeg"), ("jpeg", "png")):
        folder = tmp_path / kind
        path, _ = write_pictures(folder, [("a", pixels)], kind)
        picture = find_pictures(Run(folder, {}), ["a"])["a"]
        assert (picture.kind, picture.file, picture.path) == (kind, f"pictures/{path.name}", path)
        assert picture.read() == picture.read(kind) == path.read_bytes() == encode_picture(pixels, kind)
        assert picture.read(other) == encode_picture(decode(path), other)


def test_pictures_are_found_in_the_order_asked_for(tmp_path):
    run = write_stimulus_run(tmp_path / "run", experiments=("natural",), participants=1, pairs=1)
    table = run.table("pictures")
    asked = [*table["image"][[5, 2, 9]], table["image"][2]]
    found = find_pictures(run, asked)
    assert list(found) == asked[:3]
    assert [one.file for one in found.values()] == list(table["file"][[5, 2, 9]])
    with pytest.raises(RunError, match=r"pictures\.parquet names no picture of the image nobody\."):
        find_pictures(run, ["nobody"])


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_picture_that_is_not_what_was_written_is_refused(tmp_path, damage):
    path, table = write_pictures(tmp_path, [("a", draw(1))], "png")
    assert len(pd.read_parquet(table)) == 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(
        RunError, match=rf"picture .*000000\.png {'cannot be read' if damage == 'missing' else 'is not'}"
    ):
        find_pictures(Run(tmp_path, {}), ["a"])["a"].read()
