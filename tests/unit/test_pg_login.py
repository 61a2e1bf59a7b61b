"""What a libpq URL may say, and what becomes of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from backups.engines.postgres.server import login
from backups.engines.postgres.tools import Tools
from backups.engines.process import _VALUE
from backups.errors import UsageError
from backups.model import Secret, Source


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@h/d",
        "postgresql://u@h/d?password=hunter2",
        "host=h dbname=d password=hunter2",
        "postgresql://u@h/d?passfile=/x",
        "postgresql://u@h/d?service=hunter2",
        "postgresql://u:hunter2@[h/d",
        "postgresql://u:hunter2%00@h/d",
        "postgresql://u@h",
        "",
    ],
)
def test_a_url_with_a_secret_or_without_a_name_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        login(Source(url))
    assert "hunter2" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://u@db.example/d", "verify-full"),
        ("postgresql://u@10.1.2.3/d", "verify-full"),
        ("postgresql://u@localhost,db.example/d", "verify-full"),
        ("postgresql://u@localhost/d?hostaddr=10.1.2.3", "verify-full"),
        ("postgresql://u@db.example/d?sslmode=require", "require"),
        ("postgresql://u@localhost/d", None),
        ("postgresql://u@127.0.0.1/d", None),
        ("postgresql://u@[::1]/d", None),
        ("postgresql://u@/d?host=/run/postgresql", None),
    ],
)
def test_a_server_elsewhere_must_prove_its_name(url: str, mode: str | None) -> None:
    parameters = login(Source(url)).parameters
    assert parameters.get("sslmode") == mode
    assert ("sslrootcert" in parameters) == (mode == "verify-full")


@pytest.mark.parametrize("name", ["dbname=x host=evil", "a'b\\c", "postgresql://evil/", "\n"])
def test_a_database_name_stays_a_name_in_argv(name: str) -> None:
    opened = login(Source("postgresql://u@/d")).to(name)
    assert conninfo_to_dict(opened.conninfo()) == {"dbname": name}


def test_the_password_file_is_in_memory_private_and_escaped() -> None:
    opened = login(Source("postgresql://u@/d?keepalives_idle=9", Secret("a:b\\c")))
    with opened.environment({"PGOPTIONS": "-c x=y"}) as (environment, fd):
        assert os.pread(fd, 100, 0) == b"*:*:*:*:a\\:b\\\\c\n"
        assert os.fstat(fd).st_mode & 0o777 == 0o600
        assert environment["PGPASSFILE"] == f"/proc/self/fd/{fd}"
        assert environment["PGOPTIONS"] == "-c x=y"
        assert "a:b" not in str(environment)
        assert "HOME" not in environment
    assert conninfo_to_dict(opened.conninfo())["keepalives_idle"] == "9"
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_a_password_with_a_line_break_is_refused() -> None:
    opened = login(Source("postgresql://u@/d", Secret("hunter2\n")))
    with pytest.raises(UsageError, match="line break"), opened.environment({}):
        pytest.fail("it was accepted")


@pytest.mark.parametrize(
    ("version", "warned"),
    [("14.99", True), ("15.19", True), ("15.20 (Debian 15.20-0)", False), ("16.16", False),
     ("16.14", True), ("17.12", False), ("18.6", True), ("18.7", False), ("19beta1", False)],
)  # fmt: skip
def test_a_release_with_a_known_hole_is_warned_of(version: str, warned: bool) -> None:
    tools = Tools(Path("/"), int(version[:2]), version)
    assert bool(tools.warnings()) == warned


def test_a_value_in_a_server_message_is_cut() -> None:
    words = 'invalid input syntax for type integer: "secret"'
    assert _VALUE.split(words, maxsplit=1)[0] == "invalid input syntax for type integer"
