"""Dropping databases of ours: also one that holds on to itself, and what a dead restore left.

Source: PostgreSQL manual, Advisory Locks: a session's lock ends with it, so that a copy whose
name nobody has claimed belongs to a restore that died.
"""

from __future__ import annotations

from typing import Any, LiteralString

from psycopg import Connection

from backups.engines.postgres.server import MAX_NAME, Login, connected, quoted

_SUBSCRIPTIONS = """
    SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
     WHERE d.datname = %s"""
_CLAIM: LiteralString = "pg_catalog.hashtextextended(%s, 0)"
_LEFT = """
    SELECT datname FROM pg_database
     WHERE datname ~ '_restoring_[0-9a-f]{8}$' AND left(datname, -19) = %s"""
_UNFINISHED = """
    SELECT FROM pg_database WHERE datname = %s AND shobj_description(oid, 'pg_database') = %s"""
UNFINISHED = "backups: a restore is at work in this database"
"""The comment of a copy that has its final name before it is finished."""
_TRIGGERS = "SELECT evtname FROM pg_event_trigger WHERE evtenabled <> 'D'"


def drop_database(connection: Connection[Any], server: Login, name: str) -> None:
    """From `connection`, which is to another database of `server`; missing is fine.

    Sessions in it are ended. A restored subscription forbids to drop its database; it is
    forgotten first, with nobody called, as a copy's slot is its source's.
    """
    found = connection.execute(_SUBSCRIPTIONS, (name,)).fetchall()
    if found:
        with connected(server.to(name)) as inside:
            for (trigger,) in inside.execute(_TRIGGERS).fetchall():
                inside.execute(quoted("ALTER EVENT TRIGGER {t} DISABLE", t=trigger))
            for (each,) in found:
                inside.execute(quoted("ALTER SUBSCRIPTION {s} DISABLE", s=each))
                inside.execute(quoted("ALTER SUBSCRIPTION {s} SET (slot_name = NONE)", s=each))
                inside.execute(quoted("DROP SUBSCRIPTION {s}", s=each))
    force = " WITH (FORCE)" if connection.info.server_version >= 130000 else ""
    connection.execute(quoted(f"DROP DATABASE IF EXISTS {{d}}{force}", d=name))


def beside(name: str, what: str, tail: str) -> str:
    """A name beside another, cut between characters to what the server takes."""
    end = f"_{what}_{tail}"
    return name.encode()[: MAX_NAME - len(end)].decode("utf-8", "ignore") + end


def claim_name(connection: Connection[Any], name: str) -> bool:
    """Say that we are at work on a copy of that name, for as long as the session lives;
    False: another session does so already."""
    return _one(connection, f"SELECT pg_try_advisory_lock({_CLAIM})", name)


def sweep(connection: Connection[Any], server: Login, target: str) -> None:
    """Drop copies that were being made beside `target` by restores that died. `connection` is
    to the database that those claimed theirs from."""
    prefix = beside(target, "restoring", "0" * 8).removesuffix("_restoring_" + "0" * 8)
    for (name,) in connection.execute(_LEFT, (prefix,)).fetchall():
        if _one(connection, f"SELECT pg_try_advisory_lock({_CLAIM})", name):
            drop_database(connection, server, name)
            _one(connection, f"SELECT pg_advisory_unlock({_CLAIM})", name)
    unfinished = connection.execute(_UNFINISHED, (target, UNFINISHED)).fetchone()
    if unfinished is not None and claim_name(connection, target):
        drop_database(connection, server, target)
        _one(connection, f"SELECT pg_advisory_unlock({_CLAIM})", target)


def _one(connection: Connection[Any], query: LiteralString, name: str) -> bool:
    row = connection.execute(query, (name,)).fetchone()
    return row == (True,)
