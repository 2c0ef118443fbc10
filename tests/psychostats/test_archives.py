"""Files, folders and archives: what is opened, in which order, and what is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from recordings_made import encoded, session, zipped

from psychostats import archives
from psychostats.archives import Blob, open_blobs


def blobs(path: Path) -> list[Blob]:
    return list(open_blobs(path, lambda name: name.endswith(".json")))


def test_a_folder_is_searched_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.json", "a/2.json", "a/10.json", "c.png", ".hidden.json", ".git/x.json", "__MACOSX/y.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    found = blobs(tmp_path)
    assert [(one.name, one.data, one.passed) for one in found] == [
        ("a/10.json", b"a/10.json", False),
        ("a/2.json", b"a/2.json", False),
        ("b.json", b"b.json", False),
        ("c.png", b"", True),
    ]
    assert found[0].path == tmp_path / "a/10.json"


def test_archives_are_opened_one_level_deep(tmp_path: Path) -> None:
    deep = zipped({"c.json": b"c"})
    (tmp_path / "r.jzip").write_bytes(zipped({"s/a.json": b"a", "in.zip": zipped({"b.json": b"b", "deep.zip": deep})}))
    found = blobs(tmp_path)
    assert [(one.name, one.data) for one in found if not one.passed] == [
        ("r.jzip/in.zip/b.json", b"b"),
        ("r.jzip/s/a.json", b"a"),
    ]
    assert [one.name for one in found if one.passed] == ["r.jzip/in.zip/deep.zip"]
    assert [one.name for one in blobs(tmp_path / "r.jzip") if not one.passed] == ["in.zip/b.json", "s/a.json"]


def test_links_that_leave_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_bytes(b"secret")
    (tmp_path / "outside").mkdir()
    root = tmp_path / "study"
    root.mkdir()
    (root / "own.json").write_bytes(b"own")
    (root / "inside.json").symlink_to(root / "own.json")
    (root / "out.json").symlink_to(tmp_path / "secret.json")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    (root / "broken.json").symlink_to(root / "nowhere.json")
    (root / "broken.zip").symlink_to(root / "nowhere.zip")
    found = {one.name: one for one in blobs(root)}
    assert found["own.json"].data == found["inside.json"].data == b"own"
    assert all(one.data != b"secret" for one in found.values())
    for name in ("out.json", "folder"):
        fault = found[name].fault
        assert fault is not None
        assert "is a link that leaves the folder" in fault.message
    assert found["loop"].passed
    assert found["broken.json"].fault is not None
    assert found["broken.zip"].fault is not None


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.json")
    (only,) = blobs(tmp_path)
    assert only.fault is not None
    assert "no regular file" in only.fault.message


def test_all_members_together_may_be_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 2500)
    path = tmp_path / "r.zip"
    path.write_bytes(zipped({f"{number}.json": os.urandom(1000) for number in range(4)}))
    found = blobs(path)
    assert [one.fault is None for one in found] == [True, True, False]
    assert "unpacks to more than" in str(found[2].fault)


def test_repetitive_recordings_are_no_bomb(tmp_path: Path) -> None:
    data = encoded(session("s1", 30_000))
    (tmp_path / "r.zip").write_bytes(zipped({"a.json": data}))
    found = blobs(tmp_path / "r.zip")
    assert len(data) > archives.SMALL
    assert found[0].data == data
