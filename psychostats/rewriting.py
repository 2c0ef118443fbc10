"""Formulas rewritten: taken apart as they were written, with another coding, and with fewer terms.

In: text of formulas that can be read.  Out: text of formulas.  Knows no data, and not which analyses are defensible.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from psychostats.errors import FormulaError
from psychostats.formula import parse_formula
from psychostats.tokens import Token, is_call, is_wrapped, split_terms, tokenize, top_level


@dataclass(frozen=True)
class Group:
    """A group effect as it was written, ``(terms bar group)``."""

    terms: str
    bar: str
    group: str

    @property
    def has_slopes(self) -> bool:
        """Whether it is more than an intercept."""
        return self.terms.strip() != "1"

    @property
    def text(self) -> str:
        """What stands in a formula."""
        return f"({self.terms} {self.bar} {self.group})"

    def names(self, column: str) -> bool:
        """Whether a column stands left of its bar."""
        return column in names_in(self.terms)


@dataclass(frozen=True)
class Parts:
    """A formula in its parts, as they were written."""

    response: str
    fixed: str
    groups: tuple[Group, ...]

    @property
    def text(self) -> str:
        """The whole formula, blanks normalised."""
        right = " + ".join([self.fixed, *(group.text for group in self.groups)])
        return parse_formula(f"{self.response} ~ {right}").text


def take_apart(text: str) -> Parts:
    """Return the parts of a formula.

    Parameters
    ----------
    text
        A whole formula.

    Raises
    ------
    FormulaError
        If it cannot be read.
    """
    text = parse_formula(text).text
    tokens = tokenize(text)
    tilde = next(i for i, token in enumerate(tokens) if token.text == "~")
    fixed, groups = "", []
    for sign, term in split_terms(tokens[tilde + 1 :]):
        inside = term[1:-1] if is_wrapped(term) else []
        at = next((i for i in top_level(inside) if inside[i].text in ("|", "||")), None)
        if at is None:
            written = _cut(text, term)
            fixed = f"{fixed} {sign} {written}" if fixed else f"{sign.strip('+')}{written}"
        else:
            groups.append(Group(_cut(text, inside[:at]), inside[at].text, _cut(text, inside[at + 1 :])))
    return Parts(_cut(text, tokens[:tilde]), fixed or "1", tuple(groups))


def read_groups(text: str) -> tuple[Group, ...]:
    """Return the group effects of a text that holds nothing else; an empty text has none.

    Raises
    ------
    FormulaError
        If it cannot be read, or names something outside of group effects.
    """
    if not text.strip():
        return ()
    parts = take_apart(f"y ~ {text}")
    if parts.fixed != "1" or not parts.groups:
        raise FormulaError(f"'{text}' holds more than group effects; write for example '(1 | participant)'.")
    return parts.groups


def read_fixed(text: str) -> str:
    """Return the fixed part that a text holds, blanks normalised.

    Raises
    ------
    FormulaError
        If it cannot be read, or has group effects.
    """
    parts = take_apart(f"y ~ {text}")
    if parts.groups:
        raise FormulaError(f"'{text}' has group effects; they stand apart, in [multiverse.groups].")
    return parts.fixed


def recode(text: str, codings: Mapping[str, str]) -> str:
    """Return terms with columns coded in another way.

    Parameters
    ----------
    text
        Terms without a bar.
    codings
        Column -> ``treatment``, ``sum`` or ``sdif``; treatment, the default, is written as the bare column.

    Raises
    ------
    FormulaError
        If a column stands in a call other than ``C()``, which takes no coding.
    """
    tokens, out, i = tokenize(text), list[str](), 0
    calls: list[str] = []
    while i < len(tokens):
        token = tokens[i]
        if token.text == "(":
            calls.append(tokens[i - 1].text if i and is_call(tokens, i - 1) else "")
        elif token.text == ")":
            calls.pop()
        name = _name(tokens, i + 2) if token.text == "C" and is_call(tokens, i) else ""
        if name in codings:
            i = next(j for j in range(i, len(tokens)) if tokens[j].text == ")")
            out.append(_coded(name, codings))
        elif _name(tokens, i) in codings:
            if any(calls):
                raise FormulaError(f"'{token.text}' stands in a call in '{text}', where it takes no coding.")
            out.append(_coded(_name(tokens, i), codings))
        else:
            out.append(token.text)
        i += 1
    return parse_formula(f"y ~ {' '.join(out)}").text.partition("~")[2].strip()


def without_interaction(fixed: str, column: str) -> str | None:
    """Return a fixed part in which a column stands in no product; None where it is the same, or too involved to say."""
    return _rewrite(fixed, column, keep=True)


def without_column(fixed: str, column: str) -> str | None:
    """Return a fixed part without a column; None where it is the same, empty, or too involved to say."""
    return _rewrite(fixed, column, keep=False)


def names_in(text: str) -> tuple[str, ...]:
    """Return the columns that terms without a bar name."""
    tokens = tokenize(text)
    return tuple(dict.fromkeys(name for i in range(len(tokens)) if (name := _name(tokens, i))))


def _rewrite(fixed: str, column: str, *, keep: bool) -> str | None:
    """Take a column out of all products; `keep` it as a term of its own."""
    tokens = tokenize(fixed)
    terms: list[str] = []
    for sign, term in split_terms(tokens):
        places = [i for i in top_level(term) if term[i].kind == "op" and not _closes(term[i])]
        signs = {term[i].text for i in places}
        if sign != "+" or is_wrapped(term) or len(signs) > 1 or not signs <= {"*", ":"}:
            return None
        edges = [-1, *places, len(term)]
        factors = [term[a + 1 : b] for a, b in itertools.pairwise(edges)]
        mine = [_cut(fixed, one) for one in factors if column in names_in(_cut(fixed, one))]
        others = [_cut(fixed, one) for one in factors if column not in names_in(_cut(fixed, one))]
        if not mine:
            terms.append(_cut(fixed, term))
        elif others and signs == {"*"}:
            terms += [" * ".join(others), *(mine if keep else [])]
        elif not others and keep:
            terms.append(_cut(fixed, term))
    made = " + ".join(dict.fromkeys(terms))
    return made if made and made != fixed else None


def _closes(token: Token) -> bool:
    return token.text in ("(", ")")


def _name(tokens: list[Token], i: int) -> str:
    """Return the column that a token names; nothing where it is a call, a keyword, a coding or no name."""
    if i >= len(tokens) or tokens[i].kind not in ("name", "quoted") or is_call(tokens, i):
        return ""
    follow = tokens[i + 1].text if i + 1 < len(tokens) else ""
    coding = i >= 4 and tokens[i - 1].text == "," and tokens[i - 4].text == "C"
    return "" if follow == "=" or coding else tokens[i].text.strip("`")


def _coded(name: str, codings: Mapping[str, str]) -> str:
    written = name if name.isidentifier() else f"`{name}`"
    return written if codings[name] == "treatment" else f"C({written}, {codings[name]})"


def _cut(text: str, tokens: Iterable[Token]) -> str:
    """Return what stands in the text from the first token to the last."""
    held = list(tokens)
    return text[held[0].position : held[-1].position + len(held[-1].text)]
