"""A run with stimuli in a moment: small tables that fit each other, and small pictures, without a network."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featurecompute.files import hash_json
from featurecompute.manifest import FEATURES, IMAGES, PAIRS, SCHEMA, STIMULI, TRIAL_LISTS, Run, load_run
from featurecompute.pictures import Kind, write_pictures

LAYERS = {"early": 0.25, "late": 0.75}
KINDS = {"natural": "natural", "semantic": "natural", "mixed": "mixed"}


def draw_picture(number: int, look: int, height: int = 16, width: int = 16) -> np.ndarray:
    """Return a picture that no other number has: a coloured disc or bar on grey noise, both as its look has it."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(90, 130, (height, width, 3), dtype=np.uint8)
    rows, columns = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    centre = rng.uniform(0.3, 0.7, 2)
    disc = np.hypot(rows - centre[0], columns - centre[1]) < rng.uniform(0.15, 0.3)
    bar = np.abs(rows - centre[0] + (columns - centre[1]) * rng.uniform(-1, 1)) < 0.12
    pixels[bar if look % 2 else disc] = np.random.default_rng(look).integers(0, 256, 3, dtype=np.uint8)
    return pixels


def write_stimulus_run(
    folder: Path,
    *,
    experiments: Sequence[str] = ("natural", "semantic", "mixed"),
    participants: int = 6,
    pairs: int = 4,
    batches: int = 2,
    references: tuple[int, int] = (9, 9),
    practice: int = 3,
    catch: int = 1,
    sizes: Sequence[tuple[int, int]] = ((16, 16),),
    picture: Kind = "png",
) -> Run:
    """Write a run that holds what leaves it for an experiment.

    Parameters
    ----------
    folder
        Where it goes.
    experiments, participants
        Which experiments, and how many people in each.
    pairs, batches
        Each feature of a pair has a stimulus in each batch; a person sees one batch of every pair in one basis.
    references
        Maximal and minimal ones.
    practice, catch
        Stimuli of each experiment, and trials of each person; the last of practice is hard.
    sizes
        Heights and widths of pictures, which take turns.
    picture
        Their form.
    """
    folder.mkdir(parents=True)
    images = (f"set/{number:05}.png" for number in itertools.count())
    kinds = {name: KINDS[name] for name in experiments}
    features = [_feature(pair, basis) for pair in range(pairs) for basis in ("local", "distributed")]
    stimuli: list[dict[str, Any]] = []
    looks: dict[str, int] = {}

    def add(experiment: str, feature: Mapping[str, Any], phase: str, number: int, is_catch: bool = False) -> None:
        shown = {"references_max": references[0], "references_min": references[1]}
        row = {name: [next(images) for _ in range(count)] for name, count in shown.items()}
        queries = (row["references_max"][0], row["references_min"][0]) if is_catch else (next(images), next(images))
        row |= {"query_target": queries[0], "query_distractor": queries[1], "reference_kind": kinds[experiment]}
        for end, query in zip(("max", "min"), queries, strict=True):
            looks.update(dict.fromkeys([query, *row[f"references_{end}"]], 3 * len(stimuli) + (end == "min")))
        row |= {"experiment": experiment, "phase": phase, "catch": is_catch, "seed": number}
        row |= {"batch": number, "feature": feature["feature"], "pair": feature["pair"]} if feature else {}
        row |= {"activation_target": 1.0, "activation_distractor": 0.0, "entropy": 5.0, "edge_density": 0.2}
        row["stimulus"] = f"{experiment}/{phase}{'-catch' * is_catch}/{len(stimuli):04}"
        stimuli.append(row | {"compressed_bytes": 600.0, "version": hash_json(row)[:16]})

    for experiment in experiments:
        for number in range(practice):
            add(experiment, {}, "practice", number)
        for feature, batch in itertools.product(features, range(batches)):
            add(experiment, feature, "main", batch)
        for number in range(catch):
            add(experiment, features[number % len(features)], "main", 0, is_catch=True)
    made = pd.DataFrame(stimuli)
    for column in ("feature", "pair"):
        made[column] = made[column].astype(object).where(made[column].notna(), None)
    made["batch"] = made["batch"].astype("Int64")
    used = sorted({image for row in stimuli for image in _shown(row)})
    sized = zip(used, itertools.cycle(sizes))
    write_pictures(
        folder, ((image, draw_picture(int(image[4:9]), looks[image], *size)) for image, size in sized), picture
    )
    table = {"image": used, "path": used, "sha256": [hash_json(image) for image in used], "kind": "natural"}
    frame = pd.DataFrame(table).assign(entropy=5.0, edge_density=0.2, compressed_bytes=600)
    IMAGES.write(folder, pd.concat([frame, frame.iloc[:1].assign(image="set/unused.png")]))
    FEATURES.write(folder, pd.DataFrame(features).drop(columns="pair"))
    PAIRS.write(folder, pd.DataFrame(features).groupby("pair", sort=False)["feature"].agg(list).pipe(_pairs))
    STIMULI.write(folder, made)
    TRIAL_LISTS.write(folder, _lists(made, features, participants))
    record = {"schema": SCHEMA, "run_id": hash_json(stimuli)[:16], "versions": {"featurecompute": "1"}, "stages": []}
    record |= {"settings": {"stimuli": {"practice_hard": min(1, practice)}}, "warnings": []}
    (folder / "run.json").write_text(json.dumps(record))
    return load_run(folder)


def _shown(row: Mapping[str, Any]) -> set[str]:
    return {row["query_target"], row["query_distractor"], *row["references_max"], *row["references_min"]}


def _feature(pair: int, representation: str) -> dict[str, Any]:
    layer = list(LAYERS)[pair % len(LAYERS)]
    found = {"feature": f"net/{layer}:{representation}{pair}", "network": "net", "layer": layer, "index": pair}
    return found | {"depth": LAYERS[layer], "representation": representation, "pair": f"net/{layer}:{pair}"}


def _pairs(members: pd.Series) -> pd.DataFrame:
    held = pd.DataFrame(list(members), columns=["local_feature", "distributed_feature"])
    return held.assign(pair=members.index, rule="image", share=0.5, shared=False)


def _lists(stimuli: pd.DataFrame, features: Sequence[Mapping[str, Any]], participants: int) -> pd.DataFrame:
    about = pd.DataFrame(features).set_index("feature")[["representation", "layer", "depth"]]
    rows = []
    for experiment, own in stimuli.groupby("experiment", sort=False):
        main = own[(own["phase"] == "main") & ~own["catch"]]
        for place in range(participants):
            rng = np.random.default_rng([place, len(rows)])
            chosen = [
                held.iloc[(place + number) % len(held)]["stimulus"]
                for number, (_, held) in enumerate(main.groupby("pair", sort=False))
            ]
            seen = own[own["stimulus"].isin(chosen) | own["catch"]].sample(frac=1, random_state=place)
            session = pd.concat([own[own["phase"] == "practice"], seen])
            session = session[["experiment", "phase", "catch", "feature", "pair", "stimulus", "version"]]
            session = session.join(about, on="feature")
            sides = rng.choice(["left", "right"], len(session))
            rows.append(
                session.assign(
                    participant=f"{experiment}-{place + 1:03}", trial=range(1, len(session) + 1), target_side=sides
                )
            )
    return pd.concat(rows, ignore_index=True)
