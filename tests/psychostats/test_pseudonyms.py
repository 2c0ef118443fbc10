"""Keyed pseudonyms: one person one name in any file, and a key that nobody else may read."""

import hashlib
import hmac
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psychostats.errors import InputError
from psychostats.identity import pseudonymize, redact
from psychostats.pseudonyms import canonical, find_key, fingerprint, name_people, pseudonym, read_key

KEY, OTHER = bytes(range(32)), bytes(32)
PINNED = "P882X9ERBJB"
PROLIFIC = "5f2b1c9e8d7a6b5c4d3e2f1a"
TURK = "A1B2C3D4E5F6G7"


@given(st.text(), st.binary(min_size=32, max_size=32))
def test_a_pseudonym_is_the_first_50_bits_of_the_hmac(identity, key):
    name = pseudonym(identity, key)
    digest = hmac.new(key, canonical(identity).encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    bits = f"{int(digest, 16):0256b}"[:50]
    letters = "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[int(bits[at : at + 5], 2)] for at in range(0, 50, 5))
    assert name == "P" + letters
    assert redact(name) == name  # no platform's id
    assert pseudonymize(pd.DataFrame({"participant": [name]}))["participant"].tolist() == [name]


def test_known_answers():
    # Pinned: pseudonyms of years ago must be found again.
    assert pseudonym(PROLIFIC, KEY) == PINNED
    assert pseudonym(f" {PROLIFIC}@email.prolific.com ", KEY) == PINNED
    assert pseudonym("Ju\u0308rgen", KEY) == pseudonym("J\u00fcrgen", KEY)
    assert pseudonym(PROLIFIC, OTHER) != PINNED
    assert fingerprint(KEY) == hashlib.sha256(b"psychostats" + KEY).hexdigest()[:8] != fingerprint(OTHER)


def test_one_person_has_one_name_in_any_file_and_order():
    first = pd.DataFrame({"participant": [PROLIFIC, TURK, "x"], "worker": [PROLIFIC, "none", "none"]})
    second = pd.DataFrame(
        {
            "participant": [TURK, f"{PROLIFIC}@email.prolific.com", "y"],
            "session": [f"{TURK}_2", PROLIFIC, "s"],
            "stimulus": [TURK, "0123456789abcdef01234567", "s"],
            "contact": ["a@example.org", "-", f"by {PROLIFIC}"],
        }
    )
    one, two = (pseudonymize(frame, key=KEY, spared=["stimulus"]) for frame in (first, second))
    name, turk = pseudonym(PROLIFIC, KEY), pseudonym(TURK, KEY)
    assert one["participant"].tolist() == [name, turk, pseudonym("x", KEY)]
    assert two["participant"].tolist() == [turk, name, pseudonym("y", KEY)]
    assert one["worker"].tolist() == [name, "none", "none"]
    assert two["session"].tolist() == [f"{turk}_2", name, "s"]
    assert two["stimulus"].tolist() == [turk, "0123456789abcdef01234567", "s"]  # a hash of its own is left
    assert two["contact"].tolist() == [pseudonym("a@example.org", KEY), "-", pseudonym(f"by {PROLIFIC}", KEY)]
    plain = pd.DataFrame({"participant": ["x", "y"], "block": ["x", "z"]})
    pd.testing.assert_frame_equal(pseudonymize(plain, key=KEY), plain)
    forced = pseudonymize(plain, key=KEY, force=True)
    assert forced["participant"].tolist() == [pseudonym("x", KEY), pseudonym("y", KEY)]
    assert forced["block"].tolist() == ["x", "z"]  # a word that is somebody's id by chance


def test_copies_of_the_participants_column_are_replaced_whatever_they_look_like():
    frame = pd.DataFrame({"participant": ["ann", "bob"], "subject": ["ann", "bob"]})
    assert pseudonymize(frame, force=True)["subject"].tolist() == ["P001", "P002"]


def test_two_people_with_one_name_are_refused(monkeypatch):
    import psychostats.pseudonyms as room

    assert len(set(name_people(map(str, range(10_000)), KEY).values())) == 10_000
    monkeypatch.setattr(room, "_LENGTH", 1)  # 32 names only
    with pytest.raises(InputError, match="one pseudonym"):
        name_people(map(str, range(40)), KEY)


def test_a_key_is_made_once_and_found_again(tmp_path, monkeypatch):
    monkeypatch.delenv("PSYCHOSTATS_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert find_key(None) is None and list(tmp_path.iterdir()) == []
    said: list[str] = []
    key = read_key(None, say=said.append)
    path = tmp_path / "config" / "psychostats" / "pseudonyms.key"
    assert path.read_bytes() == key and len(key) == 32 and path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert [str(path) in line for line in said] == [True, False] and fingerprint(key) in said[1]
    assert key.hex() not in "".join(said)
    read_key(None, say=said.append)
    assert said[2:] == said[1:2]  # the second time it is not new
    assert read_key(None) == key and list(path.parent.iterdir()) == [path]
    named = tmp_path / "named.key"
    monkeypatch.setenv("PSYCHOSTATS_KEY", str(named))
    other = find_key(None)
    assert other == named.read_bytes() != key
    assert find_key(path) == key  # what is typed goes before the environment
    monkeypatch.delenv("PSYCHOSTATS_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # passed over, as the specification says
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert read_key(None) == (tmp_path / "home" / ".config" / "psychostats" / "pseudonyms.key").read_bytes()


def test_all_who_need_a_key_at_once_agree_on_one(tmp_path):
    crowd = 8
    for attempt in range(20):
        path, start = tmp_path / f"{attempt}" / "deep" / "one.key", threading.Barrier(crowd)

        def ask(path=path, start=start):
            start.wait()
            return read_key(path)

        with ThreadPoolExecutor(crowd) as pool:
            asked = [pool.submit(ask) for _ in range(crowd)]
        assert {one.result() for one in asked} == {path.read_bytes()}
        assert [one.name for one in path.parent.iterdir()] == ["one.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o601])
@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_a_key_that_others_may_use_is_refused(tmp_path, mode):
    path = tmp_path / "open.key"
    path.write_bytes(KEY)
    path.chmod(mode)
    with pytest.raises(InputError, match=f"open to others .mode 0{mode:o}.*chmod 600") as told:
        read_key(path)
    assert "\n" not in str(told.value) and path.read_bytes() == KEY


def saved(path, content=KEY):
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_key_of_another_length_is_refused(tmp_path, size):
    with pytest.raises(InputError, match=f"holds {size} bytes"):
        read_key(saved(tmp_path / "key", bytes(size)))


def test_what_is_no_file_is_no_key(tmp_path):
    with pytest.raises(InputError, match="is no file"):
        read_key(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is no file"):
        read_key(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="--key FILE"):
        read_key(tmp_path / "dangling")


def test_where_no_key_can_be_made_another_place_is_named(tmp_path):
    saved(tmp_path / "file")
    with pytest.raises(InputError, match=r"cannot be read or made .*--key FILE") as told:
        read_key(tmp_path / "file" / "key")
    assert "\n" not in str(told.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the administrator may read and write everything")
def test_what_may_not_be_read_or_written_is_said(tmp_path):
    saved(tmp_path / "key").chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        read_key(tmp_path / "key")
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InputError, match="Permission denied"):
        read_key(tmp_path / "locked" / "deep" / "key")


@pytest.mark.parametrize("inside", ["key", "deep/er/key", "../out/key"])
def test_no_key_lies_in_an_output_folder(tmp_path, inside):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="output folder"):
        read_key(out / inside, [tmp_path / "other", out])
    assert not out.exists()
    out.mkdir()
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(InputError, match="output folder"):
        read_key(tmp_path / "link" / "key", [out])
    key = read_key(tmp_path / "outside.key", [out])
    assert Path(tmp_path / "outside.key").read_bytes() == key
