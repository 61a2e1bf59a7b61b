"""What a vendor's tool sees and may do, tried from inside, with each boundary that works."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from backups.engines import sandbox
from backups.engines.process import started

KINDS = ("namespace", "limits", "none")


def said(*argv: str, reads: list[Path] | None = None) -> tuple[int, str]:
    with started(argv, {"PATH": os.defpath}, reads=reads or []) as child:
        text = b"".join(child.blocks()).decode()
        return child.wait(), text


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sandbox, "_strongest", lambda _off: request.param)
    return str(request.param)


def test_the_strongest_is_found_by_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sandbox.kind() in KINDS
    monkeypatch.setenv(sandbox.OFF, "off")
    assert sandbox.kind() != "namespace"


def test_exit_codes_and_output_are_the_tools_own(kind: str) -> None:
    assert said("printf", "hello") == (0, "hello")
    assert said("sh", "-c", "exit 7")[0] == 7


def test_its_environment_is_what_it_was_given(kind: str) -> None:
    os.environ["BACKUPS_TEST_SECRET"] = "hunter2"
    try:
        code, text = said("env")
    finally:
        del os.environ["BACKUPS_TEST_SECRET"]
    assert code == 0
    assert {line.partition("=")[0] for line in text.splitlines()} <= {"PATH", "PWD", "_"}


def test_it_inherits_no_descriptor(kind: str, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as held, sqlite3.connect(tmp_path / "db"):
        os.set_inheritable(held.fileno(), True)
        # `ls` opens one itself, on the folder that it lists.
        _, text = said("ls", "/proc/self/fd")
    assert set(text.split()) <= {"0", "1", "2", "3"}


def test_it_dumps_no_core_and_gets_no_privileges(kind: str) -> None:
    if kind == "none":
        return
    _, text = said("cat", "/proc/self/status", "/proc/self/limits")
    assert "NoNewPrivs:\t1" in text
    limits = {line[:26].strip(): line[26:].split()[:2] for line in text.splitlines()}
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max open files"] == [str(sandbox.FILES)] * 2
    assert limits["Max address space"] == [str(sandbox.MEMORY)] * 2


def test_it_sees_no_home_no_key_and_no_other_process(tmp_path: Path) -> None:
    if sandbox.kind() != "namespace":
        pytest.fail("no namespace can be made here: install bubblewrap", pytrace=False)
    key = tmp_path / "identity.txt"
    key.write_text("AGE-SECRET-KEY-1")
    given = tmp_path / "given"
    given.mkdir()
    (given / "archive").write_text("rows")
    assert said("cat", str(key))[0] != 0
    assert said("cat", str(given / "archive"), reads=[given]) == (0, "rows")
    assert said("touch", str(given / "new"), reads=[given])[0] != 0
    assert said("touch", "/usr/bin/new")[0] != 0
    assert said("ls", "/root", "/home")[0] != 0
    _, processes = said("sh", "-c", "ls -d /proc/[0-9]*")
    assert len(processes.split()) <= 4
    code, text = said("sh", "-c", "cat /proc/self/status | grep CapEff")
    assert code == 0
    assert int(text.split()[1], 16) & ~(1 << 1) == 0  # CAP_DAC_OVERRIDE, for root alone


def test_it_ends_with_us() -> None:
    with started(["sleep", "600"], {"PATH": os.defpath}) as child:
        process = child.process
    assert process.returncode is not None
