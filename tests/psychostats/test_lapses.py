"""Lapses in planning: the question, its tasks, what simulations add up to, and the section that says so."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from psychostats.catch_trials import attenuation
from psychostats.document import Figure, Table
from psychostats.errors import InputError, StudyError
from psychostats.executors import Local
from psychostats.figures import save_figure
from psychostats.lapse_figures import name_rule
from psychostats.lapse_section import chapter_lapses, compose_lapses, plot_summary
from psychostats.lapse_tables import _verdict, break_even, differences, performance, summarise
from psychostats.lapses import NO_RULE, ask_lapses, collect, lapse_tasks, run_lapses, true_contrasts, work
from psychostats.report import FIGURES, WHOLE
from psychostats.study import read_study

pytestmark = pytest.mark.once

STUDY = """
[study]
name = "lapses"
title = "t"
simulated = true
[exclusions]
catch_accuracy_min = 0.6
total_time_min = 60.0
missing_response = "drop"
[design]
assignment = "within"
participants = { one = 60, two = 30 }
layers = ["a", "b", "c", "d"]
pairs = 32
main = 32
catch = 3
practice = 1
[simulate]
formula = "correct ~ representation * depth + (1 | participant)"
guess = 0.5
careless = 3
[simulate.truth.all]
b_Intercept = 0.2
b_representationdistributed = 0.8
b_depth = 0.2
"b_representationdistributed:depth" = 0.5
sd_participant__Intercept = 0.6
[[models]]
name = "main"
formula = "correct ~ representation * depth + (1 | participant)"
[effects]
at = "range"
"""
LAPSES = "[lapses]\nrates = [0, 0.1]\ncareless = [0, 0.1]\nsimulations = 3\n"
CONTRAST = "distributed - local"


@pytest.fixture
def study(tmp_path):
    def make(text=LAPSES):
        path = tmp_path / "study.toml"
        path.write_text(STUDY + text, encoding="utf-8")
        return read_study(path)

    return make


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Ask, simulate and collect once, with people who differ."""
    folder = tmp_path_factory.mktemp("lapses")
    (folder / "study.toml").write_text(STUDY + LAPSES + "spread = 0.5\n", encoding="utf-8")
    question = ask_lapses(read_study(folder / "study.toml"))
    return question, run_lapses(question, folder / "work", Local(1)), folder / "work"


def test_the_question_is_what_the_file_says(study):
    made = ask_lapses(study())
    assert made.plan.participants == {"one": 60} and made.people == 60
    assert made.least == (NO_RULE, 0.6, 1.0)
    assert made.treatments == ("ignored", "known", "estimated", "catch")
    assert made.rules.to_table() == {"missing_response": "drop"}  # careless people are fast, so times would find them
    assert made.asked.moderator == "depth" and made.asked.ends == (0.0, 1.0)
    assert made.asked.centre == pytest.approx(0.5, abs=0.02)
    plan = made.scenario(0.1, 0.2)
    assert plan.careless == 12 and plan.spec.family.lapse == 0.1 and made.plan.spec.family.lapse == 0
    other = ask_lapses(study("[lapses]\nexperiment = 'two'\nother_rules = true\nrules = [0.5, 0.6, 0.9, 1.0]\n"))
    assert other.people == 30 and other.rules.total_time_min == 60
    assert other.least == (NO_RULE, 0.5, 0.9)  # of three trials, 0.6 asks for two as 0.5 does, and 1 for three as 0.9
    assert ask_lapses(study(""), simulations=5).simulations == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("experiment = 'oen'", r"experiment is 'oen' \(did you mean 'one'\?\)"),
        ("rates = [0.6]", "rates holds 0.6; allowed are rates below 0.5"),
        ("rates = []", "rates"),
        ("treatments = ['guessed']", "treatments"),
        ("careless = [1.2]", "careless"),
        ("simulations = 1", "simulations"),
        ("rate = [0]", r"unknown key 'rate' in \[lapses\] \(did you mean 'rates'"),
    ],
)
def test_what_cannot_be_asked_is_refused(study, text, words):
    with pytest.raises(StudyError, match=words):
        ask_lapses(study(f"[lapses]\n{text}\n"))


