"""What the tests of featurecompute share."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture
def require() -> Callable[[str], ModuleType]:
    """Give a function that imports a library of networks, or skips; where everything is installed it must be there."""

    def get(name: str) -> ModuleType:
        if importlib.util.find_spec(name) is None:
            reason = f"{name} is not installed (extra 'networks')"
            if os.environ.get("CI") == "true" and sys.version_info < (3, 12):
                pytest.fail(f"{reason}, but it must be in this environment")
            pytest.skip(reason)
        from featurecompute.libraries import library

        return library(name)

    return get


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Keep torch to one thread: for networks this small more of them only wait for each other."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.set_num_threads(1)
