"""What is wrong with the keys of a study file, in sentences.

In: one fault of the validation, and the tables there are.  Out: a sentence that names the table, the key and what is
allowed; and the dotted keys of what a file sets.  Knows no value's meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from psychostats.errors import nearest
from psychostats.settings import (
    DesignTable,
    EffectsTable,
    FamilyTable,
    JointTable,
    LapsesTable,
    ModelTable,
    MultiverseTable,
    OpinionTable,
    PowerTable,
    ReportTable,
    ShownTable,
    SimulateTable,
    StudyTable,
)


def say_fault(fault: Any, known_tables: Sequence[str]) -> str:
    """Turn one fault of the validation into a sentence that names the table, the key and what is allowed.

    Parameters
    ----------
    fault
        One of pydantic's ``ValidationError.errors()``.
    known_tables
        Names of every table that a file may have.
    """
    place = [part for part in fault["loc"] if not str(part).startswith(("list[", "dict["))]
    table, key = str(place[0]), ".".join(str(part) for part in place[1:])
    if fault["type"] == "extra_forbidden":
        if len(place) == 1:
            return f"unknown table [{table}]{nearest(table, known_tables)}; allowed are {', '.join(known_tables)}."
        inner = ".".join(str(part) for part in place[:-1])
        table = inner if inner in TABLES else table
        known = fields_of(TABLES[table])
        return (
            f"unknown key '{place[-1]}' in [{table}]{nearest(str(place[-1]), known)}; allowed are {', '.join(known)}."
        )
    if fault["type"] == "missing":
        return f"[{table}] lacks '{key}'." if key else f"the table [{table}] is missing."
    where = f"[{table}] {key}" if key else f"[{table}]"
    if fault["type"] in ("model_type", "dict_type") and not key:
        return f"{where} is {fault['input']!r}; it must be a table."
    return f"{where} is {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}."


#: Tables whose keys are named where one is unknown.
TABLES: dict[str, type[BaseModel]] = {
    "study": StudyTable,
    "design": DesignTable,
    "simulate": SimulateTable,
    "simulate.shown": ShownTable,
    "lapses": LapsesTable,
    "models": ModelTable,
    "opinions": OpinionTable,
    "joint": JointTable,
    "effects": EffectsTable,
    "multiverse": MultiverseTable,
    "multiverse.families": FamilyTable,
    "power": PowerTable,
    "report": ReportTable,
}


def fields_of(table: type[BaseModel]) -> list[str]:
    """Return the keys of a table."""
    return list(table.model_fields)


def dotted(content: Mapping[str, Any], before: str = "") -> list[str]:
    """Return every dotted key of nested tables; in a list of tables, each table's under its name."""
    keys = []
    for name, value in content.items():
        keys.append(f"{before}{name}")
        if isinstance(value, Mapping):
            keys += dotted(value, f"{before}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for item in value:
                keys += dotted(item, f"{before}{name}.{item.get('name', '')}.")
    return keys
