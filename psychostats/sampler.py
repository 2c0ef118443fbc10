"""The No-U-Turn sampler, through PyMC and nutpie: a design, a family and priors into posterior draws.

In: `Design`, `Family`, the priors in use, settings and a seed.  Out: `Sample`, arrays on the natural scale with the
sampler's own statistics.  The only room that knows PyMC; it knows no file and no table.

The compiled model depends on the model's structure alone (columns, blocks, the family and which of its parameters are
estimated); data, levels, prior constants, guess and a fixed lapse rate are handed in.  So one compilation serves every
experiment of a study, and the plain logistic model beside the forced-choice one.  For that, levels are padded to a
multiple of `LEVELS_PAD`; a padding level has no trials, so it integrates out and the posterior of everything else is
exactly the same.
"""

from __future__ import annotations

import functools
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from psychostats.design import Block, Design
from psychostats.errors import PsychostatsError
from psychostats.family import Family, Own, Support
from psychostats.interruption import heed
from psychostats.libraries import pymc
from psychostats.monotonic import plain_columns
from psychostats.priors import KINDS, Prior, constants, partial_correlation_shapes, positive_constants
from psychostats.sampling import Sample, Settings

Array: TypeAlias = npt.NDArray[np.float64]

LEVELS_PAD = 32

# An sd is sampled as s a softplus(t / a), s its prior's median: near zero t is as long-tailed as the posterior's bulk,
# where log sd has a tail many times as long. Measured on the embedded study's model: tail ESS of the worst sd 395 to
# 550 of 4,000 with log, 950 to 1,000 with this.
SOFTNESS = 0.25

# Chains that run at once even on fewer cores: it costs a few percent, and an interruption finds draws of each.
AT_ONCE = 8


@dataclass(frozen=True)
class _Structure:
    """What the compiled model depends on, and nothing else."""

    family: Family  # without its numbers
    own: tuple[tuple[str, Support, int], ...]  # parameters of the family: name, where it lies, elements
    columns: int  # that are no steps
    steps: tuple[int, ...]  # of each monotonic effect
    blocks: tuple[tuple[int, bool, int], ...]  # terms, correlated, levels with padding
    scales: int  # columns that log disc depends on


def sample(
    design: Design,
    family: Family,
    priors: Sequence[Prior],
    settings: Settings,
    *,
    progress: bool = False,
    clock: Callable[[str], None] = lambda stage: None,
) -> Sample:
    """Draw from the posterior.

    Parameters
    ----------
    design, family, priors
        The model; `priors` as `psychostats.priors.resolve_priors` gives them.
    settings
        Lengths and seed.
    progress
        Show a progress bar.
    clock
        Called with ``"compile"`` and ``"sample"`` as each begins, for timings.

    Returns
    -------
    Sample

    Raises
    ------
    KeyboardInterrupt
        If interrupted before every chain has a draw after its warm-up; later the draws made so far are returned.
    PsychostatsError
        If the sampler cannot start.
    """
    own = family.own(design.successes)
    effects = design.monotonic
    structure = _Structure(
        family=_without_numbers(family),
        own=tuple((one.name, one.support, len(one.labels)) for one in own),
        columns=len(design.coefficients),
        steps=tuple(len(effect.columns) for effect in effects),
        blocks=tuple((len(k.terms), k.structure == "correlated", _padded(len(k.levels))) for k in design.blocks),
        scales=len(design.scale_names),
    )
    clock("compile")
    compiled = _compile(structure).with_data(**_data(design, family, own, priors))
    clock("sample")
    trace, interrupted = _run(compiled, settings, progress)
    posterior, stats = trace.posterior, trace.sample_stats
    # Chains that were stopped are filled up with NaN to the longest.
    kept = int(np.isfinite(stats["logp"].values).sum(axis=1).min()) if interrupted else settings.draws
    if kept == 0:
        raise KeyboardInterrupt

    def values(name: str) -> Array:
        return np.asarray(posterior[name].values, dtype=np.float64)[:, :kept]

    return Sample(
        b=values("b")[:, :, : structure.columns],
        bsp=values("b")[:, :, structure.columns :],
        simo=tuple(
            values(f"simo_{m}") if steps > 1 else np.ones((settings.chains, kept, 1))
            for m, steps in enumerate(structure.steps)
        ),
        sd=tuple(values(f"sd_{i}") for i in range(len(design.blocks))),
        cor=tuple(
            values(f"cor_{i}") if block.structure == "correlated" else np.empty((settings.chains, kept, 0))
            for i, block in enumerate(design.blocks)
        ),
        r=tuple(values(f"r_{i}")[:, :, : len(block.levels), :] for i, block in enumerate(design.blocks)),
        family={name: values(name) for name in family.estimated},
        stats={
            ours: np.asarray(stats[theirs].values)[:, :kept]
            for ours, theirs in {
                "diverging": "diverging",
                "maxdepth_reached": "maxdepth_reached",
                "n_steps": "n_steps",
                "depth": "depth",
                "energy": "energy",
                "lp": "logp",
                "step_size": "step_size",
            }.items()
        },
        interrupted=interrupted,
    )


