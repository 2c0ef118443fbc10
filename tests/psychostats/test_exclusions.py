"""Exclusion rules: each removes exactly what is planted for it, and the counts add up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psychostats.columns import analysed
from psychostats.errors import DataError, InputError, StudyError
from psychostats.exclusions import Exclusions, apply_exclusions
from psychostats.parts import LeftOut
from psychostats.rules import PREDECESSOR, predecessor_sources
from psychostats.trials import read_trials

COUNTS = ["participants_removed", "trials_removed", "participants_left", "trials_left"]


def person(name: str, experiment: str = "natural") -> pd.DataFrame:
    """Two practice, ten main, two catch and one repeated trial, all correct, one second each, sides balanced."""
    phase = ["practice"] * 2 + ["main"] * 12 + ["repeat"]
    return pd.DataFrame(
        {
            "participant": name,
            "experiment": experiment,
            "phase": phase,
            "catch": [False] * 12 + [True] * 2 + [False],
            "correct": np.int8(1),
            "rt": 1.0,
            "response": (["left", "right"] * 8)[: len(phase)],
            "session": f"of {name}",
            "instruction_time": 20.0,
            "practice_attempts": 1,
        }
    )


def people(**changes: dict[str, list[Any]]) -> pd.DataFrame:
    """Three blameless people, and one more for each name given, with the cells of the columns given."""
    clean = [person(name) for name in ("a", "b", "c")]
    return pd.concat([*clean, *(person(name).assign(**cells) for name, cells in changes.items())], ignore_index=True)


def cells(usual: Any, **other: Any) -> list[Any]:
    """Fifteen cells, `usual` but for the positions given as ``at3=value``."""
    return [other.get(f"at{position}", usual) for position in range(15)]


def removed(frame: pd.DataFrame, **rules: Any) -> tuple[set[str], int]:
    """Return the people the rules remove, and how many trials of the others beyond what is always set aside."""
    kept = apply_exclusions(frame, Exclusions(**rules)).kept
    gone = set(frame["participant"]) - set(kept["participant"])
    others = frame[~frame["participant"].isin(gone)]
    return gone, int(analysed(others).sum()) - len(kept)


PLANTED: list[tuple[dict[str, list[Any]], dict[str, Any]]] = [
    ({"correct": cells(1, at0=0, at1=0)}, {"practice_accuracy_min": 0.5}),
    ({"correct": cells(1, at12=0, at13=0)}, {"catch_accuracy_min": 0.5}),
    ({"rt": cells(0.5)}, {"total_time_min": 10.0}),
    ({"rt": cells(2.0)}, {"total_time_max": 20.0}),
    ({"response": cells("left")}, {"response_share_max": 0.8}),
    ({"rt": cells(0.1)}, {"rt_min": 0.2}),
    ({"rt": cells(60.0)}, {"rt_max": 30.0}),
    ({"phase": cells("practice", at5="main", at6="main")}, {"trials_recorded_min": 3}),
    ({"instruction_time": cells(14.9)}, {"instruction_time_min": 15}),
    ({"practice_attempts": cells(4)}, {"practice_attempts_max": 3}),
    ({"response": cells("left", at3="right", at13="right", at0="right", at14="right")}, {"response_count_min": 3}),
]


@pytest.mark.parametrize(("offence", "rule"), PLANTED)
def test_each_rule_removes_the_planted_participant_and_no_one_else(
    offence: dict[str, list[Any]], rule: dict[str, Any]
) -> None:
    frame = people(offender=offence)
    assert removed(frame, **rule) == ({"offender"}, 0)
    assert removed(people(), **rule) == (set(), 0)
    assert removed(frame) == (set(), 0)
    flow = apply_exclusions(frame, Exclusions(**rule)).flow
    steps = flow[flow["rule"] != ""]
    assert steps["rule"].tolist() == list(rule)
    assert steps["participants_removed"].tolist() == [1]


def test_limits_are_inclusive() -> None:
    edge = people(edge={"correct": cells(1, at0=0, at12=0), "rt": cells(1.0), "response": cells("left", at3="right")})
    exact = {
        "practice_accuracy_min": 0.5,
        "catch_accuracy_min": 0.5,
        "total_time_min": 12.0,
        "total_time_max": 12.0,
        "response_share_max": 11 / 12,
        "rt_min": 1.0,
        "rt_max": 1.0,
        "trials_min": 10,
        "trials_recorded_min": 10,
        "instruction_time_min": 20,
        "practice_attempts_max": 1,
        "response_count_min": 1,
    }
    assert removed(edge, **exact) == (set(), 0)
    beyond = {**exact, "total_time_max": 11.9, "total_time_min": 11.8}
    assert removed(edge, **beyond)[0] == {"a", "b", "c", "edge"}
    assert removed(edge, catch_accuracy_min=0.51)[0] == {"edge"}
    assert removed(edge, practice_accuracy_min=0.51)[0] == {"edge"}
    assert removed(edge, response_share_max=0.91)[0] == {"edge"}
    assert removed(edge, response_count_min=2)[0] == {"edge"}
    assert removed(edge, trials_recorded_min=11)[0] == {"a", "b", "c", "edge"}


def test_trial_rules_remove_only_the_planted_trials() -> None:
    frame = people(hasty={"rt": cells(1.0, at3=0.05, at4=0.05, at12=0.05)}, slow={"rt": cells(1.0, at5=90.0)})
    assert removed(frame, rt_min=0.1) == (set(), 2)  # the third hasty answer is to a catch trial
    assert removed(frame, rt_max=30.0) == (set(), 1)
    assert removed(frame, rt_min=0.1, trials_min=9) == ({"hasty"}, 0)
    assert removed(frame, rt_min=0.1, trials_min=8) == (set(), 2)


def test_missing_responses_are_dropped_or_refused() -> None:
    frame = people(absent={"correct": cells(1.0, at2=np.nan, at5=np.nan)})
    assert removed(frame, missing_response="drop") == (set(), 2)
    assert apply_exclusions(frame, Exclusions(missing_response="drop")).kept["correct"].dtype == np.int8
    with pytest.raises(InputError, match=r"'correct' is blank in row 47 \(and 1 more\)"):
        apply_exclusions(frame, Exclusions(missing_response="error"))
    assert removed(people(), missing_response="error") == (set(), 0)


def test_who_cannot_be_judged_stays() -> None:
    nothing = person("d").iloc[2:12].assign(rt=np.nan, response=None)  # no practice, no catch trials
    frame = pd.concat([people(), nothing], ignore_index=True)
    rules = dict.fromkeys(("practice_accuracy_min", "catch_accuracy_min", "response_share_max"), 0.9)
    assert removed(frame, **rules, total_time_min=5.0, rt_min=0.5, rt_max=9.0) == (set(), 0)


def test_practice_is_judged_but_never_counted_elsewhere() -> None:
    frame = people(learner={"correct": cells(1, at0=0, at1=0), "rt": cells(1.0, at0=99.0, at14=99.0)})
    assert removed(frame, catch_accuracy_min=1.0, total_time_max=12.0, rt_max=2.0) == (set(), 0)


def test_the_flow_of_a_small_study_in_full() -> None:
    frame = pd.concat(
        [
            people(careless={"correct": cells(1, at12=0, at13=0)}, hasty={"rt": cells(1.0, at3=0.05)}),
            person("z", "mixed"),
        ],
        ignore_index=True,
    )
    flow = apply_exclusions(frame, Exclusions(catch_accuracy_min=0.6, rt_min=0.1)).flow
    assert flow[flow["experiment"] == "natural"].drop(columns="experiment").to_numpy().tolist() == [
        ["all recorded", "", 0, 0, 5, 75],
        ["practice set aside", "", 0, 10, 5, 65],
        ["repeats set aside", "", 0, 5, 5, 60],
        ["participants with catch accuracy below 0.6", "catch_accuracy_min", 1, 12, 4, 48],
        ["catch set aside", "", 0, 8, 4, 40],
        ["trials faster than 0.1 s", "rt_min", 0, 1, 4, 39],
        ["analysed", "", 0, 0, 4, 39],
    ]
    assert flow["experiment"].unique().tolist() == ["mixed", "natural"]
    ordered = frame.assign(experiment=pd.Categorical(frame["experiment"], ["natural", "unused", "mixed"]))
    assert apply_exclusions(ordered, Exclusions()).flow["experiment"].unique().tolist() == ["natural", "mixed"]


def test_people_are_judged_within_each_experiment() -> None:
    again = person("a", "mixed").assign(correct=cells(1, at12=0, at13=0))
    excluded = apply_exclusions(pd.concat([people(), again], ignore_index=True), Exclusions(catch_accuracy_min=0.5))
    assert set(excluded.kept["experiment"]) == {"natural"}
    assert set(excluded.kept["participant"]) == {"a", "b", "c"}


def test_a_table_without_phase_catch_and_experiment_is_all_analysed() -> None:
    frame = pd.DataFrame({"participant": ["a", "a", "b"], "correct": [1, 0, 1], "rt": [1.0, 2.0, 50.0]})
    excluded = apply_exclusions(frame, Exclusions(rt_max=30))
    assert excluded.flow["step"].tolist() == ["all recorded", "trials slower than 30 s", "analysed"]
    assert excluded.flow["experiment"].tolist() == ["all"] * 3
    assert excluded.flow[COUNTS].to_numpy().tolist() == [[0, 0, 2, 3], [1, 1, 1, 2], [0, 0, 1, 2]]
    pd.testing.assert_frame_equal(excluded.kept, frame.iloc[:2].astype({"correct": np.int8}))


@pytest.mark.parametrize(
    ("rule", "column"),
    [
        ({"catch_accuracy_min": 0.8}, "catch"),
        ({"practice_accuracy_min": 0.8}, "phase"),
        ({"rt_max": 30}, "rt"),
        ({"total_time_min": 30}, "rt"),
        ({"response_share_max": 0.9}, "response"),
        ({"response_count_min": 5}, "response"),
        ({"repeat_participation": "first"}, "session"),
        ({"instruction_time_min": 15}, "instruction_time"),
        ({"practice_attempts_max": 3}, "practice_attempts"),
        ({"missing_response": "drop"}, "correct"),
    ],
)
def test_a_rule_whose_column_is_missing_names_rule_and_column(rule: dict[str, Any], column: str) -> None:
    (name,) = rule
    assert column in Exclusions(**rule).needed
    with pytest.raises(InputError, match=f"'{name}' needs column '{column}'"):
        apply_exclusions(people().drop(columns=column), Exclusions(**rule))


def test_cells_that_no_step_provides_for_are_refused() -> None:
    with pytest.raises(DataError, match="'participant' is needed"):
        apply_exclusions(people().drop(columns="participant"), Exclusions())
    with pytest.raises(InputError, match="'phase' holds 'test' in row 3"):
        apply_exclusions(
            people().replace({"phase": {"repeat": "main"}}).replace({"phase": {"main": "test"}}).drop([2]), Exclusions()
        )
    with pytest.raises(InputError, match="'experiment' is blank in row 0"):
        apply_exclusions(people().assign(experiment=None), Exclusions())


def test_the_study_files_table_is_read_and_given_back() -> None:
    table = {"catch_accuracy_min": 0.8, "rt_min": 0.1, "missing_response": "drop", "trials_min": 20}
    rules = Exclusions.from_table(table)
    assert rules.to_table() == table
    assert Exclusions.from_table(rules.to_table()) == rules
    assert rules.needed == {"catch", "correct", "rt"}
    assert Exclusions.from_table({}) == Exclusions()
    assert Exclusions().needed == frozenset()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"catch_acuracy_min": 0.8}, r"'catch_acuracy_min' is unknown \(did you mean 'catch_accuracy_min'\?\)"),
        ({"catch_accuracy_min": 80}, "'catch_accuracy_min' is 80; allowed are numbers from 0 to 1"),
        ({"rt_max": "30"}, "'rt_max' is '30'; allowed are numbers"),
        ({"rt_min": True}, "'rt_min' is True"),
        ({"rt_max": float("nan")}, "allowed are seconds from 0"),
        ({"trials_min": 2.5}, "allowed are whole numbers from 1"),
        ({"missing_response": "ignore"}, "allowed are 'drop' and 'error'"),
        ({"rt_min": 3, "rt_max": 2}, "'rt_min' is 3, above 'rt_max', which is 2"),
        ({"total_time_min": 3, "total_time_max": 2}, "above 'total_time_max'"),
        (
            {"total_time_max": 100, "defaults": "predecessor"},
            r"'total_time_min' is 135, above .* \(one of the two by 'def",
        ),
        ({"repeat_participation": "second"}, "allowed are 'first' and 'drop' and 'error'"),
        ({"trials_recorded_min": 0}, "allowed are whole numbers from 1"),
        ({"response_count_min": True}, "'response_count_min' is True; allowed are numbers, and false"),
        ({"rt_max": "predecessor"}, "but Zimmermann et al. 2023 had no such rule; they had repeat_participation, inst"),
        ({"defaults": "zimmermann"}, "'defaults' is 'zimmermann'; allowed are 'predecessor'"),
        ({"defaults": False}, "'defaults' is False; allowed are 'predecessor'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        Exclusions.from_table(table)


TRIAL = st.fixed_dictionaries(
    {
        "participant": st.sampled_from(["a", "b", "c", "d"]),
        "experiment": st.sampled_from(["x", "y"]),
        "phase": st.sampled_from(["practice", "main", "main", "main", "repeat"]),
        "catch": st.sampled_from([False, False, True]),
        "correct": st.sampled_from([0.0, 1.0, 1.0, np.nan]),
        "rt": st.sampled_from([0.0, 0.25, 1.0, 4.0, 64.0, np.nan]),
        "response": st.sampled_from(["left", "right", None]),
        "session": st.sampled_from(["s1", "s2", None]),
        "started": st.sampled_from([f"2024-01-0{day}T10:00" for day in range(1, 10)]),
        "instruction_time": st.sampled_from([-5.0, 3.0, 15.0, np.nan]),
        "practice_attempts": st.sampled_from([1, 3, 5]),
    }
)
LEFT_OUT = st.lists(
    st.builds(
        LeftOut,
        st.sampled_from(["files that could not be read (3)", "sessions with faults"]),
        st.integers(0, 5),
        st.integers(0, 50),
        st.sampled_from(["x", "y", None]),
    ),
    max_size=4,
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "practice_accuracy_min": st.sampled_from([0.25, 1.0]),
        "catch_accuracy_min": st.sampled_from([0.25, 1.0]),
        "total_time_min": st.sampled_from([1.0, 4.0]),
        "total_time_max": st.sampled_from([8.0, 64.0]),
        "response_share_max": st.sampled_from([0.5, 0.75]),
        "missing_response": st.just("drop"),
        "rt_min": st.sampled_from([0.25, 1.0]),
        "rt_max": st.sampled_from([1.0, 8.0]),
        "trials_min": st.sampled_from([1, 3]),
        "trials_recorded_min": st.sampled_from([1, 3]),
        "repeat_participation": st.sampled_from(["first", "drop"]),
        "instruction_time_min": st.sampled_from([1.0, 15.0]),
        "practice_attempts_max": st.sampled_from([1, 3]),
        "response_count_min": st.sampled_from([1, 2]),
        "defaults": st.just("predecessor"),
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(TRIAL, min_size=1, max_size=40), RULES, LEFT_OUT, st.randoms(use_true_random=False))
def test_counts_telescope_and_neither_order_nor_names_matter(
    rows: list[dict[str, Any]], rules: Any, left_out: list[LeftOut], random: Any
) -> None:
    if "total_time_max" in rules:  # below the least of the defaults, which is refused
        rules.pop("defaults", None)
    frame = pd.DataFrame(rows)
    # Without a time of its own each session is in the order of the table, which the shuffle would change.
    frame["started"] = frame.groupby(["experiment", "participant", "session"], dropna=False)["started"].transform("min")
    frame["started"] += frame.groupby(["experiment", "session"], dropna=False).ngroup().map(":{:02}".format)
    excluded = apply_exclusions(frame, Exclusions(**rules), left_out)
    for experiment, flow in excluded.flow.groupby("experiment"):
        here = excluded.kept[excluded.kept["experiment"] == experiment]
        for what in ("participants", "trials"):
            left, gone = flow[f"{what}_left"].to_numpy(), flow[f"{what}_removed"].to_numpy()
            assert (left[1:] == left[:-1] - gone[1:]).all()
            assert (gone >= 0).all()
        lost = [
            one
            for one in left_out
            if one.experiment in {experiment, *[None][: excluded.flow["experiment"].nunique() == 1]}
        ]
        whole = (frame["experiment"] == experiment).sum() + sum(one.trials for one in lost)
        assert flow["trials_left"].iloc[[0, -1]].tolist() == [whole, len(here)]
        assert flow["participants_left"].iloc[-1] == here["participant"].nunique()
    assert set(excluded.flow["experiment"]) == set(frame["experiment"])
    assert analysed(excluded.kept).all()

    order = list(range(len(frame)))
    random.shuffle(order)
    names = {"a": "t", "b": "s", "c": "q", "d": "p"}
    other = apply_exclusions(frame.iloc[order].replace({"participant": names}), Exclusions(**rules), left_out)
    pd.testing.assert_frame_equal(other.flow, excluded.flow)
    assert sorted(other.kept.index) == excluded.kept.index.tolist()


def test_the_published_study_keeps_its_main_trials() -> None:
    folder = os.environ.get("PSYCHOSTATS_REFERENCE", "")
    path = Path(folder) / "borowski2021_experiment_I_raw.csv"
    if not folder or not path.exists():
        pytest.skip(f"PSYCHOSTATS_REFERENCE does not name a folder with {path.name}")
    trials = read_trials(
        path,
        columns={
            "participant": "subject_id",
            "representation": "instr_type",
            "catch": "catch_trial",
            "phase": "trial_type",
            "rt": "RT",
        },
        levels={"phase": {"practice": "practice", "main": "main", "repeated": "repeat"}},
        filters={"representation": ["natural", "optimized"]},
        needed=["participant", "representation", "correct", "rt"],
    )
    excluded = apply_exclusions(trials, Exclusions(catch_accuracy_min=0.8, rt_max=30))
    assert excluded.flow["trials_left"].tolist() == [1300, 1200, 1080, 1080, 900, 878, 878]
    assert excluded.flow["participants_left"].unique().tolist() == [10]
    accuracy = apply_exclusions(trials, Exclusions()).kept.groupby("representation")["correct"].mean()
    assert accuracy.round(3).to_dict() == {"natural": 0.922, "optimized": 0.820}


def test_every_fault_of_the_rules_is_said_at_once():
    with pytest.raises(StudyError) as caught:
        Exclusions.from_table({"rt_maxx": 3, "rt_max": "x", "catch_accuracy_min": 2})
    said = str(caught.value).splitlines()
    assert len(said) == 3 and "did you mean 'rt_max'" in said[0]


def test_a_sum_of_times_that_reaches_its_limit_stays_whatever_its_last_digit():
    trials = pd.DataFrame({"participant": "a", "rt": [0.1, 0.1, 0.1], "correct": 1})
    assert len(apply_exclusions(trials, Exclusions(total_time_max=0.3)).kept) == 3


def again(frame: pd.DataFrame, name: str, **changes: Any) -> pd.DataFrame:
    """Add one more session of a person, with the cells given."""
    return pd.concat([frame, person(name).assign(**changes)], ignore_index=True)


def sessions_left(frame: pd.DataFrame, **rules: Any) -> set[str]:
    return set(apply_exclusions(frame, Exclusions(**rules)).kept["session"])


def test_who_took_part_twice_is_kept_once_or_not_at_all_or_refused():
    frame = again(people().assign(started="2024-05-02T09:00"), "a", session="earlier", started="2024-05-01")
    others = {"of b", "of c"}
    assert sessions_left(frame) == {"of a", "earlier", *others}
    assert sessions_left(frame, repeat_participation=False) == {"of a", "earlier", *others}
    assert sessions_left(frame, repeat_participation="first") == {"earlier", *others}
    assert sessions_left(frame.drop(columns="started"), repeat_participation="first") == {"of a", *others}
    assert sessions_left(frame, repeat_participation="drop") == others
    assert sessions_left(people(), repeat_participation="error") == {"of a", *others}
    with pytest.raises(InputError, match="Took part more than once: a; exclusion 'repeat_participation' is 'error'"):
        apply_exclusions(frame, Exclusions(repeat_participation="error"))
    flow = apply_exclusions(frame, Exclusions(repeat_participation="first")).flow.set_index("rule")
    assert flow.loc["repeat_participation", COUNTS].tolist() == [0, 15, 3, 45]


def test_times_of_sessions_are_compared_as_times_and_blank_ones_come_last():
    frame = people().assign(started="2024-05-01T12:00:00+02:00")  # 10:00 in Greenwich
    assert sessions_left(
        again(frame, "a", session="x", started="2024-05-01T10:30:00Z"), repeat_participation="first"
    ) == {
        "of a",
        "of b",
        "of c",
    }
    frame.loc[frame["participant"] == "a", "started"] = None
    later = again(frame, "a", session="x", started="2024-05-01T10:30:00Z")
    assert sessions_left(later, repeat_participation="first") == {"x", "of b", "of c"}
    odd = again(frame, "a", session="x", started="yesterday")
    with pytest.raises(InputError, match=r"Column 'started' holds 'yesterday'.*ISO 8601"):
        apply_exclusions(odd, Exclusions(repeat_participation="first"))
    assert sessions_left(odd, repeat_participation="drop") == {"of b", "of c"}


def test_a_person_in_two_experiments_took_part_twice():
    frame = pd.concat([people().assign(started="2024-05-02"), person("a", "mixed").assign(started="2024-05-01")])
    kept = apply_exclusions(frame, Exclusions(repeat_participation="first")).kept
    assert set(map(tuple, kept[["participant", "experiment"]].to_numpy())) == {
        ("a", "mixed"),
        ("b", "natural"),
        ("c", "natural"),
    }


def test_an_incomplete_session_is_no_participation():
    aborted = person("a").iloc[:4].assign(session="aborted")
    frame = pd.concat([aborted, people()], ignore_index=True)
    assert sessions_left(frame, repeat_participation="first") == {"aborted", "of b", "of c"}
    assert sessions_left(frame, repeat_participation="drop", trials_recorded_min=10) == {"of a", "of b", "of c"}


def test_each_session_is_judged_by_itself():
    frame = again(people(), "a", session="x", correct=cells(1, at12=0, at13=0), rt=2.0, instruction_time=3.0)
    for rule in ({"catch_accuracy_min": 0.6}, {"total_time_max": 20}, {"instruction_time_min": 15}):
        excluded = apply_exclusions(frame, Exclusions(**rule))
        assert set(excluded.kept["session"]) == {"of a", "of b", "of c"}
        step = excluded.flow[excluded.flow["rule"] != ""].iloc[0]
        assert step["participants_removed"] == 0 and step["step"].startswith("sessions with")
    # A blank session is one too.
    assert sessions_left(frame.assign(session=frame["session"].where(frame["session"] != "x")), total_time_max=20) == {
        "of a",
        "of b",
        "of c",
    }
    # What is left of a person is counted over all sessions, since the models know people.
    assert removed(frame, trials_min=11)[0] == {"b", "c"}


def test_the_responses_there_are_are_those_of_the_experiment():
    three = people(third={"response": ["left", "right", "none"] * 5})
    assert removed(three, response_count_min=1)[0] == {"a", "b", "c"}
    apart = pd.concat([people(), person("d", "mixed").assign(response="left")], ignore_index=True)
    assert removed(apart, response_count_min=5)[0] == set()
    assert removed(people(silent={"response": cells(None)}), response_count_min=5)[0] == set()


def test_the_predecessors_thresholds_are_taken_by_word_or_as_defaults():
    words = dict.fromkeys(PREDECESSOR, "predecessor")
    assert Exclusions.from_table(words) == Exclusions(**PREDECESSOR)
    assert {rule: PREDECESSOR[rule] for rule in ("catch_accuracy_min", "total_time_min", "response_count_min")} == {
        "catch_accuracy_min": 0.8,
        "total_time_min": 135,
        "response_count_min": 5,
    }
    table = {"defaults": "predecessor", "catch_accuracy_min": 0.5, "total_time_min": False, "rt_max": 30}
    rules = Exclusions.from_table(table)
    assert rules.to_table() == table and Exclusions.from_table(rules.to_table()) == rules
    assert rules.needed == {"correct", "catch", "rt"}  # the rest need not be there
    excluded = apply_exclusions(people().drop(columns=["session", "instruction_time"]), rules)
    assert excluded.not_applied == {
        "repeat_participation": ("session",),
        "instruction_time_min": ("instruction_time",),
    }
    blank = people().assign(instruction_time=np.nan, session=None)
    assert apply_exclusions(blank, rules).not_applied == excluded.not_applied
    ran = ["practice_attempts_max", "catch_accuracy_min", "total_time_max", "response_count_min", "rt_max"]
    assert [rule for rule in excluded.flow["rule"] if rule] == ran == list(excluded.rules.active)
    assert excluded.rules.catch_accuracy_min == 0.5 and excluded.rules.practice_attempts_max == 3


def test_the_sources_of_what_the_predecessor_gave():
    told = predecessor_sources({"defaults": "predecessor", "catch_accuracy_min": 0.5, "practice_attempts_max": False})
    assert "catch_accuracy_min" not in told and "practice_attempts_max" not in told
    assert told["instruction_time_min"] == "predecessor: Zimmermann et al. 2023"
    assert predecessor_sources({"catch_accuracy_min": "predecessor"}) == {
        "catch_accuracy_min": "predecessor: Zimmermann et al. 2023"
    }


def test_what_was_left_out_before_is_counted_first():
    left_out = [
        LeftOut("files that could not be read (2)"),
        LeftOut("sessions with faults (3)", 2, 40, "natural"),
        LeftOut("sessions with faults (3)", 1, 15, "mixed"),
    ]
    frame = pd.concat([people(), person("z", "mixed")], ignore_index=True)
    flow = apply_exclusions(frame, Exclusions(), left_out).flow
    columns = ["step", *COUNTS]
    assert flow.loc[flow["experiment"] == "natural", columns].iloc[:3].to_numpy().tolist() == [
        ["all recorded", 0, 0, 5, 85],
        ["files that could not be read (2)", 0, 0, 5, 85],
        ["sessions with faults (3)", 2, 40, 3, 45],
    ]
    assert flow.loc[flow["experiment"] == "mixed", COUNTS].iloc[2].tolist() == [1, 15, 1, 15]
    lost = apply_exclusions(frame, Exclusions(), [LeftOut("sessions with faults (1)", 1, 9)]).flow["step"].unique()[1]
    assert lost == "sessions with faults (1): of unknown experiments, not counted here; participants 1, trials 9"
    alone = apply_exclusions(people(), Exclusions(), [LeftOut("sessions with faults (1)", 1, 9)]).flow
    assert alone.loc[1, COUNTS].tolist() == [1, 9, 3, 45]
