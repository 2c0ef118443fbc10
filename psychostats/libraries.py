"""ArviZ, PyMC and nutpie, imported when they are needed and without what they say while they are.

In: nothing.  Out: modules.  Knows no model; featurecompute has a room of this name for its own.
"""

from __future__ import annotations

import warnings
from types import ModuleType


def arviz() -> ModuleType:
    """Import ArviZ without its announcement of the next version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import arviz as az
        # ArviZ 0.23 notes that it announced it today; of two processes that do so at once, one fails.
        except FileNotFoundError:
            import arviz as az
    return az


def pymc() -> tuple[ModuleType, ModuleType, ModuleType]:
    """Import PyMC, PyTensor's tensors and nutpie, without their advice on compilers that are not used here."""
    arviz()  # which both of them import
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import logging

        log = logging.getLogger("pytensor")
        level = log.level
        log.setLevel(logging.ERROR)
        try:
            import nutpie
            import pymc
            import pytensor.tensor
        finally:
            log.setLevel(level)
    return pymc, pytensor.tensor, nutpie
