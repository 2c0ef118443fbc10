"""Tables of marginal means and of their contrasts, as R's emmeans prints them.

In: means at every row of a fit's parameters, with the factors they belong to.  Out: `MarginalMeans` and `Contrasts`,
which tabulate and print themselves.  Knows no fit and no grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.errors import InputError
from psychostats.family import Family
from psychostats.intervals import Interval
from psychostats.multiplicity import STEPWISE, resolve_adjustment
from psychostats.predictor import Target, describe_target
from psychostats.spec import ModelSpec
from psychostats.uncertainty import Through, Uncertainty

Array: TypeAlias = npt.NDArray[np.float64]
Scale: TypeAlias = Literal["link", "response"]
Names: TypeAlias = Literal["python", "R"]

_IN_R = {"odds_ratio": "odds.ratio", "z_ratio": "z.ratio", "p_value": "p.value"}
_LIMITS_IN_R = {"wald": "asymp.{}CL", "hdi": "{}.HPD", "eti": "{}.CL"}


@dataclass(frozen=True)
class Quantities:
    """Some quantities at every row of a fit's parameters.

    Parameters
    ----------
    shown
        On the scale on which they are reported, shape ``(rows, k)``.
    through
        Where their limits are made and tests performed, if elsewhere.
    """

    shown: Array
    through: Through | None = None

    @property
    def inner(self) -> Array:
        """The quantities where tests are performed, shape ``(rows, k)``."""
        return self.through.inner if self.through else self.shown


@dataclass(frozen=True)
class MarginalMeans:
    """Estimated marginal means, or trends.

    Parameters
    ----------
    cells
        Levels of the factors, a row a mean; those of `by` come last.
    by
        Factors whose levels make separate families of contrasts.
    name
        Of the column of estimates: ``emmean``, ``prob``, ``response``, or the trend's variable and ``_trend``.
    scale, target
        As asked for.
    interval
        Kind and probability.
    uncertainty
        Of the fit.
    link
        On the link (or the trends), shape ``(rows, k)``; None where means were taken on the response.
    mean, miss
        On the response: the mean and, of binary answers, the probability of a wrong one.
    spec
        The model.
    notes
        What was averaged over, and where numbers are held.
    adjust
        Of the limits.
    """

    cells: pd.DataFrame
    by: tuple[str, ...]
    name: str
    scale: Scale
    target: Target
    interval: Interval
    uncertainty: Uncertainty
    link: Array | None
    mean: Array | None
    miss: Array | None
    spec: ModelSpec
    notes: tuple[str, ...] = ()
    adjust: str = "none"

    def quantities(self) -> Quantities:
        """Return the means on the scale that was asked for."""
        if self.scale == "link" or self.mean is None:
            assert self.link is not None
            return Quantities(self.link)
        # A family with estimated parameters has another mean in each draw, so that there is no one way back.
        known = self.link is not None and not self.spec.family.estimated
        through = Through(self.link, self.spec.family.mean) if self.link is not None and known else None
        return Quantities(self.mean, through)

    def table(self, *, names: Names = "python") -> pd.DataFrame:
        """Return a row a mean.

        Parameters
        ----------
        names
            ``python``, or ``R`` for emmeans' own column names (``asymp.LCL`` and so on).

        Returns
        -------
        DataFrame
            The factors, then ``emmean`` (or ``prob``, ``response``, ``x_trend``), ``SE``, ``df`` (infinite, or NaN for
            draws), ``lower_CL``, ``upper_CL``.
        """
        figures = _figures(self.quantities(), self.name, self, self.adjust, families_of(self.cells, self.by), False)
        return _named(pd.concat([self.cells, figures], axis=1), names, self)

    def regrid(self) -> MarginalMeans:
        """Return the means as probabilities for good, so that their contrasts are differences, as R's ``regrid``."""
        if self.mean is None:
            raise InputError("these are trends, which have no other scale.")
        return replace(self, link=None, miss=None, scale="response", name=column_name(self.spec.family, "response"))

    def __repr__(self) -> str:
        family = self.spec.family
        notes = [*self.notes, _on_link(self)] if self.scale == "link" and self.mean is not None else [*self.notes]
        notes.append(_interval_note(self.interval, self.adjust))
        if self.scale == "response" and self.link is not None and self.mean is not None:
            notes.append(f"Limits are back-transformed from the {family.link} scale.")
        return _printed(self.table(), self.by, [*notes, *_target_note(self)])


@dataclass(frozen=True)
class Contrasts:
    """Contrasts of marginal means or of trends.

    Parameters
    ----------
    labels
        ``contrast`` and the `by` columns, a row a contrast.
    by
        See `MarginalMeans`.
    name
        ``estimate`` or ``odds_ratio``.
    quantities
        What is contrasted.
    of
        The means.
    adjust
        Of p-values and limits, within each family.
    means
        Number of means of which a family is all pairwise differences; None if it is something else.
    note
        On the scale.
    """

    labels: pd.DataFrame
    by: tuple[str, ...]
    name: str
    quantities: Quantities
    of: MarginalMeans
    adjust: str
    means: int | None
    note: str | None = None

    def table(self, *, names: Names = "python") -> pd.DataFrame:
        """Return a row a contrast.

        Parameters
        ----------
        names
            See `MarginalMeans.table`.

        Returns
        -------
        DataFrame
            ``contrast``, the `by` columns, ``estimate`` or ``odds_ratio``, ``SE``, ``df``, ``null``, then ``z_ratio``
            and ``p_value`` (or, of draws, ``pd``), ``lower_CL``, ``upper_CL``. Tests and limits hold for each family
            (the contrasts at one combination of the `by` columns) together.
        """
        families = families_of(self.labels, self.by)
        figures = _figures(self.quantities, self.name, self.of, self.adjust, families, True, self.means)
        return _named(pd.concat([self.labels, figures], axis=1), names, self.of)

    def __repr__(self) -> str:
        of, table = self.of, self.table()
        size = len(table) // len(families_of(self.labels, self.by))
        made = resolve_adjustment(self.adjust, size, self.means)
        notes = [*of.notes, *([self.note] if self.note else [])]
        notes.append(_interval_note(of.interval, made, size, self.means))
        if made != "none" and "p_value" in table:
            notes.append(f"P value adjustment: {made} method{_family_note(made, size, self.means)}.")
        if self.name == "odds_ratio":
            notes.append("Tests are performed on the log odds ratio scale.")
        return _printed(table, self.by, [*notes, *_target_note(of)])


