"""What simulations say of a design: precision, power, errors of sign and magnitude, each with its Monte Carlo error.

In: the estimates and intervals of simulated studies, with what was true of each.  Out: tables; which design meets a
wish; about what a larger one would do.  Knows neither fits nor how a study is simulated.

Type S and type M errors are those of Gelman and Carlin (2014): among the studies that detect an effect, how often its
sign is wrong, and by what factor its size is overstated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, special, stats

Array: TypeAlias = npt.NDArray[np.float64]
Verdict: TypeAlias = Literal["met", "open", "missed"]

#: Probability of every Monte Carlo interval.
MONTE_CARLO = 0.95
_Z = float(special.ndtri(0.5 + MONTE_CARLO / 2.0))


@dataclass(frozen=True)
class Simulated:
    """One quantity in the simulated studies of one design.

    Parameters
    ----------
    estimate, low, high
        Estimates and limits, shape ``(fitted,)``.
    true
        What was true of each, shape ``(fitted,)``.
    simulations
        How many studies were simulated, those without a fit included.
    """

    estimate: Array
    low: Array
    high: Array
    true: Array
    simulations: int

    @property
    def detected(self) -> npt.NDArray[np.bool_]:
        """Whether the interval excludes zero."""
        return (self.low > 0.0) | (self.high < 0.0)

    @property
    def half_width(self) -> Array:
        """Half the interval's width."""
        return (self.high - self.low) / 2.0


def wilson(hits: int, of: int, probability: float = MONTE_CARLO) -> tuple[float, float]:
    """Return Wilson's (1927) interval of a share; from 0 to 1 of none.

    Examples
    --------
    >>> low, high = wilson(8, 10)
    >>> round(low, 4), round(high, 4)
    (0.4902, 0.9433)
    """
    if of == 0:
        return 0.0, 1.0
    z = float(special.ndtri(0.5 + probability / 2.0))
    share, spread = hits / of, z * z / of
    middle = share + spread / 2.0
    half = z * math.sqrt(share * (1.0 - share) / of + spread / (4.0 * of))
    low, high = (middle - half) / (1.0 + spread), (middle + half) / (1.0 + spread)
    return (0.0 if hits == 0 else low), (1.0 if hits == of else high)


def characterise(found: Simulated, precision: float | None = None) -> dict[str, float]:
    """Return what the simulations of one design say of one quantity.

    Parameters
    ----------
    found
        The simulations.
    precision
        A wished half width of the interval, in the quantity's units.

    Returns
    -------
    dict
        Figures, each with its Monte Carlo interval under the name with ``_low`` and ``_high``: ``power`` (share of all
        simulations whose interval excludes zero; one without a fit does not detect), ``type_s`` (share of the detected
        with the wrong sign), ``type_m`` (mean size of the detected estimates over the mean true size), ``half_width``
        (mean), ``half_width_90`` (quantile), ``precise`` (share of all simulations with a half width of at most
        `precision`), ``bias``, ``rmse``, ``coverage``; and ``simulations, fitted, detected, true`` (mean). Of what does
        not apply, NaN.
    """
    n, fitted = found.simulations, len(found.estimate)
    hit = found.detected
    size = np.abs(found.true)
    row: dict[str, float] = {
        "simulations": n,
        "fitted": fitted,
        "detected": int(hit.sum()),
        "true": float(found.true.mean()) if fitted else math.nan,
    }
    row |= _share("power", int(hit.sum()), n)
    signed = hit & (found.true != 0.0)
    wrong = signed & (np.sign(found.estimate) != np.sign(found.true))
    row |= _share("type_s", int(wrong.sum()), int(signed.sum()))
    row |= _ratio("type_m", np.abs(found.estimate[signed]), size[signed])
    row |= _mean("half_width", found.half_width)
    row |= _quantile("half_width_90", found.half_width, 0.9)
    narrow = int((found.half_width <= precision).sum()) if precision is not None else 0
    row |= _share("precise", narrow, n if precision is not None else 0)
    error = found.estimate - found.true
    row |= _mean("bias", error)
    row |= _root("rmse", error**2)
    row |= _share("coverage", int(((found.low <= found.true) & (found.true <= found.high)).sum()), fitted)
    return row


def _named(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}


def _share(name: str, hits: int, of: int) -> dict[str, float]:
    return _named(name, hits / of, *wilson(hits, of)) if of else _named(name, math.nan, math.nan, math.nan)


def _mean(name: str, values: Array) -> dict[str, float]:
    """A mean and its interval by the standard error; without limits where there is one value."""
    if not len(values):
        return _named(name, math.nan, math.nan, math.nan)
    half = math.nan
    if len(values) > 1:  # Student's law, since few studies may detect
        z = float(special.stdtrit(len(values) - 1, 0.5 + MONTE_CARLO / 2.0))
        half = z * float(values.std(ddof=1)) / math.sqrt(len(values))
    return _named(name, values.mean(), values.mean() - half, values.mean() + half)


