"""A second factor: the contrast at each of its levels, its own contrast at each level of the first, and the change."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from runs import make_run
from studies import ROOT, SMALL

from psychostats.effects import contrasts, interactions
from psychostats.errors import StudyError
from psychostats.features import attach_features, read_run
from psychostats.fit import fit
from psychostats.intervals import Interval
from psychostats.measure import ACCURACY
from psychostats.results import cross
from psychostats.study import read_study
from psychostats.tables import tabulate_pattern

FORMULA = "correct ~ representation * depth + representation * network + (1 | pair)"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a fit to trials of two networks, of which one gains by the second basis and the other does not."""
    folder = tmp_path_factory.mktemp("networks")
    parts = [make_run(folder / name, network=name, people=150, seed=seed) for name, seed in (("one", 5), ("two", 6))]
    run = read_run(*parts)
    lists = pd.concat([read_run(path).table("trial_lists") for path in parts], ignore_index=True)
    lists["participant"] += np.where(lists["feature"].fillna("").str.startswith("two"), "-two", "-one")
    trials = attach_features(lists.assign(correct=0), run)
    main = trials[(trials["phase"] == "main") & ~trials["catch"]]
    gain = (main["representation"] == "distributed") & (main["network"] == "two")
    p = 0.5 + 0.5 / (1 + np.exp(-(0.2 + 1.5 * gain.to_numpy(dtype=float))))
    rng = np.random.default_rng(6)
    return fit(
        FORMULA, main.assign(correct=(rng.uniform(size=len(main)) < p).astype(int)), family="afc", engine="laplace"
    )


def test_every_row_is_an_effect_of_the_fit(made):
    wald = Interval("wald", 0.95)
    table = cross(made, "representation", "network", wald)
    population = table[table["target"] == "population"]
    assert set(population["of"]) == {"representation", "network"} and set(table["scale"]) == {"difference"}
    for one, other in (("representation", "network"), ("network", "representation")):
        expected = contrasts(made, one, by={other: list(made.coding.levels[other])}, interval=wald)
        expected = expected[(expected["scale"] == "difference") & (expected["target"] == "population")]
        found = population[(population["of"] == one) & population["at"].notna()]
        assert found["estimate"].tolist() == pytest.approx(expected["estimate"].tolist())
        assert found["at"].tolist() == expected[other].tolist()
    change = interactions(made, "representation", "network", ["one", "two"], interval=wald)
    change = change[(change["scale"] == "difference") & (change["target"] == "population")]["estimate"].item()
    assert population[population["at"].isna()]["estimate"].tolist() == pytest.approx([change, change])


def test_what_was_planted_is_found(made):
    table = cross(made, "representation", "network", Interval("wald", 0.95))
    table = table[(table["target"] == "population") & (table["of"] == "representation")].set_index("at")
    assert table.loc["two", "conf_low"] > 0.05 and table.loc["one", "conf_low"] < 0 < table.loc["one", "conf_high"]
    assert table[table.index.isna()]["conf_low"].item() > 0


def test_the_table_reads_the_change_either_way(made):
    pattern = cross(made, "representation", "network", Interval("wald", 0.95))
    study = SimpleNamespace(effects=SimpleNamespace(factor="representation", by="network"))
    result = SimpleNamespace(label="only", pattern=pattern)
    analysis = SimpleNamespace(main=(result,), experiments=["only"], study=study, measure=ACCURACY)
    shown = tabulate_pattern(analysis).frame
    assert len(shown) == 6
    both = shown[shown["at"] == ""]["population"].tolist()
    assert both[0] == both[1]


def test_the_revision_asks_for_the_contrast_by_network():
    study = read_study(ROOT / "data" / "studies" / "colin2026.toml")
    assert study.effects.by == "network" and "network" in study.models[0].spec().formula.variables


def test_a_factor_that_no_model_has_is_refused(tmp_path):
    (tmp_path / "study.toml").write_text(SMALL.read_text() + "\n[effects]\nby = 'networks'\n")
    with pytest.raises(StudyError, match=r"\[effects\] by is 'networks'"):
        read_study(tmp_path / "study.toml")
