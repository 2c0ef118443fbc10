"""R-style formula text into its parts: the response, the fixed part, the group effects.

In: text such as ``correct ~ representation * depth + (1 + representation | participant)``.  Out: a frozen `Formula`
whose parts are ready for coding (design.py).  Evaluates nothing: every token, its place and every argument of a call
are checked against a whitelist here, because the library that codes the matrices would evaluate any Python it is
handed.  Knows no data.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace

from psychostats.errors import FormulaError, nearest
from psychostats.tokens import (
    ALLOWED_CALLS,
    Token,
    arguments,
    count_terms,
    is_call,
    is_wrapped,
    split_terms,
    tokenize,
    top_level,
)

CODINGS = {"treatment": "contr.treatment", "sum": "contr.sum", "sdif": "contr.diff"}

# Calls that take numbers beside their column, and the names of those numbers.
_NUMBERS = {"poly": ("degree",), "bs": ("df", "degree")}

_LONGEST, _DEEPEST = 5_000, 50  # letters, and parentheses within one another, beyond which parsers give up
_MOST = 2_000  # terms, each written out: a product of 20 columns would have a million and run for hours


@dataclass(frozen=True)
class Response:
    """What is modelled: one column of 0/1, or counts of successes with their failures or totals.

    Parameters
    ----------
    successes
        Column of 0/1 outcomes, or of counts of successes.
    failures, trials
        For ``cbind(s, f)`` the column of failures; for ``s | trials(n)`` the column of totals; otherwise None.
    """

    successes: str
    failures: str | None = None
    trials: str | None = None

    @property
    def counts(self) -> bool:
        """Whether a row holds counts, not one trial."""
        return self.failures is not None or self.trials is not None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns the response needs."""
        return tuple(name for name in (self.successes, self.failures, self.trials) if name)


@dataclass(frozen=True)
class Bar:
    """One group effect, ``(terms | group)``.

    Parameters
    ----------
    terms
        The left side, ready for coding: every column in backticks, for example ``1 + `representation```.
    factors
        The columns whose combination makes the group; more than one where factors are nested.
    correlated
        True for ``|``; False for ``||``, which takes every column as independent, those of factors included.
    """

    terms: str
    factors: tuple[str, ...]
    correlated: bool

    @property
    def group(self) -> str:
        """Name of the group; nested factors are joined by colons, ``batch:cask``."""
        return ":".join(self.factors)

    def __str__(self) -> str:
        return f"({as_written(self.terms)} {'|' if self.correlated else '||'} {self.group})"


@dataclass(frozen=True)
class Formula:
    """A formula taken apart.

    Parameters
    ----------
    text
        As the user wrote it, blanks normalised.
    response
        Left side.
    fixed
        Fixed part, ready for coding: every column in backticks; an intercept is implied unless it says ``0`` or ``-1``.
    bars
        Group effects in the order written, nesting expanded.
    offsets
        Arguments of ``offset()``, ready for coding as one column each.
    variables
        Every column that is named, response, groups and `disc` included.
    disc, scale
        Right side of what log disc, the logarithm of a scale, depends on: as the user wrote it, and ready for coding;
        empty where it is the same everywhere.
    """

    text: str
    response: Response
    fixed: str
    bars: tuple[Bar, ...]
    offsets: tuple[str, ...]
    variables: tuple[str, ...]
    disc: str = ""
    scale: str = ""

    @property
    def monotonic(self) -> bool:
        """Whether the fixed part has a monotonic effect."""
        return calls_mo(self.fixed)

    @property
    def whole(self) -> str:
        """The formula in words, with what disc depends on behind it."""
        return f"{self.text}; disc ~ {self.disc}" if self.disc else self.text

    @property
    def groups(self) -> tuple[str, ...]:
        """Grouping factors, each once, in the order written."""
        return tuple(dict.fromkeys(bar.group for bar in self.bars))


