"""Documents as Word files: the same text, nothing read as markup, words for every image, the same bytes each time."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from documents import LONG_ID, NASTY, SHOWN_AS_CODES, SVG, encoded, noise, picture, ranking, sample, trial

from psychostats.document import Block, Column, Document, Figure, Grid, Panel, Paragraph, Picture, Table
from psychostats.errors import InputError, ReportError
from psychostats.word import find_pandoc, render_docx

NAMES = {
    "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
    "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
    "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
}
W = f"{{{NAMES['w']}}}"


class Word:
    """A Word file, opened."""

    def __init__(self, file: Path):
        with zipfile.ZipFile(file) as opened:
            self.parts = {name: opened.read(name) for name in opened.namelist()}
            self.moments = {entry.date_time for entry in opened.infolist()}
        self.body = self.xml("word/document.xml")

    def xml(self, name: str) -> ET.Element:
        return ET.fromstring(self.parts[name])

    def find(self, path: str, within: ET.Element | None = None) -> list[ET.Element]:
        return (self.body if within is None else within).findall(path, NAMES)

    def text(self, within: ET.Element | None = None) -> str:
        """All text, mathematics too; a line for each paragraph."""
        return "\n".join(self.line(paragraph) for paragraph in self.find(".//w:p", within))

    def style(self, paragraph: ET.Element) -> str:
        (style,) = self.find("w:pPr/w:pStyle", paragraph) or [ET.Element("none", {f"{W}val": ""})]
        return style.get(f"{W}val", "")

    def styled(self, style: str) -> list[str]:
        return [self.line(one) for one in self.find(".//w:p") if self.style(one) == style]

    def line(self, paragraph: ET.Element) -> str:
        return "".join(one.text or "" for one in paragraph.iter() if one.tag in (f"{W}t", f"{{{NAMES['m']}}}t"))

    def tables(self, style: str) -> list[ET.Element]:
        kept = f"w:tblPr/w:tblStyle[@w:val='{style}']"
        return [one for one in self.find(".//w:tbl") if self.find(kept, one)]

    def alts(self) -> list[str]:
        return [one.get("descr", "") for one in self.find(".//wp:docPr")]


@pytest.fixture(scope="module", autouse=True)
def pandoc() -> str:
    """Skip where there is none, except under ``CI=true``, where it fails."""
    try:
        return find_pandoc()
    except InputError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


def whole(folder: Path) -> Document:
    """The document with every kind of block, its figures as files with a PNG beside each, and two grids."""
    png = encoded(np.full((60, 160, 3), 255, np.uint8))
    blocks: list[Block] = []
    for number, block in enumerate(sample().blocks):
        if isinstance(block, Figure):
            assert isinstance(block.source, bytes)
            path = folder / f"figure{number}.svg"
            path.write_bytes(block.source)
            tall = encoded(np.full((400, 160, 3), 255, np.uint8))
            path.with_suffix(".png").write_bytes(tall if block.anchor == "tall" else png)
            block = replace(block, source=path)
        blocks.append(block)
    extra = (trial(), ranking(20), Figure(noise(7, 200), "A photograph.", 'a JPEG "&" <i>'))
    return replace(sample(), blocks=(*blocks, *extra), banner="Simulated & <b>")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("word")
    return render_docx(whole(folder), folder / "report.docx")


@pytest.fixture(scope="module")
def word(file: Path) -> Word:
    return Word(file)


def test_text_from_data_is_text(word: Word) -> None:
    text = word.text()
    names = [*NASTY, *SHOWN_AS_CODES.values(), LONG_ID, "Report on #x <y>", "A. & B.", "Summary <b>", "#x$y$<z>"]
    for name in names:
        assert name in text
    assert "49" not in text.split("{% raw %}")[0].rsplit("{{ 7*7 }}", 1)[1]
    assert "A <b>caption</b>" in text


def test_every_part_is_xml_and_every_style_and_relation_is_there(word: Word) -> None:
    for name in word.parts:
        if name.endswith((".xml", ".rels")):
            word.xml(name)
    known = {one.get(f"{W}styleId") for one in word.xml("word/styles.xml").findall("w:style", NAMES)}
    used = {one.get(f"{W}val") for kind in ("pStyle", "rStyle", "tblStyle") for one in word.find(f".//w:{kind}")}
    assert used <= known
    styles = [one.get(f"{W}styleId") for one in word.xml("word/styles.xml").findall("w:style", NAMES)]
    assert len(styles) == len(set(styles))
    links = word.xml("word/_rels/document.xml.rels")
    targets = {one.get("Id"): one for one in links}
    assert {one.get("TargetMode") for one in links} == {None}  # nothing lies outside the file
    assert all(f"word/{one.get('Target')}" in word.parts for one in links)
    relation = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
    asked = [one.get(f"{relation}embed") for one in word.find(".//a:blip")]
    assert asked and set(asked) <= set(targets)


def test_every_image_has_its_words(word: Word) -> None:
    alts = word.alts()
    assert len(alts) == 2 + 20 + 9 * 20 + 1
    assert alts[:2] == ['alt "text" <i>', "tall"] and alts[-1] == 'a JPEG "&" <i>'
    assert alts[2:22] == [f"picture {k}" for k in (*range(9), 18, 19, *range(9, 18))]
    assert all(alts)


def test_an_image_that_is_shown_twice_is_held_once(tmp_path: Path) -> None:
    panel = Panel((picture(1), Picture(noise(1), "the same again"), picture(2)), 3)
    made = Word(render_docx(Document("t", (Grid(((panel,),), "c", "alt"),)), tmp_path / "r.docx"))
    assert made.alts() == ["picture 1", "the same again", "picture 2"]
    assert sum(name.startswith("word/media/") for name in made.parts) == 2


def test_headings_are_headings_and_numbered(word: Word) -> None:
    assert word.styled("Heading1") == ["1\u2002Summary <b>", "2\u2002Checks"]
    assert word.styled("Heading2") == ["1.1\u2002Model"]


def test_words_keep_their_kind_and_links_their_target(word: Word) -> None:
    (paragraph,) = [one for one in word.find(".//w:p") if "of 15,120 trials" in word.line(one)]
    marked = {}
    for run in word.find("w:r", paragraph):
        kinds = {one.tag.removeprefix(W) for one in word.find("w:rPr/*", run)}
        marked["".join(one.text or "" for one in word.find("w:t", run))] = kinds
    assert "b" in marked["@a"] and "i" in marked["_x_"] and "rStyle" in marked["`tick`"]
    places = {one.get(f"{W}name") for one in word.find(".//w:bookmarkStart")}
    targets = {one.get(f"{W}anchor") for one in word.find(".//w:hyperlink")}
    assert targets == {"checks", "tall", "algebra", "names", "picture"} <= places
    assert "See Section 2 and Figure 2." in word.text()


def test_tables_are_tables(word: Word) -> None:
    tables = [
        one for one in word.find(".//w:tbl") if word.find("w:tblPr/w:tblStyle", one)[0].get(f"{W}val") == "DataTable"
    ]
    rows = [word.find("w:tr", table) for table in tables]
    assert [len(row) for row in rows] == [1 + len(NASTY) + len(SHOWN_AS_CODES) + 1, 2]
    head, first = rows[0][:2]
    assert [word.line(cell) for cell in word.find("w:tc", head)] == ["Name $x$", "As code", "Share"]
    assert word.find("w:trPr/w:tblHeader", head)
    assert [word.line(cell) for cell in word.find("w:tc", first)] == ['#read("x")', '#read("x")', "−50.0\u00a0%"]
    sides = [one.get(f"{W}val") for one in word.find(".//w:jc", first)]
    assert sides == ["left", "left", "right"]
    (empty,) = word.find("w:tc", rows[1][1])
    assert word.line(empty) == "no rows"
    assert all(word.find("w:trPr/w:cantSplit", row) for table in rows for row in table)
    assert "A *note*." in word.styled("TableNote")
    assert 'Table 1. Names such as #read("x").' in word.styled("TableCaption")


def test_an_empty_table_of_several_columns_says_so(tmp_path: Path) -> None:
    table = Table((Column("a", "A"), Column("b", "B")), pd.DataFrame({"a": [], "b": []}), "c")
    made = Word(render_docx(Document("t", (table,)), tmp_path / "r.docx"))
    (cell,) = made.find(".//w:tbl/w:tr[2]/w:tc")
    assert made.find("w:tcPr/w:gridSpan", cell)[0].get(f"{W}val") == "2"


def test_grids_keep_their_rows_and_their_width(word: Word) -> None:
    grids = [
        one for one in word.find(".//w:tbl") if word.find("w:tblPr/w:tblStyle", one)[0].get(f"{W}val") == "PictureGrid"
    ]
    assert [len(word.find("w:tr", grid)) for grid in grids] == [2, 21]
    cells = word.find("w:tr[2]/w:tc", grids[0])
    assert [(len(word.find(".//wp:inline", cell)), len(word.find(".//w:br", cell))) for cell in cells] == [
        (9, 2),
        (2, 1),
        (9, 2),
    ]
    text = 16 / 2.54 * 1440
    for grid in grids:
        widths = [int(one.get(f"{W}w", "")) for one in word.find("w:tblGrid/w:gridCol", grid)]
        assert 0.6 * text < sum(widths) <= text + 2
        for width, cell in zip(widths, word.find("w:tr[2]/w:tc", grid), strict=True):
            shown = [int(one.get("cx", "")) / 635 for one in word.find(".//wp:extent", cell)]
            lines = 1 + len(word.find(".//w:br", cell))
            assert sum(shown) / lines < width - 120  # in twentieths of a point, the cell's margins off
    captions = word.styled("TableCaption")
    assert "Figure 3. The target is the upper query." in captions and "Figure 4. Features, *best* first." in captions


def test_figures_fit_on_a_page(word: Word) -> None:
    sizes = [(int(one.get("cx", "")) / 360000, int(one.get("cy", "")) / 360000) for one in word.find(".//wp:extent")]
    assert sizes[0] == pytest.approx((8.0, 3.0), abs=0.01)  # half of the text column
    assert sizes[1] == pytest.approx((8.4, 21.0), abs=0.01)  # taller than the page
    assert word.styled("ImageCaption") == [
        "Figure 1. A <b>caption</b>",
        "Figure 2. Taller than the page",
        "Figure 5. A photograph.",
    ]


def test_mathematics_is_word_s_own(word: Word) -> None:
    lines = ["".join(one.text or "" for one in maths.iter(f"{{{NAMES['m']}}}t")) for maths in word.find(".//m:oMath")]
    assert "pi=g+(1−g)\u2009F(ηi)".replace("\u2009", "") in [line.replace("\u2009", "") for line in lines]
    assert "ηi=β0+β1\u2009#x$y$<z>i" in lines
    (equation,) = word.styled("Equation")
    assert equation.endswith("(1)")
    scripts = word.find(".//m:sSub")
    assert scripts and all(word.find("m:e", one) and word.find("m:sub", one) for one in scripts)


def test_code_keeps_its_lines_and_spaces(word: Word) -> None:
    (block,) = [one for one in word.find(".//w:p") if word.style(one) == "SourceCode"]
    assert word.line(block) == "fit 'y ~ x' \\    --seed 1 #$*_`]"
    assert len(word.find(".//w:br", block)) == 1
    assert "a  b" in word.text()


def test_a_callout_stands_out(word: Word) -> None:
    (box,) = word.tables("CalloutDanger")
    assert word.text(box) == "Not converged *at all*\nSee Section 2 and Figure 2."


def test_the_banner_is_on_every_page(word: Word) -> None:
    head = word.xml("word/header1.xml")
    assert "".join(one.text or "" for one in head.iter(f"{W}t")) == "Simulated & <b>"
    (section,) = word.find(".//w:sectPr")
    kinds = [one.tag.removeprefix(W) for one in section]
    assert kinds == ["headerReference", "footerReference", "footnotePr", "pgSz", "pgMar"]


def test_the_same_document_gives_the_same_bytes(
    file: Path, word: Word, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    again = render_docx(whole(tmp_path), tmp_path / "other name.docx")
    assert again.read_bytes() == file.read_bytes()
    assert word.moments == {(1980, 1, 1, 0, 0, 0)}
    assert b"dcterms:created" not in word.parts["docProps/core.xml"].replace(b"xmlns:dcterms", b"")
    assert str(tmp_path).encode() not in b"".join(word.parts.values())


def test_the_date_comes_from_the_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = Document("t", (Paragraph("x"),))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1735781523")
    made = Word(render_docx(document, tmp_path / "r.docx"))
    assert made.parts["docProps/core.xml"].count(b"2025-01-02T01:32:03Z</dcterms:") == 2
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(ReportError, match="SOURCE_DATE_EPOCH is 'today'"):
        render_docx(document, tmp_path / "r.docx")


def test_an_svg_needs_its_png(tmp_path: Path) -> None:
    (tmp_path / "lone.svg").write_bytes(SVG)
    (tmp_path / "r.docx").write_text("old")
    for source, why in ((SVG, "it is no file"), (tmp_path / "lone.svg", r"'lone\.png' is not beside it")):
        with pytest.raises(ReportError, match=rf"figure 'x' is an SVG.*{why}; save_figure\(\.\.\., png=True\)"):
            render_docx(Document("t", (Figure(source, "c", "alt", "x"),)), tmp_path / "r.docx")
    assert (tmp_path / "r.docx").read_text() == "old"


def test_without_pandoc_a_sentence_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypandoc", None)
    with pytest.raises(InputError, match=r"pip install 'psychostats\[word\]'"):
        render_docx(Document("t", (Paragraph("x"),)), tmp_path / "r.docx")
    assert list(tmp_path.iterdir()) == []


def test_what_pandoc_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psychostats.word._API", [0, 1])
    with pytest.raises(ReportError, match=r"pandoc could not write the Word file: .+"):
        render_docx(Document("t", (Paragraph("x"),)), tmp_path / "r.docx")
