"""PostgreSQL servers: one per version at hand, each in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from install import distribution_postgres, postgres_bins
from processes import AS_ROOT, WAIT, await_ready, give_up, processes, spawn


def start_postgres(cloud: Path) -> dict[str, str]:
    """One server per version at hand."""
    bins = postgres_bins()
    system = distribution_postgres()
    if system is not None:
        bins[major_version(system)] = system
    return start_servers(cloud, bins)


def start_one_postgres(cloud: Path) -> dict[str, str]:
    """The distribution's server where one is installed, else an embedded one."""
    system = distribution_postgres()
    if system is not None:
        return start_servers(cloud, {major_version(system): system})
    complete = {m: tools for m, tools in postgres_bins().items() if (tools / "psql").exists()}
    return start_servers(cloud, dict(sorted(complete.items())[:1]))


def start_servers(cloud: Path, bins: dict[int, Path]) -> dict[str, str]:
    """Each is reachable through a socket in its own folder only."""
    if not bins:
        sys.exit("localstack/up: run localstack/setup first")
    stopped = [
        (tools, folder)
        for major, tools in sorted(bins.items())
        if not processes(folder := cloud / f"pg{major}")
    ]
    with ThreadPoolExecutor(3) as pool:
        for _ in pool.map(lambda server: start_server(*server), stopped):
            pass
    variables = {}
    for major, tools in sorted(bins.items()):
        folder = cloud / f"pg{major}"
        variables[f"BACKUPS_TEST_PG_{major}"] = (
            f"postgresql://postgres@/postgres?host={folder}&port=5432"
        )
        variables[f"BACKUPS_TEST_PG_{major}_BIN"] = str(tools)
    return variables


def major_version(tools: Path) -> int:
    text = subprocess.check_output([tools / "postgres", "--version"], text=True)
    return int(text.split()[2].split(".")[0])


def start_server(tools: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    user = server_user()
    if user is not None:  # PostgreSQL refuses to run as root
        folder.chmod(0o711)
        os.chown(folder, user.pw_uid, user.pw_gid)
        tools = reachable(tools, folder, package_of(tools))
    data = folder / "data"
    as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    environment = {"PATH": os.defpath, "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    initdb = [tools / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
              "--no-sync", "--locale=C.UTF-8"]  # fmt: skip
    if spawn(initdb, folder, environment, **as_user).wait():
        give_up("initdb", folder)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(folder),
        "unix_socket_permissions": "0700",  # the server's user, and root
        "dynamic_shared_memory_type": "mmap",  # leaves nothing outside its folder
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "max_connections": "60",
        "max_wal_size": "4GB",
        "shared_buffers": "256MB",
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    spawn([tools / "postgres", "-D", data, *options], folder, environment, **as_user)
    ready = folder / ".s.PGSQL.5432"
    await_ready(
        f"PostgreSQL in {tools}", folder, WAIT,
        lambda: ready.exists() and accepts(tools, folder, environment),
    )  # fmt: skip


def accepts(tools: Path, folder: Path, environment: dict[str, str]) -> bool:
    places = (tools, *postgres_bins().values())  # npm's has no client tools
    (isready, *_) = (path for place in places if (path := place / "pg_isready").exists())
    ask = [isready, "--quiet", "-h", folder, "-p", "5432"]
    return subprocess.run(ask, env=environment, check=False).returncode == 0


def server_user() -> pwd.struct_passwd | None:
    if not AS_ROOT:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    sys.exit("localstack/up: no unprivileged user to run PostgreSQL as")


def package_of(tools: Path) -> Path:
    """All that its programs need: of Debian's unpacked, the whole of its /usr."""
    debian = tools.match("usr/lib/postgresql/*/bin") and not tools.is_relative_to("/usr")
    return tools.parents[3] if debian else tools.parent.parent


def reachable(tools: Path, folder: Path, package: Path) -> Path:
    """The tools where another user can reach them: a copy of their package when the checkout is
    private. Programs look for their libraries in the package, or beside it."""
    if all(parent.stat().st_mode & stat.S_IXOTH for parent in tools.parents):
        return tools
    copy = folder / "programs"
    shutil.copytree(package, copy / package.name, symlinks=True)
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    return copy / package.name / tools.relative_to(package)
