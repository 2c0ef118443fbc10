"""The multiverse: each specification is the fit that its choices say, made once, resumed, and never hidden."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from studies import SMALL, contents, study_of
from test_robustness import simulate

from psychostats.effects import contrasts, interactions
from psychostats.errors import InputError
from psychostats.exclusions import apply_exclusions
from psychostats.executors import Local
from psychostats.fit import fit
from psychostats.multiverse import run_multiverse
from psychostats.multiverse_plan import plan_multiverse
from psychostats.multiverse_report import draw_multiverse, write_multiverse_tables
from psychostats.robustness import with_and_without
from psychostats.simulation import write_simulation
from psychostats.study import read_study
from psychostats.trials import TrialTable

pytestmark = pytest.mark.once

STUDY = """
[exclusions]
catch_accuracy_min = 0.6
rt_max = 30.0
missing_response = "drop"
[effects]
factor = "condition"
at = [0.1, 0.9]
[[models]]
name = "main"
formula = "correct ~ condition * depth + (1 + condition | participant)"
family = "bernoulli"
priors = ["b ~ normal(0, 0.01)"]
"""
SMALLER = """
[multiverse.families]
"linear" = { family = "gaussian" }
[multiverse.groups]
"(||)" = "(1 + condition || participant)"
"intercepts" = "(1 | participant)"
"""
ALONE = Local(1)


def frame_of(experiments=("one", "two")):
    frame = simulate(experiments)
    frame.loc[[25, 26], "rt"] = 90.0  # of a careless person
    frame.loc[900 % len(frame), "correct"] = np.nan
    return frame


def planned(folder, text=STUDY + SMALLER, frame=None, **how):
    path = folder / "trials.csv"
    (frame_of() if frame is None else frame).to_csv(path, index=False)
    return plan_multiverse(study_of(folder, text), path, **how)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Give the multiverse of two experiments, made once."""
    folder = tmp_path_factory.mktemp("multiverse")
    text = STUDY + SMALLER + '[multiverse.fixed]\n"condition + depth" = "condition + depth"\n'
    return run_multiverse(planned(folder, text), folder / "results", ALONE)


def row_of(table, question="contrast", experiment="one", **labels):
    mine = table[(table["question"] == question) & (table["experiment"] == experiment)]
    for name, label in labels.items():
        mine = mine[mine[name] == label]
    assert len(mine) == 1
    return mine.iloc[0]


OWN = {
    "exclusions": "all rules",
    "fixed": "condition * depth",
    "codings": "treatment",
    "families": "bernoulli logit",
    "groups": "as the study",
}


@pytest.mark.parametrize(
    ("changed", "formula", "family"),
    [
        ({}, "correct ~ condition * depth + (1 + condition | participant)", "bernoulli"),
        ({"fixed": "condition + depth"}, "correct ~ condition + depth + (1 + condition | participant)", "bernoulli"),
        (
            {"codings": "sum", "groups": "(||)"},
            "correct ~ C(condition, sum) * depth + (1 + C(condition, sum) || participant)",
            "bernoulli",
        ),
        (
            {"codings": "sum"},  # fitted with the other coding, since it is the same model
            "correct ~ C(condition, sum) * depth + (1 + C(condition, sum) | participant)",
            "bernoulli",
        ),
        (
            {"families": "linear", "groups": "intercepts"},
            "correct ~ condition * depth + (1 | participant)",
            "gaussian",
        ),
    ],
)
def test_a_specification_is_the_fit_that_its_choices_say(found, changed, formula, family):
    kept = found.plan.excluded.kept
    kept = kept[kept["experiment"] == "one"]
    made = fit(formula, kept, family=family, engine="laplace")
    at = {"depth": [kept["depth"].mean()]} if "depth" in formula else None
    wanted = {"contrast": contrasts(made, "condition", by=at)}
    if "* depth" in formula:
        wanted["change"] = interactions(made, "condition", "depth", [0.1, 0.9])
    for question, table in wanted.items():
        row = row_of(found.table, question, **(OWN | changed))
        (by_hand,) = table[(table["scale"] == "difference") & (table["target"] == "population")].to_dict("records")
        for name in ("estimate", "conf_low", "conf_high"):
            assert row[name] == pytest.approx(by_hand[name], abs=2e-6)
        assert row["trials"] == len(kept) and row["interval"] == "wald" and row["conf_level"] == 0.95
        assert row["singular"] == ", ".join(made.likelihood["singular_terms"]) or changed.get("codings")


def test_the_exclusions_are_those_of_the_table_with_and_without(found):
    plan = found.plan
    study = plan.study
    table = plan.examined
    excluded = apply_exclusions(table.frame, study.rules())
    robust = with_and_without(study, TrialTable(table.frame), excluded)
    assert len(robust) == 6
    for row in robust.to_dict("records"):
        name = row["exclusions"]
        label = {"all": "all rules", "none": "no rules"}.get(name, name.replace("all but", "without"))
        mine = row_of(found.table, experiment=row["experiment"], **(OWN | {"exclusions": label}))
        for key in ("participants", "trials", "conclusion", "reason"):
            assert mine[key] == row[key]
        for key in ("estimate", "conf_low", "conf_high"):
            assert mine[key] == pytest.approx(row[key], abs=1e-9)


