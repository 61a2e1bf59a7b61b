"""A MariaDB server of the distribution, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from processes import WAIT, await_ready, give_up, processes, spawn
from services_postgres import server_user


def start_mariadb(cloud: Path) -> dict[str, str]:
    """Reachable through a socket in its own folder only; root has no password."""
    folder = cloud / "mariadb"
    if not processes(folder):
        start_server(folder)
    return {"BACKUPS_TEST_MARIADB": f"mariadb://root@/mysql?socket={folder}/s"}


def start_server(folder: Path) -> None:
    server = shutil.which("mariadbd", path=f"{os.defpath}:/usr/sbin")
    if server is None:
        sys.exit("localstack/up: run localstack/setup first")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    user = server_user()
    as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    if user is not None:
        folder.chmod(0o711)
        os.chown(folder, user.pw_uid, user.pw_gid)
    environment = {"PATH": f"{os.defpath}:/usr/sbin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    common = ["--no-defaults", f"--datadir={folder}/data"]
    make = ["mariadb-install-db", *common, "--auth-root-authentication-method=normal",
            "--skip-test-db", "--skip-name-resolve"]  # fmt: skip
    if spawn(make, folder, environment, **as_user).wait():
        give_up("mariadb-install-db", folder)
    serve = [server, *common, f"--socket={folder}/s", "--skip-networking",
             f"--pid-file={folder}/pid", "--innodb-flush-log-at-trx-commit=0",
             "--innodb-doublewrite=0", "--innodb-log-file-size=64M", "--event-scheduler=ON",
             f"--log-bin={folder}/data/binlog", "--server-id=1"]  # fmt: skip
    spawn(serve, folder, environment, **as_user)
    ready = folder / "s"
    await_ready("MariaDB", folder, WAIT, lambda: ready.exists() and accepts(ready, environment))


def accepts(socket: Path, environment: dict[str, str]) -> bool:
    ask = ["mariadb-admin", "--no-defaults", f"--socket={socket}", "--user=root", "ping"]
    done = subprocess.run(ask, env=environment, check=False, capture_output=True)
    return done.returncode == 0
