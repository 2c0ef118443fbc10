"""A features run as trials meet it: which stimulus a trial showed, of which feature, and what is known of both.

In: the folder that ``featurecompute compute`` wrote, or its tables.  Out: trials with the columns of their stimuli and
features; every id that is unknown, named twice or of another version is refused by name.  Files join by id, never by
position.  Knows no network and no model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from psychostats.cells import Raw, lacking_column, name_some
from psychostats.columns import analysed, order_levels
from psychostats.errors import DataError, Fault, InputError, nearest
from psychostats.judging import assignment_faults, errors_first
from psychostats.recordings import PLAIN, read_recordings
from psychostats.trials import Given, TrialTable, examine_trials

SCHEMA = "featurecompute-run/1"

#: The key of each table of a run that is read here.
KEYS: Mapping[str, tuple[str, ...]] = {
    "features": ("feature",),
    "pairs": ("pair",),
    "images": ("image",),
    "stimuli": ("stimulus",),
    "trial_lists": ("experiment", "participant", "trial"),
    "pictures": ("image",),
    "observed": ("observer", "stimulus"),
    "contributions": ("feature", "image", "method", "selection"),
    "norm_matched": ("layer", "method", "selection", "way"),
    "selectivity": ("feature", "method", "selection"),
}

#: Columns that a trial may have itself, which must then say the same.
OF_STIMULUS = ("experiment", "phase", "catch", "feature", "pair")
OF_FEATURE = ("representation", "layer", "depth")

#: Columns of stimuli that are no predictors: lists of images, and how they were drawn.
_LEFT = ("references_max", "references_min", "seed", "version")


@dataclass(frozen=True)
class FeaturesRun:
    """One features run on disk, or several that do not overlap, as of two networks.

    Parameters
    ----------
    paths
        Folders.
    records
        Content of each run.json.
    """

    paths: tuple[Path, ...]
    records: tuple[dict[str, Any], ...] = field(hash=False)
    _tables: dict[str, pd.DataFrame] = field(default_factory=dict, hash=False, repr=False, compare=False)

    @property
    def identity(self) -> str:
        """The ids of the runs, which change with anything that went into them."""
        return ", ".join(str(record["run_id"]) for record in self.records)

    def has(self, name: str) -> bool:
        """Return whether the runs hold a table."""
        return all((path / f"{name}.parquet").is_file() for path in self.paths)

    def table(self, name: str) -> pd.DataFrame:
        """Return a table by name, one of `KEYS`, the rows of all runs.

        Raises
        ------
        InputError
            If a file is missing, damaged or changed since it was written, or two runs say different things of one id.
        """
        if name not in self._tables:
            parts = [_read(path, record, name) for path, record in zip(self.paths, self.records, strict=True)]
            held = pd.concat(parts, ignore_index=True)
            key = list(KEYS[name])
            if len(parts) > 1:  # the same images may be in both
                lists = [column for column in held if held[column].map(lambda cell: isinstance(cell, list)).any()]
                held = held[~held.astype(dict.fromkeys(lists, str)).duplicated()].reset_index(drop=True)
            if "stimulus" in key and len(parts) > 1:
                # Practice is numbered within a run; what it showed is not asked, so of two the version is forgotten.
                again = held.duplicated(key, keep=False) & held["feature"].isna()
                if "version" in held:
                    held.loc[again, "version"] = None
                held = held[~(again & held.duplicated(key))].reset_index(drop=True)
            twice = held[held.duplicated(key)]
            if len(twice):
                named = ", ".join(map(str, twice[key].iloc[0]))
                where = " and ".join(map(str, self.paths))
                raise InputError(f"{where}: {name}.parquet names {named} more than once.")
            self._tables[name] = held
        return self._tables[name].copy(deep=False)

    @cached_property
    def pictures(self) -> dict[str, Path]:
        """The file of each image that is shown, by the image's id."""
        found: dict[str, Path] = {}
        for path, record in zip(self.paths, self.records, strict=True):
            rows = _read(path, record, "pictures")
            found |= {image: path / file for image, file in zip(rows["image"], rows["file"], strict=True)}
        return found

    @cached_property
    def provides(self) -> frozenset[str]:
        """Columns that `attach_features` gives to trials."""
        stimuli, features = self.table("stimuli"), self.table("features")
        return frozenset({*_columns(stimuli, features), *OF_STIMULUS, *OF_FEATURE, *self.evidence().columns})

    def lacking(self, needed: Collection[str]) -> tuple[str, ...]:
        """Return which of the columns needed a trial file must have itself: not those provided, but ``stimulus``."""
        return (*(name for name in needed if name not in self.provides), "stimulus")

    def evidence(self) -> pd.DataFrame:
        """Return what in-silico observers make of each stimulus.

        Returns
        -------
        DataFrame
            Index ``stimulus``; a column ``evidence_OBSERVER`` each: evidence for the target less that for the
            distractor, in SDs of the observer's noise; 0 says nothing.
        """
        if not self.has("observed"):
            return pd.DataFrame(index=pd.Index([], name="stimulus"))
        rows = self.table("observed")
        rows = rows.assign(value=rows["d"] / rows["noise_sd"].where(rows["noise_sd"] > 0, 1.0))
        wide = rows.set_index(["stimulus", "observer"])["value"].unstack()  # noqa: PD010, the key is unique
        return wide.rename(columns="evidence_{}".format).rename_axis(columns=None)


