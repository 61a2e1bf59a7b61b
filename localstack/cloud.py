"""The local cloud: real servers to demonstrate and test against; standard library only.

    cloud.py up [--owner PID] [SERVICE ...]      prints `export NAME=value` lines
    cloud.py down [--owner PID | --all]

All that a cloud is lies in one folder below /tmp, and every process of it logs to a file
there: so `down` finds what to end by looking where each process's stderr goes. There are no
pid files to be stale, and a killed `up` leaves nothing that `down` can't find.

There is one shared cloud per checkout; with --owner, one more that belongs to that process
(a test run), which no other run's `down` ends while its owner lives.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shlex
import shutil
import stat
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from install import CACHE, REGRESS, ROOT
from processes import AS_ROOT, end
from services_mysql import start_mariadb, start_mysql
from services_postgres import start_one_postgres, start_postgres
from services_stores import start_azure, start_gcs, start_iam, start_s3

PREFIX = f"bl-{hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:8]}-"
IN_MEMORY = 8 << 30
"""Bytes that must be free there for a cloud to lie in memory."""


SERVICES: dict[str, Callable[[Path], dict[str, str]]] = {
    "s3": start_s3,
    "gcs": start_gcs,
    "azure": start_azure,
    "iam": start_iam,
    "mariadb": start_mariadb,
    "mysql": start_mysql,
    "postgres": start_postgres,
    "one-postgres": start_one_postgres,
}
"""Each starts its servers unless they run, and returns the variables that lead there."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="localstack")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up")
    up.add_argument(
        "services",
        nargs="*",
        help=f"{', '.join(SERVICES)}; all but the last if none is named",
    )
    up.add_argument("--owner", type=int)
    down = commands.add_parser("down")
    down.add_argument("--owner", type=int)
    down.add_argument("--all", action="store_true")
    args = parser.parse_args(argv)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "cloud.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if args.command == "down":
            for cloud in clouds():
                if args.all or cloud == home(args.owner) or not owner_lives(cloud):
                    remove(cloud)
            return 0
        unknown = set(args.services) - set(SERVICES)
        if unknown:
            parser.error(f"unknown service: {', '.join(sorted(unknown))}")
        cloud = home(args.owner)
        make_home(cloud)
        wanted = args.services or [*SERVICES][:-1]
        variables: dict[str, str] = {}
        with ThreadPoolExecutor() as pool:
            for found in pool.map(lambda name: SERVICES[name](cloud), wanted):
                variables |= found
    if not args.services:
        variables |= test_data()
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


# --- one cloud's folder ---------------------------------------------------------------


def home(owner: int | None) -> Path:
    """Short, because a socket's path may have 107 bytes; not TMPDIR for the same reason."""
    name = f"{PREFIX}{owner or 'shared'}"
    return next((each for each in clouds() if each.name == name), base() / name)


def base() -> Path:
    """Memory where there is plenty: making and dropping databases is mostly work on files."""
    shm = Path("/dev/shm")
    return shm if shm.is_dir() and shutil.disk_usage(shm).free > IN_MEMORY else Path("/tmp")


def make_home(cloud: Path) -> None:
    # The servers run as another user when we are root: that user must be able to pass.
    cloud.mkdir(mode=0o711 if AS_ROOT else 0o700, exist_ok=True)
    found = cloud.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        sys.exit(f"localstack/up: {cloud} is somebody else's")


def clouds() -> list[Path]:
    places = (Path("/dev/shm"), Path("/tmp"))
    ours = [path for each in places for path in each.glob(f"{PREFIX}*") if path.is_dir()]
    return [path for path in ours if path.lstat().st_uid == os.geteuid()]


def owner_lives(cloud: Path) -> bool:
    owner = cloud.name.removeprefix(PREFIX)
    return owner == "shared" or Path("/proc", owner).exists()


def remove(cloud: Path) -> None:
    end(cloud)
    shutil.rmtree(cloud, ignore_errors=True)


def test_data() -> dict[str, str]:
    found = {
        "BACKUPS_TEST_CCTV_AGE": CACHE / "age" / "vectors",
        "BACKUPS_TEST_REGRESS": REGRESS,
        "BACKUPS_TEST_DATA": ROOT.parent / "shared" / "data",
    }
    return {name: str(path) for name, path in found.items() if path.is_dir()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
