"""Effects by brute force: the same quantities written out in full for draws made by hand, and sums over new levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from studies import known_fit

from psychostats.design import code
from psychostats.draws import label
from psychostats.effects import (
    EFFECT_COLUMNS,
    ROPE_LOGIT,
    contrasts,
    discriminability,
    interactions,
    marginal_means,
    slopes,
)
from psychostats.errors import InputError
from psychostats.fit import Fit
from psychostats.intervals import Interval
from psychostats.sampling import Sample, Settings
from psychostats.spec import specify

Array = np.ndarray
Trials = Callable[[str], pd.DataFrame]
DRAWS = 40


def handmade(
    formula: str,
    frame: pd.DataFrame,
    *,
    seed: int = 1,
    b: Array | None = None,
    sd: Sequence[Array] | None = None,
    cor: Sequence[Array] | None = None,
    **family: Any,
) -> Fit:
    """Return a fit whose draws were made up, in two chains; effects read no more than these."""
    spec = specify(formula, **family)
    rows = frame[list(spec.formula.variables)]
    coding = code(spec.formula, rows)
    design = coding.design(rows)
    rng = np.random.default_rng(seed)
    half = (2, DRAWS // 2)
    b = rng.normal(0.3, 0.6, (DRAWS, len(design.names))) if b is None else b
    q = [len(block.terms) for block in design.blocks]
    pairs = [n * (n - 1) // 2 if k.structure == "correlated" else 0 for n, k in zip(q, design.blocks, strict=True)]
    sd = [rng.gamma(4, 0.2, (DRAWS, n)) for n in q] if sd is None else sd
    cor = [rng.uniform(-0.45, 0.45, (DRAWS, n)) for n in pairs] if cor is None else cor
    sample = Sample(
        b=b.reshape(*half, -1),
        sd=tuple(x.reshape(*half, n) for x, n in zip(sd, q, strict=True)),
        cor=tuple(x.reshape(*half, n) for x, n in zip(cor, pairs, strict=True)),
        r=tuple(rng.normal(size=(*half, len(k.levels), n)) for k, n in zip(design.blocks, q, strict=True)),
        stats={"diverging": np.zeros(half, dtype=bool)},
    )
    draws = label(sample, design, rows)
    return Fit(spec, rows, coding, design, (), draws, Settings(), (), {}, {})


AFC = "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | pair)"
PLAIN = "correct ~ representation * depth"


@pytest.fixture
def afc(trials: Trials) -> Fit:
    return handmade(AFC, trials("afc"), family="afc", guess=0.5, lapse=0.02)


def psychometric(eta: Array) -> Array:
    return np.asarray(0.5 + 0.48 * special.expit(eta))


def at(fit: Fit, basis: int, depth: float | None = None) -> Array:
    """Return the linear predictor of a cell, random effects at zero, shape (draws,)."""
    depth = fit.data["depth"].mean() if depth is None else depth
    return np.asarray(fit.parameters().b @ np.array([1.0, basis, depth, basis * depth]))


def population(fit: Fit, basis: int, depth: float | None = None, n: int = 40_000) -> Array:
    """Average over `n` new participants and pairs, draw by draw."""
    rng = np.random.default_rng(17)
    eta = at(fit, basis, depth)
    out = np.empty(len(eta))
    z = rng.normal(size=(2, n, 2))
    for s in range(len(eta)):
        u, v = (z[i] @ np.linalg.cholesky(c[s]).T for i, c in enumerate(fit.parameters().covariance))
        out[s] = psychometric(eta[s] + u @ [1, basis] + v @ [1, basis]).mean()
    return out


def value(table: pd.DataFrame, column: str = "estimate", **where: Any) -> float:
    """Return the one cell that `where` names."""
    rows = table
    for name, wanted in where.items():
        rows = rows[rows[name] == wanted]
    assert len(rows) == 1, rows
    return float(rows[column].iloc[0])


MC = 1e-3  # 40,000 new levels under 40 draws; the sums repeat the same levels, so this is some 4 standard errors


# --- Marginal means ---------------------------------------------------------------------------------------------------


def test_marginal_means_are_those_of_the_typical_and_of_the_population(afc: Fit) -> None:
    table = marginal_means(afc, "representation")
    assert table.columns.tolist() == ["term", "contrast", *EFFECT_COLUMNS]
    assert table["term"].tolist() == ["representationlocal"] * 2 + ["representationdistributed"] * 2
    assert table["target"].tolist() == ["typical", "population"] * 2
    assert set(table["scale"]) == {"response"} and table["contrast"].isna().all()
    assert table[["pd", "rope_low", "rope_high", "rope_share"]].isna().all(axis=None)
    for basis, name in enumerate(("local", "distributed")):
        of = {"term": f"representation{name}"}
        typical = psychometric(at(afc, basis))
        assert value(table, **of, target="typical") == pytest.approx(typical.mean(), rel=1e-12)
        assert value(table, "sd", **of, target="typical") == pytest.approx(typical.std(ddof=1), rel=1e-12)
        bounds = np.quantile(typical, [0.025, 0.975])
        assert value(table, "conf_low", **of, target="typical") == pytest.approx(bounds[0])
        assert value(table, "conf_high", **of, target="typical") == pytest.approx(bounds[1])
        assert value(table, **of, target="population") == pytest.approx(population(afc, basis).mean(), abs=MC)
    assert set(table["conf_level"]) == {0.95} and set(table["interval"]) == {"eti"}


@pytest.mark.parametrize("eta", [-2.0, 2.0])
def test_the_population_is_nearer_the_middle_than_the_typical(eta: float, trials: Trials) -> None:
    made = handmade(AFC, trials("afc"), family="afc", b=np.tile([eta, 0.0, 0.0, 0.0], (DRAWS, 1)))
    typical, everyone = marginal_means(made, "representation", by={"representation": ["local"]})["estimate"]
    assert typical == pytest.approx(0.5 + 0.5 * special.expit(eta))
    assert abs(everyone - 0.75) < abs(typical - 0.75) - 0.02


def test_without_group_effects_both_targets_agree(trials: Trials) -> None:
    table = marginal_means(handmade(PLAIN, trials("crossed")), "representation")
    np.testing.assert_allclose(*(table.loc[table["target"] == t, "estimate"] for t in ("typical", "population")))


def test_link_means_are_the_linear_predictor(afc: Fit) -> None:
    table = marginal_means(afc, "representation", by={"depth": [0.25]}, scale="link")
    assert table["target"].tolist() == ["typical"] * 2
    assert table["estimate"].tolist() == pytest.approx([at(afc, k, 0.25).mean() for k in (0, 1)])


def test_a_shift_of_the_intercept_shifts_every_link_mean(trials: Trials) -> None:
    one = handmade(AFC, trials("afc"), family="afc")
    b = one.parameters().b + np.array([3.0, 0, 0, 0])
    two = handmade(AFC, trials("afc"), family="afc", b=b)
    for by in (None, {"depth": [0.0, 1.0]}):
        gap = (
            marginal_means(two, "representation", by=by, scale="link")["estimate"]
            - marginal_means(one, "representation", by=by, scale="link")["estimate"]
        )
        np.testing.assert_allclose(gap, 3.0)


def test_by_stands_before_the_figures_in_the_order_asked(afc: Fit) -> None:
    table = marginal_means(afc, "representation", by={"depth": [1, 0]})
    assert table.columns.tolist() == ["term", "contrast", "depth", *EFFECT_COLUMNS]
    assert table["depth"].tolist() == [1] * 4 + [0] * 4
    for depth in (0.0, 1.0):
        where = {"term": "representationdistributed", "depth": depth, "target": "typical"}
        assert value(table, **where) == pytest.approx(psychometric(at(afc, 1, depth)).mean())


def test_a_number_is_asked_at_its_least_mean_and_greatest(afc: Fit) -> None:
    table = marginal_means(afc, "depth", by={"representation": ["local"]})
    column = afc.data["depth"]
    typical = table[table["target"] == "typical"]
    assert typical["term"].tolist() == [f"depth={x:g}" for x in (column.min(), column.mean(), column.max())]
    expected = [psychometric(at(afc, 0, x)).mean() for x in (column.min(), column.mean(), column.max())]
    assert typical["estimate"].tolist() == pytest.approx(expected)


def test_values_of_the_factor_itself_can_be_chosen(afc: Fit) -> None:
    table = marginal_means(afc, "depth", by={"depth": [0.1, 0.9], "representation": ["local"]})
    assert table["term"].tolist() == ["depth=0.1"] * 2 + ["depth=0.9"] * 2
    assert table.columns.tolist() == ["term", "contrast", "representation", *EFFECT_COLUMNS]


def test_numbers_may_come_as_text(afc: Fit) -> None:
    table = marginal_means(afc, "representation", by={"depth": ["0", "0.5"]})
    assert table["depth"].tolist() == [0.0] * 4 + [0.5] * 4


@pytest.fixture
def two_factors(trials: Trials) -> Fit:
    """Two factors, the second unbalanced in the data: averages over it must not follow its frequencies."""
    frame = trials("crossed").assign(phase=lambda t: np.where(t.index % 5 == 0, "late", "early"))
    return handmade("correct ~ representation * phase + (1 | participant)", frame)


def test_other_factors_are_averaged_with_equal_weights(two_factors: Fit) -> None:
    b = two_factors.parameters().b
    variance = two_factors.parameters().covariance[0][:, 0, 0]
    cells = {(r, p): b @ np.array([1, r, p, r * p]) for r in (0, 1) for p in (0, 1)}
    link = marginal_means(two_factors, "representation", scale="link")
    response = marginal_means(two_factors, "representation")
    nodes = np.random.default_rng(3).normal(size=200_000)
    for r, name in enumerate(("local", "distributed")):
        term = f"representation{name}"
        assert value(link, term=term) == pytest.approx(0.5 * (cells[r, 0] + cells[r, 1]).mean())
        p = 0.5 * (special.expit(cells[r, 0]) + special.expit(cells[r, 1]))
        assert value(response, term=term, target="typical") == pytest.approx(p.mean())
        averaged = [
            special.expit(cells[r, k][s] + np.sqrt(variance[s]) * nodes).mean() for k in (0, 1) for s in range(DRAWS)
        ]
        assert value(response, term=term, target="population") == pytest.approx(np.mean(averaged), abs=MC)


@pytest.mark.parametrize("recoded", ["reference", "sum", "sdif", "offset depth"])
def test_another_coding_leaves_marginal_means_unchanged(recoded: str, trials: Trials) -> None:
    """Exactly, on the same draws: the other coding's coefficients and covariances follow by algebra."""
    frame = trials("afc")
    one = handmade(AFC, frame, family="afc")
    formula = AFC
    if recoded == "reference":
        frame["representation"] = frame["representation"].cat.reorder_categories(["distributed", "local"])
    elif recoded == "offset depth":
        formula = AFC.replace("* depth", "* I(depth - 0.3)")
    else:
        formula = AFC.replace("representation", f"C(representation, {recoded})")
    spec = specify(formula, family="afc")
    design = code(spec.formula, frame).design(frame)

    def change(old: Array, new: Array) -> Array:
        """Return M with old columns = new columns times M, so that coefficients follow as M times the old ones."""
        M, residual, _, _ = np.linalg.lstsq(new, old, rcond=None)
        assert np.abs(residual).max(initial=0) < 1e-20
        return np.asarray(M)

    parameters = one.parameters()
    b = parameters.b @ change(one.design.X, design.X).T
    sd, cor = [], []
    for old, new, sigma in zip(one.design.blocks, design.blocks, parameters.covariance, strict=True):
        M = change(old.Z, new.Z)
        moved = M @ sigma @ M.T
        sd.append(np.sqrt(np.diagonal(moved, axis1=1, axis2=2)))
        cor.append((moved[:, 0, 1] / sd[-1].prod(axis=1))[:, np.newaxis])
    two = handmade(formula, frame, family="afc", b=b, sd=sd, cor=cor)
    figures = ["estimate", "sd", "conf_low", "conf_high"]
    for by in (None, {"depth": [0.0, 0.7]}):
        for scale in ("response", "link"):
            keys = [*(by or {}), "term", "target"]
            tables = [
                marginal_means(fit, "representation", by=by, scale=scale).set_index(keys).sort_index()[figures]
                for fit in (one, two)
            ]
            pd.testing.assert_frame_equal(*tables, rtol=1e-9)
        ours, theirs = (contrasts(fit, "representation", by=by) for fit in (one, two))
        sign = -1 if recoded == "reference" else 1
        kept = ours["scale"] == "difference"
        np.testing.assert_allclose(theirs.loc[kept, "estimate"], sign * ours.loc[kept, "estimate"], rtol=1e-8)
        np.testing.assert_allclose(theirs.loc[kept, "rope_share"], ours.loc[kept, "rope_share"])
        np.testing.assert_allclose(theirs.loc[kept, "pd"], ours.loc[kept, "pd"])


