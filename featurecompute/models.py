"""Networks of the libraries, and of a study's own code, opened with weights from a file; nothing is ever downloaded.

In: the study's ``[network]``.  Out: a `Network`.  Knows no image, and no training: a network of the job's own scenes
comes from `training` and is described by `cards.describe_network`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featurecompute.cards import Layer, Network, Preprocessing, describe_network
from featurecompute.errors import FeaturecomputeError, NetworkError, nearest
from featurecompute.files import hash_file
from featurecompute.folding import optimised
from featurecompute.huggingface import open_huggingface
from featurecompute.libraries import call_reference, first_line, library
from featurecompute.study import NetworkTable
from featurecompute.weights import fill, head_classes, read_weights, refuse_nonfinite

__all__ = ["Layer", "Network", "Preprocessing", "describe_network", "open_network", "optimised"]

SOURCES = ("scenes", "torchvision", "timm", "huggingface", "module:function")
_COLOUR = ("size", "resize", "interpolation", "mean", "sd")


def open_network(table: NetworkTable, base: Path) -> Network:
    """Open a network of a library, or of the study's own code, and write its card.

    Parameters
    ----------
    table
        ``[network]`` of a study.
    base
        Folder of the study file, from which it names files.

    Returns
    -------
    Network
        Ready, on the CPU. Untrained weights depend on the table's seed alone.

    Raises
    ------
    NetworkError
        If the source, the model, its weights or a layer cannot be used.
    """
    if table.source == "scenes":
        raise NetworkError("a network of source 'scenes' is trained by the job; there is nothing to open.")
    if table.source not in SOURCES and ":" not in table.source:
        raise NetworkError(
            f"[network] source is '{table.source}'{nearest(table.source, SOURCES)}; allowed are {', '.join(SOURCES)}."
        )
    if table.weights and table.untrained:
        raise NetworkError("[network] has both weights and untrained = true; it can have one of them.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(table.seed)
        opened = _OPEN.get(table.source, _open_reference)(table, base)
    refuse_nonfinite(opened.module, f"the weights {base / table.weights if table.weights else f'of {opened.id}'}")
    return describe_network(
        opened.module.float(),
        opened.preprocessing.override({key: getattr(table, key) for key in _COLOUR}),
        id=opened.id,
        source=table.source,
        layers=table.layers,
        layout=table.layout,
        weights_sha256=opened.weights_sha256,
    )


@dataclass(frozen=True)
class Opened:
    """A module with its weights, not described yet; no hash means that of its tensors."""

    id: str
    module: nn.Module = field(repr=False)
    preprocessing: Preprocessing
    weights_sha256: str | None = None


def _open_torchvision(table: NetworkTable, base: Path) -> Opened:
    models = library("torchvision").models
    known: list[str] = models.list_models(module=models)
    _check_name(table, known)

    def build(classes: int | None, size: int | None, state: Mapping[str, Tensor] | None) -> nn.Module:
        given = _given(num_classes=classes, image_size=size)
        if table.name in ("googlenet", "inception_v3"):
            # As torchvision builds them for its own weights; heads used in training alone may have been left out.
            given["aux_logits"] = state is not None and any("aux" in name.lower() for name in state)
            given |= {"init_weights": state is None, "transform_input": state is not None}
        return models.get_model(table.name, weights=None, **given)  # type: ignore[no-any-return]

    module, sha256 = _with_weights(table, base, build)
    transforms = models.get_model_weights(table.name).DEFAULT.transforms()
    return Opened(
        table.name,
        module,
        Preprocessing(
            size=transforms.crop_size[0],
            resize=transforms.resize_size[0],
            interpolation=_interpolation(transforms.interpolation.value),
            mean=tuple(transforms.mean),
            sd=tuple(transforms.std),
        ),
        sha256,
    )


def _open_timm(table: NetworkTable, base: Path) -> Opened:
    timm = library("timm")
    name, model = table.name, table.name.partition(".")[0]
    known = timm.list_models()
    # After a dot stands which of its weights' cards is meant. Names with a place to fetch from are not in either list.
    _check_name(table, timm.list_pretrained(f"{model}.*") if model in known and model != name else known)

    def build(classes: int | None, size: int | None, state: Mapping[str, Tensor] | None) -> nn.Module:
        return timm.create_model(name, pretrained=False, **_given(num_classes=classes, img_size=size))  # type: ignore[no-any-return]

    module, sha256 = _with_weights(table, base, build)
    if getattr(module, "num_classes", 1) == 0:
        raise NetworkError(f"timm's network '{name}' does not classify: it has no classes of its own.")
    found = library("timm.data").resolve_data_config({}, model=module)
    channels, size, width = found["input_size"]
    if channels != 3 or size != width:
        raise NetworkError(f"network '{name}' takes images of {channels} x {size} x {width}; only 3 x N x N is read.")
    resize = max(size, int(size / found["crop_pct"]))  # as timm.data.transforms_imagenet_eval
    preprocessing = Preprocessing(
        size, resize, _interpolation(found["interpolation"]), tuple(found["mean"]), tuple(found["std"])
    )
    return Opened(name, module, preprocessing, sha256)


def _open_huggingface(table: NetworkTable, base: Path) -> Opened:
    _need_name(table, "a folder with config.json, or a config.json")
    path = base / table.weights if table.weights else None
    return Opened(*open_huggingface(base / table.name, path, table.untrained, table.size))


def _open_reference(table: NetworkTable, base: Path) -> Opened:
    found = call_reference(table.source, base)
    found, preprocessing = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
    if not isinstance(found, nn.Module) or not isinstance(preprocessing, Mapping):
        raise NetworkError(
            f"'{table.source}' gives a {type(found).__name__}; it must give a torch module, or a tuple of a module and"
            " a table of preprocessing."
        )
    sha256 = None
    if table.weights:
        path = base / table.weights
        fill(found, read_weights(path), path)
        sha256 = hash_file(path)
    try:
        card = Preprocessing().override(preprocessing)
    except (TypeError, ValueError) as error:
        raise NetworkError(f"the preprocessing of '{table.source}' cannot be read: {first_line(error)}.") from error
    return Opened(table.name or table.source, found, card, sha256)


_OPEN: Mapping[str, Callable[[NetworkTable, Path], Opened]] = {
    "torchvision": _open_torchvision,
    "timm": _open_timm,
    "huggingface": _open_huggingface,
}


def _with_weights(
    table: NetworkTable,
    base: Path,
    build: Callable[[int | None, int | None, Mapping[str, Tensor] | None], nn.Module],
) -> tuple[nn.Module, str | None]:
    """Build a library's network for as many classes as its weights are for, and fill it.

    Parameters
    ----------
    build
        From a number of classes, a side of the images (None: the library's own, for both) and the weights.
    """
    if not table.weights and not table.untrained:
        raise NetworkError(
            f"network '{table.name}' has no weights: give a file in [network] weights (nothing is downloaded), or say"
            " untrained = true."
        )
    path = base / table.weights
    state = read_weights(path) if table.weights else None
    if state is not None and re.match(r"densenet\d", table.name):
        # torchvision's own files have names from before a module's name could hold no dot.
        state = {re.sub(r"(\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", name): value for name, value in state.items()}

    def make(classes: int | None) -> nn.Module:
        torch.manual_seed(table.seed)
        try:
            return build(classes, table.size, state)
        except TypeError:
            if table.size is None:
                raise
        torch.manual_seed(table.seed)
        return build(classes, None, state)  # most networks take images of any size, and no such setting

    try:
        module = make(None)
        if state is None:
            return module, None
        classes = head_classes(module, state)
        if classes is not None:
            module = make(classes)
    except FeaturecomputeError:
        raise
    except Exception as error:
        raise NetworkError(f"{table.source} cannot build '{table.name}': {first_line(error)}.") from error
    fill(module, state, path)
    return module, hash_file(path)


def _need_name(table: NetworkTable, what: str) -> None:
    if not table.name:
        raise NetworkError(f"[network] name is missing: {what}, as its source is {table.source}.")


def _check_name(table: NetworkTable, known: list[str]) -> None:
    """Refuse a model that its library does not know, naming the nearest."""
    _need_name(table, "the name of a model")
    if table.name not in known:
        near = nearest(table.name, known, 3)
        raise NetworkError(f"{table.source} has no model '{table.name}'{near}.")


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _interpolation(name: str) -> Any:
    """Return the filter, bicubic for those that only a library has (its random choice, Lanczos)."""
    return name if name in ("bilinear", "bicubic") else "bicubic"
