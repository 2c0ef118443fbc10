"""The study file: which trials, exclusions, models, effects and sections, and where each setting comes from.

In: a TOML file.  Out: a frozen `Study`, every key checked, the names of unknown ones matched to the nearest.  Tables of
the features half are left to it.  Knows no fit and no report.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import tomllib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Unpack

import pandas as pd
from pydantic import Field, ValidationError

from psychostats.attention import lapsing_law
from psychostats.demographics import Export, read_demographics
from psychostats.effects import RESERVED
from psychostats.errors import DataError, InputError, StudyError, nearest
from psychostats.exclusions import Exclusions
from psychostats.features import FeaturesRun, examine_joined
from psychostats.measure import Measure
from psychostats.parts import Reading
from psychostats.rules import predecessor_sources
from psychostats.settings import (
    DemographicsTable,
    DesignTable,
    EffectsTable,
    JointTable,
    LapsesTable,
    ModelTable,
    MultiverseTable,
    OpinionTable,
    PowerTable,
    ReanalysisTable,
    RecordingsTable,
    ReportTable,
    SimulateTable,
    StudyTable,
    Table,
)
from psychostats.simulate import RECORDED, Plan, answer_trials, simulate_trials
from psychostats.specifications import find_dimensions
from psychostats.study_faults import dotted, fields_of, say_fault
from psychostats.trials import ReadOptions, TrialTable, examine_trials, read_trials

FEATURE_TABLES = ("network", "images", "dictionary", "features", "contributions", "visualize", "stimuli", "networks")
SOURCES = ("paper", "predecessor", "assumed")

# Columns of the report's tables, which neither the factor, the moderator nor the group of a study may be called.
_TAKEN = RESERVED | {
    "experiment",
    "correct",
    "accuracy",
    "n",
    "observed",
    "inside",
    "bin",
    "draw",
    "mean",
    "sem",
    "size",
}
_TAKEN |= {"participants", "label", "model"}


class Study(Table):
    """A study file, read and checked."""

    study: StudyTable
    columns: dict[str, str] = Field(default_factory=dict)
    levels: dict[str, list[str] | dict[str, str]] = Field(default_factory=dict)
    filter: dict[str, Any] = Field(default_factory=dict)
    recordings: RecordingsTable = RecordingsTable()
    demographics: DemographicsTable | None = None
    exclusions: dict[str, Any] = Field(default_factory=dict)
    design: DesignTable = DesignTable()
    simulate: SimulateTable | None = None
    lapses: LapsesTable = LapsesTable()
    models: tuple[ModelTable, ...] = ()
    opinions: tuple[OpinionTable, ...] = ()
    joint: JointTable | None = None
    effects: EffectsTable = EffectsTable()
    reanalysis: ReanalysisTable = ReanalysisTable()
    multiverse: MultiverseTable = MultiverseTable()
    power: PowerTable = PowerTable()
    report: ReportTable = ReportTable()
    sources: dict[str, str] = Field(default_factory=dict)
    path: Path = Path()
    sha256: str = ""

    def rules(self) -> Exclusions:
        """Return the rules of ``[exclusions]``."""
        return Exclusions.from_table(self.exclusions)

    @property
    def told_sources(self) -> dict[str, str]:
        """Where settings come from, by dotted key: ``[sources]``, and the exclusions taken from the predecessor."""
        taken = predecessor_sources(self.exclusions)
        return {f"exclusions.{rule}": text for rule, text in taken.items()} | self.sources

    def source_of(self, key: str) -> tuple[str, str]:
        """Return (paper, predecessor or assumed; note) of a dotted key; a setting without a source is assumed."""
        text = self.told_sources.get(key, "assumed")
        kind, _, note = text.partition(":")
        return kind.strip(), note.strip()

    def needed(self) -> tuple[str, ...]:
        """Return the columns that the models, rules and effects need."""
        models = [*self.models, *(self.joint.as_models(self.models[0]) if self.joint else ())]
        names = [name for model in models for name in model.spec().formula.variables]
        names += [one.response for one in self.opinions]
        names += ["correct" for one in self.opinions if one.takes == "correct"]
        names += [*self.rules().needed, self.effects.factor, self.report.group]
        names += ["experiment"] if self.design.participants else []
        return tuple(dict.fromkeys(names))

    @property
    def measure(self) -> Measure:
        """What the first model's response is called, and how its numbers print."""
        spec, told = self.models[0].spec(), self.report
        column, family = spec.formula.response.successes, spec.family
        if family.binary:
            noun = told.response or ("accuracy" if column == "correct" else f"the share of {column}")
            return Measure(column, noun)
        time = column == "rt"
        named = {"rt": "response time"}.get(column, column)
        unit = told.unit or ("s" if time else "points of the scale" if family.ordinal else f"units of {column}")
        return Measure(
            column, told.response or f"mean {named}", unit, (3 if time else 2) if told.digits is None else told.digits
        )

    @property
    def condition(self) -> str:
        """The column of what people were assigned to: the factor of the effects, unless that is an item or a place."""
        return "representation" if self.effects.factor in RECORDED else self.effects.factor

    def reading(self) -> Reading:
        """Return how recordings are read; files are found from the study file's folder."""
        table = self.recordings
        metadata = self.path.parent / table.metadata if table.metadata else None
        return Reading(table.tool, table.wide, metadata, table.by)

    def read_options(self, run: FeaturesRun | None = None) -> dict[str, Any]:
        """Return what the study says of a trial file, for `psychostats.trials.read_trials`.

        With a features run, what that knows of a stimulus need not stand in the file.
        """
        needed = self.needed() if run is None else run.lacking(self.needed())
        return {
            "columns": self.columns,
            "levels": self.levels,
            "filters": self.filter,
            "needed": needed,
            "assignment": self.design.assignment,
            "assigned": self.condition,
            "unanswered": "keep" if self.rules().missing_response else "error",
            "pseudonymize": self.study.pseudonymize,
            "reading": self.reading(),
        }

    def export(self, path: Path | None = None) -> Export | None:
        """Read the demographic export that the file names, or that of `path`; None where there is neither."""
        table = self.demographics or DemographicsTable()
        if path is None and not table.file:
            return None
        return read_demographics(path or self.path.parent / table.file, table.key, table.columns)

    def reseeded(self, seed: int | None) -> Study:
        """Return the study with this seed for every model, or as it is for None."""
        if seed is None:
            return self
        models = tuple(model.model_copy(update={"seed": seed}) for model in self.models)
        joint = self.joint and self.joint.model_copy(update={"seed": seed})
        return self.model_copy(update={"models": models, "joint": joint})

    def placed(self, kept: pd.DataFrame) -> Study:
        """Return the study with the ends of the moderator in place of ``range``, so that nothing is extrapolated."""
        name = self.effects.moderator
        if self.effects.at != "range" or name is None or name not in kept:
            return self
        ends = (float(kept[name].min()), float(kept[name].max()))
        if not ends[0] < ends[1]:
            raise InputError(f"[effects] at is 'range', but {name} is {ends[0]:g} in all analysed trials.")
        return self.model_copy(update={"effects": self.effects.model_copy(update={"at": ends})})

    def examine(self, trials: str | Path, run: FeaturesRun | None = None, **how: Unpack[ReadOptions]) -> TrialTable:
        """Read trials as the study says, with every fault; see `psychostats.trials.examine_trials`.

        `how` are more keywords of that, such as ``skip_bad``, and go before what the study says.
        """
        options: dict[str, Any] = {**self.read_options(run), **how}
        return examine_joined(trials, run, **options) if run else examine_trials(trials, **options)

    def read(self, trials: str | Path) -> pd.DataFrame:
        """Read a trial file as the study says; see `psychostats.trials.read_trials`."""
        return read_trials(trials, **self.read_options())

    def plan(self) -> Plan:
        """Return the plan of a simulation.

        Raises
        ------
        StudyError
            If the file does not say how to simulate the study.
        """
        if self.simulate is None:
            raise StudyError(f"{self.path} has no [simulate] table, so the study cannot be simulated.")
        design, s, condition = self.design, self.simulate, self.condition
        needed = ["participants", "layers", "pairs", "main", "catch", "practice"]
        # A study of something else may have none of these.
        optional = () if condition == "representation" else ("layers", "pairs", "catch", "practice")
        for key in needed:
            if getattr(design, key) in (None, (), {}) and key not in optional:
                raise StudyError(f"{self.path} lacks [design] {key}, which a simulation needs.")
        levels = self.levels.get(condition, ["local", "distributed"] if condition == "representation" else [])
        if not levels:
            raise StudyError(f"{self.path} lacks [levels] {condition}, the conditions that a simulation needs.")
        shared = s.truth.get("all", {})
        return Plan(
            spec=s.spec(),
            truth={name: shared | s.truth.get(name, {}) for name in design.participants},
            participants=design.participants,
            representations=tuple(dict.fromkeys(levels.values() if isinstance(levels, dict) else levels)),
            layers=design.layers,
            pairs=design.pairs or 0,
            main=design.main or 0,
            catch=design.catch or 0,
            practice=design.practice or 0,
            within=design.assignment != "between",
            careless=s.careless,
            catch_accuracy=s.catch_accuracy,
            practice_accuracy=s.practice_accuracy,
            missing_rate=s.missing_rate,
            rt_median=s.rt_median,
            rt_sigma=s.rt_sigma,
            condition=condition,
            item=design.item,
            moderator=(self.effects.moderator if design.at else None) or "depth",
            at=design.at,
            lapse_sd=s.lapse_sd,
        )

    def simulated_trials(self, seed: int | None = None, run: FeaturesRun | None = None) -> pd.DataFrame:
        """Simulate the study; the seed is the file's own unless one is given.

        With a features run, its own trial lists are answered, as ``[simulate.shown]`` says.
        """
        if run is None:
            plan = self.plan()
            assert self.simulate is not None
            return simulate_trials(plan, self.simulate.seed if seed is None else seed)
        people = self.simulate.people() if self.simulate else None
        if people is None or self.simulate is None:
            raise StudyError(f"{self.path} has no [simulate.shown] table, which says what is true of a run's stimuli.")
        lists = examine_joined(run.table("trial_lists"), run, levels=self.levels, needed=("participant", "stimulus"))
        if lists.errors:
            raise DataError(lists.errors)
        return answer_trials(people, lists.frame, self.simulate.seed if seed is None else seed)