# --- Contrasts --------------------------------------------------------------------------------------------------------


def test_contrasts_are_differences_and_odds_ratios_of_p(afc: Fit) -> None:
    table = contrasts(afc, "representation", by={"depth": [0.0, 1.0]})
    assert table.columns.tolist() == ["term", "contrast", "depth", *EFFECT_COLUMNS]
    assert set(zip(table["scale"], table["contrast"], strict=True)) == {
        ("difference", "distributed - local"),
        ("odds_ratio", "distributed / local"),
    }
    assert set(table["term"]) == {"representation"}
    for depth in (0.0, 1.0):
        for target, p in (
            ("typical", [psychometric(at(afc, k, depth)) for k in (0, 1)]),
            ("population", [population(afc, k, depth) for k in (0, 1)]),
        ):
            near = {"abs": 1e-12} if target == "typical" else {"abs": MC}
            where = {"depth": depth, "target": target}
            difference, ratio = p[1] - p[0], p[1] / (1 - p[1]) / (p[0] / (1 - p[0]))
            assert value(table, **where, scale="difference") == pytest.approx(difference.mean(), **near)
            assert value(table, **where, scale="odds_ratio") == pytest.approx(
                ratio.mean(), rel=1e-9 if target == "typical" else 0.01
            )
            if target == "typical":
                share = ((difference >= -0.02) & (difference <= 0.02)).mean()
                assert value(table, "rope_share", **where, scale="difference") == share
                assert value(table, "pd", **where, scale="difference") == max(
                    (difference > 0).mean(), (difference < 0).mean()
                )
                logs = np.abs(np.log(ratio)) <= 0.18
                assert value(table, "rope_share", **where, scale="odds_ratio") == logs.mean()
                assert value(table, "pd", **where, scale="odds_ratio") == value(
                    table, "pd", **where, scale="difference"
                )


