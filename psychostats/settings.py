"""The tables of the study file: every key, its kind and its default.

In: nothing.  Out: pydantic records, one a table, that refuse unknown keys and wrong kinds.  What keys say together is
checked in study.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, Strict

from psychostats.engines import resolve_engine, resolve_settings
from psychostats.intervals import Interval
from psychostats.parts import Tool
from psychostats.sampling import Settings
from psychostats.simulate import People
from psychostats.spec import ModelSpec, specify

DEFAULT_FORMULA = "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | pair)"
_GROUPS = "(1 + representation | participant) + (1 + representation | pair)"

Count: TypeAlias = Annotated[int, Field(ge=0)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class Table(BaseModel):
    """A table of the study file; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class StudyTable(Table):
    """``[study]``: what the study is called, and whether its participants are simulated."""

    name: str
    title: str
    description: str = ""
    reference: str = ""
    simulated: bool = False
    pseudonymize: bool = False
    trials: str = ""
    """Where its trials lie, from the study file's folder; what a reanalysis lays new ones beside."""


class RecordingsTable(Table):
    """``[recordings]``: how what an experiment wrote is read."""

    tool: Tool = "auto"
    wide: str | None = None
    """How the columns of a table with one row a participant are called, such as ``{column}_{trial}``."""
    metadata: str | None = None
    """A table that joins the trials, from the study file's folder."""
    by: str = "stimulus"
    """The column by which it joins."""


class DemographicsTable(Table):
    """``[demographics]``: who took part, of which summaries are printed and nothing else."""

    file: str = ""
    """A platform's export, from the study file's folder; ``--demographics`` gives another."""
    key: str = "Participant id"
    columns: tuple[str, ...] = ("Age", "Sex")
    smallest: Annotated[int, Field(ge=2)] = 5
    """Cells with fewer people are suppressed."""


class ReanalysisTable(Table):
    """``[reanalysis]``: how new participants are laid beside the old."""

    names: tuple[str, str] = ("old", "new")
    """What the two studies are called; neither ``pooled``, as both together are."""
    steps: Annotated[int, Field(ge=2, le=50)] = 8
    """At how many numbers of participants the effect is followed."""


class DesignTable(Table):
    """``[design]``: who saw what."""

    assignment: Literal["within", "between"] | None = None
    participants: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """People in each experiment."""
    layers: tuple[str, ...] = ()
    at: tuple[float, ...] = ()
    """Values of the moderator; from 0 to 1 over the layers where there are none."""
    item: str = "pair"
    """The column of what is shown, of which there are `pairs`."""
    pairs: Count | None = None
    main: Annotated[int, Field(ge=1)] | None = None
    catch: Count | None = None
    practice: Count | None = None


class ShownTable(Table):
    """``[simulate.shown]``: what is true where people are shown the stimuli of a features run."""

    formula: str
    """May name what the run knows of each stimulus and feature; one model for all experiments."""
    truth: dict[str, float]


class SimulateTable(Table):
    """``[simulate]``: the true model, and how people fall short of it."""

    seed: int = 1
    formula: str = DEFAULT_FORMULA
    family: str = "afc"
    link: str | None = None
    guess: float | None = None
    lapse: float | None = None
    lapse_sd: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """SD of the lapse rate between people, around `lapse`."""
    careless: Count = 0
    catch_accuracy: Share = 0.98
    practice_accuracy: Share = 0.85
    missing_rate: Share = 0.0
    rt_median: Annotated[float, Field(gt=0, lt=1e6)] = 6.0
    rt_sigma: Annotated[float, Field(ge=0, le=5)] = 0.5
    truth: dict[str, dict[str, float]]
    """True values by term for each experiment; the table ``all`` holds those that experiments share."""
    shown: ShownTable | None = None

    def spec(self) -> ModelSpec:
        """Return the true model."""
        return specify(self.formula, family=self.family, link=self.link, guess=self.guess, lapse=self.lapse)

    def people(self) -> People | None:
        """Return who answers the trials of a features run, or None where the file does not say."""
        if self.shown is None:
            return None
        spec = specify(self.shown.formula, family=self.family, link=self.link, guess=self.guess, lapse=self.lapse)
        habits = (
            "careless",
            "catch_accuracy",
            "practice_accuracy",
            "missing_rate",
            "rt_median",
            "rt_sigma",
            "lapse_sd",
        )
        return People(spec, self.shown.truth, **{name: getattr(self, name) for name in habits})


