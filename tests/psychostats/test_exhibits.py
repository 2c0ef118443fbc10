"""The stimuli in the report are those that people saw, and features stand beside their own images."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from runs import REFERENCES, make_run
from studies import SMALL

from psychostats.document import Grid, Panel
from psychostats.exclusions import Excluded
from psychostats.exhibits import show_features, show_trials
from psychostats.features import attach_features, read_run
from psychostats.study import read_study


class _Analysis:
    """What this room reads of an analysis."""

    def __init__(self, run, kept):
        self.run, self.study = run, read_study(SMALL)
        self.excluded = Excluded(kept, pd.DataFrame())


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    run = read_run(make_run(tmp_path_factory.mktemp("run") / "run"))
    trials = attach_features(run.table("trial_lists").assign(correct=1), run)
    return _Analysis(run, trials[(trials["phase"] == "main") & ~trials["catch"]])


def shown(panel):
    return [picture.source.stem for picture in panel.pictures]


def test_a_trial_shows_the_images_of_its_stimulus(analysis):
    grid = next(block for block in show_trials(analysis) if isinstance(block, Grid))
    assert [row[0] for row in grid.rows] == [
        "first, local",
        "first, distributed",
        "second, local",
        "second, distributed",
    ]
    stimuli = analysis.run.table("stimuli")
    kept = analysis.excluded.kept
    for row in grid.rows:
        least, queries, most = row[1:]
        matching = stimuli[
            (stimuli["query_target"] == shown(queries)[0]) & (stimuli["query_distractor"] == shown(queries)[1])
        ]
        one = matching[matching["references_max"].map(list).map(lambda names, most=most: names == shown(most))].iloc[0]
        assert one["references_min"] == shown(least) and one["stimulus"] in set(kept["stimulus"])
        experiment, level = row[0].split(", ")
        assert one["experiment"] == experiment and f":{level}-" in one["feature"]
        assert len(least.pictures) == len(most.pictures) == REFERENCES
        assert all(picture.source.is_file() and picture.alt for panel in row[1:] for picture in panel.pictures)


def test_the_pair_is_of_the_deepest_layer_and_of_median_accuracy(analysis):
    kept = analysis.excluded.kept
    deepest = sorted(kept.loc[kept["layer"] == "d", "pair"].unique())
    wrong = {pair: number / 10 for number, pair in enumerate(deepest)}
    rng_free = kept.assign(correct=[1 - wrong.get(pair, 0) for pair in kept["pair"]])
    one = _Analysis(analysis.run, rng_free)
    alt = next(block for block in show_trials(one) if isinstance(block, Grid)).rows[0][1].pictures[0].alt
    middle = sorted(deepest, key=lambda pair: -wrong[pair])[len(deepest) // 2]
    assert middle.replace("net/d:", "local-") in alt


def test_features_stand_beside_the_images_that_drive_them_most(analysis):
    ranked = analysis.excluded.kept.drop_duplicates("feature").head(5)[["feature", "representation", "layer"]]
    ranked = ranked.assign(estimate=0.8, conf_low=0.7, conf_high=0.9)
    (grid,) = show_features(analysis, ranked, caption="c", anchor="a")
    stimuli = analysis.run.table("stimuli")
    for row, feature in zip(grid.rows, ranked["feature"], strict=True):
        first = stimuli[(stimuli["feature"] == feature) & ~stimuli["catch"]].iloc[0]
        assert shown(row[1]) == first["references_max"]
        assert row[2] == "80.0\u00a0% [70, 90]"
        assert isinstance(row[1], Panel) and feature in row[1].pictures[0].alt


def test_without_a_run_nothing_is_shown(analysis):
    bare = _Analysis(None, analysis.excluded.kept)
    assert show_trials(bare) == [] and show_features(bare, pd.DataFrame(), caption="c", anchor="a") == []
    lacking = replace(analysis.run, _tables={})
    assert lacking.has("pictures")