def test_tasks_are_named_and_more_of_them_only_add(study):
    few, many = (ask_lapses(study(), simulations=count) for count in (2, 5))
    names = [task.name for task in lapse_tasks(many)]
    assert len(set(names)) == len(names) == 5 * 4
    assert [task.name for task in lapse_tasks(few)] == names[: 2 * 4]
    assert few.identity == many.identity
    assert few.identity != replace(few, seed=2).identity != replace(few, spread=0.1, seed=2).identity


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_lapses_take_their_share_of_every_difference_exactly(study, spread):
    question = replace(ask_lapses(study()), spread=spread)
    table = true_contrasts(question).pivot_table(index="quantity", columns="lapse", values="truth")
    assert len(table) == 2
    np.testing.assert_allclose(table[0.1] / table[0.0], attenuation(lapse=0.1, guess=0.5), rtol=1e-12)


def test_every_way_of_analysis_sees_the_same_trials(asked):
    _, runs, _ = asked
    assert len(runs) == 3 * 4 * 3 * 4 * 2
    assert (runs["failed"] != "").mean() < 0.1
    assert (runs["estimate"].isna() == (runs["failed"] != "")).all()
    none = runs[runs["rule"] == NO_RULE]
    assert (none["participants"] == 60).all()
    # A treatment that knows a rate of 0 is one that ignores it.
    wide = runs[(runs["lapse"] == 0) & (runs["quantity"] == CONTRAST)]
    wide = wide.pivot_table(index=["careless", "simulation", "rule"], columns="treatment", values="estimate")
    np.testing.assert_array_equal(wide["ignored"], wide["known"])
    assert runs.loc[runs["treatment"].isin(["ignored", "known"]), "rate"].isna().all()
    estimated = runs[runs["treatment"] == "estimated"]
    assert (estimated["at_end"] == (estimated["rate"] == 0)).all()
    # From catch trials the rate is that of everybody, so that 10 % careless people look like lapses.
    caught = runs[(runs["treatment"] == "catch") & (runs["lapse"] == 0.1)].groupby("careless")["rate"].mean()
    assert caught[0.0] == pytest.approx(0.1, abs=0.05)
    assert caught[0.1] == pytest.approx(0.1 * 0.5 + 0.9 * 0.1, abs=0.06)


def test_what_was_done_is_not_done_again(asked):
    question, runs, folder = asked
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    pd.testing.assert_frame_equal(run_lapses(question, folder, Local(1)), runs)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")} == before
    task = lapse_tasks(question)[3]
    again = collect(question, [(task, work(question, dict(task.values)))])
    there = runs.merge(again[["lapse", "careless", "simulation"]].drop_duplicates())
    pd.testing.assert_frame_equal(again, there)


def test_the_closed_forms_hold_in_the_simulations(asked):
    question, runs, _ = asked
    made = summarise(question, runs)
    gone = made.dismissals
    assert len(gone) == 4 * 2
    z = (gone["simulated"] - gone["expected"]) / np.maximum(gone["simulated_se"], 0.8)
    assert np.abs(z).max() < 4
    left = made.attenuations[made.attenuations["quantity"] == CONTRAST]
    assert left["left"].tolist() == pytest.approx([1, 0.9, 0.8, 0.72])
    z = (left["estimate"] - left["expected"]) / np.maximum(left["estimate_se"], 0.012)
    assert np.abs(z).max() < 4


