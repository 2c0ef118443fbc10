"""Dictionaries learned from rows, or read, and measured.

In: rows of activations (n x channels), the study's table.  Out: `Dictionary`, a `bases.Basis`.  Knows no network and no
image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from featurecompute import adapters
from featurecompute.comparison import compare_atoms, match_atoms, stability_of
from featurecompute.dictionary import Dictionary, Stats, load_dictionary
from featurecompute.directions import cluster_centres, principal_components
from featurecompute.errors import DictionaryError
from featurecompute.nmf import factorise, unit
from featurecompute.sae import train_sae
from featurecompute.study import DictionaryTable

__all__ = ["Dictionary", "Stats", "compare_atoms", "fit_dictionary", "load_dictionary", "match_atoms"]

Progress: TypeAlias = Callable[[int, int], None]

# Rows kept apart to measure the reconstruction on, as a share; none where there are too few to spare.
HELD_OUT, _SPARE = 0.1, 100
_BLOCK = 65_536


def fit_dictionary(
    rows: Tensor,
    table: DictionaryTable,
    layer: str,
    *,
    signed: bool = False,
    base: Path = Path(),
    seed: int | None = None,
    progress: Progress | None = None,
) -> Dictionary:
    """Learn a layer's dictionary from rows, or read it, and measure it.

    Parameters
    ----------
    rows
        Activations (n x channels), on any device.
    table
        The study's settings.
    layer
        Name of the layer.
    signed
        Whether the layer's activations can be negative, whatever these rows are.
    base
        Folder that the table's path is from.
    seed
        Instead of the table's.
    progress
        Called with what is done and what there is to do, over all seeds.

    Raises
    ------
    DictionaryError
        If rows, settings or the layer do not allow it.
    """
    rows = _checked(rows, layer)
    seed = table.seed if seed is None else seed
    method, rectify, notes = table.method, False, []
    if method == "nmf" and (signed or bool((rows < 0).any())):
        if table.signed == "error":
            raise DictionaryError(
                f"layer '{layer}' has negative activations, which NMF cannot have; set [dictionary] signed to 'relu' "
                "(only the positive part is read) or 'semi_nmf' (atoms may be signed), choose method sae or pca, or a "
                "layer after its ReLU."
            )
        rectify, method = table.signed == "relu", "nmf" if table.signed == "relu" else "semi_nmf"
        if rectify:
            share = float(rows.clamp_max(0).double().square().sum() / rows.double().square().sum())
            notes.append(f"negative activations of layer '{layer}' are left out: {share:.1%} of its energy.")
    read = _checked(rows.clamp_min(0), layer) if rectify else rows
    fitted, held = _split(len(rows), seed)
    learn = read[fitted.to(rows.device)]
    seeds = table.stability_seeds if method in {"nmf", "semi_nmf", "sae", "kmeans"} else 0
    found, more = _learn(learn, table, method, layer, base, seed, _share(progress, 0, 1 + seeds))
    found = replace(found, parameters=found.parameters | ({"rectify": True} if rectify else {}), scope=table.scope)
    others = [
        _learn(learn, table, method, layer, base, seed + i, _share(progress, i, 1 + seeds))[0].atoms
        for i in range(1, seeds + 1)
    ]
    # The same rows give the same components whatever the seed.
    stability = 1.0 if method == "pca" and table.stability_seeds else stability_of(found.atoms, others)
    stats, used = _measure(found, rows, fitted, held)
    notes += more + _notes(found, table, rows, used)
    return replace(found, stats=replace(stats, stability=stability), warnings=tuple(notes))


def _checked(rows: Tensor, layer: str) -> Tensor:
    """Return rows as float32; refuse rows that nothing can be learned from."""
    if rows.ndim != 2 or not rows.numel():
        raise DictionaryError(
            f"layer '{layer}' gives rows of the shape {tuple(rows.shape)}; it must be rows x channels."
        )
    rows = rows.detach().to(torch.float32)
    if not bool(torch.isfinite(rows).all()):
        raise DictionaryError(f"layer '{layer}' has activations that are not finite; a dictionary cannot be learned.")
    if not bool(rows.any()):
        raise DictionaryError(
            f"every activation of layer '{layer}' is zero or left out; a dictionary cannot be learned."
        )
    if bool((rows == rows[:1]).all()):
        raise DictionaryError(f"every row of layer '{layer}' is the same; a dictionary cannot be learned.")
    return rows


def _split(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the places of rows to learn from, and of rows kept apart; all in both where there are few."""
    everything = torch.arange(count)
    if count < _SPARE:
        return everything, everything
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    apart = int(HELD_OUT * count)
    return order[apart:].sort().values, order[:apart].sort().values


