"""What a fit says: predictions, marginal means, contrasts and slopes, as tidy tables.

In: a fit, or a model whose parameters are known.  Out: data frames whose columns every table, figure and sentence
shares.  Both targets, typical and population, are always given and labelled.  An odds ratio is always of p; the
exponential of a link contrast, where a guess or lapse rate is above zero, is an odds ratio above guessing and is given
only on the link scale.

Every quantity is evaluated at each row of the fit's parameters; what the rows say of it, draws or a maximum with its
surroundings, is `psychostats.uncertainty`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, ndtri

from psychostats.errors import InputError
from psychostats.family import Family
from psychostats.grid import (
    Estimated,
    Rows,
    link_of,
    log_odds,
    require_number,
    require_predictors,
    rows_of,
    values_at,
)
from psychostats.intervals import Interval, Rope
from psychostats.predictor import TARGETS, Target
from psychostats.uncertainty import Through

Array: TypeAlias = npt.NDArray[np.float64]
Scale: TypeAlias = Literal["response", "link"]

#: Differences too small to matter, ``assumed``: in probability, and in logits (also of an odds ratio's logarithm).
ROPE_PROBABILITY = Rope(-0.02, 0.02)
ROPE_LOGIT = Rope(-0.18, 0.18)
#: The same 0.18 in units of the standard normal: divided by the logistic's SD, pi / sqrt(3).
ROPE_PROBIT = Rope(-0.18 * np.sqrt(3.0) / np.pi, 0.18 * np.sqrt(3.0) / np.pi)
_ROPE_LINK = {"logit": ROPE_LOGIT, "probit": ROPE_PROBIT}
_ROPE_ODDS = Rope(float(np.exp(ROPE_LOGIT.low)), float(np.exp(ROPE_LOGIT.high)))

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


Weights: TypeAlias = Mapping[str, Mapping[str, float]]
"""Factor -> level -> how much it counts in an average over that factor."""

#: Names of the tables' own columns, which no predictor's column may bear.
RESERVED = frozenset({"term", "contrast", *EFFECT_COLUMNS})


def by_column(name: str) -> str:
    """Return the column that holds a predictor's values: its name, behind ``by_`` where a table has such a column."""
    return f"by_{name}" if name in RESERVED else name


def marginal_means(
    fit: Estimated,
    factor: str,
    *,
    by: Mapping[str, Sequence[Any]] | None = None,
    scale: Scale = "response",
    interval: Interval | None = None,
) -> pd.DataFrame:
    """Estimate the mean at each level of a factor (or value of a number), on emmeans' reference grid.

    Parameters
    ----------
    fit
        A fit.
    factor
        Predictor whose levels (for a number: minimum, mean and maximum) are asked for.
    by
        Values of other predictors at which to ask; of `factor` itself, those to ask for. Numbers that are not named are
        held at their mean; factors that are not named are averaged over, all levels with equal weight. An offset is
        evaluated at these values.
    scale
        ``response`` gives probabilities, ``link`` the linear predictor (typical only; its population mean is the same).
        Averages over factors are taken on the scale asked for, per draw, so those of ``response`` are averages of
        probabilities: emmeans' ``regrid = "response"``, not its default. Under maximum likelihood the typical mean is
        emmeans' default, the averaged linear predictor carried to the response, and limits are made on the link.
    interval
        Kind and probability; the fit's own by default.

    Returns
    -------
    DataFrame
        ``term, contrast`` (None), the `by` columns (see `by_column`), then `EFFECT_COLUMNS`.
    """
    rows = []
    for cell in _cells(fit, factor, by, scale, odds=False):
        for target, draws in cell.draws.items():
            through = cell.through(fit, target) if scale == "response" else None
            summary = fit.uncertainty.summarise(draws, interval or fit.interval, through=through)
            rows.append({"term": cell.term, "contrast": None, **cell.by, "target": target, "scale": scale, **summary})
    return _frame(rows, by)