def fake(careless, simulations, seed, *, effect=0.05, noise=0.02, loss=1.3, failed=0):
    """Give runs of an estimator in closed form: careless people take their share, a rule costs precision alone."""
    rng = np.random.default_rng(seed)
    drawn = pd.DataFrame({"simulation": range(simulations), "common": rng.normal(size=simulations)})
    drawn["own"] = rng.normal(size=simulations)
    table = drawn.merge(pd.DataFrame({"careless": careless}), "cross").merge(
        pd.DataFrame({"rule": [NO_RULE, 0.6]}), "cross"
    )
    ruled = table["rule"] > NO_RULE
    table["sd"] = noise * np.where(ruled, np.sqrt(loss), 1.0)
    error = table["common"] + np.where(ruled, np.sqrt(loss - 1), 0.0) * table["own"]
    table["estimate"] = effect * (1.0 - np.where(ruled, 0.0, table["careless"])) + noise * error
    table.loc[~ruled & (table["simulation"] < failed), "estimate"] = np.nan
    table = table.assign(lapse=0.0, treatment="ignored", quantity=CONTRAST, truth=effect)
    low, high = table["estimate"] - 1.96 * table["sd"], table["estimate"] + 1.96 * table["sd"]
    fixed = {"failed": "", "singular": False, "participants": 10, "trials": 100, "rate": np.nan, "at_end": False}
    return table.assign(conf_low=low, conf_high=high, **fixed)


@pytest.fixture
def faked(study):
    """A question of which only the closed forms are used: a rule that dismisses half of the careless."""
    return replace(ask_lapses(study()), rates=(0.0,))


GRID = np.round(np.arange(0.0, 0.41, 0.04), 2).tolist()


def test_the_break_even_is_where_bias_outweighs_precision(faked):
    # MSE without a rule: (c 0.05)^2 + 0.02^2; with it: 1.3 * 0.02^2. They are equal at c = 0.02 sqrt(0.3) / 0.05.
    expected = 0.02 * np.sqrt(0.3) / 0.05
    made = pd.concat(break_even(faked, fake(GRID, 1500, seed)) for seed in range(12))
    rmse = made[made["measure"] == "rmse"]
    assert (rmse["verdict"] == "from").all()
    spread = rmse["careless"].std()
    assert rmse["careless"].mean() == pytest.approx(expected, abs=4 * spread / np.sqrt(12) + 0.002)
    assert rmse["careless_se"].mean() == pytest.approx(spread, rel=0.6)
    power = made[made["measure"] == "power"]
    assert power["careless"].notna().all()


def test_the_expected_error_is_that_of_the_closed_forms(faked):
    made = differences(faked, fake([0.0, 0.1, 0.2], 300, 5)).set_index("careless")
    careful, noise, ruled = 1 - 0.98**3 - 3 * 0.98**2 * 0.02, 0.02, 0.02 * np.sqrt(1.3)
    for share in (0.0, 0.1, 0.2):
        left = 0.5 * share / (0.5 * share + (1 - careful) * (1 - share))
        expected = np.hypot(0.05 * left, ruled) - np.hypot(0.05 * share, noise)
        assert made.loc[share, "expected"] == pytest.approx(expected, abs=1e-12)
        assert made.loc[share, "expected_se"] == pytest.approx(0, abs=1e-12)  # all standard errors are alike
    # Equal where 0.05^2 (c^2 - left^2) = 0.3 * 0.02^2, with left nearly c / (2 - c).
    at = break_even(faked, fake(GRID, 300, 5)).set_index("measure").loc["expected", "careless"]
    left = 0.5 * at / (0.5 * at + (1 - careful) * (1 - at))
    assert at**2 - left**2 == pytest.approx(0.3 * 0.02**2 / 0.05**2, rel=0.02)


