"""Scratch databases on a server that an operator set aside; adapter of `verify.ports.Scratch`.

A database is called `scratch_<deadline>_<id>`, and so begins what a restore makes beside it:
whoever finds one knows when it is nobody's any more. The server must say that it is scratch,
in a way that no restored dump can bring with it: a role with a comment.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from psycopg import Connection

from backups.engines.postgres.remove import drop_database
from backups.engines.postgres.server import Login, connected, login, quoted, translated
from backups.errors import BackupsError, EnvironmentLacks, TargetRefused
from backups.ids import check_id
from backups.model import Source
from backups.ports import Clock
from backups.proving import Place
from verify.ports import Need
from verify.scratch import marks, needs
from verify.scratch.marks import Mark

KIND = "scratch database"
ROLE = "backups_scratch"
COMMENT = "databases of this server may be dropped"
MARKING = f"CREATE ROLE {ROLE} NOLOGIN; COMMENT ON ROLE {ROLE} IS '{COMMENT}'"
"""How an operator marks a server, by hand."""

_LONGEST = 63
_KEPT = 44
"""Bytes of its name that what a restore makes beside it, `<name>_restoring_<8 hex>`, keeps."""
BOUNDARY = ("the server that the settings name; what it may reach is its operator's to limit",)
_NAME = re.compile(r"scratch_(\d{10})_([a-z0-9-]+)")
_IDENTIFIER = "SELECT system_identifier::text FROM pg_control_system()"
_MARKED = """
    SELECT FROM pg_roles WHERE rolname = %s
       AND shobj_description(oid, 'pg_authid') = %s"""

Sources = Callable[[], Iterable[Source]]
"""Where the databases of the fleet live, as far as they can be told."""


class DatabaseGround:
    """One database of the server; adapter of `verify.ports.Ground`."""

    def __init__(self, server: ConfiguredServer, mark: Mark, target: Source) -> None:
        self.place = _place(mark)
        self.target = target
        self._server = server
        self._mark = mark

    def destroy(self) -> Place:
        """See the port."""
        if self.place.destroyed_at is None:
            self.place = self._server.remove(self._mark)
        return self.place


class ConfiguredServer:
    """Makes databases on one server, and drops them."""

    def __init__(
        self, server: Source, sources: Sources, directory: Path, region: str, clock: Clock
    ) -> None:
        self._server = server
        self._sources = sources
        self._home = marks.home(directory)
        self._region = region
        self._clock = clock

    def acquire(self, need: Need) -> DatabaseGround:
        """See the port; raises Busy, Unreachable and AccessDenied too."""
        check_id(need.id, "restore test")
        wanted = needs.major(need)
        opened = login(self._server)
        with connected(opened) as connection, translated():
            self._require_scratch(connection, opened)
            found = connection.info.server_version // 10000
            if found != wanted:
                raise EnvironmentLacks(
                    f"the scratch server is {found}, the backup is of PostgreSQL {wanted}",
                    hint=f"Set a server of PostgreSQL {wanted} aside, or use private ones.",
                )
            needs.require(connection, need)
            present = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
            version = connection.info.parameter_status("server_version") or ""
        mark = marks.write(self._home, need.id, need.deadline, KIND, self._region)
        mark = replace(
            mark,
            server_version=version,
            boundary=BOUNDARY,
            roles=tuple(sorted(set(need.fingerprint.roles) - present)),
        )
        marks.rewrite(self._home, mark)
        target = Source(_url(opened.to(_name(mark))), self._server.password)
        return DatabaseGround(self, mark, target)

    def sweep(self, now: datetime) -> list[Place]:
        """See the port. Raises TargetRefused when the server isn't marked as scratch,
        Unreachable and AccessDenied: nothing was dropped then."""
        marks.tidy(self._home, now)
        over = {
            mark.id: mark
            for mark in marks.found(self._home)
            if mark.kind == KIND and mark.over(now)
        }
        opened = login(self._server)
        with connected(opened) as connection, translated():
            _require_marked(connection)
            for name in _databases(connection):
                parts = _NAME.match(name)
                if parts is None:
                    continue
                deadline = datetime.fromtimestamp(int(parts[1]), UTC)
                if now >= deadline and not any(m.startswith(parts[2]) for m in over):
                    version = connection.info.parameter_status("server_version") or ""
                    over[parts[2]] = Mark(
                        parts[2], deadline, 0, 0, "", KIND, self._region, version, BOUNDARY
                    )
        return [self.remove(mark) for mark in over.values()]

    def remove(self, mark: Mark) -> Place:
        """Drop all of that mark, and look. Raises nothing."""
        place = _place(mark)
        left: list[str] = []
        try:
            server = login(self._server)
            with connected(server) as connection, translated():
                _require_marked(connection)
                begin = _begin(mark)
                for name in _databases(connection):
                    if name.startswith(begin):
                        drop_database(connection, server, name)
                left += [f"database {n}" for n in _databases(connection) if n.startswith(begin)]
                for role in mark.roles:
                    _drop_role(connection, role)
        except BackupsError as error:
            left.append(f"database {_name(mark)}: {error}")
        if left:
            return replace(place, proof=tuple(f"left: {each}" for each in left))
        with suppress(OSError):
            marks.remove(self._home, mark.id)
        proof = (f"gone: database {_name(mark)}", "gone: what its restore made beside it")
        return replace(place, destroyed_at=self._clock.now(), proof=proof)

    def _require_scratch(self, connection: Connection[Any], opened: Login) -> None:
        _require_marked(connection)
        row = connection.execute(_IDENTIFIER).fetchone()
        ours, places = row and row[0], _places(opened)
        asked: set[frozenset[str]] = set()
        for source in self._sources():
            try:
                other = login(source)
            except BackupsError:
                continue  # of another kind of database
            there = _places(other)
            if there & places or (
                there not in asked and ours is not None and _identifier(other) == ours
            ):
                raise TargetRefused(
                    "the scratch server is one that databases of the fleet live on",
                    hint="Set another server aside; no source can be one.",
                )
            asked.add(there)


def _require_marked(connection: Connection[Any]) -> None:
    if connection.execute(_MARKED, (ROLE, COMMENT)).fetchone() is None:
        raise TargetRefused(
            "the server that the settings name for scratch is not marked as scratch",
            hint=f"If all of it may be dropped, say there: {MARKING};",
        )


def _identifier(other: Login) -> str | None:
    """What a server and its replicas have in common; None: it doesn't tell us."""
    try:
        with connected(other) as connection, translated():
            row = connection.execute(_IDENTIFIER).fetchone()
    except BackupsError:
        return None  # down, or closed to us: its addresses were compared
    return str(row[0]) if row else None


