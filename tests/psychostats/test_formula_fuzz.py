"""Formulas at random: what is one is coded or refused in our own words, what is none is refused, and nothing is run.

An audit hook hears whatever the interpreter opens, starts, imports or compiles while a formula is read; a function
that any evaluated text could reach records its calls.
"""

import builtins
import re
import sys
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from psychostats import design
from psychostats.design import code
from psychostats.errors import FormulaError, InputError
from psychostats.formula import ALLOWED_CALLS, parse_formula

SETTINGS = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow], max_examples=200
)
ROWS = 48
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "y": RNG.integers(0, 2, ROWS),
        "x": RNG.normal(size=ROWS),
        "Sepal.Length": RNG.normal(5, 1, ROWS),
        ".z": RNG.normal(size=ROWS),
        "log": RNG.random(ROWS) + 1,
        "é": RNG.normal(size=ROWS),
        "C(x)": RNG.normal(size=ROWS),
        "k": RNG.integers(1, 5, ROWS),
        "f": list("uvw") * (ROWS // 3),
        "two words": list("pq") * (ROWS // 2),
        "flag": RNG.random(ROWS) < 0.5,
        "_h": np.repeat(["a", "b"], ROWS // 2),
        "g": np.repeat([f"g{i}" for i in range(8)], ROWS // 8),
    }
)

# --- what listens

_HEARD: list[tuple[str, str]] = []
_LISTENING = [False]
_LOUD = re.compile(
    r"open$|os\.|subprocess\.|socket\.|shutil\.|import$|compile$|exec$|ctypes\.|builtins\.(input|breakpoint)|pty\."
)
# What the coding library compiles of a formula that was let through: aliases, numbers, signs and whitelisted calls.
_CODED = re.compile(
    r"\bV\d+\b|\b(log|exp|sqrt|scale|center|I|C|poly|bs)(?=\(|\.get_required_variables|$)"
    r"|\bcontr\.(treatment|sum|diff)\b|\b(df|degree)(?= ?=)|(\b\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?(?!\w)|[-+*/(),= ]"
    r"|\.get_required_variables|__FORMULAIC_[A-Z]+__"  # which the library writes itself
)
_KEPT = re.compile(
    r'(__FORMULAIC_[A-Z]+__)(?:\.get\("([^"]*)"\)|\["([^"]*)"\])'
)  # where it keeps what it learned of a call


def _hear(event, arguments):
    if _LISTENING[0] and _LOUD.match(event):
        what = arguments[0] if arguments else ""
        _HEARD.append((event, what.decode() if isinstance(what, bytes) else str(what)))


sys.addaudithook(_hear)  # for good: a hook cannot be removed, only ignored


class Heard:
    """Listen while the block runs; `events` holds what was heard and `calls` whoever called the bait."""

    def __enter__(self):
        _HEARD.clear()
        _LISTENING[0] = True
        return self

    def __exit__(self, *error):
        _LISTENING[0] = False
        self.events = list(_HEARD)


@pytest.fixture(scope="module")
def bait():
    """Put a function where evaluated text would find it, in builtins and in the room that codes; give its calls."""
    calls = []

    def touched(*arguments, **named):
        calls.append((arguments, named))
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "bait", touched, raising=False)
        patch.setattr(design, "bait", touched, raising=False)
        yield calls


def one_sentence(error):
    """Whether a message is one sentence, with the formula quoted below where a token is marked, and our own words."""
    said, *marked = str(error).split("\n")
    assert said and len(marked) in (0, 2), str(error)
    words = re.sub(r"'[^']*'", "", said)
    assert not re.search(
        r"\b[VL]\d+\b|contr\.|[Uu]nable to|Error|Warning|materializ|encod|[Tt]oken|numpy|object at", words
    )
    return said


# --- formulas

NUMBERS = st.sampled_from(["x", "Sepal.Length", ".z", "log", "é", "`C(x)`", "k", "`x`"])
FACTORS = st.sampled_from(["f", "`two words`", "flag", "_h", "g"])
NAMES = NUMBERS | FACTORS
CONSTANTS = st.sampled_from(["2", "0", "1.5", ".5", "1e3", "10"])
EXPRESSIONS = st.recursive(
    NUMBERS | NUMBERS | CONSTANTS | FACTORS,
    lambda inner: st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(["+", "-", "*", "/", "^", "**"]), inner),
        st.builds("({})".format, inner),
        st.builds("-{}".format, inner),
        st.builds("{}({})".format, st.sampled_from(["log", "exp", "sqrt", "scale", "center", "I"]), inner),
    ),
    max_leaves=5,
)
CALLS = st.one_of(
    st.builds("{}({})".format, st.sampled_from(["log", "exp", "sqrt", "scale", "center", "I"]), EXPRESSIONS),
    st.builds("C({}{})".format, NAMES, st.sampled_from(["", ", sum", ", sdif", ", treatment"])),
    st.builds("poly({}{})".format, EXPRESSIONS, st.sampled_from(["", ", 1", ", 2", ", degree = 3", ", 9", ", 60"])),
    st.builds(
        "bs({}{})".format,
        EXPRESSIONS,
        st.sampled_from(["", ", 4", ", df = 5", ", degree = 2", ", df = 3, degree = 1", ", df = 1", ", df=30"]),
    ),
)
TERMS = st.recursive(
    NAMES | NAMES | CALLS,
    lambda inner: st.one_of(
        st.builds("{}{}{}".format, inner, st.sampled_from([":", "*", " / "]), inner),
        st.builds("({} + {})".format, inner, inner),
        st.builds("({} + {})^{}".format, inner, inner, st.integers(1, 2)),
    ),
    max_leaves=4,
)
SUMS = st.builds(
    lambda start, terms: start + terms[0][1] + "".join(f" {sign} {term}" for sign, term in terms[1:]),
    st.sampled_from(["", "1 + ", "0 + ", "-1 + "]),
    st.lists(st.tuples(st.sampled_from("+++-"), TERMS), min_size=1, max_size=3),
)
BARS = st.builds(
    "({} {} {})".format,
    SUMS,
    st.sampled_from(["|", "||"]),
    st.sampled_from(["g", "_h/g", "f:g", "`two words`", "k"]),
)
FORMULAS = st.builds(
    lambda fixed, bars, offset: "y ~ " + " + ".join([fixed, *bars, *offset]),
    SUMS,
    st.lists(BARS, max_size=2),
    st.lists(st.builds("offset({})".format, EXPRESSIONS), max_size=1),
)


