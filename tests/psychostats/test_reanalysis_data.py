"""What the report says of each study's data agrees with how they were read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd

from psychostats.document import Code, Paragraph, Text
from psychostats.exclusions import Exclusions, apply_exclusions
from psychostats.pooled import Stacked
from psychostats.reanalysis import Side
from psychostats.reanalysis_data import describe_data
from psychostats.trials import TrialTable


def test_rows_that_the_filter_or_a_lacking_value_took_are_told():
    trials = pd.DataFrame({"participant": list("aabb"), "correct": [1, 0, 1, 1]})
    excluded = apply_exclusions(trials, Exclusions())
    sides = [
        Side(name, excluded.kept, excluded, TrialTable(trials, n_rows=rows, n_filtered=gone, n_dropped=lacking))
        for name, rows, gone, lacking in (("old", 4, 0, 0), ("new", 13, 7, 2))
    ]
    found: Any = SimpleNamespace(
        old=sides[0],
        new=sides[1],
        names=("old", "new"),
        stacked=Stacked(trials, 0),
        apart=(),
        study=SimpleNamespace(report=SimpleNamespace(group="participant")),
    )
    said = [
        "".join(run.text for run in block.words if isinstance(run, Text | Code))
        for block in describe_data(found, {})
        if isinstance(block, Paragraph) and not isinstance(block.words, str)
    ]
    assert said == [
        "old: 4 trials were recorded, 4 trials of 2 participants analysed.",
        "new: of 13 rows the filter keeps 6; 4 trials were recorded, 4 trials of 2 participants analysed; "
        "2 rows that lack a value had been dropped before.",
    ]
