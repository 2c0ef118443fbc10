"""The sampler's density against SciPy's, exactly, and its draws against the prior where there are no data."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from densities import distance, half, lkj, log_density, whitened, without_data
from posterior import full_frame, named, prepare
from scipy import stats

from psychostats import sampler
from psychostats.design import Design
from psychostats.families import resolve_family
from psychostats.libraries import pymc
from psychostats.priors import resolve_priors
from psychostats.sampler import sample
from psychostats.sampling import Settings

Array = np.ndarray


# --- The density, exactly ---------------------------------------------------------------------------------------------


class Points:
    """PyMC's own function of a model at random points, where the sampler has draws: it compiles ten times as fast."""

    def __init__(self, structure: Any) -> None:
        self.model, _, self.kept = sampler.build(structure)

    def with_data(self, **data: Any) -> Points:
        pm, *_ = pymc()
        with self.model:
            pm.set_data(data)
        return self

    def evaluate(self, settings: Settings, progress: bool) -> tuple[Any, bool]:
        model, rng = self.model, np.random.default_rng(settings.seed)
        of_point = [model.logp(jacobian=True), *model.replace_rvs_by_values([model[name] for name in self.kept])]
        function = model.compile_fn(of_point, inputs=model.value_vars, mode="FAST_COMPILE", on_unused_input="ignore")
        shapes = {name: np.shape(value) for name, value in model.initial_point().items()}

        def point() -> dict[str, Array]:
            # Not farther out, where SciPy's difference of two distribution functions has no digits left.
            return {name: 0.4 * rng.normal(size=shape) for name, shape in shapes.items()}

        rows = [[function(point()) for _ in range(settings.draws)] for _ in range(settings.chains)]
        lp, *kept = (np.stack([np.stack([row[i] for row in chain]) for chain in rows]) for i in range(len(of_point)))
        stats = dict.fromkeys(("diverging", "maxdepth_reached", "n_steps", "depth", "energy", "step_size"), lp)
        trace = {"posterior": dict(zip(self.kept, kept, strict=True)), "sample_stats": stats | {"logp": lp}}
        return SimpleNamespace(
            **{
                part: {name: SimpleNamespace(values=value) for name, value in values.items()}
                for part, values in trace.items()
            }
        ), False


