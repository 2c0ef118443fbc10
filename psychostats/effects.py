"""What a fit says: predictions, marginal means, contrasts and slopes, as tidy tables.

In: a `Fit`.  Out: data frames whose columns every table, figure and sentence shares.  Both targets, typical and
population, are always given and labelled.  An odds ratio is always of p; the exponential of a link contrast, where a
guess or lapse rate is above zero, is an odds ratio above guessing and is given only on the link scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.errors import InputError, nearest
from psychostats.fit import Fit
from psychostats.intervals import Interval, Rope, summarise
from psychostats.predictor import TARGETS, Target, average, fixed_predictor, probability, random_variance

Array: TypeAlias = npt.NDArray[np.float64]
Scale: TypeAlias = Literal["response", "link"]

#: Differences too small to matter, ``assumed``: in probability, and in logits (also of an odds ratio's logarithm).
ROPE_PROBABILITY = Rope(-0.02, 0.02)
ROPE_LOGIT = Rope(-0.18, 0.18)
_ROPE_ODDS = Rope(float(np.exp(-0.18)), float(np.exp(0.18)))

EFFECT_COLUMNS = (
    "target",
    "scale",
    "estimate",
    "sd",
    "conf_low",
    "conf_high",
    "conf_level",
    "interval",
    "pd",
    "rope_low",
    "rope_high",
    "rope_share",
)


def marginal_means(
    fit: Fit,
    factor: str,
    *,
    by: Mapping[str, Sequence[Any]] | None = None,
    scale: Scale = "response",
    interval: Interval | None = None,
) -> pd.DataFrame:
    """Estimate the mean at each level of a factor (or value of a number), as emmeans does.

    Parameters
    ----------
    fit
        A fit.
    factor
        Predictor whose levels (for a number: minimum, mean and maximum) are asked for.
    by
        Values of other predictors at which to ask. Numbers that are not named are held at their mean; factors that are
        not named are averaged over, all levels with equal weight.
    scale
        ``response`` gives probabilities, ``link`` the linear predictor (typical only; its population mean is the same).
    interval
        Kind and probability; the fit's own by default.

    Returns
    -------
    DataFrame
        ``term, contrast`` (None), the `by` columns, then `EFFECT_COLUMNS`.
    """
    cells = _cells(fit, factor, by, scale)
    rows = []
    for cell in cells:
        label = f"{factor}{cell.level}" if cell.is_factor else f"{factor}={cell.level:g}"
        for target, draws in cell.draws.items():
            rows.append(_row(label, None, cell.by, target, scale, draws, interval or fit.interval))
    return _frame(rows, by)


def contrasts(
    fit: Fit,
    factor: str,
    *,
    by: Mapping[str, Sequence[Any]] | None = None,
    scale: Scale = "response",
    interval: Interval | None = None,
) -> pd.DataFrame:
    """Contrast the levels of a factor pairwise, the later level minus (or over) the earlier.

    Parameters
    ----------
    fit, factor, by, interval
        As for `marginal_means`.
    scale
        ``response`` gives the difference in probability and the odds ratio of p; ``link`` the difference in linear
        predictor, whose exponential is an odds ratio (above guessing, where a guess or lapse rate is above 0).

    Returns
    -------
    DataFrame
        ``term, contrast``, the `by` columns, then `EFFECT_COLUMNS`; ``scale`` is ``difference``, ``odds_ratio`` or
        ``link``; ``pd`` and the ROPE refer to no difference. A contrast of population means is the contrast of the
        averages, per draw.
    """
    cells = _cells(fit, factor, by, scale)
    rows = []
    for first, second in _pairs(cells):
        name = f"{second.level} - {first.level}"
        ratio = f"{second.level} / {first.level}"
        for target in first.draws:
            rows += _contrast_rows(
                factor,
                name,
                ratio,
                first.by,
                target,
                scale,
                first.draws[target],
                second.draws[target],
                interval or fit.interval,
            )
    return _frame(rows, by)


def slopes(
    fit: Fit,
    variable: str,
    *,
    by: Mapping[str, Sequence[Any]] | None = None,
    interval: Interval | None = None,
) -> pd.DataFrame:
    """Average slope of the probability over the range of a numeric predictor, at each combination of `by`.

    Parameters
    ----------
    fit
        A fit.
    variable
        Numeric predictor.
    by
        As for `marginal_means`; typically the factor whose levels are compared.
    interval
        Kind and probability.

    Returns
    -------
    DataFrame
        ``scale`` is ``difference``, per unit of `variable`: p at its maximum minus p at its minimum, over the distance.
        ``link`` rows give the slope of the linear predictor.
    """
    if variable not in fit.coding.ranges:
        raise InputError(
            f"'{variable}' is no numeric predictor of the model{nearest(variable, fit.coding.ranges)}; its numeric "
            f"predictors are {', '.join(fit.coding.ranges) or 'none'}."
        )
    low, _, high = fit.coding.ranges[variable]
    rows = []
    for scale in ("response", "link"):
        at = {**(by or {}), variable: [low, high]}
        for first, second in _pairs(_cells(fit, variable, at, scale)):
            for target in first.draws:
                draws = (second.draws[target] - first.draws[target]) / (high - low)
                rows.append(
                    _row(
                        variable,
                        "slope",
                        first.by,
                        target,
                        "difference" if scale == "response" else "link",
                        draws,
                        interval or fit.interval,
                        null=0.0,
                        rope=ROPE_PROBABILITY if scale == "response" else ROPE_LOGIT,
                    )
                )
    return _frame(rows, by)


def interactions(
    fit: Fit,
    factor: str,
    moderator: str,
    values: Sequence[Any],
    *,
    interval: Interval | None = None,
) -> pd.DataFrame:
    """Does the contrast of a factor change between two values of a moderator? The difference of differences.

    Parameters
    ----------
    fit, factor, interval
        As for `contrasts`.
    moderator, values
        Predictor and its two values, the contrast at the second minus the contrast at the first.

    Returns
    -------
    DataFrame
        Rows of scale ``difference`` (of probability differences), ``odds_ratio`` (ratio of odds ratios) and ``link``.
    """
    if len(values) != 2:
        raise InputError(f"an interaction is between two values of {moderator}; {len(values)} were given.")
    rows = []
    for scale in ("response", "link"):
        cells = _cells(fit, factor, {moderator: list(values)}, scale)
        levels = list(dict.fromkeys(cell.level for cell in cells))
        at = {(cell.level, cell.by[moderator]): cell.draws for cell in cells}
        for first, second in combinations(levels, 2):
            name = f"({second} - {first}) at {moderator} {values[1]} minus at {values[0]}"
            for target in at[first, values[0]]:
                a, b, c, d = (at[level, v][target] for v in values for level in (first, second))
                if scale == "link":
                    rows.append(
                        _row(
                            factor,
                            name,
                            {},
                            target,
                            "link",
                            (d - c) - (b - a),
                            interval or fit.interval,
                            null=0.0,
                            rope=ROPE_LOGIT,
                        )
                    )
                    continue
                rows.append(
                    _row(
                        factor,
                        name,
                        {},
                        target,
                        "difference",
                        (d - c) - (b - a),
                        interval or fit.interval,
                        null=0.0,
                        rope=ROPE_PROBABILITY,
                    )
                )
                ratio = np.exp(_logit(d) - _logit(c) - _logit(b) + _logit(a))
                rows.append(
                    _row(
                        factor,
                        name,
                        {},
                        target,
                        "odds_ratio",
                        ratio,
                        interval or fit.interval,
                        null=1.0,
                        rope=_ROPE_ODDS,
                    )
                )
    return _frame(rows, None)


class _Cell:
    """One cell of the reference grid: a level of the factor at values of the `by` predictors, with its draws."""

    def __init__(self, level: Any, is_factor: bool, by: dict[str, Any], draws: dict[Target, Array]):
        self.level, self.is_factor, self.by, self.draws = level, is_factor, by, draws


def _cells(fit: Fit, factor: str, by: Mapping[str, Sequence[Any]] | None, scale: str) -> list[_Cell]:
    if scale not in ("response", "link"):
        raise InputError(f"the scale '{scale}' is unknown; allowed are response and link.")
    coding = fit.coding
    known = [*coding.levels, *coding.ranges]
    if factor not in known:
        raise InputError(
            f"'{factor}' is no predictor of the model{nearest(factor, known)}; its predictors are "
            f"{', '.join(known) or 'none'}."
        )
    at: dict[str, Sequence[Any]] = {name: list(values) for name, values in (by or {}).items()}
    is_factor = factor in coding.levels
    if factor not in at:
        at[factor] = list(coding.levels[factor]) if is_factor else list(dict.fromkeys(coding.ranges[factor]))
    grid = coding.grid(at)
    X, offset, blocks = coding.fixed(grid), np.zeros(len(grid)), coding.random(grid)
    parameters = fit.parameters()
    values: dict[Target, Array] = {}
    if scale == "link":
        values["typical"] = fixed_predictor(X, offset, parameters.b)
    else:
        for target in TARGETS:
            values[target] = probability(fit.spec.family, X, offset, blocks, parameters, target)
    named = list(at)
    cells = []
    for key, group in grid.groupby(named, sort=False, observed=True):
        place = dict(zip(named, key, strict=True))
        rows = group.index.to_numpy()
        draws = {target: draws[:, rows].mean(axis=1) for target, draws in values.items()}
        cells.append(_Cell(place.pop(factor), is_factor, place, draws))
    return cells


def _pairs(cells: list[_Cell]) -> list[tuple[_Cell, _Cell]]:
    """Pair the levels of the factor within each combination of the other predictors."""
    pairs = []
    for by in [dict(item) for item in dict.fromkeys(tuple(cell.by.items()) for cell in cells)]:
        pairs += list(combinations([cell for cell in cells if cell.by == by], 2))
    return pairs


def _contrast_rows(
    factor: str,
    name: str,
    ratio: str,
    by: dict[str, Any],
    target: Target,
    scale: str,
    first: Array,
    second: Array,
    interval: Interval,
) -> list[dict[str, Any]]:
    difference = second - first
    if scale == "link":
        return [_row(factor, name, by, target, "link", difference, interval, null=0.0, rope=ROPE_LOGIT)]
    odds = np.exp(_logit(second) - _logit(first))
    return [
        _row(factor, name, by, target, "difference", difference, interval, null=0.0, rope=ROPE_PROBABILITY),
        _row(factor, ratio, by, target, "odds_ratio", odds, interval, null=1.0, rope=_ROPE_ODDS),
    ]


def _logit(p: Array) -> Array:
    return np.asarray(np.log(p) - np.log1p(-p))


def _row(
    term: str,
    contrast: str | None,
    by: dict[str, Any],
    target: Target,
    scale: str,
    draws: Array,
    interval: Interval,
    *,
    null: float | None = None,
    rope: Rope | None = None,
) -> dict[str, Any]:
    summary = summarise(draws, interval, null=null, rope=rope)
    return {"term": term, "contrast": contrast, **by, "target": target, "scale": scale, **summary}


def _frame(rows: list[dict[str, Any]], by: Mapping[str, Sequence[Any]] | None) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    names = [name for name in frame.columns if name in (by or {})]
    return frame[["term", "contrast", *names, *EFFECT_COLUMNS]]


__all__ = [
    "EFFECT_COLUMNS",
    "ROPE_LOGIT",
    "ROPE_PROBABILITY",
    "average",
    "contrasts",
    "interactions",
    "marginal_means",
    "random_variance",
    "slopes",
]
