"""What a next study could look like: the grid of its designs, what is wished of it, what it costs and what is true.

In: a study file's ``[power]`` and what was asked for instead; perhaps a fit.  Out: a frozen `Question` in which nothing
is left open.  Knows neither simulations nor what comes of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from psychostats.engines import resolve_engine, resolve_settings
from psychostats.environment import LIBRARIES, versions
from psychostats.errors import InputError, nearest
from psychostats.exchangeable import exchange
from psychostats.families import resolve_family
from psychostats.fit import load_fit
from psychostats.intervals import Interval
from psychostats.maximum import Method
from psychostats.measure import Measure
from psychostats.predictor import plural
from psychostats.replications import Asked, Procedure, ask_effects, learn, true_values
from psychostats.settings import ModelTable, PowerTable
from psychostats.simulate import Plan, true_parameters
from psychostats.spec import ModelSpec
from psychostats.store import digest
from psychostats.study import Study

#: Sizes of the default grid, as shares of the study's own number of participants.
SHARES = (0.25, 0.5, 1.0, 1.5)
#: Transforms that learn numbers from the trials, so that a fit's terms mean another thing in another study.
_LEARNED = ("scale(", "center(", "poly(", "bs(")


@dataclass(frozen=True, order=True)
class Size:
    """The size of a design.

    Parameters
    ----------
    participants, main, pairs
        People, main trials of each, and pairs of features, or other items, that these are taken from; 0 pairs where
        trials are of nothing in particular.
    """

    participants: int
    main: int
    pairs: int

    @property
    def name(self) -> str:
        """Short enough for a folder."""
        return f"p{self.participants}-m{self.main}" + (f"-f{self.pairs}" if self.pairs else "")

    def describe(self, items: str) -> str:
        """Return the size in words, in which items are called as a study calls them."""
        said = f"{self.participants:,} participants, {self.main} trials each"
        return f"{said}, {self.pairs} {items}" if self.pairs else said

    def __str__(self) -> str:
        return self.describe("features")


@dataclass(frozen=True)
class Truth:
    """What is true in the simulations.

    Parameters
    ----------
    words
        Where it comes from.
    spec
        The true model.
    sets
        True values of every term: one set, or one a draw of a posterior, of which each simulation takes another.
    key
        Of the fit that they are from; empty where they are the study file's.
    """

    words: str
    spec: ModelSpec
    sets: tuple[Mapping[str, float], ...]
    key: str = ""

    @property
    def drawn(self) -> bool:
        """Whether every simulation has a truth of its own."""
        return len(self.sets) > 1

    def order(self, seed: int) -> list[int]:
        """Return which set each simulation takes, one after the other and then from the start."""
        return [int(i) for i in np.random.default_rng([seed, len(self.sets)]).permutation(len(self.sets))]


@dataclass(frozen=True)
class Question:
    """A planning question, every setting resolved.

    Parameters
    ----------
    study
        The study file.
    settings
        ``[power]``, with what was asked for instead of it.
    experiment
        Which one is planned.
    base
        What every design shares; its size is the study's own.
    sizes
        The grid.
    left_out
        Sizes that no study can have, and why.
    truth
        What is true.
    procedure
        How each simulated study is analysed.
    sampler
        How some of them are analysed as well; None where they are not, for the reason `unsampled`.
    asked
        Which quantities.
    quantities
        Their names, and whether each is a ``contrast`` or a ``change``.
    given
        Keys of ``[power]`` that were given by the command.
    """

    study: Study
    settings: PowerTable
    experiment: str
    base: Plan
    sizes: tuple[Size, ...]
    left_out: tuple[tuple[Size, str], ...]
    truth: Truth
    procedure: Procedure
    sampler: Procedure | None
    unsampled: str
    asked: Asked
    quantities: Mapping[str, str]
    given: frozenset[str] = frozenset()

    @property
    def own(self) -> Size:
        """The study's own size."""
        return Size(self.base.participants[self.experiment], self.base.main, self.base.pairs)

    @property
    def measure(self) -> Measure:
        """What is answered, and how its numbers print."""
        return self.study.measure

    @property
    def items(self) -> str:
        """What trials are taken from, in the plural; empty where they are of nothing in particular."""
        return items_of(self.base)

    def say(self, size: Size) -> str:
        """Return a size in the study's words."""
        return size.describe(self.items)

    @property
    def power(self) -> float | None:
        """The wished probability to detect; 0.8 where nothing is wished."""
        return 0.8 if self.settings.power is None and self.settings.precision is None else self.settings.power

    @property
    def precision(self) -> float | None:
        """The wished half width."""
        return self.settings.precision

    @property
    def sampled(self) -> int:
        """How many simulations of a design are sampled as well."""
        return 0 if self.sampler is None else min(self.settings.nuts, self.settings.simulations)

    @property
    def wished(self) -> str:
        """The quantity that the wish is about."""
        return next(name for name, kind in self.quantities.items() if kind == self.settings.quantity)

    @property
    def interval(self) -> Interval:
        """Of maximum likelihood."""
        return Interval("wald", self.asked.probability)

    @property
    def identity(self) -> dict[str, Any]:
        """What, beside a design, a simulation depends on; neither the grid nor the number of simulations."""
        apart = ("spec", "truth", "participants", "main", "pairs")
        plan = {name: _plain(value) for name, value in vars(self.base).items() if name not in apart}
        return {
            "what": "power",
            "experiment": self.experiment,
            "truth": digest([self.truth.spec.to_table(), *self.truth.sets]),
            "plan": plan | {"careless": self.base.careless / self.own.participants},
            "analysis": {"model": self.procedure.spec.to_table(), "exclusions": vars(self.procedure.rules)},
            # Also where nothing is sampled: a later run of the same question may.
            "sampler": self.study.models[0].spec().to_table() | self.study.models[0].lengths(),
            "quantities": vars(self.asked),
            "seed": self.settings.seed,
            "versions": versions(LIBRARIES),
        }

    def cost(self, size: Size) -> float:
        """Return what a design costs, in the units of ``[power]``."""
        s = self.settings
        trials = size.participants * size.main
        return s.cost_participant * size.participants + s.cost_trial * trials + s.cost_feature * size.pairs

    def plan(self, size: Size, truth: Mapping[str, float]) -> Plan:
        """Return the plan of a design; careless people keep their share."""
        return plan_of(self.base, self.experiment, size, truth, self.truth.spec)

    def null(self, truth: Mapping[str, float]) -> dict[str, float]:
        """Return the same truth with the factor's levels made alike."""
        return null_of(self.base, self.experiment, truth, self.truth.spec, self.asked.factor)


