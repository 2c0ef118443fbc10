"""Comparisons of contributions: insertion and deletion curves, at equal removed norm, and by where an element is.

In: a network split at a layer and scores of units, or rows of contributions.  Out: tidy tables.
Knows no network's code, no run and no image file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from featurecompute.errors import InputError
from featurecompute.replay import Suffix
from featurecompute.terms import Terms

Array = np.ndarray


def curves(
    suffix: Suffix,
    terms: Terms,
    scores: Tensor,
    targets: Tensor,
    *,
    images: Sequence[str],
    points: int = 21,
    batch: int = 32,
) -> pd.DataFrame:
    """Null units one after another, the highest score first (deletion), and put them back so (insertion).

    Parameters
    ----------
    suffix, terms
        Network split at the layer, and its maps as terms. What the units do not account for is kept throughout.
    scores
        Contribution of each unit to the target (B x units); ties go to the lower unit.
    targets
        Class of each image (B).
    images
        Id of each image.
    points
        At most so many numbers of units, evenly spaced from none to all.

    Returns
    -------
    DataFrame
        One row an image, curve and point: ``image, curve, units, share`` (of units nulled, or inserted), ``norm_share``
        (squared L2 norm of the sum of these units' terms, as a share of that of all units), ``logit, probability`` of
        the target.
    """
    size = terms.size
    order = torch.argsort(scores, dim=1, descending=True, stable=True)
    ranks = torch.argsort(order, dim=1)
    steps = np.unique(np.linspace(0, size, min(points, size + 1)).round().astype(int))
    plan = [(image, curve, int(step)) for image in range(len(targets)) for curve in (0, 1) for step in steps]
    device = suffix.maps.device
    found: list[Array] = []
    with torch.no_grad():
        for start in range(0, len(plan), batch):
            which, curve, step = torch.tensor(plan[start : start + batch], device=device).T
            first = (ranks[which] < step[:, None]).float()  # the units that have been nulled, or inserted
            masks = torch.where(curve[:, None] == 1, first, 1 - first)
            maps = terms.masked(which, masks, rest=True)
            logits = suffix(maps, which)
            nothing = terms.masked(which, torch.zeros_like(masks), rest=True)
            everything = terms.maps[which]
            moved = torch.where(curve[:, None, None] == 1, maps - nothing, everything - maps)
            total = (everything - nothing).double().square().sum((1, 2))
            share = moved.double().square().sum((1, 2)) / total.clamp_min(torch.finfo(torch.float64).tiny)
            chosen = targets[which][:, None]
            values = [share, logits.gather(1, chosen)[:, 0], logits.softmax(1).gather(1, chosen)[:, 0]]
            found.append(torch.stack([value.double() for value in values], 1).cpu().numpy())
    rows = np.concatenate(found)
    where = np.array(plan)
    return pd.DataFrame(
        {
            "image": np.array(list(images), dtype=object)[where[:, 0]],
            "curve": np.array(["deletion", "insertion"], dtype=object)[where[:, 1]],
            "units": where[:, 2],
            "share": where[:, 2] / size,
            "norm_share": rows[:, 0],
            "logit": rows[:, 1],
            "probability": rows[:, 2],
        }
    )


def areas(table: pd.DataFrame) -> pd.DataFrame:
    """Return the area under each image's curves by the trapezoid rule.

    Returns
    -------
    DataFrame
        ``image, curve, axis`` (share, norm_share), ``quantity`` (logit, probability), ``area``.
    """
    rows = []
    for (image, curve), part in table.groupby(["image", "curve"], sort=False):
        for axis in ("share", "norm_share"):
            for quantity in ("logit", "probability"):
                y, x = part[quantity].to_numpy(), part[axis].to_numpy()
                area = float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())
                rows.append((image, curve, axis, quantity, area))
    return pd.DataFrame(rows, columns=["image", "curve", "axis", "quantity", "area"])


def mean_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over images at each point, the number of images, and the standard error of the means."""
    keys = ["curve", "units", "share"]
    grouped = table.groupby(keys, sort=True)[["norm_share", "logit", "probability"]]
    found = grouped.mean()
    found["n_images"] = grouped.size()
    errors = grouped.sem()
    return found.join(errors.add_suffix("_se")).reset_index()


def norm_matched(
    contributions: pd.DataFrame,
    *,
    way: Literal["pairs", "regression"] = "pairs",
    caliper: float = 0.2,
    replicates: int = 1000,
    probability: float = 0.95,
    seed: int = 1,
) -> pd.DataFrame:
    """Compare |drop| of directions with that of neurons at equal removed norm, layer by layer.

    |drop| follows the norm that is removed, so a basis whose units are larger seems to matter more.

    Parameters
    ----------
    contributions
        Rows of contributions with ``layer`` and ``representation`` (local, distributed) of their features.
    way
        pairs: every direction is paired with the neuron of the same image whose log norm is nearest (a neuron may
        serve several times; ties go to the first), if within the caliper; the estimate is the mean difference of
        |drop|. regression: ``log |drop| = a + b log norm + c [distributed]``, least squares; the estimate is c.
    caliper
        Largest difference of the natural logarithms of paired norms.
    replicates, probability, seed
        Bootstrap over images, percentile interval.

    Returns
    -------
    DataFrame
        ``layer, method, selection, way, estimate, lower, upper, ratio`` (of the mean |drop| of matched directions to
        neurons, or exp c), ``n_images, n`` (pairs, or rows), ``left_out`` (of pairs, directions without
        a norm above zero or a partner; of the regression, rows without a norm or |drop| above zero).
    """
    rows = []
    for (layer, method, selection), part in contributions.groupby(["layer", "method", "selection"], sort=False):
        if not {"local", "distributed"} <= set(part["representation"]):
            continue
        part = part.assign(change=part["drop"].abs())
        sums, n, left_out = _pairs(part, caliper) if way == "pairs" else _moments(part)
        estimate, ratio = _estimate(sums.sum(0), way)
        generator = np.random.default_rng(seed)
        images = len(sums)
        bootstrap = np.empty(replicates)
        for replicate in range(replicates):
            weights = np.bincount(generator.integers(images, size=images), minlength=images) if images else np.zeros(0)
            bootstrap[replicate] = _estimate(np.tensordot(weights, sums, 1), way)[0]
        bootstrap = bootstrap[np.isfinite(bootstrap)]
        tail = (1 - probability) / 2
        lower, upper = np.quantile(bootstrap, [tail, 1 - tail]) if len(bootstrap) else (np.nan, np.nan)
        rows.append((layer, method, selection, way, estimate, lower, upper, ratio, images, n, left_out))
    names = ["layer", "method", "selection", "way", "estimate", "lower", "upper", "ratio", "n_images", "n", "left_out"]
    return pd.DataFrame(rows, columns=names)


def _pairs(part: pd.DataFrame, caliper: float) -> tuple[Array, int, int]:
    """Return, for each image, the number of pairs and the sums of |drop| of directions and neurons (images x 3)."""
    removed = part["norm"] > 0
    sums, alone = [], int((~removed & (part["representation"] == "distributed")).sum())
    part = part[removed]
    for _, rows in part.groupby("image", sort=True):
        local = rows[rows["representation"] == "local"].sort_values(["norm", "feature"])
        distributed = rows[rows["representation"] == "distributed"]
        if local.empty or distributed.empty:
            alone += len(distributed)
            continue
        apart = np.abs(np.log(distributed["norm"].to_numpy())[:, None] - np.log(local["norm"].to_numpy()))
        partner = apart.argmin(1)
        near = apart.min(1) <= caliper
        alone += int((~near).sum())
        if near.any():
            changes = distributed["change"].to_numpy()[near], local["change"].to_numpy()[partner[near]]
            sums.append([near.sum(), changes[0].sum(), changes[1].sum()])
    found = np.array(sums, dtype=float).reshape(-1, 3)
    return found, int(found[:, 0].sum()), alone


def _moments(part: pd.DataFrame) -> tuple[Array, int, int]:
    """Return, for each image, the moments of a least-squares fit: X'X with y as its last column (images x 4 x 4)."""
    used = part[(part["norm"] > 0) & (part["change"] > 0)]
    sums = []
    for _, rows in used.groupby("image", sort=True):
        columns = [
            np.ones(len(rows)),
            np.log(rows["norm"].to_numpy()),
            (rows["representation"] == "distributed").to_numpy(dtype=float),
            np.log(rows["change"].to_numpy()),
        ]
        matrix = np.stack(columns, 1)
        sums.append(matrix.T @ matrix)
    return np.array(sums, dtype=float).reshape(-1, 4, 4), len(used), len(part) - len(used)


def _estimate(sums: Array, way: str) -> tuple[float, float]:
    """Return the estimate and the ratio from sums over images."""
    if way == "pairs":
        count, distributed, local = (float(value) for value in sums)
        if not count:
            return np.nan, np.nan
        return (distributed - local) / count, distributed / local if local else np.nan
    if np.linalg.matrix_rank(sums[:3, :3]) < 3:
        return np.nan, np.nan
    change = float(np.linalg.solve(sums[:3, :3], sums[:3, 3])[2])
    return change, float(np.exp(change))


def selectivity(contributions: pd.DataFrame, presence: pd.DataFrame, elements: Mapping[str, str]) -> pd.DataFrame:
    """Compare the drop where a feature's element or class is present with the change where it is absent.

    Parameters
    ----------
    contributions
        Rows of contributions.
    presence
        Images (index: their ids) x elements or classes (columns), true where it is present.
    elements
        Feature to its element; features without one are left out.

    Returns
    -------
    DataFrame
        ``feature, element, method, selection, n_present, n_absent, drop_present`` (mean drop where present),
        ``change_absent`` (mean of the drop's size where absent), ``selectivity`` (their ratio; infinite where nothing
        changes in the absence of the element, null where there is nothing to divide).

    Raises
    ------
    InputError
        If an element or an image is not in `presence`.
    """
    strange = sorted(set(elements.values()) - set(presence.columns))
    rows = contributions[contributions["feature"].isin(list(elements))]
    missing = sorted(set(rows["image"]) - set(presence.index))
    if strange or missing:
        what = f"element '{strange[0]}'" if strange else f"image '{missing[0]}'"
        raise InputError(f"the presence of elements says nothing of {what}.")
    found = []
    for (feature, method, selection), part in rows.groupby(["feature", "method", "selection"], sort=False):
        element = elements[str(feature)]
        there = presence[element].reindex(part["image"]).to_numpy(dtype=bool)
        drop = part["drop"].to_numpy()
        present = float(drop[there].mean()) if there.any() else np.nan
        absent = float(np.abs(drop[~there]).mean()) if not there.all() else np.nan
        ratio = present / absent if absent else (np.inf if present > 0 else np.nan)
        found.append((feature, element, method, selection, there.sum(), (~there).sum(), present, absent, ratio))
    names = [
        "feature",
        "element",
        "method",
        "selection",
        "n_present",
        "n_absent",
        "drop_present",
        "change_absent",
        "selectivity",
    ]
    return pd.DataFrame(found, columns=names)
