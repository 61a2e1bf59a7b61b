"""Dropping a database of ours, also one that holds on to itself."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from backups.engines.postgres.server import Login, connected, quoted

_SUBSCRIPTIONS = """
    SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
     WHERE d.datname = %s"""
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