Treatment: TypeAlias = Literal["ignored", "known", "estimated", "catch"]
"""The lapse rate in an analysis: taken as 0; the true one; estimated from the main trials, or from the catch trials."""


class LapsesTable(Table):
    """``[lapses]``: what lapses and careless people do to the study's power, and whether a catch-trial rule helps."""

    experiment: str | None = None
    """By default the first."""
    rates: Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(min_length=1)] = (0.0, 0.02, 0.05)
    """True lapse rates."""
    spread: Annotated[float, Field(ge=0)] = 0.0
    """SD of the rate between people, over the rate."""
    careless: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.0, 0.05, 0.1)
    """Shares of people who answer at chance."""
    rules: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = None
    """Least shares of catch trials that must be right; each is held against no such rule."""
    treatments: Annotated[tuple[Treatment, ...], Field(min_length=1)] = ("ignored", "known", "estimated", "catch")
    other_rules: bool = False
    """Whether the study's other rules about people are applied too, which may find the careless anyway."""
    simulations: Annotated[int, Field(ge=2), Strict()] = 200
    """Of each pair of a rate and a share."""
    seed: Annotated[int, Field(ge=0), Strict()] = 1


class ModelTable(Table):
    """``[[models]]``: a model that is fitted to each experiment. The first is the one that the report is about."""

    name: str
    formula: str = DEFAULT_FORMULA
    family: str = "afc"
    link: str | None = None
    guess: float | None = None
    lapse: float | Literal["estimate"] | None = None
    priors: tuple[str, ...] = ()
    draws: Annotated[int, Strict()] = 1000
    tune: Annotated[int, Strict()] | None = None
    chains: Annotated[int, Strict()] = 4
    seed: Annotated[int, Strict()] = 1
    target_accept: float | None = None

    def spec(self) -> ModelSpec:
        """Return the model without its data."""
        return specify(
            self.formula, family=self.family, link=self.link, guess=self.guess, lapse=self.lapse, priors=self.priors
        )

    def as_maximum(self) -> ModelTable:
        """Return the model without priors, which maximum likelihood has none of; an estimated lapse is set to 0."""
        return self.model_copy(update={"priors": (), "lapse": None if self.lapse == "estimate" else self.lapse})

    def settings(self) -> Settings:
        """Return the settings of the sampler that the model gets, with its defaults for what the file leaves out."""
        engine, _ = resolve_engine("auto", self.spec())
        return resolve_settings(engine, **self.lengths())

    def lengths(self) -> dict[str, Any]:
        """Return what the file says of them; None is left to the engine, which the data may change."""
        return {name: getattr(self, name) for name in ("draws", "tune", "chains", "seed", "target_accept")}


_OPINIONS: dict[str, tuple[str, Literal["all", "correct"]]] = {
    "rt": ("shifted_lognormal", "correct"),
    "confidence": ("cumulative", "all"),
}
"""For a column the family it has, and the trials it is taken from, where the file does not say."""


class OpinionTable(Table):
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


class JointTable(Table):
    """``[joint]``: one model of all experiments, and the same without the interaction that is asked about."""

    formula: str = f"correct ~ experiment * representation * depth + {_GROUPS}"
    without: str = f"correct ~ experiment * representation + experiment * depth + {_GROUPS}"
    """The formula without the factor's change with the moderator, which the first is compared with."""
    draws: Annotated[int, Strict()] = 1000
    tune: Annotated[int, Strict()] | None = None
    chains: Annotated[int, Strict()] = 4
    seed: Annotated[int, Strict()] = 1

    def as_models(self, main: ModelTable) -> tuple[ModelTable, ModelTable]:
        """Return the two models, with the family, link, rates and priors of the main one."""
        given = {name: getattr(self, name) for name in ("draws", "tune", "chains", "seed")}
        return (
            main.model_copy(update=given | {"name": "joint", "formula": self.formula}),
            main.model_copy(update=given | {"name": "joint_without", "formula": self.without}),
        )


