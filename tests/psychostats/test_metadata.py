"""Metadata: joined to trials by id, never by position."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psychostats.cells import Raw
from psychostats.metadata import join_metadata
from psychostats.parts import Reading, Source

RAW = Raw(
    {
        "participant": ["p1", "p1", "p2", "p2"],
        "trial": [1, 2, 1, 2],
        "stimulus": ["s1", "s2", "s2", ""],
        "correct": ["1", "0", "1", "1"],
    },
    rows=[1, 2, 3, 4],
    words=frozenset({"participant", "stimulus"}),
    sources=(Source("a.csv", "0" * 64, 10), Source("b.csv", "1" * 64, 10)),
    origins=(np.array([0, 0, 1, 1]), np.array([2, 3, 2, 3])),
)
TABLE = pd.DataFrame({"stimulus": ["s2", "s1", "s3"], "depth": [0.5, 0.25, 1.0], "pair": ["b", "a", "c"]})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "stimuli.csv"
    TABLE.to_csv(path, index=False)
    return path


def said(raw: Raw) -> list[str]:
    return [fault.message for fault in raw.faults]


def test_many_trials_join_one_row_by_its_id(table: Path) -> None:
    raw = join_metadata(RAW, Reading(metadata=table))
    assert raw.faults == ()
    assert raw.cells == {**RAW.cells, "depth": ["0.25", "0.5", "0.5", None], "pair": ["a", "b", "b", None]}
    assert raw.rows == RAW.rows
    assert raw.notes == (
        "'stimuli.csv' is joined by 'stimulus'.",
        "Trials without 'stimulus' are left as they were: 1.",
    )


def test_without_metadata_or_trials_nothing_happens(table: Path) -> None:
    assert join_metadata(RAW, Reading()) is RAW
    assert join_metadata(Raw(), Reading(metadata=table)) == Raw()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".xlsx"])
def test_every_kind_of_table_joins_alike(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"stimuli{suffix}"
    if suffix == ".parquet":
        TABLE.to_parquet(path)
    elif suffix == ".xlsx":
        TABLE.to_excel(path, index=False)
    else:
        TABLE.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    raw = join_metadata(RAW, Reading(metadata=path))
    assert raw.faults == ()
    assert [None if cell is None else float(cell) for cell in raw.cells["depth"]] == [0.25, 0.5, 0.5, None]


def test_neither_order_nor_a_dropped_trial_moves_anything(table: Path) -> None:
    whole = join_metadata(RAW, Reading(metadata=table)).cells["depth"]
    TABLE.sample(frac=1, random_state=1).to_csv(table, index=False)
    assert join_metadata(RAW, Reading(metadata=table)).cells["depth"] == whole
    for dropped in range(4):
        left = [row for row in range(4) if row != dropped]
        cells = {name: [column[row] for row in left] for name, column in RAW.cells.items()}
        origins = (RAW.origins[0][left], RAW.origins[1][left]) if RAW.origins else None
        less = join_metadata(replace(RAW, cells=cells, rows=[1, 2, 3], origins=origins), Reading(metadata=table))
        assert less.cells["depth"] == [whole[row] for row in left]


def test_unknown_ids_are_named_and_counted_with_file_and_row(table: Path) -> None:
    cells: dict[str, list[Any]] = {**RAW.cells, "stimulus": ["s1", "t1", "t2", "t1"]}
    (fault,) = join_metadata(replace(RAW, cells=cells), Reading(metadata=table)).faults
    assert fault.message == (
        "Metadata 'stimuli.csv' has no 'stimulus' 't1', 't2', which 3 trials show, the first in row 3 of 'a.csv'; "
        "nothing is joined by position."
    )
    assert (fault.severity, fault.column, fault.row, fault.rows, fault.file) == (
        "error", "stimulus", 2, (2, 3, 4), "a.csv",
    )  # fmt: skip
    plain = join_metadata(replace(RAW, cells=cells, sources=(), origins=None), Reading(metadata=table))
    assert "the first in row 2;" in said(plain)[0]


def test_doubled_and_blank_keys_of_the_table_are_faults(table: Path) -> None:
    pd.concat([TABLE, TABLE.iloc[:1], TABLE.assign(stimulus="").iloc[:1]]).to_csv(table, index=False)
    assert said(join_metadata(RAW, Reading(metadata=table))) == [
        "Metadata 'stimuli.csv' has several rows of one 'stimulus': 's2' (rows 2, 5); keep one of each.",
        "Metadata 'stimuli.csv' has no 'stimulus' in row 6 (1 in all); fill or remove it.",
    ]


def test_columns_of_both_must_agree_and_fill_each_other(table: Path) -> None:
    cells: dict[str, list[Any]] = {**RAW.cells, "depth": [0.25, None, "0.50", "1"]}
    raw = join_metadata(replace(RAW, cells=cells), Reading(metadata=table))
    assert (raw.faults, raw.cells["depth"]) == ((), [0.25, "0.5", "0.50", "1"])
    cells["depth"] = ["0.3", "0.5", "0.6", ""]
    (fault,) = join_metadata(replace(RAW, cells=cells), Reading(metadata=table)).faults
    assert fault.message == (
        "Column 'depth' is '0.3' in row 2 of 'a.csv' and '0.25' in the metadata 'stimuli.csv' (2 in all); remove or "
        "rename one of the columns."
    )
    assert fault.rows == (1, 3)


def test_truth_is_the_same_however_it_is_written(table: Path) -> None:
    TABLE.assign(catch=["true", "False", "1"]).to_csv(table, index=False)
    cells: dict[str, list[Any]] = {**RAW.cells, "catch": [False, 1, "TRUE", ""]}
    assert join_metadata(replace(RAW, cells=cells), Reading(metadata=table)).faults == ()


def test_whose_trial_it_is_stays_as_recorded(table: Path) -> None:
    TABLE.assign(participant="P9", trial=99).to_csv(table, index=False)
    raw = join_metadata(RAW, Reading(metadata=table))
    assert raw.faults == ()
    assert raw.cells["participant"] == RAW.cells["participant"]
    assert any(note.startswith("'participant', 'trial' of 'stimuli.csv' are not taken") for note in raw.notes)


def test_several_columns_make_one_key(tmp_path: Path) -> None:
    path = tmp_path / "key.csv"
    pd.DataFrame({"task": ["a", "a", "b"], "task_trial": [1, 2, 1], "pair": ["x", "y", "z"]}).to_csv(path, index=False)
    cells: dict[str, list[Any]] = {"task": ["b", "a", "a", "a"], "task_trial": [1, 2.0, "1", None], "rt": [1, 1, 1, 1]}
    raw = join_metadata(Raw(cells, [2, 3, 4, 5]), Reading(metadata=path, by="task, task_trial"))
    assert (raw.faults, raw.cells["pair"]) == ((), ["z", "y", "x", None])


def test_what_cannot_be_joined_is_one_sentence(tmp_path: Path, table: Path) -> None:
    assert "did you mean 'stimulus'?" in said(join_metadata(RAW, Reading(metadata=table, by="stimuls")))[0]
    assert "No column is named" in said(join_metadata(RAW, Reading(metadata=table, by=" , ")))[0]
    assert "does not exist" in said(join_metadata(RAW, Reading(metadata=tmp_path / "none.csv")))[0]
    assert "cannot be read" in said(join_metadata(RAW, Reading(metadata=tmp_path / "none.json")))[0]
    assert "ends in '.txt'; allowed are .csv" in said(join_metadata(RAW, Reading(metadata=tmp_path / "a.txt")))[0]


# The structure of tasks of 2023 -----------------------------------------------------------------------------------


def structure() -> dict[str, Any]:
    folder = "/stimuli/resnet50/layer2_1_conv1/channel_{}/natural_images"
    trial = {"mode": "natural", "queries": folder.format(7) + "/batch_2", "references": folder.format(7) + "/batch_2"}
    other = {**trial, "queries": folder.format(9) + "/batch_0", "mode": "optimized"}
    catch = {**trial, "mode": "catch_trial", "queries": folder.format(3)}
    return {
        "tasks": [
            {"index": 1, "raw_trials": [other, trial], "raw_catch_trials": [catch], "trials": [trial, catch, other]},
            {"index": 2, "raw_trials": [trial], "raw_catch_trials": [], "trials": [trial]},
        ]
    }


@pytest.mark.parametrize(
    "tasks", [["natural/task_1"] * 3 + ["natural/task_2"], ["task_1"] * 3 + ["task_2"], [1, 1, 1, "2"]]
)
def test_the_structure_of_tasks_joins_by_task_and_place(tmp_path: Path, tasks: list[Any]) -> None:
    path = tmp_path / "structure.json"
    path.write_text(json.dumps(structure()))
    raw = Raw({"task": tasks, "task_trial": [3, 2, 1, 1], "correct": [1, 1, 0, 1]}, [2, 3, 4, 5])
    joined = join_metadata(raw, Reading(metadata=path, by="task, task_trial"))
    assert joined.faults == ()
    assert joined.cells["task"] == tasks
    assert joined.cells["catch"] == [False, True, False, False]
    assert joined.cells["mode"] == ["optimized", "catch_trial", "natural", "natural"]
    assert joined.cells["feature"] == [f"layer2_1_conv1__{channel}" for channel in (9, 3, 7, 7)]
    assert joined.cells["batch"] == ["0", None, "2", "2"]
    # One trial was not recorded: nothing else changes its stimulus.
    less = Raw({name: [column[row] for row in (0, 2, 3)] for name, column in raw.cells.items()}, [2, 3, 4])
    again = join_metadata(less, Reading(metadata=path, by="task, task_trial"))
    assert again.cells["feature"] == [joined.cells["feature"][row] for row in (0, 2, 3)]


def test_tasks_of_two_experiments_do_not_join_one_structure(tmp_path: Path) -> None:
    path = tmp_path / "structure.json"
    path.write_text(json.dumps(structure()))
    raw = Raw({"task": ["natural/task_1", "mixed/task_1"], "task_trial": [1, 1]}, [2, 3])
    (message,) = said(join_metadata(raw, Reading(metadata=path, by="task, task_trial")))
    assert "tasks of 2 experiments ('mixed', 'natural'), the structure knows one" in message


@pytest.mark.parametrize(
    "text",
    ["", '{"tasks": [{"index": Infinity, "trials": [{}]}]}',
     "[", "[1]", "{}", '{"tasks": 3}', '{"tasks": []}', '{"tasks": [{"index": 1}]}', '{"tasks": [{"index": "x", '
     '"trials": [{}]}]}', '{"tasks": [{"index": 1, "trials": [3]}]}', "[" * 100_000, "\ud800"],
)  # fmt: skip
def test_other_json_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "structure.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    raw = Raw({"task": ["task_1"], "task_trial": [1]}, [2])
    (message,) = said(join_metadata(raw, Reading(metadata=path, by="task, task_trial")))
    assert "'structure.json' cannot be read as JSON" in message or "is no structure of tasks" in message


def workbook() -> bytes:
    file = io.BytesIO()
    TABLE.to_excel(file, index=False)
    return file.getvalue()


# Made once: a workbook holds when it was written.
GOODS = [TABLE.to_csv(index=False).encode(), json.dumps(structure()).encode(), workbook()]


@settings(derandomize=True, max_examples=80, deadline=None)
@given(data=st.data())
def test_no_table_is_an_exception(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    suffix = data.draw(st.sampled_from([".csv", ".tsv", ".parquet", ".xlsx", ".json"]))
    content = bytearray(data.draw(st.sampled_from(GOODS)))
    for _ in range(data.draw(st.integers(0, 10))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=4))
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(content)
    by = data.draw(st.sampled_from(["stimulus", "task, task_trial", "stimulus, pair", ""]))
    cells: dict[str, list[Any]] = {**RAW.cells, "task": ["x/task_1", 1, None, "?"], "task_trial": [1, 2, 3, "4"]}
    raw = join_metadata(replace(RAW, cells=cells), Reading(metadata=path, by=by))
    assert raw.faults or raw.notes