def test_power_and_error_are_those_of_a_normal_estimator():
    from scipy import stats

    made = performance(fake([0.0, 0.4], 4000, 1)).set_index(["careless", "rule"])
    for share, rule in ((0.0, NO_RULE), (0.4, NO_RULE), (0.0, 0.6)):
        row, sd = made.loc[share, rule], 0.02 * (np.sqrt(1.3) if rule else 1.0)
        mean = 0.05 * (1.0 if rule else 1.0 - share)
        power = stats.norm.sf(1.96 - mean / sd) + stats.norm.cdf(-1.96 - mean / sd)
        assert row["power"] == pytest.approx(power, abs=4 * row["power_se"])
        assert row["bias"] == pytest.approx(mean - 0.05, abs=4 * row["bias_se"])
        assert row["rmse"] == pytest.approx(np.hypot(mean - 0.05, sd), abs=4 * row["rmse_se"])
        assert row["rmse_se"] < 0.0003
    assert made.loc[(0.0, 0.6), "coverage"] == pytest.approx(0.95, abs=0.015)
    assert made.loc[(0.4, NO_RULE), "coverage"] == pytest.approx(stats.norm.cdf(2.96) - stats.norm.cdf(-0.96), abs=0.03)


def test_differences_are_paired(faked):
    runs = fake([0.1], 800, 2)
    made = differences(faked, runs).iloc[0]
    by = runs.set_index(["simulation", "rule"])
    hit = (by["conf_low"] > 0) | (by["conf_high"] < 0)
    with_rule, without = (hit.xs(rule, level="rule").to_numpy() for rule in (0.6, NO_RULE))
    b, c, n = (with_rule & ~without).sum(), (~with_rule & without).sum(), 800
    assert made["power"] == pytest.approx((b - c) / n)
    assert made["power_se"] == pytest.approx(np.sqrt(b + c - (b - c) ** 2 / n) / n, rel=0.02)  # McNemar
    means = performance(runs).set_index("rule")
    assert made["rmse"] == pytest.approx(means.loc[0.6, "rmse"] - means.loc[NO_RULE, "rmse"])
    unpaired = np.hypot(means.loc[0.6, "rmse_se"], means.loc[NO_RULE, "rmse_se"])
    assert made["rmse_se"] < 0.8 * unpaired
    many = pd.concat(differences(faked, fake([0.1], 200, seed)) for seed in range(40))
    assert many["rmse_se"].mean() == pytest.approx(many["rmse"].std(), rel=0.3)


def test_a_fit_that_failed_is_not_detected_and_counts_nowhere_else(faked):
    whole, some = (performance(fake([0.0], 400, 3, failed=failed)) for failed in (0, 100))
    row = some[some["rule"] == NO_RULE].iloc[0]
    assert row["failed"] == 100 and row["simulations"] == 400
    assert row["power"] < 0.8 * whole[whole["rule"] == NO_RULE].iloc[0]["power"]
    assert row["rmse"] == pytest.approx(0.02, abs=0.003)
    assert differences(faked, fake([0.0], 400, 3, failed=100)).iloc[0]["pairs"] == 300


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        ({"loss": 1.0001}, "end"),
        ({"effect": 0.0}, "never"),
        ({"noise": 0.02, "loss": 1.0, "effect": 0.0}, "open"),
    ],
)
def test_what_the_simulations_do_not_tell_is_open(faked, settings, verdict):
    made = break_even(faked, fake([0.1, 0.2], 400, 4, **settings))
    assert made[made["measure"] == "rmse"].iloc[0]["verdict"] == verdict
    assert np.isnan(made[made["measure"] == "rmse"].iloc[0]["careless"]) or verdict in ("open", "end")


def test_a_gain_at_the_largest_share_alone_is_said_to_be_there(faked):
    made = break_even(faked, fake([0.0, 0.4], 40, 7, loss=1.02)).set_index("measure").loc["rmse"]
    assert made["verdict"] == "end" and made["careless"] == 0.4 and np.isnan(made["careless_se"])
    sure = break_even(faked, fake([0.0, 0.4], 300, 6, loss=1.02)).set_index("measure").loc["rmse"]
    assert sure["verdict"] == "from" and 0 < sure["careless"] < 0.2


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((-1.0, 10.0, 30.0), ("end", 1)),
        ((0.0, 30.0, 50.0), ("end", 1)),
        ((5.0, 30.0, 50.0), ("always", 0)),
        ((-5.0, 10.0, 30.0), ("from", 1)),
        ((-5.0, -1.0, -1.0), ("never", 3)),
        ((1.0, 1.0, 1.0), ("open", 3)),
        ((30.0, 1.0, 1.0), ("open", 3)),
    ],
)
def test_a_verdict_is_of_clear_gains_alone(gains, verdict):
    rng = np.random.default_rng(1)
    noise = rng.normal(size=400)
    noise = (noise - noise.mean()) / noise.std() * np.sqrt(400)  # a standard error of 1
    influence = [pd.Series(noise) for _ in gains]
    assert _verdict(list(gains), influence, 0.05) == verdict