def test_a_formula_that_fixes_the_change_says_nothing_of_it(found):
    asked = found.table[found.table["question"] == "change"]
    assert set(asked["fixed"]) == {"condition * depth"}
    assert set(found.table.loc[found.table["question"] == "contrast", "fixed"]) == {
        "condition * depth",
        "condition + depth",
    }


def test_the_same_model_of_the_same_rows_is_fitted_once(found):
    plan, table = found.plan, found.table[found.table["question"] == "contrast"]
    per = len(plan.specifications)
    assert per == 3 * 2 * 2 * 2 * 3 and len(table) == 2 * per
    one = table[table["experiment"] == "one"].set_index("specification")
    twin = one[(one["codings"] == "sum") & (one["groups"] != "(||)")]
    assert (twin["same_as"] != twin.index).all() and (one.loc[twin["same_as"], "codings"] == "treatment").all()
    assert np.array_equal(twin["estimate"], one.loc[twin["same_as"], "estimate"])
    two = table[table["experiment"] == "two"]  # where no trial is slow
    spared = two[two["exclusions"] == "without catch_accuracy_min"]
    assert (spared["same_as"] != spared["specification"]).all()
    distinct = found.distinct[found.distinct["question"] == "contrast"]
    assert len(distinct) == len(plan.tasks) == (3 + 2) * 2 * 2 * 4
    assert table["headline"].sum() == 2 and (table.loc[table["headline"], "specification"] == 1).all()


