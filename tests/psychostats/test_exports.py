"""The maker of exports: what it writes holds the same answers as the table that it was given."""

import csv
import io
import json
import time
import zipfile

import numpy as np
import pandas as pd
import pytest
from exports import SERVER, to_jatos_text, to_jatos_zip, to_jspsych, to_zimmermann
from studies import SMALL, contents

from psychostats.study import read_study


@pytest.fixture(scope="module")
def frame():
    return read_study(SMALL).simulated_trials()


def cells(frame, *names):
    """Return columns as plain lists, None where a cell holds nothing."""
    return [frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in names]


def in_order(frame, made, of):
    """Return a value of every answer in the files, in the order of the table's rows."""
    found = {person: iter(made[who]) for person, who in of.items()}
    return [next(found[person]) for person in frame["participant"]]


def test_the_layout_of_2023_holds_the_tables_answers(frame, tmp_path):
    made = to_zimmermann(frame, tmp_path / "raw")
    posted = {path.stem: json.loads(path.read_bytes()) for path in made.files}
    assert [path.stem for path in made.files] == list(made.ids.values())
    assert all(set(one) == {"main_data", "raw_data", "task_id"} for one in posted.values())
    answers = {who: [row for row in one["raw_data"] if "correct" in row] for who, one in posted.items()}
    rows = in_order(frame, answers, made.ids)
    correct, rt, confidence, response = cells(frame, "correct", "rt", "confidence", "response")
    answered = [one is not None for one in correct]
    assert 0 < sum(answered) < len(frame)
    assert [row["correct"] for row in rows] == [None if one is None else bool(one) for one in correct]
    expected = [None if not there else round(1000 * one) for one, there in zip(rt, answered, strict=True)]
    assert [row["rt"] for row in rows] == expected
    assert [row["confidence"] for row in rows if row["rt"] is not None] == [
        one for one, there in zip(confidence, answered, strict=True) if there
    ]
    assert [row["catch_trial"] for row in rows] == frame["catch"].tolist()
    assert [row["is_demo"] for row in rows] == (frame["phase"] == "practice").tolist()
    # The upper query is the right one unless the two are switched, and buttons 0 to 2 are below the upper one.
    for row, side in zip(rows, response, strict=True):
        if row["rt"] is not None:
            upper = (row["choice"] == "a") != row["switched_queries"]
            assert (row["choice"] == "a") == row["correct"]
            assert (side == "left") == upper == (int(row["button_pressed"]) < 3)
            assert int(row["button_pressed"]) % 3 == row["confidence"] - 1
    for one in posted.values():
        raw = one["raw_data"]
        assert [row["trial_index"] for row in raw] == list(range(len(raw)))
        assert np.diff([row["time_elapsed"] for row in raw]).min() > 0
        assert [row["trial_type"] for row in raw[:4]] == [
            "browser-check", "html-button-response", "instructions", "instructions",
        ]  # fmt: skip
        assert all(row["rt"] > 0 for row in raw[1:4])
        assert one["main_data"] == [row for row in raw if row.get("is_demo") is False]


def test_the_key_says_what_each_stimulus_showed(frame, tmp_path):
    made = to_zimmermann(frame, tmp_path / "raw", references=3)
    assert made.key["stimulus"].is_unique
    key = made.key.set_index("stimulus")
    answers = {}
    for path in made.files:
        answers[path.stem] = [row for row in json.loads(path.read_bytes())["raw_data"] if "correct" in row]
    rows = in_order(frame, answers, made.ids)
    places = []
    for row in rows:
        images = [path for name in ("max_query", "min_query", "max_references", "min_references") for path in row[name]]
        assert len(images) == 8
        (place,) = {path.removeprefix(f"{SERVER}/colin/").rsplit("/", 2)[0] for path in images}
        places.append(place)
    for name in ("experiment", "representation", "layer", "depth", "feature", "pair"):
        joined, expected = cells(key.loc[places], name)[0], cells(frame, name)[0]
        assert joined == expected, name
    assert cells(key.loc[places], "item") == cells(frame, "stimulus")
    assert {place.startswith("demo_") for place, row in zip(places, rows, strict=True) if row["is_demo"]} == {True}


@pytest.mark.parametrize("write", ["json", "csv", "json of all", "csv of all", "zip", "text"])
def test_what_jspsych_and_jatos_write_holds_the_tables_answers(frame, tmp_path, write):
    if write == "zip":
        made = to_jatos_zip(frame, tmp_path / "jatos.zip")
        with zipfile.ZipFile(made.files[0]) as bundle:
            assert bundle.namelist()[0] == "study_result_101/comp-result_101/data.txt"
            lists = [json.loads(bundle.read(name)) for name in bundle.namelist()]
    elif write == "text":
        made = to_jatos_text(frame, tmp_path / "jatos.txt")
        lists = [json.loads(line) for line in made.files[0].read_text("utf-8").splitlines()]
    else:
        kind, _, together = write.partition(" ")
        made = to_jspsych(frame, tmp_path / "raw", kind=kind, together=bool(together))
        texts = [path.read_bytes().decode() for path in made.files]
        assert len(texts) == (1 if together else frame["participant"].nunique())
        if kind == "json":
            lists = [json.loads(text) for text in texts]
        else:
            tables = [csv.DictReader(io.StringIO(text, newline=""), strict=True) for text in texts]
            lists = [[{name: cell for name, cell in row.items() if cell != ""} for row in table] for table in tables]
    answers = {}
    for row in (row for one in lists for row in one):
        if row["trial_type"] == "image-button-response":
            answers.setdefault(row["prolific_pid"], []).append(row)
    rows = in_order(frame, answers, made.ids)
    held = pd.DataFrame(rows)
    for name in ("correct", "confidence", "depth", "trial"):
        pd.testing.assert_series_equal(
            pd.to_numeric(held[name]).astype(float), frame[name].astype(float).reset_index(drop=True)
        )
    np.testing.assert_allclose(pd.to_numeric(held["rt"]), 1000 * frame["rt"], atol=1e-6)
    for name in ("phase", "representation", "layer", "pair", "stimulus", "response", "experiment"):
        assert cells(held, name) == cells(frame, name), name


def test_the_same_seed_gives_the_same_bytes_and_another_other_ids(frame, tmp_path):
    def everything(place, seed):
        place.mkdir()
        ids = to_zimmermann(frame, place / "2023", seed, references=2).ids
        to_jspsych(frame, place / "csv", seed, "csv", together=True)
        to_jatos_zip(frame, place / "jatos.zip", seed)
        to_jatos_text(frame, place / "jatos.txt", seed)
        return ids

    assert everything(tmp_path / "a", 1) == everything(tmp_path / "b", 1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    ids = everything(tmp_path / "c", 2)
    assert not set(ids.values()) & {path.stem for path in (tmp_path / "a" / "2023").iterdir()}
    assert all(len(one) == 24 and int(one, 16) >= 0 for one in ids.values())


def test_thousands_of_files_are_made_quickly(tmp_path):
    people = [f"p{number}" for number in range(1000)]
    frame = pd.DataFrame({"participant": np.repeat(people, 5), "correct": 1, "rt": 2.5})
    start = time.perf_counter()
    assert len(to_zimmermann(frame, tmp_path / "raw", references=2).files) == 1000
    assert time.perf_counter() - start < 20
