"""Grids of pictures as pages: each image once, nothing wider than a phone, and rows that stay whole on paper."""

from __future__ import annotations

import base64
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from documents import NASTY, noise, picture, ranking, scene, trial, trials
from PIL import Image

from psychostats.document import Column, Document, Figure, Grid, Heading, Panel, Paragraph, Table
from psychostats.rendering import render_html, render_pdf

ROWS = 30


@pytest.fixture(scope="module")
def document() -> Document:
    labelled = Panel((picture(0), picture(1)), 2, 'label <b> #read("x")')
    blocks = (Heading("Stimuli"), trial(), ranking(ROWS), Grid(((labelled, "$a$"),), "Two.", "two <i>"))
    return Document(
        "Pictures",
        (*blocks, Figure(noise(7, 200), "A photograph.", "a JPEG"), Paragraph("The end.")),
        banner="Simulated",
    )


@pytest.fixture(scope="module")
def page(document: Document, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_html(document, tmp_path_factory.mktemp("html") / "report.html")


@pytest.fixture(scope="module")
def pdf(document: Document, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_pdf(document, tmp_path_factory.mktemp("pdf") / "report.pdf")


def test_an_image_that_is_shown_twice_stands_in_the_page_once(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    held = re.findall(r"data:image/jpeg;base64,[\w+/=]+", text)
    assert len(held) == len(set(held)) == 20 + 9 * ROWS + 1
    assert len(re.findall(r"<img ", text)) == 20 + 9 * ROWS + 2 + 1
    assert len(re.findall(r"background-image: url", text)) == 2  # pictures 0 and 1, of the trial and again below it


def test_the_same_pictures_give_the_same_bytes(document: Document, page: Path, pdf: Path, tmp_path: Path) -> None:
    assert render_html(document, tmp_path / "a").read_bytes() == page.read_bytes()
    assert render_pdf(document, tmp_path / "b").read_bytes() == pdf.read_bytes()


def test_every_image_has_its_words_and_they_are_no_markup(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r'<img (?![^>]*alt="[^"]+")', text) == []
    assert 'aria-label="two &lt;i&gt;"' in text
    assert "label &lt;b&gt; #read(&#34;x&#34;)" in text


@pytest.mark.parametrize("width", [1280, 700, 390, 320])
def test_a_browser_shows_every_picture_and_the_page_is_never_wider_than_the_screen(
    page: Path, browser: Callable[..., Any], chromium: Any, width: int
) -> None:
    seen = browser(page, width)
    assert (seen.errors, seen.undrawn, seen.requests) == ((), (), ())
    assert not seen.overflows
    sizes = chromium.execute_script(
        "return [...document.querySelectorAll('.panel img')]"
        ".map(i => [i.clientWidth, i.clientHeight, i.getBoundingClientRect().right])"
    )
    assert len(sizes) == 20 + 9 * ROWS + 2
    assert all(34 <= wide <= 110 and wide == high for wide, high, _ in sizes)
    if width != 320:  # the narrowest of phones scrolls a trial in its own box
        assert max(right for _, _, right in sizes) <= width
    shared = chromium.execute_script(
        "return [...document.querySelectorAll('.panel [class^=shared]')]"
        ".map(i => getComputedStyle(i).backgroundImage.slice(0, 14))"
    )
    assert shared == ['url("data:imag'] * 4


@pytest.mark.parametrize("make", [trial, trials])
def test_a_trial_keeps_its_form_on_a_phone(
    make: Callable[[], Grid], browser: Callable[..., Any], chromium: Any, tmp_path: Path
) -> None:
    seen = browser(render_html(Document("t", (make(),)), tmp_path / "r.html"), 390)
    assert not seen.overflows
    places = chromium.execute_script(
        "return [...document.querySelectorAll('.grid img')]"
        ".map(i => [i.getBoundingClientRect().x, i.getBoundingClientRect().y])"
    )
    for one in (places[first : first + 20] for first in range(0, len(places), 20)):
        lines = [len({y for _, y in one[a:b]}) for a, b in ((0, 9), (9, 11), (11, 20))]
        assert lines == [3, 2, 3]
        assert max(x for x, _ in one[:9]) < one[9][0] < min(x for x, _ in one[11:])


def test_a_long_ranking_runs_over_pages_without_breaking_a_row(pdf: Path, needs_program: Callable[[str], str]) -> None:
    done = subprocess.run([needs_program("pdftotext"), "-layout", pdf, "-"], capture_output=True, check=True)
    sheets = done.stdout.decode("utf-8").split("\f")
    holding = [sheet for sheet in sheets if re.search(r"\bfeature \d", sheet)]
    assert len(holding) > 1
    assert all("Accuracy" in sheet for sheet in holding)
    done = subprocess.run([needs_program("pdftotext"), "-raw", pdf, "-"], capture_output=True, check=True)
    whole = done.stdout.decode("utf-8")
    squeezed = re.sub(r"\s", "", whole)
    for row in range(ROWS):
        assert re.sub(r"\s", "", f"feature {row} {NASTY[row % len(NASTY)]}") in squeezed
        assert f"{1 - row / 1000:.3f}" in whole
    assert whole.index("Figure 2.") < whole.index("feature 0")  # its caption comes first


def test_a_panel_taller_than_a_page_runs_over_pages(tmp_path: Path, needs_program: Callable[[str], str]) -> None:
    tall = Grid(((Panel(tuple(picture(k) for k in range(40)), 2), "beside it"),), "Tall.", "tall")
    pdf = render_pdf(Document("t", (tall,)), tmp_path / "r.pdf")
    done = subprocess.run([needs_program("pdfimages"), "-list", pdf], capture_output=True, check=True, encoding="utf-8")
    assert len({line.split()[0] for line in done.stdout.splitlines()[2:]}) == 2


def test_the_pdf_holds_each_image_once(pdf: Path, needs_program: Callable[[str], str]) -> None:
    done = subprocess.run([needs_program("pdfimages"), "-list", pdf], capture_output=True, check=True, encoding="utf-8")
    objects = {line.split()[10] for line in done.stdout.splitlines()[2:]}
    assert len(objects) == 20 + 9 * ROWS + 1


def test_all_features_of_a_study_open_at_once(tmp_path: Path, chromium: Any) -> None:
    path = render_html(Document("Large", (ranking(160, make=scene),)), tmp_path / "large.html")
    assert path.stat().st_size < 15e6
    chromium.get("about:blank")
    started = time.perf_counter()
    chromium.get(path.as_uri())
    assert time.perf_counter() - started < 5  # two seconds on a machine that does nothing else
    assert chromium.execute_script("return [...document.images].every(image => image.complete)")


def test_what_must_be_seen_is_seen_on_paper_without_colours(
    page: Path, browser: Callable[..., Any], chromium: Any, needs_program: Callable[[str], str], tmp_path: Path
) -> None:
    browser(page)
    made = chromium.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    (tmp_path / "print.pdf").write_bytes(base64.b64decode(made["data"]))
    program = needs_program("pdftoppm")
    subprocess.run([program, "-gray", "-r", "60", "-l", "1", tmp_path / "print.pdf", tmp_path / "sheet"], check=True)
    (sheet,) = tmp_path.glob("sheet*.pgm")
    pixels = np.asarray(Image.open(sheet))
    inked = np.flatnonzero((pixels < 100).any(axis=1))
    words = pixels[inked[0] : inked[0] + 12]  # the banner stands first
    assert (words < 100).sum() > 40


def test_words_of_a_first_column_are_no_column_of_letters_on_a_phone(
    browser: Callable[..., Any], chromium: Any, tmp_path: Path
) -> None:
    names = ["exclusions", "contrast", "participants", "trials", "difference", "interval"]
    row = ["all but repeat_participation", "distributed − local", "33", "913", "+6.8 [+1.8, +11.8]", "above 0"]
    table = Table(
        tuple(Column(name, name.capitalize()) for name in names), pd.DataFrame([row], columns=names), "A table."
    )
    seen = browser(render_html(Document("t", (table,)), tmp_path / "r.html"), 390)
    assert not seen.overflows
    assert 90 < chromium.execute_script("return document.querySelector('td').clientWidth") < 160
