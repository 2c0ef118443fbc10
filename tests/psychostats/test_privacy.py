"""Columns that could identify people are found, others are not, and no value is shown whole."""

import os
from pathlib import Path

import pandas as pd
import pytest
from commands import call
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import ROOT

from psychostats.privacy import find_identifying, mask
from psychostats.tabular import read_raw

PEOPLE = 8
TRIALS = 3
NAMES = ["Anna Schmidt", "Bo Li", "Carla Ruiz", "Dan Brown", "Eve Stone", "Finn Huber", "Gül Aydın", "Hana Mori"]


def found_in(**columns):
    """Return what is found, by column, in a table of 8 people with 3 trials each; a list of 8 is one value a person."""
    rows = {name: [one for one in values for _ in range(TRIALS)] for name, values in columns.items()}
    table = pd.DataFrame({"participant": [f"s{i // TRIALS}" for i in range(PEOPLE * TRIALS)], **rows})
    return {one.column: one for one in find_identifying(read_raw(table))}


CONTENTS = {
    "ids of a platform": [f"{0x5F00_0000_0000_0000_0000_0000 + 7919 * i:024x}" for i in range(PEOPLE)],
    "e-mail": [f"person{i}@example.org" for i in range(PEOPLE)],
    "network": [f"203.0.113.{i}" for i in range(PEOPLE)],
    "phone": [f"+49 89 12345{i}" for i in range(PEOPLE)],
    "pages with ids": [f"https://lab.example/run?PROLIFIC_PID=p{i}&x=1" for i in range(PEOPLE)],
    "places on earth": [f"48.13{i}71, 11.57{i}54" for i in range(PEOPLE)],
    "dates of birth": [f"19{60 + 5 * i}-04-1{i}" for i in range(PEOPLE)],
    "bank accounts": ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819"] * 4,
    "payment cards": ["4111 1111 1111 1111", "5500005555555559"] * 4,
    "a value of one's own": NAMES,
}


@pytest.mark.parametrize("what", CONTENTS)
def test_values_are_known_by_what_they_are(what):
    found = found_in(column=CONTENTS[what])
    assert what in found["column"].why
    assert found["column"].cells == PEOPLE * TRIALS
    assert found["column"].example not in CONTENTS[what] and "***" in found["column"].example


@pytest.mark.parametrize("address", ["2001:db8::8a2e:370:7334", "fe80::1ff:fe23:4567:890a"])
def test_long_network_addresses_are_known(address):
    assert "network" in found_in(column=[address] * PEOPLE)["column"].why


@pytest.mark.parametrize(
    "phone", ["+1 (555) 123-4567", "(555) 123-4567", "555-123-4567", "089/1234567", "0171 2345678", "0049 89 123456"]
)
def test_phone_numbers_are_known_as_people_write_them(phone):
    assert "phone" in found_in(column=[phone] * PEOPLE)["column"].why


def test_free_text_is_named():
    texts = [f"I live near the river {word} and I liked it" for word in "abcdefgh"]
    table = pd.DataFrame({"participant": range(8), "comments": texts})
    (found,) = find_identifying(read_raw(table))
    assert found.why == "free text" and "river" not in found.example


