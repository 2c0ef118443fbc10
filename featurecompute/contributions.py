"""What nulling a unit does to the decision: the drop of the target's logit, for neurons and directions alike.

In: a network split at a layer, a basis, and names of units.  Out: the rows of contributions.parquet.
Knows no study file, no run and no image file.

Two definitions of nulling. *subtract* takes a unit's term from the map, A - u_k v_k, and keeps what the dictionary does
not account for. *reconstruct* decodes the codes without the unit, and so also charges the dictionary for what it
leaves over; `residual` says how much that is. For neurons nothing is left over, and both are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from featurecompute.attributions import gradient_x_activation, integrated_gradients, sobol, target_logits
from featurecompute.bases import Basis
from featurecompute.errors import InputError
from featurecompute.manifest import CONTRIBUTIONS
from featurecompute.replay import Suffix
from featurecompute.terms import Terms, terms_of

Nulling: TypeAlias = Literal["subtract", "reconstruct"]
Method: TypeAlias = Literal["subtract", "reconstruct", "grad_x_act", "integrated_gradients", "sobol"]


def logit_sd(logits: Tensor) -> float:
    """Return the SD of a network's logits over images and classes (images x classes), by which drops are standardised.

    One number a network: take the logits of all images that contributions are computed on.
    """
    return float(logits.double().std(correction=0))


def null(
    suffix: Suffix,
    terms: Terms,
    which: Tensor,
    units: Tensor,
    targets: Tensor,
    *,
    method: Nulling = "subtract",
    batch: int = 32,
) -> Tensor:
    """Null one unit in one image, many times.

    Parameters
    ----------
    suffix, terms
        Network split at the layer, and its maps as terms.
    which, units
        Image and unit of each nulling (n).
    targets
        Class of each image (B).
    method
        subtract or reconstruct.
    batch
        Nullings at once: memory holds so many maps and what the suffix makes of them.

    Returns
    -------
    Tensor
        The target's logit after each nulling (n). Where the suffix is linear in the map's mean over positions it is
        computed from means, without running the network.
    """
    rest = method == "subtract"
    with torch.no_grad():
        if suffix.linear is not None:
            weights, constant = suffix.linear
            wanted = weights[targets]  # B x channels
            start = ((suffix.maps if rest else terms.kept).mean(2) * wanted).sum(1) + constant[targets]
            if terms.atoms is not None:
                wanted = wanted @ terms.atoms.T
            return start[which] - (wanted * terms.codes.mean(2))[which, units]
        found = [
            suffix.remove(terms.without(images, chosen, rest=rest)).gather(1, targets[images][:, None])[:, 0]
            for images, chosen in zip(which.split(batch), units.split(batch), strict=True)  # type: ignore[no-untyped-call]
        ]
        return torch.cat(found) if found else suffix.logits.new_zeros(0)


def keep_all(suffix: Suffix, terms: Terms, targets: Tensor, *, batch: int = 32) -> Tensor:
    """Return the target's logit with all units kept and what they do not account for left out (B)."""
    if terms.atoms is None:
        return suffix.logits.gather(1, targets[:, None])[:, 0]
    which = torch.arange(len(targets), device=suffix.maps.device)
    with torch.no_grad():
        parts = which.split(batch)  # type: ignore[no-untyped-call]
        return torch.cat([target_logits(suffix, terms.kept[part], part, targets) for part in parts])


def most_active(terms: Terms, scale: Tensor, pooling: Literal["mean", "max"] = "mean") -> Tensor:
    """Return the unit (B) whose pooled activation over `scale` (units) is largest in each image.

    A unit without scale (zero, or not finite: a dead one) is never the most active; ties go to the lower unit.
    """
    pooled = terms.codes.mean(2) if pooling == "mean" else terms.codes.amax(2)
    alive = torch.isfinite(scale) & (scale > 0)
    relative = torch.where(alive, pooled / torch.where(alive, scale, 1.0), -torch.inf)
    # argmax may give any of equal values; the first is asked for.
    order = torch.arange(terms.size, device=relative.device)
    return torch.where(relative == relative.amax(1, keepdim=True), order, terms.size).amin(1)