CASES = (
    ("formula", "levels", "family", "priors"),
    [
        (
            "correct ~ x * w + offset(o) + (1 + x | g) + (1 + w | h)",
            (32, 32),
            {"family": "afc", "guess": 0.25, "lapse": 0.03},
            ["b_x ~ student_t(4, 0.5, 1)", "sd_g ~ normal(0.3, 0.5)", "sd_h__w ~ gamma(2, 3)", "cor_g ~ lkj(1)"],
        ),
        (
            "correct ~ x * w + (1 | g) + (1 | h)",
            (32, 64),
            {"family": "bernoulli"},
            ["b ~ cauchy(0, 1)", "sd_g ~ student_t(3, 0, 2.5)", "sd_h ~ cauchy(0, 1)"],
        ),
        ("correct ~ f + (1 + f || g)", (32, 32), {"family": "bernoulli"}, ["sd ~ gamma(0.8, 2)"]),
        (
            "correct ~ x + w + (1 + x + w | g)",
            (32, 32),
            {"family": "bernoulli"},
            ["cor ~ lkj(4)", "sd_g__x ~ exponential(5)"],
        ),
        ("cbind(right, wrong) ~ x + (1 | g)", (32, 32), {"family": "binomial", "link": "probit", "lapse": 0.02}, []),
        ("correct ~ x + (1 | g)", (32, 32), {"family": "afc", "guess": 0.25, "lapse": "estimate"}, []),
        (
            "cbind(right, wrong) ~ x + (1 | g)",
            (32, 32),
            {"family": "binomial", "link": "probit", "lapse": "estimate"},
            ["lapse ~ uniform(0.01, 0.2)"],
        ),
        (
            "rating ~ x * f + (1 + x | g)",
            (32, 32),
            {"family": "cumulative"},
            ["b_Intercept ~ normal(0, 2)", "b_Intercept[2] ~ student_t(3, 0.5, 1)"],
        ),
        ("rating ~ x + (1 | g)", (32, 32), {"family": "cumulative", "link": "probit"}, []),
        ("rating ~ x + (1 | g)", (32, 32), {"family": "cumulative", "link": "probit", "disc": "f"}, []),
        (
            "rating ~ mo(level) + (1 | g)",
            (32, 32),
            {"family": "cumulative", "disc": "x * f"},
            ["b_disc ~ normal(0.1, 0.3)", "b_disc_x ~ student_t(3, 0, 0.5)"],
        ),
        ("w ~ x + offset(o) + (1 + x | g)", (32, 32), {"family": "gaussian"}, ["sigma ~ normal(1, 2)"]),
        ("rt ~ x + (1 | g)", (32, 32), {"family": "lognormal"}, ["sigma ~ student_t(3, 0, 1)"]),
        (
            "rt ~ x + (1 | g) + (1 | h)",
            (32, 32),
            {"family": "shifted_lognormal"},
            ["ndt ~ normal(0.2, 0.1)", "sigma ~ gamma(2, 3)"],
        ),
        ("rt ~ x + (1 | g)", (32, 32), {"family": "shifted_lognormal"}, []),
        ("correct ~ x * mo(level) + (1 | g)", (32, 32), {"family": "afc"}, ["simo ~ dirichlet(2)"]),
        ("rating ~ mo(level) + x + (1 | g)", (32, 32), {"family": "cumulative"}, ["bsp_molevel ~ normal(0.2, 1)"]),
    ],
)
NAMES = (
    *("afc", "crossed", "uncorrelated", "three_terms", "counts", "lapse", "lapse_uniform", "cumulative", "probit"),
    *("unequal", "unequal_logit"),
    *("gaussian", "lognormal", "shifted", "shifted_uniform", "monotonic", "monotonic_rating"),
)
SAMPLED = ("afc", "unequal")  # of both kinds of response: nutpie samples what PyMC says


def require_same(lp: Array, expected: Array) -> None:
    """Require log-densities that differ by a constant, to rounding."""
    gap = lp - expected
    np.testing.assert_allclose(gap - gap.mean(), 0.0, atol=1e-8 * np.abs(lp).max())
    assert np.ptp(lp) > 5  # a density that never moves would pass


