"""A simulated study on disk: it says that it is simulated, it is the committed one, and it replaces nothing foreign."""

import re

import pytest
from studies import ROOT, SMALL

from psychostats.columns import analysed
from psychostats.errors import InputError
from psychostats.simulation import FIRST_LINE, describe_simulation, write_simulation
from psychostats.study import read_study

COLIN = ROOT / "data" / "studies" / "colin2024.toml"
COMMITTED = ROOT / "data" / "colin2024_simulated"


@pytest.fixture(scope="module")
def small():
    return read_study(SMALL)


def test_the_committed_trials_are_those_of_the_committed_study_byte_for_byte(tmp_path):
    count, readme = write_simulation(read_study(COLIN), tmp_path / "trials.csv")
    assert count == 560 * 35
    assert (tmp_path / "trials.csv").read_bytes() == (COMMITTED / "trials.csv").read_bytes()
    assert readme.read_bytes() == (COMMITTED / "README.md").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"trials.csv", "README.md"}


def test_the_committed_study_has_its_people_and_trials():
    study = read_study(COLIN)
    trials = study.read(COMMITTED / "trials.csv")
    people = trials.groupby("experiment", observed=True)["participant"].nunique()
    assert people.to_dict() == {"natural": 187, "semantic": 187, "mixed": 186}
    main = analysed(trials)
    assert (trials[main].groupby("participant").size() == 27).all()
    assert (trials[trials["catch"]].groupby("participant").size() == 3).all()
    assert (trials[trials["phase"] == "practice"].groupby("participant").size() == 5).all()
    assert trials[main]["pair"].nunique() == 80
    assert study.study.simulated


def test_the_readme_says_first_that_no_one_is_a_person(tmp_path, small):
    _, readme = write_simulation(small, tmp_path / "new" / "people.parquet")
    text = readme.read_text(encoding="utf-8")
    assert text.splitlines()[0] == FIRST_LINE
    assert "simulated" in FIRST_LINE.lower()
    for terms in small.plan().truth.values():
        for term, value in terms.items():
            assert f"| `{term}` | {value:g} | {value:g} |" in text
    assert r"| `design.pairs` | assumed | few \| quick |" in text  # a bar in a note would end the cell
    assert "768 simulated trials of 48 simulated participants in 2 experiments (first 24, second 24)" in text


def test_rates_are_not_rounded_to_other_rates(small):
    table = small.simulate.model_copy(update={"catch_accuracy": 0.985, "missing_rate": 0.0025})
    text = describe_simulation(small.model_copy(update={"simulate": table}), "t.csv", small.simulated_trials())
    assert "98.5% of catch" in text
    assert "0.25% of main trials" in text


def test_the_command_in_the_readme_gives_the_same_trials(tmp_path, small):
    write_simulation(small, tmp_path / "a" / "trials.csv", seed=11)
    text = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    command = re.search(r"psychostats simulate --study small.toml --out trials.csv --seed (\d+)", text)
    assert command
    assert f"seed {command[1]}" in text
    write_simulation(small, tmp_path / "b" / "trials.csv", seed=int(command[1]))
    assert (tmp_path / "a" / "trials.csv").read_bytes() == (tmp_path / "b" / "trials.csv").read_bytes()
    write_simulation(small, tmp_path / "c" / "trials.csv")
    assert (tmp_path / "a" / "trials.csv").read_bytes() != (tmp_path / "c" / "trials.csv").read_bytes()


def test_a_simulation_replaces_itself_and_nothing_else(tmp_path, small):
    out = tmp_path / "trials.csv"
    write_simulation(small, out, seed=1)
    before = out.read_bytes()
    write_simulation(small, out, seed=2)
    assert out.read_bytes() != before
    real = tmp_path / "real.csv"
    real.write_text("participant\n1\n")
    with pytest.raises(InputError, match=r"real.csv would be replaced, and no README says that it is simulated"):
        write_simulation(small, real)
    assert real.read_text() == "participant\n1\n"


@pytest.mark.parametrize("content", [b"# Our lab's data\n", b"\xff\xfe not UTF-8"])
def test_a_readme_of_something_else_stays(tmp_path, small, content):
    (tmp_path / "README.md").write_bytes(content)
    with pytest.raises(InputError, match=r"README.md is not of a simulation and would be replaced"):
        write_simulation(small, tmp_path / "trials.csv")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"README.md": content}


def test_places_that_cannot_be_written_are_named(tmp_path, small):
    with pytest.raises(InputError, match=r"ends in '\.xlsx'; trials are written as \.csv or \.parquet"):
        write_simulation(small, tmp_path / "trials.xlsx")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"trials.csv cannot be written"):
        write_simulation(small, tmp_path / "file" / "trials.csv")
    (tmp_path / "README.md").write_text(f"{FIRST_LINE} `folder.csv` holds nothing")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=r"folder.csv cannot be written"):
        write_simulation(small, tmp_path / "folder.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "README.md", "folder.csv"}


def test_nothing_is_written_for_a_study_that_cannot_be_simulated(tmp_path, small):
    lacking = small.model_copy(update={"simulate": None})
    with pytest.raises(InputError, match=r"has no \[simulate\] table"):
        write_simulation(lacking, tmp_path / "new" / "trials.csv")
    wrong = small.model_copy(update={"design": small.design.model_copy(update={"main": 99})})
    with pytest.raises(InputError, match="99 main trials a person need as many pairs"):
        write_simulation(wrong, tmp_path / "new" / "trials.csv")
    assert not list(tmp_path.iterdir())


def test_a_second_simulation_does_not_replace_what_is_said_of_the_first(tmp_path):
    study = read_study(SMALL)
    write_simulation(study, tmp_path / "a.csv")
    before = (tmp_path / "README.md").read_bytes()
    with pytest.raises(InputError, match="of another simulation and would be lost"):
        write_simulation(study, tmp_path / "b.csv")
    assert (tmp_path / "README.md").read_bytes() == before and not (tmp_path / "b.csv").exists()
