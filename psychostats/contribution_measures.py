"""Paired differences between two bases, by measures that need no model: resampled, at equal norm, and of selectivity.

In: `psychostats.nullings.Nullings`, and the run's tables at equal norm and of selectivity.  Out: tidy rows,
distributed less local, each with its interval and what that is over.  Knows no model and judges nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from psychostats.intervals import Interval, row_of
from psychostats.nullings import BASES, Nullings, need
from psychostats.resampling import Array, change_over, draw_weights, median_over_units, over_images, over_units

LOGITS, SDS, LOG_RATIO = "logits", "logit SDs", "log ratio"

#: Measures in the order of every table: words, unit, and what an interval is over.
MEASURES: dict[str, tuple[str, str, str]] = {
    "size": ("size of the drop", LOGITS, "new pairs and images"),
    "within": ("size, the dictionary's error not charged", LOGITS, "new pairs and images"),
    "signed": ("drop with its sign", LOGITS, "new pairs and images"),
    "paired": ("size of the drop, resampled", LOGITS, "new pairs and images"),
    "paired_signed": ("drop with its sign, resampled", LOGITS, "new pairs and images"),
    "standardised": ("size, standardised", SDS, "new pairs and images"),
    "matched": ("size at equal norm, nearest neuron", LOGITS, "new images"),
    "most_active": ("size, most active features", LOGITS, "new images"),
    "ratio": ("size, as a ratio", LOG_RATIO, "new pairs and images"),
    "regression": ("size at equal norm, regression", LOG_RATIO, "new images"),
    "selectivity": ("selectivity", LOG_RATIO, "new pairs"),
    "norm": ("removed norm", LOG_RATIO, "new pairs and images"),
}
#: Those that speak about the claim: not the norm, and each model's response once (the size again, standardised).
JUDGED = tuple(name for name in MEASURES if name not in ("paired", "paired_signed", "norm"))
_NEEDS_MATCHED = ["layer", "method", "selection", "way", "estimate", "lower", "upper", "n_images", "n", "left_out"]

# Ratios beyond are counted as these, and so is none or a negative one (no drop where the element is present): a median
# does not depend on the limits unless it reaches them.
_RATIO_LIMIT = np.log(1000.0)


def tidy_row(
    nullings: Nullings,
    measure: str,
    method: str,
    quantity: str,
    summary: dict[str, Any],
    interval: Interval,
    **changed: Any,
) -> dict[str, Any]:
    _, unit, over = MEASURES[measure]
    counts = nullings.counts
    row: dict[str, Any] = {"measure": measure, "selection": "fixed", "method": method, "quantity": quantity}
    row |= {"layer": None, "depth": np.nan, "unit": unit, "n_pairs": counts["pairs"], "n_clusters": counts["clusters"]}
    row |= {"n_images": counts["images"], "left_out": 0, **summary, "label": interval.label, "over": over}
    return row | changed


def _summary(estimates: Array, interval: Interval, clusters: int | None = None) -> dict[str, Any]:
    """Summarise an estimate (first) and its replicates.

    There is no interval where most replicates have no estimate, where all are the same, or over a single cluster of
    pairs, which says nothing of other pairs.
    """
    draws = estimates[1:][np.isfinite(estimates[1:])]
    if 2 * len(draws) < len(estimates) or np.ptp(draws) == 0 or clusters == 1:
        return row_of(float(estimates[0]), np.nan, (np.nan, np.nan), interval)
    low, high = interval.of_replicates(draws)
    return row_of(float(estimates[0]), float(draws.std(ddof=1)), (float(low), float(high)), interval)


def compare_paired(
    nullings: Nullings, method: str, boot: Interval, replicates: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the bases within pair and image: over all layers, its change with depth, and layer by layer."""
    table, layers = nullings.pairs, nullings.layers
    depth, layer = table["depth"].to_numpy(dtype=float), table["layer"].to_numpy()
    weights = draw_weights(nullings.clusters, list(layer), len(nullings.images), replicates=replicates, seed=seed)

    def means(column: str) -> list[Array]:
        return [over_images(nullings.grid(method, column, basis), weights) for basis in BASES]

    size = means("size")
    differences = {
        "paired": size[1] - size[0],
        "paired_signed": np.subtract(*means("drop")[::-1]),
        "standardised": np.subtract(*means("standardised")[::-1]),
        "ratio": _log(size[1]) - _log(size[0]),
        "norm": np.subtract(*(_log(one) for one in means("norm")[::-1])),
    }
    rows, drawn = [], []
    for where in (None, *layers):
        kept = np.ones(len(table), dtype=bool) if where is None else layer == where
        clusters = len(np.unique(nullings.clusters[kept]))
        here: dict[str, Any] = {} if where is None else {"layer": where, "depth": layers[where]}
        counted = {"n_pairs": int(kept.sum()), "n_clusters": clusters}
        for measure, values in differences.items():
            summary = _summary(over_units(values, weights, kept), boot, clusters)
            left_out = int((~np.isfinite(values[0]) & kept).sum())
            rows.append(
                tidy_row(nullings, measure, method, "difference", summary, boot, left_out=left_out, **counted, **here)
            )
            if where is None:
                summary = _summary(change_over(values, depth, weights.units), boot, clusters)
                rows.append(tidy_row(nullings, measure, method, "change", summary, boot, left_out=left_out))
        if where is not None:
            for basis, values in zip(BASES, size, strict=True):
                summary = _summary(over_units(values, weights, kept), boot, clusters)
                drawn.append({"method": method, **here, "representation": basis, **summary, "label": boot.label})
    return pd.DataFrame(rows), pd.DataFrame(drawn)


