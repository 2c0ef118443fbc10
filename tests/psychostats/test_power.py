"""Simulated power is the power known in closed form; what is made is kept, and the same by any number of workers."""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import call
from scipy import special, stats
from studies import DATA, ROOT, contents

from psychostats.characteristics import Curve, wilson
from psychostats.errors import InputError
from psychostats.executors import Local
from psychostats.fit import fit
from psychostats.lapses import ask_lapses
from psychostats.planning import Size, ask, read_truth
from psychostats.power import Power, estimate_power, single_rows
from psychostats.power_forecast import forecast
from psychostats.power_sentences import (
    judge_calibration,
    say_beyond,
    say_coverage,
    say_null,
    say_recommendation,
    say_unmet,
)
from psychostats.power_simulations import campaign_of, seed_of, tasks_of
from psychostats.replications import true_values
from psychostats.simulate import simulate_trials
from psychostats.study import Study, read_study

pytestmark = pytest.mark.once

PLAIN = DATA / "plain.toml"
CONTRAST = "distributed - local"


def plain() -> Study:
    return read_study(PLAIN)


@functools.cache
def whole() -> tuple[Power, Path]:
    """Return the plain study's power, simulated once."""
    import tempfile

    folder = Path(tempfile.mkdtemp())
    return estimate_power(ask(plain(), {}), folder, Local(1)), folder


def exact_power(n: int, p: tuple[float, float]) -> float:
    """Return the probability that the Wald interval of a difference of shares excludes zero, by enumeration."""
    k = np.arange(n + 1)
    first, second = k[:, np.newaxis] / n, k[np.newaxis] / n
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.abs(second - first) / np.sqrt((first * (1 - first) + second * (1 - second)) / n)
    hit = np.nan_to_num(z) > stats.norm.ppf(0.975)
    return float((stats.binom.pmf(k, n, p[0])[:, np.newaxis] * stats.binom.pmf(k, n, p[1]) * hit).sum())


def test_power_and_false_positives_are_those_of_two_binomials() -> None:
    """Each person has five trials of each kind; 60 simulations tell power to a few per cent."""
    found, _ = whole()
    p = (float(special.expit(0.2)), float(special.expit(0.7)))
    for row in found.designs.to_dict("records"):
        known = exact_power(5 * row["participants"], p)
        low, high = wilson(row["detected"], row["simulations"], 0.999)
        assert low <= known <= high
        assert row["true"] == pytest.approx(p[1] - p[0]) and row["failed"] == row["singular"] == 0
    mean = float(special.expit(0.45))  # of both levels, on the link
    for row in found.null.to_dict("records"):
        low, high = wilson(row["detected"], row["simulations"], 0.999)
        assert low <= exact_power(5 * row["participants"], (mean, mean)) <= high and row["true"] == 0.0


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.02, 0.07, "as often as meant, as far as these simulations tell."),
        (0.06, 0.10, "more often, as far as these simulations tell; its power is flattered too."),
        (0.01, 0.04, "more rarely, as far as these simulations tell."),
    ],
)
def test_false_positives_are_judged_by_their_monte_carlo_interval(low: float, high: float, said: str) -> None:
    found = whole()[0]
    rows = found.null.assign(power=(low + high) / 2, power_low=low, power_high=high)
    assert all(line.endswith(said) for line in say_null(replace(found, null=rows)))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.93, 0.97, []),
        (0.90, 0.93, ["too narrow", "instead of 95.0\u00a0%; power and half widths are flattered."]),
        (0.96, 0.99, ["too wide", "instead of 95.0\u00a0%."]),
    ],
)
def test_intervals_that_are_too_narrow_are_said_to_be(low: float, high: float, said: list[str]) -> None:
    found = whole()[0]
    rows = found.designs.assign(coverage=(low + high) / 2, coverage_low=low, coverage_high=high)
    lines = say_coverage(replace(found, designs=rows))
    assert len(lines) == bool(said)
    assert all(part in line for line in lines for part in said)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((5, 0, 0, 4), "too few to say whether the power"),
        ((19, 0, 0, 1), "which tells little, since nearly all of them detect it."),
        ((0, 0, 0, 20), "which tells little, since hardly any of them detect it."),
        ((10, 0, 0, 10), "in 0 of 20 simulated studies, without a lean to one side"),
        ((6, 2, 0, 12), "2 of them found by maximum likelihood alone: too few"),
        ((30, 4, 5, 30), "in 9 of 69 simulated studies, without a lean to one side"),
        ((30, 9, 0, 30), "is too high for an analysis by nuts"),
        ((30, 1, 9, 30), "is too low for an analysis by nuts"),
    ],
)
def test_maximum_likelihood_stands_for_the_sampler_where_that_was_tried(counts: tuple[int, ...], said: str) -> None:
    found = whole()[0]
    both, first, second, neither = counts
    row = {"quantity": CONTRAST, "studies": sum(counts), "both": both, "first_only": first, "second_only": second}
    (line,) = judge_calibration(replace(found, calibration=pd.DataFrame([row | {"neither": neither}])))
    assert said in line


