"""Do 95 % intervals hold a fixed truth in 95 % of studies? Coverage by study size, and where groups do not vary.

Run as ``python tests/calibration/interval_coverage.py``; it writes interval_coverage.csv beside itself, a row a
simulated study, goes on where it was interrupted, and prints coverage with its Monte Carlo standard error. Calibration
averages over the priors; here the truth stays, so a credible interval need not hold it exactly as often as it says: SDs
near the prior's bulk are held more often, and those far from it less. (A file coverage.py would be taken by numba for
the package of that name.)
"""

from __future__ import annotations

import pandas as pd
from common import HERE, SLOPE, collect, crossed_plan, population_contrast, share, true_population_contrast

from psychostats import fit
from psychostats.simulate import simulate_trials

OUT = HERE / "interval_coverage.csv"
FORMULA = "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | pair)"
REPLICATIONS = 100
SMALL = 0.5  # an SD whose upper limit lies below this is seen to be no large one

FIXED = {"b_Intercept": 0.6, f"b_{SLOPE}": 0.2, "b_depth": -0.2, f"b_{SLOPE}:depth": 0.7}
GROUPS = {
    "sd_participant__Intercept": 0.5,
    f"sd_participant__{SLOPE}": 0.3,
    "sd_pair__Intercept": 0.7,
    f"sd_pair__{SLOPE}": 0.6,
}
CORRELATIONS = {f"cor_participant__Intercept__{SLOPE}": -0.2, f"cor_pair__Intercept__{SLOPE}": -0.3}
CONTRAST = "population contrast"
ENDS = ("low", "high")

# People (24 trials each, over 24 pairs) and truth; all but `zero` are those of the embedded study's experiment natural.
STUDIES = {
    "middling": (24, FIXED | GROUPS | CORRELATIONS),
    "small": (8, FIXED | GROUPS | CORRELATIONS),
    "zero": (24, FIXED | dict.fromkeys(GROUPS, 0.0)),
}


def simulate(study: str, replication: int) -> dict[str, float]:
    """Simulate and fit one study; give the limits of every b and sd and of the population contrast."""
    people, truth = STUDIES[study]
    seed = 1000 * list(STUDIES).index(study) + replication  # no two studies alike
    trials = simulate_trials(crossed_plan(people, 24, 24, truth), seed)
    fitted = fit(FORMULA, trials, family="afc", draws=500, tune=500, chains=2, seed=replication, progress=False)
    found = fitted.terms().set_index("term").loc[[*FIXED, *GROUPS], ["conf_low", "conf_high"]]
    found.loc[CONTRAST] = population_contrast(fitted, "representation")[["conf_low", "conf_high"]]
    true = true_population_contrast(fitted, "representation", truth)
    limits = {f"{term} {end}": round(float(row[f"conf_{end}"]), 3) for term, row in found.iterrows() for end in ENDS}
    return {**limits, f"{CONTRAST} true": round(true, 4)}


def coverage(table: pd.DataFrame) -> pd.DataFrame:
    """Return by study and term the share of intervals that hold the truth, its standard error, and the mean limits.

    An SD of zero is no value that an interval of draws can hold; of it ``below`` is the share of upper limits below
    `SMALL`.
    """
    rows = []
    for study, found in table.groupby("study", sort=False):
        truth = STUDIES[str(study)][1]
        for term in (*FIXED, *GROUPS, CONTRAST):
            low, high = (found[f"{term} {end}"] for end in ENDS)
            true = found[f"{CONTRAST} true"] if term == CONTRAST else truth[term]
            at_zero = term in GROUPS and truth[term] == 0.0
            held, error = share(high < SMALL) if at_zero else share((low <= true) & (true <= high))
            what = f"upper below {SMALL}" if at_zero else "covers"
            rows.append((study, term, len(found), what, held, error, low.mean(), high.mean()))
    return pd.DataFrame(rows, columns=["study", "term", "studies", "what", "share", "se", "mean_low", "mean_high"])


def main() -> None:
    """Simulate what is missing and print the coverage."""
    keys = [{"study": study, "replication": k} for k in range(1, REPLICATIONS + 1) for study in STUDIES]
    table = collect(OUT, "python tests/calibration/interval_coverage.py", keys, simulate)
    print(coverage(table).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
