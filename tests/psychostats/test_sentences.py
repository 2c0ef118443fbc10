"""Sentences: the verdict at every boundary, the direction, and numbers that are cells, rounded."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import known_fit, odd_report, small_report

from psychostats.document import Code, Link, Strong, Text
from psychostats.effects import contrasts, interactions, marginal_means
from psychostats.measure import number, percent, points, points_interval
from psychostats.opening import summary_sentences
from psychostats.sentences import estimate, say_difference, say_interaction, say_overall, share, verdict


def row(low=-0.1, high=0.1, rope_share=0.2, **others):
    usual = {"estimate": (low + high) / 2, "conf_level": 0.95, "interval": "eti", "pd": 0.9, "rope_high": 0.02}
    return usual | {"conf_low": low, "conf_high": high, "rope_share": rope_share} | others


def plain(words):
    if isinstance(words, str):
        return words
    assert all(isinstance(run, Text | Strong | Code | Link) for run in words)
    return "".join(run.text for run in words).replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("given_row", "expected"),
    [
        (row(0.0, 0.1), "open"),  # an interval that touches zero includes it
        (row(1e-9, 0.1), "higher"),
        (row(-0.1, 0.0), "open"),
        (row(-0.1, -1e-9), "lower"),
        (row(-0.1, 0.1), "open"),
        (row(-0.1, 0.1, 0.95), "equal"),
        (row(-0.1, 0.1, np.nextafter(0.95, 0)), "open"),
        (row(0.001, 0.01, 0.99), "equal"),  # known well, and negligible
        (row(0.001, 0.01, 0.9), "higher"),
        (row(-0.01, -0.001, 1.0), "equal"),
        (row(-0.1, 0.1, np.nan), "open"),
    ],
)
def test_the_verdict_at_its_boundaries(given_row, expected):
    assert verdict(given_row) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0341, "+3.4"),
        (-0.0341, "−3.4"),
        (0.0004, "+0.04"),
        (-0.0004, "−0.04"),
        (0.0005001, "+0.1"),
        (0.0, "0.0"),
        (1.0, "+100.0"),
    ],
)
def test_points_carry_their_sign(value, text):
    assert points(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.500"), (0.9994, "0.999"), (0.9995, "> 0.999"), (0.99949, "0.999"), (0.9996, "> 0.999"), (1.0, "> 0.999")],
)
def test_a_probability_that_rounds_to_one_is_never_certain(value, text):
    assert share(value) == text


@given(st.floats(0, 1))
def test_no_probability_prints_as_one(value):
    assert not share(value).startswith("1")


def test_numbers_print_with_a_true_minus():
    assert (percent(0.8423), number(-1.5), number(0.125, 1)) == ("84.2\u00a0%", "−1.50", "0.1")
    assert estimate(row(-0.104, 0.826)) == "0.36 [−0.10, 0.83]"
    assert points_interval(row(-0.01, 0.0571)) == "+2.4 [−1.0, +5.7]"


def say(difference, experiment=""):
    means = ({"estimate": 0.81}, {"estimate": 0.853})
    ratio = row(1.05, 1.75)
    return plain(say_difference(experiment, ("local", "distributed"), means, difference, ratio, "features"))


def test_each_verdict_has_its_words():
    numbers = "85.3 % against 81.0 %"
    assert say(row(0.02, 0.066)) == (
        f"Accuracy was higher for distributed than for local features: {numbers}, a difference of +4.3 percentage "
        "points (95 % credible interval +2.0 to +6.6; probability of direction 0.900; 20.0 % of the posterior within "
        "±2 points; odds ratio 1.40 [1.05, 1.75])."
    )
    assert say(row(-0.066, -0.02)).startswith(f"Accuracy was lower for distributed than for local features: {numbers}")
    assert say(row(-0.01, 0.01, 0.97)).startswith("Accuracy was practically equal for distributed and local features")
    assert say(row(-0.01, 0.03)).startswith(
        "Whether accuracy differs between distributed and local features remains open"
    )
    assert say(row(0.02, 0.066), "natural").startswith("In natural, accuracy was higher for distributed")
    assert "(89 % highest-density interval" in say(row(0.02, 0.066, interval="hdi", conf_level=0.89))


def test_a_change_says_in_whose_favour_and_between_which_values():
    def words(change, low=-0.01, high=0.07, ends=(0.0, 1.0)):
        at = ({"estimate": low}, {"estimate": high})
        return plain(say_interaction("", ("local", "distributed"), "depth", ends, at, change))

    assert words(row(0.03, 0.13)) == (
        "The difference distributed − local moved with depth towards distributed: it was −1.0 percentage points at "
        "depth 0 and +7.0 at depth 1, a change of +8.0 (95 % credible interval +3.0 to +13.0; probability of direction "
        "0.900)."
    )
    assert words(row(-0.13, -0.03), 0.07, -0.01).startswith(
        "The difference distributed − local moved with depth towards local"
    )
    unsure = words(row(-0.1, 0.1))
    assert unsure.startswith("Whether the difference distributed − local changes with depth remains open")
    # The region of practical equivalence was set for a contrast, so it calls no change negligible.
    assert "remains open" in words(row(-0.01, 0.01, 0.99))
    assert "at depth −0.5 and +7.0 at depth 0.25" in words(row(0.03, 0.13), ends=(-0.5, 0.25))


@pytest.mark.parametrize(
    ("low", "high", "change", "words"),
    [
        (0.02, 0.10, row(0.03, 0.13), "grew with depth, towards distributed"),
        (0.10, 0.02, row(-0.13, -0.03), "shrank with depth, towards local"),
        (-0.02, -0.10, row(-0.13, -0.03), "grew with depth, towards local"),
        (-0.10, -0.02, row(0.03, 0.13), "shrank with depth, towards distributed"),
    ],
)
def test_a_difference_that_keeps_its_sign_grows_or_shrinks(low, high, change, words):
    at = ({"estimate": low}, {"estimate": high})
    assert words in plain(say_interaction("", ("local", "distributed"), "depth", (0.0, 1.0), at, change))


def test_verdicts_are_counted_over_experiments():
    up, down, open_, equal = row(0.1, 0.2), row(-0.2, -0.1), row(), row(-0.01, 0.01, 1.0)
    assert say_overall([up, open_, up], "the difference").replace("\u00a0", " ") == (
        "Of 3 experiments, the difference is above zero in 2 and open in 1, by its 95 % credible interval."
    )
    assert "it is below zero in 1 and practically zero in 1, by" in say_overall([down, equal], "it")
    assert "it is below zero in 1 and open in 1, by" in say_overall([down, equal], "it", negligible=False)
    assert say_overall([up, up], "it").startswith("In all 2 experiments, it is above zero, by its 95")
    assert say_overall([up], "the difference") == ""


def sentence_of(trials, levels, b):
    """Say what the draws around `b` mean for the contrast of x, and for its change along z."""
    trials = trials.assign(x=pd.Categorical(trials["x"], levels))
    fit = known_fit("correct ~ x * z + (1 | g)", trials, b, sd={"g": 0.5}, noise=0.05)
    first, second = levels
    means = marginal_means(fit, "x").query("target == 'population'").set_index("term")
    table = contrasts(fit, "x").query("target == 'population'").set_index("scale")
    at = contrasts(fit, "x", by={"z": [0.0, 1.0]}).query("target == 'population' and scale == 'difference'")
    change = interactions(fit, "x", "z", [0.0, 1.0]).query("target == 'population'").set_index("scale")
    ends = (at.iloc[0].to_dict(), at.iloc[1].to_dict())
    return (
        plain(
            say_difference(
                "",
                levels,
                (means.loc[f"x{first}"], means.loc[f"x{second}"]),
                table.loc["difference"],
                table.loc["odds_ratio"],
            )
        ),
        plain(say_interaction("", levels, "z", (0.0, 1.0), ends, change.loc["difference"])),
    )


def test_the_direction_flips_with_the_answers_and_with_the_order_of_levels():
    rows = pd.DataFrame({"x": ["a", "b"] * 40, "z": np.linspace(0, 1, 80), "g": "p", "correct": [0, 1] * 40})
    rows.loc[40:, "g"] = "q"
    b = {"Intercept": 0.2, "xb": 0.6, "z": 0.1, "xb:z": 0.9}
    difference, change = sentence_of(rows, ("a", "b"), b)
    assert difference.startswith("Accuracy was higher for b than for a:")
    assert change.startswith("The difference b − a grew with z, towards b")

    flipped = {name: -value for name, value in b.items()}
    wrong, moved = sentence_of(rows.assign(correct=1 - rows["correct"]), ("a", "b"), flipped)
    assert wrong.startswith("Accuracy was lower for b than for a:")
    assert moved.startswith("The difference b − a grew with z, towards a")

    turned = {"Intercept": 0.8, "xa": -0.6, "z": 1.0, "xa:z": -0.9}
    reversed_, back = sentence_of(rows, ("b", "a"), turned)
    assert reversed_.startswith("Accuracy was lower for a than for b:")
    assert back.startswith("The difference a − b grew with z, towards b")
    # The same posterior in other words: the sizes agree.
    sizes = [float(re.search(r"difference of [−+](\d+\.\d)", text)[1]) for text in (difference, reversed_)]
    assert sizes[0] == pytest.approx(sizes[1], abs=0.3)


def as_converged(analysis):
    """Give the analysis of the small study as if its short fits had converged."""
    results = tuple(replace(result, fit=replace(result.fit, checks=())) for result in analysis.results)
    return replace(analysis, results=results)


def test_every_number_of_the_summary_is_a_cell_of_the_effects_tables(tmp_path_factory):
    made = small_report(tmp_path_factory)
    who, *sentences = [plain(words) for words in summary_sentences(as_converged(made.analysis))]
    trials = pd.read_csv(made.trials)
    kept = trials[(trials["phase"] == "main") & ~trials["catch"] & trials["correct"].notna()]
    people = "48 of 48 simulated participants (24 in first, 24 in second)"
    assert who == f"{people} and {len(kept)} trials were analysed."
    assert len(sentences) == 2 + 2 * 2
    overall, single = sentences[:2], sentences[2:]
    for text in overall:
        assert re.match("Of 2 experiments|In all 2 experiments", text)
    for text in single:
        experiment = text.removeprefix("In ").partition(",")[0]
        table = pd.read_csv(made.out / "tables" / f"{experiment}_effects.csv")
        table = table[(table["model"] == "main") & (table["target"] == "population")]
        cells = table[["estimate", "conf_low", "conf_high", "pd", "rope_share"]].to_numpy().ravel()
        allowed = {f"{value:.{digits}f}" for value in cells for digits in (2, 3) if np.isfinite(value)}
        in_points = [100 * abs(value) for value in cells if np.isfinite(value)]
        # One that would print as 0.0 has a second decimal, since its sign is what matters.
        allowed |= {f"{value:.2f}" if f"{value:.1f}" == "0.0" else f"{value:.1f}" for value in in_points}
        allowed |= {"95", "0", "1", "2"}  # the interval's probability, the ends of the moderator, and the ROPE
        numbers = re.findall(r"\d+(?:\.\d+)?", text)
        assert len(numbers) >= 7
        assert [one for one in numbers if one not in allowed] == [], text


def test_nothing_is_concluded_from_a_fit_that_did_not_converge(tmp_path_factory):
    analysis = small_report(tmp_path_factory).analysis
    assert [plain(words) for words in summary_sentences(analysis)][1:] == [
        "In first, the fit did not converge: nothing is concluded from it.",
        "In second, the fit did not converge: nothing is concluded from it.",
    ]
    good = as_converged(analysis)
    mixed = replace(analysis, results=(good.results[0], *analysis.results[1:]))
    said = [plain(words) for words in summary_sentences(mixed)]
    assert len(said) == 1 + 2 + 1 and not any("experiments" in text for text in said)
    assert said[-1].startswith("In second, the fit did not converge")


def test_many_contrasts_are_left_to_the_tables_and_said_to_be_unadjusted(tmp_path_factory):
    one = as_converged(odd_report(tmp_path_factory).analysis)
    said = [plain(words) for words in summary_sentences(one)]
    assert len(said) == 1 + 3 + 1  # who, a sentence a pair of levels, and that none is adjusted
    assert said[-1] == "Intervals are not adjusted for the number of contrasts."
    several = replace(one, results=tuple(replace(one.results[0], experiment=name) for name in "abc"))
    said = [plain(words) for words in summary_sentences(several)]
    assert len(said) == 1 + 3 + 1 + 1 and "every contrast in every experiment" in said[-2]