def test_the_curve_between_designs_is_that_of_the_shares() -> None:
    found, _ = whole()
    p = special.expit(np.array([0.2, 0.7]))
    sd = math.sqrt(float((p * (1 - p)).sum()) / (5 * 20))
    assert found.curves[CONTRAST].sd(20, 10, 10) == pytest.approx(sd, rel=0.03)
    needed = found.needed(found.question.own)
    assert needed is not None and exact_power(5 * needed, (p[0], p[1])) == pytest.approx(0.8, abs=0.03)


def test_more_designs_and_simulations_change_none_that_is_there(tmp_path: Path) -> None:
    few = ask(plain(), {"participants": (10,), "simulations": 6, "null": False})
    estimate_power(few, tmp_path / "a", Local(1))
    before = contents(tmp_path / "a")
    more = ask(plain(), {"participants": (10, 12), "simulations": 9, "null": False, "power": 0.5})
    assert more.identity == few.identity == ask(plain(), {"nuts": 5, "cost_trial": 2.0}).identity
    assert more.identity != ask(plain(), {"seed": 2}).identity
    made = estimate_power(more, tmp_path / "a", Local(1))
    after = contents(tmp_path / "a")
    assert {name: after[name] for name in before} == before
    assert set(made.designs["simulations"]) == {9} and len(after) == len(before) + 3 + 9
    single = next(row for row in single_rows(made) if row["participants"] == 10 and row["simulation"] == 4)
    plan = more.plan(Size(10, 10, 10), more.truth.sets[0])
    trials = simulate_trials(plan, seed_of(1, "power", Size(10, 10, 10), 4))
    shares = trials.groupby("representation", observed=True)["correct"].mean()
    assert single["estimate"] == pytest.approx(shares["distributed"] - shares["local"], rel=1e-5)


def test_designs_and_runs_have_seeds_of_their_own() -> None:
    """All but the sampler's, which sees the trials that maximum likelihood saw."""
    sizes = [Size(10, 10, 10), Size(12, 10, 10), Size(10, 9, 10), Size(10, 10, 11)]
    keys = [(seed, run, size, i) for seed in (1, 2) for run in ("power", "null") for size in sizes for i in range(5)]
    assert len({seed_of(*key) for key in keys}) == len(keys)
    assert seed_of(1, "nuts", sizes[0], 3) == seed_of(1, "power", sizes[0], 3)


