"""The command, the folder that it writes, and what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from studies import SMALL

from psychostats.document import Figure, Table
from psychostats.executors import Local
from psychostats.measure import points
from psychostats.multiverse import run_multiverse
from psychostats.multiverse_plan import plan_multiverse
from psychostats.multiverse_report import describe_plan
from psychostats.multiverse_section import compose_multiverse
from psychostats.multiverse_sentences import describe_multiverse, tabulate_summary
from psychostats.simulation import write_simulation
from psychostats.study import read_study

pytestmark = pytest.mark.once

CHOICES = """
[multiverse.fixed]
"additive" = "representation + depth"
[multiverse.codings]
[multiverse.families]
"plain logistic" = { family = "bernoulli" }
[multiverse.groups]
"intercepts only" = "(1 | participant) + (1 | pair)"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Give a folder with the small study, whose file names its trials and its choices."""
    folder = tmp_path_factory.mktemp("multiverse")
    write_simulation(read_study(SMALL), folder / "trials.csv")
    text = SMALL.read_text(encoding="utf-8").replace("simulated = true", 'simulated = true\ntrials = "trials.csv"')
    (folder / "study.toml").write_text(text + CHOICES, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def found(folder):
    plan = plan_multiverse(read_study(folder / "study.toml"))
    return run_multiverse(plan, folder / "results", Local(1))


def test_the_command_writes_a_report_and_answers_again(run, folder, tmp_path):
    arguments = ("multiverse", "--study", folder / "study.toml", "--out", tmp_path / "out", "--workers", 1)
    (tmp_path / "out" / "results").mkdir(parents=True)
    mark = tmp_path / "out" / "results" / "campaign.json"
    mark.write_text(json.dumps({"schema": 1, "key": "another", "identity": {"data": "another"}}))
    refused = run(*arguments)
    assert refused.code == 2 and "results of other work" in refused.err and "data" in refused.err
    first = run(*arguments, "--overwrite")
    assert first.code in (0, 3) and "Participants are simulated." in first.out
    assert "first: distributed − local: " in first.out and "number" in first.out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"report.html", "report.pdf", "references.bib", "figures", "tables", "results"} <= names
    tables = {path.name: path.read_bytes() for path in (tmp_path / "out" / "tables").iterdir()}
    assert set(tables) == {"specifications.csv", "choices.csv", "dimensions.csv", "summary.csv"}
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for words in ("Simulated participants", "no p-value", "Which choices matter", "plain logistic"):
        assert words in html
    again = run(*arguments, "--json")
    assert again.code == first.code and "; 0 to do by this process" in again.err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "tables").iterdir()} == tables
    assert {row["experiment"] for row in again.data["summary"]} == {"first", "second"}
    assert {row["dimension"] for row in again.data["dimensions"]} >= {"fixed", "families", "choices together"}
    assert again.data["converged"] == (first.code == 0) and again.data["choices"]


def test_a_dry_run_says_what_there_is_and_writes_nothing(run, folder, tmp_path):
    told = run(
        "multiverse", folder / "trials.csv", "--study", folder / "study.toml", "--dry-run", "--quiet", "--out", tmp_path
    )
    assert told.code == 0 and "families: afc logit (own), plain logistic" in told.out
    assert "8 specifications of 2 experiments, 16 fits that differ" in told.out
    assert "16 fits, of which 0 are done" in told.out and list(tmp_path.iterdir()) == []
    data = run("multiverse", "--study", folder / "study.toml", "--dry-run", "--json", "--out", tmp_path / "o").data
    assert data["fits"] == data["specifications"] * 2 and data["seconds_each"] > 0 and data["missing"] == data["fits"]
    assert data["choices"]["groups"] == ["as the study", "intercepts only"]
    assert not (tmp_path / "o").exists()


def test_thousands_of_fits_are_asked_about(run, folder, tmp_path):
    text = (folder / "study.toml").read_text(encoding="utf-8").partition("[multiverse")[0]
    lapses = "".join(f'"lapse {i}" = {{ lapse = {i / 1e4} }}\n' for i in range(1, 4101))
    none = "".join(f"[multiverse.{name}]\n" for name in ("exclusions", "fixed", "codings", "groups"))
    (folder / "large.toml").write_text(f"{text}{none}[multiverse.families]\n{lapses}", encoding="utf-8")
    refused = run("multiverse", "--study", folder / "large.toml", "--out", tmp_path / "out", "--workers", 2)
    assert refused.code == 2
    assert "8,202 fits (4,101 specifications of 2 experiments, 8,202 fits that differ) are to be done" in refused.err
    assert "on 2 processes on this machine" in refused.err and "add --yes" in refused.err
    assert not (tmp_path / "out" / "results").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--engine", "pymc", "--out", "x"), "--engine is 'pymc'; a multiverse is fitted by laplace or nuts."),
        ((), "--out"),
        (("--out", "x", "--workers", "0"), "--workers"),
    ],
)
def test_bad_options_end_with_2(run, folder, options, words):
    answer = run("multiverse", "--study", folder / "study.toml", *options)
    assert answer.code == 2 and words in answer.err


def test_a_folder_with_something_else_is_refused(run, folder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    answer = run("multiverse", "--study", folder / "study.toml", "--out", tmp_path)
    assert answer.code == 2 and "'notes.txt', which is no part of a report" in answer.err


def test_every_number_that_is_said_is_in_a_table(found):
    """Numbers of the sentences, rounded as tables round them."""
    text, summary = describe_multiverse(found), tabulate_summary(found)
    said = set(re.findall(r"[+−][0-9]+\.[0-9]+", text))
    numbers = summary[["lowest", "highest", "median", "estimate", "conf_low", "conf_high"]].to_numpy().ravel()
    assert said == {points(value) for value in numbers if np.isfinite(value)} and len(said) > 10


def test_the_document_has_every_figure_and_the_table_of_choices(found):
    parts = range(1, len(list(found.parts())) + 1)
    names = [f"specifications_{i}" for i in parts] + [
        f"{kind}_{i}" for kind in ("choices", "dimensions") for i in (1, 2)
    ]
    figures = {name: Path(f"{name}.svg") for name in names}
    document = compose_multiverse(found, figures, "psychostats multiverse")
    assert document.banner == "Simulated participants"
    held = [block for block in document.blocks if isinstance(block, Figure)]
    assert sorted(block.source.stem for block in held) == sorted(figures) and all(block.alt for block in held)
    tables = {block.anchor: block for block in document.blocks if isinstance(block, Table)}
    varied = tables["table-varied"].frame
    assert varied["choice"].tolist() == [label for one in found.plan.dimensions for label in one.labels]
    assert {"table-summary", "table-matter", "table-provenance"} <= set(tables)
    # A kind of which there is one choice alone cannot matter, and is not said to.
    assert "coding" not in set(tables["table-matter"].frame["what"])


def test_the_size_is_said_in_words(found):
    lines = describe_plan(found.plan).splitlines()
    n, fits = len(found.plan.specifications), len(found.plan.tasks)
    assert lines[-1] == f"{n} specifications of 2 experiments, {fits} fits that differ"
