"""Dictionaries learned from rows, or read, and measured.

In: rows of activations (n x channels), the study's table.  Out: `Dictionary`, a `bases.Basis`.  Knows no network and no
image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from featurecompute.tiled import Part, Tiles, factorise_tiles, survey

__all__ = [
    "Dictionary",
    "Stats",
    "compare_atoms",
    "fit_dictionary",
    "fit_tiled",
    "load_dictionary",
    "match_atoms",
    "refuse_tiles",
]

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
    method, rectify = _method(table, layer, signed or bool((rows < 0).any()))
    notes = []
    if rectify:
        share = float(rows.clamp_max(0).double().square().sum() / rows.double().square().sum())
        notes.append(_left_out(layer, share))
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
    stats, used = _measure(found, [[rows[places.to(rows.device)]] for places in (fitted, held)])
    notes += more + _notes(found, table, used)
    return replace(found, stats=replace(stats, stability=stability), warnings=tuple(notes))


def refuse_tiles(table: DictionaryTable) -> None:
    """Refuse tiles where all rows are needed at once.

    Raises
    ------
    DictionaryError
        If a tile is asked for, and not NMF of a layer's positions.
    """
    if table.tile and (table.method not in {"nmf", "semi_nmf"} or (table.scope, table.rows) != ("layer", "positions")):
        raise DictionaryError(
            f"[dictionary] tile is {table.tile}, but rows are read tile by tile only with method 'nmf' or 'semi_nmf', "
            "scope 'layer' and rows 'positions'; set tile to 0."
        )


def fit_tiled(
    tiles: Tiles,
    table: DictionaryTable,
    layer: str,
    *,
    signed: bool = False,
    seed: int | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Dictionary:
    """Learn a layer's dictionary by NMF as `fit_dictionary` does, from rows that need not fit in memory.

    Parameters
    ----------
    tiles
        Activations (n_i x channels), float32, which are gone through many times.
    table, layer, signed, seed, progress
        As of `fit_dictionary`.
    folder
        Where the codes of all rows lie meanwhile.

    Raises
    ------
    DictionaryError
        If rows, settings or the layer do not allow it.
    """
    refuse_tiles(table)
    found_rows = survey(tiles)
    _refuse_useless(layer, found_rows.finite, found_rows.busy > 0, found_rows.alike)
    seed = table.seed if seed is None else seed
    method, rectify = _method(table, layer, signed or found_rows.below > 0)
    notes = [_left_out(layer, found_rows.below / found_rows.energy)] if rectify else []
    places = _split(found_rows.count, seed)
    fitted, held = (torch.zeros(found_rows.count, dtype=torch.bool).index_fill_(0, part, True) for part in places)
    learn = Part(tiles, fitted, rectify)
    busy = survey(learn)
    if rectify:
        _refuse_useless(layer, True, busy.busy > 0, busy.alike)
    _refuse_few(layer, busy.count, busy.busy, table.rank)
    factors = [
        factorise_tiles(
            learn,
            table.rank,
            sparsity=table.sparsity,
            signed=method == "semi_nmf",
            seed=seed + i,
            folder=folder,
            progress=_share(progress, i, 1 + table.stability_seeds),
        )
        for i in range(1 + table.stability_seeds)
    ]
    parameters = {"penalty": factors[0].penalty} | ({"rectify": True} if rectify else {})
    found = Dictionary(layer, method, factors[0].atoms, parameters=parameters, seed=seed, scope=table.scope)
    stats, used = _measure(found, [Part(tiles, fitted), Part(tiles, held)])
    notes += _unsettled(layer, factors[0].converged) + _notes(found, table, used)
    stability = stability_of(found.atoms, [other.atoms for other in factors[1:]])
    return replace(found, stats=replace(stats, stability=stability), warnings=tuple(notes))


def _method(table: DictionaryTable, layer: str, signed: bool) -> tuple[str, bool]:
    """Return how to learn from a layer, `signed` if it has negative activations; and whether these are left out."""
    if table.method != "nmf" or not signed:
        return table.method, False
    if table.signed == "error":
        raise DictionaryError(
            f"layer '{layer}' has negative activations, which NMF cannot have; set [dictionary] signed to 'relu' "
            "(only the positive part is read) or 'semi_nmf' (atoms may be signed), choose method sae or pca, or a "
            "layer after its ReLU."
        )
    return ("nmf", True) if table.signed == "relu" else ("semi_nmf", False)


def _left_out(layer: str, share: float) -> str:
    return f"negative activations of layer '{layer}' are left out: {share:.1%} of its energy."


def _unsettled(layer: str, converged: bool) -> list[str]:
    return [] if converged else [f"NMF of layer '{layer}' had not converged when it was stopped."]


def _checked(rows: Tensor, layer: str) -> Tensor:
    """Return rows as float32; refuse rows that nothing can be learned from."""
    if rows.ndim != 2 or not rows.numel():
        raise DictionaryError(
            f"layer '{layer}' gives rows of the shape {tuple(rows.shape)}; it must be rows x channels."
        )
    rows = rows.detach().to(torch.float32)
    _refuse_useless(layer, bool(torch.isfinite(rows).all()), bool(rows.any()), bool((rows == rows[:1]).all()))
    return rows


def _refuse_useless(layer: str, finite: bool, busy: bool, alike: bool) -> None:
    """Refuse rows that nothing can be learned from."""
    if not finite:
        raise DictionaryError(f"layer '{layer}' has activations that are not finite; a dictionary cannot be learned.")
    if not busy:
        raise DictionaryError(
            f"every activation of layer '{layer}' is zero or left out; a dictionary cannot be learned."
        )
    if alike:
        raise DictionaryError(f"every row of layer '{layer}' is the same; a dictionary cannot be learned.")


def _refuse_few(layer: str, count: int, busy: int, rank: int) -> None:
    if rank > busy:
        raise DictionaryError(
            f"layer '{layer}' gives {count} rows to learn from, {busy} of them not zero: too few for rank {rank}."
        )


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
    _refuse_few(layer, len(rows), int((rows != 0).any(1).sum()), rank)
    if method in {"nmf", "semi_nmf"}:
        factors = factorise(
            rows, rank, sparsity=table.sparsity, signed=method == "semi_nmf", seed=seed, progress=progress
        )
        found = Dictionary(layer, method, factors.atoms, parameters={"penalty": factors.penalty}, seed=seed)
        return found, _unsettled(layer, factors.converged)
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


def _measure(found: Dictionary, parts: Sequence[Tiles]) -> tuple[Stats, int]:
    """Return a dictionary's stats, without stability, and the number of atoms in use.

    Parts are the rows learned from and those kept apart.
    """
    used = torch.zeros(found.size, dtype=torch.bool, device=found.atoms.device)
    zeros, count = 0.0, 0
    shares = []
    for part in parts:
        sums, rows = torch.zeros(found.atoms.shape[1], dtype=torch.float64, device=found.atoms.device), 0
        for tile in part:
            sums, rows = sums + tile.sum(0, dtype=torch.float64), rows + len(tile)
        mean = sums / rows
        left = energy = variance = 0.0
        for block in (block for tile in part for block in torch.split(tile, _BLOCK)):
            codes = found.encode(block)
            used |= (codes != 0).any(0)
            zeros += float((codes == 0).double().mean(1).sum())
            left += float((block - found.decode(codes)).double().square().sum())
            energy += float(block.double().square().sum())
            variance += float((block.double() - mean).square().sum())
        count += rows
        shares.append(
            (1 - left / variance if variance else float("nan"), 1 - left / energy if energy else float("nan"))
        )
    (fit_variance, fit_energy), (held_variance, held_energy) = shares
    alive = int(used.sum())
    return Stats(held_variance, fit_variance, held_energy, fit_energy, zeros / count, found.size - alive, None), alive


def _notes(found: Dictionary, table: DictionaryTable, used: int) -> list[str]:
    """Say what a reader of the dictionary should know."""
    notes = []
    channels = found.atoms.shape[1]
    if found.coding == "nonnegative" and found.size > channels and table.sparsity == 0:
        notes.append(
            f"rank {found.size} exceeds the {channels} channels of layer '{found.layer}' without a penalty on the "
            "codes: atoms are not identifiable; set [dictionary] sparsity above zero."
        )
    if used < found.size:
        notes.append(f"{found.size - used} of {found.size} atoms of layer '{found.layer}' are dead: no row uses them.")
    return notes
