"""A study that is simulated and then analysed as the real one would be, once.

In: a `Plan`, which says what is true; how it is analysed; which quantities are asked for.  Out: their estimates as
plain values, and their true values.  Knows neither how many replications there are nor what they are for.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from psychostats.catch_trials import lapse_from_catch
from psychostats.columns import analysed
from psychostats.design import Coding, code
from psychostats.effects import contrasts, interactions
from psychostats.errors import InputError, NoMaximumError
from psychostats.exclusions import apply_exclusions
from psychostats.fit import fit
from psychostats.grid import Estimated
from psychostats.intervals import Interval
from psychostats.profiled import fit_known, fit_rates
from psychostats.results import Known
from psychostats.rules import Exclusions
from psychostats.sampling import Settings
from psychostats.simulate import Plan, simulate_trials, true_parameters
from psychostats.spec import ModelSpec
from psychostats.study import Study

LapseSource: TypeAlias = Literal["given", "estimated", "catch"]


@dataclass(frozen=True)
class Asked:
    """Which quantities are asked of every fit: differences of the mean response in the population.

    Parameters
    ----------
    factor
        Whose levels are contrasted, each later one with each earlier.
    probability
        Of the intervals.
    moderator, centre
        A number at whose value `centre` the contrast is taken; None where the model has none.
    ends
        Two values of the moderator, between which the change of the contrast is asked for; None where it is not.
    predictors
        Of the analysis. Where it has no moderator, what else a truth depends on is averaged over the trials.
    """

    factor: str
    probability: float = 0.95
    moderator: str | None = None
    centre: float | None = None
    ends: tuple[float, float] | None = None
    predictors: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Procedure:
    """How a study is analysed.

    Parameters
    ----------
    name
        What it is called.
    spec
        The model; its priors are of ``nuts`` alone.
    rules
        Who and what is left out.
    engine
        ``laplace`` or ``nuts``.
    settings
        Of the sampler; needed with ``nuts``.
    lapse
        Where the lapse rate comes from, under ``laplace``: the model (``given``), the likelihood (``estimated``), or
        the catch trials of everybody (``catch``).
    catch_accuracy
        Of those who do not lapse, for ``catch``.
    """

    name: str
    spec: ModelSpec
    rules: Exclusions = field(default_factory=Exclusions)
    engine: Literal["laplace", "nuts"] = "laplace"
    settings: Settings | None = None
    lapse: LapseSource = "given"
    catch_accuracy: float = 1.0


def ask_effects(study: Study, main: pd.DataFrame) -> Asked:
    """Return the quantities of ``[effects]``: the contrast at the moderator's mean over main trials, and its change."""
    effects, predictors = study.effects, tuple(study.models[0].spec().formula.variables)
    moderator = effects.moderator if effects.moderator in predictors else None
    if moderator is None or moderator not in main:
        return Asked(effects.factor, effects.probability, predictors=predictors)
    values = main[moderator].astype(float)
    ends = (values.min(), values.max()) if effects.at == "range" else (effects.places[0], effects.places[-1])
    places = float(values.mean()), (float(ends[0]), float(ends[1]))
    return Asked(effects.factor, effects.probability, moderator, *places, predictors)


def replicate(plan: Plan, seed: int, procedures: Iterable[Procedure], asked: Asked) -> dict[str, Any]:
    """Simulate a study once and analyse it in each way.

    Parameters
    ----------
    plan
        With one experiment.
    seed
        Of the simulation.
    procedures
        All see the same trials.
    asked
        The quantities.

    Returns
    -------
    dict
        By the procedure's name: ``participants, trials`` (analysed), ``failed`` (why there is no fit, or None),
        ``singular`` (or, under nuts, not converged), and ``quantities``: by name ``estimate, sd, conf_low, conf_high``;
        with a rate that was estimated also ``lapse`` and ``lapse_sd`` (None at the end of its range).
    """
    trials = simulate_trials(plan, seed)
    known: _Known = {}
    return {procedure.name: _analyse(trials, procedure, asked, known) for procedure in procedures}


def true_values(plan: Plan, asked: Asked) -> dict[str, float]:
    """Return the true value of every quantity of a plan with one experiment, under its own model.

    They are of the mean response, lapses and guesses included, so that any model can be held against them.
    """
    coding, main = learn(plan)
    (experiment,) = plan.participants
    parameters = true_parameters(coding, coding.random(main), plan.truth[experiment], plan.spec.family)
    known = Known(plan.spec, coding, Interval("eti", asked.probability), parameters)
    lacking = [name for name in coding.ranges if asked.predictors is not None and name not in asked.predictors]
    if not lacking or asked.moderator is not None:
        return {name: row["estimate"] for name, row in _measure(known, asked, known.interval).items()}
    total: dict[str, float] = {}
    for cell in main[lacking].value_counts(normalize=True).reset_index().to_dict("records"):
        beside = {name: [float(cell[name])] for name in lacking}
        for name, row in _measure(known, asked, known.interval, beside).items():
            total[name] = total.get(name, 0.0) + float(cell["proportion"]) * row["estimate"]
    return total


