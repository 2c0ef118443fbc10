"""Methods in words: every setting of the features half stands beside where it comes from, and nothing is made up."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from psychostats.document import Paragraph, Table
from psychostats.methods import describe_features

RECORD = {
    "network": {
        "id": "net",
        "layers": [
            {"name": "a", "depth": 0.0, "channels": 8},
            {"name": "b", "depth": 1.0, "channels": 16},
        ],
    },
    "images": {"count": 4000},
    "dictionaries": [{"layer": "b", "rank": 24, "reconstruction": 0.9, "sparsity": 0.8, "stability": 0.7}],
    "settings": {
        "images": {"source": "folder"},
        "dictionary": {"method": "nmf", "rank": 24},
        "features": {"neurons": 48, "top": 100, "one_to_one": True},
        "stimuli": {
            "batches": 3,
            "references_max": 9,
            "references_min": 7,
            "references_synthetic": 2,
            "experiments": ["natural", "mixed"],
        },
    },
    "sources": {"dictionary.method": "paper: NMF", "stimuli.references_max": "predecessor: of 2023"},
    "warnings": ["4 images failed."],
}
KEPT = pd.DataFrame({"pair": ["p", "p", "q"], "feature": ["f", "g", "h"], "layer": ["a", "a", "b"]})


def told(record, kept=KEPT):
    run = SimpleNamespace(records=(record,))
    return describe_features(SimpleNamespace(run=run, excluded=SimpleNamespace(kept=kept)))


def text_of(blocks):
    runs = [block.words for block in blocks if isinstance(block, Paragraph)]
    return " ".join("".join(getattr(run, "text", "") for run in words) for words in runs)


def test_every_setting_stands_beside_its_source():
    text = text_of(told(RECORD))
    for said in (
        "48 neurons (assumed)",
        "non-negative matrix factorisation (paper), 24 a layer (assumed)",
        "9 references that drive it most (predecessor) and 7 that drive it least (assumed)",
        "2 of the former are synthesised (assumed)",
        "2 pairs of 3 features were shown (1 in a, 1 in b)",
        "4,000 images (files of a folder) (assumed)",
        "looked into at 2 layers, a, b",
        "4 images failed.",
    ):
        assert said in text, said
    assert text.count("(paper)") == 1


def test_layers_and_dictionaries_are_one_table():
    (table,) = [block for block in told(RECORD) if isinstance(block, Table)]
    assert table.frame[["layer", "depth", "channels", "rank"]].to_numpy().tolist() == [["b", 1.0, 16, 24]]


@pytest.mark.parametrize("gone", ["dictionary", "stimuli"])
def test_what_a_run_does_not_say_is_not_said(gone):
    settings = {name: table for name, table in RECORD["settings"].items() if name != gone}
    text = text_of(told(RECORD | {"settings": settings}))
    assert {"dictionary": "Distributed features", "stimuli": "complexity"}[gone] not in text


def test_without_a_run_there_is_nothing_to_tell():
    assert describe_features(SimpleNamespace(run=None)) == []
