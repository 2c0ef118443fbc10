"""Commands as tests run them: in this process, with what they left behind."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import pytest

from psychostats import cli


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def data(self):
        """The JSON on stdout; NaN and Infinity are no JSON."""

        def refuse(name):
            raise AssertionError(f"{name} in JSON")

        return json.loads(self.out, parse_constant=refuse)


def call(capsys, monkeypatch, *arguments):
    """Run a command in this process, where models are compiled once."""
    monkeypatch.setattr(sys, "argv", ["psychostats", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capsys.readouterr()
    return Answer(int(stopped.value.code or 0), out, err)
