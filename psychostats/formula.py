"""R-style formula text into its parts: the response, the fixed part, the group effects.

In: text such as ``correct ~ representation * depth + (1 + representation | participant)``.  Out: a frozen `Formula`
whose parts are ready for coding (design.py).  Evaluates nothing: every token is checked against a whitelist here,
because the library that codes the matrices would evaluate any Python it is handed.  Knows no data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from psychostats.errors import FormulaError, nearest

ALLOWED_CALLS = ("C", "I", "log", "exp", "sqrt", "scale", "center", "poly", "bs", "mo", "offset", "cbind", "trials")
CODINGS = {"treatment": "contr.treatment", "sum": "contr.sum", "sdif": "contr.diff"}

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<name>[^\W\d][\w.]*|\.[^\W\d][\w.]*)
      | (?P<quoted>`[^`]+`)
      | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)
      | (?P<op>\|\||\*\*|[-+*/:^~|(),=])""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    """One piece of a formula: its kind, its text and where it starts."""

    kind: str
    text: str
    position: int


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
        The left side, ready for coding, for example ``1 + representation``.
    group
        Name of the grouping factor; nested factors are joined by colons, ``batch:cask``.
    correlated
        True for ``|``; False for ``||``, which takes every column as independent, those of factors included.
    """

    terms: str
    group: str
    correlated: bool

    @property
    def factors(self) -> tuple[str, ...]:
        """The columns whose combination makes the group."""
        return tuple(self.group.split(":"))


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
        Fixed part, ready for coding; an intercept is implied unless it says ``0`` or ``-1``.
    bars
        Group effects in the order written, nesting expanded.
    offsets
        Arguments of ``offset()``, ready for coding.
    variables
        Every column that is named, response and groups included.
    """

    text: str
    response: Response
    fixed: str
    bars: tuple[Bar, ...]
    offsets: tuple[str, ...]
    variables: tuple[str, ...]

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
    text = " ".join(text.split())
    tokens = _tokenize(text)
    tildes = [i for i, token in enumerate(tokens) if token.text == "~"]
    if len(tildes) != 1 or tildes[0] == 0:
        raise FormulaError(f"a formula has one response, one '~' and its predictors, as in 'y ~ x'; got '{text}'.")
    response = _read_response(tokens[: tildes[0]], text)
    fixed: list[str] = []
    bars: list[Bar] = []
    offsets: list[str] = []
    for sign, term in _split_terms(tokens[tildes[0] + 1 :], text):
        inside = term[1:-1] if _is_wrapped(term) else []
        bar_at = next((i for i in _top_level(inside) if inside[i].text in ("|", "||")), None)
        if bar_at is not None:
            if sign == "-":
                raise FormulaError("a group effect can be added but not removed", text, term[0].position)
            bars.extend(_read_bar(inside, bar_at, text))
        elif term[0].text == "offset" and _is_wrapped(term[1:]):
            if sign == "-":
                raise FormulaError("an offset can be added but not removed", text, term[0].position)
            offsets.append(_render(term[2:-1], text))
        else:
            stray = next((t for t in term if t.text in ("|", "||")), None)
            if stray:
                raise FormulaError(
                    "a group effect stands in its own parentheses and is added, as in '+ (1 | participant)'",
                    text,
                    stray.position,
                )
            fixed.append(f"{sign} {_render(term, text)}" if fixed or sign == "-" else _render(term, text))
    seen: set[tuple[str, str]] = set()
    for bar in bars:
        if (bar.terms, bar.group) in seen:
            raise FormulaError(f"the group effect ({bar.terms} | {bar.group}) stands twice in '{text}'.")
        seen.add((bar.terms, bar.group))
    return Formula(
        text=_render(tokens, text, code=False),
        response=response,
        fixed=" ".join(fixed) or "1",
        bars=tuple(bars),
        offsets=tuple(offsets),
        variables=_variables(tokens),
    )


def _tokenize(text: str) -> list[Token]:
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise FormulaError(
                f"'{text[position]}' cannot stand in a formula; allowed are names, numbers, + - * / : ^ ~ | || ( ) "
                f"and the calls {', '.join(ALLOWED_CALLS)}",
                text,
                position,
            )
        kind = str(match.lastgroup)
        if kind != "space":
            tokens.append(Token(kind, match.group(), position))
        position = match.end()
    depth = 0
    opened: list[int] = []
    for i, token in enumerate(tokens):
        if token.text == "(":
            opened.append(token.position)
            previous = tokens[i - 1] if i else None
            if previous and previous.kind == "name" and previous.text not in ALLOWED_CALLS:
                raise FormulaError(
                    f"the call '{previous.text}()' is not allowed{nearest(previous.text, ALLOWED_CALLS)}; allowed "
                    f"are {', '.join(ALLOWED_CALLS)}",
                    text,
                    previous.position,
                )
            depth += 1
        elif token.text == ")":
            depth -= 1
            if depth < 0:
                raise FormulaError("this parenthesis was never opened", text, token.position)
            opened.pop()
    if opened:
        raise FormulaError("this parenthesis is never closed", text, opened[-1])
    return tokens


def _top_level(tokens: list[Token]) -> list[int]:
    """Return the places of tokens outside every parenthesis."""
    depth, places = 0, []
    for i, token in enumerate(tokens):
        if token.text == ")":
            depth -= 1
        if depth == 0:
            places.append(i)
        if token.text == "(":
            depth += 1
    return places


def _is_wrapped(tokens: list[Token]) -> bool:
    """Whether one pair of parentheses encloses all of `tokens`."""
    return len(tokens) > 2 and tokens[0].text == "(" and _top_level(tokens) == [0, len(tokens) - 1]


def _split_terms(tokens: list[Token], text: str) -> list[tuple[str, list[Token]]]:
    """Split at every ``+`` and ``-`` outside parentheses into (sign, term)."""
    if not tokens:
        raise FormulaError(f"nothing stands right of '~' in '{text}'; write '~ 1' for an intercept alone.")
    terms: list[tuple[str, list[Token]]] = []
    sign, term = "+", list[Token]()
    top = set(_top_level(tokens))
    for i, token in enumerate(tokens):
        if i in top and token.text in ("+", "-"):
            if term:
                terms.append((sign, term))
            elif i > 0:
                raise FormulaError("a term is missing before this sign", text, token.position)
            sign, term = token.text, []
        else:
            term.append(token)
    if not term:
        raise FormulaError("a term is missing after this sign", text, tokens[-1].position)
    terms.append((sign, term))
    return terms


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
    left, right = inside[:at], inside[at + 1 :]
    bar = inside[at]
    while _is_wrapped(right):
        right = right[1:-1]
    if not left or not right:
        raise FormulaError("a group effect has terms left of the bar and a group right of it", text, bar.position)
    wrong = next((t for t in left if t.text in ("|", "||", "~")), None)
    wrong = wrong or next(
        (
            t
            for i, t in enumerate(right)
            if (t.kind in ("name", "quoted")) == bool(i % 2) or t.text not in (":", "/") and i % 2
        ),
        None,
    )
    if wrong or len(right) % 2 == 0:
        raise FormulaError(
            "a group is a column, or columns joined by ':' (combined) or '/' (nested)",
            text,
            (wrong or right[-1]).position,
        )
    names = [token.text.strip("`") for token in right[::2]]
    joints = [token.text for token in right[1::2]]
    # a/b is a + a:b: every slash ends one group and starts a finer one.
    groups = [":".join(names[: i + 1]) for i in range(len(names)) if i == len(names) - 1 or joints[i] == "/"]
    terms = _render(left, text)
    return [Bar(terms=terms, group=group, correlated=bar.text == "|") for group in groups]


def _variables(tokens: list[Token]) -> tuple[str, ...]:
    """Return column names: every name that is no call, no keyword argument and no coding."""
    names: list[str] = []
    for i, token in enumerate(tokens):
        follow = tokens[i + 1].text if i + 1 < len(tokens) else ""
        if token.kind == "quoted":
            names.append(token.text.strip("`"))
        elif token.kind == "name" and follow not in ("(", "=") and not _is_coding(tokens, i):
            names.append(token.text)
    return tuple(dict.fromkeys(names))


def _is_coding(tokens: list[Token], i: int) -> bool:
    """Whether token `i` is the second argument of ``C(column, coding)``."""
    return i >= 4 and tokens[i - 1].text == "," and tokens[i - 3].text == "(" and tokens[i - 4].text == "C"


def _render(tokens: list[Token], text: str, *, code: bool = True) -> str:
    """Write tokens as text: R's way of spacing, or (`code`) what the coding library reads."""
    calls: list[bool] = []  # for each open parenthesis, whether it belongs to a call
    out = ""
    for i, token in enumerate(tokens):
        piece = token.text
        previous = tokens[i - 1] if i else None
        if piece == "(":
            called = bool(previous and previous.kind == "name" and previous.text in ALLOWED_CALLS)
            calls.append(called or any(calls))
        elif piece == ")":
            calls.pop()
        if code:
            if token.kind == "name" and "." in piece:
                piece = f"`{piece}`"
            if piece == "^":
                piece = "**"  # within a call the library would evaluate Python, where ^ is exclusive or
            if token.text in ("~", "|", "||") and any(calls):
                raise FormulaError(f"'{token.text}' cannot stand inside a call", text, token.position)
            if token.text == "mo" and tokens[i + 1 : i + 2] and tokens[i + 1].text == "(":
                raise FormulaError(
                    "monotonic effects, mo(), cannot be fitted by this version; take the column as a factor or a "
                    "number",
                    text,
                    token.position,
                )
            if token.text in ("offset", "cbind", "trials") and tokens[i + 1 : i + 2] and tokens[i + 1].text == "(":
                place = "as a term of its own" if token.text == "offset" else "in the response"
                raise FormulaError(f"{token.text}() stands only {place}", text, token.position)
            if token.kind == "name" and _is_coding(tokens, i):
                if piece not in CODINGS:
                    raise FormulaError(
                        f"the coding '{piece}' is unknown; allowed are {', '.join(CODINGS)}", text, token.position
                    )
                piece = CODINGS[piece]
            if (
                token.kind == "number"
                and not any(calls)
                and token.text not in ("0", "1")
                and not (previous and previous.text in ("^", "**"))
            ):
                raise FormulaError("only 0 and 1 can stand as terms (without or with intercept)", text, token.position)
        unary = piece == "-" and (previous is None or previous.text in ("(", ",", "=", "~"))
        if piece in ("+", "-", "*", "/", "~", "|", "||", "=") and not unary:
            out = f"{out.rstrip()} {piece} "
        elif piece == ",":
            out = f"{out.rstrip()}, "
        else:
            out += piece
    return out.strip()
