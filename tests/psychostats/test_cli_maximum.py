"""Maximum likelihood from the command line: what is written, printed, warned of, refused, and what is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from deviations import FOLDER
from studies import ROOT, contents

import psychostats as ps
from psychostats.draws import TERM_COLUMNS
from psychostats.effects import EFFECT_COLUMNS

DATA = FOLDER / "data"
FEW = "correct ~ representation * depth + (1 | participant)"
LAPLACE = ("--engine", "laplace")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("maximum")


@pytest.fixture
def made(shared: Path, run) -> Path:
    """Give the directory of a fit that the command wrote."""
    if not (shared / "fit").exists():
        answer = run("fit", DATA / "few.csv", "--formula", FEW, *LAPLACE, "--out", shared / "fit")
        assert answer.code == 0
        assert answer.err.splitlines() == [
            f"fitting {FEW} to 480 rows by maximum likelihood",
            f"written to {shared / 'fit'}",
        ]
    return shared / "fit"


# -- What is written and printed ---------------------------------------------------------------------------------------


def test_a_directory_holds_what_the_contract_says(made: Path) -> None:
    assert set(contents(made)) == {"spec.toml", "summary.csv", "draws.nc", "provenance.json", "timings.json"}
    spec = tomllib.loads((made / "spec.toml").read_text("utf-8"))
    assert spec["likelihood"] == {"reml": False, "quadrature": 1}
    table = pd.read_csv(made / "summary.csv")
    assert tuple(table.columns) == TERM_COLUMNS
    assert table["term"].tolist() == [
        "b_Intercept",
        "b_representationdistributed",
        "b_depth",
        "b_representationdistributed:depth",
        "sd_participant__Intercept",
    ]
    assert set(table["interval"]) == {"wald"} and table[["rhat", "ess_bulk", "ess_tail"]].isna().all(axis=None)
    assert set(table["class"]) == {"b", "sd"}
    provenance = json.loads((made / "provenance.json").read_text("utf-8"))
    assert provenance["engine"] == "laplace" and provenance["converged"] is True and provenance["priors"] == []
    timings = json.loads((made / "timings.json").read_text("utf-8"))
    assert all(seconds >= 0 for seconds in timings.values()) and "maximise" in timings


def test_the_summary_s_json_is_that_of_the_contract(made: Path, run) -> None:
    found = run("summary", made, "--json").data
    assert list(found) == [
        *("schema", "fit", "interval", "sampler", "likelihood", "converged", "checks", "priors", "terms", "warnings"),
    ]
    assert list(found["fit"]) == [
        *("path", "engine", "engine_reason", "formula", "family", "link", "guess", "lapse", "n_trials", "n_dropped"),
        *("groups", "levels", "coding", "covariance"),
    ]
    assert (found["fit"]["engine"], found["fit"]["engine_reason"]) == ("laplace", "asked for")
    assert (found["fit"]["n_trials"], found["fit"]["groups"]) == (480, {"participant": 8})
    assert found["interval"] == {"kind": "wald", "probability": 0.95, "label": "95 % Wald confidence interval"}
    assert list(found["sampler"]) == ["chains", "draws", "tune", "seed", "divergences", "treedepth_hits"]
    assert set(found["sampler"].values()) == {None}
    assert list(found["likelihood"]) == ["logLik", "df", "nobs", "AIC", "BIC", "REML", "singular", "singular_terms"]
    golden = json.loads((FOLDER / "fits.json").read_text("utf-8"))["few_intercept"]
    for key in ("logLik", "AIC", "BIC"):
        assert found["likelihood"][key] == pytest.approx(golden[key], abs=1e-8)
    assert (found["likelihood"]["df"], found["likelihood"]["nobs"]) == (5, 480)
    assert (found["likelihood"]["singular"], found["likelihood"]["singular_terms"]) == (False, [])
    assert found["converged"] is True and found["priors"] == found["warnings"] == found["checks"] == []
    assert tuple(found["terms"][0]) == TERM_COLUMNS
    assert found["terms"][0]["rhat"] is None
    stored = ps.load_fit(made).terms()
    assert [row["estimate"] for row in found["terms"]] == stored["estimate"].tolist()  # full precision
    random = run("summary", made, "--random", "--json").data["terms"]
    assert next(row["term"] for row in random if row["class"] == "r") == "r_participant[p01,Intercept]"
    assert len(random) == len(found["terms"]) + 8


def test_the_text_has_the_numbers_and_how_they_were_made(made: Path, run) -> None:
    text = run("summary", made).out
    for words in (
        "logLik -286.9762 (df 5, 480 observations)",
        "maximum likelihood by Laplace's approximation",
        "p_value",
    ):
        assert words in text
    assert "Priors" not in text and "rhat" not in text and "NOT CONVERGED" not in text


def test_effects_have_the_columns_of_the_contract_and_no_share_of_draws(made: Path, run) -> None:
    answer = run("effects", made, "representation", "--by", "depth=0,1", "--contrast", "pairwise", "--json")
    assert (answer.code, answer.err) == (0, "")
    for row in answer.data:
        assert list(row) == ["term", "contrast", "depth", *EFFECT_COLUMNS]
        assert [row[name] for name in ("pd", "rope_low", "rope_high", "rope_share")] == [None] * 4
        assert row["interval"] == "wald" and row["conf_low"] < row["estimate"] < row["conf_high"] and row["sd"] > 0
    assert {row["target"] for row in answer.data} == {"typical", "population"}
    assert {row["scale"] for row in answer.data} == {"response", "difference", "odds_ratio"}
    own = ps.contrasts(ps.load_fit(made), "representation", by={"depth": [0, 1]})
    assert [row["estimate"] for row in answer.data if row["contrast"]] == own["estimate"].tolist()
    text = run("effects", made, "representation", "--contrast", "pairwise").out
    assert "sd by the delta method" in text and "pd" not in text.split() and "rope_share" not in text


def test_a_second_call_is_answered_from_disk(made: Path, run) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.iterdir()}
    again = run("fit", DATA / "few.csv", "--formula", FEW, *LAPLACE, "--out", made)
    assert again.code == 0
    assert again.err == f"{made} already holds this fit; nothing was computed.\n"
    assert again.out == run("summary", made).out
    assert {path: path.stat().st_mtime_ns for path in made.iterdir()} == before
    # The sampler's settings are none of its own; the number of nodes is.
    assert (
        "already holds" in run("fit", DATA / "few.csv", "--formula", FEW, *LAPLACE, "--out", made, "--draws", "9").err
    )
    other = run("fit", DATA / "few.csv", "--formula", FEW, *LAPLACE, "--quadrature", "5", "--out", made)
    assert other.code == 2 and "holds another fit" in other.err
    assert {path: path.stat().st_mtime_ns for path in made.iterdir()} == before


def test_the_same_trials_give_the_same_bytes(made: Path, tmp_path: Path, run) -> None:
    assert run("fit", DATA / "few.csv", "--formula", FEW, *LAPLACE, "--out", tmp_path / "b", "--quiet").code == 0
    one, two = contents(made), contents(tmp_path / "b")
    assert {name for name in one if one[name] != two[name]} <= {"timings.json", "provenance.json"}  # seconds, command


def test_restricted_likelihood_and_quadrature_are_recorded(tmp_path: Path, run) -> None:
    arguments = ("--formula", "y ~ f + x + (1 | participant)", "--family", "gaussian", "--reml", *LAPLACE)
    found = run("fit", DATA / "gaussian.csv", *arguments, "--out", tmp_path / "reml", "--json").data
    assert found["likelihood"]["REML"] is True and found["fit"]["link"] == "identity"
    assert found["terms"][-1]["term"] == "sigma" and found["terms"][-1]["class"] == "family"
    assert "REML logLik" in run("summary", tmp_path / "reml").out
    run("fit", DATA / "few.csv", "--formula", FEW, *LAPLACE, "--quadrature", "11", "--out", tmp_path / "nodes")
    assert "adaptive quadrature with 11 nodes" in run("summary", tmp_path / "nodes").out


# -- What is warned of -------------------------------------------------------------------------------------------------


def test_a_singular_fit_stands_with_a_warning(tmp_path: Path, run) -> None:
    formula = "correct ~ f * x + (1 | participant) + (1 | block)"
    answer = run("fit", DATA / "terms.csv", "--formula", formula, *LAPLACE, "--out", tmp_path / "fit", "--json")
    assert answer.code == 0
    assert "sd_block__Intercept" in answer.err
    assert answer.data["converged"] is True
    assert answer.data["likelihood"]["singular_terms"] == ["sd_block__Intercept"]
    row = next(row for row in answer.data["terms"] if row["term"] == "sd_block__Intercept")
    assert (row["estimate"], row["sd"], row["conf_low"]) == (0, None, None)
    again = run("summary", tmp_path / "fit", "--json", "--quiet")
    assert (again.code, again.err) == (0, "") and again.data["warnings"] == answer.data["warnings"] != []
    effects = run("effects", tmp_path / "fit", "f", "--json")
    assert effects.code == 0 and "sd_block__Intercept" in effects.err


# -- What is refused ---------------------------------------------------------------------------------------------------


def refused(answer, code: int, words: str, out: Path) -> None:
    assert (answer.code, answer.out) == (code, "")
    assert "error: " in answer.err and words in answer.err
    assert "Traceback" not in answer.err
    assert not out.exists() and list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("afc.csv", "--family", "afc", "--reml", *LAPLACE), "REML is for the family gaussian"),
        (("few.csv", "--reml", *LAPLACE), "REML is for the family gaussian"),
        (("few.csv", "--prior", "b ~ normal(0, 1)", *LAPLACE), "maximum likelihood takes no priors"),
        (("few.csv", "--family", "lognormal", *LAPLACE), "maximum likelihood cannot fit the family lognormal"),
        (("few.csv", "--family", "gaussian", "--quadrature", "5", *LAPLACE), "the family gaussian is exact"),
        (("few.csv", "--quadrature", "0", *LAPLACE), "0 nodes of quadrature are asked for"),
        (("few.csv", "--quadrature", "1000", *LAPLACE), "1000 nodes of quadrature are asked for"),
        (("few.csv", "--quadrature", "5"), "add --engine laplace"),
        (("few.csv", "--reml"), "add --engine laplace"),
        (("few.csv", "--lapse", "estimate", *LAPLACE), "maximum likelihood cannot estimate the lapse rate"),
        (("few.csv", "--family", "lognormal", *LAPLACE), "lognormal"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_does_not_go_together_is_exit_2(arguments: tuple[str, ...], words: str, tmp_path: Path, run) -> None:
    file, *options = arguments
    out = tmp_path / "fit"
    answer = run("fit", DATA / file, "--formula", "correct ~ depth + (1 | participant)", *options, "--out", out)
    refused(answer, 2, words, out)


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("correct ~ depth + (1 | participant) + (1 | pair)", "for one group effect with one term"),
        ("correct ~ depth + (1 + depth | participant)", "for one group effect with one term"),
    ],
)
def test_quadrature_is_for_one_dimension(formula: str, words: str, tmp_path: Path, run) -> None:
    out = tmp_path / "fit"
    answer = run("fit", DATA / "crossed3.csv", "--formula", formula, *LAPLACE, "--quadrature", "5", "--out", out)
    refused(answer, 2, words, out)


@pytest.mark.parametrize(
    "formula",
    [
        "correct ~ __import__('os').system('id')",
        "correct ~ __import__('os').system('touch pwned')",
        "correct ~ I(__import__('os').system('touch pwned'))",
        'correct ~ depth + (1 + exec(\'open("pwned", "w")\') | participant)',
    ],
)
def test_a_formula_that_is_a_program_is_not_run(formula: str, tmp_path: Path, monkeypatch, run) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "fit"
    refused(run("fit", DATA / "few.csv", "--formula", formula, *LAPLACE, "--out", out), 2, "formula", out)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.assign(correct=(d["representation"] == "local").astype(int)), "separate"),
        (lambda d: d.assign(correct=d["correct"].where(d["representation"] == "local", 1)), "separates right answers"),
        (lambda d: d.assign(correct=1), "all answers are right"),
    ],
)
def test_separated_answers_have_no_maximum(change, words: str, tmp_path: Path, run) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    change(pd.read_csv(DATA / "few.csv")).to_csv(tmp_path / "trials.csv", index=False)
    formula = "correct ~ representation + (1 | participant)"
    answer = run("fit", tmp_path / "trials.csv", "--formula", formula, *LAPLACE, "--out", folder / "fit")
    refused(answer, 3, words, folder / "fit")
    assert "use --engine pymc" in answer.err


# -- What is left behind -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spec.toml", "summary.csv", "draws.nc", "provenance.json"])
def test_a_file_that_was_changed_is_found(name: str, tmp_path: Path, run) -> None:
    out = tmp_path / "fit"
    call = ("fit", DATA / "few.csv", "--formula", "correct ~ depth + (1 | participant)", *LAPLACE, "--quiet")
    assert run(*call, "--out", out).code == 0
    whole = (out / name).read_bytes()
    place = whole.index(b"p01") if name == "draws.nc" else len(whole) // 2
    (out / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    for command in (
        ("summary", out),
        ("effects", out, "depth"),
        ("compare", out, out.parent / "other"),
        (*call, "--out", out),
    ):
        answer = run(*command)
        assert (answer.code, answer.out) == (2, ""), command
        assert name in answer.err and "damaged" in answer.err, command
    (out / name).unlink()
    assert run("summary", out).code == 2
    # What is no fit any more is not replaced: it could be anything.
    assert run(*call, "--out", out, "--overwrite").code == (2 if name == "provenance.json" else 0)


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    n = 40_000
    frame = pd.DataFrame({"a": rng.integers(0, 300, n), "b": rng.integers(0, 250, n), "x": rng.normal(size=n)})
    frame["a"], frame["b"] = "a" + frame["a"].astype(str), "b" + frame["b"].astype(str)
    frame.assign(correct=rng.integers(0, 2, n)).to_csv(tmp_path / "trials.csv", index=False)
    folder = tmp_path / "out"
    folder.mkdir()
    command = [sys.executable, "-m", "psychostats.cli", "fit", str(tmp_path / "trials.csv"), *LAPLACE]
    command += ["--formula", "correct ~ x + (1 + x | a) + (1 + x | b)", "--out", str(folder / "fit")]
    for stop in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", cwd=ROOT
        ) as running:
            assert running.stderr is not None and running.stdout is not None
            while not running.stderr.readline().startswith("fitting "):
                assert running.poll() is None
            time.sleep(0.3)
            running.send_signal(stop)
            said, out = running.stderr.read(), running.stdout.read()
        assert (running.returncode, out) == (130, "")
        assert said.splitlines()[-1] == "interrupted; nothing half-written is left." and "Traceback" not in said
        assert list(folder.iterdir()) == []