def _ratio(name: str, above: Array, below: Array) -> dict[str, float]:
    """The ratio of two means and its interval by the delta method (Cochran 1977, 6.3)."""
    if not len(above) or below.mean() == 0.0:
        return _named(name, math.nan, math.nan, math.nan)
    ratio = float(above.mean() / below.mean())
    spread = _mean(name, (above - ratio * below) / below.mean())
    half = spread[f"{name}_high"] - spread[name]
    return _named(name, ratio, ratio - half, ratio + half)


def _root(name: str, squares: Array) -> dict[str, float]:
    """The root of a mean, its interval by that of the mean."""
    of = _mean(name, squares)
    return {key: math.sqrt(max(value, 0.0)) if not math.isnan(value) else math.nan for key, value in of.items()}


def _quantile(name: str, values: Array, share: float) -> dict[str, float]:
    """A quantile and its interval between order statistics (David and Nagaraja 2003, 7.1), by the normal law."""
    if not len(values):
        return _named(name, math.nan, math.nan, math.nan)
    half = _Z * math.sqrt(share * (1.0 - share) / len(values))
    low, high = np.quantile(values, [max(share - half, 0.0), min(share + half, 1.0)])
    return _named(name, np.quantile(values, share), low, high)


# What was wished -------------------------------------------------------------------------------------------------


def judge(row: Mapping[str, float], *, power: float | None, precision: float | None) -> Verdict:
    """Say whether a design meets the wish beyond Monte Carlo doubt.

    Parameters
    ----------
    row
        Of `characterise`.
    power
        Wished probability to detect.
    precision
        Wished mean half width of the interval.

    Returns
    -------
    str
        ``met`` where the Monte Carlo interval of every wished figure lies wholly where it should, ``missed`` where one
        lies wholly where it should not, ``open`` otherwise.
    """
    verdicts: list[Verdict] = []
    if power is not None:
        verdicts.append(_side(row["power_low"] - power, row["power_high"] - power))
    if precision is not None:
        verdicts.append(_side(precision - row["half_width_high"], precision - row["half_width_low"]))
    return "missed" if "missed" in verdicts else "open" if "open" in verdicts else "met"


def _side(low: float, high: float) -> Verdict:
    if math.isnan(low) or math.isnan(high):
        return "open"
    return "met" if low >= 0.0 else "missed" if high < 0.0 else "open"


def more_simulations(row: Mapping[str, float], *, power: float | None, precision: float | None) -> int | None:
    """Return about how many more simulations would tell whether a design that is open meets the wish.

    None where the figure is so near the wish that no number in sight would.
    """
    n, needed = row["simulations"], 0.0
    if power is not None and _side(row["power_low"] - power, row["power_high"] - power) == "open":
        share = row["power"]
        needed = max(needed, _Z**2 * share * (1.0 - share) / max((share - power) ** 2, 1e-12))
    if precision is not None:
        half = row["half_width_high"] - row["half_width"]
        gap = abs(row["half_width"] - precision)
        if math.isnan(half):
            needed = max(needed, 2.0 * n)
        elif gap < half:
            needed = max(needed, n * (half / max(gap, 1e-12)) ** 2)
    more = math.ceil(needed * 1.1 - n)  # a tenth more, since the figure itself is uncertain
    return None if more > 1_000_000 else max(more, int(n))


def cheapest(table: pd.DataFrame, verdict: Verdict) -> int | None:
    """Return the row of the cheapest design with a verdict, the smallest one of equal cost; None where there is none.

    Parameters
    ----------
    table
        Columns ``verdict, cost, participants, main, pairs``.
    verdict
        ``met``, ``open`` or ``missed``.
    """
    rows = table[table["verdict"] == verdict].sort_values(["cost", "participants", "main", "pairs"], kind="stable")
    return None if rows.empty else int(rows.index[0])


