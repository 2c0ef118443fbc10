"""What catch trials do and tell, in closed form: whom a rule dismisses, and how often people lapse.

In: how many catch trials there are, how they are answered, and the least share right that a rule asks for.  Out:
probabilities, the attenuation of a contrast, and a lapse rate with its standard error.  Knows no fit.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from psychostats.attention import lapsing_law
from psychostats.errors import InputError

Array: TypeAlias = npt.NDArray[np.float64]


def dismissed(catch: int, least: float, right: float | Array) -> Array:
    """Return the probability that a rule dismisses somebody.

    Parameters
    ----------
    catch
        Catch trials a person.
    least
        Least share of them that must be right; one who has just that stays.
    right
        Probability that one is answered rightly.
    """
    at = np.asarray(right, dtype=float)
    below = [count for count in range(catch + 1) if count / catch < least] if catch else []
    return np.asarray(sum((stats.binom.pmf(count, catch, at) for count in below), np.zeros(at.shape)))


def dismissed_careful(
    catch: int, least: float, *, accuracy: float, lapse: float = 0.0, lapse_sd: float = 0.0, guess: float = 0.5
) -> float:
    """Return the share of careful people that a rule dismisses by chance.

    Parameters
    ----------
    catch, least
        As of `dismissed`.
    accuracy
        Probability that one who does not lapse is right.
    lapse, lapse_sd, guess
        Mean and SD over people of the lapse rate, and the guess rate, as `psychostats.attention` means them.
    """
    shares, weights = np.array([lapse / (1.0 - guess)]), np.ones(1)
    if lapse_sd > 0:
        a, b = lapsing_law(lapse, lapse_sd, guess)
        # The probability is a polynomial of degree `catch` in the share, for which Gauss-Jacobi is exact.
        x, weights = special.roots_jacobi(catch // 2 + 1, b - 1.0, a - 1.0)
        shares, weights = 0.5 * (1.0 + x), weights / weights.sum()
    return float(weights @ dismissed(catch, least, (1.0 - shares) * accuracy + shares * guess))


def careless_left(careless: float, careful_dismissed: float, careless_dismissed: float) -> float:
    """Return the share of careless people among those whom a rule keeps; NaN if it keeps nobody."""
    wrong, right = careless * (1.0 - careless_dismissed), (1.0 - careless) * (1.0 - careful_dismissed)
    return wrong / (wrong + right) if wrong + right > 0 else np.nan


def attenuation(careless: float = 0.0, lapse: float = 0.0, guess: float = 0.5) -> float:
    """Return what is left of a difference in accuracy, as a share, where so many people answer at chance.

    People who guess throughout add nothing to a difference, and lapses take the share ``lapse / (1 - guess)`` of it,
    since p is linear in both.
    """
    return (1.0 - careless) * (1.0 - lapse / (1.0 - guess))


def lapse_from_catch(shares: npt.ArrayLike, *, accuracy: float, guess: float) -> tuple[float, float]:
    """Estimate the lapse rate from catch trials.

    Parameters
    ----------
    shares
        Of each person, the share of catch trials that was right.
    accuracy
        Probability that one who does not lapse is right; 1 if every wrong answer is a lapse.
    guess
        The guess rate.

    Returns
    -------
    tuple
        The rate (0 where more are right than `accuracy` says) and its standard error, from the spread between people,
        so that it holds if these differ.

    Raises
    ------
    InputError
        If there are fewer than two people, or `accuracy` is no better than guessing.
    """
    right = np.asarray(shares, dtype=float)
    if len(right) < 2:
        raise InputError(f"a lapse rate from catch trials needs two people who had some; there are {len(right)}.")
    if not guess < accuracy <= 1:
        raise InputError(f"the accuracy {accuracy:g} on catch trials must be above the guess rate {guess:g}, up to 1.")
    unit = (1.0 - guess) / (accuracy - guess)
    rate = unit * (accuracy - float(right.mean()))
    return max(rate, 0.0), unit * float(right.std(ddof=1)) / np.sqrt(len(right))
