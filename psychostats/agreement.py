"""Do methods that know no random effects agree? A model's population effect beside GEE and cluster-robust regression.

In: a `Fit` and a factor.  Out: one table of contrasts, a row a method, and the sentences that explain how they differ.
Knows no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from psychostats.design import Coding
from psychostats.effects import contrasts
from psychostats.errors import InputError
from psychostats.fit import Fit
from psychostats.intervals import Interval
from psychostats.predictor import Parameters, plural
from psychostats.second_opinion import Marginal, fit_gee, fit_robust
from psychostats.spec import ModelSpec, specify
from psychostats.uncertainty import Delta, points

_METHODS: tuple[Callable[..., Marginal], ...] = (fit_gee, fit_robust)


@dataclass(frozen=True)
class _Opinion:
    """Population-averaged coefficients as something that effects can be taken from."""

    spec: ModelSpec
    coding: Coding
    interval: Interval
    marginal: Marginal
    terms: tuple[int, ...]

    @property
    def uncertainty(self) -> Delta:
        """What the rows of `parameters` are."""
        return Delta()

    def parameters(self) -> Parameters:
        """Return the coefficients and the points around them; there are no random effects, so none has a variance."""
        b = points(self.marginal.b, self.marginal.covariance)
        return Parameters(b, tuple(np.zeros((len(b), q, q)) for q in self.terms))


def second_opinions(
    fit: Fit, factor: str, *, by: Mapping[str, Sequence[Any]] | None = None, probability: float = 0.95
) -> pd.DataFrame:
    """Put the population contrasts of a model beside those of methods without random effects.

    Parameters
    ----------
    fit
        A fit of a binary family, with one group effect at least.
    factor, by
        As for `psychostats.effects.contrasts`.
    probability
        Of the intervals.

    Returns
    -------
    DataFrame
        ``method`` (``model``, ``GEE``, ``cluster-robust``) and ``clusters`` (the group whose trials were taken as
        dependent; for the model, all), then the columns of `psychostats.effects.contrasts`. Its ``attrs["notes"]``
        are the sentences that explain the table, with the methods that found no estimate and why.

    Raises
    ------
    InputError
        If the response is a measurement or the model has no group.
    """
    if not fit.spec.family.binary:
        raise InputError("second opinions are on odds ratios; a measurement has none.")
    groups = list(dict.fromkeys(block.group for block in fit.design.blocks))
    if not groups:
        raise InputError("the model has no group effect, so that there is nothing for a second opinion to allow for.")
    own = Interval("wald" if fit.is_maximum else "eti", probability)
    tables, silent = [_population(fit, factor, by, own).assign(method="model", clusters=" and ".join(groups))], []
    plain = specify(fit.spec.formula.text, family="binomial")
    terms = tuple(len(block.terms) for block in fit.design.blocks)
    for group in groups:
        for method in _METHODS:
            try:
                marginal = method(fit.design, group)
            except InputError as error:
                silent.append(str(error))
                continue
            opinion = _Opinion(plain, fit.coding, Interval("wald", probability), marginal, terms)
            tables.append(
                _population(opinion, factor, by, opinion.interval).assign(method=marginal.method, clusters=group)
            )
    table = pd.concat(tables, ignore_index=True)
    first = ["method", "clusters"]
    table = table[[*first, *(name for name in table.columns if name not in first)]]
    table.attrs["notes"] = _explain(fit, groups, silent)
    return table


def _population(fit: Any, factor: str, by: Mapping[str, Sequence[Any]] | None, interval: Interval) -> pd.DataFrame:
    table = contrasts(fit, factor, by=by, interval=interval)
    return table[table["target"] == "population"]


def _explain(fit: Fit, groups: Sequence[str], silent: Sequence[str]) -> list[str]:
    family = fit.spec.family
    averaged = " and ".join(f"new {plural(group)}" for group in groups)
    notes = [
        f"All rows are about the same thing: the effect on the average answer over {averaged}, not on that of a "
        "typical one (whose odds ratio is farther from 1).",
        "model: p averaged over the random effects' distribution. GEE and cluster-robust: a logistic regression of the "
        "average answer, without random effects; what differs between them is only the weight of each trial.",
        "Their standard errors allow for dependence within one group, the clusters named"
        + (
            f"; where trials depend on another too ({', '.join(groups)}), they are too small, and fewer than some 40 "
            "clusters make them so as well."
            if len(groups) > 1
            else "; fewer than some 40 clusters make them too small."
        ),
    ]
    if family.has_asymptotes or family.link != "logit":
        notes.append(
            "GEE and cluster-robust take the average answer as logistic in the predictors, the model "
            f"({family.describe()}) does not; between values of numeric predictors they may differ a little more."
        )
    return [*notes, *silent]
