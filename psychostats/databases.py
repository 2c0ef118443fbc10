"""Databases: one table of a SQLite file or of a server as columns of values.

In: a file or an address, and which table.  Out: a part with the table's rows in an order that two readings share.
Writes nothing, shows no password and knows no tool.
"""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from psychostats.cells import Cells, columns_of_text, doubled_names, name_some, parse_text
from psychostats.errors import Fault, nearest
from psychostats.parts import Part

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine import URL, Inspector

_SUFFIXES = (".sqlite", ".sqlite3", ".db", ".xlsx", ".xlsm")
_ORDER = ("participant", "session", "trial")
_CHUNK = 10_000
_PATIENCE = 10  # seconds to wait for a server
_SECRET = re.compile(r"(//[^/@]*?:).*(@)", re.DOTALL)
_SECRET_OPTION = re.compile(r"([?&](?:password|passwd|sslpassword)=)[^&#\s]*", re.IGNORECASE)
_ADVICE = "install psychostats with the extra 'databases'"


def split_source(text: str) -> tuple[str, str | None]:
    """Split ``study.sqlite#trials``, ``results.xlsx#Sheet 2`` or ``postgresql://user@host/db#public.trials``.

    Returns
    -------
    tuple of str and (str or None)
        The file or the address, and the table or sheet if one is named.  A file whose own name holds ``#`` is meant
        before a table is.
    """
    if "://" in text:
        address, mark, table = text.rpartition("#")
        named = mark and not set(table) & {"@", "/"}  # else the # stands in a password
        return (address, table or None) if named else (text, None)
    marks = [place for place, sign in enumerate(text) if sign == "#"]
    if not marks or _is_there(text):
        return text, None
    heads = [text[:place] for place in marks]
    file = next((head for head in reversed(heads) if _is_there(head)), None)
    file = file or next((head for head in heads if head.lower().endswith(_SUFFIXES)), None)
    return (file, text[len(file) + 1 :] or None) if file is not None else (text, None)


def _is_there(name: str) -> bool:
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL in it
        return False


def hide_password(text: str) -> str:
    """Put ``***`` in place of the password of an address, also of one that cannot be read."""
    return _SECRET_OPTION.sub(r"\1***", _SECRET.sub(r"\1***\2", text))


# SQLite ----------------------------------------------------------------------------------------------------------


def read_sqlite(path: str | Path, table: str | None = None) -> Part:
    """Read one table or view of a SQLite file, which is opened to be read only.

    Parameters
    ----------
    path
        The file.
    table
        Its table; None takes the only one.

    Returns
    -------
    Part
        Rows are numbered from 1, ordered by `participant`, `session` and `trial` and then by all columns, as a table
        of a database has no order.  Whatever is wrong is a fault.
    """
    path = Path(path)
    refuse = _refuser("SQLite", f"File '{path}'", str(path))
    try:
        if not path.is_file():
            return refuse("is no file")
        with closing(_opened(path)) as connection:
            listed = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
            names = sorted(str(name) for (name,) in listed if not str(name).startswith("sqlite_"))
            chosen = _chosen(table, names)
            if not isinstance(chosen, str):
                return refuse(chosen.why)
            quoted = chosen.replace('"', '""')
            cursor = connection.execute(f'SELECT * FROM "{quoted}"')
            header = [column[0] for column in cursor.description]
            rows = _Rows(cursor)
    except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
        return refuse(f"cannot be read as a SQLite database ({_first_line(error)})")
    return _made(header, rows, "SQLite", chosen, refuse)


def _opened(path: Path) -> sqlite3.Connection:
    """Open a file so that nothing of it can change, not even its journal.

    A file beside which a journal lies holds only a part of the data; with it, SQLite reads both.
    """
    journal = any(
        beside.exists() and beside.stat().st_size for beside in (Path(f"{path}-wal"), Path(f"{path}-journal"))
    )
    address = f"file:{quote(str(path.absolute()))}?mode=ro" + ("" if journal else "&immutable=1")
    connection = sqlite3.connect(address, uri=True)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


# Servers ---------------------------------------------------------------------------------------------------------


