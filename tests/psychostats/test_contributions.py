"""Contributions of two bases: what was planted is found, closed forms are met, and what is nothing is called open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from nulling_tables import Tables, flip, make_tables

from psychostats.contribution_measures import JUDGED
from psychostats.contributions import Contributions, compare_contributions, judge
from psychostats.errors import InputError
from psychostats.intervals import Interval

pytestmark = pytest.mark.once


def compare(tables: Tables, **changed: Any) -> Contributions:
    return compare_contributions(**({"replicates": 400} | tables | changed))


def row(found: Contributions, measure: str, method: str = "subtract") -> dict[str, Any]:
    table = found.verdicts
    (one,) = table[(table["measure"] == measure) & (table["method"] == method)].to_dict(orient="records")
    return dict(one)


@pytest.fixture(scope="module")
def planted() -> Contributions:
    return compare(make_tables(difference=1.0, growth=2.0, error=0.7, pairs=18))


def test_what_was_planted_is_found_with_its_growth(planted: Contributions) -> None:
    for measure in ("size", "signed"):
        one = row(planted, measure)
        assert one["conf_low"] < 1.0 < one["conf_high"]
        assert one["change_low"] < 2.0 < one["change_high"]
        assert (one["says"], one["says_change"]) == ("higher", "higher")
    assert row(planted, "ratio")["says"] == row(planted, "most_active")["says"] == "higher"
    assert row(planted, "most_active")["estimate"] == pytest.approx(1.0, abs=0.2)
    assert set(planted.verdicts["measure"]) == set(JUDGED)


def test_reconstruction_charges_the_dictionarys_error_and_within_does_not(planted: Contributions) -> None:
    size = row(planted, "size")["estimate"]
    assert row(planted, "size", "reconstruct")["estimate"] == pytest.approx(size + 0.7)
    assert row(planted, "within", "reconstruct")["estimate"] == pytest.approx(size)
    assert planted.verdicts[planted.verdicts["measure"] == "within"]["method"].tolist() == ["reconstruct"]
    errors = planted.by_pair.query("method == 'reconstruct'").groupby("representation", observed=True)["error"].mean()
    assert errors.to_dict() == {"local": 0.0, "distributed": pytest.approx(0.7)}


def test_both_definitions_agree_for_neurons(planted: Contributions) -> None:
    local = planted.by_pair[planted.by_pair["representation"] == "local"]
    wide = local.pivot_table(index="pair", columns="method", values="size")
    np.testing.assert_array_equal(wide["subtract"], wide["reconstruct"])


def test_the_model_is_the_closed_form_of_a_balanced_table() -> None:
    """Of y = pair + image + rest, all crossed and balanced, REML is the analysis of variance."""
    tables = make_tables(difference=0.4, growth=1.0, pairs=18, images=40, spread=0.4)
    # Directions differ by image too, or the variance of that would be estimated as zero half of the time.
    rows = tables["contributions"]
    aside = rows["image"].astype(int).map(dict(enumerate(np.random.default_rng(3).normal(0, 0.5, 40))))
    rows["drop"] += np.where(rows["feature"].str.contains("nmf"), aside, 0.0)
    one = row(compare(tables), "size")

    fixed = rows[(rows["selection"] == "fixed") & (rows["method"] == "subtract")]
    wide = fixed.pivot_table(index="feature", columns="image", values="drop").abs()
    local, distributed = (
        wide.loc[tables["pairs"][f"{basis}_feature"]].to_numpy() for basis in ("local", "distributed")
    )
    depth = tables["pairs"]["local_feature"].map(tables["features"].set_index("feature")["depth"]).to_numpy()
    pairs, images = local.shape

    def parts(d: np.ndarray) -> tuple[float, float, float]:
        """Mean squares of pairs about their line, of images, and the sum of squares that is left."""
        line = np.polynomial.Polynomial.fit(depth, d.mean(1), 1)
        of_pairs = images * ((d.mean(1) - line(depth)) ** 2).sum() / (pairs - 2)
        of_images = pairs * ((d.mean(0) - d.mean()) ** 2).sum() / (images - 1)
        rest = ((d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()) ** 2).sum()
        return of_pairs, of_images, rest

    difference = distributed - local
    of_pairs, of_images, rest = parts(difference)
    pooled = (rest + parts(distributed + local)[2]) / (2 * (pairs - 1) * (images - 1))
    se = np.sqrt((of_pairs + of_images - pooled) / (pairs * images))
    assert one["estimate"] == pytest.approx(difference.mean())
    assert (one["conf_high"] - one["conf_low"]) / (2 * 1.959964) == pytest.approx(se, rel=1e-4)
    slope = np.polynomial.Polynomial.fit(depth, difference.mean(1), 1).convert().coef[1]
    assert one["change"] == pytest.approx(slope * np.ptp(depth), rel=1e-6)
    spread = np.sqrt(of_pairs / images / ((depth - depth.mean()) ** 2).sum()) * np.ptp(depth)
    assert (one["change_high"] - one["change_low"]) / (2 * 1.959964) == pytest.approx(spread, rel=1e-4)


def test_the_resampled_difference_is_the_models_in_a_balanced_table(planted: Contributions) -> None:
    rows = planted.differences[planted.differences["layer"].isna()].set_index(["measure", "method", "quantity"])
    for method in ("subtract", "reconstruct"):
        for quantity in ("difference", "change"):
            model = rows.loc["size", method, quantity]
            for measure in ("paired", "paired_signed"):
                resampled = rows.loc[measure, method, quantity]
                assert resampled["estimate"] == pytest.approx(model["estimate"], rel=1e-6)
                assert resampled["sd"] == pytest.approx(model["sd"], rel=0.4)
            assert rows.loc["standardised", method, quantity]["estimate"] == pytest.approx(model["estimate"] / 4)
            # A direction's norm is half of a neuron's.
            assert rows.loc["norm", method, "difference"]["estimate"] == pytest.approx(np.log(0.5))


def test_bases_exchanged_by_chance_rarely_differ() -> None:
    """Where no basis has anything of its own, about one in twenty intervals leaves zero out."""
    tables = make_tables(difference=1.0, growth=1.0, pairs=15, images=12, spread=0.5)
    tables["contributions"] = tables["contributions"].query("method == 'subtract' and selection == 'fixed'")
    known = {name: tables[name] for name in ("contributions", "features", "pairs")}
    seen = [compare(flip(known, seed), replicates=100).verdicts.set_index("measure") for seed in range(25)]
    for column in ("says", "says_change"):
        # Of 25 at 5 %, more than four happen in 0.7 % of seeds; at the 7 % of a z with 13 degrees of freedom, in 3 %.
        assert sum(one.loc["size", column] != "open" for one in seen) <= 4
    assert abs(np.mean([one.loc["size", "estimate"] for one in seen])) < 0.2


def test_order_and_names_of_rows_do_not_matter(planted: Contributions) -> None:
    tables = make_tables(difference=1.0, growth=2.0, error=0.7, pairs=18)
    shuffled = {name: table.sample(frac=1, random_state=2) for name, table in tables.items()}
    columns = ["estimate", "conf_low", "conf_high", "change", "change_low", "change_high"]
    other = compare(shuffled).verdicts
    np.testing.assert_allclose(other[columns], planted.verdicts[columns], rtol=1e-5, atol=1e-6)
    renamed = tables | {"pairs": tables["pairs"].assign(pair=[f"p{40 - place}" for place in range(18)])}
    # The bootstrap draws pairs by place, so only its estimates stay.
    np.testing.assert_allclose(
        compare(renamed).verdicts[["estimate", "change"]],
        planted.verdicts[["estimate", "change"]],
        rtol=1e-5,
        atol=1e-6,
    )


def test_pairs_that_share_a_direction_are_one_cluster_and_have_an_effect_of_the_feature() -> None:
    found = compare(make_tables(difference=1.0, share=True))
    assert found.counts == {"pairs": 12, "directions": 9, "clusters": 9, "images": 30, "layers": 3}
    assert found.models["formula"].str.contains(r"(1 | feature)", regex=False).all()
    assert set(found.by_pair[found.by_pair["shared"]]["feature"]) == {f"net/block{i + 1}:nmf:{i}" for i in range(3)}
    assert not compare(make_tables()).models["formula"].str.contains("feature").any()


def test_equal_norm_is_carried_as_its_table_has_it_and_combined_at_the_widest() -> None:
    found = compare(make_tables(), interval=Interval("eti", 0.9))
    rows = found.differences[(found.differences["measure"] == "matched") & (found.differences["method"] == "subtract")]
    layers = rows[rows["layer"].notna()]
    assert layers[["estimate", "conf_low", "conf_high"]].to_numpy().tolist() == [
        [1, 0.5, 1.5],
        [2, 1.5, 2.5],
        [3, 2.5, 3.5],
    ]
    assert set(layers["label"]) == {"95 % bootstrap confidence interval"}
    whole = rows[rows["layer"].isna()].set_index("quantity")
    assert set(whole["label"]) == {"90 % Wald confidence interval"}
    se = 0.5 / 1.959964
    assert whole["estimate"].to_dict() == {"difference": pytest.approx(2.0), "change": pytest.approx(2.0)}
    # Weights of the mean sum to 1; of the change, -1 and 1 at the ends, to 2.
    assert whole["sd"].to_dict() == {"difference": pytest.approx(se), "change": pytest.approx(2 * se)}


def test_selectivity_is_compared_by_medians_that_nothing_and_infinity_do_not_move() -> None:
    tables = make_tables(pairs=15)
    ratios = tables["selectivity"]
    place = ratios["feature"].str.extract(r"(\d+)$")[0].astype(float).fillna(0.0)
    ratios["selectivity"] *= np.where(ratios["representation"] == "distributed", 1 + place / 100, 1.0)
    odd = {"net/block1:nmf:0": np.inf, "net/block2:nmf:1": -3.0, "net/block3:2": 0.0, "net/block1:3": np.nan}
    spoilt = ratios["feature"].isin(list(odd))
    ratios.loc[spoilt, "selectivity"] = ratios.loc[spoilt, "feature"].map(odd)
    found = compare(tables)
    one = row(found, "selectivity")
    # Pairs 4 to 14 have 3 (1 + pair / 100); above are 0 (infinite) and 2 (nothing to compare with), below is 1.
    ordered = [-np.inf, *(np.log(3 * (1 + pair / 100)) for pair in range(4, 15)), np.inf, np.inf]
    assert one["estimate"] == pytest.approx(np.mean(ordered[6:8]))
    assert one["says"] == "higher" and one["over"] == "new pairs"
    kept = found.differences.query("measure == 'selectivity' and method == 'subtract' and quantity == 'difference'")
    assert kept[kept["layer"].isna()]["left_out"].tolist() == [1]
    medians = found.selectivity.query("method == 'subtract' and layer == 'block1'").set_index("representation")
    assert medians.loc["distributed", ["n", "unbounded", "negative"]].tolist() == [5, 1, 0]
    assert medians.loc["distributed", "median"] == pytest.approx(6 * 1.09)  # of pairs 0 (infinite), 3, 6, 9 and 12
    assert medians.loc["local", "n"] == 4


def test_one_layer_has_no_change_and_absent_tables_leave_their_measures_out() -> None:
    tables = make_tables(difference=1.0, layers=1, pairs=6)
    found = compare(tables, norm_matched=None, selectivity=None)
    assert set(found.verdicts["says_change"]) == {"unknown"} and found.verdicts["change"].isna().all()
    assert not {"matched", "regression", "selectivity"} & set(found.verdicts["measure"])
    assert row(found, "size")["says"] == "higher" and found.selectivity.empty


def test_a_single_cluster_has_no_interval() -> None:
    tables = make_tables(layers=1, pairs=2, difference=1.0)
    tables["pairs"]["distributed_feature"] = tables["pairs"]["distributed_feature"].iloc[0]
    layer = compare(tables, norm_matched=None, selectivity=None).by_layer
    assert layer["estimate"].notna().all() and layer["conf_low"].isna().all()


def test_the_same_seed_gives_the_same_and_another_does_not() -> None:
    tables = make_tables(pairs=6, images=10)
    first, again, other = (compare(tables, seed=seed).differences for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    ratios = first["measure"] == "ratio"
    assert not np.allclose(first.loc[ratios, "conf_low"], other.loc[ratios, "conf_low"])


def test_a_verdict_needs_an_interval_on_one_side() -> None:
    rows = [
        {"measure": "size", "method": method, "quantity": quantity, "layer": None, "estimate": estimate}
        | {"conf_low": low, "conf_high": high, "conf_level": 0.95, "interval": "wald", "label": "x"}
        for method, (estimate, low, high) in {"subtract": (1, 0.1, 2), "reconstruct": (-1, -2, 0.1)}.items()
        for quantity in ("difference", "change")
    ]
    assert judge(pd.DataFrame(rows))["says"].tolist() == ["higher", "open"]
    rows[0]["conf_low"] = np.nan
    assert judge(pd.DataFrame(rows))["says"].tolist() == ["unknown", "open"]


BAD = {
    "a column": ("contributions", lambda t: t.drop(columns="drop"), "table 'contributions' .* lacks the column 'drop'"),
    "features": ("features", lambda t: t.drop(columns="depth"), "table 'features' .* lacks the column 'depth'"),
    "nulled": ("contributions", lambda t: t.assign(method="sobol"), "no row of the methods subtract or reconstruct"),
    "twice": ("contributions", lambda t: pd.concat([t, t.iloc[:1]]), "feature 'net/block1:0', image '000', .* twice"),
    "one basis": (
        "contributions",
        lambda t: t[~t["feature"].str.contains("nmf")],
        r"of one basis only \(local\)",
    ),
    "a feature": ("contributions", lambda t: t[t["feature"] != "net/block1:0"], "no row of feature 'net/block1:0'"),
    "a stranger": ("features", lambda t: t[t["feature"] != "net/block1:0"], "names the feature 'net/block1:0'"),
    "exchanged": (
        "pairs",
        lambda t: t.assign(local_feature=t["distributed_feature"]),
        "as a local feature; in 'features' it is distributed",
    ),
    "two layers": (
        "pairs",
        lambda t: t.assign(distributed_feature=t["distributed_feature"].to_numpy()[::-1]),
        "lies in two layers",
    ),
    "few": ("pairs", lambda t: t.iloc[:1], "two pairs at least"),
    "not a number": ("contributions", lambda t: t.assign(drop=np.nan), "no finite number"),
    "selectivity": ("selectivity", lambda t: t.drop(columns="selectivity"), "lacks the column 'selectivity'"),
    "norm_matched": ("norm_matched", lambda t: t.drop(columns="way"), "lacks the column 'way'"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_tables_are_one_sentence(what: str) -> None:
    name, spoil, message = BAD[what]
    tables = make_tables(pairs=6, images=4)
    with pytest.raises(InputError, match=message) as caught:
        compare(tables | {name: spoil(tables[name])})
    assert "\n" not in str(caught.value)
