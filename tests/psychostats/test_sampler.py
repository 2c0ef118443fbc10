"""The sampler against plain PyMC models with the same priors, lme4, and itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from posterior import assert_alike, full_frame, named, prepare

from psychostats.errors import InputError, PsychostatsError
from psychostats.fit import Fit, load_fit
from psychostats.predictor import group_predictor
from psychostats.sampler import _shares, sample
from psychostats.sampling import Settings

Trials = Callable[[str], pd.DataFrame]
Model = Callable[[str], dict[str, Any]]
Array = np.ndarray

CROSSED = "correct ~ representation * depth + (1 | participant) + (1 | item)"


# --- Beside plain PyMC models and lme4 --------------------------------------------------------------------------------


def run_plainly(model: Any, names: Sequence[str]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nutpie

        compiled = nutpie.compile_pymc_model(model, backend="numba", var_names=list(names))
        trace = nutpie.sample(compiled, draws=1500, tune=1000, chains=4, seed=11, progress_bar=False, target_accept=0.9)
    return trace.posterior


@pytest.mark.filterwarnings("ignore")
def test_correlated_forced_choice_agrees_with_a_plain_pymc_model(trials: Trials, model: Model) -> None:
    import pymc as pm

    frame = trials("afc")
    basis = (frame["representation"] == "distributed").to_numpy(dtype=float)
    depth = frame["depth"].to_numpy()
    with pm.Model() as plain:
        b0 = pm.Normal("b0", 0, 1.5)
        b1 = pm.Normal("b1", 0, 1)
        b2 = pm.Normal("b2", 0, 1 / np.ptp(depth))
        b3 = pm.Normal("b3", 0, 1 / np.ptp(basis * depth))
        eta = b0 + b1 * basis + b2 * depth + b3 * basis * depth
        for group in ("participant", "pair"):
            level, names = pd.factorize(frame[group], sort=True)
            sd = pm.Exponential(f"sd_{group}", 2.0, shape=2)
            half = pm.Beta(f"half_{group}", 2, 2)  # LKJ(2) of two terms
            cor = pm.Deterministic(f"cor_{group}", 2 * half - 1)
            z = pm.Normal(f"z_{group}", shape=(2, len(names)))
            u = pm.Deterministic(f"u_{group}", sd[0] * z[0])
            v = pm.Deterministic(f"v_{group}", sd[1] * (cor * z[0] + pm.math.sqrt(1 - cor**2) * z[1]))
            eta = eta + u[level] + v[level] * basis
        pm.Bernoulli("correct", p=0.5 + 0.5 * pm.math.sigmoid(eta), observed=frame["correct"])
    groups = [f"{what}_{group}" for what in ("sd", "cor", "u", "v") for group in ("participant", "pair")]
    posterior = run_plainly(plain, ["b0", "b1", "b2", "b3", *groups])
    design, family, priors = prepare(frame, **model("afc"))
    ours = named(design, sample(design, family, priors, Settings(draws=1500)), random=True)
    theirs = {f"b_{name}": posterior[f"b{j}"].to_numpy() for j, name in enumerate(design.names)}
    for block in design.blocks:
        g = block.group
        for j, term in enumerate(block.terms):
            theirs[f"sd_{g}__{term}"] = posterior[f"sd_{g}"].to_numpy()[..., j]
            for k, level in enumerate(block.levels):
                theirs[f"r_{g}[{level},{term}]"] = posterior[f"{'uv'[j]}_{g}"].to_numpy()[..., k]
        theirs[f"cor_{g}_0"] = posterior[f"cor_{g}"].to_numpy()
    main = [name for name in ours if not name.startswith("r_")]
    assert_alike({n: ours[n] for n in main}, {n: theirs[n] for n in main})
    levels = [name for name in ours if name.startswith("r_")]
    assert_alike({n: ours[n] for n in levels}, {n: theirs[n] for n in levels}, most=4.5)


EXP1 = "correct ~ instr_type * depth + (1 | subject) + (1 | unit)"


@pytest.mark.filterwarnings("ignore")
def test_borowski_agrees_with_a_plain_pymc_model(reference: Path) -> None:
    import pymc as pm

    frame = pd.read_csv(reference / "exp1.csv")
    optimized = (frame["instr_type"] == "optimized").to_numpy(dtype=float)
    depth = frame["depth"].to_numpy()
    subject, subjects = pd.factorize(frame["subject"], sort=True)
    unit, units = pd.factorize(frame["unit"], sort=True)
    with pm.Model() as plain:
        b0, b1 = pm.Normal("b0", 0, 1.5), pm.Normal("b1", 0, 1)
        b2, b3 = pm.Normal("b2", 0, 1 / np.ptp(depth)), pm.Normal("b3", 0, 1 / np.ptp(optimized * depth))
        s, t = pm.Exponential("s", 2), pm.Exponential("t", 2)
        u = pm.Normal("u", shape=len(subjects))
        v = pm.Normal("v", shape=len(units))
        eta = b0 + b1 * optimized + b2 * depth + b3 * optimized * depth + s * u[subject] + t * v[unit]
        pm.Bernoulli("correct", logit_p=eta, observed=frame["correct"])
    posterior = run_plainly(plain, ["b0", "b1", "b2", "b3", "s", "t"])
    design, family, priors = prepare(frame, EXP1)
    ours = named(design, sample(design, family, priors, Settings(draws=1500)))
    theirs = {
        name: posterior[key].to_numpy() for name, key in zip(ours, ["b0", "b1", "b2", "b3", "s", "t"], strict=True)
    }
    assert_alike(ours, theirs)


def test_borowski_lies_near_lme4_under_wide_priors(reference: Path) -> None:
    """A posterior mean is no maximum, so nearness is in posterior SDs: 0.3 where priors are wide.

    Measured, in the order of the coefficients: 0.21, -0.07, 0.00, 0.02 (with sd ~ student_t(3, 0, 2.5) the intercept is
    0.29 away: heavier tails of the SDs move it out). Under the default priors, all towards zero: -0.34, 0.35, -0.44,
    and 0.22 of the interaction; normal(0, 1) over the range is no wide prior beside a standard error of 0.65.
    """
    tight = json.loads((reference / "B_glmer.json").read_text())["models"]["full"]["tight"]
    frame = pd.read_csv(reference / "exp1.csv")
    wide = ["b ~ normal(0, 5)", "b_Intercept ~ normal(0, 5)", "sd ~ normal(0, 1)"]
    away = {}
    for label, priors in (("wide", wide), ("default", [])):
        design, family, in_use = prepare(frame, EXP1, priors)
        drawn = sample(design, family, in_use, Settings())
        means, sds = drawn.b.mean(axis=(0, 1)), drawn.b.std(axis=(0, 1))
        theirs = np.array([tight["fixef"][name.replace("Intercept", "(Intercept)")] for name in design.names])
        away[label] = (means - theirs) / sds
        np.testing.assert_allclose(sds, [tight["se"][k] for k in tight["fixef"]], rtol=0.25)
    assert np.abs(away["wide"]).max() < 0.3, away
    assert np.abs(away["default"]).max() < 0.6, away


# --- Properties -------------------------------------------------------------------------------------------------------

SHORT = Settings(draws=200, tune=300, chains=2)


def test_one_seed_one_posterior_another_seed_another(trials: Trials, model: Model) -> None:
    made = prepare(trials("counts"), **model("counts"))
    first, again, other = (sample(*made, replace(SHORT, seed=seed)) for seed in (4, 4, 5))
    for part in ("b", "sd", "cor", "r"):
        for x, y, z in zip(getattr(first, part), getattr(again, part), getattr(other, part), strict=True):
            np.testing.assert_array_equal(x, y)
            assert x.size == 0 or not np.array_equal(x, z)


def test_shapes_and_statistics(trials: Trials, model: Model) -> None:
    stages: list[str] = []
    design, family, priors = prepare(trials("afc"), **model("afc"))
    drawn = sample(design, family, priors, SHORT, clock=stages.append)
    assert stages == ["compile", "sample"]
    assert drawn.b.shape == (2, 200, 4)
    assert [x.shape for x in drawn.sd] == [(2, 200, 2)] * 2
    assert [x.shape for x in drawn.cor] == [(2, 200, 1)] * 2
    assert [x.shape for x in drawn.r] == [(2, 200, 16, 2), (2, 200, 20, 2)]
    assert all(values.shape == (2, 200) for values in drawn.stats.values())
    assert drawn.stats["diverging"].dtype == bool
    assert (drawn.sd[0] > 0).all() and (np.abs(drawn.cor[0]) < 1).all()


def test_two_bars_without_correlation_have_none(trials: Trials, model: Model) -> None:
    design, family, priors = prepare(trials("uncorrelated"), **model("uncorrelated"))
    assert [prior.klass for prior in priors].count("cor") == 0
    drawn = sample(design, family, priors, SHORT)
    assert design.blocks[0].terms == ("Intercept", "conditioneasy", "conditionhard")
    assert drawn.cor[0].shape == (2, 200, 0)


def test_guess_zero_is_plain_logistic_exactly(trials: Trials, model: Model) -> None:
    frame, formula = trials("crossed"), model("crossed")["formula"]
    afc = sample(*prepare(frame, formula, family="afc", guess=0.0), SHORT)
    plain = sample(*prepare(frame, formula, family="bernoulli"), SHORT)
    np.testing.assert_array_equal(afc.b, plain.b)
    np.testing.assert_array_equal(afc.r[1], plain.r[1])


def test_guess_and_lapse_change_the_posterior_of_one_compilation(trials: Trials, model: Model) -> None:
    frame, formula = trials("crossed"), model("crossed")["formula"]
    means = [
        sample(*prepare(frame, formula, family="afc", guess=g, lapse=lapse), SHORT).b[..., 0].mean()
        for g, lapse in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.2))
    ]
    assert means[1] < means[0] - 0.5 and means[2] > means[0] + 0.1


def test_single_trials_are_their_counts(trials: Trials) -> None:
    frame = trials("nested")
    frame["depth"] = (2 * frame["depth"]).round() / 2
    cells = ["batch", "cask", "representation", "depth"]
    counted = frame.groupby(cells, observed=True, sort=False)["correct"].agg(["sum", "size"]).reset_index()
    assert len(counted) < 0.8 * len(frame)
    right = "representation * depth + (1 | batch / cask)"
    single = prepare(frame, f"correct ~ {right}")
    counts = prepare(counted, f"sum | trials(size) ~ {right}", family="binomial")
    assert_alike(*(named(made[0], sample(*made, Settings())) for made in (single, counts)))


def test_names_of_participants_and_order_of_rows_do_not_matter(trials: Trials) -> None:
    frame = trials("crossed")
    rng = np.random.default_rng(8)
    people = frame["participant"].unique()
    new = dict(zip(people, rng.permutation([f"x{i}" for i in range(len(people))]), strict=True))
    moved = frame.assign(participant=frame["participant"].map(new)).sample(frac=1.0, random_state=8)
    one, two = prepare(frame, CROSSED), prepare(moved, CROSSED)
    old = {f"r_participant[{name},Intercept]": f"r_participant[{new[name]},Intercept]" for name in people}
    ours = named(one[0], sample(*one, Settings()), random=True)
    theirs = named(two[0], sample(*two, Settings(seed=2)), random=True)
    assert_alike(ours, {name: theirs[old.get(name, name)] for name in ours}, most=4.5)


@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("cbind(right, wrong) ~ x * w + (1 + x | g) + (1 | h)", {"family": "binomial"}),
        ("rating ~ x + (1 + x | g)", {"family": "cumulative"}),
    ],
)
def test_the_shear_is_the_least_squares_fit_of_the_random_part(formula: str, family: dict[str, str]) -> None:
    """What is sampled is b + P r; a wrong P leaves the posterior as it is and the chains stuck (MODEL.md)."""
    rng = np.random.default_rng(12)
    frame = full_frame(11, (7, 5)).assign(wrong=rng.integers(1, 30, 320))  # rows of unequal weight
    design, made, _ = prepare(frame, formula, **family)
    r = [rng.normal(size=(len(block.levels), len(block.terms))) for block in design.blocks]
    shares = [_shares(design, block, made.ordinal) for block in design.blocks]
    moved = sum(np.einsum("pql,lq->p", s[..., : len(x)], x) for s, x in zip(shares, r, strict=True))
    random = sum(group_predictor(block, x[np.newaxis])[0] for block, x in zip(design.blocks, r, strict=True))
    X = np.column_stack([np.ones(320), design.X]) if made.ordinal else design.X
    weight = np.sqrt(design.trials)
    expected = np.linalg.lstsq(X * weight[:, np.newaxis], random * weight, rcond=None)[0]
    np.testing.assert_allclose(moved[len(moved) - len(expected) :], expected, atol=1e-12)
    assert made.ordinal or moved[0] == 0  # thresholds alone take the first
    assert all(np.all(s[..., len(x) :] == 0) for s, x in zip(shares, r, strict=True))


def test_the_level_of_all_effects_together_mixes_as_if_drawn_at_will(trials: Trials, model: Model) -> None:
    """The shear's sign: three seeds have 1,840 to 2,000 effective draws of these 1,000, and 870 to 1,190 without it."""
    drawn = sample(*prepare(trials("counts"), **model("counts")), Settings(draws=500, tune=500, chains=2))
    whole = drawn.b[..., 0] + drawn.r[0][..., 0].mean(axis=-1)
    assert float(az.ess(xr.Dataset({"x": (("chain", "draw"), whole)}))["x"]) > 1400
    assert drawn.stats["n_steps"].mean() < 11  # 7; with the wrong sign 14


