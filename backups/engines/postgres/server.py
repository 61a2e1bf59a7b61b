"""Connections to a PostgreSQL server, and the environment of its client tools.

Sources: libpq's "Connection Strings", "Environment Variables" and "The Password File"
(https://www.postgresql.org/docs/current/libpq-connect.html and its neighbours).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from backups.errors import (
    AccessDenied,
    BackupsError,
    EngineError,
    EnvironmentLacks,
    Unreachable,
    UsageError,
)
from backups.model import Confine, Secret, Source

MAX_NAME = 63
"""Bytes of an identifier (NAMEDATALEN - 1); the server would cut a longer one in silence."""

CONNECT_TIMEOUT = "10"
"""Seconds for each address tried."""

_NO_FILE = "/dev/null/none"
"""Cannot exist; without a file that is named, libpq would look into the home folder."""

_FORBIDDEN = ("password", "passfile", "sslpassword", "service", "scram_client_key")
_OURS = frozenset(
    {"password", "passfile", "fallback_application_name", "sslcertmode", "client_encoding"}
)
"""What a tool is not to take over: it speaks the database's own encoding, say."""
_ENVIRONMENT = {
    option.keyword.decode(): option.envvar.decode()
    for option in Conninfo.get_defaults()
    if option.envvar
}
_CA_FILES = (
    "~/.postgresql/root.crt",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
_NOT_NOW = (
    "starting up",
    "shutting down",
    "in recovery mode",
    "too many c",  # connections, clients
    "remaining connection slots",
    "not accepting connections",
)
# The search path first: a database's own may lead to functions and operators of its users,
# which would then run with our rights (as pg_dump does since CVE-2018-1058).
_SETTINGS = """
    SELECT pg_catalog.set_config('search_path', '', false);
    SELECT set_config('default_transaction_read_only', 'off', false);
    SELECT set_config(name, '0', false) FROM pg_settings
     WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout',
                    'idle_in_transaction_session_timeout', 'idle_session_timeout')"""


_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir")
_SOCKETS = ("/var/run/postgresql",)
"""Where libpq looks when no host is named."""


@dataclass(frozen=True, slots=True)
class Login:
    """libpq's parameters of one database, without the password."""

    parameters: Mapping[str, str]
    password: Secret | None
    confine: Confine | None = None
    """Keeps client tools in; see `Source`."""

    @property
    def database(self) -> str:
        """Its name, as it is."""
        return self.parameters["dbname"]

    def files(self) -> list[Path]:
        """What a tool has to see to reach the server: sockets' folders, certificates."""
        hosts = [host for host in self.parameters.get("host", "").split(",") if host]
        named = [self.parameters.get(name, "") for name in _FILES]
        found = [Path(name) for name in (*hosts, *named) if name.startswith("/")]
        if not hosts:
            found += [Path(folder) for folder in _SOCKETS]
        return [path for path in found if path.exists()]

    def to(self, database: str) -> Login:
        """The same server and user, another database."""
        return replace(self, parameters={**self.parameters, "dbname": database})

    def conninfo(self) -> str:
        """What the environment cannot say, quoted for argv; never a secret.

        A database name by itself would be read as a connection string by the tools.
        """
        rest = {k: v for k, v in self.parameters.items() if k not in _ENVIRONMENT}
        return make_conninfo("", dbname=self.database, **rest)

    @contextmanager
    def environment(self, options: str = "") -> Iterator[tuple[dict[str, str], int]]:
        """Of a client tool: all of it, and a descriptor that it must inherit.

        The password is in an anonymous file in memory that PGPASSFILE points to, so it is
        in nobody's argv or environment, nor on a disk. `options` are the session's settings.
        """
        values = {
            _ENVIRONMENT[name]: value
            for name, value in self.parameters.items()
            if name in _ENVIRONMENT and name != "dbname"
        }
        given = values.get("PGOPTIONS", "")
        fd = os.memfd_create("pgpass")
        try:
            os.fchmod(fd, 0o600)  # libpq ignores a file that others may read
            os.write(fd, _password_line(self.password))
            yield (
                {
                    **values,
                    "PATH": os.defpath,
                    "LC_ALL": "C",
                    "PGAPPNAME": "backups",
                    "PGCONNECT_TIMEOUT": values.get("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT),
                    "PGOPTIONS": f"{given} {options}".strip(),
                    "PGPASSFILE": f"/proc/self/fd/{fd}",
                },
                fd,
            )
        finally:
            os.close(fd)


def login(source: Source) -> Login:
    """What a libpq URL says. Raises UsageError: unreadable, with a password, or no name."""
    try:
        given = {k: str(v) for k, v in conninfo_to_dict(source.url).items() if v is not None}
    except psycopg.ProgrammingError:  # its words may quote the password
        raise UsageError(
            "the database's URL is not one that libpq can read",
            hint="Write postgresql://user@host/name; encode special characters as %XX.",
        ) from None
    for name in _FORBIDDEN:
        if name in given:
            raise UsageError(
                f"the database's URL must not contain {name!r}",
                hint="Give a reference to the password beside the URL: env:NAME or file:PATH.",
            )
    name = given.get("dbname", "")
    if not 0 < len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME:
        raise UsageError(
            f"the database's URL must name a database, of at most {MAX_NAME} bytes",
            hint="Write postgresql://user@host/name.",
        )
    given.setdefault("connect_timeout", CONNECT_TIMEOUT)
    given.pop("client_encoding", None)
    if "sslmode" not in given and _is_remote(given):
        given["sslmode"] = "verify-full"
    if given.get("sslmode") in ("verify-ca", "verify-full"):
        given.setdefault("sslrootcert", _ca_file())
    return Login(given, source.password, source.confine)


def pinned(connection: Connection[Any], opened: Login) -> Login:
    """The very server that `connection` reached, of all that a URL with several hosts or a
    name with several addresses may mean: a snapshot is known to no other."""
    info = connection.info
    found = {k: str(v) for k, v in info.get_parameters().items() if k not in _OURS and v}
    found |= {"host": info.host, "port": str(info.port)}
    if info.hostaddr:
        found["hostaddr"] = info.hostaddr
    return Login(found, opened.password, opened.confine)


@contextmanager
def connected(opened: Login) -> Iterator[Connection[Any]]:
    """A session in autocommit mode without time limits of the server's making.

    Whatever psycopg raises inside the context leaves it as one of our errors.
    """
    with translated():
        parameters = {
            **opened.parameters,
            "password": opened.password.reveal() if opened.password else "",
            "passfile": _NO_FILE,
            "application_name": "backups",
            # Else the driver gives bytes for the text of a database in SQL_ASCII.
            "client_encoding": "UTF8",
        }
        connection = psycopg.connect(
            make_conninfo("", **parameters), autocommit=True, prepare_threshold=None
        )
        with connection:
            connection.execute(_SETTINGS)
            yield connection


@contextmanager
def translated() -> Iterator[None]:
    """psycopg's errors as ours, with the server's primary message only."""
    try:
        yield
    except psycopg.Error as error:
        raise _ours(error) from None


def quoted(statement: str, **names: str) -> sql.Composed:
    """A statement with `{name}` for identifiers."""
    values = {key: sql.Identifier(value) for key, value in names.items()}
    return sql.SQL(statement).format(**values)


def _ours(error: psycopg.Error) -> BackupsError:
    state = error.sqlstate or ""
    words = error.diag.message_primary or _connect_message(str(error))
    if state == "42501":
        return AccessDenied(f"the database refused: {words}")
    if state[:2] in ("58", "0A") or state == "22023":
        return EnvironmentLacks(f"the server cannot do what is asked: {words}")
    if state[:2] in ("08", "57", "53"):
        return Unreachable(f"the database server stopped answering: {words}")
    if state:
        return EngineError(f"the database reported: {words}")
    refused = "FATAL:" in words and not any(phrase in words for phrase in _NOT_NOW)
    if refused:
        return AccessDenied(f"the database server refused the login: {words}")
    return Unreachable(f"the database server gave no answer: {words}")


def _connect_message(text: str) -> str:
    """libpq's first line; it names host, user and database, never a password."""
    line = text.strip().split("\n")[0]
    return line.removeprefix("connection failed: ") or "the connection was lost"


def _is_remote(given: Mapping[str, str]) -> bool:
    hosts = (given.get("hostaddr") or given.get("host") or "").split(",")
    return any(not _is_local(host) for host in hosts)


def _is_local(host: str) -> bool:
    if not host or host[0] in "/@" or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _ca_file() -> str:
    """The system's authorities as a file: every libpq reads one, unlike `system`, which
    came with 16 and means whatever folder its OpenSSL was built for."""
    found = ssl.get_default_verify_paths().cafile
    for candidate in (*_CA_FILES, *([found] if found else [])):
        path = Path(candidate).expanduser()
        if path.is_file():
            return str(path)
    return "system"


def _password_line(password: Secret | None) -> bytes:
    if password is None:
        return b""
    text = password.reveal()
    if "\n" in text or "\0" in text:
        raise UsageError(
            "the database's password contains a line break",
            hint="Remove the line break at the end of the secret.",
        )
    escaped = text.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:*:{escaped}\n".encode()
