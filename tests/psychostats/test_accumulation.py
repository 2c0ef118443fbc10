"""The effect as participants were added: the last step is the fit of all, and people come in their order."""

import numpy as np
import pandas as pd
import pytest
from test_pooled import trials

from psychostats.accumulation import accumulate
from psychostats.effects import contrasts
from psychostats.fit import fit
from psychostats.intervals import Interval
from psychostats.pooled import STUDY, stack_studies
from psychostats.settings import EffectsTable, ModelTable

FORMULA = "correct ~ representation * depth + (1 | participant)"
MODEL = ModelTable(name="main", formula=FORMULA, family="bernoulli")


def stacked(old=30, new=14, **more):
    first, second = trials([f"p{i}" for i in range(old)], 1), trials([f"q{i}" for i in range(new)], 2, **more)
    return stack_studies(first, second, names=("old", "new"), person="participant").rows


def followed(rows, steps=6):
    return accumulate(rows, MODEL, EffectsTable(), person="participant", steps=steps)


def test_the_last_step_is_the_maximum_of_all_and_the_old_study_is_one_of_the_steps():
    rows = stacked()
    table = followed(rows)
    assert {30, 44} <= set(table["participants"]) and table["participants"].is_monotonic_increasing
    assert table["participants"].min() >= 7 and len(table) >= 5
    for count, part in ((44, rows), (30, rows[rows[STUDY] == "old"])):
        made = fit(MODEL.spec(), part, engine="laplace")
        found = contrasts(made, "representation", interval=Interval("wald"))
        found = found[(found["target"] == "population") & (found["scale"] == "difference")].iloc[0]
        mine = table[table["participants"] == count].iloc[0]
        assert mine["estimate"] == pytest.approx(found["estimate"], abs=1e-6)
        assert mine["conf_high"] == pytest.approx(found["conf_high"], abs=1e-5)
        assert mine["trials"] == len(part)
    assert table.loc[table["participants"] <= 30, STUDY].eq("old").all()
    assert table.loc[table["participants"] > 30, STUDY].eq("new").all()


def test_people_come_in_the_order_in_which_they_started():
    rows = stacked(old=20, new=10)
    order = np.random.default_rng(3).permutation(20)
    # An hour apart, and the later the further east the clock: as text they would be sorted by the clock.
    clock = [("12:00Z", "14:00+01:00", "13:00-01:00", "09:00-06:00")[n % 4] for n in range(20)]
    started = {f"old p{i}": f"2026-01-{order[i] // 4 + 1:02d}T{clock[order[i]]}" for i in range(20)}
    rows["started"] = rows["participant"].map(started)
    early = {f"old p{i}" for i in range(20) if order[i] < 10}
    ten = followed(rows, steps=3)
    ten = ten[ten["participants"] == 10].iloc[0]
    made = fit(MODEL.spec(), rows[rows["participant"].isin(early)], engine="laplace")
    found = contrasts(made, "representation")
    wanted = (found["target"] == "population") & (found["scale"] == "difference")
    assert ten["estimate"] == pytest.approx(found.loc[wanted, "estimate"].iloc[0], abs=1e-6)


def test_the_order_of_rows_within_a_study_does_not_change_the_last_step():
    rows = stacked(old=16, new=8)
    one, other = followed(rows, 3).iloc[-1], followed(rows.sample(frac=1, random_state=1), 3).iloc[-1]
    assert one["estimate"] == pytest.approx(other["estimate"], abs=1e-5)


def test_people_without_a_maximum_leave_a_row_with_the_reason():
    rows = stacked(old=12, new=12)
    first = [f"old p{i}" for i in range(12)]
    rows.loc[rows["participant"].isin(first), "correct"] = 1
    table = followed(rows, steps=2)
    assert pd.isna(table.iloc[0]["estimate"]) and len(table.iloc[0]["reason"]) > 10
    assert pd.notna(table.iloc[-1]["estimate"]) and table.iloc[-1]["reason"] == ""
