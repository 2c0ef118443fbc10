"""Maximum likelihood estimates with names: arrays from the maximiser into labelled groups and tables of terms.

In: a `Maximum` and its `Design`.  Out: `Estimates`, which knows every term's brms name, its standard error and Wald
limits, the points at which the delta method looks at a quantity, and the groups that a file holds.  Knows no
likelihood and no optimiser.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy import special

from psychostats.design import Block, Design
from psychostats.draws import TERM_COLUMNS
from psychostats.errors import FitError, InputError
from psychostats.intervals import Interval
from psychostats.maximum import SINGULAR, Maximum
from psychostats.mixed import free
from psychostats.netcdf import constant, texts
from psychostats.predictor import Parameters
from psychostats.uncertainty import Delta, points

Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimates:
    """Labelled estimates.

    Parameters
    ----------
    maximum
        The estimates, in the order of the design.
    names
        Of the fixed effects.
    blocks
        Group, terms, structure and levels of each group effect.
    data
        The columns of the trials that the formula names.
    """

    maximum: Maximum
    names: tuple[str, ...]
    blocks: tuple[Block, ...]
    data: pd.DataFrame

    @property
    def groups(self) -> dict[str, xr.Dataset]:
        """What a file holds: ``estimates`` and ``constant_data``."""
        best = self.maximum
        variables: dict[str, object] = {
            "b": ("term", best.b),
            "covariance": (("parameter", "parameter_"), best.covariance),
        }
        for i, L in enumerate(best.factors):
            variables |= {
                f"factor_{i}": ((f"term_{i}", f"term_{i}_"), L),
                f"r_{i}": ((f"level_{i}", f"term_{i}"), best.r[i]),
                f"r_sd_{i}": ((f"level_{i}", f"term_{i}"), best.r_sd[i]),
            }
        coords = {"term": texts(self.names)}
        for i, block in enumerate(self.blocks):
            coords |= {f"term_{i}": texts(block.terms), f"level_{i}": texts(block.levels)}
        attributes = {
            "log_likelihood": best.log_likelihood,
            "parameters": best.parameters,
            "evaluations": best.evaluations,
            "sigma": np.nan if best.sigma is None else best.sigma,
        }
        estimates = xr.Dataset(variables, coords, attributes)
        return {"estimates": estimates, "constant_data": constant(self.data)}

    @staticmethod
    def of(groups: Mapping[str, xr.Dataset], design: Design, data: pd.DataFrame, path: Path) -> Estimates:
        """Take the groups that a file held, for the design that its trials code to.

        Raises
        ------
        FitError
            If the file holds other terms or levels than the design.
        """
        try:
            held = groups["estimates"]
            same = [str(name) for name in held["term"].to_numpy()] == list(design.names)
            for i, block in enumerate(design.blocks):
                same &= [str(name) for name in held[f"level_{i}"].to_numpy()] == list(block.levels)
                same &= [str(name) for name in held[f"term_{i}"].to_numpy()] == list(block.terms)
            if not same:
                raise KeyError
            many = range(len(design.blocks))
            sigma = float(held.attrs["sigma"])
            maximum = Maximum(
                b=held["b"].to_numpy(),
                factors=tuple(held[f"factor_{i}"].to_numpy() for i in many),
                sigma=None if np.isnan(sigma) else sigma,
                covariance=held["covariance"].to_numpy(),
                log_likelihood=float(held.attrs["log_likelihood"]),
                r=tuple(held[f"r_{i}"].to_numpy() for i in many),
                r_sd=tuple(held[f"r_sd_{i}"].to_numpy() for i in many),
                parameters=int(held.attrs["parameters"]),
                evaluations=int(held.attrs["evaluations"]),
            )
        except KeyError as error:
            raise FitError(
                f"{path} does not verify: its trials now code to other terms than were estimated."
            ) from error
        return Estimates(maximum, design.names, design.blocks, data)

    def sds(self) -> dict[str, float]:
        """Return the SD of every group effect by its term."""
        found = {}
        for block, L in zip(self.blocks, self.maximum.factors, strict=True):
            for term, sd in zip(block.terms, _sd_and_correlation(L)[0], strict=True):
                found[f"sd_{block.group}__{term}"] = float(sd)
        return found

    @property
    def singular_terms(self) -> list[str]:
        """SDs that are zero and correlations that are -1 or 1; a group effect whose terms depend in no such way."""
        found = []
        for block, L in zip(self.blocks, self.maximum.factors, strict=True):
            sd, correlation = _sd_and_correlation(L)
            small = [f"sd_{block.group}__{t}" for t, s in zip(block.terms, sd, strict=True) if not s > 0]
            # A slope on a column far from 0 (a year, say) correlates with the intercept to many nines, not singularly.
            deficient = bool((np.diag(L) <= 0).any())
            tied = [
                f"cor_{block.group}__{block.terms[j]}__{block.terms[i]}"
                for i, j in _pairs(block)
                if deficient and sd[i] * sd[j] > 0 and 1.0 - abs(correlation[i, j]) < SINGULAR**2
            ]
            found += small + tied
            if not small and not tied and deficient:
                found.append(f"({' + '.join(block.terms)} | {block.group})")
        return found

    def terms(self, interval: Interval, *, random: bool = False) -> pd.DataFrame:
        """Summarise every term.

        Parameters
        ----------
        interval
            Of kind ``wald``: of an SD made on its logarithm, of a correlation on its inverse hyperbolic tangent.
        random
            Also the conditional modes of single levels, class ``r``, with their conditional SDs.

        Returns
        -------
        DataFrame
            Columns `psychostats.draws.TERM_COLUMNS`; those of sampling are NaN, as are the standard error and limits
            of what lies at its boundary.

        Raises
        ------
        InputError
            If the interval is no Wald interval.
        """
        if interval.kind != "wald":
            raise InputError(
                f"a maximum has no draws, so no {interval.kind} interval; allowed here is wald (profile and bootstrap "
                "intervals: psychostats.confidence_intervals)."
            )
        rows = [*self._fixed(interval), *self._spread(interval)]
        frame = pd.DataFrame(rows, columns=["term", "group", "class", "estimate", "sd", "conf_low", "conf_high"])
        if random:
            frame = pd.concat([frame, *self._levels(interval)], ignore_index=True)
        frame["conf_level"], frame["interval"] = interval.probability, interval.kind
        frame[["rhat", "ess_bulk", "ess_tail"]] = np.nan
        return frame[list(TERM_COLUMNS)]

    def wald_tests(self) -> pd.DataFrame:
        """Return ``term, estimate, sd, z, p_value`` of the fixed effects: two-sided, against 0, by the normal law."""
        se = np.sqrt(np.diag(self.maximum.covariance)[: len(self.names)])
        z = self.maximum.b / se
        terms = [f"b_{name}" for name in self.names]
        return pd.DataFrame(
            {"term": terms, "estimate": self.maximum.b, "sd": se, "z": z, "p_value": 2.0 * special.ndtr(-np.abs(z))}
        )

    def parameters(self, rates: Mapping[str, float] | None = None) -> Parameters:
        """Return the estimate and the points around it, as `psychostats.uncertainty.Delta` reads them.

        Parameters
        ----------
        rates
            Of the family, where they were estimated too, in the order of the covariance.
        """
        best, p, rates = self.maximum, len(self.names), rates or {}
        elements = [L[free(block)] for block, L in zip(self.blocks, best.factors, strict=True)]
        size = p + sum(len(part) for part in elements) + len(rates)  # log sigma moves no mean
        centre = np.concatenate([best.b, *elements, np.array(list(rates.values()), dtype=float)])
        rows = points(centre, best.covariance[:size, :size], self.uncertainty.step)
        covariance, start = [], p
        for block in self.blocks:
            at = free(block)
            L = np.zeros((len(rows), len(block.terms), len(block.terms)))
            L[:, at[0], at[1]] = rows[:, start : start + len(at[0])]
            start += len(at[0])
            covariance.append(L @ np.swapaxes(L, 1, 2))
        modes = tuple(np.broadcast_to(r, (len(rows), *r.shape)) for r in best.r)
        return Parameters(rows[:, :p], tuple(covariance), modes, {n: rows[:, start + i] for i, n in enumerate(rates)})

    @property
    def uncertainty(self) -> Delta:
        """What the rows of `parameters` are."""
        return Delta()

    def variance_components(self) -> pd.DataFrame:
        """Return a table as lme4's ``VarCorr``: ``group, term, variance, sd, correlations`` (with the terms before)."""
        rows = []
        for block, L in zip(self.blocks, self.maximum.factors, strict=True):
            sd, correlation = _sd_and_correlation(L)
            for i, term in enumerate(block.terms):
                with_earlier = tuple(correlation[i, :i]) if block.structure == "correlated" else ()
                rows.append((block.group, term, sd[i] ** 2, sd[i], with_earlier))
        if self.maximum.sigma is not None:
            rows.append(("Residual", "", self.maximum.sigma**2, self.maximum.sigma, ()))
        return pd.DataFrame(rows, columns=["group", "term", "variance", "sd", "correlations"])

    def modes(self) -> pd.DataFrame:
        """Return conditional modes as lme4's ``ranef`` with ``condVar``: ``group, level, term, estimate, sd``."""
        parts = []
        for block, r, sd in zip(self.blocks, self.maximum.r, self.maximum.r_sd, strict=True):
            part = pd.DataFrame(
                {
                    "level": np.repeat(block.levels, len(block.terms)),
                    "term": np.tile(block.terms, len(block.levels)),
                    "estimate": r.ravel(),
                    "sd": sd.ravel(),
                }
            )
            part.insert(0, "group", block.group)
            parts.append(part)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["group", "level", "term"])

    def _fixed(self, interval: Interval) -> Iterable[tuple[object, ...]]:
        se = np.sqrt(np.diag(self.maximum.covariance)[: len(self.names)])
        low, high = interval.of_estimate(self.maximum.b, se)
        for i, name in enumerate(self.names):
            yield f"b_{name}", "", "b", self.maximum.b[i], se[i], low[i], high[i]

    def _spread(self, interval: Interval) -> list[tuple[object, ...]]:
        sds, correlations = [], []
        start = len(self.names)
        for block, L in zip(self.blocks, self.maximum.factors, strict=True):
            rows, columns = free(block)
            V = self.maximum.covariance[start : start + len(rows), start : start + len(rows)]
            start += len(rows)
            sd, correlation = _sd_and_correlation(L)
            slopes = np.zeros((len(block.terms), len(rows)))  # of each log SD by the free elements
            for k, (i, j) in enumerate(zip(rows, columns, strict=True)):
                slopes[i, k] = L[i, j] / sd[i] ** 2 if sd[i] > 0 else np.nan
            for i, term in enumerate(block.terms):
                name = f"sd_{block.group}__{term}"
                sds.append((name, block.group, "sd", *_on_log(sd[i], slopes[i], V, interval)))
            for i, j in _pairs(block):
                name = f"cor_{block.group}__{block.terms[j]}__{block.terms[i]}"
                by = np.zeros(len(rows))
                for k, (a, c) in enumerate(zip(rows, columns, strict=True)):
                    by[k] += (a == i) * L[j, c] / (sd[i] * sd[j]) if sd[i] * sd[j] > 0 else np.nan
                    by[k] += (a == j) * L[i, c] / (sd[i] * sd[j]) if sd[i] * sd[j] > 0 else np.nan
                by -= correlation[i, j] * (slopes[i] + slopes[j])
                correlations.append((name, block.group, "cor", *_on_atanh(correlation[i, j], by, V, interval)))
        family = []
        if self.maximum.sigma is not None:
            V = self.maximum.covariance[-1:, -1:]
            family.append(("sigma", "", "family", *_on_log(self.maximum.sigma, np.ones(1), V, interval)))
        return [*sds, *correlations, *family]

    def _levels(self, interval: Interval) -> Iterable[pd.DataFrame]:
        for block, r, sd in zip(self.blocks, self.maximum.r, self.maximum.r_sd, strict=True):
            low, high = interval.of_estimate(r, sd)
            names = [f"r_{block.group}[{level},{term}]" for level in block.levels for term in block.terms]
            columns = {"estimate": r, "sd": sd, "conf_low": low, "conf_high": high}
            yield pd.DataFrame(
                {"term": names, "group": block.group, "class": "r", **{k: v.ravel() for k, v in columns.items()}}
            )


