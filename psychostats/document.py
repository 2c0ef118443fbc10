"""One neutral document: frozen records of blocks, and how words and values of it are written.

In: headings, prose, tables, figures and equations as they are composed.  Out: the same as records, for any format.
Knows neither formats nor statistics.
"""

from __future__ import annotations

import math
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

Format: TypeAlias = Literal["text", "code", "integer", "number", "percent", "p"]
Align: TypeAlias = Literal["left", "center", "right"]

_MISSING = "–"


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
        An SVG, PNG or JPEG, as a path or as bytes. A Word file cannot hold an SVG: the PNG of the same name beside it
        stands in.
    caption, alt
        What stands below it, and what is read out in its place, which may not be empty.
    width
        Share of the text column, above 0 and at most 1.
    """

    source: Path | bytes
    caption: Words
    alt: str
    anchor: str = ""
    width: float = 1.0


@dataclass(frozen=True)
class Picture:
    """A small picture of a grid.

    Parameters
    ----------
    source
        A PNG or JPEG, as a path or as bytes.
    alt
        What is read out in its place; may not be empty.
    """

    source: Path | bytes
    alt: str


@dataclass(frozen=True)
class Panel:
    """Pictures close to each other, in one cell of a grid.

    Parameters
    ----------
    pictures
        Line by line.
    columns
        Pictures a line. On a narrow screen a panel of one line may take several; others keep their form.
    label
        Words above them.
    """

    pictures: tuple[Picture, ...]
    columns: int
    label: str = ""


@dataclass(frozen=True)
class Grid:
    """A numbered figure of many small pictures: rows whose cells are words or panels, all rows with as many cells.

    Its caption stands above it, since it may run over several pages; a row never breaks.

    Parameters
    ----------
    rows
        Cells of each row.
    caption, alt
        As of a figure; `alt` is of the whole, and each picture has its own.
    heads
        Words above each column of cells, or none.
    aligns
        How words stand in each column of cells, by default to the left.
    side
        Pixels of a picture's longer side that are kept; by default 128, or 96 where more than seven stand beside each
        other, which are then shown smaller.
    """

    rows: tuple[tuple[Words | Panel, ...], ...]
    caption: Words
    alt: str
    heads: tuple[str, ...] = ()
    aligns: tuple[Align, ...] = ()
    anchor: str = ""
    side: int | None = None


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


Block: TypeAlias = Heading | Paragraph | BulletList | Callout | Table | Figure | Grid | Equation | CodeBlock


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
