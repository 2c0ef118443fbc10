"""Which images stand for a feature: held against brute force and what each recipe promises."""

import numpy as np
import pytest

from featurecompute.choices import Unfit, choose_images, refuse_few
from featurecompute.errors import StudyError
from featurecompute.study import StimuliTable

N = 2000


def table(**changes):
    return StimuliTable(**{"batches": 4, "references_max": 5, "references_min": 3, **changes})


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(1).normal(size=N)


@pytest.fixture(scope="module")
def classes():
    return np.array([f"class{number % 12}" for number in range(N)])


def images(choice):
    return [choice.target, choice.distractor, *choice.references_max, *choice.references_min]


def test_natural_batches_are_the_bins_of_the_order(values):
    choices = choose_images("natural", "f", values, None, table())
    order = np.argsort(-values)
    for place, ranked in (("max", order), ("min", order[::-1])):
        count = len(getattr(choices[0], f"references_{place}"))
        rank = {int(image): number for number, image in enumerate(ranked)}
        for choice in choices:
            references = getattr(choice, f"references_{place}")
            assert sorted(rank[image] // 4 for image in references) == list(range(count))  # one of every bin of four
            query = choice.target if place == "max" else choice.distractor
            assert rank[query] // 4 == count  # just inside
        used = [image for choice in choices for image in getattr(choice, f"references_{place}")]
        assert sorted(used) == sorted(ranked[: 4 * count])


def test_places_in_the_grid_say_nothing_about_strength():
    # The strongest reference of 400 features lies in each of five places about as often.
    first = []
    for feature in range(400):
        values = np.random.default_rng(feature).normal(size=60)
        choice = choose_images("natural", f"f{feature}", values, None, table(batches=1))[0]
        first.append(int(np.argmax(values[choice.references_max])))
    assert np.all(np.abs(np.bincount(first, minlength=5) - 80) < 4 * np.sqrt(80 * 0.8))


@pytest.mark.parametrize("experiment", ["natural", "semantic"])
@pytest.mark.parametrize("batches", [1, 4, 20])
@pytest.mark.parametrize("query", [None, (0.2, 0.4)])
def test_no_image_is_in_two_batches_or_twice_in_one(values, classes, experiment, batches, query):
    # 20 batches of ten images is where a predecessor's batches overlapped.
    asked = table(batches=batches, references_max=10, references_min=4, query=query)
    used = [image for choice in choose_images(experiment, "f", values, classes, asked) for image in images(choice)]
    assert len(used) == batches * 16
    assert len(set(used)) == len(used)


@pytest.mark.parametrize("experiment", ["natural", "semantic"])
def test_the_choice_depends_on_seed_and_feature_alone(values, classes, experiment):
    def chosen(feature, **changes):
        return [images(choice) for choice in choose_images(experiment, feature, values, classes, table(**changes))]

    assert chosen("f") == chosen("f")
    assert chosen("f") != chosen("g")
    assert chosen("f") != chosen("f", seed=2)


def test_queries_lie_in_their_window_and_its_mirror(values):
    order = np.argsort(-values)
    rank = {int(image): number for number, image in enumerate(order)}
    choices = choose_images("natural", "f", values, None, table(query=(0.05, 0.06)))
    for choice in choices:
        assert 100 <= rank[choice.target] < 120
        assert 1880 <= rank[choice.distractor] < 1900
    assert len({choice.target for choice in choices}) == 4


def test_queries_of_the_semantic_control_share_a_class_and_references_are_spread(values, classes):
    values = values + 3 * (classes == "class3") - 3 * (classes == "class5")  # else the ends would be of one class each
    for choice in choose_images("semantic", "f", values, classes, table(references_max=6, references_per_class=2)):
        assert classes[choice.target] == classes[choice.distractor]
        assert values[choice.target] > values[choice.distractor]
        for references in (choice.references_max, choice.references_min):
            assert np.unique(classes[references], return_counts=True)[1].max() <= 2


def test_the_semantic_control_takes_the_strongest_images_that_it_may():
    # Three classes of four images; one image of a class at most, two references: the best image of each of the two best
    # classes, and the queries are the ends of the class that varies most of what is left.
    values = np.array([9, 8, 7, 0, 6, 5, 4, 1, 3.5, 3, 2.5, 2.1])
    classes = np.repeat(["a", "b", "c"], 4)
    asked = table(batches=1, references_max=2, references_min=2, references_per_class=1)
    (choice,) = choose_images("semantic", "f", values, classes, asked)
    assert set(choice.references_max) == {0, 4}
    assert set(choice.references_min) == {3, 7}
    # Left: a 8 and 7, b 5 and 4, c 3.5 to 2.1.
    assert (choice.target, choice.distractor) == (8, 11)


def test_a_category_tells_nothing_where_activation_follows_the_class(classes):
    # An observer who knows each image's class alone, and nothing else, is at chance in the control and perfect without.
    random = np.random.default_rng(2)
    kinds = {name: random.normal() for name in np.unique(classes)}
    values = np.array([kinds[name] for name in classes]) * 10 + random.normal(size=N) * 0.5

    def by_class(choice):
        mean = [kinds[classes[choice.target]], kinds[classes[choice.distractor]]]
        return 0.5 if mean[0] == mean[1] else float(mean[0] > mean[1])

    asked = table(references_per_class=5)
    natural = [by_class(choice) for choice in choose_images("natural", "f", values, classes, asked)]
    control = [by_class(choice) for choice in choose_images("semantic", "f", values, classes, asked)]
    assert natural == [1.0] * 4
    assert control == [0.5] * 4


def test_images_that_tie_are_drawn_from_all_classes():
    # A sparse feature is silent in most images, which are sorted by class: the first of them would all be one class.
    values = np.where(np.arange(N) >= N - 60, np.arange(N), 0.0)
    classes = np.repeat([f"class{number:02}" for number in range(20)], N // 20)
    asked = table(references_min=9)
    silent = [
        image for choice in choose_images("natural", "f", values, classes, asked) for image in choice.references_min
    ]
    assert (values[silent] == 0).all()
    assert len(set(classes[silent])) > 10


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros(N), "feature f never activates"),
        (np.full(N, 2.5), "feature f is equally active in all images"),
        (
            np.where(np.arange(N) < 7, 1.0, 0.0),
            "feature f is above its minimum in 7 images only|within which feature f is more active",
        ),
    ],
)
@pytest.mark.parametrize("experiment", ["natural", "semantic"])
def test_a_feature_that_tells_no_images_apart_is_refused(values, classes, words, experiment):
    with pytest.raises(Unfit, match=words):
        choose_images(experiment, "f", values, classes, table())


