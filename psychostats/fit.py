"""A fit: spec, coding, draws or estimates, and provenance.

In: a formula and trials.  Out: `Fit`, which answers a second identical call from its directory, and verifies itself
when it is loaded.  Knows nothing of effects or reports, nor how its directory is kept.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from psychostats import engines, store
from psychostats.columns import order_levels
from psychostats.convergence import Check, converged, explain
from psychostats.design import Coding, Design, code
from psychostats.draws import Draws
from psychostats.engines import How, Result, check, recompute, recorded, resolve_engine
from psychostats.errors import FitError, InputError, Interrupted
from psychostats.estimates import Estimates
from psychostats.identity import data_hash, pseudonymize
from psychostats.intervals import Interval
from psychostats.maximum import Method
from psychostats.predictor import Parameters
from psychostats.priors import Prior, resolve_priors
from psychostats.rows import Missing, describe_columns, select_rows, stored_rows
from psychostats.sampling import Settings
from psychostats.spec import ModelSpec, specify
from psychostats.store import SCHEMA
from psychostats.store import plain as plain
from psychostats.timing import Stopwatch
from psychostats.uncertainty import Delta, Sampled

#: What `Fit.likelihood` holds.
LIKELIHOOD = ("logLik", "df", "nobs", "AIC", "BIC", "REML", "singular", "singular_terms")


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
        In use, one a parameter; none under maximum likelihood.
    result
        Labelled draws (`draws` gives them as ArviZ's container), or labelled estimates.
    settings
        Of the sampler, or how the likelihood was taken.
    checks
        Of convergence, or of the estimates' boundaries.
    provenance
        What is written to provenance.json.
    timings
        Seconds by stage.
    path
        Where the fit lies, if it was written.
    reused
        Whether it was answered from `path` instead of computed.
    asked
        Intervals of its own tables, if other than the engine's, and the table of terms where they were costly.
    """

    spec: ModelSpec
    data: pd.DataFrame
    coding: Coding
    design: Design
    priors: tuple[Prior, ...]
    result: Result
    settings: How
    checks: tuple[Check, ...]
    provenance: dict[str, Any]
    timings: dict[str, float]
    path: Path | None = None
    reused: bool = False
    asked: tuple[Interval, pd.DataFrame | None] | None = None

    def __repr__(self) -> str:
        state = "" if self.converged else ", NOT CONVERGED"
        family = self.spec.family.describe()
        return f"Fit('{self.spec.formula.whole}', {family}, {int(self.design.trials.sum()):,} trials{state})"

    @property
    def draws_table(self) -> Draws:
        """The labelled draws.

        Raises
        ------
        InputError
            If the fit is a maximum of the likelihood, which has none.
        """
        if isinstance(self.result, Draws):
            return self.result
        raise InputError(
            "this fit is a maximum of the likelihood (engine laplace), which has no draws; use engine pymc."
        )

    @property
    def estimates(self) -> Estimates:
        """The labelled estimates.

        Raises
        ------
        InputError
            If the fit holds draws from a posterior.
        """
        if isinstance(self.result, Estimates):
            return self.result
        raise InputError("this fit holds draws from a posterior, no maximum of the likelihood; use engine laplace.")

    @property
    def is_maximum(self) -> bool:
        """Whether the fit is a maximum of the likelihood, not draws from a posterior."""
        return isinstance(self.result, Estimates)

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
    def kept(self) -> int:
        """Draws a chain; fewer than `settings` asks for where sampling was interrupted."""
        return int(self.draws_table.posterior.sizes["draw"])

    @property
    def interrupted(self) -> bool:
        """Whether sampling was interrupted, so that there are fewer draws than were asked for."""
        return "interrupted" in self.provenance

    @property
    def interval(self) -> Interval:
        """The kind of interval that the fit's own tables use."""
        return self.asked[0] if self.asked else Interval("wald") if self.is_maximum else Interval()

    def with_interval(self, interval: Interval, table: pd.DataFrame | None = None) -> Fit:
        """Return the fit with other intervals in its own tables; profile and bootstrap bring their `table` of terms."""
        return replace(self, asked=(interval, table))

    @property
    def uncertainty(self) -> Sampled | Delta:
        """What the rows of `parameters` are: draws from the posterior, or a maximum and the points around it."""
        return self.result.uncertainty if isinstance(self.result, Estimates) else Sampled()

    def terms(self, *, random: bool = False, interval: Interval | None = None) -> pd.DataFrame:
        """Summarise the terms; see `psychostats.draws.Draws.terms` and `psychostats.estimates.Estimates.terms`."""
        made = self.asked[1] if self.asked and interval is None else None
        if made is None:
            return self.result.terms(interval or self.interval, random=random)
        levels = self.result.terms(Interval("wald", self.interval.probability), random=random)
        return pd.concat([made, levels[levels["class"] == "r"]], ignore_index=True)

    def parameters(self, *, most: int | None = None) -> Parameters:
        """Return the draws as arrays, `most` of them; of a maximum, the points that `uncertainty` reads."""
        if isinstance(self.result, Estimates):
            return self.result.parameters()
        return self.result.parameters(self.design, most=most)

    @property
    def likelihood(self) -> dict[str, Any]:
        """``logLik, df, nobs, AIC, BIC, REML, singular, singular_terms`` of a maximum; None for draws."""
        if not isinstance(self.result, Estimates):
            return dict.fromkeys(LIKELIHOOD)
        best, n = self.result.maximum, len(self.design.X)
        singular = self.result.singular_terms
        assert isinstance(self.settings, Method)
        return {
            "logLik": best.log_likelihood,
            "df": best.parameters,
            "nobs": n,
            "AIC": 2.0 * best.parameters - 2.0 * best.log_likelihood,
            "BIC": float(np.log(n)) * best.parameters - 2.0 * best.log_likelihood,
            "REML": self.settings.reml,
            "singular": bool(singular),
            "singular_terms": singular,
        }

    def covariance(self) -> list[dict[str, Any]]:
        """Return the covariance structure that was fitted, a row a group effect."""
        return [
            {"group": block.group, "terms": list(block.terms), "structure": block.structure}
            for block in self.design.blocks
        ]

    def summary(self, *, random: bool = False) -> dict[str, Any]:
        """Return the whole summary as plain values, full precision, None where a figure does not apply."""
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
                "guess": family.guess if family.binary else None,
                "lapse": family.lapse_asked if family.binary else None,
                **self.spec.disc,
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
            "sampler": self._sampler(),
            "likelihood": self.likelihood,
            "converged": self.converged,
            "checks": [check.row() for check in self.checks],
            "priors": [prior.row() for prior in self.priors],
            "terms": [
                row | {"group": row["group"] or None} for row in self.terms(random=random).to_dict(orient="records")
            ],
            "warnings": self.warnings,
        }
        return dict(plain(summary))

    def _sampler(self) -> dict[str, Any]:
        """Return the sampler's settings and what it met; None for a maximum."""
        names = ("chains", "draws", "tune", "seed", "divergences", "treedepth_hits")
        if not (isinstance(self.result, Draws) and isinstance(self.settings, Settings)):
            return dict.fromkeys(names)
        stats, how = self.result.groups["sample_stats"], self.settings
        met = (int(stats["diverging"].sum()), int(stats["maxdepth_reached"].sum()))
        return dict(zip(names, (how.chains, self.kept, how.tune, how.seed, *met), strict=True))

    def write(self, path: Path, *, overwrite: bool = False) -> Fit:
        """Write the fit as a directory, at once or not at all; see `psychostats.store.write`."""
        table = self.spec.to_table() | {"likelihood" if self.is_maximum else "sampling": asdict(self.settings)}
        stored = store.Stored(table, self.result.groups, self.provenance, self.timings)
        provenance = store.write(path, stored, self.terms(), overwrite=overwrite)
        return replace(self, path=path, provenance=provenance)