def test_link_contrasts_are_combinations_of_coefficients_and_no_odds_ratio_of_p(afc: Fit) -> None:
    b = afc.parameters().b
    table = contrasts(afc, "representation", by={"depth": [0.25]}, scale="link")
    assert table["scale"].tolist() == ["link"]
    link = b[:, 1] + 0.25 * b[:, 3]
    assert value(table) == pytest.approx(link.mean())
    assert (value(table, "rope_low"), value(table, "rope_high")) == (-0.18, 0.18)
    assert value(table, "rope_share") == (np.abs(link) <= 0.18).mean()
    ratios = contrasts(afc, "representation", by={"depth": [0.25]})
    of_p = value(ratios, scale="odds_ratio", target="typical")
    assert abs(of_p - np.exp(link).mean()) > 0.05


def test_without_asymptotes_the_odds_ratio_is_the_exponential_of_the_link_contrast(trials: Trials) -> None:
    made = handmade(PLAIN, trials("crossed"))
    b = made.parameters().b
    table = contrasts(made, "representation", by={"depth": [0.5]})
    expected = np.exp(b[:, 1] + 0.5 * b[:, 3]).mean()
    for target in ("typical", "population"):
        assert value(table, scale="odds_ratio", target=target) == pytest.approx(expected)


def test_three_levels_make_three_contrasts_in_their_declared_order(trials: Trials) -> None:
    made = handmade("correct ~ condition + (1 + condition || participant)", trials("uncorrelated"))
    table = contrasts(made, "condition", scale="link")
    b = made.parameters().b
    assert table["contrast"].tolist() == ["easy - medium", "hard - medium", "hard - easy"]
    expected = [b[:, 1].mean(), b[:, 2].mean(), (b[:, 2] - b[:, 1]).mean()]
    assert table["estimate"].tolist() == pytest.approx(expected)


