"""Where a MariaDB or MySQL database is, sessions with its server, its errors in our words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql
from pymysql.connections import Connection

from backups.engines.mysql.family import FAMILIES, Family
from backups.engines.mysql.sessions import rows
from backups.engines.process import Child, started
from backups.errors import (
    AccessDenied,
    BackupsError,
    DumpFailed,
    EngineError,
    EnvironmentLacks,
    TargetRefused,
    ToolError,
    Unreachable,
    UsageError,
)
from backups.model import Confine, Secret, Source

OPTIONS = frozenset({"socket", "ssl-ca"})
"""What a URL may say after its `?`."""
PATIENCE = 10
"""Seconds for a connection."""

_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
_KINDS: tuple[tuple[set[int], type[BackupsError], str], ...] = (
    (
        {1044, 1045, 1142, 1143, 1227, 1370, 1419, 1698},
        AccessDenied,
        ": our rights do not suffice",
    ),
    ({1049}, Unreachable, ": there is no such database"),
    ({1040, 1053, 1152, 1927, 2002, 2003, 2005, 2006, 2013}, Unreachable, ""),
    ({3, 1021, 1114}, EnvironmentLacks, ": it has no room"),
    ({1007}, TargetRefused, ": the database is there already"),
    ({1412}, DumpFailed, ": a table's definition was changed during the dump"),
)
_CODE = re.compile(r"error:? (\d{4})\b|\((\d{4})\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Login:
    """One database of one server."""

    family: Family
    host: str
    port: int
    user: str
    database: str
    options: Mapping[str, str]
    password: Secret | None
    confine: Confine | None = None
    """Keeps client tools in; see `Source`."""

    def to(self, database: str) -> Login:
        """The same server and user, another database."""
        return replace(self, database=database)

    @contextmanager
    def running(self, tool: str, *arguments: str, takes: bool = False) -> Iterator[Child]:
        """A client tool that speaks with this server, and reads no other options than ours."""
        with self._option_file() as fd:
            said = [f"--{name}={value}" for name, value in self._said().items()]
            first = f"--defaults-file=/proc/self/fd/{fd}" if fd else "--no-defaults"
            verified = self.family.verified if "ssl-ca" in self.options else ()
            argv = [tool, first, *said, *verified, *arguments]
            inside = self.confine(argv, []) if self.confine else argv
            fds = [fd] if fd else []
            seen = None if self.confine else self._files()
            with started(
                inside, _ENVIRONMENT, name=tool, fds=fds, takes=takes, reads=seen
            ) as child:
                yield child

    def _files(self) -> list[Path]:
        """What a tool has to see to reach the server."""
        socket = self.options.get("socket", "/run/mysqld/mysqld.sock")
        found = [Path(socket).parent]
        if "ssl-ca" in self.options:
            found.append(Path(self.options["ssl-ca"]))
        return [path for path in found if path.exists()]

    def _said(self) -> dict[str, str]:
        said = {"user": self.user, **self.options}
        if "socket" not in self.options:
            said |= {"host": self.host, "port": str(self.port), "protocol": "tcp"}
        return said

    @contextmanager
    def _option_file(self) -> Iterator[int]:
        """A descriptor that a tool must inherit, in memory: the password is in nobody's argv or
        environment, nor on a disk. 0: there is none."""
        if self.password is None:
            yield 0
            return
        lines = [f"password={_quoted(self.password.reveal())}"]
        fd = os.memfd_create("my.cnf")
        try:
            os.fchmod(fd, 0o600)  # the tools ignore a file that others may write to
            os.write(fd, ("[client]\n" + "\n".join(lines) + "\n").encode())
            yield fd
        finally:
            os.close(fd)


def login(source: Source) -> Login:
    """What a URL says: mariadb://user@host:3306/database, or with `?socket=/path`; mysql://
    likewise. Raises UsageError."""
    wrong = UsageError(
        "the URL names no MariaDB or MySQL database",
        hint="Write mariadb://user@host:3306/database, or "
        "mariadb://user@/database?socket=/path; for MySQL mysql:// and so on.",
    )
    try:
        parts = urlsplit(source.url)
        port = parts.port or 3306
    except ValueError:
        raise wrong from None
    options = dict(parse_qsl(parts.query))
    database = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in FAMILIES or not database or not parts.username:
        raise wrong
    if unknown := options.keys() - OPTIONS:
        raise UsageError(
            f"the URL has an option that is not known: {min(unknown)[:40]}",
            hint=f"Options: {', '.join(sorted(OPTIONS))}.",
        )
    if parts.password is not None:
        raise UsageError(
            "a password must not stand in the URL",
            hint="Give a reference to the password beside the URL: env:NAME or file:PATH.",
        )
    if not parts.hostname and "socket" not in options:
        raise wrong
    return Login(
        FAMILIES[parts.scheme], parts.hostname or "localhost", port, unquote(parts.username),
        database, options, source.password, source.confine,
    )  # fmt: skip


@contextmanager
def connected(opened: Login, database: bool = True) -> Iterator[Connection[Any]]:
    """A session, with the server's errors as ours; without a `database` if so asked."""
    ca = opened.options.get("ssl-ca")
    with translated():
        connection = pymysql.connect(
            user=opened.user,
            # Bytes: the driver would make Latin-1 of text.
            password=opened.password.reveal().encode() if opened.password else b"",
            host=opened.host,
            port=opened.port,
            unix_socket=opened.options.get("socket"),
            database=opened.database if database else None,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=PATIENCE,
            ssl_ca=ca,
            ssl_verify_cert=True if ca else None,
            ssl_verify_identity=True if ca else None,
        )
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def translated() -> Iterator[None]:
    """The driver's errors as ours; what the server says of values is not repeated."""
    try:
        yield
    except pymysql.MySQLError as error:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        raise of_code(code, "the server") from None


def of_code(code: int, who: str) -> BackupsError:
    """An error of a server or a tool, by its number (in MariaDB's list of error codes and in
    MySQL's they mean the same)."""
    words = f"{who} said error {code}" if code else f"{who} failed"
    for codes, kind, more in _KINDS:
        if code in codes:
            return kind(words + more)
    return EngineError(words)


def code_in(said: str) -> int:
    """The first error number in a tool's complaints; 0: none."""
    found = _CODE.search(said)
    return int(found[1] or found[2]) if found else 0


def version_of(connection: Connection[Any], family: Family) -> str:
    """Raises ToolError where the server is the other one."""
    found = str(rows(connection, "SELECT VERSION()")[0][0])
    if not family.wrote(found):
        other = next(f for f in FAMILIES.values() if f != family)
        raise ToolError(
            f"the server is {other.title}, not {family.title}",
            hint=f"Write {other.engine}:// in its URL, and engine: {other.engine}.",
        )
    return found.split("-", maxsplit=1)[0]


def _quoted(value: str) -> str:
    if "\n" in value or "\r" in value or "\0" in value:
        raise UsageError("a login can't hold line breaks")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
