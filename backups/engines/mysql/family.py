"""MariaDB and MySQL: where they differ. One is dumped by its own tools, never by the other's.

Sources: MariaDB's documentation, mariadb-dump and mariadb; MySQL 8.0 Reference Manual, 4.5.4
mysqldump, 4.5.1 mysql. Tried on MariaDB 10.11 and MySQL 8.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from backups.engines.mysql.marks import ByComment, ByTable, Mark


@dataclass(frozen=True, slots=True)
class Family:
    """One of the two."""

    engine: str
    """Its name in a fleet file, and the scheme of its URLs."""
    title: str
    dump: str
    client: str
    package: str
    """What to install, in words."""
    dump_options: tuple[str, ...]
    client_options: tuple[str, ...]
    verified: tuple[str, ...]
    """What makes a tool verify the server's certificate, once `--ssl-ca` is said."""
    position: str
    """An SQL expression: how far the binary log was."""
    limit: Callable[[float], str]
    """A statement that ends the session's queries after so many seconds."""
    mark: Mark

    def wrote(self, version: str) -> bool:
        """Whether a program or a server of the family says this of its version."""
        return ("mariadb" in version.lower()) == (self.engine == "mariadb")


MARIADB = Family(
    engine="mariadb",
    title="MariaDB",
    dump="mariadb-dump",
    client="mariadb",
    package="the package mariadb-client, 10.11 or newer",
    dump_options=(),
    client_options=(),
    verified=("--ssl-verify-server-cert",),
    position="@@gtid_binlog_pos",
    limit=lambda seconds: f"SET SESSION max_statement_time = {seconds:.3f}",
    mark=ByComment(),
)
MYSQL = Family(
    engine="mysql",
    title="MySQL",
    dump="mysqldump",
    client="mysql",
    package="MySQL's own client tools, 8.0 or newer (MariaDB's bear the same names)",
    # The rows as they are, and nothing about the server they came from.
    dump_options=("--set-gtid-purged=OFF", "--column-statistics=0"),
    # Its own commands mean nothing in what it is given: MariaDB's dumps switch them off.
    client_options=("--binary-mode",),
    verified=("--ssl-mode=VERIFY_IDENTITY",),
    position="@@global.gtid_executed",
    limit=lambda seconds: f"SET SESSION max_execution_time = {seconds * 1000:.0f}",
    mark=ByTable(),
)
FAMILIES: Mapping[str, Family] = MappingProxyType({f.engine: f for f in (MARIADB, MYSQL)})
"""By engine."""
