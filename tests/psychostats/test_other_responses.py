"""The report of a response that is no accuracy: its words, units and numbers are those of the response."""

from __future__ import annotations

import html
import re

import pandas as pd
import pytest
from studies import Made, make_report, study_of

from psychostats.document import Text
from psychostats.errors import InputError, StudyError
from psychostats.measure import ACCURACY, Measure, points_interval
from psychostats.reanalysis import Side, reanalyse
from psychostats.sentences import say_difference
from psychostats.simulation import write_simulation
from psychostats.study import read_study

SCORES = """
[study]
name = "scores"
title = "A score by method"
simulated = true
[levels]
method = ["old", "new"]
[exclusions]
rt_min = 0.2
[design]
assignment = "between"
participants = { lab = 24 }
item = "task"
pairs = 12
main = 10
[simulate]
formula = "score ~ method + (1 | participant)"
family = "gaussian"
[simulate.truth.lab]
b_Intercept = 50.0
b_methodnew = 12.0
sigma = 8.0
sd_participant__Intercept = 3.0
[[models]]
name = "main"
formula = "score ~ method + (1 | participant)"
family = "gaussian"
draws = 600
[effects]
factor = "method"
[report]
response = "the mean {score} of a test"
unit = "IQ points"
digits = 1
"""


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("scores")
    (folder / "study.toml").write_text(SCORES, encoding="utf-8")
    write_simulation(read_study(folder / "study.toml"), folder / "trials.csv")
    return make_report(folder / "study.toml", folder / "trials.csv", folder / "report")


def words_of(made: Made) -> str:
    page = re.sub(r"(?s)<(style|script|svg).*?</\1>", "", made.html)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def test_nothing_is_said_of_accuracy(scores):
    text = words_of(scores)
    for word in ("ccurac", "correct answer", "percentage points", "odds", "ROPE", "neuron", "feature", "logit"):
        assert word not in text, word
    assert "each participant had one level of method" in text
    assert "score of trial i is normally distributed around η" in text
    assert not any("calibration" in name or "accuracy.csv" in name for name in scores.files())


def test_the_sentence_gives_the_numbers_of_the_tables_in_their_unit(scores):
    analysis = scores.analysis
    result = analysis.main[0]
    rows = result.headline
    row = rows[(rows["target"] == "population") & (rows["scale"] == "difference")].to_dict("records")[0]
    said = (
        f"The mean {{score}} of a test was higher for new than for old: {_mean(result, 'new'):.1f} against "
        f"{_mean(result, 'old'):.1f}, a difference of +{row['estimate']:.1f} IQ points "
    )
    assert said in re.sub(r" +", " ", words_of(scores))
    assert row["conf_low"] < 12.0 < row["conf_high"]
    assert not (rows["scale"] == "odds_ratio").any()


def _mean(result, level: str) -> float:
    means = result.means
    return float(means.loc[(means["method"] == level) & (means["target"] == "population"), "estimate"].iloc[0])


def test_raw_means_are_those_of_the_trials(scores):
    trials = pd.read_csv(scores.trials)
    trials = trials[trials["rt"] >= 0.2]
    table = pd.read_csv(scores.out / "tables" / "lab_raw.csv").set_index("method")
    expected = trials.groupby("method")["score"].agg(["size", "sum", "mean"])
    for level, row in expected.iterrows():
        assert table.loc[level, ["n", "sum", "mean"]].tolist() == pytest.approx(row.tolist())


def test_the_truth_stands_beside_its_estimate_with_sigma(scores):
    terms = pd.read_csv(scores.out / "tables" / "lab_terms.csv").set_index("term")
    assert terms.loc["sigma", "conf_low"] < 8.0 < terms.loc["sigma", "conf_high"]
    row = re.search(r"sigma 8\.00 (\d+\.\d+) \[", re.sub(r" +", " ", words_of(scores)))
    assert row
    assert float(row[1]) == pytest.approx(terms.loc["sigma", "estimate"], abs=0.006)


def test_a_measure_prints_its_numbers():
    time = Measure("rt", "mean response time", "s", 3)
    row = {"estimate": 0.25, "conf_low": -0.0004, "conf_high": 0.5}
    assert time.interval(row) == "+0.250 [−0.0004, +0.500]"
    assert time.value_interval(row) == "0.250 [0.000, 0.500]"
    assert (time.axis, time.units, time.is_share) == ("Mean response time (s)", "s", False)
    yes = Measure("said_yes", "the share of yes answers")
    assert (yes.title, yes.units, yes.is_accuracy) == ("Share of yes answers", "percentage points", False)
    assert yes.interval(row) == points_interval(row) == ACCURACY.interval(row) == "+25.0 [−0.04, +50.0]"


def test_braces_in_a_name_are_no_placeholders():
    row = {"estimate": 1.0, "conf_low": 0.5, "conf_high": 1.5, "conf_level": 0.95, "interval": "eti"}
    row |= {"pd": 1.0, "rope_share": float("nan")}
    words = say_difference("", ("a", "b"), (row, row), row, None, measure=Measure("x", "{x}", "{u}"))
    text = "".join(run.text for run in words if isinstance(run, Text))
    assert text.startswith("{x} was higher for b than for a: 1.00 against 1.00")
    assert " {u} (95" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('[joint]\nformula = "score ~ experiment"', r"\[joint\] is about accuracy, the response 'correct'"),
        ('[[models]]\nname = "b"\nformula = "rt ~ method"\nfamily = "gaussian"', "model 'b' is about another response"),
        (
            '[[models]]\nname = "b"\nformula = "cbind(a, b) ~ method"\nfamily = "binomial"',
            "model 'b': the report is about single trials",
        ),
    ],
)
def test_what_the_report_cannot_say_is_refused(tmp_path, change, said):
    body = SCORES[SCORES.index("[[models]]") : SCORES.index("[effects]")]
    with pytest.raises(StudyError, match=said):
        study_of(tmp_path, f'{body}\n{change}\n[effects]\nfactor = "method"')


def test_a_reanalysis_of_scores_is_refused(tmp_path):
    study = study_of(tmp_path, SCORES[SCORES.index("[[models]]") : SCORES.index("[report]")])
    side = Side("old", pd.DataFrame())
    with pytest.raises(InputError, match="a reanalysis is about answers that are right or wrong; gaussian has none"):
        reanalyse(study, side, side, tmp_path)


def test_an_opinion_on_correct_trials_needs_to_know_which_are(tmp_path):
    text = SCORES + "[[opinions]]\nresponse = 'rt'\n"
    text = text[text.index("[levels]") :]
    assert "correct" in study_of(tmp_path, text).needed()
    assert "correct" not in study_of(tmp_path, f"{text}trials = 'all'\n").needed()
