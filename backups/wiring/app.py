"""An opened home, which every command starts from."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import CatalogError, ConfigError
from backups.keeping import Annals
from backups.notify.ports import Notices, Proofs
from backups.ports import (
    Agenda,
    Archive,
    Audit,
    Clock,
    Diary,
    Leases,
    Ledger,
    Reconciliation,
    Role,
    Standings,
)
from backups.run.replace import Replacements
from backups.settings import Home
from backups.wiring.placing import catalog_place, is_lost

ROLES: tuple[Role, ...] = get_args(Role)

if TYPE_CHECKING:
    from backups.catalog.grants import SqlGrants
    from backups.catalog.looks import SqlLooks
    from backups.catalog.requests import SqlRequests
    from backups.catalog.store import SqlCatalog


@dataclass(frozen=True, slots=True)
class App:
    """An opened home."""

    home: Home
    roles: frozenset[Role]
    """What this process may do; refused elsewhere: see `wiring.roles`."""
    shared: bool
    """The catalog is that of many machines."""
    catalog: SqlCatalog
    ledger: Ledger
    """Of the same database, as is the audit chain."""
    audit: Audit
    leases: Leases
    agenda: Agenda
    diary: Diary
    standings: Standings
    reconciliation: Reconciliation
    archive: Archive
    annals: Callable[[datetime, datetime], Annals]
    """What the catalog knows of a span of time."""
    notices: Notices
    proofs: Proofs
    """What evidence says to alarms."""
    replacements: Replacements
    """Of live databases by backups."""
    requests: SqlRequests
    """What was asked for over the API."""
    grants: SqlGrants
    """Customers' consent to the use of restore keys of their own."""
    looks: SqlLooks
    """What pages and calls show of the catalog."""
    clock: Clock
    entropy: SystemEntropy

    def among_machines(self, name: str, by: str, shared: bool) -> AbstractContextManager[None]:
        """A lock that every machine sees, where there are several. Raises Busy."""
        from backups.catalog.locks import advisory

        if not self.shared:
            return nullcontext()
        return advisory(self.catalog, name, by, shared=shared)


def init(path: str) -> Home:
    """A new home with keys and an empty catalog. Raises ConfigError when one is there."""
    from backups.catalog.open import open_catalog
    from backups.init import init_home

    home = init_home(Path(path), SystemEntropy())
    open_catalog(home.catalog).close()
    return home


def join(path: str, other: str, roles: Collection[Role]) -> Home:
    """A home for one more worker, with the keys that its roles need. Raises ConfigError, also
    when machines can't share that one's catalog."""
    from backups.init import init_like

    like = Home.at(Path(other))
    if isinstance(catalog_place(like), Path):
        raise ConfigError(
            f"the catalog of {like.path} is a file there: no other home can share it",
            hint="Move it to PostgreSQL: `backups catalog move --to URL`.",
        )
    return init_like(Path(path), like, roles, SystemEntropy())


@contextmanager
def opened(
    path: str | Path,
    clock: Clock | None = None,
    *,
    anew: bool = False,
    roles: Collection[Role] | None = None,
) -> Iterator[App]:
    """The home at `path`, by the machine's clock or another; its keys are used as far as
    `roles` allow. None: all of them, and among machines those whose keys this home has.

    A catalog that was lost is made again only when asked to, `anew`, and is then in doubt.
    Raises ConfigError when there is no home, CatalogError.
    """
    from backups.catalog.agenda import SqlAgenda
    from backups.catalog.annals import annals
    from backups.catalog.audit import SqlAudit
    from backups.catalog.chores import SqlDiary
    from backups.catalog.evidence import SqlArchive
    from backups.catalog.grants import SqlGrants
    from backups.catalog.journal import Journal
    from backups.catalog.leases import SqlLeases
    from backups.catalog.ledger import SqlLedger
    from backups.catalog.looks import SqlLooks
    from backups.catalog.notices import SqlNotices
    from backups.catalog.open import open_catalog
    from backups.catalog.replacements import SqlReplacements
    from backups.catalog.requests import SqlRequests
    from backups.catalog.standing import SqlReconciliation, SqlStandings

    home = Home.at(Path(path))
    place = catalog_place(home)
    lost = is_lost(place)
    if lost and not anew:
        what = place.name if isinstance(place, Path) else f"the database {place.database}"
        raise CatalogError(
            f"the catalog of {home.path} is gone: {what} is missing or empty",
            hint="Bring it back with `backups catalog restore --store URL`, or make it anew "
            "from the stores with `backups catalog rebuild`.",
        )
    if roles is None:
        from backups.keys import roles_of

        roles = ROLES if isinstance(place, Path) else roles_of(home)
    clock, entropy = clock or SystemClock(), SystemEntropy()
    journal = Journal(f"{getpass.getuser()}@{socket.gethostname()}", clock, entropy)
    with closing(open_catalog(place, journal)) as catalog:
        reconciliation = SqlReconciliation(catalog)
        if lost:
            reconciliation.doubt(clock.now(), "it was lost, and made anew")
        archive = SqlArchive(catalog)
        yield App(
            home=home,
            roles=frozenset(roles),
            shared=not isinstance(place, Path),
            catalog=catalog,
            ledger=SqlLedger(catalog),
            audit=SqlAudit(catalog),
            leases=SqlLeases(catalog),
            agenda=SqlAgenda(catalog),
            diary=SqlDiary(catalog),
            standings=SqlStandings(catalog),
            reconciliation=reconciliation,
            archive=archive,
            annals=partial(annals, catalog),
            notices=SqlNotices(catalog),
            proofs=archive,
            replacements=SqlReplacements(catalog),
            requests=SqlRequests(catalog),
            grants=SqlGrants(catalog),
            looks=SqlLooks(catalog),
            clock=clock,
            entropy=entropy,
        )
