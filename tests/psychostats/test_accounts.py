"""Accounts of what was analysed count what there is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
from studies import SMALL

from psychostats.accounts import tabulate_design, tabulate_provenance
from psychostats.exclusions import Excluded
from psychostats.results import ALL
from psychostats.sampling import Settings
from psychostats.study import read_study


def test_what_no_trial_names_is_not_counted():
    kept = pd.DataFrame({"participant": list("aabb"), "representation": list("ldld"), "pair": list("ppqq")})
    kept["stimulus"] = pd.Series([None] * 4, dtype="str")
    study = read_study(SMALL)
    assert study.design.assignment != "between"
    one: Any = SimpleNamespace(
        excluded=Excluded(kept, pd.DataFrame()),
        study=study,
        experiments=["all"],
        main=[
            SimpleNamespace(fit=SimpleNamespace(coding=SimpleNamespace(levels={}), design=SimpleNamespace(blocks=())))
        ],
    )
    table = tabulate_design(one)
    headers = [column.header for column in table.columns]
    assert headers == ["Trials", "Participants", "Pairs", "Trials per participant (median)"]
    assert table.frame.loc[0, ["trials", "participant", "pair"]].tolist() == [4, 2, 2]


def test_every_engine_that_sampled_is_named_with_its_settings_and_versions():
    """A model of confidence goes to PyMC while the main one has the fast sampler."""

    def made(engine: str, reason: str, tune: int, **versions: str) -> Any:
        provenance = {"engine": engine, "engine_reason": reason, "versions": versions, "data": {"sha256": "d"}}
        return SimpleNamespace(provenance=provenance, settings=Settings(tune=tune))

    main = made("nuts", "auto: covered", 200, numpy="2.0")
    opinion = made("pymc", "auto: the family cumulative", 1000, numpy="2.0", pymc="5.28")
    result = SimpleNamespace(fit=main, experiment=ALL)
    one: Any = SimpleNamespace(
        study=read_study(SMALL),
        source={"file": "trials.csv", "file_sha256": "f"},
        run=None,
        main=[result],
        results=[result],
        fits=[main, main, opinion],
    )
    said = tabulate_provenance(one).frame.set_index("what")["value"]
    assert said["Engine"] == "nuts (auto: covered); pymc (auto: the family cumulative)"
    assert "after 200," in said["Sampler"] and "after 1,000," in said["Sampler"]
    assert said["Versions"] == "numpy 2.0, pymc 5.28"