def test_independent_slopes_enter_the_population_by_their_variances(trials: Trials) -> None:
    made = handmade("correct ~ condition + (1 + condition || participant)", trials("uncorrelated"))
    b, (sigma,) = made.parameters().b, made.parameters().covariance
    assert np.count_nonzero(sigma[0]) == 3
    nodes = np.random.default_rng(4).normal(size=100_000)
    table = marginal_means(made, "condition")
    for k, level in enumerate(("medium", "easy", "hard")):
        z = np.array([1, k == 1, k == 2], dtype=float)
        spread = np.sqrt(z @ sigma @ z)
        p = [special.expit(b[s] @ z + spread[s] * nodes).mean() for s in range(DRAWS)]
        assert value(table, term=f"condition{level}", target="population") == pytest.approx(np.mean(p), abs=MC)


def test_contrasts_of_a_number_name_its_values(afc: Fit) -> None:
    table = contrasts(afc, "depth", by={"depth": [0.1, 0.1 + 0.2], "representation": ["local"]}, scale="link")
    assert table["contrast"].tolist() == ["0.3 - 0.1"]
    assert value(table) == pytest.approx(0.2 * afc.parameters().b[:, 2].mean())


def test_another_interval_is_carried_through(afc: Fit) -> None:
    for table in (
        marginal_means(afc, "representation", interval=Interval("hdi", 0.8)),
        contrasts(afc, "representation", interval=Interval("hdi", 0.8)),
        slopes(afc, "depth", interval=Interval("hdi", 0.8)),
        interactions(afc, "representation", "depth", [0, 1], interval=Interval("hdi", 0.8)),
    ):
        assert set(table["interval"]) == {"hdi"} and set(table["conf_level"]) == {0.8}


