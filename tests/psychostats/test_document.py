"""Documents in both formats: the same numbers, nothing read as markup, the same bytes each time."""

from __future__ import annotations

import html.parser
import math
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from documents import LONG_ID, NASTY, SHOWN_AS_CODES, SVG, sample

from psychostats.document import (
    Block,
    Column,
    Document,
    Equation,
    Figure,
    Format,
    Heading,
    Link,
    Paragraph,
    Strong,
    Table,
    Text,
    format_value,
    prose,
)
from psychostats.errors import ReportError
from psychostats.rendering import render_html, render_pdf


class Reader(html.parser.HTMLParser):
    """Collect the text, the tags and the addresses of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_html(sample(), tmp_path_factory.mktemp("html") / "report.html")


@pytest.fixture(scope="module")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_pdf(sample(), tmp_path_factory.mktemp("pdf") / "report.pdf")


def words_of(pdf: Path, pdftotext: str) -> str:
    """Text of a PDF with all white space taken out, since lines break where they must."""
    text = subprocess.run([pdftotext, "-raw", pdf, "-"], capture_output=True, check=True, encoding="utf-8").stdout
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize(
    ("value", "format", "digits", "shown"),
    [
        (math.nan, "number", 2, "–"),
        (None, "text", 2, "–"),
        (pd.NA, "integer", 0, "–"),
        (-0.456, "number", 2, "−0.46"),
        (-0.001, "number", 2, "0.00"),
        (math.inf, "number", 2, "∞"),
        (-math.inf, "number", 2, "−∞"),
        (15120, "integer", 2, "15,120"),
        (np.int64(-3), "integer", 2, "−3"),
        (0.8213, "percent", 1, "82.1\u00a0%"),
        (-0.05, "percent", 0, "−5\u00a0%"),
        (0.0002, "p", 3, "< 0.001"),
        (0.0, "p", 3, "< 0.001"),
        (0.0234, "p", 3, "0.023"),
        (True, "text", 2, "yes"),
        (np.bool_(False), "text", 2, "no"),
        ("-1", "text", 2, "-1"),
        (-0.125, "text", 2, "−0.125"),
        ("a--b", "code", 2, "a--b"),
    ],
)
def test_values_print_as_their_column_says(value: object, format: Format, digits: int, shown: str) -> None:
    assert format_value(value, format, digits) == shown


def test_prose_takes_values_as_they_are() -> None:
    assert prose("{0} of {n}: {1}", "{1} *x*", Strong("y"), n=1234) == (
        Text("{1} *x*"),
        Text(" of "),
        Text("1,234"),
        Text(": "),
        Strong("y"),
    )
    assert prose("{} {}", "a", "b")[-1] == Text("b")
    with pytest.raises(IndexError):
        prose("{0} {1}", "only one")


def test_html_shows_data_as_text(page: Path) -> None:
    read = Reader(page.read_text(encoding="utf-8"))
    for name in [*NASTY, *SHOWN_AS_CODES.values(), LONG_ID, "Report on #x <y>", "A. & B.", "#x$y$<z>", "Summary <b>"]:
        assert name in read.text
    assert "script" not in read.tags
    assert not {"b", "i"} & set(read.tags[read.tags.index("nav") : read.tags.index("h2")])


def test_pdf_shows_data_as_text(pdf: Path, needs_program: Callable[[str], str]) -> None:
    text = words_of(pdf, needs_program("pdftotext"))
    for name in [*NASTY, *SHOWN_AS_CODES.values(), LONG_ID, "Report on #x <y>", "A. & B.", "Summary <b>"]:
        assert re.sub(r"\s", "", name) in text
    assert "49" not in text.split("{%raw%}")[0].rsplit("{{7*7}}", 1)[1]


def test_pdf_shows_what_no_font_can_draw_as_its_code_point(tmp_path: Path, needs_program: Callable[[str], str]) -> None:
    path = render_pdf(Document("t", (Paragraph("brain 🧠 日"),)), tmp_path / "r.pdf")
    assert "brain[U+1F9E0][U+65E5]" in words_of(path, needs_program("pdftotext"))


def test_numbers_and_references_agree_in_both_formats(
    page: Path, pdf: Path, needs_program: Callable[[str], str]
) -> None:
    expected = ["See Section 2 and Figure 2.", "In Equation 1,", "see Figure 1.", "1.1 Model", "Table 2. Empty"]
    for text in (Reader(page.read_text(encoding="utf-8")).text, words_of(pdf, needs_program("pdftotext"))):
        squeezed = re.sub(r"\s", "", text)
        for words in expected:
            assert re.sub(r"\s", "", words) in squeezed


def test_every_reference_in_the_page_has_its_target_and_nothing_is_fetched(page: Path) -> None:
    read = Reader(page.read_text(encoding="utf-8"))
    assert len(read.ids) == len(set(read.ids))
    for address in read.addresses:
        assert address.startswith("data:") or address.removeprefix("#") in read.ids
    assert "url(" not in page.read_text(encoding="utf-8")


def test_long_ids_stay_on_the_paper(pdf: Path, needs_program: Callable[[str], str]) -> None:
    boxes = subprocess.run(
        [needs_program("pdftotext"), "-bbox", pdf, "-"], capture_output=True, check=True, encoding="utf-8"
    ).stdout
    right = max(float(edge) for edge in re.findall(r'<word [^>]*xMax="([\d.]+)"', boxes))
    assert right <= (210 - 25) / 25.4 * 72 + 1


def test_a_table_that_breaks_repeats_its_head(tmp_path: Path, needs_program: Callable[[str], str]) -> None:
    frame = pd.DataFrame({"a": [f"row{i}" for i in range(120)]})
    path = render_pdf(Document("t", (Table((Column("a", "TheHead"),), frame, "c"),)), tmp_path / "r.pdf")
    text = subprocess.run(
        [needs_program("pdftotext"), path, "-"], capture_output=True, check=True, encoding="utf-8"
    ).stdout
    sheets = [sheet for sheet in text.split("\f") if "row" in sheet]
    assert len(sheets) > 1
    assert all("TheHead" in sheet for sheet in sheets)


@pytest.mark.parametrize("render", [render_html, render_pdf])
def test_the_same_document_gives_the_same_bytes(render: Callable[[Document, Path], Path], tmp_path: Path) -> None:
    first, second = (render(sample(), tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_the_date_of_the_pdf_comes_from_the_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = Document("t", (Paragraph("x"),))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert b"CreationDate" not in render_pdf(document, tmp_path / "r.pdf").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1735781523")
    assert b"D:20250102013203" in render_pdf(document, tmp_path / "r.pdf").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(ReportError, match="SOURCE_DATE_EPOCH is 'today'"):
        render_pdf(document, tmp_path / "r.pdf")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ((Paragraph(prose("{0}", Link("nowhere"))),), "refers to 'nowhere'"),
        ((Heading("a", 1, "x"), Heading("b", 1, "x")), "anchor 'x' is used twice"),
        ((Heading("a", 1, "Not this"),), "anchor 'Not this' may hold only"),
        ((Table((Column("b", "B"),), pd.DataFrame({"a": [1]}), "c"),), "prints the column 'b'"),
        ((Figure(b"GIF89a", "c", "alt"),), "no SVG, PNG or JPEG"),
        ((Figure(SVG, "c", "alt", width=1.5),), r"width 1\.5"),
        ((Figure(Path("missing.svg"), "c", "alt"),), "cannot be read"),
        ((Equation(("x_",)),), "equation"),
    ],
)
def test_a_faulty_document_is_refused_and_the_old_file_stays(
    blocks: tuple[Block, ...], message: str, tmp_path: Path
) -> None:
    for render in (render_html, render_pdf):
        path = tmp_path / "report"
        path.write_text("old")
        with pytest.raises(ReportError, match=message):
            render(Document("t", blocks), path)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_typeset_is_an_error_with_a_name(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"PDF 'r\.pdf' could not be typeset"):
        render_pdf(Document("t", (Figure(b"<svg not really", "c", "alt"),)), tmp_path / "r.pdf")


def test_a_browser_shows_the_page_without_error_or_network(page: Path, browser: Callable[[Path], Any]) -> None:
    seen = browser(page)
    assert seen.errors == ()
    assert seen.undrawn == ()
    assert seen.requests == ()
    assert seen.images == 2
    assert not seen.overflows
    assert '#read("x")' in seen.text
