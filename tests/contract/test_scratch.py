"""Both kinds of scratch place: what the port promises, with real servers."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from pg_kit import ENGINE, RICH, Make, databases, give, take
from scratch_kit import (
    CLOCK,
    EMPTY,
    ground_of,
    in_database,
    need,
    private,
    server_folder,
    short_folder,
    traces,
)

from backups.engines.postgres.tools import choose
from backups.errors import EnvironmentLacks, TargetRefused, ToolError
from backups.model import RestoreOptions, Secret, Source
from backups.settings import ScratchSettings
from verify.ports import Ground, Scratch
from verify.scratch.configured import MARKING, ConfiguredServer
from verify.scratch.registry import ByEngine, open_scratch

pytestmark = pytest.mark.postgres


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture(scope="module")
def operators() -> Iterator[Ground]:
    """A server that stands for the one that an operator set aside, and marked."""
    with short_folder() as path, ground_of(private(path), need()) as ground:
        with psycopg.connect(in_database(ground.target, "postgres"), autocommit=True) as admin:
            admin.execute(MARKING)
        yield ground


def no_password(reference: str) -> Secret:
    raise AssertionError(reference)


def configured(operators: Ground, folder: Path, *sources: Source) -> ConfiguredServer:
    settings = ScratchSettings(
        kind="server",
        url=in_database(operators.target, "postgres"),
        region="eu-test-1",
        directory=str(folder),
    )
    found = open_scratch(settings, CLOCK, lambda: sources, no_password)
    assert isinstance(found, ByEngine)
    found = found.kinds["postgresql"]
    assert isinstance(found, ConfiguredServer)
    return found


@pytest.fixture(params=["private", "server"])
def scratch(request: pytest.FixtureRequest, folder: Path) -> Scratch:
    if request.param == "private":
        settings = ScratchSettings(region="eu-test-1", directory=str(folder))
        return open_scratch(settings, CLOCK, tuple, no_password)
    return configured(request.getfixturevalue("operators"), folder)


# --- what both promise ----------------------------------------------------------------


def test_a_backup_is_restored_equal_and_destroyed(
    scratch: Scratch, folder: Path, pg15_url: str, make_database: Make
) -> None:
    source = make_database(pg15_url, sql=RICH)
    taken = take(source)
    wanted = need(taken[1])
    ground = scratch.acquire(wanted)
    try:
        assert ground.place.id == wanted.id
        assert ground.place.region == "eu-test-1"
        assert ground.place.server_version.startswith("15.")
        assert ground.place.boundary
        assert ground.place.destroyed_at is None
        assert give(taken, ground.target.url) == []
        with psycopg.connect(ground.target.url) as session:
            assert session.execute("SELECT count(*) FROM pg_roles").fetchone() != (0,)
    finally:
        place = ground.destroy()
    assert place.destroyed_at is not None
    assert place.proof
    assert all(line.startswith("gone: ") for line in place.proof), place.proof
    assert ground.destroy() == place
    assert traces(folder) == []
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(ground.target.url).close()


def test_what_the_server_lacks_is_named(scratch: Scratch, folder: Path) -> None:
    lacking = replace(
        EMPTY,
        settings={**EMPTY.settings, "collate": "tlh_XX.UTF-8"},
        extensions={"plpgsql": "1.0", "klingon_numbers": "4.2"},
    )
    with pytest.raises(EnvironmentLacks, match=r"klingon_numbers.*4\.2.*tlh_XX") as caught:
        scratch.acquire(need(lacking))
    assert "postgresql-15-klingon_numbers" in caught.value.hint
    assert "locale-gen" in caught.value.hint
    assert traces(folder) == []


def test_another_major_is_the_environments_lack(scratch: Scratch, folder: Path) -> None:
    with pytest.raises(EnvironmentLacks, match="PostgreSQL 9") as caught:
        scratch.acquire(need(replace(EMPTY, server_version="9.6.24")))
    assert "PostgreSQL 9" in caught.value.hint or "postgresql-9" in caught.value.hint
    with pytest.raises(EnvironmentLacks, match="oracle"):
        scratch.acquire(replace(need(), engine="oracle"))
    assert traces(folder) == []


def test_sweeping_leaves_the_living_alone_and_takes_the_overdue(
    scratch: Scratch, folder: Path
) -> None:
    with ground_of(scratch, need(minutes=5)) as ground:
        with ENGINE.restore(ground.target, RestoreOptions()):
            assert scratch.sweep(CLOCK.now()) == []
        server = in_database(ground.target, "postgres")
        if ground.place.kind == "scratch database":  # made there by whoever restores
            name = psycopg.conninfo.conninfo_to_dict(ground.target.url)["dbname"]
            server = ground.target.url.replace(f"dbname={name}", "dbname=postgres")
            with psycopg.connect(server, autocommit=True) as admin:
                admin.execute(f'CREATE DATABASE "{name[:44]}_restoring_0a1b2c3d"')
                admin.execute(f'CREATE DATABASE "{name}"')
        with psycopg.connect(server):
            pass
        late = ground.place
        [swept] = scratch.sweep(CLOCK.now() + timedelta(minutes=6))
        assert swept.destroyed_at is not None
        assert (swept.id, swept.kind, swept.boundary) == (late.id, late.kind, late.boundary)
        assert traces(folder) == []
        if late.kind == "scratch database":
            assert not databases(server, "scratch_")
        assert scratch.sweep(CLOCK.now() + timedelta(minutes=6)) == []


# --- private servers ------------------------------------------------------------------


@pytest.mark.parametrize("major", [16, 18])
def test_a_private_server_of_every_major(
    major: int, folder: Path, request: pytest.FixtureRequest, make_database: Make
) -> None:
    source = make_database(request.getfixturevalue(f"pg{major}_url"), sql=RICH)
    taken = take(source)
    with ground_of(private(folder), need(taken[1])) as ground:
        assert ground.place.server_version.startswith(f"{major}.")
        assert give(taken, ground.target.url) == []
    assert traces(folder) == []


@pytest.mark.parametrize("sample", ["chinook", "sakila"])
def test_the_public_samples_come_back_equal(
    sample: str, folder: Path, sample_data: Path, pg15_url: str, make_database: Make
) -> None:
    source = make_database(pg15_url)
    psql = [choose(15).path("psql"), "-Xq", "--dbname", source]
    for path in sorted(sample_data.glob(f"{sample}-postgresql*.sql"), reverse=True):
        # Chinook makes a database of its own and connects to it.
        text = path.read_text().partition("\\c chinook;")[2] or path.read_text()
        subprocess.run(psql, input=text.encode(), check=True, capture_output=True)
    taken = take(source)
    assert sum(table.rows for table in taken[1].tables) > 10_000
    with ground_of(private(folder), need(taken[1])) as ground:
        assert give(taken, ground.target.url) == []


def test_no_room_is_the_environments_lack(folder: Path) -> None:
    with pytest.raises(EnvironmentLacks, match=r"\d+ are free"):
        private(folder).acquire(need(size=1 << 60))
    assert traces(folder) == []


def test_a_folder_with_too_long_a_name_is_told(folder: Path) -> None:
    deep = folder / ("x" * 60)
    deep.mkdir()
    with pytest.raises(ToolError, match="107 bytes"):
        private(deep).acquire(need())


def test_a_folder_that_is_not_ours_is_refused(folder: Path) -> None:
    home = private(folder)._home
    home.chmod(0o733)
    with pytest.raises(ToolError, match="not a folder of ours alone"):
        private(folder)


# --- configured servers ---------------------------------------------------------------


def test_an_unmarked_server_is_refused(folder: Path, pg16_url: str) -> None:
    scratch = ConfiguredServer(Source(pg16_url), tuple, folder, "", CLOCK)
    with pytest.raises(TargetRefused, match="not marked") as caught:
        scratch.acquire(need(replace(EMPTY, server_version="16.1")))
    assert MARKING in caught.value.hint
    with pytest.raises(TargetRefused, match="not marked"):
        scratch.sweep(CLOCK.now())


def test_a_source_is_never_a_scratch_server(operators: Ground, folder: Path) -> None:
    same = in_database(operators.target, "template1")
    with pytest.raises(TargetRefused, match="databases of the fleet live"):
        configured(operators, folder, Source(same)).acquire(need())
    # Under a name that can't be seen to be the same, the server itself tells.
    with forwarded(server_folder(operators.target) / "s") as port:
        elsewhere = Source(f"postgresql://postgres@127.0.0.1:{port}/postgres")
        with pytest.raises(TargetRefused, match="databases of the fleet live"):
            configured(operators, folder, elsewhere).acquire(need())
    # A source that is down doesn't stop the tests of the others.
    down = Source("postgresql://postgres@127.0.0.1:1/postgres")
    with ground_of(configured(operators, folder, down), need()):
        pass
    assert traces(folder) == []


@contextmanager
def forwarded(folder: Path) -> Iterator[int]:
    """A port of the loopback that leads to the server's socket."""
    threads: list[threading.Thread] = []

    def forward(near: socket.socket) -> None:
        far = socket.socket(socket.AF_UNIX)
        with near, far:
            far.connect(str(folder / ".s.PGSQL.5432"))
            back = threading.Thread(target=pump, args=(far, near))
            back.start()
            pump(near, far)
            back.join()

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):  # it was shut down
            while True:
                near, _ = listener.accept()
                threads.append(threading.Thread(target=forward, args=(near,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for each in threads:
        each.join()


def pump(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):  # the other side has ended it
        while block := one.recv(65536):
            other.sendall(block)
        other.shutdown(socket.SHUT_WR)


def test_roles_that_a_copy_brought_leave_with_it(operators: Ground, folder: Path) -> None:
    wanted = need(replace(EMPTY, roles=("postgres", "stranger")))
    server = in_database(operators.target, "postgres")
    with ground_of(configured(operators, folder), wanted), psycopg.connect(server) as admin:
        admin.execute("CREATE ROLE stranger NOLOGIN")
    with psycopg.connect(server) as admin:
        roles = [row[0] for row in admin.execute("SELECT rolname FROM pg_roles")]
    assert "stranger" not in roles
    assert "postgres" in roles
