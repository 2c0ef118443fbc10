"""A document set as pages: one HTML file, or PDF.

In: a `Document`.  Out: files whose bytes depend on the document alone.  Text is never read as markup, in either
format.  Knows nothing of statistics.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import tempfile
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import typst

from psychostats.document import Document
from psychostats.errors import ReportError
from psychostats.lettering import drawable, font_folder, visible
from psychostats.tree import build_tree, walk

GENERATOR = '<meta name="generator" content="psychostats">'
"""What the head of every page holds, so that it can be told from others' pages."""

_TEMPLATES = resources.files("psychostats") / "templates"


def render_html(document: Document, path: Path | str) -> Path:
    """Write `document` as one HTML file that needs no network and no script; return its path.

    Raises
    ------
    ReportError
        If an anchor, a column or an image of the document is unusable.
    """
    tree = build_tree(document, visible)
    for block in walk(tree["notices"] + tree["blocks"]):
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
    tree = build_tree(document, drawable)
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch and not epoch.isdigit():
        raise ReportError(f"SOURCE_DATE_EPOCH is '{epoch}'; it must be whole seconds since 1970.")
    tree["created"] = list(datetime.fromtimestamp(int(epoch), UTC).timetuple()[:6]) if epoch else None
    with tempfile.TemporaryDirectory() as folder:
        for block in walk(tree["notices"] + tree["blocks"]):
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


def _terms(symbols: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Split a line of mathematics before each plus or minus that stands between symbols."""
    starts = [i for i, symbol in enumerate(symbols) if i > 0 and symbol.get("text") in ("+", "−")]
    edges = [0, *starts, len(symbols)]
    return [symbols[a:b] for a, b in itertools.pairwise(edges)]


def _write(path: Path, content: bytes) -> Path:
    """Write beside the target and move into place, so that no half file is ever found there."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
    return path
