"""What is compared between two engines: summaries of draws, and how exact each of them is.

In: draws of shape (chains, draws, quantities).  Out: mean, SD and quantiles of each quantity with their Monte Carlo
standard errors, and how many of these errors two tables are apart.  Knows no engine, and not ArviZ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

Array = np.ndarray

QUANTILES = (0.05, 0.5, 0.95)
#: What is compared, in the order of the columns; each has its error under ``mcse_``.
MEASURES = ("mean", "sd", *(f"q{100 * p:g}" for p in QUANTILES))


def effective(draws: Array) -> Array:
    """Return the effective sample size of each quantity's mean.

    Parameters
    ----------
    draws
        Shape ``(chains, draws, quantities)``.

    Returns
    -------
    ndarray
        Shape ``(quantities,)``. Source: Vehtari et al. (2021), section 3.2, of split chains; the sum of
        autocorrelations by Geyer's initial monotone sequence.
    """
    return np.array([_effective(draws[..., k]) for k in range(draws.shape[-1])])


def _effective(draws: Array) -> float:
    half = draws.shape[1] // 2
    x = np.concatenate([draws[:, :half], draws[:, -half:]])
    chains, n = x.shape
    spectrum = np.fft.rfft(x - x.mean(axis=1, keepdims=True), n=2 * n, axis=1)
    autocovariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :n].mean(axis=0) / n
    within = autocovariance[0] * n / (n - 1)
    total = autocovariance[0] + x.mean(axis=1).var(ddof=1)
    rho = 1.0 - (within - autocovariance) / total
    rho[0] = 1.0
    pairs = rho[: 2 * (n // 2)].reshape(-1, 2).sum(axis=1)
    positive = np.cumprod(pairs > 0.0)
    time = -1.0 + 2.0 * float((np.minimum.accumulate(pairs) * positive).sum())
    size = chains * n
    # Antithetic chains may be worth more than as many independent draws; so far that the sum is but noise, they aren't.
    return size / max(time, 1.0 / np.log10(size))


def summarise(names: Sequence[str], draws: Array) -> pd.DataFrame:
    """Summarise each quantity.

    Parameters
    ----------
    names, draws
        Of the quantities; draws of shape ``(chains, draws, quantities)``.

    Returns
    -------
    DataFrame
        By ``term``: `MEASURES`, and ``mcse_`` of each. That of the mean is sd / sqrt(ESS); of the SD by the delta
        method, from the squared deviations; of a quantile half the width between the quantiles that are one standard
        error of its probability away (Vehtari et al. 2021, section 4.3), the ESS that of falling below it.
    """
    flat = draws.reshape(-1, draws.shape[-1])
    centred = np.square(draws - flat.mean(axis=0))
    sd = np.sqrt(centred.mean(axis=(0, 1)))
    out = {
        "mean": flat.mean(axis=0),
        "sd": sd,
        "mcse_mean": sd / np.sqrt(effective(draws)),
        "mcse_sd": centred.std(axis=(0, 1)) / np.sqrt(effective(centred)) / (2.0 * sd),
    }
    for p, name in zip(QUANTILES, MEASURES[2:], strict=True):
        value = np.quantile(flat, p, axis=0)
        size = effective((draws <= value).astype(float))
        ends = stats.beta.ppf(stats.norm.cdf([[-1.0], [1.0]]), size * p + 1.0, size * (1.0 - p) + 1.0)
        low, high = (np.array([np.quantile(flat[:, k], end[k]) for k in range(len(names))]) for end in ends)
        out |= {name: value, f"mcse_{name}": 0.5 * (high - low)}
    columns = [*MEASURES, *(f"mcse_{name}" for name in MEASURES)]
    return pd.DataFrame(out, index=pd.Index(names, name="term"))[columns]


def distances(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Return how many combined Monte Carlo standard errors two tables of `summarise` are apart, signed.

    Shape ``(terms, measures)``, the terms of `theirs` in their order.
    """
    missing = set(theirs.index) ^ set(ours.index)
    assert not missing, f"terms of one engine only: {sorted(missing)}"
    ours = ours.loc[theirs.index]
    return pd.DataFrame(
        {
            name: (ours[name] - theirs[name]) / np.hypot(ours[f"mcse_{name}"], theirs[f"mcse_{name}"])
            for name in MEASURES
        }
    )