def _log(values: Array) -> Array:
    return np.log(values, out=np.full(values.shape, np.nan), where=values > 0)


def compare_most_active(nullings: Nullings, method: str, boot: Interval, replicates: int, seed: int) -> pd.DataFrame:
    """Compare each image's most active direction with its most active neuron, layer by layer; images are resampled."""
    grids = nullings.most_active(method)
    if grids is None:
        return pd.DataFrame()
    layers = nullings.layers
    difference = grids[1] - grids[0]
    weights = draw_weights(None, list(layers), difference.shape[1], replicates=replicates, seed=seed)
    means = over_images(difference, weights)
    at = np.array(list(layers.values()))
    same: dict[str, Any] = {"selection": "most_active", "n_pairs": pd.NA, "n_clusters": pd.NA}
    same |= {"n_images": difference.shape[1]}
    rows = [
        tidy_row(
            nullings, "most_active", method, "difference", _summary(over_units(means, weights), boot), boot, **same
        ),
        tidy_row(nullings, "most_active", method, "change", _summary(change_over(means, at, weights.units), boot), boot)
        | same,
    ]
    for place, (layer, depth) in enumerate(layers.items()):
        summary = _summary(means[:, place], boot)
        here = {"layer": layer, "depth": depth}
        rows.append(tidy_row(nullings, "most_active", method, "difference", summary, boot, **same, **here))
    return pd.DataFrame(rows)


def carry_matched(nullings: Nullings, table: pd.DataFrame, probability: float) -> pd.DataFrame:
    """Carry the estimates at equal norm as their table has them, and combine those of the fixed features over layers.

    Layers share their images, and how their estimates are correlated is not in the table; a combination with weights w
    has at most the standard error sum |w| se, reached where they all move together, and that one is taken.
    """
    need(table, "norm_matched", _NEEDS_MATCHED)
    theirs = Interval("bootstrap")  # 95 % percentiles, as the run's table has them
    rows = []
    for measure, way in (("matched", "pairs"), ("regression", "regression")):
        part = table[(table["way"] == way) & table["layer"].isin(nullings.layers)]
        for one in part.to_dict(orient="records"):
            summary = row_of(one["estimate"], np.nan, (one["lower"], one["upper"]), theirs)
            here: dict[str, Any] = {"selection": one["selection"], "layer": one["layer"]}
            here |= {"depth": nullings.layers[one["layer"]], "n_pairs": one["n"], "n_clusters": pd.NA}
            here |= {"n_images": one["n_images"], "left_out": one["left_out"]}
            if one["method"] in nullings.methods:
                rows.append(tidy_row(nullings, measure, one["method"], "difference", summary, theirs, **here))
        for method in nullings.methods:
            kept = part[(part["method"] == method) & (part["selection"] == "fixed")]
            kept = kept.loc[np.isfinite(kept[["estimate", "lower", "upper"]].to_numpy(dtype=float)).all(axis=1)]
            if len(kept):
                used = {"n_pairs": kept["n"].sum(), "left_out": kept["left_out"].sum(), "n_clusters": pd.NA}
                for quantity, summary, wald in _combined(kept, nullings, theirs, probability):
                    rows.append(tidy_row(nullings, measure, method, quantity, summary, wald, **used))
    return pd.DataFrame(rows)