def items_of(plan: Plan) -> str:
    """Return what the trials of a plan are taken from, in the plural: features, unless the study says otherwise."""
    if not plan.pairs:
        return ""
    return "features" if plan.item == "pair" else plural(plan.item)


def _plain(value: Any) -> Any:
    """Return a part of a plan as JSON can hold it."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def plan_of(base: Plan, experiment: str, size: Size, truth: Mapping[str, float], spec: ModelSpec) -> Plan:
    """Return the plan of one design; a lapse rate among the true values becomes the family's."""
    values = {name: value for name, value in truth.items() if name != "lapse"}
    if "lapse" in truth:
        family = spec.family
        guess = family.guess if family.name == "afc" else None
        spec = replace(spec, family=resolve_family(family.name, link=family.link, guess=guess, lapse=truth["lapse"]))
    careless = round(base.careless * size.participants / base.participants[experiment])
    return replace(
        base,
        spec=spec,
        truth={experiment: values},
        participants={experiment: size.participants},
        main=size.main,
        pairs=size.pairs,
        careless=careless,
    )


def null_of(base: Plan, experiment: str, truth: Mapping[str, float], spec: ModelSpec, factor: str) -> dict[str, float]:
    """Return the truth of `base` with a factor's levels made alike."""
    size = Size(base.participants[experiment], base.main, base.pairs)
    plan = plan_of(base, experiment, size, truth, spec)
    coding, main = learn(plan)
    own = spec.family.estimated  # such as sigma, which no level of the factor has for itself
    kept = {name: value for name, value in truth.items() if name == "lapse" or name in own}
    terms = {name: value for name, value in plan.truth[experiment].items() if name not in own}
    return exchange(terms, coding, main, factor) | kept


