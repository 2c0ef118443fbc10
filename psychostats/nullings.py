"""What nulling features did to the logit, joined by id: each pair's two features on each image.

In: the tables `contributions`, `features` and `pairs` of a features run.  Out: `Nullings`, whose arrays are pairs by
images.  Every fault of the tables is one sentence.  Computes no estimate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from psychostats.errors import InputError
from psychostats.resampling import Array, Places, clusters_of

BASES = ("local", "distributed")
METHODS = ("subtract", "reconstruct")
"""Definitions of nulling; the run's other methods are attributions."""

_KEY = ["feature", "image", "method", "selection"]
_NEEDS = {
    "contributions": [*_KEY, "drop", "residual", "norm", "drop_standardised"],
    "features": ["feature", "layer", "depth", "representation"],
    "pairs": ["pair", "local_feature", "distributed_feature"],
}
_NEEDS_RATIOS = ["feature", "method", "selection", "selectivity"]


@dataclass(frozen=True)
class Nullings:
    """Nulled features of pairs, on every image.

    Parameters
    ----------
    fixed
        One row a method, pair, basis and image: ``method, pair, representation, feature, layer, depth, image, drop,
        size`` (of the drop)``, within`` (size of drop - residual, of reconstruct)``, error`` (size of the residual)``,
        norm, standardised`` (size).
    active
        The most active feature of each layer, basis and image: ``method, layer, representation, image, size``.
    pairs
        ``pair, local_feature, distributed_feature, layer, depth``, one row a pair.
    clusters
        Which pairs belong together since they share a feature, shape ``(pairs,)``.
    layers
        Depth of each layer, the shallowest first.
    images
        Ids, in order.
    methods
        Those of `METHODS` that there are.
    """

    fixed: pd.DataFrame
    active: pd.DataFrame
    pairs: pd.DataFrame
    clusters: Places
    layers: dict[str, float]
    images: list[str]
    methods: tuple[str, ...]

    @property
    def shared(self) -> set[str]:
        """Features of more than one pair."""
        names = pd.concat([self.pairs[f"{basis}_feature"] for basis in BASES])
        return set(names[names.duplicated()])

    @property
    def counts(self) -> dict[str, int]:
        """``pairs, directions`` (distinct), ``clusters, images, layers``."""
        return {
            "pairs": len(self.pairs),
            "directions": self.pairs["distributed_feature"].nunique(),
            "clusters": len(np.unique(self.clusters)),
            "images": len(self.images),
            "layers": len(self.layers),
        }

    def grid(self, method: str, column: str, basis: str) -> Array:
        """Return a column of `fixed` as ``(pairs, images)``, NaN where there is no row."""
        rows = self.fixed[(self.fixed["method"] == method) & (self.fixed["representation"] == basis)]
        index = pd.MultiIndex.from_product([self.pairs["pair"], self.images])
        values = rows.set_index(["pair", "image"])[column].reindex(index).to_numpy(dtype=float)
        return values.reshape(len(self.pairs), len(self.images))

    def most_active(self, method: str) -> tuple[Array, Array] | None:
        """Return sizes of the most active local and distributed feature, ``(layers, images)`` each, or None."""
        rows = self.active[self.active["method"] == method]
        if set(rows["representation"]) != set(BASES):
            return None
        images = sorted(set(rows["image"]))
        wide = rows.set_index(["representation", "layer", "image"])["size"]
        index = [pd.MultiIndex.from_product([[basis], list(self.layers), images]) for basis in BASES]
        local, distributed = (
            wide.reindex(one).to_numpy(dtype=float).reshape(len(self.layers), len(images)) for one in index
        )
        return local, distributed

    def ratios(self, table: pd.DataFrame, method: str) -> dict[str, Array] | None:
        """Return the selectivities of each pair's features from the run's table, ``(pairs,)`` by basis, or None."""
        need(table, "selectivity", _NEEDS_RATIOS)
        rows = table[(table["method"] == method) & (table["selection"] == "fixed")]
        refuse_twice(rows, "selectivity", ["feature"])
        known = rows.set_index("feature")["selectivity"].astype(float)
        found: dict[str, Array] = {}
        for basis in BASES:
            found[basis] = np.asarray(self.pairs[f"{basis}_feature"].map(known), dtype=float)
        return found if any(np.isfinite(values).any() for values in found.values()) else None

    def by_pair(self) -> pd.DataFrame:
        """Return means over images, one row a method, pair and basis."""
        keys = ["method", "pair", "layer", "depth", "representation", "feature"]
        names = ["size", "drop", "within", "standardised", "norm", "error"]
        grouped = self.fixed.groupby(keys, observed=True, sort=False)
        means = grouped[names].mean().assign(n_images=grouped.size()).reset_index()
        return means.assign(shared=means["feature"].isin(self.shared))


