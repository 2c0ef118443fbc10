"""A document as a Word file (DOCX), which authors and journals can edit.

In: a `Document`.  Out: a file whose bytes depend on the document and on pandoc's version alone.  Pandoc is given a tree
of its own kind, never text to read, so text from data is never markup.  Knows nothing of statistics.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from psychostats.document import Document
from psychostats.errors import InputError, ReportError
from psychostats.letterhead import WIDTH_CM, read_parts, write_letterhead, write_parts
from psychostats.lettering import visible
from psychostats.rasters import kind_of, size_of
from psychostats.rendering import source_date, write_whole
from psychostats.tree import Tree, build_tree, pictures

HEIGHT_CM = 21.0
"""The tallest figure, which leaves room for its caption."""

_NEEDED = "a Word file needs pandoc, which comes with the extra 'word': pip install 'psychostats[word]'."
_API = [1, 23, 1]
_NONE: list[Any] = ["", [], []]
_WORDS_CM, _PICTURE_CM = 2.6, 1.9
_SIZED = re.compile(
    r'(<w:tblW w:type="pct" w:w="(\d+)" />(?:(?!</w:tblPr>).)*</w:tblPr><w:tblGrid>)((?:<w:gridCol [^>]*>)+)'
)
_ALIGN = {"left": "AlignLeft", "center": "AlignCenter", "right": "AlignRight"}

Node = dict[str, Any]
"""A node of pandoc's tree: its kind as ``t``, what it holds as ``c``."""


