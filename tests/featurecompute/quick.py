"""A whole job in a second: a small network of the study's own, a few small pictures, and commands in this process."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from imagesets import encode, picture, write_folder

from featurecompute import cli

NETWORK = '''
import torch
from torch import nn


class Tiny(nn.Module):
    """Two convolutions, the second added to the first, and a head."""

    def __init__(self):
        super().__init__()
        self.first, self.relu1 = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU()
        self.second, self.relu2 = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        self.twice = nn.ReLU()
        self.split = Two()
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        first = self.relu1(self.first(images))
        second = self.relu2(self.second(first) + first)
        second, _ = self.split(second)
        return self.head(self.twice(self.twice(second)).mean((2, 3)))


class Two(nn.Module):
    def forward(self, values):
        return values, values.sum()


def build():
    torch.manual_seed(0)
    return Tiny(), {"size": 16, "resize": 18}
'''

TABLES: Mapping[str, Mapping[str, Any]] = {
    "network": {"source": "tiny:build", "layers": ["relu1", "relu2"]},
    "images": {"source": "folder", "path": "images", "cache": "cache"},
    "dictionary": {"rank": 4, "samples": 500, "stability_seeds": 1},
    "features": {"neurons": 4, "top": 5, "batch": 8},
    "contributions": {"images": 6, "curves": 4},
}


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str


def pictures(count: int = 12) -> dict[str, bytes]:
    """Return small pictures of two classes, by name."""
    return {f"{'ab'[i % 2]}/{i:02}.png": encode(picture(i)) for i in range(count)}


def write_study(folder: Path, files: Mapping[str, bytes] | None = None, /, **changes: Mapping[str, Any]) -> Path:
    """Write a study, its network and its images into a folder; `changes` are laid over `TABLES`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.py").write_text(NETWORK)
    write_folder(folder / "images", dict(pictures() if files is None else files))
    (folder / "images").mkdir(exist_ok=True)
    lines = []
    for name in dict.fromkeys([*TABLES, *changes]):
        lines.append(f"[{name}]")
        table = {**TABLES.get(name, {}), **changes.get(name, {})}
        lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table.items()]
    path = folder / "study.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def command(*arguments: object) -> Answer:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["featurecompute", *map(str, arguments)])
        patch.setattr(cli.signal, "signal", lambda *_: None)  # ends this process as it would without
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    return Answer(int(stopped.value.code or 0), out.getvalue(), err.getvalue())


def compute(study: Path, *more: object, out: Path | str | None = None) -> Answer:
    """Compute a study in this process, beside the study unless told."""
    return command("compute", study, "--out", out or study.parent / "run", *more)


def complaint(answer: Answer) -> str:
    """Return the one sentence of a fault of the user's."""
    assert (answer.code, answer.out) == (2, ""), answer
    said = [line for line in answer.err.splitlines() if not line.endswith(" are read to see which they are.")]
    assert len(said) == 1 and said[0].startswith("error: ") and said[0].endswith("."), answer.err
    return said[0].removeprefix("error: ")
