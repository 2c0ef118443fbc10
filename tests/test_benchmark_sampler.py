"""The sampler's benchmark: what it times is what it says, and its tables are made of the stored runs alone."""

from __future__ import annotations

from pathlib import Path

import benchmark_sampler
import numpy as np
import pandas as pd
import pytest
import sampler_tables
from sampler_sizes import Size, simulate

HERE = Path(benchmark_sampler.__file__).parent


def _runs(**columns: object) -> pd.DataFrame:
    base = {"part": "small", "size": "crossed", "data": "simulated", "error": "", "trials": 3680, "seed": 1}
    table = pd.DataFrame(base | columns)
    return table.reindex(columns=list(sampler_tables.COLUMNS))


def test_everyone_sees_each_unit_equally_often_in_either_representation() -> None:
    trials = simulate(benchmark_sampler.SMALL, 1).trials
    assert len(trials) == 3680
    assert set(trials.groupby(["participant", "unit", "representation"], observed=True).size()) == {4}


@pytest.mark.parametrize(("size", "rows"), [(benchmark_sampler.MIDDLE, 16_800), (Size(20, 30, 10, 4), 600)])
def test_a_seed_gives_the_same_trials_again(size: Size, rows: int) -> None:
    first, again, other = (simulate(size, seed).trials for seed in (1, 1, 2))
    assert len(first) == rows
    pd.testing.assert_frame_equal(first, again)
    assert (first["correct"] != other["correct"]).any()


def test_the_least_effective_size_is_of_b_and_sd_and_correlations_are_apart() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((4, 500, 3))
    for t in range(1, 500):  # an autocorrelated chain has fewer effective draws: (1 - 0.9) / (1 + 0.9) of them
        values[:, t, 2] += 0.9 * values[:, t - 1, 2]
    apart = benchmark_sampler.effective(np.array(["b_x", "sd_g__x", "cor_g__x__y"]), values)
    assert apart["ess_bulk"] > 1500 > 300 > apart["ess_bulk_cor"]
    least = benchmark_sampler.effective(np.array(["b_x", "b_y", "sd_g__x"]), values)
    assert least["ess_bulk"] == apart["ess_bulk_cor"]
    assert "ess_bulk_cor" not in least


def test_a_run_whose_chains_disagree_does_not_count() -> None:
    runs = _runs(
        tool=["psychostats nuts", "psychostats nuts", "bambi pymc"],
        fit_s=[1.0, 0.1, 100.0],
        fresh_s=[2.0, 0.2, 110.0],
        ess_bulk=[4000.0, 4000.0, 1000.0],
        ess_tail=[2500.0, 2500.0, 1000.0],
        rhat=[1.001, 1.02, 1.011],
    )
    figures = {(goal.size, goal.what): (figure, met) for goal, figure, met in sampler_tables.judge(runs)}
    assert figures["crossed", "ESS/s without imports"] == (4000.0, False)
    assert figures["crossed", "ESS/s of a fresh process"] == (2000.0, True)
    figure, met = figures["crossed", "end to end, times bambi pymc"]
    assert np.isnan(figure)
    assert met is None


def test_a_ratio_is_of_the_seconds_of_fresh_processes() -> None:
    runs = _runs(
        tool=["psychostats nuts", "bambi pymc"],
        fit_s=[1.0, 100.0],
        fresh_s=[2.0, 110.0],
        ess_bulk=[4400.0, 1100.0],
        ess_tail=[2500.0, 1000.0],
        rhat=[1.001, 1.002],
    )
    figures = {(goal.size, goal.what): figure for goal, figure, _ in sampler_tables.judge(runs)}
    assert figures["crossed", "end to end, times bambi pymc"] == pytest.approx(220.0)


def test_the_tables_are_those_of_the_stored_runs() -> None:
    store = sampler_tables.Store(HERE)
    made = "\n".join(sampler_tables.render(store.rows(), store.machines()))
    text = store.read_me.read_text(encoding="utf-8")
    assert text.partition(sampler_tables.BEGIN)[2].partition(sampler_tables.END)[0].strip() == made.strip()


def test_a_part_that_runs_replaces_its_rows_as_a_whole(tmp_path: Path) -> None:
    store = sampler_tables.Store(tmp_path)
    about = {"processor": "p", "cores": 2, "memory_gb": 8, "system": "s", "versions": {"psychostats": {"numpy": "2"}}}
    row = {"part": "small", "size": "crossed", "data": "simulated", "tool": "psychostats nuts", "seed": 1}
    figures = {"fit_s": 1.0, "fresh_s": 2.0, "ess_bulk": 3000.0, "ess_tail": 2000.0, "rhat": 1.0, "trials": 3680}
    store.keep("small", [row | figures, row | figures | {"seed": 2}], about)
    store.keep("middle", [row | figures | {"part": "middle", "size": "560 people"}], about)
    assert store.publish() == ["ESS/s without imports"]  # 3,000 a second on small, where it must be 5,000
    store.keep("small", [row | figures | {"fit_s": 0.5}], about)
    assert store.rows().groupby("part", sort=False).size().to_dict() == {"small": 1, "middle": 1}
    assert store.publish() == []
