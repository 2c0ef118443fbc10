"""The No-U-Turn sampler, through PyMC and nutpie: a design, a family and priors into posterior draws.

In: `Design`, `Family`, the priors in use, settings and a seed.  Out: `Sample`, arrays on the natural scale with the
sampler's own statistics.  The only room that knows PyMC; it knows no file and no table.

The compiled model depends on the model's structure alone (columns, blocks, whether a lapse rate is estimated); data,
levels, prior constants, guess and a fixed lapse rate are handed in.  So one compilation serves every experiment of a
study, and the plain logistic model beside the forced-choice one.  For that, levels are padded to a multiple of
`LEVELS_PAD`; a padding level has no trials, so it integrates out and the posterior of everything else is exactly the
same.
"""

from __future__ import annotations

import functools
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from psychostats.design import Design
from psychostats.errors import InputError, PsychostatsError
from psychostats.families import Family, LinkName, log_share
from psychostats.priors import Distribution, Prior, partial_correlation_shapes

Array: TypeAlias = npt.NDArray[np.float64]

LEVELS_PAD = 32

# An sd is sampled as s a softplus(t / a), s its prior's median: near zero t is as long-tailed as the posterior's bulk,
# where log sd has a tail many times as long. Measured on the embedded study's model: tail ESS of the worst sd 395 to
# 550 of 4,000 with log, 950 to 1,000 with this.
SOFTNESS = 0.25

# Positions of each distribution's constants in the row (kind, location, scale, shape) that the graph reads.
_KINDS = {"normal": 0.0, "student_t": 1.0, "exponential": 2.0, "gamma": 3.0}


@dataclass(frozen=True)
class Settings:
    """How long to sample.

    Parameters
    ----------
    draws, tune, chains
        Kept draws and warm-up draws of each chain, and chains.
    seed
        Two runs with one seed on one machine give the same draws.
    target_accept
        Acceptance rate the step size is tuned to.
    """

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    seed: int = 1
    target_accept: float = 0.8

    def __post_init__(self) -> None:
        for name, least, most in (("draws", 1, 10**6), ("tune", 1, 10**6), ("chains", 1, 1000), ("seed", 0, 2**63 - 1)):
            value = getattr(self, name)
            if not least <= value <= most:
                bound = f"at least {least}" if value < least else f"at most {most}"
                raise InputError(f"{name} is {value}; it must be {bound}.")
        if not 0.0 < self.target_accept < 1.0:
            raise InputError(f"target_accept is {self.target_accept}; it must be between 0 and 1.")


