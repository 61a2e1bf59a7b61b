"""Databases to try things on, and what came of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from backups import keys, wiring
from backups.model import Manifest
from backups.run.reader import Found, list_manifests
from backups.run.restore import check
from backups.settings import Home

ROOT = Path(__file__).parent.parent.parent


def load(url: str, *scripts: Path) -> None:
    for script in scripts:
        subprocess.run(
            ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", str(script)],
            check=True,
            capture_output=True,
        )


@contextmanager
def hung(url: str) -> Iterator[Callable[[], bool]]:
    """Dumps of a database with a table `t` wait until the block ends; yields whether one
    does."""
    with psycopg.connect(url) as connection:
        connection.execute("lock table t in access exclusive mode")

        def dumping() -> bool:
            query = (
                "select count(*) > 0 from pg_locks where not granted and database = "
                "(select oid from pg_database where datname = current_database())"
            )
            return bool(connection.execute(query).fetchone()[0])  # type: ignore[index]

        yield dumping


def whole(home: Path, url: str) -> Iterator[Manifest]:
    """Every backup in a store, each read to its end."""
    found = Home.at(home)
    with wiring.bare_store(url) as store:
        for entry in list_manifests(store, keys.load_verify_keys(found)):
            assert isinstance(entry, Found), entry
            it = entry.manifest
            with wiring.recovery(url, found.restore_identity, lambda _, it=it: it) as at:
                check(at[1], it, lambda *_: None)
            yield it