def test_an_effect_that_is_there_is_found_by_all_and_its_size_is_right(tmp_path):
    """Answers are right with 0.9 against 0.6, so that whatever is chosen must give about 0.3."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"participant": np.repeat([f"p{i}" for i in range(30)], 60)})
    frame["condition"] = np.tile(["a", "b"], 900)
    frame["depth"] = rng.uniform(size=1800).round(2)
    frame["correct"] = rng.binomial(1, np.where(frame["condition"] == "b", 0.9, 0.6))
    text = STUDY.replace("catch_accuracy_min = 0.6\nrt_max = 30.0\n", "")
    text += '[multiverse.groups]\n"intercepts" = "(1 | participant)"\n[multiverse.codings]\n'
    made = run_multiverse(planned(tmp_path, text, frame), tmp_path / "results", ALONE)
    mine = made.distinct[made.distinct["question"] == "contrast"]
    assert set(made.plan.choices["exclusions"]) == {"all rules"} and len(mine) == 12
    raw = frame.groupby("condition")["correct"].mean()
    assert mine["estimate"].between(0.25, 0.35).all() and (mine["conclusion"] == "above 0").all()
    assert mine["estimate"].to_numpy() == pytest.approx(raw["b"] - raw["a"], abs=0.01)


def test_what_has_no_maximum_is_listed_with_its_reason(tmp_path):
    frame = simulate(("one",))
    careless = frame["participant"].isin([f"one{i}" for i in range(4)])
    frame.loc[~careless & ~frame["catch"] & (frame["condition"] == "b"), "correct"] = 1.0  # separated, but for them
    text = STUDY + SMALLER + "[multiverse.fixed]\n[multiverse.codings]\n"
    made = run_multiverse(planned(tmp_path, text, frame), tmp_path / "results", ALONE)
    table = made.table
    bad = table[table["reason"] != ""]
    assert not made.converged and len(bad)
    assert bad["estimate"].isna().all() and bad["conf_low"].isna().all() and set(bad["conclusion"]) == {""}
    assert set(bad["families"]) == {"bernoulli logit"} and bad["reason"].str.contains("maximum").all()
    assert set(bad["exclusions"]) == {"all rules"}
    own = row_of(table, **OWN)
    assert own["participants"] == 12 and own["trials"] == 480 and own["headline"]
    assert row_of(table, **(OWN | {"exclusions": "no rules"}))["estimate"] > 0
    # What every other choice is asked, it is asked too.
    assert set(bad["question"]) == {"contrast", "change"} and set(bad["contrast"]) == {"b - a"}
    folder = write_multiverse_tables(made, tmp_path / "tables")
    summary = pd.read_csv(folder / "summary.csv").iloc[0]
    assert summary["failed"] > 0 and summary["specifications"] == summary["failed"] + summary["estimated"]
    drawn = draw_multiverse(made, tmp_path / "figures")
    assert sorted(drawn) == [f"{kind}_{i}" for kind in ("choices", "dimensions", "specifications") for i in (1, 2)]


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes_on_any_number_of_workers(tmp_path):
    text = STUDY + '[multiverse.fixed]\n[multiverse.codings]\n[multiverse.groups]\n"plain" = "(1 | participant)"\n'
    text += "[multiverse.families]\n"
    plan = planned(tmp_path, text)
    tables = {}
    for name, executor in {"one": ALONE, "two": Local(2)}.items():
        made = run_multiverse(plan, tmp_path / name, executor)
        tables[name] = contents(write_multiverse_tables(made, tmp_path / f"{name}_tables"))

    class Stopped(Exception):
        pass

    def stop(done, every, left):
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        run_multiverse(plan, tmp_path / "stopped", ALONE, progress=stop)
    campaign = plan.campaign(tmp_path / "stopped")
    assert len(campaign.missing(plan.tasks)) == len(plan.tasks) - 3
    half = next((tmp_path / "stopped").glob("one/*.json"))  # as a kill in the middle of a write would leave it
    half.write_text(half.read_text()[:40])
    counted = []
    made = run_multiverse(plan, tmp_path / "stopped", ALONE, progress=lambda done, every, left: counted.append(every))
    assert set(counted) == {len(plan.tasks) - 2}
    tables["stopped"] = contents(write_multiverse_tables(made, tmp_path / "stopped_tables"))
    assert tables["one"] == tables["two"] == tables["stopped"]
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "stopped")
    assert run_multiverse(plan, tmp_path / "one", ALONE, progress=stop).table.equals(made.table)  # nothing is to do


def test_a_choice_that_is_added_costs_only_the_fits_that_are_new(tmp_path):
    base = STUDY + "[multiverse.fixed]\n[multiverse.codings]\n[multiverse.families]\n[multiverse.exclusions]\n"
    first = planned(tmp_path, base + '[multiverse.groups]\n"intercepts" = "(1 | participant)"\n')
    run_multiverse(first, tmp_path / "results", ALONE)
    more = '[multiverse.groups]\n"plain" = ""\n"intercepts" = "(1 | participant)"\n'
    second = planned(tmp_path, base + more)
    assert len(first.tasks) == 4 and len(second.tasks) == 6
    assert len(second.campaign(tmp_path / "results").missing(second.tasks)) == 2


def test_results_of_other_trials_are_refused(tmp_path):
    plan = planned(tmp_path, STUDY + SMALLER + "[multiverse.codings]\n[multiverse.fixed]\n[multiverse.exclusions]\n")
    run_multiverse(replace(plan, tasks=plan.tasks, engine="laplace"), tmp_path / "results", ALONE)
    other = planned(
        tmp_path,
        STUDY + SMALLER + "[multiverse.codings]\n[multiverse.fixed]\n[multiverse.exclusions]\n",
        frame_of().iloc[:-1],
    )
    with pytest.raises(InputError, match=r"results of other work \(data\)"):
        run_multiverse(other, tmp_path / "results", ALONE)


def test_the_posterior_may_be_asked_instead(tmp_path):
    write_simulation(read_study(SMALL), tmp_path / "trials.csv")
    text = SMALL.read_text() + "\n".join(
        f"[multiverse.{name}]" for name in ("exclusions", "fixed", "codings", "families", "groups")
    )
    path = tmp_path / "study.toml"
    path.write_text(text.replace("draws = 150", "draws = 2000"))
    plan = plan_multiverse(read_study(path), tmp_path / "trials.csv", engine="nuts")
    made = run_multiverse(plan, tmp_path / "results", ALONE)
    assert set(made.table["interval"]) == {"eti"} and len(made.table) == 4
    held = json.loads(next((tmp_path / "results" / "first").glob("*.json")).read_text())
    assert held["task"]["engine"] == "nuts" and held["task"]["lengths"]["draws"] == 2000
    for row in made.table.to_dict("records"):
        assert (row["reason"] == "") == np.isfinite(row["estimate"])
        assert row["reason"] == "" or row["reason"].startswith("not converged: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '[multiverse.fixed]\n"layers" = "condition * deepth"\n',
            "[multiverse.fixed] 'layers' names 'deepth', a column that the trials lack (did you mean 'depth'?).",
        ),
        ('[multiverse.groups]\n"pairs" = "(1 | pair)"\n', "[multiverse.groups] 'pairs' names 'pair', a column"),
        (
            '[multiverse.exclusions]\n"shares" = { response_share_max = 0.9 }\n',
            "[multiverse.exclusions] 'shares': Exclusion 'response_share_max' needs column 'response'",
        ),
        (
            '[multiverse.fixed]\n"steps" = "condition * mo(depth)"\n',
            "[multiverse.fixed] 'steps': maximum likelihood cannot fit a monotonic effect",
        ),
        ('[multiverse.families]\n"lapses" = { lapse = "estimate" }\n', "[multiverse.families] 'lapses': "),
        (
            "[multiverse.fixed]\n"
            + "".join(f'"{i}" = "condition + {i % 2} + depth"\n' for i in range(200))
            + "[multiverse.groups]\n"
            + "".join(f'"{i}" = "(1 | participant)"\n' for i in range(200)),
            "specifications; 100,000 are the most.",
        ),
    ],
)
def test_what_cannot_be_fitted_is_named_before_any_fit(tmp_path, text, words):
    with pytest.raises(InputError) as caught:
        planned(tmp_path, STUDY + text)
    assert words in str(caught.value)
