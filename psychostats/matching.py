"""Are the stimuli of two bases alike, and which of them are: balance of covariates, and matched pairs of stimuli.

In: data frames with a row a trial (or a stimulus) and numeric covariates.  Out: standardised differences, and pairs of
like stimuli of the two levels of a factor.  Knows no model and no fit; nothing here looks at an answer, so matching
cannot favour a result (Rubin 2007).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import linear_sum_assignment

from psychostats.errors import InputError, nearest
from psychostats.levels import factor_levels, is_number, level_names

Array: TypeAlias = npt.NDArray[np.float64]

#: Width of the caliper in SDs of the propensity score, as Austin (2011) recommends it, and the largest distance in
#: SDs; both ``assumed`` here. On the embedded study's stimuli (three covariates, six layers, 144 stimuli a basis) they
#: keep 66 pairs, and the mean absolute standardised difference falls from 0.32 to 0.12 within layers, to 0.03 over all.
#: A distance of 0.75 alone keeps 110 (0.10), but where one basis is busier throughout it leaves half of that.
CALIPER, REACH = 0.2, 1.0
#: Standardised difference above which a covariate is commonly called out of balance (Austin 2009); ``assumed`` here.
BALANCED = 0.1

# What a pair outside the caliper costs: more than all pairs inside together, so that as many as possible are kept.
_FORBIDDEN = 1e6


@dataclass(frozen=True)
class Matched:
    """Pairs of like stimuli, and the trials that show them.

    Parameters
    ----------
    pairs
        A row a pair: the strata's columns, a column for each level of the factor with the unit's name, ``distance``
        (see `match`).
    trials
        Those of the trials that show a matched unit, in their order.
    units
        How many units of each level there were, and how many were matched: ``<factor>, units, matched``.
    caliper, reach
        See `match`.
    """

    pairs: pd.DataFrame
    trials: pd.DataFrame
    units: pd.DataFrame
    caliper: float
    reach: float


def balance(
    trials: pd.DataFrame,
    covariates: Sequence[str],
    *,
    factor: str = "representation",
    unit: str | Sequence[str] = "stimulus",
    by: str | None = None,
    like: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Compare covariates between the two levels of a factor, each unit counted once.

    Parameters
    ----------
    trials
        A row a trial or a unit.
    covariates
        Numeric columns, constant within a unit.
    factor
        Column of the two levels.
    unit
        Column (or columns) that say what is shown; stimuli by default.
    by
        A column within whose levels to compare too (``layer``, ``depth``); all units come first, with an empty `by`.
    like
        Trials whose SDs are the unit of the differences: those before matching, since a smaller SD after it would hide
        what was won (Stuart 2010). By default `trials` themselves.

    Returns
    -------
    DataFrame
        ``covariate``, `by` if given, ``mean_<level>`` of both levels, ``smd`` (later minus earlier level, over the
        square root of the mean of both variances over all units: Cohen's d as Austin 2009 has it), ``units`` (how
        many).

    Raises
    ------
    InputError
        If a column is missing or no number, a covariate varies within a unit, or the factor has not two levels.
    """
    names = [unit] if isinstance(unit, str) else list(unit)
    rows = units_of(trials, covariates, factor, names, [by] if by else [])
    whole = rows if like is None else units_of(like, covariates, factor, names, [by] if by else [])
    first, second = _two_levels(whole, factor)
    level = pd.Series(level_names(rows[factor]), index=rows.index)
    of_whole = pd.Series(level_names(whole[factor]), index=whole.index)
    sd = np.sqrt(sum(whole.loc[of_whole == one, list(covariates)].var(ddof=1) for one in (first, second)) / 2.0)
    found = []
    for place, here in _levels_of(rows, by):
        mine = rows[here]
        means = {one: mine.loc[level[here] == one, list(covariates)].mean() for one in (first, second)}
        for name in covariates:
            gap = means[second][name] - means[first][name]
            smd = gap / sd[name] if sd[name] > 0 else (0.0 if gap == 0 else np.nan)
            row = {"covariate": name} | ({by: place} if by else {})
            row |= {f"mean_{one}": means[one][name] for one in (first, second)}
            found.append(row | {"smd": smd, "units": len(mine)})
    return pd.DataFrame(found)


