"""Tables of other tools: recognised by their columns, and put into our words."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psychostats.columns import COLUMNS
from psychostats.dialects import DIALECTS, recognise, translate
from psychostats.parts import Part

ROOT = Path(__file__).parents[2]


def read(text: str) -> Part:
    header, *rows = csv.reader(io.StringIO(text.strip()))
    columns = map(list, zip(*rows, strict=True))
    return Part(dict(zip(header, columns, strict=True)), rows=list(range(2, len(rows) + 2)))


def translated(text: str) -> Part:
    part = read(text)
    dialect = recognise(list(part.cells))
    assert dialect is not None
    return translate(part, dialect)


def without(text: str, *names: str) -> Part:
    part = read(text)
    return replace(part, cells={name: cells for name, cells in part.cells.items() if name not in names})


# An instruction screen, two practice trials, the end of that loop, three main trials (one unanswered), a last screen.
PSYCHOPY = """
instr_key.keys,instr_key.rt,practice.thisN,trials.thisN,stimulus,corrAns,key_resp.keys,key_resp.corr,key_resp.rt,\
participant,session,date,expName,psychopyVersion,frameRate
space,12.5,,,,,,,,7,001,2026-02-17_16h20.01.792,study,2024.2.3,60.01
,,0,,demo1,left,left,1,0.8,7,001,2026-02-17_16h20.01.792,study,2024.2.3,60.01
,,1,,demo2,left,right,0,0.9,7,001,2026-02-17_16h20.01.792,study,2024.2.3,60.01
,,,,,,,,,7,001,2026-02-17_16h20.01.792,study,2024.2.3,60.01
space,3.5,,,,,,,,7,001,2026-02-17_16h20.01.792,study,2024.2.3,60.01
,,,0,s1,left,left,1,0.451,7,001,2026-02-17_16h20.01.792,study,2024.2.3,60.01
,,,1,s2,right,None,0,,7,001,2026-02-17_16h20.01.792,study,2024.2.3,60.01
,,,2,s3,right,right,1,0.513,7,001,2026-02-17_16h20.01.792,study,2024.2.3,60.01
,,,,,,,,,7,001,2026-02-17_16h20.01.792,study,2024.2.3,60.01
"""


def test_psychopy_gives_its_answers_in_seconds_and_leaves_its_own_columns() -> None:
    part = translated(PSYCHOPY)
    assert (part.tool, part.faults, part.rows) == ("PsychoPy", (), [3, 4, 7, 8, 9])
    assert part.cells["trial"] == [1, 2, 3, 4, 5]
    assert part.cells["correct"] == ["1", "0", "1", "0", "1"]
    assert part.cells["response"] == ["left", "right", "left", None, "right"]
    assert part.cells["rt"] == ["0.8", "0.9", "0.451", None, "0.513"]
    assert part.cells["phase"] == ["practice", "practice", "main", "main", "main"]
    assert part.cells["participant"] == ["7"] * 5
    assert part.cells["session"] == ["001 2026-02-17T16:20:01"] * 5
    assert part.cells["session_label"] == ["001"] * 5
    assert part.cells["started"] == ["2026-02-17T16:20:01"] * 5
    assert part.cells["experiment"] == ["study"] * 5
    assert part.cells["instruction_time"] == [16.0] * 5
    assert part.cells["stimulus"] == ["demo1", "demo2", "s1", "s2", "s3"]
    assert part.cells["key_resp.keys"] == ["left", "right", "left", "None", "right"]
    assert "catch" not in part.cells
    assert part.notes == (
        "PsychoPy: 4 rows without an answer, such as instructions and ends of loops, are no trials.",
        "PsychoPy: session is its label and when it began; the label alone stays beside it.",
        "PsychoPy: answers are those of 'key_resp'; rt is in seconds, as written.",
    )


def test_a_second_visit_is_another_session_although_its_label_is_the_same() -> None:
    first, again = translated(PSYCHOPY), translated(PSYCHOPY.replace("02-17_16h20", "02-18_09h05"))
    assert first.cells["session_label"] == again.cells["session_label"]
    assert set(first.cells["session"]) & set(again.cells["session"]) == set()


def test_trials_are_numbered_in_each_session() -> None:
    second = PSYCHOPY.strip().replace(",7,001,", ",7,002,").split("\n", 2)[-1]
    part = translated(PSYCHOPY.strip() + "\n" + second.split("\n", 1)[-1] + "\n")
    assert part.cells["trial"][:5] == [1, 2, 3, 4, 5]
    assert part.cells["session_label"] == ["001"] * 5 + ["002"] * len(part.rows[5:])
    assert part.cells["trial"][5:] == list(range(1, len(part.rows) - 4))


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("2026-02-17_16h20.01.792", "2026-02-17T16:20:01"),
        ("2026-02-17 16h20.01.792612 +0100", "2026-02-17T16:20:01+01:00"),
        ("2021_Mar_05_1430", "2021-03-05T14:30:00"),
        ("2026-02-17T16:20:01", "2026-02-17T16:20:01"),
        ("2026-13-45_16h20.01.792", None),
        ("yesterday", None),
    ],
)
def test_dates_are_read_as_every_version_writes_them(written: str, read_as: str | None) -> None:
    part = translated(PSYCHOPY.replace("2026-02-17_16h20.01.792", written))
    assert part.cells.get("started", [None])[0] == read_as


def test_lists_of_one_are_unwrapped_and_several_times_left_blank() -> None:
    text = PSYCHOPY.replace(",left,1,0.451,", ",['left'],1,[0.451],")
    text = text.replace("right,1,0.513", "\"['left', 'right']\",1,\"[0.4, 0.9]\"")
    part = translated(text)
    assert part.cells["response"][2:] == ["left", None, "['left', 'right']"]
    assert part.cells["rt"][2:] == ["0.451", None, None]
    assert any("rt is left blank in 1 row" in note for note in part.notes)


def test_a_mouse_that_is_not_judged_is_an_answer_too() -> None:
    part = translated(
        "trials.thisN,mouse.x,mouse.clicked_name,mouse.time,participant,date,expName\n"
        ",,,,p1,2021_Mar_05_1430,e\n0,0.1,left_image,[1.25],p1,2021_Mar_05_1430,e\n"
    )
    assert (part.rows, part.cells["response"], part.cells["rt"]) == ([3], ["left_image"], ["1.25"])
    assert "correct" not in part.cells


def test_answers_that_the_experiments_own_code_judged_are_read() -> None:
    part = translated(
        "trials.thisN,correct,rt,participant,date,expName\n,,,p1,2021_Mar_05_1430,e\n0,1,0.5,p1,2021_Mar_05_1430,e\n"
    )
    assert (part.rows, part.cells["correct"], part.cells["rt"], part.cells["trial"]) == ([3], ["1"], ["0.5"], [1])


def test_several_components_in_one_row_are_not_guessed_between() -> None:
    text = PSYCHOPY.replace("key_resp.rt,", "key_resp.rt,second.corr,", 1)
    lines = text.strip().split("\n")
    at = lines[0].split(",").index("second.corr")
    for number, line in enumerate(lines[1:], 1):
        cells = line.split(",")
        lines[number] = ",".join([*cells[:at], cells[at - 2], *cells[at:]])
    part = translated("\n".join(lines))
    (fault,) = part.faults
    assert fault.severity == "warning"
    assert "'key_resp', 'second'" in fault.message
    assert "correct" not in part.cells
    assert part.cells["trial"] == [1, 2, 3, 4, 5]


def test_a_column_of_the_files_own_stays_and_is_said() -> None:
    part = translated(PSYCHOPY.replace("corrAns", "correct"))
    assert part.cells["correct"] == ["left", "left", "left", "right", "right"]
    assert "the file has its own column 'correct', read as it is" in part.notes[-1]


def test_pavlovia_is_psychopy_in_a_browser() -> None:
    text = PSYCHOPY.replace("frameRate", "OS", 1)
    part = translated(text)
    assert part.tool == "Pavlovia"
    ours = [name for name in part.cells if name in COLUMNS]
    assert [part.cells[name] for name in ours] == [translated(PSYCHOPY).cells[name] for name in ours]
    database = translated(text.replace("participant", "__participant").replace("session", "__session"))
    assert database.tool == "Pavlovia"
    assert database.cells["participant"] == ["7"] * 5
    assert database.cells["session"] == ["001 2026-02-17T16:20:01"] * 5


# One person's task: instructions, a practice trial, three main trials (one with two attempts, one timed out), a catch
# trial, a rating; and the last row of every Gorilla file.
GORILLA = """
Event Index,UTC Timestamp,Participant Private ID,Experiment ID,Trial Number,Screen Name,Zone Type,Reaction Time,\
Response,Attempt,Correct,Incorrect,Timed Out,display,ANSWER,stimulus
1,1772000000000,3141,5926,BEGIN TASK,,,,,,,,,,,
2,1772000001000,3141,5926,1,Screen 1,continue_button,20500.5,,,,,,instructions,,
3,1772000002000,3141,5926,1,choice,fixation,500,,,,,,practice,,d1
4,1772000003000,3141,5926,1,choice,response_button_image,900,left,1,1,0,,practice,left,d1
5,1772000004000,3141,5926,2,choice,fixation,500,,,,,,trial,,s1
6,1772000005000,3141,5926,2,choice,response_button_image,1234.5,right,1,0,1,,trial,left,s1
7,1772000005500,3141,5926,2,choice,response_button_image,2000,left,2,1,0,,trial,left,s1
8,1772000006000,3141,5926,2,rating,response_rating_scale_likert,700,4,,0,0,,trial,,s1
9,1772000007000,3141,5926,3,choice,timelimit_screen,5000,,,0,0,1,trial,left,s2
10,1772000007500,3141,5926,3,wait,timelimit_screen,500,,,0,0,1,trial,,s2
11,1772000008000,3141,5926,4,choice,response_button_image,800,left,1,1,0,,trial,left,s3
12,1772000009000,3141,5926,5,choice,response_button_image,400,left,1,1,0,,catch trial,left,c1
13,1772000010000,3141,5926,END TASK,,,,,,,,,,,
END OF FILE,,,,,,,,,,,,,,,
"""


def test_gorilla_gives_first_answers_in_seconds() -> None:
    part = translated(GORILLA)
    assert (part.tool, part.faults, part.rows) == ("Gorilla", (), [5, 7, 10, 12, 13])
    assert part.cells["participant"] == ["3141"] * 5
    assert part.cells["trial"] == [1, 2, 3, 4, 5]
    assert part.cells["correct"] == [1, 0, None, 1, 1]
    assert part.cells["response"] == ["left", "right", None, "left", "left"]
    assert part.cells["rt"] == pytest.approx([0.9, 1.2345, None, 0.8, 0.4], nan_ok=True)
    assert part.cells["phase"] == ["practice", "main", "main", "main", "main"]
    assert part.cells["catch"] == [False, False, False, False, True]
    assert part.cells["started"] == ["2026-02-25T06:13:20+00:00"] * 5
    assert part.cells["instruction_time"] == [20.5005] * 5
    assert part.cells["experiment"] == ["5926"] * 5
    assert part.cells["Reaction Time"][0] == "900"
    assert part.notes == (
        "Gorilla: 7 rows of other events, such as instructions and fixation, are no trials.",
        "Gorilla: 1 further attempt at a trial is set aside.",
        "Gorilla: 1 answer neither Correct nor Incorrect is set aside.",
        "Gorilla: 1 trial that timed out is without an answer.",
        "Gorilla: 'Reaction Time' in milliseconds is read as rt in seconds.",
    )


def test_gorillas_second_task_builder_says_what_is_a_response() -> None:
    part = translated(
        "Event Index,UTC Timestamp,Participant Private ID,Trial Number,Screen,Response Type,Reaction Time,Response,"
        "Correct,Incorrect,Display,Spreadsheet: stimulus,Spreadsheet: depth\n"
        "1,1772000000000,1,1,choice,info,10,audio started,,,task,s1,0.5\n"
        "2,1772000000000,1,1,choice,response,750,left,1,,task,s1,0.5\n"
        "3,1772000000000,1,2,choice,timed out,3000,,,,task,s2,0.5\n"
        "4,1772000000000,2,1,choice,response,250,left,,1,task,s1,0.5\n"
        "5,1772000000000,2,1,choice,continue,90,,,,task,s1,0.5\n"
        "END OF FILE,,,,,,,,,,,,\n"
    )
    assert part.rows == [3, 4, 5]
    assert part.cells["correct"] == [1, None, 0]
    assert part.cells["trial"] == [1, 2, 1]
    assert part.cells["stimulus"] == ["s1", "s2", "s1"]
    assert part.cells["rt"] == [0.75, None, 0.25]


def test_a_download_that_was_cut_off_is_warned_of() -> None:
    part = translated(GORILLA.strip().rsplit("\n", 1)[0])
    (fault,) = part.faults
    assert (fault.severity, "END OF FILE" in fault.message) == ("warning", True)


def test_a_file_without_answers_is_a_fault() -> None:
    for text in (PSYCHOPY, GORILLA):
        lines = text.strip().split("\n")[: 2 + (text is GORILLA)]
        part = translated("\n".join(lines))
        assert part.rows == []
        assert any("holds no answers" in fault.message for fault in part.faults)


def test_a_dropped_trial_moves_no_other() -> None:
    for text, dropped in ((PSYCHOPY, 6), (GORILLA, 11)):
        lines = text.strip().split("\n")
        whole, less = translated(text), translated("\n".join(lines[: dropped - 1] + lines[dropped:]))
        for name in ("stimulus", "correct", "response"):
            pairs = dict(zip(whole.cells["stimulus"], whole.cells[name], strict=True))
            assert [pairs[one] for one in less.cells["stimulus"]] == less.cells[name]


# Plain tables ----------------------------------------------------------------------------------------------------


def test_plain_tables_are_not_taken_for_a_tools() -> None:
    with (ROOT / "data/colin2024_simulated/trials.csv").open() as file:
        assert recognise(next(csv.reader(file))) is None
    assert recognise(list(COLUMNS)) is None
    assert recognise([]) is None


def test_a_table_that_was_made_from_psychopys_is_not_taken_for_it(reference: Path) -> None:
    with (reference / "borowski2021_experiment_I_raw.csv").open() as file:
        assert recognise(next(csv.reader(file))) is None


@pytest.mark.parametrize("text", [PSYCHOPY, GORILLA])
def test_without_its_signature_a_table_is_plain(text: str) -> None:
    dialect = recognise(list(read(text).cells))
    assert dialect is not None
    for name in dialect.signature:
        assert recognise(list(without(text, name).cells)) is None


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.data())
def test_no_table_is_an_exception(data: st.DataObject) -> None:
    part = read(data.draw(st.sampled_from([PSYCHOPY, GORILLA])))
    for _ in range(data.draw(st.integers(0, 30))):
        name = data.draw(st.sampled_from(sorted(part.cells)))
        row = data.draw(st.integers(0, len(part.rows) - 1))
        part.cells[name][row] = data.draw(st.text(max_size=8) | st.none() | st.integers() | st.floats() | st.booleans())
    gone = data.draw(st.sets(st.sampled_from(sorted(part.cells)), max_size=4))
    part = replace(part, cells={name: cells for name, cells in part.cells.items() if name not in gone})
    for dialect in DIALECTS:  # a study may name the tool, whatever the columns are
        found = translate(part, dialect)
        assert found.rows or found.faults
        assert all(len(column) == len(found.rows) for column in found.cells.values())
