"""What the calibration studies share: a table that outlives an interruption, and the band of a uniform law.

The band is exact, by the recursion of Säilynoja, Bürkner and Vehtari (2022): from one place to the next the number of
ranks below is a Markov chain with binomial steps, so the chance that it never leaves its limits is a product of
matrices, and nothing is simulated.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

from psychostats.effects import contrasts
from psychostats.executors import Executor, Local
from psychostats.fit import Fit
from psychostats.predictor import probability
from psychostats.simulate import Plan, true_parameters
from psychostats.study import read_study

HERE = Path(__file__).resolve().parent
STUDY = HERE.parents[1] / "data" / "studies" / "colin2024.toml"
SLOPE = "representationdistributed"

Counts = npt.NDArray[np.int64]


def collect(
    path: Path,
    note: str,
    keys: Iterable[Mapping[str, object]],
    make: Callable[..., Mapping[str, float]],
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Make the row of every key that a file has not yet, and keep it there, key by key.

    Parameters
    ----------
    path
        CSV file; its first line is a comment.
    note
        That comment: the command that made the file.
    keys
        For each piece of work the columns that name it, whole numbers and words.
    make
        Called with a key's columns; returns those behind them, of one row.
    executor
        Who does it; this process by default. The file is the same.

    Returns
    -------
    DataFrame
        The whole file.
    """
    keys = list(keys)
    rows: list[dict[Any, Any]] = pd.read_csv(path, comment="#").to_dict("records") if path.exists() else []
    names = list(keys[0])
    done = {tuple(row[name] for name in names) for row in rows}
    place = {tuple(key.values()): number for number, key in enumerate(keys)}
    missing = [key for key in keys if tuple(key.values()) not in done]
    for key, made in (executor or Local(1)).run(_make, make, missing):
        rows.append({**key, **made})
        if executor is not None:  # whose results come in any order
            rows.sort(key=lambda row: place.get(tuple(row[name] for name in names), -1))
        # Whole or not at all: a killed run must leave no half line behind.
        part = path.with_suffix(".part")
        part.write_text(f"# {note}\n" + pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"), encoding="utf-8")
        part.replace(path)
        print(f"{path.stem}: {' '.join(map(str, key.values()))}", file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def _make(make: Callable[..., Mapping[str, float]], key: Mapping[str, object]) -> Mapping[str, float]:
    return make(**key)


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Let a script take who does its work."""
    parser.add_argument("--workers", type=int, help="processes of this machine, one by default")
    parser.add_argument(
        "--scheduler", help="instead: a Dask cluster, whose workers have tests/calibration on their PYTHONPATH"
    )


def share(held: pd.Series) -> tuple[float, float]:
    """Return a share of replications and its Monte Carlo standard error, that of Agresti and Coull's estimate.

    (The plain one is zero where all or none of the replications are counted, which no one should believe.)
    """
    n, count = len(held), int(held.sum())
    middle = (count + 2.0) / (n + 4.0)
    return count / n, float(np.sqrt(middle * (1.0 - middle) / (n + 4.0)))


def crossed_plan(people: int, trials: int, pairs: int, truth: Mapping[str, float]) -> Plan:
    """Return a study that is crossed as the embedded one, of other size and truth, with main trials alone."""
    return replace(
        read_study(STUDY).plan(),
        truth={"one": truth},
        participants={"one": people},
        pairs=pairs,
        main=trials,
        catch=0,
        practice=0,
        careless=0,
        missing_rate=0.0,
    )


def population_contrast(fitted: Fit, factor: str) -> pd.Series[float]:
    """Return the row of the population contrast of a factor of two levels, as a difference in probability."""
    table = contrasts(fitted, factor)
    return table[(table["target"] == "population") & (table["scale"] == "difference")].iloc[0]


def true_population_contrast(fitted: Fit, factor: str, truth: Mapping[str, float]) -> float:
    """Return the true value of `population_contrast`, where the fitted model is the true one."""
    coding = fitted.coding
    grid = coding.grid({factor: coding.levels[factor]})
    blocks = coding.random(grid)
    parameters = true_parameters(coding, blocks, truth)
    p = probability(fitted.spec.family, coding.fixed(grid), coding.offset(grid), blocks, parameters, "population")
    first, second = p[0]
    return float(second - first)


def below(ranks: npt.ArrayLike, levels: int) -> Counts:
    """Return how many ranks, out of 0 to ``levels - 1``, lie below each of 1 to ``levels - 1``."""
    return np.cumsum(np.bincount(np.asarray(ranks, dtype=np.int64), minlength=levels))[:-1].astype(np.int64)


def limits(n: int, levels: int, pointwise: float) -> tuple[Counts, Counts]:
    """Return the central binomial limits of the count of `n` uniform ranks below each of 1 to ``levels - 1``."""
    z = np.arange(1, levels) / levels
    tail = pointwise / 2.0
    return np.asarray(stats.binom.ppf(tail, n, z), np.int64), np.asarray(stats.binom.isf(tail, n, z), np.int64)


def chance_inside(low: Counts, high: Counts, n: int) -> float:
    """Return the chance that the counts of `n` uniform ranks stay within limits everywhere."""
    levels = len(low) + 1
    log_factorial = special.gammaln(np.arange(n + 1) + 1.0)
    here, chance = np.zeros(1, dtype=np.int64), np.ones(1)
    for at, (least, most) in enumerate(zip(low, high, strict=True)):
        # Only counts within the limits are followed, so that a thousand ranks need no matrix of a thousand by itself.
        there = np.arange(least, most + 1)
        p = 1.0 / (levels - at)
        step, left = there[:, np.newaxis] - here, n - here
        some = np.clip(step, 0, left)
        density = log_factorial[left] - log_factorial[some] - log_factorial[left - some]
        density = density + some * np.log(p) + (left - some) * np.log1p(-p)
        chance = np.where(step == some, np.exp(density), 0.0) @ chance
        here = there
    return float(chance.sum())


@functools.lru_cache(maxsize=32)
def band(n: int, levels: int, alpha: float) -> tuple[Counts, Counts]:
    """Return the narrowest limits of counts (see `below`) that uniform ranks leave with a chance of at most `alpha`.

    Parameters
    ----------
    n
        Ranks, one a replication.
    levels
        Values that a rank can take.
    alpha
        Chance that the counts leave the limits anywhere.
    """
    wide, narrow = np.log(alpha / levels / 10.0), np.log(alpha)
    for _ in range(20):
        middle = 0.5 * (wide + narrow)
        inside = 1.0 - chance_inside(*limits(n, levels, float(np.exp(middle))), n) <= alpha
        wide, narrow = (middle, narrow) if inside else (wide, middle)
    return limits(n, levels, float(np.exp(wide)))


def deviations(ranks: pd.DataFrame, levels: int, alpha: float) -> pd.DataFrame:
    """Hold each column of ranks against the uniform law.

    Returns
    -------
    DataFrame
        By quantity: ``difference``, the largest of its ECDF from the uniform one; ``limit``, the band's there; and
        ``of_band``, the largest difference in units of the first one outside the band: 1 and more where it is left.
    """
    n = len(ranks)
    low, high = band(n, levels, alpha)
    expected = n * np.arange(1, levels) / levels
    rows = {}
    for name in ranks:
        off = below(ranks[name], levels) - expected
        room = np.where(off > 0, high - expected, expected - low)
        most = int(np.argmax(np.abs(off)))
        # Relative to the first count outside: one that cannot be left, such as 0, must not look as if it were.
        of_band = np.abs(off) / (room + 1.0)
        rows[name] = {"difference": abs(off[most]) / n, "limit": room[most] / n, "of_band": of_band.max()}
    return pd.DataFrame.from_dict(rows, orient="index")
