"""Results with and without exclusions: whether the headline depends on who and what was left out.

In: a study, its trial table, and what its exclusions did.  Out: the headline contrast by maximum likelihood with all
rules, with none, and without each that removed anything.  Knows no words and no figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from psychostats.columns import analysed
from psychostats.effects import contrasts
from psychostats.errors import InputError, NoMaximumError
from psychostats.exclusions import Excluded, apply_exclusions
from psychostats.fit import fit
from psychostats.intervals import Interval
from psychostats.study import Study
from psychostats.trials import TrialTable

COLUMNS = (
    "experiment",
    "exclusions",
    "contrast",
    "participants",
    "trials",
    "estimate",
    "conf_low",
    "conf_high",
    "conf_level",
    "interval",
    "conclusion",
    "reason",
)
EVERY, NO = "all", "none"
"""What `exclusions` is with all rules and with none; ``all but RULE`` without one."""


def with_and_without(study: Study, table: TrialTable, excluded: Excluded) -> pd.DataFrame:
    """Fit the main model again, by maximum likelihood, with all exclusions, with none, and without each one.

    Parameters
    ----------
    study
        The study file, read; the first model and ``[effects]`` say what the headline is.
    table
        The trials as they were read.
    excluded
        What the study's exclusions made of them.

    Returns
    -------
    DataFrame
        A row an experiment (``all`` where there is no such column), set of exclusions and contrast: ``experiment,
        exclusions, contrast, participants, trials, estimate, conf_low, conf_high, conf_level, interval, conclusion,
        reason``; no row where the main model has no likelihood to maximise, as of ratings.  The estimate is the
        difference of means in the population (in probability, of answers), the moderator held at its mean over the
        analysed trials, with its Wald interval; `conclusion` is ``above 0``, ``below 0`` or ``open`` where the
        interval holds 0.  Where the likelihood has no maximum, numbers are NaN and `reason` says why.  Without
        exclusions, all main trials that have an answer are fitted; trials without one never are.
    """
    rows: list[dict[str, Any]] = []
    spec = study.models[0].as_maximum().spec()
    response = spec.formula.response.successes
    selections = _selections(table, excluded, response) if spec.family.maximisable else ()
    for experiment, which, trials in selections:
        kept = _of(excluded.kept, experiment)
        what = {
            "experiment": experiment,
            "exclusions": which,
            "participants": trials["participant"].nunique(),
            "trials": len(trials),
            **dict.fromkeys(("contrast", "conclusion", "reason"), ""),
        }
        try:
            found = _headline(study, trials, kept)
        except (NoMaximumError, InputError) as error:  # or what is left of a factor cannot be fitted
            rows.append(what | {"reason": str(error)})
            continue
        rows += [what | one for one in found]
    numbers = dict.fromkeys(("estimate", "conf_low", "conf_high", "conf_level"), float)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(numbers)


def _selections(table: TrialTable, excluded: Excluded, response: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield experiment, name of the exclusions, and the trials that they leave."""
    answered = table.frame[analysed(table.frame) & table.frame[response].notna().to_numpy()]
    if response == "correct":
        answered = answered.assign(correct=answered["correct"].astype(np.int8))
    removed = excluded.flow[excluded.flow["rule"] != ""].set_index(["experiment", "rule"])["trials_removed"]
    without = {}
    for rule in excluded.rules.active:
        if rule != "missing_response" and removed.xs(rule, level="rule").any():
            kept = apply_exclusions(table.frame, replace(excluded.rules, **{rule: None})).kept
            without[rule] = kept[kept[response].notna()]
    for experiment in excluded.flow["experiment"].unique():
        yield experiment, EVERY, _of(excluded.kept, experiment)
        yield experiment, NO, _of(answered, experiment)
        for rule, rows in without.items():
            if removed[experiment, rule] > 0:
                yield experiment, f"{EVERY} but {rule}", _of(rows, experiment)


def _of(trials: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """Return the trials of an experiment."""
    if "experiment" not in trials:
        return trials
    return trials[trials["experiment"].astype(str) == experiment]


def _headline(study: Study, trials: pd.DataFrame, kept: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each contrast of the factor; every set of exclusions is asked at the same value of the moderator."""
    effects, spec = study.effects, study.models[0].as_maximum().spec()
    made = fit(spec, trials, engine="laplace")
    at = None
    if effects.moderator in made.coding.ranges:
        at = {str(effects.moderator): [float(kept[effects.moderator].mean())]}
    table = contrasts(made, effects.factor, by=at, interval=Interval("wald", effects.probability))
    table = table[(table["scale"] == "difference") & (table["target"] == "population")]
    numbers = ["contrast", "estimate", "conf_low", "conf_high", "conf_level", "interval"]
    return [
        {str(key): value for key, value in row.items()} | {"conclusion": _conclude(row)}
        for row in table[numbers].to_dict("records")
    ]


def _conclude(row: dict[Any, Any]) -> str:
    """Say on which side of 0 the whole interval lies."""
    return "above 0" if row["conf_low"] > 0 else "below 0" if row["conf_high"] < 0 else "open"
