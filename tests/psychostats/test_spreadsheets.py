"""Workbooks: what Excel and its like write, and what they did to it."""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psychostats import spreadsheets
from psychostats.parts import Part
from psychostats.spreadsheets import read_workbook

ROWS = [["participant", "trial", "correct", "stimulus"], ["p1", 1, True, "s1"], ["p2", 2, False, "007"]]


def workbook(*sheets: tuple[str, list[list[Any]]], hidden: tuple[str, ...] = ()) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets:
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
        if title in hidden:
            sheet.sheet_state = "hidden"
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def rewritten(data: bytes, member: str, change: Callable[[bytes], bytes]) -> bytes:
    """Change one member of the archive that a workbook is."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name == member else old.read(name))
    return file.getvalue()


def as_excel(data: bytes) -> bytes:
    """Keep the text of the first sheet in a table of shared strings, as Excel does and openpyxl does not."""
    texts: list[bytes] = []

    def share(found: re.Match[bytes]) -> bytes:
        texts.append(found[1])
        return b't="s"><v>%d</v>' % (len(texts) - 1)

    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    named = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'.encode()
    data = rewritten(data, SHEET, lambda xml: re.sub(rb't="inlineStr"><is><t>(.*?)</t></is>', share, xml))
    data = rewritten(data, "[Content_Types].xml", lambda xml: xml.replace(b"</Types>", named))
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a") as archive:
        items = b"".join(b"<si><t>%s</t></si>" % text for text in texts)
        archive.writestr(SHARED, b'<?xml version="1.0"?><sst xmlns="%s">%s</sst>' % (main.encode(), items))
    return file.getvalue()


def said(part: Part) -> str:
    (fault,) = part.faults
    assert "\n" not in fault.message
    return fault.message


SHEET, SHARED = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"


def test_cells_are_read_as_they_were_typed() -> None:
    rows = [[], *ROWS, [None, None, None, " "], ["p3", 2.5, None, "NA"]]
    part = read_workbook(workbook(("Trials", rows)), "t.xlsx")
    assert part.cells == {
        "participant": ["p1", "p2", "p3"],
        "trial": [1, 2, 2.5],
        "correct": [True, False, None],
        "stimulus": ["s1", "007", "NA"],
    }
    assert (part.rows, part.faults, part.tool, part.words) == ([3, 4, 6], (), "Excel", {"participant", "stimulus"})


def test_text_that_is_shared_is_read_alike() -> None:
    data = workbook(("Trials", ROWS))
    assert read_workbook(as_excel(data), "t.xlsx") == read_workbook(data, "t.xlsx")


def test_a_number_column_with_na_in_it_is_no_text() -> None:
    part = read_workbook(workbook(("Trials", [["x"], [1.5], ["NA"]])), "t.xlsx")
    assert part.words == frozenset()


def test_the_only_sheet_that_is_not_empty_needs_no_name() -> None:
    data = workbook(("Empty", []), ("Trials", ROWS), ("Lists", [["a"], ["b"]]), hidden=("Lists",))
    assert read_workbook(data, "t.xlsx").rows == [2, 3]
    assert read_workbook(data, "t.xlsx", "Lists").cells == {"a": ["b"]}
    assert "has no sheet 'Trails' (did you mean 'Trials'?); it has 'Empty', 'Trials', 'Lists'" in said(
        read_workbook(data, "t.xlsx", "Trails")
    )
    assert "has nothing in sheet 'Empty'" in said(read_workbook(data, "t.xlsx", "Empty"))


def test_several_sheets_are_listed_and_none_is_guessed() -> None:
    part = read_workbook(workbook(("May", ROWS), ("June", ROWS)), "t.xlsx")
    assert said(part) == "File 't.xlsx' has 2 sheets ('May', 'June'); say which, such as 't.xlsx#May'."
    assert part.rows == []


def test_dates_in_ids_are_faults_with_their_cells() -> None:
    rows = [["participant", "stimulus", "started"], ["p1", "MAR1", date(2026, 1, 1)]]
    rows += [["p2", date(2026, 3, 1), datetime(2026, 1, 2, 3, 4, 5)], ["p3", date(2026, 2, 1), None]]
    part = read_workbook(workbook(("Trials", rows)), "t.xlsx")
    message = said(part)
    assert message.startswith(
        "Cell B3 of sheet 'Trials' in 't.xlsx' holds the date 2026-03-01 in column 'stimulus' (and 1 more cell)"
    )
    assert "format the column as text" in message
    (fault,) = part.faults
    assert (fault.severity, fault.column, fault.row, fault.rows, fault.file) == (
        "error",
        "stimulus",
        3,
        (3, 4),
        "t.xlsx",
    )
    assert part.cells["started"] == ["2026-01-01", "2026-01-02T03:04:05", None]


def test_dates_among_text_in_other_columns_are_warned_of_and_columns_of_dates_are_read() -> None:
    rows = [
        ["subject", "day", "spent"],
        ["1-A", date(2026, 3, 1), timedelta(hours=1)],
        [date(2026, 2, 1), date(2026, 3, 2), None],
    ]
    part = read_workbook(workbook(("Trials", rows)), "t.xlsx")
    (fault,) = part.faults
    assert (fault.severity, fault.column) == ("warning", "subject")
    assert part.cells["day"] == ["2026-03-01", "2026-03-02"]


def test_errors_are_faults_and_what_is_not_available_is_blank() -> None:
    rows = [["participant", "rt"], ["p1", "#DIV/0!"], ["p2", "#N/A"], ["p3", 1]]
    part = read_workbook(workbook(("Trials", rows)), "t.xlsx")
    assert "Cell B2 of sheet 'Trials' in 't.xlsx' holds the error #DIV/0! in column 'rt'" in said(part)
    assert part.cells["rt"] == [None, None, 1]
    assert part.notes == ("Column 'rt': 1 cells of #N/A are read as blank.",)


def test_ids_that_lost_digits_are_faults() -> None:
    part = read_workbook(workbook(("Trials", [["participant"], [12345678901234567890], [123]])), "t.xlsx")
    assert "Cell A2 of sheet 'Trials' in 't.xlsx' holds the number 1.23457e+19" in said(part)


def test_formulas_give_their_values_and_those_without_are_faults() -> None:
    data = workbook(("Trials", [["participant", "rt"], ["p1", "=1+1"], ["p2", "=B2*2"]]))
    message = said(read_workbook(data, "t.xlsx"))
    assert "holds formulas without a value (B2, B3); open it in Excel and save it again" in message
    calculated = rewritten(data, SHEET, lambda xml: xml.replace(b"<v></v>", b"<v>2</v>").replace(b"<v />", b"<v>2</v>"))
    part = read_workbook(calculated, "t.xlsx")
    assert (part.cells["rt"], part.faults) == ([2, 2], ())


def test_a_text_that_begins_like_a_formula_stays_text() -> None:
    data = as_excel(workbook(("Trials", [["participant", "response"], ["p1", "x"]])))
    text = rewritten(data, SHARED, lambda xml: xml.replace(b"<t>x</t>", b"<t>=cmd|' /C calc'!A0</t>"))
    assert read_workbook(text, "t.xlsx").cells["response"] == ["=cmd|' /C calc'!A0"]


def test_a_workbook_that_declares_fewer_cells_than_it_holds_is_read_whole() -> None:
    data = rewritten(workbook(("Trials", ROWS)), SHEET, lambda xml: xml.replace(b'ref="A1:D3"', b'ref="A1:B2"'))
    part = read_workbook(data, "t.xlsx")
    assert (list(part.cells), part.rows) == (ROWS[0], [2, 3])


def test_headers_are_named_or_faulted() -> None:
    part = read_workbook(workbook(("T", [["a", None, "a", 5], [1, 2, 3, 4]])), "t.xlsx")
    assert "Column 'a' stands 2 times" in said(part)
    assert list(part.cells) == ["a", "unnamed_2", "5"]
    assert "has a header but no rows" in said(read_workbook(workbook(("T", [["a", "b"]])), "t.xlsx"))


def laughs(xml: bytes) -> bytes:
    entities = b'<!ENTITY a0 "ha">' + b"".join(
        b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 12)
    )
    start = xml.index(b"?>") + 2 if xml.startswith(b"<?xml") else 0
    return xml[:start] + b"<!DOCTYPE x [" + entities + b"]>" + xml[start:].replace(b"<t>s1</t>", b"<t>&a11;</t>")


def in_ebcdic(xml: bytes) -> bytes:
    text = laughs(xml).decode()
    body = text[text.index("?>") + 2 :]
    return ('<?xml version="1.0" encoding="cp037"?>' + body).encode("cp037")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda good: b"", "is empty (0 bytes)"),
        (lambda good: b"participant,correct\np1,1\n", "is no Excel workbook"),
        (lambda good: good[: len(good) // 2], "is no Excel workbook, or a damaged one"),
        (lambda good: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "is an old Excel workbook (.xls)"),
        (
            lambda good: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le"),
            "is encrypted; save it without a password",
        ),
        (lambda good: rewritten(good, SHARED, laughs), "declares a document type"),
        (
            lambda good: rewritten(good, SHARED, lambda xml: laughs(xml).decode().encode("utf-16")),
            "declares a document type",
        ),
        (lambda good: rewritten(good, SHEET, lambda xml: xml[:-40]), "cannot be read as an Excel workbook"),
        (lambda good: rewritten(good, SHEET, lambda xml: b"<x>" * 10_000), "cannot be read as an Excel workbook"),
        (lambda good: rewritten(good, "[Content_Types].xml", lambda xml: b"<Types/>"), "cannot be read as an Excel"),
        (
            lambda good: rewritten(good, SHEET, lambda xml: xml.replace(b'<row r="3"', b'<row r="999999999"')),
            "more rows or cells than Excel allows",
        ),
        (
            lambda good: rewritten(good, SHEET, lambda xml: xml.replace(b't="s"><v>0', b't="s"><v>4000000')),
            "cannot be read as an Excel workbook",
        ),
    ],
)
def test_broken_and_hostile_files_are_one_sentence(make: Callable[[bytes], bytes], words: str) -> None:
    begun = time.monotonic()
    part = read_workbook(make(as_excel(workbook(("Trials", ROWS)))), "bad.xlsx")
    assert words in said(part), said(part)
    assert "'bad.xlsx'" in said(part)
    assert part.rows == []
    assert time.monotonic() - begun < 10


def test_entities_do_not_grow_in_an_encoding_that_hides_them_either() -> None:
    begun = time.monotonic()
    data = rewritten(as_excel(workbook(("Trials", ROWS))), SHARED, in_ebcdic)
    part = read_workbook(data, "bad.xlsx")
    assert part.faults and part.rows == []
    assert time.monotonic() - begun < 10


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheets, "LARGEST", 1 << 20)
    data = rewritten(workbook(("Trials", ROWS)), SHEET, lambda xml: xml + b" " * (2 << 20))
    assert len(data) < 20_000
    assert "unpacks to more than 1 MiB" in said(read_workbook(data, "bomb.xlsx"))


GOOD = as_excel(workbook(("Trials", [*ROWS, *([f"p{n}", n, n % 2 == 0, f"s{n}"] for n in range(30))])))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.data())
def test_damaged_workbooks_are_faults_or_cells_and_never_exceptions(data: st.DataObject) -> None:
    with zipfile.ZipFile(io.BytesIO(GOOD)) as archive:
        member = data.draw(st.sampled_from(archive.namelist()))
        content = bytearray(archive.read(member))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=3))
        content = content or bytearray(b" ")
    part = read_workbook(rewritten(GOOD, member, lambda _: bytes(content)), "bad.xlsx")
    assert part.rows or part.faults


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(GOOD)))
def test_random_bytes_are_faults_or_cells_and_never_exceptions(noise: bytes, at: int) -> None:
    for data in (noise, b"PK\x03\x04" + noise, GOOD[:at] + noise + GOOD[at + len(noise) :]):
        part = read_workbook(data, "bad.xlsx")
        assert part.rows or part.faults
