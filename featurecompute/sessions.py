"""The sessions of a run: every trial of every participant with the images it shows, and on which side.

In: a run.  Out: one table.  Knows no pixel, no page and no layout of folders.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from featurecompute.errors import RunError
from featurecompute.manifest import Run

QUERIES = ("query_target", "query_distractor")
REFERENCES = ("references_max", "references_min")


def read_sessions(run: Run) -> pd.DataFrame:
    """Return every trial, in the order that its participant sees them.

    Parameters
    ----------
    run
        A run with stimuli and trial lists.

    Returns
    -------
    pandas.DataFrame
        The columns of trial_lists.parquet; then those of stimuli.parquet that name images, `reference_kind`, and
        `left` and `right`: the images between the references. Experiments and participants are in the order of the
        lists.

    Raises
    ------
    RunError
        If the run has no stimuli or no lists, or a list does not fit the stimuli.
    """
    stimuli = _read(run, "stimuli", "the study file has no table [stimuli]")
    lists = _read(run, "trial_lists", "[design] participants of the study file gives no experiment of [stimuli] any")
    shown = stimuli[["stimulus", "version", *QUERIES, *REFERENCES, "reference_kind"]]
    trials = lists.merge(shown, on="stimulus", how="left", suffixes=("", "_made"), validate="many_to_one")
    wrong = trials[trials["version"] != trials["version_made"]]
    if len(wrong):
        row = wrong.iloc[0]
        raise RunError(
            f"{run.path / 'trial_lists.parquet'} does not fit stimuli.parquet: trial {row['trial']} of "
            f"{row['participant']} shows the stimulus {row['stimulus']}, which is not there in the version "
            f"{row['version']}."
        )
    on_left = (trials["target_side"] == "left").to_numpy()
    target, distractor = (trials[name].to_numpy() for name in QUERIES)
    trials["left"] = np.where(on_left, target, distractor)
    trials["right"] = np.where(on_left, distractor, target)
    for name in REFERENCES:
        trials[name] = trials[name].map(list)
    keys = [pd.factorize(trials[name])[0] for name in ("participant", "experiment")]
    order = np.lexsort([trials["trial"].to_numpy(), *keys])
    return trials.drop(columns="version_made").iloc[order].reset_index(drop=True)


def _read(run: Run, name: str, reason: str) -> pd.DataFrame:
    """Return a table that a run has only if its study asked for it."""
    there = (run.path / f"{name}.parquet").is_file()
    rows = run.table(name) if there else pd.DataFrame()
    if rows.empty:
        raise RunError(f"{run.path} has no {name.replace('_', ' ')}: {reason}.")
    return rows
