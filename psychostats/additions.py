"""The trials that a study was extended by: stored beside it, and read together with its own.

In: a study, its ledger, and clean trials with the files they came from.  Out: the ledger with an addition more, or the
study's trials and its additions as one table, judged as a whole.  Knows no model and no report.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from psychostats.columns import COLUMNS
from psychostats.errors import DataError, Fault, InputError
from psychostats.features import FeaturesRun
from psychostats.identity import redact
from psychostats.ledger import LEDGER, Ledger, read_ledger, table_name, write_durably, write_rows
from psychostats.locks import held_alone
from psychostats.parts import Source
from psychostats.rendering import source_date
from psychostats.study import Study
from psychostats.trials import TrialTable, examine_trials

BATCH = "addition"
"""The column that says with which addition a trial came, 0 being the study's own; `batch` is often one of stimuli."""

# A participant's trial is the same one if these agree, and the same record of it if the answers do too.
_TRIAL = ("participant", "experiment", "session", "phase", "block", "trial")
_ANSWERS = ("stimulus", "feature", "pair", "response", "correct", "rt", "confidence")

# What people are not called by; the names of stimuli and features may look like ids.
_SPARED = COLUMNS.keys() - {"participant", "session"}

# Reading ---------------------------------------------------------------------------------------------------------


def read_additions(ledger: Ledger) -> pd.DataFrame:
    """Return the trials that were added, as they were stored.

    Parameters
    ----------
    ledger
        From `read_ledger`, which has checked the tables.

    Returns
    -------
    pandas.DataFrame
        Canonical columns, text as text, before exclusions, with the column `BATCH`; index ``row``, from 1.  Where only
        some additions have `phase` or `catch`, the trials of the others are main trials and no catch trials.
    """
    tables = []
    for batch, name in enumerate(dict.fromkeys(ledger.rows["stored"]), 1):
        try:
            # Straight from the bytes: a reader that is given a path may look for more of the data set beside it.
            table = pq.read_table(io.BytesIO(ledger.path.with_name(name).read_bytes())).to_pandas()
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"the table {ledger.path.with_name(name)} cannot be read: {error}.") from error
        tables.append(table.assign(**{BATCH: batch}))
    return _stacked(tables) if tables else pd.DataFrame({BATCH: pd.Series(dtype="int64")})


def read_extended(
    study: Study,
    trials: str | Path | None = None,
    run: FeaturesRun | None = None,
    ledger: Ledger | None = None,
    *,
    key: bytes | None = None,
    skip_bad: bool = False,
) -> TrialTable:
    """Read a study's own trials and its additions as one table, and judge the whole again.

    The study's file is read as the study says.  Additions were when they came, so that the study's columns, recoding
    and filters are not applied to them a second time; its levels and what it needs hold for all.

    Parameters
    ----------
    study
        The study.
    trials
        Its own trials; without, those that ``[study] trials`` names.
    run
        A features run that its own trials are joined with.
    ledger
        Its ledger, where it has been read.
    key
        Of participants' pseudonyms in its own trials; those of additions were made when they came.
    skip_bad
        Leave out files and sessions of its own trials that have faults, and count them.

    Returns
    -------
    TrialTable
        With the column `BATCH`, 0 for the study's own trials.  Their rows are those of their file; added trials are
        numbered on from the last.  A trial that stands in two additions is a fault.

    Raises
    ------
    InputError
        If nobody says where the study's own trials are, or the ledger or what it names is damaged.
    """
    if trials is None:
        if not study.study.trials:
            raise InputError(f"{study.path} does not say where its trials are; give them, or [study] trials.")
        address = "://" in study.study.trials  # of a database, which lies in no folder
        trials = study.study.trials if address else study.path.parent / study.study.trials
    ledger = ledger or read_ledger(study)
    table = study.examine(trials, run, key=key, skip_bad=skip_bad)
    if table.errors:
        return table
    if BATCH in table.frame:
        raise InputError(f"Column '{BATCH}' of {trials} is what additions are numbered by; rename it in [columns].")
    own = table.frame.assign(**{BATCH: 0})
    if not ledger.batches:
        return replace(table, frame=own)
    whole = _stacked([own, read_additions(ledger)])
    last = int(own.index.max())
    whole.index = pd.Index([*own.index, *range(last + 1, last + 1 + len(whole) - len(own))], name="row")
    levels = {
        name: list(declared.values() if isinstance(declared, dict) else declared)
        for name, declared in study.levels.items()
        if name not in COLUMNS or COLUMNS[name].kind == "text"
    }
    judged = examine_trials(
        whole,
        levels=levels,
        needed=study.needed(),
        assignment=study.design.assignment,
        assigned=study.condition,
        unanswered="error" if study.rules().missing_response is None else "keep",
    )
    said = {fault.message for fault in judged.faults}
    return replace(
        table,
        frame=judged.frame,
        faults=(*judged.faults, *(fault for fault in table.faults if fault.message not in said)),
        n_rows=table.n_rows + len(whole) - len(own),
    )


