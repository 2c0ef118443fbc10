"""Means, contrasts and trends of maximum-likelihood fits against R's emmeans, and the other tables against those.

tests/golden/README.md has the largest deviation of each analysis.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from deviations_emmeans import ANALYSES, GOLDEN, KINDS, asked, compare, fitted
from scipy import stats
from scipy.special import expit, logit

import psychostats as ps

# Ten times what was measured, or less. R finds the critical value and p-values of mvt with random points.
LIMITS = dict(zip(KINDS, (2e-8, 1e-5, 1e-5, 2e-5, 2e-6, 1e-3, 1e-3), strict=True))
Z = stats.norm.ppf(0.975)


@pytest.mark.parametrize(("name", "analysis"), ANALYSES, ids=[":".join(analysis) for analysis in ANALYSES])
def test_it_is_what_emmeans_says(name: str, analysis: str) -> None:
    found = compare(name, analysis)
    assert {kind: found[kind] for kind in KINDS if found[kind] > LIMITS[kind]} == {}
    entry = GOLDEN[name]["analyses"][analysis]
    seen = {kind for kind in KINDS if not np.isnan(found[kind])}
    assert seen == set(KINDS[:5]) | (set(KINDS[5:]) if "adjusted" in entry else set())


def test_regridding_before_an_average_is_not_regridding_after() -> None:
    """R's regrid() of averaged means is the method; the argument averages probabilities, as emmeans(regrid =)."""
    before = asked("terms_fgx", "f_equal", regrid="response").table()
    after = asked("terms_fgx", "f_equal").regrid().table()
    assert 1e-3 < np.abs(before["prob"] - after["prob"]).max() < 0.02
    joint = asked("terms_fgx", "joint", scale="response").table()
    np.testing.assert_allclose(before["prob"], joint.groupby("f")["prob"].mean(), rtol=1e-12)


# -- Effects tables: the same numbers, the later level minus the earlier -----------------------------------------------


def typical(table: pd.DataFrame, scale: str) -> pd.DataFrame:
    return table[(table["target"] == "typical") & (table["scale"] == scale)].reset_index(drop=True)


def require(own: pd.DataFrame, estimate: object, se: object, low: object, high: object, rtol: float = 1e-5) -> None:
    for name, golden in (("estimate", estimate), ("sd", se), ("conf_low", low), ("conf_high", high)):
        off = np.abs(own[name].to_numpy() - np.asarray(golden)) / np.maximum(np.abs(golden), np.asarray(se))
        assert off.max() < rtol, name


