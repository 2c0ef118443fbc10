"""Tables of the report: what stands in a cell where names are odd, experiments differ, or a figure is missing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from studies import known_fit, small_report, study_of

from psychostats.algebra import tabulate_priors
from psychostats.priors import resolve_priors
from psychostats.results import summarise_fit
from psychostats.tables import (
    tabulate_convergence,
    tabulate_interaction,
    tabulate_truth,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_report(tmp_path_factory).analysis


def test_contrasts_of_levels_with_parentheses_keep_apart(small, tmp_path):
    levels = ["layer (a)", "layer (b)", "layer (c)"]
    rows = pd.DataFrame({"x": pd.Categorical(levels * 40, levels), "depth": np.repeat([0.0, 1.0], 60)})
    rows["participant"] = "p"
    rows.loc[::2, "participant"] = "q"
    rows["correct"] = [0, 1] * 60
    b = {"Intercept": 0.0, "depth": 0.0} | {f"xlayer ({x})": 0.0 for x in "bc"}
    b |= {"xlayer (b):depth": 1.0, "xlayer (c):depth": 2.0}
    study = study_of(tmp_path, "[effects]\nfactor = 'x'\n[[models]]\nname = 'm'\nformula = 'correct ~ x * depth'\n")
    fit = known_fit("correct ~ x * depth", rows, b)
    result = summarise_fit(study, "all", study.models[0], fit, rows)
    frame = tabulate_interaction(replace(small, study=study, results=(result,))).frame
    assert frame["pair"].tolist() == [
        "layer (b) − layer (a)",
        "layer (c) − layer (a)",
        "layer (c) − layer (b)",
    ]
    assert [text.split()[0] for text in frame["link"]] == ["1.00", "2.00", "1.00"]


def test_priors_that_differ_stand_beside_each_other(small):
    assert [column.header for column in tabulate_priors(small).columns] == ["Parameter", "Prior", "Source"]
    first, *others = small.results
    near = replace(first.fit.design, X=np.where(np.arange(4) >= 2, 0.4, 1.0) * first.fit.design.X)
    shallow = replace(first, fit=replace(first.fit, priors=resolve_priors(near)))
    table = tabulate_priors(replace(small, results=(shallow, *others)))
    assert [column.header for column in table.columns] == ["Parameter", "first", "second", "Source"]
    depth = table.frame.set_index("name").loc["b_depth"]
    assert (depth["first"], depth["second"]) == ("normal(0, 2.5)", "normal(0, 1)")


def test_the_truth_stands_beside_the_estimates_of_its_own_model_only(small):
    table = tabulate_truth(small)
    frame = table.frame.set_index("term")
    assert frame.index[:2].tolist() == ["distributed − local", "(distributed − local) at depth 1 minus at 0"]
    assert frame.loc["b_Intercept", ["true first", "true second"]].tolist() == ["0.60", "0.60"]
    result = small.main[0]
    row = result.fit.terms().set_index("term").loc["sd_pair__Intercept"]
    starred = not row["conf_low"] <= 0.7 <= row["conf_high"]
    assert frame.loc["sd_pair__Intercept", "first"].endswith("*") == starred
    plain_first = small.study.model_copy(update={"models": small.study.models[::-1]})
    assert tabulate_truth(replace(small, study=plain_first)) is None


def test_a_figure_that_cannot_be_computed_is_no_good_one(small):
    first, *others = small.results
    checks = tuple(replace(check, value=np.nan) if check.name == "rhat" else check for check in first.fit.checks)
    broken = replace(small, results=(replace(first, fit=replace(first.fit, checks=checks)), *others))
    assert np.isnan(tabulate_convergence(broken).frame["rhat"].iloc[0])