def test_probit_counts(trials: Trials) -> None:
    made = handmade(
        "cbind(right, wrong) ~ contrast + (1 | observer)", trials("counts"), family="binomial", link="probit"
    )
    b, variance = made.parameters().b, made.parameters().covariance[0][:, 0, 0]
    table = marginal_means(made, "contrast")
    for x in (-1.0, 1.0):
        eta = b[:, 0] + x * b[:, 1]
        where = {"term": f"contrast={x:g}"}
        assert value(table, **where, target="typical") == pytest.approx(stats.norm.cdf(eta).mean())
        # A normal random part of a probit integrates in closed form.
        closed = stats.norm.cdf(eta / np.sqrt(1 + variance)).mean()
        assert value(table, **where, target="population") == pytest.approx(closed, abs=1e-6)
    link = contrasts(made, "contrast", by={"contrast": [0.0, 0.1]}, scale="link")
    # 0.18 logits, in units of the standard normal.
    assert value(link, "rope_high") == pytest.approx(0.18 / stats.logistic.std())
    assert value(link, "rope_low") == -value(link, "rope_high")


# --- Slopes -----------------------------------------------------------------------------------------------------------


def test_slopes_are_differences_over_the_range(afc: Fit) -> None:
    low, high = afc.data["depth"].min(), afc.data["depth"].max()
    table = slopes(afc, "depth", by={"representation": ["local", "distributed"]})
    assert table.columns.tolist() == ["term", "contrast", "representation", *EFFECT_COLUMNS]
    assert set(table["term"]) == {"depth"} and set(table["contrast"]) == {"slope"}
    assert set(zip(table["scale"], table["target"], strict=True)) == {
        ("difference", "typical"),
        ("difference", "population"),
        ("link", "typical"),
    }
    b = afc.parameters().b
    for k, name in enumerate(("local", "distributed")):
        where = {"representation": name}
        typical = (psychometric(at(afc, k, high)) - psychometric(at(afc, k, low))) / (high - low)
        everyone = (population(afc, k, high) - population(afc, k, low)) / (high - low)
        assert value(table, **where, scale="difference", target="typical") == pytest.approx(typical.mean())
        assert value(table, **where, scale="difference", target="population") == pytest.approx(
            everyone.mean(), abs=2 * MC
        )
        assert value(table, **where, scale="link") == pytest.approx((b[:, 2] + k * b[:, 3]).mean())
        assert value(table, "rope_high", **where, scale="link") == ROPE_LOGIT.high