@pytest.mark.parametrize(*CASES, ids=NAMES)
def test_density_is_that_of_scipy_at_random_points(
    formula: str, levels: tuple[int, int], family: dict[str, Any], priors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepare(full_frame(7, levels), formula, priors, **family)
    monkeypatch.setattr(sampler, "_compile", Points)
    monkeypatch.setattr(sampler, "_run", Points.evaluate)
    drawn = sample(*made, Settings(draws=60, tune=100, chains=2))
    require_same(drawn.stats["lp"], log_density(*made, drawn))


@pytest.mark.parametrize(CASES[0], [CASES[1][NAMES.index(name)] for name in SAMPLED], ids=SAMPLED)
def test_density_is_that_of_scipy_at_every_draw(
    formula: str, levels: tuple[int, int], family: dict[str, Any], priors: list[str]
) -> None:
    made = prepare(full_frame(7, levels), formula, priors, **family)
    drawn = sample(*made, Settings(draws=60, tune=100, chains=2))
    require_same(drawn.stats["lp"], log_density(*made, drawn))


# --- Without data, the prior comes back -------------------------------------------------------------------------------


def uninformed(terms: Sequence[int], columns: int, priors: Sequence[str], groups: Sequence[str]) -> Any:
    """Return a design of no trials, and draws under it."""
    model = without_data(terms, columns, priors, groups)
    return model[0], sample(*model, Settings(draws=1500))


def test_without_data_the_prior_comes_back_with_two_blocks() -> None:
    priors = [
        "b_Intercept ~ normal(0.5, 2)",
        "b_x ~ student_t(5, 1, 0.5)",
        "b_w ~ normal(-3, 0.1)",
        "sd_g__Intercept ~ exponential(2)",
        "sd_g__x ~ normal(0, 1.5)",
        "sd_h__Intercept ~ student_t(3, 0, 2.5)",
        "sd_h__x ~ gamma(2, 4)",
        "cor_g ~ lkj(1)",
        "cor_h ~ lkj(3)",
    ]
    design, drawn = uninformed((2, 2), 4, priors, ("g", "h"))
    expected = {
        "b_Intercept": stats.norm(0.5, 2).cdf,
        "b_x": stats.t(5, 1, 0.5).cdf,
        "b_w": stats.norm(-3, 0.1).cdf,
        "b_x:w": stats.norm(0, 1 / np.ptp(design.X[:, 3])).cdf,
        "sd_g__Intercept": stats.expon(scale=0.5).cdf,
        "sd_g__x": stats.halfnorm(scale=1.5).cdf,
        "sd_h__Intercept": half(stats.t(3, 0, 2.5)),
        "sd_h__x": stats.gamma(2, scale=0.25).cdf,
        "cor_g_0": lkj(2, 1),
        "cor_h_0": lkj(2, 3),
    }
    draws = named(design, drawn)
    assert draws.keys() == expected.keys()
    distances = {name: distance(draws[name], cdf) for name, cdf in expected.items()}
    distances |= {f"z {i}{j}": distance(whitened(drawn, i)[..., 0, j], stats.norm.cdf) for i in (0, 1) for j in (0, 1)}
    assert max(distances.values()) < 2.0, distances


def test_without_data_the_prior_of_a_lapse_rate_comes_back() -> None:
    X = np.ones((4, 1))
    design = Design(("Intercept",), X, np.zeros(4), (), np.zeros(4), np.zeros(4))
    family = resolve_family("afc", lapse="estimate")
    drawn = sample(design, family, resolve_priors(design, ["lapse ~ beta(2, 3)"], family), Settings(draws=1500))
    law = stats.beta(2, 3)
    assert distance(drawn.family["lapse"], lambda x: law.cdf(x) / law.cdf(0.5)) < 2.0


def test_without_data_the_prior_comes_back_with_three_correlated_terms() -> None:
    priors = [
        "cor ~ lkj(2)",
        "sd_g__Intercept ~ normal(0.5, 0.5)",
        "sd_g__x ~ gamma(0.7, 1)",
        "sd_g__w ~ exponential(5)",
    ]
    design, drawn = uninformed((3,), 3, priors, ("g",))
    expected = {
        "sd_g__Intercept": half(stats.norm(0.5, 0.5)),
        "sd_g__x": stats.gamma(0.7, scale=1.0).cdf,
        "sd_g__w": stats.expon(scale=0.2).cdf,
        **{f"cor_g_{j}": lkj(3, 2) for j in range(3)},
    }
    draws = named(design, drawn)
    distances = {name: distance(draws[name], cdf) for name, cdf in expected.items()}
    distances |= {f"z {j}": distance(whitened(drawn, 0)[..., 4, j], stats.norm.cdf) for j in range(3)}
    # Jointly: the determinant, beside matrices found by rejection from the cube with density det(R)^(eta - 1).
    rng = np.random.default_rng(5)
    a, b, c = rng.uniform(-1, 1, (3, 200_000))
    det = 1 + 2 * a * b * c - a**2 - b**2 - c**2
    kept = np.sort(det[rng.uniform(size=det.size) < det])
    x, y, z = (draws[f"cor_g_{j}"] for j in range(3))
    drawn_det = 1 + 2 * x * y * z - x**2 - y**2 - z**2
    distances["det"] = distance(drawn_det, lambda v: np.searchsorted(kept, v) / kept.size)
    assert max(distances.values()) < 2.0, distances
