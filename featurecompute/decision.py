"""What the chosen features, and the most active ones, do to the network's decision on a sample of images.

In: a network, bases of its layers, features by name.  Out: the tables of contributions and curves, and means.  Knows no
dictionary's learning and no known element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from featurecompute import manifest
from featurecompute.activations import Key, name_of
from featurecompute.attributions import gradient_x_activation
from featurecompute.bases import Basis, NeuronBasis
from featurecompute.cards import Network
from featurecompute.contributions import logit_sd, measure
from featurecompute.curves import areas, curves, mean_curves, norm_matched
from featurecompute.errors import StudyError
from featurecompute.features import distributed_id, local_id
from featurecompute.files import write_json
from featurecompute.pixels import Images
from featurecompute.replay import split
from featurecompute.rows import maps_of
from featurecompute.stages import Folder, read_shards
from featurecompute.study import ContributionsTable
from featurecompute.terms import terms_of

BLOCK = 16
"""Images a shard: each holds a split network for every layer."""

_METHODS = ("subtract", "reconstruct", "grad_x_act", "integrated_gradients", "sobol")
_SELECTIONS = ("fixed", "most_active")
_CURVES = ("deletion", "insertion")
_NUMBERS = ("logit", "logit_nulled", "drop", "residual", "norm", "drop_standardised")


@dataclass(frozen=True)
class Decision:
    """What was found.

    Parameters
    ----------
    others
        Id of each feature that was the most active in an image but was not chosen, to its layer, basis and index.
    table
        Rows of contributions.
    """

    others: Mapping[str, tuple[Key, int]]
    table: pd.DataFrame

    def means(self) -> dict[tuple[str, str], float]:
        """Return the mean drop over images of each chosen feature and method."""
        fixed = self.table[self.table["selection"] == "fixed"]
        means = fixed.groupby(["feature", "method"])["drop"].mean().reset_index()
        return {(row["feature"], row["method"]): row["drop"] for row in means.to_dict(orient="records")}


def decide(
    folder: Folder,
    inputs: Mapping[str, Any],
    network: Network,
    images: Images,
    bases: Mapping[str, Sequence[Basis]],
    names: Mapping[str, tuple[Key, int]],
    scales: Mapping[Key, np.ndarray],
    table: ContributionsTable,
    pooling: Any,
    *,
    scope: str,
) -> Decision:
    """Measure contributions, or read them where they were measured.

    Parameters
    ----------
    folder
        The run's.
    inputs
        All that the results depend on.
    network, images
        Network and images; a seeded sample of the images is used.
    bases
        Layer to its neurons and dictionaries.
    names
        Id of each chosen feature to its layer, basis and index.
    scales
        Layer and basis to what activations are divided by to find the most active unit.
    table
        ``[contributions]``.
    pooling
        How an image's map becomes the activation of a unit.
    scope
        Of the dictionaries: of a unit's, none but its own direction is compared.

    Raises
    ------
    StudyError
        If the target is the label and images have none, or not as many classes as the network.
    """
    count = min(table.images, len(images.pixels))
    chosen = np.sort(np.random.default_rng(table.seed).permutation(len(images.pixels))[:count])
    every = {(layer, name_of(basis)): basis for layer, found in bases.items() for basis in found}
    ids = {name: place for place, name in enumerate(names)}

    @cache
    def targets() -> tuple[np.ndarray, float]:
        return _targets(network, images, chosen, table)

    def block(start: int, stop: int) -> dict[str, np.ndarray]:
        return _measure(network, images, chosen, start, stop, every, names, scales, *targets(), table, pooling, scope)

    def gather(paths: Sequence[Path]) -> list[Path]:
        write_json(folder.path / "contributions.json", {"logit_sd": targets()[1], "contribution_images": count})
        rows, drawn = _gather(list(read_shards(paths)), network, list(every.items()), images, chosen)
        rows["order"] = rows["feature"].map(ids).fillna(len(ids))
        rows = rows.sort_values(["order", "feature", "method", "selection", "image"], kind="stable").drop(
            columns="order"
        )
        written = [manifest.CONTRIBUTIONS.write(folder.path, rows[list(manifest.CONTRIBUTIONS.columns)])]
        written.append(manifest.NORM_MATCHED.write(folder.path, _matched(rows, table.seed)))
        written += _write_curves(folder.path, drawn, network)
        return [*written, folder.path / "contributions.json"]

    folder.sharded("contributions", inputs, count, BLOCK, block, gather)
    found = manifest.CONTRIBUTIONS.read(folder.path)
    return Decision(_others(found, names, network, every), found)


def _targets(
    network: Network, images: Images, chosen: np.ndarray, table: ContributionsTable
) -> tuple[np.ndarray, float]:
    """Return the class of each chosen image whose logit is looked at, and the SD of the logits."""
    if not len(chosen):
        return np.empty(0, np.int64), 0.0
    logits = torch.cat([logits for _, _, logits in maps_of(network, [], images.pixels, chosen, 64)])
    if table.target == "predicted":
        return logits.argmax(1).cpu().numpy(), logit_sd(logits)
    place = class_places(images, network)
    return np.array(images.table["label"].iloc[chosen].map(place), np.int64), logit_sd(logits)


def class_places(images: Images, network: Network) -> dict[str, int]:
    """Return the place of each label among the network's classes: numbers in order, then names.

    Raises
    ------
    StudyError
        If images have no label, or there are not as many classes as the network has.
    """
    labels = images.table["label"]
    classes = sorted(
        set(labels.dropna()), key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)
    )
    if labels.isna().any() or len(classes) != network.classes:
        raise StudyError(
            f"[contributions] target is 'label', which needs every image's class, and as many classes as the network's "
            f"{network.classes}; {int(labels.isna().sum())} images have no label, and the others {len(classes)} "
            "classes. Set target to 'predicted'."
        )
    return {name: number for number, name in enumerate(classes)}


def _measure(
    network: Network,
    images: Images,
    chosen: np.ndarray,
    start: int,
    stop: int,
    every: Mapping[Key, Basis],
    names: Mapping[str, tuple[Key, int]],
    scales: Mapping[Key, np.ndarray],
    targets: np.ndarray,
    sd: float,
    table: ContributionsTable,
    pooling: Any,
    scope: str,
) -> dict[str, np.ndarray]:
    """Measure one block of images; features are numbers here: of their basis, and within it."""
    pixels = np.asarray(images.pixels[chosen[start:stop]])
    ready = network.normalise(pixels)
    goal = torch.from_numpy(targets[start:stop]).to(ready.device)
    numbers = [str(place) for place in range(start, stop)]
    tables, drawn = [], []
    suffix = None
    for number, (key, basis) in enumerate(every.items()):
        if suffix is None or suffix.layer != key[0]:
            suffix = split(network.module, key[0], network.layer(key[0]).layout, ready)
        compared = isinstance(basis, NeuronBasis) or scope == "layer"
        scale = torch.from_numpy(scales[key]) if table.most_active and compared else None
        fixed = sorted({index for other, index in names.values() if other == key})
        if table.methods:
            found = measure(
                suffix,
                basis,
                {unit: str(unit) for unit in range(basis.size)},
                images=numbers,
                targets=goal,
                methods=table.methods,
                fixed=fixed,
                scale=scale,
                pooling=pooling,
                sd=sd,
                steps=table.steps,
                designs=table.designs,
                seed=table.seed,
            )
            tables.append(found.assign(basis=number))
        if compared and start < table.curves:
            part = min(stop, table.curves) - start
            drawn.append(_draw(suffix, basis, goal, numbers, part).assign(basis=number))
    arrays: dict[str, np.ndarray] = {}
    if tables:
        rows = pd.concat(tables, ignore_index=True)
        arrays |= {f"rows|{name}": rows[name].to_numpy(np.float64) for name in _NUMBERS}
        for name in ("feature", "image", "target", "basis"):
            arrays[f"rows|{name}"] = rows[name].astype(int).to_numpy(np.int64)
        arrays["rows|method"] = rows["method"].map(_METHODS.index).to_numpy(np.int64)
        arrays["rows|selection"] = rows["selection"].map(_SELECTIONS.index).to_numpy(np.int64)
    if drawn:
        lines = pd.concat(drawn, ignore_index=True)
        lines["curve"] = lines["curve"].map(_CURVES.index)
        lines["image"] = lines["image"].astype(int)
        arrays |= {f"curves|{name}": lines[name].to_numpy() for name in lines}
    return arrays


def _draw(suffix: Any, basis: Basis, goal: Tensor, numbers: Sequence[str], part: int) -> pd.DataFrame:
    terms = terms_of(suffix.maps, basis)
    scores = gradient_x_activation(suffix, terms, goal)
    lines = curves(suffix, terms, scores, goal, images=list(numbers))
    return lines[lines["image"].isin(numbers[:part])]


def _gather(
    shards: Sequence[Mapping[str, np.ndarray]],
    network: Network,
    every: Sequence[tuple[Key, Basis]],
    images: Images,
    chosen: np.ndarray,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of all shards with ids, layers and representations, and the points of the curves."""

    def joined(what: str, columns: Sequence[str]) -> pd.DataFrame:
        parts = [
            pd.DataFrame(
                {name.partition("|")[2]: values for name, values in shard.items() if name.startswith(f"{what}|")}
            )
            for shard in shards
        ]
        parts = [part for part in parts if len(part)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(columns))

    rows = joined("rows", [*_NUMBERS, "feature", "image", "target", "basis", "method", "selection"])
    ids = images.table["image"].to_numpy()[chosen]
    labels = {
        (number, unit): _id(network, key, basis, unit)
        for number, (key, basis) in enumerate(every)
        for unit in range(basis.size)
    }
    rows["layer"] = [every[number][0][0] for number in rows["basis"]]
    rows["representation"] = [every[number][1].representation for number in rows["basis"]]
    rows["feature"] = [labels[pair] for pair in zip(rows["basis"], rows["feature"], strict=True)]
    rows["image"] = [ids[place] for place in rows["image"]]
    rows["method"] = [_METHODS[place] for place in rows["method"]]
    rows["selection"] = [_SELECTIONS[place] for place in rows["selection"]]
    drawn = joined("curves", ["image", "curve", "units", "share", "norm_share", "logit", "probability", "basis"])
    drawn["curve"] = [_CURVES[place] for place in drawn["curve"]]
    drawn["layer"] = [every[number][0][0] for number in drawn["basis"]]
    drawn["representation"] = [every[number][1].representation for number in drawn["basis"]]
    return rows, drawn


