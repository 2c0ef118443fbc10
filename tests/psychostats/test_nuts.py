"""The fast sampler: its density against SciPy's, its gradient against differences, its draws against known truth.

Its draws against PyMC's: `test_engines_agree.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from densities import distance, half, lkj, log_density, whitened, without_data
from posterior import assert_alike, full_frame, named, prepare
from scipy import stats

from psychostats import nuts, sampler
from psychostats.design import Design
from psychostats.errors import InputError, PsychostatsError
from psychostats.kernel import SamplingRecord, address
from psychostats.nuts import Posterior
from psychostats.predictor import take_rows
from psychostats.sampling import Sample, Settings
from psychostats.spec import specify
from psychostats.threads import one_thread

Array = np.ndarray
ROOT = Path(__file__).parents[2]

CASES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "forced choice": (
        "correct ~ x * w + offset(o) + (1 + x | g) + (1 + w | h)",
        {"family": "afc", "guess": 0.25, "lapse": 0.03},
        ["b_x ~ student_t(4, 0.5, 1)", "sd_g ~ normal(0.3, 0.5)", "sd_h__w ~ gamma(2, 3)", "cor_g ~ lkj(1)"],
    ),
    "crossed": (
        "correct ~ x * w + (1 | g) + (1 | h)",
        {"family": "bernoulli"},
        ["b ~ cauchy(0, 1)", "sd_g ~ student_t(3, 0, 2.5)", "sd_h ~ cauchy(0, 1)"],
    ),
    "three crossed": ("correct ~ x + (1 | g) + (1 + x | h) + (1 | f)", {"family": "bernoulli"}, []),
    "nested": ("correct ~ x + (1 | f / g)", {"family": "bernoulli"}, []),
    "uncorrelated": ("correct ~ f + (1 + f || g)", {"family": "bernoulli"}, ["sd ~ gamma(1.8, 2)"]),
    "two blocks of one group": ("correct ~ x + (1 | g) + (0 + x + w | g) + (0 + w | h)", {"family": "bernoulli"}, []),
    "three terms": (
        "correct ~ x + w + (1 + x + w | g)",
        {"family": "bernoulli"},
        ["cor ~ lkj(4)", "sd_g__x ~ exponential(5)"],
    ),
    "five terms": ("correct ~ x + w + (1 + x + w + f | g)", {"family": "afc"}, []),
    "counts": ("cbind(right, wrong) ~ x + (1 | g)", {"family": "binomial"}, []),
    "probit": (
        "cbind(right, wrong) ~ x + (1 + x | g)",
        {"family": "binomial", "link": "probit", "lapse": 0.02},
        [],
    ),
    "probit without asymptotes": ("correct ~ x + (1 | g)", {"family": "bernoulli", "link": "probit"}, []),
    "gaussian": ("w ~ x + offset(o) + (1 + x | g) + (1 | h)", {"family": "gaussian"}, ["sigma ~ normal(1, 2)"]),
    "lognormal": ("rt ~ x + (1 | g)", {"family": "lognormal"}, ["sigma ~ student_t(3, 0, 1)"]),
    "no group": ("correct ~ x * w", {"family": "bernoulli"}, []),
}
every_case = pytest.mark.parametrize("case", CASES)


def made(case: str, seed: int = 7) -> Any:
    formula, family, priors = CASES[case]
    return prepare(full_frame(seed), formula, priors, **family)


def posterior(design: Design, family: Any, priors: Any) -> Posterior:
    with one_thread():
        return Posterior.of(design, family, priors)


def places(model: Posterior, count: int, seed: int = 0) -> Array:
    """Return coordinates near the bulk and far out."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, model.dimension)) * np.geomspace(0.1, 2.5, count)[:, np.newaxis]


def parts(model: Posterior, y: Array) -> Sample:
    """Return natural parameters at coordinates as if they were draws of one chain."""
    values = np.array([model.natural(row) for row in y])[np.newaxis]
    return model.label(values, {})


