"""Simulated lapses: people guess on their share of main and catch trials, at one rate or at rates of their own."""

import numpy as np
import pytest
from scipy import stats
from test_simulate import SD, B, main_trials, plan

from psychostats.attention import catch_probability, draw_rates, lapsing_law
from psychostats.errors import InputError, StudyError
from psychostats.families import resolve_family
from psychostats.simulate import simulate_trials
from psychostats.spec import specify
from psychostats.study import read_study

FORMULA = "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | pair)"


def lapsing(rate, people=1500, sd=0.0, **changes):
    return plan(terms=B | SD, people=people, spec=specify(FORMULA, family="afc", lapse=rate), lapse_sd=sd, **changes)


def test_the_law_of_lapses_has_the_mean_and_the_sd_that_were_asked_for():
    rate, sd, guess = 0.06, 0.05, 0.5
    law = stats.beta(*lapsing_law(rate, sd, guess), scale=1 - guess)
    assert law.mean() == pytest.approx(rate, rel=1e-12)
    assert law.std() == pytest.approx(sd, rel=1e-12)
    rates = np.array(list(draw_rates(np.random.default_rng(1), lapse(rate), sd, range(20_000)).values()))
    assert stats.kstest(rates, law.cdf).pvalue > 0.01


def lapse(rate):
    return resolve_family("afc", lapse=rate)


@pytest.mark.parametrize(("rate", "sd"), [(0.0, 0.01), (0.05, 0.16), (0.05, 0.5)])
def test_people_cannot_differ_by_more_than_rates_may(rate, sd):
    with pytest.raises(InputError, match="cannot have the SD"):
        lapsing_law(rate, sd, 0.5)
    lapsing_law(0.05, 0.149, 0.5)  # the largest is sqrt(0.05 * 0.45) = 0.15


def test_who_lapses_on_a_catch_trial_guesses():
    # l = 0.1 with g = 0.5 is a guess on one trial in five: 0.8 * 0.98 + 0.2 * 0.5.
    assert catch_probability(lapse(0.1), 0.98) == pytest.approx(0.884, abs=1e-15)
    assert catch_probability(lapse(0.1), 1.0) == pytest.approx(1 - 0.1, abs=1e-15)
    assert catch_probability(lapse(0.0), 0.98) == 0.98


@pytest.mark.parametrize("sd", [0.0, 0.08])
def test_lapses_strike_main_and_catch_trials(sd):
    made = lapsing(0.1, sd=sd, catch=6, catch_accuracy=0.98)
    table = simulate_trials(made, 3)
    caught = table[table["catch"]].groupby("participant")["correct"].sum()
    q = 0.884
    se = np.sqrt((q * (1 - q) / 6 + (0.96 * sd) ** 2) / len(caught))
    assert caught.mean() / 6 == pytest.approx(q, abs=4 * se)
    # Between people, the number right is beta-binomial: its variance grows with (0.48 / 0.5 * sd)^2.
    spread = (0.96 * sd) ** 2
    assert caught.var() == pytest.approx(6 * (q * (1 - q) - spread) + 36 * spread, rel=0.15)
    # The mean over people is that of the mean rate, since p is linear in it.
    cells = main_trials(table).groupby(["representation", "depth"], observed=True)["correct"].agg(["mean", "size"])
    for (which, depth), cell in cells.iterrows():
        second = which == "distributed"
        p = made.spec.family.mean(0.4 + 0.5 * second + (-0.6 + 0.9 * second) * depth)
        assert cell["mean"] == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / cell["size"] + sd**2 / 1500))


def test_that_people_differ_changes_nothing_else_that_is_drawn():
    alike, apart = (simulate_trials(lapsing(0.1, people=40, sd=sd), 4) for sd in (0.0, 0.08))
    practice = alike["phase"] == "practice"
    assert alike.loc[practice, "correct"].equals(apart.loc[practice, "correct"])
    assert alike["rt"].equals(apart["rt"]) and not alike["correct"].equals(apart["correct"])


def test_a_study_file_with_an_impossible_spread_is_refused(tmp_path):
    text = "[study]\nname = 's'\ntitle = 't'\n[simulate]\nlapse = 0.02\nlapse_sd = 0.2\n"
    text += "[simulate.truth.all]\nb_Intercept = 0\n"
    (tmp_path / "s.toml").write_text(text, encoding="utf-8")
    with pytest.raises(StudyError, match=r"\[simulate\]: lapse rates with mean 0.02 cannot have the SD 0.2"):
        read_study(tmp_path / "s.toml")
    (tmp_path / "s.toml").write_text(text.replace("lapse_sd = 0.2", "lapse_sd = 0.03"), encoding="utf-8")
    assert read_study(tmp_path / "s.toml").simulate.lapse_sd == 0.03
