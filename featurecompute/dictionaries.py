"""Dictionaries of a layer's directions: learned or read, and then a basis like any other.

In: rows of activations (n x channels), the study's table.  Out: `Dictionary`, a `bases.Basis`, with its record and file.
Knows no network and no image.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from featurecompute import adapters
from featurecompute.bases import Representation
from featurecompute.comparison import stability_of
from featurecompute.directions import cluster_centres, encode_centres, principal_components
from featurecompute.errors import DictionaryError
from featurecompute.files import hash_arrays, hash_json, read_arrays, write_arrays
from featurecompute.nmf import encode_nmf, factorise, unit
from featurecompute.sae import encode_topk, train_sae
from featurecompute.study import DictionaryTable

Progress: TypeAlias = Callable[[int, int], None]

# Rows kept apart to measure the reconstruction on, as a share; none where there are too few to spare.
HELD_OUT, _SPARE = 0.1, 100
_BLOCK = 65_536


@dataclass(frozen=True)
class Stats:
    """How good a dictionary is.

    Parameters
    ----------
    reconstruction, reconstruction_fitted
        1 − ‖A − Â‖² / ‖A − mean‖², share of variance explained, of rows kept apart (or all, where there are too few)
        and of rows learned from.
    energy, energy_fitted
        1 − ‖A − Â‖² / ‖A‖² of the same.
    sparsity
        Mean share of a row's codes that are zero.
    dead
        Atoms that no row uses.
    stability
        Mean cosine of best-matched atoms with those of further seeds; None where there are none.
    """

    reconstruction: float
    reconstruction_fitted: float
    energy: float
    energy_fitted: float
    sparsity: float
    dead: int
    stability: float | None


@dataclass(frozen=True)
class Dictionary:
    """Directions of a layer; codes of a row do not depend on the rows beside it.

    Parameters
    ----------
    layer, method, scope
        Where it belongs, what learned it, and whether from the layer or a unit's images.
    atoms
        Directions (k x C), float32, unit rows but for those of an object, which keeps its own.
    offset
        What no code gives (C,), or None for zero.
    coding
        nonnegative (the sparse code of `nmf.encode_nmf`), linear, topk, centre, or foreign (the object's own).
    parameters
        What else encoding needs, as numbers and text: penalty, active, rectify, path.
    state
        The same as tensors: encoder and bias of an autoencoder, norms of centres.
    seed
        Seed, or None where nothing was drawn.
    stats
        How good it is.
    warnings
        What a reader should know, as sentences.
    foreign
        The object's encoding.
    """

    layer: str
    method: str
    atoms: Tensor = field(repr=False)
    offset: Tensor | None = field(repr=False, default=None)
    coding: str = "nonnegative"
    parameters: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict, repr=False)
    seed: int | None = None
    scope: str = "layer"
    stats: Stats | None = None
    warnings: tuple[str, ...] = ()
    foreign: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)

    representation: Representation = "distributed"

    @property
    def size(self) -> int:
        """Number of atoms k."""
        return len(self.atoms)

    @property
    def sha256(self) -> str:
        """Hash of the atoms, the offset, and all that encoding depends on; not of where it lies or how good it is."""
        arrays = [self.state[name].cpu().numpy() for name in sorted(self.state)]
        offset = [] if self.offset is None else [self.offset.cpu().numpy()]
        tensors = hash_arrays(self.atoms.cpu().numpy(), *offset, *arrays)
        return hash_json([self.method, self.coding, self.parameters, sorted(self.state), tensors])

    @torch.no_grad()
    def encode(self, rows: Tensor) -> Tensor:
        """Return codes (n x k) of rows (n x C).

        Codes are in the rows' units, along unit atoms. NMF, files: >= 0, each row's sparse code (`nmf.encode_nmf`). PCA:
        signed coordinates about the mean. SAE: >= 0, at most `active` above zero. k-means: >= 0, the projection on the
        nearest centre's direction, all others zero.

        Raises
        ------
        DictionaryError
            If rows have another width.
        """
        rows = rows.to(torch.float32)
        if rows.ndim != 2 or rows.shape[1] != self.atoms.shape[1]:
            raise DictionaryError(
                f"the dictionary of layer '{self.layer}' reads rows of {self.atoms.shape[1]} channels, "
                f"not the shape {tuple(rows.shape)}."
            )
        atoms, state = self.atoms.to(rows), {name: value.to(rows) for name, value in self.state.items()}
        offset = None if self.offset is None else self.offset.to(rows)
        if self.parameters.get("rectify"):
            rows = rows.clamp_min(0)
        if self.coding == "foreign":
            if self.foreign is None:
                raise DictionaryError(
                    f"the dictionary of layer '{self.layer}' was read without the object that encodes for it."
                )
            return self.foreign(rows)
        if self.coding == "topk":
            centre = torch.zeros_like(rows[:1]) if offset is None else offset
            return encode_topk(rows, centre, state["encoder"], state["bias"], int(self.parameters["active"]))
        if self.coding == "centre":
            return encode_centres(rows, atoms, state["norms"])
        rows = rows if offset is None else rows - offset
        if self.coding == "linear":
            return rows @ atoms.T
        return encode_nmf(rows, atoms, float(self.parameters["penalty"]))

    def decode(self, codes: Tensor) -> Tensor:
        """Return the rows (n x C) that codes (n x k) stand for: codes times atoms, plus the offset."""
        rows = codes @ self.atoms.to(codes)
        return rows if self.offset is None else rows + self.offset.to(codes)

    def to(self, device: torch.device | str) -> Dictionary:
        """Return it on another device."""
        return replace(
            self,
            atoms=self.atoms.to(device),
            offset=None if self.offset is None else self.offset.to(device),
            state={name: value.to(device) for name, value in self.state.items()},
        )

    def record(self) -> dict[str, Any]:
        """Return what run.json says of it."""
        return {
            "layer": self.layer,
            "method": self.method,
            "rank": self.size,
            "scope": self.scope,
            "seed": self.seed,
            "sha256": self.sha256,
            "coding": self.coding,
            **{name: getattr(self.stats, name, None) for name in Stats.__dataclass_fields__},
            "parameters": self.parameters,
            "warnings": list(self.warnings),
        }

    def save(self, path: Path) -> Path:
        """Write it as safetensors; equal dictionaries make equal bytes."""
        arrays = {"atoms": self.atoms} | {f"state.{name}": value for name, value in self.state.items()}
        if self.offset is not None:
            arrays["offset"] = self.offset
        names = ("layer", "method", "coding", "parameters", "seed", "scope", "warnings")
        about = {name: getattr(self, name) for name in names}
        about["stats"] = None if self.stats is None else asdict(self.stats)
        write_arrays(
            path,
            {name: value.cpu().numpy() for name, value in arrays.items()},
            {"dictionary": json.dumps(about, sort_keys=True)},
        )
        return path


def load_dictionary(path: Path, base: Path = Path(), rows: Tensor | None = None) -> Dictionary:
    """Read what `Dictionary.save` wrote.

    Parameters
    ----------
    path
        File.
    base, rows
        For an object: the study file's folder, and a few rows of the layer, with which it is opened again. Without
        rows its atoms are read and it cannot encode.

    Raises
    ------
    DictionaryError
        If it is damaged or no dictionary, or an object is no longer the one that it was.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["dictionary"])
        arrays = {name: torch.from_numpy(value) for name, value in read_arrays(path).items()}
        stats = about.pop("stats")
        about["warnings"] = tuple(about["warnings"])
        found = Dictionary(
            **about,
            stats=None if stats is None else Stats(**stats),
            atoms=arrays.pop("atoms"),
            offset=arrays.pop("offset", None),
            state={name.removeprefix("state."): value for name, value in arrays.items()},
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DictionaryError(f"{path} cannot be read as a dictionary: {error}.") from error
    if found.coding != "foreign" or rows is None:
        return found
    spec = found.parameters["path"]
    opened = adapters.open_object(spec, found.layer, rows.to(torch.float32), base)
    if opened.atoms.shape != found.atoms.shape or not torch.allclose(opened.atoms.cpu(), found.atoms, atol=1e-5):
        raise DictionaryError(f"'{spec}' no longer gives the dictionary of layer '{found.layer}' that {path} holds.")
    return replace(found, foreign=opened.encode)


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
                f"layer '{layer}' has negative activations, which NMF cannot have; set [dictionary] signed to 'relu' (only "
                "the positive part is read) or 'semi_nmf' (atoms may be signed), choose method sae or pca, or a layer "
                "after its ReLU."
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
            f"rank {found.size} exceeds the {channels} channels of layer '{found.layer}' without a penalty on the codes: "
            "atoms are not identifiable; set [dictionary] sparsity above zero."
        )
    if used < found.size:
        notes.append(f"{found.size - used} of {found.size} atoms of layer '{found.layer}' are dead: no row uses them.")
    return notes
