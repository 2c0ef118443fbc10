"""Are studies said to differ as often as they may be? Simulated people, some of whom are called new.

Run as ``python tests/calibration/reanalyses.py``; it adds to reanalyses.csv beside itself, a row a simulated study, and
goes on where it was interrupted.

In every study 160 people answer 27 trials each about 80 pairs, with the truth of the embedded experiment natural, and
60 of them are called new. ``same``: all were shown the same pairs, so the studies do not differ. ``others``: the new
study's pairs bear the names of the old ones and are others, which the model of both does not know.
"""

from __future__ import annotations

import pandas as pd
from claims import SEEDS, band_of
from common import HERE, STUDY, collect, crossed_plan, population_contrast, share, true_population_contrast

from psychostats.effects import contrasts, interactions
from psychostats.fit import fit
from psychostats.pooled import STUDY as FACTOR
from psychostats.pooled import stack_studies, with_study
from psychostats.simulate import simulate_trials
from psychostats.study import read_study

OUT = HERE / "reanalyses.csv"
OLD, NEW, TRIALS, PAIRS = 100, 60, 27, 80
NAMES = ("old", "new")


def compare(pairs: str, seed: int) -> dict[str, float]:
    """Simulate an old study and a new one, and return the limits of their difference and of what both say together."""
    study = read_study(STUDY)
    assert study.simulate is not None
    truth = study.simulate.truth["all"] | study.simulate.truth["natural"]
    whole = simulate_trials(crossed_plan(OLD + NEW, TRIALS, PAIRS, truth), seed)
    people = whole["participant"].unique()
    old, new = (whole[whole["participant"].isin(part)] for part in (people[:OLD], people[OLD:]))
    if pairs == "others":
        new = simulate_trials(crossed_plan(NEW, TRIALS, PAIRS, truth), 10_000 + seed)
    stacked = stack_studies(old, new, names=NAMES, person="participant").rows
    spec = study.models[0].spec()
    made = fit(with_study(spec.formula), stacked, family="afc", engine="laplace")
    between = interactions(made, "representation", FACTOR, list(NAMES))
    weights = {FACTOR: {name: float((stacked[FACTOR] == name).sum()) for name in NAMES}}
    rows = {
        "between": between[(between["target"] == "population") & (between["scale"] == "difference")].iloc[0],
        "together": population_contrast_of(contrasts(made, "representation", weights=weights)),
    }
    # The fit of the old study alone has the true model's terms, from which the true contrast follows.
    alone = fit(spec, old.assign(depth=old["depth"]), engine="laplace")
    found = {"truth": round(true_population_contrast(alone, "representation", truth), 5)}
    found |= {"alone": round(float(population_contrast(alone, "representation")["estimate"]), 5)}
    for name, row in rows.items():
        found |= {f"{name}_{column}": round(float(row[column]), 5) for column in ("estimate", "conf_low", "conf_high")}
    return found


def population_contrast_of(table: pd.DataFrame) -> pd.Series[float]:
    """Return the row of a table of contrasts that is of the population, as a difference in probability."""
    return table[(table["target"] == "population") & (table["scale"] == "difference")].iloc[0]


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return how often studies are said to differ, and how often both together hold the truth.

    Returns
    -------
    DataFrame
        ``pairs, studies, differ, differ_se, least, most, held``: the band is the central 99 % binomial one around 5 %.
    """
    rows = []
    for pairs, cell in table.groupby("pairs"):
        differ, error = share((cell["between_conf_low"] > 0) | (cell["between_conf_high"] < 0))
        held, _ = share((cell["together_conf_low"] <= cell["truth"]) & (cell["truth"] <= cell["together_conf_high"]))
        least, most = band_of(len(cell))
        row = {"pairs": pairs, "studies": len(cell), "differ": differ, "differ_se": error}
        rows.append(row | {"least": least, "most": most, "held": held})
    return pd.DataFrame(rows)


def main() -> None:
    """Add to the file, and print the summary."""
    keys = [{"pairs": pairs, "seed": seed} for pairs in ("same", "others") for seed in range(1, SEEDS + 1)]
    table = collect(OUT, "python tests/calibration/reanalyses.py", keys, compare)
    print(summarise(table).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
