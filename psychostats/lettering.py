"""Text from data, made fit to print: what would be invisible or has no glyph shows as its code point.

In: any text.  Out: text that the fonts of figures and PDF can draw.  Knows nothing of markup and escapes nothing.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path


@cache
def _glyphs() -> frozenset[int]:
    """Code points of DejaVu Sans, the font of the figures and the last resort of the PDF."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(font_folder() / "DejaVuSans.ttf")).get_charmap())


def font_folder() -> Path:
    """Folder of the fonts that come with matplotlib, the same on every machine."""
    import matplotlib as mpl  # here, since whoever reads trials makes text visible and draws nothing

    return Path(mpl.get_data_path(), "fonts", "ttf")


def visible(text: str) -> str:
    """Show control and format characters, which could hide or reorder text, as ``[U+200B]``; keep line breaks."""
    return "".join(_code(sign) if unicodedata.category(sign)[0] == "C" and sign != "\n" else sign for sign in text)


def drawable(text: str) -> str:
    """As `visible`, and show what has no glyph, such as an emoji, as its code point too."""
    return "".join(sign if sign == "\n" or ord(sign) in _glyphs() else _code(sign) for sign in visible(text))


def _code(sign: str) -> str:
    return f"[U+{ord(sign):04X}]"
