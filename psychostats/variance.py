"""Where the linear predictor's variance comes from: R squared, marginal and conditional, and intraclass correlations.

In: a `Fit`.  Out: a table with intervals.  Knows no sampler.

All of it is on the link scale, where an answer's or a rating's own variance is that of the link's law (pi^2 / 3 for
logit, 1 for probit) and a measurement's is that of its errors: the share of a latent response, above guessing where
there is a guess rate, not of single answers.  A slope's variance counts at the trials as they are (Johnson 2014),
and so does a rating's own where it differs between them (that of the link's law over disc squared).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from psychostats.fit import Fit
from psychostats.intervals import Interval
from psychostats.predictor import Parameters
from psychostats.uncertainty import Through

Array: TypeAlias = npt.NDArray[np.float64]

VARIANCE_COLUMNS = ("quantity", "group", "estimate", "sd", "conf_low", "conf_high", "conf_level", "interval")


def variance_shares(fit: Fit, *, interval: Interval | None = None) -> pd.DataFrame:
    """Return R squared and intraclass correlations, as R's performance has them.

    Parameters
    ----------
    fit
        A fit, of draws or of a maximum.
    interval
        Kind and probability; the fit's own by default.

    Returns
    -------
    DataFrame
        Columns `VARIANCE_COLUMNS`. ``r2_marginal``: the fixed effects' share of the variance of the latent response;
        ``r2_conditional``: that of fixed and group effects; ``icc``: each group's share of what the fixed effects
        leave, and that of all groups together (``group`` empty). Source: Nakagawa, Johnson and Schielzeth (2017).
    """
    design, parameters = fit.design, fit.parameters()
    centred = design.X - design.X.mean(axis=0)
    fixed = np.einsum("si,ij,sj->s", parameters.b, centred.T @ centred / max(len(centred) - 1, 1), parameters.b)
    residual = _residual(fit, parameters)
    groups: dict[str, Array] = {}
    for block, covariance in zip(design.blocks, parameters.covariance, strict=True):
        added = np.einsum("sij,ij->s", covariance, block.Z.T @ block.Z / len(block.Z))
        groups[block.group] = groups.get(block.group, np.zeros(len(added))) + added
    random = np.sum(list(groups.values()), axis=0) if groups else np.zeros(len(fixed))
    whole = fixed + random + residual
    found = [("r2_marginal", "", fixed / whole), ("r2_conditional", "", (fixed + random) / whole)]
    if groups:
        found.append(("icc", "", random / (random + residual)))
        found += [("icc", group, values / (random + residual)) for group, values in groups.items()]
    rows = []
    for quantity, group, values in found:
        # A share of nothing, or of all, lies at the end of its scale and has no limits there.
        inside = bool(((values > 0) & (values < 1)).all())
        through = Through(special.logit(values), special.expit) if fit.uncertainty.on_link and inside else None
        figures = fit.uncertainty.summarise(values, interval or fit.interval, through=through)
        rows.append({"quantity": quantity, "group": group, **figures})
    return pd.DataFrame(rows)[list(VARIANCE_COLUMNS)]


def _residual(fit: Fit, parameters: Parameters) -> Array:
    """Return the variance of the latent response that no effect explains, one a draw or one of all."""
    family = fit.spec.family
    if fit.is_maximum and fit.estimates.maximum.sigma is not None:
        family = family.at({"sigma": np.array([fit.estimates.maximum.sigma])})
    if fit.design.scale is None:
        return np.ravel(family.at(parameters.family).latent_variance)
    rows, count = np.unique(fit.design.scale, axis=0, return_counts=True)
    return np.asarray(np.average(family.at(parameters.family, rows).latent_variance, axis=1, weights=count))