def read_run(*paths: str | Path) -> FeaturesRun:
    """Read one features run, or several whose features differ.

    Parameters
    ----------
    *paths
        Folders that ``featurecompute compute`` wrote.

    Raises
    ------
    InputError
        If a folder holds no complete run.
    """
    if not paths:
        raise InputError("no features run is given; name the folder that 'featurecompute compute' wrote.")
    records = []
    for path in map(Path, paths):
        try:
            record = json.loads((path / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(
                f"{path} holds no complete features run: run.json is missing. It is what 'featurecompute compute' "
                "writes last."
            ) from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path / 'run.json'} cannot be read: {error}.") from error
        found = record.get("schema") if isinstance(record, dict) else None
        if found != SCHEMA:
            raise InputError(f"{path} was written in the form {found}; this version reads {SCHEMA}.")
        try:
            [(one["path"], one["sha256"]) for stage in record["stages"] for one in stage["outputs"]]
            record["run_id"], record["network"]["id"]
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{path / 'run.json'} is damaged: it does not say what was written, or of which network; "
                "'featurecompute compute' with --resume mends it."
            ) from error
        records.append(record)
    return FeaturesRun(tuple(map(Path, paths)), tuple(records))


def _read(path: Path, record: Mapping[str, Any], name: str) -> pd.DataFrame:
    """Read a table of one run, whose file must be the one that was written."""
    file = path / f"{name}.parquet"
    written = {one["path"]: one["sha256"] for stage in record["stages"] for one in stage["outputs"]}
    if file.name not in written:
        raise InputError(
            f"{path} has no {file.name}: the study it was computed from did not ask for it (table [stimuli] makes what "
            "participants see)."
        )
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from error
    if hashlib.sha256(content).hexdigest() != written[file.name]:
        raise InputError(
            f"{file} is not the file that was written; 'featurecompute compute' with --resume makes it again."
        )
    rows = pd.read_parquet(file)
    for column in rows:
        if len(rows) and isinstance(rows[column].iloc[0], np.ndarray):
            rows[column] = rows[column].map(list)
    return rows


