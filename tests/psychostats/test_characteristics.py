"""What simulations say of a design is what is known of normal estimates, and doubts are as large as they should be."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from psychostats.characteristics import (
    Simulated,
    characterise,
    cheapest,
    compare_engines,
    fit_curve,
    judge,
    lean,
    more_simulations,
    wilson,
)

Z = stats.norm.ppf(0.975)


def normal_studies(true: float, sd: float, n: int = 200_000, failed: int = 0, seed: int = 1) -> Simulated:
    """Return studies whose estimate is normal with a known SD."""
    estimate = np.random.default_rng(seed).normal(true, sd, n)
    return Simulated(estimate, estimate - Z * sd, estimate + Z * sd, np.full(n, true), n + failed)


def gelman_carlin(true: float, sd: float) -> tuple[float, float, float]:
    """Power, type S and type M of a normal estimate: `retrodesign` of Gelman and Carlin (2014), by integration."""
    d = true / sd
    above, below = stats.norm.sf(Z - d), stats.norm.cdf(-Z - d)
    power = above + below
    # E|x| of a standard normal around d, outside of +-Z: by the mean of a truncated normal.
    size = d * above + stats.norm.pdf(Z - d) - d * below + stats.norm.pdf(-Z - d)
    return power, below / power, size / power / d


@pytest.mark.parametrize("ratio", [0.3, 1.0, 2.8])
def test_errors_are_those_of_gelman_and_carlin(ratio: float) -> None:
    found = characterise(normal_studies(0.02 * ratio, 0.02))
    for name, known in zip(("power", "type_s", "type_m"), gelman_carlin(0.02 * ratio, 0.02), strict=True):
        half = (found[f"{name}_high"] - found[f"{name}_low"]) / 2
        assert abs(found[name] - known) < 2 * half + 1e-12, name
        assert half < 0.05 * max(known, 0.01) + 0.01
    assert found["half_width"] == pytest.approx(Z * 0.02) and found["half_width_90"] == pytest.approx(Z * 0.02)
    assert abs(found["bias"]) < 2e-4 and found["rmse"] == pytest.approx(0.02, rel=0.01)
    assert found["coverage_low"] < 0.95 < found["coverage_high"]


def test_gelman_and_carlins_own_example() -> None:
    """Their first example: a true difference of 0.1 with a standard error of 3.3 (2014, p. 646)."""
    power, sign, magnitude = gelman_carlin(0.1, 3.28)
    assert (round(power, 2), round(sign, 2), round(magnitude)) == (0.05, 0.46, 77)


def test_a_study_without_a_fit_does_not_detect() -> None:
    whole, lacking = characterise(normal_studies(0.1, 0.01, 900)), characterise(normal_studies(0.1, 0.01, 900, 100))
    assert whole["power"] == 1.0 and lacking["power"] == 0.9
    assert lacking["simulations"] == 1000 and lacking["fitted"] == 900 and lacking["coverage"] == whole["coverage"]
    narrow = characterise(normal_studies(0.1, 0.01, 900, 100), precision=0.02)
    assert narrow["precise"] == 0.9 and math.isnan(whole["precise"])
    none = characterise(Simulated(*(np.array([]),) * 4, simulations=5))
    assert none["power"] == 0.0 and math.isnan(none["half_width"]) and math.isnan(none["type_m"])


def test_monte_carlo_intervals_hold_the_truth_as_often_as_they_say() -> None:
    true = dict(zip(("power", "type_s", "type_m"), gelman_carlin(0.02, 0.02), strict=True))
    true |= {"bias": 0.0, "rmse": 0.02, "coverage": 0.95}
    inside = dict.fromkeys(true, 0)
    for seed in range(400):
        found = characterise(normal_studies(0.02, 0.02, 500, seed=seed))
        for name, value in true.items():
            inside[name] += found[f"{name}_low"] <= value <= found[f"{name}_high"]
    for name, count in inside.items():
        assert 0.91 <= count / 400 <= 0.99, name


def test_magnitude_is_of_means_where_truths_differ() -> None:
    true = np.array([0.1, 0.0001, -0.2, 0.3])
    found = characterise(Simulated(2 * true, 2 * true - 1e-6, 2 * true + 1e-6, true, 4))
    assert found["type_m"] == pytest.approx(2.0) and found["type_s"] == 0.0


@pytest.mark.parametrize(("hits", "of"), [(0, 10), (8, 10), (10, 10), (81, 263)])
def test_wilson_is_scipys(hits: int, of: int) -> None:
    known = stats.binomtest(hits, of).proportion_ci(method="wilson")
    assert wilson(hits, of) == pytest.approx((known.low, known.high), abs=1e-12)


def test_wilson_of_none_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def row(power: float, simulations: int = 1000, half: float = 0.03, error: float = 0.0002) -> dict[str, float]:
    low, high = wilson(round(power * simulations), simulations)
    made = {"power": power, "power_low": low, "power_high": high, "simulations": float(simulations)}
    return made | {"half_width": half, "half_width_low": half - error, "half_width_high": half + error}


def test_a_wish_is_met_or_missed_beyond_doubt_alone() -> None:
    assert judge(row(0.85), power=0.8, precision=None) == "met"
    assert judge(row(0.80), power=0.8, precision=None) == "open"
    assert judge(row(0.70), power=0.8, precision=None) == "missed"
    assert judge(row(0.82, 50), power=0.8, precision=None) == "open"
    assert judge(row(0.85), power=0.8, precision=0.031) == "met"
    assert judge(row(0.85), power=0.8, precision=0.03) == "open"
    assert judge(row(0.85), power=0.8, precision=0.02) == "missed"
    assert judge(row(0.70), power=0.8, precision=0.03) == "missed"
    assert judge(row(0.10), power=None, precision=0.031) == "met"
    assert judge(row(0.85) | {"half_width_low": math.nan}, power=0.8, precision=0.031) == "open"


def test_more_simulations_would_tell() -> None:
    one = row(0.82, 500)
    more = more_simulations(one, power=0.8, precision=None)
    assert more is not None and 500 < more < 5000
    assert judge(row(0.82, 500 + more), power=0.8, precision=None) == "met"
    assert more_simulations(row(0.8, 500), power=0.8, precision=None) is None
    width = more_simulations(row(0.9, 100, 0.0301), power=None, precision=0.03)
    assert width is not None and width >= 100 * (0.0002 / 0.0001) ** 2 - 100


def test_the_cheapest_is_taken_the_smallest_of_equal_cost() -> None:
    table = pd.DataFrame(
        {
            "verdict": ["missed", "met", "met", "open", "met"],
            "cost": [10.0, 40.0, 30.0, 20.0, 30.0],
            "participants": [10, 20, 40, 30, 30],
            "main": [10] * 5,
            "pairs": [20] * 5,
        }
    )
    assert cheapest(table, "met") == 4 and cheapest(table, "open") == 3
    assert cheapest(table.iloc[:1], "met") is None


def test_the_curve_finds_the_parts_of_the_variance_and_what_would_do() -> None:
    parts = (0.04, 0.05, 1.3)
    sizes = [(n, main, pairs) for n in (50, 100, 200) for main in (10, 30) for pairs in (40, 80)]
    sds = [math.sqrt(parts[0] / f + parts[1] / n + parts[2] / (n * m)) for n, m, f in sizes]
    curve = fit_curve(sizes, sds, np.array([0.1]), 0.95)
    assert curve.parts == pytest.approx(parts, rel=1e-6)
    assert curve.power(100, 30, 80) == pytest.approx(gelman_carlin(0.1, curve.sd(100, 30, 80))[0])
    people = curve.participants(30, 80, power=0.9, precision=None)
    assert people is not None
    assert curve.power(people, 30, 80) >= 0.9 > curve.power(people - 1, 30, 80)
    least = curve.participants(30, 80, power=None, precision=0.05)
    assert least is not None and curve.half_width(least, 30, 80) <= 0.05 < curve.half_width(least - 1, 30, 80)
    # Features differ, so that with few of them no number of people is enough.
    assert curve.participants(30, 10, power=0.9, precision=None) is None
    most = curve.power(10**9, 30, 80)
    unfitted = replace(curve, fitted=0.8)
    assert unfitted.power(10**9, 30, 80) == pytest.approx(0.8 * most)
    assert unfitted.participants(30, 80, power=0.9, precision=None) is None
    one = fit_curve([(n, 30, 80) for n in (50, 200)], [curve.sd(n, 30, 80) for n in (50, 200)], np.array([0.1]), 0.95)
    assert one.sd(120, 30, 80) == pytest.approx(curve.sd(120, 30, 80))


@pytest.mark.parametrize(
    "designs",
    [
        [(24, 30, 40)],
        [(24, 10, 40), (24, 20, 40), (24, 40, 40)],  # people and features have one number
        [(24, 10, 10), (24, 20, 20), (24, 40, 40)],  # trials and features go together
        [(24, 10, 40), (48, 20, 40)],  # two designs, three parts
    ],
)
def test_designs_that_cannot_tell_parts_apart_make_no_curve(designs: list[tuple[int, int, int]]) -> None:
    assert fit_curve(designs, [0.1] * len(designs), np.array([0.1]), 0.95) is None


def test_without_items_people_and_trials_are_told_apart() -> None:
    designs = [(24, 10, 0), (24, 40, 0)]
    sds = [math.sqrt(0.5 / n + 2.0 / (n * m)) for n, m, _ in designs]
    curve = fit_curve(designs, sds, np.array([0.1]), 0.95)
    assert curve is not None and curve.parts == pytest.approx((0.0, 0.5, 2.0))


def test_a_lean_is_a_sign_test_and_too_few_disagreements_tell_none():
    assert lean(5, 0) is None and lean(0, 0) is None
    assert lean(6, 0) == 1 and lean(0, 6) == -1
    assert lean(4, 3) == 0 and lean(8, 2) == 0 and lean(9, 1) == 1


def test_engines_are_compared_on_the_same_studies() -> None:
    def study(estimate: float, sd: float) -> dict[str, float]:
        limits = {"conf_low": estimate - Z * sd, "conf_high": estimate + Z * sd}
        return {"estimate": estimate, "sd": sd, **limits}

    first = [study(0.10, 0.02), study(0.03, 0.02), study(0.041, 0.02), study(0.035, 0.02)]
    second = [study(0.11, 0.022), study(0.04, 0.022), study(0.03, 0.022), study(0.046, 0.022)]
    found = compare_engines(zip(first, second, strict=True))
    assert [found[name] for name in ("studies", "both", "first_only", "second_only", "neither")] == [4, 1, 1, 1, 1]
    assert found["agree"] == 0.5 and found["width_ratio"] == pytest.approx(1.1)
    assert found["shift"] == pytest.approx(np.mean([0.01, 0.01, -0.011, 0.011]) / 0.02)
    assert found["shift_low"] < found["shift"] < found["shift_high"]
