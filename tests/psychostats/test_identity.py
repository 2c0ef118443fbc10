"""Hashes that see values alone, and pseudonyms that hide platforms' ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psychostats.errors import DataError
from psychostats.identity import data_hash, pseudonymize, redact

PROLIFIC = "5f2b1c9e8d7a6b5c4d3e2f1a"
SESSION = "0123456789abcdef01234567"


CELLS = st.lists(st.tuples(st.text(max_size=3), st.integers(-5, 5)), min_size=2, max_size=6)


@settings(max_examples=60, deadline=None)
@given(CELLS)
def test_the_hash_ignores_storage_and_sees_values_and_order(cells: list[tuple[str, int]]) -> None:
    frame = pd.DataFrame(cells, columns=["word", "number"])
    columns = ["word", "number"]
    one = data_hash(frame, columns)
    other = frame.astype({"word": "category", "number": float}).set_index(np.arange(len(frame)) + 7)
    assert data_hash(other[columns[::-1]], columns[::-1]) == one
    assert data_hash(frame.astype({"number": "category"}), columns) == one
    assert (data_hash(frame.iloc[::-1], columns) == one) == (cells == cells[::-1])
    changed = frame.assign(number=frame["number"].where(frame.index > 0, 9))
    assert data_hash(changed, columns) != one


def test_the_hash_keeps_cells_columns_and_kinds_apart() -> None:
    def of(*values: Any) -> str:
        return data_hash(pd.DataFrame({"a": list(values)}), ["a"])

    different = [of("ab", "c"), of("a", "bc"), of("abc", ""), of("abc", None), of(1, 2), of("1", "2"), of(1.5, np.nan)]
    assert len(set(different)) == len(different)
    assert of(0.0, 1) == of(-0.0, True)
    # sha256 over: row count, name behind its length, kind, float64 bytes.  Pinned: stored fits rely on it.
    assert of(1, 2) == "e0322c2c679e0fff7bdfa3325a31ed8f1e93aa8924cab9547ea699347741cc02"
    with pytest.raises(DataError, match="'b' is needed"):
        data_hash(pd.DataFrame({"a": [1]}), ["b"])


def test_one_platform_id_is_enough_to_replace_all_ids() -> None:
    frame = pd.DataFrame({"participant": ["other", PROLIFIC, None, "other"], "correct": [1, 0, 1, 0]})
    hidden = pseudonymize(frame)
    assert hidden["participant"].iloc[[0, 1, 3]].tolist() == ["P001", "P002", "P001"]
    assert hidden["participant"].isna().tolist() == [False, False, True, False]
    assert frame["participant"].iloc[1] == PROLIFIC  # the table given stays as it was
    plain = frame.replace(PROLIFIC, PROLIFIC.upper())
    pd.testing.assert_frame_equal(pseudonymize(plain), plain)


@pytest.mark.parametrize(
    ("one", "hidden"),
    [
        ("A12345678901", False),
        ("A123456789012", True),
        ("A12345678901234", True),
        ("A123456789012345", False),
        ("a123456789012", False),
    ],
)
def test_an_mturk_id_has_12_to_14_capitals_or_digits_behind_its_a(one: str, hidden: bool) -> None:
    assert pseudonymize(pd.DataFrame({"participant": [one]}))["participant"].tolist() == ["P001" if hidden else one]


def test_other_columns_are_searched_for_platform_ids_unless_spared() -> None:
    frame = pd.DataFrame({"participant": ["x", PROLIFIC], "worker": [PROLIFIC, "w"], "stimulus": [SESSION, "s"]})
    searched = pseudonymize(frame)
    assert searched["worker"].tolist() == ["P002", "w"]
    assert searched["stimulus"].tolist() == ["stimulus001", "s"]
    spared = pseudonymize(frame, spared=["stimulus"])
    assert spared["worker"].tolist() == ["P002", "w"]
    assert spared["stimulus"].tolist() == [SESSION, "s"]
    assert pseudonymize(frame[["worker"]])["worker"].tolist() == ["worker001", "w"]


def test_pseudonyms_are_as_wide_as_their_number_asks() -> None:
    many = pseudonymize(pd.DataFrame({"participant": [f"x{n}" for n in range(1000)]}), force=True)
    assert many["participant"].iloc[[0, 999]].tolist() == ["P0001", "P1000"]


def test_words_are_no_ids_and_replaced_levels_keep_their_order():
    words = ["none", "ADVERTISEMENT", "ARCHITECTURE1"]
    made = pseudonymize(pd.DataFrame({"ad": pd.Categorical(words, words)}))["ad"]
    assert made.tolist() == words and made.cat.categories.tolist() == words
    ids = ["none", "A1B2C3D4E5F6G7", "5f3e2d1c0b9a8f7e6d5c4b3a"]
    made = pseudonymize(pd.DataFrame({"worker": pd.Categorical(ids[:0:-1], ids)}))["worker"]
    assert made.tolist() == ["worker001", "worker002"]
    assert made.cat.categories.tolist() == ["none", "worker002", "worker001"]


def test_long_integers_are_told_apart():
    long = pd.DataFrame({"id": [2**60 + i for i in range(3)]})
    assert data_hash(long, ["id"]) != data_hash(long.iloc[[0, 0, 0]], ["id"])
    assert data_hash(long, ["id"]) == data_hash(long.astype(object), ["id"])


def test_ids_within_longer_text_are_found_and_messages_hold_none():
    prolific, mturk = "5f3e2d1c0b9a8f7e6d5c4b3a", "A1B2C3D4E5F6G7"
    frame = pd.DataFrame({"participant": [f"{prolific}@email.prolific.com", "other"], "note": [f"by {mturk}", "none"]})
    made = pseudonymize(frame)
    assert made["participant"].tolist() == ["P001", "P002"] and made["note"].tolist() == ["note001", "none"]
    assert redact(f"worker {mturk}_1 of {prolific}.csv") == "worker [id]_1 of [id].csv"
    assert redact("ADVERTISEMENT and deadbeef") == "ADVERTISEMENT and deadbeef"
    assert redact("0123456789abcdef" * 4) == "0123456789abcdef" * 4  # a hash is no id


def test_mail_and_network_addresses_are_nobodys_to_read():
    assert redact("by a.b+c@mail.example.org from 203.0.113.7, version 1.2.3") == "by [id] from [id], version 1.2.3"
    assert redact("1.2.3.4.5, 999.1.1.1, a@b and layer3.1.2.1") == "1.2.3.4.5, 999.1.1.1, a@b and layer3.1.2.1"
    # A server's is what the user has to correct, and nobody's.
    for server in ("postgresql://lab:***@127.0.0.1:5432/db", "http://10.0.0.1/x", 'connection to server at "10.1.2.3"'):
        assert redact(server) == server
    assert redact("a@1.2.3.4 and http://x/1.2.3.4") == "a@[id] and http://x/[id]"
    frame = pd.DataFrame({"participant": ["a@example.org", "b"], "note": ["I am Ann, a@example.org", "b"]})
    made = pseudonymize(frame)
    assert made["participant"].tolist() == ["P001", "P002"] and made["note"].tolist() == ["note001", "b"]
    assert "Ann" not in pseudonymize(frame, key=bytes(32)).to_csv()


def test_levels_that_become_one_stay_levels():
    one = "5f3e2d1c0b9a8f7e6d5c4b3a"
    frame = pd.DataFrame({"participant": pd.Categorical([one, f"{one}@email.prolific.com", None])})
    made = pseudonymize(frame, key=bytes(32))["participant"]
    assert made.nunique() == 1 and len(made.cat.categories) == 1 and made.isna().tolist() == [False, False, True]