def contrasts(
    fit: Estimated,
    factor: str,
    *,
    by: Mapping[str, Sequence[Any]] | None = None,
    scale: Scale = "response",
    interval: Interval | None = None,
    weights: Weights | None = None,
) -> pd.DataFrame:
    """Contrast the levels of a factor pairwise, the later level minus (or over) the earlier.

    Parameters
    ----------
    fit, factor, by, interval
        As for `marginal_means`.
    scale
        ``response`` gives the difference in probability and the odds ratio of p; ``link`` the difference in linear
        predictor, whose exponential is an odds ratio (above guessing, where a guess or lapse rate is above 0).
    weights
        Factor -> level -> how much it counts where that factor is averaged over; equal weights where it is not named.

    Returns
    -------
    DataFrame
        ``term, contrast``, the `by` columns, then `EFFECT_COLUMNS`; ``scale`` is ``difference``, ``odds_ratio`` or
        ``link``; ``pd`` and the ROPE refer to no difference. A contrast of population means is the contrast of the
        averages, per draw.
    """
    rows = []
    for first, second in _pairs(_cells(fit, factor, by, scale, weights=weights)):
        for target in first.draws:
            for kind, draws in _differences(first, second, target, scale).items():
                sign = "/" if kind == "odds_ratio" else "-"
                name = f"{second.label} {sign} {first.label}"
                rows.append(_compared(fit, factor, name, first.by, target, kind, draws, interval))
    return _frame(rows, by)


def slopes(
    fit: Estimated,
    variable: str,
    *,
    by: Mapping[str, Sequence[Any]] | None = None,
    interval: Interval | None = None,
) -> pd.DataFrame:
    """Average slope of the probability over the range of a numeric predictor, at each combination of `by`.

    The slope averaged over the trials as they are is `psychostats.avg_slopes`.

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
        ``scale`` is ``difference``, per unit of `variable`: p at its maximum minus p at its minimum, over the distance;
        the ROPE, too, is per unit. ``link`` rows give the same of the linear predictor.
    """
    require_number(fit, variable)
    low, _, high = fit.coding.ranges[variable]
    at = {**(by or {}), variable: [low, high]}
    rows = []
    for scale in ("response", "link"):
        for first, second in _pairs(_cells(fit, variable, at, scale)):
            for target in first.draws:
                kind, difference = next(iter(_differences(first, second, target, scale).items()))
                slope = difference / (high - low)
                rows.append(_compared(fit, variable, "slope", first.by, target, kind, slope, interval))
    return _frame(rows, by)


def interactions(
    fit: Estimated,
    factor: str,
    moderator: str,
    values: Sequence[Any],
    *,
    interval: Interval | None = None,
    weights: Weights | None = None,
) -> pd.DataFrame:
    """Does the contrast of a factor change between two values of a moderator? The difference of differences.

    Parameters
    ----------
    fit, factor, interval, weights
        As for `contrasts`.
    moderator, values
        Predictor and its two values, the contrast at the second minus the contrast at the first.

    Returns
    -------
    DataFrame
        Rows of scale ``difference`` (of probability differences), ``odds_ratio`` (ratio of odds ratios) and ``link``.
    """
    if len(set(values)) != 2:
        raise InputError(f"an interaction is between two values of {moderator}; {len(set(values))} were given.")
    if moderator == factor:
        raise InputError(f"'{factor}' cannot moderate itself; name another predictor.")
    rows = []
    for scale in ("response", "link"):
        pairs = _pairs(_cells(fit, factor, {moderator: values}, scale, weights=weights))
        half = len(pairs) // 2
        for (a, b), (c, d) in zip(pairs[:half], pairs[half:], strict=True):
            for target in a.draws:
                before, after = _differences(a, b, target, scale), _differences(c, d, target, scale)
                for kind in before:
                    ratio = kind == "odds_ratio"
                    sign, versus = ("/", "over") if ratio else ("-", "minus")
                    low, high = (f"{at:g}" if isinstance(at, float) else str(at) for at in values)
                    name = f"({b.label} {sign} {a.label}) at {moderator} {high} {versus} at {low}"
                    change = after[kind] / before[kind] if ratio else after[kind] - before[kind]
                    rows.append(_compared(fit, factor, name, {}, target, kind, change, interval))
    return _frame(rows, None)


