"""Lapses of attention in simulated people: how often each of them lapses, and what that does to catch trials.

In: a family with its mean lapse rate, and how much people differ.  Out: each person's rate, the family with it, and the
probability that a catch trial is answered rightly.  Knows no trials' order and no fit.

A lapse rate l is how far the best performance stays below 1.  Whoever lapses guesses, so with a guess rate g it takes
lapses on a share lambda = l / (1 - g) of all trials: (1 - lambda) (g + (1 - g) F) + lambda g = g + (1 - g - l) F.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from psychostats.errors import InputError
from psychostats.family import Family

Array: TypeAlias = npt.NDArray[np.float64]


def lapsing_law(rate: float, sd: float, guess: float) -> tuple[float, float]:
    """Return both parameters of the beta law of the share of trials on which a person lapses.

    Parameters
    ----------
    rate, sd
        Mean and SD over people of the lapse rate.
    guess
        The guess rate.

    Raises
    ------
    InputError
        If no law between 0 and 1 has this mean and SD.
    """
    mean, spread = rate / (1.0 - guess), sd / (1.0 - guess)
    if not 0 < spread**2 < mean * (1.0 - mean):
        largest = (1.0 - guess) * float(np.sqrt(max(mean * (1.0 - mean), 0.0)))
        raise InputError(
            f"lapse rates with mean {rate:g} cannot have the SD {sd:g} between people; allowed are numbers above 0 and "
            f"below {largest:.3g}."
        )
    size = mean * (1.0 - mean) / spread**2 - 1.0
    return mean * size, (1.0 - mean) * size


def draw_rates(rng: np.random.Generator, family: Family, sd: float, people: Iterable[Any]) -> dict[Any, float]:
    """Draw every person's own lapse rate; none where all have the family's.

    Their numbers come from a stream beside `rng`, so that what else is drawn does not depend on whether people differ.
    """
    names = list(dict.fromkeys(people))
    if sd == 0:
        return {}
    a, b = lapsing_law(float(family.lapse or 0.0), sd, float(family.guess))
    shares = rng.spawn(1)[0].beta(a, b, size=len(names))
    return dict(zip(names, ((1.0 - family.guess) * shares).tolist(), strict=True))


def with_rates(family: Family, rates: Mapping[Any, float], people: Iterable[Any]) -> Family:
    """Return the family with each row's own lapse rate, as `draw_rates` gives them; `people` are those of the rows."""
    return replace(family, lapse=np.array([rates[name] for name in people])) if rates else family


def catch_probability(family: Family, accuracy: float | Array) -> Any:
    """Return the probability that a catch trial is answered rightly, of people who are right on `accuracy` of those on
    which they do not lapse; shape of the family's lapse rate."""
    if not np.any(family.lapse):
        return accuracy
    share = family.lapse / (1.0 - family.guess)
    return (1.0 - share) * accuracy + share * family.guess
