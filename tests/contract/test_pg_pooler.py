"""Behind a connection pooler: session mode works, anything else is refused in words."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pg_kit import ENGINE, Make, assert_same, drop, give, name_of, plain, take
from pg_own_kit import pgbouncer
from psycopg.conninfo import conninfo_to_dict

from backups.engines.postgres.server import connected, login
from backups.entropy import SystemEntropy
from backups.errors import EngineError
from backups.model import Source

ROWS = """
    CREATE TABLE t(id int PRIMARY KEY, b bytea, at timestamptz, m money);
    INSERT INTO t SELECT n, decode(lpad(to_hex(n), 8, '0'), 'hex'), now(), n
      FROM generate_series(1, 500) n;
    CREATE INDEX ON t(at); CREATE VIEW v AS SELECT id, b FROM t;"""


def tools() -> Path:
    return Path(os.environ["BACKUPS_TEST_PG_15_BIN"])


@pytest.fixture
def source(make_database: Make, pg15_url: str) -> str:
    return make_database(pg15_url, sql=ROWS)


@pytest.fixture
def copy(pg15_url: str) -> Iterator[str]:
    name = "copy_" + SystemEntropy().bytes(6).hex()
    yield name
    drop(pg15_url, name)


def server_of(url: str) -> dict[str, str]:
    return {name: str(value) for name, value in conninfo_to_dict(url).items()}


def test_in_session_mode_a_database_is_backed_up_and_restored(
    source: str, copy: str, pg15_url: str
) -> None:
    with pgbouncer(server_of(pg15_url), "session") as pooled:
        taken = take(f"{pooled}{name_of(source)}?sslmode=disable")
        assert give(taken, f"{pooled}{copy}?sslmode=disable") == []
    assert_same(plain(source, 15), plain(source.replace(name_of(source), copy), 15))
    assert taken[1] == take(source)[1]


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_in_other_modes_it_is_refused_and_nobodys_session_is_changed(
    mode: str, source: str, pg15_url: str
) -> None:
    with pgbouncer(server_of(pg15_url), mode) as pooled:
        url = f"{pooled}{name_of(source)}?sslmode=disable"
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as application:
            before = settings(application)
            with pytest.raises(EngineError, match="connection pooler") as caught:
                ENGINE.preflight(Source(url))
            assert "pool_mode = session" in caught.value.hint
            assert not caught.value.retryable
            assert settings(application) == before


def settings(connection: psycopg.Connection[tuple[str]]) -> list[tuple[str]]:
    """What the next user of the pool's backend finds."""
    statement = (
        "SELECT name || '=' || setting FROM pg_settings WHERE source = 'session'"
        " AND name <> 'application_name'"  # the pooler's own doing
    )
    return connection.execute(statement).fetchall()


def test_a_setting_that_no_tool_can_overrule_behind_a_pooler_is_named(
    source: str, pg15_url: str
) -> None:
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name_of(source)} SET bytea_output = 'escape'")
    with pgbouncer(server_of(pg15_url), "session") as pooled:
        with pytest.raises(EngineError, match="bytea_output") as caught:
            take(f"{pooled}{name_of(source)}?sslmode=disable")
        assert "RESET" in caught.value.hint
    assert take(source)[1].tables[0].rows == 500


def test_a_pooler_that_swallows_options_is_found_out(source: str, pg15_url: str) -> None:
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name_of(source)} SET bytea_output = 'escape'")
    swallowing = "ignore_startup_parameters = options"
    with (
        pgbouncer(server_of(pg15_url), "session", swallowing) as pooled,
        pytest.raises(EngineError, match="bytea_output"),
    ):
        take(f"{pooled}{name_of(source)}?sslmode=disable")


def test_a_connection_over_a_network_is_kept_alive(pg15_url: str) -> None:
    with (
        pgbouncer(server_of(pg15_url), "session") as pooled,
        connected(login(Source(f"{pooled}postgres?sslmode=disable"))) as session,
        socket.socket(fileno=os.dup(session.fileno())) as kept,
    ):
        assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 600_000


def test_what_a_pooler_lets_a_tool_say_is_said(source: str, copy: str, pg15_url: str) -> None:
    name = name_of(source)
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
        connection.execute(f"ALTER DATABASE {name} SET datestyle = 'SQL, DMY'")
        connection.execute(f"ALTER DATABASE {name} SET client_encoding = 'LATIN1'")
        connection.execute("COMMENT ON TABLE t IS 'größe'")
    with pgbouncer(server_of(pg15_url), "session") as pooled:
        assert take(f"{pooled}{name}?sslmode=disable")[1] == take(source)[1]
