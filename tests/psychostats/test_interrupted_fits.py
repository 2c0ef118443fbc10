"""A fit that was interrupted: what is kept of it, how that is said, and what replaces it.

In this process interruptions are real signals too, sent by a timer; the trials are simulated.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import psychostats as ps
from psychostats import netcdf, nuts
from psychostats.engines import LEAST_KEPT
from psychostats.kfold import kfold

pytestmark = [
    pytest.mark.skipif(not nuts.available(), reason="the fast sampler was not compiled"),
    # Where the interruption falls into the making of a library's object, that complains when it is dropped.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).parents[2]
FORMULA = "correct ~ depth + (1 | participant)"
MANY = 20_000


def simulated(rows: int) -> pd.DataFrame:
    """Return answers of 12 people, no two rows alike, so that they are as many cells."""
    rng = np.random.default_rng(3)
    person = rng.integers(0, 12, rows)
    frame = pd.DataFrame({"participant": [f"person{i:02d}" for i in person], "depth": rng.random(rows)})
    logit = rng.normal(0.0, 0.7, 12)[person] + frame["depth"]
    return frame.assign(correct=(rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int))


def begin(out: Path | None = None, **changed: Any) -> ps.Fit:
    options: dict[str, Any] = {"draws": MANY, "progress": False} | changed
    frame = simulated(options.pop("rows", 3000))  # so many that sampling takes far longer than its start
    return ps.fit(FORMULA, frame, engine="nuts", out=out, **options)


@contextlib.contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Send this process SIGINT, unless the block ends before; again, if compiled code swallows it."""
    listening = [True]

    def hear(*_: object) -> None:
        if listening:  # one that comes too late is nobody's
            raise KeyboardInterrupt

    def send() -> None:
        if listening:
            os.kill(os.getpid(), signal.SIGINT)

    def again(_: object) -> None:
        threading.Timer(0.02, send).start()

    # Not the handler and the hook of the commands, which remember an interruption for ever.
    before, hook = signal.signal(signal.SIGINT, hear), sys.unraisablehook
    timer, sys.unraisablehook = threading.Timer(seconds, send), again
    timer.start()
    try:
        yield
    finally:
        listening.clear()
        timer.cancel()
        timer.join()
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, before)


def stop(call: Callable[[], object], least: int = LEAST_KEPT) -> ps.Interrupted:
    """Interrupt a fit ever later, until it has so many draws a chain."""
    for times in range(20):
        try:
            with interrupted_after(0.05 * 1.4**times):
                call()
        except ps.Interrupted as stopped:
            assert isinstance(stopped.fit, ps.Fit)
            if stopped.fit.kept >= least:
                return stopped
        except KeyboardInterrupt:
            pass
    raise AssertionError("no interruption found enough draws")


# --- In Python --------------------------------------------------------------------------------------------------------


def test_draws_made_so_far_are_written_and_marked_and_the_next_run_replaces_them(tmp_path: Path) -> None:
    out = tmp_path / "fit"
    stopped = stop(lambda: begin(out))
    made = stopped.fit
    assert isinstance(made, ps.Fit) and made.path == out
    assert LEAST_KEPT <= made.kept < MANY
    assert str(stopped) == (
        f"interrupted; {made.kept:,} of 20,000 draws a chain are kept in {out}, and the same call draws all of them."
    )
    assert made.provenance["interrupted"] == {"asked": MANY, "kept": made.kept}
    there = ps.load_fit(out)
    assert there.interrupted and there.kept == made.kept and there.draws_table.posterior.sizes["chain"] == 4
    said = f"Interrupted: {made.kept} of {MANY} draws a chain are there: fit again to draw all of them."
    assert there.warnings[0] == said
    assert there.summary()["sampler"]["draws"] == made.kept and said in there.summary()["warnings"]
    assert [path.name for path in tmp_path.iterdir()] == ["fit"]
    again = begin(out)
    assert not again.reused and not again.interrupted and again.kept == MANY
    np.testing.assert_array_equal(
        again.draws_table.posterior["b"][:, : made.kept].to_numpy(), there.draws_table.posterior["b"].to_numpy()
    )
    assert begin(out).reused


