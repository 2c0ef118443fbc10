"""Code that is not ours, fetched when it is needed: libraries of networks, and a study's own ``module:function``.

In: a name.  Out: the module, or what the function gives; whatever fails is one clear sentence.  Knows no network.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from featurecompute.errors import InputError, NetworkError, nearest

# Operators of torchvision's compiled part that its Python part names while it is imported.
_OPERATORS = ("torchvision::nms", "torchvision::qnms")


def library(name: str) -> ModuleType:
    """Import a library of networks (torchvision, timm or transformers), quietly.

    Raises
    ------
    NetworkError
        If it is not installed or does not import.
    """
    try:
        with warnings.catch_warnings():
            # What these libraries have to say of their own dependencies is no business of a study.
            warnings.simplefilter("ignore")
            if importlib.util.find_spec("torchvision") is not None:
                _torchvision()  # timm needs it, and transformers takes it where it is there
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise NetworkError(
            f"networks of {name} need the package {error.name}, which is not installed:"
            ' install "psychostats[features,networks]".'
        ) from error
    except (ImportError, RuntimeError, OSError) as error:
        raise NetworkError(f"{name} is installed but does not import: {first_line(error)}.") from error


def _torchvision() -> None:
    """Import torchvision, declaring two operators where its compiled part does not fit the torch that is installed.

    The wheel on the package index is built for CUDA. Beside a torch for the CPU its compiled part does not load, and
    the import ends at the first operator it would describe; no network that classifies images needs either.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # half imported
        for operator in _OPERATORS:
            torch.library.define(operator, "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")


def call_reference(reference: str, base: Path, fault: type[InputError] = NetworkError) -> Any:
    """Return what ``module:function`` gives, called without arguments.

    Parameters
    ----------
    reference
        Module and function; the module is looked for in `base`, then on Python's path.
    base
        Folder of the study file.
    fault
        Class of the error.

    Raises
    ------
    InputError
        If there is no such module or function, or either fails.
    """
    name, _, attribute = reference.partition(":")
    if not all(part.isidentifier() for part in (*name.split("."), *attribute.split("."))):
        raise fault(f"'{reference}' is no module and function: write module:function.")
    folder = str(base.resolve())
    sys.path.insert(0, folder)
    try:
        found: Any = _module(name, base, fault)
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise fault(f"module '{name}' has no '{attribute}'{nearest(part, dir(found))}.")
            found = getattr(found, part)
        if not callable(found):
            raise fault(f"'{reference}' is a {type(found).__name__}; it must be a function without arguments.")
        try:
            return found()
        except Exception as error:
            raise fault(f"'{reference}' failed: {type(error).__name__}: {first_line(error)}.") from error
    finally:
        sys.path.remove(folder)


def _module(name: str, base: Path, fault: type[InputError]) -> ModuleType:
    """Import a module; one in the study's folder is read afresh, so that two studies may each have a ``net.py``."""
    path = base.resolve().joinpath(*name.split(".")).with_suffix(".py")
    try:
        if not path.is_file():
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None  # a .py file always has both
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look themselves up there
        spec.loader.exec_module(module)
        return module
    except Exception as error:
        sys.modules.pop(name, None)
        if isinstance(error, ModuleNotFoundError) and error.name == name.split(".")[0]:
            raise fault(f"there is no module '{name}', neither in {base} nor on Python's path.") from error
        raise fault(f"module '{name}' cannot be imported: {type(error).__name__}: {first_line(error)}.") from error


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, without a closing full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(". ")
