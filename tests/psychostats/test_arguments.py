"""Words of the command line into values."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from psychostats.arguments import read_duration, read_filters, read_mapping, read_values, spread
from psychostats.design import Coding, code
from psychostats.errors import InputError
from psychostats.formula import parse_formula


@pytest.fixture
def coding() -> Coding:
    data = pd.DataFrame({"y": [0, 1] * 4, "x": range(8), "k": list("abab") + list("ccab"), "z": [1.5, 2.0] * 4})
    return code(parse_formula("y ~ x + k + z"), data)


def test_names_are_mapped_and_blanks_left_out() -> None:
    assert read_mapping(["participant=who", " trial = n =2 "]) == {"participant": "who", "trial": "n =2"}
    assert read_mapping([]) == {}


@pytest.mark.parametrize("text", ["participant", "=who", "participant=", " = "])
def test_a_mapping_that_cannot_be_read_says_how(text: str) -> None:
    with pytest.raises(InputError, match=f"--map '{text}' cannot be read; write new=old"):
        read_mapping([text])


def test_filters_gather_their_values() -> None:
    asked = ["phase=main, repeat", "experiment=one", "phase=practice"]
    assert read_filters(asked) == {"phase": ["main", "repeat", "practice"], "experiment": ["one"]}
    with pytest.raises(InputError, match="--filter 'phase' cannot be read"):
        read_filters(["phase"])


def test_durations_have_units() -> None:
    given = {"90": 90.0, "90s": 90.0, " 10m ": 600.0, "2h": 7200.0, "1.5H": 5400.0, ".5": 0.5, "1e3": 1000.0}
    assert {text: read_duration(text) for text in given} == given


@pytest.mark.parametrize("text", ["", "s", "0", "0m", "-5", "soon", "5 days", "1h30m", "inf", "nan", "1e999"])
def test_a_duration_that_cannot_be_read_says_how(text: str) -> None:
    with pytest.raises(InputError, match=f"--budget '{text}' cannot be read; write a time above 0, for example 90s, 1"):
        read_duration(text)


def test_values_are_numbers_or_levels_as_the_predictor_is(coding: Coding) -> None:
    asked = read_values(["x=0, 0.5,1e1", "k=a,c"], coding)
    assert asked == {"x": [0.0, 0.5, 10.0], "k": ["a", "c"]}
    assert read_values(["k"], coding) == {"k": ["a", "b", "c"]}  # a factor alone takes all levels
    assert read_values(["other=1"], coding) == {"other": ["1"]}  # refused later, where predictors are known
    assert read_values(["z=-1"], coding) == {"z": [-1.0]}


@pytest.mark.parametrize(
    ("by", "words"),
    [
        (["x"], "--by 'x' cannot be read; write name=value,value"),
        (["x="], "--by 'x=' cannot be read"),
        (["=1"], "--by '=1' cannot be read"),
        (["x=deep"], "x is numeric; give numbers"),
        (["x=1,,2"], "x is numeric; give numbers"),
        (["x=1", "x=2"], "--by names 'x' twice"),
        (["k", "k=a"], "--by names 'k' twice"),
        (["k=a", "k"], "--by names 'k' twice"),
    ],
)
def test_values_that_cannot_be_read_say_how(by: list[str], words: str, coding: Coding) -> None:
    with pytest.raises(InputError, match=words):
        read_values(by, coding)


@pytest.mark.parametrize("option", ["--map", "--by", "--filter"])
def test_an_option_is_repeated_before_each_of_its_values(option: str) -> None:
    assert spread(["fit", option, "a=b", "c=d", "--quiet"]) == ["fit", option, "a=b", option, "c=d", "--quiet"]
    assert spread(["fit", option, "a=b", "file.csv"]) == ["fit", option, "a=b", "file.csv"]


def test_other_options_and_files_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spread(["fit", "--formula", "y ~ x", "a=b"]) == ["fit", "--formula", "y ~ x", "a=b"]
    assert spread([]) == []
    monkeypatch.chdir(tmp_path)
    Path("run=1.csv").write_text("a")
    assert spread(["fit", "--map", "a=b", "run=1.csv"]) == ["fit", "--map", "a=b", "run=1.csv"]
