"""The exclusion rules of a study: what each is called, what it may be, which columns it reads, and whose it was before.

In: the study file's `[exclusions]`.  Out: a frozen `Exclusions`.  Knows no trials; `exclusions` applies the rules.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from psychostats.errors import StudyError, nearest

MissingResponse: TypeAlias = Literal["drop", "error"]
RepeatParticipation: TypeAlias = Literal["first", "drop", "error"]
Off: TypeAlias = Literal[False]

#: The columns each rule reads.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "trials_recorded_min": (),
    "repeat_participation": ("session",),
    "instruction_time_min": ("instruction_time",),
    "practice_attempts_max": ("practice_attempts",),
    "practice_accuracy_min": ("correct", "phase"),
    "catch_accuracy_min": ("correct", "catch"),
    "total_time_min": ("rt",),
    "total_time_max": ("rt",),
    "response_share_max": ("response",),
    "response_count_min": ("response",),
    "missing_response": ("correct",),
    "rt_min": ("rt",),
    "rt_max": ("rt",),
    "trials_min": (),
}

#: The thresholds of Zimmermann, Klein and Brendel (2023), from the code that ran their experiments.
PREDECESSOR: Mapping[str, Any] = {
    "repeat_participation": "drop",
    "instruction_time_min": 15.0,
    "practice_attempts_max": 3,
    "catch_accuracy_min": 0.8,
    "total_time_min": 135.0,
    "total_time_max": 2500.0,
    "response_count_min": 5,
}
_WORD = "predecessor"
_STUDY = "Zimmermann et al. 2023"
_SUMMED = f"{_STUDY}, there for the whole session; here response times are summed"

_WORDS: Mapping[str, tuple[str, ...]] = {
    "missing_response": get_args(MissingResponse),
    "repeat_participation": get_args(RepeatParticipation),
    "defaults": (_WORD,),
}
_SHARES = ("practice_accuracy_min", "catch_accuracy_min", "response_share_max")
_COUNTS = ("trials_recorded_min", "practice_attempts_max", "response_count_min", "trials_min")
_PAIRS = (("rt_min", "rt_max"), ("total_time_min", "total_time_max"))


@dataclass(frozen=True)
class Exclusions:
    """The rules of a study, in the order in which they run; None leaves a rule out, and so does False.

    Participants are judged within each experiment and, where there is a column `session`, each of their sessions by
    itself.  One whom a rule cannot judge, having no trial of the kind it looks at, stays.  Limits are inclusive: a
    value equal to one stays.

    Parameters
    ----------
    trials_recorded_min
        Least number of main trials, catch trials apart, that were recorded, answered or not: an incomplete session is
        removed before any other rule, so it is no participation for `repeat_participation`.
    repeat_participation
        People with several sessions, in one experiment or in several: ``"first"`` keeps the earliest by `started`
        (those without one come last; equal ones are in the order of the table), ``"drop"`` keeps none, ``"error"``
        refuses them.
    instruction_time_min
        Least time spent on the instructions, in seconds.
    practice_attempts_max
        How often the practice may have been taken.
    practice_accuracy_min
        Least share of correct practice trials.
    catch_accuracy_min
        Least share of correct catch trials, practice and repeats apart.
    total_time_min, total_time_max
        Limits of the sum of `rt` over main trials, catch trials included, in seconds.
    response_share_max
        Largest share of main trials, catch trials included, that got one and the same `response` (straight-lining).
    response_count_min
        How often each response must have been given on main trials, catch trials included.  The responses to choose
        from are those that anyone gave on such trials of the experiment.
    missing_response
        Trials whose `correct` is missing: ``"drop"`` removes them, ``"error"`` refuses them.
    rt_min, rt_max
        Limits of a trial's `rt`, in seconds; a trial without one stays.
    trials_min
        Least number of trials that a participant must have left, over all sessions, after all the other rules.
    defaults
        ``"predecessor"``: rules of `PREDECESSOR` that are None here have its thresholds, where their columns exist.

    Raises
    ------
    StudyError
        If a setting is not one of its allowed values.
    """

    trials_recorded_min: int | Off | None = None
    repeat_participation: RepeatParticipation | Off | None = None
    instruction_time_min: float | Off | None = None
    practice_attempts_max: int | Off | None = None
    practice_accuracy_min: float | Off | None = None
    catch_accuracy_min: float | Off | None = None
    total_time_min: float | Off | None = None
    total_time_max: float | Off | None = None
    response_share_max: float | Off | None = None
    response_count_min: int | Off | None = None
    missing_response: MissingResponse | Off | None = None
    rt_min: float | Off | None = None
    rt_max: float | Off | None = None
    trials_min: int | Off | None = None
    defaults: Literal["predecessor"] | None = None

    def __post_init__(self) -> None:
        faults = []
        for name, value in self.to_table().items():
            if value is False and name != "defaults":
                continue
            if name in _WORDS:
                good, allowed = value in _WORDS[name], " and ".join(f"'{word}'" for word in _WORDS[name])
            elif isinstance(value, bool) or not isinstance(value, int | float):
                good, allowed = False, "numbers, and false for no such rule"
            elif name in _SHARES:
                good, allowed = 0 <= value <= 1, "numbers from 0 to 1"
            elif name in _COUNTS:
                good, allowed = 1 <= value < np.inf and value == int(value), "whole numbers from 1"
            else:
                good, allowed = 0 <= value < np.inf, "seconds from 0"
            if not good:
                faults.append(f"Exclusion '{name}' is {value!r}; allowed are {allowed}.")
        if faults:
            raise StudyError("\n".join(faults))
        limits = (dict(PREDECESSOR) if self.defaults else {}) | self.to_table()
        for low, high in _PAIRS:
            least, most = limits.get(low, False), limits.get(high, False)
            if least is not False and most is not False and least > most:
                only = "" if {low, high} <= self.to_table().keys() else " (one of the two by 'defaults')"
                raise StudyError(f"Exclusion '{low}' is {least:g}, above '{high}', which is {most:g}{only}.")

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Exclusions:
        """Read the study file's ``[exclusions]``; an unknown key is a StudyError that names the nearest.

        A rule that is ``"predecessor"`` has the threshold of `PREDECESSOR`.
        """
        known = [setting.name for setting in fields(cls)]
        faults = [
            f"Exclusion '{name}' is unknown{nearest(name, known)}; known are {', '.join(known)}."
            for name in table
            if name not in known
        ]
        asked = [name for name, value in table.items() if value == _WORD and name in NEEDS]
        faults += [
            f"Exclusion '{name}' is '{_WORD}', but {_STUDY} had no such rule; they had {', '.join(PREDECESSOR)}."
            for name in asked
            if name not in PREDECESSOR
        ]
        given = {name: PREDECESSOR.get(name) if name in asked else table[name] for name in table if name in known}
        try:
            made = cls(**given)
        except StudyError as error:
            faults += str(error).splitlines()
        if faults:
            raise StudyError("\n".join(faults))
        return made

    def to_table(self) -> dict[str, Any]:
        """Return the settings that are given, by name: what ``[exclusions]`` must hold to give this record."""
        settings = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        return {name: value for name, value in settings.items() if value is not None}

    @property
    def active(self) -> dict[str, Any]:
        """The rules that run, by name, without those that `defaults` may add."""
        return {name: value for name, value in self.to_table().items() if name in NEEDS and value is not False}

    @property
    def needed(self) -> frozenset[str]:
        """The columns that the rules read; those that only `defaults` would read may be missing."""
        return frozenset(column for rule in self.active for column in NEEDS[rule])

    def lacking(self, columns: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Return the rules of `defaults` that do not apply to trials with these columns, and the columns they lack."""
        added = self._filled().active.keys() - self.active.keys()
        missing = {rule: tuple(name for name in NEEDS[rule] if name not in columns) for rule in PREDECESSOR}
        return {rule: names for rule, names in missing.items() if rule in added and names}

    def settled(self, columns: Collection[str]) -> Exclusions:
        """Return the rules that run on trials with these columns, `defaults` replaced by what they give."""
        return replace(self._filled(), **dict.fromkeys(self.lacking(columns)))

    def _filled(self) -> Exclusions:
        """Return the rules with every threshold that `defaults` gives."""
        if self.defaults is None:
            return self
        missing = {name: value for name, value in PREDECESSOR.items() if getattr(self, name) is None}
        return replace(self, defaults=None, **missing)


def predecessor_sources(table: Mapping[str, Any]) -> dict[str, str]:
    """Return where the thresholds come from that ``[exclusions]`` takes from the predecessor, by rule."""
    default = table.get("defaults") == _WORD
    taken = [rule for rule in PREDECESSOR if table.get(rule) == _WORD or (default and rule not in table)]
    summed = ("total_time_min", "total_time_max")
    return {rule: f"{_WORD}: {_SUMMED if rule in summed else _STUDY}" for rule in taken}