def _stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables under each other: categories as text, and every row with the phase and the catch of a plain one."""
    names = {name for table in tables for name in table}
    plain = {name: value for name, value in (("phase", "main"), ("catch", False)) if name in names}
    filled = [_plain(table).assign(**{n: v for n, v in plain.items() if n not in table}) for table in tables]
    whole = pd.concat(filled, ignore_index=True)
    whole.index = pd.RangeIndex(1, len(whole) + 1, name="row")
    return whole


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with categories as text, None where there is none."""
    categorical = [name for name, column in frame.items() if isinstance(column.dtype, pd.CategoricalDtype)]
    return frame.assign(**{str(n): frame[n].astype(object).where(frame[n].notna(), None) for n in categorical})


# Writing ---------------------------------------------------------------------------------------------------------


def append(
    ledger: Ledger,
    trials: pd.DataFrame,
    sources: Sequence[Source],
    study: Study,
    key_fingerprint: str = "",
    *,
    own: pd.DataFrame | None = None,
) -> Ledger:
    """Store new trials beside the study file, and enter their files in its ledger; wholly or not at all.

    The table is written first and the ledger replaced after it, so that a process that is killed between leaves a table
    that no ledger names, which the next addition overwrites.

    Parameters
    ----------
    ledger
        Of the study; what others added meanwhile is read again.
    trials
        Clean trials as `Study.examine` returns them, before exclusions, one row a trial.
    sources
        The files they came from.  Those of status ``known`` are passed over.
    study
        The study that is extended.
    key_fingerprint
        Of the key that participants' pseudonyms were made with.
    own
        The study's own clean trials, among which the new ones must not be.

    Returns
    -------
    Ledger
        With the new rows.

    Raises
    ------
    InputError
        If a file came before, a participant's trials are in the study already, ids are a platform's, pseudonyms were
        made with another key, another process is appending, or the folder cannot be written.
    """
    folder = ledger.path.parent
    with held_alone(folder, "adding to"):
        ledger = read_ledger(study)
        sources = [one for one in sources if one.status != "known"]
        require_addable(ledger, trials, sources, key_fingerprint, own=own)
        batch = ledger.batches + 1
        trials = _with_new_sessions(trials, (own, read_additions(ledger)), batch)
        table = folder / table_name(batch)
        content = _parquet(trials)
        when = source_date() or datetime.now(UTC)
        shared = {
            "batch": batch,
            "added": when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "participants": trials["participant"].nunique(),
            "stored": table.name,
            "stored_sha256": hashlib.sha256(content).hexdigest(),
            "study_sha256": study.sha256,
            "key_fingerprint": key_fingerprint,
        }
        new = [
            shared | {"file": _printable(one.name), "sha256": one.sha256, "size": one.size, "tool": one.tool}
            | {"rows": one.rows, "status": "skipped" if one.status == "skipped" else "added"}
            for one in sources
        ]  # fmt: skip
        rows = pd.concat([ledger.rows, pd.DataFrame(new, columns=list(LEDGER))], ignore_index=True)
        try:
            write_durably(table, content)
            write_rows(ledger.path, rows)
        except OSError as error:
            table.unlink(missing_ok=True)
            raise InputError(f"the addition cannot be written to {folder}: {error.strerror}.") from error
    return replace(ledger, rows=rows.astype(ledger.rows.dtypes.to_dict()))


def require_addable(
    ledger: Ledger,
    trials: pd.DataFrame,
    sources: Sequence[Source],
    key_fingerprint: str = "",
    *,
    own: pd.DataFrame | None = None,
) -> None:
    """Refuse what must not be added; `append` asks the same again, this before an hour of fits.

    Parameters
    ----------
    ledger, trials, sources, key_fingerprint, own
        As for `append`.

    Raises
    ------
    InputError
        As `append` does, but for what only writing shows.
    """
    sources = [one for one in sources if one.status != "known"]
    read = [one for one in sources if one.status == "read"]
    if trials.empty or not read:
        raise InputError("there is nothing to add: no file holds trials that the study does not have.")
    if "participant" not in trials:
        raise InputError("Column 'participant' is needed to extend a study, but the new trials have none.")
    if BATCH in trials:
        raise InputError(f"Column '{BATCH}' is what additions are numbered by; rename it in [columns].")
    if came := ledger.known(read):
        source, batch, when = came[0]
        more = f" (and {len(came) - 1} more of these files)" if len(came) > 1 else ""
        place = f"was added as addition {batch} on {when}" if batch else "is the study's own trials"
        raise InputError(f"File '{redact(source.name)}'{more} {place}, so it is not added again.")
    first: dict[str, Source] = {}
    for one in read:
        if (same := first.setdefault(one.sha256, one)) is not one:
            raise InputError(f"Files '{redact(same.name)}' and '{redact(one.name)}' are the same, byte by byte.")
    for name in trials.columns.difference(sorted(_SPARED)):
        if not pd.api.types.is_numeric_dtype(trials[name]) and any(
            map(_is_id, trials[name].dropna().astype(str).unique())
        ):
            raise InputError(f"Column '{name}' holds ids of a recruiting platform; only pseudonyms are stored.")
    keys = set(ledger.rows["key_fingerprint"]) - {""}
    if key_fingerprint and keys and key_fingerprint not in keys:
        raise InputError(
            f"the pseudonyms of the new trials were made with another key ({key_fingerprint}) than those of the ledger "
            f"({', '.join(sorted(keys))}), so that nobody who took part twice would be noticed; use the same key."
        )
    for held in (own, read_additions(ledger)):
        if held is not None and len(held):
            _check_people(held, trials)


