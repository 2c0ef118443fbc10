"""Text made fit to print: nothing hides, and nothing is asked of a font that it cannot draw."""

from __future__ import annotations

import pytest

from psychostats.lettering import drawable, font_folder, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u200bb", "a[U+200B]b"),
        ("\u202eexe.txt", "[U+202E]exe.txt"),
        ("nul\x00tab\t", "nul[U+0000]tab[U+0009]"),
        ("two\nlines", "two\nlines"),
        ("naïve – λ 日本 🧠", "naïve – λ 日本 🧠"),
    ],
)
def test_invisible_signs_show_as_their_code_point(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_signs_without_a_glyph_show_as_their_code_point() -> None:
    assert drawable("λ − 日🧠") == "λ − [U+65E5][U+1F9E0]"


def test_every_printable_latin_and_greek_letter_is_drawn() -> None:
    letters = "".join(map(chr, [*range(0x20, 0x7F), *range(0xC0, 0x180), *range(0x3B1, 0x3CA)]))
    assert drawable(letters) == letters


def test_the_font_comes_with_the_installation() -> None:
    assert (font_folder() / "DejaVuSans.ttf").is_file()
