"""What the README prints runs: its Python as it stands, on smaller data and with fewer draws, and its study file."""

import importlib
import re

import pytest
from runs import make_run
from studies import ROOT, small_report

import psychostats as ps
from psychostats.study import read_study

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language, table=""):
    """Return the one code block of a language that holds a text."""
    (code,) = [code for code in re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.S) if table in code]
    return code


def test_the_python_runs(tmp_path_factory, tmp_path):
    code = block("python", "import psychostats as ps")
    for old, new in {
        '"data/colin2024_simulated/trials.csv"': repr(str(small_report(tmp_path_factory).trials)),
        '"natural"': '"first"',
        '"fits/main"': repr(str(tmp_path / "main")),
        'family="afc",': 'family="afc", draws=20, tune=20, chains=2, progress=False,',
    }.items():
        assert old in code
        code = code.replace(old, new)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["fit"].path == tmp_path / "main" and len(names["kept"]) > 200


def test_the_python_that_joins_a_run_runs(tmp_path):
    folder = make_run(tmp_path / "scenes")
    lists = ps.read_run(folder).table("trial_lists").assign(correct=lambda table: (table.index % 4 > 0).astype(int))
    lists[["participant", "trial", "phase", "catch", "stimulus", "correct"]].to_csv(
        tmp_path / "trials.csv", index=False
    )
    code = block("python", "ps.read_run(")
    for old, new in {
        '"reports/scenes"': repr(str(folder)),
        '"trials.csv"': repr(str(tmp_path / "trials.csv")),
        'family="afc"': 'family="afc", engine="laplace"',
    }.items():
        assert old in code
        code = code.replace(old, new)
    exec(compile(code, "README.md", "exec"), {"ps": ps})


def test_the_study_file_is_one(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(block("toml", "[[models]]"), encoding="utf-8")
    study = read_study(path)
    assert study.models[0].name == "main" and study.rules().rt_max == 60.0


def test_the_study_file_of_the_features_half_is_one(tmp_path):
    from featurecompute.study import read_study as read_features

    path = tmp_path / "study.toml"
    path.write_text(block("toml", "[network]"), encoding="utf-8")
    study = read_features(path)
    assert study.network.name == "resnet50" and study.features.scan == "bf16" and not study.features.windows


@pytest.mark.parametrize("program, least", [("psychostats", 5), ("featurecompute", 2)])
def test_every_command_and_option_it_prints_exists(program, least):
    from typer.main import get_command

    commands = get_command(importlib.import_module(f"{program}.cli").app).commands
    printed = re.findall(rf"^(?:\.venv/bin/)?{program} (\w+)([^#\n]*).*$", TEXT, flags=re.M)
    assert len(printed) >= least
    for name, rest in printed:
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, name


def test_the_gallery_names_the_studies_that_there_are():
    section = TEXT.partition("## Gallery")[2].partition("\n## ")[0]
    named = re.findall(r"\]\(data/studies/(\w+)\.toml\)", section)
    offered = re.search(r"study=(\w+) +# or (.*)", section)
    assert named == ["colin2024", "detection", "groups", "confidence", "response_time"]
    assert [offered[1], *offered[2].split(", ")] == named[1:]
    for name in named:
        assert read_study(ROOT / "data" / "studies" / f"{name}.toml").study.simulated
    assert "simulated" in section
