"""The plan of a multiverse: which fits there are, on which rows, and one of them.

In: a study and its trials.  Out: a `Plan`, every distinct fit once, and what a fit says of the headline.  Knows neither
who does the fits nor what they say together.

A fit is a pure function of its rows, its formula and family and what is asked of it, and all of these name its result:
a choice that is added to the study file costs the fits that are new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.additions import read_extended
from psychostats.analysis import by_experiment, file_name, require_analysable, with_feature_effects
from psychostats.campaign import Campaign, Task
from psychostats.columns import analysed
from psychostats.effects import contrasts, interactions
from psychostats.engines import library_versions, resolve_engine
from psychostats.errors import DataError, InputError, NoMaximumError, nearest
from psychostats.exclusions import Excluded, Exclusions, apply_exclusions
from psychostats.features import FeaturesRun
from psychostats.fit import Fit, fit
from psychostats.formula import parse_formula
from psychostats.identity import data_hash
from psychostats.intervals import Interval
from psychostats.maximum import Method
from psychostats.recordings import hash_sources, name_source
from psychostats.spec import specify
from psychostats.specifications import MOST, Dimension, Specification, count_grid, find_dimensions, make_grid
from psychostats.store import digest
from psychostats.study import Study
from psychostats.trials import TrialTable

Engine: TypeAlias = Literal["laplace", "nuts"]
Question: TypeAlias = Literal["contrast", "change"]
QUESTIONS: tuple[Question, ...] = ("contrast", "change")
"""The factor's contrast, the moderator at its mean; and how that changes from the first value of it to the last."""
NUMBERS = ("estimate", "conf_low", "conf_high")
_ZERO = 1e-9  # a change on the link scale that is one by construction


@dataclass(frozen=True)
class Plan:
    """What is to be fitted.

    Parameters
    ----------
    study
        With what the trials say of it: the ends of the moderator, shared features.
    examined, excluded
        The trials as read, and what the study's own exclusions made of them.
    source
        The trial file's name and SHA-256.
    engine
        That fits.
    dimensions, specifications
        The choices, and every combination of them.
    experiments
        Names, in order.
    tasks
        Every fit once.
    fits
        ``(experiment, number of the specification) -> name of the task``.
    shared
        What all fits share.
    """

    study: Study
    examined: TrialTable
    excluded: Excluded
    source: dict[str, str]
    engine: Engine
    dimensions: tuple[Dimension, ...]
    specifications: tuple[Specification, ...]
    experiments: tuple[str, ...]
    tasks: tuple[Task, ...]
    fits: Mapping[tuple[str, int], str]
    shared: Shared

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """The labels of every dimension, the study's own first."""
        return {one.name: one.labels for one in self.dimensions}

    def campaign(self, folder: Path) -> Campaign:
        """Return the campaign whose results lie in a folder."""
        identity = {
            "what": "multiverse",
            "data": self.source["file_sha256"],
            "engine": self.engine,
            "versions": library_versions(self.engine),
        }
        return Campaign(folder, fit_specification, self.shared, identity)


@dataclass(frozen=True)
class Shared:
    """What all fits share: the trials, and which rows of them each hash stands for."""

    frame: pd.DataFrame
    rows: Mapping[str, npt.NDArray[np.int64]]


