"""The only place that knows concrete classes: what a command needs, put together.

Two doors that never share a key: `backup_ports` loads the signing key and public recipients,
`restore_ports` and `recovery` load identities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backups.clock import SystemClock
from backups.entropy import SystemEntropy
from backups.errors import Damaged, NotFound
from backups.ids import uuid7
from backups.model import Backup, Manifest, Operation, Policy, Source
from backups.ports import Catalog, ObjectStore
from backups.settings import Home, load_settings

if TYPE_CHECKING:
    from backups.run.backup import BackupPorts
    from backups.run.restore import RestorePorts


@dataclass(frozen=True, slots=True)
class App:
    """An opened home."""

    home: Home
    catalog: Catalog
    clock: SystemClock
    entropy: SystemEntropy


def init(path: str) -> Home:
    """A new home with keys and an empty catalog. Raises ConfigError when one is there."""
    from backups.catalog.open import open_catalog
    from backups.init import init_home

    home = init_home(Path(path), SystemEntropy())
    open_catalog(home.catalog).close()
    return home


@contextmanager
def opened(path: str | Path) -> Iterator[App]:
    """The home at `path`. Raises ConfigError when there is none, CatalogError."""
    from backups.catalog.open import open_catalog

    home = Home.at(Path(path))
    with closing(open_catalog(home.catalog)) as catalog:
        yield App(home, catalog, SystemClock(), SystemEntropy())


# --- taking backups -------------------------------------------------------------------


@contextmanager
def backup_ports(app: App, policy: Policy) -> Iterator[BackupPorts]:
    """What a backup under `policy` needs; no file that decrypts is opened."""
    from backups import keys
    from backups.engines.registry import open_engine
    from backups.format.age import Recipient
    from backups.locks import exclusive
    from backups.run.backup import BackupPorts
    from providers.access import Access
    from providers.registry import open_store

    access = Access("writer", policy.customer)
    store = open_store(policy.store_url, clock=app.clock, entropy=app.entropy, access=access)
    with closing(store):
        yield BackupPorts(
            catalog=app.catalog,
            clock=app.clock,
            entropy=app.entropy,
            engine=open_engine(policy.engine, app.clock, app.entropy),
            store=store,
            signing_key=keys.load_signing_key(app.home),
            recipients=(
                *map(Recipient.parse, policy.recipients),
                keys.load_restore_recipient(app.home),
            ),
            level=load_settings(app.home).zstd_level,
            exclusive=partial(exclusive, app.home.locks),
        )


def source_of(policy: Policy) -> Source:
    """Where a policy's database lives, its password resolved. Raises ConfigError."""
    from backups.fleet import resolve_password

    reference = policy.password_ref
    return Source(policy.source_url, resolve_password(reference) if reference else None)


# --- giving back ----------------------------------------------------------------------


@contextmanager
def reading_store(url: str) -> Iterator[ObjectStore]:
    """A store, to be read only."""
    from providers.access import Access
    from providers.registry import open_store

    access = Access("restorer")
    store = open_store(url, clock=SystemClock(), entropy=SystemEntropy(), access=access)
    with closing(store):
        yield store


def giving_back(
    app: App, entry: Backup
) -> AbstractContextManager[tuple[Manifest, RestorePorts]]:
    """A listed backup, and what giving it back needs: the restore agent's identity is read."""
    return recovery(
        entry.store_url,
        app.home.restore_identity,
        lambda store: manifest_of(app, store, entry),
    )


@contextmanager
def recovery(
    store_url: str, identity: Path, find: Callable[[ObjectStore], Manifest]
) -> Iterator[tuple[Manifest, RestorePorts]]:
    """The backup that `find` finds, and what giving it back needs: no home, no catalog."""
    from backups import keys
    from backups.engines.registry import open_engine
    from backups.run.restore import RestorePorts

    identities = keys.load_identities(identity)
    with reading_store(store_url) as store:
        manifest = find(store)
        clock, entropy = SystemClock(), SystemEntropy()
        engine = open_engine(manifest.engine, clock, entropy)
        yield manifest, RestorePorts(clock, engine, store, identities)


def choose(app: App, wanted: str, at: datetime | None) -> Backup:
    """The backup with that id, or the newest (at `at`) of the database with that id.

    Raises NotFound."""
    from backups.run.choose import newest

    entries = app.catalog.backups(wanted)
    if entries:
        return newest(entries, wanted, at)
    try:
        return app.catalog.backup(wanted)
    except NotFound:
        raise NotFound(
            f"there is no backup, and no database with backups, {wanted!r}"
        ) from None


def manifest_of(app: App, store: ObjectStore, entry: Backup) -> Manifest:
    """The signed manifest of a listed backup, from its store.

    Raises Damaged when it is another one than was listed."""
    from backups import keys
    from backups.run.reader import read_manifest

    trusted = keys.load_verify_keys(app.home)
    found = read_manifest(store, entry.database, entry.id, trusted)
    if found.sha256 != entry.manifest_sha256 or found.manifest.customer != entry.customer:
        raise Damaged(f"object {found.key} is not the manifest that the catalog lists")
    return found.manifest


@contextmanager
def operation(app: App, entry: Backup, target: str) -> Iterator[None]:
    """The durable record of a restore, brought to its end whatever happens."""
    from backups.run.backup import how_it_ended

    now = app.clock.now()
    record = Operation(
        id=uuid7(now, app.entropy.bytes(10)),
        customer=entry.customer,
        database=entry.database,
        backup=entry.id,
        target=target,
        state="running",
        started_at=now,
    )
    app.catalog.start_operation(record)
    try:
        yield
    except BaseException as error:
        state, words = how_it_ended(error)
        app.catalog.end_operation(record.id, state, app.clock.now(), words)
        raise
    app.catalog.end_operation(record.id, "done", app.clock.now(), None)