HARMLESS = {
    "filename": ["a.png", "b.png"],
    "file_name": ["a.png", "b.png"],
    "unit_name": ["4b, P int.", "mixed3a, 12"],
    "zipped": ["yes", "no"],
    "zip_file": ["a", "b"],
    "description": ["short words", "other words"],
    "ship": ["titanic", "hms"],
    "recipe": ["tea", "toast"],
    "latency": ["0.5", "0.6"],
    "relation": ["same", "other"],
    "shipping_lane": ["a", "b"],
    "email_sent_time": ["1", "2"],
    "mobile": ["true", "false"],
    "browser": ["true", "false"],
    "session_id": ["1", "2"],
    "memory_address": ["0x1", "0x2"],
    "screen_name_length": ["1", "2"],
    "plzen": ["a", "b"],
    "time_elapsed": ["1700000000123", "1700000000456"],
    "clock": ["12:30:45", "09:15:00"],
    "version": ["7.3.4", "1.2.3.4.5"],
    "recorded": ["2026-11-29", "2026-11-30"],
    "mouse": ["0.12345, 0.54321", "0.99999, 0.11111"],
    "position": ["512.33333, 300.25000", "511.00000, 299.12345"],
    "span": ["100-200", "10-12"],
    "digits": ["000123456", "000123457"],
    "sha": ["0123456789abcdef" * 4, "f" * 64],
    "word": ["ADVERTISEMENT", "ARCHITECTURE"],
    "prompt": ["Which of the two images goes with these references?", "Is this image rather like the ones above?"],
    "ratio": ["4:3", "16:9"],
    "paths": ["img/layer3/channel_12/max_9.png", "img/layer3/channel_12/min_0.png"],
    "images": ['["a_1.png","a_2.png"]', '["b_1.png","b_2.png"]'],
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_like_it_is_left_alone(name):
    assert found_in(**{name: HARMLESS[name] * (PEOPLE // 2)}) == {}


SPELLINGS = [
    "name", "firstName", "last_name", "Vorname", "Nachname", "email", "E-Mail", "participantEmail", "ip",
    "ip_address", "participant.ip", "phone", "Telefon", "Handynummer", "postcode", "PLZ", "zip", "zip_code",
    "Straße", "date_of_birth", "Geburtsdatum", "Country of birth", "userAgent", "user_agent", "browser", "latitude",
    "gps_lat", "deviceId", "worker_id", "workerId", "PROLIFIC_PID", "prolificPid", "SESSION_ID", "student_number",
    "Matrikelnummer", "signature", "Unterschrift", "home_address", "assignmentId", "IBAN",
]  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_names_are_known_in_two_languages_and_every_spelling(name):
    found = found_in(**{name: ["something", "other"] * (PEOPLE // 2)})
    assert found[name].why.startswith("the name says")


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=30))
def test_a_value_is_never_shown_whole(text):
    shown = mask(text)
    assert text not in shown or set(text) <= {"*"}
    assert len(shown.replace("***", "", 1)) <= len(text) / 2
    assert mask(text * 2).count("***") >= 1


def test_one_finding_a_column_in_order_with_every_reason():
    found = find_identifying(
        read_raw(pd.DataFrame({"email": ["a.b@example.org", "none"], "x": [1, 2], "note": ["203.0.113.9", ""]}))
    )
    assert [one.column for one in found] == ["email", "note"]
    assert found[0].why == "the name says an e-mail address; e-mail addresses" and found[0].cells == 2
    assert found[1].cells == 1


@pytest.mark.parametrize("participant", ["participant", "subject", "PROLIFIC_PID"])
def test_the_column_of_participants_is_no_finding_unless_platforms_gave_its_ids(participant):
    plain = pd.DataFrame({participant: [f"vp{i}" for i in range(8)], "correct": [0, 1] * 4})
    assert {one.column for one in find_identifying(read_raw(plain))} <= {"PROLIFIC_PID"}
    (found,) = find_identifying(read_raw(plain.assign(**{participant: CONTENTS["ids of a platform"]})))
    assert "pseudonyms" in found.advice


def test_measures_are_no_quasi_identifiers():
    assert found_in(total_time=[str(i) for i in range(8)], slope=[str(i / 7) for i in range(8)]) == {}
    assert found_in(condition=["a", "b"] * 4) == {}
    varying = pd.DataFrame({"participant": list("aabbccddee"), "item": list("abcdefghij")})
    assert find_identifying(read_raw(varying)) == []


def test_the_studies_at_hand_hold_nothing():
    assert find_identifying(read_raw(ROOT / "data" / "colin2024_simulated" / "trials.csv")) == []
    folder = os.environ.get("PSYCHOSTATS_REFERENCE")
    if folder and (raw := Path(folder) / "borowski2021_experiment_I_raw.csv").exists():
        assert find_identifying(read_raw(raw)) == []


def test_the_command_prints_findings_and_ends_well(tmp_path, capsys, monkeypatch):
    file = tmp_path / "trials.csv"
    rows = [f"p{i},{name},person{i}@example.org,1" for i, name in enumerate(NAMES)]
    file.write_text("\n".join(["who,vorname,contact,correct", *rows]), encoding="utf-8")
    answer = call(capsys, monkeypatch, "check", file, "--privacy", "--map", "participant=who")
    assert answer.code == 0 and "2 columns" in answer.err
    assert [line.partition(":")[0] for line in answer.out.splitlines()] == ["vorname", "contact"]
    assert not [word for word in (*NAMES, "person1@example.org") if word in answer.out]
    (first, second) = call(capsys, monkeypatch, "check", file, "--privacy", "--json").data["findings"]
    assert set(first) == {"column", "why", "example", "cells", "advice"} and second["cells"] == 8


def test_what_cannot_be_read_ends_with_2(tmp_path, capsys, monkeypatch):
    assert call(capsys, monkeypatch, "check", tmp_path / "none.csv", "--privacy").code == 2
    (tmp_path / "empty.csv").touch()
    answer = call(capsys, monkeypatch, "check", tmp_path / "empty.csv", "--privacy")
    assert answer.code == 2 and "empty" in answer.err and answer.out == ""
