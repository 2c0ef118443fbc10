"""Two studies in one model: their trials stacked, and how the contrast differs between them.

In: the analysed trials of an old and a new study, and the model that both are asked with.  Out: one table of trials
with the study as a factor, the formula that has it, and a `Comparison`: three fits and what follows.  Knows no file,
no words and no figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from psychostats.effects import contrasts, interactions, marginal_means
from psychostats.errors import InputError
from psychostats.fit import Fit
from psychostats.formula import Formula, as_written
from psychostats.intervals import Interval
from psychostats.pseudonyms import is_pseudonym
from psychostats.settings import EffectsTable, ModelTable

STUDY = "study"
"""The factor that tells the two studies apart."""
POOLED = "pooled"
"""What both together are called."""


@dataclass(frozen=True)
class Stacked:
    """The analysed trials of two studies, one below the other.

    Parameters
    ----------
    rows
        With the factor `STUDY`. People of the two studies are different levels, whatever their ids.
    namesakes
        Ids that occur in both and tell nothing, such as ``p1``: they were taken for different people.
    """

    rows: pd.DataFrame
    namesakes: int


@dataclass(frozen=True)
class Comparison:
    """One experiment of an old study and a new one.

    Parameters
    ----------
    experiment
        Its name.
    fits
        By study, the two apart, and `POOLED`: one model of both with the study as a factor.
    trials, participants
        Analysed, by study.
    means, contrasts, interaction
        Tables of `psychostats.effects` with the column `STUDY`; those of `POOLED` average the studies, each weighed by
        its trials. `contrasts` have the moderator at its mean (``.at`` is ``mean``) and at the values of the study.
    between
        How the contrast differs between the studies, new minus old, by the pooled fit; the moderator at its mean.
    """

    experiment: str
    fits: dict[str, Fit]
    trials: dict[str, int]
    participants: dict[str, int]
    means: pd.DataFrame
    contrasts: pd.DataFrame
    interaction: pd.DataFrame
    between: pd.DataFrame

    @property
    def converged(self) -> bool:
        """Whether every fit may be read."""
        return all(made.converged for made in self.fits.values())


def find_returning(old: pd.DataFrame, new: pd.DataFrame, person: str) -> tuple[str, ...]:
    """Return who of the new study was in the old one: keyed pseudonyms are of persons, other ids of a study.

    Raises
    ------
    InputError
        If nobody is new.
    """
    people = {str(one) for one in new[person].unique()}
    found = tuple(sorted(one for one in people & {str(one) for one in old[person].unique()} if is_pseudonym(one)))
    if found and len(found) == len(people):
        raise InputError(f"nobody is new: all {len(found)} people of the new trials were in the old study.")
    return found


def stack_studies(old: pd.DataFrame, new: pd.DataFrame, *, names: tuple[str, str], person: str) -> Stacked:
    """Stack the trials of two studies.

    Parameters
    ----------
    old, new
        Analysed trials, the new ones without the people whom `find_returning` names.
    names
        What the studies are called.
    person
        The column of who answered.

    Returns
    -------
    Stacked

    Raises
    ------
    InputError
        If the trials have a column `STUDY` already.
    """
    for frame in (old, new):
        if STUDY in frame:
            raise InputError(f"the trials have a column '{STUDY}' of their own; --map another=study renames it.")
    apart = [frame.copy() for frame in (old, new)]
    shared = {str(one) for one in old[person].unique()} & {str(one) for one in new[person].unique()}
    for frame, name in zip(apart, names, strict=True):
        frame[STUDY] = name
        frame[person] = name + " " + frame[person].astype(str)
    rows = pd.concat([_plain(frame) for frame in apart], ignore_index=True)
    for column in rows.columns:
        levels = [
            level
            for frame in (old, new)
            if column in frame and isinstance(frame[column].dtype, pd.CategoricalDtype)
            for level in frame[column].cat.categories
        ]
        if levels and column != person:
            rows[column] = pd.Categorical(rows[column], list(dict.fromkeys(levels)))
    rows[STUDY] = pd.Categorical(rows[STUDY], list(names))
    return Stacked(rows, len(shared))


def with_study(formula: Formula) -> str:
    """Return the formula with the study as a factor that everything of its fixed part may differ by.

    Raises
    ------
    InputError
        If the formula has no intercept, so that a study could not have one of its own.
    """
    if STUDY in formula.variables:
        raise InputError(f"the formula names '{STUDY}', which a reanalysis calls the factor of the two studies by.")
    fixed = as_written(formula.fixed)
    if any(part.replace(" ", "") in ("0", "-1") for part in fixed.replace("-", "+ -").split("+")):
        raise InputError(f"the formula '{formula.text}' has no intercept; a pooled model needs one for each study.")
    crossed = STUDY if fixed.strip() == "1" else f"{STUDY} * ({fixed})"
    offsets = [f"offset({as_written(one)})" for one in formula.offsets]
    return f"{formula.text.partition('~')[0].strip()} ~ {' + '.join([crossed, *offsets, *map(str, formula.bars)])}"


def compare_studies(
    experiment: str,
    model: ModelTable,
    effects: EffectsTable,
    stacked: pd.DataFrame,
    names: tuple[str, str],
    person: str,
    fit_to: Callable[[ModelTable, str, pd.DataFrame], Fit],
) -> Comparison:
    """Fit one experiment of two studies apart and together.

    Parameters
    ----------
    experiment
        Its name.
    model
        The model of either study.
    effects
        Which contrast, along what.
    stacked
        The experiment's trials of both studies (`stack_studies`).
    names, person
        As for `stack_studies`.
    fit_to
        Fits a model to trials of the study named.
    """
    pooled = model.model_copy(update={"formula": with_study(model.spec().formula)})
    parts = {name: stacked[stacked[STUDY] == name] for name in names} | {POOLED: stacked}
    fits = {name: fit_to(pooled if name == POOLED else model, name, _used(rows)) for name, rows in parts.items()}
    trials = {name: len(rows) for name, rows in parts.items()}
    weights = {STUDY: {name: float(trials[name]) for name in names}}
    found: dict[str, list[pd.DataFrame]] = {"means": [], "contrasts": [], "interaction": []}
    for name, made in fits.items():
        tables = _effects(made, effects, weights if name == POOLED else None)
        for kind, table in tables.items():
            found[kind].append(table.assign(**{STUDY: name}))
    both = fits[POOLED]
    return Comparison(
        experiment,
        fits,
        trials,
        {name: int(rows[person].nunique()) for name, rows in parts.items()},
        **{
            kind: pd.concat([part for part in made if len(part)] or made, ignore_index=True)
            for kind, made in found.items()
        },
        between=interactions(both, effects.factor, STUDY, list(names), interval=interval_of(both, effects)),
    )


def interval_of(made: Fit, effects: EffectsTable) -> Interval:
    """Return the study's interval, or one of its probability that a maximum of the likelihood has."""
    return Interval("wald", effects.probability) if made.is_maximum else effects.as_interval()


