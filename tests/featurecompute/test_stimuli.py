"""The table of stimuli: what main, catch, practice and mixed ones show, and what becomes of features that cannot be."""

import itertools

import numpy as np
import pytest

from featurecompute.errors import StudyError
from featurecompute.stimuli import Material, Member, images_of, make_stimuli, set_versions
from featurecompute.study import StimuliTable

N, PAIRS = 600, 6
IMAGES = np.array([f"i{number:03}.png" for number in range(N)])
CLASSES = np.array([f"class{number % 8}" for number in range(N)])
PLACE = {name: number for number, name in enumerate(IMAGES)}


def activations(feature):
    return np.random.default_rng(list(feature.encode())).normal(size=N)


def members(prefix="", pairs=PAIRS):
    return [
        Member(f"{prefix}{kind}{pair}", f"{prefix}p{pair}", kind)
        for pair, kind in itertools.product(range(pairs), ("local", "distributed"))
    ]


def table(**changes):
    return StimuliTable(
        **{"batches": 2, "references_max": 5, "references_min": 4, "references_synthetic": 2, "catch": 4, **changes}
    )


def material(read=activations, classes=CLASSES, failed=()):
    made = {
        (member.feature, "max"): [f"made/{member.feature}/{i}" for i in range(4) if (member.feature, i) not in failed]
        for member in members()
    }
    return Material(IMAGES, classes, read, made)


def make(experiment="natural", asked=None, **about):
    return make_stimuli(experiment, members(), members("spare", 4), material(**about), asked or table())


def main_of(rows):
    return rows[(rows["phase"] == "main") & ~rows["catch"]].set_index("stimulus")


@pytest.mark.parametrize("experiment", ["natural", "semantic", "mixed"])
def test_every_feature_has_its_batches_and_a_row_says_what_it_shows(experiment):
    rows, said = make(experiment)
    main = main_of(rows)
    assert said == []
    assert set(main.index) == {f"{experiment}/{m.pair}/{m.representation}/{b}" for m in members() for b in range(2)}
    for row in main.to_dict(orient="records"):
        values = activations(row["feature"])
        assert row["activation_target"] == values[PLACE[row["query_target"]]]
        assert row["activation_distractor"] == values[PLACE[row["query_distractor"]]]
        assert row["class_target"] == CLASSES[PLACE[row["query_target"]]]
        assert row["class_distractor"] == CLASSES[PLACE[row["query_distractor"]]]
        assert (len(row["references_max"]), len(row["references_min"])) == (5, 4)
        low = max(values[PLACE[image]] for image in row["references_min"])
        assert min(values[PLACE[i]] for i in row["references_max"] if i in PLACE) > low
        assert row["seed"] == 1
    for _, both in main.groupby("feature"):
        shown = images_of(both)
        assert len(shown) == 2 * 11  # nothing twice, in two batches or in one


def test_mixed_shows_the_queries_of_natural_and_some_synthesised_references():
    natural, mixed = (main_of(make(experiment)[0]) for experiment in ("natural", "mixed"))
    assert set(natural["reference_kind"]) == {"natural"} and set(mixed["reference_kind"]) == {"mixed"}
    used, places = [], []
    for name, row in mixed.iterrows():
        other = natural.loc[name.replace("mixed/", "natural/", 1)]
        assert (row["query_target"], row["query_distractor"]) == (other["query_target"], other["query_distractor"])
        assert row["references_min"] == other["references_min"]
        made = [image for image in row["references_max"] if image.startswith("made/")]
        assert len(made) == 2 and all(image.startswith(f"made/{row['feature']}/") for image in made)
        kept = [image for image in row["references_max"] if image not in made]
        assert set(kept) <= set(other["references_max"])
        used += made
        places += [row["references_max"].index(image) for image in made]
    assert len(used) == len(set(used))
    assert len(set(places)) == 5  # anywhere in the grid


def test_only_synthesised_references_are_called_synthetic():
    asked = table(references_max=2, references_synthetic=2, references_synthetic_min=0)
    rows, _ = make("mixed", asked=asked)
    assert set(main_of(rows)["reference_kind"]) == {"mixed"}  # the least activating ones are natural
    every = Material(
        IMAGES,
        CLASSES,
        activations,
        {(m.feature, end): [f"{end}/{m.feature}/{i}" for i in range(8)] for m in members() for end in ("max", "min")},
    )
    asked = table(references_max=2, references_min=4, references_synthetic=2, references_synthetic_min=4)
    rows, _ = make_stimuli("mixed", members(), [], every, asked)
    assert set(main_of(rows)["reference_kind"]) == {"synthetic"}
    catch = rows[rows["catch"]]
    assert len(catch) and catch["activation_target"].isna().all() and catch["class_target"].isna().all()
    for row in catch.to_dict(orient="records"):
        assert row["query_target"] in row["references_max"] and row["query_distractor"] in row["references_min"]


@pytest.mark.parametrize("experiment", ["natural", "semantic", "mixed"])
def test_the_answer_to_a_catch_trial_is_in_plain_sight(experiment):
    rows, _ = make(experiment)
    catch = rows[rows["catch"]]
    assert len(catch) == catch["pair"].nunique() == 4
    assert set(catch["phase"]) == {"main"}
    main = main_of(rows)
    for row in catch.to_dict(orient="records"):
        source = main.loc[row["stimulus"].removesuffix("/catch")]
        assert row["query_target"] in row["references_max"] and row["query_target"] in PLACE
        assert row["query_distractor"] in row["references_min"]
        assert row["references_max"] == source["references_max"]
        assert row["activation_target"] == activations(row["feature"])[PLACE[row["query_target"]]]
    assert {row.split("/")[2] for row in catch["stimulus"]} == {"local", "distributed"}