def find_pandoc() -> str:
    """Return the path of pandoc, so that a long job can ask before it begins.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        import pypandoc

        return str(pypandoc.get_pandoc_path())
    except (ImportError, OSError) as error:
        raise InputError(_NEEDED) from error


def render_docx(document: Document, path: Path | str) -> Path:
    """Write `document` as a Word file; return its path.

    The file carries a date only if the environment variable ``SOURCE_DATE_EPOCH`` (seconds since 1970) gives one.

    Parameters
    ----------
    document
        The document. For a figure that is an SVG, which not every Word shows, the PNG of the same name beside it is
        taken.
    path
        The file.

    Raises
    ------
    InputError
        If pandoc is not installed.
    ReportError
        If an anchor, a column or an image of the document is unusable, an SVG has no PNG beside it, or pandoc fails.
    """
    program = find_pandoc()
    moment = source_date()
    tree = build_tree(document, visible)
    with tempfile.TemporaryDirectory() as folder:
        for picture in pictures(tree["notices"] + tree["blocks"]):
            image = _raster(picture)
            picture["width_px"], picture["height_px"] = size_of(image)
            picture["file"] = f"{hashlib.sha256(image).hexdigest()[:16]}.{kind_of(image)}"
            Path(folder, picture["file"]).write_bytes(image)
        plain = _pandoc(program, ["--print-default-data-file", "reference.docx"], b"", folder)
        Path(folder, "letterhead.docx").write_bytes(write_letterhead(plain, tree["banner"]))
        options = ["--from=json", "--to=docx", "--output=-", "--reference-doc=letterhead.docx", "--fail-if-warnings"]
        made = _pandoc(program, options, json.dumps(_document(tree)).encode(), folder)
    return write_whole(Path(path), _settled(made, moment))


def _raster(picture: Tree) -> bytes:
    """Return an image that Word can hold."""
    image: bytes = picture["image"]
    if picture["suffix"] != "svg":
        return image
    beside = Path(picture["beside"])
    if not picture["beside"] or not beside.is_file():
        where = f"'{beside.name}' is not beside it" if picture["beside"] else "it is no file"
        raise ReportError(
            f"figure '{picture['anchor']}' is an SVG; a Word file needs the PNG of the same name beside it, but "
            f"{where}; save_figure(..., png=True) writes both."
        )
    return beside.read_bytes()


def _pandoc(program: str, options: list[str], given: bytes, folder: str) -> bytes:
    """Run pandoc in a folder that holds all it may need: no shell, and nothing that it could fetch from elsewhere."""
    environment = {"LANG": "C.UTF-8", "SOURCE_DATE_EPOCH": "0", "HOME": folder, "TMPDIR": folder}
    environment |= {name: value for name, value in os.environ.items() if name.upper() == "SYSTEMROOT"}  # for Windows
    command = [program, f"--data-dir={folder}", *options]
    done = subprocess.run(command, input=given, capture_output=True, cwd=folder, env=environment, check=False)
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", errors="replace").strip()
        raise ReportError(f"pandoc could not write the Word file: {said}")
    return done.stdout


def _settled(made: bytes, moment: datetime | None) -> bytes:
    """Give the file its date or none, and see to it that no row of a table breaks over pages."""
    parts = read_parts(made)
    core = parts["docProps/core.xml"].decode("utf-8")
    if moment is None:
        core = re.sub(r"<dcterms:(created|modified).*?</dcterms:\1>", "", core, flags=re.S)
    else:
        core = re.sub(r"1970-01-01T00:00:00Z(?=</dcterms:)", f"{moment:%Y-%m-%dT%H:%M:%SZ}", core)
    parts["docProps/core.xml"] = core.encode("utf-8")
    body = parts["word/document.xml"].decode("utf-8")
    body = body.replace("<w:trPr>", "<w:trPr><w:cantSplit/>")
    body = re.sub(r"<w:tr>(?!\s*<w:trPr>)", "<w:tr><w:trPr><w:cantSplit/></w:trPr>", body)
    parts["word/document.xml"] = _SIZED.sub(_fill, body).encode("utf-8")
    return write_parts(parts)


def _fill(table: re.Match[str]) -> str:
    """Give the columns of a table of stated width their share of our page; pandoc takes them of its own."""
    before, share, grid = table.groups()
    widths = [int(width) for width in re.findall(r'w:w="(\d+)"', grid)]
    whole = WIDTH_CM / 2.54 * 1440 * int(share) / 5000
    return before + "".join(f'<w:gridCol w:w="{round(whole * width / sum(widths))}"/>' for width in widths)


# The tree of pandoc ------------------------------------------------------------------------------------------------


def _document(tree: Tree) -> Node:
    """Return the whole document as pandoc's."""
    meta = {"title": _meta(tree["title"]), "lang": {"t": "MetaString", "c": tree["language"]}}
    meta |= {name: _meta(tree[name]) for name in ("subtitle", "date") if tree[name]}
    if tree["authors"]:
        meta["author"] = {"t": "MetaList", "c": [_meta(author) for author in tree["authors"]]}
    blocks = [node for block in tree["notices"] + tree["blocks"] for node in _block(block)]
    return {"pandoc-api-version": _API, "meta": meta, "blocks": blocks}


def _block(block: Tree) -> list[Node]:
    match block["kind"]:
        case "heading":
            words = [_text(block["number"]), _text("\u2002"), _text(block["text"])]
            return [{"t": "Header", "c": [block["level"], [block["anchor"], [], []], words]}]
        case "paragraph":
            return [_para(_prose(block["runs"]))]
        case "list":
            return [{"t": "BulletList", "c": [[{"t": "Plain", "c": _prose(item)}] for item in block["items"]]}]
        case "callout":
            title = _para([{"t": "Strong", "c": [_text(block["title"])]}])
            inner = [node for part in block["blocks"] for node in _block(part)]
            # A table of one cell, since a style of paragraphs would end at a list.
            return [_rows(f"Callout{block['tone'].title()}", [("left", 1.0)], [], [[[title, *inner]]]), _space()]
        case "code":
            return [{"t": "CodeBlock", "c": [_NONE, block["text"]]}]
        case "equation":
            return [_styled("Equation", [_para(_equation(block))], block["anchor"])]
        case "table":
            return _table(block)
        case "grid":
            return _grid(block)
    return _figure(block)


