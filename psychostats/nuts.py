"""The fast sampler: the same posterior as PyMC's, by compiled code in whitened coordinates.

In: a design, a family and priors, as for `psychostats.sampler`.  Out: `Sample`.  Knows no file and no table; the
mathematics is in MODEL.md, its code in kernel.c, posterior.c and nuts.c.

Chains run in threads.  Each depends on the seed and its own number alone, so draws are the same on any number of cores.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from psychostats.design import Design
from psychostats.errors import InputError, OverBudget, PsychostatsError
from psychostats.family import Family
from psychostats.interruption import heed
from psychostats.kernel import (
    TERMS_MOST,
    BlockRecord,
    GroupRecord,
    PosteriorRecord,
    SamplingRecord,
    Tables,
    address,
    native,
    tabulate,
)
from psychostats.mixed import Mixed, effects, is_too_large, prepare
from psychostats.mode import Parameter, parameters
from psychostats.priors import Prior, constants
from psychostats.progress import drawn_bar
from psychostats.sampling import Sample, Settings
from psychostats.spec import ModelSpec
from psychostats.threads import cores, one_thread
from psychostats.whitening import Whitening, whiten

Array: TypeAlias = npt.NDArray[np.float64]

DEPTH_MOST = 10
_STATISTICS = ("diverging", "maxdepth_reached", "n_steps", "depth", "energy", "lp", "step_size", "acceptance_rate")
_TIMED, _AT_A_TIME = 0.02, 10  # seconds for which gradients are timed at least, and how many at once
# Chains that run at once even on fewer cores, so that an interruption finds draws of each.
_AT_ONCE = 8
_LOOK = 0.1  # seconds between two looks at the chains
_FAILURES = {-1: "there is not enough memory", -2: "the log-density is not finite near the start"}


def available() -> bool:
    """Whether the compiled library is there: not where the package was installed without a C compiler."""
    return native() is not None


def why_not(spec: ModelSpec) -> str | None:
    """Return in a few words what of a model this engine does not cover; None where it covers all of it."""
    family = spec.family
    if family.compiled is None:
        return "an estimated lapse rate" if family.binary else f"the family {family.name}"
    if spec.formula.monotonic:
        return "a monotonic effect, mo()"
    return "effects on disc" if spec.formula.scale else None


def too_large(design: Design) -> str | None:
    """Return in a few words why a design is too large for this engine's start; None where it is not."""
    wide = max((len(block.terms) for block in design.blocks), default=0)
    if wide > TERMS_MOST:
        return f"{wide} effects a level of one group ({TERMS_MOST} at most)"
    if is_too_large(design):
        return "so many effects (" + ", ".join(f"{name} {count:,}" for name, count in effects(design).items()) + ")"
    return None


