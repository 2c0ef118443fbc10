"""A model spec goes out as TOML and comes back the same, and words that do not fit together are refused."""

import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from psychostats.errors import InputError
from psychostats.spec import ModelSpec, specify

DEFAULT = "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | pair)"


def round_trip(spec):
    return ModelSpec.from_table(tomllib.loads(tomli_w.dumps(spec.to_table())))


def test_the_table_holds_everything_in_plain_words():
    spec = specify(DEFAULT, family="afc", lapse=0.02, priors=["  b  ~ normal(0,  2)"])
    assert spec.to_table() == {
        "formula": DEFAULT,
        "family": "afc",
        "link": "logit",
        "guess": 0.5,
        "lapse": 0.02,
        "priors": ["b ~ normal(0, 2)"],
    }


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"link": "probit", "lapse": 0.01},
        {"family": "afc"},
        {"family": "afc", "guess": 0.0},
        {"family": "afc", "guess": 1 / 3, "lapse": 1e-17},
        {"family": "binomial", "priors": ["sd_g ~ exponential(1)", 'b_f"quoted\\" ~ student_t(3, 0, 2.5)']},
    ],
)
def test_a_spec_survives_toml(words):
    spec = specify(DEFAULT, **words)
    assert round_trip(spec) == spec


@pytest.mark.parametrize(
    "formula",
    [
        "y~a*b+(1+a||g)+(1|g/h)",
        "cbind(s, f) ~ I(x^2) - 1 + offset(log(n))",
        "s | trials(n) ~ poly( x,degree=2 ):C(f,sum)",
        '`is it "right"` ~ `ein Wort` + `a\\b` + (1 | `été:2`)',
        "y ~ I(-x) + I(x * -2) + I(x^-1) + (a + b)^2",
        "y ~\n  x +\n\t(1 | g)",
    ],
)
def test_a_formula_is_written_one_way(formula):
    spec = specify(formula, family="binomial")
    assert round_trip(spec) == spec
    assert specify(spec.formula.text, family="binomial") == spec  # written again it is the same text


@given(st.floats(0, 0.999), st.floats(0, 1))
def test_rates_keep_every_digit(guess, share):
    lapse = share * (1 - guess) * 0.999
    spec = specify("y ~ x", family="afc", guess=guess, lapse=lapse)
    assert round_trip(spec).family == spec.family
    assert (spec.family.guess, spec.family.lapse) == (guess, lapse)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"formula": "cbind(s, f) ~ x"}, "models counts; use the family binomial"),
        ({"formula": "s | trials(n) ~ x"}, "models counts; use the family binomial"),
        ({"formula": "y ~ exec(x)"}, r"the call 'exec\(\)' is not allowed"),
        ({"formula": "y ~ x", "family": "poisson"}, "'poisson' is unknown"),
        ({"formula": "y ~ x", "guess": 0.5}, "a guess rate is for the family afc"),
        ({"formula": "y ~ x", "priors": ["b ~ flat"]}, "cannot be read"),
    ],
)
def test_words_that_do_not_fit_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        specify(**words)


def test_counts_may_be_forced_choices():
    assert specify("s | trials(n) ~ x", family="afc").formula.response.counts
