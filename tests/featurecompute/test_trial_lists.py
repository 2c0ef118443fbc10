"""Who sees what: every promise of balance, for several sizes of study, and independence of what should not matter."""

import itertools

import numpy as np
import pandas as pd
import pytest

from featurecompute.errors import StudyError
from featurecompute.study import Design
from featurecompute.trial_lists import _halve, make_lists, measure_balance


def study(pairs=48, batches=3, layers=6, catch=12, shared=0, experiments=("natural",)):
    """Return stimuli and features; the first `shared` pairs have one direction."""
    rows, features = [], {}
    for experiment, pair, representation in itertools.product(experiments, range(pairs), ("local", "distributed")):
        feature = f"{representation}{0 if representation == 'distributed' and pair < shared else pair}"
        layer = 0 if pair < shared else pair % layers
        features[feature] = (feature, representation, f"layer{layer}", layer / (layers - 1))
        for batch in range(batches):
            rows.append(
                (f"{experiment}/{pair}/{representation}/{batch}", feature, f"p{pair}", experiment, "main", batch)
            )
    stimuli = pd.DataFrame(rows, columns=["stimulus", "feature", "pair", "experiment", "phase", "batch"])
    stimuli = stimuli.assign(catch=False)
    watch = stimuli[stimuli["batch"] == 0].groupby("experiment").head(2 * catch).iloc[::2]
    watch = watch.assign(catch=True, stimulus=watch["stimulus"] + "/catch")
    practice = pd.DataFrame(
        [
            {"stimulus": f"{e}/practice/{i}", "experiment": e, "phase": "practice", "catch": False}
            for e in experiments
            for i in range(5)
        ]
    )
    every = pd.concat([stimuli, watch, practice], ignore_index=True).assign(version="v")
    names = ["feature", "representation", "layer", "depth"]
    return every, pd.DataFrame(list(features.values()), columns=names)


def lists(people=187, main=27, assignment="within", seed=1, **about):
    stimuli, features = study(**about)
    experiments = about.get("experiments", ("natural",))
    design = Design(participants=dict.fromkeys(experiments, people), main=main, assignment=assignment)
    return make_lists(stimuli, features, design, seed)


SIZES = [
    {},
    {"pairs": 80, "people": 187},
    {"pairs": 30, "people": 40},
    {"pairs": 27, "people": 187},
    {"pairs": 48, "people": 3},
    {"assignment": "between"},
    {"assignment": "between", "pairs": 30, "people": 41},
    {"shared": 5},
]
every_size = pytest.mark.parametrize("size", SIZES, ids=str)


@every_size
def test_all_is_balanced(size):
    made = lists(**size)
    people, main = size.get("people", 187), made[(made["phase"] == "main") & ~made["catch"]]
    assert made["participant"].nunique() == people
    by_person = main.groupby("participant")
    assert (by_person.size() == 27).all()
    assert (by_person["pair"].nunique() == 27).all()  # each pair once
    left = by_person["target_side"].agg(lambda sides: (sides == "left").sum())
    assert set(left) <= {13, 14}
    sides = main.groupby(["participant", "representation"])["target_side"]
    assert sides.agg(lambda found: abs((found == "left").sum() - (found == "right").sum())).max() <= 1
    local = by_person["representation"].agg(lambda kinds: (kinds == "local").sum())
    assert set(local) == ({0, 27} if size.get("assignment") == "between" else {13, 14})
    shown = main.groupby(["pair", "representation"]).size()
    shown = shown.reindex(
        pd.MultiIndex.from_product([sorted(set(main["pair"])), ["local", "distributed"]]), fill_value=0
    )
    assert shown.max() - shown.min() <= (1 if people % 2 == 0 or size.get("assignment") == "between" else 2)
    pairs = main.groupby("pair").size()
    assert pairs.max() - pairs.min() <= 2
    sides = main.groupby(["pair", "feature"])["target_side"].agg(lambda s: (s == "left").sum() - (s == "right").sum())
    assert sides.abs().max() <= 1
    batches = main.groupby("stimulus").size()
    assert batches.max() - batches.min() <= 2
    catch = made[made["catch"]]
    assert (catch.groupby("participant").size() == 3).all()
    assert catch.groupby("stimulus").size().agg(np.ptp) <= 3
    practice = made[made["phase"] == "practice"]
    assert (practice.groupby("participant")["trial"].agg(list).map(tuple) == (1, 2, 3, 4, 5)).all()
    assert (made.groupby("participant")["trial"].agg(list).map(lambda trials: trials == list(range(1, 36)))).all()
    assert list(practice["stimulus"].iloc[:5]) == [f"natural/practice/{number}" for number in range(5)]


