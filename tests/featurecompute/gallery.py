"""Screenshots of one main trial of each experiment, as participants see it: ``gallery.py RUN FOLDER [PAIR]``."""

from __future__ import annotations

import base64
import shutil
import sys
import tempfile
from pathlib import Path

from selenium import webdriver

sys.path.insert(0, str(Path(__file__).parents[1]))  # where chromium.py lies, when this is run as a script
sys.path.insert(0, str(Path(__file__).parents[2]))  # before it the packages, whose names the folders of tests have too

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


def write_screens(run: Run, folder: Path, *, pair: str = "", width: int = 1280, height: int = 800) -> list[Path]:
    """Write a PNG of each experiment of a run: a trial of one pair's direction, of the deepest layer unless told."""
    folder.mkdir(parents=True, exist_ok=True)
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        raise SystemExit("chromium and chromedriver are needed")
    sessions, paths = read_sessions(run), []
    main = sessions[(sessions["phase"] == "main") & ~sessions["catch"] & (sessions["representation"] == "distributed")]
    pair = pair or str(main.sort_values(["depth", "pair"])["pair"].iloc[-1])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as held:
        chromium = open_chromium(str(programs[0]), str(programs[1]), Path(held))
        try:
            resize(chromium, width, height)
            for experiment, rows in main[main["pair"] == pair].groupby("experiment", sort=False):
                trial = rows.sort_values("trial").iloc[0]
                page = Path(held) / f"{experiment}.html"
                write_trial_page(run, page, experiment=str(experiment), participant=trial["participant"])
                open_trial(chromium, page, int(trial["trial"]))
                shot = chromium.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
                paths.append(folder / f"{experiment}.png")
                paths[-1].write_bytes(base64.b64decode(shot["data"]))
        finally:
            chromium.quit()
    return paths


if __name__ == "__main__":
    for path in write_screens(load_run(sys.argv[1]), Path(sys.argv[2]), pair="".join(sys.argv[3:4])):
        print(path)