def read_server(url: str, table: str | None = None) -> Part:
    """Read one table or view of a database server through SQLAlchemy, in a transaction that may only read.

    The latter is PostgreSQL's; other servers are asked for nothing but a table's rows.

    Parameters
    ----------
    url
        Its address, such as ``postgresql://user@host/database``, which is read by psycopg 3; drivers find passwords
        that are not in it, in ``PGPASSWORD`` or ``~/.pgpass``.
    table
        Its table, or ``schema.table``; None takes the only one.

    Returns
    -------
    Part
        As `read_sqlite` gives it.  No message holds the password.
    """
    refuse = _refuser("database", f"Database '{hide_password(url)}'", hide_password(url))
    try:
        import sqlalchemy
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
    except ImportError:
        return refuse(f"cannot be read without SQLAlchemy; {_ADVICE}")
    try:
        address = sqlalchemy.make_url(re.sub(r"^postgres(?:ql)?://", "postgresql+psycopg://", url))
        backend = address.get_backend_name()
    except (ArgumentError, ValueError):
        return refuse("is no address; one looks like 'postgresql://user@host:5432/database'")
    if backend == "sqlite":
        return refuse("is a SQLite file; name the file itself")
    title = "PostgreSQL" if backend == "postgresql" else backend
    refuse = _refuser(title, f"Database '{hide_password(url)}'", hide_password(url))
    secrets = _secrets(address)
    try:
        waiting = {"connect_timeout": _PATIENCE} if backend in ("postgresql", "mysql", "mariadb") else {}
        engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool, connect_args=waiting)
        with engine.connect() as connection:
            if backend == "postgresql":
                connection = connection.execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ")
            chosen, header, rows = _fetched(connection, table)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        return refuse(f"cannot be read, as its driver is missing ({_first_line(error, secrets)}); {_ADVICE}")
    except SQLAlchemyError as error:
        return refuse(f"cannot be read ({_first_line(getattr(error, 'orig', None) or error, secrets)})")
    except Exception as error:  # drivers have errors of their own, which not all come wrapped
        return refuse(f"cannot be read ({_first_line(error, secrets)})")
    if not isinstance(chosen, str):
        return refuse(chosen.why)
    return _made(header, rows, title, chosen, refuse)


def _fetched(connection: Connection, table: str | None) -> tuple[str | _NotChosen, list[str], _Rows]:
    import sqlalchemy

    inspector = sqlalchemy.inspect(connection)
    places = _places(inspector)
    if table is not None and table not in places:
        table = table.removeprefix(f"{inspector.default_schema_name}.")
    chosen = _chosen(table, list(places))
    if not isinstance(chosen, str):
        return chosen, [], _Rows(())
    schema, name = places[chosen]
    quoted = sqlalchemy.quoted_name(name, quote=True)
    source = sqlalchemy.table(quoted, schema=None if schema is None else sqlalchemy.quoted_name(schema, quote=True))
    query = sqlalchemy.select(sqlalchemy.text("*")).select_from(source)
    result = connection.execution_options(yield_per=_CHUNK).execute(query)
    header = [str(name) for name in result.keys()]  # noqa: SIM118 - a result is no mapping
    return chosen, header, _Rows(row for chunk in result.partitions() for row in chunk)


def _places(inspector: Inspector) -> dict[str, tuple[str | None, str]]:
    """Return what each table and view is called, by its name or ``schema.table``, and where it lies."""
    default = inspector.default_schema_name
    schemas = [name for name in inspector.get_schema_names() if not _of_the_server(name)]
    places: dict[str, tuple[str | None, str]] = {}
    for schema in sorted(schemas, key=lambda name: (name != default, name)):
        names = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
        if inspector.dialect.name == "postgresql":
            names += inspector.get_materialized_view_names(schema)
        for name in sorted(names):
            places[name if schema == default else f"{schema}.{name}"] = (schema, name)
    return places


def _of_the_server(schema: str) -> bool:
    return schema.startswith("pg_") or schema.lower() in ("information_schema", "mysql", "performance_schema", "sys")


def _secrets(address: URL) -> list[str]:
    """Return how the password may stand in a message: as it is, and as the address writes it."""
    options = [value for name, value in address.query.items() if "passw" in name.lower()]
    words = [str(address.password or ""), *(str(value) for value in options)]
    return [form for word in words if word for form in (word, unquote(word), quote(word, safe=""))]


# Both ------------------------------------------------------------------------------------------------------------