def parse_formula(text: str) -> Formula:
    """Take an R-style formula apart.

    Parameters
    ----------
    text
        lme4's notation, except that ``||`` makes all columns independent. Calls are limited to `ALLOWED_CALLS`.

    Returns
    -------
    Formula

    Raises
    ------
    FormulaError
        With the formula quoted and the token marked.
    """
    text = re.sub(r"\s", " ", text.strip())
    if len(text) > _LONGEST:
        raise FormulaError(f"this formula has {len(text):,} letters; {_LONGEST:,} are the most.")
    tokens = tokenize(text)
    if max(itertools.accumulate((t.text == "(") - (t.text == ")") for t in tokens), default=0) > _DEEPEST:
        raise FormulaError(f"this formula has more than {_DEEPEST} parentheses within one another.")
    tildes = [i for i, token in enumerate(tokens) if token.text == "~"]
    if len(tildes) != 1 or tildes[0] == 0:
        raise FormulaError(f"a formula has one response, one '~' and its predictors, as in 'y ~ x'; got '{text}'.")
    left, right = tokens[: tildes[0]], tokens[tildes[0] + 1 :]
    if not right:
        raise FormulaError(f"nothing stands right of '~' in '{text}'; write '~ 1' for an intercept alone.")
    _check_order(tokens, text)
    if count_terms(right) > _MOST:
        raise FormulaError(f"multiplied out, '{text}' has more than {_MOST:,} terms; ask for fewer interactions.")
    response = _read_response(left, text)
    fixed: list[str] = []
    bars: list[Bar] = []
    offsets: list[str] = []
    for sign, term in split_terms(_open_sums(right, text)):
        inside = term[1:-1] if is_wrapped(term) else []
        bar_at = next((i for i in top_level(inside) if inside[i].text in ("|", "||")), None)
        is_offset = term[0].text == "offset" and is_wrapped(term[1:])
        if sign == "-" and (is_offset or bar_at is not None):
            what = "an offset" if is_offset else "a group effect"
            raise FormulaError(f"{what} can be added but not removed", text, term[0].position)
        if bar_at is not None:
            bars.extend(_read_bar(inside, bar_at, text))
        elif is_offset:
            term = [Token("name", "I", term[0].position), *term[1:]]  # one column, its argument as it stands
            _check_calls(term, text)
            offsets.append(_render(term, code=True))
        else:
            _refuse_bars(term, text)
            _check_calls(term, text)
            written = _render(term, code=True)
            fixed.append(f"{sign} {written}" if fixed else f"{sign.strip('+')}{written}")
    twice = next((bar for bar in bars if bars.count(bar) > 1), None)
    if twice:
        raise FormulaError(f"the group effect {twice} stands twice in '{text}'.")
    both = next((name for name in _variables(right) if name in response.columns), None)
    if both:
        raise FormulaError(f"the response '{both}' stands right of '~' as well in '{text}'.")
    return Formula(
        text=_render(tokens),
        response=response,
        fixed=" ".join(fixed) or "1",
        bars=tuple(bars),
        offsets=tuple(offsets),
        variables=_variables(tokens),
    )


def with_disc(formula: Formula, text: str) -> Formula:
    """Add what disc depends on.

    Parameters
    ----------
    formula
        Of the response.
    text
        A column, or the right side of a formula without group effects, as ``representation + depth``.

    Raises
    ------
    FormulaError
        If it cannot be read, or says more than disc can depend on.
    """
    parsed = parse_formula(f"disc ~ {text}")
    disc = parsed.text.partition("~")[2].strip()
    if parsed.bars or parsed.offsets or parsed.monotonic:
        raise FormulaError(f"disc takes columns without group effects, offset() or mo(); got '{disc}'.")
    names = [name for name in parsed.variables if f"`{name}`" in parsed.fixed]
    if not names:
        raise FormulaError(f"disc names no column in '{disc}'; write for example 'representation'.")
    both = next((name for name in names if name in formula.response.columns), None)
    if both:
        raise FormulaError(f"the response '{both}' cannot be what disc depends on.")
    return replace(formula, disc=disc, scale=parsed.fixed, variables=tuple(dict.fromkeys([*formula.variables, *names])))


def calls_mo(terms: str) -> bool:
    """Whether terms that are ready for coding call mo(); a column's own name may hold those letters."""
    return re.search(r"(?<!\w)mo\(`", terms) is not None


def as_written(text: str) -> str:
    """Put what is ready for coding back into the words of a formula, for messages and names of columns."""
    for written, library in CODINGS.items():
        text = text.replace(library, written)
    text = text.replace("`", "").replace(" ** ", "^").replace("**", "^").replace(" / ", "/")
    return re.sub(r"(?<=\w)=(?=\S)", " = ", re.sub(r"\b(\d+)\.0\b", r"\1", text))


