"""Specifications: the analyses of a study that could be defended, as a grid of choices.

In: the tables of a study file.  Out: dimensions with their choices, the study's own first, and every combination of
them as a formula, a family and rules of exclusion.  Knows no trials and no fit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psychostats.errors import InputError, nearest
from psychostats.families import ANSWERS, resolve_family
from psychostats.family import Family
from psychostats.formula import CODINGS, parse_formula
from psychostats.rewriting import (
    Group,
    Parts,
    names_in,
    read_fixed,
    read_groups,
    recode,
    take_apart,
    without_column,
    without_interaction,
)
from psychostats.rules import Exclusions
from psychostats.settings import EffectsTable, FamilyTable, ModelTable, MultiverseTable

DIMENSIONS = ("exclusions", "fixed", "codings", "families", "groups")
OWN = "as the study"
"""What the study's own choice is called where nothing else names it."""
NO_RULES = "none"
# What a difference in the mean of answers of 0 and 1, or of measurements, can be had from.
_OF_ANSWERS, _OF_MEASUREMENTS = (*ANSWERS, "gaussian"), ("gaussian",)
_LONGEST = 40  # letters of a choice that are its label as they stand
MOST = 100_000
"""Specifications beyond which a grid is refused, ``assumed``: its tables would be of no use to anybody."""


@dataclass(frozen=True)
class Choice:
    """One way to do one thing.

    Parameters
    ----------
    label
        What it is called.
    value
        Changes to the rules (None for no rule at all), a fixed part, codings by column, a family in full, or groups.
    words
        What it says, for the table of choices.
    """

    label: str
    value: Any
    words: str


