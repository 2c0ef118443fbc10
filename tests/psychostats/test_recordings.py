"""The door: folders, archives and single files become one table that remembers where each row stood."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings_made import encoded, posted, session, table, zipped

from psychostats.cells import Raw
from psychostats.parts import Reading
from psychostats.recordings import hash_sources, name_source, read_recordings
from psychostats.trials import examine_trials

NEEDED = ("participant", "representation", "correct")
PLAIN_TABLE = "participant,trial,representation,correct,rt\na,1,local,1,0.5\na,2,distributed,0,0.7\n"


def written(folder: Path, **files: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data if isinstance(data, bytes) else encoded(data))
    return folder


def test_a_plain_table_is_read_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    path.write_text(PLAIN_TABLE)
    raw = read_recordings(path)
    assert raw.rows == [2, 3]
    assert list(raw.cells) == ["participant", "trial", "representation", "correct", "rt"]
    assert raw.origins is None
    assert raw.notes == ()
    (source,) = raw.sources
    assert (source.name, source.sha256, source.rows) == (
        "trials.csv",
        hashlib.sha256(path.read_bytes()).hexdigest(),
        2,
    )


def test_a_folder_joins_files_by_the_names_of_columns(tmp_path: Path) -> None:
    root = written(
        tmp_path / "s", a__json=session("a", 2, age=30), b__csv=PLAIN_TABLE.encode(), c__png=b"x", d__md=b"#"
    )
    raw = read_recordings(root)
    assert raw.faults == ()
    assert raw.rows == [1, 2, 3, 4]
    assert raw.cells["participant"] == ["a", "a", "a", "a"]
    assert raw.cells["age"] == [30, 30, None, None]
    assert raw.cells["session"] == ["a.json", "a.json", None, None]
    assert raw.origins is not None
    assert [list(one) for one in raw.origins] == [[0, 0, 1, 1], [3, 4, 2, 3]]
    assert [(one.name, one.tool, one.rows, one.status) for one in raw.sources] == [
        ("a.json", "jsPsych", 2, "read"),
        ("b.csv", "table", 2, "read"),
    ]
    assert "files of kinds that hold no trials, passed over (.png 1, .md 1): 2" in raw.notes


def test_a_file_without_marks_has_no_catch_trials_and_no_practice(tmp_path: Path) -> None:
    marked = session("a", 2)
    marked[3] |= {"catch_trial": True, "is_demo": False}
    root = written(tmp_path / "s", a__json=marked, b__json=session("b", 2))
    frame = examine_trials(root, needed=NEEDED).frame
    assert frame["catch"].tolist() == [False, True, False, False]
    assert frame["phase"].tolist() == ["main"] * 4


def test_the_same_session_from_folder_archive_and_csv_is_the_same_table(tmp_path: Path) -> None:
    people = {f"p{number}": session(f"s{number}") for number in range(3)}
    root = written(tmp_path / "s", **{f"{name}__json": records for name, records in people.items()})
    (tmp_path / "z.zip").write_bytes(zipped({f"{name}.json": encoded(records) for name, records in people.items()}))
    (tmp_path / "all.csv").write_bytes(table([one for records in people.values() for one in records]))
    tables = [examine_trials(path, needed=NEEDED) for path in (root, tmp_path / "z.zip", tmp_path / "all.csv")]
    names = ["participant", "trial", "rt", "correct", "response", "representation", "instruction_time"]
    first = tables[0].frame[names].reset_index(drop=True)
    for one in tables:
        assert one.faults == ()
        pd.testing.assert_frame_equal(one.frame[names].reset_index(drop=True), first)
    assert hash_sources(tables[0].sources) == hash_sources(tables[1].sources)


def test_participants_in_two_sessions_are_no_fault(tmp_path: Path) -> None:
    root = written(tmp_path / "s", a__json=session("a", seed=1), b__json=session("a", seed=2))
    examined = examine_trials(root, needed=NEEDED)
    assert examined.errors == ()
    assert examined.frame.groupby("session")["participant"].nunique().tolist() == [1, 1]


def test_a_participant_in_two_conditions_is_named_where_the_design_forbids_it(tmp_path: Path) -> None:
    def only(person: str, level: str, seed: int) -> list[dict[str, Any]]:
        return [one | ({"representation": level} if "correct" in one else {}) for one in session(person, seed=seed)]

    files = {"a__json": only("a", "local", 1), "b__json": only("b", "local", 1), "c__json": only("b", "distributed", 2)}
    root = written(tmp_path / "s", **files, d__json=only("d", "distributed", 1))
    examined = examine_trials(root, needed=NEEDED, assignment="between")
    assert [(fault.file, len(fault.rows)) for fault in examined.errors] == [("b.json", 6), ("c.json", 6)]
    assert "several representations: b in row 3 of b.json (and 5 more rows)." in examined.errors[0].message
    left = examine_trials(root, needed=NEEDED, assignment="between", skip_bad=True)
    assert left.errors == ()
    assert set(left.frame["participant"]) == {"a", "d"}
    assert [(one.step, one.participants, one.trials) for one in left.left_out] == [("sessions with faults", 1, 12)]


def test_an_empty_file_in_a_folder_of_thousands_is_found(tmp_path: Path) -> None:
    root = tmp_path / "s"
    root.mkdir()
    for number in range(2000):
        (root / f"{number:04d}.json").write_bytes(encoded(session(f"s{number}", 1)))
    (root / "0777.json").write_bytes(b"")
    examined = examine_trials(root, needed=("participant", "correct"))
    assert [fault.message for fault in examined.errors] == ["File '0777.json' is empty (0 bytes)."]
    left = examine_trials(root, needed=("participant", "correct"), skip_bad=True)
    assert len(left.frame) == 1999
    assert left.left_out[0].step == "files that could not be read (1)"
    assert [(one.name, one.status, one.tool) for one in left.sources if one.status != "read"] == [
        ("0777.json", "skipped", "")
    ]


def test_the_key_of_exported_tasks_joins_by_id(tmp_path: Path) -> None:
    root = written(tmp_path / "s", p__json=posted(task=1, workerId="w1"), q__json=posted(task=2, workerId="w2"))
    rows = [
        {
            "task": f"natural/task_{task}",
            "task_trial": trial,
            "stimulus": f"st{(task + trial) % 5}",
            "pair": f"pr{trial}",
        }
        for task in (1, 2)
        for trial in range(1, 9)
    ]
    shuffled = pd.DataFrame(rows).sample(frac=1, random_state=1)
    shuffled.to_csv(tmp_path / "key.csv", index=False)
    reading = Reading(metadata=tmp_path / "key.csv", by="task, task_trial")
    examined = examine_trials(root, needed=("participant", "correct"), reading=reading)
    assert examined.errors == ()
    main = examined.frame[examined.frame["phase"] == "main"]
    wanted = {(row["task"], row["task_trial"]): row["stimulus"] for row in rows}
    assert main["stimulus"].tolist() == [wanted[key] for key in zip(main["task"], main["task_trial"], strict=True)]
    assert main["pair"].tolist() == [f"pr{trial}" for trial in (*range(1, 9), *range(1, 9))]


def test_a_table_of_a_database_and_of_a_workbook(tmp_path: Path) -> None:
    frame = pd.DataFrame({"participant": ["a", "b"], "representation": ["local", "local"], "correct": [1, 0]})
    with sqlite3.connect(tmp_path / "d.sqlite") as connection:
        frame.to_sql("trials", connection, index=False)
        frame.head(1).to_sql("other", connection, index=False)
    connection.close()
    frame.to_excel(tmp_path / "d.xlsx", sheet_name="trials", index=False)
    for name in ("d.sqlite#trials", "d.xlsx#trials", "d.xlsx"):
        examined = examine_trials(str(tmp_path / name), needed=NEEDED)
        assert examined.faults == ()
        assert examined.frame["participant"].tolist() == ["a", "b"]


def test_platform_ids_leave_no_trace(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    ids = [f"{number:024x}" for number in (0xABCDEF, 0xABCDFF)]
    root = written(tmp_path / "s", **{f"{one}__json": session(None) for one in ids[:1]})
    (root / f"{ids[1]}.json").write_bytes(encoded(session(None, seed=2))[:-50])
    answer = call(capsys, monkeypatch, "check", root, "--skip-bad", "--json")
    assert not any(one in answer.out + answer.err for one in ids)
    assert "[id].json (file 2)" in answer.out
    assert "told by their number, in the order of their names" in answer.out + answer.err
    frame = examine_trials(root, skip_bad=True).frame
    assert set(frame["participant"]) == {"P001"}
    assert not any(one in str(cell) for cell in frame.to_numpy().ravel() for one in ids)


def test_sessions_have_no_names_where_people_are_to_have_none(tmp_path: Path) -> None:
    root = written(tmp_path / "s", alice__json=session(None), bob__json=session(None, seed=2))
    frame = examine_trials(root, needed=NEEDED, pseudonymize=True).frame
    assert frame[["participant", "session"]].drop_duplicates().to_numpy().tolist() == [
        ["P001", "S001"],
        ["P002", "S002"],
    ]


def test_jatos_archives_say_when_and_who(tmp_path: Path) -> None:
    said = [
        {"id": one, "startDate": 1714557600000, "urlQueryParameters": {"PROLIFIC_PID": f"w{one}"}} for one in (1, 2)
    ]
    members = {"metadata.json": encoded({"data": [{"studyResults": said}]})}
    for one in (1, 2):
        members[f"study_result_{one}/comp-result_{one}1/data.txt"] = encoded({"age": 30})
        members[f"study_result_{one}/comp-result_{one}2/data.txt"] = encoded(session(None, 2, seed=one))
    (tmp_path / "r.jzip").write_bytes(zipped(members))
    examined = examine_trials(tmp_path / "r.jzip", needed=NEEDED)
    assert examined.faults == ()
    assert examined.frame["participant"].tolist() == ["w1", "w1", "w2", "w2"]
    assert set(examined.frame["started"]) == {"2024-05-01T10:00:00+00:00"}
    assert "files that hold screens but no answer: 2 (in 2 files)" in examined.notes


def test_nothing_good_is_an_error_with_skip_bad_too(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    root = written(tmp_path / "s", a__json=b"", b__json=b"[")
    answer = call(capsys, monkeypatch, "check", root, "--skip-bad")
    assert answer.code == 2
    assert "Nothing is left to read" in answer.out


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.json", "does not exist"),
        ("trials.doc", "ends in '.doc'; trials are read from .csv"),
        ("trials.csv#sheet", "has no tables, so none is named by '#sheet'"),
        ("empty", "it holds no file of trials"),
        ("talk", "it holds no file of trials"),
        ("screens", "none of its 1 files holds answers"),
    ],
)
def test_nothing_to_read(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "trials.doc").write_bytes(b"x")
    (tmp_path / "trials.csv").write_text(PLAIN_TABLE)
    (tmp_path / "empty").mkdir()
    written(tmp_path / "talk", README__txt=b"hello")
    written(tmp_path / "screens", a__json=session("a", 0))
    (fault,) = read_recordings(str(tmp_path / name)).faults
    assert says in fault.message


def test_passwords_are_not_said() -> None:
    assert name_source("postgresql://me:secret@host/db#trials") == "postgresql://me:***@host/db#trials"
    assert name_source("/home/me/study/") == "study"


def test_progress_is_said_while_many_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psychostats.recordings._PAUSE", 0.0)
    root = written(tmp_path / "s", a__json=session("a", 2), b__json=session("b", 2))
    said: list[str] = []
    read_recordings(root, say=said.append)
    assert said[-1] == "  read 2 files (0 MB), 4 trials"


def test_json_lists_what_was_read(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    root = written(
        tmp_path / "s", a__json=session("a"), b__json=[*session("b")[:-1], session("b")[-1] | {"correct": 7}]
    )
    answer = call(capsys, monkeypatch, "check", root, "--json", "--formula", "correct ~ 1 + (1 | participant)")
    assert answer.code == 2
    (fault,) = answer.data["faults"]
    assert (fault["file"], fault["row"], fault["rows"], fault["column"]) == ("b.json", 8, [8], "correct")
    assert [one["rows"] for one in answer.data["sources"]] == [6, 6]
    assert answer.data["notes"][0] == "rt and time_elapsed: milliseconds are converted to seconds (in 2 files)"


# Fuzz ------------------------------------------------------------------------------------------------------------

SUFFIXES = (".json", ".txt", ".csv", ".tsv", ".parquet", ".xlsx", ".sqlite", ".zip")


def seeds() -> dict[str, bytes]:
    import io

    frame = pd.read_csv(io.StringIO(PLAIN_TABLE))
    parquet, book = io.BytesIO(), io.BytesIO()
    frame.to_parquet(parquet)
    frame.to_excel(book, index=False)
    connection = sqlite3.connect(":memory:")
    frame.to_sql("trials", connection, index=False)
    database = connection.serialize()
    connection.close()
    return {
        ".json": encoded(session("a", 3)),
        ".txt": encoded(posted(trials=2, attempts=1)),
        ".csv": table(session("a", 3)),
        ".tsv": table(session("a", 3), "\t"),
        ".parquet": parquet.getvalue(),
        ".xlsx": book.getvalue(),
        ".sqlite": database,
        ".zip": zipped({"a.json": encoded(session("a", 2)), "study_result_1/comp-result_1/data.txt": b"[]"}),
    }


SEEDS = seeds()


def judged(path: Path) -> None:
    """Read and judge; whatever is wrong is a fault, a sentence of one line."""
    for skip in (False, True):
        examined = examine_trials(path, needed=NEEDED, skip_bad=skip)
        assert examined.faults or len(examined.frame)
        for fault in examined.faults:
            assert fault.message.endswith("."), fault.message
            assert "\n" not in fault.message
    assert isinstance(read_recordings(path), Raw)


@settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from(SUFFIXES), data=st.binary(max_size=60))
def test_random_bytes_are_faults(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"p{suffix}"
    path.write_bytes(data)
    judged(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_mutated_files_are_faults_or_trials(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(7)
    good = SEEDS[suffix]
    for _ in range(25 if suffix in (".xlsx", ".zip") else 40):
        data = bytearray(good)
        for _ in range(int(rng.integers(1, 6))):
            at, kind = int(rng.integers(len(data))), int(rng.integers(4))
            if kind == 0:
                data[at] = int(rng.integers(256))
            elif kind == 1:
                del data[at : at + int(rng.integers(1, 30))]
            elif kind == 2:
                data[at:at] = data[at : at + 20]
            else:
                data[at:at] = rng.choice([b"\0", b"[", b'"', b"{", b",", b"\xff", b"1e999", b"null"])
        path = tmp_path / f"p{suffix}"
        path.write_bytes(bytes(data))
        judged(path)


@settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(
        st.dictionaries(
            st.sampled_from(
                [
                    "correct",
                    "rt",
                    "subject",
                    "trial_index",
                    "catch_trial",
                    "is_demo",
                    "stimulus",
                    "min_references",
                    "data",
                ]
            ),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
                lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
                max_leaves=4,
            ),
        ),
        max_size=4,
    )
)
def test_records_of_anything_are_faults_or_trials(tmp_path: Path, cells: list[dict[str, Any]]) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([one | {"trial_type": "x"} for one in cells]), "utf-8")
    judged(path)