def match(
    trials: pd.DataFrame,
    covariates: Sequence[str],
    *,
    factor: str = "representation",
    unit: str | Sequence[str] = "stimulus",
    within: Sequence[str] = ("experiment", "layer"),
    caliper: float = CALIPER,
    reach: float = REACH,
) -> Matched:
    """Pair each unit of one level with a like unit of the other, one to one, and leave out what has no like.

    Within each stratum two units may be paired that are alike in two ways; of the ways to pair as many as possible, the
    one with the smallest sum of distances is taken (optimal matching: Rosenbaum 1989; distances within calipers of a
    propensity score: Rosenbaum and Rubin 1985). With S the covariance within levels over all strata, and m_1, m_2 the
    levels' means in the stratum,

        distance   d = sqrt((x - y)' S^-1 (x - y) / k)    at most `reach`: the root mean square of their differences
                                                          in SDs, once the k covariates are made independent
        score      s = x' S^-1 (m_2 - m_1)                no further apart than `caliper` SDs of s within levels

    Where the covariates are normal, s is the logit of the propensity score but for a constant; it is the direction in
    which the stratum is out of balance. The distance alone would let every pair differ that way by as much as it may.

    Nothing is drawn by chance, and the order of rows decides nothing.

    Parameters
    ----------
    trials, covariates, factor, unit
        As for `balance`.
    within
        Columns of the strata, those of them that `trials` has.
    caliper
        The largest difference in score, in SDs; infinite for none.
    reach
        The largest distance, in SDs; infinite for none.

    Returns
    -------
    Matched

    Raises
    ------
    InputError
        As for `balance`; also if `caliper` or `reach` is not above 0, covariates determine one another, or nothing is
        left.
    """
    for name, width in (("caliper", caliper), ("reach", reach)):
        if not width > 0:
            raise InputError(f"the {name} of {width} SDs is not above 0.")
    names = [unit] if isinstance(unit, str) else list(unit)
    strata = [name for name in within if name in trials]
    rows = units_of(trials, covariates, factor, names, strata)
    first, second = _two_levels(rows, factor)
    level = level_names(rows[factor])
    X = rows[list(covariates)].to_numpy(dtype=float)
    stratum = np.asarray(
        pd.factorize(pd.MultiIndex.from_frame(rows[strata]))[0] if strata else np.zeros(len(rows), int)
    )
    precision = _precision(X, 2 * stratum + (level == second), covariates)
    found = []
    for one in np.unique(stratum):
        a, b = (np.flatnonzero((stratum == one) & (level == name)) for name in (first, second))
        if not len(a) or not len(b):
            continue
        gap = X[a][:, np.newaxis] - X[b][np.newaxis]
        squares = np.einsum("abi,ij,abj->ab", gap, precision, gap) / len(covariates)
        distance = np.sqrt(np.maximum(squares, 0.0))
        shift = X[b].mean(axis=0) - X[a].mean(axis=0)
        direction = precision @ shift
        sd = float(
            np.sqrt(max(shift @ direction, 0.0))
        )  # of the score within levels: the variance is shift' S^-1 shift
        allowed = (distance <= reach) & (np.abs(gap @ direction) <= (caliper * sd if sd > 0 else np.inf))
        i, j = linear_sum_assignment(np.where(allowed, distance, _FORBIDDEN))
        inside = allowed[i, j]
        found += [(a[x], b[y], distance[x, y]) for x, y in zip(i[inside], j[inside], strict=True)]
    if not found:
        raise InputError(
            f"no unit of {first} has a like one of {second} within {caliper:g} SDs of the score and a distance of "
            f"{reach:g} SDs; widen them, or adjust instead."
        )
    left, right, distances = (np.array(column) for column in zip(*found, strict=True))
    label = rows[names].astype(str).agg(" / ".join, axis=1).to_numpy()
    pairs = rows[strata].iloc[left].reset_index(drop=True)
    pairs = pairs.assign(**{first: label[left], second: label[right], "distance": distances})
    kept = rows.iloc[np.concatenate([left, right])]
    key = [*names, factor, *strata]
    matched = set(map(tuple, kept[key].astype(str).to_numpy()))
    shown = np.array([tuple(row) in matched for row in trials[key].astype(str).to_numpy()])
    units = pd.DataFrame(
        {factor: [first, second], "units": [int((level == x).sum()) for x in (first, second)], "matched": len(pairs)}
    )
    return Matched(pairs, trials[shown], units, caliper, reach)