def _check_order(tokens: list[Token], text: str) -> None:
    """Refuse what is no expression: columns and signs must alternate, and each has its place."""
    calls: list[str] = []  # for each open parenthesis, the call it belongs to, or nothing
    opened: list[int] = []
    due = True  # whether a column, a number or a parenthesis must come next
    for i, token in enumerate(tokens):
        before = tokens[i - 1] if i else Token("op", "", 0)
        in_call, power = any(calls), before.text in ("^", "**")
        fault = ""
        if power and not in_call and not re.fullmatch("[1-9]", token.text):
            fault = "the power of a term is a whole number from 1 to 9"
        elif token.text == "(":
            call = before.text if before.kind == "name" else ""
            if call and call not in ALLOWED_CALLS:
                known = f"{nearest(call, ALLOWED_CALLS)}; allowed are {', '.join(ALLOWED_CALLS)}"
                raise FormulaError(f"the call '{call}()' is not allowed{known}", text, before.position)
            fault = "" if due or call else "a sign is missing before this parenthesis"
            calls.append(call)
            opened.append(token.position)
            due = True
        elif token.text == ")":
            if not opened:
                raise FormulaError("this parenthesis was never opened", text, token.position)
            fault = "something is missing before this parenthesis" if due else ""
            calls.pop()
            opened.pop()
        elif token.kind != "op":
            if not due:
                fault = "a sign is missing before this"
            elif token.kind == "number" and not in_call and not power and token.text not in ("0", "1"):
                fault = "only 0 and 1 can stand as terms (without or with intercept)"
            due = False
        else:
            negative = token.text == "-" and (in_call or before.text in ("", "(", "~"))
            if due and not negative:
                fault = "a term is missing before this sign"
            elif token.text in (("~", "|", "||", ":") if in_call else (",", "=")):
                fault = f"'{token.text}' stands only {'outside' if in_call else 'inside'} a call"
            due = True
        if fault:
            raise FormulaError(fault, text, token.position)
    if opened:
        raise FormulaError("this parenthesis is never closed", text, opened[-1])
    if due:
        raise FormulaError("a term is missing after this sign", text, tokens[-1].position)


def _check_calls(tokens: list[Token], text: str) -> None:
    """Refuse a call where it cannot stand, or with arguments it does not take."""
    end = 0  # of the outermost call so far
    for i, token in enumerate(tokens):
        if not is_call(tokens, i):
            continue
        call = token.text
        first, *options = given = arguments(tokens, i)
        within, end = i < end, max(end, i + 2 + sum(len(argument) + 1 for argument in given))
        numbers = [f"{name} = a whole number" for name in _NUMBERS.get(call, ())]
        fault, at = "", token
        if call in ("cbind", "trials"):
            fault = f"{call}() stands only in the response"
        elif call == "offset" or (call in ("C", "mo", *_NUMBERS) and within):
            fault = f"{call}() stands only as a term of its own"
        elif any(t.text == "=" for t in first) or not _variables(first):
            fault, at = "this call needs a column", first[0]
        elif call == "mo" and (len(first) > 1 or options):
            fault = "mo() takes one column, whose levels have an order"
        elif call == "C" and (len(first) > 1 or len(options) > 1):
            fault = f"C() takes a column and a coding, one of {', '.join(CODINGS)}"
        elif call == "C":
            wrong = next((o for o in options if len(o) > 1 or o[0].text not in CODINGS), None)
            if wrong:
                fault, at = f"the coding '{_render(wrong)}' is unknown; allowed are {', '.join(CODINGS)}", wrong[0]
        elif (values := _numbers(call, options)) is None:
            fault = f"this call takes {' and '.join(['a column', *numbers]) if numbers else 'one argument'}"
        elif call == "bs" and "df" in values and values["df"] < values.get("degree", 3):
            fault = "bs() takes a df of its degree or more; the degree is 3 unless it is given"
        if fault:
            raise FormulaError(fault, text, at.position)


def _numbers(call: str, options: list[list[Token]]) -> dict[str, int] | None:
    """Return the whole numbers that `call` takes, each once, by name or the first by its place; None if it does not."""
    values: dict[str, int] = {}
    for place, option in enumerate(options):
        known = _NUMBERS.get(call, ())
        name = known[0] if known and len(option) == 1 and place == 0 else option[0].text if len(option) == 3 else ""
        joined = len(option) == 1 or option[1].text == "="
        if name not in known or name in values or not joined or not re.fullmatch("[1-9][0-9]?", option[-1].text):
            return None
        values[name] = int(option[-1].text)
    return values


def _open_sums(tokens: list[Token], text: str) -> list[Token]:
    """Remove parentheses that only group a sum: R removes an intercept from within them, as in ``x + (z - 1)``."""
    flat: list[Token] = []
    for sign, term in split_terms(tokens):
        if not any(token.text in ("|", "||") for token in term):  # a bar's own parentheses stay
            if sign == "+" and is_wrapped(term):
                term = _open_sums(term[1:-1], text)
            else:
                _refuse_numbers(term, text)
        if sign == "-" or (flat and term[0].text != "-"):
            flat.append(Token("op", sign, term[0].position))
        flat += term
    return flat


