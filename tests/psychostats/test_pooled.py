"""Two studies in one model: who is who, the formula, and estimates against those of the studies apart."""

import numpy as np
import pandas as pd
import pytest

from psychostats.effects import contrasts
from psychostats.errors import InputError
from psychostats.fit import fit
from psychostats.formula import parse_formula
from psychostats.pooled import POOLED, STUDY, compare_studies, find_returning, stack_studies, with_study
from psychostats.pseudonyms import pseudonym
from psychostats.settings import EffectsTable, ModelTable

KEY = bytes(range(32))
NAMES = ("old", "new")


def trials(people, seed, *, effect=0.8, n=40):
    """Return trials of named people, each with both levels, answers from a logistic model."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        [(who, ("local", "distributed")[k % 2], (k % 8) / 7) for who in people for k in range(n)],
        columns=["participant", "representation", "depth"],
    )
    eta = 0.2 + effect * (rows["representation"] == "distributed") + 0.5 * rows["depth"]
    rows["correct"] = rng.binomial(1, 1 / (1 + np.exp(-eta)))
    rows["representation"] = pd.Categorical(rows["representation"], ["local", "distributed"])
    return rows


def compared(old, new, formula="correct ~ representation * depth", names=NAMES):
    stacked = stack_studies(old, new, names=names, person="participant").rows

    def fit_to(model, name, rows):
        return fit(model.spec(), rows, engine="laplace")

    model = ModelTable(name="main", formula=formula, family="bernoulli")
    effects = EffectsTable(at=(0.0, 1.0))
    return compare_studies("all", model, effects, stacked, names, "participant", fit_to)


def one(table, **wanted):
    wanted = {"target": "population", "scale": "difference"} | wanted
    rows = table[np.logical_and.reduce([table[name].to_numpy() == value for name, value in wanted.items()])]
    assert len(rows) == 1, rows
    return rows.iloc[0]


def test_ids_of_files_are_of_different_people_and_pseudonyms_of_the_same():
    back = pseudonym("worker 7", KEY)
    old, new = trials(["p1", "p2", back], 1), trials(["p1", "p3", back], 2)
    assert find_returning(old, new, "participant") == (back,)
    made = stack_studies(old, new[new["participant"] != back], names=NAMES, person="participant")
    assert made.namesakes == 1
    who = made.rows.groupby(STUDY, observed=True)["participant"].unique()
    assert set(who["old"]) == {"old p1", "old p2", f"old {back}"} and set(who["new"]) == {"new p1", "new p3"}
    assert list(made.rows[STUDY].cat.categories) == list(NAMES)
    assert list(made.rows["representation"].cat.categories) == ["local", "distributed"]


def test_levels_that_only_the_new_study_has_come_last():
    old, new = trials(["p1"], 1), trials(["p2"], 2)
    new["representation"] = new["representation"].cat.add_categories("both")
    new.loc[0, "representation"] = "both"
    made = stack_studies(old, new, names=NAMES, person="participant")
    assert list(made.rows["representation"].cat.categories) == ["local", "distributed", "both"]
    assert len(made.rows) == len(old) + len(new) and made.rows["representation"].notna().all()


def test_studies_of_the_same_people_and_columns_called_study_are_refused():
    who = [pseudonym("a", KEY)]
    with pytest.raises(InputError, match="nobody is new: all 1 people"):
        find_returning(trials(who, 1), trials(who, 2), "participant")
    with pytest.raises(InputError, match="a column 'study' of their own"):
        stack_studies(trials(["a"], 1), trials(["b"], 2).assign(study="x"), names=NAMES, person="participant")


@pytest.mark.parametrize(
    ("formula", "pooled"),
    [
        ("correct ~ x", "correct ~ study * (x)"),
        ("correct ~ x * d + (1 + x | p) + (1 || q)", "correct ~ study * (x * d) + (1 + x | p) + (1 || q)"),
        ("correct ~ 1 + (1 | p)", "correct ~ study + (1 | p)"),
        ("cbind(a, b) ~ C(x, sum) + poly(d, 2)", "cbind(a, b) ~ study * (C(x, sum) + poly(d, 2))"),
    ],
)
def test_everything_fixed_may_differ_between_studies(formula, pooled):
    made = with_study(parse_formula(formula))
    assert parse_formula(made).text == parse_formula(pooled).text


def test_an_offset_is_no_coefficient_that_a_study_could_change():
    made = parse_formula(with_study(parse_formula("correct ~ x + offset(log(d)) + (1 | p)")))
    assert made.fixed == "`study` * (`x`)" and len(made.offsets) == 1


@pytest.mark.parametrize("formula", ["correct ~ 0 + x", "correct ~ x - 1", "correct ~ study + x"])
def test_a_formula_that_no_study_can_be_crossed_with_is_refused(formula):
    with pytest.raises(InputError, match=r"no intercept|names 'study'"):
        with_study(parse_formula(formula))


def test_a_saturated_pooled_model_says_what_the_studies_say_apart():
    # Without group effects the likelihood factors into those of the studies.
    made = compared(trials([f"p{i}" for i in range(30)], 1), trials([f"q{i}" for i in range(12)], 2, effect=0.1))
    at_one = contrasts(made.fits[POOLED], "representation", by={STUDY: list(NAMES), "depth": [1.0]})
    for name in NAMES:
        alone = one(made.contrasts, **{STUDY: name, ".at": "value", "depth": 1.0})
        together = one(at_one, **{STUDY: name})
        assert together["estimate"] == pytest.approx(alone["estimate"], abs=1e-8)
        assert together["sd"] == pytest.approx(alone["sd"], rel=1e-5)


def test_the_difference_between_studies_is_new_minus_old():
    made = compared(
        trials([f"p{i}" for i in range(40)], 3, effect=0.0), trials([f"q{i}" for i in range(40)], 4, effect=1.5)
    )
    between = one(made.between)
    each = contrasts(made.fits[POOLED], "representation", by={STUDY: list(NAMES)})
    change = one(each, **{STUDY: "new"})["estimate"] - one(each, **{STUDY: "old"})["estimate"]
    assert between["estimate"] == pytest.approx(change, abs=1e-12)
    assert between["conf_low"] > 0.1
    assert between["contrast"] == "(distributed - local) at study new minus at old"
    assert made.participants == {"old": 40, "new": 40, POOLED: 80}


def test_the_same_study_twice_does_not_differ_and_narrows_the_interval():
    old = trials([f"p{i}" for i in range(25)], 5)
    made = compared(old, old.assign(participant="q" + old["participant"]))
    assert one(made.between)["estimate"] == pytest.approx(0.0, abs=1e-8)
    apart, both = (one(made.contrasts, **{STUDY: name, ".at": "mean"}) for name in ("old", POOLED))
    assert both["estimate"] == pytest.approx(apart["estimate"], abs=1e-8)
    assert both["sd"] == pytest.approx(apart["sd"] / np.sqrt(2), rel=1e-4)


def test_shuffled_rows_and_other_names_of_the_studies_change_nothing():
    old, new = trials([f"p{i}" for i in range(20)], 6), trials([f"q{i}" for i in range(9)], 7)
    formula = "correct ~ representation * depth + (1 | participant)"
    first = compared(old, new, formula)
    shuffled = compared(
        old.sample(frac=1, random_state=1), new.sample(frac=1, random_state=2), formula, ("2024", "2026")
    )
    a, b = first.between, shuffled.between
    np.testing.assert_allclose(a["estimate"], b["estimate"], atol=1e-5)
    np.testing.assert_allclose(a["conf_low"], b["conf_low"], atol=1e-4)