@pytest.mark.parametrize("experiment", ["natural", "semantic", "mixed"])
def test_practice_is_of_features_that_are_not_studied_and_grows_harder(experiment):
    rows, _ = make(experiment, asked=table(practice=6, practice_hard=2, practice_query=(0.2, 0.4)))
    practice = rows[rows["phase"] == "practice"]
    assert list(practice["stimulus"]) == [f"{experiment}/practice/{number}" for number in range(6)]
    assert practice[["feature", "pair", "batch"]].isna().all().all()
    assert set(practice["reference_kind"]) == {"natural"}
    spare = {member.feature for member in members("spare", 4)}
    features = []
    for row in practice.to_dict(orient="records"):
        (found,) = [f for f in spare if activations(f)[PLACE[row["query_target"]]] == row["activation_target"]]
        features.append(found)
    assert len(set(features)) == 6
    assert {name.removeprefix("spare")[:5] for name in features} == {"local", "distr"}
    gap = (practice["activation_target"] - practice["activation_distractor"]).to_numpy()
    assert gap[:4].min() > gap[4:].max()
    assert (np.diff(gap[:4] / [np.std(activations(f)) for f in features[:4]]) <= 0).all()


def test_practice_falls_back_on_studied_features():
    rows, _ = make_stimuli("natural", members(), [], material(), table())
    assert (rows["phase"] == "practice").sum() == 5


def broken(feature):
    return np.zeros(N) if feature == "local2" else activations(feature)


def twins(feature):
    return activations("local1") * 2 if feature == "distributed4" else activations(feature)


FAULTS = [
    ("natural", {"read": broken}, "p2", "feature local2 never activates, so no image shows what it responds to"),
    ("semantic", {"read": broken}, "p2", "feature local2 never activates"),
    ("mixed", {"failed": {("local3", 0)}}, "p3", "feature local3 has 3 synthesised images .* and 2 batches need 4"),
]


@pytest.mark.parametrize(("experiment", "about", "pair", "words"), FAULTS)
def test_a_feature_that_cannot_be_shown_is_an_error_or_its_pair_is_left_out(experiment, about, pair, words):
    with pytest.raises(StudyError, match=f"experiment '{experiment}': {words}") as fault:
        make(experiment, **about)
    assert len(str(fault.value).splitlines()) == 1
    rows, said = make(experiment, asked=table(faulty="skip"), **about)
    assert len(said) == 1 and said[0].endswith(f"; pair {pair} is left out.")
    assert set(rows["pair"].dropna()) == {f"p{number}" for number in range(PAIRS)} - {pair}
    whole, _ = make(experiment)
    mine = main_of(rows)
    assert mine.equals(main_of(whole).loc[mine.index])  # the others are as they were


def test_features_with_the_same_images_are_an_error_or_said_and_kept():
    words = "feature distributed4 has the same most activating images as local1"
    with pytest.raises(StudyError, match=f'{words}; .* faulty = "skip" to keep both'):
        make(read=twins)
    rows, said = make(read=twins, asked=table(faulty="skip"))
    assert said == [f"experiment 'natural': {words}; both are kept."]
    assert set(rows["pair"].dropna()) == {f"p{number}" for number in range(PAIRS)}


def test_practice_that_cannot_be_made_is_said():
    rows, said = make(asked=table(practice=11))
    assert said == ["experiment 'natural': 8 of 11 practice stimuli could be made."]
    assert (rows["phase"] == "practice").sum() == 8


def test_all_features_unfit_is_an_error_in_any_case():
    with pytest.raises(StudyError, match="no pair is left"):
        make(read=lambda feature: np.zeros(N), asked=table(faulty="skip"))


def test_a_version_changes_with_any_pixel_that_is_shown_and_with_nothing_else():
    rows, _ = make()
    hashes = {image: f"sha-{image}" for image in images_of(rows)}
    before = set_versions(rows, hashes)["version"]
    assert before.str.len().eq(16).all()
    main = before[(rows["phase"] == "main") & ~rows["catch"]]
    assert main.is_unique
    assert set_versions(rows.iloc[::-1], hashes)["version"].sort_index().equals(before)
    turned = rows.assign(references_max=[row[::-1] for row in rows["references_max"]])
    assert (set_versions(turned, hashes)["version"] != before).all()  # a place in the grid is part of what is shown
    touched = rows["references_min"].iloc[0][2]
    after = set_versions(rows, hashes | {touched: "other"})["version"]
    shows = [
        touched in [t, d, *a, *b]
        for t, d, a, b in rows[["query_target", "query_distractor", "references_max", "references_min"]].itertuples(
            index=False
        )
    ]
    assert list(after != before) == shows


def test_images_are_named_once():
    rows, _ = make("mixed")
    found = images_of(rows)
    assert len(found) == len(set(found))
    assert {image for row in rows["references_max"] for image in row} <= set(found)
    assert set(rows["query_target"]) | set(rows["query_distractor"]) <= set(found)


def test_images_without_classes_have_none():
    rows, _ = make(classes=None)
    assert rows["class_target"].isna().all() and rows["class_distractor"].isna().all()
