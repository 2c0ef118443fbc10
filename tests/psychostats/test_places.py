"""Rows in words: of one file as it numbers them, of several with their files."""

from __future__ import annotations

import numpy as np

from psychostats.cells import Raw
from psychostats.parts import Source
from psychostats.places import Places

SEVERAL = Places(("a.json", "b.csv"), np.array([0, 0, 1, 1]), np.array([3, 4, 2, 3]))


def test_of_one_file_rows_are_its_own() -> None:
    places = Places.of(Raw({"x": [1]}, [7]))
    assert places.words([7]) == "row 7"
    assert places.words([7, 9]) == "row 7 (and 1 more row)"
    (fault,) = places.faults([7, 9], lambda position, where: f"{position} {where}.", "error", "x")
    assert (fault.message, fault.row, fault.rows, fault.file) == ("0 row 7 (and 1 more row).", 7, (7, 9), None)


def test_of_several_files_each_has_its_fault() -> None:
    raw = Raw(sources=(Source("a.json", "", 1),), origins=(np.array([0]), np.array([3])))
    assert Places.of(raw).word(1) == "row 3 of a.json"
    found = list(SEVERAL.faults([2, 3, 4], lambda position, where: f"{position} {where}.", "error"))
    assert [(one.message, one.row, one.rows, one.file) for one in found] == [
        ("0 row 4 of a.json.", 4, (4,), "a.json"),
        ("1 row 2 of b.csv (and 1 more row).", 2, (2, 3), "b.csv"),
    ]


def test_a_warning_is_one_for_all_files() -> None:
    (only,) = SEVERAL.faults([2, 3, 4], lambda position, where: f"{where}.", "warning")
    assert only.message == "row 4 of a.json (and 2 more rows)."
    assert only.rows == ()