def label_maximum(maximum: Maximum, design: Design, data: pd.DataFrame) -> Estimates:
    """Give a maximum its names; `data` are the columns of the trials that the formula names."""
    return Estimates(maximum, design.names, design.blocks, data)


def _pairs(block: Block) -> list[tuple[int, int]]:
    """Return the places of terms whose correlation was estimated, the later first."""
    if block.structure != "correlated":
        return []
    return [(i, j) for i in range(len(block.terms)) for j in range(i)]


def _sd_and_correlation(L: Array) -> tuple[Array, Array]:
    covariance = L @ L.T
    sd = np.sqrt(np.diag(covariance))
    with np.errstate(invalid="ignore", divide="ignore"):
        return sd, covariance / np.outer(sd, sd)


def _on_log(value: float, slope: Array, V: Array, interval: Interval) -> tuple[float, float, float, float]:
    """Return an SD, its standard error, and limits made on its logarithm; `slope` is that of the logarithm."""
    # A zero SD has no standard error, nor has one whose uncertainty the data do not know.
    se = float(np.sqrt(slope @ V @ slope)) or np.nan
    low, high = interval.of_estimate(np.log(value) if value > 0 else np.nan, se)
    with np.errstate(over="ignore"):  # an SD of which the trials say nothing has an endless interval
        return value, value * se, float(np.exp(low)), float(np.exp(high))


def _on_atanh(value: float, slope: Array, V: Array, interval: Interval) -> tuple[float, float, float, float]:
    """Return a correlation, its standard error, and limits made on its inverse hyperbolic tangent."""
    room = 1.0 - value**2
    if not room > SINGULAR**2:
        return value, np.nan, np.nan, np.nan
    se = float(np.sqrt(slope @ V @ slope)) or np.nan
    low, high = interval.of_estimate(np.arctanh(value), se / room)
    return value, se, float(np.tanh(low)), float(np.tanh(high))
