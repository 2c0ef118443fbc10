"""Posteriors by SciPy alone, for the tests of both samplers; and draws beside distribution functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import arviz as az
import numpy as np
import xarray as xr
from posterior import correlations
from scipy import special, stats

from psychostats.design import Block, Design
from psychostats.families import resolve_family
from psychostats.family import Family
from psychostats.priors import Prior, resolve_priors
from psychostats.sampler import SOFTNESS
from psychostats.sampling import Sample

Array = np.ndarray


def log_prior(prior: Prior, x: Array) -> Array:
    """Return SciPy's log-density in Stan's parameterisation, up to a constant."""
    a = prior.distribution.args
    return {
        "normal": lambda: stats.norm.logpdf(x, a[0], a[1]),
        "student_t": lambda: stats.t.logpdf(x, a[0], a[1], a[2]),
        "cauchy": lambda: stats.cauchy.logpdf(x, a[0], a[1]),
        "exponential": lambda: stats.expon.logpdf(x, scale=1 / a[0]),
        "gamma": lambda: stats.gamma.logpdf(x, a[0], scale=1 / a[1]),
        "beta": lambda: stats.beta.logpdf(x, a[0], a[1]),
        "uniform": lambda: stats.uniform.logpdf(x, a[0], a[1] - a[0]),
    }[prior.distribution.name]()


def log_density(
    design: Design,
    family: Family,
    priors: Sequence[Prior],
    drawn: Sample,
    softness: Mapping[str, float] | None = None,
    groups: Sequence[tuple[Array, Sequence[int]]] | None = None,
) -> Array:
    """Return the log posterior of every draw in a sampler's own coordinates, up to a constant, from SciPy alone.

    Of `sampler` it needs as many levels as that pads to, since effects of padding levels are not returned.  Of `nuts`,
    `softness` is that of every SD by name, and `groups` has for each group its levels' information, and the places of
    its blocks; an effect's coordinate is then z of r = m + C'^-1 z, C C' = Sigma^-1 + information.
    """
    of = {prior.name: prior for prior in priors}
    places = [design.names.index(name) for name in design.coefficients]
    eta = drawn.b @ design.X[:, places].T + design.offset
    total: Any = sum(log_prior(of[f"b_{name}"], drawn.b[..., j]) for j, name in enumerate(design.coefficients))
    for m, effect in enumerate(design.monotonic):
        step, share = drawn.bsp[..., m], drawn.simo[m]
        steps = share.shape[-1]
        eta = eta + (step[..., np.newaxis] * steps * share) @ design.X[:, list(effect.columns)].T
        law = of[effect.simplex].distribution.args[0]
        total = total + log_prior(of[effect.term], step)
        # From the simplex to what is sampled, logarithms centred at zero: the Jacobian is the product of the shares.
        total = total + law * np.log(share).sum(axis=-1)
    roots = []
    for i, block in enumerate(design.blocks):
        sd, cor, r = drawn.sd[i], drawn.cor[i], drawn.r[i]
        q = len(block.terms)
        R = np.zeros((*sd.shape, q)) + np.eye(q)
        if block.structure == "correlated":
            R = correlations(cor, q)
            # LKJ is uniform in R up to det(R)^(eta - 1). The way from R to what is sampled, logits of partial
            # correlations (1 + c) / 2, has the Jacobian below (Lewandowski et al. 2009, eq. 10), written for R's
            # Cholesky factor, whose squared remainders 1 - sum of squares are products of 1 - c^2.
            L = np.linalg.cholesky(R)
            total = total + (of[f"cor_{block.group}"].distribution.args[0] - 1) * np.linalg.slogdet(R)[1]
            for j in range(q):
                for k in range(j):
                    left = 1 - np.sum(L[..., j, :k] ** 2, axis=-1)
                    c = L[..., j, k] / np.sqrt(left)
                    total = total + 0.5 * (q - 2 - k) * np.log1p(-(c**2)) + np.log1p(-(c**2))
        for j, term in enumerate(block.terms):
            prior = of[f"sd_{block.group}__{term}"]
            a = softness[prior.name] if softness else prior.distribution.scale() * SOFTNESS
            total = total + log_prior(prior, sd[..., j]) + np.log(-np.expm1(-sd[..., j] / a))
        L = np.linalg.cholesky(R) * sd[..., :, np.newaxis]
        z = np.linalg.solve(L[:, :, np.newaxis], r[..., np.newaxis])[..., 0]
        total = total + stats.norm.logpdf(z).sum(axis=(2, 3))
        roots.append(L)
        eta = eta + np.sum(r[:, :, block.index] * block.Z, axis=-1)
    for information, places in groups or ():
        q = information.shape[-1]
        L = np.zeros((*drawn.b.shape[:2], q, q))
        start = 0
        for i in places:
            part = slice(start, start + roots[i].shape[-1])
            L[..., part, part], start = roots[i], part.stop
        precision = np.linalg.inv(L @ np.swapaxes(L, -1, -2))
        total = total - len(information) * np.log(np.diagonal(L, axis1=-2, axis2=-1)).sum(axis=-1)
        total = total - 0.5 * np.linalg.slogdet(precision[:, :, np.newaxis] + information)[1].sum(axis=-1)
    own = {name: values if values.ndim > 2 else values[..., np.newaxis] for name, values in drawn.family.items()}
    for one in family.own(design.successes):
        x = own[one.name]
        total = total + sum(log_prior(of[label], x[..., j]) for j, label in enumerate(one.labels))
        if one.support == "interval":  # sampled as the logit of its place in its range
            law = of[one.name].distribution
            low, high = law.args if law.name == "uniform" else (one.low, one.high)
            place = (x[..., 0] - low) / (high - low)
            total = total + np.log(place) + np.log1p(-place)
        elif one.support == "positive":
            a = softness[one.name] if softness else of[one.name].distribution.scale() * SOFTNESS
            total = total + np.log(-np.expm1(-x[..., 0] / a))
        else:  # sampled as the first and the logarithms of the gaps
            total = total + np.log(np.diff(x, axis=-1)).sum(axis=-1)
    if design.scale is not None:
        g = drawn.family["disc"]
        total = total + sum(log_prior(of[f"b_{name}"], g[..., j]) for j, name in enumerate(design.scale_names))
        own["disc"] = np.exp(g @ design.scale.T)
    return np.asarray(total + likelihood(design, family, eta, own).sum(axis=-1))


def likelihood(design: Design, family: Family, eta: Array, own: dict[str, Array]) -> Array:
    """Return SciPy's log-density of every row."""
    y, F = design.successes, special.expit if family.link == "logit" else stats.norm.cdf
    if family.name == "gaussian":
        return np.asarray(stats.norm.logpdf(y, eta, own["sigma"]))
    if family.response == "positive":
        return np.asarray(stats.lognorm.logpdf(y, own["sigma"], own.get("ndt", 0.0), np.exp(eta)))
    if family.ordinal:
        ends = np.concatenate(
            [np.full((*eta.shape[:2], 1), -np.inf), own["thresholds"], np.full((*eta.shape[:2], 1), np.inf)], -1
        )
        k, disc = y.astype(int), own.get("disc", 1.0)
        return np.asarray(np.log(F(disc * (ends[..., k] - eta)) - F(disc * (ends[..., k - 1] - eta))))
    lapse = own.get("lapse", family.lapse)
    p = family.guess + (1 - family.guess - lapse) * F(eta)
    return np.asarray(stats.binom.logpmf(y, design.trials, p))