def test_shares_are_of_whole_people(study):
    with pytest.raises(StudyError, match=r"careless holds 0\.05 and 0\.055, which are as many of 60 participants"):
        ask_lapses(study("[lapses]\nrates = [0]\ncareless = [0, 0.05, 0.055, 0.2]\n"))
    made = ask_lapses(study("[lapses]\nrates = [0]\ncareless = [0, 0.06]\n"))
    assert made.share_of(0.0, 0.06) == pytest.approx(4 / 60)


def test_with_other_rules_no_closed_form_is_taken(study, tmp_path):
    question = ask_lapses(study(LAPSES + "other_rules = true\n"))
    summary = summarise(question, run_lapses(question, tmp_path / "work", Local(1)))
    rows = summary.break_even.set_index("measure")
    assert (rows.loc["expected", "verdict"] == "open").all()
    assert "expected error" not in repr(chapter_lapses(question, summary).summary)


def test_rules_are_called_by_what_they_ask_for():
    assert [name_rule(least, 3) for least in (0.0, 0.6, 0.7, 1.0)] == [
        "no rule",
        "2 of 3 right",
        "3 of 3 right",
        "3 of 3 right",
    ]


def words_of(block):
    return "".join(run.text for run in block) if isinstance(block, tuple) else str(block)


def test_the_section_says_what_was_found(asked, tmp_path):
    question, runs, _ = asked
    made = summarise(question, runs)
    figures = draw(question, made, tmp_path)
    assert set(figures) == {"lapses", "catch_rules_expected", "catch_rules_power"}
    assert all(path.exists() for path in figures.values())
    blocks = compose_lapses(question, made, figures)
    assert sum(isinstance(block, Figure) for block in blocks) == 3
    tables = [block for block in blocks if isinstance(block, Table)]
    assert [len(table.frame) for table in tables] == [4 * 3 * 4, 4 * 2, 4 * 2]
    points = [words_of(item) for block in blocks if hasattr(block, "items") for item in block.items]
    assert points[0].startswith("A lapse rate of 10 % leaves 80 % of the difference")
    assert any("The rule 2 of 3 right dismisses 50 % of people who guess" in point for point in points)
    assert any(point.startswith("Against no rule, 3 of 3 right: expected error is ") for point in points)
    assert "simulated participants" in words_of(blocks[1].words)
    alone = replace(question, least=(NO_RULE,), treatments=("ignored",))
    some = summarise(alone, runs[(runs["rule"] == NO_RULE) & (runs["treatment"] == "ignored")])
    assert some.differences.empty and some.break_even.empty and some.dismissals.empty
    assert len(compose_lapses(alone, some, draw(alone, some, tmp_path))) == 5


def test_nothing_done_is_nothing_said(study):
    question = ask_lapses(study())
    with pytest.raises(InputError, match="no simulation"):
        summarise(question, collect(question, []))


def draw(question, summary, folder):
    return {name: save_figure(plot, folder / name, png=True) for name, plot in plot_summary(question, summary).items()}


def test_the_chapter_has_what_the_folder_of_a_report_knows(asked):
    question, runs, _ = asked
    chapter = chapter_lapses(question, summarise(question, runs))
    assert set(chapter.plots) <= set(FIGURES) and set(chapter.tables) <= set(WHOLE)
    assert words_of(chapter.summary[0]).startswith("A lapse rate of 10 % leaves 80 % of the difference")
    assert len(chapter.summary) == len(question.least)
