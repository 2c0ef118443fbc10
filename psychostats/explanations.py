"""What could explain interpretability: the main model fitted again with covariates, or on matched trials.

In: a `Fit`, its trials, and covariates that were attached to them.  Out: refits and tidy tables of their slopes and
contrasts.  Knows no figure and no sentence.

Covariates enter the model itself, as predictors beside the formula's own, so that what is not known of each feature
(its effects) is in every interval; regressing estimates of features on a covariate would take them as known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from psychostats.columns import order_levels
from psychostats.effects import by_column, contrasts, interactions, marginal_means, slopes
from psychostats.errors import InputError, nearest
from psychostats.fit import Fit, fit
from psychostats.formula import parse_formula
from psychostats.intervals import Interval
from psychostats.levels import is_number
from psychostats.matching import CALIPER, REACH, Matched, balance, match, units_of
from psychostats.spec import ModelSpec

Transform: TypeAlias = Literal["none", "log"]

#: What a stimulus's references look like, as a features run records it: means over the references.
COMPLEXITY = ("entropy", "edge_density", "compressed_bytes")


@dataclass(frozen=True)
class Scaling:
    """How a covariate was made ready: what one unit of its column is.

    Parameters
    ----------
    covariate, column
        The covariate, and the column that holds it standardised.
    transform
        ``log`` (of the absolute value) or ``none``.
    scales
        For each level that was standardised apart (one empty name where all were together): mean and SD, after the
        transform, over units, not trials.
    floor
        With ``log``, what took the place of zeros: half of the smallest absolute value above zero. None where there
        was no zero.
    """

    covariate: str
    column: str
    transform: Transform
    scales: Mapping[str, tuple[float, float]]
    floor: float | None = None


@dataclass(frozen=True)
class Contribution:
    """Whether a covariate of features predicts their interpretability.

    Parameters
    ----------
    scaling
        What one unit is.
    fit
        The main model with the covariate and its product with the factor.
    slopes
        See `covariate_slopes`.
    line
        Population accuracy along the covariate, by level of the factor: ``<factor>, value`` and `EFFECT_COLUMNS`.
    """

    scaling: Scaling
    fit: Fit
    slopes: pd.DataFrame
    line: pd.DataFrame


@dataclass(frozen=True)
class Complexity:
    """The difference between two bases, as it is, adjusted for covariates, and on matched stimuli.

    Parameters
    ----------
    contrasts
        A row an analysis: ``analysis`` (``unadjusted``, ``adjusted``, ``matched``), ``trials``, then the columns of
        `psychostats.effects.contrasts`, target population, scale difference.
    balance
        Of all trials and of matched ones (``sample``: ``all`` or ``matched``); see `psychostats.matching.balance`.
    slopes
        Of the covariates in the adjusted model, per SD.
    matched
        Which stimuli were paired.
    fits
        By analysis.
    """

    contrasts: pd.DataFrame
    balance: pd.DataFrame
    slopes: pd.DataFrame
    matched: Matched
    fits: Mapping[str, Fit]


def extend_formula(text: str, terms: Sequence[str]) -> str:
    """Return a formula with more terms in its fixed part.

    Raises
    ------
    FormulaError
        If what comes of it is no formula.
    """
    return parse_formula(" + ".join([text, *terms])).text


def standardise(
    trials: pd.DataFrame,
    covariate: str,
    *,
    unit: Sequence[str],
    within: str | None = None,
    transform: Transform = "none",
    column: str | None = None,
) -> tuple[pd.DataFrame, Scaling]:
    """Add a covariate to the trials, centred and in SDs, each unit counted once.

    Parameters
    ----------
    trials
        A row a trial.
    covariate
        Numeric column, constant within a unit.
    unit
        Columns that make a unit: a feature, or a stimulus.
    within
        A factor within whose levels to standardise (a neuron's contribution and a direction's are on scales of their
        own); all together by default.
    transform
        ``log`` takes the logarithm of the absolute value; zeros become half of the smallest value above zero.
    column
        Its name; ``z_<covariate>`` by default.

    Returns
    -------
    DataFrame, Scaling
        The trials with the new column, and what one unit of it is.

    Raises
    ------
    InputError
        If the column is missing, no number, missing in some trials, varies within a unit, or does not vary at all.
    """
    if transform not in ("none", "log"):
        raise InputError(f"the transform '{transform}' is unknown; allowed are none and log.")
    new = column or f"z_{covariate}"
    if new in trials:
        raise InputError(f"the trials have a column '{new}' already; rename it.")
    key = within or unit[0]
    units = units_of(trials, [covariate], key, unit)
    floor = None

    def ready(values: pd.Series[Any]) -> pd.Series[float]:
        numbers = values.astype(float)
        if transform == "none":
            return numbers
        size = numbers.abs()
        return size.where(size > 0, floor if floor is not None else size).apply(np.log)

    if transform == "log":
        size = units[covariate].abs()
        if not (size > 0).any():
            raise InputError(f"the covariate '{covariate}' is zero everywhere, so it has no logarithm.")
        floor = float(size[size > 0].min() / 2.0) if (size == 0).any() else None
    value, of_trials = ready(units[covariate]), ready(trials[covariate])
    out = pd.Series(np.nan, index=trials.index)
    scales: dict[str, tuple[float, float]] = {}
    for level in [None] if within is None else list(dict.fromkeys(units[within])):
        mine = pd.Series(True, index=units.index) if level is None else units[within] == level
        here = pd.Series(True, index=trials.index) if level is None else trials[within] == level
        mean, sd = float(value[mine].mean()), float(value[mine].std(ddof=1))
        if not sd > 1e-12 * max(1.0, abs(mean)):
            where = "" if level is None else f" in {within} '{level}'"
            raise InputError(f"the covariate '{covariate}' does not vary{where}, so it can explain nothing.")
        out[here] = (of_trials[here] - mean) / sd
        scales["" if level is None else str(level)] = (mean, sd)
    return trials.assign(**{new: out}), Scaling(covariate, new, transform, dict(sorted(scales.items())), floor)


def refit(main: Fit, formula: str, trials: pd.DataFrame, *, engine: str = "laplace", **sampling: Any) -> Fit:
    """Fit another formula with the family of a fit, and its priors where the engine has any.

    Parameters
    ----------
    main
        Whose family, link, guess rate and priors are taken.
    formula, trials
        What is fitted.
    engine, sampling
        See `psychostats.fit.fit`: ``laplace`` takes a second or two for some thousand trials, ``pymc`` a minute.

    Raises
    ------
    InputError, NoMaximumError
        As `psychostats.fit.fit`.
    """
    family = main.spec.family
    priors = () if engine == "laplace" else main.spec.priors
    spec = ModelSpec(parse_formula(formula), family, priors)
    return fit(spec, trials, engine=engine, **({"progress": False} | sampling))


def contribution_formula(text: str, column: str, factor: str = "representation") -> str:
    """Return the main formula with a covariate of features and its product with the factor."""
    return extend_formula(text, [column, f"{factor}:{column}"])


def study_contribution(
    main: Fit,
    trials: pd.DataFrame,
    covariate: str,
    *,
    factor: str = "representation",
    item: str = "pair",
    transform: Transform = "log",
    beside: Sequence[str] = (),
    interval: Interval | None = None,
    engine: str = "laplace",
    points: int = 21,
    **sampling: Any,
) -> Contribution:
    """Ask whether a covariate of features (a contribution to the decision) predicts their interpretability.

    The main formula is fitted again with ``+ z + factor:z``, z the covariate standardised within each basis over its
    features: so the slope is within a basis, beside depth as the main formula has it, and features differ beyond it
    by their own effects. By maximum likelihood the intervals are somewhat narrow, as they are under a guess rate: in 40
    simulated studies of 60 pairs and 80 people the slopes were unbiased, and 95 % intervals held them 37 and 35 times.

    Parameters
    ----------
    main, trials
        The main fit, and its trials with the covariate attached.
    covariate, transform
        See `standardise`; the log of the absolute value by default, since contributions span orders of magnitude.
    factor, item
        Columns that make a feature.
    beside
        Further terms of the fixed part, for example ``I(depth^2)`` where depth does not act along a line.
    interval
        Of the tables; the refit's own by default.
    engine, sampling
        See `refit`.
    points
        Values of z in the line.

    Returns
    -------
    Contribution

    Raises
    ------
    InputError, NoMaximumError
        See `standardise` and `refit`.
    """
    _require_columns(trials, main.spec.formula.variables)
    text = extend_formula(main.spec.formula.text, beside)
    ready, scaling = standardise(order_levels(trials), covariate, unit=[item], within=factor, transform=transform)
    made = refit(main, contribution_formula(text, scaling.column, factor), ready, engine=engine, **sampling)
    low, _, high = made.coding.ranges[scaling.column]
    at = {factor: list(made.coding.levels[factor]), scaling.column: list(np.linspace(low, high, points))}
    line = marginal_means(made, scaling.column, by=at, interval=interval)
    value = line["term"].str.partition("=")[2].astype(float)
    line = line[line["target"] == "population"].assign(value=value).drop(columns=["term", "contrast"])
    return Contribution(
        scaling,
        made,
        covariate_slopes(made, scaling.column, factor=factor, interval=interval),
        line.reset_index(drop=True),
    )


def covariate_slopes(
    made: Fit, column: str, *, factor: str = "representation", interval: Interval | None = None
) -> pd.DataFrame:
    """Return the slope of accuracy on a covariate in each basis, and its difference between bases.

    Parameters
    ----------
    made
        A fit with the covariate and its product with the factor.
    column
        The covariate.
    factor
        Of the bases.
    interval
        Kind and probability; the fit's own by default.

    Returns
    -------
    DataFrame
        ``<factor>`` (None for the difference), then the columns of `psychostats.effects.slopes`: ``scale`` is ``link``
        (the linear predictor, per unit, exactly; typical) or ``difference`` (probability per unit, averaged over the
        covariate's range; the difference of slopes is that between half a unit below and above zero). Other predictors
        are held at their means.
    """
    levels = list(made.coding.levels[factor])
    each = slopes(made, column, by={factor: levels}, interval=interval)
    change = interactions(made, factor, column, [-0.5, 0.5], interval=interval)
    change = change[change["scale"] != "odds_ratio"].assign(term=column, **{factor: None})
    out = pd.concat([each, change], ignore_index=True)
    front = [factor, "term", "contrast"]
    return out[[*front, *(name for name in out.columns if name not in front)]]


def study_complexity(
    main: Fit,
    trials: pd.DataFrame,
    covariates: Sequence[str] = COMPLEXITY,
    *,
    factor: str = "representation",
    unit: Sequence[str] = ("stimulus",),
    within: Sequence[str] = ("experiment", "layer"),
    caliper: float = CALIPER,
    reach: float = REACH,
    by: Mapping[str, Sequence[Any]] | None = None,
    interval: Interval | None = None,
    engine: str = "laplace",
    say: Callable[[str], None] = lambda _: None,
    **sampling: Any,
) -> Complexity:
    """Ask whether the difference between two bases is that their stimuli differ in complexity.

    Three fits by one engine, so that they can be compared: the main formula; with the covariates, standardised over
    stimuli, as further predictors (the difference is then that of two stimuli of mean complexity); and the main formula
    on the trials of matched stimuli; all are asked where the main formula's numbers (depth) have their mean over all
    trials. Their intervals rest on the same answers: that two of them overlap says little
    of whether the difference changed, and none is a test of it.

    Adjusting takes the covariates' effect as linear on the link and the same in both bases and at every depth; matching
    takes nothing of the kind, but loses trials, and asks about the stimuli that have a like one.

    Parameters
    ----------
    main, trials
        The main fit, and its trials with the covariates attached.
    covariates, factor, unit, within, caliper, reach
        See `psychostats.matching.match`.
    by
        Values of other predictors at which to compare too, for example depths; the overall contrast always comes first.
    interval
        Of the contrasts; the refits' own by default.
    engine, sampling
        See `refit`.
    say
        Called with a line before each fit.

    Returns
    -------
    Complexity

    Raises
    ------
    InputError, NoMaximumError
        See `psychostats.matching.match` and `refit`.
    """
    text = main.spec.formula.text
    _require_columns(trials, main.spec.formula.variables)
    ordered = order_levels(trials)
    strata = [name for name in within if name in ordered]
    matched = match(ordered, covariates, factor=factor, unit=unit, within=strata, caliper=caliper, reach=reach)
    ready, columns = ordered, []
    for name in covariates:
        ready, scaling = standardise(ready, name, unit=list(unit))
        columns.append(scaling.column)
    asked = {
        "unadjusted": (text, ordered),
        "adjusted": (extend_formula(text, columns), ready),
        "matched": (text, matched.trials),
    }
    fits, rows = {}, []
    for analysis, (formula, frame) in asked.items():
        say(f"{analysis}: {formula}")
        made = fits[analysis] = refit(main, formula, frame, engine=engine, **sampling)
        # At one place for all: matched trials have another mean depth, and so another difference.
        means = {name: [held[1]] for name, held in fits["unadjusted"].coding.ranges.items()}
        tables = [contrasts(made, factor, by=means, interval=interval).drop(columns=[*map(by_column, means)])]
        tables += [contrasts(made, factor, by=by, interval=interval)] if by else []
        table = pd.concat(tables, ignore_index=True)
        table = table[(table["target"] == "population") & (table["scale"] == "difference")]
        front = pd.DataFrame({"analysis": analysis, "trials": len(made.data)}, index=table.index)
        rows.append(pd.concat([front, table], axis=1))
    layer = next((name for name in ("layer", "depth") if name in ordered), None)
    samples = {"all": ordered, "matched": matched.trials}
    compared = [
        balance(frame, covariates, factor=factor, unit=unit, by=layer, like=ordered).assign(sample=sample)
        for sample, frame in samples.items()
    ]
    per_sd = [slopes(fits["adjusted"], column, interval=interval) for column in columns]
    return Complexity(
        pd.concat(rows, ignore_index=True),
        pd.concat(compared, ignore_index=True),
        pd.concat(per_sd, ignore_index=True),
        matched,
        fits,
    )


def _require_columns(trials: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in trials:
            raise InputError(
                f"the trials lack the column '{name}' of the main formula{nearest(name, map(str, trials.columns))}."
            )


def is_covariate(trials: pd.DataFrame, name: str) -> bool:
    """Whether the trials have a column of finite numbers that vary under this name, so that it can be asked about."""
    if name not in trials or not is_number(trials[name]):
        return False
    values = trials[name].to_numpy(dtype=float)
    return bool(np.isfinite(values).all() and np.ptp(values) > 0)
