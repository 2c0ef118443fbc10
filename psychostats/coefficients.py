"""Coefficients of contrasts between means, by the methods, names and signs of R's emmeans.

In: the levels of some means and a method.  Out: labels and coefficients, and the adjustment that goes with the method.
Knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from psychostats.errors import InputError, nearest

Array: TypeAlias = npt.NDArray[np.float64]

#: Methods, and the adjustment that emmeans makes by default.
METHODS = {
    "pairwise": "tukey",
    "revpairwise": "tukey",
    "trt.vs.ctrl": "dunnettx",
    "trt.vs.ctrlk": "dunnettx",
    "consec": "mvt",
    "mean_chg": "mvt",
    "eff": "fdr",
    "del.eff": "fdr",
    "poly": "none",
}
_DEGREES = ("linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6")


@dataclass(frozen=True)
class Coefficients:
    """Linear combinations of k means.

    Parameters
    ----------
    labels
        One a combination.
    matrix
        Shape ``(combinations, k)``.
    adjust
        Of p-values, by default.
    pairwise
        Whether these are all pairwise differences, for Tukey's method.
    """

    labels: tuple[str, ...]
    matrix: Array
    adjust: str
    pairwise: bool


def coefficients(
    method: str | Mapping[str, Sequence[float]], levels: Sequence[str], *, ratios: bool = False
) -> Coefficients:
    """Return the coefficients of a method.

    Parameters
    ----------
    method
        ``pairwise`` (first minus second), ``revpairwise`` (second minus first), ``trt.vs.ctrl`` (each minus the
        first), ``trt.vs.ctrlk`` (the last), ``consec`` (each minus the one before), ``mean_chg`` (means after minus
        means before), ``eff`` (minus the mean of all), ``del.eff`` (minus the mean of the others), ``poly``; or
        coefficients by name.
    levels
        Names of the k means.
    ratios
        Write ``a / b`` for ``a - b``.

    Raises
    ------
    InputError
        If the method is unknown, the coefficients do not fit, or there are fewer than two means.
    """
    k = len(levels)
    if not isinstance(method, str):
        return _written(method, k)
    if method not in METHODS:
        raise InputError(
            f"the contrast method '{method}' is unknown{nearest(method, METHODS)}; allowed are {', '.join(METHODS)}, "
            "or coefficients by name."
        )
    if k < 2:
        raise InputError(f"a contrast needs two means; there is {levels[0] if levels else 'none'} alone.")
    one = np.eye(k)
    sign = "/" if ratios else "-"
    pairs = list(combinations(range(k), 2))
    rows = list(range(k))
    if method in ("pairwise", "revpairwise"):
        # emmeans lists the reversed pairs by their first mean: b - a, c - a, c - b.
        order = pairs if method == "pairwise" else [(j, i) for j in rows for i in rows[:j]]
        matrix, labels = _differences(one, order, levels, sign)
    elif method.startswith("trt.vs.ctrl"):
        control = k - 1 if method.endswith("k") else 0
        matrix, labels = _differences(one, [(i, control) for i in rows if i != control], levels, sign)
    elif method == "consec":
        matrix, labels = _differences(one, [(i + 1, i) for i in rows[:-1]], levels, sign)
    elif method == "mean_chg":
        matrix = np.array([np.where(np.arange(k) < i, -1 / i, 1 / (k - i)) for i in rows[1:]])
        labels = [f"{levels[i - 1]}|{levels[i]}" for i in rows[1:]]
    elif method == "poly":
        matrix = _polynomials(k)
        labels = list(_DEGREES[: len(matrix)])
    else:
        matrix = one - (1 / k if method == "eff" else (1 - one) / (k - 1))
        labels = [f"{level} effect" for level in levels]
    return Coefficients(tuple(labels), matrix, METHODS[method], method in ("pairwise", "revpairwise"))


def level_label(values: Mapping[str, object]) -> str:
    """Return the name of a mean from the levels of its factors, as emmeans writes it in contrasts.

    Levels that are numbers stand behind the name of their factor, and what holds a sign stands in parentheses.
    """
    words = []
    for name, value in values.items():
        text = f"{value:g}" if isinstance(value, float) else str(value)
        words.append(f"{name}{text}" if re.fullmatch(r"-?\d+(\.\d*)?(e[+-]?\d+)?", text) else text)
    label = " ".join(words)
    return f"({label})" if re.search(r"[-+*/]", label) else label


def _differences(
    one: Array, order: Sequence[tuple[int, int]], levels: Sequence[str], sign: str
) -> tuple[Array, list[str]]:
    """Return first minus second for every pair of places."""
    return np.array([one[i] - one[j] for i, j in order]), [f"{levels[i]} {sign} {levels[j]}" for i, j in order]


def _polynomials(k: int) -> Array:
    """Return orthogonal polynomials in equal steps, scaled to whole numbers as emmeans does, at most of degree 6."""
    degree = min(6, k - 1)
    x = np.arange(k) - (k - 1) / 2
    q, r = np.linalg.qr(np.vander(x, degree + 1, increasing=True))
    out = []
    for column in (q * np.sign(np.diag(r))).T[1:]:
        whole = column / column[column > 0.01].min()
        gap = np.abs(whole - np.round(whole)).max()
        while gap > 0.05:
            whole = whole / gap
            gap = np.abs(whole - np.round(whole)).max()
        out.append(np.round(whole))
    return np.array(out)


def _written(method: Mapping[str, Sequence[float]], k: int) -> Coefficients:
    """Check coefficients that were written out."""
    if not method:
        raise InputError("no contrast is given; name one at least.")
    rows = []
    for name, values in method.items():
        try:
            row = np.asarray(values, dtype=float)
        except (TypeError, ValueError):
            row = np.array([np.nan])
        if row.shape != (k,) or not np.isfinite(row).all():
            raise InputError(f"the contrast '{name}' needs {k} finite coefficients, one a mean.")
        rows.append(row)
    return Coefficients(tuple(map(str, method)), np.array(rows), "none", False)