def fit(
    formula: str | ModelSpec,
    trials: pd.DataFrame,
    *,
    family: str = "bernoulli",
    link: str | None = None,
    guess: float | None = None,
    lapse: float | str | None = None,
    disc: str | None = None,
    priors: Sequence[str] = (),
    engine: str = "auto",
    reml: bool = False,
    quadrature: int = 1,
    draws: int = 1000,
    tune: int | None = None,
    chains: int = 4,
    seed: int = 1,
    target_accept: float | None = None,
    budget: float | None = None,
    missing: Missing = "error",
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
    source: Mapping[str, Any] | None = None,
    on_start: Callable[[str, str], None] = lambda engine, reason: None,
    keep: bool = True,
) -> Fit:
    """Fit a hierarchical model to trials: draws from its posterior, or the maximum of its likelihood.

    Parameters
    ----------
    formula
        R-style formula, for example ``correct ~ representation * depth + (1 + representation | participant)``; or a
        `ModelSpec`, and then `family` to `priors` are taken from it.
    trials
        One row a trial (or a count); text and categorical columns are factors. All rows are analysed, so leave out
        practice and catch trials. Ids of recruiting platforms are replaced by pseudonyms.
    family, link, guess, lapse
        See `psychostats.families.resolve_family`.
    disc
        Columns by which the variance of ratings differs; see `psychostats.spec.specify`.
    priors
        Overrides ``CLASS ~ DIST``; see `psychostats.priors.resolve_priors`.
    engine
        ``auto``, ``nuts`` or ``pymc`` draw from the posterior; ``laplace`` finds the maximum of the likelihood, by
        Laplace's approximation (exact for the family gaussian), as lme4 does. ``auto`` is ``nuts``, the fast sampler,
        where it covers the model.
    reml
        Restricted maximum likelihood, for the family gaussian and engine ``laplace``.
    quadrature
        Nodes of adaptive Gauss-Hermite quadrature instead of Laplace's approximation, for one group effect with one
        term and engine ``laplace``.
    draws, tune, chains, seed, target_accept
        Of the sampler; `tune` and `target_accept` by the engine, `psychostats.engines.TUNE` and ``TARGET_ACCEPT``.
    budget
        Seconds that sampling may take, for the engine ``nuts``; no part of what is fitted.
    missing
        What to do with rows that lack a value the formula needs, or hold an infinite one: ``error``, or ``drop`` and
        count them.
    out
        Directory to write to. If it holds the same fit (data, spec, seed, versions), that is returned instead; an
        interrupted one is replaced.
    overwrite
        Replace another fit in `out`.
    progress
        Show a progress bar; by default on a terminal.
    source
        What to remember of where the trials came from, for provenance.
    on_start
        Called with the engine, and why it is that one, before the model is fitted; not where the answer lies in `out`.
    keep
        Keep the draws of an interrupted sampler, if there are at least `psychostats.engines.LEAST_KEPT` a chain.

    Returns
    -------
    Fit

    Raises
    ------
    InputError
        If anything given cannot be used; nothing is written then.
    Interrupted
        If it was interrupted and draws are kept; it holds the fit of these, which is written to `out`.
    NoMaximumError
        If the likelihood has no maximum; nothing is written then either.
    OverBudget
        If sampling would take longer than `budget`; nothing is written.
    """
    spec = (
        formula
        if isinstance(formula, ModelSpec)
        else specify(formula, family=family, link=link, guess=guess, lapse=lapse, disc=disc, priors=priors)
    )
    method = Method(reml, quadrature)
    lengths = partial(
        engines.resolve_settings, draws=draws, tune=tune, chains=chains, seed=seed, target_accept=target_accept
    )
    chosen, reason = resolve_engine(engine, spec, method, budget=budget)
    how: How = method if chosen == "laplace" else lengths(chosen)
    rows, dropped = select_rows(spec, order_levels(trials), missing)
    # Trials that read_trials did not read may still hold a platform's ids; not among the levels of predictors.
    groups = {name for bar in spec.formula.bars for name in bar.factors}
    rows = pseudonymize(rows, spared=set(rows.columns) - groups)
    coding = code(spec.formula, rows, thresholds=spec.family.ordinal)
    design = coding.design(rows, spec.family.response)
    if chosen == "nuts":
        chosen, reason = engines.suit(engine, chosen, reason, design, budget=budget)
        how = lengths(chosen)
    in_use = resolve_priors(design, spec.priors, spec.family) if isinstance(how, Settings) else ()
    versions = engines.library_versions(chosen)
    sha = data_hash(rows, list(rows.columns))
    key = store.digest(
        {
            "data": sha,
            "dropped": (source or {}).get("dropped", dropped),
            "levels": coding.levels,
            "group_levels": {block.group: block.levels for block in design.blocks},
            "spec": spec.to_table(),
            "sampling": asdict(how),
            "engine": chosen,
            "versions": versions,
        }
    )
    asked = Path(out) if out is not None else None
    path = asked.resolve() if asked is not None else None  # what a link stands for is written, not the link replaced
    held = _answer(path, key, overwrite) if path is not None else None
    if held is not None and not held.interrupted:
        return replace(held, path=asked)
    if path is not None:
        store.require_writable(path)
    on_start(chosen, reason)
    watch = Stopwatch()
    shown = sys.stderr.isatty() if progress is None else progress
    result, checks = engines.run(
        chosen, how, design, spec, in_use, rows, progress=shown, clock=watch.start, budget=budget, keep=keep
    )
    provenance = {
        "schema": SCHEMA,
        "key": key,
        "engine": chosen,
        "engine_reason": reason,
        "converged": converged(checks),
        "data": {
            "sha256": sha,
            "rows": len(rows),
            "dropped": dropped,
            "levels": {name: list(levels) for name, levels in coding.levels.items()},
            **describe_columns(rows),
            **(source or {}),
        },
        "priors": [prior.row() for prior in in_use],
        recorded(how): recompute(spec, design, result, how),
        "versions": versions | {"python": platform.python_version()},
    }
    rows = rows.reset_index(drop=True)
    made = Fit(spec, rows, coding, design, in_use, result, how, checks, provenance, watch.stop())
    whole = isinstance(how, Method) or made.kept == how.draws
    if not whole:
        provenance["interrupted"] = {"asked": draws, "kept": made.kept}
    if held is not None and not whole and held.kept >= made.kept:
        made = held  # one chain's draws begin alike, so those that lie there already hold these
    elif path is not None:
        made = made.write(path, overwrite=overwrite)
    made = replace(made, path=asked)
    if not whole:
        raise Interrupted(made, made.kept, draws, asked)
    return made


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
    stored = store.read(path)
    spec, provenance = ModelSpec.from_table(stored.spec), stored.provenance
    rows = stored_rows(stored.groups["constant_data"], provenance["data"])
    coding = code(spec.formula, rows, thresholds=spec.family.ordinal)
    design = coding.design(rows, spec.family.response)
    result: Result
    how: How
    if "likelihood" in stored.spec:
        how, result = Method(**stored.spec["likelihood"]), Estimates.of(stored.groups, design, rows, path)
    else:
        how, result = Settings(**stored.spec["sampling"]), Draws.of(stored.groups, path)
    before = provenance[recorded(how)]
    try:
        again = recompute(spec, design, result, how)
    except KeyError as error:
        raise FitError(f"{path} does not verify: its trials now code to other terms than were drawn.") from error
    if not np.isclose(before, again, rtol=1e-9):
        raise FitError(
            f"{path} does not verify: its log-likelihood is {again:.6f} where {before:.6f} was recorded. Fit again "
            "with --overwrite."
        )
    return Fit(
        spec=spec,
        data=rows,
        coding=coding,
        design=design,
        priors=resolve_priors(design, spec.priors, spec.family) if isinstance(how, Settings) else (),
        result=result,
        settings=how,
        checks=check(result, how),
        provenance=provenance,
        timings=stored.timings,
        path=path,
    )


def _answer(path: Path, key: str, overwrite: bool) -> Fit | None:
    """Return the fit that `path` holds if it is the one asked for; refuse what must not be replaced."""
    held = store.held_key(path)
    if held == key:
        try:
            return replace(load_fit(path), reused=True)
        except FitError:
            if not overwrite:
                raise
    elif held is not None and not overwrite:
        raise store.another_fit(path)
    return None