def _check_people(held: pd.DataFrame, trials: pd.DataFrame) -> None:
    """Refuse participants of whom the study has the same trials."""
    if "participant" not in held:
        return
    both = set(held["participant"].astype(str)) & set(trials["participant"].astype(str))
    held, trials = (frame[frame["participant"].astype(str).isin(both)] for frame in (held, trials))
    shared = [name for name in (*_TRIAL, *_ANSWERS) if name in held and name in trials]
    # A recording that was saved again may be called another session. Two times that agree to the millisecond are hardly
    # chance, but who takes part again may well give the same answers to many trials.
    share = 0.5 if "rt" in shared else 1.0
    same = _found(held, trials, [name for name in shared if name not in ("session", "block")])
    _refuse_people([who for who, found in same.items() if sum(found) >= share * len(found)], "the same answers")
    if "trial" in shared and not (_has_named_sessions(held) and _has_named_sessions(trials)):
        numbered = _found(held, trials, [name for name in shared if name in _TRIAL])
        _refuse_people(
            [who for who, found in numbered.items() if any(found)],
            "other answers to trials of the same number",
            "; if they took part again, say so by the column 'session', and if they are others, give them other ids",
        )


def _has_named_sessions(frame: pd.DataFrame) -> bool:
    """Whether sessions have names, which recordings take from their files, and no numbers that somebody gave."""
    return "session" in frame and bool(pd.to_numeric(frame["session"].astype(object), errors="coerce").isna().all())


def _with_new_sessions(trials: pd.DataFrame, before: Sequence[pd.DataFrame | None], batch: int) -> pd.DataFrame:
    """Return trials whose sessions bear names that the study does not have of these people.

    Whoever takes part again is recorded in a file that is called as the first one was, where files are called by
    people; their answers are others, which was asked before.
    """
    if not _has_named_sessions(trials):
        return trials
    names = ["participant", "session"]
    held = {
        record
        for one in before
        if one is not None and set(names) <= set(one)
        for record in one[names].astype(str).itertuples(index=False, name=None)
    }
    again = [record in held for record in trials[names].astype(str).itertuples(index=False, name=None)]
    named = trials["session"].astype(object)
    return trials.assign(session=named.where(~pd.Series(again, index=trials.index), named.astype(str) + f":{batch}"))


def _refuse_people(people: Sequence[str], what: str, advice: str = "") -> None:
    if people:
        who = f"{len(people)} participant" + "s" * (len(people) > 1)
        message = f"The study has {what} of {who} already, so nothing was added{advice}."
        raise DataError([Fault(message, column="participant")])


def _found(held: pd.DataFrame, trials: pd.DataFrame, names: Sequence[str]) -> dict[str, list[bool]]:
    """Return of each participant which of the new trials the study has, judged by these columns."""
    before = set(_records(held, names))
    found: dict[str, list[bool]] = {}
    for record in _records(trials, names):
        found.setdefault(str(record[0]), []).append(record in before)
    return found


def _records(frame: pd.DataFrame, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return rows that can be compared: numbers as floats, None where a cell holds nothing."""
    columns = []
    for name in names:
        column = frame[name]
        cells = column.astype(float) if pd.api.types.is_numeric_dtype(column) else column.astype(object).map(str)
        columns.append(cells.astype(object).where(column.notna(), None).tolist())
    return list(zip(*columns, strict=True))


def _is_id(cell: str) -> bool:
    return redact(cell) != cell


def _printable(name: str) -> str:
    """Return a file's name without platforms' ids, and bytes that are no letters written out."""
    return redact(name).encode("utf-8", "backslashreplace").decode("utf-8")


def _parquet(trials: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    try:
        pq.write_table(pa.Table.from_pandas(_plain(trials), preserve_index=False), buffer)
    except (pa.ArrowException, UnicodeError) as error:
        raise InputError(f"the new trials cannot be stored as a table: {error}.") from error
    return buffer.getvalue()
