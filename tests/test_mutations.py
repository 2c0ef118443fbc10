"""The list of planted faults does not rot: each can still be planted, and the test that must see it still exists."""

from __future__ import annotations

import ast

import pytest
from mutations import ROOT, read_faults

FAULTS = read_faults()


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_can_be_planted_and_names_its_test(fault):
    assert fault.reason_against() == ""
    if fault.path.suffix == ".py":
        ast.parse((ROOT / fault.path).read_text(encoding="utf-8").replace(fault.old, fault.new))  # wrong, not broken
    file, _, test = fault.selection.partition("::")
    source = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert test.partition("[")[0] in {node.name for node in source.body if isinstance(node, ast.FunctionDef)}


def test_faults_are_many_and_each_has_a_name_of_its_own():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 30


def test_planting_touches_the_copy_alone_and_is_undone(tmp_path):
    fault = FAULTS[0]
    own, copy = ROOT / fault.path, tmp_path / fault.path
    copy.parent.mkdir()
    text = own.read_text(encoding="utf-8")
    copy.write_text(text, encoding="utf-8")
    with fault.planted(tmp_path):
        assert copy.read_text(encoding="utf-8") == text.replace(fault.old, fault.new) != text
        assert own.read_text(encoding="utf-8") == text
    assert copy.read_text(encoding="utf-8") == text
    assert "0 times, not once" in type(fault)("x", fault.file, "no such text", "y", "z").reason_against()
