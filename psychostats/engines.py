"""The engines: a design and a model to draws or to a maximum, and whether they may be read.

In: an engine's name, a design, a spec and settings.  Out: `Draws` or `Estimates`, and the checks.  The one place where
it is decided what runs; knows no directory.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Callable
from typing import Any, TypeAlias

import pandas as pd

from psychostats.convergence import Check, check_convergence
from psychostats.design import Design
from psychostats.draws import Draws, label
from psychostats.errors import InputError, nearest
from psychostats.estimates import Estimates, label_maximum
from psychostats.groups import group_faults, single_rows
from psychostats.intervals import Interval
from psychostats.maximum import Method, maximise
from psychostats.priors import Prior
from psychostats.sampler import sample
from psychostats.sampling import Settings
from psychostats.spec import ModelSpec

ENGINES = ("auto", "pymc", "nuts", "laplace")
# Libraries whose version can change a number of a fit.
_LIBRARIES = ("psychostats", "pymc", "pytensor", "nutpie", "numba", "arviz", "formulaic", "numpy", "scipy", "pandas")
#: An SD on the link scale beyond which Laplace's approximation is not to be relied on: whole levels' answers are alike.
LARGE_SD = 9.0

Result: TypeAlias = Draws | Estimates
How: TypeAlias = Settings | Method


def resolve_engine(engine: str, spec: ModelSpec | None = None, method: Method | None = None) -> tuple[str, str]:
    """Return the engine that runs and why.

    Parameters
    ----------
    engine
        ``auto``, or the one asked for.
    spec, method
        What is to be fitted, where that is known already: an engine refuses what it cannot fit.

    Raises
    ------
    InputError
        If it is unknown, not part of this version, or cannot fit the model.
    """
    if engine not in ENGINES:
        raise InputError(
            f"the engine '{engine}' is unknown{nearest(engine, ENGINES)}; allowed are {', '.join(ENGINES)}."
        )
    if engine == "nuts":
        raise InputError("the engine 'nuts' is not part of this version; use --engine pymc.")
    if engine == "laplace":
        if spec is not None and spec.priors:
            raise InputError("maximum likelihood takes no priors; leave out --prior, or use --engine pymc.")
        if spec is not None and method is not None:
            method.require(spec.family)
        if spec is not None and spec.formula.monotonic:
            raise InputError("maximum likelihood cannot fit a monotonic effect, mo(); use --engine pymc.")
        return "laplace", "asked for"
    if method is not None and method != Method():
        raise InputError("--reml and --quadrature are of maximum likelihood; add --engine laplace.")
    return "pymc", "asked for" if engine == "pymc" else "auto: the only engine that samples in this version"


def run(
    how: How,
    design: Design,
    spec: ModelSpec,
    priors: tuple[Prior, ...],
    rows: pd.DataFrame,
    *,
    progress: bool,
    clock: Callable[[str], None],
) -> tuple[Result, tuple[Check, ...]]:
    """Fit, and check the result.

    Parameters
    ----------
    how
        `Settings` of the sampler, or `Method` of maximum likelihood.
    design, spec, priors, rows
        What is fitted; `rows` are the columns of the trials that the formula names.
    progress
        Show a progress bar, where the engine has one.
    clock
        Called with the name of each stage as it begins.

    Raises
    ------
    InputError
        If the engine cannot fit the model.
    NoMaximumError
        If the likelihood has no maximum.
    """
    result: Result
    if isinstance(how, Settings):
        drawn = sample(design, spec.family, priors, how, progress=progress, clock=clock)
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


def _shown(what: str) -> contextlib.AbstractContextManager[Any]:
    """Show that something goes on, where it is not known how many steps there will be."""
    from rich.console import Console

    return Console(stderr=True).status(what)


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
    return check_convergence(
        result.terms(Interval(), random=True),
        int(stats["diverging"].sum()),
        int(stats["maxdepth_reached"].sum()),
        how.draws * how.chains,
    )


def library_versions() -> dict[str, str]:
    """Return versions of the libraries that can change a number."""
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