@every_case
def test_density_is_that_of_scipy_at_any_place(case: str) -> None:
    design, family, priors = made(case)
    model = posterior(design, family, priors)
    y = places(model, 40)
    drawn = parts(model, y)
    names = [
        name
        for block, cor in zip(design.blocks, drawn.cor, strict=True)
        for name in [*(f"sd_{block.group}__{term}" for term in block.terms), *([""] * cor.shape[-1])]
    ]
    softness = {name: float(a) for name, a in zip([*names, "sigma"], [*model.whitening.softness, 0.0], strict=False)}
    groups = []
    for g, triangle in enumerate(model.whitening.information):
        q = model.mixed.groups[g].terms
        square = np.zeros((len(triangle), q, q))
        rows, columns = np.tril_indices(q)
        square[:, rows, columns] = square[:, columns, rows] = triangle
        groups.append((square, [i for i, (at, _) in enumerate(model.mixed.parts) if at == g]))
    ours = np.array([model.log_density(row)[0] for row in y])
    gap = ours - log_density(design, family, priors, drawn, softness, groups)[0]
    np.testing.assert_allclose(gap - gap.mean(), 0.0, atol=1e-8 * np.abs(ours).max())
    assert np.ptp(ours) > 5  # a density that never moves would pass


@every_case
def test_gradient_is_that_of_differences(case: str) -> None:
    model = posterior(*made(case))
    h = 1e-5
    for y in places(model, 4, seed=1):
        gradient = model.log_density(y)[1]
        differences = [
            (model.log_density(y + step)[0] - model.log_density(y - step)[0]) / (2 * h) for step in h * np.eye(len(y))
        ]
        np.testing.assert_allclose(gradient, differences, atol=3e-7 * max(1.0, np.abs(gradient).max()))


@every_case
def test_coordinates_are_nearly_standard_normal(case: str) -> None:
    """It is what they are for: the mode is near zero, and curvature near one in every direction that data know."""
    model = posterior(*made(case))
    assert model.whitening.found
    h = 1e-4
    columns = [
        (model.log_density(step)[1] - model.log_density(-step)[1]) / (2 * h) for step in h * np.eye(model.dimension)
    ]
    curvature = -0.5 * (np.array(columns) + np.array(columns).T)
    m = len(model.theta)
    # Given theta, all else; theta's own is further from normal, and b's prior may have heavy tails.
    values = np.linalg.eigvalsh(curvature[m:, m:])
    assert values.min() > 0.5 and values.max() < 2.0
    assert np.linalg.eigvalsh(curvature).min() > 0.1 and np.linalg.eigvalsh(curvature).max() < 6.0


def test_without_data_the_prior_comes_back() -> None:
    priors = [
        "b_Intercept ~ normal(0.5, 2)",
        "b_x ~ student_t(5, 1, 0.5)",
        "b_w ~ normal(-3, 0.1)",
        "sd_g__Intercept ~ exponential(2)",
        "sd_g__x ~ normal(0, 1.5)",
        "sd_h__Intercept ~ student_t(3, 0, 2.5)",
        "sd_h__x ~ gamma(2, 4)",
        "sd_h__w ~ normal(0.5, 0.5)",
        "cor_g ~ lkj(1)",
        "cor_h ~ lkj(3)",
    ]
    model = without_data((2, 3), 4, priors, ("g", "h"))
    design, drawn = model[0], nuts.sample(*model, Settings(draws=4000, tune=1000, target_accept=0.9))
    expected = {
        "b_Intercept": stats.norm(0.5, 2).cdf,
        "b_x": stats.t(5, 1, 0.5).cdf,
        "b_w": stats.norm(-3, 0.1).cdf,
        "b_x:w": stats.norm(0, 1 / np.ptp(design.X[:, 3])).cdf,
        "sd_g__Intercept": stats.expon(scale=0.5).cdf,
        "sd_g__x": stats.halfnorm(scale=1.5).cdf,
        "sd_h__Intercept": half(stats.t(3, 0, 2.5)),
        "sd_h__x": stats.gamma(2, scale=0.25).cdf,
        "sd_h__w": half(stats.norm(0.5, 0.5)),
        "cor_g_0": lkj(2, 1),
        **{f"cor_h_{j}": lkj(3, 3) for j in range(3)},
    }
    draws = named(design, drawn)
    assert draws.keys() == expected.keys()
    distances = {name: distance(draws[name], cdf) for name, cdf in expected.items()}
    distances |= {f"z {i}{j}": distance(whitened(drawn, i)[..., 0, j], stats.norm.cdf) for i in (0, 1) for j in (0, 1)}
    assert max(distances.values()) < 2.0, distances