# Beyond what was simulated ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """How the variance of an estimate falls with a design: ``a / pairs + b / participants + c / trials``.

    The first part is what features differ by, which more people do not lower (Westfall, Kenny and Judd 2014); a study
    without items has none.

    Parameters
    ----------
    parts
        a, b and c, none below 0; 0 where the designs cannot tell it from another.
    true
        True values of the quantity, one or several.
    probability
        Of the intervals.
    fitted
        Share of the studies that have a fit; the others detect nothing.
    """

    parts: tuple[float, float, float]
    true: Array
    probability: float
    fitted: float = 1.0

    def sd(self, participants: float, main: float, pairs: float) -> float:
        """Return the standard deviation of the estimate."""
        a, b, c = self.parts
        return math.sqrt(a * _per_item(pairs) + b / participants + c / (participants * main))

    def half_width(self, participants: float, main: float, pairs: float) -> float:
        """Return half the width of the interval."""
        return float(special.ndtri(0.5 + self.probability / 2.0)) * self.sd(participants, main, pairs)

    def power(self, participants: float, main: float, pairs: float) -> float:
        """Return the probability that the interval excludes zero, of a normal estimate with this SD."""
        z, sd = special.ndtri(0.5 + self.probability / 2.0), self.sd(participants, main, pairs)
        d = np.abs(self.true) / sd if sd > 0 else np.full_like(self.true, np.inf)
        return self.fitted * float(np.mean(special.ndtr(d - z) + special.ndtr(-d - z)))

    def participants(
        self, main: float, pairs: float, *, power: float | None, precision: float | None, most: int = 10**7
    ) -> int | None:
        """Return how many people meet the wish; None where not even `most` do."""

        def meets(people: float) -> bool:
            enough = power is None or self.power(people, main, pairs) >= power
            return enough and (precision is None or self.half_width(people, main, pairs) <= precision)

        if not meets(most):
            return None
        low, high = 0, most  # the wish is met from some number of people on
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if meets(middle) else (middle, high)
        return high


def _per_item(pairs: float) -> float:
    """Return what one of so many items weighs: nothing where trials are of nothing in particular."""
    return 1.0 / pairs if pairs else 0.0


def fit_curve(
    designs: Iterable[tuple[int, int, int]],
    sds: Sequence[float],
    true: Array,
    probability: float,
    *,
    fitted: float = 1.0,
) -> Curve | None:
    """Return the curve through the standard errors of several designs; None where they cannot tell its parts apart.

    Parameters
    ----------
    designs
        Participants, trials a person and pairs of each.
    sds
        Root mean squared standard error of each.
    true
        True values.
    probability
        Of the intervals.
    fitted
        Share of the studies that have a fit.

    Returns
    -------
    Curve or None
        By non-negative least squares on variances, each weighed by its size.
    """
    sizes = np.array([(_per_item(pairs), 1.0 / people, 1.0 / (people * main)) for people, main, pairs in designs])
    variance = np.asarray(sds, dtype=float) ** 2
    trials = np.round(sizes[:, 1] / sizes[:, 2])
    # Where all have as many trials, what they do is part of what people do; without items there is no such part.
    used = [*([0] if sizes[:, 0].any() else []), 1, *([2] if np.ptp(trials) > 0 else [])]
    weights = 1.0 / variance
    scaled = sizes[:, used] / sizes[:, used].max(axis=0)
    if np.linalg.matrix_rank(scaled, tol=1e-6) < len(used):
        return None
    found, _ = optimize.nnls(sizes[:, used] * weights[:, np.newaxis], variance * weights)
    parts = np.zeros(3)
    parts[used] = found
    return Curve((float(parts[0]), float(parts[1]), float(parts[2])), true, probability, fitted)


# Two engines -----------------------------------------------------------------------------------------------------


def lean(first: int, second: int) -> int | None:
    """Return which of two finds more where they disagree: 1 the first, -1 the second, 0 neither, by a sign test at 5 %.

    None where so few disagreements could not tell, even if all were of one side.
    """
    if 2.0 * 0.5 ** (first + second) >= 0.05:
        return None
    return 0 if stats.binomtest(first, first + second).pvalue >= 0.05 else 1 if first > second else -1


def compare_engines(pairs: Iterable[tuple[Mapping[str, float], Mapping[str, float]]]) -> dict[str, Any]:
    """Compare what two engines say of the same simulated studies.

    Parameters
    ----------
    pairs
        ``estimate, sd, conf_low, conf_high`` of the first and the second engine, for each study that both have fitted.

    Returns
    -------
    dict
        ``studies``; ``both, first_only, second_only, neither`` detect; ``agree`` (share); ``sd_ratio`` and
        ``width_ratio`` (geometric mean, second over first); ``shift`` (mean difference of the estimates, second minus
        first, in SDs of the first). The last four with Monte Carlo limits.
    """
    rows = list(pairs)
    first, second = (
        {name: np.array([pair[i][name] for pair in rows], dtype=float) for name in _PARTS} for i in range(2)
    )
    hits = [(one["conf_low"] > 0) | (one["conf_high"] < 0) for one in (first, second)]
    n = len(rows)
    found: dict[str, Any] = {
        "studies": n,
        "both": int((hits[0] & hits[1]).sum()),
        "first_only": int((hits[0] & ~hits[1]).sum()),
        "second_only": int((~hits[0] & hits[1]).sum()),
        "neither": int((~hits[0] & ~hits[1]).sum()),
    }
    found |= _share("agree", found["both"] + found["neither"], n)
    widths = [one["conf_high"] - one["conf_low"] for one in (first, second)]
    for name, ratio in (("sd_ratio", second["sd"] / first["sd"]), ("width_ratio", widths[1] / widths[0])):
        found |= {key: math.exp(value) for key, value in _mean(name, np.log(ratio)).items()}
    return found | _mean("shift", (second["estimate"] - first["estimate"]) / first["sd"])


_PARTS = ("estimate", "sd", "conf_low", "conf_high")