def _run(compiled: Any, settings: Settings, progress: bool) -> tuple[Any, bool]:
    """Return the trace, and whether it was interrupted."""
    *_, nutpie = pymc()

    heed()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers' own deprecations are no news to our user
        running = nutpie.sample(
            compiled,
            draws=settings.draws,
            tune=settings.tune,
            chains=settings.chains,
            cores=min(settings.chains, max(cores, AT_ONCE)),
            seed=settings.seed,
            target_accept=settings.target_accept,
            save_warmup=False,
            progress_bar=progress,
            blocking=False,
        )
        try:
            return running.wait(), False
        except RuntimeError as error:
            raise PsychostatsError(f"the sampler stopped: {error}") from error
        except KeyboardInterrupt:
            return running.abort(), True
        except BaseException:
            running.cancel()
            raise


def _data(
    design: Design, family: Family, own: Sequence[Own], priors: Sequence[Prior]
) -> dict[str, Array | npt.NDArray[np.int64]]:
    """Return everything the compiled model is handed."""
    of = {prior.name: prior for prior in priors}
    row, value, weight = family.outcomes(design.successes, design.trials)
    effects = design.monotonic
    order = [*plain_columns(effects, len(design.names)), *(place for effect in effects for place in effect.columns)]
    coefficients = [*(f"b_{name}" for name in design.coefficients), *(effect.term for effect in effects)]
    data: dict[str, Any] = {
        "X": design.X[row][:, order],
        "offset": design.offset[row],
        "value": value,
        "weight": weight,
        "prior_b": constants([of[name].distribution for name in coefficients]),
        **{name: np.float64(number) for name, number in family.constants.items()},
    }
    if design.scale is not None:
        data["scale"] = design.scale[row]
        data["prior_disc"] = constants([of[f"b_{name}"].distribution for name in design.scale_names])
    for m, effect in enumerate(effects):
        if len(effect.columns) == 1:
            continue
        data[f"concentration_{m}"] = np.full(len(effect.columns), of[effect.simplex].distribution.args[0])
    for one in own:
        laws = [of[label] for label in one.labels]
        rows = positive_constants if one.support == "positive" else constants
        data[f"prior_{one.name}"] = rows([law.distribution for law in laws])
        if one.support == "interval":
            law = laws[0].distribution
            low, high = law.args if law.name == "uniform" else (laws[0].low, laws[0].high)
            data[f"range_{one.name}"] = np.array([low, high - low])
        elif one.support == "ordered":
            data[f"start_{one.name}"] = np.array(one.start)
    for i, block in enumerate(design.blocks):
        laws = [of[f"sd_{block.group}__{term}"] for term in block.terms]
        data[f"Z_{i}"] = block.Z[row]
        data[f"index_{i}"] = block.index[row]
        data[f"prior_sd_{i}"] = positive_constants([law.distribution for law in laws])
        data[f"share_{i}"] = _shares(design, block, family.ordinal)
        if block.structure == "correlated":
            eta = of[f"cor_{block.group}"].distribution.args[0]
            data[f"shape_{i}"] = partial_correlation_shapes(len(block.terms), eta)
    return data


def _shares(design: Design, block: Block, thresholds: bool) -> Array:
    """Return what each effect of a block's levels adds to the least-squares coefficients of eta on the fixed part.

    Shape ``(1 + coefficients, terms, levels with padding)``; the first is the thresholds', zero without.
    """
    plain = design.X[:, plain_columns(design.monotonic, len(design.names))]
    intercept = np.ones((len(plain), int(thresholds)))
    weight = np.sqrt(design.trials)[:, np.newaxis]
    inverse = np.linalg.pinv(weight * np.concatenate([intercept, plain], axis=1)) * weight.T
    out = np.zeros((1 + plain.shape[1], len(block.terms), _padded(len(block.levels))))
    for j in range(len(block.terms)):
        np.add.at(out[len(out) - len(inverse) :, j].T, block.index, (inverse * block.Z[:, j]).T)
    return out


def _padded(levels: int) -> int:
    """Return how many levels the compiled model has for so many."""
    return LEVELS_PAD * math.ceil(levels / LEVELS_PAD)


