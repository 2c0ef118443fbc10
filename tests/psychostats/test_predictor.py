"""Predictions against closed forms, adaptive integration and Monte Carlo."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from psychostats.answers import Answers
from psychostats.design import code
from psychostats.families import resolve_family
from psychostats.formula import parse_formula
from psychostats.predictor import (
    TARGETS,
    Parameters,
    average,
    fixed_predictor,
    linear_predictor,
    probability,
    random_variance,
    row_blocks,
)

FAMILIES = [
    resolve_family(),
    resolve_family("afc"),
    resolve_family("afc", guess=0.25, lapse=0.03),
    resolve_family("bernoulli", link="probit"),
    resolve_family("afc", link="probit", lapse=0.02),
]
IDS = [family.describe() for family in FAMILIES]
DRAWS = 7


def trials(seed=11, n=60):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "y": rng.integers(0, 2, n),
            "f": rng.choice(["local", "distributed"], n),
            "x": rng.uniform(0, 1, n),
            "person": rng.choice(list("abcde"), n),
            "pair": rng.choice(["u", "v", "w"], n),
        }
    )


def model(data, text="y ~ f * x + offset(x / 2) + (1 + f | person) + (1 + f + x || pair)"):
    return code(parse_formula(text), data)


def parameters(design, seed=0, draws=DRAWS):
    rng = np.random.default_rng(seed)
    covariance, r = [], []
    for block in design.blocks:
        q = len(block.terms)
        root = rng.normal(size=(draws, q, q)) * 0.7
        sigma = root @ np.swapaxes(root, 1, 2)
        covariance.append(sigma if block.structure == "correlated" else sigma * np.eye(q))
        r.append(rng.normal(size=(draws, len(block.levels), q)))
    return Parameters(rng.normal(size=(draws, len(design.names))), tuple(covariance), tuple(r))


def integral(family, eta, sd):
    """Average by adaptive quadrature, cut where the psychometric function bends."""
    bend = [-eta / sd] if sd > 0 and abs(eta / sd) < 11 else None
    value, _ = integrate.quad(
        lambda z: float(family.mean(eta + sd * z)) * stats.norm.pdf(z), -12, 12, points=bend, epsabs=1e-13, limit=400
    )
    return value


@pytest.mark.parametrize(
    ("sd", "accuracy"), [(0.0, 1e-14), (0.5, 1e-13), (1.0, 1e-13), (1.5, 1e-13), (2.0, 1e-10), (3.0, 2e-7)]
)
@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_the_population_average_is_the_integral(family, sd, accuracy):
    eta = np.linspace(-7, 7, 15)
    found = average(family.mean, eta, np.array(sd**2))
    np.testing.assert_allclose(found, [integral(family, e, sd) for e in eta], atol=accuracy, rtol=0)


def test_a_normal_average_of_probits_is_a_probit():
    family = Answers("afc", "probit", 0.5, 0.02)
    eta, sd = np.linspace(-5, 5, 41)[:, np.newaxis], np.array([0.0, 0.3, 1.0, 1.5, 2.0])
    expected = family.guess + family.span * special.ndtr(eta / np.sqrt(1 + sd**2))
    np.testing.assert_allclose(average(family.mean, eta, sd**2), expected, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.floats(-8, 8), st.floats(0, 3))
def test_averages_are_pulled_to_the_middle_and_mirror(eta, sd):
    plain = resolve_family()
    mean = average(plain.mean, np.array([eta]), np.array([sd**2]))[0]
    typical = plain.mean(eta)
    assert abs(mean - 0.5) <= abs(typical - 0.5) + 1e-9
    assert average(plain.mean, np.array([-eta]), np.array([sd**2]))[0] == pytest.approx(1 - mean, abs=1e-12)
    forced = average(resolve_family("afc").mean, np.array([eta]), np.array([sd**2]))[0]
    assert forced == pytest.approx(0.5 + mean / 2, abs=1e-12)  # an average of a line is the line of the average


def test_the_population_is_met_by_drawing_it():
    """New people and new pairs, correlated and independent effects together, against a million simulated of each."""
    data = trials()
    coding = model(data)
    design = coding.design(data)
    given_ = parameters(design, seed=3, draws=2)
    grid = coding.grid({"x": [0.2, 0.9]})
    X, offset, blocks = coding.fixed(grid), coding.offset(grid), coding.random(grid)
    family = resolve_family("afc", lapse=0.01)
    found = probability(family, X, offset, blocks, given_, "population")
    rng = np.random.default_rng(8)
    n = 1_000_000
    for s in range(2):
        eta = np.broadcast_to(fixed_predictor(X, offset, given_.b)[s], (n, len(grid))).copy()
        for block, covariance in zip(blocks, given_.covariance, strict=True):
            eta += rng.multivariate_normal(np.zeros(len(block.terms)), covariance[s], size=n) @ block.Z.T
        p = family.mean(eta)
        np.testing.assert_allclose(found[s], p.mean(axis=0), atol=4.5 * p.std() / np.sqrt(n))
    typical = probability(family, X, offset, blocks, given_, "typical")
    assert np.abs(found - typical).max() > 0.02  # the two are not the same thing


def test_the_variance_of_the_random_part_by_hand():
    data = trials()
    coding = model(data, "y ~ 1 + (1 + x | person) + (1 | pair)")
    grid = coding.grid({"x": [0.0, 2.0]})
    sigma = np.array([[[0.5, -0.2], [-0.2, 0.3]]])
    found = random_variance(coding.random(grid), [sigma, np.array([[[0.7]]])])
    np.testing.assert_allclose(found, [[0.5 + 0.7, 0.5 + 2 * 2 * -0.2 + 4 * 0.3 + 0.7]])


def test_effects_that_cancel_leave_no_variance():
    data = trials()
    coding = model(data, "y ~ 1 + (1 + x | person)")
    grid = coding.grid({"x": [1.0]})
    sd = np.random.default_rng(0).uniform(0.1, 2, 200)
    sigma = sd[:, np.newaxis, np.newaxis] ** 2 * np.array([[1.0, -1.0], [-1.0, 1.0]])
    sigma[:, 0, 0] *= 1 - 1e-16
    sigma[:, 1, 1] *= 1 - 2e-16
    found = random_variance(coding.random(grid), [sigma])
    assert (found >= 0).all()
    assert found.max() < 1e-14


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_typical_is_the_mean_at_no_random_effect(family):
    data = trials()
    design = model(data).design(data)
    known = parameters(design)
    none = Parameters(known.b, known.covariance, tuple(np.zeros_like(r) for r in known.r))
    found = probability(family, design.X, design.offset, design.blocks, known, "typical")
    np.testing.assert_allclose(found, family.mean(linear_predictor(design, none)), rtol=1e-14)


@pytest.mark.parametrize("target", TARGETS)
def test_without_groups_or_variance_both_targets_agree(target):
    data, family = trials(), resolve_family("afc")
    design = model(data, "y ~ f * x").design(data)
    known = parameters(design)
    expected = family.mean(known.b @ design.X.T)
    np.testing.assert_allclose(probability(family, design.X, design.offset, (), known, target), expected)
    grouped = model(data).design(data)
    still = Parameters(known.b, tuple(np.zeros((DRAWS, len(k.terms), len(k.terms))) for k in grouped.blocks))
    np.testing.assert_allclose(
        probability(family, grouped.X, np.zeros(len(data)), grouped.blocks, still, target), expected, rtol=1e-13
    )


def test_eta_is_the_sum_of_its_parts_row_by_row():
    data = trials()
    design = model(data).design(data)
    known = parameters(design)
    found = linear_predictor(design, known)
    for s, i in [(0, 0), (3, 17), (6, 59)]:
        eta = known.b[s] @ design.X[i] + data["x"][i] / 2
        for block, r in zip(design.blocks, known.r, strict=True):
            eta += r[s, block.levels.index(data[block.group][i])] @ block.Z[i]
        assert found[s, i] == pytest.approx(eta, rel=1e-12)


@pytest.mark.parametrize("at_once", [1, DRAWS * 7, DRAWS * 60, 10**6])
def test_rows_in_blocks_are_the_rows_at_once(at_once):
    data = trials()
    design = model(data).design(data)
    known = parameters(design)
    whole = linear_predictor(design, known)
    seen = []
    for part, eta, _ in row_blocks(design, known, resolve_family(), at_once):
        np.testing.assert_allclose(eta, whole[:, part], atol=1e-13)
        assert eta.size <= max(at_once, DRAWS)
        seen += range(len(data))[part]
    assert seen == list(range(len(data)))


def test_relabelled_people_change_nothing():
    data = trials()
    names = dict(zip("abcde", ["p10", "Z", "é", "b", "p9"], strict=True))
    renamed = data.assign(person=data["person"].map(names))
    one, two = model(data).design(data), model(renamed).design(renamed)
    known = parameters(one)
    order = [
        one.blocks[0].levels.index({new: old for old, new in names.items()}[level]) for level in two.blocks[0].levels
    ]
    moved = Parameters(known.b, known.covariance, (known.r[0][:, order], known.r[1]))
    np.testing.assert_allclose(linear_predictor(two, moved), linear_predictor(one, known), rtol=1e-13)


def test_an_unseen_level_adds_nothing():
    data = trials()
    coding = model(data)
    known = parameters(coding.design(data))
    new = data.iloc[:3].assign(person=["new", data["person"][1], "new"], pair=["new", data["pair"][1], data["pair"][2]])
    found, old = linear_predictor(coding.design(new), known), linear_predictor(coding.design(data.iloc[:3]), known)
    design = coding.design(new)
    np.testing.assert_allclose(found[:, 0], fixed_predictor(design.X, design.offset, known.b)[:, 0])
    np.testing.assert_allclose(found[:, 1], old[:, 1])
    pair = design.blocks[1]
    alone = np.einsum("sq,q->s", known.r[1][:, pair.index[2]], pair.Z[2])
    np.testing.assert_allclose(found[:, 2], fixed_predictor(design.X, design.offset, known.b)[:, 2] + alone)
