"""Equations written as plain lines, read into symbols that any format can set.

In: a line such as ``η_i = β_0 + u_(0, participant[i])`` and values for its placeholders.  Out: nested plain
dictionaries.  Knows nothing of HTML or PDF.
"""

from __future__ import annotations

import re
from typing import Any

from psychostats.errors import ReportError

Symbol = dict[str, Any]
"""``kind`` (``variable``, ``word``, ``number``, ``relation``, ``binary``, ``operator``, ``fence``) with ``text``;
``space``; or ``scripts`` with the lists ``base``, ``sub`` and ``sup``."""

_TOKEN = re.compile(r"\s+|\{(\d+)\}|[<>]=|\d+(?:\.\d+)?|[^\W\d_]+|.")
_RELATIONS = "=∼<>≤≥≠∈≈"
_BINARY = "+−±·×"
_FENCES = "()[]|"
_SIGNS = {"-": "−", "~": "∼", "*": "·", "<=": "≤", ">=": "≥"}
_ORDINARY = ("variable", "word", "number")


def read_line(source: str, values: tuple[str, ...]) -> dict[str, list[Symbol]]:
    """Return the symbols of one line as ``left``, ``relation`` and ``right`` of its first relation.

    Raises
    ------
    ReportError
        If a bracket, script or placeholder has no counterpart.
    """
    symbols = read_symbols(source, values)
    for i, symbol in enumerate(symbols):
        if symbol["kind"] == "relation":
            return {"left": symbols[:i], "relation": [symbol], "right": symbols[i + 1 :]}
    return {"left": [], "relation": [], "right": symbols}


def read_symbols(source: str, values: tuple[str, ...]) -> list[Symbol]:
    """Return the symbols of `source`; single letters are variables, longer words are upright."""
    tokens = [match for match in _TOKEN.finditer(source) if not match.group().isspace()]
    symbols: list[Symbol] = []
    at = 0
    while at < len(tokens):
        text = tokens[at].group()
        if text in "_^":
            script, at = _script(tokens, at + 1, source, values)
            if not symbols:
                raise ReportError(f"'{text}' in the equation '{source}' follows no symbol.")
            if symbols[-1]["kind"] != "scripts":
                symbols[-1] = {"kind": "scripts", "base": [symbols[-1]], "sub": [], "sup": []}
            symbols[-1]["sub" if text == "_" else "sup"] = script
        else:
            symbol = _symbol(tokens[at], source, values)
            symbols += [{"kind": "space"}, symbol] if symbols and _stand_apart(symbols[-1], symbol) else [symbol]
            at += 1
    return symbols


def _script(tokens: list[re.Match[str]], at: int, source: str, values: tuple[str, ...]) -> tuple[list[Symbol], int]:
    """The next symbol, or all within the next round brackets, and the place after it."""
    if at >= len(tokens):
        raise ReportError(f"the equation '{source}' ends where a script should follow.")
    if tokens[at].group() != "(":
        return [_symbol(tokens[at], source, values)], at + 1
    depth = 0
    for end in range(at, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[end].group(), 0)
        if depth == 0:
            inside = source[tokens[at].end() : tokens[end].start()]
            return read_symbols(inside, values), end + 1
    raise ReportError(f"the equation '{source}' opens a bracket that it does not close.")


def _stand_apart(left: Symbol, right: Symbol) -> bool:
    """Whether a product needs a thin space: next to a word, but not between a function and its bracket."""
    head = left["base"][0] if left["kind"] == "scripts" else left
    ordinary = head["kind"] in _ORDINARY or head.get("text") in (")", "]")
    return ordinary and right["kind"] in _ORDINARY and "word" in (head["kind"], right["kind"])


def _symbol(token: re.Match[str], source: str, values: tuple[str, ...]) -> Symbol:
    text = _SIGNS.get(token.group(), token.group())
    if token.group(1):
        if int(token.group(1)) >= len(values):
            raise ReportError(f"the equation '{source}' has no value for {text}.")
        return {"kind": "word", "text": values[int(token.group(1))]}
    if text[0].isdigit():
        kind = "number"
    elif text.isalpha() and text != "∑":
        kind = "variable" if len(text) == 1 else "word"
    elif text in _RELATIONS:
        kind = "relation"
    elif text in _BINARY:
        kind = "binary"
    else:
        kind = "fence" if text in _FENCES else "operator"
    return {"kind": kind, "text": text}
