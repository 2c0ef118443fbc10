"""What is to be fitted: formula, family and priors, as text in and text out.

In: the user's words.  Out: a frozen `ModelSpec`, the same after a round through TOML.  Holds no data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psychostats.errors import InputError
from psychostats.families import resolve_family
from psychostats.family import Family
from psychostats.formula import Formula, parse_formula, with_disc
from psychostats.priors import parse_prior


@dataclass(frozen=True)
class ModelSpec:
    """A model without its data.

    Parameters
    ----------
    formula
        Parsed formula.
    family
        Response family.
    priors
        The user's overrides, as texts ``CLASS ~ DIST``.
    """

    formula: Formula
    family: Family
    priors: tuple[str, ...] = ()

    def to_table(self) -> dict[str, Any]:
        """Return the spec as a table for TOML."""
        return {
            "formula": self.formula.text,
            "family": self.family.name,
            "link": self.family.link,
            "guess": self.family.guess,
            "lapse": self.family.lapse_asked,
            **self.disc,
            "priors": list(self.priors),
        }

    @property
    def disc(self) -> dict[str, str]:
        """What disc depends on, by its key; nothing where it is the same everywhere, so that other tables stay."""
        return {"disc": self.formula.disc} if self.formula.disc else {}

    @staticmethod
    def from_table(table: Mapping[str, Any]) -> ModelSpec:
        """Read a table that `to_table` wrote."""
        guess = table["guess"] if table["family"] == "afc" else None
        return specify(
            table["formula"],
            family=table["family"],
            link=table["link"],
            guess=guess,
            lapse=table["lapse"],
            disc=table.get("disc"),
            priors=table["priors"],
        )


def specify(
    formula: str,
    *,
    family: str = "bernoulli",
    link: str | None = None,
    guess: float | None = None,
    lapse: float | str | None = None,
    disc: str | None = None,
    priors: Sequence[str] = (),
) -> ModelSpec:
    """Resolve the user's words into a `ModelSpec`.

    Parameters
    ----------
    formula
        R-style formula.
    family, link, guess, lapse
        See `psychostats.families.resolve_family`.
    disc
        Columns by which the variance of ratings differs (family cumulative): a name, or the right side of a formula.
        Coded as the fixed part, without its intercept: log disc is 0 where all of them are at the reference.
    priors
        Overrides ``CLASS ~ DIST``; see `psychostats.priors.resolve_priors`.

    Raises
    ------
    InputError
        If any of them cannot be read, or if they do not fit together.
    """
    parsed = parse_formula(formula)
    resolved = resolve_family(family, link=link, guess=guess, lapse=lapse, unequal=disc is not None)
    parsed = parsed if disc is None else with_disc(parsed, disc)
    if resolved.name == "bernoulli" and parsed.response.counts:
        raise InputError(f"'{parsed.text}' models counts; use the family binomial (bernoulli is for one trial a row).")
    if not resolved.binary and parsed.response.counts:
        raise InputError(f"'{parsed.text}' models counts; the family {resolved.name} takes one number a row.")
    for text in priors:
        parse_prior(text)
    return ModelSpec(parsed, resolved, tuple(" ".join(text.split()) for text in priors))
