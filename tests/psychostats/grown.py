"""What the tests of ledgers share: a study with trials of its own, and new participants for it."""

from __future__ import annotations

import contextlib
import hashlib
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from studies import study_of

from psychostats.parts import Source
from psychostats.study import Study

STUDY = """
trials = "trials.csv"

[columns]
participant = "subject"

[levels]
representation = { n = "local", d = "distributed" }

[design]
assignment = "within"

[effects]
moderator = "depth"

[[models]]
name = "main"
formula = "correct ~ representation * depth + (1 | participant)"
family = "afc"
"""


def new_people(names: list[str], seed: int = 1, trials: int = 6) -> pd.DataFrame:
    """Return clean trials of these participants, as `examine_trials` gives them: categories, whole numbers, blanks."""
    rng = np.random.default_rng(seed)
    n = len(names) * trials
    frame = pd.DataFrame(
        {
            "participant": np.repeat(names, trials),
            "trial": np.tile(np.arange(1, trials + 1), len(names)),
            "representation": pd.Categorical(["local", "distributed"] * (n // 2), ["local", "distributed"]),
            "layer": pd.Categorical(["b", "b", "a"] * (n // 3), ["b", "a"]),
            "depth": [0.0, 0.0, 1.0] * (n // 3),
            "correct": rng.integers(0, 2, n).astype(np.int8),
            "rt": rng.exponential(3, n).round(3) + 0.1,
        }
    )
    frame.index = pd.Index(range(2, n + 2), name="row")
    return frame


def growing_study(folder: Path) -> Study:
    """Write a study whose own file has other names and codes than its clean trials."""
    own = new_people(["a", "b", "c"], seed=9)
    coded = own.assign(representation=own["representation"].astype(str).str[0].replace("l", "n"))
    coded.rename(columns={"participant": "subject"}).to_csv(folder / "trials.csv", index=False)
    return study_of(folder, STUDY)


def source(name: str, content: str | bytes = "", **more: object) -> Source:
    """Return a file of this content, by its name's if there is none."""
    raw = content.encode() if isinstance(content, str) else content
    raw = raw or name.encode("utf-8", "surrogateescape")
    return Source(name, hashlib.sha256(raw).hexdigest(), len(raw), **{"tool": "table", "rows": 6, **more})


@contextlib.contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes: as on a full disk, the write fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
