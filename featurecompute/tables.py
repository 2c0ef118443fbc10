"""Rows of a run's tables of features, pairs and extremes, from what was found.

In: names, moments, matches, scans.  Out: tables as `manifest` describes them.  Knows no file and no stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from featurecompute.activations import Key
from featurecompute.bases import Basis
from featurecompute.cards import Network
from featurecompute.extremes import Moments
from featurecompute.features import Match, Neuron, local_id
from featurecompute.scan import Scan


def feature_rows(
    names: Mapping[str, tuple[Key, int]],
    network: Network,
    dictionaries: Mapping[Key, Basis],
    moments: Mapping[Key, Moments],
    means: Mapping[tuple[str, str], float],
) -> pd.DataFrame:
    """Return the table of features.

    Parameters
    ----------
    names
        Id to layer, basis and index.
    network
        Network.
    dictionaries
        Layer and basis to the dictionary; a key that is not here is a layer's neurons.
    moments
        Layer and basis to the moments of its units' pooled activations.
    means
        Id and method to the mean drop over images.
    """
    rows = []
    for name, (key, index) in names.items():
        layer, units, basis = network.layer(key[0]), moments[key], dictionaries.get(key)
        rows.append(
            {
                "feature": name,
                "network": network.id,
                "layer": layer.name,
                "layer_index": layer.index,
                "depth": layer.depth,
                "representation": "local" if basis is None else "distributed",
                "basis": "neuron" if basis is None else basis.method,
                "basis_hash": network.weights_sha256 if basis is None else basis.sha256,
                "index": index,
                "n_images": int(units.n),
                "mean": units.mean[index],
                "sd": units.sd[index],
                "max": units.maximum[index],
                "sparsity": units.sparsity[index],
                "dead": bool(units.dead[index]),
                "contribution_subtract": means.get((name, "subtract")),
                "contribution_reconstruct": means.get((name, "reconstruct")),
            }
        )
    return pd.DataFrame(rows)


def pair_rows(
    matches: Mapping[Neuron, Match], directions: Mapping[Neuron, str], network: Network, rule: str
) -> pd.DataFrame:
    """Return the table of pairs; `directions` holds the id of each neuron's direction."""
    ids = [local_id(network.id, neuron.layer, neuron.channel) for neuron in matches]
    theirs = [directions[neuron] for neuron in matches]
    return pd.DataFrame(
        {
            "pair": ids,
            "local_feature": ids,
            "distributed_feature": theirs,
            "rule": rule,
            "share": [match.share for match in matches.values()],
            "shared": [theirs.count(name) > 1 for name in theirs],
        }
    )


def extreme_rows(
    names: Mapping[str, tuple[Key, int]],
    scan: Scan,
    chosen: Mapping[Key, np.ndarray],
    ids: np.ndarray,
    windows: Sequence[tuple[float, float]],
) -> pd.DataFrame:
    """Return the table of images at the ends, and in windows, of each feature's order.

    Parameters
    ----------
    names
        Id to layer, basis and index.
    scan
        Exact for the chosen units.
    chosen
        Layer and basis to the units wanted, in rising order; others of `names` are passed over.
    ids
        Ids of all images.
    windows
        Shares of the order.
    """
    inside = {
        (key, f"{lo:g}-{hi:g}"): scan.window(key, lo, hi, units) for key, units in chosen.items() for lo, hi in windows
    }
    parts = [pd.DataFrame(columns=["feature", "side", "rank", "image", "activation", "position"])]

    def add(feature: str, side: str, images: np.ndarray, scores: np.ndarray, positions: np.ndarray | None) -> None:
        parts.append(
            pd.DataFrame(
                {
                    "feature": feature,
                    "side": side,
                    "rank": np.arange(1, len(images) + 1),
                    "image": ids[images],
                    "activation": scores.astype(float),
                    "position": pd.array([pd.NA] * len(images) if positions is None else positions, dtype="Int64"),
                }
            )
        )

    for name, (key, index) in names.items():
        if key not in chosen:
            continue
        for side in ("top", "bottom"):
            ranked = getattr(scan.found[key], side)
            there = ranked.images[:, index] >= 0
            places = (ranked.images[there, index], ranked.scores[there, index], ranked.positions[there, index])
            add(name, side, *places)
        column = int(np.searchsorted(chosen[key], index))
        for (other, side), (images, scores) in inside.items():
            if other == key:
                add(name, side, images[:, column], scores[:, column], None)
    return pd.concat(parts[1:] or parts, ignore_index=True)
