"""The only maker of point estimates, intervals and their labels.

In: draws, or an estimate with its standard error.  Out: one object that holds the interval's kind, probability,
bounds and label together, so that no table can print one kind under another's heading.  Knows nothing of models.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from psychostats.errors import InputError

IntervalKind: TypeAlias = Literal["eti", "hdi", "wald", "profile", "bootstrap"]
Array: TypeAlias = npt.NDArray[np.float64]

_NAMES: dict[str, str] = {
    "eti": "equal-tailed credible interval",
    "hdi": "highest-density credible interval",
    "wald": "Wald confidence interval",
    "profile": "profile confidence interval",
    "bootstrap": "bootstrap confidence interval",
}


@dataclass(frozen=True)
class Interval:
    """How an interval is made: its kind and its probability.

    Parameters
    ----------
    kind
        ``eti`` (equal tails) or ``hdi`` (highest density) for draws; ``wald`` for an estimate and its standard error.
    probability
        Mass inside, between 0 and 1.

    Raises
    ------
    InputError
        If either is not allowed.
    """

    kind: IntervalKind = "eti"
    probability: float = 0.95

    def __post_init__(self) -> None:
        if self.kind not in _NAMES:
            raise InputError(f"interval kind '{self.kind}' is unknown; allowed are {', '.join(_NAMES)}.")
        if not 0.0 < self.probability < 1.0:
            raise InputError(f"interval probability {self.probability} is not between 0 and 1.")

    @property
    def label(self) -> str:
        """Words for a table heading, for example ``95 % equal-tailed credible interval``."""
        return f"{100 * self.probability:g} % {_NAMES[self.kind]}"

    def of_draws(self, draws: npt.ArrayLike) -> tuple[Array, Array]:
        """Return lower and upper bounds over the first axis of `draws`, shape ``(draws, ...)``.

        The HDI is the shortest interval that holds the probability (Chen and Shao 1999): unimodal, so where the
        density has two humps it spans both.
        """
        values = np.asarray(draws, dtype=float)
        if self.kind == "eti":
            tail = (1.0 - self.probability) / 2.0
            low, high = np.quantile(values, [tail, 1.0 - tail], axis=0)
            return low, high
        if self.kind == "hdi":
            ordered = np.sort(values, axis=0)
            n = ordered.shape[0]
            inside = min(int(np.floor(self.probability * n)), n - 1)
            start = np.argmin(ordered[inside:] - ordered[: n - inside], axis=0)
            low = np.take_along_axis(ordered, start[np.newaxis], axis=0)[0]
            high = np.take_along_axis(ordered, (start + inside)[np.newaxis], axis=0)[0]
            return low, high
        raise InputError(f"a {self.kind} interval is not made from draws; use eti or hdi.")

    def of_replicates(self, estimates: npt.ArrayLike) -> tuple[Array, Array]:
        """Return percentile bounds over the first axis of bootstrap estimates; NaN, no estimate, counts as none."""
        if self.kind != "bootstrap":
            raise InputError(f"a {self.kind} interval is not made from replicates; use bootstrap.")
        tail = (1.0 - self.probability) / 2.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # what no replicate has an estimate of stays NaN
            low, high = np.nanquantile(np.asarray(estimates, dtype=float), [tail, 1.0 - tail], axis=0)
        return low, high

    def of_estimate(self, estimate: npt.ArrayLike, se: npt.ArrayLike) -> tuple[Array, Array]:
        """Return Wald bounds, ``estimate -+ z * se``, elementwise."""
        if self.kind != "wald":
            raise InputError(f"a {self.kind} interval is not made from a standard error; use wald.")
        centre, width = np.asarray(estimate, dtype=float), np.asarray(se, dtype=float)
        z = special.ndtri(0.5 + self.probability / 2.0)
        return centre - z * width, centre + z * width


@dataclass(frozen=True)
class Rope:
    """Region of practical equivalence around a null value, in the units of the quantity."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise InputError(
                f"the region of practical equivalence runs from {self.low} to {self.high}; low comes first."
            )


def summarise(
    draws: npt.ArrayLike,
    interval: Interval,
    *,
    null: float | None = None,
    rope: Rope | None = None,
) -> dict[str, Any]:
    """Summarise the draws of one quantity as the columns every table of effects shares.

    Parameters
    ----------
    draws
        Shape ``(n,)``, all chains together.
    interval
        Kind and probability.
    null
        The value of no effect; with it, ``pd`` is the probability of direction (share of draws on the larger side).
    rope
        Region of practical equivalence; ``rope_share`` is the share of all draws inside it, bounds included.

    Returns
    -------
    dict
        ``estimate`` (mean), ``sd``, ``conf_low``, ``conf_high``, ``conf_level``, ``interval``, ``pd``, ``rope_low``,
        ``rope_high``, ``rope_share``; NaN where it does not apply.
    """
    values = np.asarray(draws, dtype=float)
    low, high = interval.of_draws(values)
    row = row_of(
        float(values.mean()),
        float(values.std(ddof=1)) if len(values) > 1 else np.nan,
        (float(low), float(high)),
        interval,
    )
    if null is not None:
        row["pd"] = float(max((values > null).mean(), (values < null).mean()))
    if rope is not None:
        row["rope_low"], row["rope_high"] = rope.low, rope.high
        row["rope_share"] = float(((values >= rope.low) & (values <= rope.high)).mean())
    return row


def row_of(estimate: float, sd: float, limits: tuple[float, float], interval: Interval) -> dict[str, Any]:
    """Return the columns every table of effects shares, those that only draws have as NaN."""
    return {
        "estimate": estimate,
        "sd": sd,
        "conf_low": limits[0],
        "conf_high": limits[1],
        "conf_level": interval.probability,
        "interval": interval.kind,
        "pd": np.nan,
        "rope_low": np.nan,
        "rope_high": np.nan,
        "rope_share": np.nan,
    }