@dataclass(frozen=True)
class Sample:
    """Posterior draws on the natural scale.

    Parameters
    ----------
    b
        Fixed effects, shape ``(chains, draws, columns)``.
    sd, cor, r
        For each block of the design: SDs ``(chains, draws, terms)``, correlations below the diagonal row by row
        ``(chains, draws, pairs)``, and effects of the levels ``(chains, draws, levels, terms)``.
    stats
        Sampler statistics of shape ``(chains, draws)``: ``diverging``, ``maxdepth_reached``, ``n_steps``, ``depth``,
        ``energy``, ``lp``, ``step_size``.
    family
        For each parameter of the family that is estimated, ``(chains, draws)``.
    """

    b: Array
    sd: tuple[Array, ...]
    cor: tuple[Array, ...]
    r: tuple[Array, ...]
    stats: dict[str, npt.NDArray[Any]]
    family: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class _Structure:
    """What the compiled model depends on, and nothing else."""

    link: LinkName
    columns: int
    lapse: bool
    blocks: tuple[tuple[int, bool, int], ...]  # terms, correlated, levels with padding


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
        If interrupted; nothing is kept, so a fit is whole or absent.
    PsychostatsError
        If the sampler cannot start.
    """
    structure = _Structure(
        link=family.link,
        columns=len(design.names),
        lapse="lapse" in family.estimated,
        blocks=tuple(
            (len(k.terms), k.structure == "correlated", LEVELS_PAD * math.ceil(len(k.levels) / LEVELS_PAD))
            for k in design.blocks
        ),
    )
    clock("compile")
    compiled = _compile(structure).with_data(**_data(design, family, priors))
    clock("sample")
    trace = _run(compiled, settings, progress)
    posterior, stats = trace.posterior, trace.sample_stats

    def values(name: str) -> Array:
        return np.asarray(posterior[name].values, dtype=np.float64)

    return Sample(
        b=values("b"),
        sd=tuple(values(f"sd_{i}") for i in range(len(design.blocks))),
        cor=tuple(
            values(f"cor_{i}") if block.structure == "correlated" else np.empty((settings.chains, settings.draws, 0))
            for i, block in enumerate(design.blocks)
        ),
        r=tuple(values(f"r_{i}")[:, :, : len(block.levels), :] for i, block in enumerate(design.blocks)),
        family={name: values(name) for name in family.estimated},
        stats={
            ours: np.asarray(stats[theirs].values)
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
    )


def _run(compiled: Any, settings: Settings, progress: bool) -> Any:
    import nutpie

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers' own deprecations are no news to our user
        running = nutpie.sample(
            compiled,
            draws=settings.draws,
            tune=settings.tune,
            chains=settings.chains,
            cores=min(settings.chains, cores),
            seed=settings.seed,
            target_accept=settings.target_accept,
            save_warmup=False,
            progress_bar=progress,
            blocking=False,
        )
        try:
            return running.wait()
        except RuntimeError as error:
            raise PsychostatsError(f"the sampler stopped: {error}") from error
        except BaseException:
            running.cancel()
            raise


def _data(design: Design, family: Family, priors: Sequence[Prior]) -> dict[str, Array | npt.NDArray[np.int64]]:
    """Return everything the compiled model is handed."""
    of = {prior.name: prior.distribution for prior in priors}
    # One row an outcome: the right answers of a design row, and its wrong ones. A 0/1 row has one of the two, so that
    # its likelihood takes one inverse link and one logarithm instead of two.
    counts = np.concatenate([design.successes, design.trials - design.successes])
    sign = np.repeat([1.0, -1.0], len(design.X))
    row = np.tile(np.arange(len(design.X)), 2)
    row, sign, weight = row[counts > 0], sign[counts > 0], counts[counts > 0]
    order = np.argsort(row, kind="stable")
    row, sign, weight = row[order], sign[order], weight[order]
    data: dict[str, Any] = {
        "X": design.X[row],
        "offset": design.offset[row],
        "sign": sign,
        "weight": weight,
        "floor": np.where(sign > 0, family.guess, family.lapse),
        "span": np.float64(family.span),
        "prior_b": np.array([_constants(of[f"b_{name}"]) for name in design.names]),
    }
    if "lapse" in family.estimated:
        law = of["lapse"]
        low, high = law.args if law.name == "uniform" else (0.0, 1.0 - family.guess)
        data["prior_lapse"] = np.array([low, high - low, *(law.args if law.name == "beta" else (1.0, 1.0))])
    for i, block in enumerate(design.blocks):
        laws = [of[f"sd_{block.group}__{term}"] for term in block.terms]
        data[f"Z_{i}"] = block.Z[row]
        data[f"index_{i}"] = block.index[row]
        data[f"prior_sd_{i}"] = np.array([[*_constants(law), law.scale()] for law in laws])
        if block.structure == "correlated":
            eta = of[f"cor_{block.group}"].args[0]
            data[f"shape_{i}"] = partial_correlation_shapes(len(block.terms), eta)
    return data


def _constants(law: Distribution) -> tuple[float, float, float, float]:
    """Return (kind, location, scale, shape) of a prior."""
    a = law.args
    if law.name == "normal":
        return _KINDS["normal"], a[0], a[1], 1.0
    if law.name == "student_t":
        return _KINDS["student_t"], a[1], a[2], a[0]
    if law.name == "cauchy":
        return _KINDS["student_t"], a[0], a[1], 1.0
    if law.name == "exponential":
        return _KINDS["exponential"], 0.0, 1.0 / a[0], 1.0
    return _KINDS["gamma"], 0.0, 1.0 / a[1], a[0]


def _pymc() -> tuple[ModuleType, ModuleType, ModuleType]:
    """Import PyMC, PyTensor's tensors and nutpie, without their advice on compilers that are not used here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import logging

        log = logging.getLogger("pytensor")
        level = log.level
        log.setLevel(logging.ERROR)
        try:
            import nutpie
            import pymc
            import pytensor.tensor
        finally:
            log.setLevel(level)
    return pymc, pytensor.tensor, nutpie


def _log_prior(pt: Any, x: Any, constants: Any) -> Any:
    """Return the log-density of each element of `x` under its row of constants, up to an additive constant."""
    kind, location, scale, shape = (constants[:, j] for j in range(4))
    z = (x - location) / scale
    return pt.switch(
        pt.eq(kind, _KINDS["normal"]),
        -0.5 * z**2,
        pt.switch(
            pt.eq(kind, _KINDS["student_t"]),
            -0.5 * (shape + 1.0) * pt.log1p(z**2 / shape),
            # An exponential is the gamma of shape 1; the guard keeps the branch not taken free of NaN.
            (shape - 1.0) * pt.log(pt.maximum(z, 1e-300)) - z,
        ),
    )


