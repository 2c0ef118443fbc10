"""Exclusion rules: which participants and trials are left out, and the table of what each rule removed.

In: a clean trial table and the study file's `[exclusions]`.  Out: the trials to analyse and one row of counts a step.
Knows nothing of files, formulas or models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.columns import COLUMNS, analysed, person_keys
from psychostats.errors import InputError, StudyError, nearest
from psychostats.trials import require_columns

Bools: TypeAlias = npt.NDArray[np.bool_]
Numbers: TypeAlias = npt.NDArray[np.float64]
MissingResponse: TypeAlias = Literal["drop", "error"]
Step: TypeAlias = tuple[str, str, Callable[[Bools], Bools]]

#: The columns each rule reads.
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "practice_accuracy_min": ("correct", "phase"),
    "catch_accuracy_min": ("correct", "catch"),
    "total_time_min": ("rt",),
    "total_time_max": ("rt",),
    "response_share_max": ("response",),
    "missing_response": ("correct",),
    "rt_min": ("rt",),
    "rt_max": ("rt",),
    "trials_min": (),
}
_SHARES = ("practice_accuracy_min", "catch_accuracy_min", "response_share_max")
_ROUNDING = 1e-6  # seconds; sums of times that reach a limit stay whatever their last digit
_FLOW = (
    "experiment",
    "step",
    "rule",
    "participants_removed",
    "trials_removed",
    "participants_left",
    "trials_left",
)


@dataclass(frozen=True)
class Exclusions:
    """The rules of a study, in the order in which they run; None leaves a rule out.

    Participants are judged within each experiment.  One whom a rule cannot judge, having no trial of the kind it looks
    at, stays.  Limits are inclusive: a value equal to one stays.

    Parameters
    ----------
    practice_accuracy_min
        Least share of correct practice trials.
    catch_accuracy_min
        Least share of correct catch trials, practice and repeats apart.
    total_time_min, total_time_max
        Limits of the sum of `rt` over main trials, catch trials included, in seconds.
    response_share_max
        Largest share of main trials, catch trials included, that got one and the same `response` (straight-lining).
    missing_response
        Trials whose `correct` is missing: ``"drop"`` removes them, ``"error"`` refuses them.
    rt_min, rt_max
        Limits of a trial's `rt`, in seconds; a trial without one stays.
    trials_min
        Least number of trials that a participant must have left after all the other rules.

    Raises
    ------
    StudyError
        If a setting is not one of its allowed values.
    """

    practice_accuracy_min: float | None = None
    catch_accuracy_min: float | None = None
    total_time_min: float | None = None
    total_time_max: float | None = None
    response_share_max: float | None = None
    missing_response: MissingResponse | None = None
    rt_min: float | None = None
    rt_max: float | None = None
    trials_min: int | None = None

    def __post_init__(self) -> None:
        faults = []
        for name, value in self.to_table().items():
            if name == "missing_response":
                good, allowed = value in get_args(MissingResponse), "'drop' and 'error'"
            elif isinstance(value, bool) or not isinstance(value, int | float):
                good, allowed = False, "numbers"
            elif name in _SHARES:
                good, allowed = 0 <= value <= 1, "numbers from 0 to 1"
            elif name == "trials_min":
                good, allowed = value >= 1 and value == int(value), "whole numbers from 1"
            else:
                good, allowed = 0 <= value < np.inf, "seconds from 0"
            if not good:
                faults.append(f"Exclusion '{name}' is {value!r}; allowed are {allowed}.")
        if faults:
            raise StudyError("\n".join(faults))
        for low, high in (("rt_min", "rt_max"), ("total_time_min", "total_time_max")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise StudyError(f"Exclusion '{low}' is {least:g}, above '{high}', which is {most:g}.")

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Exclusions:
        """Read the study file's ``[exclusions]``; an unknown key is a StudyError that names the nearest."""
        known = [setting.name for setting in fields(cls)]
        faults = [
            f"Exclusion '{name}' is unknown{nearest(name, known)}; known are {', '.join(known)}."
            for name in table
            if name not in known
        ]
        try:
            made = cls(**{name: value for name, value in table.items() if name in known})
        except StudyError as error:
            faults += str(error).splitlines()
        if faults:
            raise StudyError("\n".join(faults))
        return made

    def to_table(self) -> dict[str, Any]:
        """Return the rules that are set, by name: what ``[exclusions]`` must hold to give this record."""
        settings = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        return {name: value for name, value in settings.items() if value is not None}

    @property
    def needed(self) -> frozenset[str]:
        """The columns that the rules read."""
        return frozenset(column for rule in self.to_table() for column in _NEEDS[rule])


