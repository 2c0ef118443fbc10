"""The observer in silico against closed forms, planted clusters, and what psychostats makes of its answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import psychostats
from featurecompute import manifest
from featurecompute.errors import ImageError, RunError
from featurecompute.observers import accuracies, observe, summarise, weigh
from featurecompute.spaces import low_level_vectors, pixel_vectors
from psychostats.trials import examine_trials, read_trials

LAYERS = {"early": 0.2, "late": 0.9}


def one(target: str, distractor: str, most: list[str], least: list[str], **other: object) -> dict[str, object]:
    """Return a main stimulus."""
    queries = {"query_target": target, "query_distractor": distractor}
    shown = {"references_max": most, "references_min": least}
    row = {"stimulus": "s", "experiment": "natural", "phase": "main", "catch": False, "feature": "f", "pair": "p"}
    return row | queries | shown | other


def table(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([row | {"stimulus": f"s{number}"} for number, row in enumerate(rows)])


def study(pairs: int = 12, each: int = 6, signal: float = 1.0, seed: int = 0) -> dict[str, object]:
    """Return features of two representations and layers, stimuli of each, vectors, and lists of trials.

    A feature is a direction: its maximal images lie along it by `signal` times the length of the noise, its minimal
    ones against it.
    """
    random = np.random.default_rng(seed)
    features, stimuli, vectors, ids = [], [], [], []
    for pair in range(pairs):
        layer = list(LAYERS)[pair % 2]
        for basis in ("local", "distributed"):
            feature, direction = f"{basis}{pair}", random.normal(size=30)
            features.append({"feature": feature, "representation": basis, "layer": layer, "depth": LAYERS[layer]})
            for number in range(each):
                names = [f"{feature}-{number}-{place}" for place in range(8)]
                signs = np.repeat([1, -1], 4)[:, None]
                vectors.append(signal * signs * direction + random.normal(size=(8, 30)))
                ids += names
                more = {"feature": feature, "pair": f"pair{pair}", "stimulus": f"{feature}-{number}"}
                stimuli.append(one(names[0], names[4], names[1:4], names[5:], **more))
                if number == 0:
                    catch = {**more, "stimulus": f"{feature}-catch", "catch": True}
                    stimuli.append(one(names[1], names[5], names[1:4], names[5:], **catch))
    practice = {"phase": "practice", "feature": None, "pair": None, "stimulus": "practice"}
    stimuli.append(one(ids[0], ids[4], ids[1:4], ids[5:8], **practice))
    frame = pd.DataFrame(stimuli).reindex(columns=list(manifest.STIMULI.columns)).assign(version="v")
    described = pd.DataFrame(features).reindex(columns=list(manifest.FEATURES.columns))
    return {"features": described, "stimuli": frame, "vectors": {"planted": np.concatenate(vectors)}, "ids": ids}


def lists(made: dict, participants: int, main: int, seed: int = 3) -> pd.DataFrame:
    """Return lists of trials: a practice trial, a catch trial, and main ones drawn from all stimuli."""
    random = np.random.default_rng(seed)
    stimuli = made["stimuli"].merge(made["features"].drop(columns="sd"), on="feature", how="left")
    is_main = (stimuli["phase"] == "main") & ~stimuli["catch"].astype(bool)
    parts = []
    for person in range(participants):
        rows = np.concatenate(
            [
                np.flatnonzero(stimuli["phase"] == "practice"),
                random.choice(np.flatnonzero(stimuli["catch"].astype(bool)), 1),
                random.choice(np.flatnonzero(is_main), main, replace=False),
            ]
        )
        sides = random.choice(["left", "right"], len(rows))
        part = stimuli.iloc[rows].assign(participant=f"natural-{person + 1:03d}", target_side=sides)
        parts.append(part.assign(trial=np.arange(1, len(rows) + 1)))
    return pd.concat(parts, ignore_index=True)[list(manifest.TRIAL_LISTS.columns)]


def answer(made: dict, trials: pd.DataFrame, **other) -> pd.DataFrame:
    settings = {"space": "planted", "noise": 1.0, "seed": 5} | other
    return observe(trials, made["stimuli"], made["vectors"], made["ids"], **settings)


# The decision


def test_evidence_by_hand() -> None:
    """Cosines after the mean is taken off, averaged over the references of each end."""
    vectors = np.random.default_rng(1).normal(3, 1, (7, 4))
    ids = list("abcdefg")
    stimuli = table(one("a", "b", ["c", "d", "e"], ["f", "g"]), one("a", "b", ["c"], []), one("a", "b", [], ["f"]))
    centred = vectors - vectors.mean(0)

    def cosine(x: str, y: str) -> float:
        u, v = centred[ids.index(x)], centred[ids.index(y)]
        return float(u @ v / np.sqrt(u @ u) / np.sqrt(v @ v))

    def evidence(query: str, most: str, least: str) -> float:
        ends = [np.mean([cosine(query, reference) for reference in end]) if end else 0 for end in (most, least)]
        return float(ends[0] - ends[1])

    wanted = [evidence("a", *ends) - evidence("b", *ends) for ends in (("cde", "fg"), ("c", ""), ("", "f"))]
    found = weigh(stimuli, {"x": vectors}, ids, space="x", noise=0.5)
    np.testing.assert_allclose(found.d, wanted)
    np.testing.assert_allclose(found.sd, 0.5 * np.std(wanted))
    np.testing.assert_allclose(found.probability, stats.norm.cdf(wanted, scale=0.5 * np.std(wanted)))


def test_what_does_not_matter() -> None:
    """The order of references and of images, a shared shift and scale, and references shown twice as often each."""
    made = study()
    base = weigh(made["stimuli"], made["vectors"], made["ids"], space="planted", noise=1)
    random = np.random.default_rng(2)
    shuffled = made["stimuli"].copy()
    for column in ("references_max", "references_min"):
        shuffled[column] = [list(random.permutation(names)) * 2 for names in shuffled[column]]
    order = random.permutation(len(made["ids"]))
    moved = {"planted": 7 + 3 * made["vectors"]["planted"][order]}
    again = weigh(shuffled, moved, [made["ids"][place] for place in order], space="planted", noise=1)
    np.testing.assert_allclose(again.d, base.d, atol=1e-12)
    np.testing.assert_allclose(again.terciles, base.terciles)


def test_swapped_queries_and_swapped_ends_turn_the_evidence_around() -> None:
    made = study()
    base = weigh(made["stimuli"], made["vectors"], made["ids"], space="planted", noise=1)
    for pair in (("query_target", "query_distractor"), ("references_max", "references_min")):
        swapped = made["stimuli"].rename(columns={pair[0]: pair[1], pair[1]: pair[0]})
        found = weigh(swapped, made["vectors"], made["ids"], space="planted", noise=1)
        np.testing.assert_allclose(found.d, -base.d, atol=1e-12)
        np.testing.assert_allclose(found.probability, 1 - base.probability, atol=1e-12)


def test_pixel_observer_is_perfect_where_targets_equal_a_reference() -> None:
    """Images of two colours with noise: the target is one of the references, the distractor of the other colour."""
    random = np.random.default_rng(4)
    pixels = random.integers(0, 120, (40, 24, 24, 3), dtype=np.uint8)
    pixels[::2, ..., 0] += 130
    pixels[1::2, ..., 2] += 130
    ids = [f"i{number}" for number in range(40)]
    stimuli = table(*(one(ids[n], ids[n + 1], ids[n : n + 6 : 2], ids[n + 1 : n + 7 : 2]) for n in range(0, 34, 2)))
    vectors = {"pixel": pixel_vectors(pixels), "low_level": low_level_vectors(pixels)}
    for space in vectors:
        found = weigh(stimuli, vectors, ids, space=space, noise=0)
        assert (found.d > 0.5).all() and (found.probability == 1).all()


def test_exchangeable_images_are_answered_by_chance() -> None:
    """Over many random stimuli each answer is a fair coin: the mean within 4 standard errors of one half."""
    random = np.random.default_rng(6)
    vectors = {"pixel": pixel_vectors(random.integers(0, 256, (600, 16, 16, 3), dtype=np.uint8))}
    ids = [str(number) for number in range(600)]
    drawn = [random.choice(ids, 12, replace=False).tolist() for _ in range(2500)]
    stimuli = table(*(one(names[0], names[1], names[2:7], names[7:]) for names in drawn))
    found = weigh(stimuli, vectors, ids, space="pixel", noise=0)
    assert abs((found.d > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(2500)
    assert abs(found.d.mean()) < 4 * found.d.std() / np.sqrt(2500)


def test_a_tie_is_a_fair_coin() -> None:
    """Target and distractor alike, or both ends alike: no evidence, whatever rounding leaves of it."""
    random = np.random.default_rng(7)
    vectors = random.normal(size=(8, 300))
    vectors[1] = vectors[0]
    vectors[6:8] = vectors[4:6]
    ids = [str(number) for number in range(8)]
    stimuli = table(
        one("0", "1", ["2", "3"], ["4"]), one("0", "2", ["4", "5", "3"], ["7", "3", "6"]), one("2", "3", ["2"], ["3"])
    )
    found = weigh(stimuli, {"x": vectors}, ids, space="x", noise=0)
    assert found.d[:2].tolist() == [0, 0] and found.probability.tolist() == [0.5, 0.5, 1]
    trials = pd.DataFrame({"participant": "p", "experiment": "natural", "trial": np.arange(1, 801), "stimulus": "s1"})
    trials = trials.assign(target_side="left", phase="main", catch=False)
    trials = trials.reindex(columns=list(manifest.TRIAL_LISTS.columns))
    correct = observe(trials, stimuli, {"x": vectors}, ids, space="x", noise=0, seed=1)["correct"]
    assert abs(correct.mean() - 0.5) < 4 * 0.5 / np.sqrt(800)


def test_an_image_at_the_mean_is_like_no_other() -> None:
    """It has no direction, so it is no evidence; nor is what a dimension without spread rounds to."""
    vectors = np.random.default_rng(3).normal(size=(10, 5))
    vectors[9] = vectors[:9].mean(0)
    vectors[:, 0] = 0.1
    ids = list("abcdefghij")
    assert vectors.mean(0)[0] != 0.1 and (vectors.mean(0) != vectors[9]).any()
    found = weigh(table(one("a", "b", ["j"], []), one("a", "j", ["a"], [])), {"x": vectors}, ids, space="x", noise=0)
    np.testing.assert_allclose(found.d, [0, 1])


def things(*present: str) -> dict[str, np.ndarray]:
    """Return vectors of images by which of the elements a to d each has."""
    return {"elements": np.array([[float(element in image) for element in "abcd"] for image in present])}


def test_one_who_looks_for_one_thing_by_hand() -> None:
    """The element that the ends differ most in decides alone; where several differ so, their mean; or nothing."""
    shown = things("a", "ab", "b", "cd", "bd", "d", "")
    ids = list("0123456")
    stimuli = table(
        one("0", "2", ["0", "1"], ["3", "5"]),  # a is in both and in neither, b in one: only a counts
        one("2", "0", ["0", "1"], ["3", "5"]),
        one("2", "5", ["0", "1"], ["3", "5"]),  # neither query has it
        one("0", "2", ["0", "1", "1"], ["0", "2", "5"]),  # a: 3/3 - 1/3; b: 2/3 - 1/3
        one("1", "0", ["1"], ["6"]),  # a and b alike: both queries have a, the target b
        one("0", "5", ["6"], ["3"]),  # nothing is commoner where it should be
        one("0", "2", ["1", "6"], ["2", "6"]),
    )
    found = weigh(stimuli, shown, ids, space="elements", noise=0)
    np.testing.assert_allclose(found.d, [1, -1, 0, 2 / 3, 1 / 2, 0, 1 / 2])
    assert found.probability.tolist() == [1, 0, 0.5, 1, 1, 0.5, 1]


def test_an_image_of_unknown_elements_speaks_for_none() -> None:
    """Among references it only weakens what the others say; as a query it lies between having it and not."""
    shown = things("a", "a", "b", "b", "")
    shown["elements"][4] = shown["elements"][:4].mean(0)
    stimuli = table(
        one("0", "2", ["1", "4"], ["3"]),
        one("0", "4", ["1"], ["3"]),
        one("4", "2", ["1"], ["3"]),
        one("0", "2", ["4"], []),
    )
    found = weigh(stimuli, shown, list("01234"), space="elements", noise=0)
    np.testing.assert_allclose(found.d, [0.75, 0.5, 0.5, 0])


def test_looking_for_one_thing_favours_features_of_one_thing() -> None:
    """Features of one element and of three that any may drive: told apart by one who looks for one, not by others.

    Of three, a third of the references has each, and a target often another than that which the observer settles on.
    """
    random = np.random.default_rng(11)
    presence, stimuli = [], []
    for number in range(400):
        chosen = random.choice(24, 1 if number % 2 else 3, replace=False)
        others = np.setdiff1d(np.arange(24), chosen)
        for place in range(12):
            has = np.zeros(24)
            has[random.choice(others, 3, replace=False)] = 1
            if place < 6:
                has[random.choice(chosen)] = 1
            presence.append(has)
        names = [f"{number}-{place}" for place in range(12)]
        stimuli.append(one(names[0], names[6], names[1:6], names[7:], feature="one" if number % 2 else "three"))
    ids = [f"{number}-{place}" for number in range(400) for place in range(12)]
    vectors = {"elements": np.array(presence), "whole": np.array(presence)}
    frame = table(*stimuli)
    right = {space: weigh(frame, vectors, ids, space=space, noise=0).d > 0 for space in vectors}
    mean = {space: pd.Series(found).groupby(frame["feature"]).mean() for space, found in right.items()}
    assert mean["elements"]["one"] > 0.95 and mean["elements"]["three"] < 0.7
    assert mean["whole"]["one"] - mean["whole"]["three"] < (mean["elements"]["one"] - mean["elements"]["three"]) / 2


# Noise and answers


def test_noise_has_its_scale_from_the_experiments_main_stimuli() -> None:
    made = study()
    stimuli = made["stimuli"]
    stimuli["experiment"] = np.where(np.arange(len(stimuli)) % 3 == 0, "mixed", "natural")
    stimuli.loc[stimuli["phase"] == "practice", "experiment"] = "natural"
    found = weigh(stimuli, made["vectors"], made["ids"], space="planted", noise=0.7)
    main = ((stimuli["phase"] == "main") & ~stimuli["catch"].astype(bool)).to_numpy()
    for experiment in ("natural", "mixed"):
        here = (stimuli["experiment"] == experiment).to_numpy()
        np.testing.assert_allclose(found.sd[here], 0.7 * found.d[here & main].std())


def test_answers_are_as_frequent_as_their_probabilities() -> None:
    """Every stimulus within a binomial band that all of 145 pass with probability 0.999; and the planted direction."""
    made = study(signal=0.4)
    wanted = weigh(made["stimuli"], made["vectors"], made["ids"], space="planted", noise=1.5).probability
    number, stimuli = 300, made["stimuli"]
    trials = lists(made, 1, 2).iloc[[0]].drop(columns="stimulus")
    trials = trials.merge(pd.DataFrame({"stimulus": np.repeat(stimuli["stimulus"], number)}), how="cross")
    trials["trial"] = np.arange(1, len(trials) + 1)
    correct = answer(made, trials, noise=1.5)["correct"].to_numpy().reshape(-1, number).sum(1)
    level = 0.001 / len(stimuli) / 2
    assert (correct >= stats.binom.ppf(level, number, wanted)).all()
    assert (correct <= stats.binom.ppf(1 - level, number, wanted)).all()
    assert wanted.std() > 0.1


def test_without_noise_the_better_query_is_always_taken() -> None:
    made = study(signal=0.3)
    trials = lists(made, 10, 15)
    d = weigh(made["stimuli"], made["vectors"], made["ids"], space="planted", noise=0).d
    d = pd.Series(d, index=made["stimuli"]["stimulus"])[trials["stimulus"]].to_numpy()
    for seed in (1, 2):
        found = answer(made, trials, noise=0, seed=seed)
        assert found["correct"].tolist() == (d > 0).astype(int).tolist()
    assert 0 < found["correct"].mean() < 1


def test_a_trial_does_not_depend_on_what_else_is_asked() -> None:
    """Fewer trials, in another order, give the same answers; another seed, space or person other ones."""
    made = study(signal=0.2)
    trials = lists(made, 20, 20)
    whole = answer(made, trials, noise=3.0)
    some = trials.sample(150, random_state=1)
    pd.testing.assert_frame_equal(answer(made, some, noise=3.0), whole.loc[some.index].reset_index(drop=True))
    made["vectors"]["other"] = made["vectors"]["planted"]
    renamed = trials.assign(participant="x" + trials["participant"])
    for other in (
        answer(made, trials, noise=3.0, seed=6),
        answer(made, trials, noise=3.0, space="other"),
        answer(made, renamed, noise=3.0),
    ):
        assert 0.2 < (other["correct"] != whole["correct"]).mean() < 0.5


def test_swapped_sides_leave_correct_unchanged() -> None:
    made = study()
    trials = lists(made, 5, 20)
    sides = {"left": "right", "right": "left"}
    base, swapped = answer(made, trials), answer(made, trials.replace({"target_side": sides}))
    assert swapped["correct"].equals(base["correct"])
    assert swapped["response"].equals(base["response"].map(sides))
    assert ((base["response"] == trials["target_side"]) == (base["correct"] == 1)).all()


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_confidence_goes_by_terciles_and_with_accuracy(noise: float) -> None:
    """Each of three levels is as frequent over main stimuli, and a surer answer is more often right."""
    made = study(signal=0.5)
    trials = lists(made, 60, 144)
    found = answer(made, trials, noise=noise)
    main = found[(found["phase"] == "main") & ~found["catch"].astype(bool)]
    np.testing.assert_allclose(main["confidence"].value_counts(normalize=True).sort_index(), 1 / 3, atol=0.02)
    assert main.groupby("confidence")["correct"].mean().is_monotonic_increasing


# Tables


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_psychostats_reads_the_answers(tmp_path, suffix: str) -> None:
    """No error and no warning in either form, practice without a feature included; nobody is taken for a person."""
    made = study(signal=0.3)
    found = answer(made, lists(made, 8, 30), noise=1.5)
    path = tmp_path / f"trials{suffix}"
    found.to_csv(path, index=False) if suffix == ".csv" else found.to_parquet(path, index=False)
    needed = ("participant", "representation", "depth", "pair", "stimulus", "correct", "confidence")
    read = examine_trials(path, needed=needed, assignment="within")
    assert read.faults == ()
    frame = read.frame
    assert frame["correct"].tolist() == found["correct"].tolist()
    assert frame["participant"].astype(str).iloc[0] == "planted-natural-001"
    assert frame["simulated"].astype(str).str.lower().isin(["1", "true"]).all() and set(frame["observer"]) == {
        "planted"
    }
    assert frame.loc[frame["phase"] == "practice", "pair"].isna().all()


def test_psychostats_recovers_what_was_planted(tmp_path) -> None:
    """Where directions have the stronger signal, the fitted effect is that of the observer's own probabilities."""
    made, weak = study(40, signal=0.9, seed=8), study(40, signal=0.25, seed=8)
    local = np.array([name.startswith("local") for name in made["ids"]])[:, None]
    made["vectors"] = {"planted": np.where(local, weak["vectors"]["planted"], made["vectors"]["planted"])}
    answer(made, lists(made, 40, 60), noise=0.7).to_csv(tmp_path / "trials.csv", index=False)
    trials = read_trials(tmp_path / "trials.csv", needed=("participant", "representation", "correct"))
    main = trials[(trials["phase"] == "main") & ~trials["catch"]]
    fit = psychostats.fit("correct ~ representation", main, family="bernoulli", engine="laplace")
    summary = fit.terms().set_index("term")
    guess = summarise(accuracies(**made, noise=0.7)).groupby("representation")["probability"].mean()
    assert guess["distributed"] > guess["local"] + 0.1
    effect = summary.loc["b_representationdistributed"]
    wanted = stats.logistic.ppf(guess["distributed"]) - stats.logistic.ppf(guess["local"])
    assert abs(effect["estimate"] - wanted) < 3 * effect["sd"]


