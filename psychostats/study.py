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
from typing import Annotated, Any, Literal, TypeAlias

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from psychostats.effects import RESERVED
from psychostats.errors import InputError, StudyError, nearest
from psychostats.exclusions import Exclusions
from psychostats.intervals import Interval
from psychostats.sampler import Settings
from psychostats.simulate import Plan, simulate_trials
from psychostats.spec import ModelSpec, specify
from psychostats.trials import TrialTable, examine_trials, read_trials

FEATURE_TABLES = ("network", "images", "dictionary", "features", "contributions", "visualize", "stimuli")
SOURCES = ("paper", "predecessor", "assumed")
DEFAULT_FORMULA = "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | pair)"

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

Count: TypeAlias = Annotated[int, Field(ge=0)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class _Table(BaseModel):
    """A table of the study file; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class StudyTable(_Table):
    """``[study]``: what the study is called, and whether its participants are simulated."""

    name: str
    title: str
    description: str = ""
    reference: str = ""
    simulated: bool = False
    pseudonymize: bool = False
    trials: str = ""
    """Where its trials lie, from the study file's folder; for readers, no command looks there."""


class DesignTable(_Table):
    """``[design]``: who saw what."""

    assignment: Literal["within", "between"] | None = None
    participants: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """People in each experiment."""
    layers: tuple[str, ...] = ()
    pairs: Count | None = None
    main: Annotated[int, Field(ge=1)] | None = None
    catch: Count | None = None
    practice: Count | None = None


class SimulateTable(_Table):
    """``[simulate]``: the true model, and how people fall short of it."""

    seed: int = 1
    formula: str = DEFAULT_FORMULA
    family: str = "afc"
    link: str | None = None
    guess: float | None = None
    lapse: float | None = None
    careless: Count = 0
    catch_accuracy: Share = 0.98
    practice_accuracy: Share = 0.85
    missing_rate: Share = 0.0
    rt_median: Annotated[float, Field(gt=0, lt=1e6)] = 6.0
    rt_sigma: Annotated[float, Field(ge=0, le=5)] = 0.5
    truth: dict[str, dict[str, float]]
    """True values by term for each experiment; the table ``all`` holds those that experiments share."""

    def spec(self) -> ModelSpec:
        """Return the true model."""
        return specify(self.formula, family=self.family, link=self.link, guess=self.guess, lapse=self.lapse)


class ModelTable(_Table):
    """``[[models]]``: a model that is fitted to each experiment. The first is the one that the report is about."""

    name: str
    formula: str = DEFAULT_FORMULA
    family: str = "afc"
    link: str | None = None
    guess: float | None = None
    lapse: float | Literal["estimate"] | None = None
    priors: tuple[str, ...] = ()
    draws: Annotated[int, Strict()] = 1000
    tune: Annotated[int, Strict()] = 1000
    chains: Annotated[int, Strict()] = 4
    seed: Annotated[int, Strict()] = 1
    target_accept: float = 0.8

    def spec(self) -> ModelSpec:
        """Return the model without its data."""
        return specify(
            self.formula, family=self.family, link=self.link, guess=self.guess, lapse=self.lapse, priors=self.priors
        )

    def settings(self) -> Settings:
        """Return the sampler's settings."""
        return Settings(self.draws, self.tune, self.chains, self.seed, self.target_accept)


_OPINIONS: dict[str, tuple[str, Literal["all", "correct"]]] = {
    "rt": ("shifted_lognormal", "correct"),
    "confidence": ("cumulative", "all"),
}
"""For a column the family it has, and the trials it is taken from, where the file does not say."""


class OpinionTable(_Table):
    """``[[opinions]]``: another response of the same trials, by the first model's predictors."""

    response: str
    label: str | None = None
    family: str | None = None
    link: str | None = None
    trials: Literal["all", "correct"] | None = None
    priors: tuple[str, ...] = ()

    @property
    def takes(self) -> Literal["all", "correct"]:
        """Which trials it is taken from."""
        return self.trials or _OPINIONS.get(self.response, ("", "all"))[1]

    @property
    def words(self) -> str:
        """What the response is called in the report."""
        return self.label or {"rt": "response time (s)", "confidence": "confidence (rating)"}.get(
            self.response, self.response
        )

    def as_model(self, main: ModelTable) -> ModelTable:
        """Return the model that is fitted: the predictors and the sampler's settings of the main one."""
        family = self.family or _OPINIONS.get(self.response, ("gaussian", "all"))[0]
        written = self.response if self.response.isidentifier() else f"`{self.response}`"
        given = {"name": self.response, "formula": f"{written} ~ {main.formula.partition('~')[2].strip()}"}
        none = {"guess": None, "lapse": None}
        return main.model_copy(update=given | none | {"family": family, "link": self.link, "priors": self.priors})


class EffectsTable(_Table):
    """``[effects]``: which contrast, along what, and how it is summarised."""

    factor: str = "representation"
    moderator: str | None = "depth"
    at: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Rising values of the moderator where the contrast is asked for; the interaction is the last against the first."""
    interval: Literal["eti", "hdi"] = "eti"
    probability: float = 0.95

    def as_interval(self) -> Interval:
        """Return the interval of every table of the report."""
        return Interval(self.interval, self.probability)


class ReportTable(_Table):
    """``[report]``: how the report looks."""

    authors: tuple[str, ...] = ()
    depth_bins: Annotated[int, Field(ge=1)] = 8
    """Bins of the moderator for raw accuracy, where it takes more values."""
    group: str = "participant"
    """Whose raw accuracies stand as points in the figures."""


class Study(_Table):
    """A study file, read and checked."""

    study: StudyTable
    columns: dict[str, str] = Field(default_factory=dict)
    levels: dict[str, list[str] | dict[str, str]] = Field(default_factory=dict)
    filter: dict[str, Any] = Field(default_factory=dict)
    exclusions: dict[str, Any] = Field(default_factory=dict)
    design: DesignTable = DesignTable()
    simulate: SimulateTable | None = None
    models: tuple[ModelTable, ...] = ()
    opinions: tuple[OpinionTable, ...] = ()
    effects: EffectsTable = EffectsTable()
    report: ReportTable = ReportTable()
    sources: dict[str, str] = Field(default_factory=dict)
    path: Path = Path()
    sha256: str = ""

    def rules(self) -> Exclusions:
        """Return the rules of ``[exclusions]``."""
        return Exclusions.from_table(self.exclusions)

    def source_of(self, key: str) -> tuple[str, str]:
        """Return (paper, predecessor or assumed; note) of a dotted key; a setting without a source is assumed."""
        text = self.sources.get(key, "assumed")
        kind, _, note = text.partition(":")
        return kind.strip(), note.strip()

    def needed(self) -> tuple[str, ...]:
        """Return the columns that the models, rules and effects need."""
        names = [name for model in self.models for name in model.spec().formula.variables]
        names += [one.response for one in self.opinions]
        names += [*self.rules().needed, self.effects.factor, self.report.group]
        names += ["experiment"] if self.design.participants else []
        return tuple(dict.fromkeys(names))

    def read_options(self) -> dict[str, Any]:
        """Return what the study says of a trial file, for `psychostats.trials.read_trials`."""
        return {
            "columns": self.columns,
            "levels": self.levels,
            "filters": self.filter,
            "needed": self.needed(),
            "assignment": self.design.assignment,
            "unanswered": "error" if self.rules().missing_response is None else "keep",
            "pseudonymize": self.study.pseudonymize,
        }

    def reseeded(self, seed: int | None) -> Study:
        """Return the study with this seed for every model, or as it is for None."""
        if seed is None:
            return self
        return self.model_copy(update={"models": tuple(m.model_copy(update={"seed": seed}) for m in self.models)})

    def examine(self, trials: str | Path) -> TrialTable:
        """Read a trial file as the study says, with every fault; see `psychostats.trials.examine_trials`."""
        return examine_trials(trials, **self.read_options())

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
        design, s = self.design, self.simulate
        for key in ("participants", "layers", "pairs", "main", "catch", "practice"):
            if getattr(design, key) in (None, (), {}):
                raise StudyError(f"{self.path} lacks [design] {key}, which a simulation needs.")
        representations = self.levels.get("representation", ["local", "distributed"])
        shared = s.truth.get("all", {})
        return Plan(
            spec=s.spec(),
            truth={name: shared | s.truth.get(name, {}) for name in design.participants},
            participants=design.participants,
            representations=tuple(
                dict.fromkeys(representations.values() if isinstance(representations, dict) else representations)
            ),
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
        )

    def simulated_trials(self, seed: int | None = None) -> pd.DataFrame:
        """Simulate the study; the seed is the file's own unless one is given."""
        plan = self.plan()
        assert self.simulate is not None
        return simulate_trials(plan, self.simulate.seed if seed is None else seed)


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
    for name in ("path", "sha256"):
        if name in tables:
            allowed = [key for key in _fields(Study) if key not in ("path", "sha256")]
            raise StudyError(f"{path}: unknown table [{name}]; allowed are {', '.join(allowed)}.")
    if not tables.get("models"):
        tables["models"] = [{"name": "main"}, {"name": "plain", "family": "bernoulli"}]
    try:
        study = Study.model_validate(tables | {"path": path, "sha256": hashlib.sha256(raw).hexdigest()})
    except ValidationError as error:
        faults = dict.fromkeys(_say(fault) for fault in error.errors())
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
            if not model.spec().family.binary:
                faults.append(
                    f"model '{model.name}': the report is about answers that are right or wrong; ask for a response of "
                    f"the family {model.family} in [[opinions]]."
                )
            faults += _effects_faults(study, model)
    for opinion in study.opinions:
        with collected(f"opinion '{opinion.response}': "):
            if opinion.as_model(study.models[0]).spec().family.binary:
                faults.append(
                    f"opinion '{opinion.response}': answers are for [[models]]; give times, ratings or scores."
                )
    named = [opinion.response for opinion in study.opinions]
    if len(set(named)) < len(named):
        faults.append("two opinions are about the same response; each needs its own.")
    if study.simulate is not None:
        with collected("[simulate]: "):
            if not study.simulate.spec().family.binary:
                faults.append("[simulate] family: answers that are right or wrong are simulated, and no others.")
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
    known = list(_dotted(content))
    for key, text in study.sources.items():
        if text.partition(":")[0].strip() not in SOURCES:
            faults.append(f"the source of {key} is '{text}'; it must begin with {', '.join(SOURCES)}.")
        if key not in known:
            faults.append(f"[sources] names '{key}', which the file does not set{nearest(key, known)}.")
    at = study.effects.at
    if study.effects.moderator and not (
        len(at) > 1 and all(map(math.isfinite, at)) and all(low < high for low, high in pairwise(at))
    ):
        faults.append(f"[effects] at is {list(at)}; it needs two values of the moderator or more, each above the last.")
    if faults:
        raise StudyError("\n".join(f"{study.path}: {fault}" for fault in faults))


def _effects_faults(study: Study, model: ModelTable) -> Iterator[str]:
    """Yield what ``[effects]`` asks of a model that it does not have; a moderator that the file names, of the first."""
    effects, formula = study.effects, model.spec().formula
    predictors = [name for name in formula.variables if f"`{name}`" in formula.fixed]
    asked = {"factor": effects.factor}
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


def _say(fault: Any) -> str:
    """Turn one fault of the validation into a sentence that names the table, the key and what is allowed."""
    place = [part for part in fault["loc"] if not str(part).startswith(("list[", "dict["))]
    table, key = str(place[0]), ".".join(str(part) for part in place[1:])
    if fault["type"] == "extra_forbidden":
        if len(place) == 1:
            known = [*(name for name in _fields(Study) if name not in ("path", "sha256")), *FEATURE_TABLES]
            return f"unknown table [{table}]{nearest(table, known)}; allowed are {', '.join(known)}."
        known = _fields(_TABLES[table])
        return (
            f"unknown key '{place[-1]}' in [{table}]{nearest(str(place[-1]), known)}; allowed are {', '.join(known)}."
        )
    if fault["type"] == "missing":
        return f"[{table}] lacks '{key}'." if key else f"the table [{table}] is missing."
    where = f"[{table}] {key}" if key else f"[{table}]"
    if fault["type"] in ("model_type", "dict_type") and not key:
        return f"{where} is {fault['input']!r}; it must be a table."
    return f"{where} is {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}."


_TABLES: dict[str, type[BaseModel]] = {
    "study": StudyTable,
    "design": DesignTable,
    "simulate": SimulateTable,
    "models": ModelTable,
    "opinions": OpinionTable,
    "effects": EffectsTable,
    "report": ReportTable,
}


def _fields(table: type[BaseModel]) -> list[str]:
    return list(table.model_fields)


def _dotted(content: Mapping[str, Any], before: str = "") -> list[str]:
    """Return every dotted key of nested tables; in a list of tables, each table's under its name."""
    keys = []
    for name, value in content.items():
        keys.append(f"{before}{name}")
        if isinstance(value, Mapping):
            keys += _dotted(value, f"{before}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for item in value:
                keys += _dotted(item, f"{before}{name}.{item.get('name', '')}.")
    return keys