# --- Interactions -----------------------------------------------------------------------------------------------------


def test_interactions_are_differences_of_differences(afc: Fit) -> None:
    table = interactions(afc, "representation", "depth", [0.2, 0.9])
    assert table.columns.tolist() == ["term", "contrast", *EFFECT_COLUMNS]
    b = afc.parameters().b
    assert value(table, scale="link") == pytest.approx(0.7 * b[:, 3].mean())
    for target, near in (("typical", 1e-9), ("population", 2 * MC)):
        cell = {
            (k, d): psychometric(at(afc, k, d)) if target == "typical" else population(afc, k, d)
            for k in (0, 1)
            for d in (0.2, 0.9)
        }
        change = (cell[1, 0.9] - cell[0, 0.9]) - (cell[1, 0.2] - cell[0, 0.2])
        odds = {key: p / (1 - p) for key, p in cell.items()}
        ratio = (odds[1, 0.9] / odds[0, 0.9]) / (odds[1, 0.2] / odds[0, 0.2])
        assert value(table, scale="difference", target=target) == pytest.approx(change.mean(), abs=near)
        assert value(table, scale="odds_ratio", target=target) == pytest.approx(ratio.mean(), abs=max(near, 1e-9) * 20)
        if target == "typical":
            assert value(table, "pd", scale="odds_ratio", target=target) == max((ratio > 1).mean(), (ratio < 1).mean())
    contrast = table.set_index(["scale", "target"])["contrast"]
    assert contrast["difference", "typical"] == "(distributed - local) at depth 0.9 minus at 0.2"
    assert contrast["odds_ratio", "typical"] == "(distributed / local) at depth 0.9 over at 0.2"


def test_interactions_with_a_factor_and_three_levels(trials: Trials) -> None:
    frame = trials("uncorrelated").assign(phase=lambda t: np.where(t.index % 2 == 0, "early", "late"))
    made = handmade("correct ~ condition * phase + (1 | participant)", frame)
    table = interactions(made, "condition", "phase", ["early", "late"])
    link = table[table["scale"] == "link"]
    b = dict(zip(made.design.names, made.parameters().b.T, strict=True))
    easy, hard = b["conditioneasy:phaselate"], b["conditionhard:phaselate"]
    assert link["contrast"].str.slice(0, 15).tolist() == ["(easy - medium)", "(hard - medium)", "(hard - easy) a"]
    assert link["estimate"].tolist() == pytest.approx([easy.mean(), hard.mean(), (hard - easy).mean()])
    reverse = interactions(made, "condition", "phase", ["late", "early"])
    assert reverse.loc[reverse["scale"] == "link", "estimate"].tolist() == pytest.approx((-link["estimate"]).tolist())


# --- Offsets ----------------------------------------------------------------------------------------------------------


def test_an_offset_is_evaluated_at_the_mean_of_its_column(trials: Trials) -> None:
    """As emmeans does: log(n) at the mean n, not the mean of log(n), and never left out."""
    frame = trials("crossed").assign(n=lambda t: 1.0 + t.index % 7)
    made = handmade("correct ~ representation + offset(log(n))", frame)
    b, mean = made.parameters().b, frame["n"].mean()
    link = marginal_means(made, "representation", scale="link")
    assert link["estimate"].tolist() == pytest.approx(
        [b[:, 0].mean() + np.log(mean), b.sum(axis=1).mean() + np.log(mean)]
    )
    table = marginal_means(made, "representation", by={"n": [1.0, 5.0]})
    for n in (1.0, 5.0):
        expected = special.expit(b[:, 0] + np.log(n)).mean()
        assert value(table, term="representationlocal", n=n, target="typical") == pytest.approx(expected)


