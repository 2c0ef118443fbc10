"""A document with every kind of block, for the tests of all formats."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

import numpy as np
import pandas as pd
from PIL import Image

from psychostats.document import (
    Block,
    BulletList,
    Callout,
    Code,
    CodeBlock,
    Column,
    Document,
    Emph,
    Equation,
    Figure,
    Grid,
    Heading,
    Link,
    Maths,
    Panel,
    Paragraph,
    Picture,
    Strong,
    Table,
    prose,
)

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="160mm" height="60mm"><rect width="50" height="20"/></svg>'
NASTY = [
    '#read("x")', "$a$", "@a", "*b*", "<script>alert(1)</script>", "_x_", "back\\slash", "]", "`tick`", "= title",
    "// remark", "&amp; &lt;", "{{ 7*7 }}", "{% raw %}", "\"quoted\" 'single'", "a--b~c", "-->",
]  # fmt: skip
SHOWN_AS_CODES = {"zero\u200bwidth": "zero[U+200B]width", "ab\u202ecd": "ab[U+202E]cd", "nul\x00": "nul[U+0000]"}
LONG_ID = "5f8a9b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a" * 3


def sample() -> Document:
    """A document with every kind of block, and names from data in every place that takes text."""
    names = [*NASTY, *SHOWN_AS_CODES, LONG_ID]
    frame = pd.DataFrame({"name": names, "share": np.linspace(-0.5, 0.5, len(names))})
    columns = (Column("name", "Name $x$"), Column("name", "As code", "code"), Column("share", "Share", "percent", 1))
    blocks: tuple[Block, ...] = (
        Callout(
            "danger", "Not converged *at all*", (Paragraph(prose("See {0} and {1}.", Link("checks"), Link("tall"))),)
        ),
        Heading("Summary <b>", 1),
        Paragraph(
            prose("{0}, {1} and {2} of {n} trials; {3}.", Strong("@a"), Emph("_x_"), Code("`tick`"), "$a$", n=15120)
        ),
        Paragraph(prose("In {0}, {1} is {2}; see {3}.", Link("algebra"), Maths("η_i"), Link("names"), Link("picture"))),
        BulletList(("*plain*", prose("with {0}", Code("a  b")))),
        Heading("Model", 2),
        Equation(("p_i = g + (1 - g) F(η_i)", "η_i = β_0 + β_1 {0}_i"), ("#x$y$<z>",), "algebra"),
        CodeBlock("fit 'y ~ x' \\\n    --seed 1 #$*_`]"),
        Heading("Checks", 1, "checks"),
        Table(columns, frame, prose("Names such as {0}.", NASTY[0]), note="A *note*.", anchor="names"),
        Figure(SVG, "A <b>caption</b>", 'alt "text" <i>', "picture", 0.5),
        Figure(SVG.replace(b'"60mm"', b'"400mm"'), "Taller than the page", "tall", "tall"),
        Table((Column("a", "A"),), pd.DataFrame({"a": []}), "Empty"),
    )
    return Document("Report on #x <y>", blocks, "Sub $t$", ("A. & B.",), "2 January 2025")


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    """Pixels as a file."""
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, kind, **options)  # type: ignore[arg-type]
    return held.getvalue()


def noise(seed: int, side: int = 32) -> bytes:
    """A picture unlike any other, as a JPEG."""
    return encoded(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8), "JPEG", quality=85)


@functools.cache
def landscape(side: int = 512) -> np.ndarray:
    """Pixels with the spectrum of photographs: amplitude falls with frequency, and channels go together."""
    noise = np.random.default_rng(1).standard_normal((4, side, side))
    down, across = (np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    light, *colours = np.fft.ifft2(np.fft.fft2(noise) / np.maximum(np.hypot(down, across), 1 / side)).real
    pixels = np.stack([light + 0.3 * colour for colour in colours], axis=-1)
    return np.clip(127 + 50 * pixels / pixels.std(), 0, 255).astype(np.uint8)


def scene(seed: int, side: int = 128) -> bytes:
    """A picture unlike any other, as large a JPEG as a photograph with much in it."""
    top, left = np.random.default_rng(seed).integers(0, 512 - side, 2)
    return encoded(landscape()[top : top + side, left : left + side], "JPEG", quality=85)


def picture(seed: int, side: int = 32) -> Picture:
    return Picture(noise(seed, side), f"picture {seed}")


def trial() -> Grid:
    """Nine references, two queries, nine references."""
    sides = [tuple(picture(first + k) for k in range(9)) for first in (0, 9)]
    cells = (Panel(sides[0], 3), Panel((picture(18), picture(19)), 1), Panel(sides[1], 3))
    heads = ("Minimal", "Queries", "Maximal")
    return Grid((cells,), "The target is the upper query.", "a trial as it was seen", heads, anchor="trial")


def trials() -> Grid:
    """Two trials in one grid, with a name before each."""
    (cells,) = trial().rows
    rows = (("natural, local", *cells), ("mixed, distributed", *cells))
    return Grid(rows, "Two trials.", "two trials as they were seen", ("", *trial().heads), anchor="trials")


def ranking(rows: int, pictures: int = 9, make: Callable[[int], bytes] = noise) -> Grid:
    """A row a feature: a name, pictures, a number."""
    cells = tuple(
        (
            f"feature {row} {NASTY[row % len(NASTY)]}",
            Panel(tuple(Picture(make(100 + row * pictures + k), f"image {k}") for k in range(pictures)), pictures),
            f"{1 - row / 1000:.3f}",
        )
        for row in range(rows)
    )
    heads = ("Feature", "Images", "Accuracy")
    return Grid(cells, "Features, *best* first.", "features by accuracy", heads, ("left", "left", "right"), "ranking")