@pytest.mark.parametrize(
    ("experiment", "count", "classes", "changes", "words"),
    [
        (
            "natural",
            39,
            None,
            {},
            "needs 40 images for 4 batches of 5 and 3 references and two queries, but there are 39",
        ),
        ("natural", 200, None, {"query": (0.0, 0.1)}, "a window of 20 images of which 0 lie beyond the references"),
        ("natural", 200, None, {"query": (0.4, 0.6)}, r"query is \[0.4, 0.6\]; its second share must be 0.5 at most"),
        ("mixed", 48, None, {}, r"practice_query is \[0.05, 0.1\], a window of 2 images of which 0 .* one is needed"),
        ("semantic", 200, None, {}, "needs every image's class"),
        ("semantic", 200, ["a"] * 200, {}, "of 2 classes or more .at most 3 of one class., but the images have 1;"),
        ("semantic", 200, ["a", "b"] * 100, {"references_max": 9}, "of 3 classes or more"),
    ],
)
def test_too_few_images_or_classes_are_said(experiment, count, classes, changes, words):
    with pytest.raises(StudyError, match=words):
        refuse_few(experiment, count, None if classes is None else np.array(classes), table(**changes))


def test_enough_is_enough():
    refuse_few("natural", 40, None, table(practice_hard=0))
    refuse_few("natural", 60, None, table(query=(0.33, 0.5), batches=3))
    refuse_few("semantic", 40, np.array(["a", "b"] * 20), table())