def measure(
    suffix: Suffix,
    basis: Basis,
    names: Mapping[int, str],
    *,
    images: Sequence[str],
    targets: Tensor | None = None,
    methods: Sequence[Method] = ("subtract", "reconstruct"),
    fixed: Sequence[int] | None = None,
    scale: Tensor | None = None,
    pooling: Literal["mean", "max"] = "mean",
    sd: float | None = None,
    steps: int = 20,
    designs: int = 32,
    seed: int = 1,
    batch: int = 32,
) -> pd.DataFrame:
    """Measure what units contribute to the target's logit in each image.

    Parameters
    ----------
    suffix
        Network split at the basis's layer.
    basis
        Neurons or a dictionary.
    names
        Unit to the id of its feature.
    images
        Id of each image the network was split with (B).
    targets
        Class of each image (B); None: the one that the network predicts.
    methods
        Nullings, and attributions: grad_x_act, integrated_gradients (`steps` points), sobol (`designs`, `seed`).
    fixed
        Units measured in every image; None: all that have a name.
    scale
        Divisor of each unit's pooled activation (units). If given, the most active unit of each image is measured too,
        by `pooling`; it needs a name.
    sd
        Divisor of `drop_standardised`, see `logit_sd`; None: that of these images' logits.
    batch
        Maps at once.

    Returns
    -------
    DataFrame
        Columns of `manifest.CONTRIBUTIONS`. drop = logit - logit_nulled; residual = logit - logit with all units kept;
        norm = L2 norm of A - nulled. For attributions drop is the score, logit_nulled is null, and norm is that of the
        unit's term. For Sobol, whose score is a share and not a logit, drop_standardised is null.

    Raises
    ------
    InputError
        If a unit has no name or does not exist, or images and targets are not as many.
    """
    count = suffix.maps.shape[0]
    device = suffix.maps.device
    targets = suffix.logits.argmax(1) if targets is None else targets.to(device).long()
    if len(images) != count or len(targets) != count:
        raise InputError(
            f"contributions need one id and one target for each of {count} images; there are {len(images)} ids and "
            f"{len(targets)} targets."
        )
    chosen = sorted(names) if fixed is None else list(fixed)
    terms = terms_of(suffix.maps, basis)
    top = None if scale is None else most_active(terms, scale.to(device), pooling)
    _check(chosen if top is None else [*chosen, *torch.unique(top).tolist()], names, basis)
    sd = logit_sd(suffix.logits) if sd is None else sd

    # What is asked for: each pair of an image and a unit once, though it may be fixed and the most active.
    which = torch.arange(count, device=device).repeat_interleave(len(chosen))
    units = torch.tensor(chosen, dtype=torch.long, device=device).repeat(count)
    selection = ["fixed"] * len(which)
    if top is not None:
        which, units = torch.cat([which, torch.arange(count, device=device)]), torch.cat([units, top])
        selection += ["most_active"] * count
    pairs, back = torch.unique(torch.stack([which, units]), dim=1, return_inverse=True)

    logit = suffix.logits.gather(1, targets[:, None])[:, 0]
    residual = logit - keep_all(suffix, terms, targets, batch=batch)
    nulled: dict[str, Tensor] = {}
    tables = []
    for method in methods:
        norms = terms.norms(rest=method != "reconstruct")
        if method == "subtract" or method == "reconstruct":
            same = terms.atoms is None and next(iter(nulled.values()), None)
            after = (
                same
                if isinstance(same, Tensor)
                else null(suffix, terms, pairs[0], pairs[1], targets, method=method, batch=batch)
            )
            nulled[method] = after
            drop = logit[pairs[0]] - after
        else:
            after = torch.full_like(logit[pairs[0]], torch.nan)
            drop = _score(method, suffix, terms, targets, pairs, steps, designs, seed, batch)
        values = {
            "logit": logit[which],
            "logit_nulled": after[back],
            "drop": drop[back],
            "residual": residual[which],
            "norm": norms[which, units],
        }
        table = pd.DataFrame({name: value.double().cpu().numpy() for name, value in values.items()})
        table["method"] = method
        table["selection"] = selection
        table["target"] = targets[which].cpu().numpy()
        table["feature"] = [names[unit] for unit in units.tolist()]
        table["image"] = [images[image] for image in which.tolist()]
        table["drop_standardised"] = np.nan if method == "sobol" or not sd > 0 else table["drop"] / sd
        tables.append(table[list(CONTRIBUTIONS.columns)])
    return pd.concat(tables, ignore_index=True)


def _score(
    method: str,
    suffix: Suffix,
    terms: Terms,
    targets: Tensor,
    pairs: Tensor,
    steps: int,
    designs: int,
    seed: int,
    batch: int,
) -> Tensor:
    if method == "grad_x_act":
        return gradient_x_activation(suffix, terms, targets, batch=batch)[pairs[0], pairs[1]]
    if method == "integrated_gradients":
        return integrated_gradients(suffix, terms, targets, steps=steps, batch=batch)[0][pairs[0], pairs[1]]
    wanted, place = torch.unique(pairs[1], return_inverse=True)
    scores = sobol(suffix, terms, targets, wanted.tolist(), designs=designs, seed=seed, batch=batch)
    return scores[pairs[0], place].float()


def _check(units: Sequence[int], names: Mapping[int, str], basis: Basis) -> None:
    for unit in units:
        if not 0 <= unit < basis.size:
            raise InputError(f"unit {unit} does not exist: the basis of layer '{basis.layer}' has {basis.size} units.")
        if unit not in names:
            raise InputError(
                f"unit {unit} of layer '{basis.layer}' is to be nulled but belongs to no feature; give it a name."
            )