def without_data(terms: Sequence[int], columns: int, priors: Sequence[str], groups: Sequence[str]) -> Any:
    """Return a model of five levels a group and ten rows of no trials, as `sample` takes it."""
    names = ("Intercept", "x", "w", "x:w")[:columns]
    X = np.random.default_rng(3).normal(size=(10, columns))
    blocks = tuple(
        Block(group, names[:q], True, tuple("abcde"), X[:, :q], np.arange(10) % 5)
        for group, q in zip(groups, terms, strict=True)
    )
    design = Design(names, X, np.zeros(10), blocks, np.zeros(10), np.zeros(10))
    return design, resolve_family(), resolve_priors(design, priors)


def distance(draws: Array, cdf: Callable[[Array], Array]) -> float:
    """Return Kolmogorov's statistic times the root of the effective sample size; above 2 in 7 of 10,000 samples."""
    table = xr.Dataset({"x": (("chain", "draw"), draws)})
    effective = min(float(az.ess(table, method=method)["x"]) for method in ("bulk", "tail"))
    assert effective > 400
    return float(stats.kstest(draws.ravel(), cdf).statistic * np.sqrt(min(effective, draws.size)))


def half(law: Any) -> Callable[[Array], Array]:
    """Cut a distribution at zero."""
    below = law.cdf(0.0)
    return lambda x: (law.cdf(x) - below) / (1 - below)


def lkj(q: int, eta: float) -> Callable[[Array], Array]:
    """Return the distribution function of one correlation under LKJ: Beta(a, a) on -1 to 1, a = eta - 1 + q / 2."""
    a = eta - 1 + q / 2
    return lambda x: stats.beta(a, a).cdf((x + 1) / 2)


def whitened(drawn: Sample, block: int) -> Array:
    """Return the effects of the levels in units of their own SDs and correlations, shape (chains, draws, levels, q)."""
    sd, cor = drawn.sd[block], drawn.cor[block]
    q = sd.shape[-1]
    L = np.linalg.cholesky(correlations(cor, q)) * sd[..., :, np.newaxis]
    return np.asarray(np.linalg.solve(L[:, :, np.newaxis], drawn.r[block][..., np.newaxis])[..., 0])