def test_each_feature_is_seen_all_over_the_session():
    # Under chance the mean place of 52 showings has an SD of 0.04, and of 96 the farthest is 0.11 from the middle.
    made = lists()
    found = measure_balance(made).set_index("quantity")
    low, high = found.loc["mean place in the session, of a feature of a pair", ["least", "most"]]
    assert 0.42 < low < high < 0.58
    low, high = found.loc["mean place in the session, of a representation", ["least", "most"]]
    assert 0.49 < low < high < 0.51


def test_each_person_sees_all_depths():
    main = lists().query("phase == 'main' and not catch")
    by = main.groupby(["participant", "layer"]).size()
    assert len(by) == 187 * 6 and by.min() >= 3 and by.max() <= 7  # 27 trials over six layers
    local = main[main["representation"] == "local"].groupby("participant")["depth"].mean()
    other = main[main["representation"] == "distributed"].groupby("participant")["depth"].mean()
    assert (local - other).abs().max() < 0.2


def test_a_person_never_sees_the_same_images_of_a_shared_direction_twice():
    main = lists(shared=3).query("phase == 'main' and not catch")
    main = main.assign(batch=main["stimulus"].str[-1])
    twice = main[main.duplicated(["participant", "feature"], keep=False)]
    assert len(twice) > 20
    assert not twice.duplicated(["participant", "feature", "batch"]).any()


def test_catch_trials_are_of_pairs_not_seen_elsewhere_and_lie_apart():
    made = lists()
    seen = made[(made["phase"] == "main") & ~made["catch"]].groupby("participant")["pair"].agg(set)
    catch = made[made["catch"]]
    again = [pair in seen[person] for person, pair in zip(catch["participant"], catch["pair"], strict=True)]
    # Of twelve catch pairs about five are not among the 27 of 48; few people have fewer than three such.
    assert np.mean(again) < 0.05
    thirds = catch.groupby("participant")["trial"].agg(lambda trials: [(t - 6) * 3 // 30 for t in sorted(trials)])
    assert thirds.map(lambda three: len(set(three)) > 1).all()
    assert (thirds.map(tuple) == (0, 1, 2)).mean() > 0.55  # drawn freely, 0.22


def test_catch_trials_do_not_show_the_images_of_a_direction_that_another_pair_has_shown():
    stimuli, features = study(shared=4)
    first = stimuli[(stimuli["batch"] == 0) & ~stimuli["catch"]].reset_index(drop=True)
    watch = first[first["stimulus"].str.contains("distributed")].head(12)
    watch = watch.assign(catch=True, stimulus=watch["stimulus"] + "/catch")
    made = make_lists(
        pd.concat([stimuli[~stimuli["catch"]], watch]), features, Design(participants={"natural": 187}), 1
    )
    made = made.join(stimuli.drop_duplicates("stimulus").set_index("stimulus")["batch"], on="stimulus")
    main = made[(made["phase"] == "main") & ~made["catch"]]
    seen = set(zip(main["participant"], main["feature"], main["batch"], strict=True))
    catch = made[made["catch"]]
    again = [
        (person, feature, 0) in seen for person, feature in zip(catch["participant"], catch["feature"], strict=True)
    ]
    assert (catch["feature"] == "distributed0").sum() > 50
    assert np.mean(again) < 0.02  # by pairs alone about a tenth
    assert np.ptp(catch["stimulus"].value_counts()) <= 4


def test_lists_depend_on_the_seed_and_not_on_other_experiments_or_rows():
    one = lists(people=10)
    assert one.equals(lists(people=10))
    assert not one.equals(lists(people=10, seed=2))
    both = lists(people=10, experiments=("natural", "mixed"))
    mine = both[both["experiment"] == "natural"].reset_index(drop=True)
    assert mine.equals(one)


def test_an_experiment_without_participants_or_stimuli_has_no_lists():
    stimuli, features = study()
    made = make_lists(stimuli, features, Design(participants={"natural": 0, "other": 9}), 1)
    assert made.empty and measure_balance(made).empty


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"main": 49}, r"\[design\] main is 49, but experiment 'natural' has 48 pairs, .* \[features\] neurons\."),
        (
            {"catch": 13},
            r"\[design\] catch is 13, but experiment 'natural' has 12 catch stimuli; raise ",
        ),
        ({"practice": 6}, r"\[design\] practice is 6, but experiment 'natural' has 5 practice stimuli"),
    ],
)
def test_a_design_that_asks_for_too_much_is_refused(changes, words):
    stimuli, features = study()
    with pytest.raises(StudyError, match=words):
        make_lists(stimuli, features, Design(participants={"natural": 4}, **changes), 1)