def ask(study: Study, given: Mapping[str, Any], fit: Path | None = None) -> Question:
    """Resolve a planning question.

    Parameters
    ----------
    study
        The study file, with ``[simulate]``.
    given
        Keys of ``[power]`` and their values, which go before the file's.
    fit
        The directory of a fit whose draws, or estimates, are taken for true instead of what the file says.

    Raises
    ------
    InputError
        If something is not there, out of range, or no design can be simulated.
    """
    settings = study.power.model_copy(update=dict(given))
    _require(settings, study.measure)
    model = study.models[0]
    maximum = _maximum(model)
    plan = study.plan()
    experiment = settings.experiment or next(iter(plan.participants))
    if experiment not in plan.participants:
        raise InputError(
            f"the experiment '{experiment}' is none of {study.path}{nearest(experiment, plan.participants)}; its "
            f"experiments are {', '.join(plan.participants)}."
        )
    base = replace(
        plan,
        participants={experiment: plan.participants[experiment]},
        truth={name: values for name, values in plan.truth.items() if name == experiment},
    )
    truth = Truth(f"{study.path.name}, [simulate.truth]", plan.spec, (plan.truth[experiment],))
    if fit is not None:
        truth = read_truth(fit)
    own = Size(base.participants[experiment], base.main, base.pairs)
    own_plan = plan_of(base, experiment, own, truth.sets[0], truth.spec)
    base = replace(base, spec=own_plan.spec, truth=own_plan.truth)
    try:
        coding, main = learn(own_plan)
        true_parameters(coding, coding.random(main), own_plan.truth[experiment], own_plan.spec.family)
        asked = ask_effects(study, main)
        names = list(true_values(own_plan, asked))
        contrasts = set(true_values(own_plan, replace(asked, ends=None)))
    except InputError as error:
        if fit is None:
            raise
        raise InputError(f"the fit {fit} does not describe the design of {study.path}: {error}") from error
    sizes, left_out = _grid(settings, base, own)
    sampler, unsampled = _sampler(study, settings)
    quantities = {name: "contrast" if name in contrasts else "change" for name in names}
    if settings.quantity not in quantities.values():
        raise InputError(
            f"the wish is about the change of the contrast, but model '{model.name}' has no moderator of [effects]; "
            "ask for the contrast."
        )
    question = Question(
        study,
        settings,
        experiment,
        base,
        sizes,
        left_out,
        truth,
        Procedure("laplace", maximum, study.rules()),
        sampler,
        unsampled,
        asked,
        quantities,
        frozenset(given),
    )
    if settings.null:
        question.null(truth.sets[0])  # what has none is refused now
    return question


def _maximum(model: ModelTable) -> ModelSpec:
    """Return the model as each simulated study is analysed."""
    spec = model.as_maximum().spec()
    if not spec.family.maximisable:
        raise InputError(
            f"simulated studies are analysed by maximum likelihood, which cannot fit the family {spec.family.name} of "
            f"model '{model.name}'; the first model must be of answers of 0 and 1, or gaussian."
        )
    resolve_engine("laplace", spec, Method())
    return spec


def _require(settings: PowerTable, measure: Measure) -> None:
    """Check what was given by the command, which no study file has checked."""
    for name in ("participants", "main", "pairs"):
        least = 2 if name == "participants" else 1
        bad = next((value for value in getattr(settings, name) if value < least), None)
        if bad is not None:
            raise InputError(f"{name} is {bad}; it must be at least {least}.")
    for name, least in (("simulations", 2), ("nuts", 0), ("seed", 0)):
        if getattr(settings, name) < least:
            raise InputError(f"{name} is {getattr(settings, name)}; it must be at least {least}.")
    if settings.power is not None and not 0.0 < settings.power < 1.0:
        raise InputError(f"the wished power is {settings.power:g}; it must be above 0 and below 1.")
    if settings.precision is not None and not measure.is_share and not settings.precision > 0.0:
        raise InputError(
            f"the wished precision is {settings.precision:g}; it is half the width of an interval of a difference in "
            f"{measure.units}, above 0."
        )
    if settings.precision is not None and measure.is_share and not 0.0 < settings.precision < 1.0:
        raise InputError(
            f"the wished precision is {settings.precision:g}; it is half the width of an interval of a difference of "
            "probabilities, above 0 and below 1, such as 0.03."
        )