@SETTINGS
@given(FORMULAS)
def test_a_formula_of_the_grammar_is_coded_or_refused_in_our_own_words(bait, text):
    start = time.perf_counter()
    with Heard() as heard:
        try:
            made = code(parse_formula(text), FRAME).design(FRAME)
        except InputError as error:
            one_sentence(error)
        else:
            assert np.isfinite(made.X).all() and made.X.shape == (ROWS, len(made.names))
            assert all(block.Z.shape == (ROWS, len(block.terms)) for block in made.blocks)
    assert time.perf_counter() - start < 5  # 2 s, on a machine that does nothing else
    for event, argument in heard.events:
        assert event in ("compile", "exec"), (event, argument)
        tree = argument.startswith("<ast.")  # made of text that was heard before
        assert event == "exec" or tree or not _CODED.sub("", _KEPT.sub(r"\1 \2\3", argument)), argument
    assert bait == []


@SETTINGS
@given(st.lists(TERMS, min_size=1, max_size=3))
def test_a_sum_of_terms_of_the_grammar_always_parses_unless_a_call_is_empty_of_columns(terms):
    text = f"y ~ {' + '.join(terms)} + (1 | g)"
    try:
        formula = parse_formula(text)
    except FormulaError as error:
        assert re.search("needs a column|takes a df|multiplied out", one_sentence(error)), text
    else:
        assert parse_formula(formula.text) == formula


# --- what is no formula

