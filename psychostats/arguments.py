"""Words of the command line into values: pairs, lists, numbers.

In: text as it was typed.  Out: mappings and lists, or one sentence that says how to write it.  Knows no command.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psychostats.errors import InputError

if TYPE_CHECKING:
    from psychostats.design import Coding

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def read_mapping(maps: list[str]) -> dict[str, str]:
    """Read ``new=old``."""
    pairs = {}
    for text in maps:
        new, found, old = text.partition("=")
        if not (found and new.strip() and old.strip()):
            raise InputError(f"--map '{text}' cannot be read; write new=old, for example --map participant=subject_id.")
        pairs[new.strip()] = old.strip()
    return pairs


def read_filters(filters: list[str]) -> dict[str, list[str]]:
    kept: dict[str, list[str]] = {}
    for text in filters:
        name, found, values = (part.strip() for part in text.partition("="))
        if not (found and name and values):
            raise InputError(f"--filter '{text}' cannot be read; write name=value, for example --filter phase=main.")
        kept.setdefault(name, []).extend(value.strip() for value in values.split(","))
    return kept


def read_duration(text: str) -> float:
    """Read a duration, ``90``, ``90s``, ``10m`` or ``2h``, as seconds."""
    number, unit = text.strip(), 1.0
    if number and number[-1].lower() in _UNITS:
        number, unit = number[:-1], _UNITS[number[-1].lower()]
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0.0):
        raise InputError(f"--budget '{text}' cannot be read; write a time above 0, for example 90s, 10m or 2h.")
    return seconds


def read_counts(option: str, text: str | None) -> tuple[int, ...] | None:
    """Read ``50,100,200``; None where nothing was given."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{option} '{text}' cannot be read; write whole numbers, for example {option} 50,100."
        ) from None


def spread(arguments: list[str]) -> list[str]:
    """Repeat an option before each of several values that follow it, so that ``--map a=b c=d`` is read as meant."""
    out: list[str] = []
    option = ""
    for argument in arguments:
        if argument.startswith("-"):
            option = argument if argument in ("--map", "--by", "--filter") else ""
        elif option and out and out[-1] != option:
            if "=" not in argument or Path(argument).exists():
                option = ""
            else:
                out.append(option)
        out.append(argument)
    return out


def read_values(by: list[str], coding: Coding) -> dict[str, list[Any]]:
    """Read ``name=value,value``: numbers for numeric predictors, levels for factors; a name alone takes all levels."""
    at: dict[str, list[Any]] = {}
    for text in by:
        name, found, values = (part.strip() for part in text.partition("="))
        if name in at:
            raise InputError(f"--by names '{name}' twice; give its values once, for example --by {name}=a,b.")
        if not found and name in coding.levels:
            at[name] = list(coding.levels[name])
            continue
        if not name or not values:
            raise InputError(f"--by '{text}' cannot be read; write name=value,value, for example --by depth=0,0.5,1.")
        parts = [part.strip() for part in values.split(",")]
        if name in coding.ranges:
            try:
                at[name] = [float(part) for part in parts]
            except ValueError:
                raise InputError(f"--by '{text}': {name} is numeric; give numbers, for example {name}=0,0.5.") from None
        else:
            at[name] = parts
    return at
