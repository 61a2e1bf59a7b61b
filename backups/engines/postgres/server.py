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
from psycopg.pq import Conninfo, TransactionStatus

from backups.engines.postgres.failures import translated
from backups.engines.postgres.pins import READING
from backups.engines.postgres.sessions import Facts, Session
from backups.engines.postgres.sessions import opened as open_session
from backups.errors import UsageError
from backups.model import Confine, Secret, Source

__all__ = [
    "MAX_NAME",
    "Login",
    "connected",
    "learned",
    "login",
    "pinned",
    "quoted",
    "translated",
]

MAX_NAME = 63
"""Bytes of an identifier (NAMEDATALEN - 1); the server would cut a longer one in silence."""

CONNECT_TIMEOUT = "10"
"""Seconds for each address tried."""

_NO_FILE = "/dev/null/none"
"""Cannot exist; without a file that is named, libpq would look into the home folder."""

_FORBIDDEN = ("password", "passfile", "sslpassword", "service", "scram_client_key")
_OURS = frozenset(
    {"password", "passfile", "fallback_application_name", "sslcertmode", "client_encoding",
     "options"}
)  # fmt: skip
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
_KEEPALIVES = {
    "keepalives_idle": "60",
    "keepalives_interval": "15",
    "keepalives_count": "6",
    # A server that takes no rows for minutes (a checkpoint, a slow trigger) is not dead: this
    # counts as well while it keeps its window shut.
    "tcp_user_timeout": "600000",
}
"""Seconds, and milliseconds for the last: a firewall forgets what is silent for long, and a
machine that is gone says nothing."""

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
    facts: Facts | None = None
    """What a session of ours learned of this database, if one was opened."""

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
        facts = self.facts if self.facts and self.facts.holds else None
        return replace(
            self,
            parameters={**self.parameters, "dbname": database},
            facts=replace(facts, encoding="") if facts else None,
        )

    def conninfo(self) -> str:
        """What the environment cannot say, quoted for argv; never a secret.

        A database name by itself would be read as a connection string by the tools.
        """
        rest = {k: v for k, v in self.parameters.items() if k not in _ENVIRONMENT}
        return make_conninfo("", dbname=self.database, **rest)

    @contextmanager
    def environment(self, session: Mapping[str, str]) -> Iterator[tuple[dict[str, str], int]]:
        """Of a client tool: all of it, and a descriptor that it must inherit.

        The password is in an anonymous file in memory that PGPASSFILE points to, so it is
        in nobody's argv or environment, nor on a disk. `session` is more of it, with the
        session's settings: see `tool_session`.
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
                    **session,
                    "PGOPTIONS": f"{given} {session.get('PGOPTIONS', '')}".strip(),
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
    if _is_network(given):
        given = {**_KEEPALIVES, **given}
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
    if "options" in opened.parameters:
        found["options"] = opened.parameters["options"]
    facts = connection.facts if isinstance(connection, Session) else None
    return Login(found, opened.password, opened.confine, facts)


@contextmanager
def connected(
    opened: Login, pins: Mapping[str, str] = READING, *, reads: bool = False
) -> Iterator[Session]:
    """A session in autocommit mode with the settings `pins` in force, without time limits.

    Whatever psycopg raises inside the context leaves it as one of our errors. A session that
    the server ended meanwhile fails at the end only if work is lost with it: a transaction that
    is open then is committed, unless the caller only `reads`.
    """
    with translated():
        session = open_session(_parameters(opened), pins, opened.facts)
    try:
        with translated():
            yield session
            if not reads and session.info.transaction_status in _OPEN:
                session.commit()
    finally:
        session.close()


_OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR)


def learned(opened: Login) -> tuple[Login, Facts]:
    """With what a client tool's session depends on, asked for where it isn't known yet."""
    if opened.facts and opened.facts.encoding:
        return opened, opened.facts
    with connected(opened, reads=True) as session:
        return replace(opened, facts=session.facts), session.facts


def quoted(statement: str, **names: str) -> sql.Composed:
    """A statement with `{name}` for identifiers."""
    values = {key: sql.Identifier(value) for key, value in names.items()}
    return sql.SQL(statement).format(**values)


def _parameters(opened: Login) -> dict[str, str]:
    return {
        **opened.parameters,
        "password": opened.password.reveal() if opened.password else "",
        "passfile": _NO_FILE,
        "application_name": "backups",
        # Else the driver gives bytes for the text of a database in SQL_ASCII.
        "client_encoding": "UTF8",
    }


def _is_network(given: Mapping[str, str]) -> bool:
    hosts = (given.get("hostaddr") or given.get("host") or "/").split(",")
    return any(not host.startswith(("/", "@")) for host in hosts)


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
