"""A document as plain dictionaries: numbered, checked, and with all text made fit to print, for any format to set.

In: a `Document`.  Out: nested dictionaries, lists, text and the bytes of images.  Knows no format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from psychostats.document import (
    Block,
    BulletList,
    Callout,
    CodeBlock,
    Document,
    Equation,
    Figure,
    Grid,
    Heading,
    Link,
    Maths,
    Panel,
    Paragraph,
    Picture,
    Table,
    Text,
    Words,
    format_value,
)
from psychostats.errors import ReportError
from psychostats.notation import read_line, read_symbols
from psychostats.rasters import kind_of, shrink

Tree = dict[str, Any]
"""A document, or one of its blocks, as plain values."""

SIDE, SIDE_OF_MANY, FEW = 128, 96, 7
"""Pixels that are kept of a picture, with up to `FEW` beside each other, and with more."""

_ANCHOR = re.compile(r"[a-z][a-z0-9-]*")


def build_tree(document: Document, letters: Callable[[str], str]) -> Tree:
    """Return a document as plain values.

    Parameters
    ----------
    document
        The document.
    letters
        Makes text fit to print in the format, as `psychostats.lettering` does.

    Raises
    ------
    ReportError
        If an anchor, a column or an image of the document is unusable.
    """
    return _Builder(document, letters).build()


def walk(blocks: list[Tree]) -> Iterator[Tree]:
    """Yield all blocks, those inside callouts too."""
    for block in blocks:
        yield block
        yield from walk(block.get("blocks", []))


def pictures(blocks: list[Tree]) -> Iterator[Tree]:
    """Yield all that holds an image (``image``, ``suffix``, ``alt``): figures, and pictures of grids."""
    for block in walk(blocks):
        if block["kind"] == "figure":
            yield block
        elif block["kind"] == "grid":
            yield from (one for row in block["rows"] for cell in row for one in cell.get("pictures", []))


class _Builder:
    """Turn a document into plain dictionaries with all numbers given and all text made fit to print."""

    def __init__(self, document: Document, letters: Callable[[str], str]):
        self.document = document
        self.letters = letters
        self.counts: dict[str, int] = {}
        self.section = [0, 0, 0]
        self.names: dict[str, str] = {}
        self.links: list[Tree] = []
        self.small: dict[tuple[Path | bytes, int], bytes] = {}  # a picture that is shown twice is made small once

    def build(self) -> Tree:
        """Return the tree; references are filled in last, since they may come before their target."""
        notices = [self.block(block) for block in self.document.notices]
        blocks = [self.block(block) for block in self.document.blocks]
        for link in self.links:
            if link["anchor"] not in self.names:
                raise ReportError(f"the document refers to '{link['anchor']}', which no block has as its anchor.")
            link["text"] = link["text"] or self.names[link["anchor"]]
        return {
            "title": self.letters(self.document.title),
            "subtitle": self.letters(self.document.subtitle),
            "authors": [self.letters(author) for author in self.document.authors],
            "date": self.letters(self.document.date),
            "language": self.document.language,
            "banner": self.letters(self.document.banner),
            "notices": notices,
            "headings": [block for block in blocks if block["kind"] == "heading"],
            "blocks": blocks,
        }

    def block(self, block: Block) -> Tree:
        match block:
            case Heading(text, level):
                self.section[level - 1] += 1
                self.section[level:] = [0] * (3 - level)
                number = ".".join(map(str, self.section[:level]))
                return self.mark(block.anchor, "Section", number) | {
                    "kind": "heading",
                    "level": level,
                    "text": self.letters(text),
                }
            case Paragraph(words):
                return {"kind": "paragraph", "runs": self.runs(words)}
            case BulletList(items):
                return {"kind": "list", "items": [self.runs(item) for item in items]}
            case Callout(tone, title, blocks):
                inner = [self.block(part) for part in blocks]
                return {"kind": "callout", "tone": tone, "title": self.letters(title), "blocks": inner}
            case CodeBlock(text):
                return {"kind": "code", "text": self.letters(text.strip("\n"))}
            case Table():
                return self.table(block)
            case Figure():
                return self.figure(block)
            case Grid():
                return self.grid(block)
            case Equation(lines, values):
                read = [read_line(line, self.names_of(values)) for line in lines]
                return self.count(block) | {
                    "kind": "equation",
                    "lines": read,
                    "source": [self.letters(x) for x in lines],
                }

    def table(self, table: Table) -> Tree:
        absent = [column.key for column in table.columns if column.key not in table.frame]
        if absent:
            raise ReportError(f"a table of the document prints the column '{absent[0]}', which its frame lacks.")
        columns = [
            {
                "header": self.letters(column.header),
                "align": column.align or ("left" if column.format in ("text", "code") else "right"),
                "code": column.format == "code",
            }
            for column in table.columns
        ]
        cells = [
            [self.letters(format_value(value, column.format, column.digits)) for value in table.frame[column.key]]
            for column in table.columns
        ]
        rows = [list(row) for row in zip(*cells, strict=True)]
        words = {"caption": self.runs(table.caption), "note": self.runs(table.note)}
        return self.count(table) | words | {"kind": "table", "columns": columns, "rows": rows}

    def figure(self, figure: Figure) -> Tree:
        image = _read(figure.source)
        suffix = kind_of(image)
        if suffix is None:
            raise ReportError(f"figure '{figure.anchor or figure.alt}' of the document is no SVG, PNG or JPEG.")
        if not 0 < figure.width <= 1:
            raise ReportError(f"figure width {figure.width} is not above 0 and at most 1.")
        words = {"caption": self.runs(figure.caption), "alt": self.alt(figure.alt, figure)}
        beside = str(figure.source.with_suffix(".png")) if isinstance(figure.source, Path) else ""
        held = {"image": image, "suffix": suffix, "width": figure.width, "beside": beside}
        return self.count(figure) | words | held | {"kind": "figure"}

    def grid(self, grid: Grid) -> Tree:
        count = len(grid.rows[0]) if grid.rows else 0
        named = f"the grid '{grid.anchor or grid.alt}' of the document"
        if not count or any(len(row) != count for row in grid.rows):
            raise ReportError(f"{named} needs rows, all with as many cells.")
        if len(grid.heads) not in (0, count) or len(grid.aligns) not in (0, count):
            raise ReportError(f"{named} has {count} columns; it needs as many heads and alignments, or none.")
        if not 16 <= (grid.side or SIDE) <= 1024:
            raise ReportError(f"{named} keeps {grid.side} pixels a side; 16 to 1024 may be kept.")
        words = {"caption": self.runs(grid.caption), "alt": self.alt(grid.alt, grid)}
        # Pictures beside each other in each column of cells; none where it holds words alone.
        widths = [max(map(_pictures_a_line, column)) for column in zip(*grid.rows, strict=True)]
        side = grid.side or (SIDE if sum(widths) <= FEW else SIDE_OF_MANY)
        rows = [[self.cell(cell, grid, side) for cell in row] for row in grid.rows]
        aligns = grid.aligns or ("left",) * count
        columns = [
            {"head": self.letters(head), "align": align, "pictures": width}
            for head, align, width in zip(grid.heads or ("",) * count, aligns, widths, strict=True)
        ]
        headed = any(grid.heads)
        return self.count(grid) | words | {"kind": "grid", "columns": columns, "rows": rows, "headed": headed}

    def cell(self, cell: Words | Panel, grid: Grid, side: int) -> Tree:
        if not isinstance(cell, Panel):
            return {"kind": "words", "runs": self.runs(cell)}
        if cell.columns < 1 or not cell.pictures:
            raise ReportError(f"a panel of the grid '{grid.anchor or grid.alt}' has no pictures, or no columns.")
        shown = [self.picture(picture, grid, side) for picture in cell.pictures]
        return {
            "kind": "panel",
            "columns": _pictures_a_line(cell),
            "label": self.letters(cell.label),
            "pictures": shown,
        }

    def picture(self, picture: Picture, grid: Grid, side: int) -> Tree:
        key = (picture.source, side)
        if key not in self.small:
            self.small[key] = shrink(_read(picture.source), side)
        image = self.small[key]
        return {"image": image, "suffix": kind_of(image), "alt": self.alt(picture.alt, grid)}

    def alt(self, alt: str, block: Figure | Grid) -> str:
        """What is read out in place of an image, which would be nothing at all without it."""
        if not alt.strip():
            kind = type(block).__name__.lower()
            raise ReportError(f"an image of the {kind} '{block.anchor or block.alt}' has no alternative text (alt).")
        return self.letters(alt)

    def runs(self, words: Words) -> list[Tree]:
        runs: list[Tree] = []
        for run in (Text(words),) if isinstance(words, str) else words:
            match run:
                case Maths(source, values):
                    runs.append({"kind": "maths", "symbols": read_symbols(source, self.names_of(values))})
                case Link(anchor, text):
                    runs.append({"kind": "link", "anchor": anchor, "text": self.letters(text)})
                    self.links.append(runs[-1])
                case _:
                    runs.append({"kind": type(run).__name__.lower(), "text": self.letters(run.text)})
        return runs

    def names_of(self, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self.letters(value) for value in values)

    def count(self, block: Table | Figure | Grid | Equation) -> Tree:
        kind = "Figure" if isinstance(block, Grid) else type(block).__name__
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return self.mark(block.anchor, kind, str(self.counts[kind]))

    def mark(self, anchor: str, kind: str, number: str) -> Tree:
        anchor = anchor or f"{kind.lower()}-{number.replace('.', '-')}"
        if not _ANCHOR.fullmatch(anchor):
            raise ReportError(f"anchor '{anchor}' may hold only small letters, digits and hyphens.")
        if anchor in self.names:
            raise ReportError(f"anchor '{anchor}' is used twice in the document.")
        self.names[anchor] = f"{kind} {number}"
        return {"anchor": anchor, "number": number}


def _pictures_a_line(cell: Words | Panel) -> int:
    return min(cell.columns, len(cell.pictures)) if isinstance(cell, Panel) else 0


def _read(source: Path | bytes) -> bytes:
    """Return the bytes of an image."""
    try:
        return source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise ReportError(f"a figure of the document cannot be read: {error}.") from error
