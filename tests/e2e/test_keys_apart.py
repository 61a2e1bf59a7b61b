"""Who takes backups can't read them: not by its files, its calls or its memory."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backups import wiring
from backups.errors import ConfigError, StoreDenied
from backups.format.age import parse_identities
from backups.keys import load_identities
from backups.run.backup import BackupPorts, back_up

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres

CALL = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from backups.cli import run
print("EXIT", run(sys.argv[1:]))
marker = "seen by the " + "spy"
print("IDENTITY OPENED", any("restore-identity" in path for path in opened), flush=True)
sys.stdin.read()
"""


def spied_on(house: House, *argv: str) -> tuple[str, bool]:
    """What a call printed, and whether the identity's secret is in its memory at the end."""
    text = (house.home / "keys" / "restore-identity.txt").read_text()
    (secret,) = re.findall(r"AGE-SECRET-KEY-\w+", text)
    (identity,) = parse_identities(text)
    needles = (secret.encode(), identity._secret)
    with subprocess.Popen(
        [sys.executable, "-c", CALL, "--home", str(house.home), *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        while "IDENTITY OPENED" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        spans = list(memory_of(process.pid))
        assert any(b"seen by the spy" in span for span in spans)  # it looks where texts are
        found = any(needle in span for span in spans for needle in needles)
        process.communicate("")
    return said, found


def memory_of(pid: int) -> Iterator[bytes]:
    """Every readable and writable span of a process."""
    spans = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for span in spans:
            where, rights = span.split()[:2]
            if rights.startswith("rw"):
                start, end = (int(part, 16) for part in where.split("-"))
                memory.seek(start)
                yield memory.read(end - start)


@pytest.fixture
def declared(
    house: House, tmp_path: Path, pg15_url: str, make_database: Callable[..., str]
) -> House:
    store = tmp_path / "bucket"
    store.mkdir()
    house.declare(f"file://{store}", shop=make_database(pg15_url, sql="create table t (a int)"))
    return house


def test_a_backup_opens_no_identity(declared: House) -> None:
    said, found = spied_on(declared, "run", "shop")
    assert "EXIT 0" in said
    assert "IDENTITY OPENED False" in said
    assert not found


def test_the_spy_would_have_seen_it(declared: House) -> None:
    """That it still lies in memory at the end is likely, and for nobody to promise."""
    declared.must("run", "shop")
    said, _ = spied_on(declared, "check", "shop")
    assert "EXIT 0" in said
    assert "IDENTITY OPENED True" in said


def test_a_backup_needs_no_identity_and_a_restore_does(declared: House, tmp_path: Path) -> None:
    identity = declared.home / "keys" / "restore-identity.txt"
    identity.rename(tmp_path / "locked-away.txt")
    declared.must("run", "shop")
    said = declared.call("check", "shop")
    assert said.code == ConfigError.exit_code
    assert "restore-identity.txt" in said.err


def test_the_ports_of_a_backup_hold_nothing_that_opens(declared: House) -> None:
    """Tried from inside: what the use case is given can't read what it wrote."""
    with wiring.opened(declared.home) as app:
        policy = app.catalog.policy("shop")
        with wiring.backup_ports(app, policy) as ports:
            backup = back_up(ports, policy, wiring.source_of(policy), lambda *_: None)
            assert not hasattr(ports, "identities")
            assert "Identity" not in repr(BackupPorts.__annotations__)
            with pytest.raises(StoreDenied):
                ports.store.delete(f"v1/shop/{backup.id}/00000.age")


def test_key_files_are_private(declared: House) -> None:
    for name in ("signing.pem", "restore-identity.txt"):
        assert (declared.home / "keys" / name).stat().st_mode & 0o777 == 0o600
    assert declared.home.stat().st_mode & 0o777 == 0o700
    (declared.home / "keys" / "restore-identity.txt").chmod(0o644)
    with pytest.raises(ConfigError, match="restore-identity"):
        load_identities(declared.home / "keys" / "restore-identity.txt")