@dataclass(frozen=True)
class Excluded:
    """The trials to analyse (`kept`) and the counts of each step (`flow`); see `apply_exclusions`."""

    kept: pd.DataFrame
    flow: pd.DataFrame


def apply_exclusions(trials: pd.DataFrame, exclusions: Exclusions) -> Excluded:
    """Set aside what is not analysed, apply the rules, and count what each step removed.

    The order is fixed: practice and repeats are set aside, participants are judged, catch trials are set aside, trials
    are judged, and last the participants who have too few left.  Every participant rule sees only those whom the
    rules before it kept.

    Parameters
    ----------
    trials
        A clean trial table, as `psychostats.trials.read_trials` returns it.
    exclusions
        The rules.

    Returns
    -------
    Excluded
        `kept` has the rows of `trials` that stay, in their order.  `flow` has a row per experiment (``all`` where there
        is no such column) and step: ``experiment, step, rule, participants_removed, trials_removed,
        participants_left, trials_left``; `rule` is the setting's name or empty.

    Raises
    ------
    InputError
        If a rule needs a column that is missing, a response is missing under ``missing_response = "error"``, or the
        table has no participants or a cell that no step provides for.
    """
    _require_cells(trials, exclusions)
    experiments = trials["experiment"].to_numpy() if "experiment" in trials else np.full(len(trials), "all")
    left = np.ones(len(trials), dtype=bool)
    counts = [("all recorded", "", left)]
    for step, rule, removes in _steps(trials, exclusions):
        left = left & ~removes(left)
        counts.append((step, rule, left))
    counts.append(("analysed", "", left))

    participants = trials["participant"].to_numpy()
    rows = []
    for experiment in _ordered(trials):
        here = experiments == experiment
        before: tuple[int, int] | None = None
        for step, rule, stay in counts:
            now = len(set(participants[here & stay])), int((here & stay).sum())
            people, removed = (0, 0) if before is None else (before[0] - now[0], before[1] - now[1])
            rows.append((experiment, step, rule, people, removed, *now))
            before = now
    kept = trials[left].copy()
    if "correct" in kept and kept["correct"].notna().all():
        kept["correct"] = kept["correct"].astype(np.int8)
    return Excluded(kept, pd.DataFrame(rows, columns=list(_FLOW)))


def _require_cells(trials: pd.DataFrame, exclusions: Exclusions) -> None:
    require_columns(trials, ["participant"])
    for rule in exclusions.to_table():
        for column in _NEEDS[rule]:
            if column not in trials:
                near = nearest(column, [str(name) for name in trials.columns])
                raise InputError(f"Exclusion '{rule}' needs column '{column}', which the trials lack{near}.")
    for column in (*person_keys(trials), *({"phase", "catch"} & set(trials.columns))):
        if trials[column].isna().any():
            row = trials.index[trials[column].isna()][0]
            raise InputError(f"Column '{column}' is blank in row {row}; exclusions need it in every row.")
    if "phase" in trials:
        odd = trials.loc[~trials["phase"].isin(COLUMNS["phase"].levels), "phase"]
        if len(odd):
            allowed = COLUMNS["phase"].allowed
            raise InputError(f"Column 'phase' holds '{odd.iloc[0]}' in row {odd.index[0]}; allowed are {allowed}.")
    if exclusions.missing_response == "error":
        lacking = analysed(trials) & trials["correct"].isna().to_numpy()
        if lacking.any():
            row, more = trials.index[lacking][0], int(lacking.sum()) - 1
            where = f"row {row}" + (f" (and {more} more)" if more else "")
            raise InputError(f"Column 'correct' is blank in {where}, and exclusion 'missing_response' is 'error'.")


