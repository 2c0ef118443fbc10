"""A session in a browser: it shows what the list says, gives nothing away, and its answers are a trial table."""

import base64
import json
import re
import shutil
import time

import pandas as pd
import pytest
from chromium import resize
from gallery import open_trial, press_on, wait_for, write_screens
from PIL import Image
from quick import command, complaint
from stimulus_tables import write_stimulus_run

from featurecompute.manifest import STIMULI, TRIAL_LISTS, load_run
from featurecompute.sessions import read_sessions
from featurecompute.trial_page import write_trial_page
from psychostats.trials import check_trials, read_trials

COLUMNS = (
    "participant experiment trial phase catch representation layer depth feature pair stimulus response correct rt"
)
READY = "return document.getElementById('trial').style.visibility === '' && since !== null"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Give a run that no test may change."""
    return write_stimulus_run(tmp_path_factory.mktemp("made") / "run", participants=2, references=(9, 3))


@pytest.fixture(scope="module")
def page(run):
    return write_trial_page(run, run.path.parent / "page.html")


def embedded(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="session">(.*?)</script>', text, re.S)[1])


def drawn(chromium, where):
    """Return the pictures of a place on the screen, as bytes, from the left and from above."""
    script = """return [...document.querySelectorAll(arguments[0] + ' img')].map(image => {
        const box = image.getBoundingClientRect(); return [Math.round(box.top), box.left, image.src]; }).sort(
        (a, b) => a[0] - b[0] || a[1] - b[1]).map(row => row[2])"""
    sources = chromium.execute_script(script, where)
    return [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources]


def start(chromium, page, width=1000, height=700):
    resize(chromium, width, height)
    chromium.get_log("browser")
    chromium.get(page.resolve().as_uri())


def test_a_session_is_answered_and_its_table_is_read_by_psychostats(run, page, chromium):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    start(chromium, page)
    trials = read_sessions(run).query("participant == 'natural-001'").reset_index(drop=True)
    pictures = run.table("pictures").set_index("image")["file"]
    files = {image: (run.path / file).read_bytes() for image, file in pictures.items()}
    assert "3 questions for practice" in chromium.find_element(By.TAG_NAME, "body").text
    chromium.switch_to.active_element.send_keys(Keys.ENTER)
    given = []
    for number, row in trials.iterrows():
        wait_for(chromium, READY)
        began = time.monotonic()
        text = chromium.find_element(By.TAG_NAME, "body").text
        practice = row["phase"] == "practice"
        assert ("Practice 2 of 3" in text) == (number == 1) and ("1 of 5" in text) == (number == 3)
        assert drawn(chromium, "#left") == [files[row["left"]]]
        assert drawn(chromium, "#right") == [files[row["right"]]]
        assert drawn(chromium, "#minima") == [files[image] for image in row["references_min"]]
        assert drawn(chromium, "#maxima") == [files[image] for image in row["references_max"]]
        # Keys and buttons by turns; every third answer is wrong.
        side = row["target_side"] if number % 3 else {"left": "right", "right": "left"}[row["target_side"]]
        confidence = number % 3 + 1
        if number % 2:
            keys = {"left": "asd", "right": "JKL"}[side]
            chromium.find_element(By.TAG_NAME, "body").send_keys("x" + keys[confidence - 1])
        else:
            chromium.find_elements(By.CSS_SELECTOR, f"#{side} button")[confidence - 1].click()
        assert chromium.execute_script("return since") is None
        chromium.execute_script("answer('left', 1)")  # too late: one answer a trial
        said = chromium.find_element(By.ID, "said")
        if practice:
            assert said.text.startswith("Right." if number % 3 else "Not this one")
        else:
            assert not re.search("Right|Not", said.text)
        given.append((side, int(number % 3 > 0), confidence, time.monotonic() - began))
        press_on(chromium)
    wait_for(chromium, "return document.getElementById('answers') !== null")
    chromium.find_element(By.ID, "answers").click()
    path = chromium.downloads / "trials_natural_natural-001.csv"
    for _ in range(1200):
        if path.is_file() and path.stat().st_size:
            break
        time.sleep(0.05)
    assert path.read_text().splitlines()[0].split(",") == [*COLUMNS.split(), "confidence"]
    frame = read_trials(path, needed=["correct", "representation", "depth", "participant", "pair", "rt"])
    assert check_trials(path) == ()
    assert list(zip(frame["response"], frame["correct"], frame["confidence"], strict=True)) == [
        row[:3] for row in given
    ]
    assert (frame["rt"] > 0).all() and (frame["rt"].to_numpy() < [row[3] + 0.3 for row in given]).all()
    kept = ["participant", "experiment", "trial", "phase", "catch", "layer", "depth", "feature", "pair", "stimulus"]
    for name in [*kept, "representation"]:
        # Text that is blank in practice is missing in both.
        held, wanted = frame[name].astype(object).reset_index(drop=True), trials[name].astype(object)
        assert held.where(held.notna(), None).tolist() == wanted.where(wanted.notna(), None).tolist(), name
    assert [entry["message"] for entry in chromium.get_log("browser")] == []


def test_nothing_to_be_seen_gives_the_answer_away(run, page, browser, chromium):
    seen = browser(page)
    assert (seen.errors, seen.requests) == ((), ())
    open_trial(chromium, page, 5)
    shown = chromium.execute_script("return document.querySelector('main').outerHTML")
    shown = re.sub(r'src="data:[^"]*"', "", shown)
    trial = read_sessions(run).query("participant == 'natural-001' and trial == 5").iloc[0]
    for name in ("stimulus", "feature", "pair", "layer", "representation", "query_target", "query_distractor"):
        assert trial[name] not in shown
    assert not re.search(r"target|distractor|maximal|\.png|correct", shown)
    assert "natural" not in chromium.title
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|<link", text)
    assert not [image for image in run.table("images")["image"] if image in text]


@pytest.mark.parametrize("references", [(9, 9), (9, 3), (1, 1), (5, 1), (12, 4)])
def test_trials_fit_windows(tmp_path, chromium, references):
    run = write_stimulus_run(
        tmp_path / "run",
        experiments=("natural",),
        participants=1,
        pairs=1,
        practice=0,
        references=references,
        sizes=((64, 64), (30, 44), (20, 20)),
    )
    page = write_trial_page(run, tmp_path / "page.html")
    open_trial(chromium, page, 1)
    for width, height in ((1280, 800), (940, 600), (390, 844)):
        resize(chromium, width, height)
        # A window tells its new size before the next frame.
        chromium.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        judge_places(chromium, width, height, references)


def judge_places(chromium, width, height, references):
    """Judge where everything of a trial is, and how large."""
    script = """return ['#minima', '#maxima', '#left', '#right', '#said'].map(id => {
        const box = document.querySelector(id).getBoundingClientRect();
        return [box.left, box.top, box.right, box.bottom]; })"""
    boxes = chromium.execute_script(script)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width and 40 < top < bottom <= height
    least, most, one, other, _ = boxes
    assert least[2] <= most[0] and one[2] <= other[0]
    if width >= 720:
        assert least[2] <= one[0] and other[2] <= most[0]  # the queries stand between
        assert abs(one[0] + other[2] - width) <= 1
    for a in range(4):
        for b in range(a):
            apart = boxes[a][2] <= boxes[b][0] or boxes[b][2] <= boxes[a][0]
            assert apart or boxes[a][3] <= boxes[b][1] or boxes[b][3] <= boxes[a][1]
    sizes = chromium.execute_script("""return [...document.querySelectorAll('.grid img')].map(
        image => [image.clientWidth, image.clientHeight, image.classList.contains('crisp'), image.naturalWidth])""")
    assert len(sizes) == sum(references) and len({(*row[:2],) for row in sizes}) == 1
    assert sizes[0][0] == sizes[0][1] >= 24
    assert all(crisp == (natural < shown) for shown, _, crisp, natural in sizes)
    inside = chromium.execute_script("""return [...document.querySelectorAll('.sure button')].every(
        button => button.scrollWidth <= button.clientWidth)""")
    assert inside


def test_pictures_of_64_pixels_are_shown_at_whole_multiples_in_a_window_of_1280(tmp_path, chromium):
    run = write_stimulus_run(
        tmp_path / "run", experiments=("natural",), participants=1, pairs=1, practice=0, sizes=((64, 64),)
    )
    resize(chromium, 1280, 800)
    open_trial(chromium, write_trial_page(run, tmp_path / "page.html"), 1)
    shown = "return [...document.querySelectorAll(arguments[0])].map(image => image.clientWidth)"
    assert set(chromium.execute_script(shown, ".grid img")) == {128}
    assert set(chromium.execute_script(shown, ".query img")) == {192}


def test_the_command_writes_the_session_asked_for(run, page, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    answer = command("preview", tmp_path / "run")
    assert (answer.code, answer.out) == (0, f"{tmp_path / 'run' / 'preview.html'}\n")
    assert (tmp_path / "run" / "preview.html").read_bytes() == page.read_bytes()
    load_run(tmp_path / "run")
    words = ("--experiment", "mixed", "--participant", "mixed-002", "--out", tmp_path / "new" / "page.html", "--quiet")
    answer = command("preview", run.path, *words)
    assert (answer.code, answer.err) == (0, "")
    held = embedded(tmp_path / "new" / "page.html")
    wanted = read_sessions(run).query("participant == 'mixed-002'")
    assert (held["experiment"], held["participant"]) == ("mixed", "mixed-002")
    assert [trial["stimulus"] for trial in held["trials"]] == list(wanted["stimulus"])
    assert {trial["feature"] for trial in held["trials"] if trial["phase"] == "practice"} == {None}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--experiment", "natral"), r"--experiment is 'natral', .* \(did you mean 'natural'\?\); there are natural, "),
        (
            ("--participant", "x"),
            r"--participant is 'x', which has no trial list; there are natural-001, natural-002\.",
        ),
        (("--experiment", "mixed", "--participant", "natural-001"), r"there are mixed-001, mixed-002\."),
    ],
)
def test_a_session_that_is_not_there_is_refused(run, tmp_path, words, sentence):
    said = complaint(command("preview", run.path, *words, "--out", tmp_path / "page.html"))
    assert re.search(sentence, said) and not (tmp_path / "page.html").exists()


def test_markup_in_ids_stays_text(tmp_path, browser, chromium):
    odd = '</script><img src=x onerror=alert(1)>,"{{x}}"'
    run = write_stimulus_run(tmp_path / "run", experiments=("natural",), participants=1, pairs=1, practice=0, catch=0)
    stimuli, lists = run.table("stimuli"), run.table("trial_lists")
    stimuli["stimulus"] = odd + stimuli["stimulus"]
    lists["stimulus"] = odd + lists["stimulus"]
    STIMULI.write(run.path, stimuli)
    TRIAL_LISTS.write(run.path, lists.assign(participant=odd))
    page = write_trial_page(run, tmp_path / "page.html")
    assert browser(page).errors == ()
    wait_for(chromium, READY)
    chromium.execute_script("answer('left', 3)")
    wait_for(chromium, "return document.getElementById('answers') !== null")
    (tmp_path / "a.csv").write_text(chromium.execute_script("return table()"))
    rows = pd.read_csv(tmp_path / "a.csv")
    assert list(rows["participant"]) == [odd] and list(rows["stimulus"]) == list(lists["stimulus"])
    assert "/" not in chromium.execute_script("return document.getElementById('answers').download")


def test_screens_of_every_experiment(run, tmp_path, needs_program):
    needs_program("chromium"), needs_program("chromedriver")
    paths = write_screens(run, tmp_path / "screens")
    assert [path.name for path in paths] == ["natural.png", "semantic.png", "mixed.png"]
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (1280, 800) and len(image.getcolors(1 << 20)) > 100
