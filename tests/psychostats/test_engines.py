"""Which engine runs, why, and what each refuses."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from deviations import FOLDER, trials

import psychostats as ps
from psychostats import engines, mixed, nuts
from psychostats.design import code
from psychostats.engines import ENGINES, resolve_engine, resolve_settings
from psychostats.errors import InputError, OverBudget
from psychostats.maximum import Method, forecast, maximise
from psychostats.sampling import Settings
from psychostats.spec import specify
from psychostats.timing import duration

ANSWERS = specify("correct ~ depth + (1 | participant)")
MEASURED = specify("rt ~ depth + (1 | participant)", family="gaussian")
PRIOR = specify("correct ~ depth", priors=["b ~ normal(0, 1)"])
RATED = specify("confidence ~ depth", family="cumulative")
STEPPED = specify("correct ~ mo(layer)")


LAPSING = specify("correct ~ depth", family="afc", lapse="estimate")
SHIFTED = specify("rt ~ depth", family="shifted_lognormal")
COVERED = ("nuts", "auto: the fast sampler covers the model")
compiled = pytest.mark.skipif(not nuts.available(), reason="the fast sampler was not compiled")


@pytest.mark.parametrize(
    ("engine", "spec", "method", "found"),
    [
        pytest.param("auto", ANSWERS, Method(), COVERED, marks=compiled),
        pytest.param("auto", PRIOR, None, COVERED, marks=compiled),
        pytest.param("auto", MEASURED, None, COVERED, marks=compiled),
        pytest.param("nuts", ANSWERS, Method(), ("nuts", "asked for"), marks=compiled),
        ("pymc", ANSWERS, Method(), ("pymc", "asked for")),
        ("laplace", ANSWERS, Method(), ("laplace", "asked for")),
        ("laplace", ANSWERS, Method(quadrature=7), ("laplace", "asked for")),
        ("laplace", MEASURED, Method(reml=True), ("laplace", "asked for")),
        ("laplace", ANSWERS, None, ("laplace", "asked for")),
    ],
)
def test_the_engine_and_its_reason(engine, spec, method, found) -> None:
    assert resolve_engine(engine, spec, method) == found


@pytest.mark.parametrize("spec", [LAPSING, RATED, SHIFTED, STEPPED])
def test_what_the_fast_sampler_does_not_cover_is_left_to_pymc_and_said(spec) -> None:
    lacking = nuts.why_not(spec)
    assert lacking and resolve_engine("auto", spec) == ("pymc", f"auto: nuts does not cover {lacking}")
    with pytest.raises(InputError) as refused:
        resolve_engine("nuts", spec)
    assert str(refused.value) == f"the engine nuts does not cover {lacking}; use --engine pymc."


def test_without_a_compiler_pymc_samples_and_that_is_said(monkeypatch) -> None:
    monkeypatch.setattr(nuts, "available", lambda: False)
    why = "nuts was not compiled when the package was installed (no C compiler)"
    assert resolve_engine("auto", ANSWERS) == ("pymc", f"auto: {why}")
    with pytest.raises(InputError) as refused:
        resolve_engine("nuts", ANSWERS)
    assert str(refused.value) == f"the engine {why}; use --engine pymc."


@pytest.mark.parametrize(
    ("engine", "spec", "method", "words"),
    [
        (
            "laplac",
            ANSWERS,
            Method(),
            r"'laplac' is unknown .did you mean 'laplace'.*allowed are auto, pymc, nuts, lap",
        ),
        ("laplace", PRIOR, Method(), "takes no priors; leave out --prior, or use --engine pymc"),
        ("laplace", ANSWERS, Method(reml=True), "REML is for the family gaussian; 'bernoulli' is fitted by"),
        ("laplace", MEASURED, Method(quadrature=3), "the family gaussian is exact; leave out --quadrature"),
        ("laplace", ANSWERS, Method(quadrature=-1), "-1 nodes of quadrature"),
        ("laplace", RATED, Method(), "maximum likelihood cannot fit the family cumulative; use --engine pymc"),
        ("laplace", STEPPED, Method(), "maximum likelihood cannot fit a monotonic effect"),
        (
            "auto",
            ANSWERS,
            Method(quadrature=3),
            "--reml and --quadrature are of maximum likelihood; add --engine laplace",
        ),
    ],
)
def test_what_an_engine_cannot_do_is_refused(engine, spec, method, words) -> None:
    with pytest.raises(InputError, match=words):
        resolve_engine(engine, spec, method)


@compiled
def test_every_engine_is_known() -> None:
    assert {resolve_engine(engine, ANSWERS)[0] for engine in ENGINES} == set(ENGINES) - {"auto"}


# --- Settings and budget ----------------------------------------------------------------------------------------------


def test_what_is_not_asked_for_is_the_engines_own_default() -> None:
    given = {"draws": 7, "chains": 3, "seed": 5}
    assert resolve_settings("pymc", **given, tune=None, target_accept=None) == Settings(7, 1000, 3, 5, 0.8)
    assert resolve_settings("nuts", **given, tune=None, target_accept=None) == Settings(7, 200, 3, 5, 0.85)
    for engine in ("pymc", "nuts"):
        assert resolve_settings(engine, **given, tune=9, target_accept=0.95) == Settings(7, 9, 3, 5, 0.95)
        with pytest.raises(InputError, match="tune is 0; it must be at least 1"):
            resolve_settings(engine, **given, tune=0, target_accept=None)


def simulated() -> pd.DataFrame:
    """Return 600 simulated answers of 12 people, no two rows alike."""
    rng = np.random.default_rng(3)
    person = rng.integers(0, 12, 600)
    frame = pd.DataFrame({"participant": [f"p{i:02d}" for i in person], "depth": rng.random(600)})
    logit = rng.normal(0.0, 0.7, 12)[person] + frame["depth"]
    return frame.assign(correct=(rng.random(600) < 1 / (1 + np.exp(-logit))).astype(int), rt=rng.normal(size=600))


@compiled
@pytest.mark.parametrize(
    ("options", "instead"),
    [
        ({}, "; --engine laplace gives the maximum of the likelihood, an approximation, in about "),
        ({"priors": ["b ~ normal(0, 2)"]}, "; --engine laplace without --prior gives the maximum of the likelihood"),
        ({"family": "gaussian", "formula": "rt ~ depth + (1 | participant)"}, ", with no priors, in about "),
        ({"family": "lognormal", "formula": "rt ~ depth + (1 | participant)"}, "; allow more, or fewer draws."),
    ],
)
def test_what_takes_longer_than_allowed_is_refused_with_what_it_takes(tmp_path, options, instead) -> None:
    call = {"formula": "correct ~ depth + (1 | participant)", "engine": "nuts", "progress": False} | options
    frame = simulated().assign(rt=lambda rows: np.exp(rows["rt"]))
    with pytest.raises(OverBudget) as refused:
        ps.fit(trials=frame, **call, draws=1_000_000, budget=0.001, out=tmp_path / "fit")
    said = str(refused.value)
    assert refused.value.exit_code == 2 and refused.value.seconds_needed > 0.001
    assert said.startswith(f"sampling would take about {duration(refused.value.seconds_needed)}, and --budget allows ")
    assert "allows 0.001 s; " in said and instead in said
    assert list(tmp_path.iterdir()) == []


@compiled
def test_a_budget_that_suffices_is_no_part_of_the_fit(tmp_path) -> None:
    call = {"formula": "correct ~ depth + (1 | participant)", "trials": simulated(), "progress": False, "draws": 100}
    made = ps.fit(**call, budget=3600.0, out=tmp_path / "fit")
    assert ps.fit(**call, budget=0.001, out=tmp_path / "fit").reused
    assert ps.fit(**call, out=tmp_path / "fit").reused
    assert made.settings == Settings(100, 200, target_accept=0.85) and "budget" not in str(made.provenance)


@pytest.mark.parametrize("engine", ["pymc", "laplace"])
def test_a_budget_is_of_the_engine_that_knows_beforehand(engine) -> None:
    with pytest.raises(InputError) as refused:
        resolve_engine(engine, ANSWERS, budget=60.0)
    assert str(refused.value) == (
        "--budget is of the engine nuts, which knows beforehand what it will take; the engine is "
        f"{engine} (asked for), so leave it out."
    )
    with pytest.raises(InputError, match=r"the engine is pymc \(auto: nuts does not cover .*\), so leave it out"):
        resolve_engine("auto", RATED, budget=60.0)


@compiled
@pytest.mark.parametrize("budget", [0.0, -1.0, np.inf, np.nan])
def test_a_budget_is_a_time(budget) -> None:
    with pytest.raises(InputError, match=r"the budget is .* seconds; it must be above 0"):
        resolve_engine("auto", ANSWERS, budget=budget)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.004321, "0.0043 s"),
        (0.25, "0.25 s"),
        (2.0, "2 s"),
        (9.96, "10 s"),
        (89.0, "89 s"),
        (90.0, "1.5 min"),
        (600.0, "10 min"),
        (5000.0, "83 min"),
        (5400.0, "1.5 h"),
        (450_000.0, "120 h"),
    ],
)
def test_durations_in_words(seconds, words) -> None:
    assert duration(seconds) == words


def test_what_maximum_likelihood_takes_is_foretold_within_a_factor_of_five() -> None:
    spec = specify("correct ~ depth + (1 + depth | participant)")
    frame = pd.concat([simulated().assign(participant=lambda d, i=i: d["participant"] + str(i)) for i in range(30)])
    rows = frame[["correct", "depth", "participant"]].reset_index(drop=True)
    design = code(spec.formula, rows).design(rows, spec.family.response)
    maximise(design, spec.family, Method())  # what is imported and looked up the first time is not part of it
    ratios = []
    for _ in range(5):
        foretold, began = forecast(design, spec.family), time.perf_counter()
        maximise(design, spec.family, Method())
        ratios.append(foretold / (time.perf_counter() - began))
    assert 0.2 < np.median(ratios) < 5.0


# --- What is refused before anything is fitted ------------------------------------------------------------------------


def test_one_row_a_level_is_fitted_with_a_warning_and_refused_for_measurements() -> None:
    data = trials(FOLDER / "data" / "nested.csv").assign(row=lambda d: [f"r{i}" for i in range(len(d))])
    formula = "cbind(successes, failures) ~ x + (1 | batch) + (1 | row)"
    fit = ps.fit(formula, data, family="binomial", engine="laplace", progress=False)
    assert [check.name for check in fit.checks] == ["rows_a_level"] and fit.converged
    (warning,) = fit.warnings
    assert "row" in warning
    with pytest.raises(
        InputError, match="every level of row has one observation only, so that its effect is the resid"
    ):
        ps.fit("x ~ successes + (1 | row)", data, family="gaussian", engine="laplace", progress=False)


@pytest.mark.parametrize("family", ["gaussian", "lognormal"])
@pytest.mark.parametrize("engine", [pytest.param("nuts", marks=compiled), "pymc"])
def test_measurements_that_are_all_alike_are_refused(engine: str, family: str) -> None:
    """Their posterior is improper: sampled, its chains went to a sigma of 0, and the advice was to draw longer."""
    call = {"formula": "rt ~ depth + (1 | participant)", "engine": engine, "family": family, "progress": False}
    with pytest.raises(InputError, match="the response does not vary"):
        ps.fit(trials=simulated().assign(rt=2.0), **call)


def test_more_effects_than_answers_are_refused_before_anything_is_fitted() -> None:
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"y": rng.integers(0, 2, 30), "x": rng.normal(size=30), "g": [f"g{i // 2}" for i in range(30)]})
    with pytest.raises(InputError, match=r"15 levels x 3 terms = 45, and 30 trials; leave out slopes"):
        ps.fit("y ~ x + (1 + x + I(x^2) | g)", data, engine="laplace", progress=False)


def test_a_design_too_large_for_nuts_goes_to_pymc_or_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dense start cannot hold (its limit is lowered here), and more terms than compiled code takes."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{k}": rng.normal(size=200) for k in range(17)})
    frame["g"], frame["h"], frame["correct"] = rng.choice(list("abcdefgh"), 200), rng.choice(list("pqr"), 200), 1
    slopes = " + ".join(f"x{k}" for k in range(17))
    wide = code(specify(f"correct ~ 1 + ({slopes} || g)").formula, frame).design(frame)
    crossed = code(specify("correct ~ x0 + (1 | g) + (1 | h)").formula, frame).design(frame)
    assert engines.suit("auto", "nuts", "covered", crossed) == ("nuts", "covered")
    chosen, reason = engines.suit("auto", "nuts", "covered", wide)
    assert (chosen, reason) == ("pymc", "auto: nuts does not cover 18 effects a level of one group (16 at most)")
    monkeypatch.setattr(mixed, "_LARGEST", 40)
    chosen, reason = engines.suit("auto", "nuts", "covered", crossed)
    assert (chosen, reason) == ("pymc", "auto: nuts does not cover so many effects (g 8, h 3)")
    with pytest.raises(InputError, match=r"does not cover so many effects \(g 8, h 3\); use --engine pymc"):
        engines.suit("nuts", "nuts", "asked for", crossed)


@compiled
def test_a_budget_is_refused_too_where_only_the_design_says_that_pymc_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be passed over in silence, and PyMC take as long as it takes."""
    monkeypatch.setattr(mixed, "_LARGEST", 5)
    with pytest.raises(InputError, match=r"the engine is pymc \(auto: nuts does not cover so many effects"):
        ps.fit("correct ~ depth + (1 | participant)", simulated(), progress=False, budget=60.0)


@compiled
def test_the_engine_that_runs_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    class Begun(Exception):
        pass

    def announced(engine: str, reason: str) -> None:
        raise Begun(engine, reason)

    call = {"formula": "correct ~ depth + (1 | participant)", "trials": simulated(), "on_start": announced}
    with pytest.raises(Begun) as begun:
        ps.fit(**call)
    assert begun.value.args == COVERED
    monkeypatch.setattr(mixed, "_LARGEST", 5)
    with pytest.raises(Begun) as begun:
        ps.fit(**call)
    assert begun.value.args == ("pymc", "auto: nuts does not cover so many effects (participant 12)")