def _places(opened: Login) -> frozenset[str]:
    """Addresses and sockets that a URL leads to, as far as they resolve here."""
    given = opened.parameters
    hosts = (given.get("hostaddr") or given.get("host") or "/var/run/postgresql").split(",")
    ports: Sequence[str] = (given.get("port") or "5432").split(",")
    if len(ports) == 1:
        ports = list(ports) * len(hosts)
    found: set[str] = set()
    for host, port in zip(hosts, ports, strict=False):
        if host.startswith(("/", "@")):
            found.add(f"{Path(host).resolve()} {port}")
            continue
        found.add(f"{host} {port}")
        with suppress(OSError):
            infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found |= {f"{info[4][0]} {port}" for info in infos}
    return frozenset(found)


def _databases(connection: Connection[Any]) -> list[str]:
    return [str(row[0]) for row in connection.execute("SELECT datname FROM pg_database")]


def _drop_role(connection: Connection[Any], role: str) -> None:
    """Another test may use it by now, and drops it then; or an operator gave it something."""
    with suppress(BackupsError), translated():
        connection.execute(quoted("DROP ROLE IF EXISTS {role}", role=role))


def _place(mark: Mark) -> Place:
    return Place(mark.id, mark.kind, mark.region, mark.server_version, mark.boundary)


def _begin(mark: Mark) -> str:
    """Of the names of all that is made for it: a restore cuts a long name at its end."""
    return f"scratch_{int(mark.deadline.timestamp())}_{mark.id}"[:_KEPT]


def _name(mark: Mark) -> str:
    return f"scratch_{int(mark.deadline.timestamp())}_{mark.id}"[:_LONGEST]


def _url(opened: Login) -> str:
    """The same login with another database's name."""
    return "postgresql:///?" + urlencode(dict(opened.parameters))