def column_name(family: Family, scale: Scale) -> str:
    """Return the name of the column of estimated means."""
    return "emmean" if scale == "link" else "prob" if family.binary else "response"


def families_of(frame: pd.DataFrame, by: Sequence[str]) -> list[npt.NDArray[np.intp]]:
    """Return the places of the rows of each combination of the `by` columns, in their order."""
    if not by:
        return [np.arange(len(frame))]
    keys = list(frame[list(by)].itertuples(index=False, name=None))
    return [np.flatnonzero([key == one for key in keys]) for one in dict.fromkeys(keys)]


def _figures(
    quantities: Quantities,
    name: str,
    means: MarginalMeans,
    adjust: str,
    families: list[npt.NDArray[np.intp]],
    tests: bool,
    pairwise: int | None = None,
) -> pd.DataFrame:
    """Return the columns of figures of means or contrasts, limits and tests adjusted within each family."""
    uncertainty, values, inner = means.uncertainty, quantities.shown, quantities.inner
    k = values.shape[1]
    low, high = np.full(k, np.nan), np.full(k, np.nan)
    found: dict[str, Array] = {}
    for at in families:
        through = Through(inner[:, at], quantities.through.back) if quantities.through else None
        low[at], high[at] = uncertainty.limits(
            values[:, at], means.interval, adjust=adjust, means=pairwise, through=through
        )
        if tests:
            for column, figures in uncertainty.tests(inner[:, at], adjust=adjust, means=pairwise).items():
                found.setdefault(column, np.full(k, np.nan))[at] = figures
    out = {name: uncertainty.estimate(values), "SE": uncertainty.sd(values), "df": uncertainty.df}
    if tests:
        out["null"] = 1.0 if name == "odds_ratio" else 0.0
    return pd.DataFrame({**out, **found, "lower_CL": low, "upper_CL": high})


def _named(table: pd.DataFrame, names: Names, means: MarginalMeans) -> pd.DataFrame:
    """Return a table under the names of its columns that were asked for."""
    if names not in ("python", "R"):
        raise InputError(f"names is '{names}'; allowed are python and R.")
    if names == "python":
        return table
    written = _LIMITS_IN_R[means.interval.kind]
    low, high = ("L", "U") if means.interval.kind == "wald" else ("lower", "upper")
    trend = {means.name: means.name.removesuffix("_trend") + ".trend"} if means.name.endswith("_trend") else {}
    return table.rename(columns=_IN_R | trend | {"lower_CL": written.format(low), "upper_CL": written.format(high)})


def _printed(table: pd.DataFrame, by: Sequence[str], notes: Sequence[str]) -> str:
    """Return a table as emmeans prints it, a piece for every combination of the `by` columns, with its notes."""
    shown = table.drop(columns=list(by))
    for name in shown.columns:
        if name == "p_value":
            shown[name] = [("NaN" if np.isnan(p) else "<.0001" if p < 5e-5 else f"{p:.4f}") for p in shown[name]]
        elif name == "z_ratio":
            shown[name] = [f"{z:.3f}" for z in shown[name]]
        elif pd.api.types.is_float_dtype(shown[name]):
            shown[name] = [("Inf" if x == np.inf else f"{x:.4g}") for x in shown[name]]
    pieces = []
    for at in families_of(table, by):
        head = ", ".join(f"{name} = {table[name].iloc[at[0]]}" for name in by)
        pieces.append((f"{head}:\n" if head else "") + shown.iloc[at].to_string(index=False))
    return "\n\n".join([*pieces, "\n".join(notes)])


def _on_link(means: MarginalMeans) -> str:
    return f"Results are given on the {means.spec.family.link} (not the response) scale."


def _interval_note(interval: Interval, adjust: str, size: int = 0, means: int | None = None) -> str:
    """Say what the limits are, and that they hold together, if they do."""
    if adjust == "none":
        return f"Limits: {interval.label}."
    made = "bonferroni" if adjust in STEPWISE else adjust
    return f"Limits: {interval.label}, simultaneous by the {made} method{_family_note(made, size, means)}."


def _family_note(adjust: str, size: int, means: int | None) -> str:
    """Say for how many estimates an adjustment was made."""
    if adjust == "tukey":
        return f" for comparing a family of {means} estimates"
    return f" for {size} tests" if size else ""


def _target_note(means: MarginalMeans) -> list[str]:
    """Say whose means these are; nothing where the model has no group effects."""
    groups = means.spec.formula.groups
    return [f"Target: {means.target} ({describe_target(means.target, groups)})."] if groups else []