def test_half_the_edges_of_any_bipartite_graph_at_every_node():
    random = np.random.default_rng(3)
    for _ in range(200):
        edges = int(random.integers(0, 60))
        one, other = random.integers(0, 7, edges), random.integers(0, 9, edges)  # with edges twice, and odd degrees
        left = _halve(one, other, random)
        for ends in (one, other):
            for node in np.unique(ends):
                assert abs(int(left[ends == node].sum()) - int((~left[ends == node]).sum())) <= 1


def test_the_table_of_balance_is_what_one_counts_by_hand():
    made = pd.DataFrame(
        {
            "participant": ["a", "a", "a", "b", "b", "b"],
            "experiment": "natural",
            "trial": [1, 2, 3, 1, 2, 3],
            "phase": ["practice", "main", "main"] * 2,
            "catch": False,
            "representation": [None, "local", "distributed", None, "distributed", "local"],
            "layer": "l",
            "depth": [np.nan, 0.0, 1.0, np.nan, 0.0, 1.0],
            "feature": [None, "f", "g", None, "g", "f"],
            "pair": [None, "p", "q", None, "p", "q"],
            "stimulus": ["x", "s1/0", "s2/0", "x", "s3/0", "s4/0"],
            "version": "v",
            "target_side": ["left", "left", "left", "left", "right", "left"],
        }
    )
    found = measure_balance(made).set_index("quantity")[["groups", "least", "mean", "most"]].T.to_dict("list")
    assert found["main trials of a participant"] == [2, 2, 2, 2]
    assert found["target left, of a participant in a representation"] == [4, 0, 0.75, 1]
    assert found["image sets seen again by a participant"] == [2, 0, 0, 0]
    assert found["showings of a pair"] == [2, 2, 2, 2]
    assert found["showings of a feature of a pair"] == [4, 1, 1, 1]
    assert found["mean depth of a participant"] == [2, 0.5, 0.5, 0.5]
    assert found["mean place in the session, of a representation"] == [2, 0.5, 0.5, 0.5]
    assert found["mean place in the session, of a feature of a pair"] == [4, 0.25, 0.5, 0.75]
    assert "catch trials of a participant" not in found


def test_a_direction_shared_by_more_pairs_than_batches_is_counted():
    # Six pairs with one direction and three batches: a person with four of them as directions sees one set again.
    made = lists(shared=6)
    main = made[(made["phase"] == "main") & ~made["catch"]]
    sets = main["participant"] + main["feature"] + main["stimulus"].str[-1]
    found = measure_balance(made).set_index("quantity").loc["image sets seen again by a participant"]
    assert found["mean"] * found["groups"] == pytest.approx(sets.duplicated().sum())


def test_fewer_practice_trials_are_the_last_which_are_the_hardest():
    stimuli, features = study()
    made = make_lists(stimuli, features, Design(participants={"natural": 2}, practice=2), 1)
    practice = made[made["phase"] == "practice"]
    assert list(practice["stimulus"]) == ["natural/practice/3", "natural/practice/4"] * 2
