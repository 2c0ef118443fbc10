"""Networks of transformers, from a local folder; nothing is downloaded and no code of the folder is run.

In: a folder with ``config.json``.  Out: a module with its weights, its preprocessing and its hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featurecompute.cards import IMAGENET_MEAN, IMAGENET_SD, Preprocessing
from featurecompute.errors import NetworkError
from featurecompute.files import hash_file
from featurecompute.libraries import first_line, library
from featurecompute.weights import head_classes, read_weights, refuse_unfit

_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def open_huggingface(
    place: Path, weights: Path | None, untrained: bool, size: int | None
) -> tuple[str, nn.Module, Preprocessing, str | None]:
    """Open a network that classifies images.

    Parameters
    ----------
    place
        Folder with ``config.json``, or that file.
    weights
        File of weights; None: those of the folder.
    untrained
        Take random weights instead.
    size
        Side of the images, where it is not the config's.

    Returns
    -------
    tuple
        Name, module, preprocessing, and hash of the weights (None where there is no file).

    Raises
    ------
    NetworkError
        If the folder is missing, is of no such network, or its weights do not fit.
    """
    folder = place if place.is_dir() else place.parent
    path = place / "config.json" if place.is_dir() else place
    if not path.is_file():
        raise NetworkError(f"there is no {path}; networks of huggingface are read from a local folder.")
    own = [folder / name for name in _FILES if (folder / name).is_file()]
    if weights is None and not untrained and not own:
        raise NetworkError(
            f"{folder} has none of {', '.join(_FILES)}: give a file in [network] weights, or say untrained = true."
        )
    transformers = library("transformers")
    automatic = transformers.AutoModelForImageClassification
    try:
        with _quiet(transformers):
            config = transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
            if size is not None and hasattr(config, "image_size"):
                config.image_size = size
            sha256 = None
            if weights is not None:
                module, sha256 = _filled(automatic, config, None, weights), hash_file(weights)
            elif untrained:
                module = automatic.from_config(config, trust_remote_code=False)
            else:
                module, sha256 = _filled(automatic, config, folder, own[0]), _hash(own[0])
    except NetworkError:
        raise
    except Exception as error:
        raise NetworkError(f"transformers cannot open {path}: {first_line(error)}.") from error
    return folder.resolve().name, module, _preprocessing(folder, config), sha256


def _filled(automatic: Any, config: Any, folder: Path | None, weights: Path) -> nn.Module:
    """Fill a network the library's way, which knows the names that other versions saved; all weights must fit.

    Parameters
    ----------
    folder
        Whose own weights are meant; None: `weights` is a file, read as any other.
    """
    given: dict[str, Any] = {"trust_remote_code": False}
    if folder is None:
        given = {}
        given["state_dict"] = state = read_weights(weights)
        unfilled = automatic.from_config(config, trust_remote_code=False)
        automatic = type(unfilled)  # the automatic class itself takes no weights without a folder
        classes = head_classes(unfilled, state)
        if classes is not None:
            config.num_labels = classes
    module, about = automatic.from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        weights_only=True,
        dtype=torch.float32,
        output_loading_info=True,
        **given,
    )
    refuse_unfit(weights, about["missing_keys"], about["unexpected_keys"])
    return module  # type: ignore[no-any-return]


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Silence the library while it opens a network: what it logs of missing weights is an error here."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def _hash(path: Path) -> str:
    """Return the hash of a file of weights, or of the files that an index names."""
    if path.suffix != ".json":
        return hash_file(path)
    files = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    return hashlib.sha256("".join(hash_file(path.parent / name) for name in files).encode()).hexdigest()


def _preprocessing(folder: Path, config: Any) -> Preprocessing:
    """Return the card of ``preprocessor_config.json``, or one from the config's size with ImageNet's colours.

    Where the library would squash an image to a square, its shorter side is resized and its centre cropped, so that no
    shape is distorted.
    """
    size = getattr(config, "image_size", None)
    size = int(size) if isinstance(size, int) else 224
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return Preprocessing(size, size)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        resize = _side(found.get("size"), size)
        cropped = found.get("do_center_crop", "crop_size" in found) and found.get("crop_size") is not None
        crop = _side(found.get("crop_size"), resize) if cropped else resize
        if "crop_pct" in found and not cropped and resize < 384:  # ConvNeXt's processor crops small images so
            resize = int(resize / found["crop_pct"])
        mean, sd = tuple(IMAGENET_MEAN), tuple(IMAGENET_SD)
        if found.get("do_normalize", True):
            mean = tuple(map(float, found.get("image_mean", IMAGENET_MEAN)))
            sd = tuple(map(float, found.get("image_std", IMAGENET_SD)))
        else:
            mean, sd = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        if not found.get("do_rescale", True):  # its numbers are in units of 0 to 255
            mean, sd = tuple(value / 255 for value in mean), tuple(value / 255 for value in sd)
        kind: Any = _FILTERS.get(found.get("resample", 2), "bicubic")
        return Preprocessing(crop, max(resize, crop), kind, mean, sd)  # type: ignore[arg-type]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise NetworkError(f"{path} cannot be read: {first_line(error)}.") from error


def _side(value: Any, default: int) -> int:
    """Return a side in pixels from what a processor gives: a number, or a table of sides."""
    if isinstance(value, Mapping):
        value = value.get("shortest_edge", value.get("height", default))
    return default if value is None else int(value)
