"""K-fold cross-validation: exact where that is known, the refits themselves, and leave-one-out where that holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from deviations import maximum
from scipy import special, stats

import psychostats as ps
from psychostats.compare import PREDICTION_COLUMNS, compare
from psychostats.design import code
from psychostats.errors import InputError
from psychostats.executors import Local
from psychostats.fit import Fit
from psychostats.kfold import Refitted, _refit, _without, assign, kfold
from psychostats.loo import loo
from psychostats.predictor import take_rows
from psychostats.sampler import sample

PEOPLE, EACH = 12, 24


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    """Give 12 people of different skill, 24 trials each."""
    rng = np.random.default_rng(7)
    who = np.repeat(np.arange(PEOPLE), EACH)
    p = special.expit(0.6 + rng.normal(0, 0.7, PEOPLE)[who])
    return pd.DataFrame({"participant": [f"p{i:02d}" for i in who], "correct": rng.binomial(1, p)})


@pytest.fixture(scope="module")
def skilled(people: pd.DataFrame) -> Fit:
    return ps.fit("correct ~ 1 + (1 | participant)", people, draws=1000, tune=500, chains=2, progress=False)


@pytest.fixture(scope="module")
def alike(people: pd.DataFrame) -> Fit:
    return ps.fit("correct ~ 1", people, draws=1000, tune=500, chains=2, progress=False)


# -- Folds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("units", "folds"), [(12, 12), (10, 3), (1000, 10), (2, 2)])
def test_folds_are_random_and_of_one_size(units: int, folds: int) -> None:
    fold = assign(units, folds, seed=4)
    sizes = np.bincount(fold)[1:]
    assert len(sizes) == folds and sizes.max() - sizes.min() <= 1 and sizes.sum() == units
    np.testing.assert_array_equal(fold, assign(units, folds, seed=4))
    if units == 1000:
        assert (fold != assign(units, folds, seed=5)).mean() == pytest.approx(0.9, abs=0.05)
        assert abs(np.corrcoef(fold, np.arange(units))[0, 1]) < 0.1


def test_folds_that_cannot_be_made_are_refused(alike: Fit, skilled: Fit, people: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"^1 folds were asked for; cross-validation needs 2 at least\.$"):
        kfold(skilled, "participant", 1)
    with pytest.raises(InputError, match=r"^13 folds were asked for; there are 12 participants, so 12 at most\.$"):
        kfold(skilled, "participant", 13)
    with pytest.raises(InputError, match=r"there are 288 trials, so 288 at most"):
        kfold(alike, folds=289)
    with pytest.raises(InputError, match="the unit 'item' is no group"):
        kfold(skilled, "item")
    with pytest.raises(InputError, match="seed is -1; it must be at least 0"):
        kfold(skilled, "participant", seed=-1)
    best = maximum("correct ~ 1 + (1 | participant)", people)
    with pytest.raises(InputError, match="a maximum of the likelihood has no draws to predict with"):
        kfold(best, "participant")
    with pytest.raises(InputError, match="folds are for fits that hold draws"):
        compare({"one": best, "two": maximum("correct ~ 1", people)}, folds=5)


# -- Refits ------------------------------------------------------------------------------------------------------------


def test_a_refit_is_a_fit_of_the_rows_that_are_left(people: pd.DataFrame) -> None:
    """The last four people are left out, so that the others keep their places: the draws are the same to the last bit.

    (By PyMC: its levels are padded to 32 either way, and its random numbers do not depend on the data.)
    """
    out = (people["participant"] >= "p08").to_numpy()
    how: dict[str, Any] = {"engine": "pymc", "draws": 1000, "tune": 500, "chains": 2, "progress": False}
    skilled = ps.fit("correct ~ 1 + (1 | participant)", people, **how)
    design = skilled.design
    kept, _ = _refit(Refitted.of(skilled), (take_rows(design, np.flatnonzero(~out)), ~out))
    again = ps.fit("correct ~ 1 + (1 | participant)", people[~out], **how).parameters()
    np.testing.assert_array_equal(kept.b, again.b)
    np.testing.assert_array_equal(kept.covariance[0], again.covariance[0])
    np.testing.assert_array_equal(kept.r[0][:, :8], again.r[0])
    # Leaving out rows is the same as leaving out their trials.
    none = replace(design, successes=np.where(out, 0, design.successes), trials=np.where(out, 0, design.trials))
    drawn = sample(none, skilled.spec.family, skilled.priors, skilled.settings)
    np.testing.assert_array_equal(kept.b, drawn.b.reshape(kept.b.shape))
    # Those left out are drawn from their law.
    new = kept.r[0][:, 8:, 0] / np.sqrt(kept.covariance[0][:, 0])
    assert new.mean() == pytest.approx(0, abs=0.06) and new.std() == pytest.approx(1, abs=0.05)


def test_a_row_of_counts_may_lose_some_of_its_trials() -> None:
    data = pd.DataFrame({"right": [3, 1, 2], "wrong": [1, 1, 0]})
    design = code(ps.parse_formula("cbind(right, wrong) ~ 1"), data).design(data)
    kept, left = _without(design, np.array([0, 0, 2, 2]), np.array([True, False, True, True]))
    assert left.tolist() == [True, True, False]
    assert kept.successes.tolist() == [2, 1] and kept.trials.tolist() == [2, 2]


# -- Known truth -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["trial", "participant"])
def test_without_group_effects_it_is_exact(unit: str, alike: Fit, people: pd.DataFrame) -> None:
    """One parameter: its posterior given any fold is known on a grid, and so is what that predicts."""
    grid = np.linspace(-6, 6, 6001)
    right, wrong, prior = special.log_expit(grid), special.log_expit(-grid), stats.norm.logpdf(grid, 0, 1.5)
    labels = None if unit == "trial" else people["participant"]
    found = kfold(alike, unit, 4, seed=3, labels=labels)
    of_row = found.fold if unit == "trial" else np.repeat(found.fold, EACH)
    correct = people["correct"].to_numpy()

    def density(outcome: np.ndarray, given: np.ndarray) -> float:
        law = prior + given.sum() * right + (1 - given).sum() * wrong
        return float(
            special.logsumexp(law + outcome.sum() * right + (1 - outcome).sum() * wrong) - special.logsumexp(law)
        )

    units = np.arange(len(correct)) if unit == "trial" else np.repeat(np.arange(PEOPLE), EACH)
    exact = [density(correct[units == u], correct[of_row != of_row[units == u][0]]) for u in np.unique(units)]
    np.testing.assert_allclose(found.elpd_i, exact, atol=0.01 if unit == "trial" else 0.1)
    given_all = [density(correct[units == u], correct) for u in np.unique(units)]
    assert found.p_loo == pytest.approx(sum(given_all) - sum(exact), abs=0.3)
    assert found.elpd == pytest.approx(sum(exact), abs=0.3)
    assert np.isnan(found.k).all() and not found.bad.any() and (found.folds, found.seed) == (4, 3)
    assert found.labels == (() if unit == "trial" else tuple(sorted(set(people["participant"]))))


def test_as_many_folds_as_participants_is_leave_one_out(skilled: Fit) -> None:
    one, all_ = loo(skilled, "participant"), kfold(skilled, "participant", PEOPLE)
    assert one.labels == all_.labels and sorted(all_.fold) == list(range(1, PEOPLE + 1))
    good = one.k < 0.5
    assert good.sum() >= 8
    np.testing.assert_allclose(all_.elpd_i[good], one.elpd_i[good], atol=0.12)
    assert all_.elpd == pytest.approx(one.elpd, abs=0.5)
    assert all_.p_loo == pytest.approx(one.p_loo, abs=0.6)


@pytest.mark.parametrize("unit", ["trial", "participant"])
def test_any_number_of_workers_gives_the_same_numbers(unit: str, skilled: Fit) -> None:
    """To the last bit: a refit is a pure function of the fit and the fold's number."""
    one, two = (kfold(skilled, unit, 3, seed=5, executor=Local(workers)) for workers in (1, 2))
    np.testing.assert_array_equal(one.elpd_i, two.elpd_i)
    np.testing.assert_array_equal(one.p_i, two.p_i)
    assert one.failed == two.failed


