"""Files are there whole or not at all, and equal content has equal bytes and hashes."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurecompute.errors import RunError
from featurecompute.files import (
    hash_arrays,
    hash_file,
    hash_json,
    plain,
    read_arrays,
    read_json,
    whole,
    whole_folder,
    write_arrays,
    write_json,
)


def test_a_file_is_there_when_the_block_has_ended(tmp_path):
    path = tmp_path / "new" / "folder" / "table.csv"
    with whole(path) as part:
        part.write_text("a")
        assert not path.exists() and part.suffix == ".csv"
    assert path.read_text() == "a"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_and_the_old_file_whole(tmp_path, failure):
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_text("before")
    for path in (new, old):
        with pytest.raises(failure), whole(path) as part:
            part.write_text("half")
            raise failure
    assert old.read_text() == "before"
    assert list(tmp_path.iterdir()) == [old]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/below cannot be written"), whole(tmp_path / "file" / "below"):
        pass
    (tmp_path / "folder" / "held").mkdir(parents=True)
    with pytest.raises(RunError, match="folder cannot be written"):
        write_json(tmp_path / "folder", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_there_when_the_block_has_ended(tmp_path, there):
    path = tmp_path / "new" / "folder"
    if there:
        path.mkdir(parents=True)
    with whole_folder(path) as part:
        (part / "x").write_text("a")
        assert not (path / "x").exists() and part.parent == path.parent
    assert (path / "x").read_text() == "a" and path.stat().st_mode & 0o777 == 0o755
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_no_folder(tmp_path, failure):
    with pytest.raises(failure), whole_folder(tmp_path / "new") as part:
        (part / "below").mkdir()
        (part / "below" / "x").write_text("half")
        raise failure
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path):
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "x").write_text("before")
    (tmp_path / "file").write_text("before")
    for name in ("held", "file", "file/below"):
        with pytest.raises(RunError, match=f"{name} cannot be written"), whole_folder(tmp_path / name) as part:
            (part / "x").write_text("after")
    assert (tmp_path / "held" / "x").read_text() == (tmp_path / "file").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "held"]


def test_a_hash_is_sha256_of_the_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc" * 1_000_000)
    assert hash_file(tmp_path / "file") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.text(), json_values))
def test_the_hash_of_a_value_does_not_depend_on_the_order_of_its_keys(value):
    assert hash_json(value) == hash_json(dict(reversed(value.items())))
    assert hash_json(value) != hash_json(value | {"one more": 1})


def test_values_become_plain(tmp_path):
    value = {1: np.float32(0.5), "n": np.int64(3), "t": np.bool_(True), "p": tmp_path, "l": (math.nan, -math.inf, [2])}
    assert plain(value) == {"1": 0.5, "n": 3, "t": True, "p": str(tmp_path), "l": [None, None, [2]]}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == plain(value)
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == plain(value)


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe"])
def test_json_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"x\.json cannot be read"):
        read_json(path)


ARRAYS = {
    "b": np.arange(6, dtype=np.int16).reshape(2, 3).T,  # not in one piece
    "a": np.array([np.nan, -0.0, np.inf], np.float32),
    "one": np.array(3.0),
    "none": np.empty((0, 4)),
    "flags": np.array([True, False]),
}


@pytest.mark.parametrize("metadata", [None, {name: name * 3 for name in "zyxwvut"} | {"ß": '"'}])
def test_arrays_come_back_as_they_were_and_equal_ones_make_equal_bytes(tmp_path, metadata):
    hashes = set()
    for turn in range(8):
        names = sorted(ARRAYS, reverse=turn % 2 == 0)
        write_arrays(tmp_path / "x.safetensors", {name: ARRAYS[name] for name in names}, metadata)
        hashes.add(hash_file(tmp_path / "x.safetensors"))
    assert len(hashes) == 1
    back = read_arrays(tmp_path / "x.safetensors")
    assert set(back) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array, strict=True)


def test_metadata_is_read_by_the_library(tmp_path):
    from safetensors import safe_open

    metadata = {"name": "ß", "json": '{"a": 1}'}
    write_arrays(tmp_path / "x.safetensors", ARRAYS, metadata)
    with safe_open(tmp_path / "x.safetensors", "np") as file:
        assert file.metadata() == metadata and sorted(file.keys()) == sorted(ARRAYS)


def test_arrays_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(RunError, match=r"x\.safetensors cannot be read"):
        read_arrays(path)
    write_arrays(path, ARRAYS)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"x\.safetensors cannot be read"):
        read_arrays(path)


def test_the_hash_of_arrays_knows_types_shapes_and_order():
    a = np.arange(6)
    others = [(a.reshape(2, 3),), (a.astype(np.int32),), (a[::-1],), (a, a), (a[:3], a[3:]), ()]
    assert len({hash_arrays(*arrays) for arrays in [(a,), *others]}) == 7
    assert hash_arrays(a.reshape(2, 3).T) == hash_arrays(np.ascontiguousarray(a.reshape(2, 3).T))
