"""The paper of Word files: our styles in place of pandoc's, one of each, and a banner that is text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from psychostats.letterhead import read_parts, write_letterhead, write_parts

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
PLAIN = write_parts(
    {
        "[Content_Types].xml": b"<Types></Types>",
        "word/_rels/document.xml.rels": b"<Relationships></Relationships>",
        "word/document.xml": f'<w:document xmlns:w="{W}"><w:sectPr><w:footnotePr/></w:sectPr></w:document>'.encode(),
        "word/styles.xml": f'<w:styles xmlns:w="{W}"><w:docDefaults>'
        '<w:sz w:val="24"/><w:szCs w:val="24"/></w:docDefaults>'
        '<w:style w:styleId="Caption"><w:i/></w:style><w:style w:styleId="Normal"></w:style></w:styles>'.encode(),
    }
)


def test_styles_of_ours_take_the_place_of_pandoc_s() -> None:
    styles = read_parts(write_letterhead(PLAIN, ""))["word/styles.xml"].decode()
    names = re.findall(r'w:styleId="(\w+)"', styles)
    assert len(names) == len(set(names)) and names[0] == "Normal" and "Caption" in names and "Pictures" in names
    assert "<w:i/>" not in styles
    assert '<w:sz w:val="21"/><w:szCs w:val="21"/>' in styles


def test_every_page_has_a_head_and_a_foot_and_all_of_it_is_xml() -> None:
    parts = read_parts(write_letterhead(PLAIN, "<b> & $x$"))
    for content in parts.values():
        ET.fromstring(content)
    assert "".join(ET.fromstring(parts["word/header1.xml"]).itertext()) == "<b> & $x$"
    (section,) = ET.fromstring(parts["word/document.xml"])
    assert [one.tag.partition("}")[2] for one in section] == [
        "headerReference",
        "footerReference",
        "footnotePr",
        "pgSz",
        "pgMar",
    ]
    assert parts["word/_rels/document.xml.rels"].count(b"<Relationship ") == 2
    assert parts["[Content_Types].xml"].count(b"<Override ") == 2


def test_parts_are_written_the_same_each_time() -> None:
    assert write_parts(read_parts(PLAIN)) == PLAIN