@functools.lru_cache(maxsize=8)
def _compile(structure: _Structure) -> Any:
    """Build and compile the model of one structure, with placeholder data of the right rank."""
    pm, pt, nutpie = _pymc()

    class Symbols:
        expit = staticmethod(pt.sigmoid)
        log = staticmethod(pt.log)
        maximum = staticmethod(pt.maximum)

        @staticmethod
        def ndtr(x: Any) -> Any:
            return 0.5 * pt.erfc(-x / math.sqrt(2.0))

    p = structure.columns
    start: dict[str, npt.NDArray[Any]] = {}
    with pm.Model() as model:
        X = pm.Data("X", np.ones((2, p)))
        offset = pm.Data("offset", np.zeros(2))
        sign, weight = pm.Data("sign", np.ones(2)), pm.Data("weight", np.ones(2))
        floor, span = pm.Data("floor", np.zeros(2)), pm.Data("span", np.float64(1.0))
        prior_b = pm.Data("prior_b", np.ones((p, 4)))
        # Fixed effects are sampled in units of their priors, so that columns of any scale start alike.
        unit_b = pm.Flat("unit_b", shape=p)
        b = pm.Deterministic("b", prior_b[:, 1] + prior_b[:, 2] * unit_b)
        pm.Potential("log_prior_b", _log_prior(pt, b, prior_b).sum())
        eta = offset + pt.dot(X, b)
        kept = ["b"]
        for i, (q, correlated, levels) in enumerate(structure.blocks):
            Z = pm.Data(f"Z_{i}", np.ones((2, q)))
            index = pm.Data(f"index_{i}", np.zeros(2, dtype=np.int64))
            prior_sd = pm.Data(f"prior_sd_{i}", np.ones((q, 5)))
            t = pm.Flat(f"unit_sd_{i}", shape=q)
            start[f"unit_sd_{i}"] = np.ones(q)
            unit = SOFTNESS * pt.softplus(t / SOFTNESS)
            sd = pm.Deterministic(f"sd_{i}", prior_sd[:, 4] * unit)
            pm.Potential(f"log_prior_sd_{i}", (_log_prior(pt, sd, prior_sd) - pt.softplus(-t / SOFTNESS)).sum())
            z = pm.Normal(f"z_{i}", shape=(q, levels))
            effects = [z[j] for j in range(q)]
            if correlated:
                shape = pm.Data(f"shape_{i}", np.ones(q * (q - 1) // 2))
                partial = 2.0 * pm.Beta(f"partial_{i}", shape, shape, shape=q * (q - 1) // 2) - 1.0
                rows = _cholesky_rows(pt, partial, q)
                effects = [sum(rows[j][m] * z[m] for m in range(j + 1)) for j in range(q)]
                pm.Deterministic(
                    f"cor_{i}",
                    pt.stack([sum(rows[j][m] * rows[k][m] for m in range(k + 1)) for j in range(q) for k in range(j)]),
                )
                kept.append(f"cor_{i}")
            effects = [sd[j] * effects[j] for j in range(q)]
            pm.Deterministic(f"r_{i}", pt.stack(effects, axis=1))
            kept += [f"sd_{i}", f"r_{i}"]
            for j in range(q):
                eta = eta + effects[j][index] * Z[:, j]
        if structure.lapse:
            prior_lapse = pm.Data("prior_lapse", np.ones(4))  # low end, width, and the powers of a beta density
            lapse = prior_lapse[0] + prior_lapse[1] * pm.Uniform("unit_lapse", 0.0, 1.0)
            pm.Potential(
                "log_prior_lapse",
                (prior_lapse[2] - 1.0) * pt.log(lapse) + (prior_lapse[3] - 1.0) * pt.log1p(-lapse),
            )
            floor, span = floor + pt.lt(sign, 0.0) * lapse, span - lapse
            pm.Deterministic("lapse", lapse)
            kept.append("lapse")
        answers = log_share(Family("afc", structure.link), sign * eta, floor, span, Symbols())
        pm.Potential("log_likelihood", (weight * answers).sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nutpie.compile_pymc_model(model, backend="numba", initial_points=start, var_names=kept)


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
