"""A fit: spec, coding, draws and provenance, in memory and as a directory on disk.

In: a formula and trials.  Out: `Fit`, which is whole or absent on disk, holds no pickles, answers a second identical call,
and verifies itself when it is loaded.  Knows nothing of effects or reports.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import tomli_w

from psychostats.convergence import Check, check_convergence, converged, explain
from psychostats.design import Coding, Design, code
from psychostats.draws import Draws, label
from psychostats.errors import FitError, InputError, nearest
from psychostats.intervals import Interval
from psychostats.predictor import Parameters, linear_predictor
from psychostats.priors import Prior, resolve_priors
from psychostats.sampler import Settings, sample
from psychostats.spec import ModelSpec, specify
from psychostats.trials import data_hash

SCHEMA = "psychostats-fit/1"
ENGINES = ("auto", "pymc", "nuts", "laplace")
# Libraries whose version can change a number of a fit.
_LIBRARIES = ("psychostats", "pymc", "pytensor", "nutpie", "numba", "arviz", "formulaic", "numpy", "scipy", "pandas")

Missing = Literal["error", "drop"]


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    Parameters
    ----------
    spec
        What was fitted.
    data
        The columns of the trials that the formula names, as they were analysed.
    coding, design
        How `data` was coded, and the result.
    priors
        In use, one a parameter.
    draws_table
        Labelled draws; `draws` gives them as ArviZ's container.
    settings
        Of the sampler.
    checks
        Of convergence.
    provenance
        What is written to provenance.json.
    timings
        Seconds by stage.
    path
        Where the fit lies, if it was written.
    reused
        Whether it was answered from `path` instead of sampled.
    """

    spec: ModelSpec
    data: pd.DataFrame
    coding: Coding
    design: Design
    priors: tuple[Prior, ...]
    draws_table: Draws
    settings: Settings
    checks: tuple[Check, ...]
    provenance: dict[str, Any]
    timings: dict[str, float]
    path: Path | None = None
    reused: bool = False

    @property
    def draws(self) -> Any:
        """The draws as ArviZ's container (InferenceData, or DataTree from ArviZ 1)."""
        return self.draws_table.to_arviz()

    @property
    def converged(self) -> bool:
        """Whether the fit may be read."""
        return converged(self.checks)

    @property
    def warnings(self) -> list[str]:
        """What did not pass its check, in sentences; empty where all is well."""
        return explain(self.checks)

    @property
    def interval(self) -> Interval:
        """The kind of interval that the fit's own tables use."""
        return Interval()

    def terms(self, *, random: bool = False, interval: Interval | None = None) -> pd.DataFrame:
        """Summarise the terms; see `psychostats.draws.Draws.terms`."""
        return self.draws_table.terms(interval or self.interval, random=random)

    def parameters(self, *, most: int | None = None) -> Parameters:
        """Return the draws as arrays; see `psychostats.draws.Draws.parameters`."""
        return self.draws_table.parameters(self.design, most=most)

    def covariance(self) -> list[dict[str, Any]]:
        """Return the covariance structure that was fitted, a row a group effect."""
        return [
            {"group": block.group, "terms": list(block.terms), "structure": block.structure}
            for block in self.design.blocks
        ]

    def summary(self, *, random: bool = False) -> dict[str, Any]:
        """Return the whole summary as plain values, full precision, None where a figure does not apply."""
        stats = self.draws_table.groups["sample_stats"]
        family = self.spec.family
        summary = {
            "schema": SCHEMA,
            "fit": {
                "path": str(self.path) if self.path else None,
                "engine": self.provenance["engine"],
                "engine_reason": self.provenance["engine_reason"],
                "formula": self.spec.formula.text,
                "family": family.name,
                "link": family.link,
                "guess": family.guess,
                "lapse": family.lapse,
                "n_trials": int(self.design.trials.sum()),
                "n_dropped": self.provenance["data"]["dropped"],
                "groups": {block.group: len(block.levels) for block in self.design.blocks},
                "levels": {name: list(levels) for name, levels in self.coding.levels.items()},
                "coding": self.coding.describe(),
                "covariance": self.covariance(),
            },
            "interval": {
                "kind": self.interval.kind,
                "probability": self.interval.probability,
                "label": self.interval.label,
            },
            "sampler": {
                "chains": self.settings.chains,
                "draws": self.settings.draws,
                "tune": self.settings.tune,
                "seed": self.settings.seed,
                "divergences": int(stats["diverging"].sum()),
                "treedepth_hits": int(stats["maxdepth_reached"].sum()),
            },
            "likelihood": dict.fromkeys(("logLik", "df", "nobs", "AIC", "BIC", "REML", "singular", "singular_terms")),
            "converged": self.converged,
            "checks": [check.row() for check in self.checks],
            "priors": [prior.row() for prior in self.priors],
            "terms": self.terms(random=random).to_dict(orient="records"),
            "warnings": self.warnings,
        }
        return plain(summary)

    def write(self, path: Path) -> Fit:
        """Write the fit as a directory, at once or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.part-", dir=path.parent))
        try:
            (part / "spec.toml").write_text(tomli_w.dumps(self.spec.to_table() | {"sampling": asdict(self.settings)}))
            self.terms().to_csv(part / "summary.csv", index=False)
            self.draws_table.write(part / "draws.nc")
            files = {name: _file_hash(part / name) for name in ("spec.toml", "summary.csv", "draws.nc")}
            provenance = self.provenance | {"files": files}
            (part / "timings.json").write_text(json.dumps(self.timings, indent=2) + "\n")
            (part / "provenance.json").write_text(json.dumps(plain(provenance), indent=2, ensure_ascii=False) + "\n")
            part.chmod(0o755)
            _replace_directory(part, path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        return replace(self, path=path, provenance=provenance)


def fit(
    formula: str | ModelSpec,
    trials: pd.DataFrame,
    *,
    family: str = "bernoulli",
    link: str | None = None,
    guess: float | None = None,
    lapse: float | str | None = None,
    priors: Sequence[str] = (),
    engine: str = "auto",
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    seed: int = 1,
    target_accept: float = 0.8,
    missing: Missing = "error",
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
    source: Mapping[str, Any] | None = None,
) -> Fit:
    """Fit a hierarchical Bayesian model to trials.

    Parameters
    ----------
    formula
        R-style formula, for example ``correct ~ representation * depth + (1 + representation | participant)``; or a
        `ModelSpec`, and then `family` to `priors` are taken from it.
    trials
        One row a trial (or a count); text and categorical columns are factors.
    family, link, guess, lapse
        See `psychostats.families.resolve_family`.
    priors
        Overrides ``CLASS ~ DIST``; see `psychostats.priors.resolve_priors`.
    engine
        ``auto`` or ``pymc``.
    draws, tune, chains, seed, target_accept
        Of the sampler.
    missing
        What to do with rows that lack a value the formula needs: ``error``, or ``drop`` and count them.
    out
        Directory to write to. If it holds the same fit (data, spec, seed, versions), that is returned instead.
    overwrite
        Replace another fit in `out`.
    progress
        Show a progress bar; by default on a terminal.
    source
        What to remember of where the trials came from, for provenance.

    Returns
    -------
    Fit

    Raises
    ------
    InputError
        If anything given cannot be used; nothing is written then.
    """
    spec = (
        formula
        if isinstance(formula, ModelSpec)
        else specify(formula, family=family, link=link, guess=guess, lapse=lapse, priors=priors)
    )
    settings = Settings(draws, tune, chains, seed, target_accept)
    engine, reason = resolve_engine(engine)
    rows, dropped = select_rows(spec, trials, missing)
    coding = code(spec.formula, rows)
    design = coding.design(rows)
    if not spec.formula.response.counts and design.successes.max(initial=0.0) > 1:
        raise InputError(
            f"the response '{spec.formula.response.successes}' holds values above 1; a 0/1 column is needed, or counts "
            "as 'cbind(successes, failures)'."
        )
    in_use = resolve_priors(design, spec.priors)
    versions = library_versions()
    sha = data_hash(rows, list(rows.columns))
    key = _key(
        {
            "data": sha,
            "levels": {name: list(levels) for name, levels in coding.levels.items()},
            "spec": spec.to_table(),
            "sampling": asdict(settings),
            "engine": engine,
            "versions": versions,
        }
    )
    path = Path(out) if out is not None else None
    if path is not None:
        held = _held(path, key, overwrite)
        if held is not None:
            return held
    watch = Stopwatch()
    drawn = sample(
        design,
        spec.family,
        in_use,
        settings,
        progress=sys.stderr.isatty() if progress is None else progress,
        clock=watch.start,
    )
    watch.start("summarise")
    table = label(drawn, design, rows)
    checks = check_convergence(
        table.terms(Interval(), random=True),
        int(drawn.stats["diverging"].sum()),
        int(drawn.stats["maxdepth_reached"].sum()),
        settings.draws * settings.chains,
    )
    provenance = {
        "schema": SCHEMA,
        "key": key,
        "engine": engine,
        "engine_reason": reason,
        "converged": converged(checks),
        "data": {
            "sha256": sha,
            "rows": len(rows),
            "dropped": dropped,
            "columns": list(rows.columns),
            "levels": {name: list(levels) for name, levels in coding.levels.items()},
            "group_levels": {
                name: [str(level) for level in rows[name].cat.categories]
                for name in rows.columns
                if isinstance(rows[name].dtype, pd.CategoricalDtype)
            },
            **(source or {}),
        },
        "priors": [prior.row() for prior in in_use],
        "log_likelihood_at_mean": log_likelihood_at_mean(spec, design, table),
        "versions": versions | {"python": platform.python_version()},
    }
    made = Fit(spec, rows, coding, design, in_use, table, settings, checks, provenance, watch.stop())
    return made.write(path) if path is not None else made


def load_fit(path: str | Path) -> Fit:
    """Load a fit from its directory and verify it.

    Parameters
    ----------
    path
        What `fit` wrote.

    Returns
    -------
    Fit
        With the same numbers as when it was written.

    Raises
    ------
    FitError
        If the directory is no fit, a file was changed or is damaged, or the log-likelihood, evaluated anew from the
        stored trials and draws, is not the one that was recorded.
    """
    path = Path(path)
    provenance = _read_provenance(path)
    if provenance is None:
        raise FitError(
            f"{path} is no fit: it has no provenance.json. A fit is a directory that 'psychostats fit' wrote."
        )
    if provenance.get("schema") != SCHEMA:
        raise FitError(f"{path} was written in the form {provenance.get('schema')}; this version reads {SCHEMA}.")
    for name, sha in provenance["files"].items():
        if not (path / name).is_file():
            raise FitError(f"{path} is damaged: {name} is missing. Fit again with --overwrite.")
        if _file_hash(path / name) != sha:
            raise FitError(f"{path} is damaged: {name} is not the file that was written. Fit again with --overwrite.")
    table = tomllib.loads((path / "spec.toml").read_text())
    spec = ModelSpec.from_table(table)
    draws = Draws.read(path / "draws.nc")
    rows = _stored_rows(draws, provenance)
    coding = code(spec.formula, rows)
    design = coding.design(rows)
    recorded, again = provenance["log_likelihood_at_mean"], log_likelihood_at_mean(spec, design, draws)
    if data_hash(rows, list(rows.columns)) != provenance["data"]["sha256"] or not np.isclose(
        recorded, again, rtol=1e-9
    ):
        raise FitError(
            f"{path} does not verify: its log-likelihood is {again:.6f} where {recorded:.6f} was recorded. Fit again "
            "with --overwrite."
        )
    settings = Settings(**table["sampling"])
    stats = draws.groups["sample_stats"]
    checks = check_convergence(
        draws.terms(Interval(), random=True),
        int(stats["diverging"].sum()),
        int(stats["maxdepth_reached"].sum()),
        settings.draws * settings.chains,
    )
    return Fit(
        spec=spec,
        data=rows,
        coding=coding,
        design=design,
        priors=resolve_priors(design, spec.priors),
        draws_table=draws,
        settings=settings,
        checks=checks,
        provenance=provenance,
        timings=json.loads((path / "timings.json").read_text()),
        path=path,
    )


def resolve_engine(engine: str) -> tuple[str, str]:
    """Return the engine that runs and why.

    Raises
    ------
    InputError
        If it is unknown or not part of this version.
    """
    if engine not in ENGINES:
        raise InputError(
            f"the engine '{engine}' is unknown{nearest(engine, ENGINES)}; allowed are {', '.join(ENGINES)}."
        )
    if engine in ("nuts", "laplace"):
        raise InputError(f"the engine '{engine}' is not part of this version; use --engine pymc.")
    return "pymc", "asked for" if engine == "pymc" else "auto: the only engine of this version"


def select_rows(spec: ModelSpec, trials: pd.DataFrame, missing: Missing = "error") -> tuple[pd.DataFrame, int]:
    """Return the formula's columns without rows that lack a value, and how many were dropped.

    Raises
    ------
    InputError
        If a column is missing, or values are missing and `missing` is ``error``.
    """
    if missing not in ("error", "drop"):
        raise InputError(f"missing is '{missing}'; allowed are error and drop.")
    for name in spec.formula.variables:
        if name not in trials.columns:
            raise InputError(
                f"the formula names '{name}', which is no column of the trials{nearest(name, map(str, trials.columns))}; "
                f"columns are {', '.join(map(str, trials.columns))}."
            )
    rows = trials[list(spec.formula.variables)]
    lacking = rows.isna().any(axis=1).to_numpy()
    if lacking.any() and missing == "error":
        name = next(str(column) for column in rows.columns if rows[column].isna().any())
        first = rows.index[int(np.argmax(rows[name].isna().to_numpy()))]
        raise InputError(
            f"{int(lacking.sum())} rows lack a value that the formula needs, the first in column '{name}', row {first}; "
            "complete them, or drop them with --missing drop."
        )
    kept = rows.loc[~lacking].copy()
    for name in kept.columns:
        if isinstance(kept[name].dtype, pd.CategoricalDtype):
            kept[name] = kept[name].cat.remove_unused_categories()
    return kept, int(lacking.sum())


def log_likelihood_at_mean(spec: ModelSpec, design: Design, draws: Draws) -> float:
    """Return the log-likelihood at the posterior mean of b and r, without binomial coefficients."""
    everything = draws.parameters(design)
    mean = Parameters(
        everything.b.mean(axis=0, keepdims=True), (), tuple(r.mean(axis=0, keepdims=True) for r in everything.r)
    )
    eta = linear_predictor(design, mean)[0]
    return float(np.sum(spec.family.log_density(design.successes, design.trials, eta)))


def library_versions() -> dict[str, str]:
    """Return versions of the libraries that can change a number."""
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def plain(value: Any) -> Any:
    """Return nested values ready for JSON: NumPy scalars as Python's, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