@pytest.mark.parametrize("people", [31, 32])
def test_padding_leaves_each_level_its_own_effect(people: int) -> None:
    frame = full_frame(9, (people, 33))
    frame["correct"] = (frame["g"] == "g07").astype(int) | (frame["h"] == "h32").astype(int)
    design, family, priors = prepare(frame, "correct ~ x * w + (1 | g) + (1 | h)")
    drawn = sample(design, family, priors, SHORT)
    assert drawn.r[0].shape[2:] == (people, 1) and drawn.r[1].shape[2:] == (33, 1)
    assert [int(np.argmax(r.mean(axis=(0, 1)))) for r in drawn.r] == [7, 32]


def test_a_level_without_trials_changes_nothing_else_across_the_padding() -> None:
    """The 33rd level of a group doubles its padding; here in one group and then the other, in one compiled model."""
    frame = full_frame(10).assign(right=lambda t: (t["right"] > 0).astype(int), wrong=lambda t: 1 - t["right"])
    empty = frame.iloc[:1].assign(right=0, wrong=0)
    wide_h = pd.concat([frame, empty.assign(h="h32")], ignore_index=True)
    wide_g = pd.concat([frame, empty.assign(g="g32")], ignore_index=True)
    formulas = ("(1 | g) + (1 | h)", "(1 | h) + (1 | g)")
    drawn = []
    for rows, groups in zip((wide_h, wide_g), formulas, strict=True):
        made = prepare(rows, f"cbind(right, wrong) ~ x * w + {groups}", family="binomial")
        assert [len(block.levels) for block in made[0].blocks] == [32, 33]
        drawn.append(named(made[0], sample(*made, Settings())))
    assert_alike(drawn[0], {name: drawn[1][name] for name in drawn[0]})