def learn(plan: Plan) -> tuple[Coding, pd.DataFrame]:
    """Return the coding of a plan's true model, and the main trials it is learned from, whose answers do not matter."""
    # Every level and value of the design occurs among the main trials of enough people.
    trials = simulate_trials(replace(plan, careless=0, missing_rate=0.0), 0)
    main = trials[analysed(trials)]
    return code(plan.spec.formula, main), main


_Known: TypeAlias = dict[Hashable, Any]
"""What was found of the same trials before, since rules often leave out the same people: results, maxima, trials."""


def _analyse(trials: pd.DataFrame, procedure: Procedure, asked: Asked, known: _Known | None = None) -> dict[str, Any]:
    """Exclude, fit and measure."""
    known = {} if known is None else known
    found: dict[str, Any] = {"participants": 0, "trials": 0, "failed": None, "singular": False, "quantities": {}}
    try:
        rules = repr(procedure.rules)
        if rules not in known:
            known[rules] = apply_exclusions(trials, procedure.rules).kept
        kept = known[rules].dropna(subset=list(procedure.spec.formula.variables))
        found |= {"participants": kept["participant"].nunique(), "trials": len(kept)}
        same = (kept.index.to_numpy().tobytes(), repr(replace(procedure, name="", rules=Exclusions())))
        if same not in known:
            known[same] = _fit(trials, kept, procedure, asked, known)
        result: dict[str, Any] = known[same]
        return found | result
    except (NoMaximumError, InputError) as error:  # or what the rules leave cannot be fitted
        return found | {"failed": str(error).splitlines()[0]}


def _fit(trials: pd.DataFrame, kept: pd.DataFrame, procedure: Procedure, asked: Asked, known: _Known) -> dict[str, Any]:
    """Fit and measure what was kept of the trials."""
    spec, nuts = procedure.spec, procedure.engine == "nuts"
    if procedure.lapse == "given":
        how = vars(procedure.settings) if procedure.settings else {}
        made = fit(spec, kept, engine=procedure.engine, progress=False, **how)
        quantities = _measure(made, asked, Interval("eti" if nuts else "wald", asked.probability))
        singular = not made.converged if nuts else bool(made.likelihood["singular"])
        if not nuts:
            known[_where(kept, spec)] = made.estimates.maximum
        return {"quantities": quantities, "singular": singular}
    start = known.get(_where(kept, replace(spec, family=replace(spec.family, lapse=0.0))))
    if procedure.lapse == "estimated":
        profiled = fit_rates(spec, kept, start=start)
    else:
        catch = trials[trials["catch"].astype(bool) & trials["correct"].notna()]
        shares = catch.groupby("participant", observed=True)["correct"].mean()
        rate, sd = lapse_from_catch(shares, accuracy=procedure.catch_accuracy, guess=spec.family.guess)
        profiled = fit_known(spec, kept, rate, sd, start=start)
    return {
        "quantities": _measure(profiled, asked, Interval("wald", asked.probability)),
        "singular": bool(profiled.estimates.singular_terms),
        "lapse": profiled.rates["lapse"],
        "lapse_sd": None if profiled.at_end else profiled.rate_sds()["lapse"],
    }


def _where(kept: pd.DataFrame, spec: ModelSpec) -> Hashable:
    """Return what a maximum is known by: trials and model."""
    return kept.index.to_numpy().tobytes(), repr(spec.to_table())


def _measure(
    made: Estimated, asked: Asked, interval: Interval, beside: Mapping[str, Sequence[float]] | None = None
) -> dict[str, dict[str, float]]:
    """Return estimate, SD and limits of every quantity, by its name; `beside` are values of other predictors."""
    at = {asked.moderator: [asked.centre]} if asked.moderator is not None and asked.centre is not None else beside
    tables = [contrasts(made, asked.factor, by=at, interval=interval)]
    if asked.moderator is not None and asked.ends is not None:
        tables.append(interactions(made, asked.factor, asked.moderator, asked.ends, interval=interval))
    found: dict[str, dict[str, float]] = {}
    for table in tables:
        rows = table[(table["target"] == "population") & (table["scale"] == "difference")]
        for row in rows.to_dict("records"):
            found[str(row["contrast"])] = _numbers({str(name): value for name, value in row.items()})
    return found


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(row[name]) for name in ("estimate", "sd", "conf_low", "conf_high") if not _absent(row[name])}


def _absent(value: Any) -> bool:
    return value is None or bool(np.isnan(value))
