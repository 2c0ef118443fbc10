"""What became of a conclusion: the rule, and sentences whose numbers are those of the tables."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from studies import known_fit

from psychostats.conclusions import conclude, describe_conclusions, judge, say_conclusions
from psychostats.pooled import compare_studies, stack_studies
from psychostats.reanalysis import Reanalysis, Side
from psychostats.settings import EffectsTable, ModelTable, StudyTable
from psychostats.study import Study

NAMES = ("old", "new")
MODEL = ModelTable(name="main", formula="correct ~ representation", family="bernoulli")


@pytest.mark.parametrize(
    ("old", "pooled", "outcome"),
    [
        ("higher", "higher", "stands"),
        ("open", "open", "open"),
        ("equal", "equal", "stands"),
        ("open", "lower", "settled"),
        ("open", "equal", "settled"),
        ("lower", "open", "reopened"),
        ("equal", "open", "reopened"),
        ("higher", "lower", "changed"),
        ("higher", "equal", "changed"),
        ("equal", "lower", "changed"),
    ],
)
def test_the_rule(old, pooled, outcome):
    assert judge(old, pooled) == outcome


def found(old, new, *, noise=0.01):
    """Return a reanalysis whose draws are around these effects of the two studies, in logits."""
    rng = np.random.default_rng(4)
    sides = []
    for name in NAMES:
        rows = pd.DataFrame(
            {"participant": [f"{name}{i}" for i in range(20) for _ in range(4)], "correct": rng.integers(0, 2, 80)}
        )
        rows["representation"] = pd.Categorical(["local", "distributed"] * 40, ["local", "distributed"])
        sides.append(rows)
    stacked = stack_studies(*sides, names=NAMES, person="participant")
    effects = EffectsTable(moderator=None)

    def fit_to(model, name, rows):
        effect = {"old": old, "new": new}.get(name, old)
        b = {"Intercept": 0.0, "representationdistributed": effect}
        if name not in NAMES:
            b |= {"studynew": 0.0, "studynew:representationdistributed": new - old}
        return known_fit(model.formula, rows, b, noise=noise, draws=4000, family="bernoulli")

    one = compare_studies("all", MODEL, effects, stacked.rows, NAMES, "participant", fit_to)
    study = Study(study=StudyTable(name="s", title="S"), models=(MODEL,), effects=effects)
    both = [Side(name, rows) for name, rows in zip(NAMES, sides, strict=True)]
    return Reanalysis(study, *both, stacked, (one,), pd.DataFrame(), (), (), {})


@pytest.mark.parametrize(
    ("old", "new", "noise", "wanted"),
    [
        (1.0, 1.0, 0.05, ("higher", "higher", "higher", False, "stands")),
        (1.0, -1.0, 0.05, ("higher", "lower", "open", True, "reopened")),
        (0.2, 1.2, 0.15, ("open", "higher", "higher", False, "settled")),
        (0.0, 0.0, 0.01, ("equal", "equal", "equal", False, "stands")),
    ],
)
def test_verdicts_follow_from_the_draws(old, new, noise, wanted):
    made = found(old, new, noise=noise)
    row = conclude(made).iloc[0]
    assert (row["old"], row["new"], row["pooled"], row["contradicted"], row["outcome"]) == wanted
    assert row["between"] == {(1.0, 1.0): "equal", (0.0, 0.0): "equal", (1.0, -1.0): "lower"}.get((old, new), "higher")
    text = describe_conclusions(made, conclude(made))
    for cell in made.comparisons[0].contrasts.to_dict("records"):
        if (cell["target"], cell["scale"]) == ("population", "difference"):
            assert f"{abs(100 * cell['estimate']):.1f}" in text
    assert ("opposite of the other" in text) == wanted[3]


def test_the_studies_differ_where_the_interval_of_their_difference_says_so():
    text = describe_conclusions(made := found(0.0, 1.0, noise=0.05), conclude(made))
    assert "larger in new than in old" in text
    text = describe_conclusions(made := found(1.0, 0.0, noise=0.05), conclude(made))
    assert "smaller in new than in old" in text


def test_nothing_is_concluded_from_fits_that_did_not_converge():
    made = found(1.0, 1.0)
    one = made.comparisons[0]
    bad = replace(one.fits["new"], checks=tuple(replace(c, verdict="fail") for c in one.fits["new"].checks))
    made = replace(made, comparisons=(replace(one, fits={**one.fits, "new": bad}),))
    assert not made.converged
    judged = conclude(made)
    assert judged["outcome"].tolist() == ["unknown"]
    assert judged[["old", "new", "pooled"]].to_numpy().tolist() == [["higher", None, "higher"]]
    assert len(say_conclusions(made, judged)) == 1
    assert "nothing is concluded" in describe_conclusions(made, judged)
