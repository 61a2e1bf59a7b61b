"""An empty MariaDB server inside a boundary; adapter of `verify.scratch.private.Cluster`."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from functools import cache
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

from backups.engines.mariadb.server import connected, login, rows, version_of
from backups.errors import EnvironmentLacks
from backups.model import Source
from backups.ports import Clock
from verify.ports import Need
from verify.scratch.boundary import ENVIRONMENT, Boundary, Room
from verify.scratch.cluster import Programs, awaited, once, serving

SUPERUSER = "root"
_SETTINGS = (
    # Nobody but us may reach it; nothing that was restored acts by itself.
    "--skip-networking", "--event-scheduler=OFF", "--local-infile=0",
    "--skip-log-bin", "--skip-symbolic-links",
    # It is thrown away, so nothing needs to survive a crash.
    "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-fast-shutdown=2",
    "--innodb-buffer-pool-size=128M", "--performance-schema=OFF",
)  # fmt: skip


class MariadbCluster:
    """See the port."""

    socket = "s"

    def find(self, need: Need) -> Programs:
        """Of the same release series."""
        wanted = _series(need.fingerprint.server_version)
        found = _look()
        if found is None or found[1] != wanted:
            here = f"; here is {'.'.join(map(str, found[1]))}" if found else ""
            series = ".".join(map(str, wanted))
            raise EnvironmentLacks(
                f"no MariaDB {series} server can be started here{here}",
                hint=f"Install the package mariadb-server of {series}.",
            )
        return Programs(found[0], wanted[0])

    def make(self, found: Programs, boundary: Boundary, room: Room, data: Path) -> None:
        """See the port."""
        script = str(found.folder.parent / "bin" / "mariadb-install-db")
        argv = [
            script, "--no-defaults", f"--datadir={data}", f"--tmpdir={data}", "--skip-test-db",
            "--auth-root-authentication-method=normal", "--skip-name-resolve", "--force",
        ]  # fmt: skip
        once("mariadb-install-db", argv, boundary, room)

    def start(
        self,
        found: Programs,
        boundary: Boundary,
        room: Room,
        data: Path,
        socket: Path,
        log: IO[bytes],
    ) -> subprocess.Popen[bytes]:
        """See the port."""
        argv = [
            str(found.folder / "mariadbd"), "--no-defaults", f"--datadir={data}",
            f"--socket={socket / self.socket}", f"--pid-file={data / 'pid'}",
            f"--tmpdir={data}", f"--secure-file-priv={socket}", *_SETTINGS,
        ]  # fmt: skip
        return serving(argv, boundary, room, log)

    def source(self, socket: Path, user: str, database: str = "") -> Source:  # noqa: ARG002
        """See the port."""
        query = urlencode({"socket": str(socket / self.socket)})
        return Source(f"mariadb://{SUPERUSER}@/{database or 'mysql'}?{query}")

    def await_ready(
        self, process: subprocess.Popen[bytes], first: Source, log: Path, clock: Clock
    ) -> str:
        """See the port. The socket is its user's and root's only from then on."""
        opened = login(first)

        def version() -> str:
            with connected(opened) as connection:
                return version_of(connection)

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


@cache
def _look() -> tuple[Path, tuple[int, int]] | None:
    found = shutil.which("mariadbd", path=f"{os.defpath}:/usr/sbin:/usr/local/sbin")
    if found is None:
        return None
    said = subprocess.run(
        [found, "--no-defaults", "--version"],
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
        text=True,
    ).stdout
    version = re.search(r"Ver (\d+\.\d+)\.\d+-MariaDB", said)
    return (Path(found).resolve().parent, _series(version[1])) if version else None


def _series(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        raise EnvironmentLacks(f"{version[:40]!r} is no version of MariaDB")
    return int(found[1]), int(found[2])