def _refuse_numbers(term: list[Token], text: str) -> None:
    """Refuse a minus within parentheses that are multiplied, as in ``(z - 1) * x``, and 0 and 1 as factors."""
    opened: list[bool] = []  # for each open parenthesis, whether it is within a call; calls may compute
    for i, token in enumerate(term):
        fault = ""
        if token.text == "(":
            opened.append(any(opened) or (i > 0 and term[i - 1].kind == "name"))
        elif token.text == ")":
            opened.pop()
        elif any(opened):
            continue
        elif opened and token.text in ("-", "0"):
            fault = "a term or the intercept can be removed only outside parentheses that are multiplied"
        elif token.kind == "number" and len(term) > 1 and term[i - 1].text not in ("^", "**"):
            fault = "0 and 1 (without or with intercept) are added or removed, not multiplied"
        if fault:
            raise FormulaError(fault, text, token.position)


def _refuse_bars(tokens: list[Token], text: str) -> None:
    stray = next((token for token in tokens if token.text in ("|", "||")), None)
    if stray:
        raise FormulaError(
            "a group effect stands in its own parentheses and is added, as in '+ (1 | participant)'",
            text,
            stray.position,
        )


def _read_response(tokens: list[Token], text: str) -> Response:
    names = [token.text.strip("`") for token in tokens if token.kind in ("name", "quoted")]
    shape = "".join("n" if token.kind in ("name", "quoted") else token.text for token in tokens)
    if shape == "n":
        return Response(names[0])
    if shape == "n(n,n)" and names[0] == "cbind":
        return Response(names[1], failures=names[2])
    if shape == "n|n(n)" and names[1] == "trials":
        return Response(names[0], trials=names[2])
    raise FormulaError(
        "the response is one column, 'cbind(successes, failures)' or 'successes | trials(total)'",
        text,
        tokens[0].position,
    )


def _read_bar(inside: list[Token], at: int, text: str) -> list[Bar]:
    left, bar, right = inside[:at], inside[at], inside[at + 1 :]
    while is_wrapped(right):
        right = right[1:-1]
    names, joints = right[::2], right[1::2]
    wrong = next((t for t in joints if t.text not in (":", "/")), None)
    wrong = wrong or next((t for t in names if t.kind not in ("name", "quoted")), None)
    if wrong:
        raise FormulaError(
            "a group is a column, or columns joined by ':' (combined) or '/' (nested)", text, wrong.position
        )
    _refuse_bars(left, text)
    _check_calls(left, text)
    left = _open_sums(left, text)
    factors = tuple(token.text.strip("`") for token in names)
    # a/b is a + a:b: every slash ends one group and starts a finer one.
    ends = [i + 1 for i, joint in enumerate(joints) if joint.text == "/"] + [len(names)]
    return [Bar(_render(left, code=True), factors[:end], bar.text == "|") for end in ends]


def _variables(tokens: list[Token]) -> tuple[str, ...]:
    """Return column names: every name that is no call, no keyword argument and no coding."""
    return tuple(dict.fromkeys(t.text.strip("`") for i, t in enumerate(tokens) if _is_variable(tokens, i)))


def _is_variable(tokens: list[Token], i: int) -> bool:
    follow = tokens[i + 1].text if i + 1 < len(tokens) else ""
    return tokens[i].kind == "quoted" or (
        tokens[i].kind == "name" and follow not in ("(", "=") and not _is_coding(tokens, i)
    )


def _is_coding(tokens: list[Token], i: int) -> bool:
    """Whether token `i` is the second argument of ``C(column, coding)``."""
    return i >= 4 and tokens[i - 1].text == "," and tokens[i - 3].text == "(" and tokens[i - 4].text == "C"


def _render(tokens: list[Token], *, code: bool = False) -> str:
    """Write tokens as text with R's spacing, or (`code`) as what the coding library reads, columns in backticks."""
    out = ""
    calls: list[str] = []  # for each open parenthesis, the call it belongs to, or nothing
    for i, token in enumerate(tokens):
        piece = token.text
        if piece == "(":
            calls.append(tokens[i - 1].text if i and is_call(tokens, i - 1) else "")
        elif piece == ")":
            calls.pop()
        computes = any(calls) and not set(calls) & {"C", *_NUMBERS}
        if code and computes and re.fullmatch("[0-9]+", piece):
            piece += ".0"  # Python would work out 9^9^9 in whole numbers, for ever; decimals overflow at once
        elif code and _is_variable(tokens, i):
            piece = f"`{piece.strip('`')}`"
        elif code and piece == "^":
            piece = "**"  # within a call the library would evaluate Python, where ^ is exclusive or
        elif code and _is_coding(tokens, i):
            piece = CODINGS[piece]
        before = tokens[i - 1] if i else None
        unary = piece == "-" and (before is None or (before.kind == "op" and before.text != ")"))
        if piece in ("+", "-", "*", "/", "~", "|", "||", "=") and not unary:
            out = f"{out.rstrip()} {piece} "
        elif piece == ",":
            out += ", "
        else:
            out += piece
    return out.strip()
