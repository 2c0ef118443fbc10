"""Decoding: what becomes of every kind of image, and of every fault; sets that are decoded once."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagesets import Wanted, encode, images_table, picture, write_folder, write_parquet, write_tar
from PIL import Image

from featurecompute import decoding, pixelcache, scenes
from featurecompute.decoding import FaultyError, prepare
from featurecompute.errors import ImageError
from featurecompute.pixels import Images, cache_folder, prepare_images
from featurecompute.study import ImagesTable

SAME = Wanted(8, 8)
USUAL = Wanted()


def run(base: Path, source: str = "folder", path: str = "set", wanted: Wanted = USUAL, **rest: object) -> Images:
    return prepare_images(images_table(source, path, **rest), base, wanted, workers=1)


def flat(level: int | tuple[int, ...], mode: str = "L", side: int = 8) -> Image.Image:
    return Image.new(mode, (side, side), level)


def settle(top: Path) -> None:
    """Let files seem old, so that their hashes are remembered."""
    for file in top.rglob("*"):
        os.utime(file, ns=(10**18, 10**18))


# ---------------------------------------------------------------------------------------------------- one image


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(0, 9),
    st.sampled_from(["bilinear", "bicubic"]),
)
def test_the_shorter_side_is_resized_and_the_middle_kept(
    height: int, width: int, size: int, more: int, interpolation: str
) -> None:
    resize = size + more
    values = picture(3, height, width)
    # torchvision's Resize(resize) and CenterCrop(size), written out for Pillow images.
    long = int(resize * max(height, width) / min(height, width))
    shape = (resize, long) if width <= height else (long, resize)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    resized = np.asarray(Image.fromarray(values).resize(shape, filters[interpolation]))
    top, left = round((resized.shape[0] - size) / 2.0), round((resized.shape[1] - size) / 2.0)
    found = prepare(encode(values), Wanted(size, resize, interpolation))
    assert found.dtype == np.uint8
    assert (found == resized[top : top + size, left : left + size]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = picture(1, 8, 8)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (prepare(encode(np.ascontiguousarray(stored), exif=exif), SAME) == upright).all()


def test_every_mode_becomes_rgb() -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    clear = palette.copy()
    clear.info["transparency"] = 1
    cases = {
        "RGB": (encode(flat((1, 2, 3), "RGB")), (1, 2, 3)),
        "grey": (encode(flat(77)), (77, 77, 77)),
        "bits": (encode(flat(1, "1")), (255, 255, 255)),
        "transparent": (encode(flat((200, 0, 0, 0), "RGBA")), (255, 255, 255)),
        "opaque": (encode(flat((200, 9, 8, 255), "RGBA")), (200, 9, 8)),
        "half": (encode(flat((0, 0, 0, 51), "RGBA")), (204, 204, 204)),
        "grey, half": (encode(flat((0, 51), "LA")), (204, 204, 204)),
        "palette": (encode(palette), (10, 200, 30)),
        "palette, transparent": (encode(clear, transparency=1), (255, 255, 255)),
        "cmyk": (encode(flat((0, 255, 255, 0), "CMYK"), "TIFF"), (255, 0, 0)),
        "16 bits": (encode(Image.fromarray(np.full((8, 8), 32896, np.uint16))), (128, 128, 128)),
        "16 bits, white": (encode(Image.fromarray(np.full((8, 8), 65535, np.uint16)), "TIFF"), (255, 255, 255)),
        "32 bits": (encode(Image.fromarray(np.full((8, 8), 257, np.int32)), "TIFF"), (1, 1, 1)),
        "float": (encode(Image.fromarray(np.full((8, 8), 0.2, np.float32)), "TIFF"), (51, 51, 51)),
        "gif": (encode(flat(90), "GIF"), (90, 90, 90)),
        "webp": (encode(flat((1, 2, 3), "RGB"), "WEBP", lossless=True), (1, 2, 3)),
        "bmp": (encode(flat((1, 2, 3), "RGB"), "BMP"), (1, 2, 3)),
    }
    for name, (content, wanted) in cases.items():
        found = prepare(content, SAME)
        assert (found == np.array(wanted)).all(), (name, found[0, 0])


def test_a_cmyk_jpeg_has_its_colours() -> None:
    found = prepare(encode(flat((0, 255, 255, 0), "CMYK"), "JPEG", quality=100), SAME)
    assert np.abs(found.astype(int) - [255, 0, 0]).max() <= 3


@functools.cache
def faults() -> dict[str, tuple[bytes, str]]:
    jpeg = encode(picture(1, 60, 60), "JPEG")
    png = encode(picture(1, 60, 60))
    return {
        "text.jpg": (b"Not Found", "no image in a form that can be read"),
        "empty.png": (b"", "empty"),
        "half.jpg": (jpeg[: len(jpeg) - 40], "truncated"),
        "half.png": (png[: len(png) // 2], "cannot be decoded"),
        "head.jpg": (jpeg[:20], "be"),
        "bomb.png": (encode(Image.new("1", (12000, 12000))), "more than the 89,478,485"),
        "greater.png": (encode(Image.new("1", (20000, 20000))), "more pixels"),
        "strip.png": (encode(Image.new("1", (60000, 1))), "too unequal"),
        "deep.tif": (encode(Image.fromarray(np.full((8, 8), 70000, np.int32)), "TIFF"), "outside 0 to 65535"),
        "float.tif": (encode(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"), "outside 0 to 1"),
    }


@pytest.mark.parametrize("name", faults())
def test_faulty_images_say_why(name: str) -> None:
    content, reason = faults()[name]
    with pytest.raises(FaultyError, match=reason):
        prepare(content, Wanted(60, 60))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_are_pixels_or_a_fault_and_nothing_else(data: st.DataObject) -> None:
    forms = {form: encode(picture(2, 20, 20), form) for form in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP")}
    content = bytearray(forms[data.draw(st.sampled_from(sorted(forms)))])
    for place, value in data.draw(
        st.dictionaries(st.integers(0, len(content) - 1), st.integers(0, 255), max_size=9)
    ).items():
        content[place] = value
    try:
        found = prepare(bytes(content[: data.draw(st.integers(0, len(content)))]), SAME)
    except FaultyError as error:
        assert str(error)
    else:
        assert found.shape == (8, 8, 3)


# ---------------------------------------------------------------------------------------------------- sets


def test_the_same_images_from_every_source_are_the_same_pixels(tmp_path: Path) -> None:
    files = {f"{i:02d}.{form.lower()}": encode(picture(i), form) for i, form in enumerate(["JPEG", "PNG", "WEBP"] * 3)}
    write_folder(tmp_path / "set", files)
    split = list(files.items())
    write_tar(tmp_path / "shards/a.tar", dict(split[:4]))
    write_tar(tmp_path / "shards/b.tar.gz", dict(split[4:]), "w:gz")
    write_parquet(tmp_path / "set.parquet", {"image": list(files.values())})
    folder = run(tmp_path)
    assert folder.pixels.shape == (9, 16, 16, 3)
    assert isinstance(folder.pixels, np.memmap)
    for source, path in (("shards", "shards"), ("parquet", "set.parquet")):
        other = run(tmp_path, source, path)
        assert (other.pixels == folder.pixels).all()
        assert other.table["sha256"].tolist() == folder.table["sha256"].tolist()
        assert other.sha256 != folder.sha256  # the ids are others
    np.save(tmp_path / "a.npy", folder.pixels)
    np.savez(tmp_path / "b.npz", images=np.asarray(folder.pixels) / 255)
    for path in ("a.npy", "b.npz"):
        assert (run(tmp_path, "arrays", path, Wanted(16, 16)).pixels == folder.pixels).all()
    assert list(folder.table.columns) == ["image", "path", "sha256", "kind", "label"]
    assert folder.table["kind"].unique().tolist() == ["natural"]
    assert (folder.decoder, folder.decoder_version.split(" ")[0]) == ("Pillow", Image.__version__)


def test_the_hash_follows_bytes_names_order_and_preparation_alone(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", {"a.png": encode(picture(1)), "b.png": encode(picture(2))})
    first = run(tmp_path).sha256
    (tmp_path / "set/a.png").touch()
    write_folder(tmp_path / "set", {"notes.txt": b""})
    assert run(tmp_path).sha256 == first
    assert run(tmp_path, cache="elsewhere").sha256 == first
    others = [run(tmp_path, wanted=wanted).sha256 for wanted in (Wanted(15), Wanted(16, 19), Wanted(16, 18, "bicubic"))]
    write_folder(tmp_path / "set", {"a.png": encode(picture(2)), "b.png": encode(picture(1))})
    others.append(run(tmp_path).sha256)  # exchanged
    write_folder(tmp_path / "set", {"a.png": encode(picture(1)), "b.png": encode(picture(3))})
    others.append(run(tmp_path).sha256)
    (tmp_path / "set/b.png").unlink()
    others.append(run(tmp_path).sha256)
    assert len({first, *others}) == 7


def test_the_hash_follows_the_labels(tmp_path: Path) -> None:
    found = []
    for number, labels in enumerate((["a", "b"], ["b", "a"], None)):
        more = {} if labels is None else {"labels": np.array(labels)}
        np.savez(tmp_path / f"{number}.npz", images=np.stack([picture(1), picture(2)]), **more)
        found.append(run(tmp_path, "arrays", f"{number}.npz"))
    assert len({one.sha256 for one in found}) == 3
    assert all((one.pixels == found[0].pixels).all() for one in found)


def test_one_image_and_equal_images_are_fine(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", {"a.png": encode(picture(1))})
    assert len(run(tmp_path).pixels) == 1
    write_folder(tmp_path / "set", {"b.png": encode(picture(1))})
    found = run(tmp_path)
    assert found.table["sha256"].nunique() == 1
    assert (found.pixels[0] == found.pixels[1]).all()


def test_faulty_images_are_an_error_that_names_them_or_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixelcache, "BLOCK", 4)
    bad = {f"bad/{name}": content for name, (content, _) in faults().items() if name not in {"bomb.png", "greater.png"}}
    good = {f"good/{i}.png": encode(picture(i)) for i in range(5)}
    write_folder(tmp_path / "set", bad | good)
    (tmp_path / "set/bad/link.png").symlink_to(tmp_path / "nowhere")
    wanted = Wanted(60, 60)
    with pytest.raises(ImageError) as caught:
        run(tmp_path, wanted=wanted)
    said = str(caught.value)
    assert caught.value.exit_code == 2
    assert said.startswith(
        "9 of 14 images cannot be decoded (set/bad/deep.tif: it has grey levels outside 0 to 65535; "
    )
    assert "and 4 more" in said
    assert 'faulty = "skip"' in said
    found = run(tmp_path, wanted=wanted, faulty="skip")
    assert found.table["image"].tolist() == list(good)
    assert [path for path, _ in found.skipped] == [
        f"set/bad/{name}" for name in sorted([*map(os.path.basename, bad), "link.png"])
    ]
    assert dict(found.skipped)["set/bad/link.png"] == "No such file or directory"
    write_folder(tmp_path / "only", good)
    alone = run(tmp_path, path="only", wanted=wanted)
    assert (alone.pixels == found.pixels).all()
    assert alone.sha256 == found.sha256
    with pytest.raises(ImageError, match="9 of 14 images"):  # the decoded set is there, and still has faults
        run(tmp_path, wanted=wanted)
    again = run(tmp_path, wanted=wanted, faulty="skip")
    assert (again.skipped, again.sha256) == (found.skipped, found.sha256)
    write_folder(tmp_path / "none", {"a.jpg": b"x"})
    with pytest.raises(ImageError, match="no image is left"):
        run(tmp_path, path="none", faulty="skip")


def test_arrays_with_values_outside_are_faulty(tmp_path: Path) -> None:
    values = np.full((2, 8, 8, 3), 0.5)
    values[1, 0, 0, 0] = 2
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(ImageError, match=r"1 of 2 images cannot be decoded \(a.npy#1: it has values outside 0 to 1"):
        run(tmp_path, "arrays", "a.npy")


def test_scenes_come_with_what_is_true_of_them(tmp_path: Path) -> None:
    table = ImagesTable(source="scenes", count=3, seed=5)
    made = scenes.generate(3, 5)
    found = prepare_images(table, tmp_path, Wanted(64, 64))
    assert (found.pixels == made.pixels).all()
    assert found.truth is not None
    assert (found.truth.cells == made.truth.cells).all()
    assert found.table["label"].tolist() == [str(label) for label in made.labels]
    assert found.table["kind"].tolist() == ["generated"] * 3
    smaller = prepare_images(table, tmp_path, Wanted(32, 32))
    assert smaller.pixels.shape == (3, 32, 32, 3)
    assert smaller.sha256 != found.sha256
    assert smaller.truth is not None
    # A cropped scene's elements are no longer in the cells of the truth.
    assert prepare_images(table, tmp_path, Wanted(32, 36)).truth is None


def test_a_crop_larger_than_the_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="resize must be size or more"):
        run(tmp_path, wanted=Wanted(20, 18))
    with pytest.raises(ImageError, match="allowed are bilinear, bicubic"):
        run(tmp_path, wanted=Wanted(16, 18, "nearest"))


# ---------------------------------------------------------------------------------------------------- decoded once


def test_a_second_run_reads_and_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "set", {f"{i}.png": encode(picture(i)) for i in range(5)})
    write_tar(tmp_path / "a.tar", {f"{i}.png": encode(picture(i)) for i in range(5)})
    settle(tmp_path / "set")
    settle(tmp_path)
    cases = [("folder", "set"), ("shards", "a.tar")]
    first = [run(tmp_path, *case) for case in cases]

    def never(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(pixelcache, "prepare", never)
    monkeypatch.setattr("featurecompute.images.Reader.read", never)
    for case, before in zip(cases, first, strict=True):
        again = run(tmp_path, *case)
        assert again.sha256 == before.sha256
        assert (again.pixels == before.pixels).all()


def test_a_changed_file_of_equal_size_is_seen(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", {"a.bmp": encode(picture(1), "BMP")})
    settle(tmp_path / "set")
    first = run(tmp_path)
    write_folder(tmp_path / "set", {"a.bmp": encode(picture(2), "BMP")})
    settle(tmp_path / "set")  # even with the old time put back: the record's own time cannot be
    second = run(tmp_path)
    assert first.sha256 != second.sha256
    assert (first.pixels != second.pixels).any()


@pytest.mark.parametrize("what", ["pixels.npy", "index.json", "cut"])
def test_damage_is_seen_and_mended(tmp_path: Path, what: str) -> None:
    write_folder(tmp_path / "set", {"a.png": encode(picture(1)), "b.png": encode(picture(2))})
    first = np.array(run(tmp_path).pixels)
    (file,) = (tmp_path / "cache").glob(f"*/{'pixels.npy' if what == 'cut' else what}")
    content = bytearray(file.read_bytes())
    content[-30] ^= 1
    file.write_bytes(content[:-1] if what == "cut" else content)
    said: list[str] = []
    found = prepare_images(images_table("folder", "set"), tmp_path, Wanted(), say=said.append)
    assert (found.pixels == first).all()
    assert any("is damaged" in line for line in said)


def test_a_file_changed_between_two_readings_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "set", {"a.png": encode(picture(1))})
    monkeypatch.setattr("featurecompute.pixels.digest", lambda content: "another")
    with pytest.raises(ImageError, match="changed while the images were read"):
        run(tmp_path)


def test_processes_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixelcache, "BLOCK", 4)
    write_folder(tmp_path / "set", {f"{i:02d}.jpg": encode(picture(i), "JPEG") for i in range(18)} | {"07.jpg": b""})
    steps: list[tuple[int, int]] = []
    found = [
        prepare_images(
            images_table("folder", "set", cache=f"cache-{workers}", faulty="skip"),
            tmp_path,
            Wanted(),
            workers=workers,
            progress=lambda done, total: steps.append((done, total)),
        )
        for workers in (1, 2)
    ]
    assert (found[0].pixels == found[1].pixels).all()
    assert found[0].sha256 == found[1].sha256
    assert found[0].skipped == found[1].skipped == (("set/07.jpg", "the file is empty"),)
    files = [sorted(tmp_path.glob(f"cache-{workers}/*/*.*")) for workers in (1, 2)]
    assert [file.name for file in files[0]] == ["index.json", "kept.npy"] + [file.name for file in files[0][2:]]
    assert [file.read_bytes() for file in files[0][:2]] == [file.read_bytes() for file in files[1][:2]]
    assert steps[4] == (18, 18)


SLOW = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from featurecompute import pixelcache
from imagesets import Wanted, images_table
from featurecompute.pixels import prepare_images
pixelcache.BLOCK = 4
quick = pixelcache.prepare
pixelcache.prepare = lambda content, recipe: (time.sleep(0.02), quick(content, recipe))[1]
prepare_images(images_table("folder", "set"), Path({base!r}), Wanted(), workers=1)
"""


