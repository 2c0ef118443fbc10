"""An export holds what the run holds, whole or not at all, and says what it is."""

import functools
import json
import re
import resource
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from quick import command, complaint
from stimulus_tables import write_stimulus_run

from featurecompute.errors import InputError
from featurecompute.export import export_run
from featurecompute.files import hash_file
from featurecompute.manifest import IMAGES, PICTURES, STIMULI, TRIAL_LISTS
from featurecompute.sessions import read_sessions
from featurecompute.stimuli import images_of
from featurecompute.tasks import read_tasks


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Give a run that no test may change."""
    return write_stimulus_run(tmp_path_factory.mktemp("made") / "run", participants=3, pairs=2)


@pytest.fixture(scope="module", params=["tables", "zimmermann2023"])
def exported(request, run, tmp_path_factory):
    """Give an export of each layout, which no test may change."""
    return export_run(run, tmp_path_factory.mktemp("exported") / request.param, layout=request.param)


@pytest.fixture(scope="module")
def tables(run, tmp_path_factory):
    """Give the tables of the run, which no test may change."""
    return export_run(run, tmp_path_factory.mktemp("tables") / "out")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Tables ------------------------------------------------------------------------------------------------------------


def test_tables_are_those_of_the_run(run, tables):
    for table in (STIMULI, TRIAL_LISTS):
        assert (tables / f"{table.name}.parquet").read_bytes() == (run.path / f"{table.name}.parquet").read_bytes()
    used = images_of(run.table("stimuli"))
    held = PICTURES.read(tables)
    assert held[["image", "sha256"]].sort_values("image").to_numpy().tolist() == (
        run.table("pictures")[["image", "sha256"]].sort_values("image").to_numpy().tolist()
    )
    assert [hash_file(tables / file) for file in held["file"]] == list(held["sha256"])
    images = run.table("images")
    assert IMAGES.read(tables).equals(images[images["image"].isin(used)].reset_index(drop=True))
    assert "set/unused.png" in set(images["image"])
    assert set(contents(tables)) == {
        *("README.md", "export.json", "trials.csv", "images.parquet"),
        *("stimuli.parquet", "trial_lists.parquet", "pictures.parquet"),
        *(f"pictures/{number:06}.png" for number in range(len(used))),
    }


def test_a_number_does_not_tell_which_query_is_right(run, tables):
    # In the run, the target's number is always the lower one: pictures are numbered as they first appear.
    stimuli = run.table("stimuli").query("not `catch`")
    lower = {}
    for folder in (run.path, tables):
        numbers = PICTURES.read(folder).set_index("image")["file"]
        target, distractor = (numbers[stimuli[f"query_{name}"]].to_numpy() for name in ("target", "distractor"))
        lower[folder] = (target < distractor).mean()
    assert lower[run.path] in (0, 1) and 0.3 < lower[tables] < 0.7


def test_the_csv_names_the_pictures_of_every_trial(run, tables):
    rows = pd.read_csv(tables / "trials.csv")
    sessions = read_sessions(run)
    assert len(rows) == len(sessions) and list(rows.columns)[: len(TRIAL_LISTS.columns)] == list(TRIAL_LISTS.columns)
    assert rows[["participant", "trial", "stimulus", "target_side"]].equals(
        sessions[["participant", "trial", "stimulus", "target_side"]]
    )
    pictures = PICTURES.read(tables).set_index("image")["file"]
    for row, session in zip(rows.itertuples(), sessions.itertuples(), strict=True):
        assert getattr(row, session.target_side) == pictures[session.query_target]
        assert {row.left, row.right} == {pictures[session.query_target], pictures[session.query_distractor]}
        for name in ("references_max", "references_min"):
            files = getattr(row, name).split(";")
            assert files == list(pictures[getattr(session, name)])
            assert all((tables / file).is_file() for file in files)


def test_the_readme_says_what_each_column_is(tables):
    text = (tables / "README.md").read_text()
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", text, flags=re.M | re.S))
    for name, section in sections.items():
        path = tables / name
        columns = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        said = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", section, flags=re.M)))
        assert set(said) == set(columns.columns), name
    assert {"trials.csv", "stimuli.parquet", "images.parquet", "pictures.parquet"} == set(sections)
    assert "natural 3, semantic 3, mixed 3" in text


@pytest.mark.parametrize(("made", "kind", "suffix"), [("png", "jpeg", ".jpg"), ("jpeg", "png", ".png")])
def test_pictures_are_converted(tmp_path, made, kind, suffix):
    run = write_stimulus_run(
        tmp_path / "run", experiments=("natural",), participants=1, pairs=1, picture=made, sizes=((48, 48),)
    )
    out = export_run(run, tmp_path / "out", picture=kind)
    held = PICTURES.read(out)
    assert {path.suffix for path in (out / "pictures").iterdir()} == {suffix}
    both = run.table("pictures").sort_values("image"), held.sort_values("image")
    for old, new in zip(*(table.itertuples() for table in both), strict=True):
        assert hash_file(out / new.file) == new.sha256 and old.image == new.image
        with Image.open(run.path / old.file) as before, Image.open(out / new.file) as after:
            difference = np.abs(np.asarray(before, int) - np.asarray(after, int))
        assert difference.mean() < 4 if kind == "jpeg" else not difference.any()


# The layout of 2023 ------------------------------------------------------------------------------------------------


def test_the_layout_of_2023_holds_tasks_and_their_key(run, tmp_path):
    out = export_run(run, tmp_path / "out", layout="zimmermann2023")
    key, tasks = pd.read_csv(out / "key.csv"), read_tasks(out)
    sessions = read_sessions(run).set_index(["participant", "trial"])
    queries = tasks[(tasks["role"] == "query") & (tasks["end"] == "max")].set_index(["task", "trial"])["sha256"]
    sha256 = run.table("pictures").set_index("image")["sha256"]
    assert len(key) == (sessions["phase"] == "main").sum()
    for row in key.itertuples():
        assert queries[row.task, row.task_trial] == sha256[sessions.loc[(row.participant, row.trial), "query_target"]]
    said = set(re.findall(r"`(\w+)`", (out / "README.md").read_text().partition("## key.csv")[2]))
    assert set(key.columns) <= said


def test_the_layout_of_2023_has_png_of_any_run(tmp_path):
    run = write_stimulus_run(tmp_path / "run", experiments=("natural",), participants=1, pairs=1, picture="jpeg")
    out = export_run(run, tmp_path / "out", layout="zimmermann2023")
    with Image.open(out / "natural" / "task_1" / "trials" / "trial_1" / "queries" / "max.png") as image:
        assert image.format == "PNG"
    with pytest.raises(InputError, match="the page of the layout zimmermann2023 asks for png"):
        export_run(run, tmp_path / "other", layout="zimmermann2023", picture="jpeg")


# Whole or not at all -----------------------------------------------------------------------------------------------


def test_the_record_has_the_hash_of_every_file(run, exported):
    record = json.loads((exported / "export.json").read_text())
    assert record["run_id"] == run.record["run_id"] and record["versions"]["run"] == run.record["versions"]
    assert {file["path"]: file["sha256"] for file in record["files"]} == {
        name: hash_file(exported / name) for name in contents(exported) if name != "export.json"
    }


def test_the_same_export_is_the_answer_and_its_bytes_are_the_same_elsewhere(run, exported, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in exported.rglob("*")}
    assert export_run(run, exported, layout=exported.name) == exported
    assert {path: path.stat().st_mtime_ns for path in exported.rglob("*")} == before
    (tmp_path / "empty").mkdir()
    assert contents(export_run(run, tmp_path / "empty", layout=exported.name)) == contents(exported)


def test_a_folder_with_anything_else_is_refused_and_left_alone(run, tables, tmp_path):
    held = tmp_path / "held"
    held.mkdir()
    (held / "precious").write_text("x")
    (tmp_path / "file").write_text("x")
    shutil.copytree(tables, tmp_path / "other")
    for out, options in (
        (held, {}),
        (tmp_path / "file", {}),
        (tmp_path / "other", {"layout": "zimmermann2023"}),
        (tmp_path / "other", {"picture": "jpeg"}),
    ):
        with pytest.raises(InputError, match="does not hold this export"):
            export_run(run, out, **options)
    assert (held / "precious").read_text() == (tmp_path / "file").read_text() == "x"
    assert contents(tmp_path / "other") == contents(tables)
    assert {path.name for path in tmp_path.iterdir()} == {"held", "file", "other"}


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_an_export_that_was_changed_is_not_the_answer(run, tables, tmp_path, damage):
    shutil.copytree(tables, tmp_path / "out")
    path = tmp_path / "out" / "trials.csv"
    path.unlink() if damage == "missing" else path.write_text("x")
    with pytest.raises(InputError, match=r"out holds this export, but trials\.csv is missing or changed"):
        export_run(run, tmp_path / "out")


def test_a_failure_leaves_nothing(tmp_path):
    # The last picture of the last experiment is damaged, so nearly all is written before it is met.
    run = write_stimulus_run(tmp_path / "made" / "run", participants=1, pairs=1)
    (run.path / run.table("pictures")["file"].iloc[-1]).write_bytes(b"x")
    for layout in ("tables", "zimmermann2023"):
        with pytest.raises(InputError, match="is not the file that was written"):
            export_run(run, tmp_path / "out" / "new", layout=layout)
        assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("layout", ["tables", "zimmermann2023"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(run, tmp_path, layout):
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (2000, 2000))
    done = subprocess.run(
        [sys.executable, "-m", "featurecompute.cli", "export", str(run.path), "--out", "new", "--layout", layout],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: new\S* cannot be written: .*File too large\.\n", done.stderr), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing_and_promises_nothing(run, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TRIAL_LISTS.__class__, "write", interrupt)
    answer = command("export", run.path, "--out", tmp_path / "new")
    assert (answer.code, answer.out, answer.err) == (130, "", "\ninterrupted; nothing was written.\n")
    assert list(tmp_path.iterdir()) == []


# The command -------------------------------------------------------------------------------------------------------


def test_the_command_ends_with_the_folder(run, tables, tmp_path):
    answer = command("export", run.path, "--out", tmp_path / "out")
    assert (answer.code, answer.out) == (0, f"{tmp_path / 'out'}\n") and "README.md" in answer.err
    assert contents(tmp_path / "out") == contents(tables)
    again = command("export", run.path, "--out", tmp_path / "out", "--quiet")
    assert (again.code, again.out, again.err) == (0, f"{tmp_path / 'out'}\n", "")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--layout", "tasks"), "--layout is 'tasks'; allowed are tables and zimmermann2023."),
        (("--picture", "gif"), "--picture is 'gif'; allowed are png and jpeg."),
    ],
)
def test_words_that_are_not_known_are_refused(run, tmp_path, options, sentence):
    assert complaint(command("export", run.path, "--out", tmp_path / "new", *options)) == sentence
    assert not (tmp_path / "new").exists()


def test_a_run_without_stimuli_is_a_sentence(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "stimuli.parquet").unlink()
    for words in (("export", "--out", tmp_path / "new"), ("preview",)):
        said = complaint(command(words[0], tmp_path / "run", *words[1:]))
        assert said == f"{tmp_path / 'run'} has no stimuli: the study file has no table [stimuli]."
    assert not (tmp_path / "new").exists() and not (tmp_path / "run" / "preview.html").exists()
