from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from api_kit import CUSTOMERS, OLD_SECRET, SECRET, Town, declare, fill, served, settings
from scratch_kit import short_folder

from backups import wiring

SQL = "create table t (a int primary key); insert into t select generate_series(1, 40)"


@pytest.fixture(scope="module")
def town(
    tmp_path_factory: pytest.TempPathFactory,
    pg15_url: str,
    module_databases: Callable[..., str],
) -> Iterator[Town]:
    patch = pytest.MonkeyPatch()
    patch.setenv("DASHBOARD_SECRET", SECRET)
    patch.setenv("DASHBOARD_OLD_SECRET", OLD_SECRET)
    patch.setenv("OPERATORS_SECRET", SECRET[::-1])
    folder = tmp_path_factory.mktemp("town")
    home = folder / "home"
    wiring.init(str(home))
    urls = {name: module_databases(SQL) for name in CUSTOMERS.values()}
    with short_folder() as scratch:
        (home / "settings.yaml").write_text(yaml.safe_dump(settings(str(scratch))))
        declare(home, folder, urls)
        with wiring.opened(home) as app:
            town = Town(home, app, "", urls)
            fill(town)
            with served(app) as base:
                town.base = base
                yield town
    patch.undo()


@pytest.fixture(scope="module")
def module_databases(pg15_url: str) -> Iterator[Callable[[str], str]]:
    made: list[str] = []

    def make(sql: str) -> str:
        name = f"api_{Path('/proc/sys/kernel/random/uuid').read_text().strip()[:8]}"
        with psycopg.connect(pg15_url, autocommit=True) as connection:
            connection.execute(f"create database {name}")  # type: ignore[arg-type]
        made.append(name)
        url = pg15_url.replace("/postgres?", f"/{name}?")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql)  # type: ignore[arg-type]
        return url

    yield make
    with psycopg.connect(pg15_url, autocommit=True) as connection:
        for name in made:
            others = connection.execute(
                "select datname from pg_database where datname = %s or datname like %s",
                (name, f"{name}_%"),
            ).fetchall()
            for (each,) in others:
                connection.execute(f'drop database "{each}" with (force)')  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test() -> None:
    """The server's pool of threads serves a whole module: `served` ends it."""