def join(contributions: pd.DataFrame, features: pd.DataFrame, pairs: pd.DataFrame) -> Nullings:
    """Join the tables of a features run by their ids.

    Raises
    ------
    InputError
        If a table lacks a column, a key is there twice, an id is unknown, a pair lies in two layers, or a pair's
        feature was not nulled.
    """
    for frame, name in ((contributions, "contributions"), (features, "features"), (pairs, "pairs")):
        need(frame, name, _NEEDS[name])
    refuse_twice(features, "features", ["feature"])
    refuse_twice(pairs, "pairs", ["pair"])
    rows = contributions[contributions["method"].isin(METHODS)]
    methods = tuple(method for method in METHODS if (rows["method"] == method).any())
    if not methods:
        raise InputError(
            f"the table 'contributions' has no row of the methods {' or '.join(METHODS)}; a comparison needs nulled "
            f"features."
        )
    refuse_twice(rows, "contributions", _KEY)
    if len(pairs) < 2:
        raise InputError(f"a comparison of bases needs two pairs at least; the table 'pairs' has {len(pairs)}.")
    pairs = _placed(pairs, features)
    rows = rows.assign(
        size=rows["drop"].abs(),
        # Subtracting keeps what the dictionary does not account for, so there is no error to take off.
        within=(rows["drop"] - rows["residual"]).abs().where(rows["method"] == "reconstruct"),
        error=rows["residual"].abs(),
        standardised=rows["drop_standardised"].abs(),
    )
    fixed = _paired(rows[rows["selection"] == "fixed"], pairs, methods)
    place = features.set_index("feature")
    active = rows[rows["selection"] == "most_active"]
    refuse_unknown(active["feature"], place.index, "contributions", "features")
    active = active.assign(
        layer=active["feature"].map(place["layer"]), representation=active["feature"].map(place["representation"])
    )
    layers = pairs.groupby("layer")["depth"].first().sort_values(kind="stable")
    return Nullings(
        fixed=fixed,
        active=active[["method", "layer", "representation", "image", "size"]],
        pairs=pairs,
        clusters=clusters_of(list(pairs["local_feature"]), list(pairs["distributed_feature"])),
        layers={str(layer): float(depth) for layer, depth in layers.items()},
        images=sorted(set(fixed["image"])),
        methods=methods,
    )


def _placed(pairs: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """Add each pair's layer and depth, and put pairs into an order that does not depend on that of the rows."""
    place = features.set_index("feature")
    for basis in BASES:
        refuse_unknown(pairs[f"{basis}_feature"], place.index, "pairs", "features")
        strange = place.loc[pairs[f"{basis}_feature"], "representation"] != basis
        if strange.any():
            raise InputError(
                f"the table 'pairs' names '{strange.index[strange][0]}' as a {basis} feature; in 'features' it is "
                f"{place.loc[strange.index[strange][0], 'representation']}."
            )
    local, distributed = (pairs[f"{basis}_feature"].map(place["layer"]).to_numpy() for basis in BASES)
    apart = local != distributed
    if apart.any():
        raise InputError(
            f"the pair '{pairs['pair'].to_numpy()[apart][0]}' lies in two layers, {local[apart][0]} and "
            f"{distributed[apart][0]}; a pair is of one layer."
        )
    placed = pairs[_NEEDS["pairs"]].assign(layer=local, depth=pairs["local_feature"].map(place["depth"]).to_numpy())
    return placed.sort_values("pair", kind="stable").reset_index(drop=True)


def _paired(rows: pd.DataFrame, pairs: pd.DataFrame, methods: Iterable[str]) -> pd.DataFrame:
    """Return one row a method, pair, basis and image; a shared direction's rows stand in each of its pairs."""
    long = pairs.melt(["pair", "layer", "depth"], [f"{basis}_feature" for basis in BASES], "representation", "feature")
    long["representation"] = pd.Categorical(long["representation"].str.removesuffix("_feature"), BASES)
    found = long.merge(rows.drop(columns=["selection", "drop_standardised", "residual"]), on="feature", how="inner")
    held = set(found["representation"])
    if len(held) < len(BASES):
        there = f"those of one basis only ({held.pop()})" if held else "none of them"
        raise InputError(f"a comparison of bases needs nulled features of both, and 'contributions' has {there}.")
    nulled = set(zip(found["method"], found["feature"], strict=True))
    for method in methods:
        missing = next((name for name in long["feature"] if (method, name) not in nulled), None)
        if missing is not None:
            raise InputError(
                f"the table 'contributions' has no row of feature '{missing}', method {method}, selection fixed, "
                f"though it belongs to a pair; every feature of a pair is needed."
            )
    if not np.isfinite(found[["drop", "norm"]].to_numpy(dtype=float)).all():
        raise InputError("the table 'contributions' has a drop or norm that is no finite number among nulled features.")
    return found


def need(frame: pd.DataFrame, name: str, columns: Iterable[str]) -> None:
    """Refuse a table of a features run that lacks a column."""
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(
            f"the table '{name}' of the features run lacks the column '{missing[0]}'; it has "
            f"{', '.join(map(str, frame))}."
        )


def refuse_twice(frame: pd.DataFrame, name: str, key: list[str]) -> None:
    """Refuse a table in which a key stands twice."""
    twice = frame.duplicated(key)
    if twice.any():
        first = frame.loc[twice, key].iloc[0]
        said = ", ".join(f"{column} '{value}'" for column, value in first.items())
        raise InputError(f"the table '{name}' of the features run has {said} twice; it must be there once.")


def refuse_unknown(ids: pd.Series[str], known: Iterable[str], name: str, other: str) -> None:
    """Refuse ids that another table does not have."""
    strange = sorted(set(ids) - set(known))
    if strange:
        raise InputError(
            f"the table '{name}' names the feature '{strange[0]}', which the table '{other}' does not have."
        )
