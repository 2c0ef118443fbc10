"""The posterior is right: ranks of true values among its draws are uniform, in stored replications and in fresh ones.

`tests/calibration/calibrate.py` made what is stored. Bands hold each uniform quantity with the chance that all of them
together leave one of a thousand times.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from calibrate import DRAWS, MODELS, SEED, Ready, read_ranks, replicate
from common import HERE, band, below, chance_inside, collect, deviations, limits, share

from psychostats.executors import Local

pytestmark = pytest.mark.once

CHANCE = 0.001
LEVELS = DRAWS + 1
SOUND = [name for name, model in MODELS.items() if not model.fault]
STORED = {name: read_ranks(name) for name in MODELS}
#: All quantities of all models, over which the chance is shared out (Bonferroni).
QUANTITIES = sum(STORED[name].shape[1] for name in SOUND)
#: Fresh replications, with the engine as it is now; the fast one makes more in less time.
FRESH, FRESH_SEED = {"afc_lapse": 20, "slopes": 20, "nuts_crossed": 60, "nuts_gaussian": 60}, 20_000


def uniform_ranks(rng, n, sd=1.0, prior_sd=1.0):
    """Give ranks of a normal mean whose posterior is known, among draws of an SD, or a truth from a prior, that err."""
    truth = rng.normal(0.0, prior_sd, n)
    seen = truth + rng.normal(size=n)
    draws = seen[:, np.newaxis] / 2.0 + sd * np.sqrt(0.5) * rng.normal(size=(n, DRAWS))
    return pd.DataFrame({"mean": (draws < truth[:, np.newaxis]).sum(axis=1)})


def test_the_band_holds_uniform_ranks_as_often_as_it_says():
    """Against simulation: the ECDF of 50,000 sets of ranks; and where one count is possible, in closed form."""
    low, high = band(40, 20, 0.05)
    ranks = np.random.default_rng(1).integers(0, 20, (50_000, 40))
    counts = (ranks[:, :, np.newaxis] < np.arange(1, 20)).sum(axis=1)
    left = ((counts < low) | (counts > high)).any(axis=1).mean()
    exact = 1.0 - chance_inside(low, high, 40)
    assert 0.03 < exact <= 0.05  # counts are whole numbers, so it is seldom met exactly
    assert left == pytest.approx(exact, abs=4 * (0.05 * 0.95 / 50_000) ** 0.5)
    assert chance_inside(np.array([3]), np.array([3]), 6) == pytest.approx(20 / 64)
    assert (below([0, 0, 3], 4) == [2, 2, 2]).all()
    assert (limits(10, 2, 1.0)[0] == 5).all()


def test_the_band_of_a_stored_model_catches_draws_and_priors_of_the_wrong_width():
    """A normal mean in closed form: nothing is caught of the right posterior, and each fault is."""
    rng = np.random.default_rng(2)
    alpha = CHANCE / QUANTITIES
    assert deviations(uniform_ranks(rng, 200), LEVELS, alpha)["of_band"].max() < 1.0
    for fault in ({"sd": 0.5}, {"sd": 1.8}, {"prior_sd": 2.5}):
        assert deviations(uniform_ranks(rng, 200, **fault), LEVELS, alpha)["of_band"].max() >= 1.0, fault
    # Twenty see only what is far off.
    assert deviations(uniform_ranks(rng, 20, sd=0.2), LEVELS, alpha)["of_band"].max() >= 1.0


def test_any_number_of_workers_makes_the_same_file(tmp_path):
    keys = [{"study": study, "replication": k} for k in range(12) for study in ("a", "b")]

    def make(study, replication):
        return {"value": replication + 0.5 * (study == "a")}

    for name, executor in (("one", None), ("two", Local(2))):
        collect(tmp_path / f"{name}.csv", "how", keys[:5], make)
        collect(tmp_path / f"{name}.csv", "how", keys, make, executor)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_an_interrupted_study_goes_on_where_it_stopped(tmp_path, capsys):
    """What is there is kept to the byte, and the rest comes to what an undisturbed run gives."""
    keys = [{"study": study, "replication": k} for k in (1, 2) for study in ("a", "b")]
    made = []

    def make(study, replication, *, until=4):
        if len(made) == until:
            raise KeyboardInterrupt
        made.append((study, replication))
        return {"r_g[1 x]": replication + 0.5}

    whole = collect(tmp_path / "whole.csv", "how", keys, make)
    made.clear()
    with pytest.raises(KeyboardInterrupt):
        collect(tmp_path / "part.csv", "how", keys, lambda **key: make(**key, until=3))
    stopped = (tmp_path / "part.csv").read_bytes()
    pd.testing.assert_frame_equal(collect(tmp_path / "part.csv", "how", keys, make), whole)
    assert made == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert (tmp_path / "part.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert (tmp_path / "part.csv").read_bytes().startswith(stopped)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part.csv", "whole.csv"]


def test_a_share_has_an_error_even_where_all_agree():
    value, error = share(pd.Series([True] * 60 + [False] * 40))
    assert value == 0.6 and error == pytest.approx((0.6 * 0.4 / 100) ** 0.5, rel=0.03)
    assert share(pd.Series([True] * 100)) == (1.0, pytest.approx(0.0134, abs=1e-4))


@pytest.mark.parametrize("name", list(MODELS))
def test_the_stored_ranks_are_whole(name):
    ranks = STORED[name]
    lines = (HERE / f"ranks_{name}.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"# seed {SEED}: python tests/calibration/calibrate.py {name}"
    assert len(ranks) == MODELS[name].replications >= 200
    assert ((ranks >= 0) & (ranks <= DRAWS)).all(axis=None)
    assert "log_likelihood" in ranks and any(column.startswith("sd_") for column in ranks)


@pytest.mark.parametrize("name", SOUND)
def test_true_values_are_of_any_rank_alike(name):
    table = deviations(STORED[name], LEVELS, CHANCE / QUANTITIES)
    assert (table["of_band"] < 1.0).all(), table.to_string()


def test_a_planted_fault_is_caught():
    """The simulation's priors were twice as wide as the fit's, through the same sampler and the same band."""
    table = deviations(STORED["planted"], LEVELS, CHANCE / QUANTITIES)
    assert (table["of_band"] >= 1.0).any(), table.to_string()


@pytest.mark.parametrize("name", list(FRESH))
def test_fresh_replications_are_of_any_rank_alike(name):
    """Other seeds than the stored ones, so that this fails if the sampler is no longer the one that was calibrated."""
    ready = Ready.of(MODELS[name])
    rows = [replicate(ready, (FRESH_SEED, k)) for k in range(FRESH[name])]
    ranks = pd.DataFrame(rows).drop(columns=["draws", "divergences"])
    assert list(ranks) == list(STORED[name])
    table = deviations(ranks, LEVELS, CHANCE / ranks.shape[1])
    assert (table["of_band"] < 1.0).all(), table.to_string()