def _share(progress: Progress | None, part: int, parts: int) -> Progress | None:
    """Return a callback that tells `progress` how far one part of several is."""
    if progress is None:
        return None
    return lambda done, of: progress(1000 * part + 1000 * done // of, 1000 * parts)


def _learn(
    rows: Tensor, table: DictionaryTable, method: str, layer: str, base: Path, seed: int, progress: Progress | None
) -> tuple[Dictionary, list[str]]:
    """Learn or read one dictionary; return it unmeasured, with warnings."""
    if method in {"file", "object"}:
        return _foreign(rows, table, method, layer, base)
    rank = table.rank
    busy = int((rows != 0).any(1).sum())
    if rank > busy:
        raise DictionaryError(
            f"layer '{layer}' gives {len(rows)} rows to learn from, {busy} of them not zero: too few for rank {rank}."
        )
    if method in {"nmf", "semi_nmf"}:
        factors = factorise(
            rows, rank, sparsity=table.sparsity, signed=method == "semi_nmf", seed=seed, progress=progress
        )
        notes = [] if factors.converged else [f"NMF of layer '{layer}' had not converged when it was stopped."]
        return Dictionary(layer, method, factors.atoms, parameters={"penalty": factors.penalty}, seed=seed), notes
    if method == "sae":
        model = train_sae(rows, rank, table.active, table.steps, seed=seed, progress=progress)
        state = {"encoder": model.encoder, "bias": model.bias}
        parameters: dict[str, Any] = {"active": table.active}
        return Dictionary(layer, method, model.atoms, model.offset, "topk", parameters, state, seed), []
    if method == "pca":
        atoms, mean = principal_components(rows, rank)
        return Dictionary(layer, method, atoms, mean, "linear"), []
    atoms, norms = cluster_centres(rows, rank, seed)
    return Dictionary(layer, method, atoms, None, "centre", {}, {"norms": norms}, seed), []


def _foreign(rows: Tensor, table: DictionaryTable, method: str, layer: str, base: Path) -> tuple[Dictionary, list[str]]:
    """Read a dictionary that was learned elsewhere.

    Where only atoms are known, a row's code is the sparse one of `nmf.encode_nmf`, with the table's sparsity.
    """
    channels = rows.shape[1]
    if not table.path:
        raise DictionaryError(f"[dictionary] method '{method}' needs a path.")
    if method == "file":
        found = adapters.read_matrix(base / table.path, layer, channels)
    else:
        found = adapters.open_object(table.path, layer, rows, base)
    parameters: dict[str, Any] = {"path": table.path} if method == "object" else {}
    offset = None if found.offset is None else found.offset.to(rows)
    if found.encode is not None:
        notes = _beside(found.encode, rows, layer)
        atoms = found.atoms.to(rows)
        return Dictionary(layer, method, atoms, offset, "foreign", parameters, foreign=found.encode), notes
    norm = float(rows.norm(dim=1).mean(dtype=torch.float64))
    parameters["penalty"] = table.sparsity * norm
    return Dictionary(layer, method, unit(found.atoms.to(rows)), offset, "nonnegative", parameters), []


def _beside(encode: Callable[[Tensor], Tensor], rows: Tensor, layer: str) -> list[str]:
    """Compare an object's codes of rows alone with their codes among others; a warning if they differ."""
    some = rows[:256]
    together, apart = encode(some), torch.cat([encode(part) for part in torch.split(some, 100)])
    difference = float((together - apart).norm() / together.norm().clamp_min(1e-30))
    if difference <= 1e-3:
        return []
    return [
        f"codes of the object for layer '{layer}' depend on the rows beside them, or are drawn anew each time "
        f"(they differ by {difference:.1%}): results depend on the batch."
    ]


def _measure(found: Dictionary, rows: Tensor, fitted: Tensor, held: Tensor) -> tuple[Stats, int]:
    """Return a dictionary's stats, without stability, and the number of atoms in use."""
    used = torch.zeros(found.size, dtype=torch.bool, device=rows.device)
    zeros = 0.0
    shares = []
    for places in (fitted, held):
        part = rows[places.to(rows.device)]
        mean = part.mean(0, dtype=torch.float64)
        left = energy = variance = 0.0
        for block in torch.split(part, _BLOCK):
            codes = found.encode(block)
            used |= (codes != 0).any(0)
            zeros += float((codes == 0).double().mean(1).sum())
            left += float((block - found.decode(codes)).double().square().sum())
            energy += float(block.double().square().sum())
            variance += float((block.double() - mean).square().sum())
        shares.append(
            (1 - left / variance if variance else float("nan"), 1 - left / energy if energy else float("nan"))
        )
    (fit_variance, fit_energy), (held_variance, held_energy) = shares
    count = len(fitted) + len(held)
    alive = int(used.sum())
    return Stats(held_variance, fit_variance, held_energy, fit_energy, zeros / count, found.size - alive, None), alive


def _notes(found: Dictionary, table: DictionaryTable, rows: Tensor, used: int) -> list[str]:
    """Say what a reader of the dictionary should know."""
    notes = []
    channels = rows.shape[1]
    if found.coding == "nonnegative" and found.size > channels and table.sparsity == 0:
        notes.append(
            f"rank {found.size} exceeds the {channels} channels of layer '{found.layer}' without a penalty on the "
            "codes: atoms are not identifiable; set [dictionary] sparsity above zero."
        )
    if used < found.size:
        notes.append(f"{found.size - used} of {found.size} atoms of layer '{found.layer}' are dead: no row uses them.")
    return notes