def test_a_run_killed_in_the_middle_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixelcache, "BLOCK", 4)
    write_folder(tmp_path / "set", {f"{i:03d}.png": encode(picture(i)) for i in range(200)})
    fresh = run(tmp_path, cache="fresh")
    tests = str(Path(__file__).parent)
    with subprocess.Popen([sys.executable, "-c", SLOW.format(tests=tests, base=str(tmp_path))]) as process:
        deadline = time.monotonic() + 90  # a busy machine takes long to start a process
        while time.monotonic() < deadline:
            journals = list((tmp_path / "cache").glob("*.part/blocks.jsonl"))
            if journals and journals[0].read_text().count('"crc32"') >= 3:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    (journal,) = (tmp_path / "cache").glob("*.part/blocks.jsonl")
    ended = journal.read_text().count('"crc32"')
    assert 3 <= ended < 50
    with journal.open("a") as file:
        file.write('{"block": 49, "crc')  # as a kill in the middle of a line leaves it
    decoded: list[int] = []

    def counting(content: bytes, recipe: pixelcache.Recipe) -> np.ndarray:
        decoded.append(1)
        return decoding.prepare(content, recipe)

    monkeypatch.setattr(pixelcache, "prepare", counting)
    found = run(tmp_path)
    assert len(decoded) == 200 - 4 * ended
    assert (found.pixels == fresh.pixels).all()
    assert found.sha256 == fresh.sha256
    kept = [next((tmp_path / cache).glob("*/index.json")).read_bytes() for cache in ("cache", "fresh")]
    assert kept[0] == kept[1]
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "set", {"a.png": encode(picture(1))})
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageError, match=r"cache of decoded images .*file/cache cannot be written: .*\[images\] cache"):
        run(tmp_path, cache="file/cache")
    monkeypatch.setattr("featurecompute.pixelcache.shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(ImageError, match="the decoded images need"):
        run(tmp_path)


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("FEATURECOMPUTE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder(ImagesTable(), tmp_path) == Path("/home/me/.cache/featurecompute/pixels")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder(ImagesTable(), tmp_path) == Path("/xdg/featurecompute/pixels")
    monkeypatch.setenv("FEATURECOMPUTE_CACHE", "/here")
    assert cache_folder(ImagesTable(), tmp_path) == Path("/here")
    assert cache_folder(ImagesTable(cache="c"), tmp_path) == tmp_path / "c"