def test_accuracies_say_which_feature_each_stimulus_is_of() -> None:
    made = study()
    made["vectors"]["noise"] = np.random.default_rng(9).normal(size=made["vectors"]["planted"].shape)
    found = accuracies(**made, noise=1.0)
    assert found.groupby("observer", sort=False).size().to_dict() == {
        space: len(made["stimuli"]) for space in ("planted", "noise")
    }
    row = found.set_index(["observer", "stimulus"]).loc[("planted", "distributed1-0")]
    assert (row["representation"], row["layer"], row["depth"], row["pair"]) == ("distributed", "late", 0.9, "pair1")
    assert row["probability"] == pytest.approx(stats.norm.cdf(row["d"] / row["noise_sd"]))
    summary = summarise(found)
    assert summary["n"].sum() == 2 * 12 * 2 * 6 and len(summary) == 2 * 1 * 2 * 2  # neither practice nor catch
    here = found.query("observer == 'planted' and layer == 'early' and representation == 'local' and not catch")
    one_row = summary.query("observer == 'planted' and layer == 'early' and representation == 'local'").iloc[0]
    assert one_row["probability"] == pytest.approx(here["probability"].mean()) and one_row["depth"] == 0.2
    assert one_row["sd"] == pytest.approx(here["probability"].std(ddof=0))
    means = summary.groupby("observer")["probability"].mean()
    assert means["planted"] > 0.75 and abs(means["noise"] - 0.5) < 0.1


