"""A small features run, written as featurecompute writes one, whose every number is known."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

LAYERS = ("a", "b", "c", "d")
BASES = ("local", "distributed")
REFERENCES = 3
BATCHES = 2


def make_run(
    folder: Path, *, pairs: int = 16, people: int = 24, main: int = 12, network: str = "net", seed: int = 5
) -> Path:
    """Write a run of `pairs` pairs over four layers, shown in the experiments first and second."""
    rng = np.random.default_rng(seed)
    tables = make_tables(rng, pairs, people, main, network)
    folder.mkdir(parents=True, exist_ok=True)
    outputs = []
    for name, rows in tables.items():
        rows.to_parquet(folder / f"{name}.parquet", index=False)
        outputs.append(f"{name}.parquet")
    (folder / "pictures").mkdir()
    for row in tables["pictures"].to_dict("records"):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(buffer, "png")
        (folder / row["file"]).write_bytes(buffer.getvalue())
    write_record(folder, outputs)
    return folder


def write_record(folder: Path, outputs: list[str]) -> None:
    """Write run.json, which holds the hash of every file."""
    held = [{"path": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()} for name in outputs]
    record = {
        "schema": "featurecompute-run/1",
        "run_id": hashlib.sha256(json.dumps(held).encode()).hexdigest()[:16],
        "network": {"id": "net"},
        "stages": [{"name": "all", "outputs": held}],
    }
    (folder / "run.json").write_text(json.dumps(record))


def replace_table(folder: Path, name: str, rows: pd.DataFrame) -> None:
    """Replace a table of a run, and its hash, as another run would have it."""
    rows.to_parquet(folder / f"{name}.parquet", index=False)
    record = json.loads((folder / "run.json").read_text())
    write_record(folder, [one["path"] for one in record["stages"][0]["outputs"]])


def make_tables(rng: np.random.Generator, pairs: int, people: int, main: int, network: str) -> dict[str, Any]:
    """Return every table of the run."""
    images = [f"image{number:03d}" for number in range(60)]
    features, paired, stimuli = [], [], []
    for number in range(pairs):
        layer = number * len(LAYERS) // pairs
        names = {basis: f"{network}/{LAYERS[layer]}:{basis}-{number}" for basis in BASES}
        pair = f"{network}/{LAYERS[layer]}:{number}"
        paired.append({"pair": pair, "local_feature": names["local"], "distributed_feature": names["distributed"]})
        for basis, feature in names.items():
            features.append(
                {
                    "feature": feature,
                    "network": network,
                    "layer": LAYERS[layer],
                    "layer_index": layer,
                    "depth": layer / (len(LAYERS) - 1),
                    "representation": basis,
                    "basis": {"local": "neuron", "distributed": "nmf"}[basis],
                    "sparsity": rng.uniform(),
                    "dead": False,
                    "contribution_subtract": rng.normal(1.0, 0.3),
                    "contribution_reconstruct": rng.normal(1.2, 0.3),
                }
            )
            for experiment in ("first", "second"):
                for batch in range(BATCHES):
                    for catch in (False, True):
                        stimuli.append(_stimulus(rng, images, experiment, feature, pair, basis, batch, catch))
    for experiment in ("first", "second"):
        stimuli += [_stimulus(rng, images, experiment, None, None, "practice", number, False) for number in range(2)]
    shown, known = pd.DataFrame(stimuli), pd.DataFrame(features)
    observed = [
        {
            "observer": observer,
            "stimulus": row["stimulus"],
            "feature": row["feature"],
            "d": rng.normal(0.5, 1.0),
            "noise_sd": 0.5,
        }
        for observer in ("pixel", "elements")
        for row in stimuli
    ]
    return {
        "features": known,
        "pairs": pd.DataFrame(paired).assign(rule="image", share=0.5, shared=False),
        "images": pd.DataFrame({"image": images, "entropy": rng.uniform(4, 6, len(images))}),
        "stimuli": shown,
        "pictures": pd.DataFrame({"image": images, "file": [f"pictures/{name}.png" for name in images], "sha256": ""}),
        "observed": pd.DataFrame(observed),
        "trial_lists": _lists(rng, shown, known, people, main),
        **_contributions(rng, known, images),
    }


def _stimulus(
    rng: np.random.Generator,
    images: list[str],
    experiment: str,
    feature: str | None,
    pair: str | None,
    basis: str,
    batch: int,
    catch: bool,
) -> dict[str, Any]:
    drawn = rng.choice(images, 2 + 2 * REFERENCES, replace=False).tolist()
    name = f"{experiment}/{pair or 'practice'}/{basis}/{batch}{'/catch' if catch else ''}"
    return {
        "stimulus": name,
        "feature": feature,
        "pair": pair,
        "experiment": experiment,
        "phase": "main" if feature else "practice",
        "catch": catch,
        "batch": batch,
        "query_target": drawn[0],
        "query_distractor": drawn[1],
        "references_max": drawn[2 : 2 + REFERENCES],
        "references_min": drawn[2 + REFERENCES :],
        "reference_kind": "natural",
        "activation_target": rng.uniform(1, 2),
        "activation_distractor": 0.0,
        "class_target": None,
        "class_distractor": None,
        "entropy": rng.uniform(4, 6),
        "edge_density": rng.uniform(0, 0.2),
        "compressed_bytes": rng.uniform(2e3, 4e3),
        "seed": 1,
        "version": hashlib.sha256(name.encode()).hexdigest()[:16],
    }


def _lists(
    rng: np.random.Generator, stimuli: pd.DataFrame, features: pd.DataFrame, people: int, main: int
) -> pd.DataFrame:
    """Deal trials at random: two of practice, then main ones and two of catch."""
    parts = []
    for experiment, shown in stimuli.groupby("experiment", sort=False):
        first = shown[shown["phase"] == "practice"]
        usual, catch = (shown[(shown["phase"] == "main") & (shown["catch"] == flag)] for flag in (False, True))
        for number in range(people):
            dealt = usual.sample(frac=1, random_state=rng).drop_duplicates("pair").head(main)
            chosen = pd.concat([first, dealt, catch.sample(2, random_state=rng)])
            chosen = chosen.assign(participant=f"{experiment}-{number + 1:02d}", trial=range(1, len(chosen) + 1))
            parts.append(chosen)
    lists = pd.concat(parts, ignore_index=True).merge(
        features[["feature", "representation", "layer", "depth"]], "left", "feature"
    )
    lists["target_side"] = rng.choice(["left", "right"], len(lists))
    names = ["participant", "experiment", "trial", "phase", "catch", "representation", "layer", "depth", "feature"]
    return lists[[*names, "pair", "stimulus", "version", "target_side"]]


def _contributions(rng: np.random.Generator, features: pd.DataFrame, images: list[str]) -> dict[str, pd.DataFrame]:
    rows, selectivity, matched = [], [], []
    first = set(features.drop_duplicates(["layer", "representation"])["feature"])
    for one in features.to_dict("records"):
        for method in ("subtract", "reconstruct"):
            for selection in ("fixed", "most_active"):
                # The most active is one feature of each basis of a layer: here the first, on every image.
                if selection == "most_active" and one["feature"] not in first:
                    continue
                for image in images[:12]:
                    drop = rng.normal(1.0 + (one["representation"] == "distributed"), 0.5)
                    rows.append(
                        {
                            "feature": one["feature"],
                            "image": image,
                            "method": method,
                            "selection": selection,
                            "target": 0,
                            "logit": 5.0,
                            "logit_nulled": 5.0 - drop,
                            "drop": drop,
                            "residual": 0.0 if method == "subtract" else 0.2,
                            "norm": abs(drop) * rng.uniform(0.5, 2.0),
                            "drop_standardised": drop / 2.0,
                        }
                    )
                chosen = {"feature": one["feature"], "element": "ring", "method": method, "selection": selection}
                numbers = {"n_present": 5, "n_absent": 7, "drop_present": 2.0, "change_absent": rng.uniform(0.1, 1.0)}
                selectivity.append(chosen | numbers | {"selectivity": 2.0 / numbers["change_absent"]})
    for layer in LAYERS:
        for method in ("subtract", "reconstruct"):
            for selection in ("fixed", "most_active"):
                for way in ("pairs", "regression"):
                    key = {"layer": layer, "method": method, "selection": selection, "way": way}
                    numbers = {"estimate": 0.1, "lower": -0.2, "upper": 0.4, "ratio": 1.1}
                    matched.append(key | numbers | {"n_images": 12, "n": 40, "left_out": 0})
    return {
        "contributions": pd.DataFrame(rows),
        "selectivity": pd.DataFrame(selectivity),
        "norm_matched": pd.DataFrame(matched),
    }
