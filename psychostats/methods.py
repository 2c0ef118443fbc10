"""How the features and stimuli were made, in words: the part of the methods that a features run knows.

In: an `Analysis` with a features run.  Out: paragraphs and a table, every setting with where it comes from.  Knows no
network; says only what run.json and its tables hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from psychostats.analysis import Analysis
from psychostats.document import Block, Column, Heading, Paragraph, Table, Words, prose

_METHODS = {"nmf": "non-negative matrix factorisation", "sae": "a sparse autoencoder"}
_SOURCES = {
    "scenes": "generated scenes",
    "folder": "files of a folder",
    "shards": "shards",
    "parquet": "a Parquet file",
}


def describe_features(analysis: Analysis) -> list[Block]:
    """Return how features, stimuli and trial lists came about; nothing without a features run."""
    run = analysis.run
    if run is None:
        return []
    blocks: list[Block] = [Heading("Features and stimuli", 2, "methods-features")]
    for record in run.records:
        blocks += [Paragraph(words) for words in _tell(analysis, record)]
    rows = [
        {
            "network": record["network"]["id"],
            "layer": one["layer"],
            "depth": next(layer["depth"] for layer in record["network"]["layers"] if layer["name"] == one["layer"]),
            "channels": next(
                layer["channels"] for layer in record["network"]["layers"] if layer["name"] == one["layer"]
            ),
            "rank": one["rank"],
            "reconstruction": one.get("reconstruction"),
            "sparsity": one.get("sparsity"),
            "stability": one.get("stability"),
        }
        for record in run.records
        for one in record.get("dictionaries", ())
    ]
    if rows:
        blocks.append(
            Table(
                (
                    *((Column("network", "Network"),) if len(run.records) > 1 else ()),
                    Column("layer", "Layer"),
                    Column("depth", "Depth", "number", 2),
                    Column("channels", "Channels", "integer"),
                    Column("rank", "Directions", "integer"),
                    Column("reconstruction", "Reconstruction", "number", 2),
                    Column("sparsity", "Sparsity", "number", 2),
                    Column("stability", "Stability", "number", 2),
                ),
                pd.DataFrame(rows),
                "The layers that were looked into, and their dictionaries.",
                "Reconstruction: share of the activations' variance that the directions explain, on rows they were not "
                "learned from. Sparsity: share of coefficients that are zero. Stability: mean cosine of directions "
                "matched between seeds.",
                "table-dictionaries",
            )
        )
    return blocks


def _by_layer(kept: pd.DataFrame) -> str:
    """Say how many pairs there are in each layer."""
    counts = kept.groupby("layer", observed=True)["pair"].nunique()
    return ", ".join(f"{count} in {layer}" for layer, count in counts.items())


def _tell(analysis: Analysis, record: Mapping[str, Any]) -> list[Words]:
    """Return the paragraphs on one run."""
    settings, sources = record.get("settings", {}), record.get("sources", {})

    def of(key: str) -> str:
        """Return where a setting comes from, in brackets; one that the file does not name is assumed."""
        return f" ({str(sources.get(key, 'assumed')).partition(':')[0].strip()})"

    network, images = record["network"], record.get("images", {})
    said: list[Words] = [
        prose(
            "The network {0}{1} was shown {2} images ({3}){4}. It was looked into at {5} layers, {6}; depth is a "
            "layer's place among all weighted layers in the order of execution, 0 for the first and 1 for the last.",
            str(network["id"]),
            of("network.source"),
            int(images.get("count", 0)),
            _SOURCES.get(str(settings.get("images", {}).get("source")), "a set of images"),
            of("images.count"),
            len(network.get("layers", ())),
            ", ".join(layer["name"] for layer in network.get("layers", ())),
        )
    ]
    kept = analysis.excluded.kept
    dictionary, chosen = settings.get("dictionary", {}), settings.get("features", {})
    if dictionary:
        method = str(dictionary.get("method"))
        said.append(
            prose(
                "Local features are {0} neurons{1}: each layer is drawn with the same chance, then a channel of it "
                "that is ever active. Distributed features are directions learned by {2}{3}, {4} a layer{5}. A neuron "
                "is paired with the direction that is most often the most active on its {6} most activating images{7}"
                "{8}. {9} pairs of {10} features were shown{11}.",
                chosen.get("neurons") if isinstance(chosen.get("neurons"), int) else len(chosen.get("neurons", ())),
                of("features.neurons"),
                _METHODS.get(method, method),
                of("dictionary.method"),
                int(dictionary.get("rank", 0)),
                of("dictionary.rank"),
                int(chosen.get("top", 0)),
                of("features.rule"),
                ", as far as each can have one of its own" + of("features.one_to_one")
                if chosen.get("one_to_one")
                else "",
                kept["pair"].nunique() if "pair" in kept else 0,
                kept["feature"].nunique() if "feature" in kept else 0,
                f" ({_by_layer(kept)})" if {"pair", "layer"} <= set(kept) else "",
            )
        )
    stimuli = settings.get("stimuli")
    if stimuli:
        mixed = int(stimuli.get("references_synthetic", 0))
        said.append(
            prose(
                "Each feature has {0} stimuli an experiment{1}, which share no image: {2} references that drive it most"
                "{3} and {4} that drive it least{5}, and two queries just inside them. {6}A stimulus's complexity is "
                "that of its references: entropy, density of edges, and size when compressed.",
                int(stimuli.get("batches", 0)),
                of("stimuli.batches"),
                int(stimuli.get("references_max", 0)),
                of("stimuli.references_max"),
                int(stimuli.get("references_min", 0)),
                of("stimuli.references_min"),
                f"In the experiment mixed {mixed} of the former are synthesised{of('stimuli.references_synthetic')}. "
                if "mixed" in stimuli.get("experiments", ())
                else "",
            )
        )
    left = [str(warning) for warning in record.get("warnings", ())]
    if left:
        said.append(prose("The run that made them warns: {0}", " ".join(left)))
    return said