# --- Bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: marginal_means(f, "representatoin"), "did you mean 'representation'"),
        (lambda f: contrasts(f, "participant"), "no predictor of the model"),
        (lambda f: contrasts(f, "representation", by={"dpeth": [0.5]}), "did you mean 'depth'"),
        (lambda f: contrasts(f, "depth", by={"representation": ["neuron"]}), "no level of representation"),
        (lambda f: contrasts(f, "representation", by={"depth": ["deep"]}), "'depth' is a numeric predictor"),
        (lambda f: contrasts(f, "representation", by={"depth": [np.nan]}), "'depth' is a numeric predictor"),
        (lambda f: contrasts(f, "representation", by={"depth": []}), "no value of 'depth'"),
        (lambda f: contrasts(f, "representation", by={"representation": ["local"]}), "needs two values"),
        (lambda f: contrasts(f, "representation", scale="odds"), "allowed are response and link"),
        (lambda f: slopes(f, "dept"), "did you mean 'depth'"),
        (lambda f: slopes(f, "representation"), "no numeric predictor"),
        (lambda f: slopes(f, "depth", by={"representatio": ["local"]}), "did you mean 'representation'"),
        (lambda f: interactions(f, "representation", "depth", [0.5]), "between two values of depth; 1 were given"),
        (lambda f: interactions(f, "representation", "depth", [0, 0.5, 1]), "3 were given"),
        (lambda f: interactions(f, "representation", "depth", [0.5, 0.5]), "1 were given"),
        (lambda f: interactions(f, "depth", "depth", [0, 1]), "cannot moderate itself"),
        (lambda f: interactions(f, "representation", "deph", [0, 1]), "did you mean 'depth'"),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[Fit], Any], words: str, afc: Fit) -> None:
    with pytest.raises(InputError, match=words):
        call(afc)


def test_a_predictor_may_bear_the_name_of_a_column_of_the_tables():
    rows = pd.DataFrame({"x": ["a", "b"] * 20, "contrast": np.repeat([0.1, 0.5], 20), "correct": [0, 1] * 20})
    fit = known_fit("correct ~ x * contrast", rows, {"Intercept": 0, "xb": 1, "contrast": 2, "xb:contrast": -1})
    table = contrasts(fit, "x", by={"contrast": [0.1, 0.5]})
    assert table.columns[:3].tolist() == ["term", "contrast", "by_contrast"]
    assert table["by_contrast"].unique().tolist() == [0.1, 0.5] and set(table["contrast"]) == {"b - a", "b / a"}
    means = marginal_means(fit, "x", by={"contrast": [0.1]})
    assert means["contrast"].isna().all() and means["by_contrast"].eq(0.1).all()


def test_odds_are_right_where_accuracy_rounds_to_one():
    rows = pd.DataFrame({"x": ["a", "b"] * 20, "correct": [0, 1] * 20})
    fit = known_fit("correct ~ x", rows, {"Intercept": 40.0, "xb": 5.0})
    table = contrasts(fit, "x").query("target == 'typical'").set_index("scale")
    assert table.loc["odds_ratio", "estimate"] == pytest.approx(np.exp(5.0), rel=1e-9)
    assert table.loc["odds_ratio", "pd"] == 1.0
    forced = known_fit("correct ~ x", rows, {"Intercept": 40.0, "xb": 5.0}, family="afc", lapse=0.02)
    odds = contrasts(forced, "x").query("target == 'typical' and scale == 'odds_ratio'")["estimate"].item()
    assert odds == pytest.approx(1.0)


def test_a_slope_is_per_unit_of_the_predictor():
    rows = pd.DataFrame({"z": np.linspace(-1.0, 3.0, 40), "correct": [0, 1] * 20})
    fit = known_fit("correct ~ z", rows, {"Intercept": 0.2, "z": 0.5})
    table = slopes(fit, "z").query("target == 'typical'").set_index("scale")
    assert table.loc["link", "estimate"] == pytest.approx(0.5)
    rise = special.expit(0.2 + 0.5 * 3) - special.expit(0.2 - 0.5)
    assert table.loc["difference", "estimate"] == pytest.approx(rise / 4)


