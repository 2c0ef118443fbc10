"""A study simulated and analysed once gives what is known in closed form, and says why where it gives nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from studies import DATA, SMALL

from psychostats.exclusions import Exclusions
from psychostats.replications import Asked, Procedure, learn, replicate, true_values
from psychostats.sampling import Settings
from psychostats.simulate import Plan, simulate_trials
from psychostats.spec import specify
from psychostats.study import read_study

PLAIN = Procedure("plain", specify("correct ~ representation"))


def plain_plan(**changes: object) -> Plan:
    """Return a plan without group effects."""
    return replace(read_study(DATA / "plain.toml").plan(), **changes)  # type: ignore[arg-type]


def wald(trials: pd.DataFrame) -> tuple[float, float]:
    """Return the difference of two shares and its standard error."""
    groups = [rows["correct"].astype(float) for _, rows in trials.groupby("representation", observed=True)]
    p, n = np.array([rows.mean() for rows in groups]), np.array([len(rows) for rows in groups])
    return float(p[1] - p[0]), math.sqrt(float((p * (1 - p) / n).sum()))


@pytest.mark.parametrize("seed", [1, 2])
def test_without_group_effects_it_is_the_difference_of_two_shares(seed: int) -> None:
    plan = plain_plan()
    found = replicate(plan, seed, [PLAIN], Asked("representation"))["plain"]
    (numbers,) = found["quantities"].values()
    estimate, se = wald(simulate_trials(plan, seed))
    assert (found["participants"], found["trials"], found["failed"], found["singular"]) == (30, 300, None, False)
    z = stats.norm.ppf(0.975)
    known = (estimate, se, estimate - z * se, estimate + z * se)
    assert tuple(numbers.values()) == pytest.approx(known, rel=1e-5)


def test_the_truth_is_of_the_mean_response() -> None:
    known = special.expit(0.7) - special.expit(0.2)
    assert true_values(plain_plan(), Asked("representation")) == pytest.approx({"distributed - local": known})
    lapsing = replace(plain_plan(), spec=specify("correct ~ representation", family="afc", lapse=0.1))
    assert true_values(lapsing, Asked("representation"))["distributed - local"] == pytest.approx(0.4 * known)


def test_what_the_analysis_lacks_is_averaged_over_in_the_truth() -> None:
    """A steep moderator that the model leaves out: at its mean the difference is another one."""
    base = read_study(SMALL).plan()
    b = {"b_Intercept": -4.0, "b_representationdistributed": 0.0, "b_depth": 3.0}
    truth = {"first": b | {"b_representationdistributed:depth": 4.0}}
    spec = specify("correct ~ representation * depth")
    plan = replace(base, participants={"first": 20}, spec=spec, truth=truth, careless=0)
    depth = learn(plan)[1]["depth"].to_numpy(dtype=float)
    known = (special.expit(-4 + 7 * depth) - special.expit(-4 + 3 * depth)).mean()
    asked = Asked("representation", predictors=("representation",))
    assert true_values(plan, asked) == pytest.approx({"distributed - local": known})
    both = replace(asked, moderator="depth", centre=0.5, predictors=("representation", "depth"))
    assert true_values(plan, both) == pytest.approx({"distributed - local": special.expit(-0.5) - special.expit(-2.5)})


def test_all_procedures_see_the_same_trials_and_exclusions_are_their_own() -> None:
    base = read_study(SMALL).plan()
    plan = replace(base, participants={"first": 20}, spec=specify("correct ~ representation * depth"))
    plan = replace(plan, truth={"first": {name: v for name, v in base.truth["first"].items() if name[:2] == "b_"}})
    spec = specify("correct ~ representation * depth")
    strict = Procedure("strict", spec, Exclusions(catch_accuracy_min=0.9, missing_response="drop"))
    asked = Asked("representation", 0.9, "depth", 0.5, (0.0, 1.0))
    found = replicate(plan, 3, [Procedure("all", spec), Procedure("again", spec), strict], asked)
    assert found["all"] == found["again"]
    assert found["strict"]["participants"] < found["all"]["participants"] == 20
    assert list(found["all"]["quantities"]) == list(true_values(plan, asked))
    assert len(found["all"]["quantities"]) == 2


def test_why_there_is_no_fit_is_a_result() -> None:
    perfect = plain_plan(truth={"only": {"b_Intercept": 30.0, "b_representationdistributed": 0.0}})
    found = replicate(perfect, 1, [PLAIN], Asked("representation"))["plain"]
    assert found["failed"] and found["quantities"] == {}
    none = Procedure("none", PLAIN.spec, Exclusions(trials_recorded_min=99))
    assert replicate(plain_plan(), 1, [none], Asked("representation"))["none"]["failed"]


def test_the_sampler_sees_the_same_trials() -> None:
    settings = Settings(200, 200, 2, 1, 0.85)
    sampled = Procedure("nuts", PLAIN.spec, engine="nuts", settings=settings)
    both = replicate(plain_plan(), 4, [PLAIN, sampled], Asked("representation"))
    (one,), (other,) = (list(both[name]["quantities"].values()) for name in ("plain", "nuts"))
    assert abs(one["estimate"] - other["estimate"]) < 0.5 * one["sd"]
    assert other["sd"] == pytest.approx(one["sd"], rel=0.25)


def test_what_a_model_is_learned_from_has_every_level() -> None:
    coding, main = learn(replace(read_study(SMALL).plan(), participants={"first": 12}))
    assert coding.levels["representation"] == ("local", "distributed")
    assert main["phase"].eq("main").all() and not main["catch"].any() and main["correct"].notna().all()
