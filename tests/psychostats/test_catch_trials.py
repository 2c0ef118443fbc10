"""Catch trials in closed form: enumerated answers, betas by simulation, and a lapse rate that comes back."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from psychostats.attention import lapsing_law
from psychostats.catch_trials import attenuation, dismissed, dismissed_careful, lapse_from_catch
from psychostats.errors import InputError


@pytest.mark.parametrize("catch", [1, 3, 5])
@pytest.mark.parametrize("least", [0.0, 0.6, 2 / 3, 0.8, 1.0])
def test_a_rule_dismisses_whom_enumeration_says(catch, least):
    q = 0.83
    answers = product((0, 1), repeat=catch)
    expected = sum(np.prod([q if one else 1 - q for one in given]) for given in answers if sum(given) / catch < least)
    assert float(dismissed(catch, least, q)) == pytest.approx(expected, abs=1e-12)
    assert float(dismissed(0, least, q)) == 0  # one who has no catch trial stays


def test_the_embedded_studys_rule_in_numbers():
    # Two of three: 1 - q^3 - 3 q^2 (1 - q).
    q = 0.98
    assert dismissed_careful(3, 0.6, accuracy=q) == pytest.approx(1 - q**3 - 3 * q**2 * (1 - q), abs=1e-15)
    assert float(dismissed(3, 0.6, 0.5)) == pytest.approx(0.5)
    q = 0.9 * 0.98 + 0.1 * 0.5
    assert dismissed_careful(3, 1.0, accuracy=0.98, lapse=0.05) == pytest.approx(1 - q**3, abs=1e-15)


def test_people_who_differ_are_averaged_over():
    rate, sd, guess, catch, least = 0.08, 0.06, 0.25, 5, 0.8
    made = dismissed_careful(catch, least, accuracy=0.97, lapse=rate, lapse_sd=sd, guess=guess)
    law = stats.beta(*lapsing_law(rate, sd, guess))

    def each(share):
        return float(dismissed(catch, least, (1 - share) * 0.97 + share * guess))

    assert made == pytest.approx(law.expect(each), abs=1e-7)
    assert made > dismissed_careful(catch, least, accuracy=0.97, lapse=rate, guess=guess)


def test_what_is_left_of_a_difference():
    assert attenuation() == 1
    assert attenuation(careless=0.1) == pytest.approx(0.9)
    assert attenuation(lapse=0.05) == pytest.approx(0.9)  # one trial in ten is guessed
    assert attenuation(0.1, 0.05, 0.0) == pytest.approx(0.9 * 0.95)


def test_the_lapse_rate_comes_back_from_catch_trials_with_its_error():
    rng, rate, people, catch = np.random.default_rng(1), 0.06, 200, 4
    share = rate / 0.5
    q = (1 - share) * 0.97 + share * 0.5
    made = np.array(
        [lapse_from_catch(rng.binomial(catch, q, people) / catch, accuracy=0.97, guess=0.5) for _ in range(400)]
    )
    rates, errors = made.T
    assert rates.mean() == pytest.approx(rate, abs=4 * rates.std() / 20)
    assert errors.mean() == pytest.approx(rates.std(), rel=0.12)
    exact = np.sqrt(q * (1 - q) / (people * catch)) * 0.5 / 0.47
    assert errors.mean() == pytest.approx(exact, rel=0.03)
    assert lapse_from_catch([1.0, 1.0, 1.0], accuracy=0.9, guess=0.5) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("shares", "accuracy", "words"), [([1.0], 0.9, "needs two people"), ([1.0, 0.5], 0.4, "above the guess rate 0.5")]
)
def test_what_tells_nothing_is_refused(shares, accuracy, words):
    with pytest.raises(InputError, match=words):
        lapse_from_catch(shares, accuracy=accuracy, guess=0.5)