def test_a_posterior_in_closed_form() -> None:
    """Measurements with b normal and sigma all but known: b given the data is normal, its mean and covariance known."""
    rng = np.random.default_rng(11)
    frame = pd.DataFrame({"x": rng.normal(size=60)})
    frame["y"] = 1.0 + 0.5 * frame["x"] + rng.normal(0, 0.3, 60)
    laws = ["b_Intercept ~ normal(0, 1)", "b_x ~ normal(2, 0.1)", "sigma ~ normal(0.3, 0.00001)"]
    model = prepare(frame, "y ~ x", laws, family="gaussian")
    drawn = nuts.sample(*model, Settings(draws=10000, tune=500))
    X = model[0].X
    precision = X.T @ X / 0.09 + np.diag([1.0, 100.0])
    covariance = np.linalg.inv(precision)
    mean = covariance @ (X.T @ frame["y"].to_numpy() / 0.09 + np.array([0.0, 200.0]))
    for j in range(2):
        law = stats.norm(mean[j], np.sqrt(covariance[j, j]))
        assert distance(drawn.b[..., j], law.cdf) < 2.0


@pytest.mark.parametrize("family", ["bernoulli", "gaussian"])
def test_a_coefficient_that_no_row_tells_keeps_its_prior(family: str) -> None:
    """A fold may hold all rows of a factor's level, so that the others have its column at zero."""
    frame = full_frame(7)
    formula = f"{'correct' if family == 'bernoulli' else 'w'} ~ f + (1 | g)"
    design, law, priors = prepare(frame, formula, ["b_fb ~ normal(0.5, 2)"], family=family)
    left = take_rows(design, np.flatnonzero((frame["f"] != "b").to_numpy()))
    drawn = nuts.sample(left, law, priors, Settings(draws=2000, tune=300))
    draws = named(design, drawn)
    assert distance(draws["b_fb"], stats.norm(0.5, 2).cdf) < 2.0
    assert draws["b_fc"].std() < 0.8 * np.std(draws["b_fb"])
    few = take_rows(design, np.arange(2))  # fewer than coefficients
    assert np.isfinite(nuts.sample(few, law, priors, Settings(draws=50, tune=50)).b).all()


def test_one_seed_gives_one_set_of_draws_on_any_number_of_cores(tmp_path: Path) -> None:
    model = made("crossed")
    here = nuts.sample(*model, Settings(draws=50, tune=100, seed=5))
    script = """
        import os, sys
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        sys.path[:0] = ["tests/psychostats"]
        import numpy as np
        from test_nuts import made
        from psychostats import nuts
        from psychostats.sampling import Settings
        np.save(sys.argv[1], nuts.sample(*made("crossed"), Settings(draws=50, tune=100, seed=5)).b)
    """
    out = tmp_path / "b.npy"
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(out)], cwd=ROOT, check=True, env=os.environ)
    np.testing.assert_array_equal(np.load(out), here.b)
    other = nuts.sample(*model, Settings(draws=50, tune=100, seed=6))
    assert not np.array_equal(other.b, here.b)
    assert not np.array_equal(here.b[0], here.b[1])


def test_rows_in_another_order_have_the_same_draws() -> None:
    formula, family, priors = CASES["forced choice"]
    frame = full_frame(7)
    one = nuts.sample(*prepare(frame, formula, priors, **family), Settings(draws=50, tune=100))
    two = nuts.sample(
        *prepare(frame.sample(frac=1, random_state=1), formula, priors, **family), Settings(draws=50, tune=100)
    )
    np.testing.assert_array_equal(one.b, two.b)


def test_statistics_are_those_of_the_draws() -> None:
    model = made("crossed")
    drawn = nuts.sample(*model, Settings(draws=300, tune=200, chains=3))
    assert drawn.b.shape == (3, 300, 4)
    assert set(drawn.stats) == {"diverging", "maxdepth_reached", "n_steps", "depth", "energy", "lp", "step_size"}
    assert not drawn.stats["diverging"].any()
    # A whole tree of depth d takes 2^d - 1 steps; one that turns before that is no deeper than it got.
    assert (drawn.stats["n_steps"] >= 2 ** drawn.stats["depth"] - 1).all()
    assert (drawn.stats["n_steps"] < 2 ** (drawn.stats["depth"] + 1)).all()
    assert (drawn.stats["energy"] + drawn.stats["lp"] > -200).all()