def sample(
    design: Design,
    family: Family,
    priors: Sequence[Prior],
    settings: Settings,
    *,
    progress: bool = False,
    clock: Callable[[str], None] = lambda stage: None,
    budget: float | None = None,
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
        Called with ``"start"`` and ``"sample"`` as each begins, for timings.
    budget
        Seconds that sampling may take, the start included.

    Returns
    -------
    Sample
        With fewer draws, and so marked, if it was interrupted when every chain had one after its warm-up.

    Raises
    ------
    InputError
        If a group has more terms than the engine takes.
    KeyboardInterrupt
        If it was interrupted before.
    OverBudget
        If it would take longer than allowed.
    PsychostatsError
        If the sampler cannot start.
    """
    clock("start")
    began = time.perf_counter()
    with one_thread():
        posterior = Posterior.of(design, family, priors)
    heed()
    if budget is not None:
        needed = posterior.seconds(settings) + time.perf_counter() - began
        if needed > budget:
            raise OverBudget(needed)
    clock("sample")
    draws, stats = _run(posterior, settings, progress)
    return replace(posterior.label(draws, stats), interrupted=draws.shape[1] < settings.draws)


@dataclass(frozen=True)
class Posterior:
    """A posterior as compiled code takes it.

    Parameters
    ----------
    design
        Whose blocks name the parameters.
    mixed, tables, theta, whitening
        What it is made of.
    record
        For compiled code.
    held
        What the record points to.
    """

    design: Design
    mixed: Mixed
    tables: Tables
    theta: tuple[Parameter, ...]
    whitening: Whitening
    record: PosteriorRecord
    held: list[Any]

    @classmethod
    def of(cls, design: Design, family: Family, priors: Sequence[Prior]) -> Posterior:
        """Find the start, and lay everything out.  To be called on one thread."""
        compiled = family.compiled
        assert compiled is not None
        measured = compiled.kind == "normal"
        response = family.normal_response(design.successes) if measured else design.successes
        # Of measurements only what is normally distributed is summed, with counts beside it.
        cells = (
            Design(design.names, design.X, design.offset, design.blocks, response, np.ones(len(response)))
            if measured
            else design
        )
        lacking = too_large(design)
        if lacking is not None:
            raise InputError(f"the engine nuts does not cover {lacking}; use --engine pymc.")
        mixed = prepare(cells)
        of = {prior.name: prior.distribution for prior in priors}
        b_priors = [of[f"b_{name}"] for name in design.names]
        theta = parameters(mixed, priors, sigma=measured)
        whitening = whiten(mixed, family, theta, b_priors, response)
        tables = tabulate(mixed, compiled, response)
        held: list[Any] = []
        groups = (GroupRecord * max(1, len(mixed.groups)))()
        for g, (group, table) in enumerate(zip(mixed.groups, tables.groups, strict=True)):
            groups[g] = GroupRecord(
                group.levels,
                group.terms,
                table.slots,
                address(table.extra, held),
                address(table.columns, held),
                address(whitening.information[g], held),
                address(whitening.pull[g], held),
            )
        blocks, at = (BlockRecord * max(1, len(design.blocks)))(), 0
        for n, (block, (g, part)) in enumerate(zip(design.blocks, mixed.parts, strict=True)):
            q, correlated = len(block.terms), block.structure == "correlated"
            blocks[n] = BlockRecord(g, part.start, q, correlated, at)
            at += q + (q * (q - 1) // 2 if correlated else 0)
        held += [groups, blocks]
        effects = sum(group.levels * group.terms for group in mixed.groups)
        rows = [p.law.constants() if p.law is not None else (0.0, 0.0, 1.0, p.shape) for p in theta]
        coupling = whitening.coupling
        record = PosteriorRecord(
            tables.record(held),
            len(theta) + effects + len(design.names),
            len(design.names) + len(theta) + effects,
            len(design.names),
            len(theta),
            len(mixed.groups),
            len(design.blocks),
            whitening.coupled,
            len(whitening.rest_map),
            ctypes.addressof(groups),
            ctypes.addressof(blocks),
            address(tables.fixed.columns, held),
            address(tables.fixed.extra, held),
            address(whitening.theta, held),
            address(whitening.theta_map, held),
            address(whitening.softness, held),
            address(np.array(rows, dtype=float).reshape(-1, 4), held),
            address(whitening.b, held),
            address(constants(b_priors), held),
            address(whitening.rest_map, held),
            address(coupling.start, held),
            address(coupling.column, held),
            address(coupling.values, held),
        )
        return cls(design, mixed, tables, theta, whitening, record, held)

    @property
    def dimension(self) -> int:
        """Number of coordinates."""
        return int(self.record.dimension)

    def log_density(self, y: Array, *, times: int = 1) -> tuple[float, Array]:
        """Evaluate the log-density of the coordinates and its gradient, so many times over."""
        compiled, gradient, value = native(), np.empty(self.dimension), np.zeros(1)
        assert compiled is not None
        held: list[Any] = []
        done = compiled.evaluate(
            ctypes.addressof(self.record), address(y, held), gradient.ctypes.data, value.ctypes.data, times
        )
        if not done:
            raise PsychostatsError(f"the sampler stopped: {_FAILURES[-1]}.")
        return float(value[0]), gradient

    def seconds(self, settings: Settings) -> float:
        """Return about how long sampling takes, from the time of one gradient and the steps that a transition needs.

        Measured: 7 steps in 50 dimensions, 15 in 1,200, 31 in 11,000; the step size falls with the fourth root.
        """
        y = np.zeros(self.dimension)
        spent: list[float] = []
        while len(spent) < 9 or sum(spent) < _TIMED:  # the median of many, since other work comes between
            began = time.perf_counter()
            self.log_density(y, times=_AT_A_TIME)
            spent.append(time.perf_counter() - began)
        steps = 2.0 ** max(3, round(np.log2(8.0 * (self.dimension / 50.0) ** 0.25))) - 1.0
        transitions = settings.chains * (settings.draws + settings.tune)
        gradient = float(np.median(spent)) / _AT_A_TIME
        return float(gradient * steps * transitions / min(settings.chains, cores()))

    def natural(self, y: Array) -> Array:
        """Return natural parameters at coordinates, in the order of `label`."""
        compiled, out = native(), np.empty(int(self.record.expanded))
        assert compiled is not None
        held: list[Any] = []
        if not compiled.naturalise(ctypes.addressof(self.record), address(y, held), out.ctypes.data):
            raise PsychostatsError(f"the sampler stopped: {_FAILURES[-1]}.")
        return out

    def label(self, draws: Array, stats: dict[str, npt.NDArray[Any]]) -> Sample:
        """Take draws of natural parameters apart; the parts are views.

        Parameters
        ----------
        draws
            Shape ``(chains, draws, parameters)``: b; for each block SDs, then correlations; sigma; r of each group.
        stats
            As `Sample` has them.
        """
        p, m = len(self.design.names), len(self.theta)
        sd, cor, r, at = [], [], [], p
        for block in self.design.blocks:
            q = len(block.terms)
            pairs = q * (q - 1) // 2 if block.structure == "correlated" else 0
            sd.append(draws[:, :, at : at + q])
            cor.append(draws[:, :, at + q : at + q + pairs])
            at += q + pairs
        effects, at = [], p + m
        for group in self.mixed.groups:
            size = group.levels * group.terms
            effects.append(draws[:, :, at : at + size].reshape(*draws.shape[:2], group.levels, group.terms))
            at += size
        r = [effects[g][:, :, :, part] for g, part in self.mixed.parts]
        measured = self.tables.compiled.kind == "normal"
        family = {"sigma": draws[:, :, p + m - 1]} if measured else {}
        return Sample(draws[:, :, :p], tuple(sd), tuple(cor), tuple(r), stats, family)


def _run(posterior: Posterior, settings: Settings, progress: bool) -> tuple[Array, dict[str, npt.NDArray[Any]]]:
    """Run the chains; interrupted, they end where they are."""
    compiled = native()
    assert compiled is not None
    chains, n = settings.chains, settings.draws
    draws = np.empty((chains, n, int(posterior.record.expanded)))
    stats = np.empty((chains, n, len(_STATISTICS)))
    done, stop, made = np.zeros(chains, dtype=np.int64), np.zeros(1, dtype=np.int64), [0] * chains
    waiting = iter(range(chains))
    lock = threading.Lock()
    raised: list[BaseException] = []

    def run(chain: int) -> int:
        how = SamplingRecord(n, settings.tune, DEPTH_MOST, settings.seed, chain, settings.target_accept)
        return int(
            compiled.run_chain(
                ctypes.addressof(posterior.record),
                ctypes.addressof(how),
                draws[chain].ctypes.data,
                stats[chain].ctypes.data,
                done[chain:].ctypes.data,
                stop.ctypes.data,
            )
        )

    def work() -> None:
        while True:
            with lock:
                chain = next(waiting, None)
            if chain is None or stop[0]:
                return
            try:
                made[chain] = run(chain)
            except BaseException as error:  # a thread's own is told nobody, and its chain would be taken for drawn
                raised.append(error)
            if raised or made[chain] < 0:  # without this chain the others are for nothing
                stop[0] = 1

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(chains, max(cores(), _AT_ONCE)))]
    with _shown(progress, chains * (n + settings.tune)) as show:
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(_LOOK if progress else None)
                show(int(done.sum()))
        except BaseException as error:
            stop[0] = 1
            for thread in threads:
                if thread.is_alive():  # not one that was still to be started
                    thread.join()
            n = min(made) if isinstance(error, KeyboardInterrupt) else 0
            if n < 1:
                raise
    if raised:
        raise raised[0]
    failed = [_FAILURES[code] for code in made if code < 0]
    if failed:
        raise PsychostatsError(f"the sampler stopped: {failed[0]}.")
    draws, stats = draws[:, :n], stats[:, :n]
    found = {name: stats[:, :, k] for k, name in enumerate(_STATISTICS) if name != "acceptance_rate"}
    for name, kind in {"diverging": bool, "maxdepth_reached": bool, "n_steps": np.int64, "depth": np.int64}.items():
        found[name] = found[name].astype(kind)
    return draws, found


@contextlib.contextmanager
def _shown(progress: bool, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many transitions are done."""
    if not progress:
        yield lambda done: None
        return
    with drawn_bar("sampling") as draw:
        yield lambda done: draw(done, total)
