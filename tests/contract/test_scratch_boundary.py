"""What a server's superuser can reach from inside a private server: nothing of ours."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from pg_kit import give, take
from scratch_kit import (
    CLOCK,
    ground_of,
    in_database,
    need,
    private,
    server_folder,
    short_folder,
    traces,
)

from backups.model import Source
from backups.proving import Place
from verify.ports import Ground
from verify.scratch.boundary import ENVIRONMENT, Boundary, Kind, choose_user, passwd
from verify.scratch.private import Limits, PrivateServers
from verify.scratch.processes import inside

pytestmark = pytest.mark.postgres

ONLY_ITS_OWN = "sees only programs, read-only, and its own directory"
KINDS: tuple[Kind, ...] = ("bubblewrap", "unshare", "plain")


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def kept_by(kind: Kind, folder: Path, limits: Limits | None = None) -> PrivateServers:
    servers = private(folder, limits)
    servers._strongest = Boundary(kind, *choose_user())
    return servers


@pytest.fixture(scope="module", params=KINDS)
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    os.environ["BACKUPS_TEST_SECRET"] = "of ours"
    limits = Limits(memory_mb=4096, disk_mb=2048)
    try:
        with (
            short_folder() as path,
            ground_of(kept_by(request.param, path, limits), need()) as made,
        ):
            yield made
    finally:
        del os.environ["BACKUPS_TEST_SECRET"]


def run(target: Source, *scripts: str) -> list[str]:
    """What a shell started by the server says, line by line: restored code's best try."""
    with psycopg.connect(in_database(target, "postgres"), autocommit=True) as session:
        session.execute("CREATE TEMP TABLE said (line text)")
        for script in scripts:
            literal = psycopg.sql.Literal(f"({script}) 2>&1 | tr '\\\\\\t' '  '; true")
            copy = psycopg.sql.SQL("COPY said FROM PROGRAM {}").format(literal)
            session.execute(copy)
        return [row[0] for row in session.execute("SELECT line FROM said")]


def gives(ground: Ground, words: str) -> bool:
    return words in ground.place.boundary


def test_the_best_kind_is_found_by_trying(folder: Path) -> None:
    servers = private(folder)
    with ground_of(servers, need()) as made:
        # Where this fails, the machine lacks bubblewrap or forbids namespaces.
        assert gives(made, "no network"), made.place.boundary
        assert gives(made, ONLY_ITS_OWN)


def test_it_is_nobody_without_rights(ground: Ground) -> None:
    user, _ = choose_user()
    status = "grep -E '^(CapPrm|CapEff|NoNewPrivs):' /proc/self/status"
    said = [line.split()[-1] for line in run(ground.target, "id -u", status)]
    assert said == [str(user.uid), "0" * 16, "0" * 16, "1"]
    assert any(user.name in words for words in ground.place.boundary)


def test_the_network_is_as_the_boundary_says(ground: Ground) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        [said] = run(
            ground.target,
            f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' && echo reached || echo refused",
        )[-1:]
        assert said == ("refused" if gives(ground, "no network") else "reached")
        assert gives(ground, "no network") or gives(ground, "the network can be reached")


def test_nobody_can_reach_it_over_a_network(ground: Ground) -> None:
    with psycopg.connect(in_database(ground.target, "postgres")) as session:
        assert session.execute("SHOW listen_addresses").fetchone() == ("",)
        [pid] = session.execute("SELECT pg_read_file('postmaster.pid')").fetchone() or ()
    assert pid.splitlines()[5].strip() == ""
    listening, held = set(), set()
    for each in inside(server_folder(ground.target)):
        with suppress(FileNotFoundError):  # a worker that has ended
            for line in Path(f"/proc/{each}/net/tcp").read_text().splitlines()[1:]:
                if line.split()[3] == "0A":
                    listening.add(f"socket:[{line.split()[9]}]")
            held |= {os.readlink(link) for link in Path(f"/proc/{each}/fd").iterdir()}
    assert any(link.startswith("socket:") for link in held)
    assert not listening & held


def test_our_environment_is_not_handed_on(ground: Ground) -> None:
    servers = inside(server_folder(ground.target))
    assert servers
    found = {}
    for pid in servers:
        try:
            data = Path(f"/proc/{pid}/environ").read_bytes()
            program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
        except FileNotFoundError:  # a worker that has ended
            continue
        assert b"of ours" not in data
        assert b"AWS" not in data
        if b"postgres" in program:
            found[pid] = {line.partition(b"=")[0].decode() for line in data.split(b"\0")}
    own = {"", "PWD", "PGDATA", "PG_OOM_ADJUST_FILE", "PG_GRANDPARENT_PID", "LC_COLLATE"}
    postmaster = [names for names in found.values() if "PATH" in names]
    assert postmaster
    assert postmaster[0] <= set(ENVIRONMENT) | own
    said = run(ground.target, "env")
    assert not [line for line in said if "SECRET" in line or "AWS" in line]


