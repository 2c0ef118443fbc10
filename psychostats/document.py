"""One neutral document, rendered last: to a single HTML file and to PDF.

In: frozen records of blocks (headings, prose, tables, figures, equations).  Out: files whose bytes depend on the
document alone.  Text is never read as markup, in either format.  Knows nothing of statistics.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import os
import re
import string
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jinja2
import numpy as np
import pandas as pd
import typst

from psychostats.errors import ReportError
from psychostats.lettering import drawable, font_folder, visible
from psychostats.notation import read_line, read_symbols

Format: TypeAlias = Literal["text", "code", "integer", "number", "percent", "p"]
Align: TypeAlias = Literal["left", "center", "right"]

GENERATOR = '<meta name="generator" content="psychostats">'
"""What the head of every page holds, so that it can be told from others' pages."""

_MISSING = "–"
_TEMPLATES = resources.files("psychostats") / "templates"
_ANCHOR = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Text:
    """Plain words."""

    text: str


@dataclass(frozen=True)
class Strong:
    """Words in bold."""

    text: str


@dataclass(frozen=True)
class Emph:
    """Words in italics."""

    text: str


@dataclass(frozen=True)
class Code:
    """A name, formula or command, letter by letter."""

    text: str


@dataclass(frozen=True)
class Link:
    """A cross reference; without `text` it reads as its target is numbered, for example *Figure 2*."""

    anchor: str
    text: str = ""


@dataclass(frozen=True)
class Maths:
    """A formula in the line, written as in `Equation`."""

    source: str
    values: tuple[str, ...] = ()


Inline: TypeAlias = Text | Strong | Emph | Code | Link | Maths
Words: TypeAlias = str | tuple[Inline, ...]
"""Text of a block: a plain string, or what `prose` returns."""


@dataclass(frozen=True)
class Heading:
    """A numbered heading of level 1 to 3."""

    text: str
    level: Literal[1, 2, 3] = 1
    anchor: str = ""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    words: Words


@dataclass(frozen=True)
class BulletList:
    """A list of points."""

    items: tuple[Words, ...]


@dataclass(frozen=True)
class Callout:
    """A box that stands out from the text."""

    kind: Literal["note", "warning", "danger"]
    title: str
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class Column:
    """One column of a table and how its cells print.

    Parameters
    ----------
    key
        Name of the column in the frame.
    header
        Heading as printed.
    format, digits
        As in `format_value`.
    align
        By default numbers to the right, text to the left.
    """

    key: str
    header: str
    format: Format = "text"
    digits: int = 2
    align: Align | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """A numbered table: the named columns of a frame, in the order given."""

    columns: tuple[Column, ...]
    frame: pd.DataFrame
    caption: Words
    note: Words = ""
    anchor: str = ""


@dataclass(frozen=True)
class Figure:
    """A numbered figure.

    Parameters
    ----------
    source
        An SVG or PNG, as a path or as bytes.
    caption, alt
        What stands below it, and what is read out in its place.
    width
        Share of the text column, above 0 and at most 1.
    """

    source: Path | bytes
    caption: Words
    alt: str
    anchor: str = ""
    width: float = 1.0


@dataclass(frozen=True)
class Equation:
    """A numbered equation of one or more lines, aligned at their first relation.

    Single letters are variables, longer words are upright, ``_`` and ``^`` set the next symbol, or all of the next
    brackets, below and above: ``η_i = β_0 + u_(0, participant[i])``.  ``{0}`` stands for ``values[0]``, printed as it
    is; names from data go there.
    """

    lines: tuple[str, ...]
    values: tuple[str, ...] = ()
    anchor: str = ""


@dataclass(frozen=True)
class CodeBlock:
    """Lines of code or a command."""

    text: str


Block: TypeAlias = Heading | Paragraph | BulletList | Callout | Table | Figure | Equation | CodeBlock


