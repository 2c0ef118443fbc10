"""What the tests of both packages share: other programs, and a browser that looks at pages."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


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
def chromium(needs_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Give a driver of headless Chromium; it downloads to the folder that its ``downloads`` names."""
    binary, driver = needs_program("chromium"), needs_program("chromedriver")
    from chromium import open_chromium

    folder = tmp_path_factory.mktemp("chromium")
    opened = open_chromium(binary, driver, folder)
    opened.downloads = folder
    yield opened
    opened.quit()


@pytest.fixture(scope="session")
def browser(chromium: Any) -> Callable[..., Page]:
    """Give a function that opens an HTML file in headless Chromium, so many pixels wide, and tells what happened."""

    def look(path: Path, width: int = 1000) -> Page:
        from chromium import resize

        resize(chromium, width, 800)
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

    return look


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    """Give a PostgreSQL server of its own (`postgresql.Server`); without the programs as `needs_program` does."""
    pytest.importorskip("psycopg")
    from postgresql import programs, start

    found = programs()
    if found is None:
        absent = "PostgreSQL is not installed (initdb)"
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))  # pytest's folders are closed to the user postgres
    server = start(folder, found)
    yield server
    server.stop()
