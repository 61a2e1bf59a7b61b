"""An empty MariaDB or MySQL server inside a boundary; adapter of `private.Cluster`."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

from backups.engines.mysql.family import MARIADB, MYSQL, Family
from backups.engines.mysql.server import connected, login, version_of
from backups.engines.mysql.sessions import rows
from backups.errors import EnvironmentLacks
from backups.model import Source
from backups.ports import Clock
from verify.ports import Need
from verify.scratch.boundary import ENVIRONMENT, Boundary, Room
from verify.scratch.cluster import Programs, awaited, once, serving

SUPERUSER = "root"
_SETTINGS = (
    # Nobody but us may reach it; nothing that was restored acts by itself.
    "--skip-networking", "--event-scheduler=OFF", "--local-infile=0", "--skip-log-bin",
    # It is thrown away, so nothing needs to survive a crash.
    "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-fast-shutdown=2",
    "--innodb-buffer-pool-size=128M", "--performance-schema=OFF",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MysqlCluster:
    """See the port; of one family."""

    family: Family
    server: str
    """The program."""
    version: str
    """A pattern that finds the release series in what it says of itself."""
    maker: tuple[str, ...]
    """How its data is made: a program, and what it is told beside the folder."""
    settings: tuple[str, ...]
    socket: str = "s"

    def find(self, need: Need) -> Programs:
        """Of the same release series."""
        wanted = _series(need.fingerprint.server_version)
        found = _look(self.server, self.version)
        title, series = self.family.title, ".".join(map(str, wanted))
        if found is None or found[1] != wanted:
            here = f"; here is {'.'.join(map(str, found[1]))}" if found else ""
            raise EnvironmentLacks(
                f"no {title} {series} server can be started here{here}",
                hint=f"Install {title}'s server of {series}, with {self.server} in PATH.",
            )
        return Programs(found[0], wanted[0])

    def make(self, found: Programs, boundary: Boundary, room: Room, data: Path) -> None:
        """See the port."""
        program, *said = self.maker
        beside = (found.folder / program, found.folder.parent / "bin" / program)
        path = next((each for each in beside if each.exists()), beside[0])
        argv = [str(path), "--no-defaults", f"--datadir={data}", f"--tmpdir={data}", *said]
        once(program, argv, boundary, room)

    def start(
        self,
        found: Programs,
        boundary: Boundary,
        room: Room,
        data: Path,
        socket: Path,
        log: IO[bytes],
        _need: Need,
    ) -> subprocess.Popen[bytes]:
        """See the port."""
        argv = [
            str(found.folder / self.server), "--no-defaults", f"--datadir={data}",
            f"--socket={socket / self.socket}", f"--pid-file={data / 'pid'}",
            f"--tmpdir={data}", f"--secure-file-priv={socket}", *_SETTINGS,
            *self.settings,
        ]  # fmt: skip
        return serving(argv, boundary, room, log)

    def source(self, socket: Path, user: str, database: str = "") -> Source:  # noqa: ARG002
        """See the port."""
        query = urlencode({"socket": str(socket / self.socket)})
        return Source(f"{self.family.engine}://{SUPERUSER}@/{database or 'mysql'}?{query}")

    def await_ready(
        self, process: subprocess.Popen[bytes], first: Source, log: Path, clock: Clock
    ) -> str:
        """See the port. The socket is its user's and root's only from then on."""
        opened = login(first)

        def version() -> str:
            with connected(opened) as connection:
                return version_of(connection, self.family)

        found = awaited(process, version, log, clock)
        Path(opened.options["socket"]).chmod(stat.S_IRUSR | stat.S_IWUSR)
        return found

    def require(self, first: Source, need: Need) -> None:
        """Collations come with the server."""
        wanted = need.fingerprint.settings.get("collation", "")
        with connected(login(first)) as connection:
            found = rows(
                connection,
                "SELECT count(*) FROM information_schema.collations WHERE collation_name = %s",
                wanted,
            )
        if found != [(1,)]:
            raise EnvironmentLacks(f"the scratch server lacks the collation {wanted!r}")


MARIADB_CLUSTER = MysqlCluster(
    MARIADB, "mariadbd", r"Ver (\d+\.\d+)\.\d+-MariaDB",
    ("mariadb-install-db", "--skip-test-db", "--auth-root-authentication-method=normal",
     "--skip-name-resolve", "--force"),
    ("--skip-symbolic-links",),
)  # fmt: skip
MYSQL_CLUSTER = MysqlCluster(
    MYSQL, "mysqld", r"Ver (\d+\.\d+)\.\d+(?!.*MariaDB)",
    ("mysqld", "--initialize-insecure"),
    ("--mysqlx=OFF",),
)  # fmt: skip


@cache
def _look(server: str, version: str) -> tuple[Path, tuple[int, int]] | None:
    """The first that is of its family: the folder of its program, and its release series."""
    for folder in f"{os.environ.get('PATH', '')}:{os.defpath}:/usr/sbin".split(":"):
        found = Path(folder or os.devnull, server)
        if not os.access(found, os.X_OK):
            continue
        said = subprocess.run(
            [found, "--no-defaults", "--version"],
            env=ENVIRONMENT,
            capture_output=True,
            check=False,
            text=True,
        ).stdout
        if series := re.search(version, said):
            return found.resolve().parent, _series(series[1])
    return None


def _series(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        raise EnvironmentLacks(f"{version[:40]!r} is no version of a server")
    return int(found[1]), int(found[2])
