"""Which neurons are studied, which direction each is paired with, and the names they keep.

In: units of every layer, their activations over images, a rule.  Out: chosen neurons, pairs, ids.
Knows no network and no pixel: what a rule needs of them comes in as arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from featurecompute.errors import StudyError, nearest
from featurecompute.study import FeaturesTable


@dataclass(frozen=True, order=True)
class Neuron:
    """A channel of a layer."""

    layer: str
    channel: int


@dataclass(frozen=True)
class Match:
    """A neuron's direction.

    Parameters
    ----------
    direction
        Index of the atom.
    share
        Of the images (crops, positions) that the rule counted, those where this direction was the most active; for the
        rule ``correlation``, the correlation.
    """

    direction: int
    share: float


def local_id(network: str, layer: str, channel: int) -> str:
    """Return the id of a neuron, the same in every run on this network."""
    return f"{network}/{layer}:{channel}"


def distributed_id(network: str, layer: str, method: str, basis_sha256: str, atom: int) -> str:
    """Return the id of a direction, the same in every run that learns the same dictionary."""
    return f"{network}/{layer}:{method}-{basis_sha256[:8]}:{atom}"


def choose_neurons(alive: Mapping[str, np.ndarray], table: FeaturesTable) -> list[Neuron]:
    """Choose neurons: those that are listed, or a sample, uniform over layers, then over a layer's channels.

    Parameters
    ----------
    alive
        Layer, in order of depth, to a truth for each channel: whether it is ever active. Dead channels are never
        sampled, since no image shows what they respond to.
    table
        ``[features]``.

    Returns
    -------
    list of Neuron
        In order of depth and channel.

    Raises
    ------
    StudyError
        If a listed neuron does not exist, or more are asked for than there are.
    """
    order = {layer: place for place, layer in enumerate(alive)}
    chosen = _listed(alive, table.neurons) if isinstance(table.neurons, tuple) else _sampled(alive, table)
    return sorted(chosen, key=lambda neuron: (order[neuron.layer], neuron.channel))


def _listed(alive: Mapping[str, np.ndarray], names: Sequence[str]) -> set[Neuron]:
    chosen = set()
    for name in names:
        layer, _, channel = name.rpartition(":")
        if layer not in alive:
            raise StudyError(
                f"[features] neurons names '{name}', whose layer is not looked into{nearest(layer, alive)}; a neuron "
                f"is LAYER:CHANNEL, and the layers are {', '.join(alive)}."
            )
        if not channel.isdecimal() or int(channel) >= len(alive[layer]):
            raise StudyError(
                f"[features] neurons names '{name}'; the channels of {layer} are 0 to {len(alive[layer]) - 1}."
            )
        chosen.add(Neuron(layer, int(channel)))
    return chosen


def _sampled(alive: Mapping[str, np.ndarray], table: FeaturesTable) -> set[Neuron]:
    assert isinstance(table.neurons, int)
    left = {layer: list(np.flatnonzero(units)) for layer, units in alive.items()}
    there = sum(map(len, left.values()))
    if not there:
        raise StudyError(
            "no channel of the layers tells one image from another, so no neuron can be sampled; give more, or more "
            "different, images."
        )
    if table.neurons > there:
        raise StudyError(
            f"[features] neurons is {table.neurons}, but the layers have {there} channels that are active and tell "
            "images apart; ask for that many at most."
        )
    random = np.random.default_rng(table.seed)
    chosen = set()
    for _ in range(table.neurons):
        layers = [layer for layer in left if left[layer]]
        layer = layers[random.integers(len(layers))]
        channel = left[layer].pop(random.integers(len(left[layer])))
        chosen.add(Neuron(layer, int(channel)))
    return chosen


def scales_of(mean: np.ndarray, sd: np.ndarray, largest: np.ndarray, normalise: str) -> np.ndarray:
    """Return what each unit's activations are divided by before units are compared; dead units get infinity.

    "Most active" depends on the scale of each unit, and neither channels nor atoms have one in common.

    Parameters
    ----------
    mean, sd, largest
        Of each unit's pooled activation over images (units).
    normalise
        ``sd``, ``max`` or ``none``.
    """
    scale = {"sd": sd, "max": largest, "none": np.ones_like(mean)}[normalise].astype(float)
    return np.where((sd > 0) & (scale > 0), scale, np.inf)


def match_most_active(codes: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count for each direction how often it is the most active one.

    Parameters
    ----------
    codes
        Codes (rows x directions) of the images, crops or positions where the neuron is most active.
    scales
        What codes are divided by (directions).

    Returns
    -------
    tuple of ndarray
        Share of the rows for each direction, and its mean scaled code, which breaks ties.

    Notes
    -----
    "The direction most frequently the most activated" is how reviews of arXiv 2411.03993 quote its rule; whether it
    counts images, crops or positions is not known to us, so that is a setting.
    """
    scaled = codes / scales
    winners = np.argmax(scaled, axis=1)
    active = scaled.max(axis=1) > 0  # where no direction is active at all, none wins
    share = np.bincount(winners[active], minlength=codes.shape[1]) / max(len(codes), 1)
    return share, scaled.mean(axis=0)


def match_correlated(neuron: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each direction's correlation with a neuron over images (n) and (n x directions); constants have 0."""
    centred = directions - directions.mean(axis=0)
    own = neuron - neuron.mean()
    size = np.sqrt((centred**2).sum(axis=0) * (own**2).sum())
    # By their range: rounding of the mean leaves constants a little off zero.
    varies = (np.ptp(directions, axis=0) > 0) & (np.ptp(neuron) > 0) & (size > 0)
    product = own @ centred
    return np.divide(product, size, out=np.zeros_like(product), where=varies), np.zeros(directions.shape[1])


def settle(
    scores: Mapping[Neuron, tuple[np.ndarray, np.ndarray]], groups: Mapping[Neuron, str], one_to_one: bool
) -> dict[Neuron, Match]:
    """Give each neuron its direction.

    Parameters
    ----------
    scores
        Neuron to the scores of its directions, and what breaks ties, from `match_most_active` or `match_correlated`.
    groups
        Neuron to the dictionary it is matched within.
    one_to_one
        No two neurons share a direction: the sum of scores is then the largest possible (Hungarian algorithm).

    Raises
    ------
    StudyError
        If one-to-one is asked for and a dictionary has fewer directions than there are neurons.
    """
    matches: dict[Neuron, Match] = {}
    for group in dict.fromkeys(groups.values()):
        neurons = [neuron for neuron in scores if groups[neuron] == group]
        table = np.stack([scores[neuron][0] for neuron in neurons])
        # Rounding to 1e-12 lets equal shares be equal; the second score decides among them, then the lower index.
        ties = np.stack([scores[neuron][1] for neuron in neurons])
        if one_to_one:
            if len(neurons) > table.shape[1]:
                raise StudyError(
                    f"[features] one_to_one needs a direction for each neuron, but {neurons[0].layer} has "
                    f"{len(neurons)} neurons and {table.shape[1]} directions; raise [dictionary] rank."
                )
            span = float(np.ptp(ties)) or 1.0
            _, chosen = linear_sum_assignment(table + 1e-9 * (ties - ties.min()) / span, maximize=True)
        else:
            chosen = np.array([np.lexsort((-t, -np.round(s, 12)))[0] for s, t in zip(table, ties, strict=True)])
        for neuron, direction, row in zip(neurons, chosen, table, strict=True):
            matches[neuron] = Match(int(direction), float(row[direction]))
    return matches
