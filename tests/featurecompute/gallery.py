"""Screenshots of one main trial of each experiment, as participants see it: ``gallery.py RUN FOLDER``."""

from __future__ import annotations

import base64
import shutil
import sys
import tempfile
from pathlib import Path

from selenium import webdriver

sys.path.insert(0, str(Path(__file__).parents[1]))  # where chromium.py lies, when this is run as a script

from chromium import open_chromium, resize

from featurecompute.manifest import Run, load_run
from featurecompute.sessions import read_sessions
from featurecompute.trial_page import write_trial_page

SHOWN = "return document.getElementById('trial').style.visibility === '' && since !== null"


def open_trial(chromium: webdriver.Chrome, page: Path, number: int) -> None:
    """Open a session and go to a trial, from 1, by answering those before it."""
    chromium.get(page.resolve().as_uri())
    for done in range(number + 1):
        press_on(chromium)
        wait_for(chromium, SHOWN)
        if done + 1 == number:
            return
        chromium.execute_script("answer('left', 1)")


def press_on(chromium: webdriver.Chrome) -> None:
    """Press what leads on from texts and feedback, until a trial or the end is reached."""
    for _ in range(4):
        chromium.execute_script("for (const b of document.querySelectorAll('button.go:not([hidden])')) b.click()")


def wait_for(chromium: webdriver.Chrome, condition: str) -> None:
    """Wait until a script returns true, pressing on meanwhile."""
    from selenium.webdriver.support.wait import WebDriverWait

    def there(driver: webdriver.Chrome) -> bool:
        press_on(driver)
        return bool(driver.execute_script(condition))

    WebDriverWait(chromium, 60, poll_frequency=0.02).until(there)


def write_screens(run: Run, folder: Path, *, width: int = 1280, height: int = 800, skip: int = 0) -> list[Path]:
    """Write a PNG for each experiment of a run: the first main trial that is no catch trial, after some to skip."""
    folder.mkdir(parents=True, exist_ok=True)
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        raise SystemExit("chromium and chromedriver are needed")
    sessions, paths = read_sessions(run), []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as held:
        chromium = open_chromium(str(programs[0]), str(programs[1]), Path(held))
        try:
            resize(chromium, width, height)
            for experiment, rows in sessions.groupby("experiment", sort=False):
                first = rows[rows["participant"] == rows["participant"].iloc[0]].reset_index(drop=True)
                places = first.index[(first["phase"] == "main") & ~first["catch"]]
                page = write_trial_page(run, Path(held) / f"{experiment}.html", experiment=str(experiment))
                open_trial(chromium, page, int(places[skip]) + 1)
                shot = chromium.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
                paths.append(folder / f"trial_{experiment}.png")
                paths[-1].write_bytes(base64.b64decode(shot["data"]))
        finally:
            chromium.quit()
    return paths


if __name__ == "__main__":
    for path in write_screens(load_run(sys.argv[1]), Path(sys.argv[2])):
        print(path)
