"""Fits that several tests share, one a class of model, each made once a session.

Compiling a model takes far longer than sampling it, and a process compiles each structure once; so the tests keep to
the structures of `MODELS`, and a test that needs other data borrows one of them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import Answer, call

from psychostats.fit import Fit, fit
from psychostats.libraries import arviz

arviz()  # before any test imports it: on a new machine two processes that do so at once would both announce it

DATA = Path(__file__).parent / "data"

MODELS: dict[str, dict[str, Any]] = {
    "afc": {
        "formula": "correct ~ representation * depth"
        " + (1 + representation | participant) + (1 + representation | pair)",
        "family": "afc",
    },
    "crossed": {"formula": "correct ~ representation * depth + (1 | participant) + (1 | item)"},
    # As many columns, blocks and levels (after padding) as crossed, so compiled once for both.
    "nested": {"formula": "correct ~ representation * depth + (1 | batch / cask)"},
    "uncorrelated": {"formula": "correct ~ condition + (1 + condition || participant)"},
    "counts": {
        "formula": "cbind(right, wrong) ~ contrast + (1 | observer)",
        "family": "binomial",
        "link": "probit",
    },
    "three_terms": {"formula": "correct ~ speed + load + (1 + speed + load | participant)"},
}

# With 1,000 draws R-hat of crossed is 1.014 on some processors, whose rounding makes other draws.
# Few observers with many trials each: their mean mixes slowly, and with the default 1,000 draws 8 of 20 seeds miss an
# R-hat of 1.01 (or an ESS of 400).
DRAWS = {"counts": 4000, "crossed": 2000}

# Declared, not sorted by code point: the reference is neither the first letter nor the first row.
ORDERS = {"representation": ["local", "distributed"], "condition": ["medium", "easy", "hard"]}


@functools.cache
def _read(name: str) -> pd.DataFrame:
    frame = pd.read_csv(DATA / f"{name}.csv")
    for column in frame.columns.intersection(list(ORDERS)):
        frame[column] = pd.Categorical(frame[column], categories=ORDERS[column])
    return frame


@pytest.fixture(scope="session")
def trials() -> Callable[[str], pd.DataFrame]:
    """Give a copy of the simulated trials of one class of model."""
    return lambda name: _read(name).copy()


@pytest.fixture(scope="session")
def model() -> Callable[[str], dict[str, Any]]:
    """Give the arguments of `fit` for one class of model."""
    return lambda name: dict(MODELS[name])


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Fit]:
    """Give the fit of one class of model, written to a directory that no test may change."""

    @functools.cache
    def make(name: str) -> Fit:
        out = tmp_path_factory.mktemp("fits") / name
        return fit(trials=_read(name), out=out, progress=False, draws=DRAWS.get(name, 1000), **MODELS[name])

    return make


@pytest.fixture
def quick(trials: Callable[[str], pd.DataFrame], model: Callable[[str], dict[str, Any]]) -> Callable[..., Fit]:
    """Fit a few draws of the smallest model; arguments change the call."""

    def make(**changed: Any) -> Fit:
        short = {"draws": 40, "tune": 60, "chains": 2, "progress": False}
        return fit(**({"trials": trials("counts")} | model("counts") | short | changed))

    return make


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Give a function that runs a command and returns its `Answer`."""
    return lambda *arguments: call(capsys, monkeypatch, *arguments)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Give the folder of reference data and numbers; the tests that need it skip where it is absent."""
    folder = Path(os.environ.get("PSYCHOSTATS_REFERENCE", ""))
    if not (folder / "exp1.csv").is_file():
        pytest.skip("PSYCHOSTATS_REFERENCE does not name the folder of reference data")
    return folder
