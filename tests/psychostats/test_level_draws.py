"""Effects of levels as draws: a posterior's own, and around a maximum those of the joint normal law."""

from dataclasses import replace

import numpy as np
import pytest
from feature_trials import FORMULA, answer, features_of
from scipy import linalg

from psychostats.errors import InputError
from psychostats.fit import fit
from psychostats.level_draws import level_draws
from psychostats.predictor import Parameters, linear_predictor


@pytest.fixture(scope="module", params=[(40, 24), (16, 36)], ids=["more people", "more pairs"])
def maximum(request):
    people, pairs = request.param
    rng = np.random.default_rng(7)
    return fit(FORMULA, answer(features_of(pairs, rng), rng, people=people), family="afc", engine="laplace")


def known(made):
    """Give the same fit with its fixed effects and covariances known to a millionth."""
    best = made.result.maximum
    certain = replace(best, covariance=1e-12 * best.covariance)
    return replace(made, result=replace(made.result, maximum=certain))


def dense(made):
    """Give Lambda H^-1 Lambda' of all effects, and the slopes of their modes by b, from dense matrices."""
    best, design = made.estimates.maximum, made.design
    modes = Parameters(best.b[np.newaxis], (), tuple(r[np.newaxis] for r in best.r))
    eta = linear_predictor(design, modes)[0]
    weights = made.spec.family.derivatives(design.successes, design.trials, eta).information
    columns = []
    for block, L in zip(design.blocks, best.factors, strict=True):
        A = np.zeros((len(eta), len(block.levels), len(block.terms)))
        A[np.arange(len(eta)), block.index] = block.Z @ L
        columns.append(A.reshape(len(eta), -1))
    A = np.concatenate(columns, axis=1)
    Lambda = linalg.block_diag(*(L for block, L in zip(design.blocks, best.factors, strict=True) for _ in block.levels))
    inverse = np.linalg.inv(A.T @ (weights[:, None] * A) + np.eye(A.shape[1]))
    return Lambda @ inverse @ Lambda.T, -Lambda @ inverse @ A.T @ (weights[:, None] * design.X)


def flat(parameters):
    """Give all effects side by side, shape (draws, effects)."""
    return np.concatenate([r.reshape(len(r), -1) for r in parameters.r], axis=1)


def test_given_the_rest_effects_have_the_covariance_of_their_dense_hessian(maximum):
    best, (expected, _) = maximum.estimates.maximum, dense(maximum)
    drawn = flat(level_draws(known(maximum), draws=40_000))
    sd = np.sqrt(np.diag(expected))
    assert np.cov(drawn.T) / np.outer(sd, sd) == pytest.approx(expected / np.outer(sd, sd), abs=0.035)
    assert drawn.mean(axis=0) == pytest.approx(np.concatenate([r.ravel() for r in best.r]), abs=0.03)
    spread = np.concatenate([s.ravel() for s in best.r_sd])
    assert drawn.std(axis=0) == pytest.approx(spread, rel=0.02)


def test_fixed_effects_are_drawn_as_the_fit_reports_them_and_what_is_not_known_of_them_widens_effects(maximum):
    best, p = maximum.estimates.maximum, len(maximum.design.names)
    parameters = level_draws(maximum, draws=20_000)
    assert parameters.b.mean(axis=0) == pytest.approx(best.b, abs=0.03)
    assert np.cov(parameters.b.T) == pytest.approx(best.covariance[:p, :p], rel=0.06, abs=0.003)
    for r, sd in zip(parameters.r, best.r_sd, strict=True):
        assert (r.std(axis=0) > 0.97 * sd).all()
        assert r.std(axis=0).mean() > 1.01 * sd.mean()


def test_the_modes_move_with_the_fixed_effects_by_the_implicit_function_theorem(maximum):
    # With the covariances known, what moves the modes is b alone.
    best, p = maximum.result.maximum, len(maximum.design.names)
    V = np.zeros_like(best.covariance)
    V[:p, :p] = best.covariance[:p, :p]
    made = replace(maximum, result=replace(maximum.result, maximum=replace(best, covariance=V)))
    parameters = level_draws(made, draws=40_000)
    b = np.concatenate([np.ones((40_000, 1)), parameters.b], axis=1)
    slopes = np.linalg.lstsq(b, flat(parameters), rcond=None)[0][1:]
    assert slopes == pytest.approx(dense(maximum)[1].T, abs=0.08)


def test_two_calls_agree_and_seeds_differ(maximum):
    one, two, three = (level_draws(maximum, draws=50, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.r[1], two.r[1]) and not np.array_equal(one.r[1], three.r[1])


def test_a_posterior_has_draws_of_its_own(fitted):
    made = fitted("afc")
    assert np.array_equal(level_draws(made, seed=5).r[1], made.parameters().r[1])


def test_bad_calls_are_refused(maximum):
    with pytest.raises(InputError, match="1 draws of the effects"):
        level_draws(maximum, draws=1)
    trials = maximum.data.assign(score=lambda x: np.random.default_rng(1).normal(size=len(x)))
    scores = fit("score ~ depth + (1 | pair)", trials, family="gaussian", engine="laplace")
    with pytest.raises(InputError, match="not for gaussian"):
        level_draws(scores)
