"""What the tests of studies and reports share: small studies, their reports, and fits whose draws are known."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from psychostats.analysis import Analysis, analyse
from psychostats.convergence import check_convergence
from psychostats.design import code
from psychostats.draws import label
from psychostats.fit import Fit, select_rows
from psychostats.intervals import Interval
from psychostats.priors import resolve_priors
from psychostats.report import write_report
from psychostats.sampling import Sample, Settings
from psychostats.simulation import write_simulation
from psychostats.spec import specify
from psychostats.study import Study, read_study

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).parents[2]
SMALL = DATA / "small.toml"
ODD = DATA / "odd.toml"


@dataclass(frozen=True)
class Made:
    """A report that was written once, with what went in, what was said, and whether it may be read."""

    study: Path
    trials: Path
    out: Path
    said: tuple[str, ...]
    good: bool

    @property
    def html(self) -> str:
        """The page's source."""
        return (self.out / "report.html").read_text(encoding="utf-8")

    @functools.cached_property
    def analysis(self) -> Analysis:
        """The analysis, its fits answered from disk."""
        return analyse(read_study(self.study), self.trials, self.out / "fits")

    def files(self) -> dict[str, bytes]:
        """Every file of the report by its name."""
        return contents(self.out)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file under a folder by its relative name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def make_report(study: Path, trials: Path, out: Path) -> Made:
    """Write a report and remember what was said."""
    said: list[str] = []
    good = write_report(read_study(study), trials, out, command="psychostats report", progress=False, say=said.append)
    return Made(study, trials, out, tuple(said), good)


_REPORTS: dict[str, Made] = {}


def small_report(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Simulate the small study and report it, once a session."""
    if "small" not in _REPORTS:
        folder = tmp_path_factory.mktemp("small")
        write_simulation(read_study(SMALL), folder / "trials.csv")
        _REPORTS["small"] = make_report(SMALL, folder / "trials.csv", folder / "report")
    return _REPORTS["small"]


def odd_trials() -> pd.DataFrame:
    """Give 18 people with platform ids, each with one of three levels, under the file's own column names."""
    rng = np.random.default_rng(5)
    levels = ['#read("x")', "$a$", "<script>alert(1)</script>"]
    people = np.repeat(np.arange(18), 14)
    ids = np.array([f"{0x5F00_0000_0000_0000_0000_0000 + 7919 * i:024x}" for i in range(18)])
    return pd.DataFrame(
        {
            "prolific": ids[people],
            "condition": np.array(levels, dtype=object)[people % 3],
            "worker": ids[people],
            "correct": rng.binomial(1, np.array([0.6, 0.75, 0.9])[people % 3]),
        }
    )


def odd_report(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Report the odd study, once a session."""
    if "odd" not in _REPORTS:
        folder = tmp_path_factory.mktemp("odd")
        odd_trials().to_csv(folder / "trials.csv", index=False)
        _REPORTS["odd"] = make_report(ODD, folder / "trials.csv", folder / "report")
    return _REPORTS["odd"]


def study_of(folder: Path, text: str) -> Study:
    """Write a study file, with a [study] table before it, and read it."""
    path = folder / "study.toml"
    path.write_text('[study]\nname = "s"\ntitle = "S"\n' + text, encoding="utf-8")
    return read_study(path)


def known_fit(
    formula: str,
    trials: pd.DataFrame,
    b: Mapping[str, Any],
    *,
    sd: Mapping[str, Sequence[Any]] | None = None,
    r: Mapping[str, Any] | None = None,
    draws: int = 400,
    noise: float = 0.0,
    dropped: int = 0,
    own: Mapping[str, Any] | None = None,
    simo: Mapping[str, Sequence[float]] | None = None,
    **model: Any,
) -> Fit:
    """Make a fit whose draws are what the test says, so that what follows from them has a closed form.

    Parameters
    ----------
    formula, trials, model
        As for `psychostats.fit.fit`.
    b
        Fixed effects by term, numbers or draws.
    sd, r
        By group: SDs of its terms, and effects of its levels ``(levels, terms)``; zero where absent. Groups have one
        block here, and correlations are zero.
    draws, noise
        Number of draws in two chains, and the SD of white noise that is added to every one of them.
    dropped
        Rows to report as dropped.
    own
        Parameters of the family's own, by name; several elements as a sequence, or as draws ``(draws, elements)``.
    simo
        Simplexes of monotonic effects, by name; the mean step stands in `b` as ``bsp_mox``.
    """
    spec = specify(formula, **model)
    rows, _ = select_rows(spec, trials)
    coding = code(spec.formula, rows, thresholds=spec.family.ordinal)
    design = coding.design(rows, spec.family.response)
    rng = np.random.default_rng(0)
    shape = (2, draws // 2)

    def spread(value: Any, size: tuple[int, ...]) -> np.ndarray:
        whole = np.asarray(value, dtype=float)
        if whole.shape == (draws,):
            return whole.reshape(shape)
        return np.broadcast_to(whole, (*shape, *size)) + noise * rng.standard_normal((*shape, *size))

    sizes = [(block.group, len(block.levels), len(block.terms)) for block in design.blocks]
    sample = Sample(
        b=np.stack([spread(b[name], ()) for name in design.coefficients], axis=-1),
        bsp=np.stack([spread(b[effect.term], ()) for effect in design.monotonic] or [np.zeros(shape)], axis=-1),
        simo=tuple(
            np.broadcast_to(np.asarray((simo or {})[effect.simplex]), (*shape, len(effect.columns)))
            for effect in design.monotonic
        ),
        family={
            name: np.reshape(value, (*shape, -1)) if np.ndim(value) == 2 else spread(value, np.shape(value)[:1])
            for name, value in (own or {}).items()
        },
        sd=tuple(np.abs(spread((sd or {}).get(group, 0.0), (q,))) for group, _, q in sizes),
        cor=tuple(
            spread(0.0, (q * (q - 1) // 2 if block.structure == "correlated" else 0,))
            for block, (_, _, q) in zip(design.blocks, sizes, strict=True)
        ),
        r=tuple(spread((r or {}).get(group, 0.0), (levels, q)) for group, levels, q in sizes),
        stats={
            name: np.zeros(shape)
            for name in ("diverging", "maxdepth_reached", "n_steps", "depth", "energy", "lp", "step_size")
        },
    )
    table = label(sample, design, rows)
    checks = check_convergence(table.terms(Interval(), random=True), 0, 0, draws)
    provenance = {"engine": "pymc", "engine_reason": "known", "data": {"dropped": dropped}}
    settings = Settings(draws // 2, 1, 2)
    return Fit(
        spec,
        rows,
        coding,
        design,
        resolve_priors(design, spec.priors, spec.family),
        table,
        settings,
        checks,
        provenance,
        timings={},
    )