@dataclass(frozen=True)
class Document:
    """A whole document.

    Parameters
    ----------
    title, subtitle, authors, date, language
        Printed as given.
    notices
        What stands before the contents.
    banner
        What stands at the head of every page.
    blocks
        The rest.
    """

    title: str
    blocks: tuple[Block, ...]
    subtitle: str = ""
    authors: tuple[str, ...] = ()
    date: str = ""
    language: str = "en"
    notices: tuple[Block, ...] = ()
    banner: str = ""


def prose(template: str, *values: Inline | str | int, **named: Inline | str | int) -> tuple[Inline, ...]:
    """Return words with values in place of ``{0}``, ``{}`` or ``{name}``; no value is ever read as markup.

    Examples
    --------
    >>> prose("Accuracy was {0} for {1}.", Strong("0.82"), Code("local"))[1]
    Strong(text='0.82')
    """
    runs: list[Inline] = []
    count = 0
    for literal, name, _, _ in string.Formatter().parse(template):
        if literal:
            runs.append(Text(literal))
        if name is None:
            continue
        value = named[name] if name and not name.isdigit() else values[int(name) if name else count]
        count += 1
        runs.append(Text(f"{value:,}") if isinstance(value, int) else Text(value) if isinstance(value, str) else value)
    return tuple(runs)


def format_value(value: object, format: Format = "text", digits: int = 2) -> str:
    """Print one value as tables do.

    Parameters
    ----------
    value
        Anything; what is missing prints as an en dash.
    format
        ``text`` and ``code`` as it is, ``integer`` rounded with thousands apart, ``number`` and ``percent`` (of a
        share) with `digits` decimals, ``p`` as ``number`` but ``< 0.001`` where it would print as zero.
    digits
        Decimals.
    """
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return _MISSING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if not isinstance(value, int | float | np.integer | np.floating):
        return str(value)
    number = float(value)
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    if format == "p" and 0 <= number < 0.5 * 10**-digits:
        return f"< {10**-digits:.{digits}f}"
    shown = {
        "integer": f"{number:,.0f}",
        "number": f"{number:.{digits}f}",
        "p": f"{number:.{digits}f}",
        "percent": f"{100 * number:.{digits}f}",
    }.get(format, f"{value:g}" if isinstance(value, float | np.floating) else str(value))
    if not shown.strip("-0.,"):
        shown = shown.lstrip("-")  # a rounded zero has no sign
    return shown.replace("-", "−") + ("\u00a0%" if format == "percent" else "")


def render_html(document: Document, path: Path | str) -> Path:
    """Write `document` as one HTML file that needs no network and no script; return its path.

    Raises
    ------
    ReportError
        If an anchor, a column or an image of the document is unusable.
    """
    tree = _Tree(document, visible).build()
    for block in _walk(tree["notices"] + tree["blocks"]):
        if block["kind"] == "figure":
            mime = "image/svg+xml" if block["suffix"] == "svg" else "image/png"
            block["src"] = f"data:{mime};base64,{base64.b64encode(block['image']).decode('ascii')}"
    loader = jinja2.DictLoader({"report.html": (_TEMPLATES / "report.html").read_text(encoding="utf-8")})
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["terms"] = _terms
    css = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    page = environment.get_template("report.html").render(document=tree, css=css)
    return _write(Path(path), page.encode("utf-8"))


