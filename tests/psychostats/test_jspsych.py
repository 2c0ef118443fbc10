"""jsPsych, JATOS and the page of 2023: whose trials they are, in which units, and what is set aside."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recordings_made import encoded, posted, session, table

from psychostats.errors import DataError
from psychostats.jspsych import is_jspsych, read_json, read_results, translate_table
from psychostats.parts import Part
from psychostats.tabular import read_table


def one(value: Any, name: str = "p1.json", **columns: str) -> Part:
    part = read_json(encoded(value), name, columns)
    assert part.faults == ()
    return part


def from_csv(records: list[dict[str, Any]]) -> Part:
    raw = read_table(table(records), "p1.csv", ".csv")
    assert is_jspsych(raw.cells)
    return translate_table(Part(raw.cells, raw.rows), "p1.csv")


def test_answers_are_trials_in_seconds_and_screens_are_set_aside() -> None:
    records = session("s1")
    part = one(records)
    assert part.rows == [3, 4, 5, 6, 7, 8]
    assert part.cells["participant"] == ["s1"] * 6
    assert part.cells["session"] == ["p1.json"] * 6
    assert part.cells["trial"] == [3, 4, 5, 6, 7, 8]
    assert part.cells["rt"] == [record["rt"] / 1000 for record in records[2:]]
    assert part.cells["time_elapsed"] == [record["time_elapsed"] / 1000 for record in records[2:]]
    assert part.cells["correct"] == [record["correct"] for record in records[2:]]
    assert part.cells["instruction_time"] == [18.5] * 6
    assert "rt and time_elapsed: milliseconds are converted to seconds" in part.notes
    assert "screens that are no answers (instructions, pauses, forms), set aside: 2" in part.notes


def test_csv_and_json_say_the_same() -> None:
    records = session("s1")
    ours, theirs = one(records), from_csv(records)
    assert theirs.rows == [row + 1 for row in ours.rows]  # the header is line 1
    for name in ("participant", "trial", "rt", "time_elapsed", "response", "stimulus", "instruction_time"):
        assert [str(cell) for cell in theirs.cells[name]] == [str(cell) for cell in ours.cells[name]], name
    assert theirs.cells["correct"] == [str(cell).lower() for cell in ours.cells["correct"]]


def test_a_dropped_trial_shifts_no_other() -> None:
    whole, records = session("s1"), session("s1")
    del records[4]
    part, full = one(records), one(whole)
    rows = [position for position in range(6) if position != 2]
    for name in ("trial", "stimulus", "correct", "rt"):
        assert part.cells[name] == [full.cells[name][position] for position in rows]


def test_nested_objects_become_columns_and_lists_become_text() -> None:
    records = session("s1", 2)
    records[2]["data"] = {"age": 30, "rt": 5}
    records[2]["response"] = {"Q0": "yes", "deep": {"a": [1, 2]}}
    records[3]["keys"] = ["a", "b"]
    part = one(records)
    assert part.cells["age"] == [30, None]
    assert part.cells["data.rt"] == [5, None]
    assert part.cells["response.Q0"] == ["yes", None]
    assert part.cells["response.deep.a"] == ["[1,2]", None]
    assert part.cells["keys"] == [None, '["a","b"]']


def test_what_the_study_names_wins_and_the_old_names_stay() -> None:
    records = [record | {"who": "w7"} for record in session("s1", 3)]
    for record in records[2:]:
        record["acc"] = record.pop("correct")
    records[1] |= {"catch_trial": True}
    records[3] |= {"catch_trial": True}
    part = one(records, correct="acc", participant="who")
    assert len(part.rows) == 3
    assert part.cells["participant"] == part.cells["who"] == ["w7"] * 3
    assert part.cells["catch_trial"] == [None, True, None]
    assert part.cells["catch"] == [False, True, False]


@pytest.mark.parametrize("key", ["participant_id", "PROLIFIC_PID", "workerId", "subjectId"])
def test_a_participant_is_called_by_many_names(key: str) -> None:
    records = session(None)
    records[0][key] = "w1"  # on one screen, as a form leaves it
    part = one(records)
    assert part.cells["participant"] == ["w1"] * 6


def test_a_nameless_session_is_called_as_its_file_is() -> None:
    part = one(session(None), "sub/p7.json")
    assert set(part.cells["participant"]) == {"sub/p7"}
    assert "sessions that name no participant, who is called as the file is: 1" in part.notes


def test_sessions_of_one_file_are_told_apart() -> None:
    both = session("a", 2) + session("b", 2) + session("a", 2, seed=2)
    part = one(both, "all.json")
    assert part.cells["participant"] == ["a", "a", "a", "a", "b", "b"]
    assert part.cells["session"] == ["all.json:1"] * 2 + ["all.json:2"] * 2 + ["all.json:3"] * 2
    assert part.rows == [3, 4, 11, 12, 7, 8]
    sorted_by_trial = sorted(session("a", 2) + session("b", 2), key=lambda record: record["trial_index"])
    assert len(set(one(sorted_by_trial).cells["session"])) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"\n".join(encoded(session(None, 2, seed=seed)) for seed in (1, 2)),
        b"".join(encoded(session(None, 2, seed=seed)) for seed in (1, 2)),
        encoded([session(None, 2, seed=seed) for seed in (1, 2)]),
    ],
    ids=["lines", "one after another", "a list of lists"],
)
def test_several_documents_are_several_sessions(data: bytes) -> None:
    part = read_json(data, "results.txt")
    assert part.cells["participant"] == ["results:1"] * 2 + ["results:2"] * 2
    assert part.rows == [3, 4, 7, 8]


def test_records_a_line_each_are_one_session() -> None:
    data = b"\n".join(encoded(record) for record in session("s1"))
    part = read_json(data, "p.jsonl")
    assert part.rows == [3, 4, 5, 6, 7, 8]
    assert set(part.cells["participant"]) == {"s1"}


def test_jatos_names_sessions_and_components() -> None:
    part = one(session(None, 2), "jatos.zip/study_result_4/comp-result_9/data.txt")
    assert part.tool == "JATOS"
    assert part.cells["participant"] == part.cells["session"] == ["study_result_4"] * 2
    assert part.cells["block"] == ["comp-result_9"] * 2
    form = one({"age": 31}, "study_result_4/comp-result_8/data.txt")
    assert not form.rows
    assert form.notes == ("files that hold screens but no answer: 1",)


def test_what_jatos_says_of_a_result_names_its_participant_and_begin() -> None:
    said = {"id": 4, "startDate": 1714557600000, "urlQueryParameters": {"PROLIFIC_PID": "w1"}, "componentResults": []}
    results = read_results(encoded({"data": [{"studyResults": [said, {"id": 5}]}]}))
    assert results == {
        "study_result_4": {"started": "2024-05-01T10:00:00+00:00", "participant": "w1"},
        "study_result_5": {},
    }
    name = "z.zip/study_result_4/comp-result_9/data.txt"
    part = read_json(encoded(session(None, 2)), name, results=results)
    assert part.cells["participant"] == ["w1"] * 2
    assert part.cells["started"] == ["2024-05-01T10:00:00+00:00"] * 2
    own = read_json(encoded(session("own", 2)), name, results=results)
    assert own.cells["participant"] == ["own"] * 2
    for nothing in (b"", b"[]", b'{"data": 3}', b'{"data": [{"studyResults": [3]}]}'):
        assert read_results(nothing) == {}


def test_the_page_of_2023() -> None:
    given = posted(task=3, attempts=3, workerId="w1")
    part = one(given)
    raw = json.loads(given["raw_data"])
    answers = [record for record in raw if "correct" in record]
    assert len(part.rows) == len(answers) == 3 * 3 + 8  # the records stand twice in what is posted
    assert part.rows == [raw.index(record) + 1 for record in answers]
    assert part.cells["participant"] == ["w1"] * 17
    assert part.cells["task_id"] == ["3"] * 17
    assert part.cells["phase"] == ["practice"] * 9 + ["main"] * 8
    assert part.cells["catch"] == [False] * 12 + [True] + [False] * 4
    assert part.cells["task"] == [None] * 9 + ["natural/task_3"] * 8
    assert part.cells["task_trial"] == [None] * 9 + list(range(1, 9))
    assert part.cells["stimulus"][0] == "demo_natural/trials/trial_1"
    assert part.cells["stimulus"][-1] == "natural/task_3/trials/trial_8"
    assert part.cells["instruction_time"] == [20.0] * 17
    assert part.cells["practice_attempts"] == [3] * 17
    rows = ["upper" if record["button_pressed"] < 3 else "lower" for record in answers]
    assert part.cells["response"] == rows
    assert not {"min_query", "max_query", "min_references", "max_references"} & part.cells.keys()


def test_main_data_alone_is_read_where_raw_data_is_not_kept() -> None:
    given = posted(task=3)
    del given["raw_data"]
    part = one(given, "r.json")
    assert len(part.rows) == 8
    assert "practice_attempts" not in part.cells


def test_a_dropped_trial_of_the_page_keeps_the_others_in_place() -> None:
    given = posted(attempts=1)
    records = [one for one in json.loads(given["raw_data"]) if "trial_4/" not in str(one.get("max_query"))]
    part = one(given | {"raw_data": json.dumps(records)})
    assert part.cells["task_trial"][3:] == [1, 2, 3, 5, 6, 7, 8]


def test_when_a_session_began() -> None:
    assert one(session("a", 2, date="2024-05-01T10:00:00Z")).cells["started"] == ["2024-05-01T10:00:00Z"] * 2
    assert one(session("a", 2, start_time=1714557600000)).cells["started"] == ["2024-05-01T10:00:00+00:00"] * 2
    assert "started" not in one(session("a", 2, date="yesterday")).cells


def test_records_of_no_tool_are_read_as_they_stand() -> None:
    part = one([{"participant": "a", "rt": 0.5, "correct": 1, "note": {"x": "2"}}])
    assert part.cells == {"participant": ["a"], "rt": [0.5], "correct": [1], "note.x": ["2"]}
    assert part.words == {"participant", "note.x"}
    assert part.notes == ()


def test_a_session_without_answers_is_no_fault() -> None:
    part = one(session("s1")[:2])
    assert not part.rows
    assert part.notes == ("files that hold screens but no answer: 1",)


def test_what_is_no_number_keeps_its_words() -> None:
    records = session("s1", 3)
    records[2]["rt"], records[3]["rt"], records[4]["rt"] = "1,5", None, "1_000"
    assert one(records).cells["rt"] == ["1,5", None, "1_000"]


def test_no_records_are_a_fault_that_names_the_file() -> None:
    with pytest.raises(DataError, match=r"File 'p1.json' holds a number"):
        read_json(b"3", "p1.json")