def discriminability(
    fit: Estimated,
    factor: str,
    *,
    by: Mapping[str, Sequence[Any]] | None = None,
    interval: Interval | None = None,
) -> pd.DataFrame:
    """Return d' of two-alternative forced choice at each level of a factor, and its differences.

    Parameters
    ----------
    fit, factor, by, interval
        As for `marginal_means`.

    Returns
    -------
    DataFrame
        As of `marginal_means` and `contrasts`; ``scale`` is ``dprime`` and ``dprime_difference``. d' = sqrt(2) z(p), z
        the normal quantile (Macmillan and Creelman 2005, Detection Theory, 2nd ed., eq. 7.2): the distance of the
        two alternatives in units of their noise, for an observer without bias to either side. p is the probability of
        a correct answer, of the typical person or averaged over the population; d' of an average is not the average
        d'.

    Raises
    ------
    InputError
        If the family has no guess rate of one half, so that its answers are no choices between two.
    """
    family = fit.spec.family
    if family.guess != 0.5:
        raise InputError(
            f"d' of forced choice is of family afc with a guess rate of 0.5; this fit is {family.describe()}."
        )

    def dprime(p: Array) -> Array:
        return np.asarray(np.sqrt(2.0) * ndtri(p))

    rows = []
    cells = _cells(fit, factor, by, "response", odds=False)
    for cell in cells:
        for target, draws in cell.draws.items():
            outer = cell.through(fit, target)
            through = outer and Through(outer.inner, lambda eta: dprime(np.asarray(family.mean(eta))))
            summary = fit.uncertainty.summarise(dprime(draws), interval or fit.interval, through=through)
            rows.append(
                {"term": cell.term, "contrast": None, **cell.by, "target": target, "scale": "dprime", **summary}
            )
    for first, second in _pairs(cells):
        for target in first.draws:
            change = dprime(second.draws[target]) - dprime(first.draws[target])
            name = f"{second.label} - {first.label}"
            rows.append(_compared(fit, factor, name, first.by, target, "dprime_difference", change, interval))
    return _frame(rows, by)


@dataclass(frozen=True)
class _Cell:
    """One cell of the reference grid: a level of the factor at values of the `by` predictors.

    Per row of the parameters, `draws` holds what is asked for and `wrong` 1 - p, for odds; `eta` the linear predictor
    that `draws` is the mean of, where that is known.
    """

    term: str
    label: str
    by: dict[str, Any]
    draws: dict[Target, Array]
    wrong: dict[Target, Array]
    eta: dict[Target, Array]

    def log_odds(self, target: Target) -> Array:
        """Return log p - log(1 - p), per row of the parameters."""
        return log_odds(self.draws[target], self.wrong[target])

    def through(self, fit: Estimated, target: Target) -> Through | None:
        """Return the link, where limits of the mean of a response are made; None for draws, which need none."""
        if not fit.uncertainty.on_link:
            return None
        family = fit.spec.family
        if family.binary and family.estimated:  # its asymptotes are not known, nor so which link carries a limit back
            return Through(log_odds(self.draws[target], 1.0 - self.draws[target]), expit)
        eta = self.eta[target] if target in self.eta else link_of(family, self.draws[target])
        return Through(eta, family.mean)


def _cells(
    fit: Estimated,
    factor: str,
    by: Mapping[str, Sequence[Any]] | None,
    scale: str,
    *,
    odds: bool = True,
    weights: Weights | None = None,
) -> list[_Cell]:
    """Cross the values of `by` (the first varies slowest) with those of the factor, and average over the rest.

    Without `odds` the cells have no 1 - p, which are averaged apart.
    """
    if scale not in ("response", "link"):
        raise InputError(f"the scale '{scale}' is unknown; allowed are response and link.")
    coding = fit.coding
    require_predictors(fit, [factor])
    is_factor = factor in coding.levels
    at: dict[str, Sequence[Any]] = {name: values_at(fit, name, values) for name, values in (by or {}).items()}
    at.setdefault(factor, list(coding.levels[factor] if is_factor else dict.fromkeys(coding.ranges[factor])))
    grid = coding.grid(at)
    rows = rows_of(fit, grid)
    mean = _mean_of(fit, grid, weights) if weights else _plain_mean
    average = _averager(fit, rows, scale, mean, odds=odds and fit.spec.family.binary)
    cells = []
    for key, group in grid.groupby(list(at), sort=False, observed=True):
        place = {by_column(name): value for name, value in zip(at, key, strict=True) if name != factor}
        level: Any = dict(zip(at, key, strict=True))[factor]
        label = str(level) if is_factor else f"{level:g}" if level >= 0 else f"({level:g})"
        term = f"{factor}{label}" if is_factor else f"{factor}={level:g}"
        cells.append(_Cell(term, label, place, *average(group.index.to_numpy())))
    return cells


_Means: TypeAlias = tuple[dict[Target, Array], dict[Target, Array], dict[Target, Array]]


_Averages: TypeAlias = Callable[[Array, npt.NDArray[np.int64]], Array]