def _effects(made: Fit, effects: EffectsTable, weights: Any) -> dict[str, pd.DataFrame]:
    """Return means, contrasts and the change along the moderator of one fit."""
    factor, moderator, interval = effects.factor, effects.moderator, interval_of(made, effects)
    tables = {
        "means": pd.DataFrame() if weights else marginal_means(made, factor, interval=interval),
        "contrasts": contrasts(made, factor, interval=interval, weights=weights).assign(**{".at": "mean"}),
        "interaction": pd.DataFrame(),
    }
    if moderator is not None and moderator in made.coding.ranges:
        at = list(effects.places)
        placed = contrasts(made, factor, by={moderator: at}, interval=interval, weights=weights)
        tables["contrasts"] = pd.concat([tables["contrasts"], placed.assign(**{".at": "value"})], ignore_index=True)
        tables["interaction"] = interactions(
            made, factor, moderator, [at[0], at[-1]], interval=interval, weights=weights
        )
    return tables


def _used(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose categorical columns have the levels that occur, as trials of one study have them."""
    out = rows.copy(deep=False)
    for name in out.columns:
        if isinstance(out[name].dtype, pd.CategoricalDtype):
            out[name] = out[name].cat.remove_unused_categories()
    return out


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return categorical columns as text, since those of two studies may have other levels."""
    return frame.assign(
        **{str(name): column.astype(object) for name, column in frame.items() if hasattr(column, "cat")}
    )
