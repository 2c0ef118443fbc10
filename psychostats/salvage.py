"""What is left where files or sessions are at fault: the good ones, and how many were left out.

In: cells that remember their files, and the faults found in them.  Out: the cells without what is at fault, the faults
as warnings, and counts for the flow table.  Judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from psychostats.cells import Bools, Cells, Raw, is_blank, parse_text
from psychostats.errors import Fault
from psychostats.parts import LeftOut, Source

_LEFT = "Left out: "
_FAULTS = "sessions with faults"
_TWICE = "sessions recorded twice"


@dataclass(frozen=True)
class Rest:
    """What `leave_out` leaves: the good cells, what was left out, and why, as warnings."""

    raw: Raw
    left_out: tuple[LeftOut, ...]
    skipped: tuple[Fault, ...]


def leave_out(raw: Raw, errors: Sequence[Fault], columns: Mapping[str, str]) -> Rest | None:
    """Leave out the files that could not be read, copies of others, and the sessions whose rows are at fault.

    A session is what has one `session` and `participant`; without sessions, a participant of one file.  A fault that
    names a file but no row of it that was read costs the file.

    Parameters
    ----------
    raw
        What was read.
    errors
        The faults, with files and rows as `psychostats.places` gives them.
    columns
        Our name -> the file's name.

    Returns
    -------
    Rest or None
        None where no fault names a file or a row, so that nothing can be left out.
    """
    at = np.asarray(raw.rows, dtype=np.int64)
    files, local = (np.asarray(one)[at - 1] for one in raw.origins) if raw.origins is not None else (None, at)
    places = {source.name: place for place, source in enumerate(raw.sources)}
    keys = _keys(raw, files, columns)
    whole, twice, faulty = (np.zeros(len(at), dtype=bool) for _ in range(3))
    lost: dict[int, str] = {}
    copies: set[int] = set()
    skipped: list[Fault] = []
    for fault in errors:
        rows = fault.rows or ((fault.row,) if fault.row is not None else ())
        here = np.ones(len(at), dtype=bool)
        if fault.file is not None and files is not None:
            here = files == places.get(fault.file, -1)
        hit = here & np.isin(local, rows) if rows else np.zeros(len(at), dtype=bool)
        # Of a table with one row a participant, every trial of hers has that row.
        if len(np.unique(local[hit])) == len(set(rows)) and hit.any():
            mask = twice if fault.column == "session" else faulty
            mask |= _sessions(keys, hit)
        elif fault.file in places:
            lost.setdefault(places[fault.file], fault.message)
            if fault.column == "session" and not rows:  # the same bytes as another file's, so no trial of it was read
                copies.add(places[fault.file])
            if files is not None:
                whole |= here
        else:
            continue
        skipped.append(replace(fault, severity="warning", message=f"{_LEFT}{fault.message}"))
    if not skipped:
        return None
    twice &= ~whole
    faulty &= ~(whole | twice)
    keep = ~(whole | twice | faulty)
    left = []
    if unread := len(lost) - len(copies):
        people, trials = _lost(raw, whole, keep, columns)
        left.append(LeftOut(f"files that could not be read ({unread})", people, trials))
    if copies:
        left.append(LeftOut(f"copies of other files ({len(copies)})"))
    for step, mask in ((_FAULTS, faulty), (_TWICE, twice)):
        for experiment, part, here in _by_experiment(raw, mask, columns):
            left.append(LeftOut(step, *_lost(raw, part, keep & here, columns), experiment))
    reasons = dict(lost)
    if files is not None:
        for place in set(files.tolist()) - set(files[keep].tolist()):
            name = raw.sources[place].name
            reasons.setdefault(
                place, next((fault.message.removeprefix(_LEFT) for fault in skipped if fault.file == name), "")
            )
    sources = tuple(_without(source, reasons.get(place)) for place, source in enumerate(raw.sources))
    handled = {(fault.file, fault.column, fault.row, fault.rows) for fault in skipped}
    faults = tuple(one for one in raw.faults if (one.file, one.column, one.row, one.rows) not in handled)
    cells = raw.cells if keep.all() else {name: list(compress(held, keep)) for name, held in raw.cells.items()}
    rows_left = list(compress(raw.rows, keep))
    if not rows_left:
        faults += (Fault("Nothing is left to read: every file or session has a fault."),)
    return Rest(replace(raw, cells=cells, rows=rows_left, faults=faults, sources=sources), tuple(left), tuple(skipped))


def added_up(left: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    """Add up what was left out in several turns, a row a step and experiment."""
    found: dict[tuple[str, str | None], LeftOut] = {}
    for one in left:
        key = (one.step, one.experiment)
        before = found.get(key)
        if before is not None:
            one = replace(one, participants=one.participants + before.participants, trials=one.trials + before.trials)
        found[key] = one
    return tuple(found.values())


def _without(source: Source, reason: str | None) -> Source:
    if reason is None or source.status == "skipped":
        return source
    return replace(source, status="skipped", reason=reason)


Key = tuple[str | None, str | None, int]


def _keys(raw: Raw, files: np.ndarray | None, columns: Mapping[str, str]) -> list[Key]:
    size = len(raw.rows)
    blank: list[object] = [None] * size
    sessions = raw.cells.get(columns.get("session", "session"), blank)
    people = raw.cells.get(columns.get("participant", "participant"), blank)
    places = [0] * size if files is None else files.tolist()
    return [
        (parse_text(session), parse_text(person), 0 if not is_blank(session) else place)
        for session, person, place in zip(sessions, people, places, strict=True)
    ]


def _sessions(keys: list[Key], hit: Bools) -> Bools:
    """Return the rows of every session that a row of `hit` belongs to; a row of nobody stands for itself."""
    named = {key for key in compress(keys, hit) if key[:2] != (None, None)}
    same: Bools = np.fromiter((key in named for key in keys), dtype=bool, count=len(keys))
    return np.logical_or(hit, same)


def _lost(raw: Raw, mask: Bools, keep: Bools, columns: Mapping[str, str]) -> tuple[int, int]:
    """Return how many participants and trials of `mask` are lost; who has trials in `keep` is not."""
    name = columns.get("participant", "participant")
    return len(_people(raw.cells, name, mask) - _people(raw.cells, name, keep)), int(mask.sum())


def people_lost(before: Raw, after: Raw, columns: Mapping[str, str]) -> int:
    """Return of how many participants nothing is left in any experiment."""
    name = columns.get("participant", "participant")
    return len(_people(before.cells, name) - _people(after.cells, name))


def _people(cells: Mapping[str, Cells], name: str, mask: Bools | None = None) -> set[str | None]:
    held = cells.get(name, [])
    return {parse_text(one) for one in (held if mask is None else compress(held, mask))} - {None}


def _by_experiment(raw: Raw, mask: Bools, columns: Mapping[str, str]) -> list[tuple[str | None, Bools, Bools]]:
    """Return each experiment that has rows in `mask`, these, and all of its rows."""
    if not mask.any():
        return []
    held = raw.cells.get(columns.get("experiment", "experiment"))
    if held is None:
        return [(None, mask, np.ones(len(mask), dtype=bool))]
    words = np.array([parse_text(one) or "" for one in held], dtype=object)
    return [(name or None, mask & (words == name), words == name) for name in dict.fromkeys(words[mask].tolist())]
