"""Does a covariate explain interpretability: planted slopes and confounds are found, and absent ones are not."""

import numpy as np
import pandas as pd
import pytest
from feature_trials import FORMULA, answer, features_of

from psychostats.effects import contrasts
from psychostats.errors import FormulaError, InputError
from psychostats.explanations import (
    contribution_formula,
    covariate_slopes,
    extend_formula,
    is_covariate,
    standardise,
    study_complexity,
    study_contribution,
)
from psychostats.fit import fit


def test_terms_are_added_to_the_fixed_part():
    text = extend_formula("y ~ a * b + (1 + a | g)", ["z", "a:z"])
    assert text == "y ~ a * b + (1 + a | g) + z + a:z"
    assert contribution_formula("y ~ x + (1 | g)", "z", "x") == "y ~ x + (1 | g) + z + x:z"
    with pytest.raises(FormulaError):
        extend_formula("y ~ x", ["("])


def units(values=(1.0, -4.0, 16.0, 0.0, 2.0, 8.0), repeat=(1, 2, 3, 1, 1, 2)):
    """Give trials of three features a basis, some seen more often."""
    frame = pd.DataFrame(
        {"pair": list("abcabc"), "representation": ["local"] * 3 + ["distributed"] * 3, "contribution": values}
    )
    return frame.loc[np.repeat(np.arange(6), repeat)].reset_index(drop=True)


def test_a_covariate_is_standardised_within_each_basis_over_features_not_trials():
    frame, scaling = standardise(units(), "contribution", unit=["pair"], within="representation", transform="log")
    once = frame.drop_duplicates(["pair", "representation"]).groupby("representation")["z_contribution"]
    assert once.mean().to_numpy() == pytest.approx(0, abs=1e-12) and once.std().to_numpy() == pytest.approx(1)
    assert scaling.floor == 0.5  # half of the smallest size above zero
    assert scaling.scales["local"] == pytest.approx((np.log(4), np.log(4)))
    assert scaling.scales["distributed"] == pytest.approx((np.log(2), np.std(np.log([0.5, 2, 8]), ddof=1)))
    plain, _ = standardise(units(), "contribution", unit=["pair", "representation"])
    size = plain.drop_duplicates(["pair", "representation"])["z_contribution"]
    assert size.mean() == pytest.approx(0, abs=1e-12)


def test_what_cannot_be_standardised_is_refused():
    with pytest.raises(InputError, match="'contribution' does not vary in representation 'local'"):
        standardise(units((1, 1, 1, 0, 2, 8)), "contribution", unit=["pair"], within="representation")
    with pytest.raises(InputError, match="zero everywhere"):
        standardise(units((0,) * 6), "contribution", unit=["pair"], within="representation", transform="log")
    with pytest.raises(InputError, match="'z_contribution' already"):
        standardise(units().assign(z_contribution=1), "contribution", unit=["pair"])
    with pytest.raises(InputError, match="differ between its trials"):
        standardise(units().assign(contribution=np.arange(10.0)), "contribution", unit=["pair"])
    with pytest.raises(InputError, match="transform 'root' is unknown"):
        standardise(units(), "contribution", unit=["pair"], transform="root")  # type: ignore[arg-type]
    frame = units()
    assert is_covariate(frame, "contribution") and not is_covariate(frame, "pair") and not is_covariate(frame, "x")
    assert not is_covariate(frame.assign(contribution=1.0), "contribution")
    assert not is_covariate(frame.assign(contribution=np.nan), "contribution")


@pytest.fixture(scope="module")
def contributing():
    """Give trials in which contribution raises the linear predictor by 0.8 an SD for local features alone."""
    rng = np.random.default_rng(101)
    features = features_of(60, rng, sd=(0.5, 0.4))
    z = rng.standard_normal(len(features))
    local = (features["representation"] == "local").to_numpy()
    for mine in (local, ~local):
        z[mine] = (z[mine] - z[mine].mean()) / z[mine].std(ddof=1)
    features = features.assign(contribution=np.exp(2 * z - 3) * np.where(rng.uniform(size=len(z)) < 0.3, -1, 1))
    features["effect"] += 0.8 * z * local
    trials = answer(features, rng, people=80)
    return fit(FORMULA, trials, family="afc", engine="laplace"), trials


def test_a_planted_slope_is_recovered_and_one_that_is_not_there_stays_open(contributing):
    found = study_contribution(*contributing, "contribution")
    link = found.slopes[found.slopes["scale"] == "link"].set_index("representation")
    local, distributed = link.loc["local"], link.loc["distributed"]
    assert local["conf_low"] > 0.3 and abs(local["estimate"] - 0.8) < 3 * local["sd"]
    assert distributed["conf_low"] < 0 < distributed["conf_high"]
    change = found.slopes[found.slopes["representation"].isna() & (found.slopes["scale"] == "link")].iloc[0]
    assert change["estimate"] == pytest.approx(distributed["estimate"] - local["estimate"])
    assert set(found.slopes["target"]) == {"typical", "population"}
    line = found.line[found.line["representation"] == "local"]
    assert line["estimate"].is_monotonic_increasing and len(line) == 21
    reach = found.fit.coding.ranges["z_contribution"]
    assert (line["value"].min(), line["value"].max()) == pytest.approx((reach[0], reach[2]), abs=1e-4)