def _ordered(trials: pd.DataFrame) -> list[str]:
    if "experiment" not in trials:
        return ["all"]
    held = set(trials["experiment"])
    if isinstance(trials["experiment"].dtype, pd.CategoricalDtype):
        return [level for level in trials["experiment"].cat.categories if level in held]
    return sorted(held)


def _steps(trials: pd.DataFrame, rules: Exclusions) -> list[Step]:
    """Return each step's words, its rule, and a function from the rows left to the rows it removes."""
    table = trials.reset_index(drop=True)  # rows are matched by position: an index may hold a number twice
    people = [table[key] for key in person_keys(table)]
    phase = table["phase"].to_numpy() if "phase" in table else np.full(len(table), "main")
    catch = (table["catch"] == 1).to_numpy(dtype=bool) if "catch" in table else np.zeros(len(table), dtype=bool)

    def each(values: pd.Series[Any], how: Literal["mean", "sum", "max"], **options: int) -> Numbers:
        """Summarise per participant and give every row its participant's value, NaN where there is none."""
        summary: pd.Series[Any] = values.groupby(people, observed=True).transform(how, **options)
        return summary.to_numpy(dtype=float)

    def accuracy(rows: Bools) -> Numbers:
        return each(table["correct"].astype(float).where(rows), "mean")

    def total_time(left: Bools) -> Numbers:
        return each(table["rt"].where(left), "sum", min_count=1)

    def response_share(left: Bools) -> Numbers:
        given = table["response"].astype(object).where(left)
        one = given.notna().astype(float)
        alike = one.groupby([*people, given], observed=True).transform("sum")
        return each(alike, "max") / each(one.where(given.notna()), "sum", min_count=1)

    def trials_left(left: Bools) -> Numbers:
        return each(pd.Series(left, dtype=float), "sum")

    steps: list[Step] = []

    def add(rule: str, words: str, removes: Callable[[Bools, Any], Bools]) -> None:
        limit = getattr(rules, rule)
        if limit is not None:
            steps.append((words.format(limit), rule, lambda left: removes(left, limit)))

    if "phase" in table:
        steps.append(("practice set aside", "", lambda left: phase == "practice"))
        steps.append(("repeats set aside", "", lambda left: phase == "repeat"))
    add(
        "practice_accuracy_min",
        "participants with practice accuracy below {:g}",
        lambda left, limit: accuracy(phase == "practice") < limit,
    )
    add(
        "catch_accuracy_min",
        "participants with catch accuracy below {:g}",
        lambda left, limit: accuracy(left & catch) < limit,
    )
    add(
        "total_time_min",
        "participants with a total time below {:g} s",
        lambda left, limit: total_time(left) < limit - _ROUNDING,
    )
    add(
        "total_time_max",
        "participants with a total time above {:g} s",
        lambda left, limit: total_time(left) > limit + _ROUNDING,
    )
    add(
        "response_share_max",
        "participants with one response on more than {:g} of their trials",
        lambda left, limit: response_share(left) > limit,
    )
    if "catch" in table:
        steps.append(("catch set aside", "", lambda left: catch))
    if rules.missing_response == "drop":
        add("missing_response", "trials without a response", lambda left, _: table["correct"].isna().to_numpy())
    add("rt_min", "trials faster than {:g} s", lambda left, limit: (table["rt"] < limit).to_numpy())
    add("rt_max", "trials slower than {:g} s", lambda left, limit: (table["rt"] > limit).to_numpy())
    add("trials_min", "participants with fewer than {:g} trials left", lambda left, limit: trials_left(left) < limit)
    return steps
