"""Partitions whose rows may lie in another partition of a copy.

A hash partition takes rows by a hash of their key. The hash of an enum's value is one of its
oid, which a copy gives anew; that of a `regclass` is one of a table's oid, and so on. pg_dump
(16 and later; 14 and 15 since the fix of 2023) writes such rows as ones of the root, so that
they find their place; but only for enums. Which leaf held a row is then no part of what is
compared: the rows of all leaves together are.
Source: PostgreSQL, src/bin/pg_dump/pg_dump.c, getPartitioningInfo and forcePartitionRootLoad.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from psycopg import Connection, sql

from backups.engines.postgres.content import copy_target, plain
from backups.engines.postgres.toc import TocEntry
from backups.model import Fingerprint, TableContent

# Of a user's own operator class, of arrays, ranges and records nothing is known; `oid_ops` on
# another type than oid itself hashes what a copy numbers anew (regclass, regrole, ...).
_UNSTABLE = """
    SELECT p.partrelid AS oid FROM pg_catalog.pg_partitioned_table p
     WHERE p.partstrat = 'h' AND EXISTS (
        SELECT FROM unnest(p.partclass::oid[], p.partattrs::int2[], p.partcollation::oid[])
                 AS k (class, att, coll)
          JOIN pg_catalog.pg_opclass o ON o.oid = k.class
          LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = k.att
          LEFT JOIN pg_catalog.pg_collation c ON c.oid = k.coll
         WHERE o.oid >= 16384 OR NOT coalesce(c.collisdeterministic, true)
            OR o.opcintype IN ('anyenum'::regtype, 'anyarray'::regtype, 'anyrange'::regtype,
                               'record'::regtype, 'anymultirange'::regtype)
            OR (o.opcintype = 'oid'::regtype AND a.atttypid IS DISTINCT FROM 'oid'::regtype))"""
_TREES = f"""
    WITH unstable AS ({_UNSTABLE}), moved AS (
        SELECT pg_catalog.pg_partition_root(c.oid)::oid AS oid FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          JOIN unnest(%s::bytea[], %s::bytea[]) AS m (s, t)
            ON m.s = convert_to(n.nspname::text, getdatabaseencoding())
           AND m.t = convert_to(c.relname::text, getdatabaseencoding())
         WHERE c.relispartition
    ), roots AS (
        SELECT oid FROM unstable UNION SELECT oid FROM moved
    ), top AS (
        SELECT r.oid FROM roots r WHERE NOT EXISTS (
            SELECT FROM pg_catalog.pg_partition_ancestors(r.oid) a
             WHERE a.relid <> r.oid AND a.relid IN (SELECT oid FROM roots)))
    SELECT top.oid, convert_to(rn.nspname::text, getdatabaseencoding()),
           convert_to(r.relname::text, getdatabaseencoding()),
           convert_to(n.nspname::text, getdatabaseencoding()),
           convert_to(c.relname::text, getdatabaseencoding())
      FROM top JOIN pg_catalog.pg_class r ON r.oid = top.oid
      JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
     CROSS JOIN LATERAL pg_catalog.pg_partition_tree(top.oid) leaf
      JOIN pg_catalog.pg_class c ON c.oid = leaf.relid AND c.relkind = 'r'
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY 2, 3"""  # noqa: S608
_ROOT = """
    SELECT rn.nspname, r.relname FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_class r ON r.oid = pg_catalog.pg_partition_root(c.oid)
      JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
     WHERE c.relispartition AND convert_to(n.nspname::text, getdatabaseencoding()) = %b
       AND convert_to(c.relname::text, getdatabaseencoding()) = %b"""
_MASK = (1 << 64) - 1

Name = tuple[str, str]
"""Schema and table, as an archive's strings are read (`TocEntry`)."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A partitioned table whose rows are compared together."""

    root: Name
    leaves: frozenset[Name]


def trees(connection: Connection[Any], moved: Iterable[Name] = ()) -> tuple[Tree, ...]:
    """Those of the database; also the ones with a leaf in `moved`, whose rows a restore has
    brought through their root (`LoadResult.moved`)."""
    names = [tuple(_raw(part) for part in name) for name in moved]
    values = ([name[0] for name in names], [name[1] for name in names])
    found: dict[int, tuple[Name, set[Name]]] = {}
    for oid, *parts in connection.execute(_TREES, values, binary=True):
        root_schema, root, schema, leaf = (_text(part) for part in parts)
        found.setdefault(oid, ((root_schema, root), set()))[1].add((schema, leaf))
    return tuple(Tree(root, frozenset(leaves)) for root, leaves in found.values())


def fold(fingerprint: Fingerprint, trees: Iterable[Tree]) -> Fingerprint:
    """With one table for each tree in place of its leaves: their rows counted together, their
    content added, as the sums of hashes that they are."""
    tables = {(plain(table.schema), plain(table.name)): table for table in fingerprint.tables}
    folded = []
    for tree in trees:
        leaves = [(plain(schema), plain(name)) for schema, name in sorted(tree.leaves)]
        held = [tables.pop(leaf) for leaf in leaves if leaf in tables]
        if held:
            columns = {table.columns for table in held}
            folded.append(
                TableContent(
                    plain(tree.root[0]),
                    plain(tree.root[1]),
                    columns.pop() if len(columns) == 1 else tuple(sorted(held[0].columns)),
                    sum(table.rows for table in held),
                    f"{sum(int(table.content, 16) for table in held) & _MASK:016x}",
                )
            )
    return replace(fingerprint, tables=tuple(sorted([*tables.values(), *folded])))


def through_root(connection: Connection[Any], entry: TocEntry) -> bytes | None:
    """COPY into the root of the tree that the entry's table is a leaf of, in the words and the
    encoding of the session; None where it is no leaf."""
    row = connection.execute(_ROOT, (_raw(entry.namespace), _raw(entry.tag))).fetchone()
    if row is None:
        return None
    statement = entry.copy_stmt.encode("utf-8", "surrogateescape")
    target = copy_target(entry.copy_stmt).encode("utf-8", "surrogateescape")
    into = sql.Identifier(*row).as_bytes(connection)
    return statement.replace(b"COPY " + target, b"COPY " + into, 1)


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