def _plain_mean(values: Array, at: npt.NDArray[np.int64]) -> Array:
    return np.asarray(values[:, at].mean(axis=1))


def _mean_of(fit: Estimated, grid: pd.DataFrame, weights: Weights) -> _Averages:
    """Return a function that averages rows of a grid by the weights of their levels."""
    whole = np.ones(len(grid))
    for name, given in weights.items():
        require_predictors(fit, [name])
        levels = fit.coding.levels.get(name, ())
        if set(given) != set(levels) or not all(0 <= one < np.inf for one in given.values()) or not sum(given.values()):
            raise InputError(f"weights of '{name}' must be numbers from 0, one for each of {', '.join(levels)}.")
        whole *= grid[name].astype(str).map(given).to_numpy(dtype=float)
    return lambda values, at: np.asarray(np.average(values[:, at], axis=1, weights=whole[at]))


def _averager(
    fit: Estimated, rows: Rows, scale: str, mean: _Averages, *, odds: bool
) -> Callable[[npt.NDArray[np.int64]], _Means]:
    """Return a function that averages some rows of a grid: what is asked for, 1 - p and eta, each by target."""
    family, eta = rows.family, rows.eta()
    if scale == "link":
        return lambda at: ({"typical": mean(eta, at)}, {}, {})
    # Without group effects the population is the typical person, whichever is averaged.
    linked = () if not fit.uncertainty.on_link else TARGETS if not rows.blocks else TARGETS[:1]
    right = {target: rows.mean(target) for target in TARGETS if target not in linked}
    wrong = {target: rows.miss(target) for target in right if odds}

    def average(at: npt.NDArray[np.int64]) -> _Means:
        inner = mean(eta, at)
        means = {target: np.asarray(family.mean(inner[:, np.newaxis])[:, 0]) for target in linked}
        misses = {target: np.asarray(family.miss(inner[:, np.newaxis])[:, 0]) for target in linked if odds}
        means |= {target: mean(p, at) for target, p in right.items()}
        misses |= {target: mean(p, at) for target, p in wrong.items()}
        return means, misses, dict.fromkeys(linked, inner)

    return average


def _pairs(cells: list[_Cell]) -> list[tuple[_Cell, _Cell]]:
    """Pair the levels of the factor within each combination of the other predictors."""
    pairs = []
    for by in [dict(item) for item in dict.fromkeys(tuple(cell.by.items()) for cell in cells)]:
        pairs += list(combinations([cell for cell in cells if cell.by == by], 2))
    if not pairs:
        raise InputError(f"a contrast needs two values; there is {cells[0].term} alone.")
    return pairs


def _differences(first: _Cell, second: _Cell, target: Target, scale: str) -> dict[str, Array]:
    """Compare two cells per draw, the second with the first, on every scale that `scale` asks for."""
    a, b = first.draws[target], second.draws[target]
    if scale == "link":
        return {"link": b - a}
    differences = {"difference": b - a}
    if first.wrong:
        differences["odds_ratio"] = np.exp(second.log_odds(target) - first.log_odds(target))
    return differences


def rope_of(family: Family, kind: str) -> Rope | None:
    """Return the region around no difference of a kind of comparison; None where the family or the kind has none."""
    ropes = {
        "difference": ROPE_PROBABILITY,
        "odds_ratio": _ROPE_ODDS,
        "lnor": ROPE_LOGIT,
        "link": _ROPE_LINK.get(family.link),
    }
    return ropes.get(kind) if family.binary else None


def _compared(
    fit: Estimated,
    term: str,
    contrast: str,
    by: dict[str, Any],
    target: Target,
    kind: str,
    draws: Array,
    interval: Interval | None,
) -> dict[str, Any]:
    """Summarise a comparison as a row, against its value of no difference and the region around it."""
    uncertainty, rope = fit.uncertainty, rope_of(fit.spec.family, kind)
    null = 1.0 if kind == "odds_ratio" else 0.0
    through = Through(np.log(draws), np.exp) if kind == "odds_ratio" and uncertainty.on_link else None
    summary = uncertainty.summarise(draws, interval or fit.interval, null=null, rope=rope, through=through)
    return {"term": term, "contrast": contrast, **by, "target": target, "scale": kind, **summary}


def _frame(rows: list[dict[str, Any]], by: Mapping[str, Sequence[Any]] | None) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    names = [by_column(name) for name in by or {} if by_column(name) in frame.columns]
    return frame[["term", "contrast", *names, *EFFECT_COLUMNS]]
