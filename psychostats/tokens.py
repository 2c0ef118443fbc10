"""Formula text into tokens, and how they nest: calls with their arguments, parentheses, sums and products.

In: text.  Out: tokens with their places, whose parts can be taken apart.  Knows neither what a formula means nor which
of them are allowed, except that nothing but its tokens can be written at all.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from psychostats.errors import FormulaError

ALLOWED_CALLS = ("C", "I", "log", "exp", "sqrt", "scale", "center", "poly", "bs", "mo", "offset", "cbind", "trials")

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<name>[^\W\d][\w.]*|\.[^\W\d][\w.]*)
      | (?P<quoted>`[^`]+`)
      | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)
      | (?P<op>\|\||\*\*|[-+*/:^~|(),=])""",
    re.VERBOSE,
)


_ENDLESS = 10_000  # where counting on would only make a longer number


@dataclass(frozen=True)
class Token:
    """One piece of a formula: its kind, its text and where it starts."""

    kind: str
    text: str
    position: int


def tokenize(text: str) -> list[Token]:
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
    return tokens


def is_call(tokens: list[Token], i: int) -> bool:
    return tokens[i].kind == "name" and i + 1 < len(tokens) and tokens[i + 1].text == "("


def arguments(tokens: list[Token], i: int) -> list[list[Token]]:
    """Return the arguments of the call whose name is token `i`."""
    arguments: list[list[Token]] = [[]]
    depth = 1
    for token in tokens[i + 2 :]:
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0:
            break
        if token.text == "," and depth == 1:
            arguments.append([])
        else:
            arguments[-1].append(token)
    return arguments


def top_level(tokens: list[Token]) -> list[int]:
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


def is_wrapped(tokens: list[Token]) -> bool:
    """Whether one pair of parentheses encloses all of `tokens`."""
    return len(tokens) > 2 and tokens[0].text == "(" and top_level(tokens) == [0, len(tokens) - 1]


def split_terms(tokens: list[Token]) -> list[tuple[str, list[Token]]]:
    """Split at every ``+`` and ``-`` outside parentheses into (sign, term)."""
    terms: list[tuple[str, list[Token]]] = []
    sign, term = "+", list[Token]()
    top = set(top_level(tokens))
    for i, token in enumerate(tokens):
        if i in top and token.text in ("+", "-"):
            if term:
                terms.append((sign, term))
            sign, term = token.text, []
        else:
            term.append(token)
    return [*terms, (sign, term)]


def count_terms(tokens: list[Token]) -> int:
    """Bound the work of multiplying a sum out: its terms, a power counted as the product that it is."""
    return sum(_count_product(term) for _, term in split_terms(tokens))


def _count_product(tokens: list[Token]) -> int:
    parts = _split_at(tokens, ("*", "/"))
    if len(parts) > 1:
        return math.prod(1 + _count_product(part) for part in parts) - 1
    parts = _split_at(tokens, (":",))
    if len(parts) > 1:
        return math.prod(_count_product(part) for part in parts)
    base, *powers = _split_at(tokens, ("^", "**"))
    count = count_terms(_split_at(base[1:-1], ("|", "||"))[0]) if is_wrapped(base) else 1
    for power in powers:
        count = min(count, _ENDLESS) ** int(power[0].text)
    return count


def _split_at(tokens: list[Token], signs: tuple[str, ...]) -> list[list[Token]]:
    """Split at the signs outside every parenthesis."""
    ends = [i for i in top_level(tokens) if tokens[i].text in signs]
    return [tokens[start + 1 : end] for start, end in zip([-1, *ends], [*ends, len(tokens)], strict=True)]
