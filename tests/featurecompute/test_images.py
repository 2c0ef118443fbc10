"""Which images a set holds, in what order, under what names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imagesets import encode, images_table, picture, write_folder, write_parquet, write_tar

from featurecompute.errors import ImageError
from featurecompute.images import Reader, open_images


def names(source: str, path: str, base: Path) -> list[str]:
    return [entry.image for entry in open_images(images_table(source, path), base).entries]


def labels(source: str, path: str, base: Path) -> list[str | None]:
    return [entry.label for entry in open_images(images_table(source, path), base).entries]


def refusal(source: str, path: str, base: Path) -> str:
    with pytest.raises(ImageError) as caught:
        open_images(images_table(source, path), base)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_folder_is_ordered_by_code_point_and_its_first_folders_are_labels(tmp_path: Path) -> None:
    wanted = ["B/z.JPG", "a-b/x.png", "a/b/deep.webp", "a/x.jpeg", "a0/x.tif", "top.gif", "é/x.bmp"]
    write_folder(tmp_path / "set", dict.fromkeys([*wanted, "a/notes.txt", "a/.hidden.jpg", ".git/x.jpg"], b"x"))
    source = open_images(images_table("folder", "set"), tmp_path)
    assert [entry.image for entry in source.entries] == wanted
    assert [entry.label for entry in source.entries] == ["B", "a-b", "a", "a", "a0", None, "é"]
    assert [entry.path for entry in source.entries] == [f"set/{name}" for name in wanted]
    assert source.ignored == 2


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    found=st.sets(
        st.lists(st.text("abAB0-_ é", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join), max_size=8
    )
)
def test_any_folder_is_in_the_order_of_its_paths(tmp_path_factory: pytest.TempPathFactory, found: set[str]) -> None:
    base = tmp_path_factory.mktemp("sets")
    wanted = sorted(f"{name}.png" for name in found | {"one"})
    write_folder(base / "set", dict.fromkeys(wanted, b"x"))
    assert names("folder", "set", base) == wanted


def test_links_are_followed_but_never_in_a_circle(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", {"a/x.png": b"x"})
    (tmp_path / "set/a/again").symlink_to(tmp_path / "set", target_is_directory=True)
    (tmp_path / "set/b").symlink_to(tmp_path / "set/a", target_is_directory=True)
    (tmp_path / "set/broken.png").symlink_to(tmp_path / "nowhere.png")
    # A link that leads nowhere is an image that cannot be read, not one that is passed over.
    assert names("folder", "set", tmp_path) == ["a/x.png", "b/x.png", "broken.png"]


def test_a_name_that_is_not_utf8_can_still_be_written(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "set") + b"/b\xff.png")).write_bytes(b"x")
    (entry,) = open_images(images_table("folder", "set"), tmp_path).entries
    assert entry.image == "b\\xff.png"
    with Reader("folder") as reader:
        assert reader.read(entry) == b"x"


@pytest.mark.parametrize(("ending", "mode"), [(".tar", "w"), (".tar.gz", "w:gz")])
def test_shards_keep_the_order_of_members_and_find_labels(tmp_path: Path, ending: str, mode: str) -> None:
    first = {"2.jpg": b"two", "2.cls": b"7\n", "1.jpg": b"one", "1.json": b'{"label": "cat"}', "c/x.png": b"x"}
    second = {"._0.jpg": b"", "a.b.png": b"ab", "a.cls": b"dog", "0.json": b"[1]", "readme.txt": b"", "0.png": b"nil"}
    write_tar(tmp_path / f"set/s-1{ending}", second, mode)
    write_tar(tmp_path / f"set/s-0{ending}", first, mode)
    wanted = ["2.jpg", "1.jpg", "c/x.png"]
    for path in ("set", f"set/s-*{ending}"):
        source = open_images(images_table("shards", path), tmp_path)
        assert [entry.image for entry in source.entries] == [
            *(f"s-0{ending}/{name}" for name in wanted),
            f"s-1{ending}/a.b.png",
            f"s-1{ending}/0.png",
        ]
        assert [entry.label for entry in source.entries] == ["7", "cat", None, "dog", None]
        assert source.entries[0].path == f"set/s-0{ending}/2.jpg"
        assert source.ignored == 2
        with Reader("shards") as reader:
            found = [reader.read(entry) for entry in [*source.entries, source.entries[0]]]
        assert found == [b"two", b"one", b"x", b"ab", b"nil", b"two"]
    assert names("shards", f"set/s-0{ending}", tmp_path) == [f"s-0{ending}/{name}" for name in wanted]


def test_faulty_shards_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar at all" * 100)
    assert "a.tar is no readable tar file" in refusal("shards", "a.tar", tmp_path)
    write_tar(tmp_path / "b.tar.gz", {"x.png": b"x" * 5000}, "w:gz")
    (tmp_path / "b.tar.gz").write_bytes((tmp_path / "b.tar.gz").read_bytes()[:-20])
    assert "b.tar.gz is no readable tar file" in refusal("shards", "b.tar.gz", tmp_path)
    write_tar(tmp_path / "c.tar", {"x.txt": b"x"})
    assert "holds no images (1 other or hidden files" in refusal("shards", "c.tar", tmp_path)
    assert "no tar files" in refusal("shards", "d-*.tar", tmp_path)


def test_parquet_of_bytes_of_structs_and_of_class_names(tmp_path: Path) -> None:
    content = [f"{i}".encode() for i in range(6)]
    write_parquet(tmp_path / "set/b.parquet", {"image": content, "label": ["x", None, *"abcd"]})
    structs = [{"bytes": part, "path": f"p{i}.jpg" if i else None} for i, part in enumerate(content)]
    hugging = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    write_parquet(
        tmp_path / "set/a.parquet",
        {"image": structs, "label": [0, 1, -1, 1, 0, 5]},
        {"huggingface": json.dumps(hugging)},
    )
    source = open_images(images_table("parquet", "set"), tmp_path)
    assert [entry.image for entry in source.entries] == [f"{name}.parquet#{i}" for name in "ab" for i in range(6)]
    assert [entry.label for entry in source.entries[:6]] == ["cat", "dog", None, "dog", "cat", None]
    assert [entry.label for entry in source.entries[6:]] == ["x", None, *"abcd"]
    assert [entry.path for entry in source.entries[:2]] == ["set/a.parquet#0", "p1.jpg"]
    with Reader("parquet") as reader:
        assert [reader.read(entry) for entry in source.entries] == content * 2
        assert reader.read(source.entries[1]) == b"1"
    write_parquet(tmp_path / "c.parquet", {"image": content, "id": list("uvwxyz"), "path": list("UVWXYZ")})
    source = open_images(images_table("parquet", "c.parquet"), tmp_path)
    assert [(entry.image, entry.path) for entry in source.entries] == list(zip("uvwxyz", "UVWXYZ", strict=True))


def test_parquet_of_another_form_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", {"img": [b"x"], "label": [1]})
    assert "no column 'image'; its columns are img, label" in refusal("parquet", "a.parquet", tmp_path)
    write_parquet(tmp_path / "b.parquet", {"image": ["text"]})
    assert "holds string; allowed are bytes" in refusal("parquet", "b.parquet", tmp_path)
    (tmp_path / "c.parquet").write_bytes(b"PAR1 is not enough")
    assert "is no readable Parquet file" in refusal("parquet", "c.parquet", tmp_path)
    write_parquet(tmp_path / "d.parquet", {"image": [b"x", b"y"], "id": ["one", "one"]})
    assert "two images with the id 'one'" in refusal("parquet", "d.parquet", tmp_path)


def test_arrays_and_their_faults(tmp_path: Path) -> None:
    values = np.stack([picture(i) for i in range(3)])
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "b.npz", images=values / 255, labels=np.array(["x", "y", "z"]))
    assert names("arrays", "a.npy", tmp_path) == ["000000", "000001", "000002"]
    assert labels("arrays", "b.npz", tmp_path) == ["x", "y", "z"]
    np.savez(tmp_path / "c.npz", images=values, labels=[1, 2])
    assert "3 images, but 2 labels" in refusal("arrays", "c.npz", tmp_path)
    np.savez(tmp_path / "d.npz", pictures=values)
    assert "no array 'images'; it holds pictures" in refusal("arrays", "d.npz", tmp_path)
    np.save(tmp_path / "e.npy", values.transpose(0, 3, 1, 2))
    assert "channels before its height" in refusal("arrays", "e.npy", tmp_path)
    np.save(tmp_path / "f.npy", values.astype(int))
    assert "holds int64; allowed are uint8" in refusal("arrays", "f.npy", tmp_path)
    (tmp_path / "g.npy").write_bytes(b"")
    assert "is no readable NumPy file" in refusal("arrays", "g.npy", tmp_path)
    np.save(tmp_path / "h.npy", values[:0])
    assert "holds no images" in refusal("arrays", "h.npy", tmp_path)
    assert "does not exist" in refusal("arrays", "i.npy", tmp_path)


def test_no_folder_no_path_and_no_images(tmp_path: Path) -> None:
    assert "needs a path" in refusal("folder", "", tmp_path)
    assert "does not exist" in refusal("folder", "set", tmp_path)
    write_folder(tmp_path / "set", {"a.txt": b""})
    assert "is a file; source 'folder'" in refusal("folder", "set/a.txt", tmp_path)
    assert "holds no images (1 other or hidden files were passed over); images end in .bmp" in refusal(
        "folder", "set", tmp_path
    )
    write_folder(tmp_path / "set", {"a.png": encode(picture(0))})
    assert names("folder", "set", tmp_path) == ["a.png"]