@pytest.mark.parametrize(
    ("formula", "family", "word"),
    [
        ("correct ~ x + (1 | g)", {"family": "afc", "lapse": "estimate"}, "lapse"),
        ("rating ~ x + (1 | g)", {"family": "cumulative"}, "cumulative"),
        ("rt ~ x + (1 | g)", {"family": "shifted_lognormal"}, "shifted_lognormal"),
        ("correct ~ mo(level) + (1 | g)", {"family": "bernoulli"}, "monotonic"),
    ],
)
def test_what_it_does_not_cover_is_named(formula: str, family: dict[str, Any], word: str) -> None:
    assert word in str(nuts.why_not(specify(formula, **family)))


@every_case
def test_what_it_covers_is_not_refused(case: str) -> None:
    formula, family, priors = CASES[case]
    assert nuts.why_not(specify(formula, priors=priors, **family)) is None


# --- What stops chains ------------------------------------------------------------------------------------------------

LONG = Settings(draws=10, tune=1_000_000)


def sampling_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "work" in thread.name]


def test_an_interruption_while_chains_begin_ends_those_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they would go on behind the back of whoever interrupted them, for as long as all of sampling."""
    started, start = [], threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise KeyboardInterrupt
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        nuts.sample(*made("crossed"), LONG)
    assert len(started) == 2 and not any(thread.is_alive() for thread in started)


def test_what_a_thread_raises_is_raised_and_stops_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain that was not drawn is never given out as drawn."""

    def record(*values: Any) -> SamplingRecord:
        if values[4] == 1:  # the chain
            raise MemoryError
        return SamplingRecord(*values)

    monkeypatch.setattr(nuts, "SamplingRecord", record)
    with pytest.raises(MemoryError):
        nuts.sample(*made("crossed"), LONG)
    assert not sampling_threads()


def test_a_posterior_that_is_nowhere_finite_is_said() -> None:
    design, family, priors = made("crossed")
    nowhere = replace(design, offset=np.full(len(design.X), np.nan))
    model = posterior(design, family, priors)
    model.record.offset = address(nowhere.offset[: model.tables.fixed.slots], model.held)
    with pytest.raises(PsychostatsError, match="the log-density is not finite near the start"):
        nuts._run(model, LONG, False)


def test_a_group_with_too_many_terms_is_refused() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{k}": rng.normal(size=200) for k in range(17)})
    frame["g"], frame["correct"] = rng.choice(list("abcdefgh"), 200), rng.integers(0, 2, 200)
    slopes = " + ".join(f"x{k}" for k in range(17))
    with pytest.raises(InputError, match=r"18 effects a level.*16 at most.*--engine pymc"):
        nuts.sample(*prepare(frame, f"correct ~ 1 + (1 + {slopes} || g)"), Settings(draws=10, tune=10))


DEGENERATE: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "all right": lambda frame: frame.assign(correct=1),
    "a level all wrong": lambda frame: frame.assign(correct=frame["correct"] * (frame["f"] != "a")),
    "separated": lambda frame: frame.assign(correct=(frame["x"] > 0).astype(int)),
    "a column far from zero": lambda frame: frame.assign(x=2000 + frame["x"]),
    "a tiny column": lambda frame: frame.assign(x=1e-6 * frame["x"]),
}


@pytest.mark.parametrize("what", DEGENERATE)
def test_priors_hold_what_data_do_not(what: str) -> None:
    """Where likelihood alone has no maximum the posterior is proper, and both engines find it."""
    frame = DEGENERATE[what](full_frame(7))
    model = prepare(frame, "correct ~ x + f + (1 + x | g) + (1 | h)")
    drawn = nuts.sample(*model, Settings(draws=1000, tune=300, target_accept=0.9))
    # A column far from zero confounds intercept and slope by a factor that no sampler undoes but the whitening.
    assert drawn.stats["diverging"].mean() < 0.002
    if what not in ("a column far from zero", "a tiny column"):
        other = sampler.sample(*model, Settings(draws=1000, target_accept=0.95))
        assert_alike(named(model[0], drawn), named(model[0], other), most=4.5)
