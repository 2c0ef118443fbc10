"""Accounts of what was analysed count what there is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
from studies import SMALL

from psychostats.accounts import tabulate_design
from psychostats.exclusions import Excluded
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
        main=[SimpleNamespace(fit=SimpleNamespace(coding=SimpleNamespace(levels={})))],
    )
    table = tabulate_design(one)
    headers = [column.header for column in table.columns]
    assert headers == ["Trials", "Participants", "Pairs", "Trials per participant (median)"]
    assert table.frame.loc[0, ["trials", "participant", "pair"]].tolist() == [4, 2, 2]
