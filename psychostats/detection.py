"""Signal detection from answers yes and no: d' and the criterion, as a tidy table.

In: a fit of yes answers with the link probit, or a model whose parameters are known, and the factor that says whether a
signal was there.  Out: a data frame.  Knows no report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from psychostats.effects import EFFECT_COLUMNS, by_column
from psychostats.errors import InputError
from psychostats.grid import Estimated, require_predictors, rows_of, values_at
from psychostats.intervals import Interval


def detection(
    fit: Estimated,
    factor: str,
    *,
    by: Mapping[str, Sequence[Any]] | None = None,
    interval: Interval | None = None,
) -> pd.DataFrame:
    """Return d' and the criterion c of the typical person.

    With the link probit, a yes has the probability F(eta), F the standard normal distribution function: eta is z of the
    false-alarm rate without the signal, and z of the hit rate with it.  So d' = z(H) - z(F) is the contrast of the two
    on the link, and c = -(z(H) + z(F)) / 2; above 0 a person says yes less often than an unbiased one (Macmillan and
    Creelman 2005, Detection Theory, 2nd ed., eq. 1.5 and 2.1; DeCarlo 1998).  Group effects are normal on the link, so
    the typical person's d' is the mean over people, which d' of pooled answers is not.

    Parameters
    ----------
    fit
        A fit of a binary family without guess and lapse rates, link probit.
    factor
        Factor of two levels, the first without the signal.
    by
        Values of other predictors at which to ask; those not named are at their mean, or averaged over.
    interval
        Kind and probability; the fit's own by default.

    Returns
    -------
    DataFrame
        ``term, contrast``, the `by` columns, then `psychostats.effects.EFFECT_COLUMNS`; ``scale`` is ``dprime`` or
        ``criterion``, in SDs of the noise, and ``target`` is ``typical``.

    Raises
    ------
    InputError
        If the family or the factor is another.
    """
    family, coding = fit.spec.family, fit.coding
    if not family.binary or family.link != "probit" or family.has_asymptotes:
        raise InputError(f"d' is of answers yes and no with the link probit; this fit is {family.describe()}.")
    require_predictors(fit, [factor])
    levels = coding.levels.get(factor, ())
    if len(levels) != 2:
        raise InputError(f"d' compares a signal with its absence; '{factor}' has {len(levels)} levels.")
    at = {name: values_at(fit, name, values) for name, values in (by or {}).items()}
    grid = coding.grid({**at, factor: list(levels)})
    eta = rows_of(fit, grid).eta()
    present = (grid[factor].astype(str) == levels[1]).to_numpy()
    places: list[tuple[dict[str, Any], pd.Index[Any]]] = [({}, grid.index)]
    if at:
        places = [
            ({by_column(name): value for name, value in zip(at, key, strict=True)}, group.index)
            for key, group in grid.groupby(list(at), sort=False, observed=True)
        ]
    rows = []
    for place, index in places:
        here = grid.index.isin(index)
        hit, false_alarm = (np.asarray(eta[:, here & which].mean(axis=1)) for which in (present, ~present))
        for scale, draws in (("dprime", hit - false_alarm), ("criterion", -0.5 * (hit + false_alarm))):
            found = fit.uncertainty.summarise(draws, interval or fit.interval, null=0.0)
            contrast = f"{levels[1]} - {levels[0]}" if scale == "dprime" else None
            known = {"term": factor, "contrast": contrast, **place, "target": "typical", "scale": scale}
            rows.append(known | found)
    return pd.DataFrame(rows)[["term", "contrast", *places[0][0], *EFFECT_COLUMNS]]