# Faults


def test_faults_are_one_sentence() -> None:
    vectors, ids = {"pixel": np.random.default_rng(1).normal(size=(4, 3))}, list("abcd")
    good = table(one("a", "b", ["c"], ["d"]))

    def said(error: type[Exception], words: str, stimuli=good, given=vectors, names=ids, space="pixel") -> None:
        with pytest.raises(error, match=words):
            weigh(stimuli, given, names, space=space, noise=1)

    said(ImageError, "stimulus 's0' shows image 'z', which has no vector", table(one("z", "b", ["c"], ["d"])))
    said(ImageError, "stimulus 's1' shows image 'y'", pd.concat([good, table(*[one("a", "b", ["c"], ["y"])] * 2)[1:]]))
    said(RunError, "stimulus 's0' has no references", table(one("a", "b", [], [])))
    said(RunError, "experiment 'natural' has no main stimulus", table(one("a", "b", ["c"], [], catch=True)))
    named = [*ids, *"efghij"]
    said(ImageError, "same vector in space 'pixel'", given={"pixel": np.full((10, 3), 0.1)}, names=named)
    said(ImageError, r"shape \(4, 3\) for 3 images", names=list("abc"))
    said(ImageError, "image 'a' has more than one vector", names=list("abca"))
    said(ImageError, "no vectors of space 'sound'; there are those of pixel", space="sound")
    bad = vectors["pixel"].copy()
    bad[2, 1] = np.nan
    said(ImageError, "image 'c' has a vector in space 'pixel' that is not finite", given={"pixel": bad})


def test_a_trial_of_an_unknown_stimulus_is_named() -> None:
    made = study(2)
    trials = lists(made, 2, 5)
    trials.loc[4, "stimulus"] = "gone"
    with pytest.raises(RunError, match=r"trial 5 of participant 'natural-001' shows stimulus 'gone', which is not"):
        answer(made, trials)


def test_no_trials_no_answers() -> None:
    """An empty list keeps its columns."""
    made = study(2)
    trials = lists(made, 1, 2)
    assert list(answer(made, trials.iloc[:0])) == list(answer(made, trials))
