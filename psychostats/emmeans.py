"""Estimated marginal means, their contrasts and trends, in the words of R's emmeans.

In: a fit, by draws or by maximum likelihood.  Out: `MarginalMeans` and `Contrasts`, which print and tabulate as emmeans
does.  As there, means are taken on the link, over a reference grid on which numbers stand at their mean and all levels
of a factor count the same, and are carried to the response afterwards; the first level comes first in a contrast.

What is not emmeans': answers of forced choice have odds ratios of p, on the response scale, as everywhere in this
package; and beside the typical person there is the population, whose means average probabilities.  Numbers with two
values are held at their mean, too (emmeans counts them as factors).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from psychostats.coefficients import Coefficients, coefficients, level_label
from psychostats.errors import InputError, nearest
from psychostats.grid import (
    Estimated,
    Rows,
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
from psychostats.grid import weights as weights_of
from psychostats.intervals import Interval
from psychostats.means import Array, Contrasts, MarginalMeans, Quantities, Scale, column_name, families_of
from psychostats.predictor import TARGETS, Target
from psychostats.uncertainty import Through

Factors: TypeAlias = str | Sequence[str]

WEIGHTS = ("equal", "proportional", "outer", "cells", "flat")


def emmeans(
    fit: Estimated,
    specs: Factors,
    *,
    by: Factors | None = None,
    at: Mapping[str, Sequence[Any]] | None = None,
    scale: Scale = "link",
    target: Target = "typical",
    weights: str = "equal",
    regrid: Literal["response"] | None = None,
    interval: Interval | None = None,
    adjust: str = "none",
) -> MarginalMeans:
    """Estimate marginal means.

    Parameters
    ----------
    fit
        A fit.
    specs
        Predictors whose combinations have means: a name, names, or ``~ a * b | c``, `by` behind the bar.
    by
        Predictors at whose levels contrasts are made apart.
    at
        Values of predictors. Numbers that are not named are held at their mean, factors take every level.
    scale
        ``link``, or ``response``: the mean of the response at the mean linear predictor (and mean log disc).
    target
        ``typical``, or ``population``: probabilities averaged over the group effects and over the grid, on the
        response scale.
    weights
        How the cells of factors that are not named are averaged: ``equal``; ``proportional`` to how often they occur
        in the trials; ``outer``, the product of each factor's shares; ``cells``, how often they occur beside the levels
        asked for; ``flat``, equal where that occurs at all.
    regrid
        ``response`` averages probabilities instead; their contrasts are differences of probability.
    interval
        Kind and probability; the fit's own by default.
    adjust
        Of the limits: see `contrast`.

    Returns
    -------
    MarginalMeans

    Raises
    ------
    InputError
        If a name, value or word is not known.
    """
    specs, by = _asked(fit, specs, by)
    _require(scale, ("link", "response"), "scale")
    _require(target, TARGETS, "target")
    if regrid not in (None, "response"):
        raise InputError(f"regrid is '{regrid}'; allowed is response.")
    if target == "population" and scale == "link" and regrid is None:
        raise InputError(
            "the population is averaged on the response: on the link its mean is the typical one; use scale='response'."
        )
    fit.uncertainty.adjustment(adjust)
    cells, grid, W, notes = _reference(fit, specs, by, at, weights)
    rows = rows_of(fit, grid)
    family = rows.family
    miss: Array | None
    if target == "typical" and regrid is None:
        link, family = _averaged(rows.eta(), W), rows.family.averaged(W)
        mean, miss = family.mean(link), family.miss(link) if family.binary else None
    else:
        mean = _averaged(rows.mean(target), W)
        miss = _averaged(rows.miss(target), W) if family.binary and regrid is None else None
        link = link_of(family.averaged(W), mean)
    shown: Scale = "response" if regrid else scale
    whole = MarginalMeans(
        cells,
        tuple(by),
        column_name(family, shown),
        shown,
        target,
        interval or fit.interval,
        fit.uncertainty,
        None if regrid else link,
        mean,
        miss,
        fit.spec,
        notes,
        adjust,
    )
    whole.table()  # refuses here, not when it is printed, an interval that the fit does not have
    return whole


def emtrends(
    fit: Estimated,
    specs: Factors,
    var: str,
    *,
    by: Factors | None = None,
    at: Mapping[str, Sequence[Any]] | None = None,
    scale: Scale = "link",
    target: Target = "typical",
    weights: str = "equal",
    interval: Interval | None = None,
    adjust: str = "none",
) -> MarginalMeans:
    """Estimate marginal slopes of a numeric predictor.

    Parameters
    ----------
    fit, specs, by, at, weights, interval, adjust
        As for `emmeans`; the slope is taken at the value at which `var` stands, its mean unless `at` names others.
    var
        Numeric predictor.
    scale, target
        ``link``, the slope of the linear predictor; or ``response``, that of the probability (of the target), as with
        emmeans' ``regrid = "response"``.

    Returns
    -------
    MarginalMeans
        Its derivative by five points, exact where the formula has `var` up to its fourth power (emmeans' is a
        difference over a thousandth of the range).
    """
    require_number(fit, var)
    specs, by = _asked(fit, specs, by)
    _require(scale, ("link", "response"), "scale")
    _require(target, TARGETS, "target")
    if target == "population" and scale == "link":
        raise InputError("the slope of the linear predictor is the typical one; use scale='response'.")
    fit.uncertainty.adjustment(adjust)
    cells, grid, W, notes = _reference(fit, specs, by, at, weights)
    places, shares = stencil(fit, var, grid[var].to_numpy(dtype=float))
    many = grid.loc[grid.index.repeat(places.shape[1])].assign(**{var: places.ravel()})
    slope = _slope(rows_of(fit, many.reset_index(drop=True)), shares, scale, target)
    whole = MarginalMeans(
        cells,
        tuple(by),
        f"{var}_trend",
        "link",
        target,
        interval or fit.interval,
        fit.uncertainty,
        _averaged(slope, W),
        None,
        None,
        fit.spec,
        (*notes, "Trends are of the probability.") if scale == "response" and fit.spec.family.binary else notes,
        adjust,
    )
    whole.table()
    return whole


def contrast(
    means: MarginalMeans,
    method: str | Mapping[str, Sequence[float]] = "eff",
    *,
    by: Factors | None = None,
    adjust: str | None = None,
    ratios: bool = True,
) -> Contrasts:
    """Contrast marginal means or trends.

    Parameters
    ----------
    means
        What `emmeans` or `emtrends` returned.
    method
        See `psychostats.coefficients.coefficients`; ``pairwise`` is first minus second.
    by
        Factors at whose levels contrasts are made apart; those of `means` by default, ``()`` for none.
    adjust
        For the family: ``none, tukey, scheffe, sidak, bonferroni, dunnettx, mvt, holm, hochberg, BH, fdr, BY``;
        emmeans' choice for the method by default. Draws have ``none`` (their default) and ``mvt``, simultaneous limits.
    ratios
        On the response scale, give odds ratios (of p); False leaves their logarithms.

    Returns
    -------
    Contrasts
        On the response scale of binary answers, odds ratios; of the typical person under a probit link the contrasts
        stay on the probit scale, as in emmeans. Of means that were regridded, differences.

    Raises
    ------
    InputError
        If the method, a name or the adjustment is unknown, or coefficients do not sum to 0 where a ratio is asked for.
    """
    if by is None:
        by = means.by
    by = tuple([by] if isinstance(by, str) else by)
    factors = list(means.cells.columns)
    for name in by:
        if name not in factors:
            raise InputError(f"'{name}' is no factor of these means{nearest(name, factors)}.")
    inner, kind, note = _contrasted(means)
    odds = kind == "log odds ratio" and means.scale == "response" and ratios
    compared = [name for name in factors if name not in by]
    labels, pieces, made = [], [], None
    for at in families_of(means.cells, by):
        rows = means.cells.iloc[at]
        levels = [level_label(dict(zip(compared, row, strict=True))) for row in rows[compared].to_numpy(dtype=object)]
        made = coefficients(method, levels, ratios=odds)
        if odds:
            _require_contrasts(made)
        pieces.append(inner[:, at] @ made.matrix.T)
        labels.append(pd.DataFrame({"contrast": made.labels} | {name: rows[name].iloc[0] for name in by}))
    assert made is not None
    values = np.concatenate(pieces, axis=1)
    quantities = Quantities(np.exp(values), Through(values, np.exp)) if odds else Quantities(values)
    return Contrasts(
        pd.concat(labels, ignore_index=True),
        by,
        "odds_ratio" if odds else "estimate",
        quantities,
        means,
        means.uncertainty.adjustment(adjust, made.adjust),
        len(levels) if made.pairwise else None,
        None if odds else note,
    )


def pairs(
    means: MarginalMeans, *, reverse: bool = False, by: Factors | None = None, adjust: str | None = None
) -> Contrasts:
    """Compare marginal means or trends pairwise, first minus second (`reverse`: second minus first).

    Other arguments as for `contrast`; the adjustment is Tukey's by default (of draws, none).
    """
    return contrast(means, "revpairwise" if reverse else "pairwise", by=by, adjust=adjust)


def _slope(rows: Rows, shares: Array, scale: Scale, target: Target) -> Array:
    """Return the slope at each row of a grid, each of which stands once for every point of its stencil."""
    values = rows.eta() if scale == "link" else rows.mean(target)
    return np.asarray((values.reshape(len(values), *shares.shape) * shares).sum(axis=2))


def _contrasted(means: MarginalMeans) -> tuple[Array, str, str | None]:
    """Return what contrasts are linear in, its name, and a note on the scale."""
    family = means.spec.family
    if means.mean is None:
        assert means.link is not None
        return means.link, "slope", None
    if means.link is None:
        return means.mean, "difference", None
    if means.scale == "response" and not family.binary:
        return means.mean, "difference", None
    if means.scale == "response" and (family.link == "logit" or means.target == "population"):
        assert means.miss is not None
        return log_odds(means.mean, means.miss), "log odds ratio", "Results are given on the log odds ratio scale."
    if means.scale == "response":
        return means.link, "link", f"Contrasts are still on the {family.link} scale."
    above = " (above guessing)" if family.binary and family.has_asymptotes else ""
    scale = f"log odds ratio{above}" if family.link == "logit" else family.link
    return means.link, "link", f"Results are given on the {scale} (not the response) scale."


def _require_contrasts(made: Coefficients) -> None:
    """Refuse coefficients that have no odds ratio."""
    for label, total in zip(made.labels, made.matrix.sum(axis=1), strict=True):
        if abs(total) > 1e-6:
            raise InputError(
                f"the coefficients of '{label}' sum to {total:g}, so it is no contrast and has no odds ratio; "
                "use ratios=False, or means on the link scale."
            )


def _asked(fit: Estimated, specs: Factors, by: Factors | None) -> tuple[list[str], list[str]]:
    """Return the names in specs, and those at whose levels contrasts are made apart."""
    if isinstance(by, Mapping):
        raise InputError("by takes names of predictors; give their values with at.")
    apart = [by] if isinstance(by, str) else list(by or ())
    if isinstance(specs, str) and "~" in specs:
        method, _, right = specs.partition("~")
        if method.strip():
            raise InputError(f"'{specs}' asks for contrasts, too; use contrast(emmeans(...), '{method.strip()}').")
        left, _, behind = right.partition("|")
        apart = [*apart, *_words(behind)]
        named = _words(left)
    else:
        named = [specs] if isinstance(specs, str) else list(specs)
    named = [name for name in dict.fromkeys(named) if name not in apart]
    apart = list(dict.fromkeys(apart))
    require_predictors(fit, [*named, *apart])
    if not named and not apart:
        raise InputError("no predictor is named whose means are asked for; name one at least.")
    return named, apart


def _words(text: str) -> list[str]:
    return [word for word in (part.strip().strip("`") for part in re.split(r"[*+:]", text)) if word]


def _reference(
    fit: Estimated, specs: list[str], by: list[str], at: Mapping[str, Sequence[Any]] | None, weights: str
) -> tuple[pd.DataFrame, pd.DataFrame, Array, tuple[str, ...]]:
    """Return the cells that are asked for, the reference grid, each cell's weights in it, and what was done."""
    _require(weights, WEIGHTS, "weighting")
    coding, given = fit.coding, {name: values_at(fit, name, values) for name, values in (at or {}).items()}
    require_predictors(fit, given)
    axes: dict[str, Sequence[Any]] = {}
    # As emmeans lists them: the first factor varies fastest, and those of by slowest of all.
    for name in reversed([*specs, *by]):
        default = list(coding.levels[name]) if name in coding.levels else [coding.ranges[name][1]]
        axes[name] = given.get(name, default)
    rest = [name for name in predictors(fit) if name not in axes]
    kept = {name: given[name] for name in rest if name in given}
    grid = coding.grid({**axes, **kept})
    count = int(np.prod([len(values) for values in axes.values()]))
    inside = len(grid) // count
    cells = grid.iloc[::inside][[*specs, *by]].reset_index(drop=True)
    averaged = [name for name in rest if name in coding.levels or len(kept.get(name, ())) > 1]
    shares = np.full((count, inside), 1.0 / inside)
    if weights != "equal" and averaged:
        shares = weights_of(coding, observed(fit), grid, list(axes), averaged, weights).reshape(count, inside)
        empty = np.flatnonzero(shares.sum(axis=1) == 0)
        if empty.size:
            where = ", ".join(f"{name} {value}" for name, value in cells.iloc[empty[0]].items())
            raise InputError(f"no trial is at {where}, so there is nothing to weight by; use equal weights.")
        shares = shares / shares.sum(axis=1, keepdims=True)
    W = np.zeros((count, len(grid)))
    for i, share in enumerate(shares):
        W[i, i * inside : (i + 1) * inside] = share
    notes = []
    if averaged:
        by_what = "" if weights == "equal" else f", {weights} weights"
        notes.append(f"Results are averaged over {', '.join(averaged)}{by_what}.")
    held = {name: values for name, values in ((n, grid[n].unique()) for n in coding.ranges) if name not in averaged}
    fixed = [f"{name} = {values[0]:.4g}" for name, values in held.items() if len(values) == 1 and name not in cells]
    if fixed:
        notes.append(f"Held at {', '.join(fixed)}.")
    return cells, grid, W, tuple(notes)


def _averaged(values: Array, W: Array) -> Array:
    """Return weighted averages over a grid, shape ``(rows, cells)``."""
    return np.asarray(values @ W.T)


def _require(word: str, known: Sequence[str], what: str) -> None:
    """Refuse a word that is not among those known."""
    if word not in known:
        raise InputError(f"the {what} '{word}' is unknown{nearest(word, known)}; allowed are {', '.join(known)}.")
