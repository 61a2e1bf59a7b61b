"""PostgreSQL servers and poolers of a test's own, with settings that no shared server has."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from backups.clock import SystemClock

PATIENCE_S = 60.0


@contextmanager
def own_server(
    tools: Path, *settings: str, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """URL of the superuser of a server with these settings (`name=value`), on a Unix socket."""
    with _folder() as folder:
        data = folder / "data"
        _run([tools / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
              "--locale=C", "--no-sync"], folder)  # fmt: skip
        options = [f"-k {folder}", "-c listen_addresses=''", "-c fsync=off"]
        options += [f"-c {each}" for each in settings]
        start = [tools / "pg_ctl", "-w", "-D", data, "-l", folder / "log", "-o"]
        _run([*start, " ".join(options), "start"], folder, environment)
        try:
            yield f"postgresql://postgres@/postgres?host={folder}&port=5432"
        finally:
            _run([tools / "pg_ctl", "-w", "-D", data, "-m", "immediate", "stop"], folder)


@contextmanager
def german_server(tools: Path, *settings: str) -> Iterator[str]:
    """The same, speaking German. Debian's `locales` has what it is made from."""
    with _folder() as folder:
        _run(
            [_program("localedef"), "-i", "de_DE", "-f", "UTF-8", folder / "de_DE.UTF-8"],
            folder,
        )
        speaking = {"LOCPATH": str(folder)}
        with own_server(
            tools, "lc_messages=de_DE.UTF-8", *settings, environment=speaking
        ) as url:
            with psycopg.connect(url) as connection:
                row = connection.execute("SHOW lc_messages").fetchone()
                assert row == ("de_DE.UTF-8",)
            yield url


@contextmanager
def pgbouncer(server: Mapping[str, Any], mode: str, *settings: str) -> Iterator[str]:
    """Base of the URL (`postgresql://…:port/`) of a pgbouncer before the `server` (host, port),
    which takes everybody."""
    with _folder() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        (folder / "users").write_text('"postgres" ""\n')
        lines = [
            "[databases]",
            f"* = host={server['host']} port={server['port']}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {port}",
            "unix_socket_dir =",
            "auth_type = any" if mode == "statement" else "auth_type = trust",
            f"auth_file = {folder}/users",
            f"pool_mode = {mode}",
            "default_pool_size = 10",
            *settings,
        ]
        if mode == "statement":
            lines[1] += " user=postgres"
        (folder / "ini").write_text("\n".join(lines) + "\n")
        process = subprocess.Popen(
            [_program("pgbouncer"), "-q", str(folder / "ini")],
            stderr=subprocess.DEVNULL,
            **_as_user(),
        )
        try:
            _until_it_listens(port)
            yield f"postgresql://postgres@127.0.0.1:{port}/"
        finally:
            process.kill()
            process.wait()


def _until_it_listens(port: int) -> None:
    clock = SystemClock()
    limit = clock.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert clock.monotonic() < limit, "pgbouncer does not listen"
        else:
            return


@contextmanager
def _folder() -> Iterator[Path]:
    """One that the servers' user owns, with a short name: a socket's path has 107 bytes."""
    with TemporaryDirectory(prefix="pg-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        user = _user()
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        yield folder


def _user() -> pwd.struct_passwd | None:
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def _as_user() -> dict[str, Any]:
    user = _user()
    if not user:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _run(argv: list[Any], folder: Path, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        [str(each) for each in argv],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if "start" not in argv else subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        **_as_user(),
    )
    assert done.returncode == 0, f"{argv[0]} failed: {done.stderr!r}"


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, f"{name} is not installed: see localstack/README.md"
    return found
