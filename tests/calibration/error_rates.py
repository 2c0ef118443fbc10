"""Errors of the default analysis, and of the one without slopes of pairs, where pairs truly differ in the effect.

Run as ``python tests/calibration/error_rates.py``; it writes error_rates.csv beside itself, a row a simulated study,
goes on where it was interrupted, and prints the README's table. Studies are crossed as the embedded one: smaller, with
more people for as many pairs, and as large. Both formulas are fitted by maximum likelihood, in a fortieth of the time
of sampling: what is asked is what the formula does, and neither has a prior that tells them apart. The quantity is
the population contrast of the two representations. So that it is zero where b is, both representations have the same
variance: the correlation of intercept and slope is -slope / (2 intercept).
"""

from __future__ import annotations

import argparse

import pandas as pd
from common import (
    HERE,
    SLOPE,
    add_executor,
    collect,
    crossed_plan,
    population_contrast,
    share,
    true_population_contrast,
)

from psychostats import fit
from psychostats.options import choose_executor
from psychostats.simulate import simulate_trials

OUT = HERE / "error_rates.csv"
FORMULA = "correct ~ representation * depth + (1 + representation | participant) + "
MODELS = {"with": FORMULA + "(1 + representation | pair)", "without": FORMULA + "(1 | pair)"}

# People, pairs, true effect in logits, SD of the pairs' slopes, studies to simulate.
SLOPES = (0.3, 0.5, 0.7)
CELLS = [(30, 40, effect, slope, 100) for effect in (0.0, 0.25) for slope in SLOPES]
CELLS += [(people, pairs, 0.0, slope, 200) for people, pairs in ((120, 40), (187, 80)) for slope in SLOPES]


def truth(effect: float, slope: float) -> dict[str, float]:
    """Return the true values of a cell."""
    values = {"b_Intercept": 0.6, f"b_{SLOPE}": effect, "b_depth": -0.2, f"b_{SLOPE}:depth": 0.0}
    for group, intercept, own in (("participant", 0.5, 0.3), ("pair", 0.7, slope)):
        values[f"sd_{group}__Intercept"], values[f"sd_{group}__{SLOPE}"] = intercept, own
        values[f"cor_{group}__Intercept__{SLOPE}"] = -own / (2.0 * intercept)
    return values


def study(people: int, pairs: int, effect: float, slope: float, replication: int) -> dict[str, float]:
    """Simulate one study, fit it with and without slopes of pairs, and give the limits of the population contrast."""
    true = truth(effect, slope)
    seed = round(1e6 * slope + 1e5 * effect) + 1000 * people + replication  # no two studies alike
    trials = simulate_trials(crossed_plan(people, 27, pairs, true), seed)
    row: dict[str, float] = {}
    for name, formula in MODELS.items():
        fitted = fit(formula, trials, family="afc", engine="laplace", progress=False)
        found = population_contrast(fitted, "representation")
        row |= {f"{name}_{column}": round(float(found[column]), 4) for column in ("estimate", "conf_low", "conf_high")}
        if name == "with":
            row["true"] = round(true_population_contrast(fitted, "representation", true), 4)
    return row


def rates(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise by size, SD of the pairs' slopes and analysis, each with its Monte Carlo standard error.

    Returns
    -------
    DataFrame
        ``type_I`` and ``power``: how often the interval excludes zero, where nothing is there and where something is.
        ``misses``: how often it misses the truth, over both. ``type_S`` and ``type_M``: where something is there and
        zero excluded, the share of wrong signs and the mean of estimate over truth (Gelman and Carlin 2014).
        ``spread``: SD of the estimates' errors, over both, in units of the intervals' mean standard error; above 1
        intervals are too narrow.
    """
    rows = []
    for (people, pairs, slope), cell in table.groupby(["people", "pairs", "slope"]):
        there = cell["effect"] > 0.0
        for name in MODELS:
            low, high, estimate = (cell[f"{name}_{column}"] for column in ("conf_low", "conf_high", "estimate"))
            excludes, error = (low > 0) | (high < 0), estimate - cell["true"]
            row = {"people": people, "pairs": pairs, "slope_sd": slope, "pair_slopes": name, "studies": len(cell)}
            row["type_I"], row["type_I_se"] = share(excludes[~there])
            row["misses"], row["misses_se"] = share((low > cell["true"]) | (high < cell["true"]))
            row["spread"] = error.std() / ((high - low).mean() / 3.92)
            row["spread_se"] = row["spread"] / (2.0 * (len(cell) - 1)) ** 0.5
            if there.any():
                row["power"], row["power_se"] = share(excludes[there])
            found = there & excludes
            if found.any():
                times = estimate[found].abs() / cell["true"][found]
                row["type_S"], row["type_S_se"] = share(estimate[found] < 0)
                row["type_M"], row["type_M_se"] = times.mean(), times.std() / len(times) ** 0.5
            rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """Simulate what is missing, replication by replication over all cells of a size, and print the table."""
    keys = [
        {"people": people, "pairs": pairs, "effect": effect, "slope": slope, "replication": k}
        for k in range(1, max(cell[-1] for cell in CELLS) + 1)
        for people, pairs, effect, slope, count in CELLS
        if k <= count
    ]
    parser = argparse.ArgumentParser(description="Errors of the default analysis.")
    add_executor(parser)
    asked = parser.parse_args()
    executor = choose_executor(asked.workers, asked.scheduler, default=1)
    table = collect(OUT, "python tests/calibration/error_rates.py", keys, study, executor)
    print(rates(table).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
