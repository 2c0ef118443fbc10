"""What is left out: whole files, sessions, copies; and that the counts add up."""

from __future__ import annotations

from itertools import compress

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from psychostats.cells import Raw
from psychostats.errors import Fault
from psychostats.parts import LeftOut, Source
from psychostats.salvage import added_up, leave_out, people_lost

PEOPLE = ["a", "a", "b", "b", "c", "c", "d"]
FILES = [0, 0, 0, 0, 1, 1, 2]
LOCAL = [2, 3, 4, 5, 2, 3, 2]


def raw(*faults: Fault) -> Raw:
    return Raw(
        {"participant": list(PEOPLE), "experiment": ["x", "x", "x", "x", "y", "y", "y"]},
        list(range(1, 8)),
        faults,
        sources=tuple(Source(f"f{number}", str(number), 1, rows=2) for number in range(3)),
        origins=(np.array(FILES), np.array(LOCAL)),
    )


def fault(file: str, *rows: int, column: str | None = None) -> Fault:
    return Fault(f"bad {file} {rows}.", column=column, row=rows[0] if rows else None, rows=rows, file=file)


def test_the_session_of_a_bad_row_is_left_out_and_no_other() -> None:
    rest = leave_out(raw(), [fault("f0", 3)], {})
    assert rest is not None
    assert rest.raw.cells["participant"] == ["b", "b", "c", "c", "d"]
    assert rest.raw.rows == [3, 4, 5, 6, 7]
    assert rest.left_out == (LeftOut("sessions with faults", 1, 2, "x"),)
    assert [source.status for source in rest.raw.sources] == ["read"] * 3
    assert [(one.severity, one.message) for one in rest.skipped] == [("warning", "Left out: bad f0 (3,).")]


def test_a_file_of_which_nothing_is_left_says_why() -> None:
    rest = leave_out(raw(), [fault("f1", 2)], {})
    assert rest is not None
    assert [(source.status, source.reason) for source in rest.raw.sources][1] == ("skipped", "bad f1 (2,).")


def test_a_fault_of_no_row_costs_the_file() -> None:
    broken = fault("f0")
    rest = leave_out(raw(broken), [broken], {})
    assert rest is not None
    assert rest.raw.faults == ()
    assert rest.raw.cells["participant"] == ["c", "c", "d"]
    assert rest.left_out == (LeftOut("files that could not be read (1)", 2, 4),)
    assert rest.raw.sources[0].reason == "bad f0 ()."


def test_a_row_that_could_not_be_read_costs_the_file() -> None:
    rest = leave_out(raw(), [fault("f0", 9)], {})
    assert rest is not None
    assert rest.left_out == (LeftOut("files that could not be read (1)", 2, 4),)


def test_copies_are_counted_apart() -> None:
    rest = leave_out(raw(), [fault("f1", 2, 3, column="session"), fault("f2", 2)], {})
    assert rest is not None
    assert rest.left_out == (
        LeftOut("sessions with faults", 1, 1, "y"),
        LeftOut("sessions recorded twice", 1, 2, "y"),
    )


def test_a_file_of_the_same_bytes_as_another_is_a_copy_and_not_unreadable() -> None:
    rest = leave_out(raw(), [fault("f0", column="session"), fault("f1")], {})
    assert rest is not None
    assert [one.step for one in rest.left_out] == ["files that could not be read (1)", "copies of other files (1)"]


def test_who_stays_in_another_experiment_is_lost_in_this_one() -> None:
    both = raw()
    both.cells["participant"][4:6] = ["a", "a"]
    rest = leave_out(both, [fault("f1", 2)], {})
    assert rest is not None
    assert rest.left_out == (LeftOut("sessions with faults", 1, 2, "y"),)
    assert people_lost(both, rest.raw, {}) == 0


def test_trials_of_one_row_are_left_out_together() -> None:
    wide = Raw({"participant": ["a", "a", "b", "b"]}, [2, 2, 3, 3])
    rest = leave_out(wide, [Fault("bad.", row=3, rows=(3,))], {})
    assert rest is not None
    assert rest.raw.cells["participant"] == ["a", "a"]
    assert rest.left_out == (LeftOut("sessions with faults", 1, 2),)
    assert people_lost(wide, rest.raw, {}) == 1


def test_a_fault_of_nothing_leaves_all() -> None:
    assert leave_out(raw(), [Fault("Column 'x' is needed.")], {}) is None


def test_what_is_left_out_twice_is_added_up() -> None:
    rows = [LeftOut("s", 1, 2, "x"), LeftOut("s", 2, 3, "y"), LeftOut("s", 3, 4, "x")]
    assert added_up(rows) == (LeftOut("s", 4, 6, "x"), LeftOut("s", 2, 3, "y"))


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(range(7)), max_size=5, unique=True))
def test_trials_left_and_left_out_are_all_there_were(bad: list[int]) -> None:
    faults = [fault(f"f{FILES[row]}", LOCAL[row]) for row in bad]
    rest = leave_out(raw(), faults, {})
    if rest is None:
        assert not bad
        return
    gone = {PEOPLE[row] for row in bad}
    stay = [person not in gone for person in PEOPLE]
    assert rest.raw.rows == list(compress(range(1, 8), stay))
    assert sum(one.trials for one in rest.left_out) == 7 - sum(stay)
    assert sum(one.participants for one in rest.left_out) == len(gone)
