"""Dictionaries that others have learned: matrices in files, and objects of other libraries.

In: a path or ``module:function``.  Out: `Foreign`: atoms, an offset, and how rows are encoded where the object says so.
Knows no method of learning.

Understood are arrays (k x d), scikit-learn's ``components_`` with ``transform``, Overcomplete's ``get_dictionary()``
with ``encode`` (codes, or a tuple that ends in them) and ``decode``, SAELens' ``W_dec`` with ``encode`` and ``decode``.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featurecompute.errors import DictionaryError, FeaturecomputeError, nearest
from featurecompute.files import read_arrays

# A decoder's rows may differ by this share of their norm from those of a linear one.
LINEAR = 1e-3


@dataclass(frozen=True)
class Foreign:
    """A dictionary that was learned elsewhere.

    Parameters
    ----------
    atoms
        Directions (k x d), as they are.
    offset
        What no code gives (d,), or None for zero.
    encode
        Rows (n x d) to codes (n x k); None where only atoms are known.
    fitted
        Whether it was fitted here, to the rows that were handed in.
    """

    atoms: Tensor
    offset: Tensor | None = None
    encode: Callable[[Tensor], Tensor] | None = None
    fitted: bool = False


def read_matrix(path: Path, layer: str, channels: int) -> Foreign:
    """Read a layer's atoms: a ``.npy`` matrix, or, from safetensors, the matrix of the layer's name.

    A vector ``LAYER.offset`` in the safetensors file is the offset.

    Raises
    ------
    DictionaryError
        If it cannot be read, has no such layer, or another number of channels.
    """
    offset = None
    if path.suffix == ".npy":
        try:
            matrix = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DictionaryError(f"the dictionary {path} cannot be read: {error}.") from error
    else:
        try:
            arrays = read_arrays(path)
        except FeaturecomputeError as error:
            raise DictionaryError(f"the dictionary {error}") from error
        if layer not in arrays:
            known = ", ".join(sorted(arrays)) or "none"
            raise DictionaryError(
                f"the dictionary {path} has no matrix for layer '{layer}'{nearest(layer, arrays)}; it has {known}."
            )
        matrix, vector = arrays[layer], arrays.get(f"{layer}.offset")
        offset = None if vector is None else _tensor(vector, f"{path}, offset of layer '{layer}'")
    atoms = check_atoms(_tensor(matrix, str(path)), layer, channels)
    if offset is not None and offset.shape != (channels,):
        raise DictionaryError(
            f"the dictionary {path} has an offset of shape {tuple(offset.shape)} for layer '{layer}', "
            f"which has {channels} channels."
        )
    return Foreign(atoms, offset)


def check_atoms(atoms: Tensor, layer: str, channels: int) -> Tensor:
    """Refuse atoms that are no finite matrix of the layer's width."""
    if atoms.ndim != 2 or atoms.shape[1] != channels or not len(atoms):
        raise DictionaryError(
            f"the dictionary of layer '{layer}' has the shape {tuple(atoms.shape)}; "
            f"it must be rank x {channels}, the layer's channels."
        )
    if not bool(torch.isfinite(atoms).all()):
        raise DictionaryError(f"the dictionary of layer '{layer}' has entries that are not finite.")
    return atoms


def open_object(spec: str, layer: str, rows: Tensor, base: Path) -> Foreign:
    """Call ``module:function`` and understand what it returns.

    Parameters
    ----------
    spec
        The module is looked for in `base` too. The function is called with the layer's name if it takes an argument.
    rows
        Rows (n x d): what an object is fitted to that has not been, and by which its decoder is checked.

    Raises
    ------
    DictionaryError
        If it cannot be imported or called, or what it returns is not understood.
    """
    module, _, name = spec.partition(":")
    if not module or not name:
        raise DictionaryError(f"[dictionary] path is '{spec}'; for an object it must be module:function.")
    try:
        with _importable(base):
            function = getattr(importlib.import_module(module), name)
            found = function(layer) if inspect.signature(function).parameters else function()
    except FeaturecomputeError:
        raise
    except Exception as error:
        raise DictionaryError(f"the dictionary '{spec}' cannot be made: {type(error).__name__}: {error}.") from error
    return understand(found, layer, rows, spec)


