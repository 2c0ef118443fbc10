"""Tables of a features run as featurecompute writes them, with a known difference between the bases."""

from __future__ import annotations

import numpy as np
import pandas as pd

Tables = dict[str, pd.DataFrame]


def make_tables(
    *,
    difference: float = 0.0,
    growth: float = 0.0,
    error: float = 0.0,
    pairs: int = 12,
    images: int = 30,
    layers: int = 3,
    share: bool = False,
    spread: float = 0.3,
    noise: float = 0.5,
    seed: int = 1,
) -> Tables:
    """Make nullings whose size is larger for distributed features by `difference`.

    By `growth` more in the last layer than in the first; `error` is what reconstruction alone changes, and `share`
    gives two pairs of each layer one direction.
    """
    rng = np.random.default_rng(seed)
    names = [f"block{layer + 1}" for layer in range(layers)]
    depths = np.linspace(0.1, 0.9, layers) if layers > 1 else np.array([0.5])
    ids = [f"{place:03d}" for place in range(images)]
    of_images, features, couples, rows = rng.normal(0, 0.3, images), [], [], []

    def add(feature: str, basis: str, method: str, selection: str, sizes: np.ndarray, residual: float) -> None:
        rows.append(
            pd.DataFrame(
                {
                    "feature": feature,
                    "image": ids,
                    "method": method,
                    "selection": selection,
                    "target": 1,
                    "logit": 9.0,
                    "logit_nulled": 9.0 - sizes,
                    "drop": sizes,
                    "residual": residual,
                    "norm": 2.0 if basis == "local" else 1.0,
                    "drop_standardised": sizes / 4,
                }
            )
        )

    for pair in range(pairs):
        layer = pair % layers
        depth = depths[layer]
        lead = difference + growth * (depth - depths.mean()) / max(float(np.ptp(depths)), 1e-9)
        local = f"net/{names[layer]}:{pair}"
        distributed = f"net/{names[layer]}:nmf:{pair % layers if share and pair < 2 * layers else pair}"
        couples.append((f"pair{pair}", local, distributed, names[layer]))
        level, slope = 5 + depth + rng.normal(0, 0.5), rng.normal(0, spread)
        for basis, feature in (("local", local), ("distributed", distributed)):
            if feature in [one["feature"] for one in features]:
                continue  # a shared direction was nulled once
            features.append({"feature": feature, "layer": names[layer], "depth": depth, "representation": basis})
            extra = (lead + slope) if basis == "distributed" else 0.0
            sizes = level + extra + of_images + rng.normal(0, noise, images)
            for method in ("subtract", "reconstruct"):
                charged = error if basis == "distributed" and method == "reconstruct" else 0.0
                add(feature, basis, method, "fixed", sizes + charged, charged)
    for layer, name in enumerate(names):
        for basis in ("local", "distributed"):
            feature = f"net/{name}:{'nmf:' if basis == 'distributed' else ''}top"
            features.append({"feature": feature, "layer": name, "depth": depths[layer], "representation": basis})
            sizes = 8 + of_images + rng.normal(0, noise, images) + (difference if basis == "distributed" else 0.0)
            for method in ("subtract", "reconstruct"):
                add(feature, basis, method, "most_active", sizes, 0.0)
    table = pd.DataFrame(features)
    ratios = table[table["representation"].isin(["local", "distributed"])].assign(
        selectivity=np.where(table["representation"] == "distributed", 6.0, 2.0)
    )
    methods = ("subtract", "reconstruct")
    return {
        "contributions": pd.concat(rows, ignore_index=True),
        "features": table,
        "pairs": pd.DataFrame(couples, columns=["pair", "local_feature", "distributed_feature", "layer"]).drop(
            columns="layer"
        ),
        "norm_matched": pd.DataFrame(
            [
                {
                    "layer": name,
                    "method": method,
                    "selection": "fixed",
                    "way": way,
                    "estimate": 1.0 + place,
                    "lower": 0.5 + place,
                    "upper": 1.5 + place,
                    "ratio": 1.1,
                    "n_images": images,
                    "n": 30,
                    "left_out": 10,
                }
                for place, name in enumerate(names)
                for method in methods
                for way in ("pairs", "regression")
            ]
        ),
        "selectivity": pd.concat([ratios.assign(method=method, selection="fixed") for method in methods]),
    }


def flip(tables: Tables, seed: int) -> Tables:
    """Exchange the bases of some pairs by chance, as if no basis had anything of its own."""
    rng = np.random.default_rng(seed)
    renamed: dict[str, str] = {}
    for row in tables["pairs"].to_dict(orient="records"):
        if rng.random() < 0.5:
            renamed |= {row["local_feature"]: row["distributed_feature"]}
            renamed |= {row["distributed_feature"]: row["local_feature"]}
    rows = tables["contributions"]
    return tables | {"contributions": rows.assign(feature=rows["feature"].replace(renamed))}
