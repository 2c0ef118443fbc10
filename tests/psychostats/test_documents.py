"""JSON documents: which records they hold, and where these stood."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psychostats.documents import read_runs
from psychostats.errors import DataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(st.dictionaries(st.sampled_from("abcdef"), VALUES, min_size=1), min_size=1, max_size=4)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(RECORDS)
def test_a_list_of_records_comes_back(records: list[dict[str, object]]) -> None:
    (run,) = read_runs(json.dumps(records, ensure_ascii=False).encode("utf-8", "replace"), "p")
    assert len(run.records) == len(records)
    assert run.rows == list(range(1, len(records) + 1))


@settings(derandomize=True, max_examples=80, deadline=None)
@given(RECORDS, st.integers(0, 400))
def test_what_is_cut_off_is_a_fault(records: list[dict[str, object]], at: int) -> None:
    data = json.dumps(records).encode()
    cut = data[: at % len(data)]
    with pytest.raises(DataError, match=r"'p' (is cut off|holds only blanks|is not JSON)"):
        read_runs(cut, "p")


@pytest.mark.parametrize("name", ["raw_data", "main_data", "trials"])
@pytest.mark.parametrize("as_text", [True, False])
def test_records_under_a_key(name: str, as_text: bool) -> None:
    records = [{"a": 1}, {"a": 2}]
    (run,) = read_runs(json.dumps({name: json.dumps(records) if as_text else records, "task_id": 7}).encode(), "p")
    assert run.records == records
    assert run.constants == {"task_id": 7}
    assert run.posted


def test_raw_data_is_read_where_main_data_is_there_too() -> None:
    (run,) = read_runs(b'{"main_data": [{"a": 1}], "raw_data": [{"a": 0}, {"a": 1}]}', "p")
    assert run.records == [{"a": 0}, {"a": 1}]


def test_rows_count_over_all_documents() -> None:
    runs = read_runs(b'[{"a": 1}, {"a": 2}]\n[{"a": 3}]', "p")
    assert [run.rows for run in runs] == [[1, 2], [3]]


def test_a_byte_order_mark_is_no_sign() -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        (run,) = read_runs('[{"a": "é"}]'.encode(encoding), "p")
        assert run.records == [{"a": "é"}]