# --- Settings, failures, interruption ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"draws": 0}, "draws is 0"),
        ({"tune": 0}, "tune is 0"),
        ({"chains": 0}, "chains is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"target_accept": 1.0}, "between 0 and 1"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Settings(**wrong)


def test_a_sampler_that_cannot_start_says_so(trials: Trials, model: Model) -> None:
    design, family, priors = prepare(trials("counts"), **model("counts"))
    with pytest.raises(PsychostatsError, match="the sampler stopped"):
        sample(replace(design, offset=np.full_like(design.offset, np.nan)), family, priors, SHORT)


def test_an_interruption_finds_the_first_draws_of_every_chain(trials: Trials, model: Model) -> None:
    made = prepare(trials("counts"), **model("counts"))
    long = Settings(draws=50_000, tune=300, chains=4)
    sample(*made, SHORT)  # compiled, so that the interruption falls into the sampling
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for times in range(8):
            timer = threading.Timer(0.5 * 2**times, lambda: os.kill(os.getpid(), signal.SIGINT))
            timer.start()
            try:
                drawn = sample(*made, long)
            except KeyboardInterrupt:  # in the warm-up
                continue
            finally:
                timer.cancel()
            break
    finally:
        signal.signal(signal.SIGINT, before)
    kept = drawn.b.shape[1]
    assert drawn.interrupted and 0 < kept < 50_000
    arrays = [drawn.b, *drawn.sd, *drawn.cor, *drawn.r, *drawn.family.values(), *drawn.stats.values()]
    assert {values.shape[:2] for values in arrays} == {(4, kept)}
    assert all(np.isfinite(values).all() for values in arrays)
    few = min(kept, 50)
    whole = sample(*made, replace(long, draws=few))
    assert not whole.interrupted
    np.testing.assert_array_equal(drawn.b[:, :few], whole.b)


SCRIPT = """
    import os, sys
    import pandas as pd
    from psychostats.fit import fit

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # draws must not depend on how many cores there are
    frame, formula, out = pd.read_csv(sys.argv[1]), sys.argv[2], sys.argv[3]
    frame["representation"] = pd.Categorical(frame["representation"], categories=["local", "distributed"])
    fit(formula, frame, engine="pymc", draws=200, tune=300, chains=2, out=out + "/fresh", progress=False)
    for name in ("interrupted", "killed"):
        input()
        print("sampling", flush=True)
        try:
            fit(formula, frame, engine="pymc", tune=10**6, out=out + "/" + name, progress=False)
        except KeyboardInterrupt:
            print("KeyboardInterrupt", flush=True)
"""


@pytest.fixture(scope="module", autouse=True)
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start another process that fits once, and then, each time it is told to, for so long that it can be stopped.

    It starts before the first test, since it compiles for as long as several of them.
    """
    out = tmp_path_factory.mktemp("fresh")
    data = Path(__file__).parent / "data" / "crossed.csv"
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(data), CROSSED, str(out)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, bufsize=1, cwd=Path(__file__).parents[2]) as process:
        yield process, out
        process.kill()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="pins a process to one core, which needs Linux")
def test_another_process_draws_the_same_and_leaves_nothing_when_stopped(
    fresh: tuple[subprocess.Popen[str], Path], trials: Trials, model: Model
) -> None:
    process, out = fresh
    assert process.stdin is not None and process.stdout is not None
    sample(*prepare(trials("nested"), **model("nested")), SHORT)  # other data through the same compiled model
    here = sample(*prepare(trials("crossed"), CROSSED), SHORT)
    for stop, then in ((signal.SIGINT, "KeyboardInterrupt\n"), (signal.SIGKILL, "")):
        process.stdin.write("go\n")
        assert process.stdout.readline() == "sampling\n"
        time.sleep(2.0)
        process.send_signal(stop)
        assert process.stdout.readline() == then
    assert process.wait() == -signal.SIGKILL
    assert [path.name for path in out.iterdir()] == ["fresh"]
    there: Fit = load_fit(out / "fresh")
    np.testing.assert_array_equal(here.b, there.draws_table.posterior["b"].to_numpy())
    np.testing.assert_array_equal(here.r[1], there.draws_table.posterior["r_item"].to_numpy())
    np.testing.assert_array_equal(here.stats["lp"], there.draws_table.groups["sample_stats"]["lp"].to_numpy())