def test_a_shorter_piece_does_not_replace_a_longer_one(tmp_path: Path) -> None:
    out = tmp_path / "fit"
    first = stop(lambda: begin(out), least=1500).fit
    second = stop(lambda: begin(out)).fit
    assert isinstance(first, ps.Fit) and isinstance(second, ps.Fit)
    assert ps.load_fit(out).kept == second.kept >= first.kept


def test_another_fit_in_the_same_place_is_still_refused(tmp_path: Path) -> None:
    stop(lambda: begin(tmp_path / "fit"))
    with pytest.raises(ps.FitError, match="holds another fit"):
        begin(tmp_path / "fit", draws=100)
    assert not begin(tmp_path / "fit", draws=100, overwrite=True).interrupted


def test_without_a_directory_the_interruption_holds_the_fit() -> None:
    stopped = stop(begin)
    assert isinstance(stopped.fit, ps.Fit) and stopped.fit.path is None
    assert str(stopped).endswith(" of 20,000 draws a chain are kept, and the same call draws all of them.")
    assert len(stopped.fit.terms()) == 3


def test_too_few_draws_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as stopped, interrupted_after(1.0):
        begin(tmp_path / "fit", tune=1_000_000)  # it is warming up
    assert not isinstance(stopped.value, ps.Interrupted) and list(tmp_path.iterdir()) == []


def test_who_runs_many_fits_keeps_none_that_is_unfinished(tmp_path: Path) -> None:
    for seconds in (0.3, 0.6):
        with pytest.raises(KeyboardInterrupt) as stopped, interrupted_after(seconds):
            begin(tmp_path / "fit", keep=False, draws=500_000)
        assert not isinstance(stopped.value, ps.Interrupted) and list(tmp_path.iterdir()) == []


def test_a_second_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing = []

    def interrupt(*_: object) -> None:
        writing.append(True)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(netcdf, "write", interrupt)
    for times in range(10):
        with pytest.raises(KeyboardInterrupt) as stopped, interrupted_after(0.05 * 2**times):
            begin(tmp_path / "fit", draws=500_000)
        assert not isinstance(stopped.value, ps.Interrupted) and list(tmp_path.iterdir()) == []
        if writing:
            return
    raise AssertionError("no interruption found draws to write")


def test_folds_draw_as_the_engine_of_the_fit_does_and_end_when_interrupted() -> None:
    made = begin(draws=200, rows=600)
    assert len(kfold(made, folds=2).fold) == 600
    long = begin(draws=5000, rows=600)
    with pytest.raises(KeyboardInterrupt) as stopped, interrupted_after(0.2):
        kfold(long, folds=200)
    assert not isinstance(stopped.value, ps.Interrupted)


# --- As commands ------------------------------------------------------------------------------------------------------


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "psychostats.cli", *map(str, arguments)]


def interrupt(arguments: list[str], first: str, seconds: float, number: int) -> tuple[int | None, str, str]:
    """Interrupt a command so many seconds after it said its first line that begins so."""
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdout=pipe, stderr=pipe, encoding="utf-8", cwd=ROOT) as running:
        assert running.stderr is not None and running.stdout is not None
        while not running.stderr.readline().startswith(first):
            assert running.poll() is None
        time.sleep(seconds)
        running.send_signal(number)
        said, out = running.stderr.read(), running.stdout.read()
    assert "Traceback" not in said
    return running.returncode, out, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_interrupted_says_what_it_keeps_and_later_commands_say_it(
    number: int, tmp_path: Path, run: Callable[..., Any]
) -> None:
    simulated(15_000).to_csv(tmp_path / "trials.csv", index=False)
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "fit"
    call = command("fit", tmp_path / "trials.csv", "--formula", FORMULA, "--engine", "nuts", "--out", out)
    for seconds in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0):
        code, printed, said = interrupt([*call, "--draws", "200000"], "fitting ", seconds, number)
        assert (code, printed) == (130, "")
        if " are kept in " in said:
            break
        assert said.splitlines()[-1] == "interrupted; nothing half-written is left." and list(folder.iterdir()) == []
    last = said.splitlines()[-1]
    told = re.fullmatch(r"interrupted; ([\d,]+) of 200,000 draws a chain are kept in (.*), and the same call .*", last)
    assert told is not None and told[2] == str(out)
    kept = int(told[1].replace(",", ""))
    assert [path.name for path in folder.iterdir()] == ["fit"]
    assert json.loads((out / "provenance.json").read_text())["interrupted"] == {"asked": 200_000, "kept": kept}
    warning = f"Interrupted: {kept} of 200000 draws a chain are there: fit again to draw all of them."
    summary, effects = run("summary", out), run("effects", out, "depth", "--by", "depth=0,1")
    for answer in (summary, effects):
        first = answer.out.splitlines()[0]
        assert first == warning if answer.code == 0 else first.startswith("NOT CONVERGED")
        assert answer.out.count(warning) == 1 and warning in answer.err
    assert f"4 chains of {kept} draws after 200, seed 1, engine nuts (asked for)." in summary.out
    assert run("summary", out, "--json").data["sampler"]["draws"] == kept