def test_files_of_ours_are_out_of_reach(ground: Ground) -> None:
    with short_folder() as folder:
        secret, open_to_all = folder / "secret", folder / "open"
        secret.write_text("of ours")
        secret.chmod(0o600)
        open_to_all.write_text("for all")
        open_to_all.chmod(0o666)
        [kept] = run(ground.target, f"cat {secret} || true")
        if os.geteuid() == 0:
            assert "of ours" not in kept
        sees = run(ground.target, f"cat {open_to_all} || true; echo x > {open_to_all}")
        if not gives(ground, ONLY_ITS_OWN):
            assert gives(ground, "can read what its user may read on this machine")
            return
        assert not [line for line in sees if "for all" in line]
        assert open_to_all.read_text() == "for all"
    own = {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "dev", "proc"}
    assert set(run(ground.target, "ls -A /")) <= own | {folder.parts[1]}
    assert run(ground.target, "cat /etc/passwd") == [passwd(choose_user()[0]).strip()]
    refused = run(ground.target, "touch /x; touch /usr/x; touch /etc/x; touch /dev/x")
    assert len(refused) >= 3
    assert all("Read-only" in line or "denied" in line for line in refused)


def test_our_processes_are_out_of_sight(ground: Ground) -> None:
    [first] = run(ground.target, "tr '\\0' ' ' < /proc/1/cmdline")
    hidden = first.split()[0] in ("bwrap", "timeout")
    assert hidden == gives(ground, "sees no other process"), first


def test_it_cannot_put_another_socket_in_its_place(ground: Ground) -> None:
    if not choose_user()[1]:
        return  # its user is ours: libpq's `requirepeer` is what is left
    place = server_folder(ground.target) / "s" / ".s.PGSQL.5432"
    run(ground.target, f"rm -f {place}; ln -s /elsewhere {place}")
    assert place.is_socket()
    with psycopg.connect(in_database(ground.target, "postgres")) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)


def test_a_file_has_a_largest_length(ground: Ground) -> None:
    file = server_folder(ground.target) / "data" / "large"
    run(ground.target, f"dd if=/dev/zero of={file} bs=1M seek=2047 count=1 2>/dev/null")
    assert file.stat().st_size == 2048 << 20
    run(ground.target, f"dd if=/dev/zero of={file} bs=1M seek=4095 count=1 2>/dev/null")
    assert file.stat().st_size == 2048 << 20


def test_a_trap_laid_for_the_one_who_removes(folder: Path) -> None:
    """Links that lead out are not followed, locked and deep trees are removed all the same."""
    outside = folder / "outside"
    outside.mkdir(mode=0o777)
    (outside / "kept").write_text("of ours")
    with ground_of(private(folder), need()) as made:
        data = server_folder(made.target) / "data"
        run(
            made.target,
            f"cd {data}; ln -s {outside} out; mkdir locked; touch locked/in; chmod 0 locked",
            f"cd {data}; i=0; while [ $i -lt 1500 ]; do mkdir d; cd -P d; i=$((i+1)); done",
        )
        place = made.destroy()
    assert place.destroyed_at is not None, place.proof
    assert (outside / "kept").read_text() == "of ours"
    (outside / "kept").unlink()
    outside.rmdir()
    assert traces(folder) == []


def test_it_ends_at_its_deadline_even_if_nobody_looks(folder: Path) -> None:
    with ground_of(private(folder), need(minutes=8 / 60)) as made:
        until = CLOCK.monotonic() + 60
        while inside(server_folder(made.target)) and CLOCK.monotonic() < until:
            CLOCK.sleep(0.05)
        assert inside(server_folder(made.target)) == []
    assert traces(folder) == []


def test_an_ordinary_user_has_the_same(folder: Path, pg15_url: str) -> None:
    """Whoever runs these tests as root: once as nobody too."""
    taken = take(pg15_url.replace("/postgres?", "/template1?"))

    def as_nobody() -> Place:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        with ground_of(private(folder), need(taken[1])) as made:
            assert give(taken, made.target.url) == []
            assert gives(made, "no network"), made.place.boundary
        assert made.place.destroyed_at is not None
        return made.place

    folder.chmod(0o777)
    with forked() as child:
        if child:
            as_nobody()
    assert traces(folder) == []


@contextmanager
def forked() -> Iterator[bool]:
    """Runs its block in a child process, whose failure is ours."""
    pid = os.fork()
    if pid:
        yield False
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        return
    code = 1
    try:
        yield True
        code = 0
    finally:
        os._exit(code)
