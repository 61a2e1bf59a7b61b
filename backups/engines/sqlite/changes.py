"""How rows of two SQLite databases differ, table by table, told by their primary keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from backups.engines.sqlite.content import columns_of, quoted
from backups.engines.sqlite.files import connect
from backups.replacing import MAX_ROWS, SAMPLE, Changes


def changes(live: Path, copy: Path, tables: Iterable[tuple[str, str]]) -> tuple[Changes, ...]:
    """Of each table (schema, name); what can't be compared says why. Raises sqlite3.Error."""
    with closing(connect(live)) as connection:
        there = f"{copy.absolute().as_uri()}?mode=ro"
        connection.execute("ATTACH DATABASE ? AS then_", (there,))
        connection.execute("BEGIN")
        return tuple(_one(connection, schema, name) for schema, name in tables)


def _one(connection: sqlite3.Connection, schema: str, name: str) -> Changes:
    found = Changes(schema, name)
    columns = columns_of(connection, name)
    keys = [
        key
        for (key,) in connection.execute(
            "SELECT name FROM pragma_table_info(?, 'main') WHERE pk > 0 ORDER BY pk", (name,)
        )
    ]
    if not keys:
        return found.without("it has no primary key")
    then = {
        column
        for (column,) in connection.execute(
            "SELECT name FROM pragma_table_info(?, 'then_')", (name,)
        )
    }
    if then != set(columns):
        return found.without("its columns are others")
    table = quoted(name)
    (rows,) = connection.execute(f"SELECT count(*) FROM main.{table}").fetchone()  # noqa: S608
    if rows > MAX_ROWS:
        return found.without(f"it has more than {MAX_ROWS:,} rows")
    same = " AND ".join(f"n.{quoted(key)} IS t.{quoted(key)}" for key in keys)
    other = " OR ".join(f"n.{quoted(each)} IS NOT t.{quoted(each)}" for each in columns)
    without = "{} AS n WHERE NOT EXISTS (SELECT 1 FROM {} AS t WHERE {})"
    queries = (
        without.format(f"then_.{table}", f"main.{table}", same),
        without.format(f"main.{table}", f"then_.{table}", same),
        f"main.{table} AS n JOIN then_.{table} AS t ON {same} WHERE {other}",
    )
    named = ", ".join(f"n.{quoted(key)}" for key in keys)
    counts, samples = [], []
    for query in queries:
        (count,) = connection.execute(f"SELECT count(*) FROM {query}").fetchone()  # noqa: S608
        sample = connection.execute(
            f"SELECT {named} FROM {query} ORDER BY {named} LIMIT {SAMPLE}"  # noqa: S608
        )
        counts.append(count)
        samples.append(tuple(", ".join(str(each) for each in row) for row in sample))
    return found.counted(
        (counts[0], counts[1], counts[2]), (samples[0], samples[1], samples[2])
    )