def test_a_command_that_is_still_warming_up_keeps_nothing(tmp_path: Path) -> None:
    simulated(600).to_csv(tmp_path / "trials.csv", index=False)
    call = command("fit", tmp_path / "trials.csv", "--formula", FORMULA, "--out", tmp_path / "out" / "fit")
    code, printed, said = interrupt([*call, "--tune", "1000000"], "fitting ", 2.0, signal.SIGINT)
    assert (code, printed) == (130, "")
    assert said.splitlines()[-1] == "interrupted; nothing half-written is left."
    assert not (tmp_path / "out").exists()


STUDY = """
[study]
name = "stopped"
title = "A study that is interrupted"
simulated = true

[[models]]
name = "main"
formula = "correct ~ depth + (1 | participant)"
family = "bernoulli"
draws = 200000

[effects]
factor = "representation"
moderator = ""
"""


def test_a_report_that_is_interrupted_keeps_nothing_of_the_unfinished_fit(tmp_path: Path) -> None:
    frame = simulated(3000).assign(experiment="one", trial=lambda rows: rows.groupby("participant").cumcount() + 1)
    frame["representation"] = np.where(np.arange(len(frame)) % 2, "local", "distributed")
    frame.to_csv(tmp_path / "trials.csv", index=False)
    study = STUDY.replace("correct ~ depth", "correct ~ representation + depth")
    (tmp_path / "study.toml").write_text(study, encoding="utf-8")
    call = command("report", tmp_path / "trials.csv", "--study", tmp_path / "study.toml", "--out", tmp_path / "report")
    code, printed, said = interrupt(call, "fitting main", 4.0, signal.SIGINT)
    assert (code, printed) == (130, "")
    assert said.splitlines()[-1] == "interrupted; nothing half-written is left."
    assert [path for path in (tmp_path / "report").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("text", "allowed"), [("0.001", "0.001 s"), ("0.002s", "0.002 s"), ("0.0001m", "0.006 s")])
def test_a_command_refuses_what_takes_longer_than_its_budget(
    text: str, allowed: str, tmp_path: Path, run: Callable[..., Any]
) -> None:
    simulated(600).to_csv(tmp_path / "trials.csv", index=False)
    call = ("fit", tmp_path / "trials.csv", "--formula", FORMULA, "--out", tmp_path / "fit", "--draws", "1000000")
    answer = run(*call, "--budget", text)
    assert (answer.code, answer.out) == (2, "") and not (tmp_path / "fit").exists()
    last = answer.err.splitlines()[-1]
    assert last.startswith("error: sampling would take about ")
    assert f", and --budget allows {allowed}; --engine laplace gives the maximum of the likelihood, an appr" in last
    wrong = run(*call, "--budget", "soon")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1) and "write a time above 0, for example 90s, 10m" in wrong.err
    other = run(*call, "--budget", "2h", "--engine", "pymc")
    assert other.code == 2 and "--budget is of the engine nuts" in other.err