def read_study(path: str | Path) -> Study:
    """Read a study file.

    Parameters
    ----------
    path
        TOML. Tables of the features half are ignored; where ``[[models]]`` is absent, the default analysis is made:
        `DEFAULT_FORMULA` as two-alternative forced choice, and plain logistic beside it.

    Returns
    -------
    Study

    Raises
    ------
    StudyError
        If it cannot be read; every fault is named at once.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        content = tomllib.loads(raw.decode("utf-8-sig"))  # some editors begin a file with a byte order mark
    except OSError as error:
        raise StudyError(f"the study file {path} cannot be read: {error.strerror}.") from error
    except RecursionError as error:
        raise StudyError(f"the study file {path} nests lists or tables too deeply.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"the study file {path} is not valid TOML: {error}.") from error
    tables = {name: table for name, table in content.items() if name not in FEATURE_TABLES}
    hidden = ("path", "sha256")
    known = [*(name for name in fields_of(Study) if name not in hidden), *FEATURE_TABLES]
    for name in hidden:
        if name in tables:
            raise StudyError(f"{path}: unknown table [{name}]; allowed are {', '.join(known)}.")
    if not tables.get("models"):
        tables["models"] = [{"name": "main"}, {"name": "plain", "family": "bernoulli"}]
    try:
        study = Study.model_validate(tables | {"path": path, "sha256": hashlib.sha256(raw).hexdigest()})
    except ValidationError as error:
        faults = dict.fromkeys(say_fault(fault, known) for fault in error.errors())
        raise StudyError("\n".join(f"{path}: {fault}" for fault in faults)) from None
    _check(study, content)
    own = {key: text for key, text in study.sources.items() if key.partition(".")[0] not in FEATURE_TABLES}
    return study.model_copy(update={"sources": own})


def _check(study: Study, content: Mapping[str, Any]) -> None:
    """Check what one key alone cannot show."""
    faults: list[str] = []

    @contextlib.contextmanager
    def collected(where: str = "") -> Iterator[None]:
        try:
            yield
        except InputError as error:
            faults.append(f"{where}{error}")

    if len({model.name.lower() for model in study.models}) < len(study.models):
        faults.append("two models have the same name, but for capitals; each needs its own.")
    if study.report.group in _TAKEN or study.report.group == study.effects.factor:
        faults.append(
            f"[report] group is '{study.report.group}', which the report's own tables are called by; name the column "
            "of who answered, such as participant."
        )
    faults += [f"[levels] {name} lists no level." for name, levels in study.levels.items() if not levels]
    faults += [
        f"[filter] {name} is {value!r}; allowed are text, a number, true or false, or a list of these."
        for name, value in study.filter.items()
        if not all(isinstance(one, str | int | float) for one in (value if isinstance(value, list) else [value]))
    ]
    for model in study.models:
        if not model.name.replace("-", "").replace("_", "").isalnum():
            faults.append(f"the model name '{model.name}' cannot name a folder; use letters, digits, - and _.")
        with collected(f"model '{model.name}': "):
            if 0 < model.settings().draws < 4:
                faults.append(f"model '{model.name}': draws is {model.draws}; a report needs at least 4, for R-hat.")
            faults += _response_faults(study, model)
            faults += _effects_faults(study, model)
    if study.joint is not None:
        for key, model in zip(("formula", "without"), study.joint.as_models(study.models[0]), strict=True):
            with collected(f"[joint] {key}: "):
                if 0 < model.settings().draws < 4:
                    faults.append(f"[joint] draws is {model.draws}; a report needs at least 4, for R-hat.")
                moderator = study.effects.moderator
                if moderator is None or moderator not in model.spec().formula.variables:
                    faults.append(
                        f"[joint] {key} does not name the moderator of [effects], whose interaction it is about."
                    )
                if "experiment" not in model.spec().formula.variables:
                    faults.append(f"[joint] {key} does not name 'experiment'; one model of all has it as a predictor.")
                faults += _effects_faults(study, model)
    if study.simulate is not None and study.simulate.shown is not None:
        with collected("[simulate.shown]: "):
            study.simulate.people()
    for opinion in study.opinions:
        with collected(f"opinion '{opinion.response}': "):
            if opinion.as_model(study.models[0]).spec().family.binary:
                faults.append(
                    f"opinion '{opinion.response}': answers are for [[models]]; give times, ratings or scores."
                )
    named = [opinion.response for opinion in study.opinions]
    if len(set(named)) < len(named):
        faults.append("two opinions are about the same response; each needs its own.")
    if study.multiverse != MultiverseTable():
        with collected():
            find_dimensions(study.models, study.exclusions, study.effects, study.multiverse)
    called = [name.strip().lower() for name in study.reanalysis.names]
    if len({*called, "pooled", ""}) < len(called) + 2:
        faults.append("[reanalysis] names must be two different words, neither of them 'pooled'.")
    if study.simulate is not None:
        with collected("[simulate]: "):
            spec = study.simulate.spec()
            if study.simulate.lapse_sd and spec.family.binary:
                lapsing_law(float(spec.family.lapse), study.simulate.lapse_sd, spec.family.guess)
            elif study.simulate.lapse_sd:
                faults.append("[simulate] lapse_sd: only answers of 0 and 1 have lapses.")
        known = ["all", *study.design.participants]
        faults += [
            f"[simulate.truth] names '{name}', which is no experiment of [design] participants{nearest(name, known)}."
            for name in study.simulate.truth
            if name not in known
        ]
    with collected():
        study.rules()
    with collected():
        study.effects.as_interval()
    known = list(dotted(content))
    for key, text in study.sources.items():
        if text.partition(":")[0].strip() not in SOURCES:
            faults.append(f"the source of {key} is '{text}'; it must begin with {', '.join(SOURCES)}.")
        if key not in known:
            faults.append(f"[sources] names '{key}', which the file does not set{nearest(key, known)}.")
    at = study.effects.at
    if (
        study.effects.moderator
        and not isinstance(at, str)
        and not (len(at) > 1 and all(map(math.isfinite, at)) and all(low < high for low, high in pairwise(at)))
    ):
        faults.append(f"[effects] at is {list(at)}; it needs two values of the moderator or more, each above the last.")
    if faults:
        raise StudyError("\n".join(f"{study.path}: {fault}" for fault in faults))


def _response_faults(study: Study, model: ModelTable) -> Iterator[str]:
    """Yield what the report cannot say of a model's response."""
    spec, first = model.spec(), study.models[0].spec()
    response, main = spec.formula.response, first.formula.response
    if response.counts:
        yield f"model '{model.name}': the report is about single trials; give a response of one column, not counts."
    if response.successes != main.successes or spec.family.response != first.family.response:
        yield (
            f"model '{model.name}' is about another response than '{main.successes}', which the first model is about; "
            "ask for it in [[opinions]]."
        )
    if model != study.models[0]:
        return
    if study.joint is not None and main.successes != "correct":
        yield f"[joint] is about accuracy, the response 'correct'; that of model '{model.name}' is '{main.successes}'."
    if study.effects.detection:
        family = spec.family
        if not family.binary or family.link != "probit" or family.has_asymptotes or family.estimated:
            yield (
                f"[effects] detection needs answers yes or no with the link probit, and no guess or lapse rate; model "
                f"'{model.name}' is {family.describe()}."
            )


def _effects_faults(study: Study, model: ModelTable) -> Iterator[str]:
    """Yield what ``[effects]`` asks of a model that it does not have; a moderator that the file names, of the first."""
    effects, formula = study.effects, model.spec().formula
    predictors = [name for name in formula.variables if f"`{name}`" in formula.fixed]
    asked = {"factor": effects.factor}
    if effects.by and model == study.models[0]:
        asked["by"] = effects.by
        if effects.by in (effects.factor, effects.moderator):
            yield f"[effects] by is '{effects.by}', which is the factor or the moderator; name another factor."
    if effects.moderator and "moderator" in effects.model_fields_set and model == study.models[0]:
        asked["moderator"] = effects.moderator
    for key, name in asked.items():
        if name in _TAKEN:
            yield (
                f"[effects] {key} is '{name}', which the report's own tables are called by; rename the column in "
                f"[columns], for example my_{name} = '{name}'."
            )
        if name not in predictors:
            yield (
                f"[effects] {key} is '{name}', which model '{model.name}' does not have{nearest(name, predictors)}; "
                f"its predictors are {', '.join(predictors) or 'none'}."
            )