def render_pdf(document: Document, path: Path | str) -> Path:
    """Write `document` as PDF with fonts that come along, so that it looks the same everywhere; return its path.

    The file carries a date only if the environment variable ``SOURCE_DATE_EPOCH`` (seconds since 1970) gives one.

    Raises
    ------
    ReportError
        As for `render_html`, and if the typesetting fails.
    """
    tree = _Tree(document, drawable).build()
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch and not epoch.isdigit():
        raise ReportError(f"SOURCE_DATE_EPOCH is '{epoch}'; it must be whole seconds since 1970.")
    tree["created"] = list(datetime.fromtimestamp(int(epoch), UTC).timetuple()[:6]) if epoch else None
    with tempfile.TemporaryDirectory() as folder:
        for block in _walk(tree["notices"] + tree["blocks"]):
            if block["kind"] == "figure":
                block["file"] = f"{block['anchor']}.{block['suffix']}"
                Path(folder, block["file"]).write_bytes(block.pop("image"))
        # The template reads the document as data: no text of it ever becomes Typst source.
        Path(folder, "document.json").write_text(json.dumps(tree), encoding="utf-8")
        source = Path(folder, "report.typ")
        source.write_bytes((_TEMPLATES / "report.typ").read_bytes())
        try:
            pdf = typst.compile(str(source), root=folder, font_paths=[str(font_folder())], ignore_system_fonts=True)
        except typst.TypstError as error:
            raise ReportError(f"the PDF '{Path(path).name}' could not be typeset: {error}") from error
    return _write(Path(path), pdf)


class _Tree:
    """Turn a document into plain dictionaries with all numbers given and all text made fit to print."""

    def __init__(self, document: Document, letters: Callable[[str], str]):
        self.document = document
        self.letters = letters
        self.counts: dict[str, int] = {}
        self.section = [0, 0, 0]
        self.names: dict[str, str] = {}
        self.links: list[dict[str, Any]] = []

    def build(self) -> dict[str, Any]:
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

    def block(self, block: Block) -> dict[str, Any]:
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
            case Equation(lines, values):
                read = [read_line(line, self.names_of(values)) for line in lines]
                return self.count(block) | {
                    "kind": "equation",
                    "lines": read,
                    "source": [self.letters(x) for x in lines],
                }

    def table(self, table: Table) -> dict[str, Any]:
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

    def figure(self, figure: Figure) -> dict[str, Any]:
        try:
            image = figure.source.read_bytes() if isinstance(figure.source, Path) else figure.source
        except OSError as error:
            raise ReportError(f"a figure of the document cannot be read: {error}.") from error
        if image.startswith(b"\x89PNG"):
            suffix = "png"
        elif b"<svg" in image[:2000]:
            suffix = "svg"
        else:
            raise ReportError(f"figure '{figure.anchor or figure.alt}' of the document is neither SVG nor PNG.")
        if not 0 < figure.width <= 1:
            raise ReportError(f"figure width {figure.width} is not above 0 and at most 1.")
        words = {"caption": self.runs(figure.caption), "alt": self.letters(figure.alt)}
        return self.count(figure) | words | {"kind": "figure", "image": image, "suffix": suffix, "width": figure.width}

    def runs(self, words: Words) -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = []
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

    def count(self, block: Table | Figure | Equation) -> dict[str, Any]:
        kind = type(block).__name__
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return self.mark(block.anchor, kind, str(self.counts[kind]))

    def mark(self, anchor: str, kind: str, number: str) -> dict[str, Any]:
        anchor = anchor or f"{kind.lower()}-{number.replace('.', '-')}"
        if not _ANCHOR.fullmatch(anchor):
            raise ReportError(f"anchor '{anchor}' may hold only small letters, digits and hyphens.")
        if anchor in self.names:
            raise ReportError(f"anchor '{anchor}' is used twice in the document.")
        self.names[anchor] = f"{kind} {number}"
        return {"anchor": anchor, "number": number}


def _terms(symbols: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Split a line of mathematics before each plus or minus that stands between symbols."""
    starts = [i for i, symbol in enumerate(symbols) if i > 0 and symbol.get("text") in ("+", "−")]
    edges = [0, *starts, len(symbols)]
    return [symbols[a:b] for a, b in itertools.pairwise(edges)]


def _walk(blocks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All blocks, those inside callouts too."""
    for block in blocks:
        yield block
        yield from _walk(block.get("blocks", []))


def _write(path: Path, content: bytes) -> Path:
    """Write beside the target and move into place, so that no half file is ever found there."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
    return path
