"""Changes to a copy on MariaDB or MySQL, made by its superuser with references off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pymysql
from pymysql.connections import Connection

from backups.engines.mysql.server import connected, login
from backups.engines.mysql.sessions import quoted, rows
from backups.model import Source
from verify.meddle.registry import NothingToChange, by_name

_TABLES = """
    SELECT table_name FROM information_schema.tables
     WHERE table_schema = database() AND table_type = 'BASE TABLE' ORDER BY 1"""
_PLAIN = """
    SELECT t.table_name FROM information_schema.tables t
     WHERE t.table_schema = database() AND t.table_type = 'BASE TABLE' AND NOT EXISTS (
           SELECT 1 FROM information_schema.triggers g WHERE g.event_object_schema = database()
              AND g.event_object_table = t.table_name) ORDER BY 1"""
_COLUMNS = """
    SELECT c.table_name, c.column_name FROM information_schema.columns c
     WHERE c.table_schema = database() AND c.column_key = ''
       AND coalesce(c.generation_expression, '') = ''
       AND c.data_type IN ('varchar', 'char', 'text', 'int', 'bigint', 'decimal', 'smallint')
       AND c.table_name NOT IN (SELECT event_object_table FROM information_schema.triggers
                                 WHERE event_object_schema = database())
       AND c.table_name IN (SELECT table_name FROM information_schema.tables
                             WHERE table_schema = database() AND table_type = 'BASE TABLE')
     ORDER BY 1, c.ordinal_position"""
_INDEXES = """
    SELECT DISTINCT table_name, index_name FROM information_schema.statistics
     WHERE table_schema = database() AND index_name <> 'PRIMARY' ORDER BY 1, 2"""
_KEYS = """
    SELECT table_name, constraint_name FROM information_schema.referential_constraints
     WHERE constraint_schema = database() ORDER BY 1, 2"""
_TRIGGERS = """
    SELECT trigger_name FROM information_schema.triggers
     WHERE trigger_schema = database() ORDER BY 1"""
_COUNTED = """
    SELECT table_name FROM information_schema.tables
     WHERE table_schema = database() AND auto_increment > 1 ORDER BY 1"""

Do = Callable[["Connection[Any]", tuple[str, ...]], bool]


def _first(found: str, do: Do, target: Source) -> None:
    """Do it to the first thing found to which it can be done."""
    with connected(login(target)) as connection:
        rows(connection, "SET foreign_key_checks = 0")
        for names in rows(connection, found):
            try:
                if do(connection, names):
                    return
            except pymysql.MySQLError:  # this one is protected: the next may not be
                continue
    raise NothingToChange


def _say(statement: str, *, counts: bool = False) -> Do:
    """About {0} and {1}; with `counts`, it must change a row."""

    def do(connection: Connection[Any], names: tuple[str, ...]) -> bool:
        with connection.cursor() as cursor:
            changed = cursor.execute(statement.format(*map(quoted, names)))
        return not counts or changed == 1

    return do


_KINDS: tuple[tuple[str, str, str, str, Do], ...] = (
    ("table dropped", "a table is gone", "structure", _TABLES, _say("DROP TABLE {0}")),
    ("column added", "a table has one column more", "structure", _TABLES,
     _say("ALTER TABLE {0} ADD COLUMN meddled_with int")),
    ("index dropped", "an index is gone", "structure", _INDEXES,
     _say("ALTER TABLE {0} DROP INDEX {1}")),
    ("constraint dropped", "a foreign key is gone", "structure", _KEYS,
     _say("ALTER TABLE {0} DROP FOREIGN KEY {1}")),
    ("trigger dropped", "a trigger is gone", "structure", _TRIGGERS, _say("DROP TRIGGER {0}")),
    ("row removed", "a row is gone", "rows", _PLAIN,
     _say("DELETE FROM {0} LIMIT 1", counts=True)),
    ("row changed", "one value of one row is another", "content", _COLUMNS,
     _say("UPDATE {0} SET {1} = CASE WHEN {1} = '1' THEN '2' ELSE '1' END LIMIT 1",
          counts=True)),
    ("sequence moved", "a counter stands elsewhere", "sequences", _COUNTED,
     _say("ALTER TABLE {0} AUTO_INCREMENT = 987654")),
)  # fmt: skip

MEDDLINGS = by_name(_KINDS, _first)
"""By name."""
