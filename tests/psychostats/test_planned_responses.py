"""Plans and multiverses of yes answers, scores and times: in the words and units of the response."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from studies import ROOT

from psychostats.characteristics import fit_curve
from psychostats.errors import InputError
from psychostats.executors import Local
from psychostats.measure import Measure
from psychostats.multiverse import run_multiverse
from psychostats.multiverse_plan import plan_multiverse
from psychostats.multiverse_section import compose_multiverse
from psychostats.multiverse_sentences import describe_multiverse, tabulate_summary
from psychostats.planning import Size, ask
from psychostats.power import Power, estimate_power
from psychostats.power_section import chapters_of, compose_power
from psychostats.power_sentences import describe_designs, say_own, width
from psychostats.simulation import write_simulation
from psychostats.study import Study, read_study

GALLERY = ROOT / "data" / "studies"
SCORES = """
[study]
name = "scores"
title = "Scores of two groups"
simulated = true

[levels]
training = ["without", "with"]

[design]
assignment = "within"
participants = { lab = 16 }
item = "text"
pairs = 8
main = 8

[simulate]
formula = "FORMULA"
family = "FAMILY"

[simulate.truth.lab]
b_Intercept = 1.0
b_trainingwith = 0.8
sd_participant__Intercept = 0.4
sigma = 0.5

[[models]]
name = "main"
formula = "FORMULA"
family = "FAMILY"

[effects]
factor = "training"

[report]
unit = "marks"

[multiverse.codings]
"""
CURVES = defaultdict(lambda: Path("figure.svg"))


def scores(folder: Path) -> Study:
    """Return a study of measurements, whose file is written."""
    text = SCORES.replace("FORMULA", "score ~ training + (1 | participant)").replace("FAMILY", "gaussian")
    (folder / "scores.toml").write_text(text, encoding="utf-8")
    return read_study(folder / "scores.toml")


def planned(study: Study, folder: Path) -> Power:
    """Return what four studies of each of two designs say."""
    given = {"participants": (8, 12), "simulations": 4, "nuts": 0, "precision": 0.4}
    return estimate_power(ask(study, given), folder, Local(1))


def all_words(found: Power) -> str:
    """Return everything that a plan says, but for the anchors of its tables."""
    document = compose_power(found, chapters_of(found), CURVES, "")
    return "\n".join([describe_designs(found), *say_own(found), repr(document)]).replace("table-accuracy", "")


def test_a_plan_of_yes_answers_has_neither_accuracy_nor_items(tmp_path: Path) -> None:
    found = planned(read_study(GALLERY / "detection.toml"), tmp_path)
    words = all_words(found)
    assert "accuracy" not in words and "features" not in words and "Features" not in words
    assert "differences of the share of yes answers" in words and "percentage points" in words
    assert {size.name for size in found.question.sizes} == {"p8-m80", "p12-m80"}
    row = found.wished.iloc[0].to_dict()
    assert width(found.question, row, "half_width").startswith(f"{100 * row['half_width']:.1f} [")
    with pytest.raises(InputError, match="the study has no items"):
        ask(found.question.study, {"pairs": (8,)})


def test_a_plan_of_scores_is_in_their_unit(tmp_path: Path) -> None:
    found = planned(scores(tmp_path), tmp_path / "out")
    words, row = all_words(found), found.wished.iloc[0].to_dict()
    assert "accuracy" not in words and "percentage points" not in words and "features" not in words
    assert "differences of mean score" in words and "8 texts" in words and "at most 0.40 marks" in words
    assert width(found.question, row, "half_width").startswith(f"{row['half_width']:.2f} [")
    assert row["true"] == pytest.approx(0.8)
    assert (found.null["true"] == 0.0).all() and not found.null["failed"].any()


def test_a_wish_of_precision_has_the_bounds_of_its_unit(tmp_path: Path) -> None:
    assert ask(scores(tmp_path), {"precision": 2.5}).precision == 2.5
    with pytest.raises(InputError, match=r"precision is 0; it is half the width .* in marks, above 0"):
        ask(scores(tmp_path), {"precision": 0.0})
    with pytest.raises(InputError, match="of a difference of probabilities"):
        ask(read_study(GALLERY / "groups.toml"), {"precision": 2.5})


@pytest.mark.parametrize(("name", "family"), [("confidence", "cumulative"), ("response_time", "shifted_lognormal")])
def test_what_maximum_likelihood_cannot_fit_is_refused_by_name(name: str, family: str, tmp_path: Path) -> None:
    study = read_study(GALLERY / f"{name}.toml")
    with pytest.raises(InputError, match=f"cannot fit the family {family} of model 'main'"):
        ask(study, {})
    write_simulation(study, tmp_path / "trials.csv")
    with pytest.raises(InputError, match=f"model 'main', whose family is {family}"):
        plan_multiverse(study, tmp_path / "trials.csv")


def test_without_items_precision_is_of_people_and_trials_alone() -> None:
    designs = [(10, 20, 0), (40, 20, 0), (40, 80, 0)]
    sds = [(2.0 / people + 6.0 / (people * main)) ** 0.5 for people, main, _ in designs]
    curve = fit_curve(designs, sds, 1.0, 0.95)  # type: ignore[arg-type]
    assert curve.parts == pytest.approx((0.0, 2.0, 6.0)) and curve.sd(40, 20, 0) == pytest.approx(sds[1])
    assert replace(curve, parts=(9.0, 2.0, 6.0)).sd(40, 20, 0) == pytest.approx(sds[1])  # of items there are none
    assert Size(8, 80, 0).describe("features") == "8 participants, 80 trials each"
    assert Size(8, 8, 9).describe("texts") == "8 participants, 8 trials each, 9 texts"


def test_a_width_has_no_sign_and_the_unit_of_its_response() -> None:
    assert Measure("said_yes", "the share of yes answers").width(0.0312) == "3.1"
    assert Measure("rt", "mean response time", "s", 3).width(0.0312) == "0.031"


@pytest.mark.parametrize("family", ["gaussian", "bernoulli"])
def test_a_multiverse_is_in_the_units_of_the_response(family: str, tmp_path: Path) -> None:
    study = scores(tmp_path)
    if family == "bernoulli":
        text = (GALLERY / "detection.toml").read_text(encoding="utf-8") + "\n[multiverse.codings]\n"
        text = text.replace("lab = 32", "lab = 10") + "[multiverse.groups]\n" + '"intercepts" = "(1 | participant)"\n'
        (tmp_path / "detection.toml").write_text(text, encoding="utf-8")
        study = read_study(tmp_path / "detection.toml")
    write_simulation(study, tmp_path / "trials.csv")
    found = run_multiverse(plan_multiverse(study, tmp_path / "trials.csv"), tmp_path / "results", Local(1))
    words = describe_multiverse(found)
    document = repr(compose_multiverse(found, CURVES, "")) + words
    assert "accuracy" not in document and ("percentage points" in document) == (family == "bernoulli")
    row = tabulate_summary(found).iloc[0]
    shown = f"+{100 * row['estimate']:.1f} [" if family == "bernoulli" else f"+{row['estimate']:.2f} ["
    assert shown in words
    assert (
        "percentage points of the share of yes answers" if family == "bernoulli" else "mean score (marks)"
    ) in document
