"""A dictionary of a layer's directions: a basis like any other, with its record and its file.

In: atoms, and what encoding needs beside them.  Out: `Dictionary`, a `bases.Basis`.  Knows no network, no image and how
no dictionary was learned.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from featurecompute import adapters
from featurecompute.bases import Representation
from featurecompute.directions import encode_centres
from featurecompute.errors import DictionaryError
from featurecompute.files import hash_arrays, hash_json, read_arrays, write_arrays
from featurecompute.nmf import encode_nmf
from featurecompute.sae import encode_topk


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

        Codes are in the rows' units, along unit atoms. NMF, files: >= 0, each row's sparse code (`nmf.encode_nmf`).
        PCA: signed coordinates about the mean. SAE: >= 0, at most `active` above zero. k-means: >= 0, the projection on
        the nearest centre's direction, all others zero.

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
