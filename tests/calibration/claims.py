"""Are the study's claims made as often as they should be? Simulated people are shown the stimuli of a features run.

Run as ``python tests/calibration/claims.py RUN``, RUN being what ``featurecompute compute data/studies/colin2024.toml``
wrote; it adds to claims.csv beside itself, a row a simulated study, and goes on where it was interrupted.
``--sampled N`` fits the first N studies with the effects planted by NUTS too.

In every study the same lists are answered by new people, about pairs with new effects. Nothing planted: what was
measured of a stimulus and the representation have no effect (all coefficients but those of experiments are zero).
Planted: as ``[simulate.shown]`` says. The claims are those of the joint model, at 5 %: (i) the 95 % interval of the
population contrast leaves out zero; (ii) so does that of its change from the shallowest layer to the deepest. For
(iii) nothing is simulated, since contributions come from the network: with nothing planted, the bases of each pair are
swapped by a fair coin.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from common import HERE, STUDY, collect, share
from scipy import stats

from psychostats import apply_exclusions, contrasts, fit, interactions
from psychostats.contributions import compare_contributions
from psychostats.features import FeaturesRun, examine_joined, read_run
from psychostats.settings import ShownTable
from psychostats.study import Study, read_study

OUT = HERE / "claims.csv"
SWAPPED = HERE / "claims_swapped.csv"
SEEDS = 200
KEPT = ("b_Intercept", "b_experiment")
"""Beginnings of the coefficients that are no claim."""


def without_effects(study: Study) -> Study:
    """Return the study with every coefficient at zero that a claim could be about; SDs and correlations stay."""
    assert study.simulate is not None and study.simulate.shown is not None
    shown = study.simulate.shown
    truth = {
        term: value if not term.startswith("b_") or term.startswith(KEPT) else 0.0
        for term, value in shown.truth.items()
    }
    table = study.simulate.model_copy(update={"shown": ShownTable(formula=shown.formula, truth=truth)})
    return study.model_copy(update={"simulate": table})


def answer(study: Study, run: FeaturesRun, seed: int) -> pd.DataFrame:
    """Return the analysed trials of one simulated study."""
    trials = study.simulated_trials(seed, run)
    table = examine_joined(trials, run, **study.read_options(run))
    assert not table.errors, table.errors
    return apply_exclusions(table.frame, study.rules()).kept


def claim(study: Study, kept: pd.DataFrame, engine: str) -> dict[str, float]:
    """Fit all experiments together and return the estimate and limits of both claims, in probability."""
    assert study.joint is not None
    study = study.placed(kept)
    effects, model = study.effects, study.joint.as_models(study.models[0])[0]
    # A spot check asks for an interval's ends, not for the tails of every SD.
    options = {} if engine == "laplace" else {"draws": 1000, "tune": 500, "seed": model.seed}
    made = fit(model.spec(), kept, engine=engine, progress=False, **options)
    ends = [effects.places[0], effects.places[-1]]
    found = {
        "i": contrasts(made, effects.factor),
        "ii": interactions(made, effects.factor, str(effects.moderator), ends),
    }
    row: dict[str, float] = {"converged": float(made.converged)}
    for name, table in found.items():
        one = table[(table["target"] == "population") & (table["scale"] == "difference")].iloc[0]
        row |= {f"{name}_{column}": round(float(one[column]), 5) for column in ("estimate", "conf_low", "conf_high")}
    return row


def swap(run: FeaturesRun, seed: int) -> dict[str, float]:
    """Swap the two bases of each pair by a fair coin, and return the estimate and limits of the third claim.

    The claim is that of the hierarchical model of the size of the drop, by each definition of nulling.
    """
    features, pairs = run.table("features"), run.table("pairs")
    turned = np.random.default_rng(seed).uniform(size=len(pairs)) < 0.5
    names = [pairs[name].to_numpy(object) for name in ("local_feature", "distributed_feature")]
    pairs = pairs.assign(
        local_feature=np.where(turned, names[1], names[0]), distributed_feature=np.where(turned, names[0], names[1])
    )
    basis = dict.fromkeys(pairs["local_feature"], "local") | dict.fromkeys(pairs["distributed_feature"], "distributed")
    features = features.assign(representation=features["feature"].map(basis).fillna(features["representation"]))
    contributions = run.table("contributions")
    fixed = contributions[contributions["selection"] == "fixed"]
    found = compare_contributions(fixed, features, pairs, replicates=200)
    rows = found.differences[found.differences["layer"].isna() & (found.differences["quantity"] == "difference")]
    row: dict[str, float] = {"converged": float(found.models["converged"].all())}
    for method in ("subtract", "reconstruct"):
        for measure in ("size", "standardised"):
            one = rows[(rows["measure"] == measure) & (rows["method"] == method)].iloc[0]
            row |= {
                f"{measure}_{method}_{column}": round(float(one[column]), 5)
                for column in ("estimate", "conf_low", "conf_high")
            }
    return row


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return how often each claim is made: zero left out on either side, and on the side of the paper's claim.

    Returns
    -------
    DataFrame
        ``engine, planted, claim, studies, made, made_se, above, least, most``: the last two are the central 99 %
        binomial band around 5 % of the studies, as shares.
    """
    rows = []
    for (engine, planted), cell in table.groupby(["engine", "planted"]):
        for name in ("i", "ii"):
            low, high = cell[f"{name}_conf_low"], cell[f"{name}_conf_high"]
            made, error = share((low > 0) | (high < 0))
            least, most = band_of(len(cell))
            row = {"engine": engine, "planted": planted, "claim": name, "studies": len(cell), "made": made}
            rows.append(row | {"made_se": error, "above": share(low > 0)[0], "least": least, "most": most})
    return pd.DataFrame(rows)


def summarise_swaps(table: pd.DataFrame) -> pd.DataFrame:
    """Return how often the third claim is made where the bases of each pair were swapped by a coin."""
    rows = []
    for name in (column.removesuffix("_conf_low") for column in table.columns if column.endswith("_conf_low")):
        low, high = table[f"{name}_conf_low"], table[f"{name}_conf_high"]
        made, error = share((low > 0) | (high < 0))
        least, most = band_of(len(table))
        rows.append(
            {"measure": name, "studies": len(table), "made": made, "made_se": error, "least": least, "most": most}
        )
    return pd.DataFrame(rows)


def band_of(studies: int) -> tuple[float, float]:
    """Return the central 99 % binomial band around 5 % of so many studies, as shares."""
    least, most = stats.binom.ppf([0.005, 0.995], studies, 0.05) / studies
    return float(least), float(most)


def main() -> None:
    """Add to the file, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sampled", type=int, default=0, help="studies that are fitted by NUTS too")
    asked = parser.parse_args()
    study, run = read_study(STUDY), read_run(asked.run)
    kinds = {"nothing": without_effects(study), "default": study}

    def make(engine: str, planted: str, seed: int) -> dict[str, float]:
        one = kinds[planted]
        return claim(one, answer(one, run, seed), engine)

    keys = [
        {"engine": "laplace", "planted": planted, "seed": seed} for planted in kinds for seed in range(1, SEEDS + 1)
    ]
    keys += [{"engine": "pymc", "planted": "default", "seed": seed} for seed in range(1, asked.sampled + 1)]
    note = f"python tests/calibration/claims.py RUN, features run {run.identity}"
    print(summarise(collect(OUT, note, keys, make)).round(3).to_string(index=False))
    swapped = collect(SWAPPED, note, [{"seed": seed} for seed in range(1, SEEDS + 1)], lambda seed: swap(run, seed))
    print(summarise_swaps(swapped).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