def understand(found: Any, layer: str, rows: Tensor, name: str = "object") -> Foreign:
    """Return the atoms, offset and encoding of an array or an object of another library.

    Raises
    ------
    DictionaryError
        If it has neither; or if its decoder is not linear, so that no code stands for a direction.
    """
    channels = rows.shape[1]
    if isinstance(found, np.ndarray | Tensor):
        return Foreign(check_atoms(_tensor(found, name).to(rows), layer, channels))
    fitted = _fit(found, rows, layer, name)
    try:
        encode, decode = _encoding(found), getattr(found, "decode", None)
        if encode is None or decode is None:
            atoms = _atoms(found, name).to(rows)
            mean = getattr(found, "mean_", None)
            offset = None if mean is None or encode is None else _tensor(mean, name).to(rows)
            return Foreign(check_atoms(atoms, layer, channels), offset, encode, fitted)
        return _linear(found, encode, decode, layer, rows, fitted)
    except FeaturecomputeError:
        raise
    except Exception as error:
        raise DictionaryError(
            f"the dictionary '{name}' of layer '{layer}' does not work: {type(error).__name__}: {error}."
        ) from error


def _linear(
    found: Any,
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Any],
    layer: str,
    rows: Tensor,
    fitted: bool,
) -> Foreign:
    """Read atoms and offset off a decoder: what it gives for no code, and for each code alone."""
    some = rows[: 16 * 64]
    codes = encode(some)

    def decoded(values: Tensor) -> Tensor:
        with torch.no_grad():
            return _tensor(decode(values), "decode").to(rows)

    offset = decoded(codes.new_zeros(1, codes.shape[1]))[0]
    # One at a time would be slow for wide ones, all at once too large.
    units = torch.split(torch.eye(codes.shape[1]).to(codes), 1024)
    atoms = check_atoms(torch.cat([decoded(block) - offset for block in units]), layer, rows.shape[1])
    whole = decoded(codes)
    if float((whole - codes @ atoms - offset).norm()) > LINEAR * float(whole.norm()):
        raise DictionaryError(
            f"the dictionary of layer '{layer}', a {type(found).__name__}, decodes in a way that is not linear in the "
            "codes; only then does a code stand for a direction."
        )
    return Foreign(atoms, offset if bool(offset.any()) else None, encode, fitted)


def _fit(found: Any, rows: Tensor, layer: str, name: str) -> bool:
    """Fit an object that has not been; return whether that was needed."""
    done = getattr(found, "fitted", None)
    if done is None:
        done = any(hasattr(found, known) for known in ("components_", "W_dec", "decode"))
    if done or not hasattr(found, "fit"):
        return False
    try:
        # Only scikit-learn's estimators are known to want arrays.
        found.fit(rows.cpu().numpy() if hasattr(found, "get_params") else rows)
    except Exception as error:
        raise DictionaryError(
            f"the dictionary '{name}' of layer '{layer}' cannot be fitted: {type(error).__name__}: {error}."
        ) from error
    return True


def _encoding(found: Any) -> Callable[[Tensor], Tensor] | None:
    """Return how an object encodes rows, if it says so."""
    method = getattr(found, "encode", None)
    arrays = method is None
    method = getattr(found, "transform", None) if arrays else method
    if method is None:
        return None

    def encode(rows: Tensor) -> Tensor:
        with torch.no_grad():
            codes = method(rows.cpu().numpy() if arrays else rows)
        # Overcomplete's autoencoders give what came before the activation first.
        codes = _tensor(codes[-1] if isinstance(codes, tuple | list) else codes, "encode").to(rows)
        if codes.ndim != 2 or len(codes) != len(rows):
            raise DictionaryError(
                f"a {type(found).__name__} encodes {len(rows)} rows to the shape {tuple(codes.shape)}; "
                "it must be rows x atoms."
            )
        return codes

    return encode


def _atoms(found: Any, name: str) -> Tensor:
    for known in ("components_", "get_dictionary", "W_dec"):
        value = getattr(found, known, None)
        if value is not None:
            return _tensor(value() if callable(value) and not isinstance(value, Tensor) else value, name)
    raise DictionaryError(
        f"the dictionary '{name}', a {type(found).__name__}, is not understood; it must be a matrix (rank x channels), "
        "or have encode and decode, get_dictionary(), W_dec or components_."
    )


def _tensor(value: Any, name: str) -> Tensor:
    """Return numbers as a float32 tensor without a gradient."""
    try:
        found = value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise DictionaryError(
            f"the dictionary '{name}' gives a {type(value).__name__} where numbers must be."
        ) from error
    return found.to(torch.float32)


@contextlib.contextmanager
def _importable(base: Path) -> Iterator[None]:
    """Let modules beside the study file be imported while the block runs."""
    place = str(base.resolve())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(place)
