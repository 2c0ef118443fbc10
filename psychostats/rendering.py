"""A document set as pages: one HTML file, or PDF.

In: a `Document`.  Out: files whose bytes depend on the document alone.  Text is never read as markup, in either
format.  Knows nothing of statistics.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import tempfile
from collections import Counter
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import typst

from psychostats.document import Document
from psychostats.errors import ReportError
from psychostats.lettering import drawable, font_folder, visible
from psychostats.tree import Tree, build_tree, pictures

GENERATOR = '<meta name="generator" content="psychostats">'
"""What the head of every page holds, so that it can be told from others' pages."""

_MIME = {"svg": "image/svg+xml", "png": "image/png", "jpg": "image/jpeg"}
_BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
"""One pixel without ink."""

_TEMPLATES = resources.files("psychostats") / "templates"


def render_html(document: Document, path: Path | str) -> Path:
    """Write `document` as one HTML file that needs no network and no script; return its path.

    Raises
    ------
    ReportError
        If an anchor, a column or an image of the document is unusable.
    """
    tree = build_tree(document, visible)
    shared = _embed(list(pictures(tree["notices"] + tree["blocks"])))
    loader = jinja2.DictLoader({"report.html": (_TEMPLATES / "report.html").read_text(encoding="utf-8")})
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["terms"] = _terms
    css = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    page = environment.get_template("report.html").render(document=tree, css=css + shared)
    return write_whole(Path(path), page.encode("utf-8"))


def render_pdf(document: Document, path: Path | str) -> Path:
    """Write `document` as PDF with fonts that come along, so that it looks the same everywhere; return its path.

    The file carries a date only if the environment variable ``SOURCE_DATE_EPOCH`` (seconds since 1970) gives one.

    Raises
    ------
    ReportError
        As for `render_html`, and if the typesetting fails.
    """
    tree = build_tree(document, drawable)
    moment = source_date()
    tree["created"] = list(moment.timetuple()[:6]) if moment else None
    with tempfile.TemporaryDirectory() as folder:
        for picture in pictures(tree["notices"] + tree["blocks"]):
            image = picture.pop("image")
            picture["file"] = f"{hashlib.sha256(image).hexdigest()}.{picture['suffix']}"
            Path(folder, picture["file"]).write_bytes(image)
        # The template reads the document as data: no text of it ever becomes Typst source.
        Path(folder, "document.json").write_text(json.dumps(tree), encoding="utf-8")
        source = Path(folder, "report.typ")
        source.write_bytes((_TEMPLATES / "report.typ").read_bytes())
        try:
            pdf = typst.compile(str(source), root=folder, font_paths=[str(font_folder())], ignore_system_fonts=True)
        except typst.TypstError as error:
            raise ReportError(f"the PDF '{Path(path).name}' could not be typeset: {error}") from error
    return write_whole(Path(path), pdf)


def source_date() -> datetime | None:
    """Return the moment that ``SOURCE_DATE_EPOCH`` (seconds since 1970) gives, if it gives one.

    Raises
    ------
    ReportError
        If it holds anything else.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch and not epoch.isdigit():
        raise ReportError(f"SOURCE_DATE_EPOCH is '{epoch}'; it must be whole seconds since 1970.")
    return datetime.fromtimestamp(int(epoch), UTC) if epoch else None


def _data_url(image: bytes, suffix: str) -> str:
    """Return an image as an address that holds it."""
    return f"data:{_MIME[suffix]};base64,{base64.b64encode(image).decode('ascii')}"


def _embed(shown: list[Tree]) -> str:
    """Give each image its address in the page; return the style sheet of those that are shown more than once.

    These stand once, in the style sheet, behind an image without any ink, so that a page of many trials stays small.
    """
    times = Counter(picture["image"] for picture in shown)
    classes = {image: f"shared{number}" for number, image in enumerate(one for one in times if times[one] > 1)}
    rules = {}
    for picture in shown:
        image = picture.pop("image")
        address = _data_url(image, picture["suffix"])
        picture["shared"] = classes.get(image, "") if picture.get("kind") != "figure" else ""
        if picture["shared"]:
            rules[picture["shared"]] = f".panel .{picture['shared']} {{ background-image: url({address}); }}\n"
        picture["src"] = _BLANK if picture["shared"] else address
    return "".join(rules.values())


def _terms(symbols: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Split a line of mathematics before each plus or minus that stands between symbols."""
    starts = [i for i, symbol in enumerate(symbols) if i > 0 and symbol.get("text") in ("+", "−")]
    edges = [0, *starts, len(symbols)]
    return [symbols[a:b] for a, b in itertools.pairwise(edges)]


def write_whole(path: Path, content: bytes) -> Path:
    """Write beside the target and move into place, so that no half file is ever found there; return the path."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
    return path
