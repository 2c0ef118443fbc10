"""Weights from a file into a network, and the hash that weights are known by.

In: safetensors, or a state dict that torch saved.  Out: a filled module; whatever does not fit is named.
Runs no code that a file of weights holds.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from featurecompute.errors import NetworkError
from featurecompute.libraries import first_line

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_NESTED = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name
_LISTED = 3  # names an error gives


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict, on the CPU.

    Parameters
    ----------
    path
        ``.safetensors``, or ``.pt``, ``.pth`` or ``.bin`` as torch saves them; nested under ``state_dict`` or
        ``model`` or not, with or without the prefix of a wrapper.

    Raises
    ------
    NetworkError
        If the file is missing, damaged, or holds anything but tensors.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise NetworkError(f"the weights {path} are no {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file.")
    if not path.is_file():
        raise NetworkError(f"there is no file of weights {path}.")
    found: Any = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_torch(path)
    for key in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found:
        raise NetworkError(f"the weights {path} hold a {type(found).__name__}; they must be a state dict.")
    strange = [str(key) for key, value in found.items() if not isinstance(value, Tensor)]
    if strange:
        raise NetworkError(f"the weights {path} hold more than tensors: {_some(strange)}.")
    metadata = getattr(found, "_metadata", None)
    state = _Weights(found)
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = _Weights((key.removeprefix(prefix), value) for key, value in state.items())
            metadata = metadata and {key.removeprefix(prefix): value for key, value in metadata.items()}
    if metadata is not None:
        state._metadata = metadata
    return state


class _Weights(dict[str, Tensor]):
    """A state dict with the versions of its modules, by which some networks read what older ones saved."""

    _metadata: Any = None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise NetworkError(f"the weights {path} cannot be read: {first_line(error)}.") from error


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of old formats that it still reads
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        held = re.search(r"GLOBAL (\S+)", str(error))
        what = f"a pickled {held[1]}" if held else "something else, or they are damaged"
        raise NetworkError(
            f"the weights {path} hold more than tensors ({what}); as that could run code, nothing was read:"
            " save the network's state_dict, best as safetensors."
        ) from error
    except Exception as error:  # zip, end of file, encoding: torch has no class for a damaged file
        raise NetworkError(f"the weights {path} cannot be read: {first_line(error)}.") from error


def refuse_nonfinite(module: nn.Module, what: str) -> None:
    """Refuse weights, or statistics of a normalisation, with NaN or infinity; the first few tensors are named.

    Other buffers may hold them: a mask of attention is minus infinity where it hides.

    Raises
    ------
    NetworkError
    """
    weights: dict[str, Tensor] = dict(module.named_parameters())
    weights |= {name: value for name, value in module.named_buffers() if "running_" in name}
    bad = [name for name, value in weights.items() if not bool(value.isfinite().all())]
    if bad:
        raise NetworkError(f"{what} have NaN or infinity in {_some(bad)}.")


def head_classes(module: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """Return the number of classes that weights are for, where only the first axis of a few tensors tells them apart.

    Returns
    -------
    int or None
        None where the shapes agree already, or disagree in another way.
    """
    own = module.state_dict()
    other = [(own[name].shape, value.shape) for name, value in state.items() if name in own]
    other = [(mine, theirs) for mine, theirs in other if mine != theirs]
    sizes = {(mine[:1], theirs[:1]) for mine, theirs in other}
    if len(sizes) == 1 and all(len(mine) and mine[1:] == theirs[1:] for mine, theirs in other):
        return int(other[0][1][0])
    return None


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Put weights into a network, all of them.

    Raises
    ------
    NetworkError
        If tensors are missing, left over, or of another shape; the first few are named.
    """
    own = module.state_dict()
    shapes = [
        f"{name} ({_shape(value)} in the file, {_shape(own[name])} in the network)"
        for name, value in state.items()
        if name in own and own[name].shape != value.shape
    ]
    if shapes:
        raise NetworkError(f"the weights {path} do not fit: {_count(shapes, 'of another shape')}.")
    given = _Weights(state)
    # Without versions, as in safetensors, the file counts as saved by the network as it is now.
    given._metadata = getattr(state, "_metadata", None) or getattr(own, "_metadata", None)
    try:
        missing, extra = module.load_state_dict(given, strict=False)
    except Exception as error:
        raise NetworkError(f"the weights {path} do not fit: {first_line(error)}.") from error
    refuse_unfit(path, missing, extra)


def refuse_unfit(path: Path, missing: Iterable[str], extra: Iterable[str]) -> None:
    """Refuse weights of which some are missing or left over; the first few are named.

    Raises
    ------
    NetworkError
    """
    # Batches seen while training have no part in what a network gives; old files lack them.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    kinds = ((sorted(missing), "missing"), (sorted(extra), "not of this network"))
    faults = [_count(names, kind) for names, kind in kinds if names]
    if faults:
        raise NetworkError(f"the weights {path} do not fit: {'; '.join(faults)}.")


def hash_state(module: nn.Module) -> str:
    """Return the sha256 of a network's tensors, in the order of their names."""
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            found.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _shape(value: Tensor) -> str:
    return " x ".join(map(str, value.shape)) or "one value"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _count(names: list[str], kind: str) -> str:
    return f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'} {kind}: {_some(names)}"