def test_more_terms_may_stand_beside_it(contributing):
    main, trials = contributing
    found = study_contribution(main, trials, "contribution", beside=["I(depth^2)"])
    assert "I(depth^2)" in found.fit.spec.formula.text
    with pytest.raises(InputError, match="lack the column 'depth'"):
        study_contribution(main, trials.drop(columns="depth"), "contribution")


def busier(seed, effect, gain):
    """Give trials whose distributed stimuli are busier by an SD; business adds `effect` an SD, the basis `gain`."""
    rng = np.random.default_rng(seed)
    features = features_of(48, rng, sd=(0.4, 0.3))
    features["experiment"] = "one"
    trials = answer(features, rng, people=90, gain=0.0)
    names = sorted(trials["stimulus"].unique())
    z = dict(zip(names, rng.standard_normal(len(names)), strict=True))
    basis = (trials["representation"] == "distributed").to_numpy().astype(float)
    x = trials["stimulus"].map(z).to_numpy() + basis
    eta = 0.6 + trials["effect"] + gain * basis + effect * x
    right = 0.5 + 0.5 / (1 + np.exp(-eta))
    noise = trials["stimulus"].map(dict(zip(names, rng.standard_normal(len(names)), strict=True)))
    return trials.assign(entropy=5 + 0.3 * x, edge_density=0.1 + 0.01 * noise, correct=rng.binomial(1, right))


def studied(trials):
    main = fit(FORMULA, trials, family="afc", engine="laplace")
    found = study_complexity(main, trials, ["entropy", "edge_density"])
    return found, found.contrasts.set_index("analysis")


def test_an_advantage_that_is_complexity_vanishes_when_complexity_is_held_equal():
    found, rows = studied(busier(5, effect=0.8, gain=0.0))
    assert rows.loc["unadjusted", "conf_low"] > 0.03
    for analysis in ("adjusted", "matched"):
        assert rows.loc[analysis, "conf_low"] < 0.01 and abs(rows.loc[analysis, "estimate"]) < 0.04
    balance = found.balance[(found.balance["covariate"] == "entropy") & found.balance["layer"].isna()]
    smd = balance.set_index("sample")["smd"]
    assert smd["all"] > 0.7 and abs(smd["matched"]) < 0.3 * smd["all"]
    slope = found.slopes[(found.slopes["term"] == "z_entropy") & (found.slopes["scale"] == "link")].iloc[0]
    assert slope["conf_low"] < 0.8 * np.sqrt(1.25) < slope["conf_high"] or slope["conf_low"] > 0.5


def test_an_advantage_that_is_not_complexity_remains():
    _, rows = studied(busier(6, effect=0.0, gain=1.2))
    assert (rows["conf_low"] > 0.02).all()
    assert rows.loc["adjusted", "estimate"] == pytest.approx(rows.loc["unadjusted", "estimate"], abs=0.05)


def test_slopes_and_contrasts_are_taken_from_draws_too(fitted):
    made = fitted("afc")
    table = covariate_slopes(made, "depth")
    rows = table[table["scale"] == "link"].set_index("representation")["estimate"]
    assert set(table["interval"]) == {"eti"} and rows.index.isna().sum() == 1
    assert rows.iloc[2] == pytest.approx(rows["distributed"] - rows["local"])


def test_the_unadjusted_analysis_is_the_main_fits_own_and_asks_at_depths_too():
    trials = busier(7, effect=0.2, gain=0.3)
    main = fit(FORMULA, trials, family="afc", engine="laplace")
    said = []
    found = study_complexity(main, trials, ["entropy"], by={"depth": [0, 1]}, say=said.append)
    own = contrasts(main, "representation").query("target == 'population' and scale == 'difference'").iloc[0]
    first = found.contrasts.iloc[0]
    assert (first["analysis"], first["estimate"]) == ("unadjusted", pytest.approx(own["estimate"], abs=1e-6))
    assert list(found.contrasts["depth"].fillna(-1)) == [-1, 0, 1] * 3
    assert [line.partition(":")[0] for line in said] == ["unadjusted", "adjusted", "matched"]
    assert found.contrasts["trials"].iloc[-1] == len(found.matched.trials) < len(trials)


def test_all_analyses_are_asked_at_the_mean_depth_of_all_trials():
    trials = busier(8, effect=0.2, gain=0.5)
    # Deep stimuli of the two bases are far apart, so that matching keeps shallow ones.
    deep = (trials["depth"] > 0.5) & (trials["representation"] == "distributed")
    trials["entropy"] += 9.0 * deep
    main = fit(FORMULA, trials, family="afc", engine="laplace")
    found = study_complexity(main, trials, ["entropy", "edge_density"], within=("experiment",))
    matched, at = found.fits["matched"], main.coding.ranges["depth"][1]
    assert matched.coding.ranges["depth"][1] < at - 0.05
    own = contrasts(matched, "representation", by={"depth": [at]})
    own = own[(own["target"] == "population") & (own["scale"] == "difference")].iloc[0]
    assert found.contrasts.set_index("analysis").loc["matched", "estimate"] == pytest.approx(own["estimate"])