def _equation(block: Tree) -> list[Node]:
    """Return the lines of an equation, the number at the right end of the last."""
    nodes: list[Node] = []
    for line in block["lines"]:
        nodes += [{"t": "LineBreak"}] * bool(nodes)
        nodes.append(_maths([*line["left"], *line["relation"], *line["right"]]))
    return [*nodes, _raw("<w:r><w:tab/></w:r>"), _text(f"({block['number']})")]


def _figure(block: Tree) -> list[Node]:
    width = WIDTH_CM * block["width"]
    width = min(width, HEIGHT_CM * block["width_px"] / block["height_px"])
    shown = _styled("Captioned Figure", [_para([_image(block, "width", width)])], block["anchor"])
    return [shown, _styled("Image Caption", [_para(_caption("Figure", block))])]


def _table(block: Tree) -> list[Node]:
    columns = block["columns"]
    head = [[_styled("Table Head", [_para([_text(column["header"])])])] for column in columns]
    rows = [
        [[_styled("Table Text", [_para(_code(cell) if column["code"] else [_text(cell)])])] for column, cell in pair]
        for pair in (list(zip(columns, row, strict=True)) for row in block["rows"])
    ]
    empty = [_styled("Table Text", [_para([{"t": "Emph", "c": [_text("no rows")]}])])]
    spans = rows or [[empty, *([] for _ in columns[1:])]]
    made = _rows("DataTable", [(column["align"], None) for column in columns], [head], spans)
    note = [_styled("Table Note", [_para(_prose(block["note"]))])] if block["note"] else [_space()]
    return [_styled("Table Caption", [_para(_caption("Table", block))], block["anchor"]), made, *note]


def _grid(block: Tree) -> list[Node]:
    columns = block["columns"]
    words = sum(column["pictures"] == 0 for column in columns)
    total = sum(column["pictures"] for column in columns)
    gaps = 0.25 * (len(columns) - words)
    side = max(0.6, min(_PICTURE_CM, (WIDTH_CM - words * _WORDS_CM - gaps) / max(1, total) - 0.08))
    wide = [column["pictures"] * (side + 0.08) + 0.25 if column["pictures"] else 0.0 for column in columns]
    rest = (WIDTH_CM - sum(wide)) / words if words else 0.0
    shares = [(width or rest) / WIDTH_CM for width in wide]
    aligns = ["center" if column["pictures"] else column["align"] for column in columns]
    head = [[_styled("Table Head", [_para([_text(column["head"])])])] for column in columns]
    rows = [[_cell(cell, side) for cell in row] for row in block["rows"]]
    made = _rows("PictureGrid", list(zip(aligns, shares, strict=True)), [head] if block["headed"] else [], rows)
    caption = _styled("Table Caption", [_para(_caption("Figure", block))], block["anchor"])
    return [caption, made, _space()]


def _cell(cell: Tree, side: float) -> list[Node]:
    if cell["kind"] == "words":
        return [_styled("Table Text", [_para(_prose(cell["runs"]))])]
    nodes: list[Node] = []
    for number, picture in enumerate(cell["pictures"]):
        if number:
            nodes.append({"t": "LineBreak"} if number % cell["columns"] == 0 else _text("\u200a"))
        tall = picture["height_px"] > picture["width_px"]
        nodes.append(_image(picture, "height" if tall else "width", side))
    label = [_styled("Table Text", [_para([_text(cell["label"])])])] if cell["label"] else []
    deep = len(cell["pictures"]) > cell["columns"]
    return [*label, _styled("Pictures Apart" if deep else "Pictures", [_para(nodes)])]


