"""Databases: what SQLite and a real PostgreSQL server hold, as cells."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postgresql import PASSWORD

from psychostats.databases import hide_password, read_server, read_sqlite, split_source
from psychostats.parts import Part


def said(part: Part) -> str:
    assert part.rows == []
    (fault,) = part.faults
    assert "\n" not in fault.message
    return fault.message


def make(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return path


# Notation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "source", "table"),
    [
        ("study.sqlite#trials", "study.sqlite", "trials"),
        ("study.sqlite", "study.sqlite", None),
        ("study.sqlite#", "study.sqlite", None),
        ("results.xlsx#Sheet 2", "results.xlsx", "Sheet 2"),
        ("results.xlsx#No. #2", "results.xlsx", "No. #2"),
        ("my#study.csv", "my#study.csv", None),
        ("postgresql://u@h/db#public.trials", "postgresql://u@h/db", "public.trials"),
        ("postgresql://u:p#w@h/db", "postgresql://u:p#w@h/db", None),
        ("postgresql://u@h/db", "postgresql://u@h/db", None),
        ("#", "#", None),
        ("", "", None),
        ("\0#x", "\0#x", None),
    ],
)
def test_a_table_is_named_behind_a_hash(text: str, source: str, table: str | None) -> None:
    assert split_source(text) == (source, table)


def test_a_file_whose_name_holds_a_hash_is_meant_before_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.sqlite#b").touch()
    assert split_source("a.sqlite#b") == ("a.sqlite#b", None)
    assert split_source("a.sqlite#b#c") == ("a.sqlite#b", "c")
    Path("plain").touch()
    assert split_source("plain#trials") == ("plain", "trials")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:secret@h/db",
        "postgresql://u:sec/ret@h/db",
        "postgresql://u:se@cret@h/db",
        "postgresql://u@h/db?password=secret&x=1",
        "postgresql://u:secret words@h/db",
        "nonsense//u:secret@h",
    ],
)
def test_passwords_are_hidden(text: str) -> None:
    hidden = hide_password(text)
    assert "***" in hidden
    assert "cret" not in hidden


def test_an_address_without_a_password_stays() -> None:
    assert hide_password("postgresql://u@h:5432/db") == "postgresql://u@h:5432/db"


# SQLite ----------------------------------------------------------------------------------------------------------


def test_sqlite_gives_every_kind_of_value_in_an_order_of_its_own(tmp_path: Path) -> None:
    path = make(
        tmp_path / "study.db",
        "CREATE TABLE trials (rt REAL, trial INTEGER, participant TEXT, correct BOOLEAN, note BLOB)",
        "INSERT INTO trials VALUES (0.5, 10, 'b', 1, x'6869'), (0.25, 2, 'b', 0, NULL), (NULL, 1, 'a', 1, NULL)",
    )
    part = read_sqlite(path)
    assert part.cells == {
        "rt": [None, 0.25, 0.5],
        "trial": [1, 2, 10],
        "participant": ["a", "b", "b"],
        "correct": [1, 0, 1],
        "note": [None, None, "hi"],
    }
    assert (part.rows, part.tool, part.faults, part.words) == ([1, 2, 3], "SQLite", (), {"participant", "note"})
    assert "participant, trial, then all columns" in part.notes[0]


def test_two_readings_agree_however_rows_were_written(tmp_path: Path) -> None:
    rows = ["('p', 1, 'x')", "('p', 1, 'y')", "('o', 2, NULL)", "('p', NULL, 'x')"]
    parts = []
    for number, order in enumerate((rows, rows[::-1])):
        path = make(
            tmp_path / f"{number}.db",
            "CREATE TABLE t (participant, trial, z)",
            f"INSERT INTO t VALUES {','.join(order)}",
        )
        parts.append(read_sqlite(path))
    assert parts[0] == parts[1]


def test_tables_and_views_are_chosen_by_name_and_quoted(tmp_path: Path) -> None:
    name = 'tri"als; DROP TABLE b'
    path = make(
        tmp_path / "s.db",
        'CREATE TABLE "tri""als; DROP TABLE b" (x)',
        'INSERT INTO "tri""als; DROP TABLE b" VALUES (1)',
        "CREATE TABLE b (x)",
        "INSERT INTO b VALUES (2)",
        "CREATE VIEW seen AS SELECT x + 1 AS y FROM b",
    )
    assert read_sqlite(path, name).cells == {"x": [1]}
    assert read_sqlite(path, "seen").cells == {"y": [3]}
    assert "has 3 tables ('b', 'seen', " in said(read_sqlite(path))
    assert "has no table 'sean' (did you mean 'seen'?)" in said(read_sqlite(path, "sean"))
    assert "has no table 'b; DROP TABLE b'" in said(read_sqlite(path, "b; DROP TABLE b"))
    assert read_sqlite(path, "b").cells == {"x": [2]}


def test_what_still_stands_in_the_journal_is_read(tmp_path: Path) -> None:
    path = tmp_path / "open.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.commit()
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
        assert Path(f"{path}-wal").stat().st_size
        assert read_sqlite(path).cells == {"x": [1]}


def test_reading_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = make(tmp_path / "s.db", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    before = path.read_bytes()
    read_sqlite(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["s.db"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no tables"),
        (b"not a database at all, but text of some length" * 9, "file is not a database"),
        (None, "is no file"),
    ],
)
def test_files_that_are_no_database_are_one_sentence(tmp_path: Path, data: bytes | None, words: str) -> None:
    path = tmp_path / "s.db"
    if data is not None:
        path.write_bytes(data)
    assert words in said(read_sqlite(path))
    assert "is no file" in said(read_sqlite(tmp_path))


def test_an_empty_table_and_text_that_is_none_are_faults(tmp_path: Path) -> None:
    assert "no rows in table 't'" in said(read_sqlite(make(tmp_path / "1.db", "CREATE TABLE t (x)")))
    path = make(tmp_path / "2.db", "CREATE TABLE t (x TEXT)", "INSERT INTO t VALUES (CAST(x'ff41' AS TEXT))")
    assert "Could not decode" in said(read_sqlite(path))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "s.db"
    rows = ",".join(f"('p{n % 7}', {n}, 'text {n}')" for n in range(300))
    return make(path, "CREATE TABLE t (a TEXT, b INT, c TEXT)", f"INSERT INTO t VALUES {rows}").read_bytes()


@settings(derandomize=True, max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_are_faults_or_cells_and_never_exceptions(
    data: st.DataObject, good: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 20)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.db"
    path.write_bytes(damaged)
    part = read_sqlite(path)
    assert part.rows or part.faults


# Servers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(postgresql: Any) -> Iterator[Any]:
    postgresql.execute(
        "CREATE TYPE side AS ENUM ('left', 'right')",
        "CREATE TABLE trials (trial int, participant text, correct boolean, rt interval, depth numeric(5, 3), "
        "response side, started timestamptz, pictures text[], extra jsonb, id uuid, big numeric, raw bytea)",
        "INSERT INTO trials VALUES (10, 'p1', true, '1.5 seconds', 0.125, 'left', '2026-11-29 10:00:00+00', "
        "'{a.png,b.png}', '{\"key\": 1}', '00000000-0000-0000-0000-000000000001', 12345678901234567890, '\\x6869')",
        "INSERT INTO trials (trial, participant, correct, depth) VALUES (2, 'p1', false, 1), (1, 'ö', NULL, NULL)",
        "CREATE SCHEMA other",
        'CREATE TABLE other."odd ""name; --" (x int)',
        'INSERT INTO other."odd ""name; --" VALUES (7)',
        "CREATE VIEW main AS SELECT participant, trial FROM trials WHERE trial > 1",
        "CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one",
        "CREATE TABLE empty (x int)",
    )
    yield postgresql


def test_postgresql_gives_every_kind_of_value(lab: Any) -> None:
    part = read_server(lab.url(), "trials")
    assert part.faults == ()
    assert part.tool == "PostgreSQL"
    assert part.cells["participant"] == ["p1", "p1", "ö"]
    assert part.cells["trial"] == [2, 10, 1]
    assert part.cells["correct"] == [False, True, None]
    assert part.cells["rt"] == [None, 1.5, None]
    assert part.cells["depth"] == [1, 0.125, None]
    assert part.cells["response"] == [None, "left", None]
    assert str(part.cells["started"][1]).startswith("2026-11-29T1")
    assert json.loads(part.cells["pictures"][1]) == ["a.png", "b.png"]
    assert json.loads(part.cells["extra"][1]) == {"key": 1}
    assert part.cells["id"][1] == "00000000-0000-0000-0000-000000000001"
    assert part.cells["big"][1] == pytest.approx(1.2345678901234567e19)
    assert part.cells["raw"][1] == "hi"
    assert any("Intervals are read in seconds: 'rt'" in note for note in part.notes)
    assert part == read_server(lab.url(), "public.trials")


def test_views_and_tables_of_other_schemas_are_read_whatever_their_names(lab: Any) -> None:
    assert read_server(lab.url(), "main").cells == {"participant": ["p1", "p1"], "trial": [2, 10]}
    assert read_server(lab.url(), "kept").cells == {"one": [1]}
    assert read_server(lab.url(), 'other.odd "name; --').cells == {"x": [7]}
    assert read_server(lab.url(), 'odd "name; --').cells == {"x": [7]}
    assert "no rows in table 'empty'" in said(read_server(lab.url(), "empty"))
    assert "has no table 'trails' (did you mean 'trials'?)" in said(read_server(lab.url(), "trails"))
    assert "has no table 'trials; DROP TABLE trials'" in said(read_server(lab.url(), "trials; DROP TABLE trials"))
    assert "has 5 tables ('empty', 'kept', 'main', 'trials', 'other.odd \"name; --')" in said(read_server(lab.url()))


def test_the_only_table_needs_no_name(lab: Any) -> None:
    with psycopg.connect(lab.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE single")
    with psycopg.connect(lab.url(database="single")) as connection:
        connection.execute("CREATE TABLE answers (participant text)")
        connection.execute("INSERT INTO answers SELECT 'p' || n FROM generate_series(1, 25000) n")
    part = read_server(lab.url(database="single"))
    assert len(part.rows) == 25_000  # more than one chunk
    assert part.cells["participant"][:2] == ["p1", "p10"]


def test_a_server_is_only_read(lab: Any) -> None:
    lab.execute(
        "CREATE FUNCTION write() RETURNS int LANGUAGE sql AS 'INSERT INTO empty VALUES (1) RETURNING x'",
        "CREATE VIEW writing AS SELECT write()",
    )
    assert "read-only transaction" in said(read_server(lab.url(), "writing"))
    assert "no rows" in said(read_server(lab.url(), "empty"))
    lab.execute("DROP VIEW writing", "DROP FUNCTION write")


def test_what_fails_on_the_way_is_one_sentence_without_the_password(lab: Any) -> None:
    address = lab.url()
    tries = [
        (lab.url(password="wrong/pass@word"), "password authentication failed for user"),
        (address.replace(f":{lab.port}/", ":1/"), "Connection refused"),
        (address.replace("/postgres", "/nowhere"), 'database "nowhere" does not exist'),
        (address.replace("postgresql://", "nosuchserver://"), "driver is missing"),
        (address.replace("postgresql://", "postgresql+nosuch://"), "driver is missing"),
        (address.replace("postgresql://", "sqlite://"), "name the file itself"),
        (address.replace(f":{lab.port}/", ":port/"), "is no address"),
        ("postgresql:" + address, "is no address"),
        (f"postgresql://127.0.0.1:{lab.port}/postgres?user=lab&password={quote(PASSWORD, safe='')}x", "authentication"),
    ]
    for url, words in tries:
        message = said(read_server(url, "trials"))
        assert words in message, message
        for secret in (PASSWORD, quote(PASSWORD, safe=""), "wrong/pass@word", "s3cret", "wrong"):
            assert secret not in message, message


def test_without_sqlalchemy_it_is_said_what_to_install() -> None:
    code = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "from psychostats.databases import read_server\n"
        "print(read_server('postgresql://u:secret@h/db').faults[0].message)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be read without SQLAlchemy; install psychostats with the extra 'databases'" in done.stdout
    assert "secret" not in done.stdout


@settings(derandomize=True, max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
def test_no_address_is_an_exception(text: str) -> None:
    source, table = split_source(text)
    assert isinstance(source, str)
    if "://" not in text:  # else somebody might be asked
        assert read_server(f"nosuch+{source}", table).faults