def test_workers_and_a_kill_change_no_byte(tmp_path: Path) -> None:
    """Two workers, killed in the middle and started again, leave what one process makes at once."""
    given = {"participants": (6, 8), "simulations": 15, "null": False}
    question = ask(plain(), given)
    estimate_power(question, tmp_path / "once", Local(1))
    code = (
        "from pathlib import Path; from psychostats.planning import ask; from psychostats.power import estimate_power;"
        "from psychostats.executors import Local; from psychostats.study import read_study;"
        f"estimate_power(ask(read_study({str(PLAIN)!r}), {given!r}), Path({str(tmp_path / 'twice')!r}), Local(2))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    working = subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("twice/power/*/*.json"))) < 6 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(working.pid, signal.SIGKILL)
    working.wait()
    assert 6 <= len(list(tmp_path.glob("twice/power/*/*.json"))) < 30
    estimate_power(question, tmp_path / "twice", Local(2))
    once, twice = (
        {name: content for name, content in contents(tmp_path / part).items() if name.endswith(".json")}
        for part in ("once", "twice")
    )
    assert once == twice and len(once) == 31


def test_studies_without_a_fit_are_counted_with_their_reasons(tmp_path: Path) -> None:
    text = PLAIN.read_text(encoding="utf-8").replace("b_Intercept = 0.2", "b_Intercept = 3.6")
    (tmp_path / "rare.toml").write_text(text, encoding="utf-8")
    study = read_study(tmp_path / "rare.toml")
    question = ask(study, {"participants": (3, 10), "simulations": 30, "null": False})
    found = estimate_power(question, tmp_path / "sims", Local(1))
    small = found.designs[found.designs["participants"] == 3].iloc[0]
    assert small["failed"] > 5 and small["fitted"] + small["failed"] == small["simulations"] == 30
    assert small["power"] == small["detected"] / 30
    listed = found.failures[found.failures["participants"] == 3]
    assert listed["simulations"].sum() == small["failed"] and not listed["reason"].str.contains(r"\d").any()
    assert sum(bool(row["failed"]) for row in single_rows(found) if row["participants"] == 3) == small["failed"]


def test_designs_that_can_never_be_fitted_are_refused_early(tmp_path: Path) -> None:
    text = PLAIN.read_text(encoding="utf-8").replace("b_Intercept = 0.2", "b_Intercept = 40.0")
    (tmp_path / "never.toml").write_text(text, encoding="utf-8")
    with pytest.raises(
        InputError, match="no design can be fitted: of 6 simulated studies of 2 designs all were refused"
    ):
        estimate_power(ask(read_study(tmp_path / "never.toml"), {}), tmp_path / "sims", Local(1))
    assert len(list((tmp_path / "sims").glob("power/*/*.json"))) == 6


def test_what_was_asked_is_resolved() -> None:
    question = ask(plain(), {})
    assert question.power == 0.8 and question.precision is None and question.own == Size(30, 10, 10)
    assert question.sizes == (Size(10, 10, 10), Size(30, 10, 10)) and question.quantities == {CONTRAST: "contrast"}
    assert question.cost(Size(30, 10, 10)) == pytest.approx(30 + 0.02 * 300)
    assert ask(plain(), {"precision": 0.05}).power is None
    embedded = read_study(ROOT / "data" / "studies" / "colin2024.toml")
    defaults = ask(embedded, {})
    assert [size.participants for size in defaults.sizes] == [47, 94, 187, 280]
    assert [defaults.plan(size, defaults.truth.sets[0]).careless for size in defaults.sizes] == [1, 3, 5, 7]
    assert (defaults.asked.centre, defaults.asked.ends) == (pytest.approx(0.5, abs=1e-3), (0.0, 1.0))
    assert list(defaults.quantities.values()) == ["contrast", "change"] and defaults.sampler is not None
    crossed = ask(embedded, {"participants": (50,), "main": (20, 40), "pairs": (30, 80)})
    assert crossed.sizes == (Size(50, 20, 30), Size(50, 20, 80), Size(50, 40, 80))
    assert [size for size, _ in crossed.left_out] == [Size(50, 40, 30)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"power": 1.0}, "the wished power is 1; it must be above 0 and below 1"),
        ({"power": 0.0}, "the wished power is 0"),
        ({"precision": 0.0}, "the wished precision is 0; it is half the width"),
        ({"main": (11,)}, "no design can be simulated: 10 participants, 11 trials each, 10 features: 11 main trials"),
        ({"participants": (1,)}, "participants is 1; it must be at least 2"),
        ({"simulations": 1}, "simulations is 1; it must be at least 2"),
        ({"experiment": "onyl"}, "(did you mean 'only'?); its experiments are only"),
        ({"quantity": "change"}, "the wish is about the change of the contrast, but"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_cannot_be_asked_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        ask(plain(), given)
    assert words in str(caught.value)


# From a fit ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Fit the plain study once by each engine."""
    folder = tmp_path_factory.mktemp("fits")
    trials = simulate_trials(plain().plan(), 5)
    formula = plain().models[0].formula
    fit(formula, trials, engine="laplace", out=folder / "maximum", progress=False)
    how: dict[str, Any] = {"draws": 400, "tune": 200, "chains": 2, "progress": False}
    fit(formula, trials, engine="nuts", out=folder / "draws", **how)
    fit("correct ~ pair", trials, engine="laplace", out=folder / "other", progress=False)
    fit("correct ~ scale(trial) + representation", trials, engine="laplace", out=folder / "scaled", progress=False)
    return {path.name: path for path in folder.iterdir()}


def test_draws_of_a_fit_are_true_one_after_the_other(fits: dict[str, Path], tmp_path: Path) -> None:
    given = {"participants": (10,), "simulations": 8, "null": True}
    question = ask(plain(), given, fits["draws"])
    assert question.truth.drawn and len(question.truth.sets) == 800 and "800 draws" in question.truth.words
    found = estimate_power(question, tmp_path, Local(1))
    rows = [row for row in single_rows(found) if row["run"] == "power"]
    order = question.truth.order(1)
    assert len({row["true"] for row in rows}) == 8
    for row in rows:
        plan = question.plan(Size(10, 10, 10), question.truth.sets[order[row["simulation"]]])
        assert row["true"] == pytest.approx(true_values(plan, question.asked)[CONTRAST], rel=1e-12)
    assert {row["true"] for row in single_rows(found) if row["run"] == "no_difference"} == {0.0}
    assert found.designs["true"].iloc[0] == pytest.approx(np.mean([row["true"] for row in rows]))


def test_of_a_maximum_its_estimates_are_true(fits: dict[str, Path]) -> None:
    question = ask(plain(), {}, fits["maximum"])
    assert not question.truth.drawn and "without their uncertainty" in question.truth.words
    trials = simulate_trials(plain().plan(), 5)
    shares = trials.groupby("representation", observed=True)["correct"].mean()
    plan = question.plan(question.own, question.truth.sets[0])
    assert true_values(plan, question.asked)[CONTRAST] == pytest.approx(
        shares["distributed"] - shares["local"], rel=1e-4
    )


def test_fits_of_another_design_are_refused_by_name(fits: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"the fit .*other does not describe the design of .*plain\.toml"):
        ask(plain(), {}, fits["other"])
    with pytest.raises(InputError, match=r"scale\(\) in its formula takes numbers from its trials"):
        read_truth(fits["scaled"])
    with pytest.raises(InputError, match="is no fit"):
        ask(plain(), {}, DATA)


# The command -----------------------------------------------------------------------------------------------------


def test_the_command_recommends_and_writes_a_report(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    out = tmp_path / "plan"
    asked = ("power", "--study", PLAIN, "--out", out, "--participants", "10,200", "--simulations", 20, "--workers", 1)
    said = call(capsys, monkeypatch, *asked, "--nuts", 2, "--json")
    data = said.data
    assert said.code == 0 and data["simulated"] is True and data["met"] is True
    assert data["recommended"]["participants"] == 200 and [row["verdict"] for row in data["designs"]] == [
        "missed",
        "met",
    ]
    assert data["wish"] == {"quantity": CONTRAST, "power": 0.8, "precision": None}
    assert {row["participants"] for row in data["null"]} == {200} and data["calibration"][0]["studies"] == 2
    names = {path.name for path in (out / "tables").iterdir()}
    assert names == {"designs.csv", "simulations.csv", "null.csv", "calibration.csv", "failures.csv"}
    singles = pd.read_csv(out / "tables" / "simulations.csv")
    assert len(singles) == 2 * 20 + 20 + 2
    assert singles.query("run == 'power' and participants == 10")["detected"].mean() == data["designs"][0]["power"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("over the number of participants") >= 4 and "Each of 2 designs was simulated" in page
    assert page.count("Simulated participants") >= 2 and "The cheapest design that meets the wish is 200" in page
    before = contents(out)
    again = call(capsys, monkeypatch, *asked, "--nuts", 2)
    assert again.code == 0 and "The cheapest design that meets the wish is 200" in again.out
    after = contents(out)
    kept = [name for name in before if name.endswith((".json", ".csv", ".svg"))]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    other = call(capsys, monkeypatch, *asked, "--seed", 2)
    assert other.code == 2 and "holds results of other work (seed); give another folder, or --overwrite" in other.err
    assert contents(out) == after


def test_an_impossible_wish_is_a_sentence_and_nothing_is_lost(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    out = tmp_path / "plan"
    wish = ("--participants", "4", "--power", "0.99", "--simulations", "25", "--nuts", "0", "--no-null")
    said = call(capsys, monkeypatch, "power", "--study", PLAIN, "--out", out, *wish, "--workers", 1)
    assert said.code == 2
    last = said.err.splitlines()[-1]
    assert last.startswith("error: The wish is missed: a power of at least 99.0\u00a0% for distributed − local")
    assert "4 participants, 10 trials each, 10 features" in last
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "No design meets the wish" in page and "The design was simulated 25 times" in page
    assert "over the number of participants" not in page  # one design is no curve
    assert len(list(out.glob("simulations/power/*/*.json"))) == 25


def test_too_many_fits_are_asked_about_and_a_dry_run_writes_nothing(
    tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    out = tmp_path / "plan"
    asked = ("power", "--study", PLAIN, "--out", out, "--simulations", "10000000", "--workers", 2)
    said = call(capsys, monkeypatch, *asked)
    assert said.code == 2 and "40,000,000 fits of 2 designs, about" in said.err and "add --yes" in said.err
    dry = call(capsys, monkeypatch, *asked, "--dry-run", "--json")
    assert dry.code == 0 and dry.data["fits"] == 40_000_000 and dry.data["seconds"] > 1e4
    assert not out.exists()


def test_what_is_kept_needs_no_more_time(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    few = ask(plain(), {"participants": (10,), "simulations": 6, "null": False})
    estimate_power(few, tmp_path / "simulations", Local(1))
    more = ask(plain(), {"participants": (10, 12), "simulations": 9, "nuts": 3})
    ahead = forecast(more, tmp_path / "simulations", None, tmp_path / "lapses", anew=False)
    assert (ahead.fits, ahead.left) == (2 * 9 + 2 * 9 + 2 * 3, 3 + 9 + 2 * 9 + 2 * 3)
    assert forecast(more, tmp_path / "simulations", None, tmp_path / "lapses", anew=True).left == ahead.fits
    assert forecast(few, tmp_path / "simulations", None, tmp_path / "lapses", anew=False).seconds() == 0.0
    asked = ("power", "--study", PLAIN, "--out", tmp_path, "--participants", "10", "--no-null", "--nuts", "0")
    said = call(capsys, monkeypatch, *asked, "--simulations", "6", "--dry-run", "--workers", "1")
    assert said.code == 0 and "6 fits of 1 design, of which 6 are done; the rest takes about 0 s" in said.err


def test_scenarios_of_lapses_are_forecast_a_rate_each(tmp_path: Path) -> None:
    embedded = read_study(ROOT / "data" / "studies" / "colin2024.toml")
    beside = ask_lapses(embedded)
    scenarios = len(beside.scenarios)
    (tmp_path / "lapses" / "lapses" / "rate-0-careless-0").mkdir(parents=True)
    (tmp_path / "lapses" / "lapses" / "rate-0-careless-0" / "00000.json").touch()
    question = ask(embedded, {"null": False, "nuts": 0, "simulations": 10})
    made = forecast(question, tmp_path / "none", beside, tmp_path / "lapses", anew=False)
    of_lapses = made.batches[len(question.sizes) + 2 :]
    assert [batch.example.name.split("-")[1] for batch in of_lapses] == [f"{rate:g}" for rate in beside.rates]
    assert sum(batch.simulations for batch in of_lapses) == beside.simulations * scenarios
    assert sum(batch.kept for batch in of_lapses) == 1
    assert made.fits == 4 * 10 + beside.fits


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--participants", "many"), "--participants 'many' cannot be read; write whole numbers"),
        (("--quantity", "slope"), "the quantity 'slope' is unknown; allowed are contrast and change"),
        (("--workers", "0"), "--workers is 0; this machine has"),
        (("--power", "1.5"), "the wished power is 1.5"),
    ],
)
def test_bad_options_are_named(
    words: tuple[str, str], told: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    said = call(capsys, monkeypatch, "power", "--study", PLAIN, "--out", tmp_path / "x", *words)
    assert said.code == 2 and told in said.err and not (tmp_path / "x").exists()


def test_a_study_that_cannot_be_simulated_is_named(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    path = tmp_path / "bare.toml"
    path.write_text("[study]\nname = 'bare'\ntitle = 'Bare'\n", encoding="utf-8")
    said = call(capsys, monkeypatch, "power", "--study", path, "--out", tmp_path / "x")
    assert said.code == 2 and "has no [simulate] table" in said.err
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "notes.txt").write_text("mine", encoding="utf-8")
    said = call(capsys, monkeypatch, "power", "--study", PLAIN, "--out", tmp_path / "y")
    assert said.code == 2 and "holds 'notes.txt', which is no part of a report" in said.err


# Words -----------------------------------------------------------------------------------------------------------


def test_what_would_do_is_said_and_called_an_extrapolation() -> None:
    found, _ = whole()
    missed = ask(plain(), {"power": 0.98})
    other = estimate_power(missed, whole()[1], Local(1))
    assert other.unmet and say_unmet(other).startswith("The wish is not met: a power of at least 98.0\u00a0%")
    (line,) = say_beyond(other)
    assert line.startswith("Extrapolated, not simulated") and "participants of 10 trials" in line
    assert len(say_recommendation(found)) >= 1
    far = replace(other, curves={CONTRAST: Curve((0.0, 0.5, 10.0), np.array([0.012]), 0.95)})
    (line,) = say_beyond(far)
    assert "participants of 10 trials" in line and line.endswith("more than a hundred times as many.")


@pytest.mark.parametrize(
    ("wish", "ends"),
    [
        ({"power": 0.98}, "What is needed is more features or an effect that is larger."),
        ({"precision": 0.001}, "What is needed is more features."),
    ],
)
def test_where_features_limit_a_study_what_would_help_is_said(wish: dict[str, float], ends: str) -> None:
    found = replace(whole()[0], question=ask(plain(), wish))
    curve = Curve((0.5, 0.5, 10.0), np.array([0.012]), 0.95)
    (line,) = say_beyond(replace(found, curves={CONTRAST: curve}))
    assert "no number of participants would" in line and line.endswith(ends)


def test_a_half_written_result_is_made_again(tmp_path: Path) -> None:
    question = ask(plain(), {"participants": (10,), "simulations": 5, "null": False})
    first = estimate_power(question, tmp_path, Local(1)).designs
    path = sorted(tmp_path.glob("power/*/*.json"))[2]
    whole_content = path.read_bytes()
    path.write_bytes(whole_content[:40])
    said: list[str] = []
    second = estimate_power(question, tmp_path, Local(1), say=said.append).designs
    pd.testing.assert_frame_equal(first, second)
    assert path.read_bytes() == whole_content and any("half-written" in line for line in said)
    campaign = campaign_of(question, tmp_path)
    assert campaign.missing(tasks_of(question, "power", question.sizes, 7))[0].name.endswith("000005")
    assert json.loads((tmp_path / "campaign.json").read_text())["identity"]["what"] == "power"
