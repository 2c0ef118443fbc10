"""Curves, comparisons at equal norm, and selectivity, each where the answer is known."""

# ruff: noqa: E402

import warnings

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from planted import planted
from split_networks import Residual, loud, pictures, whole

from featurecompute.bases import NeuronBasis
from featurecompute.curves import areas, curves, mean_curves, norm_matched, selectivity
from featurecompute.errors import InputError
from featurecompute.replay import split
from featurecompute.terms import terms_of


def scene(layer, directions):
    module, images = loud(Residual), pictures(3)
    suffix = split(module, layer, "bchw", images)
    channels = suffix.maps.shape[1]
    terms = terms_of(suffix.maps, planted(layer, channels) if directions else NeuronBasis(layer, channels))
    return module, images, suffix, terms


@pytest.mark.parametrize("directions", [True, False])
def test_curves_of_a_linear_suffix_are_sums_of_drops(directions):
    _, _, suffix, terms = scene("block3", directions)
    weights, _ = suffix.linear
    targets = torch.tensor([4, 0, 2])
    atoms = torch.eye(terms.size) if terms.atoms is None else terms.atoms
    drops = weights[targets] @ atoms.T * terms.codes.mean(2)
    table = curves(suffix, terms, drops, targets, images=["a", "b", "c"], points=100)
    assert list(table.columns) == ["image", "curve", "units", "share", "norm_share", "logit", "probability"]
    assert len(table) == 3 * 2 * (terms.size + 1)
    for place, image in enumerate("abc"):
        order = torch.argsort(drops[place], descending=True)
        summed = np.concatenate([[0], drops[place][order].cumsum(0).numpy()])
        logit = float(suffix.logits[place, targets[place]])
        for curve, true in (("deletion", logit - summed), ("insertion", logit - summed[-1] + summed)):
            part = table[(table["image"] == image) & (table["curve"] == curve)]
            assert part["units"].tolist() == list(range(terms.size + 1))
            np.testing.assert_allclose(part["share"], np.arange(terms.size + 1) / terms.size)
            np.testing.assert_allclose(part["logit"], true, rtol=1e-4, atol=1e-4)
            assert part["norm_share"].iloc[0] == pytest.approx(0, abs=1e-10)
            assert part["norm_share"].iloc[-1] == pytest.approx(1)
            # The highest drops first: deletion falls most at first, insertion rises most at first.
            steps = np.diff(part["logit"]) * (1 if curve == "insertion" else -1)
            assert (np.diff(steps) < 1e-3).all()


def test_curves_are_the_whole_network_under_masks():
    module, images, suffix, terms = scene("block2.conv1", True)
    basis = planted("block2.conv1", 8)
    targets = torch.tensor([1, 1, 3])
    scores = torch.tensor([[2.0, 5, 5, 1, 9], [0, 0, 0, 0, 0], [5, 4, 3, 2, 1]])
    table = curves(suffix, terms, scores, targets, images=["a", "b", "c"], points=4, batch=5)
    assert sorted(set(table["units"])) == [0, 2, 3, 5]  # 0, 1.67, 3.33 and 5, rounded
    orders = [[4, 1, 2, 0, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]  # ties to the lower unit
    rows = suffix.maps.transpose(1, 2)
    for row in table.itertuples():
        image = "abc".index(row.image)
        first = torch.zeros(5)
        first[orders[image][: row.units]] = 1
        gone = first if row.curve == "deletion" else 1 - first
        codes = basis.encode(rows[image])
        maps = (rows[image] - (codes * gone) @ basis.atoms).T
        logits = whole(module, "block2.conv1", "bchw", images[image : image + 1], maps[None])[0]
        assert row.logit == pytest.approx(float(logits[targets[image]]), rel=1e-4, abs=1e-4)
        assert row.probability == pytest.approx(float(logits.softmax(0)[targets[image]]), rel=1e-3, abs=1e-5)
        share = ((codes * first) @ basis.atoms).square().sum() / (codes @ basis.atoms).square().sum()
        assert row.norm_share == pytest.approx(float(share), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("layer", ["block2.conv1", "block3"])
def test_the_batch_does_not_matter(layer):
    _, _, suffix, terms = scene(layer, True)
    scores = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    tables = [
        curves(suffix, terms, scores, torch.tensor([0, 1, 2]), images=list("abc"), batch=batch) for batch in (1, 7, 32)
    ]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0], rtol=1e-4, atol=1e-4)


