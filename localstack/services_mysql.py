"""MariaDB of the distribution, and MySQL: each server in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from install import MYSQL
from processes import WAIT, await_ready, give_up, processes, spawn
from services_postgres import reachable, server_user

Argument = str | Path


def start_mariadb(cloud: Path) -> dict[str, str]:
    """Reachable through a socket in its own folder only; root has no password."""
    folder = cloud / "mariadb"
    if not processes(folder):
        start_server(folder, mariadb)
    return {"BACKUPS_TEST_MARIADB": f"mariadb://root@/mysql?socket={folder}/s"}


def start_mysql(cloud: Path) -> dict[str, str]:
    """The same, where its programs are at hand; else there is none."""
    if not (MYSQL / "bin" / "mysqld").exists():
        return {}
    folder = cloud / "mysql"
    if not processes(folder):
        start_server(folder, mysql)
    return {
        "BACKUPS_TEST_MYSQL": f"mysql://root@/mysql?socket={folder}/s",
        "BACKUPS_TEST_MYSQL_BIN": str(MYSQL / "bin"),
    }


def mariadb(folder: Path) -> tuple[list[Argument], list[Argument]]:
    """How its data is made, and how it is started."""
    server = shutil.which("mariadbd", path=f"{os.defpath}:/usr/sbin")
    if server is None:
        sys.exit("localstack/up: run localstack/setup first")
    common = ["--no-defaults", f"--datadir={folder}/data"]
    make: list[Argument] = [
        "mariadb-install-db", *common, "--auth-root-authentication-method=normal",
        "--skip-test-db", "--skip-name-resolve",
    ]  # fmt: skip
    return make, [server, *common]


def mysql(folder: Path) -> tuple[list[Argument], list[Argument]]:
    """How its data is made, and how it is started."""
    server = reachable(MYSQL / "bin", folder, MYSQL) / "mysqld"
    common = ["--no-defaults", f"--datadir={folder}/data"]
    serve = [server, *common, "--mysqlx=OFF", "--secure-file-priv=NULL"]
    return [server, *common, "--initialize-insecure"], serve


def start_server(
    folder: Path, kind: Callable[[Path], tuple[list[Argument], list[Argument]]]
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    user = server_user()
    as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    if user is not None:
        folder.chmod(0o711)
        os.chown(folder, user.pw_uid, user.pw_gid)
    environment = {"PATH": f"{os.defpath}:/usr/sbin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    make, serve = kind(folder)
    if spawn(make, folder, environment, **as_user).wait():
        give_up(str(make[0]), folder)
    serve += [f"--socket={folder}/s", "--skip-networking",
              f"--pid-file={folder}/pid", "--innodb-flush-log-at-trx-commit=0",
              "--innodb-doublewrite=0", "--innodb-log-file-size=64M", "--event-scheduler=ON",
              f"--log-bin={folder}/data/binlog", "--server-id=1"]  # fmt: skip
    spawn(serve, folder, environment, **as_user)
    ready = folder / "s"
    await_ready(
        str(serve[0]), folder, WAIT, lambda: ready.exists() and accepts(ready, environment)
    )


def accepts(socket: Path, environment: dict[str, str]) -> bool:
    ask = ["mariadb-admin", "--no-defaults", f"--socket={socket}", "--user=root", "ping"]
    done = subprocess.run(ask, env=environment, check=False, capture_output=True)
    return done.returncode == 0
