"""Where the catalog is: a file of the home, or a database that many machines share."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import yaml

from backups.errors import ConfigError
from backups.private import replace_private
from backups.settings import Home, load_settings

if TYPE_CHECKING:
    from sqlalchemy import URL

    from backups.wiring.app import App

FILE = "file"
"""The place in the home, in words."""


def catalog_place(home: Home) -> Path | URL:
    """What the catalog is opened by, its password resolved. Raises ConfigError."""
    settings = load_settings(home)
    if settings.catalog_url is None:
        return home.catalog
    return url_of(settings.catalog_url, settings.catalog_password)


def url_of(text: str, reference: str | None) -> URL:
    """A catalog's URL with its password. Raises ConfigError."""
    from sqlalchemy.engine import make_url

    from backups.fleet import resolve_password

    parts = urlsplit(text)
    query = dict(parse_qsl(parts.query))
    if parts.scheme != "postgresql" or not parts.path.strip("/"):
        raise ConfigError(
            "a shared catalog is a PostgreSQL database",
            hint="Such as postgresql://backups@db.internal/catalog?sslmode=verify-full.",
        )
    if parts.password is not None or any("pass" in name.lower() for name in query):
        raise ConfigError(
            "the catalog's URL must not hold a password",
            hint="Give it by reference: catalog_password: file:/run/secrets/catalog.",
        )
    url = make_url(text).set(drivername="postgresql+psycopg")
    return url.set(password=resolve_password(reference).reveal()) if reference else url


def is_lost(place: Path | URL) -> bool:
    """Whether there is no catalog where the settings say; an empty file or database is none.
    Raises CatalogError when that can't be told."""
    from backups.catalog.open import is_empty

    if isinstance(place, Path):
        return not place.is_file() or not place.stat().st_size
    return is_empty(place)


def move(app: App, where: str, reference: str | None, now: datetime) -> int:
    """The catalog to another place, and the settings after it; returns the number of rows.

    Each step may be the last before a kill: the same call again goes on from there. Raises
    Busy while somebody works, ConfigError, CatalogError.
    """
    from backups.catalog.moving import move as move_rows
    from backups.catalog.open import open_catalog

    home = app.home
    to = home.catalog if where == FILE else url_of(where, reference)
    if to == catalog_place(home):
        raise ConfigError("the catalog is there already", hint="Nothing was changed.")
    if isinstance(to, Path) and to.exists():
        raise ConfigError(f"{to} exists already", hint="Move it away first.")
    rows = move_rows(app.catalog, to, now)
    with closing(open_catalog(to)):  # it opens: only now does anything lead there
        _rewrite(home, None if where == FILE else where, reference)
    if home.catalog.exists() and where != FILE:
        app.catalog.close()
        for suffix in ("-wal", "-shm", ""):
            old = Path(f"{home.catalog}{suffix}")
            if old.exists():
                old.rename(f"{home.catalog}.moved{suffix}")
    return rows


def _rewrite(home: Home, url: str | None, reference: str | None) -> None:
    """Put the place into the settings file; every other line of it stays as it is."""
    mine = ("catalog_url:", "catalog_password:")
    lines = home.settings_file.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(mine)]
    said = {"catalog_url": url, "catalog_password": reference}
    told = {name: value for name, value in said.items() if value is not None}
    text = "".join(kept)
    if told:
        text = text.rstrip("\n") + "\n" + yaml.safe_dump(told, sort_keys=False)
    replace_private(home.settings_file, text.encode())