def _grid(settings: PowerTable, base: Plan, own: Size) -> tuple[tuple[Size, ...], tuple[tuple[Size, str], ...]]:
    """Return the sizes that a study can have, and the others with the reason."""
    if settings.pairs and not own.pairs:
        raise InputError("the study has no items ([design] pairs is 0), so that pairs cannot be asked for.")
    people = settings.participants or tuple(max(2, round(share * own.participants)) for share in SHARES)
    sizes = dict.fromkeys(
        Size(n, main, pairs)
        for pairs in settings.pairs or (own.pairs,)
        for main in settings.main or (own.main,)
        for n in people
    )
    faults = [(size, fault) for size in sizes for fault in _impossible(size, base)]
    none = {size for size, _ in faults}
    if len(none) == len(sizes):
        raise InputError(f"no design can be simulated: {faults[0][0].describe(items_of(base))}: {faults[0][1]}.")
    return tuple(sorted(set(sizes) - none)), tuple(faults)


def _impossible(size: Size, base: Plan) -> Iterator[str]:
    """Yield why no study can have a size."""
    if size.pairs and size.main > size.pairs:
        yield f"{size.main} main trials a person need as many {items_of(base)}, and there are {size.pairs}"
        return
    for sort in ("catch", "practice"):
        if getattr(base, sort) > size.main:
            yield f"{getattr(base, sort)} {sort} trials are taken from as many main ones, and there are {size.main}"
            return


def _sampler(study: Study, settings: PowerTable) -> tuple[Procedure | None, str]:
    """Return how the sampler analyses a study, or why it does not."""
    model = study.models[0]
    if settings.nuts == 0:
        return None, "none were asked for"
    try:
        resolve_engine("nuts", model.spec())
    except InputError as error:
        return None, str(error)
    lengths = resolve_settings("nuts", **model.lengths())
    return Procedure("nuts", model.spec(), study.rules(), "nuts", lengths), ""


def read_truth(path: Path) -> Truth:
    """Read what a fit says of its terms, to be taken for true.

    Parameters
    ----------
    path
        Directory of a fit: of draws, each a truth of its own; of a maximum, its estimates alone.

    Raises
    ------
    InputError
        If it is no fit that can be read, did not converge, or its terms depend on the trials it was fitted to.
    """
    made = load_fit(path)
    if not made.converged:
        raise InputError(f"the fit {path} did not converge, so it says nothing that could be taken for true.")
    spec = made.spec
    learned = next((call for call in _LEARNED if call in spec.formula.text.replace(" ", "")), None)
    if learned or spec.formula.monotonic or not spec.family.binary:
        why = f"{learned}) in its formula takes numbers from its trials" if learned else "its answers are not simulated"
        raise InputError(f"the fit {path} cannot be taken for true in other trials: {why}.")
    if made.is_maximum:
        table = made.terms()
        values = dict(zip(table["term"].astype(str), table["estimate"].astype(float), strict=True))
        words = f"the estimates of the fit {path.name}, without their uncertainty"
        singular = made.likelihood["singular_terms"]
        if singular:
            words += f"; it is singular, so {', '.join(singular)} at the boundary may be far from the truth"
        return Truth(words, spec, (values,), _key(made))
    flat = made.draws_table.flat()
    rows = flat[[name for name in flat.columns if not name.startswith(".")]].to_dict("records")
    sets = tuple({str(name): float(value) for name, value in row.items()} for row in rows)
    return Truth(f"{len(sets):,} draws of the fit {path.name}, another one in each simulation", spec, sets, _key(made))


def _key(made: Any) -> str:
    return str(made.provenance.get("key", ""))
