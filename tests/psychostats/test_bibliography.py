"""What a report rests on: entries with the facts that every work has, BibTeX that reads back, and a section."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from psychostats.bibliography import cite, to_bibtex, to_blocks
from psychostats.document import BulletList, Document, Emph, Heading, Paragraph
from psychostats.errors import InputError
from psychostats.rendering import render_html
from psychostats.works import ENTRIES, OTHERS, PROGRAMS, Entry

WORKS = list(ENTRIES.values())


def read_bibtex(text: str) -> dict[str, dict[str, str]]:
    """Read entries as BibTeX does: a value runs to the brace that closes it, and every brace counts."""
    found: dict[str, dict[str, str]] = {}
    at = 0
    while match := re.compile(r"\s*@(\w+)\{([\w-]+),").match(text, at):
        fields = {"kind": match[1]}
        at = match.end()
        while field := re.compile(r"\s*(\w+) = \{").match(text, at):
            start, depth = field.end(), 1
            at = start
            while depth:
                depth += {"{": 1, "}": -1}.get(text[at], 0)
                at += 1
            assert text[at] == ","
            assert field[1] not in fields
            fields[field[1]] = text[start : at - 1]
            at += 1
        end = re.compile(r"\s*\}").match(text, at)
        assert end, text[at : at + 50]
        at = end.end()
        assert match[2] not in found, f"{match[2]} comes twice"
        found[match[2]] = fields
    assert not text[at:].strip()
    return found


def plain(value: str) -> str:
    """What BibTeX would print: braces gone, escapes undone."""
    value = value.replace(r"\textbackslash{}", "\0").replace(r"\textasciitilde{}", "~")
    value = value.replace(r"\textasciicircum{}", "^").replace("--", "–")
    value = value.replace(r"\textbraceleft{}", "\1").replace(r"\textbraceright{}", "\2")
    value = re.sub(r"\\([&%$#_])", r"\1", re.sub(r"[{}]", "", value))
    return value.translate({0: "\\", 1: "{", 2: "}"})


@pytest.mark.parametrize("entry", WORKS, ids=[entry.key for entry in WORKS])
def test_every_work_has_what_a_reference_needs(entry: Entry) -> None:
    assert entry.authors and all(one.strip() == one and one for one in entry.authors)
    assert OTHERS not in entry.authors[:-1]
    assert entry.title and not entry.title.endswith(".")
    assert 1900 < entry.year < 2030
    assert re.fullmatch(r"[a-z]+(\d{4}[a-z]*)?", entry.key)
    assert re.fullmatch(r"(10\.\d{4,}/\S+)?", entry.doi)
    assert re.fullmatch(r"(\d{4}\.\d{5})?", entry.arxiv)
    assert bool(entry.venue) == (entry.kind != "misc")
    assert entry.volume or entry.kind != "article"
    year = re.search(r"\d{4}", entry.key)
    assert year is None or int(year[0]) == entry.year


def test_keys_and_addresses_are_unique() -> None:
    assert all(key == entry.key for key, entry in ENTRIES.items())
    for name in ("doi", "arxiv", "title"):
        values = [getattr(entry, name) for entry in WORKS if getattr(entry, name)]
        assert len(values) == len(set(values))
    assert {"psychostats", "pymc", "arviz", "nutpie", "statsmodels", "plotnine", "pandas", "numpy", "scipy"} <= set(
        PROGRAMS
    )


def test_bibtex_reads_back() -> None:
    read = read_bibtex(to_bibtex(cite(ENTRIES, {"numpy": "2.4.6"})))
    assert set(read) == set(ENTRIES)
    for key, fields in read.items():
        entry = ENTRIES[key]
        assert fields["kind"] == entry.kind
        assert plain(fields["title"]) == entry.title
        assert fields["year"] == str(entry.year)
        assert [plain(one) for one in fields["author"].split(" and ")] == list(entry.authors)
        assert plain(fields.get("journal", fields.get("booktitle", ""))) == entry.venue
        assert fields.get("eprint", "") == entry.arxiv
    assert read["numpy"]["version"] == "2.4.6" and "version" not in read["scipy"]
    assert read["vehtari2021"]["pages"] == "667--718"
    assert read["psychostats"]["author"] == "{psychostats contributors}"


def test_capitals_of_a_title_are_kept_and_signs_escaped() -> None:
    odd = replace(ENTRIES["matplotlib"], title=r"Of NUTS {a} & 5 % of $x$ #1 a_b ~ ^ \cmd", authors=("O {x & Co",))
    text = to_bibtex([odd])
    assert r"{Of} {NUTS} \textbraceleft{}a\textbraceright{} \& 5 \% of \$x\$ \#1 a\_b" in text
    assert r"Computing in Science \& Engineering" in text
    (fields,) = read_bibtex(text).values()
    assert plain(fields["title"]) == odd.title
    assert plain(fields["author"]) == "O {x & Co"


def test_only_what_is_asked_for_is_cited_in_a_lasting_order() -> None:
    keys = ["scipy", "vehtari2021", "pymc", "bates2015", "scipy", "vehtari2017"]
    found = cite(keys, {})
    assert [entry.key for entry in found] == ["bates2015", "vehtari2017", "vehtari2021", "pymc", "scipy"]
    assert cite(reversed(keys), {}) == found
    assert cite([]) == () and to_bibtex(()) == "" and to_blocks(()) == ()


def test_software_has_the_version_that_was_used_or_the_one_that_is_there() -> None:
    assert cite(["pymc"], {"pymc": "5.1"})[0].version == "5.1"
    assert cite(["pymc"], {})[0].version == ""
    assert re.match(r"\d+\.\d+", cite(["numpy"])[0].version)
    assert cite(["bates2015"])[0].version == ""


def test_an_unknown_work_is_named() -> None:
    with pytest.raises(
        InputError, match=r"'vehtari2012' is no work of the bibliography \(did you mean 'vehtari2021'\?\)"
    ):
        cite(["pymc", "vehtari2012"])


def test_the_section_names_each_work(tmp_path: Path) -> None:
    blocks = to_blocks(
        cite(["kruschke2018", "zimmermann2021", "fel2023maco", "pandas", "nutpie"], {"pandas": "3.1.1"}), level=2
    )
    assert blocks[0] == Heading("References", 2, "references")
    assert [block.words for block in blocks if isinstance(block, Paragraph)] == ["Methods and studies:", "Software:"]
    methods, software = (block for block in blocks if isinstance(block, BulletList))
    said = [
        "".join(run.text for run in item if hasattr(run, "text")) for item in (*methods.items, *software.items) if item
    ]
    assert said == [
        "Fel, T., Boissin, T., Boutin, V., Picard, A., Novello, P., Colin, J., Linsley, D., Rousseau, T., Cadène, R., "
        "et al. (2023). Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization. "
        "arXiv:2306.06805.",
        "Kruschke, J. K. (2018). Rejecting or Accepting Parameter Values in Bayesian Estimation. Advances in Methods "
        "and Practices in Psychological Science, 1(2), 270–280. doi:10.1177/2515245918771304.",
        "Zimmermann, R. S., Borowski, J., Geirhos, R., Bethge, M., Wallis, T. S. A. & Brendel, W. (2021). How Well do "
        "Feature Visualizations Support Causal Understanding of CNN Activations? Advances in Neural Information "
        "Processing Systems. arXiv:2106.12447.",
        "Seyboldt, A. & PyMC Developers (2022). nutpie: a fast sampler for Bayesian posteriors. "
        "https://github.com/pymc-devs/nutpie.",
        "McKinney, W. (2010). Data Structures for Statistical Computing in Python. Proceedings of the 9th Python in "
        "Science Conference, 56–61. Version 3.1.1. doi:10.25080/Majora-92bf1922-00a.",
    ]
    assert Emph("Advances in Methods and Practices in Psychological Science") in methods.items[1]
    page = render_html(Document("t", blocks), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Cadène" in page and 'id="references"' in page