# -- The table ---------------------------------------------------------------------------------------------------------


def test_every_model_gets_the_same_folds_in_any_order_of_rows(alike: Fit, skilled: Fit, people: pd.DataFrame) -> None:
    mixed = people.sample(frac=1, random_state=2).reset_index(drop=True)
    shuffled = ps.fit("correct ~ 1 + (1 | participant)", mixed, draws=1000, tune=500, chains=2, progress=False)
    table = compare({"alike": alike, "skilled": skilled}, folds=3, seed=9)
    again = compare({"alike": alike, "skilled": shuffled}, folds=3, seed=9)
    assert table.columns.tolist() == list(PREDICTION_COLUMNS) and table["bad_k"].isna().all()
    for name in ("elpd", "elpd_diff"):
        np.testing.assert_allclose(table[name], again[name], atol=0.1)
    # Rows alike in all columns of a model are in no fixed order, but each fold has as many of each.
    other = kfold(shuffled, folds=3, seed=9, position=np.argsort(np.lexsort((mixed["correct"], mixed["participant"]))))
    base = kfold(skilled, folds=3, seed=9, position=np.argsort(np.lexsort((people["correct"], people["participant"]))))
    counts = [
        pd.crosstab([frame["participant"], frame["correct"]], one.fold)
        for frame, one in ((mixed, other), (people, base))
    ]
    pd.testing.assert_frame_equal(*counts)