def attach_features(
    trials: pd.DataFrame,
    run: FeaturesRun | str | Path | pd.DataFrame,
    features: pd.DataFrame | None = None,
    *,
    levels: Mapping[str, Sequence[str] | Mapping[str, str]] | None = None,
) -> pd.DataFrame:
    """Join trials with the stimulus that each showed, and that with its feature.

    Parameters
    ----------
    trials
        One row a trial; needs ``stimulus``. Where it has ``version`` too, that must be the version of the stimulus.
    run
        A features run, its folder, or its table of stimuli.
    features
        With a table of stimuli, the table of features.
    levels
        How a study recodes levels, column to a table old -> new: the run's words are recoded in the same way.

    Returns
    -------
    DataFrame
        The trials in their order, with their index. ``experiment, phase, catch, feature, pair, representation, layer,
        depth`` are filled from the run; all other columns of stimuli and features come with the run's own names, and
        those of in-silico observers as ``evidence_OBSERVER``. What a practice stimulus has no feature for is missing.

    Raises
    ------
    DataError
        With every fault: an id that is unknown, or named twice, a stimulus of another version, an analysed trial
        without a stimulus, a cell that says something else than the run, a column that the run has too.
    """
    evidence = pd.DataFrame(index=pd.Index([], name="stimulus"))
    if not isinstance(run, pd.DataFrame):
        run = run if isinstance(run, FeaturesRun) else read_run(run)
        stimuli, features, evidence = run.table("stimuli"), run.table("features"), run.evidence()
    elif features is None:
        raise InputError("a table of stimuli needs the table of features beside it.")
    else:
        stimuli = run
    if "stimulus" not in trials:
        raise DataError([lacking_column("A features run joins by 'stimulus'", "stimulus", trials.columns)])
    faults = [*_twice(stimuli, "stimulus"), *_twice(features, "feature"), *_unknown(trials, stimuli, features)]
    if faults:
        raise DataError(faults)
    new = _columns(stimuli, features)
    known = stimuli.merge(features[[n for n in features if n not in stimuli or n == "feature"]], "left", "feature")
    known = known.set_index("stimulus").join(evidence)
    for name, table in (levels or {}).items():
        if name in known and isinstance(table, Mapping):
            known[name] = known[name].map(lambda cell, table=table: table.get(cell, cell), na_action="ignore")
    rows = known.reindex(trials["stimulus"])
    rows.index = trials.index
    faults = [
        *_versions(trials, rows),
        *_strange_levels(known, trials, levels or {}),
        *(
            Fault(f"Column '{name}' is in the trials and in the features run; rename one of them.", "error", name)
            for name in [*new, *evidence.columns]
            if name in trials
        ),
    ]
    out = trials.copy(deep=False)
    for name in (*OF_STIMULUS, *OF_FEATURE):
        if name not in trials:
            out[name] = rows[name]
            continue
        faults += _disagreements(trials, rows, name)
        if name == "depth":  # which a file may have rounded
            out[name] = rows[name].astype(float).where(rows[name].notna(), trials[name].astype(float))
        elif trials[name].isna().any():  # the run knows what the file left blank
            out[name] = _filled(trials[name], rows[name])
    if faults:
        raise DataError(faults)
    for name in [*new, *evidence.columns]:
        out[name] = rows[name]
    out["catch"] = out["catch"].fillna(False).astype(bool)
    for name, table in (levels or {}).items():
        if name in out and not isinstance(out[name].dtype, pd.CategoricalDtype) and name not in trials:
            order = dict.fromkeys(table.values() if isinstance(table, Mapping) else table)
            out[name] = pd.Categorical(out[name], list(order))
    return order_levels(out)


def examine_joined(trials: Given, run: FeaturesRun, **options: Any) -> TrialTable:
    """Read a trial table, judge it, and join what a features run knows; every fault of both.

    Parameters
    ----------
    trials, **options
        As of `psychostats.trials.examine_trials`; `needed` need not name what the run provides.
    run
        The features run that the trials were shown from.
    """
    levels, filters = dict(options.pop("levels", None) or {}), dict(options.pop("filters", None) or {})
    columns = options.get("columns") or {}
    raw = trials
    if not isinstance(raw, Raw):
        given = {"reading": options.get("reading", PLAIN), "say": options.get("say", lambda line: None)}
        raw = read_recordings(raw, columns=columns, **given)
    held = {*raw.cells, *columns}
    # What only the run knows is recoded, and rows are chosen by it, once it is there.
    later = {name: wanted for name, wanted in filters.items() if name not in held and name in run.provides}
    table = examine_trials(
        raw,
        **options,
        levels={name: one for name, one in levels.items() if name in held or name not in run.provides},
        filters={name: wanted for name, wanted in filters.items() if name not in later},
    )
    if table.errors or table.frame.empty:
        return table
    try:
        frame = attach_features(table.frame, run, levels=levels)
    except DataError as error:
        return replace(table, faults=errors_first([*table.faults, *error.faults]))
    found: list[Fault] = []
    for name, wanted in later.items():
        chosen = {str(one) for one in (wanted if isinstance(wanted, list | tuple) else [wanted])}
        frame = frame[frame[name].astype(object).map(str).isin(chosen)]
        if frame.empty:
            found.append(Fault(f"No trial is left: none has {name} {' or '.join(sorted(chosen))}.", "error", name))
            break
    at = options.get("assigned", "representation")
    if at not in table.frame and len(frame):
        found += assignment_faults(frame, (), options.get("assignment"), at=at)
    aside = len(table.frame) - len(frame)
    return replace(
        table, frame=frame, faults=errors_first([*table.faults, *found]), n_filtered=table.n_filtered + aside
    )


def _columns(stimuli: pd.DataFrame, features: pd.DataFrame) -> list[str]:
    """Return the columns that trials do not have themselves."""
    own = {"stimulus", "feature", *OF_STIMULUS, *OF_FEATURE, *_LEFT}
    return [name for name in dict.fromkeys([*stimuli, *features]) if name not in own]