@pytest.mark.parametrize(
    ("name", "analysis", "factor", "by"),
    [
        ("slopes3", "condition", "condition", None),
        ("crossed3", "representation", "representation", None),
        ("crossed3", "representation_by_depth", "representation", {"depth": [0, 0.5, 1]}),
        ("terms_fgx", "f_equal", "f", None),
        ("terms_fgx", "g", "g", None),
        ("terms_fgx", "f_by_g", "f", {"g": ["left", "right"]}),
        ("gaussian_ml", "f", "f", None),
        ("gaussian_reml", "f", "f", None),
        ("gaussian_reml", "f_by_x", "f", {"x": [-1, 0, 1]}),
    ],
)
def test_effects_agree_with_emmeans(name: str, analysis: str, factor: str, by: dict | None) -> None:
    fit, entry = fitted(name), GOLDEN[name]["analyses"][analysis]
    beside = list(by or {})
    order = [*beside, factor]

    def sort(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
        return table.sort_values(columns, kind="stable", ignore_index=True)

    binary = fit.spec.family.binary
    for scale in ("link", "response") if binary else ("response",):
        rows = pd.DataFrame(entry[scale if binary else "link"])
        own = typical(ps.marginal_means(fit, factor, by=by, scale=scale), scale)
        own[factor] = own["term"].str.removeprefix(factor)
        own, rows = sort(own, order), sort(rows, order)
        assert own[factor].tolist() == rows[factor].tolist()
        column = "prob" if binary and scale == "response" else "emmean"
        require(own, *(rows[c] for c in (column, "SE", "LCL", "UCL")))

    made = entry["contrasts"]["pairwise"]
    own = ps.contrasts(fit, factor, by=by, scale="link" if binary else "response")
    own = sort(typical(own, "link" if binary else "difference"), [*beside, "contrast"])
    rows = pd.DataFrame(made["link"])
    rows["contrast"] = [" - ".join(reversed(words.split(" - "))) for words in rows["contrast"]]
    rows = sort(rows, [*beside, "contrast"])
    assert own["contrast"].tolist() == rows["contrast"].tolist()
    require(own, -rows["estimate"], rows["SE"], -rows["UCL"], -rows["LCL"])
    if not binary:
        return
    table = ps.contrasts(fit, factor, by=by)
    rows = pd.DataFrame(made["response"])
    rows["contrast"] = [" / ".join(reversed(words.split(" / "))) for words in rows["contrast"]]
    own, rows = (sort(t, [*beside, "contrast"]) for t in (typical(table, "odds_ratio"), rows))
    assert own["contrast"].tolist() == rows["contrast"].tolist()
    ratio = rows["odds.ratio"]
    require(own, 1 / ratio, rows["SE"] / ratio**2, 1 / rows["UCL"], 1 / rows["LCL"])
    own = sort(typical(table, "difference"), [*beside, "contrast"])
    rows = pd.DataFrame(entry["regrid"]["pairs"])
    rows["contrast"] = [" - ".join(reversed(words.split(" - "))) for words in rows["contrast"]]
    rows = sort(rows, [*beside, "contrast"])
    require(own, -rows["estimate"], rows["SE"], -rows["UCL"], -rows["LCL"])


def test_interactions_are_emmeans_differences_of_differences() -> None:
    rows = pd.DataFrame(GOLDEN["crossed3"]["analyses"]["interaction"]["contrasts"])
    golden = rows[rows["depth_revpairwise"] == "1 - 0"].iloc[0]
    coefficient = fitted("crossed3").terms().set_index("term").loc["b_representationdistributed:depth"]
    assert coefficient["estimate"] == pytest.approx(golden["estimate"], rel=1e-7)
    assert coefficient["sd"] == pytest.approx(golden["SE"], rel=1e-6)
    p = {key: expit(row["estimate"]) for key, row in _cells().iterrows()}
    change = (p["distributed", 1] - p["local", 1]) - (p["distributed", 0] - p["local", 0])
    difference = typical(ps.interactions(fitted("crossed3"), "representation", "depth", [0, 1]), "difference")
    assert difference["estimate"].item() == pytest.approx(change, rel=1e-7)


def _cells() -> pd.DataFrame:
    rows = pd.DataFrame(GOLDEN["crossed3"]["analyses"]["joint"]["link"]).rename(columns={"emmean": "estimate"})
    return rows.set_index(["representation", "depth"])


# -- At the trials as they are -----------------------------------------------------------------------------------------


def by_hand(name: str) -> tuple[ps.Fit, np.ndarray, np.ndarray]:
    fit = fitted(name)
    best = fit.estimates.maximum
    return fit, best.b, best.covariance[: len(best.b), : len(best.b)]


def test_predictions_of_the_typical_person_are_closed_forms() -> None:
    fit, b, V = by_hand("crossed3")
    X = fit.design.X
    p = expit(X @ b)
    rows = ps.predictions(fit)
    se = np.sqrt(np.einsum("ri,ij,rj->r", X, V, X))
    limits = [expit(X @ b + side * Z * se) for side in (-1, 1)]
    require(rows, p, p * (1 - p) * se, *limits, rtol=1e-6)
    whole = ps.predictions(fit, by=True).iloc[0]
    slope = (p * (1 - p)) @ X / len(X)
    error = np.sqrt(slope @ V @ slope)
    assert (whole["estimate"], whole["sd"]) == pytest.approx((p.mean(), error), rel=1e-6)
    wide = Z * error / (p.mean() * (1 - p.mean()))  # limits of a probability are made on the link
    assert whole["conf_high"] == pytest.approx(expit(logit(p.mean()) + wide), rel=1e-6)


def test_comparisons_of_the_typical_person_are_closed_forms() -> None:
    fit, b, V = by_hand("terms_fgx")
    row = ps.comparisons(fit, "f").iloc[1]
    X = {level: fit.coding.fixed(fit.data.assign(f=level)) for level in ("a", "c")}
    p = {level: expit(x @ b) for level, x in X.items()}
    slope = sum(s * (p[k] * (1 - p[k])) @ X[k] / len(X[k]) for k, s in (("c", 1), ("a", -1)))
    assert row["contrast"] == "c - a"
    assert row["estimate"] == pytest.approx((p["c"] - p["a"]).mean(), rel=1e-9)
    assert row["sd"] == pytest.approx(np.sqrt(slope @ V @ slope), rel=1e-6)
    assert row["conf_low"] == pytest.approx(row["estimate"] - Z * row["sd"], rel=1e-9)


def test_average_slopes_of_the_typical_person_are_closed_forms() -> None:
    fit, b, V = by_hand("crossed3")
    X = fit.design.X
    D = X.copy()  # the derivative of each column by depth
    kind = (fit.data["representation"] == "distributed").to_numpy(float)
    for j, name in enumerate(fit.design.names):
        D[:, j] = {"depth": 1.0, "representationdistributed:depth": kind}.get(name, 0.0)
    p = expit(X @ b)
    w = p * (1 - p)
    estimate = (w * (D @ b)).mean()
    gradient = (w @ D + (w * (1 - 2 * p) * (D @ b)) @ X) / len(X)
    row = ps.avg_slopes(fit, "depth").iloc[0]
    assert row["estimate"] == pytest.approx(estimate, rel=1e-8)
    assert row["sd"] == pytest.approx(np.sqrt(gradient @ V @ gradient), rel=1e-5)
    link = ps.avg_slopes(fit, "depth", scale="link").iloc[0]
    assert link["estimate"] == pytest.approx((D @ b).mean(), rel=1e-8)


@pytest.mark.parametrize(("name", "factor"), [("slopes3", "condition"), ("crossed3", "representation")])
def test_the_population_is_that_of_simulated_people(name: str, factor: str) -> None:
    fit, b, _ = by_hand(name)
    rng = np.random.default_rng(5)
    levels, draws = fit.coding.levels[factor], 100_000
    grid = fit.coding.grid({factor: list(levels)})
    eta = np.tile(fit.coding.fixed(grid) @ b, (draws, 1))
    for block, L in zip(fit.coding.random(grid), fit.estimates.maximum.factors, strict=True):
        eta += rng.normal(size=(draws, len(L))) @ L.T @ block.Z.T
    p = expit(eta)
    mean, error = p.mean(axis=0), p.std(axis=0) / np.sqrt(draws)
    means = ps.predictions(fit, grid, target="population")["estimate"]
    assert (np.abs(means - mean) < 4 * error).all()
    compared = ps.comparisons(fit, factor, grid.iloc[:1], target="population")["estimate"]
    gaps = p[:, 1:] - p[:, :1]
    assert (np.abs(compared - gaps.mean(axis=0)) < 4 * gaps.std(axis=0) / np.sqrt(draws)).all()
    odds = ps.contrasts(fit, factor)
    odds = odds[(odds["target"] == "population") & (odds["scale"] == "odds_ratio")].iloc[0]
    assert np.log(odds["estimate"]) == pytest.approx(logit(mean[1]) - logit(mean[0]), abs=0.02)
    # emmeans' words for the same.
    words = ps.emmeans(fit, factor, scale="response", target="population").table()["prob"]
    np.testing.assert_allclose(words, means, rtol=1e-12)


def test_the_population_s_standard_error_is_that_of_parameters_that_vary() -> None:
    """Draws of all parameters from their joint normal law, each with its own population."""
    fit, b, _ = by_hand("slopes3")
    best = fit.estimates.maximum
    rng = np.random.default_rng(2)
    size = len(best.covariance)
    rows = np.tril_indices(3)
    centre = np.concatenate([b, best.factors[0][rows]])
    assert len(centre) == size
    scale = 0.05  # near the maximum, where the delta method is exact
    draws = rng.multivariate_normal(centre, scale**2 * best.covariance, 4000)
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    z = np.array([1.0, 1.0, 0.0])
    L = np.zeros((len(draws), 3, 3))
    L[:, rows[0], rows[1]] = draws[:, 3:]
    sd = np.linalg.norm(np.einsum("i,dij->dj", z, L), axis=1)
    p = expit((draws[:, :3] @ z)[:, None] + sd[:, None] * nodes) @ weights / weights.sum()
    table = ps.marginal_means(fit, "condition")
    row = table[(table["target"] == "population") & (table["term"] == "conditionnatural")].iloc[0]
    assert row["estimate"] == pytest.approx(p.mean(), rel=1e-3)
    assert row["sd"] == pytest.approx(p.std() / scale, rel=0.05)
