"""The paper that a Word file is written on: page, styles, and what stands at the head and foot of every page.

In: pandoc's own reference document, the banner of a document.  Out: the same with our styles.  Knows no text but the
banner.
"""

from __future__ import annotations

import io
import re
import zipfile
from importlib import resources
from xml.sax.saxutils import escape

WIDTH_CM = 16.0
"""Width of the text column: A4 with margins of 25 mm."""

_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_ENDS = (
    f'<w:headerReference {_R} w:type="default" r:id="rId90"/><w:footerReference {_R} w:type="default" r:id="rId91"/>'
)
_PAGE = (
    '<w:pgSz w:w="11906" w:h="16838"/><w:pgMar w:top="1474" w:right="1417" w:bottom="1361" w:left="1417" '
    'w:header="709" w:footer="709" w:gutter="0"/>'
)
_FOOT = (
    '<w:p><w:pPr><w:pStyle w:val="PageFoot"/></w:pPr><w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText '
    'xml:space="preserve"> PAGE </w:instrText></w:r><w:r><w:fldChar w:fldCharType="separate"/></w:r><w:r><w:t>1</w:t>'
    '</w:r><w:r><w:fldChar w:fldCharType="end"/></w:r></w:p>'
)


def write_letterhead(plain: bytes, banner: str) -> bytes:
    """Return a reference document.

    Parameters
    ----------
    plain
        Pandoc's reference document.
    banner
        What stands at the head of every page; read as text.
    """
    parts = read_parts(plain)
    styles = (resources.files("psychostats") / "templates" / "word_styles.xml").read_text(encoding="utf-8")
    ours = re.findall(r"<w:style .*?</w:style>", styles, flags=re.S)
    text = parts["word/styles.xml"].decode("utf-8")
    for style in ours:
        identity = re.search(r'w:styleId="\w+"', style)
        assert identity is not None
        text = re.sub(rf"<w:style [^>]*{identity[0]}.*?</w:style>", "", text, flags=re.S)
    # Pandoc's own size, 12 points, is large beside tables of many columns.
    text = re.sub(r'(<w:docDefaults>.*?<w:sz w:val=)"24"(.*?<w:szCs w:val=)"24"', r'\1"21"\2"21"', text, flags=re.S)
    parts["word/styles.xml"] = text.replace("</w:styles>", "".join(ours) + "</w:styles>").encode("utf-8")
    head = f'<w:p><w:pPr><w:pStyle w:val="Banner"/></w:pPr><w:r><w:t>{escape(banner)}</w:t></w:r></w:p>'
    for name, content in (("header", head), ("footer", _FOOT)):
        kind = "hdr" if name == "header" else "ftr"
        parts[f"word/{name}1.xml"] = f"{_XML}<w:{kind} {_W}>{content}</w:{kind}>".encode()
        address = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
        number = "rId90" if name == "header" else "rId91"
        _before(
            parts,
            "word/_rels/document.xml.rels",
            "</Relationships>",
            f'<Relationship Id="{number}" Type="{address}/{name}" Target="{name}1.xml"/>',
        )
        kind_of_part = f"application/vnd.openxmlformats-officedocument.wordprocessingml.{name}+xml"
        _before(
            parts,
            "[Content_Types].xml",
            "</Types>",
            f'<Override PartName="/word/{name}1.xml" ContentType="{kind_of_part}"/>',
        )
    # Word wants them in this order: head and foot, notes (which pandoc sets), page.
    body = parts["word/document.xml"].decode("utf-8").replace("<w:sectPr>", "<w:sectPr>" + _ENDS)
    parts["word/document.xml"] = body.replace("</w:sectPr>", _PAGE + "</w:sectPr>").encode("utf-8")
    return write_parts(parts)


def read_parts(file: bytes) -> dict[str, bytes]:
    """Return the parts of a Word file by name, in their order."""
    with zipfile.ZipFile(io.BytesIO(file)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def write_parts(parts: dict[str, bytes], moment: tuple[int, int, int, int, int, int] = (1980, 1, 1, 0, 0, 0)) -> bytes:
    """Return a Word file of these parts, all of one moment: its year is 1980, the first that the format knows."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in parts.items():
            entry = zipfile.ZipInfo(name, moment)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            written.writestr(entry, content)
    return held.getvalue()


def _before(parts: dict[str, bytes], name: str, end: str, more: str) -> None:
    """Put text before the end of a part."""
    parts[name] = parts[name].decode("utf-8").replace(end, more + end).encode("utf-8")