ATTACKS = (
    "__import__('os').system('id')",
    "bait()",
    "bait(x)",
    "I(bait(x))",
    "log(bait())",
    "scale(x, bait())",
    "poly(x, bait())",
    "bs(x, df = bait())",
    "C(f, bait)",
    "C(f, bait())",
    "C(x, contr.poly)",
    "C(f, contr.treatment(base = 2))",
    "I(open('f'))",
    "open('f', 'w')",
    "x.__class__",
    "x.__class__.__mro__",
    "I(x.__class__())",
    "`x`.__class__",
    "x.mean()",
    "x.values.tofile('f')",
    "(lambda: bait())()",
    "I(lambda v: bait())",
    "[bait() for i in x]",
    "I([bait() for i in x])",
    "{bait() for i in x}",
    "(bait() for i in x)",
    "f'{bait()}'",
    'f"{bait()}"',
    "(v := bait())",
    "I(v := bait())",
    "I(x if bait() else x)",
    "I(x and bait())",
    "x @ bait()",
    "x[bait()]",
    "x % bait()",
    "I(*bait())",
    "log(**bait())",
    "exec('bait()')",
    "eval('bait()')",
    "compile('bait()', 'f', 'exec')",
    "getattr(x, 'y')",
    "print(x)",
    "np.log(x)",
    "pd.eval('bait()')",
    "`bait`()",
    "`bait()`(x)",
    "`I`(bait())",
    "{bait()}",
    "{{bait()}}",
    "'bait()'",
    '"""bait()"""',
    "x; bait()",
    "x\nbait()(x)",
    "x # bait()",
    "x \\ bait()",
    "ｂait(x)",
    "lоg(x)",
    "ｌｏｇ(x)",
    "log（x）",
    "x ∼ z",
    "x − z(1)",
    "x\u200b(1)",
    "\u202ex(1)",
    "x\0",
    "await bait()",
    "yield(bait())",
    "log(log(log(bait())))",
    "I(I(I(x)(x)))",
    "hashed(x)",
    "lag(x, 1)",
    "te(x, z)",
    "Q('x')",
    "(bait() | g)",
    "(1 | bait())",
    "(I(bait()) || g)",
    "offset(bait())",
    "offset(I(open('f')))",
    "cbind(bait(), x)",
    "trials(bait())",
    "mo(bait())",
)


def test_attacks_are_refused_and_nothing_is_run(bait):
    for text in [f"y ~ {attack}" for attack in ATTACKS] + [f"{attack} ~ x" for attack in ATTACKS]:
        start = time.perf_counter()
        with Heard() as heard, pytest.raises(FormulaError) as caught:
            code(parse_formula(text), FRAME)  # a name with dots is a column's, as in R, and no column is called so
        one_sentence(caught.value)
        assert heard.events == [], text
        assert time.perf_counter() - start < 2
    assert bait == []


def test_the_listeners_hear(bait, tmp_path):
    with Heard() as heard:
        eval("bait(1)", vars(design))
        (tmp_path / "f").touch()
    assert bait == [((1,), {})]
    assert {event for event, _ in heard.events} >= {"compile", "exec", "open"}
    bait.clear()


SIGNS = (
    "y ~ x `x ` f | || ( ) (( )) + - * / : ^ ** , = == := -> 0 1 2 1e999 1_000 0x10 1j ' \" # ; \\ % { } [ ] @ ! ? & <"
)
WORDS = "lambda if else for in not None ... é ☃"
PIECES = st.sampled_from([*ATTACKS, *ALLOWED_CALLS, *SIGNS.split(), *WORDS.split(), "\n"])


def handled(text, bait):
    """Read a text as a formula, and code it if it is one; whatever happens is a design or our own sentence."""
    start = time.perf_counter()
    with Heard() as heard:
        try:
            formula = parse_formula(text)
        except FormulaError as error:
            formula = None
            one_sentence(error)
    assert heard.events == []
    if formula is not None:
        try:
            code(formula, FRAME)
        except InputError as error:
            one_sentence(error)
    assert time.perf_counter() - start < 5
    assert bait == []


@SETTINGS
@given(st.lists(PIECES, max_size=12), st.sampled_from(["", " "]))
def test_a_soup_of_tokens_is_refused_or_coded(bait, pieces, joint):
    handled("y ~ " + joint.join(pieces), bait)
    handled(joint.join(pieces), bait)


@SETTINGS
@given(FORMULAS, st.lists(st.tuples(st.integers(0, 200), st.integers(0, 6), PIECES | st.characters()), max_size=3))
def test_a_mutilated_formula_is_refused_or_coded(bait, text, cuts):
    for at, length, piece in cuts:
        at %= len(text) + 1
        text = text[:at] + piece + text[at + length :]
    handled(text, bait)


@SETTINGS
@given(
    FORMULAS, st.sampled_from([attack for attack in ATTACKS if "bait" in attack or "open" in attack or "__" in attack])
)
def test_an_attack_within_a_formula_is_refused(bait, text, attack):
    for place in [found.start() for found in re.finditer(r"(?<=[~+(] )|(?<=\()", text)]:
        if text[:place].count("`") % 2:
            continue  # within backticks it would be part of a name
        with Heard() as heard, pytest.raises(FormulaError) as caught:
            code(parse_formula(f"{text[:place]}{attack} + {text[place:]}"), FRAME)
        one_sentence(caught.value)
        assert heard.events == []
    assert bait == []