class Stopwatch:
    """Seconds by stage; starting a stage ends the one before."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._stage: str | None = None
        self._since = 0.0

    def start(self, stage: str) -> None:
        """Begin a stage."""
        self.stop()
        self._stage, self._since = stage, time.perf_counter()

    def stop(self) -> dict[str, float]:
        """End the stage under way and return all seconds so far."""
        if self._stage is not None:
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + time.perf_counter() - self._since
            self._stage = None
        return dict(self._seconds)

    @contextlib.contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Time a block of code."""
        self.start(stage)
        try:
            yield
        finally:
            self.stop()


def _key(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain(parts), sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _held(path: Path, key: str, overwrite: bool) -> Fit | None:
    """Return the fit that `path` holds if it is the one asked for; refuse what must not be replaced."""
    if not path.exists():
        return None
    if not path.is_dir():
        raise FitError(f"{path} is a file; give a directory for the fit.")
    provenance = _read_provenance(path)
    if provenance is None:
        if any(path.iterdir()):
            raise FitError(f"{path} is not empty and holds no fit; give another directory, so that nothing is lost.")
        return None
    if provenance.get("key") == key:
        with contextlib.suppress(FitError):
            return replace(load_fit(path), reused=True)
        if not overwrite:
            load_fit(path)  # says what is damaged
    if not overwrite:
        raise FitError(
            f"{path} holds another fit (other data, formula, settings or versions); give another directory, or "
            "--overwrite."
        )
    return None


def _read_provenance(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((path / "provenance.json").read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _stored_rows(draws: Draws, provenance: Mapping[str, Any]) -> pd.DataFrame:
    constant = draws.groups["constant_data"]
    rows = pd.DataFrame({name: constant[name].values for name in provenance["data"]["columns"]})
    for name, levels in provenance["data"]["group_levels"].items():
        rows[name] = pd.Categorical(rows[name], categories=levels)
    return rows


def _replace_directory(new: Path, old: Path) -> None:
    """Put `new` where `old` is; a reader sees one of the two, and a crash between leaves one of them whole."""
    if old.exists():
        aside = Path(tempfile.mkdtemp(prefix=f".{old.name}.old-", dir=old.parent)) / "fit"
        os.rename(old, aside)
        os.rename(new, old)
        shutil.rmtree(aside.parent, ignore_errors=True)
    else:
        os.rename(new, old)


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