def _combined(
    kept: pd.DataFrame, nullings: Nullings, theirs: Interval, probability: float
) -> Sequence[tuple[str, dict[str, Any], Interval]]:
    wald, unit = Interval("wald", probability), Interval("wald", theirs.probability)
    half = float(unit.of_estimate(0.0, 1.0)[1])
    errors = (kept["upper"] - kept["lower"]).to_numpy() / (2 * half)
    estimates, depth = kept["estimate"].to_numpy(), kept["layer"].map(nullings.layers).to_numpy(dtype=float)
    x = depth - depth.mean()
    spread = float((x * x).sum())
    every = np.array(list(nullings.layers.values()))
    found = []
    for quantity, w in (
        ("difference", np.full(len(x), 1.0 / len(x))),
        ("change", x / spread * np.ptp(every) if spread > 0 else np.full(len(x), np.nan)),
    ):
        estimate, error = float(w @ estimates), float(np.abs(w) @ errors)
        low, high = wald.of_estimate(estimate, error)
        found.append((quantity, row_of(estimate, error, (float(low), float(high)), wald), wald))
    return found


def compare_selectivity(
    nullings: Nullings, table: pd.DataFrame, boot: Interval, replicates: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare selectivities, the drop where a feature's element is present over the change where it is absent."""
    medians, rows = [], []
    layer, layers = nullings.pairs["layer"].to_numpy(), nullings.layers
    weights = draw_weights(nullings.clusters, list(layer), 1, replicates=replicates, seed=seed)
    for method in nullings.methods:
        raw = nullings.ratios(table, method)
        if raw is None:
            continue
        for basis, values in raw.items():
            for name, depth in layers.items():
                # A direction that several pairs share is one feature here.
                feature = nullings.pairs.loc[layer == name, f"{basis}_feature"]
                held = pd.Series(values[layer == name], index=feature.to_numpy()).groupby(level=0).first().dropna()
                medians.append(
                    {
                        "method": method,
                        "layer": name,
                        "depth": depth,
                        "representation": basis,
                        "n": len(held),
                        "unbounded": int(np.isinf(held).sum()),
                        "negative": int((held <= 0).sum()),
                        "median": float(held.median()) if len(held) else np.nan,
                    }
                )
        logs = [_limited(raw[basis]) for basis in BASES]
        difference = logs[1] - logs[0]
        by_layer = np.stack([median_over_units(difference, weights, layer == name) for name in layers], 1)
        whole = median_over_units(difference, weights)
        change = change_over(by_layer, np.array(list(layers.values())), np.ones_like(by_layer))
        for quantity, where, estimates in (
            ("difference", None, whole),
            ("change", None, change),
            *(("difference", name, by_layer[:, place]) for place, name in enumerate(layers)),
        ):
            kept = np.ones(len(layer), dtype=bool) if where is None else layer == where
            unit: dict[str, Any] = {} if where is None else {"layer": where, "depth": layers[where]}
            unit |= {"n_pairs": int(kept.sum()), "left_out": int((~np.isfinite(difference) & kept).sum())}
            unit |= {"n_clusters": len(np.unique(nullings.clusters[kept]))}
            rows.append(
                tidy_row(
                    nullings,
                    "selectivity",
                    method,
                    quantity,
                    _summary(estimates, boot, unit["n_clusters"]),
                    boot,
                    **unit,
                )
            )
    return pd.DataFrame(medians), pd.DataFrame(rows)


def _limited(ratios: Array) -> Array:
    """Return logarithms within the limits; NaN stays NaN."""
    positive = np.where(ratios > 0, ratios, np.where(np.isnan(ratios), np.nan, 0.0))
    with np.errstate(divide="ignore"):
        return np.clip(np.log(positive), -_RATIO_LIMIT, _RATIO_LIMIT)