class EffectsTable(Table):
    """``[effects]``: which contrast, along what, and how it is summarised."""

    factor: str = "representation"
    detection: bool = False
    """Whether the factor is a signal that is absent or present and the response a yes: d' and criterion are given."""
    moderator: str | None = "depth"
    at: tuple[float, ...] | Literal["range"] = (0.0, 0.5, 1.0)
    """Rising values of the moderator where the contrast is asked for; the interaction is the last against the first.
    ``range``: the lowest and the highest that the analysed trials have."""
    interval: Literal["eti", "hdi"] = "eti"
    probability: float = 0.95
    by: str | None = None
    """Another factor, such as the network, by whose levels the contrast is given too, and its change between them."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.75
    """Accuracy from which a feature counts as interpretable."""

    @property
    def places(self) -> tuple[float, ...]:
        """The values of the moderator, once they are known."""
        assert not isinstance(self.at, str), "the trials say what the range is"
        return self.at

    def as_interval(self) -> Interval:
        """Return the interval of every table of the report."""
        return Interval(self.interval, self.probability)


class FamilyTable(Table):
    """A choice of ``[multiverse.families]``: another family, link or rate than the first model's."""

    family: str | None = None
    link: str | None = None
    guess: float | None = None
    lapse: float | Literal["estimate"] | None = None

    def of(self, main: ModelTable) -> dict[str, Any]:
        """Return the family in full: what is not given is the first model's, where that is of the same family."""
        name = self.family or main.family
        held = {key: getattr(main, key) if name == main.family else None for key in ("link", "guess", "lapse")}
        return {"family": name} | {key: held[key] if (own := getattr(self, key)) is None else own for key in held}


class MultiverseTable(Table):
    """``[multiverse]``: other analyses that could be defended, each dimension a table of label and choice."""

    exclusions: dict[str, dict[str, Any] | Literal["none"]] | None = None
    """Changes to ``[exclusions]``; ``none`` for no rule at all."""
    fixed: dict[str, str] | None = None
    """Predictors: the right side of a formula, without group effects."""
    codings: dict[str, dict[str, str]] | None = None
    """Columns and how they are coded: treatment, sum or sdif."""
    families: dict[str, FamilyTable] | None = None
    groups: dict[str, str] | None = None
    """Group effects."""
    without: tuple[tuple[str, str], ...] = ()
    """Two choices that make no sense together, each ``dimension.label``."""


class PowerTable(Table):
    """``[power]``: which designs a next study may have, what is wished of it, and what it costs."""

    experiment: str | None = None
    """Whose truth is simulated; by default the first of ``[design] participants``."""
    participants: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """By default a quarter, half, all and one and a half times those of the study's own design."""
    main: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Main trials a person; by default the study's own."""
    pairs: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Features, or other items; by default the study's own. Not for a study without items."""
    simulations: Annotated[int, Field(ge=2)] = 500
    """Of each design; 500 leave a power of 80 % uncertain by 3.5 percentage points."""
    power: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Wished probability to detect; 0.8 where no wish is given."""
    precision: Annotated[float, Field(gt=0)] | None = None
    """Wished mean half width of the interval: a difference of probabilities, below 1, or in the response's unit."""
    quantity: Literal["contrast", "change"] = "contrast"
    """What the wish is about: the contrast of the factor, or its change with the moderator."""
    null: bool = True
    """Whether false positives are counted, in a truth without differences."""
    nuts: Count = 20
    """Simulations of a design that the sampler fits as well."""
    cost_participant: Annotated[float, Field(ge=0)] = 1.0
    cost_trial: Annotated[float, Field(ge=0)] = 0.02
    """Of a main trial of a person."""
    cost_feature: Annotated[float, Field(ge=0)] = 0.0
    """Of a pair of features."""
    seed: Count = 1


class ReportTable(Table):
    """``[report]``: how the report looks."""

    authors: tuple[str, ...] = ()
    depth_bins: Annotated[int, Field(ge=1)] = 8
    """Bins of the moderator for raw accuracy, where it takes more values."""
    group: str = "participant"
    """Whose raw accuracies stand as points in the figures."""
    response: str | None = None
    """What the first model's response is called, with its article; ``accuracy`` for ``correct``."""
    unit: str | None = None
    """Of a response that is no answer; ``s`` for ``rt``."""
    digits: Annotated[int, Field(ge=0, le=6)] | None = None
    """Decimals of a response that is no answer; 3 for ``rt``, else 2."""