@dataclass(frozen=True)
class Dimension:
    """One thing that can be done in several ways, the study's own first."""

    name: str
    choices: tuple[Choice, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """What its choices are called."""
        return tuple(choice.label for choice in self.choices)


@dataclass(frozen=True)
class Specification:
    """One analysis.

    Parameters
    ----------
    number
        Its place in the grid, from 1; the first is the study's own.
    labels
        The choice of each dimension.
    formula
        What is fitted; codings stand in it only where they make another model.
    family
        ``family, link, guess, lapse``.
    """

    number: int
    labels: Mapping[str, str]
    formula: str
    family: Mapping[str, Any]


def find_dimensions(
    models: Sequence[ModelTable],
    exclusions: Mapping[str, Any],
    effects: EffectsTable,
    asked: MultiverseTable,
    removed: Collection[str] = (),
) -> tuple[Dimension, ...]:
    """Return the dimensions of a study's multiverse, each with the study's own choice first.

    Parameters
    ----------
    models
        The study's models; the first is what others are alternatives of.
    exclusions
        The study's ``[exclusions]``.
    effects
        Which contrast is asked about; its factor must be a predictor of every choice.
    asked
        ``[multiverse]``; of what it leaves out, a default is made.
    removed
        Rules that removed anything, each of which the default does without in turn.

    Raises
    ------
    InputError
        If a choice cannot be read, names what does not exist, or is called like another; the table and the label are
        named.
    """
    main = models[0]
    parts = take_apart(main.formula)
    found = (
        _exclusions(exclusions, asked.exclusions, removed),
        _fixed(parts, effects, asked.fixed),
        _codings(parts, effects.factor, asked.codings),
        _families(models, asked.families),
        _groups(parts, asked.groups),
    )
    _check_pairs(found, asked.without)
    return found


def count_grid(dimensions: Sequence[Dimension]) -> int:
    """Return how many combinations there are."""
    return math.prod(len(one.choices) for one in dimensions)


def make_grid(
    dimensions: Sequence[Dimension], response: str, without: Sequence[tuple[str, str]] = (), *, invariant: bool = True
) -> Iterator[Specification]:
    """Yield every combination of choices, the study's own first.

    Parameters
    ----------
    dimensions
        As `find_dimensions` returns them.
    response
        Left side of every formula.
    without
        ``[multiverse] without``: combinations with both choices of a pair are left out.
    invariant
        A coding makes another model only where a group effect has uncorrelated slopes (``||``) of that column, as it
        does under maximum likelihood: elsewhere the columns span the same space, and an unstructured covariance takes
        up the change.  False where priors of single coefficients depend on it.
    """
    number, formulas = 0, dict[tuple[str, str, str], str]()
    for combined in itertools.product(*(one.choices for one in dimensions)):
        chosen = {one.name: choice for one, choice in zip(dimensions, combined, strict=True)}
        names = {f"{name}.{choice.label}" for name, choice in chosen.items()}
        if any(set(pair) <= names for pair in without):
            continue
        number += 1
        labels = {name: choice.label for name, choice in chosen.items()}
        key = (labels["fixed"], labels["codings"], labels["groups"])
        if key not in formulas:
            values = [chosen[name].value for name in ("fixed", "codings", "groups")]
            formulas[key] = _compose(response, *values, invariant=invariant)
        yield Specification(number, labels, formulas[key], chosen["families"].value)


def _compose(
    response: str, fixed: str, codings: Mapping[str, str], groups: tuple[Group, ...], *, invariant: bool
) -> str:
    """Write a formula; group effects in one order, so that the same model is the same text."""
    apart = [group for group in groups if group.bar == "||"]
    used = {name: how for name, how in codings.items() if not invariant or any(one.names(name) for one in apart)}
    if used:
        fixed = recode(fixed, used)
        groups = tuple(Group(recode(one.terms, used), one.bar, one.group) for one in groups)
    return Parts(response, fixed, tuple(sorted(groups, key=lambda one: one.text))).text


# The dimensions --------------------------------------------------------------------------------------------------


def _exclusions(
    own: Mapping[str, Any], given: Mapping[str, Mapping[str, Any] | str] | None, removed: Collection[str]
) -> Dimension:
    if given is None:
        made: dict[str, Mapping[str, Any] | str] = {"all rules": {}}
        if removed:
            made["no rules"] = NO_RULES
        if len({*Exclusions.from_table(own).active, *removed} - {"missing_response"}) > 1:  # else it is no rules again
            made |= {f"without {rule}": {rule: False} for rule in removed}
        given = made
    choices = []
    for label, change in given.items():
        where = _where("exclusions", label)
        if isinstance(change, str):
            choices.append(Choice(label, None, "every main trial with an answer"))
            continue
        try:
            Exclusions.from_table({**own, **change})
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        said = ", ".join(f"no {rule}" if limit is False else f"{rule} = {limit}" for rule, limit in change.items())
        choices.append(Choice(label, dict(change), said or "the study's rules"))
    changed = [choice for choice in choices if choice.value is None or {**own, **choice.value} != dict(own)]
    return _own_first("exclusions", choices, changed, Choice("all rules", {}, "the study's rules"))


def _fixed(parts: Parts, effects: EffectsTable, given: Mapping[str, str] | None) -> Dimension:
    moderator, factor = effects.moderator, effects.factor
    if given is None:
        given = {_short(parts.fixed): parts.fixed}
        if moderator is not None:
            given |= {
                label if len(text) > _LONGEST else text: text
                for label, text in (
                    (f"no interaction with {moderator}", without_interaction(parts.fixed, moderator)),
                    (f"without {moderator}", without_column(parts.fixed, moderator)),
                )
                if text is not None and factor in names_in(text)
            }
    choices = []
    for label, text in given.items():
        where = _where("fixed", label)
        try:
            fixed = read_fixed(text)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if factor not in names_in(fixed):
            near = nearest(factor, names_in(fixed))
            raise InputError(f"{where} does not name '{factor}', the factor of [effects]{near}.")
        if set(names_in(fixed)) & set(names_in(parts.response)):
            raise InputError(f"{where} names the response, {parts.response}.")
        choices.append(Choice(label, fixed, fixed))
    changed = [choice for choice in choices if choice.value != parts.fixed]
    return _own_first("fixed", choices, changed, Choice(_short(parts.fixed), parts.fixed, parts.fixed))


def _codings(parts: Parts, factor: str, given: Mapping[str, Mapping[str, str]] | None) -> Dimension:
    known = list(dict.fromkeys([*names_in(parts.fixed), *_slopes(parts)]))
    own = "treatment" if "C(" not in parts.text else OWN
    if given is None:
        given = {own: {}} | ({"sum": {factor: "sum"}} if own == "treatment" else {})
    choices = []
    for label, codings in given.items():
        where = _where("codings", label)
        for column, how in codings.items():
            if column not in known:
                raise InputError(
                    f"{where} names '{column}', which is no predictor of the first model{nearest(column, known)}; "
                    f"they are {', '.join(known)}."
                )
            if how not in CODINGS:
                raise InputError(
                    f"{where} codes '{column}' by '{how}'{nearest(how, CODINGS)}; allowed are {', '.join(CODINGS)}."
                )
        try:
            recode(parts.fixed, codings)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        said = ", ".join(f"C({column}, {how})" for column, how in codings.items())
        choices.append(Choice(label, dict(codings), said or "as the study codes factors"))
    changed = [choice for choice in choices if choice.value]
    return _own_first("codings", choices, changed, Choice(own, {}, "as the study codes factors"))


def _families(models: Sequence[ModelTable], given: Mapping[str, FamilyTable] | None) -> Dimension:
    main = models[0]
    own = FamilyTable().of(main)
    families = _OF_ANSWERS if own["family"] in ANSWERS else _OF_MEASUREMENTS
    if own["family"] not in families:
        raise InputError(
            f"a multiverse cannot be made of model '{main.name}', whose family is {own['family']}; the first model "
            "must be of answers of 0 and 1, or gaussian."
        )
    if given is None:
        tables = [FamilyTable().of(model) for model in models]
        tables = [table for table in tables if table["family"] in families]
        if _resolve(own).link == "logit":
            tables.append(own | {"link": "probit"})
        values = {_describe(table): table for table in tables}
    else:
        values = {label: table.of(main) for label, table in given.items()}
    choices = []
    for label, table in values.items():
        where = _where("families", label)
        if table["family"] not in families:
            near = nearest(table["family"], families)
            allowed = ", ".join(families)
            raise InputError(f"{where}: the family '{table['family']}' is not allowed{near}; allowed are {allowed}.")
        try:
            family = _resolve(table)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        choices.append(Choice(label, table, family.describe()))
    same = _resolve(own)
    changed = [choice for choice in choices if _resolve(choice.value) != same]
    return _own_first("families", choices, changed, Choice(_describe(own), own, same.describe()))


def _groups(parts: Parts, given: Mapping[str, str] | None) -> Dimension:
    own = _text_of(parts.groups)
    if given is None:
        given = {OWN: own} | _simpler(parts.groups)
    choices = []
    for label, text in given.items():
        try:
            groups = read_groups(text)
        except InputError as error:
            raise InputError(f"{_where('groups', label)}: {error}") from error
        choices.append(Choice(label, groups, _text_of(groups) or "no group effects"))
    changed = [choice for choice in choices if choice.words != (own or "no group effects")]
    return _own_first("groups", choices, changed, Choice(OWN, parts.groups, own or "no group effects"))


def _simpler(groups: tuple[Group, ...]) -> dict[str, str]:
    """Return simpler group effects than these: without correlations, without the slopes of each, without any."""
    sloped = [group for group in groups if group.has_slopes]
    made = {}
    if any(group.bar == "|" for group in sloped):
        made["no correlations (||)"] = tuple(
            Group(one.terms, "||" if one.has_slopes else one.bar, one.group) for one in groups
        )
    for without in sloped if len(sloped) > 1 else ():
        made[f"no slopes of {without.group}"] = tuple(
            Group("1", "|", one.group) if one == without else one for one in groups
        )
    if sloped:
        made["intercepts only"] = tuple(dict.fromkeys(Group("1", "|", one.group) for one in groups))
    own = _text_of(groups)
    return {label: text for label, value in made.items() if (text := _text_of(value)) != own}


def _own_first(name: str, choices: Sequence[Choice], changed: Sequence[Choice], own: Choice) -> Dimension:
    """Put the study's own choice first, under its label where the table names it."""
    same = [choice for choice in choices if choice not in changed]
    if not same and own.label.casefold() in {choice.label.strip().casefold() for choice in changed}:
        raise InputError(f"{_where(name, own.label)} is what the study's own choice is called; give it another label.")
    held = [*(same or [own]), *changed]
    seen: dict[str, str] = {}
    for choice in held:
        label = choice.label.strip()
        if not label:
            raise InputError(f"[multiverse.{name}] has a choice without a label.")
        if label.casefold() in seen:
            raise InputError(f"[multiverse.{name}] has '{seen[label.casefold()]}' and '{label}', which are one label.")
        seen[label.casefold()] = label
    return Dimension(name, tuple(Choice(one.label.strip(), one.value, one.words) for one in held))


def _check_pairs(dimensions: Sequence[Dimension], without: Sequence[tuple[str, str]]) -> None:
    known = [f"{one.name}.{label}" for one in dimensions for label in one.labels]
    own = {f"{one.name}.{one.labels[0]}" for one in dimensions}
    for pair in without:
        for name in pair:
            if name not in known:
                raise InputError(
                    f"[multiverse] without names '{name}', which is no choice{nearest(name, known)}; write "
                    "'dimension.label'."
                )
        if set(pair) <= own:
            raise InputError(f"[multiverse] without leaves out {pair[0]} with {pair[1]}, which is the study's own.")


def _slopes(parts: Parts) -> list[str]:
    return [name for group in parts.groups for name in names_in(group.terms)]


def _where(name: str, label: str) -> str:
    return f"[multiverse.{name}] '{label}'"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else OWN


def _text_of(groups: Sequence[Group]) -> str:
    """Write group effects in one order, blanks normalised."""
    if not groups:
        return ""
    whole = " + ".join(sorted(group.text for group in groups))
    return parse_formula(f"y ~ 1 + {whole}").text.partition("+")[2].strip()


def _resolve(table: Mapping[str, Any]) -> Family:
    return resolve_family(table["family"], **{key: table[key] for key in ("link", "guess", "lapse")})


def _describe(table: Mapping[str, Any]) -> str:
    family = _resolve(table)
    rates = [
        f"{name} {value:g}" for name in ("guess", "lapse") if (value := table[name]) and not isinstance(value, str)
    ]
    shown = [rate for rate in rates if rate != "guess 0.5"]
    return " ".join([table["family"], family.link, *shown])
