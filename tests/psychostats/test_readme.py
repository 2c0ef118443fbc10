"""What the README prints runs: its Python as it stands, on smaller data and with fewer draws, and its study file."""

import re

from studies import ROOT, small_report

from psychostats.study import read_study

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language):
    """Return the one code block of a language."""
    (code,) = re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.S)
    return code


def test_the_python_runs(tmp_path_factory, tmp_path):
    code = block("python")
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


def test_the_study_file_is_one(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(block("toml"), encoding="utf-8")
    study = read_study(path)
    assert study.models[0].name == "main" and study.rules().rt_max == 60.0


def test_every_command_and_option_it_prints_exists():
    from typer.main import get_command

    from psychostats.cli import app

    commands = get_command(app).commands
    printed = re.findall(r"^(?:\.venv/bin/)?psychostats (\w+)(.*)$", TEXT, flags=re.M)
    assert len(printed) >= 5
    for name, rest in printed:
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, name