def _id(network: Network, key: Key, basis: Basis, unit: int) -> str:
    if isinstance(basis, NeuronBasis):
        return local_id(network.id, key[0], unit)
    return distributed_id(network.id, key[0], basis.method, basis.sha256, unit)


def _matched(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    nullings = rows[rows["method"].isin(["subtract", "reconstruct"])]
    parts = [norm_matched(nullings, way=way, seed=seed) for way in ("pairs", "regression")] if len(rows) else []
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(manifest.NORM_MATCHED.columns))


def _write_curves(path: Path, drawn: pd.DataFrame, network: Network) -> list[Path]:
    lines, sizes = [], []
    for (layer, representation), part in drawn.groupby(["layer", "representation"], sort=False):
        about: dict[str, Any] = {
            "layer": layer,
            "representation": representation,
            "depth": network.layer(str(layer)).depth,
        }
        lines.append(mean_curves(part).assign(**about))
        size = areas(part).groupby(["curve", "axis", "quantity"], sort=False)["area"]
        sizes.append(size.agg(area="mean", sd="std", n_images="size").reset_index().assign(**about))

    def table(parts: list[pd.DataFrame], kind: manifest.Table) -> pd.DataFrame:
        columns = list(kind.columns)
        return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)

    return [
        manifest.CURVES.write(path, table(lines, manifest.CURVES)),
        manifest.AREAS.write(path, table(sizes, manifest.AREAS)),
    ]


def _others(
    rows: pd.DataFrame, names: Mapping[str, tuple[Key, int]], network: Network, every: Mapping[Key, Basis]
) -> dict[str, tuple[Key, int]]:
    found = sorted(set(rows["feature"]) - set(names))
    known = {_id(network, key, basis, unit): (key, unit) for key, basis in every.items() for unit in range(basis.size)}
    return {name: known[name] for name in found}
