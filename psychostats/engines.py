"""The engines: a design and a model to draws or to a maximum, and whether they may be read.

In: an engine's name, a design, a spec and settings.  Out: `Draws` or `Estimates`, and the checks.  The one place where
it is decided what runs, for how long, and what is kept of it when it is interrupted; knows no directory.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from psychostats import nuts, sampler
from psychostats.convergence import Check, check_convergence
from psychostats.design import Design
from psychostats.draws import Draws, label
from psychostats.environment import LIBRARIES, OWN_LIBRARIES, versions
from psychostats.errors import InputError, NoMaximumError, OverBudget, nearest
from psychostats.estimates import Estimates, label_maximum
from psychostats.groups import group_faults, single_rows
from psychostats.intervals import Interval
from psychostats.maximum import Method, forecast, log_likelihood, maximise
from psychostats.predictor import Parameters, linear_predictor
from psychostats.priors import Prior
from psychostats.sampling import Sample, Settings
from psychostats.spec import ModelSpec
from psychostats.timing import duration

ENGINES = ("auto", "pymc", "nuts", "laplace")
#: Warm-up draws where none are asked for: nuts starts at the mode, with its scales known.
TUNE = {"pymc": 1000, "nuts": 200}
#: Acceptance rate where none is asked for.
TARGET_ACCEPT = {"pymc": 0.8, "nuts": 0.85}
#: Draws a chain below which nothing is kept of an interrupted fit: four such chains hold fewer draws than the effective
#: sample size, `psychostats.convergence.ESS_MIN`, from which a fit may be read.
LEAST_KEPT = 100
#: An SD on the link scale beyond which Laplace's approximation is not to be relied on: whole levels' answers are alike.
LARGE_SD = 9.0

Result: TypeAlias = Draws | Estimates
How: TypeAlias = Settings | Method


def resolve_engine(
    engine: str, spec: ModelSpec, method: Method | None = None, *, budget: float | None = None
) -> tuple[str, str]:
    """Return the engine that runs and why.

    Parameters
    ----------
    engine
        ``auto``, or the one asked for.
    spec
        What is to be fitted.
    method
        How the likelihood is to be taken, where that is asked for.
    budget
        Seconds that sampling may take.

    Raises
    ------
    InputError
        If it is unknown, not there, or cannot do what it is asked for.
    """
    if engine not in ENGINES:
        raise InputError(
            f"the engine '{engine}' is unknown{nearest(engine, ENGINES)}; allowed are {', '.join(ENGINES)}."
        )
    chosen, reason = _choose(engine, spec)
    if chosen == "laplace":
        if spec.priors:
            raise InputError("maximum likelihood takes no priors; leave out --prior, or use --engine pymc.")
        if method is not None:
            method.require(spec.family)
        if spec.formula.monotonic:
            raise InputError("maximum likelihood cannot fit a monotonic effect, mo(); use --engine pymc.")
    elif method is not None and method != Method():
        raise InputError("--reml and --quadrature are of maximum likelihood; add --engine laplace.")
    if budget is not None:
        if not (math.isfinite(budget) and budget > 0.0):
            raise InputError(f"the budget is {budget:g} seconds; it must be above 0.")
        _require_forecast(chosen, reason)
    return chosen, reason


def _require_forecast(engine: str, reason: str) -> None:
    """Refuse a budget of an engine that does not know what it will take."""
    if engine != "nuts":
        raise InputError(
            f"--budget is of the engine nuts, which knows beforehand what it will take; the engine is {engine} "
            f"({reason}), so leave it out."
        )


def _choose(engine: str, spec: ModelSpec) -> tuple[str, str]:
    """Return the engine that samples, or the one asked for, and why."""
    if engine not in ("auto", "nuts"):
        return engine, "asked for"
    lacking = nuts.why_not(spec)
    if lacking is None and nuts.available():
        return "nuts", "asked for" if engine == "nuts" else "auto: the fast sampler covers the model"
    why = (
        f"nuts does not cover {lacking}"
        if lacking is not None
        else "nuts was not compiled when the package was installed (no C compiler)"
    )
    if engine == "nuts":
        raise InputError(f"the engine {why}; use --engine pymc.")
    return "pymc", f"auto: {why}"


def suit(asked: str, engine: str, reason: str, design: Design, *, budget: float | None = None) -> tuple[str, str]:
    """Return the engine and why, now that the design is known; see `resolve_engine`.

    Raises
    ------
    InputError
        If ``nuts`` was asked for, or there is a budget, and the design is too large for it.
    """
    lacking = nuts.too_large(design) if engine == "nuts" else None
    if lacking is None:
        return engine, reason
    if asked == "nuts":
        raise InputError(f"the engine nuts does not cover {lacking}; use --engine pymc.")
    reason = f"auto: nuts does not cover {lacking}"
    if budget is not None:
        _require_forecast("pymc", reason)
    return "pymc", reason


def resolve_settings(
    engine: str, *, draws: int, tune: int | None, chains: int, seed: int, target_accept: float | None
) -> Settings:
    """Return the settings of the sampler that runs; what is None is the engine's own default.

    Raises
    ------
    InputError
        If one is out of range.
    """
    return Settings(
        draws,
        TUNE[engine] if tune is None else tune,
        chains,
        seed,
        TARGET_ACCEPT[engine] if target_accept is None else target_accept,
    )


def run(
    engine: str,
    how: How,
    design: Design,
    spec: ModelSpec,
    priors: tuple[Prior, ...],
    rows: pd.DataFrame,
    *,
    progress: bool,
    clock: Callable[[str], None],
    budget: float | None = None,
    keep: bool = False,
) -> tuple[Result, tuple[Check, ...]]:
    """Fit, and check the result.

    Parameters
    ----------
    engine
        As `resolve_engine` gives it.
    how
        `Settings` of the sampler, or `Method` of maximum likelihood.
    design, spec, priors, rows
        What is fitted; `rows` are the columns of the trials that the formula names.
    progress
        Show a progress bar, where the engine has one.
    clock
        Called with the name of each stage as it begins.
    budget
        Seconds that sampling may take, for the engine ``nuts``.
    keep
        Return the draws of a sampler that was interrupted, where there are at least `LEAST_KEPT` a chain.

    Raises
    ------
    InputError
        If the engine cannot fit the model.
    KeyboardInterrupt
        If interrupted, unless draws are kept.
    NoMaximumError
        If the likelihood has no maximum.
    OverBudget
        If sampling would take longer than allowed.
    """
    result: Result
    if isinstance(how, Settings):
        _require_variation(design, spec)
        drawn = _draw(engine, how, design, spec, priors, progress=progress, clock=clock, budget=budget)
        if drawn.interrupted and not (keep and drawn.b.shape[1] >= LEAST_KEPT):
            raise KeyboardInterrupt
        clock("summarise")
        result = label(drawn, design, rows)
    else:
        clock("maximise")
        faults = group_faults(design, continuous=not spec.family.binary)
        if faults:
            raise InputError(faults[0])
        with _shown("maximising the likelihood") if progress else contextlib.nullcontext():
            maximum = maximise(design, spec.family, how)
        clock("summarise")
        result = label_maximum(maximum, design, rows)
    return result, check(result, how)


def _require_variation(design: Design, spec: ModelSpec) -> None:
    """Refuse measurements that are all alike: the smaller sigma, the likelier they are, without bound."""
    compiled = spec.family.compiled
    if compiled is not None and compiled.kind == "normal":
        values = spec.family.normal_response(design.successes) - design.offset
        if len(values) > 1 and np.ptp(values) == 0.0:
            raise InputError("the response does not vary, so that it has no residual SD, sigma; leave it out.")


def _shown(what: str) -> contextlib.AbstractContextManager[Any]:
    """Show that something goes on, where it is not known how many steps there will be."""
    from rich.console import Console

    return Console(stderr=True).status(what)


def _draw(
    engine: str,
    how: Settings,
    design: Design,
    spec: ModelSpec,
    priors: tuple[Prior, ...],
    *,
    progress: bool,
    clock: Callable[[str], None],
    budget: float | None,
) -> Sample:
    """Sample by one engine or the other; see `run`."""
    if engine != "nuts":
        return sampler.sample(design, spec.family, priors, how, progress=progress, clock=clock)
    try:
        return nuts.sample(design, spec.family, priors, how, progress=progress, clock=clock, budget=budget)
    except OverBudget as error:
        assert budget is not None
        raise OverBudget(error.seconds_needed, describe_budget(error.seconds_needed, budget, design, spec)) from error


def describe_budget(needed: float, allowed: float, design: Design, spec: ModelSpec) -> str:
    """Say what sampling would take, what was allowed, and what there is instead, in one sentence.

    Parameters
    ----------
    needed, allowed
        Seconds.
    design, spec
        What is to be fitted; one step of maximum likelihood is taken and timed, to say what all would take.
    """
    said = f"sampling would take about {duration(needed)}, and --budget allows {duration(allowed)}"
    if not spec.family.maximisable or group_faults(design, continuous=not spec.family.binary):
        return f"{said}; allow more, or fewer draws."
    try:
        seconds = forecast(design, spec.family)
    except NoMaximumError:
        return f"{said}; allow more, or fewer draws."
    what = "an approximation" if spec.family.binary else "with no priors"
    without = " without --prior" if spec.priors else ""
    return (
        f"{said}; --engine laplace{without} gives the maximum of the likelihood, {what}, in about {duration(seconds)}."
    )


def check(result: Result, how: How) -> tuple[Check, ...]:
    """Judge whether a result may be read."""
    if isinstance(result, Estimates):
        assert isinstance(how, Method)
        # A maximum that was not reached is no result; so all that is left is to warn of.
        single = [block.group for block in result.blocks if single_rows(block)]
        approximate = result.maximum.sigma is None and how.quadrature == 1
        large = [(term, sd) for term, sd in result.sds().items() if approximate and sd > LARGE_SD]
        return (
            *(Check("singular", term, 0.0, 0.0, "warning") for term in result.singular_terms),
            *(Check("large_sd", term, sd, LARGE_SD, "warning") for term, sd in large),
            *(Check("rows_a_level", group, 1.0, 2.0, "warning") for group in dict.fromkeys(single)),
        )
    assert isinstance(how, Settings)
    stats = result.groups["sample_stats"]
    checks = check_convergence(
        result.terms(Interval(), random=True),
        int(stats["diverging"].sum()),
        int(stats["maxdepth_reached"].sum()),
        int(stats["diverging"].size),
    )
    kept = int(stats.sizes["draw"])
    short = (Check("interrupted", None, float(kept), float(how.draws), "warning"),) if kept < how.draws else ()
    return (*short, *checks)


def recompute(spec: ModelSpec, design: Design, result: Result, how: How) -> float:
    """Return what a stored fit is verified by: the log-likelihood at the estimates, or at the mean of the draws.

    For draws, at the posterior mean of b and r, without binomial coefficients.
    """
    if isinstance(result, Estimates):
        assert isinstance(how, Method)
        return log_likelihood(design, spec.family, how, result.maximum)
    everything = result.parameters(design)
    mean = Parameters(
        everything.b.mean(axis=0, keepdims=True), (), tuple(r.mean(axis=0, keepdims=True) for r in everything.r)
    )
    eta = linear_predictor(design, mean)
    own = {name: values.mean(axis=0, keepdims=True) for name, values in everything.family.items()}
    family = spec.family.at(own, design.scale)
    return float(np.sum(family.log_density(design.successes, design.trials, eta)))


def recorded(how: How) -> str:
    """Return what provenance calls the number that a fit is verified by; see `recompute`."""
    return "log_likelihood_at_mean" if isinstance(how, Settings) else "log_likelihood"


def library_versions(engine: str) -> dict[str, str]:
    """Return versions of the libraries that can change a number of an engine's fits."""
    return versions((*LIBRARIES, *OWN_LIBRARIES.get(engine, ())))