def test_a_contrast_with_a_negative_number_has_parentheses():
    rows = pd.DataFrame({"z": np.linspace(-0.5, 0.5, 40), "correct": [0, 1] * 20})
    fit = known_fit("correct ~ z", rows, {"Intercept": 0.0, "z": 1.0})
    names = contrasts(fit, "z", by={"z": [-0.5, 0]})["contrast"].unique().tolist()
    assert names == ["0 - (-0.5)", "0 / (-0.5)"]


def test_dprime_is_the_distance_whose_better_alternative_is_chosen_that_often(trials):
    """Against its definition: with noise of SD 1 on both alternatives, the larger of two is the target's with p."""
    fit = handmade("correct ~ representation + (1 | participant)", trials("afc"), family="afc")
    means = marginal_means(fit, "representation")
    table = discriminability(fit, "representation")
    rng = np.random.default_rng(3)
    for target in ("typical", "population"):
        one = handmade("correct ~ representation", trials("afc"), family="afc", b=np.full((DRAWS, 2), 0.7))
        p = marginal_means(one, "representation")["estimate"].iloc[0]
        d = discriminability(one, "representation")["estimate"].iloc[0]
        noise = rng.normal(size=(400_000, 2))
        assert ((d + noise[:, 0]) > noise[:, 1]).mean() == pytest.approx(p, abs=0.003)
        rows = table[(table["target"] == target) & (table["scale"] == "dprime")]
        assert (rows["estimate"] > 0).all() and len(rows) == 2 == (means["target"] == target).sum()
        change = table[(table["target"] == target) & (table["scale"] == "dprime_difference")]["estimate"].item()
        assert change == pytest.approx(rows["estimate"].iloc[1] - rows["estimate"].iloc[0])


def test_dprime_is_of_two_alternatives_only(trials):
    fit = handmade("correct ~ representation", trials("afc"), family="bernoulli")
    with pytest.raises(InputError, match="afc"):
        discriminability(fit, "representation")


# Weights -----------------------------------------------------------------------------------------------------------


def weighted_fit():
    rng = np.random.default_rng(8)
    rows = pd.DataFrame({"a": rng.choice(["x", "y"], 60), "g": rng.choice(["p", "q", "r"], 60)})
    rows["correct"] = rng.integers(0, 2, 60)
    b = {"Intercept": 0.2, "ay": 0.9, "gq": -0.4, "gr": 1.1, "ay:gq": 0.5, "ay:gr": -0.8}
    return known_fit("correct ~ a * g", rows, b, noise=0.1)


def test_weights_average_the_contrasts_of_a_factors_levels():
    made, weights = weighted_fit(), {"p": 5.0, "q": 3.0, "r": 2.0}
    each = contrasts(made, "a", by={"g": list(weights)})
    each = each[(each["scale"] == "difference") & (each["target"] == "population")].set_index("g")["estimate"]
    mean = contrasts(made, "a", weights={"g": weights})
    mean = mean[(mean["scale"] == "difference") & (mean["target"] == "population")]["estimate"].iloc[0]
    assert mean == pytest.approx(0.5 * each["p"] + 0.3 * each["q"] + 0.2 * each["r"], abs=1e-12)
    alone = contrasts(made, "a", weights={"g": {"p": 0.0, "q": 1.0, "r": 0.0}})
    alone = alone[(alone["scale"] == "difference") & (alone["target"] == "population")]["estimate"].iloc[0]
    assert alone == pytest.approx(each["q"], abs=1e-12)


def test_equal_weights_are_the_default():
    made, equal = weighted_fit(), {"g": dict.fromkeys("pqr", 7.0)}
    pd.testing.assert_frame_equal(contrasts(made, "a", weights=equal), contrasts(made, "a"))
    for scale in ("response", "link"):
        pd.testing.assert_frame_equal(
            contrasts(made, "a", scale=scale, weights=equal), contrasts(made, "a", scale=scale)
        )


@pytest.mark.parametrize("given", [{"p": 1.0, "q": 1.0}, {"p": 1.0, "q": -1.0, "r": 1.0}, dict.fromkeys("pqr", 0.0)])
def test_weights_must_be_of_every_level_and_not_negative(given):
    with pytest.raises(InputError, match="weights of 'g' must be numbers from 0, one for each of p, q, r"):
        contrasts(weighted_fit(), "a", weights={"g": given})