def _without_numbers(family: Family) -> Family:
    """Return what of a family a compiled model depends on."""
    zeros: dict[str, Any] = dict.fromkeys(family.constants, 0.0)
    return replace(family, name="", **zeros)


def _log_prior(pt: Any, x: Any, rows: Any) -> Any:
    """Return the log-density of each element of `x` under its row of constants, up to an additive constant."""
    kind, location, scale, shape = (rows[:, j] for j in range(4))
    z = (x - location) / scale
    # The guards keep branches that are not taken free of NaN.
    inside = pt.clip(x, 1e-300, 1.0 - 1e-16)
    return pt.switch(
        pt.eq(kind, KINDS["normal"]),
        -0.5 * z**2,
        pt.switch(
            pt.eq(kind, KINDS["student_t"]),
            -0.5 * (shape + 1.0) * pt.log1p(z**2 / shape),
            pt.switch(
                pt.eq(kind, KINDS["gamma"]),
                (shape - 1.0) * pt.log(pt.maximum(z, 1e-300)) - z,
                (scale - 1.0) * pt.log(inside) + (shape - 1.0) * pt.log1p(-inside),
            ),
        ),
    )


@functools.lru_cache(maxsize=8)
def _compile(structure: _Structure) -> Any:
    """Build and compile the model of one structure."""
    *_, nutpie = pymc()
    model, start, kept = build(structure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nutpie.compile_pymc_model(model, backend="numba", initial_points=start, var_names=kept)


def build(structure: _Structure) -> tuple[Any, dict[str, npt.NDArray[Any]], list[str]]:
    """Return PyMC's model of one structure with placeholder data of the right rank, its start, and what is kept."""
    pm, pt, _ = pymc()

    class Symbols:
        expit = staticmethod(pt.sigmoid)
        exp = staticmethod(pt.exp)
        log = staticmethod(pt.log)
        log1p = staticmethod(pt.log1p)
        softplus = staticmethod(pt.softplus)
        maximum = staticmethod(pt.maximum)
        minimum = staticmethod(pt.minimum)
        where = staticmethod(pt.switch)

        @staticmethod
        def ndtr(x: Any) -> Any:
            return 0.5 * pt.erfc(-x / math.sqrt(2.0))

        @staticmethod
        def between(values: Any, index: Any, beyond: float) -> Any:
            padded = pt.concatenate([np.array([-beyond]), values, np.array([beyond])])
            return padded[pt.cast(index, "int64")]

    p, effects = structure.columns, len(structure.steps)
    start: dict[str, npt.NDArray[Any]] = {}

    def positive(name: str, size: int) -> Any:
        """Sample so many positive parameters; see `SOFTNESS`."""
        numbers = pm.Data(f"prior_{name}", np.ones((size, 5)))
        t = pm.Flat(f"unit_{name}", shape=size)
        start[f"unit_{name}"] = np.ones(size)
        x = numbers[:, 4] * SOFTNESS * pt.softplus(t / SOFTNESS)
        pm.Potential(f"log_prior_{name}", (_log_prior(pt, x, numbers) - pt.softplus(-t / SOFTNESS)).sum())
        return x

    def ordered(name: str, size: int) -> Any:
        """Sample so many parameters in rising order: the first, and the logarithms of the gaps."""
        numbers, base = pm.Data(f"prior_{name}", np.ones((size, 4))), pm.Data(f"start_{name}", np.arange(size) + 0.0)
        t = pm.Flat(f"unit_{name}", shape=size)
        start[f"unit_{name}"] = np.zeros(size)
        x = base[0] + t[0] + pt.concatenate([np.zeros(1), pt.cumsum(pt.diff(base) * pt.exp(t[1:]))]) + moved[0]
        pm.Potential(f"log_prior_{name}", _log_prior(pt, x, numbers).sum() + t[1:].sum())
        return x

    def between(name: str, size: int) -> Any:
        """Sample a parameter that lies between two ends."""
        numbers, ends = pm.Data(f"prior_{name}", np.ones((size, 4))), pm.Data(f"range_{name}", np.ones(2))
        x = ends[0] + ends[1] * pm.Uniform(f"unit_{name}", 0.0, 1.0, shape=size)
        pm.Potential(f"log_prior_{name}", _log_prior(pt, x, numbers).sum())
        return x

    with pm.Model() as model:
        X = pm.Data("X", np.ones((2, p + sum(structure.steps))))
        offset = pm.Data("offset", np.zeros(2))
        value, weight = pm.Data("value", np.ones(2)), pm.Data("weight", np.ones(2))
        # What the effects of levels add to the coefficients and, first, to the thresholds.
        moved: Any = np.zeros(1 + p)
        random: Any = 0.0
        kept = ["b"]
        for i, (q, correlated, levels) in enumerate(structure.blocks):
            Z = pm.Data(f"Z_{i}", np.ones((2, q)))
            index = pm.Data(f"index_{i}", np.zeros(2, dtype=np.int64))
            sd = pm.Deterministic(f"sd_{i}", positive(f"sd_{i}", q))
            z = pm.Normal(f"z_{i}", shape=(q, levels))
            r = [z[j] for j in range(q)]
            if correlated:
                shape = pm.Data(f"shape_{i}", np.ones(q * (q - 1) // 2))
                partial = 2.0 * pm.Beta(f"partial_{i}", shape, shape, shape=q * (q - 1) // 2) - 1.0
                rows = _cholesky_rows(pt, partial, q)
                r = [sum(rows[j][m] * z[m] for m in range(j + 1)) for j in range(q)]
                pm.Deterministic(
                    f"cor_{i}",
                    pt.stack([sum(rows[j][m] * rows[k][m] for m in range(k + 1)) for j in range(q) for k in range(j)]),
                )
                kept.append(f"cor_{i}")
            r = [sd[j] * r[j] for j in range(q)]
            pm.Deterministic(f"r_{i}", pt.stack(r, axis=1))
            kept += [f"sd_{i}", f"r_{i}"]
            share = pm.Data(f"share_{i}", np.zeros((1 + p, q, levels)))
            for j in range(q):
                random = random + r[j][index] * Z[:, j]
                moved = moved + pt.dot(share[:, j], r[j])
        prior_b = pm.Data("prior_b", np.ones((p + effects, 4)))
        # Fixed effects are sampled in units of their priors, so that columns of any scale start alike; and as what the
        # trials know, the coefficients of eta as a whole, from which those of the levels are then taken: a shear, whose
        # Jacobian is 1. Without it an intercept and the mean of its levels' effects could move against each other only.
        unit_b = pm.Flat("unit_b", shape=p + effects)
        whole = prior_b[:, 1] + prior_b[:, 2] * unit_b
        b = pm.Deterministic("b", pt.concatenate([whole[:p] - moved[1:], whole[p:]]) if structure.blocks else whole)
        pm.Potential("log_prior_b", _log_prior(pt, b, prior_b).sum())
        parts = [b[:p]]
        for m, steps in enumerate(structure.steps):
            if steps == 1:  # it has the whole way
                parts.append(b[p + m : p + m + 1])
                continue
            simplex = pm.Dirichlet(f"simo_{m}", pm.Data(f"concentration_{m}", np.ones(steps)), shape=steps)
            parts.append(b[p + m] * steps * simplex)
            kept.append(f"simo_{m}")
        eta = offset + pt.dot(X, pt.concatenate(parts) if effects else b) + random
        filled: dict[str, Any] = {name: pm.Data(name, np.float64(0.0)) for name in structure.family.constants}
        for name, support, size in structure.own:
            x = {"ordered": ordered, "positive": positive, "interval": between}[support](name, size)
            filled[name] = pm.Deterministic(name, x if support == "ordered" else x[0])
            kept.append(name)
        if structure.scales:  # of each row; its effects are sampled in units of their priors, as b is
            S = pm.Data("scale", np.ones((2, structure.scales)))
            prior_g = pm.Data("prior_disc", np.ones((structure.scales, 4)))
            g = pm.Deterministic("disc", prior_g[:, 1] + prior_g[:, 2] * pm.Flat("unit_disc", shape=structure.scales))
            pm.Potential("log_prior_disc", _log_prior(pt, g, prior_g).sum())
            filled["disc"] = pt.exp(pt.dot(S, g))
            kept.append("disc")
        density = replace(structure.family, **filled).outcome_density(value, eta, Symbols())
        pm.Potential("log_likelihood", (weight * density).sum())
    return model, start, kept


def _cholesky_rows(pt: Any, partial: Any, q: int) -> list[list[Any]]:
    """Return the rows of a correlation matrix's Cholesky factor; psychostats.priors.correlation_cholesky in symbols."""
    rows: list[list[Any]] = [[1.0]]
    at = 0
    for _ in range(1, q):
        row: list[Any] = []
        left: Any = 1.0
        for _ in range(len(rows)):
            row.append(partial[at] * pt.sqrt(left))
            left = left * (1.0 - partial[at] ** 2)
            at += 1
        rows.append([*row, pt.sqrt(left)])
    return rows