def test_the_table_says_that_it_was_cross_validated(alike: Fit, skilled: Fit) -> None:
    said = []
    table = compare(
        {"alike": alike, "skilled": skilled},
        unit="participant",
        folds=4,
        seed=2,
        progress=lambda *what: said.append(what),
    )
    assert said == [(name, i, 4) for name in ("alike", "skilled") for i in range(1, 5)]
    question, verdict, how, *rest = table.attrs["notes"]
    assert "another participant," in question and "given those of the other folds, with the participant's" in question
    assert verdict.startswith(("skilled", "alike"))
    assert how.startswith("4-fold cross-validation (seed 2, the same folds for every model): each was fitted 4 times")
    recorded = table.attrs["kfold"]
    assert (recorded["folds"], recorded["seed"], recorded["unit"]) == (4, 2, "participant")
    assert recorded["levels"] == dict(zip(sorted(recorded["levels"]), assign(PEOPLE, 4, 2).tolist(), strict=True))
    assert len(rest) == sum(map(bool, recorded["not_converged"].values()))
    assert table["weight_stacking"].sum() == pytest.approx(1)


def test_the_command_prints_the_folds(quick: Callable[..., Fit], tmp_path, run) -> None:
    quick(out=tmp_path / "wide")
    quick(out=tmp_path / "narrow", priors=["b ~ normal(0, 0.2)"])
    asked = ("compare", tmp_path / "wide", tmp_path / "narrow", "--unit", "observer", "--kfold", "2", "--seed", "5")
    answer = run(*asked, "--json")
    assert answer.code == 3  # 80 draws are too few, in the refits too
    assert "wide: 2 of 2 folds done" in answer.err and "narrow: 1 of 2 folds done" in answer.err
    recorded = answer.data["kfold"]
    assert (recorded["folds"], recorded["seed"], recorded["unit"]) == (2, 5, "observer")
    assert set(recorded["levels"].values()) == {1, 2} and recorded["not_converged"]["wide"] == [1, 2]
    assert answer.data["rows"][0]["bad_k"] is None
    assert any("2 of the 2 refits did not converge (without folds 1, 2)" in note for note in answer.data["notes"])
    text = run(*asked, "--quiet")
    assert "2-fold cross-validation (seed 5" in text.out and "bad_k" not in text.out and "folds done" not in text.err
    alone = run("compare", tmp_path / "wide", tmp_path / "narrow", "--workers", "2")
    assert alone.code == 2 and "--workers and --scheduler are for fitting again; add --kfold." in alone.err
    refused = run("compare", tmp_path / "wide", tmp_path / "narrow", "--unit", "observer", "--kfold", "1")
    assert refused.code == 2 and "needs 2 at least" in refused.err
