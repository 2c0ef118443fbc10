"""What a report rests on, as BibTeX and as a section of the document.

In: keys of the works that were really used.  Out: their entries with versions, text for a ``.bib`` file, blocks.
Nothing is looked up elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import metadata
from typing import Literal

from psychostats.document import Block, BulletList, Emph, Heading, Inline, Paragraph, Text
from psychostats.errors import InputError, nearest
from psychostats.works import ENTRIES, OTHERS, PROGRAMS, Entry


def cite(keys: Iterable[str], versions: Mapping[str, str] | None = None) -> tuple[Entry, ...]:
    """Return the works that a report used: methods by author and year, then software in a lasting order.

    Parameters
    ----------
    keys
        Names in `ENTRIES`, in any order; one that comes twice is given once.
    versions
        Versions of the software by distribution, such as those a fit was made with. Without them, those installed now.

    Raises
    ------
    InputError
        If a key is unknown.
    """
    wanted = set(keys)
    if unknown := sorted(wanted - set(ENTRIES)):
        raise InputError(f"'{unknown[0]}' is no work of the bibliography{nearest(unknown[0], ENTRIES)}.")
    methods = sorted((ENTRIES[key] for key in wanted.difference(PROGRAMS)), key=_order)
    software = [ENTRIES[key] for key in PROGRAMS if key in wanted]
    return (*methods, *(replace(entry, version=_version(entry.key, versions)) for entry in software))


def _order(entry: Entry) -> tuple[str, int, str]:
    return entry.authors[0], entry.year, entry.key


def _version(package: str, versions: Mapping[str, str] | None) -> str:
    """Return a version, or nothing where the software is not there."""
    if versions is not None:
        return versions.get(package, "")
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


# BibTeX ------------------------------------------------------------------------------------------------------------

_SIGNS = {
    "\\": r"\textbackslash{}",
    # BibTeX counts braces behind a backslash too.
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    **{sign: rf"\{sign}" for sign in "&%$#_"},
}
_CAPITALS = re.compile(r"\b\w*[A-Z]\w*\b")


def to_bibtex(entries: Iterable[Entry]) -> str:
    """Return entries as the text of a ``.bib`` file, in UTF-8: what BibTeX would read as markup is escaped."""
    return "\n".join(_bibtex(entry) for entry in entries)


def _bibtex(entry: Entry) -> str:
    venue = "journal" if entry.kind == "article" else "booktitle"
    fields = {
        "author": " and ".join(_name(one) for one in entry.authors),
        "title": _title(entry.title),
        "year": str(entry.year),
        venue: _tex(entry.venue),
        "volume": _tex(entry.volume),
        "number": _tex(entry.number),
        "pages": _tex(entry.pages),
        "version": _tex(entry.version),
        "doi": entry.doi,
        "url": entry.url,
    }
    if entry.arxiv:
        fields |= {"eprint": entry.arxiv, "archiveprefix": "arXiv"}
    lines = [f"  {name} = {{{value}}},\n" for name, value in fields.items() if value]
    return f"@{entry.kind}{{{entry.key},\n{''.join(lines)}}}\n"


def _name(author: str) -> str:
    """A person as ``Family, Given``; a group in braces, since it has neither."""
    return author if author == OTHERS else _tex(author) if "," in author else f"{{{_tex(author)}}}"


def _title(title: str) -> str:
    """A title whose capitals stay: styles of BibTeX write titles small but for what stands in braces."""
    return " ".join(f"{{{_tex(word)}}}" if _CAPITALS.search(word) else _tex(word) for word in title.split(" "))


def _tex(text: str) -> str:
    return "".join(_SIGNS.get(sign, sign) for sign in text)


# The document ------------------------------------------------------------------------------------------------------


def to_blocks(
    entries: Iterable[Entry], *, level: Literal[1, 2, 3] = 1, anchor: str = "references"
) -> tuple[Block, ...]:
    """Return the works as a section *References*, methods apart from software.

    Parameters
    ----------
    entries
        As `cite` returns them; nothing comes of none.
    level, anchor
        Of the heading.
    """
    listed = list(entries)
    if not listed:
        return ()
    blocks: list[Block] = [Heading("References", level, anchor)]
    for name, software in (("Methods and studies", False), ("Software", True)):
        group = [entry for entry in listed if (entry.key in PROGRAMS) == software]
        if group:
            blocks += [Paragraph(f"{name}:"), BulletList(tuple(_words(entry) for entry in group))]
    return tuple(blocks)


def _words(entry: Entry) -> tuple[Inline, ...]:
    """An entry as it is printed: authors (year), title, where, and how to find it."""
    ends = "" if entry.title.endswith("?") else "."
    runs: list[Inline] = [Text(f"{_authors(entry.authors)} ({entry.year}). {entry.title}{ends}")]
    if entry.venue:
        volume = f"{entry.volume}({entry.number})" if entry.number else entry.volume
        place = ", ".join(part for part in (volume, entry.pages) if part)
        runs += [Text(" "), Emph(entry.venue), Text(f", {place}." if place else ".")]
    if entry.version:
        runs.append(Text(f" Version {entry.version}."))
    found = [f"doi:{entry.doi}" if entry.doi else "", f"arXiv:{entry.arxiv}" if entry.arxiv else "", entry.url]
    return (*runs, *(Text(f" {one}.") for one in found if one))


def _authors(authors: tuple[str, ...]) -> str:
    """Authors as a list of references prints them: family name and initials."""
    named = [_short(one) for one in authors if one != OTHERS]
    if OTHERS in authors:
        return f"{', '.join(named)}, et al."
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} & {named[-1]}"


def _short(author: str) -> str:
    family, comma, given = author.partition(", ")
    if not comma:
        return family
    initials = " ".join("-".join(f"{part[0]}." for part in name.split("-")) for name in given.split(" "))
    return f"{family}, {initials}"
