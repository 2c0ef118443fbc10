"""What every engine that samples takes and gives: how long to sample, and the draws.

In: nothing.  Out: `Settings` and `Sample`, frozen.  Knows no engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from psychostats.errors import InputError

Array: TypeAlias = npt.NDArray[np.float64]


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
        Fixed effects that are no steps, shape ``(chains, draws, coefficients)``.
    sd, cor, r
        For each block of the design: SDs ``(chains, draws, terms)``, correlations below the diagonal row by row
        ``(chains, draws, pairs)``, and effects of the levels ``(chains, draws, levels, terms)``.
    stats
        Sampler statistics of shape ``(chains, draws)``: ``diverging``, ``maxdepth_reached``, ``n_steps``, ``depth``,
        ``energy``, ``lp``, ``step_size``.
    family
        For each parameter of the family that is estimated, ``(chains, draws)``, or ``(chains, draws, elements)``.
    bsp
        Mean steps of monotonic effects, shape ``(chains, draws, effects)``.
    simo
        For each monotonic effect its simplex, shape ``(chains, draws, steps)``.
    interrupted
        Whether somebody stopped it, so that there are fewer draws than were asked for: as many of every chain as the
        shortest has.
    """

    b: Array
    sd: tuple[Array, ...]
    cor: tuple[Array, ...]
    r: tuple[Array, ...]
    stats: dict[str, npt.NDArray[Any]]
    family: dict[str, Array] = field(default_factory=dict)
    bsp: Array = field(default_factory=lambda: np.empty((0, 0, 0)))
    simo: tuple[Array, ...] = ()
    interrupted: bool = False