def test_areas_and_means_by_hand():
    points = [(0, 0.0, 0.0, 4.0, 1.0), (1, 0.5, 0.8, 2.0, 0.5), (2, 1.0, 1.0, 0.0, 0.25)]
    columns = ["units", "share", "norm_share", "logit", "probability"]
    one = pd.DataFrame(points, columns=columns).assign(image="a", curve="deletion")
    other = one.assign(image="b", logit=one["logit"] + 2)
    found = areas(pd.concat([one, other], ignore_index=True)).set_index(["image", "axis", "quantity"])["area"]
    assert found["a", "share", "logit"] == pytest.approx(0.5 * 3 + 0.5 * 1)
    assert found["a", "norm_share", "logit"] == pytest.approx(0.8 * 3 + 0.2 * 1)
    assert found["a", "share", "probability"] == pytest.approx(0.5 * 0.75 + 0.5 * 0.375)
    assert found["b", "share", "logit"] == pytest.approx(2 + 2)
    means = mean_curves(pd.concat([one, other]))
    assert means["logit"].tolist() == [5, 3, 1]
    assert means["n_images"].tolist() == [2, 2, 2]
    np.testing.assert_allclose(means["logit_se"], np.std([0, 2], ddof=1) / np.sqrt(2))
    np.testing.assert_allclose(means["norm_share_se"], 0, atol=1e-15)


def rows_of(factor, seed=0, images=40, noise=0.3, larger=2.0, slope=1.0):
    """Rows whose |drop| is a norm ** slope with noise, for directions times a factor; directions are larger."""
    draw = np.random.default_rng(seed)
    rows = []
    for image in range(images):
        for representation, count, size in (("local", 60, 1.0), ("distributed", 12, larger)):
            norm = size * np.exp(draw.normal(0, 0.8, count))
            change = 0.1 * norm**slope * np.exp(draw.normal(0, noise, count))
            change *= factor if representation == "distributed" else 1
            drop = change * draw.choice([-1, 1], count)
            rows += [
                {
                    "feature": f"{representation}{i}",
                    "image": f"i{image:02}",
                    "norm": n,
                    "drop": d,
                    "representation": representation,
                }
                for i, (n, d) in enumerate(zip(norm, drop, strict=True))
            ]
    return pd.DataFrame(rows).assign(layer="l", method="subtract", selection="fixed")


def unmatched(table):
    means = table.assign(change=table["drop"].abs()).groupby("representation")["change"].mean()
    return means["distributed"] / means["local"]


@pytest.mark.parametrize("way", ["pairs", "regression"])
@pytest.mark.parametrize("factor", [1.0, 2.0, 0.5])
def test_a_planted_factor_is_recovered_at_equal_norm(way, factor):
    table = rows_of(factor)
    assert unmatched(table) == pytest.approx(2 * factor, rel=0.25)  # what norms alone would make of it
    (found,) = norm_matched(table, way=way, replicates=200).itertuples()
    assert found.ratio == pytest.approx(factor, rel=0.1)
    if factor == 1:
        assert found.lower < 0 < found.upper
    elif factor > 1:
        assert found.lower > 0
    else:
        assert found.upper < 0
    if way == "regression":
        assert found.lower < np.log(factor) < found.upper
        assert found.estimate == pytest.approx(np.log(found.ratio))
    assert found.n_images == 40


def test_the_interval_covers_as_often_as_it_says():
    inside = []
    for seed in range(60):
        (found,) = norm_matched(rows_of(1.0, seed, images=30), way="regression", replicates=120).itertuples()
        inside.append(found.lower < 0 < found.upper)
    assert 0.85 <= np.mean(inside) <= 1


def test_regression_without_noise_is_exact():
    (found,) = norm_matched(rows_of(1.7, noise=0, slope=0.6), way="regression", replicates=20).itertuples()
    assert found.ratio == pytest.approx(1.7)
    assert found.lower == pytest.approx(np.log(1.7))
    assert found.upper == pytest.approx(np.log(1.7))