def plan_multiverse(
    study: Study,
    trials: str | Path | None = None,
    *,
    engine: Engine = "laplace",
    run: FeaturesRun | None = None,
    key: bytes | None = None,
    skip_bad: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Plan:
    """Read the trials and find everything that is to be fitted.

    Parameters
    ----------
    study
        The study file, read.
    trials
        What `psychostats.recordings.read_recordings` reads; by default the study's own, with its additions.
    engine
        ``laplace``, or ``nuts``.
    run, key, skip_bad
        As for `psychostats.analysis.analyse`.
    say
        Called with a line as each step begins.

    Raises
    ------
    InputError
        If the trials cannot be analysed as the study says, a choice cannot be made of them, or there are more than
        `MOST` specifications.
    """
    name = name_source(trials if trials is not None else study.study.trials)
    say(f"reading {name}")
    if trials is None:
        examined = read_extended(study, run=run, key=key, skip_bad=skip_bad)
    else:
        examined = study.examine(trials, run, key=key, skip_bad=skip_bad)
    if examined.errors:
        raise DataError(examined.errors)
    for fault in examined.warnings:
        say(f"  warning: {fault.message}")
    frame = examined.frame.reset_index(drop=True)
    excluded = apply_exclusions(frame, study.rules(), examined.left_out)
    require_analysable(study, excluded)
    study = with_feature_effects(study, excluded.kept).placed(excluded.kept)
    models = [model.as_maximum() for model in study.models] if engine == "laplace" else list(study.models)
    response = models[0].formula.partition("~")[0].strip()
    models = [model for model in models if model.formula.partition("~")[0].strip() == response]
    flow = excluded.flow
    removed = [rule for rule in excluded.rules.active if flow.loc[flow["rule"] == rule, "trials_removed"].any()]
    removed = [rule for rule in removed if rule != "missing_response"]
    dimensions = find_dimensions(models, study.exclusions, study.effects, study.multiverse, removed)
    if (number := count_grid(dimensions)) > MOST:
        raise InputError(f"the grid has {number:,} specifications; {MOST:,} are the most. Leave out choices.")
    without = study.multiverse.without
    specifications = tuple(make_grid(dimensions, response, without, invariant=engine == "laplace"))
    _require_fittable(dimensions, specifications, frame, engine, models[0].priors)
    experiments = by_experiment(excluded.kept)
    names = [file_name(one) for one, _ in experiments]
    if len({one.lower() for one in names}) < len(names):
        raise InputError(f"the experiments {', '.join(one for one, _ in experiments)} cannot be told apart by files.")
    tasks, fits, rows = _make_tasks(study, frame, excluded, dimensions, specifications, engine)
    source = {"file": name, "file_sha256": hash_sources(examined.sources)}
    used = sorted({one for text in {spec.formula for spec in specifications} for one in parse_formula(text).variables})
    kept = [one for one in frame.columns if one in {*used, "experiment"}]
    shared = Shared(frame[kept], rows)
    order = tuple(one for one, _ in experiments)
    return Plan(study, examined, excluded, source, engine, dimensions, specifications, order, tasks, fits, shared)


def fit_specification(shared: Shared, values: Mapping[str, Any]) -> dict[str, Any]:
    """Fit one specification to one experiment; what goes wrong with the data is a result.

    Parameters
    ----------
    shared
        What all fits share.
    values
        Of its task.

    Returns
    -------
    dict
        ``reason`` (empty where there is an estimate)``, singular`` (terms) and ``found``: a list of ``question,
        contrast, estimate, conf_low, conf_high``.
    """
    rows = shared.frame.iloc[shared.rows[values["rows"]]]
    if not len(rows):
        return _failed("no trial is left.")
    try:
        spec = specify(values["formula"], **values["family"], priors=values["priors"])
        made = fit(spec, rows, engine=values["engine"], progress=False, **values["lengths"])
        if not made.converged:
            return _failed("not converged: " + " ".join(made.warnings))
        singular = list(made.likelihood["singular_terms"] or [])
        return {"reason": "", "singular": singular, "found": _ask(made, values)}
    except (NoMaximumError, InputError) as error:
        return _failed(str(error))


def _failed(reason: str) -> dict[str, Any]:
    return {"reason": " ".join(reason.split()), "singular": [], "found": []}


def _ask(made: Fit, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the headline, and how it changes along the moderator where the formula lets it."""
    factor, moderator = values["factor"], values["moderator"]
    interval = Interval(*values["interval"])
    moderated = moderator in made.coding.ranges
    at = {moderator: [values["place"]]} if moderated else None
    tables = {"contrast": contrasts(made, factor, by=at, interval=interval)}
    if moderated and values["at"]:
        change = interactions(made, factor, moderator, values["at"], interval=interval)
        link = change[change["scale"] == "link"]
        if (link[["estimate", "sd"]].abs() > _ZERO).any(axis=None):
            tables["change"] = change
    found = []
    for question, table in tables.items():
        wanted = table[(table["scale"] == "difference") & (table["target"] == "population")]
        for row in wanted[["contrast", *NUMBERS]].to_dict("records"):
            contrast = str(row["contrast"]).split(") at ")[0].strip("(")
            found.append({"question": question, "contrast": contrast} | {name: float(row[name]) for name in NUMBERS})
    return found


# Tasks -----------------------------------------------------------------------------------------------------------


def _require_fittable(
    dimensions: tuple[Dimension, ...],
    specifications: tuple[Specification, ...],
    frame: pd.DataFrame,
    engine: Engine,
    priors: tuple[str, ...],
) -> None:
    """Refuse, before any fit, columns that the trials lack and what the engine cannot fit; the choices are named."""
    seen = set[tuple[str, str]]()
    for one in specifications:
        key = (one.formula, str(one.family))
        if key in seen:
            continue
        seen.add(key)
        changed = [
            f"[multiverse.{dimension.name}] '{one.labels[dimension.name]}'"
            for dimension in dimensions
            if dimension.name != "exclusions" and one.labels[dimension.name] != dimension.labels[0]
        ]
        where = " with ".join(changed) or "the study's own specification"
        try:
            spec = specify(one.formula, **one.family, priors=priors)
            resolve_engine(engine, spec, Method() if engine == "laplace" else None)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        for name in spec.formula.variables:
            if name not in frame.columns:
                near = nearest(name, [str(column) for column in frame.columns])
                raise InputError(f"{where} names '{name}', a column that the trials lack{near}.")


def _make_tasks(
    study: Study,
    frame: pd.DataFrame,
    excluded: Excluded,
    dimensions: tuple[Dimension, ...],
    specifications: tuple[Specification, ...],
    engine: Engine,
) -> tuple[tuple[Task, ...], dict[tuple[str, int], str], dict[str, npt.NDArray[np.int64]]]:
    """Return every fit once, which specification of which experiment it is of, and the rows behind each hash."""
    effects, main = study.effects, study.models[0]
    sampled = engine != "laplace"
    lengths = {name: value for name, value in main.lengths().items() if value is not None} if sampled else {}
    interval = [effects.interval if sampled else "wald", effects.probability]
    places = _select(study, frame, dimensions)
    tasks: dict[str, Task] = {}
    fits: dict[tuple[str, int], str] = {}
    rows: dict[str, npt.NDArray[np.int64]] = {}
    hashes: dict[tuple[str, str, tuple[str, ...]], str] = {}
    columns = {text: parse_formula(text).variables for text in {one.formula for one in specifications}}
    for experiment, kept in by_experiment(excluded.kept):
        here = _of(frame, experiment)
        moderator = effects.moderator if effects.moderator in kept else None
        numeric = moderator is not None and pd.api.types.is_numeric_dtype(kept[moderator])
        asked = {
            "experiment": experiment,
            "factor": effects.factor,
            "moderator": moderator if numeric else None,
            "place": float(kept[moderator].mean()) if numeric else None,
            "at": [float(effects.places[0]), float(effects.places[-1])] if numeric else None,
            "interval": interval,
            "engine": engine,
            "lengths": lengths,
            "priors": list(main.priors) if sampled else [],
        }
        for one in specifications:
            which = one.labels["exclusions"]
            used = columns[one.formula]
            key = (experiment, which, used)
            if key not in hashes:
                at = np.flatnonzero(places[which] & here)
                part = frame.iloc[at]
                levels = {name: list(part[name].cat.categories) for name in used if _is_categorical(part[name])}
                hashes[key] = digest([data_hash(part, used), levels])
                rows[hashes[key]] = at
            values = asked | {"rows": hashes[key], "formula": one.formula, "family": dict(one.family)}
            name = f"{file_name(experiment)}/{digest(values)[:24]}"
            tasks.setdefault(name, Task(name, values))
            fits[experiment, one.number] = name
    return tuple(tasks.values()), fits, rows


def _select(study: Study, frame: pd.DataFrame, dimensions: tuple[Dimension, ...]) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which rows each choice of exclusions keeps; rows without an answer never are."""
    answered = frame[study.measure.column].notna().to_numpy()
    kept = {}
    for choice in dimensions[0].choices:
        if choice.value is None:
            kept[choice.label] = answered & analysed(frame)
            continue
        try:
            rules = Exclusions.from_table({**study.exclusions, **choice.value})
            left = apply_exclusions(frame, rules).kept.index
        except InputError as error:
            raise InputError(f"[multiverse.exclusions] '{choice.label}': {error}") from error
        kept[choice.label] = answered & frame.index.isin(left)
    return kept


def _of(frame: pd.DataFrame, experiment: str) -> npt.NDArray[np.bool_]:
    """Return which rows are of an experiment."""
    if "experiment" not in frame:
        return np.ones(len(frame), dtype=bool)
    return (frame["experiment"].astype(str) == experiment).to_numpy(dtype=bool)


def _is_categorical(column: pd.Series[Any]) -> bool:
    return isinstance(column.dtype, pd.CategoricalDtype)
