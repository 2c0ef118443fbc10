"""The grid of specifications: defaults, the study's own first, bad choices named, and models that are the same."""

from __future__ import annotations

import pytest
from studies import study_of

from psychostats.errors import InputError
from psychostats.settings import MultiverseTable
from psychostats.specifications import count_grid, find_dimensions, make_grid

MODEL = """
[exclusions]
catch_accuracy_min = 0.6
rt_max = 30.0
[[models]]
name = "main"
formula = "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | pair)"
[[models]]
name = "plain"
family = "bernoulli"
formula = "correct ~ representation * depth + (1 | participant)"
"""


def dimensions_of(tmp_path, text="", removed=()):
    study = study_of(tmp_path, MODEL + text)
    return {
        one.name: one
        for one in find_dimensions(study.models, study.exclusions, study.effects, study.multiverse, removed)
    }


def test_defaults_are_made_of_the_study(tmp_path):
    found = dimensions_of(tmp_path, removed=["catch_accuracy_min", "rt_max"])
    labels = {name: one.labels for name, one in found.items()}
    assert labels == {
        "exclusions": ("all rules", "no rules", "without catch_accuracy_min", "without rt_max"),
        "fixed": ("representation * depth", "representation + depth", "representation"),
        "codings": ("treatment", "sum"),
        "families": ("afc logit", "bernoulli logit", "afc probit"),
        "groups": (
            "as the study",
            "no correlations (||)",
            "no slopes of participant",
            "no slopes of pair",
            "intercepts only",
        ),
    }
    assert dimensions_of(tmp_path)["exclusions"].labels == ("all rules",)  # nothing was removed, so nothing to vary
    one = dimensions_of(tmp_path, removed=["rt_max"])["exclusions"]
    assert one.labels == ("all rules", "no rules", "without rt_max")  # the other rule may remove somebody then


def test_the_first_specification_is_the_studys_own(tmp_path):
    found = list(dimensions_of(tmp_path, removed=["rt_max"]).values())
    grid = list(make_grid(found, "correct"))
    assert len(grid) == count_grid(found) == 3 * 3 * 2 * 3 * 5
    assert [one.number for one in grid] == list(range(1, len(grid) + 1))
    own = "correct ~ representation * depth + (1 + representation | pair) + (1 + representation | participant)"
    assert grid[0].formula == own
    assert grid[0].family == {"family": "afc", "link": None, "guess": None, "lapse": None}
    assert len({tuple(one.labels.values()) for one in grid}) == len(grid)


def test_a_coding_is_written_only_where_it_makes_another_model(tmp_path):
    found = list(dimensions_of(tmp_path).values())
    for invariant in (True, False):
        for one in make_grid(found, "correct", invariant=invariant):
            coded = one.labels["codings"] == "sum" and (not invariant or "||" in one.formula)
            assert ("C(representation, sum)" in one.formula) == coded


def test_a_label_of_the_studys_own_choice_is_kept_and_comes_first(tmp_path):
    found = dimensions_of(
        tmp_path,
        """
[multiverse.fixed]
"additive" = "representation + depth"
"mine" = "representation  *  depth"
[multiverse.families]
"lapses" = { lapse = 0.02 }
"linear" = { family = "gaussian" }
[multiverse.groups]
"none" = ""
"mine" = "(1 + representation | pair) + (1 + representation|participant)"
[multiverse.exclusions]
"strict" = { catch_accuracy_min = 0.9 }
"no rules" = "none"
""",
    )
    assert found["fixed"].labels == ("mine", "additive")
    assert found["groups"].labels == ("mine", "none")
    assert found["families"].labels == ("afc logit", "lapses", "linear")
    assert found["families"].choices[1].value == {"family": "afc", "link": None, "guess": None, "lapse": 0.02}
    assert found["exclusions"].labels == ("all rules", "strict", "no rules")
    grid = list(make_grid(list(found.values()), "correct"))
    assert grid[-1].formula == "correct ~ representation + depth"


def test_pairs_that_make_no_sense_are_left_out(tmp_path):
    pair = '[multiverse]\nwithout = [["families.afc probit", "groups.intercepts only"]]\n'
    study = study_of(tmp_path, MODEL + pair)
    found = find_dimensions(study.models, study.exclusions, study.effects, study.multiverse)
    grid = list(make_grid(found, "correct", study.multiverse.without))
    assert len(grid) == count_grid(found) * 14 // 15
    assert not any((one.labels["families"], one.labels["groups"]) == ("afc probit", "intercepts only") for one in grid)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[multiverse.fixd]\na = 'x'\n", "unknown key 'fixd' in [multiverse] (did you mean 'fixed'?)"),
        ("[multiverse.families]\na = { lnk = 'probit' }\n", "unknown key 'lnk' in [multiverse"),
        (
            "[multiverse.exclusions]\n'no catch' = { catch_acuracy_min = false }\n",
            "[multiverse.exclusions] 'no catch': Exclusion 'catch_acuracy_min' is unknown (did you mean",
        ),
        ("[multiverse.exclusions]\na = 'nothing'\n", "[multiverse] exclusions.a"),
        ("[multiverse.fixed]\nalone = 'depth'\n", "[multiverse.fixed] 'alone' does not name 'representation'"),
        ("[multiverse.fixed]\nx = 'representation + (1 | pair)'\n", "[multiverse.fixed] 'x': "),
        ("[multiverse.fixed]\nx = 'representation * correct'\n", "names the response, correct"),
        ("[multiverse.fixed]\nx = 'representation *'\n", "[multiverse.fixed] 'x': a term is missing"),
        (
            "[multiverse.codings]\ns = { representaton = 'sum' }\n",
            "[multiverse.codings] 's' names 'representaton', which is no predictor of the first model (did you mean",
        ),
        ("[multiverse.codings]\ns = { representation = 'helmert' }\n", "allowed are treatment, sum, sdif"),
        (
            "[multiverse.families]\nb = { family = 'bernouli' }\n",
            "[multiverse.families] 'b': the family 'bernouli' is not allowed (did you mean 'bernoulli'?)",
        ),
        ("[multiverse.families]\nb = { link = 'cloglog' }\n", "[multiverse.families] 'b': the link 'cloglog'"),
        ("[multiverse.families]\nb = { family = 'bernoulli', guess = 0.5 }\n", "[multiverse.families] 'b': a guess"),
        ("[multiverse.groups]\ng = 'depth + (1 | pair)'\n", "[multiverse.groups] 'g': "),
        ("[multiverse.groups]\n'G ' = '(1 | pair)'\ng = '(1 | participant)'\n", "'G' and 'g', which are one label"),
        ("[multiverse.groups]\n'as the study' = '(1 | pair)'\n", "give it another label"),
        ("[multiverse.groups]\n' ' = '(1 | pair)'\n", "a choice without a label"),
        ("[multiverse]\nwithout = [['fixed.x', 'groups.as the study']]\n", "without names 'fixed.x'"),
        (
            "[multiverse]\nwithout = [['families.afc logit', 'groups.as the study']]\n",
            "which is the study's own",
        ),
    ],
)
def test_a_bad_choice_is_named_when_the_study_is_read(tmp_path, text, words):
    with pytest.raises(InputError) as caught:
        study_of(tmp_path, MODEL + text)
    assert words in str(caught.value)


def test_a_kind_with_a_single_choice_is_fine(tmp_path):
    own = MultiverseTable(exclusions={}, fixed={}, codings={}, families={}, groups={})
    study = study_of(tmp_path, MODEL)
    assert count_grid(find_dimensions(study.models, study.exclusions, study.effects, own)) == 1
