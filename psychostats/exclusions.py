"""Exclusion rules: which participants and trials are left out, and the table of what each rule removed.

In: a clean trial table and the study file's `[exclusions]`.  Out: the trials to analyse and one row of counts a step.
Knows nothing of files, formulas or models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.cells import name_some, read_times
from psychostats.columns import COLUMNS, analysed, person_keys
from psychostats.errors import InputError, nearest
from psychostats.parts import LeftOut
from psychostats.rules import NEEDS, RepeatParticipation
from psychostats.rules import Exclusions as Exclusions
from psychostats.trials import require_columns

Bools: TypeAlias = npt.NDArray[np.bool_]
Numbers: TypeAlias = npt.NDArray[np.float64]
Step: TypeAlias = tuple[str, str, Callable[[Bools], Bools]]

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
class Excluded:
    """What `apply_exclusions` found.

    Parameters
    ----------
    kept
        The trials to analyse.
    flow
        The counts of each step.
    rules
        The rules that ran.
    not_applied
        Rules of `Exclusions.defaults` that did not, and the columns they lack, or find blank throughout.
    """

    kept: pd.DataFrame
    flow: pd.DataFrame
    rules: Exclusions = field(default_factory=Exclusions)
    not_applied: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def apply_exclusions(trials: pd.DataFrame, exclusions: Exclusions, left_out: Sequence[LeftOut] = ()) -> Excluded:
    """Set aside what is not analysed, apply the rules, and count what each step removed.

    The order is fixed: incomplete sessions and repeated participations are removed, practice and repeats are set aside,
    participants are judged, catch trials are set aside, trials are judged, and last the participants who have too few
    left.  Every rule sees only what the rules before it kept.

    Parameters
    ----------
    trials
        A clean trial table, as `psychostats.trials.read_trials` returns it.
    exclusions
        The rules.
    left_out
        Files and sessions that were left out before, each a row after ``all recorded``, which counts them.  What is of
        no known experiment, or of one without any trial, is named in the step and counted in no experiment.

    Returns
    -------
    Excluded
        `kept` has the rows of `trials` that stay, in their order.  `flow` has a row per experiment (``all`` where there
        is no such column) and step: ``experiment, step, rule, participants_removed, trials_removed,
        participants_left, trials_left``; `rule` is the setting's name or empty.

    Raises
    ------
    InputError
        If a rule needs a column that is missing, a response is missing under ``missing_response = "error"``, people
        took part twice under ``repeat_participation = "error"``, or the table has no participants or a cell that no
        step provides for.
    """
    filled = [str(name) for name in trials.columns if trials[name].notna().any()]
    lacking = exclusions.lacking(filled)
    exclusions = exclusions.settled(filled)
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
    names = _ordered(trials)
    before_rules = _count_left_out(left_out, names)
    for experiment in names:
        here = experiments == experiment
        now = np.array([len(set(participants[here])), int(here.sum())])
        now += sum((gone[experiment] for gone in before_rules.values()), np.zeros(2, dtype=int))
        rows.append((experiment, "all recorded", "", 0, 0, *now.tolist()))
        for step, gone in before_rules.items():
            now = now - gone[experiment]
            rows.append((experiment, step, "", *gone[experiment].tolist(), *now.tolist()))
        for step, rule, stay in counts[1:]:
            then = np.array([len(set(participants[here & stay])), int((here & stay).sum())])
            rows.append((experiment, step, rule, *(now - then).tolist(), *then.tolist()))
            now = then
    kept = trials[left].copy()
    if "correct" in kept and kept["correct"].notna().all():
        kept["correct"] = kept["correct"].astype(np.int8)
    return Excluded(kept, pd.DataFrame(rows, columns=list(_FLOW)), exclusions, lacking)


def _count_left_out(left_out: Sequence[LeftOut], names: Sequence[str]) -> dict[str, dict[str, npt.NDArray[np.int_]]]:
    """Return what was left out before any rule, participants and trials, by step and experiment."""
    steps: dict[str, dict[str, npt.NDArray[np.int_]]] = {}
    for one in left_out:
        lost, step = np.array([one.participants, one.trials]), one.step
        where = names[0] if one.experiment is None and len(names) == 1 else one.experiment
        if where not in names and lost.any():
            whose = "unknown experiments" if where is None else f"experiment {where}"
            step += f": of {whose}, not counted here; participants {one.participants}, trials {one.trials}"
        counted = steps.setdefault(step, {name: np.zeros(2, dtype=int) for name in names})
        if where in names:
            counted[str(where)] += lost
    return steps


def _require_cells(trials: pd.DataFrame, exclusions: Exclusions) -> None:
    require_columns(trials, ["participant"])
    for rule in exclusions.active:
        for column in NEEDS[rule]:
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
    person = table.groupby(person_keys(table), observed=True).ngroup()
    judged = _participations(table)
    active = rules.active
    phase = table["phase"].to_numpy() if "phase" in table else np.full(len(table), "main")
    catch = (table["catch"] == 1).to_numpy(dtype=bool) if "catch" in table else np.zeros(len(table), dtype=bool)

    def each(values: pd.Series[Any], how: Literal["mean", "sum", "max"], **options: int) -> Numbers:
        """Summarise per participation and give every row its value, NaN where there is none."""
        summary: pd.Series[Any] = values.groupby(judged).transform(how, **options)
        return summary.to_numpy(dtype=float)

    def accuracy(rows: Bools) -> Numbers:
        return each(table["correct"].astype(float).where(rows), "mean")

    def total_time(left: Bools) -> Numbers:
        return each(table["rt"].where(left), "sum", min_count=1)

    def response_share(left: Bools) -> Numbers:
        given = table["response"].astype(object).where(left)
        one = given.notna().astype(float)
        alike = one.groupby([judged, given], observed=True).transform("sum")
        return each(alike, "max") / each(one.where(given.notna()), "sum", min_count=1)

    def avoids_a_response(left: Bools, least: int) -> Bools:
        given = table["response"].astype(object)
        there = given.where(phase == "main")
        apart = table["experiment"] if "experiment" in table else pd.Series("all", index=table.index)
        possible = there.groupby(apart, observed=True).transform("nunique")
        given = given.where(left)
        often = given.groupby([judged, given]).size() >= least
        reached = often.groupby(level=0).sum().reindex(judged).to_numpy(dtype=float)  # NaN: no response at all
        return np.asarray(reached < possible.to_numpy(dtype=float))

    def trials_left(left: Bools) -> Numbers:
        return pd.Series(left, dtype=float).groupby(person).transform("sum").to_numpy(dtype=float)

    steps: list[Step] = []
    who = "participants" if judged.nunique() == person.nunique() else "sessions"

    def add(rule: str, words: str, removes: Callable[[Bools, Any], Bools]) -> None:
        if rule in active:
            limit = active[rule]
            steps.append((words.format(limit, who=who), rule, lambda left: removes(left, limit)))

    add(
        "trials_recorded_min",
        "{who} with fewer than {:g} main trials recorded",
        lambda left, limit: each(pd.Series((phase == "main") & ~catch, dtype=float), "sum") < limit,
    )
    first = active.get("repeat_participation") == "first"
    add(
        "repeat_participation",
        "sessions after a person's first" if first else "people who took part more than once",
        lambda left, which: _repeated(table, judged, left, which),
    )
    if "phase" in table:
        steps.append(("practice set aside", "", lambda left: phase == "practice"))
        steps.append(("repeats set aside", "", lambda left: phase == "repeat"))
    add(
        "instruction_time_min",
        "{who} with instructions read in less than {:g} s",
        lambda left, limit: each(table["instruction_time"].astype(float), "max") < limit - _ROUNDING,
    )
    add(
        "practice_attempts_max",
        "{who} with more than {:g} attempts at the practice",
        lambda left, limit: each(table["practice_attempts"].astype(float), "max") > limit,
    )
    add(
        "practice_accuracy_min",
        "{who} with practice accuracy below {:g}",
        lambda left, limit: accuracy(phase == "practice") < limit,
    )
    add(
        "catch_accuracy_min",
        "{who} with catch accuracy below {:g}",
        lambda left, limit: accuracy(left & catch) < limit,
    )
    add(
        "total_time_min",
        "{who} with a total time below {:g} s",
        lambda left, limit: total_time(left) < limit - _ROUNDING,
    )
    add(
        "total_time_max",
        "{who} with a total time above {:g} s",
        lambda left, limit: total_time(left) > limit + _ROUNDING,
    )
    add(
        "response_share_max",
        "{who} with one response on more than {:g} of their trials",
        lambda left, limit: response_share(left) > limit,
    )
    add("response_count_min", "{who} with a response given fewer than {:g} times", avoids_a_response)
    if "catch" in table:
        steps.append(("catch set aside", "", lambda left: catch))
    if active.get("missing_response") == "drop":
        add("missing_response", "trials without a response", lambda left, _: table["correct"].isna().to_numpy())
    add("rt_min", "trials faster than {:g} s", lambda left, limit: (table["rt"] < limit).to_numpy())
    add("rt_max", "trials slower than {:g} s", lambda left, limit: (table["rt"] > limit).to_numpy())
    add("trials_min", "participants with fewer than {:g} trials left", lambda left, limit: trials_left(left) < limit)
    return steps


def _participations(table: pd.DataFrame) -> pd.Series[int]:
    """Number the participations: who, in which experiment and which session; a blank session is one of its own."""
    keys = [table[key] for key in person_keys(table)]
    if "session" in table:
        keys.append(table["session"].astype(object).where(table["session"].notna(), ""))
    return table.groupby(keys, observed=True).ngroup()


def _repeated(table: pd.DataFrame, judged: pd.Series[int], left: Bools, which: RepeatParticipation) -> Bools:
    """Return the rows of participations that are not the person's only one or, for ``first``, come after it."""
    found = pd.DataFrame({"judged": judged, "participant": table["participant"].astype(object), "row": table.index})
    found["started"] = _times(table["started"], left) if which == "first" and "started" in table else pd.NaT
    by = found[left].groupby("judged")
    ranked = by.agg({"participant": "first", "row": "min", "started": "min"}).sort_values(["started", "row"])
    several = ranked["participant"].duplicated(keep=False)
    if which == "error" and several.any():
        names = name_some([str(name) for name in ranked.loc[several, "participant"].unique()])
        raise InputError(
            f"Took part more than once: {names}; exclusion 'repeat_participation' is 'error'; 'first' keeps the first "
            "session of each, 'drop' none."
        )
    gone = ranked["participant"].duplicated() if which == "first" else several
    return judged.isin(ranked.index[gone]).to_numpy(dtype=bool)


def _times(cells: pd.Series[Any], left: Bools) -> pd.Series[Any]:
    """Read dates and times, all of which must be some."""
    read = read_times(cells)
    bad = (read.isna() & cells.notna()).to_numpy() & left
    if bad.any():
        raise InputError(
            f"Column 'started' holds '{cells[bad].iloc[0]}', by which exclusion 'repeat_participation' cannot tell "
            f"which session came first; allowed are {COLUMNS['started'].allowed}."
        )
    return read
