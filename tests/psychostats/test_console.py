"""Fits and effects on a terminal: what may not be read says so first, and the columns stand straight."""

import re

import numpy as np
import pandas as pd
import pytest
from studies import known_fit, small_report

from psychostats.console import describe_effects, describe_fit
from psychostats.effects import contrasts, marginal_means
from psychostats.fit import load_fit
from psychostats.intervals import Interval

ROWS = pd.DataFrame(
    {
        "x": ["a", "b"] * 30,
        "g": np.repeat(["p", "q", "r"], 20),
        "h": ["u", "v", "w"] * 20,
        "correct": [0, 1, 1] * 20,
    }
)
B = {"Intercept": 0.2, "xb": 0.5}


def settled(formula, **changes):
    """Make a fit of white noise, which passes every check."""
    sd = {"g": 0.5, "h": 0.3}
    return known_fit(formula, ROWS, B, sd=sd, draws=2000, noise=0.1, **changes)


def test_a_converged_fit_begins_with_what_was_fitted():
    text = describe_fit(settled("correct ~ x + (1 + x | g) + (1 | h)", family="afc", dropped=4))
    assert text.splitlines()[:4] == [
        "Formula: correct ~ x + (1 + x | g) + (1 | h)",
        "Family:  forced choice, logit link, guess rate 0.5",
        "Data:    60 trials, 3 gs, 3 hs; 4 rows dropped",
        "Coding:  x: treatment, reference a",
    ]
    assert "NOT CONVERGED" not in text
    assert "dropped" not in describe_fit(settled("correct ~ x"))


@pytest.mark.parametrize(
    ("formula", "lines"),
    [
        (
            "correct ~ x + (1 + x | g) + (1 | h)",
            ["(Intercept, xb | g) correlated (LKJ prior)", "(Intercept | h) one term"],
        ),
        ("correct ~ x + (1 + x || g)", ["(Intercept, xb | g) independent, no correlation fitted"]),
        ("correct ~ x", []),
    ],
)
def test_the_covariance_that_was_fitted_is_said(formula, lines):
    text = describe_fit(settled(formula))
    found = [line.removeprefix("Group effects fitted: ") for line in text.splitlines() if line.startswith("Group eff")]
    assert found == lines
    assert ("Group-level correlations:" in text) == ("correlated (LKJ" in text)
    assert ("Group-level SDs:" in text) == bool(lines)


def test_the_interval_and_the_sampler_are_named():
    text = describe_fit(settled("correct ~ x", family="bernoulli", link="probit"))
    assert "posterior means on the probit scale" in text
    assert "the 95 % equal-tailed credible interval." in text
    assert "2 chains of 1000 draws after 1, seed 1, engine pymc (known)." in text


def test_numbers_are_those_of_the_table_and_stand_in_columns():
    fit = settled("correct ~ x + (1 | g)")
    lines = describe_fit(fit).splitlines()
    start = lines.index("Fixed effects:") + 1
    head, *rows = lines[start : start + 3]
    assert head.split() == ["term", "estimate", "sd", "conf_low", "conf_high", "rhat", "ess_bulk", "ess_tail"]
    assert len({len(line) for line in (head, *rows)}) == 1
    for line, row in zip(rows, fit.terms().to_dict("records"), strict=False):
        expected = [row["term"], *(f"{row[name]:.3f}" for name in head.split()[1:6])]
        assert line.split()[:6] == expected
        assert line.split()[6:] == [f"{row['ess_bulk']:.0f}", f"{row['ess_tail']:.0f}"]


def test_single_levels_are_shown_on_request():
    fit = settled("correct ~ x + (1 | g)")
    assert "r_g[" not in describe_fit(fit)
    assert describe_fit(fit, random=True).count("r_g[") == 3


def test_a_fit_that_may_not_be_read_says_so_first_and_why(tmp_path_factory):
    made = small_report(tmp_path_factory)
    fit = load_fit(made.out / "fits" / "main_first")
    lines = describe_fit(fit).splitlines()
    assert lines[0] == "NOT CONVERGED: these numbers may not be read."
    assert [line.strip() for line in lines[1 : lines.index("")]] == fit.warnings
    assert len(fit.warnings) >= 1


def test_a_figure_that_does_not_exist_is_no_number():
    """Draws that never move have no R-hat; the fit is then not converged."""
    text = describe_fit(known_fit("correct ~ x", ROWS, B))
    assert text.startswith("NOT CONVERGED")
    assert re.search(r"^b_xb +0\.500 +0\.000 +0\.500 +0\.500 +nan", text, flags=re.MULTILINE)


def test_effects_say_what_their_columns_are():
    fit = settled("correct ~ x + (1 | g)", family="afc")
    means = describe_effects(fit, marginal_means(fit, "x"), ["x"])
    assert means.splitlines()[0].split() == ["term", "target", "scale", "estimate", "sd", "conf_low", "conf_high"]
    assert "conf_low and conf_high bound the 95 % equal-tailed credible interval." in means
    assert "typical: all group effects at zero, the median g." in means
    assert "population: averaged over new gs." in means and "estimate is the posterior mean." in means
    assert "pd:" not in means

    hdi = Interval("hdi", 0.9)
    parts = [marginal_means(fit, "x", interval=hdi).astype({"contrast": object}), contrasts(fit, "x", interval=hdi)]
    both = pd.concat(parts, ignore_index=True)
    text = describe_effects(fit, both, ["x"])
    assert "the 90 % highest-density credible interval." in text
    assert "share of draws within -0.02 to 0.02 (difference), 0.835 to 1.2 (odds_ratio)." in text
    head, *lines = text.splitlines()[: len(both) + 1]
    assert head.split()[-2:] == ["pd", "rope_share"]
    for line, row in zip(lines, both.to_dict("records"), strict=True):
        assert f"{row['estimate']:.3f}" in line
        assert (f"{row['pd']:.3f}" in line) == bool(np.isfinite(row["pd"]))
        assert "nan" not in line and "None" not in line


def test_effects_say_where_other_predictors_are_held_and_whether_they_may_be_read():
    rows = ROWS.assign(z=np.linspace(0, 1, len(ROWS)))
    fit = known_fit("correct ~ x + z", rows, B | {"z": 0.1})
    lines = describe_effects(fit, marginal_means(fit, "x"), ["x"]).splitlines()
    assert lines[0] == "NOT CONVERGED: these numbers may not be read."
    assert "Held at their mean: z = 0.5." in lines
    assert "population: the model has no group effects, so both targets are one." in lines
    held = describe_effects(fit, marginal_means(fit, "x", by={"z": [0.2]}), ["x", "z"])
    assert "Held" not in held
