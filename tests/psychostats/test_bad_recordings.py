"""Bad files through ``check``: each fault one sentence with its file, exit code 2, and the good files still usable."""

from __future__ import annotations

import io
import json
import re
import stat
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest
from commands import call
from recordings_made import encoded, session, table, zipped

FORMULA = "correct ~ representation + (1 | participant)"
TIMES = "rt ~ representation + (1 | participant)"


@dataclass(frozen=True)
class Bad:
    """A bad file, or several, beside two good ones.

    Parameters
    ----------
    name
        Of the case.
    files
        Name -> bytes.
    says
        What the errors say, a pattern each, in any order; each is one line.
    trials
        How many are left with ``--skip-bad`` (the two good files hold 12); None where the fault is of no file.
    formula
        What is asked of the trials.
    """

    name: str
    files: dict[str, bytes]
    says: tuple[str, ...]
    trials: int | None = 12
    formula: str = FORMULA


def changed(number: int = 3, person: str = "s9", **cells: Any) -> bytes:
    """Return a good session but for some cells of one record."""
    records = session(person)
    records[number] |= cells
    return encoded(records)


def lacking(key: str) -> bytes:
    return encoded([{name: cell for name, cell in one.items() if name != key} for one in session("s9")])


def text(old: str, new: str, person: str = "s9") -> bytes:
    """Return a good session with the first of a text replaced."""
    made = encoded(session(person)).decode()
    assert old in made
    return made.replace(old, new, 1).encode()