class _NotChosen:
    """Why no table is read."""

    def __init__(self, why: str):
        self.why = why


def _chosen(table: str | None, names: Sequence[str]) -> str | _NotChosen:
    """Return the table that is meant, under the name that `names` has."""
    listed = name_some(names, limit=20, quote=True)
    if not names:
        return _NotChosen("has no tables that this user may see")
    if table is None:
        return names[0] if len(names) == 1 else _NotChosen(f"has {len(names)} tables ({listed}); add '#' and the one")
    if table in names:
        return table
    bare = [name for name in names if name.endswith(f".{table}")]  # of another schema than the user's own
    if len(bare) == 1:
        return bare[0]
    return _NotChosen(f"has no table '{table}'{nearest(table, names)}; it has {listed}")


def _refuser(tool: str, what: str, file: str) -> Callable[[str], Part]:
    return lambda why: Part(tool=tool, faults=(Fault(f"{what} {why}.", file=file),))


def _first_line(error: BaseException, secrets: Collection[str] = ()) -> str:
    """Return what an error says first, in one line without the password."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0].rstrip(".:") if lines else type(error).__name__
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return hide_password(text)


class _Rows:
    """A table's rows as cells, with equal text kept once, and the places of columns that held intervals."""

    def __init__(self, rows: Iterable[Sequence[Any]]):
        self.intervals: set[int] = set()
        kept: dict[str, str] = {}
        self.cells = [[self._cell(cell, place, kept) for place, cell in enumerate(row)] for row in rows]

    def _cell(self, cell: Any, place: int, kept: dict[str, str]) -> Any:
        if isinstance(cell, timedelta):
            self.intervals.add(place)
        cell = _cell(cell)
        return kept.setdefault(cell, cell) if isinstance(cell, str) else cell


def _made(header: Sequence[str], rows: _Rows, tool: str, table: str, refuse: Callable[[str], Part]) -> Part:
    if not rows.cells:
        return refuse(f"has no rows in table '{table}'")
    if doubled := doubled_names(list(header)):
        return Part(tool=tool, faults=doubled)
    ordered = _ordered(rows.cells, [header.index(name) for name in _ORDER if name in header])
    columns: Iterable[Cells] = map(list, zip(*ordered, strict=True))
    cells = dict(zip(header, columns, strict=True))
    notes = [f"A table of a database has no order, so rows of '{table}' are numbered in the order of {_named(header)}."]
    if timed := [header[place] for place in sorted(rows.intervals)]:
        notes.append(f"Intervals are read in seconds: {name_some(timed, quote=True)}.")
    return Part(cells, list(range(1, len(ordered) + 1)), tool, (), tuple(notes), columns_of_text(cells))


def _ordered(rows: list[Cells], by: Sequence[int]) -> list[Cells]:
    """Sort rows by some of their places, and those alike in these by all."""

    def ranks(row: Cells) -> list[tuple[int, float, str]]:
        return [_rank(row[place]) for place in by]

    ordered: list[Cells] = []
    for _, alike in itertools.groupby(sorted(rows, key=ranks), key=ranks):
        ordered += sorted(alike, key=lambda row: [_rank(cell) for cell in row])
    return ordered


def _named(header: Sequence[str]) -> str:
    named = [name for name in _ORDER if name in header]
    return ", ".join([*named, "then all columns"]) if named else "all columns"


def _cell(cell: Any) -> Any:
    """Return a database's value as a cell: text, a number, a boolean or None."""
    if isinstance(cell, str | int | float | None):
        return cell
    if isinstance(cell, Decimal):
        whole = cell.is_finite() and cell == cell.to_integral_value()
        return int(cell) if whole and abs(cell) < 10**18 else float(cell)
    if isinstance(cell, timedelta):
        return cell.total_seconds()
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    if isinstance(cell, bytes | bytearray | memoryview):
        return bytes(cell).decode("utf-8", "replace")
    if isinstance(cell, list | tuple | dict):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)


def _rank(cell: Any) -> tuple[int, float, str]:
    """Return where a cell stands among all kinds of cells: blanks, numbers, text."""
    if parse_text(cell) is None:
        return (0, 0.0, "" if cell is None else str(cell))
    try:
        return (1, float(cell), str(cell))
    except (TypeError, ValueError, OverflowError):
        return (2, 0.0, str(cell))
