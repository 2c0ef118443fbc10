"""Predictions, comparisons and slopes at the trials themselves, in the words of R's marginaleffects.

In: a fit, and rows: the trials it was made from, a frame, or the reference grid.  Out: tables whose figures are those
of every table of effects.  Where `psychostats.effects` and `psychostats.emmeans` ask of a balanced grid, this averages
over the rows as they are, each counted once: `by=True` over all of them, or within the groups that `by` names.

Group effects are at zero, or averaged over new levels (`target`), so rows that agree in all predictors agree in what is
predicted: each such row is evaluated once, in blocks, however many trials there are.  Averages are of probabilities,
under maximum likelihood, too; there, limits of a probability are made on the link and those of a ratio on the log scale
(marginaleffects' are symmetric about an average).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.effects import rope_of
from psychostats.errors import InputError, nearest
from psychostats.gather import By, group_rows, names_of, summaries
from psychostats.grid import (
    Estimated,
    link_of,
    log_odds,
    observed,
    predictors,
    require_number,
    require_predictors,
    rows_of,
    stencil,
    values_at,
)
from psychostats.intervals import Interval
from psychostats.predictor import TARGETS, Target
from psychostats.uncertainty import Through

Array: TypeAlias = npt.NDArray[np.float64]
Scale: TypeAlias = Literal["response", "link"]
NewData: TypeAlias = pd.DataFrame | Literal["grid"] | None

COMPARISONS = ("difference", "ratio", "lnratio", "lnor")


def predictions(
    fit: Estimated,
    newdata: NewData = None,
    *,
    by: By | None = None,
    variables: Mapping[str, Sequence[Any]] | None = None,
    scale: Scale = "response",
    target: Target = "typical",
    interval: Interval | None = None,
) -> pd.DataFrame:
    """Predict the response at rows, or its average over them.

    Parameters
    ----------
    fit
        A fit.
    newdata
        Rows: the trials by default, a frame with the model's predictors, or ``grid``, the reference grid.
    by
        Nothing (or False): a prediction a row. True: their average. Columns of the rows: the average in each group.
    variables
        Values of predictors: every row is asked as if it had each of them in turn, and averages are taken at each
        (unless `by` is False).
    scale
        ``response`` or ``link``.
    target
        ``typical`` or ``population``; the linear predictor has the typical one only.
    interval
        Kind and probability; the fit's own by default.

    Returns
    -------
    DataFrame
        ``row`` (its place, from 0) and the predictors, or the columns of `by`; then `EFFECT_COLUMNS`.

    Raises
    ------
    InputError
        If a name, value or word is not known.
    """
    _check(scale, target)
    family, uncertainty, parameters = fit.spec.family, fit.uncertainty, fit.parameters()
    frame = _rows(fit, newdata)
    if variables is not None:
        require_predictors(fit, variables)
        given = {name: values_at(fit, name, values) for name, values in variables.items()}
        frame = _counterfactual(frame, given)
        by = [*given, *names_of(by)] if by is not False else False
    groups = group_rows(fit, frame, False if by is None else by)

    def evaluate(part: pd.DataFrame) -> tuple[Array, ...]:
        rows = rows_of(fit, part, parameters)
        if scale == "link":
            return (rows.eta(),)
        exact = groups.shares is None and (target == "typical" or not rows.blocks)
        return (rows.mean(target), rows.eta()) if exact else (rows.mean(target),)

    def summarise(values: tuple[Array, ...], k: int) -> dict[str, Any]:
        column, through = values[0][:, k], None
        if scale == "response" and uncertainty.on_link:
            through = Through(values[1][:, k] if len(values) > 1 else link_of(family, column), family.mean)
        figures = uncertainty.summarise(column, interval or fit.interval, through=through)
        return {"target": target, "scale": scale, **figures}

    return groups.table(list(summaries(groups, parameters, evaluate, summarise)), {})


def comparisons(
    fit: Estimated,
    variables: str | Sequence[str] | Mapping[str, Any] | None = None,
    newdata: NewData = None,
    *,
    by: By = True,
    comparison: str = "difference",
    scale: Scale = "response",
    target: Target = "typical",
    interval: Interval | None = None,
) -> pd.DataFrame:
    """Compare what is predicted for every row as it is with a predictor set to one value, and to another.

    Parameters
    ----------
    fit, newdata, scale, target, interval
        As for `predictions`.
    variables
        Predictors, each apart: a name, names (all by default), or names with what to compare. Of a factor:
        ``reference`` (each level with the first, the default), ``pairwise``, ``sequential`` or two levels, the second
        with the first. Of a number: a step from its value (1 by default), ``sd`` (half a standard deviation down and
        up), ``iqr``, ``minmax`` or two values.
    by
        True: averaged over all rows; columns of the rows: within groups; False: a comparison a row. Averages are taken
        first and compared afterwards.
    comparison
        ``difference``, ``ratio``, ``lnratio`` (its logarithm) or ``lnor`` (log odds ratio of p); on the link,
        ``difference`` alone.

    Returns
    -------
    DataFrame
        ``term, contrast``, the columns of `by` (or ``row`` and the predictors), then `EFFECT_COLUMNS`; ``scale`` is the
        comparison, or ``link``.

    Raises
    ------
    InputError
        If a name, value or word is not known.
    """
    _check(scale, target)
    if comparison not in COMPARISONS:
        raise InputError(
            f"the comparison '{comparison}' is unknown{nearest(comparison, COMPARISONS)}; allowed are "
            f"{', '.join(COMPARISONS)}."
        )
    if scale == "link" and comparison != "difference":
        raise InputError(f"on the link scale differences are compared; '{comparison}' is of responses.")
    family, uncertainty, parameters = fit.spec.family, fit.uncertainty, fit.parameters()
    if comparison == "lnor" and not family.binary:
        raise InputError("odds are of probabilities, which this family does not have; use difference.")
    groups = group_rows(fit, _rows(fit, newdata), by)
    ratio = comparison in ("ratio", "lnratio")
    kind = "link" if scale == "link" else comparison
    tables = []
    for change in _changes(fit, variables):

        def evaluate(part: pd.DataFrame, change: _Change = change) -> tuple[Array, ...]:
            out = []
            for value in (change.high, change.low):
                rows = rows_of(fit, part.assign(**{change.name: value(part[change.name])}), parameters)
                out.append(rows.eta() if scale == "link" else rows.mean(target))
                if comparison == "lnor":
                    out.append(rows.miss(target))
            return tuple(out)

        def summarise(columns: tuple[Array, ...], k: int) -> dict[str, Any]:
            values = [column[:, k] for column in columns]
            through: Through | None = None
            if comparison == "lnor":
                compared = log_odds(values[0], values[1]) - log_odds(values[2], values[3])
            elif ratio:
                compared = values[0] / values[1]
                through = Through(np.log(compared), np.exp)
                compared = through.inner if comparison == "lnratio" else compared
            else:
                compared = values[0] - values[1]
            figures = uncertainty.summarise(
                compared,
                interval or fit.interval,
                null=1.0 if comparison == "ratio" else 0.0,
                rope=rope_of(family, kind),
                through=through if comparison == "ratio" else None,
            )
            return {"target": target, "scale": kind, **figures}

        rows = list(summaries(groups, parameters, evaluate, summarise))
        tables.append(groups.table(rows, {"term": change.name, "contrast": change.label("/" if ratio else "-")}))
    return pd.concat(tables, ignore_index=True)


def avg_slopes(
    fit: Estimated,
    variables: str | Sequence[str] | None = None,
    newdata: NewData = None,
    *,
    by: By = True,
    scale: Scale = "response",
    target: Target = "typical",
    interval: Interval | None = None,
) -> pd.DataFrame:
    """Average the slope of a numeric predictor over rows (marginaleffects' name; `psychostats.slopes` is of a grid).

    Parameters
    ----------
    fit, newdata, by, scale, target, interval
        As for `comparisons`; with `by` False, the slope at each row.
    variables
        Numeric predictors, all of them by default; of factors, see `comparisons`.

    Returns
    -------
    DataFrame
        As `comparisons`; ``scale`` is ``difference``, per unit of the predictor (the ROPE, too), or ``link``. The
        derivative is taken by five points; see `psychostats.grid.stencil`.
    """
    _check(scale, target)
    names = list(fit.coding.ranges) if variables is None else names_of(variables)
    for name in names:
        require_number(fit, name)
    if not names:
        raise InputError("the model has no numeric predictor, so no slope.")
    family, uncertainty, parameters = fit.spec.family, fit.uncertainty, fit.parameters()
    groups = group_rows(fit, _rows(fit, newdata), by)
    kind = "link" if scale == "link" else "difference"
    rope = rope_of(family, kind)
    tables = []
    for name in names:

        def evaluate(part: pd.DataFrame, name: str = name) -> tuple[Array, ...]:
            places, shares = stencil(fit, name, part[name].to_numpy(dtype=float))
            slope: Array | float = 0.0
            for j in range(places.shape[1]):
                rows = rows_of(fit, part.assign(**{name: places[:, j]}), parameters)
                slope = slope + shares[:, j] * (rows.eta() if scale == "link" else rows.mean(target))
            return (np.asarray(slope),)

        def summarise(values: tuple[Array, ...], k: int) -> dict[str, Any]:
            figures = uncertainty.summarise(values[0][:, k], interval or fit.interval, null=0.0, rope=rope)
            return {"target": target, "scale": kind, **figures}

        rows = list(summaries(groups, parameters, evaluate, summarise))
        tables.append(groups.table(rows, {"term": name, "contrast": "dY/dX"}))
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class _Change:
    """A predictor set to two values in turn, each a function of its own."""

    name: str
    low: Callable[[pd.Series[Any]], Any]
    high: Callable[[pd.Series[Any]], Any]
    words: tuple[str, str] | str

    def label(self, sign: str) -> str:
        """Name the comparison, the second value with the first."""
        return self.words if isinstance(self.words, str) else f"{self.words[1]} {sign} {self.words[0]}"


def _changes(fit: Estimated, variables: str | Sequence[str] | Mapping[str, Any] | None) -> list[_Change]:
    """Return what is compared with what."""
    if variables is None:
        variables = predictors(fit)
    asked = dict(variables) if isinstance(variables, Mapping) else dict.fromkeys(names_of(variables))
    require_predictors(fit, asked)
    if not asked:
        raise InputError("no predictor is named that should change; name one at least.")
    changes = []
    for name, how in asked.items():
        if name in fit.coding.levels:
            changes += [_set(name, low, high) for low, high in _level_pairs(fit.coding.levels[name], name, how)]
        else:
            changes.append(_number_change(fit, name, how))
    return changes


def _set(name: str, low: Any, high: Any) -> _Change:
    words = tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in (low, high))
    return _Change(name, lambda _: low, lambda _: high, (words[0], words[1]))


def _level_pairs(levels: Sequence[str], name: str, how: Any) -> list[tuple[str, str]]:
    """Return pairs of levels, the second compared with the first."""
    if how is None or how == "reference":
        return [(levels[0], level) for level in levels[1:]]
    if how == "pairwise":
        return list(combinations(levels, 2))
    if how == "sequential":
        return list(pairwise(levels))
    if not isinstance(how, str) and isinstance(how, Sequence) and len(how) == 2:
        return [(str(how[0]), str(how[1]))]
    raise InputError(
        f"'{name}' is a factor and cannot be compared by '{how}'; allowed are reference, pairwise, sequential or two "
        "of its levels."
    )


def _number_change(fit: Estimated, name: str, how: Any) -> _Change:
    """Return the two values of a numeric predictor."""
    low, _, high = fit.coding.ranges[name]
    if how is None or (isinstance(how, int | float) and not isinstance(how, bool)):
        step = values_at(fit, name, [1.0 if how is None else how])[0]
        return _Change(name, lambda x: x, lambda x: x + step, f"{step:+g}")
    if how == "minmax":
        return _set(name, low, high)
    if how == "iqr":
        first, third = (float(q) for q in np.quantile(observed(fit)[name].to_numpy(dtype=float), [0.25, 0.75]))
        return _set(name, first, third)
    if how == "sd":
        half = float(observed(fit)[name].std()) / 2
        return _Change(name, lambda x: x - half, lambda x: x + half, "+1 sd")
    if not isinstance(how, str) and isinstance(how, Sequence) and len(how) == 2:
        return _set(name, *values_at(fit, name, how))
    raise InputError(
        f"'{name}' is a number and cannot be compared by '{how}'; allowed are a step, sd, iqr, minmax or two values."
    )


def _rows(fit: Estimated, newdata: NewData) -> pd.DataFrame:
    """Return the rows that are asked about."""
    if newdata is None:
        return observed(fit).reset_index(drop=True)
    if isinstance(newdata, str):
        if newdata != "grid":
            raise InputError(f"newdata is '{newdata}'; allowed are grid, or a frame of rows.")
        return fit.coding.grid({})
    if newdata.empty:
        raise InputError("no rows are given to predict.")
    return newdata.reset_index(drop=True)


def _counterfactual(frame: pd.DataFrame, given: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Repeat all rows for every combination of values."""
    for name, values in given.items():
        frame = pd.concat([frame.assign(**{name: value}) for value in values], ignore_index=True)
    return frame


def _check(scale: str, target: str) -> None:
    if scale not in ("response", "link"):
        raise InputError(f"the scale '{scale}' is unknown; allowed are response and link.")
    if target not in TARGETS:
        raise InputError(f"the target '{target}' is unknown; allowed are {', '.join(TARGETS)}.")
    if scale == "link" and target == "population":
        raise InputError("the population is averaged on the response: on the link its mean is the typical one.")
