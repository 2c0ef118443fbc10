"""Fits that several tests share, one a class of model, each made once a session.

Compiling a model takes far longer than sampling it, and a process compiles each structure once; so the tests keep to
the structures of `MODELS`, and a test that needs other data borrows one of them.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import Answer, call

from psychostats.fit import Fit, fit

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
        return fit(trials=_read(name), out=out, progress=False, **MODELS[name])

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


@dataclass(frozen=True)
class Page:
    """What a browser made of an HTML file: console errors, images it could not draw, addresses it asked for."""

    errors: tuple[str, ...]
    undrawn: tuple[str, ...]
    requests: tuple[str, ...]
    images: int
    overflows: bool
    text: str


@pytest.fixture(scope="session")
def needs_program() -> Callable[[str], str]:
    """Give the path of a program; without it the test skips, except under ``CI=true``, where it fails."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            absent = f"the program {name} is not installed"
            if os.environ.get("CI") == "true":
                pytest.fail(absent)
            pytest.skip(absent)
        return path

    return find


@pytest.fixture(scope="session")
def browser(
    needs_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Path], Page]]:
    """Give a function that opens an HTML file in headless Chromium and tells what happened."""
    binary, driver = needs_program("chromium"), needs_program("chromedriver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    flags = "headless no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update"
    for flag in [*flags.split(), "disable-sync", f"user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chromium = webdriver.Chrome(options=options, service=Service(driver))

    def look(path: Path) -> Page:
        chromium.get("about:blank")
        chromium.get_log("browser")
        chromium.get_log("performance")
        address = path.resolve().as_uri()
        chromium.get(address)
        images = chromium.execute_script(
            "return [...document.images].map(image => [image.alt, image.complete && image.naturalWidth > 0])"
        )
        events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return Page(
            errors=tuple(entry["message"] for entry in chromium.get_log("browser")),
            undrawn=tuple(alt for alt, drawn in images if not drawn),
            requests=tuple(url for url in asked if url != address and not url.startswith("data:")),
            images=len(images),
            overflows=chromium.execute_script(
                "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
            ),
            text=chromium.execute_script("return document.body.innerText"),
        )

    yield look
    chromium.quit()
