"""Each neuron's direction, from the images that drive the neuron most.

In: a network, neurons with their top images, dictionaries.  Out: matches.
Knows what each rule counts, not how a match is settled.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from featurecompute.activations import name_of
from featurecompute.bases import Basis
from featurecompute.cards import Network
from featurecompute.features import Match, Neuron, match_correlated, match_most_active, settle
from featurecompute.rows import crop_rows, maps_of
from featurecompute.scan import Scan
from featurecompute.study import DictionaryTable, FeaturesTable


def pair_neurons(
    network: Network,
    pixels: np.ndarray,
    neurons: Mapping[Neuron, Basis],
    local: Scan,
    distributed: Scan,
    scales: Mapping[tuple[str, str], np.ndarray],
    features: FeaturesTable,
    dictionary: DictionaryTable,
) -> dict[Neuron, Match]:
    """Give each neuron its direction by the study's rule.

    Parameters
    ----------
    network, pixels
        Network and all images.
    neurons
        Neuron to the dictionary that its direction is in.
    local, distributed
        Scans of all images in neurons and in the dictionaries.
    scales
        Layer and basis to what its codes are divided by (units).
    features, dictionary
        Settings.

    Raises
    ------
    StudyError
        If one-to-one pairs are asked for and there are too few directions.
    """
    scores: dict[Neuron, tuple[np.ndarray, np.ndarray]] = {}
    for layer in dict.fromkeys(neuron.layer for neuron in neurons):
        here = {neuron: basis for neuron, basis in neurons.items() if neuron.layer == layer}
        if features.rule == "correlation":
            scores |= _correlations(here, local, distributed)
            continue
        if features.rule == "image" and distributed.precision == "fp32":
            codes = _scanned(here, local, distributed)
        else:
            codes = _codes(network, pixels, layer, here, local, features, dictionary)
        for neuron, values in codes.items():
            scores[neuron] = match_most_active(values, scales[layer, name_of(here[neuron])])
    groups = {neuron: f"{neuron.layer}|{name_of(basis)}" for neuron, basis in neurons.items()}
    return settle(scores, groups, features.one_to_one)


def _correlations(
    neurons: Mapping[Neuron, Basis], local: Scan, distributed: Scan
) -> dict[Neuron, tuple[np.ndarray, np.ndarray]]:
    found = {}
    for neuron, basis in neurons.items():
        own = np.concatenate(list(local.pooled((neuron.layer, "neuron"), np.array([neuron.channel]))))[:, 0]
        codes = np.concatenate(list(distributed.pooled((neuron.layer, name_of(basis)))))
        found[neuron] = match_correlated(own.astype(float), codes.astype(float))
    return found


def _scanned(neurons: Mapping[Neuron, Basis], local: Scan, distributed: Scan) -> dict[Neuron, np.ndarray]:
    """Return the pooled codes of each neuron's top images, as the scan of directions found them."""
    pooled = {
        (neuron.layer, name_of(basis)): np.concatenate(list(distributed.pooled((neuron.layer, name_of(basis)))))
        for neuron, basis in neurons.items()
    }
    found = {}
    for neuron, basis in neurons.items():
        images = local.found[neuron.layer, "neuron"].top.images[:, neuron.channel]
        found[neuron] = pooled[neuron.layer, name_of(basis)][images[images >= 0]]
    return found


def _codes(
    network: Network,
    pixels: np.ndarray,
    layer: str,
    neurons: Mapping[Neuron, Basis],
    local: Scan,
    features: FeaturesTable,
    dictionary: DictionaryTable,
) -> dict[Neuron, np.ndarray]:
    """Return the codes (rows x directions) that a neuron's rule counts, recomputed in fp32 on its own top images."""
    top = local.found[layer, "neuron"].top
    images = {neuron: top.images[:, neuron.channel] for neuron in neurons}
    images = {neuron: found[found >= 0] for neuron, found in images.items()}
    if features.rule == "crop":
        found = {}
        for neuron, basis in neurons.items():
            rows = crop_rows(network, layer, pixels, images[neuron], dictionary.crop, dictionary.stride, features.batch)
            found[neuron] = basis.encode(rows.flatten(0, 1)).cpu().numpy()
        return found
    union = np.unique(np.concatenate(list(images.values())))
    place = {int(image): row for row, image in enumerate(union)}
    values: dict[Neuron, list[Tensor]] = {neuron: [] for neuron in neurons}
    bases = {name_of(basis): basis for basis in neurons.values()}
    kept: dict[str, list[Tensor]] = {name: [] for name in bases}
    for part, maps, _ in maps_of(network, [layer], pixels, union, features.batch):
        batch, channels, positions = maps[layer].shape
        rows = maps[layer].transpose(1, 2).reshape(-1, channels)
        if features.rule == "image":
            for name, basis in bases.items():
                codes = basis.encode(rows).reshape(batch, positions, -1)
                kept[name].append(codes.mean(1) if features.pooling == "mean" else codes.amax(1))
            continue
        cube = rows.reshape(batch, positions, channels)
        for neuron, basis in neurons.items():
            rank = {int(image): r for r, image in enumerate(images[neuron])}
            here = [(row, rank[int(image)]) for row, image in enumerate(part) if int(image) in rank]
            if here:
                rows_at = torch.stack([cube[row, int(top.positions[r, neuron.channel])] for row, r in here])
                values[neuron].append(basis.encode(rows_at))
    if features.rule == "image":
        codes_of = {name: torch.cat(parts).cpu().numpy() for name, parts in kept.items()}
        return {
            neuron: codes_of[name_of(basis)][[place[int(image)] for image in images[neuron]]]
            for neuron, basis in neurons.items()
        }
    return {neuron: torch.cat(parts).cpu().numpy() for neuron, parts in values.items()}
