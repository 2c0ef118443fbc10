"""How well neurons and directions match the known elements of generated images, layer by layer, with their floors.

In: a network, its dictionaries, images whose elements are known.  Out: the tables of matches, of each feature's
element, and of selectivity.  Knows no contribution's making.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from featurecompute import manifest
from featurecompute.activations import Key
from featurecompute.cards import Layer, Network
from featurecompute.curves import selectivity
from featurecompute.dictionary import Dictionary
from featurecompute.groundtruth import compare, match, random_directions, thresholded, to_cells
from featurecompute.nmf import encode_nmf
from featurecompute.pixels import Images
from featurecompute.rows import maps_of
from featurecompute.scenes import GRID, Truth
from featurecompute.study import FeaturesTable

IMAGES = 1000
"""Images at most that matches are made and scored on, half each."""


def match_elements(
    folder: Path,
    network: Network,
    images: Images,
    dictionaries: Mapping[str, Dictionary],
    names: Mapping[str, tuple[Key, int]],
    features: FeaturesTable,
    *,
    progress: Callable[[int, int], None] = lambda done, every: None,
) -> list[Path]:
    """Match units with known elements and write what is found.

    Parameters
    ----------
    folder
        The run's; contributions must lie there.
    network, images
        Network, and generated images.
    dictionaries
        Layer to its dictionary.
    names
        Id of each feature to its layer, basis and index.
    features
        Settings.

    Returns
    -------
    list of Path
        Files of ``matches``, ``elements`` and ``selectivity``.
    """
    count = min(IMAGES, len(images.pixels))
    assert images.truth is not None
    truth = Truth(images.truth.elements, images.truth.cells[:count])
    matches, elements = [], []
    for place, (name, dictionary) in enumerate(dictionaries.items()):
        layer = network.layer(name)
        if any(side % GRID and GRID % side for side in layer.shape[1:]) or len(layer.shape) != 3:
            continue  # its positions are no whole cells
        readings = read_layer(network, layer, dictionary, images.pixels[:count], features.batch, features.seed)
        matches.append(compare(readings, truth, layer=name, depth=layer.depth, seed=features.seed))
        for representation, condition in (("local", "neuron"), ("distributed", dictionary.method)):
            best = match(readings[representation, condition], truth, split_seed=features.seed, kinds=("any",))
            best = best.set_index("unit")
            for feature, ((at, basis), index) in names.items():
                if at == name and (basis == "neuron") == (representation == "local"):
                    row = best.loc[index]
                    elements.append((feature, row["element"], row["element_kind"], row["auroc"]))
        progress(place + 1, len(dictionaries))
    found = pd.DataFrame(elements, columns=list(manifest.ELEMENTS.columns))
    written = [manifest.ELEMENTS.write(folder, found)]
    table = pd.concat(matches, ignore_index=True) if matches else pd.DataFrame(columns=list(manifest.MATCHES.columns))
    written.append(manifest.MATCHES.write(folder, table[list(manifest.MATCHES.columns)]))
    presence = pd.DataFrame(
        images.truth.presence,
        index=images.table["image"],
        columns=[element.name for element in images.truth.elements],
    )
    contributions = manifest.CONTRIBUTIONS.read(folder)
    rows = selectivity(contributions, presence, dict(zip(found["feature"], found["element"], strict=True)))
    return [*written, manifest.SELECTIVITY.write(folder, rows)]


def read_layer(
    network: Network, layer: Layer, dictionary: Dictionary, pixels: np.ndarray, batch: int, seed: int
) -> dict[tuple[str, str], np.ndarray]:
    """Return a layer's activations on the cells of the truth, in neurons, directions and their floors.

    Parameters
    ----------
    network, layer
        Network and layer.
    dictionary
        The layer's directions.
    pixels
        Images.
    batch
        Images at once.
    seed
        Of the random directions.

    Returns
    -------
    dict
        (representation, condition) to activations (images x units x 8 x 8). Beside neurons and directions: neurons
        thresholded until they are as sparse as the directions, and random directions, sparsely coded like the learned
        ones, since sparseness alone makes a unit respond to less.
    """
    shape = (int(layer.shape[1]), int(layer.shape[2]))
    atoms = random_directions(layer.channels, dictionary.size, seed)
    random = torch.from_numpy(np.asarray(atoms, np.float32)).to(dictionary.atoms.device)
    penalty = float(dictionary.parameters.get("penalty", 0.0))
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for _, maps, _ in maps_of(network, [layer.name], pixels, np.arange(len(pixels)), batch):
        values = maps[layer.name]
        rows = values.transpose(1, 2).reshape(-1, layer.channels)
        read = {
            ("local", "neuron"): rows,
            ("distributed", dictionary.method): dictionary.encode(rows),
            ("distributed", "random"): encode_nmf(rows.clamp_min(0), random, penalty),
        }
        for key, codes in read.items():
            cube = codes.reshape(len(values), -1, codes.shape[1]).transpose(1, 2).cpu().numpy()
            found.setdefault(key, []).append(to_cells(cube, shape))
    readings = {key: np.concatenate(parts) for key, parts in found.items()}
    sparsity = float((readings["distributed", dictionary.method] <= 0).mean())
    return readings | {("local", "thresholded"): thresholded(readings["local", "neuron"], sparsity)}
