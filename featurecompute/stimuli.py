"""What participants see: for each feature, batch and experiment a stimulus; catch and practice stimuli beside them.

In: features in pairs, their activation in every image, names of synthesised images.  Out: the table of stimuli.
Knows no network, no pixel and no participant.

In the experiment *mixed*, as we read arXiv 2411.03993 (assumed), some references of the stimuli of *natural* are
synthesised images; the queries are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from featurecompute.choices import Choice, Unfit, choose_images, generator, refuse_few
from featurecompute.errors import StudyError
from featurecompute.files import hash_json
from featurecompute.study import Experiment, StimuliTable


@dataclass(frozen=True)
class Member:
    """One feature of a pair.

    Parameters
    ----------
    feature, pair
        Ids.
    representation
        local or distributed.
    """

    feature: str
    pair: str
    representation: str


@dataclass(frozen=True, eq=False)
class Material:
    """What stimuli are made of.

    Parameters
    ----------
    images
        Ids of the image set (N).
    classes
        Class of each image (N), or None where images have none.
    activations
        Gives a feature's pooled activation in every image (N).
    synthesised
        Feature and end (max, min) to the ids of its synthesised images that did not fail.
    """

    images: np.ndarray
    classes: np.ndarray | None
    activations: Callable[[str], np.ndarray]
    synthesised: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)


def make_stimuli(
    experiment: Experiment,
    members: Sequence[Member],
    spare: Sequence[Member],
    material: Material,
    table: StimuliTable,
) -> tuple[pd.DataFrame, list[str]]:
    """Make the stimuli of an experiment: main ones, catch ones, and practice.

    Parameters
    ----------
    experiment
        natural, semantic or mixed.
    members
        Features to study, by pairs.
    spare
        Features that are not studied, for practice; none: those that are.
    material
        Images and activations.
    table
        ``[stimuli]``.

    Returns
    -------
    tuple
        Rows of stimuli.parquet, but for the measures of their images and their version, with a column ``shows``: the
        feature, of practice too; and a sentence for each pair that is left out.

    Raises
    ------
    StudyError
        If images or classes do not suffice, or, with ``faulty = "error"``, no stimulus can be made of a feature.
    """
    refuse_few(experiment, len(material.images), material.classes, table)
    found: dict[Member, list[Choice]] = {}
    unfit: dict[str, str] = {}
    for member in members:
        try:
            found[member] = _choose(experiment, member, material, table)
            _refuse_few_synthesised(experiment, member.feature, material, table)
        except Unfit as fault:
            unfit.setdefault(member.pair, f"experiment '{experiment}': {fault}")
    alike = _find_alike(experiment, {member: found[member] for member in found if member.pair not in unfit})
    if table.faulty == "error" and (unfit or alike):
        advice = '; choose other neurons, or set [stimuli] faulty = "skip" to {}.'
        raise StudyError(
            "\n".join(
                [sentence + advice.format("leave such pairs out") for sentence in unfit.values()]
                + [sentence + advice.format("keep both") for sentence in alike]
            )
        )
    kept = [member for member in members if member.pair not in unfit]
    if not kept:
        raise StudyError(f"{next(iter(unfit.values()))}; no pair is left, so other neurons must be chosen.")
    rows = [
        _row(experiment, member, batch, choice, material, table)
        for member in kept
        for batch, choice in enumerate(found[member])
    ]
    rows += _catch(rows, {member.pair: member for member in kept}, material, table)
    rows += _practice(experiment, spare or kept, material, table)
    made = sum(row["phase"] == "practice" for row in rows)
    said = [f"{sentence}; pair {pair} is left out." for pair, sentence in unfit.items()]
    # To leave them out would select pairs by how alike their features are, which is what is asked about.
    said += [f"{sentence}; both are kept." for sentence in alike]
    if made < table.practice:
        said.append(f"experiment '{experiment}': {made} of {table.practice} practice stimuli could be made.")
    return pd.DataFrame(rows), said


def _find_alike(experiment: str, found: Mapping[Member, Sequence[Choice]]) -> list[str]:
    """Say which features have the most activating images of another."""
    tops: dict[frozenset[int], str] = {}
    said: dict[str, None] = {}
    for member, choices in found.items():
        top = frozenset(int(image) for choice in choices for image in choice.references_max)
        other = tops.setdefault(top, member.feature)
        if other != member.feature:
            said[
                f"experiment '{experiment}': feature {member.feature} has the same most activating images as {other}"
            ] = None
    return list(said)


def _choose(experiment: Experiment, member: Member, material: Material, table: StimuliTable) -> list[Choice]:
    values = material.activations(member.feature)
    return choose_images(experiment, member.feature, values, material.classes, table)


def _row(
    experiment: str, member: Member, batch: int, choice: Choice, material: Material, table: StimuliTable
) -> dict[str, object]:
    values, ids = material.activations(member.feature), material.images
    classes = material.classes
    row: dict[str, object] = {
        "stimulus": f"{experiment}/{member.pair}/{member.representation}/{batch}",
        "feature": member.feature,
        "shows": member.feature,
        "pair": member.pair,
        "experiment": experiment,
        "phase": "main",
        "catch": False,
        "batch": batch,
        "query_target": ids[choice.target],
        "query_distractor": ids[choice.distractor],
        "references_max": [str(name) for name in ids[choice.references_max]],
        "references_min": [str(name) for name in ids[choice.references_min]],
        "activation_target": float(values[choice.target]),
        "activation_distractor": float(values[choice.distractor]),
        "class_target": None if classes is None else classes[choice.target],
        "class_distractor": None if classes is None else classes[choice.distractor],
        "reference_kind": "natural",
        "seed": table.seed,
    }
    if experiment == "mixed":
        _mix(row, member.feature, batch, material, table)
    return row


def _mix(row: dict[str, object], feature: str, batch: int, material: Material, table: StimuliTable) -> None:
    """Let synthesised images take the places of some references."""
    random = generator(table.seed, f"{feature}/mixed/{batch}")
    natural = 0
    for end, count in (("max", table.references_synthetic), ("min", table.references_synthetic_min)):
        references = list(row[f"references_{end}"])  # type: ignore[call-overload]
        made = material.synthesised.get((feature, end), ())[batch * count : (batch + 1) * count]
        for place, name in zip(random.permutation(len(references))[:count], made, strict=True):
            references[place] = name
        natural += len(references) - count
        row[f"references_{end}"] = references
    row["reference_kind"] = "mixed" if natural else "synthetic"


def _catch(
    rows: Sequence[dict[str, object]], pairs: Mapping[str, Member], material: Material, table: StimuliTable
) -> list[dict[str, object]]:
    """Return catch stimuli: of pairs that are drawn, each basis in turn, with queries taken from the references."""
    experiment = str(rows[0]["experiment"])
    random = generator(table.seed, f"{experiment}/catch")
    chosen = random.permutation(list(pairs))[: table.catch]
    known = {name: place for place, name in enumerate(material.images)}
    found = []
    for number, pair in enumerate(chosen):
        mine = [row for row in rows if row["pair"] == pair and row["batch"] == 0]
        source = mine[number % len(mine)]
        values = material.activations(str(source["feature"]))
        row = source | {"stimulus": f"{source['stimulus']}/catch", "catch": True}
        for end, query in (("max", "target"), ("min", "distractor")):
            references: list[str] = source[f"references_{end}"]  # type: ignore[assignment]
            natural = [name for name in references if name in known]
            image = str(random.choice(natural or references))  # where all are synthesised, one of those is in sight
            place = known.get(image)
            row[f"query_{query}"] = image
            row[f"activation_{query}"] = None if place is None else float(values[place])
            row[f"class_{query}"] = None if place is None or material.classes is None else material.classes[place]
        found.append(row)
    return found


def _practice(
    experiment: Experiment, members: Sequence[Member], material: Material, table: StimuliTable
) -> list[dict[str, object]]:
    """Return practice stimuli: easy ones, the easiest first, then harder ones; references are natural."""
    random = generator(table.seed, f"{experiment}/practice")
    # Bases in turn, so that practice prepares for both.
    sides = [[m for m in members if m.representation == name] for name in ("distributed", "local")]
    sides = [[side[i] for i in random.permutation(len(side))] for side in sides]
    longest = max(map(len, sides))
    turn = [side[place] for place in range(longest) for side in sides if place < len(side)]
    recipe: Experiment = "semantic" if experiment == "semantic" else "natural"
    easy, hard = table.practice - min(table.practice_hard, table.practice), min(table.practice_hard, table.practice)
    found: list[list[tuple[float, dict[str, object]]]] = []
    for count, query in ((easy, None), (hard, table.practice_query)):
        settings = table.model_copy(update={"batches": 1, "query": query})
        group: list[tuple[float, dict[str, object]]] = []
        while turn and len(group) < count:
            member = turn.pop(0)
            try:
                choice = _choose(recipe, member, material, settings)[0]
            except Unfit:
                continue
            row = _row(recipe, member, 0, choice, material, table)
            spread = float(np.std(material.activations(member.feature))) or 1.0
            gap = (float(row["activation_target"]) - float(row["activation_distractor"])) / spread  # type: ignore[arg-type]
            group.append((gap, row))
        found.append(sorted(group, key=lambda pair: -pair[0]))
    return [
        row
        | {
            "stimulus": f"{experiment}/practice/{number}",
            "experiment": experiment,
            "phase": "practice",
            "feature": None,
            "pair": None,
            "batch": None,
        }
        for number, (_, row) in enumerate(found[0] + found[1])
    ]


def _refuse_few_synthesised(experiment: str, feature: str, material: Material, table: StimuliTable) -> None:
    if experiment != "mixed":
        return
    for end, count in (("max", table.references_synthetic), ("min", table.references_synthetic_min)):
        there = len(material.synthesised.get((feature, end), ()))
        if there < count * table.batches:
            raise Unfit(
                f"feature {feature} has {there} synthesised images (end '{end}') that did not fail, and "
                f"{table.batches} batches need {count * table.batches}"
            )


def set_versions(stimuli: pd.DataFrame, hashes: Mapping[str, str]) -> pd.DataFrame:
    """Return stimuli with a version each: a hash of the pixels of all that it shows, in order.

    Parameters
    ----------
    stimuli
        Rows of stimuli.parquet.
    hashes
        Image to the hash of its pixels.
    """
    images = stimuli[["query_target", "query_distractor", "references_max", "references_min"]]
    versions = [
        hash_json([hashes[row[0]], hashes[row[1]], [hashes[i] for i in row[2]], [hashes[i] for i in row[3]]])[:16]
        for row in images.itertuples(index=False)
    ]
    return stimuli.assign(version=versions)


def images_of(stimuli: pd.DataFrame) -> list[str]:
    """Return the ids of all images that stimuli show, each once, in the order of their first appearance."""
    found: dict[str, None] = {}
    for row in stimuli[["query_target", "query_distractor", "references_max", "references_min"]].itertuples(
        index=False
    ):
        found.update(dict.fromkeys([row[0], row[1], *row[2], *row[3]]))
    return list(found)