def member(name: str, data: bytes = b"[]", **attributes: Any) -> bytes:
    """Return an archive whose one member has these attributes, as no tool would write it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo(name)
        for key, value in attributes.items():
            setattr(info, key, value)
        archive.writestr(info, data)
    return stream.getvalue()


def encrypted() -> bytes:
    """Return an archive that says that its member is encrypted."""
    data = bytearray(zipped({"a.json": encoded(session("s9"))}))
    data[6] |= 1  # the flags of the local header, and of the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def damaged() -> bytes:
    data = bytearray(zipped({"a.json": encoded(session("s9", 40))}))
    data[80] ^= 0xFF
    return bytes(data)


def lying() -> bytes:
    """Return an archive whose directory says that a member is small."""
    data = bytearray(zipped({"a.json": b"[" + b" " * 30_000_000 + b"]"}))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 100)
    data[22:26] = struct.pack("<I", 100)
    return bytes(data)


def workbook(rows: list[list[Any]]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def parquet(**columns: list[Any]) -> bytes:
    stream = io.BytesIO()
    pd.DataFrame(columns).to_parquet(stream)
    return stream.getvalue()


def plain(rows: str, header: str = "participant,trial,representation,correct,rt") -> bytes:
    return f"{header}\n{rows}".encode()


GOOD = "s9,1,local,1,0.5\ns9,2,distributed,0,0.7\n"
TWICE = session("s9")
BOMB = zipped({"a.json": b"[" + b" " * 40_000_000 + b"]"})

CASES = [
    # JSON that is none, or not of trials
    Bad(
        "truncated JSON", {"p.json": encoded(session("s9"))[:-200]}, (r"'p\.json' is cut off: its JSON ends .* line 1",)
    ),
    Bad("truncated in a text", {"p.json": encoded(session("s9"))[:25]}, (r"'p\.json' is cut off",)),
    Bad("a stray comma", {"p.json": text("},", "},,")}, (r"'p\.json' is not JSON: .* in line 1, column \d+",)),
    Bad("single quotes", {"p.json": b"[{'correct': true}]"}, (r"'p\.json' is not JSON: .*property name",)),
    Bad("HTML of an error", {"p.json": b"<html>502 Bad Gateway</html>"}, (r"'p\.json' is not JSON: expecting value",)),
    Bad("a number", {"p.json": b"42"}, (r"'p\.json' holds a number, where a list of trials should be",)),
    Bad("a text", {"p.json": b'"abc"'}, (r"'p\.json' holds text, where",)),
    Bad("null", {"p.json": b"null"}, (r"'p\.json' holds nothing \(null\), where",)),
    Bad("true", {"p.json": b"true"}, (r"'p\.json' holds true or false, where",)),
    Bad("an empty object", {"p.json": b"{}"}, (r"'p\.json' holds no trials",)),
    Bad("an empty list", {"p.json": b"[]"}, (r"'p\.json' holds .*no trials",)),
    Bad("a list of numbers", {"p.json": b"[1, 2]"}, (r"'p\.json' holds a number where record 1",)),
    Bad("a number among records", {"p.json": b'[{"correct": 1, "rt": 3}, 7]'}, (r"a number where record 2",)),
    Bad("blanks only", {"p.json": b" \n \n"}, (r"'p\.json' holds only blanks",)),
    Bad("nested too deeply", {"p.json": b"[" * 100_000 + b"]" * 100_000}, (r"'p\.json' is nested too deeply",)),
    Bad("objects nested too deeply", {"p.json": b'{"a":' * 100_000 + b"1" + b"}" * 100_000}, (r"nested too deeply",)),
    Bad("a key twice", {"p.json": text('"correct": ', '"correct": true, "correct": ')}, (r"key 'correct' twice",)),
    Bad(
        "thousands of digits",
        {"p.json": text('"rt": ', '"rt": ' + "9" * 5000)},
        (r"a number with thousands of digits",),
    ),
    Bad("half a surrogate pair", {"p.json": text("img/0", "img/\\ud800")}, (r"half of a surrogate pair in record 3",)),
    Bad("a raw control sign", {"p.json": text("img/0", "img/\x01")}, (r"'p\.json' is not JSON: invalid control",)),
    Bad(
        "garbage after the list", {"p.json": encoded(session("s9")) + b"garbage"}, (r"'p\.json' is not JSON: .*value",)
    ),
    Bad(
        "posted text that is cut off",
        {"p.json": encoded({"raw_data": '[{"correct": tr', "task_id": "1"})},
        (r"p\.json, raw_data' is (cut off|not JSON)",),
    ),
    # Encodings
    Bad(
        "Latin-1",
        {"p.json": encoded(session("s9")).replace(b"img/0", b"Ren\xe9")},
        (r"'p\.json' is not UTF-8: byte 0xe9 at offset \d+ \(line 1\)",),
    ),
    Bad(
        "mixed encodings",
        {"p.csv": "participant,correct\né,1\n".encode() + b"\xe9,0\n"},
        (r"'p\.csv' is not UTF-8: byte 0xe9 .*\(line 3\)",),
    ),
    Bad("a NUL", {"p.json": encoded(session("s9")) + b"\0"}, (r"'p\.json' holds a NUL byte in line 1",)),
    Bad("half a UTF-16", {"p.json": "[]".encode("utf-16")[:-1]}, (r"'p\.json' is not UTF-16",)),
    Bad(
        "UTF-16 without its mark",
        {"p.json": encoded(session("s9")).decode().encode("utf-16-le")},
        (r"'p\.json' holds a NUL byte",),
    ),
    # Whole files
    Bad("0 bytes", {"p.json": b""}, (r"'p\.json' is empty \(0 bytes\)",)),
    Bad("0 bytes of a table", {"p.csv": b""}, (r"'p\.csv' is empty \(0 bytes\)",)),
    Bad("a workbook called JSON", {"p.json": workbook([["a"]])}, (r"'p\.json' is an Excel workbook or a ZIP archive",)),
    Bad("JSON called a workbook", {"p.xlsx": encoded(session("s9"))}, (r"p\.xlsx.*",)),
    Bad("gzip called CSV", {"p.csv": b"\x1f\x8b\x08\x00rest"}, (r"'p\.csv' is compressed by gzip",)),
    Bad("no Parquet", {"p.parquet": b"PAR1 but not really"}, (r"'p\.parquet' cannot be read as Parquet",)),
    Bad("no database", {"p.sqlite": b"SQLite? no"}, (r"p\.sqlite.*",)),
    Bad(
        "the same bytes twice",
        {"a.json": encoded(TWICE), "b.json": encoded(TWICE)},
        (r"'b\.json' holds the same bytes as 'a\.json'",),
        18,
    ),
    Bad(
        "a session recorded twice",
        {"a.json": encoded(TWICE), "b.json": json.dumps(TWICE, indent=1).encode()},
        (r"'b\.json' records again a session of participant s9 that 'a\.json' holds: the same 6 answers",),
        18,
    ),
    Bad(
        "a nameless session twice",
        {"a.json": encoded(session(None)), "b.json": json.dumps(session(None), indent=1).encode()},
        (r"'b\.json' records again a session that 'a\.json' holds",),
        18,
    ),
    Bad(
        "a session as JSON and CSV",
        {"a.json": encoded(TWICE), "b.csv": table(TWICE)},
        (r"'b\.csv' records again a session of participant s9",),
        18,
    ),
    # Tables
    Bad("ragged rows", {"p.csv": plain(GOOD + "s9,3,local\n")}, (r"header's 5 cells: 4 \(3 cells\).*p\.csv",)),
    Bad(
        "an unclosed quote", {"p.csv": plain(GOOD + 's9,3,"local,1,1\n')}, (r"Row 4 of file 'p\.csv' cannot be split",)
    ),
    Bad("semicolons", {"p.csv": plain(GOOD).replace(b",", b";")}, (r"'p\.csv' is separated by semicolons",)),
    Bad("a header alone", {"p.csv": plain("")}, (r"'p\.csv' has a header but no rows",)),
    Bad(
        "a column twice",
        {"p.csv": plain("s9,1,local,1,1\n", "participant,trial,representation,correct,correct")},
        (r"Column 'correct' stands 2 times.*p\.csv",),
    ),
    Bad(
        "decimal commas in quotes",
        {"p.csv": plain('s9,1,local,1,"0,5"\n')},
        (r"holds '0,5' in row 2 of p\.csv.*looks like a decimal comma; write 0\.5",),
        formula=TIMES,
    ),
    Bad(
        "decimal commas in JSON",
        {"p.json": changed(rt="512,4")},
        (r"'rt' holds '512,4' in row 4 of p\.json.*decimal comma",),
        formula=TIMES,
    ),
    Bad(
        "formulas for cells", {"p.csv": plain("s9,1,local,=1+1,1\n")}, (r"'correct' holds '=1\+1' in row 2 of p\.csv",)
    ),
    Bad(
        "an Excel date in ids",
        {
            "p.xlsx": workbook(
                [["participant", "representation", "correct"], [pd.Timestamp("2024-03-01").to_pydatetime(), "local", 1]]
            )
        },
        (r"date.*p\.xlsx|p\.xlsx.*date",),
    ),
    # Cells
    Bad(
        "negative times",
        {"p.json": changed(rt=-200)},
        (r"'rt' is -0\.2 in row 4 of p\.json; allowed are finite numbers from 0",),
        formula=TIMES,
    ),
    Bad(
        "Infinity",
        {"p.json": encoded(session("s9")).replace(b'"rt": ', b'"rt": Infinity, "rt_": ', 4)},
        (r"'rt' is infinite in row 3 of p\.json",),
        formula=TIMES,
    ),
    Bad("NaN for an answer", {"p.json": changed(correct=float("nan"))}, (r"'correct' is blank in row 4 of p\.json",)),
    Bad("null for an answer", {"p.json": changed(correct=None)}, (r"'correct' is blank in row 4 of p\.json",)),
    Bad(
        "a word for an answer",
        {"p.json": changed(correct="maybe")},
        (r"'correct' holds 'maybe' in row 4 of p\.json; allowed are 0 and 1",),
    ),
    Bad("2 for an answer", {"p.json": changed(correct=2)}, (r"'correct' holds '2' in row 4 of p\.json",)),
    Bad("a list for an answer", {"p.json": changed(correct=[1])}, (r"'correct' holds '\[1\]' in row 4 of p\.json",)),
    Bad("an object for an answer", {"p.json": changed(correct={"a": 1})}, (r"'correct' is blank in row 4 of p\.json",)),
    Bad(
        "a huge integer for an answer",
        {"p.json": changed(correct=10**400)},
        (r"'correct' holds '1000.*' in row 4 of p\.json",),
    ),
    Bad(
        "two rows of a file",
        {"p.json": text('"correct": ', '"correct": "x", "was": ').replace(b'"correct": true', b'"correct": "x"', 1)},
        (r"'correct' holds 'x' in row 3 of p\.json \(and 1 more row\)",),
    ),
    Bad("a blank level", {"p.json": changed(representation="")}, (r"'representation' is blank in row 4 of p\.json",)),
    Bad(
        "a missing column in one file",
        {"p.json": lacking("representation")},
        (r"'representation' is blank in row 3 of p\.json \(and 5 more rows\)",),
    ),
    Bad("a bad catch", {"p.json": changed(catch_trial="perhaps")}, (r"'catch' holds 'perhaps' in row 4 of p\.json",)),
    Bad(
        "a blank person in a table",
        {"p.csv": plain("s9,1,local,1,0.5\n,2,local,1,0.6\n")},
        (r"'participant' is blank in row 3 of p\.csv",),
        13,
    ),
    Bad(
        "trial numbers that repeat",
        {"p.csv": plain("s9,1,local,1,0.5\ns9,1,local,0,0.6\n")},
        (r"'trial' repeats in row 3 of p\.csv what row 2 of p\.csv has",),
    ),
    Bad(
        "a fault in each of two files",
        {"a.json": changed(correct="x", person="s8"), "b.json": changed(correct="y")},
        (r"'x' in row 4 of a\.json", r"'y' in row 4 of b\.json"),
    ),
    Bad(
        "one bad session of two",
        {"p.json": encoded([session("s8"), [*session("s9")[:3], session("s9")[3] | {"correct": "x"}]])},
        (r"'x' in row 12 of p\.json",),
        18,
    ),
    # Archives
    Bad("a ZIP bomb", {"p.zip": BOMB}, (r"'p\.zip/a\.json' unpacks to more than .* looks like a ZIP bomb",)),
    Bad("a ZIP bomb in a ZIP", {"p.zip": zipped({"in.zip": BOMB})}, (r"'p\.zip/in\.zip/a\.json' unpacks to more",)),
    Bad("a header that lies", {"p.zip": lying()}, (r"'p\.zip/a\.json' (unpacks to more than|cannot be unpacked)",)),
    Bad("a path upwards", {"p.zip": member("../a.json")}, (r"'p\.zip/\.\./a\.json' leaves its archive",)),
    Bad("a path upwards within", {"p.zip": member("x/../../a.json")}, (r"leaves its archive",)),
    Bad("an absolute path", {"p.zip": member("/tmp/a.json")}, (r"'p\.zip//tmp/a\.json' leaves its archive",)),
    Bad("a backslash", {"p.zip": member("..\\a.json")}, (r"leaves its archive",)),
    Bad("a drive", {"p.zip": member("C:/a.json")}, (r"leaves its archive",)),
    Bad(
        "a link in an archive",
        {"p.zip": member("a.json", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16)},
        (r"'p\.zip/a\.json' is a link",),
    ),
    Bad("an encrypted member", {"p.zip": encrypted()}, (r"'p\.zip/a\.json' is encrypted",)),
    Bad("a damaged member", {"p.zip": damaged()}, (r"'p\.zip/a\.json' cannot be unpacked",)),
    Bad(
        "an archive cut off",
        {"p.zip": zipped({"a.json": encoded(session("s9"))})[:-30]},
        (r"'p\.zip' cannot be read as a ZIP archive",),
    ),
    Bad("an empty archive file", {"p.zip": b""}, (r"'p\.zip' is empty \(0 bytes\)",)),
    Bad("0 bytes in an archive", {"p.zip": zipped({"a.json": b""})}, (r"'p\.zip/a\.json' is empty \(0 bytes\)",)),
    Bad(
        "a database in an archive",
        {"p.zip": zipped({"a.sqlite": b"SQLite"})},
        (r"'p\.zip/a\.sqlite' is a database in an archive",),
    ),
    Bad(
        "a bad file of JATOS",
        {"p.zip": zipped({"study_result_1/comp-result_2/data.txt": b"not JSON"})},
        (r"data\.txt' is not JSON",),
    ),
]


def folder_of(case: Bad, folder: Path) -> Path:
    root = folder / "study"
    root.mkdir()
    for name, data in case.files.items():
        (root / name).write_bytes(data)
    for person in ("s1", "s2"):
        (root / f"good_{person}.json").write_bytes(encoded(session(person)))
    return root


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_file_is_named_and_the_good_ones_are_read(
    case: Bad, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    root = folder_of(case, tmp_path)
    bad = call(capsys, monkeypatch, "check", root, "--formula", case.formula)
    errors = [line for line in bad.out.splitlines() if line.startswith("error: ")]
    assert bad.code == 2, (bad.out, bad.err)
    assert "Traceback" not in bad.out + bad.err
    assert "internal error" not in bad.err
    assert len(errors) == len(case.says), errors
    for says, line in zip(case.says, errors, strict=True):
        assert re.search(says, line), line
        assert line.endswith("."), line

    answer = call(capsys, monkeypatch, "check", root, "--formula", case.formula, "--skip-bad", "--json")
    assert answer.code == 0, answer.out[:2000]
    assert answer.data["errors"] == 0
    assert answer.data["left_out"], "what is left out is counted"
    faults = [fault for fault in answer.data["faults"] if fault["message"].startswith("Left out: ")]
    assert len(faults) == len(case.says)
    skipped = [source for source in answer.data["sources"] if source["status"] == "skipped"]
    assert all(source["reason"] for source in skipped)
    assert f"{case.trials} trials of" in answer.err
