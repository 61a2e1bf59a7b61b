"""Changes to a copy on SQLite, made in its file with every trigger and reference off."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

from backups.engines.sqlite.content import columns_of, quoted
from backups.engines.sqlite.files import path_of, translated
from backups.model import Source
from verify.meddle.registry import NothingToChange, by_name

_OURS = "name NOT LIKE 'sqlite~_%' ESCAPE '~' AND sql IS NOT NULL"
_TABLES = (
    f"SELECT name FROM sqlite_schema WHERE type = 'table' AND {_OURS} AND sql NOT LIKE"
    " 'CREATE VIRTUAL%' ORDER BY 1"
)
_INDEXES = f"SELECT name FROM sqlite_schema WHERE type = 'index' AND {_OURS} ORDER BY 1"
_TRIGGERS = f"SELECT name FROM sqlite_schema WHERE type = 'trigger' AND {_OURS} ORDER BY 1"
_COUNTED = "SELECT name FROM sqlite_schema WHERE name = 'sqlite_sequence'"

Do = Callable[[sqlite3.Connection, str], bool]


def _first(found: str, do: Do, target: Source) -> None:
    """Do it to the first thing found to which it can be done."""
    path = path_of(target)
    with (
        translated(path),
        closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None)) as to,
    ):
        to.execute("PRAGMA journal_mode = DELETE")
        for (name,) in to.execute(found).fetchall():
            try:
                if do(to, name):
                    return
            except sqlite3.Error:  # this one is protected: the next may not be
                continue
    raise NothingToChange


def _say(statement: str) -> Do:
    def do(connection: sqlite3.Connection, name: str) -> bool:
        return connection.execute(statement.format(name=quoted(name))).rowcount != 0

    return do


def _remove_row(connection: sqlite3.Connection, table: str) -> bool:
    _no_triggers(connection, table)
    one = f"SELECT rowid FROM {quoted(table)} LIMIT 1"
    statement = f"DELETE FROM {quoted(table)} WHERE rowid = ({one})"
    return connection.execute(statement).rowcount == 1


def _change_row(connection: sqlite3.Connection, table: str) -> bool:
    """The last column of one row, so that a key stays what it is."""
    _no_triggers(connection, table)
    name = quoted(columns_of(connection, table)[-1])
    new = f"CASE typeof({name}) WHEN 'text' THEN {name} || 'x' ELSE coalesce({name}, 0) + 1 END"
    one = f"SELECT rowid FROM {quoted(table)} WHERE typeof({name}) <> 'blob' LIMIT 1"
    statement = f"UPDATE {quoted(table)} SET {name} = {new} WHERE rowid = ({one})"
    return connection.execute(statement).rowcount == 1


def _no_triggers(connection: sqlite3.Connection, table: str) -> None:
    found = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?"
    if connection.execute(found, (table,)).fetchone() != (0,):
        raise sqlite3.IntegrityError("a trigger would do more than one change")


_KINDS: tuple[tuple[str, str, str, str, Do], ...] = (
    ("table dropped", "a table is gone", "structure", _TABLES, _say("DROP TABLE {name}")),
    ("column added", "a table has one column more", "structure", _TABLES,
     _say("ALTER TABLE {name} ADD COLUMN meddled_with")),
    ("index dropped", "an index is gone", "structure", _INDEXES, _say("DROP INDEX {name}")),
    ("trigger dropped", "a trigger is gone", "structure", _TRIGGERS,
     _say("DROP TRIGGER {name}")),
    ("row removed", "a row is gone", "rows", _TABLES, _remove_row),
    ("row changed", "one value of one row is another", "content", _TABLES, _change_row),
    ("sequence reset", "a counter begins anew", "sequences", _COUNTED,
     _say("UPDATE {name} SET seq = 0 WHERE rowid = (SELECT rowid FROM {name} WHERE seq > 0)")),
)  # fmt: skip

MEDDLINGS = by_name(_KINDS, _first)
"""By name."""