def _strange_levels(
    known: pd.DataFrame, trials: pd.DataFrame, levels: Mapping[str, Sequence[str] | Mapping[str, str]]
) -> Iterator[Fault]:
    """Yield levels of the run that a study does not allow; those of the trials' own columns were judged before."""
    for name, table in levels.items():
        if name in trials or name not in known:
            continue
        allowed = list(dict.fromkeys(table.values() if isinstance(table, Mapping) else table))
        shown = known.loc[known.index.isin(trials["stimulus"].dropna().unique()), name]
        strange = sorted(set(shown.dropna().astype(str)) - set(allowed))
        if strange:
            yield Fault(
                f"The features run's '{name}' holds {name_some(strange, quote=True)}; the study allows "
                f"{', '.join(allowed)}.",
                "error",
                name,
            )


def _filled(cells: pd.Series[Any], known: pd.Series[Any]) -> pd.Series[Any]:
    """Fill blank cells; categories stay where they hold every level."""
    filled = cells.astype(object).where(cells.notna(), known.astype(object))
    if isinstance(cells.dtype, pd.CategoricalDtype) and set(filled.dropna()) <= set(cells.cat.categories):
        return pd.Series(pd.Categorical(filled, cells.cat.categories), index=cells.index)
    return filled.infer_objects()


def _twice(table: pd.DataFrame, key: str) -> Iterator[Fault]:
    again = table.loc[table[key].duplicated(), key].unique().tolist()
    if again:
        yield Fault(f"The table of {_PLURAL[key]} names {name_some(again, quote=True)} more than once.", "error", key)


_PLURAL = {"stimulus": "stimuli", "feature": "features"}


def _unknown(trials: pd.DataFrame, stimuli: pd.DataFrame, features: pd.DataFrame) -> Iterator[Fault]:
    """Yield ids that the run does not hold, and analysed trials without one."""
    shown = trials["stimulus"]
    blank = shown.isna() & analysed(trials)
    if blank.any():
        yield Fault(
            f"{int(blank.sum())} analysed trials name no stimulus, the first in row {blank.idxmax()}.",
            "error",
            "stimulus",
        )
    strange = [one for one in shown.dropna().unique() if one not in set(stimuli["stimulus"])]
    if strange:
        near = nearest(str(strange[0]), map(str, stimuli["stimulus"]))
        what = "no stimulus" if len(strange) == 1 else f"{len(strange)} stimuli that are none"
        yield Fault(
            f"The trials show {what} of the features run: {name_some(strange, quote=True)}{near}.", "error", "stimulus"
        )
    used = stimuli[stimuli["stimulus"].isin(shown.dropna().unique())]
    strange = sorted(set(used["feature"].dropna()) - set(features["feature"]))
    if strange:
        yield Fault(
            f"Stimuli are of features that the table of features lacks: {name_some(strange, quote=True)}.",
            "error",
            "feature",
        )


def _versions(trials: pd.DataFrame, rows: pd.DataFrame) -> Iterator[Fault]:
    """Yield the stimuli whose trials were recorded with another version of them."""
    if "version" not in trials or "version" not in rows:
        return
    asked = trials["version"].notna() & rows["version"].notna()
    other = trials.loc[asked & (trials["version"].astype(object) != rows["version"].astype(object)), "stimulus"]
    if len(other):
        named = other.unique().tolist()
        first = int(np.flatnonzero(trials.index == other.index[0])[0])
        yield Fault(
            f"{len(other)} trials show another version of their stimulus than the features run holds: "
            f"{name_some(named, quote=True)} (row {other.index[0]}: {trials['version'].iloc[first]}, the run has "
            f"{rows['version'].iloc[first]}); take the run that the stimuli were shown from.",
            "error",
            "version",
        )


def _disagreements(trials: pd.DataFrame, rows: pd.DataFrame, name: str) -> Iterator[Fault]:
    """Yield what a trial says otherwise than the run; a blank cell says nothing."""
    mine, theirs = trials[name], rows[name]
    if name == "phase":  # that a stimulus was shown again is the trial's to say
        mine = mine.astype(object).where(mine.astype(object) != "repeat", theirs.astype(object))
    both = mine.notna() & theirs.notna()
    if name == "depth":  # a file may round it to two decimals
        apart = ~np.isclose(mine[both].astype(float), theirs[both].astype(float), rtol=0, atol=5e-3)
    else:
        apart = (mine[both].astype(object) != theirs[both].astype(object)).to_numpy(dtype=bool)
    if apart.any():
        at = int(np.flatnonzero(both)[np.flatnonzero(apart)[0]])
        yield Fault(
            f"{int(apart.sum())} trials have another {name} than their stimulus: row {mine.index[at]} says "
            f"'{mine.iloc[at]}', stimulus '{trials['stimulus'].iloc[at]}' of the features run '{theirs.iloc[at]}'.",
            "error",
            name,
        )