def test_pairs_by_hand():
    rows = [
        ("n1", "a", "local", 1.0, -0.5), ("n2", "a", "local", 2.0, 3.0), ("n3", "a", "local", 0.0, 9.0),
        ("d1", "a", "distributed", 1.1, 1.0),  # nearest 1.0
        ("d2", "a", "distributed", 1.9, -2.0),  # nearest 2.0
        ("d3", "a", "distributed", 4.0, 7.0),  # nobody within the caliper
        ("d4", "a", "distributed", 0.0, 7.0),  # nothing removed
        ("n1", "b", "local", 1.0, 1.0), ("d1", "b", "distributed", 1.0, 2.0),
        ("d1", "c", "distributed", 1.0, 2.0),  # no neuron
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["feature", "image", "representation", "norm", "drop"])
    table = table.assign(layer="l", method="subtract", selection="fixed")
    (found,) = norm_matched(table, replicates=100).itertuples()
    assert found.estimate == pytest.approx(((1 - 0.5) + (2 - 3) + (2 - 1)) / 3)
    assert found.ratio == pytest.approx(5 / 4.5)
    assert (found.n_images, found.n, found.left_out) == (2, 3, 3)
    assert (found.layer, found.method, found.selection, found.way) == ("l", "subtract", "fixed", "pairs")
    shuffled = norm_matched(table.sample(frac=1, random_state=3), replicates=100)
    pd.testing.assert_frame_equal(shuffled, norm_matched(table, replicates=100))


def test_seeds_and_where_nothing_can_be_compared():
    table = rows_of(1.5, images=6)
    first, same, other = (norm_matched(table, replicates=50, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, same)
    assert first["lower"].tolist() != other["lower"].tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert norm_matched(table[table["representation"] == "local"]).empty
        far = table.assign(norm=np.where(table["representation"] == "local", 1e-6, 1.0))
        (found,) = norm_matched(far, replicates=5).itertuples()
        assert np.isnan(found.estimate)
        assert found.n == 0
        still = norm_matched(table.assign(drop=0.0), way="regression", replicates=5)
        assert still["estimate"].isna().all()
        zero = norm_matched(table.assign(drop=0.0), replicates=5)
        assert zero["estimate"].tolist() == [0]
    two = pd.concat([table, table.assign(layer="m")])
    assert norm_matched(two, replicates=5)["layer"].tolist() == ["l", "m"]


def test_selectivity_by_hand():
    rows = [("f", "a", 3.0), ("f", "b", 1.0), ("f", "c", -0.5), ("f", "d", 0.1), ("g", "a", 2.0), ("g", "c", 0.0),
            ("h", "a", 1.0), ("k", "c", 4.0)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["feature", "image", "drop"]).assign(method="subtract", selection="fixed")
    presence = pd.DataFrame(
        {"eye": [True, True, False, False], "wheel": [True, False, False, True]}, index=list("abcd")
    )
    found = selectivity(table, presence, {"f": "eye", "g": "eye", "h": "wheel", "k": "eye"}).set_index("feature")
    assert found.loc["f", ["n_present", "n_absent"]].tolist() == [2, 2]
    assert found.loc["f", "drop_present"] == pytest.approx(2.0)
    assert found.loc["f", "change_absent"] == pytest.approx(0.3)
    assert found.loc["f", "selectivity"] == pytest.approx(2 / 0.3)
    assert np.isinf(found.loc["g", "selectivity"])
    assert np.isnan(found.loc["h", "selectivity"])
    assert np.isnan(found.loc["k", "selectivity"])
    assert "k" not in selectivity(table, presence, {"f": "eye"})["feature"].tolist()
    assert selectivity(table, presence, {}).empty
    with pytest.raises(InputError, match="nothing of element 'nose'"):
        selectivity(table, presence, {"f": "nose"})
    with pytest.raises(InputError, match="nothing of image 'd'"):
        selectivity(table, presence.loc[["a", "b", "c"]], {"f": "eye"})
