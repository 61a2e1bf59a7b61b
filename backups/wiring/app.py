"""An opened home, which every command starts from."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.ports import Agenda, Audit, Catalog, Clock, Leases, Ledger
from backups.settings import Home


@dataclass(frozen=True, slots=True)
class App:
    """An opened home."""

    home: Home
    catalog: Catalog
    ledger: Ledger
    """Of the same database, as is the audit chain."""
    audit: Audit
    leases: Leases
    agenda: Agenda
    clock: Clock
    entropy: SystemEntropy


def init(path: str) -> Home:
    """A new home with keys and an empty catalog. Raises ConfigError when one is there."""
    from backups.catalog.open import open_catalog
    from backups.init import init_home

    home = init_home(Path(path), SystemEntropy())
    open_catalog(home.catalog).close()
    return home


@contextmanager
def opened(path: str | Path, clock: Clock | None = None) -> Iterator[App]:
    """The home at `path`, by the machine's clock or another. Raises ConfigError when there
    is none, CatalogError."""
    from backups.catalog.agenda import SqlAgenda
    from backups.catalog.audit import SqlAudit
    from backups.catalog.journal import Journal
    from backups.catalog.leases import SqlLeases
    from backups.catalog.ledger import SqlLedger
    from backups.catalog.open import open_catalog

    home = Home.at(Path(path))
    clock, entropy = clock or SystemClock(), SystemEntropy()
    journal = Journal(f"{getpass.getuser()}@{socket.gethostname()}", clock, entropy)
    with closing(open_catalog(home.catalog, journal)) as catalog:
        yield App(
            home,
            catalog,
            SqlLedger(catalog),
            SqlAudit(catalog),
            SqlLeases(catalog),
            SqlAgenda(catalog),
            clock,
            entropy,
        )