def units_of(
    trials: pd.DataFrame, covariates: Sequence[str], factor: str, unit: Sequence[str], also: Sequence[str] = ()
) -> pd.DataFrame:
    """Return one row a unit and level of the factor, sorted by name; refuse covariates that vary within one."""
    if not covariates:
        raise InputError("no covariate is named; name one at least.")
    wanted = list(dict.fromkeys([*unit, factor, *also, *covariates]))
    for name in wanted:
        if name not in trials:
            raise InputError(
                f"'{name}' is no column of the trials{nearest(name, map(str, trials.columns))}; columns are "
                f"{', '.join(map(str, trials.columns))}."
            )
    for name in covariates:
        if not is_number(trials[name]):
            raise InputError(f"the covariate '{name}' holds no numbers.")
        if not np.isfinite(trials[name].to_numpy(dtype=float)).all():
            raise InputError(f"the covariate '{name}' is missing or infinite in some trials; leave these trials out.")
    key = list(dict.fromkeys([*unit, factor, *also]))
    rows = trials[wanted].drop_duplicates()
    twice = rows.duplicated(key)
    if twice.any():
        where = " / ".join(str(rows[twice].iloc[0][name]) for name in unit)
        raise InputError(f"the covariates of {' and '.join(unit)} '{where}' differ between its trials.")
    text = rows[key].astype(str)
    return rows.loc[text.sort_values(key, kind="stable").index].reset_index(drop=True)


def _two_levels(rows: pd.DataFrame, factor: str) -> tuple[str, str]:
    levels = factor_levels(rows[factor])
    if len(levels) != 2:
        raise InputError(f"two levels of '{factor}' are compared; there are {len(levels)}: {', '.join(levels)}.")
    return levels[0], levels[1]


def _levels_of(rows: pd.DataFrame, by: str | None) -> Iterator[tuple[Any, pd.Series[bool]]]:
    yield None, pd.Series(True, index=rows.index)
    if by is not None:
        column = rows[by]
        held = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else sorted(column.unique())
        yield from ((one, column == one) for one in held if (column == one).any())


def _precision(X: Array, group: npt.NDArray[np.int64], covariates: Sequence[str]) -> Array:
    """Return the inverse of the covariance within groups."""
    centred = X.copy()
    for one in np.unique(group):
        centred[group == one] -= X[group == one].mean(axis=0)
    freedom = len(X) - len(np.unique(group))
    sd = np.sqrt((centred**2).sum(axis=0) / max(freedom, 1))
    flat = next((name for name, one in zip(covariates, sd, strict=True) if not one > 0), None)
    if freedom < 1 or flat is not None:
        raise InputError(f"the covariate '{flat or covariates[0]}' does not vary within the strata; leave it out.")
    correlation = (centred / sd).T @ (centred / sd) / freedom
    if np.linalg.eigvalsh(correlation).min() < 1e-10:
        raise InputError(f"the covariates {', '.join(covariates)} determine one another; leave one out.")
    return np.asarray(np.linalg.inv(correlation) / np.outer(sd, sd))