def _rows(
    style: str,
    columns: Sequence[tuple[str, float | None]],
    head: list[list[list[Node]]],
    body: list[list[list[Node]]],
) -> Node:
    """Return a table of cells; an empty cell is taken up by the one before it."""

    def line(cells: list[list[Node]]) -> list[Any]:
        filled = [cell for cell in cells if cell]
        span = 1 + len(cells) - len(filled)
        return [_NONE, [[_NONE, {"t": "AlignDefault"}, 1, span, cell] for cell in filled]]

    widths = [{"t": "ColWidthDefault"} if share is None else {"t": "ColWidth", "c": share} for _, share in columns]
    specs = [[{"t": _ALIGN[align]}, width] for (align, _), width in zip(columns, widths, strict=True)]
    parts = [[_NONE, 0, [], [line(cells) for cells in body]]]
    kind = ["", [], [["custom-style", style]]]
    return {"t": "Table", "c": [kind, [None, []], specs, [_NONE, [line(cells) for cells in head]], parts, [_NONE, []]]}


# Words -------------------------------------------------------------------------------------------------------------


def _prose(runs: list[Tree]) -> list[Node]:
    nodes: list[Node] = []
    for run in runs:
        match run["kind"]:
            case "strong":
                nodes.append({"t": "Strong", "c": [_text(run["text"])]})
            case "emph":
                nodes.append({"t": "Emph", "c": [_text(run["text"])]})
            case "code":
                nodes += _code(run["text"])
            case "link":
                nodes.append({"t": "Link", "c": [_NONE, [_text(run["text"])], [f"#{run['anchor']}", ""]]})
            case "maths":
                nodes.append(_maths(run["symbols"]))
            case _:
                nodes.append(_text(run["text"]))
    return nodes


def _caption(name: str, block: Tree) -> list[Node]:
    return [{"t": "Strong", "c": [_text(f"{name} {block['number']}.")]}, _text(" "), *_prose(block["caption"])]


def _text(text: str) -> Node:
    return {"t": "Str", "c": text}


def _meta(text: str) -> Node:
    return {"t": "MetaInlines", "c": [_text(text)]}


def _code(text: str) -> list[Node]:
    return [{"t": "Code", "c": [_NONE, text]}]


def _para(nodes: list[Node]) -> Node:
    return {"t": "Para", "c": nodes}


def _styled(style: str, blocks: list[Node], anchor: str = "") -> Node:
    return {"t": "Div", "c": [[anchor, [], [["custom-style", style]]], blocks]}


def _space() -> Node:
    """What keeps a table from the next: Word joins two that touch."""
    return _styled("Table Note", [_para([_text("\u200a")])])


def _image(picture: Tree, side: str, cm: float) -> Node:
    kind = ["", [], [[side, f"{cm:.2f}cm"]]]
    return {"t": "Image", "c": [kind, [_text(picture["alt"])], [picture["file"], ""]]}


def _raw(xml: str) -> Node:
    return {"t": "RawInline", "c": ["openxml", xml]}


# Mathematics -------------------------------------------------------------------------------------------------------


def _maths(symbols: list[Tree]) -> Node:
    """Return symbols as Word's own mathematics, for which no text has to be read again as TeX."""
    return _raw(f"<m:oMath>{_symbols(symbols)}</m:oMath>")


def _symbols(symbols: list[Tree]) -> str:
    return "".join(_symbol(symbol) for symbol in symbols)


def _symbol(symbol: Tree) -> str:
    if symbol["kind"] == "scripts":
        below, above = _symbols(symbol["sub"]), _symbols(symbol["sup"])
        kind = "sSubSup" if below and above else "sSub" if below else "sSup"
        scripts = (f"<m:sub>{below}</m:sub>" if below else "") + (f"<m:sup>{above}</m:sup>" if above else "")
        return f"<m:{kind}><m:e>{_symbols(symbol['base'])}</m:e>{scripts}</m:{kind}>"
    text = "\u2009" if symbol["kind"] == "space" else symbol["text"]
    plain = '<m:rPr><m:sty m:val="p"/></m:rPr>' if symbol["kind"] in ("word", "space") else ""
    return f'<m:r>{plain}<m:t xml:space="preserve">{escape(text)}</m:t></m:r>'
